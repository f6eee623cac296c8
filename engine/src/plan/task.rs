//! Work that is no query as a plan node: one row of JSON says what is to be done, one row of JSON says what came of it.
//!
//! Its input is a `MemorySourceConfig` with one partition a unit of work, which Ballista's scheduler slices.

use std::{fmt, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{Result as DataFusionResult, tree_node::TreeNodeRecursion},
    datasource::memory::MemorySourceConfig,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use super::TaskScope;
use crate::{
    delta::matching,
    error::{Code, Error, Result},
    raw::{adopt, fetch, task},
};

/// What a [`TaskExec`] does with each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// [`fetch::FetchRequest`] to its part's number and [`fetch::FetchOutcome`].
    Download,
    /// [`fetch::listing::ListRequest`] to a list of [`fetch::listing::Listed`].
    List,
    /// [`task::InferPiece`] to [`crate::raw::infer::Observed`].
    Infer,
    /// [`adopt::AdoptTask`] to [`adopt::AdoptDone`].
    Adopt,
    /// [`matching::MatchTask`] to [`matching::Matched`].
    Match,
}

/// Runs a [`Task`] for each row of its input.
#[derive(Debug)]
pub struct TaskExec {
    task: Task,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The one column that task nodes take and give.
fn json_column() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("json", DataType::Utf8, false)]))
}

impl TaskExec {
    /// Runs `task` for each row of `input`, whose only column is JSON text.
    pub fn try_new(task: Task, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        if input.schema().fields().len() != 1 || input.schema().field(0).data_type() != &DataType::Utf8 {
            return Err(Error::new(Code::Internal, format!("a task takes one column of text, not {}", input.schema())));
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(json_column()),
            datafusion::physical_expr::Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { task, input, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// What it does.
    pub fn task(&self) -> Task {
        self.task
    }
}

impl DisplayAs for TaskExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for TaskExec {
    fn name(&self) -> &str {
        match self.task {
            Task::Download => "DownloadExec",
            Task::List => "ListExec",
            Task::Infer => "InferExec",
            Task::Adopt => "AdoptExec",
            Task::Match => "MatchExec",
        }
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::try_new(self.task, input)?)),
            Err(_) => Err(Error::new(Code::Internal, "a task has one input").into()),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let bytes = MetricBuilder::new(&self.metrics).counter("bytes", partition);
        let scope = context.session_config().get_extension::<TaskScope>();
        let cancel = scope.map_or_else(CancellationToken::new, |scope| scope.cancel.clone());
        let task = self.task;
        let outcomes = self.input.execute(partition, context.clone())?.and_then(move |batch| {
            let (bytes, cancel, context) = (bytes.clone(), cancel.clone(), context.clone());
            async move {
                let mut outcomes = Vec::with_capacity(batch.num_rows());
                let column = batch.column(0).as_string_opt::<i32>();
                for row in column.into_iter().flatten().flatten() {
                    outcomes.push(match task {
                        Task::Download => {
                            let request: fetch::FetchRequest = parse(row)?;
                            let progress = |more| bytes.add(usize::try_from(more).unwrap_or(0));
                            to_json(&(request.part, fetch::fetch(&request, &cancel, &progress).await?))?
                        }
                        Task::List => {
                            let request: fetch::listing::ListRequest = parse(row)?;
                            to_json(&fetch::listing::list(&request, &cancel).await?)?
                        }
                        Task::Infer => {
                            let rows_per_batch = context.session_config().batch_size();
                            to_json(&task::infer_piece(parse(row)?, bytes.clone(), rows_per_batch).await?)?
                        }
                        Task::Adopt => to_json(&adopt::run(parse(row)?, bytes.clone(), &cancel).await?)?,
                        Task::Match => to_json(&matching::run(parse(row)?, &context, &cancel).await?)?,
                    });
                }
                Ok(RecordBatch::try_new(json_column(), vec![Arc::new(StringArray::from(outcomes))])?)
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(json_column(), outcomes)))
    }
}

fn parse<T: DeserializeOwned>(row: &str) -> Result<T> {
    serde_json::from_str(row).map_err(|error| Error::new(Code::Internal, format!("not a task's row: {error}: {row}")))
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(Code::Internal, error.to_string()))
}

/// A plan of task rows: one partition for each unit, which holds one or more rows.
pub fn task_plan<T: Serialize>(task: Task, units: &[Vec<T>]) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions: Vec<Vec<RecordBatch>> = units
        .iter()
        .map(|rows| {
            let rows = rows.iter().map(to_json).collect::<Result<Vec<_>>>()?;
            Ok(vec![RecordBatch::try_new(json_column(), vec![Arc::new(StringArray::from(rows))])?])
        })
        .collect::<Result<_>>()?;
    let input = MemorySourceConfig::try_new_exec(&partitions, json_column(), None)?;
    Ok(Arc::new(TaskExec::try_new(task, input)?))
}

/// What the rows of such a plan say.
pub fn task_outcomes<T: DeserializeOwned>(batches: &[RecordBatch]) -> Result<Vec<T>> {
    let rows =
        batches.iter().filter_map(|batch| batch.columns().first()).filter_map(|column| column.as_string_opt::<i32>());
    rows.flat_map(|column| column.iter().flatten().map(parse).collect::<Vec<_>>()).collect()
}
