//! Downloads: streams one file of an origin into a version's folder, finding its checksum, its length and its splits on the way.
//!
//! What was stored becomes visible only by the manifest that the scheduler writes afterwards; a transfer that breaks leaves nothing behind. Memory is
//! bounded by the upload's parts, whatever the file's size.

mod allow;
mod file;
mod ftp;
mod http;
mod object;
mod sink;
#[cfg(test)]
mod tests;

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::allow::AllowedOrigins;
use self::sink::PartSink;
use super::{
    intake::{CopyPolicy, discard_parts},
    manifest::{Manifest, Part, RawFormat},
    packed::TextPlan,
    zone::RawZone,
};
use crate::{
    error::{Code, Error, Result},
    names::{RawVersion, SourceName},
    storage::Storage,
};

/// An origin that says nothing for so long is taken for broken.
const PATIENCE: Duration = Duration::from_secs(60);

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
    /// `file://`, `http(s)://`, `ftp://`, `s3://`, `az://` or `gs://` URL, without a password.
    pub from: String,
    /// Format; told from the name or the first bytes if it is not given.
    pub format: Option<RawFormat>,
    /// Bytes of text between splits, about.
    pub split_size: u64,
    /// Whether a seekable copy is written beside it.
    #[serde(default)]
    pub copy: CopyPolicy,
    /// Where downloads may read from, redirects included.
    pub allowed: AllowedOrigins,
    /// The same file as it was downloaded last.
    pub previous: Option<Previous>,
}

/// What is known of an earlier download, to find out whether anything changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// As the origin said it.
    pub etag: Option<String>,
    /// As the origin said it.
    pub last_modified: Option<String>,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

impl Previous {
    /// What a version of one file tells; an origin's answers belong to one file.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let (part, others) = manifest.parts.split_first()?;
        others.iter().all(|other| other.path == part.path).then(|| Self {
            etag: manifest.etag.clone(),
            last_modified: manifest.last_modified.clone(),
            bytes: part.bytes,
            sha256: part.sha256.clone(),
        })
    }
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
}

/// Why a try failed, and whether another may not.
#[derive(Debug)]
struct Failure {
    error: Error,
    transient: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, transient: false }
    }
}

impl Failure {
    /// The network or the other side had a bad moment.
    fn transient(message: impl Into<String>) -> Self {
        let error =
            Error::new(Code::DownloadFailed, message).hint("it was tried several times; run the download again");
        Self { error, transient: true }
    }
}

/// A file that an origin has begun to send.
struct Incoming {
    etag: Option<String>,
    last_modified: Option<String>,
    /// Length that the origin promised.
    length: Option<u64>,
    body: BoxStream<'static, Result<Bytes, Failure>>,
}

enum Opened {
    Body(Incoming),
    NotModified,
}

/// Downloads a file; `progress` is told of each chunk's bytes.
///
/// # Errors
/// `OriginRefused`, `InvalidSpec` for a URL that can't be one, `DownloadFailed` after several tries, `Cancelled`, `Storage`.
pub async fn fetch(
    request: &FetchRequest,
    cancel: &CancellationToken,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<FetchOutcome> {
    let from = origin_url(&request.from)?;
    request.allowed.check(&from)?;
    let storage = Storage::shared(&request.storage)?;
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_factor(4.0)
        .with_max_times(3)
        .with_jitter()
        .build();
    loop {
        let failure = match attempt(request, &from, &storage, cancel, progress).await {
            Ok(outcome) => return Ok(outcome),
            Err(failure) => failure,
        };
        let Some(delay) = delays.next().filter(|_| failure.transient) else { return Err(failure.error) };
        tracing::warn!(origin = shown(&from), error = %failure.error.message, ?delay, "download is tried again");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = cancel.cancelled() => return Err(cancelled(&from)),
        }
    }
}

/// Parses where a download is to read from.
///
/// # Errors
/// `InvalidSpec` for what is no URL, a scheme that is not read, or credentials in the URL.
pub fn origin_url(from: &str) -> Result<Url> {
    const SCHEMES: [&str; 7] = ["file", "http", "https", "ftp", "s3", "az", "gs"];
    let hint = "give file:///path, http(s)://, ftp://, s3://, az:// or gs://";
    // What can't be parsed is not repeated: a password may be in it.
    let url = Url::parse(from)
        .map_err(|error| Error::new(Code::InvalidSpec, format!("download origin is not a URL: {error}")).hint(hint))?;
    if !SCHEMES.contains(&url.scheme()) {
        return Err(Error::new(Code::InvalidSpec, format!("downloads can't read `{}://`", url.scheme())).hint(hint));
    }
    let user_is_fine = url.scheme() == "ftp" || url.username().is_empty();
    if url.password().is_some() || !user_is_fine {
        return Err(Error::new(Code::InvalidSpec, format!("the URL of {} holds credentials", shown(&url))).hint(
            "specs are kept and shown; set TRIREME_FTP_USER and TRIREME_FTP_PASSWORD, or the object store's variables, for the executors",
        ));
    }
    Ok(url)
}

/// A URL as it may be kept and shown: without user, password, query (which may hold a signature) and fragment.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs that can have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

fn cancelled(from: &Url) -> Error {
    Error::new(Code::Cancelled, format!("the download of {} was cancelled", shown(from)))
}

async fn attempt(
    request: &FetchRequest,
    from: &Url,
    storage: &Storage,
    cancel: &CancellationToken,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<FetchOutcome, Failure> {
    let previous = request.previous.as_ref();
    let opening = async {
        match from.scheme() {
            "file" => file::open(from, &request.allowed).await,
            "http" | "https" => http::open(from, &request.allowed, previous).await,
            "ftp" => ftp::open(from).await,
            _ => object::open(from, previous).await,
        }
    };
    let opened = tokio::select! {
        opened = tokio::time::timeout(PATIENCE, opening) => {
            opened.map_err(|_| Failure::transient(format!("{} did not answer for {PATIENCE:?}", shown(from))))??
        }
        () = cancel.cancelled() => return Err(cancelled(from).into()),
    };
    let Opened::Body(mut incoming) = opened else { return Ok(FetchOutcome::NotModified) };

    let folder = RawZone::new(storage.clone()).folder(&request.source, &request.version);
    let plan = TextPlan {
        store: storage.store(),
        folder: folder.clone(),
        stem: format!("part-{:05}", request.part),
        format: request.format,
        split_size: request.split_size,
        copy: false,
        cancel: cancel.clone(),
    };
    let mut sink = PartSink::new(plan, shown(from), from.path(), request.copy);
    if let Err(failure) = receive(from, &mut incoming, &mut sink, cancel, progress).await {
        sink.abort().await;
        return Err(failure);
    }
    let (parts, format) = sink.finish().await?;
    let same =
        |part: &Part| previous.is_some_and(|previous| previous.sha256 == part.sha256 && previous.bytes == part.bytes);
    if parts.first().is_some_and(same) {
        discard_parts(&storage.store(), &folder, &parts).await;
        return Ok(FetchOutcome::NotModified);
    }
    let Incoming { etag, last_modified, .. } = incoming;
    Ok(FetchOutcome::Fetched(Fetched { parts, format, origin: shown(from), etag, last_modified }))
}

/// Takes a body to its end, and checks that the end is where it was promised to be.
async fn receive(
    from: &Url,
    incoming: &mut Incoming,
    sink: &mut PartSink,
    cancel: &CancellationToken,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Failure> {
    loop {
        let chunk = tokio::select! {
            chunk = tokio::time::timeout(PATIENCE, incoming.body.next()) => {
                chunk.map_err(|_| Failure::transient(format!("{} sent nothing for {PATIENCE:?}", shown(from))))?
            }
            () = cancel.cancelled() => return Err(cancelled(from).into()),
        };
        let Some(chunk) = chunk.transpose()? else { break };
        progress(chunk.len() as u64);
        sink.write(chunk).await?;
    }
    match incoming.length {
        Some(length) if length != sink.bytes() => {
            Err(Failure::transient(format!("{} sent {} of {length} bytes", shown(from), sink.bytes())))
        }
        _ => Ok(()),
    }
}
