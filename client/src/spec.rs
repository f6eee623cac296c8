//! Specs of one-off jobs, made from flags.

use std::path::Path;

use trireme_proto::v1::{self, job_spec::Spec};

use crate::{
    arguments::{
        ClauseArguments, NotMatchedBySource, OnBadRecord, RangeArguments, RawCommand, RawFormat, SchemaEvolution,
        TableArguments, VersionsArguments,
    },
    clauses,
    error::{Error, Result},
    names::{check_source, check_table},
    origin::Origin,
    pipeline::{on_failure, read_sql},
    text::TextArguments,
};

/// `download`; a relative path starts at the current folder.
pub fn download(
    from: &str,
    to: &str,
    format: Option<RawFormat>,
    credentials: Option<&str>,
    checksum: Option<&str>,
    text: &TextArguments,
    files_are_ours: bool,
) -> Result<Spec> {
    check_source(to)?;
    let origin = Origin::parse(from, Path::new(""))?;
    origin.check(files_are_ours)?;
    Ok(Spec::Download(v1::Download {
        source: to.to_string(),
        from: origin.url.into(),
        format: raw_format(format),
        location: None,
        credentials: credentials.unwrap_or_default().to_string(),
        checksum: checksum.unwrap_or_default().to_string(),
        text: text.options(),
    }))
}

/// `raw adopt`
pub fn adopt(source: &str, format: Option<RawFormat>, text: &TextArguments) -> Result<Spec> {
    let (source, version) = source_and_version(source)?;
    Ok(Spec::Adopt(v1::Adopt { source, version, format: raw_format(format), text: text.options() }))
}

/// `raw skip`, `unskip`, `supersede` and `drop`; none for other commands.
pub fn mark(command: &RawCommand) -> Result<Option<v1::MarkVersionRequest>> {
    let (text, action, reason, by) = match command {
        RawCommand::Skip { source, reason } => (source, v1::MarkAction::Skip, reason.as_str(), ""),
        RawCommand::Unskip { source } => (source, v1::MarkAction::Unskip, "", ""),
        RawCommand::Supersede { source, by, reason } => {
            (source, v1::MarkAction::Supersede, reason.as_str(), by.as_str())
        }
        RawCommand::Drop { source, yes: false, .. } => {
            return Err(Error::invalid(format!("the files of {source} would be gone for good"))
                .hint("add --yes if that is meant; `trireme raw skip` only leaves the version out"));
        }
        RawCommand::Drop { source, reason, .. } => (source, v1::MarkAction::Drop, reason.as_str(), ""),
        RawCommand::List | RawCommand::Show { .. } | RawCommand::Adopt { .. } => return Ok(None),
    };
    let (source, version) = source_and_version(text)?;
    if version.is_empty() {
        return Err(Error::invalid(format!("`{text}` names no version"))
            .hint(format!("write {source}@VERSION; `trireme raw show {source}` lists the versions")));
    }
    // Only from one source to another would it matter which.
    let by = by.rsplit('@').next().unwrap_or_default().to_string();
    let user = std::env::var("USER").unwrap_or_default();
    Ok(Some(v1::MarkVersionRequest { source, version, action: action.into(), reason: reason.to_string(), user, by }))
}

/// `load`
pub fn load(table: &TableArguments, primary_key: &[String]) -> Result<Spec> {
    Ok(Spec::Load(v1::Load { spec: Some(table_spec(table, primary_key)?) }))
}

/// `merge`
pub fn merge(
    table: &TableArguments,
    primary_key: &[String],
    versions: &VersionsArguments,
    when: &ClauseArguments,
) -> Result<Spec> {
    let mut spec = table_spec(table, primary_key)?;
    clauses(&mut spec, when)?;
    if let Some(source) = &mut spec.source {
        source.versions = match versions.all_pending {
            true => Some(v1::Versions { pending: true, ..v1::Versions::default() }),
            false => range(&versions.range)?,
        };
        if source.versions.is_some() && !source.version.is_empty() {
            let both = format!("`--source {}` names one version already", table.source);
            return Err(Error::invalid(both).hint("leave the `@VERSION` out, or --versions, --since and --all-pending"));
        }
    }
    Ok(Spec::Merge(v1::Merge { spec: Some(spec) }))
}

/// `--versions A..B` or `--since A`
pub fn range(arguments: &RangeArguments) -> Result<Option<v1::Versions>> {
    if let Some(from) = &arguments.since {
        return Ok(Some(v1::Versions { from: from.clone(), to: String::new(), pending: false }));
    }
    let Some(range) = &arguments.versions else { return Ok(None) };
    let Some((from, to)) = range.split_once("..") else {
        return Err(Error::invalid(format!("--versions: `{range}` is not a range"))
            .hint("write A..B, A.. or ..B; `trireme raw show SOURCE` lists the versions"));
    };
    Ok(Some(v1::Versions { from: from.to_string(), to: to.to_string(), pending: false }))
}

/// `question`
pub fn question(sql: &Path, table: &str, sort_by: &[String]) -> Result<Spec> {
    check_table(table)?;
    Ok(Spec::Question(v1::Question {
        table: table.to_string(),
        sql: read_sql(sql)?,
        sql_file: sql.display().to_string(),
        location: None,
        sort_by: sort_by.to_vec(),
    }))
}

/// `optimize`
pub fn optimize(
    table: &str,
    z_order: &[String],
    target_size: Option<u64>,
    retired_percent: Option<u32>,
) -> Result<Spec> {
    check_table(table)?;
    Ok(Spec::Optimize(v1::Optimize {
        table: table.to_string(),
        z_order: z_order.to_vec(),
        target_size: target_size.unwrap_or_default(),
        retired_percent: retired_percent.unwrap_or_default(),
        automatic: false,
    }))
}

/// Both sides of `SOURCE[@VERSION]`; no version is an empty one.
fn source_and_version(text: &str) -> Result<(String, String)> {
    let (source, version) = text.split_once('@').unwrap_or((text, ""));
    check_source(source)?;
    if version.is_empty() && text.contains('@') {
        return Err(Error::invalid(format!("`{text}` names no version after the `@`"))
            .hint(format!("`trireme raw show {source}` lists the versions; without `@` it is the current one")));
    }
    Ok((source.to_string(), version.to_string()))
}

fn table_spec(arguments: &TableArguments, primary_key: &[String]) -> Result<v1::TableSpec> {
    check_table(&arguments.table)?;
    let (source, version) = source_and_version(&arguments.source)?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(v1::TableSpec {
        table: arguments.table.clone(),
        source: Some(v1::SourceRef {
            source,
            version,
            format: raw_format(arguments.format),
            schema: text(&arguments.schema),
            versions: None,
            text: arguments.text.options(),
        }),
        columns: arguments.columns.clone(),
        primary_key: primary_key.to_vec(),
        r#where: text(&arguments.predicate),
        order_by: text(&arguments.order_by),
        earliest_by: text(&arguments.earliest_by),
        schema_evolution: match arguments.schema_evolution {
            Some(SchemaEvolution::AddColumns) => v1::SchemaEvolution::AddColumns,
            None => v1::SchemaEvolution::Unspecified,
        }
        .into(),
        location: None,
        on_bad_record: match arguments.on_bad_record {
            OnBadRecord::Fail => v1::OnBadRecord::Unspecified,
            OnBadRecord::Quarantine => v1::OnBadRecord::Quarantine,
        }
        .into(),
        max_bad_records: arguments.max_bad_records,
        expect: arguments.expect.iter().map(|text| expectation(text)).collect::<Result<_>>()?,
        properties: arguments.properties.iter().map(|text| property(text)).collect::<Result<_>>()?,
        sort_by: arguments.sort_by.clone(),
        force: arguments.force,
        ..v1::TableSpec::default()
    })
}

/// `KEY=VALUE`
fn property(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.trim().to_string())),
        _ => Err(Error::invalid(format!("--property: `{text}` is no KEY=VALUE"))
            .hint("such as --property delta.enableChangeDataFeed=true")),
    }
}

/// `WORD[=PREDICATE]`
fn clause(
    text: &str,
    flag: &str,
    read: fn(&str, Option<&str>) -> Option<v1::MergeClause>,
    hint: &str,
) -> Result<v1::MergeClause> {
    let (word, condition) = match text.split_once('=') {
        Some((word, condition)) => (word.trim(), Some(condition.trim())),
        None => (text.trim(), None),
    };
    let clause = read(word, condition).filter(|_| condition != Some(""));
    clause.ok_or_else(|| {
        let hint = format!("{}; on the command line {flag} 'WORD=PREDICATE'", hint);
        Error::invalid(format!("{flag}: `{text}` is no clause")).hint(hint)
    })
}

fn clauses(spec: &mut v1::TableSpec, arguments: &ClauseArguments) -> Result<()> {
    let matched = |text: &String| clause(text, "--when-matched", clauses::when_matched, clauses::WHEN_MATCHED_HINT);
    spec.when_matched = arguments.when_matched.iter().map(matched).collect::<Result<_>>()?;
    let not_matched =
        |text: &String| clause(text, "--when-not-matched", clauses::when_not_matched, clauses::WHEN_NOT_MATCHED_HINT);
    spec.when_not_matched = arguments.when_not_matched.as_ref().map(not_matched).transpose()?;
    spec.when_not_matched_by_source = match arguments.when_not_matched_by_source {
        NotMatchedBySource::Keep => v1::NotMatchedBySource::Unspecified,
        NotMatchedBySource::Delete => v1::NotMatchedBySource::Delete,
    }
    .into();
    spec.update.clone_from(&arguments.update);
    let valid_from = arguments.valid_from.clone();
    spec.history = arguments.history.then(|| v1::History { valid_from: valid_from.unwrap_or_default() });
    Ok(())
}

/// `NAME[:fail|quarantine|warn]=PREDICATE`
fn expectation(text: &str) -> Result<v1::Expectation> {
    let wrong = |why: &str| {
        Error::invalid(format!("--expect: `{text}` {why}"))
            .hint("write NAME=PREDICATE, or NAME:quarantine=PREDICATE or NAME:warn=PREDICATE")
    };
    let Some((head, check)) = text.split_once('=') else { return Err(wrong("has no `=`")) };
    let (name, word) = head.split_once(':').unwrap_or((head, "fail"));
    let (name, check) = (name.trim(), check.trim());
    if name.is_empty() || check.is_empty() {
        return Err(wrong("has an empty name or predicate"));
    }
    let on_failure = on_failure(word.trim()).ok_or_else(|| wrong("says neither fail, quarantine nor warn"))?;
    Ok(v1::Expectation { name: name.to_string(), check: check.to_string(), on_failure: on_failure.into() })
}

fn raw_format(format: Option<RawFormat>) -> i32 {
    format.map_or(v1::RawFormat::Unspecified, v1::RawFormat::from).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn spec(line: &[&str]) -> Result<Spec> {
        let parsed = Arguments::try_parse_from(["trireme"].iter().chain(line)).unwrap();
        match parsed.command {
            Command::Merge { table, primary_key, versions, clauses } => {
                merge(&table, &primary_key, &versions, &clauses)
            }
            Command::Load { table, primary_key } => load(&table, &primary_key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_become_a_spec() {
        let merge = spec(&[
            "merge",
            "--table",
            "a.t",
            "--source",
            "b.s@20261122T201533123Z",
            "-t",
            "x AS y",
            "-t",
            "z",
            "--pk",
            "y",
            "--pk",
            "z",
            "--where",
            "x > 1",
            "--order-by",
            "z",
            "--schema",
            "x INT",
            "--format",
            "csv",
            "--schema-evolution",
            "add_columns",
            "--on-bad-record",
            "quarantine",
            "--max-bad-records",
            "3",
            "--expect",
            "positive=y >= 0 AND y = y",
            "--expect",
            "short: warn = length(z) < 9",
            "--sort-by",
            "y,z",
            "--delimiter",
            ";",
            "--header",
            "false",
            "--null-value",
            "-",
        ]);
        let expectation = |name: &str, check: &str, on_failure: v1::OnFailure| v1::Expectation {
            name: name.into(),
            check: check.into(),
            on_failure: on_failure.into(),
        };
        let expected = v1::TableSpec {
            table: "a.t".into(),
            source: Some(v1::SourceRef {
                source: "b.s".into(),
                version: "20261122T201533123Z".into(),
                format: v1::RawFormat::Csv.into(),
                schema: "x INT".into(),
                versions: None,
                text: Some(v1::TextOptions {
                    delimiter: Some(";".into()),
                    header: Some(false),
                    null_value: Some("-".into()),
                    ..v1::TextOptions::default()
                }),
            }),
            columns: vec!["x AS y".into(), "z".into()],
            primary_key: vec!["y".into(), "z".into()],
            r#where: "x > 1".into(),
            order_by: "z".into(),
            schema_evolution: v1::SchemaEvolution::AddColumns.into(),
            location: None,
            on_bad_record: v1::OnBadRecord::Quarantine.into(),
            max_bad_records: Some(3),
            expect: vec![
                expectation("positive", "y >= 0 AND y = y", v1::OnFailure::Unspecified),
                expectation("short", "length(z) < 9", v1::OnFailure::Warn),
            ],
            sort_by: vec!["y".into(), "z".into()],
            ..v1::TableSpec::default()
        };
        assert_eq!(merge.unwrap(), Spec::Merge(v1::Merge { spec: Some(expected) }));
    }

    #[test]
    fn clauses_of_a_merge_are_flags() {
        let merge = |more: &[&str]| {
            let line = ["merge", "--table", "a.t", "--pk", "x", "--source", "b.s"];
            let Spec::Merge(merge) = spec(&[&line, more].concat())? else { panic!("not a merge") };
            Ok::<_, Error>(merge.spec.unwrap())
        };
        let clause = |action: v1::MergeAction, condition: &str| v1::MergeClause {
            action: action.into(),
            condition: condition.into(),
        };
        let found = merge(&[
            "--when-matched",
            "delete_if=source.op = 'D'",
            "--when-matched",
            "update",
            "--when-not-matched",
            "insert_if = source.op <> 'D'",
            "--when-not-matched-by-source",
            "delete",
            "--update",
            "a",
            "--update",
            "b",
            "--property",
            "delta.enableChangeDataFeed=true",
        ])
        .unwrap();
        let deletes = clause(v1::MergeAction::Delete, "source.op = 'D'");
        assert_eq!(found.when_matched, [deletes, clause(v1::MergeAction::Update, "")]);
        assert_eq!(found.when_not_matched, Some(clause(v1::MergeAction::Insert, "source.op <> 'D'")));
        assert_eq!(found.when_not_matched_by_source(), v1::NotMatchedBySource::Delete);
        assert_eq!(found.update, ["a", "b"]);
        assert_eq!(found.properties["delta.enableChangeDataFeed"], "true");
        let history = merge(&["--history", "--valid-from", "at"]).unwrap().history;
        assert_eq!(history, Some(v1::History { valid_from: "at".into() }));
        assert_eq!(merge(&[]).unwrap().history, None);
        for wrong in [["--when-matched", "insert"], ["--when-matched", "update_if="], ["--property", "x"]] {
            assert_eq!(merge(&wrong).unwrap_err().code, "invalid-spec", "{wrong:?}");
        }
        assert_eq!(merge(&["--when-not-matched", "update"]).unwrap_err().code, "invalid-spec");
    }

    #[test]
    fn several_versions_can_be_asked_for() {
        let versions = |more: &[&str]| {
            let line = ["merge", "--table", "a.t", "--pk", "x", "--source"];
            let Spec::Merge(merge) = spec(&[&line, more].concat())? else { panic!("not a merge") };
            Ok::<_, Error>(merge.spec.and_then(|spec| spec.source).and_then(|source| source.versions))
        };
        let range = |from: &str, to: &str| v1::Versions { from: from.into(), to: to.into(), pending: false };
        assert_eq!(versions(&["b.s"]).unwrap(), None);
        assert_eq!(
            versions(&["b.s", "--versions", "20261101..20261107"]).unwrap(),
            Some(range("20261101", "20261107"))
        );
        assert_eq!(versions(&["b.s", "--versions", "..20261107"]).unwrap(), Some(range("", "20261107")));
        assert!(versions(&["b.s", "--all-pending"]).unwrap().unwrap().pending);
        assert_eq!(versions(&["b.s", "--versions", "20261101"]).unwrap_err().code, "invalid-spec");
        assert_eq!(versions(&["b.s@20261122T201533123Z", "--all-pending"]).unwrap_err().code, "invalid-spec");
    }

    #[test]
    fn an_expectation_that_is_none_is_refused() {
        for text in ["x", "=x > 1", "a= ", "a:drop=x > 1"] {
            let line = ["load", "--table", "a.t", "--source", "b.s", "--expect", text];
            assert_eq!(spec(&line).unwrap_err().code, "invalid-spec", "{text}");
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        for line in [
            ["load", "--table", "t", "--source", "b.s"],
            ["load", "--table", "a.t", "--source", "S.s"],
            ["load", "--table", "a.t", "--source", "b.s@"],
        ] {
            assert_eq!(spec(&line).unwrap_err().code, "invalid-spec", "{line:?}");
        }
    }
}
