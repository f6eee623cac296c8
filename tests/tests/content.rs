//! A table holds what was asked last: `already applied` is about its content, whoever changed it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use trireme_tests::cluster::{Cluster, Options, has_ended};
use trireme_tests::wait_for;

const TABLE: &str = "t.held";

struct World(Cluster);

impl World {
    fn new() -> Self {
        let world = Self(Cluster::start(Options { executors: 1, ..Options::default() }));
        for (source, rows) in [("raw.a", "{\"id\":1,\"v\":\"a\"}"), ("raw.b", "{\"id\":2,\"v\":\"b\"}")] {
            world.0.deliver(source, "rows.ndjson", rows);
        }
        world
    }

    /// Runs a load or merge of a source, and tells whether it was applied.
    #[track_caller]
    fn does(&self, what: &str, source: &str, more: &[&str]) -> bool {
        let keys: &[&str] = if what == "merge" { &["--pk", "id"] } else { &[] };
        let line = [&[what, "--table", TABLE, "--source", source], keys, more].concat();
        match self.0.json(&line).done().json()["outcome"].as_str() {
            Some("applied") => true,
            Some("already applied") => false,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn holds(&self, values: &[&str]) {
        let rows = self.0.sql(&format!("SELECT v FROM {TABLE} ORDER BY id"));
        let found: Vec<&str> = rows.iter().map(|row| row["v"].as_str().unwrap_or("NULL")).collect();
        assert_eq!(found, values);
    }

    fn log(&self) -> PathBuf {
        self.0.lake().join("tables/t/held/_delta_log")
    }

    fn newest(&self) -> u64 {
        let versions = fs::read_dir(self.log())
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.parse().ok());
        versions.max().unwrap()
    }

    fn actions(&self, version: u64) -> Vec<Value> {
        let text = fs::read_to_string(self.log().join(format!("{version:020}.json"))).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A commit as another engine writes one.
    fn other_writer(&self, operation: &str, parameters: Value, actions: Vec<Value>) {
        let info = json!({"commitInfo": {"timestamp": 1_795_000_000_000_u64, "operation": operation,
            "operationParameters": parameters, "engineInfo": "Other/1.0"}});
        let lines: Vec<String> = [info].into_iter().chain(actions).map(|action| action.to_string()).collect();
        fs::write(self.log().join(format!("{:020}.json", self.newest() + 1)), lines.join("\n")).unwrap();
    }

    /// The adds of a version's commit.
    fn adds(&self, version: u64) -> Vec<Value> {
        self.actions(version).into_iter().filter(|action| action.get("add").is_some()).collect()
    }
}

fn removed(add: &Value) -> Value {
    json!({"remove": {"path": add["add"]["path"], "dataChange": true, "deletionTimestamp": 1_795_000_000_000_u64,
        "extendedFileMetadata": true, "partitionValues": {}, "size": add["add"]["size"],
        "deletionVector": add["add"]["deletionVector"]}})
}

#[test]
fn a_load_is_applied_while_nothing_has_replaced_its_content() {
    let world = World::new();
    assert!(world.does("load", "raw.a", &[]));
    assert!(!world.does("load", "raw.a", &[]));
    assert!(world.does("load", "raw.b", &[]));
    assert!(world.does("load", "raw.a", &[]));
    world.holds(&["a"]);
    // Another spec, and back.
    assert!(world.does("load", "raw.a", &["-t", "id", "-t", "upper(v) AS v"]));
    world.holds(&["A"]);
    assert!(world.does("load", "raw.a", &[]));
    world.holds(&["a"]);
    // A merge into it.
    assert!(world.does("merge", "raw.b", &[]));
    world.holds(&["a", "b"]);
    assert!(world.does("load", "raw.a", &[]));
    world.holds(&["a"]);
    // The merge was overwritten.
    assert!(world.does("merge", "raw.b", &[]));
    assert!(!world.does("merge", "raw.b", &[]));
    world.holds(&["a", "b"]);
    // A question's result replaces it.
    let file = world.0.folder().join("q.sql");
    fs::write(&file, "SELECT CAST(9 AS bigint) AS id, 'q' AS v").unwrap();
    world.0.json(&["question", "--sql", file.to_str().unwrap(), "--table", TABLE]).done();
    assert!(world.does("merge", "raw.b", &[]));
    world.holds(&["b", "q"]);
}

#[test]
fn what_other_writers_do_counts() {
    let world = World::new();
    assert!(world.does("load", "raw.a", &[]));
    let first = world.adds(0);
    assert!(world.does("merge", "raw.b", &[]));

    // Files that are only moved change nothing, and neither do properties.
    world.other_writer("SET TBLPROPERTIES", json!({}), Vec::new());
    assert!(!world.does("merge", "raw.b", &[]));
    // A restore takes the merge back.
    let second = world.adds(1);
    world.other_writer("RESTORE", json!({"version": "0"}), second.iter().map(removed).collect());
    world.holds(&["a"]);
    assert!(world.does("merge", "raw.b", &[]));
    assert!(!world.does("merge", "raw.b", &[]));
    world.holds(&["a", "b"]);
    // An append is no reason to merge again, but one to load again.
    let mut copy = first[0].clone();
    let folder = world.0.lake().join("tables/t/held");
    fs::copy(folder.join(copy["add"]["path"].as_str().unwrap()), folder.join("theirs.parquet")).unwrap();
    copy["add"]["path"] = json!("theirs.parquet");
    world.other_writer("WRITE", json!({"mode": "Append"}), vec![copy.clone()]);
    world.holds(&["a", "a", "b"]);
    assert!(!world.does("merge", "raw.b", &[]));
    assert!(world.does("load", "raw.a", &[]));
    world.holds(&["a"]);
    // A foreign overwrite voids what was before it, also a load whose bytes are the same.
    let held = world.adds(world.newest());
    let actions = held.iter().map(removed).chain([copy]).collect();
    world.other_writer("WRITE", json!({"mode": "Overwrite"}), actions);
    assert!(world.does("load", "raw.a", &[]));
    assert!(!world.does("load", "raw.a", &[]));
    world.holds(&["a"]);
}

#[test]
fn a_null_never_comes_into_a_column_that_has_none() {
    let world = World::new();
    assert!(world.does("load", "raw.a", &[]));
    let mut metadata = world.actions(0).into_iter().find(|action| action.get("metaData").is_some()).unwrap();
    let schema = metadata["metaData"]["schemaString"].as_str().unwrap();
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    for field in schema["fields"].as_array_mut().unwrap() {
        field["nullable"] = json!(field["name"] != "v");
    }
    metadata["metaData"]["schemaString"] = json!(schema.to_string());
    world.other_writer("CHANGE COLUMN", json!({}), vec![metadata]);

    let named = ["column `v` of table t.held is NOT NULL", "raw skip raw.n@"];
    world.0.deliver("raw.n", "rows.ndjson", "{\"id\":3,\"v\":null}\n{\"id\":4,\"v\":\"d\"}");
    for line in [
        &["load", "--table", TABLE, "--source", "raw.n"][..],
        &["merge", "--table", TABLE, "--source", "raw.n", "--pk", "id"],
        &["merge", "--table", TABLE, "--source", "raw.n", "--pk", "id", "--when-matched", "update_if=source.id > 0"],
    ] {
        world.0.cli(line).failed(1, &named);
    }
    let file = world.0.folder().join("q.sql");
    fs::write(&file, "SELECT id, CASE WHEN id > 1 THEN v END AS v FROM t.held").unwrap();
    world.0.cli(&["question", "--sql", file.to_str().unwrap(), "--table", TABLE]).failed(1, &named[..1]);
    world.holds(&["a"]);
    assert!(world.does("merge", "raw.n", &["--where", "v IS NOT NULL"]));
    world.holds(&["a", "d"]);
    let shown = world.0.json(&["tables", "show", TABLE]).done().json();
    let v = shown["columns"].as_array().unwrap().iter().find(|column| column["name"] == "v").unwrap();
    assert_eq!(v["nullable"], false);
}

/// A load that waits for an executor, and what the journal says of it: that can be put back after the job's end.
fn waiting_load(world: &mut World, source: &str) -> (String, String) {
    world.0.kill_executor(0);
    let client = world.0.begin(&["load", "--table", TABLE, "--source", source]);
    let job = wait_for("the job", || world.0.jobs("load", TABLE).into_iter().find(|job| !has_ended(job)));
    client.kill();
    let id = job["id"].as_str().unwrap().to_string();
    let record = fs::read_to_string(world.0.lake().join(format!("jobs/{id}.json"))).unwrap();
    (id, record)
}

#[test]
fn a_job_that_a_restarted_scheduler_finds_is_not_done_twice_and_goes_over_no_newer_one() {
    let mut world = World::new();
    world.0.deliver("raw.c", "rows.ndjson", "{\"id\":3,\"v\":\"c\"}");
    assert!(world.does("load", "raw.b", &[]));
    let (done, done_record) = waiting_load(&mut world, "raw.a");
    world.0.add_executor();
    assert_eq!(world.0.ended(&done)["state"], "succeeded");
    // Of content that the table does not hold: else it would be done at once, without an executor.
    let (cancelled, cancelled_record) = waiting_load(&mut world, "raw.c");
    world.0.json(&["jobs", "cancel", &cancelled]).done();
    world.0.add_executor();
    assert!(world.does("load", "raw.b", &[]));
    world.holds(&["b"]);
    let version = world.newest();

    world.0.kill_scheduler();
    for (id, record) in [(&done, done_record), (&cancelled, cancelled_record)] {
        fs::write(world.0.lake().join(format!("jobs/{id}.json")), record).unwrap();
    }
    world.0.restart_scheduler();
    assert_eq!(world.0.ended(&done)["state"], "succeeded");
    let refused = world.0.ended(&cancelled);
    assert_eq!(refused["error"]["code"], "conflict", "{refused}");
    assert_eq!(world.newest(), version);
    world.holds(&["b"]);
}

#[test]
fn a_timestamp_without_a_zone_stays_one() {
    let world = World::new();
    let question = |table: &str, sql: &str| {
        let file = world.0.folder().join("q.sql");
        fs::write(&file, sql).unwrap();
        world.0.json(&["question", "--sql", file.to_str().unwrap(), "--table", table]).done();
        world.0.json(&["tables", "show", table]).done().json()
    };
    let types = |shown: &Value| -> Vec<String> {
        let columns = shown["columns"].as_array().unwrap().iter();
        columns.map(|column| column["type"].as_str().unwrap().to_string()).collect()
    };
    let local = question(
        "t.local",
        "SELECT CAST('2026-03-29 02:30:00' AS timestamp_ntz) AS at, CAST('2026-03-29 02:30:00' AS timestamp) AS instant",
    );
    assert_eq!(types(&local), ["timestamp_ntz", "timestamp"]);
    assert_eq!((&local["min_reader_version"], &local["min_writer_version"]), (&json!(3), &json!(7)));
    let copy = question("t.copy", "SELECT at, at AS again FROM t.local WHERE at > '2026-01-01'");
    assert_eq!(types(&copy), ["timestamp_ntz", "timestamp_ntz"]);
    assert_eq!(world.0.sql("SELECT CAST(at AS string) AS at FROM t.copy"), [json!({"at": "2026-03-29 02:30:00"})]);
    // A table of an older protocol gets one that knows them.
    assert_eq!(types(&question("t.grows", "SELECT 1 AS x")), ["int"]);
    let grown = question("t.grows", "SELECT at FROM t.local");
    assert_eq!((types(&grown), &grown["min_reader_version"]), (vec!["timestamp_ntz".to_string()], &json!(3)));
}
