//! The binary: what it refuses to start with, and how it says so.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use tempfile::tempdir;

fn scheduler(flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trireme-scheduler"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TRIREME_")) {
        command.env_remove(name);
    }
    command.args(flags).output().unwrap()
}

/// Exit code, and what was said on stderr.
fn refused(flags: &[&str]) -> (i32, String) {
    let output = scheduler(flags);
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn help_lists_all_settings() {
    let output = scheduler(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for text in
        ["--api-port", "TRIREME_API_PORT", "[default: 50051]", "TRIREME_JOB_DEADLINE", "[default: 6h]", "--config"]
    {
        assert!(help.contains(text), "{text} is not in:\n{help}");
    }
}

#[test]
fn wrong_settings_exit_with_64_and_name_the_key() {
    let folder = tempdir().unwrap();
    let storage = format!("--storage={}", folder.path().join("lake").display());
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let (code, said) = refused(&[&storage, &format!("--api-port={}", taken.port())]);
    assert_eq!(code, 64);
    assert!(said.starts_with(&format!("error: setting `api_port`: address {taken} is in use\nhint: ")), "{said}");

    for (flags, expected) in [
        (vec![], "error: setting `storage`: has no value and no default\n"),
        (vec!["--storage=ftp://x/y", "--api-port=0"], "error: setting `storage`: storage root `ftp://x/y`: "),
        (
            vec![&storage, "--bind-host=0.0.0.0"],
            "error: setting `api_token`: has no value, and the API listens on 0.0.0.0",
        ),
        (vec![&storage, "--split-size=big"], "error: setting `split_size`: `big`: not a size"),
        (vec![&storage, "--max-running-jobs=0"], "error: setting `max_running_jobs`: `0`: not a number above zero"),
        (vec![&storage, "--colour=red"], "error: no such flag: --colour"),
    ] {
        let (code, said) = refused(&flags);
        assert_eq!(code, 64, "{said}");
        assert!(said.starts_with(expected), "{said}");
    }
    assert!(!folder.path().join("lake").exists(), "nothing was made");
}

#[test]
fn storage_that_fails_exits_with_74() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (code, said) = refused(&[&format!("--storage={}/lake", file.path().display()), "--api-port=0"]);
    assert_eq!(code, 74, "{said}");
    assert!(said.starts_with("error: can't make the storage folder "), "{said}");
}
