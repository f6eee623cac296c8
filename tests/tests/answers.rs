//! The six answers on the shared real data, whatever runs them and wherever they are stored.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;

use serde_json::{Value, json};
use trireme_tests::answers::{assert_answers, part, real as right_answers};
use trireme_tests::cluster::{Cluster, Options};
use trireme_tests::data::{self, Project};
use trireme_tests::python::Python;
use trireme_tests::seaweed::Seaweed;

const ROWS: [(&str, i64); 6] = [
    ("stream.movies", 92),
    ("stream.streams", 9652),
    ("stream.users", 783),
    ("vendor.authors", 200),
    ("vendor.books", 103),
    ("vendor.reviews", 501),
];

/// Runs the pipeline on the real data and checks all that its ANSWERS.md says.
fn run(cluster: &Cluster) -> Option<(Project, Value)> {
    let project = Project::new(&cluster.folder().join("project"), &data::real()?);
    let run = cluster.json(&["run", &project.pipeline()]).done().json();
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_answers(&run, &right_answers());
    for (table, rows) in ROWS {
        assert_eq!(cluster.number(&format!("SELECT count(*) AS n FROM {table}")), rows, "{table}");
    }
    let authors = &part(&run, "merge", "vendor.authors")["metrics"];
    let counts =
        ["rows_in", "rows_dropped", "rows_inserted", "rows_updated"].map(|name| authors[name].as_u64().unwrap());
    assert_eq!(counts, [201, 1, 200, 0], "one author has no name: {run}");

    let median = cluster.sql("SELECT round(median(size_mb), 7) AS mb FROM stream.streams");
    assert_eq!(median, [json!({ "mb": 935.9014475 })]);
    let booked = "SELECT b.name FROM stream.movies m JOIN vendor.books b ON b.name = m.title";
    assert_eq!(cluster.sql(booked), [json!({ "name": "the torment of others" })]);
    Some((project, run))
}

fn with_executors(executors: usize) {
    if data::real().is_none() {
        return;
    }
    let cluster = Cluster::start(Options { executors, ..Options::default() });
    run(&cluster);
}

#[test]
fn one_executor() {
    with_executors(1);
}

#[test]
fn four_executors() {
    with_executors(4);
}

#[test]
fn two_executors_and_a_second_delivery() {
    let (Some(real), Some(python)) = (data::real(), Python::find()) else { return };
    let cluster = Cluster::start(Options::default());
    let Some((project, first)) = run(&cluster) else { return };
    python.check_tables(&cluster.lake(), std::slice::from_ref(&real), &[]);

    // Again the same delivery: nothing changes.
    let versions = |cluster: &Cluster| {
        let tables = cluster.json(&["tables", "list"]).done().json_lines();
        let ours = tables.into_iter().filter(|table| !table["name"].as_str().unwrap().starts_with("analytics."));
        ours.map(|table| (table["name"].to_string(), table["version"].clone())).collect::<Vec<_>>()
    };
    let before = versions(&cluster);
    let again = cluster.json(&["run", &project.pipeline()]).done().json();
    assert_answers(&again, &right_answers());
    assert_eq!(versions(&cluster), before);

    // One record's rating changed, one record added.
    let mut records: Vec<Value> = serde_json::from_slice(&fs::read(real.join("reviews.json")).unwrap()).unwrap();
    let rate = records[100]["rating"]["rate"].as_i64().unwrap();
    records[100]["rating"]["rate"] = json!(rate % 5 + 1);
    let mut added = records[200].clone();
    added["created"] = json!("2021-12-31T23:59:59.999+0100");
    added["content"]["text"] = json!("ADDED");
    records.push(added);
    let text = serde_json::to_string_pretty(&records).unwrap();
    fs::write(project.data().join("reviews.json"), text).unwrap();

    let run = cluster.json(&["run", &project.pipeline()]).done().json();
    assert_answers(&run, &right_answers());
    assert_eq!(part(&run, "download", "vendor.reviews")["outcome"], "applied");
    assert_eq!(part(&run, "merge", "vendor.books")["outcome"], "already applied");
    let merge = cluster.job(part(&run, "merge", "vendor.reviews")["id"].as_str().unwrap());
    assert_eq!((&merge["outcome"], &merge["delta_version"]), (&"applied".into(), &1.into()));
    let counts = ["rows_in", "rows_inserted", "rows_updated"].map(|name| merge["metrics"][name].as_u64().unwrap());
    // An upsert writes every row that has a match, whether it changed or not.
    assert_eq!(counts, [502, 1, 501], "{merge}");
    python.check_tables(&cluster.lake(), &[real.clone(), project.data()], &[("vendor.reviews", "reviews/merge")]);
    let changed = format!("SELECT count(*) AS n FROM vendor.reviews WHERE text = 'added' OR rate_value <> {rate}");
    assert!(cluster.number(&changed) > 0);

    // The first delivery's version is still there, and can be merged back by its name.
    let version = part(&first, "download", "vendor.reviews")["raw_version"].as_str().unwrap();
    let raw = cluster.json(&["raw", "show", "vendor.reviews"]).done().json_lines();
    assert_eq!(raw.len(), 2, "{raw:?}");
    assert_eq!((&raw[1]["version"], &raw[1]["current"]), (&version.into(), &false.into()));
}

#[test]
fn storage_on_s3() {
    if data::real().is_none() {
        return;
    }
    let Some(s3) = Seaweed::start() else { return };
    let storage = Some("s3://lake/trireme".to_string());
    let cluster = Cluster::start(Options { storage, environment: s3.environment(), ..Options::default() });
    let Some((project, _)) = run(&cluster) else { return };
    let again = cluster.json(&["run", &project.pipeline()]).done().json();
    assert_answers(&again, &right_answers());
    for kind in ["download", "load", "merge"] {
        let parts = again["parts"].as_array().unwrap().iter().filter(|part| part["kind"] == kind);
        let outcomes: Vec<_> = parts.map(|part| part["outcome"].as_str().unwrap_or_default()).collect();
        assert!(outcomes.iter().all(|outcome| outcome.starts_with("already")), "{kind}: {outcomes:?}");
    }
}
