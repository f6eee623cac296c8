//! The quarantine: for every table a table of the records that could not come into it, with their place, why, and their text.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use datafusion::{error::Result as DataFusionResult, execution::memory_pool::MemoryReservation};
use deltalake_core::kernel::{DataType as DeltaType, StructField, StructType};
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use super::{
    schema,
    write::{REASON_COLUMN, render},
    writer::{FileWriter, WriteSettings},
};
use crate::{
    RawVersion, SourceName, Storage, TableName,
    error::{Code, Error, Result},
    raw::{
        Manifest, Part, RawZone,
        places::{LENGTH_COLUMN, LINE_COLUMN, OFFSET_COLUMN, PART_COLUMN},
        stored::{Stored, TextFile},
    },
    storage::{in_folder, parse_path},
};

/// Bytes of a record's text that are kept, at most.
const MAX_TEXT: u64 = 1024 * 1024;
/// Bytes of raw text that are read at once, about: bad records that are close are read together.
const READ_TOGETHER: u64 = 4 * 1024 * 1024;
/// Bytes of text in one batch of rows, about.
const WRITE_TOGETHER: usize = 8 * 1024 * 1024;
/// Bytes of a reason that are kept, at most.
const MAX_REASON: usize = 2000;

/// The table of a table's bad records: `quarantine.<schema>_<table>`.
pub fn table_of(table: &TableName) -> Result<TableName> {
    format!("quarantine.{}_{}", table.schema, table.name).parse()
}

/// Its columns.
pub fn columns() -> Result<StructType> {
    let columns = [
        ("source", DeltaType::STRING),
        ("version", DeltaType::STRING),
        ("part", DeltaType::STRING),
        ("byte_offset", DeltaType::LONG),
        ("line", DeltaType::LONG),
        ("reason", DeltaType::STRING),
        ("raw", DeltaType::STRING),
        ("quarantined_at", DeltaType::TIMESTAMP),
        ("job_id", DeltaType::STRING),
        // Where the file was delivered.
        ("file", DeltaType::STRING),
    ];
    struct_of(columns)
}

/// The columns of a quarantine that was made before it named the delivered file; it gets the column with the next records.
pub fn columns_before() -> Result<StructType> {
    let columns = columns()?;
    let count = columns.fields().count().saturating_sub(1);
    struct_of(columns.fields().take(count).map(|field| (field.name().as_str(), field.data_type().clone())))
}

fn struct_of<'a>(columns: impl IntoIterator<Item = (&'a str, DeltaType)>) -> Result<StructType> {
    let columns = columns.into_iter().map(|(name, data_type)| StructField::nullable(name, data_type));
    StructType::try_new(columns).map_err(|error| Error::new(Code::Internal, error.to_string()))
}

/// Where bad rows go, and where they come from; travels with a write.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BadRows {
    /// The table in whose folder the files are put.
    pub table: TableName,
    /// Folder of the raw version in the store, from which the records' text is read.
    pub folder: String,
    /// Source.
    pub source: SourceName,
    /// Its version.
    pub version: RawVersion,
    /// Job.
    pub job_id: String,
    /// When, microseconds since 1970 UTC.
    pub at: i64,
}

/// A bad row's text, before it is read.
struct BadRow {
    row: usize,
    part: Option<String>,
    text: Range<u64>,
}

impl BadRows {
    pub(super) fn writer(
        &self,
        storage: &Storage,
        settings: &WriteSettings,
        partition: usize,
        memory: MemoryReservation,
    ) -> DataFusionResult<FileWriter> {
        let (store, folder) = (storage.store(), storage.table_path(&self.table));
        // The records' texts get no statistics: one may be long.
        let settings = WriteSettings { statistics_columns: 6, ..settings.clone() };
        FileWriter::new(store, folder, schema::to_arrow(&columns()?)?, Vec::new(), settings, partition, memory)
    }

    /// Writes rows that have a reason, with their text as it is in the raw zone. A row that has no place there is shown by its columns.
    pub(super) async fn write(
        &self,
        store: &Arc<dyn ObjectStore>,
        batch: &RecordBatch,
        writer: &mut FileWriter,
    ) -> DataFusionResult<()> {
        let mut rows = places(batch)?;
        let manifest = match rows.iter().find_map(|row| row.part.as_deref()) {
            Some(part) => Some(RawZone::manifest_beside(store.as_ref(), &self.path(part)?).await?),
            None => None,
        };
        rows.sort_by(|a, b| (&a.part, a.text.start).cmp(&(&b.part, b.text.start)));
        let (mut at, mut written) = (0, 0);
        let (mut texts, mut bytes) = (Vec::new(), 0);
        while at < rows.len() {
            let together = close_by(&rows[at..]);
            for text in self.read(store, manifest.as_ref(), batch, &rows[at..at + together]).await? {
                bytes += text.len();
                texts.push(text);
            }
            at += together;
            if bytes >= WRITE_TOGETHER || at == rows.len() {
                let batch = self.rows(manifest.as_ref(), batch, &rows[written..at], std::mem::take(&mut texts))?;
                writer.write(&batch).await?;
                (written, bytes) = (at, 0);
            }
        }
        Ok(())
    }

    /// The texts of rows that are close to each other in one part, or have no place.
    async fn read(
        &self,
        store: &Arc<dyn ObjectStore>,
        manifest: Option<&Manifest>,
        batch: &RecordBatch,
        rows: &[BadRow],
    ) -> DataFusionResult<Vec<String>> {
        let Some(BadRow { part: Some(part), text: first, .. }) = rows.first() else {
            return Ok(rows.iter().map(|row| render(batch, row.row)).collect::<Result<_>>()?);
        };
        let end = rows.iter().map(|row| row.text.end).max().unwrap_or(first.start);
        let bytes = if end > first.start {
            let path = self.path(part)?;
            let found = manifest.and_then(|manifest| manifest.part_of_text(part));
            let stored = found.map_or(Stored::Plain, |found| Stored::of(found, &RawZone::folder_of(&path)));
            let file = TextFile { store: store.clone(), path, stored: Arc::new(stored) };
            file.read(first.start..end).await?
        } else {
            Vec::new()
        };
        let at = |offset: u64| usize::try_from(offset - first.start).unwrap_or(usize::MAX);
        let text = |row: &BadRow| bytes.get(at(row.text.start)..at(row.text.end)).unwrap_or_default();
        Ok(rows.iter().map(|row| String::from_utf8_lossy(text(row)).into_owned()).collect())
    }

    fn path(&self, part: &str) -> Result<object_store::path::Path> {
        Ok(in_folder(&parse_path(&self.folder)?, part))
    }

    fn rows(
        &self,
        manifest: Option<&Manifest>,
        batch: &RecordBatch,
        rows: &[BadRow],
        texts: Vec<String>,
    ) -> Result<RecordBatch> {
        let all = |text: String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows.len())))
        };
        let longs = |name: &str| -> Result<ArrayRef> {
            let values = longs(batch, name)?;
            let value = |row: &BadRow| values.as_ref().filter(|v| v.is_valid(row.row)).map(|v| v.value(row.row));
            Ok(Arc::new(rows.iter().map(value).collect::<Int64Array>()))
        };
        let reasons = self::texts(batch, REASON_COLUMN)?;
        let reason = |row: &BadRow| {
            let reason = reasons.as_ref().map_or("", |reasons| reasons.value(row.row));
            reason.chars().take(MAX_REASON).collect::<String>()
        };
        let part = |row: &BadRow| {
            let part = row.part.as_deref()?;
            Some(manifest.and_then(|all| all.part_of_text(part)).map_or_else(|| part.to_string(), Part::shown))
        };
        let file = |row: &BadRow| Some(manifest?.origin_of_text(row.part.as_deref()?));
        let at = TimestampMicrosecondArray::from_value(self.at, rows.len()).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            all(self.source.to_string()),
            all(self.version.to_string()),
            Arc::new(rows.iter().map(part).collect::<StringArray>()),
            longs(OFFSET_COLUMN)?,
            longs(LINE_COLUMN)?,
            Arc::new(StringArray::from_iter_values(rows.iter().map(reason))),
            Arc::new(StringArray::from_iter_values(texts)),
            Arc::new(at),
            all(self.job_id.clone()),
            Arc::new(rows.iter().map(file).collect::<StringArray>()),
        ];
        Ok(RecordBatch::try_new(schema::to_arrow(&self::columns()?)?, columns)?)
    }
}

/// How many of the first rows are read at once.
fn close_by(rows: &[BadRow]) -> usize {
    let Some(first) = rows.first() else { return 0 };
    let close = |row: &&BadRow| row.part == first.part && row.text.end <= first.text.start + READ_TOGETHER;
    rows.iter().take_while(close).count().max(1)
}

fn places(batch: &RecordBatch) -> Result<Vec<BadRow>> {
    let parts = texts(batch, PART_COLUMN)?;
    let (offsets, lengths) = (longs(batch, OFFSET_COLUMN)?, longs(batch, LENGTH_COLUMN)?);
    let number = |values: &Option<Int64Array>, row: usize| {
        let value = values.as_ref().filter(|values| values.is_valid(row)).map(|values| values.value(row));
        value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
    };
    let row = |row| {
        let part = parts.as_ref().filter(|parts| parts.is_valid(row)).map(|parts| parts.value(row).to_string());
        let start = number(&offsets, row);
        BadRow { row, part, text: start..start + number(&lengths, row).min(MAX_TEXT) }
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// A column of text; none when there is no such column.
pub(super) fn texts(batch: &RecordBatch, name: &str) -> Result<Option<StringArray>> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    Ok(cast(column, &DataType::Utf8)?.as_string_opt::<i32>().cloned())
}

fn longs(batch: &RecordBatch, name: &str) -> Result<Option<Int64Array>> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    Ok(cast(column, &DataType::Int64)?.as_primitive_opt::<Int64Type>().cloned())
}

/// Where a row is, and what is said of it, for a message.
pub(super) fn example(batch: &RecordBatch, row: usize, what: &str) -> Result<String> {
    const LONGEST: usize = 300;
    let what: String = what.chars().take(LONGEST).collect();
    let part = texts(batch, PART_COLUMN)?.filter(|parts| parts.is_valid(row));
    let line = longs(batch, LINE_COLUMN)?.filter(|lines| lines.is_valid(row));
    Ok(match (part, line) {
        (Some(part), Some(line)) => format!("{}, line {}: {what}", part.value(row), line.value(row)),
        _ => format!("{what}, in {}", render(batch, row)?),
    })
}
