//! Optimizations, alone and with others who write to the table meanwhile.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use deltalake_core::kernel::Action;

use super::{Lake, name, render, text};
use crate::{
    TableName,
    delta::{
        CommitLabel, DeltaWriteExec, SchemaPolicy, Table, WriteOutcome, catalog, commit, feature,
        optimize::{self, Limits, Plan},
        z_order::ZOrder,
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
        assert!(commit::is_optimized(&after, &[], LIMITS).await.unwrap());
        assert!(!commit::is_optimized(&after, &["k".to_string()], LIMITS).await.unwrap());
        let more = Limits { retired_percent: 1, ..LIMITS };
        assert!(!commit::is_optimized(&after, &[], more).await.unwrap(), "it may rewrite other files");
        assert!(!commit::is_optimized(&table, &[], LIMITS).await.unwrap());

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

#[tokio::test(flavor = "multi_thread")]
async fn a_z_order_narrows_each_of_its_columns() {
    let lake = Lake { vectors: true, ..Lake::new() };
    let name = name("a.z");
    let square = |from: i64| {
        let pairs: Vec<(i64, i64)> = (from..from + 16).flat_map(|a| (0..64).map(move |b| (a, b))).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("k", Arc::new(pairs.iter().map(|(a, b)| a * 64 + b).collect::<Int64Array>()) as ArrayRef, true),
            ("a", Arc::new(pairs.iter().map(|(a, _)| *a).collect::<Int64Array>()) as ArrayRef, true),
            (
                "b",
                Arc::new(pairs.iter().map(|(_, b)| Some(format!("b{b:02}"))).collect::<StringArray>()) as ArrayRef,
                true,
            ),
        ])
        .unwrap()
    };
    let batches = (0..4).map(|at| square(at * 16)).collect();
    lake.overwrite(&name, batches, SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
    let before = lake.rows(&name).await;

    let columns = ["a".to_string(), "b".to_string()];
    let table = open(&lake, &name).await;
    let files = table.files().unwrap();
    let limits = Limits { target_bytes: files.bytes().div_ceil(16), retired_percent: 30 };
    let sample = lake.query(&optimize::sample_plan(&table, &files, &columns).unwrap()).await.unwrap();
    let sample = arrow::compute::concat_batches(&sample[0].schema(), &sample).unwrap();
    assert_eq!(sample.num_rows(), 4096);
    let order = ZOrder::of_sample(&sample, &columns, optimize::files_needed(&files, limits)).unwrap();
    assert_eq!(order.ranges(), 16);
    let rows = optimize::scan_along(&table, &files, &lake.session.state(), order).await.unwrap();
    let write = DeltaWriteExec::try_new(rows, Arc::new(lake.spec(&name, &table.schema(), &[]))).unwrap();
    let written = WriteOutcome::collect(&lake.run(Arc::new(write)).await.unwrap()).unwrap();
    let parts = optimize::rewritten(&files, &Plan::everything(&files), &written).unwrap();
    assert_eq!((parts.len(), parts[0].rows, parts[0].added.len()), (1, 4096, 16));
    lake.land(&table, &parts, limits).await.unwrap();
    assert_eq!(lake.rows(&name).await, before);

    // Sixteen squares of 16 × 16: a value of either column is in four of them.
    for column in ["a", "b"] {
        let with = |value: serde_json::Value| {
            let value = value.to_string();
            let stats = parts[0].added.iter().map(|add| add.stats.as_deref().unwrap());
            let stats = stats.map(|stats| serde_json::from_str::<serde_json::Value>(stats).unwrap());
            let bound = |stats: &serde_json::Value, bound: &str| stats[bound][column].to_string();
            stats.filter(|stats| bound(stats, "minValues") <= value && value <= bound(stats, "maxValues")).count()
        };
        let value = if column == "a" { serde_json::json!(20) } else { serde_json::json!("b20") };
        assert!(with(value) <= 6, "{column}");
    }
}
