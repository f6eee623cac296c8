//! Upsert on a primary key: the source is written once, and the rows of the table that it replaces are retired.
//!
//! The source's rows are uncommitted files by now. [`super::matching`] finds the rows of the table with their keys; they are retired by deletion vectors
//! (merge on read), or the files they are in are written again without them ([`rewrite_plan`], copy on write). [`check`] compares all row counts,
//! and [`super::commit::merge`] lands it.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::{Column, TableReference},
    datasource::provider_as_source,
    functions_aggregate::expr_fn::count,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SortExpr, lit},
};
use deltalake_core::kernel::Add;

use super::{
    commit::MergeCounts,
    files::{DataFiles, rows},
    matching::Retired,
    scan::DeltaTableScan,
    written::WriteSummary,
};
use crate::{
    Storage, TableName,
    error::{Code, Error, Result},
    names::our_column,
};

/// Duplicate keys that an error names at most.
pub const DUPLICATES_SHOWN: usize = 5;

const SOURCE: &str = "source";
const TARGET: &str = "target";
const TIMES: &str = our_column!("times");

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

/// A file of the table that has replaced rows.
#[derive(Debug, Clone)]
pub struct Touched {
    /// The file as the table has it.
    pub add: Add,
    /// What the source replaces of it.
    pub retired: Retired,
}

impl Touched {
    /// The file with its new deletion vector, as it will stand in the log; `None` when no row of it is left.
    ///
    /// Its bounds may be those of rows that are gone (protocol, "Per-file Statistics": `tightBounds`).
    pub fn updated(&self) -> Option<Add> {
        if self.retired.left == 0 {
            return None;
        }
        let stats = self.add.stats.as_deref().and_then(|stats| serde_json::from_str(stats).ok());
        let stats = stats.map(|mut stats: serde_json::Map<String, serde_json::Value>| {
            stats.insert("tightBounds".to_string(), false.into());
            serde_json::Value::Object(stats).to_string()
        });
        let deletion_vector = Some(self.retired.vector.clone());
        Some(Add { stats, deletion_vector, data_change: true, ..self.add.clone() })
    }
}

/// The rows of the touched files that stay, with the columns of `schema` (those the files lack are NULL); for copy-on-write.
pub fn rewrite_plan(
    storage: &Storage,
    table: &TableName,
    schema: &SchemaRef,
    partition_columns: &[String],
    touched: &[Touched],
) -> Result<LogicalPlan> {
    let files = touched.iter().filter_map(Touched::updated).collect();
    let files = DataFiles::try_new(table, schema.clone(), partition_columns.to_vec(), files)?;
    Ok(scan(TARGET, DeltaTableScan::from_files(storage, table, files)?)?.build()?)
}

/// Compares what the steps of an upsert counted, and gives the counts for its commit.
///
/// `written` is the source's write, `rewritten` that of [`rewrite_plan`] for copy-on-write. Every row of a touched file was replaced, or stays; else
/// work was lost or came twice: [`Code::WorkLost`], discard and run again.
pub fn check(written: &WriteSummary, touched: &[Touched], rewritten: Option<&WriteSummary>) -> Result<MergeCounts> {
    let (matched, copied) = check_files(touched, rewritten)?;
    let source = written.rows_written;
    let inserted = source.saturating_sub(matched);
    Ok(MergeCounts { source, inserted, updated: matched, copied, ..MergeCounts::default() })
}

/// Rows that are retired and rows that were copied, if the counts of the touched files add up.
pub(super) fn check_files(touched: &[Touched], rewritten: Option<&WriteSummary>) -> Result<(u64, u64)> {
    for file in touched {
        let before = file.add.deletion_vector.as_ref().map_or(0, |vector| vector.cardinality);
        let Retired { matched, left, vector, .. } = &file.retired;
        if i64::try_from(*matched).ok().and_then(|matched| before.checked_add(matched)) != Some(vector.cardinality) {
            let what = format!(
                "{before} rows of {} were gone, {matched} were replaced, {} are",
                file.add.path, vector.cardinality
            );
            return Err(lost(&what));
        }
        // Other writers may leave a file's row count out.
        if let Some(rows) = rows(&file.add)
            && rows != matched + left
        {
            return Err(lost(&format!("of {rows} rows in {} {matched} were replaced and {left} stay", file.add.path)));
        }
    }
    let matched: u64 = touched.iter().map(|file| file.retired.matched).sum();
    let left: u64 = touched.iter().map(|file| file.retired.left).sum();
    let copied = rewritten.map_or(0, |summary| summary.rows_written);
    if rewritten.is_some() && copied != left {
        return Err(lost(&format!("{left} rows of touched files stay, {copied} were rewritten")));
    }
    Ok((matched, copied))
}

pub(super) fn lost(what: &str) -> Error {
    Error::new(Code::WorkLost, format!("the merge does not add up: {what}"))
}
