//! A job that has not ended: what it is seen as, and the only ways from one state to the next.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use prost_types::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trireme_engine::Error;
use trireme_proto::v1::{Job, JobError, JobSpec, JobState};

use super::{
    id::JobId,
    record::{Record, has_ended},
    subject::Subject,
};

/// Largest answer kept with a job, in bytes: a job travels in one gRPC message.
const LARGEST_ANSWER: usize = 16 << 20;

/// A job that waits or runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobHandle(Arc<Live>);

#[derive(Debug)]
struct Live {
    id: JobId,
    subject: Subject,
    depends_on: Vec<JobId>,
    /// An earlier scheduler may have begun it.
    again: bool,
    current: watch::Sender<Arc<Job>>,
    cancelled: CancellationToken,
    why: OnceLock<Why>,
}

/// Why a job was told to stop. A scheduler that stops tells its jobs so for neither reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A user asked for it.
    Asked,
    /// It took too long.
    Deadline,
}

impl JobHandle {
    /// A handle for a job that is queued, or is queued again.
    pub(crate) fn new(subject: Subject, id: JobId, record: Record, stop: &CancellationToken) -> Self {
        Self::begun(subject, id, record, stop, false)
    }

    /// The same for a job that an earlier scheduler may have begun, if `again`.
    pub(crate) fn begun(subject: Subject, id: JobId, record: Record, stop: &CancellationToken, again: bool) -> Self {
        Self(Arc::new(Live {
            id,
            subject,
            again,
            depends_on: record.depends_on,
            current: watch::Sender::new(Arc::new(record.job)),
            cancelled: stop.child_token(),
            why: OnceLock::new(),
        }))
    }

    /// The job's id.
    pub fn id(&self) -> &JobId {
        &self.0.id
    }

    /// Whether an earlier scheduler may have begun the job, or done all of it but to write that down: ask the tables' logs for its id.
    pub fn is_again(&self) -> bool {
        self.0.again
    }

    /// What the job is about.
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// The job as it is now.
    pub fn snapshot(&self) -> Arc<Job> {
        self.0.current.borrow().clone()
    }

    /// Cancelled when the job has to stop: a user asked for it, it took too long, or the scheduler stops.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.cancelled
    }

    /// Changes what the job says of itself: `outcome`, `phase`, `stages`, `metrics`, `raw_version`, `raw_versions`, `delta_version`, `answer`,
    /// `answer_rows`, `quarantine`, `checks`, `schema` and `skipped`. Changes to all else are undone, for they are not the work's to make; `spec` and `parts` look empty here.
    /// Watchers see the change at once, or the latest of several; the journal a little later. A job that has ended does not change.
    pub fn update(&self, change: impl FnOnce(&mut Job)) {
        self.0.current.send_if_modified(|current| {
            if has_ended(current) {
                return false;
            }
            let job = Arc::make_mut(current);
            let fixed = Job {
                id: job.id.clone(),
                kind: job.kind.clone(),
                name: job.name.clone(),
                parent: job.parent.clone(),
                state: job.state,
                submitted_at: job.submitted_at,
                started_at: job.started_at,
                ended_at: job.ended_at,
                error: job.error.clone(),
                parts: std::mem::take(&mut job.parts),
                spec: job.spec.take(),
                ..Job::default()
            };
            change(job);
            if job.answer.len() > LARGEST_ANSWER {
                tracing::warn!(job = %self.0.id, bytes = job.answer.len(), "the answer is too large to be kept with its job");
                job.answer = Vec::new();
            }
            *job = Job {
                outcome: job.outcome,
                phase: std::mem::take(&mut job.phase),
                stages: std::mem::take(&mut job.stages),
                metrics: job.metrics,
                raw_version: std::mem::take(&mut job.raw_version),
                raw_versions: std::mem::take(&mut job.raw_versions),
                delta_version: job.delta_version,
                answer: std::mem::take(&mut job.answer),
                answer_rows: job.answer_rows,
                quarantine: job.quarantine.take(),
                checks: std::mem::take(&mut job.checks),
                schema: job.schema.take(),
                skipped: std::mem::take(&mut job.skipped),
                ..fixed
            };
            true
        });
    }

    /// Says what the job does now.
    pub fn phase(&self, phase: impl Into<String>) {
        self.update(|job| job.phase = phase.into());
    }

    /// Tells the job to stop. The first reason given is the one that counts.
    pub(crate) fn cancel(&self, why: Why) {
        if self.0.why.set(why).is_ok() {
            self.phase("is being cancelled");
        }
        self.0.cancelled.cancel();
    }

    pub(crate) fn why(&self) -> Option<Why> {
        self.0.why.get().copied()
    }

    /// The parts of its pipeline that it waits for.
    pub(crate) fn depends_on(&self) -> &[JobId] {
        &self.0.depends_on
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Job>> {
        self.0.current.subscribe()
    }

    /// A job as the journal keeps it.
    pub(crate) fn record(&self, job: &Job) -> Record {
        Record { job: job.clone(), depends_on: self.0.depends_on.clone() }
    }
}

/// A new job's message.
pub(crate) fn new_job(id: &JobId, subject: &Subject, spec: JobSpec, parent: Option<&JobId>) -> Job {
    Job {
        id: id.to_string(),
        kind: subject.kind().to_string(),
        name: subject.name(),
        parent: parent.map(ToString::to_string).unwrap_or_default(),
        state: JobState::Queued.into(),
        submitted_at: now(),
        delta_version: -1,
        spec: Some(spec),
        ..Job::default()
    }
}

fn now() -> Option<Timestamp> {
    Some(SystemTime::now().into())
}

/// The message of an error.
fn job_error(error: Error) -> JobError {
    JobError { code: error.code.as_str().to_string(), message: error.message, hint: error.hint }
}

/// A job that waits. It can start, be cancelled or be skipped.
#[derive(Debug)]
pub(crate) struct Queued(JobHandle);

/// A job that runs. It can succeed, fail or be cancelled.
#[derive(Debug)]
pub(crate) struct Running(JobHandle);

/// A job that has come to its end, though nobody has been told yet.
#[derive(Debug)]
pub(crate) struct Ending {
    handle: JobHandle,
    /// Its last message.
    pub job: Job,
}

impl Queued {
    /// The start of a job's life. The caller is the only one who leads it.
    pub fn new(handle: JobHandle) -> Self {
        Self(handle)
    }

    pub fn start(self) -> Running {
        self.0.0.current.send_modify(|current| {
            let job = Arc::make_mut(current);
            job.set_state(JobState::Running);
            job.started_at = job.started_at.or_else(now);
            job.phase = "starts".to_string();
        });
        Running(self.0)
    }

    pub fn cancel(self, error: Error) -> Ending {
        Ending::new(self.0, JobState::Cancelled, Some(job_error(error)))
    }

    /// Ends a part whose dependency did not succeed.
    pub fn skip(self, reason: String) -> Ending {
        let error = JobError { code: "skipped".to_string(), message: reason, hint: String::new() };
        Ending::new(self.0, JobState::Skipped, Some(error))
    }
}

impl Running {
    pub fn succeed(self) -> Ending {
        Ending::new(self.0, JobState::Succeeded, None)
    }

    pub fn fail(self, error: Error) -> Ending {
        Ending::new(self.0, JobState::Failed, Some(job_error(error)))
    }

    pub fn cancel(self, error: Error) -> Ending {
        Ending::new(self.0, JobState::Cancelled, Some(job_error(error)))
    }
}

impl Ending {
    fn new(handle: JobHandle, state: JobState, error: Option<JobError>) -> Self {
        let mut job = handle.snapshot().as_ref().clone();
        job.set_state(state);
        job.error = error;
        job.ended_at = now();
        job.phase = String::new();
        Self { handle, job }
    }

    pub fn handle(&self) -> &JobHandle {
        &self.handle
    }

    /// Tells all watchers.
    pub fn publish(self) -> Arc<Job> {
        let job = Arc::new(self.job);
        self.handle.0.current.send_replace(job.clone());
        job
    }
}
