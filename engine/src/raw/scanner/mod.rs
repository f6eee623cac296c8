//! Finds record starts while the bytes of a download stream by, so that any raw file can be read in parallel afterwards.
//!
//! A scanner never fails: text that is not well formed is stored as it came and is refused when it is read. Its splits are safe all the same,
//! because readers check that each piece is whole records and that the pieces join.

mod csv;
mod json;
mod ranges;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::raw::{
    dialect::Dialect,
    manifest::{JsonLayout, RawFormat, Split},
};

pub use ranges::{Composition, Summary};
pub(crate) use ranges::{Summing, ranges};

/// Splits about every 16 MiB: tasks get runs of them, which differ by less than one.
pub const DEFAULT_SPLIT_SIZE: u64 = 16 * 1024 * 1024;

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
        Self::of(format, Dialect::default(), split_size)
    }

    /// The same of CSV in this dialect.
    pub fn of(format: RawFormat, dialect: Dialect, split_size: u64) -> Self {
        match format {
            RawFormat::Json => Self::Json(json::JsonScanner::new(split_size)),
            RawFormat::Csv => Self::Csv(csv::CsvScanner::new(dialect, split_size)),
            RawFormat::Parquet => Self::Parquet,
        }
    }

    /// A scanner that goes on from where another one stood, at this offset, which is a multiple of the split size.
    pub fn resume(standing: Standing, dialect: Dialect, split_size: u64, offset: u64) -> Self {
        match standing {
            Standing::Json(standing) => Self::Json(json::JsonScanner::resume(standing, split_size, offset)),
            Standing::Csv(standing) => Self::Csv(csv::CsvScanner::resume(dialect, standing, split_size, offset)),
            Standing::Parquet => Self::Parquet,
        }
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Json(scanner) => Standing::Json(scanner.standing()),
            Self::Csv(scanner) => Standing::Csv(scanner.standing()),
            Self::Parquet => Standing::Parquet,
        }
    }

    /// What was found in the range that it was resumed for.
    pub fn pause(self) -> RangeScan {
        let exit = self.standing();
        let notes = match self {
            Self::Json(scanner) => scanner.into_notes(),
            Self::Csv(scanner) => scanner.into_notes(),
            Self::Parquet => Notes::new(1),
        };
        let Notes { splits, records, breaks, region, .. } = notes;
        RangeScan { exit, splits, records, breaks, region }
    }

    /// The splits found so far; the first is where the first record may start.
    pub(crate) fn splits(&self) -> &[Split] {
        match self {
            Self::Json(scanner) => scanner.splits(),
            Self::Csv(scanner) => scanner.splits(),
            Self::Parquet => &[],
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

/// Where a scanner stands between two bytes: all that it needs to go on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// In JSON.
    Json(json::Standing),
    /// In CSV.
    Csv(csv::Standing),
    /// Parquet is not scanned.
    Parquet,
}

/// What was found in a range of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeScan {
    /// Where the scanner stood after it.
    pub exit: Standing,
    /// The first record start of each cell of the split size; their lines are counted from the range's start.
    pub splits: Vec<Split>,
    /// Records that start in it.
    pub records: u64,
    /// Line breaks.
    pub breaks: u64,
    /// The first of `splits` is where the text's first record may start.
    pub region: bool,
}

/// Keeps the splits, with their lines, as record starts go by.
///
/// A record starts a split if it is the first that starts in its cell, where cells are `split_size` bytes long: so ranges of whole cells can be
/// scanned by themselves. The text's first record starts none, for it belongs to the first split.
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
    /// The next record that starts at this offset or later is the first of its cell.
    next_cell: u64,
    /// This is a range of a text, so its first record is noted too.
    resumed: bool,
    /// The first split is where the first record may start.
    region: bool,
}

impl Notes {
    fn new(split_size: u64) -> Self {
        Self {
            split_size: split_size.max(1),
            base: 0,
            breaks: 0,
            counted: 0,
            splits: Vec::new(),
            records: 0,
            next_cell: 0,
            resumed: false,
            region: false,
        }
    }

    /// Of a range that starts at this offset.
    fn resume(split_size: u64, base: u64) -> Self {
        Self { base, resumed: true, ..Self::new(split_size) }
    }

    /// The first record may start at `at` in the chunk.
    fn region_starts(&mut self, chunk: &[u8], at: usize) {
        self.region = true;
        let split = self.split_at(chunk, at);
        self.splits.push(split);
    }

    /// A record starts at `at` in the chunk.
    #[inline]
    fn record_starts(&mut self, chunk: &[u8], at: usize) {
        let offset = self.base + at as u64;
        if offset >= self.next_cell {
            if self.records > 0 || self.resumed {
                let split = self.split_at(chunk, at);
                self.splits.push(split);
            }
            self.next_cell = (offset / self.split_size + 1).saturating_mul(self.split_size);
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
