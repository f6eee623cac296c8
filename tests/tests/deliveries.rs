//! Bad, empty, late and corrected deliveries: none stops a table for good, and none is passed over silently.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};
use trireme_tests::{
    cli::Output,
    cluster::{Cluster, Options},
    setting,
};

const SOURCE: &str = "raw.days";
const TABLE: &str = "t.days";

struct World {
    cluster: Cluster,
    versions: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self { cluster: Cluster::start(Options { executors: 1, ..Options::default() }), versions: Vec::new() }
    }

    fn deliver(&mut self, file: &str, content: &str) {
        let job = self.cluster.deliver(SOURCE, file, content);
        self.versions.push(job["raw_version"].as_str().unwrap().to_string());
    }

    fn merge(&self, more: &[&str]) -> Output {
        let line = ["merge", "--table", TABLE, "--source", SOURCE, "--pk", "id", "--all-pending"];
        self.cluster.json(&[&line, more].concat())
    }

    #[track_caller]
    fn holds(&self, rows: &[(i64, &str)]) {
        let rows: Vec<Value> = rows.iter().map(|(id, v)| json!({ "id": id, "v": v })).collect();
        assert_eq!(self.cluster.sql(&format!("SELECT id, v FROM {TABLE} ORDER BY id")), rows);
    }

    fn at(&self, index: usize) -> String {
        format!("{SOURCE}@{}", self.versions[index])
    }

    fn mark(&self, index: usize) -> Value {
        let listed = self.cluster.json(&["raw", "show", SOURCE]).done().json_lines();
        listed.iter().find(|version| version["version"] == self.versions[index]).unwrap()["mark"].clone()
    }
}

#[test]
fn a_bad_delivery_fails_alone_until_it_is_skipped_or_superseded() {
    let mut world = World::new();
    world.deliver("d.ndjson", "{\"id\":1,\"v\":\"one\"}\n{\"id\":2,\"v\":\"two\"}");
    world.merge(&[]).done();
    world.deliver("d.ndjson", "{\"id\":2,\"v\":\"TWO\"}\n{\"id\":3,\"v\":");
    let way_out = format!("trireme raw skip {}", world.at(1));
    world.merge(&[]).failed(1, &[&way_out]);
    world.holds(&[(1, "one"), (2, "two")]);
    // What is behind it comes in, but the job says that one is missing, each time.
    world.deliver("d.ndjson", "{\"id\":4,\"v\":\"four\"}\n{\"id\":2,\"v\":\"2\"}");
    world.merge(&[]).failed(1, &[&way_out, &world.versions[1], &world.versions[2]]);
    world.holds(&[(1, "one"), (2, "2"), (4, "four")]);
    world.merge(&[]).failed(1, &[&way_out]);

    world.cluster.json(&["raw", "skip", &world.at(1), "--reason", "half a file"]).done();
    assert_eq!(world.mark(1)["reason"], "half a file");
    assert_eq!(world.merge(&[]).done().json()["outcome"], "already applied");
    world.cluster.cli(&["merge", "--table", TABLE, "--source", &world.at(1), "--pk", "id"]).failed(1, &["half a file"]);
    // A redelivery is read in the place of what it corrects, so that later rows stay.
    world.cluster.json(&["raw", "unskip", &world.at(1)]).done();
    world.deliver("d.ndjson", "{\"id\":2,\"v\":\"TWO\"}\n{\"id\":3,\"v\":\"three\"}");
    world.cluster.json(&["raw", "supersede", &world.at(1), "--by", &world.versions[3]]).done();
    let job = world.merge(&[]).done().json();
    assert_eq!(job["raw_versions"], json!([world.versions[1], world.versions[2]]), "{job}");
    world.holds(&[(1, "one"), (2, "2"), (3, "three"), (4, "four")]);
    assert_eq!(world.merge(&[]).done().json()["outcome"], "already applied");
    let listed = world.cluster.json(&["raw", "list"]).done().json_lines();
    assert_eq!((&listed[0]["current"], &listed[0]["skipped"]), (&json!(world.versions[2]), &json!(0)), "{listed:?}");
}

#[test]
fn a_table_finds_what_it_lacks_again() {
    let mut world = World::new();
    world.deliver("d.ndjson", "{\"id\":1,\"v\":\"d1\"}");
    world.deliver("d.ndjson", "{\"id\":1,\"v\":\"d2\"}\n{\"id\":2,\"v\":\"d2\"}");
    world.deliver("d.ndjson", "{\"id\":3,\"v\":\"d3\"}");
    world.merge(&[]).done();
    world.holds(&[(1, "d2"), (2, "d2"), (3, "d3")]);
    // The oldest goes over a version that is skipped; once that one counts again it must go over the oldest.
    world.cluster.json(&["raw", "skip", &world.at(1)]).done();
    let since = |world: &World| {
        let line =
            ["merge", "--table", TABLE, "--source", SOURCE, "--pk", "id", "--since", &world.versions[0], "--force"];
        world.cluster.json(&line).done().json()["raw_versions"].clone()
    };
    assert_eq!(since(&world), json!([world.versions[0], world.versions[2]]));
    world.holds(&[(1, "d1"), (2, "d2"), (3, "d3")]);
    assert_eq!(world.merge(&[]).done().json()["outcome"], "already applied");
    world.cluster.json(&["raw", "unskip", &world.at(1)]).done();
    let plain = world.cluster.json(&["merge", "--table", TABLE, "--source", SOURCE, "--pk", "id"]).done().json();
    assert_eq!(
        (&plain["outcome"], &plain["skipped"][0]["version"]),
        (&json!("already applied"), &json!(world.versions[1])),
        "{plain}"
    );
    assert_eq!(world.merge(&[]).done().json()["raw_versions"], json!([world.versions[1], world.versions[2]]));
    world.holds(&[(1, "d2"), (2, "d2"), (3, "d3")]);
    assert_eq!(world.merge(&[]).done().json()["outcome"], "already applied");

    // One that stood in for another is read in its own place again.
    world.deliver("d.ndjson", "{\"id\":1,\"v\":\"d4\"}\n{\"id\":3,\"v\":\"d4\"}");
    world.cluster.json(&["raw", "supersede", &world.at(0), "--by", &world.versions[3]]).done();
    world.merge(&[]).done();
    world.holds(&[(1, "d2"), (2, "d2"), (3, "d3")]);
    world.cluster.json(&["raw", "unskip", &world.at(0)]).done();
    assert_eq!(world.merge(&[]).done().json()["raw_versions"], json!(world.versions));
    world.holds(&[(1, "d4"), (2, "d2"), (3, "d4")]);
    assert_eq!(world.merge(&[]).done().json()["outcome"], "already applied");
}

#[test]
fn what_others_put_there_is_never_passed_over() {
    let mut world = World::new();
    let put = |world: &World, version: &str, row: &str| {
        let folder = world.cluster.lake().join("raw").join(SOURCE).join(version);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("rows.ndjson"), row).unwrap();
    };
    let names: Vec<String> = (1..=5).map(|day| format!("2026010{day}T000000000Z")).collect();
    put(&world, &names[1], "{\"id\":1,\"v\":\"two\"}");
    put(&world, &names[3], "{\"id\":1,\"v\":\"four\"}");
    assert_eq!(world.merge(&[]).done().json()["raw_versions"], json!([names[1], names[3]]));
    world.holds(&[(1, "four")]);
    // One comes late, one is older than the first, one is newer.
    put(&world, &names[2], "{\"id\":1,\"v\":\"three\"}\n{\"id\":3,\"v\":\"three\"}");
    put(&world, &names[0], "{\"id\":9,\"v\":\"one\"}");
    put(&world, &names[4], "{\"id\":5,\"v\":\"five\"}");
    let plain = world.cluster.json(&["merge", "--table", TABLE, "--source", SOURCE, "--pk", "id"]).done().json();
    let told: Vec<&Value> = plain["skipped"].as_array().unwrap().iter().map(|skipped| &skipped["version"]).collect();
    assert_eq!(
        (&plain["outcome"], told),
        (&json!("already applied"), vec![&json!(names[2]), &json!(names[4])]),
        "{plain}"
    );
    assert_eq!(world.merge(&[]).done().json()["raw_versions"], json!(names[2..]));
    world.holds(&[(1, "four"), (3, "three"), (5, "five")]);
    assert_eq!(world.merge(&[]).done().json()["outcome"], "already applied");
    let adopted = world.cluster.json(&["raw", "adopt", SOURCE]).done().json();
    assert_eq!(adopted["raw_version"], json!(names[0]));
    let range = ["merge", "--table", TABLE, "--source", SOURCE, "--pk", "id", "--versions", "20260101..20260101"];
    world.cluster.json(&range).done();
    world.holds(&[(1, "four"), (3, "three"), (5, "five"), (9, "one")]);
    world.deliver("d.ndjson", "{\"id\":6,\"v\":\"six\"}");
    assert_eq!(world.merge(&[]).done().json()["raw_versions"], json!(world.versions));
}

/// What a table must hold, whatever was delivered, skipped, superseded and merged before in whatever order.
#[derive(Default)]
struct Model {
    /// What each version brings: keys and values.
    content: BTreeMap<String, BTreeMap<u64, String>>,
    skipped: BTreeSet<String>,
    /// Superseded ones, and what is read in their place.
    by: BTreeMap<String, String>,
    /// The oldest that was ever merged.
    first: Option<String>,
}

impl Model {
    fn stands_in(&self, version: &String) -> bool {
        self.by.values().any(|by| by == version)
    }

    fn is_marked(&self, version: &String) -> bool {
        self.skipped.contains(version) || self.by.contains_key(version) || self.stands_in(version)
    }

    fn readable(&self) -> Vec<String> {
        let is_read = |version: &&String| !self.skipped.contains(*version) && !self.stands_in(version);
        self.content.keys().filter(is_read).cloned().collect()
    }

    fn merged(&mut self, job: &Value) {
        let versions = job["raw_versions"].as_array().into_iter().flatten();
        let oldest = versions.map(|version| version.as_str().unwrap().to_string()).min();
        self.first = self.first.take().into_iter().chain(oldest).min();
    }

    /// Each key has the value of the last version that is read and has it. Rows of a newer one that is not read any more may still be there.
    fn check(&self, table: &BTreeMap<u64, String>) {
        let mut last = BTreeMap::new();
        for version in self.readable().into_iter().filter(|version| Some(version) >= self.first.as_ref()) {
            let read = self.by.get(&version).unwrap_or(&version);
            last.extend(self.content[read].iter().map(|(key, value)| (*key, (version.clone(), value))));
        }
        for (key, (version, value)) in last {
            let found = &table[&key];
            let is_left = |(other, content): (&String, &BTreeMap<u64, String>)| {
                *other > version && self.is_marked(other) && content.get(&key) == Some(found)
            };
            assert!(found == value || self.content.iter().any(is_left), "key {key} is {found}, and should be {value}");
        }
    }
}

/// A small generator: what it draws follows from the seed alone.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn pick(&mut self, from: &[String]) -> Option<String> {
        if from.is_empty() { None } else { Some(from[self.roll(from.len())].clone()) }
    }
}

#[test]
fn whatever_was_skipped_superseded_and_merged_before_a_table_holds_what_is_read_now() {
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = setting("TRIREME_TEST_SEED", moment.as_millis() as u64 % 1_000_000);
    let world = World::new();
    for nth in 0..setting("TRIREME_TEST_SEEDS", 3) {
        println!("TRIREME_TEST_SEED={} TRIREME_TEST_SEEDS=1", seed + nth);
        history(&world.cluster, &format!("r.days{nth}"), &format!("r.table{nth}"), Dice(seed + nth));
    }
}

/// A random history of one source and one table.
fn history(cluster: &Cluster, source: &str, table: &str, mut dice: Dice) {
    let mut model = Model::default();
    let at = |version: &String| format!("{source}@{version}");
    let merge = |more: &[&str]| {
        let line = ["merge", "--table", table, "--source", source, "--pk", "k"];
        cluster.json(&[&line, more].concat()).done().json()
    };
    for step in 0..25 {
        let folder = |version: &String| cluster.lake().join("raw").join(source).join(version);
        let all: Vec<String> = model.content.keys().cloned().collect();
        let published = |version: &&String| folder(version).join("_manifest.json").exists();
        let free: Vec<String> =
            all.iter().filter(published).filter(|version| !model.is_marked(version)).cloned().collect();
        let marked: Vec<String> = all
            .iter()
            .filter(|version| model.skipped.contains(*version) || model.by.contains_key(*version))
            .cloned()
            .collect();
        // Few versions and keys: so that they meet.
        let operation = match all.len() {
            0 => 0,
            1..4 => dice.roll(13),
            _ => 3 + dice.roll(10),
        };
        println!("{step}: operation {operation}");
        match operation {
            0..3 => {
                let rows: BTreeMap<u64, String> =
                    (0..=dice.roll(2)).map(|_| (dice.roll(3) as u64, format!("step {step}"))).collect();
                let lines =
                    rows.iter().map(|(k, v)| json!({ "k": k, "v": v }).to_string()).collect::<Vec<_>>().join("\n");
                // One that others put there late, or a download.
                let late = dice.pick(&all).map(|near| format!("{}{:03}Z", &near[..15], dice.roll(1000)));
                let version = match late.filter(|late| operation == 2 && !all.contains(late)) {
                    Some(late) => {
                        fs::create_dir_all(folder(&late)).unwrap();
                        fs::write(folder(&late).join("rows.ndjson"), lines).unwrap();
                        late
                    }
                    None => cluster.deliver(source, "d.ndjson", lines)["raw_version"].as_str().unwrap().to_string(),
                };
                model.content.insert(version, rows);
            }
            3 | 4 => {
                if let Some(version) = dice.pick(&free) {
                    cluster.json(&["raw", "skip", &at(&version)]).done();
                    model.skipped.insert(version);
                }
            }
            5 | 6 => {
                if let Some(version) = dice.pick(&marked) {
                    cluster.json(&["raw", "unskip", &at(&version)]).done();
                    model.skipped.remove(&version);
                    model.by.remove(&version);
                }
            }
            7 => {
                if let (Some(one), Some(other)) = (dice.pick(&free), dice.pick(&free))
                    && one != other
                {
                    cluster.json(&["raw", "supersede", &at(&one), "--by", &other]).done();
                    model.by.insert(one, other);
                }
            }
            8..11 => {
                if let Some(version) = dice.pick(&model.readable()) {
                    let range = format!("{version}..{version}");
                    let which = if operation == 8 { ["--since", &version] } else { ["--versions", &range] };
                    let force: &[&str] = if dice.roll(3) > 0 { &["--force"] } else { &[] };
                    model.merged(&merge(&[&which[..], force].concat()));
                }
            }
            _ => {}
        }
        if (operation > 10 || step == 24) && !model.readable().is_empty() {
            model.merged(&merge(&["--all-pending"]));
            let rows: Vec<Value> = cluster.sql(&format!("SELECT k, v FROM {table}"));
            let rows = rows.iter().map(|row| (row["k"].as_u64().unwrap(), row["v"].as_str().unwrap().to_string()));
            model.check(&rows.collect());
            assert_eq!(merge(&["--all-pending"])["outcome"], "already applied");
        }
    }
}

#[test]
fn dropped_files_are_gone_and_the_same_bytes_do_not_come_again() {
    let mut world = World::new();
    world.deliver("d.ndjson", "{\"id\":1,\"v\":\"one\"}");
    world.deliver("d.ndjson", "{\"id\":2,\"v\":\"secret\"}");
    world.cluster.cli(&["raw", "drop", &world.at(1)]).failed(64, &["--yes"]);
    world.cluster.json(&["raw", "drop", &world.at(1), "--yes", "--reason", "personal data"]).done();
    assert_eq!(world.mark(1)["dropped"], true);
    let folder = world.cluster.lake().join("raw").join(SOURCE).join(&world.versions[1]);
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["_dropped.json"]);
    let again = world.cluster.deliver(SOURCE, "d.ndjson", "{\"id\":2,\"v\":\"secret\"}");
    assert_eq!(again["outcome"], "already current", "{again}");
    world.merge(&[]).done();
    world.holds(&[(1, "one")]);
    world.cluster.cli(&["raw", "unskip", &world.at(1)]).failed(1, &["dropped"]);
}

#[test]
fn an_empty_delivery_is_no_row() {
    let mut world = World::new();
    world.deliver("d.ndjson", "{\"id\":1,\"v\":\"one\"}");
    world.deliver("d.ndjson", "");
    world.deliver("d.ndjson", "{\"id\":2,\"v\":\"two\"}");
    let job = world.merge(&[]).done().json();
    assert_eq!(job["raw_versions"], json!(world.versions), "{job}");
    world.holds(&[(1, "one"), (2, "two")]);
    world.deliver("d.ndjson", "");
    assert_eq!(world.merge(&[]).done().json()["outcome"], "applied");
    assert_eq!(world.merge(&[]).done().json()["outcome"], "already applied");
    world.holds(&[(1, "one"), (2, "two")]);
    // A load empties the table, which keeps its columns.
    world.cluster.json(&["load", "--table", TABLE, "--source", SOURCE]).done();
    world.holds(&[]);
    for (file, content) in [("c.json", "[]"), ("c.csv", "id,v\n")] {
        let source = format!("raw.{}", file.rsplit('.').next().unwrap());
        world.cluster.deliver(&source, file, content);
        for _ in 0..2 {
            world
                .cluster
                .json(&[
                    "merge",
                    "--table",
                    TABLE,
                    "--source",
                    &source,
                    "--pk",
                    "id",
                    "-t",
                    "CAST(id AS bigint) AS id",
                    "-t",
                    "v",
                ])
                .done();
        }
    }
    world.holds(&[]);
}

#[test]
fn versions_go_on_after_a_clock_that_was_ahead() {
    let mut world = World::new();
    world.deliver("d.ndjson", "{\"id\":1,\"v\":\"one\"}");
    let ahead = "20991231T235959999Z";
    let folder = world.cluster.lake().join("raw").join(SOURCE).join(ahead);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("part-00000.ndjson"), "{\"id\":2,\"v\":\"two\"}").unwrap();
    world.cluster.json(&["raw", "adopt", &format!("{SOURCE}@{ahead}")]).done();
    world.deliver("d.ndjson", "{\"id\":2,\"v\":\"TWO\"}");
    assert_eq!(world.versions[1], "21000101T000000000Z");
    world.merge(&[]).done();
    world.holds(&[(1, "one"), (2, "TWO")]);
}

#[test]
fn a_history_keeps_every_change_of_a_delivery() {
    let mut world = World::new();
    let merge = |world: &World, order: &str| {
        let columns = ["-t", "id", "-t", "v", "-t", "lsn", "-t", "to_timestamp(t) AS at"];
        let line = ["merge", "--table", TABLE, "--source", SOURCE, "--pk", "id", "--all-pending", "--history"];
        world.cluster.json(&[&line[..], &["--valid-from", "at", "--order-by", order], &columns].concat())
    };
    let row_of = |id: i64, v: &str, lsn: i64, day: i64| {
        json!({ "id": id, "v": v, "lsn": lsn, "t": format!("2026-01-0{day}T00:00:00Z") }).to_string()
    };
    let row = row_of;
    // The last of two of one moment stays.
    let first = [row(1, "a", 1, 1), row(1, "c", 3, 3), row(1, "b", 2, 2), row(2, "x", 4, 2), row(2, "y", 5, 2)];
    world.deliver("d.ndjson", &first.join("\n"));
    merge(&world, "lsn").done();
    world.deliver("d.ndjson", &[row(1, "e", 7, 6), row(1, "d", 6, 5)].join("\n"));
    merge(&world, "lsn").done();
    let sql = format!(
        "SELECT a.v, a.is_current, b.v AS next FROM {TABLE} a LEFT JOIN {TABLE} b ON a.id = b.id AND a.valid_to = b.valid_from \
         ORDER BY a.id, a.lsn"
    );
    let found: Vec<Value> = world.cluster.sql(&sql);
    let row = |v: &str, next: Option<&str>| json!({ "v": v, "is_current": next.is_none(), "next": next });
    let chain = [row("a", Some("b")), row("b", Some("c")), row("c", Some("d")), row("d", Some("e")), row("e", None)];
    assert_eq!(found, [&chain[..], &[row("y", None)]].concat());
    // A correction of what it holds can't be taken into a history.
    world.deliver("d.ndjson", &row_of(3, "z", 1, 1));
    world.cluster.json(&["raw", "supersede", &world.at(0), "--by", &world.versions[2]]).done();
    let job = merge(&world, "lsn").done().json();
    assert_eq!(
        (&job["outcome"], &job["skipped"][0]["version"]),
        (&json!("already applied"), &json!(world.versions[0])),
        "{job}"
    );
    assert!(job["skipped"][0]["why"].as_str().unwrap().contains("a history"), "{job}");
    merge(&world, "lsn DESC").failed(64, &["latest_by: lsn", "earliest_by: lsn"]);
}
