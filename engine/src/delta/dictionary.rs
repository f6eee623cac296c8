//! Which columns are worth a dictionary.
//!
//! The Parquet writer puts every column's values into a dictionary until it is full, and then goes on without. For values that hardly ever come again
//! that is work for nothing, again in each row group: a tenth of what it takes to write such a file.

use std::collections::HashSet;

use arrow::{
    array::{Array, RecordBatch},
    datatypes::DataType,
};
use datafusion::common::hash_utils::{RandomState, create_hashes};

use crate::error::Result;

/// Rows from which a batch tells anything.
const ROWS_AT_LEAST: usize = 4096;

/// Columns of which a dictionary of so many bytes would hold only a part of the values: a `key` of one column, and fractions, as far as the first rows
/// tell. Other values, such as the names and days of devices, may come again in cycles that are longer than these rows.
pub(super) fn not_worth_it(first: &RecordBatch, key: &[String], dictionary_bytes: usize) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (field, column) in first.schema().fields().iter().zip(first.columns()) {
        let is_key = matches!(key, [key] if key == field.name());
        let is_fraction = matches!(column.data_type(), DataType::Float32 | DataType::Float64);
        if is_key || (is_fraction && !fits(column.as_ref(), dictionary_bytes)?) {
            names.push(field.name().clone());
        }
    }
    Ok(names)
}

/// Whether the values that a column's first rows are taken from seem to be so few that a dictionary holds them: of `n` that are drawn from `d`,
/// about `n² / 2d` were drawn before (the birthday paradox). Nulls are no values.
fn fits(column: &dyn Array, dictionary_bytes: usize) -> Result<bool> {
    let rows = column.len() - column.logical_null_count();
    if rows < ROWS_AT_LEAST {
        return Ok(true);
    }
    let mut hashes = vec![0; column.len()];
    create_hashes([column], &RandomState::default(), &mut hashes)?;
    let nulls = column.logical_nulls();
    let is_value = |row: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row));
    let distinct: HashSet<u64> = (0..hashes.len()).filter(is_value).map(|row| hashes[row]).collect();
    let held = dictionary_bytes / column.data_type().primitive_width().unwrap_or(1);
    Ok((rows - distinct.len()) * 2 * held > rows * rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Float64Array, Int64Array},
        datatypes::{Field, Schema},
    };

    use super::*;

    #[test]
    fn a_dictionary_is_for_values_that_come_again() {
        // A multiplier that spreads the row numbers.
        let drawn = |row: i64, of: i64| (row.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> 20).rem_euclid(of);
        let of = |rows: i64| {
            let fractions = |of: i64| -> ArrayRef {
                let fraction = |row: i64| (row % 3 > 0).then(|| drawn(row * row, of) as f64 / 8.0);
                Arc::new((0..rows).map(fraction).collect::<Float64Array>())
            };
            let numbers = || -> ArrayRef { Arc::new((0..rows).collect::<Int64Array>()) };
            let columns = [
                ("few", fractions(1_000)),
                ("many", fractions(30_000)),
                ("unique", fractions(1 << 40)),
                ("null", Arc::new(Float64Array::new_null(rows as usize)) as ArrayRef),
                ("key", numbers()),
                ("other", numbers()),
            ];
            let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
            let fields: Vec<_> = columns.iter().map(field).collect();
            let columns = columns.into_iter().map(|(_, column)| column).collect();
            let first = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
            let without = |key: &[&str]| {
                not_worth_it(&first, &key.iter().map(ToString::to_string).collect::<Vec<_>>(), 1024 * 1024).unwrap()
            };
            (without(&["key"]), without(&["key", "other"]))
        };
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(9000), (names(&["unique", "key"]), names(&["unique"])));
        assert_eq!(of(1000), (names(&["key"]), names(&[])));
    }
}
