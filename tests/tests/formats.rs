//! Raw files as they come: what is in them is what `trireme sql` gives back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::process::Command;

use serde_json::{Value, json};
use trireme_tests::cluster::{Cluster, Options, text};
use trireme_tests::process::command;
use trireme_tests::python::Python;

/// Downloads a file, loads it into a table with these flags, and returns the table's rows.
#[track_caller]
fn load(cluster: &Cluster, name: &str, file: &str, content: impl AsRef<[u8]>, flags: &[&str]) -> Vec<Value> {
    let source = format!("raw.{name}");
    cluster.deliver(&source, file, content);
    rows(cluster, name, &source, flags)
}

#[track_caller]
fn rows(cluster: &Cluster, name: &str, source: &str, flags: &[&str]) -> Vec<Value> {
    let table = format!("t.{name}");
    cluster.json(&[&["load", "--table", &table, "--source", source], flags].concat()).done();
    let mut rows = cluster.sql(&format!("SELECT * FROM {table}"));
    rows.sort_by_key(|row| row.get("id").map(Value::to_string));
    rows
}

#[test]
fn json() {
    let cluster = Cluster::start(Options::default());

    let pretty = "\u{feff}[\r\n  {\r\n    \"id\": 1,\r\n    \"name\": \"Zoë “Ψ” 日本 😀\",\r\n    \"tags\": [],\r\n    \"at\": \"2021-12-25T07:00:00.000+0100\",\r\n    \
         \"deep\": { \"Label\": \"A\", \"n\": [ { \"x\": 1.5 }, { \"x\": null } ] }\r\n  },\r\n  {\r\n    \"id\": 2,\r\n    \"name\": null,\r\n    \
         \"tags\": [\"b\\n\\\"c\\\"\\u00e9\\ud83d\\ude00\", null]\r\n  }\r\n]\r\n";
    let found = load(
        &cluster,
        "pretty",
        "pretty.json",
        pretty,
        &[
            "-t",
            "id",
            "-t",
            "lower(name) AS name",
            "-t",
            "tags",
            "-t",
            "to_timestamp(at) AS at",
            "-t",
            "lower(deep.Label) AS label",
            "-t",
            "transform(deep.n, x -> x.x) AS xs",
        ],
    );
    let at = |text: &str| json!({ "id": 1, "name": "zoë “ψ” 日本 😀", "tags": [], "at": text, "label": "a", "xs": [1.5, null] });
    assert!(found[0] == at("2021-12-25T06:00:00Z"), "{found:?}");
    let second = json!({ "id": 2, "name": null, "tags": ["b\n\"c\"é😀", null], "at": null, "label": null, "xs": null });
    assert_eq!(found[1], second);

    // One object a line, lines of both kinds, a blank one, fields that come and go, a number that widens.
    let lines = "{\"id\":1,\"n\":1}\n{\"id\":2,\"n\":2.5,\"late\":\"x\"}\r\n\n{\"n\":null,\"id\":3}\n{\"id\":4}";
    let found = load(&cluster, "lines", "lines.ndjson", lines, &[]);
    assert_eq!(
        found,
        [
            json!({ "id": 1, "n": 1.0, "late": null }),
            json!({ "id": 2, "n": 2.5, "late": "x" }),
            json!({ "id": 3, "n": null, "late": null }),
            json!({ "id": 4, "n": null, "late": null }),
        ]
    );

    // Names in upper case: as they are in the file, or in any case, as in Spark.
    let upper = r#"[{"Id": 1, "UserName": "A", "Home": {"ZipCode": "1010"}}]"#;
    let flags = ["-t", "Id AS id", "-t", "UserName AS exact", "-t", "username AS lower", "-t", "home.zipcode AS zip"];
    let found = load(&cluster, "upper", "upper.json", upper, &flags);
    assert_eq!(found, [json!({ "id": 1, "exact": "A", "lower": "A", "zip": "1010" })]);

    // A declared schema: text stays text, what is not declared is not read.
    let typed = r#"[{"id": 1, "code": "007", "price": "1.50", "x": 1}, {"id": 2, "code": "8"}]"#;
    let flags = ["--schema", "id BIGINT, code STRING, price DECIMAL(10, 2), at TIMESTAMP"];
    let found = load(&cluster, "typed", "typed.json", typed, &flags);
    assert_eq!(found.len(), 2);
    assert_eq!((&found[0]["code"], &found[1]["price"], &found[1]["at"]), (&json!("007"), &Value::Null, &Value::Null));
    let price = found[0]["price"].to_string();
    assert_eq!(price.trim_matches('"').parse::<f64>().unwrap(), 1.5, "{found:?}");
    assert_eq!(found[0].as_object().unwrap().len(), 4, "{found:?}");

    // Empty lists everywhere, and one record.
    let found = load(
        &cluster,
        "empty",
        "empty.json",
        r#"[{"id": 1, "xs": [], "ys": null}]"#,
        &["-t", "id", "-t", "size(xs) AS n"],
    );
    assert_eq!(found, [json!({ "id": 1, "n": 0 })]);
}

#[test]
fn csv() {
    let cluster = Cluster::start(Options::default());

    let quirks = "\u{feff}id,title,note,at\r\n\
                  1,\"Rosencrantz, \"\"dead\"\"\",,2021-12-01T00:30:00.250+0100\r\n\
                  2,\"two\r\nlines\",\"\",2021-12-01T00:30:00.250-0330\r\n\
                  3,日本 Ω,  spaced ,";
    let flags = ["-t", "id", "-t", "title", "-t", "note", "-t", "to_timestamp(at) AS at"];
    let found = load(&cluster, "quirks", "quirks.csv", quirks, &flags);
    assert_eq!(
        found,
        [
            json!({ "id": "1", "title": "Rosencrantz, \"dead\"", "note": null, "at": "2021-11-30T23:30:00.250Z" }),
            json!({ "id": "2", "title": "two\r\nlines", "note": "", "at": "2021-12-01T04:00:00.250Z" }),
            json!({ "id": "3", "title": "日本 Ω", "note": "  spaced ", "at": null }),
        ]
    );

    let flags = ["--schema", "Id INT, Price DOUBLE, Day DATE, At TIMESTAMP, Ok BOOLEAN, Note STRING"];
    let typed = "Id,Price,Day,At,Ok,Note\n1,1.25,2021-12-25,2021-12-25T07:00:00.000+0100,true,x\n2,,,,,\n";
    let names = ["id", "price", "day", "at", "ok", "note"];
    let columns = names.map(|name| format!("{name} AS {name}"));
    let columns: Vec<&str> = columns.iter().flat_map(|column| ["-t", column]).collect();
    let found = load(&cluster, "typed", "typed.csv", typed, &[&flags, &columns[..]].concat());
    assert_eq!(
        found,
        [
            json!({ "id": 1, "price": 1.25, "day": "2021-12-25", "at": "2021-12-25T06:00:00Z", "ok": true, "note": "x" }),
            json!({ "id": 2, "price": null, "day": null, "at": null, "ok": null, "note": null }),
        ]
    );

    // Many records with line ends in quotes, read in several pieces.
    let mut long = String::from("id,text\n");
    for id in 0..120_000 {
        long.push_str(&format!("{id},\"line {id}\nnext, \"\"{id}\"\"\"\n"));
    }
    assert!(long.len() > 2 << 20);
    load(&cluster, "long", "long.csv", &long, &["-t", "CAST(id AS bigint) AS id", "-t", "text", "--pk", "id"]);
    let right = "SELECT count(*) AS n FROM t.long WHERE text = concat('line ', CAST(id AS string), '\n', 'next, \"', CAST(id AS string), '\"')";
    assert_eq!(cluster.number(right), 120_000);
    assert_eq!(cluster.number("SELECT sum(id) AS n FROM t.long"), 120_000 * 119_999 / 2);
}

#[test]
fn parquet() {
    let Some(python) = Python::find() else { return };
    let cluster = Cluster::start(Options::default());
    let path = cluster.folder().join("rows.parquet");
    // Several row groups, made by another engine.
    let sql = format!(
        "COPY (SELECT i AS Id, CASE WHEN i % 3 > 0 THEN 'v' || i END AS name, [i, NULL] AS xs, \
         make_timestamp(1640412000500000 + i) AS local, CAST(i AS DECIMAL(12, 2)) / 4 AS price \
         FROM range(50000) t(i)) TO '{}' (FORMAT parquet, ROW_GROUP_SIZE 10000)",
        path.display()
    );
    let mut make: Command = command(python.program());
    make.arg("-c").arg("import duckdb, sys; duckdb.sql(sys.argv[1])").arg(sql);
    assert!(make.status().unwrap().success());
    cluster.json(&["download", "--from", &text(&path), "--to", "raw.rows"]).done();
    let flags = [
        "-t",
        "id AS id",
        "-t",
        "upper(name) AS name",
        "-t",
        "xs",
        "-t",
        "CAST(price AS double) AS price",
        "--pk",
        "id",
    ];
    let found = rows(&cluster, "rows", "raw.rows", &flags);
    assert_eq!(found.len(), 50_000);
    assert_eq!(found[0], json!({ "id": 0, "name": null, "xs": [0, null], "price": 0.0 }));
    let row = found.iter().find(|row| row["id"] == 40_001).unwrap();
    assert_eq!(*row, json!({ "id": 40001, "name": "V40001", "xs": [40001, null], "price": 10000.25 }));
    assert_eq!(cluster.number("SELECT sum(id) AS n FROM t.rows"), 50_000 * 49_999 / 2);
}
