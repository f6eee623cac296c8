//! Calls about dates and times, planned by the types of their arguments.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{Case, Expr, lit},
};

use super::{
    calls::{Call, is_text},
    kernel::wrong_call,
    types::timestamp,
};

impl Call<'_> {
    /// Plans the call if it is one about time.
    pub(super) fn time(&self, args: &[Expr]) -> Result<Option<Expr>> {
        let planned = match (self.name, args) {
            ("now" | "current_timestamp", []) => Ok(self.now()),
            ("current_date" | "curdate", []) => self.cast(&self.now(), &DataType::Date32),
            ("current_timezone", []) => Ok(lit(self.planner.zone.as_str())),
            ("to_timestamp" | "try_to_timestamp" | "timestamp", [value]) => self.timestamp(value),
            ("to_timestamp" | "try_to_timestamp", [value, pattern]) => self.timestamp_of(value, pattern),
            // A number is read as the text that it is written as: a year of four digits.
            ("to_date", [value]) if self.type_of(value)?.is_numeric() => self.date(&self.cast(value, &DataType::Utf8)?),
            ("to_date" | "date", [value]) => self.date(value),
            ("to_date", [value, pattern]) => self.date(&self.timestamp_of(value, pattern)?),
            ("unix_timestamp" | "to_unix_timestamp", []) => self.cast(&self.now(), &DataType::Int64),
            ("unix_timestamp" | "to_unix_timestamp", [value]) => {
                let instant = self.timestamp_of(value, &lit("yyyy-MM-dd HH:mm:ss"))?;
                self.cast(&instant, &DataType::Int64)
            }
            ("unix_timestamp" | "to_unix_timestamp", [value, pattern]) => {
                self.cast(&self.timestamp_of(value, pattern)?, &DataType::Int64)
            }
            ("unix_seconds", [value]) => self.cast(&self.timestamp(value)?, &DataType::Int64),
            ("unix_millis" | "unix_micros", [value]) => self.function(self.name, vec![self.timestamp(value)?]),
            ("unix_date", [value]) => self.function("unix_date", vec![self.date(value)?]),
            ("from_unixtime", [seconds, pattern @ ..]) if pattern.len() < 2 => {
                let instant = self.timestamp(&self.cast(seconds, &DataType::Int64)?)?;
                let pattern = pattern.first().cloned().unwrap_or_else(|| lit("yyyy-MM-dd HH:mm:ss"));
                self.function("date_format", vec![instant, pattern])
            }
            ("timestamp_seconds", [value]) => self.timestamp(value),
            ("timestamp_millis", [value]) => self.timestamp_from(value, "Millisecond"),
            ("timestamp_micros", [value]) => self.timestamp_from(value, "Microsecond"),
            ("date_part" | "datepart", [part, value]) => match literal(part) {
                Some(part) => self.part(&part, value),
                None => Err(wrong_call(format!("`{}` needs the part's name as a literal", self.name))),
            },
            (
                "year" | "quarter" | "month" | "day" | "dayofmonth" | "dayofweek" | "dayofyear" | "week" | "weekofyear"
                | "weekday" | "hour" | "minute" | "second",
                [value],
            ) => self.part(self.name, value),
            ("date_trunc", [unit, value]) => self.date_trunc(unit, value),
            ("trunc", [value, unit]) => self.trunc(value, unit),
            ("date_add" | "dateadd", [date, days]) => {
                self.function("date_add", vec![self.date(date)?, self.cast(days, &DataType::Int32)?])
            }
            ("date_sub", [date, days]) => {
                self.function("date_sub", vec![self.date(date)?, self.cast(days, &DataType::Int32)?])
            }
            ("datediff" | "date_diff", [end, start]) => {
                self.function("date_diff", vec![self.date(end)?, self.date(start)?])
            }
            ("add_months", [date, months]) => {
                self.function("add_months", vec![self.date(date)?, self.cast(months, &DataType::Int32)?])
            }
            ("last_day", [date]) => self.function("last_day", vec![self.date(date)?]),
            ("next_day", [date, weekday]) => self.function("next_day", vec![self.date(date)?, weekday.clone()]),
            _ => return Ok(None),
        };
        planned.map(Some)
    }

    pub(super) fn now(&self) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(self.planner.now), Some("UTC".into())))
    }

    fn timestamp(&self, value: &Expr) -> Result<Expr> {
        self.cast(value, &timestamp())
    }

    fn date(&self, value: &Expr) -> Result<Expr> {
        self.cast(value, &DataType::Date32)
    }

    /// A text read with a pattern; the pattern does not matter for what is a timestamp or a date already.
    pub(super) fn timestamp_of(&self, value: &Expr, pattern: &Expr) -> Result<Expr> {
        if matches!(self.type_of(value)?, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
            return self.timestamp(value);
        }
        self.function("to_timestamp", vec![value.clone(), pattern.clone()])
    }

    /// A count of milliseconds or microseconds as a timestamp. `arrow_cast` becomes a plain cast only after casts got Spark's meaning, by
    /// which numbers are seconds.
    fn timestamp_from(&self, value: &Expr, unit: &str) -> Result<Expr> {
        let count = self.cast(value, &DataType::Int64)?;
        let instant = self.function("arrow_cast", vec![count, lit(format!("Timestamp({unit}, Some(\"UTC\"))"))])?;
        self.timestamp(&instant)
    }

    /// A timestamp whose parts are those of the session's clock.
    fn local(&self, value: &Expr) -> Result<Expr> {
        let instant = self.timestamp(value)?;
        if self.planner.zone == "UTC" {
            return Ok(instant);
        }
        self.cast(&instant, &DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from(self.planner.zone.as_str()))))
    }

    /// A part of a date or time, as an int.
    pub(super) fn part(&self, name: &str, value: &Expr) -> Result<Expr> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('s').unwrap_or(&name);
        let (part, shift) = match name {
            "year" | "y" | "yr" => ("year", 0),
            "yearofweek" => ("isoyear", 0),
            "quarter" | "qtr" => ("quarter", 0),
            "month" | "mon" => ("month", 0),
            "week" | "w" | "weekofyear" => ("week", 0),
            "day" | "d" | "dayofmonth" => ("day", 0),
            // DataFusion counts from 0 on Sunday, Spark from 1.
            "dayofweek" | "dow" => ("dow", 1),
            "dayofweek_iso" | "dow_iso" => ("isodow", 0),
            "weekday" => ("isodow", -1),
            "dayofyear" | "doy" => ("doy", 0),
            "hour" | "h" | "hr" => ("hour", 0),
            "minute" | "m" | "min" => ("minute", 0),
            "second" | "sec" => ("second", 0),
            other => return Err(wrong_call(format!("a date or time has no part `{other}`"))),
        };
        let data_type = self.type_of(value)?;
        if super::intervals::is_interval(&data_type) {
            return self.function("interval_part", vec![value.clone(), lit(part)]);
        }
        // `second(t)` is whole, `extract(SECOND FROM t)` is not.
        if part == "second" && matches!(self.name, "date_part" | "datepart") {
            return self.function("second_fraction", vec![self.timestamp(value)?]);
        }
        let on_clock = matches!(part, "hour" | "minute" | "second");
        let value = match data_type {
            DataType::Date32 if !on_clock => value.clone(),
            ref text if is_text(text) && !on_clock => self.date(value)?,
            DataType::Timestamp(_, None) => value.clone(),
            _ => self.local(value)?,
        };
        let part = self.function("date_part", vec![lit(part), value])?;
        Ok(match shift {
            0 => part,
            shift => part + lit(shift),
        })
    }

    fn date_trunc(&self, unit: &Expr, value: &Expr) -> Result<Expr> {
        if is_null(unit) {
            return Ok(lit(ScalarValue::TimestampMicrosecond(None, Some("UTC".into()))));
        }
        let Some(unit) = literal(unit) else {
            return self.by_unit(unit, &MOMENT_UNITS, |unit| self.date_trunc(&unit, value));
        };
        let unit = match unit.to_ascii_lowercase().as_str() {
            "year" | "yyyy" | "yy" => "year",
            "quarter" => "quarter",
            "month" | "mon" | "mm" => "month",
            "week" => "week",
            "day" | "dd" => "day",
            "hour" => "hour",
            "minute" => "minute",
            "second" => "second",
            "millisecond" => "millisecond",
            "microsecond" => "microsecond",
            _ => return Ok(lit(ScalarValue::TimestampMicrosecond(None, Some("UTC".into())))),
        };
        let truncated = self.function("date_trunc", vec![lit(unit), self.local(value)?])?;
        self.timestamp(&truncated)
    }

    /// A date, cut to the start of a year, quarter, month or week.
    fn trunc(&self, value: &Expr, unit: &Expr) -> Result<Expr> {
        if is_null(unit) {
            return Ok(lit(ScalarValue::Date32(None)));
        }
        let Some(unit) = literal(unit) else {
            return self.by_unit(unit, &MOMENT_UNITS[..DATE_UNITS], |unit| self.trunc(value, &unit));
        };
        let unit = match unit.to_ascii_lowercase().as_str() {
            "year" | "yyyy" | "yy" => "year",
            "quarter" => "quarter",
            "month" | "mon" | "mm" => "month",
            "week" => "week",
            _ => return Ok(lit(ScalarValue::Date32(None))),
        };
        let midnight = self.cast(&self.date(value)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        self.date(&self.function("date_trunc", vec![lit(unit), midnight])?)
    }

    /// A cut for every unit that a row may name; another one gives NULL.
    fn by_unit(&self, unit: &Expr, units: &[&str], cut: impl Fn(Expr) -> Result<Expr>) -> Result<Expr> {
        let unit = self.function("lower", vec![self.cast(unit, &DataType::Utf8)?])?;
        let cases = units.iter().map(|name| Ok((Box::new(lit(*name)), Box::new(cut(lit(*name))?))));
        Ok(Expr::Case(Case::new(Some(Box::new(unit)), cases.collect::<Result<_>>()?, None)))
    }
}

/// The names of units, those of dates first.
const MOMENT_UNITS: [&str; 15] = [
    "year",
    "yyyy",
    "yy",
    "quarter",
    "month",
    "mon",
    "mm",
    "week",
    "day",
    "dd",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
];
const DATE_UNITS: usize = 8;

fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_string),
        _ => None,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}
