//! What a CSV file's header, or a declared schema, says its columns are.

use std::{collections::HashSet, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::decoder::first_record;
use crate::{
    error::{Code, Error, Result},
    raw::{
        json::lex::Stop,
        manifest::{Manifest, Part},
        stored::{Stored, TextFile, text_path},
        zone::RawZone,
    },
};

/// Longest header that is read.
const MAX_HEADER: u64 = 16 * 1024 * 1024;

/// The columns of a CSV version: its header's names as strings, or the declared ones, which must be the header's in number and name.
///
/// # Errors
/// `EmptySource` without a header; `BadRecord` when a name is there twice or parts differ; `SchemaMismatch` when the declared columns are others.
pub async fn csv_schema(zone: &RawZone, manifest: &Manifest, declared: Option<&SchemaRef>) -> Result<SchemaRef> {
    let mut first: Option<Vec<String>> = None;
    for part in &manifest.parts {
        let names = names(zone, manifest, part).await?;
        match &first {
            None => first = Some(names),
            Some(first) if *first == names => {}
            Some(first) => {
                return Err(Error::new(
                    Code::BadRecord,
                    format!(
                        "{}@{}: the header of {} is {}, that of {} is {}",
                        manifest.source,
                        manifest.version,
                        manifest.parts[0].shown(),
                        first.join(","),
                        part.shown(),
                        names.join(",")
                    ),
                ));
            }
        }
    }
    let names = first.ok_or_else(|| empty(manifest))?;
    let Some(declared) = declared else {
        let fields = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true));
        return Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())));
    };
    let declared_names: Vec<_> = declared.fields().iter().map(|field| field.name().clone()).collect();
    if declared_names != names {
        return Err(Error::new(
            Code::SchemaMismatch,
            format!(
                "{}@{} has the columns {}; its declared schema has {}",
                manifest.source,
                manifest.version,
                names.join(", "),
                declared_names.join(", ")
            ),
        )
        .hint("declare every column of the header, in its order"));
    }
    Ok(declared.clone())
}

async fn names(zone: &RawZone, manifest: &Manifest, part: &Part) -> Result<Vec<String>> {
    let folder = zone.folder(&manifest.source, &manifest.version);
    let stored = Arc::new(Stored::of(part, &folder));
    let text_file = TextFile { store: zone.storage().store(), path: text_path(part, &folder), stored };
    let bytes = part.text_bytes();
    let file = format!("{}@{} ({})", manifest.source, manifest.version, manifest.origin);
    let mut to = bytes.min(64 * 1024);
    let record = loop {
        if to == 0 {
            return Err(empty(manifest));
        }
        let text = text_file.read(0..to).await?;
        match first_record(&text, to == bytes) {
            Ok(Some(record)) => break record,
            Ok(None) => return Err(empty(manifest)),
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
    let mut names = Vec::with_capacity(record.len());
    let mut seen = HashSet::new();
    for (index, name) in record.into_iter().enumerate() {
        let name = String::from_utf8(name)
            .map_err(|_| Error::new(Code::BadRecord, format!("{file}: line 1: field {} is not UTF-8", index + 1)))?;
        let name = if name.is_empty() { format!("_c{index}") } else { name };
        if !seen.insert(name.clone()) {
            return Err(Error::new(Code::BadRecord, format!("{file}: line 1: the header has `{name}` twice"))
                .hint("column names must differ; the first line of a CSV file is its header"));
        }
        names.push(name);
    }
    Ok(names)
}

/// There is nothing in a version to read.
pub(crate) fn empty(manifest: &Manifest) -> Error {
    let file = format!("{}@{} ({})", manifest.source, manifest.version, manifest.origin);
    Error::new(Code::EmptySource, format!("{file} has no record")).hint("the delivery is empty; nothing was changed")
}
