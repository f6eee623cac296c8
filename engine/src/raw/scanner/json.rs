//! Record starts of JSON: depth, strings and escapes, nothing more.

use memchr::memchr2;
use serde::{Deserialize, Serialize};

use super::{Notes, Scan};
use crate::raw::manifest::{BYTE_ORDER_MARK, JsonLayout, Split};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Before the first byte that is not white space; so many bytes of a byte order mark were seen.
    Start(usize),
    /// Between records.
    Between,
    /// In a record that began with a bracket, this many levels deep, outside strings.
    Nested(u64),
    /// In a string of a record.
    String {
        /// Of the brackets around it.
        depth: u64,
        /// The byte before was a backslash.
        escaped: bool,
    },
    /// In a number or a literal that is a record by itself, or between a record and its comma.
    Plain,
    /// After the array's end, or after something that can't be.
    Ended {
        /// It was the array's end, and only white space followed.
        well: bool,
    },
}

/// Where a scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// In its record.
    pub state: State,
    /// As far as it is told.
    pub layout: JsonLayout,
}

/// Bytes that matter inside a record and outside strings.
pub(super) const STRUCTURAL: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'{' as usize] = true;
    table[b'}' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};

#[derive(Debug)]
pub struct JsonScanner {
    state: State,
    layout: JsonLayout,
    notes: Notes,
}

impl JsonScanner {
    pub fn new(split_size: u64) -> Self {
        Self { state: State::Start(0), layout: JsonLayout::Lines, notes: Notes::new(split_size) }
    }

    pub fn resume(standing: Standing, split_size: u64, offset: u64) -> Self {
        Self { state: standing.state, layout: standing.layout, notes: Notes::resume(split_size, offset) }
    }

    pub fn standing(&self) -> Standing {
        Standing { state: self.state, layout: self.layout }
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
        Self { state: standing.state, layout: standing.layout, notes }.finish()
    }

    pub fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.state {
                State::Start(mark) => self.start(chunk, at, mark),
                State::Between => self.between(chunk, at),
                State::Nested(depth) => self.nested(chunk, at, depth),
                State::String { depth, escaped } => self.string(chunk, at, depth, escaped),
                State::Plain => self.plain(chunk, at),
                State::Ended { well } => {
                    let blank = chunk[at..].iter().all(u8::is_ascii_whitespace);
                    self.state = State::Ended { well: well && blank };
                    chunk.len()
                }
            };
        }
        self.notes.chunk_ends(chunk);
    }

    fn start(&mut self, chunk: &[u8], at: usize, mark: usize) -> usize {
        let byte = chunk[at];
        if self.notes.base + at as u64 == mark as u64 && BYTE_ORDER_MARK.get(mark) == Some(&byte) {
            self.state = State::Start(mark + 1);
            return at + 1;
        }
        match byte {
            b'[' => {
                self.layout = JsonLayout::Array;
                self.notes.region_starts(chunk, at + 1);
                self.state = State::Between;
                at + 1
            }
            byte if byte.is_ascii_whitespace() => at + 1,
            _ => {
                self.notes.region_starts(chunk, at);
                self.state = State::Between;
                at
            }
        }
    }

    fn between(&mut self, chunk: &[u8], at: usize) -> usize {
        let array = self.layout == JsonLayout::Array;
        self.state = match chunk[at] {
            b' ' | b'\n' | b'\r' | b'\t' => return at + 1,
            b']' if array => State::Ended { well: true },
            b'{' | b'[' => State::Nested(1),
            b'"' => State::String { depth: 0, escaped: false },
            b'}' | b']' | b',' => State::Ended { well: false },
            _ => State::Plain,
        };
        if !matches!(self.state, State::Ended { .. }) {
            self.notes.record_starts(chunk, at);
        }
        at + 1
    }

    #[inline]
    fn nested(&mut self, chunk: &[u8], at: usize, mut depth: u64) -> usize {
        let mut at = at;
        while at < chunk.len() {
            let byte = chunk[at];
            at += 1;
            if !STRUCTURAL[byte as usize] {
                continue;
            }
            match byte {
                b'"' => {
                    // Most strings end in the same chunk and hold no escape.
                    match memchr2(b'"', b'\\', &chunk[at..]) {
                        Some(length) if chunk[at + length] == b'"' => at += length + 1,
                        _ => {
                            self.state = State::String { depth, escaped: false };
                            return at;
                        }
                    }
                }
                b'{' | b'[' => depth += 1,
                _ if depth == 1 => {
                    self.state = self.after_record();
                    return at;
                }
                _ => depth -= 1,
            }
        }
        self.state = State::Nested(depth);
        at
    }

    fn string(&mut self, chunk: &[u8], at: usize, depth: u64, escaped: bool) -> usize {
        if escaped {
            self.state = State::String { depth, escaped: false };
            return at + 1;
        }
        let Some(length) = memchr2(b'"', b'\\', &chunk[at..]) else { return chunk.len() };
        self.state = if chunk[at + length] == b'\\' {
            State::String { depth, escaped: true }
        } else if depth == 0 {
            self.after_record()
        } else {
            State::Nested(depth)
        };
        at + length + 1
    }

    fn plain(&mut self, chunk: &[u8], at: usize) -> usize {
        match (self.layout, chunk[at]) {
            (JsonLayout::Array, b',') => self.state = State::Between,
            (JsonLayout::Array, b']') => self.state = State::Ended { well: true },
            (JsonLayout::Lines, b' ' | b'\n' | b'\r' | b'\t') => self.state = State::Between,
            (_, b'{' | b'}' | b'[' | b']' | b'"') => self.state = State::Ended { well: false },
            _ => {}
        }
        at + 1
    }

    fn after_record(&self) -> State {
        match self.layout {
            JsonLayout::Array => State::Plain,
            JsonLayout::Lines => State::Between,
        }
    }

    pub fn finish(self) -> Scan {
        let well = match (self.layout, self.state) {
            (JsonLayout::Array, State::Ended { well }) => well,
            (JsonLayout::Lines, State::Between | State::Plain | State::Start(0 | 3)) => true,
            _ => false,
        };
        let region = if matches!(self.state, State::Start(3)) { 3 } else { 0 };
        Scan {
            layout: Some(self.layout),
            records: well.then_some(self.notes.records),
            splits: self.notes.into_splits(region),
        }
    }
}
