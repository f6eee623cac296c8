//! The one error of Trireme's server side: a stable code, what was found and where, and the way out.

use std::fmt;

use datafusion::error::DataFusionError;
use tonic::{Code as GrpcCode, Status};

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal => $grpc:ident,)*) => {
        /// What kind of thing went wrong. The text form is part of the public contract: scripts match on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// The stable text form, kebab-case.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// The code with this text form.
            pub fn parse(text: &str) -> Option<Code> {
                match text { $($text => Some(Code::$variant),)* _ => None }
            }

            /// The gRPC status code that carries it.
            pub fn grpc(self) -> GrpcCode {
                match self { $(Code::$variant => GrpcCode::$grpc,)* }
            }
        }
    };
}

codes! {
    /// A spec, a name or a URL is not well formed.
    InvalidSpec = "invalid-spec" => InvalidArgument,
    /// SQL does not parse, or names what does not exist.
    InvalidSql = "invalid-sql" => InvalidArgument,
    /// Downloads may not read from this URL (a scheduler setting).
    OriginRefused = "origin-refused" => PermissionDenied,
    /// A download's origin could not be read, whole.
    DownloadFailed = "download-failed" => Unavailable,
    /// No such source in the raw zone.
    SourceNotFound = "source-not-found" => NotFound,
    /// No such version of a source.
    VersionNotFound = "version-not-found" => NotFound,
    /// No such table in the catalog.
    TableNotFound = "table-not-found" => NotFound,
    /// No such job.
    JobNotFound = "job-not-found" => NotFound,
    /// A raw record does not parse.
    BadRecord = "bad-record" => FailedPrecondition,
    /// A raw file has no record at all.
    EmptySource = "empty-source" => FailedPrecondition,
    /// A value can't be cast to what an expression asks for.
    BadValue = "bad-value" => FailedPrecondition,
    /// Rows fail an expectation.
    ExpectationFailed = "expectation-failed" => FailedPrecondition,
    /// More records are bad than a table's spec allows.
    TooManyBadRecords = "too-many-bad-records" => FailedPrecondition,
    /// Several rows of one delivery have the same primary key.
    DuplicateKey = "duplicate-key" => FailedPrecondition,
    /// A row's primary key is null.
    NullKey = "null-key" => FailedPrecondition,
    /// The columns are not the table's.
    SchemaMismatch = "schema-mismatch" => FailedPrecondition,
    /// The table uses a Delta feature that is refused.
    UnsupportedTable = "unsupported-table" => FailedPrecondition,
    /// Another writer changed the table, again and again.
    Conflict = "conflict" => Aborted,
    /// The job was cancelled.
    Cancelled = "cancelled" => Cancelled,
    /// The job, or a stage of it, took longer than allowed.
    DeadlineExceeded = "deadline-exceeded" => DeadlineExceeded,
    /// There is no executor to run on.
    NoExecutors = "no-executors" => Unavailable,
    /// Memory settings are too small for the work.
    ResourcesExhausted = "resources-exhausted" => ResourceExhausted,
    /// Object storage failed.
    Storage = "storage" => Unavailable,
    /// Caller is not known.
    Unauthenticated = "unauthenticated" => Unauthenticated,
    /// Distributed work was lost with an executor, or returned partitions twice or not at all; safe to run again.
    WorkLost = "work-lost" => Unavailable,
    /// A defect of Trireme.
    Internal = "internal" => Internal,
}

/// What was found, where, and what to do.
///
/// Its `Display` form is `⟦code message¦hint: …⟧`, and [`Error::find_in`] reads it back out of any text: an error that was raised in an
/// executor reaches the scheduler only as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    /// Kind of error.
    pub code: Code,
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
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new() }
    }

    /// The same error with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The first error of ours in a text such as a failed task's message.
    pub fn find_in(text: &str) -> Option<Self> {
        let start = text.find(OPEN)? + OPEN.len();
        let body = &text[start..];
        let body = &body[..body.find(CLOSE)?];
        let (code, rest) = body.split_once(' ')?;
        let code = Code::parse(code)?;
        Some(match rest.split_once(MIDDLE) {
            Some((message, hint)) => Self { code, message: message.to_string(), hint: hint.to_string() },
            None => Self { code, message: rest.to_string(), hint: String::new() },
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{} {}", self.code.as_str(), self.message)?;
        if !self.hint.is_empty() {
            write!(f, "{MIDDLE}{}", self.hint)?;
        }
        f.write_str(CLOSE)
    }
}

/// The `Display` form: Ballista reports a failed task by the `Debug` form of its error, and ours must be found in that too.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        let text = error.strip_backtrace();
        if let Some(ours) = Self::find_in(&text) {
            return ours;
        }
        let code = match error.find_root() {
            DataFusionError::Plan(_) | DataFusionError::SchemaError(..) | DataFusionError::SQL(..) => Code::InvalidSql,
            DataFusionError::ResourcesExhausted(_) => Code::ResourcesExhausted,
            DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => Code::Storage,
            DataFusionError::ArrowError(..) => Code::BadValue,
            DataFusionError::NotImplemented(_) => Code::InvalidSql,
            _ => Code::Internal,
        };
        let error = Self::new(code, text);
        match code {
            Code::InvalidSql => {
                error.hint("SQL here is Spark's: check the expression, and the types of what it is given")
            }
            _ => error,
        }
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::new(Code::Storage, error.to_string())
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::from(DataFusionError::from(error))
    }
}

impl From<deltalake_core::DeltaTableError> for Error {
    fn from(error: deltalake_core::DeltaTableError) -> Self {
        let text = error.to_string();
        Self::find_in(&text).unwrap_or_else(|| Self::new(Code::Storage, text))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.code.grpc(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_being_text() {
        let error = Error::new(Code::NullKey, "3 rows have a null key").hint("add `where: name IS NOT NULL`");
        let wrapped = format!("task 7 failed: External error: {error} at stage 1");
        assert_eq!(Error::find_in(&wrapped), Some(error.clone()));
        // As Ballista's executors report it.
        let shared = DataFusionError::Shared(std::sync::Arc::new(DataFusionError::from(error.clone())));
        assert_eq!(Error::find_in(&format!("{shared:?}")), Some(error));
        assert_eq!(Error::find_in("no error of ours"), None);
    }
}
