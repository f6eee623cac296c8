//! The JSON forms of what the scheduler says. Field names are part of the public contract: sizes in bytes, durations in milliseconds,
//! moments in RFC 3339 (UTC); what is unknown is null.

use std::collections::{BTreeMap, HashMap};

use chrono::Utc;
use serde::Serialize;
use serde_json::value::RawValue;
use trireme_proto::v1;

use crate::{
    answer::Answer,
    error::{Error, Result},
    job::{Job, moment},
    units::rfc3339,
    watch::Ended,
};

/// `{"error": …}`
#[derive(Serialize)]
pub struct ErrorDocument {
    error: ErrorBody,
}

#[derive(Serialize)]
struct ErrorBody {
    code: String,
    message: String,
    hint: Option<String>,
}

impl From<Error> for ErrorBody {
    fn from(error: Error) -> Self {
        Self { code: error.code, message: error.message, hint: some(error.hint) }
    }
}

impl From<Error> for ErrorDocument {
    fn from(error: Error) -> Self {
        Self { error: error.into() }
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn when(timestamp: Option<&prost_types::Timestamp>) -> Option<String> {
    moment(timestamp).map(rfc3339)
}

/// A job.
#[derive(Serialize)]
pub struct JobView {
    id: String,
    kind: String,
    name: String,
    parent: Option<String>,
    state: &'static str,
    outcome: Option<&'static str>,
    phase: Option<String>,
    submitted_at: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    duration_ms: Option<i64>,
    raw_version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    raw_versions: Vec<String>,
    delta_version: Option<i64>,
    metrics: MetricsView,
    stages: Vec<StageView>,
    error: Option<ErrorBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine: Option<QuarantineView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<SchemaView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Box<RawValue>>,
    // Why an answer that the scheduler sent is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<String>,
}

#[derive(Serialize)]
struct MetricsView {
    rows_in: u64,
    rows_dropped: u64,
    rows_superseded: u64,
    rows_quarantined: u64,
    rows_inserted: u64,
    rows_updated: u64,
    rows_deleted: u64,
    rows_ignored: u64,
    rows_copied: u64,
    bytes_in: u64,
    bytes_out: u64,
    files_added: u64,
    files_removed: u64,
    retries: u32,
}

#[derive(Serialize)]
struct StageView {
    name: String,
    tasks_total: u32,
    tasks_done: u32,
    tasks_by_executor: BTreeMap<String, u32>,
    attempt: u32,
    discarded: bool,
}

impl JobView {
    /// A job; a question's answer is in it when the scheduler sent one. What it did is told even if that can't be read.
    pub fn new(message: &v1::Job) -> Self {
        let job = Job(message);
        let metrics = job.metrics();
        let (answer, answer_error) = match answer(message) {
            Ok(answer) => (answer, None),
            Err(error) => (None, Some(error.message)),
        };
        Self {
            id: message.id.clone(),
            kind: message.kind.clone(),
            name: message.name.clone(),
            parent: some(message.parent.clone()),
            state: job.state(),
            outcome: job.outcome(),
            phase: some(message.phase.clone()),
            submitted_at: when(message.submitted_at.as_ref()),
            started_at: when(message.started_at.as_ref()),
            ended_at: when(message.ended_at.as_ref()),
            duration_ms: job.duration(Utc::now()).map(|duration| duration.num_milliseconds()),
            raw_version: some(message.raw_version.clone()),
            raw_versions: message.raw_versions.clone(),
            delta_version: job.delta_version(),
            metrics: MetricsView {
                rows_in: metrics.rows_in,
                rows_dropped: metrics.rows_dropped,
                rows_superseded: metrics.rows_superseded,
                rows_quarantined: metrics.rows_quarantined,
                rows_inserted: metrics.rows_inserted,
                rows_updated: metrics.rows_updated,
                rows_deleted: metrics.rows_deleted,
                rows_ignored: metrics.rows_ignored,
                rows_copied: metrics.rows_copied,
                bytes_in: metrics.bytes_in,
                bytes_out: metrics.bytes_out,
                files_added: metrics.files_added,
                files_removed: metrics.files_removed,
                retries: metrics.retries,
            },
            stages: message.stages.iter().map(StageView::from).collect(),
            error: Error::of_job(message).map(ErrorBody::from),
            quarantine: message.quarantine.as_ref().map(QuarantineView::from),
            checks: message.checks.iter().map(CheckView::from).collect(),
            schema: message.schema.as_ref().map(SchemaView::from),
            skipped: message.skipped.iter().map(SkippedView::from).collect(),
            answer_rows: (!message.answer.is_empty()).then_some(message.answer_rows),
            answer,
            answer_error,
            parts: message.parts.clone(),
        }
    }
}

#[derive(Serialize)]
struct SkippedView {
    version: String,
    why: String,
}

impl From<&v1::SkippedVersion> for SkippedView {
    fn from(skipped: &v1::SkippedVersion) -> Self {
        Self { version: skipped.version.clone(), why: skipped.why.clone() }
    }
}

#[derive(Serialize)]
struct QuarantineView {
    table: String,
    version: Option<i64>,
    rows: u64,
    reasons: Vec<ReasonView>,
    examples: Vec<String>,
}

#[derive(Serialize)]
struct ReasonView {
    reason: String,
    rows: u64,
}

impl From<&v1::Quarantine> for QuarantineView {
    fn from(quarantine: &v1::Quarantine) -> Self {
        let reason = |count: &v1::ReasonCount| ReasonView { reason: count.reason.clone(), rows: count.rows };
        Self {
            table: quarantine.table.clone(),
            version: Some(quarantine.version).filter(|version| *version >= 0),
            rows: quarantine.rows,
            reasons: quarantine.reasons.iter().map(reason).collect(),
            examples: quarantine.examples.clone(),
        }
    }
}

#[derive(Serialize)]
struct CheckView {
    name: String,
    on_failure: &'static str,
    rows: u64,
    examples: Vec<String>,
}

impl From<&v1::CheckCount> for CheckView {
    fn from(check: &v1::CheckCount) -> Self {
        let on_failure = match check.on_failure() {
            v1::OnFailure::Unspecified => "fail",
            v1::OnFailure::Quarantine => "quarantine",
            v1::OnFailure::Warn => "warn",
        };
        Self { name: check.name.clone(), on_failure, rows: check.rows, examples: check.examples.clone() }
    }
}

/// The columns of a raw version.
#[derive(Serialize)]
pub struct SchemaView {
    source: String,
    version: String,
    compared_with: Option<String>,
    fields: Vec<FieldView>,
    new_fields: Vec<String>,
    vanished_fields: Vec<String>,
    undeclared_fields: Vec<String>,
    missing_fields: Vec<String>,
}

#[derive(Serialize)]
struct FieldView {
    path: String,
    r#type: String,
    conflict: bool,
    values: BTreeMap<String, KindView>,
}

#[derive(Serialize)]
struct KindView {
    count: u64,
    first: PlaceView,
}

#[derive(Serialize)]
struct PlaceView {
    part: String,
    offset: u64,
    line: u64,
}

impl From<&v1::SchemaReport> for SchemaView {
    fn from(report: &v1::SchemaReport) -> Self {
        let kind = |kind: &v1::KindCount| {
            let first = PlaceView { part: kind.part.clone(), offset: kind.offset, line: kind.line };
            (kind.kind.clone(), KindView { count: kind.values, first })
        };
        let field = |field: &v1::SchemaField| FieldView {
            path: field.path.clone(),
            r#type: field.r#type.clone(),
            conflict: field.conflict,
            values: field.kinds.iter().map(kind).collect(),
        };
        Self {
            source: report.source.clone(),
            version: report.version.clone(),
            compared_with: some(report.previous.clone()),
            fields: report.fields.iter().map(field).collect(),
            new_fields: report.new_fields.clone(),
            vanished_fields: report.vanished_fields.clone(),
            undeclared_fields: report.undeclared_fields.clone(),
            missing_fields: report.missing_fields.clone(),
        }
    }
}

impl From<&v1::Stage> for StageView {
    fn from(stage: &v1::Stage) -> Self {
        Self {
            name: stage.name.clone(),
            tasks_total: stage.tasks_total,
            tasks_done: stage.tasks_done,
            tasks_by_executor: sorted(&stage.tasks_by_executor),
            attempt: stage.attempt,
            discarded: stage.discarded,
        }
    }
}

fn sorted<V: Clone>(map: &HashMap<String, V>) -> BTreeMap<String, V> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn answer(message: &v1::Job) -> Result<Option<Box<RawValue>>> {
    if message.answer.is_empty() {
        return Ok(None);
    }
    let text = Answer::read(&message.answer)?.json()?;
    RawValue::from_string(text).map(Some).map_err(|error| Error::new("internal", error.to_string()))
}

/// A pipeline's run.
#[derive(Serialize)]
pub struct RunView {
    pipeline: String,
    id: String,
    state: &'static str,
    duration_ms: Option<i64>,
    error: Option<ErrorBody>,
    parts: Vec<JobView>,
    answers: BTreeMap<String, Box<RawValue>>,
}

impl RunView {
    /// A pipeline that has ended. Answers are kept out of the parts, by table name.
    pub fn new(ended: &Ended) -> Self {
        let mut answers = BTreeMap::new();
        let mut parts = Vec::with_capacity(ended.parts.len());
        for part in &ended.parts {
            let mut view = JobView::new(part);
            if let Some(answer) = view.answer.take() {
                answers.insert(part.name.clone(), answer);
            }
            parts.push(view);
        }
        let job = Job(&ended.job);
        Self {
            pipeline: ended.job.name.clone(),
            id: ended.job.id.clone(),
            state: job.state(),
            duration_ms: job.duration(Utc::now()).map(|duration| duration.num_milliseconds()),
            error: Error::of_job(&ended.job).map(ErrorBody::from),
            parts,
            answers,
        }
    }
}

/// A table of the catalog.
#[derive(Serialize)]
pub struct TableView {
    name: String,
    version: i64,
    rows: Option<i64>,
    files: u64,
    bytes: u64,
    modified_at: Option<String>,
}

impl From<&v1::Table> for TableView {
    fn from(table: &v1::Table) -> Self {
        Self {
            name: table.name.clone(),
            version: table.version,
            rows: Some(table.rows).filter(|rows| *rows >= 0),
            files: table.files,
            bytes: table.bytes,
            modified_at: when(table.modified_at.as_ref()),
        }
    }
}

/// A table with its columns.
#[derive(Serialize)]
pub struct TableDetailView {
    #[serde(flatten)]
    table: TableView,
    location: String,
    columns: Vec<ColumnView>,
    partition_columns: Vec<String>,
    properties: BTreeMap<String, String>,
    min_reader_version: u32,
    min_writer_version: u32,
}

#[derive(Serialize)]
struct ColumnView {
    name: String,
    r#type: String,
    nullable: bool,
}

impl From<&v1::DescribeTableResponse> for TableDetailView {
    fn from(response: &v1::DescribeTableResponse) -> Self {
        Self {
            table: TableView::from(&response.table.clone().unwrap_or_default()),
            location: response.location.clone(),
            columns: response
                .columns
                .iter()
                .map(|column| ColumnView {
                    name: column.name.clone(),
                    r#type: column.r#type.clone(),
                    nullable: column.nullable,
                })
                .collect(),
            partition_columns: response.partition_columns.clone(),
            properties: sorted(&response.properties),
            min_reader_version: response.min_reader_version,
            min_writer_version: response.min_writer_version,
        }
    }
}

/// A commit of a table.
#[derive(Serialize)]
pub struct CommitView {
    version: i64,
    timestamp: Option<String>,
    operation: String,
    parameters: BTreeMap<String, String>,
    metrics: BTreeMap<String, String>,
    engine: Option<String>,
    job: Option<String>,
}

impl From<&v1::TableCommit> for CommitView {
    fn from(commit: &v1::TableCommit) -> Self {
        Self {
            version: commit.version,
            timestamp: when(commit.timestamp.as_ref()),
            operation: commit.operation.clone(),
            parameters: sorted(&commit.parameters),
            metrics: sorted(&commit.metrics),
            engine: some(commit.engine.clone()),
            job: some(commit.job.clone()),
        }
    }
}

/// A source of the raw zone.
#[derive(Serialize)]
pub struct SourceView {
    name: String,
    current: Option<String>,
    versions: u32,
    bytes: u64,
    text_bytes: u64,
    copy_bytes: u64,
    skipped: u32,
}

impl From<&v1::Source> for SourceView {
    fn from(source: &v1::Source) -> Self {
        Self {
            name: source.name.clone(),
            current: some(source.current.clone()),
            versions: source.versions,
            bytes: source.bytes,
            text_bytes: source.text_bytes,
            copy_bytes: source.copy_bytes,
            skipped: source.skipped,
        }
    }
}

/// A version of a source.
#[derive(Serialize)]
pub struct RawVersionView {
    version: String,
    current: bool,
    origin: String,
    format: Option<&'static str>,
    compression: Option<String>,
    bytes: u64,
    text_bytes: u64,
    copy_bytes: u64,
    sha256: String,
    etag: Option<String>,
    last_modified: Option<String>,
    downloaded_at: Option<String>,
    splits: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<MarkView>,
}

/// What was said of a version.
#[derive(Serialize)]
pub struct MarkView {
    told: String,
    reason: Option<String>,
    user: Option<String>,
    at: Option<String>,
    superseded_by: Option<String>,
    stands_in_for: Option<String>,
    dropped: bool,
}

impl From<&v1::VersionMark> for MarkView {
    fn from(mark: &v1::VersionMark) -> Self {
        Self {
            told: mark.told.clone(),
            reason: some(mark.reason.clone()),
            user: some(mark.user.clone()),
            at: when(mark.at.as_ref()),
            superseded_by: some(mark.superseded_by.clone()),
            stands_in_for: some(mark.stands_in_for.clone()),
            dropped: mark.dropped,
        }
    }
}

impl From<&v1::RawVersion> for RawVersionView {
    fn from(version: &v1::RawVersion) -> Self {
        Self {
            version: version.version.clone(),
            current: version.current,
            origin: version.origin.clone(),
            format: raw_format(version.format()),
            compression: some(version.compression.clone()),
            bytes: version.bytes,
            text_bytes: version.text_bytes,
            copy_bytes: version.copy_bytes,
            sha256: version.sha256.clone(),
            etag: some(version.etag.clone()),
            last_modified: some(version.last_modified.clone()),
            downloaded_at: when(version.downloaded_at.as_ref()),
            splits: version.splits,
            mark: version.mark.as_ref().map(MarkView::from),
        }
    }
}

/// A raw format's name, if it is known.
pub fn raw_format(format: v1::RawFormat) -> Option<&'static str> {
    match format {
        v1::RawFormat::Unspecified => None,
        v1::RawFormat::Json => Some("json"),
        v1::RawFormat::Csv => Some("csv"),
        v1::RawFormat::Parquet => Some("parquet"),
    }
}
