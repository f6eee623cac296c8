//! The part of a merge that depends on the table: replaced rows are found, their files rewritten without them, and all of it committed at once.

use std::sync::Arc;

use trireme_engine::{
    Result,
    delta::{
        Committed, DataFiles, DeltaWriteExec, Table, WriteOutcome, WriteSpec, commit,
        commit::MergeCommit,
        feature,
        merge::{
            check, check_keys, duplicate_count, duplicate_count_plan, duplicate_error, duplicate_examples_plan,
            matches_plan, rewrite_plan, touched_files,
        },
        schema,
    },
};

use super::{
    Worker,
    apply::{Application, Written},
    report::metrics,
};

impl Worker {
    /// Fails when a key occurs more than once among the source's rows.
    pub(super) async fn check_duplicates(&self, application: &Application<'_>, source: &DataFiles) -> Result<()> {
        let Application { name, spec, session, job, .. } = application;
        let keys = &spec.primary_key;
        check_keys(name, source.schema(), keys)?;
        let count = duplicate_count_plan(&self.storage, name, source, keys)?;
        let total = duplicate_count(&self.run_query("duplicates", session, &count, job).await?)?;
        if total == 0 {
            return Ok(());
        }
        let examples = duplicate_examples_plan(&self.storage, name, source, keys)?;
        let examples = self.run_query("duplicates", session, &examples, job).await?;
        Err(duplicate_error(name, keys, total, &examples)?)
    }

    pub(super) async fn merge(
        &self,
        application: &Application<'_>,
        table: &Table,
        written: &Written,
    ) -> Result<Committed> {
        let Application { name, spec, label, job, .. } = application;
        let keys = &spec.primary_key;
        // Before anything is read of it: its files may not be what a rewrite takes them for.
        feature::check_writable(table, true)?;
        let merged = schema::reconcile(name, &table.schema(), &written.incoming, written.policy)?;
        let columns = schema::to_arrow(&merged)?;
        let target = DataFiles::try_new(
            name,
            columns.clone(),
            table.partition_columns().to_vec(),
            table.files()?.adds().to_vec(),
        )?;
        let source = DataFiles::try_new(name, columns.clone(), Vec::new(), written.outcome.files.clone())?;
        check_keys(name, &columns, keys)?;
        let session = self.sessions.open(source.bytes() + target.bytes())?;

        let matches = matches_plan(&self.storage, name, &target, &source, keys)?;
        let touched = match &matches.plan {
            Some(plan) => touched_files(&matches, &self.run_query("match", &session, plan, job).await?)?,
            None => Vec::new(),
        };
        let rewritten = if touched.is_empty() {
            None
        } else {
            let rows = rewrite_plan(&self.storage, name, &columns, &touched, &source, keys)?;
            let mut write = WriteSpec::new(&self.storage, name, &merged, &[]);
            write.settings.target_file_bytes = self.settings.target_file_size;
            let rows = session.state().create_physical_plan(&rows).await?;
            let plan = Arc::new(DeltaWriteExec::try_new(rows, Arc::new(write))?);
            Some(WriteOutcome::collect(&self.run_plan("rewrite", &session, plan, job).await?)?)
        };
        let landed = async {
            let counts = check(&written.outcome.summary, &touched, rewritten.as_ref().map(|outcome| &outcome.summary))?;
            job.phase("commit");
            let rewritten = rewritten.as_ref().map(|outcome| outcome.files.clone()).unwrap_or_default();
            let bytes = rewritten.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum::<u64>();
            let (added, removed) = (written.outcome.files.len() + rewritten.len(), touched.len());
            let merge = MergeCommit {
                schema: &merged,
                keys,
                new: written.outcome.files.clone(),
                rewritten,
                touched: touched.iter().map(|file| file.add.clone()).collect(),
                counts,
            };
            self.quarantine(application, written).await?;
            let committed = commit::merge(table, merge, label).await?;
            job.update(|job| {
                metrics(job, |metrics| {
                    metrics.files_added = added as u64;
                    metrics.files_removed = removed as u64;
                    metrics.rows_inserted = counts.inserted;
                    metrics.rows_updated = counts.updated;
                    metrics.rows_copied = counts.copied;
                    metrics.bytes_out += bytes;
                });
            });
            Ok(committed)
        };
        let landed: Result<Committed> = landed.await;
        let unused = match &landed {
            Ok(committed) => committed.already_applied,
            Err(error) => error.code != trireme_engine::Code::Storage,
        };
        if let (true, Some(rewritten)) = (unused, &rewritten) {
            self.discard_files(name, &rewritten.files).await;
        }
        landed
    }
}
