//! `s3://`, `az://` and `gs://`, with credentials from the environment.

use futures::StreamExt;
use object_store::{Error as StoreError, ObjectStoreExt};
use url::Url;

use super::{Failure, Incoming, Opened, Previous, shown};
use crate::{
    error::{Code, Error},
    storage::open_store,
};

pub(super) async fn open(from: &Url, previous: Option<&Previous>) -> Result<Opened, Failure> {
    let (store, path) = open_store(from)?;
    let found = store.get(&path).await.map_err(|error| broken(from, &error))?;
    let etag = found.meta.e_tag.clone();
    if etag.is_some() && previous.is_some_and(|previous| previous.etag == etag) {
        return Ok(Opened::NotModified);
    }
    let (length, last_modified) = (Some(found.meta.size), Some(found.meta.last_modified.to_rfc3339()));
    let from = from.clone();
    let body = found.into_stream().map(move |chunk| chunk.map_err(|error| broken(&from, &error)));
    Ok(Opened::Body(Incoming { etag, last_modified, length, body: body.boxed() }))
}

fn broken(from: &Url, error: &StoreError) -> Failure {
    let hint = "check the URL and the credentials in the executors' environment (AWS_ACCESS_KEY_ID …)";
    let what = match error {
        StoreError::NotFound { .. } => "there is no such object",
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => "these credentials may not read it",
        _ => return Failure::transient(format!("{}: {error}", shown(from))),
    };
    Error::new(Code::DownloadFailed, format!("{}: {what}", shown(from))).hint(hint).into()
}
