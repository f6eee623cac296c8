//! Tells each task what it is, and its nodes when it has been aborted.

use std::{
    fmt::{self, Debug, Display},
    sync::Arc,
};

use ballista_core::{
    JobId,
    execution_plans::ShuffleReaderExec,
    serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport},
};
use ballista_executor::execution_engine::{ExecutionEngine, QueryStageExecutor};
use datafusion::{
    common::{internal_err, tree_node::TreeNode},
    error::Result,
    execution::TaskContext,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, Partitioning, coalesce_partitions::CoalescePartitionsExec,
        empty::EmptyExec, metrics::MetricsSet, placeholder_row::PlaceholderRowExec, repartition::RepartitionExec,
        sorts::sort_preserving_merge::SortPreservingMergeExec,
    },
    prelude::SessionConfig,
};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use trireme_engine::{Code, Error, plan::TaskScope};

use crate::watch::watched;

/// An execution engine that gives every task a [`TaskScope`], and has its work done by threads of its own.
///
/// Ballista aborts a task on the threads that its tasks run on. One that computes without a pause would keep that from happening: so only the waiting
/// is done there, and the work elsewhere, which is told by its scope and [`watched`].
pub struct ScopedEngine {
    inner: Arc<dyn ExecutionEngine>,
    workers: Handle,
}

impl ScopedEngine {
    /// Wraps an engine; tasks' work is done by this runtime.
    pub fn new(inner: Arc<dyn ExecutionEngine>, workers: Handle) -> Self {
        Self { inner, workers }
    }
}

impl ExecutionEngine for ScopedEngine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        check_is_one_partition(&plan, &global_output_partition_ids)?;
        let partitions = global_output_partition_ids.clone();
        let scope = TaskScope { cancel: CancellationToken::new(), partitions };
        let plan = watched(plan, &scope.cancel)?;
        let inner = self.inner.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        Ok(Arc::new(ScopedStage { inner, scope: Arc::new(scope), workers: self.workers.clone() }))
    }
}

/// An error if a task would run more than the one partition that is its own: rows would come twice, once from every task.
///
/// Ballista takes the other partitions out of a task's plan (`restrict_plan_to_partitions`), but leaves what it can't take out, without a word.
fn check_is_one_partition(plan: &Arc<dyn ExecutionPlan>, own: &[usize]) -> Result<()> {
    let [input] = plan.children()[..] else { return internal_err!("a stage's writer has one input") };
    let partitions = input.output_partitioning().partition_count();
    // Rows that are partitioned by keys within a task may miss those of other tasks; a stage of one task has no others.
    let deals_some = input.exists(|node| {
        let exchange = node.downcast_ref::<RepartitionExec>();
        Ok(exchange.is_some_and(|exchange| {
            matches!(exchange.partitioning(), Partitioning::Hash(..)) && has_some_rows_only(exchange.input())
        }))
    });
    if own.iter().any(|partition| *partition > 0) && deals_some? {
        let error = Error::new(Code::Internal, "a task partitions its own rows by keys, as if they were all");
        return Err(error
            .hint("this query can't be cut into tasks: write it in another way, and tell us of it")
            .into());
    }
    // Of nothing there may be any number.
    let has_rows = input.exists(|node| Ok(node.children().is_empty() && !node.is::<EmptyExec>()))?;
    if partitions > 1 && has_rows {
        let error = Error::new(Code::Internal, format!("a task has {partitions} partitions instead of its own one"));
        return Err(error
            .hint("this query can't be cut into tasks: write it in another way, and tell us of it")
            .into());
    }
    Ok(())
}

/// Whether a task's plan may have only a part of what the stage has here: what reads one partition of many, and does not collect them all.
fn has_some_rows_only(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if plan.is::<SortPreservingMergeExec>() || plan.is::<CoalescePartitionsExec>() {
        return false;
    }
    if plan.children().is_empty() {
        let reads_all = plan.downcast_ref::<ShuffleReaderExec>().is_some_and(|reader| reader.broadcast);
        return !(reads_all || plan.is::<EmptyExec>() || plan.is::<PlaceholderRowExec>());
    }
    plan.children().into_iter().any(has_some_rows_only)
}

#[derive(Debug)]
struct ScopedStage {
    inner: Arc<dyn QueryStageExecutor>,
    scope: Arc<TaskScope>,
    workers: Handle,
}

impl Display for ScopedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}

#[async_trait::async_trait]
impl QueryStageExecutor for ScopedStage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        // Ballista aborts a task by dropping this future.
        let aborted = self.scope.cancel.clone().drop_guard();
        let config = context.session_config().clone().with_extension(self.scope.clone());
        let context = TaskContext::new(
            context.task_id(),
            context.session_id(),
            config,
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            context.runtime_env(),
        );
        let inner = self.inner.clone();
        let work = self.workers.spawn(async move { inner.execute_query_stage(task_id, Arc::new(context)).await });
        let written = match AbortOnDropHandle::new(work).await {
            Ok(written) => written?,
            // As if it had happened here.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => return Err(Error::new(Code::WorkLost, error.to_string()).into()),
            },
        };
        aborted.disarm();
        Ok(written)
    }

    /// None: nothing reads them, they stay in the scheduler's memory, and tasks of one stage may have plans of different shapes (branches of a union),
    /// which the scheduler takes for an error, after which the stage never ends.
    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        Vec::new()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}
