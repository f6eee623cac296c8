//! Planning sessions: one for each job, all over the storage root's one store client.

use std::sync::Arc;

use datafusion::{execution::runtime_env::RuntimeEnv, prelude::SessionContext};
use trireme_engine::{
    Result, Storage,
    delta::DataFiles,
    session::{SessionOptions, session_config, session_state},
};

use crate::cluster::Cluster;

/// Bytes of one task, at most about: more tasks than slots, so that a slow one does not hold up the stage.
const BYTES_OF_A_TASK: u64 = 1 << 30;

/// Bytes of files, in all tasks together, that a join may hold in memory; unpacked they are about four times that.
const HASHED_BYTES: u64 = 64 << 20;

/// How plans are made.
#[derive(Debug, Clone)]
pub struct Planning {
    /// Time zone of timestamps that have no offset.
    pub time_zone: String,
    /// Partitions of a shuffle; 0: as many as the cluster has slots.
    pub target_partitions: usize,
    /// Raw or table bytes that are worth a task of their own: a task costs a round trip, so small work gets few.
    pub task_bytes: u64,
    /// Bytes of a join's side up to which it goes to every executor whole.
    pub broadcast_bytes: u64,
}

/// Makes planning sessions.
#[derive(Clone)]
pub struct Sessions {
    cluster: Cluster,
    runtime: Arc<RuntimeEnv>,
    planning: Planning,
}

impl Sessions {
    /// Sessions over a storage root.
    pub fn new(cluster: Cluster, storage: &Storage, planning: Planning) -> Result<Self> {
        let runtime = Arc::new(RuntimeEnv::default());
        runtime.register_object_store(storage.object_store_url()?.as_ref(), storage.store());
        Ok(Self { cluster, runtime, planning })
    }

    /// A session without tables, whose plans have as many partitions as `bytes` of input are worth.
    pub fn open(&self, bytes: u64) -> Result<SessionContext> {
        let slots = match self.planning.target_partitions {
            0 => self.cluster.vcores().max(1),
            partitions => partitions,
        };
        let large = usize::try_from(bytes.div_ceil(BYTES_OF_A_TASK)).unwrap_or(usize::MAX);
        let worth = usize::try_from(bytes.div_ceil(self.planning.task_bytes.max(1))).unwrap_or(usize::MAX);
        self.with_partitions(worth.clamp(1, slots.max(large)))
    }

    /// A session to join files. No side is broadcast: of an outer join each task would give the rows without a partner. Where neither side
    /// fits into memory, both are sorted, which spills; a hash join does not.
    pub fn open_to_join(&self, sides: &[&DataFiles]) -> Result<SessionContext> {
        let session = self.open(sides.iter().map(|side| side.bytes()).sum())?;
        let smaller = sides.iter().map(|side| side.bytes()).min().unwrap_or(0);
        let state = session.state_ref();
        let mut state = state.write();
        let options = &mut state.config_mut().options_mut().optimizer;
        options.hash_join_single_partition_threshold = 0;
        options.hash_join_single_partition_threshold_rows = 0;
        options.prefer_hash_join = smaller <= HASHED_BYTES;
        drop(state);
        Ok(session)
    }

    /// A session for small local work in the scheduler itself.
    pub fn local(&self) -> Result<SessionContext> {
        self.with_partitions(1)
    }

    /// A session whose plans have this many partitions.
    pub fn with_partitions(&self, target_partitions: usize) -> Result<SessionContext> {
        let options = SessionOptions {
            time_zone: self.planning.time_zone.clone(),
            target_partitions,
            // A table is cut once it is worth more than two tasks.
            smallest_split: self.planning.task_bytes.saturating_mul(5) / 2,
            broadcast_bytes: self.planning.broadcast_bytes,
            ..SessionOptions::default()
        };
        Ok(SessionContext::new_with_state(session_state(session_config(&options), self.runtime.clone())?))
    }
}
