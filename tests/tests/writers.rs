//! Another engine writes to a table while merges run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;
use std::thread;

use serde_json::{Value, json};
use trireme_tests::cluster::{Cluster, Options};
use trireme_tests::python::Python;
use trireme_tests::{setting, wait_for};

const TABLE: &str = "t.shared";
const SOURCE: &str = "raw.shared";
/// Keys of a delivery: 1 to this. The foreign writer's rows have some of them, too.
const KEYS: u64 = 50_000;
/// Rows of the table that no delivery names: -1, -2, …
const OTHERS: u64 = 2_000;

fn delivery(value: u64, others: bool) -> String {
    let line = |k: i64, v: String| json!({ "k": k, "v": v }).to_string();
    let mut lines: Vec<String> = (1..=KEYS).map(|k| line(k as i64, format!("{value}-{k}"))).collect();
    if others {
        lines.extend((1..=OTHERS).map(|k| line(-(k as i64), "other".to_string())));
    }
    lines.join("\n")
}

/// Commits of a table, oldest first: operation, and rows of an append.
fn commits(cluster: &Cluster) -> Vec<Value> {
    let mut commits = cluster.json(&["tables", "history", TABLE, "--limit", "100000"]).done().json_lines();
    commits.reverse();
    commits
}

#[test]
fn merges_hold_while_another_engine_appends_and_deletes() {
    let Some(python) = Python::find() else { return };
    let cluster = Cluster::start(Options::default());
    cluster.deliver(SOURCE, "rows.ndjson", delivery(0, true));
    let merge = ["merge", "--table", TABLE, "--source", SOURCE, "--pk", "k", "-t", "k", "-t", "v"];
    cluster.json(&merge).done();

    let table = cluster.lake().join("tables/t/shared");
    let stop = cluster.folder().join("stop");
    let (script, flags) =
        (python.clone(), [table.display().to_string(), stop.display().to_string(), "0.3".to_string()]);
    let writer = thread::spawn(move || script.run("foreign_writer.py", flags));
    let is_foreign = |commit: &Value| !commit["engine"].as_str().unwrap_or_default().starts_with("trireme");
    wait_for("the other engine's first commit", || commits(&cluster).iter().any(is_foreign).then_some(()));

    // Until a merge was overtaken.
    let (mut retries, mut merges) = (0, 0);
    while retries == 0 && merges < setting("TRIREME_TEST_MERGES", 40) {
        merges += 1;
        cluster.deliver(SOURCE, "rows.ndjson", delivery(merges, false));
        let job = cluster.json(&merge).done().json();
        retries += job["metrics"]["retries"].as_u64().unwrap_or(0);
    }
    fs::write(&stop, "").unwrap();
    let wrote = writer.join().unwrap().unwrap_or_else(|said| panic!("{said}"));
    assert!(retries > 0, "no merge of {merges} was overtaken by {wrote}");

    let history = commits(&cluster);
    let last_merge = history.iter().rposition(|commit| !is_foreign(commit)).unwrap();
    let later = &history[last_merge + 1..];
    let appended_later = later.iter().filter(|commit| commit["operation"] == "WRITE").count() as i64;
    let rows = |condition: &str| cluster.number(&format!("SELECT count(*) AS n FROM {TABLE} WHERE {condition}"));
    assert_eq!(rows("v = 'foreign'"), appended_later, "what was there before the last merge was replaced: {wrote}");
    assert_eq!(rows("k > 0 AND v <> 'foreign'"), KEYS as i64);
    assert_eq!(rows(&format!("v LIKE '{merges}-%'")), KEYS as i64);
    assert_eq!(rows("k < 0"), OTHERS as i64 - wrote["deleted"].as_i64().unwrap(), "no deleted row came back: {wrote}");
}
