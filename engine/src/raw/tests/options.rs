//! Text that is written otherwise: dialects of CSV, encodings, NULLs.

use super::{
    adopted::{adopt_as, put},
    *,
};
use crate::{error::Code, sql::parse_schema};

fn options(given: GivenOptions) -> TextOptions {
    given.over(&TextOptions::default()).unwrap()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialect_is_kept_with_the_version_and_read_in_parallel() {
    let rows: String = (0..500).map(|n| format!("{n};'a;\\'\n{n}\\\\';NA\n")).collect();
    let text = format!("id;t;x\n{rows}");
    let given = GivenOptions {
        delimiter: some(";"),
        quote: some("'"),
        escape: some("\\"),
        null_value: some("NA"),
        ..GivenOptions::default()
    };
    let world = World::new(4);
    let manifest = world.deliver_as("x.csv", text.as_bytes(), options(given.clone()), 1000, CopyPolicy::Off).await;
    let manifest = manifest.unwrap();
    assert_eq!((manifest.format_version, manifest.records()), (3, Some(500)));
    assert!(manifest.parts[0].splits.len() > 5);
    let kept = world.zone.get(&source(), None).await.unwrap();
    assert_eq!(kept, manifest);
    world.register(&kept, None).await.unwrap();
    let sql =
        "SELECT count(*), count(x), min(replace(t, chr(10), ' ')), count(DISTINCT t), sum(CAST(id AS BIGINT)) FROM raw";
    assert_eq!(as_text(&world.rows(sql).await.unwrap()), "500|0|a;' 0\\|500|124750");
    // As others put it there.
    let version = put(&world, &[("x.csv", text.as_bytes())]);
    let (adopted, plans) = adopt_as(&world, &version, options(given), 1000, CopyPolicy::Off).await.unwrap();
    assert_eq!(plans.len(), 2);
    let parts = |manifest: &Manifest| (manifest.parts[0].splits.clone(), manifest.parts[0].records);
    assert_eq!(parts(&adopted), parts(&manifest));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_reading_than_the_download_knew_is_right_in_one_piece() {
    let text: String = (0..200).map(|n| format!("{n};\"x,\n{n}\"\n")).collect();
    let world = World::new(3);
    let manifest = world.deliver("x.csv", text.as_bytes(), 200).await;
    let given = GivenOptions { delimiter: some(";"), header: Some(false), ..GivenOptions::default() };
    let manifest = manifest.clone().read_with(given.over(&manifest.options).unwrap()).unwrap();
    assert_eq!(manifest.records(), None);
    let declared = parse_schema("id INT, t STRING").unwrap();
    world.register(&manifest, Some(&declared)).await.unwrap();
    let sql = "SELECT count(*), sum(id), count(DISTINCT t) FROM raw";
    assert_eq!(as_text(&world.rows(sql).await.unwrap()), "200|19900|200");
    world.register(&manifest, None).await.unwrap();
    assert_eq!(as_text(&world.rows("SELECT max(_c0), count(_c1) FROM raw").await.unwrap()), "99|200");
    let narrow = parse_schema("id INT").unwrap();
    let error = world.register(&manifest, Some(&narrow)).await.unwrap_err();
    assert_eq!(error.code, Code::SchemaMismatch);
    assert!(error.message.contains("records of 2 fields; its declared schema has 1"), "{error}");
    let encoded = GivenOptions { encoding: some("latin1"), ..GivenOptions::default() };
    let error = manifest.clone().read_with(encoded.over(&manifest.options).unwrap()).unwrap_err();
    assert!(error.message.contains("came as UTF-8, and is to be read as ISO-8859-1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_decoded_whatever_is_around_them() {
    let text: String = "id,t\n".to_string() + &(0..500).map(|n| format!("{n},\"é\n{n}€\"\n")).collect::<String>();
    let json: String = (0..500).map(|n| format!("{{\"id\": {n}, \"t\": \"é{n}€\"}}\n")).collect();
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let marked = |text: &str| [b"\xff\xfe".as_slice(), &utf16(text)].concat();
    let in_1252 = |text: &str| -> Vec<u8> {
        let byte = |c: char| if c == '€' { 0x80 } else { u8::try_from(u32::from(c)).unwrap() };
        text.chars().map(byte).collect()
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    for (name, bytes, encoding) in [
        ("x.csv", marked(&text), None),
        ("x", marked(&json), None),
        ("x.csv", utf16(&text), Some("UTF-16LE")),
        ("x.csv", in_1252(&text), Some("windows-1252")),
        ("x.json", in_1252(&json), Some("cp1252")),
        ("x.csv.gz", gzip(&in_1252(&text)), Some("windows-1252")),
        ("x.json.gz", gzip(&marked(&json)), None),
    ] {
        for copy in [CopyPolicy::Off, CopyPolicy::Compressed] {
            let world = World::new(3);
            let options = options(GivenOptions { encoding: encoding.map(str::to_string), ..GivenOptions::default() });
            let manifest = world.deliver_as(name, &bytes, options.clone(), 1000, copy).await.unwrap();
            let part = &manifest.parts[0];
            let decoded = if manifest.format == RawFormat::Csv { &text } else { &json };
            assert_eq!((part.text_bytes(), part.records), (decoded.len() as u64, Some(500)), "{name} {encoding:?}");
            assert_eq!((manifest.format_version, part.copy.is_some()), (3, copy != CopyPolicy::Off));
            assert_eq!(world.stored()[&part.path], bytes);
            world.register(&manifest, None).await.unwrap();
            let sql = "SELECT count(*), count(DISTINCT t), max(CAST(id AS BIGINT)), min(strpos(t, '€') > 0) FROM raw";
            assert_eq!(as_text(&world.rows(sql).await.unwrap()), "500|500|499|true", "{name} {encoding:?} {copy:?}");
            let version = put(&world, &[(name, &bytes)]);
            let (adopted, _) = adopt_as(&world, &version, options, 1000, copy).await.unwrap();
            assert_eq!(adopted.parts[0].splits, part.splits);
        }
    }
    let world = World::new(1);
    let wrong = options(GivenOptions { encoding: some("utf-16le"), ..GivenOptions::default() });
    let error = world.deliver_as("x.csv", b"id\n1\n", wrong, 64, CopyPolicy::Off).await.unwrap_err();
    assert_eq!(error.code, Code::DownloadFailed, "{error}");
    let latin = [b"a\xe9\n1\n".as_slice()].concat();
    let error = World::new(1).refusal("x.csv", &latin, 64).await;
    assert!(error.message.contains("field 1 is not UTF-8") && error.hint.contains("`encoding`"), "{error}");
}

#[tokio::test]
async fn backslashes_before_quotes_never_pass_unnoticed() {
    for text in [
        "a,b\n1,\"say \\\"hi\\\" x\"\n",
        "a,b\n1,\"say \\\" x\"\n",
        "a,b\n1,\"say \\\" \"\n",
        "a,b\n\"x \\\", y\", z\\\"\n",
        "a,b\n1,\"x \\\", y \\\" z\"\n",
        "a,b\n1,\"x \\\"\ny\\\" z\",2\n",
        "a,b\n1,\"x\"y\n",
    ] {
        let error = World::new(2).refusal("x.csv", text.as_bytes(), 64).await;
        assert_eq!(error.code, Code::BadRecord, "{text}");
        assert!(error.message.contains("line 2") || error.message.contains("line 3"), "{text} {error}");
        assert!(error.message.contains("`escape: '\\'`") || !text.contains('\\'), "{text} {error}");
    }
    // All of it is right by RFC 4180.
    let text = "a,b\n\"C:\\dir\\\",5\" disk\n\"x\" ,\"y\"\t\n\"C:\\\",\"say \"\"hi\"\"\"\n";
    let read = World::new(2).read("x.csv", text.as_bytes(), 64, "SELECT concat(a, ';', b) FROM raw").await;
    assert_eq!(read.unwrap_err().code, Code::BadRecord, "a quote in a field beside one that ends with a backslash");
    let text = text.replace("5\" disk", "5 disk");
    let read = World::new(2).read("x.csv", text.as_bytes(), 64, "SELECT concat(a, ';', b) FROM raw").await.unwrap();
    assert_eq!(read, "C:\\dir\\;5 disk\nx;y\nC:\\;say \"hi\"");
    // And what is escaped is what Spark reads, but that two quotes are one.
    let escaped = options(GivenOptions { escape: some("\\"), ..GivenOptions::default() });
    let text = r#"a,b
1,"say \"hi\" x"
2,"x\\"
3,"y\\z\n\q"
4,"say ""hi"""
5,x\"y
"#;
    let world = World::new(2);
    let manifest = world.deliver_as("x.csv", text.as_bytes(), escaped, 16, CopyPolicy::Off).await.unwrap();
    world.register(&manifest, None).await.unwrap();
    let read = as_text(&world.rows("SELECT b FROM raw ORDER BY a").await.unwrap());
    assert_eq!(read, "say \"hi\" x\nx\\\ny\\z\\n\\q\nsay \"hi\"\nx\\\"y");
}

#[tokio::test]
async fn an_empty_field_is_no_number() {
    let text = "id,n,d,t\n1,\"\",\"\",\"\"\n2,,,\n3,6,2020-01-02,x\n";
    let world = World::new(1);
    let manifest = world.deliver("x.csv", text.as_bytes(), 64).await;
    let declared = parse_schema("id INT, n INT, d DATE, t STRING").unwrap();
    world.register(&manifest, Some(&declared)).await.unwrap();
    let sql = "SELECT id, n IS NULL, d IS NULL, t IS NULL FROM raw ORDER BY id";
    let read = as_text(&world.rows(sql).await.unwrap());
    assert_eq!(read, "1|true|true|false\n2|true|true|true\n3|false|false|false");
    // Spark's way with texts.
    let nulls = GivenOptions { null_value: some(""), ..GivenOptions::default() }.over(&manifest.options).unwrap();
    world.register(&manifest.read_with(nulls).unwrap(), Some(&declared)).await.unwrap();
    let read = as_text(&world.rows(sql).await.unwrap());
    assert_eq!(read, "1|true|true|true\n2|true|true|true\n3|false|false|false");
    let manifest = world.deliver("x.csv", b"a\n1\n", 64).await;
    let nested = parse_schema("a ARRAY<STRING>").unwrap();
    let error = world.columns(&manifest, Some(&nested)).await.unwrap_err();
    assert!(error.message.contains("CSV can't be read as `a` array<string>"), "{error}");
}

#[tokio::test]
async fn decimals_may_have_exponents() {
    let declared = parse_schema("d DECIMAL(8,2)").unwrap();
    let world = World::new(1);
    let text = b"{\"d\": 1e3}\n{\"d\": 1.5E-2}\n{\"d\": \"2e1\"}\n{\"d\": \"1,234\"}\n{\"d\": 2.675}\n{\"d\": null}\n";
    let manifest = world.deliver("x.json", text, 64).await;
    world.register(&manifest, Some(&declared)).await.unwrap();
    let read = as_text(&world.rows("SELECT d FROM raw").await.unwrap());
    assert_eq!(read, "1000.00\n0.02\n20.00\n1234.00\n2.68\n");
    let manifest = world.deliver("x.csv", b"d\n1e3\n\"1,234.50\"\n", 64).await;
    world.register(&manifest, Some(&declared)).await.unwrap();
    assert_eq!(as_text(&world.rows("SELECT d FROM raw").await.unwrap()), "1000.00\n1234.50");
    let manifest = world.deliver("x.json", b"{\"d\": 1}\n{\"d\": 1e30}\n", 64).await;
    world.register(&manifest, Some(&declared)).await.unwrap();
    let error = world.rows("SELECT d FROM raw").await.unwrap_err();
    assert!(error.message.contains("line 2") && error.message.contains("field `d`"), "{error}");
}

#[tokio::test]
async fn objects_are_read_as_maps() {
    let declared = parse_schema("m MAP<STRING, INT>, s MAP<STRING, STRUCT<a: ARRAY<INT>>>").unwrap();
    let world = World::new(1);
    let many: String = (0..30).map(|n| format!("\"k{}\": {n}, ", n % 20)).collect();
    let text = format!(
        "{{\"m\": {{\"a\": 1, \"b\": null, \"a\": 3, \"\\u0063\": 4}}, \"s\": {{\"x\": {{\"a\": [1, 2]}}}}}}\n\
         {{\"m\": null}}\n{{\"m\": {{}}}}\n{{\"m\": {{{many}\"z\": 1}}}}\n"
    );
    let manifest = world.deliver("x.json", text.as_bytes(), 64).await;
    world.register(&manifest, Some(&declared)).await.unwrap();
    let read = as_text(&world.rows("SELECT m, s FROM raw LIMIT 3").await.unwrap());
    assert_eq!(read, "{b: , a: 3, c: 4}|{x: {a: [1, 2]}}\n|\n{}|");
    let sql = "SELECT cardinality(m), m['k5'], m['k19'], m['z'] FROM raw WHERE cardinality(m) > 5";
    assert_eq!(as_text(&world.rows(sql).await.unwrap()), "21|25|19|1");
    let manifest = world.deliver("x.json", b"{\"m\": {\"a\": 1}}\n{\"m\": {\"a\": \"t\"}}\n", 64).await;
    world.register(&manifest, Some(&declared)).await.unwrap();
    let error = world.rows("SELECT m FROM raw").await.unwrap_err();
    assert!(error.message.contains("line 2") && error.message.contains("field `m`"), "{error}");
    let keys = parse_schema("m MAP<INT, INT>").unwrap();
    world.register(&manifest, Some(&keys)).await.unwrap();
    let error = world.rows("SELECT m FROM raw").await.unwrap_err();
    assert!(error.hint.contains("MAP<STRING"), "{error}");
}

#[tokio::test]
async fn what_is_nested_too_deep_is_refused_with_its_place() {
    let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let world = World::new(1);
    let text = format!("{}\n", nested(32));
    assert_eq!(world.read("x.json", text.as_bytes(), 64, "SELECT count(a) FROM raw").await.unwrap(), "1");
    let text = format!("{{\"b\": 1}}\n{}\n", nested(33));
    let error = world.refusal("x.json", text.as_bytes(), 64).await;
    assert_eq!(error.code, Code::BadRecord);
    assert!(error.message.contains("line 2") && error.message.contains("columns may have 32 levels"), "{error}");
    // As text it may be deeper; where bad records are passed over, such a record is one of them.
    let manifest = world.deliver("x.json", text.as_bytes(), 64).await;
    let declared = parse_schema("a STRING, b INT").unwrap();
    let table = RawTable::new(world.zone.clone(), manifest.clone(), declared).declared(true);
    world.session.register_table("text", Arc::new(table)).unwrap();
    let read = as_text(&world.rows("SELECT max(length(a)), sum(b) FROM text").await.unwrap());
    assert_eq!(read, format!("{}|1", nested(32).len()));
    let lenient = infer_plan(&world.zone, &manifest, 1, true).unwrap();
    let inferred =
        inferred_schema(&collect(lenient, world.session.task_ctx()).await.unwrap()).unwrap().arrow().unwrap();
    assert_eq!(inferred.fields().len(), 1);
    let table = RawTable::new(world.zone.clone(), manifest, inferred).telling(Tells::BadRecords);
    world.session.register_table("quarantined", Arc::new(table)).unwrap();
    let bad = format!("SELECT count(*), count(`{}`), sum(b) FROM quarantined", places::BAD_COLUMN);
    assert_eq!(as_text(&world.rows(&bad).await.unwrap()), "2|1|1");
    let ddl = format!("a {}INT{}", "ARRAY<".repeat(32), ">".repeat(32));
    assert!(parse_schema(&ddl).unwrap_err().message.contains("33 levels"));
}
