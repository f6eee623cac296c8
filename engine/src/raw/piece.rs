//! Reads a byte range of a raw file, record by record, with memory bounded by the largest record.

use std::{ops::Range, sync::Arc};

use arrow::array::RecordBatch;
use datafusion::{error::DataFusionError, physical_plan::metrics::Count};
use futures::stream::BoxStream;

use super::{
    json::lex::Stop,
    manifest::Part,
    stored::{Stored, TextChunks, TextFile},
    zone::RawZone,
};
use crate::error::{Code, Error, Result};

/// A batch ends after so much text, however few records that is.
const BATCH_BYTES: u64 = 8 * 1024 * 1024;

/// Longest record. A quote or a bracket that is never closed would otherwise take the rest of the file into memory.
pub(crate) const MAX_RECORD: usize = 256 * 1024 * 1024;

/// How far back from a split the start of its line is looked for.
const LINE_BEFORE: u64 = 64 * 1024;

/// Bytes that are shown before and after a place.
const BEFORE: u64 = 30;
const AFTER: u64 = 50;
const KEPT: usize = (BEFORE + AFTER) as usize;

/// Text that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Offset in the text.
    pub offset: u64,
    /// What was found, and what was expected.
    pub what: String,
    /// Names of the fields that lead to it, innermost first.
    pub path: Vec<String>,
}

impl Malformed {
    /// Why reading `text`, which is at `base` in the file and is all there is, stopped.
    pub fn cut_short(stop: Stop, text: &[u8], base: u64) -> Self {
        match stop {
            Stop::Bad(bad) => Self { offset: base + bad.at as u64, what: bad.what, path: bad.path },
            Stop::Incomplete => Self {
                offset: base + text.len() as u64,
                what: "the text ends inside a record".to_string(),
                path: Vec::new(),
            },
        }
    }
}

/// Turns text into rows.
pub(crate) trait Decode: Send + Sync + 'static {
    /// Decodes whole records from the start of `text`, which is at `base` in the file, until there are `rows` of them; the number of bytes
    /// that are done with. `end`: no more text follows in this piece, so all of it must be done with unless the rows are enough.
    fn decode(&mut self, text: &[u8], base: u64, end: bool, rows: usize) -> Result<usize, Malformed>;

    /// Rows decoded since the last batch.
    fn rows(&self) -> usize;

    /// These rows, as a batch.
    fn finish(&mut self) -> Result<RecordBatch, Malformed>;
}

/// A byte range of a text in a store.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub file: TextFile,
    pub range: Range<u64>,
    /// Counts the bytes that were read.
    pub bytes_read: Count,
}

/// Reads a piece through a decoder.
pub(crate) struct PieceReader<D> {
    piece: Piece,
    decoder: D,
    /// Text at hand; `done` bytes of it are done with.
    text: Vec<u8>,
    done: usize,
    /// Offset in the whole text of `text`'s end.
    read_to: u64,
    chunks: Option<TextChunks>,
}

impl<D: Decode> PieceReader<D> {
    pub fn new(piece: Piece, decoder: D) -> Self {
        let read_to = piece.range.start;
        Self { piece, decoder, text: Vec::new(), done: 0, read_to, chunks: None }
    }

    /// Batches of up to `rows` rows.
    pub fn batches(self, rows: usize) -> BoxStream<'static, Result<RecordBatch, DataFusionError>> {
        Box::pin(futures::stream::try_unfold(self, move |mut reader| async move {
            let batch = reader.next_batch(rows).await?;
            Ok(batch.map(|batch| (batch, reader)))
        }))
    }

    /// Reads to the end, letting each batch go; the decoder with what it learned.
    pub async fn drain(mut self, rows: usize) -> Result<D, DataFusionError> {
        while self.next_batch(rows).await?.is_some() {}
        Ok(self.decoder)
    }

    async fn next_batch(&mut self, rows: usize) -> Result<Option<RecordBatch>, DataFusionError> {
        let mut decoded = 0;
        loop {
            let at_end = self.read_to >= self.piece.range.end;
            let text = self.text.get(self.done..).unwrap_or_default();
            let base = self.read_to - text.len() as u64;
            let step = match self.decoder.decode(text, base, at_end, rows) {
                Ok(step) => step,
                Err(malformed) => return Err(self.located(malformed).await.into()),
            };
            self.done += step;
            decoded += step as u64;
            let full = self.decoder.rows() >= rows || decoded >= BATCH_BYTES;
            if (full || at_end) && self.decoder.rows() > 0 {
                return match self.decoder.finish() {
                    Ok(batch) => Ok(Some(batch)),
                    Err(malformed) => Err(self.located(malformed).await.into()),
                };
            }
            if at_end {
                return Ok(None);
            }
            self.read_more(base + step as u64).await?;
        }
    }

    /// Reads on; a record that is longer than what was read gets twice as much text each time, so that it is not looked at too often.
    async fn read_more(&mut self, record: u64) -> Result<(), DataFusionError> {
        self.text.drain(..self.done);
        self.done = 0;
        if self.text.len() > MAX_RECORD {
            let what = format!("a record is longer than {} MiB", MAX_RECORD / 1024 / 1024);
            return Err(self.located(Malformed { offset: record, what, path: Vec::new() }).await.into());
        }
        let enough = self.text.len() * 2;
        let Self { piece, chunks, .. } = self;
        let chunks = chunks.get_or_insert_with(|| piece.file.chunks(piece.range.clone(), piece.bytes_read.clone()));
        while let Some(bytes) = chunks.next().await? {
            self.read_to += bytes.len() as u64;
            self.text.extend_from_slice(&bytes);
            if self.text.len() >= enough || self.read_to >= self.piece.range.end {
                break;
            }
        }
        Ok(())
    }

    async fn located(&self, malformed: Malformed) -> Error {
        locate(&self.piece, &malformed).await
    }
}

/// A failure of the store, in the form that makes Ballista try the task again; a missing object does not come back, so that one fails at once.
pub(crate) fn storage_error(error: object_store::Error) -> DataFusionError {
    match error {
        object_store::Error::NotFound { .. } => Error::from(error).into(),
        error => DataFusionError::IoError(std::io::Error::other(error)),
    }
}

/// Bytes before a piece in which the start of its first line is looked for, to know how far that line is indented.
pub(crate) const INDENT_BEFORE: u64 = 1024;

/// The text right before a piece.
pub(crate) async fn text_before(file: &TextFile, start: u64) -> Result<Vec<u8>, DataFusionError> {
    // A text that can only be decoded from its start is one piece.
    if start == 0 { Ok(Vec::new()) } else { file.read(start.saturating_sub(INDENT_BEFORE)..start).await }
}

/// Says where in its file malformed text is, by reading the piece again: line, column, field and the text itself.
async fn locate(piece: &Piece, malformed: &Malformed) -> Error {
    let path = &piece.file.path;
    let manifest = RawZone::manifest_beside(piece.file.store.as_ref(), path).await.ok();
    let name = path.filename().unwrap_or_default();
    let part = manifest.as_ref().and_then(|manifest| manifest.parts.iter().find(|part| part.text_name() == name));
    // A plan has no more frames of a copy than its ranges need, and lines are counted from before them.
    let text = match part {
        Some(part) => TextFile { stored: Arc::new(Stored::of(part, &RawZone::folder_of(path))), ..piece.file.clone() },
        None => piece.file.clone(),
    };
    let file = match &manifest {
        Some(manifest) => {
            let stored = part.map_or_else(|| name.to_string(), Part::shown);
            format!("{}@{} ({}, stored as {stored})", manifest.source, manifest.version, manifest.origin)
        }
        None => path.to_string(),
    };
    let splits = part.map(|part| part.splits.as_slice()).unwrap_or_default();
    let known = splits.iter().rev().find(|split| split.offset <= malformed.offset);
    let (from, mut line) = known.map_or((0, 1), |split| (split.offset, split.line));
    // A split may be in the middle of a line; a line that began very much earlier is counted from there.
    let mut line_start = from.saturating_sub(LINE_BEFORE);
    let size = piece.range.end.max(part.map_or(0, Part::text_bytes));
    let mut chunks = text.chunks(line_start..size.min(malformed.offset + AFTER), Count::new());
    let mut at = line_start;
    let mut around = Vec::new();
    while let Ok(Some(chunk)) = chunks.next().await {
        // Of what is before the split only the last line break matters, of what is after the place none.
        let upto = |offset: u64| chunk.len().min(usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX));
        let (split, place) = (upto(from), upto(malformed.offset));
        line += memchr::memchr_iter(b'\n', chunk.get(split..place).unwrap_or_default()).count() as u64;
        if let Some(last) = memchr::memrchr(b'\n', chunk.get(..place).unwrap_or_default()) {
            line_start = at + last as u64 + 1;
        }
        at += chunk.len() as u64;
        around.extend_from_slice(&chunk);
        let passed = around.len().saturating_sub(KEPT);
        around.drain(..passed);
    }
    let column = malformed.offset.saturating_sub(line_start) + 1;
    let first = malformed.offset.saturating_sub(BEFORE).max(line_start);
    let shown = usize::try_from(at - first.min(at)).unwrap_or(usize::MAX).min(around.len());
    let excerpt = match around.get(around.len() - shown..) {
        Some(bytes) if !bytes.is_empty() => excerpt(bytes),
        _ => String::new(),
    };
    let field = malformed.path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".");
    let field = if field.is_empty() { field } else { format!(", field `{field}`") };
    let message = format!("{file}: line {line}, column {column}{field}: {}{excerpt}", malformed.what);
    Error::new(Code::BadRecord, message).hint(
        "nothing of it was applied; ask for a whole delivery, or declare the field as a string in the source's `schema` if its values are of several types",
    )
}

/// Text on one line, in quotes.
fn excerpt(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(", near `{}`", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Decodes a piece whose text comes in chunks of this size, without a store.
    pub fn decode_in_chunks(
        decoder: &mut impl Decode,
        piece: &[u8],
        base: u64,
        chunk: usize,
        rows: usize,
    ) -> Result<Vec<RecordBatch>, Malformed> {
        let (mut batches, mut done, mut read_to) = (Vec::new(), 0, 0);
        loop {
            let at_end = read_to >= piece.len();
            done += decoder.decode(&piece[done..read_to], base + done as u64, at_end, rows)?;
            let full = decoder.rows() >= rows;
            if (full || at_end) && decoder.rows() > 0 {
                batches.push(decoder.finish()?);
            } else if at_end {
                return Ok(batches);
            }
            if !full {
                read_to = piece.len().min(read_to + chunk);
            }
        }
    }
}
