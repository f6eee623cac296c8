//! What a table holds, by its log: whether it still has what a load or a merge once brought.
//!
//! **The rule.** *Applied* is about content, not about a mark that is still in the log.
//! - A *load* counts as applied while the table holds exactly what it brought: no commit since has changed data, whoever made it.
//! - A *merge* of a version counts as applied while its rows are in the table and in order: it was the last merge of that version (one with another spec
//!   replaces it), no older version of the source was merged since (its rows went over newer ones), and nothing has replaced the whole table since: no
//!   load, question, restore, overwrite or truncation, by us or by another writer. Appends, updates and deletes of others leave it applied.
//! - Where the log is too short to tell (another writer cleaned it up), a load is applied again, which changes nothing if it was there, and a merge stays
//!   applied: its rows must not go over newer ones.
//!
//! **How it is found.** Commits of ours that change data carry `txn` actions, which stay in checkpoints when the commits themselves are gone:
//! - `trireme:content`: a number for what the table holds since: of a load the load's own, of anything else a random one.
//! - `trireme:at`: the version of that commit, and the table's *epoch*, which everything that replaces all rows raises.
//! - `trireme:merged:<source>@<version>`: which spec was merged last, as a number; odd where another version was read in its place. 0 says that its rows
//!   do not count any more: an older version was merged since, and it was not there to be merged again.
//! - `trireme:newest:<source>`: up to which version the source is in the table, in order. Merging an older one takes it back, so that newer ones are
//!   applied again.
//! - `trireme:passed:<source>`: the oldest version that was passed over (it failed, or a newer one was asked for by name); 0 for none.
//! - `trireme:first:<source>`: the oldest version that was merged; what is older was never asked for.
//! - `trireme:known:<source>`: a number for the versions up to the newest that there were, and what was to be read of each. Where it differs, one came
//!   late or was skipped or taken back, and the versions are looked at one by one.
//!
//! All but the first two end in `#<epoch>` from the first epoch on, so that a replaced table has none of them. Commits of others are the ones after `trireme:at`:
//! they are read, and there are few, for every commit of ours moves the mark. What earlier builds wrote (`trireme:load:…`, `trireme:merge:…`, no
//! `trireme:at`) is looked for in the log, from its end back to the commit that carried it.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{commit::Txn, table::Table};
use crate::{
    RawVersion, SourceName,
    error::{Error, Result},
};

const CONTENT: &str = "trireme:content";
const AT: &str = "trireme:at";
const MERGED: &str = "trireme:merged:";
const NEWEST: &str = "trireme:newest:";
const PASSED: &str = "trireme:passed:";
const FIRST: &str = "trireme:first:";
const KNOWN: &str = "trireme:known:";
/// Log entries read at a time.
const PARALLEL: usize = 16;
/// Bits of [`AT`] that are the commit's version; the epoch is above them.
const VERSION_BITS: u32 = 40;

/// What a load or merge brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Source of the rows.
    pub source: SourceName,
    /// Its version.
    pub version: RawVersion,
    /// Digest of everything in the spec that decides about rows, hexadecimal.
    pub digest: String,
    /// It replaces all rows; else it is merged.
    pub replaces: bool,
    /// Oldest version of the source that is newer than what the table had and is passed over.
    pub passed: Option<RawVersion>,
    /// Versions whose rows do not count any more.
    pub voids: Vec<RawVersion>,
    /// The oldest version that the table has from now on, as a number; none where that stays.
    pub first: Option<i64>,
    /// The versions up to this one and what is read of each, as a number.
    pub known: i64,
    /// Another version is read in its place.
    pub instead: bool,
    /// It is to be applied whatever the table holds.
    pub force: bool,
}

/// What the log says about a table's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    epoch: i64,
    /// None before a commit of this build.
    number: Option<i64>,
    /// Others changed data since.
    changed: bool,
}

/// What became of the data in some commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// The same rows.
    None,
    /// Rows came, went or changed.
    Changed,
    /// All rows are others.
    Replaced,
}

impl Delivery {
    /// A merge of a version that is the only one of its source.
    pub fn new(source: SourceName, version: RawVersion) -> Self {
        Self {
            source,
            version,
            digest: String::new(),
            replaces: false,
            passed: None,
            voids: Vec::new(),
            first: None,
            known: 0,
            instead: false,
            force: false,
        }
    }

    /// The number by which the log knows it.
    fn number(&self) -> i64 {
        let Self { source, version, digest, .. } = self;
        let kind = if self.replaces { "load" } else { "merge" };
        let digest = Sha256::digest(format!("{kind} {source}@{version} {digest}"));
        let first = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        // Never negative.
        let number = (first >> 1) as i64;
        if self.replaces { number } else { number & !1 | i64::from(self.instead) }
    }

    /// What the log has when exactly this was done.
    pub(super) fn txn(&self, content: &Content) -> Txn {
        match self.replaces {
            true => Txn { app_id: CONTENT.to_string(), version: self.number() },
            false => Txn { app_id: self.merged_id(content.epoch), version: self.number() },
        }
    }

    fn merged_id(&self, epoch: i64) -> String {
        merged_id(&self.source, &self.version, epoch)
    }

    /// Whether the table holds it, see the module's rule.
    pub async fn is_applied(&self, table: &Table, content: &Content) -> Result<bool> {
        let txn = self.txn(content);
        if self.replaces {
            return match content.number {
                Some(number) => Ok(number == txn.version && !content.changed),
                None => Ok(self.found(table, "load").await? == Some(Effect::None)),
            };
        }
        let held = content.newest(table, &self.source).await?;
        if held.is_some_and(|held| self.version.number() > held) {
            return Ok(false);
        }
        match table.applied(&txn.app_id).await? {
            // Earlier builds did not tell odd from even.
            Some(number) => Ok(number | 1 == txn.version | 1),
            None if content.epoch > 0 => Ok(false),
            None => Ok(self.found(table, "merge").await?.is_some_and(|since| since < Effect::Replaced)),
        }
    }

    /// What happened since an earlier build applied it; none if it did not.
    async fn found(&self, table: &Table, kind: &str) -> Result<Option<Effect>> {
        let Self { source, version, digest, .. } = self;
        let app_id = match self.replaces {
            true => format!("trireme:{kind}:{source}:{digest}"),
            false => format!("trireme:{kind}:{source}@{version}:{digest}"),
        };
        if table.applied(&app_id).await? != Some(version.number()) {
            return Ok(None);
        }
        let unknown = if self.replaces { Effect::Changed } else { Effect::None };
        Ok(Some(since_txn(table, &Txn { app_id, version: version.number() }).await?.unwrap_or(unknown)))
    }
}

impl Content {
    /// The content of the version that `table` was opened at.
    pub async fn of(table: &Table) -> Result<Self> {
        let Some(at) = table.applied(AT).await? else { return Ok(Self::default()) };
        let (epoch, version) = (at >> VERSION_BITS, (at & ((1 << VERSION_BITS) - 1)) as u64);
        let number = Some(table.applied(CONTENT).await?.unwrap_or_default());
        let mut effect = Effect::None;
        let log = table.log();
        let mut entries = stream::iter(version + 1..=table.version())
            .map(|version| async move { log.read_commit_entry(version).await })
            .buffered(PARALLEL);
        while let Some(entry) = entries.try_next().await? {
            let of_entry = match entry {
                Some(entry) => Effect::of(&entry),
                None => {
                    tracing::warn!(table = %table.name(), "another writer removed log entries that tell what it did");
                    Effect::Changed
                }
            };
            effect = effect.max(of_entry);
        }
        let epoch = epoch + i64::from(effect == Effect::Replaced);
        Ok(Self { epoch, number, changed: effect > Effect::None })
    }

    /// Whether the table holds the same as it held then, for all that commits of this build say.
    pub(super) fn is_still(&self, then: &Self) -> bool {
        self.number.is_some() && self == then
    }

    /// The newest version of a source, as a number, up to which the table holds it in order.
    pub async fn newest(&self, table: &Table, source: &SourceName) -> Result<Option<i64>> {
        let app_id = of_source(NEWEST, source, self.epoch);
        let newest = table.applied(&app_id).await?;
        // An earlier build did not say when others replaced the table.
        if let (Some(version), None) = (newest, self.number)
            && since_txn(table, &Txn { app_id, version }).await? == Some(Effect::Replaced)
        {
            return Ok(None);
        }
        Ok(newest)
    }

    /// The oldest version of a source, as a number, that was passed over.
    pub async fn passed(&self, table: &Table, source: &SourceName) -> Result<Option<i64>> {
        if self.number.is_none() {
            return Ok(None);
        }
        Ok(table.applied(&of_source(PASSED, source, self.epoch)).await?.filter(|passed| *passed > 0))
    }

    /// The versions of a source that the table knew of, and what was read of each, as a number.
    pub async fn known(&self, table: &Table, source: &SourceName) -> Result<Option<i64>> {
        table.applied(&of_source(KNOWN, source, self.epoch)).await
    }

    /// The oldest version of a source that was merged, as a number.
    pub async fn first(&self, table: &Table, source: &SourceName) -> Result<Option<i64>> {
        table.applied(&of_source(FIRST, source, self.epoch)).await
    }

    /// Of these versions those whose rows count, by a merge with whatever spec; with each, whether another was read in its place.
    pub async fn merged(
        &self,
        table: &Table,
        source: &SourceName,
        versions: &[RawVersion],
    ) -> Result<BTreeMap<RawVersion, bool>> {
        let found = stream::iter(versions.to_vec()).map(|version| async move {
            let number = table.applied(&merged_id(source, &version, self.epoch)).await?;
            Ok::<_, Error>(number.filter(|number| *number != 0).map(|number| (version, number & 1 == 1)))
        });
        let found: Vec<_> = found.buffered(PARALLEL).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// What a commit of this version says of the content that it leaves.
    pub(super) fn marks(&self, delivery: Option<&Delivery>, replaces: bool, is_new: bool, version: u64) -> Vec<Txn> {
        let epoch = self.epoch + i64::from(replaces && !is_new);
        let random = (Uuid::new_v4().as_u128() as u64 >> 1) as i64;
        let number = delivery.filter(|delivery| delivery.replaces).map_or(random, Delivery::number);
        let at = epoch << VERSION_BITS | i64::try_from(version).unwrap_or(0);
        let mut marks = vec![(CONTENT.to_string(), number), (AT.to_string(), at)];
        if let Some(delivery) = delivery {
            let source = &delivery.source;
            let of_source = |kind: &str| of_source(kind, source, epoch);
            let passed = delivery.passed.as_ref().map_or(0, RawVersion::number);
            if !delivery.replaces {
                marks.push((delivery.merged_id(epoch), delivery.number()));
            }
            marks.extend(delivery.voids.iter().map(|version| (merged_id(source, version, epoch), 0)));
            marks.push((of_source(NEWEST), delivery.version.number()));
            marks.push((of_source(PASSED), passed));
            marks.push((of_source(KNOWN), delivery.known));
            marks.extend(delivery.first.map(|first| (of_source(FIRST), first)));
        }
        marks.into_iter().map(|(app_id, version)| Txn { app_id, version }).collect()
    }
}

/// The version that a mark says was merged; none for other marks.
pub(super) fn merged_version(app_id: &str) -> Option<RawVersion> {
    let (_, version) = app_id.strip_prefix(MERGED)?.split_once('@')?;
    version.split('#').next()?.parse().ok()
}

fn merged_id(source: &SourceName, version: &RawVersion, epoch: i64) -> String {
    of_epoch(format!("{MERGED}{source}@{version}"), epoch)
}

fn of_source(kind: &str, source: &SourceName, epoch: i64) -> String {
    of_epoch(format!("{kind}{source}"), epoch)
}

fn of_epoch(id: String, epoch: i64) -> String {
    if epoch > 0 { format!("{id}#{epoch}") } else { id }
}

/// What the commits after the one with this `txn` did; none where that one is not in the log any more.
async fn since_txn(table: &Table, txn: &Txn) -> Result<Option<Effect>> {
    let log = table.log();
    let mut entries = stream::iter((0..=table.version()).rev())
        .map(|version| async move { log.read_commit_entry(version).await })
        .buffered(PARALLEL);
    let mut effect = Effect::None;
    while let Some(Some(entry)) = entries.try_next().await? {
        let has = |action: &Value| {
            let theirs = &action["txn"];
            theirs["appId"].as_str() == Some(txn.app_id.as_str()) && theirs["version"].as_i64() == Some(txn.version)
        };
        if actions(&entry).any(|action| has(&action)) {
            return Ok(Some(effect));
        }
        effect = effect.max(Effect::of(&entry));
    }
    Ok(None)
}

pub(super) fn actions(entry: &Bytes) -> impl Iterator<Item = Value> {
    serde_json::Deserializer::from_slice(entry).into_iter::<Value>().map_while(Result::ok)
}

impl Effect {
    /// What a commit did to the data, by its actions and by what it says of itself.
    pub(super) fn of(entry: &Bytes) -> Self {
        let changes = |action: &Value, kind: &str| {
            action.get(kind).is_some_and(|file| file["dataChange"].as_bool().unwrap_or(true))
        };
        let (mut adds, mut removes, mut info) = (false, false, Value::Null);
        for mut action in actions(entry) {
            adds |= changes(&action, "add");
            removes |= changes(&action, "remove");
            if let Some(found) = action.get_mut("commitInfo") {
                info = found.take();
            }
        }
        let operation = info["operation"].as_str().unwrap_or_default().to_uppercase();
        let parameter = |key: &str| match &info["operationParameters"][key] {
            Value::Null => String::new(),
            Value::String(text) => text.trim_matches('"').to_lowercase(),
            other => other.to_string().to_lowercase(),
        };
        let says_all = match operation.as_str() {
            "WRITE" => parameter("mode") == "overwrite",
            "STREAMING UPDATE" => parameter("outputMode") == "complete",
            "DELETE" => matches!(parameter("predicate").as_str(), "" | "[]" | "true" | "[\"true\"]" | "[true]"),
            "UPDATE" | "MERGE" | "OPTIMIZE" | "FSCK" | "COPY INTO" => false,
            // RESTORE, TRUNCATE, CREATE OR REPLACE TABLE AS SELECT, and what nobody knows.
            _ => removes || operation.contains("REPLACE") || operation == "RESTORE",
        };
        match (adds || removes, says_all) {
            // Over a table without rows.
            (false, true) if operation != "DELETE" => Self::Replaced,
            (false, _) => Self::None,
            (true, true) => Self::Replaced,
            (true, false) => Self::Changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(lines: &[&str]) -> Effect {
        Effect::of(&Bytes::from(lines.join("\n")))
    }

    #[test]
    fn what_a_commit_did_is_told_by_its_files_and_its_operation() {
        let add = r#"{"add":{"path":"a","dataChange":true}}"#;
        let remove = r#"{"remove":{"path":"a","dataChange":true}}"#;
        let info = |operation: &str, parameters: &str| {
            format!(r#"{{"commitInfo":{{"operation":"{operation}","operationParameters":{parameters}}}}}"#)
        };
        let of = |operation: &str, parameters: &str, files: &[&str]| {
            let info = info(operation, parameters);
            effect(&[&[info.as_str()], files].concat())
        };
        assert_eq!(of("WRITE", r#"{"mode":"Append"}"#, &[add]), Effect::Changed);
        assert_eq!(of("WRITE", r#"{"mode":"Overwrite"}"#, &[add, remove]), Effect::Replaced);
        assert_eq!(of("WRITE", r#"{"mode":"Overwrite"}"#, &[]), Effect::Replaced);
        assert_eq!(of("RESTORE", r#"{"version":"3"}"#, &[remove]), Effect::Replaced);
        assert_eq!(of("DELETE", r#"{"predicate":"[\"(id = 3)\"]"}"#, &[remove, add]), Effect::Changed);
        assert_eq!(of("DELETE", "{}", &[remove]), Effect::Replaced);
        assert_eq!(of("DELETE", r#"{"predicate":"[\"true\"]"}"#, &[remove]), Effect::Replaced);
        assert_eq!(of("UPDATE", "{}", &[remove, add]), Effect::Changed);
        assert_eq!(of("CREATE OR REPLACE TABLE AS SELECT", "{}", &[add]), Effect::Replaced);
        assert_eq!(of("SET TBLPROPERTIES", "{}", &[]), Effect::None);
        let moved = [r#"{"add":{"path":"b","dataChange":false}}"#, r#"{"remove":{"path":"a","dataChange":false}}"#];
        assert_eq!(of("OPTIMIZE", "{}", &moved), Effect::None);
        // Another writer that says nothing of itself.
        assert_eq!(effect(&[add]), Effect::Changed);
        assert_eq!(effect(&[add, remove]), Effect::Replaced);
    }
}
