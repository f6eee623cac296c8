//! Writes one partition's rows as Parquet files of a bounded size, with bounded memory, and leaves nothing behind when it is stopped.

use std::{collections::BTreeSet, io, sync::Arc, time::SystemTime};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    error::{DataFusionError, Result},
    execution::memory_pool::MemoryReservation,
};
use deltalake_core::kernel::Add;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use object_store::{ObjectStore, buffered::BufWriter, path::Path};
use parquet::{
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
    schema::types::ColumnPath,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::{encodings, row_groups::RowGroups, stats};

/// Bytes of one part of a multipart upload; S3 allows 10,000 parts of at least 5 MiB.
const UPLOAD_PART: usize = 8 * 1024 * 1024;
/// Bytes of the buffers that a part is made of.
const BUFFER: usize = 1024 * 1024;
/// Parts in flight per file.
const UPLOAD_PARALLEL: usize = 4;

/// How data files are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteSettings {
    /// A file is closed once it has this many bytes, not counting what waits to be encoded (8 MiB of rows at most).
    pub target_file_bytes: u64,
    /// Rows of a row group at most. A Bloom filter of the default's keys takes 1 MiB, of which each gets what [`Self::key_bloom_fpp`] asks for;
    /// of more than a processor's nearest caches hold, each key that is put in is a miss.
    pub row_group_rows: usize,
    /// Encoded bytes of a row group at most; about this much memory a writer holds.
    pub row_group_bytes: usize,
    /// ZSTD level, 1 to 22. Measured on streams and reviews: 3 takes 30 % more CPU than 1 and saves no bytes worth it.
    pub zstd_level: i32,
    /// Columns with statistics, from the first; key columns always have them.
    pub statistics_columns: usize,
    /// False positives of the Bloom filters of key columns, between 0 and 1; 0: no filters. 0.0001 is 2.6 bytes a row.
    #[serde(default)]
    pub key_bloom_fpp: f64,
    /// Columns that have Bloom filters instead of the key's.
    #[serde(default)]
    pub bloom_columns: Option<Vec<String>>,
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self {
            target_file_bytes: 128 * 1024 * 1024,
            row_group_rows: 384 * 1024,
            row_group_bytes: 64 * 1024 * 1024,
            zstd_level: 1,
            statistics_columns: 32,
            key_bloom_fpp: 0.0,
            bloom_columns: None,
        }
    }
}

/// A file that is complete, yet uncommitted.
#[derive(Debug, Clone)]
pub struct FileWritten {
    /// As it will stand in the log.
    pub add: Add,
    /// Rows in it.
    pub rows: u64,
    /// What [`FileWriter::come_from`] told of them.
    pub origins: BTreeSet<i32>,
}

/// The files of one partition. Dropped before [`FileWriter::finish`], it deletes what it wrote.
pub struct FileWriter {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    schema: SchemaRef,
    keys: Vec<String>,
    settings: WriteSettings,
    properties: WriterProperties,
    partition: usize,
    id: Uuid,
    memory: MemoryReservation,
    open: Option<OpenFile>,
    /// Where the rows of the open file come from.
    origins: BTreeSet<i32>,
    done: Vec<FileWritten>,
}

struct OpenFile {
    name: String,
    writer: RowGroups,
    upload: BufWriter,
}

impl FileWriter {
    /// A writer of files `part-<partition>-<uuid>-c<n>.zstd.parquet` in a table's folder; `memory` accounts for what it buffers.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        folder: Path,
        schema: SchemaRef,
        keys: Vec<String>,
        settings: WriteSettings,
        partition: usize,
        memory: MemoryReservation,
    ) -> Result<Self> {
        let level = ZstdLevel::try_new(settings.zstd_level).map_err(parquet_error)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(settings.row_group_rows.max(1)))
            .set_max_row_group_bytes(Some(settings.row_group_bytes.max(1)))
            .set_created_by(concat!("trireme ", env!("CARGO_PKG_VERSION")).to_string());
        if settings.key_bloom_fpp > 0.0 && settings.key_bloom_fpp < 1.0 {
            let columns = settings.bloom_columns.as_ref().unwrap_or(&keys);
            for key in columns.iter().map(|key| ColumnPath::from(key.as_str())) {
                // Smaller row groups get smaller filters: the writer folds them.
                properties = properties
                    .set_column_bloom_filter_enabled(key.clone(), true)
                    .set_column_bloom_filter_fpp(key.clone(), settings.key_bloom_fpp)
                    .set_column_bloom_filter_max_ndv(key, settings.row_group_rows as u64);
            }
        }
        let properties = properties.build();
        let id = Uuid::new_v4();
        Ok(Self {
            store,
            folder,
            schema,
            keys,
            settings,
            properties,
            partition,
            id,
            memory,
            open: None,
            origins: BTreeSet::new(),
            done: Vec::new(),
        })
    }

    /// Tells of the rows that are written next which files they were in.
    pub fn come_from(&mut self, files: impl IntoIterator<Item = i32>) {
        self.origins.extend(files);
    }

    /// Appends rows. The batch has the writer's schema.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let file = match &mut self.open {
            Some(file) => file,
            None => {
                let name = format!("part-{:05}-{}-c{:03}.zstd.parquet", self.partition, self.id, self.done.len());
                let path = self.folder.clone().join(name.as_str());
                let upload = BufWriter::with_capacity(self.store.clone(), path, UPLOAD_PART)
                    .with_max_concurrency(UPLOAD_PARALLEL);
                let properties = encodings::for_rows(batch, &self.keys, &self.properties)?;
                let writer = RowGroups::try_new(self.schema.clone(), properties, BUFFER).map_err(parquet_error)?;
                self.open.insert(OpenFile { name, writer, upload })
            }
        };
        file.writer.write(batch).map_err(parquet_error)?;
        if self.memory.try_resize(file.writer.memory_size()).is_err() {
            // Less memory than wished for: a smaller row group.
            file.writer.end_group().map_err(parquet_error)?;
            self.memory.try_resize(file.writer.memory_size())?;
        }
        file.send().await?;
        if u64::try_from(file.writer.size()).unwrap_or(u64::MAX) >= self.settings.target_file_bytes {
            self.close().await?;
        }
        Ok(())
    }

    /// Completes the last file and gives all of them.
    pub async fn finish(mut self) -> Result<Vec<FileWritten>> {
        self.close().await?;
        Ok(std::mem::take(&mut self.done))
    }

    /// Deletes what was written so far; nothing is left that anybody could take for data.
    pub async fn abort(mut self) {
        if let Some(cleaning) = self.clean() {
            cleaning.await;
        }
    }

    async fn close(&mut self) -> Result<()> {
        let Some(file) = &mut self.open else { return Ok(()) };
        let metadata = file.writer.finish().map_err(parquet_error)?;
        let size = file.writer.size();
        file.send().await?;
        file.upload.shutdown().await?;
        let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        let stats = stats::to_json(&metadata, &self.schema, self.settings.statistics_columns, &self.keys);
        let modified = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let add = Add {
            path: file.name.clone(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            modification_time: i64::try_from(modified.as_millis()).unwrap_or(i64::MAX),
            data_change: true,
            stats: Some(stats),
            ..Add::default()
        };
        self.done.push(FileWritten { add, rows, origins: std::mem::take(&mut self.origins) });
        self.open = None;
        self.memory.free();
        Ok(())
    }

    /// What remains to be done so that nothing remains.
    fn clean(&mut self) -> Option<BoxFuture<'static, ()>> {
        let open = self.open.take();
        let done = std::mem::take(&mut self.done);
        if open.is_none() && done.is_empty() {
            return None;
        }
        let (store, folder) = (self.store.clone(), self.folder.clone());
        Some(Box::pin(async move {
            let mut names: Vec<String> = done.into_iter().map(|file| file.add.path).collect();
            if let Some(OpenFile { name, mut upload, .. }) = open {
                // `BufWriter::abort` panics once a shutdown has begun; then there is nothing left to abort.
                let aborted = std::panic::AssertUnwindSafe(upload.abort()).catch_unwind().await;
                if !matches!(aborted, Ok(Ok(()))) {
                    tracing::debug!(file = name, "upload could not be aborted");
                }
                names.push(name);
            }
            let paths = stream::iter(names).map(move |name| Ok(folder.clone().join(name.as_str()))).boxed();
            let mut deleted = store.delete_stream(paths);
            while let Some(outcome) = deleted.next().await {
                match outcome {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => tracing::warn!(%error, "an abandoned data file could not be deleted"),
                }
            }
        }))
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Some(cleaning) = self.clean()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(cleaning);
        }
    }
}

impl OpenFile {
    /// Uploads the buffers that are full.
    async fn send(&mut self) -> Result<()> {
        for buffer in self.writer.take_buffers() {
            self.upload.put(buffer).await.map_err(upload_error)?;
        }
        Ok(())
    }
}

fn parquet_error(error: ParquetError) -> DataFusionError {
    DataFusionError::ParquetError(Box::new(error))
}

/// Ballista runs a task again only when its error is rooted in [`DataFusionError::IoError`]: what storage may do better next time is one.
fn upload_error(error: object_store::Error) -> DataFusionError {
    match error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::NotSupported { .. } => DataFusionError::ObjectStore(Box::new(error)),
        error => DataFusionError::IoError(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, Int64Array},
        datatypes::{DataType, Field, Schema},
    };
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
    use futures::TryStreamExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_writer_that_is_dropped_deletes_its_files() {
        let store = Arc::new(InMemory::new());
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let settings = WriteSettings { target_file_bytes: 1, ..WriteSettings::default() };
        let memory = MemoryConsumer::new("test").register(&pool);
        let mut writer =
            FileWriter::new(store.clone(), Path::from("t"), schema.clone(), Vec::new(), settings, 0, memory).unwrap();
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1])) as ArrayRef]).unwrap();
        writer.write(&batch).await.unwrap();
        let files = || async { store.list(None).try_collect::<Vec<_>>().await.unwrap().len() };
        assert_eq!(files().await, 1);
        drop(writer);
        while files().await > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn only_what_storage_may_do_better_next_time_is_retried() {
        let slow = object_store::Error::Generic { store: "s3", source: "503".into() };
        let denied = object_store::Error::PermissionDenied { path: "x".to_string(), source: "403".into() };
        assert!(matches!(upload_error(slow), DataFusionError::IoError(_)));
        assert!(matches!(upload_error(denied), DataFusionError::ObjectStore(_)));
    }
}
