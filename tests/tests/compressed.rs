//! Compressed deliveries, and files that others put into the raw zone: what is in them is in the tables, read by all executors.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::io::Write;

use serde_json::Value;
use trireme_tests::cluster::{Cluster, Options, text};
use zip::{ZipWriter, write::SimpleFileOptions};

const RECORDS: i64 = 60_000;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(text: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zip(members: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn array() -> String {
    let record = |n| format!("{{\n  \"id\": {n},\n  \"text\": \"line {n} ]}} \\\" é\"\n}}");
    format!("[{}]\n", (0..RECORDS).map(record).collect::<Vec<_>>().join(",\n"))
}

fn lines(from: i64, to: i64) -> String {
    (from..to).map(|n| format!("{{\"id\": {n}, \"text\": \"line {n} ]}} \\\" é\"}}\n")).collect()
}

fn csv(from: i64, to: i64) -> String {
    let records = (from..to).map(|n| format!("{n},\"line {n} ]}} \"\" é\nnext\"\r\n"));
    format!("id,text\r\n{}", records.collect::<String>())
}

/// Loads a source, and checks that it has every record once, with its text.
#[track_caller]
fn check(cluster: &Cluster, name: &str, source: &str, next: &str) -> Value {
    let table = format!("t.{name}");
    let columns = ["-t", "CAST(id AS bigint) AS id", "-t", "text", "--pk", "id"];
    let job = cluster.json(&[&["load", "--table", &table, "--source", source], &columns[..]].concat()).done().json();
    let right = format!(
        "SELECT count(*) AS n FROM {table} WHERE text = concat('line ', CAST(id AS string), ' ]}} \" é{next}')"
    );
    assert_eq!(cluster.number(&right), RECORDS, "{name}");
    assert_eq!(cluster.number(&format!("SELECT sum(id) AS n FROM {table}")), RECORDS * (RECORDS - 1) / 2, "{name}");
    job
}

/// Tasks of the stages of a job with this name.
fn tasks(job: &Value, name: &str) -> u64 {
    let stages = job["stages"].as_array().unwrap().iter();
    let named = stages.filter(|stage| stage["name"].as_str().unwrap().split('/').next() == Some(name));
    named.map(|stage| stage["tasks_total"].as_u64().unwrap()).sum()
}

fn versions(cluster: &Cluster, source: &str) -> Vec<Value> {
    cluster.json(&["raw", "show", source]).done().json_lines()
}

#[test]
fn compressed_deliveries_are_read_in_parallel() {
    let cluster = Cluster::start(Options::default());
    let zstd = zstd::stream::encode_all(lines(0, RECORDS).as_bytes(), 1).unwrap();
    let both = zip(&[("a.csv", &csv(0, 20_000)), ("deep/b.csv", &csv(20_000, RECORDS))]);
    for (name, file, bytes, next) in [
        ("gz", "array.json.gz", gzip(array().as_bytes()), ""),
        ("zst", "lines.ndjson.zst", zstd, ""),
        ("bz2", "quoted.csv.bz2", bzip2(csv(0, RECORDS).as_bytes()), "\nnext"),
        ("zip", "both.zip", both, "\nnext"),
    ] {
        let source = format!("raw.{name}");
        let download = cluster.deliver(&source, file, &bytes);
        let job = check(&cluster, name, &source, next);
        // One vcore an executor, two executors: both have splits to read.
        assert!(tasks(&job, "write") >= 2, "{job}");
        let version = &versions(&cluster, &source)[0];
        assert!(version["splits"].as_u64().unwrap() >= 2, "{version}");
        assert_eq!(version["bytes"], bytes.len(), "{version}");
        assert!(version["text_bytes"].as_u64().unwrap() > 1 << 20 && version["copy_bytes"].as_u64().unwrap() > 0);
        // What was delivered is kept to the byte.
        let folder = cluster.lake().join("raw").join(&source).join(version["version"].as_str().unwrap());
        let kept = std::fs::read_dir(&folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
        assert!(kept.into_iter().any(|kept| kept == bytes), "{download}");
        assert!(!folder.join("_download").exists());
    }
    let shown = cluster.cli(&["raw", "show", "raw.bz2"]).done().stdout;
    assert!(shown.contains("csv.bzip2"), "{shown}");

    // Cut deliveries are refused, with their place, and are no versions.
    let packed = gzip(array().as_bytes());
    let cut = cluster.folder().join("cut.json.gz");
    std::fs::write(&cut, &packed[..packed.len() / 2]).unwrap();
    let place = format!("cut.json.gz: the gzip data is broken at byte {}: it ends too early", packed.len() / 2);
    cluster.cli(&["download", "--from", &text(&cut), "--to", "raw.cut"]).failed(1, &[&place]);
    cluster.cli(&["raw", "show", "raw.cut"]).failed(1, &["raw.cut"]);
    let left = std::fs::read_dir(cluster.lake().join("raw/raw.cut")).into_iter().flatten().flatten();
    let files = left.flat_map(|version| std::fs::read_dir(version.path()).into_iter().flatten().flatten());
    assert_eq!(files.map(|file| file.file_name()).collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new());

    // A bad record is found where it is in the text.
    let bad = format!("{}{{\"id\": nothing}}\n", lines(0, RECORDS));
    cluster.deliver("raw.bad", "bad.json.gz", gzip(bad.as_bytes()));
    cluster
        .cli(&["load", "--table", "t.bad", "--source", "raw.bad"])
        .failed(1, &["bad.json.gz", &format!("line {}, column 8", RECORDS + 1)]);
}

#[test]
fn files_that_others_put_there_are_adopted() {
    let scheduler = ["--split-size", "256KiB"].map(String::from).to_vec();
    let cluster = Cluster::start(Options { scheduler, ..Options::default() });
    let put = |source: &str, version: &str, files: &[(&str, &[u8])]| {
        let folder = cluster.lake().join("raw").join(source).join(version);
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
    };
    let (first, second) = ("20260101T000000000Z", "20260102T000000000Z");

    // A load that names no version adopts the newest of a source that has no current one.
    put("raw.array", first, &[("x.json", b"[{\"id\": 1}]")]);
    put("raw.array", second, &[("x.json", array().as_bytes()), ("_SUCCESS", b"")]);
    let job = check(&cluster, "array", "raw.array", "");
    assert_eq!(job["raw_version"], second);
    assert!(tasks(&job, "adopt") >= 4 && tasks(&job, "write") >= 2, "{job}");
    let known = versions(&cluster, "raw.array");
    assert_eq!((known.len(), &known[0]["origin"], &known[0]["current"]), (1, &"adopted".into(), &true.into()));
    assert!(known[0]["splits"].as_u64().unwrap() >= 3, "{known:?}");
    let again = check(&cluster, "array2", &format!("raw.array@{second}"), "");
    assert_eq!(tasks(&again, "adopt"), 0, "{again}");

    // By command, with a version, several files, one of them compressed.
    let (a, b) = (csv(0, 30_000), gzip(csv(30_000, RECORDS).as_bytes()));
    put("raw.csv", first, &[("a.csv", a.as_bytes()), ("b.csv.gz", &b)]);
    let adopted = cluster.json(&["raw", "adopt", &format!("raw.csv@{first}")]).done().json();
    assert_eq!((&adopted["kind"], &adopted["raw_version"]), (&"adopt".into(), &first.into()), "{adopted}");
    check(&cluster, "csv", "raw.csv", "\nnext");
    cluster.json(&["raw", "adopt", "raw.csv"]).done();
    assert_eq!(versions(&cluster, "raw.csv").len(), 1);

    // What can't be a version stays none.
    put("raw.cut", first, &[("x.json.gz", &b[..b.len() / 2])]);
    cluster.cli(&["raw", "adopt", "raw.cut"]).failed(1, &["raw.cut@", "x.json.gz", "it ends too early"]);
    cluster.cli(&["raw", "show", "raw.cut"]).failed(1, &["raw.cut"]);
    put("raw.mixed", first, &[("x.json", b"{}"), ("y.csv", b"a\n1\n")]);
    cluster.cli(&["raw", "adopt", "raw.mixed"]).failed(1, &["x.json is json, y.csv is csv"]);
    cluster.cli(&["raw", "adopt", "raw.none"]).failed(1, &["raw.none"]);
    cluster.cli(&["raw", "adopt", &format!("raw.none@{first}")]).failed(1, &["raw.none"]);
}
