//! Intervals: their parts, order and arithmetic.
//!
//! A literal is Arrow's months, days and nanoseconds, a difference of timestamps is a duration. Spark's have either months or microseconds, and a day
//! in them is 24 hours. A difference of dates is Spark's `interval day`, which counts days where it becomes a number: a duration in whole seconds
//! ([`DAYS`]) is such a one, and nothing else is.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{Array, ArrayRef, AsArray, Decimal128Array, Int8Array, Int32Array, Int64Array, ListArray, PrimitiveArray},
    compute::cast as plain_cast,
    datatypes::{
        DataType, Date32Type, DurationMicrosecondType, DurationSecondType, Float64Type, Int64Type,
        IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    },
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{Expr, Operator, ScalarUDF, binary_expr, cast},
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    calls::{SparkPlanner, is_text},
    kernel::{Arguments, Kernel, wrong_call},
    time::{
        calendar::{DAY, SECOND},
        zone::Zone,
    },
    types::{list_of, timestamp},
};

/// The type of Spark's `interval day`.
pub(super) const DAYS: DataType = DataType::Duration(TimeUnit::Second);

static ORDER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Kernel::function(
        "interval_order",
        |types| Ok(types.to_vec()),
        |_, _| Ok(DataType::Int64),
        |arguments| Ok(Arc::new(orders(&arguments.arrays[0])?)),
    )
});

/// Functions that travel.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::clone(&ORDER),
        Kernel::function("interval_part", |types| Ok(types.to_vec()), part_type, part),
        Kernel::function(
            "interval_multiply",
            scaled_by,
            |_, _| Ok(months_days_nanos()),
            |a| scale(a, |value, by| value * by),
        ),
        Kernel::function(
            "interval_divide",
            scaled_by,
            |_, _| Ok(months_days_nanos()),
            |a| scale(a, |value, by| value / by),
        ),
        Kernel::function(
            "interval_months",
            |types| Ok(types.to_vec()),
            |_, _| Ok(DataType::Int64),
            |arguments| {
                let months = parts(&arguments.arrays[0])?.into_iter().map(|v| v.map(|(months, _)| months));
                Ok(Arc::new(months.collect::<Int64Array>()))
            },
        ),
        Kernel::function(
            "interval_micros",
            |types| Ok(types.to_vec()),
            |_, _| Ok(DataType::Int64),
            |arguments| {
                let micros = parts(&arguments.arrays[0])?.into_iter().map(|v| v.map(|(_, micros)| micros));
                Ok(Arc::new(micros.collect::<Int64Array>()))
            },
        ),
        Kernel::function("interval_of", |types| Ok(types.to_vec()), of_type, of_parts),
        Kernel::function(
            "interval_quotient",
            |types| Ok(types.to_vec()),
            |_, _| Ok(DataType::Int64),
            |arguments| {
                let [left, right] = [orders(&arguments.arrays[0])?, orders(&arguments.arrays[1])?];
                let values = left.iter().zip(&right).map(|(l, r)| l?.checked_div(r?));
                Ok(Arc::new(values.collect::<Int64Array>()))
            },
        ),
        Kernel::function(
            "date_difference",
            |types| Ok(types.to_vec()),
            |_, _| Ok(DAYS),
            |arguments| {
                let [left, right] =
                    [&arguments.arrays[0], &arguments.arrays[1]].map(|a| a.as_primitive::<Date32Type>());
                let values =
                    left.iter().zip(right).map(|(l, r)| Some((i64::from(l?) - i64::from(r?)) * (DAY / SECOND)));
                Ok(Arc::new(values.collect::<PrimitiveArray<DurationSecondType>>()))
            },
        ),
        Kernel::function(
            "second_fraction",
            |types| Ok(types.to_vec()),
            |_, _| Ok(DataType::Decimal128(8, 6)),
            |arguments| {
                let micros = super::cast::instants(&arguments.arrays[0], Zone::UTC)?;
                let seconds = micros.iter().map(|v| v.map(|v| i128::from(v.rem_euclid(60_000_000))));
                Ok(Arc::new(seconds.collect::<Decimal128Array>().with_precision_and_scale(8, 6)?))
            },
        ),
    ]
}

fn months_days_nanos() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}

pub(super) fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// An integer in the intervals' order: microseconds, of which a month has those of 30 days.
pub(super) fn order(expr: Expr) -> Expr {
    ORDER.call(vec![expr])
}

/// Months and microseconds of each interval.
fn parts(array: &ArrayRef) -> Result<Vec<Option<(i64, i64)>>> {
    if let DataType::Duration(_) = array.data_type() {
        let micros = plain_cast(array, &DataType::Duration(TimeUnit::Microsecond))?;
        return Ok(micros.as_primitive::<DurationMicrosecondType>().iter().map(|v| v.map(|v| (0, v))).collect());
    }
    let intervals = plain_cast(array, &months_days_nanos())?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    Ok(intervals.iter().map(|v| v.map(|v| (v.months.into(), i64::from(v.days) * DAY + v.nanoseconds / 1000))).collect())
}

fn orders(array: &ArrayRef) -> Result<Int64Array> {
    Ok(parts(array)?
        .into_iter()
        .map(|v| v.map(|(months, micros)| (months * 30 * DAY).saturating_add(micros)))
        .collect())
}

/// `interval_of(months, microseconds)`: an interval, or an array of them for two arrays.
fn of_type(fields: &[arrow::datatypes::FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match fields.first().map(|field| field.data_type()) {
        Some(DataType::List(_)) => list_of(months_days_nanos(), true),
        _ => months_days_nanos(),
    })
}

fn of_parts(arguments: &Arguments) -> Result<ArrayRef> {
    let [months, micros] = [&arguments.arrays[0], &arguments.arrays[1]];
    let (DataType::List(_), DataType::List(item)) = (months.data_type(), &arguments.result) else {
        return intervals_of(months, micros);
    };
    let (months, micros) = (months.as_list::<i32>(), micros.as_list::<i32>());
    let values = intervals_of(months.values(), micros.values())?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), months.offsets().clone(), values, months.nulls().cloned())?))
}

fn intervals_of(months: &ArrayRef, micros: &ArrayRef) -> Result<ArrayRef> {
    let [months, micros] = [plain_cast(months, &DataType::Int64)?, plain_cast(micros, &DataType::Int64)?];
    let values = months.as_primitive::<Int64Type>().iter().zip(micros.as_primitive::<Int64Type>());
    let values = values.map(|(months, micros)| {
        let (months, micros) = (i32::try_from(months?).ok()?, micros?);
        Some(IntervalMonthDayNano::new(months, i32::try_from(micros / DAY).ok()?, (micros % DAY).checked_mul(1000)?))
    });
    Ok(Arc::new(values.collect::<PrimitiveArray<IntervalMonthDayNanoType>>()))
}

fn unit_of(literal: Option<&ScalarValue>) -> &str {
    literal.and_then(|unit| unit.try_as_str()).flatten().unwrap_or_default()
}

fn part_type(_: &[arrow::datatypes::FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match unit_of(literals.get(1).copied().flatten()) {
        "year" | "day" => DataType::Int32,
        "month" | "hour" | "minute" => DataType::Int8,
        "second" => DataType::Decimal128(8, 6),
        other => return Err(wrong_call(format!("an interval has no part `{other}`"))),
    })
}

fn part(arguments: &Arguments) -> Result<ArrayRef> {
    let unit = ScalarValue::try_from_array(&arguments.arrays[1], 0)?;
    let values = parts(&arguments.arrays[0])?;
    let in_hour = |micros: i64, unit: i64, count: i64| (micros / unit % count) as i8;
    Ok(match unit_of(Some(&unit)) {
        "year" => Arc::new(values.iter().map(|v| v.map(|(months, _)| (months / 12) as i32)).collect::<Int32Array>()),
        "month" => Arc::new(values.iter().map(|v| v.map(|(months, _)| (months % 12) as i8)).collect::<Int8Array>()),
        "day" => Arc::new(values.iter().map(|v| v.map(|(_, micros)| (micros / DAY) as i32)).collect::<Int32Array>()),
        "hour" => Arc::new(values.iter().map(|v| v.map(|(_, m)| in_hour(m, 3_600_000_000, 24))).collect::<Int8Array>()),
        "minute" => Arc::new(values.iter().map(|v| v.map(|(_, m)| in_hour(m, 60_000_000, 60))).collect::<Int8Array>()),
        _ => {
            let seconds = values.iter().map(|v| v.map(|(_, micros)| i128::from(micros % 60_000_000)));
            Arc::new(seconds.collect::<Decimal128Array>().with_precision_and_scale(8, 6)?)
        }
    })
}

fn scaled_by(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [interval, _] => Ok(vec![interval.clone(), DataType::Float64]),
        _ => Err(wrong_call("an interval is multiplied or divided by one number")),
    }
}

/// Months and microseconds are scaled each, and rounded half up; NULL is what does not fit, and what is divided by zero.
fn scale(arguments: &Arguments, operation: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let by = arguments.arrays[1].as_primitive::<Float64Type>();
    let values = parts(&arguments.arrays[0])?;
    let values = values.into_iter().zip(by).map(|(value, by)| {
        let ((months, micros), by) = (value?, by?);
        let [months, micros] = [months, micros].map(|v| operation(v as f64, by).round());
        if !months.is_finite() || !micros.is_finite() || months.abs() > f64::from(i32::MAX) || micros.abs() > 9e18 {
            return None;
        }
        let micros = micros as i64;
        let nanos = (micros % DAY).checked_mul(1000)?;
        Some(IntervalMonthDayNano::new(months as i32, i32::try_from(micros / DAY).ok()?, nanos))
    });
    Ok(Arc::new(values.collect::<PrimitiveArray<IntervalMonthDayNanoType>>()))
}

/// Plans arithmetic of intervals, and differences of dates.
pub(super) fn plan(
    planner: &SparkPlanner,
    op: &BinaryOperator,
    left: &Expr,
    right: &Expr,
    [l, r]: [&DataType; 2],
) -> Result<Option<Expr>> {
    let call = |name: &str, args: Vec<Expr>| match planner.functions.get(name) {
        Some(function) => Ok(Some(function.call(args))),
        None => Err(wrong_call(format!("there is no function `{name}`"))),
    };
    let is_number = |t: &DataType| t.is_numeric() || is_text(t) || t.is_null();
    match (op, l, r) {
        (BinaryOperator::Minus, DataType::Date32, DataType::Date32) => {
            call("date_difference", vec![left.clone(), right.clone()])
        }
        (BinaryOperator::Plus, interval, DataType::Date32) if is_interval(interval) => {
            plan(planner, op, right, left, [r, l])
        }
        (BinaryOperator::Plus | BinaryOperator::Minus, DataType::Date32, interval) if is_interval(interval) => {
            let has_time = match right {
                Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => interval.nanoseconds != 0,
                _ => *interval == DataType::Duration(TimeUnit::Microsecond),
            };
            let added = if *interval == DAYS { cast(right.clone(), months_days_nanos()) } else { right.clone() };
            let date = if has_time { cast(left.clone(), timestamp()) } else { left.clone() };
            let operator = if *op == BinaryOperator::Plus { Operator::Plus } else { Operator::Minus };
            Ok(Some(binary_expr(date, operator, added)))
        }
        (BinaryOperator::Plus | BinaryOperator::Minus, DataType::Timestamp(..), days) if *days == DAYS => {
            let operator = if *op == BinaryOperator::Plus { Operator::Plus } else { Operator::Minus };
            Ok(Some(binary_expr(left.clone(), operator, cast(right.clone(), months_days_nanos()))))
        }
        (BinaryOperator::Plus, days, DataType::Timestamp(..)) if *days == DAYS => {
            plan(planner, op, right, left, [r, l])
        }
        (BinaryOperator::Plus | BinaryOperator::Minus, a, b) if is_interval(a) && is_interval(b) && a != b => {
            let wide = |expr: &Expr, t: &DataType| {
                if *t == months_days_nanos() { expr.clone() } else { cast(expr.clone(), months_days_nanos()) }
            };
            let operator = if *op == BinaryOperator::Plus { Operator::Plus } else { Operator::Minus };
            Ok(Some(binary_expr(wide(left, a), operator, wide(right, b))))
        }
        (BinaryOperator::Multiply, interval, number) if is_interval(interval) && is_number(number) => {
            call("interval_multiply", vec![left.clone(), cast(right.clone(), DataType::Float64)])
        }
        (BinaryOperator::Multiply, number, interval) if is_interval(interval) && is_number(number) => {
            call("interval_multiply", vec![right.clone(), cast(left.clone(), DataType::Float64)])
        }
        (BinaryOperator::Divide, interval, number) if is_interval(interval) && is_number(number) => {
            call("interval_divide", vec![left.clone(), cast(right.clone(), DataType::Float64)])
        }
        (BinaryOperator::MyIntegerDivide, a, b) if is_interval(a) && is_interval(b) => {
            call("interval_quotient", vec![left.clone(), right.clone()])
        }
        _ => Ok(None),
    }
}
