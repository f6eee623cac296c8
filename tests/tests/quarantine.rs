//! Bad records and failed expectations: where they go, what is told of them, and that they are there exactly once.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::{fs, io::Write};

use serde_json::{Value, json};
use trireme_tests::{
    cluster::{Cluster, Options},
    wait_for,
};

fn cluster() -> Cluster {
    // Every few records are a piece of their own.
    let scheduler = ["--split-size", "1KiB"].map(String::from).to_vec();
    Cluster::start(Options { scheduler, ..Options::default() })
}

/// A delivery: its text, its number of good records, and place and text of the others.
#[derive(Default)]
struct Delivery {
    text: String,
    good: u64,
    bad: Vec<(usize, usize, String)>,
}

impl Delivery {
    /// An array, an object a line, in which every `nth` is followed by one of these.
    fn array(ids: std::ops::Range<u64>, nth: u64, bad: &[&str]) -> Self {
        let mut delivery = Self { text: "[\n".to_string(), ..Self::default() };
        for id in ids.clone() {
            delivery
                .text
                .push_str(&format!("  {{\"Id\": {id}, \"size\": \"{}\", \"o\": {{\"a\": [{id}]}}}},\n", id % 7));
            delivery.good += 1;
            if id % nth == 0 {
                let record = bad[(id / nth) as usize % bad.len()];
                let line = delivery.text.matches('\n').count() + 1;
                delivery.bad.push((delivery.text.len() + 2, line, record.to_string()));
                delivery.text.push_str(&format!("  {record},\n"));
            }
        }
        delivery.text.push_str(&format!("  {{\"Id\": {}, \"size\": \"1\"}}\n]\n", ids.end));
        delivery.good += 1;
        delivery
    }
}

const BAD: [&str; 5] =
    ["{\"Id\":", "nonsense", "{\"Id\": 7, \"size\": \"never closed}", "{\"Id\" 8, \"o\": {\"a\": [1, 2]}}", "17"];

fn quarantined(cluster: &Cluster, table: &str) -> Vec<Value> {
    cluster.sql(&format!("SELECT * FROM quarantine.{table} ORDER BY version, byte_offset"))
}

#[test]
fn places_in_compressed_deliveries_are_those_of_the_text() {
    let cluster = cluster();
    let day = Delivery::array(0..600, 11, &BAD);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(day.text.as_bytes()).unwrap();
    let forms = [
        ("gz", "day.json.gz", gzip.finish().unwrap()),
        ("zst", "day.json.zst", zstd::stream::encode_all(day.text.as_bytes(), 1).unwrap()),
    ];
    for (name, file, bytes) in forms {
        let (table, source) = (format!("a.{name}"), format!("raw.{name}"));
        cluster.deliver(&source, file, bytes);
        let flags = ["-t", "id", "--pk", "id", "--on-bad-record", "quarantine"];
        let job =
            cluster.json(&[&["merge", "--table", &table, "--source", &source], &flags[..]].concat()).done().json();
        let counts = ["rows_inserted", "rows_quarantined"].map(|name| job["metrics"][name].as_u64().unwrap());
        assert_eq!(counts, [day.good, day.bad.len() as u64], "{job}");
        let places = quarantined(&cluster, &format!("a_{name}")).into_iter().map(|row| {
            let number = |name: &str| row[name].as_u64().unwrap() as usize;
            (number("byte_offset"), number("line"), row["raw"].as_str().unwrap().to_string())
        });
        assert_eq!(places.collect::<Vec<_>>(), day.bad, "{file}");
    }
}

#[test]
fn bad_records_are_put_aside_with_place_and_text() {
    let cluster = cluster();
    let day = Delivery::array(0..900, 9, &BAD);
    let version = cluster.deliver("a.s", "day.json", &day.text)["raw_version"].clone();
    let merge = ["merge", "--table", "a.t", "--source", "a.s", "-t", "id", "-t", "o.a AS xs", "--pk", "id"];
    cluster.cli(&merge).failed(1, &["day.json", "line 3"]);
    let most = [&merge[..], &["--on-bad-record", "quarantine", "--max-bad-records", "99"]].concat();
    cluster.cli(&most).failed(1, &["100 bad records", "max_bad_records of table a.t is 99", "line 3: malformed"]);
    assert!(cluster.json(&["tables", "list"]).done().json_lines().is_empty(), "nothing was changed");

    let merge = [&merge[..], &["--on-bad-record", "quarantine", "--max-bad-records", "100"]].concat();
    let job = cluster.json(&merge).done().json();
    let metrics = |job: &Value, name: &str| job["metrics"][name].as_u64().unwrap();
    let counts = ["rows_in", "rows_inserted", "rows_quarantined", "rows_dropped"].map(|name| metrics(&job, name));
    assert_eq!(counts, [day.good + 100, day.good, 100, 0], "{job}");
    assert_eq!(job["quarantine"]["table"], "quarantine.a_t", "{job}");
    assert_eq!(job["quarantine"]["reasons"], json!([{ "reason": "malformed", "rows": 100 }]), "{job}");
    assert_eq!(job["quarantine"]["version"], 0, "{job}");
    assert_eq!(cluster.number("SELECT count(*) AS n FROM a.t WHERE xs[0] = id OR xs IS NULL"), day.good as i64);

    let rows = quarantined(&cluster, "a_t");
    let places = rows.iter().map(|row| {
        let number = |name: &str| row[name].as_u64().unwrap() as usize;
        (number("byte_offset"), number("line"), row["raw"].as_str().unwrap().to_string())
    });
    assert_eq!(places.collect::<Vec<_>>(), day.bad);
    for row in &rows {
        assert_eq!(
            (&row["source"], &row["version"], &row["part"]),
            (&json!("a.s"), &version, &json!("part-00000.json"))
        );
        let file = row["file"].as_str().unwrap();
        assert!(file.starts_with("file:///") && file.ends_with(".json") && !file.contains("part-"), "{row}");
        assert!(row["reason"].as_str().unwrap().starts_with("malformed: "), "{row}");
        assert_eq!(row["job_id"], job["id"]);
    }

    // Running it again changes nothing, here and there.
    let before = cluster.state();
    let again = cluster.json(&merge).done().json();
    assert_eq!(again["outcome"], "already applied", "{again}");
    assert_eq!(cluster.state(), before);

    // The next day, whose columns differ, is added to both.
    let day = "[{\"Id\": 1, \"o\": {\"a\": [5]}},\n{\"Id\": \"x\", \"fresh\": 1},\nrubbish]";
    cluster.deliver("a.s", "day.json", day);
    let merge =
        ["merge", "--table", "a.t", "--source", "a.s", "-t", "strict_cast(id AS bigint) AS id", "-t", "o.a AS xs"];
    let merge = [&merge[..], &["--pk", "id", "--on-bad-record", "quarantine"]].concat();
    let job = cluster.json(&merge).done().json();
    let counts = ["rows_in", "rows_updated", "rows_quarantined"].map(|name| metrics(&job, name));
    assert_eq!(counts, [3, 1, 2], "{job}");
    let rows = quarantined(&cluster, "a_t").split_off(100);
    let told: Vec<_> = rows.iter().map(|row| (row["line"].as_u64().unwrap(), row["raw"].as_str().unwrap())).collect();
    assert_eq!(told, [(2, "{\"Id\": \"x\", \"fresh\": 1}"), (3, "rubbish")]);
    assert_eq!(rows[0]["reason"], "strict_cast(Id AS bigint): `x` can't be cast");
    assert_eq!(job["schema"]["new_fields"], json!(["fresh"]), "{job}");
    assert_eq!(job["schema"]["vanished_fields"], json!(["size"]), "{job}");
    let conflict = &job["schema"]["fields"][0];
    assert_eq!((&conflict["path"], &conflict["values"]["string"]["first"]["line"]), (&json!("Id"), &json!(2)), "{job}");
    let shown = cluster.cli(&["raw", "show", "a.s@current"]).done().stdout;
    assert!(shown.contains("1 bigint, 1 string") && shown.contains("new fields"), "{shown}");
    let shown = cluster.cli(&["jobs", "show", job["id"].as_str().unwrap()]).done().stdout;
    assert!(shown.contains("2 bad records in quarantine.a_t") && shown.contains("rows quarantined"), "{shown}");

    let described = cluster.sql("DESCRIBE a.t");
    let column = |name: &str, data_type: &str| json!({ "col_name": name, "data_type": data_type, "comment": null });
    assert_eq!(described, [column("id", "bigint"), column("xs", "array<bigint>")]);
    cluster.cli(&["sql", "DESCRIBE a.none"]).failed(1, &["there is no table a.none"]);
}

#[test]
fn expectations_fail_put_aside_or_warn() {
    let cluster = cluster();
    let csv = "id,size,day\n1,10,1\n1,-5,2\n2,x,1\n3,30\n4,-1,1\n5,,1\n6,6,1\n";
    let merge = ["merge", "--table", "b.t", "--pk", "id", "--order-by", "day", "-t", "id", "-t"];
    let merge = [&merge[..], &["strict_cast(size AS int) AS size", "-t", "day", "--source"]].concat();
    // Without a word on bad records all of them fail the job: what is no record, then what is no number.
    cluster.deliver("b.one", "one.csv", csv);
    cluster.cli(&[&merge[..], &["b.one"]].concat()).failed(1, &["one.csv", "line 5", "fields"]);
    cluster.deliver("b.two", "two.csv", csv.replace("3,30\n", ""));
    let strict =
        "1 row fails strict_cast(size AS int) of table b.t: part-00000.csv, line 4: strict_cast(size AS int): `x`";
    cluster.cli(&[&merge[..], &["b.two"]].concat()).failed(1, &["two.csv", strict]);
    cluster.deliver("b.three", "three.csv", csv.replace("3,30\n", "").replace("2,x", "2,2"));
    let three = [&merge[..], &["b.three", "--expect"]].concat();
    let places = ["3 rows fail expectation `positive`", "line 3", "line 5", "line 6"];
    cluster.cli(&[&three[..], &["positive=size > 0"]].concat()).failed(1, &places);
    cluster.cli(&[&three[..], &["positive=sizes > 0"]].concat()).failed(64, &["expectation `positive`", "sizes"]);
    let pointless = [&merge[..], &["b.three", "--max-bad-records", "3"]].concat();
    cluster.cli(&pointless).failed(64, &["max_bad_records"]);
    assert!(cluster.json(&["tables", "list"]).done().json_lines().is_empty(), "nothing was changed");

    fs::write(cluster.folder().join("four.csv"), csv).unwrap();
    let pipeline = "\
name: p
sources:
  b.four: { from: four.csv }
tables:
  b.t:
    source: b.four
    mode: merge
    primary_key: [id]
    order_by: day
    where: id <> '6'
    columns: [id, strict_cast(size AS int) AS size, day]
    on_bad_record: quarantine
    expect:
      - { name: no debt, check: size >= 0 OR size IS NULL, on_failure: quarantine }
      - { name: sized, check: size IS NOT NULL, on_failure: warn }
";
    let path = cluster.folder().join("pipeline.yaml");
    fs::write(&path, pipeline).unwrap();
    let run = ["run", path.to_str().unwrap()];
    let job = cluster.json(&run).done().json();
    let merge = job["parts"].as_array().unwrap().iter().find(|part| part["kind"] == "merge").unwrap();
    // The newest row of 1 is bad, so it does not hide the one before.
    let rows = cluster.sql("SELECT id, size FROM b.t ORDER BY id");
    assert_eq!(rows, [json!({ "id": "1", "size": 10 }), json!({ "id": "5", "size": null })]);
    let metrics = &merge["metrics"];
    assert_eq!((&metrics["rows_in"], &metrics["rows_quarantined"]), (&json!(7), &json!(4)), "{merge}");
    assert_eq!((&metrics["rows_dropped"], &metrics["rows_inserted"]), (&json!(1), &json!(2)), "{merge}");
    assert_eq!((&merge["checks"][0]["name"], &merge["checks"][0]["rows"]), (&json!("sized"), &json!(1)), "{merge}");
    let rows = quarantined(&cluster, "b_t");
    let told: Vec<_> = rows.iter().map(|row| (row["raw"].as_str().unwrap(), row["reason"].as_str().unwrap())).collect();
    let debt = "expectation `no debt`: size >= 0 OR size IS NULL";
    let number = "wrong number of fields: found a record of 2 fields, the header has 3";
    let expected = [
        ("1,-5,2", debt),
        ("2,x,1", "strict_cast(size AS int): `x` can't be cast"),
        ("3,30", number),
        ("4,-1,1", debt),
    ];
    assert_eq!(told, expected);
    let again = cluster.cli(&run).done();
    assert!(again.stdout.contains("already applied"), "{again}");
    assert_eq!(quarantined(&cluster, "b_t").len(), 4);
}

#[test]
fn a_crash_between_the_two_commits_doubles_nothing() {
    let mut cluster = cluster();
    let merge = ["merge", "--table", "c.t", "--source", "c.s", "--pk", "Id", "--on-bad-record", "quarantine"];
    let mut expected = (0, 0);
    let check = |cluster: &Cluster, expected: (u64, u64)| {
        assert_eq!(cluster.number("SELECT count(*) AS n FROM c.t") as u64, expected.0);
        assert_eq!(cluster.number("SELECT count(*) AS n FROM quarantine.c_t") as u64, expected.1);
    };
    for (day, ids) in [(0, 0..100), (1, 200..300)] {
        let delivery = Delivery::array(ids, 10, &BAD);
        expected = (expected.0 + delivery.good, expected.1 + delivery.bad.len() as u64);
        cluster.deliver("c.s", "day.json", &delivery.text);
        cluster.json(&merge).done();
        check(&cluster, expected);
        // As if the scheduler had died before the table's commit, which is the second one.
        fs::remove_file(cluster.lake().join(format!("tables/c/t/_delta_log/{day:020}.json"))).unwrap();
        let job = cluster.json(&merge).done().json();
        assert_eq!(job["outcome"], "applied", "{job}");
        check(&cluster, expected);
    }

    // It really dies, right after the first one or a little later.
    let delivery = Delivery::array(400..500, 10, &BAD);
    expected = (expected.0 + delivery.good, expected.1 + delivery.bad.len() as u64);
    cluster.deliver("c.s", "day.json", &delivery.text);
    let client = cluster.begin(&merge);
    let commit = cluster.lake().join(format!("tables/quarantine/c_t/_delta_log/{:020}.json", 2));
    wait_for("the quarantine's commit", || commit.exists().then_some(()));
    cluster.kill_scheduler();
    cluster.restart_scheduler();
    client.finish().done();
    check(&cluster, expected);
}
