//! Texts to values. Space around a value does not count; what is no value of the type is NULL.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, NullBufferBuilder, PrimitiveArray,
        StringArray,
    },
    datatypes::{
        DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        TimestampMicrosecondType,
    },
};
use datafusion::common::Result;

use super::{arrow_cast, moment, number::read_decimal};
use crate::sql::time::{
    iso::{read_date, read_timestamp},
    zone::Zone,
};

/// Casts texts to a type.
pub(super) fn from_text(array: &ArrayRef, to: &DataType, session: Zone) -> Result<ArrayRef> {
    let array = arrow_cast(array, &DataType::Utf8)?;
    let texts = array.as_string::<i32>();
    Ok(match to {
        DataType::Int8 => parse::<Int8Type>(texts, |text| read_integer(text).and_then(|v| v.try_into().ok())),
        DataType::Int16 => parse::<Int16Type>(texts, |text| read_integer(text).and_then(|v| v.try_into().ok())),
        DataType::Int32 => parse::<Int32Type>(texts, |text| read_integer(text).and_then(|v| v.try_into().ok())),
        DataType::Int64 => parse::<Int64Type>(texts, read_integer),
        DataType::Float32 => parse::<Float32Type>(texts, |text| float_text(text).parse().ok()),
        DataType::Float64 => parse::<Float64Type>(texts, |text| float_text(text).parse().ok()),
        DataType::Boolean => Arc::new(texts.iter().map(|text| text.and_then(read_boolean)).collect::<BooleanArray>()),
        DataType::Date32 => parse::<Date32Type>(texts, |text| read_date(text.as_bytes())),
        DataType::Timestamp(_, zone) => {
            let clock = if zone.is_some() { session } else { Zone::UTC };
            let instants = read_timestamps(texts, clock);
            moment::as_type(&instants, to)?
        }
        DataType::Decimal128(precision, scale) => {
            let values = texts.iter().map(|text| read_decimal(text?.trim(), *precision, *scale));
            Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale)?)
        }
        _ => arrow_cast(&array, to)?,
    })
}

/// Instants of texts, microseconds UTC.
pub(super) fn read_timestamps(texts: &StringArray, session: Zone) -> PrimitiveArray<TimestampMicrosecondType> {
    primitives(texts, |text| read_timestamp(text.as_bytes(), session))
}

fn parse<T: ArrowPrimitiveType>(texts: &StringArray, read: impl Fn(&str) -> Option<T::Native>) -> ArrayRef {
    Arc::new(primitives::<T>(texts, read))
}

fn primitives<T: ArrowPrimitiveType>(
    texts: &StringArray,
    read: impl Fn(&str) -> Option<T::Native>,
) -> PrimitiveArray<T> {
    let mut values = Vec::with_capacity(texts.len());
    let mut valid = NullBufferBuilder::new(texts.len());
    for text in texts {
        let value = text.and_then(&read);
        valid.append(value.is_some());
        values.push(value.unwrap_or_default());
    }
    PrimitiveArray::new(values.into(), valid.finish())
}

/// Spark's `UTF8String.toLong`: a sign, digits, and a fraction that is cut off.
fn read_integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if digits.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Counting down reaches i64::MIN, which has no positive twin.
    let mut value: i64 = 0;
    for byte in whole.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(byte - b'0'))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Java lets a float end in `d` or `f`.
fn float_text(text: &str) -> &str {
    let text = text.trim();
    match text.strip_suffix(['d', 'D', 'f', 'F']) {
        Some(number) if number.ends_with(|c: char| c.is_ascii_digit() || c == '.') => number,
        _ => text,
    }
}

fn read_boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    let is = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["true", "t", "yes", "y", "1"]) {
        return Some(true);
    }
    if is(["false", "f", "no", "n", "0"]) { Some(false) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers() {
        for (text, expected) in [
            ("12", Some(12)),
            (" -12 ", Some(-12)),
            ("+7", Some(7)),
            ("1.9", Some(1)),
            ("-1.9", Some(-1)),
            ("5.", Some(5)),
            (".5", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("x", None),
            ("1e3", None),
            ("1.x", None),
            ("1 2", None),
            ("１", None),
        ] {
            assert_eq!(read_integer(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_agree_with_the_standard_library(value: i64) {
            prop_assert_eq!(read_integer(&value.to_string()), Some(value));
        }

        #[test]
        fn nothing_panics(text in ".{0,24}|[-+0-9.eE]{0,24}") {
            let _ = (read_integer(&text), float_text(&text), read_boolean(&text), read_decimal(&text, 38, 10));
        }
    }
}
