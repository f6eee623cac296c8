//! Merges that do other things than to update and to insert all, and merges into tables with a change data feed.
//!
//! The source's files are here only what is joined with the table; what comes into it is written anew, and the source's files are discarded with the keys.

use std::sync::Arc;

use datafusion::prelude::SessionContext;
use deltalake_core::kernel::{Add, StructType};
use trireme_engine::{
    Code, Error, RawVersion, Result, TableName,
    delta::{
        ClauseMerge, Clauses, Committed, DataFiles, DeltaWriteExec, Table, WriteOutcome, WriteSpec,
        clauses::{History, Inserts, Matched, MatchedClause},
        commit,
        commit::{MergeCommit, MergeCounts},
        deletion_vector, feature,
        matching::Match,
        merge::{Touched, check_keys},
        schema,
        write::sort_partitions,
    },
};
use trireme_proto::v1::{MergeAction, MergeClause, NotMatchedBySource, TableSpec};

use super::{
    Worker,
    apply::{Application, Written, order_by, properties},
    report::metrics,
};
use crate::jobs::JobHandle;

/// What a spec says a merge does with rows; `version` gives a history its moments.
pub fn clauses_of(spec: &TableSpec, version: Option<&RawVersion>) -> Result<Clauses> {
    let name: TableName = spec.table.parse()?;
    let condition = |clause: &MergeClause| (!clause.condition.is_empty()).then(|| clause.condition.clone());
    let wrong = |key: &str, action: MergeAction| {
        Error::new(Code::InvalidSpec, format!("table {name}: {key} can't {}", action.as_str_name()))
            .hint("`when_matched` updates, deletes or ignores, `when_not_matched` inserts or ignores")
    };
    let usual = Clauses::default();
    let matched = spec.when_matched.iter().map(|clause| {
        let action = match clause.action() {
            MergeAction::Unspecified | MergeAction::Update => Matched::Update,
            MergeAction::Delete => Matched::Delete,
            MergeAction::Ignore => Matched::Ignore,
            action => return Err(wrong("when_matched", action)),
        };
        Ok(MatchedClause { action, condition: condition(clause) })
    });
    let matched = matched.collect::<Result<Vec<_>>>()?;
    let inserts = match &spec.when_not_matched {
        None => Inserts::All,
        Some(clause) => match (clause.action(), condition(clause)) {
            (MergeAction::Unspecified | MergeAction::Insert, None) => Inserts::All,
            (MergeAction::Unspecified | MergeAction::Insert, Some(condition)) => Inserts::If(condition),
            (MergeAction::Ignore, _) => Inserts::None,
            (action, _) => return Err(wrong("when_not_matched", action)),
        },
    };
    let at = match version {
        None => 0,
        Some(version) => match (version.moment(), &spec.history) {
            (Some(moment), _) => moment.timestamp_micros(),
            (None, None) => 0,
            (None, Some(_)) => {
                return Err(Error::new(Code::InvalidSpec, format!("raw version {version} is no moment")).hint(
                    "a history takes the moment of the version; name the folder by a date and time that there is",
                ));
            }
        },
    };
    // Without moments of their own, rows of one delivery can't follow each other: then the last of each key stays.
    let has_moments = spec.history.as_ref().is_some_and(|history| !history.valid_from.is_empty());
    let order = order_by(spec)?.filter(|_| has_moments);
    let order = order.map(|(column, greatest)| (column.to_string(), greatest));
    let history = spec.history.as_ref().map(|history| History {
        valid_from: (!history.valid_from.is_empty()).then(|| history.valid_from.clone()),
        at,
        order,
    });
    let clauses = Clauses {
        matched: if matched.is_empty() { usual.matched } else { matched },
        inserts,
        deletes_absent: spec.when_not_matched_by_source() == NotMatchedBySource::Delete,
        update: spec.update.clone(),
        history,
    };
    clauses.check(&name, &spec.primary_key)?;
    Ok(clauses)
}

/// Fails when a load's spec says what only a merge can do.
pub fn refuse_clauses(spec: &TableSpec) -> Result<()> {
    if digest_parts(spec).is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::InvalidSpec, format!("table {} is loaded, but its spec has clauses of a merge", spec.table))
        .hint("a load replaces all rows; merge instead, or leave when_…, update and history out"))
}

/// What decides, of a merge's clauses, which rows come into the table; empty for a spec without any.
pub fn digest_parts(spec: &TableSpec) -> Vec<String> {
    let clause = |key: &str, clause: &MergeClause| format!("{key} {} {}", clause.action, clause.condition);
    let matched = spec.when_matched.iter().map(|of| clause("when_matched", of));
    let not_matched = spec.when_not_matched.iter().map(|of| clause("when_not_matched", of));
    let absent = spec.when_not_matched_by_source;
    let absent = (absent != 0).then(|| format!("when_not_matched_by_source {absent}"));
    let update = spec.update.iter().map(|column| format!("update {column}"));
    let history = spec.history.iter().map(|history| format!("history {}", history.valid_from));
    matched.chain(not_matched).chain(absent).chain(update).chain(history).collect()
}

/// Fails for properties that a table can't be made with, or has otherwise.
pub fn check_properties(name: &TableName, spec: &TableSpec, table: Option<&Table>) -> Result<()> {
    let wanted = spec.properties.clone().into_iter().collect();
    feature::check_properties(name, &wanted)?;
    let Some(table) = table else { return Ok(()) };
    let other = |(key, value): &(&String, &String)| table.property(key).unwrap_or_default() != value.as_str();
    match wanted.iter().find(other) {
        None => Ok(()),
        Some((key, value)) => Err(Error::new(
            Code::InvalidSpec,
            format!(
                "table {name} has {}, and its spec says `{value}`",
                match table.property(key) {
                    Some(held) => format!("`{key}: {held}`"),
                    None => format!("no `{key}`"),
                }
            ),
        )
        .hint("properties are set when a table is made; say what it has, or leave them out")),
    }
}

/// What a merge by clauses wrote, none of it committed.
struct Joined {
    outcome: WriteOutcome,
    touched: Vec<Touched>,
    rewritten: Option<WriteOutcome>,
}

impl Joined {
    /// What the table does not get, whatever becomes of the rest.
    fn temporary(&self, on_read: bool) -> Vec<Add> {
        let vectors = if on_read { Vec::new() } else { self.vectors() };
        self.outcome.key_files.iter().cloned().chain(vectors).collect()
    }

    /// What it gets.
    fn lasting(&self) -> Vec<Add> {
        let rewritten = self.rewritten.iter().flat_map(|outcome| &outcome.files);
        let written = self.outcome.files.iter().chain(&self.outcome.change_files);
        written.chain(rewritten).cloned().chain(self.vectors()).collect()
    }

    fn vectors(&self) -> Vec<Add> {
        let stored = self.touched.iter().filter_map(|file| deletion_vector::stored_in(&file.retired.vector));
        let mut paths: Vec<_> = stored.collect();
        paths.sort();
        paths.dedup();
        paths.into_iter().map(|path| Add { path, ..Add::default() }).collect()
    }
}

impl Worker {
    /// Fails for clauses that can't be, before any work.
    pub(super) fn check_clauses(
        &self,
        application: &Application<'_>,
        clauses: &Clauses,
        table: Option<&Table>,
        incoming: &StructType,
        merged: &StructType,
    ) -> Result<()> {
        if clauses.is_upsert() {
            return Ok(());
        }
        let merge = self.clause_merge(application, clauses, table, incoming, merged)?;
        merge.check(&application.session.state())
    }

    fn clause_merge<'a>(
        &'a self,
        application: &'a Application<'_>,
        clauses: &'a Clauses,
        table: Option<&Table>,
        incoming: &StructType,
        merged: &StructType,
    ) -> Result<ClauseMerge<'a>> {
        Ok(ClauseMerge {
            storage: &self.storage,
            table: &application.name,
            clauses,
            keys: &application.spec.primary_key,
            incoming: schema::to_arrow(incoming)?,
            columns: schema::to_arrow(merged)?,
            changes: table.is_some_and(feature::feeds_changes),
        })
    }

    /// Makes the table out of the source's rows, as far as its clauses let them in.
    pub(super) async fn create_by_clauses(
        &self,
        application: &Application<'_>,
        written: &Written,
        clauses: &Clauses,
    ) -> Result<Committed> {
        let Application { name, spec, mode, label, job, .. } = application;
        self.check_duplicates(application, written).await?;
        let columns = clauses.complete(name, None, &written.incoming)?;
        let merge = self.clause_merge(application, clauses, None, &written.incoming, &columns)?;
        check_keys(name, &merge.columns, &spec.primary_key)?;
        let none = DataFiles::try_new(name, merge.columns.clone(), Vec::new(), Vec::new())?;
        let outcome = self.join(&merge, &columns, application, written, none, &[]).await?;
        let joined = Joined { outcome, touched: Vec::new(), rewritten: None };
        let landed = async {
            let rows = written.outcome.summary.rows_written;
            let counts = merge.check_counts(rows, &joined.outcome, &[], None)?;
            self.quarantine(application, written).await?;
            let files = joined.outcome.files.clone();
            let committed =
                commit::create(&self.storage, name, &columns, &properties(spec, *mode), files, label).await?;
            tell(job, counts, &joined, 0);
            Ok(committed)
        };
        let landed: Result<Committed> = landed.await;
        self.tidy_up(application, written, &joined, true, &landed).await;
        landed
    }

    /// Merges the source's rows into a table by clauses.
    pub(super) async fn merge_by_clauses(
        &self,
        application: &Application<'_>,
        table: &Table,
        written: &Written,
        clauses: &Clauses,
    ) -> Result<Committed> {
        let Application { name, spec, label, job, .. } = application;
        feature::check_writable(table, true)?;
        let incoming = clauses.complete(name, Some(&table.schema()), &written.incoming)?;
        let merged = schema::reconcile(name, &table.schema(), &incoming, written.policy)?;
        let merge = self.clause_merge(application, clauses, Some(table), &written.incoming, &merged)?;
        check_keys(name, &merge.columns, &spec.primary_key)?;
        self.check_duplicates(application, written).await?;
        let partitions = table.partition_columns().to_vec();
        let target = DataFiles::try_new(name, merge.columns.clone(), partitions, table.files()?.adds().to_vec())?;
        let candidates = match merge.joins_all() {
            true => (0..target.len()).collect(),
            false => target.overlapping(&written.files(application)?, &spec.primary_key)?,
        };
        let outcome = self.join(&merge, &merged, application, written, target.clone(), &candidates).await?;
        let on_read = feature::takes_deletion_vectors(table)?;
        let mut joined = Joined { outcome, touched: Vec::new(), rewritten: None };
        let landed = async {
            let keys = merge.key_files(&joined.outcome)?;
            let session = self.sessions.open(target.bytes())?;
            joined.touched = self.find(&merge, application, &session, &target, &keys).await?;
            if !on_read && joined.touched.iter().any(|file| file.retired.left > 0) {
                joined.rewritten = Some(self.rewrite(application, &session, &merged, &target, &joined.touched).await?);
            }
            let rows = written.outcome.summary.rows_written;
            let rewritten = joined.rewritten.as_ref().map(|outcome| &outcome.summary);
            let counts = merge.check_counts(rows, &joined.outcome, &joined.touched, rewritten)?;
            job.phase("commit");
            let removed = joined.touched.iter().filter(|file| !on_read || file.retired.left == 0).count();
            let commit = MergeCommit {
                schema: &merged,
                keys: &spec.primary_key,
                clauses,
                changes: joined.outcome.change_files.clone(),
                new: joined.outcome.files.clone(),
                kept: match (on_read, &joined.rewritten) {
                    (true, _) => joined.touched.iter().filter_map(Touched::updated).collect(),
                    (false, Some(rewritten)) => rewritten.files.clone(),
                    (false, None) => Vec::new(),
                },
                touched: joined.touched.iter().map(|file| file.add.clone()).collect(),
                counts,
            };
            self.quarantine(application, written).await?;
            let committed = commit::merge(table, commit, label).await?;
            tell(job, counts, &joined, removed);
            Ok(committed)
        };
        let landed: Result<Committed> = landed.await;
        self.tidy_up(application, written, &joined, on_read, &landed).await;
        landed
    }

    /// Joins the source with these files of the table, and writes what comes of it.
    async fn join(
        &self,
        merge: &ClauseMerge<'_>,
        merged: &StructType,
        application: &Application<'_>,
        written: &Written,
        target: DataFiles,
        candidates: &[usize],
    ) -> Result<WriteOutcome> {
        let source = written.files(application)?;
        let target = target.subset(candidates);
        let session = self.sessions.open_to_join(&[&source, &target])?;
        let rows = merge.plan(&session.state(), source, target)?;
        let mut write = WriteSpec::new(&self.storage, &application.name, merged, &application.spec.primary_key);
        write.settings = self.write_settings();
        write.actions = Some(merge.actions());
        let rows = session.state().create_physical_plan(&rows).await?;
        let rows = sort_partitions(rows, &application.spec.sort_by)?;
        let plan = Arc::new(DeltaWriteExec::try_new(rows, Arc::new(write))?);
        WriteOutcome::collect(&self.run_plan("join", &session, plan, application.job).await?)
    }

    /// The rows of the table that go: those with these keys, or all but those.
    async fn find(
        &self,
        merge: &ClauseMerge<'_>,
        application: &Application<'_>,
        session: &SessionContext,
        target: &DataFiles,
        source: &DataFiles,
    ) -> Result<Vec<Touched>> {
        let keys = merge.match_keys();
        let inverted = merge.actions().keys_that_stay;
        let candidates = match (inverted, source.is_empty()) {
            (true, _) => (0..target.len()).collect(),
            (false, true) => Vec::new(),
            (false, false) => target.overlapping(source, &keys)?,
        };
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let key_bytes = self.settings.merge_keys_memory;
        let (storage, table) = (&self.storage, &application.name);
        let search = Match { storage, table, target, source, keys: &keys, inverted, key_bytes };
        let found = self.look_up(search, &candidates, session, application.job).await?;
        let adds = target.adds();
        Ok(found.files.into_iter().map(|retired| Touched { add: adds[retired.candidate].clone(), retired }).collect())
    }

    /// Removes what the table did not get. The source's files are needed as long as the merge may be tried again.
    async fn tidy_up(
        &self,
        application: &Application<'_>,
        written: &Written,
        joined: &Joined,
        on_read: bool,
        landed: &Result<Committed>,
    ) {
        let mut unused = joined.temporary(on_read);
        match landed {
            Ok(committed) if committed.already_applied => unused.extend(joined.lasting()),
            Ok(_) => unused.extend(written.outcome.files.iter().cloned()),
            // It may have landed.
            Err(error) if error.code == Code::Storage => {}
            Err(_) => unused.extend(joined.lasting()),
        }
        self.discard_files(&application.name, &unused).await;
    }
}

fn tell(job: &JobHandle, counts: MergeCounts, joined: &Joined, removed: usize) {
    let rewritten = joined.rewritten.as_ref();
    let files = joined.outcome.files.len() + rewritten.map_or(0, |outcome| outcome.files.len());
    let bytes = joined.outcome.bytes() + rewritten.map_or(0, WriteOutcome::bytes);
    job.update(|job| {
        metrics(job, |metrics| {
            metrics.files_added = files as u64;
            metrics.files_removed = removed as u64;
            metrics.rows_inserted = counts.inserted;
            metrics.rows_updated = counts.updated;
            metrics.rows_deleted = counts.deleted;
            metrics.rows_ignored = counts.ignored;
            metrics.rows_copied = counts.copied;
            metrics.bytes_out += bytes;
        });
    });
}
