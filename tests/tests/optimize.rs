//! Optimizations: by themselves after merges, and by hand, while others write; and files that are sorted.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trireme_tests::cluster::{Cluster, Options, has_ended};
use trireme_tests::python::Python;
use trireme_tests::wait_for;

const TABLE: &str = "t.prices";
const SOURCE: &str = "raw.prices";

fn cluster(flags: &[&str]) -> Cluster {
    let mut options = Options::default();
    options.scheduler.extend(flags.iter().map(ToString::to_string));
    Cluster::start(options)
}

/// A merged table and what must be in it.
struct World {
    cluster: Cluster,
    rows: BTreeMap<i64, i64>,
}

impl World {
    fn new(flags: &[&str]) -> Self {
        Self { cluster: cluster(flags), rows: BTreeMap::new() }
    }

    /// Merges a delivery with these rows.
    fn merge(&mut self, rows: impl IntoIterator<Item = (i64, i64)>) -> Value {
        let rows: Vec<(i64, i64)> = rows.into_iter().collect();
        let lines: Vec<String> =
            rows.iter().map(|(id, price)| json!({ "id": id, "price": price }).to_string()).collect();
        self.cluster.deliver(SOURCE, "prices.ndjson", lines.join("\n"));
        self.rows.extend(rows);
        self.cluster.json(&["merge", "--table", TABLE, "--source", SOURCE, "--pk", "id"]).done().json()
    }

    #[track_caller]
    fn check(&self) {
        let rows: Vec<Value> = self.rows.iter().map(|(id, price)| json!({ "id": id, "price": price })).collect();
        assert_eq!(self.cluster.sql(&format!("SELECT id, price FROM {TABLE} ORDER BY id")), rows);
    }

    fn files(&self) -> u64 {
        let tables = self.cluster.json(&["tables", "list"]).done().json_lines();
        tables.iter().find(|table| table["name"] == TABLE).unwrap()["files"].as_u64().unwrap()
    }

    fn operations(&self) -> Vec<String> {
        let commits = self.cluster.json(&["tables", "history", TABLE]).done().json_lines();
        commits.iter().map(|commit| commit["operation"].as_str().unwrap().to_string()).collect()
    }

    #[track_caller]
    fn optimize(&self, flags: &[&str]) -> Value {
        self.cluster.json(&[&["optimize", TABLE], flags].concat()).done().json()
    }
}

#[test]
fn many_small_merges_are_followed_by_an_optimization() {
    let mut world = World::new(&["--auto-optimize-small-files", "6", "--auto-optimize-retired-percent", "0"]);
    // Each delivery has new keys and replaces a few of those before it; merges and optimizations go on side by side.
    let merges = 14;
    for at in 0..merges {
        let replaced = (0..at * 10).filter(|id| (id * 7 + at) % 10 == 0).map(|id| (id, 1000 * at + id));
        let job = world.merge(replaced.chain((at * 10..at * 10 + 10).map(|id| (id, id))).collect::<Vec<_>>());
        assert_eq!((job["outcome"].as_str(), job["kind"].as_str()), (Some("applied"), Some("merge")), "{job}");
    }
    let optimized = wait_for("the end of the optimizations", || {
        let jobs = world.cluster.jobs("optimize", TABLE);
        (!jobs.is_empty() && jobs.iter().all(has_ended)).then_some(jobs)
    });
    world.check();
    assert!(optimized.iter().all(|job| job["state"] == "succeeded" && job["parent"].is_null()), "{optimized:?}");
    assert!(optimized.iter().any(|job| job["outcome"] == "applied"), "{optimized:?}");
    assert!(world.operations().iter().any(|operation| operation == "OPTIMIZE"));
    assert!(world.files() < merges as u64, "{} files", world.files());

    // By hand what is left; then there is nothing to do.
    world.optimize(&[]);
    assert_eq!(world.files(), 1);
    let again = world.optimize(&[]);
    assert_eq!(again["outcome"], "already current", "{again}");
    world.check();
    if let Some(python) = Python::find() {
        let seen = python.run("readers.py", [world.cluster.lake()]).unwrap_or_else(|said| panic!("{said}"));
        assert_eq!(seen[TABLE]["rows"], world.rows.len(), "{seen}");
    }
}

#[test]
fn retired_rows_are_dropped_by_themselves_and_by_hand() {
    let mut world = World::new(&["--auto-optimize-small-files", "0", "--auto-optimize-retired-percent", "50"]);
    world.merge((0..100).map(|id| (id, 0)));
    world.merge((0..40).map(|id| (id, 1)));
    assert!(world.cluster.jobs("optimize", TABLE).is_empty());
    world.merge((10..90).map(|id| (id, 2)));
    wait_for("an optimization", || {
        world.cluster.jobs("optimize", TABLE).iter().any(|job| job["outcome"] == "applied").then_some(())
    });
    world.check();
    let metrics = &world.cluster.json(&["tables", "history", TABLE, "--limit", "1"]).done().json_lines()[0];
    assert_eq!(metrics["operation"], "OPTIMIZE", "{metrics}");

    world.cluster.cli(&["optimize", "t.price"]).failed(1, &["there is no table t.price", "t.prices"]);
    world.cluster.cli(&["optimize", TABLE, "--target-size", "big"]).failed_usage(&["--target-size", "512MiB"]);
}

#[test]
fn a_z_order_is_made_by_all_executors() {
    let mut world = World::new(&["--auto-optimize-small-files", "0", "--auto-optimize-retired-percent", "0"]);
    world.merge((0..3000).map(|id| (id, id * 7919 % 3000)));
    world.merge((500..700).map(|id| (id, id)));
    let order = ["--z-order", "id,price", "--target-size", "6kB"];
    let job = world.optimize(&order);
    assert_eq!(
        (job["outcome"].as_str(), job["metrics"]["rows_copied"].as_u64()),
        (Some("applied"), Some(3000)),
        "{job}"
    );
    world.check();
    assert!(world.files() > 2, "{job}");
    assert_eq!(world.optimize(&order)["outcome"], "already current");
    // The next one starts anew from what there is.
    world.merge([(3000, 1)]);
    assert_eq!(world.optimize(&order)["outcome"], "applied");
    world.check();
    world
        .cluster
        .cli(&["optimize", TABLE, "--z-order", "no"])
        .failed(64, &["z_order: there is no column `no`", "price"]);
}

#[test]
fn rows_are_sorted_within_files_where_a_spec_says_so() {
    let cluster = cluster(&["--auto-optimize-small-files", "0"]);
    let lines: Vec<String> = (0..500)
        .map(|at: u64| json!({ "id": at * 7919 % 500, "team": format!("g{}", at * 31 % 5) }).to_string())
        .collect();
    cluster.deliver("raw.rows", "rows.ndjson", lines.join("\n"));
    let ids = |table: &str| -> Vec<i64> {
        // A file of this size is read by one task, in its order.
        cluster.sql(&format!("SELECT id FROM {table}")).iter().map(|row| row["id"].as_i64().unwrap()).collect()
    };
    let load = |flags: &[&str]| {
        let load = ["load", "--table", "t.rows", "--source", "raw.rows"];
        cluster.json(&[&load, flags].concat()).done().json()
    };
    load(&[]);
    assert!(!ids("t.rows").is_sorted());
    let sorted = load(&["--sort-by", "id"]);
    assert_eq!(sorted["outcome"], "applied", "a load that sorts is another load: {sorted}");
    assert!(ids("t.rows").is_sorted());
    assert_eq!(load(&["--sort-by", "id"])["outcome"], "already applied");
    cluster
        .cli(&["load", "--table", "t.rows", "--source", "raw.rows", "--sort-by", "no"])
        .failed(64, &["sort_by: there is no column `no`", "id"]);

    let merge = ["merge", "--table", "t.merged", "--source", "raw.rows", "--pk", "id", "--sort-by", "team,id"];
    cluster.json(&merge).done();
    let merged = cluster.sql("SELECT concat(team, lpad(CAST(id AS string), 3, '0')) AS at FROM t.merged");
    assert!(merged.len() == 500 && merged.iter().map(|row| row["at"].as_str()).is_sorted());

    let sql = cluster.folder().join("q.sql");
    std::fs::write(&sql, "SELECT id, team FROM t.merged").unwrap();
    let question = ["question", "--sql", sql.to_str().unwrap(), "--table", "a.q", "--sort-by", "id"];
    let answer = cluster.json(&question).done().json();
    assert_eq!(answer["answer"][0]["id"], 0, "{answer}");
    assert!(ids("a.q").is_sorted());
}
