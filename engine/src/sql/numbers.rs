//! `round`, `bround`, and `ceil` and `floor` with a number of digits, as in Spark: by a float's decimal digits.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, PrimitiveArray},
    datatypes::{DataType, Decimal128Type, FieldRef, Float32Type, Float64Type, Int32Type, Int64Type},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::ScalarUDF,
};

use super::{
    cast::cast,
    kernel::{Arguments, Kernel, wrong_call},
    time::zone::Zone,
    types::type_name,
};

/// Where a value between two goes.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    HalfUp,
    HalfEven,
    Up,
    Down,
}

/// Functions of a value and a number of digits; digits below 0 round before the point.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Kernel::function("round", accept, give, |arguments| compute(arguments, Mode::HalfUp)),
        Kernel::function("bround", accept, give, |arguments| compute(arguments, Mode::HalfEven)),
        Kernel::function("ceil_digits", accept, give, |arguments| compute(arguments, Mode::Up)),
        Kernel::function("floor_digits", accept, give, |arguments| compute(arguments, Mode::Down)),
    ]
}

fn accept(types: &[DataType]) -> Result<Vec<DataType>> {
    let [value, digits @ ..] = types else {
        return Err(wrong_call("round takes a number and, if needed, a number of digits"));
    };
    if digits.len() > 1 {
        return Err(wrong_call("round takes a number and, if needed, a number of digits"));
    }
    let value = match value {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null | DataType::Float16 => {
            DataType::Float64
        }
        number if number.is_numeric() => number.clone(),
        other => return Err(wrong_call(format!("round takes a number, not {}", type_name(other)))),
    };
    Ok(if digits.is_empty() { vec![value] } else { vec![value, DataType::Int32] })
}

fn give(fields: &[FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    match (fields.first().map(|field| field.data_type()), literals.get(1)) {
        (Some(DataType::Decimal128(precision, scale)), digits) => {
            let digits = match digits {
                None => 0,
                Some(Some(literal)) => match literal.cast_to(&DataType::Int32)? {
                    ScalarValue::Int32(Some(digits)) => digits,
                    _ => 0,
                },
                Some(None) => return Err(wrong_call("round of a decimal needs its number of digits as a literal")),
            };
            Ok(rounded_decimal(*precision, *scale, digits))
        }
        (Some(other), _) => Ok(other.clone()),
        (None, _) => Err(wrong_call("round takes a number")),
    }
}

/// Spark's `RoundBase.dataType`: one digit more before the point, for the carry.
fn rounded_decimal(precision: u8, scale: i8, digits: i32) -> DataType {
    let whole = (i32::from(precision) - i32::from(scale) + 1).max(1 - digits);
    let scale = digits.clamp(0, i32::from(scale.max(0)));
    let precision = (whole + scale).clamp(1, 38);
    DataType::Decimal128(precision as u8, scale as i8)
}

fn compute(arguments: &Arguments, mode: Mode) -> Result<ArrayRef> {
    let values = &arguments.arrays[0];
    let digits = match arguments.arrays.get(1) {
        Some(digits) => digits.as_primitive::<Int32Type>().clone(),
        None => Int32Array::from(vec![0; values.len()]),
    };
    Ok(match values.data_type() {
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            Arc::new(
                zip(values, &digits, move |v, d| Some(round_float(v, d, mode)))
                    .collect::<PrimitiveArray<Float64Type>>(),
            )
        }
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>();
            Arc::new(
                zip(values, &digits, move |v, d| Some(round_digits(&format!("{v:e}"), d, mode) as f32))
                    .collect::<PrimitiveArray<Float32Type>>(),
            )
        }
        DataType::Decimal128(_, scale) => {
            let DataType::Decimal128(precision, to_scale) = arguments.result else {
                return Err(wrong_call("round gives a decimal"));
            };
            let (scale, to_scale) = (i32::from(*scale), i32::from(to_scale));
            let values = values.as_primitive::<Decimal128Type>();
            let rounded = zip(values, &digits, move |v, d| {
                let cut = round_integer(v, scale - d.min(scale), mode)?;
                // Back from the old scale to the new one: what is cut off is zeros by now.
                Some(cut / 10i128.checked_pow((scale - to_scale).max(0) as u32)?)
            });
            Arc::new(
                rounded
                    .collect::<PrimitiveArray<Decimal128Type>>()
                    .with_precision_and_scale(precision, to_scale as i8)?,
            )
        }
        other if other.is_integer() => {
            let wide = cast(values, &DataType::Int64, Zone::UTC)?;
            let rounded = zip(wide.as_primitive::<Int64Type>(), &digits, move |v, d| {
                i64::try_from(round_integer(v.into(), -d, mode)?).ok()
            });
            cast(&(Arc::new(rounded.collect::<PrimitiveArray<Int64Type>>()) as ArrayRef), other, Zone::UTC)?
        }
        other => return Err(wrong_call(format!("round takes a number, not {}", type_name(other)))),
    })
}

fn zip<'a, T: arrow::datatypes::ArrowPrimitiveType, R>(
    values: &'a PrimitiveArray<T>,
    digits: &'a Int32Array,
    round: impl Fn(T::Native, i32) -> Option<R> + 'a,
) -> impl Iterator<Item = Option<R>> + 'a {
    values.iter().zip(digits).map(move |(value, digits)| round(value?, digits?))
}

/// Rounds at a power of ten; none on overflow.
fn round_integer(value: i128, places: i32, mode: Mode) -> Option<i128> {
    let Ok(places) = u32::try_from(places) else { return Some(value) };
    let Some(unit) = 10i128.checked_pow(places) else { return Some(0) };
    let (whole, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
    let up = match mode {
        Mode::Up => rest > 0,
        Mode::Down => false,
        // Half up is away from zero.
        Mode::HalfUp if value < 0 => rest > unit / 2,
        Mode::HalfUp => rest >= unit - unit / 2,
        Mode::HalfEven => rest > unit / 2 || (rest == unit / 2 && unit > 1 && whole % 2 != 0),
    };
    whole.checked_add(i128::from(up))?.checked_mul(unit)
}

/// The float's shortest decimal form, rounded half up.
fn round_float(value: f64, digits: i32, mode: Mode) -> f64 {
    // Binary arithmetic is right unless the value is close to a half, as 1.005 is.
    if mode == Mode::HalfUp && (0..=15).contains(&digits) {
        let unit = 10f64.powi(digits);
        let scaled = value * unit;
        let fraction = (scaled - scaled.trunc()).abs();
        if scaled.abs() < 1e15 && (fraction - 0.5).abs() > 1e-3 {
            let rounded = scaled.round() / unit;
            if scaled.abs() < 1e11 {
                return rounded;
            }
        }
    }
    round_digits(&format!("{value:e}"), digits, mode)
}

/// Rounds a number in scientific form, such as `1.005e0`.
fn round_digits(text: &str, digits: i32, mode: Mode) -> f64 {
    let fallback = || text.parse().unwrap_or(f64::NAN);
    let Some((mantissa, exponent)) = text.split_once('e') else { return fallback() };
    let Ok(exponent) = exponent.parse::<i32>() else { return fallback() };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let Ok(unscaled) = format!("{whole}{fraction}").parse::<i128>() else { return fallback() };
    // value = unscaled × 10^-scale
    let scale = (fraction.len() as i32).saturating_sub(exponent);
    let places = scale.saturating_sub(digits);
    if places <= 0 {
        return fallback();
    }
    match round_integer(unscaled, places, mode) {
        Some(rounded) => format!("{rounded}e{}", -scale).parse().unwrap_or_else(|_| fallback()),
        None => fallback(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_go_away_from_zero() {
        for (value, digits, expected) in [
            (1.005, 2, 1.01),
            (2.5, 0, 3.0),
            (-2.5, 0, -3.0),
            (0.285, 2, 0.29),
            (1.45, 1, 1.5),
            (722.266836, 2, 722.27),
            (1234.5, -2, 1200.0),
            (1250.0, -2, 1300.0),
            (1e300, 2, 1e300),
            (1e-300, 2, 0.0),
            (0.000_001_5, 6, 0.000_002),
            (f64::INFINITY, 2, f64::INFINITY),
        ] {
            assert_eq!(round_float(value, digits, Mode::HalfUp), expected, "{value}, {digits}");
        }
        assert!(round_float(f64::NAN, 2, Mode::HalfUp).is_nan());
        for (value, mode, expected) in [
            (25, Mode::HalfUp, 30),
            (-25, Mode::HalfUp, -30),
            (-26, Mode::HalfUp, -30),
            (-24, Mode::HalfUp, -20),
            (24, Mode::HalfUp, 20),
            (25, Mode::HalfEven, 20),
            (35, Mode::HalfEven, 40),
            (-25, Mode::HalfEven, -20),
            (-35, Mode::HalfEven, -40),
            (21, Mode::Up, 30),
            (-29, Mode::Up, -20),
            (29, Mode::Down, 20),
            (-21, Mode::Down, -30),
            (20, Mode::Up, 20),
        ] {
            assert_eq!(round_integer(value, 1, mode), Some(expected), "{value}");
            assert_eq!(round_integer(value, 0, mode), Some(value));
        }
        assert_eq!(round_integer(i128::MAX, 1, Mode::HalfUp), None);
        assert_eq!(round_integer(7, 60, Mode::HalfUp), Some(0));
    }

    proptest! {
        /// The quick way gives what the digits give.
        #[test]
        fn quick_and_exact_agree(value in -1e9f64..1e9, digits in 0i32..7) {
            prop_assert_eq!(round_float(value, digits, Mode::HalfUp), round_digits(&format!("{value:e}"), digits, Mode::HalfUp));
        }

        #[test]
        fn nothing_panics(value: f64, digits: i32) {
            round_float(value, digits, Mode::HalfEven);
        }
    }
}
