//! Versions that fail, among others that do not: what a job says of them, and the way out.

use trireme_engine::{Code, Error, RawVersion, Result, TableName, delta::JobCommits};
use trireme_proto::v1::{SkippedVersion, TableSpec};

use super::source_of;
use crate::jobs::JobHandle;

/// Versions that a job could not apply.
#[derive(Debug, Default)]
pub struct Failures {
    failed: Vec<(RawVersion, usize, Error)>,
    /// Newer ones that the table has nevertheless.
    behind: Vec<RawVersion>,
}

impl Failures {
    /// One more, the `at`th that was tried.
    pub fn push(&mut self, version: RawVersion, at: usize, error: Error) {
        self.failed.push((version, at, error));
    }

    /// A version that the table has.
    pub fn passed_by(&mut self, version: &RawVersion) {
        if !self.failed.is_empty() {
            self.behind.push(version.clone());
        }
    }

    /// The first failure, with what became of the other versions.
    pub fn into_result(self, spec: &TableSpec, count: usize) -> Result<()> {
        let mut failed = self.failed.into_iter();
        let Some((version, at, error)) = failed.next() else { return Ok(()) };
        let source = &source_of(spec)?.source;
        let mut message = match count {
            1 => error.message,
            _ => format!("version {version} ({at} of {count}): {}", error.message),
        };
        let others: Vec<String> =
            failed.map(|(version, _, error)| format!("version {version}: {}", error.message)).collect();
        if !others.is_empty() {
            message = format!("{message}\n{} more failed: {}", others.len(), others.join("; "));
        }
        if !self.behind.is_empty() {
            let behind: Vec<&str> = self.behind.iter().map(RawVersion::as_str).collect();
            message = format!("{message}\nthe table holds what came after it: {}", behind.join(", "));
        }
        let mut hint = error.hint;
        if is_of_delivery(error.code) {
            let way = format!("`trireme raw skip {source}@{version}` leaves this delivery out");
            hint = if hint.is_empty() { way } else { format!("{hint}; {way}") };
        }
        Err(Error { message, hint, ..error })
    }
}

/// Whether another delivery may be better: the data is at fault, or what the spec says of it.
pub fn is_of_delivery(code: Code) -> bool {
    matches!(
        code,
        Code::BadRecord
            | Code::EmptySource
            | Code::BadValue
            | Code::ExpectationFailed
            | Code::TooManyBadRecords
            | Code::DuplicateKey
            | Code::NullKey
            | Code::SchemaMismatch
            | Code::InvalidSql
    )
}

/// Fails when a job that an earlier scheduler left would go over what a later job brought.
pub fn refuse_older(table: &TableName, commits: &JobCommits, job: &JobHandle) -> Result<()> {
    match &commits.newer {
        None => Ok(()),
        Some(newer) => Err(Error::new(
            Code::Conflict,
            format!("job {newer} changed table {table} since, and this job ({}) is older", job.id()),
        )
        .hint("nothing was changed; submit the job again if it is to go over that")),
    }
}

/// A version that is left out, as a job tells it.
pub fn skipped(version: &RawVersion, why: &str) -> SkippedVersion {
    SkippedVersion { version: version.to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use trireme_proto::v1::SourceRef;

    use super::*;

    #[test]
    fn a_failure_names_its_version_what_became_of_the_others_and_the_way_out() {
        let source = SourceRef { source: "a.days".into(), ..SourceRef::default() };
        let spec = TableSpec { table: "a.t".into(), source: Some(source), ..TableSpec::default() };
        let [one, two, three] =
            ["20261101T000000000Z", "20261102T000000000Z", "20261103T000000000Z"].map(|v| v.parse().unwrap());
        let mut failures = Failures::default();
        failures.passed_by(&one);
        failures.push(two, 2, Error::new(Code::BadRecord, "line 3").hint("mend it"));
        failures.passed_by(&three);
        let error = failures.into_result(&spec, 3).unwrap_err();
        assert!(error.message.starts_with("version 20261102T000000000Z (2 of 3): line 3"), "{error}");
        assert!(error.message.ends_with("what came after it: 20261103T000000000Z"), "{error}");
        assert_eq!(error.hint, "mend it; `trireme raw skip a.days@20261102T000000000Z` leaves this delivery out");
        let mut failures = Failures::default();
        failures.push(one, 1, Error::new(Code::Storage, "gone"));
        assert_eq!(failures.into_result(&spec, 1).unwrap_err(), Error::new(Code::Storage, "gone"));
        assert!(Failures::default().into_result(&spec, 3).is_ok());
    }
}
