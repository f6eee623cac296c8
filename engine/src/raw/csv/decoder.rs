//! Decodes a piece of a CSV file into record batches.
//!
//! RFC 4180, as the `csv` crate reads it: a line ends with `\n`, `\r\n` or `\r`, blank lines are no records, a quote matters only where a field starts,
//! and two quotes in quotes are one. Unlike there, an unquoted empty field is NULL, and so is any empty field of a column that holds no text; quotes
//! that are never closed are an error, and so is text after a closing quote: files in which a backslash escapes quotes would be read as what they are not.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, NullBufferBuilder, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, SchemaRef},
};
use memchr::{memchr, memchr2};

use super::ends::Ends;
use crate::{
    error::Result,
    raw::{
        dialect::{CsvOptions, Dialect},
        json::{
            columns::{cast_text, strings},
            lex::{Lex, Stop, bad},
        },
        manifest::BYTE_ORDER_MARK,
        piece::{Decode, MAX_RECORD, Malformed},
        places::{Lines, Places, Record, reason},
        text::Text,
    },
};

/// A field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// The bytes between these offsets.
    Plain(usize, usize),
    /// The same, of what stood in quotes; with doubled or escaped quotes, which take another pass.
    Quoted { from: usize, to: usize, simple: bool },
    /// After the closing quote at this offset stands what is no part of the field.
    Trailing(usize),
}

/// What ends a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Delimiter,
    Record,
}

/// Offset of the next record; `None` if there are only line ends.
pub(super) fn next_record(text: &[u8], mut at: usize) -> Option<usize> {
    while let Some(b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    (at < text.len()).then_some(at)
}

/// Reads the field at `at`: the field, what ends it and the offset after that.
#[inline(always)]
fn field(ends: &mut Ends, at: usize, end: bool) -> Lex<(Field, End, usize)> {
    let text = ends.text;
    let quoted = match (text.get(at), ends.dialect.quote) {
        (Some(byte), Some(quote)) if *byte == quote => Some(quotes(text, at + 1, end, quote, ends.dialect.escape)?),
        _ => None,
    };
    let rest = quoted.map_or(at, |(closing, _)| closing + 1);
    let (stop, ended_by, after) = match ends.next(rest) {
        Some(stop) if text[stop] == ends.dialect.delimiter => (stop, End::Delimiter, stop + 1),
        Some(stop) => (stop, End::Record, stop + 1),
        None if end => (text.len(), End::Record, text.len()),
        None => return Err(Stop::Incomplete),
    };
    let field = match quoted {
        None => Field::Plain(at, stop),
        Some((closing, simple)) if stop == rest || blank_after(text, closing, stop) => {
            Field::Quoted { from: at + 1, to: closing, simple }
        }
        Some((closing, _)) => Field::Trailing(closing),
    };
    Ok((field, ended_by, after))
}

/// Whether there is only space between a closing quote and what ends its field, which Spark passes over, too. After a backslash the quote may be none
/// that closes.
#[cold]
fn blank_after(text: &[u8], closing: usize, stop: usize) -> bool {
    text[closing + 1..stop].iter().all(|byte| matches!(byte, b' ' | b'\t')) && text[closing - 1] != b'\\'
}

/// The offset of the quote that closes what starts at `from`, and whether nothing is doubled or escaped before it.
fn quotes(text: &[u8], from: usize, end: bool, quote: u8, escape: Option<u8>) -> Lex<(usize, bool)> {
    let mut at = from;
    let mut simple = true;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let found = escape.map_or_else(|| memchr(quote, rest), |escape| memchr2(quote, escape, rest));
        let Some(length) = found else {
            return if end { bad(from - 1, NEVER_CLOSED) } else { Err(Stop::Incomplete) };
        };
        at += length;
        match text.get(at + 1) {
            None if !end => return Err(Stop::Incomplete),
            _ if text[at] != quote => {
                simple = false;
                at += 2;
            }
            Some(byte) if *byte == quote => {
                simple = false;
                at += 2;
            }
            _ => return Ok((at, simple)),
        }
    }
}

/// Appends a quoted field that is not simple: a doubled quote is one, and an escape takes a quote or an escape as it is.
fn unquote(mut raw: &[u8], dialect: Dialect, out: &mut Vec<u8>) {
    let quote = dialect.quote.unwrap_or_default();
    let escape = dialect.escape.unwrap_or(quote);
    while let Some(length) = memchr2(quote, escape, raw) {
        out.extend_from_slice(&raw[..length]);
        let (first, second) = (raw[length], raw.get(length + 1));
        let one = match second {
            Some(second) if first == quote => *second == quote,
            Some(second) => [quote, escape].contains(second),
            None => false,
        };
        out.push(if one { second.copied().unwrap_or(first) } else { first });
        raw = raw.get(length + 1 + usize::from(one)..).unwrap_or_default();
    }
    out.extend_from_slice(raw);
}

/// How a wrong number of fields is told.
const FOUND_RECORD: &str = "found a record of ";
const NEVER_CLOSED: &str = "found a quote that is never closed";
/// The way out where quotes are escaped by backslashes.
const BACKSLASH: &str = "where a backslash before a quote escapes it, say so by the option `escape: '\\'`";

/// What is wrong with a quoted field that goes on after its closing quote.
#[cold]
fn trailing(text: &[u8], closing: usize) -> String {
    let what = "found text after the closing quote of a field";
    if text[closing - 1] == b'\\' { format!("{what}; {BACKSLASH}") } else { what.to_string() }
}

/// Reads the record at `at`, calling `each` with its fields: the number of fields and the offset after it.
#[inline(always)]
fn record(ends: &mut Ends, mut at: usize, end: bool, mut each: impl FnMut(usize, Field)) -> Lex<(usize, usize)> {
    let mut index = 0;
    loop {
        let (found, ended_by, after) = field(ends, at, end)?;
        each(index, found);
        index += 1;
        at = after;
        if ended_by == End::Record {
            return Ok((index, at));
        }
    }
}

/// The fields of the first record, for a header; `None` if the text holds none.
pub(super) fn first_record(text: &[u8], dialect: Dialect, end: bool) -> Lex<Option<Vec<Vec<u8>>>> {
    let start = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let Some(start) = next_record(text, start) else { return if end { Ok(None) } else { Err(Stop::Incomplete) } };
    let mut fields = Vec::new();
    let mut wrong = None;
    record(&mut Ends::new(text, dialect), start, end, |_, field| {
        let mut content = Vec::new();
        append(text, field, dialect, &mut content);
        fields.push(content);
        if let Field::Trailing(closing) = field {
            wrong = wrong.or(Some(closing));
        }
    })?;
    match wrong {
        Some(closing) => bad(closing, trailing(text, closing)),
        None => Ok(Some(fields)),
    }
}

/// Appends a field's content; false if it is NULL.
#[inline(always)]
fn append(text: &[u8], field: Field, dialect: Dialect, out: &mut Vec<u8>) -> bool {
    match field {
        Field::Plain(from, to) => {
            out.extend_from_slice(&text[from..to]);
            to > from
        }
        Field::Quoted { from, to, simple: true } => {
            out.extend_from_slice(&text[from..to]);
            true
        }
        Field::Quoted { from, to, simple: false } => {
            unquote(&text[from..to], dialect, out);
            true
        }
        Field::Trailing(_) => false,
    }
}

/// A column that is asked for.
#[derive(Debug)]
struct Column {
    text: Text,
    valid: NullBufferBuilder,
    data_type: DataType,
    /// Of what is no text an empty field is no value, in quotes or not.
    blank_is_null: bool,
}

/// Decoder of one piece; columns that are not asked for are only stepped over.
#[derive(Debug)]
pub(crate) struct CsvDecoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    options: CsvOptions,
    /// For each field of a record, the column that takes it.
    takers: Vec<Option<usize>>,
    /// The file's first bytes are still to come: a byte order mark, and the header where there is one.
    beginning: bool,
    /// The last field of the record before ends with a backslash before its closing quote.
    slash: bool,
    /// Offset in the file of each row of the batch at hand.
    starts: Vec<u64>,
    /// More about each row, where it is asked for.
    places: Option<(Places, Lines)>,
    /// Bad records are rows of nulls, not refused.
    lenient: bool,
}

impl CsvDecoder {
    /// A decoder of a file with `width` fields, of which `indices` are asked for and make up `schema`. It refuses bad records.
    pub fn new(schema: SchemaRef, width: usize, indices: &[usize], first: bool) -> Self {
        let columns = schema.fields().iter().take(indices.len()).map(|field| Column {
            text: Text::new(),
            valid: NullBufferBuilder::new(0),
            data_type: field.data_type().clone(),
            blank_is_null: *field.data_type() != DataType::Utf8,
        });
        let takers = (0..width).map(|index| indices.iter().position(|wanted| *wanted == index)).collect();
        let columns = columns.collect();
        Self {
            columns,
            schema,
            options: CsvOptions::default(),
            takers,
            beginning: first,
            slash: false,
            starts: Vec::new(),
            places: None,
            lenient: false,
        }
    }

    /// The same of CSV that is written otherwise.
    pub fn with_options(self, options: CsvOptions) -> Self {
        Self { options, ..self }
    }

    /// The same with the columns of `places`, which are the schema's last; if `lenient`, bad records are rows of nulls.
    pub fn with_places(self, places: Places, lines: Lines, lenient: bool) -> Self {
        Self { places: Some((places, lines)), lenient, ..self }
    }

    /// Skips the byte order mark and the header; the offset after them.
    fn skip_beginning(&mut self, text: &[u8], end: bool) -> Lex<usize> {
        if text.len() < BYTE_ORDER_MARK.len() && !end {
            return Err(Stop::Incomplete);
        }
        let mark = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        if !self.options.dialect.header {
            self.beginning = false;
            return Ok(mark);
        }
        let Some(start) = next_record(text, mark) else {
            return if end { Ok(text.len()) } else { Err(Stop::Incomplete) };
        };
        let (_, after) = record(&mut Ends::new(text, self.options.dialect), start, end, |_, _| {})?;
        self.beginning = false;
        Ok(after)
    }

    fn push(&mut self, ends: &mut Ends, start: usize, end: bool) -> Lex<usize> {
        let text = ends.text;
        let width = self.takers.len();
        let (columns, takers) = (&mut self.columns, &self.takers);
        let (dialect, null_value) = (self.options.dialect, self.options.null_value.as_deref().map(str::as_bytes));
        let (mut wrong, mut slash, mut last_slash) = (None, false, false);
        let (found, after) = record(ends, start, end, |index, field| {
            last_slash = false;
            match field {
                Field::Quoted { from, to, .. } if to > from && text[to - 1] == b'\\' => last_slash = true,
                Field::Trailing(closing) => wrong = wrong.or(Some(closing)),
                _ => {}
            }
            slash |= last_slash;
            if let Some(column) = takers.get(index).copied().flatten().and_then(|taker| columns.get_mut(taker)) {
                let from = column.text.bytes.len();
                let mut valid = append(text, field, dialect, &mut column.text.bytes);
                if column.blank_is_null || null_value.is_some() {
                    let content = &column.text.bytes[from..];
                    valid &= !(column.blank_is_null && content.is_empty()) && null_value != Some(content);
                    column.text.bytes.truncate(if valid { usize::MAX } else { from });
                }
                column.text.end();
                column.valid.append(valid);
            }
        })?;
        if let Some(closing) = wrong {
            return bad(closing, trailing(text, closing));
        }
        if found != width {
            return bad(start, self.wrong_number(found, &text[start..after]));
        }
        let suspect = (slash || self.slash) && dialect.escape.is_none();
        if suspect && let Some(quote) = quote_in_plain(ends, start, end, !slash)? {
            return bad(quote, format!("found a quote in a field without quotes; {BACKSLASH}"));
        }
        self.slash = last_slash;
        Ok(after)
    }

    /// What is wrong with a record that has another number of fields than it must.
    #[cold]
    fn wrong_number(&self, found: usize, record: &[u8]) -> String {
        let width = self.takers.len();
        let of = if self.options.dialect.header { "the header" } else { "the first record, or the declared schema," };
        let what = format!("{FOUND_RECORD}{found} fields, {of} has {width}");
        let escaped =
            self.options.dialect.quote.is_some_and(|quote| memchr::memmem::find(record, &[b'\\', quote]).is_some());
        if escaped && self.options.dialect.escape.is_none() { format!("{what}; {BACKSLASH}") } else { what }
    }
}

impl CsvDecoder {
    fn records(&mut self, text: &[u8], base: u64, end: bool, rows: usize) -> Result<usize, Malformed> {
        let mut at = 0;
        if self.beginning {
            match self.skip_beginning(text, end) {
                Ok(after) => at = after,
                Err(Stop::Incomplete) if !end => return Ok(0),
                Err(stop) => return Err(Malformed::cut_short(stop, text, base)),
            }
        }
        let mut ends = Ends::new(text, self.options.dialect);
        while self.starts.len() < rows {
            let Some(start) = next_record(text, at) else { return Ok(text.len()) };
            let line = self.line_at(text, base, start);
            let stop = match self.push(&mut ends, start, end) {
                Ok(after) => {
                    self.row(text, base, start..after, line);
                    at = after;
                    continue;
                }
                Err(stop) => stop,
            };
            let too_long = self.lenient && text.len() - start > MAX_RECORD;
            let waits = !end && !too_long;
            if matches!(stop, Stop::Bad(_)) && !self.lenient {
                return Err(Malformed::cut_short(stop, text, base));
            }
            let rows = self.starts.len();
            for column in &mut self.columns {
                column.text.truncate(rows);
                column.valid.truncate(rows);
            }
            if matches!(stop, Stop::Incomplete) && waits {
                return Ok(start);
            }
            if !self.lenient {
                return Err(Malformed::cut_short(stop, text, base));
            }
            // A quote that is never closed would take all that follows with it, so such a record ends with its line.
            let whole = record(&mut ends, start, end, |_, _| {});
            let after = whole.map_or_else(
                |_| {
                    let line_end = memchr2(b'\n', b'\r', text.get(start..).unwrap_or_default());
                    line_end.map_or(text.len(), |length| start + length)
                },
                |(_, after)| after,
            );
            let reason = match stop {
                Stop::Bad(bad) if bad.what.starts_with(FOUND_RECORD) => format!("wrong number of fields: {}", bad.what),
                Stop::Bad(bad) => reason(&[], &bad.what),
                Stop::Incomplete => reason(&[], NEVER_CLOSED),
            };
            for column in &mut self.columns {
                column.text.end();
                column.valid.append(false);
            }
            self.row(text, base, start..after, line);
            if let Some((places, _)) = &mut self.places {
                places.mark(rows, reason);
            }
            at = after;
        }
        Ok(at)
    }

    #[inline]
    fn row(&mut self, text: &[u8], base: u64, range: std::ops::Range<usize>, line: u64) {
        let offset = base + range.start as u64;
        self.starts.push(offset);
        if let Some((places, _)) = &mut self.places {
            let mut record = text.get(range).unwrap_or_default();
            while let [rest @ .., b'\n' | b'\r'] = record {
                record = rest;
            }
            places.push(Record { offset, length: record.len() as u64, line });
        }
    }

    fn line_at(&mut self, text: &[u8], base: u64, at: usize) -> u64 {
        self.places.as_mut().map_or(0, |(_, lines)| {
            lines.advance(text, base, at);
            lines.line()
        })
    }
}

/// The first quote in a field of a record that is not in quotes; `first`: only the record's first field is looked at, for a quote behind a backslash.
#[cold]
fn quote_in_plain(ends: &mut Ends, start: usize, end: bool, first: bool) -> Lex<Option<usize>> {
    let (text, quote) = (ends.text, ends.dialect.quote.unwrap_or_default());
    let mut found = None;
    record(ends, start, end, |index, field| {
        if let Field::Plain(from, to) = field
            && (index == 0 || !first)
        {
            let at = memchr(quote, &text[from..to]).map(|length| from + length);
            found = found.or(at.filter(|at| !first || (*at > from && text[at - 1] == b'\\')));
        }
    })?;
    Ok(found)
}

impl Decode for CsvDecoder {
    fn decode(&mut self, text: &[u8], base: u64, end: bool, rows: usize) -> Result<usize, Malformed> {
        let done = self.records(text, base, end, rows)?;
        self.line_at(text, base, done);
        Ok(done)
    }

    fn rows(&self) -> usize {
        self.starts.len()
    }

    fn finish(&mut self) -> Result<RecordBatch, Malformed> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let mut bad = Vec::new();
        for (index, column) in self.columns.iter_mut().enumerate() {
            let before = bad.len();
            let strings: ArrayRef = Arc::new(strings(&mut column.text, &mut column.valid, &mut bad));
            arrays.push(match &column.data_type {
                DataType::Utf8 => strings,
                other => cast_text(&strings, other, &mut bad),
            });
            bad.iter_mut().skip(before).for_each(|bad| bad.bad.path.push(self.schema.field(index).name().clone()));
        }
        for bad in bad {
            match &mut self.places {
                Some((places, _)) if self.lenient => places.mark(bad.row, reason(&bad.bad.path, &bad.bad.what)),
                _ => {
                    let offset = self.starts.get(bad.row).copied().unwrap_or_default();
                    return Err(Malformed { offset, what: bad.bad.what, path: bad.bad.path });
                }
            }
        }
        arrays.extend(self.places.iter_mut().flat_map(|(places, _)| places.finish()));
        let options = RecordBatchOptions::new().with_row_count(Some(self.starts.len()));
        self.starts.clear();
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(|error| Malformed {
            offset: 0,
            what: error.to_string(),
            path: Vec::new(),
        })
    }
}
