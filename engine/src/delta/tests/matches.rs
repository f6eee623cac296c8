//! What a merge reads to find the rows that it replaces, and that it finds them whatever the key's type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};

use super::{Lake, name};
use crate::delta::{
    CommitLabel, DataFiles, SchemaPolicy, Table, catalog,
    matching::{Found, Match},
    optimize::Limits,
    schema,
};

/// Makes keys out of numbers.
type Keys = fn(std::ops::Range<i64>) -> ArrayRef;

fn scattered(n: i64) -> i64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64)
}

fn rows(key: ArrayRef, value: &str) -> RecordBatch {
    let values: ArrayRef = Arc::new(StringArray::from(vec![value; key.len()]));
    RecordBatch::try_from_iter_with_nullable([("k", key, true), ("v", values, true)]).unwrap()
}

/// What a search of a table finds, for these keys or for rows that have others.
async fn search(lake: &Lake, table: &Table, keys: ArrayRef, inverted: bool, key_bytes: u64) -> Found {
    let batch = rows(keys, "new");
    let spec = lake.spec(table.name(), &schema::to_delta(&batch.schema()).unwrap(), &["k".to_string()]);
    let written = lake.write(spec, vec![batch]).await.unwrap();
    let columns = table.arrow_schema().unwrap();
    let source = DataFiles::try_new(table.name(), columns, Vec::new(), written.files).unwrap();
    let target = table.files().unwrap();
    let keys = ["k".to_string()];
    let search = Match {
        storage: &lake.storage,
        table: table.name(),
        target: &target,
        source: &source,
        keys: &keys,
        inverted,
        key_bytes,
    };
    let candidates = if inverted { (0..target.len()).collect() } else { target.overlapping(&source, &keys).unwrap() };
    search.found(&lake.run(search.plan(&candidates, 2).unwrap()).await.unwrap()).unwrap()
}

/// Row groups of a table that a search for these keys reads.
async fn groups_read(lake: &Lake, table: &Table, keys: ArrayRef) -> u64 {
    search(lake, table, keys, false, 1 << 20).await.groups_read
}

/// A table of one file with ten row groups of 100 rows.
async fn ten_groups(lake: &mut Lake, key: ArrayRef) -> Table {
    lake.settings.row_group_rows = 100;
    let table = name("t.groups");
    let keys = ["k".to_string()];
    let batch = rows(key, "old");
    let schema = schema::to_delta(&batch.schema()).unwrap();
    let written = lake.write(lake.spec(&table, &schema, &keys), vec![batch]).await.unwrap();
    let properties = Default::default();
    let label = CommitLabel::default();
    crate::delta::commit::create(&lake.storage, &table, &schema, &properties, written.files, &label).await.unwrap();
    catalog::open(&lake.storage, &table).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_are_passed_over_by_their_statistics() {
    let mut lake = Lake::new();
    let table = ten_groups(&mut lake, Arc::new((0..1000).collect::<Int64Array>())).await;
    let of = |keys: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(keys)) };
    assert_eq!(groups_read(&lake, &table, of(vec![150])).await, 1);
    assert_eq!(groups_read(&lake, &table, of(vec![199, 201])).await, 2);
    assert_eq!(groups_read(&lake, &table, of(vec![1000])).await, 0);
    assert_eq!(groups_read(&lake, &table, of(vec![0, 999])).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_are_passed_over_by_their_bloom_filters() {
    let numbers: Keys = |range| Arc::new(range.map(scattered).collect::<Int64Array>());
    let texts: Keys = |range| Arc::new(range.map(|n| Some(format!("{:016x}", scattered(n)))).collect::<StringArray>());
    for keys in [numbers, texts] {
        let mut lake = Lake::new();
        lake.settings.key_bloom_fpp = 0.0001;
        let table = ten_groups(&mut lake, keys(0..1000)).await;
        assert_eq!(groups_read(&lake, &table, keys(5000..5100)).await, 0, "none of 100 keys");
        assert_eq!(groups_read(&lake, &table, keys(250..251)).await, 1);
        assert_eq!(groups_read(&lake, &table, keys(0..1000)).await, 10);
        let mut lake = Lake::new();
        let table = ten_groups(&mut lake, keys(0..1000)).await;
        assert_eq!(groups_read(&lake, &table, keys(5000..5100)).await, 10, "without filters");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn optimized_files_keep_their_bloom_filters() {
    for (fpp, groups) in [(0.0001, 0), (0.0, 1)] {
        let mut lake = Lake::new();
        lake.settings.key_bloom_fpp = fpp;
        let (table, label) = (name("t.optimized"), CommitLabel::default());
        let of = |range: std::ops::Range<i64>| -> ArrayRef { Arc::new(range.map(scattered).collect::<Int64Array>()) };
        lake.overwrite(&table, vec![rows(of(0..500), "old")], SchemaPolicy::Same, &label).await.unwrap();
        lake.merge(&table, vec![rows(of(500..1000), "old")], &["k"], SchemaPolicy::Same, &label).await.unwrap();
        let limits = Limits { target_bytes: 1 << 20, retired_percent: 30 };
        let merged = catalog::open(&lake.storage, &table).await.unwrap();
        let parts = lake.rewrite(&merged, limits).await.unwrap();
        lake.land(&merged, &parts, limits).await.unwrap();
        let table = catalog::open(&lake.storage, &table).await.unwrap();
        assert_eq!(table.files().unwrap().len(), 1);
        assert_eq!(groups_read(&lake, &table, of(5000..5100)).await, groups, "none of 100 keys");
        assert_eq!(groups_read(&lake, &table, of(250..251)).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_in_many_turns_as_in_one() {
    let numbers: Keys = |range| Arc::new(range.map(|n| (n % 7 > 0).then_some(n)).collect::<Int64Array>());
    let texts: Keys = |range| Arc::new(range.map(|n| (n % 7 > 0).then(|| n.to_string())).collect::<StringArray>());
    for keys in [numbers, texts] {
        let (lake, table) = (Lake::new(), name("t.turns"));
        let batches = vec![rows(keys(0..500), "old"), rows(keys(500..1000), "old")];
        lake.overwrite(&table, batches, SchemaPolicy::Same, &CommitLabel::default()).await.unwrap();
        let table = catalog::open(&lake.storage, &table).await.unwrap();
        let asked =
            arrow::compute::filter(&keys(400..700), &arrow::compute::is_not_null(&keys(400..700)).unwrap()).unwrap();
        // Of 1,000 rows 143 have no key, and of the 300 that are asked for 42.
        for (inverted, rows) in [(false, 258), (true, 742)] {
            let at_once = search(&lake, &table, asked.clone(), inverted, 1 << 20).await;
            assert_eq!(at_once.files.iter().map(|file| file.matched).sum::<u64>(), rows);
            let in_turns = search(&lake, &table, asked.clone(), inverted, 1000).await;
            let found = |found: &Found| found.files.iter().map(|file| (file.matched, file.left)).collect::<Vec<_>>();
            assert_eq!((found(&in_turns), in_turns.groups_read), (found(&at_once), at_once.groups_read));
            assert_eq!((at_once.duplicates, in_turns.duplicates), (0, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type_are_found() {
    let columns: [Keys; 8] = [
        |range| Arc::new(range.map(|n| n as i16).collect::<Int16Array>()),
        |range| Arc::new(range.map(|n| n as i32).collect::<Int32Array>()),
        |range| Arc::new(range.map(|n| n << 40).collect::<Int64Array>()),
        |range| Arc::new(range.map(|n| Some(format!("k{n}"))).collect::<StringArray>()),
        |range| Arc::new(range.map(|n| Some(format!("b{n}").into_bytes())).collect::<BinaryArray>()),
        |range| Arc::new(Date32Array::from_iter_values(range.map(|n| n as i32))),
        |range| {
            let micros = TimestampMicrosecondArray::from_iter_values(range.map(|n| n * 1_234_567));
            Arc::new(micros.with_timezone("UTC"))
        },
        |range| {
            let numbers = Decimal128Array::from_iter_values(range.map(|n| i128::from(n) << 60));
            Arc::new(numbers.with_precision_and_scale(38, 7).unwrap())
        },
    ];
    for (at, keys) in columns.into_iter().cycle().take(16).enumerate() {
        // The second time in turns.
        let mut lake = Lake { vectors: at % 2 == 0, key_bytes: if at < 8 { 1 << 20 } else { 100 }, ..Lake::new() };
        lake.settings.key_bloom_fpp = 0.001;
        let (table, label) = (name("t.types"), CommitLabel::default());
        lake.overwrite(&table, vec![rows(keys(0..50), "old"), rows(keys(50..100), "old")], SchemaPolicy::Same, &label)
            .await
            .unwrap();
        let (_, counts) = lake
            .merge(
                &table,
                vec![rows(keys(40..60), "new"), rows(keys(100..103), "new")],
                &["k"],
                SchemaPolicy::Same,
                &label,
            )
            .await
            .unwrap();
        assert_eq!((counts.updated, counts.inserted), (20, 3), "{}", keys(0..1).data_type());
        let found = lake.rows(&table).await;
        assert_eq!((found.len(), found.iter().filter(|row| row.ends_with("|new")).count()), (103, 23));
    }
    // Booleans have two values.
    let (lake, table, label) = (Lake::new(), name("t.bool"), CommitLabel::default());
    let of = |keys: Vec<bool>| -> ArrayRef { Arc::new(BooleanArray::from(keys)) };
    lake.overwrite(&table, vec![rows(of(vec![true]), "old")], SchemaPolicy::Same, &label).await.unwrap();
    let both = vec![rows(of(vec![true, false]), "new")];
    let (_, counts) = lake.merge(&table, both, &["k"], SchemaPolicy::Same, &label).await.unwrap();
    assert_eq!((counts.updated, counts.inserted), (1, 1));
}
