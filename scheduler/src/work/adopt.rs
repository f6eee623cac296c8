//! Versions of files that others put into the raw zone.

use trireme_engine::{
    Code, Error, RawVersion, Result, SourceName,
    raw::{Adoption, GivenOptions, Manifest, RawFormat, TextOptions as ReadOptions, adopt_outcomes, adopt_plan},
};
use trireme_proto::v1::{Adopt, Outcome, SourceRef};

use super::{
    Worker,
    download::{format_of, options_of},
    report::metrics,
};
use crate::jobs::JobHandle;

/// What the manifest of an adopted version says it was read from.
const ORIGIN: &str = "adopted";

/// What there is of a version.
pub enum Readable {
    /// It has a manifest.
    Published(Box<Manifest>),
    /// It has files.
    Files(RawVersion),
}

/// What an adoption is about.
enum Adoptable {
    /// It was adopted before.
    Published(Box<Manifest>),
    /// Versions with files, oldest first.
    Files(Vec<RawVersion>),
}

impl Worker {
    pub(super) async fn check_adopt(&self, adopt: &Adopt) -> Result<()> {
        let (source, version) = named(adopt)?;
        options_of(adopt.text.as_ref()).over(&ReadOptions::default())?;
        self.adoptable(&source, version.as_ref()).await.map(|_| ())
    }

    /// Adopts versions, as a job of its own.
    pub(super) async fn adopt(&self, adopt: &Adopt, job: &JobHandle) -> Result<()> {
        let (source, version) = named(adopt)?;
        let (versions, given) = match self.adoptable(&source, version.as_ref()).await? {
            Adoptable::Files(versions) => (versions, options_of(adopt.text.as_ref())),
            Adoptable::Published(manifest) => {
                job.update(|job| {
                    job.outcome = Outcome::AlreadyCurrent.into();
                    job.raw_version = manifest.version.to_string();
                });
                return Ok(());
            }
        };
        for version in versions {
            let manifest = self.adopt_version(&source, &version, format_of(adopt.format), &given, job).await?;
            job.update(|job| {
                job.outcome = Outcome::Applied.into();
                job.raw_version = manifest.version.to_string();
                job.raw_versions.push(manifest.version.to_string());
                metrics(job, |metrics| {
                    metrics.bytes_in += manifest.bytes();
                    metrics.bytes_out += manifest.copy_bytes();
                    metrics.rows_in += manifest.records().unwrap_or(0);
                });
            });
        }
        Ok(())
    }

    /// The manifest of a version, of `current` when none is named; files that others put there are adopted first.
    pub(super) async fn manifest(
        &self,
        source: &SourceName,
        version: Option<&RawVersion>,
        reference: &SourceRef,
        job: &JobHandle,
    ) -> Result<Manifest> {
        match self.readable(source, version).await? {
            Readable::Published(manifest) => Ok(*manifest),
            Readable::Files(version) => {
                let (format, given) = (format_of(reference.format), options_of(reference.text.as_ref()));
                self.adopt_version(source, &version, format, &given, job).await
            }
        }
    }

    /// What a load reads of a source: the version that is named, else `current`, else the newest that has files.
    pub(super) async fn readable(&self, source: &SourceName, version: Option<&RawVersion>) -> Result<Readable> {
        let missing = match self.zone.get(source, version).await {
            Ok(manifest) => return Ok(Readable::Published(Box::new(manifest))),
            Err(error) if matches!(error.code, Code::SourceNotFound | Code::VersionNotFound) => error,
            Err(error) => return Err(error),
        };
        match version {
            Some(version) if !self.zone.files(source, version).await?.is_empty() => {
                Ok(Readable::Files(version.clone()))
            }
            None if self.zone.current(source).await?.is_none() => {
                self.zone.newest_unpublished(source).await?.map(Readable::Files).ok_or(missing)
            }
            _ => Err(missing),
        }
    }

    /// What an adoption is about: the version that is named, else all that have files and no manifest.
    async fn adoptable(&self, source: &SourceName, version: Option<&RawVersion>) -> Result<Adoptable> {
        if version.is_none() {
            let unpublished = self.zone.deliveries(source).await?.unpublished;
            if !unpublished.is_empty() {
                return Ok(Adoptable::Files(unpublished.into_iter().collect()));
            }
        }
        Ok(match self.readable(source, version).await? {
            Readable::Published(manifest) => Adoptable::Published(manifest),
            Readable::Files(version) => Adoptable::Files(vec![version]),
        })
    }

    async fn adopt_version(
        &self,
        source: &SourceName,
        version: &RawVersion,
        format: Option<RawFormat>,
        given: &GivenOptions,
        job: &JobHandle,
    ) -> Result<Manifest> {
        job.update(|job| job.raw_version = version.to_string());
        let (split_size, copy) = (self.settings.split_size, self.settings.copy);
        let options = given.over(&ReadOptions::default())?;
        let mut adoption =
            Adoption::begin(&self.zone, source, version, format, options.clone(), split_size, copy).await?;
        let session = self.sessions.open(adoption.bytes())?;
        loop {
            let tasks = adoption.due();
            if tasks.is_empty() {
                break;
            }
            let rows = self.run_plan("adopt", &session, adopt_plan(&tasks)?, job).await?;
            adoption.done(adopt_outcomes(&rows)?)?;
        }
        let (parts, format) = adoption.finish()?;
        given.check_format(format, &format!("{source}@{version}"))?;
        let manifest = Manifest::new(source.clone(), version.clone(), ORIGIN.to_string(), format, parts);
        let manifest = manifest.with_options(options);
        match self.zone.publish(&manifest).await {
            Ok(()) => Ok(manifest),
            // Another job adopted it meanwhile; its manifest is about the same bytes.
            Err(error) if error.code == Code::Conflict => self.zone.get(source, Some(version)).await,
            Err(error) => Err(error),
        }
    }
}

fn named(adopt: &Adopt) -> Result<(SourceName, Option<RawVersion>)> {
    let version = (!adopt.version.is_empty()).then(|| adopt.version.parse()).transpose();
    let version = version.map_err(|error: Error| error.hint("a version's folder is named like 20261122T201533123Z"))?;
    Ok((adopt.source.parse()?, version))
}
