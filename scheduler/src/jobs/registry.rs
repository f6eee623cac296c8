//! All jobs: submitting, looking up, watching and cancelling them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trireme_engine::{Code, Error, Result, Storage};
use trireme_proto::v1::{Job, JobSpec, JobState, job_spec::Spec};

use super::{
    JobId, Promised, Subject, Work,
    handle::{JobHandle, Why, new_job},
    id::JobIds,
    journal::Journal,
    queue::Queues,
    record::{Record, has_ended},
    run::Seen,
    subject::located,
};
use crate::pipeline;

/// Top-level jobs that have ended and are kept in memory and in lists, without their answers; older ones are read from the journal.
const KEPT: usize = 500;

/// Jobs that may wait or run at one time.
const MOST_LIVE: usize = 10_000;

/// How jobs are run.
#[derive(Debug, Clone)]
pub struct JobOptions {
    /// Jobs that run at one time; pipelines do not count, their parts do.
    pub max_running: usize,
    /// Longest time that a job may run.
    pub deadline: Duration,
    /// Age, counted from its submission, at which a job that has ended is forgotten.
    pub retention: Duration,
    /// Least time between two journal writes of one running job's progress.
    pub journal_interval: Duration,
    /// Time that work has to stop by itself when its job is cancelled, before it is aborted.
    pub cancel_grace: Duration,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            max_running: 8,
            deadline: Duration::from_secs(6 * 3600),
            retention: Duration::from_secs(30 * 24 * 3600),
            journal_interval: Duration::from_secs(3),
            cancel_grace: Duration::from_secs(20),
        }
    }
}

/// A job as it is now, then after every change, up to its end. A slow reader gets the latest state only.
pub type JobStream = BoxStream<'static, Arc<Job>>;

/// All jobs of a storage root. Cheap to clone. There must not be two of one root at one time. Its jobs go on when it is dropped: see
/// [`JobRegistry::stop`].
#[derive(Clone)]
pub struct JobRegistry(Arc<Shared>);

pub(crate) struct Shared {
    pub options: JobOptions,
    pub work: Arc<dyn Work>,
    pub executors: watch::Receiver<usize>,
    pub journal: Journal,
    pub queues: Arc<Queues>,
    pub slots: Arc<Semaphore>,
    /// Cancelled when the scheduler stops.
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub(super) ids: JobIds,
    pub(super) jobs: Mutex<BTreeMap<JobId, Entry>>,
}

#[derive(Clone)]
pub(super) enum Entry {
    Live(JobHandle),
    /// Without its answer.
    Ended(Arc<Job>),
}

/// A job to be led, with the jobs that it waits for.
pub(super) struct Start {
    pub job: JobHandle,
    pub dependencies: Vec<Seen>,
}

impl JobRegistry {
    /// Reads the journal, runs again what had not ended, and forgets what is too old. Jobs wait while `executors`, the number of those
    /// that live, is 0. Errors: `Storage` when the journal can't be read.
    pub async fn open(
        storage: Storage,
        work: Arc<dyn Work>,
        executors: watch::Receiver<usize>,
        options: JobOptions,
    ) -> Result<Self> {
        let journal = Journal::new(storage);
        let ids = journal.ids().await?;
        let shared = Arc::new(Shared {
            work,
            executors,
            queues: Arc::default(),
            slots: Arc::new(Semaphore::new(options.max_running.max(1))),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ids: JobIds::after(ids.last()),
            jobs: Mutex::default(),
            journal,
            options,
        });
        shared.recover(ids).await?;
        shared.tasks.spawn(shared.clone().sweep_daily());
        Ok(Self(shared))
    }

    /// Plans and queues a job. When this returns a job, it is in the journal and will come to an end.
    pub async fn submit(&self, spec: JobSpec) -> Result<Arc<Job>> {
        let shared = &self.0;
        let subject = Subject::of(&spec).map_err(|error| located(&spec, error))?;
        if shared.live() >= MOST_LIVE {
            return Err(Error::new(Code::ResourcesExhausted, format!("{MOST_LIVE} jobs wait or run already")));
        }
        let parts = if let Some(Spec::Pipeline(pipeline)) = &spec.spec {
            pipeline::plan(pipeline, shared.work.as_ref()).await?
        } else {
            let checked = shared.work.check(&spec, &Promised::default()).await;
            checked.map_err(|error| located(&spec, error))?;
            Vec::new()
        };
        if shared.stop.is_cancelled() {
            return Err(Error::new(Code::WorkLost, "the scheduler is stopping").hint("submit again when it is back"));
        }
        // In a task of its own: a client that goes away now must not leave a job that is in the journal and not in the queue.
        let accepted = shared.tasks.spawn(shared.clone().accept(subject, spec, parts)).await;
        accepted.unwrap_or_else(|error| Err(Error::new(Code::Internal, error.to_string())))
    }

    /// A job, with its answer.
    pub async fn get(&self, id: &JobId) -> Result<Arc<Job>> {
        let known = match self.0.entry(id) {
            Some(Entry::Live(job)) => return Ok(job.snapshot()),
            Some(Entry::Ended(job)) if !has_answer(&job) => return Ok(job),
            Some(Entry::Ended(job)) => Some(job),
            None => None,
        };
        match (self.0.journal.read(id).await, known) {
            // Its end could not be written.
            (Ok(record), Some(known)) if !has_ended(&record.job) => Ok(known),
            (Ok(record), _) => Ok(Arc::new(record.job)),
            (Err(error), _) => Err(error),
        }
    }

    /// At most `limit` jobs without their answers, newest first.
    pub fn list(&self, limit: usize, include_parts: bool) -> Vec<Job> {
        let jobs = self.0.jobs.lock();
        jobs.values()
            .rev()
            .map(|entry| match entry {
                Entry::Live(job) => job.snapshot(),
                Entry::Ended(job) => job.clone(),
            })
            .filter(|job| include_parts || job.parent.is_empty())
            .take(limit)
            .map(|job| without_answer(&job))
            .collect()
    }

    /// A job's changes; a pipeline's with those of its parts. The pipeline's end comes last.
    pub async fn watch(&self, id: &JobId) -> Result<JobStream> {
        let Some(Entry::Live(job)) = self.0.entry(id) else {
            let job = self.get(id).await?;
            let parts = self.ended_parts(&job).await;
            return Ok(stream::iter(parts).chain(stream::iter([job])).boxed());
        };
        let (own, parts) = (job.subscribe(), job.snapshot().parts.clone());
        if parts.is_empty() {
            return Ok(until_end(own));
        }
        // The pipeline ends after its parts, but their streams are polled in no order.
        let last = own.clone();
        let mut streams = vec![until_end(own).filter(|job| std::future::ready(!has_ended(job))).boxed()];
        for part in parts.iter().filter_map(|part| part.parse().ok()) {
            streams.push(match self.0.entry(&part) {
                Some(Entry::Live(part)) => until_end(part.subscribe()),
                _ => stream::iter(self.get(&part).await).boxed(),
            });
        }
        let end = stream::once(async move { last.borrow().clone() });
        Ok(stream::select_all(streams).chain(end).boxed())
    }

    async fn ended_parts(&self, job: &Job) -> Vec<Arc<Job>> {
        let mut parts = Vec::new();
        for part in job.parts.iter().filter_map(|part| part.parse().ok()) {
            parts.extend(self.get(&part).await);
        }
        parts
    }

    /// Tells a job to stop and waits until it has. A job that has ended stays as it is.
    pub async fn cancel(&self, id: &JobId) -> Result<Arc<Job>> {
        let Some(Entry::Live(job)) = self.0.entry(id) else { return self.get(id).await };
        let mut seen = job.subscribe();
        job.cancel(Why::Asked);
        // The work is aborted after the grace time, so this takes longer only when the journal can't be written.
        let patience = self.0.options.cancel_grace + Duration::from_secs(10);
        let _ = timeout(patience, seen.wait_for(|job| has_ended(job))).await;
        Ok(job.snapshot())
    }

    /// Stops all work; the next scheduler goes on with it. Returns when nothing runs any more.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Shared {
    fn entry(&self, id: &JobId) -> Option<Entry> {
        self.jobs.lock().get(id).cloned()
    }

    fn live(&self) -> usize {
        self.jobs.lock().values().filter(|entry| matches!(entry, Entry::Live(_))).count()
    }

    /// A job in another job's phase.
    pub fn describe(&self, id: &JobId) -> String {
        match self.entry(id) {
            Some(Entry::Live(job)) => format!("{} (job {id})", job.subject()),
            _ => format!("job {id}"),
        }
    }

    /// Gives a job and its parts their ids, writes them down and starts them.
    async fn accept(self: Arc<Self>, subject: Subject, spec: JobSpec, plan: Vec<pipeline::Part>) -> Result<Arc<Job>> {
        let id = self.ids.next();
        let mut whole = Record { job: new_job(&id, &subject, spec, None), depends_on: Vec::new() };
        let part_ids: Vec<JobId> = plan.iter().map(|_| self.ids.next()).collect();
        whole.job.parts = part_ids.iter().map(ToString::to_string).collect();
        let parts: Vec<(Subject, JobId, Record)> = plan
            .into_iter()
            .zip(&part_ids)
            .map(|(part, part_id)| {
                let job = new_job(part_id, &part.subject, part.spec, Some(&id));
                let depends_on = part.after.iter().filter_map(|at| part_ids.get(*at).cloned()).collect();
                (part.subject, part_id.clone(), Record { job, depends_on })
            })
            .collect();
        // The pipeline itself last: parts whose pipeline is not in the journal were never accepted.
        self.journal.write_all(parts.iter().map(|(_, id, record)| (id, record))).await?;
        self.journal.write(&id, &whole).await?;

        let job = JobHandle::new(subject, id, whole, &self.stop);
        let accepted = job.snapshot();
        let parts: Vec<JobHandle> =
            parts.into_iter().map(|(subject, id, record)| JobHandle::new(subject, id, record, &self.stop)).collect();
        tracing::info!(job = %job.id(), kind = accepted.kind, name = accepted.name, parts = parts.len(), "job accepted");
        self.launch(job, parts, BTreeMap::new());
        Ok(accepted)
    }

    /// Submits what a job that succeeded gives rise to, unless the same waits or runs already.
    pub(super) async fn follow_up(self: Arc<Self>, job: &JobHandle) {
        let job = job.snapshot();
        let Some(spec) = &job.spec else { return };
        let Some(next) = self.work.follow_up(spec, &job).await else { return };
        let Ok(subject) = Subject::of(&next) else { return };
        let is_live = |entry: &Entry| matches!(entry, Entry::Live(live) if *live.subject() == subject);
        if self.stop.is_cancelled() || self.jobs.lock().values().any(is_live) {
            return;
        }
        if let Err(error) = self.accept(subject, next, Vec::new()).await {
            tracing::warn!(after = job.id, %error, "a job that follows another could not be submitted");
        }
    }

    /// Starts a job and its parts. `ended` are parts that ended under an earlier scheduler.
    pub(super) fn launch(self: &Arc<Self>, job: JobHandle, parts: Vec<JobHandle>, ended: BTreeMap<JobId, Seen>) {
        let mut seen = ended;
        seen.extend(parts.iter().map(|part| (part.id().clone(), part.subscribe())));
        let mut jobs = self.jobs.lock();
        for live in parts.iter().chain([&job]) {
            jobs.insert(live.id().clone(), Entry::Live(live.clone()));
        }
        drop(jobs);
        if !matches!(job.subject(), Subject::Pipeline(_)) {
            return self.start(Start { job, dependencies: Vec::new() });
        }
        for part in &parts {
            let dependencies = part.depends_on().iter().filter_map(|id| seen.get(id).cloned()).collect();
            self.start(Start { job: part.clone(), dependencies });
        }
        let ids: Vec<JobId> = job.snapshot().parts.iter().filter_map(|id| id.parse().ok()).collect();
        let all = ids.iter().filter_map(|id| seen.get(id).cloned()).collect();
        self.tasks.spawn(self.clone().lead_pipeline(job, all, parts));
    }

    fn start(self: &Arc<Self>, start: Start) {
        // A job that waits for no other takes its place now, so that jobs run in the order in which they were submitted.
        let place = if start.dependencies.is_empty() { self.join_queue(&start.job) } else { None };
        self.tasks.spawn(self.clone().lead(start.job, place, start.dependencies));
    }

    /// Moves a job to those that have ended, and the oldest of them out of memory.
    pub fn retire(&self, id: &JobId, job: &Job) {
        let mut jobs = self.jobs.lock();
        jobs.insert(id.clone(), Entry::Ended(Arc::new(without_answer(job))));
        prune(&mut jobs);
    }
}

/// Lets go of what ended before the newest [`KEPT`] top-level jobs were submitted. A part's id is later than its pipeline's.
pub(super) fn prune(jobs: &mut BTreeMap<JobId, Entry>) {
    if jobs.len() <= KEPT {
        return;
    }
    let is_top = |entry: &Entry| match entry {
        Entry::Live(job) => job.snapshot().parent.is_empty(),
        Entry::Ended(job) => job.parent.is_empty(),
    };
    let top = jobs.iter().rev().filter(|(_, entry)| is_top(entry)).map(|(id, _)| id);
    if let Some(oldest) = top.take(KEPT).last().cloned() {
        jobs.retain(|id, entry| *id >= oldest || matches!(entry, Entry::Live(_)));
    }
}

/// A copy without its answer.
pub(super) fn without_answer(job: &Job) -> Job {
    // Not through a clone of the answer, which may be large.
    Job {
        id: job.id.clone(),
        kind: job.kind.clone(),
        name: job.name.clone(),
        parent: job.parent.clone(),
        phase: job.phase.clone(),
        stages: job.stages.clone(),
        error: job.error.clone(),
        raw_version: job.raw_version.clone(),
        raw_versions: job.raw_versions.clone(),
        answer: Vec::new(),
        parts: job.parts.clone(),
        spec: job.spec.clone(),
        state: job.state,
        outcome: job.outcome,
        submitted_at: job.submitted_at,
        started_at: job.started_at,
        ended_at: job.ended_at,
        metrics: job.metrics,
        delta_version: job.delta_version,
        answer_rows: job.answer_rows,
        quarantine: job.quarantine.clone(),
        checks: job.checks.clone(),
        schema: job.schema.clone(),
        skipped: job.skipped.clone(),
    }
}

/// Whether the journal has an answer for a job that has ended; it may be one of no rows.
fn has_answer(job: &Job) -> bool {
    job.kind == "question" && job.state() == JobState::Succeeded
}

/// States up to and with the last one.
fn until_end(seen: Seen) -> JobStream {
    let states = |states: Option<WatchStream<Arc<Job>>>| async move {
        let mut states = states?;
        let job = states.next().await?;
        let rest = (!has_ended(&job)).then_some(states);
        Some((job, rest))
    };
    stream::unfold(Some(WatchStream::new(seen)), states).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_jobs_stay_in_memory_with_their_parts() {
        let ids = JobIds::default();
        let (mut jobs, mut top) = (BTreeMap::new(), Vec::new());
        for _ in 0..KEPT + 7 {
            let (id, part) = (ids.next(), ids.next());
            let ended = |parent: String| Entry::Ended(Arc::new(Job { parent, ..Job::default() }));
            jobs.insert(part, ended(id.to_string()));
            jobs.insert(id.clone(), ended(String::new()));
            top.push(id);
        }
        let waiting = top[2].clone();
        let subject = Subject::Pipeline("p".into());
        let record = Record { job: new_job(&waiting, &subject, JobSpec::default(), None), depends_on: Vec::new() };
        let live = JobHandle::new(subject, waiting.clone(), record, &CancellationToken::new());
        jobs.insert(waiting.clone(), Entry::Live(live));
        prune(&mut jobs);
        assert_eq!(jobs.len(), 2 * KEPT + 1);
        assert_eq!(jobs.keys().take(2).collect::<Vec<_>>(), [&waiting, &top[7]]);
    }
}
