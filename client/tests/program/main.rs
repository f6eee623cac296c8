//! The `trireme` command as a process of its own, against a scheduler made for the test.

// clippy.toml allows these in test functions, not in what they share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod embedded;
mod jobs;
mod look;
mod scheduler;
mod signals;
mod usage;

use std::{
    io::Read,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Nothing here takes this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// The command with these words, and nothing of the tester's own settings.
fn trireme(words: &[&str]) -> Command {
    command(env!("CARGO_BIN_EXE_trireme"), words)
}

fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRIREME_")) {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
fn run(command: &mut Command) -> Ended {
    Ended::new(command.output().unwrap())
}

/// How a command ended and what it said.
#[derive(Debug)]
struct Ended {
    exit: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        Self {
            exit: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Stdout as one JSON document.
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Waits for a child's end, or kills it and fails.
fn wait(mut child: Child) -> Ended {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let status = until("the command ends", || child.try_wait().unwrap());
    let mut ended = Ended { exit: status.code(), out: String::new(), err: String::new() };
    if let Some(pipe) = &mut out {
        pipe.read_to_string(&mut ended.out).unwrap();
    }
    if let Some(pipe) = &mut err {
        pipe.read_to_string(&mut ended.err).unwrap();
    }
    ended
}

/// Asks again and again until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal.
fn signal(child: &Child, signal: i32) {
    // SAFETY: no memory is involved; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}
