//! Downloads: an executor brings the bytes, the scheduler makes them a version.

use chrono::Utc;
use trireme_engine::{
    Code, Error, RawVersion, Result, SourceName,
    raw::{
        FetchOutcome, FetchRequest, Manifest, Previous, RawFormat, download_outcomes, download_plan, fetch::origin_url,
    },
};
use trireme_proto::v1::{Download, Outcome, RawFormat as FormatSpec};

use super::{Worker, report::metrics};
use crate::jobs::JobHandle;

/// The raw format of a spec; none: told from the file.
pub fn format_of(spec: i32) -> Option<RawFormat> {
    match FormatSpec::try_from(spec).unwrap_or_default() {
        FormatSpec::Unspecified => None,
        FormatSpec::Json => Some(RawFormat::Json),
        FormatSpec::Csv => Some(RawFormat::Csv),
        FormatSpec::Parquet => Some(RawFormat::Parquet),
    }
}

impl Worker {
    pub(super) fn check_download(&self, download: &Download) -> Result<()> {
        download.source.parse::<SourceName>()?;
        self.settings.allowed_origins.check(&origin_url(&download.from)?)
    }

    pub(super) async fn download(&self, download: &Download, job: &JobHandle) -> Result<()> {
        self.check_download(download)?;
        let source: SourceName = download.source.parse()?;
        let version = RawVersion::at(Utc::now());
        self.zone.download_begins(&source, &version, &job.id().to_string()).await?;
        let downloaded = self.download_version(download, &source, &version, job).await;
        self.zone.download_ended(&source, &version).await;
        downloaded
    }

    async fn download_version(
        &self,
        download: &Download,
        source: &SourceName,
        version: &RawVersion,
        job: &JobHandle,
    ) -> Result<()> {
        let current = match self.zone.current(source).await? {
            Some(version) => Some(self.zone.get(source, Some(&version)).await?),
            None => None,
        };
        let format = format_of(download.format);
        let request = FetchRequest {
            storage: self.storage.root().to_string(),
            source: source.clone(),
            version: version.clone(),
            part: 0,
            from: download.from.clone(),
            format,
            split_size: self.settings.split_size,
            copy: self.settings.copy,
            allowed: self.settings.allowed_origins.clone(),
            previous: current
                .as_ref()
                .filter(|current| format.is_none_or(|format| format == current.format))
                .and_then(Previous::of),
        };
        let session = self.sessions.local()?;
        let rows = self.run_plan("download", &session, download_plan(&[request])?, job).await?;
        let outcome = match <[FetchOutcome; 1]>::try_from(download_outcomes(&rows)?) {
            Ok([outcome]) => outcome,
            Err(outcomes) => {
                return Err(Error::new(Code::WorkLost, format!("one download gave {} results", outcomes.len())));
            }
        };
        match outcome {
            FetchOutcome::NotModified => {
                let version = current.map(|manifest| manifest.version.to_string()).unwrap_or_default();
                job.update(|job| {
                    job.outcome = Outcome::AlreadyCurrent.into();
                    job.raw_version = version;
                });
            }
            FetchOutcome::Fetched(fetched) => {
                let mut manifest =
                    Manifest::new(source.clone(), version.clone(), fetched.origin, fetched.format, fetched.parts);
                manifest.etag = fetched.etag;
                manifest.last_modified = fetched.last_modified;
                self.zone.publish(&manifest).await?;
                let (bytes, copies) = (manifest.bytes(), manifest.copy_bytes());
                job.update(|job| {
                    job.outcome = Outcome::Applied.into();
                    job.raw_version = manifest.version.to_string();
                    metrics(job, |metrics| {
                        metrics.bytes_in = bytes;
                        metrics.bytes_out = bytes + copies;
                        metrics.files_added = manifest.parts.len() as u64;
                        metrics.rows_in = manifest.records().unwrap_or(0);
                    });
                });
            }
        }
        Ok(())
    }
}
