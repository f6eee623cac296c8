//! Record starts of CSV: quotes and line ends, nothing more.

use memchr::{memchr, memchr3};
use serde::{Deserialize, Serialize};

use super::{Notes, Scan};
use crate::raw::manifest::{BYTE_ORDER_MARK, Split};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Before a record, or in the blank lines before it.
    Between,
    /// In a record, at the first byte of a field.
    FieldStart,
    /// In a record, outside quotes, past a field's first byte.
    Unquoted,
    /// In quotes.
    Quoted,
    /// Just past a quote that ends the quotes, unless another one follows.
    Quote,
}

/// Every state.
pub const STATES: [State; 5] = [State::Between, State::FieldStart, State::Unquoted, State::Quoted, State::Quote];

/// Where a scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// In its record.
    pub state: State,
    /// A record, or the header, has begun.
    pub begun: bool,
}

#[derive(Debug)]
pub struct CsvScanner {
    state: State,
    /// Records begun, the header among them.
    begun: u64,
    notes: Notes,
}

impl CsvScanner {
    pub fn new(split_size: u64) -> Self {
        let mut notes = Notes::new(split_size);
        notes.region_starts(&[], 0);
        Self { state: State::Between, begun: 0, notes }
    }

    pub fn resume(standing: Standing, split_size: u64, offset: u64) -> Self {
        let mut notes = Notes::resume(split_size, offset);
        if offset == 0 {
            notes.region_starts(&[], 0);
        }
        Self { state: standing.state, begun: standing.begun.into(), notes }
    }

    pub fn standing(&self) -> Standing {
        Standing { state: self.state, begun: self.begun > 0 }
    }

    pub fn splits(&self) -> &[Split] {
        &self.notes.splits
    }

    pub(super) fn into_notes(self) -> Notes {
        self.notes
    }

    /// What was found in a text that ended as this scanner stands.
    pub fn ended(standing: Standing, splits: Vec<Split>, records: u64) -> Scan {
        let notes = Notes { splits, records, ..Notes::new(1) };
        Self { state: standing.state, begun: 0, notes }.finish()
    }

    pub fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            match self.state {
                State::Between => {
                    let offset = self.notes.base + at as u64;
                    let byte = chunk[at];
                    // A byte order mark is no part of the first field: a quote right after it is a quote.
                    let mark = usize::try_from(offset).ok().and_then(|offset| BYTE_ORDER_MARK.get(offset));
                    if byte == b'\n' || byte == b'\r' || mark == Some(&byte) {
                        at += 1;
                        continue;
                    }
                    if self.begun > 0 {
                        self.notes.record_starts(chunk, at);
                    }
                    self.begun += 1;
                    self.state = State::FieldStart;
                }
                State::FieldStart => {
                    self.state = if chunk[at] == b'"' { State::Quoted } else { State::Unquoted };
                    at += usize::from(chunk[at] == b'"');
                }
                State::Unquoted => at = self.unquoted(chunk, at),
                State::Quoted => match memchr(b'"', &chunk[at..]) {
                    Some(length) => {
                        at += length + 1;
                        self.state = State::Quote;
                    }
                    None => at = chunk.len(),
                },
                State::Quote => {
                    self.state = if chunk[at] == b'"' { State::Quoted } else { State::Unquoted };
                    at += usize::from(chunk[at] == b'"');
                }
            }
        }
        self.notes.chunk_ends(chunk);
    }

    /// A quote matters only where a field starts, so only commas before quotes have to be seen: the byte before a quote tells.
    fn unquoted(&mut self, chunk: &[u8], mut at: usize) -> usize {
        let first = at;
        loop {
            let Some(length) = memchr3(b'"', b'\n', b'\r', &chunk[at..]) else {
                if chunk.last() == Some(&b',') {
                    self.state = State::FieldStart;
                }
                return chunk.len();
            };
            let found = at + length;
            at = found + 1;
            if chunk[found] != b'"' {
                self.state = State::Between;
                return at;
            }
            if found > first && chunk[found - 1] == b',' {
                self.state = State::Quoted;
                return at;
            }
        }
    }

    pub fn finish(self) -> Scan {
        let well = self.state != State::Quoted;
        Scan { layout: None, records: well.then_some(self.notes.records), splits: self.notes.into_splits(0) }
    }
}
