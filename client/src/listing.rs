//! Tables of the catalog and sources of the raw zone as text.

use trireme_proto::v1;

use crate::{
    grid::{Align, Grid},
    job::moment,
    json::raw_format,
    output::{Style, printable},
    report::Facts,
    units,
};

use Align::{Left, Right};

fn when(timestamp: Option<&prost_types::Timestamp>) -> String {
    moment(timestamp).map(units::moment).unwrap_or_default()
}

/// The row count, which is unknown (-1) where a file has no statistics.
fn rows(n: i64) -> String {
    u64::try_from(n).map(units::count).unwrap_or_else(|_| "?".to_string())
}

/// The catalog.
pub fn tables(tables: &[v1::Table]) -> String {
    let mut grid = Grid::new(&[
        ("table", Left),
        ("version", Right),
        ("rows", Right),
        ("files", Right),
        ("bytes", Right),
        ("modified", Left),
    ]);
    for table in tables {
        grid.row([
            table.name.clone(),
            table.version.to_string(),
            rows(table.rows),
            units::count(table.files),
            units::size(table.bytes),
            when(table.modified_at.as_ref()),
        ]);
    }
    grid.text()
}

/// One table.
pub fn table(response: &v1::DescribeTableResponse, style: Style) -> String {
    let mut facts = Facts::default();
    let table = response.table.clone().unwrap_or_default();
    facts.add("table", &table.name);
    facts.add("location", &response.location);
    facts.add("version", table.version.to_string());
    facts.add("rows", rows(table.rows));
    facts.add("files", units::count(table.files));
    facts.add("bytes", units::size(table.bytes));
    facts.add("modified", when(table.modified_at.as_ref()));
    facts.add("partitioned by", response.partition_columns.join(", "));
    facts.add("protocol", format!("reader {}, writer {}", response.min_reader_version, response.min_writer_version));
    let mut properties: Vec<_> = response.properties.iter().collect();
    properties.sort();
    for (key, value) in properties {
        facts.add(key, value);
    }
    let mut grid = Grid::new(&[("column", Left), ("type", Left), ("null", Left)]);
    for column in &response.columns {
        grid.row([column.name.as_str(), &column.r#type, if column.nullable { "yes" } else { "no" }]);
    }
    format!("{}\n\n{}", facts.text(style), grid.text())
}

/// A table's commits.
pub fn commits(commits: &[v1::TableCommit]) -> String {
    let mut grid = Grid::new(&[
        ("version", Right),
        ("time", Left),
        ("operation", Left),
        ("engine", Left),
        ("job", Left),
        ("metrics", Left),
    ]);
    for commit in commits {
        let mut metrics: Vec<_> = commit.metrics.iter().map(|(key, value)| format!("{key}={value}")).collect();
        metrics.sort();
        grid.row([
            commit.version.to_string(),
            when(commit.timestamp.as_ref()),
            commit.operation.clone(),
            commit.engine.clone(),
            commit.job.clone(),
            metrics.join(" "),
        ]);
    }
    grid.text()
}

/// The raw zone.
pub fn sources(sources: &[v1::Source]) -> String {
    let mut grid = Grid::new(&[
        ("source", Left),
        ("current", Left),
        ("versions", Right),
        ("skipped", Right),
        ("stored", Right),
        ("text", Right),
    ]);
    for source in sources {
        grid.row([
            source.name.clone(),
            source.current.clone(),
            units::count(source.versions.into()),
            units::count(source.skipped.into()),
            units::size(source.bytes + source.copy_bytes),
            units::size(source.text_bytes),
        ]);
    }
    grid.text()
}

/// `json`, `csv.gzip`: a format, and the compression around it.
fn format_name(version: &v1::RawVersion) -> String {
    let format = raw_format(version.format()).unwrap_or_default();
    if version.compression.is_empty() { format.to_string() } else { format!("{format}.{}", version.compression) }
}

/// Whether it is what is read, or what was said of it.
fn state(version: &v1::RawVersion) -> String {
    let current = version.current.then(|| "current".to_string());
    let mark = version.mark.as_ref().map(|mark| printable(&mark.told));
    current.into_iter().chain(mark).collect::<Vec<_>>().join(", ")
}

/// A source's versions.
pub fn raw_versions(versions: &[v1::RawVersion]) -> String {
    let mut grid = Grid::new(&[
        ("version", Left),
        ("", Left),
        ("format", Left),
        ("stored", Right),
        ("text", Right),
        ("splits", Right),
        ("downloaded", Left),
        ("origin", Left),
        ("sha256", Left),
    ]);
    for version in versions {
        grid.row([
            version.version.as_str(),
            &state(version),
            &format_name(version),
            &units::size(version.bytes + version.copy_bytes),
            &units::size(version.text_bytes),
            &units::count(version.splits.into()),
            &when(version.downloaded_at.as_ref()),
            &version.origin,
            version.sha256.get(..12).unwrap_or(&version.sha256),
        ]);
    }
    grid.text()
}

/// The columns of a raw version.
pub fn schema(report: &v1::SchemaReport, style: Style) -> String {
    let mut facts = Facts::default();
    facts.add("source", &report.source);
    facts.add("version", &report.version);
    facts.add("compared with", &report.previous);
    schema_facts(report, &mut facts);
    if report.fields.is_empty() {
        facts.add("fields", "not known yet: JSON is looked through when a table without `schema:` is made of it");
        return facts.text(style);
    }
    let mut grid = Grid::new(&[("field", Left), ("type", Left), ("values", Left), ("conflict", Left)]);
    for field in &report.fields {
        let kinds = field.kinds.iter().map(|kind| format!("{} {}", units::count(kind.values), kind.kind));
        grid.row([
            field.path.clone(),
            field.r#type.clone(),
            kinds.collect::<Vec<_>>().join(", "),
            if field.conflict { first_places(field) } else { String::new() },
        ]);
    }
    format!("{}\n\n{}", facts.text(style), grid.text())
}

/// What is remarkable about a raw version's columns.
pub fn schema_facts(report: &v1::SchemaReport, facts: &mut Facts) {
    for field in report.fields.iter().filter(|field| field.conflict) {
        let kinds = field.kinds.iter().map(|kind| format!("{} {}", units::count(kind.values), kind.kind));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        facts.add("type conflict", format!("{}: {kinds}; {}", field.path, first_places(field)));
    }
    for (name, fields) in [
        ("new fields", &report.new_fields),
        ("vanished fields", &report.vanished_fields),
        ("undeclared fields", &report.undeclared_fields),
        ("missing fields", &report.missing_fields),
    ] {
        facts.add(name, fields.join(", "));
    }
}

/// Where the first value of each kind is.
fn first_places(field: &v1::SchemaField) -> String {
    let kinds = field.kinds.iter().filter(|kind| kind.kind != "null");
    let places = kinds.map(|kind| format!("first {} in {}, line {}", kind.kind, kind.part, kind.line));
    places.collect::<Vec<_>>().join("; ")
}
