//! Deliveries as exporters really write them: other delimiters, quotes, letters and NULLs, nothing at all, odd names and odd depths.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;

use serde_json::{Value, json};
use trireme_tests::cluster::{Cluster, Options};

fn sorted(cluster: &Cluster, table: &str) -> Vec<Value> {
    let mut rows = cluster.sql(&format!("SELECT * FROM {table}"));
    rows.sort_by_key(|row| row.get("id").map(Value::to_string));
    rows
}

#[test]
fn text_is_read_as_it_is_said_to_be_written() {
    let cluster = Cluster::start(Options::default());
    let path = cluster.folder().join("export.csv");
    let path = path.to_str().unwrap();
    let text = "1;'caf\u{e9} \\'au lait\\'';NA\n2;'a;\n\\\\';1e2\n3;NA;1,5e1\n";
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    fs::write(path, &bytes).unwrap();
    let said = ["--delimiter", ";", "--quote", "'", "--escape", "\\", "--encoding", "latin1", "--null-value", "NA"];
    let download = ["download", "--from", path, "--to", "r.said", "--header", "false"];
    cluster.cli(&[&download[..], &said].concat()).done();
    let again = cluster.json(&[&download[..], &said].concat()).done().json();
    assert_eq!(again["outcome"], "already current", "{again}");
    let schema = ["--schema", "id INT, t STRING, d DECIMAL(6,2)"];
    cluster.cli(&[&["load", "--table", "t.said", "--source", "r.said"][..], &schema].concat()).done();
    let expected = [
        json!({ "id": 1, "t": "caf\u{e9} 'au lait'", "d": null }),
        json!({ "id": 2, "t": "a;\n\\", "d": "100.00" }),
        json!({ "id": 3, "t": null, "d": "15.00" }),
    ];
    let decimal = |rows: Vec<Value>| -> Vec<Value> {
        let text = |row: Value| match row["d"].as_f64() {
            Some(d) => json!({ "id": row["id"], "t": row["t"], "d": format!("{d:.2}") }),
            None => row,
        };
        rows.into_iter().map(text).collect()
    };
    let found = decimal(sorted(&cluster, "t.said"));
    // "1,5e1" is fifteen digits of no decimal comma: as in Spark, commas in numbers are passed over.
    assert_eq!(found[..2], expected[..2]);
    assert_eq!(found[2]["d"], "150.00");

    // The same by a pipeline, and said only where it is loaded.
    let pipeline = cluster.folder().join("p.yaml");
    fs::write(
        &pipeline,
        "name: p\nsources:\n  r.piped: { from: export.csv, delimiter: ';', quote: \"'\", escape: '\\', encoding: ISO-8859-1, \
         null_value: NA, header: false, schema: 'id INT, t STRING, d DECIMAL(6,2)' }\n\
         tables:\n  t.piped: { source: r.piped, mode: merge, primary_key: [id] }\n",
    )
    .unwrap();
    cluster.cli(&["run", pipeline.to_str().unwrap()]).done();
    assert_eq!(decimal(sorted(&cluster, "t.piped")), found);
    cluster.deliver("r.later", "later.csv", "id|t\n1|x,y\n2|\"|\"\n");
    cluster.cli(&["load", "--table", "t.later", "--source", "r.later", "--delimiter", "|"]).done();
    assert_eq!(sorted(&cluster, "t.later"), [json!({ "id": "1", "t": "x,y" }), json!({ "id": "2", "t": "|" })]);

    for (flags, texts) in [
        (&["--delimiter", "||"][..], &["`delimiter`", "||", "not one character"][..]),
        (&["--delimiter", "'", "--quote", "'"], &["`delimiter` and `quote`"]),
        (&["--encoding", "klingon"], &["`klingon` is not an encoding", "UTF-16"]),
        (&["--format", "json", "--header", "false"], &["`header` is an option of CSV"]),
    ] {
        let download = ["download", "--from", path, "--to", "r.wrong"];
        cluster.cli(&[&download[..], flags].concat()).failed(64, texts);
    }
    // What a backslash before a quote means is asked, never guessed.
    cluster.deliver("r.escaped", "escaped.csv", "id,t\n1,\"say \\\"hi\\\" x\"\n");
    let load = ["load", "--table", "t.escaped", "--source", "r.escaped"];
    cluster.cli(&load).failed(1, &["r.escaped", "line 2", "`escape: '\\'`"]);
    cluster.cli(&[&load[..], &["--on-bad-record", "quarantine"]].concat()).done();
    assert_eq!(cluster.number("SELECT count(*) FROM quarantine.t_escaped WHERE line = 2"), 1);
    cluster.cli(&[&load[..], &["--escape", "\\"]].concat()).done();
    assert_eq!(sorted(&cluster, "t.escaped"), [json!({ "id": "1", "t": "say \"hi\" x" })]);
    // Exporters that quote every field.
    cluster.deliver("r.quoted", "quoted.csv", "\"id\",\"n\"\n\"1\",\"\"\n\"2\",\"6\"\n");
    cluster.cli(&["load", "--table", "t.quoted", "--source", "r.quoted", "--schema", "id INT, n INT"]).done();
    assert_eq!(sorted(&cluster, "t.quoted"), [json!({ "id": 1, "n": null }), json!({ "id": 2, "n": 6 })]);
}

#[test]
fn an_empty_delivery_is_no_rows() {
    let cluster = Cluster::start(Options::default());
    for (name, file, full, empties) in [
        ("lines", "x.ndjson", "{\"id\": 1, \"name\": \"one\"}\n", &["", "\n \n"][..]),
        ("array", "x.json", "[{\"id\": 1, \"name\": \"one\"}]", &["[]", " [ ]\n"]),
        ("csv", "x.csv", "id,name\n1,one\n", &["", "id,name\n"]),
    ] {
        let (source, table, loaded) = (format!("e.{name}"), format!("t.{name}"), format!("l.{name}"));
        let merge = ["merge", "--table", &table, "--source", &source, "--pk", "id", "--all-pending"];
        let load = ["load", "--table", &loaded, "--source", &source];
        // Before anything came that has columns.
        cluster.deliver(&source, file, empties[0]);
        let nothing = cluster.json(&merge).done().json();
        assert_eq!(
            (nothing["outcome"].as_str(), nothing["state"].as_str()),
            (Some("nothing was delivered yet"), Some("succeeded"))
        );
        cluster.cli(&load).done();
        assert!(cluster.json(&["tables", "list"]).done().json_lines().iter().all(|row| row["name"] != table.as_str()));
        cluster.deliver(&source, file, full);
        cluster.cli(&merge).done();
        cluster.cli(&load).done();
        for empty in empties {
            cluster.deliver(&source, file, empty);
            let merged = cluster.json(&merge).done().json();
            assert_eq!(merged["outcome"], "applied", "{merged}");
            assert_eq!(cluster.number(&format!("SELECT count(*) FROM {table}")), 1);
            cluster.cli(&load).done();
            assert_eq!(cluster.number(&format!("SELECT count(*) FROM {loaded}")), 0);
        }
        let more = full.replace('1', "2").replace("one", "two");
        cluster.deliver(&source, file, more);
        cluster.cli(&merge).done();
        cluster.cli(&load).done();
        assert_eq!(sorted(&cluster, &table).len(), 2);
        assert_eq!(sorted(&cluster, &loaded).len(), 1);
        // Expressions over columns that only the versions before tell.
        cluster.deliver(&source, file, empties[0]);
        let flags = ["-t", "CAST(id AS int) AS id", "-t", "upper(name) AS name", "--where", "id > 0"];
        let checks = ["--on-bad-record", "quarantine", "--expect", "named=name IS NOT NULL", "--order-by", "name"];
        let merge = ["merge", "--table", "t.exprs", "--source", &source, "--pk", "id"];
        cluster.cli(&[&merge[..], &flags, &checks].concat()).done();
        assert_eq!(cluster.number("SELECT count(*) FROM t.exprs"), 0);
    }
}

#[test]
fn no_field_is_taken_for_one_of_ours() {
    let cluster = Cluster::start(Options::default());
    let names = [
        "keep",
        "latest",
        "reason",
        "check_0",
        "strict_0",
        "rank",
        "file",
        "row",
        "part",
        "offset",
        "length",
        "line",
        "bad",
        "action",
        "before_id",
        "times",
        "z",
        "range",
        "partition",
        "seal",
    ];
    let record = |id: i64| {
        let fields: Vec<String> = names.iter().map(|name| format!("\"__{name}\": false")).collect();
        format!("{{\"id\": {id}, {}, \"n\": {id}}}\n", fields.join(", "))
    };
    cluster.deliver("o.ours", "x.ndjson", record(1) + &record(2));
    let flags = ["--where", "id < 3", "--order-by", "n", "--expect", "n:warn=n > 1", "--on-bad-record", "quarantine"];
    let merge = ["merge", "--table", "t.ours", "--source", "o.ours", "--pk", "id"];
    cluster.cli(&[&merge[..], &flags].concat()).done();
    cluster.deliver("o.ours", "x.ndjson", record(2) + &record(3) + &record(2));
    let clauses = ["--when-matched", "update_if=source.n >= target.n", "--when-not-matched", "insert"];
    cluster.cli(&[&merge[..], &["--order-by", "n"], &clauses].concat()).done();
    cluster.cli(&["load", "--table", "t.loaded", "--source", "o.ours", "--sort-by", "n"]).done();
    cluster.cli(&["optimize", "t.ours", "--z-order", "id,n"]).done();
    let all: Vec<String> = names.iter().map(|name| format!("count(__{name})")).collect();
    let sum = |table: &str| cluster.number(&format!("SELECT {} FROM {table}", all.join(" + ")));
    let each = i64::try_from(names.len()).unwrap();
    assert_eq!((sum("t.ours"), sum("t.loaded")), (3 * each, 3 * each));
    let sql = cluster.folder().join("q.sql");
    fs::write(&sql, "SELECT id, count(__file) AS __file, max(__keep) AS __keep FROM t.ours GROUP BY id").unwrap();
    cluster.cli(&["question", "--sql", sql.to_str().unwrap(), "--table", "a.ours"]).done();
    assert_eq!(cluster.number("SELECT sum(__file) FROM a.ours"), 3);
}

#[test]
fn nesting_is_deep_or_too_deep_and_never_lost_work() {
    let cluster = Cluster::start(Options::default());
    let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    let record = |id: i64, levels: usize| format!("{{\"id\": {id}, \"x\": {}}}\n", nested(levels - 1));
    cluster.deliver("d.deep", "x.json", record(1, 32) + &record(2, 32));
    let merge = ["merge", "--table", "t.deep", "--source", "d.deep", "--pk", "id"];
    cluster.cli(&[&merge[..], &["--order-by", "id", "--where", "x IS NOT NULL"]].concat()).done();
    cluster.deliver("d.deep", "x.json", record(2, 32) + &record(3, 32));
    cluster.cli(&[&merge[..], &["--when-matched", "update_if=target.id > 0"]].concat()).done();
    // A plan with many steps carries types less deep, and says so.
    let history = ["merge", "--table", "t.deeply", "--source", "d.deep", "--pk", "id", "--history"];
    cluster.cli(&history).failed(64, &["nested too deep", "STRING"]);
    cluster.cli(&["load", "--table", "t.loaded", "--source", "d.deep", "--on-bad-record", "quarantine"]).done();
    cluster.cli(&["optimize", "t.deep", "--retired-percent", "1"]).done();
    let leaf = format!("x.{}", vec!["a"; 31].join("."));
    assert_eq!(cluster.number(&format!("SELECT sum({leaf}) FROM t.deep")), 3);
    let sql = cluster.folder().join("q.sql");
    fs::write(&sql, "SELECT l.id, l.x FROM t.deep l JOIN t.deep r ON l.id = r.id ORDER BY l.id").unwrap();
    cluster.cli(&["question", "--sql", sql.to_str().unwrap(), "--table", "a.deep"]).done();
    assert_eq!(cluster.sql("SELECT x FROM a.deep").len(), 3);
    for levels in [33, 40, 127, 1000] {
        cluster.deliver("d.deeper", "x.json", record(1, 3) + &record(2, levels));
        let load = ["load", "--table", "t.deeper", "--source", "d.deeper"];
        cluster.cli(&load).failed(1, &["d.deeper", "line 2", "32 levels"]);
        let quarantine = cluster.cli(&[&load[..], &["--on-bad-record", "quarantine"]].concat());
        quarantine.done();
        assert_eq!(cluster.number("SELECT count(*) FROM t.deeper"), 1);
    }
    let ddl = format!("id INT, x {}INT{}", "ARRAY<".repeat(40), ">".repeat(40));
    let load = ["load", "--table", "t.ddl", "--source", "d.deep", "--schema", &ddl];
    cluster.cli(&load).failed(64, &["41 levels", "32"]);
    let text = ["load", "--table", "t.text", "--source", "d.deep", "--schema", "id INT, x STRING"];
    cluster.cli(&text).done();
}

#[test]
fn a_root_may_have_any_name() {
    for name in ["donn\u{e9}es 日本", "50% [a] {b}", "q?x#y"] {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().join(name);
        let cluster = Cluster::start(Options { storage: Some(storage.to_str().unwrap().into()), ..Options::default() });
        let zip = |text: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let rows = |from: i64| (from..from + 50).map(|n| format!("{{\"id\": {n}, \"n\": {n}}}\n")).collect::<String>();
        let merge = ["merge", "--table", "t.odd", "--source", "o.odd", "--pk", "id"];
        cluster.deliver("o.odd", "x.json.gz", zip(&rows(0)));
        cluster.cli(&merge).done();
        cluster.deliver("o.odd", "x.json.gz", zip(&rows(25)));
        cluster.cli(&merge).done();
        cluster.deliver("o.odd", "x.json.gz", zip(&(rows(70) + "{\"id\": 5")));
        cluster.cli(&[&merge[..], &["--on-bad-record", "quarantine", "--when-matched", "update"]].concat()).done();
        assert_eq!(cluster.number("SELECT sum(n) FROM t.odd"), (0..120).sum::<i64>(), "{name}");
        assert_eq!(cluster.number("SELECT count(*) FROM quarantine.t_odd WHERE raw LIKE '%5'"), 1, "{name}");
        cluster.cli(&["optimize", "t.odd", "--retired-percent", "1"]).done();
        cluster.cli(&["load", "--table", "t.all", "--source", "o.odd", "--on-bad-record", "quarantine"]).done();
        let sql = cluster.folder().join("q.sql");
        fs::write(&sql, "SELECT count(*) AS n FROM t.odd JOIN t.all USING (id)").unwrap();
        cluster.cli(&["question", "--sql", sql.to_str().unwrap(), "--table", "a.odd"]).done();
        assert_eq!(cluster.number("SELECT n FROM a.odd"), 50, "{name}");
    }
}
