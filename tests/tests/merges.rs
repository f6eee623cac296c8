//! Merges that do other things than to update and to insert all: clauses, histories, change data; by flags and by a pipeline.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;

use serde_json::{Value, json};
use trireme_tests::cluster::{Cluster, Options};
use trireme_tests::python::Python;

/// The counts that a merge tells: in, inserted, updated, deleted, ignored.
fn counts(job: &Value) -> [u64; 5] {
    ["rows_in", "rows_inserted", "rows_updated", "rows_deleted", "rows_ignored"]
        .map(|name| job["metrics"][name].as_u64().unwrap())
}

/// Every file in a table's folder is one that its log names: what was written on the way is gone. Files of attempts that were thrown away stay until a
/// vacuum: on a busy machine there may be such.
#[track_caller]
fn has_only_its_files(cluster: &Cluster, table: &str) {
    if fs::read_to_string(cluster.folder().join("scheduler.log")).unwrap().contains("discarded, running again") {
        println!("an attempt was discarded: files of {table} are not looked at");
        return;
    }
    let folder = cluster.lake().join("tables").join(table.replace('.', "/"));
    let log: String = fs::read_dir(folder.join("_delta_log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut folders = vec![folder.clone()];
    if folder.join("_change_data").is_dir() {
        folders.push(folder.join("_change_data"));
    }
    for entry in folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".parquet") {
            assert!(log.contains(&name), "{name} is left in {table}");
        }
    }
}

/// 800,000 keys, of which an executor has room for a third at a time.
#[test]
fn keys_that_executors_have_no_room_for_are_looked_for_in_turns() {
    let mut cluster = Cluster::start(Options { memory_pool: "8MB", ..Options::default() });
    let rows = |range: std::ops::Range<u32>, of: &str| -> String {
        std::iter::once("k,v\n".to_string()).chain(range.map(|k| format!("{k},{of}\n"))).collect()
    };
    let merge = || {
        let line = [
            "merge",
            "--table",
            "a.rows",
            "--source",
            "a.rows",
            "--pk",
            "k",
            "-t",
            "CAST(k AS bigint) AS k",
            "-t",
            "v",
        ];
        cluster.json(&line)
    };
    cluster.deliver("a.rows", "day-1.csv", rows(0..800_000, "one"));
    assert_eq!(counts(&merge().done().json()), [800_000, 800_000, 0, 0, 0]);
    cluster.deliver("a.rows", "day-2.csv", rows(700_000..1_500_000, "two"));
    assert_eq!(counts(&merge().done().json()), [800_000, 700_000, 100_000, 0, 0]);
    assert_eq!(cluster.number("SELECT count(*) FROM a.rows"), 1_500_000);
    assert_eq!(cluster.number("SELECT count(*) FROM a.rows WHERE v = 'two'"), 800_000);
    // All values of a median would not find room, either.
    let answer = cluster.sql("SELECT median(k) AS m, count(*) AS n FROM a.rows");
    assert_eq!(answer, [json!({ "m": 749_999.5, "n": 1_500_000 })]);
    let log = cluster.scheduler().log();
    assert!(log.contains("keys are looked for in more turns"), "{log}");
}

const COPY_ON_WRITE: &str = "delta.enableDeletionVectors=false";

/// Changes of a day, each with its operation: the common case of `delete_if`.
fn changes_are_applied(vectors: bool) {
    let cluster = Cluster::start(Options::default());
    let merge = |more: &[&str]| {
        let line = ["merge", "--table", "crm.users", "--source", "crm.changes", "--pk", "id"];
        let columns = ["-t", "id", "-t", "name", "-t", "CAST(at AS int) AS at", "-t", "op"];
        let clauses =
            ["--when-matched", "delete_if=source.op = 'D'", "--when-matched", "update_if=source.at > Target.at"];
        let inserts = ["--when-not-matched", "insert_if=op <> 'D'", "--property", "delta.enableChangeDataFeed=true"];
        let property = if vectors { vec![] } else { vec!["--property", COPY_ON_WRITE] };
        let line = [&line[..], &columns, &clauses, &inserts, &property, more].concat();
        cluster.json(&line).done().json()
    };
    let rows = |sql: &str| cluster.sql(&format!("SELECT id, name, at FROM crm.users {sql} ORDER BY id"));
    cluster.deliver(
        "crm.changes",
        "day-1.csv",
        "id,name,at,op\n1,ann,1,I\n2,bob,1,I\n3,cid,1,I\n4,dan,1,I\n5,gone,1,D\n",
    );
    assert_eq!(counts(&merge(&[])), [5, 4, 0, 0, 1]);
    cluster.deliver(
        "crm.changes",
        "day-2.csv",
        "id,name,at,op\n1,anna,2,U\n2,late,0,U\n3,,3,D\n6,eve,2,I\n7,never,2,D\n",
    );
    let job = merge(&[]);
    assert_eq!(counts(&job), [5, 1, 1, 1, 2], "{job}");
    let expected = json!([{ "id": "1", "name": "anna", "at": 2 }, { "id": "2", "name": "bob", "at": 1 },
        { "id": "4", "name": "dan", "at": 1 }, { "id": "6", "name": "eve", "at": 2 }]);
    assert_eq!(json!(rows("")), expected);
    let again = merge(&[]);
    assert_eq!((&again["outcome"], json!(rows(""))), (&json!("already applied"), expected), "{again}");
    // A plain upsert tells its changes, too.
    cluster.deliver("crm.changes", "day-3.csv", "id,name,at,op\n4,don,3,U\n8,fay,3,I\n");
    let upsert = ["merge", "--table", "crm.users", "--source", "crm.changes", "--pk", "id"];
    let columns = ["-t", "id", "-t", "name", "-t", "CAST(at AS int) AS at", "-t", "op"];
    let job = cluster.json(&[&upsert[..], &columns].concat()).done().json();
    assert_eq!(counts(&job), [2, 1, 1, 0, 0], "{job}");
    has_only_its_files(&cluster, "crm.users");
    let show = cluster.json(&["tables", "show", "crm.users"]).done().json();
    assert_eq!(show["properties"]["delta.enableChangeDataFeed"], "true", "{show}");
    assert_eq!(show["properties"]["delta.enableDeletionVectors"], json!(vectors.to_string()), "{show}");
    let history = cluster.json(&["tables", "history", "crm.users"]).done().json_lines();
    assert_eq!(history[1]["metrics"]["numTargetRowsDeleted"], "1", "{}", history[1]);

    let Some(python) = Python::find() else { return };
    let users = json!({ "crm.users": 5 });
    let seen = python.run("readers.py", [cluster.lake()]).unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(seen["crm.users"]["rows"], users["crm.users"], "{seen}");
    let lake = cluster.lake().into_os_string();
    let feed = python.run("changes.py", [lake, "crm.users".into()]).unwrap_or_else(|said| panic!("{said}"));
    let change = |version: u64, kind: &str, id: &str, name: &str| json!([version, kind, id, name]);
    let mut expected = vec![
        change(0, "insert", "1", "ann"),
        change(0, "insert", "2", "bob"),
        change(0, "insert", "3", "cid"),
        change(0, "insert", "4", "dan"),
        change(1, "update_preimage", "1", "ann"),
        change(1, "update_postimage", "1", "anna"),
        change(1, "delete", "3", "cid"),
        change(1, "insert", "6", "eve"),
        change(2, "update_preimage", "4", "dan"),
        change(2, "update_postimage", "4", "don"),
        change(2, "insert", "8", "fay"),
    ];
    let told = feed.as_array().unwrap().iter();
    let mut told: Vec<Value> =
        told.map(|row| json!([row["_commit_version"], row["_change_type"], row["id"], row["name"]])).collect();
    for list in [&mut told, &mut expected] {
        list.sort_by_cached_key(Value::to_string);
    }
    assert_eq!(told, expected);
}

#[test]
fn changes_are_applied_as_their_operation_says_with_deletion_vectors() {
    changes_are_applied(true);
}

#[test]
fn changes_are_applied_as_their_operation_says_by_copy_on_write() {
    changes_are_applied(false);
}

/// Enough rows that the work is spread over executors: a full delivery replaces some columns, and what it lacks goes.
#[test]
fn a_full_delivery_updates_some_columns_and_deletes_what_it_lacks() {
    let cluster = Cluster::start(Options::default());
    let delivery = |ids: std::ops::Range<u64>, step: usize, day: u64| {
        let mut text = String::from("id,price,note\n");
        // Notes that do not compress, so that the table is worth several tasks.
        let mut state = day;
        for id in ids.step_by(step) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise: String = (0..8).map(|n| format!("{:x}", state.rotate_left(n * 7))).collect();
            text.push_str(&format!("{id},{},{day}-{noise}\n", id % 100 + day));
        }
        text
    };
    let merge = |more: &[&str]| {
        let line = ["merge", "--table", "shop.stock", "--source", "shop.stock", "--pk", "id"];
        let columns = ["-t", "CAST(id AS bigint) AS id", "-t", "CAST(price AS int) AS price", "-t", "note"];
        cluster.json(&[&line[..], &columns, more].concat()).done().json()
    };
    cluster.deliver("shop.stock", "day-1.csv", delivery(0..120_000, 1, 1));
    assert_eq!(counts(&merge(&[])), [120_000, 120_000, 0, 0, 0]);
    cluster.deliver("shop.stock", "day-2.csv", delivery(0..160_000, 2, 2));
    let clauses = [
        "--when-matched",
        "update_if=source.price % 4 = 0",
        "--update",
        "price",
        "--when-not-matched-by-source",
        "delete",
    ];
    let job = merge(&clauses);
    // Prices of even ids are even: of the 60,000 that are known, those of ids that are 2 below a multiple of 4 change.
    assert_eq!(counts(&job), [80_000, 20_000, 30_000, 60_000, 30_000], "{job}");
    let tasks = |stage: &Value| stage["tasks_total"].as_u64().unwrap();
    let stages = job["stages"].as_array().unwrap();
    assert!(stages.iter().any(|stage| tasks(stage) > 1), "one task did it all: {job}");
    assert_eq!(cluster.number("SELECT count(*) AS n FROM shop.stock"), 80_000);
    assert_eq!(cluster.number("SELECT count(DISTINCT id) AS n FROM shop.stock"), 80_000);
    let wrong = "SELECT count(*) AS n FROM shop.stock WHERE price <> id % 100 + IF(id >= 120000 OR (id % 100 + 2) % 4 = 0, 2, 1) \
                 OR note NOT LIKE IF(id >= 120000, '2-%', '1-%')";
    assert_eq!(cluster.number(wrong), 0);
    has_only_its_files(&cluster, "shop.stock");
}

#[test]
fn a_pipeline_keeps_a_history() {
    let cluster = Cluster::start(Options::default());
    let folder = cluster.folder().join("project");
    fs::create_dir_all(&folder).unwrap();
    let pipeline = folder.join("pipeline.yaml");
    let text = "\
name: history
sources:
  crm.users: { from: users.csv }
tables:
  crm.users:
    source: crm.users
    mode: merge
    primary_key: [id]
    properties: { delta.enableDeletionVectors: false }
    when_matched: { update_if: source.city <> target.city }
    when_not_matched_by_source: delete
  crm.users_history:
    source: crm.users
    mode: history
    primary_key: [id]
    valid_from: since
    columns: [id, city, to_timestamp(since) AS since]
";
    fs::write(&pipeline, text).unwrap();
    let run = |users: &str| {
        fs::write(folder.join("users.csv"), format!("id,city,since\n{users}")).unwrap();
        cluster.json(&["run", pipeline.to_str().unwrap()]).done().json()
    };
    let past = || {
        let rows = cluster.sql("SELECT * FROM crm.users_history ORDER BY id, valid_from");
        rows.iter()
            .map(|row| {
                let text = |name: &str| row[name].as_str().unwrap_or("-").chars().take(10).collect::<String>();
                format!(
                    "{} {} {} {} {}",
                    text("id"),
                    text("city"),
                    text("valid_from"),
                    text("valid_to"),
                    row["is_current"]
                )
            })
            .collect::<Vec<_>>()
    };
    run("1,Oslo,2026-01-01T00:00:00Z\n2,Rome,2026-01-01T00:00:00Z\n");
    assert_eq!(past(), ["1 Oslo 2026-01-01 - true", "2 Rome 2026-01-01 - true"]);
    run("1,Bern,2026-02-01T00:00:00Z\n2,Rome,2026-01-01T00:00:00Z\n3,Bonn,2026-02-01T00:00:00Z\n");
    let after = [
        "1 Oslo 2026-01-01 2026-02-01 false",
        "1 Bern 2026-02-01 - true",
        "2 Rome 2026-01-01 - true",
        "3 Bonn 2026-02-01 - true",
    ];
    assert_eq!(past(), after);
    // Nothing new, and a row that is older than what is known.
    run("1,Kiel,2026-01-15T00:00:00Z\n2,Rome,2026-01-01T00:00:00Z\n");
    assert_eq!(past(), after);
    assert_eq!(cluster.number("SELECT count(*) AS n FROM crm.users"), 2);
    run("1,Kiel,2026-03-01T00:00:00Z\n");
    assert_eq!(past()[..3], [after[0], "1 Bern 2026-02-01 2026-03-01 false", "1 Kiel 2026-03-01 - true"]);
    assert_eq!(cluster.number("SELECT count(*) AS n FROM crm.users_history WHERE is_current"), 3);
    has_only_its_files(&cluster, "crm.users");
    has_only_its_files(&cluster, "crm.users_history");
    let show = cluster.json(&["tables", "show", "crm.users"]).done().json();
    assert_eq!(show["properties"]["delta.enableDeletionVectors"], "false", "{show}");
}

#[test]
fn what_can_not_be_is_refused_before_any_work() {
    let cluster = Cluster::start(Options::default());
    cluster.deliver("a.s", "s.csv", "id,x\n1,2\n");
    let merge = |more: &[&str]| {
        let line = ["merge", "--table", "a.t", "--source", "a.s", "--pk", "id"];
        cluster.cli(&[&line[..], more].concat())
    };
    merge(&["--when-matched", "update_if=source.y = 1"]).failed(64, &["there is no column `source.y`", "`id`, `x`"]);
    merge(&["--when-matched", "update_if=x = 1"]).failed(64, &["`x` is a column of several tables", "`target.`"]);
    merge(&["--when-matched", "update_if=source.x"]).failed(64, &["the condition is string, not boolean"]);
    merge(&["--when-matched", "replace"]).failed(64, &["`replace` is no clause", "`update`"]);
    merge(&["--when-matched", "update", "--when-matched", "ignore"]).failed(64, &["never reached"]);
    merge(&["--when-matched", "ignore", "--when-not-matched", "ignore"]).failed(64, &["ignores every row"]);
    merge(&["--update", "id"]).failed(64, &["in the primary key"]);
    merge(&["--update", "y"]).failed(64, &["`y`, which the source does not have", "id, x"]);
    merge(&["--history", "--valid-from", "x"]).failed(64, &["`x`, which is no timestamp or date"]);
    merge(&["--property", "delta.appendOnly=true"]).failed(64, &["`delta.appendOnly`", "delta.enableChangeDataFeed"]);
    merge(&["--property", "delta.enableChangeDataFeed=yes"]).failed(64, &["can't be `yes`", "`true` or `false`"]);
    assert!(cluster.json(&["tables", "list"]).done().json_lines().is_empty(), "nothing was made");
    merge(&[]).done();
    cluster.deliver("a.s", "s.csv", "id,x\n1,3\n");
    let before = cluster.state();
    merge(&["--property", COPY_ON_WRITE]).failed(64, &["delta.enableDeletionVectors: true", "`false`"]);
    merge(&["--history"]).failed(64, &["is there and is no history"]);
    assert_eq!(cluster.state(), before);
}
