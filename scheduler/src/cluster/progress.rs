//! How far a Ballista job is, told in the terms of the API.

use std::sync::Arc;

use ballista_core::serde::protobuf::task_status;
use ballista_scheduler::state::{
    execution_graph::ExecutionGraph,
    execution_stage::{ExecutionStage, TaskInfo},
};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use trireme_engine::plan::StampExec;
use trireme_proto::v1;

/// The stages of a graph, in order, named `<name>/<number>`.
pub fn stages(name: &str, attempt: u32, graph: &dyn ExecutionGraph) -> Vec<v1::Stage> {
    let mut stages: Vec<_> = graph.stages().iter().collect();
    stages.sort_by_key(|(id, _)| **id);
    stages.into_iter().map(|(id, stage)| describe(name, attempt, *id, stage)).collect()
}

/// True when any stage was started more than once: its consumers may have read a partition twice.
pub fn was_rolled_back(graph: &dyn ExecutionGraph) -> bool {
    graph.stages().values().any(|stage| match stage {
        ExecutionStage::UnResolved(stage) => stage.stage_attempt_num > 0,
        ExecutionStage::Resolved(stage) => stage.stage_attempt_num > 0,
        ExecutionStage::Running(stage) => stage.stage_attempt_num > 0,
        ExecutionStage::Successful(stage) => stage.stage_attempt_num > 0,
        ExecutionStage::Failed(stage) => stage.stage_attempt_num > 0,
    })
}

/// Whether some task runs.
pub fn has_running_task(graph: &dyn ExecutionGraph) -> bool {
    graph.stages().values().any(|stage| match stage {
        ExecutionStage::Running(stage) => {
            stage.task_infos.iter().any(|task| matches!(task.task_status, task_status::Status::Running(_)))
        }
        _ => false,
    })
}

/// Partitions of the plan's result, as Ballista split it: it optimizes plans with joins once more, and may change their number.
pub fn stamped_partitions(graph: &dyn ExecutionGraph) -> Option<usize> {
    graph.stages().values().find_map(|stage| {
        let plan = match stage {
            ExecutionStage::UnResolved(stage) => &stage.plan,
            ExecutionStage::Resolved(stage) => &stage.plan,
            ExecutionStage::Running(stage) => &stage.plan,
            ExecutionStage::Successful(stage) => &stage.plan,
            ExecutionStage::Failed(stage) => &stage.plan,
        };
        find_stamp(plan)
    })
}

fn find_stamp(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    if plan.is::<StampExec>() {
        return Some(plan.output_partitioning().partition_count());
    }
    plan.children().into_iter().find_map(find_stamp)
}

fn describe(name: &str, attempt: u32, id: usize, stage: &ExecutionStage) -> v1::Stage {
    let (partitions, tasks): (usize, &[TaskInfo]) = match stage {
        ExecutionStage::UnResolved(_) | ExecutionStage::Resolved(_) => (0, &[]),
        ExecutionStage::Running(stage) => (stage.partitions, &stage.task_infos),
        ExecutionStage::Successful(stage) => (stage.partitions, &stage.task_infos),
        ExecutionStage::Failed(stage) => (stage.partitions, &stage.task_infos),
    };
    let mut described = v1::Stage {
        name: format!("{name}/{id}"),
        attempt,
        // One partition a task, except that a stage which collapses its input is one task whatever it reads.
        tasks_total: partitions as u32,
        ..Default::default()
    };
    for task in tasks {
        if let task_status::Status::Successful(done) = &task.task_status {
            described.tasks_done += 1;
            *described.tasks_by_executor.entry(done.executor_id.clone()).or_default() += 1;
        }
    }
    if matches!(stage, ExecutionStage::Successful(_)) {
        described.tasks_total = described.tasks_done;
    }
    described
}
