//! Which rows of a table a merge replaces: found in key columns alone, and told as deletion vectors, each a file's own with the new rows added.
//!
//! A [`MatchTask`] is some of the table's files. It looks up their keys in the set of the source's keys ([`super::keys`]), reading nothing of row groups
//! whose statistics rule the source out. No rows are moved between tasks, and none of the source's are held but as hashes.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    execution::{TaskContext, memory_pool::MemoryConsumer},
    physical_plan::ExecutionPlan,
};
use deltalake_core::kernel::{Add, DeletionVectorDescriptor, StructType};
use futures::TryStreamExt;
use object_store::ObjectStore;
use parquet::file::metadata::ParquetMetaData;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    deletion_vector::{DeletionVector, VectorFile, inline},
    files::{DataFiles, size},
    key_file::KeyFile,
    key_hash::KeyHasher,
    keys::{KeySet, NO_ROOM, SharedKeys, SourceKeys, bytes_a_key},
    layout::Layout,
    scan::data_path,
    schema, stats,
};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
    plan::{Task, task_outcomes, task_plan},
};

/// Bytes of a vector up to which it is put into the log itself.
const INLINE_BYTES: usize = 512;

/// Files of a table that are searched for the source's keys; travels to an executor as JSON.
#[derive(Clone, Serialize, Deserialize)]
pub struct MatchTask {
    root: String,
    table: TableName,
    /// The key columns.
    columns: StructType,
    source: SourceKeys,
    /// The source's files, for the ranges of their keys.
    source_files: Vec<Add>,
    /// Rows are looked for whose key the source does not have.
    #[serde(default)]
    inverted: bool,
    /// Slices of the source's keys: first, and the one after the last.
    slices: (u32, u32),
    layout: Option<Layout>,
    targets: Vec<(usize, Add)>,
}

impl fmt::Debug for MatchTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MatchTask({}, {:?}, {} files)", self.table, self.source, self.targets.len())
    }
}

/// What a task found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Matched {
    slices: (u32, u32),
    /// Rows of the source in these slices.
    source_rows: u64,
    /// Keys that more than one of them has.
    duplicates: u64,
    /// Row groups of the table whose keys were read.
    groups_read: u64,
    files: Vec<Retired>,
}

/// A file of the table with rows that the source replaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retired {
    /// Its position in the list that was searched.
    pub candidate: usize,
    /// Rows that the source replaces.
    pub matched: u64,
    /// Rows that stay.
    pub left: u64,
    /// Rows that are gone, those of its earlier vector included.
    pub vector: DeletionVectorDescriptor,
}

/// What came of a search.
#[derive(Debug, Clone)]
pub struct Found {
    /// Keys that the source has more than once.
    pub duplicates: u64,
    /// Row groups of the table whose keys were read; the others were ruled out by statistics or Bloom filters.
    pub groups_read: u64,
    /// Files with replaced rows, in the order of the list that was searched.
    pub files: Vec<Retired>,
}

/// A search for the keys of a source.
#[derive(Debug)]
pub struct Match<'a> {
    /// Storage root.
    pub storage: &'a Storage,
    /// The table.
    pub table: &'a TableName,
    /// Files of the table.
    pub target: &'a DataFiles,
    /// Files of the source; they have the target's columns.
    pub source: &'a DataFiles,
    /// The primary key.
    pub keys: &'a [String],
    /// Look for the rows whose key the source does *not* have, those with a null in it included.
    pub inverted: bool,
    /// Memory of an executor that the source's keys may take, bytes. More are looked for in several turns.
    pub key_bytes: u64,
}

impl Match<'_> {
    /// Looks for the source's keys in these files of the target, in about `tasks` tasks. With no file, only looks for keys that the source
    /// has more than once.
    pub fn plan(&self, candidates: &[usize], tasks: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let folder = self.storage.table_path(self.table);
        let files =
            self.source.adds().iter().map(|add| {
                Ok((data_path(self.storage.root(), &folder, self.table, &add.path)?.to_string(), size(add)))
            });
        let rows =
            self.source.rows().ok_or_else(|| Error::new(Code::Internal, "files of ours do not tell their rows"))?;
        let columns = self.columns()?;
        let source = SourceKeys::new(files.collect::<Result<_>>()?, rows, bytes_a_key(&columns)?, self.key_bytes);
        let columns = schema::to_delta(&columns)?;
        let of = source.slices;
        let task = |slices, targets: Vec<(usize, Add)>| MatchTask {
            root: self.storage.root().to_string(),
            table: self.table.clone(),
            columns: columns.clone(),
            source: source.clone(),
            source_files: self.source.adds().to_vec(),
            inverted: self.inverted,
            slices,
            layout: self.target.layout().map(|layout| layout.as_ref().clone()),
            targets,
        };
        if candidates.is_empty() {
            let units: Vec<_> = (0..of).map(|slice| vec![task((slice, slice + 1), Vec::new())]).collect();
            return task_plan(Task::Match, &units);
        }
        let adds = self.target.adds();
        let mut targets: Vec<_> =
            candidates.iter().filter_map(|file| Some((*file, adds.get(*file)?.clone()))).collect();
        targets.sort_by_key(|(_, add)| std::cmp::Reverse(size(add)));
        // The largest first, each to the task that has least.
        let mut units = vec![(0, Vec::new()); tasks.clamp(1, targets.len())];
        for target in targets {
            if let Some((bytes, files)) = units.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                *bytes += size(&target.1);
                files.push(target);
            }
        }
        let units: Vec<_> = units.into_iter().map(|(_, files)| vec![task((0, of), files)]).collect();
        task_plan(Task::Match, &units)
    }

    /// After an error: the same search with a fourth of the keys at a time, if an executor had no room for them. Each turn reads all keys, so
    /// there is an end to it.
    pub fn in_more_turns(self, error: Error) -> Result<Self> {
        const TURNS: u64 = 64;
        let all = self.source.rows().unwrap_or(0).saturating_mul(bytes_a_key(&self.columns()?)?);
        let key_bytes = self.key_bytes.min(all) / 4;
        match error.code == Code::ResourcesExhausted && error.message.contains(NO_ROOM) && key_bytes > all / TURNS {
            true => Ok(Self { key_bytes, ..self }),
            false => Err(error),
        }
    }

    fn columns(&self) -> Result<arrow::datatypes::Schema> {
        let schema = self.target.schema();
        let indices = self.keys.iter().map(|key| Ok(schema.index_of(key)?)).collect::<Result<Vec<_>>>()?;
        Ok(schema.project(&indices)?)
    }

    /// What the tasks of [`Match::plan`] found. Fails with [`Code::WorkLost`] when they do not agree about the source.
    pub fn found(&self, batches: &[RecordBatch]) -> Result<Found> {
        let matched: Vec<Matched> = task_outcomes(batches)?;
        let mut slices: std::collections::BTreeMap<(u32, u32), (u64, u64)> = Default::default();
        for one in &matched {
            let counts = (one.source_rows, one.duplicates);
            if *slices.entry(one.slices).or_insert(counts) != counts {
                return Err(lost("tasks read different keys of the source"));
            }
        }
        let (rows, duplicates) = slices.values().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
        if self.source.rows() != Some(rows) {
            return Err(lost(&format!("{rows} keys were read of {:?} rows of the source", self.source.rows())));
        }
        let groups_read = matched.iter().map(|one| one.groups_read).sum();
        let mut files: Vec<Retired> = matched.into_iter().flat_map(|one| one.files).collect();
        files.sort_by_key(|file| file.candidate);
        if files.windows(2).any(|pair| pair[0].candidate == pair[1].candidate) {
            return Err(lost("a file with matches came back twice"));
        }
        Ok(Found { duplicates, groups_read, files })
    }
}

fn lost(what: &str) -> Error {
    Error::new(Code::WorkLost, format!("the merge does not add up: {what}"))
}

/// A target file under search.
struct Target {
    candidate: usize,
    file: KeyFile,
    groups: Vec<usize>,
    /// Rows that were gone before.
    gone: RoaringTreemap,
    matched: RoaringTreemap,
    groups_read: u64,
}

/// How rows are looked for whose key is not in the set, which has those of one slice.
#[derive(Clone, Copy)]
struct Lacks {
    slice: u32,
    slices: u32,
    /// Rows with a null in their key are found, too.
    with_nulls: bool,
}

/// Does a task.
pub(crate) async fn run(task: MatchTask, context: &TaskContext, cancel: &CancellationToken) -> Result<Matched> {
    let storage = Storage::shared(&task.root)?;
    let store = storage.store();
    let folder = storage.table_path(&task.table);
    let columns = schema::to_arrow(&task.columns)?;
    let locate = |path: &str| data_path(storage.root(), &folder, &task.table, path);
    let source_files = DataFiles::try_new(&task.table, columns.clone(), Vec::new(), task.source_files.clone())?;
    let keys: Vec<String> = columns.fields().iter().map(|field| field.name().clone()).collect();

    let mut targets = Vec::with_capacity(task.targets.len());
    for (candidate, add) in &task.targets {
        stop_if_cancelled(cancel)?;
        let file = KeyFile::open(&store, locate(&add.path)?, size(add), task.layout.as_ref()).await?;
        let groups = match task.inverted {
            true => (0..file.footer().num_row_groups()).collect(),
            false => overlapping(&task.table, &file, &columns, &keys, &source_files)?,
        };
        if groups.is_empty() {
            continue;
        }
        let gone = match &add.deletion_vector {
            Some(vector) => DeletionVector::resolve(vector, locate)?.load(store.as_ref()).await?,
            None => RoaringTreemap::new(),
        };
        targets.push(Target {
            candidate: *candidate,
            file,
            groups,
            gone,
            matched: RoaringTreemap::new(),
            groups_read: 0,
        });
    }

    let (mut source_rows, mut duplicates) = (0, 0);
    let shared = SharedKeys::of(&task.source);
    let hasher = task.source.hasher(&columns)?;
    for slice in task.slices.0..task.slices.1 {
        let memory = || MemoryConsumer::new("MatchExec keys").register(context.memory_pool());
        let set = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled()),
            set = shared.slice(&task.source, slice, !task.targets.is_empty(), &store, &columns, memory) => set?,
        };
        source_rows += set.rows();
        duplicates += set.duplicates();
        let lacks =
            task.inverted.then_some(Lacks { slice, slices: task.source.slices, with_nulls: slice == task.slices.0 });
        for target in &mut targets {
            target.search(&set, lacks, &hasher, &columns, slice == task.slices.0, cancel).await?;
        }
    }
    let groups_read = targets.iter().map(|target| target.groups_read).sum();
    let files = retire(targets, store.as_ref(), &folder).await?;
    Ok(Matched { slices: task.slices, source_rows, duplicates, groups_read, files })
}

fn cancelled() -> Error {
    Error::new(Code::Cancelled, "the search for replaced rows was cancelled")
}

fn stop_if_cancelled(cancel: &CancellationToken) -> Result<()> {
    if cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
}

impl Target {
    async fn search(
        &mut self,
        keys: &KeySet,
        lacks: Option<Lacks>,
        hasher: &KeyHasher,
        columns: &SchemaRef,
        is_first: bool,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let with_nulls = lacks.is_some_and(|lacks| lacks.with_nulls);
        for &group in &self.groups {
            if lacks.is_none()
                && let Some(values) = keys.values()
                && !self.file.may_hold(group, values).await?
            {
                continue;
            }
            self.groups_read += u64::from(is_first);
            // A column that was added later is null in this file: no key.
            let Some(mut batches) = self.file.read(group, columns)? else {
                if with_nulls {
                    self.matched = (0..self.file.rows()).filter(|row| !self.gone.contains(*row)).collect();
                }
                return Ok(());
            };
            let mut first = self.file.first_row(group);
            while let Some(batch) = batches.try_next().await? {
                stop_if_cancelled(cancel)?;
                let hashes = hasher.hash(&batch)?;
                let found = match lacks {
                    None => keys.find(&hashes)?,
                    Some(Lacks { slice, slices, .. }) => keys.find_others(&hashes, slice, slices)?,
                };
                let nulls = (0..hashes.len()).filter(|row| with_nulls && !hashes.is_key(*row));
                let rows = found.into_iter().chain(nulls).map(|row| first + row as u64);
                self.matched.extend(rows.filter(|row| !self.gone.contains(*row)));
                first += batch.num_rows() as u64;
            }
        }
        Ok(())
    }
}

/// Stores the new vectors of the files with matches.
async fn retire(
    targets: Vec<Target>,
    store: &dyn ObjectStore,
    folder: &object_store::path::Path,
) -> Result<Vec<Retired>> {
    let mut file = VectorFile::default();
    let mut retired = Vec::new();
    for target in targets.into_iter().filter(|target| !target.matched.is_empty()) {
        let Target { candidate, file: of, mut gone, matched, .. } = target;
        gone |= &matched;
        let left = of.rows().checked_sub(gone.len());
        let left =
            left.ok_or_else(|| Error::new(Code::Storage, "a deletion vector removes more rows than its file has"))?;
        let vector = match gone.serialized_size() <= INLINE_BYTES {
            true => inline(&gone)?,
            false => file.push(&gone)?,
        };
        retired.push(Retired { candidate, matched: matched.len(), left, vector });
    }
    if !file.is_empty() {
        file.put(store, folder).await?;
    }
    Ok(retired)
}

/// Row groups of a file that may hold a key of the source's files, by their statistics.
fn overlapping(
    table: &TableName,
    file: &KeyFile,
    columns: &SchemaRef,
    keys: &[String],
    source: &DataFiles,
) -> Result<Vec<usize>> {
    let footer = file.footer();
    let groups = footer.row_groups().iter().map(|group| {
        let group = ParquetMetaData::new(footer.file_metadata().clone(), vec![group.clone()]);
        Add { stats: Some(stats::to_json(&group, columns, keys.len(), &[])), ..Add::default() }
    });
    DataFiles::try_new(table, columns.clone(), Vec::new(), groups.collect())?.overlapping(source, keys)
}
