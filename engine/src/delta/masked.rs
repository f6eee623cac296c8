//! Files of which rows are gone in many short runs, as upserts leave them: all rows of the row groups and pages in question are read, each with its
//! number, and those that are gone are filtered out.
//!
//! As a row selection, a run would be two entries of a list that is copied three times between a deletion vector and the mask that Parquet makes of it in
//! the end: a tenth of the CPU of the example's questions, on a table of ten days with a fifth of the rows replaced.

use std::{fmt, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions},
    buffer::BooleanBuffer,
    compute::filter,
    datatypes::{DataType, Field, Int64Type},
};
use datafusion::{
    common::Result,
    config::ConfigOptions,
    datasource::physical_plan::{FileScanConfig, FileSource, ParquetSource},
    functions::core::file_row_index,
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{Column, Literal},
        projection::{ProjectionExpr, ProjectionExprs},
    },
};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, PendingMorselPlanner};
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream::BoxStream};
use roaring::RoaringTreemap;

use crate::{
    error::{Code, Error},
    names::our_column,
};

/// Rows from one run of deleted ones to the next, on average, up to which they are filtered out. Parquet makes a mask of shorter selections, too.
const ROWS_A_RUN: u64 = 64;

/// Whether so many rows have these in many short runs.
pub(super) fn is_scattered(deleted: &RoaringTreemap, rows: u64) -> bool {
    let few = rows / ROWS_A_RUN;
    let (mut runs, mut last) = (0, None);
    for row in deleted {
        runs += u64::from(last.is_none_or(|last| last + 1 != row));
        if runs > few {
            return true;
        }
        last = Some(row);
    }
    false
}

/// The rows of a file that are not deleted.
pub(super) fn remaining(deleted: &RoaringTreemap, rows: u64) -> BooleanBuffer {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let mut left = BooleanBufferBuilder::new(rows);
    left.append_n(rows, true);
    for row in deleted.iter().map_while(|row| usize::try_from(row).ok()).take_while(|row| *row < rows) {
        left.set_bit(row, false);
    }
    left.finish()
}

/// The same source and scan with one more column, the last: the row's position in its file. There is no limit, since rows will be filtered out.
/// `None` where the scan computes anything: it might fail for rows that are gone.
pub(super) fn numbered(
    source: &ParquetSource,
    config: &FileScanConfig,
) -> Result<Option<(ParquetSource, FileScanConfig)>> {
    let wrong = || Error::new(Code::Internal, "a Parquet source takes no projection with row numbers");
    let projection = source.projection().ok_or_else(wrong)?;
    let is_plain = |expr: &Arc<dyn PhysicalExpr>| {
        expr.downcast_ref::<Column>().is_some() || expr.downcast_ref::<Literal>().is_some()
    };
    if !projection.iter().all(|column| is_plain(&column.expr)) {
        return Ok(None);
    }
    let columns = projection.project_schema(source.table_schema().table_schema())?;
    let columns = columns.fields().iter().enumerate().map(|(index, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        ProjectionExpr::new(column, field.name())
    });
    let number = ScalarFunctionExpr::new(
        "file_row_index",
        file_row_index(),
        Vec::new(),
        Arc::new(Field::new("file_row_index", DataType::Int64, true)),
        Arc::new(ConfigOptions::default()),
    );
    let number = ProjectionExpr::new(Arc::new(number), our_column!("row"));
    let projected = source.try_pushdown_projection(&ProjectionExprs::new(columns.chain([number])))?;
    let projected = projected.as_ref().and_then(|source| source.downcast_ref::<ParquetSource>()).ok_or_else(wrong)?;
    let mut config = config.clone();
    config.limit = None;
    Ok(Some((projected.clone(), config)))
}

/// A planner of [`numbered`] rows, of which only those `left` come out, without their numbers.
pub(super) struct Masked<T: ?Sized> {
    pub(super) inner: Box<T>,
    pub(super) left: BooleanBuffer,
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Masked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masked({:?})", self.inner)
    }
}

fn masked(inner: Box<dyn MorselPlanner>, left: &BooleanBuffer) -> Box<dyn MorselPlanner> {
    Box::new(Masked { inner, left: left.clone() })
}

impl MorselPlanner for Masked<dyn MorselPlanner> {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Masked { inner, left } = *self;
        let Some(mut plan) = inner.plan()? else { return Ok(None) };
        let morsels = plan.take_morsels().into_iter();
        let morsels = morsels.map(|inner| Box::new(Masked { inner, left: left.clone() }) as Box<dyn Morsel>);
        let planners = plan.take_ready_planners().into_iter().map(|inner| masked(inner, &left));
        let mut all = MorselPlan::new().with_morsels(morsels.collect()).with_planners(planners.collect());
        if let Some(pending) = plan.take_pending_planner().map(PendingMorselPlanner::into_future) {
            let pending: BoxFuture<'static, Result<Box<dyn MorselPlanner>>> = pending;
            all.set_pending_planner(async move { Ok(masked(pending.await?, &left)) });
        }
        Ok(Some(all))
    }
}

impl Morsel for Masked<dyn Morsel> {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Masked { inner, left } = *self;
        let kept = inner.into_stream().map(move |batch| keep(&batch?, &left));
        kept.try_filter(|batch| futures::future::ready(batch.num_rows() > 0)).boxed()
    }
}

/// The rows of a batch that are `left` of their file; their numbers are the last column, which goes.
fn keep(batch: &RecordBatch, left: &BooleanBuffer) -> Result<RecordBatch> {
    let number = batch.num_columns().saturating_sub(1);
    let wrong = || Error::new(Code::Internal, "a scan gave no numbers, or numbers that are no rows of their file");
    let numbers = batch.columns().get(number).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let numbers = numbers.ok_or_else(wrong)?.values();
    let row = |number: &i64| usize::try_from(*number).ok().filter(|row| *row < left.len());
    let mask = match (numbers.first().and_then(row), numbers.last().and_then(row)) {
        (Some(first), Some(last)) if last.checked_sub(first) == Some(numbers.len() - 1) => {
            left.slice(first, numbers.len())
        }
        // Pages between them were ruled out.
        _ => {
            let rows = numbers.iter().map(|number| Ok(left.value(row(number).ok_or_else(wrong)?)));
            rows.collect::<Result<Vec<bool>, Error>>()?.into()
        }
    };
    let rows = mask.count_set_bits();
    let mask = BooleanArray::new(mask, None);
    let columns = batch.columns()[..number].iter();
    let columns = match rows == mask.values().len() {
        true => columns.cloned().collect(),
        false => columns.map(|column| filter(column, &mask)).collect::<Result<Vec<_>, _>>()?,
    };
    let schema = Arc::new(batch.schema().project(&Vec::from_iter(0..number))?);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}
