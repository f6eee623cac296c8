//! Embedded mode with stand-ins for the scheduler and the executors: shell scripts that note how they were started, and the test serves on
//! the port that the scheduler was given.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use tempfile::TempDir;
use trireme_proto::v1::JobState;

use crate::{
    command, run,
    scheduler::{End, Scheduler, Script, Watching, job, job_that},
    signal, until, wait,
};

/// Notes arguments and process id, and runs until it is told to stop.
const OBEDIENT: &str = "exec sleep 600";
/// Does not care for SIGTERM.
const STUBBORN: &str = "trap '' TERM\nwhile :; do sleep 0.1; done";

/// A folder with a copy of the client and its siblings.
struct Installation {
    folder: TempDir,
}

impl Installation {
    fn new(scheduler: &str, executor: &str) -> Self {
        let installation = Self { folder: tempfile::tempdir().unwrap() };
        let client = installation.path("trireme");
        if fs::hard_link(env!("CARGO_BIN_EXE_trireme"), &client).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_trireme"), &client).unwrap();
        }
        fs::create_dir(installation.path("tmp")).unwrap();
        installation.script("trireme-scheduler", scheduler);
        installation.script("trireme-executor", executor);
        installation
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, body: &str) {
        let folder = self.folder.path().display();
        // Written under another name first: a note is whole or not there.
        let text = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" > {folder}/note.$$\nmv {folder}/note.$$ {folder}/{name}.$$\necho {name} has started\n{body}\n"
        );
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn trireme(&self, words: &[&str]) -> Command {
        let mut command = command(self.path("trireme").to_str().unwrap(), words);
        command.arg("--embedded").current_dir(self.folder.path()).env("TMPDIR", self.path("tmp"));
        command
    }

    /// Process ids and arguments of the stand-ins that were started under this name.
    fn started(&self, name: &str) -> Vec<(u32, Vec<String>)> {
        let prefix = format!("{name}.");
        let entries = fs::read_dir(self.folder.path()).unwrap().flatten();
        let mut started: Vec<_> = entries
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
                Some((id, fs::read_to_string(entry.path()).unwrap().lines().map(String::from).collect()))
            })
            .collect();
        started.sort();
        started
    }

    /// Waits for the stand-in scheduler and serves in its place.
    fn serve(&self, script: Script) -> Scheduler {
        let arguments = until("the scheduler is started", || self.started("trireme-scheduler").pop()).1;
        let port: u16 = flag(&arguments, "--api-port").parse().unwrap();
        Scheduler::start_at(([127, 0, 0, 1], port).into(), script)
    }

    /// Process ids of all stand-ins, once there are one scheduler and this many executors.
    fn ids(&self, executors: usize) -> Vec<u32> {
        let count = |name: &str| self.started(name).len();
        until("all are started", || {
            (count("trireme-scheduler") == 1 && count("trireme-executor") == executors).then_some(())
        });
        ["trireme-scheduler", "trireme-executor"].iter().flat_map(|name| self.started(name)).map(|(id, _)| id).collect()
    }

    fn scratch_is_empty(&self) -> bool {
        fs::read_dir(self.path("tmp")).unwrap().next().is_none()
    }
}

fn flag<'a>(arguments: &'a [String], name: &str) -> &'a str {
    let index =
        arguments.iter().position(|argument| argument == name).unwrap_or_else(|| panic!("no {name}: {arguments:?}"));
    &arguments[index + 1]
}

/// Whether a process is there and no zombie: those of a killed parent may stay one where nobody adopts them.
fn lives(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

fn all_end(ids: &[u32]) {
    assert!(!ids.is_empty());
    for id in ids {
        until("a child ends", || (!lives(*id)).then_some(()));
    }
}

const MERGE: [&str; 7] = ["merge", "--table", "a.t", "--source", "a.s", "--pk", "id"];

/// A client that watches a job that never ends, its children, and the scheduler.
fn busy(installation: &Installation) -> (Child, Vec<u32>, Scheduler) {
    let child = installation.trireme(&MERGE).spawn().unwrap();
    let script = job_that(vec![]);
    *script.watchings.lock().unwrap() =
        [Watching { jobs: vec![job("job-1", "merge", "a.t", JobState::Running)], end: End::Hang }].into();
    let scheduler = installation.serve(script);
    until("the job is watched", || (!scheduler.script.watched.lock().unwrap().is_empty()).then_some(()));
    let ids = installation.ids(2);
    assert!(ids.iter().all(|id| lives(*id)), "they run while the job does");
    (child, ids, scheduler)
}

#[test]
fn children_are_started_as_told_and_end_with_the_command() {
    let installation = Installation::new(OBEDIENT, OBEDIENT);
    let words =
        ["tables", "list", "--executors", "3", "--vcores", "2", "--memory-pool-size", "64MB", "--storage", "my lake"];
    let child = installation.trireme(&words).spawn().unwrap();
    let _scheduler = installation.serve(Script::default());
    let ended = wait(child);
    assert!(ended.exit == Some(0) && ended.out.contains("a.known"), "{ended:?}");
    all_end(&installation.ids(3));
    assert!(installation.scratch_is_empty());

    let storage = format!("file://{}/my%20lake/", installation.folder.path().display());
    let (_, scheduler) = &installation.started("trireme-scheduler")[0];
    for (name, value) in [
        ("--bind-host", "127.0.0.1"),
        ("--external-host", "127.0.0.1"),
        ("--storage", &storage),
        ("--min-executors", "3"),
        ("--allowed-origins", "*"),
    ] {
        assert_eq!(flag(scheduler, name), value, "{name}");
    }
    let mut ports = vec![flag(scheduler, "--api-port").to_string(), flag(scheduler, "--ballista-port").to_string()];
    let address = format!("127.0.0.1:{}", flag(scheduler, "--ballista-port"));
    for (_, executor) in installation.started("trireme-executor") {
        for (name, value) in [
            ("--scheduler", address.as_str()),
            ("--bind-host", "127.0.0.1"),
            ("--external-host", "127.0.0.1"),
            ("--vcores", "2"),
            ("--memory-pool-size", "64MB"),
            ("--storage", &storage),
        ] {
            assert_eq!(flag(&executor, name), value, "{name}");
        }
        assert!(Path::new(flag(&executor, "--work-dir")).starts_with(installation.path("tmp")));
        ports.extend([flag(&executor, "--port").to_string(), flag(&executor, "--grpc-port").to_string()]);
    }
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 8, "all ports are different");
}

#[test]
fn ctrl_c_cancels_the_job_and_takes_the_children_down() {
    let installation = Installation::new(OBEDIENT, OBEDIENT);
    let (child, ids, scheduler) = busy(&installation);
    signal(&child, libc::SIGINT);
    let ended = wait(child);
    assert_eq!(ended.exit, Some(130), "{ended:?}");
    assert_eq!(*scheduler.script.cancelled.lock().unwrap(), ["job-1"]);
    all_end(&ids);
    assert!(installation.scratch_is_empty());
}

#[test]
fn ctrl_c_during_the_start_takes_the_children_down() {
    let installation = Installation::new(OBEDIENT, OBEDIENT);
    let child = installation.trireme(&MERGE).spawn().unwrap();
    let ids = installation.ids(0);
    signal(&child, libc::SIGINT);
    let ended = wait(child);
    assert_eq!(ended.exit, Some(130), "{ended:?}");
    all_end(&ids);
    assert!(installation.scratch_is_empty());
}

#[test]
fn a_terminated_client_takes_the_children_down() {
    let installation = Installation::new(OBEDIENT, OBEDIENT);
    let (child, ids, scheduler) = busy(&installation);
    signal(&child, libc::SIGTERM);
    let ended = wait(child);
    assert_eq!(ended.exit, Some(143), "{ended:?}");
    assert!(scheduler.script.cancelled.lock().unwrap().is_empty());
    all_end(&ids);
}

#[test]
fn a_killed_client_takes_the_children_along_even_stubborn_ones() {
    let installation = Installation::new(STUBBORN, STUBBORN);
    let (child, ids, _scheduler) = busy(&installation);
    signal(&child, libc::SIGKILL);
    wait(child);
    all_end(&ids);
    assert!(!installation.scratch_is_empty(), "it had no time to clean up");

    // The next one does it, whatever becomes of itself.
    fs::remove_file(installation.path("trireme-scheduler")).unwrap();
    let ended = run(&mut installation.trireme(&["tables", "list"]));
    assert!(ended.exit == Some(69) && installation.scratch_is_empty(), "{ended:?}");
}

#[test]
fn stubborn_children_are_killed() {
    let installation = Installation::new(STUBBORN, STUBBORN);
    let child = installation.trireme(&["tables", "list"]).spawn().unwrap();
    let _scheduler = installation.serve(Script::default());
    let ended = wait(child);
    assert_eq!(ended.exit, Some(0), "{ended:?}");
    all_end(&installation.ids(2));
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_stubborn_children() {
    let installation = Installation::new(STUBBORN, STUBBORN);
    let (mut child, ids, scheduler) = busy(&installation);
    signal(&child, libc::SIGINT);
    until("the job is cancelled", || (!scheduler.script.cancelled.lock().unwrap().is_empty()).then_some(()));
    until("the client ends", || {
        signal(&child, libc::SIGINT);
        child.try_wait().unwrap()
    });
    all_end(&ids);
}

#[test]
fn a_child_that_dies_at_the_start_shows_its_log() {
    for (body, exit) in [("echo wrong: --storage is no URL >&2\nexit 64", 64), ("echo out of luck >&2\nexit 1", 69)] {
        let installation = Installation::new(body, OBEDIENT);
        let ended = run(&mut installation.trireme(&["tables", "list"]));
        assert_eq!(ended.exit, Some(exit), "{ended:?}");
        assert!(ended.err.contains("error: trireme-scheduler ended by itself"), "{ended:?}");
        assert!(ended.err.contains("  trireme-scheduler has started\n  "), "{ended:?}");
        assert_eq!(installation.started("trireme-scheduler").len(), 1);
        assert!(installation.scratch_is_empty());
    }
}

#[test]
fn an_executor_that_dies_at_the_start_takes_the_scheduler_along() {
    let installation = Installation::new(OBEDIENT, "echo no memory >&2\nexit 3");
    let child = installation.trireme(&["tables", "list", "--executors", "1"]).spawn().unwrap();
    let script = Script::default();
    *script.executors.lock().unwrap() = false;
    let _scheduler = installation.serve(script);
    let ended = wait(child);
    assert!(ended.exit == Some(69) && ended.err.contains("  no memory\n"), "{ended:?}");
    all_end(&installation.ids(1));
}

#[test]
fn a_taken_port_is_tried_again_elsewhere_three_times() {
    let installation = Installation::new("echo Error: Address already in use >&2\nexit 69", OBEDIENT);
    let ended = run(&mut installation.trireme(&["tables", "list"]));
    assert!(ended.exit == Some(69) && ended.err.contains("Address already in use"), "{ended:?}");
    let started = installation.started("trireme-scheduler");
    assert_eq!(started.len(), 3);
}

#[test]
fn a_scheduler_that_dies_ends_the_command() {
    let installation = Installation::new(OBEDIENT, OBEDIENT);
    let (child, ids, _scheduler) = busy(&installation);
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::kill(ids[0] as i32, libc::SIGKILL) }, 0);
    let ended = wait(child);
    assert!(ended.exit == Some(69) && ended.err.contains("trireme-scheduler ended by itself (signal: 9"), "{ended:?}");
    all_end(&ids);
}

#[test]
fn missing_siblings_are_named() {
    let installation = Installation::new(OBEDIENT, OBEDIENT);
    fs::remove_file(installation.path("trireme-scheduler")).unwrap();
    let ended = run(&mut installation.trireme(&["tables", "list"]));
    assert!(ended.exit == Some(69) && ended.err.contains("error: can't start "), "{ended:?}");
    assert!(ended.err.contains("trireme-scheduler"), "{ended:?}");
}
