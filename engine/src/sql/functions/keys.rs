//! Values as bytes that are equal, and in order, as the values are: for sets, keys of maps, and sorting.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, ListArray, StructArray},
    datatypes::{DataType, Float32Type, Float64Type},
    row::{RowConverter, Rows, SortField},
};
use datafusion::common::{Result, exec_err};

/// The keys of several arrays of one type.
pub(super) struct Keys {
    rows: Vec<Rows>,
}

impl Keys {
    /// Makes keys: NaN is equal to itself and greater than any number, 0.0 is -0.0, a null is less than any value.
    pub(super) fn of(arrays: &[ArrayRef]) -> Result<Keys> {
        let Some(first) = arrays.first() else { return Ok(Keys { rows: Vec::new() }) };
        let converter = RowConverter::new(vec![SortField::new(first.data_type().clone())])?;
        let rows = arrays.iter().map(|array| Ok(converter.convert_columns(&[normal(array)?])?));
        Ok(Keys { rows: rows.collect::<Result<Vec<_>>>()? })
    }

    /// The key of a value.
    pub(super) fn get(&self, array: usize, at: usize) -> &[u8] {
        self.rows[array].row(at).data()
    }
}

/// The values with one spelling of NaN and of zero.
pub(super) fn normal(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            let plain = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(values.unary::<_, Float32Type>(plain)) as Arc<Float32Array>
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            let plain = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(values.unary::<_, Float64Type>(plain)) as Arc<Float64Array>
        }
        DataType::List(item) if has_floats(item.data_type()) => {
            let list = array.as_list::<i32>();
            let values = normal(list.values())?;
            Arc::new(ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        DataType::Struct(fields) if fields.iter().any(|field| has_floats(field.data_type())) => {
            let structs = array.as_struct();
            let columns = structs.columns().iter().map(normal).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, structs.nulls().cloned())?)
        }
        _ => Arc::clone(array),
    })
}

fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(item) => has_floats(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        _ => false,
    }
}

/// An error if a map would have a key twice.
pub(super) fn check_unique(name: &str, keys: &ArrayRef, lengths: &[usize]) -> Result<()> {
    let found = Keys::of(std::slice::from_ref(keys))?;
    let mut at = 0;
    for length in lengths {
        let mut seen = HashSet::with_capacity(*length);
        for i in at..at + length {
            if !seen.insert(found.get(0, i)) {
                let text = arrow::util::display::array_value_to_string(keys, i)?;
                return exec_err!("{name}: the key `{text}` is there twice");
            }
        }
        at += length;
    }
    Ok(())
}
