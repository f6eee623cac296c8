//! `percentile`, `percentile_disc` and `percentile_approx`, each of one or several percentages.
//!
//! All three hold the values. `percentile_approx` gives one of them, and where there are very many it keeps an even part, by far more
//! than Spark's accuracy of one in 10,000 asks for.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    compute::cast,
    datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type},
};
use datafusion::{
    common::{Result, ScalarValue, utils::SingleRowListArrayBuilder},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
    physical_expr::expressions::Literal,
};

use super::{
    floats::{float_of_order, float_order},
    kernel::wrong_call,
    types::{list_of, type_name},
};

/// Values that `percentile_approx` holds at most.
const HELD: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Between the two values around the place.
    Exact,
    /// The first value at the place or behind it.
    Discrete,
    /// The same, in the value's own type.
    Approximate,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Percentile {
    kind: Kind,
    signature: Signature,
}

/// All of them.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    let of = |kind| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(Percentile { kind, signature }))
    };
    vec![of(Kind::Exact), of(Kind::Discrete), of(Kind::Approximate)]
}

impl AggregateUDFImpl for Percentile {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Exact => "percentile",
            Kind::Discrete => "percentile_disc",
            Kind::Approximate => "percentile_approx",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, percentage, rest @ ..] = types else {
            return Err(wrong_call(format!("{} takes a value and a percentage, or an array of them", self.name())));
        };
        let value = match value {
            DataType::Null => DataType::Float64,
            _ if self.kind != Kind::Approximate => match value {
                number if number.is_numeric() => DataType::Float64,
                other => {
                    return Err(wrong_call(format!("{} takes numbers, not {}", self.name(), type_name(other))));
                }
            },
            value if value.is_numeric() => value.clone(),
            DataType::Date32 | DataType::Timestamp(..) | DataType::Duration(_) => value.clone(),
            other => {
                return Err(wrong_call(format!(
                    "{} takes numbers, dates and times, not {}",
                    self.name(),
                    type_name(other)
                )));
            }
        };
        let percentage = if is_list(percentage) { list_of(DataType::Float64, true) } else { DataType::Float64 };
        let mut all = vec![value, percentage];
        all.extend(rest.iter().map(|_| DataType::Int64));
        if all.len() > 3 {
            return Err(wrong_call(format!("{} takes at most 3 arguments", self.name())));
        }
        Ok(all)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [value, percentage, ..] if is_list(percentage) => Ok(list_of(value.clone(), false)),
            [value, ..] => Ok(value.clone()),
            [] => Err(wrong_call("a percentile needs a value")),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name| {
            Arc::new(Field::new(format!("{}[{name}]", args.name), DataType::new_list(DataType::Int64, true), true))
        };
        Ok(vec![field("keys"), field("counts")])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let percentages = args.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>()).map(Literal::value);
        let (several, percentages) = match percentages {
            Some(ScalarValue::Float64(Some(one))) => (false, vec![*one]),
            Some(ScalarValue::List(list)) if !list.is_empty() && list.is_valid(0) => {
                let list = list.value(0);
                let list = list.as_primitive_opt::<Float64Type>();
                (true, list.into_iter().flatten().flatten().collect())
            }
            _ => {
                return Err(wrong_call(format!(
                    "the percentage of {} must be a literal, or an array of them",
                    self.name()
                )));
            }
        };
        if let Some(wrong) = percentages.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(wrong_call(format!("{wrong} is no percentage: it must be between 0 and 1")));
        }
        let data_type = match args.expr_fields.first() {
            Some(field) => field.data_type().clone(),
            None => return Err(wrong_call("a percentile needs a value")),
        };
        let counted = self.kind != Kind::Approximate && args.exprs.len() > 2;
        Ok(Box::new(Values { kind: self.kind, data_type, several, percentages, counted, keys: vec![], counts: vec![] }))
    }
}

fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// Values as keys in their order, and how often each is there; no counts mean once each.
#[derive(Debug)]
struct Values {
    kind: Kind,
    data_type: DataType,
    several: bool,
    percentages: Vec<f64>,
    /// Whether an argument says how often each value counts.
    counted: bool,
    keys: Vec<i64>,
    counts: Vec<i64>,
}

/// Whether values go as doubles: decimals of more digits than an integer holds do, as in Spark.
fn as_doubles(data_type: &DataType) -> bool {
    data_type.is_floating() || matches!(data_type, DataType::Decimal128(precision, _) if *precision > 18)
}

impl Values {
    fn keys_of(&self, values: &ArrayRef) -> Result<Vec<Option<i64>>> {
        if as_doubles(&self.data_type) {
            let values = cast(values, &DataType::Float64)?;
            return Ok(values.as_primitive::<Float64Type>().iter().map(|v| v.map(float_order)).collect());
        }
        if let DataType::Decimal128(..) = self.data_type {
            return Ok(values.as_primitive::<Decimal128Type>().iter().map(|v| v.map(|v| v as i64)).collect());
        }
        let wide = match self.data_type {
            DataType::Date32 => cast(&cast(values, &DataType::Int32)?, &DataType::Int64)?,
            _ => cast(values, &DataType::Int64)?,
        };
        Ok(wide.as_primitive::<Int64Type>().iter().collect())
    }

    fn value_of(&self, key: i64) -> Result<ScalarValue> {
        Ok(match &self.data_type {
            DataType::Decimal128(precision, scale) if *precision <= 18 => {
                ScalarValue::Decimal128(Some(key.into()), *precision, *scale)
            }
            data_type if as_doubles(data_type) => ScalarValue::Float64(Some(float_of_order(key))).cast_to(data_type)?,
            DataType::Date32 => ScalarValue::Date32(i32::try_from(key).ok()),
            data_type => ScalarValue::Int64(Some(key)).cast_to(data_type)?,
        })
    }

    fn add(&mut self, key: i64, count: i64) {
        if count != 1 && self.counts.is_empty() {
            self.counts = vec![1; self.keys.len()];
        }
        self.keys.push(key);
        if !self.counts.is_empty() || count != 1 {
            self.counts.push(count);
        }
    }

    /// Keys in order, each with how many values there are up to it.
    fn sorted(&mut self) -> Vec<(i64, i64)> {
        let mut up_to = 0;
        if self.counts.is_empty() {
            self.keys.sort_unstable();
            return self.keys.iter().enumerate().map(|(i, key)| (*key, i as i64 + 1)).collect();
        }
        let mut all: Vec<(i64, i64)> = self.keys.iter().copied().zip(self.counts.iter().copied()).collect();
        all.sort_unstable();
        for (_, count) in &mut all {
            up_to += *count;
            *count = up_to;
        }
        all
    }

    /// Keeps an even part of the values, and the first and the last.
    fn shrink(&mut self) {
        let all = self.sorted();
        let total = all.last().map_or(0, |(_, up_to)| *up_to);
        let kept = (HELD / 2) as i64;
        self.keys.clear();
        self.counts.clear();
        let mut i = 0;
        let share = |n: i64| (i128::from(total) * i128::from(n) / i128::from(kept)) as i64;
        for n in 0..kept {
            let (from, to) = (share(n), share(n + 1));
            let wanted = match n {
                0 => 1,
                n if n == kept - 1 => total,
                _ => from + (to - from) / 2 + 1,
            };
            while all.get(i).is_some_and(|(_, up_to)| *up_to < wanted) {
                i += 1;
            }
            if let Some((key, _)) = all.get(i) {
                self.keys.push(*key);
                self.counts.push(to - from);
            }
        }
    }

    fn shrink_if_large(&mut self) {
        if self.kind == Kind::Approximate && self.keys.len() > HELD {
            self.shrink();
        }
    }
}

/// The key at a place that counts from 1.
fn at(all: &[(i64, i64)], place: i64) -> Option<i64> {
    all.get(all.partition_point(|(_, up_to)| *up_to < place)).map(|(key, _)| *key)
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(column) = values.first() else { return Ok(()) };
        let keys = self.keys_of(column)?;
        let counts = values.get(2).filter(|_| self.counted);
        let counts = counts.map(|counts| counts.as_primitive::<Int64Type>().clone());
        for (i, key) in keys.into_iter().enumerate() {
            let Some(key) = key else { continue };
            let count = match &counts {
                None => 1,
                Some(counts) if counts.is_null(i) => continue,
                Some(counts) => counts.value(i),
            };
            match count {
                0 => {}
                1.. => self.add(key, count),
                _ => return Err(wrong_call(format!("{count} is no frequency: it must not be negative"))),
            }
        }
        self.shrink_if_large();
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [keys, counts] = states else { return Err(wrong_call("a percentile has two states")) };
        for row in 0..keys.len() {
            let (keys, counts) = (keys.as_list::<i32>().value(row), counts.as_list::<i32>().value(row));
            let counts = counts.as_primitive::<Int64Type>();
            for (i, key) in keys.as_primitive::<Int64Type>().values().iter().enumerate() {
                self.add(*key, if counts.is_empty() { 1 } else { counts.value(i) });
            }
            self.shrink_if_large();
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |values: &[i64]| {
            let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
            SingleRowListArrayBuilder::new(values).build_list_scalar()
        };
        Ok(vec![list(&self.keys), list(&self.counts)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let all = self.sorted();
        let total = all.last().map_or(0, |(_, up_to)| *up_to);
        let mut found = Vec::with_capacity(self.percentages.len());
        for percentage in &self.percentages {
            let place = match self.kind {
                Kind::Exact => {
                    let place = (total - 1) as f64 * percentage;
                    let (below, above) = (place.floor(), place.ceil());
                    let keys = (at(&all, below as i64 + 1), at(&all, above as i64 + 1));
                    if let (Some(low), Some(high)) = keys {
                        let (low, high) = (float_of_order(low), float_of_order(high));
                        let between = (above - place) * low + (place - below) * high;
                        found.push(ScalarValue::Float64(Some(if low == high || below == above {
                            low
                        } else {
                            between
                        })));
                    }
                    continue;
                }
                _ => ((total as f64 * percentage).ceil() as i64).max(1),
            };
            if let Some(key) = at(&all, place) {
                found.push(self.value_of(key)?);
            }
        }
        match (self.several, found.len()) {
            (true, 1..) => {
                let values = ScalarValue::iter_to_array(found)?;
                let list = list_of(self.data_type.clone(), false);
                Ok(SingleRowListArrayBuilder::new(values).build_list_scalar().cast_to(&list)?)
            }
            (true, 0) => ScalarValue::try_from(&list_of(self.data_type.clone(), false)),
            (false, _) => match found.pop() {
                Some(value) => Ok(value),
                None => ScalarValue::try_from(&self.data_type),
            },
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() + (self.keys.capacity() + self.counts.capacity()) * size_of::<i64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_values_are_thinned_out_evenly() {
        let mut values = Values {
            kind: Kind::Approximate,
            data_type: DataType::Int64,
            several: false,
            percentages: vec![0.25],
            counted: false,
            keys: vec![],
            counts: vec![],
        };
        let count = 3 * HELD as i64;
        for from in (0..count).step_by(HELD / 4) {
            let batch: ArrayRef =
                Arc::new((from..from + HELD as i64 / 4).map(|v| v * 7 % count).collect::<Int64Array>());
            values.update_batch(&[batch]).unwrap();
        }
        let ScalarValue::Int64(Some(found)) = values.evaluate().unwrap() else { panic!() };
        assert!((found - count / 4).abs() < count / 10_000, "{found} of {count}");
    }
}
