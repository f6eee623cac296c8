//! One attempt to run a plan, and the signs by which it is thrown away.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use ballista_core::{
    JobId,
    client::BallistaClient,
    serde::protobuf::{JobStatus, PartitionLocation, job_status},
};
use ballista_scheduler::cluster::ClusterStateEvent;
use datafusion::{
    physical_expr::expressions::Column,
    physical_plan::{
        ExecutionPlan,
        coalesce_partitions::CoalescePartitionsExec,
        projection::{ProjectionExec, ProjectionExpr},
    },
    prelude::SessionContext,
};
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trireme_engine::{
    Code, Error, Result,
    plan::{StampExec, Stamped, distributable},
};

use super::{Cluster, MAX_MESSAGE_SIZE, Progress, cancelled, failed, progress};

/// How often a job's status is asked for: what Ballista pushes can get lost.
const LOOK: Duration = Duration::from_millis(200);
/// Pauses after which the tasks of a cancelled job are cancelled again.
const CANCELLED_AGAIN: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(4)];
/// Largest result that is fetched, bytes in memory: results go through the scheduler, data does not.
const RESULT_LIMIT: usize = 512 << 20;
/// Longest silence while rows are fetched from an executor.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Cancels a Ballista job when it is dropped while it runs.
struct Running<'a> {
    cluster: &'a Cluster,
    job: JobId,
    ended: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (server, job) = (self.cluster.server.clone(), self.job.clone());
        tokio::spawn(async move {
            let graph =
                server.state.task_manager.get_running_job_cache().get(&job).map(|job| job.execution_graph.clone());
            let tasks = match graph {
                Some(graph) => graph.read().await.running_tasks(),
                None => Vec::new(),
            };
            if let Err(error) = server.cancel_job(job).await {
                tracing::warn!(%error, "can't cancel a discarded job");
            }
            // An executor that has a task in its queue knows nothing of it yet, and begins it after it was told to cancel it.
            for pause in CANCELLED_AGAIN {
                tokio::time::sleep(pause).await;
                if let Err(error) = server.state.executor_manager.cancel_running_tasks(tasks.clone()).await {
                    tracing::warn!(%error, "can't cancel tasks of a discarded job");
                }
            }
        });
    }
}

/// The session with which Ballista cuts a plan into stages.
///
/// It has DataFusion's rule for distributions look at each stage again, which then partitions what is one partition by keys, for more work at once. But
/// that is no stage of its own any more: all of its tasks would give all of the rows. The rule leaves one partition alone where files are to stay as
/// they are grouped, which they are by now.
fn for_cutting(session: &SessionContext) -> Arc<SessionContext> {
    let mut state = session.state();
    state.config_mut().options_mut().optimizer.preserve_file_partitions = 1;
    Arc::new(SessionContext::new_with_state(state))
}

impl Cluster {
    pub(super) async fn attempt(
        &self,
        name: &str,
        session: Arc<SessionContext>,
        plan: Arc<dyn ExecutionPlan>,
        attempt: u32,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<Vec<RecordBatch>> {
        let schema = plan.schema();
        // Distribution ends in one partition: a last stage of several tasks keeps stale output locations.
        let plan = Arc::new(CoalescePartitionsExec::new(stamped(distributable(
            plan,
            session.state_ref().read().config_options(),
        )?)?));
        let mut lost_executors = self.server.cluster_state_events().await.map_err(failed)?;
        let (pushed, mut statuses) = mpsc::channel(64);
        let session = for_cutting(&session);
        let job = self.server.submit_physical_plan(name, session, plan, Some(pushed)).await.map_err(failed)?;
        let mut running = Running { cluster: self, job: job.clone(), ended: false };
        let mut look = tokio::time::interval(LOOK);
        let mut locations = loop {
            let status = tokio::select! {
                () = cancel.cancelled() => return Err(cancelled()),
                event = lost_executors.next() => match event {
                    Some(ClusterStateEvent::RemovedExecutor { executor_id }) => return Err(executor_lost(&executor_id)),
                    _ => continue,
                },
                Some(status) = statuses.recv() => Some(status),
                _ = look.tick() => self.server.state.task_manager.get_job_status(&job).await.map_err(failed)?,
            };
            self.report(name, attempt, &job, progress).await?;
            match status.and_then(|JobStatus { status, .. }| status) {
                Some(job_status::Status::Successful(done)) => {
                    running.ended = true;
                    break done.partition_location;
                }
                Some(job_status::Status::Failed(failure)) => {
                    running.ended = true;
                    return Err(classify(&failure.error));
                }
                _ => {}
            }
        };
        // Only now is it known whether a stage was run again, which the job's success hides.
        let lost = |what: String| Error::new(Code::WorkLost, format!("{name}: {what}"));
        let graph = self.jobs.get_execution_graph(&job).await.map_err(failed)?;
        let graph = graph.ok_or_else(|| lost("the finished job is not known any more".to_string()))?;
        progress.stages(attempt, progress::stages(name, attempt, graph.as_ref()));
        if progress::was_rolled_back(graph.as_ref()) {
            return Err(lost("a stage was rolled back".to_string()));
        }
        let partitions = progress::stamped_partitions(graph.as_ref())
            .ok_or_else(|| Error::new(Code::Internal, format!("{name}: the plan lost its stamps")))?;
        while let Some(Some(event)) = lost_executors.next().now_or_never() {
            if let ClusterStateEvent::RemovedExecutor { executor_id } = event {
                return Err(executor_lost(&executor_id));
            }
        }
        if locations.len() != 1 {
            return Err(Error::new(
                Code::WorkLost,
                format!("a result of {name} is in {} places, not one", locations.len()),
            ));
        }
        let mut stamped = Stamped::new(schema, partitions);
        let mut batches = Vec::new();
        let fetched = fetch(locations.remove(0), &mut stamped, &mut batches);
        tokio::select! {
            fetched = fetched => fetched?,
            () = cancel.cancelled() => return Err(cancelled()),
        }
        stamped.close()?;
        Ok(batches)
    }

    async fn report(&self, name: &str, attempt: u32, job: &JobId, progress: &dyn Progress) -> Result<()> {
        let jobs = self.server.state.task_manager.get_running_job_cache();
        let Some(info) = jobs.get(job) else { return Ok(()) };
        let graph = info.execution_graph.read().await;
        if progress::was_rolled_back(graph.as_ref()) {
            return Err(Error::new(Code::WorkLost, format!("a stage of {name} was rolled back")));
        }
        progress.stages(attempt, progress::stages(name, attempt, graph.as_ref()));
        progress.waits(self.slots.free() == 0 && !progress::has_running_task(graph.as_ref()));
        Ok(())
    }
}

/// The plan with stamps, below a projection of all columns. Ballista optimizes the input of the last stage once more, and DataFusion 55's sort
/// pushdown gives the first node's child's `fetch` to the sorts below without its `skip`: a LIMIT with OFFSET would lose rows.
fn stamped(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let stamps: Arc<dyn ExecutionPlan> = Arc::new(StampExec::new(plan));
    let columns = stamps
        .schema()
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| ProjectionExpr {
            expr: Arc::new(Column::new(field.name(), index)),
            alias: field.name().clone(),
        })
        .collect::<Vec<_>>();
    Ok(Arc::new(ProjectionExec::try_new(columns, stamps)?))
}

fn executor_lost(id: &str) -> Error {
    Error::new(Code::WorkLost, format!("executor {id} was lost"))
}

/// What a failed Ballista job means: an error of ours is final; whatever smells of a lost executor, network or passing storage trouble is run
/// again; the rest is final.
fn classify(text: &str) -> Error {
    let text = text.trim_end();
    if let Some(error) = Error::find_in(text) {
        return error;
    }
    // What a query itself says must not be taken for a sign, so a task's own error is read by the names of its kinds. IPC is what rows
    // travel in between tasks, never what input is read from: its error is a transfer that an executor broke off.
    const PASSING_IN_TASK: [&str; 7] = [
        "ObjectStore(",
        "IoError(",
        "IpcError(",
        "FetchFailed",
        "GrpcConnectionError(",
        "GrpcActionError(",
        "Cancelled",
    ];
    const PASSING: [&str; 16] = [
        "FetchPartition",
        "FetchFailed",
        "fetch",
        "ExecutorLost",
        "executor",
        "Executor",
        "GrpcConnection",
        "GrpcAction",
        "transport error",
        "Connection",
        "connection",
        "IoError",
        "IO error",
        "Object Store error",
        "TaskKilled",
        "Cancelled",
    ];
    if text.contains("Resources exhausted") || text.contains("ResourcesExhausted") {
        return Error::new(Code::ResourcesExhausted, text.to_string())
            .hint("give executors more memory (--memory-pool-size) or fewer --vcores");
    }
    let signs: &[&str] = if text.contains(OWN_ERROR) { &PASSING_IN_TASK } else { &PASSING };
    if signs.iter().any(|sign| text.contains(sign)) {
        return Error::new(Code::WorkLost, text.to_string());
    }
    if let Some(said) = said_while_running(text) {
        return Error::new(Code::BadValue, said);
    }
    let code =
        if text.contains("Arrow error") || text.contains("ArrowError") { Code::BadValue } else { Code::Internal };
    Error::new(code, text.to_string())
}

/// How Ballista begins the message of a task that failed by an error of its plan.
const OWN_ERROR: &str = "Task failed due to runtime execution error";

/// What an operator or a function said of the values that it got: the text in the debug form of `DataFusionError::Execution`.
fn said_while_running(text: &str) -> Option<String> {
    const KIND: &str = "Execution(\"";
    let (_, rest) = text.split_once(OWN_ERROR)?;
    let start = rest.rfind(KIND)? + KIND.len();
    let mut said = String::new();
    let mut letters = rest[start..].chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return Some(said),
            '\\' => match letters.next()? {
                'n' => said.push('\n'),
                't' => said.push('\t'),
                other => said.push(other),
            },
            other => said.push(other),
        }
    }
    None
}

/// Fetches the one result partition of a job. Any failure means that the executor that has it is gone.
async fn fetch(location: PartitionLocation, stamped: &mut Stamped, batches: &mut Vec<RecordBatch>) -> Result<()> {
    let lost = |what: String| Error::new(Code::WorkLost, format!("can't fetch a result: {what}"));
    let layout = location.layout();
    let (Some(executor), Some(partition)) = (location.executor_meta, location.partition_id) else {
        return Err(lost("it has no location".to_string()));
    };
    let port = executor.port as u16;
    let connect = BallistaClient::try_new(&executor.host, port, MAX_MESSAGE_SIZE, false, None, 1, 0, 0, 0);
    let timeout = |_| lost(format!("executor {} is silent", executor.id));
    let mut client = tokio::time::timeout(FETCH_TIMEOUT, connect)
        .await
        .map_err(timeout)?
        .map_err(|error| lost(error.to_string()))?;
    let partition = partition.into();
    let request =
        client.fetch_partition_proxied(&executor.id, &partition, location.file_id, layout, &executor.host, port, true);
    let mut rows = tokio::time::timeout(FETCH_TIMEOUT, request)
        .await
        .map_err(timeout)?
        .map_err(|error| lost(error.to_string()))?;
    let mut bytes = 0;
    while let Some(batch) = tokio::time::timeout(FETCH_TIMEOUT, rows.next()).await.map_err(timeout)? {
        let batch = stamped.open(&batch.map_err(|error| lost(error.to_string()))?)?;
        bytes += batch.get_array_memory_size();
        if bytes > RESULT_LIMIT {
            let message = format!("the result is larger than {} MiB", RESULT_LIMIT >> 20);
            return Err(Error::new(Code::ResourcesExhausted, message)
                .hint("add a LIMIT, or write it to a table with `trireme question`"));
        }
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_ours_are_final_and_lost_executors_are_not() {
        let ours = Error::new(Code::BadRecord, "line 3 of vendor.reviews: connection of two records");
        assert_eq!(classify(&format!("task failed: External({ours})")), ours);
        assert_eq!(classify("Stage 2 has failed 1 times: FetchPartitionError").code, Code::WorkLost);
        assert_eq!(classify("Resources exhausted: no fetch").code, Code::ResourcesExhausted);
        assert_eq!(classify("Arrow error: Divide by zero error").code, Code::BadValue);
    }

    #[test]
    fn what_a_query_says_is_no_sign_of_a_lost_executor() {
        let of_task = |error: &str| {
            classify(&format!("Job failed due to stage 1 failed: {OWN_ERROR}: DataFusionError({error})\n"))
        };
        let said = of_task(r#"Execution("can't fetch the \"Connection\" of executor 7")"#);
        assert_eq!(
            (said.code, said.message.as_str()),
            (Code::BadValue, "can't fetch the \"Connection\" of executor 7")
        );
        assert_eq!(of_task("ObjectStore(Generic { store: \"S3\" })").code, Code::WorkLost);
        let broken = r#"Shared(External(ArrowError(IpcError("Arrow error: Ipc error: code: 'Unknown error', message: h2 protocol error"))))"#;
        assert_eq!(of_task(broken).code, Code::WorkLost);
        assert_eq!(of_task("Internal(\"no such executor\")").code, Code::Internal);
    }
}
