//! Executor slots, counted.
//!
//! Ballista 55 never gives back the slots of tasks that ran on surviving executors when their stage was rolled back. With few slots, the
//! next job then waits for ever. [`CountedSlots`] wraps the cluster state and counts what is bound and given back; [`CountedSlots::leaked`]
//! compares with what really runs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ballista_core::{
    JobId,
    error::Result,
    serde::{
        protobuf::{ExecutorHeartbeat, task_status},
        scheduler::{ExecutorData, ExecutorMetadata},
    },
};
use ballista_scheduler::{
    cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot, memory::InMemoryClusterState},
    config::TaskDistributionPolicy,
    state::{execution_stage::ExecutionStage, task_manager::JobInfoCache},
};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Slots by executor id.
type Slots = HashMap<String, u32>;

/// Ballista's in-memory cluster state, with a count of the slots in use and of the executors there are.
pub struct CountedSlots {
    inner: InMemoryClusterState,
    used: Mutex<Slots>,
    total: Mutex<Slots>,
    executors: watch::Sender<usize>,
}

impl CountedSlots {
    /// A cluster without executors.
    pub fn new() -> Self {
        Self {
            inner: InMemoryClusterState::default(),
            used: Mutex::default(),
            total: Mutex::default(),
            executors: watch::Sender::new(0),
        }
    }

    /// Number of registered executors, as it changes.
    pub fn executors(&self) -> watch::Receiver<usize> {
        self.executors.subscribe()
    }

    /// Slots of all registered executors together.
    pub fn vcores(&self) -> usize {
        self.total.lock().values().map(|slots| *slots as usize).sum()
    }

    /// Slots of all registered executors in which no task runs.
    pub fn free(&self) -> usize {
        let used: usize = self.used.lock().values().map(|slots| *slots as usize).sum();
        self.vcores().saturating_sub(used)
    }

    /// Slots that are in use though no task of any of these jobs runs in them.
    pub async fn leaked(&self, jobs: &HashMap<JobId, JobInfoCache>) -> Slots {
        let mut leaked = self.used.lock().clone();
        for job in jobs.values() {
            let graph = job.execution_graph.read().await;
            for stage in graph.stages().values() {
                let ExecutionStage::Running(stage) = stage else { continue };
                for task in &stage.task_infos {
                    if let task_status::Status::Running(running) = &task.task_status
                        && let Some(slots) = leaked.get_mut(&running.executor_id)
                    {
                        *slots = slots.saturating_sub(task.vcores_consumed);
                    }
                }
            }
        }
        leaked.retain(|_, slots| *slots > 0);
        leaked
    }
}

#[async_trait::async_trait]
impl ClusterState for CountedSlots {
    async fn init(&self) -> Result<()> {
        self.inner.init().await
    }

    async fn bind_schedulable_tasks(
        &self,
        distribution: TaskDistributionPolicy,
        active_jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let bound = self.inner.bind_schedulable_tasks(distribution, active_jobs, executors).await?;
        let mut used = self.used.lock();
        for (executor, task) in &bound {
            *used.entry(executor.clone()).or_default() += task.vcores_consumed;
        }
        Ok(bound)
    }

    /// Gives back at most what is in use: a slot that was found leaked and given back must not be given back again when Ballista, late, does.
    async fn unbind_tasks(&self, executor_slots: Vec<ExecutorSlot>) -> Result<()> {
        let given_back = {
            let mut used = self.used.lock();
            let give_back = |(executor, slots): ExecutorSlot| {
                let used = used.get_mut(&executor)?;
                let slots = slots.min(*used);
                *used -= slots;
                (slots > 0).then_some((executor, slots))
            };
            executor_slots.into_iter().filter_map(give_back).collect()
        };
        self.inner.unbind_tasks(given_back).await
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        let (id, vcores) = (metadata.id.clone(), spec.total_vcores);
        self.inner.register_executor(metadata, spec).await?;
        self.used.lock().insert(id.clone(), 0);
        self.total.lock().insert(id, vcores);
        self.executors.send_replace(self.total.lock().len());
        Ok(())
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.inner.save_executor_metadata(metadata).await
    }

    async fn get_executor_metadata(&self, executor_id: &str) -> Result<ExecutorMetadata> {
        self.inner.get_executor_metadata(executor_id).await
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.inner.registered_executor_metadata().await
    }

    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        self.inner.save_executor_heartbeat(heartbeat).await
    }

    async fn remove_executor(&self, executor_id: &str) -> Result<()> {
        self.used.lock().remove(executor_id);
        self.total.lock().remove(executor_id);
        self.executors.send_replace(self.total.lock().len());
        self.inner.remove_executor(executor_id).await
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        self.inner.executor_heartbeats()
    }

    fn get_executor_heartbeat(&self, executor_id: &str) -> Option<ExecutorHeartbeat> {
        self.inner.get_executor_heartbeat(executor_id)
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.inner.cluster_state_events().await
    }
}
