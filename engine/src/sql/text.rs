//! Spark's text functions that DataFusion lacks or gives another meaning: `split`, `regexp_replace`, `regexp_extract`,
//! `regexp_extract_all`, `initcap`; and `lower` and `upper`, which loads spend their time in.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, ListBuilder, StringArray, StringBuilder},
    datatypes::{ArrowNativeType, DataType, Field, Int32Type},
};
use datafusion::{common::Result, logical_expr::ScalarUDF};
use regex::Regex;

use super::{
    functions::regex::Patterns,
    kernel::{Arguments, Kernel, wrong_call},
    types::list_of,
};

/// The functions of this module.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Kernel::function(
            "split",
            |types| texts_and_int("split", types, 2),
            |_, _| Ok(list_of(DataType::Utf8, false)),
            split,
        ),
        Kernel::function("regexp_replace", three_texts, |_, _| Ok(DataType::Utf8), regexp_replace),
        Kernel::function(
            "regexp_extract",
            |types| texts_and_int("regexp_extract", types, 2),
            |_, _| Ok(DataType::Utf8),
            regexp_extract,
        ),
        Kernel::function(
            "regexp_extract_all",
            |types| texts_and_int("regexp_extract_all", types, 2),
            |_, _| Ok(list_of(DataType::Utf8, true)),
            regexp_extract_all,
        ),
        Kernel::function("initcap", |types| one_text("initcap", types), |_, _| Ok(DataType::Utf8), initcap),
        Kernel::function(
            "lower",
            |types| one_text("lower", types),
            |_, _| Ok(DataType::Utf8),
            |arguments| in_case(arguments, <[u8]>::make_ascii_lowercase, str::to_lowercase),
        ),
        Kernel::function(
            "upper",
            |types| one_text("upper", types),
            |_, _| Ok(DataType::Utf8),
            |arguments| in_case(arguments, <[u8]>::make_ascii_uppercase, str::to_uppercase),
        ),
    ]
}

fn one_text(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [text] if !text.is_nested() => Ok(vec![DataType::Utf8]),
        [other] => Err(wrong_call(format!("{name} takes a text, not {other}"))),
        _ => Err(wrong_call(format!("{name} takes one text; it got {} arguments", types.len()))),
    }
}

fn three_texts(types: &[DataType]) -> Result<Vec<DataType>> {
    match types.len() {
        3 => Ok(vec![DataType::Utf8; 3]),
        4 => Ok(vec![DataType::Utf8, DataType::Utf8, DataType::Utf8, DataType::Int32]),
        _ => Err(wrong_call("regexp_replace takes a text, a pattern, a replacement and, if needed, a position")),
    }
}

fn texts_and_int(name: &str, types: &[DataType], texts: usize) -> Result<Vec<DataType>> {
    if types.len() < texts || types.len() > texts + 1 {
        return Err(wrong_call(format!(
            "{name} takes a text, a pattern and, if needed, a number; it got {} arguments",
            types.len()
        )));
    }
    let mut accepted = vec![DataType::Utf8; texts];
    accepted.resize(types.len(), DataType::Int32);
    Ok(accepted)
}

/// Text, pattern and the third argument of a row; `None` when one is null.
fn row<'a>(
    text: &'a StringArray,
    pattern: &'a StringArray,
    number: Option<&Int32Array>,
    i: usize,
) -> Option<(&'a str, &'a str, Option<i32>)> {
    let number = match number {
        Some(number) if number.is_null(i) => return None,
        Some(number) => Some(number.value(i)),
        None => None,
    };
    (text.is_valid(i) && pattern.is_valid(i)).then(|| (text.value(i), pattern.value(i), number))
}

fn inputs(arguments: &Arguments) -> (&StringArray, &StringArray, Option<&Int32Array>) {
    let [text, pattern] = [0, 1].map(|i| arguments.arrays[i].as_string::<i32>());
    (text, pattern, arguments.arrays.get(2).map(|array| array.as_primitive::<Int32Type>()))
}

fn text_lists(nullable: bool) -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, nullable))
}

/// `split(str, regex[, limit])`: with a limit above 0 at most so many parts; trailing empty parts stay, as in Spark.
fn split(arguments: &Arguments) -> Result<ArrayRef> {
    let (text, pattern, limit) = inputs(arguments);
    let mut patterns = Patterns::default();
    let mut parts = text_lists(false);
    for i in 0..text.len() {
        let Some((text, pattern, limit)) = row(text, pattern, limit, i) else {
            parts.append_null();
            continue;
        };
        let regex = patterns.get(pattern)?;
        let limit = usize::try_from(limit.unwrap_or(-1)).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        // Spark's own rule for an empty pattern: as many letters, and what is left is left out.
        if pattern.is_empty() && limit != usize::MAX && !text.is_empty() {
            for letter in text.chars().take(limit) {
                parts.values().append_value(letter.encode_utf8(&mut [0; 4]));
            }
            parts.append(true);
            continue;
        }
        let (mut start, mut count) = (0, 1);
        for found in regex.find_iter(text) {
            if count == limit {
                break;
            }
            // Java gives no empty part for a match of no width at the start, and Spark none at the end for an empty pattern.
            let at_edge = found.start() == 0 || (pattern.is_empty() && found.start() == text.len());
            if found.range().is_empty() && at_edge {
                continue;
            }
            parts.values().append_value(text.get(start..found.start()).unwrap_or_default());
            start = found.end();
            count += 1;
        }
        parts.values().append_value(text.get(start..).unwrap_or_default());
        parts.append(true);
    }
    Ok(Arc::new(parts.finish()))
}

/// Java's `$1` and `\$` as the regex crate writes them.
fn replacement(java: &str) -> String {
    let mut out = String::with_capacity(java.len());
    let mut chars = java.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => {}
            },
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                out.push_str("${");
                while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                    out.push(digit);
                }
                out.push('}');
            }
            '$' if chars.peek() == Some(&'{') => out.push('$'),
            '$' => out.push_str("$$"),
            other => out.push(other),
        }
    }
    out
}

/// `regexp_replace(str, regex, replacement[, position])` replaces every match, from a position if one is given.
fn regexp_replace(arguments: &Arguments) -> Result<ArrayRef> {
    let [text, pattern, with] = [0, 1, 2].map(|i| arguments.arrays[i].as_string::<i32>());
    let position = arguments.arrays.get(3).map(|array| array.as_primitive::<Int32Type>());
    let mut patterns = Patterns::default();
    let mut last_with: Option<(String, String)> = None;
    let mut out = StringBuilder::with_capacity(text.len(), text.value_data().len());
    for i in 0..text.len() {
        let Some((text, pattern, from)) = row(text, pattern, position, i).filter(|_| with.is_valid(i)) else {
            out.append_null();
            continue;
        };
        let skipped = match from.unwrap_or(1) {
            ..=0 => return Err(wrong_call("the position of regexp_replace counts from 1")),
            1 => 0,
            from => text.char_indices().nth(from as usize - 1).map_or(text.len(), |(start, _)| start),
        };
        let (before, text) = text.split_at(skipped);
        if from.is_some_and(|from| from > 1) && text.is_empty() {
            out.append_value(before);
            continue;
        }
        let java = with.value(i);
        if last_with.as_ref().is_none_or(|(last, _)| last != java) {
            last_with = Some((java.to_string(), replacement(java)));
        }
        let with = last_with.as_ref().map_or("", |(_, with)| with);
        let replaced = patterns.get(pattern)?.replace_all(text, with);
        if skipped == 0 {
            out.append_value(replaced);
        } else {
            out.append_value(format!("{before}{replaced}"));
        }
    }
    Ok(Arc::new(out.finish()))
}

fn group(regex: &Regex, group: Option<i32>) -> Result<usize> {
    let group = group.unwrap_or(1);
    usize::try_from(group).ok().filter(|group| *group < regex.captures_len()).ok_or_else(|| {
        wrong_call(format!(
            "regular expression `{regex}` has {} groups, so there is no group {group}",
            regex.captures_len() - 1
        ))
    })
}

/// `regexp_extract(str, regex[, group])`: the first match's group (1 unless given), and an empty text when there is no match.
fn regexp_extract(arguments: &Arguments) -> Result<ArrayRef> {
    let (text, pattern, index) = inputs(arguments);
    let mut patterns = Patterns::default();
    let mut out = StringBuilder::new();
    for i in 0..text.len() {
        let Some((text, pattern, index)) = row(text, pattern, index, i) else {
            out.append_null();
            continue;
        };
        let regex = patterns.get(pattern)?;
        // As in Spark, a group that the expression lacks is an error where it matches.
        match regex.captures(text) {
            Some(captures) => {
                out.append_value(captures.get(group(regex, index)?).map_or("", |found| found.as_str()));
            }
            None => out.append_value(""),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// `regexp_extract_all(str, regex[, group])`: every match's group.
fn regexp_extract_all(arguments: &Arguments) -> Result<ArrayRef> {
    let (text, pattern, index) = inputs(arguments);
    let mut patterns = Patterns::default();
    let mut out = text_lists(true);
    for i in 0..text.len() {
        let Some((text, pattern, index)) = row(text, pattern, index, i) else {
            out.append_null();
            continue;
        };
        let regex = patterns.get(pattern)?;
        for captures in regex.captures_iter(text) {
            out.values().append_value(captures.get(group(regex, index)?).map_or("", |found| found.as_str()));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// `initcap(str)`: the first letter of each word (space-separated) in upper case, the others in lower case.
fn initcap(arguments: &Arguments) -> Result<ArrayRef> {
    let text = arguments.arrays[0].as_string::<i32>();
    let mut out = StringBuilder::with_capacity(text.len(), text.value_data().len());
    let mut buffer = String::new();
    for value in text {
        let Some(value) = value else {
            out.append_null();
            continue;
        };
        buffer.clear();
        let mut first = true;
        for c in value.chars() {
            if first {
                // A letter that is several in upper case stays, as in Java.
                let mut upper = c.to_uppercase();
                buffer.push(if upper.len() == 1 { upper.next().unwrap_or(c) } else { c })
            } else {
                buffer.extend(c.to_lowercase())
            }
            first = c == ' ';
        }
        out.append_value(&buffer);
    }
    Ok(Arc::new(out.finish()))
}

/// `lower(str)` and `upper(str)`: all bytes at once as if there were no other letters than ASCII's, then over them texts that have others.
/// DataFusion's makes a text at a time of all texts of a batch if one has others.
fn in_case(arguments: &Arguments, ascii: fn(&mut [u8]), any: fn(&str) -> String) -> Result<ArrayRef> {
    let texts = arguments.arrays[0].as_string::<i32>();
    let ends = texts.offsets();
    let (first, last) = (ends[0].as_usize(), ends[texts.len()].as_usize());
    let mut bytes = texts.value_data()[first..last].to_vec();
    ascii(&mut bytes);
    for (row, ends) in ends.windows(2).enumerate() {
        let range = ends[0].as_usize() - first..ends[1].as_usize() - first;
        if bytes[range.clone()].is_ascii() {
            continue;
        }
        let text = any(texts.value(row));
        // All that follow it have moved, too.
        if text.len() != range.len() {
            return Ok(Arc::new(texts.iter().map(|text| text.map(any)).collect::<StringArray>()));
        }
        bytes[range].copy_from_slice(text.as_bytes());
    }
    let starts = ends.clone().subtract(ends[0]);
    Ok(Arc::new(StringArray::try_new(starts, bytes.into(), texts.nulls().cloned())?))
}

#[cfg(test)]
mod tests {
    use datafusion::config::ConfigOptions;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cases_are_those_of_each_text(
            texts in prop::collection::vec(prop::option::of(prop_oneof!["[a-zA-Z ]{0,8}", "[aBéÉßΣσİıǅﬁ]{0,5}", ".{0,5}"]), 0..20), from in 0..20usize,
        ) {
            let from = from.min(texts.len());
            let array = StringArray::from_iter(&texts).slice(from, texts.len() - from);
            let config = Arc::new(ConfigOptions::new());
            let arguments = Arguments { arrays: vec![Arc::new(array)], result: DataType::Utf8, config };
            let each = |any: fn(&str) -> String| texts[from..].iter().map(|text| text.as_deref().map(any)).collect::<StringArray>();
            let lower = in_case(&arguments, <[u8]>::make_ascii_lowercase, str::to_lowercase).unwrap();
            prop_assert_eq!(lower.as_string::<i32>(), &each(str::to_lowercase));
            let upper = in_case(&arguments, <[u8]>::make_ascii_uppercase, str::to_uppercase).unwrap();
            prop_assert_eq!(upper.as_string::<i32>(), &each(str::to_uppercase));
        }
    }

    #[test]
    fn replacements_are_translated() {
        for (java, rust) in [("$1x", "${1}x"), ("a$", "a$$"), (r"\$1", "$$1"), ("${name}", "${name}"), (r"\\", r"\")] {
            assert_eq!(replacement(java), rust, "{java}");
        }
    }
}
