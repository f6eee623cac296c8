//! Single jobs: their states, their queues, and what is refused.

use std::time::Duration;

use tempfile::tempdir;
use trireme_engine::{Code, Error};
use trireme_proto::v1::{GetJobRequest, JobState, Outcome, WatchJobRequest};
use trireme_scheduler::jobs::JobOptions;

use crate::world::{Act, Fake, World, download, gate, merge, options, question};

#[tokio::test]
async fn a_job_is_watched_from_the_queue_to_its_end() {
    let folder = tempdir().unwrap();
    let (gate, wait) = gate();
    let fake = Fake::new([("merge of a.b", wait), ("question a.q", Act::Report)]);
    let world = World::start(folder.path(), fake).await;

    let job = world.submit(merge("a.b", "known.s")).await.unwrap();
    assert_eq!((job.state(), job.kind.as_str(), job.name.as_str()), (JobState::Queued, "merge", "a.b"));
    assert_eq!((job.delta_version, job.parent.as_str()), (-1, ""));
    world.fake.saw("start merge of a.b").await;
    assert_eq!(world.get(&job.id).await.state(), JobState::Running);
    gate.add_permits(1);
    let seen = world.watched(&job.id).await;
    let last = seen.last().unwrap();
    assert_eq!((last.state(), last.phase.as_str(), &last.error), (JobState::Succeeded, "", &None));
    assert!(last.submitted_at.is_some() && last.started_at.is_some() && last.ended_at.is_some());
    assert!(seen[..seen.len() - 1].iter().all(|job| job.state() != JobState::Succeeded));
    assert_eq!(last.spec, job.spec);

    let id = world.accepted(question("a.q", "SELECT 1")).await;
    let job = world.ended(&id).await;
    assert_eq!((job.answer.as_slice(), job.answer_rows, job.outcome()), (&[1, 2, 3][..], 2, Outcome::Applied));
    assert_eq!((job.metrics.unwrap().rows_in, job.delta_version), (7, 4));
    assert_eq!(world.get(&id).await, job, "an answer is there for whoever comes later");
    assert_eq!(world.watched(&id).await, [job]);
    assert!(world.list(0, false).await.iter().all(|job| job.answer.is_empty()));
}

#[tokio::test]
async fn work_changes_only_what_is_its_own() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([("merge of a.b", Act::Meddle)])).await;
    let submitted = world.submit(merge("a.b", "known.s")).await.unwrap();
    let job = world.ended(&submitted.id).await;
    assert_eq!((job.id, job.kind, job.name, job.spec), (submitted.id, submitted.kind, submitted.name, submitted.spec));
    assert_eq!(job.submitted_at, submitted.submitted_at);
}

#[tokio::test]
async fn jobs_of_one_table_run_one_after_the_other() {
    let folder = tempdir().unwrap();
    let (gate, wait) = gate();
    let fake = Fake::new([("merge of a.b", wait.clone()), ("question a.b", wait)]);
    let world = World::start(folder.path(), fake).await;
    let first = world.accepted(merge("a.b", "known.s")).await;
    let second = world.accepted(question("a.b", "SELECT 1")).await;
    let third = world.accepted(merge("a.b", "known.s")).await;
    world.in_phase(&third, &format!("waits for merge of a.b (job {first})")).await;
    // Neither another table nor a source of the same name waits.
    let other = world.accepted(merge("a.c", "known.s")).await;
    let source = world.accepted(download("a.b")).await;
    assert_eq!(world.ended(&other).await.state(), JobState::Succeeded);
    assert_eq!(world.ended(&source).await.state(), JobState::Succeeded);
    assert_eq!(world.get(&second).await.state(), JobState::Queued);

    gate.add_permits(1);
    assert_eq!(world.ended(&first).await.state(), JobState::Succeeded);
    world.in_phase(&third, &format!("waits for question a.b (job {second})")).await;
    gate.add_permits(2);
    assert_eq!(world.ended(&third).await.state(), JobState::Succeeded);
    let log: Vec<_> =
        world.fake.log().into_iter().filter(|line| line.contains(" a.b") && !line.contains("download")).collect();
    let expected = ["start merge of a.b", "end merge of a.b", "start question a.b", "end question a.b"];
    assert_eq!(log, expected.iter().chain(&expected[..2]).map(ToString::to_string).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_more_jobs_run_than_allowed() {
    let folder = tempdir().unwrap();
    let (gate, wait) = gate();
    let fake = Fake::new(["merge of a.a", "merge of a.b", "merge of a.c"].map(|label| (label, wait.clone())));
    let options = JobOptions { max_running: 2, ..options() };
    let world = World::start_with(folder.path(), fake, options, None).await;
    let mut ids = Vec::new();
    for table in ["a.a", "a.b", "a.c"] {
        ids.push(world.accepted(merge(table, "known.s")).await);
    }
    world.in_phase(&ids[2], "waits for one of 2 running jobs to end").await;
    world.fake.saw("start merge of a.b").await;
    assert_eq!(world.fake.log().len(), 2);
    gate.add_permits(3);
    assert_eq!(world.ended(&ids[2]).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn jobs_wait_for_executors() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    world.executors.send_replace(0);
    let waits = world.accepted(merge("a.b", "known.s")).await;
    let cancelled = world.accepted(merge("a.c", "known.s")).await;
    world.in_phase(&waits, "waits for an executor").await;
    assert_eq!(world.cancel(&cancelled).await.state(), JobState::Cancelled);
    assert!(world.fake.log().is_empty());
    world.executors.send_replace(1);
    assert_eq!(world.ended(&waits).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn a_cancelled_job_ends_and_lets_the_next_one_run() {
    let folder = tempdir().unwrap();
    let (_gate, wait) = gate();
    let fake = Fake::new([("merge of a.b", wait), ("merge of a.deaf", Act::Deaf)]);
    let world = World::start(folder.path(), fake).await;
    let running = world.accepted(merge("a.b", "known.s")).await;
    let queued = world.accepted(merge("a.b", "known.s")).await;
    world.fake.saw("start merge of a.b").await;

    let job = world.cancel(&queued).await;
    assert_eq!((job.state(), job.started_at), (JobState::Cancelled, None));
    let job = world.cancel(&running).await;
    assert_eq!((job.state(), job.error.unwrap().code.as_str()), (JobState::Cancelled, "cancelled"));
    let next = world.accepted(question("a.b", "SELECT 1")).await;
    assert_eq!(world.ended(&next).await.state(), JobState::Succeeded);
    assert_eq!(world.cancel(&next).await.state(), JobState::Succeeded, "a job that has ended stays as it is");

    let deaf = world.accepted(merge("a.deaf", "known.s")).await;
    world.fake.saw("start merge of a.deaf").await;
    let job = world.cancel(&deaf).await;
    assert_eq!(job.state(), JobState::Cancelled, "work that does not listen is aborted");
}

#[tokio::test]
async fn errors_panics_and_deadlines_fail_the_job_and_nothing_else() {
    let folder = tempdir().unwrap();
    let error = Error::new(Code::NullKey, "3 rows have a null key").hint("add a where");
    let (_gate, wait) = gate();
    let script = [("merge of a.error", Act::Fail(error)), ("merge of a.panic", Act::Panic), ("merge of a.slow", wait)];
    let options = JobOptions { deadline: Duration::from_millis(300), ..options() };
    let world = World::start_with(folder.path(), Fake::new(script), options, None).await;
    let mut ended = Vec::new();
    for table in ["a.error", "a.panic", "a.slow", "a.fine"] {
        let id = world.accepted(merge(table, "known.s")).await;
        ended.push(world.ended(&id).await);
    }
    let error = |at: usize| ended[at].error.clone().unwrap();
    assert!(ended[..3].iter().all(|job| job.state() == JobState::Failed));
    assert_eq!((error(0).code.as_str(), error(0).message.as_str()), ("null-key", "3 rows have a null key"));
    assert_eq!(error(0).hint, "add a where");
    assert_eq!(error(1).code, "internal");
    assert!(error(1).message.contains("a tile fell off the roof"), "{}", error(1).message);
    assert_eq!((error(2).code.as_str(), error(2).message.as_str()), ("deadline-exceeded", "took longer than 300ms"));
    assert!(error(2).hint.contains("job_deadline"));
    assert_eq!(ended[3].state(), JobState::Succeeded);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_at_once() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    assert_eq!(world.refused(merge("Bad Name", "known.s")).await.code, Code::InvalidSpec);
    assert_eq!(world.refused(merge("a.b", "unknown.s")).await.code, Code::SourceNotFound);
    assert!(world.list(0, true).await.is_empty());
    let none = tonic::Request::new(trireme_proto::v1::SubmitRequest { spec: None });
    assert_eq!(world.jobs().submit(none).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    for id in ["", "x", "../../etc/passwd", "20261122-201533-123"] {
        let error = world.jobs().get(GetJobRequest { id: id.into() }).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::NotFound, "{id}");
        let error = world.jobs().watch(WatchJobRequest { id: id.into() }).await.unwrap_err();
        assert_eq!(Error::find_in(error.message()).unwrap().code, Code::JobNotFound, "{id}");
    }
}

#[tokio::test]
async fn the_newest_jobs_are_listed_first() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(world.accepted(merge("a.b", "known.s")).await);
    }
    ids.reverse();
    let listed = |jobs: Vec<trireme_proto::v1::Job>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(listed(world.list(0, false).await), ids[..50]);
    assert_eq!(listed(world.list(3, false).await), ids[..3]);
    assert_eq!(listed(world.list(u32::MAX, true).await), ids);
}
