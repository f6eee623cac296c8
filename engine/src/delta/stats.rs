//! Statistics of a written Parquet file, in the form the Delta log keeps them.
//!
//! Source: the Delta protocol, "Per-file Statistics". Bounds may be wider than the values, never narrower: strings are cut by the Parquet
//! writer (a cut maximum is rounded up), timestamps are rounded outward to milliseconds, decimals that a JSON number can't hold are widened.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta};
use parquet::file::{metadata::ParquetMetaData, statistics::Statistics};
use serde_json::{Map, Number, Value, json};

/// Statistics of a file's first `columns` columns and of those in `always`, as the JSON text of an `Add`.
pub fn to_json(metadata: &ParquetMetaData, schema: &Schema, columns: usize, always: &[String]) -> String {
    let mut all = Collected::default();
    let descriptor = metadata.file_metadata().schema_descr();
    for leaf in 0..descriptor.num_columns() {
        let column = descriptor.column(leaf);
        let path = column.path().parts();
        let Some(field) = path.first().and_then(|name| schema.index_of(name).ok()) else { continue };
        let wanted = field < columns || always.contains(schema.field(field).name());
        // A count of nulls inside lists says nothing about rows.
        if !wanted || column.max_rep_level() > 0 {
            continue;
        }
        let Some(data_type) = leaf_type(schema.field(field), &path[1..]) else { continue };
        let groups = metadata.row_groups().iter().map(|group| (group.num_rows(), group.column(leaf).statistics()));
        all.add(path, data_type, groups);
    }
    let rows = metadata.file_metadata().num_rows();
    json!({ "numRecords": rows, "minValues": all.min, "maxValues": all.max, "nullCount": all.nulls }).to_string()
}

fn leaf_type<'a>(field: &'a Field, path: &[String]) -> Option<&'a DataType> {
    match (field.data_type(), path.split_first()) {
        (data_type, None) => Some(data_type),
        (DataType::Struct(fields), Some((name, rest))) => {
            leaf_type(fields.iter().find(|field| field.name() == name)?, rest)
        }
        _ => None,
    }
}

#[derive(Default)]
struct Collected {
    min: Map<String, Value>,
    max: Map<String, Value>,
    nulls: Map<String, Value>,
}

impl Collected {
    fn add<'a>(
        &mut self,
        path: &[String],
        data_type: &DataType,
        groups: impl Iterator<Item = (i64, Option<&'a Statistics>)>,
    ) {
        let mut nulls = Some(0);
        let mut range: Option<(Bound, Bound)> = None;
        let mut known = true;
        for (rows, statistics) in groups {
            let group_nulls = statistics.and_then(Statistics::null_count_opt);
            nulls = nulls.zip(group_nulls).map(|(sum, n)| sum + n);
            match statistics.and_then(|statistics| bounds(statistics, data_type)) {
                Some((low, high)) => {
                    range = Some(match range {
                        Some((min, max)) => (min.smaller(low), max.larger(high)),
                        None => (low, high),
                    });
                }
                None => known &= group_nulls.is_some_and(|n| i64::try_from(n) == Ok(rows)),
            }
        }
        if let Some(nulls) = nulls {
            insert(&mut self.nulls, path, nulls.into());
        }
        if let Some((min, max)) = range.filter(|_| known) {
            if let Some(min) = min.to_json(data_type, false) {
                insert(&mut self.min, path, min);
            }
            if let Some(max) = max.to_json(data_type, true) {
                insert(&mut self.max, path, max);
            }
        }
    }
}

fn insert(map: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            map.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            if let Value::Object(inner) = map.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())) {
                insert(inner, rest, value);
            }
        }
    }
}

/// A bound as Parquet stores it; integers are integers, days, microseconds or unscaled decimals.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Bound {
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(Vec<u8>),
}

impl Bound {
    fn smaller(self, other: Self) -> Self {
        if other < self { other } else { self }
    }

    fn larger(self, other: Self) -> Self {
        if other > self { other } else { self }
    }

    fn to_json(&self, data_type: &DataType, is_max: bool) -> Option<Value> {
        Some(match (self, data_type) {
            (Self::Boolean(value), _) => (*value).into(),
            (Self::Float(value), _) => Number::from_f64(*value)?.into(),
            (Self::Text(value), _) => std::str::from_utf8(value).ok()?.into(),
            (Self::Integer(days), DataType::Date32) => {
                let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(i64::try_from(*days).ok()?)?)?;
                in_calendar(date.year())?;
                date.format("%Y-%m-%d").to_string().into()
            }
            (Self::Integer(micros), DataType::Timestamp(_, zone)) => {
                let micros = i64::try_from(*micros).ok()?;
                let millis = micros.div_euclid(1000) + i64::from(is_max && micros.rem_euclid(1000) > 0);
                let at = DateTime::from_timestamp_millis(millis)?;
                in_calendar(at.year())?;
                let zone = if zone.is_some() { "Z" } else { "" };
                format!("{}{zone}", at.format("%Y-%m-%dT%H:%M:%S%.3f")).into()
            }
            (Self::Integer(unscaled), DataType::Decimal128(_, scale)) if *scale > 0 => {
                let value = *unscaled as f64 / 10f64.powi(i32::from(*scale));
                // 15 digits and fewer survive a 64-bit float both ways.
                let value = match (unscaled.unsigned_abs() < 1_000_000_000_000_000, is_max) {
                    (true, _) => value,
                    (false, true) => value.next_up(),
                    (false, false) => value.next_down(),
                };
                Number::from_f64(value)?.into()
            }
            (Self::Integer(value), _) => i64::try_from(*value).ok()?.into(),
        })
    }
}

/// Years that every reader's date format takes.
fn in_calendar(year: i32) -> Option<()> {
    (1..=9999).contains(&year).then_some(())
}

fn bounds(statistics: &Statistics, data_type: &DataType) -> Option<(Bound, Bound)> {
    let integers = |min: i128, max: i128| Some((Bound::Integer(min), Bound::Integer(max)));
    match statistics {
        Statistics::Boolean(s) => Some((Bound::Boolean(*s.min_opt()?), Bound::Boolean(*s.max_opt()?))),
        Statistics::Int32(s) => integers((*s.min_opt()?).into(), (*s.max_opt()?).into()),
        Statistics::Int64(s) => match data_type {
            DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Int64 | DataType::Decimal128(..) => {
                integers((*s.min_opt()?).into(), (*s.max_opt()?).into())
            }
            _ => None,
        },
        Statistics::Float(s) => Some((Bound::Float((*s.min_opt()?).into()), Bound::Float((*s.max_opt()?).into()))),
        Statistics::Double(s) => Some((Bound::Float(*s.min_opt()?), Bound::Float(*s.max_opt()?))),
        Statistics::ByteArray(s) if data_type == &DataType::Utf8 => {
            Some((Bound::Text(s.min_opt()?.data().to_vec()), Bound::Text(s.max_opt()?.data().to_vec())))
        }
        Statistics::FixedLenByteArray(s) if matches!(data_type, DataType::Decimal128(..)) => {
            integers(big_endian(s.min_opt()?.data())?, big_endian(s.max_opt()?.data())?)
        }
        _ => None,
    }
}

/// A signed big-endian integer of up to 16 bytes.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first()? & 0x80 == 0 { 0 } else { 0xff };
    let mut whole = [sign; 16];
    let start = whole.len().checked_sub(bytes.len())?;
    whole[start..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}
