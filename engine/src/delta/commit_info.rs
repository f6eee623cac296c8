//! What a commit says of itself in the table's history.
//!
//! Source: the Delta protocol, "Commit Provenance Information", and the names that Spark's `DESCRIBE HISTORY` knows.

use deltalake_core::kernel::Add;
use serde_json::{Value, json};

use super::{
    clauses::{Clauses, IS_CURRENT, Inserts, Matched},
    commit::{MergeCommit, MergeCounts, OptimizeCommit},
    files::{rows, size},
    optimize::Limits,
};

/// Operation, parameters and metrics by the names Delta's history knows.
pub(super) struct Info {
    pub(super) operation: &'static str,
    pub(super) parameters: Vec<(&'static str, String)>,
    pub(super) metrics: Vec<(&'static str, u64)>,
}

pub(super) fn overwrite_info(files: &[Add], removed: usize, removed_bytes: u64) -> Info {
    Info {
        operation: "WRITE",
        parameters: vec![("mode", "Overwrite".to_string()), ("partitionBy", "[]".to_string())],
        metrics: vec![
            ("numFiles", files.len() as u64),
            ("numOutputRows", files.iter().filter_map(rows).sum()),
            ("numOutputBytes", files.iter().map(size).sum()),
            ("numRemovedFiles", removed as u64),
            ("numRemovedBytes", removed_bytes),
        ],
    }
}

pub(super) fn merge_info(merge: &MergeCommit<'_>) -> Info {
    let on: Vec<_> = merge.keys.iter().map(|key| format!("target.`{key}` = source.`{key}`")).collect();
    let MergeCounts { source, inserted, updated, deleted, copied, .. } = merge.counts;
    let (matched, not_matched, absent) = clauses_info(merge.clauses);
    // A file that is rewritten has a new name.
    let (with_vector, rewritten): (Vec<&Add>, Vec<&Add>) =
        merge.kept.iter().partition(|add| add.deletion_vector.is_some());
    let stays = |add: &&Add| with_vector.iter().any(|kept| kept.path == add.path);
    let removed: u64 = merge.touched.iter().filter(|add| !stays(add)).map(size).sum();
    let vectors_before = merge.touched.iter().filter(|add| add.deletion_vector.is_some()).count() as u64;
    Info {
        operation: "MERGE",
        parameters: vec![
            ("predicate", on.join(" AND ")),
            ("matchedPredicates", matched.to_string()),
            ("notMatchedPredicates", not_matched.to_string()),
            ("notMatchedBySourcePredicates", absent.to_string()),
        ],
        metrics: vec![
            ("numSourceRows", source),
            ("numTargetRowsInserted", inserted),
            ("numTargetRowsUpdated", updated),
            ("numTargetRowsDeleted", deleted),
            ("numTargetRowsCopied", copied),
            ("numOutputRows", merge.new.iter().filter_map(rows).sum::<u64>() + copied),
            ("numTargetFilesAdded", (merge.new.len() + rewritten.len()) as u64),
            ("numTargetFilesRemoved", (merge.touched.len() - with_vector.len()) as u64),
            ("numTargetBytesAdded", merge.new.iter().chain(rewritten.iter().copied()).map(size).sum()),
            ("numTargetBytesRemoved", removed),
            ("numTargetChangeFilesAdded", merge.changes.len() as u64),
            ("numTargetDeletionVectorsAdded", with_vector.len() as u64),
            ("numTargetDeletionVectorsRemoved", vectors_before),
        ],
    }
}

/// A merge's clauses as Delta's history has them.
fn clauses_info(clauses: &Clauses) -> (Value, Value, Value) {
    let clause = |action: &str, condition: Option<&str>| match condition {
        Some(condition) => json!({ "actionType": action, "predicate": condition }),
        None => json!({ "actionType": action }),
    };
    if clauses.history.is_some() {
        let changed = format!("source.* IS DISTINCT FROM target.* AND target.{IS_CURRENT}");
        return (json!([clause("update", Some(&changed))]), json!([clause("insert", None)]), json!([]));
    }
    let matched = clauses.matched.iter().filter_map(|of| match of.action {
        Matched::Update => Some(clause("update", of.condition.as_deref())),
        Matched::Delete => Some(clause("delete", of.condition.as_deref())),
        Matched::Ignore => None,
    });
    let not_matched = match &clauses.inserts {
        Inserts::All => vec![clause("insert", None)],
        Inserts::If(condition) => vec![clause("insert", Some(condition))],
        Inserts::None => Vec::new(),
    };
    let absent = clauses.deletes_absent.then(|| clause("delete", None));
    (matched.collect(), Value::Array(not_matched), absent.into_iter().collect())
}

/// Operation of an optimization.
pub(super) const OPTIMIZE: &str = "OPTIMIZE";

/// What tells one kind of optimization from another.
pub(super) fn optimize_parameters(z_order: &[String], limits: Limits) -> Vec<(&'static str, String)> {
    vec![
        ("zOrderBy", json!(z_order).to_string()),
        ("targetSize", limits.target_bytes.to_string()),
        ("retiredPercent", limits.retired_percent.to_string()),
    ]
}

pub(super) fn optimize_info(optimize: &OptimizeCommit<'_>) -> Info {
    let OptimizeCommit { removed, added, z_order, limits, automatic } = optimize;
    let mut sizes: Vec<u64> = added.iter().map(size).collect();
    sizes.sort_unstable();
    let at = |percent: usize| sizes.get(sizes.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0);
    let vectors = removed.iter().filter(|add| add.deletion_vector.is_some()).count() as u64;
    let parameters = [("predicate", "[]".to_string()), ("auto", automatic.to_string())];
    Info {
        operation: OPTIMIZE,
        parameters: parameters.into_iter().chain(optimize_parameters(z_order, *limits)).collect(),
        metrics: vec![
            ("numAddedFiles", added.len() as u64),
            ("numRemovedFiles", removed.len() as u64),
            ("numAddedBytes", sizes.iter().sum()),
            ("numRemovedBytes", removed.iter().map(size).sum()),
            ("numDeletionVectorsRemoved", vectors),
            ("minFileSize", at(0)),
            ("p25FileSize", at(25)),
            ("p50FileSize", at(50)),
            ("p75FileSize", at(75)),
            ("maxFileSize", at(100)),
        ],
    }
}
