//! Numbers to numbers as Java casts them: integers wrap, floats saturate and lose their fraction, NaN is 0; decimals that do not fit are NULL.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array},
    datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type},
};
use datafusion::common::Result;

use super::arrow_cast;

/// Casts between numeric types.
pub(super) fn to_number(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    match (array.data_type(), to) {
        (DataType::Float64, DataType::Decimal128(precision, scale)) => {
            let values = array.as_primitive::<Float64Type>().iter();
            return decimals(values.map(|v| v.map(|v| format!("{v:e}"))), *precision, *scale);
        }
        (DataType::Float32, DataType::Decimal128(precision, scale)) => {
            let values = array.as_primitive::<Float32Type>().iter();
            return decimals(values.map(|v| v.map(|v| format!("{v:e}"))), *precision, *scale);
        }
        (DataType::Decimal128(_, scale), DataType::Float64) => {
            let values = array.as_primitive::<Decimal128Type>();
            return Ok(Arc::new(values.unary::<_, Float64Type>(|v| to_double(v, *scale))));
        }
        _ => {}
    }
    if !matches!(to, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) {
        return arrow_cast(array, to);
    }
    match array.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let values = arrow_cast(array, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            Ok(match to {
                DataType::Int8 => Arc::new(values.unary::<_, Int8Type>(|v| v as i32 as i8)),
                DataType::Int16 => Arc::new(values.unary::<_, Int16Type>(|v| v as i32 as i16)),
                DataType::Int32 => Arc::new(values.unary::<_, Int32Type>(|v| v as i32)),
                _ => Arc::new(values.unary::<_, Int64Type>(|v| v as i64)),
            })
        }
        DataType::Decimal128(_, scale) => {
            let Some(unit) = u32::try_from(*scale).ok().and_then(|scale| 10i128.checked_pow(scale)) else {
                return arrow_cast(array, to);
            };
            Ok(narrow(&array.as_primitive::<Decimal128Type>().unary(|v| (v / unit) as i64), to))
        }
        DataType::UInt64 | DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
            arrow_cast(array, to)
        }
        _ => Ok(narrow(arrow_cast(array, &DataType::Int64)?.as_primitive::<Int64Type>(), to)),
    }
}

/// Decimals of numbers as texts, half up; a double has the digits that it is shown with.
fn decimals(texts: impl Iterator<Item = Option<String>>, precision: u8, scale: i8) -> Result<ArrayRef> {
    let values = texts.map(|text| read_decimal(&text?, precision, scale));
    Ok(Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(precision, scale)?))
}

/// A number, such as `-1.5e3`, as the digits of a decimal, half up; none if it does not fit, or is no number.
pub(super) fn read_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // How many of the digits count at this scale.
    let kept = i64::from(exponent) + whole.len() as i64 + i64::from(scale);
    let mut value: i128 = 0;
    for (i, digit) in digits().enumerate() {
        if i as i64 >= kept {
            if i as i64 == kept && digit >= b'5' {
                value = value.checked_add(1)?;
            }
            break;
        }
        value = value.checked_mul(10)?.checked_add((digit - b'0').into())?;
    }
    let missing = kept - (whole.len() + fraction.len()) as i64;
    if missing > 0 && value != 0 {
        value = value.checked_mul(10i128.checked_pow(u32::try_from(missing).ok()?)?)?;
    }
    let fits = value < 10i128.checked_pow(precision.into())?;
    fits.then_some(if negative { -value } else { value })
}

/// A decimal as the double next to it.
fn to_double(value: i128, scale: i8) -> f64 {
    // Both are exact in a double, so that one division rounds once.
    if value.unsigned_abs() < 1 << 53 && (0..=22).contains(&scale) {
        return value as f64 / 10f64.powi(scale.into());
    }
    format!("{value}e{}", -i32::from(scale)).parse().unwrap_or(f64::NAN)
}

/// The low bits of integers, as an integer type.
pub(super) fn narrow(values: &Int64Array, to: &DataType) -> ArrayRef {
    match to {
        DataType::Int8 => Arc::new(values.unary::<_, Int8Type>(|v| v as i8)),
        DataType::Int16 => Arc::new(values.unary::<_, Int16Type>(|v| v as i16)),
        DataType::Int32 => Arc::new(values.unary::<_, Int32Type>(|v| v as i32)),
        _ => Arc::new(values.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_half_up() {
        for (text, expected) in [
            ("1.005", Some(101)),
            ("-1.005", Some(-101)),
            ("1.0049999", Some(100)),
            ("1e2", Some(10_000)),
            ("1e3", None),
            ("1.5e-2", Some(2)),
            ("4e-3", Some(0)),
            ("5e-3", Some(1)),
            ("9e-9", Some(0)),
            ("999.994", Some(99_999)),
            ("999.995", None),
            ("1e30", None),
            ("0e30", Some(0)),
            (".5", Some(50)),
            ("5.", Some(500)),
            ("NaN", None),
            ("inf", None),
            (".", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(read_decimal(text, 5, 2), expected, "{text}");
        }
        assert_eq!(to_double(12_345_678_901_234_567_891, 2), 123_456_789_012_345_678.91);
    }
}
