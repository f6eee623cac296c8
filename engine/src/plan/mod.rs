//! What the plans of a job share on every node that runs them.

use tokio_util::sync::CancellationToken;

/// Reaches nodes of ours as an extension of the session's config: `task_context.session_config().get_extension::<TaskScope>()`.
///
/// Ballista frees a cancelled task's slot but its work goes on in detached spawns; nodes with effects outside (files, downloads) must
/// look at the token and stop.
#[derive(Debug, Clone, Default)]
pub struct TaskScope {
    /// Cancelled when nobody wants the task's result any more.
    pub cancel: CancellationToken,
}
