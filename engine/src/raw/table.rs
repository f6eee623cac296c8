//! A raw version as a table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{Result as DataFusionResult, Statistics, stats::Precision},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, FileSource, ParquetSource, parquet::metadata::DFParquetMetadata,
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};
use object_store::ObjectMeta;

use super::{
    csv::header::{csv_schema, empty},
    manifest::{JsonLayout, Manifest, Part, RawFormat},
    places::place_fields,
    scanner::DEFAULT_SPLIT_SIZE,
    source::{RawSource, RawText, Tells},
    stored::{Stored, text_path},
    zone::RawZone,
};
use crate::{
    depth::check_depth,
    error::{Code, Error, Result},
    names::check_columns,
};

/// A raw version as a table; a scan of it has one file group a partition, each a run of splits, balanced by bytes.
#[derive(Debug, Clone)]
pub struct RawTable {
    zone: RawZone,
    manifest: Arc<Manifest>,
    schema: SchemaRef,
    declared: bool,
    tells: Tells,
}

impl RawTable {
    /// The version that the manifest tells of, with these columns.
    pub fn new(zone: RawZone, manifest: Manifest, schema: SchemaRef) -> Self {
        Self { zone, manifest: Arc::new(manifest), schema, declared: false, tells: Tells::Nothing }
    }

    /// The same whose columns were declared: text of theirs may be nested deeper than columns may be.
    pub fn declared(self, declared: bool) -> Self {
        Self { declared, ..self }
    }

    /// The same with [`place_fields`] behind the columns. Parquet has no places: nothing of it is a text record.
    pub fn telling(self, tells: Tells) -> Self {
        if tells == Tells::Nothing || self.manifest.format == RawFormat::Parquet {
            return self;
        }
        let fields: Vec<_> = self.schema.fields().iter().cloned().chain(place_fields()).collect();
        Self { schema: Arc::new(Schema::new(fields)), tells, ..self }
    }

    /// Its parts' ranges, whole records each, as DataFusion names them.
    fn files(&self) -> Vec<PartitionedFile> {
        let offset = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        let files = |part| {
            let meta = object_meta(&self.zone, &self.manifest, part);
            part.ranges(DEFAULT_SPLIT_SIZE).into_iter().map(move |range| {
                PartitionedFile::new_from_meta(meta.clone()).with_range(offset(range.start), offset(range.end))
            })
        };
        self.manifest.parts.iter().flat_map(files).collect()
    }

    fn source(&self) -> Arc<dyn FileSource> {
        let table_schema = TableSchema::from(self.schema.clone());
        let folder = self.zone.folder(&self.manifest.source, &self.manifest.version);
        let stored = || Stored::of_parts(&self.manifest, &folder);
        match self.manifest.format {
            RawFormat::Parquet => Arc::new(ParquetSource::new(table_schema)),
            RawFormat::Csv => {
                let text = RawText::Csv(self.manifest.options.csv.clone());
                Arc::new(RawSource::new(text, table_schema).with_stored(stored()).telling(self.tells))
            }
            RawFormat::Json => {
                let layouts =
                    || self.manifest.parts.iter().map(|part| (part, part.layout.unwrap_or(JsonLayout::Lines)));
                let layout = layouts().next().map_or(JsonLayout::Lines, |(_, layout)| layout);
                let others = layouts().filter(|(_, other)| *other != layout);
                let others = others.map(|(part, _)| text_path(part, &folder).to_string()).collect();
                let source = RawSource::new(RawText::Json { layout, others, declared: self.declared }, table_schema);
                Arc::new(source.with_stored(stored()).telling(self.tells))
            }
        }
    }
}

/// A part's text as DataFusion knows a file.
fn object_meta(zone: &RawZone, manifest: &Manifest, part: &Part) -> ObjectMeta {
    ObjectMeta {
        location: text_path(part, &zone.folder(&manifest.source, &manifest.version)),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: part.text_bytes(),
        e_tag: None,
        version: None,
    }
}

/// At most `groups` runs of ranges of about as many bytes each, in order; ranges of one run that follow each other become one.
fn balance(files: Vec<PartitionedFile>, groups: usize) -> Vec<FileGroup> {
    let total: u64 = files.iter().map(PartitionedFile::effective_size).sum();
    let share = total.div_ceil(groups.max(1) as u64).max(1);
    let mut balanced: Vec<Vec<PartitionedFile>> = Vec::new();
    let (mut passed, mut last) = (0, None);
    for file in files {
        // A range goes where its middle is.
        let group = (passed + file.effective_size() / 2) / share;
        passed += file.effective_size();
        match balanced.last_mut() {
            Some(files) if last == Some(group) => match files.last_mut() {
                Some(before) if follows(before, &file) => {
                    if let (Some(before), Some(range)) = (&mut before.range, &file.range) {
                        before.end = range.end;
                    }
                }
                _ => files.push(file),
            },
            _ => balanced.push(vec![file]),
        }
        last = Some(group);
    }
    balanced.into_iter().map(FileGroup::new).collect()
}

fn follows(before: &PartitionedFile, file: &PartitionedFile) -> bool {
    let ends = before.range.as_ref().map(|range| range.end);
    before.object_meta.location == file.object_meta.location && ends == file.range.as_ref().map(|range| range.start)
}

#[async_trait]
impl TableProvider for RawTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let bytes = usize::try_from(self.manifest.text_bytes()).map_or(Precision::Absent, Precision::Inexact);
        let records = self.manifest.records().and_then(|records| usize::try_from(records).ok());
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.total_byte_size = bytes;
        // Never exact: a count that was answered without reading would hide a bad record.
        statistics.num_rows = records.map_or(Precision::Absent, Precision::Inexact);
        Some(statistics)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let groups = balance(self.files(), state.config().target_partitions());
        // A scan of nothing has one partition without files.
        let groups = if groups.is_empty() { vec![FileGroup::new(Vec::new())] } else { groups };
        let config = FileScanConfigBuilder::new(self.zone.storage().object_store_url()?, self.source())
            .with_file_groups(groups)
            .with_statistics(self.statistics().unwrap_or_else(|| Statistics::new_unknown(&self.schema)))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            // A retried task must read what the first try read, so partitions never take files from one another.
            .with_preserve_order(true)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Versions before an empty one that are looked at for their columns.
const MOST_EARLIER: usize = 100;

/// What a version itself tells of its columns.
enum Told {
    Columns(SchemaRef),
    /// Its records are still to be looked at.
    Later,
    /// It has no record, or none with a field.
    Nothing,
}

/// The columns of a version, if they can be told without reading all of it: a CSV header's, a Parquet footer's, declared ones, or those inferred
/// before. `None`: JSON whose columns are still to be inferred, see [`crate::raw::task::infer_plan`].
///
/// A version without a record has the columns of the newest version before it that has any: an empty delivery is zero rows of what came before.
///
/// # Errors
/// `EmptySource` when no version tells any; `SchemaMismatch` when a CSV header is not what was declared, or a name can't be a column's;
/// `BadRecord` when the header or the footer can't be read; `InvalidSpec` for types that are nested too deep.
pub async fn known_columns(
    zone: &RawZone,
    manifest: &Manifest,
    declared: Option<&SchemaRef>,
) -> Result<Option<SchemaRef>> {
    let columns = match told(zone, manifest, declared).await? {
        Told::Later => return Ok(None),
        Told::Columns(columns) => columns,
        Told::Nothing => match earlier(zone, manifest).await? {
            Some(columns) => columns,
            None => return Err(empty(manifest)),
        },
    };
    let whose = format!("{}@{}", manifest.source, manifest.version);
    check_columns(&whose, columns.fields().iter().map(|field| field.name().as_str()))?;
    check_depth(&whose, &columns)?;
    Ok(Some(columns))
}

/// Whether a version itself tells its columns, or what is declared does: an empty one may have those of the version before it.
///
/// # Errors
/// As [`known_columns`].
pub async fn tells_columns(zone: &RawZone, manifest: &Manifest, declared: Option<&SchemaRef>) -> Result<bool> {
    Ok(!matches!(told(zone, manifest, declared).await?, Told::Nothing))
}

async fn told(zone: &RawZone, manifest: &Manifest, declared: Option<&SchemaRef>) -> Result<Told> {
    let columns = match (manifest.format, declared) {
        (RawFormat::Csv, declared) => csv_schema(zone, manifest, declared).await?,
        (RawFormat::Parquet, _) => Some(parquet_schema(zone, manifest).await?),
        (RawFormat::Json, Some(declared)) => Some(nullable_within(declared)),
        (RawFormat::Json, None) if manifest.records() == Some(0) => None,
        (RawFormat::Json, None) => match zone.schema(&manifest.source, &manifest.version).await? {
            Some(kept) => kept.arrow(),
            None => return Ok(Told::Later),
        },
    };
    Ok(columns.map_or(Told::Nothing, Told::Columns))
}

/// The same columns with NULL allowed inside their values, as in Spark: what a record holds is not known before it is read.
fn nullable_within(schema: &Schema) -> SchemaRef {
    fn relaxed(data_type: &DataType) -> DataType {
        let inner = |field: &FieldRef| Arc::new(Field::new(field.name(), relaxed(field.data_type()), true));
        match data_type {
            DataType::List(item) => DataType::List(inner(item)),
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
            DataType::Map(entries, sorted) => match entries.data_type() {
                // Keys are never NULL.
                DataType::Struct(pair) if pair.len() == 2 => {
                    let pair = Fields::from(vec![pair[0].clone(), inner(&pair[1])]);
                    let entries = entries.as_ref().clone().with_data_type(DataType::Struct(pair));
                    DataType::Map(Arc::new(entries), *sorted)
                }
                _ => data_type.clone(),
            },
            other => other.clone(),
        }
    }
    let fields = schema.fields().iter();
    let fields = fields.map(|field| field.as_ref().clone().with_data_type(relaxed(field.data_type())));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns of the newest version before this one that tells any.
async fn earlier(zone: &RawZone, manifest: &Manifest) -> Result<Option<SchemaRef>> {
    let versions = zone.list_versions(&manifest.source).await?;
    let before = versions.into_iter().filter(|version| *version < manifest.version);
    for version in before.take(MOST_EARLIER) {
        // One that can't be read is refused where it is applied, and one that was dropped tells nothing.
        let Ok(earlier) = zone.get(&manifest.source, Some(&version)).await else { continue };
        if earlier.format != manifest.format {
            continue;
        }
        if let Ok(Told::Columns(columns)) = told(zone, &earlier, None).await {
            return Ok(Some(columns));
        }
    }
    Ok(None)
}

async fn parquet_schema(zone: &RawZone, manifest: &Manifest) -> Result<SchemaRef> {
    let mut first: Option<SchemaRef> = None;
    for part in &manifest.parts {
        if part.bytes == 0 {
            return Err(empty(manifest));
        }
        let meta = object_meta(zone, manifest, part);
        let store = zone.storage().store();
        let schema = DFParquetMetadata::new(store.as_ref(), &meta).fetch_schema().await.map_err(|error| {
            let file = format!("{}@{} ({})", manifest.source, manifest.version, manifest.origin);
            Error::new(Code::BadRecord, format!("{file} is not a whole Parquet file: {error}"))
                .hint("nothing of it was applied; ask for a whole delivery")
        })?;
        match &first {
            Some(first) if first.fields() != schema.fields() => {
                return Err(Error::new(
                    Code::SchemaMismatch,
                    format!(
                        "{}@{}: the columns of {} are not those of {}",
                        manifest.source, manifest.version, part.path, manifest.parts[0].path
                    ),
                ));
            }
            Some(_) => {}
            None => first = Some(Arc::new(schema)),
        }
    }
    first.ok_or_else(|| empty(manifest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_cover_every_file_in_order_and_differ_by_less_than_a_range(
            sizes in prop::collection::vec(prop::collection::vec(1..20i64, 1..12), 0..5), groups in 1..9usize,
        ) {
            let mut ranges = Vec::new();
            for (file, sizes) in sizes.iter().enumerate() {
                let mut start = 0;
                for size in sizes {
                    ranges.push(PartitionedFile::new(file.to_string(), 1 << 20).with_range(start, start + size));
                    start += size;
                }
            }
            let balanced = balance(ranges, groups);
            prop_assert!(balanced.len() <= groups);
            // Where each range begins and ends, with those that follow each other within a group put together here again.
            let mut covered: Vec<(String, i64, i64)> = Vec::new();
            for group in &balanced {
                let mut bytes = 0;
                for (at, file) in group.iter().enumerate() {
                    let (name, range) = (file.object_meta.location.to_string(), file.range.clone().unwrap());
                    bytes += range.end - range.start;
                    match covered.last_mut() {
                        Some(last) if (&last.0, last.2) == (&name, range.start) => {
                            prop_assert_eq!(at, 0, "two ranges that follow each other in one group");
                            last.2 = range.end;
                        }
                        _ => covered.push((name, range.start, range.end)),
                    }
                }
                let total: i64 = sizes.iter().flatten().sum();
                prop_assert!((bytes - total / groups as i64).abs() <= 20);
            }
            let whole = |(file, sizes): (usize, &Vec<i64>)| (file.to_string(), 0, sizes.iter().sum());
            prop_assert_eq!(covered, sizes.iter().enumerate().map(whole).collect::<Vec<_>>());
        }
    }
}
