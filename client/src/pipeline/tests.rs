use std::fs;

use tempfile::TempDir;

use super::*;

/// A folder with what the pipelines below name: raw data and SQL.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/reviews.json"), "[]").unwrap();
    fs::write(folder.path().join("data/streams.csv"), "a\n").unwrap();
    fs::write(folder.path().join("q.sql"), "SELECT 1 AS one").unwrap();
    fs::write(folder.path().join("empty.sql"), " \n").unwrap();
    folder
}

fn read_text(folder: &TempDir, text: &str) -> Result<v1::Pipeline> {
    let path = folder.path().join("p.yaml");
    fs::write(&path, text).unwrap();
    read(&path, false)
}

/// The error of a pipeline file as `message | hint`, with the folder taken out.
fn wrong(text: &str) -> String {
    let folder = folder();
    let error = read_text(&folder, text).expect_err("it should be wrong");
    assert_eq!(error.exit() as u8, 64);
    assert!(!error.hint.is_empty(), "no hint: {}", error.message);
    format!("{} | {}", error.message, error.hint).replace(&format!("{}/", folder.path().display()), "")
}

const GOOD: &str = "\
name: books-and-movies
sources:
  vendor.reviews: { from: data/reviews.json, format: json, credentials: vendor, checksum: auto }
  stream.streams:
    from: s3://bucket/streams.csv
    format: csv
    schema: a INT, b STRING
tables:
  vendor.reviews:
    source: vendor.reviews
    mode: merge                        # or overwrite
    primary_key: [created_at]
    where: created IS NOT NULL
    columns:
      - lower(content.text) AS text
      - transform(books, x -> lower(x.metadata.title)) AS book_titles
      - \"'${HOME}' AS home\"
    earliest_by: created_at
    schema_evolution: add_columns
    on_bad_record: quarantine
    max_bad_records: 10
    expect:
      - { name: has text, check: text IS NOT NULL, on_failure: warn }
      - { name: has titles, check: size(book_titles) > 0 }
  stream.streams: { source: stream.streams, mode: overwrite, sort_by: [b, a] }
questions:
  analytics.one: { sql: q.sql, sort_by: [one] }
";

#[test]
fn a_pipeline_is_read() {
    let folder = folder();
    let root = folder.path().display();
    let pipeline = read_text(&folder, GOOD).unwrap();
    let at = |line, column| Some(v1::Location { file: format!("{root}/p.yaml"), line, column });
    let expected = v1::Pipeline {
        name: "books-and-movies".into(),
        downloads: vec![
            v1::Download {
                source: "vendor.reviews".into(),
                from: format!("file://{root}/data/reviews.json"),
                format: v1::RawFormat::Json.into(),
                location: at(3, 3),
                credentials: "vendor".into(),
                checksum: "auto".into(),
                text: None,
            },
            v1::Download {
                source: "stream.streams".into(),
                from: "s3://bucket/streams.csv".into(),
                format: v1::RawFormat::Csv.into(),
                location: at(4, 3),
                ..Default::default()
            },
        ],
        loads: vec![v1::Load {
            spec: Some(v1::TableSpec {
                table: "stream.streams".into(),
                source: Some(v1::SourceRef {
                    source: "stream.streams".into(),
                    format: v1::RawFormat::Csv.into(),
                    schema: "a INT, b STRING".into(),
                    ..Default::default()
                }),
                location: at(25, 3),
                sort_by: vec!["b".into(), "a".into()],
                ..Default::default()
            }),
        }],
        merges: vec![v1::Merge {
            spec: Some(v1::TableSpec {
                table: "vendor.reviews".into(),
                source: Some(v1::SourceRef {
                    source: "vendor.reviews".into(),
                    format: v1::RawFormat::Json.into(),
                    versions: Some(v1::Versions { pending: true, ..Default::default() }),
                    ..Default::default()
                }),
                columns: vec![
                    "lower(content.text) AS text".into(),
                    "transform(books, x -> lower(x.metadata.title)) AS book_titles".into(),
                    "'${HOME}' AS home".into(),
                ],
                primary_key: vec!["created_at".into()],
                r#where: "created IS NOT NULL".into(),
                earliest_by: "created_at".into(),
                sort_by: vec![],
                schema_evolution: v1::SchemaEvolution::AddColumns.into(),
                location: at(9, 3),
                on_bad_record: v1::OnBadRecord::Quarantine.into(),
                max_bad_records: Some(10),
                expect: vec![
                    v1::Expectation {
                        name: "has text".into(),
                        check: "text IS NOT NULL".into(),
                        on_failure: v1::OnFailure::Warn.into(),
                    },
                    v1::Expectation {
                        name: "has titles".into(),
                        check: "size(book_titles) > 0".into(),
                        on_failure: v1::OnFailure::Unspecified.into(),
                    },
                ],
                ..v1::TableSpec::default()
            }),
        }],
        questions: vec![v1::Question {
            table: "analytics.one".into(),
            sql: "SELECT 1 AS one".into(),
            sql_file: format!("{root}/q.sql"),
            location: at(27, 3),
            sort_by: vec!["one".into()],
        }],
    };
    assert_eq!(pipeline, expected);
}

#[test]
fn clauses_are_a_word_a_mapping_or_a_list() {
    let folder = folder();
    let clause = |action: v1::MergeAction, condition: &str| v1::MergeClause {
        action: action.into(),
        condition: condition.into(),
    };
    let table = |keys: &str| {
        let text = format!(
            "name: x\nsources:\n  a.s: {{ from: data/reviews.json }}\ntables:\n  a.t:\n    source: a.s\n    primary_key: [k]\n{keys}"
        );
        let mut pipeline = read_text(&folder, &text).unwrap_or_else(|error| panic!("{}", error.message));
        pipeline.merges.remove(0).spec.unwrap()
    };
    let spec = table(
        "    mode: merge\n    when_matched:\n      - delete_if: source.op = 'D'\n      - update\n    when_not_matched: { insert_if: op <> 'D' }\n    \
         when_not_matched_by_source: delete\n    update: [a, b]\n    properties:\n      delta.enableDeletionVectors: false\n      delta.checkpointInterval: 5\n",
    );
    let deletes = clause(v1::MergeAction::Delete, "source.op = 'D'");
    assert_eq!(spec.when_matched, [deletes, clause(v1::MergeAction::Update, "")]);
    assert_eq!(spec.when_not_matched, Some(clause(v1::MergeAction::Insert, "op <> 'D'")));
    assert_eq!(spec.when_not_matched_by_source(), v1::NotMatchedBySource::Delete);
    assert_eq!(spec.update, ["a", "b"]);
    assert_eq!(spec.properties["delta.enableDeletionVectors"], "false");
    assert_eq!(spec.properties["delta.checkpointInterval"], "5");
    let spec = table("    mode: merge\n    when_matched: ignore\n");
    assert_eq!(spec.when_matched, [clause(v1::MergeAction::Ignore, "")]);
    let spec = table("    mode: history\n    valid_from: at\n");
    assert_eq!(spec.history, Some(v1::History { valid_from: "at".into() }));
    assert!(spec.source.unwrap().versions.unwrap().pending);
}

#[test]
fn sections_may_be_missing_or_empty() {
    let folder = folder();
    for text in ["name: x\n", "name: x\nsources:\ntables: {}\nquestions: ~\n"] {
        let pipeline = read_text(&folder, text).unwrap();
        assert_eq!(pipeline, v1::Pipeline { name: "x".into(), ..Default::default() });
    }
}

#[test]
fn every_error_has_its_place_and_a_way_out() {
    let source = "name: x\nsources:\n  a.s: { from: data/reviews.json }\n";
    let cases = [
        // The file's shape.
        ("", "p.yaml:1:1: the file is empty | a pipeline has `name`, `sources`, `tables` and `questions`"),
        ("- a\n", "p.yaml:1:1: expected a mapping | write it as `key: value` lines, or as `{ key: value }`"),
        ("name: x\nname: y\n", "p.yaml:2:1: `name` is there twice | give each its own name, or remove one"),
        ("sources: {}\n", "p.yaml:1:1: `name` is missing | add `name: …` here"),
        ("name: ''\n", "p.yaml:1:7: the pipeline's name is empty | give it a name, such as the folder's"),
        ("name: x\nsource: {}\n", "p.yaml:2:1: unknown key `source` | did you mean `sources`?"),
        (
            "name: x\nschedules: {}\n",
            "p.yaml:2:1: unknown key `schedules` | the keys here are `name`, `sources`, `tables`, `questions`",
        ),
        (
            "name: x\nsources: [a]\n",
            "p.yaml:2:10: expected a mapping | write it as `key: value` lines, or as `{ key: value }`",
        ),
        (
            "name: x\nsources:\n  a.s: { from: data/reviews.json, from: y }\n",
            "p.yaml:3:35: `from` is there twice | give each its own name, or remove one",
        ),
        (
            "name: x\nsources:\n  a.s: { from: data/reviews.json }\n  a.s: { from: data/streams.csv }\n",
            "p.yaml:4:3: `a.s` is there twice | give each its own name, or remove one",
        ),
        (
            "name: x\nsources:\n  a.s:\n",
            "p.yaml:3:6: expected a mapping | write it as `key: value` lines, or as `{ key: value }`",
        ),
        (
            "name: x\nsources:\n\ta.s: 1\n",
            "p.yaml:3:2: tabs disallowed within this context (block indentation) | see `trireme run --help` for the shape of a pipeline file",
        ),
        (
            "name: x\nquestions: { a.q: { sql: q.sql }\n",
            "p.yaml:2:12: unclosed bracket '{' | see `trireme run --help` for the shape of a pipeline file",
        ),
        // Bad records and expectations.
        (
            &format!("{source}tables:\n  a.t: {{ source: a.s, mode: overwrite, on_bad_record: skip }}\n"),
            "p.yaml:5:55: unknown on_bad_record `skip` | `on_bad_record` is `fail` (the default) or `quarantine`",
        ),
        (
            &format!(
                "{source}tables:\n  a.t: {{ source: a.s, mode: overwrite, expect: [{{ name: a, check: x, on_failure: drop }}] }}\n"
            ),
            "p.yaml:5:82: unknown on_failure `drop` | `on_failure` is `fail` (the default), `quarantine` or `warn`",
        ),
        (
            &format!(
                "{source}tables:\n  a.t: {{ source: a.s, mode: overwrite, expect: [{{ name: a, check: x }}, {{ name: a, check: y }}] }}\n"
            ),
            "p.yaml:5:80: expectation `a` is there twice | give each its own name",
        ),
        // Clauses of a merge.
        (
            &format!(
                "{source}tables:\n  a.t: {{ source: a.s, mode: merge, primary_key: [x], when_matched: replace }}\n"
            ),
            "p.yaml:5:68: unknown when_matched `replace` | `when_matched` is `update`, `update_if: PREDICATE`, `delete_if: PREDICATE` or `ignore`, or a list of them",
        ),
        (
            &format!(
                "{source}tables:\n  a.t: {{ source: a.s, mode: merge, primary_key: [x], when_matched: {{ ignore: y }} }}\n"
            ),
            "p.yaml:5:68: `ignore` of when_matched is nothing that has a predicate | `when_matched` is `update`, `update_if: PREDICATE`, `delete_if: PREDICATE` or `ignore`, or a list of them",
        ),
        (
            &format!(
                "{source}tables:\n  a.t: {{ source: a.s, mode: merge, primary_key: [x], when_not_matched: [insert, ignore] }}\n"
            ),
            "p.yaml:5:72: `when_not_matched` has several clauses | join their predicates with OR",
        ),
        (
            &format!("{source}tables:\n  a.t: {{ source: a.s, mode: overwrite, update: [x] }}\n"),
            "p.yaml:5:29: table a.t has clauses of a merge, and its mode is `overwrite` | `when_…` and `update` go with `mode: merge`",
        ),
        (
            &format!("{source}tables:\n  a.t: {{ source: a.s, mode: merge, primary_key: [x], valid_from: y }}\n"),
            "p.yaml:5:66: `valid_from` of table a.t, whose mode is `merge` | only `mode: history` has it",
        ),
        // Sources.
        (
            "name: x\nsources:\n  reviews: { from: data/reviews.json }\n",
            "p.yaml:3:3: `reviews` is not a source name | a source is named `group.name`, in lower-case letters, digits and `_`, each part starting with a letter",
        ),
        (
            "name: x\nsources:\n  a.s: { from: data/none.json }\n",
            "p.yaml:3:16: the file data/none.json is not there | an origin is a path (in a pipeline file relative to that file), or a URL: file:///path, https://host/path, sftp://host/path, ftp://host/path, s3://bucket/path; `*` and a `/` at the end mean many files",
        ),
        (
            "name: x\nsources:\n  a.s: { from: data }\n",
            "p.yaml:3:16: the file data is a folder; end it with `/` for all files in it | an origin is a path (in a pipeline file relative to that file), or a URL: file:///path, https://host/path, sftp://host/path, ftp://host/path, s3://bucket/path; `*` and a `/` at the end mean many files",
        ),
        (
            "name: x\nsources:\n  a.s: { from: 'http://' }\n",
            "p.yaml:3:16: `http://` is not a URL: empty host | an origin is a path (in a pipeline file relative to that file), or a URL: file:///path, https://host/path, sftp://host/path, ftp://host/path, s3://bucket/path; `*` and a `/` at the end mean many files",
        ),
        (
            "name: x\nsources:\n  a.s: { from: data/reviews.json, format: jsonl }\n",
            "p.yaml:3:43: unknown format `jsonl` | `format` is `json` (an array of records, or one record a line), `csv` or `parquet`; left out, it is told from the file's name",
        ),
        (
            "name: x\nsources:\n  a.s: { form: data/reviews.json }\n",
            "p.yaml:3:10: unknown key `form` | did you mean `from`?",
        ),
        (
            "name: x\nsources:\n  a.s: { from: data/reviews.json, schema: '' }\n",
            "p.yaml:3:43: `schema` has an empty text | write what it should be, or remove it",
        ),
        (
            "name: x\nsources: { a.s: { from: 's3://é/ü.csv', schema: '' } }\n",
            "p.yaml:2:49: `schema` has an empty text | write what it should be, or remove it",
        ),
        // Tables.
        (
            "{source}tables:\n  a.T: { source: a.s, mode: overwrite }\n",
            "p.yaml:5:3: `a.T` is not a table name | a table is named `schema.name`, in lower-case letters, digits and `_`, each part starting with a letter",
        ),
        (
            "{source}tables:\n  a.t: { source: a.z, mode: overwrite }\n",
            "p.yaml:5:18: there is no source `a.z` | did you mean `a.s`?",
        ),
        (
            "name: x\ntables:\n  a.t: { source: a.s, mode: overwrite }\n",
            "p.yaml:3:18: there is no source `a.s` | name it under `sources`",
        ),
        ("{source}tables:\n  a.t: { source: a.s }\n", "p.yaml:5:10: `mode` is missing | add `mode: …` here"),
        (
            "{source}tables:\n  a.t: { source: a.s, mode: append }\n",
            "p.yaml:5:29: unknown mode `append` of table a.t | `mode` is `merge`, `history` or `overwrite`",
        ),
        (
            "{source}tables:\n  a.t: { source: a.s, mode: merge }\n",
            "p.yaml:5:3: table a.t is merged, but has no `primary_key` | add `primary_key: [column, …]`, or use `mode: overwrite`",
        ),
        (
            "{source}tables:\n  a.t: { source: a.s, mode: merge, primary_key: id }\n",
            "p.yaml:5:49: expected a list | write it as `[a, b]`, or as lines that start with `- `",
        ),
        (
            "{source}tables:\n  a.t: { source: a.s, mode: merge, primary_key: [id, id] }\n",
            "p.yaml:5:54: `id` is in `primary_key` twice | remove one of them",
        ),
        (
            "{source}tables:\n  a.t: { source: a.s, mode: merge, primary_keys: [id] }\n",
            "p.yaml:5:36: unknown key `primary_keys` | did you mean `primary_key`?",
        ),
        (
            "{source}tables:\n  a.t:\n    source: a.s\n    mode: overwrite\n    columns:\n      - x\n      - ''\n",
            "p.yaml:10:9: `columns` has an empty text | write what it should be, or remove it",
        ),
        (
            "{source}tables:\n  a.t:\n    source: a.s\n    mode: overwrite\n    columns:\n      - x: y\n",
            "p.yaml:9:9: expected a text | put it in quotes when it has `: ` or ` #` in it, or starts with a bracket",
        ),
        (
            "{source}tables:\n  a.t: { source: a.s, mode: overwrite, where: '' }\n",
            "p.yaml:5:47: `where` has an empty text | write what it should be, or remove it",
        ),
        (
            "{source}tables:\n  a.t: { source: a.s, mode: overwrite, schema_evolution: yes }\n",
            "p.yaml:5:58: unknown schema_evolution `yes` | `schema_evolution` is `add_columns`, or left out: then the table's columns stay as they are",
        ),
        // Questions.
        (
            "name: x\nquestions:\n  one: { sql: q.sql }\n",
            "p.yaml:3:3: `one` is not a table name | a table is named `schema.name`, in lower-case letters, digits and `_`, each part starting with a letter",
        ),
        (
            "name: x\nquestions:\n  a.q: { sql: none.sql }\n",
            "p.yaml:3:15: can't read the SQL file none.sql: No such file or directory (os error 2) | `sql` is the path of a file with one SELECT, relative to the pipeline file",
        ),
        (
            "name: x\nquestions:\n  a.q: { sql: empty.sql }\n",
            "p.yaml:3:15: the SQL file empty.sql is empty | write one SELECT into it",
        ),
        (
            "name: x\nquestions:\n  a.q: q.sql\n",
            "p.yaml:3:8: expected a mapping | write it as `key: value` lines, or as `{ key: value }`",
        ),
        (
            "{source}tables:\n  a.t: { source: a.s, mode: overwrite }\nquestions:\n  a.t: { sql: q.sql }\n",
            "p.yaml:7:3: `a.t` is both a table and a question | the table is at line 5; give the question's result its own name",
        ),
    ];
    for (text, expected) in cases {
        let text = text.replace("{source}", source);
        assert_eq!(wrong(&text), expected, "{text}");
    }
}

#[test]
fn a_missing_pipeline_file_is_wrong_usage() {
    let error = read(Path::new("/none/p.yaml"), false).unwrap_err();
    assert_eq!(error.exit() as u8, 64);
    assert!(error.message.contains("/none/p.yaml"));
}

#[test]
fn local_files_must_be_here_when_the_executors_are() {
    let folder = folder();
    let path = folder.path().join("p.yaml");
    fs::write(&path, "name: x\nsources:\n  a.s: { from: /none/x.csv }\n  b.s: { from: 'file:///none/y.csv' }\n")
        .unwrap();
    read(&path, false).unwrap();
    let error = read(&path, true).unwrap_err();
    assert!(error.message.ends_with("p.yaml:3:16: the file /none/x.csv is not there"), "{}", error.message);
}

#[test]
fn only_keeps_what_is_named_and_what_it_is_made_of() {
    let folder = folder();
    let pipeline = read_text(&folder, GOOD).unwrap();
    let kept = |only: &[&str]| {
        let only: Vec<String> = only.iter().map(ToString::to_string).collect();
        let kept = select(pipeline.clone(), &only).unwrap();
        let names = [
            kept.downloads.iter().map(|part| format!("download {}", part.source)).collect::<Vec<_>>(),
            kept.loads.iter().map(|part| format!("load {}", part.spec.as_ref().unwrap().table)).collect(),
            kept.merges.iter().map(|part| format!("merge {}", part.spec.as_ref().unwrap().table)).collect(),
            kept.questions.iter().map(|part| format!("question {}", part.table)).collect(),
        ];
        names.concat().join(", ")
    };
    assert_eq!(
        kept(&[]),
        "download vendor.reviews, download stream.streams, load stream.streams, merge vendor.reviews, question analytics.one"
    );
    assert_eq!(kept(&["analytics.one"]), "question analytics.one");
    assert_eq!(kept(&["vendor.reviews"]), "download vendor.reviews, merge vendor.reviews");
    assert_eq!(
        kept(&["stream.streams", "analytics.one"]),
        "download stream.streams, load stream.streams, question analytics.one"
    );
    let error = select(pipeline, &["vendor.review".to_string()]).unwrap_err();
    assert_eq!((error.exit() as u8, error.hint.as_str()), (64, "did you mean `vendor.reviews`?"));
}

#[test]
fn a_table_of_another_sources_name_takes_that_source_along() {
    let folder = folder();
    let text = "name: x\nsources:\n  raw.a: { from: data/reviews.json }\n  raw.b: { from: data/streams.csv }\n\
                tables:\n  t.a: { source: raw.a, mode: overwrite }\n  t.b: { source: raw.b, mode: overwrite }\n";
    let kept = select(read_text(&folder, text).unwrap(), &["t.b".to_string()]).unwrap();
    assert_eq!(kept.downloads.iter().map(|part| part.source.as_str()).collect::<Vec<_>>(), ["raw.b"]);
    let kept = select(read_text(&folder, text).unwrap(), &["raw.a".to_string()]).unwrap();
    assert_eq!((kept.downloads.len(), kept.loads.len()), (1, 0));
}
