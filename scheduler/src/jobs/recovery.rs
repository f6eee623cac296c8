//! Going on where an earlier scheduler stopped, and forgetting what is too old.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use futures::StreamExt;
use tokio::sync::watch;
use trireme_engine::{Code, Result};
use trireme_proto::v1::{Job, JobError, JobState};

use super::{
    JobId, Subject,
    handle::JobHandle,
    record::{Record, has_ended},
    registry::{Entry, Shared, prune, without_answer},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Shared {
    /// Reads all jobs of the journal. Those that ended are listed; all others run again.
    pub(super) async fn recover(self: &Arc<Self>, ids: Vec<JobId>) -> Result<()> {
        let mut records = self.read_all(ids).await?;
        self.forget_unaccepted(&mut records).await;

        let unfinished: Vec<JobId> = records
            .iter()
            .filter(|(_, record)| !has_ended(&record.job) && record.job.parent.is_empty())
            .map(|(id, _)| id.clone())
            .collect();
        let mut again = Vec::new();
        for id in &unfinished {
            let Some(record) = records.remove(id) else { continue };
            let part_ids: Vec<JobId> = record.job.parts.iter().filter_map(|part| part.parse().ok()).collect();
            let parts: Vec<_> = part_ids.into_iter().map(|part| (part.clone(), records.remove(&part))).collect();
            again.push((id.clone(), record, parts));
        }
        {
            let mut jobs = self.jobs.lock();
            // What is left here and has not ended is a part whose end was not written, though its pipeline's was.
            let ended = |record: Record| if has_ended(&record.job) { record.job } else { lost(record.job) };
            jobs.extend(records.into_iter().map(|(id, record)| (id, Entry::Ended(Arc::new(ended(record))))));
            prune(&mut jobs);
        }
        // Oldest first, so that jobs of one table run in the order in which they were submitted.
        for (id, record, parts) in again {
            self.run_again(id, record, parts);
        }
        self.sweep().await;
        Ok(())
    }

    async fn read_all(&self, ids: Vec<JobId>) -> Result<BTreeMap<JobId, Record>> {
        let mut records = BTreeMap::new();
        let mut read = self.journal.records(ids);
        while let Some((id, record)) = read.next().await {
            match record {
                Ok(mut record) => {
                    // Thousands of answers would not fit into memory.
                    if has_ended(&record.job) {
                        record.job = without_answer(&record.job);
                    }
                    records.insert(id, record);
                }
                // To go on without what only can't be read now would be to forget a job.
                Err(error) if error.code == Code::Storage => return Err(error),
                Err(error) => tracing::warn!(job = %id, %error, "a job of the journal is left out"),
            }
        }
        Ok(records)
    }

    /// Forgets parts whose pipeline was never written: their scheduler died before it had accepted them.
    async fn forget_unaccepted(&self, records: &mut BTreeMap<JobId, Record>) {
        let orphans: BTreeSet<JobId> = records
            .iter()
            .filter(|(_, record)| !has_ended(&record.job) && !record.job.parent.is_empty())
            .filter(|(_, record)| record.job.parent.parse().is_ok_and(|parent: JobId| !records.contains_key(&parent)))
            .map(|(id, _)| id.clone())
            .collect();
        records.retain(|id, _| !orphans.contains(id));
        self.journal.remove(&orphans.into_iter().collect::<Vec<_>>()).await;
    }

    fn run_again(self: &Arc<Self>, id: JobId, record: Record, parts: Vec<(JobId, Option<Record>)>) {
        tracing::info!(job = %id, kind = record.job.kind, name = record.job.name, "a job goes on after a restart");
        let Some(job) = self.queue_again(id.clone(), record) else { return };
        let mut over = BTreeMap::new();
        let mut live = Vec::new();
        for (part_id, record) in parts {
            let unknown = || lost(Job { id: part_id.to_string(), parent: id.to_string(), ..Job::default() });
            let ended = match record {
                Some(record) if has_ended(&record.job) => record.job,
                Some(record) => match self.queue_again(part_id.clone(), record) {
                    Some(part) => {
                        live.push(part);
                        continue;
                    }
                    None => unknown(),
                },
                None => unknown(),
            };
            let ended = Arc::new(ended);
            over.insert(part_id.clone(), watch::channel(ended.clone()).1);
            self.jobs.lock().insert(part_id, Entry::Ended(ended));
        }
        self.launch(job, live, over);
    }

    /// A job as it was submitted. None, and an error in the log, for one whose spec names nothing: it was never accepted.
    fn queue_again(&self, id: JobId, mut record: Record) -> Option<JobHandle> {
        let subject = match record.job.spec.as_ref().map(Subject::of) {
            Some(Ok(subject)) => subject,
            wrong => {
                tracing::error!(job = %id, ?wrong, "a job of the journal can't run again");
                return None;
            }
        };
        let job = std::mem::take(&mut record.job);
        let pipeline = matches!(subject, Subject::Pipeline(_));
        record.job = Job {
            state: JobState::Queued.into(),
            phase: "waits to run again: the scheduler was restarted".to_string(),
            started_at: job.started_at.filter(|_| pipeline),
            stages: Vec::new(),
            metrics: None,
            outcome: 0,
            raw_version: String::new(),
            delta_version: -1,
            answer: Vec::new(),
            answer_rows: 0,
            ..job
        };
        Some(JobHandle::begun(subject, id, record, &self.stop, true))
    }

    /// Removes jobs that are older than the retention time and have ended.
    async fn sweep(&self) {
        let ids = match self.journal.ids().await {
            Ok(ids) => ids,
            Err(error) => return tracing::warn!(%error, "can't list the journal"),
        };
        let retention = TimeDelta::from_std(self.options.retention).unwrap_or(TimeDelta::MAX);
        let Some(oldest) = Utc::now().checked_sub_signed(retention) else { return };
        let old = {
            let mut jobs = self.jobs.lock();
            // All jobs that have not ended are in memory, so what is not there has ended.
            let live = |id: &JobId| matches!(jobs.get(id), Some(Entry::Live(_)));
            let old: Vec<JobId> = ids.into_iter().filter(|id| id.moment() < oldest && !live(id)).collect();
            for id in &old {
                jobs.remove(id);
            }
            old
        };
        if !old.is_empty() {
            tracing::info!(jobs = old.len(), "old jobs are removed from the journal");
            self.journal.remove(&old).await;
        }
    }

    pub(super) async fn sweep_daily(self: Arc<Self>) {
        while tokio::time::timeout(DAY, self.stop.cancelled()).await.is_err() {
            self.sweep().await;
        }
    }
}

/// A part whose end the journal has lost.
fn lost(mut part: Job) -> Job {
    part.delta_version = -1;
    part.set_state(JobState::Failed);
    part.error = Some(JobError {
        code: Code::Storage.as_str().to_string(),
        message: "how it ended can't be read from the journal".to_string(),
        hint: "the scheduler's log says more; submit the pipeline again".to_string(),
    });
    part
}
