//! The journal's format, version 1: one JSON object for each job.
//!
//! `format_version`, `depends_on` (ids of the parts that a pipeline's part waits for) and `job` (the `trireme.v1.Job` message,
//! protobuf, base64) are what is read back. The other fields repeat parts of `job` for people and their tools. Protobuf field
//! numbers are never reused, so records of earlier versions stay readable; a fixture in the tests keeps it so.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat};
use prost::Message;
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use trireme_engine::{Code, Error, Result};
use trireme_proto::v1::{Job, JobState};

use super::id::JobId;

const FORMAT_VERSION: u32 = 1;

/// A job as the journal keeps it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub job: Job,
    pub depends_on: Vec<JobId>,
}

#[derive(Serialize)]
struct Written<'a> {
    format_version: u32,
    id: &'a str,
    kind: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    parent: &'a str,
    state: String,
    submitted_at: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    depends_on: Vec<&'a str>,
    job: String,
}

#[derive(Deserialize)]
struct Read {
    format_version: u32,
    depends_on: Vec<String>,
    job: String,
}

impl Record {
    /// The record's bytes in the journal.
    pub fn write(&self) -> Result<Vec<u8>> {
        let job = &self.job;
        let state = job.state().as_str_name().trim_start_matches("JOB_STATE_").to_ascii_lowercase();
        let written = Written {
            format_version: FORMAT_VERSION,
            id: &job.id,
            kind: &job.kind,
            name: &job.name,
            parent: &job.parent,
            state,
            submitted_at: job.submitted_at.and_then(rfc3339),
            started_at: job.started_at.and_then(rfc3339),
            ended_at: job.ended_at.and_then(rfc3339),
            error: job.error.as_ref().map(|error| format!("{}: {}", error.code, error.message)),
            depends_on: self.depends_on.iter().map(JobId::as_str).collect(),
            job: BASE64_STANDARD.encode(job.encode_to_vec()),
        };
        serde_json::to_vec_pretty(&written).map_err(|error| Error::new(Code::Internal, error.to_string()))
    }

    /// Reads a record back. Errors: `Internal` for bytes that are none, or one of a later version.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let unreadable = |problem: String| Error::new(Code::Internal, format!("unreadable journal record: {problem}"));
        let read: Read = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if read.format_version != FORMAT_VERSION {
            return Err(unreadable(format!(
                "format_version {}, and this Trireme knows {FORMAT_VERSION}",
                read.format_version
            )));
        }
        let job = BASE64_STANDARD.decode(&read.job).map_err(|error| unreadable(error.to_string()))?;
        let job = Job::decode(job.as_slice()).map_err(|error| unreadable(error.to_string()))?;
        let depends_on = read.depends_on.iter().map(|id| id.parse()).collect::<Result<_>>()?;
        Ok(Self { job, depends_on })
    }
}

fn rfc3339(time: Timestamp) -> Option<String> {
    let time = DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Whether a job has come to its end.
pub(crate) fn has_ended(job: &Job) -> bool {
    !matches!(job.state(), JobState::Queued | JobState::Running | JobState::Unspecified)
}

#[cfg(test)]
mod tests {
    use trireme_proto::v1::{Download, JobError, JobMetrics, JobSpec, Location, Outcome, Stage, job_spec::Spec};

    use super::*;

    /// What `fixture-1.json` was written from.
    fn job() -> Record {
        let at = |seconds| Some(Timestamp { seconds, nanos: 123_000_000 });
        let job = Job {
            id: "20261122-201533-124".into(),
            kind: "download".into(),
            name: "vendor.reviews".into(),
            parent: "20261122-201533-123".into(),
            state: JobState::Failed.into(),
            outcome: Outcome::AlreadyCurrent.into(),
            submitted_at: at(1_795_378_533),
            started_at: at(1_795_378_534),
            ended_at: at(1_795_378_600),
            phase: String::new(),
            stages: vec![Stage {
                name: "download/1".into(),
                tasks_total: 2,
                tasks_done: 1,
                tasks_by_executor: [("e1".to_string(), 1)].into(),
                attempt: 1,
                discarded: false,
            }],
            metrics: Some(JobMetrics { bytes_in: 7, retries: 1, ..JobMetrics::default() }),
            error: Some(JobError {
                code: "download-failed".into(),
                message: "ftp://vendor/reviews.json: connection reset".into(),
                hint: "try again".into(),
            }),
            raw_version: "20261122T201533123Z".into(),
            raw_versions: vec![],
            delta_version: -1,
            answer: vec![1, 2, 3],
            answer_rows: 1,
            parts: vec![],
            quarantine: None,
            checks: vec![],
            schema: None,
            skipped: vec![],
            spec: Some(JobSpec {
                spec: Some(Spec::Download(Download {
                    source: "vendor.reviews".into(),
                    from: "ftp://vendor/reviews.json".into(),
                    format: 1,
                    location: Some(Location { file: "pipeline.yaml".into(), line: 3, column: 3 }),
                    ..Download::default()
                })),
            }),
        };
        Record { job, depends_on: vec!["20261122-201533-100".parse().unwrap()] }
    }

    #[test]
    fn the_format_of_version_1_stays() {
        let fixture = include_bytes!("fixture-1.json");
        assert_eq!(Record::read(fixture).unwrap(), job());
        let written = String::from_utf8(job().write().unwrap()).unwrap();
        assert_eq!(written, String::from_utf8_lossy(fixture).trim_end());
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let bytes = job().write().unwrap();
        for length in 0..bytes.len() {
            assert!(Record::read(&bytes[..length]).is_err());
        }
        let newer = String::from_utf8(bytes).unwrap().replace("\"format_version\": 1", "\"format_version\": 2");
        assert!(Record::read(newer.as_bytes()).unwrap_err().message.contains("format_version 2"));
    }
}
