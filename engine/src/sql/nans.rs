//! Filters over floats, for looking them up in statistics.
//!
//! Bounds in Parquet and in the log leave NaN out, and NaN is above every number: `x > 5` holds for a NaN in a file whose largest number is 3
//! (datafusion 15812). So such a comparison is looked up as `x > 5 OR isnan(x)`, which rules nothing out and means the same.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::{
    common::{
        Result, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    config::ConfigOptions,
    logical_expr::Operator,
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{BinaryExpr, Literal},
        utils::collect_columns,
    },
};

/// The filter with what NaNs need.
pub(crate) fn with_nans(filter: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    if !schema.fields().iter().any(|field| field.data_type().is_floating()) {
        return Ok(filter);
    }
    let changed = filter.transform_up(|expr| {
        let Some(comparison) = expr.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
        let (left, right) = (comparison.left(), comparison.right());
        let sides: &[_] = match comparison.op() {
            Operator::Gt | Operator::GtEq => &[left],
            Operator::Lt | Operator::LtEq => &[right],
            Operator::NotEq => &[left, right],
            Operator::Eq if is_nan(left) || is_nan(right) => &[left, right],
            _ => return Ok(Transformed::no(expr)),
        };
        let Some(side) = sides.iter().find(|side| reads_float(side, schema)) else { return Ok(Transformed::no(expr)) };
        let is_nan = datafusion::functions::math::isnan();
        let is_nan =
            ScalarFunctionExpr::try_new(is_nan, vec![Arc::clone(side)], schema, Arc::new(ConfigOptions::default()))?;
        let either = BinaryExpr::new(Arc::clone(&expr), Operator::Or, Arc::new(is_nan));
        Ok(Transformed::yes(Arc::new(either) as Arc<dyn PhysicalExpr>))
    });
    Ok(changed?.data)
}

fn is_nan(expr: &Arc<dyn PhysicalExpr>) -> bool {
    match expr.downcast_ref::<Literal>().map(Literal::value) {
        Some(ScalarValue::Float64(Some(value))) => value.is_nan(),
        Some(ScalarValue::Float32(Some(value))) => value.is_nan(),
        _ => false,
    }
}

fn reads_float(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    expr.data_type(schema).is_ok_and(|data_type| data_type.is_floating())
        && collect_columns(expr)
            .iter()
            .any(|column| schema.fields().get(column.index()).is_some_and(|field| field.data_type().is_floating()))
}
