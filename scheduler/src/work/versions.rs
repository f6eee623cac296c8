//! Which raw versions a load or merge applies, and in which order.
//!
//! **Order.** A merge applies versions oldest first. After an older version than the newest that the table holds, all that are newer are applied again, in
//! order, for its rows went over theirs. *Pending* is what is newer than what the table holds, and everything from the oldest version on that was passed
//! over: it failed, or a newer one was asked for by name. The newest version is always among them, for it may have been applied with other expressions.
//!
//! **Bad deliveries.** A version whose data is at fault fails alone: those behind it are applied, the job ends as failed and names it, and the next job tries
//! it again, until it is skipped, superseded or mended. A history is the exception: what came later can't be taken back out of it, so it waits.

use std::collections::{BTreeMap, BTreeSet};

use trireme_engine::{
    Code, Error, RawVersion, Result, SourceName,
    delta::{Content, JobCommits, Table},
    raw::{Deliveries, Manifest, Mark},
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
    /// Versions of the source that could be read, oldest first.
    readable: Vec<RawVersion>,
    /// The newest that the table holds, as a number.
    held: Option<i64>,
    /// The oldest that was passed over by earlier jobs.
    passed: Option<RawVersion>,
    /// Versions that are left out where they would have been applied.
    pub left_out: BTreeMap<RawVersion, Mark>,
    /// Those that this job has applied, or found applied.
    done: BTreeSet<RawVersion>,
    /// Those that failed.
    failed: BTreeSet<RawVersion>,
}

impl Plan {
    /// The oldest version that the table lacks once this one is applied, though it is newer than what the table had.
    pub fn passed_by(&self, version: &RawVersion) -> Option<RawVersion> {
        let between = |other: &&RawVersion| self.held.is_some_and(|held| other.number() > held);
        let lacking = self.readable.iter().filter(between).chain(&self.passed).chain(&self.failed);
        lacking.filter(|other| *other < version && !self.done.contains(*other)).min().cloned()
    }

    /// The table has it.
    pub fn is_done(&mut self, version: &RawVersion) {
        self.done.insert(version.clone());
    }

    /// The table does not get it from this job.
    pub fn has_failed(&mut self, version: &RawVersion) {
        self.failed.insert(version.clone());
    }
}

impl Worker {
    /// The versions that a spec asks for; never none. `table` and `content` are what they are to be applied to.
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
        let (mut held, mut passed) = (None, None);
        if let Some((table, content)) = table {
            held = content.newest(table, &source).await?;
            passed = content.passed(table, &source).await?;
        }
        let found = self.zone.deliveries(&source).await?;
        let mut plan = Plan { readable: found.readable().cloned().collect(), held, ..Plan::default() };
        // One that was skipped since is no gap any more.
        let gap = passed.and_then(|passed| plan.readable.iter().find(|version| version.number() >= passed).cloned());
        plan.passed = gap.filter(|gap| held.is_none_or(|held| gap.number() < held));
        let explicit = (!reference.version.is_empty()).then(|| reference.version.parse::<RawVersion>()).transpose()?;
        let mut wanted: Vec<RawVersion> = match (&reference.versions, explicit) {
            (Some(versions), _) if versions.pending => pending(&plan, &found),
            (Some(versions), _) => {
                let wanted: Vec<_> =
                    plan.readable.iter().filter(|version| within(version, versions)).cloned().collect();
                if wanted.is_empty() {
                    return Err(self.none_in_range(&source, &found, versions).await?);
                }
                wanted
            }
            (None, Some(version)) => {
                if let Some(mark) = found.marks.get(&version).filter(|mark| mark.leaves_out()) {
                    return Err(Error::new(Code::VersionNotFound, format!("{source}@{version} is {}", mark.told()))
                        .hint(format!("`trireme raw unskip {source}@{version}` takes that back")));
                }
                vec![version]
            }
            (None, None) => Vec::new(),
        };
        let listed = |version: &RawVersion| found.versions.binary_search(version).is_ok();
        if wanted.is_empty() || !wanted.iter().all(listed) {
            // What is read now, or files that others put there.
            let manifest = self.manifest(&source, wanted.first(), reference, job).await?;
            let read = manifest.version.clone();
            let place = found.marks.get(&read).and_then(|mark| mark.stands_in_for.clone());
            let version = place.unwrap_or_else(|| read.clone());
            wanted = vec![version.clone()];
            plan.wanted.push(Wanted { version, read, manifest: Some(manifest), follows: false });
        }
        let Some((first, last)) = wanted.first().cloned().zip(wanted.last().cloned()) else { return Ok(plan) };
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
        let left_out = found.marks.iter().filter(|(version, mark)| {
            mark.leaves_out()
                && mark.stands_in_for.is_none()
                && is_there(version)
                && held.is_none_or(|held| version.number() > held)
        });
        plan.left_out = left_out.map(|(version, mark)| (version.clone(), mark.clone())).collect();
        let known: BTreeSet<RawVersion> = plan.wanted.iter().map(|wanted| wanted.version.clone()).collect();
        let asked = wanted.into_iter().filter(|version| !known.contains(version)).map(|version| (version, false));
        for (version, follows) in asked.chain(following.into_iter().map(|version| (version, true))) {
            let read = found.read_for(&version).clone();
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
        plan.is_done(&all[1]);
        assert_eq!(plan.passed_by(&all[2]), None);
        // A table that had nothing of the source begins with what was asked for.
        let fresh = Plan { readable: all.clone(), ..Plan::default() };
        assert_eq!(fresh.passed_by(&all[2]), None);
        let mut failing = Plan { readable: all.clone(), ..Plan::default() };
        failing.has_failed(&all[0]);
        assert_eq!(failing.passed_by(&all[1]), Some(all[0].clone()));
    }
}
