//! Window functions that say the same when their plan has travelled: `IGNORE NULLS`, and rows that are sorted the other way.
//!
//! DataFusion's own functions are told to ignore nulls by a flag that is lost when a plan travels (its `WindowUDFExpr` has none in protobuf), and its
//! `lag` and `lead` count wrong with it (datafusion 25471). So these have names of their own.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, BooleanArray, UInt64Array},
    compute::{kernels::zip::zip, take},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue},
    functions_window::{
        lead_lag::{lag_udwf, lead_udwf},
        nth_value::nth_value_udwf,
    },
    logical_expr::{
        LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, Volatility, WindowUDF, WindowUDFImpl,
        function::{ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs},
    },
    physical_expr::{PhysicalExpr, expressions::Literal},
};

use super::kernel::wrong_call;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    First,
    Last,
    Nth,
    Lag,
    Lead,
}

/// A window function that sees only values that are not null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct KnownValue {
    kind: Kind,
    signature: Signature,
}

/// All of them.
pub(super) fn functions() -> Vec<Arc<WindowUDF>> {
    let forward = [lag_udwf(), lead_udwf(), nth_value_udwf()].map(|inner| Arc::new(Forward { inner }.into()));
    let known = [Kind::First, Kind::Last, Kind::Nth, Kind::Lag, Kind::Lead].map(function);
    forward.into_iter().chain(known).collect()
}

/// The function for one that is written with IGNORE NULLS.
pub(super) fn behind(name: &str) -> Option<&'static str> {
    Some(match name {
        "first" | "first_value" | "any_value" => "first_known_value",
        "last" | "last_value" => "last_known_value",
        "nth_value" => "nth_known_value",
        "lag" => "lag_known_value",
        "lead" => "lead_known_value",
        _ => return None,
    })
}

fn function(kind: Kind) -> Arc<WindowUDF> {
    let signature = Signature::variadic_any(Volatility::Immutable);
    Arc::new(WindowUDF::new_from_impl(KnownValue { kind, signature }))
}

impl WindowUDFImpl for KnownValue {
    fn name(&self) -> &str {
        match self.kind {
            Kind::First => "first_known_value",
            Kind::Last => "last_known_value",
            Kind::Nth => "nth_known_value",
            Kind::Lag => "lag_known_value",
            Kind::Lead => "lead_known_value",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let literal = |at: usize| match args.input_exprs().get(at) {
            None => Ok(None),
            Some(expr) => match expr.downcast_ref::<Literal>() {
                Some(literal) => Ok(Some(literal.value().clone())),
                None => Err(wrong_call(format!("argument {} of this window function must be a literal", at + 1))),
            },
        };
        let count = match literal(1)?.map(|value| value.cast_to(&DataType::Int64)).transpose()? {
            Some(ScalarValue::Int64(Some(count))) => count,
            None => 1,
            Some(_) => return Err(wrong_call("the offset of a window function is an integer")),
        };
        Ok(match self.kind {
            Kind::Lag => Box::new(Shift { offset: -count, default: literal(2)? }),
            Kind::Lead => Box::new(Shift { offset: count, default: literal(2)? }),
            Kind::Nth if count < 1 => return Err(wrong_call("nth_value counts from 1")),
            kind => Box::new(InFrame { kind, count: count as usize, known: None }),
        })
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let data_type = args.get_input_field(0).map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Arc::new(Field::new(args.name(), data_type, true)))
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        ReversedUDWF::NotSupported
    }
}

/// A window function of DataFusion's whose rows are never read backwards.
///
/// DataFusion 55 turns a window around where rows are sorted the other way, and notes in the function that it counts backwards; that is not written
/// when a plan is sent (`serialize_physical_window_expr`), so `lag` would become `lead` on executors.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Forward {
    inner: Arc<WindowUDF>,
}

impl WindowUDFImpl for Forward {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.inner.expressions(args)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        self.inner.partition_evaluator_factory(args)
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        self.inner.field(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        ReversedUDWF::NotSupported
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.inner.inner().limit_effect(args)
    }
}

/// Places of the values that are not null.
fn known_places(values: &ArrayRef) -> Vec<usize> {
    let nulls = values.logical_nulls();
    (0..values.len()).filter(|i| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*i))).collect()
}

#[derive(Debug)]
struct InFrame {
    kind: Kind,
    count: usize,
    known: Option<Vec<usize>>,
}

impl PartitionEvaluator for InFrame {
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let Some(values) = values.first() else { return Err(wrong_call("this window function takes a value")) };
        let known = self.known.get_or_insert_with(|| known_places(values));
        let (from, to) = (known.partition_point(|i| *i < range.start), known.partition_point(|i| *i < range.end));
        let in_frame = known.get(from..to).unwrap_or_default();
        let place = match self.kind {
            Kind::First => in_frame.first(),
            Kind::Last => in_frame.last(),
            _ => in_frame.get(self.count - 1),
        };
        match place {
            Some(place) => ScalarValue::try_from_array(values, *place),
            None => ScalarValue::try_from(values.data_type()),
        }
    }

    fn uses_window_frame(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Shift {
    offset: i64,
    default: Option<ScalarValue>,
}

impl PartitionEvaluator for Shift {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let Some(values) = values.first() else { return Err(wrong_call("this window function takes a value")) };
        let known = known_places(values);
        let nth = |from: usize| known.get(from).map(|i| *i as u64);
        let away = usize::try_from(self.offset.unsigned_abs()).unwrap_or(usize::MAX);
        let mut before = 0;
        let mut places = Vec::with_capacity(rows);
        for row in 0..rows {
            // How many known values there are up to this row, without it.
            while known.get(before).is_some_and(|i| *i < row) {
                before += 1;
            }
            let here = usize::from(known.get(before) == Some(&row));
            places.push(match self.offset {
                0 => Some(row as u64),
                ..0 => before.checked_sub(away).and_then(nth),
                _ => (before + here).checked_add(away - 1).and_then(nth),
            });
        }
        let places = UInt64Array::from(places);
        let shifted = take(values, &places, None)?;
        match &self.default {
            Some(default) if !default.is_null() => {
                let default = default.cast_to(values.data_type())?.to_scalar()?;
                let found: BooleanArray = places.iter().map(|place| Some(place.is_some())).collect();
                Ok(zip(&found, &shifted, &default)?)
            }
            _ => Ok(shifted),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn nulls_are_passed_over() {
        let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, None, Some(4), Some(5), None]));
        let shifted = |offset: i64, default: Option<i32>| {
            let default = default.map(|value| ScalarValue::Int32(Some(value)));
            let result = Shift { offset, default }.evaluate_all(&[Arc::clone(&values)], 6).unwrap();
            result.as_primitive::<Int32Type>().iter().collect::<Vec<_>>()
        };
        assert_eq!(shifted(-1, None), [None, Some(1), Some(1), Some(1), Some(4), Some(5)]);
        assert_eq!(shifted(-2, Some(0)), [Some(0), Some(0), Some(0), Some(0), Some(1), Some(4)]);
        assert_eq!(shifted(1, None), [Some(4), Some(4), Some(4), Some(5), None, None]);
        let in_frame =
            |kind, count, range| InFrame { kind, count, known: None }.evaluate(&[Arc::clone(&values)], &range).unwrap();
        assert_eq!(in_frame(Kind::Last, 1, 0..3), ScalarValue::Int32(Some(1)));
        assert_eq!(in_frame(Kind::First, 1, 1..5), ScalarValue::Int32(Some(4)));
        assert_eq!(in_frame(Kind::First, 1, 1..3), ScalarValue::Int32(None));
        assert_eq!(in_frame(Kind::Nth, 2, 0..6), ScalarValue::Int32(Some(4)));
    }
}
