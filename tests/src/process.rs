//! Child processes that can't outlive the test, whatever happens to it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::{repository, wait_for};

/// A binary of Trireme.
///
/// # Panics
/// If it was not built.
pub fn binary(name: &str) -> PathBuf {
    let folder = match std::env::var_os("TRIREME_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        // target/debug/deps/a_test
        None => std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf(),
    };
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not there: run `cargo build --workspace` first", path.display());
    path
}

/// A command of this repository's, with an environment that the tester's settings are kept out of.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("TRIREME_") || name_text.starts_with("AWS_") || name_text.ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    command.current_dir(repository()).stdin(Stdio::null());
    command
}

/// Makes the kernel kill the child when the thread that started it ends, so that nothing survives a test that is killed itself.
pub fn bind_to_this_thread(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: prctl, getppid and _exit are async-signal-safe, and nothing else runs between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if u32::try_from(libc::getppid()).ok() != Some(parent) {
                libc::_exit(1);
            }
            Ok(())
        });
    }
}

/// A process with its log.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a command, both of its streams going to the end of `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        bind_to_this_thread(&mut command);
        let child = command.spawn().unwrap_or_else(|error| panic!("can't start {name}: {error}"));
        Self { child, name: name.to_string(), log: log.to_path_buf() }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_for(&what, || self.ended())
    }

    /// Sends a signal, such as [`libc::SIGSTOP`].
    pub fn signal(&self, signal: i32) {
        send(self.id(), signal);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of its log, for a test that fails.
    pub fn tell(&mut self) {
        let state = match self.ended() {
            None => "runs".to_string(),
            Some(status) => match status.signal() {
                Some(signal) => format!("ended by signal {signal}"),
                None => format!("ended with {}", status.code().unwrap_or(-1)),
            },
        };
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(60)..];
        eprintln!("---- {} ({state}), last {} of {} lines\n{}", self.name, shown.len(), lines.len(), shown.join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process of ours.
pub fn send(process: u32, signal: i32) {
    let process = i32::try_from(process).unwrap();
    // SAFETY: a plain system call; ids come from children that are not reaped yet.
    unsafe { libc::kill(process, signal) };
}

/// Ids of the processes below one, as /proc has them now.
pub fn descendants(process: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // `id (name) state parent …`, where the name may hold anything.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (id, parent)));
    }
    let mut found = vec![process];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        at += 1;
    }
    found.split_off(1)
}

/// Whether a process is there and no zombie.
pub fn lives(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(')').map(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
        .unwrap_or(false)
}

/// A free port, outside of the range from which the kernel takes those of outgoing connections.
pub fn free_port() -> u16 {
    // Tests run side by side: each starts to look at another place.
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut at = nanos ^ std::process::id().wrapping_mul(2_654_435_761);
    for _ in 0..2_000 {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = 20_000 + u16::try_from((at >> 8) % 12_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port")
}
