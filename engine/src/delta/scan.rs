//! A table (or a list of its files) as a scan that distributes: Parquet over a fixed list of byte ranges of files.
//!
//! The plan carries the files with what the log says about them, so executors never read the log, and Ballista slices it by file group.
//! [`DeltaSource`](super::source::DeltaSource) does the reading.

use std::{fmt, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{ColumnStatistics, DFSchema, ScalarValue, Statistics, stats::Precision},
    config::TableParquetOptions,
    datasource::{
        TableType,
        listing::PartitionedFile,
        object_store::ObjectStoreUrl,
        physical_plan::{FileGroup, FileGroupPartitioner, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::Result as DataFusionResult,
    logical_expr::{Expr, TableProviderFilterPushDown, utils::conjunction},
    physical_optimizer::pruning::PruningPredicateBuilder,
    physical_plan::{ExecutionPlan, empty::EmptyExec},
};
use object_store::{ObjectMeta, path::Path};
use url::Url;

use super::{
    deletion_vector::DeletionVector,
    files::{DataFiles, size},
    source::DeltaSource,
    table::Table,
    writer::WriteSettings,
};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
    names::our_column,
};

/// The column that [`DeltaTableScan::with_file_column`] adds: position of the row's file in the scan's list, never null.
pub const FILE_COLUMN: &str = our_column!("file");

/// Files that a sample is of at most, evenly chosen, and parts of a file of which it has one.
const SAMPLED_FILES: usize = 4;

/// A table provider over data files of one table. Columns are the table's, in its order; one that a file lacks reads as NULL.
#[derive(Clone)]
pub struct DeltaTableScan {
    table: TableName,
    files: DataFiles,
    paths: Arc<Vec<Path>>,
    /// One per file; empty when no file has one.
    vectors: Arc<Vec<Option<Arc<DeletionVector>>>>,
    store: ObjectStoreUrl,
    file_column: bool,
    /// Files of each partition, whole; none: partitions are equal in bytes.
    groups: Option<Arc<Vec<Vec<usize>>>>,
    sample: bool,
    schema: SchemaRef,
}

impl fmt::Debug for DeltaTableScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeltaTableScan({}, {} files)", self.table, self.files.len())
    }
}

impl DeltaTableScan {
    /// Scans a table's version. Fails with [`Code::UnsupportedTable`] when we would read it wrong.
    pub fn of_table(table: &Table) -> Result<Self> {
        Self::from_files(table.storage(), table.name(), table.files()?)
    }

    /// Scans files of a table, whether they are committed or not.
    pub fn from_files(storage: &Storage, table: &TableName, files: DataFiles) -> Result<Self> {
        let folder = storage.table_path(table);
        let locate = |path: &str| data_path(storage.root(), &folder, table, path);
        let paths = files.adds().iter().map(|add| locate(&add.path)).collect::<Result<Vec<_>>>()?;
        let vectors = if files.adds().iter().any(|add| add.deletion_vector.is_some()) {
            let vector = |descriptor| Ok(Arc::new(DeletionVector::resolve(descriptor, locate)?));
            files
                .adds()
                .iter()
                .map(|add| add.deletion_vector.as_ref().map(vector).transpose())
                .collect::<Result<Vec<_>>>()?
        } else {
            Vec::new()
        };
        let schema = files.schema().clone();
        Ok(Self {
            table: table.clone(),
            files,
            paths: Arc::new(paths),
            vectors: Arc::new(vectors),
            store: storage.object_store_url()?,
            file_column: false,
            groups: None,
            sample: false,
            schema,
        })
    }

    /// The same scan with [`FILE_COLUMN`] as its last column.
    pub fn with_file_column(mut self) -> Self {
        let mut fields = self.files.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(FILE_COLUMN, DataType::Int32, false)));
        self.schema = Arc::new(Schema::new(fields));
        self.file_column = true;
        self
    }

    /// The same scan with its text columns as `Utf8View`; nested texts, and those from the log, stay as they are.
    pub fn with_text_views(mut self) -> Self {
        let stored = |name: &str| !self.files.partition_columns().iter().any(|column| column == name);
        let fields = self.schema.fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 if stored(field.name()) => {
                Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View))
            }
            _ => field.clone(),
        });
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self
    }

    /// The same scan of these files only, by their positions: each group a partition of its own, whatever a filter says.
    pub fn with_groups(mut self, groups: Vec<Vec<usize>>) -> Self {
        self.groups = Some(Arc::new(groups));
        self
    }

    /// A scan of a part of a few files, of those that a filter leaves: the beginning of the first one, and of large files a later part of each next one.
    pub fn with_sample(mut self) -> Self {
        self.sample = true;
        self
    }

    /// The files it scans, before any filter.
    pub fn files(&self) -> &DataFiles {
        &self.files
    }

    /// Columns in the order in which the file source gives them: those in files, then those from the log.
    fn source_schema(&self) -> TableSchema {
        let constant = |name: &str| self.files.partition_columns().iter().any(|column| column == name);
        let (constants, stored): (Vec<_>, Vec<_>) =
            self.schema.fields().iter().cloned().partition(|f| constant(f.name()) || self.is_file_column(f));
        TableSchema::builder(Arc::new(Schema::new(stored))).with_table_partition_cols(constants).build()
    }

    fn is_file_column(&self, field: &Field) -> bool {
        self.file_column && field.name() == FILE_COLUMN
    }

    /// Positions of the files that may hold rows for which the filters hold.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> DataFusionResult<Vec<usize>> {
        let all = || (0..self.files.len()).collect::<Vec<_>>();
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(all()) };
        if self.files.is_empty() {
            return Ok(all());
        }
        let schema = DFSchema::try_from(self.schema.clone())?;
        let filter = crate::sql::with_nans(state.create_physical_expr(filter, &schema)?, &self.schema)?;
        // What can't be turned into a statement about bounds prunes nothing.
        let predicate = PruningPredicateBuilder::new().with_file_schema(self.schema.clone()).try_build(filter);
        let Ok(predicate) = predicate else { return Ok(all()) };
        let keep = predicate.prune(&self.files)?;
        Ok(keep.into_iter().enumerate().filter_map(|(file, keep)| keep.then_some(file)).collect())
    }

    fn partitioned_file(&self, index: usize, constants: &[Arc<Field>]) -> Option<PartitionedFile> {
        let add = self.files.adds().get(index)?;
        let values = constants
            .iter()
            .map(|field| {
                if self.is_file_column(field) {
                    return Some(ScalarValue::Int32(i32::try_from(index).ok()));
                }
                self.files.partition_value(field.name(), index).cloned()
            })
            .collect::<Option<Vec<_>>>()?;
        let modified = chrono::DateTime::from_timestamp_millis(add.modification_time).unwrap_or_default();
        let meta = ObjectMeta {
            location: self.paths.get(index)?.clone(),
            last_modified: modified,
            size: size(add),
            e_tag: None,
            version: None,
        };
        let mut file = PartitionedFile::new_from_meta(meta).with_partition_values(values);
        if let Some(Some(vector)) = self.vectors.get(index) {
            file.extensions.insert_arc(vector.clone());
        }
        Some(file)
    }
}

#[async_trait]
impl TableProvider for DeltaTableScan {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(scan_statistics(&self.files, &self.schema, self.schema.fields()))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let source_schema = self.source_schema();
        let columns: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let mut kept = match &self.groups {
            Some(groups) => groups.concat(),
            None => self.prune(state, filters)?,
        };
        if self.sample {
            let files = kept.len().min(SAMPLED_FILES);
            kept = (0..files).map(|at| kept[at * kept.len() / files]).collect();
        }
        if kept.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&columns)?))));
        }
        let constants = source_schema.table_partition_cols().to_vec();
        let files =
            kept.iter().map(|&file| self.partitioned_file(file, &constants)).collect::<Option<Vec<_>>>().ok_or_else(
                || Error::new(Code::Internal, format!("files of {} and their values differ in number", self.table)),
            )?;
        let options = state.config_options();
        let smallest = options.optimizer.repartition_file_min_size;
        let groups = match &self.groups {
            _ if self.sample => {
                // Smaller files, as we write them, have no row group that starts in their last part.
                let large = (SAMPLED_FILES * WriteSettings::default().row_group_rows) as u64;
                let has_parts = |file: usize| self.files.retired(file).1.is_some_and(|rows| rows >= large);
                let at = |at: usize| if has_parts(kept[at]) { at } else { 0 };
                files.into_iter().enumerate().map(|(file, of)| FileGroup::new(vec![part(of, at(file))])).collect()
            }
            Some(groups) => grouped(files, groups),
            None => splits(files, state.config().target_partitions(), smallest),
        };
        let mut parquet = TableParquetOptions::default();
        parquet.global = options.execution.parquet.clone();
        // Spark's older timestamps, which count in UTC.
        parquet.global.coerce_int96 = Some("us".to_string());
        parquet.global.coerce_int96_tz = Some("UTC".to_string());
        let order = source_schema.table_schema().clone();
        let positions = columns
            .iter()
            .map(|&column| Ok(order.index_of(self.schema.field(column).name())?))
            .collect::<DataFusionResult<Vec<_>>>()?;
        let files = if kept.len() == self.files.len() { self.files.clone() } else { self.files.subset(&kept) };
        let statistics = scan_statistics(&files, &self.schema, order.fields());
        let statistics = if self.sample { statistics.to_inexact() } else { statistics };
        let source = ParquetSource::new(source_schema).with_table_parquet_options(parquet);
        let source = DeltaSource::new(Arc::new(source), self.files.layout().cloned());
        let config = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_limit(limit)
            .with_projection_indices(Some(positions))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// `partitions` groups of equal bytes: files follow one another and are cut where a group is full; a range reads the row groups that start
/// in it. Less than `smallest` bytes in all are one group.
fn splits(files: Vec<PartitionedFile>, partitions: usize, smallest: usize) -> Vec<FileGroup> {
    let groups = [FileGroup::new(files)];
    let split = FileGroupPartitioner::new()
        .with_target_partitions(partitions)
        .with_repartition_file_min_size(smallest)
        .repartition_file_groups(&groups);
    split.unwrap_or_else(|| groups.to_vec())
}

/// The row groups that start in a part of a file, of [`SAMPLED_FILES`]; the first one starts in the first part.
fn part(file: PartitionedFile, at: usize) -> PartitionedFile {
    let bytes = file.object_meta.size.div_ceil(SAMPLED_FILES as u64);
    let bound = |at: usize| i64::try_from(bytes.saturating_mul(at as u64)).unwrap_or(i64::MAX);
    file.with_range(bound(at), bound(at + 1))
}

/// Files that follow one another, in groups of these lengths.
fn grouped(files: Vec<PartitionedFile>, groups: &[Vec<usize>]) -> Vec<FileGroup> {
    let mut files = files.into_iter();
    groups.iter().map(|group| FileGroup::new(files.by_ref().take(group.len()).collect())).collect()
}

/// Statistics of the files with columns in `order`; the file column's are its range.
fn scan_statistics(files: &DataFiles, schema: &Schema, order: &arrow::datatypes::Fields) -> Statistics {
    let all = files.statistics();
    let columns = order
        .iter()
        .map(|field| {
            let known = schema.index_of(field.name()).ok().and_then(|index| all.column_statistics.get(index).cloned());
            let known = known.and_then(|known| in_type(known, field.data_type()));
            known.unwrap_or_else(|| {
                let mut statistics = ColumnStatistics::new_unknown();
                statistics.distinct_count = Precision::Inexact(files.len());
                statistics.null_count = Precision::Inexact(0);
                statistics
            })
        })
        .collect();
    Statistics { column_statistics: columns, ..all }
}

/// A column's statistics with bounds of its type in the scan.
fn in_type(statistics: ColumnStatistics, data_type: &DataType) -> Option<ColumnStatistics> {
    let cast = |bound: Precision<ScalarValue>| bound.cast_to(data_type).ok();
    let (min_value, max_value) = (cast(statistics.min_value)?, cast(statistics.max_value)?);
    Some(ColumnStatistics { min_value, max_value, ..statistics })
}

/// Where a data file lies in the store. `path` is as in an `Add`, decoded: relative to the table's folder, or a URL within the root's store.
pub(super) fn data_path(root: &Url, folder: &Path, table: &TableName, path: &str) -> Result<Path> {
    let refuse = |why: &str| {
        Error::new(Code::UnsupportedTable, format!("table {table} refers to the file {path}, {why}"))
            .hint("tables with files elsewhere (shallow clones) can't be read; copy the table")
    };
    let store = &root[..url::Position::BeforePath];
    let whole = match path.strip_prefix(store) {
        Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/').to_string(),
        // Hadoop writes `file:/path`.
        _ if root.scheme() == "file" && path.starts_with("file:/") => {
            path["file:".len()..].trim_start_matches('/').to_string()
        }
        _ if path.contains("://") || path.starts_with("file:") => {
            return Err(refuse(&format!("which is outside {store}")));
        }
        // An absolute path is one of the table's own store.
        _ if path.starts_with('/') => path.trim_start_matches('/').to_string(),
        _ if folder.as_ref().is_empty() => path.to_string(),
        _ => format!("{folder}/{path}"),
    };
    Path::parse(&whole).map_err(|error| refuse(&format!("which is no path: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_files_are_found_where_the_log_says() {
        let table: TableName = "a.b".parse().unwrap();
        let find = |root: &str, path: &str| {
            data_path(&Url::parse(root).unwrap(), &Path::from("lake/tables/a/b"), &table, path)
                .map(|path| path.to_string())
        };
        let s3 = "s3://bucket/lake";
        assert_eq!(
            find(s3, "day=2024-01-01 00%3A00/p.parquet").unwrap(),
            "lake/tables/a/b/day=2024-01-01 00%3A00/p.parquet"
        );
        assert_eq!(find(s3, "s3://bucket/old/p q.parquet").unwrap(), "old/p q.parquet");
        assert_eq!(find(s3, "/old/p.parquet").unwrap(), "old/p.parquet");
        for path in ["file:///old/p.parquet", "file:/old/p.parquet", "/old/p.parquet"] {
            assert_eq!(find("file:///lake", path).unwrap(), "old/p.parquet");
        }
        for foreign in ["s3://bucket2/p.parquet", "s3a://bucket/p.parquet", "file:/x", "file:///x", "../x.parquet"] {
            assert_eq!(find(s3, foreign).unwrap_err().code, Code::UnsupportedTable, "{foreign}");
        }
    }

    #[test]
    fn parts_of_a_file_are_all_of_it() {
        for size in [0, 1, 5, 1000, 1003] {
            let ranges = [0, 1, 2, 3].map(|at| part(PartitionedFile::new("f", size), at).range.unwrap());
            assert_eq!(ranges[0].start, 0);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
            assert!(ranges[3].end >= size as i64, "{ranges:?}");
        }
    }

    #[test]
    fn splits_are_balanced_in_bytes() {
        let shape = |sizes: &[u64], partitions, smallest| {
            let files = sizes.iter().map(|size| PartitionedFile::new("f", *size)).collect();
            splits(files, partitions, smallest)
                .iter()
                .map(|group| group.iter().map(PartitionedFile::effective_size).sum::<u64>())
                .collect::<Vec<_>>()
        };
        assert_eq!(shape(&[100], 4, 1), [25, 25, 25, 25]);
        assert_eq!(shape(&[100, 2, 2, 2], 2, 1), [53, 53]);
        assert_eq!(shape(&[9; 12], 3, 1), [36, 36, 36]);
        assert_eq!(shape(&[95, 95], 5, 1), [38; 5]);
        assert_eq!(shape(&[100, 50], 8, 1000), [150]);
    }
}
