//! Record starts of CSV: quotes and line ends, nothing more.

use memchr::{memchr, memchr2, memchr3};
use serde::{Deserialize, Serialize};

use super::{Notes, Scan};
use crate::raw::{
    dialect::Dialect,
    manifest::{BYTE_ORDER_MARK, Split},
};

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
    /// In quotes, just past an escape.
    Escaped,
}

/// Every state.
pub const STATES: [State; 6] =
    [State::Between, State::FieldStart, State::Unquoted, State::Quoted, State::Quote, State::Escaped];

/// Where a scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// In its record.
    pub state: State,
    /// A record, or the header, has begun.
    pub begun: bool,
}

impl Standing {
    /// Before a text. Without a header the first record counts as those after it.
    pub fn beginning(dialect: Dialect) -> Self {
        Self { state: State::Between, begun: !dialect.header }
    }
}

#[derive(Debug)]
pub struct CsvScanner {
    dialect: Dialect,
    state: State,
    /// Records begun, the header among them.
    begun: u64,
    notes: Notes,
}

impl CsvScanner {
    pub fn new(dialect: Dialect, split_size: u64) -> Self {
        let mut notes = Notes::new(split_size);
        notes.region_starts(&[], 0);
        let Standing { state, begun } = Standing::beginning(dialect);
        Self { dialect, state, begun: begun.into(), notes }
    }

    pub fn resume(dialect: Dialect, standing: Standing, split_size: u64, offset: u64) -> Self {
        let mut notes = Notes::resume(split_size, offset);
        if offset == 0 {
            notes.region_starts(&[], 0);
        }
        Self { dialect, state: standing.state, begun: standing.begun.into(), notes }
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
        Self { dialect: Dialect::default(), state: standing.state, begun: 0, notes }.finish()
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
                    let quote = Some(chunk[at]) == self.dialect.quote;
                    self.state = if quote { State::Quoted } else { State::Unquoted };
                    at += usize::from(quote);
                }
                State::Unquoted => at = self.unquoted(chunk, at),
                State::Quoted => at = self.quoted(chunk, at),
                State::Quote => {
                    let quote = Some(chunk[at]) == self.dialect.quote;
                    self.state = if quote { State::Quoted } else { State::Unquoted };
                    at += usize::from(quote);
                }
                State::Escaped => {
                    self.state = State::Quoted;
                    at += 1;
                }
            }
        }
        self.notes.chunk_ends(chunk);
    }

    fn quoted(&mut self, chunk: &[u8], at: usize) -> usize {
        // Nothing is in quotes where there are none; such a state is only supposed.
        let Some(quote) = self.dialect.quote else { return chunk.len() };
        let rest = &chunk[at..];
        let found = self.dialect.escape.map_or_else(|| memchr(quote, rest), |escape| memchr2(quote, escape, rest));
        let Some(length) = found else { return chunk.len() };
        self.state = if rest[length] == quote { State::Quote } else { State::Escaped };
        at + length + 1
    }

    /// A quote matters only where a field starts, so only delimiters before quotes have to be seen: the byte before a quote tells.
    fn unquoted(&mut self, chunk: &[u8], mut at: usize) -> usize {
        let first = at;
        // Without quotes, a line end again.
        let (quote, delimiter) = (self.dialect.quote.unwrap_or(b'\n'), self.dialect.delimiter);
        loop {
            let Some(length) = memchr3(quote, b'\n', b'\r', &chunk[at..]) else {
                if chunk.last() == Some(&delimiter) {
                    self.state = State::FieldStart;
                }
                return chunk.len();
            };
            let found = at + length;
            at = found + 1;
            if matches!(chunk[found], b'\n' | b'\r') {
                self.state = State::Between;
                return at;
            }
            if found > first && chunk[found - 1] == delimiter {
                self.state = State::Quoted;
                return at;
            }
        }
    }

    pub fn finish(self) -> Scan {
        let well = !matches!(self.state, State::Quoted | State::Escaped);
        Scan { layout: None, records: well.then_some(self.notes.records), splits: self.notes.into_splits(0) }
    }
}
