//! Jobs that are submitted, watched and cancelled.

use std::{fs, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray},
    ipc::writer::StreamWriter,
};
use serde_json::json;
use tempfile::TempDir;
use tonic::Status;
use trireme_proto::v1::{self, JobState, Outcome, job_spec::Spec};

use crate::{
    run,
    scheduler::{End, Scheduler, Script, Watching, failed, job, job_that},
    trireme,
};

pub fn ipc(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    bytes
}

const MERGE: [&str; 7] = ["merge", "--table", "a.t", "--source", "a.s", "--pk", "id"];

fn merge(scheduler: &Scheduler) -> std::process::Command {
    trireme(&[&MERGE[..], &["--scheduler", &scheduler.url()]].concat())
}

fn pipeline_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.csv"), "id\n1\n").unwrap();
    fs::write(folder.path().join("q.sql"), "SELECT 1").unwrap();
    fs::write(
        folder.path().join("p.yaml"),
        "name: p\nsources:\n  a.s: { from: s.csv }\ntables:\n  a.t: { source: a.s, mode: overwrite }\n\
         questions:\n  a.q: { sql: q.sql }\n",
    )
    .unwrap();
    folder
}

/// A pipeline that ends with these parts; each is seen running first.
fn pipeline_that(state: JobState, parts: Vec<v1::Job>) -> Script {
    let ids: Vec<String> = parts.iter().map(|part| part.id.clone()).collect();
    let whole = |state| v1::Job { parts: ids.clone(), ..job("run-1", "pipeline", "p", state) };
    let running = parts
        .iter()
        .map(|part| v1::Job { parent: "run-1".into(), ..job(&part.id, &part.kind, &part.name, JobState::Running) });
    let script = job_that(
        [whole(JobState::Running)].into_iter().chain(running).chain(parts.clone()).chain([whole(state)]).collect(),
    );
    *script.submit.lock().unwrap() = Some(Ok(whole(JobState::Queued)));
    script
}

fn answered() -> Vec<v1::Job> {
    let answer = RecordBatch::try_from_iter([
        ("title", Arc::new(StringArray::from(vec!["unforgiven", "alien"])) as ArrayRef),
        ("minutes", Arc::new(Float64Array::from(vec![722.266836, 9.5])) as ArrayRef),
    ])
    .unwrap();
    let download = v1::Job {
        raw_version: "20261122T201533123Z".into(),
        metrics: Some(v1::JobMetrics { bytes_in: 8_100_000, ..Default::default() }),
        outcome: Outcome::AlreadyCurrent.into(),
        ..job("d", "download", "a.s", JobState::Succeeded)
    };
    let load = v1::Job {
        delta_version: 3,
        metrics: Some(v1::JobMetrics {
            rows_in: 9652,
            rows_inserted: 9651,
            rows_dropped: 1,
            bytes_out: 1234,
            ..Default::default()
        }),
        ..job("l", "load", "a.t", JobState::Succeeded)
    };
    let question = v1::Job {
        delta_version: 0,
        answer: ipc(&answer),
        answer_rows: 5,
        ..job("q", "question", "a.q", JobState::Succeeded)
    };
    vec![download, load, question]
}

#[test]
fn a_pipelines_run_is_reported_with_its_answers() {
    let folder = pipeline_folder();
    let scheduler = Scheduler::start(pipeline_that(JobState::Succeeded, answered()));
    let file = folder.path().join("p.yaml");
    let ended = run(&mut trireme(&["run", file.to_str().unwrap(), "--scheduler", &scheduler.url()]));
    assert_eq!(ended.exit, Some(0), "{ended:?}");
    insta::assert_snapshot!(ended.out, @r"
    name  kind      outcome          rows in  inserted  updated  dropped   bytes              version  duration
    a.s   download  already current                                       8.1 MB  20261122T201533123Z     3.0 s
    a.t   load      applied            9,652     9,651        0        1  1.2 kB                    3     3.0 s
    a.q   question  applied                0         0        0        0     0 B                    0     3.0 s

    a.q
    title          minutes
    unforgiven  722.266836
    alien              9.5
    … and 3 more rows: trireme sql 'SELECT * FROM a.q'
    ");
    insta::assert_snapshot!(ended.err, @r"
    pipeline p: queued as job run-1
    pipeline p: running as job run-1
    download a.s: running
    load a.t: running
    question a.q: running
    download a.s: already current in 3.0 s
    load a.t: applied in 3.0 s
    question a.q: applied in 3.0 s
    pipeline p: applied in 3.0 s
    ");
    let submitted = scheduler.script.submitted.lock().unwrap();
    let Some(Spec::Pipeline(pipeline)) = &submitted[0].spec else { panic!("{submitted:?}") };
    assert_eq!((pipeline.downloads.len(), pipeline.loads.len(), pipeline.questions.len()), (1, 1, 1));
}

#[test]
fn a_pipelines_run_is_one_document() {
    let folder = pipeline_folder();
    let scheduler = Scheduler::start(pipeline_that(JobState::Succeeded, answered()));
    let file = folder.path().join("p.yaml");
    let ended =
        run(&mut trireme(&["run", file.to_str().unwrap(), "--scheduler", &scheduler.url(), "--output", "json"]));
    assert_eq!(ended.exit, Some(0), "{ended:?}");
    let document = ended.json();
    assert_eq!((&document["pipeline"], &document["state"]), (&json!("p"), &json!("succeeded")));
    assert_eq!(
        document["answers"],
        json!({"a.q": [{"title": "unforgiven", "minutes": 722.266836}, {"title": "alien", "minutes": 9.5}]})
    );
    assert!(ended.out.contains(r#"[{"title":"unforgiven","minutes":722.266836}"#), "columns keep their order");
    let load = &document["parts"][1];
    assert_eq!(
        [
            &load["name"],
            &load["outcome"],
            &load["delta_version"],
            &load["metrics"]["rows_dropped"],
            &load["duration_ms"]
        ],
        [&json!("a.t"), &json!("applied"), &json!(3), &json!(1), &json!(3000)]
    );
    assert_eq!(document["parts"][0]["delta_version"], json!(null));
}

#[test]
fn a_failed_part_fails_the_run_and_says_what_it_took_along() {
    let folder = pipeline_folder();
    let skipped = v1::Job {
        error: Some(v1::JobError { code: "skipped".into(), message: "depends on a.t".into(), hint: String::new() }),
        ..job("q", "question", "a.q", JobState::Skipped)
    };
    let parts = vec![failed("l", "load", "a.t", "null-key", "3 rows have a null key", "add `where`"), skipped];
    let file = folder.path().join("p.yaml");
    for format in ["text", "json"] {
        let scheduler = Scheduler::start(pipeline_that(JobState::Failed, parts.clone()));
        let ended =
            run(&mut trireme(&["run", file.to_str().unwrap(), "--scheduler", &scheduler.url(), "--output", format]));
        assert_eq!(ended.exit, Some(1), "{ended:?}");
        if format == "text" {
            assert!(ended.out.contains("skipped: depends on a.t"), "{ended:?}");
            assert!(ended.err.ends_with("error: load a.t: 3 rows have a null key\nhint: add `where`\n"), "{ended:?}");
        } else {
            let error = json!({"code": "null-key", "message": "3 rows have a null key", "hint": "add `where`"});
            assert_eq!(ended.json()["parts"][0]["error"], error);
            assert_eq!(ended.json()["parts"][1]["state"], json!("skipped"));
        }
    }
}

#[test]
fn a_refused_job_says_why() {
    let refused = || {
        let script = Script::default();
        let status = Status::invalid_argument("⟦invalid-sql no column `x` in q.sql:2:8¦hint: did you mean `y`?⟧");
        *script.submit.lock().unwrap() = Some(Err(status));
        Scheduler::start(script)
    };
    let ended = run(&mut merge(&refused()));
    assert_eq!(ended.exit, Some(64), "{ended:?}");
    assert_eq!(ended.err, "error: no column `x` in q.sql:2:8\nhint: did you mean `y`?\n");
    assert_eq!(ended.out, "");

    let ended = run(merge(&refused()).args(["--output", "json"]));
    assert_eq!(ended.exit, Some(64), "{ended:?}");
    let error = json!({"code": "invalid-sql", "message": "no column `x` in q.sql:2:8", "hint": "did you mean `y`?"});
    assert_eq!((ended.json(), ended.err.as_str()), (json!({ "error": error }), ""));
}

#[test]
fn a_jobs_end_is_the_programs() {
    let cases = [
        (job("job-1", "merge", "a.t", JobState::Succeeded), 0),
        (failed("job-1", "merge", "a.t", "duplicate-key", "key 7 is there twice", ""), 1),
        (failed("job-1", "merge", "a.t", "invalid-sql", "no column x", ""), 64),
        (failed("job-1", "merge", "a.t", "origin-refused", "not from there", ""), 64),
        (job("job-1", "merge", "a.t", JobState::Cancelled), 1),
    ];
    for (end, exit) in cases {
        let scheduler = Scheduler::start(job_that(vec![job("job-1", "merge", "a.t", JobState::Running), end]));
        let ended = run(merge(&scheduler).args(["--output", "json"]));
        assert_eq!(ended.exit, Some(exit), "{ended:?}");
        assert_eq!(ended.json()["id"], json!("job-1"));
    }
}

#[test]
fn a_broken_stream_is_taken_up_again() {
    let script = job_that(vec![job("job-1", "merge", "a.t", JobState::Running)]);
    let breaks = [
        (vec![], End::Fail(Status::unavailable("draining"))),
        (vec![], End::Fail(Status::aborted("⟦work-lost the scheduler is stopping¦hint: connect again⟧"))),
        (vec![], End::Fail(Status::internal("h2 protocol error: error reading a body from connection"))),
        (vec![job("job-1", "merge", "a.t", JobState::Running)], End::Close),
        (vec![job("job-1", "merge", "a.t", JobState::Succeeded)], End::Close),
    ];
    script.watchings.lock().unwrap().extend(breaks.map(|(jobs, end)| Watching { jobs, end }));
    let scheduler = Scheduler::start(script);
    let ended = run(&mut merge(&scheduler));
    assert_eq!(ended.exit, Some(0), "{ended:?}");
    assert_eq!(*scheduler.script.watched.lock().unwrap(), ["job-1"; 6]);
    assert_eq!(scheduler.script.submitted.lock().unwrap().len(), 1, "it is submitted once");
}

#[test]
fn an_error_of_the_scheduler_ends_the_watching() {
    let script = job_that(vec![job("job-1", "merge", "a.t", JobState::Running)]);
    // The next watching finds no job.
    let scheduler = Scheduler::start(script);
    let ended = run(&mut merge(&scheduler));
    assert_eq!(ended.exit, Some(1), "{ended:?}");
    assert!(ended.err.ends_with("error: there is no job `job-1`\n"), "{ended:?}");
}

#[test]
fn a_scheduler_may_restart() {
    let script = job_that(vec![]);
    *script.watchings.lock().unwrap() =
        [Watching { jobs: vec![job("job-1", "merge", "a.t", JobState::Running)], end: End::Hang }].into();
    let scheduler = Scheduler::start(script);
    let (address, told) = (scheduler.address, scheduler.script.clone());
    let child = merge(&scheduler).spawn().unwrap();
    crate::until("the job is watched", || (!told.watched.lock().unwrap().is_empty()).then_some(()));
    drop(scheduler);
    let scheduler = Scheduler::start_at(address, job_that(vec![job("job-1", "merge", "a.t", JobState::Succeeded)]));
    let ended = crate::wait(child);
    assert_eq!(ended.exit, Some(0), "{ended:?}");
    assert_eq!(*scheduler.script.watched.lock().unwrap(), ["job-1"]);
}

#[tokio::test]
async fn patience_ends() {
    use std::time::Duration;
    use trireme::{connection, interrupt::Interrupt, watch};

    let server = tokio::task::spawn_blocking(|| Scheduler::start(Script::default())).await.unwrap();
    let client = connection::Scheduler::connect(&server.url(), None).await.unwrap();
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
    let interrupt = Interrupt::listen().unwrap();
    let patience = Duration::from_millis(300);
    let ended = watch::follow(&client, "job-1", &interrupt, watch::OnInterrupt::Leave, patience, |_| true).await;
    let error = ended.unwrap_err();
    assert_eq!(error.exit() as u8, 69);
    assert!(error.message.starts_with("lost sight of job job-1, which goes on: "), "{error}");
    assert!(error.hint.contains("trireme jobs watch job-1"));
}

#[test]
fn a_one_off_question_prints_its_answer() {
    let folder = pipeline_folder();
    let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![7])) as ArrayRef)]).unwrap();
    let done = v1::Job { answer: ipc(&rows), answer_rows: 1, ..job("job-1", "question", "a.q", JobState::Succeeded) };
    let sql = folder.path().join("q.sql");
    let question = ["question", "--sql", sql.to_str().unwrap(), "--table", "a.q"];
    let scheduler = Scheduler::start(job_that(vec![done.clone()]));
    let ended = run(trireme(&question).args(["--scheduler", &scheduler.url()]));
    assert!(ended.exit == Some(0) && ended.out.ends_with("\n\na.q\nn\n7\n"), "{ended:?}");
    let scheduler = Scheduler::start(job_that(vec![done]));
    let ended = run(trireme(&question).args(["--scheduler", &scheduler.url(), "--output", "json"]));
    assert_eq!((ended.json()["answer"].clone(), ended.json()["answer_rows"].clone()), (json!([{"n": 7}]), json!(1)));
}

#[test]
fn the_token_goes_with_every_call() {
    let secured = || {
        let script = job_that(vec![job("job-1", "merge", "a.t", JobState::Succeeded)]);
        *script.token.lock().unwrap() = Some("Bearer s3cret".to_string());
        Scheduler::start(script)
    };
    let ended = run(merge(&secured()).env("TRIREME_API_TOKEN", "s3cret"));
    assert_eq!(ended.exit, Some(0), "{ended:?}");

    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "s3cret\n").unwrap();
    let ended = run(merge(&secured()).env("TRIREME_API_TOKEN_FILE", file.path()));
    assert_eq!(ended.exit, Some(0), "{ended:?}");

    for wrong in [None, Some("other")] {
        let ended = run(merge(&secured()).envs(wrong.map(|token| ("TRIREME_API_TOKEN", token))));
        assert_eq!(ended.exit, Some(64), "{ended:?}");
        assert!(ended.err.contains("hint: set TRIREME_API_TOKEN"), "{ended:?}");
    }
    let ended = run(merge(&secured()).env("TRIREME_API_TOKEN_FILE", "/none/token"));
    assert!(ended.exit == Some(64) && ended.err.contains("/none/token"), "{ended:?}");
}
