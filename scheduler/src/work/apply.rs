//! Loads and merges: raw → expressions → data files → one commit.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Instant,
};

use datafusion::{
    datasource::provider_as_source,
    functions_window::expr_fn::row_number,
    logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ident, lit},
    prelude::SessionContext,
};
use deltalake_core::kernel::{Add, StructType};
use object_store::ObjectStoreExt;
use parking_lot::Mutex;
use trireme_engine::{
    Code, Error, RawVersion, Result, SourceName, TableName,
    delta::{
        Clauses, CommitLabel, Committed, Content, DataFiles, Delivery, DeltaWriteExec, JobCommits, SchemaPolicy, Table,
        WriteOutcome, WriteSpec, commit, feature, nulls, quarantine, schema,
        write::{KEEP_COLUMN, LATEST_COLUMN, REASON_COLUMN, is_hidden, sort_partitions},
    },
    names::OURS,
    raw::{Manifest, RawTable, Tells, infer_plan, inferred_schema, known_columns, tells_columns},
    sql,
    storage::in_folder,
};
use trireme_proto::v1::{OnBadRecord, Outcome, SchemaEvolution, TableSpec};

use super::{
    Worker,
    clauses::{self, check_properties, clauses_of},
    download::options_of,
    failures::{Failures, is_of_delivery, refuse_older, skipped},
    merge::Searched,
    quality::{self, Columns, Counted, told_rows},
    report::{metrics, sum},
    source_of,
    versions::Wanted,
};
use crate::jobs::JobHandle;

/// Times that a job is planned again because another writer changed its table, or because its counts did not add up.
const ATTEMPTS: u32 = 8;

/// How rows come into a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They replace all rows.
    Load,
    /// They replace the rows that have their key, and are added otherwise.
    Merge,
}

/// A load or merge under way.
pub struct Application<'a> {
    pub spec: &'a TableSpec,
    pub mode: Mode,
    pub name: TableName,
    pub manifest: Manifest,
    pub label: CommitLabel,
    pub session: SessionContext,
    pub job: &'a JobHandle,
    /// What a merge does with the rows.
    pub clauses: Clauses,
}

impl Application<'_> {
    /// The version that is applied: its place in the order, which may not be what is read there.
    pub fn version(&self) -> &RawVersion {
        self.label.delivery.as_ref().map_or(&self.manifest.version, |delivery| &delivery.version)
    }

    /// Whether the delivery has no record.
    fn is_empty(&self) -> bool {
        self.manifest.records() == Some(0)
    }
}

impl Worker {
    pub(super) async fn apply(&self, spec: &TableSpec, mode: Mode, job: &JobHandle) -> Result<()> {
        let name: TableName = spec.table.parse()?;
        let source: SourceName = source_of(spec)?.source.parse()?;
        let mut table = Table::open(&self.storage, &name).await?;
        let content = match &table {
            Some(table) => Content::of(table).await?,
            None => Content::default(),
        };
        let own = self.done_before(table.as_ref(), job).await?;
        if mode == Mode::Load
            && let Some((version, _)) = own.own.first()
        {
            // All of it was done, but that could not be written down.
            let version = *version as i64;
            job.update(|job| {
                job.outcome = Outcome::Applied.into();
                job.delta_version = version;
            });
            return Ok(());
        }
        let mut plan =
            self.versions(spec, table.as_ref().map(|table| (table, &content)), mode == Mode::Merge, &own, job).await?;
        if mode == Mode::Load {
            refuse_older(&name, &own, job)?;
            if plan.wanted.len() > 1 {
                return Err(Error::new(
                    Code::InvalidSpec,
                    format!("table {} can be loaded from one version only", spec.table),
                )
                .hint("a load replaces all rows; `trireme merge` applies several versions"));
            }
        }
        // A job that is run again after a crash tells what it does now: what it had told may have been half of it.
        job.update(|job| {
            (job.quarantine, job.checks, job.schema) = (None, Vec::new(), None);
            job.raw_versions.clear();
            job.skipped = plan.left_out.iter().map(|(version, why)| skipped(version, why)).collect();
        });
        let wanted = std::mem::take(&mut plan.wanted);
        if let (true, Some(table)) = (wanted.is_empty(), &table) {
            already_applied(job, table.version());
        }
        // Of several versions the counts are added up, and those before one that fails stay.
        let (mut counts, mut failures, count) = (None, Failures::default(), wanted.len());
        let mut goes_back = !own.own.is_empty();
        for (at, wanted) in wanted.into_iter().enumerate() {
            if wanted.follows && !goes_back {
                continue;
            }
            let version = wanted.version.clone();
            if own.own.iter().any(|(_, merged)| merged.as_ref() == Some(&version)) {
                plan.is_done(&version, true);
                continue;
            }
            job.update(|job| {
                job.raw_version = version.to_string();
                job.metrics = None;
            });
            let delivery = plan.delivery(&source, &version);
            let applied = self.apply_version(spec, mode, table.take(), wanted, delivery, job).await;
            job.update(|job| {
                counts = sum(counts, job.metrics);
                job.metrics = counts;
                if !job.raw_versions.is_empty() {
                    job.outcome = Outcome::Applied.into();
                }
            });
            match applied {
                Ok(landed) => {
                    plan.is_done(&version, landed);
                    goes_back |= landed;
                    failures.passed_by(&version);
                }
                Err(error) => {
                    plan.has_failed(&version);
                    let goes_on = mode == Mode::Merge && spec.history.is_none() && is_of_delivery(error.code);
                    failures.push(version, at + 1, error);
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        failures.into_result(spec, count)
    }

    /// What a job that an earlier scheduler may have begun has done already.
    async fn done_before(&self, table: Option<&Table>, job: &JobHandle) -> Result<JobCommits> {
        match table {
            Some(table) if job.is_again() => JobCommits::of(table, job.id().as_str(), job.id().moment()).await,
            _ => Ok(JobCommits::default()),
        }
    }

    /// Applies one version in one commit, unless it was applied before; whether it was committed.
    async fn apply_version(
        &self,
        spec: &TableSpec,
        mode: Mode,
        table: Option<Table>,
        wanted: Wanted,
        delivery: Delivery,
        job: &JobHandle,
    ) -> Result<bool> {
        let started = Instant::now();
        let name: TableName = spec.table.parse()?;
        let source = delivery.source.clone();
        let mut digest = digest(spec, mode);
        let instead = wanted.read != wanted.version;
        if instead {
            digest = format!("{digest} by {}", wanted.read);
        }
        let delivery = Delivery { digest, replaces: mode == Mode::Load, force: spec.force, instead, ..delivery };
        let table = match table {
            Some(table) => Some(table),
            None => Table::open(&self.storage, &name).await?,
        };
        let mut seen = None;
        if let Some(table) = &table {
            let content = Content::of(table).await?;
            if !spec.force && delivery.is_applied(table, &content).await? {
                already_applied(job, table.version());
                return Ok(false);
            }
            seen = Some(content);
        }
        let manifest = match wanted.manifest {
            Some(manifest) => manifest,
            None => self.manifest(&source, Some(&wanted.read), source_of(spec)?, job).await?,
        };
        let given = options_of(source_of(spec)?.text.as_ref());
        given.check_format(manifest.format, &format!("{}@{}", manifest.source, manifest.version))?;
        let options = given.over(&manifest.options)?;
        let manifest = manifest.read_with(options)?;
        let sort_by = spec.sort_by.clone();
        let (job_id, delivery) = (job.id().to_string(), Some(delivery));
        let label = CommitLabel { job_id, delivery, seen, sort_by, ..CommitLabel::default() };
        let session = self.sessions.open(manifest.text_bytes())?;
        let clauses = clauses_of(spec, Some(&wanted.version))?;
        let mut application = Application { spec, mode, name, manifest, label, session, job, clauses };
        let written = match self.write_source(&application).await {
            Ok(written) => written,
            Err(error) if application.is_empty() && is_of_delivery(error.code) => {
                return self.apply_nothing(&mut application, table, error, started).await;
            }
            Err(error) => return Err(error),
        };
        let mut attempt = 1;
        loop {
            application.label.execution = started.elapsed();
            let landed = self.land(&application, &written).await;
            match landed {
                Ok(committed) if committed.already_applied => {
                    self.discard(&application, &written).await;
                    already_applied(job, committed.version);
                    return Ok(false);
                }
                Ok(committed) => {
                    self.has_landed(&application, committed).await;
                    return Ok(true);
                }
                // The files with the source's rows are good whatever the table is by now: only what depends on the table is done again.
                Err(error) if matches!(error.code, Code::Conflict | Code::WorkLost) && attempt < ATTEMPTS => {
                    tracing::warn!(table = %application.name, attempt, %error, "planned again");
                    job.update(|job| metrics(job, |metrics| metrics.retries += 1));
                    attempt += 1;
                }
                Err(error) => {
                    // An undecided commit may have landed: its files must stay. Vacuum removes them otherwise.
                    if error.code != Code::Storage {
                        self.discard(&application, &written).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn has_landed(&self, application: &Application<'_>, committed: Committed) {
        let Application { name, job, .. } = application;
        job.update(|job| {
            job.outcome = Outcome::Applied.into();
            job.delta_version = committed.version as i64;
            job.raw_versions.push(application.version().to_string());
        });
        commit::checkpoint_when_due(&self.storage, name, committed.version).await;
    }

    /// Applies a delivery without a record, whose columns nobody knows: the table stays what it is, or is emptied by a load. Without a table there is
    /// nothing to be done; a delivery with a record will make it.
    async fn apply_nothing(
        &self,
        application: &mut Application<'_>,
        table: Option<Table>,
        why: Error,
        started: Instant,
    ) -> Result<bool> {
        let (mode, job) = (application.mode, application.job);
        if application.clauses.deletes_absent {
            return Err(Error::new(
                why.code,
                format!("{}@{} has no record, and not even columns", application.manifest.source, application.version()),
            )
            .hint("`when_not_matched_by_source: delete` would delete every row of the table; give the source a `schema:` if that is meant"));
        }
        tracing::info!(table = %application.name, version = %application.version(), %why, "a delivery has no record");
        let mut table = match table {
            Some(table) => table,
            None => {
                job.update(|job| job.outcome = Outcome::NothingDelivered.into());
                return Ok(false);
            }
        };
        let mut attempt = 1;
        let committed = loop {
            job.phase("commit");
            application.label.execution = started.elapsed();
            let removed = if mode == Mode::Load { table.files()?.len() } else { 0 };
            let committed = match mode {
                Mode::Load => commit::overwrite(&table, &table.schema(), Vec::new(), &application.label).await,
                Mode::Merge => commit::nothing(&table, &application.label).await,
            };
            match committed {
                Ok(committed) if !committed.already_applied => {
                    count(job, 0, removed as u64, 0);
                    break committed;
                }
                Ok(committed) => {
                    already_applied(job, committed.version);
                    return Ok(false);
                }
                Err(error) if error.code == Code::Conflict && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
            table = table.reload().await?;
        };
        self.has_landed(application, committed).await;
        Ok(true)
    }

    /// Raw → expressions → uncommitted files, with the checks that need no other table.
    async fn write_source(&self, application: &Application<'_>) -> Result<Written> {
        let Application { spec, name, manifest, session, job, clauses, .. } = application;
        let (rows, counted) = self.source_rows(application).await?;
        let mut columns = sql::result_schema(&session.state(), &rows)?;
        columns.fields = columns.fields.iter().filter(|field| !is_hidden(field.name())).cloned().collect();
        let mut incoming = schema::to_delta(&columns)?;
        let policy = match SchemaEvolution::try_from(spec.schema_evolution).unwrap_or_default() {
            SchemaEvolution::Unspecified => SchemaPolicy::Same,
            SchemaEvolution::AddColumns => SchemaPolicy::AddColumns,
        };
        // A schema that can't be is refused before the work; the commit looks again at the table as it is then.
        let table = Table::open(&self.storage, name).await?;
        check_properties(name, spec, table.as_ref())?;
        if let Some(table) = &table {
            feature::check_writable(table, true)?;
            incoming = schema::with_zones_of(&table.schema(), &incoming)?;
        }
        let completed = clauses.complete(name, table.as_ref().map(|table| table.schema()).as_deref(), &incoming)?;
        let merged = match &table {
            Some(table) => schema::reconcile(name, &table.schema(), &completed, policy)?,
            None => completed,
        };
        self.check_clauses(application, clauses, table.as_ref(), &incoming, &merged)?;
        let mut write = WriteSpec::new(&self.storage, name, &incoming, &spec.primary_key);
        // Of a merge by clauses it is told later which rows come into the table.
        if clauses.is_upsert() {
            write = write.for_table(&merged);
        }
        let required = nulls::required(&merged);
        write.settings = self.write_settings();
        write.checks = counted.len();
        write.bad_rows = self.bad_rows(application)?;
        let physical = session.state().create_physical_plan(&rows).await?;
        let physical = sort_partitions(physical, &spec.sort_by)?;
        let physical = Arc::new(DeltaWriteExec::try_new(physical, Arc::new(write))?);
        let batches = self.run_plan("write", session, physical, job).await?;
        let outcome = WriteOutcome::collect(&batches)?;
        let summary = &outcome.summary;
        let records = manifest.records();
        // Rows that a filter took before one of each key was chosen were not counted.
        let filtered = filters_first(spec, manifest, &counted);
        // Text that is no record may be more or less of them than the download counted.
        let malformed = summary.reasons.keys().any(|kind| kind == "malformed");
        // Nothing between the raw records and the writer drops or doubles a row, unless that filter does.
        if let Some(records) = records
            && !malformed
            && (if filtered { summary.rows_in > records } else { summary.rows_in != records })
        {
            self.discard_files(name, &outcome.files).await;
            return Err(Error::new(
                Code::Internal,
                format!(
                    "{}@{} has {records} records, but {} came to the writers",
                    manifest.source, manifest.version, summary.rows_in
                ),
            ));
        }
        let rows_in = if filtered { records.unwrap_or(summary.rows_in) } else { summary.rows_in };
        let bytes_out: u64 = outcome.files.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum();
        job.update(|job| {
            metrics(job, |metrics| {
                metrics.rows_in = rows_in;
                metrics.rows_dropped = summary.rows_dropped + (rows_in - summary.rows_in);
                metrics.rows_superseded = summary.rows_superseded;
                metrics.rows_quarantined = summary.rows_quarantined;
                metrics.bytes_in = manifest.read_bytes();
                metrics.bytes_out = bytes_out;
            });
        });
        let quality = self.check_quality(application, &outcome, &counted);
        let bad = Mutex::new(outcome.bad_files.clone());
        // Of several rows with one key `order_by` has left one; without a key there is nothing to be unique.
        let unique = spec.primary_key.is_empty() || order_by(spec)?.is_some();
        let searched = Mutex::new(Searched::new(unique));
        let written = Written { outcome, incoming, policy, required, bad, searched };
        let checked = match quality {
            Ok(()) => written.outcome.check_keys(name),
            Err(error) => Err(error),
        };
        if checked.is_err() {
            self.discard(application, &written).await;
        }
        checked.map(|()| written)
    }

    /// The rows to be written, with the columns that tell what becomes of each; and what is counted of them.
    async fn source_rows(&self, application: &Application<'_>) -> Result<(LogicalPlan, Vec<Counted>)> {
        let Application { spec, manifest, session, job, .. } = application;
        let reference = source_of(spec)?;
        let declared = match reference.schema.as_str() {
            "" => None,
            ddl => Some(sql::parse_schema(ddl)?),
        };
        // An empty snapshot that says nothing of itself is no reason to delete all that the table has.
        if application.clauses.deletes_absent
            && application.is_empty()
            && !tells_columns(&self.zone, manifest, declared.as_ref()).await?
        {
            return Err(Error::new(Code::EmptySource, "it has no record"));
        }
        let schema = match known_columns(&self.zone, manifest, declared.as_ref()).await? {
            Some(schema) => schema,
            None => {
                let lenient = spec.on_bad_record() == OnBadRecord::Quarantine;
                let plan = infer_plan(&self.zone, manifest, session.state().config().target_partitions(), lenient)?;
                let inferred = inferred_schema(&self.run_plan("infer", session, plan, job).await?)?;
                self.zone.keep_schema(&manifest.source, &manifest.version, &inferred).await?;
                known_columns(&self.zone, manifest, None).await?.ok_or_else(|| {
                    Error::new(Code::Internal, format!("the schema of {} was not kept", manifest.source))
                })?
            }
        };
        self.tell_schema(job, manifest, declared.as_ref()).await;
        let planned = Columns::plan(&session.state(), &schema, spec)?;
        check_key_names(spec, &planned.columns)?;
        let tells = planned.tells(spec);
        let raw =
            RawTable::new(self.zone.clone(), manifest.clone(), schema).declared(declared.is_some()).telling(tells);
        let mut scan = LogicalPlanBuilder::scan("raw", provider_as_source(Arc::new(raw)), None)?;
        let (rows, counted) = if tells == Tells::Nothing {
            let mut keep = planned.filter.map(Expr::is_true);
            if filters_first(spec, manifest, &[])
                && let Some(keep) = keep.take()
            {
                scan = scan.filter(keep)?;
            }
            (scan.project(planned.columns.into_iter().chain(keep.map(|keep| keep.alias(KEEP_COLUMN))))?, Vec::new())
        } else {
            told_rows(&session.state(), spec, manifest.format, scan, planned)?
        };
        let Some((column, greatest)) = order_by(spec)? else { return Ok((rows.build()?, counted)) };
        let schema = rows.schema().clone();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        if !names.iter().any(|name| *name == column && !is_hidden(name)) {
            let names: Vec<&str> = names.into_iter().filter(|name| !is_hidden(name)).collect();
            return Err(Error::new(
                Code::InvalidSpec,
                format!("latest_by, earliest_by: table {} has no column `{column}`", spec.table),
            )
            .hint(format!("it has: {}", names.join(", "))));
        }
        // A history whose rows have moments keeps all of them.
        if spec.history.as_ref().is_some_and(|history| !history.valid_from.is_empty()) {
            return Ok((rows.build()?, counted));
        }
        // Rows that are not to be written must not keep others out.
        let has = |name: &str| names.contains(&name);
        let competes = match (has(REASON_COLUMN), has(KEEP_COLUMN)) {
            (true, _) => Some(quality::competes()),
            (false, true) => Some(ident(KEEP_COLUMN)),
            (false, false) => None,
        };
        // A null never wins against a value.
        let rank = row_number()
            .partition_by(spec.primary_key.iter().map(ident).chain(competes).collect())
            .order_by(vec![ident(column).sort(!greatest, false)])
            .build()?;
        let names: Vec<Expr> = names.iter().map(|name| ident(*name)).collect();
        let number = format!("{OURS}rank");
        let ranked = rows.window(vec![rank.alias(&number)])?;
        let latest = ident(number).eq(lit(1_u64)).alias(LATEST_COLUMN);
        Ok((ranked.project(names.into_iter().chain([latest]))?.build()?, counted))
    }

    async fn land(&self, application: &Application<'_>, written: &Written) -> Result<Committed> {
        let Application { name, mode, label, job, .. } = application;
        job.phase("commit");
        let table = Table::open(&self.storage, name).await?;
        if let Some(table) = &table
            && !nulls::required(&table.schema()).is_subset(&written.required)
        {
            return Err(Error::new(
                Code::SchemaMismatch,
                format!("columns of table {name} became NOT NULL while this job ran"),
            )
            .hint("run the job again; nothing of it is in the table"));
        }
        let rows = written.outcome.summary.rows_written;
        let files = written.outcome.files.clone();
        let committed = match (table, mode) {
            (None, Mode::Merge) if !application.clauses.starts_with_all() => {
                self.create_by_clauses(application, written, &application.clauses).await?
            }
            (None, _) => {
                let added = files.len() as u64;
                self.check_duplicates(application, written).await?;
                self.quarantine(application, written).await?;
                let properties = properties(application.spec, *mode);
                let committed =
                    commit::create(&self.storage, name, &written.incoming, &properties, files, label).await?;
                count(job, added, 0, rows);
                committed
            }
            (Some(table), Mode::Load) => {
                let schema = schema::reconcile(name, &table.schema(), &written.incoming, written.policy)?;
                let (added, removed) = (files.len() as u64, table.files()?.len() as u64);
                self.check_duplicates(application, written).await?;
                self.quarantine(application, written).await?;
                let committed = commit::overwrite(&table, &schema, files, label).await?;
                count(job, added, removed, rows);
                committed
            }
            (Some(table), Mode::Merge) => self.merge(application, &table, written).await?,
        };
        Ok(committed)
    }

    /// Removes files that no commit refers to. What is left behind does no harm: nobody reads it, and vacuum takes it.
    pub(super) async fn discard(&self, application: &Application<'_>, written: &Written) {
        self.discard_files(&application.name, &written.outcome.files).await;
        self.discard_vectors(application, written).await;
        // Those that were not handed over to a commit.
        let bad = std::mem::take(&mut *written.bad.lock());
        if let (false, Ok(quarantine)) = (bad.is_empty(), quarantine::table_of(&application.name)) {
            self.discard_files(&quarantine, &bad).await;
        }
    }

    pub(super) async fn discard_files(&self, name: &TableName, files: &[Add]) {
        let folder = self.storage.table_path(name);
        for add in files {
            // The name of a file of ours has no folder in it.
            let file = in_folder(&folder, &add.path);
            if let Err(error) = self.storage.store().delete(&file).await {
                tracing::debug!(%file, %error, "an uncommitted file was left behind");
            }
        }
    }
}

/// The source's rows as uncommitted files.
pub struct Written {
    pub outcome: WriteOutcome,
    pub incoming: StructType,
    pub policy: SchemaPolicy,
    /// What must have a value was checked for these columns.
    pub required: BTreeSet<String>,
    /// Files of bad records, until they are handed over to the quarantine's commit.
    pub bad: Mutex<Vec<Add>>,
    /// What is known of the table's rows.
    pub searched: Mutex<Searched>,
}

impl Written {
    pub fn files(&self, application: &Application<'_>) -> Result<DataFiles> {
        DataFiles::try_new(&application.name, schema::to_arrow(&self.incoming)?, Vec::new(), self.outcome.files.clone())
    }
}

/// Properties of a table that a job makes: its spec's, and deletion vectors where it says nothing of them, since what is merged into it will be
/// merged into again.
pub fn properties(spec: &TableSpec, mode: Mode) -> BTreeMap<String, String> {
    let usual = (mode == Mode::Merge).then(|| (feature::DELETION_VECTORS.to_string(), "true".to_string()));
    usual.into_iter().chain(spec.properties.clone()).collect()
}

fn count(job: &JobHandle, added: u64, removed: u64, rows: u64) {
    job.update(|job| {
        metrics(job, |metrics| {
            metrics.files_added = added;
            metrics.files_removed = removed;
            metrics.rows_inserted = rows;
        });
    });
}

fn already_applied(job: &JobHandle, version: u64) {
    job.update(|job| {
        job.outcome = Outcome::AlreadyApplied.into();
        job.delta_version = version as i64;
        // Of this run nothing is in the table.
        job.metrics = None;
    });
}

/// What makes two runs the same work, beside mode and raw version: everything in the spec that decides about rows.
fn digest(spec: &TableSpec, mode: Mode) -> String {
    use sha2::{Digest, Sha256};
    let reference = spec.source.clone().unwrap_or_default();
    // As earlier builds spelled it.
    let order = match spec.earliest_by.is_empty() {
        true => spec.order_by.clone(),
        false => format!("{} DESC", spec.earliest_by),
    };
    let mut parts = vec![
        spec.columns.join("\u{1f}"),
        spec.primary_key.join("\u{1f}"),
        spec.r#where.clone(),
        order,
        reference.schema,
    ];
    parts.extend(options_of(reference.text.as_ref()).told());
    parts.extend(quality::digest_parts(spec));
    parts.extend(clauses::digest_parts(spec));
    // It changes no row, so a merge that has it does not apply again what was applied without it; a load that has it is there to sort.
    if mode == Mode::Load && !spec.sort_by.is_empty() {
        parts.push(format!("sort_by:{}", spec.sort_by.join("\u{1f}")));
    }
    let digest = Sha256::digest(parts.join("\u{1e}"));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the filter works before the latest row of each key is chosen. Where rows are to be counted one by one it must not.
fn filters_first(spec: &TableSpec, manifest: &Manifest, counted: &[Counted]) -> bool {
    let plain = spec.on_bad_record() == OnBadRecord::Unspecified && spec.expect.is_empty() && counted.is_empty();
    !(spec.order_by.is_empty() && spec.earliest_by.is_empty()) && manifest.records().is_some() && plain
}

fn check_key_names(spec: &TableSpec, columns: &[Expr]) -> Result<()> {
    let names: Vec<String> = columns.iter().map(|column| column.schema_name().to_string()).collect();
    let known: HashSet<&str> = names.iter().map(String::as_str).collect();
    match spec.primary_key.iter().find(|key| !known.contains(key.as_str())) {
        Some(key) => Err(Error::new(
            Code::InvalidSpec,
            format!("table {} has no column `{key}` for its primary key", spec.table),
        )
        .hint(format!("its columns are: {}", names.join(", ")))),
        None => Ok(()),
    }
}

/// The column that decides which of several rows with one key stays, and whether the greatest does; none where there may be only one.
pub fn order_by(spec: &TableSpec) -> Result<Option<(&str, bool)>> {
    let (text, greatest) = match (spec.order_by.as_str(), spec.earliest_by.as_str()) {
        ("", "") => return Ok(None),
        (column, "") => (column, true),
        ("", column) => (column, false),
        _ => {
            return Err(Error::new(
                Code::InvalidSpec,
                format!("table {} says twice which row of a key stays", spec.table),
            )
            .hint("give one of `latest_by` (or `order_by`) and `earliest_by`"));
        }
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let column = match words.as_slice() {
        [column] => *column,
        // Read as a window's order, DESC keeps the greatest; read as a rule for one value, the least.
        [column, direction] if ["asc", "desc"].iter().any(|word| direction.eq_ignore_ascii_case(word)) => {
            return Err(Error::new(Code::InvalidSpec, format!("order_by: `{text}` can be read in two ways")).hint(
                format!(
                    "write `latest_by: {column}` (the greatest stays) or `earliest_by: {column}` (the least stays)"
                ),
            ));
        }
        _ => {
            return Err(Error::new(Code::InvalidSpec, format!("order_by: `{text}` is not a column")).hint(
                "give one column of the table: `latest_by: column` keeps the greatest, `earliest_by: column` the least",
            ));
        }
    };
    if spec.primary_key.is_empty() {
        return Err(Error::new(Code::InvalidSpec, "latest_by or earliest_by without a primary key")
            .hint("say with `primary_key:` (--pk) which rows are the same"));
    }
    Ok(Some((column, greatest)))
}
