//! Looks for wrong answers: random statements on one task and on many against DuckDB, for a short time with a fresh seed, and the queries of
//! TPC-H and TPC-DS. By hand: `tests/differential/run.py --hours 1`.
//!
//! | variable | what |
//! |---|---|
//! | `TRIREME_DIFFERENTIAL_SECONDS` | how long random statements are drawn (default 120) |
//! | `TRIREME_DIFFERENTIAL_SEED` | a seed that was printed, to see the same statements again |
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::ffi::OsString;
use std::process::Command;

use trireme_tests::process::{binary, bind_to_this_thread, command};
use trireme_tests::python::Python;
use trireme_tests::{repository, setting};

/// A script of `tests/differential` over the binaries under test.
fn script(python: &Python, name: &str) -> Command {
    let mut script = command(python.program());
    let binaries = binary("trireme-scheduler").parent().unwrap().to_path_buf();
    script.env("PYTHONDONTWRITEBYTECODE", "1").arg(repository().join("tests/differential").join(name));
    script.arg("--bin").arg(binaries);
    bind_to_this_thread(&mut script);
    script
}

#[track_caller]
fn assert_done(mut script: Command) {
    let output = script.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

#[test]
#[ignore = "by hand: of 850 statements one or two still end with an error of the engine's"]
fn random_statements_are_answered_as_by_another_engine() {
    let Some(python) = Python::for_differential() else { return };
    let mut script = script(&python, "run.py");
    script.arg("--seconds").arg(setting("TRIREME_DIFFERENTIAL_SECONDS", 120).to_string());
    if let Some(seed) = std::env::var_os("TRIREME_DIFFERENTIAL_SEED") {
        script.args([OsString::from("--seed"), seed]);
    }
    assert_done(script);
}

#[test]
fn tpch_is_answered_as_by_another_engine() {
    let Some(python) = Python::for_differential() else { return };
    let mut script = script(&python, "tpc.py");
    script.arg("tpch");
    assert_done(script);
}

#[test]
fn tpcds_is_answered_as_by_another_engine() {
    let Some(python) = Python::for_differential() else { return };
    let mut script = script(&python, "tpc.py");
    script.args(["tpcds", "--timeout", "240"]);
    assert_done(script);
}
