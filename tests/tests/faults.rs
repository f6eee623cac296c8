//! Processes are killed in the middle of jobs: the jobs end by themselves, and the tables are right.
//!
//! `TRIREME_TEST_SEEDS` says how often each fault is injected; a seed decides which process is killed and how far into a phase.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use trireme_tests::answers::assert_answers;
use trireme_tests::cli::{Client, wait_for_end_of};
use trireme_tests::cluster::{Cluster, Options, embedded, has_ended, text};
use trireme_tests::data::{self, Layout, Project};
use trireme_tests::process::descendants;
use trireme_tests::python::Python;
use trireme_tests::{setting, wait_for};

const STREAMS: [&str; 10] = [
    "-t",
    "to_timestamp(start_at) AS start_at",
    "-t",
    "to_timestamp(end_at) AS end_at",
    "-t",
    "lower(movie_title) AS movie_title",
    "-t",
    "user_email",
    "-t",
    "CAST(size_mb AS double) AS size_mb",
];
const MOVIES: [&str; 8] = [
    "-t",
    "lower(title) AS title",
    "-t",
    "CAST(duration_mins AS int) AS duration_mins",
    "-t",
    "lower(original_language) AS original_language",
    "-t",
    "CAST(size_mb AS double) AS size_mb",
];
const USERS: [&str; 6] =
    ["-t", "lower(first_name) AS first_name", "-t", "lower(last_name) AS last_name", "-t", "email"];

/// Joins, a grouping with many groups, and a window; every value is exact whatever the order of rows.
const QUESTION: &str = "\
SELECT g.*, ROW_NUMBER() OVER (PARTITION BY g.user_email ORDER BY g.first_at, g.movie_title) AS place
FROM (
  SELECT s.user_email, s.movie_title, m.original_language, MAX(u.last_name) AS last_name,
    COUNT(*) AS sessions, MIN(s.start_at) AS first_at, MAX(s.size_mb) AS largest
  FROM s.streams s
  JOIN s.movies m ON m.title = s.movie_title
  JOIN s.users u ON u.email = s.user_email
  GROUP BY s.user_email, s.movie_title, m.original_language
) g";

/// A cluster with a table of streams that grows by a day at every merge.
struct World {
    cluster: Cluster,
    python: Python,
    days: Vec<PathBuf>,
    /// Optimizations of the table.
    optimized: usize,
}

/// A phase of an undisturbed job, and how long it took.
type Phase = (String, Duration);

impl World {
    /// A cluster with the first day loaded; none where the oracle can't run.
    fn new() -> Option<Self> {
        let python = Python::find()?;
        let mut world = Self { cluster: Cluster::start(Options::default()), python, days: Vec::new(), optimized: 0 };
        world.deliver();
        let load = ["load", "--table", "s.streams", "--source", "raw.streams", "--pk", "start_at"];
        world.cluster.json(&[&load[..], &STREAMS].concat()).done();
        Some(world)
    }

    /// Downloads the next day.
    fn deliver(&mut self) {
        let day = self.days.len() as u64 + 1;
        let folder = data::generate_streams(self.cluster.folder(), data::size(16_000_000), day);
        let file = text(&folder.join("streams.csv"));
        self.cluster.json(&["download", "--from", &file, "--to", "raw.streams"]).done();
        self.days.push(folder);
    }

    fn merge(&self) -> Client {
        self.merge_with(&[])
    }

    fn merge_with(&self, flags: &[&str]) -> Client {
        let merge =
            ["merge", "--output", "json", "--table", "s.streams", "--source", "raw.streams", "--pk", "start_at"];
        self.cluster.begin(&[&merge[..], &STREAMS, flags].concat())
    }

    /// Checks that the table holds all days, and that it has had one commit for each, and for each optimization.
    #[track_caller]
    fn check(&self) {
        self.python.check_tables(&self.cluster.lake(), &self.days, &[("s.streams", "streams/merge")]);
        let history = self.cluster.json(&["tables", "history", "s.streams"]).done().json_lines();
        assert_eq!(history.len(), self.days.len() + self.optimized, "one commit a job: {history:?}");
    }

    /// The job that a client has submitted after those that are known.
    fn submitted(&self, kind: &str, name: &str, known: usize) -> String {
        wait_for("the job", || {
            let jobs = self.cluster.jobs(kind, name);
            (jobs.len() > known).then(|| jobs[0]["id"].as_str().unwrap().to_string())
        })
    }

    /// Follows a job to its end and returns the phases of its work.
    fn phases(&self, id: &str) -> Vec<Phase> {
        let mut phases: Vec<(String, Instant)> = Vec::new();
        let mut watch = self.cluster.begin(&["jobs", "watch", id, "--output", "json"]);
        for line in watch.lines() {
            let job: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let phase = job["phase"].as_str().unwrap_or_default().to_string();
            if phases.last().is_none_or(|(last, _)| *last != phase) {
                phases.push((phase, Instant::now()));
            }
        }
        let ends = phases.iter().skip(1).map(|(_, at)| *at).chain([Instant::now()]).collect::<Vec<_>>();
        let lasted = phases.into_iter().zip(ends).map(|((phase, from), to)| (phase, to - from));
        // What took no time can't be hit.
        let hit =
            |(phase, time): &Phase| !["", "starts"].contains(&phase.as_str()) && *time > Duration::from_millis(40);
        lasted.filter(hit).collect()
    }

    /// Waits until a job is this far into a phase; false if it has ended before.
    fn wait_for_phase(&self, id: &str, (phase, lasts): &Phase, share: f64) -> bool {
        let mut watch = self.cluster.begin(&["jobs", "watch", id, "--output", "json"]);
        for line in watch.lines() {
            let job: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if job["phase"] == phase.as_str() {
                sleep(lasts.mul_f64(share));
                return !has_ended(&self.cluster.job(id));
            }
        }
        false
    }
}

/// A number between 0 and 1 that follows from a seed.
fn share(seed: u64) -> f64 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    mixed as f64 / (1_u64 << 24) as f64
}

fn seeds() -> std::ops::Range<u64> {
    0..setting("TRIREME_TEST_SEEDS", 2)
}

#[test]
fn an_executor_is_killed_in_a_merge() {
    executors_are_killed("merge", World::deliver, World::merge);
}

#[test]
fn an_executor_is_killed_in_a_merge_by_clauses() {
    let clauses = ["--when-matched", "update_if=source.size_mb >= 0", "--when-matched", "update"];
    executors_are_killed("merge", World::deliver, |world| world.merge_with(&clauses));
}

#[test]
fn an_executor_is_killed_in_an_optimization() {
    let grow = |world: &mut World| {
        world.deliver();
        world.merge().finish().done();
        world.optimized += 1;
    };
    executors_are_killed("optimize", grow, |world| {
        world.cluster.begin(&["optimize", "s.streams", "--z-order", "movie_title,end_at", "--output", "json"])
    });
}

/// Kills an executor in every phase of a job, after what must be there for it.
fn executors_are_killed(kind: &str, prepare: impl Fn(&mut World), begin: impl Fn(&World) -> Client) {
    let Some(mut world) = World::new() else { return };
    prepare(&mut world);
    let client = begin(&world);
    let phases = world.phases(&world.submitted(kind, "s.streams", 0));
    client.finish().done();
    world.check();
    println!("undisturbed: {phases:?}");

    let mut hit = 0;
    for seed in seeds() {
        for (nth, phase) in phases.iter().enumerate() {
            prepare(&mut world);
            let known = world.cluster.jobs(kind, "s.streams").len();
            let client = begin(&world);
            let id = world.submitted(kind, "s.streams", known);
            let running = world.wait_for_phase(&id, phase, share(seed * 31 + nth as u64));
            let place = (seed as usize + nth) % world.cluster.executors();
            world.cluster.kill_executor(place);
            world.cluster.add_executor();
            let job = client.finish().done().json();
            println!("seed {seed}, {}: hit {running}, retries {}", phase.0, job["metrics"]["retries"]);
            hit += usize::from(running);
            assert_eq!(job["outcome"], "applied", "{job}");
            world.check();
        }
    }
    assert!(hit > 0, "nothing was running when its executor was killed: give TRIREME_TEST_SIZE");
}

#[test]
fn an_executor_is_killed_in_a_question_with_joins() {
    let Some(mut world) = World::new() else { return };
    let day = world.days[0].clone();
    for (table, flags) in [("movies", &MOVIES[..]), ("users", &USERS)] {
        let (source, table) = (format!("raw.{table}"), format!("s.{table}"));
        let file = text(&day.join(format!("{}.csv", &table[2..])));
        world.cluster.json(&["download", "--from", &file, "--to", &source]).done();
        world.cluster.json(&[&["load", "--table", &table, "--source", &source], flags].concat()).done();
    }
    let sql = world.cluster.folder().join("question.sql");
    fs::write(&sql, QUESTION).unwrap();
    let ask = |cluster: &Cluster| {
        cluster.begin(&["question", "--sql", sql.to_str().unwrap(), "--table", "q.answer", "--output", "json"])
    };
    let client = ask(&world.cluster);
    let phases = world.phases(&world.submitted("question", "q.answer", 0));
    let first = client.finish().done().json();
    world.python.check_question(&world.cluster.lake(), "q.answer", &sql);
    println!("an undisturbed question: {} rows, {phases:?}", first["answer_rows"]);
    // Scans, shuffles and writes are one phase: each third of it is hit.
    let quick = || ("query".to_string(), Duration::from_millis(first["duration_ms"].as_u64().unwrap()));
    let query = phases.into_iter().max_by_key(|(_, lasted)| *lasted).unwrap_or_else(quick);
    let thirds = 3;

    let mut hit = 0;
    for seed in seeds() {
        for third in 0..thirds {
            let known = world.cluster.jobs("question", "q.answer").len();
            let client = ask(&world.cluster);
            let id = world.submitted("question", "q.answer", known);
            let share = (share(seed * 31 + third) + third as f64) / thirds as f64;
            let running = world.wait_for_phase(&id, &query, share);
            let place = (seed + third) as usize % world.cluster.executors();
            world.cluster.kill_executor(place);
            world.cluster.add_executor();
            let job = client.finish().done().json();
            println!("seed {seed}, {} at {share:.2}: hit {running}, retries {}", query.0, job["metrics"]["retries"]);
            hit += usize::from(running);
            assert_eq!(job["answer_rows"], first["answer_rows"], "{job}");
            world.python.check_question(&world.cluster.lake(), "q.answer", &sql);
        }
    }
    assert!(hit > 0, "no question was running when its executor was killed: give TRIREME_TEST_SIZE");
}

#[test]
fn clients_and_the_scheduler_are_killed() {
    let Some(mut world) = World::new() else { return };
    // The same merge twice at once.
    world.deliver();
    let clients = [world.merge(), world.merge()];
    let phases = world.phases(&world.submitted("merge", "s.streams", 0));
    let jobs = clients.map(|client| client.finish().done().json());
    let mut outcomes = jobs.map(|job| job["outcome"].as_str().unwrap_or_default().to_string());
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["already applied", "applied"]);
    world.check();

    for seed in seeds() {
        let phase = &phases[seed as usize % phases.len()];

        // The client: the job goes on without it.
        world.deliver();
        let known = world.cluster.jobs("merge", "s.streams").len();
        let client = world.merge();
        let id = world.submitted("merge", "s.streams", known);
        world.wait_for_phase(&id, phase, share(seed));
        client.kill();
        let job = world.cluster.ended(&id);
        assert_eq!((&job["state"], &job["outcome"]), (&"succeeded".into(), &"applied".into()), "{job}");
        world.check();

        // The scheduler: the next one goes on, and the client finds it, whether it was told to stop or not.
        for signal in [libc::SIGKILL, libc::SIGTERM] {
            world.deliver();
            let known = world.cluster.jobs("merge", "s.streams").len();
            let client = world.merge();
            let id = world.submitted("merge", "s.streams", known);
            world.wait_for_phase(&id, phase, share(seed + 1000));
            world.cluster.scheduler().signal(signal);
            wait_for("the scheduler's end", || world.cluster.scheduler().ended());
            world.cluster.restart_scheduler();
            let job = client.finish().done().json();
            // It may have committed before it died: then the merge that is run again finds nothing to do.
            assert_eq!((&job["id"], &job["state"]), (&id.into(), &"succeeded".into()), "{job}");
            let rows = |name: &str| job["metrics"][name].as_u64().unwrap();
            assert_eq!(
                rows("rows_in"),
                rows("rows_inserted") + rows("rows_updated"),
                "what was counted before the end is not added: {job}"
            );
            world.check();
        }
    }
}

#[test]
fn a_job_is_cancelled() {
    let Some(mut world) = World::new() else { return };
    let before = world.cluster.state();
    world.deliver();
    let sources =
        |state: &[String]| state.iter().filter(|line| !line.contains("raw.streams")).cloned().collect::<Vec<_>>();
    let running = |world: &World, known: usize| {
        let client = world.merge();
        let id = world.submitted("merge", "s.streams", known);
        wait_for("tasks", || (!world.cluster.job(&id)["stages"].as_array()?.is_empty()).then_some(()));
        (client, id)
    };
    let (client, id) = running(&world, 0);
    let job = world.cluster.json(&["jobs", "cancel", &id]).done().json();
    assert_eq!(job["state"], "cancelled", "{job}");
    let output = client.finish();
    assert_eq!(output.code, Some(1), "{output}");
    assert_eq!(output.json()["error"]["code"], "cancelled", "{output}");

    // Ctrl-C at the client does the same.
    let (client, id) = running(&world, 1);
    client.signal(libc::SIGINT);
    let output = client.finish();
    assert_eq!(output.code, Some(130), "{output}");
    assert_eq!(world.cluster.ended(&id)["state"], "cancelled");
    assert_eq!(sources(&world.cluster.state()), sources(&before), "a cancelled merge changes nothing");

    // All slots are free again, and the same delivery can be merged.
    world.merge().finish().done();
    world.check();
}

#[test]
fn the_scheduler_is_killed_in_a_pipeline() {
    let Some(python) = Python::find() else { return };
    let mut cluster = Cluster::start(Options::default());
    let days = data::generate(cluster.folder(), data::size(8_000_000), 1 + seeds().end, Layout::Ndjson);
    let project = Project::new(&cluster.folder().join("project"), &days[0]);
    let started = Instant::now();
    cluster.json(&["run", &project.pipeline()]).done();
    let undisturbed = started.elapsed();
    for seed in seeds() {
        let delivered = seed as usize + 2;
        project.deliver(&days[delivered - 1]);
        let client = cluster.begin(&["run", &project.pipeline(), "--output", "json"]);
        sleep(undisturbed.mul_f64(0.1 + 0.8 * share(seed)));
        cluster.kill_scheduler();
        cluster.restart_scheduler();
        let output = client.finish();
        if output.stdout.contains("unreachable") && !output.stdout.contains("pipeline") {
            // It was killed before it had taken the job: then nothing of it is left, and the user runs it again.
            println!("seed {seed}: not taken");
            assert_eq!(output.code, Some(69), "{output}");
            cluster.json(&["run", &project.pipeline()]).done();
        } else {
            let run = output.done().json();
            println!("seed {seed}: {}", run["duration_ms"]);
            assert_answers(&run, &python.answers(&days[..delivered]));
        }
        python.check_tables(&cluster.lake(), &days[..delivered], &[]);
    }
}

/// A frozen executor is silent like a dead one, but comes back with work in its hands that others have done meanwhile.
#[test]
fn an_executor_freezes_and_comes_back() {
    let Some(mut world) = World::new() else { return };
    world.deliver();
    let client = world.merge();
    let id = world.submitted("merge", "s.streams", 0);
    wait_for("tasks", || (!world.cluster.job(&id)["stages"].as_array()?.is_empty()).then_some(()));
    world.cluster.executor(0).signal(libc::SIGSTOP);
    world.cluster.add_executor();
    client.finish().done();
    world.check();
    world.cluster.executor(0).signal(libc::SIGCONT);
    world.deliver();
    world.merge().finish().done();
    world.check();
}

/// What a machine's suspension or a long stall does to a cluster: it must not need a hand to go on.
#[test]
fn executors_that_were_silent_join_again() {
    let Some(mut world) = World::new() else { return };
    world.deliver();
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        for place in 0..world.cluster.executors() {
            world.cluster.executor(place).signal(signal);
        }
        if signal == libc::SIGSTOP {
            // Longer than the executor timeout of these clusters.
            sleep(Duration::from_secs(6));
        }
    }
    world.merge().finish().done();
    world.check();
}

#[test]
fn no_executor_is_left() {
    let Some(mut world) = World::new() else { return };
    world.deliver();
    let client = world.merge();
    let id = world.submitted("merge", "s.streams", 0);
    wait_for("tasks", || (!world.cluster.job(&id)["stages"].as_array()?.is_empty()).then_some(()));
    while world.cluster.executors() > 0 {
        world.cluster.kill_executor(0);
    }
    let output = client.finish();
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stdout.contains("no-executors"), "{output}");
    // The delivery is merged once there are executors again.
    world.cluster.add_executor();
    world.merge().finish().done();
    world.check();
}

#[test]
fn an_embedded_client_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let lake = folder.path().join("lake");
    // Enough for a second of work.
    let days = data::generate(folder.path(), 40_000_000, 1, Layout::Ndjson);
    let project = Project::new(&folder.path().join("project"), &days[0]);
    let run = || Client::start(embedded(&lake, 2, &["run", &project.pipeline(), "--output", "json"]));
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGTERM] {
        let client = run();
        let children = wait_for("the scheduler and two executors at work", || {
            let children = descendants(client.id());
            // Something was downloaded since the last client was killed, or it is at work on what was.
            (children.len() >= 3 && lake.join("raw").is_dir()).then_some(children)
        });
        sleep(Duration::from_millis(100));
        client.signal(signal);
        let output = client.finish();
        let code = match signal {
            libc::SIGKILL => None,
            libc::SIGINT => Some(130),
            _ => Some(143),
        };
        assert_eq!(output.code, code, "{output}");
        wait_for_end_of(&children);
    }
    let run = run().finish().done().json();
    assert_eq!(run["state"], "succeeded", "{run}");
    if let Some(python) = Python::find() {
        python.check_tables(&lake, &days, &[]);
    }
}
