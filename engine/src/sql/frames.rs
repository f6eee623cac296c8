//! Aggregates over frames whose first row moves, as Spark computes them: from the rows of each frame.
//!
//! DataFusion takes the rows that leave a frame out of the aggregate again. Of floats that leaves NaN and infinities behind for ever, and what a large
//! value swallowed is lost; most aggregates can't do it at all. So sums and averages of floats are kept in two stacks, which only ever add (constant time
//! for each row, whatever the frame's size), and the others are computed anew for each row, as in Spark's `SlidingWindowFunctionFrame`.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::concat,
    datatypes::{DataType, FieldRef, Float64Type, Schema, SchemaRef},
};
use datafusion::{
    common::{
        Result, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    config::ConfigOptions,
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, LogicalPlan, Signature, Volatility,
        WindowFunctionDefinition,
        expr::{AggregateFunctionParams, WindowFunction, WindowFunctionParams},
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::AggregateOrderSensitivity,
    },
    optimizer::AnalyzerRule,
    physical_expr::{PhysicalExpr, PhysicalSortExpr},
};

use super::kernel::wrong_call;

/// How the names of these functions begin.
pub(super) const PREFIX: &str = "in_frame_";
/// What comes into and goes out of a frame without a trace.
const EXACT: [&str; 3] = ["count", "min", "max"];
/// Exact unless they are of floats.
const SUMS: [&str; 2] = ["sum", "avg"];

/// The aggregates of a session for frames whose first row moves.
pub(crate) fn in_frames<'a>(functions: impl Iterator<Item = &'a Arc<AggregateUDF>>) -> Vec<Arc<AggregateUDF>> {
    functions.filter(|function| !EXACT.contains(&function.name())).map(in_frame).collect()
}

fn in_frame(function: &Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    let name = format!("{PREFIX}{}", function.name());
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(AggregateUDF::new_from_impl(InFrame { inner: Arc::clone(function), name, signature }))
}

/// Puts them into plans.
#[derive(Debug)]
pub(crate) struct Frames;

impl AnalyzerRule for Frames {
    fn name(&self) -> &str {
        "frames"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let done = plan.transform_up_with_subqueries(|plan| {
            let LogicalPlan::Window(window) = &plan else { return Ok(Transformed::no(plan)) };
            let schema = Arc::clone(window.input.schema());
            plan.map_expressions(|expr| {
                expr.transform_down(|expr| match expr {
                    Expr::WindowFunction(call) if is_inexact(&call, |arg| arg.get_type(&schema))? => {
                        Ok(Transformed::yes(Expr::WindowFunction(Box::new(exact(*call)))))
                    }
                    other => Ok(Transformed::no(other)),
                })
            })
        });
        done.map(|done| done.data)
    }
}

fn is_inexact(call: &WindowFunction, type_of: impl Fn(&Expr) -> Result<DataType>) -> Result<bool> {
    let WindowFunctionDefinition::AggregateUDF(function) = &call.fun else { return Ok(false) };
    let WindowFunctionParams { args, window_frame, distinct, .. } = &call.params;
    if window_frame.start_bound.is_unbounded() || *distinct || function.name().starts_with(PREFIX) {
        return Ok(false);
    }
    match function.name() {
        name if EXACT.contains(&name) => Ok(false),
        name if SUMS.contains(&name) => {
            args.first().map_or(Ok(false), |arg| type_of(arg).map(|data_type| data_type.is_floating()))
        }
        _ => Ok(true),
    }
}

fn exact(mut call: WindowFunction) -> WindowFunction {
    if let WindowFunctionDefinition::AggregateUDF(function) = &call.fun {
        call.fun = WindowFunctionDefinition::AggregateUDF(in_frame(function));
    }
    call
}

/// An aggregate that looks at each frame's rows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct InFrame {
    inner: Arc<AggregateUDF>,
    name: String,
    signature: Signature,
}

impl AggregateUDFImpl for InFrame {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        // The rule comes after the coercion.
        Ok(types.to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner.return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.inner.schema_name(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.window_function_schema_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.inner.window_function_display_name(params)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let of_doubles = args.expr_fields.len() == 1 && *args.expr_fields[0].data_type() == DataType::Float64;
        if of_doubles && SUMS.contains(&self.inner.name()) && *args.return_field.data_type() == DataType::Float64 {
            return Ok(Box::new(TwoStacks { averages: self.inner.name() == "avg", ..TwoStacks::default() }));
        }
        Ok(Box::new(Recomputed { recipe: Recipe::of(&self.inner, &args), rows: Vec::new(), from: 0, new: Vec::new() }))
    }
}

/// Doubles of a frame, of which the last come in and the first go out: a queue of two stacks, each with the sums of what it has from its bottom on.
#[derive(Debug, Default)]
struct TwoStacks {
    averages: bool,
    /// Those that came since the other stack was filled, in order, and their sum.
    back: VecDeque<Option<f64>>,
    of_back: (f64, u64),
    /// For each of the older ones, the first on top, its sum with all that came after it into this stack.
    front: Vec<(f64, u64)>,
}

impl TwoStacks {
    fn pop(&mut self) {
        if self.front.is_empty() {
            let (mut sum, mut count) = (0.0, 0);
            for value in self.back.drain(..).rev() {
                if let Some(value) = value {
                    (sum, count) = (value + sum, count + 1);
                }
                self.front.push((sum, count));
            }
            self.of_back = (0.0, 0);
        }
        self.front.pop();
    }
}

impl Accumulator for TwoStacks {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>() {
            if let Some(value) = value {
                self.of_back = (self.of_back.0 + value, self.of_back.1 + 1);
            }
            self.back.push_back(value);
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        (0..values[0].len()).for_each(|_| self.pop());
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (older, of_older) = self.front.last().copied().unwrap_or_default();
        let (sum, count) = (older + self.of_back.0, of_older + self.of_back.1);
        let value = if self.averages { sum / count as f64 } else { sum };
        Ok(ScalarValue::Float64((count > 0).then_some(value)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.back.capacity() * size_of::<Option<f64>>()
            + self.front.capacity() * size_of::<(f64, u64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(wrong_call("a frame has no state"))
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Err(wrong_call("frames can't be merged"))
    }
}

/// What an accumulator is made of.
#[derive(Debug)]
struct Recipe {
    function: Arc<AggregateUDF>,
    return_field: FieldRef,
    schema: SchemaRef,
    ignore_nulls: bool,
    order_bys: Vec<PhysicalSortExpr>,
    name: String,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl Recipe {
    fn of(function: &Arc<AggregateUDF>, args: &AccumulatorArgs) -> Self {
        Self {
            function: Arc::clone(function),
            return_field: Arc::clone(&args.return_field),
            schema: Arc::new(Schema::clone(args.schema)),
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys.to_vec(),
            name: args.name.to_string(),
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
        }
    }

    fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        self.function.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &self.order_bys,
            is_reversed: false,
            name: &self.name,
            is_distinct: false,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        })
    }
}

/// Keeps a frame's rows.
#[derive(Debug)]
struct Recomputed {
    recipe: Recipe,
    /// The arguments of the rows from `from` on.
    rows: Vec<ArrayRef>,
    from: usize,
    /// Of those that came since.
    new: Vec<Vec<ArrayRef>>,
}

impl Recomputed {
    /// The arguments of the frame's rows.
    fn frame(&mut self) -> Result<&[ArrayRef]> {
        if !self.new.is_empty() || self.from > 0 {
            let new = std::mem::take(&mut self.new);
            let old = std::mem::take(&mut self.rows);
            let width = old.len().max(new.first().map_or(0, Vec::len));
            let mut gone = self.from;
            self.from = 0;
            let mut pieces: Vec<Vec<ArrayRef>> = Vec::with_capacity(new.len() + 1);
            for batch in std::iter::once(old).chain(new) {
                let len = batch.first().map_or(0, |column| column.len());
                let skipped = gone.min(len);
                gone -= skipped;
                if skipped < len {
                    pieces.push(batch.iter().map(|column| column.slice(skipped, len - skipped)).collect());
                }
            }
            self.rows = match pieces.len() {
                0 => Vec::new(),
                1 => pieces.remove(0),
                _ => (0..width)
                    .map(|at| concat(&pieces.iter().map(|piece| piece[at].as_ref()).collect::<Vec<&dyn Array>>()))
                    .collect::<Result<_, _>>()?,
            };
        }
        Ok(&self.rows)
    }
}

impl Accumulator for Recomputed {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.new.push(values.to_vec());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.from += values.first().map_or(0, |column| column.len());
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut accumulator = self.recipe.accumulator()?;
        let rows = self.frame()?;
        if !rows.is_empty() {
            accumulator.update_batch(rows)?;
        }
        accumulator.evaluate()
    }

    fn size(&self) -> usize {
        let columns = self.rows.iter().chain(self.new.iter().flatten());
        size_of::<Self>() + columns.map(|column| column.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(wrong_call("a frame has no state"))
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        Err(wrong_call("frames can't be merged"))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_stacks_are_the_sum_of_what_is_there(
            values in prop::collection::vec(prop::option::weighted(0.8, -100i32..100), 1..60),
            width in 1usize..9,
        ) {
            let array = |values: &[Option<i32>]| {
                Arc::new(values.iter().map(|value| value.map(f64::from)).collect::<Float64Array>()) as ArrayRef
            };
            for averages in [false, true] {
                let mut stacks = TwoStacks { averages, ..TwoStacks::default() };
                for (at, value) in values.iter().enumerate() {
                    stacks.update_batch(&[array(&[*value])]).unwrap();
                    if at >= width {
                        stacks.retract_batch(&[array(&[values[at - width]])]).unwrap();
                    }
                    let frame = &values[(at + 1).saturating_sub(width)..=at];
                    let known: Vec<f64> = frame.iter().flatten().map(|value| f64::from(*value)).collect();
                    let sum = known.iter().sum::<f64>() / if averages { known.len() as f64 } else { 1.0 };
                    let expected = (!known.is_empty()).then_some(sum);
                    prop_assert_eq!(stacks.evaluate().unwrap(), ScalarValue::Float64(expected));
                }
            }
        }
    }
}
