//! What signals do to jobs.

use std::process::Child;

use trireme_proto::v1::JobState;

use crate::{
    scheduler::{End, Scheduler, Watching, job, job_that},
    signal, trireme, until, wait,
};

/// A scheduler whose job never ends.
fn endless() -> Scheduler {
    let script = job_that(vec![]);
    let running = Watching { jobs: vec![job("job-1", "merge", "a.t", JobState::Running)], end: End::Hang };
    *script.watchings.lock().unwrap() = [running.clone(), running].into();
    Scheduler::start(script)
}

fn watching(scheduler: &Scheduler, words: &[&str]) -> Child {
    let child = trireme(words).args(["--scheduler", &scheduler.url()]).spawn().unwrap();
    until("the job is watched", || (!scheduler.script.watched.lock().unwrap().is_empty()).then_some(()));
    child
}

const MERGE: [&str; 7] = ["merge", "--table", "a.t", "--source", "a.s", "--pk", "id"];

#[test]
fn ctrl_c_cancels_the_job_that_was_submitted() {
    let scheduler = endless();
    let child = watching(&scheduler, &MERGE);
    signal(&child, libc::SIGINT);
    let ended = wait(child);
    assert_eq!(ended.exit, Some(130), "{ended:?}");
    assert_eq!(*scheduler.script.cancelled.lock().unwrap(), ["job-1"]);
    assert!(ended.err.ends_with("error: interrupted; job job-1 is cancelled\n"), "{ended:?}");
}

#[test]
fn ctrl_c_leaves_a_job_that_is_only_watched() {
    let scheduler = endless();
    let child = watching(&scheduler, &["jobs", "watch", "job-1"]);
    signal(&child, libc::SIGINT);
    let ended = wait(child);
    assert_eq!(ended.exit, Some(130), "{ended:?}");
    assert!(scheduler.script.cancelled.lock().unwrap().is_empty());
    assert!(ended.err.contains("job job-1 goes on"), "{ended:?}");
}

#[test]
fn a_killed_client_leaves_the_job_to_the_scheduler() {
    for (kill, exit) in [(libc::SIGTERM, Some(143)), (libc::SIGKILL, None)] {
        let scheduler = endless();
        let child = watching(&scheduler, &MERGE);
        signal(&child, kill);
        let ended = wait(child);
        assert_eq!(ended.exit, exit, "{ended:?}");
        assert!(scheduler.script.cancelled.lock().unwrap().is_empty());
    }
}

#[test]
fn ctrl_c_without_a_scheduler_still_ends_the_client() {
    let scheduler = endless();
    let child = watching(&scheduler, &MERGE);
    drop(scheduler);
    signal(&child, libc::SIGINT);
    let ended = wait(child);
    assert_eq!(ended.exit, Some(130), "{ended:?}");
    assert!(ended.err.contains("may go on"), "{ended:?}");
}
