//! Functions of numbers that no crate computes as Spark does.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray},
    datatypes::{Float64Type, Int64Type},
};
use datafusion::{common::Result, logical_expr::ScalarUDF};

use super::args::{gives_double, gives_long, gives_text, kernel};
use crate::sql::kernel::Arguments;

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        kernel!("conv", [Text, Int, Int], [], gives_text, |arguments| {
            arguments.texts(|row| conv(arguments.text(0, row)?, arguments.int(1, row)?, arguments.int(2, row)?))
        }),
        kernel!("bin", [Long], [], gives_text, |arguments| {
            arguments.texts(|row| Some(format!("{:b}", arguments.long(0, row)?)))
        }),
        kernel!("log1p", [Double], [], gives_double, |arguments| {
            arguments.values::<Float64Type>(|row| {
                arguments.double(0, row).filter(|x| *x > -1.0 || x.is_nan()).map(f64::ln_1p)
            })
        }),
        kernel!("sqrt", [Double], [], gives_double, |arguments| each(arguments, f64::sqrt)),
        kernel!("cbrt", [Double], [], gives_double, |arguments| each(arguments, f64::cbrt)),
        kernel!("expm1", [Double], [], gives_double, |arguments| each(arguments, f64::exp_m1)),
        kernel!("rint", [Double], [], gives_double, |arguments| each(arguments, f64::round_ties_even)),
        kernel!("cot", [Double], [], gives_double, |arguments| each(arguments, |x| 1.0 / x.tan())),
        kernel!("sec", [Double], [], gives_double, |arguments| each(arguments, |x| 1.0 / x.cos())),
        kernel!("csc", [Double], [], gives_double, |arguments| each(arguments, |x| 1.0 / x.sin())),
        kernel!("sinh", [Double], [], gives_double, |arguments| each(arguments, f64::sinh)),
        kernel!("cosh", [Double], [], gives_double, |arguments| each(arguments, f64::cosh)),
        kernel!("tanh", [Double], [], gives_double, |arguments| each(arguments, f64::tanh)),
        kernel!("asinh", [Double], [], gives_double, |arguments| each(arguments, f64::asinh)),
        kernel!("acosh", [Double], [], gives_double, |arguments| each(arguments, f64::acosh)),
        kernel!("atanh", [Double], [], gives_double, |arguments| each(arguments, f64::atanh)),
        kernel!("acos", [Double], [], gives_double, |arguments| each(arguments, f64::acos)),
        kernel!("asin", [Double], [], gives_double, |arguments| each(arguments, f64::asin)),
        kernel!("hypot", [Double, Double], [], gives_double, |arguments| {
            arguments.values::<Float64Type>(|row| Some(arguments.double(0, row)?.hypot(arguments.double(1, row)?)))
        }),
        kernel!("factorial", [Int], [], gives_long, |arguments| {
            arguments.values::<Int64Type>(|row| {
                let n = arguments.int(0, row)?;
                (0..=20).contains(&n).then(|| (1..=i64::from(n)).product())
            })
        }),
        kernel!("width_bucket", [Double, Double, Double, Long], [], gives_long, |arguments| {
            arguments.values::<Int64Type>(|row| {
                let [value, low, high] = [0, 1, 2].map(|i| arguments.double(i, row));
                width_bucket(value?, low?, high?, arguments.long(3, row)?)
            })
        }),
        kernel!("nanvl", [Double, Double], [], gives_double, |arguments| {
            arguments.values::<Float64Type>(|row| {
                let value = arguments.double(0, row)?;
                if value.is_nan() { arguments.double(1, row) } else { Some(value) }
            })
        }),
        kernel!("isnan", [Double], [], super::args::gives_boolean, |arguments| {
            arguments.booleans(|row| Some(arguments.double(0, row).is_some_and(f64::is_nan)))
        }),
    ]
}

fn each(arguments: &Arguments, of: fn(f64) -> f64) -> Result<ArrayRef> {
    Ok(Arc::new(arguments.arrays[0].as_primitive::<Float64Type>().unary::<_, Float64Type>(of)))
}

/// A number of one base in another; bases below 0 give a sign. What overflows is the greatest number of 64 bits.
fn conv(text: &str, from: i32, to: i32) -> Option<String> {
    let is_base = |base: i32| (2..=36).contains(&base);
    if !is_base(from) || !is_base(to.saturating_abs()) {
        return None;
    }
    let text = text.trim_matches(' ');
    if text.is_empty() {
        return None;
    }
    let (mut negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (mut value, mut fits) = (0u64, true);
    for digit in digits.chars().map_while(|c| c.to_digit(from as u32)) {
        let next = value.checked_mul(from as u64).and_then(|value| value.checked_add(digit.into()));
        fits &= next.is_some();
        value = if fits { next.unwrap_or(u64::MAX) } else { u64::MAX };
    }
    if negative && to > 0 {
        value = if (value as i64) < 0 { u64::MAX } else { value.wrapping_neg() };
    }
    if to < 0 && (value as i64) < 0 {
        value = value.wrapping_neg();
        negative = true;
    }
    let mut out = Vec::new();
    let base = u64::from(to.unsigned_abs());
    while value > 0 || out.is_empty() {
        out.push(char::from_digit((value % base) as u32, base as u32)?.to_ascii_uppercase());
        value /= base;
    }
    if negative && to < 0 {
        out.push('-');
    }
    Some(out.into_iter().rev().collect())
}

/// Which of so many equal parts of a range a value is in, from 1; 0 and one more than there are lie outside.
fn width_bucket(value: f64, low: f64, high: f64, count: i64) -> Option<i64> {
    let usable = count > 0 && count < i64::MAX && !value.is_nan() && low.is_finite() && high.is_finite() && low != high;
    if !usable {
        return None;
    }
    let (lower, upper) = (low.min(high), low.max(high));
    let is_up = low < high;
    Some(if value < lower {
        if is_up { 0 } else { count + 1 }
    } else if value >= upper && is_up {
        count + 1
    } else if value > upper {
        0
    } else if is_up {
        (count as f64 * (value - lower) / (upper - lower)) as i64 + 1
    } else {
        (count as f64 * (upper - value) / (upper - lower)) as i64 + 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_changed_as_in_spark() {
        for (text, from, to, expected) in [
            ("100", 2, 10, Some("4")),
            ("-10", 16, -10, Some("-16")),
            ("zz", 36, 10, Some("1295")),
            ("", 10, 16, None),
            ("12x", 10, 16, Some("C")),
            ("x", 10, 16, Some("0")),
            ("-1", 10, 16, Some("FFFFFFFFFFFFFFFF")),
            ("1", 1, 10, None),
            ("99999999999999999999", 10, 10, Some("18446744073709551615")),
            ("-99999999999999999999", 10, -10, Some("-1")),
            ("7", 8, -2, Some("111")),
        ] {
            assert_eq!(conv(text, from, to).as_deref(), expected, "{text} {from} {to}");
        }
        assert_eq!(width_bucket(5.3, 0.2, 10.6, 5), Some(3));
        assert_eq!(width_bucket(5.0, 10.0, 0.0, 5), Some(3));
        assert_eq!(width_bucket(11.0, 0.0, 10.0, 5), Some(6));
        assert_eq!(width_bucket(5.0, 0.0, 0.0, 5), None);
    }
}
