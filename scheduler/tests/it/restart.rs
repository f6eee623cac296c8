//! The journal: what a scheduler that dies leaves to the next one.

use std::{fs, path::Path, time::Duration};

use futures::StreamExt;
use tempfile::tempdir;
use tokio::runtime::Runtime;
use trireme_proto::v1::{JobState, Pipeline, job_spec::Spec};
use trireme_scheduler::jobs::JobOptions;

use crate::world::{Act, Fake, World, download_at, gate, merge, merge_at, options, question, question_at};

/// A life of a scheduler that ends without notice: all its tasks are dropped where they are.
fn life<T>(story: impl AsyncFnOnce() -> T) -> T {
    let runtime = Runtime::new().unwrap();
    let end = runtime.block_on(story());
    runtime.shutdown_timeout(Duration::from_secs(10));
    end
}

fn journal(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder.join("jobs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_pipeline_goes_on_where_its_scheduler_died() {
    let folder = tempdir().unwrap();
    let pipeline = Pipeline {
        name: "p".into(),
        downloads: vec![download_at("a.s", 1)],
        merges: vec![merge_at("a.t", "a.s", 2), merge_at("a.u", "known.s", 3)],
        questions: vec![question_at("q.known", "SELECT * FROM known.t", 4), question_at("q.t", "SELECT * FROM a.t", 5)],
        ..Pipeline::default()
    };
    let (before, id) = life(async || {
        let (_gate, wait) = gate();
        let fake = Fake::new([("merge of a.t", wait), ("question q.known", Act::Report)]);
        let world = World::start(folder.path(), fake).await;
        let id = world.accepted(Spec::Pipeline(pipeline)).await;
        world.fake.saw("start merge of a.t").await;
        let parts = world.get(&id).await.parts;
        for part in [0, 2, 3] {
            world.ended(&parts[part]).await;
        }
        (world.list(0, true).await, id)
    });
    life(async || {
        let world = World::start(folder.path(), Fake::new([("question q.t", Act::Report)])).await;
        let seen = world.watched(&id).await;
        let pipeline = seen.last().unwrap();
        assert_eq!((&pipeline.id, pipeline.state()), (&id, JobState::Succeeded));
        let expected = ["start merge of a.t", "end merge of a.t", "start question q.t", "end question q.t"];
        assert_eq!(world.fake.log(), expected, "what had ended does not run again");

        let after = world.list(0, true).await;
        let ids = |jobs: &[trireme_proto::v1::Job]| jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&after), ids(&before));
        assert!(after.iter().all(|job| job.state() == JobState::Succeeded));
        let question = world.get(&pipeline.parts[3]).await;
        assert_eq!((question.answer.as_slice(), question.metrics.unwrap().rows_in), (&[1, 2, 3][..], 7));
        assert!(seen.contains(&question), "a pipeline's watcher sees parts that ended before, with their answers");
    });
    life(async || {
        let world = World::start(folder.path(), Fake::new([])).await;
        let seen = world.watched(&id).await;
        assert_eq!(seen.len(), 6, "a pipeline that has ended is seen with its parts");
        assert_eq!(seen.last().unwrap().id, id);
        assert!(world.fake.log().is_empty());
    });
}

#[tokio::test]
async fn the_journal_follows_a_job() {
    let folder = tempdir().unwrap();
    let (gate, wait) = gate();
    let world = World::start(folder.path(), Fake::new([("merge of a.t", wait)])).await;
    let id = world.accepted(merge("a.t", "known.s")).await;
    let written = || {
        let text = fs::read_to_string(folder.path().join(format!("jobs/{id}.json"))).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["state"].as_str().unwrap().to_string()
    };
    assert!(["queued", "running"].contains(&written().as_str()), "a job that was accepted is written");
    while written() != "running" {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    world.ended(&id).await;
    assert_eq!(written(), "succeeded", "an end that is told is written");
}

#[test]
fn an_end_is_written_until_it_is_written_and_nothing_comes_before_that() {
    let folder = tempdir().unwrap();
    let (id, next) = life(async || {
        let (gate, wait) = gate();
        let world = World::start(folder.path(), Fake::new([("merge of a.t", wait)])).await;
        let id = world.accepted(merge("a.t", "known.s")).await;
        let next = world.accepted(question("a.t", "SELECT 1")).await;
        world.fake.saw("start merge of a.t").await;
        // A folder in its place: the record can't be written.
        let record = folder.path().join(format!("jobs/{id}.json"));
        loop {
            fs::remove_file(&record).ok();
            if fs::create_dir(&record).is_ok() && fs::write(record.join("x"), "").is_ok() {
                break;
            }
        }
        gate.add_permits(1);
        world.fake.saw("end merge of a.t").await;
        world.in_phase(&id, "waits for storage").await;
        assert_eq!(world.get(&id).await.state(), JobState::Running);
        assert!(!world.fake.log().contains(&"start question a.t".to_string()));
        fs::remove_dir_all(&record).unwrap();
        assert_eq!(world.ended(&id).await.state(), JobState::Succeeded);
        assert_eq!(world.ended(&next).await.state(), JobState::Succeeded);
        (id, next)
    });
    life(async || {
        let world = World::start(folder.path(), Fake::new([])).await;
        for id in [&id, &next] {
            assert_eq!(world.get(id).await.state(), JobState::Succeeded);
        }
        assert!(world.fake.log().is_empty(), "what has ended never runs again");
    });
}

#[test]
fn jobs_that_wait_keep_their_order() {
    let folder = tempdir().unwrap();
    let ids = life(async || {
        let (_gate, wait) = gate();
        let world = World::start(folder.path(), Fake::new([("merge of a.t", wait)])).await;
        let mut ids = vec![world.accepted(merge("a.t", "known.s")).await];
        for table in ["a.t", "a.t", "b.t"] {
            ids.push(world.accepted(question(table, "SELECT 1")).await);
        }
        world.fake.saw("start merge of a.t").await;
        world.ended(&ids[3]).await;
        // A cancelled job stays so.
        assert_eq!(world.cancel(&ids[1]).await.state(), JobState::Cancelled);
        ids
    });
    life(async || {
        let world = World::start(folder.path(), Fake::new([])).await;
        assert_eq!(world.ended(&ids[2]).await.state(), JobState::Succeeded);
        assert_eq!(world.get(&ids[1]).await.state(), JobState::Cancelled);
        let expected = ["start merge of a.t", "end merge of a.t", "start question a.t", "end question a.t"];
        assert_eq!(world.fake.log(), expected);
        let next = world.accepted(merge("a.t", "known.s")).await;
        assert!(ids.iter().all(|id| *id < next), "ids go on");
    });
}

#[tokio::test]
async fn a_scheduler_that_stops_breaks_streams_off_and_leaves_its_jobs_to_the_next() {
    let folder = tempdir().unwrap();
    let (_gate, wait) = gate();
    let world = World::start(folder.path(), Fake::new([("merge of a.t", wait)])).await;
    let id = world.accepted(merge("a.t", "known.s")).await;
    world.fake.saw("start merge of a.t").await;
    let mut watch = world.watch(&id).await;
    world.begin_stop();
    let last = loop {
        match watch.next().await.expect("the stream ends with an error") {
            Ok(job) => assert!(matches!(job.state(), JobState::Queued | JobState::Running)),
            Err(status) => break status,
        }
    };
    assert_eq!(last.code(), tonic::Code::Unavailable);
    drop(watch);
    world.stop().await;

    let world = World::start(folder.path(), Fake::new([])).await;
    assert_eq!(world.ended(&id).await.state(), JobState::Succeeded);
}

#[test]
fn old_jobs_are_forgotten() {
    let folder = tempdir().unwrap();
    let (running, ended) = life(async || {
        let (_gate, wait) = gate();
        let world = World::start(folder.path(), Fake::new([("merge of a.t", wait)])).await;
        let running = world.accepted(merge("a.t", "known.s")).await;
        let ended = world.accepted(question("a.q", "SELECT 1")).await;
        world.ended(&ended).await;
        (running, ended)
    });
    assert_eq!(journal(folder.path()), [format!("{running}.json"), format!("{ended}.json")]);
    life(async || {
        let options = JobOptions { retention: Duration::from_millis(1), ..options() };
        let (_gate, wait) = gate();
        let world = World::start_with(folder.path(), Fake::new([("merge of a.t", wait)]), options, None).await;
        let listed = world.list(0, true).await;
        assert_eq!(listed.iter().map(|job| &job.id).collect::<Vec<_>>(), [&running], "what has not ended is kept");
    });
    assert_eq!(journal(folder.path()), [format!("{running}.json")]);
}

#[test]
fn parts_of_a_pipeline_that_was_never_accepted_are_forgotten_and_damage_is_left_out() {
    let folder = tempdir().unwrap();
    let (pipeline, single) = life(async || {
        let (_gate, wait) = gate();
        let world = World::start(folder.path(), Fake::new([("merge of a.t", wait)])).await;
        let merges = vec![merge_at("a.t", "known.s", 1)];
        let id = world.accepted(Spec::Pipeline(Pipeline { name: "p".into(), merges, ..Pipeline::default() })).await;
        world.fake.saw("start merge of a.t").await;
        let single = world.accepted(question("a.q", "SELECT 1")).await;
        world.ended(&single).await;
        (world.get(&id).await, single)
    });
    // As if the scheduler had died between the two writes of a submission.
    fs::remove_file(folder.path().join(format!("jobs/{}.json", pipeline.id))).unwrap();
    fs::write(folder.path().join("jobs/20200101-000000-000.json"), "{").unwrap();
    life(async || {
        let world = World::start(folder.path(), Fake::new([])).await;
        let listed = world.list(0, true).await;
        assert_eq!(listed.iter().map(|job| &job.id).collect::<Vec<_>>(), [&single]);
        assert!(world.fake.log().is_empty());
    });
    assert!(!journal(folder.path()).contains(&format!("{}.json", pipeline.parts[0])));
}

#[test]
fn a_part_that_the_journal_has_lost_fails_its_pipeline_and_nothing_runs_on_it() {
    let folder = tempdir().unwrap();
    let pipeline = life(async || {
        let (_gate, wait) = gate();
        let world = World::start(folder.path(), Fake::new([("merge of a.t", wait)])).await;
        let merges = vec![merge_at("a.t", "known.s", 1)];
        let questions = vec![question_at("q.t", "SELECT * FROM a.t", 2)];
        let spec = Pipeline { name: "p".into(), merges, questions, ..Pipeline::default() };
        let id = world.accepted(Spec::Pipeline(spec)).await;
        world.fake.saw("start merge of a.t").await;
        world.get(&id).await
    });
    fs::write(folder.path().join(format!("jobs/{}.json", pipeline.parts[0])), "damaged").unwrap();
    life(async || {
        let world = World::start(folder.path(), Fake::new([])).await;
        assert_eq!(world.ended(&pipeline.id).await.state(), JobState::Failed);
        assert_eq!(world.get(&pipeline.parts[1]).await.state(), JobState::Skipped);
        assert!(world.fake.log().is_empty());
    });
}
