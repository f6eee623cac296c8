//! Functions of arrays. Most give some of the elements of their arguments, in some order: they are computed as indexes.

use std::{cmp::Ordering, collections::HashSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, StructArray, UInt32Array, new_null_array},
    buffer::{NullBuffer, OffsetBuffer},
    compute::{concat, take},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::ScalarUDF,
};

use super::{
    args::{Kind, accept_one, as_first, common, element_type, gives_boolean, gives_long, literal_text},
    keys::Keys,
};
use crate::sql::{
    kernel::{Accept, Arguments, Compute, Kernel, Room, wrong_call},
    types::list_of,
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let alike: [(&'static str, Accept, Compute); 13] = [
        ("array_union", |types| arrays_alike("array_union", types), |a| set(a, Set::Union)),
        ("array_except", |types| arrays_alike("array_except", types), |a| set(a, Set::Except)),
        ("array_intersect", |types| arrays_alike("array_intersect", types), |a| set(a, Set::Intersect)),
        ("array_distinct", |types| one_array("array_distinct", types), |a| set(a, Set::Union)),
        ("array_remove", |types| array_and_item("array_remove", types), array_remove),
        ("array_append", |types| array_and_item("array_append", types), |a| extended(a, false)),
        ("array_prepend", |types| array_and_item("array_prepend", types), |a| extended(a, true)),
        ("array_insert", array_position_item, array_insert),
        ("array_compact", |types| one_array("array_compact", types), array_compact),
        ("slice", |types| array_and("slice", types, &[DataType::Int32, DataType::Int32]), slice),
        ("array_sort", |types| one_array("array_sort", types), |a| sort(a, true, true)),
        ("sort_array", sort_types, |a| {
            let ascending = a.count() < 2 || a.boolean(1, 0).unwrap_or(true);
            sort(a, ascending, !ascending)
        }),
        ("array_concat", |types| arrays_alike("concat", types), array_concat),
    ];
    let mut functions: Vec<Arc<ScalarUDF>> =
        alike.into_iter().map(|(name, accept, compute)| Kernel::function(name, accept, as_nullable, compute)).collect();
    functions.extend([
        Kernel::function("arrays_overlap", |types| arrays_alike("arrays_overlap", types), gives_boolean, overlap),
        Kernel::function("array_position", |types| array_and_item("array_position", types), gives_long, array_position),
        Kernel::function(
            "array_max",
            |types| one_array("array_max", types),
            as_element,
            |a| extreme(a, Ordering::Greater),
        ),
        Kernel::function(
            "array_min",
            |types| one_array("array_min", types),
            as_element,
            |a| extreme(a, Ordering::Less),
        ),
        Kernel::function("flatten", flatten_types, as_element, flatten),
        Kernel::function(
            "array_repeat",
            |types| match types {
                [item, count] => Ok(vec![item.clone(), accept_one("array_repeat", count, Kind::Int)?]),
                _ => Err(wrong_call("`array_repeat` takes a value and how often it comes")),
            },
            |fields, literals| Ok(list_of(as_first(fields, literals)?, true)),
            array_repeat,
        ),
        Kernel::function("arrays_zip", zip_types, zipped, arrays_zip),
        Kernel::function(
            "element_at",
            |types| array_and("element_at", types, &[DataType::Int32]),
            as_element,
            element_at,
        ),
    ]);
    functions
}

/// The first argument's type, with elements that may be null.
fn as_nullable(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match fields.first().map(|field| field.data_type()) {
        Some(array) => Ok(list_of(element_type("an array function", array)?, true)),
        None => Ok(DataType::Null),
    }
}

fn as_element(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match fields.first().map(|field| field.data_type()) {
        Some(array) => element_type("an array function", array),
        None => Ok(DataType::Null),
    }
}

fn one_array(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [array] => Ok(vec![list_of(element_type(name, array)?, true)]),
        _ => Err(wrong_call(format!("`{name}` takes one array; it got {} arguments", types.len()))),
    }
}

fn arrays_alike(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() != 2 && name != "concat" {
        return Err(wrong_call(format!("`{name}` takes two arrays; it got {} arguments", types.len())));
    }
    let elements = types.iter().map(|array| element_type(name, array)).collect::<Result<Vec<_>>>()?;
    Ok(vec![list_of(common(name, &elements)?, true); types.len()])
}

fn array_and_item(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [array, item] = types else {
        return Err(wrong_call(format!("`{name}` takes an array and a value; it got {} arguments", types.len())));
    };
    let both = common(name, &[element_type(name, array)?, item.clone()])?;
    Ok(vec![list_of(both.clone(), true), both])
}

fn array_position_item(types: &[DataType]) -> Result<Vec<DataType>> {
    let [array, position, item] = types else {
        return Err(wrong_call(format!(
            "`array_insert` takes an array, a position and a value; it got {} arguments",
            types.len()
        )));
    };
    let both = common("array_insert", &[element_type("array_insert", array)?, item.clone()])?;
    Ok(vec![list_of(both.clone(), true), accept_one("array_insert", position, Kind::Int)?, both])
}

fn array_and(name: &str, types: &[DataType], rest: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() != rest.len() + 1 {
        return Err(wrong_call(format!("`{name}` takes {} arguments, not {}", rest.len() + 1, types.len())));
    }
    Ok(std::iter::once(list_of(element_type(name, &types[0])?, true)).chain(rest.iter().cloned()).collect())
}

fn sort_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.len() {
        1 => one_array("sort_array", types),
        _ => array_and("sort_array", types, &[DataType::Boolean]),
    }
}

fn flatten_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [array] => {
            let inner = element_type("flatten", &element_type("flatten", array)?)?;
            Ok(vec![list_of(list_of(inner, true), true)])
        }
        _ => Err(wrong_call("`flatten` takes one array of arrays")),
    }
}

fn list(arguments: &Arguments, argument: usize) -> Result<&ListArray> {
    match arguments.arrays.get(argument).and_then(|array| array.as_list_opt::<i32>()) {
        Some(list) => Ok(list),
        None => exec_err!("expected an array"),
    }
}

/// Where a row's elements are among all.
fn range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize
}

/// Arrays that are being made of elements that there are.
#[derive(Default)]
struct Lists {
    elements: Vec<Option<u32>>,
    lengths: Vec<usize>,
    known: Vec<bool>,
}

impl Lists {
    fn push(&mut self, elements: impl IntoIterator<Item = Option<u32>>) {
        let before = self.elements.len();
        self.elements.extend(elements);
        self.lengths.push(self.elements.len() - before);
        self.known.push(true);
    }

    fn push_null(&mut self) {
        self.lengths.push(0);
        self.known.push(false);
    }

    /// The arrays, of elements of `values`.
    fn finish(self, values: &dyn Array) -> Result<ArrayRef> {
        let values = take(values, &UInt32Array::from(self.elements), None)?;
        let field = Arc::new(Field::new("element", values.data_type().clone(), true));
        let nulls = NullBuffer::from_iter(self.known);
        Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(self.lengths), values, Some(nulls))?))
    }
}

fn index(i: usize) -> Option<u32> {
    Some(i as u32)
}

#[derive(Clone, Copy, PartialEq)]
enum Set {
    Union,
    Except,
    Intersect,
}

/// Elements of one or two arrays, each once; nulls are equal here.
fn set(arguments: &Arguments, set: Set) -> Result<ArrayRef> {
    let lists = (0..arguments.count()).map(|i| list(arguments, i)).collect::<Result<Vec<_>>>()?;
    let values: Vec<ArrayRef> = lists.iter().map(|list| Arc::clone(list.values())).collect();
    let keys = Keys::of(&values)?;
    let shift = values[0].len();
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        if !arguments.all_known(row) {
            made.push_null();
            continue;
        }
        let second: HashSet<&[u8]> = match (set, lists.get(1)) {
            (Set::Except | Set::Intersect, Some(list)) => range(list, row).map(|i| keys.get(1, i)).collect(),
            _ => HashSet::new(),
        };
        let mut seen = HashSet::new();
        let mut elements = Vec::new();
        for i in range(lists[0], row) {
            let key = keys.get(0, i);
            let wanted = match set {
                Set::Union => true,
                Set::Except => !second.contains(key),
                Set::Intersect => second.contains(key),
            };
            if wanted && seen.insert(key) {
                elements.push(index(i));
            }
        }
        if let (Set::Union, Some(list)) = (set, lists.get(1)) {
            elements.extend(range(list, row).filter(|i| seen.insert(keys.get(1, *i))).map(|i| index(shift + i)));
        }
        made.push(elements);
    }
    let values: Vec<&dyn Array> = values.iter().map(|values| values.as_ref()).collect();
    made.finish(concat(&values)?.as_ref())
}

/// Whether two arrays share an element; unknown when they don't but one has nulls and the other something.
fn overlap(arguments: &Arguments) -> Result<ArrayRef> {
    let (a, b) = (list(arguments, 0)?, list(arguments, 1)?);
    let keys = Keys::of(&[Arc::clone(a.values()), Arc::clone(b.values())])?;
    arguments.booleans(|row| {
        if !arguments.all_known(row) {
            return None;
        }
        let first: HashSet<&[u8]> = range(a, row).filter(|i| a.values().is_valid(*i)).map(|i| keys.get(0, i)).collect();
        if range(b, row).any(|i| b.values().is_valid(i) && first.contains(keys.get(1, i))) {
            return Some(true);
        }
        let has_null = |list: &ListArray| range(list, row).any(|i| list.values().is_null(i));
        let unknown = !range(a, row).is_empty() && !range(b, row).is_empty() && (has_null(a) || has_null(b));
        (!unknown).then_some(false)
    })
}

/// Elements of the first argument and the value that is the last argument, as keys.
fn with_item(arguments: &Arguments) -> Result<(&ListArray, Keys)> {
    let list = list(arguments, 0)?;
    let item = &arguments.arrays[arguments.count() - 1];
    Ok((list, Keys::of(&[Arc::clone(list.values()), Arc::clone(item)])?))
}

fn array_position(arguments: &Arguments) -> Result<ArrayRef> {
    let (list, keys) = with_item(arguments)?;
    arguments.values::<Int64Type>(|row| {
        if !arguments.all_known(row) {
            return None;
        }
        let found = range(list, row).position(|i| keys.get(0, i) == keys.get(1, row));
        Some(found.map_or(0, |at| at as i64 + 1))
    })
}

fn array_remove(arguments: &Arguments) -> Result<ArrayRef> {
    let (list, keys) = with_item(arguments)?;
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        if arguments.all_known(row) {
            made.push(range(list, row).filter(|i| keys.get(0, *i) != keys.get(1, row)).map(index));
        } else {
            made.push_null();
        }
    }
    made.finish(list.values())
}

/// An array with a value before or after its elements; of no array there is none.
fn extended(arguments: &Arguments, before: bool) -> Result<ArrayRef> {
    let list = list(arguments, 0)?;
    let shift = list.values().len();
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        let elements = range(list, row).map(index);
        match (list.is_null(row), before) {
            (true, _) => made.push_null(),
            (false, true) => made.push(std::iter::once(index(shift + row)).chain(elements)),
            (false, false) => made.push(elements.chain([index(shift + row)])),
        }
    }
    made.finish(concat(&[list.values().as_ref(), arguments.arrays[1].as_ref()])?.as_ref())
}

fn array_insert(arguments: &Arguments) -> Result<ArrayRef> {
    let list = list(arguments, 0)?;
    let mut room = Room::of("array_insert");
    let shift = list.values().len();
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        let Some(position) = arguments.int(1, row).filter(|_| list.is_valid(row)) else {
            made.push_null();
            continue;
        };
        let mut elements: Vec<Option<u32>> = range(list, row).map(index).collect();
        let item = index(shift + row);
        let distance = position.unsigned_abs() as usize;
        room.take(distance.saturating_sub(elements.len()) as u64, size_of::<u64>() as u64)?;
        match position {
            0 => {
                return exec_err!("array_insert counts positions from 1, or from -1 backwards: there is no position 0");
            }
            1.. => {
                if distance > elements.len() {
                    elements.resize(distance - 1, None);
                }
                elements.insert(distance - 1, item);
            }
            _ if distance <= elements.len() + 1 => {
                elements.insert(elements.len() + 1 - distance, item);
            }
            _ => {
                let gap = distance - elements.len() - 1;
                elements = std::iter::once(item).chain(std::iter::repeat_n(None, gap)).chain(elements).collect();
            }
        }
        made.push(elements);
    }
    made.finish(concat(&[list.values().as_ref(), arguments.arrays[2].as_ref()])?.as_ref())
}

fn array_compact(arguments: &Arguments) -> Result<ArrayRef> {
    let list = list(arguments, 0)?;
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        if list.is_valid(row) {
            made.push(range(list, row).filter(|i| list.values().is_valid(*i)).map(index));
        } else {
            made.push_null();
        }
    }
    made.finish(list.values())
}

fn slice(arguments: &Arguments) -> Result<ArrayRef> {
    let list = list(arguments, 0)?;
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        let (Some(start), Some(length)) = (arguments.int(1, row), arguments.int(2, row)) else {
            made.push_null();
            continue;
        };
        if list.is_null(row) {
            made.push_null();
            continue;
        }
        if start == 0 {
            return exec_err!("slice counts from 1, or from -1 backwards: there is no start 0");
        }
        let Ok(length) = usize::try_from(length) else {
            return exec_err!("slice: the length {length} is less than 0");
        };
        let elements = range(list, row);
        let from = if start > 0 { i64::from(start) - 1 } else { elements.len() as i64 + i64::from(start) };
        match usize::try_from(from) {
            Ok(from) => made.push(elements.skip(from).take(length).map(index)),
            Err(_) => made.push([]),
        }
    }
    made.finish(list.values())
}

fn sort(arguments: &Arguments, ascending: bool, nulls_last: bool) -> Result<ArrayRef> {
    let list = list(arguments, 0)?;
    let keys = Keys::of(std::slice::from_ref(list.values()))?;
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        if list.is_null(row) {
            made.push_null();
            continue;
        }
        let (mut known, nulls): (Vec<usize>, Vec<usize>) = range(list, row).partition(|i| list.values().is_valid(*i));
        known.sort_by(|a, b| {
            let order = keys.get(0, *a).cmp(keys.get(0, *b));
            if ascending { order } else { order.reverse() }
        });
        let sorted = if nulls_last { [known, nulls] } else { [nulls, known] };
        made.push(sorted.into_iter().flatten().map(index));
    }
    made.finish(list.values())
}

fn array_concat(arguments: &Arguments) -> Result<ArrayRef> {
    let lists = (0..arguments.count()).map(|i| list(arguments, i)).collect::<Result<Vec<_>>>()?;
    let values: Vec<&dyn Array> = lists.iter().map(|list| list.values().as_ref()).collect();
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        if !arguments.all_known(row) {
            made.push_null();
            continue;
        }
        let mut shift = 0;
        let mut elements = Vec::new();
        for list in &lists {
            elements.extend(range(list, row).map(|i| index(shift + i)));
            shift += list.values().len();
        }
        made.push(elements);
    }
    made.finish(concat(&values)?.as_ref())
}

/// The greatest or least element that is not null.
fn extreme(arguments: &Arguments, wanted: Ordering) -> Result<ArrayRef> {
    let list = list(arguments, 0)?;
    let keys = Keys::of(std::slice::from_ref(list.values()))?;
    let found = (0..arguments.rows()).map(|row| {
        let known = range(list, row).filter(|i| list.is_valid(row) && list.values().is_valid(*i));
        known.reduce(|best, i| if keys.get(0, i).cmp(keys.get(0, best)) == wanted { i } else { best }).map(|i| i as u32)
    });
    Ok(take(list.values(), &found.collect::<UInt32Array>(), None)?)
}

/// Elements of elements; none where an array among them is null.
fn flatten(arguments: &Arguments) -> Result<ArrayRef> {
    let outer = list(arguments, 0)?;
    let Some(inner) = outer.values().as_list_opt::<i32>() else { return exec_err!("expected an array of arrays") };
    let mut made = Lists::default();
    for row in 0..arguments.rows() {
        if outer.is_null(row) || range(outer, row).any(|i| inner.is_null(i)) {
            made.push_null();
        } else {
            made.push(range(outer, row).flat_map(|i| range(inner, i)).map(index));
        }
    }
    made.finish(inner.values())
}

fn array_repeat(arguments: &Arguments) -> Result<ArrayRef> {
    let mut made = Lists::default();
    let mut room = Room::of("array_repeat");
    let items = &arguments.arrays[0];
    let bytes = items.get_array_memory_size() / items.len().max(1) + size_of::<u32>();
    for row in 0..arguments.rows() {
        match arguments.int(1, row) {
            Some(count) => {
                let count = u32::try_from(count).unwrap_or(0);
                room.take(count.into(), bytes as u64)?;
                made.push(std::iter::repeat_n(index(row), count as usize));
            }
            None => made.push_null(),
        }
    }
    made.finish(&arguments.arrays[0])
}

/// Names of fields, in one literal, then arrays.
fn zip_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let Some((_, arrays)) = types.split_first() else { return Err(wrong_call("`arrays_zip` takes arrays")) };
    let arrays = arrays.iter().map(|array| Ok(list_of(element_type("arrays_zip", array)?, true)));
    std::iter::once(Ok(DataType::Utf8)).chain(arrays).collect()
}

/// What stands between the names of fields in the literal.
pub(super) const BETWEEN_NAMES: char = '\u{1}';

fn zipped(fields: &[FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let names = literal_text(literals, 0).unwrap_or_default().split(BETWEEN_NAMES);
    let fields = fields
        .iter()
        .skip(1)
        .zip(names)
        .map(|(field, name)| Ok(Field::new(name, element_type("arrays_zip", field.data_type())?, true)));
    Ok(list_of(DataType::Struct(fields.collect::<Result<Vec<_>>>()?.into()), true))
}

/// Structs of the elements at one place; the shorter arrays go on with nulls.
fn arrays_zip(arguments: &Arguments) -> Result<ArrayRef> {
    let DataType::List(field) = &arguments.result else { return exec_err!("arrays_zip gives an array") };
    let DataType::Struct(fields) = field.data_type() else { return exec_err!("arrays_zip gives structs") };
    let lists = (1..arguments.count()).map(|i| list(arguments, i)).collect::<Result<Vec<_>>>()?;
    let (mut lengths, mut known) = (Vec::new(), Vec::new());
    let mut columns: Vec<Vec<Option<u32>>> = vec![Vec::new(); lists.len()];
    for row in 0..arguments.rows() {
        let is_known = lists.iter().all(|list| list.is_valid(row));
        let length = lists.iter().map(|list| range(list, row).len()).max().filter(|_| is_known).unwrap_or(0);
        for (column, list) in columns.iter_mut().zip(&lists) {
            column.extend((0..length).map(|i| range(list, row).nth(i).map(|i| i as u32)));
        }
        lengths.push(length);
        known.push(is_known);
    }
    let total: usize = lengths.iter().sum();
    let columns = columns
        .into_iter()
        .zip(&lists)
        .map(|(column, list)| Ok(take(list.values(), &UInt32Array::from(column), None)?))
        .collect::<Result<Vec<_>>>()?;
    let structs = StructArray::try_new_with_length(fields.clone(), columns, None, total)?;
    let nulls = NullBuffer::from_iter(known);
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, Arc::new(structs), Some(nulls))?))
}

/// An element by its place from 1, or from -1 backwards; NULL where there is none.
fn element_at(arguments: &Arguments) -> Result<ArrayRef> {
    let list = list(arguments, 0)?;
    if list.values().is_empty() {
        return Ok(new_null_array(&arguments.result, arguments.rows()));
    }
    let found = (0..arguments.rows()).map(|row| {
        let Some(place) = arguments.int(1, row).filter(|_| list.is_valid(row)) else { return Ok(None) };
        let mut elements = range(list, row);
        let distance = place.unsigned_abs() as usize;
        Ok(match place {
            0 => return exec_err!("element_at counts from 1, or from -1 backwards: there is no place 0"),
            1.. => elements.nth(distance - 1),
            _ => elements.rev().nth(distance - 1),
        }
        .map(|i| i as u32))
    });
    Ok(take(list.values(), &found.collect::<Result<UInt32Array>>()?, None)?)
}
