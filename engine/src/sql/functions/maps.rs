//! Functions of maps. A key that would be there twice is an error, as in Spark.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, UInt32Array},
    buffer::NullBuffer,
    compute::{concat, take},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::ScalarUDF,
};

use super::{
    args::{common, element_type, gives_boolean},
    keys::{Keys, check_unique},
    lambdas::{make_map, pair_of},
};
use crate::sql::{
    kernel::{Arguments, Kernel, wrong_call},
    types::{list_of, map_of, type_name},
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Kernel::function(
            "map_concat",
            |types| {
                let pairs = types.iter().map(|map| pair("map_concat", map)).collect::<Result<Vec<_>>>()?;
                let (keys, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
                if keys.is_empty() {
                    return Err(wrong_call("`map_concat` takes one map or more"));
                }
                Ok(vec![map_of(common("map_concat", &keys)?, common("map_concat", &values)?); types.len()])
            },
            super::args::as_first,
            map_concat,
        ),
        Kernel::function(
            "map_contains_key",
            |types| map_and_key("map_contains_key", types),
            gives_boolean,
            |arguments| {
                let found = lookup(arguments)?;
                arguments.booleans(|row| arguments.all_known(row).then(|| found[row].is_some()))
            },
        ),
        // A value by its key.
        Kernel::function(
            "map_value",
            |types| map_and_key("element_at", types),
            |fields, _| match fields.first().and_then(|map| pair_of(map.data_type())) {
                Some((_, value)) => Ok(value),
                None => Err(wrong_call("expected a map")),
            },
            |arguments| {
                let found = UInt32Array::from(lookup(arguments)?);
                Ok(take(arguments.arrays[0].as_map().values(), &found, None)?)
            },
        ),
        Kernel::function(
            "map_from_arrays",
            |types| match types {
                [keys, values] => Ok(vec![
                    list_of(element_type("map_from_arrays", keys)?, true),
                    list_of(element_type("map_from_arrays", values)?, true),
                ]),
                _ => Err(wrong_call("`map_from_arrays` takes an array of keys and one of values")),
            },
            |fields, _| {
                let elements = fields.iter().map(|field| element_type("map_from_arrays", field.data_type()));
                match elements.collect::<Result<Vec<_>>>()?.as_slice() {
                    [key, value] => Ok(map_of(key.clone(), value.clone())),
                    _ => Err(wrong_call("`map_from_arrays` takes two arrays")),
                }
            },
            map_from_arrays,
        ),
        Kernel::function(
            "map_from_entries",
            |types| match types {
                [entries] => {
                    entry_types(entries)?;
                    Ok(vec![list_of(element_type("map_from_entries", entries)?, true)])
                }
                _ => Err(wrong_call("`map_from_entries` takes one array of structs")),
            },
            |fields, _| match fields {
                [entries] => {
                    let (key, value) = entry_types(entries.data_type())?;
                    Ok(map_of(key, value))
                }
                _ => Err(wrong_call("`map_from_entries` takes one array of structs")),
            },
            map_from_entries,
        ),
        Kernel::function(
            "map_entries",
            |types| match types {
                [map] => {
                    let (key, value) = pair("map_entries", map)?;
                    Ok(vec![map_of(key, value)])
                }
                _ => Err(wrong_call("`map_entries` takes one map")),
            },
            entries_type,
            |arguments| {
                let map = as_map(arguments, 0)?;
                let DataType::List(field) = &arguments.result else { return exec_err!("map_entries gives an array") };
                let DataType::Struct(fields) = field.data_type() else { return exec_err!("map_entries gives structs") };
                let columns = vec![Arc::clone(map.keys()), Arc::clone(map.values())];
                let structs = StructArray::try_new(fields.clone(), columns, None)?;
                let nulls = map.nulls().cloned();
                Ok(Arc::new(ListArray::try_new(Arc::clone(field), map.offsets().clone(), Arc::new(structs), nulls)?))
            },
        ),
    ]
}

fn pair(name: &str, map: &DataType) -> Result<(DataType, DataType)> {
    match pair_of(map) {
        Some(pair) => Ok(pair),
        None if *map == DataType::Null => Ok((DataType::Null, DataType::Null)),
        None => Err(wrong_call(format!("`{name}` takes a map, not {}", type_name(map)))),
    }
}

fn map_and_key(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [map, key] = types else {
        return Err(wrong_call(format!("`{name}` takes a map and a key; it got {} arguments", types.len())));
    };
    let (own, value) = pair(name, map)?;
    let both = common(name, &[own, key.clone()])?;
    Ok(vec![map_of(both.clone(), value), both])
}

fn entry_types(entries: &DataType) -> Result<(DataType, DataType)> {
    match element_type("map_from_entries", entries)? {
        DataType::Struct(pair) if pair.len() == 2 => Ok((pair[0].data_type().clone(), pair[1].data_type().clone())),
        other => Err(wrong_call(format!(
            "`map_from_entries` takes an array of structs of two fields, not of {}",
            type_name(&other)
        ))),
    }
}

fn entries_type(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match fields.first().and_then(|map| pair_of(map.data_type())) {
        Some((key, value)) => {
            let pair = vec![Field::new("key", key, false), Field::new("value", value, true)];
            Ok(list_of(DataType::Struct(pair.into()), false))
        }
        None => Err(wrong_call("`map_entries` takes a map")),
    }
}

fn as_map(arguments: &Arguments, argument: usize) -> Result<&MapArray> {
    match arguments.arrays.get(argument).and_then(|array| array.as_map_opt()) {
        Some(map) => Ok(map),
        None => exec_err!("expected a map"),
    }
}

/// Where the value of each row's key is.
fn lookup(arguments: &Arguments) -> Result<Vec<Option<u32>>> {
    let map = as_map(arguments, 0)?;
    let keys = Keys::of(&[Arc::clone(map.keys()), Arc::clone(&arguments.arrays[1])])?;
    let offsets = map.value_offsets();
    let found = (0..arguments.rows()).map(|row| {
        let mut entries = offsets[row] as usize..offsets[row + 1] as usize;
        let known = arguments.all_known(row);
        entries.find(|i| known && keys.get(0, *i) == keys.get(1, row)).map(|i| i as u32)
    });
    Ok(found.collect())
}

fn map_concat(arguments: &Arguments) -> Result<ArrayRef> {
    let maps = (0..arguments.count()).map(|i| as_map(arguments, i)).collect::<Result<Vec<_>>>()?;
    let mut entries = Vec::new();
    let (mut lengths, mut known) = (Vec::new(), Vec::new());
    for row in 0..arguments.rows() {
        let before = entries.len();
        let is_known = arguments.all_known(row);
        let mut shift = 0u32;
        for map in &maps {
            let offsets = map.value_offsets();
            if is_known {
                entries.extend((offsets[row] as u32..offsets[row + 1] as u32).map(|i| shift + i));
            }
            shift += map.keys().len() as u32;
        }
        lengths.push(entries.len() - before);
        known.push(is_known);
    }
    let all = |of: fn(&MapArray) -> &ArrayRef| {
        let arrays: Vec<&dyn Array> = maps.iter().map(|map| of(map).as_ref()).collect();
        concat(&arrays)
    };
    let entries = UInt32Array::from(entries);
    let keys = take(&all(|map| map.keys())?, &entries, None)?;
    let values = take(&all(|map| map.values())?, &entries, None)?;
    check_unique("map_concat", &keys, &lengths)?;
    make_map(&arguments.result, keys, values, lengths, Some(NullBuffer::from_iter(known)))
}

/// The elements of some rows of arrays, and how many each row has.
fn compacted(list: &ListArray, known: &[bool]) -> Result<(UInt32Array, Vec<usize>)> {
    let offsets = list.value_offsets();
    let mut inner: Vec<u32> = Vec::new();
    let mut lengths = Vec::with_capacity(known.len());
    for (row, known) in known.iter().enumerate() {
        let range = if *known { offsets[row] as u32..offsets[row + 1] as u32 } else { 0..0 };
        lengths.push(range.len());
        inner.extend(range);
    }
    Ok((inner.into(), lengths))
}

fn map_from_arrays(arguments: &Arguments) -> Result<ArrayRef> {
    let [keys, values] = [0, 1].map(|i| arguments.arrays[i].as_list::<i32>());
    let known: Vec<bool> = (0..arguments.rows()).map(|row| arguments.all_known(row)).collect();
    let (key_at, lengths) = compacted(keys, &known)?;
    let (value_at, value_lengths) = compacted(values, &known)?;
    if lengths != value_lengths {
        return exec_err!("map_from_arrays: there must be as many keys as values");
    }
    let keys = take(keys.values(), &key_at, None)?;
    check_unique("map_from_arrays", &keys, &lengths)?;
    let values = take(values.values(), &value_at, None)?;
    make_map(&arguments.result, keys, values, lengths, Some(NullBuffer::from_iter(known)))
}

/// No map where an entry is null.
fn map_from_entries(arguments: &Arguments) -> Result<ArrayRef> {
    let list = arguments.arrays[0].as_list::<i32>();
    let structs = list.values().as_struct();
    let offsets = list.value_offsets();
    let whole = |row: usize| (offsets[row] as usize..offsets[row + 1] as usize).all(|i| structs.is_valid(i));
    let known: Vec<bool> = (0..list.len()).map(|row| list.is_valid(row) && whole(row)).collect();
    let (at, lengths) = compacted(list, &known)?;
    let keys = take(structs.column(0), &at, None)?;
    check_unique("map_from_entries", &keys, &lengths)?;
    let values = take(structs.column(1), &at, None)?;
    make_map(&arguments.result, keys, values, lengths, Some(NullBuffer::from_iter(known)))
}
