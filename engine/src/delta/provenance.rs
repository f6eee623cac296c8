//! Which job made which commit: what a job that is run again has done already, and what came after it.

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    content::{Effect, actions, merged_version},
    table::Table,
};
use crate::{RawVersion, error::Result};

/// Log entries read at a time.
const PARALLEL: usize = 16;
/// Clocks of two writers differ by less, minutes.
const CLOCKS_DIFFER: i64 = 60;

/// What the log knows of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobCommits {
    /// Its own commits, newest first: the table's version, and the raw version that was merged, if it is one's.
    pub own: Vec<(u64, Option<RawVersion>)>,
    /// A later job that has changed data meanwhile.
    pub newer: Option<String>,
}

impl JobCommits {
    /// Looks through the log back to the moment when the job was submitted. Ids of jobs are in the order of their submission.
    pub async fn of(table: &Table, job_id: &str, submitted: DateTime<Utc>) -> Result<Self> {
        let log = table.log();
        let oldest = submitted.checked_sub_signed(TimeDelta::minutes(CLOCKS_DIFFER)).unwrap_or(submitted);
        let mut entries = stream::iter((0..=table.version()).rev())
            .map(|version| async move { log.read_commit_entry(version).await.map(|entry| (version, entry)) })
            .buffered(PARALLEL);
        let mut found = Self::default();
        while let Some((version, Some(entry))) = entries.try_next().await? {
            let (mut job, mut time, mut merged) = (String::new(), None, None);
            for action in actions(&entry) {
                if let Some(info) = action.get("commitInfo") {
                    job = info["jobId"].as_str().unwrap_or_default().to_string();
                    time = info["timestamp"].as_i64().and_then(DateTime::from_timestamp_millis);
                }
                let txn = &action["txn"];
                merged = merged.or_else(|| merged_version(txn["appId"].as_str()?).filter(|_| txn["version"] != 0));
            }
            if job == job_id {
                found.own.push((version, merged));
            } else if job.as_str() > job_id && Effect::of(&entry) > Effect::None {
                found.newer = found.newer.or(Some(job));
            }
            if time.is_some_and(|time| time < oldest) {
                break;
            }
        }
        Ok(found)
    }
}
