//! What the writer does with rows that say it themselves: those of a merge with clauses ([`super::clauses`]), each with its [`Action`].
//!
//! One pass writes the rows that come into the table, the keys by which the rows that they replace are found ([`super::matching`]), and the change data.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int8Array, RecordBatch, StringArray},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Int8Type, Schema, SchemaRef},
};
use datafusion::execution::memory_pool::MemoryReservation;
use deltalake_core::kernel::schema::cast::cast_record_batch;
use object_store::{ObjectStore, path::Path};
use serde::{Deserialize, Serialize};

use super::{
    clauses::{IS_CURRENT, VALID_FROM, VALID_TO},
    writer::{FileWriter, FileWritten, WriteSettings},
};
use crate::{
    error::{Code, Error, Result},
    names::our_column,
};

/// Input column, `tinyint`: what becomes of the row, an [`Action`].
pub const ACTION_COLUMN: &str = our_column!("action");
/// Beginning of the names of input columns with the values of the table's row.
pub const BEFORE: &str = our_column!("before_");
/// Folder, in a table's, of its change data.
pub const CHANGE_FOLDER: &str = "_change_data";
/// The column of change data that says what a row is.
pub const CHANGE_TYPE: &str = "_change_type";

/// What becomes of a row of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Action {
    /// Nothing; its key is not in the table.
    Ignore = 0,
    /// Nothing; the table's row with its key stays.
    Keep = 1,
    /// It comes into the table, which does not have its key.
    Insert = 2,
    /// It replaces the table's row.
    Update = 3,
    /// The table's row goes.
    Delete = 4,
    /// It comes into the table, whose row stays as one that was valid until now.
    Close = 5,
    /// No row of the source: a row of the table, whose key the source does not have, goes.
    Absent = 6,
}

/// How rows with actions are written; travels with the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionSpec {
    /// Columns by which the rows of the table are found.
    pub keys: Vec<String>,
    /// Which keys are written: false, those of rows that go or are replaced; true, those of rows that stay.
    pub keys_that_stay: bool,
    /// Whether change data is written.
    pub changes: bool,
}

/// Rows by [`Action`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionCounts {
    /// [`Action::Ignore`]
    pub ignored: u64,
    /// [`Action::Keep`]
    pub kept: u64,
    /// [`Action::Insert`]
    pub inserted: u64,
    /// [`Action::Update`]
    pub updated: u64,
    /// [`Action::Delete`]
    pub deleted: u64,
    /// [`Action::Close`]
    pub closed: u64,
    /// [`Action::Absent`]
    pub absent: u64,
}

impl ActionCounts {
    /// Rows of the source.
    pub fn source(&self) -> u64 {
        self.ignored + self.kept + self.inserted + self.updated + self.deleted + self.closed
    }

    /// Rows that come into the table.
    pub fn written(&self) -> u64 {
        self.inserted + self.updated + 2 * self.closed
    }

    /// Rows that go from the table because of a row of the source.
    pub fn retired(&self) -> u64 {
        self.updated + self.deleted + self.closed
    }

    /// Rows of change data.
    pub fn changes(&self) -> u64 {
        self.inserted + 2 * self.updated + self.deleted + 3 * self.closed + self.absent
    }

    pub(super) fn add(&mut self, other: Self) {
        self.ignored += other.ignored;
        self.kept += other.kept;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.closed += other.closed;
        self.absent += other.absent;
    }
}

/// Writes keys and change data of one partition.
pub(super) struct ActionWriter {
    spec: ActionSpec,
    schema: SchemaRef,
    keys: FileWriter,
    changes: Option<FileWriter>,
}

impl ActionWriter {
    /// A writer for a table of this schema in `folder`; `memory` accounts for one of its files each.
    pub(super) fn new(
        spec: &ActionSpec,
        schema: &SchemaRef,
        store: &Arc<dyn ObjectStore>,
        folder: &Path,
        settings: &WriteSettings,
        partition: usize,
        mut memory: impl FnMut(&str) -> MemoryReservation,
    ) -> datafusion::error::Result<Self> {
        // What must not be null is checked where it comes into the table.
        let nullable = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        let schema: SchemaRef = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let indices = spec.keys.iter().map(|key| Ok(schema.index_of(key)?)).collect::<Result<Vec<_>>>()?;
        let columns = Arc::new(schema.project(&indices)?);
        let mut writer = |folder: Path, columns: SchemaRef, keys: &[String], what: &str| {
            let keys = keys.to_vec();
            FileWriter::new(store.clone(), folder, columns, keys, settings.clone(), partition, memory(what))
        };
        let keys = writer(folder.clone(), columns, &spec.keys, "keys")?;
        let changes = match spec.changes {
            true => Some(writer(folder.clone().join(CHANGE_FOLDER), change_schema(&schema), &[], "changes")?),
            false => None,
        };
        Ok(Self { spec: spec.clone(), schema, keys, changes })
    }

    /// Writes what belongs elsewhere and counts; gives the rows that come into the table.
    pub(super) async fn write(
        &mut self,
        batch: &RecordBatch,
        counts: &mut ActionCounts,
    ) -> datafusion::error::Result<Vec<RecordBatch>> {
        let wrong = || Error::new(Code::Internal, "rows of a merge without an action");
        let actions = batch.column_by_name(ACTION_COLUMN).and_then(|column| column.as_primitive_opt::<Int8Type>());
        let rows = Rows { batch, actions: actions.ok_or_else(wrong)?, schema: &self.schema };
        let count = |action| rows.actions.values().iter().filter(|value| **value == action as i8).count() as u64;
        let found = ActionCounts {
            ignored: count(Action::Ignore),
            kept: count(Action::Keep),
            inserted: count(Action::Insert),
            updated: count(Action::Update),
            deleted: count(Action::Delete),
            closed: count(Action::Close),
            absent: count(Action::Absent),
        };
        counts.add(found);
        let is_key: &[Action] = match self.spec.keys_that_stay {
            true => &[Action::Keep],
            false => &[Action::Update, Action::Delete, Action::Close],
        };
        // A row that comes into a history may be closed already; the one that goes was current.
        let of_history = self.spec.keys.iter().any(|key| key == IS_CURRENT) && !self.spec.keys_that_stay;
        let keys = if of_history { rows.before(is_key)? } else { rows.after(is_key)? };
        let keys = keys.project(&keyed(&keys, &self.spec.keys)?)?;
        self.keys.write(&keys).await?;
        let mut written = vec![rows.after(&[Action::Insert, Action::Update, Action::Close])?];
        if found.closed > 0 {
            written.push(rows.closed()?);
        }
        if let Some(changes) = &mut self.changes {
            for (rows, kind) in [
                (rows.before(&[Action::Update, Action::Close])?, "update_preimage"),
                (rows.after(&[Action::Update])?, "update_postimage"),
                (rows.closed()?, "update_postimage"),
                (rows.before(&[Action::Delete, Action::Absent])?, "delete"),
                (rows.after(&[Action::Insert, Action::Close])?, "insert"),
            ] {
                changes.write(&of_kind(&rows, kind)?).await?;
            }
        }
        Ok(written)
    }

    /// The files of keys, then those of change data, with paths from the table's folder.
    pub(super) async fn finish(self) -> datafusion::error::Result<(Vec<FileWritten>, Vec<FileWritten>)> {
        let keys = self.keys.finish().await?;
        let mut changes = match self.changes {
            Some(changes) => changes.finish().await?,
            None => Vec::new(),
        };
        changes.iter_mut().for_each(|file| file.add.path = format!("{CHANGE_FOLDER}/{}", file.add.path));
        Ok((keys, changes))
    }

    /// Deletes what was written.
    pub(super) async fn abort(self) {
        self.keys.abort().await;
        if let Some(changes) = self.changes {
            changes.abort().await;
        }
    }
}

/// The columns of a table's change data.
fn change_schema(schema: &SchemaRef) -> SchemaRef {
    let kind = Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([kind]).collect::<Vec<_>>()))
}

fn of_kind(rows: &RecordBatch, kind: &str) -> Result<RecordBatch> {
    let kinds: ArrayRef = Arc::new(StringArray::from(vec![kind; rows.num_rows()]));
    let columns = rows.columns().iter().cloned().chain([kinds]).collect();
    Ok(RecordBatch::try_new(change_schema(&rows.schema()), columns)?)
}

fn keyed(rows: &RecordBatch, keys: &[String]) -> Result<Vec<usize>> {
    keys.iter().map(|key| Ok(rows.schema().index_of(key)?)).collect()
}

struct Rows<'a> {
    batch: &'a RecordBatch,
    actions: &'a Int8Array,
    schema: &'a SchemaRef,
}

impl Rows<'_> {
    /// Rows with one of these actions, as they will be.
    fn after(&self, actions: &[Action]) -> Result<RecordBatch> {
        self.rows(actions, |name| name.to_string())
    }

    /// The same, as they are in the table.
    fn before(&self, actions: &[Action]) -> Result<RecordBatch> {
        self.rows(actions, |name| format!("{BEFORE}{name}"))
    }

    /// The table's rows that are no longer valid: until then they were as they are.
    fn closed(&self) -> Result<RecordBatch> {
        if !self.actions.values().contains(&(Action::Close as i8)) {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let before = self.before(&[Action::Close])?;
        let now = self.after(&[Action::Close])?;
        let now = now.column_by_name(VALID_FROM).cloned();
        let now = now.ok_or_else(|| Error::new(Code::Internal, "a history without valid_from"))?;
        let columns =
            self.schema.fields().iter().zip(before.columns()).map(|(field, column)| match field.name().as_str() {
                VALID_TO => now.clone(),
                IS_CURRENT => Arc::new(BooleanArray::from(vec![false; before.num_rows()])) as ArrayRef,
                _ => column.clone(),
            });
        Ok(RecordBatch::try_new(self.schema.clone(), columns.collect())?)
    }

    fn rows(&self, actions: &[Action], column: impl Fn(&str) -> String) -> Result<RecordBatch> {
        let wanted: BooleanArray = self
            .actions
            .values()
            .iter()
            .map(|value| Some(actions.iter().any(|action| *action as i8 == *value)))
            .collect();
        if wanted.true_count() == 0 {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let columns = self.schema.fields().iter().map(|field| {
            let name = column(field.name());
            let found = self.batch.schema().index_of(&name);
            found.map_err(|_| Error::new(Code::Internal, format!("rows of a merge without the column {name}")))
        });
        let rows = self.batch.project(&columns.collect::<Result<Vec<_>>>()?)?;
        let rows = filter_record_batch(&rows, &wanted)?;
        let given = rows.schema();
        let fields = self.schema.fields().iter().zip(given.fields());
        let fields = fields.map(|(to, from)| Arc::new(from.as_ref().clone().with_name(to.name())));
        let named = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), rows.columns().to_vec())?;
        Ok(cast_record_batch(&named, self.schema.clone(), false, false)?)
    }
}
