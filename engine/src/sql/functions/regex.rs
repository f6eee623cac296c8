//! Regular expressions as Java has them, for the regex crate; and the functions of them that count, find and match.
//!
//! Java's `\d`, `\w` and `\s` are ASCII's, and its `.` stops at every end of a line. Look-around, back references and possessive
//! quantifiers are refused: the crate has none of them.

use std::{fmt::Write, sync::Arc};

use arrow::{array::ArrayRef, datatypes::Int32Type};
use datafusion::{common::Result, logical_expr::ScalarUDF};
use regex::Regex;

use super::args::{gives_boolean, gives_int, gives_text, kernel};
use crate::sql::kernel::{Arguments, wrong_call};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        kernel!("regexp_like", [Text, Text], [], gives_boolean, regexp_like),
        kernel!("regexp_count", [Text, Text], [], gives_int, regexp_count),
        kernel!("regexp_instr", [Text, Text], [Int], gives_int, regexp_instr),
        kernel!("regexp_substr", [Text, Text], [], gives_text, regexp_substr),
    ]
}

/// The last pattern compiled: patterns are literals nearly always, so one is enough.
#[derive(Default)]
pub(in crate::sql) struct Patterns {
    last: Option<(String, Regex)>,
    /// Whether only the fact counts that something is found.
    only_whether: bool,
}

impl Patterns {
    pub(in crate::sql) fn get(&mut self, pattern: &str) -> Result<&Regex> {
        if self.last.as_ref().is_none_or(|(text, _)| text != pattern) {
            let translated = of_java(pattern, self.only_whether)?;
            let regex = Regex::new(&translated).map_err(|error| {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
                wrong_call(format!("regular expression `{pattern}`: {reason}"))
            })?;
            self.last = Some((pattern.to_string(), regex));
        }
        match &self.last {
            Some((_, regex)) => Ok(regex),
            None => Err(wrong_call("no regular expression")),
        }
    }
}

const SPACE: &str = r" \t\n\x0B\f\r";
const LINE_ENDS: &str = r"\n\r\x{85}\x{2028}\x{2029}";

/// Java's pattern as the regex crate writes it.
fn of_java(pattern: &str, only_whether: bool) -> Result<String> {
    let chars: Vec<char> = pattern.chars().collect();
    let refused = |what: &str| {
        Err(wrong_call(format!("regular expression `{pattern}`: there are no {what} here; write it without them")))
    };
    let all_dots = has_flag(pattern, 's');
    let many_lines = has_flag(pattern, 'm');
    let mut out = String::with_capacity(pattern.len() + 8);
    let (mut i, mut in_class, mut can_repeat) = (0, 0usize, false);
    while let Some(c) = chars.get(i).copied() {
        i += 1;
        let next = chars.get(i).copied();
        let could_repeat = std::mem::replace(&mut can_repeat, false);
        match c {
            '\\' => {
                let Some(escaped) = next else { return refused("backslashes at the end") };
                i += 1;
                let class = |inside: &str| {
                    if in_class > 0 { inside.to_string() } else { format!("[{inside}]") }
                };
                match escaped {
                    'd' => out.push_str(&class("0-9")),
                    'D' => out.push_str("[^0-9]"),
                    'w' => out.push_str(&class("a-zA-Z_0-9")),
                    'W' => out.push_str("[^a-zA-Z_0-9]"),
                    's' => out.push_str(&class(SPACE)),
                    'S' => {
                        let _ = write!(out, "[^{SPACE}]");
                    }
                    'h' => out.push_str(&class(r" \t\x{A0}\x{1680}\x{180e}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}")),
                    'v' => out.push_str(&class(r"\n\x0B\f\r\x{85}\x{2028}\x{2029}")),
                    'R' if in_class == 0 => {
                        out.push_str(r"(?:\r\n|[\n\x0B\f\r\x{85}\x{2028}\x{2029}])");
                    }
                    'z' | 'A' | 'b' | 'B' if in_class == 0 => out.extend(['\\', escaped]),
                    't' | 'n' | 'r' | 'f' => out.extend(['\\', escaped]),
                    'a' => out.push_str(r"\x07"),
                    'e' => out.push_str(r"\x1B"),
                    'Q' => {
                        let end = find(&chars, i, &['\\', 'E']).unwrap_or(chars.len());
                        let literal: String = chars[i..end].iter().collect();
                        out.push_str(&regex::escape(&literal));
                        i = (end + 2).min(chars.len());
                    }
                    'E' => {}
                    'u' | 'x' => {
                        let braces = chars.get(i) == Some(&'{');
                        let (start, end) = if braces {
                            (i + 1, find(&chars, i, &['}']).unwrap_or(chars.len()))
                        } else {
                            (i, i + if escaped == 'u' { 4 } else { 2 })
                        };
                        let digits: String = chars.get(start..end).unwrap_or_default().iter().collect();
                        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
                            return refused("such escapes");
                        }
                        let _ = write!(out, "\\x{{{digits}}}");
                        i = end + usize::from(braces);
                    }
                    '0' => {
                        let mut value = 0;
                        while let Some(digit) = chars.get(i).and_then(|c| c.to_digit(8)).filter(|_| value < 32) {
                            value = value * 8 + digit;
                            i += 1;
                        }
                        let _ = write!(out, "\\x{{{value:x}}}");
                    }
                    'p' | 'P' => {
                        let (name, end) = match chars.get(i) {
                            Some('{') => {
                                let end = find(&chars, i, &['}']).unwrap_or(chars.len());
                                (chars[(i + 1).min(end)..end].iter().collect::<String>(), end + 1)
                            }
                            Some(letter) => (letter.to_string(), i + 1),
                            None => return refused("such escapes"),
                        };
                        i = end;
                        property(&name, escaped == 'P', &mut out);
                    }
                    '1'..='9' | 'k' => return refused("back references"),
                    'Z' | 'G' | 'X' | 'H' | 'V' | 'c' | 'N' => return refused(&format!("escapes `\\{escaped}`")),
                    other if other.is_ascii_alphabetic() => return refused(&format!("escapes `\\{other}`")),
                    other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
                }
                can_repeat = true;
            }
            '[' => {
                in_class += 1;
                out.push('[');
                if next == Some('^') {
                    out.push('^');
                    i += 1;
                }
            }
            ']' if in_class > 0 => {
                in_class -= 1;
                out.push(']');
                can_repeat = in_class == 0;
            }
            '~' if in_class > 0 => out.push_str("\\~"),
            c if in_class > 0 => out.push(c),
            '(' if next == Some('?') => match (chars.get(i + 1), chars.get(i + 2)) {
                (Some('=' | '!'), _) => return refused("look-ahead groups"),
                (Some('<'), Some('=' | '!')) => return refused("look-behind groups"),
                (Some('>'), _) => return refused("atomic groups"),
                (Some('<'), _) => out.push('('),
                _ => {
                    // Flags that the crate does not have, and that change nothing here.
                    out.push_str("(?");
                    i += 1;
                    while let Some(flag) = chars.get(i).filter(|c| c.is_ascii_alphabetic() || **c == '-') {
                        if !matches!(flag, 'd' | 'u' | 'U') {
                            out.push(*flag);
                        }
                        i += 1;
                    }
                    if out.ends_with("(?") && chars.get(i) == Some(&')') {
                        out.truncate(out.len() - 2);
                        i += 1;
                    }
                }
            },
            '*' | '+' | '?' | '}' if could_repeat || c == '}' => {
                out.push(c);
                match next {
                    Some('+') if c != '}' || is_repetition(&chars[..i]) => {
                        return refused("possessive quantifiers");
                    }
                    Some('?') => {
                        out.push('?');
                        i += 1;
                    }
                    _ => {}
                }
            }
            '.' if !all_dots => {
                let _ = write!(out, "[^{LINE_ENDS}]");
                can_repeat = true;
            }
            // Java's `$` is also before the end of the last line.
            '$' if only_whether && !many_lines && matches!(next, None | Some(')' | '|')) => {
                let _ = write!(out, "(?:\\r\\n|[{LINE_ENDS}])?$");
            }
            c => {
                out.push(c);
                can_repeat = !matches!(c, '(' | '|' | '^' | '$');
            }
        }
    }
    Ok(out)
}

/// Whether a group `(?…)` turns a flag on.
fn has_flag(pattern: &str, flag: char) -> bool {
    pattern.split("(?").skip(1).any(|group| {
        let flags: String = group.chars().take_while(char::is_ascii_alphabetic).collect();
        group[flags.len()..].starts_with([')', ':', '-']) && flags.contains(flag)
    })
}

/// Whether what was read ends with `{2}`, `{2,}` or `{2,3}`.
fn is_repetition(read: &[char]) -> bool {
    let inside = read.iter().rev().skip(1).take_while(|c| **c != '{');
    inside.clone().count() > 0 && inside.clone().all(|c| c.is_ascii_digit() || *c == ',')
}

fn find(chars: &[char], from: usize, wanted: &[char]) -> Option<usize> {
    chars.get(from..)?.windows(wanted.len()).position(|window| window == wanted).map(|at| at + from)
}

/// `\p{name}`: Java's names of POSIX classes are ASCII's.
fn property(name: &str, negated: bool, out: &mut String) {
    let posix = match name {
        "Lower" | "Upper" | "ASCII" | "Alpha" | "Digit" | "Alnum" | "Punct" | "Graph" | "Print" | "Blank" | "Cntrl"
        | "XDigit" | "Space" => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    let not = if negated { "^" } else { "" };
    let _ = match (posix, name) {
        (Some(class), _) => write!(out, "[[:{not}{class}:]]"),
        (None, "javaLowerCase") => write!(out, "[{not}\\p{{Lowercase}}]"),
        (None, "javaUpperCase") => write!(out, "[{not}\\p{{Uppercase}}]"),
        (None, name) => {
            let name = name.strip_prefix("Is").unwrap_or(name);
            write!(out, "\\{}{{{name}}}", if negated { 'P' } else { 'p' })
        }
    };
}

fn regexp_like(arguments: &Arguments) -> Result<ArrayRef> {
    let mut patterns = Patterns { only_whether: true, ..Patterns::default() };
    let found = (0..arguments.rows()).map(|row| {
        let (Some(text), Some(pattern)) = (arguments.text(0, row), arguments.text(1, row)) else { return Ok(None) };
        Ok(Some(patterns.get(pattern)?.is_match(text)))
    });
    Ok(Arc::new(found.collect::<Result<arrow::array::BooleanArray>>()?))
}

fn regexp_count(arguments: &Arguments) -> Result<ArrayRef> {
    let mut patterns = Patterns::default();
    arguments.try_values::<Int32Type>(|row| {
        let (Some(text), Some(pattern)) = (arguments.text(0, row), arguments.text(1, row)) else { return Ok(None) };
        Ok(Some(patterns.get(pattern)?.find_iter(text).count() as i32))
    })
}

/// The place of the first match; the group is not looked at, as in Spark.
fn regexp_instr(arguments: &Arguments) -> Result<ArrayRef> {
    let mut patterns = Patterns::default();
    arguments.try_values::<Int32Type>(|row| {
        let (Some(text), Some(pattern)) = (arguments.text(0, row), arguments.text(1, row)) else { return Ok(None) };
        if !arguments.all_known(row) {
            return Ok(None);
        }
        let found = patterns.get(pattern)?.find(text);
        Ok(Some(found.map_or(0, |found| text[..found.start()].chars().count() as i32 + 1)))
    })
}

fn regexp_substr(arguments: &Arguments) -> Result<ArrayRef> {
    let mut patterns = Patterns::default();
    arguments.try_texts(|row| {
        let (Some(text), Some(pattern)) = (arguments.text(0, row), arguments.text(1, row)) else { return Ok(None) };
        // An empty match is none.
        let found = patterns.get(pattern)?.find(text).map(|found| found.as_str());
        Ok(found.filter(|found| !found.is_empty()).map(str::to_string))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(pattern: &str, text: &str) -> bool {
        Patterns { only_whether: true, ..Patterns::default() }.get(pattern).unwrap().is_match(text)
    }

    #[test]
    fn patterns_mean_what_they_mean_in_java() {
        for (pattern, text, expected) in [
            (r"^\w+$", "é", false),
            (r"^\d$", "٣", false),
            (r"^[\d.]+$", "1.5", true),
            (r"a.b", "a\rb", false),
            (r"(?s)a.b", "a\rb", true),
            (r"b$", "ab\n", true),
            (r"(?m)^b$", "a\nb\nc", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^\p{Alpha}+$", "ab", true),
            (r"^\p{Alpha}+$", "é", false),
            (r"^\p{Lu}$", "É", true),
            (r"^[\p{Digit}_]+$", "1_", true),
            (r"^[^\s]+$", "a b", false),
            (r"^a{2}?$", "aa", true),
            (r"(?<year>\d{4})", "in 2024", true),
            (r"^\u0041\x42$", "AB", true),
            (r"(?iu)ABC", "abc", true),
            (r"^[a~b]+$", "~", true),
            (r"^\<\>\-\/$", "<>-/", true),
            (r"a+b", "aab", true),
        ] {
            assert_eq!(finds(pattern, text), expected, "{pattern} {text:?}");
        }
        for pattern in [r"(?=a)", r"(?<!a)b", r"(a)\1", r"a++", r"a{2}+", r"(?>a)", r"a\Z", "(", r"a\"] {
            assert!(Patterns::default().get(pattern).is_err(), "{pattern}");
        }
    }
}
