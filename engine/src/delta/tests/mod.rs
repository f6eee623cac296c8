//! Tables on disk, driven as the scheduler drives them, with every plan sent over the wire before it runs.

mod clauses;
mod commits;
mod contents;
mod features;
mod golden;
mod histories;
mod matches;
mod medians;
mod optimize;
mod quarantine;
mod round_trips;
mod row_histories;
mod scans;
mod text_views;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    catalog::TableProvider,
    datasource::MemTable,
    logical_expr::LogicalPlan,
    physical_plan::{ExecutionPlan, collect},
    prelude::{SessionConfig, SessionContext},
};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use tempfile::TempDir;

use super::{
    Clauses, CommitLabel, Committed, DataFiles, SchemaPolicy, Table, WriteOutcome, WriteSettings, WriteSpec, catalog,
    commit::{self, MergeCommit, MergeCounts, OptimizeCommit},
    feature,
    matching::{Found, Match, Retired},
    merge::{self, Touched},
    optimize::{Limits, Plan, Rewritten, bloom_columns, rewritten},
    schema, write,
};
use crate::{
    Storage, TableName,
    error::{Error, Result},
    plan::TriremeCodec,
    sql,
};

/// A storage root of its own, and a session that plans over it.
pub(crate) struct Lake {
    _folder: TempDir,
    pub(crate) storage: Storage,
    pub(crate) session: SessionContext,
    pub(crate) settings: WriteSettings,
    /// Whether tables are made with deletion vectors.
    pub(crate) vectors: bool,
    /// Whether they are made with a change data feed.
    pub(crate) changes: bool,
    /// Memory for the keys of a merge, bytes.
    pub(crate) key_bytes: u64,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.storage)
    }
}

impl Lake {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path().to_str().unwrap()).unwrap();
        let config = SessionConfig::new()
            .with_target_partitions(3)
            .with_repartition_file_min_size(1)
            // A task of an executor has one partition, which nobody takes files from.
            .set_bool("datafusion.execution.enable_file_stream_work_stealing", false)
            .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
        Self {
            _folder: folder,
            storage,
            session: SessionContext::new_with_config(config),
            settings: WriteSettings::default(),
            vectors: false,
            changes: false,
            key_bytes: 1 << 20,
        }
    }

    /// Runs a plan after a trip through its protobuf form.
    pub(crate) async fn run(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
        let codec = TriremeCodec::default();
        let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec)?;
        let plan = physical_plan_from_bytes_with_extension_codec(&bytes, &self.session.task_ctx(), &codec)?;
        Ok(collect(plan, self.session.task_ctx()).await?)
    }

    pub(crate) async fn query(&self, plan: &LogicalPlan) -> Result<Vec<RecordBatch>> {
        self.run(self.session.state().create_physical_plan(plan).await?).await
    }

    pub(crate) async fn sql(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let plan = self.session.sql(sql).await?.into_unoptimized_plan();
        self.run(sql::physical_plan(&self.session.state(), &plan).await?).await
    }

    /// Properties of tables that are made.
    pub(crate) fn properties(&self) -> BTreeMap<String, String> {
        let on = [(self.vectors, feature::DELETION_VECTORS), (self.changes, feature::CHANGE_DATA_FEED)];
        on.iter().filter(|(on, _)| *on).map(|(_, key)| (key.to_string(), "true".to_string())).collect()
    }

    /// Writes each batch as an input partition of its own.
    pub(crate) async fn write(&self, spec: WriteSpec, batches: Vec<RecordBatch>) -> Result<WriteOutcome> {
        let schema = batches.first().unwrap().schema();
        let partitions = batches.into_iter().map(|batch| vec![batch]).collect();
        let rows = MemTable::try_new(schema, partitions)?.scan(&self.session.state(), None, &[], None).await?;
        let write = write::DeltaWriteExec::try_new(rows, Arc::new(spec))?;
        let rows = collect(
            Arc::new(datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec::new(Arc::new(write))),
            self.session.task_ctx(),
        )
        .await?;
        WriteOutcome::collect(&rows)
    }

    fn spec(&self, table: &TableName, schema: &deltalake_core::kernel::StructType, keys: &[String]) -> WriteSpec {
        WriteSpec { settings: self.settings.clone(), ..WriteSpec::new(&self.storage, table, schema, keys) }
    }

    pub(crate) async fn overwrite(
        &self,
        table: &TableName,
        batches: Vec<RecordBatch>,
        policy: SchemaPolicy,
        label: &CommitLabel,
    ) -> Result<Committed> {
        let incoming = schema::to_delta(&batches.first().unwrap().schema())?;
        match Table::open(&self.storage, table).await? {
            Some(base) => {
                let target = schema::reconcile(table, &base.schema(), &incoming, policy)?;
                let written = self.write(self.spec(table, &target, &[]), batches).await?;
                commit::overwrite(&base, &target, written.files, label).await
            }
            None => {
                let written = self.write(self.spec(table, &incoming, &[]), batches).await?;
                commit::create(&self.storage, table, &incoming, &self.properties(), written.files, label).await
            }
        }
    }

    /// The whole merge as the scheduler will drive it; gives the counts as well.
    pub(crate) async fn merge(
        &self,
        table: &TableName,
        batches: Vec<RecordBatch>,
        keys: &[&str],
        policy: SchemaPolicy,
        label: &CommitLabel,
    ) -> Result<(Committed, MergeCounts)> {
        let keys: Vec<String> = keys.iter().map(|key| key.to_string()).collect();
        let base = catalog::open(&self.storage, table).await?;
        let incoming = schema::to_delta(&batches.first().unwrap().schema())?;
        let target_schema = schema::reconcile(table, &base.schema(), &incoming, policy)?;
        let arrow = schema::to_arrow(&target_schema)?;
        merge::check_keys(table, &arrow, &keys)?;
        let written = self.write(self.spec(table, &target_schema, &keys), batches).await?;
        written.check_keys(table)?;
        let source = DataFiles::try_new(table, arrow.clone(), Vec::new(), written.files.clone())?;
        let target = DataFiles::try_new(table, arrow.clone(), Vec::new(), base.files()?.adds().to_vec())?;
        let search = Match {
            storage: &self.storage,
            table,
            target: &target,
            source: &source,
            keys: &keys,
            inverted: false,
            key_bytes: self.key_bytes,
        };
        let candidates = target.overlapping(&source, &keys)?;
        let Found { duplicates, files: found, .. } = search.found(&self.run(search.plan(&candidates, 2)?).await?)?;
        if duplicates > 0 {
            let plan = merge::duplicate_examples_plan(&self.storage, table, &source, &keys)?;
            return Err(merge::duplicate_error(table, &keys, duplicates, &self.query(&plan).await?)?);
        }
        let touched = touched(&target, found);
        let on_read = feature::takes_deletion_vectors(&base)?;
        let rewritten = self.rest_of(&touched, on_read, &arrow, self.spec(table, &target_schema, &[])).await?;
        let counts = merge::check(&written.summary, &touched, rewritten.as_ref().map(|outcome| &outcome.summary))?;
        let kept = match on_read {
            true => touched.iter().filter_map(Touched::updated).collect(),
            false => rewritten.map(|outcome| outcome.files).unwrap_or_default(),
        };
        let merge = MergeCommit {
            schema: &target_schema,
            keys: &keys,
            clauses: &Clauses::default(),
            changes: Vec::new(),
            new: written.files,
            kept,
            touched: touched.into_iter().map(|file| file.add).collect(),
            counts,
        };
        Ok((commit::merge(&base, merge, label).await?, counts))
    }

    /// Rewrites what a table's version has to be rewritten, without a commit.
    pub(crate) async fn rewrite(&self, table: &Table, limits: Limits) -> Result<Vec<Rewritten>> {
        let files = table.files()?;
        let plan = Plan::new(&files, limits);
        if plan.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.session.state();
        let rows = plan.scan(table, &files, &state).await?;
        let rows = write::sort_partitions(rows, &feature::sort_by(table))?;
        let mut spec = self.spec(table.name(), &table.schema(), &[]);
        spec.settings.bloom_columns = Some(bloom_columns(table, &files, &plan).await?);
        let write = write::DeltaWriteExec::try_new(rows, Arc::new(spec))?;
        let written = WriteOutcome::collect(&self.run(Arc::new(write)).await?)?;
        rewritten(&files, &plan, &written)
    }

    /// Commits what was rewritten of a version.
    pub(crate) async fn land(&self, table: &Table, parts: &[Rewritten], limits: Limits) -> Result<Committed> {
        let commit = OptimizeCommit {
            removed: parts.iter().flat_map(|part| part.removed.clone()).collect(),
            added: parts.iter().flat_map(|part| part.added.clone()).collect(),
            z_order: &[],
            limits,
            automatic: false,
        };
        commit::optimize(table, commit, &CommitLabel::default()).await
    }

    /// The touched files without the rows that go; none where vectors retire them, or nothing is left.
    pub(crate) async fn rest_of(
        &self,
        touched: &[Touched],
        on_read: bool,
        columns: &SchemaRef,
        spec: WriteSpec,
    ) -> Result<Option<WriteOutcome>> {
        if on_read || touched.iter().all(|file| file.retired.left == 0) {
            return Ok(None);
        }
        let plan = merge::rewrite_plan(&self.storage, &spec.table, columns, &[], touched)?;
        let plan = write::plan_write(&self.session.state(), &plan, spec).await?;
        Ok(Some(WriteOutcome::collect(&self.run(plan).await?)?))
    }

    /// All rows of the newest version as text, sorted.
    pub(crate) async fn rows(&self, table: &TableName) -> Vec<String> {
        catalog::register(&self.session, &self.storage, &BTreeSet::from([table.clone()])).await.unwrap();
        render(&self.sql(&format!("SELECT * FROM {table}")).await.unwrap())
    }
}

/// Files of the table with what goes of them.
pub(crate) fn touched(target: &DataFiles, found: Vec<Retired>) -> Vec<Touched> {
    let of = |retired: Retired| Touched { add: target.adds()[retired.candidate].clone(), retired };
    found.into_iter().map(of).collect()
}

/// Rows as text, sorted.
pub(crate) fn render(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    rows.sort();
    rows
}

pub(crate) fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

/// Message and hint of a failure.
pub(crate) fn text(error: &Error) -> String {
    format!("{} {}", error.message, error.hint)
}
