//! What jobs do: plan, run on the cluster, commit.
//!
//! One file a kind: [`download`], [`adopt`], [`apply`] (loads and merges), [`question`], [`optimize`]; [`query`] runs read-only SQL and [`listing`] answers what there is.

mod adopt;
mod apply;
mod clauses;
mod download;
mod failures;
mod listing;
mod merge;
mod optimize;
mod quality;
mod query;
mod question;
mod report;
mod session;
mod versions;

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use trireme_engine::{
    Code, Error, Result, SourceName, Storage, TableName,
    delta::{WriteSettings, catalog},
    raw::{AllowedOrigins, CopyPolicy, RawZone, TextOptions},
    sql,
};
use trireme_proto::v1::{Job, JobSpec, Question, SourceRef, TableSpec, job_spec::Spec};

use crate::{
    cluster::Cluster,
    jobs::{JobHandle, Promised, Work},
};

pub use listing::Listing;
pub use query::Queries;
pub use session::{Planning, Sessions};

/// Sizes and limits of the work.
#[derive(Debug, Clone)]
pub struct WorkSettings {
    /// Bytes of raw between two split points noted by a download.
    pub split_size: u64,
    /// Which deliveries get a seekable copy.
    pub copy: CopyPolicy,
    /// Bytes of a table's data file, about.
    pub target_file_size: u64,
    /// False positives of the Bloom filters of key columns; 0: no filters.
    pub key_bloom_fpp: f64,
    /// Memory of an executor that the keys of a merge's source may take, bytes.
    pub merge_keys_memory: u64,
    /// A table with so many small files that can be put together is optimized after a merge; 0: never.
    pub auto_optimize_small_files: usize,
    /// A table of whose rows so many percent are retired is optimized after a merge; 0: never.
    pub auto_optimize_retired_percent: u32,
    /// Bytes above which one file is downloaded in ranges of that size, by several tasks; 0: never.
    pub range_size: u64,
    /// Silence after which a download's origin is taken for broken.
    pub origin_timeout: Duration,
    /// URL prefixes that downloads may read from.
    pub allowed_origins: AllowedOrigins,
}

/// Does the jobs of a scheduler.
#[derive(Clone)]
pub struct Worker {
    cluster: Cluster,
    storage: Storage,
    zone: RawZone,
    sessions: Sessions,
    settings: WorkSettings,
}

impl Worker {
    /// A worker over a cluster and a storage root.
    pub fn new(cluster: Cluster, storage: Storage, sessions: Sessions, settings: WorkSettings) -> Self {
        Self { cluster, zone: RawZone::new(storage.clone()), storage, sessions, settings }
    }

    /// How data files are written.
    fn write_settings(&self) -> WriteSettings {
        let WorkSettings { target_file_size, key_bloom_fpp, .. } = self.settings;
        WriteSettings { target_file_bytes: target_file_size, key_bloom_fpp, ..WriteSettings::default() }
    }

    async fn check_source(&self, reference: &SourceRef, promised: &Promised) -> Result<()> {
        let source: SourceName = reference.source.parse()?;
        if !reference.schema.is_empty() {
            sql::parse_schema(&reference.schema)?;
        }
        versions::check_versions(reference)?;
        let given = download::options_of(reference.text.as_ref());
        given.over(&TextOptions::default())?;
        if let Some(format) = download::format_of(reference.format) {
            given.check_format(format, &format!("source {source}"))?;
        }
        let version = (!reference.version.is_empty()).then(|| reference.version.parse()).transpose()?;
        if version.is_none() && promised.sources.contains(&source) {
            return Ok(());
        }
        match self.readable(&source, version.as_ref()).await {
            // Of several versions some may have to be adopted.
            Err(_) if reference.versions.is_some() && self.zone.newest_unpublished(&source).await?.is_some() => Ok(()),
            readable => readable.map(drop),
        }
    }

    async fn check_tables(&self, reads: BTreeSet<TableName>, promised: &Promised) -> Result<()> {
        for table in reads.difference(&promised.tables) {
            catalog::open(&self.storage, table).await?;
        }
        Ok(())
    }
}

/// The source of a table's spec.
fn source_of(spec: &TableSpec) -> Result<&SourceRef> {
    spec.source.as_ref().ok_or_else(|| {
        Error::new(Code::InvalidSpec, format!("table {} has no source", spec.table))
            .hint("name it with `source:` or --source")
    })
}

fn table_spec(spec: &Option<TableSpec>) -> Result<&TableSpec> {
    spec.as_ref().ok_or_else(|| Error::new(Code::InvalidSpec, "a load or merge without a table"))
}

#[async_trait]
impl Work for Worker {
    async fn run(&self, spec: &JobSpec, job: &JobHandle) -> Result<()> {
        match &spec.spec {
            Some(Spec::Download(download)) => self.download(download, job).await,
            Some(Spec::Adopt(adopt)) => self.adopt(adopt, job).await,
            Some(Spec::Load(load)) => self.apply(table_spec(&load.spec)?, apply::Mode::Load, job).await,
            Some(Spec::Merge(merge)) => self.apply(table_spec(&merge.spec)?, apply::Mode::Merge, job).await,
            Some(Spec::Question(question)) => self.question(question, job).await,
            Some(Spec::Optimize(optimize)) => self.optimize(optimize, job).await,
            Some(Spec::Pipeline(_)) => Err(Error::new(Code::Internal, "a pipeline is taken apart before it runs")),
            None => Err(Error::new(Code::InvalidSpec, "a job without a spec")),
        }
    }

    async fn check(&self, spec: &JobSpec, promised: &Promised) -> Result<()> {
        match &spec.spec {
            Some(Spec::Download(download)) => self.check_download(download),
            Some(Spec::Adopt(adopt)) => self.check_adopt(adopt).await,
            Some(Spec::Load(load)) => {
                let spec = table_spec(&load.spec)?;
                quality::check_spec(spec)?;
                apply::order_by(spec)?;
                clauses::refuse_clauses(spec)?;
                clauses::check_properties(&spec.table.parse()?, spec, None)?;
                self.check_source(source_of(spec)?, promised).await
            }
            Some(Spec::Merge(merge)) => {
                let spec = table_spec(&merge.spec)?;
                quality::check_spec(spec)?;
                apply::order_by(spec)?;
                if spec.primary_key.is_empty() {
                    return Err(Error::new(
                        Code::InvalidSpec,
                        format!("a merge into table {} needs a primary key", spec.table),
                    )
                    .hint("give `primary_key: [column]`, or --pk COLUMN"));
                }
                clauses::clauses_of(spec, None)?;
                clauses::check_properties(&spec.table.parse()?, spec, None)?;
                self.check_source(source_of(spec)?, promised).await
            }
            Some(Spec::Question(question)) => self.check_tables(self.reads(question).await?, promised).await,
            Some(Spec::Optimize(optimize)) => self.check_optimize(optimize).await,
            Some(Spec::Pipeline(_)) | None => Ok(()),
        }
    }

    async fn reads(&self, question: &Question) -> Result<BTreeSet<TableName>> {
        sql::tables_read(&sql::parse_select(&question.sql, &question.sql_file)?)
    }

    async fn follow_up(&self, spec: &JobSpec, job: &Job) -> Option<JobSpec> {
        self.optimize_when_due(spec, job).await.unwrap_or_else(|error| {
            tracing::debug!(job = job.id, %error, "whether its table is to be optimized can't be told");
            None
        })
    }
}
