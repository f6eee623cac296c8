//! `histogram_numeric`: bins of uneven width, as Hive makes them (Ben-Haim and Tom-Tov, *A streaming parallel decision tree algorithm*, 2010).

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, StructArray},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, Fields, Float64Type},
};
use datafusion::{
    common::{Result, ScalarValue, utils::SingleRowListArrayBuilder},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
    physical_expr::expressions::Literal,
};

use super::{kernel::wrong_call, types::list_of};

#[derive(Debug, PartialEq, Eq, Hash)]
struct Histogram {
    signature: Signature,
}

/// `histogram_numeric(value, bins)`.
pub(super) fn function() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(Histogram { signature: Signature::any(2, Volatility::Immutable) }))
}

fn bin(value: &DataType) -> Fields {
    Fields::from(vec![Field::new("x", value.clone(), true), Field::new("y", DataType::Float64, true)])
}

impl AggregateUDFImpl for Histogram {
    fn name(&self) -> &str {
        "histogram_numeric"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(value) if value.is_numeric() => Ok(list_of(DataType::Struct(bin(value)), true)),
            _ => Err(wrong_call("histogram_numeric takes numbers and a number of bins")),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name| {
            Arc::new(Field::new(format!("{}[{name}]", args.name), DataType::new_list(DataType::Float64, true), true))
        };
        Ok(vec![field("x"), field("y")])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let most = args.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>()).map(Literal::value);
        let most = match most.map(|value| value.cast_to(&DataType::Int64)).transpose()? {
            Some(ScalarValue::Int64(Some(most))) if most >= 2 => most as usize,
            _ => return Err(wrong_call("histogram_numeric needs a number of bins of at least 2, as a literal")),
        };
        let value = args.expr_fields.first().map_or(DataType::Float64, |field| field.data_type().clone());
        Ok(Box::new(Bins { value, most, bins: Vec::new() }))
    }
}

#[derive(Debug)]
struct Bins {
    value: DataType,
    most: usize,
    /// Centre and height, by centre.
    bins: Vec<(f64, f64)>,
}

impl Bins {
    fn add(&mut self, x: f64, y: f64) {
        let at = self.bins.partition_point(|(centre, _)| centre.total_cmp(&x).is_lt());
        match self.bins.get_mut(at) {
            Some((centre, height)) if *centre == x => *height += y,
            _ => self.bins.insert(at, (x, y)),
        }
        while self.bins.len() > self.most {
            self.join_closest();
        }
    }

    fn join_closest(&mut self) {
        let gaps = self.bins.windows(2).map(|pair| pair[1].0 - pair[0].0).enumerate();
        let Some((at, _)) = gaps.min_by(|(_, a), (_, b)| a.total_cmp(b)) else { return };
        let (x, y) = self.bins.remove(at + 1);
        let (centre, height) = &mut self.bins[at];
        let total = *height + y;
        *centre = *centre * *height / total + x * y / total;
        *height = total;
    }
}

impl Accumulator for Bins {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        let values = cast(values, &DataType::Float64)?;
        values.as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.add(value, 1.0));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [xs, ys] = states else { return Err(wrong_call("a histogram has two states")) };
        for row in 0..xs.len() {
            let (xs, ys) = (xs.as_list::<i32>().value(row), ys.as_list::<i32>().value(row));
            let ys = ys.as_primitive::<Float64Type>();
            for (i, x) in xs.as_primitive::<Float64Type>().values().iter().enumerate() {
                self.add(*x, ys.value(i));
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (xs, ys): (Vec<f64>, Vec<f64>) = self.bins.iter().copied().unzip();
        let list = |values: Vec<f64>| {
            SingleRowListArrayBuilder::new(Arc::new(Float64Array::from(values)) as ArrayRef).build_list_scalar()
        };
        Ok(vec![list(xs), list(ys)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.bins.is_empty() {
            return ScalarValue::try_from(&list_of(DataType::Struct(bin(&self.value)), true));
        }
        let (xs, ys): (Vec<f64>, Vec<f64>) = self.bins.iter().copied().unzip();
        let xs = cast(&(Arc::new(Float64Array::from(xs)) as ArrayRef), &self.value)?;
        let ys: ArrayRef = Arc::new(Float64Array::from(ys));
        let bins: ArrayRef = Arc::new(StructArray::try_new(bin(&self.value), vec![xs, ys], None)?);
        let list = list_of(DataType::Struct(bin(&self.value)), true);
        SingleRowListArrayBuilder::new(bins).build_list_scalar().cast_to(&list)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.bins.capacity() * size_of::<(f64, f64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_bins_become_one() {
        let mut bins = Bins { value: DataType::Float64, most: 2, bins: vec![] };
        for value in [1.0, 10.0, 2.0, 10.0] {
            bins.add(value, 1.0);
        }
        assert_eq!(bins.bins, [(1.5, 2.0), (10.0, 2.0)]);
    }
}
