//! Gives the casts in a plan Spark's meaning.

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        DFSchema, Result, ScalarValue,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, binary_expr, expr_rewriter::NamePreserver,
        utils::merge_schema,
    },
    optimizer::AnalyzerRule,
};

use super::lenient_cast;

/// Runs after type coercion, so that it sees the casts that coercion adds, too.
#[derive(Debug, Default)]
pub(crate) struct LenientCasts;

impl AnalyzerRule for LenientCasts {
    fn name(&self) -> &str {
        "lenient_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
            }
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(lenient(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })
        .map(|transformed| transformed.data)
    }
}

/// Replaces the casts in an expression.
fn lenient(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        // Arrow's negation fails for the least integer, Spark's gives it back.
        if let Expr::Negative(value) = &expr
            && value.get_type(schema)?.is_integer()
        {
            let zero = Expr::Literal(ScalarValue::new_zero(&value.get_type(schema)?)?, None);
            return Ok(Transformed::yes(binary_expr(zero, Operator::Minus, value.as_ref().clone())));
        }
        let (Expr::Cast(Cast { expr: value, field }) | Expr::TryCast(TryCast { expr: value, field })) = &expr else {
            return Ok(Transformed::no(expr));
        };
        if !differs(&value.get_type(schema)?, field.data_type()) {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(lenient_cast(value.as_ref().clone(), field.data_type())?))
    })
}

/// Whether Spark's cast between two types gives other values than Arrow's. Where not, the plain cast stays: the optimizer knows it.
pub(crate) fn differs(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Date32, Date64, Duration, Interval, List, Map, Struct, Timestamp, Utf8};
    let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match (from, to) {
        (from, to) if from == to => false,
        (from, to) if is_text(from) => to.is_numeric() || matches!(to, Boolean | Date32 | Timestamp(..)),
        (List(from), List(to)) => differs(from.data_type(), to.data_type()),
        // By position, as in Spark; Arrow goes by name.
        (Struct(from), Struct(to)) => {
            from.len() == to.len()
                && from.iter().zip(to).any(|(f, t)| f.name() != t.name() || differs(f.data_type(), t.data_type()))
        }
        (Map(from, _), Map(to, _)) => differs(from.data_type(), to.data_type()),
        (from, to) if is_text(to) => {
            from.is_floating()
                || matches!(from, Timestamp(..) | Duration(_) | Interval(_))
                || (from.is_nested() && *to == Utf8)
        }
        (Timestamp(..), to) if to.is_numeric() => true,
        (Timestamp(..), Date32 | Boolean) => true,
        (Date32 | Date64, Timestamp(..)) => true,
        (Timestamp(_, from), Timestamp(_, to)) => from.is_some() != to.is_some(),
        (Duration(_) | Interval(_), to) => to.is_numeric(),
        (from, Timestamp(..)) => from.is_numeric(),
        (from, to) if to.is_integer() => {
            from.is_floating() || from.is_decimal() || (from.is_integer() && width(to) < width(from))
        }
        // A double holds 15 digits of any decimal.
        (DataType::Decimal128(precision, _), DataType::Float64) => *precision > 15,
        (from, to) if to.is_decimal() => from.is_floating() || whole_digits(to) < whole_digits(from),
        _ => false,
    }
}

fn width(integer: &DataType) -> usize {
    integer.primitive_width().unwrap_or(8)
}

/// Decimal digits before the point that a type has room for.
fn whole_digits(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => i32::from(*p) - i32::from(*s),
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        _ => 20,
    }
}
