//! Z-order: rows that are near each other in several columns at once lie in the same files, so that a filter on any of the columns passes files over.
//!
//! Values become ranks by [`ZOrder::of_sample`]'s cut points, quantiles of a sample, so that every type that can be compared will do and skewed values
//! spread. The bits of the ranks are interleaved (Morton 1966); rows are shuffled by ranges of the result, and sorted within each.

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef},
    row::{RowConverter, SortField},
};
use datafusion::{
    common::tree_node::TreeNodeRecursion,
    error::Result as DataFusionResult,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{
        EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr, expressions::Column,
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        metrics::Time,
        repartition::{BatchPartitioner, RepartitionExec},
        sorts::sort::SortExec,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Error, Result},
    names::our_column,
};

/// The column that [`ZOrderExec`] adds: the row's place along the curve.
pub(super) const Z_COLUMN: &str = our_column!("z");
/// The other one: names the row's range of the curve.
pub(super) const RANGE_COLUMN: &str = our_column!("range");

/// Columns at most.
const MOST_COLUMNS: usize = 16;
/// Bits of a rank at most: 1,024 steps of a column.
const MOST_BITS: u32 = 10;
/// Bytes of a cut point that are kept; of longer texts the beginning decides.
const CUT_BYTES: usize = 64;

/// The ranks' bits, the lowest first, in turns: `bits` of each of them, of the first one the higher. `ranks × bits` is at most 64.
fn interleave(ranks: &[u64], bits: u32) -> u64 {
    let mut z = 0;
    for bit in (0..bits).rev() {
        for rank in ranks {
            z = z << 1 | (rank >> bit & 1);
        }
    }
    z
}

/// Where a row lies; travels with the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZOrder {
    columns: Vec<String>,
    bits: u32,
    /// Per column, where a rank ends and the next one begins, in Arrow's row format, ascending.
    cuts: Vec<Vec<Vec<u8>>>,
    /// The first place of each range of the curve but the first.
    starts: Vec<u64>,
    /// What names each range.
    names: Vec<i64>,
}

impl ZOrder {
    /// Fails with [`Code::InvalidSpec`] when rows can't be laid out along these columns.
    pub fn check(schema: &Schema, columns: &[String]) -> Result<()> {
        for (at, name) in columns.iter().enumerate() {
            let names = || schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
            let field = schema.field_with_name(name).map_err(|_| {
                Error::new(Code::InvalidSpec, format!("z_order: there is no column `{name}`"))
                    .hint(format!("there are: {}", names()))
            })?;
            if field.data_type().is_nested() {
                return Err(Error::new(Code::InvalidSpec, format!("z_order: `{name}` is an array, map or struct"))
                    .hint("give columns that have an order"));
            }
            if columns[..at].contains(name) {
                return Err(Error::new(Code::InvalidSpec, format!("z_order: `{name}` is there twice"))
                    .hint("remove one of them"));
            }
        }
        match columns.len() {
            0..=MOST_COLUMNS => Ok(()),
            n => Err(Error::new(Code::InvalidSpec, format!("z_order: {n} columns, and {MOST_COLUMNS} are possible"))
                .hint("choose the few columns that filters name most; each one more weakens the others")),
        }
    }

    /// Cuts the columns of a sample of rows, and the curve into `ranges` with about as many rows each.
    pub fn of_sample(sample: &RecordBatch, columns: &[String], ranges: usize) -> Result<Self> {
        Self::check(&sample.schema(), columns)?;
        let bits = (64 / u32::try_from(columns.len().max(1)).unwrap_or(64)).min(MOST_BITS);
        let mut order = Self { columns: columns.to_vec(), bits, cuts: Vec::new(), starts: Vec::new(), names: vec![0] };
        for name in columns {
            let mut values = rows(sample, name)?;
            values.sort_unstable();
            let steps = 1usize << bits;
            let mut cuts: Vec<Vec<u8>> = (1..steps)
                .filter_map(|step| values.get(step * values.len() / steps))
                .map(|value| value[..value.len().min(CUT_BYTES)].to_vec())
                .collect();
            cuts.dedup();
            // Below the least value nothing is to be told apart.
            if cuts.first().zip(values.first()).is_some_and(|(cut, least)| cut <= least) {
                cuts.remove(0);
            }
            order.cuts.push(cuts);
        }
        let mut places = order.places(sample)?;
        places.sort_unstable();
        let ranges = ranges.max(1);
        order.starts = (1..ranges).filter_map(|range| places.get(range * places.len() / ranges).copied()).collect();
        order.starts.dedup();
        order.names = names(order.starts.len() + 1)?;
        Ok(order)
    }

    /// How many ranges there are.
    pub fn ranges(&self) -> usize {
        self.names.len()
    }

    /// The rows' places along the curve.
    fn places(&self, batch: &RecordBatch) -> Result<Vec<u64>> {
        let mut ranks: Vec<Vec<u64>> = vec![Vec::with_capacity(self.columns.len()); batch.num_rows()];
        for (name, cuts) in self.columns.iter().zip(&self.cuts) {
            for (ranks, value) in ranks.iter_mut().zip(rows(batch, name)?) {
                ranks.push(cuts.partition_point(|cut| *cut <= value) as u64);
            }
        }
        Ok(ranks.iter().map(|ranks| interleave(ranks, self.bits)).collect())
    }

    fn add(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let places = self.places(batch)?;
        let range = |place: &u64| self.names[self.starts.partition_point(|start| start <= place)];
        let ranges = places.iter().map(range).collect::<Int64Array>();
        let mut columns = batch.columns().to_vec();
        columns.extend([Arc::new(UInt64Array::from(places)) as ArrayRef, Arc::new(ranges)]);
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

/// The values of a column in a form whose bytes are in their order.
fn rows(batch: &RecordBatch, column: &str) -> Result<Vec<Vec<u8>>> {
    let column = batch.column(batch.schema().index_of(column)?);
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    let rows = converter.convert_columns(std::slice::from_ref(column))?;
    Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
}

/// A number for each of `ranges` partitions that the shuffle's hash puts there, so that no partition gets two ranges.
fn names(ranges: usize) -> Result<Vec<i64>> {
    // Some partition may be missed by chance: then two ranges share one.
    let numbers: Vec<i64> = (0..i64::try_from(ranges * 32).unwrap_or(i64::MAX)).collect();
    let schema = Arc::new(Schema::new(vec![Field::new(RANGE_COLUMN, DataType::Int64, false)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(numbers))])?;
    let mut names: Vec<i64> = (0..i64::try_from(ranges).unwrap_or(i64::MAX)).collect();
    let by: Arc<dyn PhysicalExpr> = Arc::new(Column::new(RANGE_COLUMN, 0));
    let mut partitioner = BatchPartitioner::new_hash_partitioner(vec![by], ranges, Time::default())?;
    partitioner.partition(batch, |partition, rows| {
        let first = rows.column(0).as_any().downcast_ref::<Int64Array>().and_then(|rows| rows.iter().next()?);
        if let (Some(name), Some(first)) = (names.get_mut(partition), first) {
            *name = first;
        }
        Ok(())
    })?;
    Ok(names)
}

/// Adds to each row its place along the curve, and the name of its range.
#[derive(Debug)]
pub struct ZOrderExec {
    input: Arc<dyn ExecutionPlan>,
    order: Arc<ZOrder>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl ZOrderExec {
    /// The input must have the columns.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, order: Arc<ZOrder>) -> Result<Self> {
        ZOrder::check(&input.schema(), &order.columns)?;
        let mut fields = input.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(Z_COLUMN, DataType::UInt64, false)));
        fields.push(Arc::new(Field::new(RANGE_COLUMN, DataType::Int64, false)));
        let schema = Arc::new(Schema::new(fields));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self { input, order, schema, properties: Arc::new(properties) })
    }

    /// Where rows lie.
    pub fn order(&self) -> &ZOrder {
        &self.order
    }
}

/// The rows of a scan, a range of the curve a partition, sorted along it.
pub fn along(scan: Arc<dyn ExecutionPlan>, order: ZOrder) -> Result<Arc<dyn ExecutionPlan>> {
    let ranges = order.ranges();
    let placed = ZOrderExec::try_new(scan, Arc::new(order))?;
    let column = |name: &str| Ok::<_, Error>(Arc::new(Column::new(name, placed.schema.index_of(name)?)));
    let (range, z) = (column(RANGE_COLUMN)?, column(Z_COLUMN)?);
    let shuffled = RepartitionExec::try_new(Arc::new(placed), Partitioning::Hash(vec![range], ranges))?;
    let by = LexOrdering::from([PhysicalSortExpr::new_default(z)]);
    Ok(Arc::new(SortExec::new(by, Arc::new(shuffled)).with_preserve_partitioning(true)))
}

impl DisplayAs for ZOrderExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZOrderExec: {}", self.order.columns.join(", "))
    }
}

impl ExecutionPlan for ZOrderExec {
    fn name(&self) -> &str {
        "ZOrderExec"
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
            Ok([input]) => Ok(Arc::new(Self::try_new(input, self.order.clone())?)),
            Err(_) => Err(Error::new(Code::Internal, "ZOrderExec has one input").into()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let (order, schema) = (self.order.clone(), self.schema.clone());
        let rows = self.input.execute(partition, context)?;
        let rows = rows.and_then(move |batch| std::future::ready(order.add(&batch, &schema).map_err(Into::into)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::StringArray;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_are_interleaved() {
        assert_eq!(interleave(&[0b11, 0b00], 2), 0b1010);
        assert_eq!(interleave(&[0b01, 0b10], 2), 0b0110);
        assert_eq!(interleave(&[5], 3), 5);
        assert_eq!(interleave(&[u64::MAX; 16], 4), u64::MAX);
        assert_eq!(interleave(&[], 10), 0);
    }

    proptest! {
        #[test]
        fn every_place_is_another_and_each_rank_counts(a in 0u64..1024, b in 0u64..1024, c in 0u64..1024, d in 0u64..1024) {
            prop_assert_eq!(interleave(&[a, b], 10) == interleave(&[c, d], 10), (a, b) == (c, d));
            // Further in no column is further along the curve.
            if a <= c && b <= d {
                prop_assert!(interleave(&[a, b], 10) <= interleave(&[c, d], 10));
            }
        }
    }

    fn batch(n: i64) -> RecordBatch {
        let words = (0..n).map(|at| (at % 7 != 0).then(|| format!("a long common beginning {:04}", at * 13 % 97)));
        let skewed = (0..n).map(|at| if at % 2 == 0 { 0 } else { at * at });
        RecordBatch::try_from_iter_with_nullable([
            ("n", Arc::new(skewed.collect::<Int64Array>()) as ArrayRef, true),
            ("s", Arc::new(words.collect::<StringArray>()) as ArrayRef, true),
        ])
        .unwrap()
    }

    #[test]
    fn places_follow_the_values_of_a_column() {
        let batch = batch(500);
        for column in ["n", "s"] {
            let order = ZOrder::of_sample(&batch, &[column.to_string()], 4).unwrap();
            let mut pairs: Vec<_> =
                rows(&batch, column).unwrap().into_iter().zip(order.places(&batch).unwrap()).collect();
            pairs.sort();
            assert!(pairs.iter().map(|(_, place)| place).is_sorted(), "{column}");
            let places: BTreeSet<_> = pairs.iter().map(|(_, place)| place).collect();
            assert!(places.len() > 50, "{column}: {} places", places.len());
        }
    }

    #[test]
    fn ranges_have_names_that_the_shuffle_tells_apart() {
        for ranges in [1, 2, 5, 16] {
            let named: BTreeSet<i64> = names(ranges).unwrap().into_iter().collect();
            assert_eq!(named.len(), ranges);
        }
        let order = ZOrder::of_sample(&batch(500), &["n".to_string(), "s".to_string()], 4).unwrap();
        assert!((2..=4).contains(&order.ranges()));
        let json = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<ZOrder>(&json).unwrap(), order);
        // Nothing is known of an empty table, and nothing needs to be.
        let none = ZOrder::of_sample(&batch(0), &["n".to_string()], 4).unwrap();
        assert_eq!((none.ranges(), none.places(&batch(3)).unwrap()), (1, vec![0; 3]));
    }

    #[test]
    fn columns_without_an_order_are_refused() {
        let schema = batch(1).schema();
        for columns in [vec!["x"], vec!["n", "n"]] {
            let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
            assert_eq!(ZOrder::check(&schema, &columns).unwrap_err().code, Code::InvalidSpec);
        }
    }
}
