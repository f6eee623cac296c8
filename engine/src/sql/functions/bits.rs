//! Functions of bits.

use std::sync::Arc;

use arrow::datatypes::{DataType, Int8Type, Int32Type, Int64Type};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::ScalarUDF,
};

use super::args::{Kind, accept_one, as_first, gives_int};
use crate::sql::{
    kernel::{Arguments, Kernel, wrong_call},
    types::type_name,
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Kernel::function(
            "shiftleft",
            |types| shift_types("shiftleft", types),
            as_first,
            |arguments| shift(arguments, |value, by| value.wrapping_shl(by), |value, by| value.wrapping_shl(by)),
        ),
        Kernel::function(
            "shiftright",
            |types| shift_types("shiftright", types),
            as_first,
            |arguments| shift(arguments, |value, by| value.wrapping_shr(by), |value, by| value.wrapping_shr(by)),
        ),
        Kernel::function(
            "shiftrightunsigned",
            |types| shift_types("shiftrightunsigned", types),
            as_first,
            |arguments| {
                shift(
                    arguments,
                    |value, by| (value as u32).wrapping_shr(by) as i32,
                    |value, by| (value as u64).wrapping_shr(by) as i64,
                )
            },
        ),
        Kernel::function(
            "bit_count",
            |types| one_integer("bit_count", types),
            gives_int,
            |arguments| {
                arguments.values::<Int32Type>(|row| match arguments.arrays[0].data_type() {
                    DataType::Boolean => arguments.boolean(0, row).map(i32::from),
                    _ => arguments.long(0, row).map(|value| value.count_ones() as i32),
                })
            },
        ),
        Kernel::function("bit_get", |types| bit_types("bit_get", types), |_, _| Ok(DataType::Int8), bit_get),
        Kernel::function("getbit", |types| bit_types("getbit", types), |_, _| Ok(DataType::Int8), bit_get),
    ]
}

fn shift_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [value, by] => Ok(vec![
            if *value == DataType::Int64 { DataType::Int64 } else { accept_one(name, value, Kind::Int)? },
            accept_one(name, by, Kind::Int)?,
        ]),
        _ => Err(wrong_call(format!("`{name}` takes an int or bigint and how far to shift"))),
    }
}

fn shift(
    arguments: &Arguments,
    ints: fn(i32, u32) -> i32,
    longs: fn(i64, u32) -> i64,
) -> Result<arrow::array::ArrayRef> {
    if arguments.result == DataType::Int64 {
        return arguments
            .values::<Int64Type>(|row| Some(longs(arguments.long(0, row)?, arguments.int(1, row)? as u32)));
    }
    arguments.values::<Int32Type>(|row| Some(ints(arguments.int(0, row)?, arguments.int(1, row)? as u32)))
}

fn one_integer(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [DataType::Boolean] => Ok(types.to_vec()),
        [value] if value.is_integer() || *value == DataType::Null => Ok(vec![DataType::Int64]),
        [other] => Err(wrong_call(format!("`{name}` takes an integer, not {}", type_name(other)))),
        _ => Err(wrong_call(format!("`{name}` takes one integer"))),
    }
}

/// The number keeps its width: which places there are depends on it.
fn bit_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [value, place] if value.is_integer() => Ok(vec![value.clone(), accept_one(name, place, Kind::Int)?]),
        _ => Err(wrong_call(format!("`{name}` takes an integer and a place"))),
    }
}

fn bit_get(arguments: &Arguments) -> Result<arrow::array::ArrayRef> {
    let value = &arguments.arrays[0];
    let bits = value.data_type().primitive_width().unwrap_or(8) as i32 * 8;
    let longs = arrow::compute::cast(value, &DataType::Int64)?;
    let longs = arrow::array::AsArray::as_primitive::<Int64Type>(&longs).clone();
    arguments.try_values::<Int8Type>(|row| {
        if !arguments.all_known(row) {
            return Ok(None);
        }
        match arguments.int(1, row) {
            Some(place) if (0..bits).contains(&place) => Ok(Some((longs.value(row) >> place & 1) as i8)),
            Some(place) => exec_err!("there is no bit {place} in {}", type_name(value.data_type())),
            None => Ok(None),
        }
    })
}
