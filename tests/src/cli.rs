//! The client, run as a user runs it.

use std::fmt;
use std::io::{BufRead, BufReader, Lines, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::process::{bind_to_this_thread, send};
use crate::{deadline, wait_for};

/// What a command printed, and how it ended.
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Progress and errors.
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "$ {command}\nexit {code:?}\n-- stdout\n{stdout}\n-- stderr\n{stderr}")
    }
}

impl Output {
    /// This output, after a check that the command was done.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// This output, after a check that the command ended with this code, said what is wrong and what to do, and nothing of its insides.
    #[track_caller]
    pub fn failed(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        let said = format!("{}\n{}", self.stdout, self.stderr);
        let hint = ["hint: ", "\"hint\":\"", "such as", "not one of"].iter().any(|hint| said.contains(hint));
        assert!(hint, "it does not say what to do\n{self}");
        for text in texts {
            assert!(said.contains(text), "it does not say `{text}`\n{self}");
        }
        for leak in ["panicked at", "External error", "DataFusionError", "External(", "⟦", "Box<dyn", "acktrace"] {
            assert!(!said.contains(leak), "it lets `{leak}` through\n{self}");
        }
        self
    }

    /// The same for a command line that can't be read, which is told how it should look.
    #[track_caller]
    pub fn failed_usage(self, texts: &[&str]) {
        assert_eq!(self.code, Some(64), "{self}");
        for text in texts.iter().chain([&"--help"]) {
            assert!(self.stderr.contains(text), "it does not say `{text}`\n{self}");
        }
    }

    /// Stdout as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("stdout is not one document: {error}\n{self}"))
    }

    /// Stdout as JSON, one document a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON: {line}: {error}\n{self}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// Checks that all run before the first that fails fails the test.
#[derive(Default)]
pub struct Checks {
    failed: std::cell::RefCell<Vec<String>>,
}

impl Checks {
    /// Runs a check.
    pub fn run(&self, check: impl FnOnce()) {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            self.failed.borrow_mut().push(text.unwrap_or_default());
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        let failed = self.failed.borrow();
        assert!(
            failed.is_empty() || std::thread::panicking(),
            "{} checks failed:\n\n{}",
            failed.len(),
            failed.join("\n\n")
        );
    }
}

/// A client that runs.
pub struct Client {
    child: Child,
    command: String,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<JoinHandle<String>>,
}

impl Client {
    /// Starts a client.
    pub fn start(mut command: Command) -> Self {
        let text = std::iter::once(command.get_program()).chain(command.get_args());
        let text = text.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" ");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        bind_to_this_thread(&mut command);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("can't start {text}: {error}"));
        // Both streams must be read side by side, or a full pipe would hold up the client.
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, command: text, stdout, stderr: Some(stderr) }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        send(self.id(), signal);
    }

    /// Its stdout, line by line, as it comes. [`Client::finish`] then has only the rest.
    pub fn lines(&mut self) -> Lines<&mut BufReader<ChildStdout>> {
        self.stdout.as_mut().unwrap().lines()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Output {
        let mut stdout = self.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stdout.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let started = std::time::Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if started.elapsed() > deadline() {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break None;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        let stderr = self.stderr.take().unwrap();
        let output = Output {
            command: self.command.clone(),
            code: status.and_then(|status| status.code()),
            stdout: reader.join().unwrap(),
            stderr: stderr.join().unwrap(),
        };
        assert!(status.is_some(), "the client did not end in {} s\n{output}", deadline().as_secs());
        output
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until none of these processes is left.
pub fn wait_for_end_of(processes: &[u32]) {
    let what = format!("the end of processes {processes:?}");
    wait_for(&what, || (!processes.iter().any(|process| crate::process::lives(*process))).then_some(()));
}
