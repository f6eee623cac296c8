//! `sequence(start, stop[, step])` of integers, dates and timestamps.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, ListArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{
        DataType, Date32Type, Field, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
        TimestampMicrosecondType,
    },
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::ScalarUDF,
};

use super::{args::common, moments::add_months};
use crate::sql::{
    cast::cast,
    kernel::{Arguments, Kernel, wrong_call},
    time::{
        calendar::{DAY, SECOND},
        zone::Zone,
    },
    types::{list_of, type_name},
};

/// More elements than anybody wants, fewer than memory has room for.
const MOST: usize = 10_000_000;

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Kernel::function(
        "sequence",
        accepted,
        |fields, _| match fields.first() {
            Some(field) => Ok(list_of(field.data_type().clone(), false)),
            None => Err(wrong_call("`sequence` takes a start and a stop")),
        },
        sequence,
    )]
}

fn interval() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}

fn accepted(types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() != 2 && types.len() != 3 {
        return Err(wrong_call("`sequence` takes a start, a stop and, if needed, a step"));
    }
    let both = match common("sequence", &types[..2])? {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone),
        DataType::Null => DataType::Int32,
        other => other,
    };
    let (both, step) = match (both, types.get(2)) {
        (both, Some(step)) if both.is_integer() && (step.is_integer() || *step == DataType::Null) => {
            let all = common("sequence", &[both, step.clone()])?;
            (all.clone(), all)
        }
        (both, None) if both.is_integer() => (both.clone(), both),
        (
            both @ (DataType::Date32 | DataType::Timestamp(..)),
            None | Some(DataType::Interval(_) | DataType::Duration(_) | DataType::Null),
        ) => (both, interval()),
        _ => {
            let types: Vec<String> = types.iter().map(type_name).collect();
            return Err(wrong_call(format!(
                "`sequence` takes integers, or dates or timestamps and an interval, not ({})",
                types.join(", ")
            )));
        }
    };
    Ok(if types.len() == 2 { vec![both.clone(), both] } else { vec![both.clone(), both, step] })
}

/// Steps: so many units, or months and microseconds.
#[derive(Clone, Copy)]
enum Step {
    Units(i64),
    Time { months: i64, micros: i64 },
}

fn sequence(arguments: &Arguments) -> Result<ArrayRef> {
    let DataType::List(field) = &arguments.result else { return exec_err!("sequence gives an array") };
    let of = field.data_type();
    let longs = |array: &ArrayRef| -> Result<Int64Array> {
        let longs = match array.data_type() {
            // Dates are taken as their first moment.
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>();
                days.unary::<_, Int64Type>(|day| i64::from(day) * DAY)
            }
            DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(),
            _ => arrow::compute::cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone(),
        };
        Ok(longs)
    };
    let (starts, stops) = (longs(&arguments.arrays[0])?, longs(&arguments.arrays[1])?);
    let zone = match of {
        DataType::Timestamp(_, Some(_)) => Zone::of_session(&arguments.config)?,
        _ => Zone::UTC,
    };
    let (mut values, mut lengths, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..arguments.rows() {
        if !arguments.all_known(row) {
            lengths.push(0);
            known.push(false);
            continue;
        }
        let (start, stop) = (starts.value(row), stops.value(row));
        let before = values.len();
        match step(arguments, row, of, start <= stop)? {
            Step::Units(step) => by_units(start, stop, step, &mut values)?,
            Step::Time { months: 0, micros } => by_units(start, stop, micros, &mut values)?,
            Step::Time { months, micros } => by_months(start, stop, months, micros, zone, &mut values)?,
        }
        lengths.push(values.len() - before);
        known.push(true);
    }
    let longs: ArrayRef = Arc::new(Int64Array::from(values));
    let values = match of {
        DataType::Date32 => {
            let days = longs.as_primitive::<Int64Type>().unary::<_, Date32Type>(|micros| micros.div_euclid(DAY) as i32);
            Arc::new(days)
        }
        DataType::Timestamp(_, name) => {
            let micros = longs.as_primitive::<Int64Type>().reinterpret_cast::<TimestampMicrosecondType>();
            Arc::new(micros.with_timezone_opt(name.clone())) as ArrayRef
        }
        other => cast(&longs, other, Zone::UTC)?,
    };
    let item = Arc::new(Field::new("element", of.clone(), false));
    let nulls = NullBuffer::from_iter(known);
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, Some(nulls))?))
}

fn step(arguments: &Arguments, row: usize, of: &DataType, is_up: bool) -> Result<Step> {
    let sign = if is_up { 1 } else { -1 };
    let Some(array) = arguments.arrays.get(2) else {
        return Ok(match of {
            DataType::Date32 | DataType::Timestamp(..) => Step::Time { months: 0, micros: sign * DAY },
            _ => Step::Units(sign),
        });
    };
    if let DataType::Interval(_) = array.data_type() {
        let IntervalMonthDayNano { months, days, nanoseconds } =
            array.as_primitive::<IntervalMonthDayNanoType>().value(row);
        let micros = i64::from(days) * DAY + nanoseconds / 1000;
        if *of == DataType::Date32 && micros % DAY != 0 {
            return exec_err!("sequence: the step of dates must be whole days");
        }
        return Ok(Step::Time { months: months.into(), micros });
    }
    let steps = arrow::compute::cast(array, &DataType::Int64)?;
    Ok(Step::Units(steps.as_primitive::<Int64Type>().value(row)))
}

fn wrong_way<T>(start: i64, stop: i64) -> Result<T> {
    exec_err!("sequence: the step does not lead from the start to the stop ({start} to {stop})")
}

fn by_units(start: i64, stop: i64, step: i64, values: &mut Vec<i64>) -> Result<()> {
    let leads = (step > 0 && start <= stop) || (step < 0 && start >= stop) || (step == 0 && start == stop);
    if !leads {
        return wrong_way(start, stop);
    }
    let distance = (i128::from(stop) - i128::from(start)).unsigned_abs();
    let count = if step == 0 { 1 } else { distance / u128::from(step.unsigned_abs()) + 1 };
    if count > MOST as u128 || values.len() > MOST {
        return exec_err!("sequence: more than {MOST} elements");
    }
    values.extend((0..count as i64).map(|i| start + i * step));
    Ok(())
}

/// Months are added to the start, so that a month's last day stays one.
fn by_months(start: i64, stop: i64, months: i64, micros: i64, zone: Zone, values: &mut Vec<i64>) -> Result<()> {
    // About so long is a step, which tells its direction.
    let about = months * 28 * DAY + micros;
    if about == 0 || (about > 0) != (start <= stop) && start != stop {
        return wrong_way(start / SECOND, stop / SECOND);
    }
    let Some(local) = zone.to_local(start) else { return wrong_way(start, stop) };
    for i in 0.. {
        let moved = add_months(local, months * i)
            .and_then(|local| zone.to_instant(local))
            .and_then(|instant| instant.checked_add(micros.checked_mul(i)?));
        match moved {
            Some(instant) if (about > 0 && instant <= stop) || (about < 0 && instant >= stop) => values.push(instant),
            _ => return Ok(()),
        }
        if values.len() > MOST {
            return exec_err!("sequence: more than {MOST} elements");
        }
    }
    Ok(())
}
