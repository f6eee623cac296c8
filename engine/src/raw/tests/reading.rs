//! What reading a delivery gives, and what it refuses.

use arrow::datatypes::DataType;

use super::*;
use crate::{error::Code, raw::source::of_config, sql::parse_schema};

#[tokio::test]
async fn every_layout_of_json_reads_the_same() {
    let records = [
        r#"{"id": 1, "o": {"s": "a,b]"}}"#,
        r#"{"id": 2.5, "l": [1, 2]}"#,
        r#"{"id": 3, "o": {"s": null, "t": true}}"#,
    ];
    let array = format!("\u{feff}[\n  {}\n]\n", records.join(",\r\n  "));
    for text in
        [array, records.join("\n"), records.join(""), records.map(|r| r.replace(", ", ",\n  ")).join("\r\n\r\n")]
    {
        for split_size in [1, 30, 1 << 20] {
            let world = World::new(3);
            let rows = world
                .read("x.json", text.as_bytes(), split_size, "SELECT id, l, o FROM raw ORDER BY id")
                .await
                .unwrap();
            assert_eq!(rows, "1.0||{s: a,b], t: }\n2.5|[1, 2]|\n3.0||{s: , t: true}", "{text}");
        }
    }
}

#[tokio::test]
async fn csv_is_read_as_strings_with_nulls() {
    let text = "\u{feff}a,b,c\r\n1,,\"\"\r\n\r\n\"x\r\ny\",\" q\"\"q \",é\r\n";
    for split_size in [1, 1 << 20] {
        let sql = "SELECT replace(a, '\r\n', '~') AS a, b IS NULL, b, c IS NULL, c FROM raw ORDER BY c";
        let rows = World::new(2).read("x.csv", text.as_bytes(), split_size, sql).await.unwrap();
        assert_eq!(rows, "1|true||false|\nx~y|false|q\"q|false|é", "{rows:?}");
    }
}

#[tokio::test]
async fn a_declared_csv_schema_is_cast() {
    let world = World::new(2);
    let manifest = world.deliver("x.csv", b"title,pages\nA,12\nB,\nC,twelve\n", 8).await;
    let declared = parse_schema("title STRING, pages INT").unwrap();
    world.register(&manifest, Some(&declared)).await.unwrap();
    let error = world.rows("SELECT sum(pages) FROM raw").await.unwrap_err();
    assert_eq!(error.code, Code::BadRecord);
    assert!(error.message.contains("line 4, column 1, field `pages`") && error.message.contains("twelve"), "{error}");
    assert_eq!(as_text(&world.rows("SELECT count(*) FROM raw").await.unwrap()), "3");

    let manifest = world.deliver("y.csv", b"title,pages\nA,12\nB,\n", 8).await;
    world.register(&manifest, Some(&declared)).await.unwrap();
    assert_eq!(as_text(&world.rows("SELECT sum(pages) FROM raw").await.unwrap()), "12");
    let other = parse_schema("title STRING, page INT").unwrap();
    assert_eq!(world.register(&manifest, Some(&other)).await.unwrap_err().code, Code::SchemaMismatch);
}

#[tokio::test]
async fn parquet_is_read_by_ranges() {
    use datafusion::parquet::{arrow::ArrowWriter, file::properties::WriterProperties};

    let world = World::new(3);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10)).build();
    let rows =
        world.session.sql("SELECT value AS n, CAST(value AS VARCHAR) AS s FROM generate_series(1, 95)").await.unwrap();
    let batches = rows.collect().await.unwrap();
    let mut text = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut text, batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
    let sums = world.read("x.parquet", &text, 100, "SELECT count(*), sum(n), max(length(s)) FROM raw").await.unwrap();
    assert_eq!(sums, "95|4560|2");
    text.truncate(text.len() - 10);
    assert_eq!(world.refusal("cut.parquet", &text, 100).await.code, Code::BadRecord);
    assert_eq!(world.refusal("empty.parquet", b"", 100).await.code, Code::EmptySource);
}

#[tokio::test]
async fn malformed_text_is_refused_with_its_place() {
    let good = "{\"id\": 1},\n ";
    let cases = [
        ("x.json", format!("[{good}{{\"id\": 2}},\n {{\"id\": 3"), "line 3, column 10: the text ends inside a record"),
        ("x.json", format!("[{good}{{\"id\": 2}}"), "line 2, column 11: the text ends before the array does"),
        ("x.json", format!("[{good}{{\"id\": 2}}] tail"), "line 2, column 13: found text after the end of the array"),
        (
            "x.json",
            format!("[{good}{{\"id\" 2}}]"),
            "line 2, column 8: found the number 2, expected `:` after the field name",
        ),
        (
            "x.json",
            format!("[{good}{{\"id\": 2}} {{}}]"),
            "line 2, column 12: found an object, expected `,` or `]` after a record",
        ),
        ("x.json", format!("[{good}]"), "line 2, column 2: found `]`, expected a record"),
        ("x.json", format!("[{good}17]"), "line 2, column 2: found the number 17, expected an object"),
        ("x.json", "hello".to_string(), "line 1, column 1: found `h`, expected an object"),
        ("x.json", "{\"a\": \"\\ud800\"}".to_string(), ""),
        ("x.csv", "a,b\n1,2\n3\n".to_string(), "line 3, column 1: found a record of 1 fields, the header has 2"),
        ("x.csv", "a,b\n1,\"2\n3,4\n".to_string(), "line 2, column 3: found a quote that is never closed"),
        ("x.csv", "a,b,a\n1,2,3\n".to_string(), "line 1: the header has `a` twice"),
    ];
    for (name, text, place) in cases {
        // The place is the same whatever the split plan.
        for split_size in [1, 7, 1 << 20] {
            let error = World::new(2).refusal(name, text.as_bytes(), split_size).await;
            assert_eq!(error.code, Code::BadRecord, "{text}: {error}");
            assert!(error.message.contains(place) && error.message.contains("test.delivery@"), "{text}: {error}");
            assert!(error.message.contains(name), "{text}: {error}");
        }
    }
}

#[tokio::test]
async fn a_type_conflict_names_the_field_and_line() {
    let world = World::new(2);
    let manifest =
        world.deliver("x.json", b"{\"o\": {\"n\": 1}}\n{\"o\": {\"n\": 2}}\n{\"o\":\n {\"n\": \"three\"}}\n", 1).await;
    let declared = parse_schema("o STRUCT<n: BIGINT>").unwrap();
    world.register(&manifest, Some(&declared)).await.unwrap();
    let error = world.rows("SELECT sum(o['n']) FROM raw").await.unwrap_err();
    assert_eq!(error.code, Code::BadRecord);
    assert!(
        error.message.contains("line 4, column 8, field `o.n`: found a string, expected a whole number"),
        "{error}"
    );
    // Nobody asks for the field here.
    assert_eq!(as_text(&world.rows("SELECT count(*) FROM raw").await.unwrap()), "3");
}

#[tokio::test]
async fn what_holds_no_record_is_empty() {
    for (name, text) in
        [("x.json", ""), ("x.json", " \n"), ("x.json", "[]"), ("x.json", "[{},{}]"), ("x.csv", ""), ("x.csv", "\n\n")]
    {
        assert_eq!(World::new(2).refusal(name, text.as_bytes(), 64).await.code, Code::EmptySource, "{name} {text:?}");
    }
    assert_eq!(World::new(2).read("x.csv", b"a,b\n", 64, "SELECT count(a) FROM raw").await.unwrap(), "0");
    let world = World::new(2);
    let manifest = world.deliver("x.json", b" [ ] ", 64).await;
    world.register(&manifest, Some(&parse_schema("a INT").unwrap())).await.unwrap();
    assert_eq!(as_text(&world.rows("SELECT count(a) FROM raw").await.unwrap()), "0");
}

#[tokio::test]
async fn a_record_may_be_longer_than_reads_and_splits() {
    let long = "é\\\"".repeat(5 << 18);
    let text = format!("[{{\"s\":\"{long}\"}},{{\"s\":\"b\"}},{{\"s\":\"{long}\"}}]");
    let rows = World::new(2)
        .read("x.json", text.as_bytes(), 1 << 20, "SELECT sum(length(s)), count(*) FROM raw")
        .await
        .unwrap();
    assert_eq!(rows, format!("{}|3", 4 * (5 << 18) + 1));
    let text = format!("s,n\n\"{}\",1\n", "x\n".repeat(5 << 19));
    let rows = World::new(2)
        .read("x.csv", text.as_bytes(), 1 << 20, "SELECT sum(length(s)), count(*) FROM raw")
        .await
        .unwrap();
    assert_eq!(rows, format!("{}|1", 5 << 20));
}

#[tokio::test]
async fn only_used_fields_are_materialised() {
    let world = World::new(1);
    let text = br#"{"id": 1, "o": {"a": {"x": 1, "y": 2}, "b": "unused"}, "l": [{"k": 1, "v": 2}], "u": 5}"#;
    world.register(&world.deliver("x.json", text, 64).await, None).await.unwrap();
    let sql = "SELECT o['a']['x'] + id AS s, array_transform(l, e -> e['k']) AS k FROM raw WHERE o['a']['x'] > 0";
    assert_eq!(as_text(&world.rows(sql).await.unwrap()), "2|[1]");
    let plan = world.plan(sql).await.unwrap();
    let pruned = crate::raw::tests::codec::leaves(&plan)
        .into_iter()
        .find_map(|leaf| of_config(leaf.data_source().as_ref()).map(|(_, source)| source.pruned().unwrap()))
        .unwrap();
    let o = pruned.field_with_name("o").unwrap().data_type().to_string();
    assert!(o.contains("\"x\"") && !o.contains("\"y\"") && !o.contains("\"b\""), "{o}");
    assert!(pruned.field_with_name("u").is_err());
    assert!(matches!(pruned.field_with_name("l").unwrap().data_type(), DataType::List(_)));
}

#[tokio::test]
async fn every_byte_is_read_once() {
    let world = World::new(3);
    let text = format!("[{}]", vec![r#"{"id": 1}"#; 1000].join(",\n"));
    world.register(&world.deliver("x.json", text.as_bytes(), 500).await, None).await.unwrap();
    let plan = world.plan("SELECT id FROM raw").await.unwrap();
    let rows: usize =
        collect(plan.clone(), world.session.task_ctx()).await.unwrap().iter().map(RecordBatch::num_rows).sum();
    let metrics = codec::leaves(&plan)[0].metrics().unwrap();
    let bytes = metrics.sum_by_name("bytes_scanned").map(|bytes| bytes.as_usize());
    assert_eq!((rows, bytes), (1000, Some(text.len())));
}
