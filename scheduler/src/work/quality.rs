//! Bad records and expectations of a load or merge: the columns that tell the writers what a row is, the quarantine's commit, and what the job says.
//!
//! A row's record that is bad, or fails an expectation with `quarantine`, goes to the quarantine; that is committed right before the table, with a `txn`
//! of its own, so that whatever dies in between, the next run finds it done and doubles nothing.

use datafusion::{
    arrow::datatypes::{DataType, Schema},
    common::ScalarValue,
    execution::SessionState,
    logical_expr::{Expr, LogicalPlanBuilder, ident, lit, when},
};
use deltalake_core::kernel::Add;
use trireme_engine::{
    Code, Error, Result, TableName,
    delta::{
        Committed, Table, Txn, WriteOutcome, WriteSummary, commit, quarantine,
        quarantine::BadRows,
        write::{KEEP_COLUMN, REASON_COLUMN, check_column},
    },
    names::{OURS, check_columns},
    raw::{
        Manifest, RawFormat, SchemaReport, Tells,
        places::{BAD_COLUMN, place_fields},
        schema_report,
    },
    sql::{self, StrictCast},
};
use trireme_proto::v1::{self, OnBadRecord, OnFailure, TableSpec};

use super::{
    Worker,
    apply::{Application, Mode, Written},
};
use crate::jobs::JobHandle;

/// Times that the quarantine's commit is tried again because another writer changed its table.
const ATTEMPTS: u32 = 8;
/// Kinds of reasons that a job tells.
const REASONS_TOLD: usize = 20;
/// Fields of each kind that a job tells.
const FIELDS_TOLD: usize = 100;

/// What is demanded of a row, and what becomes of one that fails.
struct Demand {
    label: String,
    on_failure: OnFailure,
    /// A text: null where nothing fails.
    failure: Expr,
    /// Of rows that `where` drops, too.
    always: bool,
}

/// Demands that are not met by sending the record away: their counts come back in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    pub label: String,
    pub on_failure: OnFailure,
}

/// The result columns of a table, planned, and what is demanded beside.
pub struct Columns {
    pub columns: Vec<Expr>,
    pub filter: Option<Expr>,
    strict: Vec<StrictCast>,
    strict_filter: Vec<StrictCast>,
}

impl Columns {
    /// Plans a spec's columns and filter over raw columns.
    pub fn plan(state: &SessionState, raw: &Schema, spec: &TableSpec) -> Result<Self> {
        let filter = (!spec.r#where.is_empty()).then_some(spec.r#where.as_str());
        let (columns, filter) = sql::plan_columns(state, raw, &spec.columns, filter)?;
        let names: Vec<String> = columns.iter().map(|column| column.schema_name().to_string()).collect();
        check_columns(&format!("table {}", spec.table), names.iter().map(String::as_str))?;
        let (columns, strict) = sql::take_strict_casts(columns)?;
        let (mut filter, strict_filter) = sql::take_strict_casts(filter.into_iter().collect())?;
        Ok(Self { columns, filter: filter.pop(), strict, strict_filter })
    }

    /// What a scan must tell for them.
    pub fn tells(&self, spec: &TableSpec) -> Tells {
        let demands = !spec.expect.is_empty() || !self.strict.is_empty() || !self.strict_filter.is_empty();
        match spec.on_bad_record() {
            OnBadRecord::Quarantine => Tells::BadRecords,
            OnBadRecord::Unspecified if demands => Tells::Places,
            OnBadRecord::Unspecified => Tells::Nothing,
        }
    }
}

/// Rows with all that tells the writers what to do with each, but for which of a key's rows is the latest; and what will be counted.
pub fn told_rows(
    state: &SessionState,
    spec: &TableSpec,
    format: RawFormat,
    scan: LogicalPlanBuilder,
    planned: Columns,
) -> Result<(LogicalPlanBuilder, Vec<Counted>)> {
    let quarantined = spec.on_bad_record() == OnBadRecord::Quarantine;
    let on_cast = if quarantined { OnFailure::Quarantine } else { OnFailure::Unspecified };
    let Columns { columns, filter, strict, strict_filter } = planned;
    // Parquet has neither places nor records that do not parse.
    let text = format != RawFormat::Parquet;
    let null = |data_type: &DataType| Ok::<_, Error>(Expr::Literal(ScalarValue::try_from(data_type)?, None));
    let mut told: Vec<Expr> = Vec::new();
    for field in place_fields() {
        let has = text && (quarantined || field.name() != BAD_COLUMN);
        told.push(if has { ident(field.name()) } else { null(field.data_type())?.alias(field.name()) });
    }
    told.push(filter.map_or(lit(true), Expr::is_true).alias(KEEP_COLUMN));
    let mut demands = Vec::new();
    let casts = strict_filter.into_iter().map(|cast| (cast, true)).chain(strict.into_iter().map(|cast| (cast, false)));
    for (at, (cast, always)) in casts.enumerate() {
        let column = format!("{OURS}strict_{at}");
        told.push(cast.failure.alias(&column));
        demands.push(Demand { label: cast.label, on_failure: on_cast, failure: ident(column), always });
    }
    let names: Vec<String> = columns.iter().map(|column| column.schema_name().to_string()).collect();
    let rows = scan.project(columns.into_iter().chain(told))?;

    let all = sql::result_schema(state, &rows.clone().build()?)?;
    let own: Vec<_> = all.fields().iter().filter(|field| names.contains(field.name())).cloned().collect();
    for expectation in &spec.expect {
        demands.push(expect(state, &Schema::new(own.clone()), expectation)?);
    }
    let keep = || ident(KEEP_COLUMN);
    let mut reasons = vec![(ident(BAD_COLUMN).is_not_null(), ident(BAD_COLUMN))];
    let (mut counted, mut checks) = (Vec::new(), Vec::new());
    for Demand { label, on_failure, failure, always } in demands {
        let failed = failure.clone().is_not_null();
        let failed = if always { failed } else { keep().and(failed) };
        if on_failure == OnFailure::Quarantine {
            reasons.push((failed, failure));
        } else {
            checks.push(when(failed, failure).end()?.alias(check_column(counted.len())));
            counted.push(Counted { label, on_failure });
        }
    }
    let mut reasons = reasons.into_iter();
    let mut reason = None;
    if let Some((failed, text)) = reasons.next() {
        let mut cases = when(failed, text);
        for (failed, text) in reasons {
            cases = cases.when(failed, text);
        }
        reason = Some(cases.end()?.alias(REASON_COLUMN));
    }
    let places = place_fields();
    let places = places.iter().map(|field| field.name().as_str()).filter(|name| *name != BAD_COLUMN);
    let columns = names.iter().map(String::as_str).chain(places).map(ident);
    let rows = rows.project(columns.chain([keep()]).chain(reason).chain(checks))?;
    Ok((rows, counted))
}

fn expect(state: &SessionState, columns: &Schema, expectation: &v1::Expectation) -> Result<Demand> {
    let v1::Expectation { name, check, .. } = expectation;
    let named = |error: Error| Error { message: format!("expectation `{name}`: {}", error.message), ..error };
    let (_, check_expr) = sql::plan_columns(state, columns, &[], Some(check)).map_err(named)?;
    let (mut plain, casts) = sql::take_strict_casts(check_expr.into_iter().collect()).map_err(named)?;
    let (Some(holds), true) = (plain.pop(), casts.is_empty()) else {
        return Err(named(Error::new(Code::InvalidSql, "a strict_cast can't stand in it"))
            .hint("cast in the table's columns; an expectation is about their result"));
    };
    let label = format!("expectation `{name}`");
    let failure = when(holds.is_not_true(), lit(format!("{label}: {check}"))).end()?;
    Ok(Demand { label: name.clone(), on_failure: expectation.on_failure(), failure, always: false })
}

/// A row that is neither bad nor dropped, and so competes for being its key's latest.
pub fn competes() -> Expr {
    ident(REASON_COLUMN).is_null().and(ident(KEEP_COLUMN))
}

/// Fails when a spec's expectations can't be.
pub fn check_spec(spec: &TableSpec) -> Result<()> {
    for (at, expectation) in spec.expect.iter().enumerate() {
        let name = expectation.name.trim();
        let what = if name.is_empty() || name.contains(['`', ':']) {
            format!("`{}` can't be the name of an expectation", expectation.name)
        } else if spec.expect[..at].iter().any(|earlier| earlier.name == expectation.name) {
            format!("two expectations are named `{name}`")
        } else if expectation.check.trim().is_empty() {
            format!("expectation `{name}` has no check")
        } else {
            continue;
        };
        return Err(Error::new(Code::InvalidSpec, format!("table {}: {what}", spec.table))
            .hint("give each expectation a short name of its own and a SQL predicate"));
    }
    if sends_away(spec) {
        quarantine::table_of(&spec.table.parse()?)?;
    } else if spec.max_bad_records.is_some() {
        return Err(Error::new(
            Code::InvalidSpec,
            format!("table {}: max_bad_records, but no record goes to the quarantine", spec.table),
        )
        .hint("say `on_bad_record: quarantine`, or `on_failure: quarantine` of an expectation"));
    }
    Ok(())
}

/// Whether records may go to the quarantine.
fn sends_away(spec: &TableSpec) -> bool {
    spec.on_bad_record() == OnBadRecord::Quarantine
        || spec.expect.iter().any(|expectation| expectation.on_failure() == OnFailure::Quarantine)
}

/// What decides, beside columns and filter, which rows come into the table; empty for a spec that says nothing of bad records.
pub fn digest_parts(spec: &TableSpec) -> Vec<String> {
    let expectations = spec.expect.iter().map(|e| format!("{}\u{1f}{}\u{1f}{}", e.name, e.check, e.on_failure));
    let bad = (spec.on_bad_record != 0).then(|| format!("on_bad_record {}", spec.on_bad_record));
    bad.into_iter().chain(expectations).collect()
}

impl Worker {
    /// Where the bad rows of an application go, if any may.
    pub(super) fn bad_rows(&self, application: &Application<'_>) -> Result<Option<BadRows>> {
        if !sends_away(application.spec) {
            return Ok(None);
        }
        let Manifest { source, version, .. } = &application.manifest;
        Ok(Some(BadRows {
            table: quarantine::table_of(&application.name)?,
            folder: self.zone.folder(source, version).to_string(),
            source: source.clone(),
            version: version.clone(),
            job_id: application.job.id().to_string(),
            at: chrono::Utc::now().timestamp_micros(),
        }))
    }

    /// Fails when a row failed a demand that fails the job, or when too many records are bad. The job tells the counts in any case.
    pub(super) fn check_quality(
        &self,
        application: &Application<'_>,
        outcome: &WriteOutcome,
        counted: &[Counted],
    ) -> Result<()> {
        let Application { spec, name, manifest, job, .. } = application;
        let summary = &outcome.summary;
        let summary = &delivered(manifest, summary);
        tell(job, name, summary, counted)?;
        let place = format!("{}@{} ({})", manifest.source, manifest.version, manifest.origin);
        for (check, found) in counted.iter().zip(&summary.checks) {
            if check.on_failure != OnFailure::Unspecified || found.rows == 0 {
                continue;
            }
            let is_cast = check.label.starts_with("strict_cast(");
            let (code, what) = match is_cast {
                true => (Code::BadValue, format!("{} {}", rows_fail(found.rows), check.label)),
                false => (Code::ExpectationFailed, format!("{} expectation `{}`", rows_fail(found.rows), check.label)),
            };
            let hint = match is_cast {
                true => {
                    "nothing of it was applied; `on_bad_record: quarantine` sends such records away, CAST makes them NULL"
                }
                false => {
                    "nothing of it was applied; `on_failure: quarantine` sends such records away, `warn` only counts them"
                }
            };
            let message = format!("{place}: {what} of table {name}: {}", found.examples.join("; "));
            return Err(Error::new(code, message).hint(hint));
        }
        match spec.max_bad_records {
            Some(most) if summary.rows_quarantined > most => Err(Error::new(
                Code::TooManyBadRecords,
                format!(
                    "{place}: {} bad records, and max_bad_records of table {name} is {most}: {}",
                    summary.rows_quarantined,
                    summary.bad_examples.join("; ")
                ),
            )
            .hint("nothing of it was applied; ask for a better delivery, or raise max_bad_records")),
            _ => Ok(()),
        }
    }

    /// Commits the bad records of what is about to be committed, unless a run before did.
    pub(super) async fn quarantine(&self, application: &Application<'_>, written: &Written) -> Result<()> {
        let files = std::mem::take(&mut *written.bad.lock());
        if files.is_empty() {
            return Ok(());
        }
        let Application { spec, manifest, label, job, name, .. } = application;
        let table = quarantine::table_of(name)?;
        let Some(delivery) = &label.delivery else {
            return Err(Error::new(Code::Internal, "a load or merge of no delivery"));
        };
        // Records are bad once, however often their version is applied again.
        let (mode, version, source) = (application.mode, &manifest.version, &manifest.source);
        let work = match mode {
            Mode::Load => format!("trireme:load:{source}:{}", delivery.digest),
            Mode::Merge => format!("trireme:merge:{source}@{version}:{}", delivery.digest),
        };
        let app_id = format!("trireme:quarantine:{}:{mode:?}:{source}@{version}:{work}", spec.table);
        let txn = Some(Txn { app_id, version: version.number() });
        let label = commit::CommitLabel { txn, delivery: None, ..label.clone() };
        let mut attempt = 1;
        let committed = loop {
            match self.append_bad(&table, files.clone(), &label).await {
                Err(error) if error.code == Code::Conflict && attempt < ATTEMPTS => attempt += 1,
                Err(error) => {
                    // Whoever tries again needs them.
                    if error.code == Code::Conflict {
                        *written.bad.lock() = files;
                    }
                    return Err(error);
                }
                Ok(committed) => break committed,
            }
        };
        if committed.already_applied {
            self.discard_files(&table, &files).await;
        }
        job.update(|job| {
            if let Some(quarantine) = &mut job.quarantine {
                quarantine.version = committed.version as i64;
            }
        });
        commit::checkpoint_when_due(&self.storage, &table, committed.version).await;
        Ok(())
    }

    async fn append_bad(&self, name: &TableName, files: Vec<Add>, label: &commit::CommitLabel) -> Result<Committed> {
        match Table::open(&self.storage, name).await? {
            None => {
                let (columns, none) = (quarantine::columns()?, Default::default());
                commit::create(&self.storage, name, &columns, &none, files, label).await
            }
            Some(table) if table.schema().as_ref() == &quarantine::columns()? => {
                commit::append(&table, files, label).await
            }
            Some(table) if table.schema().as_ref() == &quarantine::columns_before()? => {
                commit::append_evolving(&table, &quarantine::columns()?, files, label).await
            }
            Some(_) => Err(Error::new(Code::SchemaMismatch, format!("table {name} is not a quarantine of ours"))
                .hint("its columns are others; move that table away, or name yours otherwise")),
        }
    }

    /// Says what is remarkable about the raw version's columns. What can't be found out is left out.
    pub(super) async fn tell_schema(
        &self,
        job: &JobHandle,
        manifest: &Manifest,
        declared: Option<&datafusion::arrow::datatypes::SchemaRef>,
    ) {
        let report = match schema_report(&self.zone, manifest, declared).await {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(source = %manifest.source, version = %manifest.version, %error, "no schema report");
                return;
            }
        };
        let mut told = schema_message(manifest, report);
        told.fields.retain(|field| field.conflict);
        let lists =
            [&mut told.new_fields, &mut told.vanished_fields, &mut told.undeclared_fields, &mut told.missing_fields];
        lists.into_iter().for_each(|fields| fields.truncate(FIELDS_TOLD));
        told.fields.truncate(FIELDS_TOLD);
        let empty = [&told.new_fields, &told.vanished_fields, &told.undeclared_fields, &told.missing_fields];
        if !told.fields.is_empty() || empty.iter().any(|fields| !fields.is_empty()) {
            job.update(|job| job.schema = Some(told));
        }
    }
}

fn rows_fail(rows: u64) -> String {
    if rows == 1 { "1 row fails".to_string() } else { format!("{rows} rows fail") }
}

/// A report as the API shows it.
pub fn schema_message(manifest: &Manifest, report: SchemaReport) -> v1::SchemaReport {
    let kind = |kind: trireme_engine::raw::KindReport| v1::KindCount {
        kind: kind.kind.as_str().to_string(),
        values: kind.values,
        part: kind.part,
        offset: kind.offset,
        line: kind.line,
    };
    let field = |field: trireme_engine::raw::FieldReport| v1::SchemaField {
        path: field.path,
        r#type: field.type_name,
        kinds: field.kinds.into_iter().map(kind).collect(),
        conflict: field.conflict,
    };
    v1::SchemaReport {
        source: manifest.source.to_string(),
        version: manifest.version.to_string(),
        fields: report.fields.into_iter().map(field).collect(),
        previous: report.previous.map(|version| version.to_string()).unwrap_or_default(),
        new_fields: report.new,
        vanished_fields: report.vanished,
        undeclared_fields: report.undeclared,
        missing_fields: report.missing,
    }
}

/// Adds what a write counted to what the job says: it may apply several versions.
/// Examples with the names of the files as they were delivered.
fn delivered(manifest: &Manifest, summary: &WriteSummary) -> WriteSummary {
    let mut summary = summary.clone();
    let examples = summary.checks.iter_mut().flat_map(|check| &mut check.examples).chain(&mut summary.bad_examples);
    examples.for_each(|example| *example = manifest.name_delivered(example));
    summary
}

fn tell(job: &JobHandle, name: &TableName, summary: &WriteSummary, counted: &[Counted]) -> Result<()> {
    let table = quarantine::table_of(name)?.to_string();
    job.update(|job| {
        if summary.rows_quarantined > 0 {
            let told =
                job.quarantine.get_or_insert_with(|| v1::Quarantine { table, version: -1, ..Default::default() });
            told.rows += summary.rows_quarantined;
            for (reason, rows) in &summary.reasons {
                match told.reasons.iter_mut().find(|known| known.reason == *reason) {
                    Some(known) => known.rows += rows,
                    None => told.reasons.push(v1::ReasonCount { reason: reason.clone(), rows: *rows }),
                }
            }
            told.reasons.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.reason.cmp(&b.reason)));
            told.reasons.truncate(REASONS_TOLD);
            let room = 5usize.saturating_sub(told.examples.len());
            told.examples.extend(summary.bad_examples.iter().take(room).cloned());
        }
        for (check, found) in counted.iter().zip(&summary.checks).filter(|(_, found)| found.rows > 0) {
            match job.checks.iter_mut().find(|known| known.name == check.label) {
                Some(known) => known.rows += found.rows,
                None => job.checks.push(v1::CheckCount {
                    name: check.label.clone(),
                    on_failure: check.on_failure.into(),
                    rows: found.rows,
                    examples: found.examples.clone(),
                }),
            }
        }
    });
    Ok(())
}
