//! Plan nodes that run in executors, and the codec that carries them there.

mod asked;
mod codec;
mod distribute;
mod keep;
mod pushdown;
mod stamp;
mod task;
mod travel;

use tokio_util::sync::CancellationToken;

pub use asked::Asked;
pub use codec::TriremeCodec;
pub use distribute::distributable;
pub use keep::KeepExec;
pub use pushdown::physical_optimizer_rules;
pub use stamp::{StampExec, Stamped};
pub use task::{Task, TaskExec, task_outcomes, task_plan};
#[cfg(test)]
pub(crate) use travel::executor_context;
pub use travel::{check_travels, over_the_wire};

/// What a task knows of itself. An executor puts it into the session configuration's extensions before it runs a task; nodes read it from
/// there. Absent outside executors.
#[derive(Debug, Clone, Default)]
pub struct TaskScope {
    /// Cancelled when the task is aborted: Ballista aborts a task's future, but what that future has spawned goes on. Writers must look.
    pub cancel: CancellationToken,
    /// Partition of the whole stage, by the task's own partition index: a task sees only its slice of the plan.
    pub partitions: Vec<usize>,
}
