//! Upsert on a primary key by copy-on-write: which rows of the table are replaced, and what remains of the files they are in.
//!
//! The source has been written once, as uncommitted files. Everything here plans over lists of files with stock operators, so it
//! distributes. Steps: [`duplicate_count_plan`] must find nothing; [`matches_plan`] finds the files with replaced rows; [`rewrite_plan`]
//! gives the rest of those files; [`check`] compares all row counts; [`super::commit::merge`] lands it.

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, Int32Type, Int64Type, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::{Column, TableReference},
    datasource::provider_as_source,
    functions_aggregate::expr_fn::{count, sum},
    logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, SortExpr, lit},
};
use deltalake_core::kernel::Add;

use super::{
    commit::MergeCounts,
    files::{DataFiles, rows},
    scan::{DeltaTableScan, FILE_COLUMN},
    written::WriteSummary,
};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
};

/// Duplicate keys that an error names at most.
pub const DUPLICATES_SHOWN: usize = 5;

const SOURCE: &str = "source";
const TARGET: &str = "target";
const TIMES: &str = "__times";

/// Fails when a column can't be (part of) a primary key: it must exist and have exact equality and an order.
pub fn check_keys(table: &TableName, schema: &SchemaRef, keys: &[String]) -> Result<()> {
    if keys.is_empty() {
        return Err(Error::new(Code::InvalidSpec, format!("a merge into table {table} needs a primary key"))
            .hint("give `primary_key: [column]`, or --pk COLUMN"));
    }
    for key in keys {
        let Ok(field) = schema.field_with_name(key) else {
            return Err(Error::new(Code::InvalidSpec, format!("table {table} has no column `{key}` for its key"))
                .hint("name columns of the table as its primary key"));
        };
        let why = match field.data_type() {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                "a floating-point number has no exact equality"
            }
            data_type if data_type.is_nested() => "an array, map or struct is no key",
            _ => continue,
        };
        return Err(Error::new(
            Code::InvalidSpec,
            format!("`{key}` can't be in the primary key of table {table}: {why}"),
        )
        .hint("use a string, an integer, a decimal, a date, a timestamp or a boolean"));
    }
    Ok(())
}

fn column(relation: &str, name: &str) -> Expr {
    Expr::Column(Column::new(Some(TableReference::bare(relation)), name))
}

fn plain(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn scan(relation: &str, scan: DeltaTableScan) -> Result<LogicalPlanBuilder> {
    Ok(LogicalPlanBuilder::scan(TableReference::bare(relation), provider_as_source(Arc::new(scan)), None)?)
}

/// Only the key columns of the source's files.
fn source_keys(
    storage: &Storage,
    table: &TableName,
    source: &DataFiles,
    keys: &[String],
) -> Result<LogicalPlanBuilder> {
    let files = DeltaTableScan::from_files(storage, table, source.clone())?;
    Ok(scan(SOURCE, files)?.project(keys.iter().map(|key| column(SOURCE, key)))?)
}

/// Keys that the source has more than once, with how often.
fn duplicates(storage: &Storage, table: &TableName, source: &DataFiles, keys: &[String]) -> Result<LogicalPlanBuilder> {
    Ok(source_keys(storage, table, source, keys)?
        .aggregate(keys.iter().map(|key| column(SOURCE, key)), [count(lit(1i64)).alias(TIMES)])?
        .filter(plain(TIMES).gt(lit(1i64)))?)
}

/// One row, two integers: how many keys the source has more than once, and how many rows have them (null when there is none).
pub fn duplicate_count_plan(
    storage: &Storage,
    table: &TableName,
    source: &DataFiles,
    keys: &[String],
) -> Result<LogicalPlan> {
    let totals = [count(plain(TIMES)).alias("keys"), sum(plain(TIMES)).alias("rows")];
    Ok(duplicates(storage, table, source, keys)?.aggregate(Vec::<Expr>::new(), totals)?.build()?)
}

/// Up to [`DUPLICATES_SHOWN`] such keys, smallest first, each with its number of rows in the last column.
pub fn duplicate_examples_plan(
    storage: &Storage,
    table: &TableName,
    source: &DataFiles,
    keys: &[String],
) -> Result<LogicalPlan> {
    let order: Vec<SortExpr> = keys.iter().map(|key| column(SOURCE, key).sort(true, false)).collect();
    Ok(duplicates(storage, table, source, keys)?.sort_with_limit(order, Some(DUPLICATES_SHOWN))?.build()?)
}

/// Number of duplicate keys, read from [`duplicate_count_plan`]'s result.
pub fn duplicate_count(batches: &[RecordBatch]) -> Result<u64> {
    let mut found = None;
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let column = batch.column(0).as_primitive_opt::<Int64Type>();
        match (column, found, batch.num_rows()) {
            (Some(column), None, 1) => found = u64::try_from(column.value(0)).ok(),
            _ => return Err(lost("the count of duplicate keys came back more than once")),
        }
    }
    found.ok_or_else(|| lost("the count of duplicate keys did not come back"))
}

/// The error for a source with duplicate keys; `examples` is [`duplicate_examples_plan`]'s result.
pub fn duplicate_error(table: &TableName, keys: &[String], total: u64, examples: &[RecordBatch]) -> Result<Error> {
    let options = FormatOptions::default().with_null("NULL");
    let mut shown = Vec::new();
    for batch in examples {
        for row in 0..batch.num_rows().min(DUPLICATES_SHOWN - shown.len()) {
            let values = batch
                .columns()
                .iter()
                .map(|column| Ok(ArrayFormatter::try_new(column, &options)?.value(row).to_string()))
                .collect::<Result<Vec<_>>>()?;
            let Some((times, key)) = values.split_last() else { continue };
            shown.push(format!("({}) {times} times", key.join(", ")));
        }
    }
    let more = if total > shown.len() as u64 { ", …" } else { "" };
    let message = format!(
        "{total} value(s) of the primary key ({}) of table {table} came more than once: {}{more}",
        keys.join(", "),
        shown.join(", ")
    );
    Ok(Error::new(Code::DuplicateKey, message)
        .hint("say `order_by: COLUMN` to keep the latest row of each key, or leave rows out with `where:`"))
}

/// Where to look for rows that the source replaces.
#[derive(Debug, Clone)]
pub struct Matches {
    /// Files of the table that the statistics of their keys can't rule out.
    pub candidates: DataFiles,
    /// Gives one row per touched file: [`FILE_COLUMN`] (position among the candidates) and its replaced rows. None: nothing can match.
    pub plan: Option<LogicalPlan>,
}

/// Finds the rows of the table whose key the source has; reads key columns only. A null in a key matches nothing.
pub fn matches_plan(
    storage: &Storage,
    table: &TableName,
    target: &DataFiles,
    source: &DataFiles,
    keys: &[String],
) -> Result<Matches> {
    let candidates = target.subset(&target.overlapping(source, keys)?);
    if candidates.is_empty() {
        return Ok(Matches { candidates, plan: None });
    }
    let rows = DeltaTableScan::from_files(storage, table, candidates.clone())?.with_file_column();
    let wanted = keys.iter().map(String::as_str).chain([FILE_COLUMN]).map(|name| column(TARGET, name));
    let target_keys = scan(TARGET, rows)?.project(wanted)?.build()?;
    let plan = source_keys(storage, table, source, keys)?
        .join(target_keys, JoinType::RightSemi, on(keys), None)?
        .aggregate([column(TARGET, FILE_COLUMN)], [count(lit(1i64)).alias("matched")])?
        .build()?;
    Ok(Matches { candidates, plan: Some(plan) })
}

fn on(keys: &[String]) -> (Vec<Column>, Vec<Column>) {
    let of = |relation: &str| {
        keys.iter().map(|key| Column::new(Some(TableReference::bare(relation)), key)).collect::<Vec<_>>()
    };
    (of(SOURCE), of(TARGET))
}

/// A file of the table that has replaced rows.
#[derive(Debug, Clone)]
pub struct Touched {
    /// The file.
    pub add: Add,
    /// Its position among the candidates.
    pub candidate: usize,
    /// Its rows that the source replaces.
    pub matched: u64,
}

/// Reads the result of [`Matches::plan`]. Fails with [`Code::WorkLost`] when a file came back twice.
pub fn touched_files(matches: &Matches, batches: &[RecordBatch]) -> Result<Vec<Touched>> {
    let mut touched: Vec<Touched> = Vec::new();
    for batch in batches {
        let files = batch.column_by_name(FILE_COLUMN).and_then(|column| column.as_primitive_opt::<Int32Type>());
        let counts = batch.column_by_name("matched").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(files), Some(counts)) = (files, counts) else {
            return Err(lost("the files with matches have other columns"));
        };
        for row in 0..batch.num_rows() {
            let candidate = usize::try_from(files.value(row)).unwrap_or(usize::MAX);
            let Some(add) = matches.candidates.adds().get(candidate) else {
                return Err(lost("a match lies in no file of the table"));
            };
            let matched = u64::try_from(counts.value(row)).unwrap_or(0);
            touched.push(Touched { add: add.clone(), candidate, matched });
        }
    }
    touched.sort_by_key(|file| file.candidate);
    if touched.windows(2).any(|pair| pair[0].candidate == pair[1].candidate) {
        return Err(lost("a file with matches came back twice"));
    }
    Ok(touched)
}

/// The rows of the touched files whose key the source does not have, with the columns of `schema` (those the files lack are NULL).
pub fn rewrite_plan(
    storage: &Storage,
    table: &TableName,
    schema: &SchemaRef,
    touched: &[Touched],
    source: &DataFiles,
    keys: &[String],
) -> Result<LogicalPlan> {
    let files = touched.iter().map(|file| file.add.clone()).collect();
    let files = DataFiles::try_new(table, schema.clone(), source.partition_columns().to_vec(), files)?;
    let rows = scan(TARGET, DeltaTableScan::from_files(storage, table, files)?)?.build()?;
    Ok(source_keys(storage, table, source, keys)?.join(rows, JoinType::RightAnti, on(keys), None)?.build()?)
}

/// Compares what the steps of a merge counted, and gives the counts for its commit.
///
/// `written` is the source's write, `rewritten` that of [`rewrite_plan`] (none when nothing was touched). Every row of a touched file was
/// either replaced or rewritten; else work was lost or came twice: [`Code::WorkLost`], discard and run again.
pub fn check(written: &WriteSummary, touched: &[Touched], rewritten: Option<&WriteSummary>) -> Result<MergeCounts> {
    let matched: u64 = touched.iter().map(|file| file.matched).sum();
    let copied = match (touched.is_empty(), rewritten) {
        (true, None) => 0,
        (false, Some(summary)) => summary.rows_written,
        (true, Some(_)) | (false, None) => return Err(lost("touched files and rewritten rows do not go together")),
    };
    // Other writers may leave a file's row count out.
    let before: Option<u64> = touched.iter().map(|file| rows(&file.add)).sum();
    if let Some(before) = before
        && before != matched + copied
    {
        return Err(lost(&format!("of {before} rows in touched files {matched} were replaced and {copied} rewritten")));
    }
    let source = written.rows_written;
    Ok(MergeCounts { source, inserted: source.saturating_sub(matched), updated: matched, copied })
}

fn lost(what: &str) -> Error {
    Error::new(Code::WorkLost, format!("the merge does not add up: {what}"))
}
