//! What is to be known of a version's columns: kinds of values and their conflicts, and what is new or gone since the version before.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Fields, Schema, SchemaRef};

use super::{
    infer::{JsonType, Kind, Observed, RawSchema},
    manifest::{Manifest, Part, RawFormat},
    table::known_columns,
    zone::RawZone,
};
use crate::{
    error::{Code, Result},
    names::RawVersion,
    sql::type_name,
};

/// Versions before one that are looked at for a kept schema.
const LOOK_BACK: usize = 30;

/// A field of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldReport {
    /// `a.b` in an object, `xs[].b` in the items of an array.
    pub path: String,
    /// Type as Spark SQL spells it.
    pub type_name: String,
    /// Its values by kind, where they were counted.
    pub kinds: Vec<KindReport>,
    /// They are of kinds that only a string can hold all.
    pub conflict: bool,
}

/// Values of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindReport {
    /// Kind.
    pub kind: Kind,
    /// Values.
    pub values: u64,
    /// Part with the first of them.
    pub part: String,
    /// Offset of its record in the part.
    pub offset: u64,
    /// Line of its record, from 1.
    pub line: u64,
}

/// What a version's columns are, and how they differ from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaReport {
    /// Fields, nested ones after what they are in. Empty when nothing is known, as of JSON that no table without a declared schema was made of.
    pub fields: Vec<FieldReport>,
    /// The version that it is compared with.
    pub previous: Option<RawVersion>,
    /// Fields that the version before did not have.
    pub new: Vec<String>,
    /// Fields that only the version before had.
    pub vanished: Vec<String>,
    /// Fields that a declared schema does not have.
    pub undeclared: Vec<String>,
    /// Fields that only a declared schema has.
    pub missing: Vec<String>,
}

/// Reports on a version without reading its records: from the kept schema of JSON, a CSV header, a Parquet footer.
///
/// The version before is the newest one of which as much is known. A comparison with `declared` is made where something is known.
pub async fn schema_report(zone: &RawZone, manifest: &Manifest, declared: Option<&SchemaRef>) -> Result<SchemaReport> {
    let Some(fields) = fields_of(zone, manifest).await? else { return Ok(SchemaReport::default()) };
    let mut report = SchemaReport { fields, ..SchemaReport::default() };
    let paths: Vec<&str> = report.fields.iter().map(|field| field.path.as_str()).collect();
    let versions = zone.list_versions(&manifest.source).await?;
    let older = versions.into_iter().filter(|version| *version < manifest.version).take(LOOK_BACK);
    for version in older {
        let before = zone.get(&manifest.source, Some(&version)).await?;
        if before.format != manifest.format {
            continue;
        }
        // What can't be read any more says nothing of this version.
        if let Ok(Some(before)) = fields_of(zone, &before).await {
            let before: Vec<&str> = before.iter().map(|field| field.path.as_str()).collect();
            (report.new, report.vanished) = (only_in(&paths, &before), only_in(&before, &paths));
            report.previous = Some(version);
            break;
        }
    }
    if let Some(declared) = declared.filter(|_| manifest.format == RawFormat::Json) {
        let declared = of_schema(declared);
        let declared: Vec<&str> = declared.iter().map(|field| field.path.as_str()).collect();
        (report.undeclared, report.missing) = (only_in(&paths, &declared), only_in(&declared, &paths));
    }
    Ok(report)
}

async fn fields_of(zone: &RawZone, manifest: &Manifest) -> Result<Option<Vec<FieldReport>>> {
    if manifest.format == RawFormat::Json {
        let kept = zone.schema(&manifest.source, &manifest.version).await?;
        return Ok(kept.map(|kept| of_json(&kept, manifest)));
    }
    match known_columns(zone, manifest, None).await {
        Ok(columns) => Ok(columns.map(|columns| of_schema(&columns))),
        Err(error) if error.code == Code::EmptySource => Ok(None),
        Err(error) => Err(error),
    }
}

/// Paths of `some` that are not in `others`, without those in a field that is not there as a whole.
fn only_in(some: &[&str], others: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for path in some.iter().filter(|path| !others.contains(path)) {
        let within = |outer: &String| {
            path.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]"))
        };
        if !found.iter().any(within) {
            found.push((*path).to_string());
        }
    }
    found
}

fn of_json(schema: &RawSchema, manifest: &Manifest) -> Vec<FieldReport> {
    let mut fields = Vec::new();
    match (&schema.seen, &schema.record) {
        (Some(seen), _) => {
            for (name, field) in &seen.fields {
                add_seen(name.clone(), field, manifest, &mut fields);
            }
        }
        (None, JsonType::Struct(names)) => add_types("", names, &mut fields),
        (None, _) => {}
    }
    fields
}

fn add_seen(path: String, seen: &Observed, manifest: &Manifest, fields: &mut Vec<FieldReport>) {
    let json_type = seen.json_type();
    let part = |index: u32| {
        let part = usize::try_from(index).ok().and_then(|index| manifest.parts.get(index));
        part.map(Part::text_name).unwrap_or_default()
    };
    let kind = |(kind, seen): (Kind, super::infer::KindSeen)| KindReport {
        kind,
        values: seen.count,
        part: part(seen.first.part),
        offset: seen.first.offset,
        line: seen.first.line,
    };
    fields.push(FieldReport {
        path: path.clone(),
        type_name: type_name(&json_type.data_type()),
        kinds: seen.kinds().map(kind).collect(),
        conflict: seen.conflicts(),
    });
    // What is inside a conflict is text.
    if seen.conflicts() {
        return;
    }
    if let Some(item) = &seen.item
        && (item.conflicts() || !item.fields.is_empty())
    {
        add_seen(format!("{path}[]"), item, manifest, fields);
    }
    for (name, field) in &seen.fields {
        add_seen(format!("{path}.{name}"), field, manifest, fields);
    }
}

fn add_types(outer: &str, types: &BTreeMap<String, JsonType>, fields: &mut Vec<FieldReport>) {
    for (name, json_type) in types {
        let path = if outer.is_empty() { name.clone() } else { format!("{outer}.{name}") };
        add_columns(path, &json_type.data_type(), fields);
    }
}

fn of_schema(schema: &Schema) -> Vec<FieldReport> {
    let mut fields = Vec::new();
    for field in schema.fields() {
        add_columns(field.name().clone(), field.data_type(), &mut fields);
    }
    fields
}

fn add_columns(path: String, data_type: &DataType, fields: &mut Vec<FieldReport>) {
    let inner = |path: &str, inner: &Fields, fields: &mut Vec<FieldReport>| {
        for field in inner {
            add_columns(format!("{path}.{}", field.name()), field.data_type(), fields);
        }
    };
    let type_name = type_name(data_type);
    fields.push(FieldReport { path: path.clone(), type_name, kinds: Vec::new(), conflict: false });
    match data_type {
        DataType::Struct(children) => inner(&path, children, fields),
        DataType::List(item) => {
            if let DataType::Struct(_) = item.data_type() {
                add_columns(format!("{path}[]"), item.data_type(), fields);
            }
        }
        _ => {}
    }
}
