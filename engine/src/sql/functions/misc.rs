//! Checks, and arithmetic that gives NULL where it overflows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, new_null_array},
    datatypes::{DataType, FieldRef, Int64Type},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::ScalarUDF,
};

use super::args::{as_first, common, gives_text, kernel};
use crate::sql::{
    kernel::{Accept, Arguments, Compute, Kernel, wrong_call},
    types::type_name,
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let checked: [(&'static str, Accept, Compute); 3] = [
        ("try_add", |types| two_integers("try_add", types), |arguments| checked(arguments, i64::checked_add)),
        ("try_subtract", |types| two_integers("try_subtract", types), |arguments| checked(arguments, i64::checked_sub)),
        ("try_multiply", |types| two_integers("try_multiply", types), |arguments| checked(arguments, i64::checked_mul)),
    ];
    let mut functions: Vec<Arc<ScalarUDF>> =
        checked.into_iter().map(|(name, accept, compute)| Kernel::function(name, accept, as_first, compute)).collect();
    functions.push(kernel!("assert_true", [Boolean], [Text], gives_nothing, |arguments| {
        for row in 0..arguments.rows() {
            if arguments.boolean(0, row) != Some(true) {
                let message = if arguments.count() > 1 { arguments.text(1, row) } else { None };
                return exec_err!("assert_true: {}", message.unwrap_or("the condition is not true"));
            }
        }
        Ok(new_null_array(&DataType::Null, arguments.rows()))
    }));
    functions.push(Kernel::function(
        "typeof",
        |types| match types {
            [_] => Ok(types.to_vec()),
            _ => Err(wrong_call("`typeof` takes one value")),
        },
        gives_text,
        |arguments| {
            let name = type_name(arguments.arrays[0].data_type());
            arguments.texts(|_| Some(&name))
        },
    ));
    functions.push(kernel!("raise_error", [Text], [], gives_nothing, |arguments| {
        if arguments.rows() == 0 {
            return Ok(new_null_array(&DataType::Null, 0));
        }
        exec_err!("raise_error: {}", arguments.text(0, 0).unwrap_or("NULL"))
    }));
    functions
}

fn gives_nothing(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Null)
}

fn two_integers(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [a, b] if a.is_integer() && b.is_integer() => Ok(vec![common(name, types)?; 2]),
        _ => Err(wrong_call(format!("`{name}` takes two numbers"))),
    }
}

/// NULL where the result is not of the arguments' type.
fn checked(arguments: &Arguments, of: fn(i64, i64) -> Option<i64>) -> Result<ArrayRef> {
    let longs = |i: usize| arrow::compute::cast(&arguments.arrays[i], &DataType::Int64);
    let (a, b) = (longs(0)?, longs(1)?);
    let (a, b) = (a.as_primitive::<Int64Type>(), b.as_primitive::<Int64Type>());
    let results = a.iter().zip(b.iter()).map(|(a, b)| of(a?, b?));
    // Arrow's cast gives NULL for what does not fit.
    Ok(arrow::compute::cast(&(Arc::new(results.collect::<Int64Array>()) as ArrayRef), &arguments.result)?)
}
