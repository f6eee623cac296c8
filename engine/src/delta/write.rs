//! The plan node that writes rows as uncommitted data files and tells what it wrote, one row per file.

use std::{collections::BTreeSet, fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, StringArray},
    compute::{SortOptions, and, filter_record_batch, prep_null_mask_filter},
    datatypes::{Int32Type, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    error::{DataFusionError, Result as DataFusionResult},
    execution::{SendableRecordBatchStream, SessionState, TaskContext, memory_pool::MemoryConsumer},
    logical_expr::LogicalPlan,
    physical_expr::{
        Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
        expressions::Column,
    },
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
        PlanProperties, ReplaceChildrenOptions,
        coalesce_partitions::CoalescePartitionsExec,
        execution_plan::{Boundedness, EmissionType},
        sorts::sort::SortExec,
        stream::RecordBatchStreamAdapter,
    },
};
use deltalake_core::kernel::{StructType, schema::cast::cast_record_batch};
use futures::{StreamExt, stream};
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use super::writer::WriteSettings;
use super::{
    actions::{ACTION_COLUMN, ActionSpec, ActionWriter, BEFORE},
    nulls,
    quarantine::{self, BadRows},
    scan::FILE_COLUMN,
    schema,
    writer::FileWriter,
    written::{CheckSummary, EXAMPLES, WriteSummary, Written, written_schema},
    z_order::{RANGE_COLUMN, Z_COLUMN},
};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
    names::our_column,
    plan::{Asked, TaskScope},
    raw::places::{LENGTH_COLUMN, LINE_COLUMN, OFFSET_COLUMN, PART_COLUMN},
};

/// Optional input column, boolean: rows where it is not true are dropped and counted (a pipeline's `where:`).
pub const KEEP_COLUMN: &str = our_column!("keep");
/// Optional input column, boolean: of rows that are kept, those where it is not true are superseded by another and counted.
pub const LATEST_COLUMN: &str = our_column!("latest");
/// Optional input column, text: a row with a reason goes to the quarantine ([`WriteSpec::bad_rows`]), whatever else it is.
pub const REASON_COLUMN: &str = our_column!("reason");
const CHECK_COLUMN: &str = our_column!("check_");

/// The optional input column of a check of [`WriteSpec::checks`], text: what failed; null where nothing did.
pub fn check_column(index: usize) -> String {
    format!("{CHECK_COLUMN}{index}")
}

/// Whether an input column tells of the row, and is none of the table's.
pub fn is_hidden(name: &str) -> bool {
    matches!(name, KEEP_COLUMN | LATEST_COLUMN | REASON_COLUMN | ACTION_COLUMN)
        || matches!(name, FILE_COLUMN | Z_COLUMN | RANGE_COLUMN)
        || matches!(name, PART_COLUMN | OFFSET_COLUMN | LENGTH_COLUMN | LINE_COLUMN)
        || name.starts_with(CHECK_COLUMN)
        || name.starts_with(BEFORE)
}

/// Kinds of reasons that are told apart.
const REASONS: usize = 200;

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
    /// How many checks there are, see [`check_column`].
    #[serde(default)]
    pub checks: usize,
    /// Where rows with a reason go; without it there must be none.
    #[serde(default)]
    pub bad_rows: Option<BadRows>,
    /// Set: each row says by its action what becomes of it.
    #[serde(default)]
    pub actions: Option<ActionSpec>,
    /// The schema of the table that the rows are for, where it has columns that must have a value though `schema` does not say so.
    #[serde(default)]
    pub required: Option<StructType>,
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
            checks: 0,
            bad_rows: None,
            actions: None,
            required: None,
        }
    }

    /// The same for rows of a table with this schema: what it says must have a value is checked.
    pub fn for_table(mut self, schema: &StructType) -> Self {
        self.required = (!nulls::required(schema).is_empty()).then(|| schema.clone());
        self
    }
}

/// Writes each input partition as data files nobody refers to yet, and returns [`Written`] rows.
///
/// The input has the table's columns by name, in any order, and optionally those that tell of the row ([`is_hidden`]).
#[derive(Debug)]
pub struct DeltaWriteExec {
    input: Arc<dyn ExecutionPlan>,
    spec: Arc<WriteSpec>,
    schema: SchemaRef,
    asked: Asked,
    properties: Arc<PlanProperties>,
}

impl DeltaWriteExec {
    /// Checks that the input has exactly the table's columns.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, spec: Arc<WriteSpec>) -> Result<Self> {
        let schema = schema::to_arrow(&spec.schema)?;
        let given = input.schema();
        let names: Vec<&str> =
            given.fields().iter().map(|field| field.name().as_str()).filter(|name| !is_hidden(name)).collect();
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
        // Rows are written in the order in which they come, so a sort below is there for a reason.
        let asked = Asked::in_order(&input);
        Ok(Self { input, spec, schema, asked, properties: Arc::new(properties) })
    }

    /// What it writes.
    pub fn spec(&self) -> &WriteSpec {
        &self.spec
    }
}

/// The same rows, those of each partition sorted by these columns, ascending, nulls first: files that are written of them are sorted. What does
/// not fit into memory is spilled. Without a column the input as it is.
pub fn sort_partitions(input: Arc<dyn ExecutionPlan>, columns: &[String]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let order = columns.iter().map(|name| {
        let index = schema.index_of(name).map_err(|_| {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let names: Vec<&str> = names.into_iter().filter(|name| !is_hidden(name)).collect();
            Error::new(Code::InvalidSpec, format!("sort_by: there is no column `{name}`"))
                .hint(format!("there are: {}", names.join(", ")))
        })?;
        if schema.field(index).data_type().is_nested() {
            return Err(Error::new(Code::InvalidSpec, format!("sort_by: `{name}` is an array, map or struct"))
                .hint("sort by columns that have an order"));
        }
        let options = SortOptions { descending: false, nulls_first: true };
        Ok(PhysicalSortExpr::new(Arc::new(Column::new(name, index)), options))
    });
    match LexOrdering::new(order.collect::<Result<Vec<_>>>()?) {
        Some(order) => Ok(Arc::new(SortExec::new(order, input).with_preserve_partitioning(true))),
        None => Ok(input),
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
        self.asked.distribution()
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        self.asked.ordering()
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
            (Some(input), true) => {
                let asked = self.asked.clone();
                Ok(Arc::new(Self { asked, ..Self::try_new(input, self.spec.clone())? }))
            }
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
        let bad = match &self.spec.bad_rows {
            Some(bad_rows) => {
                let memory = MemoryConsumer::new(format!("DeltaWriteExec[{partition}] quarantine"));
                Some(bad_rows.writer(
                    &storage,
                    &self.spec.settings,
                    partition,
                    memory.register(context.memory_pool()),
                )?)
            }
            None => None,
        };
        let actions = match &self.spec.actions {
            Some(actions) => {
                let memory = |what: &str| {
                    let memory = MemoryConsumer::new(format!("DeltaWriteExec[{partition}] {what}"));
                    memory.register(context.memory_pool())
                };
                let (store, folder) = (storage.store(), storage.table_path(&self.spec.table));
                let settings = &self.spec.settings;
                Some(ActionWriter::new(actions, &self.schema, &store, &folder, settings, partition, memory)?)
            }
            None => None,
        };
        let required = self.spec.required.as_ref().unwrap_or(&self.spec.schema);
        let required = match nulls::required(required).is_empty() {
            true => None,
            false => Some(schema::to_arrow(required)?),
        };
        let task = WriteTask {
            spec: self.spec.clone(),
            required,
            schema: self.schema.clone(),
            cancel: cancel.unwrap_or_default(),
            summary: WriteSummary::default(),
            store: storage.store(),
            bad,
            actions,
        };
        let output = stream::once(task.run(input, writer));
        Ok(Box::pin(RecordBatchStreamAdapter::new(written_schema(), output)))
    }
}

struct WriteTask {
    spec: Arc<WriteSpec>,
    schema: SchemaRef,
    /// The table's columns, if some must have values.
    required: Option<SchemaRef>,
    cancel: CancellationToken,
    summary: WriteSummary,
    store: Arc<dyn ObjectStore>,
    /// Writer of bad rows.
    bad: Option<FileWriter>,
    /// Writer of what rows with actions leave beside the table's own.
    actions: Option<ActionWriter>,
}

impl WriteTask {
    async fn run(mut self, input: SendableRecordBatchStream, mut writer: FileWriter) -> DataFusionResult<RecordBatch> {
        match self.write_all(input, &mut writer).await {
            Ok(()) => {}
            Err(error) => {
                writer.abort().await;
                if let Some(bad) = self.bad.take() {
                    bad.abort().await;
                }
                if let Some(actions) = self.actions.take() {
                    actions.abort().await;
                }
                return Err(error);
            }
        }
        let files = writer.finish().await?;
        let bad = match self.bad.take() {
            Some(bad) => bad.finish().await?,
            None => Vec::new(),
        };
        let (keys, changes) = match self.actions.take() {
            Some(actions) => actions.finish().await?,
            None => Default::default(),
        };
        self.summary.rows_written = files.iter().map(|file| file.rows).sum();
        let files = files.into_iter().map(|file| Written::File {
            add: Box::new(file.add),
            rows: file.rows,
            origins: file.origins,
        });
        let bad = bad.into_iter().map(|file| Written::BadFile { add: Box::new(file.add), rows: file.rows });
        let keys = keys.into_iter().map(|file| Written::KeyFile { add: Box::new(file.add), rows: file.rows });
        let changes = changes.into_iter().map(|file| Written::ChangeFile { add: Box::new(file.add), rows: file.rows });
        let rows = files
            .chain(bad)
            .chain(keys)
            .chain(changes)
            .chain([Written::Summary(Box::new(self.summary))])
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
            let (batch, bad) = self.sort_out(batch)?;
            if let Some(bad) = bad {
                self.write_bad(&bad).await?;
            }
            writer.come_from(origins(&batch));
            let batches = match &mut self.actions {
                Some(actions) => actions.write(&batch, &mut self.summary.actions).await?,
                None => vec![batch],
            };
            for batch in batches {
                let batch = self.prepare(batch)?;
                writer.write(&batch).await?;
            }
        }
    }

    async fn write_bad(&mut self, batch: &RecordBatch) -> DataFusionResult<()> {
        let (Some(bad_rows), Some(writer)) = (&self.spec.bad_rows, &mut self.bad) else {
            return Err(Error::new(Code::Internal, "bad rows came to a write that has no place for them").into());
        };
        bad_rows.write(&self.store, batch, writer).await
    }

    /// Counts the rows by what becomes of them: the ones to be written, and the bad ones, if any.
    fn sort_out(&mut self, batch: RecordBatch) -> DataFusionResult<(RecordBatch, Option<RecordBatch>)> {
        let rows = batch.num_rows();
        self.summary.rows_in += rows as u64;
        let flag = |name: &str| -> Result<Option<BooleanArray>> {
            let Some(column) = batch.column_by_name(name) else { return Ok(None) };
            match column.as_boolean_opt() {
                Some(flag) => Ok(Some(flag.clone())),
                None => Err(Error::new(Code::Internal, format!("{name} is {}", column.data_type()))),
            }
        };
        let (keep, latest) = (flag(KEEP_COLUMN)?, flag(LATEST_COLUMN)?);
        let reasons = quarantine::texts(&batch, REASON_COLUMN)?;
        if reasons.is_none() && self.spec.checks == 0 {
            return Ok((self.without(batch, keep.as_ref(), latest.as_ref())?, None));
        }
        let is_bad = |row: usize| reasons.as_ref().is_some_and(|reasons| reasons.is_valid(row));
        let is = |flag: &Option<BooleanArray>, row| {
            flag.as_ref().is_none_or(|flag: &BooleanArray| flag.is_valid(row) && flag.value(row))
        };
        self.summary.checks.resize_with(self.spec.checks, CheckSummary::default);
        for index in 0..self.spec.checks {
            let Some(failures) = quarantine::texts(&batch, &check_column(index))? else { continue };
            let check = &mut self.summary.checks[index];
            for row in (0..rows).filter(|row| failures.is_valid(*row) && !is_bad(*row)) {
                check.rows += 1;
                if check.examples.len() < EXAMPLES {
                    check.examples.push(quarantine::example(&batch, row, failures.value(row))?);
                }
            }
        }
        let (mut good, mut bad) = (BooleanBufferBuilder::new(rows), BooleanBufferBuilder::new(rows));
        let summary = &mut self.summary;
        for row in 0..rows {
            let is_bad = is_bad(row);
            let (is_kept, is_latest) = (is(&keep, row), is(&latest, row));
            bad.append(is_bad);
            good.append(!is_bad && is_kept && is_latest);
            match (is_bad, is_kept, is_latest) {
                (true, ..) => summary.rows_quarantined += 1,
                (_, false, _) => summary.rows_dropped += 1,
                (_, _, false) => summary.rows_superseded += 1,
                _ => {}
            }
        }
        let bad = BooleanArray::new(bad.finish(), None);
        let bad = if bad.true_count() > 0 { Some(filter_record_batch(&batch, &bad)?) } else { None };
        if let Some(bad) = &bad {
            self.count_reasons(bad)?;
        }
        let good = BooleanArray::new(good.finish(), None);
        let good = if good.true_count() == rows { batch } else { filter_record_batch(&batch, &good)? };
        Ok((good, bad))
    }

    /// The rows that are kept and the latest.
    fn without(
        &mut self,
        batch: RecordBatch,
        keep: Option<&BooleanArray>,
        latest: Option<&BooleanArray>,
    ) -> DataFusionResult<RecordBatch> {
        let keep = keep.map(no_nulls);
        let rows = batch.num_rows() as u64;
        let kept = keep.as_ref().map_or(rows, |keep| keep.true_count() as u64);
        let good = match (keep, latest) {
            (Some(keep), Some(latest)) => and(&keep, &no_nulls(latest))?,
            (Some(only), None) => only,
            (None, Some(only)) => no_nulls(only),
            (None, None) => return Ok(batch),
        };
        let batch = filter_record_batch(&batch, &good)?;
        self.summary.rows_dropped += rows - kept;
        self.summary.rows_superseded += kept - batch.num_rows() as u64;
        Ok(batch)
    }

    fn count_reasons(&mut self, bad: &RecordBatch) -> Result<()> {
        let Some(reasons) = quarantine::texts(bad, REASON_COLUMN)? else { return Ok(()) };
        for (row, reason) in reasons.iter().enumerate() {
            let reason = reason.unwrap_or_default();
            let kind = reason.split_once(": ").map_or(reason, |(kind, _)| kind);
            match self.summary.reasons.get_mut(kind) {
                Some(count) => *count += 1,
                None => {
                    let kind = if self.summary.reasons.len() < REASONS { kind } else { "other" };
                    *self.summary.reasons.entry(kind.to_string()).or_default() += 1;
                }
            }
            if self.summary.bad_examples.len() < EXAMPLES {
                self.summary.bad_examples.push(quarantine::example(bad, row, reason)?);
            }
        }
        Ok(())
    }

    /// The rows in the table's columns and types.
    fn prepare(&mut self, batch: RecordBatch) -> DataFusionResult<RecordBatch> {
        // Casts to what must have a value don't name the column.
        self.check_not_null(&batch)?;
        let batch = cast_record_batch(&batch, self.schema.clone(), false, false).map_err(|error| {
            Error::new(Code::BadValue, format!("a row does not fit table {}: {error}", self.spec.table))
        })?;
        // Lists of other kinds are seen only now.
        self.check_not_null(&batch)?;
        self.count_null_keys(&batch)?;
        Ok(batch)
    }

    fn check_not_null(&self, batch: &RecordBatch) -> Result<()> {
        for field in self.required.iter().flat_map(|required| required.fields()) {
            let Some(column) = batch.column_by_name(field.name()) else { continue };
            let Some((path, row)) = nulls::missing(field, column)? else { continue };
            let row = row.map(|row| render(batch, row)).transpose()?;
            let row = row.map(|row| format!(": {row}")).unwrap_or_default();
            let table = &self.spec.table;
            let message = format!("column `{path}` of table {table} is NOT NULL, and a row has no value for it{row}");
            return Err(Error::new(Code::BadValue, message).hint(
                "nothing of it was applied; leave such rows out with `where:`, or give them a value with coalesce",
            ));
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

/// The files that rows were in, as far as their batch tells.
fn origins(batch: &RecordBatch) -> BTreeSet<i32> {
    let files = batch.column_by_name(FILE_COLUMN).and_then(|column| column.as_primitive_opt::<Int32Type>());
    let mut origins = BTreeSet::new();
    let mut last = None;
    for &file in files.into_iter().flat_map(|files| files.values().iter()) {
        // Mostly the same for many rows.
        if last.replace(file) != Some(file) {
            origins.insert(file);
        }
    }
    origins
}

/// The same flags, false where they were null.
fn no_nulls(flags: &BooleanArray) -> BooleanArray {
    if flags.null_count() > 0 { prep_null_mask_filter(flags) } else { flags.clone() }
}

/// A row as `{a: 1, b: NULL}`, without what tells of it, cut where it gets long.
pub(super) fn render(batch: &RecordBatch, row: usize) -> Result<String> {
    const LONGEST: usize = 300;
    let options = FormatOptions::default().with_null("NULL");
    let mut text = String::from("{");
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()).filter(|(field, _)| !is_hidden(field.name())) {
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
