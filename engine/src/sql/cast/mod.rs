//! `CAST` with Spark's non-ANSI meaning: what cannot be cast is NULL, integers wrap, floats saturate, timestamps count in seconds.
//!
//! [`rule::LenientCasts`] replaces the casts in a plan whose meaning differs from Arrow's by calls of `lenient_cast(value, NULL::type)`.

mod moment;
mod number;
mod read;
pub(crate) mod rule;
mod strict;
mod write;

pub(crate) use moment::instants;
pub(crate) use strict::{STRICT, strict_cast, strict_function};
pub use strict::{StrictCast, take_strict_casts};
pub(crate) use write::float as java_float;

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray, new_null_array},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{Expr, ScalarUDF},
};

use super::{
    kernel::{Arguments, Kernel, wrong_call},
    time::zone::Zone,
};

/// The function's name.
pub(crate) const NAME: &str = "lenient_cast";

/// `lenient_cast(value, NULL::type)`.
pub(crate) fn function() -> Arc<ScalarUDF> {
    Kernel::function(
        NAME,
        |types| {
            if types.len() == 2 {
                Ok(types.to_vec())
            } else {
                Err(wrong_call("lenient_cast takes a value and a typed NULL"))
            }
        },
        |fields, _| match fields {
            [_, target] => Ok(target.data_type().clone()),
            _ => Err(wrong_call("lenient_cast takes a value and a typed NULL")),
        },
        |arguments: &Arguments| cast(&arguments.arrays[0], &arguments.result, Zone::of_session(&arguments.config)?),
    )
}

/// A call of `lenient_cast`. Unlike DataFusion's own cast it is part of a column's name, so that one value may be cast to several types.
pub(crate) fn lenient_cast(value: Expr, to: &DataType) -> Result<Expr> {
    Ok(function().call(vec![value, Expr::Literal(ScalarValue::try_from(to)?, None)]))
}

/// Casts an array; `session` is the clock of texts and dates without a zone.
pub(crate) fn cast(array: &ArrayRef, to: &DataType, session: Zone) -> Result<ArrayRef> {
    use DataType::{
        Date32, Date64, Dictionary, Duration, Interval, LargeList, LargeUtf8, List, Map, Null, Struct, Timestamp, Utf8,
        Utf8View,
    };
    let from = array.data_type();
    match (from, to) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (Null, to) => Ok(new_null_array(to, array.len())),
        (Dictionary(_, value), to) => cast(&arrow_cast(array, value)?, to, session),
        (List(_), List(field)) => list::<i32>(array, field, session),
        (LargeList(_), LargeList(field)) => list::<i64>(array, field, session),
        (Struct(_), Struct(fields)) => {
            let array = array.as_struct();
            if array.num_columns() != fields.len() {
                return Err(wrong_call(format!(
                    "can't cast a struct of {} fields to one of {}",
                    array.num_columns(),
                    fields.len()
                )));
            }
            let columns =
                array.columns().iter().zip(fields).map(|(column, field)| cast(column, field.data_type(), session));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                array.nulls().cloned(),
                array.len(),
            )?))
        }
        (Map(..), Map(entries, ordered)) => {
            let array = array.as_map();
            let all: ArrayRef = Arc::new(array.entries().clone());
            let cast = cast(&all, entries.data_type(), session)?.as_struct().clone();
            Ok(Arc::new(MapArray::try_new(
                Arc::clone(entries),
                array.offsets().clone(),
                cast,
                array.nulls().cloned(),
                *ordered,
            )?))
        }
        (Utf8 | LargeUtf8 | Utf8View, to) => read::from_text(array, to, session),
        (from, Utf8) => write::to_text(array, from, session),
        (from, LargeUtf8 | Utf8View) => arrow_cast(&write::to_text(array, from, session)?, to),
        (Timestamp(..) | Date32 | Date64 | Duration(_) | Interval(_), to) => moment::from_moment(array, to, session),
        (from, Timestamp(..)) if from.is_numeric() => moment::from_seconds(array, to, session),
        (from, to) if from.is_numeric() && to.is_numeric() => number::to_number(array, to),
        _ => arrow_cast(array, to),
    }
}

fn list<O: OffsetSizeTrait>(array: &ArrayRef, field: &FieldRef, session: Zone) -> Result<ArrayRef> {
    let array = array.as_list::<O>();
    let values = cast(array.values(), field.data_type(), session)?;
    Ok(Arc::new(GenericListArray::<O>::try_new(
        Arc::clone(field),
        array.offsets().clone(),
        values,
        array.nulls().cloned(),
    )?))
}

/// Arrow's own cast; what does not fit is NULL.
fn arrow_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, to, &CastOptions { safe: true, ..CastOptions::default() })?)
}

#[cfg(test)]
mod tests;
