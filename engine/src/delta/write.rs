//! The plan node that writes rows as uncommitted data files and tells what it wrote, one row per file.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    error::{DataFusionError, Result as DataFusionResult},
    execution::{SendableRecordBatchStream, SessionState, TaskContext, memory_pool::MemoryConsumer},
    logical_expr::LogicalPlan,
    physical_expr::{Distribution, EquivalenceProperties, OrderingRequirements, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, ReplaceChildrenOptions,
        coalesce_partitions::CoalescePartitionsExec,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use deltalake_core::kernel::{Add, StructType, schema::cast::cast_record_batch};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use super::writer::WriteSettings;
use super::{schema, writer::FileWriter};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
    plan::TaskScope,
};

/// The optional last input column, boolean: rows where it is not true are dropped and counted (a pipeline's `where:`).
pub const KEEP_COLUMN: &str = "__keep";

/// What to write and where; travels with the plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WriteSpec {
    /// URL of the storage root.
    pub root: String,
    /// The table in whose folder the files are put.
    pub table: TableName,
    /// The table's columns, in its order.
    pub schema: StructType,
    /// Primary key; rows where a part of it is null are counted.
    pub keys: Vec<String>,
    /// Sizes and compression.
    pub settings: WriteSettings,
}

impl WriteSpec {
    /// Files for a table under `storage`, with default settings.
    pub fn new(storage: &Storage, table: &TableName, schema: &StructType, keys: &[String]) -> Self {
        Self {
            root: storage.root().to_string(),
            table: table.clone(),
            schema: schema.clone(),
            keys: keys.to_vec(),
            settings: WriteSettings::default(),
        }
    }
}

/// One output row of [`DeltaWriteExec`], as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// A complete, uncommitted file.
    File {
        /// As it will stand in the log.
        add: Box<Add>,
        /// Rows in it.
        rows: u64,
    },
    /// The end of a partition; every partition has exactly one.
    Summary(WriteSummary),
}

/// Row counts of one partition, or of several added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSummary {
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that [`KEEP_COLUMN`] dropped.
    pub rows_dropped: u64,
    /// Rows in the files.
    pub rows_written: u64,
    /// Rows written whose key has a null; the job must fail then.
    pub null_keys: u64,
    /// The first such row's null column and the row, for the error.
    pub null_key_example: Option<(String, String)>,
}

/// Writes each input partition as data files nobody refers to yet, and returns [`Written`] rows.
///
/// The input has the table's columns by name, in any order, and optionally [`KEEP_COLUMN`].
#[derive(Debug)]
pub struct DeltaWriteExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<WriteSpec>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

/// One column, `written`: [`Written`] as JSON.
pub fn written_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("written", DataType::Utf8, false)]))
}

impl DeltaWriteExec {
    /// Checks that the input has exactly the table's columns.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, spec: Arc<WriteSpec>) -> Result<Self> {
        let schema = schema::to_arrow(&spec.schema)?;
        let given = input.schema();
        let names: Vec<&str> =
            given.fields().iter().map(|field| field.name().as_str()).filter(|name| *name != KEEP_COLUMN).collect();
        let complete = names.len() == schema.fields().len() && names.iter().all(|name| schema.index_of(name).is_ok());
        if !complete {
            let wanted: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("table {} has columns {wanted:?}, its write gets {names:?}", spec.table);
            return Err(Error::new(Code::Internal, message));
        }
        if let Some(key) = spec.keys.iter().find(|key| schema.index_of(key).is_err()) {
            return Err(Error::new(
                Code::InvalidSpec,
                format!("table {} has no column `{key}` for its key", spec.table),
            )
            .hint("name columns of the table as its primary key"));
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(written_schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Self { input, spec, schema, properties: Arc::new(properties) })
    }

    /// What it writes.
    pub fn spec(&self) -> &WriteSpec {
        &self.spec
    }
}

/// The physical plan that writes the rows of `plan` as `spec` says: the writers, collapsed to one partition, as every job of ours ends.
pub async fn plan_write(state: &SessionState, plan: &LogicalPlan, spec: WriteSpec) -> Result<Arc<dyn ExecutionPlan>> {
    let rows = state.create_physical_plan(plan).await?;
    let write = DeltaWriteExec::try_new(rows, Arc::new(spec))?;
    Ok(Arc::new(CoalescePartitionsExec::new(Arc::new(write))))
}

impl DisplayAs for DeltaWriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "DeltaWriteExec: table={}", self.spec.table)
    }
}

impl ExecutionPlan for DeltaWriteExec {
    fn name(&self) -> &str {
        "DeltaWriteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        // One sorted partition must not become several sorted ones, see below.
        match self.input.output_partitioning().partition_count() {
            1 => vec![Distribution::SinglePartition],
            _ => vec![Distribution::UnspecifiedDistribution],
        }
    }

    // Rows are written in the order in which they come, so a sort below is there for a reason: an optimizer must not drop it.
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.input.output_ordering().cloned().map(OrderingRequirements::from)]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::try_new(input, self.spec.clone())?)),
            _ => Err(Error::new(Code::Internal, "DeltaWriteExec has one input").into()),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context.clone())?;
        let storage = Storage::shared(&self.spec.root)?;
        let cancel = context.session_config().get_extension::<TaskScope>().map(|scope| scope.cancel.clone());
        let memory = MemoryConsumer::new(format!("DeltaWriteExec[{partition}]")).register(context.memory_pool());
        let writer = FileWriter::new(
            storage.store(),
            storage.table_path(&self.spec.table),
            self.schema.clone(),
            self.spec.keys.clone(),
            self.spec.settings.clone(),
            partition,
            memory,
        )?;
        let task = WriteTask {
            spec: self.spec.clone(),
            schema: self.schema.clone(),
            cancel: cancel.unwrap_or_default(),
            summary: WriteSummary::default(),
        };
        let output = stream::once(task.run(input, writer));
        Ok(Box::pin(RecordBatchStreamAdapter::new(written_schema(), output)))
    }
}

struct WriteTask {
    spec: Arc<WriteSpec>,
    schema: SchemaRef,
    cancel: CancellationToken,
    summary: WriteSummary,
}

impl WriteTask {
    async fn run(mut self, input: SendableRecordBatchStream, mut writer: FileWriter) -> DataFusionResult<RecordBatch> {
        match self.write_all(input, &mut writer).await {
            Ok(()) => {}
            Err(error) => {
                writer.abort().await;
                return Err(error);
            }
        }
        let files = writer.finish().await?;
        self.summary.rows_written = files.iter().map(|file| file.rows).sum();
        let files = files.into_iter().map(|file| Written::File { add: Box::new(file.add), rows: file.rows });
        let rows = files
            .chain([Written::Summary(self.summary)])
            .map(|row| serde_json::to_string(&row).map_err(|error| DataFusionError::External(Box::new(error))))
            .collect::<DataFusionResult<Vec<_>>>()?;
        let column: ArrayRef = Arc::new(StringArray::from(rows));
        Ok(RecordBatch::try_new(written_schema(), vec![column])?)
    }

    async fn write_all(
        &mut self,
        mut input: SendableRecordBatchStream,
        writer: &mut FileWriter,
    ) -> DataFusionResult<()> {
        let cancelled = || DataFusionError::from(Error::new(Code::Cancelled, "the write was cancelled"));
        loop {
            let batch = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(cancelled()),
                batch = input.next() => batch,
            };
            let Some(batch) = batch.transpose()? else { return Ok(()) };
            let batch = self.prepare(batch)?;
            writer.write(&batch).await?;
        }
    }

    /// The rows to keep, in the table's columns and types.
    fn prepare(&mut self, batch: RecordBatch) -> DataFusionResult<RecordBatch> {
        let rows_in = batch.num_rows();
        let batch = match batch.schema().index_of(KEEP_COLUMN) {
            Ok(index) => {
                let keep: &BooleanArray = batch.column(index).as_boolean_opt().ok_or_else(|| {
                    Error::new(Code::Internal, format!("{KEEP_COLUMN} is {}", batch.column(index).data_type()))
                })?;
                filter_record_batch(&batch, keep)?
            }
            Err(_) => batch,
        };
        self.summary.rows_in += rows_in as u64;
        self.summary.rows_dropped += (rows_in - batch.num_rows()) as u64;
        self.check_not_null(&batch)?;
        let batch = cast_record_batch(&batch, self.schema.clone(), false, false).map_err(|error| {
            Error::new(Code::BadValue, format!("a row does not fit table {}: {error}", self.spec.table))
        })?;
        self.count_null_keys(&batch)?;
        Ok(batch)
    }

    fn check_not_null(&self, batch: &RecordBatch) -> Result<()> {
        for field in self.schema.fields().iter().filter(|field| !field.is_nullable()) {
            let nulls = batch.column_by_name(field.name()).map_or(0, |column| column.logical_null_count());
            if nulls > 0 {
                let table = &self.spec.table;
                let message =
                    format!("column `{}` of table {table} is NOT NULL, and rows without a value came in", field.name());
                return Err(Error::new(Code::BadValue, message).hint("leave such rows out with `where:`"));
            }
        }
        Ok(())
    }

    fn count_null_keys(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys: Vec<_> = self.spec.keys.iter().filter_map(|key| Some((key, batch.column_by_name(key)?))).collect();
        if keys.iter().all(|(_, column)| column.logical_null_count() == 0) {
            return Ok(());
        }
        let nulls: Vec<_> = keys.iter().map(|(key, column)| (*key, column.logical_nulls())).collect();
        for row in 0..batch.num_rows() {
            let is_null = |nulls: &Option<arrow::buffer::NullBuffer>| nulls.as_ref().is_some_and(|n| n.is_null(row));
            let Some((key, _)) = nulls.iter().find(|(_, nulls)| is_null(nulls)) else { continue };
            self.summary.null_keys += 1;
            if self.summary.null_key_example.is_none() {
                self.summary.null_key_example = Some(((*key).clone(), render(batch, row)?));
            }
        }
        Ok(())
    }
}

/// A row as `{a: 1, b: NULL}`, cut where it gets long.
fn render(batch: &RecordBatch, row: usize) -> Result<String> {
    const LONGEST: usize = 300;
    let options = FormatOptions::default().with_null("NULL");
    let mut text = String::from("{");
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if text.len() > 1 {
            text.push_str(", ");
        }
        text.push_str(&format!("{}: {}", field.name(), ArrayFormatter::try_new(column, &options)?.value(row)));
        if text.chars().count() > LONGEST {
            return Ok(text.chars().take(LONGEST).chain("…}".chars()).collect());
        }
    }
    text.push('}');
    Ok(text)
}

/// What a whole write came to: the rows of a [`DeltaWriteExec`], read back.
#[derive(Debug, Clone, Default)]
pub struct WriteOutcome {
    /// Uncommitted files.
    pub files: Vec<Add>,
    /// Partitions that reported.
    pub partitions: u64,
    /// Sum over partitions.
    pub summary: WriteSummary,
}

impl WriteOutcome {
    /// Reads the rows of all partitions. Fails with [`Code::WorkLost`] when files and summaries disagree (work came back twice, or in part).
    pub fn collect(batches: &[RecordBatch]) -> Result<Self> {
        let broken = |what: String| Error::new(Code::WorkLost, format!("the writers' report is broken: {what}"));
        let mut outcome = Self::default();
        let mut rows_in_files = 0;
        for batch in batches {
            let column = batch.column_by_name("written").and_then(|column| column.as_string_opt::<i32>());
            let column = column.ok_or_else(|| broken(format!("columns {:?}", batch.schema().fields())))?;
            for row in column.iter().flatten() {
                match serde_json::from_str(row).map_err(|error| broken(error.to_string()))? {
                    Written::File { add, rows } => {
                        rows_in_files += rows;
                        outcome.files.push(*add);
                    }
                    Written::Summary(summary) => {
                        outcome.partitions += 1;
                        outcome.summary.add(summary);
                    }
                }
            }
        }
        let WriteSummary { rows_in, rows_dropped, rows_written, .. } = outcome.summary;
        if rows_in_files != rows_written || rows_in != rows_dropped + rows_written {
            return Err(broken(format!(
                "{rows_in} rows came in, {rows_dropped} were dropped, {rows_written} written, files have {rows_in_files}"
            )));
        }
        Ok(outcome)
    }

    /// Fails with [`Code::NullKey`] when rows had a null in their key.
    pub fn check_keys(&self, table: &TableName) -> Result<()> {
        let Some((column, row)) = &self.summary.null_key_example else { return Ok(()) };
        let count = self.summary.null_keys;
        let rows = if count == 1 { "row has" } else { "rows have" };
        Err(Error::new(
            Code::NullKey,
            format!("{count} {rows} no value in the primary key of table {table}, for example `{column}` in {row}"),
        )
        .hint(format!("leave them out with `where: {column} IS NOT NULL`")))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(super::files::size).sum()
    }
}

impl WriteSummary {
    fn add(&mut self, other: Self) {
        self.rows_in += other.rows_in;
        self.rows_dropped += other.rows_dropped;
        self.rows_written += other.rows_written;
        self.null_keys += other.null_keys;
        self.null_key_example = self.null_key_example.take().or(other.null_key_example);
    }
}
