//! Submits jobs and follows them until they have ended, through restarts of the scheduler.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::Status;
use trireme_proto::v1::{self, Job, JobState, job_spec::Spec};

use crate::{
    connection::Scheduler,
    error::{Error, Result, is_transport},
    interrupt::Interrupt,
};

/// How long a broken stream is usually taken up again before the client gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After Ctrl-C the scheduler has this long to answer.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// What Ctrl-C does to the job that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// Ends it: this client submitted it.
    Cancel,
    /// Leaves it alone: this client only looks on.
    Leave,
}

/// A job that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The job itself.
    pub job: Job,
    /// A pipeline's parts, in the order they were planned; empty for other jobs.
    pub parts: Vec<Job>,
}

/// Whether a job in this state stays in it.
pub fn has_ended(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Skipped)
}

/// Submits a job and returns it as it was queued.
///
/// # Errors
/// What the scheduler refuses it for; `interrupted` after Ctrl-C, then the job is cancelled if the scheduler says that it has it.
pub async fn submit(scheduler: &Scheduler, spec: Spec, interrupt: &Interrupt) -> Result<Job> {
    let mut jobs = scheduler.jobs();
    let request = v1::SubmitRequest { spec: Some(v1::JobSpec { spec: Some(spec) }) };
    let call = scheduler.answer(jobs.submit(request));
    tokio::pin!(call);
    let response = tokio::select! {
        response = &mut call => response?,
        () = interrupt.wait() => {
            // The request is on its way: only its answer tells which job to cancel.
            match tokio::time::timeout(CANCEL_PATIENCE, call).await {
                Ok(response) => response?,
                Err(_) => return Err(Error::interrupted("interrupted before the scheduler took the job")
                    .hint("`trireme jobs list` shows whether it did")),
            }
        }
    };
    response.job.ok_or_else(|| Error::new("internal", format!("the scheduler at {} returned no job", scheduler.url())))
}

/// Follows a job until it has ended; `see` gets the job and a pipeline's parts at every change, and ends the watching when it returns
/// false.
///
/// A stream that breaks is taken up again with growing pauses, for as long as `patience` ([`PATIENCE`]) without a word.
///
/// # Errors
/// `job-not-found`, `unreachable` after that time, `interrupted`. A job that failed is no error here.
pub async fn follow(
    scheduler: &Scheduler,
    id: &str,
    interrupt: &Interrupt,
    on_interrupt: OnInterrupt,
    patience: Duration,
    mut see: impl FnMut(&Job) -> bool,
) -> Result<Option<Ended>> {
    tokio::select! {
        ended = stream(scheduler, id, patience, &mut see) => ended,
        () = interrupt.wait() => Err(match on_interrupt {
            OnInterrupt::Leave => Error::interrupted(format!("interrupted; job {id} goes on"))
                .hint(format!("`trireme jobs cancel {id}` ends it")),
            OnInterrupt::Cancel => cancel_after_interrupt(scheduler, id).await,
        }),
    }
}

async fn cancel_after_interrupt(scheduler: &Scheduler, id: &str) -> Error {
    let mut jobs = scheduler.jobs();
    let call = scheduler.answer(jobs.cancel(v1::CancelJobRequest { id: id.to_string() }));
    let why = match tokio::time::timeout(CANCEL_PATIENCE, call).await {
        Ok(Ok(job)) if job.state() == JobState::Succeeded => {
            return Error::interrupted(format!("interrupted; job {id} was already done"));
        }
        Ok(Ok(_)) => return Error::interrupted(format!("interrupted; job {id} is cancelled")),
        Ok(Err(error)) => error.message,
        Err(_) => "the scheduler did not answer".to_string(),
    };
    Error::interrupted(format!("interrupted, but job {id} may go on: {why}"))
        .hint(format!("`trireme jobs cancel {id}` ends it"))
}

/// What is known of the job and its parts so far.
#[derive(Default)]
struct Known {
    job: Option<Job>,
    parts: Vec<Job>,
}

impl Known {
    fn take(&mut self, id: &str, job: Job) {
        if job.id == id {
            self.job = Some(job);
        } else if let Some(known) = self.parts.iter_mut().find(|known| known.id == job.id) {
            *known = job;
        } else {
            self.parts.push(job);
        }
    }

    fn ended(&self) -> Option<&Job> {
        self.job.as_ref().filter(|job| has_ended(job.state()))
    }
}

async fn stream(
    scheduler: &Scheduler,
    id: &str,
    patience: Duration,
    see: &mut impl FnMut(&Job) -> bool,
) -> Result<Option<Ended>> {
    let mut known = Known::default();
    let mut pause = FIRST_PAUSE;
    let mut broken_since: Option<Instant> = None;
    loop {
        let request = v1::WatchJobRequest { id: id.to_string() };
        let broke = match scheduler.jobs().watch(request).await {
            Err(status) => status,
            Ok(response) => {
                let mut stream = response.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            (broken_since, pause) = (None, FIRST_PAUSE);
                            let Some(job) = message.job else { continue };
                            let go_on = see(&job);
                            known.take(id, job);
                            if !go_on {
                                return Ok(None);
                            }
                        }
                        // The stream may carry parts after the pipeline's own end, so its end decides, not the job's.
                        Ok(None) => break Status::unavailable("the stream ended before the job did"),
                        Err(status) => break status,
                    }
                }
            }
        };
        if let Some(job) = known.ended() {
            return complete(scheduler, job.clone(), known.parts).await.map(Some);
        }
        let error = scheduler.error(&broke);
        if !may_come_back(&broke) {
            return Err(error);
        }
        if broken_since.get_or_insert_with(Instant::now).elapsed() >= patience {
            return Err(Error::unreachable(format!("lost sight of job {id}, which goes on: {}", error.message))
                .hint(format!("`trireme jobs watch {id}` follows it once the scheduler is back")));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether a scheduler that comes back, or has finished starting, may answer otherwise.
fn may_come_back(status: &Status) -> bool {
    use tonic::Code::{Aborted, Cancelled, Internal, ResourceExhausted, Unknown};
    match Error::find_in(status.message()) {
        // A scheduler that stops breaks the stream off; the job goes on when it is back.
        Some(said) => said.code == "work-lost",
        None => {
            is_transport(status)
                || matches!(status.code(), Aborted | Cancelled | Internal | ResourceExhausted | Unknown)
        }
    }
}

/// Puts the parts in order, and asks for what the stream did not carry to its end.
async fn complete(scheduler: &Scheduler, job: Job, mut seen: Vec<Job>) -> Result<Ended> {
    let mut parts = Vec::with_capacity(job.parts.len());
    for id in &job.parts {
        let known = seen.iter().position(|part| &part.id == id).map(|index| seen.swap_remove(index));
        parts.push(match known {
            Some(part) if has_ended(part.state()) => part,
            _ => scheduler.answer(scheduler.jobs().get(v1::GetJobRequest { id: id.clone() })).await?,
        });
    }
    Ok(Ended { job, parts })
}
