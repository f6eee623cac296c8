//! `round` as in Spark: half up, by a float's decimal digits.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, PrimitiveArray},
    datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type},
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

/// `round(value[, digits])`; digits below 0 round before the point.
pub(crate) fn round() -> Arc<ScalarUDF> {
    Kernel::function(
        "round",
        |types| {
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
        },
        |fields, literals| match (fields.first().map(|field| field.data_type()), literals.get(1)) {
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
        },
        compute,
    )
}

/// Spark's `RoundBase.dataType`: one digit more before the point, for the carry.
fn rounded_decimal(precision: u8, scale: i8, digits: i32) -> DataType {
    let whole = i32::from(precision) - i32::from(scale) + 1;
    let scale = digits.clamp(0, i32::from(scale.max(0)));
    let precision = (whole + scale).clamp(1, 38);
    DataType::Decimal128(precision as u8, scale as i8)
}

fn compute(arguments: &Arguments) -> Result<ArrayRef> {
    let values = &arguments.arrays[0];
    let digits = match arguments.arrays.get(1) {
        Some(digits) => digits.as_primitive::<Int32Type>().clone(),
        None => Int32Array::from(vec![0; values.len()]),
    };
    Ok(match values.data_type() {
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            Arc::new(zip(values, &digits, |v, d| Some(round_float(v, d))).collect::<PrimitiveArray<Float64Type>>())
        }
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>();
            Arc::new(
                zip(values, &digits, |v, d| Some(round_digits(&format!("{v:e}"), d) as f32))
                    .collect::<PrimitiveArray<Float32Type>>(),
            )
        }
        DataType::Decimal128(_, scale) => {
            let DataType::Decimal128(precision, to_scale) = arguments.result else {
                return Err(wrong_call("round gives a decimal"));
            };
            let (scale, to_scale) = (i32::from(*scale), i32::from(to_scale));
            let values = values.as_primitive::<Decimal128Type>();
            let rounded = zip(values, &digits, |v, d| {
                let cut = round_integer(v, scale - d.min(scale))?;
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
            let rounded =
                zip(wide.as_primitive::<Int64Type>(), &digits, |v, d| i64::try_from(round_integer(v.into(), -d)?).ok());
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

/// Rounds half away from zero at a power of ten; none on overflow.
fn round_integer(value: i128, places: i32) -> Option<i128> {
    let Ok(places) = u32::try_from(places) else { return Some(value) };
    let Some(unit) = 10i128.checked_pow(places) else { return Some(0) };
    let half = unit / 2;
    let shifted = if value < 0 { value.checked_sub(half)? } else { value.checked_add(half)? };
    Some(shifted / unit * unit)
}

/// The float's shortest decimal form, rounded half up.
fn round_float(value: f64, digits: i32) -> f64 {
    // Binary arithmetic is right unless the value is close to a half, as 1.005 is.
    if (0..=15).contains(&digits) {
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
    round_digits(&format!("{value:e}"), digits)
}

/// Rounds a number in scientific form, such as `1.005e0`.
fn round_digits(text: &str, digits: i32) -> f64 {
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
    match round_integer(unscaled, places) {
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
            assert_eq!(round_float(value, digits), expected, "{value}, {digits}");
        }
        assert!(round_float(f64::NAN, 2).is_nan());
        assert_eq!(round_integer(25, 1), Some(30));
        assert_eq!(round_integer(-25, 1), Some(-30));
        assert_eq!(round_integer(i128::MAX, 1), None);
        assert_eq!(round_integer(7, 60), Some(0));
    }

    proptest! {
        /// The quick way gives what the digits give.
        #[test]
        fn quick_and_exact_agree(value in -1e9f64..1e9, digits in 0i32..7) {
            prop_assert_eq!(round_float(value, digits), round_digits(&format!("{value:e}"), digits));
        }

        #[test]
        fn nothing_panics(value: f64, digits: i32) {
            round_float(value, digits);
        }
    }
}
