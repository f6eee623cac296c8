//! The raw zone: every delivery of every source, kept as it came.
//!
//! ```text
//! raw/<group.name>/<version>/part-00000.json
//! raw/<group.name>/<version>/part-00000.json.zst   seekable copy of a compressed part
//! raw/<group.name>/<version>/_download         a download fills the folder
//! raw/<group.name>/<version>/_manifest.json    makes the version visible
//! raw/<group.name>/<version>/_schema.json      inferred once
//! raw/<group.name>/current                     the version that is read unless another is asked for
//! ```

use bytes::Bytes;
use datafusion::common::DataFusionError;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};

use crate::{
    error::{Code, Error, Result},
    names::{RawVersion, SourceName},
    raw::{
        infer::RawSchema,
        manifest::{Compression, Manifest, RawFormat},
        marks::DROPPED,
        piece::storage_error,
    },
    storage::Storage,
};

pub(super) const MANIFEST: &str = "_manifest.json";
const SCHEMA: &str = "_schema.json";
pub(super) const DOWNLOAD: &str = "_download";

/// The raw zone of a storage root. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RawZone {
    storage: Storage,
}

impl RawZone {
    /// The raw zone under this root.
    pub fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// The root it is under.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Whole path, in the store, of a version's folder.
    pub fn folder(&self, source: &SourceName, version: &RawVersion) -> Path {
        self.storage.path(&format!("raw/{source}/{version}"))
    }

    /// Name of a version's part, of what is known of it.
    pub fn part_name(stem: &str, format: Option<RawFormat>, compression: Option<Compression>) -> String {
        // The members of an archive have their own formats.
        let format = format.filter(|_| compression != Some(Compression::Zip));
        let extensions = format.map(RawFormat::as_str).into_iter().chain(compression.map(Compression::extension));
        extensions.fold(stem.to_string(), |name, extension| format!("{name}.{extension}"))
    }

    /// Sources with a visible version, by name.
    pub async fn list_sources(&self) -> Result<Vec<SourceName>> {
        let found = self.storage.store().list_with_delimiter(Some(&self.storage.path("raw"))).await?;
        let mut sources = Vec::new();
        for folder in found.common_prefixes {
            let Some(source) = folder.filename().and_then(|name| name.parse::<SourceName>().ok()) else { continue };
            if !self.list_versions(&source).await?.is_empty() {
                sources.push(source);
            }
        }
        sources.sort();
        Ok(sources)
    }

    /// Visible versions of a source, newest first; none when there is no such source.
    pub async fn list_versions(&self, source: &SourceName) -> Result<Vec<RawVersion>> {
        let store = self.storage.store();
        let mut objects = store.list(Some(&self.storage.path(&format!("raw/{source}"))));
        let mut versions: Vec<RawVersion> = Vec::new();
        while let Some(object) = objects.try_next().await? {
            let mut names = object.location.parts().rev();
            if names.next().is_some_and(|name| name.as_ref() == MANIFEST)
                && let Some(Ok(version)) = names.next().map(|name| name.as_ref().parse())
            {
                versions.push(version);
            }
        }
        versions.sort_unstable_by(|a, b| b.cmp(a));
        Ok(versions)
    }

    /// The version that `current` names; none before the first download.
    pub async fn current(&self, source: &SourceName) -> Result<Option<RawVersion>> {
        let path = self.current_path(source);
        match self.read(&path).await? {
            Some(text) => Ok(Some(String::from_utf8_lossy(&text).trim().parse()?)),
            None => Ok(None),
        }
    }

    /// The version that is read when none is named, in its place: `current`, or the newest before it that is not left out.
    async fn read_now(&self, source: &SourceName) -> Result<Option<RawVersion>> {
        if let Some(current) = self.current(source).await?
            && self.mark(source, &current).await?.is_none()
            && self.read(&self.folder(source, &current).join(MANIFEST)).await?.is_some()
        {
            return Ok(Some(current));
        }
        let found = self.deliveries(source).await?;
        Ok(found.readable().next_back().map(|version| found.read_for(version).clone()))
    }

    /// The manifest of a version, of the one that is read when none is named.
    ///
    /// # Errors
    /// `SourceNotFound` and `VersionNotFound` name what there is.
    pub async fn get(&self, source: &SourceName, version: Option<&RawVersion>) -> Result<Manifest> {
        let version = match version {
            Some(version) => Some(version.clone()),
            None => self.read_now(source).await?,
        };
        if let Some(version) = &version {
            let path = self.folder(source, version).join(MANIFEST);
            if let Some(text) = self.read(&path).await? {
                return Manifest::from_json(&text, path.as_ref());
            }
            if let Some(dropped) = self.dropped(source, version).await? {
                return Err(dropped.gone());
            }
        }
        let versions = self.list_versions(source).await?;
        if versions.is_empty() {
            let sources = self.list_sources().await?;
            let there_is = if sources.is_empty() { "no source was downloaded yet".into() } else { list(&sources) };
            return Err(Error::new(Code::SourceNotFound, format!("no source `{source}` in the raw zone"))
                .hint(format!("there is: {there_is}; `trireme download --from URL --to {source}` makes it")));
        }
        let Some(wanted) = version else {
            return Err(Error::new(Code::VersionNotFound, format!("every version of source `{source}` is skipped"))
                .hint(format!(
                    "`trireme raw show {source}` says why; `trireme raw unskip {source}@VERSION` takes one back"
                )));
        };
        Err(Error::new(Code::VersionNotFound, format!("source `{source}` has no version {wanted}"))
            .hint(format!("there is: {}", list(&versions))))
    }

    /// Makes a stored version visible, then moves `current` to it unless `current` is newer.
    ///
    /// # Errors
    /// `Conflict` when the version is visible already: no version is ever overwritten.
    pub async fn publish(&self, manifest: &Manifest) -> Result<()> {
        let (source, version) = (&manifest.source, &manifest.version);
        if !self.create(&self.folder(source, version).join(MANIFEST), manifest.to_json()?).await? {
            return Err(Error::new(Code::Conflict, format!("version {version} of `{source}` exists already"))
                .hint("versions are never overwritten; download again for a new one"));
        }
        let mut newest = version.clone();
        loop {
            if self.current(source).await?.is_some_and(|current| current >= newest) {
                return Ok(());
            }
            let path = self.current_path(source);
            self.storage.store().put(&path, newest.as_str().to_string().into_bytes().into()).await?;
            // Two publishers may both have seen the older `current`. Each makes its manifest visible before it moves the pointer, so the one
            // that writes last sees the newer version here and moves on to it.
            match self.list_versions(source).await?.into_iter().next() {
                Some(other) if other > newest => newest = other,
                _ => return Ok(()),
            }
        }
    }

    /// Removes what was stored of a version that never became visible.
    pub async fn discard(&self, source: &SourceName, version: &RawVersion) -> Result<()> {
        let folder = self.folder(source, version);
        if self.read(&folder.clone().join(MANIFEST)).await?.is_some() {
            return Err(Error::new(Code::Internal, format!("version {version} of `{source}` is visible, and stays")));
        }
        let store = self.storage.store();
        let objects: Vec<_> = store.list(Some(&folder)).try_collect().await?;
        // The mark of the download last: without it what is left would look like somebody's files.
        let (marks, files): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|object: &ObjectMeta| object.location.filename() == Some(DOWNLOAD));
        for object in files.into_iter().chain(marks) {
            store.delete(&object.location).await?;
        }
        Ok(())
    }

    /// Files in a version's folder, by name, but for what begins with `_` or `.`; those of a download that goes on or was given up are none.
    pub async fn files(&self, source: &SourceName, version: &RawVersion) -> Result<Vec<ObjectMeta>> {
        let found = self.storage.store().list_with_delimiter(Some(&self.folder(source, version))).await?;
        let name = |object: &ObjectMeta| object.location.filename().unwrap_or_default().to_string();
        if found.objects.iter().any(|object| matches!(name(object).as_str(), DOWNLOAD | DROPPED)) {
            return Ok(Vec::new());
        }
        let mut files = found.objects;
        files.retain(|object| !name(object).starts_with(['_', '.']));
        files.sort_by_key(name);
        Ok(files)
    }

    /// The newest version of a source that has files and no manifest.
    pub async fn newest_unpublished(&self, source: &SourceName) -> Result<Option<RawVersion>> {
        Ok(self.deliveries(source).await?.unpublished.pop_last())
    }

    /// Marks a version's folder as one that a download fills: its files are nobody's until they are published.
    pub async fn download_begins(&self, source: &SourceName, version: &RawVersion, job: &str) -> Result<()> {
        self.create(&self.folder(source, version).join(DOWNLOAD), job.as_bytes().to_vec()).await.map(drop)
    }

    /// Removes the mark.
    pub async fn download_ended(&self, source: &SourceName, version: &RawVersion) {
        if let Err(error) = self.storage.store().delete(&self.folder(source, version).join(DOWNLOAD)).await {
            tracing::warn!(%source, %version, %error, "the mark of a download could not be removed; it does no harm");
        }
    }

    /// The schema kept with a version, if it was inferred before.
    pub async fn schema(&self, source: &SourceName, version: &RawVersion) -> Result<Option<RawSchema>> {
        let path = self.folder(source, version).join(SCHEMA);
        match self.read(&path).await? {
            Some(text) => RawSchema::from_json(&text, path.as_ref()).map(Some),
            None => Ok(None),
        }
    }

    /// Keeps a version's schema; one that is there already stays, and is the same, for it was inferred from the same bytes.
    pub async fn keep_schema(&self, source: &SourceName, version: &RawVersion, schema: &RawSchema) -> Result<()> {
        self.create(&self.folder(source, version).join(SCHEMA), schema.to_json()?).await?;
        Ok(())
    }

    /// The folder that a part is in.
    pub(crate) fn folder_of(part: &Path) -> Path {
        let names: Vec<_> = part.parts().collect();
        Path::from_iter(names.iter().take(names.len().saturating_sub(1)).cloned())
    }

    /// The manifest in a part's own folder.
    pub(crate) async fn manifest_beside(
        store: &dyn object_store::ObjectStore,
        part: &Path,
    ) -> Result<Manifest, DataFusionError> {
        let path = Self::folder_of(part).join(MANIFEST);
        let text = store.get(&path).await.map_err(storage_error)?.bytes().await.map_err(storage_error)?;
        Ok(Manifest::from_json(&text, path.as_ref())?)
    }

    fn current_path(&self, source: &SourceName) -> Path {
        self.storage.path(&format!("raw/{source}/current"))
    }

    pub(super) async fn read(&self, path: &Path) -> Result<Option<Bytes>> {
        match self.storage.store().get(path).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// False when there is such an object already.
    async fn create(&self, path: &Path, text: Vec<u8>) -> Result<bool> {
        let options = PutOptions::from(PutMode::Create);
        match self.storage.store().put_opts(path, text.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Up to ten names, and how many more.
fn list<T: ToString>(names: &[T]) -> String {
    let shown = names.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > 10 { format!("{shown} and {} more", names.len() - 10) } else { shown }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn version(millis: i64) -> RawVersion {
        RawVersion::at(DateTime::from_timestamp_millis(1_700_000_000_000 + millis).unwrap())
    }

    fn manifest(source: &SourceName, version: RawVersion) -> Manifest {
        Manifest::new(source.clone(), version, "file:///x.json".into(), RawFormat::Json, Vec::new())
    }

    #[tokio::test]
    async fn versions_appear_with_their_manifest_and_current_only_moves_forward() {
        let folder = tempfile::tempdir().unwrap();
        let zone = RawZone::new(Storage::open(folder.path().to_str().unwrap()).unwrap());
        let source: SourceName = "vendor.books".parse().unwrap();

        let error = zone.get(&source, None).await.unwrap_err();
        assert_eq!(error.code, Code::SourceNotFound);
        let unpublished = zone.folder(&source, &version(9)).join("part-00000.json");
        zone.storage().store().put(&unpublished, "[]".into()).await.unwrap();
        assert!(zone.list_versions(&source).await.unwrap().is_empty());
        assert!(zone.list_sources().await.unwrap().is_empty());

        zone.publish(&manifest(&source, version(2))).await.unwrap();
        zone.publish(&manifest(&source, version(1))).await.unwrap();
        assert_eq!(zone.current(&source).await.unwrap(), Some(version(2)));
        assert_eq!(zone.list_versions(&source).await.unwrap(), vec![version(2), version(1)]);
        assert_eq!(zone.list_sources().await.unwrap(), vec![source.clone()]);
        assert_eq!(zone.get(&source, None).await.unwrap().version, version(2));
        assert_eq!(zone.get(&source, Some(&version(1))).await.unwrap().version, version(1));

        let again = zone.publish(&manifest(&source, version(2))).await.unwrap_err();
        assert_eq!(again.code, Code::Conflict);
        let error = zone.get(&source, Some(&version(7))).await.unwrap_err();
        assert_eq!(error.code, Code::VersionNotFound);
        assert!(error.hint.contains(version(1).as_str()), "{error}");
    }

    #[tokio::test]
    async fn racing_publishers_leave_the_newest_current() {
        let folder = tempfile::tempdir().unwrap();
        let zone = RawZone::new(Storage::open(folder.path().to_str().unwrap()).unwrap());
        let source: SourceName = "a.b".parse().unwrap();
        let manifests: Vec<_> = (0..8).map(|n| manifest(&source, version(n))).collect();
        futures::future::try_join_all(manifests.iter().map(|manifest| zone.publish(manifest))).await.unwrap();
        assert_eq!(zone.current(&source).await.unwrap(), Some(version(7)));
    }
}
