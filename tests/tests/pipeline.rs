//! The example, as the README runs it: from raw files to six answers, twice, and what one sees of it afterwards.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use regex::Regex;
use serde_json::Value;
use trireme_tests::answers::{assert_answers, part};
use trireme_tests::cli::{Client, Output};
use trireme_tests::cluster::{Cluster, Options, embedded, example, text};
use trireme_tests::data::sample;
use trireme_tests::python::Python;

const TABLES: [(&str, i64); 6] = [
    ("stream.movies", 48),
    ("stream.streams", 2000),
    ("stream.users", 320),
    ("vendor.authors", 60),
    ("vendor.books", 60),
    ("vendor.reviews", 150),
];

fn run_embedded(storage: &std::path::Path) -> Output {
    let example = example();
    let arguments = ["run", example.to_str().unwrap(), "--output", "json"];
    Client::start(embedded(storage, 2, &arguments)).finish().done()
}

fn outcomes(run: &Value, kind: &str) -> Vec<String> {
    let parts = run["parts"].as_array().unwrap().iter().filter(|part| part["kind"] == kind);
    parts.map(|part| part["outcome"].as_str().unwrap_or("none").to_string()).collect()
}

#[test]
fn the_example_runs_embedded_and_a_second_run_changes_nothing() {
    let Some(python) = Python::find() else { return };
    let expected = python.answers(&[sample()]);
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");

    let first = run_embedded(&lake).json();
    assert_eq!(first["state"], "succeeded", "{first}");
    assert_eq!(first["pipeline"], "books-and-movies");
    assert_answers(&first, &expected);
    for kind in ["download", "load", "merge", "question"] {
        let count = match kind {
            "load" | "merge" => 3,
            _ => 6,
        };
        assert_eq!(outcomes(&first, kind), vec!["applied"; count], "{kind}: {first}");
    }
    let authors = &part(&first, "merge", "vendor.authors")["metrics"];
    assert_eq!(
        (&authors["rows_in"], &authors["rows_dropped"], &authors["rows_inserted"]),
        (&61.into(), &1.into(), &60.into())
    );
    python.check_tables(&lake, &[sample()], &[]);

    let again = run_embedded(&lake).json();
    assert_answers(&again, &expected);
    assert_eq!(outcomes(&again, "download"), ["already current"; 6], "{again}");
    assert_eq!(outcomes(&again, "load"), ["already applied"; 3], "{again}");
    assert_eq!(outcomes(&again, "merge"), ["already applied"; 3], "{again}");

    let cluster = Cluster::start(Options { storage: Some(text(&lake)), executors: 1, ..Options::default() });
    what_was_done_can_be_seen(&cluster, &first);
}

/// Everything that a run leaves behind, seen from a cluster that was started later over the same storage.
fn what_was_done_can_be_seen(cluster: &Cluster, first: &Value) {
    let tables = cluster.json(&["tables", "list"]).done().json_lines();
    let names: Vec<&str> = tables.iter().map(|table| table["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.len() == 12, "{names:?}");
    for (name, rows) in TABLES {
        let table = tables.iter().find(|table| table["name"] == name).unwrap();
        assert_eq!((&table["version"], &table["rows"]), (&0.into(), &rows.into()), "{table}");
        assert!(table["files"].as_u64().unwrap() > 0 && table["bytes"].as_u64().unwrap() > 0, "{table}");
        assert!(table["modified_at"].as_str().unwrap().ends_with('Z'), "{table}");
    }

    let shown = cluster.json(&["tables", "show", "vendor.reviews"]).done().json();
    let columns = shown["columns"].as_array().unwrap().iter();
    let columns: Vec<_> = columns
        .map(|column| format!("{} {}", column["name"].as_str().unwrap(), column["type"].as_str().unwrap()))
        .collect();
    assert_eq!(
        columns,
        [
            "text string",
            "rate_value int",
            "book_titles array<string>",
            "movie_titles array<string>",
            "created_at timestamp"
        ]
    );
    assert_eq!((&shown["name"], &shown["version"]), (&"vendor.reviews".into(), &0.into()));
    assert!(shown["location"].as_str().unwrap().ends_with("/tables/vendor/reviews"), "{shown}");
    assert!(shown["min_reader_version"].as_u64().unwrap() >= 1, "{shown}");

    let history = cluster.json(&["tables", "history", "vendor.reviews"]).done().json_lines();
    assert_eq!(history.len(), 1, "{history:?}");
    let merge = part(first, "merge", "vendor.reviews");
    assert_eq!(history[0]["version"], 0);
    assert_eq!(history[0]["job"], merge["id"], "{history:?}");
    let history = cluster.json(&["tables", "history", "analytics.unforgiven_outage"]).done().json_lines();
    assert_eq!(history.len(), 2, "a question replaces its table at every run: {history:?}");

    let sources = cluster.json(&["raw", "list"]).done().json_lines();
    assert_eq!(sources.len(), 6, "{sources:?}");
    let reviews = sources.iter().find(|source| source["name"] == "vendor.reviews").unwrap();
    assert_eq!(reviews["versions"], 1, "{reviews}");
    let versions = cluster.json(&["raw", "show", "vendor.reviews"]).done().json_lines();
    assert_eq!(versions.len(), 1);
    let (version, file) = (&versions[0], sample().join("reviews.json"));
    assert_eq!(version["version"], reviews["current"]);
    assert_eq!((&version["current"], &version["format"]), (&true.into(), &"json".into()));
    assert_eq!(version["bytes"].as_u64().unwrap(), std::fs::metadata(&file).unwrap().len());
    let sha256 = std::process::Command::new("sha256sum").arg(&file).output().unwrap().stdout;
    assert_eq!(version["sha256"].as_str().unwrap(), &String::from_utf8(sha256).unwrap()[..64]);
    assert!(version["origin"].as_str().unwrap().ends_with("/books-and-movies/data/reviews.json"), "{version}");
    let raw = cluster.lake().join("raw/vendor.reviews").join(version["version"].as_str().unwrap());
    let mut landed = std::fs::read_dir(&raw).unwrap().map(|entry| entry.unwrap().path());
    let landed = landed.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("part-")).unwrap();
    assert_eq!(std::fs::read(landed).unwrap(), std::fs::read(&file).unwrap(), "raw bytes are unchanged");

    let jobs = cluster.json(&["jobs", "list"]).done().json_lines();
    assert_eq!(jobs.len(), 2, "two runs: {jobs:?}");
    assert!(jobs.iter().all(|job| job["kind"] == "pipeline" && job["state"] == "succeeded"), "{jobs:?}");
    assert!(jobs[0]["submitted_at"].as_str() > jobs[1]["submitted_at"].as_str(), "newest first");
    assert_eq!(jobs[1]["id"], first["id"]);
    let job = cluster.job(merge["id"].as_str().unwrap());
    assert_eq!((&job["kind"], &job["name"], &job["parent"]), (&"merge".into(), &"vendor.reviews".into(), &first["id"]));
    assert_eq!((&job["state"], &job["outcome"]), (&"succeeded".into(), &"applied".into()));
    assert_eq!((&job["delta_version"], &job["raw_version"]), (&0.into(), &version["version"]));
    let metrics = &job["metrics"];
    assert_eq!(
        (&metrics["rows_in"], &metrics["rows_inserted"], &metrics["rows_updated"]),
        (&150.into(), &150.into(), &0.into())
    );
    assert!(metrics["bytes_in"].as_u64().unwrap() > 0 && metrics["bytes_out"].as_u64().unwrap() > 0, "{job}");
    assert!(metrics["files_added"].as_u64().unwrap() > 0, "{job}");
    let stages = job["stages"].as_array().unwrap();
    assert!(!stages.is_empty(), "{job}");
    for stage in stages {
        assert_eq!(stage["tasks_done"], stage["tasks_total"], "{job}");
        let by_executor: u64 =
            stage["tasks_by_executor"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(stage["tasks_done"], by_executor, "{job}");
    }
    assert!(job["duration_ms"].as_i64().is_some(), "{job}");
}

/// Text output without what differs from run to run: ids, times, durations, sizes that depend on compression.
fn masked(output: &str) -> String {
    let masks = [
        (r"\b\d{8}T\d{9}Z\b", "VERSION"),
        (r"\b\d{8}-\d{6}-\w+\b", "JOB"),
        (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\b", "MOMENT"),
        (r"\b(\d+ ms|\d+\.\d s|\d+ min \d\d s)(\b|$)", "DURATION"),
        (r"\b\d[\d.]* (B|kB|MB)\b", "SIZE"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
        (r"\b(\w+(?:Ms|Bytes))=\d+", "$1=N"),
        // Columns are as wide as what was masked.
        (r" {2,}", "  "),
        (r"(?m) +$", ""),
    ];
    masks.iter().fold(output.to_string(), |text, (pattern, mask)| {
        Regex::new(pattern).unwrap().replace_all(&text, *mask).into_owned()
    })
}

#[test]
fn text_output_is_for_people() {
    let cluster = Cluster::start(Options::default());
    let example = example();
    let run = ["run", example.to_str().unwrap()];
    let first = cluster.cli(&run).done();
    insta::assert_snapshot!("first_run", masked(&first.stdout));
    for line in [
        "download stream.users: applied in",
        "merge vendor.reviews: applied in",
        "pipeline books-and-movies: applied in",
    ] {
        assert!(first.stderr.contains(line), "{first}");
    }
    let again = cluster.cli(&run).done();
    insta::assert_snapshot!("second_run", masked(&again.stdout));

    insta::assert_snapshot!("tables_list", masked(&cluster.cli(&["tables", "list"]).done().stdout));
    let shown = cluster.cli(&["tables", "show", "vendor.authors"]).done();
    insta::assert_snapshot!("tables_show", masked(&shown.stdout.replace(cluster.storage(), "LAKE")));
    let history = cluster.cli(&["tables", "history", "stream.streams"]).done();
    insta::assert_snapshot!("tables_history", masked(&history.stdout));
    insta::assert_snapshot!("raw_list", masked(&cluster.cli(&["raw", "list"]).done().stdout));
    insta::assert_snapshot!("jobs_list", masked(&cluster.cli(&["jobs", "list"]).done().stdout));
    let sql = "SELECT title, duration_mins, size_mb FROM stream.movies ORDER BY size_mb DESC, title LIMIT 3";
    insta::assert_snapshot!("sql", cluster.cli(&["sql", sql]).done().stdout);
}
