//! What is wrong is refused with a clear error and the right exit code, and changes nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::ops::Deref;
use std::path::Path;

use serde_json::{Value, json};
use trireme_tests::cli::{Checks, Client, Output};
use trireme_tests::cluster::{Cluster, Options, embedded, text};
use trireme_tests::process::{binary, command, free_port};
use trireme_tests::seaweed::Seaweed;

/// A cluster with a table `a.good` of two rows, and what went wrong with it.
struct World {
    checks: Checks,
    cluster: Cluster,
}

impl Deref for World {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::start(Options::default());
        cluster.deliver("a.good", "good.json", r#"[{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]"#);
        cluster.json(&["merge", "--table", "a.good", "--source", "a.good", "--pk", "id"]).done();
        Self { checks: Checks::default(), cluster }
    }

    /// Runs a command that must fail like this, in text and in JSON, and change nothing.
    fn refused(&self, arguments: &[&str], code: i32, texts: &[&str]) {
        self.checks.run(|| {
            let before = self.state();
            self.cli(arguments).failed(code, texts);
            let output = self.json(arguments).failed(code, texts);
            let document = output.json();
            assert!(document["error"]["code"].is_string(), "an error has a code: {output}");
            assert_eq!(self.state(), before, "something changed: {output}");
        });
    }

    /// Delivers a bad file and merges it into `a.good`, which must fail like this.
    fn bad(&self, file: &str, content: &[u8], flags: &[&str], texts: &[&str]) {
        let name = file.split('.').next().unwrap();
        let source = format!("bad.{name}");
        self.deliver(&source, file, content);
        let merge = ["merge", "--table", "a.good", "--source", &source, "--pk", "id"];
        self.refused(&[&merge, flags].concat(), 1, texts);
    }

    /// Runs a pipeline file whose text is this.
    fn run(&self, pipeline: &str) -> Output {
        let path = self.folder().join("pipeline.yaml");
        fs::write(&path, pipeline).unwrap();
        self.cli(&["run", path.to_str().unwrap()])
    }
}

#[test]
fn bad_deliveries() {
    let world = World::new();
    let truncated = b"[\n  {\"id\": 3, \"name\": \"three\"},\n  {\"id\": 4, \"na";
    world.bad("truncated.json", truncated, &[], &["bad.truncated", "truncated.json", "line 3", "column"]);
    world.bad(
        "truncated_lines.ndjson",
        b"{\"id\": 3}\n{\"id\": 4, \"name\": \"fo",
        &[],
        &["truncated_lines.ndjson", "line 2"],
    );
    world.bad("not_json.json", b"this is no JSON\n", &[], &["not_json.json", "line 1", "this is no JSON"]);
    world.bad("scalar.json", b"[1, 2]", &[], &["scalar.json", "line 1"]);
    world.bad(
        "open_quote.csv",
        b"id,name\n3,\"three\n",
        &["-t", "CAST(id AS bigint) AS id", "-t", "name"],
        &["open_quote.csv", "line 2", "quote"],
    );
    world.bad("no_parquet.parquet", b"PAR1 and then something else", &[], &["no_parquet.parquet"]);
    // The wrong type: text where the declared schema has a number.
    let flags = ["--schema", "id BIGINT, name STRING"];
    world.bad(
        "mixed.json",
        b"[\n{\"id\": 3, \"name\": \"x\"},\n{\"id\": \"four\", \"name\": \"y\"}]",
        &flags,
        &["mixed.json", "line 3", "`id`", "four"],
    );
    // A key that stands in several records, and one that is missing.
    let twice: String = (0..40).map(|n| format!("{{\"id\": {}, \"name\": \"{n}\"}}\n", n % 8)).collect();
    world.bad("twice.ndjson", twice.as_bytes(), &[], &["a.good", "id", "8 ", "order_by"]);
    let keyless = b"{\"id\": 3, \"name\": \"x\"}\n{\"name\": \"nobody\"}\n{\"id\": null, \"name\": \"none\"}\n";
    world.bad("keyless.ndjson", keyless, &[], &["2 ", "id", "nobody", "where"]);
}

#[test]
fn duplicate_keys_name_up_to_five_and_order_by_settles_them() {
    let world = World::new();
    let twice: String = (0..40).map(|n| format!("{{\"id\": {}, \"name\": \"n{n:02}\"}}\n", 100 + n % 8)).collect();
    world.deliver("a.twice", "twice.ndjson", twice);
    let merge = ["merge", "--table", "a.good", "--source", "a.twice", "--pk", "id"];
    let output = world.cli(&merge).failed(1, &["a.good"]);
    let named = (100..108).filter(|id| output.stderr.contains(&format!("({id})"))).count();
    assert_eq!(named, 5, "{output}");
    let job = world.json(&[&merge[..], &["--order-by", "name"]].concat()).done().json();
    assert_eq!(
        (&job["metrics"]["rows_superseded"], &job["metrics"]["rows_inserted"]),
        (&32.into(), &8.into()),
        "{job}"
    );
    let latest = world.sql("SELECT id, name FROM a.good WHERE id = 103");
    assert_eq!(latest, [json!({ "id": 103, "name": "n35" })]);
}

#[test]
fn expressions() {
    let world = World::new();
    world.deliver("a.next", "next.json", r#"[{"id": 3, "name": "three", "deep": {"x": 1}}]"#);
    let merge = ["merge", "--table", "a.good", "--source", "a.next", "--pk", "id", "-t", "id"];
    let wrong =
        |expression: &str, texts: &[&str]| world.refused(&[&merge[..], &["-t", expression]].concat(), 64, texts);
    wrong("lower(nmae) AS name", &["nmae", "name"]);
    wrong("deep.y AS name", &["y"]);
    wrong("transform(name, x -> lower(x)) AS name", &["transform"]);
    wrong("name + deep AS name", &["deep"]);
    wrong("lower(name AS name", &["lower(name AS name"]);
    wrong("no_such_function(name) AS name", &["no_such_function"]);
    wrong("name AS id", &["id"]);
    wrong("(SELECT 1) AS name", &[]);
    let no_key = ["merge", "--table", "a.good", "--source", "a.next", "--pk", "idd", "-t", "id", "-t", "name"];
    world.refused(&no_key, 64, &["idd", "id"]);
    world.refused(&[&merge[..], &["-t", "name", "--where", "idd > 1"]].concat(), 64, &["idd"]);
}

#[test]
fn schema_changes() {
    let world = World::new();
    world.deliver("a.wide", "wide.json", r#"[{"id": 2, "name": "zwei", "extra": 1.5}, {"id": 3, "name": "drei"}]"#);
    let merge = ["merge", "--table", "a.good", "--source", "a.wide", "--pk", "id"];
    world.refused(
        &merge,
        1,
        &["a.good", "extra: - | double", "id: bigint | bigint", "name: string | string", "add_columns"],
    );
    let flags = ["-t", "id", "-t", "CAST(id AS string) AS name", "-t", "name AS other"];
    world.refused(&[&merge[..], &flags].concat(), 1, &["other: - | string"]);
    // A column's type does not change even then.
    let flags = ["--schema-evolution", "add_columns", "-t", "id", "-t", "id AS name"];
    world.refused(&[&merge[..], &flags].concat(), 1, &["name", "string", "bigint"]);

    world.json(&[&merge[..], &["--schema-evolution", "add_columns"]].concat()).done();
    assert_eq!(
        world.sql("SELECT id, name, extra FROM a.good ORDER BY id"),
        [
            json!({ "id": 1, "name": "one", "extra": null }),
            json!({ "id": 2, "name": "zwei", "extra": 1.5 }),
            json!({ "id": 3, "name": "drei", "extra": null }),
        ]
    );
}

#[test]
fn names() {
    let world = World::new();
    let question = text(&world.folder().join("question.sql"));
    fs::write(&question, "SELECT count(*) AS n\nFROM a.good g\nJOIN a.goood h ON g.id = h.id\n").unwrap();
    world.refused(&["question", "--sql", &question, "--table", "b.answer"], 1, &["a.goood", "a.good"]);
    world.refused(&["sql", "SELECT * FROM a.goood"], 1, &["a.goood", "a.good"]);
    world.refused(&["tables", "show", "a.goood"], 1, &["a.goood"]);
    world.refused(&["tables", "history", "a.goood"], 1, &["a.goood"]);
    world.refused(&["raw", "show", "a.goood"], 1, &["a.goood"]);
    world.refused(&["jobs", "show", "20200101-000000-000"], 1, &["20200101-000000-000"]);
    world.refused(&["jobs", "cancel", "x"], 1, &["x"]);
    let merge = |source| ["merge", "--table", "a.good", "--source", source, "--pk", "id"];
    world.refused(&merge("a.none"), 1, &["a.none", "a.good"]);
    world.refused(&merge("a.good@20200101T000000000Z"), 1, &["a.good", "20200101T000000000Z"]);
    world.refused(&merge("a.good@yesterday"), 64, &["yesterday"]);
    world.refused(&["merge", "--table", "../x", "--source", "a.good", "--pk", "id"], 64, &["../x"]);
    world.refused(&["download", "--from", "/none/there.json", "--to", "a.good"], 1, &["/none/there.json"]);
    world.refused(&["download", "--from", "none/there.json", "--to", "a.good"], 64, &["none/there.json"]);
    world.refused(&["download", "--from", "gopher://host/x.json", "--to", "a.good"], 64, &["gopher"]);
    let nobody = format!("http://127.0.0.1:{}/x.json", free_port());
    world.cli(&["download", "--from", &nobody, "--to", "a.good"]).failed(1, &[&nobody]);
}

#[test]
fn sql_is_read_only() {
    let world = World::new();
    let folder = text(&world.folder().join("out"));
    let copy = format!("COPY (SELECT 1) TO '{folder}' STORED AS csv");
    let external = "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'";
    for sql in [
        "SELEC 1",
        "SELECT FROM WHERE",
        "",
        "SELECT 1; SELECT 2",
        "INSERT INTO a.good VALUES (9, 'nine')",
        "UPDATE a.good SET name = 'x'",
        "DELETE FROM a.good",
        "DROP TABLE a.good",
        "CREATE TABLE a.new AS SELECT 1 AS x",
        "CREATE VIEW v AS SELECT 1 AS x",
        external,
        &copy,
        "SET datafusion.execution.batch_size = 1",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM \"/etc/passwd\"",
        "EXPLAIN ANALYZE DELETE FROM a.good",
        "PREPARE p AS INSERT INTO a.good VALUES (9, 'nine')",
    ] {
        world.checks.run(|| {
            let before = world.state();
            let output = world.cli(&["sql", sql]).failed(64, &[]);
            assert!(!output.stdout.contains("root:") && !output.stderr.contains("root:x"), "{output}");
            assert_eq!(world.state(), before, "{output}");
        });
    }
    world.refused(&["sql", "SELECT * FROM information_schema.df_settings"], 1, &["information_schema"]);
    assert!(!Path::new(&folder).exists());
    // A question is one SELECT, too.
    let question = text(&world.folder().join("question.sql"));
    for sql in ["DELETE FROM a.good", "SELECT * FROM '/etc/passwd'", "SELECT 1 AS x; SELECT 2 AS y"] {
        fs::write(&question, sql).unwrap();
        world.refused(&["question", "--sql", &question, "--table", "b.answer"], 64, &["question.sql"]);
    }
    assert!(!world.sql("EXPLAIN SELECT id FROM a.good").is_empty());
}

#[test]
fn pipeline_files() {
    let world = World::new();
    let good = world.folder().join("good.json");
    let before = world.state();
    let sources = format!("name: p\nsources:\n  p.good: {{ from: {}, format: json }}\n", good.display());
    let table = "tables:\n  p.good:\n    source: p.good\n    mode: merge\n    primary_key: [id]\n";
    let refused = |pipeline: &str, texts: &[&str]| {
        world.checks.run(|| {
            world.run(pipeline).failed(64, texts);
            assert_eq!(world.state(), before);
        });
    };
    refused(&format!("{sources}{table}    colums: [id]\n"), &["pipeline.yaml:9:5", "colums", "columns"]);
    refused(
        &format!("{sources}{table}  p.good:\n    source: p.good\n    mode: overwrite\n"),
        &["pipeline.yaml:9:3", "p.good"],
    );
    refused(
        &format!("{sources}tables:\n  p.good:\n    source: p.good\n    mode: merge\n"),
        &["pipeline.yaml:5:3", "primary_key"],
    );
    let relative = "name: p\nsources:\n  p.good: { from: none.json, format: json }\n";
    refused(relative, &["pipeline.yaml:3:", "none.json"]);
    refused(
        &format!("{sources}{}", table.replace("source: p.good", "source: p.god")),
        &["pipeline.yaml:6:", "p.god", "p.good"],
    );
    refused("name: p\nsources: [\n", &["pipeline.yaml:"]);
    refused("", &["pipeline.yaml:"]);

    let question = |name: &str, sql: &str| fs::write(world.folder().join(name), sql).unwrap();
    question("one.sql", "SELECT * FROM q.two");
    question("two.sql", "SELECT * FROM q.one");
    question("bad.sql", "SELECT id\nFROM p.good\nWHERE nosuch = 1\n");
    question("missing.sql", "SELECT * FROM q.none");
    let ask = |name: &str, file: &str| format!("  q.{name}: {{ sql: {file} }}\n");
    let cycle = format!("{sources}{table}questions:\n{}{}", ask("one", "one.sql"), ask("two", "two.sql"));
    refused(&cycle, &["pipeline.yaml:1", "cycle", "q.one", "q.two"]);
    refused(&format!("{sources}{table}questions:\n{}", ask("bad", "none.sql")), &["pipeline.yaml:10:", "none.sql"]);
    let missing = format!("{sources}{table}questions:\n{}", ask("missing", "missing.sql"));
    world.checks.run(|| drop(world.run(&missing).failed(1, &["pipeline.yaml:10:3", "q.none"])));
    assert_eq!(world.state(), before);
    assert_eq!(world.cli(&["run", "/none/pipeline.yaml"]).failed(64, &["/none/pipeline.yaml"]).stdout, "");
    world.checks.run(|| world.cli(&["merge", "--table", "a.good", "--source", "a.good"]).failed_usage(&["--pk"]));
    world.checks.run(|| world.cli(&["mrege"]).failed_usage(&["mrege"]));

    // What can only be known later fails only what depends on it.
    let unknown = format!("{sources}{table}    columns: ['lower(nosuch) AS id']\n");
    world.checks.run(|| drop(world.run(&unknown).failed(1, &["pipeline.yaml:5:3", "nosuch", "name"])));
    world.checks.run(|| drop(world.cli(&["tables", "show", "p.good"]).failed(1, &["p.good"])));
    fs::write(world.folder().join("bad.json"), "[{\"id\": 1").unwrap();
    question("good.sql", "SELECT count(*) AS n FROM p.good");
    question("poor.sql", "SELECT count(*) AS n FROM p.bad");
    let bad = format!("  p.bad: {{ from: {}, format: json }}\n", world.folder().join("bad.json").display());
    let bad_table = "  p.bad:\n    source: p.bad\n    mode: overwrite\n    columns: [id]\n";
    let both =
        format!("{sources}{bad}{table}{bad_table}questions:\n{}{}", ask("good", "good.sql"), ask("poor", "poor.sql"));
    let output = world.run(&both).failed(1, &["p.bad", "bad.json", "line 1"]);
    let line = |name: &str| output.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_string();
    assert!(line("q.good").contains("applied") && line("q.poor").contains("skipped"), "{output}");
    assert_eq!(world.sql("SELECT n FROM q.good"), [json!({ "n": 2 })]);
    let tables = world.json(&["tables", "list"]).done().json_lines();
    assert!(!tables.iter().any(|table| ["p.bad", "q.poor"].contains(&table["name"].as_str().unwrap())), "{tables:?}");
}

/// Runs a server binary that must refuse to start, with one of these exit codes.
fn refuses_to_start(name: &str, flags: &[&str], environment: &[(&str, &str)], codes: &[i32], texts: &[&str]) {
    let mut command = command(binary(name));
    command.args(flags).envs(environment.iter().copied());
    let output = Client::start(command).finish();
    assert!(codes.contains(&output.code.unwrap_or(-1)), "{output}");
    let code = output.code.unwrap();
    output.failed(code, texts);
}

#[test]
fn settings_and_storage() {
    let folder = tempfile::tempdir().unwrap();
    let lake = text(&folder.path().join("lake"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let scheduler = |flags: &[&str], codes: &[i32], texts: &[&str]| {
        refuses_to_start("trireme-scheduler", &[flags, &["--ballista-port", "0"]].concat(), &[], codes, texts);
    };
    scheduler(&["--api-port", &port, "--storage", &lake], &[64], &["api_port", "in use"]);
    scheduler(&["--api-port", "0"], &[64], &["storage"]);
    scheduler(&["--api-port", "0", "--storage", &lake, "--split-size", "many"], &[64], &["split_size", "many"]);
    scheduler(&["--api-port", "0", "--storage", &lake, "--bind-host", "0.0.0.0"], &[64], &["api_token"]);
    scheduler(&["--api-port", "0", "--storage", "ftp://host/x"], &[64], &["ftp://host/x"]);
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    let below = text(&file.join("lake"));
    scheduler(&["--api-port", "0", "--storage", &below], &[64, 69, 74], &[&below]);
    let scheduler = ["--ballista-port", &port, "--api-port", "0", "--storage", &lake];
    refuses_to_start("trireme-scheduler", &scheduler, &[], &[64], &["ballista_port", "in use"]);
    let executor = ["--scheduler", "127.0.0.1:1", "--port", &port, "--grpc-port", "0", "--storage", &lake];
    refuses_to_start("trireme-executor", &executor, &[], &[64], &["port"]);
    refuses_to_start(
        "trireme-executor",
        &["--scheduler", "nobody", "--storage", &lake],
        &[],
        &[64],
        &["scheduler", "nobody"],
    );

    // The client without a scheduler, and one that can't bring its own.
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut alone = command(binary("trireme"));
    alone.args(["tables", "list", "--scheduler", &nobody]);
    Client::start(alone).finish().failed(69, &[&nobody, "--embedded"]);
    let output = Client::start(embedded(&file.join("lake"), 1, &["tables", "list"])).finish();
    assert!([64, 69].contains(&output.code.unwrap()), "{output}");
    let code = output.code.unwrap();
    output.failed(code, &["file/lake"]);
}

#[test]
fn storage_on_s3_that_is_not_there() {
    let closed = format!("http://127.0.0.1:{}", free_port());
    let closed_environment = [
        ("AWS_ENDPOINT_URL", closed.as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let refused = |environment: &[(&str, &str)], texts: &[&str]| {
        let flags = ["--api-port", "0", "--ballista-port", "0", "--storage", "s3://nobucket/lake"];
        refuses_to_start("trireme-scheduler", &flags, environment, &[64, 69, 74], texts);
    };
    refused(&closed_environment, &["s3://nobucket/lake"]);

    // A server without the bucket.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    answer_all(server, "404 Not Found", "<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>");
    let mut environment = closed_environment;
    environment[0].1 = &url;
    refused(&environment, &["s3://nobucket/lake", "bucket"]);

    let Some(s3) = Seaweed::start() else { return };
    let environment = s3.environment();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut wrong = environment.clone();
    wrong.retain(|(name, _)| *name != "AWS_SECRET_ACCESS_KEY");
    wrong.push(("AWS_SECRET_ACCESS_KEY", "wrong"));
    refused(&wrong, &["s3://nobucket/lake"]);
}

/// Answers every request like this and hangs up.
fn answer_all(server: TcpListener, head: &str, body: &str) {
    let answer = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}");
    std::thread::spawn(move || {
        for connection in server.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(answer.as_bytes());
        }
    });
}

/// A download that breaks off leaves nothing visible, and `current` as it was.
#[test]
fn a_broken_transfer() {
    let world = World::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/good.json", server.local_addr().unwrap());
    // Fewer bytes than promised.
    answer_all(server, "200 OK\r\nContent-Length: 5000", "[{\"id\": 9}]");
    let before = world.state();
    for (source, format) in [("a.good", "text"), ("a.fresh", "json")] {
        world.cli(&["download", "--from", &url, "--to", source, "--output", format]).failed(1, &[&url]);
    }
    assert_eq!(world.state(), before);
    let sources: Vec<Value> = world.json(&["raw", "list"]).done().json_lines();
    assert_eq!(sources.len(), 1, "{sources:?}");
}
