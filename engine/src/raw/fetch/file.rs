//! `file://`: a regular file that the executor sees.

use std::{fs::Metadata, io::SeekFrom, os::unix::fs::MetadataExt, path::PathBuf};

use async_trait::async_trait;
use bytes::BytesMut;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use url::Url;

use super::{
    Ask, Failure, Incoming, Opened, Seen,
    listing::{Entry, Folders, Listed},
    origin::Origin,
};
use crate::error::{Code, Error};

const READ_BYTES: usize = 1024 * 1024;

pub(super) async fn open(origin: &Origin, ask: Ask<'_>) -> Result<Opened, Failure> {
    let failed = |what: String| {
        Error::new(Code::DownloadFailed, format!("{}: {what}", origin.shown())).hint(
            "the path must be there for every executor; use a shared folder, or http(s)://, ftp(s)://, sftp:// or s3://",
        )
    };
    let path = origin.url.to_file_path().map_err(|()| failed("not a local path".into()))?;
    // The resolved path is what is checked and what is opened, so a link can't lead elsewhere in between.
    let path = tokio::fs::canonicalize(&path).await.map_err(|error| failed(error.to_string()))?;
    let resolved = Url::from_file_path(&path).map_err(|()| failed("not a local path".into()))?;
    origin.allowed.check(&resolved)?;
    let mut file = tokio::fs::File::open(&path).await.map_err(|error| failed(error.to_string()))?;
    let metadata = file.metadata().await.map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("not a regular file".into()).into());
    }
    let last_modified = modified(&metadata);
    let validator = last_modified.as_ref().map(|time| format!("{time} {} {}", metadata.len(), metadata.ino()));
    let start = ask.start(validator.as_deref());
    file.seek(SeekFrom::Start(start)).await.map_err(|error| failed(error.to_string()))?;
    let name = origin.shown();
    let body = futures::stream::try_unfold(file, move |mut file| {
        let name = name.clone();
        async move {
            let mut chunk = BytesMut::with_capacity(READ_BYTES);
            let read = file.read_buf(&mut chunk).await;
            let read = read.map_err(|error| Failure::transient(format!("{name}: {error}")))?;
            Ok((read > 0).then(|| (chunk.freeze(), file)))
        }
    });
    let seen = Seen { etag: None, last_modified, length: Some(metadata.len()), validator };
    Ok(Opened::Body(Incoming { seen, start, ranges: false, body: body.boxed() }))
}

fn modified(metadata: &Metadata) -> Option<String> {
    metadata.modified().ok().map(|time| chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339())
}

/// The folders of this machine.
pub(super) struct LocalFolders;

#[async_trait]
impl Folders for LocalFolders {
    async fn entries(&mut self, folder: &str) -> Result<Option<Vec<Entry>>, Failure> {
        let failed = |error: std::io::Error| {
            Failure::from(Error::new(Code::DownloadFailed, format!("file://{folder}: {error}")))
        };
        let mut found = match tokio::fs::read_dir(folder).await {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let mut entries = Vec::new();
        while let Some(entry) = found.next_entry().await.map_err(failed)? {
            // What is no UTF-8 can't be in a URL that anybody wrote.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let link = entry.file_type().await.map_err(failed)?.is_symlink();
            // A link to nowhere, or a file that is just gone.
            let Ok(metadata) = tokio::fs::metadata(entry.path()).await else { continue };
            entries.push(Entry {
                name,
                folder: metadata.is_dir(),
                file: metadata.is_file(),
                link,
                length: Some(metadata.len()),
                last_modified: modified(&metadata),
            });
        }
        Ok(Some(entries))
    }
}

/// Refuses a file that lies elsewhere than where it may, once links are followed.
pub(super) async fn check(listed: &Listed, origin: &Origin) -> Result<(), Failure> {
    let url = Url::parse(&listed.url).ok();
    let path = url.and_then(|url| url.to_file_path().ok()).unwrap_or_else(|| PathBuf::from(&listed.url));
    let gone = |what: String| Error::new(Code::DownloadFailed, format!("{}: {what}", listed.url));
    let path = tokio::fs::canonicalize(&path).await.map_err(|error| gone(error.to_string()))?;
    let resolved = Url::from_file_path(&path).map_err(|()| gone("not a local path".into()))?;
    Ok(origin.allowed.check(&resolved)?)
}
