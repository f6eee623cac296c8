//! What there is: tables and raw versions, as the API shows them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use prost_types::Timestamp;
use trireme_engine::{
    Code, Error, RawVersion, Result, SourceName, Storage, TableName,
    delta::{Table, catalog},
    raw::{Manifest, Mark, RawFormat, RawZone, schema_report},
};
use trireme_proto::v1;

use super::quality::schema_message;
use crate::service::{CatalogReader, RawReader};

/// Tables or versions read at one time.
const SIDE_BY_SIDE: usize = 16;

/// Lists a storage root.
#[derive(Debug, Clone)]
pub struct Listing {
    storage: Storage,
    zone: RawZone,
}

impl Listing {
    /// Of this root.
    pub fn new(storage: Storage) -> Self {
        Self { zone: RawZone::new(storage.clone()), storage }
    }

    async fn versions(&self, source: &SourceName) -> Result<Vec<Manifest>> {
        let versions = self.zone.list_versions(source).await?;
        let manifests =
            stream::iter(versions).map(|version| async move { self.zone.get(source, Some(&version)).await });
        manifests.buffered(SIDE_BY_SIDE).try_collect().await
    }
}

fn mark_message(mark: &Mark, dropped: bool) -> v1::VersionMark {
    let version = |version: &Option<RawVersion>| version.as_ref().map(ToString::to_string).unwrap_or_default();
    let told = match (dropped, mark.reason.as_str()) {
        (false, _) => mark.told(),
        (true, "") => "dropped".to_string(),
        (true, reason) => format!("dropped: {reason}"),
    };
    v1::VersionMark {
        reason: mark.reason.clone(),
        user: mark.user.clone(),
        at: DateTime::parse_from_rfc3339(&mark.at).ok().map(|time| timestamp(time.to_utc())),
        superseded_by: version(&mark.superseded_by),
        stands_in_for: version(&mark.stands_in_for),
        dropped,
        told,
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 }
}

async fn describe(table: &Table) -> Result<(v1::Table, catalog::TableDescription)> {
    let described = catalog::describe(table)?;
    let newest = catalog::history(table, 1).await?;
    let shown = v1::Table {
        name: described.name.to_string(),
        version: described.version as i64,
        rows: described.rows.map_or(-1, |rows| rows as i64),
        files: described.files,
        bytes: described.bytes,
        modified_at: newest.first().and_then(|commit| commit.time).map(timestamp),
    };
    Ok((shown, described))
}

#[async_trait]
impl CatalogReader for Listing {
    async fn list_tables(&self) -> Result<Vec<v1::Table>> {
        let names = catalog::list(&self.storage).await?;
        let tables = stream::iter(names).map(|name| async move {
            let table = catalog::open(&self.storage, &name).await?;
            describe(&table).await.map(|(shown, _)| shown)
        });
        tables.buffered(SIDE_BY_SIDE).try_collect().await
    }

    async fn describe_table(&self, table: &TableName) -> Result<v1::DescribeTableResponse> {
        let (shown, described) = describe(&catalog::open(&self.storage, table).await?).await?;
        let columns = described.columns.into_iter();
        Ok(v1::DescribeTableResponse {
            table: Some(shown),
            location: described.location,
            columns: columns
                .map(|column| v1::Column { name: column.name, r#type: column.type_name, nullable: column.nullable })
                .collect(),
            partition_columns: described.partition_columns,
            properties: described.properties.into_iter().collect(),
            min_reader_version: u32::try_from(described.protocol.0).unwrap_or_default(),
            min_writer_version: u32::try_from(described.protocol.1).unwrap_or_default(),
        })
    }

    async fn table_history(&self, table: &TableName, limit: usize) -> Result<Vec<v1::TableCommit>> {
        let commits = catalog::history(&catalog::open(&self.storage, table).await?, limit).await?;
        let shown = commits.into_iter().map(|commit| v1::TableCommit {
            version: commit.version as i64,
            timestamp: commit.time.map(timestamp),
            operation: commit.operation,
            parameters: commit.parameters.into_iter().collect(),
            metrics: commit.metrics.into_iter().collect(),
            engine: commit.engine,
            job: commit.job_id,
        });
        Ok(shown.collect())
    }
}

#[async_trait]
impl RawReader for Listing {
    async fn list_sources(&self) -> Result<Vec<v1::Source>> {
        let names = self.zone.list_sources().await?;
        let sources = stream::iter(names).map(|name| async move {
            let versions = self.versions(&name).await?;
            let current = self.zone.get(&name, None).await.ok().map(|manifest| manifest.version);
            let marks = self.zone.deliveries(&name).await?.marks;
            Ok::<_, Error>(v1::Source {
                name: name.to_string(),
                current: current.map(|version| version.to_string()).unwrap_or_default(),
                versions: versions.len() as u32,
                bytes: versions.iter().map(Manifest::bytes).sum(),
                text_bytes: versions.iter().map(Manifest::text_bytes).sum(),
                copy_bytes: versions.iter().map(Manifest::copy_bytes).sum(),
                skipped: marks.values().filter(|mark| mark.leaves_out() && mark.stands_in_for.is_none()).count() as u32,
            })
        });
        sources.buffered(SIDE_BY_SIDE).try_collect().await
    }

    async fn describe_version(&self, source: &SourceName, version: Option<&RawVersion>) -> Result<v1::SchemaReport> {
        let manifest = self.zone.get(source, version).await?;
        let report = schema_report(&self.zone, &manifest, None).await?;
        Ok(schema_message(&manifest, report))
    }

    async fn list_versions(&self, source: &SourceName) -> Result<Vec<v1::RawVersion>> {
        let current = self.zone.get(source, None).await.ok().map(|manifest| manifest.version);
        let found = self.zone.deliveries(source).await?;
        let mut versions = self.versions(source).await?;
        let mut marks: BTreeMap<RawVersion, v1::VersionMark> =
            found.marks.iter().map(|(version, mark)| (version.clone(), mark_message(mark, false))).collect();
        for version in &found.dropped {
            if let Some(dropped) =
                self.zone.dropped(source, version).await?.filter(|_| !found.versions.contains(version))
            {
                marks.insert(version.clone(), mark_message(&dropped.mark, true));
                versions.push(dropped.manifest);
            }
        }
        versions.sort_by(|a, b| b.version.cmp(&a.version));
        if versions.is_empty() {
            // Says which sources there are.
            self.zone.get(source, None).await?;
            return Err(Error::new(Code::SourceNotFound, format!("no source `{source}` in the raw zone")));
        }
        let shown = versions.into_iter().map(|manifest| v1::RawVersion {
            version: manifest.version.to_string(),
            origin: manifest.origin.clone(),
            format: match manifest.format {
                RawFormat::Json => v1::RawFormat::Json,
                RawFormat::Csv => v1::RawFormat::Csv,
                RawFormat::Parquet => v1::RawFormat::Parquet,
            }
            .into(),
            bytes: manifest.bytes(),
            sha256: manifest.parts.first().map(|part| part.sha256.clone()).unwrap_or_default(),
            etag: manifest.etag.clone().unwrap_or_default(),
            last_modified: manifest.last_modified.clone().unwrap_or_default(),
            downloaded_at: DateTime::parse_from_rfc3339(&manifest.downloaded_at)
                .ok()
                .map(|time| timestamp(time.to_utc())),
            splits: manifest.parts.iter().map(|part| part.splits.len() as u32).sum(),
            current: current.as_ref() == Some(&manifest.version),
            text_bytes: manifest.text_bytes(),
            copy_bytes: manifest.copy_bytes(),
            compression: manifest
                .parts
                .iter()
                .find_map(|part| part.compression)
                .map(|compression| compression.to_string())
                .unwrap_or_default(),
            mark: marks.remove(&manifest.version),
        });
        Ok(shown.collect())
    }

    async fn mark_version(&self, request: &v1::MarkVersionRequest) -> Result<v1::VersionMark> {
        let (source, version) = (request.source.parse()?, request.version.parse()?);
        let mark = Mark::new(&request.reason, &request.user);
        let (mark, dropped) = match request.action() {
            v1::MarkAction::Skip => (self.zone.skip(&source, &version, mark).await?, false),
            v1::MarkAction::Unskip => (self.zone.unskip(&source, &version).await?, false),
            v1::MarkAction::Drop => (self.zone.drop_version(&source, &version, mark).await?, true),
            v1::MarkAction::Supersede => {
                let by = request.by.parse()?;
                (self.zone.supersede(&source, &version, &by, mark).await?, false)
            }
            v1::MarkAction::Unspecified => {
                return Err(Error::new(Code::InvalidSpec, "it is not said what is to become of the version")
                    .hint("versions are skipped, taken back, dropped or superseded"));
            }
        };
        tracing::info!(%source, %version, action = request.action().as_str_name(), reason = mark.reason, user = mark.user, "a version was marked");
        Ok(mark_message(&mark, dropped))
    }
}
