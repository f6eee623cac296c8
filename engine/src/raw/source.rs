//! The file source of raw text: one record-aligned byte range of a part at a time.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

use arrow::datatypes::SchemaRef;
use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource},
        projection::{ProjectionOpener, SplitProjection},
        table_schema::TableSchema,
    },
    physical_expr::{LexOrdering, PhysicalExpr, projection::ProjectionExprs},
    physical_plan::{
        DisplayFormatType,
        metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder},
    },
};
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use super::{
    csv::decoder::CsvDecoder,
    dialect::CsvOptions,
    json::decoder::JsonDecoder,
    manifest::JsonLayout,
    piece::{Piece, PieceReader, text_before},
    places::{Lines, Places, place_fields},
    prune::prune,
    stored::{Stored, TextFile},
    zone::RawZone,
};

/// Text that a [`RawSource`] reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawText {
    /// JSON.
    Json {
        /// How records follow one another.
        layout: JsonLayout,
        /// Parts, as whole paths, in which they follow one another the other way.
        others: Vec<String>,
        /// Its columns were declared, not inferred.
        declared: bool,
    },
    /// CSV; the file schema has all fields of the header, in its order.
    Csv(CsvOptions),
}

impl RawText {
    fn layout_of(&self, path: &str) -> Option<JsonLayout> {
        match (self, self.is_other(path)) {
            (Self::Csv(_), _) => None,
            (Self::Json { layout, .. }, false) => Some(*layout),
            (Self::Json { layout: JsonLayout::Array, .. }, true) => Some(JsonLayout::Lines),
            (Self::Json { layout: JsonLayout::Lines, .. }, true) => Some(JsonLayout::Array),
        }
    }

    fn is_other(&self, path: &str) -> bool {
        matches!(self, Self::Json { others, .. } if others.iter().any(|other| other == path))
    }
}

/// What a scan tells of its rows beside their columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tells {
    /// Nothing; a bad record is an error.
    #[default]
    Nothing,
    /// Where each is; a bad record is an error.
    Places,
    /// Where each is, and which are bad: those are rows of nulls.
    BadRecords,
}

/// Reads raw text in a `DataSourceExec(FileScanConfig)`. Each [`PartitionedFile`] is a range of a text that holds whole records; one that starts
/// at 0 is its first piece, one that ends at its size the last.
///
/// A pushed-down projection may hold expressions: only the fields they use, nested ones included, are materialised.
///
/// It may tell of the place of each row, by columns behind the text's own, see [`super::places`].
#[derive(Debug, Clone)]
pub struct RawSource {
    text: RawText,
    tells: Tells,
    /// How texts are stored that are not just their files, by whole path.
    stored: Arc<BTreeMap<String, Stored>>,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl RawSource {
    /// A source of text with these columns.
    pub fn new(text: RawText, table_schema: TableSchema) -> Self {
        let projection = SplitProjection::unprojected(&table_schema);
        let (stored, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        Self { text, tells: Tells::Nothing, stored, table_schema, projection, batch_size: 8192, metrics }
    }

    /// The same, when the schema's last columns are [`place_fields`].
    pub fn telling(self, tells: Tells) -> Self {
        Self { tells, ..self }
    }

    /// What it tells of its rows.
    pub fn tells(&self) -> Tells {
        self.tells
    }

    /// The columns that are materialised for the projection, each reduced to the nested fields that it uses.
    pub fn pruned(&self) -> Result<SchemaRef> {
        Ok(Arc::new(
            prune(self.table_schema.file_schema(), &self.projection.source).project(&self.projection.file_indices)?,
        ))
    }

    /// The same source of texts of which these are stored otherwise than plainly.
    pub fn with_stored(self, stored: BTreeMap<String, Stored>) -> Self {
        Self { stored: Arc::new(stored), ..self }
    }

    /// How texts are stored that are not just their files, by whole path.
    pub fn stored(&self) -> &BTreeMap<String, Stored> {
        &self.stored
    }

    /// The text it reads.
    pub fn text(&self) -> &RawText {
        &self.text
    }
}

impl FileSource for RawSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        _base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let pruned = prune(self.table_schema.file_schema(), &self.projection.source);
        let extra = if self.tells == Tells::Nothing { 0 } else { place_fields().len() };
        let width = pruned.fields().len().saturating_sub(extra);
        // In order, so what is wanted of the places comes last.
        let (indices, places): (Vec<_>, Vec<_>) =
            self.projection.file_indices.iter().copied().partition(|index| *index < width);
        let opener = RawOpener {
            text: self.text.clone(),
            tells: self.tells,
            stored: self.stored.clone(),
            width,
            indices,
            places: places.into_iter().map(|index| index - width).collect(),
            schema: self.pruned()?,
            batch_size: self.batch_size.max(1),
            store: object_store,
            bytes_read: MetricBuilder::new(&self.metrics).counter("bytes_scanned", partition),
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), &pruned)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size, ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        match self.text {
            RawText::Json { .. } => "raw-json",
            RawText::Csv(_) => "raw-csv",
        }
    }

    fn fmt_extra(&self, _: DisplayFormatType, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn repartitioned(
        &self,
        _: usize,
        _: usize,
        _: Option<LexOrdering>,
        _: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        Ok(None)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.projection.source.iter(), f)
    }
}

struct RawOpener {
    text: RawText,
    tells: Tells,
    stored: Arc<BTreeMap<String, Stored>>,
    /// Fields of a CSV record.
    width: usize,
    /// Those that are asked for.
    indices: Vec<usize>,
    /// Those of [`place_fields`] that are asked for.
    places: Vec<usize>,
    /// All their columns.
    schema: SchemaRef,
    batch_size: usize,
    store: Arc<dyn ObjectStore>,
    bytes_read: Count,
}

impl FileOpener for RawOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let path = file.object_meta.location.clone();
        let (start, end) = file.range();
        let (first, last) = (start == 0, end >= file.object_meta.size);
        let layout = self.text.layout_of(path.as_ref());
        let stored =
            Arc::new(self.stored.get(path.as_ref()).map_or(Stored::Plain, |stored| stored.within(&(start..end))));
        let before = self.stored.get(path.as_ref()).cloned().unwrap_or(Stored::Plain);
        let whole = TextFile { store: self.store.clone(), path: path.clone(), stored: Arc::new(before) };
        let file = TextFile { store: self.store.clone(), path, stored };
        let piece = Piece { file, range: start..end, bytes_read: self.bytes_read.clone() };
        let (schema, rows) = (self.schema.clone(), self.batch_size);
        let json = layout.map(|layout| JsonDecoder::new(schema.clone(), layout, first, last)).transpose()?;
        let inferred = matches!(&self.text, RawText::Json { declared: false, .. });
        let json = json.map(|decoder| if inferred { decoder.inferred() } else { decoder });
        let options = match &self.text {
            RawText::Csv(options) => options.clone(),
            RawText::Json { .. } => CsvOptions::default(),
        };
        let csv = || CsvDecoder::new(schema, self.width, &self.indices, first).with_options(options);
        if self.tells == Tells::Nothing {
            let batches = match json {
                Some(decoder) => PieceReader::new(piece, decoder).batches(rows),
                None => PieceReader::new(piece, csv()).batches(rows),
            };
            return Ok(Box::pin(futures::future::ready(Ok(batches))));
        }
        let places = Places::new(whole.path.filename().unwrap_or_default().to_string(), self.places.clone());
        let lenient = self.tells == Tells::BadRecords;
        let csv = csv();
        Ok(Box::pin(async move {
            let lines = lines_of(&whole, start).await?;
            Ok(match json {
                Some(decoder) => PieceReader::new(piece, decoder.with_places(places, lines, lenient)?).batches(rows),
                None => PieceReader::new(piece, csv.with_places(places, lines, lenient)).batches(rows),
            })
        }))
    }
}

/// The line that a piece begins on.
async fn lines_of(file: &TextFile, start: u64) -> Result<Lines> {
    if start == 0 {
        return Ok(Lines::new(0, 1, &[]));
    }
    let manifest = RawZone::manifest_beside(file.store.as_ref(), &file.path).await?;
    let part = manifest.parts.iter().find(|part| file.path.filename() == Some(part.text_name().as_str()));
    // A plan may have no more frames than its ranges need.
    let file = match part {
        Some(part) => TextFile { stored: Arc::new(Stored::of(part, &RawZone::folder_of(&file.path))), ..file.clone() },
        None => file.clone(),
    };
    let before = text_before(&file, start).await?;
    Ok(Lines::new(start, part.map_or(1, |part| part.line_of(start)), &before))
}

/// The raw source of a plan's leaf, if it is one.
pub(crate) fn of_config(config: &dyn Any) -> Option<(&FileScanConfig, &RawSource)> {
    let config = config.downcast_ref::<FileScanConfig>()?;
    let source: &dyn Any = config.file_source().as_ref();
    Some((config, source.downcast_ref::<RawSource>()?))
}
