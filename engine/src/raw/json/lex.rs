//! JSON's grammar (RFC 8259) over bytes that may end in the middle of a value.
//!
//! Two leniencies, both of which Spark's reader has too: control characters may stand unescaped in strings, and strings of fields that nobody
//! asked for are not looked into.

use memchr::memchr2;

use crate::depth::MOST_LEVELS;

/// Deepest nesting that is read.
const MAX_DEPTH: u32 = 128;

/// How deep a record begins whose columns are inferred from what it holds: what is read of it is no deeper than columns may be.
pub(crate) const INFERRED: u32 = MAX_DEPTH - MOST_LEVELS;

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The text ends here; with more of it, reading could go on.
    Incomplete,
    /// The text is not what it must be.
    Bad(Box<Bad>),
}

/// What is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Offset in the text at hand.
    pub at: usize,
    /// What was found, and what was expected.
    pub what: String,
    /// Names of the fields that lead to it, innermost first.
    pub path: Vec<String>,
}

/// Result of reading; usually the offset after what was read.
pub(crate) type Lex<T> = Result<T, Stop>;

#[cold]
pub(crate) fn bad<T>(at: usize, what: impl Into<String>) -> Lex<T> {
    Err(Stop::Bad(Box::new(Bad { at, what: what.into(), path: Vec::new() })))
}

/// Something else than `expected` stands at `at`.
#[cold]
pub(crate) fn unexpected<T>(text: &[u8], at: usize, expected: &str) -> Lex<T> {
    let found = match text.get(at) {
        None => "the end of the text".to_string(),
        Some(b'"') => "a string".to_string(),
        Some(b'{') => "an object".to_string(),
        Some(b'[') => "an array".to_string(),
        Some(b'-' | b'0'..=b'9') => {
            let is_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
            let digits: String =
                text[at..].iter().take(40).take_while(is_number).map(|byte| char::from(*byte)).collect();
            format!("the number {digits}")
        }
        Some(b't') if text[at..].starts_with(b"true") => "true".to_string(),
        Some(b'f') if text[at..].starts_with(b"false") => "false".to_string(),
        Some(b'n') if text[at..].starts_with(b"null") => "null".to_string(),
        Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(*byte)),
        Some(byte) => format!("byte 0x{byte:02x}"),
    };
    bad(at, format!("found {found}, expected {expected}"))
}

/// Offset of the next byte that is not white space.
#[inline]
pub(crate) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// The next byte that is not white space, and its offset.
#[inline]
pub(crate) fn next(text: &[u8], at: usize) -> Lex<(u8, usize)> {
    let at = skip_space(text, at);
    match text.get(at) {
        Some(byte) => Ok((*byte, at)),
        None => Err(Stop::Incomplete),
    }
}

/// A string whose opening quote is before `at`: the offset of its closing quote, and whether it has escapes.
#[inline]
pub(crate) fn string(text: &[u8], at: usize) -> Lex<(usize, bool)> {
    let rest = text.get(at..).unwrap_or_default();
    match memchr2(b'"', b'\\', rest) {
        Some(length) if rest[length] == b'"' => Ok((at + length, false)),
        Some(length) => {
            let mut at = at + length;
            loop {
                // `at` is at a backslash; what it escapes is looked at by `unescape`.
                at += 2;
                let rest = text.get(at..).unwrap_or_default();
                match memchr2(b'"', b'\\', rest) {
                    Some(length) if rest[length] == b'"' => return Ok((at + length, true)),
                    Some(length) => at += length,
                    None => return Err(Stop::Incomplete),
                }
            }
        }
        None => Err(Stop::Incomplete),
    }
}

/// Appends what the escaped string `text[from..to]` stands for.
pub(crate) fn unescape(text: &[u8], from: usize, to: usize, out: &mut Vec<u8>) -> Lex<()> {
    let mut at = from;
    while let Some(length) = text.get(at..to).and_then(|rest| memchr::memchr(b'\\', rest)) {
        out.extend_from_slice(&text[at..at + length]);
        at += length;
        let plain = match text.get(at + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let (symbol, length) = unicode(text, at, to)?;
                out.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
                at += length;
                continue;
            }
            _ => return bad(at, "found an unknown escape in a string"),
        };
        out.push(plain);
        at += 2;
    }
    out.extend_from_slice(text.get(at..to).unwrap_or_default());
    Ok(())
}

/// The symbol of a `\u` escape with its four digits, or of two that are a surrogate pair, and the length of the escape.
fn unicode(text: &[u8], at: usize, to: usize) -> Lex<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let digits = text.get(at + 2..at + 6)?;
        let escape = at + 6 <= to && text.get(at..at + 2)? == b"\\u" && digits.iter().all(u8::is_ascii_hexdigit);
        if escape { u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok() } else { None }
    };
    let Some(first) = unit(at) else { return bad(at, "found a \\u escape without four hexadecimal digits") };
    if let Some(symbol) = char::from_u32(first) {
        return Ok((symbol, 6));
    }
    let pair = match unit(at + 6) {
        Some(second @ 0xdc00..=0xdfff) if first < 0xdc00 => {
            char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
        }
        _ => None,
    };
    match pair {
        Some(symbol) => Ok((symbol, 12)),
        None => bad(at, "found half of a surrogate pair in a string"),
    }
}

/// A number that starts at `at`: the offset after it, and whether it is written as a whole number.
#[inline]
pub(crate) fn number(text: &[u8], at: usize) -> Lex<(usize, bool)> {
    let digits = |mut at: usize| {
        while let Some(b'0'..=b'9') = text.get(at) {
            at += 1;
        }
        at
    };
    let some_digits = |at: usize| {
        let end = digits(at);
        match (end > at, text.get(end)) {
            (_, None) => Err(Stop::Incomplete),
            (true, _) => Ok(end),
            (false, _) => unexpected(text, end, "a digit"),
        }
    };
    let start = at + usize::from(text.get(at) == Some(&b'-'));
    let mut end = some_digits(start)?;
    if text.get(start) == Some(&b'0') && end > start + 1 {
        return bad(at, "found a number that starts with 0");
    }
    let mut whole = true;
    if text.get(end) == Some(&b'.') {
        whole = false;
        end = some_digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(end) {
        whole = false;
        let signed = matches!(text.get(end + 1), Some(b'+' | b'-'));
        end = some_digits(end + 1 + usize::from(signed))?;
    }
    Ok((end, whole))
}

/// The offset after `word` (true, false or null) at `at`.
#[inline]
pub(crate) fn literal(text: &[u8], at: usize, word: &[u8]) -> Lex<usize> {
    let rest = text.get(at..).unwrap_or_default();
    if rest.starts_with(word) {
        Ok(at + word.len())
    } else if word.starts_with(rest) {
        Err(Stop::Incomplete)
    } else {
        unexpected(text, at, "a JSON value")
    }
}

/// The offset after the value that starts at `at`, whatever it is.
pub(crate) fn skip_value(text: &[u8], at: usize, depth: u32) -> Lex<usize> {
    match text.get(at) {
        None => Err(Stop::Incomplete),
        Some(b'"') => Ok(string(text, at + 1)?.0 + 1),
        Some(b'{') => fields(text, at, depth, |_, _, value| skip_value(text, value, depth + 1)),
        Some(b'[') => items(text, at, depth, |item| skip_value(text, item, depth + 1)),
        Some(b't') => literal(text, at, b"true"),
        Some(b'f') => literal(text, at, b"false"),
        Some(b'-' | b'0'..=b'9') => Ok(number(text, at)?.0),
        Some(_) => literal(text, at, b"null"),
    }
}

/// Reads an object whose `{` is at `at`: calls `field` with the offsets of each key's content and closing quote and of its value, and expects the
/// offset after the value. Returns the offset after `}`.
#[inline]
pub(crate) fn fields(
    text: &[u8],
    at: usize,
    depth: u32,
    mut field: impl FnMut(usize, (usize, bool), usize) -> Lex<usize>,
) -> Lex<usize> {
    check_depth(at, depth)?;
    let (mut byte, mut at) = next(text, at + 1)?;
    if byte == b'}' {
        return Ok(at + 1);
    }
    loop {
        if byte != b'"' {
            return unexpected(text, at, "a field name in double quotes");
        }
        let key = at + 1;
        let key_end = string(text, key)?;
        let (colon, colon_at) = next(text, key_end.0 + 1)?;
        if colon != b':' {
            return unexpected(text, colon_at, "`:` after the field name");
        }
        let (_, value) = next(text, colon_at + 1)?;
        (byte, at) = next(text, field(key, key_end, value)?)?;
        match byte {
            b',' => (byte, at) = next(text, at + 1)?,
            b'}' => return Ok(at + 1),
            _ => return unexpected(text, at, "`,` or `}` after a field's value"),
        }
    }
}

/// Reads an array whose `[` is at `at`: calls `item` with the offset of each item and expects the offset after it. Returns the offset after `]`.
#[inline]
pub(crate) fn items(text: &[u8], at: usize, depth: u32, mut item: impl FnMut(usize) -> Lex<usize>) -> Lex<usize> {
    check_depth(at, depth)?;
    let (mut byte, mut at) = next(text, at + 1)?;
    if byte == b']' {
        return Ok(at + 1);
    }
    loop {
        (byte, at) = next(text, item(at)?)?;
        match byte {
            b',' => (_, at) = next(text, at + 1)?,
            b']' => return Ok(at + 1),
            _ => return unexpected(text, at, "`,` or `]` after an array's item"),
        }
    }
}

#[cold]
fn too_deep<T>(at: usize) -> Lex<T> {
    let what = format!(
        "found nesting that is too deep: columns may have {MOST_LEVELS} levels, and a STRING of a declared schema holds {MAX_DEPTH}"
    );
    bad(at, what)
}

fn check_depth(at: usize, depth: u32) -> Lex<()> {
    if depth >= MAX_DEPTH { too_deep(at) } else { Ok(()) }
}

/// Appends the value `text[from..to]`, which was read before, without the white space between its tokens.
pub(crate) fn compact(text: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    let mut at = from;
    while at < to {
        match text[at] {
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            b'"' => {
                let end = string(text, at + 1).map_or(to, |(end, _)| end + 1);
                out.extend_from_slice(&text[at..end]);
                at = end;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn numbers_are_read_to_their_end() {
        for (text, end, whole) in [("0,", 1, true), ("-12 ", 3, true), ("1.5e+3}", 6, false), ("2E0]", 3, false)] {
            assert_eq!(number(text.as_bytes(), 0).ok(), Some((end, whole)), "{text}");
        }
        for text in ["-,", "01 ", "1. ", ".5 ", "1e ", "+1 "] {
            assert!(matches!(number(text.as_bytes(), 0), Err(Stop::Bad(_))), "{text}");
        }
        for text in ["", "-", "1", "1.", "1.5", "1e", "1e+"] {
            assert!(matches!(number(text.as_bytes(), 0), Err(Stop::Incomplete)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn strings_mean_what_they_mean_to_serde(text in r#"([a-zé😀"/ ]|\\["\\/bfnrt]|\\u[0-9a-fA-FdD]{4}|\\ud83d\\ude00|\\[xu])*"#) {
            let quoted = format!("\"{}\" ", text.replace('"', "'"));
            let ours = string(quoted.as_bytes(), 1).ok().and_then(|(end, _)| {
                let mut out = Vec::new();
                unescape(quoted.as_bytes(), 1, end, &mut out).ok().map(|()| String::from_utf8(out).unwrap())
            });
            prop_assert_eq!(ours, serde_json::from_str::<String>(&quoted).ok());
        }

        #[test]
        fn values_are_those_that_serde_takes(text in r#"([\[\]{},: ]|"[ab]?"|true|null|nul|-?[0-9]{1,2}|1\.5|1e3|\.)*"#) {
            let padded = format!("{text} ");
            let start = skip_space(padded.as_bytes(), 0);
            let ours = skip_value(padded.as_bytes(), start, 0).is_ok_and(|end| skip_space(padded.as_bytes(), end) == padded.len());
            prop_assert_eq!(ours, serde_json::from_str::<IgnoredAny>(&padded).is_ok());
        }

        #[test]
        fn any_prefix_is_incomplete(
            text in r#"\{"a": \[(("([a\[]|\\["\\]){0,3}"|1\.5|null|\{\}), )?2\], "b": -1e5\}"#,
            cut in 0.0..1.0f64,
        ) {
            let cut = (text.len() as f64 * cut) as usize;
            prop_assert!(matches!(skip_value(&text.as_bytes()[..cut], 0, 0), Err(Stop::Incomplete)));
            prop_assert_eq!(skip_value(text.as_bytes(), 0, 0).ok(), Some(text.len()));
        }
    }
}
