//! What the writers of a table report, and what a whole write came to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use deltalake_core::kernel::Add;
use serde::{Deserialize, Serialize};

use super::actions::ActionCounts;
use crate::{
    TableName,
    error::{Code, Error, Result},
};

/// Places of bad rows that a summary names at most.
pub(super) const EXAMPLES: usize = 5;

/// One output row of [`super::DeltaWriteExec`], as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// A complete, uncommitted file.
    File {
        /// As it will stand in the log.
        add: Box<Add>,
        /// Rows in it.
        rows: u64,
        /// Files that its rows were in, by [`super::scan::FILE_COLUMN`].
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        origins: BTreeSet<i32>,
    },
    /// The same, for the table of the quarantine.
    BadFile {
        /// As it will stand in that table's log.
        add: Box<Add>,
        /// Rows in it.
        rows: u64,
    },
    /// A file of keys, see [`super::actions`]; no table's.
    KeyFile {
        /// Where it is, and its statistics.
        add: Box<Add>,
        /// Rows in it.
        rows: u64,
    },
    /// A file of change data.
    ChangeFile {
        /// Its path from the table's folder, and its size.
        add: Box<Add>,
        /// Rows in it.
        rows: u64,
    },
    /// The end of a partition; every partition has exactly one.
    Summary(Box<WriteSummary>),
}

/// Row counts of one partition, or of several added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSummary {
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that [`super::write::KEEP_COLUMN`] dropped.
    pub rows_dropped: u64,
    /// Rows that [`super::write::LATEST_COLUMN`] left out.
    #[serde(default)]
    pub rows_superseded: u64,
    /// Rows that went to the quarantine.
    #[serde(default)]
    pub rows_quarantined: u64,
    /// These by what their reason says up to its first `: `.
    #[serde(default)]
    pub reasons: BTreeMap<String, u64>,
    /// Where some of them are, and why.
    #[serde(default)]
    pub bad_examples: Vec<String>,
    /// Of each check, what failed.
    #[serde(default)]
    pub checks: Vec<CheckSummary>,
    /// Of rows with an action, how many had which.
    #[serde(default)]
    pub actions: ActionCounts,
    /// Rows in the files.
    pub rows_written: u64,
    /// Rows written whose key has a null; the job must fail then.
    pub null_keys: u64,
    /// The first such row's null column and the row, for the error.
    pub null_key_example: Option<(String, String)>,
}

/// What failed of a check, among the rows that did not go to the quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSummary {
    /// Rows.
    pub rows: u64,
    /// Where some of them are, and what failed.
    pub examples: Vec<String>,
}

/// One column, `written`: [`Written`] as JSON.
pub fn written_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("written", DataType::Utf8, false)]))
}

/// What a whole write came to: the rows of a [`super::DeltaWriteExec`], read back.
#[derive(Debug, Clone, Default)]
pub struct WriteOutcome {
    /// Uncommitted files.
    pub files: Vec<Add>,
    /// Rows of each of them, and the files that they were in where the input tells ([`super::scan::FILE_COLUMN`]).
    pub origins: Vec<(u64, BTreeSet<i32>)>,
    /// The same for the table of the quarantine.
    pub bad_files: Vec<Add>,
    /// Files of keys, for [`super::matching`]; to be discarded.
    pub key_files: Vec<Add>,
    /// Files of change data.
    pub change_files: Vec<Add>,
    /// Rows in them.
    pub changed_rows: u64,
    /// Partitions that reported.
    pub partitions: u64,
    /// Sum over partitions.
    pub summary: WriteSummary,
}

impl WriteOutcome {
    /// Reads the rows of all partitions. Fails with [`Code::WorkLost`] when files and summaries disagree (work came back twice, or in part).
    pub fn collect(batches: &[RecordBatch]) -> Result<Self> {
        let broken = |what: String| Error::new(Code::WorkLost, format!("the writers' report is broken: {what}"));
        let mut outcome = Self::default();
        let (mut rows_in_files, mut bad_in_files) = (0, 0);
        for batch in batches {
            let column = batch.column_by_name("written").and_then(|column| column.as_string_opt::<i32>());
            let column = column.ok_or_else(|| broken(format!("columns {:?}", batch.schema().fields())))?;
            for row in column.iter().flatten() {
                match serde_json::from_str(row).map_err(|error| broken(error.to_string()))? {
                    Written::File { add, rows, origins } => {
                        rows_in_files += rows;
                        outcome.origins.push((rows, origins));
                        outcome.files.push(*add);
                    }
                    Written::BadFile { add, rows } => {
                        bad_in_files += rows;
                        outcome.bad_files.push(*add);
                    }
                    Written::KeyFile { add, .. } => outcome.key_files.push(*add),
                    Written::ChangeFile { add, rows } => {
                        outcome.changed_rows += rows;
                        outcome.change_files.push(*add);
                    }
                    Written::Summary(summary) => {
                        outcome.partitions += 1;
                        outcome.summary.add(*summary);
                    }
                }
            }
        }
        let WriteSummary { rows_in, rows_dropped, rows_superseded, rows_quarantined, rows_written, actions, .. } =
            outcome.summary;
        let mut told = rows_dropped + rows_superseded + rows_quarantined + rows_written;
        if actions != ActionCounts::default() {
            // One that closes another is two; others are none.
            told = actions.source() + actions.absent;
            if rows_written != actions.written() {
                return Err(broken(format!("{rows_written} rows were written, {actions:?}")));
            }
        }
        if rows_in_files != rows_written || bad_in_files != rows_quarantined || rows_in != told {
            return Err(broken(format!(
                "{rows_in} rows came in, {rows_dropped} were dropped, {rows_superseded} superseded, {rows_quarantined} \
                 quarantined, {rows_written} written; files have {rows_in_files}, those of the quarantine {bad_in_files}"
            )));
        }
        Ok(outcome)
    }

    /// Fails with [`Code::NullKey`] when rows had a null in their key.
    pub fn check_keys(&self, table: &TableName) -> Result<()> {
        let Some((column, row)) = &self.summary.null_key_example else { return Ok(()) };
        let count = self.summary.null_keys;
        let rows = if count == 1 { "row has" } else { "rows have" };
        Err(Error::new(
            Code::NullKey,
            format!("{count} {rows} no value in the primary key of table {table}, for example `{column}` in {row}"),
        )
        .hint(format!("leave them out with `where: {column} IS NOT NULL`")))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(super::files::size).sum()
    }
}

impl WriteSummary {
    fn add(&mut self, other: Self) {
        self.rows_in += other.rows_in;
        self.rows_dropped += other.rows_dropped;
        self.rows_superseded += other.rows_superseded;
        self.rows_quarantined += other.rows_quarantined;
        self.rows_written += other.rows_written;
        for (reason, rows) in other.reasons {
            *self.reasons.entry(reason).or_default() += rows;
        }
        add_examples(&mut self.bad_examples, other.bad_examples);
        self.checks.resize_with(self.checks.len().max(other.checks.len()), CheckSummary::default);
        for (check, other) in self.checks.iter_mut().zip(other.checks) {
            check.rows += other.rows;
            add_examples(&mut check.examples, other.examples);
        }
        self.actions.add(other.actions);
        self.null_keys += other.null_keys;
        self.null_key_example = self.null_key_example.take().or(other.null_key_example);
    }
}

fn add_examples(examples: &mut Vec<String>, more: Vec<String>) {
    let room = EXAMPLES.saturating_sub(examples.len());
    examples.extend(more.into_iter().take(room));
}
