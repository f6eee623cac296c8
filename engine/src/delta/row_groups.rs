//! One Parquet file under construction.
//!
//! Like [`ArrowWriter`], but rows wait until there are many of them, and are then encoded a column at a time: a column's dictionary and Bloom filter are in
//! the processor's caches once for all of them, not once for each batch. That is a fifth of the time in which a load is encoded.

use std::io::{self, Write};

use arrow::{
    array::{Array, RecordBatch},
    datatypes::{Field, SchemaRef},
};
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves},
    },
    errors::{ParquetError, Result},
    file::{metadata::ParquetMetaData, properties::WriterProperties, writer::SerializedFileWriter},
};

/// Rows that wait at most, and about their bytes.
const WAITING_ROWS: usize = 64 * 1024;
const WAITING_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of a column of a batch besides its values.
const OF_A_COLUMN: usize = 512;

/// See the module's documentation.
pub(super) struct RowGroups {
    file: SerializedFileWriter<Buffers>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// Rows and encoded bytes of a row group at most; it may be longer by as many bytes as wait.
    rows_at_most: usize,
    bytes_at_most: usize,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    /// Writers of the leaves of the row group at hand; none before its first rows are encoded.
    columns: Vec<ArrowColumnWriter>,
    /// Rows that they have.
    rows: usize,
}

impl RowGroups {
    /// An empty file of these columns, of which there is at least one, whose bytes come in buffers of so many.
    pub fn try_new(schema: SchemaRef, properties: WriterProperties, buffer_bytes: usize) -> Result<Self> {
        let rows_at_most = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let bytes_at_most = properties.max_row_group_bytes().unwrap_or(usize::MAX);
        let buffers = Buffers { buffer_bytes, full: Vec::new(), last: Vec::new() };
        let (file, factory) =
            ArrowWriter::try_new(buffers, schema.clone(), Some(properties))?.into_serialized_writer()?;
        Ok(Self {
            file,
            factory,
            schema,
            rows_at_most,
            bytes_at_most,
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            columns: Vec::new(),
            rows: 0,
        })
    }

    /// Appends rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let room = self.rows_at_most - self.rows - self.waiting_rows;
            let rows = room.min(WAITING_ROWS - self.waiting_rows).min(batch.num_rows() - from);
            let piece = batch.slice(from, rows);
            from += rows;
            self.waiting_rows += rows;
            self.waiting_bytes += bytes_of(&piece);
            self.waiting.push(piece);
            if rows == room {
                self.end_group()?;
            } else if self.waiting_rows >= WAITING_ROWS || self.waiting_bytes >= WAITING_BYTES {
                self.encode()?;
            }
        }
        Ok(())
    }

    /// Encodes what waits.
    fn encode(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.columns.is_empty() {
            self.columns = self.factory.create_column_writers(self.file.flushed_row_groups().len())?;
        }
        let mut columns = self.columns.iter_mut();
        for (at, field) in self.schema.fields().iter().enumerate() {
            let leaves = |batch: &RecordBatch| Ok(compute_leaves(field, batch.column(at))?.into_iter());
            let mut leaves = self.waiting.iter().map(leaves).collect::<Result<Vec<_>>>()?;
            for _ in 0..leaves.first().map_or(0, ExactSizeIterator::len) {
                let column = columns.next().ok_or_else(|| other_leaves(field))?;
                for leaves in &mut leaves {
                    column.write(&leaves.next().ok_or_else(|| other_leaves(field))?)?;
                }
            }
            if leaves.iter().any(|leaves| leaves.len() > 0) {
                return Err(other_leaves(field));
            }
        }
        self.rows += self.waiting_rows;
        self.waiting.clear();
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        if self.encoded_bytes() >= self.bytes_at_most { self.end_group() } else { Ok(()) }
    }

    /// Makes a row group of the rows since the last one.
    pub fn end_group(&mut self) -> Result<()> {
        self.encode()?;
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for column in self.columns.drain(..) {
            column.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    /// Ends the file.
    pub fn finish(&mut self) -> Result<ParquetMetaData> {
        self.end_group()?;
        let metadata = self.file.finish()?;
        self.file.inner_mut().end();
        Ok(metadata)
    }

    /// Takes the buffers that are full; once the file is finished, also the last.
    pub fn take_buffers(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.file.inner_mut().full)
    }

    /// Bytes of memory in use, about.
    pub fn memory_size(&self) -> usize {
        self.waiting_bytes + self.columns.iter().map(ArrowColumnWriter::memory_size).sum::<usize>()
    }

    /// Bytes of row groups that have ended, and those that the one at hand will have, without rows that wait.
    pub fn size(&self) -> usize {
        self.file.bytes_written() + self.encoded_bytes()
    }

    fn encoded_bytes(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }
}

fn other_leaves(field: &Field) -> ParquetError {
    ParquetError::General(format!("column `{}` has not as many leaves as in the schema", field.name()))
}

/// Memory of a slice, which may be of a much longer batch, about.
fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes = |column: &dyn Array| {
        let values = column.to_data().get_slice_memory_size();
        values.unwrap_or_else(|_| column.get_array_memory_size()) + OF_A_COLUMN
    };
    batch.columns().iter().map(|column| bytes(column.as_ref())).sum()
}

/// Encoded bytes on their way to the store, in buffers that are not copied again.
struct Buffers {
    buffer_bytes: usize,
    full: Vec<Bytes>,
    last: Vec<u8>,
}

impl Buffers {
    /// Takes the last buffer for full.
    fn end(&mut self) {
        if self.last.is_empty() {
            return;
        }
        self.full.push(std::mem::take(&mut self.last).into());
    }
}

impl Write for Buffers {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.capacity() == 0 {
            self.last.reserve_exact(self.buffer_bytes);
        }
        let fitting = bytes.len().min(self.buffer_bytes - self.last.len());
        self.last.extend_from_slice(&bytes[..fitting]);
        if self.last.len() == self.buffer_bytes {
            self.end();
        }
        Ok(fitting)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Int64Array, ListArray, StringArray, StructArray},
        compute::concat_batches,
        datatypes::{DataType, Field, Int64Type, Schema},
    };
    use parquet::{
        arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
        basic::{Compression, Encoding, ZstdLevel},
        bloom_filter::Sbbf,
        file::reader::{FileReader, SerializedFileReader},
        schema::types::ColumnPath,
    };
    use proptest::prelude::*;

    use super::*;

    /// Rows with a flat and nested columns.
    fn rows(from: i64, count: usize) -> RecordBatch {
        let keys = || (from..).take(count);
        let lists = keys().map(|key| (key % 5 > 0).then(|| (0..key % 4).map(|n| Some(key + n)).collect::<Vec<_>>()));
        let texts: ArrayRef =
            Arc::new(keys().map(|key| (key % 7 > 0).then(|| format!("text {}", key % 90))).collect::<StringArray>());
        let numbers: ArrayRef = Arc::new(keys().map(|key| key * key).collect::<Int64Array>());
        let fields = vec![Field::new("text", DataType::Utf8, true), Field::new("number", DataType::Int64, true)];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("key", Arc::new(keys().map(|key| (key % 11 > 0).then_some(key * 1_000)).collect::<Int64Array>())),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
            ("both", Arc::new(StructArray::new(fields.into(), vec![texts, numbers], None))),
        ];
        let schema = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(schema.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The oracle is the library's writer.
        #[test]
        fn files_are_those_of_the_librarys_writer(
            batches in prop::collection::vec(0..9_000usize, 0..14), group in 1_000..100_000usize, buffer_bytes in 1..50_000usize,
        ) {
            let schema = rows(0, 1).schema();
            let properties = WriterProperties::builder()
                .set_max_row_group_row_count(Some(group))
                .set_column_bloom_filter_enabled(ColumnPath::from("key"), true)
                .set_column_bloom_filter_max_ndv(ColumnPath::from("key"), 10_000)
                .set_column_encoding(ColumnPath::from("key"), Encoding::DELTA_BINARY_PACKED)
                .set_column_dictionary_enabled(ColumnPath::from("key"), false)
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_column_compression(ColumnPath::from("key"), Compression::UNCOMPRESSED)
                .build();
            let mut ours = RowGroups::try_new(schema.clone(), properties.clone(), buffer_bytes).unwrap();
            let mut theirs = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).unwrap();
            let mut bytes = Vec::new();
            let mut from = 0;
            let mut all = Vec::new();
            for count in batches {
                let batch = rows(from, count);
                from += count as i64;
                ours.write(&batch).unwrap();
                theirs.write(&batch).unwrap();
                all.push(batch);
                for buffer in ours.take_buffers() {
                    prop_assert_eq!(buffer.len(), buffer_bytes);
                    bytes.extend_from_slice(&buffer);
                }
            }
            ours.finish().unwrap();
            ours.take_buffers().iter().for_each(|buffer| bytes.extend_from_slice(buffer));
            let theirs = theirs.into_inner().unwrap();
            let groups = |bytes: &Vec<u8>| {
                let file = SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
                let of = |group: &parquet::file::metadata::RowGroupMetaData| {
                    let key = group.column(0);
                    let filter = Sbbf::read_from_column_chunk(key, &Bytes::from(bytes.clone())).unwrap().unwrap();
                    let mut bits = Vec::new();
                    filter.write_bitset(&mut bits).unwrap();
                    let statistics: Vec<_> = group.columns().iter().map(|column| column.statistics().cloned()).collect();
                    (group.num_rows(), statistics, bits)
                };
                file.metadata().row_groups().iter().map(of).collect::<Vec<_>>()
            };
            prop_assert_eq!(groups(&bytes), groups(&theirs));
            let read = |bytes: Vec<u8>| {
                let batches = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap().build().unwrap();
                concat_batches(&schema, &batches.map(|batch| batch.unwrap()).collect::<Vec<_>>()).unwrap()
            };
            prop_assert_eq!(read(bytes), concat_batches(&schema, &all).unwrap());
        }
    }

    #[test]
    fn a_row_group_ends_at_its_bytes() {
        let batch = rows(0, 8192);
        let properties = WriterProperties::builder().set_max_row_group_bytes(Some(200_000)).build();
        let mut ours = RowGroups::try_new(batch.schema(), properties, 1 << 20).unwrap();
        (0..100).for_each(|_| ours.write(&batch).unwrap());
        let (memory, size) = (ours.memory_size(), ours.size());
        let metadata = ours.finish().unwrap();
        let rows: Vec<_> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
        assert!(rows.len() > 5 && rows.iter().all(|rows| *rows as usize <= WAITING_ROWS + 8192), "{rows:?}");
        assert_eq!(rows.iter().sum::<i64>(), 819_200);
        assert!(memory > 0 && size > 200_000, "{memory} {size}");
    }
}
