//! Bad records among good ones: none is lost, each has its place and its text.

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use datafusion::logical_expr::{col, lit};
use proptest::prelude::*;

use super::*;
use crate::{
    error::Code,
    raw::{
        csv::decoder::CsvDecoder,
        json::{decoder::JsonDecoder, observe::Observer},
        piece::tests::decode_in_chunks,
        places::{BAD_COLUMN, LENGTH_COLUMN, LINE_COLUMN, Lines, OFFSET_COLUMN, PART_COLUMN, Places, place_fields},
    },
    sql::parse_schema,
};

/// A delivery with what is to be found in it.
#[derive(Debug, Default)]
struct Delivery {
    text: String,
    /// Offset, line, text, and the `id` of each record; none if it is bad.
    records: Vec<(usize, usize, String, Option<i64>)>,
}

impl Delivery {
    fn add(&mut self, record: &str, id: Option<i64>) {
        let line = self.text.matches('\n').count() + 1;
        self.records.push((self.text.len(), line, record.to_string(), id));
        self.text.push_str(record);
    }

    /// Ranges that begin where chosen records do.
    fn pieces(&self, chosen: &[bool]) -> Vec<(usize, usize)> {
        let starts = self.records.iter().zip(chosen.iter().cycle()).skip(1).filter(|(_, chosen)| **chosen);
        let mut cuts: Vec<usize> = starts.map(|((offset, ..), _)| *offset).collect();
        cuts.insert(0, 0);
        cuts.push(self.text.len());
        cuts.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    fn lines_at(&self, at: usize) -> Lines {
        Lines::new(at as u64, self.text[..at].matches('\n').count() as u64 + 1, &self.text.as_bytes()[..at])
    }

    /// What a scan tells, as the records are written down.
    fn told(&self, batches: &[RecordBatch]) -> Vec<(usize, usize, String, Option<i64>)> {
        let mut told = Vec::new();
        for batch in batches {
            let long = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
            let (ids, offsets, lengths, lines) =
                (long("id"), long(OFFSET_COLUMN), long(LENGTH_COLUMN), long(LINE_COLUMN));
            let bad = batch.column_by_name(BAD_COLUMN).unwrap().as_string::<i32>();
            for row in 0..batch.num_rows() {
                assert!(bad.is_null(row) || ids.is_null(row), "a bad record has values");
                let (at, length) = (offsets.value(row) as usize, lengths.value(row) as usize);
                let id = bad.is_null(row).then(|| ids.value(row));
                told.push((at, lines.value(row) as usize, self.text[at..at + length].to_string(), id));
            }
        }
        told
    }
}

/// The columns, those of places behind them.
fn schema() -> SchemaRef {
    let own = [Field::new("id", DataType::Int64, true), Field::new("s", DataType::Utf8, true)].map(Arc::new);
    Arc::new(Schema::new(own.into_iter().chain(place_fields()).collect::<Vec<_>>()))
}

fn places() -> Places {
    Places::new("p".to_string(), (0..place_fields().len()).collect())
}

/// Something that is no record of the columns; the others of its kind do not matter.
fn bad_json() -> impl Strategy<Value = String> {
    prop_oneof![
        // Not closed: their ends are told by the next record's line.
        Just(r#"{"id": 1"#.to_string()),
        Just(r#"{"id":"#.to_string()),
        Just(r#"{"id": "x"#.to_string()),
        Just(r#"{"id": 1, "s": [{"k": "a\"#.to_string()),
        Just(r#"{"id": 1, "s"#.to_string()),
        // Closed, but not well formed.
        Just(r#"{"id": }"#.to_string()),
        Just(r#"{id: 3, "s": {"}": [1]}}"#.to_string()),
        Just(r#"{"id": 01}"#.to_string()),
        // Well formed, but of other types.
        Just(r#"{"id": "one", "s": "{"}"#.to_string()),
        Just(r#"{"id": 1.5}"#.to_string()),
        Just(r#"{"s": "\ud800"}"#.to_string()),
        Just("17".to_string()),
        Just("\"text\"".to_string()),
        // No JSON at all.
        "[a-zé}:#]{1,6}",
        Just("\"open".to_string()),
    ]
}

/// Good records, each with or without a bad one before it.
fn mixed(bad: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<(Option<String>, String)>> {
    let content = r#"([a-d{}\[\],:é ]|\\"|\\\\|\\n)*"#;
    prop::collection::vec((prop::option::weighted(0.4, bad), content), 1..12)
}

fn json(records: &[(Option<String>, String)], array: bool, pretty: bool) -> Delivery {
    let mut delivery = Delivery::default();
    let (between, margin) = match (array, pretty) {
        (true, true) => (",\n  ", "  "),
        (true, false) => (",\n", ""),
        (false, _) => ("\n", ""),
    };
    delivery.text.push_str(if array { "[\n" } else { "\u{feff}" });
    delivery.text.push_str(margin);
    for (id, (bad, content)) in records.iter().enumerate() {
        if id > 0 {
            delivery.text.push_str(between);
        }
        if let Some(bad) = bad {
            delivery.add(bad, None);
            delivery.text.push_str(between);
        }
        let good = match pretty {
            true => format!(
                "{{\n{margin}  \"id\": {id},\n{margin}  \"o\": [\n{margin}    {{\"x\": 1}}\n{margin}  ],\n{margin}  \"s\": \"{content}\"\n{margin}}}"
            ),
            false => format!("{{\"id\": {id}, \"s\": \"{content}\"}}"),
        };
        delivery.add(&good, Some(id as i64));
    }
    delivery.text.push_str(if array { "\n]\n" } else { "\n" });
    delivery
}

proptest! {
    #[test]
    fn bad_json_is_told_and_good_json_arrives(
        records in mixed(bad_json()),
        (array, pretty) in any::<(bool, bool)>(),
        chosen in prop::collection::vec(any::<bool>(), 1..8),
        chunk in 1..200usize,
        rows in 1..5usize,
    ) {
        let delivery = json(&records, array, pretty);
        let layout = if array { JsonLayout::Array } else { JsonLayout::Lines };
        let (mut told, mut seen) = (Vec::new(), Observed::default());
        for (from, to) in delivery.pieces(&chosen) {
            let (first, last) = (from == 0, to == delivery.text.len());
            let piece = &delivery.text.as_bytes()[from..to];
            let lines = delivery.lines_at(from);
            let decoder = JsonDecoder::new(schema(), layout, first, last).unwrap();
            let mut decoder = decoder.with_places(places(), lines, true).unwrap();
            let batches = decode_in_chunks(&mut decoder, piece, from as u64, chunk, rows).unwrap();
            told.extend(delivery.told(&batches));

            let mut observer = Observer::new(layout, first, last, 0, lines, true);
            decode_in_chunks(&mut observer, piece, from as u64, chunk, usize::MAX).unwrap();
            seen.merge(observer.into_seen());
        }
        prop_assert_eq!(&told, &delivery.records, "{}", delivery.text);
        // A record that is no JSON leaves nothing in the schema.
        let whole = |text: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
        let odd = |text: &str| text.contains("ud800");
        let well_formed = delivery.records.iter().filter(|(_, _, text, _)| whole(text) || odd(text)).count() as u64;
        prop_assert_eq!(seen.kind(Kind::Struct).count, well_formed);
        prop_assert!(!seen.fields.contains_key("k") && seen.fields.len() <= 3);
    }

    #[test]
    fn bad_csv_is_told_and_good_csv_arrives(
        records in mixed(prop_oneof![Just("1".to_string()), Just("1,2,3".to_string()), Just("\"a\nb\"".to_string()), Just("one,x".to_string())]),
        open in any::<bool>(),
        crlf in any::<bool>(),
        chosen in prop::collection::vec(any::<bool>(), 1..8),
        chunk in 1..100usize,
        rows in 1..5usize,
    ) {
        let line_end = if crlf { "\r\n" } else { "\n" };
        let mut delivery = Delivery { text: format!("id,s{line_end}"), records: Vec::new() };
        for (id, (bad, content)) in records.iter().enumerate() {
            if let Some(bad) = bad {
                delivery.add(bad, None);
                delivery.text.push_str(line_end);
            }
            delivery.add(&format!("{id},\"{}\"", content.replace('"', "\"\"")), Some(id as i64));
            delivery.text.push_str(line_end);
        }
        if open {
            delivery.add("1,\"never closed, ", None);
            delivery.text.push_str(line_end);
            delivery.add("77,x", Some(77));
            delivery.text.push_str(line_end);
        }
        let mut told = Vec::new();
        for (from, to) in delivery.pieces(&chosen) {
            let decoder = CsvDecoder::new(schema(), 2, &[0, 1], from == 0);
            let mut decoder = decoder.with_places(places(), delivery.lines_at(from), true);
            let piece = &delivery.text.as_bytes()[from..to];
            told.extend(delivery.told(&decode_in_chunks(&mut decoder, piece, from as u64, chunk, rows).unwrap()));
        }
        prop_assert_eq!(&told, &delivery.records, "{}", delivery.text);
    }

    /// Whatever the bytes are: every one that is no white space or comma is in some row, and no row overlaps another.
    #[test]
    fn no_byte_of_any_text_is_lost(
        text in prop_oneof![r#"([\[\]{},: \n]|"[ab]?"|"|\\|1|null|x|\{"id": 1\}\n)*"#, r#"\[(\{"id": [1"x]\},?\n?|[\]x ])*"#],
        array in any::<bool>(),
        chunk in 1..40usize,
    ) {
        let layout = if array { JsonLayout::Array } else { JsonLayout::Lines };
        let decoder = JsonDecoder::new(schema(), layout, true, true).unwrap();
        let mut decoder = decoder.with_places(places(), Lines::new(0, 1, &[]), true).unwrap();
        let batches = decode_in_chunks(&mut decoder, text.as_bytes(), 0, chunk, 3).unwrap();
        let delivery = Delivery { text: text.clone(), records: Vec::new() };
        let mut at = 0;
        let mut between = String::new();
        for (offset, _, record, _) in delivery.told(&batches) {
            prop_assert!(offset >= at, "{:?}", text);
            between.push_str(&text[at..offset]);
            at = offset + record.len();
        }
        between.push_str(&text[at..]);
        let lost: String = between.chars().filter(|c| !c.is_whitespace() && *c != ',').collect();
        let frame = if array { ["", "[", "]", "[]"].as_slice() } else { &[""] };
        prop_assert!(frame.contains(&lost.as_str()), "{lost:?} of {text:?} is lost");
    }
}

/// A scan tells the same through a download, the manifest's splits, a plan and its bytes.
#[tokio::test]
async fn a_scan_tells_of_bad_records() {
    let text =
        "[\n {\"id\": 1},\n {\"id\": 2, \"s\": },\n {\"id\": 3},\n nonsense,\n {\"id\": \"four\"},\n {\"id\": 5}\n]\n";
    for split_size in [1, 20, 1 << 20] {
        let world = World::new(3);
        let manifest = world.deliver("x.json", text.as_bytes(), split_size).await;
        let declared = parse_schema("id BIGINT").unwrap();
        let table = RawTable::new(world.zone.clone(), manifest.clone(), declared).telling(Tells::BadRecords);
        world.session.register_table("raw", Arc::new(table)).unwrap();
        let sql = format!(
            "SELECT id, `{PART_COLUMN}`, `{OFFSET_COLUMN}`, `{LENGTH_COLUMN}`, `{LINE_COLUMN}`, `{BAD_COLUMN}` FROM raw \
             ORDER BY `{OFFSET_COLUMN}`"
        );
        let rows = as_text(&world.rows(&sql).await.unwrap());
        let expected = "1|part-00000.json|3|9|2|\n\
            |part-00000.json|15|16|3|malformed: found `}`, expected a JSON value\n\
            3|part-00000.json|34|9|4|\n\
            |part-00000.json|46|8|5|malformed: found `n`, expected an object, for a record is an object\n\
            |part-00000.json|57|14|6|field `id`: found a string, expected a whole number\n\
            5|part-00000.json|74|9|7|";
        assert_eq!(rows, expected);
        // Nobody asks for the field of the fourth one here.
        let sql = format!("SELECT count(*) FROM raw WHERE `{BAD_COLUMN}` IS NULL");
        assert_eq!(as_text(&world.rows(&sql).await.unwrap()), "4");

        // The records that are JSON say what the columns are.
        let plan = infer_plan(&world.zone, &manifest, 2, true).unwrap();
        let inferred = inferred_schema(&collect(plan, world.session.task_ctx()).await.unwrap()).unwrap();
        let id = &inferred.seen.as_ref().unwrap().fields["id"];
        let places: Vec<_> =
            id.kinds().map(|(kind, seen)| (kind, seen.count, seen.first.offset, seen.first.line)).collect();
        assert_eq!(places, [(Kind::Long, 3, 3, 2), (Kind::String, 1, 57, 6)]);
        assert!(id.conflicts());
        assert_eq!(inferred.arrow().unwrap().field(0).data_type(), &DataType::Utf8);

        // Where bad records are refused, the places are told all the same, up to the first of them.
        let declared = parse_schema("id BIGINT").unwrap();
        let table = RawTable::new(world.zone.clone(), manifest, declared).telling(Tells::Places);
        let frame = world.session.read_table(Arc::new(table)).unwrap();
        let error = frame.filter(col("id").gt(lit(1))).unwrap().collect().await.unwrap_err();
        assert_eq!(Error::from(error).code, Code::BadRecord);
    }
}

#[tokio::test]
async fn no_field_can_be_taken_for_a_column_of_ours() {
    let world = World::new(1);
    let text = br#"{"__part": 1, "__offset": 2, "__length": 3, "__line": 4, "__bad": 5}"#;
    let manifest = world.deliver("x.json", text, 64).await;
    let schema = world.columns(&manifest, None).await.unwrap();
    let table = RawTable::new(world.zone.clone(), manifest, schema).telling(Tells::BadRecords);
    world.session.register_table("raw", Arc::new(table)).unwrap();
    let sql = "SELECT __part, __offset, __length, __line, __bad FROM raw";
    assert_eq!(as_text(&world.rows(sql).await.unwrap()), "1|2|3|4|5");
    let manifest = world.deliver("x.json", br#"{"\u0001line": 4}"#, 64).await;
    let error = world.columns(&manifest, None).await.unwrap_err();
    assert_eq!(error.code, Code::SchemaMismatch, "{error}");
}

#[tokio::test]
async fn a_report_tells_conflicts_and_what_is_new_or_gone() {
    let world = World::new(2);
    let first = b"{\"id\": 1, \"old\": true, \"o\": {\"a\": 1}}\n";
    let manifest = world.deliver("x.json", first, 64).await;
    world.columns(&manifest, None).await.unwrap();
    let second = b"{\"id\": 1, \"o\": {\"a\": 2, \"b\": []}}\n{\"id\": 2.5, \"o\": {\"a\": null}}\n\n{\"id\": \"three\", \"xs\": [{\"k\": 1}]}\n";
    let manifest = world.deliver("x.json", second, 20).await;
    let nothing = schema_report(&world.zone, &manifest, None).await.unwrap();
    assert_eq!(nothing, SchemaReport::default());
    world.columns(&manifest, None).await.unwrap();
    let declared = parse_schema("id BIGINT, o STRUCT<a: BIGINT, c: INT>").unwrap();
    let report = schema_report(&world.zone, &manifest, Some(&declared)).await.unwrap();
    let fields: Vec<_> = report.fields.iter().map(|field| (field.path.as_str(), field.type_name.as_str())).collect();
    assert_eq!(
        fields,
        [
            ("id", "string"),
            ("o", "struct<a:bigint,b:array<string>>"),
            ("o.a", "bigint"),
            ("o.b", "array<string>"),
            ("xs", "array<struct<k:bigint>>"),
            ("xs[]", "struct<k:bigint>"),
            ("xs[].k", "bigint")
        ]
    );
    let kinds: Vec<_> = report.fields[0].kinds.iter().map(|kind| (kind.kind, kind.values, kind.line)).collect();
    assert_eq!(kinds, [(Kind::Long, 1, 1), (Kind::Double, 1, 2), (Kind::String, 1, 4)]);
    assert_eq!(report.fields.iter().filter(|field| field.conflict).count(), 1);
    assert_eq!(
        report.fields[2].kinds.iter().map(|kind| kind.values).collect::<Vec<_>>(),
        [1, 1],
        "a null and a number"
    );
    assert_eq!((report.new, report.vanished), (vec!["o.b".to_string(), "xs".into()], vec!["old".to_string()]));
    assert_eq!((report.undeclared, report.missing), (vec!["o.b".to_string(), "xs".into()], vec!["o.c".to_string()]));

    let world = World::new(1);
    let before = world.deliver("x.csv", b"a,b\n1,2\n", 64).await;
    let manifest = world.deliver("x.csv", b"a,c\n1,2\n", 64).await;
    let report = schema_report(&world.zone, &manifest, None).await.unwrap();
    assert_eq!(report.previous, Some(before.version));
    assert_eq!((report.new, report.vanished), (vec!["c".to_string()], vec!["b".to_string()]));
}
