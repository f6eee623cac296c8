//! Specs of one-off jobs, made from flags.

use std::path::Path;

use trireme_proto::v1::{self, job_spec::Spec};

use crate::{
    arguments::{RawFormat, SchemaEvolution, TableArguments},
    error::{Error, Result},
    names::{check_source, check_table},
    origin::Origin,
    pipeline::read_sql,
};

/// `download`; a relative path starts at the current folder.
pub fn download(from: &str, to: &str, format: Option<RawFormat>, files_are_ours: bool) -> Result<Spec> {
    check_source(to)?;
    let origin = Origin::parse(from, Path::new(""))?;
    origin.check(files_are_ours)?;
    Ok(Spec::Download(v1::Download {
        source: to.to_string(),
        from: origin.url.into(),
        format: raw_format(format),
        location: None,
    }))
}

/// `raw adopt`
pub fn adopt(source: &str, format: Option<RawFormat>) -> Result<Spec> {
    let (source, version) = source_and_version(source)?;
    Ok(Spec::Adopt(v1::Adopt { source, version, format: raw_format(format) }))
}

/// `load`
pub fn load(table: &TableArguments, primary_key: &[String]) -> Result<Spec> {
    Ok(Spec::Load(v1::Load { spec: Some(table_spec(table, primary_key)?) }))
}

/// `merge`
pub fn merge(table: &TableArguments, primary_key: &[String]) -> Result<Spec> {
    Ok(Spec::Merge(v1::Merge { spec: Some(table_spec(table, primary_key)?) }))
}

/// `question`
pub fn question(sql: &Path, table: &str) -> Result<Spec> {
    check_table(table)?;
    Ok(Spec::Question(v1::Question {
        table: table.to_string(),
        sql: read_sql(sql)?,
        sql_file: sql.display().to_string(),
        location: None,
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
        }),
        columns: arguments.columns.clone(),
        primary_key: primary_key.to_vec(),
        r#where: text(&arguments.predicate),
        order_by: text(&arguments.order_by),
        schema_evolution: match arguments.schema_evolution {
            Some(SchemaEvolution::AddColumns) => v1::SchemaEvolution::AddColumns,
            None => v1::SchemaEvolution::Unspecified,
        }
        .into(),
        location: None,
    })
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
            Command::Merge { table, primary_key } => merge(&table, &primary_key),
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
            "z DESC",
            "--schema",
            "x INT",
            "--format",
            "csv",
            "--schema-evolution",
            "add_columns",
        ]);
        let expected = v1::TableSpec {
            table: "a.t".into(),
            source: Some(v1::SourceRef {
                source: "b.s".into(),
                version: "20261122T201533123Z".into(),
                format: v1::RawFormat::Csv.into(),
                schema: "x INT".into(),
            }),
            columns: vec!["x AS y".into(), "z".into()],
            primary_key: vec!["y".into(), "z".into()],
            r#where: "x > 1".into(),
            order_by: "z DESC".into(),
            schema_evolution: v1::SchemaEvolution::AddColumns.into(),
            location: None,
        };
        assert_eq!(merge.unwrap(), Spec::Merge(v1::Merge { spec: Some(expected) }));
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
