//! Goes from record to record of a piece, and, where bad records are to be told instead of refused, past what is none.
//!
//! A record that is well-formed JSON of the wrong types ends where its value ends. One that is not well formed ends where its brackets close, or before
//! that at a line that opens a `{` no deeper than the bad record's own line: a cut record's brackets never close, but the next record begins as it
//! did. Text between records ends at its line's end, or in an array at the next `,`, `]` or `{`. Where no end is found, all that is left of
//! the piece is one bad record.

use super::{
    lex::{Lex, Stop, skip_value},
    records::{Next, Records},
};
use crate::raw::{
    manifest::JsonLayout,
    piece::{MAX_RECORD, Malformed},
    places::{Lines, Record, reason},
};

/// What is done with records.
pub(crate) trait Take {
    /// Rows since the last batch.
    fn rows(&self) -> usize;

    /// Takes the record that starts at `at` in `text`; the offset after it. When it can't, nothing of the record may stay.
    fn take(&mut self, text: &[u8], at: usize, offset: u64) -> Lex<usize>;

    /// The record was taken.
    fn taken(&mut self, record: Record);

    /// There is text that is no record.
    fn bad(&mut self, record: Record, reason: String);
}

/// Reads the records of one piece.
#[derive(Debug)]
pub(crate) struct Walk {
    records: Records,
    /// Counted where somebody asks.
    lines: Option<Lines>,
    /// Bad records are told, not refused.
    lenient: bool,
    broken: Option<Broken>,
}

impl Walk {
    /// A walk that refuses bad records.
    pub fn new(layout: JsonLayout, first: bool, last: bool) -> Self {
        Self { records: Records::new(layout, first, last), lines: None, lenient: false, broken: None }
    }

    /// The same with the lines of records, and, if `lenient`, going on after bad ones.
    pub fn with_lines(self, lines: Lines, lenient: bool) -> Self {
        Self { lines: Some(lines), lenient, ..self }
    }

    /// Bad records are told.
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// See [`crate::raw::piece::Decode::decode`].
    pub fn run(
        &mut self,
        taker: &mut impl Take,
        text: &[u8],
        base: u64,
        end: bool,
        rows: usize,
    ) -> Result<usize, Malformed> {
        let done = self.go(taker, text, base, end, rows)?;
        self.line_at(text, base, done);
        Ok(done)
    }

    fn go(
        &mut self,
        taker: &mut impl Take,
        text: &[u8],
        base: u64,
        end: bool,
        rows: usize,
    ) -> Result<usize, Malformed> {
        let mut at = 0;
        while taker.rows() < rows {
            if let Some(mut broken) = self.broken.take() {
                match broken.scan(text, at, base) {
                    Some(after) => at = after,
                    None if end => at = text.len(),
                    None => {
                        self.broken = Some(broken);
                        return Ok(text.len());
                    }
                }
                taker.bad(Record { length: broken.end - broken.record.offset, ..broken.record }, broken.reason);
                self.records.bad_ends();
                continue;
            }
            let (start, stop, found) = match self.records.next(text, at, end) {
                Ok(Next::More(at)) => return Ok(at),
                Ok(Next::Record(start)) => {
                    let offset = base + start as u64;
                    let line = self.line_at(text, base, start);
                    match taker.take(text, start, offset) {
                        Ok(after) => {
                            self.records.record_ends();
                            taker.taken(Record { offset, length: (after - start) as u64, line });
                            at = after;
                            continue;
                        }
                        Err(Stop::Incomplete) if self.waits(text, start, end) => return Ok(start),
                        Err(stop) => (start, stop, true),
                    }
                }
                Err(Stop::Bad(bad)) => (bad.at.min(text.len()), Stop::Bad(bad), false),
                Err(Stop::Incomplete) => (text.len(), Stop::Incomplete, false),
            };
            if !self.lenient {
                return Err(Malformed::cut_short(stop, text, base));
            }
            let record = Record { offset: base + start as u64, length: 0, line: self.line_at(text, base, start) };
            let whole = if found { skip_value(text, start, 0) } else { Err(Stop::Incomplete) };
            // A quote or bracket that is no record's may be closed by the next record's.
            let closed = |after| text[start] == b'{' || !text[start..after].contains(&b'\n');
            match whole {
                Ok(after) if closed(after) => {
                    taker.bad(Record { length: (after - start) as u64, ..record }, wrong(stop, true, end));
                    self.records.record_ends();
                    at = after;
                }
                Err(Stop::Incomplete) if found && self.waits(text, start, end) => return Ok(start),
                // The text ends where it must not.
                _ if start == text.len() => {
                    taker.bad(record, wrong(stop, false, end));
                    self.records.end_is_told();
                    at = start;
                }
                _ => {
                    self.broken = Some(Broken::new(self, record, text, start, wrong(stop, false, end)));
                    at = start;
                }
            }
        }
        Ok(at)
    }

    /// Whether more text may complete the record at `start`. One that is too long is refused by who reads the text, or is bad.
    fn waits(&self, text: &[u8], start: usize, end: bool) -> bool {
        let too_long = self.lenient && text.len() - start > MAX_RECORD;
        !end && !too_long
    }

    fn line_at(&mut self, text: &[u8], base: u64, at: usize) -> u64 {
        self.lines.as_mut().map_or(0, |lines| {
            lines.advance(text, base, at);
            lines.line()
        })
    }
}

/// Why a record is bad; `whole`: it is well-formed JSON all the same.
fn wrong(stop: Stop, whole: bool, end: bool) -> String {
    match stop {
        Stop::Bad(bad) if whole => reason(&bad.path, &bad.what),
        Stop::Bad(bad) => reason(&[], &bad.what),
        Stop::Incomplete if end => reason(&[], "the text ends inside a record"),
        Stop::Incomplete => reason(&[], &format!("a record is longer than {} MiB", MAX_RECORD / 1024 / 1024)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It began with a brace.
    Record,
    /// Something else, between records.
    Plain,
    /// What stands behind an array's end.
    Rest,
}

/// Text that is no record, as far as it was seen. It is not held: its length may be that of the piece.
#[derive(Debug)]
struct Broken {
    record: Record,
    reason: String,
    how: How,
    layout: JsonLayout,
    depth: u64,
    in_string: bool,
    escaped: bool,
    /// White space that the next record's line begins with, at most.
    indent: u64,
    /// White space seen since a line began; none when other bytes were.
    margin: Option<u64>,
    /// Offset in the file after the last byte that is more than space between records.
    end: u64,
}

impl Broken {
    fn new(walk: &Walk, record: Record, text: &[u8], start: usize, reason: String) -> Self {
        let how = match text.get(start) {
            _ if walk.records.is_over() => How::Rest,
            Some(b'{') => How::Record,
            _ => How::Plain,
        };
        Self {
            record,
            reason,
            how,
            layout: walk.records.layout(),
            depth: 0,
            in_string: false,
            escaped: false,
            indent: walk.lines.map_or(0, |lines| lines.indent()),
            margin: None,
            end: record.offset,
        }
    }

    /// Looks for its end in `text` from `at` on: where to go on, or none.
    fn scan(&mut self, text: &[u8], at: usize, base: u64) -> Option<usize> {
        let array = self.layout == JsonLayout::Array;
        for (at, byte) in text.iter().enumerate().skip(at) {
            let offset = base + at as u64;
            let first = offset == self.record.offset;
            let white = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
            if self.how == How::Rest {
                self.end = if white { self.end } else { offset + 1 };
                continue;
            }
            match (byte, self.margin) {
                (b'\n', _) if self.how == How::Plain && !array => return Some(at),
                (b'\n', _) => self.margin = Some(0),
                (b'{', Some(margin)) if margin <= self.indent => return Some(at),
                (_, Some(margin)) if white => self.margin = Some(margin + 1),
                _ => self.margin = None,
            }
            match (self.how, byte) {
                (How::Plain, b',' | b']' | b'{') if array && !first => return Some(at),
                (How::Plain | How::Rest, _) => {}
                (How::Record, byte) if self.in_string => match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                },
                (How::Record, b'"') => self.in_string = true,
                (How::Record, b'{' | b'[') => self.depth += 1,
                // It closes what is around the record.
                (How::Record, b']') if self.depth == 1 && array => return Some(at),
                (How::Record, b']') if self.depth == 1 => {}
                (How::Record, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        self.end = offset + 1;
                        return Some(at + 1);
                    }
                }
                (How::Record, _) => {}
            }
            if first || !(white || (array && *byte == b',')) {
                self.end = offset + 1;
            }
        }
        None
    }
}
