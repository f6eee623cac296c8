//! Functions that take texts or bytes: parts, padding, encodings.

use std::sync::Arc;

use arrow::{
    array::ArrayRef,
    datatypes::{DataType, FieldRef, Int32Type},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::ScalarUDF,
};

use super::args::{Kind, accept, as_first, gives_boolean, gives_bytes, gives_int, gives_text, kernel, literal_text};
use crate::sql::kernel::{Arguments, Kernel, Room, wrong_call};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        kernel!("substring", [TextOrBytes, Int], [Int], as_first, substring),
        kernel!("substr", [TextOrBytes, Int], [Int], as_first, substring),
        kernel!("left", [TextOrBytes, Int], [], as_first, |arguments| {
            parts(arguments, |part, row| {
                let length = arguments.int(1, row)?;
                Some(part.range(0, length.into()))
            })
        }),
        kernel!("right", [TextOrBytes, Int], [], as_first, |arguments| {
            parts(arguments, |part, row| {
                let length = i64::from(arguments.int(1, row)?);
                let count = part.count();
                Some(if length <= 0 { Vec::new() } else { part.range(count - length, count) })
            })
        }),
        Kernel::function("overlay", overlay_types, as_first, overlay),
        Kernel::function("lpad", |types| pad_types("lpad", types), as_first, |arguments| pad("lpad", arguments)),
        Kernel::function("rpad", |types| pad_types("rpad", types), as_first, |arguments| pad("rpad", arguments)),
        Kernel::function(
            "btrim",
            |types| trim_types("btrim", types),
            as_first,
            |arguments| trim(arguments, true, true),
        ),
        Kernel::function(
            "ltrim",
            |types| trim_types("ltrim", types),
            as_first,
            |arguments| trim(arguments, true, false),
        ),
        Kernel::function(
            "rtrim",
            |types| trim_types("rtrim", types),
            as_first,
            |arguments| trim(arguments, false, true),
        ),
        // `ltrim` and `rtrim` of two arguments, which come the other way round there.
        Kernel::function(
            "trim_start",
            |types| trim_types("ltrim", types),
            as_first,
            |arguments| trim(arguments, true, false),
        ),
        Kernel::function(
            "trim_end",
            |types| trim_types("rtrim", types),
            as_first,
            |arguments| trim(arguments, false, true),
        ),
        Kernel::function(
            "concat_bytes",
            |types| Ok(vec![DataType::Binary; types.len()]),
            gives_bytes,
            |arguments| {
                arguments.blobs(|row| {
                    let parts: Option<Vec<&[u8]>> = (0..arguments.count()).map(|i| arguments.bytes(i, row)).collect();
                    Ok(parts.map(|parts| parts.concat()))
                })
            },
        ),
        kernel!("bit_length", [TextOrBytes], [], gives_int, |arguments| {
            arguments.values::<Int32Type>(|row| Some(arguments.bytes(0, row)?.len() as i32 * 8))
        }),
        kernel!("octet_length", [TextOrBytes], [], gives_int, |arguments| {
            arguments.values::<Int32Type>(|row| Some(arguments.bytes(0, row)?.len() as i32))
        }),
        kernel!("length", [TextOrBytes], [], gives_int, |arguments| {
            let is_bytes = *arguments.arrays[0].data_type() == DataType::Binary;
            arguments.values::<Int32Type>(|row| {
                let value = arguments.bytes(0, row)?;
                Some(if is_bytes { value.len() as i32 } else { chars(value).count() as i32 })
            })
        }),
        Kernel::function(
            "starts_with",
            |types| pair_types("startswith", types),
            gives_boolean,
            |arguments| arguments.booleans(|row| Some(arguments.bytes(0, row)?.starts_with(arguments.bytes(1, row)?))),
        ),
        Kernel::function(
            "ends_with",
            |types| pair_types("endswith", types),
            gives_boolean,
            |arguments| arguments.booleans(|row| Some(arguments.bytes(0, row)?.ends_with(arguments.bytes(1, row)?))),
        ),
        Kernel::function(
            "contains",
            |types| pair_types("contains", types),
            gives_boolean,
            |arguments| {
                arguments.booleans(|row| {
                    let (whole, part) = (arguments.bytes(0, row)?, arguments.bytes(1, row)?);
                    Some(memchr::memmem::find(whole, part).is_some())
                })
            },
        ),
        kernel!("encode", [Text, Text], [], gives_bytes, |arguments| {
            arguments.blobs(|row| match (arguments.text(0, row), arguments.text(1, row)) {
                (Some(text), Some(charset)) => encode(text, charset).map(Some),
                _ => Ok(None),
            })
        }),
        kernel!("decode", [Bytes, Text], [], gives_text, |arguments| {
            arguments.try_texts(|row| match (arguments.bytes(0, row), arguments.text(1, row)) {
                (Some(bytes), Some(charset)) => decode(bytes, charset).map(Some),
                _ => Ok(None),
            })
        }),
        kernel!("base64", [Bytes], [], gives_text, |arguments| {
            arguments.texts(|row| Some(in_lines(&to_base64(arguments.bytes(0, row)?))))
        }),
        kernel!("unbase64", [Text], [], gives_bytes, |arguments| {
            arguments.blobs(|row| match arguments.text(0, row) {
                Some(text) => match from_base64(text) {
                    Some(bytes) => Ok(Some(bytes)),
                    None => exec_err!("unbase64: this is no Base64: {text}"),
                },
                None => Ok(None),
            })
        }),
        Kernel::function("hex", hex_types, gives_text, |arguments| {
            arguments.texts(|row| match arguments.arrays[0].data_type() {
                DataType::Int64 => Some(format!("{:X}", arguments.long(0, row)?)),
                _ => Some(to_hex(arguments.bytes(0, row)?)),
            })
        }),
        kernel!("unhex", [Text], [], gives_bytes, |arguments| {
            arguments.blobs(|row| Ok(arguments.text(0, row).and_then(from_hex)))
        }),
        kernel!("to_binary", [Text], [Text], binary_format, |arguments| to_binary(arguments, false)),
        kernel!("try_to_binary", [Text], [Text], binary_format, |arguments| to_binary(arguments, true)),
    ]
}

fn chars(bytes: &[u8]) -> std::str::Chars<'_> {
    std::str::from_utf8(bytes).unwrap_or_default().chars()
}

/// A text, counted in letters, or bytes.
enum Part<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Part<'_> {
    fn count(&self) -> i64 {
        match self {
            Part::Text(text) => text.chars().count() as i64,
            Part::Bytes(bytes) => bytes.len() as i64,
        }
    }

    /// From a place to another, as much of it as there is.
    fn range(&self, from: i64, to: i64) -> Vec<u8> {
        let from = from.max(0) as usize;
        let count = (to.max(0) as usize).saturating_sub(from);
        match self {
            Part::Text(text) => {
                let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]).skip(from);
                let Some(start) = places.next() else { return Vec::new() };
                let end = if count == 0 { start } else { places.nth(count - 1).unwrap_or(text.len()) };
                text.as_bytes()[start..end].to_vec()
            }
            Part::Bytes(bytes) => {
                let start = from.min(bytes.len());
                bytes[start..(start + count).min(bytes.len())].to_vec()
            }
        }
    }
}

/// The first argument's text or bytes.
fn part<'a>(arguments: &'a Arguments, argument: usize, row: usize) -> Option<Part<'a>> {
    match arguments.arrays.get(argument)?.data_type() {
        DataType::Binary => arguments.bytes(argument, row).map(Part::Bytes),
        _ => arguments.text(argument, row).map(Part::Text),
    }
}

fn parts(arguments: &Arguments, of: impl Fn(Part<'_>, usize) -> Option<Vec<u8>>) -> Result<ArrayRef> {
    arguments.blobs(|row| Ok(part(arguments, 0, row).and_then(|part| of(part, row))))
}

/// Spark's `substringSQL`: places count from 1, from the end where they are negative, and 0 is 1.
fn sql_range(part: &Part<'_>, position: i32, length: i64) -> Vec<u8> {
    let position = i64::from(position);
    let start = match position {
        1.. => position - 1,
        0 => 0,
        _ => part.count() + position,
    };
    part.range(start, start.saturating_add(length))
}

fn substring(arguments: &Arguments) -> Result<ArrayRef> {
    parts(arguments, |part, row| {
        let position = arguments.int(1, row)?;
        let length = if arguments.count() > 2 { i64::from(arguments.int(2, row)?) } else { i64::from(i32::MAX) };
        Some(sql_range(&part, position, length))
    })
}

fn overlay_types(types: &[DataType]) -> Result<Vec<DataType>> {
    accept("overlay", types, &[Kind::TextOrBytes, Kind::TextOrBytes, Kind::Int], &[Kind::Int])?;
    let both = pair_types("overlay", &types[..2])?;
    Ok(both.into_iter().chain(vec![DataType::Int32; types.len() - 2]).collect())
}

fn overlay(arguments: &Arguments) -> Result<ArrayRef> {
    parts(arguments, |input, row| {
        let with = part(arguments, 1, row)?;
        let position = arguments.int(2, row)?;
        let length = if arguments.count() > 3 { arguments.int(3, row)? } else { -1 };
        let length = if length >= 0 { i64::from(length) } else { with.count() };
        let mut out = sql_range(&input, 1, i64::from(position) - 1);
        out.extend(with.range(0, i64::MAX));
        let rest = i64::from(position).saturating_add(length);
        out.extend(sql_range(&input, i32::try_from(rest).unwrap_or(i32::MAX), i64::from(i32::MAX)));
        Some(out)
    })
}

fn pad_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let mut accepted = accept(name, types, &[Kind::TextOrBytes, Kind::Int], &[Kind::TextOrBytes])?;
    if let [first, _, with] = accepted.as_mut_slice()
        && first != with
    {
        (*first, *with) = (DataType::Utf8, DataType::Utf8);
    }
    Ok(accepted)
}

fn pad(name: &'static str, arguments: &Arguments) -> Result<ArrayRef> {
    let mut room = Room::of(name);
    arguments.blobs(|row| {
        let (Some(part_), Some(length)) = (part(arguments, 0, row), arguments.int(1, row)) else { return Ok(None) };
        let length = i64::from(length);
        let with = if arguments.count() > 2 {
            let Some(with) = part(arguments, 2, row) else { return Ok(None) };
            with
        } else if matches!(part_, Part::Bytes(_)) {
            Part::Bytes(&[0])
        } else {
            Part::Text(" ")
        };
        let count = part_.count();
        let (missing, width) = ((length - count).max(0), with.count());
        if missing == 0 || width == 0 {
            return Ok(Some(part_.range(0, length)));
        }
        // A letter has at most four bytes.
        room.take(missing.unsigned_abs(), 4)?;
        let mut padding = with.range(0, i64::MAX).repeat((missing / width) as usize);
        padding.extend(with.range(0, missing % width));
        let whole = part_.range(0, i64::MAX);
        Ok(Some(if name == "lpad" { [padding, whole].concat() } else { [whole, padding].concat() }))
    })
}

/// Both texts, or both bytes.
fn pair_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let accepted = accept(name, types, &[Kind::TextOrBytes, Kind::TextOrBytes], &[])?;
    let both_bytes =
        accepted.iter().zip(types).all(|(accepted, found)| *accepted == DataType::Binary || *found == DataType::Null);
    Ok(vec![if both_bytes && accepted.contains(&DataType::Binary) { DataType::Binary } else { DataType::Utf8 }; 2])
}

fn trim_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    accept(name, types, &[Kind::Text], &[Kind::Text])
}

fn trim(arguments: &Arguments, start: bool, end: bool) -> Result<ArrayRef> {
    arguments.blobs(|row| {
        let has_set = arguments.count() > 1;
        if has_set && !arguments.known(1, row) {
            return Ok(None);
        }
        Ok(match part(arguments, 0, row) {
            None => None,
            Some(Part::Text(text)) => {
                let set = if has_set { arguments.text(1, row).unwrap_or_default() } else { " " };
                let mut kept = text;
                if start {
                    kept = kept.trim_start_matches(|c| set.contains(c));
                }
                if end {
                    kept = kept.trim_end_matches(|c| set.contains(c));
                }
                Some(kept.as_bytes().to_vec())
            }
            Some(Part::Bytes(bytes)) => Some(bytes.to_vec()),
        })
    })
}

fn no_charset<T>(charset: &str) -> Result<T> {
    exec_err!(
        "there is no character set `{charset}`; there are US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE, UTF-16LE"
    )
}

fn encode(text: &str, charset: &str) -> Result<Vec<u8>> {
    let wide = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let narrow = |most: u32| {
        text.chars()
            .map(|c| u8::try_from(u32::from(c)).ok().filter(|c| u32::from(*c) <= most).unwrap_or(b'?'))
            .collect()
    };
    Ok(match charset.to_ascii_uppercase().as_str() {
        "UTF-8" | "UTF8" => text.as_bytes().to_vec(),
        "US-ASCII" | "ASCII" => narrow(127),
        "ISO-8859-1" | "LATIN1" => narrow(255),
        "UTF-16BE" => wide(u16::to_be_bytes),
        "UTF-16LE" => wide(u16::to_le_bytes),
        "UTF-16" if text.is_empty() => Vec::new(),
        "UTF-16" => [vec![0xFE, 0xFF], wide(u16::to_be_bytes)].concat(),
        _ => return no_charset(charset),
    })
}

fn decode(bytes: &[u8], charset: &str) -> Result<String> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        let mut text = String::from_utf16_lossy(&units);
        if bytes.len() % 2 == 1 {
            text.push('\u{FFFD}');
        }
        text
    };
    Ok(match charset.to_ascii_uppercase().as_str() {
        "UTF-8" | "UTF8" => String::from_utf8_lossy(bytes).into_owned(),
        "US-ASCII" | "ASCII" => {
            bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '\u{FFFD}' }).collect()
        }
        "ISO-8859-1" | "LATIN1" => bytes.iter().map(|byte| char::from(*byte)).collect(),
        "UTF-16BE" => wide(bytes, u16::from_be_bytes),
        "UTF-16LE" => wide(bytes, u16::from_le_bytes),
        "UTF-16" => match bytes {
            [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
            [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
            rest => wide(rest, u16::from_be_bytes),
        },
        _ => return no_charset(charset),
    })
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as Base64, in one line.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(char::from(BASE64[(word >> (18 - 6 * i)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Base64 as MIME has it, 76 signs a line.
fn in_lines(signs: &str) -> String {
    let mut out = String::with_capacity(signs.len() + signs.len() / 38);
    for (i, sign) in signs.chars().enumerate() {
        if i > 0 && i % 76 == 0 {
            out.push_str("\r\n");
        }
        out.push(sign);
    }
    out
}

/// The bytes of Base64 as Java's MIME decoder reads it: other signs are passed over; `None` where the end is wrong.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut count) = (0u32, 0);
    let mut signs = text.bytes().filter(|byte| *byte == b'=' || BASE64.contains(byte)).peekable();
    while let Some(sign) = signs.next() {
        if sign == b'=' {
            // One sign ends what has three, two what has two; nothing else may follow.
            let ends = match count {
                2 => signs.next() == Some(b'='),
                3 => true,
                _ => false,
            };
            if !ends || signs.next().is_some() {
                return None;
            }
            break;
        }
        word = word << 6 | BASE64.iter().position(|byte| *byte == sign)? as u32;
        count += 1;
        if count == 4 {
            out.extend_from_slice(&word.to_be_bytes()[1..]);
            (word, count) = (0, 0);
        }
    }
    match count {
        0 => {}
        2 => out.push((word >> 4) as u8),
        3 => out.extend_from_slice(&[(word >> 10) as u8, (word >> 2) as u8]),
        _ => return None,
    }
    Some(out)
}

fn hex_types(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [number] if number.is_numeric() => Ok(vec![DataType::Int64]),
        other => accept("hex", other, &[Kind::TextOrBytes], &[]),
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// The bytes of hexadecimal digits; an odd first one is half a byte.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<Vec<u8>>>()?;
    let (odd, pairs) = digits.split_at(digits.len() % 2);
    Some(odd.iter().copied().chain(pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1])).collect())
}

fn binary_format(_: &[FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    match literal_text(literals, 1).map(str::to_ascii_lowercase).as_deref() {
        None | Some("hex" | "utf-8" | "utf8" | "base64") => Ok(DataType::Binary),
        Some(other) => Err(wrong_call(format!("to_binary reads the formats hex, utf-8 and base64, not {other}"))),
    }
}

fn to_binary(arguments: &Arguments, lenient: bool) -> Result<ArrayRef> {
    arguments.blobs(|row| {
        let format = if arguments.count() > 1 { arguments.text(1, row) } else { Some("hex") };
        let (Some(text), Some(format)) = (arguments.text(0, row), format) else { return Ok(None) };
        let bytes = match format.to_ascii_lowercase().as_str() {
            "hex" => from_hex(text),
            "base64" => strict_base64(text),
            "utf-8" | "utf8" => Some(text.as_bytes().to_vec()),
            _ => return exec_err!("to_binary reads the formats hex, utf-8 and base64, not {format}"),
        };
        match bytes {
            None if !lenient => exec_err!("to_binary: this is not {format}: {text}"),
            bytes => Ok(bytes),
        }
    })
}

/// Base64 with nothing between its signs but space.
fn strict_base64(text: &str) -> Option<Vec<u8>> {
    let clean = text.bytes().all(|byte| byte.is_ascii_whitespace() || byte == b'=' || BASE64.contains(&byte));
    let signs = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).count();
    if clean && signs % 4 == 0 { from_base64(text) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encodings_can_be_undone(bytes: Vec<u8>) {
            prop_assert_eq!(from_base64(&to_base64(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        }

        #[test]
        fn parts_do_not_panic(text in ".{0,6}", position in -9..9i32, length in -3..9i64) {
            let letters: Vec<char> = text.chars().collect();
            let found = String::from_utf8(sql_range(&Part::Text(&text), position, length)).unwrap();
            let start = match position { 1.. => i64::from(position) - 1, 0 => 0, _ => letters.len() as i64 + i64::from(position) };
            let expected: String = letters.iter().enumerate()
                .filter(|(i, _)| (*i as i64) >= start && (*i as i64) < start + length.max(0)).map(|(_, c)| *c).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
