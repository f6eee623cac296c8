//! Generated days, loaded and merged on two executors, against what DuckDB makes of the raw files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::collections::BTreeSet;

use serde_json::Value;
use trireme_tests::answers::assert_answers;
use trireme_tests::cluster::{Cluster, Options};
use trireme_tests::data::{self, Layout, Project};
use trireme_tests::python::Python;

/// Tables that are worth several tasks, and what makes them.
const LARGE: [(&str, &str); 2] = [("stream.streams", "load"), ("vendor.reviews", "merge")];

/// The executors that did tasks of a job.
fn executors(job: &Value) -> BTreeSet<String> {
    let stages = job["stages"].as_array().unwrap().iter();
    stages.flat_map(|stage| stage["tasks_by_executor"].as_object().unwrap().keys().cloned()).collect()
}

#[test]
fn two_days_are_merged_row_for_row() {
    let Some(python) = Python::find() else { return };
    let size = data::size(20_000_000);
    let mut options = Options::default();
    if size > 200_000_000 {
        // Large enough for the settings that everybody has.
        options.scheduler.clear();
    }
    let cluster = Cluster::start(options);
    let days = data::generate(cluster.folder(), size, 2, Layout::Ndjson);
    let project = Project::new(&cluster.folder().join("project"), &days[0]);
    for day in 1..=2 {
        project.deliver(&days[day - 1]);
        for (table, kind) in LARGE {
            // Alone, so that no other job keeps an executor busy.
            cluster.json(&["run", &project.pipeline(), "--only", table]).done();
            let job = cluster.jobs(kind, table).remove(0);
            let job = cluster.job(job["id"].as_str().unwrap());
            assert_eq!(executors(&job).len(), 2, "every executor did tasks: {job}");
            println!("day {day}, {kind} of {table}: {} ms, {}", job["duration_ms"], job["metrics"]);
        }
        let run = cluster.json(&["run", &project.pipeline()]).done().json();
        assert_answers(&run, &python.answers(&days[..day]));
        let found = python.check_tables(&cluster.lake(), &days[..day], &[]);
        for (table, _) in LARGE {
            let count = cluster.number(&format!("SELECT count(*) AS n FROM {table}"));
            assert_eq!(found[table]["rows"], count);
        }
    }
    let mut merges = cluster.jobs("merge", "vendor.reviews").into_iter();
    let merge = merges.find(|job| job["outcome"] == "applied").unwrap();
    let counts = ["rows_in", "rows_inserted", "rows_updated"].map(|name| merge["metrics"][name].as_u64().unwrap());
    assert_eq!(counts[0], counts[1] + counts[2], "every row of a delivery is new or replaces one: {merge}");
    assert!(counts[1] > 0 && counts[2] > 0, "{merge}");
}
