//! Numbers to numbers as Java casts them: integers wrap, floats saturate and lose their fraction, NaN is 0; decimals that do not fit are NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    datatypes::{DataType, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type},
};
use datafusion::common::Result;

use super::arrow_cast;

/// Casts between numeric types.
pub(super) fn to_number(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if !matches!(to, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) {
        return arrow_cast(array, to);
    }
    match array.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let values = arrow_cast(array, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            Ok(match to {
                DataType::Int8 => Arc::new(values.unary::<_, Int8Type>(|v| v as i32 as i8)),
                DataType::Int16 => Arc::new(values.unary::<_, Int16Type>(|v| v as i32 as i16)),
                DataType::Int32 => Arc::new(values.unary::<_, Int32Type>(|v| v as i32)),
                _ => Arc::new(values.unary::<_, Int64Type>(|v| v as i64)),
            })
        }
        DataType::Decimal128(_, scale) => {
            let Some(unit) = u32::try_from(*scale).ok().and_then(|scale| 10i128.checked_pow(scale)) else {
                return arrow_cast(array, to);
            };
            Ok(narrow(&array.as_primitive::<Decimal128Type>().unary(|v| (v / unit) as i64), to))
        }
        DataType::UInt64 | DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
            arrow_cast(array, to)
        }
        _ => Ok(narrow(arrow_cast(array, &DataType::Int64)?.as_primitive::<Int64Type>(), to)),
    }
}

/// The low bits of integers, as an integer type.
pub(super) fn narrow(values: &Int64Array, to: &DataType) -> ArrayRef {
    match to {
        DataType::Int8 => Arc::new(values.unary::<_, Int8Type>(|v| v as i8)),
        DataType::Int16 => Arc::new(values.unary::<_, Int16Type>(|v| v as i16)),
        DataType::Int32 => Arc::new(values.unary::<_, Int32Type>(|v| v as i32)),
        _ => Arc::new(values.clone()),
    }
}
