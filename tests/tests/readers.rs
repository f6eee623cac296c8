//! Other engines read the tables: delta-rs (PyPI's deltalake) and Sail, whose Delta reader is its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use trireme_tests::cluster::{Cluster, Options};
use trireme_tests::data::{self, Layout, Project};
use trireme_tests::python::Python;

#[test]
fn other_engines_see_the_same_rows() {
    let Some(python) = Python::find() else { return };
    let cluster = Cluster::start(Options::default());
    let days = data::generate(cluster.folder(), 1_000_000, 2, Layout::Array);
    let project = Project::new(&cluster.folder().join("project"), &days[0]);
    cluster.json(&["run", &project.pipeline()]).done();
    project.deliver(&days[1]);
    cluster.json(&["run", &project.pipeline()]).done();

    // Two commits each, merges with replaced rows among them.
    let seen = python.run("readers.py", [cluster.lake()]).unwrap_or_else(|said| panic!("{said}"));
    let tables = cluster.json(&["tables", "list"]).done().json_lines();
    assert_eq!(seen.as_object().unwrap().len(), tables.len(), "{seen}");
    for table in tables {
        let name = table["name"].as_str().unwrap();
        assert_eq!(table["version"], 1, "{table}");
        let count = cluster.number(&format!("SELECT count(*) AS n FROM {name}"));
        assert_eq!((&seen[name]["rows"], &table["rows"]), (&count.into(), &count.into()), "{name}");
    }
}
