//! Numbers as texts by a format, and back: `format_number`, `to_char`, `to_number`.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Decimal128Type, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::ScalarUDF,
};

use super::args::{Kind, accept_one, gives_text, kernel, literal_text};
use crate::sql::{
    kernel::{Arguments, Kernel, wrong_call},
    types::type_name,
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Kernel::function("format_number", format_number_types, gives_text, format_number),
        Kernel::function("to_char", |types| to_char_types("to_char", types), char_format, to_char),
        Kernel::function("to_varchar", |types| to_char_types("to_varchar", types), char_format, to_char),
        kernel!("to_number", [Text, Text], [], number_type, |arguments| to_number(arguments, false)),
        kernel!("try_to_number", [Text, Text], [], number_type, |arguments| to_number(arguments, true)),
    ]
}

fn format_number_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let [value, digits] = types else {
        return Err(wrong_call("`format_number` takes a number and its digits after the point, or a pattern"));
    };
    let value = match value {
        DataType::Decimal128(..) | DataType::Float64 => value.clone(),
        number if number.is_integer() => DataType::Int64,
        other => accept_one("format_number", other, Kind::Double)?,
    };
    let digits = if digits.is_integer() { DataType::Int32 } else { DataType::Utf8 };
    Ok(vec![value, digits])
}

/// A number's exact digits: whether it is negative, the whole ones and those after the point.
fn digits(arguments: &Arguments, row: usize) -> Option<(bool, String, String)> {
    let array = &arguments.arrays[0];
    let text = match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            let digits = format!("{:0>width$}", value.unsigned_abs(), width = *scale as usize + 1);
            let (whole, fraction) = digits.split_at(digits.len() - *scale as usize);
            return Some((value < 0, whole.to_string(), fraction.to_string()));
        }
        DataType::Int64 => arguments.long(0, row)?.to_string(),
        // All digits that the double has: halves are told apart exactly.
        _ => format!("{:.340}", arguments.double(0, row)?),
    };
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.as_str()),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    Some((negative, whole.to_string(), fraction.to_string()))
}

/// Digits with so many after the point, half to even.
fn rounded(whole: &str, fraction: &str, places: usize) -> (String, String) {
    let mut all: Vec<u8> = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(places)).collect();
    let rest = fraction.as_bytes().get(places..).unwrap_or_default();
    let above = match rest.first() {
        Some(b'5') if rest[1..].iter().all(|digit| *digit == b'0') => all.last().is_some_and(|digit| digit % 2 == 1),
        Some(digit) => *digit >= b'5',
        None => false,
    };
    if above {
        let mut at = all.len();
        loop {
            if at == 0 {
                all.insert(0, b'1');
                break;
            }
            at -= 1;
            if all[at] < b'9' {
                all[at] += 1;
                break;
            }
            all[at] = b'0';
        }
    }
    let text: String = all.into_iter().map(char::from).collect();
    let (whole, fraction) = text.split_at(text.len() - places);
    let whole = whole.trim_start_matches('0');
    (whole.to_string(), fraction.to_string())
}

fn grouped(whole: &str, size: usize) -> String {
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && size > 0 && (whole.len() - i).is_multiple_of(size) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A pattern of Java's `DecimalFormat`, as far as it has digits, one point and one size of groups.
struct Pattern {
    least_whole: usize,
    least_fraction: usize,
    most_fraction: usize,
    group: usize,
    before: String,
    after: String,
}

impl Pattern {
    fn read(text: &str) -> Result<Pattern> {
        let refused = || {
            wrong_call(format!(
                "format_number: the pattern `{text}` is none of `#`, `0`, `,` and `.` with text around it"
            ))
        };
        let is_sign = |c: char| matches!(c, '#' | '0' | ',' | '.');
        if text.contains(['%', '\'', ';', 'E', '‰', '¤']) {
            return Err(refused());
        }
        let start = text.find(is_sign).unwrap_or(text.len());
        let end = text.rfind(is_sign).map_or(start, |at| at + 1);
        let signs = &text[start..end];
        let (whole, fraction) = signs.split_once('.').unwrap_or((signs, ""));
        if !whole.chars().chain(fraction.chars()).all(is_sign) || fraction.contains([',', '.']) {
            return Err(refused());
        }
        let count = |part: &str, sign: char| part.chars().filter(|c| *c == sign).count();
        Ok(Pattern {
            least_whole: count(whole, '0'),
            least_fraction: count(fraction, '0'),
            most_fraction: fraction.len(),
            group: whole.rsplit_once(',').map_or(0, |(_, last)| last.len()),
            before: text[..start].to_string(),
            after: text[end..].to_string(),
        })
    }
}

fn format_number(arguments: &Arguments) -> Result<ArrayRef> {
    let by_count = *arguments.arrays[1].data_type() == DataType::Int32;
    arguments.try_texts(|row| {
        if !arguments.all_known(row) {
            return Ok(None);
        }
        let pattern = if by_count {
            let Some(Ok(places)) = arguments.int(1, row).map(usize::try_from) else { return Ok(None) };
            let (before, after) = (String::new(), String::new());
            Pattern { least_whole: 1, least_fraction: places, most_fraction: places, group: 3, before, after }
        } else {
            match arguments.text(1, row) {
                Some("") | None => Pattern::read("#,###,###,###,###,###,##0")?,
                Some(pattern) => Pattern::read(pattern)?,
            }
        };
        if let Some(value) = arguments.double(0, row)
            && !value.is_finite()
        {
            let sign = if value < 0.0 { "-" } else { "" };
            return Ok(Some(if value.is_nan() { "NaN".to_string() } else { format!("{sign}∞") }));
        }
        let Some((negative, whole, fraction)) = digits(arguments, row) else { return Ok(None) };
        let (whole, mut fraction) = rounded(&whole, &fraction, pattern.most_fraction.min(340));
        while fraction.len() > pattern.least_fraction && fraction.ends_with('0') {
            fraction.pop();
        }
        let whole = format!("{whole:0>width$}", width = pattern.least_whole);
        let whole = if whole.is_empty() && fraction.is_empty() { "0".to_string() } else { whole };
        let mut out = String::new();
        // Java keeps the sign of a double that is rounded to zero.
        if negative {
            out.push('-');
        }
        out.push_str(&pattern.before);
        out.push_str(&grouped(&whole, pattern.group));
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(&fraction);
        }
        out.push_str(&pattern.after);
        Ok(Some(out))
    })
}

/// What stands before and after the digits of a number's format.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sign {
    None,
    /// `S`: always a sign.
    Always(Side),
    /// `MI`: a sign or a space.
    Minus(Side),
    /// `PR`: angle brackets.
    Brackets,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Start,
    End,
}

/// A format of `to_char` and `to_number`.
#[derive(Debug, Clone)]
struct Format {
    sign: Sign,
    dollar: bool,
    /// `0`, `9` and `,`.
    whole: Vec<char>,
    fraction: Option<Vec<char>>,
}

impl Format {
    fn read(text: &str) -> Result<Format> {
        let upper = text.to_ascii_uppercase();
        let wrong = || {
            wrong_call(format!(
                "the number format `{text}` is none: it has digits (0 or 9), G or `,` between them, D or `.` once, $, and S, MI or PR"
            ))
        };
        let mut rest = upper.as_str();
        let mut sign = Sign::None;
        if let Some(after) = rest.strip_prefix("MI") {
            (sign, rest) = (Sign::Minus(Side::Start), after);
        } else if let Some(after) = rest.strip_prefix('S') {
            (sign, rest) = (Sign::Always(Side::Start), after);
        }
        let ends = [("MI", Sign::Minus(Side::End)), ("PR", Sign::Brackets), ("S", Sign::Always(Side::End))];
        for (end, found) in ends {
            if sign == Sign::None
                && let Some(before) = rest.strip_suffix(end)
            {
                (sign, rest) = (found, before);
            }
        }
        let dollar = rest.starts_with('$');
        let rest = rest.strip_prefix('$').unwrap_or(rest).replace('G', ",").replace('D', ".");
        let (whole, fraction) = match rest.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (rest.as_str(), None),
        };
        let is_whole = whole.chars().all(|c| matches!(c, '0' | '9' | ','));
        let is_fraction = fraction.is_none_or(|fraction| fraction.chars().all(|c| matches!(c, '0' | '9')));
        let has_digits = rest.contains(['0', '9']);
        // Digits stand on both sides of each comma.
        let commas = whole.split(',').skip(1).all(|group| !group.is_empty()) && !whole.starts_with(',');
        if !is_whole || !is_fraction || !has_digits || !commas {
            return Err(wrong());
        }
        Ok(Format {
            sign,
            dollar,
            whole: whole.chars().collect(),
            fraction: fraction.map(|fraction| fraction.chars().collect()),
        })
    }

    /// The decimal that has these digits.
    fn decimal(&self) -> Result<DataType> {
        let whole = self.whole.iter().filter(|c| **c != ',').count();
        let fraction = self.fraction.as_ref().map_or(0, Vec::len);
        if whole + fraction > 38 {
            return Err(wrong_call("a number format has at most 38 digits"));
        }
        Ok(DataType::Decimal128((whole + fraction) as u8, fraction as i8))
    }

    fn write(&self, value: i128, scale: i8) -> String {
        let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let places = self.whole.iter().filter(|c| **c != ',').count();
        let overflows = whole.len() > places || fraction.len() > self.fraction.as_ref().map_or(0, Vec::len);
        let mut out = String::new();
        let mut left = places;
        let mut any_zero = false;
        for sign in &self.whole {
            if overflows {
                out.push('#');
                continue;
            }
            if *sign == ',' {
                out.push(if left < whole.len() || any_zero { ',' } else { ' ' });
                continue;
            }
            any_zero |= *sign == '0';
            match left.checked_sub(whole.len()) {
                Some(0) => out.push(char::from(whole.as_bytes()[whole.len() - left])),
                _ if left <= whole.len() => out.push(char::from(whole.as_bytes()[whole.len() - left])),
                _ => out.push(if any_zero { '0' } else { ' ' }),
            }
            left -= 1;
        }
        if let Some(places) = &self.fraction {
            if out.ends_with(' ') {
                out.pop();
                out.push('0');
            }
            if !places.is_empty() {
                out.push('.');
                for i in 0..places.len() {
                    let digit = fraction.as_bytes().get(i).copied().unwrap_or(b'0');
                    out.push(if overflows { '#' } else { char::from(digit) });
                }
            }
        }
        if self.dollar {
            out.insert(0, '$');
        }
        let negative = value < 0;
        match self.sign {
            // A format without a place for a sign shows none.
            Sign::None => {}
            Sign::Always(side) => place(&mut out, side, if negative { '-' } else { '+' }),
            Sign::Minus(side) => place(&mut out, side, if negative { '-' } else { ' ' }),
            Sign::Brackets if negative => {
                out.insert(0, '<');
                out.push('>');
            }
            Sign::Brackets => out.push_str("  "),
        }
        out
    }

    /// The decimal in a text, if it has this format.
    fn number(&self, text: &str) -> Option<i128> {
        let mut text = text.trim();
        let mut negative = false;
        match self.sign {
            Sign::None => {}
            Sign::Always(Side::Start) | Sign::Minus(Side::Start) => {
                if let Some(rest) = text.strip_prefix('-') {
                    (negative, text) = (true, rest);
                } else if let (Some(rest), Sign::Always(_)) = (text.strip_prefix('+'), self.sign) {
                    text = rest;
                }
            }
            Sign::Always(Side::End) | Sign::Minus(Side::End) => {
                if let Some(rest) = text.strip_suffix('-') {
                    (negative, text) = (true, rest);
                } else if let (Some(rest), Sign::Always(_)) = (text.strip_suffix('+'), self.sign) {
                    text = rest;
                }
            }
            Sign::Brackets => {
                if let Some(rest) = text.strip_prefix('<') {
                    (negative, text) = (true, rest.strip_suffix('>')?);
                }
            }
        }
        if self.dollar {
            text = text.strip_prefix('$')?;
        }
        let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
        let most_fraction = self.fraction.as_ref().map_or(0, Vec::len);
        let fraction = match (fraction, &self.fraction) {
            (Some(_), None) => return None,
            (Some(fraction), Some(_)) => fraction,
            (None, _) => "",
        };
        // Groups are matched from the right: each comma where the format has one, digits as many as there is room for.
        let groups = |signs: &str| signs.split(',').rev().map(str::to_string).collect::<Vec<_>>();
        let (written, wanted) = (groups(whole), groups(&self.whole.iter().collect::<String>()));
        let fits = written.len() <= wanted.len()
            && written.iter().zip(&wanted).enumerate().all(|(i, (digits, places))| {
                let is_first = i + 1 == written.len();
                let right = digits.len() == places.len() || (is_first && digits.len() < places.len());
                right && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
        let zeros = self.whole.first() == Some(&'0');
        let all_groups = written.len() == wanted.len() || !zeros;
        let whole_fits =
            fits && all_groups && (!zeros || written.last().map(String::len) == wanted.last().map(String::len));
        let fraction_fits = fraction.len() <= most_fraction && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let digits: String = whole.chars().filter(|c| *c != ',').collect();
        if !whole_fits || !fraction_fits || digits.is_empty() && fraction.is_empty() {
            return None;
        }
        let text = format!("{digits}{fraction:0<most_fraction$}");
        let value: i128 = if text.is_empty() { 0 } else { text.parse().ok()? };
        Some(if negative { -value } else { value })
    }
}

fn place(out: &mut String, side: Side, sign: char) {
    match side {
        // A sign stands beside the number, after the spaces.
        Side::Start => {
            let spaces = out.len() - out.trim_start_matches(' ').len();
            out.insert(spaces, sign);
        }
        Side::End => out.push(sign),
    }
}

fn to_char_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [value, format] = types else {
        return Err(wrong_call(format!("`{name}` takes a number and a format")));
    };
    let value = match value {
        DataType::Decimal128(..) => value.clone(),
        number if number.is_integer() => DataType::Decimal128(20, 0),
        DataType::Float32 | DataType::Float64 | DataType::Utf8 | DataType::Null => DataType::Decimal128(30, 15),
        other => return Err(wrong_call(format!("`{name}` takes a number, not {}", type_name(other)))),
    };
    Ok(vec![value, accept_one(name, format, Kind::Text)?])
}

fn char_format(_: &[FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    match literal_text(literals, 1) {
        Some(format) => Format::read(format).map(|_| DataType::Utf8),
        None => Err(wrong_call("the number format must be a literal, such as '999,999.00'")),
    }
}

fn to_char(arguments: &Arguments) -> Result<ArrayRef> {
    let array = arguments.arrays[0].as_primitive::<Decimal128Type>();
    let mut last: Option<(String, Format)> = None;
    arguments.try_texts(|row| {
        let (Some(text), true) = (arguments.text(1, row), array.is_valid(row)) else { return Ok(None) };
        if last.as_ref().is_none_or(|(last, _)| last != text) {
            last = Some((text.to_string(), Format::read(text)?));
        }
        Ok(last.as_ref().map(|(_, format)| format.write(array.value(row), array.scale())))
    })
}

fn number_type(_: &[FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    match literal_text(literals, 1) {
        Some(format) => Format::read(format)?.decimal(),
        None => Err(wrong_call("the number format must be a literal, such as '999,999.00'")),
    }
}

fn to_number(arguments: &Arguments, lenient: bool) -> Result<ArrayRef> {
    let mut last: Option<(String, Format)> = None;
    arguments.try_values::<Decimal128Type>(|row| {
        let (Some(text), Some(format)) = (arguments.text(0, row), arguments.text(1, row)) else { return Ok(None) };
        if last.as_ref().is_none_or(|(last, _)| last != format) {
            last = Some((format.to_string(), Format::read(format)?));
        }
        match last.as_ref().and_then(|(_, format)| format.number(text)) {
            None if !lenient => exec_err!("to_number: `{text}` does not have the format {format}"),
            value => Ok(value),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: i128, scale: i8, format: &str) -> String {
        Format::read(format).unwrap().write(value, scale)
    }

    #[test]
    fn formats_are_written_as_in_spark() {
        for (value, scale, format, expected) in [
            (7812, 2, "$99.99", "$78.12"),
            (12454, 0, "99,999", "12,454"),
            (12454, 0, "00,000,000", "00,012,454"),
            (5, 1, "9.9", "0.5"),
            (5, 1, "0.00", "0.50"),
            (-5, 0, "9MI", "5-"),
            (5, 0, "9MI", "5 "),
            (-5, 0, "9PR", "<5>"),
            (5, 0, "9PR", "5  "),
            (1234, 0, "999", "###"),
            (5, 0, "S9", "+5"),
            (-5, 0, "MI9", "-5"),
            (5, 0, "MI9", " 5"),
            (15, 1, "99.999", " 1.500"),
            (12, 0, "9999", "  12"),
            (12, 0, "0999", "0012"),
            (-125, 1, "$99.9S", "$12.5-"),
            (-125, 1, "S$99.9", "-$12.5"),
            (34, 0, "9,999", "   34"),
            (5, 2, ".99", ".05"),
            (-7812, 2, "S99.9", "-##.#"),
            (12000, 2, "999999.99", "   120.00"),
        ] {
            assert_eq!(shown(value, scale, format), expected, "{value} {scale} {format}");
        }
        for format in ["L99", "", "9$", "9.9.9", "S9MI", ",9", "9,"] {
            assert!(Format::read(format).is_err(), "{format}");
        }
    }

    #[test]
    fn numbers_are_read_by_their_format() {
        for (text, format, expected) in [
            ("454", "999", Some(454)),
            ("12,454", "99,999", Some(12454)),
            ("$78.12", "$99.99", Some(7812)),
            ("12,454.8-", "99,999.9S", Some(-124_548)),
            ("x", "999", None),
            ("1234", "999", None),
            ("-5", "S9", Some(-5)),
            ("<5>", "9PR", Some(-5)),
            ("5.5", "9", None),
            ("1,2", "999", None),
            ("5", "99.99", Some(500)),
            ("12", "0999", None),
        ] {
            assert_eq!(Format::read(format).unwrap().number(text), expected, "{text} {format}");
        }
    }
}
