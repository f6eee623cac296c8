//! Which raw versions a load or merge applies.

use trireme_engine::{Code, Error, RawVersion, Result, SourceName, TableName, delta::Table, raw::Manifest};
use trireme_proto::v1::{SourceRef, TableSpec, Versions};

use super::{Worker, source_of};
use crate::jobs::JobHandle;

/// Application id under which a table says which version of a source is the newest that it holds.
pub fn newest_id(source: &SourceName) -> String {
    format!("trireme:newest:{source}")
}

impl Worker {
    /// The manifests of the versions that a spec asks for, oldest first; never none.
    pub(super) async fn versions(&self, spec: &TableSpec, job: &JobHandle) -> Result<Vec<Manifest>> {
        let reference = source_of(spec)?;
        let source: SourceName = reference.source.parse()?;
        let Some(versions) = &reference.versions else {
            let version = (!reference.version.is_empty()).then(|| reference.version.parse()).transpose()?;
            return Ok(vec![self.manifest(&source, version.as_ref(), reference, job).await?]);
        };
        check_versions(reference)?;
        let mut wanted = self.zone.list_versions(&source).await?;
        wanted.reverse();
        if versions.pending {
            wanted = pending(wanted, self.newest_held(&spec.table.parse()?, &source).await?);
        } else {
            wanted.retain(|version| within(version, versions));
            if wanted.is_empty() {
                let range = format!("{}..{}", versions.from, versions.to);
                // A source that is not there is the better answer.
                self.zone.get(&source, None).await?;
                return Err(Error::new(Code::VersionNotFound, format!("source `{source}` has no version in {range}"))
                    .hint(format!("`trireme raw show {source}` lists the versions")));
            }
        }
        if wanted.is_empty() {
            return Ok(vec![self.manifest(&source, None, reference, job).await?]);
        }
        let mut manifests = Vec::with_capacity(wanted.len());
        for version in &wanted {
            manifests.push(self.zone.get(&source, Some(version)).await?);
        }
        Ok(manifests)
    }

    async fn newest_held(&self, table: &TableName, source: &SourceName) -> Result<Option<i64>> {
        match Table::open(&self.storage, table).await? {
            Some(table) => table.applied(&newest_id(source)).await,
            None => Ok(None),
        }
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

/// Of all versions, oldest first, those that are newer than what a table holds. An older one that was never applied stays out: its rows would replace
/// newer ones. The newest is always among them, for it may have been applied with other expressions; if it was with these, that is found out later.
fn pending(mut versions: Vec<RawVersion>, held: Option<i64>) -> Vec<RawVersion> {
    let newest = versions.pop();
    versions.retain(|version| held.is_none_or(|held| version.number() > held));
    versions.into_iter().chain(newest).collect()
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
    fn what_is_newer_than_the_table_is_pending_and_the_newest_is_looked_at_again() {
        let all = || ["20261101T000000000Z", "20261102T120000000Z", "20261103T000000000Z"].map(version).to_vec();
        assert_eq!(pending(all(), None), all());
        assert_eq!(pending(all(), Some(all()[0].number())), all()[1..]);
        assert_eq!(pending(all(), Some(all()[2].number())), all()[2..]);
        assert_eq!(pending(Vec::new(), None), Vec::new());
    }
}
