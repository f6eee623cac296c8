//! What can be read off a job's message: names of states and outcomes, times, and whether it counts as done.

use chrono::{DateTime, TimeDelta, Utc};
use prost_types::Timestamp;
use trireme_proto::v1::{self, JobState, Outcome};

use crate::{
    error::{Error, Exit},
    output::{first_line, printable},
};

/// A job's message, read.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a>(pub &'a v1::Job);

impl Job<'_> {
    /// Its state in a word.
    pub fn state(self) -> &'static str {
        match self.0.state() {
            JobState::Unspecified => "unknown",
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
            JobState::Skipped => "skipped",
        }
    }

    /// What came of it, if it succeeded.
    pub fn outcome(self) -> Option<&'static str> {
        match self.0.outcome() {
            Outcome::Unspecified => None,
            Outcome::Applied => Some("applied"),
            Outcome::AlreadyCurrent => Some("already current"),
            Outcome::AlreadyApplied => Some("already applied"),
            Outcome::NothingDelivered => Some("nothing was delivered yet"),
        }
    }

    /// State and outcome as one phrase; a skipped part says what it waited for.
    pub fn result(self) -> String {
        match (self.0.state(), self.outcome()) {
            (JobState::Succeeded, Some(outcome)) => outcome.to_string(),
            (JobState::Skipped, _) => match Error::of_job(self.0) {
                Some(error) => format!("skipped: {}", printable(first_line(&error.message))),
                None => "skipped: what it depends on failed".to_string(),
            },
            _ => self.state().to_string(),
        }
    }

    /// Its counters.
    pub fn metrics(self) -> v1::JobMetrics {
        self.0.metrics.unwrap_or_default()
    }

    /// Time from its start to its end, or to `now` while it runs; none before it started.
    pub fn duration(self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let start = moment(self.0.started_at.as_ref())?;
        let end = moment(self.0.ended_at.as_ref()).unwrap_or(now);
        Some((end - start).max(TimeDelta::zero()))
    }

    /// The version it committed, if it did.
    pub fn delta_version(self) -> Option<i64> {
        Some(self.0.delta_version)
            .filter(|version| *version >= 0 && !matches!(self.0.kind.as_str(), "download" | "adopt" | "pipeline"))
    }

    /// The version it made: a raw one for a download or an adoption, else a Delta one.
    pub fn version(self) -> String {
        match self.0.kind.as_str() {
            "download" | "adopt" => self.0.raw_version.clone(),
            _ => self.delta_version().map(|version| version.to_string()).unwrap_or_default(),
        }
    }

    /// Bytes it brought: read from a download's origin or adopted, else written to storage.
    pub fn bytes(self) -> u64 {
        match self.0.kind.as_str() {
            "download" | "adopt" => self.metrics().bytes_in,
            _ => self.metrics().bytes_out,
        }
    }

    /// How a program ends that waited for it.
    pub fn exit(self) -> Exit {
        match self.0.state() {
            JobState::Succeeded => Exit::Done,
            // A part's error is the pipeline's, but other parts ran.
            _ if !self.0.parts.is_empty() => Exit::Failed,
            _ => Error::of_job(self.0).map_or(Exit::Failed, |error| match error.exit() {
                // Only wrong usage is told apart; a job can't be unreachable.
                Exit::Usage => Exit::Usage,
                _ => Exit::Failed,
            }),
        }
    }
}

/// A moment of a message; none when it is missing or no moment.
pub fn moment(timestamp: Option<&Timestamp>) -> Option<DateTime<Utc>> {
    let timestamp = timestamp?;
    DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str) -> v1::Job {
        let error = v1::JobError { code: code.into(), message: "why".into(), hint: String::new() };
        v1::Job { state: JobState::Failed.into(), error: Some(error), ..Default::default() }
    }

    #[test]
    fn a_jobs_end_decides_the_exit() {
        for (code, exit) in
            [("invalid-sql", 64), ("origin-refused", 64), ("null-key", 1), ("unreachable", 1), ("cancelled", 1)]
        {
            assert_eq!(Job(&failed(code)).exit() as u8, exit, "{code}");
        }
        let parts = vec!["part".to_string()];
        assert_eq!(Job(&v1::Job { parts, ..failed("invalid-sql") }).exit() as u8, 1, "a part of a pipeline failed");
        for (state, exit) in
            [(JobState::Succeeded, 0), (JobState::Cancelled, 1), (JobState::Skipped, 1), (JobState::Failed, 1)]
        {
            assert_eq!(Job(&v1::Job { state: state.into(), ..Default::default() }).exit() as u8, exit, "{state:?}");
        }
    }

    #[test]
    fn durations_need_a_start_and_are_never_negative() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let now = DateTime::from_timestamp(100, 0).unwrap();
        let duration = |started_at, ended_at| {
            Job(&v1::Job { started_at, ended_at, ..Default::default() })
                .duration(now)
                .map(|duration| duration.num_seconds())
        };
        assert_eq!(duration(None, None), None);
        assert_eq!(duration(at(90), at(97)), Some(7));
        assert_eq!(duration(at(90), None), Some(10));
        assert_eq!(duration(at(190), None), Some(0), "the scheduler's clock is ahead");
        assert_eq!(duration(at(i64::MAX), None), None);
    }

    #[test]
    fn a_skipped_part_says_why() {
        let mut job = failed("skipped");
        job.set_state(JobState::Skipped);
        assert_eq!(Job(&job).result(), "skipped: why");
        job.error = None;
        assert_eq!(Job(&job).result(), "skipped: what it depends on failed");
    }
}
