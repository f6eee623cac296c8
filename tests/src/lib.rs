//! Rigs for end-to-end tests: a scheduler, executors and clients as real processes, a real S3 server, independent oracles in Python.
//!
//! The tests (in `tests/`) see what a user sees: commands, exit codes, output, and the files in storage. They need the three binaries
//! beside their own (`cargo build --workspace`), or in the folder that `TRIREME_BIN_DIR` names. What a machine can't give (PyPI, the
//! shared real data) skips a test with a printed reason; `TRIREME_TESTS_STRICT=1` makes that a failure.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `TRIREME_TEST_SIZE` | bytes of a generated day (default 20 MB), such as `1GB` |
//! | `TRIREME_TEST_SEEDS` | how often each fault is injected (default 2) |
//! | `TRIREME_TEST_DEADLINE` | seconds after which what is waited for is given up (default 240) |
//! | `TRIREME_SHARED` | folder of the shared real data, if it is not beside the repository |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // all of it is for tests

pub mod answers;
pub mod cli;
pub mod cluster;
pub mod data;
pub mod process;
pub mod python;
pub mod seaweed;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Whatever is waited for has come by then on any machine; tests never check how long something took.
pub fn deadline() -> Duration {
    Duration::from_secs(setting("TRIREME_TEST_DEADLINE", 240))
}

/// Waits until `ready` gives something.
///
/// # Panics
/// After [`deadline`], naming `what`.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let (started, deadline) = (Instant::now(), deadline());
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(started.elapsed() < deadline, "waited {} s in vain: {what}", deadline.as_secs());
        sleep(Duration::from_millis(50));
    }
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Says why a test does not run here. With `TRIREME_TESTS_STRICT=1` that is a failure.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("TRIREME_TESTS_STRICT").is_none(), "{reason}");
    println!("skipped: {reason}");
    eprintln!("skipped: {reason}");
}
