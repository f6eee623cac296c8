//! Decodes a piece of a CSV file into record batches.
//!
//! RFC 4180, as the `csv` crate reads it: a line ends with `\n`, `\r\n` or `\r`, blank lines are no records, a quote matters only where a field starts,
//! and two quotes in quotes are one. Unlike there, an unquoted empty field is NULL and quotes that are never closed are an error.

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
    /// The same, of what stood in quotes; with doubled quotes or text after the closing quote, which take another pass.
    Quoted { from: usize, to: usize, simple: bool },
}

/// What ends a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Comma,
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
    let quoted = match text.get(at) {
        Some(b'"') => Some(quotes(text, at + 1, end)?),
        _ => None,
    };
    let rest = quoted.map_or(at, |(closing, _)| closing + 1);
    let (stop, ended_by, after) = match ends.next(rest) {
        Some(stop) if text[stop] == b',' => (stop, End::Comma, stop + 1),
        Some(stop) => (stop, End::Record, stop + 1),
        None if end => (text.len(), End::Record, text.len()),
        None => return Err(Stop::Incomplete),
    };
    let field = match quoted {
        None => Field::Plain(at, stop),
        Some((closing, simple)) if stop == rest => Field::Quoted { from: at + 1, to: closing, simple },
        Some(_) => Field::Quoted { from: at + 1, to: stop, simple: false },
    };
    Ok((field, ended_by, after))
}

/// The offset of the quote that closes what starts at `from`, and whether there is no doubled quote before it.
fn quotes(text: &[u8], from: usize, end: bool) -> Lex<(usize, bool)> {
    let mut at = from;
    let mut simple = true;
    loop {
        let Some(length) = memchr(b'"', text.get(at..).unwrap_or_default()) else {
            return if end { bad(from - 1, "found a quote that is never closed") } else { Err(Stop::Incomplete) };
        };
        at += length;
        match text.get(at + 1) {
            Some(b'"') => {
                simple = false;
                at += 2;
            }
            None if !end => return Err(Stop::Incomplete),
            _ => return Ok((at, simple)),
        }
    }
}

/// Appends a quoted field that is not simple: doubled quotes up to the closing one, then bytes as they are.
fn unquote(mut raw: &[u8], out: &mut Vec<u8>) {
    while let Some(length) = memchr(b'"', raw) {
        out.extend_from_slice(&raw[..length]);
        raw = &raw[length + 1..];
        match raw.strip_prefix(b"\"") {
            Some(rest) => {
                out.push(b'"');
                raw = rest;
            }
            None => break,
        }
    }
    out.extend_from_slice(raw);
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
pub(super) fn first_record(text: &[u8], end: bool) -> Lex<Option<Vec<Vec<u8>>>> {
    let start = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let Some(start) = next_record(text, start) else { return if end { Ok(None) } else { Err(Stop::Incomplete) } };
    let mut fields = Vec::new();
    record(&mut Ends::new(text), start, end, |_, field| {
        let mut content = Vec::new();
        append(text, field, &mut content);
        fields.push(content);
    })?;
    Ok(Some(fields))
}

/// Appends a field's content; false if it is NULL.
#[inline(always)]
fn append(text: &[u8], field: Field, out: &mut Vec<u8>) -> bool {
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
            unquote(&text[from..to], out);
            true
        }
    }
}

/// A column that is asked for.
#[derive(Debug)]
struct Column {
    text: Text,
    valid: NullBufferBuilder,
    data_type: DataType,
}

/// Decoder of one piece; columns that are not asked for are only stepped over.
#[derive(Debug)]
pub(crate) struct CsvDecoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// For each field of a record, the column that takes it.
    takers: Vec<Option<usize>>,
    /// The header is still to come.
    header: bool,
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
        });
        let takers = (0..width).map(|index| indices.iter().position(|wanted| *wanted == index)).collect();
        let columns = columns.collect();
        Self { columns, schema, takers, header: first, starts: Vec::new(), places: None, lenient: false }
    }

    /// The same with the columns of `places`, which are the schema's last; if `lenient`, bad records are rows of nulls.
    pub fn with_places(self, places: Places, lines: Lines, lenient: bool) -> Self {
        Self { places: Some((places, lines)), lenient, ..self }
    }

    /// Skips the byte order mark and the header; the offset after them.
    fn skip_header(&mut self, text: &[u8], end: bool) -> Lex<usize> {
        if text.len() < BYTE_ORDER_MARK.len() && !end {
            return Err(Stop::Incomplete);
        }
        let mark = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let Some(start) = next_record(text, mark) else {
            return if end { Ok(text.len()) } else { Err(Stop::Incomplete) };
        };
        let (_, after) = record(&mut Ends::new(text), start, end, |_, _| {})?;
        self.header = false;
        Ok(after)
    }

    fn push(&mut self, ends: &mut Ends, start: usize, end: bool) -> Lex<usize> {
        let text = ends.text;
        let width = self.takers.len();
        let (columns, takers) = (&mut self.columns, &self.takers);
        let (found, after) = record(ends, start, end, |index, field| {
            if let Some(column) = takers.get(index).copied().flatten().and_then(|taker| columns.get_mut(taker)) {
                let valid = append(text, field, &mut column.text.bytes);
                column.text.end();
                column.valid.append(valid);
            }
        })?;
        if found == width {
            Ok(after)
        } else {
            bad(start, format!("found a record of {found} fields, the header has {width}"))
        }
    }
}

impl CsvDecoder {
    fn records(&mut self, text: &[u8], base: u64, end: bool, rows: usize) -> Result<usize, Malformed> {
        let mut at = 0;
        if self.header {
            match self.skip_header(text, end) {
                Ok(after) => at = after,
                Err(Stop::Incomplete) if !end => return Ok(0),
                Err(stop) => return Err(Malformed::cut_short(stop, text, base)),
            }
        }
        let mut ends = Ends::new(text);
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
            let (after, reason) = match record(&mut ends, start, end, |_, _| {}) {
                Ok((found, after)) => (after, wrong_number(found, self.takers.len())),
                Err(_) => {
                    let line_end = memchr2(b'\n', b'\r', text.get(start..).unwrap_or_default());
                    let what = "malformed: found a quote that is never closed";
                    (line_end.map_or(text.len(), |length| start + length), what.to_string())
                }
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

fn wrong_number(found: usize, width: usize) -> String {
    format!("wrong number of fields: found a record of {found} fields, the header has {width}")
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
