//! Arithmetic of timestamps: units, months, time zones and windows.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, StructArray, TimestampMicrosecondArray},
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::ScalarUDF,
};

use super::args::{Kind, accept_one, gives_double, gives_long, gives_timestamp, kernel, literal_text};
use crate::sql::{
    kernel::{Arguments, Kernel, wrong_call},
    time::{
        calendar::{DAY, SECOND, civil_from_days, days_from_civil, days_in_month},
        zone::Zone,
    },
    types::{list_of, timestamp},
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        kernel!("months_between", [Timestamp, Timestamp], [Boolean], gives_double, months_between),
        Kernel::function("timestampadd", |types| unit_types("timestampadd", types, 1), added_type, timestampadd),
        Kernel::function(
            "timestampdiff",
            |types| unit_types("timestampdiff", types, 2),
            |_, literals| {
                literal_unit(literals)?;
                gives_long(&[], &[])
            },
            timestampdiff,
        ),
        kernel!("from_utc_timestamp", [Timestamp, Text], [], gives_timestamp, |arguments| {
            in_zone(arguments, |zone, instant| zone.to_local(instant))
        }),
        kernel!("to_utc_timestamp", [Timestamp, Text], [], gives_timestamp, |arguments| {
            in_zone(arguments, |zone, local| zone.to_instant(local))
        }),
        kernel!("convert_timezone", [Text, Text, Clock], [], |_, _| Ok(clock()), |arguments| {
            arguments.try_values::<TimestampMicrosecondType>(|row| {
                let (Some(from), Some(to), Some(local)) = (
                    arguments.text(0, row),
                    arguments.text(1, row),
                    arguments.value::<TimestampMicrosecondType>(2, row),
                ) else {
                    return Ok(None);
                };
                let to = zone(to)?;
                Ok(zone(from)?.to_instant(local).and_then(|instant| to.to_local(instant)))
            })
        }),
        Kernel::function(
            "window",
            |types| window_types("window", types),
            |_, literals| {
                window_of(literals)?;
                Ok(window_struct())
            },
            window,
        ),
        // All windows that a moment is in.
        Kernel::function(
            "sliding_windows",
            |types| window_types("sliding_windows", types),
            |_, literals| {
                window_of(literals)?;
                Ok(list_of(window_struct(), false))
            },
            sliding_windows,
        ),
        Kernel::function(
            "window_time",
            |types| match types {
                [window] if *window == window_struct() => Ok(types.to_vec()),
                _ => Err(wrong_call("window_time takes what window gives")),
            },
            gives_timestamp,
            |arguments| {
                let ends = arguments.arrays[0].as_struct();
                let micros = ends.column(1).as_primitive::<TimestampMicrosecondType>();
                arguments.values::<TimestampMicrosecondType>(|row| ends.is_valid(row).then(|| micros.value(row) - 1))
            },
        ),
    ]
}

fn clock() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// A time zone by its name, Java's short ones included.
pub(super) fn zone(name: &str) -> Result<Zone> {
    const SHORT: [(&str, &str); 25] = [
        ("ACT", "Australia/Darwin"),
        ("AET", "Australia/Sydney"),
        ("AGT", "America/Argentina/Buenos_Aires"),
        ("ART", "Africa/Cairo"),
        ("AST", "America/Anchorage"),
        ("BET", "America/Sao_Paulo"),
        ("BST", "Asia/Dhaka"),
        ("CAT", "Africa/Harare"),
        ("CNT", "America/St_Johns"),
        ("CST", "America/Chicago"),
        ("CTT", "Asia/Shanghai"),
        ("EAT", "Africa/Addis_Ababa"),
        ("ECT", "Europe/Paris"),
        ("EST", "-05:00"),
        ("HST", "-10:00"),
        ("IST", "Asia/Kolkata"),
        ("JST", "Asia/Tokyo"),
        ("MIT", "Pacific/Apia"),
        ("MST", "-07:00"),
        ("NET", "Asia/Yerevan"),
        ("NST", "Pacific/Auckland"),
        ("PLT", "Asia/Karachi"),
        ("PNT", "America/Phoenix"),
        ("PST", "America/Los_Angeles"),
        ("VST", "Asia/Ho_Chi_Minh"),
    ];
    let long = SHORT.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
    match Zone::read(long) {
        Some(zone) => Ok(zone),
        None => exec_err!("there is no time zone `{name}`; name it as UTC, +01:00 or Europe/Paris"),
    }
}

fn in_zone(arguments: &Arguments, of: fn(Zone, i64) -> Option<i64>) -> Result<ArrayRef> {
    let session = Zone::of_session(&arguments.config)?;
    let mut last: Option<(String, Zone)> = None;
    arguments.try_values::<TimestampMicrosecondType>(|row| {
        let (Some(instant), Some(name)) = (arguments.value::<TimestampMicrosecondType>(0, row), arguments.text(1, row))
        else {
            return Ok(None);
        };
        if last.as_ref().is_none_or(|(last, _)| last != name) {
            last = Some((name.to_string(), zone(name)?));
        }
        let Some((_, zone)) = &last else { return Ok(None) };
        // Spark shifts the instant itself, so the session's zone does not count.
        let _ = session;
        Ok(of(*zone, instant))
    })
}

fn months_between(arguments: &Arguments) -> Result<ArrayRef> {
    let session = Zone::of_session(&arguments.config)?;
    arguments.values::<Float64Type>(|row| {
        let rounds = if arguments.count() > 2 { arguments.boolean(2, row)? } else { true };
        let split = |argument| {
            let local = session.to_local(arguments.value::<TimestampMicrosecondType>(argument, row)?)?;
            let (year, month, day) = civil_from_days(local.div_euclid(DAY));
            let is_last = day == days_in_month(year, month);
            Some((year * 12 + month as i32, i64::from(day), is_last, local.rem_euclid(DAY) / SECOND))
        };
        let (months, day, is_last, seconds) = split(0)?;
        let (other_months, other_day, other_is_last, other_seconds) = split(1)?;
        let whole = f64::from(months - other_months);
        if day == other_day || (is_last && other_is_last) {
            return Some(whole);
        }
        let rest = (day - other_day) * 86_400 + seconds - other_seconds;
        let exact = whole + rest as f64 / (31.0 * 86_400.0);
        Some(if rounds { (exact * 1e8 + 0.5).floor() / 1e8 } else { exact })
    })
}

/// A unit of time: months, or microseconds.
#[derive(Clone, Copy)]
enum Unit {
    Months(i64),
    /// Days are those of the wall clock.
    Days(i64),
    Micros(i64),
}

fn unit(name: &str) -> Result<Unit> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "MICROSECOND" => Unit::Micros(1),
        "MILLISECOND" => Unit::Micros(1000),
        "SECOND" => Unit::Micros(SECOND),
        "MINUTE" => Unit::Micros(60 * SECOND),
        "HOUR" => Unit::Micros(3600 * SECOND),
        "DAY" | "DAYOFYEAR" => Unit::Days(1),
        "WEEK" => Unit::Days(7),
        "MONTH" => Unit::Months(1),
        "QUARTER" => Unit::Months(3),
        "YEAR" => Unit::Months(12),
        _ => {
            return Err(wrong_call(format!(
                "there is no unit `{name}`; units are YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND, MICROSECOND"
            )));
        }
    })
}

fn literal_unit(literals: &[Option<&ScalarValue>]) -> Result<()> {
    literal_text(literals, 0).map_or(Ok(()), |name| unit(name).map(|_| ()))
}

fn unit_types(name: &str, types: &[DataType], moments: usize) -> Result<Vec<DataType>> {
    if types.len() != 3 {
        return Err(wrong_call(format!("`{name}` takes a unit such as MONTH and two more arguments")));
    }
    let moment = |found: &DataType| match found {
        DataType::Timestamp(_, None) if moments == 1 => Ok(clock()),
        other => accept_one(name, other, Kind::Timestamp),
    };
    let second = if moments == 1 { DataType::Int64 } else { moment(&types[1])? };
    Ok(vec![DataType::Utf8, second, moment(&types[2])?])
}

fn added_type(fields: &[FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    literal_unit(literals)?;
    Ok(fields.get(2).map_or_else(timestamp, |field| field.data_type().clone()))
}

/// A wall clock moved by months; the day is the month's last one at most.
pub(super) fn add_months(local: i64, months: i64) -> Option<i64> {
    let (year, month, day) = civil_from_days(local.div_euclid(DAY));
    let all = i64::from(year) * 12 + i64::from(month) - 1 + months;
    let (year, month) = (i32::try_from(all.div_euclid(12)).ok()?, all.rem_euclid(12) as u32 + 1);
    if !(-5_000_000..=5_000_000).contains(&year) {
        return None;
    }
    let days = days_from_civil(year, month, day.min(days_in_month(year, month)));
    days.checked_mul(DAY)?.checked_add(local.rem_euclid(DAY))
}

fn clock_of(data_type: &DataType, arguments: &Arguments) -> Result<Zone> {
    match data_type {
        DataType::Timestamp(_, None) => Ok(Zone::UTC),
        _ => Ok(Zone::of_session(&arguments.config)?),
    }
}

fn timestampadd(arguments: &Arguments) -> Result<ArrayRef> {
    let zone = clock_of(&arguments.result, arguments)?;
    arguments.try_values::<TimestampMicrosecondType>(|row| {
        let (Some(name), Some(count), Some(instant)) =
            (arguments.text(0, row), arguments.long(1, row), arguments.value::<TimestampMicrosecondType>(2, row))
        else {
            return Ok(None);
        };
        let moved = match unit(name)? {
            Unit::Micros(micros) => count.checked_mul(micros).and_then(|micros| instant.checked_add(micros)),
            Unit::Days(days) => zone
                .to_local(instant)
                .and_then(|local| local.checked_add(count.checked_mul(days)?.checked_mul(DAY)?))
                .and_then(|local| zone.to_instant(local)),
            Unit::Months(months) => zone
                .to_local(instant)
                .and_then(|local| add_months(local, count.checked_mul(months)?))
                .and_then(|local| zone.to_instant(local)),
        };
        match moved {
            Some(moved) => Ok(Some(moved)),
            None => exec_err!("timestampadd: the result is no timestamp"),
        }
    })
}

/// Whole units from one moment to another, on the wall clock.
fn timestampdiff(arguments: &Arguments) -> Result<ArrayRef> {
    let zone = Zone::of_session(&arguments.config)?;
    arguments.try_values::<Int64Type>(|row| {
        let (Some(name), Some(start), Some(end)) = (
            arguments.text(0, row),
            arguments.value::<TimestampMicrosecondType>(1, row),
            arguments.value::<TimestampMicrosecondType>(2, row),
        ) else {
            return Ok(None);
        };
        let (Some(start), Some(end)) = (zone.to_local(start), zone.to_local(end)) else { return Ok(None) };
        Ok(Some(match unit(name)? {
            Unit::Micros(micros) => (end - start) / micros,
            Unit::Days(days) => (end - start) / DAY / days,
            Unit::Months(months) => whole_months(start, end) / months,
        }))
    })
}

/// Java's `ChronoUnit.MONTHS.between`.
fn whole_months(start: i64, end: i64) -> i64 {
    let packed = |local: i64| {
        let (year, month, day) = civil_from_days(local.div_euclid(DAY));
        (i64::from(year) * 12 + i64::from(month), i64::from(day) * DAY + local.rem_euclid(DAY))
    };
    let ((start_month, start_rest), (end_month, end_rest)) = (packed(start), packed(end));
    let months = end_month - start_month;
    match months {
        1.. if end_rest < start_rest => months - 1,
        ..=-1 if end_rest > start_rest => months + 1,
        months => months,
    }
}

/// The struct that `window` gives.
fn window_struct() -> DataType {
    DataType::Struct(vec![Field::new("start", timestamp(), true), Field::new("end", timestamp(), true)].into())
}

fn window_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if !(2..=4).contains(&types.len()) {
        return Err(wrong_call(format!(
            "`{name}` takes a timestamp, a duration such as '10 minutes' and, if needed, a slide and a start"
        )));
    }
    let moment = accept_one(name, &types[0], Kind::Timestamp)?;
    Ok(std::iter::once(moment).chain(vec![DataType::Utf8; types.len() - 1]).collect())
}

/// A window's width, how far apart windows begin, and where the first one does; in microseconds.
#[derive(Clone, Copy)]
struct Window {
    width: i64,
    slide: i64,
    start: i64,
}

fn window_of(literals: &[Option<&ScalarValue>]) -> Result<Window> {
    let part = |i: usize| match literals.get(i) {
        None => Ok(None),
        Some(_) => match literal_text(literals, i) {
            Some(text) => micros(text).map(Some),
            None => Err(wrong_call("the durations of window must be literals, such as '10 minutes'")),
        },
    };
    let width = part(1)?.unwrap_or(0);
    let slide = part(2)?.unwrap_or(width);
    let start = part(3)?.unwrap_or(0);
    if width <= 0 || slide <= 0 || slide > width || start.abs() >= slide {
        return Err(wrong_call(
            "a window's duration and slide must be positive, the slide at most the duration, the start less than the slide",
        ));
    }
    Ok(Window { width, slide, start })
}

/// Microseconds of `10 minutes`, `1 hour 30 minutes`, `interval 1 day`.
pub(super) fn micros(text: &str) -> Result<i64> {
    let wrong = || wrong_call(format!("`{text}` is no duration; write it as '10 minutes' or '1 day 2 hours'"));
    let lower = text.trim().to_ascii_lowercase();
    let mut words = lower.strip_prefix("interval").unwrap_or(&lower).split_whitespace();
    let mut total: Option<i64> = None;
    while let Some(number) = words.next() {
        let count: i64 = number.parse().map_err(|_| wrong())?;
        let name = words.next().ok_or_else(wrong)?;
        let micros = match unit(name.strip_suffix('s').unwrap_or(name)).map_err(|_| wrong())? {
            Unit::Micros(micros) => micros,
            Unit::Days(days) => days * DAY,
            Unit::Months(_) => {
                return Err(wrong_call(format!("`{text}`: months and years have no fixed length; use days")));
            }
        };
        let part = count.checked_mul(micros).ok_or_else(wrong)?;
        total = Some(total.unwrap_or(0).checked_add(part).ok_or_else(wrong)?);
    }
    total.ok_or_else(wrong)
}

/// The durations of a call, from its arguments.
fn window_in(arguments: &Arguments) -> Result<Option<Window>> {
    if arguments.rows() == 0 {
        return Ok(None);
    }
    let texts: Vec<Option<ScalarValue>> =
        (0..arguments.count()).map(|i| arguments.text(i, 0).map(ScalarValue::from)).collect();
    let literals: Vec<Option<&ScalarValue>> = texts.iter().map(Option::as_ref).collect();
    window_of(&literals).map(Some)
}

/// The last window that begins at or before a moment.
fn last_start(instant: i64, window: Window) -> i64 {
    instant - (instant - window.start).rem_euclid(window.slide)
}

fn structs(starts: Vec<Option<i64>>, width: i64) -> Result<StructArray> {
    let DataType::Struct(fields) = window_struct() else { return exec_err!("a window is a struct") };
    let nulls = NullBuffer::from_iter(starts.iter().map(Option::is_some));
    let ends: TimestampMicrosecondArray = starts.iter().map(|start| start.map(|start| start + width)).collect();
    let starts: TimestampMicrosecondArray = starts.into_iter().collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(starts.with_timezone("UTC")), Arc::new(ends.with_timezone("UTC"))];
    Ok(StructArray::try_new(fields, columns, Some(nulls))?)
}

fn window(arguments: &Arguments) -> Result<ArrayRef> {
    let Some(window) = window_in(arguments)? else { return Ok(arrow::array::new_empty_array(&arguments.result)) };
    if window.slide != window.width {
        return Err(wrong_call("windows that overlap can only stand in GROUP BY"));
    }
    let instants = (0..arguments.rows()).map(|row| arguments.value::<TimestampMicrosecondType>(0, row));
    Ok(Arc::new(structs(instants.map(|instant| instant.map(|i| last_start(i, window))).collect(), window.width)?))
}

fn sliding_windows(arguments: &Arguments) -> Result<ArrayRef> {
    let Some(window) = window_in(arguments)? else { return Ok(arrow::array::new_empty_array(&arguments.result)) };
    let (mut starts, mut counts) = (Vec::new(), Vec::new());
    for row in 0..arguments.rows() {
        let before = starts.len();
        if let Some(instant) = arguments.value::<TimestampMicrosecondType>(0, row) {
            let mut start = last_start(instant, window);
            while start + window.width > instant {
                starts.push(Some(start));
                start -= window.slide;
            }
        }
        counts.push(starts.len() - before);
    }
    let field = Arc::new(Field::new("element", window_struct(), false));
    let items: ArrayRef = Arc::new(structs(starts, window.width)?);
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(counts), items, None)?))
}
