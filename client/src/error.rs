//! The one error of the client: a stable code, what was found and where, the way out, and the exit code it ends the program with.

use std::process::ExitCode;

use tonic::{Code as GrpcCode, Status};
use trireme_proto::v1;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How the program ends. The numbers are part of the public contract: scripts match on them (`sysexits.h` for 64 and 69).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done = 0,
    /// A job or a request failed.
    Failed = 1,
    /// Wrong usage: flags, settings, the pipeline file, SQL.
    Usage = 64,
    /// There is no scheduler to talk to.
    Unreachable = 69,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM; jobs are left to the scheduler.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What was found, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Stable, kebab-case: the scheduler's own (`duplicate-key`, `table-not-found` …), and the client's `invalid-spec`, `usage`,
    /// `unreachable`, `start-failed`, `interrupted`, `terminated`.
    pub code: String,
    /// What was found and where (file, line, column, table); lower-case, no full stop.
    pub message: String,
    /// What to do; empty when there is nothing to suggest.
    pub hint: String,
}

const OPEN: &str = "⟦";
const MIDDLE: &str = "¦hint: ";
const CLOSE: &str = "⟧";

impl Error {
    /// An error with no hint.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: String::new() }
    }

    /// A name, a file, a flag's value or a pipeline file that is not well formed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid-spec", message)
    }

    /// Nobody answers.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new("unreachable", message)
    }

    /// Ctrl-C.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new("interrupted", message)
    }

    /// The same error with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self.code.as_str() {
            "usage" | "invalid-spec" | "invalid-sql" | "origin-refused" | "unauthenticated" => Exit::Usage,
            "unreachable" | "start-failed" => Exit::Unreachable,
            "interrupted" => Exit::Interrupted,
            "terminated" => Exit::Terminated,
            _ => Exit::Failed,
        }
    }

    /// The scheduler's error in a status message; it is written `⟦code message¦hint: hint⟧` (engine/src/error.rs).
    pub fn find_in(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(OPEN)?;
        let (body, _) = rest.split_once(CLOSE)?;
        let (code, rest) = body.split_once(' ')?;
        let (message, hint) = rest.split_once(MIDDLE).unwrap_or((rest, ""));
        Some(Self::new(code, message).hint(hint))
    }

    /// The error that a call to the scheduler at `url` ended with.
    pub fn from_status(status: &Status, url: &str) -> Self {
        if let Some(error) = Self::find_in(status.message()) {
            return error;
        }
        if is_transport(status) {
            return Self::unreachable(format!("can't reach the scheduler at {url}: {}", innermost(status)))
                .hint("start a scheduler, name another with --scheduler URL (or TRIREME_URL), or use --embedded");
        }
        let message = format!("the scheduler at {url} says: {}", said(status));
        match status.code() {
            GrpcCode::InvalidArgument => Self::invalid(message),
            GrpcCode::Unauthenticated => {
                Self::new("unauthenticated", message).hint("set TRIREME_API_TOKEN or TRIREME_API_TOKEN_FILE")
            }
            GrpcCode::NotFound => Self::new("not-found", message),
            GrpcCode::Unimplemented => Self::new("unimplemented", message)
                .hint("the scheduler and this client are of different versions, or this is not a Trireme scheduler"),
            _ => Self::new("internal", message),
        }
    }

    /// The error that a job ended with, if it did.
    pub fn of_job(job: &v1::Job) -> Option<Self> {
        let error = job.error.as_ref()?;
        // An error that crossed an executor may still be wrapped.
        Some(Self::find_in(&error.message).unwrap_or_else(|| Self::new(&error.code, &error.message).hint(&error.hint)))
    }
}

/// Whether a call failed because the connection did, not because the scheduler said so.
pub(crate) fn is_transport(status: &Status) -> bool {
    // Only a status made on this side of the wire has a source.
    std::error::Error::source(status).is_some()
        || matches!(status.code(), GrpcCode::Unavailable | GrpcCode::DeadlineExceeded)
}

fn said(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_string(),
        message => message.to_string(),
    }
}

/// The first cause, which says more than the layers around it ("transport error").
fn innermost(status: &Status) -> String {
    let mut text = said(status);
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_schedulers_error_is_found_in_a_status() {
        let status =
            Status::failed_precondition("⟦null-key 3 rows have a null key¦hint: add `where: name IS NOT NULL`⟧");
        let error = Error::from_status(&status, "http://x");
        assert_eq!(error, Error::new("null-key", "3 rows have a null key").hint("add `where: name IS NOT NULL`"));
        assert_eq!(Error::find_in("x ⟦conflict again⟧ y"), Some(Error::new("conflict", "again")));
        for not_ours in ["", "nothing", "⟦code", "⟦code⟧", "⟧⟦"] {
            assert_eq!(Error::find_in(not_ours), None, "{not_ours}");
        }
    }

    #[test]
    fn a_code_decides_the_exit() {
        let exits = [
            ("invalid-spec", 64),
            ("invalid-sql", 64),
            ("origin-refused", 64),
            ("unauthenticated", 64),
            ("usage", 64),
            ("unreachable", 69),
            ("start-failed", 69),
            ("interrupted", 130),
            ("terminated", 143),
            ("duplicate-key", 1),
            ("table-not-found", 1),
            ("no-executors", 1),
            ("a code of a later version", 1),
        ];
        for (code, exit) in exits {
            assert_eq!(Error::new(code, "").exit() as u8, exit, "{code}");
        }
    }

    #[test]
    fn a_status_that_is_not_ours_still_says_something() {
        let at = |status: Status| Error::from_status(&status, "http://x");
        assert_eq!(at(Status::invalid_argument("no spec")).exit(), Exit::Usage);
        assert_eq!(at(Status::unauthenticated("")).exit(), Exit::Usage);
        assert_eq!(at(Status::unavailable("draining")).exit(), Exit::Unreachable);
        assert_eq!(at(Status::unimplemented("")).exit(), Exit::Failed);
        let broken = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        let error = at(broken);
        assert_eq!(error.exit(), Exit::Unreachable);
        assert_eq!(error.message, "can't reach the scheduler at http://x: reset by peer");
    }

    proptest! {
        #[test]
        fn what_the_scheduler_writes_is_read_back(code in "[a-z]{1,9}(-[a-z]{1,9})?", message in "[^⟦⟧¦]{0,40}", hint in "[^⟦⟧¦]{0,40}", around in "[^⟦⟧]{0,9}") {
            let tail = if hint.is_empty() { String::new() } else { format!("{MIDDLE}{hint}") };
            let text = format!("{around}{OPEN}{code} {message}{tail}{CLOSE}{around}");
            prop_assert_eq!(Error::find_in(&text), Some(Error::new(code, message).hint(hint)));
        }
    }
}
