//! Whether a plan reaches executors as it is.

use std::sync::Arc;

use datafusion::{
    error::Result as DataFusionResult,
    execution::{SessionState, TaskContext},
    physical_plan::{ExecutionPlan, coalesce_partitions::CoalescePartitionsExec},
};
use datafusion_proto::{physical_plan::AsExecutionPlan, protobuf::PhysicalPlanNode};

use super::TriremeCodec;
use crate::{
    error::{Code, Error, Result},
    session::function_registry,
};

/// Nodes that a task has above its part of a plan, at the most: shuffles, stamps, projections.
const AROUND: usize = 8;

/// The plan as an executor would get it: written to bytes, and read with an executor's functions.
pub fn over_the_wire(state: &SessionState, plan: &Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let codec = TriremeCodec::default();
    let mut bytes = Vec::new();
    PhysicalPlanNode::try_from_physical_plan(plan.clone(), &codec)?.try_encode(&mut bytes)?;

    PhysicalPlanNode::try_decode(&bytes)?.try_into_physical_plan(&executor_context(state), &codec)
}

/// An error that says why the plan can't be sent to executors; nothing if it can.
///
/// Ballista tells of such a plan only that an executor rejected it, and a plan that one rejects is rejected by all.
pub fn check_travels(state: &SessionState, plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    // Ballista puts some nodes around what it cuts a plan into.
    let plan = (0..AROUND)
        .fold(Arc::clone(plan), |plan, _| Arc::new(CoalescePartitionsExec::new(plan)) as Arc<dyn ExecutionPlan>);
    over_the_wire(state, &plan).map(|_| ()).map_err(|error| {
        let error = Error::from(error);
        let why = error.message.lines().next().unwrap_or_default();
        // As protobuf's reader says it, or as the list of what it was in.
        let deep = why.contains("recursion limit") || why.contains("RecursionLimitReached");
        let (why, hint) = match (deep, why.contains("ArrowType")) {
            (true, true) => (
                "the types of its columns are nested too deep for a plan of so many steps",
                "keep what is deep as a STRING (`schema:` of the source), which holds its JSON text",
            ),
            (true, false) => ("it nests too deeply", "split the expression, or the query, in steps"),
            (false, _) => (why, "write the query in another way, and tell us of this one"),
        };
        Error::new(Code::InvalidSql, format!("the plan can't be sent to executors: {why}")).hint(hint)
    })
}

/// The context in which an executor reads a plan of this session.
pub(crate) fn executor_context(state: &SessionState) -> Arc<TaskContext> {
    let registry = function_registry(state);
    Arc::new(TaskContext::new(
        None,
        "plan".into(),
        state.config().clone(),
        registry.scalar_functions.clone(),
        registry.higher_order_functions.clone(),
        registry.aggregate_functions.clone(),
        registry.window_functions.clone(),
        Arc::clone(state.runtime_env()),
    ))
}
