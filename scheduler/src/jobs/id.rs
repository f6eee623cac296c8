//! Names of jobs.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDateTime, Utc};
use parking_lot::Mutex;
use trireme_engine::{Code, Error, Result};

/// A job's id: the UTC moment of its submission to the millisecond, `20261122-201533-123`. Text order is order of submission.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(String);

impl JobId {
    fn at(millis: i64) -> Self {
        let moment = DateTime::from_timestamp_millis(millis).unwrap_or_default();
        Self(moment.format("%Y%m%d-%H%M%S-%3f").to_string())
    }

    /// Text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The moment in the id.
    pub fn moment(&self) -> DateTime<Utc> {
        moment(&self.0).unwrap_or_default()
    }
}

fn moment(text: &str) -> Option<DateTime<Utc>> {
    let (seconds, millis) = text.rsplit_once('-')?;
    let seconds = NaiveDateTime::parse_from_str(seconds, "%Y%m%d-%H%M%S").ok()?.and_utc().timestamp();
    DateTime::from_timestamp_millis(seconds.checked_mul(1000)?.checked_add(millis.parse().ok()?)?)
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match moment(text).map(|moment| Self::at(moment.timestamp_millis())) {
            // Only the one form that `at` writes: an id is a part of a path.
            Some(id) if id.0 == text => Ok(id),
            _ => Err(unknown(text)),
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error about an id that names no job.
pub(crate) fn unknown(id: &str) -> Error {
    Error::new(Code::JobNotFound, format!("no job `{id}`")).hint("`trireme jobs list` lists them")
}

/// Gives out ids, each later than all before it even when the clock goes back.
#[derive(Debug, Default)]
pub(crate) struct JobIds {
    last: Mutex<i64>,
}

impl JobIds {
    /// Ids later than `newest`, the newest in the journal.
    pub fn after(newest: Option<&JobId>) -> Self {
        Self { last: Mutex::new(newest.map_or(0, |id| id.moment().timestamp_millis())) }
    }

    pub fn next(&self) -> JobId {
        let mut last = self.last.lock();
        *last = Utc::now().timestamp_millis().max(last.saturating_add(1));
        JobId::at(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_in_order_also_after_a_restart() {
        let ids = JobIds::default();
        let first: Vec<JobId> = (0..1000).map(|_| ids.next()).collect();
        assert!(first.is_sorted_by(|a, b| a < b), "{first:?}");
        // The next process' clock is behind: ids of 1,000 jobs in one millisecond run ahead of it.
        let next = JobIds::after(first.last()).next();
        assert!(&next > first.last().unwrap());
    }

    #[test]
    fn only_the_written_form_is_an_id() {
        let id: JobId = "20261122-201533-007".parse().unwrap();
        assert_eq!(id.moment().timestamp_millis() % 1000, 7);
        assert_eq!(id.to_string(), "20261122-201533-007");
        for bad in
            ["", "x", "20261122-201533-7", "20261122-201533-1234", "20261332-201533-123", "../20261122-201533-123"]
        {
            assert_eq!(bad.parse::<JobId>().unwrap_err().code, Code::JobNotFound, "{bad}");
        }
    }
}
