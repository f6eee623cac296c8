//! `--only`: a part of a pipeline.

use std::collections::{BTreeSet, HashSet};

use trireme_proto::v1;

use crate::{
    error::{Error, Result},
    names::did_you_mean,
};

/// Keeps the named sources, tables and questions, and the sources that kept tables are made of. No name keeps all.
///
/// A name that is a source's and a table's keeps both. A question runs on the tables as they are: which ones it reads is known only to
/// the scheduler, so name those too that should be made anew.
pub fn select(mut pipeline: v1::Pipeline, only: &[String]) -> Result<v1::Pipeline> {
    if only.is_empty() {
        return Ok(pipeline);
    }
    let only: HashSet<&str> = only.iter().map(String::as_str).collect();
    let known: BTreeSet<&str> = (pipeline.downloads.iter().map(|part| part.source.as_str()))
        .chain(pipeline.loads.iter().map(|part| table(&part.spec)))
        .chain(pipeline.merges.iter().map(|part| table(&part.spec)))
        .chain(pipeline.questions.iter().map(|part| part.table.as_str()))
        .collect();
    if let Some(name) = only.iter().find(|name| !known.contains(*name)) {
        return Err(Error::invalid(format!(
            "--only {name}: the pipeline has no source, table or question of this name"
        ))
        .hint(did_you_mean(name, known)));
    }
    pipeline.loads.retain(|part| only.contains(table(&part.spec)));
    pipeline.merges.retain(|part| only.contains(table(&part.spec)));
    pipeline.questions.retain(|part| only.contains(part.table.as_str()));
    let needed: HashSet<String> = (pipeline.loads.iter().map(|part| &part.spec))
        .chain(pipeline.merges.iter().map(|part| &part.spec))
        .filter_map(|spec| spec.as_ref()?.source.as_ref())
        .map(|source| source.source.clone())
        .collect();
    pipeline.downloads.retain(|part| only.contains(part.source.as_str()) || needed.contains(&part.source));
    Ok(pipeline)
}

fn table(spec: &Option<v1::TableSpec>) -> &str {
    spec.as_ref().map_or("", |spec| spec.table.as_str())
}
