//! Finds record starts while the bytes of a download stream by, so that any raw file can be read in parallel afterwards.
//!
//! A scanner never fails: text that is not well formed is stored as it came and is refused when it is read. Its splits are safe all the same,
//! because readers check that each piece is whole records and that the pieces join.

mod csv;
mod json;
#[cfg(test)]
mod tests;

use crate::raw::manifest::{JsonLayout, RawFormat, Split};

/// Splits about every 64 MiB.
pub const DEFAULT_SPLIT_SIZE: u64 = 64 * 1024 * 1024;

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// JSON only.
    pub layout: Option<JsonLayout>,
    /// See [`crate::raw::manifest::Part::splits`].
    pub splits: Vec<Split>,
    /// Records, if the text is well formed as far as a scan can tell.
    pub records: Option<u64>,
}

/// Finds record starts in text that comes in chunks of any size.
#[derive(Debug)]
pub enum Scanner {
    /// JSON.
    Json(json::JsonScanner),
    /// CSV.
    Csv(csv::CsvScanner),
    /// Parquet: its row groups are its splits.
    Parquet,
}

impl Scanner {
    /// A scanner of text in `format` that notes a record start about every `split_size` bytes.
    pub fn new(format: RawFormat, split_size: u64) -> Self {
        match format {
            RawFormat::Json => Self::Json(json::JsonScanner::new(split_size)),
            RawFormat::Csv => Self::Csv(csv::CsvScanner::new(split_size)),
            RawFormat::Parquet => Self::Parquet,
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        match self {
            Self::Json(scanner) => scanner.feed(chunk),
            Self::Csv(scanner) => scanner.feed(chunk),
            Self::Parquet => {}
        }
    }

    /// What was found, after the last byte.
    pub fn finish(self) -> Scan {
        match self {
            Self::Json(scanner) => scanner.finish(),
            Self::Csv(scanner) => scanner.finish(),
            Self::Parquet => Scan { layout: None, splits: Vec::new(), records: None },
        }
    }
}

/// Keeps the splits, with their lines, as record starts go by.
#[derive(Debug)]
struct Notes {
    split_size: u64,
    /// Offset of the chunk at hand.
    base: u64,
    /// Line breaks before `base + counted`.
    breaks: u64,
    /// How much of the chunk at hand `breaks` covers.
    counted: usize,
    splits: Vec<Split>,
    records: u64,
}

impl Notes {
    fn new(split_size: u64) -> Self {
        Self { split_size: split_size.max(1), base: 0, breaks: 0, counted: 0, splits: Vec::new(), records: 0 }
    }

    /// The first record may start at `at` in the chunk.
    fn region_starts(&mut self, chunk: &[u8], at: usize) {
        let split = self.split_at(chunk, at);
        self.splits.push(split);
    }

    /// A record starts at `at` in the chunk.
    #[inline]
    fn record_starts(&mut self, chunk: &[u8], at: usize) {
        // The first record always belongs to the first split.
        if self.records > 0 {
            let last = self.splits.last().map_or(0, |split| split.offset);
            if self.base + at as u64 - last >= self.split_size {
                let split = self.split_at(chunk, at);
                self.splits.push(split);
            }
        }
        self.records += 1;
    }

    fn split_at(&mut self, chunk: &[u8], at: usize) -> Split {
        self.count_to(chunk, at);
        Split { offset: self.base + at as u64, line: self.breaks + 1 }
    }

    fn count_to(&mut self, chunk: &[u8], at: usize) {
        let passed = chunk.get(self.counted..at).unwrap_or_default();
        self.breaks += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.counted = at;
    }

    fn chunk_ends(&mut self, chunk: &[u8]) {
        self.count_to(chunk, chunk.len());
        self.base += chunk.len() as u64;
        self.counted = 0;
    }

    fn into_splits(self, region: u64) -> Vec<Split> {
        if self.splits.is_empty() { vec![Split { offset: region, line: 1 }] } else { self.splits }
    }
}
