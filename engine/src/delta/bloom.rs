//! Keys of a small source, asked for in the Bloom filters of a row group before anything of it is read.
//!
//! Keys that are scattered over their whole range are in no file's way out by statistics. A filter that is one bit in 10,000 wrong rules a row group
//! out for a few thousand keys. Larger sources find every filter full of them, and read the keys themselves.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Date32Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType},
};
use parquet::{
    basic::{LogicalType, TimeUnit as StoredUnit, Type as PhysicalType},
    bloom_filter::Sbbf,
    schema::types::ColumnDescriptor,
};

/// Rows of a source whose keys are asked for.
pub(super) const ROWS_AT_MOST: u64 = 16 * 1024;

/// Whether values of a column are stored by the bytes that [`may_hold`] asks for.
pub(super) fn is_asked(data_type: &DataType, stored: &ColumnDescriptor) -> bool {
    let micros = || match stored.logical_type_ref() {
        Some(LogicalType::Timestamp(timestamp)) => timestamp.unit == StoredUnit::MICROS,
        _ => false,
    };
    match (data_type, stored.physical_type()) {
        (DataType::Utf8, PhysicalType::BYTE_ARRAY) | (DataType::Int32 | DataType::Date32, PhysicalType::INT32) => true,
        (DataType::Int64, PhysicalType::INT64) => true,
        (DataType::Timestamp(TimeUnit::Microsecond, _), PhysicalType::INT64) => micros(),
        _ => false,
    }
}

/// Whether a row group may hold one of the keys; `filters` are those of the key columns, as far as there are any.
pub(super) fn may_hold(keys: &RecordBatch, filters: &[Option<Sbbf>]) -> bool {
    (0..keys.num_rows()).any(|row| {
        keys.columns().iter().zip(filters).all(|(column, filter)| match filter {
            Some(filter) => column.is_valid(row) && has(filter, column.as_ref(), row),
            None => true,
        })
    })
}

fn has(filter: &Sbbf, column: &dyn Array, row: usize) -> bool {
    match column.data_type() {
        DataType::Utf8 => filter.check(column.as_string::<i32>().value(row)),
        DataType::Int32 => filter.check(&column.as_primitive::<Int32Type>().value(row)),
        DataType::Date32 => filter.check(&column.as_primitive::<Date32Type>().value(row)),
        DataType::Int64 => filter.check(&column.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            filter.check(&column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        _ => true,
    }
}

/// Leaves of these columns among a file's, none for one that is nested or missing.
pub(super) fn leaves(columns: &Schema, stored: &parquet::schema::types::SchemaDescriptor) -> Vec<Option<usize>> {
    let leaf = |name: &String| {
        (0..stored.num_columns()).find(|leaf| stored.column(*leaf).path().parts() == std::slice::from_ref(name))
    };
    columns.fields().iter().map(|field| leaf(field.name())).collect()
}
