//! The shape of a pipeline file, with the place of everything in it.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter, Spanned, UserMessageFormatter};

use trireme_proto::v1;

use crate::{names::nearest, text::TextArguments};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PipelineFile {
    pub name: Spanned<String>,
    pub sources: Option<Entries<SourceEntry>>,
    pub tables: Option<Entries<TableEntry>>,
    pub questions: Option<Entries<QuestionEntry>>,
}

/// One source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceEntry {
    pub from: Spanned<String>,
    pub format: Option<Spanned<String>>,
    pub schema: Option<Spanned<String>>,
    pub credentials: Option<Spanned<String>>,
    pub checksum: Option<Spanned<String>>,
    pub delimiter: Option<String>,
    pub quote: Option<String>,
    pub escape: Option<String>,
    pub encoding: Option<String>,
    pub null_value: Option<String>,
    pub header: Option<bool>,
}

impl SourceEntry {
    /// How its text is written.
    pub fn text(&self) -> Option<v1::TextOptions> {
        let arguments = TextArguments {
            delimiter: self.delimiter.clone(),
            quote: self.quote.clone(),
            escape: self.escape.clone(),
            encoding: self.encoding.clone(),
            null_value: self.null_value.clone(),
            header: self.header,
        };
        arguments.options()
    }
}

/// One table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableEntry {
    pub source: Spanned<String>,
    pub mode: Spanned<String>,
    #[serde(default)]
    pub primary_key: Vec<Spanned<String>>,
    pub r#where: Option<Spanned<String>>,
    #[serde(default)]
    pub columns: Vec<Spanned<String>>,
    pub order_by: Option<Spanned<String>>,
    pub latest_by: Option<Spanned<String>>,
    pub earliest_by: Option<Spanned<String>>,
    pub schema_evolution: Option<Spanned<String>>,
    pub on_bad_record: Option<Spanned<String>>,
    pub max_bad_records: Option<Spanned<u64>>,
    #[serde(default)]
    pub expect: Vec<ExpectationEntry>,
    pub properties: Option<Entries<Spanned<String>>>,
    pub when_matched: Option<Spanned<ClauseEntries>>,
    pub when_not_matched: Option<Spanned<ClauseEntries>>,
    pub when_not_matched_by_source: Option<Spanned<String>>,
    #[serde(default)]
    pub update: Vec<Spanned<String>>,
    pub valid_from: Option<Spanned<String>>,
    #[serde(default)]
    pub sort_by: Vec<Spanned<String>>,
}

/// Clauses of a merge, written as `update`, as `update_if: PREDICATE`, or as a list of both.
///
/// Each is a word, and its predicate if it has one.
#[derive(Debug)]
pub(super) struct ClauseEntries(pub Vec<(String, Option<String>)>);

/// One expectation of a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectationEntry {
    pub name: Spanned<String>,
    pub check: Spanned<String>,
    pub on_failure: Option<Spanned<String>>,
}

/// One question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuestionEntry {
    pub sql: Spanned<String>,
    #[serde(default)]
    pub sort_by: Vec<Spanned<String>>,
}

/// A mapping in the file's order, with the places of its keys. YAML's own check refuses a key that is there twice.
#[derive(Debug)]
pub(super) struct Entries<T>(pub Vec<(Spanned<String>, T)>);

impl<T> Entries<T> {
    /// The entries of a section that may be missing or empty.
    pub fn of(section: &Option<Self>) -> &[(Spanned<String>, T)] {
        section.as_ref().map_or(&[], |entries| &entries.0)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from names to their settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for ClauseEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClausesVisitor;

        impl<'de> Visitor<'de> for ClausesVisitor {
            type Value = ClauseEntries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word such as `ignore`, a clause such as `update_if: PREDICATE`, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
                Ok(ClauseEntries(vec![(word.to_string(), None)]))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((word, condition)) = map.next_entry()? {
                    entries.push((word, Some(condition)));
                }
                Ok(ClauseEntries(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(ClauseEntries(more)) = list.next_element()? {
                    entries.extend(more);
                }
                Ok(ClauseEntries(entries))
            }
        }

        deserializer.deserialize_any(ClausesVisitor)
    }
}

/// What is wrong with the text of a file, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    /// 1-based; 0 when unknown.
    pub line: u64,
    /// 1-based, in characters; 0 when unknown.
    pub column: u64,
    pub message: String,
    pub hint: String,
}

/// Reads the file's text. Nothing in it is replaced by environment variables, so that a file means the same everywhere.
pub(super) fn parse(text: &str) -> Result<PipelineFile, Wrong> {
    let options = serde_saphyr::options! { with_snippet: false, duplicate_keys: DuplicateKeyPolicy::Error };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| describe(&error))
}

fn describe(error: &serde_saphyr::Error) -> Wrong {
    let (line, column) = error.location().map_or((0, 0), |location| (location.line(), location.column()));
    let mut error = error.without_snippet();
    while let serde_saphyr::Error::AliasError { error: inner, .. } = error {
        error = inner;
    }
    let (message, hint) = match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            let keys = expected.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let hint = match nearest(field, expected.iter().copied()) {
                Some(key) => format!("did you mean `{key}`?"),
                None => format!("the keys here are {keys}"),
            };
            (format!("unknown key `{field}`"), hint)
        }
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            (format!("`{field}` is missing"), format!("add `{field}: …` here"))
        }
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("a key");
            (format!("`{key}` is there twice"), "give each its own name, or remove one".to_string())
        }
        serde_saphyr::Error::Eof { .. } => {
            ("the file is empty".to_string(), "a pipeline has `name`, `sources`, `tables` and `questions`".to_string())
        }
        serde_saphyr::Error::Unexpected { expected: "mapping start", .. } => {
            ("expected a mapping".to_string(), "write it as `key: value` lines, or as `{ key: value }`".to_string())
        }
        serde_saphyr::Error::Unexpected { expected: "sequence start", .. } => {
            ("expected a list".to_string(), "write it as `[a, b]`, or as lines that start with `- `".to_string())
        }
        serde_saphyr::Error::Unexpected { expected: "string scalar", .. } => (
            "expected a text".to_string(),
            "put it in quotes when it has `: ` or ` #` in it, or starts with a bracket".to_string(),
        ),
        other => (
            UserMessageFormatter.format_message(other).to_string(),
            "see `trireme run --help` for the shape of a pipeline file".to_string(),
        ),
    };
    Wrong { line, column, message, hint }
}
