//! Where records stand in their file: line and indentation while text goes by, and the columns that tell of every row's place.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, StringArray, StringBuilder},
    datatypes::{DataType, Field, FieldRef},
};
use memchr::{memchr_iter, memrchr};

use super::json::lex::skip_space;
use crate::names::our_column;

/// File name of the part that a row is in.
pub const PART_COLUMN: &str = our_column!("part");
/// Offset of its first byte in the part.
pub const OFFSET_COLUMN: &str = our_column!("offset");
/// Bytes of its text.
pub const LENGTH_COLUMN: &str = our_column!("length");
/// Line it starts on, from 1.
pub const LINE_COLUMN: &str = our_column!("line");
/// Why its text is no record of the version's columns, which are null then; null for any other row.
pub const BAD_COLUMN: &str = our_column!("bad");

/// Longest reason kept with a bad record, in bytes.
const LONGEST_REASON: usize = 1000;

/// The columns that a scan has behind a version's own when it tells of places.
pub fn place_fields() -> [FieldRef; 5] {
    let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
    [
        field(PART_COLUMN, DataType::Utf8),
        field(OFFSET_COLUMN, DataType::Int64),
        field(LENGTH_COLUMN, DataType::Int64),
        field(LINE_COLUMN, DataType::Int64),
        field(BAD_COLUMN, DataType::Utf8),
    ]
}

/// The line that a piece's reader is on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines {
    /// Its number, from 1.
    line: u64,
    /// Where it starts in the file, or where the piece does.
    start: u64,
    /// White space before its first other byte, once that was seen.
    indent: Option<u64>,
    /// Bytes of the file that were looked at.
    counted: u64,
}

impl Lines {
    /// At the first byte of a piece; `before`: the text before it, as far as it is at hand.
    pub fn new(offset: u64, line: u64, before: &[u8]) -> Self {
        let from = memrchr(b'\n', before).map_or(0, |at| at + 1);
        let mut lines = Self { line, start: offset - (before.len() - from) as u64, indent: None, counted: offset };
        let ink = skip_space(before, from);
        if ink < before.len() {
            lines.indent = Some((ink - from) as u64);
        }
        lines
    }

    /// Goes on to `to` in `text`, which is at `base` in the file.
    pub fn advance(&mut self, text: &[u8], base: u64, to: usize) {
        let from = usize::try_from(self.counted.saturating_sub(base)).unwrap_or(usize::MAX);
        let Some(passed) = text.get(from..to) else { return };
        self.line += memchr_iter(b'\n', passed).count() as u64;
        let mut ink = from;
        if let Some(last) = memrchr(b'\n', passed) {
            ink = from + last + 1;
            self.start = base + ink as u64;
            self.indent = None;
        }
        if self.indent.is_none() {
            let at = skip_space(text, ink);
            if at < to {
                self.indent = Some(base + at as u64 - self.start);
            }
        }
        self.counted = base + to as u64;
    }

    /// The line at hand.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The line of an offset ahead, in `text`.
    pub fn line_of(&self, text: &[u8], base: u64, offset: u64) -> u64 {
        let at = |offset: u64| usize::try_from(offset.saturating_sub(base)).unwrap_or(usize::MAX);
        let passed = text.get(at(self.counted)..at(offset)).unwrap_or_default();
        self.line + memchr_iter(b'\n', passed).count() as u64
    }

    /// Bytes of white space before the first other byte of the line at hand; the byte at hand may be that one.
    pub fn indent(&self) -> u64 {
        self.indent.unwrap_or(self.counted - self.start)
    }
}

/// The place of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// From 1; 0 where nobody counts.
    pub line: u64,
}

/// The places of a batch's rows.
#[derive(Debug)]
pub(crate) struct Places {
    part: String,
    /// Which of [`place_fields`] are wanted.
    wanted: Vec<usize>,
    offsets: Vec<i64>,
    lengths: Vec<i64>,
    lines: Vec<i64>,
    bad: Vec<(usize, String)>,
}

impl Places {
    /// Of rows of a part; `wanted` are indices of [`place_fields`].
    pub fn new(part: String, wanted: Vec<usize>) -> Self {
        Self { part, wanted, offsets: Vec::new(), lengths: Vec::new(), lines: Vec::new(), bad: Vec::new() }
    }

    /// Columns it gives.
    pub fn width(&self) -> usize {
        self.wanted.len()
    }

    #[inline]
    pub fn push(&mut self, record: Record) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.offsets.push(number(record.offset));
        self.lengths.push(number(record.length));
        self.lines.push(number(record.line));
    }

    /// Says what is wrong with a row; what was said of it first stays.
    pub fn mark(&mut self, row: usize, mut reason: String) {
        if reason.len() > LONGEST_REASON {
            let cut = (0..=LONGEST_REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason.truncate(cut);
        }
        self.bad.push((row, reason));
    }

    /// The columns, leaving nothing here.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        let rows = self.offsets.len();
        let (offsets, lengths) = (std::mem::take(&mut self.offsets), std::mem::take(&mut self.lengths));
        let lines = std::mem::take(&mut self.lines);
        let mut bad = std::mem::take(&mut self.bad);
        // Stable, so that the first of several reasons comes first.
        bad.sort_by_key(|(row, _)| *row);
        let column = |wanted: &usize| -> ArrayRef {
            match wanted {
                0 => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.part, rows))),
                1 => Arc::new(Int64Array::from(offsets.clone())),
                2 => Arc::new(Int64Array::from(lengths.clone())),
                3 => Arc::new(Int64Array::from(lines.clone())),
                _ => {
                    let mut reasons = StringBuilder::new();
                    let mut next = bad.iter().peekable();
                    for row in 0..rows {
                        let mut reason = None;
                        while let Some((_, text)) = next.next_if(|(at, _)| *at == row) {
                            reason = reason.or(Some(text));
                        }
                        reasons.append_option(reason);
                    }
                    Arc::new(reasons.finish())
                }
            }
        };
        self.wanted.iter().map(column).collect()
    }
}

/// What is wrong with a record: what kind of thing, up to the first `: `, and what in particular. The kinds are few, so that they can be counted.
pub(crate) fn reason(path: &[String], what: &str) -> String {
    match path.is_empty() {
        true => format!("malformed: {what}"),
        false => format!("field `{}`: {what}", path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_indentation_are_known_wherever_the_text_is_cut() {
        let text = b"ab\n  c d\n\n\t e\nf";
        let expected = [(0, 1, 0), (5, 2, 2), (7, 2, 2), (12, 4, 2), (14, 5, 0)];
        for first in 0..text.len() {
            for cut in first..text.len() {
                let line = 1 + memchr_iter(b'\n', &text[..first]).count() as u64;
                let mut lines = Lines::new(first as u64, line, &text[..first]);
                lines.advance(&text[first..cut], first as u64, cut - first);
                for (at, line, indent) in expected.into_iter().filter(|(at, ..)| *at >= cut) {
                    assert_eq!(lines.line_of(&text[cut..], cut as u64, at as u64), line, "{first} {cut} {at}");
                    let mut lines = lines;
                    lines.advance(&text[cut..], cut as u64, at - cut);
                    assert_eq!((lines.line(), lines.indent()), (line, indent), "{first} {cut} {at}");
                }
            }
        }
    }

    #[test]
    fn of_several_reasons_the_first_counts() {
        let mut places = Places::new("p".to_string(), vec![4]);
        for offset in 0..3 {
            places.push(Record { offset, length: 1, line: 1 });
        }
        places.mark(2, "one".to_string());
        places.mark(0, "é".repeat(600));
        places.mark(2, "two".to_string());
        let column = places.finish().remove(0);
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        let reasons: Vec<_> = column.iter().map(|reason| reason.map(str::len)).collect();
        assert_eq!(reasons, [Some(1000), None, Some(3)]);
        assert_eq!(column.value(2), "one");
    }
}
