//! Whole deliveries, read back from disk.
#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use trireme_sample::delivery;
use trireme_sample::json::Layout;
use trireme_sample::output::Progress;
use trireme_sample::plan::Plan;

const FILES: [&str; 6] = ["authors.json", "books.json", "reviews.json", "streams.csv", "users.csv", "movies.csv"];

/// Deliveries of 300 kB in a folder that goes away with it.
struct Deliveries {
    folder: tempfile::TempDir,
    plan: Plan,
}

impl Deliveries {
    fn make(seed: u64, layout: Layout, days: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::of_size(300_000, seed, layout).unwrap();
        for day in 1..=days {
            let folder = folder.path().join(day.to_string());
            delivery::write(&plan, day, &folder, &mut Progress::new(0)).unwrap();
        }
        Self { folder, plan }
    }

    fn path(&self, day: u64, file: &str) -> PathBuf {
        self.folder.path().join(day.to_string()).join(file)
    }

    fn text(&self, day: u64, file: &str) -> String {
        fs::read_to_string(self.path(day, file)).unwrap()
    }

    /// The records of a dump, whichever its layout.
    fn records(&self, day: u64, file: &str) -> Vec<Value> {
        let text = self.text(day, file);
        match self.plan.layout {
            Layout::Array => serde_json::from_str(&text).unwrap(),
            Layout::Ndjson => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        }
    }

    fn rows(&self, day: u64, file: &str) -> Vec<Vec<String>> {
        self.text(day, file).lines().skip(1).map(fields).collect()
    }

    /// Streams or reviews by key.
    fn keyed(&self, day: u64, file: &str) -> HashMap<String, String> {
        let pairs: Vec<(String, String)> = match file {
            "streams.csv" => self.rows(day, file).into_iter().map(|row| (row[3].clone(), row.join("|"))).collect(),
            _ => self
                .records(day, file)
                .into_iter()
                .map(|record| (record["created"].as_str().unwrap().to_owned(), record.to_string()))
                .collect(),
        };
        let count = pairs.len();
        let keyed: HashMap<_, _> = pairs.into_iter().collect();
        assert_eq!(keyed.len(), count, "keys of {file} on day {day} are unique");
        keyed
    }
}

/// The fields of a CSV line, quotes undone.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                fields.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => fields.last_mut().unwrap().push(letter),
        }
    }
    fields
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hashes(deliveries: &Deliveries, day: u64) -> BTreeMap<&'static str, u64> {
    FILES.map(|file| (file, hash(&fs::read(deliveries.path(day, file)).unwrap()))).into()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (first, again) = (Deliveries::make(7, Layout::Array, 2), Deliveries::make(7, Layout::Array, 2));
    for day in [1, 2] {
        assert_eq!(hashes(&first, day), hashes(&again, day), "day {day}");
    }
    let other = hashes(&Deliveries::make(8, Layout::Array, 1), 1);
    assert!(hashes(&first, 1).iter().all(|(file, hash)| other[file] != *hash));
}

/// Answers and benchmarks were computed on these bytes: a change here makes them stale.
#[test]
fn the_bytes_are_those_of_the_first_version() {
    let bytes = Deliveries::make(7, Layout::Array, 2);
    assert_eq!(hash(&fs::read(bytes.path(2, "streams.csv")).unwrap()), 0x77a8_3103_5af4_f860);
    assert_eq!(hash(&fs::read(bytes.path(2, "reviews.json")).unwrap()), 0x1254_41e3_b60a_5c40);
}

#[test]
fn a_later_day_changes_a_fifth_of_its_keys_and_adds_the_rest() {
    let deliveries = Deliveries::make(7, Layout::Ndjson, 3);
    for file in ["streams.csv", "reviews.json"] {
        let mut known: HashMap<String, String> = deliveries.keyed(1, file);
        let rows = known.len();
        for day in [2, 3] {
            let delivery = deliveries.keyed(day, file);
            assert_eq!(delivery.len(), rows, "{file}, day {day}");
            let repeated: Vec<_> = delivery.iter().filter(|(key, _)| known.contains_key(*key)).collect();
            assert_eq!(repeated.len(), rows / 5, "{file}, day {day}");
            assert!(repeated.iter().all(|(key, row)| known[*key] != **row), "{file}, day {day}: new values");
            known.extend(delivery);
        }
    }
}

#[test]
fn small_files_have_unique_keys_and_one_author_without_a_name() {
    let deliveries = Deliveries::make(7, Layout::Array, 2);
    let lower = |value: &Value| value.as_str().map(str::to_lowercase);
    for day in [1, 2] {
        let authors: Vec<_> =
            deliveries.records(day, "authors.json").iter().map(|a| lower(&a["metadata"]["name"])).collect();
        assert_eq!(authors.iter().filter(|name| name.is_none()).count(), 1);
        assert_eq!(authors.iter().collect::<HashSet<_>>().len(), authors.len());

        let books: Vec<_> = deliveries.records(day, "books.json").iter().map(|b| lower(&b["name"])).collect();
        assert_eq!(books.iter().collect::<HashSet<_>>().len(), books.len());

        let movies = deliveries.rows(day, "movies.csv");
        let titles: HashSet<_> = movies.iter().map(|movie| movie[0].to_lowercase()).collect();
        assert_eq!(titles.len(), movies.len());

        let users = deliveries.rows(day, "users.csv");
        let names: HashSet<_> = users.iter().map(|user| (user[0].to_lowercase(), user[1].to_lowercase())).collect();
        assert_eq!(names.len(), users.len());

        let emails: HashSet<_> = users.iter().map(|user| &user[2]).collect();
        for stream in deliveries.rows(day, "streams.csv") {
            assert!(emails.contains(&stream[1]), "{stream:?} has a known user");
            assert!(titles.contains(&stream[0].to_lowercase()), "{stream:?} has a known movie");
            assert!(stream[3] < stream[4], "{stream:?} ends after it starts");
        }
    }
    let names = |day| -> HashSet<_> {
        deliveries.records(day, "authors.json").iter().map(|a| lower(&a["metadata"]["name"])).collect()
    };
    assert!(names(1).is_subset(&names(2)), "a later day still has the authors of the first");
}

#[test]
fn both_layouts_hold_the_same_records() {
    let (array, lines) = (Deliveries::make(7, Layout::Array, 1), Deliveries::make(7, Layout::Ndjson, 1));
    for file in &FILES[..3] {
        assert_eq!(array.records(1, file), lines.records(1, file), "{file}");
    }
    for file in &FILES[3..] {
        assert_eq!(array.text(1, file), lines.text(1, file), "{file}");
    }
    let reviews = array.text(1, "reviews.json");
    assert!(reviews.starts_with("[\n    {\n        \"content\": {\n            \"text\": \""));
    assert!(reviews.ends_with("+0100\"\n    }\n]"));
}

#[test]
fn the_quirks_of_the_real_data_are_there() {
    let deliveries = Deliveries::make(7, Layout::Array, 1);
    let movies = deliveries.text(1, "movies.csv");
    assert!(movies.contains("\n\"Salt, Smoke and Silver\",") && movies.contains("\n\"The \"\"Perfect\"\" Alibi\","));
    assert!(movies.contains("Midnight·9") && !movies.ends_with('\n'));
    for record in deliveries.records(1, "reviews.json") {
        let titles: Vec<_> = (0..2).map(|n| record["movies"][n]["title"].as_str().unwrap().to_owned()).collect();
        assert_eq!(titles.iter().filter(|title| *title == "end").count(), 1);
        let book = record["books"][0]["metadata"]["title"].as_str().unwrap();
        assert_eq!(book, book.to_uppercase());
        assert!(record["updated"].as_str().unwrap().ends_with("+0100"));
    }
    let authors = deliveries.records(1, "authors.json");
    let labels: Vec<_> =
        authors.iter().flat_map(|author| (0..2).map(move |n| &author["nationalities"][n]["label"])).collect();
    assert!(labels.contains(&&Value::Null) && labels.contains(&&Value::from("")));
    assert!(authors[1]["metadata"]["birth_date"].as_str().unwrap().ends_with("T00:00:00.000+0000"));
}

#[test]
fn the_sample_beside_the_example_is_made_by_this_code() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/books-and-movies/data");
    let made = tempfile::tempdir().unwrap();
    delivery::write(&Plan::sample(7, Layout::Array), 1, made.path(), &mut Progress::new(0)).unwrap();
    for file in FILES {
        assert!(
            fs::read(example.join(file)).unwrap() == fs::read(made.path().join(file)).unwrap(),
            "{file} differs: run `cargo run -p trireme-sample -- --sample --out examples/books-and-movies/data`"
        );
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trireme-sample")).args(arguments).output().unwrap()
}

#[test]
fn the_command_line_makes_a_folder_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let output = run(&["--size", "300KB", "--days", "2", "--seed", "7", "--out", out, "--json", "ndjson"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty(), "data goes to files, words to standard error");
    let library = Deliveries::make(7, Layout::Ndjson, 2);
    for day in [1, 2] {
        for file in FILES {
            let made = fs::read(folder.path().join(format!("day-{day}")).join(file)).unwrap();
            assert!(made == fs::read(library.path(day, file)).unwrap(), "day {day}, {file}");
        }
    }
}

#[test]
fn a_bad_command_line_exits_64_and_says_why() {
    for (arguments, word) in [
        (vec![], "--out"),
        (vec!["--out", "/nowhere"], "--size"),
        (vec!["--out", "/nowhere", "--size", "many"], "not a size"),
        (vec!["--out", "/nowhere", "--size", "1KB"], "too small"),
        (vec!["--out", "/nowhere", "--size", "1TB", "--days", "2"], "milliseconds"),
        (vec!["--out", "/nowhere", "--size", "1MB", "--days", "0"], "--days"),
        (vec!["--out", "/nowhere", "--size", "1MB", "--json", "xml"], "ndjson"),
        (vec!["--out", "/nowhere", "--size", "1MB", "--sample"], "--sample"),
        (vec!["--frobnicate"], "--frobnicate"),
    ] {
        let output = run(&arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {message}");
        assert!(message.contains(word), "{arguments:?}: {message}");
    }
    assert!(!Path::new("/nowhere").exists());
}

#[test]
fn a_folder_that_cannot_be_made_exits_1_and_is_named() {
    let output = run(&["--out", "/proc/nowhere", "--size", "1MB"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/proc/nowhere"));
}
