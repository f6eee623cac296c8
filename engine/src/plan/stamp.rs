//! Exactly-once accounting of a stage's result.
//!
//! Stock Ballista can hand back a partition twice, or not at all, when an executor is lost and the job still ends "successful". So every
//! distributed plan ends in a [`StampExec`]: each row carries the number of the partition it came from, and each partition ends in a seal, a
//! row that says how many rows it had. [`Stamped::open`] refuses a result in which the seals are not each there exactly once, or the
//! rows not as many as sealed.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch, UInt32Array, UInt64Array, new_null_array},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type},
};
use datafusion::{
    common::{internal_err, tree_node::TreeNodeRecursion},
    error::Result as DataFusionResult,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, OrderingRequirements, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, ReplaceChildrenOptions,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::StreamExt;

use super::{Asked, TaskScope};
use crate::{
    error::{Code, Error, Result},
    names::our_column,
};

const PARTITION: &str = our_column!("partition");
const SEAL: &str = our_column!("seal");

/// Adds to each row the global number of its partition, and to each partition a last row that seals it. See the module.
#[derive(Debug)]
pub struct StampExec {
    input: Arc<dyn ExecutionPlan>,
    asked: Asked,
    properties: Arc<PlanProperties>,
}

impl StampExec {
    /// Stamps the rows of `input`; its columns become nullable, since a seal has none of them.
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let asked = Asked::of(&input);
        Self::asking(input, asked)
    }

    fn asking(input: Arc<dyn ExecutionPlan>, asked: Asked) -> Self {
        let schema = stamped_schema(&input.schema());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            datafusion::physical_plan::Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, asked, properties: Arc::new(properties) }
    }
}

fn stamped_schema(input: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = input.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    fields.push(Field::new(PARTITION, DataType::UInt32, false));
    fields.push(Field::new(SEAL, DataType::UInt64, true));
    Arc::new(Schema::new(fields))
}

impl DisplayAs for StampExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StampExec")
    }
}

impl ExecutionPlan for StampExec {
    fn name(&self) -> &str {
        "StampExec"
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
            (Some(child), true) => Ok(Arc::new(Self::asking(child, self.asked.clone()))),
            _ => internal_err!("StampExec has one child"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let mode = datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(mode))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let scope = context.session_config().get_extension::<TaskScope>();
        let global = match scope.as_ref().map(|scope| scope.partitions.get(partition)) {
            Some(Some(global)) => *global,
            Some(None) => return internal_err!("task has no global number for its partition {partition}"),
            None => partition,
        };
        let global = global as u32;
        let input = self.input.execute(partition, context)?;
        let schema = self.schema();
        let stream_schema = schema.clone();
        let stream = futures::stream::try_unfold((input, 0_u64, false), move |(mut input, rows, sealed)| {
            let schema = stream_schema.clone();
            async move {
                if sealed {
                    return Ok(None);
                }
                match input.next().await {
                    Some(batch) => {
                        let batch = batch?;
                        let rows = rows + batch.num_rows() as u64;
                        Ok(Some((stamp(&batch, schema, global)?, (input, rows, false))))
                    }
                    None => Ok(Some((seal(schema, global, rows)?, (input, rows, true)))),
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

fn stamp(batch: &RecordBatch, schema: SchemaRef, partition: u32) -> DataFusionResult<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(UInt32Array::from_value(partition, batch.num_rows())));
    columns.push(new_null_array(&DataType::UInt64, batch.num_rows()));
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn seal(schema: SchemaRef, partition: u32, rows: u64) -> DataFusionResult<RecordBatch> {
    let width = schema.fields().len();
    let mut columns: Vec<_> =
        schema.fields().iter().take(width - 2).map(|field| new_null_array(field.data_type(), 1)).collect();
    columns.push(Arc::new(UInt32Array::from_value(partition, 1)));
    columns.push(Arc::new(UInt64Array::from_value(rows, 1)));
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Checks stamped rows as they come in, and gives back what was stamped.
#[derive(Debug)]
pub struct Stamped {
    schema: SchemaRef,
    seen: Vec<u64>,
    sealed: Vec<Option<u64>>,
}

impl Stamped {
    /// Of a result with this many partitions, whose rows had this schema before they were stamped.
    pub fn new(schema: SchemaRef, partitions: usize) -> Self {
        Self { schema, seen: vec![0; partitions], sealed: vec![None; partitions] }
    }

    /// Rows without stamps and seals. A second seal, or an unknown partition, is [`Code::WorkLost`].
    pub fn open(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let width = self.schema.fields().len();
        let lost = |what: String| Error::new(Code::WorkLost, what);
        if batch.num_columns() != width + 2 {
            return Err(Error::new(Code::Internal, "a result came without stamps"));
        }
        let partitions = batch.column(width).as_primitive_opt::<UInt32Type>();
        let seals = batch.column(width + 1).as_primitive_opt::<UInt64Type>();
        let (Some(partitions), Some(seals)) = (partitions, seals) else {
            return Err(Error::new(Code::Internal, "a result came with stamps of another type"));
        };
        for row in 0..batch.num_rows() {
            let partition = partitions.value(row) as usize;
            let known = self.seen.len();
            let (Some(seen), Some(sealed)) = (self.seen.get_mut(partition), self.sealed.get_mut(partition)) else {
                return Err(lost(format!("a result has partition {partition}, but there are only {known}")));
            };
            if seals.is_null(row) {
                *seen += 1;
            } else if sealed.replace(seals.value(row)).is_some() {
                return Err(lost(format!("partition {partition} of a result came twice")));
            }
        }
        let rows = arrow::compute::is_null(seals)?;
        let rows = filter_record_batch(batch, &rows)?;
        let columns = rows.columns().iter().take(width).cloned().collect();
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Checks, after the last batch, that every partition was there exactly once and whole; otherwise [`Code::WorkLost`].
    pub fn close(self) -> Result<()> {
        for (partition, (seen, sealed)) in self.seen.iter().zip(&self.sealed).enumerate() {
            match sealed {
                Some(rows) if rows == seen => {}
                Some(rows) => {
                    let what = format!("partition {partition} of a result has {seen} rows, but was sealed with {rows}");
                    return Err(Error::new(Code::WorkLost, what));
                }
                None => {
                    return Err(Error::new(Code::WorkLost, format!("partition {partition} of a result is missing")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray, Int32Array},
        datatypes::Int32Type,
    };
    use datafusion::{
        config::ConfigOptions,
        datasource::{memory::MemorySourceConfig, source::DataSourceExec},
        physical_expr::{LexOrdering, PhysicalSortExpr, expressions::col},
        physical_optimizer::{PhysicalOptimizerRule, ensure_requirements::EnsureRequirements},
        physical_plan::{
            collect_partitioned,
            sorts::{sort::SortExec, sort_preserving_merge::SortPreservingMergeExec},
        },
    };

    use super::*;

    fn input(partitions: &[&[i32]]) -> (SchemaRef, Arc<dyn ExecutionPlan>) {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, false)]));
        let batches: Vec<Vec<RecordBatch>> = partitions
            .iter()
            .map(|values| {
                vec![RecordBatch::try_new(schema.clone(), vec![Arc::new(Int32Array::from(values.to_vec()))]).unwrap()]
            })
            .collect();
        let source = MemorySourceConfig::try_new(&batches, schema.clone(), None).unwrap();
        (schema, Arc::new(DataSourceExec::new(Arc::new(source))))
    }

    async fn stamped(partitions: &[&[i32]]) -> (SchemaRef, Vec<Vec<RecordBatch>>) {
        let (schema, plan) = input(partitions);
        let plan = Arc::new(StampExec::new(plan));
        (schema, collect_partitioned(plan, Arc::new(TaskContext::default())).await.unwrap())
    }

    fn open<'a>(
        schema: &SchemaRef,
        partitions: usize,
        batches: impl IntoIterator<Item = &'a RecordBatch>,
    ) -> Result<usize> {
        let mut check = Stamped::new(schema.clone(), partitions);
        let mut rows = 0;
        for batch in batches {
            rows += check.open(batch)?.num_rows();
        }
        check.close()?;
        Ok(rows)
    }

    /// Ballista cuts a plan below its merge of sorted partitions, puts a reader without an order there, and optimizes what is above.
    #[tokio::test]
    async fn an_order_outlives_the_cut_below_it() {
        let (schema, source) = input(&[&[3, 1], &[2, 0]]);
        let order = LexOrdering::new([PhysicalSortExpr::new_default(col("n", &schema).unwrap())]).unwrap();
        let sorted = Arc::new(SortExec::new(order.clone(), source.clone()).with_preserve_partitioning(true));
        let merged: Arc<dyn ExecutionPlan> = Arc::new(SortPreservingMergeExec::new(order, sorted));
        let stamped: Arc<dyn ExecutionPlan> = Arc::new(StampExec::new(merged.clone()));
        let over = |plan: Arc<dyn ExecutionPlan>, child| {
            let mode = datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
            plan.replace_children(vec![child], ReplaceChildrenOptions::new(mode)).unwrap()
        };
        let cut = over(stamped, over(merged, source));
        let again = EnsureRequirements::default().optimize(cut, &ConfigOptions::default()).unwrap();
        let parts = collect_partitioned(again, Arc::new(TaskContext::default())).await.unwrap();
        assert_eq!(parts.len(), 1);
        let numbers =
            |batch: &RecordBatch| batch.column(0).as_primitive::<Int32Type>().iter().flatten().collect::<Vec<_>>();
        assert_eq!(parts[0].iter().flat_map(numbers).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_whole_result_is_opened() {
        let (schema, parts) = stamped(&[&[1, 2, 3], &[], &[4]]).await;
        assert_eq!(open(&schema, 3, parts.iter().flatten()).unwrap(), 4);
    }

    #[tokio::test]
    async fn a_partition_twice_missing_or_cut_is_refused() {
        let (schema, parts) = stamped(&[&[1, 2, 3], &[], &[4]]).await;
        let twice = parts.iter().chain([&parts[0]]).flatten();
        assert_eq!(open(&schema, 3, twice).unwrap_err().code, Code::WorkLost);
        assert_eq!(open(&schema, 3, parts[..2].iter().flatten()).unwrap_err().code, Code::WorkLost);
        let cut = parts[0].iter().skip(1).chain(parts[1..].iter().flatten());
        assert_eq!(open(&schema, 3, cut).unwrap_err().code, Code::WorkLost);
        assert_eq!(open(&schema, 2, parts.iter().flatten()).unwrap_err().code, Code::WorkLost);
    }
}
