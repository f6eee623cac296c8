//! Arrays: the field of every struct in an array, and the higher-order functions that DataFusion lacks.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, GenericListArray, Int32Array, ListArray, OffsetSizeTrait, UInt32Array, make_array,
    },
    compute::{interleave, take, take_arrays},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{
        Result, ScalarValue, exec_err,
        utils::{adjust_offsets_for_slice, list_values, list_values_row_number},
    },
    logical_expr::{
        ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
        HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
        ScalarUDFImpl, Signature, ValueOrLambda, Volatility,
    },
};

use super::{
    cast::cast,
    kernel::{Arguments, Kernel, wrong_call},
    time::zone::Zone,
    types::list_of,
};

/// `array_contains(array, value)` of datafusion-spark, which gives one row only where the value is NULL for all of them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayContains {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ArrayContains {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [_, ColumnarValue::Scalar(value)] if value.is_null() => {
                Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None)))
            }
            _ => self.inner.invoke_with_args(args),
        }
    }
}

pub(super) fn contains() -> Option<Arc<ScalarUDF>> {
    let all = datafusion_spark::all_default_scalar_functions();
    let inner = all.into_iter().find(|function| function.name() == "array_contains")?;
    Some(Arc::new(ScalarUDF::new_from_impl(ArrayContains { inner })))
}

/// `array_field(array, 'name')`: the field of every struct in an array, as an array. What `books.title` means in Spark.
pub(crate) fn array_field() -> Arc<ScalarUDF> {
    Kernel::function(
        "array_field",
        |types| {
            if types.len() == 2 { Ok(types.to_vec()) } else { Err(wrong_call("array_field takes an array and a name")) }
        },
        |fields, literals| {
            let name = literals.get(1).copied().flatten().and_then(|name| name.try_as_str()).flatten();
            let element = fields.first().and_then(|array| match array.data_type() {
                DataType::List(item) | DataType::LargeList(item) => Some(item.data_type()),
                _ => None,
            });
            match (element, name) {
                (Some(DataType::Struct(fields)), Some(name)) => match fields.find(name) {
                    Some((_, field)) => Ok(list_of(field.data_type().clone(), true)),
                    None => Err(wrong_call(format!("the array's structs have no field `{name}`"))),
                },
                _ => Err(wrong_call("array_field takes an array of structs and a name")),
            }
        },
        |arguments: &Arguments| {
            let name =
                arguments.arrays[1].as_string_opt::<i32>().filter(|names| !names.is_empty() && names.is_valid(0));
            let Some(name) = name.map(|names| names.value(0)) else {
                return exec_err!("array_field needs the name of a field");
            };
            let (array, result) = (&arguments.arrays[0], &arguments.result);
            match array.data_type() {
                DataType::List(_) => fields_of(array.as_list::<i32>(), name, result),
                _ => fields_of(array.as_list::<i64>(), name, result),
            }
        },
    )
}

fn fields_of<O: OffsetSizeTrait>(list: &GenericListArray<O>, name: &str, result: &DataType) -> Result<ArrayRef> {
    let structs = list.values().as_struct();
    let Some(column) = structs.column_by_name(name) else {
        return exec_err!("the array's structs have no field `{name}`");
    };
    // A null struct has null fields, whatever lies under it.
    let nulls = arrow::buffer::NullBuffer::union(structs.nulls(), column.nulls());
    let column = make_array(column.to_data().into_builder().nulls(nulls).build()?);
    let field = Arc::new(Field::new("element", column.data_type().clone(), true));
    let fields: ArrayRef =
        Arc::new(GenericListArray::<O>::try_new(field, list.offsets().clone(), column, list.nulls().cloned())?);
    cast_lists(fields, result)
}

fn cast_lists(lists: ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if lists.data_type() == to { Ok(lists) } else { Ok(arrow::compute::cast(&lists, to)?) }
}

/// The higher-order functions of this module.
pub(crate) fn higher_order_functions() -> Vec<Arc<HigherOrderUDF>> {
    vec![
        Arc::new(HigherOrderUDF::new_from_impl(Fold {
            signature: HigherOrderSignature::variadic_any(Volatility::Immutable),
        })),
        Arc::new(HigherOrderUDF::new_from_impl(TransformIndexed {
            signature: HigherOrderSignature::any(2, Volatility::Immutable),
        })),
    ]
}

/// The element field of a list type.
fn element(name: &str, list: &DataType) -> Result<FieldRef> {
    match list {
        DataType::List(item) | DataType::LargeList(item) => Ok(Arc::clone(item)),
        other => Err(wrong_call(format!("{name} takes an array first, not {}", super::types::type_name(other)))),
    }
}

fn as_list(array: ArrayRef) -> Result<ListArray> {
    match array.data_type() {
        DataType::List(_) => Ok(array.as_list::<i32>().clone()),
        DataType::LargeList(item) => {
            let list = arrow::compute::cast(&array, &DataType::List(Arc::clone(item)))?;
            Ok(list.as_list::<i32>().clone())
        }
        other => exec_err!("expected an array, got {other}"),
    }
}

/// `transform(array, (x, i) -> …)`: as `transform`, with the element's index from 0.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TransformIndexed {
    signature: HigherOrderSignature,
}

impl HigherOrderUDFImpl for TransformIndexed {
    fn name(&self) -> &str {
        "array_transform_indexed"
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let [ValueOrLambda::Value(list), ValueOrLambda::Lambda(_)] = fields else {
            return Err(wrong_call("transform takes an array and a lambda"));
        };
        let index = Arc::new(Field::new("index", DataType::Int32, false));
        Ok(LambdaParametersProgress::Complete(vec![vec![element("transform", list.data_type())?, index]]))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let [ValueOrLambda::Value(_), ValueOrLambda::Lambda(body)] = args.arg_fields else {
            return Err(wrong_call("transform takes an array and a lambda"));
        };
        Ok(Arc::new(Field::new("", list_of(body.data_type().clone(), true), true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let [ValueOrLambda::Value(list), ValueOrLambda::Lambda(lambda)] = args.args.as_slice() else {
            return exec_err!("transform takes an array and a lambda");
        };
        let list: ArrayRef = Arc::new(as_list(list.to_array(args.number_rows)?)?);
        let values = list_values(&list)?;
        let offsets = adjust_offsets_for_slice(list.as_list::<i32>());
        let index = || -> Result<ArrayRef> {
            Ok(Arc::new(offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect::<Int32Array>()))
        };
        let results = lambda
            .evaluate(&[&|| Ok(Arc::clone(&values)), &index], |captured| {
                Ok(take_arrays(captured, &list_values_row_number(&list)?, None)?)
            })?
            .into_array(values.len())?;
        let field = Arc::new(Field::new("element", results.data_type().clone(), true));
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(field, offsets, results, list.nulls().cloned())?)))
    }
}

/// `aggregate(array, start, (acc, x) -> …[, acc -> …])`. Runs the lambda once per position, on all rows that are long enough.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fold {
    signature: HigherOrderSignature,
}

type FoldArgs<'a, V, L> = (&'a V, &'a V, &'a L, Option<&'a L>);

fn fold_args<V, L>(args: &[ValueOrLambda<V, L>]) -> Result<FoldArgs<'_, V, L>> {
    match args {
        [ValueOrLambda::Value(list), ValueOrLambda::Value(start), ValueOrLambda::Lambda(merge)] => {
            Ok((list, start, merge, None))
        }
        [
            ValueOrLambda::Value(list),
            ValueOrLambda::Value(start),
            ValueOrLambda::Lambda(merge),
            ValueOrLambda::Lambda(finish),
        ] => Ok((list, start, merge, Some(finish))),
        _ => Err(wrong_call(
            "aggregate takes an array, a start value, a lambda (acc, x) -> … and, if needed, a lambda acc -> …",
        )),
    }
}

impl HigherOrderUDFImpl for Fold {
    fn name(&self) -> &str {
        "array_fold"
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let (list, start, _, finish) = fold_args(fields)?;
        let accumulator = Arc::new(Field::new("acc", start.data_type().clone(), true));
        let mut parameters = vec![vec![Arc::clone(&accumulator), element("aggregate", list.data_type())?]];
        parameters.extend(finish.map(|_| vec![accumulator]));
        Ok(LambdaParametersProgress::Complete(parameters))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        let (_, start, merge, finish) = fold_args(args.arg_fields)?;
        let (from, to) = (merge.data_type(), start.data_type());
        // A narrower start would cut off what is added; Spark refuses it.
        if to.is_integer() && (from.is_floating() || from.is_decimal() || (*from == DataType::Int64 && to != from)) {
            return Err(wrong_call(format!(
                "aggregate starts with {} but its lambda gives {}; CAST the start",
                super::types::type_name(to),
                super::types::type_name(from)
            )));
        }
        Ok(Arc::new(Field::new("", finish.unwrap_or(start).data_type().clone(), true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let (list, start, merge, finish) = fold_args(&args.args)?;
        let rows = args.number_rows;
        let list = as_list(list.to_array(rows)?)?;
        let mut accumulated = start.to_array(rows)?;
        for position in 0.. {
            let (long_enough, elements) = at(&list, position);
            if long_enough.is_empty() {
                break;
            }
            accumulated = step(merge, &accumulated, &long_enough, &take(list.values(), &elements, None)?)?;
        }
        if let Some(finish) = finish {
            accumulated = finish
                .evaluate(&[&|| Ok(Arc::clone(&accumulated))], |captured| Ok(captured.to_vec()))?
                .into_array(rows)?;
        }
        // The fold of no array is null.
        if list.null_count() > 0 {
            let keep: UInt32Array = (0..rows as u32).map(|i| list.is_valid(i as usize).then_some(i)).collect();
            accumulated = take(&accumulated, &keep, None)?;
        }
        Ok(ColumnarValue::Array(accumulated))
    }
}

/// Rows whose list has an element at a position, and where these elements are among the values.
fn at(list: &ListArray, position: usize) -> (UInt32Array, UInt32Array) {
    let offsets = list.offsets();
    let (mut rows, mut elements) = (Vec::new(), Vec::new());
    for i in 0..list.len() {
        let (start, end) = (offsets[i] as usize, offsets[i + 1] as usize);
        if list.is_valid(i) && start + position < end {
            rows.push(i as u32);
            elements.push((start + position) as u32);
        }
    }
    (rows.into(), elements.into())
}

/// One step for some rows; the others keep what they have.
fn step(merge: &LambdaArgument, accumulated: &ArrayRef, rows: &UInt32Array, elements: &ArrayRef) -> Result<ArrayRef> {
    let before = take(accumulated, rows, None)?;
    let after = merge
        .evaluate(&[&|| Ok(Arc::clone(&before)), &|| Ok(Arc::clone(elements))], |captured| {
            Ok(take_arrays(captured, rows, None)?)
        })?
        .into_array(rows.len())?;
    let after = cast(&after, accumulated.data_type(), Zone::UTC)?;
    let mut places: Vec<(usize, usize)> = (0..accumulated.len()).map(|i| (0, i)).collect();
    for (i, row) in rows.values().iter().enumerate() {
        places[*row as usize] = (1, i);
    }
    Ok(interleave(&[accumulated.as_ref(), after.as_ref()], &places)?)
}
