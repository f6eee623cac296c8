//! Functions of texts: parts, places, distances, words.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, ListBuilder, StringBuilder},
    datatypes::{DataType, Field, Int32Type},
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::ScalarUDF,
};

use super::{
    args::{gives_boolean, gives_int, gives_text, kernel},
    regex::Patterns,
};
use crate::sql::{
    kernel::{Arguments, Room, wrong_call},
    types::{list_of, map_of},
};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        kernel!("translate", [Text, Text, Text], [], gives_text, translate),
        kernel!("levenshtein", [Text, Text], [Int], gives_int, levenshtein),
        kernel!("split_part", [Text, Text, Int], [], gives_text, split_part),
        kernel!("substring_index", [Text, Text, Int], [], gives_text, substring_index),
        kernel!("locate", [Text, Text], [Int], gives_int, locate),
        kernel!("find_in_set", [Text, Text], [], gives_int, find_in_set),
        kernel!("soundex", [Text], [], gives_text, soundex),
        kernel!("ascii", [Text], [], gives_int, ascii),
        kernel!("str_to_map", [Text], [Text, Text], |_, _| Ok(map_of(DataType::Utf8, DataType::Utf8)), str_to_map),
        kernel!(
            "sentences",
            [Text],
            [Text, Text],
            |_, _| Ok(list_of(list_of(DataType::Utf8, false), false)),
            sentences
        ),
        kernel!("luhn_check", [Text], [], gives_boolean, luhn_check),
        kernel!("char", [Long], [], gives_text, |arguments| {
            arguments.texts(|row| {
                let code = arguments.long(0, row)?;
                Some(if code < 0 { String::new() } else { char::from((code & 0xFF) as u8).to_string() })
            })
        }),
        kernel!("space", [Int], [], gives_text, |arguments| repeat("space", arguments, 0, |_| Some(" "))),
        kernel!("repeat", [Text, Int], [], gives_text, |arguments| {
            repeat("repeat", arguments, 1, |row| arguments.text(0, row))
        }),
    ]
}

/// A text as often as an argument says.
fn repeat<'a>(
    name: &'static str,
    arguments: &Arguments,
    times: usize,
    text: impl Fn(usize) -> Option<&'a str>,
) -> Result<ArrayRef> {
    let mut room = Room::of(name);
    arguments.try_texts(|row| {
        let (Some(text), Some(times)) = (text(row), arguments.int(times, row)) else { return Ok(None) };
        let times = u32::try_from(times).unwrap_or(0);
        room.take(times.into(), text.len() as u64)?;
        Ok(Some(text.repeat(times as usize)))
    })
}

/// Each letter of the second text becomes that of the third; those without one go.
fn translate(arguments: &Arguments) -> Result<ArrayRef> {
    let mut last: Option<(String, String, HashMap<char, Option<char>>)> = None;
    arguments.try_texts(|row| {
        let (Some(text), Some(from), Some(to)) =
            (arguments.text(0, row), arguments.text(1, row), arguments.text(2, row))
        else {
            return Ok(None);
        };
        if last.as_ref().is_none_or(|(f, t, _)| f != from || t != to) {
            let mut map = HashMap::new();
            let mut to_chars = to.chars();
            for c in from.chars() {
                let with = to_chars.next();
                map.entry(c).or_insert(with);
            }
            last = Some((from.to_string(), to.to_string(), map));
        }
        let Some((_, _, map)) = &last else { return Ok(None) };
        Ok(Some(text.chars().filter_map(|c| map.get(&c).copied().unwrap_or(Some(c))).collect::<String>()))
    })
}

/// How many letters to insert, delete or replace; -1 when more than the threshold.
fn levenshtein(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.values::<Int32Type>(|row| {
        let (a, b) = (arguments.text(0, row)?, arguments.text(1, row)?);
        let threshold = (arguments.count() > 2).then(|| arguments.int(2, row).unwrap_or(0));
        let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
        let mut last: Vec<i32> = (0..=b.len() as i32).collect();
        for (i, x) in a.iter().enumerate() {
            let mut before = last[0];
            last[0] = i as i32 + 1;
            for (j, y) in b.iter().enumerate() {
                let replaced = before + i32::from(x != y);
                before = last[j + 1];
                last[j + 1] = replaced.min(before + 1).min(last[j] + 1);
            }
        }
        let distance = last[b.len()];
        Some(if threshold.is_some_and(|most| distance > most) { -1 } else { distance })
    })
}

fn split_part(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.try_texts(|row| {
        let (Some(text), Some(delimiter), Some(part)) =
            (arguments.text(0, row), arguments.text(1, row), arguments.int(2, row))
        else {
            return Ok(None);
        };
        if part == 0 {
            return exec_err!("split_part counts parts from 1, or from -1 backwards: there is no part 0");
        }
        let parts: Vec<&str> = if delimiter.is_empty() { vec![text] } else { text.split(delimiter).collect() };
        let index = if part > 0 { i64::from(part) - 1 } else { parts.len() as i64 + i64::from(part) };
        let found = usize::try_from(index).ok().and_then(|index| parts.get(index)).copied();
        Ok(Some(found.unwrap_or_default()))
    })
}

fn substring_index(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.texts(|row| {
        let (text, delimiter, count) = (arguments.text(0, row)?, arguments.text(1, row)?, arguments.int(2, row)?);
        if delimiter.is_empty() || count == 0 {
            return Some("");
        }
        let wanted = count.unsigned_abs() as usize;
        // Delimiters that overlap count each, as in Spark.
        if count > 0 {
            let mut from = 0;
            for found in 0..wanted {
                let Some(at) = text.get(from..)?.find(delimiter) else { return Some(text) };
                if found + 1 == wanted {
                    return text.get(..from + at);
                }
                from += at + delimiter.chars().next()?.len_utf8();
            }
        } else {
            let mut end = text.len();
            for found in 0..wanted {
                let Some(at) = text.get(..end)?.rfind(delimiter) else { return Some(text) };
                if found + 1 == wanted {
                    return text.get(at + delimiter.len()..);
                }
                end = at + delimiter.len() - delimiter.chars().next_back()?.len_utf8();
            }
        }
        Some(text)
    })
}

/// `locate(part, text[, from])`: 0 when there is none, or no place to begin at.
fn locate(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.values::<Int32Type>(|row| {
        let from = match arguments.count() {
            2 => 1,
            _ => match arguments.int(2, row) {
                Some(from) => from,
                None => return Some(0),
            },
        };
        let (part, text) = (arguments.text(0, row)?, arguments.text(1, row)?);
        if from < 1 {
            return Some(0);
        }
        let skipped = from as usize - 1;
        let start = match text.char_indices().nth(skipped) {
            Some((start, _)) => start,
            None if part.is_empty() && skipped == 0 => 0,
            None => return Some(i32::from(part.is_empty())),
        };
        if part.is_empty() {
            return Some(1);
        }
        let found = text.get(start..)?.find(part);
        Some(found.map_or(0, |at| text[..start + at].chars().count() as i32 + 1))
    })
}

fn find_in_set(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.values::<Int32Type>(|row| {
        let (word, set) = (arguments.text(0, row)?, arguments.text(1, row)?);
        if word.contains(',') {
            return Some(0);
        }
        Some(set.split(',').position(|item| item == word).map_or(0, |at| at as i32 + 1))
    })
}

/// Spark's soundex: letters that sound alike follow each other over any other letter but a vowel, H and W included.
fn soundex(arguments: &Arguments) -> Result<ArrayRef> {
    const CODES: &[u8; 26] = b"01230127022455012623017202";
    arguments.texts(|row| {
        let text = arguments.text(0, row)?;
        let bytes = text.as_bytes();
        let first = match bytes.first() {
            Some(first) if first.is_ascii_alphabetic() => first.to_ascii_uppercase(),
            _ => return Some(text.to_string()),
        };
        let mut code = vec![first];
        let mut last = CODES[usize::from(first - b'A')];
        for byte in &bytes[1..] {
            let byte = byte.to_ascii_uppercase();
            if !byte.is_ascii_uppercase() {
                last = b'0';
                continue;
            }
            let sound = CODES[usize::from(byte - b'A')];
            if sound == b'7' {
                continue;
            }
            if sound != b'0' && sound != last {
                code.push(sound);
                if code.len() == 4 {
                    break;
                }
            }
            last = sound;
        }
        code.resize(4, b'0');
        String::from_utf8(code).ok()
    })
}

fn ascii(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.values::<Int32Type>(|row| Some(arguments.text(0, row)?.chars().next().map_or(0, |c| u32::from(c) as i32)))
}

/// `str_to_map(text[, between pairs[, between key and value]])`, both regular expressions.
fn str_to_map(arguments: &Arguments) -> Result<ArrayRef> {
    let [mut pairs, mut keys] = [Patterns::default(), Patterns::default()];
    let names = arrow::array::MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut maps = arrow::array::MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in 0..arguments.rows() {
        if !arguments.all_known(row) {
            maps.append(false)?;
            continue;
        }
        let text = arguments.text(0, row).unwrap_or_default();
        let between = arguments.text(1, row).unwrap_or(",");
        let within = arguments.text(2, row).unwrap_or(":");
        let mut seen: Vec<&str> = Vec::new();
        for pair in split(pairs.get(between)?, text) {
            let mut parts = keys.get(within)?.splitn(pair, 2);
            let key = parts.next().unwrap_or_default();
            if seen.contains(&key) {
                return exec_err!("str_to_map: the key `{key}` is there twice");
            }
            seen.push(key);
            maps.keys().append_value(key);
            maps.values().append_option(parts.next());
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}

/// Parts between matches; a match of no width at the start gives no empty part, as in Java.
fn split<'a>(regex: &regex::Regex, text: &'a str) -> Vec<&'a str> {
    let mut parts: Vec<&str> = regex.split(text).collect();
    if parts.len() > 1 && parts[0].is_empty() && regex.find(text).is_some_and(|found| found.is_empty()) {
        parts.remove(0);
        if parts.last() == Some(&"") {
            parts.pop();
        }
    }
    parts
}

/// Words of sentences. Only for ASCII texts: where words of other languages end is not known here.
fn sentences(arguments: &Arguments) -> Result<ArrayRef> {
    let words = ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, false));
    let mut out = ListBuilder::new(words).with_field(Field::new("element", list_of(DataType::Utf8, false), false));
    for row in 0..arguments.rows() {
        let Some(text) = arguments.text(0, row) else {
            out.append_null();
            continue;
        };
        if !text.is_ascii() {
            return Err(wrong_call("sentences only knows texts of ASCII letters"));
        }
        for sentence in sentences_of(text) {
            words_of(sentence).into_iter().for_each(|word| out.values().values().append_value(word));
            out.values().append(true);
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn sentences_of(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut found, mut start, mut i) = (Vec::new(), 0, 0);
    while i < bytes.len() {
        if !matches!(bytes[i], b'.' | b'!' | b'?') {
            i += 1;
            continue;
        }
        let begin = i;
        while i < bytes.len() && matches!(bytes[i], b'.' | b'!' | b'?' | b')' | b'"' | b'\'') {
            i += 1;
        }
        let marks = &bytes[begin..i];
        let after_marks = i;
        while i < bytes.len() && bytes[i].is_ascii_whitespace() {
            i += 1;
        }
        let strong = marks.iter().any(|byte| matches!(byte, b'!' | b'?'));
        let goes_on = bytes.get(i).is_some_and(|byte| byte.is_ascii_lowercase());
        if i < bytes.len() && i > after_marks && (strong || !goes_on) {
            found.push(&text[start..i]);
            start = i;
        }
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

fn words_of(sentence: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for chunk in sentence.split_ascii_whitespace() {
        // A price is no word.
        if chunk.starts_with(['$', '#']) {
            continue;
        }
        let mut rest = chunk;
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
            rest = &rest[start..];
            let bytes = rest.as_bytes();
            let mut end = 0;
            while end < bytes.len()
                && (bytes[end].is_ascii_alphanumeric()
                    || (matches!(bytes[end], b'\'' | b'.' | b'-' | b'_')
                        && bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric)))
            {
                end += 1;
            }
            words.push(&rest[..end]);
            rest = &rest[end..];
        }
    }
    words
}

fn luhn_check(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.booleans(|row| {
        let text = arguments.text(0, row)?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(false);
        }
        let sum: u32 = text
            .bytes()
            .rev()
            .enumerate()
            .map(|(i, byte)| {
                let digit = u32::from(byte - b'0') * if i % 2 == 1 { 2 } else { 1 };
                if digit > 9 { digit - 9 } else { digit }
            })
            .sum();
        Some(sum.is_multiple_of(10))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_split_as_java_does() {
        assert_eq!(
            sentences_of("Hi there! But, not now. ok? Mr. Smith went."),
            ["Hi there! ", "But, not now. ok? ", "Mr. ", "Smith went."]
        );
        assert_eq!(words_of("It's a dog-house, e.g. here for $1.5."), ["It's", "a", "dog-house", "e.g", "here", "for"]);
    }
}
