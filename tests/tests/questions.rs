//! Questions and `trireme sql` over the sample's tables, against DuckDB's rows for the same SQL and against values worked out by hand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

use std::fs;

use serde_json::{Value, json};
use trireme_tests::cluster::{Cluster, Options, example};
use trireme_tests::python::Python;

/// SQL that Spark and DuckDB read alike.
const COMMON: [(&str, &str); 8] = [
    (
        "cte_join_group",
        "WITH long AS (SELECT * FROM stream.streams WHERE end_at > start_at), named AS (SELECT email, last_name FROM stream.users) \
         SELECT n.last_name, COUNT(*) AS sessions, COUNT(DISTINCT l.movie_title) AS titles, MIN(l.start_at) AS first_at, MAX(l.size_mb) AS largest \
         FROM long l JOIN named n ON n.email = l.user_email GROUP BY n.last_name",
    ),
    (
        "left_and_anti",
        "SELECT m.title, m.original_language, b.pages FROM stream.movies m LEFT JOIN vendor.books b ON b.name = m.title \
         WHERE NOT EXISTS (SELECT 1 FROM stream.streams s WHERE s.movie_title = m.title) OR b.pages > 0",
    ),
    ("full_outer", "SELECT b.name, m.title FROM vendor.books b FULL OUTER JOIN stream.movies m ON m.title = b.name"),
    (
        "windows",
        "SELECT user_email, start_at, ROW_NUMBER() OVER w AS nth, LAG(movie_title) OVER w AS before, \
         COUNT(*) OVER (PARTITION BY user_email) AS sessions FROM stream.streams WINDOW w AS (PARTITION BY user_email ORDER BY start_at)",
    ),
    (
        "sets",
        "SELECT title AS name FROM stream.movies INTERSECT SELECT name FROM vendor.books UNION ALL \
         SELECT name FROM (SELECT name FROM vendor.books EXCEPT SELECT title FROM stream.movies) AS rest",
    ),
    (
        "self_join",
        "SELECT a.user_email, COUNT(*) AS overlaps FROM stream.streams a JOIN stream.streams b \
         ON a.user_email = b.user_email AND a.start_at < b.start_at AND b.start_at < a.end_at GROUP BY a.user_email HAVING COUNT(*) > 1",
    ),
    (
        "in_and_scalar",
        "SELECT title FROM stream.movies WHERE size_mb > (SELECT AVG(size_mb) FROM stream.movies) \
         AND title IN (SELECT movie_title FROM stream.streams)",
    ),
    ("nothing", "SELECT title, size_mb FROM stream.movies WHERE size_mb < 0"),
];

fn loaded() -> Cluster {
    let cluster = Cluster::start(Options::default());
    cluster.json(&["run", example().to_str().unwrap()]).done();
    cluster
}

fn ask(cluster: &Cluster, table: &str, sql: &str) -> Value {
    let file = cluster.folder().join(format!("{table}.sql"));
    fs::write(&file, sql).unwrap();
    cluster.json(&["question", "--sql", file.to_str().unwrap(), "--table", table]).done().json()
}

#[test]
fn answers_are_those_of_another_engine() {
    let Some(python) = Python::find() else { return };
    let cluster = loaded();
    for (name, sql) in COMMON {
        let table = format!("q.{name}");
        let job = ask(&cluster, &table, sql);
        let found = python.check_question(&cluster.lake(), &table, &cluster.folder().join(format!("{table}.sql")));
        assert_eq!(found[&table]["rows"], job["answer_rows"], "{name}");
        assert_eq!(job["answer_rows"] == 0, name == "nothing", "{name}: {job}");
    }
    // A question may read another's table, and replace its own by other columns.
    let job = ask(&cluster, "q.nothing", "SELECT COUNT(*) AS n FROM q.windows");
    assert_eq!((&job["answer"], &job["delta_version"]), (&json!([{ "n": 2000 }]), &1.into()), "{job}");
}

#[test]
fn an_answer_has_the_order_of_its_sql() {
    let cluster = loaded();
    let sql = "SELECT start_at, movie_title FROM stream.streams ORDER BY start_at DESC";
    let job = ask(&cluster, "q.ordered", sql);
    assert_eq!(job["answer_rows"], 2000);
    let answer = job["answer"].as_array().unwrap();
    assert_eq!(answer.len(), 1000, "the first thousand rows are kept with the job");
    let rows = cluster.sql(sql);
    assert!(rows.is_sorted_by_key(|row| std::cmp::Reverse(row["start_at"].as_str().unwrap().to_string())));
    assert_eq!(answer[..], rows[..1000]);
    let top = cluster.sql("SELECT title FROM stream.movies ORDER BY title LIMIT 5 OFFSET 3");
    let all = cluster.sql("SELECT title FROM stream.movies ORDER BY title");
    assert_eq!(top[..], all[3..8]);
    let top = ask(&cluster, "q.top", "SELECT title FROM stream.movies ORDER BY title LIMIT 5 OFFSET 3");
    assert_eq!(top["answer"].as_array().unwrap()[..], all[3..8]);
    let nested = "SELECT title FROM (SELECT title FROM stream.movies ORDER BY title LIMIT 5 OFFSET 3) t ORDER BY title";
    assert_eq!(cluster.sql(nested)[..], all[3..8]);
}

/// The same over more rows than one task gets: groups come sorted from each of several partitions, and are merged.
#[test]
fn an_order_of_groups_outlives_several_tasks() {
    let cluster = Cluster::start(Options::default());
    // Text that does not compress, so that the table is worth several tasks.
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 33) % 75).unwrap())
    };
    let mut csv = String::from("kind,text\n");
    for row in 0..120_000 {
        csv.push_str(&format!("{},", row % 97));
        csv.extend(std::iter::repeat_with(&mut letter).take(100));
        csv.push('\n');
    }
    cluster.deliver("raw.groups", "groups.csv", csv);
    let load =
        ["load", "--table", "t.groups", "--source", "raw.groups", "-t", "CAST(kind AS int) AS kind", "-t", "text"];
    cluster.json(&load).done();
    let sql = "SELECT kind, count(*) AS n FROM t.groups GROUP BY kind ORDER BY kind";
    let kinds = |rows: &[Value]| rows.iter().map(|row| row["kind"].as_i64().unwrap()).collect::<Vec<_>>();
    let right: Vec<i64> = (0..97).collect();
    assert_eq!(kinds(&cluster.sql(sql)), right);
    let job = ask(&cluster, "q.groups", sql);
    assert_eq!(kinds(job["answer"].as_array().unwrap()), right);
    let tasks = |stage: &Value| stage["tasks_total"].as_u64().unwrap();
    assert!(job["stages"].as_array().unwrap().iter().any(|stage| tasks(stage) > 1), "one task did it all: {job}");
}

#[test]
fn sql_is_sparks() {
    let cluster = loaded();
    let one = |expression: &str| cluster.sql(&format!("SELECT {expression} AS x")).remove(0)["x"].clone();
    for (expression, value) in [
        ("IF(1 > 2, 'a', 'b')", json!("b")),
        ("transform(array(1, 2), x -> x + 1)", json!([2, 3])),
        ("filter(array('a', NULL, 'b'), x -> x IS NOT NULL)", json!(["a", "b"])),
        ("array_contains(array('a', 'b'), 'b')", json!(true)),
        ("size(array())", json!(0)),
        ("to_timestamp('2021-12-25T07:00:00.000+0100')", json!("2021-12-25T06:00:00Z")),
        ("to_timestamp('2021-12-25 07:00:00')", json!("2021-12-25T07:00:00Z")),
        ("to_date('2021-12-25')", json!("2021-12-25")),
        ("CAST(to_timestamp('2021-12-25T07:00:30.900Z') - to_timestamp('2021-12-25T07:00:00Z') AS int)", json!(30)),
        ("to_timestamp('2021-12-25T00:00:00Z') - INTERVAL 7 days", json!("2021-12-18T00:00:00Z")),
        ("date_add(to_date('2021-12-25'), 7)", json!("2022-01-01")),
        ("unix_millis(to_timestamp('1970-01-01T00:00:01.5Z'))", json!(1500)),
        ("concat_ws('-', 'a', 'b')", json!("a-b")),
        ("coalesce(NULL, 'x')", json!("x")),
        ("substring('spark', 1, 3)", json!("spa")),
        ("CAST('12' AS int) + 1", json!(13)),
        ("7 / 2", json!(3.5)),
        ("round(2.5)", json!(3)),
        ("split('a,b', ',')", json!(["a", "b"])),
        ("lower('ÄΩ')", json!("äω")),
    ] {
        let found = one(expression);
        let same = found == value || found.as_f64().is_some() && found.as_f64() == value.as_f64();
        assert!(same, "{expression} is {found}, expected {value}");
    }
    assert_eq!(cluster.sql("SELECT median(v) AS m FROM (VALUES (1), (2), (10), (20)) AS t(v)"), [json!({ "m": 6.0 })]);
    let exploded = "SELECT COUNT(*) AS n FROM (SELECT name, explode(nationality_labels) AS label FROM vendor.authors) e WHERE label = 'singaporeans'";
    let contains = "SELECT COUNT(*) AS n FROM vendor.authors WHERE array_contains(nationality_labels, 'singaporeans')";
    assert_eq!(cluster.number(exploded), cluster.number(contains));
    // Names are found in any case.
    assert_eq!(cluster.number("SELECT COUNT(*) AS n FROM Stream.STREAMS WHERE Movie_Title IS NOT NULL"), 2000);
}

#[test]
fn a_part_of_a_pipeline_can_be_run() {
    let cluster = loaded();
    let example = example();
    let only = |names: &[&str]| {
        let flags: Vec<&str> = names.iter().flat_map(|name| ["--only", name]).collect();
        let run = cluster.json(&[&["run", example.to_str().unwrap()], &flags[..]].concat()).done().json();
        let parts = run["parts"].as_array().unwrap().iter();
        parts
            .map(|part| format!("{} {}", part["kind"].as_str().unwrap(), part["name"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(only(&["analytics.median_streaming_size"]), ["question analytics.median_streaming_size"]);
    assert_eq!(only(&["vendor.books"]), ["download vendor.books", "merge vendor.books"]);
    cluster
        .cli(&["run", example.to_str().unwrap(), "--only", "vendor.bocks"])
        .failed(64, &["vendor.bocks", "vendor.books"]);
}

/// Branches of different types become one, in tables as in results.
#[test]
fn a_table_has_the_types_that_its_branches_agree_on() {
    let cluster = Cluster::start(Options::default());
    cluster.deliver("a.rows", "rows.csv", "k\n1\n2\n3\n");
    let mixed = "CASE WHEN k = 1 THEN 1 ELSE 2.5 END AS c, if(k = 1, 'one', 2) AS i, coalesce(nullif(k, 1), 0.5) AS o";
    let line = ["load", "--table", "a.raw", "--source", "a.rows", "-t", "CAST(k AS int) AS k"];
    cluster.json(&line).done();
    let columns = mixed.replace("k = 1", "CAST(k AS int) = 1").replace("nullif(k", "nullif(CAST(k AS int)");
    let line = ["load", "--table", "a.loaded", "--source", "a.rows", "-t", "CAST(k AS int) AS k"];
    let expects = ["--expect", "half=c = 1 OR c = 2.5", "--on-bad-record", "quarantine"];
    let columns: Vec<&str> = columns.split(", ").collect();
    // Commas within functions are no ends of columns.
    let columns = [columns[0], &columns[1..4].join(", "), &columns[4..].join(", ")];
    let flags: Vec<&str> = columns.iter().flat_map(|column| ["-t", *column]).collect();
    cluster.json(&[&line[..], &flags, &expects].concat()).done();
    ask(&cluster, "a.asked", &format!("SELECT k, {mixed} FROM a.raw"));
    let expected = [
        json!({ "k": 1, "c": 1.0, "i": "one", "o": 0.5 }),
        json!({ "k": 2, "c": 2.5, "i": "2", "o": 2.0 }),
        json!({ "k": 3, "c": 2.5, "i": "2", "o": 3.0 }),
    ];
    for table in ["a.loaded", "a.asked"] {
        assert_eq!(cluster.sql(&format!("SELECT * FROM {table} ORDER BY k")), expected, "{table}");
    }
    ask(
        &cluster,
        "a.sums",
        "SELECT max(CASE WHEN k = 1 THEN 1 ELSE 2.5 END) AS most, sum(if(k = 1, 1, 0.5)) AS sum FROM a.raw",
    );
    assert_eq!(cluster.sql("SELECT * FROM a.sums"), [json!({ "most": 2.5, "sum": 2.0 })]);
}
