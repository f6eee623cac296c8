//! Commits: one per job, all or nothing, exactly once, and never over somebody else's change.
//!
//! A commit is strict: it takes the version after the one the job was planned on. When another writer took that version, the job must
//! be planned again ([`Code::Conflict`]), unless what came between changed nothing (a VACUUM's marks, another application's `txn`). A commit that
//! only moves rows to other files ([`optimize`]) also comes after changes of other files.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;
use chrono::Utc;
use deltalake_core::{
    kernel::{
        Action, Add, AddCDCFile, CommitInfo, IsolationLevel, Metadata, MetadataExt, Protocol, Remove, StructType,
        Transaction, new_metadata, transaction::TransactionError,
    },
    logstore::{CommitOrBytes, LogStoreRef, get_actions},
    protocol::checkpoints::create_checkpoint,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    clauses::Clauses,
    commit_info::{Info, OPTIMIZE, merge_info, optimize_info, optimize_parameters, overwrite_info},
    content::{Content, Delivery},
    feature,
    files::{rows, size},
    optimize::Limits,
    table::{Table, log_store},
};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
};

/// Commits that changed nothing, passed over at most.
const HARMLESS_AT_MOST: u64 = 100;
/// Attempts at a commit whose outcome storage leaves open.
const ATTEMPTS: u32 = 4;
/// Versions between checkpoints when the table does not say.
const CHECKPOINT_INTERVAL: u64 = 10;

/// What has been applied to a table, for work that must happen once: Delta's `txn` action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// Whose work, such as a source's name.
    pub app_id: String,
    /// Which piece of it, such as [`crate::RawVersion::number`].
    pub version: i64,
}

/// What the log says about a commit beside its files.
#[derive(Debug, Clone, Default)]
pub struct CommitLabel {
    /// The job that commits.
    pub job_id: String,
    /// Set when the same work must not be applied twice.
    pub txn: Option<Txn>,
    /// Set when the rows are a source's: decides by [`super::content`] whether the table holds them already.
    pub delivery: Option<Delivery>,
    /// What the table held when it was found out that it does not hold the delivery: it is looked at again only if that has changed.
    pub seen: Option<Content>,
    /// How long the job ran.
    pub execution: Duration,
    /// Columns by which the job sorts rows within files: what the table is to say of itself ([`feature::SORT_BY`]). Empty: what it says stays.
    pub sort_by: Vec<String>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Version that holds the change.
    pub version: u64,
    /// An earlier or concurrent run had applied the same [`Txn`]: our files are not in the table.
    pub already_applied: bool,
}

/// Row counts of a merge, for the log's operation metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeCounts {
    /// Rows of the source.
    pub source: u64,
    /// Rows of the source whose key was new.
    pub inserted: u64,
    /// Rows of the table that were replaced; of a history, those that were closed, too.
    pub updated: u64,
    /// Rows of the table that were deleted.
    pub deleted: u64,
    /// Rows of the source that were left out.
    pub ignored: u64,
    /// Rows of the table that were rewritten unchanged.
    pub copied: u64,
}

/// A merge, ready to be committed.
#[derive(Debug, Clone)]
pub struct MergeCommit<'a> {
    /// The table's schema afterwards, see [`super::schema::reconcile`].
    pub schema: &'a StructType,
    /// Primary key.
    pub keys: &'a [String],
    /// What it does, for the log.
    pub clauses: &'a Clauses,
    /// Files of change data, where the table has a feed of it.
    pub changes: Vec<Add>,
    /// Files with the source's rows.
    pub new: Vec<Add>,
    /// Files with rows kept from `touched`: rewritten ones, or the same ones with other deletion vectors.
    pub kept: Vec<Add>,
    /// Files of the table that had replaced rows.
    pub touched: Vec<Add>,
    /// Row counts.
    pub counts: MergeCounts,
}

/// Files that hold the rows of others, ready to be committed.
#[derive(Debug, Clone)]
pub struct OptimizeCommit<'a> {
    /// Files of the table whose rows are in `added` now, as the table has them.
    pub removed: Vec<Add>,
    /// Uncommitted files.
    pub added: Vec<Add>,
    /// Columns along whose Z-order the rows are; empty for files that were only packed.
    pub z_order: &'a [String],
    /// Which files were to be rewritten.
    pub limits: Limits,
    /// Nobody asked for it but the scheduler.
    pub automatic: bool,
}

/// Makes a table out of uncommitted files: version 0. [`Code::Conflict`] when the table exists by now.
///
/// The protocol is what `properties` ask for, see [`feature::protocol_for`].
pub async fn create(
    storage: &Storage,
    name: &TableName,
    schema: &StructType,
    properties: &BTreeMap<String, String>,
    files: Vec<Add>,
    label: &CommitLabel,
) -> Result<Committed> {
    feature::check_properties(name, properties)?;
    let protocol: Protocol = serde_json::from_value(feature::protocol_for(schema, properties))
        .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let mut properties = properties.clone();
    if !label.sort_by.is_empty() {
        properties.insert(feature::SORT_BY.to_string(), label.sort_by.join(","));
    }
    let metadata = new_metadata(schema, Vec::<String>::new(), properties)
        .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let info = overwrite_info(&files, 0, 0);
    let mut actions = vec![Action::Protocol(protocol), Action::Metadata(metadata)];
    actions.extend(files.into_iter().map(Action::Add));
    let log = log_store(storage, name)?;
    let effect = Effect::Replaces;
    Attempt { storage, name, log: &log, base: None, label, effect, moved: None }.commit(info, actions).await
}

/// Replaces all rows, and the schema where it differs, of the version `table` was opened at.
pub async fn overwrite(table: &Table, schema: &StructType, files: Vec<Add>, label: &CommitLabel) -> Result<Committed> {
    feature::check_writable(table, true)?;
    let old = table.files()?;
    let info = overwrite_info(&files, old.len(), old.bytes());
    let mut actions = evolve(table, schema, label)?;
    actions.extend(old.adds().iter().map(|add| remove(add, true)));
    actions.extend(files.into_iter().map(Action::Add));
    Attempt { effect: Effect::Replaces, ..Attempt::on(table, label) }.commit(info, actions).await
}

/// Adds files to the version `table` was opened at.
pub async fn append(table: &Table, files: Vec<Add>, label: &CommitLabel) -> Result<Committed> {
    append_evolving(table, table.schema().as_ref(), files, label).await
}

/// Adds files that may have columns which the table gets with them.
pub async fn append_evolving(
    table: &Table,
    schema: &StructType,
    files: Vec<Add>,
    label: &CommitLabel,
) -> Result<Committed> {
    feature::check_writable(table, false)?;
    let info = Info {
        operation: "WRITE",
        parameters: vec![("mode", "Append".to_string()), ("partitionBy", "[]".to_string())],
        metrics: vec![
            ("numFiles", files.len() as u64),
            ("numOutputRows", files.iter().filter_map(rows).sum()),
            ("numOutputBytes", files.iter().map(size).sum()),
        ],
    };
    // How these rows are sorted says nothing of the others.
    let unsorted = CommitLabel { sort_by: Vec::new(), ..label.clone() };
    let mut actions = evolve(table, schema, &unsorted)?;
    actions.extend(files.into_iter().map(Action::Add));
    Attempt::on(table, label).commit(info, actions).await
}

/// Notes that a delivery without a row was merged: the table stays what it is.
pub async fn nothing(table: &Table, label: &CommitLabel) -> Result<Committed> {
    feature::check_writable(table, false)?;
    let metrics = vec![("numSourceRows", 0), ("numOutputRows", 0)];
    let info = Info { operation: "MERGE", parameters: Vec::new(), metrics };
    Attempt { effect: Effect::Merges, ..Attempt::on(table, label) }.commit(info, Vec::new()).await
}

/// Adds the source's rows and replaces touched files by what is kept of them.
pub async fn merge(table: &Table, merge: MergeCommit<'_>, label: &CommitLabel) -> Result<Committed> {
    feature::check_writable(table, true)?;
    let info = merge_info(&merge);
    let mut actions = evolve(table, merge.schema, label)?;
    actions.extend(merge.touched.iter().map(|add| remove(add, true)));
    actions.extend(merge.kept.into_iter().chain(merge.new).map(Action::Add));
    actions.extend(merge.changes.into_iter().map(change));
    Attempt { effect: Effect::Merges, ..Attempt::on(table, label) }.commit(info, actions).await
}

/// Replaces files by others with the same rows. The table's data does not change (`dataChange` is false), so this comes after any commit that
/// left the files alone which it replaces; [`Code::Conflict`] when one did not.
pub async fn optimize(table: &Table, optimize: OptimizeCommit<'_>, label: &CommitLabel) -> Result<Committed> {
    feature::check_writable(table, false)?;
    let info = optimize_info(&optimize);
    let moved = optimize.removed.iter().map(|add| add.path.as_str()).collect();
    let removes = optimize.removed.iter().map(|add| remove(add, false));
    let adds = optimize.added.iter().map(|add| Action::Add(Add { data_change: false, ..add.clone() }));
    let actions = removes.chain(adds).collect();
    Attempt { moved: Some(moved), ..Attempt::on(table, label) }.commit(info, actions).await
}

/// Whether the newest commit of the table is an optimization with these settings.
pub async fn is_optimized(table: &Table, z_order: &[String], limits: Limits) -> Result<bool> {
    let Some(entry) = table.log().read_commit_entry(table.version()).await? else { return Ok(false) };
    let Ok(actions) = get_actions(table.version(), &entry) else { return Ok(false) };
    let wanted = optimize_parameters(z_order, limits);
    Ok(actions.iter().any(|action| match action {
        Action::CommitInfo(info) if info.operation.as_deref() == Some(OPTIMIZE) => {
            let given = info.operation_parameters.as_ref();
            wanted.iter().all(|(key, value)| given.and_then(|given| given.get(*key)?.as_str()) == Some(value.as_str()))
        }
        _ => false,
    }))
}

/// A checkpoint of this version, when one is due (`delta.checkpointInterval`, 10 by default). Never fails: readers do without.
pub async fn checkpoint_when_due(storage: &Storage, name: &TableName, version: u64) -> bool {
    let checkpoint = async {
        let Some(table) = Table::open_at(storage, name, Some(version)).await? else { return Ok(false) };
        let interval = table.property("delta.checkpointInterval").and_then(|text| text.parse().ok());
        if version == 0 || !version.is_multiple_of(interval.unwrap_or(CHECKPOINT_INTERVAL).max(1)) {
            return Ok(false);
        }
        create_checkpoint(&table.to_delta().await?, None).await?;
        Ok::<_, Error>(true)
    };
    checkpoint.await.unwrap_or_else(|error| {
        tracing::warn!(table = %name, version, %error, "no checkpoint was made");
        false
    })
}

fn evolve(table: &Table, schema: &StructType, label: &CommitLabel) -> Result<Vec<Action>> {
    let sort_by = label.sort_by.join(",");
    let is_sorted = sort_by.is_empty() || table.property(feature::SORT_BY) == Some(sort_by.as_str());
    if table.schema().as_ref() == schema && is_sorted {
        return Ok(Vec::new());
    }
    let broken = |error: deltalake_core::kernel::Error| {
        Error::new(Code::Internal, format!("the schema of table {} has no JSON form: {error}", table.name()))
    };
    // The table's id and its other properties stay.
    let metadata: Metadata = table.snapshot().metadata().clone();
    let mut metadata = metadata.with_schema(schema).map_err(broken)?;
    if !is_sorted {
        metadata = metadata.add_config_key(feature::SORT_BY.to_string(), sort_by).map_err(broken)?;
    }
    let protocol = feature::protocol_with(table, schema)?.map(serde_json::from_value::<Protocol>).transpose();
    let protocol = protocol.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    Ok(protocol.map(Action::Protocol).into_iter().chain([Action::Metadata(metadata)]).collect())
}

fn change(add: Add) -> Action {
    let Add { path, size, partition_values, .. } = add;
    Action::Cdc(AddCDCFile { path, size, partition_values, data_change: false, tags: None })
}

fn remove(add: &Add, data_change: bool) -> Action {
    Action::Remove(Remove {
        path: add.path.clone(),
        data_change,
        deletion_timestamp: Some(Utc::now().timestamp_millis()),
        extended_file_metadata: Some(true),
        partition_values: Some(add.partition_values.clone()),
        size: Some(add.size),
        deletion_vector: add.deletion_vector.clone(),
        ..Remove::default()
    })
}

/// One change on its way into the log.
struct Attempt<'a> {
    storage: &'a Storage,
    name: &'a TableName,
    log: &'a LogStoreRef,
    /// The version the change was planned on; none for a new table.
    base: Option<&'a Table>,
    label: &'a CommitLabel,
    effect: Effect,
    /// Set when the table's data stays what it is: the files whose rows are moved.
    moved: Option<HashSet<&'a str>>,
}

/// What a commit does to the table's content, for the marks of [`super::content`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Replaces,
    Merges,
    /// Nobody asks what such a table holds, or it holds the same.
    Unmarked,
}

/// What another writer's commit means to ours.
enum Between {
    Ours,
    SameTxn,
    Harmless,
    Conflict,
}

impl<'a> Attempt<'a> {
    fn on(table: &'a Table, label: &'a CommitLabel) -> Self {
        let (storage, name, log) = (table.storage(), table.name(), table.log());
        Self { storage, name, log, base: Some(table), label, effect: Effect::Unmarked, moved: None }
    }

    async fn commit(self, info: Info, actions: Vec<Action>) -> Result<Committed> {
        let content = match self.base {
            Some(table) => Content::of(table).await?,
            None => Content::default(),
        };
        if let Some(table) = self.base
            && self.is_applied(table, &content).await?
        {
            return Ok(Committed { version: table.version(), already_applied: true });
        }
        let txn = self.txn(&content);
        let token = Uuid::new_v4().to_string();
        let lines = self.encode(info, actions, &token)?;
        let first = self.base.map_or(0, |table| table.version() + 1);
        let mut version = first;
        let mut failures = 0;
        loop {
            let bytes = Bytes::from([lines.clone(), self.encode_marks(&content, version)?].concat().join("\n"));
            let outcome = self.log.write_commit_entry(version, CommitOrBytes::LogBytes(bytes), Uuid::new_v4()).await;
            let Err(error) = outcome else { return Ok(Committed { version, already_applied: false }) };
            // Whatever the error says, the log decides: a put that was sent again can be refused because of itself.
            match self.log.read_commit_entry(version).await {
                Ok(Some(entry)) => match self.judge(version, &entry, &token, txn.as_ref()) {
                    Between::Ours => return Ok(Committed { version, already_applied: false }),
                    Between::SameTxn => return Ok(Committed { version, already_applied: true }),
                    Between::Harmless if version - first < HARMLESS_AT_MOST => version += 1,
                    Between::Harmless | Between::Conflict => return self.conflict(version).await,
                },
                read => {
                    failures += 1;
                    if failures >= ATTEMPTS {
                        return Err(self.undecided(version, &error, read.err().map(|error| error.to_string())));
                    }
                    tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(failures)).await;
                }
            }
        }
    }

    /// What the log has when this very work was done.
    fn txn(&self, content: &Content) -> Option<Txn> {
        match &self.label.delivery {
            Some(delivery) => Some(delivery.txn(content)),
            None => self.label.txn.clone(),
        }
    }

    async fn is_applied(&self, table: &Table, content: &Content) -> Result<bool> {
        match (&self.label.delivery, &self.label.txn) {
            (Some(delivery), _) if delivery.force => Ok(false),
            (Some(_), _) if self.label.seen.as_ref().is_some_and(|seen| content.is_still(seen)) => Ok(false),
            (Some(delivery), _) => delivery.is_applied(table, content).await,
            (None, Some(txn)) => Ok(table.applied(&txn.app_id).await? == Some(txn.version)),
            (None, None) => Ok(false),
        }
    }

    fn judge(&self, version: u64, entry: &Bytes, token: &str, txn: Option<&Txn>) -> Between {
        let Ok(actions) = get_actions(version, entry) else { return Between::Conflict };
        let info = |action: &Action| match action {
            Action::CommitInfo(info) => info.info.get("txnId").and_then(Value::as_str) == Some(token),
            _ => false,
        };
        let same = |action: &Action| match (action, txn) {
            (Action::Txn(theirs), Some(ours)) => theirs.app_id == ours.app_id && theirs.version == ours.version,
            _ => false,
        };
        let is_moved = |path: &str| self.moved.as_ref().is_none_or(|moved| moved.contains(path));
        let rival = |action: &Action| match (action, txn) {
            (Action::Txn(theirs), Some(ours)) => theirs.app_id == ours.app_id,
            (Action::Txn(_) | Action::CommitInfo(_), _) => false,
            // A file that gets another deletion vector is removed and added.
            (Action::Add(add), _) => is_moved(&add.path),
            (Action::Remove(remove), _) => is_moved(&remove.path),
            (Action::Cdc(_), _) => self.moved.is_none(),
            _ => true,
        };
        if actions.iter().any(info) {
            Between::Ours
        } else if actions.iter().any(same) {
            Between::SameTxn
        } else if self.base.is_some() && !actions.iter().any(rival) {
            Between::Harmless
        } else {
            Between::Conflict
        }
    }

    /// Somebody changed the table; perhaps a later commit of theirs is the same work as ours.
    async fn conflict(&self, version: u64) -> Result<Committed> {
        if self.txn(&Content::default()).is_some()
            && let Some(newest) = Table::open(self.storage, self.name).await?
            && self.is_applied(&newest, &Content::of(&newest).await?).await?
        {
            return Ok(Committed { version: newest.version(), already_applied: true });
        }
        let name = self.name;
        let message = format!("another writer changed table {name} (version {version}) while this job ran");
        Err(Error::new(Code::Conflict, message).hint("run the job again; nothing of it is in the table"))
    }

    fn undecided(&self, version: u64, error: &TransactionError, read: Option<String>) -> Error {
        let read = read.map(|error| format!("; reading it back: {error}")).unwrap_or_default();
        let message = format!("the commit of version {version} to table {} failed: {error}{read}", self.name);
        Error::new(Code::Storage, message).hint("run the job again; it is applied once whatever became of this attempt")
    }

    /// The lines of a commit; those of [`Attempt::encode_marks`] come behind them.
    fn encode(&self, info: Info, actions: Vec<Action>, token: &str) -> Result<Vec<String>> {
        let execution = u64::try_from(self.label.execution.as_millis()).unwrap_or(u64::MAX);
        let metrics: HashMap<&str, String> = info
            .metrics
            .into_iter()
            .chain([("executionTimeMs", execution)])
            .map(|(key, value)| (key, value.to_string()))
            .collect();
        let mut more =
            HashMap::from([("operationMetrics".to_string(), json!(metrics)), ("txnId".to_string(), json!(token))]);
        if !self.label.job_id.is_empty() {
            more.insert("jobId".to_string(), json!(self.label.job_id));
        }
        let commit_info = CommitInfo {
            timestamp: Some(Utc::now().timestamp_millis()),
            operation: Some(info.operation.to_string()),
            operation_parameters: Some(
                info.parameters.into_iter().map(|(key, value)| (key.to_string(), Value::String(value))).collect(),
            ),
            read_version: self.base.map(Table::version),
            isolation_level: Some(match self.moved {
                Some(_) => IsolationLevel::SnapshotIsolation,
                None => IsolationLevel::Serializable,
            }),
            is_blind_append: Some(false),
            engine_info: Some(concat!("trireme/", env!("CARGO_PKG_VERSION")).to_string()),
            info: more,
            ..CommitInfo::default()
        };
        let txns = self.label.txn.iter().filter(|_| self.label.delivery.is_none()).map(transaction);
        [Action::CommitInfo(commit_info)].into_iter().chain(txns).chain(actions).map(line).collect()
    }

    fn encode_marks(&self, content: &Content, version: u64) -> Result<Vec<String>> {
        if self.effect == Effect::Unmarked {
            return Ok(Vec::new());
        }
        let (replaces, is_new) = (self.effect == Effect::Replaces, self.base.is_none());
        let marks = content.marks(self.label.delivery.as_ref(), replaces, is_new, version);
        marks.iter().map(|mark| line(transaction(mark))).collect()
    }
}

fn transaction(txn: &Txn) -> Action {
    Action::Txn(Transaction::new_with_last_update(&txn.app_id, txn.version, Some(Utc::now().timestamp_millis())))
}

fn line(action: Action) -> Result<String> {
    serde_json::to_string(&action)
        .map_err(|error| Error::new(Code::Internal, format!("an action has no JSON form: {error}")))
}

#[cfg(test)]
mod tests {
    use std::{
        fmt,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use async_trait::async_trait;
    use deltalake_core::logstore::{StorageConfig, default_logstore};
    use futures::stream::BoxStream;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
        PutOptions, PutPayload, PutResult, path::Path, prefix::PrefixStore,
    };

    use super::*;

    /// A store whose next puts go wrong: they land, or not, and answer with an error.
    #[derive(Debug)]
    struct Unsure {
        inner: Arc<dyn ObjectStore>,
        lands: bool,
        failures: AtomicU32,
    }

    impl fmt::Display for Unsure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Unsure")
        }
    }

    #[async_trait]
    impl ObjectStore for Unsure {
        async fn put_opts(
            &self,
            at: &Path,
            payload: PutPayload,
            options: PutOptions,
        ) -> object_store::Result<PutResult> {
            let left = self.failures.load(Ordering::SeqCst);
            if left == 0 {
                return self.inner.put_opts(at, payload, options).await;
            }
            self.failures.store(left - 1, Ordering::SeqCst);
            if self.lands {
                self.inner.put_opts(at, payload, options).await?;
            }
            Err(object_store::Error::Generic { store: "unsure", source: "503 slow down".into() })
        }

        async fn put_multipart_opts(
            &self,
            at: &Path,
            options: PutMultipartOptions,
        ) -> object_store::Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(at, options).await
        }

        async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
            self.inner.get_opts(at, options).await
        }

        fn delete_stream(
            &self,
            paths: BoxStream<'static, object_store::Result<Path>>,
        ) -> BoxStream<'static, object_store::Result<Path>> {
            self.inner.delete_stream(paths)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    struct World {
        _folder: tempfile::TempDir,
        table: Table,
        label: CommitLabel,
    }

    async fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path().to_str().unwrap()).unwrap();
        let name: TableName = "a.unsure".parse().unwrap();
        let schema = StructType::try_new([deltalake_core::kernel::StructField::nullable(
            "k",
            deltalake_core::kernel::DataType::LONG,
        )])
        .unwrap();
        let label = CommitLabel { txn: Some(Txn { app_id: "s".to_string(), version: 3 }), ..CommitLabel::default() };
        create(&storage, &name, &schema, &BTreeMap::new(), Vec::new(), &CommitLabel::default()).await.unwrap();
        let table = Table::require(&storage, &name).await.unwrap();
        World { _folder: folder, table, label }
    }

    impl World {
        async fn commit(&self, lands: bool, failures: u32) -> Result<Committed> {
            let storage = self.table.storage();
            let store = Arc::new(Unsure { inner: storage.store(), lands, failures: AtomicU32::new(failures) });
            let prefixed = Arc::new(PrefixStore::new(
                store.clone() as Arc<dyn ObjectStore>,
                storage.table_path(self.table.name()),
            ));
            let url = storage.table_url(self.table.name()).unwrap();
            let log = default_logstore(prefixed, store, &url, &StorageConfig::default());
            let attempt = Attempt { log: &log, ..Attempt::on(&self.table, &self.label) };
            attempt.commit(overwrite_info(&[], 0, 0), Vec::new()).await
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_commit_that_landed_in_spite_of_an_error_is_a_commit() {
        let world = world().await;
        let committed = world.commit(true, 1).await.unwrap();
        assert_eq!(committed, Committed { version: 1, already_applied: false });
        assert_eq!(world.table.reload().await.unwrap().version(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_commit_that_did_not_land_is_tried_again() {
        let world = world().await;
        assert_eq!(world.commit(false, 2).await.unwrap(), Committed { version: 1, already_applied: false });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_commit_that_never_lands_is_an_error_and_running_again_applies_it_once() {
        let world = world().await;
        assert_eq!(world.commit(false, 100).await.unwrap_err().code, Code::Storage);
        assert_eq!(world.commit(true, 1).await.unwrap().version, 1);
        // The same job once more, planned on the version before: the log has its txn.
        assert_eq!(world.commit(true, 0).await.unwrap(), Committed { version: 1, already_applied: true });
    }
}
