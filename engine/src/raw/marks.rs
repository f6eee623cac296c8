//! What people say about versions of a source: that one is to be left out, that another stands in for it, that its files are gone for good.
//!
//! ```text
//! raw/<group.name>/<version>/_skip.json      left out, or read from another version, until it is taken back
//! raw/<group.name>/<version>/_dropped.json   its manifest as it was; its files are gone
//! ```
//!
//! Nothing else of a version changes, so a skip can be taken back. A version that stands in for another is read in that one's place in the order, not in
//! its own: a redelivery of an old day must not go over the days after it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{SecondsFormat, Utc};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::{
    manifest::Manifest,
    zone::{DOWNLOAD, MANIFEST, RawZone},
};
use crate::{
    RawVersion, SourceName,
    error::{Code, Error, Result},
};

const SKIP: &str = "_skip.json";
pub(super) const DROPPED: &str = "_dropped.json";

/// What was said about a version, by whom and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When, RFC 3339 UTC.
    #[serde(default)]
    pub at: String,
    /// Who; empty when nobody said.
    #[serde(default)]
    pub user: String,
    /// The version that is read in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<RawVersion>,
    /// The version in whose place it is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_in_for: Option<RawVersion>,
}

impl Mark {
    /// A mark of now.
    pub fn new(reason: &str, user: &str) -> Self {
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        Self { reason: reason.to_string(), user: user.to_string(), at, superseded_by: None, stands_in_for: None }
    }

    /// Whether nothing is read in the version's place.
    pub fn leaves_out(&self) -> bool {
        self.superseded_by.is_none()
    }

    /// What it says, in a few words.
    pub fn told(&self) -> String {
        let what = match (&self.superseded_by, &self.stands_in_for) {
            (Some(by), _) => format!("superseded by {by}"),
            (None, Some(other)) => format!("read in the place of {other}"),
            (None, None) => "skipped".to_string(),
        };
        if self.reason.is_empty() { what } else { format!("{what}: {}", self.reason) }
    }
}

/// A version whose files are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Why, when and by whom.
    pub mark: Mark,
    /// What it was.
    pub manifest: Manifest,
}

impl Dropped {
    /// What a reader of it is told.
    pub(super) fn gone(&self) -> Error {
        let Manifest { source, version, .. } = &self.manifest;
        let why = if self.mark.reason.is_empty() { String::new() } else { format!(": {}", self.mark.reason) };
        Error::new(Code::VersionNotFound, format!("{source}@{version} was dropped{why}"))
            .hint("its files are gone; download it again")
    }
}

/// The versions of a source, and which of them have marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Visible versions, oldest first, marked ones too.
    pub versions: Vec<RawVersion>,
    /// Marks of visible versions.
    pub marks: BTreeMap<RawVersion, Mark>,
    /// Versions whose files are gone.
    pub dropped: BTreeSet<RawVersion>,
    /// Versions that have files and no manifest: others put them there.
    pub unpublished: BTreeSet<RawVersion>,
}

impl Deliveries {
    /// All versions up to one, oldest first, and what is to be read of each, as a number that is never negative.
    pub fn number_up_to(&self, last: i64) -> i64 {
        use sha2::{Digest, Sha256};
        let all = BTreeSet::from_iter(self.versions.iter().chain(&self.dropped).chain(&self.unpublished));
        let mut digest = Sha256::new();
        for version in all.into_iter().filter(|version| version.number() <= last) {
            let read = match self.marks.get(version) {
                Some(mark) if mark.leaves_out() => "",
                _ => self.read_for(version).as_str(),
            };
            digest.update(format!("{version} {read}\n"));
        }
        let first = digest.finalize().iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        (first >> 1) as i64
    }

    /// Versions that are to be read, oldest first, each in its place.
    pub fn readable(&self) -> impl DoubleEndedIterator<Item = &RawVersion> {
        self.versions.iter().filter(|version| self.marks.get(version).is_none_or(|mark| !mark.leaves_out()))
    }

    /// The version that is read in the place of one.
    pub fn read_for<'a>(&'a self, version: &'a RawVersion) -> &'a RawVersion {
        self.marks.get(version).and_then(|mark| mark.superseded_by.as_ref()).unwrap_or(version)
    }
}

impl RawZone {
    /// All versions of a source with their marks.
    pub async fn deliveries(&self, source: &SourceName) -> Result<Deliveries> {
        let store = self.storage().store();
        let mut objects = store.list(Some(&self.storage().path(&format!("raw/{source}"))));
        let (mut found, mut marked) = (Deliveries::default(), Vec::new());
        let (mut with_files, mut not_ours) = (BTreeSet::new(), BTreeSet::new());
        while let Some(object) = objects.try_next().await? {
            let mut names = object.location.parts().rev();
            let (file, folder) = (names.next(), names.next());
            let Some(Ok(version)) = folder.map(|name| name.as_ref().parse::<RawVersion>()) else { continue };
            match file.as_ref().map(AsRef::as_ref) {
                Some(MANIFEST) => found.versions.push(version),
                Some(SKIP) => marked.push(version),
                Some(DROPPED) => {
                    found.dropped.insert(version);
                }
                Some(DOWNLOAD) => {
                    not_ours.insert(version);
                }
                Some(name) if !name.starts_with(['_', '.']) => {
                    with_files.insert(version);
                }
                _ => {}
            }
        }
        found.versions.sort_unstable();
        with_files.retain(|version| {
            !(not_ours.contains(version)
                || found.dropped.contains(version)
                || found.versions.binary_search(version).is_ok())
        });
        found.unpublished = with_files;
        marked.retain(|version| found.versions.binary_search(version).is_ok());
        for version in marked {
            if let Some(mark) = self.mark(source, &version).await? {
                found.marks.insert(version, mark);
            }
        }
        Ok(found)
    }

    /// What is said about a version.
    pub async fn mark(&self, source: &SourceName, version: &RawVersion) -> Result<Option<Mark>> {
        let path = self.folder(source, version).join(SKIP);
        let Some(text) = self.read(&path).await? else { return Ok(None) };
        let broken = |error| Error::new(Code::Storage, format!("{path} can't be read: {error}"));
        serde_json::from_slice(&text).map(Some).map_err(broken)
    }

    /// What a dropped version was.
    pub async fn dropped(&self, source: &SourceName, version: &RawVersion) -> Result<Option<Dropped>> {
        let path = self.folder(source, version).join(DROPPED);
        let Some(text) = self.read(&path).await? else { return Ok(None) };
        let broken = |error| Error::new(Code::Storage, format!("{path} can't be read: {error}"));
        serde_json::from_slice(&text).map(Some).map_err(broken)
    }

    /// What was delivered last, whatever was said about it since: what a download compares with.
    pub async fn last_delivered(&self, source: &SourceName) -> Result<Option<Manifest>> {
        let found = self.deliveries(source).await?;
        let newest = found.versions.last().max(found.dropped.last());
        match newest {
            Some(version) if found.versions.last() == Some(version) => self.get(source, Some(version)).await.map(Some),
            Some(version) => Ok(self.dropped(source, version).await?.map(|dropped| dropped.manifest)),
            None => Ok(None),
        }
    }

    /// A version newer than all that the source has or had, whatever the clock says.
    pub async fn next_version(&self, source: &SourceName) -> Result<RawVersion> {
        let folder = self.storage().path(&format!("raw/{source}"));
        let found = self.storage().store().list_with_delimiter(Some(&folder)).await?;
        let named = found.common_prefixes.iter().filter_map(|folder| folder.filename()?.parse::<RawVersion>().ok());
        RawVersion::after(Utc::now(), named.max().as_ref())
    }

    /// Leaves a version out from now on. What tables hold of it stays there.
    pub async fn skip(&self, source: &SourceName, version: &RawVersion, mark: Mark) -> Result<Mark> {
        self.get(source, Some(version)).await?;
        self.refuse_superseding(source, version).await?;
        self.put_mark(source, version, mark).await
    }

    /// Has `by` read in the place of a version.
    pub async fn supersede(
        &self,
        source: &SourceName,
        version: &RawVersion,
        by: &RawVersion,
        mark: Mark,
    ) -> Result<Mark> {
        if version == by {
            return Err(Error::new(Code::InvalidSpec, format!("{source}@{version} can't supersede itself"))
                .hint(format!("`trireme raw show {source}` lists the versions")));
        }
        self.get(source, Some(version)).await?;
        self.get(source, Some(by)).await?;
        if let Some(known) = self.mark(source, version).await?
            && (known.stands_in_for.is_some() || known.superseded_by.as_ref().is_some_and(|known| known != by))
        {
            return Err(refusal(source, version, &known));
        }
        if let Some(known) = self.mark(source, by).await?
            && (known.superseded_by.is_some() || known.stands_in_for.as_ref().is_some_and(|known| known != version))
        {
            return Err(refusal(source, by, &known));
        }
        // Should only the first of the two be written, `raw show` shows it, and the same command completes it.
        let stands_in = Mark { stands_in_for: Some(version.clone()), ..mark.clone() };
        self.put_mark(source, by, stands_in).await?;
        self.put_mark(source, version, Mark { superseded_by: Some(by.clone()), ..mark }).await
    }

    /// Takes back what was said about a version, and about the one that is read in its place.
    pub async fn unskip(&self, source: &SourceName, version: &RawVersion) -> Result<Mark> {
        let Some(mark) = self.mark(source, version).await? else {
            return match self.dropped(source, version).await? {
                Some(dropped) => Err(dropped.gone()),
                None => {
                    self.get(source, Some(version)).await?;
                    Err(Error::new(Code::InvalidSpec, format!("{source}@{version} is not skipped"))
                        .hint(format!("`trireme raw show {source}` shows what is")))
                }
            };
        };
        for version in [mark.superseded_by.as_ref(), Some(version), mark.stands_in_for.as_ref()].into_iter().flatten() {
            match self.storage().store().delete(&self.folder(source, version).join(SKIP)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(mark)
    }

    /// Removes a version's files for good. What it was stays, so that the same bytes are not downloaded again.
    pub async fn drop_version(&self, source: &SourceName, version: &RawVersion, mark: Mark) -> Result<Mark> {
        let folder = self.folder(source, version);
        let dropped = match self.dropped(source, version).await? {
            // One that stopped half-way.
            Some(dropped) => dropped,
            None => {
                let manifest = self.get(source, Some(version)).await?;
                self.refuse_superseding(source, version).await?;
                let dropped = Dropped { mark, manifest };
                let text = serde_json::to_vec_pretty(&dropped)
                    .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
                self.storage().store().put(&folder.clone().join(DROPPED), text.into()).await?;
                dropped
            }
        };
        let store = self.storage().store();
        let mut objects: Vec<ObjectMeta> = store.list(Some(&folder)).try_collect().await?;
        objects.retain(|object| object.location.filename() != Some(DROPPED));
        // The manifest first: what nobody sees nobody misses.
        objects.sort_by_key(|object| object.location.filename() != Some(MANIFEST));
        for object in objects {
            store.delete(&object.location).await?;
        }
        Ok(dropped.mark)
    }

    async fn put_mark(&self, source: &SourceName, version: &RawVersion, mark: Mark) -> Result<Mark> {
        let text = serde_json::to_vec_pretty(&mark).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        self.storage().store().put(&self.folder(source, version).join(SKIP), text.into()).await?;
        Ok(mark)
    }

    async fn refuse_superseding(&self, source: &SourceName, version: &RawVersion) -> Result<()> {
        match self.mark(source, version).await? {
            Some(mark) if mark.superseded_by.is_some() || mark.stands_in_for.is_some() => {
                Err(refusal(source, version, &mark))
            }
            _ => Ok(()),
        }
    }
}

fn refusal(source: &SourceName, version: &RawVersion, mark: &Mark) -> Error {
    Error::new(Code::InvalidSpec, format!("{source}@{version} is {}", mark.told()))
        .hint(format!("`trireme raw unskip {source}@{version}` takes that back"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Storage, raw::RawFormat};

    struct World {
        _folder: tempfile::TempDir,
        zone: RawZone,
        source: SourceName,
        versions: Vec<RawVersion>,
    }

    async fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let zone = RawZone::new(Storage::open(folder.path().to_str().unwrap()).unwrap());
        let source: SourceName = "vendor.days".parse().unwrap();
        let mut versions = Vec::new();
        for _ in 0..4 {
            let version = zone.next_version(&source).await.unwrap();
            let part = zone.folder(&source, &version).join("part-00000.json");
            zone.storage().store().put(&part, "[]".into()).await.unwrap();
            let origin = "file:///x.json".to_string();
            zone.publish(&Manifest::new(source.clone(), version.clone(), origin, RawFormat::Json, Vec::new()))
                .await
                .unwrap();
            versions.push(version);
        }
        World { _folder: folder, zone, source, versions }
    }

    impl World {
        async fn readable(&self) -> Vec<usize> {
            let found = self.zone.deliveries(&self.source).await.unwrap();
            let read = found.readable().map(|version| found.read_for(version));
            read.map(|version| self.versions.iter().position(|known| known == version).unwrap()).collect()
        }

        async fn current(&self) -> usize {
            let version = self.zone.get(&self.source, None).await.unwrap().version;
            self.versions.iter().position(|known| *known == version).unwrap()
        }
    }

    #[tokio::test]
    async fn versions_never_go_back_and_are_left_out_until_that_is_taken_back() {
        let World { zone, source, versions, .. } = &world().await;
        assert!(versions.is_sorted() && versions[0] < versions[3]);
        let world = world().await;
        let (zone_, source_, v) = (&world.zone, &world.source, &world.versions);
        zone_.skip(source_, &v[3], Mark::new("half a file", "ann")).await.unwrap();
        assert_eq!((world.readable().await, world.current().await), (vec![0, 1, 2], 2));
        // The next download compares with what came last, not with what is read.
        assert_eq!(zone_.last_delivered(source_).await.unwrap().unwrap().version, v[3]);
        zone_.unskip(source_, &v[3]).await.unwrap();
        assert_eq!((world.readable().await, world.current().await), (vec![0, 1, 2, 3], 3));
        assert!(zone.unskip(source, &versions[0]).await.unwrap_err().message.contains("not skipped"));
    }

    #[tokio::test]
    async fn a_redelivery_is_read_in_the_place_of_what_it_supersedes() {
        let world = world().await;
        let (zone, source, v) = (&world.zone, &world.source, &world.versions);
        zone.supersede(source, &v[1], &v[3], Mark::new("", "")).await.unwrap();
        assert_eq!((world.readable().await, world.current().await), (vec![0, 3, 2], 2));
        assert!(zone.skip(source, &v[1], Mark::new("", "")).await.unwrap_err().hint.contains("raw unskip"));
        assert!(zone.drop_version(source, &v[3], Mark::new("", "")).await.is_err());
        assert!(zone.supersede(source, &v[0], &v[3], Mark::new("", "")).await.is_err());
        assert!(zone.supersede(source, &v[3], &v[1], Mark::new("", "")).await.is_err());
        zone.supersede(source, &v[1], &v[3], Mark::new("again", "")).await.unwrap();
        zone.unskip(source, &v[3]).await.unwrap();
        assert_eq!(world.readable().await, [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn what_is_dropped_is_gone_but_not_forgotten() {
        let world = world().await;
        let (zone, source, v) = (&world.zone, &world.source, &world.versions);
        zone.drop_version(source, &v[3], Mark::new("personal data", "bob")).await.unwrap();
        zone.drop_version(source, &v[3], Mark::new("again", "bob")).await.unwrap();
        assert_eq!((world.readable().await, world.current().await), (vec![0, 1, 2], 2));
        let gone = zone.get(source, Some(&v[3])).await.unwrap_err();
        assert!(gone.code == Code::VersionNotFound && gone.message.ends_with("was dropped: personal data"), "{gone}");
        assert_eq!(zone.last_delivered(source).await.unwrap().unwrap().version, v[3]);
        assert!(zone.next_version(source).await.unwrap() > v[3]);
        assert_eq!(zone.dropped(source, &v[3]).await.unwrap().unwrap().mark.reason, "personal data");
        assert_eq!(zone.newest_unpublished(source).await.unwrap(), None);
    }
}
