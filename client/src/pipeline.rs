//! The pipeline file: read, checked, and turned into the spec that the scheduler gets.
//!
//! Every error names file, line and column. What only the scheduler can know (SQL, cycles between questions, whether tables exist) it
//! reports with the [`v1::Location`]s sent along.

mod file;
mod selection;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde_saphyr::Spanned;
use trireme_proto::v1;

use crate::{
    clauses,
    error::{Error, Result},
    names::{check_source, check_table, did_you_mean},
    origin::Origin,
};

use file::Entries;
pub use selection::select;

/// Reads and checks a pipeline file.
///
/// `files_are_ours` says that the executors run on this machine, so that every local file must be here; else only relative ones must.
pub fn read(path: &Path, files_are_ours: bool) -> Result<v1::Pipeline> {
    let text = fs::read_to_string(path).map_err(|error| {
        Error::invalid(format!("can't read the pipeline file {}: {error}", path.display()))
            .hint("give the path of a pipeline file, see `trireme run --help`")
    })?;
    let reader = Reader {
        file: path.display().to_string(),
        folder: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        files_are_ours,
    };
    reader.read(&text)
}

struct Reader {
    /// As the user named it.
    file: String,
    folder: PathBuf,
    files_are_ours: bool,
}

/// What a table needs to know of its source.
struct Source {
    format: v1::RawFormat,
    schema: String,
    text: Option<v1::TextOptions>,
}

impl Reader {
    fn read(&self, text: &str) -> Result<v1::Pipeline> {
        let file = file::parse(text).map_err(|wrong| {
            Error::invalid(format!("{}:{}:{}: {}", self.file, wrong.line, wrong.column, wrong.message)).hint(wrong.hint)
        })?;
        if file.name.value.trim().is_empty() {
            return Err(self
                .wrong(&file.name, "the pipeline's name is empty")
                .hint("give it a name, such as the folder's"));
        }
        let mut pipeline = v1::Pipeline { name: file.name.value.clone(), ..Default::default() };

        let mut sources = HashMap::new();
        for (name, entry) in Entries::of(&file.sources) {
            let download = self.download(name, entry)?;
            let schema = entry.schema.as_ref().map(|schema| schema.value.clone()).unwrap_or_default();
            sources.insert(name.value.as_str(), Source { format: download.format(), schema, text: entry.text() });
            pipeline.downloads.push(download);
        }
        for (name, entry) in Entries::of(&file.tables) {
            let spec = Some(self.table(name, entry, &sources)?);
            match entry.mode.value.as_str() {
                "overwrite" => pipeline.loads.push(v1::Load { spec }),
                "merge" | "history" if entry.primary_key.is_empty() => {
                    return Err(self
                        .wrong(name, format!("table {} is merged, but has no `primary_key`", name.value))
                        .hint("add `primary_key: [column, …]`, or use `mode: overwrite`"));
                }
                "merge" | "history" => pipeline.merges.push(v1::Merge { spec }),
                mode => {
                    return Err(self
                        .wrong(&entry.mode, format!("unknown mode `{mode}` of table {}", name.value))
                        .hint("`mode` is `merge`, `history` or `overwrite`"));
                }
            }
        }
        for (name, entry) in Entries::of(&file.questions) {
            if let Some((table, _)) = Entries::of(&file.tables).iter().find(|(table, _)| table.value == name.value) {
                return Err(self.wrong(name, format!("`{}` is both a table and a question", name.value)).hint(
                    format!(
                        "the table is at line {}; give the question's result its own name",
                        table.referenced.line()
                    ),
                ));
            }
            pipeline.questions.push(self.question(name, entry)?);
        }
        Ok(pipeline)
    }

    fn download(&self, name: &Spanned<String>, entry: &file::SourceEntry) -> Result<v1::Download> {
        check_source(&name.value).map_err(|error| self.at(name, error))?;
        let origin = Origin::parse(&entry.from.value, &self.folder).map_err(|error| self.at(&entry.from, error))?;
        origin.check(self.files_are_ours).map_err(|error| self.at(&entry.from, error))?;
        for (text, key) in
            [(&entry.schema, "schema"), (&entry.credentials, "credentials"), (&entry.checksum, "checksum")]
        {
            if let Some(text) = text {
                self.not_empty(text, key)?;
            }
        }
        let value = |item: &Option<Spanned<String>>| item.as_ref().map(|item| item.value.clone()).unwrap_or_default();
        Ok(v1::Download {
            source: name.value.clone(),
            from: origin.url.into(),
            format: self.format(entry.format.as_ref())?.into(),
            location: Some(self.location(name)),
            credentials: value(&entry.credentials),
            checksum: value(&entry.checksum),
            text: entry.text(),
        })
    }

    fn format(&self, format: Option<&Spanned<String>>) -> Result<v1::RawFormat> {
        match format.map(|format| (format, format.value.as_str())) {
            None => Ok(v1::RawFormat::Unspecified),
            Some((_, "json")) => Ok(v1::RawFormat::Json),
            Some((_, "csv")) => Ok(v1::RawFormat::Csv),
            Some((_, "parquet")) => Ok(v1::RawFormat::Parquet),
            Some((place, format)) => Err(self.wrong(place, format!("unknown format `{format}`")).hint(
                "`format` is `json` (an array of records, or one record a line), `csv` or `parquet`; \
                 left out, it is told from the file's name",
            )),
        }
    }

    fn table(
        &self,
        name: &Spanned<String>,
        entry: &file::TableEntry,
        sources: &HashMap<&str, Source>,
    ) -> Result<v1::TableSpec> {
        check_table(&name.value).map_err(|error| self.at(name, error))?;
        let Some(source) = sources.get(entry.source.value.as_str()) else {
            let mut known: Vec<&str> = sources.keys().copied().collect();
            known.sort_unstable();
            let hint = did_you_mean(&entry.source.value, known);
            return Err(self
                .wrong(&entry.source, format!("there is no source `{}`", entry.source.value))
                .hint(if hint.is_empty() { "name it under `sources`".to_string() } else { hint }));
        };
        for (items, key) in [
            (&entry.primary_key, "primary_key"),
            (&entry.columns, "columns"),
            (&entry.update, "update"),
            (&entry.sort_by, "sort_by"),
        ] {
            for item in items {
                self.not_empty(item, key)?;
            }
        }
        if let Some(twice) = repeated(&entry.primary_key) {
            return Err(self
                .wrong(twice, format!("`{}` is in `primary_key` twice", twice.value))
                .hint("remove one of them"));
        }
        for (text, key) in [(&entry.r#where, "where"), (&entry.order_by, "order_by"), (&entry.valid_from, "valid_from")]
        {
            if let Some(text) = text {
                self.not_empty(text, key)?;
            }
        }
        let schema_evolution = match entry.schema_evolution.as_ref().map(|value| (value, value.value.as_str())) {
            None => v1::SchemaEvolution::Unspecified,
            Some((_, "add_columns")) => v1::SchemaEvolution::AddColumns,
            Some((place, value)) => {
                return Err(self.wrong(place, format!("unknown schema_evolution `{value}`")).hint(
                    "`schema_evolution` is `add_columns`, or left out: then the table's columns stay as they are",
                ));
            }
        };
        let on_bad_record = match entry.on_bad_record.as_ref().map(|value| (value, value.value.as_str())) {
            None | Some((_, "fail")) => v1::OnBadRecord::Unspecified,
            Some((_, "quarantine")) => v1::OnBadRecord::Quarantine,
            Some((place, value)) => {
                return Err(self
                    .wrong(place, format!("unknown on_bad_record `{value}`"))
                    .hint("`on_bad_record` is `fail` (the default) or `quarantine`"));
            }
        };
        let expect =
            entry.expect.iter().map(|expectation| self.expectation(expectation)).collect::<Result<Vec<_>>>()?;
        let names: Vec<Spanned<String>> = entry.expect.iter().map(|expectation| expectation.name.clone()).collect();
        if let Some(twice) = repeated(&names) {
            return Err(self
                .wrong(twice, format!("expectation `{}` is there twice", twice.value))
                .hint("give each its own name"));
        }
        let when_matched =
            self.clauses(&entry.when_matched, "when_matched", clauses::when_matched, clauses::WHEN_MATCHED_HINT)?;
        let mut when_not_matched = self.clauses(
            &entry.when_not_matched,
            "when_not_matched",
            clauses::when_not_matched,
            clauses::WHEN_NOT_MATCHED_HINT,
        )?;
        if let (true, Some(place)) = (when_not_matched.len() > 1, &entry.when_not_matched) {
            let error = Error::invalid("`when_not_matched` has several clauses").hint("join their predicates with OR");
            return Err(self.at_line(place.referenced.line(), place.referenced.column(), error));
        }
        let when_not_matched = when_not_matched.pop();
        let by_source = match &entry.when_not_matched_by_source {
            None => v1::NotMatchedBySource::Unspecified,
            Some(place) => clauses::by_source(&place.value).ok_or_else(|| {
                self.wrong(place, format!("unknown when_not_matched_by_source `{}`", place.value))
                    .hint(clauses::BY_SOURCE_HINT)
            })?,
        };
        let orders: Vec<&Spanned<String>> =
            [&entry.order_by, &entry.latest_by, &entry.earliest_by].into_iter().flatten().collect();
        if let [_, second, ..] = orders.as_slice() {
            return Err(self
                .wrong(second, format!("table {} says twice which row of a key stays", name.value))
                .hint("give one of `latest_by` (or `order_by`) and `earliest_by`"));
        }
        let history = match (entry.mode.value.as_str(), &entry.valid_from) {
            ("history", valid_from) => {
                let valid_from = valid_from.as_ref().map(|column| column.value.clone()).unwrap_or_default();
                Some(v1::History { valid_from })
            }
            (_, None) => None,
            (mode, Some(place)) => {
                return Err(self
                    .wrong(place, format!("`valid_from` of table {}, whose mode is `{mode}`", name.value))
                    .hint("only `mode: history` has it"));
            }
        };
        let merges = !when_matched.is_empty()
            || when_not_matched.is_some()
            || entry.when_not_matched_by_source.is_some()
            || !entry.update.is_empty();
        if merges && entry.mode.value != "merge" {
            return Err(self
                .wrong(
                    &entry.mode,
                    format!("table {} has clauses of a merge, and its mode is `{}`", name.value, entry.mode.value),
                )
                .hint("`when_…` and `update` go with `mode: merge`"));
        }
        let values = |items: &[Spanned<String>]| items.iter().map(|item| item.value.clone()).collect();
        let value = |item: &Option<Spanned<String>>| item.as_ref().map(|item| item.value.clone()).unwrap_or_default();
        Ok(v1::TableSpec {
            table: name.value.clone(),
            source: Some(v1::SourceRef {
                source: entry.source.value.clone(),
                version: String::new(),
                format: source.format.into(),
                schema: source.schema.clone(),
                text: source.text.clone(),
                // A merged table gets every delivery that it does not hold yet, an overwritten one only the newest.
                versions: matches!(entry.mode.value.as_str(), "merge" | "history")
                    .then(|| v1::Versions { pending: true, ..v1::Versions::default() }),
            }),
            columns: values(&entry.columns),
            primary_key: values(&entry.primary_key),
            r#where: value(&entry.r#where),
            order_by: value(&entry.order_by.clone().or_else(|| entry.latest_by.clone())),
            earliest_by: value(&entry.earliest_by),
            schema_evolution: schema_evolution.into(),
            location: Some(self.location(name)),
            on_bad_record: on_bad_record.into(),
            max_bad_records: entry.max_bad_records.as_ref().map(|most| most.value),
            expect,
            properties: Entries::of(&entry.properties)
                .iter()
                .map(|(key, value)| (key.value.clone(), value.value.clone()))
                .collect(),
            when_matched,
            when_not_matched,
            when_not_matched_by_source: by_source.into(),
            update: values(&entry.update),
            history,
            sort_by: values(&entry.sort_by),
            force: false,
        })
    }

    /// Clauses of a merge, each as `read` takes it.
    fn clauses(
        &self,
        entries: &Option<Spanned<file::ClauseEntries>>,
        key: &str,
        read: fn(&str, Option<&str>) -> Option<v1::MergeClause>,
        hint: &str,
    ) -> Result<Vec<v1::MergeClause>> {
        let Some(place) = entries else { return Ok(Vec::new()) };
        let wrong = |message: String| Error::invalid(message).hint(hint);
        let at = |error: Error| self.at_line(place.referenced.line(), place.referenced.column(), error);
        if place.value.0.is_empty() {
            return Err(at(wrong(format!("`{key}` is empty"))));
        }
        let clause = |(word, condition): &(String, Option<String>)| {
            if condition.as_ref().is_some_and(|condition| condition.trim().is_empty()) {
                return Err(at(wrong(format!("`{word}` of {key} has an empty predicate"))));
            }
            let clause = read(word, condition.as_deref());
            clause.ok_or_else(|| match condition {
                Some(_) => at(wrong(format!("`{word}` of {key} is nothing that has a predicate"))),
                None => at(wrong(format!("unknown {key} `{word}`"))),
            })
        };
        place.value.0.iter().map(clause).collect()
    }

    fn expectation(&self, entry: &file::ExpectationEntry) -> Result<v1::Expectation> {
        self.not_empty(&entry.name, "name")?;
        self.not_empty(&entry.check, "check")?;
        let on_failure = match &entry.on_failure {
            None => v1::OnFailure::Unspecified,
            Some(place) => on_failure(&place.value).ok_or_else(|| {
                self.wrong(place, format!("unknown on_failure `{}`", place.value)).hint(ON_FAILURE_HINT)
            })?,
        };
        Ok(v1::Expectation {
            name: entry.name.value.clone(),
            check: entry.check.value.clone(),
            on_failure: on_failure.into(),
        })
    }

    fn question(&self, name: &Spanned<String>, entry: &file::QuestionEntry) -> Result<v1::Question> {
        check_table(&name.value).map_err(|error| self.at(name, error))?;
        for column in &entry.sort_by {
            self.not_empty(column, "sort_by")?;
        }
        let path = self.folder.join(&entry.sql.value);
        Ok(v1::Question {
            table: name.value.clone(),
            sql: read_sql(&path).map_err(|error| self.at(&entry.sql, error))?,
            sql_file: path.display().to_string(),
            location: Some(self.location(name)),
            sort_by: entry.sort_by.iter().map(|column| column.value.clone()).collect(),
        })
    }

    fn not_empty(&self, text: &Spanned<String>, key: &str) -> Result<()> {
        if text.value.trim().is_empty() {
            return Err(self
                .wrong(text, format!("`{key}` has an empty text"))
                .hint("write what it should be, or remove it"));
        }
        Ok(())
    }

    fn location(&self, place: &Spanned<String>) -> v1::Location {
        let number = |n: u64| u32::try_from(n).unwrap_or(0);
        v1::Location {
            file: self.file.clone(),
            line: number(place.referenced.line()),
            column: number(place.referenced.column()),
        }
    }

    fn wrong(&self, place: &Spanned<String>, message: impl Into<String>) -> Error {
        self.at(place, Error::invalid(message))
    }

    fn at(&self, place: &Spanned<String>, error: Error) -> Error {
        self.at_line(place.referenced.line(), place.referenced.column(), error)
    }

    fn at_line(&self, line: u64, column: u64, error: Error) -> Error {
        Error { message: format!("{}:{line}:{column}: {}", self.file, error.message), ..error }
    }
}

/// Has a pipeline's merged tables get these versions instead of those that are pending, and all its tables whatever they hold.
pub fn with_versions(mut pipeline: v1::Pipeline, versions: Option<v1::Versions>, force: bool) -> v1::Pipeline {
    for spec in pipeline.merges.iter_mut().filter_map(|merge| merge.spec.as_mut()) {
        spec.force = force;
        if let (Some(source), Some(versions)) = (&mut spec.source, &versions) {
            source.versions = Some(versions.clone());
        }
    }
    pipeline.loads.iter_mut().filter_map(|load| load.spec.as_mut()).for_each(|spec| spec.force = force);
    pipeline
}

/// What `on_failure` may be.
pub const ON_FAILURE_HINT: &str = "`on_failure` is `fail` (the default), `quarantine` or `warn`";

/// What becomes of a row that fails an expectation; none for an unknown word.
pub fn on_failure(word: &str) -> Option<v1::OnFailure> {
    match word {
        "fail" => Some(v1::OnFailure::Unspecified),
        "quarantine" => Some(v1::OnFailure::Quarantine),
        "warn" => Some(v1::OnFailure::Warn),
        _ => None,
    }
}

fn repeated(items: &[Spanned<String>]) -> Option<&Spanned<String>> {
    items
        .iter()
        .enumerate()
        .find(|(i, item)| items[..*i].iter().any(|other| other.value == item.value))
        .map(|(_, item)| item)
}

/// Reads a question's SQL.
pub fn read_sql(path: &Path) -> Result<String> {
    let sql = fs::read_to_string(path).map_err(|error| {
        Error::invalid(format!("can't read the SQL file {}: {error}", path.display()))
            .hint("`sql` is the path of a file with one SELECT, relative to the pipeline file")
    })?;
    if sql.trim().is_empty() {
        return Err(
            Error::invalid(format!("the SQL file {} is empty", path.display())).hint("write one SELECT into it")
        );
    }
    Ok(sql)
}
