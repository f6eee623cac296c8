//! Scans ranges of one text side by side.
//!
//! Where a scanner stands at the start of a range depends on all text before it. So each range is first summed up under every standing that is
//! possible there, as far as brackets and quotes go; the sums give the standings one after the other, and with those the ranges are scanned. What a
//! range's scan ends with must be what the next one began with; where it is not, because the text is not well formed, the rest is scanned again.

use std::ops::Range;

use memchr::memchr2;
use serde::{Deserialize, Serialize};

use super::{RangeScan, Scan, Scanner, Standing, csv, json};
use crate::raw::{
    dialect::Dialect,
    manifest::{JsonLayout, RawFormat},
};

/// Ranges of a text of so many bytes, each of so many whole cells.
pub(crate) fn ranges(bytes: u64, split_size: u64, cells: u64) -> Vec<Range<u64>> {
    let length = split_size.max(1).saturating_mul(cells.max(1));
    let count = bytes.div_ceil(length);
    (0..count).map(|index| index * length..bytes.min((index + 1).saturating_mul(length))).collect()
}

/// What a range does to a scanner, whatever that stands at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Summary {
    /// Of the first range, whose start is known: where the scanner stands after it.
    First(Standing),
    /// Outside strings, in a string, and past a backslash in a string.
    Json(Box<[Walk; 3]>),
    /// For each state of a CSV scanner, where it stands after the range.
    Csv(Vec<csv::Standing>),
}

/// How a walk through JSON ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// In a string.
    string: bool,
    /// In a string, past a backslash.
    escaped: bool,
    /// Brackets opened and not closed.
    depth: i64,
    /// The last byte that is no white space, strings taken for their quotes.
    last: Option<u8>,
    /// The very last byte is white space outside strings.
    blank_end: bool,
}

impl Walk {
    fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.string {
                let Some(length) = memchr2(b'"', b'\\', &chunk[at..]) else { return };
                at += length + 1;
                if chunk[at - 1] == b'\\' {
                    self.escaped = true;
                } else {
                    self.string = false;
                    (self.last, self.blank_end) = (Some(b'"'), false);
                }
            } else {
                at = self.outside(chunk, at);
            }
        }
    }

    fn outside(&mut self, chunk: &[u8], from: usize) -> usize {
        let mut at = from;
        while at < chunk.len() {
            let byte = chunk[at];
            at += 1;
            if !json::STRUCTURAL[byte as usize] {
                continue;
            }
            match byte {
                b'"' => {
                    self.string = true;
                    return at;
                }
                b'{' | b'[' => self.depth += 1,
                _ => self.depth -= 1,
            }
        }
        let passed = &chunk[from..];
        if let Some(byte) = passed.iter().rev().find(|byte| !byte.is_ascii_whitespace()) {
            self.last = Some(*byte);
        }
        self.blank_end = passed.last().is_some_and(u8::is_ascii_whitespace);
        at
    }
}

/// Sums up a range whose bytes come in chunks of any size.
pub(crate) enum Summing {
    First(Box<Scanner>),
    Json(Box<[Walk; 3]>),
    /// States that have come to stand alike are followed together: each with the states that it began as.
    Csv(Vec<(Vec<usize>, csv::CsvScanner)>),
}

impl Summing {
    /// Of a range that starts at this offset.
    pub fn new(format: RawFormat, dialect: Dialect, offset: u64) -> Self {
        match format {
            RawFormat::Json if offset > 0 => {
                let string = Walk { string: true, ..Walk::default() };
                Self::Json(Box::new([Walk::default(), string, Walk { escaped: true, ..string }]))
            }
            RawFormat::Csv if offset > 0 => {
                let begin = |state| csv::Standing { state, begun: false };
                let scanner = |state| csv::CsvScanner::resume(dialect, begin(state), u64::MAX, offset);
                Self::Csv(csv::STATES.iter().enumerate().map(|(index, state)| (vec![index], scanner(*state))).collect())
            }
            format => Self::First(Box::new(Scanner::resume(beginning(format, dialect), dialect, u64::MAX, 0))),
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        match self {
            Self::First(scanner) => scanner.feed(chunk),
            Self::Json(walks) => walks.iter_mut().for_each(|walk| walk.feed(chunk)),
            Self::Csv(scanners) => {
                // After a few records most states have come to stand alike.
                let (head, rest) = chunk.split_at(chunk.len().min(if scanners.len() > 2 { 4096 } else { usize::MAX }));
                for part in [head, rest].into_iter().filter(|part| !part.is_empty()) {
                    scanners.iter_mut().for_each(|(_, scanner)| scanner.feed(part));
                    let mut alike: Vec<(Vec<usize>, csv::CsvScanner)> = Vec::with_capacity(scanners.len());
                    for (states, scanner) in scanners.drain(..) {
                        match alike.iter_mut().find(|(_, other)| other.standing() == scanner.standing()) {
                            Some((others, _)) => others.extend(states),
                            None => alike.push((states, scanner)),
                        }
                    }
                    *scanners = alike;
                }
            }
        }
    }

    /// The sum.
    pub fn finish(self) -> Summary {
        match self {
            Self::First(scanner) => Summary::First(scanner.standing()),
            Self::Json(walks) => Summary::Json(walks),
            Self::Csv(scanners) => {
                let mut exits = csv::STATES.map(|state| csv::Standing { state, begun: false });
                for (states, scanner) in &scanners {
                    for state in states {
                        exits[*state] = scanner.standing();
                    }
                }
                Summary::Csv(exits.to_vec())
            }
        }
    }
}

/// Where a scanner stands at the start of a text.
fn beginning(format: RawFormat, dialect: Dialect) -> Standing {
    Scanner::of(format, dialect, 1).standing()
}

/// Where a scanner stands after a range of well-formed text. It may be wrong about other text.
fn after(standing: Standing, range: &Summary) -> Standing {
    match (standing, range) {
        (_, Summary::First(exit)) => *exit,
        (Standing::Csv(standing), Summary::Csv(exits)) => {
            let index = csv::STATES.iter().position(|state| *state == standing.state).unwrap_or_default();
            let exit = exits.get(index).copied().unwrap_or(standing);
            Standing::Csv(csv::Standing { begun: exit.begun || standing.begun, ..exit })
        }
        (Standing::Json(standing), Summary::Json(walks)) => Standing::Json(after_json(standing, walks)),
        (standing, _) => standing,
    }
}

fn after_json(standing: json::Standing, walks: &[Walk; 3]) -> json::Standing {
    use json::State;
    let (depth, walk) = match standing.state {
        State::Nested(depth) => (depth, &walks[0]),
        State::String { depth, escaped } => (depth, &walks[if escaped { 2 } else { 1 }]),
        State::Start(_) | State::Between | State::Plain | State::Ended { .. } => (0, &walks[0]),
    };
    let blank = walk.last.is_none() && !walk.string;
    let array = standing.layout == JsonLayout::Array;
    let state = match (standing.state, depth.checked_add_signed(walk.depth)) {
        (State::Ended { well }, _) => State::Ended { well: well && blank },
        (State::Start(mark), _) if blank => State::Start(mark),
        (State::Between, _) if blank => State::Between,
        (State::Plain, _) if blank && array => State::Plain,
        // Brackets closed that no record opened: the array's own.
        (_, None) => State::Ended { well: array },
        (_, Some(depth)) if walk.string => State::String { depth, escaped: walk.escaped },
        (_, Some(0)) if array && matches!(walk.last, Some(b',' | b'[')) => State::Between,
        (_, Some(0)) if !array && (walk.blank_end || matches!(walk.last, Some(b'}' | b']' | b'"'))) => State::Between,
        (_, Some(0)) => State::Plain,
        (_, Some(depth)) => State::Nested(depth),
    };
    json::Standing { state, ..standing }
}

/// Puts the scans of a text's ranges together.
#[derive(Debug)]
pub struct Composition {
    beginning: Standing,
    summaries: Vec<Summary>,
    /// Where each range begins, and what was found from there.
    ranges: Vec<(Standing, Option<RangeScan>)>,
    /// So many ranges are known to be right.
    settled: usize,
}

impl Composition {
    /// Of ranges with these summaries.
    pub fn new(format: RawFormat, dialect: Dialect, summaries: Vec<Summary>) -> Self {
        let beginning = beginning(format, dialect);
        let ranges = vec![(beginning, None); summaries.len()];
        let mut composition = Self { beginning, summaries, ranges, settled: 0 };
        composition.begin(0, beginning);
        composition
    }

    /// A range begins with this standing, so those after it begin with what follows.
    fn begin(&mut self, from: usize, mut standing: Standing) {
        for (range, summary) in self.ranges.iter_mut().zip(&self.summaries).skip(from) {
            if range.0 != standing {
                *range = (standing, None);
            }
            standing = after(standing, summary);
        }
    }

    /// The ranges that are to be scanned now, and what each begins with; none when all is known.
    pub fn due(&mut self) -> Vec<(usize, Standing)> {
        while let Some((_, Some(scan))) = self.ranges.get(self.settled) {
            self.settled += 1;
            let exit = scan.exit;
            match self.ranges.get(self.settled) {
                Some((begins, _)) if *begins != exit => self.begin(self.settled, exit),
                _ => {}
            }
            if matches!(exit, Standing::Json(json::Standing { state: json::State::Ended { well: false }, .. })) {
                // Nothing is found in what follows.
                self.ranges.truncate(self.settled);
            }
        }
        let due = self.ranges.iter().enumerate().filter(|(_, (_, scan))| scan.is_none());
        due.map(|(index, (standing, _))| (index, *standing)).collect()
    }

    /// What was found in a range that was due.
    pub fn scanned(&mut self, index: usize, scan: RangeScan) {
        if let Some((_, found)) = self.ranges.get_mut(index) {
            *found = Some(scan);
        }
    }

    /// The whole, when nothing is due: what one scanner of the whole text finds.
    pub fn finish(self) -> Scan {
        let (mut splits, mut records, mut breaks) = (Vec::new(), 0, 0);
        let mut exit = self.beginning;
        for scan in self.ranges.into_iter().filter_map(|(_, scan)| scan) {
            // The text's first record belongs to the first split.
            let first = (records == 0 && scan.records > 0).then_some(usize::from(scan.region));
            for (index, mut split) in scan.splits.into_iter().enumerate() {
                split.line += breaks;
                if Some(index) != first {
                    splits.push(split);
                }
            }
            records += scan.records;
            breaks += scan.breaks;
            exit = scan.exit;
        }
        match exit {
            Standing::Json(standing) => json::JsonScanner::ended(standing, splits, records),
            Standing::Csv(standing) => csv::CsvScanner::ended(standing, splits, records),
            Standing::Parquet => Scan { layout: None, splits, records: None },
        }
    }
}
