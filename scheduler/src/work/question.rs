//! Questions: one SELECT, whose result replaces its table and is printed.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{array::RecordBatch, datatypes::Schema, ipc::writer::StreamWriter};
use datafusion::{datasource::provider_as_source, logical_expr::LogicalPlanBuilder};
use trireme_engine::{
    Code, Error, Result, TableName,
    delta::{
        CommitLabel, DataFiles, DeltaTableScan, DeltaWriteExec, JobCommits, Table, WriteOutcome, WriteSpec, catalog,
        commit, feature, nulls, schema, write::sort_partitions,
    },
    sql,
};
use trireme_proto::v1::{Outcome, Question};

use super::{Worker, failures::refuse_older, report::metrics};
use crate::jobs::JobHandle;

/// Rows of an answer that are kept with the job.
const ANSWER_ROWS: usize = 1000;
/// Times that a commit is tried again because another writer changed the table.
const ATTEMPTS: u32 = 8;

impl Worker {
    pub(super) async fn question(&self, question: &Question, job: &JobHandle) -> Result<()> {
        let started = std::time::Instant::now();
        let name: TableName = question.table.parse()?;
        if job.is_again()
            && let Some(table) = Table::open(&self.storage, &name).await?
        {
            let commits = JobCommits::of(&table, job.id().as_str(), job.id().moment()).await?;
            if let Some((version, _)) = commits.own.first() {
                return self.answered_before(&name, *version, job).await;
            }
            refuse_older(&name, &commits, job)?;
        }
        let statement = sql::parse_select(&question.sql, &question.sql_file)?;
        let reads = sql::tables_read(&statement)?;
        let (session, bytes_in) = self.session_over(&reads).await?;
        let plan = sql::plan_select(&session.state(), &statement).await?;
        let result = schema::to_delta(&sql::result_schema(&session.state(), &plan)?)?;
        let mut write = WriteSpec::new(&self.storage, &name, &result, &[]);
        let mut required = BTreeSet::new();
        if let Some(table) = Table::open(&self.storage, &name).await? {
            feature::check_writable(&table, true)?;
            let merged = schema::reconcile(&name, &table.schema(), &result, schema::SchemaPolicy::Replace)?;
            required = nulls::required(&merged);
            write = write.for_table(&merged);
        }
        write.settings = self.write_settings();
        let run = |pass| self.run_plan("median", &session, pass, job);
        let plan = self.with_medians(plan, &session, run).await?;
        let rows = sql::physical_plan(&session.state(), &plan).await?;
        let rows = sort_partitions(rows, &question.sort_by)?;
        let physical = Arc::new(DeltaWriteExec::try_new(rows, Arc::new(write))?);
        let written = WriteOutcome::collect(&self.run_plan("query", &session, physical, job).await?)?;

        // Read before the commit, while nobody can take the files away.
        let columns = schema::to_arrow(&result)?;
        let files = DataFiles::try_new(&name, columns.clone(), Vec::new(), written.files.clone())?;
        let answer = self.read_answer(&name, files).await?;
        let rows = written.summary.rows_written;
        let bytes_out = written.files.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum();

        job.phase("commit");
        let (job_id, execution) = (job.id().to_string(), started.elapsed());
        let label = CommitLabel { job_id, execution, sort_by: question.sort_by.clone(), ..CommitLabel::default() };
        let mut attempt = 1;
        let (committed, removed) = loop {
            let table = Table::open(&self.storage, &name).await?;
            if let Some(table) = &table {
                let merged = schema::reconcile(&name, &table.schema(), &result, schema::SchemaPolicy::Replace)?;
                if !nulls::required(&merged).is_subset(&required) {
                    self.discard_files(&name, &written.files).await;
                    return Err(Error::new(
                        Code::SchemaMismatch,
                        format!("columns of table {name} became NOT NULL while this question ran"),
                    )
                    .hint("run it again; nothing of it is in the table"));
                }
            }
            let removed = match &table {
                Some(table) => table.files()?.len(),
                None => 0,
            };
            let committed = match table {
                None => {
                    let (none, files) = (Default::default(), written.files.clone());
                    commit::create(&self.storage, &name, &result, &none, files, &label).await
                }
                Some(table) => {
                    let result = schema::reconcile(&name, &table.schema(), &result, schema::SchemaPolicy::Replace)?;
                    commit::overwrite(&table, &result, written.files.clone(), &label).await
                }
            };
            match committed {
                Ok(committed) => break (committed, removed),
                Err(error) if error.code == Code::Conflict && attempt < ATTEMPTS => attempt += 1,
                Err(error) => {
                    if error.code != Code::Storage {
                        self.discard_files(&name, &written.files).await;
                    }
                    return Err(error);
                }
            }
        };
        let answer = encode(&columns, &answer)?;
        job.update(|job| {
            job.outcome = Outcome::Applied.into();
            job.delta_version = committed.version as i64;
            job.answer = answer;
            job.answer_rows = rows;
            metrics(job, |metrics| {
                metrics.rows_in = rows;
                metrics.rows_inserted = rows;
                metrics.bytes_in = bytes_in;
                metrics.bytes_out = bytes_out;
                metrics.files_added = written.files.len() as u64;
                metrics.files_removed = removed as u64;
            });
        });
        commit::checkpoint_when_due(&self.storage, &name, committed.version).await;
        Ok(())
    }

    /// The answer of a question that an earlier scheduler committed, but could not write down.
    async fn answered_before(&self, name: &TableName, version: u64, job: &JobHandle) -> Result<()> {
        let table = Table::open_at(&self.storage, name, Some(version)).await?;
        let table =
            table.ok_or_else(|| Error::new(Code::Internal, format!("version {version} of table {name} is gone")))?;
        let rows = catalog::describe(&table)?.rows.unwrap_or_default();
        let answer = encode(table.arrow_schema()?.as_ref(), &self.read_answer(name, table.files()?).await?)?;
        job.update(|job| {
            job.outcome = Outcome::Applied.into();
            job.delta_version = version as i64;
            job.answer = answer;
            job.answer_rows = rows;
            metrics(job, |metrics| metrics.rows_inserted = rows);
        });
        Ok(())
    }

    /// A session that knows these tables, all as they are now, and the bytes of their files.
    pub(super) async fn session_over(
        &self,
        reads: &BTreeSet<TableName>,
    ) -> Result<(datafusion::prelude::SessionContext, u64)> {
        let mut bytes = 0;
        for name in reads {
            bytes += catalog::open(&self.storage, name).await?.files()?.bytes();
        }
        let session = self.sessions.open(bytes)?;
        catalog::register(&session, &self.storage, reads).await?;
        Ok((session, bytes))
    }

    /// The first rows of files just written, in their order.
    async fn read_answer(&self, name: &TableName, files: DataFiles) -> Result<Vec<RecordBatch>> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let session = self.sessions.local()?;
        let scan = Arc::new(DeltaTableScan::from_files(&self.storage, name, files)?);
        let plan = LogicalPlanBuilder::scan("answer", provider_as_source(scan), None)?.limit(0, Some(ANSWER_ROWS))?;
        Ok(session.execute_logical_plan(plan.build()?).await?.collect().await?)
    }
}

fn encode(schema: &Schema, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut stream = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        stream.write(batch)?;
    }
    stream.finish()?;
    stream.into_inner().map_err(|error| Error::new(Code::Internal, error.to_string()))
}
