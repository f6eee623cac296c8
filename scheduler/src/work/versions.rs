//! Which raw versions a load or merge applies, and in which order.
//!
//! **Order.** A merge applies versions oldest first. After an older version than the newest that the table holds, all that are newer are applied again, in
//! order, for its rows went over theirs. *Pending* is what is newer than what the table holds, and everything from the oldest version on that the table
//! lacks: it failed, a newer one was asked for by name, it was skipped and is not any more, it came late. The newest version is always among them, for it
//! may have been applied with other expressions. What is older than the first that was asked for is not pending.
//!
//! **Files that others put there** (`raw/<source>/<version>/` without a manifest) are versions too. Where several versions are asked for, they are adopted
//! and applied in their place; a job that was asked for one version tells what it left.
//!
//! **Bad deliveries.** A version whose data is at fault fails alone: those behind it are applied, the job ends as failed and names it, and the next job tries
//! it again, until it is skipped, superseded or mended. A history is the exception: what came later can't be taken back out of it, so it waits; and an older
//! version than what it holds is left out, and told, for a history can't take it in.

use std::collections::{BTreeMap, BTreeSet};

use trireme_engine::{
    Code, Error, RawVersion, Result, SourceName,
    delta::{Content, Delivery, JobCommits, Table},
    raw::{Deliveries, Manifest},
};
use trireme_proto::v1::{SourceRef, TableSpec, Versions};

use super::{Worker, source_of};
use crate::jobs::JobHandle;

/// A version to be applied.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its place in the order.
    pub version: RawVersion,
    /// The version that is read there: itself, or the one that supersedes it.
    pub read: RawVersion,
    /// What is read, if that is known yet.
    pub manifest: Option<Manifest>,
    /// It was not asked for: it is applied again if an older one was applied.
    pub follows: bool,
}

/// What a job has to apply, and what the table has of it.
#[derive(Debug, Default)]
pub struct Plan {
    /// Oldest first.
    pub wanted: Vec<Wanted>,
    /// Versions that are left out where they would have been applied, with the reason.
    pub left_out: BTreeMap<RawVersion, String>,
    /// What there is of the source.
    found: Deliveries,
    /// Versions of the source that could be read, oldest first.
    readable: Vec<RawVersion>,
    /// The newest that the table holds, as a number.
    held: Option<i64>,
    /// The oldest that the table lacks, of those that are older than what it holds.
    passed: Option<RawVersion>,
    /// The oldest that was merged, as a number, where that may change.
    first: Option<i64>,
    /// Up to where the table is in order, as a number, while the job goes on.
    at: Option<i64>,
    /// Those that this job has applied, or found applied.
    done: BTreeSet<RawVersion>,
    /// Those that failed.
    failed: BTreeSet<RawVersion>,
}

impl Plan {
    /// The oldest version that the table lacks once this one is applied, though it is newer than what the table had.
    fn passed_by(&self, version: &RawVersion) -> Option<RawVersion> {
        let between = |other: &&RawVersion| self.held.is_some_and(|held| other.number() > held);
        let lacking = self.readable.iter().filter(between).chain(&self.passed).chain(&self.failed);
        lacking.filter(|other| *other < version && !self.done.contains(*other)).min().cloned()
    }

    /// The merge or load of a version, but for what its spec says.
    pub fn delivery(&self, source: &SourceName, version: &RawVersion) -> Delivery {
        let number = version.number();
        let goes_on = |other: &&RawVersion| {
            self.at.is_some_and(|at| at < other.number())
                && *other < version
                && !self.done.contains(*other)
                && !self.found.unpublished.contains(*other)
        };
        let first = self.first.map(|first| first.min(number));
        Delivery {
            passed: self.passed_by(version),
            voids: self.found.versions.iter().filter(goes_on).cloned().collect(),
            first: if self.held.is_none() { Some(first.unwrap_or(number)) } else { first },
            known: self.found.number_up_to(number),
            ..Delivery::new(source.clone(), version.clone())
        }
    }

    /// The table has it, and its rows came last if it was applied by this job.
    pub fn is_done(&mut self, version: &RawVersion, landed: bool) {
        let number = version.number();
        if landed || self.at.is_none_or(|at| at < number) {
            self.at = Some(number);
        }
        if landed && (self.held.is_none() || self.first.is_some()) {
            // The oldest of what was ever applied is the first.
            self.first = Some(self.first.map_or(number, |first| first.min(number)));
        }
        self.done.insert(version.clone());
    }

    /// The table does not get it from this job.
    pub fn has_failed(&mut self, version: &RawVersion) {
        self.failed.insert(version.clone());
    }

    /// Of the versions that the table could hold those that it lacks, oldest first: only where they are not the same that it knew of.
    async fn look_at(&mut self, source: &SourceName, table: &Table, content: &Content) -> Result<()> {
        let Some(held) = self.held else { return Ok(()) };
        let passed = content.passed(table, source).await?;
        let known = content.known(table, source).await?;
        if known.is_none_or(|known| known == self.found.number_up_to(held)) {
            // One that was skipped since is no gap any more.
            let gap =
                passed.and_then(|passed| self.readable.iter().find(|version| version.number() >= passed).cloned());
            self.passed = gap.filter(|gap| gap.number() < held);
            return Ok(());
        }
        let up_to: Vec<RawVersion> = self.readable.iter().filter(|version| version.number() <= held).cloned().collect();
        let merged = content.merged(table, source, &up_to).await?;
        let first = content.first(table, source).await?.into_iter().chain(passed);
        let first = first.chain(merged.keys().next().map(RawVersion::number)).min();
        let lacks = |version: &&RawVersion| match merged.get(*version) {
            Some(instead) => *instead && self.found.read_for(version) == *version,
            None => first.is_some_and(|first| version.number() >= first),
        };
        self.passed = up_to.iter().find(lacks).cloned();
        Ok(())
    }

    /// The versions that are pending.
    fn pending(&self) -> Vec<RawVersion> {
        pending(self, &self.found)
    }

    /// Takes out what a history can't take in: of what is older than what it holds, whatever it has not. `merged` are those that it has.
    fn spare_history(&mut self, wanted: &mut Vec<RawVersion>, merged: &BTreeMap<RawVersion, bool>) {
        let Self { held, found, left_out, .. } = self;
        wanted.retain(|version| {
            let is_older = held.is_some_and(|held| version.number() < held);
            let read = found.read_for(version);
            let why = match (merged.get(version), read == version) {
                _ if !is_older => return true,
                (Some(instead), is_itself) if *instead != is_itself => return true,
                (_, true) => "it is older than what the history holds, which can't take it in".to_string(),
                (_, false) => {
                    format!("superseded by {read}, but what it brought can't be taken back out of a history")
                }
            };
            let way_out = "drop the table and merge --all-pending to build it again";
            left_out.insert(version.clone(), format!("{why}; {way_out}"));
            false
        });
    }

    /// Tells what the job passes over: it was asked for one version, and the table lacks others.
    fn tell_passed(&mut self, wanted: &[RawVersion]) {
        let Some((first, held)) = wanted.first().zip(self.held) else { return };
        let lacks = |version: &&RawVersion| {
            let between = version.number() > held && *version < first;
            (between || self.passed.as_ref() == Some(*version)) && !wanted.contains(version)
        };
        let why = |version: &RawVersion| match self.found.unpublished.contains(version) {
            true => "others put its files there; --all-pending adopts and applies it".to_string(),
            false => "the table lacks it; --all-pending applies it".to_string(),
        };
        let told: Vec<_> = self.readable.iter().filter(lacks).map(|version| (version.clone(), why(version))).collect();
        for (version, why) in told {
            self.left_out.entry(version).or_insert(why);
        }
        // Newer ones that nobody published.
        let newer = self.found.unpublished.iter().filter(|version| wanted.iter().all(|wanted| wanted < *version));
        let why = "others put its files there; `trireme raw adopt` takes it, or --all-pending";
        let told: Vec<_> = newer.map(|version| (version.clone(), why.to_string())).collect();
        self.left_out.extend(told);
    }
}

impl Worker {
    /// The versions that a spec asks for; none only where all are left out. `table` and `content` are what they are to be applied to.
    pub(super) async fn versions(
        &self,
        spec: &TableSpec,
        table: Option<(&Table, &Content)>,
        merges: bool,
        own: &JobCommits,
        job: &JobHandle,
    ) -> Result<Plan> {
        let reference = source_of(spec)?;
        let source: SourceName = reference.source.parse()?;
        check_versions(reference)?;
        let found = self.zone.deliveries(&source).await?;
        let mut readable: Vec<RawVersion> = found.readable().chain(&found.unpublished).cloned().collect();
        readable.sort_unstable();
        let mut plan = Plan { readable, found, ..Plan::default() };
        if let Some((table, content)) = table {
            plan.held = content.newest(table, &source).await?;
            plan.at = plan.held;
            plan.look_at(&source, table, content).await?;
        }
        let held = plan.held;
        let explicit = (!reference.version.is_empty()).then(|| reference.version.parse::<RawVersion>()).transpose()?;
        let mut wanted: Vec<RawVersion> = match (&reference.versions, explicit) {
            (Some(versions), _) if versions.pending => plan.pending(),
            (Some(versions), _) => {
                let wanted: Vec<_> =
                    plan.readable.iter().filter(|version| within(version, versions)).cloned().collect();
                if wanted.is_empty() {
                    return Err(self.none_in_range(&source, &plan.found, versions).await?);
                }
                wanted
            }
            (None, Some(version)) => {
                if let Some(mark) = plan.found.marks.get(&version).filter(|mark| mark.leaves_out()) {
                    return Err(Error::new(Code::VersionNotFound, format!("{source}@{version} is {}", mark.told()))
                        .hint(format!("`trireme raw unskip {source}@{version}` takes that back")));
                }
                vec![version]
            }
            (None, None) => Vec::new(),
        };
        let asked_for_one = reference.versions.is_none();
        let listed = |version: &RawVersion| plan.readable.binary_search(version).is_ok();
        if wanted.is_empty()
            || !wanted.iter().all(listed)
            || asked_for_one && plan.found.unpublished.contains(&wanted[0])
        {
            // What is read now, or files that others put there.
            let manifest = self.manifest(&source, wanted.first(), reference, job).await?;
            let read = manifest.version.clone();
            let place = plan.found.marks.get(&read).and_then(|mark| mark.stands_in_for.clone());
            let version = place.unwrap_or_else(|| read.clone());
            wanted = vec![version.clone()];
            plan.wanted.push(Wanted { version, read, manifest: Some(manifest), follows: false });
        }
        if let Some((table, content)) = table.filter(|_| spec.history.is_some() && !asked_for_one && !spec.force) {
            let is_older = |version: &&RawVersion| held.is_some_and(|held| version.number() < held);
            let older: Vec<RawVersion> = wanted.iter().filter(is_older).cloned().collect();
            let merged = content.merged(table, &source, &older).await?;
            plan.spare_history(&mut wanted, &merged);
        }
        let Some((first, last)) = wanted.first().cloned().zip(wanted.last().cloned()) else { return Ok(plan) };
        if let Some((table, content)) = table.filter(|_| held.is_some_and(|held| first.number() <= held)) {
            plan.first = content.first(table, &source).await?;
        }
        // A job that goes on after a restart may have taken the table back already.
        let until = if own.own.is_empty() { plan.held } else { plan.readable.last().map(RawVersion::number) };
        let follows = |version: &&RawVersion| {
            **version > first && !wanted.contains(version) && until.is_some_and(|until| version.number() <= until)
        };
        let following: Vec<RawVersion> = match table {
            Some(_) if merges => plan.readable.iter().filter(follows).cloned().collect(),
            _ => Vec::new(),
        };
        let end = following.last().unwrap_or(&last).clone().max(last);
        let is_there = |marked: &RawVersion| {
            *marked >= first && *marked <= end || reference.versions.as_ref().is_some_and(|versions| versions.pending)
        };
        let left_out = plan.found.marks.iter().filter(|(version, mark)| {
            mark.leaves_out()
                && mark.stands_in_for.is_none()
                && is_there(version)
                && held.is_none_or(|held| version.number() > held)
        });
        let left_out: Vec<_> = left_out.map(|(version, mark)| (version.clone(), mark.told())).collect();
        plan.left_out.extend(left_out);
        if merges && asked_for_one {
            plan.tell_passed(&wanted);
        }
        let known: BTreeSet<RawVersion> = plan.wanted.iter().map(|wanted| wanted.version.clone()).collect();
        let asked = wanted.into_iter().filter(|version| !known.contains(version)).map(|version| (version, false));
        for (version, follows) in asked.chain(following.into_iter().map(|version| (version, true))) {
            let read = plan.found.read_for(&version).clone();
            plan.wanted.push(Wanted { version, read, manifest: None, follows });
        }
        plan.wanted.sort_by(|a, b| a.version.cmp(&b.version));
        Ok(plan)
    }

    async fn none_in_range(&self, source: &SourceName, found: &Deliveries, versions: &Versions) -> Result<Error> {
        let range = format!("{}..{}", versions.from, versions.to);
        // A source that is not there is the better answer.
        self.zone.get(source, None).await?;
        let skipped = found.versions.iter().filter(|version| within(version, versions)).count();
        let what = if skipped > 0 { format!(" that is not skipped (of {skipped})") } else { String::new() };
        Ok(Error::new(Code::VersionNotFound, format!("source `{source}` has no version in {range}{what}"))
            .hint(format!("`trireme raw show {source}` lists the versions")))
    }
}

/// Errors for bounds that no version can have.
pub fn check_versions(reference: &SourceRef) -> Result<()> {
    let Some(versions) = &reference.versions else { return Ok(()) };
    for bound in [&versions.from, &versions.to] {
        // A version is `20261122T201533123Z`; a bound may be its beginning.
        let whole = format!("{bound}{}", "00000000T000000000Z".get(bound.len()..).unwrap_or_default());
        if !bound.is_empty() && (bound.len() < 4 || whole.parse::<RawVersion>().is_err()) {
            return Err(Error::new(
                Code::InvalidSpec,
                format!("`{bound}` is neither a raw version nor the beginning of one"),
            )
            .hint("a raw version looks like 20261122T201533123Z, a day like 20261122"));
        }
    }
    Ok(())
}

fn within(version: &RawVersion, versions: &Versions) -> bool {
    let (version, from, to) = (version.as_str(), versions.from.as_str(), versions.to.as_str());
    version >= from && (to.is_empty() || version <= to || version.starts_with(to))
}

/// Of all versions that can be read those that are newer than what a table holds, those from the oldest on that was passed over, and the newest.
/// A version that is read from another is looked at too: the table may hold what it was before.
fn pending(plan: &Plan, found: &Deliveries) -> Vec<RawVersion> {
    let is_pending = |version: &&RawVersion| {
        plan.held.is_none_or(|held| version.number() > held)
            || plan.passed.as_ref().is_some_and(|passed| *version >= passed)
            || Some(*version) == plan.readable.last()
            || found.read_for(version) != *version
    };
    plan.readable.iter().filter(is_pending).cloned().collect()
}

#[cfg(test)]
mod tests {
    use trireme_engine::raw::Mark;

    use super::*;

    fn version(text: &str) -> RawVersion {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_includes_its_bounds_and_whole_days() {
        let all = ["20261101T000000000Z", "20261102T120000000Z", "20261103T000000000Z"].map(version);
        let count = |from: &str, to: &str| {
            let versions = Versions { from: from.into(), to: to.into(), pending: false };
            check_versions(&SourceRef { versions: Some(versions.clone()), ..SourceRef::default() }).unwrap();
            all.iter().filter(|version| within(version, &versions)).count()
        };
        assert_eq!(count("", ""), 3);
        assert_eq!(count("20261102", "20261102"), 1);
        assert_eq!(count("20261102T120000000Z", ""), 2);
        assert_eq!(count("", "20261102T120000000Z"), 2);
        assert_eq!(count("20261102T13", "202611"), 1);
        assert_eq!(count("2027", ""), 0);
    }

    #[test]
    fn a_bound_is_the_beginning_of_a_version() {
        for bound in ["2", "x", "2026-11-01", "20261101T000000000Z0"] {
            let versions = Versions { from: bound.into(), ..Versions::default() };
            let error = check_versions(&SourceRef { versions: Some(versions), ..SourceRef::default() }).unwrap_err();
            assert_eq!(error.code, Code::InvalidSpec, "{bound}");
        }
    }

    #[test]
    fn what_is_newer_than_the_table_or_was_passed_over_is_pending_and_the_newest_is_looked_at_again() {
        let all = ["20261101T000000000Z", "20261102T120000000Z", "20261103T000000000Z"].map(version).to_vec();
        let of = |held: Option<usize>, passed: Option<usize>| {
            let held = held.map(|at| all[at].number());
            let passed = passed.map(|at| all[at].clone());
            let plan = Plan { readable: all.clone(), held, passed, ..Plan::default() };
            pending(&plan, &Deliveries::default())
        };
        assert_eq!(of(None, None), all);
        assert_eq!(of(Some(0), None), all[1..]);
        assert_eq!(of(Some(2), None), all[2..]);
        assert_eq!(of(Some(2), Some(1)), all[1..]);
        let marked = [(all[0].clone(), Mark { superseded_by: Some(all[2].clone()), ..Mark::default() })].into();
        let found = Deliveries { versions: all.clone(), marks: marked, ..Deliveries::default() };
        let plan = Plan { readable: all[..2].to_vec(), held: Some(all[1].number()), ..Plan::default() };
        assert_eq!(pending(&plan, &found), all[..2]);
        let none = Plan::default();
        assert_eq!(pending(&none, &Deliveries::default()), Vec::new());
    }

    #[test]
    fn what_a_newer_version_leaves_behind_is_passed_over() {
        let all = ["20261101T000000000Z", "20261102T000000000Z", "20261103T000000000Z"].map(version).to_vec();
        let mut plan = Plan { readable: all.clone(), held: Some(all[0].number()), ..Plan::default() };
        assert_eq!(plan.passed_by(&all[1]), None);
        assert_eq!(plan.passed_by(&all[2]), Some(all[1].clone()));
        plan.is_done(&all[1], true);
        assert_eq!(plan.passed_by(&all[2]), None);
        // A table that had nothing of the source begins with what was asked for.
        let fresh = Plan { readable: all.clone(), ..Plan::default() };
        assert_eq!(fresh.passed_by(&all[2]), None);
        let mut failing = Plan { readable: all.clone(), ..Plan::default() };
        failing.has_failed(&all[0]);
        assert_eq!(failing.passed_by(&all[1]), Some(all[0].clone()));
    }
}
