//! The file source of Delta tables: Parquet, with what the log says about each file applied when it is opened.
//!
//! Stock Parquet does the reading. Before it opens a file (or a byte range of one) the footer is read, its names become the table's
//! ([`Layout`]), and the rows of its deletion vector become a row selection, or a mask where they are many ([`super::masked`]). Row-group, page and
//! filter pruning work within either.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    config::ConfigOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileOpener, FileScanConfig, FileSource, ParquetFileReaderFactory, ParquetSource,
            parquet::{DefaultParquetFileReaderFactory, ParquetAccessPlan, RowGroupAccess},
        },
        table_schema::TableSchema,
    },
    physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, projection::ProjectionExprs},
    physical_plan::{
        DisplayFormatType, SortOrderPushdownResult, filter_pushdown::FilterPushdownPropagation,
        metrics::ExecutionPlanMetricsSet,
    },
};
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner, Morselizer};
use futures::{FutureExt, future::BoxFuture};
use object_store::ObjectStore;
use parquet::{
    arrow::{
        arrow_reader::{ArrowReaderOptions, RowSelection, RowSelector},
        async_reader::AsyncFileReader,
    },
    file::metadata::{PageIndexPolicy, ParquetMetaData, RowGroupMetaData},
};
use roaring::RoaringTreemap;

use super::{
    deletion_vector::DeletionVector,
    layout::Layout,
    masked::{self, Masked},
};
use crate::error::{Code, Error};

/// Reads a table's Parquet files in a `DataSourceExec(FileScanConfig)`. A file's [`DeletionVector`] is an extension of its
/// [`PartitionedFile`].
#[derive(Clone)]
pub struct DeltaSource {
    /// A [`ParquetSource`].
    parquet: Arc<dyn FileSource>,
    layout: Option<Arc<Layout>>,
}

impl fmt::Debug for DeltaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeltaSource({:?})", self.layout.as_ref().map(|layout| &layout.table))
    }
}

impl DeltaSource {
    /// Over `parquet`, which must be a [`ParquetSource`]. Without a layout, files have the table's names and types.
    pub fn new(parquet: Arc<dyn FileSource>, layout: Option<Arc<Layout>>) -> Self {
        Self { parquet, layout }
    }

    /// The Parquet source below.
    pub fn parquet(&self) -> &Arc<dyn FileSource> {
        &self.parquet
    }

    /// How the table's columns are found in its files.
    pub fn layout(&self) -> Option<&Arc<Layout>> {
        self.layout.as_ref()
    }

    fn over(&self, parquet: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { parquet, layout: self.layout.clone() })
    }
}

impl FileSource for DeltaSource {
    fn create_file_opener(&self, _: Arc<dyn ObjectStore>, _: &FileScanConfig, _: usize) -> Result<Arc<dyn FileOpener>> {
        Err(Error::new(Code::Internal, "a Delta scan opens files through its morselizer").into())
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let parquet = self
            .parquet
            .downcast_ref::<ParquetSource>()
            .ok_or_else(|| Error::new(Code::Internal, "a Delta scan is not over Parquet"))?;
        let readers = match parquet.parquet_file_reader_factory() {
            Some(factory) => factory.clone(),
            None => Arc::new(DefaultParquetFileReaderFactory::new(object_store.clone())),
        };
        let morselizer = |source: &ParquetSource, config: &FileScanConfig| {
            let readers = Arc::new(ReadersWithFooter(readers.clone()));
            let source = source.clone().with_parquet_file_reader_factory(readers);
            source.create_morselizer(object_store.clone(), config, partition).map(Arc::from)
        };
        let mut files = base_config.file_groups.iter().flat_map(|group| group.files());
        let numbered = if files.any(|file| file.extensions.get::<DeletionVector>().is_some()) {
            let numbered = masked::numbered(parquet, base_config)?;
            numbered.map(|(source, config)| morselizer(&source, &config)).transpose()?
        } else {
            None
        };
        Ok(Box::new(DeltaMorselizer {
            inner: morselizer(parquet, base_config)?,
            numbered,
            readers,
            store: object_store,
            layout: self.layout.clone(),
            footer_hint: parquet.table_parquet_options().global.metadata_size_hint,
            metrics: self.metrics().clone(),
            partition,
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.parquet.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.over(self.parquet.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.parquet.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.parquet.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.parquet.metrics()
    }

    fn file_type(&self) -> &str {
        "delta"
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parquet.fmt_extra(t, f)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let schema = self.table_schema().table_schema();
        let filters = filters.into_iter().map(|filter| crate::sql::with_nans(filter, schema));
        let pushed = self.parquet.try_pushdown_filters(filters.collect::<Result<_>>()?, config)?;
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node: pushed.updated_node.map(|parquet| self.over(parquet)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(match self.parquet.try_pushdown_sort(order, properties)? {
            SortOrderPushdownResult::Exact { inner } => SortOrderPushdownResult::Exact { inner: self.over(inner) },
            SortOrderPushdownResult::Inexact { inner } => SortOrderPushdownResult::Inexact { inner: self.over(inner) },
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.parquet.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.parquet.try_pushdown_projection(projection)?.map(|parquet| self.over(parquet)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.parquet.apply_expressions(f)
    }
}

struct DeltaMorselizer {
    inner: Arc<dyn Morselizer>,
    /// The same with the rows' positions in their file as the last column; only where a file has a vector, and nothing is computed.
    numbered: Option<Arc<dyn Morselizer>>,
    readers: Arc<dyn ParquetFileReaderFactory>,
    store: Arc<dyn ObjectStore>,
    layout: Option<Arc<Layout>>,
    footer_hint: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
    partition: usize,
}

impl fmt::Debug for DeltaMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaMorselizer").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Morselizer for DeltaMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let vector = file.extensions.get_arc::<DeletionVector>();
        if vector.is_none() && self.layout.is_none() {
            return self.inner.plan_file(file);
        }
        let hint = file.metadata_size_hint.or(self.footer_hint);
        let reader = self.readers.create_reader(self.partition, file.clone(), hint, &self.metrics)?;
        Ok(Box::new(DeltaPlanner {
            inner: self.inner.clone(),
            numbered: self.numbered.clone(),
            store: self.store.clone(),
            layout: self.layout.clone(),
            reader,
            vector,
            file,
        }))
    }
}

/// Prepares a file for the Parquet planner.
struct DeltaPlanner {
    inner: Arc<dyn Morselizer>,
    numbered: Option<Arc<dyn Morselizer>>,
    store: Arc<dyn ObjectStore>,
    layout: Option<Arc<Layout>>,
    reader: Box<dyn AsyncFileReader + Send>,
    vector: Option<Arc<DeletionVector>>,
    file: PartitionedFile,
}

impl fmt::Debug for DeltaPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeltaPlanner({})", self.file.object_meta.location)
    }
}

impl MorselPlanner for DeltaPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_pending_planner(self.prepare())))
    }
}

impl DeltaPlanner {
    async fn prepare(mut self: Box<Self>) -> Result<Box<dyn MorselPlanner>> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let path = self.file.object_meta.location.as_ref();
        let mut footer = self.reader.get_metadata(Some(&options)).await.map_err(|error| {
            Error::new(Code::Storage, format!("data file {path} can't be read: {error}"))
                .hint("where the file is gone or damaged, restore the table to a version that has all its files")
        })?;
        drop(self.reader);
        if let Some(layout) = &self.layout {
            footer = layout.apply(path, footer)?;
        }
        let mut mask = None;
        if let Some(vector) = &self.vector {
            let deleted = vector.load(self.store.as_ref()).await?;
            let rows = footer.row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum();
            if let Some(last) = deleted.max().filter(|last| *last >= rows) {
                let what = format!("the deletion vector of {path} removes row {last}, but the file has {rows} rows");
                let error = Error::new(Code::Storage, what);
                return Err(error.hint("the table's log is damaged; restore an older version").into());
            }
            // Rows are numbered by the ordinals of their groups, as the file has them.
            let mut groups = footer.row_groups().iter().enumerate();
            let in_order = groups.all(|(at, group)| group.ordinal().map(usize::try_from) == Some(Ok(at)));
            let numbered = self.numbered.filter(|_| in_order && masked::is_scattered(&deleted, rows));
            mask = numbered.map(|numbered| (numbered, masked::remaining(&deleted, rows)));
            let range = self.file.range.as_ref().map(|range| range.start..range.end);
            let access = remaining(&deleted, footer.row_groups(), range.as_ref(), mask.is_none());
            self.file.extensions.insert(access);
        }
        self.file.extensions.insert_arc(Arc::new(Footer(footer)));
        match mask {
            Some((numbered, left)) => Ok(Box::new(Masked { inner: numbered.plan_file(self.file)?, left })),
            None => self.inner.plan_file(self.file),
        }
    }
}

/// What to read of each row group whose start lies within `range` (bytes): the rows that are not deleted, unless these are to be filtered out later,
/// which leaves out groups with nothing else.
fn remaining(
    deleted: &RoaringTreemap,
    groups: &[RowGroupMetaData],
    range: Option<&Range<i64>>,
    selected: bool,
) -> ParquetAccessPlan {
    let mut first = 0;
    let mut plan = Vec::with_capacity(groups.len());
    for group in groups {
        let end = first + u64::try_from(group.num_rows()).unwrap_or(0);
        let gone = deleted.range_cardinality(first..end);
        plan.push(if gone == end - first || !starts_within(group, range) {
            RowGroupAccess::Skip
        } else if gone == 0 || !selected {
            RowGroupAccess::Scan
        } else {
            RowGroupAccess::Selection(selection(deleted, first..end))
        });
        first = end;
    }
    ParquetAccessPlan::new(plan)
}

/// As Parquet's own opener assigns row groups to ranges.
fn starts_within(group: &RowGroupMetaData, range: Option<&Range<i64>>) -> bool {
    let (Some(range), Some(column)) = (range, group.columns().first()) else { return true };
    range.contains(&column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))
}

fn selection(deleted: &RoaringTreemap, rows: Range<u64>) -> RowSelection {
    // Row groups are far smaller than the address space.
    let length = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    let mut selectors: Vec<RowSelector> = Vec::new();
    let mut next = rows.start;
    let mut gone = deleted.iter();
    gone.advance_to(rows.start);
    for row in gone.take_while(|row| *row < rows.end) {
        if row > next {
            selectors.push(RowSelector::select(length(row - next)));
        }
        match selectors.last_mut() {
            Some(last) if last.skip => last.row_count += 1,
            _ => selectors.push(RowSelector::skip(1)),
        }
        next = row + 1;
    }
    if next < rows.end {
        selectors.push(RowSelector::select(length(rows.end - next)));
    }
    RowSelection::from(selectors)
}

/// The footer that the Parquet opener is to take.
struct Footer(Arc<ParquetMetaData>);

/// Readers of files whose [`Footer`] was read.
#[derive(Debug)]
struct ReadersWithFooter(Arc<dyn ParquetFileReaderFactory>);

impl ParquetFileReaderFactory for ReadersWithFooter {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let footer = file.extensions.get::<Footer>().map(|footer| footer.0.clone());
        let reader = self.0.create_reader(partition, file, hint, metrics)?;
        Ok(match footer {
            Some(footer) => Box::new(ReaderWithFooter { reader, footer }),
            None => reader,
        })
    }
}

/// A reader of a file whose footer is known.
pub(super) struct ReaderWithFooter {
    pub(super) reader: Box<dyn AsyncFileReader + Send>,
    pub(super) footer: Arc<ParquetMetaData>,
}

impl AsyncFileReader for ReaderWithFooter {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.reader.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        self.reader.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        futures::future::ready(Ok(self.footer.clone())).boxed()
    }
}
