//! `file://`: a regular file that the executor sees.

use bytes::BytesMut;
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use url::Url;

use super::{AllowedOrigins, Failure, Incoming, Opened, shown};
use crate::error::{Code, Error};

const READ_BYTES: usize = 1024 * 1024;

pub(super) async fn open(from: &Url, allowed: &AllowedOrigins) -> Result<Opened, Failure> {
    let failed = |what: String| {
        Error::new(Code::DownloadFailed, format!("{}: {what}", shown(from)))
            .hint("the path must be there for every executor; use a shared folder, or http(s)://, ftp:// or s3://")
    };
    let path = from.to_file_path().map_err(|()| failed("not a local path".into()))?;
    // The resolved path is what is checked and what is opened, so a link can't lead elsewhere in between.
    let path = tokio::fs::canonicalize(&path).await.map_err(|error| failed(error.to_string()))?;
    let resolved = Url::from_file_path(&path).map_err(|()| failed("not a local path".into()))?;
    allowed.check(&resolved)?;
    let file = tokio::fs::File::open(&path).await.map_err(|error| failed(error.to_string()))?;
    let metadata = file.metadata().await.map_err(|error| failed(error.to_string()))?;
    if !metadata.is_file() {
        return Err(failed("not a regular file".into()).into());
    }
    let last_modified = metadata.modified().ok().map(|time| chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339());
    let name = shown(from);
    let body = futures::stream::try_unfold(file, move |mut file| {
        let name = name.clone();
        async move {
            let mut chunk = BytesMut::with_capacity(READ_BYTES);
            let read = file.read_buf(&mut chunk).await;
            let read = read.map_err(|error| Failure::transient(format!("{name}: {error}")))?;
            Ok((read > 0).then(|| (chunk.freeze(), file)))
        }
    });
    Ok(Opened::Body(Incoming { etag: None, last_modified, length: Some(metadata.len()), body: body.boxed() }))
}
