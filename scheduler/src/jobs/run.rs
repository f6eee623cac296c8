//! The lives of jobs: waiting, running, ending. One task leads each job from its first state to its last.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, watch},
    task::JoinError,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use trireme_engine::{Code, Error, Result};
use trireme_proto::v1::{Job, JobSpec, JobState, Outcome};

use super::{
    handle::{Ending, JobHandle, Queued, Why},
    queue::Place,
    record::has_ended,
    registry::Shared,
    subject::label,
    subject::located,
};

/// Time before the end of a job is written again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What others see of a job.
pub(crate) type Seen = watch::Receiver<Arc<Job>>;

/// What a job holds while it runs.
struct Turn {
    _place: Option<Place>,
    _permit: OwnedSemaphorePermit,
}

impl Shared {
    /// Leads one download, load, merge or question. `place` is its place before what it writes, when it has one already.
    pub async fn lead(self: Arc<Self>, job: JobHandle, place: Option<Place>, dependencies: Vec<Seen>) {
        let queued = Queued::new(job.clone());
        let turn = select! {
            biased;
            () = job.cancelled().cancelled() => {
                // A scheduler that stops leaves the job queued in the journal.
                if job.why().is_some() {
                    self.finish(queued.cancel(cancelled("waited"))).await;
                }
                return;
            }
            turn = self.turn(&job, place, dependencies) => turn,
        };
        let turn = match turn {
            Ok(turn) => turn,
            Err(reason) => return self.finish(queued.skip(reason)).await,
        };

        let keeper = Keeper::start(&self, &job);
        let running = queued.start();
        let result = self.work_on(&job).await;
        let phase = job.snapshot().phase.clone();
        keeper.stop().await;
        let ending = match (result, job.why()) {
            (Ok(()), _) => running.succeed(),
            (Err(error), Some(Why::Asked)) => running.cancel(while_stopping(cancelled("ran"), error)),
            (Err(error), Some(Why::Deadline)) => running.fail(while_stopping(self.too_slow(), error)),
            // A scheduler that stops leaves the job running in the journal.
            (Err(_), None) if self.stop.is_cancelled() => return,
            (Err(error), None) => running.fail(error),
        };
        tracing::debug!(job = %job.id(), last_phase = phase, "the work has ended");
        let succeeded = ending.job.state() == JobState::Succeeded;
        self.finish(ending).await;
        drop(turn);
        if succeeded {
            self.follow_up(&job).await;
        }
    }

    /// Waits for the job's dependencies, then for what it writes, for executors and for a free slot. Err: why it is to be skipped.
    async fn turn(&self, job: &JobHandle, place: Option<Place>, dependencies: Vec<Seen>) -> Result<Turn, String> {
        let unfinished: Vec<String> = dependencies.iter().filter_map(|job| waited_for(&job.borrow())).collect();
        if !unfinished.is_empty() {
            job.phase(format!("waits for {}", unfinished.join(", ")));
        }
        try_join_all(dependencies.into_iter().map(success)).await?;

        let mut place = place.or_else(|| self.join_queue(job));
        if let Some(place) = &mut place {
            place.first(|first| job.phase(format!("waits for {}", self.describe(first)))).await;
        }
        let mut executors = self.executors.clone();
        if *executors.borrow() == 0 {
            job.phase("waits for an executor");
        }
        // Err: nobody counts executors any more, because the scheduler ends.
        let _ = executors.wait_for(|live| *live > 0).await;
        if self.slots.available_permits() == 0 {
            job.phase(format!("waits for one of {} running jobs to end", self.options.max_running));
        }
        let permit = self.slots.clone().acquire_owned().await.map_err(|closed| closed.to_string())?;
        Ok(Turn { _place: place, _permit: permit })
    }

    /// The job's place before what it writes.
    pub fn join_queue(&self, job: &JobHandle) -> Option<Place> {
        let target = job.subject().target()?;
        Some(self.queues.join(target, job.id().clone()))
    }

    /// Has the work done in a task of its own, so that a panic or a hang in it stays there.
    async fn work_on(&self, job: &JobHandle) -> Result<()> {
        let task = tokio::spawn({
            let (work, job) = (self.work.clone(), job.clone());
            async move {
                match job.snapshot().spec.as_ref() {
                    Some(spec) => work.run(spec, &job).await.map_err(|error| placed(spec, error)),
                    None => Err(Error::new(Code::Internal, "a job without a spec")),
                }
            }
        });
        let mut task = AbortOnDropHandle::new(task);
        let joined = select! {
            joined = &mut task => joined,
            () = job.cancelled().cancelled() => self.wind_down(task).await,
            () = sleep(self.options.deadline) => {
                job.cancel(Why::Deadline);
                self.wind_down(task).await
            }
        };
        joined.unwrap_or_else(|error| Err(broken(error)))
    }

    /// Gives the work time to stop by itself, then aborts it.
    async fn wind_down(&self, mut task: AbortOnDropHandle<Result<()>>) -> Result<Result<()>, JoinError> {
        match timeout(self.options.cancel_grace, &mut task).await {
            Ok(joined) => joined,
            Err(_) => {
                task.abort();
                task.await
            }
        }
    }

    fn too_slow(&self) -> Error {
        let deadline = humantime::format_duration(self.options.deadline);
        Error::new(Code::DeadlineExceeded, format!("took longer than {deadline}"))
            .hint("the setting `job_deadline` of the scheduler says how long a job may run")
    }

    /// Leads a pipeline. Its parts are led by themselves.
    pub async fn lead_pipeline(self: Arc<Self>, job: JobHandle, parts: Vec<Seen>, live: Vec<JobHandle>) {
        let keeper = Keeper::start(&self, &job);
        let running = Queued::new(job.clone()).start();
        let mut ends: FuturesUnordered<_> = parts.iter().cloned().map(end).collect();
        let mut told = false;
        while !ends.is_empty() {
            job.phase(format!("{} of {} parts have ended", parts.len() - ends.len(), parts.len()));
            select! {
                _ = ends.next() => {}
                () = job.cancelled().cancelled(), if !told => {
                    if job.why().is_none() {
                        return keeper.stop().await;
                    }
                    told = true;
                    live.iter().for_each(|part| part.cancel(Why::Asked));
                }
            }
        }
        keeper.stop().await;
        let ended: Vec<Arc<Job>> = parts.iter().map(|part| part.borrow().clone()).collect();
        job.update(|job| job.set_outcome(outcome(&ended)));
        let in_state = |state| ended.iter().filter(move |part| part.state() == state);
        let ending = if let Some(first) = in_state(JobState::Failed).next() {
            let code = first.error.as_ref().and_then(|error| Code::parse(&error.code)).unwrap_or(Code::Internal);
            let hint = format!("`trireme jobs show {}` says why", first.id);
            running.fail(Error::new(code, summary(&ended)).hint(hint))
        } else if in_state(JobState::Cancelled).next().is_some() {
            running.cancel(Error::new(Code::Cancelled, summary(&ended)))
        } else {
            running.succeed()
        };
        self.finish(ending).await;
    }

    /// Writes down that a job has ended, then says so. It has not ended before that is written: until then its place is not given up, and nobody is
    /// told, so that a scheduler that dies meanwhile leaves a job that nothing came after, which the next one may run again.
    async fn finish(&self, ending: Ending) {
        let id = ending.handle().id().clone();
        let record = ending.handle().record(&ending.job);
        let mut wait = FIRST_WAIT;
        while let Err(error) = self.journal.write(&id, &record).await {
            tracing::error!(job = %id, %error, "can't write the end of a job into the journal; it is tried again");
            ending.handle().phase("waits for storage, to write down how it ended");
            if timeout(wait, self.stop.cancelled()).await.is_ok() {
                return;
            }
            wait = LONGEST_WAIT.min(wait * 2);
        }
        let job = ending.publish();
        let error = job.error.as_ref().map(|error| format!("{}: {}", error.code, error.message));
        let state = job.state().as_str_name();
        match job.state() {
            JobState::Failed => {
                tracing::error!(job = %id, kind = job.kind, name = job.name, state, error, "job failed")
            }
            _ => tracing::info!(job = %id, kind = job.kind, name = job.name, state, error, "job ended"),
        }
        self.retire(&id, &job);
    }
}

/// Keeps the journal's record of a running job up to date, not too often.
struct Keeper {
    enough: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Keeper {
    fn start(shared: &Arc<Shared>, job: &JobHandle) -> Self {
        let enough = CancellationToken::new();
        let (shared, job, mut seen) = (shared.clone(), job.clone(), job.subscribe());
        let task = tokio::spawn({
            let enough = enough.clone();
            async move {
                loop {
                    select! {
                        biased;
                        () = enough.cancelled() => return,
                        changed = seen.changed() => if changed.is_err() { return },
                    }
                    let record = job.record(&seen.borrow_and_update());
                    if let Err(error) = shared.journal.write(job.id(), &record).await {
                        tracing::warn!(job = %job.id(), %error, "can't write a job's progress into the journal");
                    }
                    let _ = timeout(shared.options.journal_interval, enough.cancelled()).await;
                }
            }
        });
        Self { enough, task }
    }

    /// Returns when no write is under way any more, so that the last state is written last.
    async fn stop(self) {
        self.enough.cancel();
        let _ = self.task.await;
    }
}

/// The job's last state. A job whose handle is gone without an end (a defect) is taken as it was seen last.
async fn end(mut job: Seen) -> Arc<Job> {
    let _ = job.wait_for(|job| has_ended(job)).await;
    job.borrow().clone()
}

async fn success(dependency: Seen) -> Result<(), String> {
    let job = end(dependency).await;
    let became = match job.state() {
        JobState::Succeeded => return Ok(()),
        JobState::Cancelled => "was cancelled",
        JobState::Skipped => "was skipped",
        _ => "failed",
    };
    Err(format!("depends on {}, which {became}", label(&job.kind, &job.name)))
}

fn waited_for(job: &Job) -> Option<String> {
    (!has_ended(job)).then(|| format!("{} (job {})", label(&job.kind, &job.name), job.id))
}

fn cancelled(did: &str) -> Error {
    Error::new(Code::Cancelled, format!("cancelled while it {did}"))
}

/// Keeps what the work said when it was stopped, if that is more than that it was.
fn while_stopping(mut reason: Error, error: Error) -> Error {
    if !matches!(error.code, Code::Cancelled | Code::DeadlineExceeded) {
        reason.message = format!("{}; when stopped it said: {}", reason.message, error.message);
    }
    reason
}

/// The error of work that panicked or was aborted.
fn broken(error: JoinError) -> Error {
    let Ok(panic) = error.try_into_panic() else {
        return Error::new(Code::Cancelled, "did not stop in time and was aborted");
    };
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Error::new(Code::Internal, format!("the job's work panicked: {}", text.unwrap_or("no message")))
        .hint("this is a defect of Trireme; please report it with the scheduler's log")
}

fn outcome(parts: &[Arc<Job>]) -> Outcome {
    let has = |outcome| parts.iter().any(|part| part.state() == JobState::Succeeded && part.outcome() == outcome);
    match () {
        () if has(Outcome::Applied) => Outcome::Applied,
        () if has(Outcome::AlreadyApplied) => Outcome::AlreadyApplied,
        () if has(Outcome::AlreadyCurrent) => Outcome::AlreadyCurrent,
        () if has(Outcome::NothingDelivered) => Outcome::NothingDelivered,
        () => Outcome::Unspecified,
    }
}

/// `2 of 7 parts failed: merge of a.b, question c.d; 1 skipped: question e.f`
fn summary(parts: &[Arc<Job>]) -> String {
    let mut groups = Vec::new();
    for (state, word) in
        [(JobState::Failed, "failed"), (JobState::Cancelled, "cancelled"), (JobState::Skipped, "skipped")]
    {
        let labels: Vec<_> =
            parts.iter().filter(|part| part.state() == state).map(|part| label(&part.kind, &part.name)).collect();
        if labels.is_empty() {
            continue;
        }
        let of = if groups.is_empty() { format!(" of {} parts", parts.len()) } else { String::new() };
        groups.push(format!("{}{of} {word}: {}", labels.len(), labels.join(", ")));
    }
    groups.join("; ")
}

/// Puts the place in the pipeline file before an error that a change of the file may mend.
fn placed(spec: &JobSpec, error: Error) -> Error {
    match error.code {
        Code::InvalidSpec | Code::InvalidSql | Code::SchemaMismatch | Code::NullKey | Code::DuplicateKey => {
            located(spec, error)
        }
        _ => error,
    }
}
