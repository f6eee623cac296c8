//! What a raw version holds: its files, where they came from, and where each may be cut so that no record is cut.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Error, Result},
    names::{RawVersion, SourceName},
};

/// Format version that this build writes and the newest one it reads.
const FORMAT_VERSION: u32 = 1;

/// How the text of a raw file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawFormat {
    /// One array of objects, or objects one after another (usually one a line).
    Json,
    /// Comma-separated values with a header line, RFC 4180 quoting.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl RawFormat {
    /// Name, and extension of a stored part.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// The format that a file name's extension tells.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "json" | "ndjson" | "jsonl" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// The format that a file's first bytes tell: Parquet by its magic, JSON by its first bracket, CSV otherwise.
    pub fn of_first_bytes(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"PAR1") {
            return Self::Parquet;
        }
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{' | b'[') => Self::Json,
            _ => Self::Csv,
        }
    }
}

/// UTF-8's byte order mark.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl fmt::Display for RawFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RawFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(Error::new(Code::InvalidSpec, format!("`{text}` is not a raw format"))
                .hint("formats are json, csv and parquet")),
        }
    }
}

/// How JSON records follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonLayout {
    /// `[ record, record ]`
    Array,
    /// Records one after another, usually one a line, with nothing but white space between them.
    Lines,
}

/// A place where a file may be cut: a record starts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Byte offset.
    pub offset: u64,
    /// Line it is on, from 1.
    pub line: u64,
}

/// One stored file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Relative to the version's folder.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// JSON: how its records follow one another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<JsonLayout>,
    /// Record starts, about every `split_size` bytes. The first is where the first record may start (after a byte order mark and an array's
    /// bracket; a CSV header belongs to it). Empty for Parquet, whose row groups are its splits.
    #[serde(default)]
    pub splits: Vec<Split>,
    /// Records counted while it was stored; absent when the text is not well formed, or for Parquet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Where it came from, in a version of many files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Delivered>,
}

/// A file of a version of many, as its origin described it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// URL it was read from, without credentials.
    pub origin: String,
    /// As the origin said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// As the origin said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Part {
    /// Byte ranges that together cover the file, each holding whole records, in order. Parquet is cut every `split_size` bytes: a row group
    /// belongs to the range that its middle is in.
    pub fn ranges(&self, split_size: u64) -> Vec<std::ops::Range<u64>> {
        let starts: Vec<u64> = if self.splits.is_empty() {
            (0..self.bytes).step_by(usize::try_from(split_size.max(1)).unwrap_or(usize::MAX)).collect()
        } else {
            std::iter::once(0).chain(self.splits.iter().skip(1).map(|split| split.offset)).collect()
        };
        let ends = starts.iter().skip(1).copied().chain([self.bytes]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()).collect()
    }

    /// The line that a range of [`Part::ranges`] starts on, from 1.
    pub fn line_of(&self, start: u64) -> u64 {
        let split = self.splits.iter().find(|split| split.offset == start && start > 0);
        split.map_or(1, |split| split.line)
    }
}

/// A raw version, whole. It is visible from the moment its manifest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub format_version: u32,
    /// Source.
    pub source: SourceName,
    /// Version.
    pub version: RawVersion,
    /// URL it was read from, without credentials.
    pub origin: String,
    /// Format of every part.
    pub format: RawFormat,
    /// Its files, in order.
    pub parts: Vec<Part>,
    /// What the origin said, to ask it later whether anything changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// As the origin wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// When its bytes were complete, RFC 3339 UTC.
    pub downloaded_at: String,
}

impl Manifest {
    /// A manifest of what one or more downloads of a version stored.
    pub fn new(source: SourceName, version: RawVersion, origin: String, format: RawFormat, parts: Vec<Part>) -> Self {
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        Self {
            format_version: FORMAT_VERSION,
            source,
            version,
            origin,
            format,
            parts,
            etag: None,
            last_modified: None,
            downloaded_at: now,
        }
    }

    /// Where a part came from; none when nothing says so.
    pub fn delivered(&self, part: &Part) -> Option<Delivered> {
        let only = || Delivered {
            origin: self.origin.clone(),
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
        };
        part.delivered.clone().or_else(|| (self.parts.len() == 1).then(only))
    }

    /// Length of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Records of all parts, if each was counted.
    pub fn records(&self) -> Option<u64> {
        self.parts.iter().map(|part| part.records).sum()
    }

    /// Reads its JSON form.
    pub fn from_json(text: &[u8], path: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format_version: u32,
        }
        let broken = |error: serde_json::Error| Error::new(Code::Storage, format!("{path} is not a manifest: {error}"));
        let head: Head = serde_json::from_slice(text).map_err(broken)?;
        if head.format_version != FORMAT_VERSION {
            return Err(Error::new(
                Code::Storage,
                format!(
                    "{path} has format version {}, and this build reads version {FORMAT_VERSION}",
                    head.format_version
                ),
            )
            .hint("it was written by another release of Trireme: use that one or a later one"));
        }
        serde_json::from_slice(text).map_err(broken)
    }

    /// Its JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|error| Error::new(Code::Internal, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN_BY_VERSION_1: &str = r#"{
        "format_version": 1, "source": "vendor.books", "version": "20261122T201533123Z", "origin": "ftp://host/books.json",
        "format": "json", "downloaded_at": "2026-11-22T20:15:34.000Z", "etag": "\"x\"",
        "parts": [{ "path": "part-00000.json", "bytes": 10, "sha256": "ab", "layout": "array", "records": 2,
                    "splits": [{ "offset": 1, "line": 1 }, { "offset": 6, "line": 3 }] }]
    }"#;

    #[test]
    fn the_first_form_stays_readable() {
        let manifest = Manifest::from_json(WRITTEN_BY_VERSION_1.as_bytes(), "m").unwrap();
        assert_eq!(manifest.parts[0].ranges(0), vec![0..6, 6..10]);
        assert_eq!((manifest.bytes(), manifest.records()), (10, Some(2)));
        assert_eq!(Manifest::from_json(&manifest.to_json().unwrap(), "m").unwrap(), manifest);
    }

    #[test]
    fn a_later_form_is_refused() {
        let later = WRITTEN_BY_VERSION_1.replace("\"format_version\": 1", "\"format_version\": 2, \"new\": {}");
        let error = Manifest::from_json(later.as_bytes(), "raw/x/_manifest.json").unwrap_err();
        assert!(error.message.contains("raw/x/_manifest.json has format version 2"), "{error}");
    }

    #[test]
    fn parquet_is_cut_by_size() {
        let part = Part {
            path: "p".into(),
            bytes: 10,
            sha256: String::new(),
            layout: None,
            splits: Vec::new(),
            records: None,
            delivered: None,
        };
        assert_eq!(part.ranges(4), vec![0..4, 4..8, 8..10]);
        assert_eq!(part.ranges(0).len(), 10);
    }

    #[test]
    fn formats_are_detected() {
        for (bytes, format) in [
            (&b"PAR1\x15"[..], RawFormat::Parquet),
            (b"\xef\xbb\xbf \n[", RawFormat::Json),
            (b"{", RawFormat::Json),
            (b"a,b", RawFormat::Csv),
            (b"", RawFormat::Csv),
        ] {
            assert_eq!(RawFormat::of_first_bytes(bytes), format);
        }
        assert_eq!(RawFormat::of_name("x.JSONL"), Some(RawFormat::Json));
        assert_eq!(RawFormat::of_name("books"), None);
    }
}
