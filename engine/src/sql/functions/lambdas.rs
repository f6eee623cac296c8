//! Functions that take a lambda: of maps, of two arrays, of elements with their index, and sorting by a comparison.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, StructArray, UInt32Array},
    buffer::{NullBuffer, OffsetBuffer},
    compute::{take, take_arrays},
    datatypes::{DataType, Field, FieldRef, Int64Type},
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::{
        ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
        HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda, Volatility,
    },
};

use super::{
    keys::{Keys, check_unique},
    sorting::merge_by,
};
use crate::sql::{
    kernel::wrong_call,
    types::{list_of, map_of, type_name},
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<HigherOrderUDF>> {
    [
        Kind::TransformKeys,
        Kind::TransformValues,
        Kind::MapFilter,
        Kind::MapZipWith,
        Kind::ZipWith,
        Kind::FilterIndexed,
        Kind::SortBy,
    ]
    .into_iter()
    .map(|kind| {
        let arguments = if matches!(kind, Kind::MapZipWith | Kind::ZipWith) { 3 } else { 2 };
        let signature = HigherOrderSignature::any(arguments, Volatility::Immutable);
        Arc::new(HigherOrderUDF::new_from_impl(Function { kind, signature }))
    })
    .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    TransformKeys,
    TransformValues,
    MapFilter,
    MapZipWith,
    ZipWith,
    FilterIndexed,
    SortBy,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    kind: Kind,
    signature: HigherOrderSignature,
}

/// The values and the lambda of a call.
fn split<V: Clone, L>(args: &[ValueOrLambda<V, L>]) -> Option<(Vec<V>, &L)> {
    let (last, values) = args.split_last()?;
    let ValueOrLambda::Lambda(lambda) = last else { return None };
    let values = values.iter().map(|value| match value {
        ValueOrLambda::Value(value) => Some(value.clone()),
        ValueOrLambda::Lambda(_) => None,
    });
    Some((values.collect::<Option<Vec<_>>>()?, lambda))
}

impl Function {
    fn wrong<T>(&self) -> Result<T> {
        let takes = match self.kind {
            Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter => "a map and a lambda (k, v) -> …",
            Kind::MapZipWith => "two maps and a lambda (k, v1, v2) -> …",
            Kind::ZipWith => "two arrays and a lambda (x, y) -> …",
            Kind::FilterIndexed => "an array and a lambda (x, i) -> …",
            Kind::SortBy => "an array and a lambda (a, b) -> …",
        };
        Err(wrong_call(format!("`{}` takes {takes}", self.shown())))
    }

    /// Spark's name.
    fn shown(&self) -> &'static str {
        match self.kind {
            Kind::TransformKeys => "transform_keys",
            Kind::TransformValues => "transform_values",
            Kind::MapFilter => "map_filter",
            Kind::MapZipWith => "map_zip_with",
            Kind::ZipWith => "zip_with",
            Kind::FilterIndexed => "filter",
            Kind::SortBy => "array_sort",
        }
    }
}

fn item_of(list: &DataType) -> Option<FieldRef> {
    match list {
        DataType::List(item) => Some(Arc::new(Field::new("element", item.data_type().clone(), true))),
        _ => None,
    }
}

/// The types of a map's keys and values.
pub(super) fn pair_of(map: &DataType) -> Option<(DataType, DataType)> {
    match map {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                Some((pair[0].data_type().clone(), pair[1].data_type().clone()))
            }
            _ => None,
        },
        _ => None,
    }
}

impl HigherOrderUDFImpl for Function {
    fn name(&self) -> &str {
        match self.kind {
            Kind::FilterIndexed => "array_filter_indexed",
            Kind::SortBy => "array_sort_by",
            _ => self.shown(),
        }
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let Some((values, _)) = split(fields) else { return self.wrong() };
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, true));
        let types: Vec<&DataType> = values.iter().map(|value| value.data_type()).collect();
        let parameters = match (self.kind, types.as_slice()) {
            (Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter, [map]) => match pair_of(map) {
                Some((key, value)) => vec![field("key", key), field("value", value)],
                None => return self.wrong(),
            },
            (Kind::MapZipWith, [a, b]) => match (pair_of(a), pair_of(b)) {
                (Some((key, a)), Some((other, b))) if key == other => {
                    vec![field("key", key), field("value1", a), field("value2", b)]
                }
                (Some((key, _)), Some((other, _))) => {
                    return Err(wrong_call(format!(
                        "map_zip_with takes maps with keys of one type, not {} and {}",
                        type_name(&key),
                        type_name(&other)
                    )));
                }
                _ => return self.wrong(),
            },
            (Kind::ZipWith, [a, b]) => match (item_of(a), item_of(b)) {
                (Some(a), Some(b)) => vec![a, b],
                _ => return self.wrong(),
            },
            (Kind::FilterIndexed, [list]) => match item_of(list) {
                Some(item) => vec![item, field("index", DataType::Int32)],
                None => return self.wrong(),
            },
            (Kind::SortBy, [list]) => match item_of(list) {
                Some(item) => vec![Arc::clone(&item), item],
                None => return self.wrong(),
            },
            _ => return self.wrong(),
        };
        Ok(LambdaParametersProgress::Complete(vec![parameters]))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let Some((values, body)) = split(args.arg_fields) else { return self.wrong() };
        let Some(first) = values.first().map(|value| value.data_type()) else { return self.wrong() };
        let body = body.data_type();
        let data_type = match (self.kind, pair_of(first)) {
            (Kind::TransformKeys, Some((_, value))) => map_of(body.clone(), value),
            (Kind::TransformValues | Kind::MapZipWith, Some((key, _))) => map_of(key, body.clone()),
            (Kind::MapFilter, Some((key, value))) => {
                self.check_condition(body)?;
                map_of(key, value)
            }
            (Kind::ZipWith, _) => list_of(body.clone(), true),
            (Kind::FilterIndexed, _) => {
                self.check_condition(body)?;
                first.clone()
            }
            (Kind::SortBy, _) => {
                if !matches!(body, DataType::Int32 | DataType::Int64 | DataType::Int16 | DataType::Int8) {
                    return Err(wrong_call(format!(
                        "the lambda of array_sort must give an int, not {}",
                        type_name(body)
                    )));
                }
                first.clone()
            }
            _ => return self.wrong(),
        };
        Ok(Arc::new(Field::new("", data_type, true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some((values, lambda)) = split(&args.args) else { return self.wrong() };
        let arrays = values.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = args.return_field.data_type();
        let array = match (self.kind, arrays.as_slice()) {
            (Kind::TransformKeys, [map]) => transform_map(map, lambda, result, true)?,
            (Kind::TransformValues, [map]) => transform_map(map, lambda, result, false)?,
            (Kind::MapFilter, [map]) => filter_map(map, lambda, result)?,
            (Kind::MapZipWith, [a, b]) => zip_maps(a, b, lambda, result)?,
            (Kind::ZipWith, [a, b]) => zip_lists(a, b, lambda, result)?,
            (Kind::FilterIndexed, [list]) => filter_list(list, lambda, result)?,
            (Kind::SortBy, [list]) => sort_list(list, lambda, result)?,
            _ => return self.wrong(),
        };
        Ok(ColumnarValue::Array(array))
    }
}

impl Function {
    fn check_condition(&self, body: &DataType) -> Result<()> {
        if matches!(body, DataType::Boolean | DataType::Null) {
            return Ok(());
        }
        Err(wrong_call(format!("the lambda of {} must give a boolean, not {}", self.shown(), type_name(body))))
    }
}

/// What the rows of lists or maps hold: where each is among the inner values, nulls holding nothing.
struct Spans {
    /// Indexes of inner values, row after row.
    inner: UInt32Array,
    /// The row of each.
    rows: UInt32Array,
    lengths: Vec<usize>,
    nulls: Option<NullBuffer>,
}

fn spans(offsets: &[i32], nulls: Option<&NullBuffer>) -> Spans {
    let (mut inner, mut rows, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for (row, pair) in offsets.windows(2).enumerate() {
        let range = if nulls.is_some_and(|nulls| nulls.is_null(row)) { 0..0 } else { pair[0] as u32..pair[1] as u32 };
        lengths.push(range.len());
        rows.extend(std::iter::repeat_n(row as u32, range.len()));
        inner.extend(range);
    }
    Spans { inner: inner.into(), rows: rows.into(), lengths, nulls: nulls.cloned() }
}

/// Runs a lambda on values, each of which belongs to a row.
fn run(lambda: &LambdaArgument, values: &[ArrayRef], rows: &UInt32Array) -> Result<ArrayRef> {
    let closures: Vec<Box<dyn Fn() -> Result<ArrayRef>>> = values
        .iter()
        .map(|value| {
            let value = Arc::clone(value);
            Box::new(move || Ok(Arc::clone(&value))) as Box<dyn Fn() -> Result<ArrayRef>>
        })
        .collect();
    let closures: Vec<&dyn Fn() -> Result<ArrayRef>> = closures.iter().map(|closure| closure.as_ref()).collect();
    lambda.evaluate(&closures, |captured| Ok(take_arrays(captured, rows, None)?))?.into_array(rows.len())
}

fn as_map(array: &ArrayRef) -> Result<&MapArray> {
    match array.as_map_opt() {
        Some(map) => Ok(map),
        None => exec_err!("expected a map, got {}", array.data_type()),
    }
}

fn as_list(array: &ArrayRef) -> Result<&ListArray> {
    match array.as_list_opt::<i32>() {
        Some(list) => Ok(list),
        None => exec_err!("expected an array, got {}", array.data_type()),
    }
}

/// A map of keys and values, row after row.
pub(super) fn make_map(
    result: &DataType,
    keys: ArrayRef,
    values: ArrayRef,
    lengths: Vec<usize>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::Map(entries, sorted) = result else { return exec_err!("expected a map's type, got {result}") };
    let DataType::Struct(pair) = entries.data_type() else { return exec_err!("a map without entries") };
    if keys.null_count() > 0 {
        return exec_err!("a map's key can't be NULL");
    }
    let inner = StructArray::try_new(pair.clone(), vec![keys, values], None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, inner, nulls, *sorted)?))
}

fn transform_map(map: &ArrayRef, lambda: &LambdaArgument, result: &DataType, of_keys: bool) -> Result<ArrayRef> {
    let map = as_map(map)?;
    let spans = spans(map.value_offsets(), map.nulls());
    let (keys, values) = (take(map.keys(), &spans.inner, None)?, take(map.values(), &spans.inner, None)?);
    let made = run(lambda, &[Arc::clone(&keys), Arc::clone(&values)], &spans.rows)?;
    if !of_keys {
        return make_map(result, keys, made, spans.lengths, spans.nulls);
    }
    check_unique("transform_keys", &made, &spans.lengths)?;
    make_map(result, made, values, spans.lengths, spans.nulls)
}

/// Which inner values are kept, and how many a row then has.
fn kept(spans: &Spans, condition: &BooleanArray) -> (UInt32Array, Vec<usize>) {
    let keeps = |i: usize| condition.is_valid(i) && condition.value(i);
    let inner = (0..condition.len()).filter(|i| keeps(*i)).map(|i| i as u32).collect::<Vec<u32>>();
    let mut at = 0;
    let lengths = spans.lengths.iter().map(|length| {
        let range = at..at + length;
        at += length;
        range.filter(|i| keeps(*i)).count()
    });
    (inner.into(), lengths.collect())
}

fn as_condition(array: ArrayRef) -> Result<BooleanArray> {
    Ok(arrow::compute::cast(&array, &DataType::Boolean)?.as_boolean().clone())
}

fn filter_map(map: &ArrayRef, lambda: &LambdaArgument, result: &DataType) -> Result<ArrayRef> {
    let map = as_map(map)?;
    let spans = spans(map.value_offsets(), map.nulls());
    let (keys, values) = (take(map.keys(), &spans.inner, None)?, take(map.values(), &spans.inner, None)?);
    let condition = as_condition(run(lambda, &[Arc::clone(&keys), Arc::clone(&values)], &spans.rows)?)?;
    let (inner, lengths) = kept(&spans, &condition);
    make_map(result, take(&keys, &inner, None)?, take(&values, &inner, None)?, lengths, spans.nulls)
}

fn filter_list(list: &ArrayRef, lambda: &LambdaArgument, result: &DataType) -> Result<ArrayRef> {
    let list = as_list(list)?;
    let spans = spans(list.value_offsets(), list.nulls());
    let values = take(list.values(), &spans.inner, None)?;
    let index: Int32Array = spans.lengths.iter().flat_map(|length| 0..*length as i32).collect();
    let condition = as_condition(run(lambda, &[Arc::clone(&values), Arc::new(index)], &spans.rows)?)?;
    let (inner, lengths) = kept(&spans, &condition);
    let DataType::List(field) = result else { return exec_err!("expected an array's type, got {result}") };
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, take(&values, &inner, None)?, spans.nulls)?))
}

/// The shorter of two arrays goes on with nulls.
fn zip_lists(a: &ArrayRef, b: &ArrayRef, lambda: &LambdaArgument, result: &DataType) -> Result<ArrayRef> {
    let (a, b) = (as_list(a)?, as_list(b)?);
    let nulls = NullBuffer::union(a.nulls(), b.nulls());
    let (mut left, mut right, mut rows, mut lengths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in 0..a.len() {
        let known = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let range = |list: &ListArray| {
            let offsets = list.value_offsets();
            if known { offsets[row] as u32..offsets[row + 1] as u32 } else { 0..0 }
        };
        let (x, y) = (range(a), range(b));
        let length = x.len().max(y.len());
        for i in 0..length {
            left.push(x.clone().nth(i));
            right.push(y.clone().nth(i));
            rows.push(row as u32);
        }
        lengths.push(length);
    }
    let values =
        [take(a.values(), &UInt32Array::from(left), None)?, take(b.values(), &UInt32Array::from(right), None)?];
    let made = run(lambda, &values, &rows.into())?;
    let DataType::List(field) = result else { return exec_err!("expected an array's type, got {result}") };
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), made, nulls)?))
}

/// Keys of both maps, those of the first before the others.
fn zip_maps(a: &ArrayRef, b: &ArrayRef, lambda: &LambdaArgument, result: &DataType) -> Result<ArrayRef> {
    let (a, b) = (as_map(a)?, as_map(b)?);
    let nulls = NullBuffer::union(a.nulls(), b.nulls());
    let keys = Keys::of(&[Arc::clone(a.keys()), Arc::clone(b.keys())])?;
    let all_keys = arrow::compute::concat(&[a.keys().as_ref(), b.keys().as_ref()])?;
    let shift = a.keys().len() as u32;
    let (mut key_at, mut left, mut right, mut rows, mut lengths) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in 0..a.len() {
        let known = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let range = |map: &MapArray| {
            let offsets = map.value_offsets();
            if known { offsets[row] as u32..offsets[row + 1] as u32 } else { 0..0 }
        };
        let before = rows.len();
        let others: std::collections::HashMap<&[u8], u32> = range(b).map(|at| (keys.get(1, at as usize), at)).collect();
        let firsts: std::collections::HashSet<&[u8]> = range(a).map(|at| keys.get(0, at as usize)).collect();
        for at in range(a) {
            key_at.push(at);
            left.push(Some(at));
            right.push(others.get(keys.get(0, at as usize)).copied());
            rows.push(row as u32);
        }
        for at in range(b).filter(|at| !firsts.contains(keys.get(1, *at as usize))) {
            key_at.push(at + shift);
            left.push(None);
            right.push(Some(at));
            rows.push(row as u32);
        }
        lengths.push(rows.len() - before);
    }
    let made_keys = take(&all_keys, &UInt32Array::from(key_at), None)?;
    let values = [
        Arc::clone(&made_keys),
        take(a.values(), &UInt32Array::from(left), None)?,
        take(b.values(), &UInt32Array::from(right), None)?,
    ];
    let made = run(lambda, &values, &rows.into())?;
    make_map(result, made_keys, made, lengths, nulls)
}

fn sort_list(list: &ArrayRef, lambda: &LambdaArgument, result: &DataType) -> Result<ArrayRef> {
    let list = as_list(list)?;
    let spans = spans(list.value_offsets(), list.nulls());
    let values = take(list.values(), &spans.inner, None)?;
    let order = merge_by(&spans.lengths, |pairs| {
        let side = |of: fn(&(u32, u32, u32)) -> u32| pairs.iter().map(of).collect::<Vec<u32>>();
        let [a, b, rows] = [side(|pair| pair.0), side(|pair| pair.1), side(|pair| pair.2)].map(UInt32Array::from);
        let compared = run(lambda, &[take(&values, &a, None)?, take(&values, &b, None)?], &rows)?;
        let compared = arrow::compute::cast(&compared, &DataType::Int64)?;
        let compared = compared.as_primitive::<Int64Type>();
        if compared.null_count() > 0 {
            return exec_err!("the lambda of array_sort gave NULL; it must give an int for any two elements");
        }
        Ok(compared.values().iter().map(|order| order.signum()).collect())
    })?;
    let DataType::List(field) = result else { return exec_err!("expected an array's type, got {result}") };
    let offsets = OffsetBuffer::from_lengths(spans.lengths);
    let sorted = take(&values, &UInt32Array::from(order), None)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, sorted, spans.nulls)?))
}
