//! Timestamps, dates, durations and intervals to other types, and numbers to timestamps.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, TimestampMicrosecondArray},
    compute::cast as plain_cast,
    datatypes::{
        DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float64Type, Int64Type,
        IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
    },
};
use datafusion::common::Result;

use super::{arrow_cast, number};
use crate::sql::{
    intervals::DAYS,
    time::{
        calendar::{DAY, SECOND},
        zone::Zone,
    },
};

/// Casts a timestamp, date, duration or interval to anything but a text.
pub(super) fn from_moment(array: &ArrayRef, to: &DataType, session: Zone) -> Result<ArrayRef> {
    match (array.data_type(), to) {
        (DataType::Duration(_), DataType::Duration(_) | DataType::Interval(_))
        | (DataType::Interval(_), DataType::Interval(_)) => arrow_cast(array, to),
        (DataType::Duration(_) | DataType::Interval(_), to) => {
            let micros = durations(array)?;
            match to {
                DataType::Duration(_) => {
                    arrow_cast(&(Arc::new(micros.reinterpret_cast::<DurationMicrosecondType>()) as ArrayRef), to)
                }
                to if *array.data_type() == DAYS && to.is_numeric() => {
                    let days: ArrayRef = Arc::new(micros.unary::<_, Int64Type>(|v| v / DAY));
                    super::cast(&days, to, session)
                }
                to if to.is_integer() => seconds_as(&micros.unary::<_, Int64Type>(|v| v / SECOND), to),
                to => fractional(&micros, to),
            }
        }
        (DataType::Date32 | DataType::Date64, DataType::Timestamp(_, zone)) => {
            let clock = if zone.is_some() { session } else { Zone::UTC };
            as_type(&instants(array, clock)?, to)
        }
        (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(_))) => as_type(&instants(array, session)?, to),
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None)) => {
            let local = instants(array, session)?.unary_opt::<_, TimestampMicrosecondType>(|v| session.to_local(v));
            as_type(&local, to)
        }
        (DataType::Timestamp(_, zone), to) => {
            let clock = if zone.is_some() { session } else { Zone::UTC };
            let instants = instants(array, clock)?;
            match to {
                DataType::Date32 => {
                    let days = |instant| Some(clock.to_local(instant)?.div_euclid(DAY) as i32);
                    Ok(Arc::new(instants.unary_opt::<_, Date32Type>(days)))
                }
                DataType::Boolean => Ok(Arc::new(instants.iter().map(|v| v.map(|v| v != 0)).collect::<BooleanArray>())),
                to if to.is_integer() => seconds_as(&instants.unary::<_, Int64Type>(|v| v.div_euclid(SECOND)), to),
                DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => {
                    fractional(&instants.reinterpret_cast::<Int64Type>(), to)
                }
                _ => arrow_cast(array, to),
            }
        }
        _ => arrow_cast(array, to),
    }
}

/// Casts numbers to timestamps: they count seconds.
pub(super) fn from_seconds(array: &ArrayRef, to: &DataType, session: Zone) -> Result<ArrayRef> {
    let instants: TimestampMicrosecondArray = match array.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let seconds = arrow_cast(array, &DataType::Float64)?;
            seconds.as_primitive::<Float64Type>().unary_opt(|v| v.is_finite().then_some((v * SECOND as f64) as i64))
        }
        from if from.is_decimal() => {
            let micros = arrow_cast(array, &DataType::Decimal128(38, 6))?;
            micros.as_primitive::<Decimal128Type>().unary_opt(|v| i64::try_from(v).ok())
        }
        _ => {
            let seconds = arrow_cast(array, &DataType::Int64)?;
            seconds.as_primitive::<Int64Type>().unary(|v| v.saturating_mul(SECOND))
        }
    };
    match to {
        DataType::Timestamp(_, None) => {
            as_type(&instants.unary_opt::<_, TimestampMicrosecondType>(|v| session.to_local(v)), to)
        }
        _ => as_type(&instants, to),
    }
}

/// Microseconds since 1970 UTC of timestamps and dates; those without a zone are on the clock given.
pub(crate) fn instants(array: &ArrayRef, clock: Zone) -> Result<TimestampMicrosecondArray> {
    let has_zone = matches!(array.data_type(), DataType::Timestamp(_, Some(_)));
    let micros = match array.data_type() {
        DataType::Date32 => {
            let days: &Date32Array = array.as_primitive();
            days.unary_opt(|v| i64::from(v).checked_mul(DAY))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().clone(),
        DataType::Timestamp(_, zone) => {
            arrow_cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?.as_primitive().clone()
        }
        _ => arrow_cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?.as_primitive().clone(),
    };
    let micros: TimestampMicrosecondArray = micros.with_timezone_opt(None::<Arc<str>>);
    Ok(match clock {
        Zone::Fixed(0) => micros,
        _ if has_zone => micros,
        clock => micros.unary_opt(|v| clock.to_instant(v)),
    })
}

/// The same instants as a timestamp type of any unit and zone.
pub(super) fn as_type(instants: &TimestampMicrosecondArray, to: &DataType) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, zone) = to else { return arrow_cast(&(Arc::new(instants.clone()) as ArrayRef), to) };
    let instants: ArrayRef = Arc::new(instants.clone().with_timezone_opt(zone.clone()));
    match unit {
        TimeUnit::Microsecond => Ok(instants),
        _ => arrow_cast(&instants, to),
    }
}

/// Microseconds of durations, and of intervals that have no months.
pub(super) fn durations(array: &ArrayRef) -> Result<Int64Array> {
    if let DataType::Duration(_) = array.data_type() {
        let micros = arrow_cast(array, &DataType::Duration(TimeUnit::Microsecond))?;
        return Ok(micros.as_primitive::<DurationMicrosecondType>().reinterpret_cast());
    }
    let intervals = plain_cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    Ok(intervals.as_primitive::<IntervalMonthDayNanoType>().unary_opt(|v| {
        let days = i64::from(v.days).checked_mul(DAY)?;
        days.checked_add(v.nanoseconds / 1000).filter(|_| v.months == 0)
    }))
}

fn seconds_as(seconds: &Int64Array, to: &DataType) -> Result<ArrayRef> {
    match to {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Ok(number::narrow(seconds, to)),
        _ => arrow_cast(&(Arc::new(seconds.clone()) as ArrayRef), to),
    }
}

/// Microseconds as seconds with a fraction.
fn fractional(micros: &Int64Array, to: &DataType) -> Result<ArrayRef> {
    let seconds: ArrayRef = if to.is_decimal() {
        Arc::new(micros.unary::<_, Decimal128Type>(i128::from).with_precision_and_scale(38, 6)?)
    } else {
        Arc::new(micros.unary::<_, Float64Type>(|v| v as f64 / SECOND as f64))
    };
    arrow_cast(&seconds, to)
}
