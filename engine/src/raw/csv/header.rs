//! What a CSV file's header, or a declared schema, says its columns are.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    compute::can_cast_types,
    datatypes::{DataType, Field, Schema, SchemaRef},
};

use super::decoder::first_record;
use crate::{
    error::{Code, Error, Result},
    raw::{
        json::lex::Stop,
        manifest::{Manifest, Part},
        stored::{Stored, TextFile, text_path},
        zone::RawZone,
    },
    sql::type_name,
};

/// Longest header that is read.
const MAX_HEADER: u64 = 16 * 1024 * 1024;

/// The columns of a CSV version: its header's names as strings (`_c0`, `_c1` … without a header), or the declared ones, which must be the header's in
/// number and name. None where no part has a record and nothing is declared.
///
/// # Errors
/// `BadRecord` when a name is there twice or parts differ; `SchemaMismatch` when the declared columns are others; `InvalidSpec` for declared types that a
/// field of CSV can't have.
pub async fn csv_schema(
    zone: &RawZone,
    manifest: &Manifest,
    declared: Option<&SchemaRef>,
) -> Result<Option<SchemaRef>> {
    let mut first: Option<(&Part, Vec<String>)> = None;
    for part in &manifest.parts {
        // One without a record has no header either.
        let Some(names) = names(zone, manifest, part).await? else { continue };
        match &first {
            None => first = Some((part, names)),
            Some((_, first)) if *first == names => {}
            Some((shown, first)) => {
                let header = manifest.options.csv.dialect.header;
                let what = |names: &[String]| match header {
                    true => names.join(","),
                    false => format!("{} fields", names.len()),
                };
                let of = if header { "header" } else { "first record" };
                return Err(Error::new(
                    Code::BadRecord,
                    format!(
                        "{}@{}: the {of} of {} is {}, that of {} is {}",
                        manifest.source,
                        manifest.version,
                        shown.shown(),
                        what(first),
                        part.shown(),
                        what(&names)
                    ),
                ));
            }
        }
    }
    if let Some(declared) = declared {
        check_types(declared)?;
    }
    let Some((_, names)) = first else { return Ok(declared.cloned()) };
    let Some(declared) = declared else {
        let fields = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true));
        return Ok(Some(Arc::new(Schema::new(fields.collect::<Vec<_>>()))));
    };
    let declared_names: Vec<_> = declared.fields().iter().map(|field| field.name().clone()).collect();
    let (source, version) = (&manifest.source, &manifest.version);
    if !manifest.options.csv.dialect.header && declared_names.len() != names.len() {
        let (found, wanted) = (names.len(), declared_names.len());
        let message =
            format!("{source}@{version} has records of {found} fields; its declared schema has {wanted} columns");
        return Err(Error::new(Code::SchemaMismatch, message).hint("declare a column for every field, in their order"));
    }
    if manifest.options.csv.dialect.header && declared_names != names {
        return Err(Error::new(
            Code::SchemaMismatch,
            format!(
                "{source}@{version} has the columns {}; its declared schema has {}",
                names.join(", "),
                declared_names.join(", ")
            ),
        )
        .hint(
            "declare every column of the header, in its order; without a header say `header: false`, and with another delimiter than a comma `delimiter`",
        ));
    }
    Ok(Some(declared.clone()))
}

fn check_types(declared: &Schema) -> Result<()> {
    let can = |data_type: &DataType| !data_type.is_nested() && can_cast_types(&DataType::Utf8, data_type);
    match declared.fields().iter().find(|field| !can(field.data_type())) {
        Some(field) => Err(Error::new(
            Code::InvalidSpec,
            format!("CSV can't be read as `{}` {}", field.name(), type_name(field.data_type())),
        )
        .hint("declare the column as a string and convert it by an expression")),
        None => Ok(()),
    }
}

/// The names of a part's fields; none if it has no record.
async fn names(zone: &RawZone, manifest: &Manifest, part: &Part) -> Result<Option<Vec<String>>> {
    let folder = zone.folder(&manifest.source, &manifest.version);
    let stored = Arc::new(Stored::of(part, &folder));
    let text_file = TextFile { store: zone.storage().store(), path: text_path(part, &folder), stored };
    let bytes = part.text_bytes();
    let dialect = manifest.options.csv.dialect;
    let file = format!("{}@{} ({})", manifest.source, manifest.version, manifest.origin);
    let mut to = bytes.min(64 * 1024);
    let record = loop {
        if to == 0 {
            return Ok(None);
        }
        let text = text_file.read(0..to).await?;
        match first_record(&text, dialect, to == bytes) {
            Ok(Some(record)) => break record,
            Ok(None) => return Ok(None),
            Err(Stop::Incomplete) if to < MAX_HEADER && to < bytes => to = bytes.min(to * 8),
            Err(Stop::Incomplete) => {
                return Err(Error::new(Code::BadRecord, format!("{file}: line 1: the header does not end"))
                    .hint("is this CSV? the format can be given with `format:`"));
            }
            Err(Stop::Bad(bad)) => {
                return Err(Error::new(
                    Code::BadRecord,
                    format!("{file}: line 1, column {}: {}", bad.at + 1, bad.what),
                ));
            }
        }
    };
    if !dialect.header {
        return Ok(Some((0..record.len()).map(|index| format!("_c{index}")).collect()));
    }
    let mut names = Vec::with_capacity(record.len());
    let mut seen = HashSet::new();
    for (index, name) in record.into_iter().enumerate() {
        let name = String::from_utf8(name).map_err(|_| {
            Error::new(Code::BadRecord, format!("{file}: line 1: field {} is not UTF-8", index + 1))
                .hint("say how its letters are encoded by the option `encoding`, such as ISO-8859-1 or windows-1252")
        })?;
        let name = if name.is_empty() { format!("_c{index}") } else { name };
        if !seen.insert(name.clone()) {
            return Err(Error::new(Code::BadRecord, format!("{file}: line 1: the header has `{name}` twice"))
                .hint("column names must differ; the first line of a CSV file is its header, unless the option `header: false` says that there is none"));
        }
        names.push(name);
    }
    Ok(Some(names))
}

/// There is nothing in a version to read.
pub(crate) fn empty(manifest: &Manifest) -> Error {
    let file = format!("{}@{} ({})", manifest.source, manifest.version, manifest.origin);
    let what = if manifest.records() == Some(0) { "has no record" } else { "has no record with a field" };
    Error::new(Code::EmptySource, format!("{file} {what}, and no version before it says what its columns are"))
        .hint("declare them by a `schema` of the source; nothing of it was applied")
}
