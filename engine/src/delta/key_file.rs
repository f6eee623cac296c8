//! A data file, opened to read nothing but its keys.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use datafusion::{
    datasource::{
        listing::PartitionedFile,
        physical_plan::{ParquetFileReaderFactory, parquet::DefaultParquetFileReaderFactory},
    },
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use futures::{StreamExt, stream::BoxStream};
use object_store::{ObjectMeta, ObjectStore, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        async_reader::AsyncFileReader,
    },
    basic::Type as PhysicalType,
    errors::ParquetError,
    file::metadata::{PageIndexPolicy, ParquetMetaData},
};

use super::{bloom, layout::Layout, source::ReaderWithFooter};
use crate::error::{Code, Error, Result};

const BATCH_ROWS: usize = 8192;

/// A data file, opened to read its keys.
pub(super) struct KeyFile {
    readers: DefaultParquetFileReaderFactory,
    path: Path,
    size: u64,
    footer: Arc<ParquetMetaData>,
}

impl KeyFile {
    /// Reads the footer of a file of `size` bytes; `layout` finds the table's columns in it.
    pub(super) async fn open(
        store: &Arc<dyn ObjectStore>,
        path: Path,
        size: u64,
        layout: Option<&Layout>,
    ) -> Result<Self> {
        let readers = DefaultParquetFileReaderFactory::new(store.clone());
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let mut reader = reader(&readers, &path, size)?;
        let mut footer = reader.get_metadata(Some(&options)).await.map_err(|error| unreadable(&path, &error))?;
        if let Some(layout) = layout {
            footer = layout.apply(path.as_ref(), footer)?;
        }
        Ok(Self { readers, path, size, footer })
    }

    pub(super) fn footer(&self) -> &ParquetMetaData {
        &self.footer
    }

    /// Rows of all row groups.
    pub(super) fn rows(&self) -> u64 {
        u64::try_from(self.footer.file_metadata().num_rows()).unwrap_or(0)
    }

    /// Position in the file of a row group's first row.
    pub(super) fn first_row(&self, group: usize) -> u64 {
        let rows = self.footer.row_groups().iter().take(group).map(|group| group.num_rows());
        u64::try_from(rows.sum::<i64>()).unwrap_or(0)
    }

    /// Whether a row group may hold one of the keys, by its Bloom filters; true where it has none.
    pub(super) async fn may_hold(&self, group: usize, keys: &RecordBatch) -> Result<bool> {
        let descriptor = self.footer.file_metadata().schema_descr();
        let stored = self.footer.row_group(group);
        let columns = keys.schema();
        let leaves = bloom::leaves(&columns, descriptor);
        let asked = |(field, leaf): (&Arc<Field>, Option<usize>)| {
            leaf.filter(|leaf| stored.column(*leaf).bloom_filter_offset().is_some())
                .filter(|leaf| bloom::is_asked(field.data_type(), &descriptor.column(*leaf)))
        };
        let leaves: Vec<Option<usize>> = columns.fields().iter().zip(leaves).map(asked).collect();
        if leaves.iter().all(Option::is_none) {
            return Ok(true);
        }
        let broken = |error: ParquetError| unreadable(&self.path, &error);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(self.footer.clone(), options).map_err(broken)?;
        let reader = reader(&self.readers, &self.path, self.size)?;
        let reader = ReaderWithFooter { reader, footer: self.footer.clone() };
        let mut reader = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata);
        let mut filters = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            filters.push(match leaf {
                Some(leaf) => reader.get_row_group_column_bloom_filter(group, leaf).await.map_err(broken)?,
                None => None,
            });
        }
        Ok(bloom::may_hold(keys, &filters))
    }

    /// The columns of one row group, in its order and in the types that are asked for; `None` when the file lacks one of them.
    pub(super) fn read(
        &self,
        group: usize,
        columns: &SchemaRef,
    ) -> Result<Option<BoxStream<'static, Result<RecordBatch>>>> {
        let broken = |error: ParquetError| unreadable(&self.path, &error);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let mut metadata = ArrowReaderMetadata::try_new(self.footer.clone(), options.clone()).map_err(broken)?;
        let schema = metadata.schema().clone();
        let mut roots = Vec::new();
        for column in columns.fields() {
            let Ok(root) = schema.index_of(column.name()) else { return Ok(None) };
            roots.push(root);
        }
        let descriptor = self.footer.file_metadata().schema_descr();
        let old_timestamps =
            (0..descriptor.num_columns()).any(|leaf| descriptor.column(leaf).physical_type() == PhysicalType::INT96);
        if old_timestamps {
            // As nanoseconds they would wrap around.
            let fields = schema.fields().iter().map(|field| match field.data_type() {
                DataType::Timestamp(TimeUnit::Nanosecond, None) => {
                    Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None)))
                }
                _ => field.clone(),
            });
            let options = options.with_schema(Arc::new(Schema::new(fields.collect::<Vec<_>>())));
            metadata = ArrowReaderMetadata::try_new(self.footer.clone(), options).map_err(broken)?;
        }
        let mask = ProjectionMask::roots(descriptor, roots);
        let reader = reader(&self.readers, &self.path, self.size)?;
        let reader = ReaderWithFooter { reader, footer: self.footer.clone() };
        let batches = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata)
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(broken)?;
        let (path, columns) = (self.path.clone(), columns.clone());
        Ok(Some(
            batches.map(move |batch| arrange(&batch.map_err(|error| unreadable(&path, &error))?, &columns)).boxed(),
        ))
    }
}

fn reader(
    readers: &DefaultParquetFileReaderFactory,
    path: &Path,
    size: u64,
) -> Result<Box<dyn AsyncFileReader + Send>> {
    // Made of text, its path would be encoded once more.
    let file = PartitionedFile::new_from_meta(ObjectMeta {
        location: path.clone(),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size,
        e_tag: None,
        version: None,
    });
    Ok(readers.create_reader(0, file, None, &ExecutionPlanMetricsSet::new())?)
}

fn unreadable(path: &Path, error: &ParquetError) -> Error {
    Error::new(Code::Storage, format!("data file {path} can't be read: {error}"))
        .hint("where the file is gone or damaged, restore the table to a version that has all its files")
}

/// The columns in the order and the types of `schema`.
fn arrange(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column = batch.column_by_name(field.name());
            let column = column.ok_or_else(|| Error::new(Code::Internal, "a key column was not read"))?;
            if column.data_type() == field.data_type() {
                return Ok(column.clone());
            }
            Ok(cast(column, field.data_type())?)
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
