//! Tables that another engine wrote, with deletion vectors and column mapping, are read as that engine reads them, and not written to.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use trireme_tests::cluster::{Cluster, Options};
use trireme_tests::python::Python;

#[test]
fn tables_with_deletion_vectors_and_mapped_columns_are_read_by_two_executors() {
    let Some(python) = Python::find() else { return };
    let cluster = Cluster::start(Options::default());
    let answers = python.run("foreign.py", [cluster.lake()]).unwrap_or_else(|said| panic!("{said}"));
    let mut asked = 0;
    for (table, queries) in answers.as_object().unwrap() {
        let log = cluster.lake().join("tables/foreign").join(table).join("_delta_log");
        let log: String = std::fs::read_dir(log)
            .unwrap()
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        assert!(log.contains("deletionVector\":{"), "{table} has no deletion vector");
        for query in queries.as_array().unwrap() {
            // Those of several rows say in which order.
            let found = cluster.sql(query[0].as_str().unwrap());
            assert_eq!(&found, query[1].as_array().unwrap(), "{table}: {}", query[0]);
            asked += 1;
        }
    }
    assert_eq!(asked, 9);

    // A merge into a table that Sail deleted rows of, where a row is replaced that is there, and one comes back that was deleted.
    cluster.deliver(
        "a.next",
        "next.json",
        r#"[{"k": 1, "v": "new", "p": 1, "wide": "w"}, {"k": 3, "v": "new", "p": 0, "wide": "w"}]"#,
    );
    let columns = ["-t", "k", "-t", "v", "-t", "CAST(p AS INT) AS p", "-t", "wide"];
    let merge = |table| [&["merge", "--table", table, "--source", "a.next", "--pk", "k"], columns.as_slice()].concat();
    let rows = |condition| cluster.number(&format!("SELECT count(*) AS n FROM foreign.deleted WHERE {condition}"));
    let before = rows("true");
    let job = cluster.json(&merge("foreign.deleted")).done().json();
    assert_eq!(
        (job["metrics"]["rows_updated"].as_u64(), job["metrics"]["rows_copied"].as_u64()),
        (Some(1), Some(0)),
        "{job}"
    );
    assert_eq!((rows("v = 'new'"), rows("k IN (1, 3)"), rows("true")), (2, 2, before + 1));
    // Mapped columns can be read, not written.
    cluster.deliver("a.mapped", "mapped.json", r#"[{"k": 1, "s": {"x": 1, "y": [{"z": 1}]}, "part": "p"}]"#);
    let mapped = [
        "merge",
        "--table",
        "foreign.by_name",
        "--source",
        "a.mapped",
        "--pk",
        "k",
        "-t",
        "k",
        "-t",
        "s",
        "-t",
        "part",
    ];
    cluster.cli(&mapped).failed(1, &["foreign.by_name can't be written", "column mapping"]);
}
