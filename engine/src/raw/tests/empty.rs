//! Deliveries of nothing: zero rows of what came before.

use std::io::Write;

use zip::{ZipWriter, write::SimpleFileOptions};

use super::{
    adopted::{adopt_as, put},
    *,
};
use crate::{error::Code, sql::parse_schema};

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_version_has_the_columns_of_the_one_before() {
    let json: &[u8] = b"{\"id\": 1, \"name\": \"one\"}\n";
    let csv: &[u8] = b"id,name\n1,one\n";
    let cases = [
        ("x.ndjson", json.to_vec(), Vec::new()),
        ("x.ndjson", json.to_vec(), b"\n \r\n\n".to_vec()),
        ("x.json", json.to_vec(), b"[]".to_vec()),
        ("x.json", json.to_vec(), b"\xef\xbb\xbf[ ]\n".to_vec()),
        ("x.json.gz", gzip(json), gzip(b"")),
        ("x.csv", csv.to_vec(), Vec::new()),
        ("x.csv", csv.to_vec(), b"\r\n\n".to_vec()),
        ("x.csv", csv.to_vec(), b"\xef\xbb\xbf".to_vec()),
        ("x.csv", csv.to_vec(), b"id,name\n".to_vec()),
        ("x.csv.gz", gzip(csv), gzip(b"")),
        ("x.zip", archive(&[("a.csv", csv)]), archive(&[("a.csv", b""), ("b.csv", b"\n")])),
    ];
    for (name, full, empty) in cases {
        let world = World::new(2);
        let first = world.deliver(name, &full, 64).await;
        let columns = world.columns(&first, None).await.unwrap();
        let manifest = world.deliver(name, &empty, 64).await;
        assert_eq!(manifest.records(), Some(0), "{name} {empty:?}");
        assert_eq!(world.columns(&manifest, None).await.unwrap(), columns, "{name} {empty:?}");
        world.register(&manifest, None).await.unwrap();
        assert_eq!(as_text(&world.rows("SELECT count(*) FROM raw").await.unwrap()), "0", "{name} {empty:?}");
        assert!(world.rows("SELECT * FROM raw").await.unwrap().iter().all(|batch| batch.num_rows() == 0));
        let declared = parse_schema("id INT, name STRING").unwrap();
        world.register(&manifest, Some(&declared)).await.unwrap();
        assert_eq!(as_text(&world.rows("SELECT count(id) FROM raw").await.unwrap()), "0");
        // The first delivery of all.
        let alone = World::new(1);
        let manifest = alone.deliver(name, &empty, 64).await;
        match alone.columns(&manifest, None).await {
            Ok(columns) => assert_eq!((empty.as_slice(), columns.fields().len()), (b"id,name\n".as_slice(), 2)),
            Err(error) => assert_eq!(error.code, Code::EmptySource, "{name} {error}"),
        }
        assert_eq!(alone.columns(&manifest, Some(&declared)).await.unwrap(), declared);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_files_among_others_are_no_rows() {
    let world = World::new(2);
    let packed = archive(&[("empty", b""), ("a.json", b"{\"id\": 1}\n"), ("b", b"{\"id\": 2}\n"), ("c.json", b"\n")]);
    let manifest = world.deliver("x.zip", &packed, 64).await;
    let indices: Vec<_> = manifest.parts.iter().map(|part| part.member.as_ref().unwrap().index).collect();
    assert_eq!((manifest.format, manifest.records(), indices), (RawFormat::Json, Some(2), vec![0, 1, 2, 3]));
    world.register(&manifest, None).await.unwrap();
    assert_eq!(as_text(&world.rows("SELECT count(*), sum(id) FROM raw").await.unwrap()), "2|3");

    let files: [(&str, &[u8]); 4] = [("a", b""), ("b.csv", b"id\n1\n"), ("c.csv", b""), ("d.csv", b"id\n")];
    let version = put(&world, &files);
    let (manifest, _) = adopt_as(&world, &version, TextOptions::default(), 64, CopyPolicy::Off).await.unwrap();
    assert_eq!((manifest.format, manifest.records()), (RawFormat::Csv, Some(1)));
    world.register(&manifest, None).await.unwrap();
    assert_eq!(as_text(&world.rows("SELECT id FROM raw").await.unwrap()), "1");
    let version = put(&world, &[("données [1].json", b"{\"id\": 7}"), ("50% #?", b"")]);
    let (manifest, _) = adopt_as(&world, &version, TextOptions::default(), 64, CopyPolicy::Off).await.unwrap();
    world.register(&manifest, None).await.unwrap();
    assert_eq!(as_text(&world.rows("SELECT id FROM raw").await.unwrap()), "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_one_name_are_all_delivered() {
    let mut packed = archive(&[("d/a.csv", b"id\n1\n"), ("d/b.csv", b"id\n2\n"), ("d/c.csv", b"id\n3\n")]);
    for at in 0..packed.len() - 7 {
        if packed[at..].starts_with(b"d/b.csv") {
            packed[at + 2] = b'a';
        } else if packed[at..].starts_with(b"d/c.csv") {
            packed[at..at + 7].copy_from_slice(b"\\\x01\xff.\xc3\xa9;");
        }
    }
    for copy in [CopyPolicy::Off, CopyPolicy::Compressed] {
        let world = World::new(2);
        let manifest = world.deliver_with("x.zip", &packed, 64, copy).await.unwrap();
        let names: Vec<_> = manifest.parts.iter().map(|part| part.member.as_ref().unwrap().name.clone()).collect();
        assert_eq!(names[..2], ["d/a.csv", "d/a.csv"]);
        assert!(!names[2].contains('\u{1}'), "{names:?}");
        world.register(&manifest, None).await.unwrap();
        assert_eq!(as_text(&world.rows("SELECT count(*), sum(CAST(id AS INT)) FROM raw").await.unwrap()), "3|6");
    }
}
