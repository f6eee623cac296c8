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

/// Columns of which a dictionary of so many bytes would hold only a part of the values, as far as the first rows tell.
pub(super) fn not_worth_it(first: &RecordBatch, dictionary_bytes: usize) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (field, column) in first.schema().fields().iter().zip(first.columns()) {
        if is_flat(column.data_type()) && !fits(column.as_ref(), dictionary_bytes)? {
            names.push(field.name().clone());
        }
    }
    Ok(names)
}

fn is_flat(data_type: &DataType) -> bool {
    let flat = data_type.is_primitive() || matches!(data_type, DataType::Utf8 | DataType::Binary);
    // Those have no more values than fit.
    flat && data_type.primitive_width().is_none_or(|width| width > 2)
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
    let width = match column.data_type().primitive_width() {
        Some(width) => width,
        // Parquet stores a text's length with it.
        None => column.to_data().get_slice_memory_size()? / column.len(),
    };
    let held = dictionary_bytes / width.max(1);
    Ok((rows - distinct.len()) * 2 * held > rows * rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Int64Array, StringArray},
        datatypes::{Field, Schema},
    };

    use super::*;

    #[test]
    fn a_dictionary_is_for_values_that_come_again() {
        // A multiplier that spreads the row numbers.
        let drawn = |row: i64, of: i64| (row.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> 20).rem_euclid(of);
        let of = |rows: i64| {
            let numbers =
                |of: i64| -> ArrayRef { Arc::new((0..rows).map(|row| drawn(row * row, of)).collect::<Int64Array>()) };
            let texts = |of: i64| -> ArrayRef {
                let text = |row: i64| (row % 3 > 0).then(|| format!("text {:040}", drawn(row * row, of)));
                Arc::new((0..rows).map(text).collect::<StringArray>())
            };
            let columns = [
                ("few", numbers(1_000)),
                ("many", numbers(30_000)),
                ("unique", numbers(1 << 40)),
                ("null", Arc::new(Int64Array::new_null(rows as usize)) as ArrayRef),
                ("texts", texts(5_000)),
                ("unique texts", texts(1 << 40)),
            ];
            let fields: Vec<_> =
                columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
            let columns = columns.into_iter().map(|(_, column)| column).collect();
            not_worth_it(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(), 1024 * 1024).unwrap()
        };
        assert_eq!(of(8192), ["unique", "unique texts"]);
        assert_eq!(of(1000), Vec::<String>::new());
    }
}
