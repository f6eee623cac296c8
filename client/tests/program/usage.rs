//! Wrong usage, help, and nobody there.

use std::net::TcpListener;

use serde_json::json;

use crate::{run, trireme};

#[test]
fn help_and_version_are_no_failure() {
    for words in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["help", "merge"],
        &["jobs", "show", "--help"],
        &["--output", "json", "--help"],
    ] {
        let ended = run(&mut trireme(words));
        assert!(ended.exit == Some(0) && ended.out.len() > 10 && ended.err.is_empty(), "{words:?}: {ended:?}");
    }
}

#[test]
fn wrong_usage_is_64() {
    for words in [
        &[][..],
        &["sail"],
        &["run"],
        &["run", "/none/p.yaml"],
        &["merge", "--table", "a.t", "--source", "a.s"],
        &["load", "--table", "t", "--source", "a.s"],
        &["download", "--from", "none.csv", "--to", "a.s"],
        &["download", "--from", "https://host/x", "--to", "a.s", "--format", "xml"],
        &["question", "--sql", "/none/q.sql", "--table", "a.q"],
        &["--scheduler", "localhost:50051", "tables", "list"],
        &["--scheduler", "http://127.0.0.1:1", "--embedded", "tables", "list"],
        &["tables", "list", "--vcores", "2"],
        &["--embedded", "--storage", "/dev/null", "tables", "list"],
    ] {
        let ended = run(&mut trireme(words));
        assert!(ended.exit == Some(64) && ended.out.is_empty() && !ended.err.is_empty(), "{words:?}: {ended:?}");
        let ended = run(trireme(words).args(["--output", "json"]));
        assert_eq!(ended.exit, Some(64), "{words:?}: {ended:?}");
        let error = &ended.json()["error"];
        assert!(error["code"] == json!("usage") || error["code"] == json!("invalid-spec"), "{words:?}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{words:?}: {error}");
    }
}

#[test]
fn nobody_there_is_69() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for (command, name) in
        [(trireme(&["--scheduler", &url, "tables", "list"]), "flag"), (trireme(&["tables", "list"]), "environment")]
    {
        let mut command = command;
        if name == "environment" {
            command.env("TRIREME_URL", &url);
        }
        let ended = run(&mut command);
        assert_eq!(ended.exit, Some(69), "{ended:?}");
        assert!(ended.err.starts_with(&format!("error: can't reach the scheduler at {url}: ")), "{ended:?}");
        assert!(ended.err.contains("\nhint: start a scheduler"), "{ended:?}");
    }
}

#[test]
fn a_pipeline_is_checked_before_anybody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, "name: p\nsources:\n  a.s: { from: none.csv }\n").unwrap();
    let ended = run(&mut trireme(&["run", file.to_str().unwrap(), "--scheduler", "http://127.0.0.1:1"]));
    assert_eq!(ended.exit, Some(64), "{ended:?}");
    assert!(ended.err.contains("p.yaml:3:16: the file "), "{ended:?}");
}
