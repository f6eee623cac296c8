//! Rows that are sorted out on their way into a table.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray};
use object_store::ObjectStoreExt;

use super::*;
use crate::{
    delta::{
        Txn,
        quarantine::{self, BadRows},
        write::{KEEP_COLUMN, LATEST_COLUMN, REASON_COLUMN, check_column},
    },
    error::Code,
    raw::places::{LENGTH_COLUMN, LINE_COLUMN, OFFSET_COLUMN, PART_COLUMN},
};

/// Rows, each with its `k`, reason, keep, latest, failed check, and place: part, offset, length.
type Row<'a> = (i64, Option<&'a str>, bool, bool, Option<&'a str>, Option<(&'a str, i64, i64)>);

fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let texts =
        |text: fn(&Row<'_>) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(text).collect::<StringArray>()) };
    let longs =
        |long: fn(&Row<'_>) -> Option<i64>| -> ArrayRef { Arc::new(rows.iter().map(long).collect::<Int64Array>()) };
    let flags = |flag: fn(&Row<'_>) -> bool| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(flag(row))).collect::<BooleanArray>())
    };
    let check = check_column(0);
    RecordBatch::try_from_iter_with_nullable([
        ("k", longs(|row| Some(row.0)), true),
        (REASON_COLUMN, texts(|row| row.1.map(str::to_string)), true),
        (KEEP_COLUMN, flags(|row| row.2), true),
        (LATEST_COLUMN, flags(|row| row.3), true),
        (&check, texts(|row| row.4.map(str::to_string)), true),
        (PART_COLUMN, texts(|row| row.5.map(|(part, ..)| part.to_string())), true),
        (OFFSET_COLUMN, longs(|row| row.5.map(|(_, offset, _)| offset)), true),
        (LENGTH_COLUMN, longs(|row| row.5.map(|(.., length)| length)), true),
        (LINE_COLUMN, longs(|row| row.5.map(|(_, offset, _)| offset + 1)), true),
    ])
    .unwrap()
}

fn spec(lake: &Lake, table: &TableName) -> WriteSpec {
    let schema = batch(&[]).schema().project(&[0]).unwrap();
    let bad_rows = BadRows {
        table: quarantine::table_of(table).unwrap(),
        folder: lake.storage.path("raw/a.s/v").to_string(),
        source: "a.s".parse().unwrap(),
        version: "20261122T201533123Z".parse().unwrap(),
        job_id: "job".to_string(),
        at: 1_700_000_000_000_000,
    };
    let schema = schema::to_delta(&schema).unwrap();
    WriteSpec { checks: 1, bad_rows: Some(bad_rows), ..lake.spec(table, &schema, &["k".to_string()]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_written_dropped_superseded_or_put_aside_with_its_text() {
    let lake = Lake::new();
    let table = name("t.sorted");
    // Far apart, and one record that is longer than what is kept of it.
    let mut text = vec![b' '; 6 << 20];
    text[10..13].copy_from_slice(b"one");
    text[20..24].copy_from_slice(b"tw\xffo");
    let long = 3 << 20;
    text[long..].fill(b'x');
    let part = lake.storage.path("raw/a.s/v/part-00000.json");
    lake.storage.store().put(&part, text.into()).await.unwrap();
    let stored = crate::raw::Part { path: "part-00000.json".to_string(), bytes: 6 << 20, ..Default::default() };
    let (source, version) = ("a.s".parse().unwrap(), "20261122T201533123Z".parse().unwrap());
    let format = crate::raw::RawFormat::Json;
    let manifest = crate::raw::Manifest::new(source, version, "file:///x".to_string(), format, vec![stored]);
    let path = lake.storage.path("raw/a.s/v/_manifest.json");
    lake.storage.store().put(&path, manifest.to_json().unwrap().into()).await.unwrap();
    let at = |offset: usize, length: usize| Some(("part-00000.json", offset as i64, length as i64));
    let rows = [
        (1, None, true, true, None, at(0, 3)),
        (2, Some("malformed: not this"), true, true, Some("not counted"), at(long, 3 << 20)),
        (3, None, false, true, None, at(0, 3)),
        (4, None, true, false, Some("check: failed"), at(5, 3)),
        (5, Some("malformed: nor this"), false, true, None, at(20, 4)),
        (6, None, true, true, Some("check: failed"), at(7, 3)),
        (7, Some("no place"), true, true, None, None),
        (8, Some("field `a`: wrong"), true, true, None, at(10, 3)),
    ];
    let outcome = lake.write(spec(&lake, &table), vec![batch(&rows[..3]), batch(&rows[3..])]).await.unwrap();
    let summary = &outcome.summary;
    let counts = [summary.rows_in, summary.rows_written, summary.rows_dropped, summary.rows_superseded];
    assert_eq!((counts, summary.rows_quarantined), ([8, 2, 1, 1], 4));
    let reasons: Vec<_> = summary.reasons.iter().map(|(reason, rows)| (reason.as_str(), *rows)).collect();
    assert_eq!(reasons, [("field `a`", 1), ("malformed", 2), ("no place", 1)]);
    let example = format!("part-00000.json, line {}: malformed: not this", long + 1);
    assert!(summary.bad_examples.len() == 4 && summary.bad_examples.contains(&example), "{:?}", summary.bad_examples);
    let check = &summary.checks[0];
    assert!(check.examples.contains(&"part-00000.json, line 6: check: failed".to_string()), "{:?}", check.examples);
    assert_eq!((check.rows, check.examples.len()), (2, 2));

    // The quarantine gets them once, however often the same work is done.
    let quarantine = quarantine::table_of(&table).unwrap();
    assert_eq!(quarantine.to_string(), "quarantine.t_sorted");
    let txn = Some(Txn { app_id: "a".to_string(), version: 1 });
    let label = CommitLabel { txn, ..CommitLabel::default() };
    let columns = quarantine::columns().unwrap();
    commit::create(&lake.storage, &quarantine, &columns, &Default::default(), outcome.bad_files.clone(), &label)
        .await
        .unwrap();
    let base = Table::require(&lake.storage, &quarantine).await.unwrap();
    let again = commit::append(&base, outcome.bad_files.clone(), &label).await.unwrap();
    assert_eq!(again, Committed { version: 0, already_applied: true });
    let told = lake.rows(&quarantine).await;
    assert_eq!(told.len(), 4);
    let sql = "SELECT byte_offset, line, reason, length(raw), substr(raw, 1, 12), quarantined_at, job_id, file FROM quarantine.t_sorted ORDER BY 1";
    let catalog: BTreeSet<TableName> = [quarantine.clone()].into();
    catalog::register(&lake.session, &lake.storage, &catalog).await.unwrap();
    let told = render(&lake.sql(sql).await.unwrap());
    let expected = [
        "10|11|field `a`: wrong|3|one|2023-11-14T22:13:20Z|job|file:///x".to_string(),
        "20|21|malformed: nor this|4|tw\u{fffd}o|2023-11-14T22:13:20Z|job|file:///x".to_string(),
        format!("{long}|{}|malformed: not this|1048576|xxxxxxxxxxxx|2023-11-14T22:13:20Z|job|file:///x", long + 1),
        "NULL|NULL|no place|6|{k: 7}|2023-11-14T22:13:20Z|job|NULL".to_string(),
    ];
    assert_eq!(told.len(), expected.len());
    for line in expected {
        assert!(told.contains(&line), "{line} is not in {told:?}");
    }

    // Later work is added.
    let label = CommitLabel { txn: Some(Txn { app_id: "b".to_string(), version: 1 }), ..CommitLabel::default() };
    let more = lake.write(spec(&lake, &table), vec![batch(&rows[6..])]).await.unwrap();
    let committed = commit::append(&base, more.bad_files, &label).await.unwrap();
    assert_eq!(committed, Committed { version: 1, already_applied: false });
    assert_eq!(lake.rows(&quarantine).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_without_a_quarantine_is_an_error_and_leaves_no_file() {
    let lake = Lake::new();
    let table = name("t.none");
    let rows = [(1, None, true, true, None, None), (2, Some("bad"), true, true, None, None)];
    let error = lake.write(WriteSpec { bad_rows: None, ..spec(&lake, &table) }, vec![batch(&rows)]).await.unwrap_err();
    assert_eq!(error.code, Code::Internal, "{error}");
    let left = lake.storage.store().list_with_delimiter(Some(&lake.storage.table_path(&table))).await;
    assert!(left.map_or(true, |left| left.objects.is_empty()));
}
