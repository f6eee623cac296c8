//! Downloads: streams a file of an origin into a version's folder, finding its checksum, its length and its splits on the way.
//!
//! A transfer that breaks goes on from its last byte where the origin can prove that the file is still the same, and from the start where it can't.
//! What was stored becomes visible only by the manifest that the scheduler writes afterwards; a transfer that fails leaves nothing behind. Memory is
//! bounded by the upload's parts, whatever the file's size.
//!
//! [`transfer`] holds the loop; `file`, `http`, `ftp`, `sftp` and `object` open their origins at an offset and list their folders; [`listing`] finds the
//! files of a pattern; [`ranges`] cuts a large file into ranges that several executors fetch.

mod allow;
mod checksum;
mod credentials;
mod file;
mod ftp;
mod http;
pub mod listing;
mod object;
mod origin;
mod ranges;
mod sftp;
mod sink;
#[cfg(test)]
mod tests;
mod transfer;

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use self::{
    allow::AllowedOrigins,
    checksum::Checksum,
    credentials::{Credentials, check_name as check_credentials_name},
    origin::{is_pattern, origin_url, shown},
};
use self::{origin::Origin, transfer::Transfer};
use super::{
    dialect::TextOptions,
    intake::CopyPolicy,
    manifest::{Manifest, Part, RawFormat},
    scanner::DEFAULT_SPLIT_SIZE,
};
use crate::{
    error::{Code, Error, Result},
    names::{RawVersion, SourceName},
};

/// One file to download. It travels to an executor as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// Storage root to store it under.
    pub storage: String,
    /// Source it is a delivery of.
    pub source: SourceName,
    /// Version that is being made.
    pub version: RawVersion,
    /// Number of the part in that version, from 0.
    pub part: u32,
    /// `file://`, `http(s)://`, `ftp(s)://`, `sftp://`, `s3://`, `az://` or `gs://` URL, without a password.
    pub from: String,
    /// Format; told from the name or the first bytes if it is not given.
    pub format: Option<RawFormat>,
    /// How its text is read.
    #[serde(default)]
    pub options: TextOptions,
    /// Bytes of text between splits, about.
    pub split_size: u64,
    /// Whether a seekable copy is written beside it.
    #[serde(default)]
    pub copy: CopyPolicy,
    /// Where downloads may read from, redirects included.
    pub allowed: AllowedOrigins,
    /// The same file as it was downloaded last.
    pub previous: Option<Previous>,
    /// Name of the credentials, which are read where the download runs.
    pub credentials: Option<String>,
    /// What the file's checksum is compared with.
    pub checksum: Checksum,
    /// A file longer than this is not fetched, but reported as [`FetchOutcome::Large`], if its origin sends ranges of it.
    pub range_size: Option<u64>,
    /// An origin that says nothing for so long is taken for broken.
    pub patience: Duration,
    /// What of the file is fetched.
    pub slice: Slice,
}

impl FetchRequest {
    /// A request for the whole of a file, as the only part of a version, from any origin.
    pub fn new(storage: String, source: SourceName, version: RawVersion, from: String) -> Self {
        Self {
            storage,
            source,
            version,
            part: 0,
            from,
            format: None,
            options: TextOptions::default(),
            split_size: DEFAULT_SPLIT_SIZE,
            copy: CopyPolicy::default(),
            allowed: AllowedOrigins::all(),
            previous: None,
            credentials: None,
            checksum: Checksum::None,
            range_size: None,
            patience: Duration::from_secs(60),
            slice: Slice::Whole,
        }
    }
}

/// What of a file is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slice {
    /// All of it.
    #[default]
    Whole,
    /// The bytes from `start` to before `end`, into an object of their own.
    Range {
        /// Number of the range, from 0.
        number: u32,
        /// First byte.
        start: u64,
        /// Byte after the last.
        end: u64,
        /// The file that it must be a range of.
        of: Seen,
    },
    /// All of it, from ranges that were stored before.
    Joined {
        /// How many there are.
        ranges: u32,
        /// The file that they are ranges of.
        of: Seen,
    },
}

/// What is known of an earlier download, to find out whether anything changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// As the origin said it; none when it was another origin.
    pub etag: Option<String>,
    /// As the origin said it; none when it was another origin.
    pub last_modified: Option<String>,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Previous {
    /// What a version of one file tells of the file at `from`; an origin's answers belong to one file.
    pub fn of(manifest: &Manifest, from: &url::Url) -> Option<Self> {
        let (part, others) = manifest.parts.split_first()?;
        // Members of an archive are parts of one file.
        if others.iter().any(|other| other.path != part.path) {
            return None;
        }
        // A query is not kept, so with one nobody knows whether it was the same file.
        let same_origin = from.query().is_none() && manifest.origin == shown(from);
        Some(Self {
            etag: manifest.etag.clone().filter(|_| same_origin),
            last_modified: manifest.last_modified.clone().filter(|_| same_origin),
            bytes: part.bytes,
            sha256: part.sha256.clone(),
        })
    }
}

/// A file as its origin describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// As the origin said it.
    pub etag: Option<String>,
    /// As the origin said it.
    pub last_modified: Option<String>,
    /// Length of the whole file.
    pub length: Option<u64>,
    /// What must be the same for later bytes to be of the same file; none when the origin can't promise that.
    pub validator: Option<String>,
}

/// A file that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// For the manifest: one, or one for each member of an archive.
    pub parts: Vec<Part>,
    /// Its format, given or detected.
    pub format: RawFormat,
    /// Where it came from, without credentials.
    pub origin: String,
    /// As the origin said it.
    pub etag: Option<String>,
    /// As the origin said it.
    pub last_modified: Option<String>,
}

/// What came of a download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchOutcome {
    /// Stored; the manifest makes it visible.
    Fetched(Fetched),
    /// The origin has what the previous download had; nothing was stored.
    NotModified,
    /// Longer than the request's `range_size`, and the origin sends ranges of it; nothing was stored.
    Large(Seen),
    /// A range was stored.
    Range,
}

/// Why a try failed, and what may be tried next.
#[derive(Debug)]
struct Failure {
    error: Error,
    next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The answer will be the same.
    Nothing,
    /// It may go on from the last byte.
    GoOn,
    /// It may go well from the start: this origin does not go on.
    StartAgain,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, next: Next::Nothing }
    }
}

impl Failure {
    /// The network or the other side had a bad moment.
    fn transient(message: impl Into<String>) -> Self {
        let error =
            Error::new(Code::DownloadFailed, message).hint("it was tried several times; run the download again");
        Self { error, next: Next::GoOn }
    }

    /// The origin does not send the rest of a file.
    fn no_rest(message: impl Into<String>) -> Self {
        Self { next: Next::StartAgain, ..Self::transient(message) }
    }
}

/// What is asked of an origin.
#[derive(Debug, Clone, Copy)]
enum Ask<'a> {
    /// The whole file, unless it is as it was.
    Whole(Option<&'a Previous>),
    /// The bytes from `start`, to before `end` or to the end of the file. An origin whose file has changed, or that can't do it, sends the whole.
    Rest { start: u64, end: Option<u64>, of: &'a Seen },
}

impl Ask<'_> {
    /// First byte, if this is still the file that was seen: where its body should start.
    fn start(&self, validator: Option<&str>) -> u64 {
        match self {
            Self::Rest { start, of, .. } if of.validator.is_some() && of.validator.as_deref() == validator => *start,
            _ => 0,
        }
    }
}

/// A file that an origin has begun to send.
struct Incoming {
    seen: Seen,
    /// Offset of the body's first byte: what was asked for, or 0.
    start: u64,
    /// Whether several executors may ask for ranges of it at one time.
    ranges: bool,
    body: BoxStream<'static, Result<Bytes, Failure>>,
}

enum Opened {
    Body(Incoming),
    NotModified,
}

/// Downloads a file; `progress` is told of each chunk's bytes.
///
/// # Errors
/// `OriginRefused`, `InvalidSpec` for a URL that can't be one or credentials that are not there, `DownloadFailed` after several tries, `Cancelled`,
/// `Storage`.
pub async fn fetch(
    request: &FetchRequest,
    cancel: &CancellationToken,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<FetchOutcome> {
    let credentials = Credentials::find(request.credentials.as_deref())?;
    fetch_as(request, credentials, cancel, progress).await
}

async fn fetch_as(
    request: &FetchRequest,
    credentials: Credentials,
    cancel: &CancellationToken,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<FetchOutcome> {
    let url = origin_url(&request.from)?;
    request.allowed.check(&url)?;
    let allowed = request.allowed.clone();
    let origin = Origin { url, allowed, credentials, patience: request.patience };
    Transfer::new(request, &origin, cancel, progress)?.run().await
}
