//! Floats as Spark compares and groups them: NaN equals NaN and is above everything else, -0.0 is 0.0.
//!
//! Arrow orders floats totally: -0.0 below 0.0, and NaNs by their bits. So keys are made alike first, and min and max look for the
//! largest and smallest of integers in the same order.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray},
    datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type},
};
use datafusion::{
    common::{
        Column, DFSchema, DataFusionError, JoinConstraint, Result,
        tree_node::{Transformed, TreeNode},
    },
    config::ConfigOptions,
    logical_expr::{
        Aggregate, Distinct, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarUDF,
        expr_rewriter::NamePreserver,
    },
    optimizer::AnalyzerRule,
};

use super::kernel::{Arguments, Kernel, wrong_call};

static NORMAL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Kernel::function(
        "normal_float",
        one,
        |fields, _| first(fields).cloned(),
        |arguments| {
            let values = &arguments.arrays[0];
            Ok(match values.data_type() {
                DataType::Float64 => mapped::<Float64Type, Float64Type>(values, normal64),
                DataType::Float32 => mapped::<Float32Type, Float32Type>(values, |v| {
                    if v == 0.0 {
                        0.0
                    } else if v.is_nan() {
                        f32::NAN
                    } else {
                        v
                    }
                }),
                _ => Arc::clone(values),
            })
        },
    )
});

/// Functions that travel.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let order = Kernel::function(
        "float_order",
        one,
        |fields, _| {
            Ok(match first(fields)? {
                DataType::Float32 => DataType::Int32,
                DataType::Float64 => DataType::Int64,
                other => other.clone(),
            })
        },
        |arguments| {
            let values = &arguments.arrays[0];
            Ok(match values.data_type() {
                DataType::Float32 => mapped::<Float32Type, Int32Type>(values, |v| {
                    let v = if v == 0.0 {
                        0.0
                    } else if v.is_nan() {
                        f32::NAN
                    } else {
                        v
                    };
                    let bits = v.to_bits() as i32;
                    bits ^ (((bits >> 31) as u32) >> 1) as i32
                }),
                DataType::Float64 => mapped::<Float64Type, Int64Type>(values, float_order),
                _ => Arc::clone(values),
            })
        },
    );
    let ordered = Kernel::function(
        "float_of_order",
        one,
        |fields, _| {
            Ok(match first(fields)? {
                DataType::Int32 => DataType::Float32,
                _ => DataType::Float64,
            })
        },
        |arguments: &Arguments| {
            let values = &arguments.arrays[0];
            Ok(match values.data_type() {
                DataType::Int32 => mapped::<Int32Type, Float32Type>(values, |bits| {
                    f32::from_bits((bits ^ (((bits >> 31) as u32) >> 1) as i32) as u32)
                }),
                _ => mapped::<Int64Type, Float64Type>(values, float_of_order),
            })
        },
    );
    vec![Arc::clone(&NORMAL), order, ordered]
}

fn one(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [one] => Ok(vec![one.clone()]),
        _ => Err(wrong_call("this function takes one number")),
    }
}

fn first(fields: &[arrow::datatypes::FieldRef]) -> Result<&DataType> {
    fields.first().map(|field| field.data_type()).ok_or_else(|| wrong_call("this function takes one number"))
}

fn mapped<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(values: &ArrayRef, f: fn(A::Native) -> B::Native) -> ArrayRef {
    let mapped: PrimitiveArray<B> = values.as_primitive::<A>().unary(f);
    Arc::new(mapped)
}

fn normal64(v: f64) -> f64 {
    if v == 0.0 {
        0.0
    } else if v.is_nan() {
        f64::NAN
    } else {
        v
    }
}

/// An integer for a float, in the same order.
pub(super) fn float_order(v: f64) -> i64 {
    let bits = normal64(v).to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The float of such an integer.
pub(super) fn float_of_order(bits: i64) -> f64 {
    f64::from_bits((bits ^ (((bits >> 63) as u64) >> 1) as i64) as u64)
}

/// A float with one NaN and one zero.
pub(super) fn normal(expr: Expr) -> Expr {
    NORMAL.call(vec![expr])
}

/// Makes floats alike that are keys of groups, of DISTINCT, of joins and of windows. Runs when types are final.
#[derive(Debug, Default)]
pub(crate) struct FloatKeys;

impl AnalyzerRule for FloatKeys {
    fn name(&self) -> &str {
        "float_keys"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(keyed).map(|transformed| transformed.data)
    }
}

fn keyed(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let schema = Arc::clone(aggregate.input.schema());
            let is_key = |expr: &Expr| Ok::<_, DataFusionError>(is_float(expr, &schema)? && !is_normal(expr));
            if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice()
                && let Some(input) = with_normal(&aggregate.input, &sets.distinct_expr())?
            {
                let aggregate = Aggregate::try_new(Arc::new(input), aggregate.group_expr, aggregate.aggr_expr)?;
                return Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)));
            }
            let mut changed = false;
            let mut groups = Vec::with_capacity(aggregate.group_expr.len());
            for group in &aggregate.group_expr {
                if !matches!(group, Expr::GroupingSet(_)) && is_key(group)? {
                    changed = true;
                    let (relation, name) = group.qualified_name();
                    groups.push(normal(group.clone().unalias()).alias_qualified(relation, name));
                } else {
                    groups.push(group.clone());
                }
            }
            if !changed {
                return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
            }
            let aggregate = Aggregate::try_new(aggregate.input, groups, aggregate.aggr_expr)?;
            Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
        }
        LogicalPlan::Distinct(Distinct::All(input)) if has_floats(input.schema()) => {
            let columns = input.schema().iter().map(|(relation, field)| {
                let column = Expr::Column(Column::from((relation, field)));
                match field.data_type().is_floating() {
                    true => normal(column).alias_qualified(relation.cloned(), field.name()),
                    false => column,
                }
            });
            let columns: Vec<Expr> = columns.collect();
            let input = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?.build()?;
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
        }
        LogicalPlan::Join(mut join) => {
            let (left, right) = (Arc::clone(join.left.schema()), Arc::clone(join.right.schema()));
            let mut changed = false;
            for (l, r) in &mut join.on {
                if is_float(l, &left)? && is_float(r, &right)? && !(is_normal(l) && is_normal(r)) {
                    changed = true;
                    (*l, *r) = (normal(l.clone()), normal(r.clone()));
                }
            }
            if changed {
                // USING is of columns only; by now nobody asks for the names that it hides.
                join.join_constraint = JoinConstraint::On;
            }
            let join = LogicalPlan::Join(join);
            Ok(if changed { Transformed::yes(join) } else { Transformed::no(join) })
        }
        LogicalPlan::Window(window) => {
            let schema = Arc::clone(window.input.schema());
            let names = NamePreserver::new(&LogicalPlan::Window(window.clone()));
            LogicalPlan::Window(window).map_expressions(|expr| {
                let name = names.save(&expr);
                let changed = expr.transform_up(|expr| {
                    let Expr::WindowFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
                    let mut changed = false;
                    let orders = call.params.order_by.iter_mut().map(|order| &mut order.expr);
                    for key in call.params.partition_by.iter_mut().chain(orders) {
                        if is_float(key, &schema)? && !is_normal(key) {
                            changed = true;
                            *key = normal(key.clone());
                        }
                    }
                    let call = Expr::WindowFunction(call);
                    Ok(if changed { Transformed::yes(call) } else { Transformed::no(call) })
                })?;
                Ok(changed.update_data(|expr| name.restore(expr)))
            })
        }
        LogicalPlan::Sort(mut sort) => {
            let mut changed = false;
            for key in sort.expr.iter_mut().map(|key| &mut key.expr) {
                if is_float(key, sort.input.schema())? && !is_normal(key) {
                    changed = true;
                    *key = normal(key.clone());
                }
            }
            let sort = LogicalPlan::Sort(sort);
            Ok(if changed { Transformed::yes(sort) } else { Transformed::no(sort) })
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The rows with those of the keys made alike that are columns of floats, if there are such.
fn with_normal(input: &LogicalPlan, keys: &[&Expr]) -> Result<Option<LogicalPlan>> {
    let is_normal_already = |column: &Expr| match input {
        LogicalPlan::Projection(node) => node
            .expr
            .iter()
            .zip(node.schema.iter())
            .any(|(expr, field)| *column == Expr::Column(Column::from(field)) && is_normal(expr)),
        _ => false,
    };
    let mut changed = false;
    let columns = input.schema().iter().map(|(relation, field)| {
        let column = Expr::Column(Column::from((relation, field)));
        if !field.data_type().is_floating() || !keys.contains(&&column) || is_normal_already(&column) {
            return column;
        }
        changed = true;
        normal(column).alias_qualified(relation.cloned(), field.name())
    });
    let columns: Vec<Expr> = columns.collect();
    if !changed {
        return Ok(None);
    }
    LogicalPlanBuilder::from(input.clone()).project(columns)?.build().map(Some)
}

fn is_float(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    Ok(expr.get_type(schema)?.is_floating())
}

fn has_floats(schema: &DFSchema) -> bool {
    schema.fields().iter().any(|field| field.data_type().is_floating())
}

fn is_normal(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_normal(&alias.expr),
        Expr::ScalarFunction(call) => matches!(call.name(), "normal_float" | "float_of_order"),
        Expr::Literal(..) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_sparks() {
        let ascending = [f64::NEG_INFINITY, -1.5, -f64::MIN_POSITIVE, 0.0, f64::MIN_POSITIVE, 2.0, f64::INFINITY];
        for pair in ascending.windows(2) {
            assert!(float_order(pair[0]) < float_order(pair[1]), "{pair:?}");
        }
        assert!(float_order(f64::INFINITY) < float_order(-f64::NAN));
        assert_eq!(float_order(f64::NAN), float_order(-f64::NAN));
        assert_eq!(float_order(-0.0), float_order(0.0));
        for value in ascending {
            assert_eq!(float_of_order(float_order(value)), value);
        }
        assert!(float_of_order(float_order(f64::NAN)).is_nan());
    }
}
