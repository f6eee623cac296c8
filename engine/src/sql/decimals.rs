//! Arithmetic of decimals as in Spark (`allowPrecisionLoss`): its precision and scale, half up, NULL for what does not fit.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array},
    datatypes::{DataType, Decimal128Type, Decimal256Type, FieldRef, Int64Type, i256},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{Expr, Operator, ScalarUDF, binary_expr, cast, lit},
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    coercion::{DIGITS, decimal_of},
    kernel::{Arguments, Kernel, wrong_call},
};

/// The functions behind the operators, and the one that makes a sum a decimal again.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let of = |name, compute| Kernel::function(name, accept, |fields, _| give(fields), compute);
    vec![
        Kernel::function("decimal_add", accept, |f, _| result(f, BinaryOperator::Plus), |a| compute(a, add)),
        Kernel::function(
            "decimal_subtract",
            accept,
            |f, _| result(f, BinaryOperator::Minus),
            |a| compute(a, |a, b, scales| add(a, -b, scales)),
        ),
        Kernel::function(
            "decimal_multiply",
            accept,
            |f, _| result(f, BinaryOperator::Multiply),
            |a| compute(a, multiply),
        ),
        Kernel::function("decimal_divide", accept, |f, _| result(f, BinaryOperator::Divide), |a| compute(a, divide)),
        of("decimal_remainder", |a| compute(a, remainder)),
        of("decimal_pmod", |a| compute(a, positive_remainder)),
        Kernel::function("decimal_quotient", accept, |_, _| Ok(DataType::Int64), quotient),
        Kernel::function("decimal_average", |types| Ok(types.to_vec()), average_type, average),
        Kernel::function("fit_decimal", |types| Ok(types.to_vec()), target, fit),
    ]
}

/// The type of a typed NULL that is the last argument.
fn target(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match fields {
        [_, target] => Ok(target.data_type().clone()),
        _ => Err(wrong_call("fit_decimal takes a value and a typed NULL")),
    }
}

fn accept(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [l, r] => Ok(vec![as_decimal(l)?, as_decimal(r)?]),
        _ => Err(wrong_call("arithmetic of decimals takes two of them")),
    }
}

fn as_decimal(data_type: &DataType) -> Result<DataType> {
    match decimal_of(data_type) {
        Some((precision, scale)) => Ok(DataType::Decimal128(precision, scale)),
        None if data_type.is_null() => Ok(DataType::Decimal128(1, 0)),
        None => Err(wrong_call(format!("{} is no decimal", super::types::type_name(data_type)))),
    }
}

fn pair(fields: &[FieldRef]) -> Result<[(i32, i32); 2]> {
    match fields {
        [l, r] => match (decimal_of(l.data_type()), decimal_of(r.data_type())) {
            (Some((p1, s1)), Some((p2, s2))) => Ok([(p1.into(), s1.into()), (p2.into(), s2.into())]),
            _ => Err(wrong_call("arithmetic of decimals takes two of them")),
        },
        _ => Err(wrong_call("arithmetic of decimals takes two of them")),
    }
}

fn result(fields: &[FieldRef], op: BinaryOperator) -> Result<DataType> {
    let [l, r] = pair(fields)?;
    let (precision, scale) = wanted(&op, l, r);
    Ok(adjusted(precision, scale))
}

fn give(fields: &[FieldRef]) -> Result<DataType> {
    result(fields, BinaryOperator::Modulo)
}

/// Precision and scale that hold every result, before they are cut to 38 digits.
fn wanted(op: &BinaryOperator, (p1, s1): (i32, i32), (p2, s2): (i32, i32)) -> (i32, i32) {
    let scale = s1.max(s2);
    match op {
        BinaryOperator::Multiply => (p1 + p2 + 1, s1 + s2),
        BinaryOperator::Divide => {
            let scale = (s1 + p2 + 1).max(6);
            (p1 - s1 + s2 + scale, scale)
        }
        BinaryOperator::Modulo => ((p1 - s1).min(p2 - s2) + scale, scale),
        _ => ((p1 - s1).max(p2 - s2) + scale + 1, scale),
    }
}

/// Spark's `DecimalType.adjustPrecisionScale`: digits before the point go first, but six after it stay.
fn adjusted(precision: i32, scale: i32) -> DataType {
    let most = i32::from(DIGITS);
    if precision <= most {
        return DataType::Decimal128(precision.max(1) as u8, scale as i8);
    }
    let scale = (most - (precision - scale)).max(scale.min(6));
    DataType::Decimal128(DIGITS, scale as i8)
}

/// Plans an operation when it is one of decimals; integers beside a decimal become decimals.
pub(super) fn plan(
    functions: &std::collections::HashMap<String, Arc<ScalarUDF>>,
    op: &BinaryOperator,
    left: &Expr,
    right: &Expr,
    types: [&DataType; 2],
) -> Result<Option<Expr>> {
    let is_decimal = |t: &DataType| t.is_decimal();
    if !types.iter().any(|t| is_decimal(t)) {
        return Ok(None);
    }
    let operand = |expr: &Expr, data_type: &DataType| -> Option<(Expr, (u8, i8))> {
        if let Expr::Literal(value, _) = expr
            && let Some(decimal) = integer_literal(value)
        {
            return Some((lit(ScalarValue::Decimal128(Some(decimal.0), decimal.1, 0)), (decimal.1, 0)));
        }
        if data_type.is_null() {
            return Some((lit(ScalarValue::Decimal128(None, 1, 0)), (1, 0)));
        }
        let (precision, scale) = decimal_of(data_type)?;
        let decimal = DataType::Decimal128(precision, scale);
        let expr = if *data_type == decimal { expr.clone() } else { cast(expr.clone(), decimal) };
        Some((expr, (precision, scale)))
    };
    let (Some((left, l)), Some((right, r))) = (operand(left, types[0]), operand(right, types[1])) else {
        return Ok(None);
    };
    let wide = |(p, s): (u8, i8)| (i32::from(p), i32::from(s));
    let (precision, _) = wanted(op, wide(l), wide(r));
    // Within 38 digits the engine's own operators give the same, faster, and the optimizer knows them. But it takes `x * 0`, where x is never null, for the
    // zero with that one's type (`ExprSimplifier`, "A * 0 --> 0").
    let own = match op {
        BinaryOperator::Plus => Some(Operator::Plus),
        BinaryOperator::Minus => Some(Operator::Minus),
        BinaryOperator::Multiply if !may_be_zero(&left) && !may_be_zero(&right) => Some(Operator::Multiply),
        _ => None,
    };
    if let Some(own) = own.filter(|_| precision <= i32::from(DIGITS)) {
        return Ok(Some(binary_expr(left, own, right)));
    }
    let name = match op {
        BinaryOperator::Plus => "decimal_add",
        BinaryOperator::Minus => "decimal_subtract",
        BinaryOperator::Multiply => "decimal_multiply",
        BinaryOperator::Divide => "decimal_divide",
        BinaryOperator::Modulo => "decimal_remainder",
        BinaryOperator::MyIntegerDivide => "decimal_quotient",
        _ => return Ok(None),
    };
    match functions.get(name) {
        Some(function) => Ok(Some(function.call(vec![left, right]))),
        None => Err(wrong_call(format!("there is no function `{name}`"))),
    }
}

/// Whether a constant may be zero.
fn may_be_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(cast) => may_be_zero(&cast.expr),
        Expr::Literal(value, _) => match value {
            ScalarValue::Decimal128(value, ..) => value.unwrap_or(0) == 0,
            _ => true,
        },
        other => !other.any_column_refs(),
    }
}

/// An integer literal's value and its own number of digits.
pub(super) fn integer_literal(value: &ScalarValue) -> Option<(i128, u8)> {
    let value: i128 = match value {
        ScalarValue::Int8(Some(v)) => (*v).into(),
        ScalarValue::Int16(Some(v)) => (*v).into(),
        ScalarValue::Int32(Some(v)) => (*v).into(),
        ScalarValue::Int64(Some(v)) => (*v).into(),
        _ => return None,
    };
    Some((value, value.unsigned_abs().checked_ilog10().unwrap_or(0) as u8 + 1))
}

/// Scales of the operands, and of the result.
type Scales = (i32, i32, i32);

/// Decimals are computed with 256 bits where 128 do not do.
fn compute(arguments: &Arguments, operation: fn(i128, i128, Scales) -> Option<i128>) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, scale) = arguments.result else {
        return Err(wrong_call("arithmetic of decimals gives a decimal"));
    };
    let limit = 10i128.pow(precision.min(DIGITS).into());
    let (left, right, scales) = operands(arguments, scale.into())?;
    let values = left.iter().zip(right.iter()).map(|(a, b)| {
        let value = operation(a?, b?, scales)?;
        (value < limit && value > -limit).then_some(value)
    });
    let values: Decimal128Array = values.collect();
    Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
}

fn operands(arguments: &Arguments, scale: i32) -> Result<(&Decimal128Array, &Decimal128Array, Scales)> {
    match arguments.arrays.as_slice() {
        [left, right] => match (left.data_type(), right.data_type()) {
            (DataType::Decimal128(_, s1), DataType::Decimal128(_, s2)) => {
                let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
                Ok((left, right, (i32::from(*s1), i32::from(*s2), scale)))
            }
            _ => Err(wrong_call("arithmetic of decimals takes two of them")),
        },
        _ => Err(wrong_call("arithmetic of decimals takes two of them")),
    }
}

fn power(exponent: i32) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::try_from(exponent).ok()?)
}

/// Divides, half up.
fn rounded(value: i256, divisor: i256) -> Option<i256> {
    let (quotient, rest) = (value.checked_div(divisor)?, value.checked_rem(divisor)?);
    let rest = rest.wrapping_abs();
    let half_up = rest >= divisor.wrapping_abs().checked_sub(rest)?;
    if !half_up {
        return Some(quotient);
    }
    let positive = value.is_negative() == divisor.is_negative();
    if positive { quotient.checked_add(i256::ONE) } else { quotient.checked_sub(i256::ONE) }
}

/// From one scale to another one, half up.
fn rescaled(value: i256, from: i32, to: i32) -> Option<i256> {
    if to >= from { value.checked_mul(power(to - from)?) } else { rounded(value, power(from - to)?) }
}

fn add(a: i128, b: i128, (s1, s2, to): Scales) -> Option<i128> {
    let scale = s1.max(s2);
    let [a, b] = [(a, s1), (b, s2)].map(|(v, s)| i256::from_i128(v).checked_mul(power(scale - s)?));
    rescaled(a?.checked_add(b?)?, scale, to)?.to_i128()
}

fn multiply(a: i128, b: i128, (s1, s2, to): Scales) -> Option<i128> {
    rescaled(i256::from_i128(a).checked_mul(i256::from_i128(b))?, s1 + s2, to)?.to_i128()
}

fn divide(a: i128, b: i128, (s1, s2, to): Scales) -> Option<i128> {
    let shift = to - s1 + s2;
    if let Some(unit) = u32::try_from(shift).ok().and_then(|shift| 10i128.checked_pow(shift))
        && let Some(a) = a.checked_mul(unit)
    {
        let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
        let half_up = rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs();
        let one = if (a < 0) == (b < 0) { 1 } else { -1 };
        return Some(if half_up { quotient + one } else { quotient });
    }
    let (a, b) = (i256::from_i128(a), i256::from_i128(b));
    let (a, b) = if shift >= 0 { (a.checked_mul(power(shift)?)?, b) } else { (a, b.checked_mul(power(-shift)?)?) };
    rounded(a, b)?.to_i128()
}

/// Both at the larger scale.
fn aligned(a: i128, b: i128, s1: i32, s2: i32) -> Option<(i256, i256)> {
    let scale = s1.max(s2);
    Some((i256::from_i128(a).checked_mul(power(scale - s1)?)?, i256::from_i128(b).checked_mul(power(scale - s2)?)?))
}

fn remainder(a: i128, b: i128, (s1, s2, to): Scales) -> Option<i128> {
    let (a, b) = aligned(a, b, s1, s2)?;
    rescaled(a.checked_rem(b)?, s1.max(s2), to)?.to_i128()
}

fn positive_remainder(a: i128, b: i128, (s1, s2, to): Scales) -> Option<i128> {
    let (a, b) = aligned(a, b, s1, s2)?;
    let rest = a.checked_rem(b)?;
    let rest = if rest.is_negative() { rest.checked_add(b)?.checked_rem(b)? } else { rest };
    rescaled(rest, s1.max(s2), to)?.to_i128()
}

/// `DIV`: the whole part, of which a bigint keeps the low bits.
fn quotient(arguments: &Arguments) -> Result<ArrayRef> {
    let (left, right, (s1, s2, _)) = operands(arguments, 0)?;
    let values = left.iter().zip(right.iter()).map(|(a, b)| {
        let (a, b) = aligned(a?, b?, s1, s2)?;
        Some(a.checked_div(b)?.as_i128() as i64)
    });
    Ok(Arc::new(values.collect::<Int64Array>()))
}

/// `decimal_average(sum, count, NULL::decimal of the values)`.
fn average_type(fields: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let Some(DataType::Decimal128(precision, scale)) = fields.get(2).map(|field| field.data_type()) else {
        return Err(wrong_call("decimal_average takes a sum, a count and a typed NULL"));
    };
    Ok(DataType::Decimal128((precision + 4).min(DIGITS), (scale + 4).min(DIGITS as i8)))
}

fn average(arguments: &Arguments) -> Result<ArrayRef> {
    let (DataType::Decimal128(precision, to), [sum, count, _]) = (&arguments.result, arguments.arrays.as_slice())
    else {
        return Err(wrong_call("decimal_average takes a sum, a count and a typed NULL"));
    };
    let (DataType::Decimal128(_, scale), DataType::Int64) = (sum.data_type(), count.data_type()) else {
        return Err(wrong_call("decimal_average takes a decimal and a bigint"));
    };
    let limit = 10i128.pow((*precision).into());
    let scales = (i32::from(*scale), 0, i32::from(*to));
    let values = sum.as_primitive::<Decimal128Type>().iter().zip(count.as_primitive::<Int64Type>()).map(|(sum, n)| {
        let value = divide(sum?, n?.into(), scales)?;
        (value < limit && value > -limit).then_some(value)
    });
    Ok(Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(*precision, *to)?))
}

/// A wide decimal as a narrower one of the same scale, or as a bigint; NULL where it does not fit.
fn fit(arguments: &Arguments) -> Result<ArrayRef> {
    let wide = arguments.arrays.first().ok_or_else(|| wrong_call("fit_decimal takes a value and a typed NULL"))?;
    let values: Vec<Option<i128>> = match wide.data_type() {
        DataType::Decimal256(..) => {
            wide.as_primitive::<Decimal256Type>().iter().map(|v| v.and_then(|v| v.to_i128())).collect()
        }
        DataType::Decimal128(..) => wide.as_primitive::<Decimal128Type>().iter().collect(),
        other => return Err(wrong_call(format!("{other} is no decimal"))),
    };
    match arguments.result {
        DataType::Decimal128(precision, scale) => {
            let limit = 10i128.pow(precision.min(DIGITS).into());
            let values = values.into_iter().map(|v| v.filter(|v| *v < limit && *v > -limit));
            Ok(Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(precision, scale)?))
        }
        DataType::Int64 => {
            let values = values.into_iter().map(|v| v.and_then(|v| i64::try_from(v).ok()));
            Ok(Arc::new(values.collect::<Int64Array>()))
        }
        ref other => Err(wrong_call(format!("fit_decimal gives a decimal or a bigint, not {other}"))),
    }
}
