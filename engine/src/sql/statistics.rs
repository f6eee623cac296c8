//! `skewness`, `kurtosis`, `regr_r2` and `mode`.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array},
    datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type},
};
use datafusion::{
    common::{Result, ScalarValue, utils::SingleRowListArrayBuilder},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use super::kernel::wrong_call;

/// All of them.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    let numbers = || Signature::exact(vec![DataType::Float64], Volatility::Immutable);
    vec![
        Arc::new(AggregateUDF::new_from_impl(Moments { kurtosis: false, signature: numbers() })),
        Arc::new(AggregateUDF::new_from_impl(Moments { kurtosis: true, signature: numbers() })),
        Arc::new(AggregateUDF::new_from_impl(Determination {
            signature: Signature::exact(vec![DataType::Float64; 2], Volatility::Immutable),
        })),
        Arc::new(AggregateUDF::new_from_impl(Mode { signature: Signature::any(1, Volatility::Immutable) })),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Moments {
    kurtosis: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Moments {
    fn name(&self) -> &str {
        if self.kurtosis { "kurtosis" } else { "skewness" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let names = ["count", "mean", "m2", "m3", "m4"];
        let field = |name| Arc::new(Field::new(format!("{}[{name}]", args.name), DataType::Float64, false));
        Ok(names.into_iter().map(field).collect())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Central { kurtosis: self.kurtosis, ..Central::default() }))
    }
}

/// Count, mean and central moments; merged as by Chan, Pébay and others.
#[derive(Debug, Default, Clone)]
struct Central {
    kurtosis: bool,
    count: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Central {
    fn merge(&mut self, [n, mean, m2, m3, m4]: [f64; 5]) {
        if n == 0.0 {
            return;
        }
        let (own, total) = (self.count, self.count + n);
        let delta = mean - self.mean;
        let part = delta / total;
        let square = delta * delta * own * n / total;
        self.m4 += m4
            + square * part * part * (own * own - own * n + n * n)
            + 6.0 * part * part * (own * own * m2 + n * n * self.m2)
            + 4.0 * part * (own * m3 - n * self.m3);
        self.m3 += m3 + square * part * (own - n) + 3.0 * part * (own * m2 - n * self.m2);
        self.m2 += m2 + square;
        self.mean += part * n;
        self.count = total;
    }
}

impl Accumulator for Central {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values.iter().flat_map(|values| values.as_primitive::<Float64Type>().iter().flatten()) {
            self.merge([1.0, value, 0.0, 0.0, 0.0]);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [count, mean, m2, m3, m4] = states else { return Err(wrong_call("moments have five states")) };
        let columns = [count, mean, m2, m3, m4].map(|column| column.as_primitive::<Float64Type>());
        for row in 0..count.len() {
            self.merge(columns.map(|column| column.value(row)));
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let state = [self.count, self.mean, self.m2, self.m3, self.m4];
        Ok(state.into_iter().map(|value| ScalarValue::Float64(Some(value))).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = if self.count == 0.0 || self.m2 == 0.0 {
            // Of equal values there is none.
            None
        } else if self.kurtosis {
            Some(self.count * self.m4 / (self.m2 * self.m2) - 3.0)
        } else {
            Some(self.count.sqrt() * self.m3 / self.m2.powf(1.5))
        };
        Ok(ScalarValue::Float64(value))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// `regr_r2(y, x)`: of equal `y` it is 1, where DataFusion's has NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Determination {
    signature: Signature,
}

impl AggregateUDFImpl for Determination {
    fn name(&self) -> &str {
        "regr_r2"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let names = ["count", "mean_y", "mean_x", "square_y", "square_x", "product"];
        let field = |name| Arc::new(Field::new(format!("{}[{name}]", args.name), DataType::Float64, false));
        Ok(names.into_iter().map(field).collect())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Pairs::default()))
    }
}

/// Count, means, and sums of squares and products of pairs.
#[derive(Debug, Default)]
struct Pairs {
    count: f64,
    means: [f64; 2],
    squares: [f64; 2],
    product: f64,
}

impl Pairs {
    fn merge(&mut self, [n, y, x, square_y, square_x, product]: [f64; 6]) {
        if n == 0.0 {
            return;
        }
        let total = self.count + n;
        let (dy, dx) = (y - self.means[0], x - self.means[1]);
        let weight = self.count * n / total;
        self.squares[0] += square_y + dy * dy * weight;
        self.squares[1] += square_x + dx * dx * weight;
        self.product += product + dy * dx * weight;
        self.means[0] += dy * n / total;
        self.means[1] += dx * n / total;
        self.count = total;
    }
}

impl Accumulator for Pairs {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [y, x] = values else { return Err(wrong_call("regr_r2 takes two numbers")) };
        for pair in y.as_primitive::<Float64Type>().iter().zip(x.as_primitive::<Float64Type>()) {
            if let (Some(y), Some(x)) = pair {
                self.merge([1.0, y, x, 0.0, 0.0, 0.0]);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let columns: Vec<_> = states.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        let [n, y, x, square_y, square_x, product] = columns.as_slice() else {
            return Err(wrong_call("regr_r2 has six states"));
        };
        for row in 0..n.len() {
            self.merge([n, y, x, square_y, square_x, product].map(|column| column.value(row)));
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let [y, x] = self.means;
        let [square_y, square_x] = self.squares;
        let state = [self.count, y, x, square_y, square_x, self.product];
        Ok(state.into_iter().map(|value| ScalarValue::Float64(Some(value))).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let [square_y, square_x] = self.squares;
        let correlation = self.product / (square_y * square_x).sqrt();
        Ok(ScalarValue::Float64(match (square_y, square_x) {
            (_, 0.0) => None,
            (0.0, _) => Some(1.0),
            _ => Some(correlation * correlation),
        }))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mode {
    signature: Signature,
}

impl AggregateUDFImpl for Mode {
    fn name(&self) -> &str {
        "mode"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| wrong_call("mode takes one value"))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field =
            |name, item| Arc::new(Field::new(format!("{}[{name}]", args.name), DataType::new_list(item, true), true));
        Ok(vec![field("values", args.return_field.data_type().clone()), field("counts", DataType::Int64)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Counts { data_type: args.return_field.data_type().clone(), counts: HashMap::new(), bytes: 0 }))
    }
}

#[derive(Debug)]
struct Counts {
    data_type: DataType,
    counts: HashMap<ScalarValue, i64>,
    bytes: usize,
}

impl Counts {
    fn add(&mut self, value: ScalarValue, count: i64) {
        if value.is_null() {
            return;
        }
        match self.counts.get_mut(&value) {
            Some(held) => *held += count,
            None => {
                self.bytes += value.size() + size_of::<i64>();
                self.counts.insert(value, count);
            }
        }
    }
}

impl Accumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for values in values {
            for row in 0..values.len() {
                self.add(ScalarValue::try_from_array(values, row)?.compacted(), 1);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, counts] = states else { return Err(wrong_call("mode has two states")) };
        for row in 0..values.len() {
            let (values, counts) = (values.as_list::<i32>().value(row), counts.as_list::<i32>().value(row));
            for (i, count) in counts.as_primitive::<Int64Type>().values().iter().enumerate() {
                self.add(ScalarValue::try_from_array(&values, i)?.compacted(), *count);
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.counts.keys().cloned().collect::<Vec<_>>();
        let values = ScalarValue::new_list_nullable(&values, &self.data_type);
        let counts: ArrayRef = Arc::new(self.counts.values().copied().collect::<Int64Array>());
        Ok(vec![ScalarValue::List(values), SingleRowListArrayBuilder::new(counts).build_list_scalar()])
    }

    /// Of several values that are as frequent, the smallest, so that it is always the same one.
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let best = self
            .counts
            .iter()
            .max_by(|(a, n), (b, m)| n.cmp(m).then_with(|| b.partial_cmp(a).unwrap_or(std::cmp::Ordering::Equal)));
        match best {
            Some((value, _)) => Ok(value.clone()),
            None => ScalarValue::try_from(&self.data_type),
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.bytes
    }
}
