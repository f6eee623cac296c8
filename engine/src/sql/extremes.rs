//! The smallest and the largest of structs and arrays: field by field, nulls first, as Spark orders them; and the value that goes with the smallest or
//! the largest, for windows.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef},
    compute::SortOptions,
    datatypes::{DataType, Field, FieldRef},
    row::{OwnedRow, RowConverter, SortField},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use super::kernel::wrong_call;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    largest: bool,
    signature: Signature,
}

/// All of them.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    let by = |largest| {
        let signature = Signature::any(2, Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(ExtremeBy { largest, signature }))
    };
    vec![function(false), function(true), by(false), by(true)]
}

/// `max` or `min` of nested values.
pub(super) fn function(largest: bool) -> Arc<AggregateUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(Extreme { largest, signature }))
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        if self.largest { "max_nested" } else { "min_nested" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| wrong_call("this function takes one value"))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let data_type = args.return_field.data_type().clone();
        Ok(vec![Arc::new(Field::new(format!("{}[value]", args.name), data_type, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type().clone();
        let value = ScalarValue::try_from(&data_type)?;
        Ok(Box::new(Held { largest: self.largest, converter: in_order(data_type)?, row: None, value }))
    }
}

fn in_order(data_type: DataType) -> Result<RowConverter> {
    let order = SortOptions { descending: false, nulls_first: true };
    Ok(RowConverter::new(vec![SortField::new_with_options(data_type, order)])?)
}

struct Held {
    largest: bool,
    converter: RowConverter,
    row: Option<OwnedRow>,
    value: ScalarValue,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value)
    }
}

impl Accumulator for Held {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        let rows = self.converter.convert_columns(std::slice::from_ref(values))?;
        let known = (0..values.len()).filter(|i| values.is_valid(*i));
        let best = if self.largest {
            known.max_by(|a, b| rows.row(*a).cmp(&rows.row(*b)))
        } else {
            known.min_by(|a, b| rows.row(*a).cmp(&rows.row(*b)))
        };
        let Some(best) = best else { return Ok(()) };
        let row = rows.row(best);
        let better = match &self.row {
            None => true,
            Some(held) if self.largest => row > held.row(),
            Some(held) => row < held.row(),
        };
        if better {
            self.value = ScalarValue::try_from_array(values, best)?;
            self.row = Some(row.owned());
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.converter.size() + self.value.size()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExtremeBy {
    largest: bool,
    signature: Signature,
}

impl AggregateUDFImpl for ExtremeBy {
    fn name(&self) -> &str {
        if self.largest { "max_by_order" } else { "min_by_order" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().ok_or_else(|| wrong_call("this function takes a value and what it is ordered by"))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name, data_type: &DataType| {
            Arc::new(Field::new(format!("{}[{name}]", args.name), data_type.clone(), true))
        };
        let order = args.input_fields.get(1).map_or(&DataType::Null, |order| order.data_type());
        Ok(vec![field("value", args.return_field.data_type()), field("order", order)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let [value, order] = args.expr_fields else {
            return Err(wrong_call("this function takes a value and what it is ordered by"));
        };
        let (value, order) = (ScalarValue::try_from(value.data_type())?, order.data_type().clone());
        let held = ScalarValue::try_from(&order)?;
        let converter = in_order(order)?;
        Ok(Box::new(HeldBy {
            value,
            order: held,
            best: Held { largest: self.largest, converter, row: None, value: ScalarValue::Null },
        }))
    }
}

/// The value of the row whose order is the smallest or the largest that is known; of several the last.
#[derive(Debug)]
struct HeldBy {
    value: ScalarValue,
    order: ScalarValue,
    best: Held,
}

impl Accumulator for HeldBy {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values, order] = values else { return Ok(()) };
        let rows = self.best.converter.convert_columns(std::slice::from_ref(order))?;
        for at in (0..order.len()).filter(|at| order.is_valid(*at)) {
            let row = rows.row(at);
            let better = match &self.best.row {
                None => true,
                Some(held) if self.best.largest => row >= held.row(),
                Some(held) => row <= held.row(),
            };
            if better {
                self.best.row = Some(row.owned());
                self.value = ScalarValue::try_from_array(values, at)?;
                self.order = ScalarValue::try_from_array(order, at)?;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), self.order.clone()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.best.size() + self.value.size() + self.order.size()
    }
}
