//! `s3://`, `az://` and `gs://`, with credentials from the environment.

use futures::{StreamExt, TryStreamExt};
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, path::Path};

use super::{
    Ask, Failure, Incoming, Opened, Seen,
    listing::{Listed, MOST_FILES, Pattern, too_many},
    origin::Origin,
};
use crate::{
    error::{Code, Error},
    storage::open_store,
};

pub(super) async fn open(origin: &Origin, ask: Ask<'_>) -> Result<Opened, Failure> {
    let (store, path) = open_store(&origin.url)?;
    let broken = |error: StoreError| broken(origin, &error);
    let (found, start) = match ask {
        Ask::Rest { start, end, of } if of.validator.is_some() => {
            let range = end.map_or(GetRange::Offset(start), |end| GetRange::Bounded(start..end));
            let options = GetOptions { if_match: of.etag.clone(), range: Some(range), ..GetOptions::default() };
            match store.get_opts(&path, options).await {
                // Another object is there by now.
                Err(StoreError::Precondition { .. }) => (store.get(&path).await.map_err(broken)?, 0),
                found => (found.map_err(broken)?, start),
            }
        }
        _ => (store.get(&path).await.map_err(broken)?, 0),
    };
    let etag = found.meta.e_tag.clone();
    if let Ask::Whole(Some(previous)) = ask
        && etag.is_some()
        && previous.etag == etag
    {
        return Ok(Opened::NotModified);
    }
    let seen = Seen {
        validator: etag.clone(),
        etag,
        last_modified: Some(found.meta.last_modified.to_rfc3339()),
        length: Some(found.meta.size),
    };
    let from = origin.clone();
    let body = found.into_stream().map_err(move |error| self::broken(&from, &error));
    Ok(Opened::Body(Incoming { seen, start, ranges: true, body: body.boxed() }))
}

/// The objects whose keys match.
pub(super) async fn list(origin: &Origin, pattern: &Pattern) -> Result<Vec<Listed>, Failure> {
    let (store, _) = open_store(&origin.url)?;
    let prefix = pattern.literal_start().join("/");
    let prefix = Path::parse(&prefix).map_err(|error| Error::new(Code::InvalidSpec, error.to_string()))?;
    let mut found = store.list(Some(&prefix).filter(|prefix| !prefix.as_ref().is_empty()));
    let mut files = Vec::new();
    while let Some(object) = found.try_next().await.map_err(|error| broken(origin, &error))? {
        let names: Vec<&str> = object.location.as_ref().split('/').collect();
        if !pattern.matches(&names) {
            continue;
        }
        files.push(Listed {
            url: pattern.url(&origin.url, &names)?.to_string(),
            etag: object.e_tag,
            last_modified: Some(object.last_modified.to_rfc3339()),
            length: Some(object.size),
        });
        if files.len() > MOST_FILES {
            return Err(too_many(&origin.shown()).into());
        }
    }
    Ok(files)
}

fn broken(origin: &Origin, error: &StoreError) -> Failure {
    let hint = "check the URL and the credentials in the executors' environment (AWS_ACCESS_KEY_ID …)";
    let what = match error {
        StoreError::NotFound { .. } => "there is no such object",
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => "these credentials may not read it",
        _ => return Failure::transient(format!("{}: {error}", origin.shown())),
    };
    Error::new(Code::DownloadFailed, format!("{}: {what}", origin.shown())).hint(hint).into()
}
