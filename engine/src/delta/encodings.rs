//! How columns are encoded whose values hardly ever come again.
//!
//! The Parquet writer puts every column's values into a dictionary until it is full, goes on without, and compresses whatever comes of it. For keys, moments
//! and fractions that is often work for nothing, again in each row group: a sixth of what it takes to write such a file. What is better shows in the first rows.

use std::collections::HashSet;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{cast, filter, is_not_null},
    datatypes::{DataType, Int64Type},
};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use parquet::{basic::Encoding, file::properties::WriterProperties, schema::types::ColumnPath};

use crate::error::{Code, Error, Result};

/// Values that tell anything.
const VALUES_AT_LEAST: usize = 4096;
/// Values of 64 bits that the Parquet writer packs with one number of bits, and those whose differences it counts from the same one.
const PACKED: usize = 64;
const BLOCK: usize = 256;

/// Properties for a file that begins with these rows, with a `key` of these columns.
///
/// A column whose values a dictionary would hold only a part of has none: a key of one column, and moments and fractions, as far as the first rows tell.
/// Other values, such as the numbers and names of devices, may come again in cycles that are longer than these rows. Whole numbers are then stored as
/// differences (`DELTA_BINARY_PACKED`) where that alone makes them smaller than ZSTD does; all columns are compressed after it.
pub(super) fn for_rows(like: &RecordBatch, key: &[String], properties: &WriterProperties) -> Result<WriterProperties> {
    let mut made = properties.clone().into_builder();
    for (field, column) in like.schema().fields().iter().zip(like.columns()) {
        let is_key = matches!(key, [key] if key == field.name());
        let is_fraction = matches!(column.data_type(), DataType::Float32 | DataType::Float64);
        let is_moment = matches!(column.data_type(), DataType::Timestamp(..));
        if !is_key && !is_fraction && !is_moment {
            continue;
        }
        let values = filter(column, &is_not_null(column)?)?;
        let few = values.len() < VALUES_AT_LEAST;
        if !is_key && (few || fits(&values, properties.dictionary_page_size_limit())?) {
            continue;
        }
        let path = ColumnPath::from(field.name().as_str());
        made = made.set_column_dictionary_enabled(path.clone(), false);
        let is_whole = is_moment || column.data_type().is_signed_integer();
        if !few && is_whole && packs(&values)? {
            made = made.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(made.build())
}

/// Whether whole numbers are smaller as differences than compressed as they are.
fn packs(values: &ArrayRef) -> Result<bool> {
    let data = values.to_data();
    let width = values.data_type().primitive_width().unwrap_or(1);
    let plain = data.buffers().first().map(|bytes| bytes.as_slice()).unwrap_or_default();
    let plain = &plain[data.offset() * width..][..data.len() * width];
    let compressed = zstd::bulk::compress(plain, 1).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    Ok(packed_bytes(cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().values()) < compressed.len())
}

/// Bytes of values as differences, about.
fn packed_bytes(values: &[i64]) -> usize {
    let differences: Vec<i64> = values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let block_bytes = |block: &[i64]| {
        let least = block.iter().min().copied().unwrap_or_default();
        let bits = |part: &[i64]| {
            let most = part.iter().map(|difference| difference.wrapping_sub(least).cast_unsigned()).max();
            (u64::BITS - most.unwrap_or_default().leading_zeros()) as usize
        };
        size_of::<i64>() + block.chunks(PACKED).map(|part| bits(part) * PACKED / 8 + 1).sum::<usize>()
    };
    differences.chunks(BLOCK).map(block_bytes).sum()
}

/// Whether the values that these are taken from seem to be so few that a dictionary of so many bytes holds them: of `n` that are drawn from `d`, about
/// `n² / 2d` were drawn before (the birthday paradox).
fn fits(values: &ArrayRef, dictionary_bytes: usize) -> Result<bool> {
    let drawn = values.len();
    let mut hashes = vec![0; drawn];
    create_hashes([values.as_ref()], &RandomState::default(), &mut hashes)?;
    let distinct = hashes.into_iter().collect::<HashSet<u64>>().len();
    let held = dictionary_bytes / values.data_type().primitive_width().unwrap_or(1);
    Ok((drawn - distinct) * 2 * held > drawn * drawn)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Float64Array, Int64Array, TimestampMicrosecondArray},
        datatypes::{Field, Schema},
    };

    use super::*;

    /// What is said of a column: no dictionary, differences.
    fn said(properties: &WriterProperties, column: &str) -> String {
        let path = ColumnPath::from(column);
        let mut said = Vec::new();
        said.extend((!properties.dictionary_enabled(&path)).then_some("no dictionary"));
        said.extend((properties.encoding(&path) == Some(Encoding::DELTA_BINARY_PACKED)).then_some("packed"));
        said.join(" ")
    }

    #[test]
    fn each_column_is_stored_in_the_way_that_suits_its_values() {
        // A multiplier that spreads the row numbers.
        let drawn = |row: i64, of: i64| {
            let spread = row.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
            (spread ^ (spread >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64).rem_euclid(of)
        };
        let of = |rows: i64, key: &[&str]| {
            let fractions = |of: i64| -> ArrayRef {
                let fraction = |row: i64| (row % 3 > 0).then(|| drawn(row, of) as f64 / 7.0);
                Arc::new((0..rows).map(fraction).collect::<Float64Array>())
            };
            let moments = |of: i64| -> ArrayRef {
                Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(|row| drawn(row, of))))
            };
            let numbers =
                |number: &dyn Fn(i64) -> i64| -> ArrayRef { Arc::new((0..rows).map(number).collect::<Int64Array>()) };
            // Long numbers among short ones take all the bits of the long ones.
            let now_and_then = |row: i64| if row % 40 == 0 { drawn(row, 1 << 50) } else { row % 2 };
            let columns = [
                ("few", fractions(1_000)),
                ("many", fractions(30_000)),
                ("unique", fractions(1 << 40)),
                (
                    "any",
                    Arc::new((0..rows).map(|row| f64::from_bits(drawn(row, 1 << 62) as u64)).collect::<Float64Array>()),
                ),
                ("round", Arc::new((0..rows).map(|row| row as f64).collect::<Float64Array>()) as ArrayRef),
                ("null", Arc::new(Float64Array::new_null(rows as usize)) as ArrayRef),
                ("day", moments(30)),
                ("moment", moments(1 << 40)),
                ("key", numbers(&|row| drawn(row, 1 << 50))),
                ("uneven", numbers(&now_and_then)),
                ("other", numbers(&|row| row)),
            ];
            let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
            let fields: Vec<_> = columns.iter().map(field).collect();
            let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
            let columns = columns.into_iter().map(|(_, column)| column).collect();
            let like = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
            let key: Vec<_> = key.iter().map(ToString::to_string).collect();
            let made = for_rows(&like, &key, &WriterProperties::default()).unwrap();
            let said = names.iter().map(|name| (*name, said(&made, name))).filter(|(_, said)| !said.is_empty());
            said.map(|(name, said)| format!("{name}: {said}")).collect::<Vec<_>>()
        };
        let always =
            ["unique: no dictionary", "any: no dictionary", "round: no dictionary", "moment: no dictionary packed"];
        let with = |key: &str| always.iter().copied().chain([key]).map(str::to_string).collect::<Vec<_>>();
        assert_eq!(of(9000, &["key"]), with("key: no dictionary packed"));
        assert_eq!(of(9000, &["uneven"]), with("uneven: no dictionary"));
        assert_eq!(of(9000, &["key", "other"]), always);
        assert_eq!(of(1000, &["key"]), ["key: no dictionary"]);
    }
}
