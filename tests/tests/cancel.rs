//! A cancelled job stops its tasks, also those that only compute, and gives their slots to who waits.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;

use serde_json::Value;
use trireme_tests::cluster::{Cluster, Options, has_ended};
use trireme_tests::wait_for;

/// What would take hours, and needs little memory: three sides would make the product of two of them be held.
const ENDLESS: [&str; 2] = [
    "SELECT count(*) AS n, sum(a.x * b.x % 7) AS s FROM (SELECT explode(sequence(1, 300000)) AS x) a \
     CROSS JOIN (SELECT explode(sequence(1, 300000)) AS x) b",
    "SELECT count(*) AS n FROM (SELECT explode(sequence(1, 300000)) AS x) a \
     JOIN (SELECT explode(sequence(1, 300000)) AS x) b ON a.x * b.x % 1000003 > 1000010 + a.x",
];

fn waits(job: &Value) -> bool {
    job["phase"].as_str().is_some_and(|phase| phase.contains("waits for a slot"))
}

#[test]
fn a_cancelled_query_gives_its_slot_to_the_job_that_waits() {
    let cluster = Cluster::start(Options { executors: 1, ..Options::default() });
    cluster.deliver("raw.a", "a.ndjson", "{\"id\":1}\n{\"id\":2}");
    for (at, sql) in ENDLESS.iter().enumerate() {
        let file = cluster.folder().join("endless.sql");
        fs::write(&file, sql).unwrap();
        let table = format!("t.endless{at}");
        let client = cluster.begin(&["question", "--sql", file.to_str().unwrap(), "--table", &table]);
        let of_question = || cluster.jobs("question", &table).into_iter().next();
        let id = wait_for("a task of the question", || {
            let job = of_question()?;
            job["stages"]
                .as_array()
                .is_some_and(|stages| !stages.is_empty())
                .then(|| job["id"].as_str().unwrap().to_string())
        });
        // Loads that find a slot before the question has them all are done; the one behind them waits.
        let mut begun = 0;
        let (loads, next) = wait_for("a load that waits for a slot", || {
            begun += 1;
            let table = format!("t.next{at}_{begun}");
            let client = cluster.begin(&["load", "--table", &table, "--source", "raw.a"]);
            let job = wait_for("a load that waits or is done", || {
                let job = cluster.jobs("load", &table).into_iter().next()?;
                (waits(&job) || has_ended(&job)).then_some(job)
            });
            waits(&job).then_some((table, client))
        });
        cluster.json(&["jobs", "cancel", &id]).done();
        next.finish().done();
        client.finish();
        assert_eq!(cluster.number(&format!("SELECT count(*) AS n FROM {loads}")), 2);
    }
}
