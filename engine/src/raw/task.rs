//! Downloads and inference as plan nodes: one row of JSON says what is to be done, one row of JSON says what came of it.
//!
//! Their input is a `MemorySourceConfig` with one partition a unit of work, which Ballista's scheduler slices.

use std::{fmt, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{DataFusionError, Result as DataFusionResult, tree_node::TreeNodeRecursion},
    datasource::memory::MemorySourceConfig,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use super::{
    adopt::{self, AdoptTask},
    fetch::{
        FetchOutcome, FetchRequest, fetch,
        listing::{ListRequest, Listed, list},
    },
    infer::{Observed, RawSchema},
    json::observe::Observer,
    manifest::{JsonLayout, Manifest},
    piece::{INDENT_BEFORE, Piece, PieceReader, text_before},
    places::Lines,
    scanner::DEFAULT_SPLIT_SIZE,
    stored::{Stored, TextFile, text_path},
    zone::RawZone,
};
use crate::{
    error::{Code, Error, Result},
    plan::TaskScope,
    storage::Storage,
};

/// What a [`RawTaskExec`] does with each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawTask {
    /// [`FetchRequest`] to its part's number and [`FetchOutcome`].
    Download,
    /// [`ListRequest`] to a list of [`Listed`].
    List,
    /// [`InferPiece`] to [`Observed`].
    Infer,
    /// [`AdoptTask`] to [`adopt::AdoptDone`].
    Adopt,
}

/// A range of a JSON part whose types are to be inferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferPiece {
    /// Storage root.
    pub storage: String,
    /// Whole path of the part's text in its store.
    pub path: String,
    /// How the part is stored.
    #[serde(default)]
    pub stored: Stored,
    /// Length of the part's text.
    pub bytes: u64,
    /// First byte.
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
    /// How records follow one another.
    pub layout: JsonLayout,
    /// Index of the part.
    #[serde(default)]
    pub part: u32,
    /// Line that the first byte is on, from 1.
    #[serde(default)]
    pub line: u64,
    /// Bad records are passed over, not refused.
    #[serde(default)]
    pub lenient: bool,
}

/// Runs a [`RawTask`] for each row of its input.
#[derive(Debug)]
pub struct RawTaskExec {
    task: RawTask,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The one column that task nodes take and give.
fn json_column() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("json", DataType::Utf8, false)]))
}

impl RawTaskExec {
    /// Runs `task` for each row of `input`, whose only column is JSON text.
    pub fn try_new(task: RawTask, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        if input.schema().fields().len() != 1 || input.schema().field(0).data_type() != &DataType::Utf8 {
            return Err(Error::new(
                Code::Internal,
                format!("a raw task takes one column of text, not {}", input.schema()),
            ));
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
    pub fn task(&self) -> RawTask {
        self.task
    }
}

impl DisplayAs for RawTaskExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for RawTaskExec {
    fn name(&self) -> &str {
        match self.task {
            RawTask::Download => "DownloadExec",
            RawTask::List => "ListExec",
            RawTask::Infer => "InferExec",
            RawTask::Adopt => "AdoptExec",
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
            Err(_) => Err(Error::new(Code::Internal, "a raw task has one input").into()),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let bytes = MetricBuilder::new(&self.metrics).counter("bytes", partition);
        let scope = context.session_config().get_extension::<TaskScope>();
        let cancel = scope.map_or_else(CancellationToken::new, |scope| scope.cancel.clone());
        let rows_per_batch = context.session_config().batch_size();
        let task = self.task;
        let outcomes = self.input.execute(partition, context)?.and_then(move |batch| {
            let (bytes, cancel) = (bytes.clone(), cancel.clone());
            async move {
                let mut outcomes = Vec::with_capacity(batch.num_rows());
                let column = batch.column(0).as_string_opt::<i32>();
                for row in column.into_iter().flatten().flatten() {
                    outcomes.push(match task {
                        RawTask::Download => {
                            let request: FetchRequest = parse(row)?;
                            let progress = |more| bytes.add(usize::try_from(more).unwrap_or(0));
                            to_json(&(request.part, fetch(&request, &cancel, &progress).await?))?
                        }
                        RawTask::List => {
                            let request: ListRequest = parse(row)?;
                            to_json(&list(&request, &cancel).await?)?
                        }
                        RawTask::Infer => {
                            let piece: InferPiece = parse(row)?;
                            to_json(&infer_piece(piece, bytes.clone(), rows_per_batch).await?)?
                        }
                        RawTask::Adopt => {
                            let task: AdoptTask = parse(row)?;
                            to_json(&adopt::run(task, bytes.clone(), &cancel).await?)?
                        }
                    });
                }
                Ok(RecordBatch::try_new(json_column(), vec![Arc::new(StringArray::from(outcomes))])?)
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(json_column(), outcomes)))
    }
}

async fn infer_piece(piece: InferPiece, bytes_read: Count, rows: usize) -> Result<Observed, DataFusionError> {
    let store = Storage::shared(&piece.storage)?.store();
    let path = Path::parse(&piece.path).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let (first, last) = (piece.start == 0, piece.end >= piece.bytes);
    let file = TextFile { store, path, stored: Arc::new(piece.stored) };
    let before = if piece.lenient { text_before(&file, piece.start).await? } else { Vec::new() };
    let lines = Lines::new(piece.start, piece.line, &before);
    let observer = Observer::new(piece.layout, first, last, piece.part, lines, piece.lenient);
    let reader = PieceReader::new(Piece { file, range: piece.start..piece.end, bytes_read }, observer);
    Ok(reader.drain(rows.max(1)).await?.into_seen())
}

fn parse<T: DeserializeOwned>(row: &str) -> Result<T> {
    serde_json::from_str(row)
        .map_err(|error| Error::new(Code::Internal, format!("not a raw task's row: {error}: {row}")))
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(Code::Internal, error.to_string()))
}

/// A plan of task rows: one partition for each unit, which holds one or more rows.
pub(super) fn plan<T: Serialize>(task: RawTask, units: &[Vec<T>]) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions: Vec<Vec<RecordBatch>> = units
        .iter()
        .map(|rows| {
            let rows = rows.iter().map(to_json).collect::<Result<Vec<_>>>()?;
            Ok(vec![RecordBatch::try_new(json_column(), vec![Arc::new(StringArray::from(rows))])?])
        })
        .collect::<Result<_>>()?;
    let input = MemorySourceConfig::try_new_exec(&partitions, json_column(), None)?;
    Ok(Arc::new(RawTaskExec::try_new(task, input)?))
}

/// A plan that carries out downloads, each unit one after the other in a partition of its own; its rows are read by [`download_outcomes`].
pub fn download_plan(units: &[Vec<FetchRequest>]) -> Result<Arc<dyn ExecutionPlan>> {
    plan(RawTask::Download, units)
}

/// What a download plan's rows say, each with its part's number, in the parts' order.
pub fn download_outcomes(batches: &[RecordBatch]) -> Result<Vec<(u32, FetchOutcome)>> {
    let mut all: Vec<(u32, FetchOutcome)> = outcomes(batches)?;
    all.sort_by_key(|(part, _)| *part);
    Ok(all)
}

/// A plan that finds the files of a pattern; its row is read by [`listed_files`].
pub fn list_plan(request: ListRequest) -> Result<Arc<dyn ExecutionPlan>> {
    plan(RawTask::List, &[vec![request]])
}

/// What a listing plan's row says.
pub fn listed_files(batches: &[RecordBatch]) -> Result<Vec<Listed>> {
    Ok(outcomes::<Vec<Listed>>(batches)?.into_iter().flatten().collect())
}

/// A plan that infers the types of a JSON version from all its splits in about `partitions` partitions; its rows are merged by [`inferred_schema`].
/// If `lenient`, bad records are passed over; else they are an error.
pub fn infer_plan(
    zone: &RawZone,
    manifest: &Manifest,
    partitions: usize,
    lenient: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let folder = zone.folder(&manifest.source, &manifest.version);
    let storage = zone.storage().root().to_string();
    let mut pieces: Vec<InferPiece> = Vec::new();
    for (index, part) in manifest.parts.iter().enumerate() {
        let (path, stored) = (text_path(part, &folder), Stored::of(part, &folder));
        pieces.extend(part.ranges(DEFAULT_SPLIT_SIZE).into_iter().map(|range| InferPiece {
            storage: storage.clone(),
            path: path.to_string(),
            stored: stored.within(&(range.start.saturating_sub(INDENT_BEFORE)..range.end)),
            bytes: part.text_bytes(),
            line: part.line_of(range.start),
            start: range.start,
            end: range.end,
            layout: part.layout.unwrap_or(JsonLayout::Lines),
            part: u32::try_from(index).unwrap_or(u32::MAX),
            lenient,
        }));
    }
    let size = pieces.len().div_ceil(partitions.max(1)).max(1);
    plan(RawTask::Infer, &pieces.chunks(size).map(<[_]>::to_vec).collect::<Vec<_>>())
}

/// The schema that an inference plan's rows say.
pub fn inferred_schema(batches: &[RecordBatch]) -> Result<RawSchema> {
    let mut merged = Observed::default();
    outcomes::<Observed>(batches)?.into_iter().for_each(|seen| merged.merge(seen));
    Ok(RawSchema::new(merged))
}

pub(super) fn outcomes<T: DeserializeOwned>(batches: &[RecordBatch]) -> Result<Vec<T>> {
    let rows =
        batches.iter().filter_map(|batch| batch.columns().first()).filter_map(|column| column.as_string_opt::<i32>());
    rows.flat_map(|column| column.iter().flatten().map(parse).collect::<Vec<_>>()).collect()
}
