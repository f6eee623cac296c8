//! Deliveries on their way from an origin to rows.

mod adopted;
mod bad;
mod codec;
mod compressed;
mod empty;
mod options;
mod reading;
mod real;

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef, util::pretty::pretty_format_batches};
use datafusion::{
    common::DataFusionError,
    physical_plan::{ExecutionPlan, collect},
    prelude::{SessionConfig, SessionContext},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::*;
use crate::{
    error::{Error, Result},
    names::{RawVersion, SourceName},
    storage::Storage,
};

/// A raw zone in a folder of its own, and a session that reads it.
pub struct World {
    pub folder: tempfile::TempDir,
    pub zone: RawZone,
    pub session: SessionContext,
}

impl World {
    pub fn new(partitions: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let zone = RawZone::new(Storage::open(folder.path().join("lake").to_str().unwrap()).unwrap());
        let config = SessionConfig::new().with_target_partitions(partitions);
        // A dialect that has lambdas.
        let config = config.set_str("datafusion.sql_parser.dialect", "Databricks");
        let session = SessionContext::new_with_config(config);
        Self { folder, zone, session }
    }

    pub fn request(&self, from: &str, split_size: u64) -> FetchRequest {
        let (source, version) = (source(), RawVersion::at(chrono::Utc::now()));
        let storage = self.zone.storage().root().to_string();
        FetchRequest { split_size, ..FetchRequest::new(storage, source, version, from.to_string()) }
    }

    /// Downloads a local file, as `name`, and makes it visible.
    pub async fn deliver(&self, name: &str, text: &[u8], split_size: u64) -> Manifest {
        self.deliver_with(name, text, split_size, CopyPolicy::default()).await.unwrap()
    }

    /// The same with a seekable copy, or without.
    pub async fn deliver_with(&self, name: &str, text: &[u8], split_size: u64, copy: CopyPolicy) -> Result<Manifest> {
        self.deliver_as(name, text, TextOptions::default(), split_size, copy).await
    }

    /// The same of text that is written so.
    pub async fn deliver_as(
        &self,
        name: &str,
        text: &[u8],
        options: TextOptions,
        split_size: u64,
        copy: CopyPolicy,
    ) -> Result<Manifest> {
        // A version's name is of its millisecond.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let request = self.request(Url::from_file_path(path).unwrap().as_str(), split_size);
        let request = FetchRequest { copy, options: options.clone(), ..request };
        let outcome = fetch(&request, &CancellationToken::new(), &|_| {}).await?;
        let FetchOutcome::Fetched(fetched) = outcome else { panic!("not fetched") };
        let manifest = Manifest::new(source(), request.version, fetched.origin, fetched.format, fetched.parts)
            .with_options(options);
        self.zone.publish(&manifest).await.unwrap();
        Ok(manifest)
    }

    /// Names and bytes of the files in all versions' folders.
    pub fn stored(&self) -> std::collections::BTreeMap<String, Vec<u8>> {
        let folder = self.folder.path().join(format!("lake/raw/{}", source()));
        let versions = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = versions.flat_map(|version| std::fs::read_dir(version.path()).into_iter().flatten().flatten());
        let read =
            |file: std::fs::DirEntry| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap());
        files.map(read).collect()
    }

    /// Its columns, inferred when they must be.
    pub async fn columns(&self, manifest: &Manifest, declared: Option<&SchemaRef>) -> Result<SchemaRef> {
        if let Some(known) = known_columns(&self.zone, manifest, declared).await? {
            return Ok(known);
        }
        let plan = infer_plan(&self.zone, manifest, 3, false)?;
        let schema = inferred_schema(&collect(plan, self.session.task_ctx()).await?)?;
        self.zone.keep_schema(&manifest.source, &manifest.version, &schema).await?;
        known_columns(&self.zone, manifest, None).await.map(|known| known.expect("was just kept"))
    }

    /// Registers a delivery as table `raw`.
    pub async fn register(&self, manifest: &Manifest, declared: Option<&SchemaRef>) -> Result<()> {
        let schema = self.columns(manifest, declared).await?;
        let table = RawTable::new(self.zone.clone(), manifest.clone(), schema);
        self.session.deregister_table("raw")?;
        self.session.register_table("raw", Arc::new(table))?;
        Ok(())
    }

    pub async fn plan(&self, sql: &str) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        self.session.sql(sql).await?.create_physical_plan().await
    }

    pub async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        Ok(collect(self.plan(sql).await?, self.session.task_ctx()).await?)
    }

    /// Delivers, and reads with one statement; the rows as text.
    pub async fn read(&self, name: &str, text: &[u8], split_size: u64, sql: &str) -> Result<String> {
        let manifest = self.deliver(name, text, split_size).await;
        self.register(&manifest, None).await?;
        Ok(as_text(&self.rows(sql).await?))
    }

    /// Why a delivery can't be read.
    pub async fn refusal(&self, name: &str, text: &[u8], split_size: u64) -> Error {
        self.read(name, text, split_size, "SELECT * FROM raw").await.unwrap_err()
    }
}

pub fn source() -> SourceName {
    "test.delivery".parse().unwrap()
}

/// Rows without the frame, one a line.
pub fn as_text(batches: &[RecordBatch]) -> String {
    let table = pretty_format_batches(batches).unwrap().to_string();
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(1);
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The lines of a text, in order.
pub fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}
