//! What a raw version holds: its files, where they came from, and where each may be cut so that no record is cut.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{charset::Charset, dialect::TextOptions};
use crate::{
    error::{Code, Error, Result},
    names::{RawVersion, SourceName},
};

/// Newest format version that this build reads. A manifest is written with the oldest version that says all of it: 2 where a part is compressed,
/// which a reader of version 1 would take for text, and 3 where text is written in another way than one of version 2 reads it.
const FORMAT_VERSION: u32 = 3;

/// How the text of a raw file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawFormat {
    /// One array of objects, or objects one after another (usually one a line).
    Json,
    /// Separated values, usually by commas, with a header line and RFC 4180 quoting.
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

    /// The format that a file name's extension tells; that of a compression behind it is passed over.
    pub fn of_name(name: &str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        let (_, extension) = match Compression::of_name(name) {
            Some(_) => stem.rsplit_once('.')?,
            None => (stem, extension),
        };
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

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 8878, one or more frames.
    Zstd,
    /// One or more streams.
    Bzip2,
    /// An archive of files; each is a part.
    Zip,
}

impl Compression {
    /// Name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Zip => "zip",
        }
    }

    /// Extension of a stored part.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Zstd => "zst",
            Self::Bzip2 => "bz2",
            Self::Zip => "zip",
        }
    }

    /// The compression that a file name's extension tells.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "gz" | "gzip" => Some(Self::Gzip),
            "zst" | "zstd" => Some(Self::Zstd),
            "bz2" => Some(Self::Bzip2),
            "zip" => Some(Self::Zip),
            _ => None,
        }
    }

    /// The compression that a file's first bytes tell; no text starts like that.
    pub fn of_first_bytes(bytes: &[u8]) -> Option<Self> {
        // A zstd file may start with a skippable frame, whose magic number ends in any of sixteen digits.
        let skippable =
            bytes.first().is_some_and(|byte| byte & 0xf0 == 0x50) && bytes.get(1..4) == Some(b"\x2a\x4d\x18");
        let bzip2 = bytes.starts_with(b"BZh")
            && matches!(bytes.get(4..10), Some(b"\x31\x41\x59\x26\x53\x59" | b"\x17\x72\x45\x38\x50\x90"));
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Self::Zip),
            _ if skippable => Some(Self::Zstd),
            _ if bzip2 => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// What undoes it; none for an archive, whose members have one each.
    pub fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Gzip => Some(Encoding::Gzip),
            Self::Zstd => Some(Encoding::Zstd),
            Self::Bzip2 => Some(Encoding::Bzip2),
            Self::Zip => None,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a run of bytes is to be decoded to text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// It is the text.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 1951, as in zip.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
}

impl Encoding {
    /// Name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "text",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// A file in a zip archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// As the archive has it.
    pub name: String,
    /// Its number among all members, from 0.
    pub index: u32,
    /// How it is compressed.
    pub encoding: Encoding,
    /// Its first byte in the archive.
    pub offset: u64,
    /// Length in the archive.
    pub bytes: u64,
    /// CRC-32 of its text.
    pub crc32: u32,
}

/// A copy of a part's text in the zstd seekable format, whose frames end at the splits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeekableCopy {
    /// Relative to the version's folder.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// Its frames, in order.
    pub frames: Vec<Frame>,
    /// Where the last frame ends in the copy, and its seek table begins.
    pub frames_end: u64,
}

/// A zstd frame of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Offset of its first byte in the text.
    pub text: u64,
    /// Where it starts in the copy.
    pub offset: u64,
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

/// A place where a text may be cut: a record starts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Byte offset in the text.
    pub offset: u64,
    /// Line it is on, from 1.
    pub line: u64,
}

/// One text of a version: a stored file, or a member of one. Splits, lines and offsets are those of the text, decompressed where it must be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The file as delivered, relative to the version's folder. Members of an archive share it.
    pub path: String,
    /// Length of the file as delivered.
    pub bytes: u64,
    /// SHA-256 of the file as delivered, hexadecimal.
    pub sha256: String,
    /// How the file as delivered is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// The member of the archive that this part is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// How its letters are encoded; absent for UTF-8. The text is in UTF-8 all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<Charset>,
    /// Length of the text; absent where the file is the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_bytes: Option<u64>,
    /// A copy that can be read from any split on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<SeekableCopy>,
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
    /// Length of the text.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes.unwrap_or(self.bytes)
    }

    /// Name of the text in its version: the file that it is read from, and `!` with a number for a member of an archive.
    pub fn text_name(&self) -> String {
        match (&self.copy, &self.member) {
            (Some(copy), _) => copy.path.clone(),
            (None, Some(member)) => format!("{}!{}", self.path, member.index),
            (None, None) => self.path.clone(),
        }
    }

    /// The file as delivered, with the member's name, for messages.
    pub fn shown(&self) -> String {
        match &self.member {
            Some(member) => format!("{}, member {}", self.path, member.name),
            None => self.path.clone(),
        }
    }

    /// Byte ranges that together cover the text, each holding whole records, in order; only one where there is no way to begin in the middle.
    /// Parquet is cut every `split_size` bytes: a row group belongs to the range that its middle is in.
    pub fn ranges(&self, split_size: u64) -> Vec<std::ops::Range<u64>> {
        let packed = self.compression.is_some() || self.charset.is_some();
        let starts: Vec<u64> = if packed && self.copy.is_none() {
            vec![0]
        } else if self.splits.is_empty() {
            (0..self.bytes).step_by(usize::try_from(split_size.max(1)).unwrap_or(usize::MAX)).collect()
        } else {
            std::iter::once(0).chain(self.splits.iter().skip(1).map(|split| split.offset)).collect()
        };
        let ends = starts.iter().skip(1).copied().chain([self.text_bytes()]);
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
    /// How its text is read, as it was said when it came.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub options: TextOptions,
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
        let format_version = match &parts {
            parts if parts.iter().any(|part| part.charset.is_some()) => 3,
            parts if parts.iter().any(|part| part.compression.is_some()) => 2,
            _ => 1,
        };
        Self {
            format_version,
            source,
            version,
            origin,
            format,
            options: TextOptions::default(),
            parts,
            etag: None,
            last_modified: None,
            downloaded_at: now,
        }
    }

    /// The same of text that is read so.
    pub fn with_options(self, options: TextOptions) -> Self {
        let format_version = if is_usual(&options) { self.format_version } else { 3 };
        Self { format_version, options, ..self }
    }

    /// The same as another reading of it has it: where fields and records end elsewhere than was thought when it came, its splits and its count of
    /// records say nothing, and each part is read by one task.
    ///
    /// # Errors
    /// `InvalidSpec` for another encoding: offsets are those of the decoded text.
    pub fn read_with(mut self, options: TextOptions) -> Result<Self> {
        let is = |encoding: Option<Charset>| encoding.unwrap_or(Charset::Utf8);
        let found = self.parts.iter().all(|part| is(part.charset) == is(options.encoding));
        if is(options.encoding) != is(self.options.encoding) && !found {
            let (source, version) = (&self.source, &self.version);
            let message = format!(
                "{source}@{version} came as {}, and is to be read as {}",
                is(self.options.encoding),
                is(options.encoding)
            );
            return Err(Error::new(Code::InvalidSpec, message)
                .hint("the encoding is a matter of the download: download it again with `encoding`"));
        }
        if self.format == RawFormat::Csv && options.csv.dialect != self.options.csv.dialect {
            for part in &mut self.parts {
                part.splits.truncate(1);
                part.records = None;
            }
        }
        self.options = options;
        Ok(self)
    }

    /// Where a part came from; none when nothing says so.
    pub fn delivered(&self, part: &Part) -> Option<Delivered> {
        let only = || Delivered {
            origin: self.origin.clone(),
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
        };
        // Members of an archive are parts of one file.
        let one_file = self.parts.iter().all(|other| other.path == part.path);
        part.delivered.clone().or_else(|| one_file.then(only))
    }

    /// The part whose text has this name.
    pub fn part_of_text(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.text_name() == name)
    }

    /// The URL from which the text of this name came; that of all files where nothing tells more.
    pub fn origin_of_text(&self, name: &str) -> String {
        let delivered = self.part_of_text(name).and_then(|part| self.delivered(part));
        delivered.map_or_else(|| self.origin.clone(), |delivered| delivered.origin)
    }

    /// What begins with a text's name and its line, as people know the file: by its URL in a version of many.
    pub fn name_delivered(&self, place: &str) -> String {
        let known = place.split_once(", line ").and_then(|(name, rest)| Some((self.part_of_text(name)?, rest)));
        match known {
            None => place.to_string(),
            Some((part, rest)) => {
                let name = part.delivered.as_ref().map_or_else(|| part.shown(), |delivered| delivered.origin.clone());
                format!("{name}, line {rest}")
            }
        }
    }

    /// Length of all files as delivered.
    pub fn bytes(&self) -> u64 {
        // Members of an archive follow one another.
        let shared = |index: usize, part: &Part| index > 0 && self.parts[index - 1].path == part.path;
        self.parts.iter().enumerate().filter(|(index, part)| !shared(*index, part)).map(|(_, part)| part.bytes).sum()
    }

    /// Length of all texts.
    pub fn text_bytes(&self) -> u64 {
        self.parts.iter().map(Part::text_bytes).sum()
    }

    /// Length of all copies.
    pub fn copy_bytes(&self) -> u64 {
        self.parts.iter().filter_map(|part| part.copy.as_ref()).map(|copy| copy.bytes).sum()
    }

    /// Bytes that a scan of all of it reads.
    pub fn read_bytes(&self) -> u64 {
        let read = |part: &Part| match (&part.copy, &part.member) {
            (Some(copy), _) => copy.frames_end,
            (None, Some(member)) => member.bytes,
            (None, None) => part.bytes,
        };
        self.parts.iter().map(read).sum()
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
        if !(1..=FORMAT_VERSION).contains(&head.format_version) {
            return Err(Error::new(
                Code::Storage,
                format!(
                    "{path} has format version {}, and this build reads versions 1 to {FORMAT_VERSION}",
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

fn is_usual(options: &TextOptions) -> bool {
    *options == TextOptions::default()
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
        let later = WRITTEN_BY_VERSION_1.replace("\"format_version\": 1", "\"format_version\": 4, \"new\": {}");
        let error = Manifest::from_json(later.as_bytes(), "raw/x/_manifest.json").unwrap_err();
        assert!(error.message.contains("raw/x/_manifest.json has format version 4"), "{error}");
    }

    #[test]
    fn parquet_is_cut_by_size() {
        let part = Part { path: "p".into(), bytes: 10, ..Part::default() };
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
        assert_eq!(RawFormat::of_name("books.json.GZ"), Some(RawFormat::Json));
        assert_eq!(RawFormat::of_name("csv.zst"), None);
    }

    #[test]
    fn compressions_are_detected() {
        for (bytes, compression) in [
            (&b"\x1f\x8b\x08\0"[..], Some(Compression::Gzip)),
            (b"\x28\xb5\x2f\xfd", Some(Compression::Zstd)),
            (b"\x5e\x2a\x4d\x18", Some(Compression::Zstd)),
            (b"BZh91AY&SY..", Some(Compression::Bzip2)),
            (b"BZh9,1AY&SY", None),
            (b"PK\x03\x04", Some(Compression::Zip)),
            (b"PAR1", None),
            (b"", None),
        ] {
            assert_eq!(Compression::of_first_bytes(bytes), compression, "{bytes:?}");
        }
        assert_eq!(Compression::of_name("x.csv.BZ2"), Some(Compression::Bzip2));
        assert_eq!(Compression::of_name("gz"), None);
    }

    #[test]
    fn what_is_compressed_is_not_for_readers_of_version_1() {
        let member = |index| Member {
            name: format!("{index}.csv"),
            index,
            encoding: Encoding::Deflate,
            offset: 40,
            bytes: 8,
            crc32: 1,
        };
        let part = |index| Part {
            path: "part-00000.zip".into(),
            bytes: 100,
            compression: Some(Compression::Zip),
            member: Some(member(index)),
            text_bytes: Some(30),
            splits: vec![Split { offset: 0, line: 1 }, Split { offset: 20, line: 3 }],
            ..Part::default()
        };
        let (source, version) = ("a.b".parse().unwrap(), RawVersion::at(chrono::Utc::now()));
        let manifest = Manifest::new(source, version, "file:///x.zip".into(), RawFormat::Csv, vec![part(0), part(1)]);
        assert_eq!(manifest.format_version, 2);
        assert_eq!((manifest.bytes(), manifest.text_bytes(), manifest.read_bytes()), (100, 60, 16));
        assert_eq!(manifest.parts[1].text_name(), "part-00000.zip!1");
        assert_eq!(manifest.parts[0].ranges(1), vec![0..30]);
        assert_eq!(Manifest::from_json(&manifest.to_json().unwrap(), "m").unwrap(), manifest);
        let mut copied = part(0);
        let frames = vec![Frame { text: 0, offset: 0 }, Frame { text: 20, offset: 9 }];
        copied.copy = Some(SeekableCopy { path: "c.zst".into(), bytes: 50, frames, frames_end: 17 });
        assert_eq!((copied.ranges(1), copied.text_name()), (vec![0..20, 20..30], "c.zst".to_string()));
    }
}
