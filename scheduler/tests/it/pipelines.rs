//! Pipelines: what waits for what, what a failure costs, and what is refused.

use std::collections::HashMap;

use tempfile::tempdir;
use trireme_engine::{Code, Error};
use trireme_proto::v1::{Job, JobState, Pipeline, job_spec::Spec};

use crate::world::{Act, Fake, World, download_at, gate, merge_at, question_at};

/// Two sources with a table each, and a question over both.
fn books_and_movies() -> Pipeline {
    Pipeline {
        name: "books-and-movies".into(),
        downloads: vec![download_at("v.books", 1), download_at("s.movies", 2)],
        merges: vec![merge_at("v.books", "v.books", 3), merge_at("s.movies", "s.movies", 4)],
        questions: vec![
            question_at("q.best", "SELECT * FROM q.both JOIN known.table", 5),
            question_at("q.both", "SELECT * FROM v.books JOIN s.movies", 6),
        ],
        ..Pipeline::default()
    }
}

fn position(log: &[String], line: &str) -> usize {
    log.iter().position(|seen| seen == line).unwrap_or_else(|| panic!("`{line}` is not in {log:?}"))
}

async fn parts(world: &World, pipeline: &Job) -> HashMap<String, Job> {
    let mut parts = HashMap::new();
    for id in &pipeline.parts {
        let part = world.get(id).await;
        assert_eq!(part.parent, pipeline.id);
        parts.insert(format!("{} {}", part.kind, part.name), part);
    }
    parts
}

#[tokio::test]
async fn parts_run_after_what_they_read_and_side_by_side_otherwise() {
    let folder = tempdir().unwrap();
    let (gate, wait) = gate();
    let fake = Fake::new([("download of v.books", wait.clone()), ("download of s.movies", wait)]);
    let world = World::start(folder.path(), fake).await;
    let id = world.accepted(Spec::Pipeline(books_and_movies())).await;
    let watched = tokio::spawn({
        let watch = world.watch(&id).await;
        async move { futures::TryStreamExt::try_collect::<Vec<Job>>(watch).await.unwrap() }
    });
    // Both are under way before either may end.
    world.fake.saw("start download of v.books").await;
    world.fake.saw("start download of s.movies").await;
    let pipeline = world.get(&id).await;
    assert_eq!((pipeline.state(), pipeline.kind.as_str()), (JobState::Running, "pipeline"));
    let merge = &parts(&world, &pipeline).await["merge v.books"];
    assert_eq!(merge.phase, format!("waits for download of v.books (job {})", pipeline.parts[0]));
    gate.add_permits(2);

    let seen = watched.await.unwrap();
    assert_eq!((seen.last().unwrap().id.as_str(), seen.last().unwrap().state()), (id.as_str(), JobState::Succeeded));
    let mut kinds: Vec<String> = Vec::new();
    for part in &pipeline.parts {
        let of_part: Vec<&Job> = seen.iter().filter(|job| job.id == *part).collect();
        assert_eq!(of_part.last().unwrap().state(), JobState::Succeeded, "each part is seen to its end");
        kinds.push(of_part[0].kind.clone());
    }
    assert_eq!(kinds, ["download", "download", "merge", "merge", "question", "question"]);

    let log = world.fake.log();
    assert_eq!(log.len(), 12);
    for (first, then) in [
        ("download of v.books", "merge of v.books"),
        ("download of s.movies", "merge of s.movies"),
        ("merge of v.books", "question q.both"),
        ("merge of s.movies", "question q.both"),
        ("question q.both", "question q.best"),
    ] {
        assert!(position(&log, &format!("end {first}")) < position(&log, &format!("start {then}")), "{log:?}");
    }
    let listed = world.list(0, false).await;
    assert_eq!(listed.iter().map(|job| &job.id).collect::<Vec<_>>(), [&id], "parts are listed on demand only");
    assert_eq!(world.list(0, true).await.len(), 7);
}

#[tokio::test]
async fn a_failed_part_costs_what_depends_on_it_and_no_more() {
    let folder = tempdir().unwrap();
    let failure = Error::new(Code::DownloadFailed, "connection reset");
    let world = World::start(folder.path(), Fake::new([("download of v.books", Act::Fail(failure))])).await;
    let id = world.accepted(Spec::Pipeline(books_and_movies())).await;
    let pipeline = world.ended(&id).await;
    let parts = parts(&world, &pipeline).await;
    let state = |part: &str| parts[part].state();
    assert_eq!(state("download v.books"), JobState::Failed);
    assert_eq!((state("download s.movies"), state("merge s.movies")), (JobState::Succeeded, JobState::Succeeded));
    let skipped = |part: &str| {
        assert_eq!((state(part), parts[part].started_at), (JobState::Skipped, None));
        parts[part].error.clone().unwrap().message
    };
    assert_eq!(skipped("merge v.books"), "depends on download of v.books, which failed");
    assert_eq!(skipped("question q.both"), "depends on merge of v.books, which was skipped");
    assert_eq!(skipped("question q.best"), "depends on question q.both, which was skipped");
    assert_eq!(pipeline.state(), JobState::Failed);
    let error = pipeline.error.unwrap();
    assert_eq!(error.code, "download-failed");
    assert_eq!(
        error.message,
        "1 of 6 parts failed: download of v.books; 3 skipped: merge of v.books, question q.best, question q.both"
    );
}

#[tokio::test]
async fn cancelling_a_pipeline_cancels_its_parts() {
    let folder = tempdir().unwrap();
    let (_gate, wait) = gate();
    let world = World::start(folder.path(), Fake::new([("merge of v.books", wait)])).await;
    let id = world.accepted(Spec::Pipeline(books_and_movies())).await;
    world.fake.saw("start merge of v.books").await;
    world.fake.saw("end merge of s.movies").await;
    let merged = world.list(0, true).await.into_iter().find(|job| job.kind == "merge" && job.name == "s.movies");
    world.ended(&merged.unwrap().id).await;
    let pipeline = world.cancel(&id).await;
    assert_eq!(pipeline.state(), JobState::Cancelled);
    let parts = parts(&world, &pipeline).await;
    assert_eq!(parts["merge s.movies"].state(), JobState::Succeeded);
    for part in ["merge v.books", "question q.both", "question q.best"] {
        assert_eq!(parts[part].state(), JobState::Cancelled, "{part}");
    }
}

#[tokio::test]
async fn a_version_that_is_named_is_not_waited_for() {
    let folder = tempdir().unwrap();
    let (gate, wait) = gate();
    let world = World::start(folder.path(), Fake::new([("download of v.books", wait)])).await;
    let mut pipeline = books_and_movies();
    let table = pipeline.merges[0].spec.as_mut().unwrap();
    table.source.as_mut().unwrap().version = "20261122T201533123Z".into();
    let id = world.accepted(Spec::Pipeline(pipeline)).await;
    world.fake.saw("end question q.best").await;
    gate.add_permits(1);
    assert_eq!(world.ended(&id).await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn what_cannot_be_planned_is_refused_with_its_place() {
    let folder = tempdir().unwrap();
    let world = World::start(folder.path(), Fake::new([])).await;
    let refused = async |change: fn(&mut Pipeline)| {
        let mut pipeline = books_and_movies();
        change(&mut pipeline);
        world.refused(Spec::Pipeline(pipeline)).await
    };

    let cycle = refused(|pipeline| pipeline.questions[1].sql = "SELECT * FROM q.best JOIN v.books".into()).await;
    assert_eq!(cycle.message, "p.yaml:5:3: a cycle: q.best → q.both → q.best (each reads the next)");
    let itself = refused(|pipeline| pipeline.questions[1].sql = "SELECT * FROM q.both".into()).await;
    assert_eq!(itself.message, "p.yaml:6:3: a cycle: q.both → q.both (each reads the next)");
    let twice = refused(|pipeline| pipeline.questions[0].table = "v.books".into()).await;
    assert_eq!(twice.message, "p.yaml:5:3: table `v.books` is made twice, first at p.yaml:3:3");
    let twice = refused(|pipeline| pipeline.downloads[1].source = "v.books".into()).await;
    assert_eq!(twice.message, "p.yaml:2:3: source `v.books` is made twice, first at p.yaml:1:3");
    let unknown = refused(|pipeline| drop(pipeline.downloads.remove(0))).await;
    assert_eq!((unknown.code, unknown.message.as_str()), (Code::SourceNotFound, "p.yaml:3:3: no source `v.books`"));
    let name = refused(|pipeline| pipeline.downloads[0].source = "books".into()).await;
    assert_eq!(name.message, "p.yaml:1:3: `books` is not a source name");
    let empty = refused(|pipeline| *pipeline = Pipeline { name: "p".into(), ..Pipeline::default() }).await;
    assert_eq!(empty.message, "pipeline `p` has nothing to do");
    assert_eq!(refused(|pipeline| pipeline.name.clear()).await.message, "a pipeline without a name");

    assert!(world.list(0, true).await.is_empty() && world.fake.log().is_empty());
    assert!(!folder.path().join("jobs").exists(), "nothing was written");
}
