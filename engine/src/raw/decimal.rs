//! Decimals out of text that Arrow's parser does not take and Spark does: exponents, and commas between digits.

/// The value of a decimal with so many digits, of which `scale` are behind the point, rounded half up; none if the text is no number, or too large.
pub(crate) fn parse(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mantissa, exponent) = match rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&rest[..at], std::str::from_utf8(&rest[at + 1..]).ok()?.parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (mut digits, mut behind, mut point) = (Vec::with_capacity(mantissa.len()), 0i64, false);
    for byte in mantissa {
        match byte {
            b'0'..=b'9' => {
                digits.push(byte - b'0');
                behind += i64::from(point);
            }
            b'.' if !point => point = true,
            b',' => {}
            _ => return None,
        }
    }
    if digits.is_empty() {
        return None;
    }
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..leading);
    if digits.is_empty() {
        return Some(0);
    }
    // Digits that are to be added, or to go.
    let shift = exponent.checked_sub(behind)?.checked_add(i64::from(scale))?;
    let length = i64::try_from(digits.len()).ok()?;
    if length.checked_add(shift)? > i64::from(precision) {
        return None;
    }
    let kept = usize::try_from((length + shift.min(0)).max(0)).ok()?;
    let up = shift < 0 && length + shift >= 0 && digits.get(kept).is_some_and(|digit| *digit >= 5);
    let number =
        digits.iter().take(kept).try_fold(0i128, |n, digit| n.checked_mul(10)?.checked_add((*digit).into()))?;
    let number = number.checked_mul(10i128.checked_pow(u32::try_from(shift.max(0)).ok()?)?)?;
    let number = number.checked_add(up.into())?;
    let fits = number < 10i128.checked_pow(precision.into())?;
    fits.then_some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_what_spark_takes_them_for() {
        for (text, expected) in [
            ("1e3", Some(100_000)),
            ("1.5E-2", Some(2)),
            ("-1.5E-2", Some(-2)),
            ("+2E1", Some(2000)),
            ("1,234.50", Some(123_450)),
            ("2.675", Some(268)),
            ("0.0049999", Some(0)),
            ("1e-300", Some(0)),
            ("9e-3", Some(1)),
            ("5e-3", Some(1)),
            ("49e-4", Some(0)),
            ("0e99999", Some(0)),
            ("999999.99", Some(99_999_999)),
            ("999999.995", None),
            ("1e30", None),
            ("1e999999999999999999999", None),
            ("1e", None),
            ("e5", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("abc", None),
        ] {
            assert_eq!(parse(text, 8, 2), expected, "{text}");
        }
        assert_eq!(parse("1e37", 38, 0), Some(10i128.pow(37)));
        assert_eq!(parse("1e38", 38, 0), None);
    }
}
