//! Comparisons with Spark's meaning: what two types are compared as, zeros and NaNs, and `<=>` between columns.

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{Expr, Operator, binary_expr, cast, lit},
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    calls::is_text,
    coercion::{DIGITS, common_without_texts, decimal_of, wider_decimal},
    floats::normal,
    intervals,
    operators::moment,
    types::timestamp,
};

/// One of the operators that compare.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Comparison(Operator);

/// `left = right`, or `left <=> right`.
pub(super) fn equal(left: Expr, right: Expr, types: &[DataType; 2], null_safe: bool) -> Result<Expr> {
    let operator = if null_safe { Operator::IsNotDistinctFrom } else { Operator::Eq };
    Comparison(operator).plan(left, right, types)
}

impl Comparison {
    pub(super) fn of(op: &BinaryOperator) -> Option<Self> {
        Some(Self(match op {
            BinaryOperator::Eq => Operator::Eq,
            BinaryOperator::NotEq => Operator::NotEq,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Gt => Operator::Gt,
            BinaryOperator::GtEq => Operator::GtEq,
            BinaryOperator::Spaceship => Operator::IsNotDistinctFrom,
            _ => return None,
        }))
    }

    pub(super) fn plan(self, left: Expr, right: Expr, types: &[DataType; 2]) -> Result<Expr> {
        let [l, r] = types;
        let is_interval = |t: &DataType| matches!(t, DataType::Interval(_) | DataType::Duration(_));
        if types.iter().any(is_interval) && types.iter().all(|t| is_interval(t) || t.is_null()) {
            let order = |expr: Expr, t: &DataType| if is_interval(t) { intervals::order(expr) } else { expr };
            return self.planned(order(left, l), order(right, r), &DataType::Int64, types);
        }
        if let (Some(x), Some(y)) = (decimal_of(l), decimal_of(r))
            && l.is_decimal() | r.is_decimal()
            && l != r
        {
            let wide = wider_decimal(x, y);
            // Where a common decimal would lose digits both are cut to it, and NULL is what does not fit.
            let whole = |(p, s): (u8, i8)| i32::from(p) - i32::from(s);
            if whole(x).max(whole(y)) + i32::from(x.1.max(y.1)) > i32::from(DIGITS) {
                return self.planned(cast(left, wide.clone()), cast(right, wide.clone()), &wide, types);
            }
            return self.planned(left, right, &wide, types);
        }
        let (left, right) = (comparand(left, l, r), comparand(right, r, l));
        let common = match (l, r) {
            (a, b) if a.is_floating() || b.is_floating() => DataType::Float64,
            (a, b) if is_text(a) != is_text(b) => {
                let other = if is_text(a) { b } else { a };
                if other.is_decimal() { DataType::Float64 } else { other.clone() }
            }
            _ => common_without_texts(types).unwrap_or_else(|| l.clone()),
        };
        self.planned(left, right, &common, types)
    }

    fn planned(self, left: Expr, right: Expr, common: &DataType, [l, r]: &[DataType; 2]) -> Result<Expr> {
        if !common.is_floating() {
            return Ok(binary_expr(left, self.0, right));
        }
        if number_of(&left).is_some() && number_of(&right).is_none() {
            return Ok(self.turned().with_number(right, left, r));
        }
        if number_of(&right).is_some() {
            return Ok(self.with_number(left, right, l));
        }
        Ok(binary_expr(normal(left), self.0, normal(right)))
    }

    /// The same from right to left.
    fn turned(self) -> Self {
        Self(match self.0 {
            Operator::Lt => Operator::Gt,
            Operator::LtEq => Operator::GtEq,
            Operator::Gt => Operator::Lt,
            Operator::GtEq => Operator::LtEq,
            other => other,
        })
    }

    /// `value OP number`, where a column stays bare: so it can be looked up in statistics.
    fn with_number(self, value: Expr, literal: Expr, own: &DataType) -> Expr {
        let is_zero = number_of(&literal) == Some(0.0);
        let is_column = match &value {
            Expr::Cast(cast) => matches!(*cast.expr, Expr::Column(_)),
            other => matches!(other, Expr::Column(_)),
        };
        if own.is_floating() && !is_column {
            return binary_expr(normal(value), self.0, if is_zero { lit(0.0f64) } else { literal });
        }

        // To Arrow -0.0 is less than 0.0: the zero has the sign that takes both in, or leaves both out.
        let compared = match self.0 {
            Operator::Lt | Operator::GtEq if is_zero => binary_expr(value.clone(), self.0, lit(-0.0f64)),
            Operator::LtEq | Operator::Gt if is_zero => binary_expr(value.clone(), self.0, lit(0.0f64)),
            Operator::Eq if is_zero && is_column => {
                value.clone().gt_eq(lit(-0.0f64)).and(value.clone().lt_eq(lit(0.0f64)))
            }
            _ if is_zero => binary_expr(normal(value.clone()), self.0, lit(0.0f64)),
            _ => binary_expr(value.clone(), self.0, literal),
        };

        // To Arrow a NaN with the sign bit is below all numbers, to Spark any NaN is above them.
        let least = lit(f64::NEG_INFINITY);
        match self.0 {
            _ if !own.is_floating() => compared,
            Operator::Lt | Operator::LtEq => compared.and(value.gt_eq(least)),
            Operator::Gt | Operator::GtEq => compared.or(value.lt(least)),
            _ => compared,
        }
    }
}

/// A literal's number, if it is one.
pub(super) fn number_of(expr: &Expr) -> Option<f64> {
    let value = match expr {
        Expr::Literal(ScalarValue::Float64(Some(v)), _) => *v,
        Expr::Literal(ScalarValue::Float32(Some(v)), _) => f64::from(*v),
        Expr::Literal(ScalarValue::Int32(Some(v)), _) => f64::from(*v),
        Expr::Literal(ScalarValue::Int64(Some(v)), _) => *v as f64,
        _ => return None,
    };
    (!value.is_nan()).then_some(value)
}

/// A text takes the other's type, or both become doubles beside a decimal; numbers beside a boolean are compared with 0 and 1.
fn comparand(expr: Expr, own: &DataType, other: &DataType) -> Expr {
    match (own, other) {
        (own, other) if is_text(own) && other.is_decimal() => cast(expr, DataType::Float64),
        (own, other) if own.is_decimal() && (is_text(other) || other.is_floating()) => double(expr),
        (own, other)
            if is_text(own) && (other.is_numeric() || matches!(other, DataType::Boolean | DataType::Date32)) =>
        {
            cast(expr, other.clone())
        }
        (own, DataType::Timestamp(..)) if is_text(own) => cast(expr, timestamp()),
        (DataType::Boolean, other) if other.is_numeric() => cast(cast(expr, DataType::Int32), other.clone()),
        (own, DataType::Interval(IntervalUnit::MonthDayNano)) if is_text(own) => expr,
        _ => moment(expr, own, other),
    }
}

/// A decimal as a double; a literal by the digits that were written.
pub(super) fn double(expr: Expr) -> Expr {
    match decimal_text(&expr).and_then(|text| text.parse::<f64>().ok()) {
        Some(value) => lit(value),
        None => cast(expr, DataType::Float64),
    }
}

/// The digits of a decimal literal.
pub(super) fn decimal_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(ScalarValue::Decimal128(Some(value), _, scale), _) => {
            Some(format!("{value}e{}", -i32::from(*scale)))
        }
        _ => None,
    }
}
