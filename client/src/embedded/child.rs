//! One child process, its log, and its end.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::{
    error::{Error, Exit, Result},
    output::printable,
};

/// Lines of a log that are shown when its child has died.
const TAIL_LINES: usize = 20;

/// A child that is killed when it is dropped, and when this process dies.
pub(super) struct Child {
    name: String,
    log: PathBuf,
    process: tokio::process::Child,
}

/// An end that nobody asked for.
pub(super) struct Death {
    pub error: Error,
    /// Somebody else has one of its ports: another try with other ports may help.
    pub port_taken: bool,
}

impl Child {
    /// Starts a binary with flags; its stdout and stderr go to the log.
    pub fn start(binary: &Path, flags: &[(&str, &str)], log: PathBuf) -> Result<Self> {
        let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |error: io::Error| {
            let error = Error::new("start-failed", format!("can't start {}: {error}", binary.display()));
            error.hint("embedded mode needs trireme-scheduler and trireme-executor in the folder of trireme")
        };
        let file = File::create(&log).map_err(failed)?;
        let mut command = Command::new(binary);
        command
            .args(flags.iter().flat_map(|(flag, value)| [flag, value]))
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true);
        die_with_this_process(&mut command);
        let process = command.spawn().map_err(failed)?;
        Ok(Self { name, log, process })
    }

    /// What it died of, if it has.
    pub fn death(&mut self) -> Option<Death> {
        match self.process.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(self.died(status)),
            Err(error) => Some(self.lost(&error)),
        }
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Death {
        match self.process.wait().await {
            Ok(status) => self.died(status),
            Err(error) => self.lost(&error),
        }
    }

    /// Asks all to stop and waits for them, `grace` at most.
    pub async fn stop_all(children: &mut [Child], grace: Duration) {
        for child in children.iter_mut() {
            child.terminate();
        }
        let all = async {
            for child in children {
                child.process.wait().await.ok();
            }
        };
        timeout(grace, all).await.ok();
    }

    fn terminate(&self) {
        // No id means that it has ended and was waited for: the number may be another process's by now.
        if let Some(id) = self.process.id().and_then(|id| libc::pid_t::try_from(id).ok()) {
            // SAFETY: sends a signal to a child that has not been waited for; no memory is involved.
            unsafe { libc::kill(id, libc::SIGTERM) };
        }
    }

    /// Ends it now; nothing if it has ended.
    pub async fn kill(&mut self) {
        self.process.kill().await.ok();
    }

    /// The log's last lines under the child's name.
    pub fn describe_log(&self) -> String {
        let tail = self.tail();
        if tail.is_empty() {
            format!("{} has logged nothing", self.name)
        } else {
            format!("{}'s log ends:\n{tail}", self.name)
        }
    }

    fn died(&self, status: ExitStatus) -> Death {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let port_taken =
            ["Address already in use", "address in use", "AddrInUse"].iter().any(|text| log.contains(text));
        let refused = status.code() == Some(Exit::Usage as i32) && !port_taken;
        let code = if refused { "invalid-spec" } else { "start-failed" };
        let error = Error::new(code, format!("{} ended by itself ({status})\n{}", self.name, self.describe_log()));
        Death { error, port_taken }
    }

    fn lost(&self, error: &io::Error) -> Death {
        Death { error: Error::new("start-failed", format!("lost {}: {error}", self.name)), port_taken: false }
    }

    fn tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().map(|line| format!("  {}", printable(line))).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// Has the kernel kill the child when the thread that starts it ends, which is the main thread (see `PR_SET_PDEATHSIG` in prctl(2)).
/// SIGKILL, for nobody is left to insist when SIGTERM takes too long.
#[cfg(target_os = "linux")]
fn die_with_this_process(command: &mut Command) {
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: two system calls that are safe between fork and exec; no memory is involved.
        let (asked, parent_now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if asked != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the kernel was asked: then nobody would ever tell.
        if u32::try_from(parent_now) != Ok(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing, takes no lock, and calls only what is safe after fork (signal-safety(7)).
    unsafe { command.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_this_process(_: &mut Command) {}
