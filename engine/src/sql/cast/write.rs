//! Values to texts, as Spark shows them.

use std::{fmt::Write, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, StringBuilder},
    datatypes::{DataType, Float32Type, Float64Type},
};
use datafusion::common::Result;

use super::{arrow_cast, cast, moment};
use crate::sql::{
    intervals::DAYS,
    time::{
        calendar::{DAY, SECOND, civil_from_days},
        zone::Zone,
    },
};

/// Casts values to texts.
pub(super) fn to_text(array: &ArrayRef, from: &DataType, session: Zone) -> Result<ArrayRef> {
    match from {
        DataType::Float32 => Ok(Arc::new(
            array
                .as_primitive::<Float32Type>()
                .iter()
                .map(|v| v.map(|v| float(&format!("{v:e}"))))
                .collect::<StringArray>(),
        )),
        DataType::Float64 => Ok(Arc::new(
            array
                .as_primitive::<Float64Type>()
                .iter()
                .map(|v| v.map(|v| float(&format!("{v:e}"))))
                .collect::<StringArray>(),
        )),
        DataType::Timestamp(_, zone) => {
            let clock = if zone.is_some() { session } else { Zone::UTC };
            let instants = moment::instants(array, clock)?;
            Ok(Arc::new(instants.iter().map(|v| v.map(|v| timestamp(v, clock))).collect::<StringArray>()))
        }
        days if *days == DAYS => {
            let days = moment::durations(array)?;
            Ok(Arc::new(days.iter().map(|v| v.map(|v| format!("INTERVAL '{}' DAY", v / DAY))).collect::<StringArray>()))
        }
        DataType::Duration(_) | DataType::Interval(_) => {
            Ok(Arc::new(moment::durations(array)?.iter().map(|v| v.map(interval)).collect::<StringArray>()))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let items = cast(list.values(), &DataType::Utf8, session)?;
            let items = items.as_string::<i32>();
            Ok(join(list.len(), |i| {
                let (start, end) = (list.offsets()[i] as usize, list.offsets()[i + 1] as usize);
                list.is_valid(i)
                    .then(|| ("[", "]", (start..end).map(|j| items.is_valid(j).then(|| items.value(j))).collect()))
            }))
        }
        DataType::Struct(_) => {
            let array = array.as_struct();
            let columns = array
                .columns()
                .iter()
                .map(|column| cast(column, &DataType::Utf8, session))
                .collect::<Result<Vec<_>>>()?;
            Ok(join(array.len(), |i| {
                let fields = columns.iter().map(|column| column.as_string::<i32>());
                array
                    .is_valid(i)
                    .then(|| ("{", "}", fields.map(|field| field.is_valid(i).then(|| field.value(i))).collect()))
            }))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let keys = cast(map.keys(), &DataType::Utf8, session)?;
            let values = cast(map.values(), &DataType::Utf8, session)?;
            let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
            let entry = |j: usize| {
                let value = if values.is_valid(j) { values.value(j) } else { "null" };
                format!("{} -> {value}", keys.value(j))
            };
            let entries: Vec<String> = (0..keys.len()).map(entry).collect();
            Ok(join(map.len(), |i| {
                let (start, end) = (map.offsets()[i] as usize, map.offsets()[i + 1] as usize);
                map.is_valid(i).then(|| ("{", "}", entries[start..end].iter().map(|e| Some(e.as_str())).collect()))
            }))
        }
        _ => arrow_cast(array, &DataType::Utf8),
    }
}

type Row<'a> = (&'static str, &'static str, Vec<Option<&'a str>>);

fn join<'a>(rows: usize, row: impl Fn(usize) -> Option<Row<'a>>) -> ArrayRef {
    let mut out = StringBuilder::new();
    for i in 0..rows {
        match row(i) {
            None => out.append_null(),
            Some((open, close, items)) => {
                let items: Vec<_> = items.into_iter().map(|item| item.unwrap_or("null")).collect();
                out.append_value(format!("{open}{}{close}", items.join(", ")));
            }
        }
    }
    Arc::new(out.finish())
}

/// A number in scientific notation (Rust's shortest digits, `1.25e-7`) as Java's `Double.toString` writes it: plain from 0.001 to 10 million,
/// else `1.25E-7`.
pub(crate) fn float(scientific: &str) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return match scientific {
            "inf" => "Infinity".into(),
            "-inf" => "-Infinity".into(),
            other => other.into(),
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{first}{rest}");
    let is_zero = digits.bytes().all(|b| b == b'0');
    if !is_zero && !(-3..7).contains(&exponent) {
        return format!("{sign}{first}.{}E{exponent}", if rest.is_empty() { "0" } else { rest });
    }
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let whole = exponent as usize + 1;
    match digits.split_at_checked(whole) {
        Some((whole, "")) => format!("{sign}{whole}.0"),
        Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{digits}{}.0", "0".repeat(whole - digits.len())),
    }
}

/// `2021-12-25 07:00:00.5`: the fraction without trailing zeros.
fn timestamp(instant: i64, clock: Zone) -> String {
    let local = clock.to_local(instant).unwrap_or(instant);
    let (year, month, day) = civil_from_days(local.div_euclid(DAY));
    let micros = local.rem_euclid(DAY);
    let seconds = micros / SECOND;
    let sign = if year < 0 {
        "-"
    } else if year > 9999 {
        "+"
    } else {
        ""
    };
    let mut text = format!(
        "{sign}{:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        year.unsigned_abs(),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    push_fraction(micros % SECOND, &mut text);
    text
}

fn push_fraction(micros: i64, text: &mut String) {
    if micros != 0 {
        let digits = format!("{micros:06}");
        // Writing to a String does not fail.
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
}

/// `INTERVAL '1 02:03:04.5' DAY TO SECOND`.
fn interval(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = i128::from(micros).unsigned_abs();
    let (seconds, fraction) = (micros / SECOND as u128, (micros % SECOND as u128) as i64);
    let mut text = format!(
        "INTERVAL '{sign}{} {:02}:{:02}:{:02}",
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    );
    push_fraction(fraction, &mut text);
    text.push_str("' DAY TO SECOND");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_look_as_in_java() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (0.001, "0.001"),
            (0.00012, "1.2E-4"),
            (1234567.5, "1234567.5"),
            (12345678.0, "1.2345678E7"),
            (1e7, "1.0E7"),
            (9999999.0, "9999999.0"),
            (-2.5e-10, "-2.5E-10"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float(&format!("{value:e}")), expected);
        }
    }

    #[test]
    fn moments_look_as_in_spark() {
        assert_eq!(timestamp(1_640_415_600_500_000, Zone::UTC), "2021-12-25 07:00:00.5");
        assert_eq!(timestamp(1_640_415_600_000_000, Zone::Fixed(3600)), "2021-12-25 08:00:00");
        assert_eq!(timestamp(-1, Zone::UTC), "1969-12-31 23:59:59.999999");
        assert_eq!(interval(93_784_500_000), "INTERVAL '1 02:03:04.5' DAY TO SECOND");
        assert_eq!(interval(-1_000_000), "INTERVAL '-0 00:00:01' DAY TO SECOND");
    }

    proptest! {
        #[test]
        fn floats_can_be_read_back(value: f64) {
            let text = float(&format!("{value:e}"));
            let back: f64 = text.parse().unwrap();
            prop_assert!(back == value || (back.is_nan() && value.is_nan()), "{}", text);
        }
    }
}
