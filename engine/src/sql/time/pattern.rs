//! Spark's datetime patterns (`yyyy-MM-dd'T'HH:mm:ss.SSSZ`), read once.
//!
//! See <https://spark.apache.org/docs/3.5.1/sql-ref-datetime-pattern.html>. Letters: `G`-less `y u M L d D E a h K k H m s S Z X x V O Q q`,
//! text in quotes, optional parts in `[ ]`. What Spark 3 refuses (`w`, `e`, `Y`, …) is refused here too.

use crate::error::{Code, Error, Result};

/// A pattern, as a list of parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern {
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    /// A field and how often its letter stands there.
    Field(Field, usize),
    Optional(Vec<Part>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    Quarter,
    Weekday,
    HalfOfDay,
    /// `H`, 0 to 23.
    Hour,
    /// `k`, 1 to 24.
    HourFrom1,
    /// `h`, 1 to 12.
    Hour12,
    /// `K`, 0 to 11.
    Hour12From0,
    Minute,
    Second,
    Fraction,
    /// `X`: an offset in which zero is `Z`.
    OffsetOrZ,
    /// `x`: an offset.
    Offset,
    /// `Z`: `+0100`.
    OffsetRfc,
    /// `O`: `GMT+1`.
    OffsetGmt,
    /// `VV`: `Europe/Paris`.
    ZoneName,
}

impl Pattern {
    /// Reads a pattern; the error names the letter that is not supported.
    pub(crate) fn compile(text: &str) -> Result<Pattern> {
        let mut chars = text.chars().peekable();
        let mut open: Vec<Vec<Part>> = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let wrong = |what: String| {
            Error::new(Code::InvalidSql, format!("datetime pattern `{text}`: {what}")).hint(
                "patterns are Spark's, such as yyyy-MM-dd'T'HH:mm:ss.SSSZ; text other than punctuation stands in single quotes",
            )
        };
        while let Some(c) = chars.next() {
            match c {
                'a'..='z' | 'A'..='Z' => {
                    let mut width = 1;
                    while chars.next_if_eq(&c).is_some() {
                        width += 1;
                    }
                    parts.push(Part::Field(field(c, width).map_err(wrong)?, width));
                }
                '\'' => {
                    push_text(&mut parts, &quoted(&mut chars).ok_or_else(|| wrong("a quote is not closed".into()))?)
                }
                '[' => open.push(std::mem::take(&mut parts)),
                ']' => {
                    let Some(outer) = open.pop() else { return Err(wrong("`]` closes nothing".into())) };
                    let inner = std::mem::replace(&mut parts, outer);
                    parts.push(Part::Optional(inner));
                }
                '{' | '}' | '#' => return Err(wrong(format!("`{c}` is reserved"))),
                other => push_text(&mut parts, other.encode_utf8(&mut [0; 4])),
            }
        }
        if !open.is_empty() {
            return Err(wrong("`[` is not closed".into()));
        }
        Ok(Pattern { parts })
    }

    /// An error if texts can't be read with this pattern: Spark only writes weekdays and quarters.
    pub(crate) fn check_readable(&self, text: &str) -> Result<()> {
        fn unreadable(parts: &[Part]) -> bool {
            parts.iter().any(|part| match part {
                Part::Field(field, _) => matches!(field, Field::Weekday | Field::Quarter),
                Part::Optional(inner) => unreadable(inner),
                Part::Text(_) => false,
            })
        }
        if unreadable(&self.parts) {
            return Err(Error::new(
                Code::InvalidSql,
                format!("datetime pattern `{text}` has a weekday or a quarter, which can't be read"),
            )
            .hint("cut it off first, for example with substring()"));
        }
        Ok(())
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_string())),
    }
}

/// The text up to the closing quote; `''` is a quote.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    if chars.next_if_eq(&'\'').is_some() {
        return Some("'".into());
    }
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_some() => text.push('\''),
            '\'' => return Some(text),
            c => text.push(c),
        }
    }
}

fn field(letter: char, width: usize) -> Result<Field, String> {
    let (field, widest) = match letter {
        'y' | 'u' => (Field::Year, 6),
        'M' | 'L' => (Field::Month, 4),
        'd' => (Field::Day, 2),
        'D' => (Field::DayOfYear, 3),
        'Q' | 'q' => (Field::Quarter, 2),
        'E' => (Field::Weekday, 4),
        'a' => (Field::HalfOfDay, 1),
        'H' => (Field::Hour, 2),
        'k' => (Field::HourFrom1, 2),
        'h' => (Field::Hour12, 2),
        'K' => (Field::Hour12From0, 2),
        'm' => (Field::Minute, 2),
        's' => (Field::Second, 2),
        'S' => (Field::Fraction, 9),
        'X' => (Field::OffsetOrZ, 5),
        'x' => (Field::Offset, 5),
        'Z' => (Field::OffsetRfc, 5),
        'O' if width == 1 || width == 4 => (Field::OffsetGmt, 4),
        'V' if width == 2 => (Field::ZoneName, 2),
        _ => {
            return Err(format!(
                "the letter{} `{}` {} not supported",
                if width > 1 { "s" } else { "" },
                letter.to_string().repeat(width.min(9)),
                if width > 1 { "are" } else { "is" }
            ));
        }
    };
    if width > widest {
        return Err(format!("`{letter}` stands there {width} times; at most {widest} have a meaning"));
    }
    Ok(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_read() {
        let pattern = Pattern::compile("yyyy-MM-dd'T'HH:mm[:ss[.SSS]]X 'o''clock'").unwrap();
        assert_eq!(
            pattern.parts[..3],
            [Part::Field(Field::Year, 4), Part::Text("-".into()), Part::Field(Field::Month, 2)]
        );
        assert_eq!(pattern.parts.last(), Some(&Part::Text(" o'clock".into())));
        assert_eq!(
            pattern.parts[9],
            Part::Optional(vec![
                Part::Text(":".into()),
                Part::Field(Field::Second, 2),
                Part::Optional(vec![Part::Text(".".into()), Part::Field(Field::Fraction, 3)]),
            ])
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, expected) in [
            ("YYYY-MM-dd", "the letters `YYYY` are not supported"),
            ("yyyy-MM-dd e", "the letter `e` is not supported"),
            ("V", "`V`"),
            ("yyyy 'x", "quote is not closed"),
            ("yyyy]", "closes nothing"),
            ("[yyyy", "is not closed"),
            ("ddd", "at most 2"),
            ("yyyy#", "reserved"),
        ] {
            let error = Pattern::compile(text).unwrap_err();
            assert_eq!(error.code, Code::InvalidSql);
            assert!(error.message.contains(expected), "{}", error.message);
        }
        assert!(Pattern::compile("E").unwrap().check_readable("E").is_err());
        assert!(Pattern::compile("y").unwrap().check_readable("y").is_ok());
    }
}
