//! Optimizations, alone and with others who write to the table meanwhile.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use deltalake_core::kernel::Action;

use super::{Lake, name, render, text};
use crate::{
    TableName,
    delta::{
        CommitLabel, SchemaPolicy, Table, catalog, commit, feature,
        optimize::{self, Limits, Plan},
    },
    error::Code,
};

const LIMITS: Limits = Limits { target_bytes: 1 << 20, retired_percent: 30 };

fn batch(keys: impl IntoIterator<Item = i64>, value: &str) -> RecordBatch {
    let keys: Vec<i64> = keys.into_iter().collect();
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(Int64Array::from(keys.clone())) as ArrayRef, true),
        ("v", Arc::new(StringArray::from(vec![value; keys.len()])) as ArrayRef, true),
    ])
    .unwrap()
}

/// A table of four files, each with ten keys, of which some are replaced.
async fn small_files(vectors: bool) -> (Lake, TableName) {
    let lake = Lake { vectors, ..Lake::new() };
    let table = name("a.small");
    let files = (0..4).map(|at| batch(at * 10..at * 10 + 10, "old")).collect();
    lake.overwrite(&table, files, SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    merge(&lake, &table, [3, 14, 15, 50], "new").await;
    (lake, table)
}

async fn merge(lake: &Lake, table: &TableName, keys: impl IntoIterator<Item = i64>, value: &str) {
    let source = vec![batch(keys, value)];
    lake.merge(table, source, &["k"], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
}

async fn open(lake: &Lake, table: &TableName) -> Table {
    catalog::open(&lake.storage, table).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_become_one_and_a_second_time_there_is_nothing_to_do() {
    for vectors in [true, false] {
        let (lake, name) = small_files(vectors).await;
        let before = lake.rows(&name).await;
        let table = open(&lake, &name).await;
        assert_eq!(table.files().unwrap().len(), 5);
        let parts = lake.rewrite(&table, LIMITS).await.unwrap();
        assert_eq!((parts.len(), parts[0].rows), (1, 41));
        let committed = lake.land(&table, &parts, LIMITS).await.unwrap();
        assert_eq!(committed.version, 2);
        assert_eq!(lake.rows(&name).await, before);

        let after = open(&lake, &name).await;
        let files = after.files().unwrap();
        assert_eq!((files.len(), files.rows(), files.adds()[0].deletion_vector.is_some()), (1, Some(41), false));
        assert!(Plan::new(&files, LIMITS).is_empty());
        assert!(commit::is_optimized(&after, &[], LIMITS.target_bytes).await.unwrap());
        assert!(!commit::is_optimized(&after, &["k".to_string()], LIMITS.target_bytes).await.unwrap());
        assert!(!commit::is_optimized(&table, &[], LIMITS.target_bytes).await.unwrap());

        // The protocol's mark of a commit that leaves the data as it is, and what history tells.
        let entry = after.log().read_commit_entry(2).await.unwrap().unwrap();
        let marks: Vec<bool> = deltalake_core::logstore::get_actions(2, &entry)
            .unwrap()
            .iter()
            .filter_map(|action| match action {
                Action::Add(add) => Some(add.data_change),
                Action::Remove(remove) => Some(remove.data_change),
                _ => None,
            })
            .collect();
        assert_eq!(marks, [false; 6]);
        let told = &catalog::history(&after, 1).await.unwrap()[0];
        let metric = |key: &str| told.metrics[key].as_str();
        assert_eq!(
            (told.operation.as_str(), metric("numRemovedFiles"), metric("numAddedFiles")),
            ("OPTIMIZE", "5", "1")
        );
        assert_eq!(metric("numDeletionVectorsRemoved"), if vectors { "2" } else { "0" });
        assert_eq!(metric("minFileSize"), metric("maxFileSize"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_hollow_files_are_rewritten_when_none_is_small() {
    let (lake, name) = small_files(true).await;
    merge(&lake, &name, 20..25, "newer").await;
    let before = lake.rows(&name).await;
    let limits = Limits { target_bytes: 1, retired_percent: 30 };
    let table = open(&lake, &name).await;
    let parts = lake.rewrite(&table, limits).await.unwrap();
    let shape: Vec<_> = parts.iter().map(|part| (part.removed.len(), part.added.len(), part.rows)).collect();
    assert_eq!(shape, [(1, 1, 5)]);
    lake.land(&table, &parts, limits).await.unwrap();
    assert_eq!(lake.rows(&name).await, before);
    assert!(Plan::new(&open(&lake, &name).await.files().unwrap(), limits).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_append_meanwhile_is_no_obstacle() {
    let (lake, name) = small_files(true).await;
    let table = open(&lake, &name).await;
    let parts = lake.rewrite(&table, LIMITS).await.unwrap();
    // By the library, and by a merge of ours that replaces nothing.
    table.to_delta().await.unwrap().write(vec![batch([100], "theirs")]).await.unwrap();
    merge(&lake, &name, [101], "ours").await;
    let before = lake.rows(&name).await;
    let committed = lake.land(&table, &parts, LIMITS).await.unwrap();
    assert_eq!((committed.version, committed.already_applied), (4, false));
    assert_eq!(lake.rows(&name).await, before);
    assert_eq!(before.len(), 43);
    assert_eq!(open(&lake, &name).await.files().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_changed_meanwhile_are_left_out() {
    let (lake, name) = small_files(true).await;
    // Two groups, so that one of them can be kept.
    let table = open(&lake, &name).await;
    let files = table.files().unwrap();
    let largest = files.adds().iter().map(|add| add.size as u64).max().unwrap();
    let limits = Limits { target_bytes: largest * 2 + 200, retired_percent: 30 };
    let parts = lake.rewrite(&table, limits).await.unwrap();
    assert!(parts.len() > 1, "{parts:?}");
    merge(&lake, &name, [31], "newest").await;
    let before = lake.rows(&name).await;
    let error = lake.land(&table, &parts, limits).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert!(text(&error).contains("a.small (version 2)"), "{error}");

    let newer = open(&lake, &name).await;
    let all = parts.len();
    let (there, gone) = optimize::still_there(parts, &newer.files().unwrap());
    assert_eq!((there.len(), gone.len()), (all - 1, 1));
    lake.land(&newer, &there, limits).await.unwrap();
    assert_eq!(lake.rows(&name).await, before);

    // An overwrite leaves nothing to be kept.
    let table = open(&lake, &name).await;
    let parts = lake.rewrite(&table, LIMITS).await.unwrap();
    lake.overwrite(&name, vec![batch([1], "all")], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    assert_eq!(lake.land(&table, &parts, LIMITS).await.unwrap_err().code, Code::Conflict);
    assert!(optimize::still_there(parts, &open(&lake, &name).await.files().unwrap()).0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_was_planned_before_is_planned_again() {
    let (lake, name) = small_files(true).await;
    let stale = open(&lake, &name).await;
    let parts = lake.rewrite(&stale, LIMITS).await.unwrap();
    lake.land(&stale, &parts, LIMITS).await.unwrap();
    let files = lake.write(lake.spec(&name, &stale.schema(), &[]), vec![batch([1], "late")]).await.unwrap().files;
    let error = commit::append(&stale, files, &CommitLabel::default()).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    // Again, on the table as it is.
    merge(&lake, &name, [1], "late").await;
    assert_eq!(lake.rows(&name).await.len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_sorted_stays_so() {
    let lake = Lake { vectors: true, ..Lake::new() };
    let table = name("a.sorted");
    let label = CommitLabel { sort_by: vec!["v".to_string(), "k".to_string()], ..CommitLabel::default() };
    let files = vec![batch([5, 1, 9], "z"), batch([4, 2], "y"), batch([7, 3], "z")];
    lake.overwrite(&table, files, SchemaPolicy::Same, &label).await.unwrap();
    let opened = open(&lake, &table).await;
    assert_eq!(feature::sort_by(&opened), ["v", "k"]);
    let parts = lake.rewrite(&opened, LIMITS).await.unwrap();
    lake.land(&opened, &parts, LIMITS).await.unwrap();
    let path = lake.storage.path(&format!("tables/a/sorted/{}", parts[0].added[0].path));
    let bytes =
        object_store::ObjectStoreExt::get(lake.storage.store().as_ref(), &path).await.unwrap().bytes().await.unwrap();
    let rows = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let rows: Vec<RecordBatch> = rows.map(Result::unwrap).collect();
    let keys: Vec<i64> = rows
        .iter()
        .flat_map(|rows| rows["k"].as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec())
        .collect();
    assert_eq!((render(&rows).len(), keys), (7, vec![2, 4, 1, 3, 5, 7, 9]));

    // Another order, and none, which leaves it.
    let label = CommitLabel { sort_by: vec!["k".to_string()], ..CommitLabel::default() };
    lake.overwrite(&table, vec![batch([1], "a")], SchemaPolicy::Same, &label).await.unwrap();
    lake.overwrite(&table, vec![batch([2], "a")], SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    assert_eq!(feature::sort_by(&open(&lake, &table).await), ["k"]);
}
