//! Where deliveries come from: many files, large files in ranges, servers that ask who is there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;
use trireme_tests::cluster::{Cluster, Options, text};
use trireme_tests::process::command;
use trireme_tests::seaweed::Seaweed;
use trireme_tests::{repository, skip};

/// A server of `tests/rigs/servers.py`, ended with the value.
struct Server {
    process: Child,
    said: Value,
}

impl Server {
    /// Starts one; none, with a printed reason, where it can't be had.
    fn start(kind: &str, folder: &Path) -> Option<Self> {
        let mut rig = command(repository().join("tests/rigs/servers.sh"));
        let mut process = rig.arg(kind).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(said) = serde_json::from_str(&line) else {
            skip(&format!("tests/rigs/servers.sh {kind} does not start"));
            let _ = process.wait();
            return None;
        };
        Some(Self { process, said })
    }

    fn port(&self) -> u64 {
        self.said["port"].as_u64().unwrap()
    }

    fn said(&self, what: &str) -> &str {
        self.said[what].as_str().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Downloads, and returns the job.
#[track_caller]
fn download(cluster: &Cluster, from: &str, source: &str, flags: &[&str]) -> Value {
    cluster.json(&[&["download", "--from", from, "--to", source], flags].concat()).done().json()
}

/// The manifest of a job's raw version.
fn manifest(cluster: &Cluster, source: &str, job: &Value) -> Value {
    let version = job["raw_version"].as_str().unwrap();
    let path = cluster.lake().join("raw").join(source).join(version).join("_manifest.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Files in a version's folder, sorted.
fn files(cluster: &Cluster, source: &str, job: &Value) -> Vec<String> {
    let folder = cluster.lake().join("raw").join(source).join(job["raw_version"].as_str().unwrap());
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Versions of a source that have a folder, visible or not.
fn folders(cluster: &Cluster, source: &str) -> usize {
    let path = cluster.lake().join("raw").join(source);
    let with_files =
        |folder: &fs::DirEntry| folder.path().is_dir() && fs::read_dir(folder.path()).unwrap().next().is_some();
    fs::read_dir(path).map_or(0, |entries| entries.map(Result::unwrap).filter(with_files).count())
}

#[test]
fn many_files_are_one_version() {
    let cluster = Cluster::start(Options::default());
    let shelf = cluster.folder().join("in");
    let day = |day: u32, rows: std::ops::Range<u32>| {
        let lines: String = rows.map(|id| format!("{{\"id\":{id}}}\n")).collect();
        write(&shelf.join(format!("day={day}/x-1.ndjson")), &lines);
    };
    (1..=5).for_each(|n| day(n, n * 100..n * 100 + 10));
    write(&shelf.join("day=1/other.txt"), "no part of it");
    let pattern = format!("{}/day=*/x-*.ndjson", shelf.display());

    let first = download(&cluster, &pattern, "raw.days", &["--checksum", "auto"]);
    assert_eq!((&first["outcome"], &first["metrics"]["rows_in"]), (&"applied".into(), &50.into()), "{first}");
    let kept = manifest(&cluster, "raw.days", &first);
    let origins: Vec<&str> =
        kept["parts"].as_array().unwrap().iter().map(|part| part["delivered"]["origin"].as_str().unwrap()).collect();
    assert_eq!(origins.len(), 5);
    assert!(origins.is_sorted() && origins[0].ends_with("/in/day=1/x-1.ndjson"), "{origins:?}");
    assert_eq!(kept["origin"].as_str().unwrap(), format!("file://{pattern}"));
    cluster.json(&["load", "--table", "t.days", "--source", "raw.days"]).done();
    assert_eq!(cluster.number("SELECT sum(id) AS n FROM t.days"), (1..=5).map(|n| n * 1000 + 45).sum::<i64>());

    // Nothing has changed; then a file only looks changed; then one has; then one is new.
    let again = download(&cluster, &pattern, "raw.days", &[]);
    assert_eq!(
        (&again["outcome"], &again["raw_version"]),
        (&"already current".into(), &first["raw_version"]),
        "{again}"
    );
    day(2, 200..210);
    let same = download(&cluster, &pattern, "raw.days", &[]);
    assert_eq!(same["outcome"], "already current", "{same}");
    assert_eq!(folders(&cluster, "raw.days"), 1);
    day(2, 200..211);
    day(6, 600..601);
    let second = download(&cluster, &pattern, "raw.days", &[]);
    assert_eq!((&second["outcome"], &second["metrics"]["rows_in"]), (&"applied".into(), &52.into()), "{second}");
    assert_eq!(manifest(&cluster, "raw.days", &second)["parts"].as_array().unwrap().len(), 6);

    // What can't be a version leaves none.
    let before = cluster.state();
    let refused = |code: i32, from: &str, flags: &[&str], texts: &[&str]| {
        cluster.cli(&[&["download", "--from", from, "--to", "raw.none"], flags].concat()).failed(code, texts);
    };
    refused(1, &format!("{}/day=*/*.csv", shelf.display()), &[], &["no file is at", "*.csv"]);
    write(&shelf.join("day=9/y.csv"), "a,b\n1,2\n");
    refused(
        64,
        &format!("{}/day=9/", shelf.display()),
        &["--format", "json", "--checksum", "auto", "--credentials", "x"],
        &["credentials"],
    );
    write(&shelf.join("day=9/y.json"), "[]");
    refused(64, &format!("{}/day=9/", shelf.display()), &[], &["one version has one format", "y.csv", "y.json"]);
    fs::write(shelf.join("day=9/y.csv.sha256"), format!("{}  y.csv\n", "0".repeat(64))).unwrap();
    refused(1, &format!("{}/day=9/*.csv*", shelf.display()), &["--checksum", "auto"], &[&"0".repeat(64), "SHA-256"]);
    assert_eq!(cluster.state(), before);
    assert_eq!(folders(&cluster, "raw.none"), 0);
}

#[test]
fn a_large_object_comes_in_ranges_over_all_executors() {
    let Some(seaweed) = Seaweed::start() else { return };
    let environment = seaweed.environment();
    let scheduler = ["--split-size", "1MiB", "--range-size", "1MiB"].map(String::from).to_vec();
    let cluster = Cluster::start(Options { environment: environment.clone(), scheduler, ..Options::default() });
    let of = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap();
    let keys = format!("{}:{}", of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY"));
    let put = |name: &str, content: &str| {
        let path = cluster.folder().join("object");
        fs::write(&path, content).unwrap();
        let url = format!("{}/lake/{name}", of("AWS_ENDPOINT_URL"));
        let arguments = [
            "--silent",
            "--fail",
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "--user",
            &keys,
            "--upload-file",
            &text(&path),
            &url,
        ];
        assert!(command("curl").args(arguments).status().unwrap().success());
    };
    let lines: String = (0..60_000).map(|id| format!("{id},\"line {id}\n of two, {}\"\n", "x".repeat(60))).collect();
    put("in/large.csv", &format!("id,text\n{lines}"));

    let job = download(&cluster, "s3://lake/in/large.csv", "raw.large", &["--checksum", "auto"]);
    let bytes = lines.len() as u64 + 8;
    assert!(bytes > 5 << 20);
    let stages: Vec<u64> =
        job["stages"].as_array().unwrap().iter().map(|stage| stage["tasks_total"].as_u64().unwrap()).collect();
    assert!(stages.contains(&bytes.div_ceil(1 << 20)), "{job}");
    let busy = job["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["tasks_by_executor"].as_object().unwrap().len())
        .max();
    assert_eq!(busy, Some(2), "{job}");
    assert_eq!(files(&cluster, "raw.large", &job), ["_manifest.json", "part-00000.csv"]);
    let part = &manifest(&cluster, "raw.large", &job)["parts"][0];
    assert_eq!((part["bytes"].as_u64(), part["records"].as_u64()), (Some(bytes), Some(60_000)), "{part}");
    assert!(part["splits"].as_array().unwrap().len() >= 5, "{part}");
    cluster
        .json(&["load", "--table", "t.large", "--source", "raw.large", "-t", "CAST(id AS bigint) AS id", "-t", "text"])
        .done();
    let right = "SELECT count(*) AS n FROM t.large WHERE text LIKE concat('line ', CAST(id AS string), '\n of two, %')";
    assert_eq!(cluster.number(right), 60_000);
    assert_eq!(download(&cluster, "s3://lake/in/large.csv", "raw.large", &[])["outcome"], "already current");

    // Many objects, one of them large.
    put("in/small.csv", "id,text\n1,a\n");
    let both = download(&cluster, "s3://lake/in/*.csv", "raw.both", &[]);
    assert_eq!(both["metrics"]["rows_in"], 60_001, "{both}");
    assert_eq!(files(&cluster, "raw.both", &both), ["_manifest.json", "part-00000.csv", "part-00001.csv"]);
    assert_eq!(download(&cluster, "s3://lake/in/", "raw.both", &[])["outcome"], "already current");
}

#[test]
fn credentials_are_named_and_never_told() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = folder.path().join("shelf");
    (1..=3).for_each(|n| write(&shelf.join(format!("day={n}/x.json")), &format!("[{{\"id\": {n}}}]")));
    let started = ["sftp", "ftps"].map(|kind| Server::start(kind, &shelf));
    let [Some(sftp), Some(ftps)] = &started else { return };
    let mounted = folder.path().join("credentials");
    let known = format!("[127.0.0.1]:{} {}\n", sftp.port(), sftp.said("host_key"));
    for (path, content) in [
        ("sea/user", "trireme\n"),
        ("sea/private-key", sftp.said("private_key")),
        ("sea/known-hosts", &known),
        ("the-shore/password", "oars\n"),
        ("the-shore/ca", ftps.said("ca")),
        ("stranger/user", "trireme"),
        ("stranger/password", "oars"),
    ] {
        write(&mounted.join(path), content);
    }
    let environment =
        [("TRIREME_CREDENTIALS_DIR", text(&mounted)), ("TRIREME_CREDENTIALS_THE_SHORE_USER", "trireme".to_string())];
    let environment = environment.map(|(name, value)| (name.to_string(), value)).to_vec();
    let scheduler = ["--split-size", "1MiB"].map(String::from).to_vec();
    let cluster = Cluster::start(Options { environment, scheduler, ..Options::default() });

    let at = |scheme: &str, server: &Server| format!("{scheme}://127.0.0.1:{}/day=*/x.json", server.port());
    let job = download(&cluster, &at("sftp", sftp), "sea.days", &["--credentials", "sea"]);
    assert_eq!(job["metrics"]["rows_in"], 3, "{job}");
    let again = download(&cluster, &at("sftp", sftp), "sea.days", &["--credentials", "sea"]);
    assert_eq!(again["outcome"], "already current", "{again}");
    // In a pipeline file.
    let pipeline = format!(
        "name: shore\nsources:\n  shore.days: {{ from: '{}', format: json, credentials: the-shore }}\n\
         tables:\n  t.days: {{ source: shore.days, mode: overwrite }}\n",
        at("ftps", ftps)
    );
    write(&folder.path().join("p.yaml"), &pipeline);
    cluster.cli(&["run", &text(&folder.path().join("p.yaml"))]).done();
    assert_eq!(cluster.number("SELECT sum(id) AS n FROM t.days"), 6);

    let refused = |code: i32, from: &str, credentials: &str, texts: &[&str]| {
        let arguments = ["download", "--from", from, "--to", "raw.none", "--credentials", credentials];
        cluster.cli(&arguments).failed(code, texts);
    };
    refused(1, &at("sftp", sftp), "stranger", &["not a known host", "ssh-keyscan"]);
    refused(64, &at("sftp", sftp), "nobody", &["no credentials `nobody`", "TRIREME_CREDENTIALS_NOBODY_USER"]);
    refused(1, &at("ftps", ftps), "stranger", &["certificate", "`ca`"]);

    let mut told = String::new();
    for job in fs::read_dir(cluster.lake().join("jobs")).unwrap() {
        // A journal entry holds the spec as base64.
        let entry: Value = serde_json::from_slice(&fs::read(job.unwrap().path()).unwrap()).unwrap();
        let encoded = folder.path().join("entry");
        write(&encoded, entry["job"].as_str().unwrap());
        let decoded = command("base64").arg("--decode").arg(&encoded).output().unwrap();
        told.push_str(&String::from_utf8_lossy(&decoded.stdout));
    }
    for log in fs::read_dir(cluster.folder()).unwrap().map(|entry| entry.unwrap().path()) {
        if log.extension().is_some_and(|extension| extension == "log") {
            told.push_str(&fs::read_to_string(log).unwrap());
        }
    }
    assert!(told.contains("the-shore") && told.contains("not a known host"), "the names are there");
    for secret in ["oars", "OPENSSH PRIVATE KEY"] {
        assert!(!told.contains(secret), "`{secret}` is told");
    }
}
