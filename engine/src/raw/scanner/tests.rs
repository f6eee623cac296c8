//! Any split plan of any text, read in chunks of any size, yields exactly the records of a sequential parser.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::raw::{
    csv::decoder::CsvDecoder,
    dialect::{CsvOptions, Dialect},
    json::decoder::JsonDecoder,
    manifest::Part,
    piece::{Malformed, tests::decode_in_chunks},
};

fn scan(format: RawFormat, text: &[u8], split_size: u64, chunk: usize) -> (Part, Option<JsonLayout>) {
    scan_as(format, Dialect::default(), text, split_size, chunk)
}

fn scan_as(
    format: RawFormat,
    dialect: Dialect,
    text: &[u8],
    split_size: u64,
    chunk: usize,
) -> (Part, Option<JsonLayout>) {
    let mut scanner = Scanner::of(format, dialect, split_size);
    text.chunks(chunk).for_each(|chunk| scanner.feed(chunk));
    let Scan { layout, splits, records } = scanner.finish();
    let part = Part { bytes: text.len() as u64, layout, splits, records, ..Part::default() };
    (part, layout)
}

/// Reads every split of a text as executors would.
fn read(
    text: &[u8],
    part: &Part,
    mut decode: impl FnMut(&[u8], u64, bool, bool) -> Result<Vec<RecordBatch>, Malformed>,
) -> Result<Vec<RecordBatch>, Malformed> {
    let mut batches = Vec::new();
    for range in part.ranges(1) {
        let piece = &text[range.start as usize..range.end as usize];
        batches.extend(decode(piece, range.start, range.start == 0, range.end == part.bytes)?);
    }
    Ok(batches)
}

fn lines_are_right(text: &[u8], part: &Part) -> bool {
    part.splits.iter().all(|split| {
        let before = &text[..split.offset as usize];
        split.line == before.iter().filter(|byte| **byte == b'\n').count() as u64 + 1
    })
}

/// The column `k` of every record, as JSON text.
fn read_json(
    text: &[u8],
    split_size: u64,
    chunk: usize,
    rows: usize,
) -> Result<(Vec<Option<String>>, Part), Malformed> {
    let (part, layout) = scan(RawFormat::Json, text, split_size, chunk);
    assert!(lines_are_right(text, &part));
    let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
    let batches = read(text, &part, |piece, base, first, last| {
        let mut decoder = JsonDecoder::new(schema.clone(), layout.unwrap(), first, last).unwrap();
        decode_in_chunks(&mut decoder, piece, base, chunk, rows)
    })?;
    let values = |batch: &RecordBatch| {
        let column = batch.column(0).as_string::<i32>().clone();
        (0..column.len())
            .map(move |row| column.is_valid(row).then(|| column.value(row).to_string()))
            .collect::<Vec<_>>()
    };
    Ok((batches.iter().flat_map(values).collect(), part))
}

/// A string column holds what it must of each record's `k`.
fn holds(found: &[Option<String>], records: &[Value]) -> bool {
    let is = |(found, record): (&Option<String>, &Value)| match (found, record.get("k")) {
        (None, None | Some(Value::Null)) => true,
        (Some(found), Some(Value::String(text))) => found == text,
        (Some(found), Some(other)) => serde_json::from_str::<Value>(found).is_ok_and(|value| value == *other),
        _ => false,
    };
    found.len() == records.len() && found.iter().zip(records).all(is)
}

/// An object with a key `k`, in nasty text: escapes, surrogate pairs, brackets and quotes in strings, pretty-printed or not.
fn json_record() -> impl Strategy<Value = String> {
    let string = r#""([a-z{}\[\],: é😀]|\\"|\\\\|\\u00e9|\\ud83d\\ude00|\\n){0,6}""#;
    let value = prop_oneof![
        string.prop_map(|text| text),
        Just("[]".to_string()),
        Just("{}".to_string()),
        Just("null".to_string()),
        "(-?[1-9][0-9]{0,3}|0)".prop_map(|text| text),
        (string, "[0-9]").prop_map(|(text, n)| format!("{{\"}}{{\":{text},\"]\":[{text},[{n}]]}}")),
        Just(format!("\"{}\"", "long ".repeat(200))),
    ];
    let space = || r"[ \n\t]{0,3}|\r\n";
    (value.clone(), value, space(), space(), any::<bool>()).prop_map(|(value, other, one, two, has)| {
        if has { format!("{{{one}\"x\":{other},{two}\"k\"{one}:{value}{two}}}") } else { format!("{{{one}}}") }
    })
}

/// A whole text, and whether it is an array.
fn json_text() -> impl Strategy<Value = (String, bool)> {
    let mark = prop_oneof![Just(""), Just("\u{feff}")];
    let between = prop_oneof![Just("\n"), Just("\r\n"), Just(" "), Just("\n\n  ")];
    (proptest::collection::vec((json_record(), between), 0..12), any::<bool>(), mark).prop_map(
        |(records, array, mark)| {
            let separator = if array { "," } else { "" };
            let joined: Vec<_> = records.iter().map(|(record, space)| format!("{record}{space}")).collect();
            let body = joined.join(separator);
            (if array { format!("{mark} [{body} ]\n") } else { format!("{mark}{body}") }, array)
        },
    )
}

fn json_oracle(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::Deserializer::from_str(text).into_iter().collect()
    }
}

/// Scans a text as adoption does: its ranges by themselves, put together.
fn scan_in_ranges(
    format: RawFormat,
    dialect: Dialect,
    text: &[u8],
    split_size: u64,
    cells: u64,
    chunk: usize,
) -> (Scan, usize) {
    let ranges = ranges(text.len() as u64, split_size, cells);
    let bytes = |range: &Range<u64>| &text[range.start as usize..range.end as usize];
    let summaries = ranges.iter().map(|range| {
        let mut summing = Summing::new(format, dialect, range.start);
        bytes(range).chunks(chunk).for_each(|chunk| summing.feed(chunk));
        summing.finish()
    });
    let mut composition = Composition::new(format, dialect, summaries.collect());
    let mut rounds = 0;
    loop {
        let due = composition.due();
        if due.is_empty() {
            return (composition.finish(), rounds);
        }
        rounds += 1;
        for (index, standing) in due {
            let mut scanner = Scanner::resume(standing, dialect, split_size, ranges[index].start);
            bytes(&ranges[index]).chunks(chunk).for_each(|chunk| scanner.feed(chunk));
            composition.scanned(index, scanner.pause());
        }
    }
}

fn scan_at_once(format: RawFormat, dialect: Dialect, text: &[u8], split_size: u64, chunk: usize) -> Scan {
    let mut scanner = Scanner::of(format, dialect, split_size);
    text.chunks(chunk).for_each(|chunk| scanner.feed(chunk));
    scanner.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ranges_of_json_scan_as_the_whole_does(
        (text, _) in json_text(), split in 1u64..200, cells in 1u64..5, chunk in 1usize..70,
        cut in any::<prop::sample::Index>(), length in 0usize..3, breaks in any::<bool>(),
    ) {
        let mut text = text.into_bytes();
        let well = !breaks;
        if breaks {
            let at = cut.index(text.len() + 1);
            text.drain(at..(at + length).min(text.len()));
        }
        let (found, rounds) = scan_in_ranges(RawFormat::Json, Dialect::default(), &text, split, cells, chunk);
        prop_assert_eq!(found, scan_at_once(RawFormat::Json, Dialect::default(), &text, split, 7));
        // Only what is not well formed, or begins with a long blank, is looked at more than once.
        let blank = text.iter().take_while(|byte| !matches!(byte, b'{' | b'[')).count() as u64;
        prop_assert!(rounds <= 1 || !well || blank >= split * cells, "{} rounds", rounds);
    }

    #[test]
    fn ranges_of_json_of_any_bytes_scan_as_the_whole_does(
        text in r#"[\[\]{},:"\\ \na1]{0,60}"#, split in 1u64..20, cells in 1u64..4, chunk in 1usize..9,
    ) {
        let (found, _) = scan_in_ranges(RawFormat::Json, Dialect::default(), text.as_bytes(), split, cells, chunk);
        prop_assert_eq!(found, scan_at_once(RawFormat::Json, Dialect::default(), text.as_bytes(), split, 5));
    }

    #[test]
    fn ranges_of_csv_scan_as_the_whole_does(
        text in r#"(\u{feff})?[a,;'\\"\n\r é]{0,80}"#, split in 1u64..20, cells in 1u64..4, chunk in 1usize..9,
        dialect in dialects(),
    ) {
        let (found, rounds) = scan_in_ranges(RawFormat::Csv, dialect, text.as_bytes(), split, cells, chunk);
        prop_assert_eq!(found, scan_at_once(RawFormat::Csv, dialect, text.as_bytes(), split, 5));
        prop_assert!(rounds <= 1);
    }

    #[test]
    fn json_records_are_those_of_serde((text, array) in json_text(), split in 1u64..300, chunk in 1usize..70, rows in 1usize..9) {
        let expected = json_oracle(&text).unwrap();
        let (found, part) = read_json(text.as_bytes(), split, chunk, rows).unwrap();
        prop_assert!(holds(&found, &expected), "{:?}", found);
        prop_assert_eq!(part.records, Some(expected.len() as u64));
        let layout = if array { JsonLayout::Array } else { JsonLayout::Lines };
        prop_assert_eq!(part.layout.unwrap(), layout);
        // Splits are as many as can be.
        if split == 1 {
            prop_assert_eq!(part.splits.len(), expected.len().max(1));
        }
    }

    #[test]
    fn json_that_serde_refuses_is_refused((text, _) in json_text(), at in 0.0..1.0f64, with in "[\\[\\]{},:\"x]?", split in 1u64..100) {
        let mut at = (text.len() as f64 * at) as usize;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let rest = text[at..].chars().next().map_or(0, char::len_utf8);
        let broken = format!("{}{with}{}", &text[..at], &text[at + rest..]);
        // A record is an object, which is more than serde asks for.
        let expected = json_oracle(&broken).ok().filter(|records| records.iter().all(Value::is_object));
        let found = read_json(broken.as_bytes(), split, 16, 4).ok().map(|(found, _)| found);
        // Strings that nobody asked for are not looked into, so what is wrong in one of them may pass.
        match (&found, &expected) {
            (Some(found), Some(expected)) => prop_assert!(holds(found, expected), "{:?}", found),
            (Some(_), None) => prop_assert!(broken.contains(['\\', '\n', '\t']), "{}", broken),
            (None, _) => prop_assert!(expected.is_none(), "{}", broken),
        }
    }

    #[test]
    fn csv_records_are_those_of_the_csv_crate(
        records in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![r#"[a-zé" ]{0,4}"#, r#"[a,"\r\né]{0,5}"#, Just(String::new())], 3), 0..10),
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        mark in any::<bool>(), blank in any::<bool>(), last_end in any::<bool>(), quote_all in any::<bool>(),
        split in 1u64..60, chunk in 1usize..40, rows in 1usize..9,
    ) {
        let line = |fields: &Vec<String>| {
            let quoted = fields.iter().map(|field| {
                let must = quote_all || field.contains([',', '\r', '\n']) || field.starts_with('"');
                if must { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.clone() }
            });
            quoted.collect::<Vec<_>>().join(",")
        };
        let header = vec!["a".to_string(), "b".to_string(), "c,\n".to_string()];
        let mut text = if mark { "\u{feff}".to_string() } else { String::new() };
        let lines: Vec<_> = std::iter::once(&header).chain(&records).map(line).collect();
        text += &lines.join(&if blank { end.repeat(2) } else { end.to_string() });
        text += if last_end { end } else { "" };

        let mut oracle = ::csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let expected: Vec<Vec<String>> =
            oracle.records().map(|record| record.unwrap().iter().map(str::to_string).collect()).collect();
        prop_assert_eq!(&expected, &records);

        let (part, _) = scan(RawFormat::Csv, text.as_bytes(), split, chunk);
        prop_assert!(lines_are_right(text.as_bytes(), &part));
        prop_assert_eq!(part.records, Some(records.len() as u64));
        let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Utf8, true), Field::new("a", DataType::Utf8, true)]));
        let batches = read(text.as_bytes(), &part, |piece, base, first, _| {
            decode_in_chunks(&mut CsvDecoder::new(schema.clone(), 3, &[2, 0], first), piece, base, chunk, rows)
        }).unwrap();
        let found: Vec<_> = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| {
            [0, 1].map(|column| {
                let column = batch.column(column).as_string::<i32>();
                column.is_valid(row).then(|| column.value(row).to_string())
            })
        }).collect::<Vec<_>>()).collect();
        // An empty field is NULL, unless it is in quotes.
        let value = |text: &String| (quote_all || !text.is_empty()).then(|| text.clone());
        let expected: Vec<_> = records.iter().map(|record| [value(&record[2]), value(&record[0])]).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn csv_of_any_bytes_is_read_as_the_csv_crate_reads_it(text in r#"[a,"\n\r]{0,24}"#, split in 1u64..9, chunk in 1usize..9) {
        let text = format!("h1,h2\n{text}");
        let mut oracle = ::csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let expected: Option<Vec<String>> =
            oracle.records().map(|record| record.ok().map(|record| record[1].to_string())).collect();
        let (part, _) = scan(RawFormat::Csv, text.as_bytes(), split, chunk);
        let schema = Arc::new(Schema::new(vec![Field::new("h2", DataType::Utf8, true)]));
        let found = read(text.as_bytes(), &part, |piece, base, first, _| {
            decode_in_chunks(&mut CsvDecoder::new(schema.clone(), 2, &[1], first), piece, base, chunk, 3)
        });
        match found {
            Ok(batches) => {
                let found = batches.iter().flat_map(|batch| {
                    let column = batch.column(0).as_string::<i32>().clone();
                    (0..column.len()).map(move |row| column.value(row).to_string()).collect::<Vec<_>>()
                });
                prop_assert_eq!(Some(found.collect::<Vec<_>>()), expected);
            }
            // Quotes that are never closed are an error here, and so is what stands behind those that are.
            Err(malformed) => prop_assert!(
                expected.is_none() || malformed.what.contains("never closed") || malformed.what.contains("after the closing"),
                "{:?}", malformed
            ),
        }
    }

    #[test]
    fn csv_of_any_dialect_is_what_was_written(
        records in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![r#"[a-z;é' ]{0,4}"#, r#"[a,;\t|"'\\^\r\né]{0,6}"#, Just("NA".to_string())], 2), 0..10),
        dialect in dialects(), split in 1u64..60, chunk in 1usize..40, rows in 1usize..9,
    ) {
        let (delimiter, quote) = (char::from(dialect.delimiter), dialect.quote.map(char::from));
        let line = |fields: &Vec<String>| {
            let quoted = fields.iter().map(|field| match (quote, dialect.escape.map(char::from)) {
                (None, _) => field.replace([delimiter, '\n', '\r'], "."),
                (Some(quote), None) => format!("{quote}{}{quote}", field.replace(quote, &quote.to_string().repeat(2))),
                (Some(quote), Some(escape)) => {
                    let escaped = field.chars().flat_map(|c| (c == quote || c == escape).then_some(escape).into_iter().chain([c]));
                    format!("{quote}{}{quote}", escaped.collect::<String>())
                }
            });
            quoted.collect::<Vec<_>>().join(&delimiter.to_string())
        };
        let header = dialect.header.then(|| line(&vec!["a".to_string(), "b".to_string()]));
        let text: String = header.into_iter().chain(records.iter().map(line)).map(|line| line + "\n").collect();
        let (part, _) = scan_as(RawFormat::Csv, dialect, text.as_bytes(), split, chunk);
        prop_assert!(lines_are_right(text.as_bytes(), &part));
        // A line of nothing is no record, which only a field without quotes can make, and there are two of them.
        prop_assert_eq!(part.records, Some(records.len() as u64));
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)]));
        let options = CsvOptions { dialect, null_value: Some("NA".to_string()) };
        let batches = read(text.as_bytes(), &part, |piece, base, first, _| {
            let mut decoder = CsvDecoder::new(schema.clone(), 2, &[0, 1], first).with_options(options.clone());
            decode_in_chunks(&mut decoder, piece, base, chunk, rows)
        }).unwrap();
        let found: Vec<_> = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| {
            [0, 1].map(|column| {
                let column = batch.column(column).as_string::<i32>();
                column.is_valid(row).then(|| column.value(row).to_string())
            })
        }).collect::<Vec<_>>()).collect();
        let value = |text: &String| {
            let text = if quote.is_none() { text.replace([delimiter, '\n', '\r'], ".") } else { text.clone() };
            (text != "NA" && (quote.is_some() || !text.is_empty())).then_some(text)
        };
        let expected: Vec<_> = records.iter().map(|record| [value(&record[0]), value(&record[1])]).collect();
        prop_assert_eq!(found, expected);
    }
}

fn dialects() -> impl Strategy<Value = Dialect> {
    let quotes = prop_oneof![Just((Some(b'"'), None)), Just((Some(b'\''), None)), Just((None, None))];
    let escaped = prop_oneof![Just((Some(b'"'), Some(b'\\'))), Just((Some(b'\''), Some(b'^')))];
    let delimiter = prop::sample::select(b",;\t|".to_vec());
    (delimiter, prop_oneof![quotes, escaped], any::<bool>()).prop_map(|(delimiter, (quote, escape), header)| Dialect {
        delimiter,
        quote,
        escape,
        header,
    })
}

#[test]
fn odd_texts_scan_as_what_they_are() {
    let cases: [(&str, Option<u64>, u64); 9] = [
        ("", Some(0), 0),
        (" \n ", Some(0), 0),
        ("\u{feff}", Some(0), 3),
        ("[]", Some(0), 1),
        ("\u{feff} [ ]", Some(0), 5),
        ("[{}", None, 1),
        ("[{}] x", None, 1),
        ("{} {}{}", Some(3), 0),
        ("hello", Some(1), 0),
    ];
    for (text, records, first) in cases {
        let (part, _) = scan(RawFormat::Json, text.as_bytes(), 1, 2);
        assert_eq!((part.records, part.splits[0].offset), (records, first), "{text:?}");
    }
}
