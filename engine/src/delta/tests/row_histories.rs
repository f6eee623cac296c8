//! Merges that keep what rows were, against a plain model.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use proptest::{collection::btree_map, prelude::*, test_runner::Config};

use super::{Lake, clauses::lake, name, render};
use crate::{
    TableName,
    delta::{Clauses, clauses::History},
};

/// Rows of a day: since when, and value, by key.
type Delivery = BTreeMap<i64, (Option<i64>, Option<i64>)>;
/// What a history has of one key, oldest first: since when, until when, value.
type Past = BTreeMap<i64, Vec<(i64, Option<i64>, Option<i64>)>>;

fn delivery(rows: &Delivery) -> RecordBatch {
    let at = rows.values().map(|(at, _)| *at).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(rows.keys().copied().collect::<Int64Array>()) as ArrayRef, true),
        ("at", Arc::new(at) as ArrayRef, true),
        ("v", Arc::new(rows.values().map(|(_, v)| *v).collect::<Int64Array>()) as ArrayRef, true),
    ])
    .unwrap()
}

/// What a history does with a delivery; `by_column` takes the moments of `at`, else all are `moment`.
fn remember(past: &mut Past, rows: &Delivery, by_column: bool, moment: i64) -> (u64, u64, u64) {
    let (mut inserted, mut updated, mut ignored) = (0, 0, 0);
    for (key, (at, value)) in rows {
        let from = if by_column { at.unwrap_or(moment) } else { moment };
        let versions = past.entry(*key).or_default();
        match versions.last_mut() {
            None => {
                versions.push((from, None, *value));
                inserted += 1;
            }
            Some(last) if last.2 == *value || from < last.0 => ignored += 1,
            Some(last) if from == last.0 => {
                last.2 = *value;
                updated += 1;
            }
            Some(last) => {
                last.1 = Some(from);
                versions.push((from, None, *value));
                updated += 1;
            }
        }
    }
    (inserted, updated, ignored)
}

async fn replay_history(deliveries: Vec<Delivery>, by_column: bool, vectors: bool, changes: bool) {
    let lake = lake(vectors, changes);
    let table = name("test.past");
    let mut past = Past::new();
    let mut earlier = Vec::new();
    for (day, rows) in deliveries.iter().enumerate() {
        let moment = 10 * (day as i64 + 1);
        let valid_from = by_column.then(|| "at".to_string());
        let clauses = Clauses { history: Some(History { valid_from, at: moment, order: None }), ..Clauses::default() };
        let batch = delivery(rows);
        // `at` tells nothing here, so that only `v` makes a row another one.
        let batch = batch.project(if by_column { &[0, 1, 2] } else { &[0, 2] }).unwrap();
        let counts = lake.merge_by(&table, vec![batch.clone()], &["k"], &clauses).await.unwrap();
        let expected = remember(&mut past, rows, by_column, moment);
        if !by_column {
            assert_eq!((counts.inserted, counts.updated, counts.ignored), expected, "day {day}");
            let lines = lines_of(&past);
            assert_eq!(lake.rows(&table).await, lines, "day {day}");
            if changes && day > 0 {
                check_changes(&earlier, &lines, &lake.changes(&table).await);
            }
            earlier = lines;
        }
        // The same once more changes nothing.
        let again = lake.merge_by(&table, vec![batch], &["k"], &clauses).await.unwrap();
        assert_eq!((again.inserted, again.updated, again.ignored), (0, 0, rows.len() as u64), "day {day} again");
        check_past(&lake, &table).await;
    }
}

fn lines_of(past: &Past) -> Vec<String> {
    let moment =
        |at: i64| chrono::DateTime::from_timestamp_micros(at).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let mut lines: Vec<String> = past
        .iter()
        .flat_map(|(key, versions)| {
            versions.iter().map(move |(from, to, value)| {
                let value = value.map_or("NULL".to_string(), |value| value.to_string());
                let until = to.map_or("NULL".to_string(), moment);
                format!("{key}|{value}|{}|{until}|{}", moment(*from), to.is_none())
            })
        })
        .collect();
    lines.sort();
    lines
}

/// The changes turn the one into the other.
fn check_changes(before: &[String], after: &[String], changes: &[String]) {
    let mut rows = before.to_vec();
    let of = |kinds: [&str; 2]| {
        let rows = changes.iter().filter_map(move |line| line.split_once('|').filter(|(kind, _)| kinds.contains(kind)));
        rows.map(|(_, row)| row.to_string()).collect::<Vec<_>>()
    };
    for gone in of(["update_preimage", "delete"]) {
        let at = rows.iter().position(|row| *row == gone).unwrap_or_else(|| panic!("{gone} was not there: {rows:?}"));
        rows.remove(at);
    }
    rows.extend(of(["update_postimage", "insert"]));
    rows.sort();
    assert_eq!(rows, after);
}

/// Of every key one row is current, and each ends where the next begins.
async fn check_past(lake: &Lake, table: &TableName) {
    lake.rows(table).await;
    let sql = format!(
        "SELECT k FROM {table} GROUP BY k HAVING sum(CASE WHEN is_current THEN 1 ELSE 0 END) <> 1 \
         OR sum(CASE WHEN valid_to IS NULL THEN 1 ELSE 0 END) <> 1 OR sum(CASE WHEN valid_to <= valid_from THEN 1 ELSE 0 END) > 0 \
         UNION ALL SELECT a.k FROM {table} a LEFT JOIN {table} b ON a.k = b.k AND a.valid_to = b.valid_from \
         WHERE a.valid_to IS NOT NULL AND b.k IS NULL"
    );
    assert_eq!(render(&lake.sql(&sql).await.unwrap()), [""; 0], "{:?}", lake.rows(table).await);
}

proptest! {
    #![proptest_config(Config { cases: 8, ..Config::default() })]

    #[test]
    fn a_history_keeps_what_rows_were(
        deliveries in prop::collection::vec(
            btree_map(0i64..6, (prop::option::of(0i64..50), prop::option::of(0i64..3)), 1..6), 1..5),
        by_column in any::<bool>(), vectors in any::<bool>(), changes in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(replay_history(deliveries, by_column, vectors, changes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_values_and_nan_are_told_from_others_in_a_history() {
    use arrow::{
        array::{Float64Array, ListArray},
        datatypes::Int32Type,
    };
    let lake = lake(true, false);
    let table = name("test.nested");
    let batch = |last: i32| {
        let lists =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![Some(last)])]);
        RecordBatch::try_from_iter_with_nullable([
            ("k", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef, true),
            ("list", Arc::new(lists) as ArrayRef, true),
            ("n", Arc::new(Float64Array::from(vec![Some(f64::NAN), None])) as ArrayRef, true),
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None])) as ArrayRef, true),
        ])
        .unwrap()
    };
    for (day, last, expected) in [(1, 5, (2, 0)), (2, 5, (0, 0)), (3, 6, (0, 1))] {
        let clauses =
            Clauses { history: Some(History { valid_from: None, at: day, order: None }), ..Clauses::default() };
        let counts = lake.merge_by(&table, vec![batch(last)], &["k"], &clauses).await.unwrap();
        assert_eq!((counts.inserted, counts.updated), expected, "day {day}");
    }
}

/// A delivery with several rows of a key: key, since when, value; their order is that of the list.
type Changes = Vec<(i64, Option<i64>, i64)>;

fn changes(rows: &Changes, first: i64) -> RecordBatch {
    let at = rows.iter().map(|(_, at, _)| *at).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(rows.iter().map(|(k, ..)| *k).collect::<Int64Array>()) as ArrayRef, true),
        ("at", Arc::new(at) as ArrayRef, true),
        ("lsn", Arc::new(Int64Array::from_iter_values(first..first + rows.len() as i64)) as ArrayRef, true),
        ("v", Arc::new(rows.iter().map(|(.., v)| *v).collect::<Int64Array>()) as ArrayRef, true),
    ])
    .unwrap()
}

/// Each row by itself, one after the other.
async fn replay_changes(deliveries: Vec<Changes>, by_column: bool, vectors: bool) {
    let lake = lake(vectors, false);
    let table = name("test.changes");
    let mut past: BTreeMap<i64, Vec<(i64, Option<i64>, i64)>> = BTreeMap::new();
    for (day, rows) in deliveries.iter().enumerate() {
        let moment = 100 * (day as i64 + 1);
        let order = Some(("lsn".to_string(), true));
        let valid_from = by_column.then(|| "at".to_string());
        let clauses = Clauses { history: Some(History { valid_from, at: moment, order }), ..Clauses::default() };
        let batch = changes(rows, moment);
        let batch = batch.project(if by_column { &[0, 1, 2, 3] } else { &[0, 2, 3] }).unwrap();
        lake.merge_by(&table, vec![batch.clone()], &["k"], &clauses).await.unwrap();
        let mut ordered: Vec<(i64, i64, i64)> = Vec::new();
        for (key, at, value) in rows {
            let of_key = ordered.iter().filter(|(other, ..)| other == key).count() as i64;
            let from = if by_column { at.unwrap_or(moment) } else { moment + of_key };
            ordered.push((*key, from, *value));
        }
        ordered.sort_by_key(|(_, from, _)| *from);
        for (key, from, value) in ordered {
            let versions = past.entry(key).or_default();
            match versions.last_mut() {
                Some(last) if from < last.0 => {}
                Some(last) if from == last.0 => last.2 = value,
                last => {
                    if let Some(last) = last {
                        last.1 = Some(from);
                    }
                    versions.push((from, None, value));
                }
            }
        }
        lake.rows(&table).await;
        let sql = format!("SELECT k, unix_micros(valid_from) a, unix_micros(valid_to) b, is_current, v FROM {table}");
        let found = render(&lake.sql(&sql).await.unwrap());
        let mut expected: Vec<String> = past
            .iter()
            .flat_map(|(key, versions)| {
                versions.iter().map(move |(from, to, value)| {
                    let to_text = to.map_or("NULL".to_string(), |to| to.to_string());
                    format!("{key}|{from}|{to_text}|{}|{value}", to.is_none())
                })
            })
            .collect();
        expected.sort();
        assert_eq!(found, expected, "day {day}");
        // The same once more changes nothing.
        let counts = lake.merge_by(&table, vec![batch], &["k"], &clauses).await.unwrap();
        assert_eq!((counts.inserted, counts.ignored), (0, rows.len() as u64), "day {day} again");
        check_past(&lake, &table).await;
    }
}

proptest! {
    #![proptest_config(Config { cases: 8, ..Config::default() })]

    #[test]
    fn a_history_keeps_every_change_of_a_delivery(
        deliveries in prop::collection::vec(
            prop::collection::vec((0i64..3, prop::option::of(0i64..150), 0i64..3), 1..8), 1..4),
        vectors in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(replay_changes(deliveries, true, vectors));
    }
}
