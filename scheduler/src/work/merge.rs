//! The part of a merge that depends on the table: replaced rows are found and retired, and all of it is committed at once.

use std::{collections::HashMap, sync::Arc};

use datafusion::prelude::SessionContext;
use deltalake_core::kernel::{Add, StructType};
use trireme_engine::{
    Code, Result,
    delta::{
        Committed, DataFiles, DeltaWriteExec, Table, WriteOutcome, WriteSpec, commit,
        commit::MergeCommit,
        deletion_vector, feature,
        matching::{Found, Match, Retired},
        merge::{Touched, check, check_keys, duplicate_error, duplicate_examples_plan, rewrite_plan},
        schema,
        write::sort_partitions,
    },
};

use super::{
    Worker,
    apply::{Application, Written},
    report::metrics,
};
use crate::jobs::JobHandle;

/// What a merge knows of the table's files; good for its next attempt too, where another writer left them as they were.
pub struct Searched {
    /// No key comes twice in the source.
    unique: bool,
    /// Rows that the source replaces, by file and its deletion vector; none where there are none.
    files: HashMap<String, Option<Retired>>,
}

impl Searched {
    /// Nothing is known of the table.
    pub fn new(unique: bool) -> Self {
        Self { unique, files: HashMap::new() }
    }

    /// Names a file as it is now.
    fn id(add: &Add) -> String {
        let vector = add.deletion_vector.as_ref();
        let vector = vector.map(|vector| format!("{}@{:?}", vector.path_or_inline_dv, vector.offset));
        format!("{}#{}", add.path, vector.unwrap_or_default())
    }

    /// Files that hold the vectors found, as far as they are not in the log itself.
    fn vector_files(&self) -> Vec<Add> {
        let mut paths: Vec<_> =
            self.files.values().flatten().filter_map(|file| deletion_vector::stored_in(&file.vector)).collect();
        paths.sort();
        paths.dedup();
        paths.into_iter().map(|path| Add { path, ..Add::default() }).collect()
    }
}

impl Worker {
    /// Fails when a key occurs more than once among the source's rows.
    pub(super) async fn check_duplicates(&self, application: &Application<'_>, written: &Written) -> Result<()> {
        if written.searched.lock().unique {
            return Ok(());
        }
        let source = written.files(application)?;
        let none = DataFiles::try_new(&application.name, source.schema().clone(), Vec::new(), Vec::new())?;
        self.search(application, written, &application.session, &none, &source).await?;
        Ok(())
    }

    /// The files of the table that have rows with keys of the source, each with these rows.
    async fn search(
        &self,
        application: &Application<'_>,
        written: &Written,
        session: &SessionContext,
        target: &DataFiles,
        source: &DataFiles,
    ) -> Result<Vec<Touched>> {
        let Application { name, spec, job, .. } = application;
        let keys = &spec.primary_key;
        check_keys(name, source.schema(), keys)?;
        let candidates = target.overlapping(source, keys)?;
        let adds = target.adds();
        let (unknown, unique) = {
            let searched = written.searched.lock();
            let is_known = |file: &usize| searched.files.contains_key(&Searched::id(&adds[*file]));
            (candidates.iter().copied().filter(|file| !is_known(file)).collect::<Vec<_>>(), searched.unique)
        };
        if !unknown.is_empty() || !unique {
            let key_bytes = self.settings.merge_keys_memory;
            let (storage, table, inverted) = (&self.storage, name, false);
            let search = Match { storage, table, target, source, keys, inverted, key_bytes };
            let Found { duplicates, groups_read, files: found } = self.look_up(search, &unknown, session, job).await?;
            tracing::debug!(table = %name, files = unknown.len(), groups_read, "searched for replaced rows");
            {
                let mut searched = written.searched.lock();
                searched.unique |= duplicates == 0;
                searched.files.extend(unknown.iter().map(|file| (Searched::id(&adds[*file]), None)));
                searched.files.extend(found.into_iter().map(|file| (Searched::id(&adds[file.candidate]), Some(file))));
            }
            if duplicates > 0 {
                let examples = duplicate_examples_plan(&self.storage, name, source, keys)?;
                let examples = self.run_query("duplicates", session, &examples, job).await?;
                return Err(duplicate_error(name, keys, duplicates, &examples)?);
            }
        }
        let searched = written.searched.lock();
        let touched = candidates.into_iter().filter_map(|file| {
            let add = adds[file].clone();
            let retired = searched.files.get(&Searched::id(&add))?.clone()?;
            Some(Touched { add, retired })
        });
        Ok(touched.collect())
    }

    /// Runs a search: in more turns where executors have no room for as many keys as they may take.
    pub(super) async fn look_up(
        &self,
        mut search: Match<'_>,
        candidates: &[usize],
        session: &SessionContext,
        job: &JobHandle,
    ) -> Result<Found> {
        loop {
            let plan = search.plan(candidates, session.state().config().target_partitions())?;
            match self.run_plan("match", session, plan, job).await {
                Ok(batches) => return search.found(&batches),
                Err(error) => {
                    let why = error.to_string();
                    search = search.in_more_turns(error)?;
                    tracing::warn!(table = %search.table, why, "keys are looked for in more turns");
                }
            }
        }
    }

    pub(super) async fn merge(
        &self,
        application: &Application<'_>,
        table: &Table,
        written: &Written,
    ) -> Result<Committed> {
        let Application { name, spec, label, job, clauses, .. } = application;
        if !clauses.is_upsert() || feature::feeds_changes(table) {
            return self.merge_by_clauses(application, table, written, clauses).await;
        }
        // Before anything is read of it: its files may not be what a merge takes them for.
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
        let session = self.sessions.open(source.bytes() + target.bytes())?;
        let touched = self.search(application, written, &session, &target, &source).await?;
        let on_read = feature::takes_deletion_vectors(table)?;
        let rewritten = if on_read || touched.iter().all(|file| file.retired.left == 0) {
            None
        } else {
            Some(self.rewrite(application, &session, &merged, &target, &touched).await?)
        };
        let landed = async {
            let counts = check(&written.outcome.summary, &touched, rewritten.as_ref().map(|outcome| &outcome.summary))?;
            job.phase("commit");
            let rewritten = rewritten.as_ref().map(|outcome| outcome.files.clone()).unwrap_or_default();
            let bytes = rewritten.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum::<u64>();
            let added = written.outcome.files.len() + rewritten.len();
            let removed = touched.iter().filter(|file| !on_read || file.retired.left == 0).count();
            let kept = match on_read {
                true => touched.iter().filter_map(Touched::updated).collect(),
                false => rewritten,
            };
            let merge = MergeCommit {
                schema: &merged,
                keys: &spec.primary_key,
                clauses,
                changes: Vec::new(),
                new: written.outcome.files.clone(),
                kept,
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
            if !on_read && !committed.already_applied {
                self.discard_vectors(application, written).await;
            }
            Ok(committed)
        };
        let landed: Result<Committed> = landed.await;
        let unused = match &landed {
            Ok(committed) => committed.already_applied,
            Err(error) => error.code != Code::Storage,
        };
        if let (true, Some(rewritten)) = (unused, &rewritten) {
            self.discard_files(name, &rewritten.files).await;
        }
        landed
    }

    /// Writes touched files again without the rows that go: copy-on-write.
    pub(super) async fn rewrite(
        &self,
        application: &Application<'_>,
        session: &SessionContext,
        merged: &StructType,
        target: &DataFiles,
        touched: &[Touched],
    ) -> Result<WriteOutcome> {
        let name = &application.name;
        let rows = rewrite_plan(&self.storage, name, target.schema(), target.partition_columns(), touched)?;
        let mut write = WriteSpec::new(&self.storage, name, merged, &application.spec.primary_key);
        write.settings = self.write_settings();
        let rows = session.state().create_physical_plan(&rows).await?;
        let rows = sort_partitions(rows, &application.spec.sort_by)?;
        let plan = Arc::new(DeltaWriteExec::try_new(rows, Arc::new(write))?);
        WriteOutcome::collect(&self.run_plan("rewrite", session, plan, application.job).await?)
    }

    /// Removes the vectors that no commit refers to.
    pub(super) async fn discard_vectors(&self, application: &Application<'_>, written: &Written) {
        let files = written.searched.lock().vector_files();
        self.discard_files(&application.name, &files).await;
    }
}
