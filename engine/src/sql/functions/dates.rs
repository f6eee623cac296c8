//! Dates and timestamps that are made of parts, and intervals.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, FieldRef, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
        IntervalUnit, TimestampMicrosecondType,
    },
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::ScalarUDF,
};

use super::{
    args::{Kind, accept_one, gives_timestamp, kernel},
    moments::zone,
};
use crate::sql::{
    kernel::{Arguments, Kernel, wrong_call},
    time::{
        calendar::{DAY, SECOND, days_from_civil, is_date},
        zone::Zone,
    },
};

/// The place of a day in a week that begins with Monday, by its name or the first two or three letters of it.
fn weekday(name: &str) -> Option<i32> {
    const NAMES: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let name = name.to_ascii_lowercase();
    let day = NAMES.iter().position(|day| *day == name || (matches!(name.len(), 2 | 3) && day.starts_with(&name)))?;
    i32::try_from(day).ok()
}

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        kernel!("make_date", [Int, Int, Int], [], |_, _| Ok(DataType::Date32), make_date),
        kernel!("date_from_unix_date", [Int], [], |_, _| Ok(DataType::Date32), |arguments| {
            arguments.values::<Date32Type>(|row| arguments.int(0, row))
        }),
        kernel!("next_day", [Date, Text], [], |_, _| Ok(DataType::Date32), |arguments| {
            arguments.values::<Date32Type>(|row| {
                let (date, weekday) = (arguments.value::<Date32Type>(0, row)?, weekday(arguments.text(1, row)?)?);
                // Day 0 was a Thursday, the fourth of them.
                let ahead = (i64::from(weekday) - i64::from(date) - 3).rem_euclid(7) as i32;
                date.checked_add(if ahead == 0 { 7 } else { ahead })
            })
        }),
        kernel!("unix_date", [Date], [], super::args::gives_int, |arguments| {
            arguments.values::<Int32Type>(|row| arguments.value::<Date32Type>(0, row))
        }),
        Kernel::function(
            "make_timestamp",
            |types| parts("make_timestamp", types, true),
            gives_timestamp,
            |arguments| make_timestamp(arguments, true),
        ),
        Kernel::function(
            "make_timestamp_ltz",
            |types| parts("make_timestamp_ltz", types, true),
            gives_timestamp,
            |arguments| make_timestamp(arguments, true),
        ),
        Kernel::function(
            "make_timestamp_ntz",
            |types| parts("make_timestamp_ntz", types, false),
            |_, _| Ok(DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None)),
            |arguments| make_timestamp(arguments, false),
        ),
        Kernel::function(
            "make_interval",
            |types| interval_parts("make_interval", types, 7),
            gives_interval,
            |arguments| {
                let scale = [12, 1, 0, 0, 0, 0, 0];
                make_interval(arguments, &scale, &[0, 0, 7, 1, 0, 0, 0], &[0, 0, 0, 0, 3600 * SECOND, 60 * SECOND, 1])
            },
        ),
        Kernel::function(
            "make_dt_interval",
            |types| interval_parts("make_dt_interval", types, 4),
            gives_interval,
            |arguments| make_interval(arguments, &[0; 4], &[1, 0, 0, 0], &[0, 3600 * SECOND, 60 * SECOND, 1]),
        ),
        kernel!("make_ym_interval", [], [Int, Int], gives_interval, |arguments| {
            make_interval(arguments, &[12, 1], &[0; 2], &[0; 2])
        }),
    ]
}

fn gives_interval(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Interval(IntervalUnit::MonthDayNano))
}

fn make_date(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.values::<Date32Type>(|row| {
        days(arguments.int(0, row)?, arguments.int(1, row)?, arguments.int(2, row)?)?.try_into().ok()
    })
}

/// Days since 1970 of what is a date.
fn days(year: i32, month: i32, day: i32) -> Option<i64> {
    let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
    let is_year = (-5_000_000..=5_000_000).contains(&year);
    (is_year && is_date(year, month, day)).then(|| days_from_civil(year, month, day))
}

/// Spark's type of seconds.
const SECONDS: DataType = DataType::Decimal128(16, 6);

fn parts(name: &str, types: &[DataType], zoned: bool) -> Result<Vec<DataType>> {
    if types.len() != 6 && !(zoned && types.len() == 7) {
        return Err(wrong_call(format!(
            "`{name}` takes year, month, day, hour, minute and second{}",
            if zoned { ", and a time zone if needed" } else { "" }
        )));
    }
    let mut accepted =
        types.iter().take(5).map(|found| accept_one(name, found, Kind::Int)).collect::<Result<Vec<_>>>()?;
    accepted.push(SECONDS);
    accepted.extend(types.get(6).map(|_| DataType::Utf8));
    Ok(accepted)
}

fn make_timestamp(arguments: &Arguments, zoned: bool) -> Result<ArrayRef> {
    let session = Zone::of_session(&arguments.config)?;
    arguments.try_values::<TimestampMicrosecondType>(|row| {
        if !arguments.all_known(row) {
            return Ok(None);
        }
        let Some(local) = local(arguments, row) else { return Ok(None) };
        let clock = match arguments.text(6, row) {
            Some(name) => zone(name)?,
            None => session,
        };
        Ok(if zoned { clock.to_instant(local) } else { Some(local) })
    })
}

/// The wall clock of six parts; 60 seconds are the next minute.
fn local(arguments: &Arguments, row: usize) -> Option<i64> {
    let [year, month, day, hour, minute] = [0, 1, 2, 3, 4].map(|i| arguments.int(i, row));
    let (hour, minute) = (i64::from(hour?), i64::from(minute?));
    let micros = i64::try_from(arguments.value::<Decimal128Type>(5, row)?).ok()?;
    let in_day = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60 * SECOND).contains(&micros);
    let days = days(year?, month?, day?).filter(|_| in_day)?;
    days.checked_mul(DAY)?.checked_add((hour * 3600 + minute * 60) * SECOND + micros)
}

fn interval_parts(name: &str, types: &[DataType], most: usize) -> Result<Vec<DataType>> {
    if types.len() > most {
        return Err(wrong_call(format!("`{name}` takes {most} arguments at most, not {}", types.len())));
    }
    let kinds = types.iter().enumerate().map(|(i, found)| {
        if i + 1 == most { Ok(DataType::Decimal128(18, 6)) } else { accept_one(name, found, Kind::Int) }
    });
    kinds.collect()
}

/// The sum of parts, each so many months, days and microseconds. What overflows is NULL.
fn make_interval(arguments: &Arguments, months: &[i32], days: &[i32], micros: &[i64]) -> Result<ArrayRef> {
    arguments.values::<IntervalMonthDayNanoType>(|row| {
        let (mut all_months, mut all_days, mut all_micros) = (0i32, 0i32, 0i64);
        for (i, array) in arguments.arrays.iter().enumerate() {
            let value = match array.data_type() {
                DataType::Int32 => i64::from(arguments.int(i, row)?),
                _ if arguments.known(i, row) => {
                    i64::try_from(array.as_primitive_opt::<Decimal128Type>()?.value(row)).ok()?
                }
                _ => return None,
            };
            let small = i32::try_from(value);
            if months[i] != 0 {
                all_months = all_months.checked_add(small.ok()?.checked_mul(months[i])?)?;
            } else if days[i] != 0 {
                all_days = all_days.checked_add(small.ok()?.checked_mul(days[i])?)?;
            } else {
                all_micros = all_micros.checked_add(value.checked_mul(micros[i])?)?;
            }
        }
        Some(IntervalMonthDayNano::new(all_months, all_days, all_micros.checked_mul(1000)?))
    })
}
