//! Commands that only look.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    sync::Arc,
};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use serde_json::{Value, json};
use tonic::Status;
use trireme_proto::v1::{self, JobState};

use crate::{
    Ended,
    jobs::ipc,
    run,
    scheduler::{Scheduler, Script, failed, job, job_that},
    trireme, wait,
};

fn ask(scheduler: &Scheduler, words: &[&str]) -> Ended {
    run(trireme(words).args(["--scheduler", &scheduler.url()]))
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_jobs() -> Scheduler {
    let script = Script::default();
    let staged = v1::Job {
        parent: "run-1".into(),
        delta_version: 4,
        raw_version: "20261122T201533123Z".into(),
        stages: vec![
            v1::Stage {
                name: "write/1".into(),
                tasks_total: 8,
                tasks_done: 3,
                tasks_by_executor: HashMap::from([("b".to_string(), 3)]),
                attempt: 1,
                discarded: true,
            },
            v1::Stage {
                name: "write/1".into(),
                tasks_total: 8,
                tasks_done: 8,
                tasks_by_executor: HashMap::from([("b".to_string(), 3), ("a".to_string(), 5)]),
                attempt: 2,
                discarded: false,
            },
        ],
        metrics: Some(v1::JobMetrics {
            rows_in: 1_000_000,
            bytes_in: 8_100_000_000,
            files_added: 8,
            retries: 1,
            ..Default::default()
        }),
        ..job("job-2", "merge", "a.t", JobState::Succeeded)
    };
    let whole = v1::Job { parts: vec!["job-2".into()], ..job("run-1", "pipeline", "p", JobState::Succeeded) };
    let bad = failed("job-1", "load", "a.u", "bad-record", "line 7 is no JSON", "look at it");
    *script.jobs.lock().unwrap() = [staged, whole, bad].into_iter().map(|job| (job.id.clone(), job)).collect();
    Scheduler::start(script)
}

#[test]
fn jobs_are_listed_and_shown() {
    let scheduler = with_jobs();
    insta::assert_snapshot!(ask(&scheduler, &["jobs", "list"]).out, @r"
    id     kind      name  state    submitted                duration
    run-1  pipeline  p     applied  2023-11-14 22:13:20 UTC     3.0 s
    job-2  merge     a.t   applied  2023-11-14 22:13:20 UTC     3.0 s
    job-1  load      a.u   failed   2023-11-14 22:13:20 UTC     3.0 s
    ");
    insta::assert_snapshot!(ask(&scheduler, &["jobs", "show", "job-2"]).out, @r"
    job            job-2
    kind           merge
    name           a.t
    pipeline       run-1
    state          applied
    submitted      2023-11-14 22:13:20 UTC
    started        2023-11-14 22:13:21 UTC
    ended          2023-11-14 22:13:24 UTC
    duration       3.0 s
    raw version    20261122T201533123Z
    Delta version  4
    rows in        1,000,000
    bytes in       8.1 GB
    files added    8
    retries        1

    stage    tasks  try  tasks by executor
    write/1    3/8    1  b: 3 (discarded)
    write/1    8/8    2  a: 5, b: 3
    ");
    insta::assert_snapshot!(ask(&scheduler, &["jobs", "show", "run-1"]).out, @r"
    job        run-1
    kind       pipeline
    name       p
    state      applied
    submitted  2023-11-14 22:13:20 UTC
    started    2023-11-14 22:13:21 UTC
    ended      2023-11-14 22:13:24 UTC
    duration   3.0 s

    name  kind   outcome    rows in  inserted  updated  dropped  bytes  version  duration
    a.t   merge  applied  1,000,000         0        0        0    0 B        4     3.0 s
    ");

    // To show a failed job is no failure.
    let ended = ask(&scheduler, &["jobs", "show", "job-1"]);
    assert!(ended.exit == Some(0) && ended.out.contains("bad-record: line 7 is no JSON"), "{ended:?}");

    let listed = lines(&ask(&scheduler, &["jobs", "list", "--output", "json"]));
    assert_eq!(listed.iter().map(|job| job["id"].as_str().unwrap()).collect::<Vec<_>>(), ["run-1", "job-2", "job-1"]);
    let shown = ask(&scheduler, &["jobs", "show", "job-2", "--output", "json"]).json();
    assert_eq!(shown["stages"][1]["tasks_by_executor"], json!({"a": 5, "b": 3}));
    assert_eq!((&shown["metrics"]["bytes_in"], &shown["parent"]), (&json!(8_100_000_000_u64), &json!("run-1")));
    assert_eq!(shown["started_at"], json!("2023-11-14T22:13:21Z"));
}

#[test]
fn what_is_not_there_is_a_failed_request() {
    let scheduler = with_jobs();
    for words in [&["jobs", "show", "x"][..], &["jobs", "watch", "x"], &["tables", "show", "a.none"]] {
        let ended = ask(&scheduler, words);
        assert!(ended.exit == Some(1) && ended.err.starts_with("error: there is no "), "{ended:?}");
    }
}

#[test]
fn a_job_is_cancelled() {
    let scheduler = Scheduler::start(Script::default());
    let ended = ask(&scheduler, &["jobs", "cancel", "job-7"]);
    assert_eq!((ended.exit, ended.out.as_str()), (Some(0), "job job-7: cancelled\n"), "{ended:?}");
    assert_eq!(*scheduler.script.cancelled.lock().unwrap(), ["job-7"]);
}

#[test]
fn a_watched_job_is_an_object_a_change_and_decides_the_exit() {
    let states =
        [JobState::Queued, JobState::Running, JobState::Failed].map(|state| job("job-1", "merge", "a.t", state));
    let scheduler = Scheduler::start(job_that(states.to_vec()));
    let ended = ask(&scheduler, &["jobs", "watch", "job-1", "--output", "json"]);
    assert_eq!(ended.exit, Some(1), "{ended:?}");
    let states: Vec<_> = lines(&ended).iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, ["queued", "running", "failed"]);
}

#[test]
fn tables_and_raw_are_listed() {
    let scheduler = Scheduler::start(Script::default());
    insta::assert_snapshot!(ask(&scheduler, &["tables", "list"]).out, @r"
    table      version   rows  files   bytes  modified
    a.known          3  9,652      2  1.2 MB  2023-11-14 22:13:20 UTC
    a.unknown        3      ?      2  1.2 MB  2023-11-14 22:13:20 UTC
    ");
    insta::assert_snapshot!(ask(&scheduler, &["tables", "show", "a.known"]).out, @r"
    table             a.known
    location          s3://lake/tables/a/known
    version           3
    rows              9,652
    files             2
    bytes             1.2 MB
    modified          2023-11-14 22:13:20 UTC
    protocol          reader 3, writer 7
    delta.appendOnly  false

    column  type           null
    id      bigint         no
    tags    array<string>  yes
    ");
    insta::assert_snapshot!(ask(&scheduler, &["tables", "history", "a.known", "--limit", "2"]).out, @r"
    version  time                     operation  engine   job    metrics
          2  2023-11-14 22:13:22 UTC  MERGE      trireme  job-1  rows=7
          1  2023-11-14 22:13:21 UTC  MERGE      trireme  job-1  rows=7
    ");
    insta::assert_snapshot!(ask(&scheduler, &["raw", "list"]).out, @r"
    source  current              versions  skipped  stored     text
    a.s     20261122T201533123Z         2        1  3.0 kB  20.0 kB
    ");
    insta::assert_snapshot!(ask(&scheduler, &["raw", "show", "a.s"]).out, @r"
    version                       format    stored     text  splits  downloaded               origin                        sha256
    20261122T201533123Z  current  csv.gzip  1.5 kB  10.0 kB       1  2023-11-14 22:13:20 UTC  https://host/a\u{1b}[2Jb.csv  0123456789ab
    ");

    let tables = lines(&ask(&scheduler, &["tables", "list", "--output", "json"]));
    assert_eq!((&tables[0]["rows"], &tables[1]["rows"]), (&json!(9652), &json!(null)));
    let table = ask(&scheduler, &["tables", "show", "a.known", "--output", "json"]).json();
    assert_eq!((&table["name"], &table["columns"][1]["type"]), (&json!("a.known"), &json!("array<string>")));
    let commits = lines(&ask(&scheduler, &["tables", "history", "a.known", "--output", "json"]));
    assert_eq!((commits.len(), &commits[0]["metrics"]), (3, &json!({"rows": "7"})));
    let raw = lines(&ask(&scheduler, &["raw", "show", "a.s", "--output", "json"]));
    assert_eq!((&raw[0]["format"], &raw[0]["etag"]), (&json!("csv"), &json!(null)));
    assert_eq!(lines(&ask(&scheduler, &["raw", "list", "--output", "json"]))[0]["versions"], json!(2));
}

/// Numbers from 0, in messages of odd sizes.
fn numbers(count: i64, end: Option<Status>) -> Scheduler {
    let script = Script::default();
    let numbers = Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef;
    let bytes = ipc(&RecordBatch::try_from_iter([("n", numbers)]).unwrap());
    *script.sql.lock().unwrap() = (bytes.chunks(4999).map(<[u8]>::to_vec).collect(), end);
    Scheduler::start(script)
}

#[test]
fn rows_are_printed() {
    let scheduler = numbers(3, None);
    assert_eq!(ask(&scheduler, &["sql", "SELECT n"]).out, "n\n0\n1\n2\n");
    assert_eq!(ask(&scheduler, &["sql", "SELECT n", "--output", "json"]).out, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");
    assert_eq!(ask(&numbers(0, None), &["sql", "SELECT n"]).out, "n\n");
}

#[test]
fn text_is_cut_and_says_so_json_is_not() {
    let scheduler = numbers(10_001, None);
    let ended = ask(&scheduler, &["sql", "SELECT n"]);
    assert_eq!((ended.exit, ended.out.lines().count()), (Some(0), 10_001), "a heading and 10,000 rows");
    assert_eq!(ended.err, "only the first 10,000 rows are shown; --output json prints all\n");
    let ended = ask(&numbers(10_000, None), &["sql", "SELECT n"]);
    assert_eq!((ended.out.lines().count(), ended.err.as_str()), (10_001, ""));
    let ended = ask(&scheduler, &["sql", "SELECT n", "--output", "json"]);
    assert_eq!(ended.out.lines().last(), Some(r#"{"n":10000}"#));
}

#[test]
fn an_error_after_rows_is_told() {
    let failing = || numbers(3, Some(Status::failed_precondition("⟦bad-value can't cast `x`¦hint: try try_cast⟧")));
    let ended = ask(&failing(), &["sql", "SELECT n"]);
    assert_eq!((ended.exit, ended.err.as_str()), (Some(1), "error: can't cast `x`\nhint: try try_cast\n"));
    let ended = ask(&failing(), &["sql", "SELECT n", "--output", "json"]);
    assert_eq!(lines(&ended).last().unwrap()["error"]["code"], json!("bad-value"));
}

#[test]
fn a_reader_that_goes_early_is_no_failure() {
    let scheduler = numbers(1_000_000, None);
    for format in ["json", "text"] {
        let mut child =
            trireme(&["sql", "SELECT n", "--output", format, "--scheduler", &scheduler.url()]).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains('n'));
        let ended = wait(child);
        assert_eq!(ended.exit, Some(0), "{ended:?}");
        assert!(!ended.err.contains("panicked"), "{ended:?}");
    }
}

#[test]
fn a_versions_columns_are_shown() {
    let scheduler = with_jobs();
    insta::assert_snapshot!(ask(&scheduler, &["raw", "show", "a.s@current"]).out, @r"
    source           a.s
    version          20261122T201533123Z
    compared with    20261121T201533123Z
    type conflict    o.size: 1 null, 1,997 bigint, 2 string; first bigint in part-00000.json, line 1; first string in part-00000.json, line 7
    new fields       o
    vanished fields  size, x\u{1b}[2J

    field   type    values                          conflict
    id      bigint  2,000 bigint
    o.size  string  1 null, 1,997 bigint, 2 string  first bigint in part-00000.json, line 1; first string in part-00000.json, line 7
    ");
    let shown = ask(&scheduler, &["raw", "show", "a.s@current", "--output", "json"]).json();
    assert_eq!(
        shown["fields"][1]["values"]["string"],
        json!({"count": 2, "first": {"part": "part-00000.json", "offset": 70, "line": 7}})
    );
    assert_eq!((&shown["fields"][1]["conflict"], &shown["new_fields"]), (&json!(true), &json!(["o"])));
}

#[test]
fn bad_records_and_checks_are_told() {
    let script = Script::default();
    let reason = |reason: &str, rows| v1::ReasonCount { reason: reason.into(), rows };
    let merge = v1::Job {
        metrics: Some(v1::JobMetrics { rows_in: 10, rows_inserted: 7, rows_quarantined: 3, ..Default::default() }),
        quarantine: Some(v1::Quarantine {
            table: "quarantine.a_t".into(),
            version: 5,
            rows: 3,
            reasons: vec![reason("malformed", 2), reason("field `id`", 1)],
            examples: vec!["part-00000.json, line 3: malformed: found `}`".into()],
        }),
        checks: vec![v1::CheckCount {
            name: "sized".into(),
            on_failure: v1::OnFailure::Warn.into(),
            rows: 2,
            examples: vec!["part-00000.json, line 9: sized".into()],
        }],
        ..job("job-2", "merge", "a.t", JobState::Succeeded)
    };
    let whole = v1::Job { parts: vec!["job-2".into()], ..job("run-1", "pipeline", "p", JobState::Succeeded) };
    *script.jobs.lock().unwrap() = [merge, whole].into_iter().map(|job| (job.id.clone(), job)).collect();
    let scheduler = Scheduler::start(script);
    let shown = ask(&scheduler, &["jobs", "show", "run-1"]).out;
    assert!(
        shown.contains("dropped  quarantined")
            && shown.contains("a.t: 3 bad records in quarantine.a_t (2 malformed, 1 field `id`)"),
        "{shown}"
    );
    assert!(shown.contains("a.t: 2 rows fail `sized`, first: part-00000.json, line 9: sized"), "{shown}");
    let shown = ask(&scheduler, &["jobs", "show", "job-2"]).out;
    for text in [
        "rows quarantined  3",
        "bad record        part-00000.json, line 3: malformed: found `}`",
        "check             2 rows fail",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let shown = ask(&scheduler, &["jobs", "show", "job-2", "--output", "json"]).json();
    assert_eq!(shown["quarantine"]["reasons"][0], json!({"reason": "malformed", "rows": 2}));
    assert_eq!((&shown["metrics"]["rows_quarantined"], &shown["checks"][0]["on_failure"]), (&json!(3), &json!("warn")));
}
