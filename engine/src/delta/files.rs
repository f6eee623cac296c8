//! A list of data files with the statistics the log keeps of them: what scans prune and plan with.

use std::{cmp::Ordering, collections::HashSet, fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, UInt64Array},
    datatypes::{DataType, SchemaRef, TimeUnit},
};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::common::{
    Column, ColumnStatistics, ScalarValue, Statistics, pruning::PruningStatistics, stats::Precision,
};
use deltalake_core::kernel::Add;
use serde_json::{Map, Value};

use super::{
    feature,
    layout::{Layout, physical_name},
    table::Table,
};
use crate::{
    TableName,
    error::{Code, Error, Result},
};

/// Data files of one table, committed or just written, with typed statistics. Cheap to clone.
#[derive(Clone)]
pub struct DataFiles {
    files: Arc<Vec<Add>>,
    schema: SchemaRef,
    partition_columns: Arc<Vec<String>>,
    layout: Option<Arc<Layout>>,
    /// Per file, rows as they are stored; those of its deletion vector are among them.
    stored_rows: Arc<Vec<Option<u64>>>,
    /// One per column of the schema, of length `files`.
    bounds: Arc<Vec<Bounds>>,
}

/// Bounds of one column, per file. They may be wider than the values, never narrower; `None` (or null) is "not known".
#[derive(Clone)]
struct Bounds {
    min: Vec<ScalarValue>,
    max: Vec<ScalarValue>,
    nulls: Vec<Option<u64>>,
}

impl fmt::Debug for DataFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataFiles({})", self.files.len())
    }
}

impl DataFiles {
    /// The live files of a table's version.
    pub(crate) fn of_table(table: &Table) -> Result<Self> {
        let files = table
            .snapshot()
            .try_log_data()?
            .iter()
            .map(|view| Add {
                path: view.path().to_string(),
                partition_values: view.partition_values_map(),
                size: view.size(),
                modification_time: view.modification_time(),
                data_change: true,
                stats: view.stats(),
                deletion_vector: view.deletion_vector_descriptor(),
                ..Add::default()
            })
            .collect();
        let layout = Layout {
            table: table.name().to_string(),
            schema: table.schema().as_ref().clone(),
            mapping: feature::mapping(table)?,
            widening: feature::widening(table)?,
        };
        let partition_columns = table.partition_columns().to_vec();
        Self::with_layout(table.name(), table.arrow_schema()?, partition_columns, Some(Arc::new(layout)), files)
    }

    /// Files of a table with this schema (all its columns, in table order), committed or not, whose columns are named and typed as the
    /// table's.
    pub fn try_new(
        table: &TableName,
        schema: SchemaRef,
        partition_columns: Vec<String>,
        files: Vec<Add>,
    ) -> Result<Self> {
        Self::with_layout(table, schema, partition_columns, None, files)
    }

    fn with_layout(
        table: &TableName,
        schema: SchemaRef,
        partition_columns: Vec<String>,
        layout: Option<Arc<Layout>>,
        files: Vec<Add>,
    ) -> Result<Self> {
        let stats: Vec<Stats> = files.iter().map(Stats::parse).collect();
        let bounds = schema
            .fields()
            .iter()
            .map(|field| {
                // In the log, too, a mapped column has its physical name.
                let in_log = layout.as_ref().and_then(|layout| {
                    layout.schema.field(field.name()).map(|field| physical_name(field, layout.mapping))
                });
                let in_log = in_log.unwrap_or(field.name());
                if partition_columns.contains(field.name()) {
                    partition_bounds(table, in_log, field.data_type(), &files, &stats)
                } else {
                    Bounds::parse(in_log, field.data_type(), &stats)
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let stored_rows = stats.iter().map(|stats| stats.rows).collect();
        Ok(Self {
            files: Arc::new(files),
            schema,
            partition_columns: Arc::new(partition_columns),
            layout,
            stored_rows: Arc::new(stored_rows),
            bounds: Arc::new(bounds),
        })
    }

    /// The files.
    pub fn adds(&self) -> &[Add] {
        &self.files
    }

    /// How many files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Columns of the table, in table order.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Columns whose values come from the log, not from the files.
    pub fn partition_columns(&self) -> &[String] {
        &self.partition_columns
    }

    /// How columns are found in the files; `None` when they have the table's names and types.
    pub fn layout(&self) -> Option<&Arc<Layout>> {
        self.layout.as_ref()
    }

    /// Rows in all files, without those that deletion vectors remove; `None` when a file's count is not known.
    pub fn rows(&self) -> Option<u64> {
        self.files.iter().zip(self.stored_rows.iter()).map(|(add, stored)| live_rows(add, *stored)).sum()
    }

    /// Rows of a file that its deletion vector removes, and rows that are stored, those included; `None` when their count is not known.
    pub fn retired(&self, file: usize) -> (u64, Option<u64>) {
        let vector = self.files.get(file).and_then(|add| add.deletion_vector.as_ref());
        let retired = vector.map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or(0));
        (retired, self.stored_rows.get(file).copied().flatten())
    }

    /// Rows of a file, without those that its deletion vector removes; `None` when their count is not known.
    pub fn live(&self, file: usize) -> Option<u64> {
        let (retired, stored) = self.retired(file);
        stored?.checked_sub(retired)
    }

    /// Columns from this position on that have bounds in some file.
    pub fn bounded_columns(&self, from: usize) -> Vec<String> {
        let columns = self.schema.fields().iter().zip(self.bounds.iter()).skip(from);
        let known = columns.filter(|(_, bounds)| bounds.min.iter().any(|bound| !bound.is_null()));
        known.map(|(field, _)| field.name().clone()).collect()
    }

    /// Bytes of all files as they are stored.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(size).sum()
    }

    /// The files at these positions.
    pub fn subset(&self, indices: &[usize]) -> Self {
        fn pick<T: Clone>(all: &[T], indices: &[usize]) -> Vec<T> {
            indices.iter().filter_map(|&i| all.get(i).cloned()).collect()
        }
        let bounds = self
            .bounds
            .iter()
            .map(|bounds| Bounds {
                min: pick(&bounds.min, indices),
                max: pick(&bounds.max, indices),
                nulls: pick(&bounds.nulls, indices),
            })
            .collect();
        Self {
            files: Arc::new(pick(&self.files, indices)),
            schema: self.schema.clone(),
            partition_columns: self.partition_columns.clone(),
            layout: self.layout.clone(),
            stored_rows: Arc::new(pick(&self.stored_rows, indices)),
            bounds: Arc::new(bounds),
        }
    }

    /// Value of a partition column in a file.
    pub(crate) fn partition_value(&self, column: &str, file: usize) -> Option<&ScalarValue> {
        self.bounds.get(self.schema.index_of(column).ok()?)?.min.get(file)
    }

    /// Positions of files that may hold, in each of these columns at once, a value within the ranges of one of `other`'s files.
    ///
    /// O(files × other's files) comparisons.
    pub fn overlapping(&self, other: &Self, columns: &[String]) -> Result<Vec<usize>> {
        let pairs = columns
            .iter()
            .map(|column| Ok((self.bounds_of(column)?, other.bounds_of(column)?)))
            .collect::<Result<Vec<_>>>()?;
        let apart = |low: &ScalarValue, high: &ScalarValue| {
            !low.is_null() && !high.is_null() && low.partial_cmp(high) == Some(Ordering::Greater)
        };
        let meet = |mine: usize, theirs: usize| {
            !pairs.iter().any(|(a, b)| apart(&a.min[mine], &b.max[theirs]) || apart(&b.min[theirs], &a.max[mine]))
        };
        Ok((0..self.len()).filter(|&mine| (0..other.len()).any(|theirs| meet(mine, theirs))).collect())
    }

    fn bounds_of(&self, column: &str) -> Result<&Bounds> {
        let index = self
            .schema
            .index_of(column)
            .map_err(|_| Error::new(Code::InvalidSpec, format!("the table has no column `{column}`")))?;
        self.bounds.get(index).ok_or_else(|| Error::new(Code::Internal, "statistics are shorter than the schema"))
    }

    /// What the planner may know: row count (exact), bytes, and per column bounds (inexact: the log keeps some of them cut or rounded).
    pub fn statistics(&self) -> Statistics {
        let num_rows = match self.rows() {
            Some(rows) => Precision::Exact(to_usize(rows)),
            None => Precision::Absent,
        };
        let known_rows = num_rows.get_value().copied();
        // Parquet with zstd takes about a quarter of what it takes in memory.
        let in_memory = to_usize(self.bytes()).saturating_mul(4);
        let fixed: usize = self.schema.fields().iter().filter_map(|field| field.data_type().primitive_width()).sum();
        let variable =
            self.schema.fields().iter().filter(|field| field.data_type().primitive_width().is_none()).count();
        let variable_share =
            known_rows.and_then(|rows| in_memory.saturating_sub(rows.saturating_mul(fixed)).checked_div(variable));
        let column_statistics = self
            .schema
            .fields()
            .iter()
            .zip(self.bounds.iter())
            .map(|(field, bounds)| ColumnStatistics {
                byte_size: match (field.data_type().primitive_width(), known_rows, variable_share) {
                    (Some(width), Some(rows), _) => Precision::Inexact(rows.saturating_mul(width)),
                    (None, _, Some(share)) => Precision::Inexact(share),
                    _ => Precision::Absent,
                },
                ..bounds.summary(&self.stored_rows)
            })
            .collect();
        Statistics { num_rows, total_byte_size: Precision::Inexact(in_memory), column_statistics }
    }
}

/// Stored bytes of a file.
pub(crate) fn size(add: &Add) -> u64 {
    u64::try_from(add.size).unwrap_or(0)
}

/// Rows of a file as its statistics say, without those that its deletion vector removes.
pub(crate) fn rows(add: &Add) -> Option<u64> {
    live_rows(add, Stats::parse(add).rows)
}

fn live_rows(add: &Add, stored: Option<u64>) -> Option<u64> {
    let removed = add.deletion_vector.as_ref().map_or(Some(0), |vector| u64::try_from(vector.cardinality).ok())?;
    stored?.checked_sub(removed)
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The log's statistics of one file, still JSON.
#[derive(Default)]
struct Stats {
    rows: Option<u64>,
    min: Map<String, Value>,
    max: Map<String, Value>,
    nulls: Map<String, Value>,
}

impl Stats {
    /// Statistics are optional and others may write them badly: what can't be read is not known.
    fn parse(add: &Add) -> Self {
        let Some(Value::Object(mut stats)) = add.stats.as_deref().and_then(|text| serde_json::from_str(text).ok())
        else {
            return Self::default();
        };
        let mut object = |key: &str| match stats.remove(key) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let (min, max, nulls) = (object("minValues"), object("maxValues"), object("nullCount"));
        Self { rows: stats.get("numRecords").and_then(Value::as_u64), min, max, nulls }
    }
}

impl Bounds {
    fn parse(column: &str, data_type: &DataType, stats: &[Stats]) -> Result<Self> {
        let unknown = if is_ordered(data_type) { ScalarValue::try_from(data_type)? } else { ScalarValue::Null };
        let read = |map: &Map<String, Value>, is_max: bool| {
            map.get(column).and_then(|value| bound(value, data_type, is_max)).unwrap_or_else(|| unknown.clone())
        };
        Ok(Self {
            min: stats.iter().map(|stats| read(&stats.min, false)).collect(),
            max: stats.iter().map(|stats| read(&stats.max, true)).collect(),
            nulls: stats.iter().map(|stats| stats.nulls.get(column).and_then(Value::as_u64)).collect(),
        })
    }

    /// Bounds over all files; absent when they are not known of a file that has values.
    fn summary(&self, rows: &[Option<u64>]) -> ColumnStatistics {
        let mut min: Option<&ScalarValue> = None;
        let mut max: Option<&ScalarValue> = None;
        let mut known = true;
        for (file, rows) in rows.iter().enumerate() {
            if rows.is_some() && self.nulls[file] == *rows {
                continue;
            }
            let (low, high) = (&self.min[file], &self.max[file]);
            known &= !low.is_null() && !high.is_null();
            if min.is_none_or(|min| low.partial_cmp(min) == Some(Ordering::Less)) {
                min = Some(low);
            }
            if max.is_none_or(|max| high.partial_cmp(max) == Some(Ordering::Greater)) {
                max = Some(high);
            }
        }
        let value = |value: Option<&ScalarValue>| match value {
            Some(value) if known => Precision::Inexact(value.clone()),
            _ => Precision::Absent,
        };
        let nulls: Option<u64> = self.nulls.iter().copied().sum();
        ColumnStatistics {
            null_count: nulls.map_or(Precision::Absent, |n| Precision::Inexact(to_usize(n))),
            min_value: value(min),
            max_value: value(max),
            ..ColumnStatistics::new_unknown()
        }
    }
}

fn partition_bounds(
    table: &TableName,
    column: &str,
    data_type: &DataType,
    files: &[Add],
    stats: &[Stats],
) -> Result<Bounds> {
    let null = ScalarValue::try_from(data_type)?;
    let mut values = Vec::with_capacity(files.len());
    for file in files {
        // The protocol: an empty string is null.
        let text = file.partition_values.get(column).and_then(Option::as_deref).filter(|text| !text.is_empty());
        values.push(match text {
            None => null.clone(),
            Some(text) => ScalarValue::from(text).cast_to(data_type).map_err(|error| {
                let what =
                    format!("table {table}: partition `{column}={text}` of file {} is no {data_type}", file.path);
                Error::new(Code::BadValue, format!("{what}: {error}"))
            })?,
        });
    }
    let nulls =
        values.iter().zip(stats).map(|(value, stats)| if value.is_null() { stats.rows } else { Some(0) }).collect();
    Ok(Bounds { min: values.clone(), max: values, nulls })
}

/// Types whose bounds [`bound`] reads.
fn is_ordered(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(data_type, Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Utf8 | Date32 | Decimal128(..))
        || matches!(data_type, Timestamp(TimeUnit::Microsecond, _))
}

/// A bound as a typed value, moved outward where the log's form of it is coarser than the type; `None` when it can't be read.
fn bound(value: &Value, data_type: &DataType, is_max: bool) -> Option<ScalarValue> {
    Some(match data_type {
        DataType::Boolean => ScalarValue::Boolean(Some(value.as_bool()?)),
        DataType::Int8 => ScalarValue::Int8(Some(value.as_i64()?.try_into().ok()?)),
        DataType::Int16 => ScalarValue::Int16(Some(value.as_i64()?.try_into().ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(value.as_i64()?.try_into().ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(value.as_i64()?)),
        // `serde_json` reads a float to within one step.
        DataType::Float64 => {
            let float = value.as_f64()?;
            ScalarValue::Float64(Some(if is_max { float.next_up() } else { float.next_down() }))
        }
        DataType::Float32 => {
            let narrow = value.as_f64()? as f32;
            ScalarValue::Float32(Some(if is_max { narrow.next_up() } else { narrow.next_down() }))
        }
        DataType::Utf8 => ScalarValue::Utf8(Some(value.as_str()?.to_string())),
        DataType::Date32 => {
            let date = NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()?;
            let days = date.signed_duration_since(NaiveDate::default()).num_days();
            ScalarValue::Date32(Some(days.try_into().ok()?))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = timestamp(value.as_str()?)?;
            // Writers cut to milliseconds (protocol, "Per-file Statistics").
            let micros = if is_max && micros % 1000 == 0 { micros.checked_add(999)? } else { micros };
            ScalarValue::TimestampMicrosecond(Some(micros), zone.clone())
        }
        DataType::Decimal128(precision, scale) => {
            ScalarValue::Decimal128(Some(decimal(value, *scale, is_max)?), *precision, *scale)
        }
        _ => return None,
    })
}

/// Microseconds since the epoch of `2024-01-31T23:59:59.123Z`, with an offset, without any, or with a space for the `T`.
fn timestamp(text: &str) -> Option<i64> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_micros());
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|at| at.and_utc().timestamp_micros())
}

/// The unscaled value. A JSON number that is not an integer has passed through a 64-bit float, ours and others': one step outward.
fn decimal(value: &Value, scale: i8, is_max: bool) -> Option<i128> {
    let factor = 10i128.checked_pow(u32::try_from(scale).ok()?)?;
    if let Some(integer) = value.as_i64() {
        return i128::from(integer).checked_mul(factor);
    }
    let float = value.as_f64()?;
    let outward = if is_max { float.next_up() } else { float.next_down() };
    let scaled = outward * factor as f64;
    let rounded = if is_max { scaled.next_up().ceil() } else { scaled.next_down().floor() };
    (rounded.is_finite() && rounded.abs() < 1e38).then_some(rounded as i128)
}

/// The bounds as an array; none for a type that has no bounds.
fn values(bounds: &[ScalarValue]) -> Option<ArrayRef> {
    if bounds.first()? == &ScalarValue::Null {
        return None;
    }
    ScalarValue::iter_to_array(bounds.iter().cloned()).ok()
}

impl PruningStatistics for DataFiles {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        values(&self.bounds_of(&column.name).ok()?.min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        values(&self.bounds_of(&column.name).ok()?.max)
    }

    fn num_containers(&self) -> usize {
        self.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = self.bounds_of(&column.name).ok()?.nulls.iter().copied().collect::<UInt64Array>();
        Some(Arc::new(nulls))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.stored_rows.iter().copied().collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use serde_json::json;

    use super::*;

    fn files(data_type: DataType, stats: &[Option<Value>]) -> DataFiles {
        let adds =
            stats.iter().map(|stats| Add { stats: stats.as_ref().map(Value::to_string), ..Add::default() }).collect();
        let schema = Arc::new(Schema::new(vec![Field::new("c", data_type, true)]));
        DataFiles::try_new(&"a.b".parse().unwrap(), schema, Vec::new(), adds).unwrap()
    }

    fn range(min: impl Into<Value>, max: impl Into<Value>) -> Option<Value> {
        let (min, max): (Value, Value) = (min.into(), max.into());
        Some(json!({ "numRecords": 2, "minValues": { "c": min }, "maxValues": { "c": max }, "nullCount": { "c": 0 } }))
    }

    #[test]
    fn bounds_that_others_rounded_are_widened() {
        let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let spark = files(zone.clone(), &[range("2024-01-01T01:00:00.123+01:00", "2024-01-01T00:00:00.123Z")]);
        let at = |micros| ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
        assert_eq!(spark.bounds[0].min[0], at(1_704_067_200_123_000));
        assert_eq!(spark.bounds[0].max[0], at(1_704_067_200_123_999));
        // The library rounds decimals through a float, to either side.
        let decimals = files(DataType::Decimal128(20, 2), &[range(123_456_789_012_345.67, 123_456_789_012_345.67)]);
        let unscaled = |value: &ScalarValue| match value {
            ScalarValue::Decimal128(Some(value), 20, 2) => *value,
            other => panic!("{other:?}"),
        };
        assert!(unscaled(&decimals.bounds[0].min[0]) < 12_345_678_901_234_567);
        assert!(unscaled(&decimals.bounds[0].max[0]) > 12_345_678_901_234_567);
    }

    #[test]
    fn statistics_that_are_missing_or_of_another_type_are_not_known() {
        let files = files(DataType::Int64, &[range(1, 5), None, range("x", 3.5), Some(json!("nonsense"))]);
        assert_eq!(files.rows(), None);
        let known: Vec<_> = (0..files.len()).map(|file| !files.bounds[0].min[file].is_null()).collect();
        assert_eq!(known, [true, false, false, false]);
        let other = super::tests::files(DataType::Int64, &[range(6, 9)]);
        assert_eq!(files.overlapping(&other, &["c".to_string()]).unwrap(), [1, 2, 3]);
        assert_eq!(files.statistics().num_rows, Precision::Absent);
        assert_eq!(files.statistics().column_statistics[0].min_value, Precision::Absent);
        assert_eq!(
            files.subset(&[0]).statistics().column_statistics[0].max_value,
            Precision::Inexact(ScalarValue::from(5i64))
        );
        assert_eq!(files.subset(&[0]).statistics().num_rows, Precision::Exact(2));
    }
}
