//! Table features that our scan or our writer can't honour are refused, by name, before anything is read or written.
//!
//! Source: the Delta protocol, chapters "Table Features" and "Requirements for Writers".

use std::collections::BTreeMap;

use deltalake_core::kernel::{DataType, StructField, StructType};
use serde_json::{Value, json};

use super::{
    actions::CHANGE_TYPE,
    layout::{Mapping, unmapped},
    schema,
    table::Table,
};
use crate::{
    TableName,
    error::{Code, Error, Result},
};

/// Reader features that need nothing of a reader, or that [`check_readable`] looks at more closely.
const READABLE: &[&str] = &[
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// Writer features that need nothing of our commits, or that [`check_writable`] looks at more closely.
const WRITABLE: &[&str] = &[
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "domainMetadata",
    "generatedColumns",
    "identityColumns",
    "inCommitTimestamp",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
];

/// Fails with [`Code::UnsupportedTable`], naming feature and table, when our scan would read the table wrong.
pub fn check_readable(table: &Table) -> Result<()> {
    let protocol = Protocol::of(table)?;
    if protocol.reader > 3 {
        return Err(refuse(table, "read", &format!("reader version {}", protocol.reader)));
    }
    if let Some(feature) = protocol.reader_features.iter().find(|feature| !READABLE.contains(&feature.as_str())) {
        return Err(refuse(table, "read", &format!("the table feature `{feature}`")));
    }
    let schema = table.schema();
    if let Some(column) = schema.fields().find_map(variant) {
        return Err(refuse(table, "read", &format!("a variant column (`{column}`)")));
    }
    if let Some(column) = unmapped(&schema, mapping(table)?) {
        return Err(refuse(table, "read", &format!("column mapping, but its column `{column}` has no mapping")));
    }
    Ok(())
}

/// The feature of tables with `timestamp_ntz`.
const TIMESTAMP_NTZ: &str = "timestampNtz";

/// The property that says whether rows may be removed by deletion vectors.
pub const DELETION_VECTORS: &str = "delta.enableDeletionVectors";

/// Our property that says by which columns rows are sorted within files, comma-separated.
pub const SORT_BY: &str = "trireme.sortBy";

/// The columns of [`SORT_BY`] that the table has.
pub fn sort_by(table: &Table) -> Vec<String> {
    let columns = table.property(SORT_BY).unwrap_or_default().split(',').map(str::trim);
    columns.filter(|column| table.schema().field(column).is_some()).map(str::to_string).collect()
}

/// Whether a merge may retire rows by deletion vectors; else it writes their files again.
pub fn takes_deletion_vectors(table: &Table) -> Result<bool> {
    let is_on = table.property(DELETION_VECTORS).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let features = Protocol::of(table)?.writer_features;
    Ok(is_on && features.iter().any(|feature| feature == "deletionVectors"))
}

/// The property that says whether commits tell what they changed.
pub const CHANGE_DATA_FEED: &str = "delta.enableChangeDataFeed";

/// Whether a merge has to write change data (protocol, "Change Data Files"); of other commits files tell enough.
pub fn feeds_changes(table: &Table) -> bool {
    table.property(CHANGE_DATA_FEED).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Properties that a table can be made with, and what their values are.
const PROPERTIES: &[(&str, PropertyValue)] = &[
    (DELETION_VECTORS, PropertyValue::Switch),
    (CHANGE_DATA_FEED, PropertyValue::Switch),
    ("delta.checkpointInterval", PropertyValue::Number),
    ("delta.logRetentionDuration", PropertyValue::Interval),
    ("delta.deletedFileRetentionDuration", PropertyValue::Interval),
];

/// Fails with [`Code::InvalidSpec`] for properties that we can't make a table with, and for values that they can't have.
pub fn check_properties(table: &TableName, properties: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in properties {
        let Some((_, kind)) = PROPERTIES.iter().find(|(known, _)| known == key) else {
            let known: Vec<&str> = PROPERTIES.iter().map(|(key, _)| *key).collect();
            return Err(Error::new(
                Code::InvalidSpec,
                format!("table {table} can't be made with the property `{key}`"),
            )
            .hint(format!("properties that can be set: {}", known.join(", "))));
        };
        let (good, what) = match kind {
            PropertyValue::Switch => (matches!(value.as_str(), "true" | "false"), "`true` or `false`"),
            PropertyValue::Number => (value.parse::<u64>().is_ok_and(|n| n > 0), "a number from 1 on"),
            PropertyValue::Interval => (is_interval(value), "an interval, such as `interval 7 days`"),
        };
        if !good {
            return Err(Error::new(
                Code::InvalidSpec,
                format!("table {table}: the property `{key}` can't be `{value}`"),
            )
            .hint(format!("its value is {what}")));
        }
    }
    Ok(())
}

enum PropertyValue {
    Switch,
    Number,
    Interval,
}

fn is_interval(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["interval", number, unit] = words.as_slice() else { return false };
    let units = ["second", "minute", "hour", "day", "week"];
    number.parse::<u64>().is_ok() && units.contains(&unit.strip_suffix('s').unwrap_or(unit))
}

/// The protocol of a new table with this schema and these properties; where it can be, the oldest readers can read it.
pub fn protocol_for(schema: &StructType, properties: &BTreeMap<String, String>) -> Value {
    let is_on = |key: &str| properties.get(key).is_some_and(|value| value == "true");
    let (vectors, changes, ntz) = (is_on(DELETION_VECTORS), is_on(CHANGE_DATA_FEED), schema::has_ntz(schema));
    if vectors || ntz {
        let both = [(vectors, "deletionVectors"), (ntz, TIMESTAMP_NTZ)];
        let both: Vec<&str> = both.into_iter().filter(|(is_on, _)| *is_on).map(|(_, feature)| feature).collect();
        let more = changes.then_some("changeDataFeed");
        let features: Vec<&str> = both.iter().copied().chain(more).collect();
        return json!({
            "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": both, "writerFeatures": features,
        });
    }
    json!({ "minReaderVersion": 1, "minWriterVersion": if changes { 4 } else { 2 } })
}

/// Features that a writer version stands for, before tables named their features.
const BY_WRITER_VERSION: &[(i32, &str)] = &[
    (2, "appendOnly"),
    (2, "invariants"),
    (3, "checkConstraints"),
    (4, "changeDataFeed"),
    (4, "generatedColumns"),
    (5, "columnMapping"),
    (6, "identityColumns"),
];

/// The protocol that a table needs when it gets this schema; none where the one that it has will do.
pub(crate) fn protocol_with(table: &Table, schema: &StructType) -> Result<Option<Value>> {
    let Protocol { reader, writer, mut reader_features, mut writer_features } = Protocol::of(table)?;
    if !schema::has_ntz(schema) || reader_features.iter().any(|feature| feature == TIMESTAMP_NTZ) {
        return Ok(None);
    }
    if writer < 7 {
        let implied = BY_WRITER_VERSION.iter().filter(|(version, _)| *version <= writer);
        writer_features = implied.map(|(_, feature)| feature.to_string()).collect();
    }
    if reader == 2 {
        reader_features = vec!["columnMapping".to_string()];
    }
    reader_features.push(TIMESTAMP_NTZ.to_string());
    writer_features.push(TIMESTAMP_NTZ.to_string());
    Ok(Some(json!({
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": reader_features, "writerFeatures": writer_features,
    })))
}

/// How the table's columns are found in its files; [`Code::UnsupportedTable`] for a way that is not known.
pub(crate) fn mapping(table: &Table) -> Result<Mapping> {
    let Some(mode) = table.property("delta.columnMapping.mode") else { return Ok(Mapping::None) };
    let protocol = Protocol::of(table)?;
    // The property counts only where the protocol has the feature.
    if protocol.reader != 2 && !protocol.reader_features.iter().any(|feature| feature == "columnMapping") {
        return Ok(Mapping::None);
    }
    match mode.to_lowercase().as_str() {
        "none" => Ok(Mapping::None),
        "name" => Ok(Mapping::Name),
        "id" => Ok(Mapping::Id),
        _ => Err(refuse(table, "read", &format!("column mapping by `{mode}` (delta.columnMapping.mode)"))),
    }
}

/// Whether files may hold narrower types than the table's columns.
pub(crate) fn widening(table: &Table) -> Result<bool> {
    Ok(Protocol::of(table)?.reader_features.iter().any(|feature| feature.starts_with("typeWidening")))
}

/// Columns of a change data feed.
const FEED: [&str; 3] = [CHANGE_TYPE, "_commit_version", "_commit_timestamp"];

/// Fails with [`Code::UnsupportedTable`], naming feature and table, when files of ours would break a promise the table makes.
///
/// `removes` tells whether the job replaces rows (overwrite and merge do), which an append-only table forbids.
pub fn check_writable(table: &Table, removes: bool) -> Result<()> {
    check_readable(table)?;
    if mapping(table)? != Mapping::None {
        return Err(refuse(table, "written", "column mapping (delta.columnMapping.mode)"));
    }
    if feeds_changes(table)
        && let Some(column) = table.schema().fields().map(|field| field.name.as_str()).find(|name| FEED.contains(name))
    {
        return Err(refuse(table, "written", &format!("the change data feed and has a column `{column}` of its own")));
    }
    let protocol = Protocol::of(table)?;
    if protocol.writer > 7 {
        return Err(refuse(table, "written", &format!("writer version {}", protocol.writer)));
    }
    if let Some(feature) = protocol.writer_features.iter().find(|feature| !WRITABLE.contains(&feature.as_str())) {
        return Err(refuse(table, "written", &format!("the table feature `{feature}`")));
    }
    let is_on = |key: &str| table.property(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let switches = [
        ("delta.appendOnly", "append-only (delta.appendOnly)", removes),
        ("delta.enableInCommitTimestamps", "in-commit timestamps (delta.enableInCommitTimestamps)", true),
        ("delta.enableRowTracking", "row tracking (delta.enableRowTracking)", true),
    ];
    if let Some((_, what, _)) = switches.iter().find(|(key, _, matters)| *matters && is_on(key)) {
        return Err(refuse(table, "written", what));
    }
    if let Some(key) =
        table.snapshot().metadata().configuration().keys().find(|key| key.starts_with("delta.constraints."))
    {
        return Err(refuse(table, "written", &format!("the CHECK constraint `{key}`")));
    }
    let schema = table.schema();
    let promises = [
        ("delta.invariants", "an invariant"),
        ("delta.generationExpression", "a generated column"),
        ("delta.identity.", "an identity column"),
        ("CURRENT_DEFAULT", "a column default"),
    ];
    for (key, what) in promises {
        if let Some(column) = schema.fields().find_map(|field| column_with(field, key)) {
            return Err(refuse(table, "written", &format!("{what} (`{column}`)")));
        }
    }
    if !table.partition_columns().is_empty() {
        return Err(refuse(table, "written", &format!("partitions ({})", table.partition_columns().join(", "))));
    }
    Ok(())
}

/// The first column, nested ones included, that carries a metadata key.
fn column_with(field: &StructField, key: &str) -> Option<String> {
    if field.metadata.keys().any(|name| name.starts_with(key)) {
        return Some(field.name.clone());
    }
    fn inner(data_type: &DataType, key: &str) -> Option<String> {
        match data_type {
            DataType::Struct(fields) => fields.fields().find_map(|field| column_with(field, key)),
            DataType::Array(array) => inner(&array.element_type, key),
            DataType::Map(map) => inner(&map.key_type, key).or_else(|| inner(&map.value_type, key)),
            DataType::Primitive(_) | DataType::Variant(_) => None,
        }
    }
    inner(&field.data_type, key).map(|name| format!("{}.{name}", field.name))
}

/// The variant column of a field, nested ones included.
fn variant(field: &StructField) -> Option<String> {
    fn inner(data_type: &DataType) -> Option<String> {
        match data_type {
            DataType::Struct(fields) => fields.fields().find_map(variant).map(|name| format!(".{name}")),
            DataType::Array(array) => inner(&array.element_type),
            DataType::Map(map) => inner(&map.key_type).or_else(|| inner(&map.value_type)),
            DataType::Variant(_) => Some(String::new()),
            DataType::Primitive(_) => None,
        }
    }
    inner(&field.data_type).map(|rest| format!("{}{rest}", field.name))
}

fn refuse(table: &Table, verb: &str, what: &str) -> Error {
    Error::new(Code::UnsupportedTable, format!("table {} can't be {verb}: it uses {what}", table.name()))
        .hint("drop the feature from the table, or let the engine that made the table do this")
}

/// Versions and features by their names in the log, unknown ones included.
pub(crate) struct Protocol {
    pub(crate) reader: i32,
    pub(crate) writer: i32,
    pub(crate) reader_features: Vec<String>,
    pub(crate) writer_features: Vec<String>,
}

impl Protocol {
    pub(crate) fn of(table: &Table) -> Result<Self> {
        let protocol = table.snapshot().protocol();
        let json = serde_json::to_value(protocol).map_err(|error| {
            Error::new(Code::Internal, format!("the protocol of table {} has no JSON form: {error}", table.name()))
        })?;
        let names = |key: &str| {
            let list = json.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(Value::as_str).map(str::to_string).collect()
        };
        Ok(Self {
            reader: protocol.min_reader_version(),
            writer: protocol.min_writer_version(),
            reader_features: names("readerFeatures"),
            writer_features: names("writerFeatures"),
        })
    }
}
