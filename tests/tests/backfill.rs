//! Several raw versions of a source, merged in order, each exactly once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;

use serde_json::{Value, json};
use trireme_tests::cluster::{Cluster, Options};

const TABLE: &str = "t.prices";
const SOURCE: &str = "raw.prices";

struct World {
    cluster: Cluster,
    /// Names of the versions that were delivered.
    versions: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self { cluster: Cluster::start(Options::default()), versions: Vec::new() }
    }

    fn deliver(&mut self, lines: &str) {
        let job = self.cluster.deliver(SOURCE, "prices.ndjson", lines);
        self.versions.push(job["raw_version"].as_str().unwrap().to_string());
    }

    fn merge<'a>(flags: &[&'a str]) -> Vec<&'a str> {
        [&["merge", "--table", TABLE, "--source", SOURCE, "--pk", "id"], flags].concat()
    }

    /// Merges, and checks which versions were committed.
    #[track_caller]
    fn merged(&self, flags: &[&str], versions: &[&str]) -> Value {
        let job = self.cluster.json(&Self::merge(flags)).done().json();
        let applied: Vec<&str> =
            job["raw_versions"].as_array().into_iter().flatten().map(|version| version.as_str().unwrap()).collect();
        assert_eq!(applied, versions, "{job}");
        job
    }

    #[track_caller]
    fn holds(&self, rows: &[(i64, i64)]) {
        let rows: Vec<Value> = rows.iter().map(|(id, price)| json!({ "id": id, "price": price })).collect();
        assert_eq!(self.cluster.sql(&format!("SELECT id, price FROM {TABLE} ORDER BY id")), rows);
    }

    fn commits(&self) -> usize {
        self.cluster.json(&["tables", "history", TABLE]).done().json_lines().len()
    }
}

#[test]
fn pending_versions_are_applied_in_order_and_once() {
    let mut world = World::new();
    world.deliver("{\"id\":1,\"price\":10}\n{\"id\":2,\"price\":20}");
    world.deliver("{\"id\":2,\"price\":21}\n{\"id\":3,\"price\":30}");
    world.deliver("{\"id\":3,\"price\":31}\n{\"id\":4,\"price\":40}");
    let versions = world.versions.clone();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();

    let job = world.merged(&["--all-pending"], &versions);
    world.holds(&[(1, 10), (2, 21), (3, 31), (4, 40)]);
    let counts = ["rows_in", "rows_inserted", "rows_updated"].map(|name| job["metrics"][name].as_u64().unwrap());
    assert_eq!((counts, world.commits()), ([6, 4, 2], 3), "{job}");

    let again = world.merged(&["--all-pending"], &[]);
    assert_eq!((again["outcome"].as_str(), world.commits()), (Some("already applied"), 3), "{again}");

    world.deliver("{\"id\":1,\"price\":11}");
    let newest = world.versions[3].clone();
    world.merged(&["--all-pending"], &[&newest]);
    world.holds(&[(1, 11), (2, 21), (3, 31), (4, 40)]);

    // What was passed over is pending still, and what is newer is applied again behind it.
    world.deliver("{\"id\":5,\"price\":50}\n{\"id\":1,\"price\":12}");
    world.deliver("{\"id\":1,\"price\":13}");
    let (passed, newest) = (world.versions[4].clone(), world.versions[5].clone());
    world.merged(&[], &[&newest]);
    world.holds(&[(1, 13), (2, 21), (3, 31), (4, 40)]);
    world.merged(&["--all-pending"], &[&passed, &newest]);
    world.holds(&[(1, 13), (2, 21), (3, 31), (4, 40), (5, 50)]);
    world.merged(&["--all-pending"], &[]);
    world.merged(&["--versions", &format!("{passed}..{passed}")], &[]);
}

#[test]
fn newer_versions_are_applied_again_behind_an_older_one() {
    let mut world = World::new();
    world.deliver("{\"id\":1,\"price\":10}\n{\"id\":2,\"price\":20}");
    world.deliver("{\"id\":2,\"price\":21}");
    world.deliver("{\"id\":3,\"price\":30}");
    let versions = world.versions.clone();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    world.merged(&["--all-pending"], &versions);

    // With another spec only the newest is another one, until an older one is asked for.
    let doubled = ["-t", "id", "-t", "price * 2 AS price"];
    world.merged(&[&doubled[..], &["--all-pending"]].concat(), &versions[2..]);
    world.holds(&[(1, 10), (2, 21), (3, 60)]);
    let first = format!("{0}..{0}", versions[0]);
    world.merged(&[&doubled[..], &["--versions", &first]].concat(), &versions);
    world.holds(&[(1, 20), (2, 42), (3, 60)]);
    world.merged(&[&doubled[..], &["--since", versions[0]]].concat(), &[]);
    // Back to the spec of before: what the table holds is another's.
    world.merged(&["--since", versions[1]], &versions[1..]);
    world.holds(&[(1, 20), (2, 21), (3, 30)]);
    world.merged(&["--since", versions[1], "--force"], &versions[1..]);
    world.merged(&["--force"], &versions[2..]);
}

#[test]
fn a_range_is_applied_up_to_what_fails() {
    let mut world = World::new();
    world.deliver("{\"id\":1,\"price\":10}");
    world.deliver("{\"id\":2,\"price\":20}");
    world.deliver("{\"id\":3,\"price\":30}\n{\"id\":3,\"price\":31}");
    world.deliver("{\"id\":4,\"price\":40}");
    let versions = world.versions.clone();
    let range = |from: &str, to: &str| format!("{from}..{to}");

    world.merged(&["--versions", &range("", &versions[0])], &[&versions[0]]);
    let all = range(&versions[0], &versions[3]);
    let place = format!("version {} (3 of 4)", versions[2]);
    world.cluster.cli(&World::merge(&["--versions", &all])).failed(1, &["came more than once", &place]);
    world.holds(&[(1, 10), (2, 20), (4, 40)]);
    // The day they were all delivered on; the way out for the bad one.
    let day = range(&versions[0][..8], "");
    world.merged(
        &["--versions", &day, "--order-by", "price"],
        &[&versions[0], &versions[1], &versions[2], &versions[3]],
    );
    world.holds(&[(1, 10), (2, 20), (3, 31), (4, 40)]);

    world.cluster.cli(&World::merge(&["--versions", "2031..2032"])).failed(1, &["has no version in 2031..2032"]);
    world.cluster.cli(&World::merge(&["--versions", "yesterday.."])).failed(64, &["neither a raw version nor"]);
}

#[test]
fn a_pipeline_applies_every_delivery_it_missed() {
    let mut world = World::new();
    let folder = world.cluster.folder().join("project");
    fs::create_dir_all(&folder).unwrap();
    let pipeline = folder.join("pipeline.yaml");
    fs::write(
        &pipeline,
        format!(
            "name: prices\nsources:\n  {SOURCE}: {{ from: prices.ndjson }}\ntables:\n  {TABLE}:\n    source: {SOURCE}\n    mode: merge\n    primary_key: [id]\n"
        ),
    )
    .unwrap();
    world.deliver("{\"id\":1,\"price\":10}\n{\"id\":2,\"price\":20}");
    world.deliver("{\"id\":2,\"price\":21}");
    fs::write(folder.join("prices.ndjson"), "{\"id\":3,\"price\":30}").unwrap();
    let run = || world.cluster.json(&["run", pipeline.to_str().unwrap()]).done().json();
    let first = run();
    world.holds(&[(1, 10), (2, 21), (3, 30)]);
    assert_eq!(world.commits(), 3, "{first}");
    run();
    assert_eq!(world.commits(), 3);
}
