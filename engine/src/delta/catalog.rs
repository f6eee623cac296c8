//! The catalog is what lies under `tables/`: listing, description, history, and tables by name for planning.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use datafusion::{catalog::MemorySchemaProvider, catalog::SchemaProvider, prelude::SessionContext};
use deltalake_core::logstore::LogStore;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use serde_json::Value;

use super::{feature::Protocol, scan::DeltaTableScan, schema::type_name, table::Table};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
};

/// Requests to storage at a time.
const PARALLEL: usize = 16;

/// What there is to know about a table without reading its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDescription {
    /// Its name.
    pub name: TableName,
    /// URL of its folder.
    pub location: String,
    /// Newest version.
    pub version: u64,
    /// Columns in order.
    pub columns: Vec<ColumnDescription>,
    /// Columns it is partitioned by.
    pub partition_columns: Vec<String>,
    /// Table properties.
    pub properties: BTreeMap<String, String>,
    /// Oldest reader and writer protocol that may use it.
    pub protocol: (i32, i32),
    /// Table features it uses (protocol 3 and 7).
    pub features: Vec<String>,
    /// Rows, deleted ones aside; none when a file's count is not known.
    pub rows: Option<u64>,
    /// Data files.
    pub files: u64,
    /// Bytes of the data files.
    pub bytes: u64,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its type as Spark SQL spells it.
    pub type_name: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// What its writer says of it.
    pub comment: Option<String>,
}

/// One commit of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitDescription {
    /// The version it made.
    pub version: u64,
    /// When; none when the writer did not say.
    pub time: Option<DateTime<Utc>>,
    /// `MERGE`, `WRITE`, …; empty when the writer did not say.
    pub operation: String,
    /// Parameters of the operation.
    pub parameters: BTreeMap<String, String>,
    /// Metrics of the operation, by the writer's names.
    pub metrics: BTreeMap<String, String>,
    /// The writer, such as `trireme/0.1.0`.
    pub engine: String,
    /// The job of ours that committed; empty for other writers.
    pub job_id: String,
}

/// Names of all tables, sorted. Folders without a transaction log are no tables.
pub async fn list(storage: &Storage) -> Result<Vec<TableName>> {
    let store = storage.store();
    let children = |below: String| {
        let store = store.clone();
        async move {
            let path = storage.path(&below);
            let listed = match store.list_with_delimiter(Some(&path)).await {
                Ok(listed) => listed,
                Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
                Err(error) => return Err(Error::from(error)),
            };
            Ok(listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_string)).collect::<Vec<_>>())
        }
    };
    let schemas = children("tables".to_string()).await?;
    let names: Vec<Vec<TableName>> = stream::iter(schemas)
        .map(|schema| {
            let inside = children(format!("tables/{schema}"));
            async move {
                let names = inside.await?;
                // A folder with another name can't be reached by any command.
                Ok::<_, Error>(names.iter().filter_map(|name| format!("{schema}.{name}").parse().ok()).collect())
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    let mut tables: Vec<TableName> = stream::iter(names.into_iter().flatten())
        .map(|table: TableName| {
            let inside = children(format!("tables/{}/{}", table.schema, table.name));
            async move {
                let is_table = inside.await?.iter().any(|name| name == "_delta_log");
                Ok::<_, Error>(is_table.then_some(table))
            }
        })
        .buffer_unordered(PARALLEL)
        .try_filter_map(|table| async move { Ok(table) })
        .try_collect()
        .await?;
    tables.sort();
    Ok(tables)
}

/// Opens a table; fails with [`Code::TableNotFound`] and the nearest names of tables that exist.
pub async fn open(storage: &Storage, name: &TableName) -> Result<Table> {
    match Table::open(storage, name).await? {
        Some(table) => Ok(table),
        None => Err(not_found(storage, name).await),
    }
}

async fn not_found(storage: &Storage, name: &TableName) -> Error {
    let error = Error::new(Code::TableNotFound, format!("there is no table {name}"));
    let tables = list(storage).await.unwrap_or_default();
    let wanted = name.to_string();
    let mut near: Vec<(usize, String)> = tables
        .iter()
        .map(|table| {
            let same_name = usize::from(table.name != name.name);
            let table = table.to_string();
            (same_name * distance(&table, &wanted), table)
        })
        .filter(|(distance, _)| *distance <= 3)
        .collect();
    near.sort();
    match (near.is_empty(), tables.is_empty()) {
        (false, _) => {
            let near: Vec<_> = near.into_iter().take(3).map(|(_, table)| table).collect();
            error.hint(format!("did you mean {}?", near.join(" or ")))
        }
        (true, false) => error.hint("`trireme tables list` shows the tables"),
        (true, true) => error.hint("there are no tables yet; `trireme load` makes one"),
    }
}

/// Edits (insert, delete, replace one character) between two names (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Describes a table from its log.
pub fn describe(table: &Table) -> Result<TableDescription> {
    let protocol = Protocol::of(table)?;
    let features: BTreeSet<String> = protocol.reader_features.into_iter().chain(protocol.writer_features).collect();
    let (mut rows, mut files, mut bytes) = (Some(0u64), 0, 0);
    for file in table.snapshot().try_log_data()?.iter() {
        let deleted =
            file.deletion_vector_descriptor().map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or(0));
        let live = file.num_records().map(|rows| (rows as u64).saturating_sub(deleted));
        rows = rows.zip(live).map(|(sum, live)| sum + live);
        files += 1;
        bytes += u64::try_from(file.size()).unwrap_or(0);
    }
    let columns = table
        .schema()
        .fields()
        .map(|field| ColumnDescription {
            name: field.name.clone(),
            type_name: type_name(&field.data_type),
            nullable: field.nullable,
            comment: field.metadata.get("comment").map(ToString::to_string),
        })
        .collect();
    let properties = table.snapshot().metadata().configuration();
    Ok(TableDescription {
        name: table.name().clone(),
        location: table.storage().table_url(table.name())?.to_string(),
        version: table.version(),
        columns,
        partition_columns: table.partition_columns().to_vec(),
        properties: properties.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        protocol: (protocol.reader, protocol.writer),
        features: features.into_iter().collect(),
        rows,
        files,
        bytes,
    })
}

/// The newest `limit` commits whose log entries are still there, newest first.
pub async fn history(table: &Table, limit: usize) -> Result<Vec<CommitDescription>> {
    let log = table.log();
    let versions = (0..=table.version()).rev().take(limit);
    let entries: Vec<_> = stream::iter(versions)
        .map(|version| async move { Ok::<_, Error>((version, log.read_commit_entry(version).await?)) })
        .buffered(PARALLEL)
        // Log clean-up removes the oldest entries.
        .try_take_while(|(_, entry)| futures::future::ready(Ok(entry.is_some())))
        .try_collect()
        .await?;
    Ok(entries.into_iter().filter_map(|(version, entry)| Some(CommitDescription::parse(version, &entry?))).collect())
}

impl CommitDescription {
    fn parse(version: u64, entry: &[u8]) -> Self {
        let info = serde_json::Deserializer::from_slice(entry)
            .into_iter::<Value>()
            .map_while(Result::ok)
            .find_map(|mut action| action.get_mut("commitInfo").map(Value::take))
            .unwrap_or_default();
        let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let map = |key: &str| match info.get(key) {
            Some(Value::Object(map)) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
            _ => BTreeMap::new(),
        };
        Self {
            version,
            time: info.get("timestamp").and_then(Value::as_i64).and_then(DateTime::from_timestamp_millis),
            operation: text("operation"),
            parameters: map("operationParameters"),
            metrics: map("operationMetrics"),
            engine: text("engineInfo"),
            job_id: text("jobId"),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Opens each table once, so that a job sees one version of it, and registers their scans under `schema.table` for planning.
///
/// The tables are returned as they were opened. The session must reach the storage root's object store.
pub async fn register(
    context: &SessionContext,
    storage: &Storage,
    names: &BTreeSet<TableName>,
) -> Result<BTreeMap<TableName, Table>> {
    let opens: Vec<_> = names.iter().map(|name| open(storage, name)).collect();
    let tables: Vec<Table> = stream::iter(opens).buffered(PARALLEL).try_collect().await?;
    let options = context.state().config_options().clone();
    let catalog = context
        .catalog(&options.catalog.default_catalog)
        .ok_or_else(|| Error::new(Code::Internal, "the session has no default catalog"))?;
    let mut opened = BTreeMap::new();
    for table in tables {
        let name = table.name().clone();
        let schema = match catalog.schema(&name.schema) {
            Some(schema) => schema,
            None => {
                let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(&name.schema, schema.clone())?;
                schema
            }
        };
        schema.deregister_table(&name.name)?;
        schema.register_table(name.name.clone(), Arc::new(DeltaTableScan::of_table(&table)?))?;
        opened.insert(name, table);
    }
    Ok(opened)
}
