//! A Delta table, opened at one version.

use std::{collections::HashMap, fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use deltalake_core::{
    DeltaTable, DeltaTableError,
    kernel::{EagerSnapshot, StructType},
    logstore::{LogStore, LogStoreRef, StorageConfig, default_logstore},
};
use object_store::prefix::PrefixStore;
use parking_lot::Mutex;

use super::{feature, files::DataFiles, schema};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
};

/// A table and one of its versions, read whole: everything planned with it sees that version. Cheap to clone.
#[derive(Clone)]
pub struct Table {
    name: TableName,
    storage: Storage,
    log: LogStoreRef,
    snapshot: EagerSnapshot,
    /// Answers of [`Table::applied`]: each is a walk through the log.
    applied: Arc<Mutex<HashMap<String, Option<i64>>>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({}@{})", self.name, self.version())
    }
}

/// The transaction log of a table that may not exist yet.
///
/// Commits put `_delta_log/<version>.json` with [`object_store::PutMode::Create`]: `If-None-Match: *` on S3, a hard link on a file system.
/// Either has exactly one winner ([`Storage::probe`] checks it).
pub(crate) fn log_store(storage: &Storage, name: &TableName) -> Result<LogStoreRef> {
    let prefixed = Arc::new(PrefixStore::new(storage.store(), storage.table_path(name)));
    let url = storage.table_url(name)?;
    Ok(default_logstore(prefixed, storage.store(), &url, &StorageConfig::default()))
}

impl Table {
    /// The newest version of a table; `None` when there is no such table.
    pub async fn open(storage: &Storage, name: &TableName) -> Result<Option<Self>> {
        Self::open_at(storage, name, None).await
    }

    /// A version of a table, the newest by default; `None` when there is no such table.
    pub async fn open_at(storage: &Storage, name: &TableName, version: Option<u64>) -> Result<Option<Self>> {
        let log = log_store(storage, name)?;
        match EagerSnapshot::try_new(log.as_ref(), version).await {
            Ok(snapshot) => {
                let (name, storage) = (name.clone(), storage.clone());
                Ok(Some(Self { name, storage, log, snapshot, applied: Arc::default() }))
            }
            Err(error) if log.is_delta_table_location().await? => Err(unreadable(name, &error)),
            Err(_) => Ok(None),
        }
    }

    /// The newest version of a table that must exist; else [`Code::TableNotFound`].
    pub async fn require(storage: &Storage, name: &TableName) -> Result<Self> {
        Self::open(storage, name).await?.ok_or_else(|| {
            Error::new(Code::TableNotFound, format!("there is no table {name}"))
                .hint("`trireme tables list` shows the tables")
        })
    }

    /// The newest version of this table.
    pub async fn reload(&self) -> Result<Self> {
        Self::require(&self.storage, &self.name).await
    }

    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// Where it lives.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The version read.
    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// Its log, for commits.
    pub(crate) fn log(&self) -> &LogStoreRef {
        &self.log
    }

    /// The library's own view of the version.
    pub fn snapshot(&self) -> &EagerSnapshot {
        &self.snapshot
    }

    /// Delta schema, partition columns included.
    pub fn schema(&self) -> Arc<StructType> {
        self.snapshot.schema()
    }

    /// The same as Arrow, see [`schema::to_arrow`].
    pub fn arrow_schema(&self) -> Result<SchemaRef> {
        schema::to_arrow(&self.schema())
    }

    /// Columns the table is partitioned by, in order.
    pub fn partition_columns(&self) -> &[String] {
        self.snapshot.metadata().partition_columns()
    }

    /// A table property, such as `delta.appendOnly`.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.snapshot.metadata().configuration().get(key).map(String::as_str)
    }

    /// The live data files with their statistics. Fails with [`Code::UnsupportedTable`] when our scan can't honour the table.
    pub fn files(&self) -> Result<DataFiles> {
        feature::check_readable(self)?;
        DataFiles::of_table(self)
    }

    /// Version of the last commit by an application (`txn` action), for exactly-once work.
    pub async fn applied(&self, app_id: &str) -> Result<Option<i64>> {
        if let Some(known) = self.applied.lock().get(app_id) {
            return Ok(*known);
        }
        let found = self.snapshot.transaction_version(self.log.as_ref(), app_id).await?;
        self.applied.lock().insert(app_id.to_string(), found);
        Ok(found)
    }

    /// The library's table, loaded at this version.
    pub async fn to_delta(&self) -> Result<DeltaTable> {
        let mut table = DeltaTable::new(self.log.clone());
        table.load_version(self.version()).await?;
        Ok(table)
    }
}

/// Why a table's log could not be read: storage, a feature the library refuses, or a log that breaks the protocol.
fn unreadable(name: &TableName, error: &DeltaTableError) -> Error {
    let text = error.to_string();
    // The library appends a backtrace.
    let text = text.lines().next().unwrap_or_default();
    if ["Unsupported", "unsupported", "not supported", "Unknown", "catalog-managed"]
        .iter()
        .any(|word| text.contains(word))
    {
        return Error::new(Code::UnsupportedTable, format!("table {name} can't be read: {text}"))
            .hint("write it again without that feature, or read it with the engine that made it");
    }
    if of_storage(error) || text.to_lowercase().contains("object store") {
        return Error::new(Code::Storage, format!("the log of table {name} can't be read: {text}"));
    }
    Error::new(Code::UnsupportedTable, format!("the log of table {name} is broken: {text}")).hint(
        "versions of the log must follow one another without a gap and begin with a protocol, a schema and their history; restore what \
         is missing, or write the table again",
    )
}

fn of_storage(error: &DeltaTableError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<object_store::Error>() || error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}
