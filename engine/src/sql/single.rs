//! The check that a scalar subquery has one row.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use datafusion::logical_expr::ScalarUDF;

use super::kernel::{Kernel, wrong_call};

/// `single_row(n)`: true, or an error where `n` is more than one.
pub(super) fn function() -> Arc<ScalarUDF> {
    Kernel::function(
        "single_row",
        |_| Ok(vec![DataType::Int64]),
        |_, _| Ok(DataType::Boolean),
        |arguments| {
            let Some(counts) = arguments.arrays.first() else { return Err(wrong_call("`single_row` takes a count")) };
            let counts = cast(counts, &DataType::Int64)?;
            let counts = counts.as_primitive::<Int64Type>();
            if let Some(rows) = counts.iter().flatten().find(|rows| *rows > 1) {
                return Err(wrong_call(format!("a scalar subquery gave {rows} rows, not one")));
            }
            let single: BooleanArray = (0..counts.len()).map(|_| Some(true)).collect();
            Ok(Arc::new(single) as ArrayRef)
        },
    )
}
