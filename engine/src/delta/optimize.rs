//! Compaction: small files, and files with many retired rows, are written again as files near a target size. No row changes.
//!
//! [`Plan`] chooses files and packs them into groups, each of which becomes about one file. The scan tells of every row which file it was in
//! ([`FILE_COLUMN`](super::scan::FILE_COLUMN)), and the writer which files its rows come from, so that [`rewritten`] can check every
//! group's rows, and a group whose files another writer changed meanwhile is left out of the commit ([`still_there`]) without harm to the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use datafusion::{
    catalog::Session,
    common::Column,
    datasource::{TableProvider, provider_as_source},
    functions::math::expr_fn::random,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit},
    physical_plan::ExecutionPlan,
};
use deltalake_core::kernel::Add;

use super::{
    files::{DataFiles, size},
    key_file::KeyFile,
    scan::{DeltaTableScan, data_path},
    table::Table,
    written::WriteOutcome,
    z_order::{self, ZOrder},
};
use crate::error::{Code, Error, Result};

/// Percent of a file's rows that must be retired for it to be rewritten, when nobody says otherwise.
pub const RETIRED_PERCENT: u32 = 30;

/// Rows that say how the values of a table's columns are spread.
const SAMPLE_ROWS: u64 = 20_000;

/// Which files are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file, about. One below half of it is small.
    pub target_bytes: u64,
    /// A file of which so many percent of the rows are retired is rewritten.
    pub retired_percent: u32,
}

/// Files to be rewritten, in groups of about the target size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Positions of the files of each group.
    pub groups: Vec<Vec<usize>>,
    /// Small files among them.
    pub small: usize,
}

struct Bin {
    bytes: u64,
    files: Vec<usize>,
    small: usize,
    retired: bool,
}

impl Plan {
    /// Packs what is small or has many retired rows. A file that would only be written as it is stays out, so that another plan right after it is
    /// empty, unless files came out smaller than the sum of their parts.
    pub fn new(files: &DataFiles, limits: Limits) -> Self {
        let target = limits.target_bytes.max(1);
        let mut order: Vec<usize> = (0..files.len()).collect();
        // Files of one time often have keys of one range.
        order.sort_by_key(|&file| (files.adds()[file].modification_time, &files.adds()[file].path));
        let (mut bins, mut open) = (Vec::<Bin>::new(), 0);
        for file in order {
            let bytes = live_bytes(files, file);
            let (is_small, is_retired) = (bytes < target / 2, has_retired(files, file, limits.retired_percent));
            if !is_small && !is_retired {
                continue;
            }
            // Bins that nothing fits into are not looked at again.
            while bins.get(open).is_some_and(|bin| bin.bytes >= target - target / 20) {
                open += 1;
            }
            let fits = bins.iter_mut().skip(open).find(|bin| bin.bytes.saturating_add(bytes) <= target);
            match fits {
                Some(bin) => {
                    bin.bytes += bytes;
                    bin.files.push(file);
                    bin.small += usize::from(is_small);
                    bin.retired |= is_retired;
                }
                None => bins.push(Bin { bytes, files: vec![file], small: is_small.into(), retired: is_retired }),
            }
        }
        bins.retain(|bin| bin.files.len() > 1 || bin.retired);
        let small = bins.iter().filter(|bin| bin.files.len() > 1).map(|bin| bin.small).sum();
        Self { groups: bins.into_iter().map(|bin| bin.files).collect(), small }
    }

    /// All files as one group, for a new layout of all rows ([`scan_along`]).
    pub fn everything(files: &DataFiles) -> Self {
        let all: Vec<usize> = (0..files.len()).collect();
        Self { groups: if all.is_empty() { Vec::new() } else { vec![all] }, small: 0 }
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The scan of the files, a group a partition, with [`FILE_COLUMN`](super::scan::FILE_COLUMN) last.
    pub async fn scan(
        &self,
        table: &Table,
        files: &DataFiles,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = DeltaTableScan::from_files(table.storage(), table.name(), files.clone())?;
        Ok(scan.with_file_column().with_groups(self.groups.clone()).scan(session, None, &[], None).await?)
    }
}

/// Columns that have Bloom filters in the newest of the plan's files: only the merges that wrote it knew the key.
pub async fn bloom_columns(table: &Table, files: &DataFiles, plan: &Plan) -> Result<Vec<String>> {
    let newest = plan.groups.iter().flatten().map(|&file| &files.adds()[file]).max_by_key(|add| add.modification_time);
    let Some(add) = newest else { return Ok(Vec::new()) };
    let storage = table.storage();
    let path = data_path(storage.root(), &storage.table_path(table.name()), table.name(), &add.path)?;
    let layout = files.layout().map(|layout| layout.as_ref());
    let file = KeyFile::open(&storage.store(), path, size(add), layout).await?;
    let (footer, schema) = (file.footer(), file.footer().file_metadata().schema_descr());
    // By the schema: the chunks of a mapped file keep their own names.
    let columns: BTreeSet<String> = (0..schema.num_columns())
        .filter(|leaf| footer.row_groups().iter().any(|group| group.column(*leaf).bloom_filter_offset().is_some()))
        .filter_map(|leaf| match schema.column(leaf).path().parts() {
            [name] => Some(name.clone()),
            _ => None,
        })
        .collect();
    Ok(columns.into_iter().filter(|name| files.schema().index_of(name).is_ok()).collect())
}

/// Some rows of these columns, from all over the table.
pub fn sample_plan(table: &Table, files: &DataFiles, columns: &[String]) -> Result<LogicalPlan> {
    let scan = DeltaTableScan::from_files(table.storage(), table.name(), files.clone())?;
    let rows = LogicalPlanBuilder::scan("sampled", provider_as_source(Arc::new(scan)), None)?;
    // A row has a hundred bytes where nobody says how many rows there are.
    let all = files.rows().unwrap_or(files.bytes() / 100);
    let rows = match all > SAMPLE_ROWS {
        true => rows.filter(random().lt(lit(SAMPLE_ROWS as f64 / all as f64)))?,
        false => rows,
    };
    let columns = columns.iter().map(|name| Expr::Column(Column::new(Some("sampled"), name)));
    Ok(rows.project(columns)?.build()?)
}

/// The scan of all files, its rows along a Z-order, with [`FILE_COLUMN`](super::scan::FILE_COLUMN).
pub async fn scan_along(
    table: &Table,
    files: &DataFiles,
    session: &dyn Session,
    order: ZOrder,
) -> Result<Arc<dyn ExecutionPlan>> {
    let scan = DeltaTableScan::from_files(table.storage(), table.name(), files.clone())?;
    z_order::along(scan.with_file_column().scan(session, None, &[], None).await?, order)
}

/// Files of the target size that the rows of all files take, about.
pub fn files_needed(files: &DataFiles, limits: Limits) -> usize {
    let bytes: u64 = (0..files.len()).map(|file| live_bytes(files, file)).sum();
    usize::try_from(bytes.div_ceil(limits.target_bytes.max(1))).unwrap_or(usize::MAX)
}

/// Percent of the rows of all files that are retired, of files whose rows are known.
pub fn retired_percent(files: &DataFiles) -> u64 {
    let (mut retired, mut stored) = (0u64, 0u64);
    for file in 0..files.len() {
        if let (gone, Some(rows)) = files.retired(file) {
            retired += gone;
            stored += rows;
        }
    }
    (retired * 100).checked_div(stored).unwrap_or(0)
}

/// Bytes of a file's rows that are not retired, about.
fn live_bytes(files: &DataFiles, file: usize) -> u64 {
    let bytes = size(&files.adds()[file]);
    match (files.live(file), files.retired(file)) {
        (Some(live), (_, Some(stored))) if stored > 0 => {
            u64::try_from(u128::from(bytes) * u128::from(live) / u128::from(stored)).unwrap_or(bytes)
        }
        _ => bytes,
    }
}

fn has_retired(files: &DataFiles, file: usize, percent: u32) -> bool {
    let (retired, stored) = files.retired(file);
    retired > 0 && stored.is_some_and(|stored| u128::from(retired) * 100 >= u128::from(stored) * u128::from(percent))
}

/// Files of a table, and those that hold their rows now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rewritten {
    /// As the table has them.
    pub removed: Vec<Add>,
    /// Uncommitted.
    pub added: Vec<Add>,
    /// Rows in them.
    pub rows: u64,
}

/// What a write of a plan's scan came to, in parts that do not depend on one another.
///
/// Fails with [`Code::WorkLost`] when a part has more or fewer rows than the files that it is made of.
pub fn rewritten(files: &DataFiles, plan: &Plan, outcome: &WriteOutcome) -> Result<Vec<Rewritten>> {
    // Files that went into one file, directly or through others, are one part: each points towards its part's first.
    let mut towards: BTreeMap<usize, usize> = BTreeMap::new();
    fn first(towards: &BTreeMap<usize, usize>, mut file: usize) -> usize {
        while let Some(&next) = towards.get(&file).filter(|next| **next != file) {
            file = next;
        }
        file
    }
    for group in &plan.groups {
        for &file in group {
            towards.insert(file, group[0]);
        }
    }
    let mut homes = Vec::with_capacity(outcome.files.len());
    for (add, (_, origins)) in outcome.files.iter().zip(&outcome.origins) {
        let origins: Vec<usize> = origins.iter().filter_map(|file| usize::try_from(*file).ok()).collect();
        let strange = origins.iter().find(|file| !towards.contains_key(file));
        let (Some(&home), None) = (origins.first(), strange) else {
            return Err(lost(&format!("{} has rows of files that were not read: {origins:?}", add.path)));
        };
        for &file in &origins {
            let (one, other) = (first(&towards, home), first(&towards, file));
            towards.insert(one.max(other), one.min(other));
        }
        homes.push(home);
    }
    let mut parts: BTreeMap<usize, (Rewritten, Option<u64>)> = BTreeMap::new();
    for &file in towards.keys() {
        let (part, live) = parts.entry(first(&towards, file)).or_insert_with(|| (Rewritten::default(), Some(0)));
        part.removed.push(files.adds()[file].clone());
        *live = live.zip(files.live(file)).map(|(sum, rows)| sum + rows);
    }
    for ((add, (rows, _)), home) in outcome.files.iter().zip(&outcome.origins).zip(homes) {
        if let Some((part, _)) = parts.get_mut(&first(&towards, home)) {
            part.added.push(add.clone());
            part.rows += rows;
        }
    }
    for (part, live) in parts.values() {
        // Other writers may leave a file's row count out.
        if let Some(live) = live
            && *live != part.rows
        {
            let first = part.removed.first().map_or("", |add| add.path.as_str());
            let what = format!("{} files ({first} …) have {live} rows, {} were written", part.removed.len(), part.rows);
            return Err(lost(&what));
        }
    }
    Ok(parts.into_values().map(|(part, _)| part).collect())
}

fn lost(what: &str) -> Error {
    Error::new(Code::WorkLost, format!("the optimization does not add up: {what}"))
}

/// Parts all of whose files a newer version still has with the same deletion vectors, and the others.
pub fn still_there(parts: Vec<Rewritten>, newer: &DataFiles) -> (Vec<Rewritten>, Vec<Rewritten>) {
    let live: HashMap<&str, &Add> = newer.adds().iter().map(|add| (add.path.as_str(), add)).collect();
    let is_there =
        |add: &Add| live.get(add.path.as_str()).is_some_and(|now| now.deletion_vector == add.deletion_vector);
    parts.into_iter().partition(|part| part.removed.iter().all(is_there))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use deltalake_core::kernel::{DeletionVectorDescriptor, StorageType};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const LIMITS: Limits = Limits { target_bytes: 100, retired_percent: 30 };

    /// Files by their sizes and retired rows, of 100 each.
    fn files(shapes: &[(u64, u64)]) -> DataFiles {
        let add = |(at, (bytes, retired)): (usize, &(u64, u64))| Add {
            path: format!("f{at}"),
            size: *bytes as i64,
            stats: Some(json!({ "numRecords": 100 }).to_string()),
            deletion_vector: (*retired > 0).then(|| DeletionVectorDescriptor {
                storage_type: StorageType::Inline,
                path_or_inline_dv: String::new(),
                offset: None,
                size_in_bytes: 0,
                cardinality: *retired as i64,
            }),
            ..Add::default()
        };
        let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Int64, true)]));
        let adds = shapes.iter().enumerate().map(add).collect();
        DataFiles::try_new(&"a.b".parse().unwrap(), schema, Vec::new(), adds).unwrap()
    }

    #[test]
    fn only_what_gains_is_rewritten() {
        let groups = |shapes: &[(u64, u64)]| Plan::new(&files(shapes), LIMITS).groups;
        assert_eq!(groups(&[(10, 0), (100, 0), (20, 0), (49, 0)]), [[0, 2, 3]]);
        assert!(groups(&[(10, 0), (100, 0), (50, 0)]).is_empty(), "one small file stays as it is");
        assert_eq!(groups(&[(200, 30), (200, 29), (30, 0)]), [[0]]);
        // Retired rows take no room.
        assert_eq!(groups(&[(100, 90), (45, 0), (45, 0)]), [[0, 1, 2]]);
        assert_eq!(groups(&[(45, 0), (45, 0), (45, 0)]), [[0, 1]]);
        let plan = Plan::new(&files(&[(45, 0), (80, 40), (45, 0), (300, 40)]), LIMITS);
        assert_eq!((plan.groups, plan.small), (vec![vec![0, 1], vec![3]], 2));
        assert_eq!(retired_percent(&files(&[(1, 50), (1, 0), (1, 10)])), 20);
    }

    #[test]
    fn what_came_out_of_what_is_told_apart_and_counted() {
        let files = files(&[(10, 40), (10, 0), (10, 0), (10, 100), (10, 0)]);
        let plan = Plan { groups: vec![vec![0, 1], vec![2], vec![3]], small: 0 };
        let outcome = |files: &[(u64, &[i32])]| WriteOutcome {
            files: files.iter().enumerate().map(|(at, _)| Add { path: format!("new{at}"), ..Add::default() }).collect(),
            origins: files.iter().map(|(rows, from)| (*rows, from.iter().copied().collect())).collect(),
            ..WriteOutcome::default()
        };
        let parts = rewritten(&files, &plan, &outcome(&[(100, &[0, 1]), (100, &[2]), (60, &[1])])).unwrap();
        let shape: Vec<_> = parts.iter().map(|part| (part.removed.len(), part.added.len(), part.rows)).collect();
        assert_eq!(shape, [(2, 2, 160), (1, 1, 100), (1, 0, 0)]);
        // Groups whose rows met in one file stand and fall together.
        let parts = rewritten(&files, &plan, &outcome(&[(160, &[0, 1, 2]), (100, &[2])])).unwrap();
        assert_eq!((parts.len(), parts[0].removed.len(), parts[0].rows), (2, 3, 260));
        for wrong in [outcome(&[(159, &[0, 1]), (100, &[2])]), outcome(&[(160, &[0, 1]), (100, &[2, 4])])] {
            assert_eq!(rewritten(&files, &plan, &wrong).unwrap_err().code, Code::WorkLost);
        }
    }

    #[test]
    fn parts_whose_files_changed_are_left_out() {
        let old = files(&[(10, 0), (10, 5), (10, 0)]);
        let parts: Vec<_> =
            old.adds().iter().map(|add| Rewritten { removed: vec![add.clone()], ..Rewritten::default() }).collect();
        let newer = files(&[(10, 0), (10, 6)]);
        let (there, changed) = still_there(parts, &newer);
        let paths = |parts: &[Rewritten]| parts.iter().map(|part| part.removed[0].path.clone()).collect::<Vec<_>>();
        assert_eq!(
            (paths(&there), paths(&changed)),
            (vec!["f0".to_string()], vec!["f1".to_string(), "f2".to_string()])
        );
    }

    proptest! {
        #[test]
        fn a_second_plan_is_empty(shapes in prop::collection::vec((1..250u64, prop_oneof![Just(0u64), 0..100u64]), 0..40)) {
            let before = files(&shapes);
            let plan = Plan::new(&before, LIMITS);
            let moved: Vec<usize> = plan.groups.concat();
            let mut seen = moved.clone();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), moved.len(), "a file is in one group");
            let stays = (0..shapes.len()).filter(|file| !moved.contains(file)).map(|file| shapes[file]);
            let made = plan.groups.iter().map(|group| {
                let bytes: u64 = group.iter().map(|file| live_bytes(&before, *file)).sum();
                prop_assert!(group.len() == 1 || bytes <= LIMITS.target_bytes);
                Ok((bytes, 0))
            });
            let made = made.collect::<Result<Vec<_>, TestCaseError>>()?;
            let after: Vec<_> = stays.chain(made.into_iter().filter(|(bytes, _)| *bytes > 0)).collect();
            prop_assert_eq!(Plan::new(&files(&after), LIMITS), Plan::default());
        }
    }
}
