//! Columns against arrow's reader, and what that one does not do.

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Field, Int64Type, Schema},
    json::ReaderBuilder,
};
use proptest::prelude::*;

use super::*;

fn columns(fields: Vec<Field>) -> (StructColumns, Arc<Schema>) {
    let schema = Arc::new(Schema::new(fields));
    (StructColumns::new(schema.fields()).unwrap(), schema)
}

fn why(stop: Stop) -> (Vec<String>, String) {
    match stop {
        Stop::Bad(bad) => (bad.path, bad.what),
        Stop::Incomplete => (Vec::new(), "incomplete".into()),
    }
}

#[test]
fn whatever_stands_in_a_string_field_becomes_text() {
    let (mut columns, _) = columns(vec![Field::new("s", DataType::Utf8, true)]);
    for text in [
        r#"{"s": "a\nb\u00e9"}"#,
        r#"{"s": 1.50}"#,
        r#"{"s": true}"#,
        "{\"s\": {\"k\": [1,\n 2, \"x y\"]}}",
        r#"{"s": null}"#,
        "{}",
        r#"{"s": 1, "s": "last"}"#,
        r#"{"\u0073": "escaped key"}"#,
    ] {
        assert_eq!(push_record(&mut columns, text.as_bytes(), 0, 0).ok(), Some(text.len()));
    }
    let (arrays, bad) = columns.finish_columns();
    assert!(bad.is_empty(), "{bad:?}");
    let strings: Vec<_> = arrays[0].as_string::<i32>().iter().collect();
    let expected = [
        Some("a\nbé"),
        Some("1.50"),
        Some("true"),
        Some(r#"{"k":[1,2,"x y"]}"#),
        None,
        None,
        Some("last"),
        Some("escaped key"),
    ];
    assert_eq!(strings, expected);
}

#[test]
fn conflicts_say_which_field() {
    let item = Field::new("item", DataType::Struct(vec![Field::new("n", DataType::Int64, true)].into()), true);
    let (mut columns, _) = columns(vec![Field::new("xs", DataType::List(Arc::new(item)), true)]);
    for (text, what) in [
        (r#"{"xs": [{"n": 1}, {"n": "one"}]}"#, "found a string, expected a whole number"),
        (r#"{"xs": [{"n": 1.5}]}"#, "found the number 1.5, expected a whole number"),
        (
            r#"{"xs": [{"n": 9223372036854775808}]}"#,
            "found the number 9223372036854775808, expected a whole number of 64 bits",
        ),
    ] {
        let (path, found) = why(push_record(&mut columns, text.as_bytes(), 0, 0).unwrap_err());
        assert_eq!((path, found.as_str()), (vec!["n".to_string(), "xs".to_string()], what));
    }
    let (path, found) = why(push_record(&mut columns, b"[1] ", 0, 0).unwrap_err());
    assert_eq!((path.len(), found.as_str()), (0, "found an array, expected an object, for a record is an object"));
    assert_eq!(columns.finish_columns().0[0].len(), 0);
}

#[test]
fn whole_numbers_keep_their_ends() {
    let (mut columns, _) = columns(vec![Field::new("n", DataType::Int64, true)]);
    for text in [r#"{"n":-9223372036854775808}"#, r#"{"n":9223372036854775807}"#, r#"{"n":-0}"#] {
        push_record(&mut columns, text.as_bytes(), 0, 0).unwrap();
    }
    let (arrays, bad) = columns.finish_columns();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(arrays[0].as_primitive::<Int64Type>().values(), &[i64::MIN, i64::MAX, 0]);
}

#[test]
fn declared_types_are_cast_and_a_bad_value_is_found() {
    let (mut columns, _) = columns(vec![Field::new("d", DataType::Date32, true)]);
    for text in [r#"{"d": "2021-12-09"}"#, r#"{"d": null}"#, r#"{"d": "soon"}"#] {
        push_record(&mut columns, text.as_bytes(), 0, 0).unwrap();
    }
    let (arrays, bad) = columns.finish_columns();
    assert_eq!(arrays[0].null_count(), 2);
    let bad: Vec<_> = bad.into_iter().map(|bad| (bad.row, bad.bad.path)).collect();
    assert_eq!(bad, [(2, vec!["d".to_string()])]);
}

#[test]
fn text_that_is_no_utf8_is_found() {
    let (mut columns, _) = columns(vec![Field::new("s", DataType::Utf8, true)]);
    for text in [&b"{\"s\": \"ok\"}"[..], b"{\"s\": \"\xc3\"}", b"{\"s\": \"\xa9\"}"] {
        push_record(&mut columns, text, 0, 0).unwrap();
    }
    let (_, bad) = columns.finish_columns();
    assert_eq!(bad.iter().map(|bad| bad.row).collect::<Vec<_>>(), [1, 2]);
}

/// A nested type of every kind, and objects that have some of it.
fn nested() -> Vec<Field> {
    let inner = vec![Field::new("s", DataType::Utf8, true), Field::new("b", DataType::Boolean, true)];
    let object = DataType::Struct(inner.into());
    let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
    vec![
        Field::new("n", DataType::Int64, true),
        Field::new("d", DataType::Float64, true),
        Field::new("o", object.clone(), true),
        Field::new("l", list(object), true),
        Field::new("ll", list(list(DataType::Int64)), true),
    ]
}

fn record() -> impl Strategy<Value = String> {
    let object = prop_oneof![
        r#"\{("s": ("[a-zé{}\[\],: ]{0,4}|\\n\\u00e9"|null))?\}"#,
        r#"\{"b": (true|false|null), "x": (\[\]|\{\})\}"#,
        Just("null".to_string()),
    ]
    .prop_filter("well formed", |text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
    .boxed();
    let list = |item: BoxedStrategy<String>| {
        proptest::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(" , "))).boxed()
    };
    let long = "(0|-?[1-9][0-9]{0,17}|null)".boxed();
    let double = r"(0|-?[1-9][0-9]{0,5}(\.[0-9]{1,4})?(e-?[1-9])?|null)".boxed();
    let unknown = r#"\{"n": \[1, "\\"\]"\]\}"#.boxed();
    let fields = [
        ("n", long.clone()),
        ("d", double),
        ("o", object.clone()),
        ("l", list(object)),
        ("ll", list(list(long))),
        ("unknown", unknown),
    ];
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| proptest::option::of(value.prop_map(move |value| format!("\"{name}\":\t{value}"))))
        .collect();
    fields
        .prop_shuffle()
        .prop_map(|fields| format!("{{ {} }}", fields.into_iter().flatten().collect::<Vec<_>>().join(",\n")))
}

proptest! {
    #[test]
    fn columns_are_those_of_arrows_reader(records in proptest::collection::vec(record(), 1..6), cut in 0.0..1.0f64) {
        let (mut columns, schema) = columns(nested());
        for record in &records {
            // A record that is cut short must leave nothing behind.
            let cut = (record.len() as f64 * cut) as usize;
            prop_assert!(matches!(push_record(&mut columns, &record.as_bytes()[..cut], 0, 0), Err(Stop::Incomplete)));
            prop_assert_eq!(push_record(&mut columns, record.as_bytes(), 0, 0).ok(), Some(record.len()));
        }
        let ours = RecordBatch::try_new(schema.clone(), columns.finish_columns().0).unwrap();
        let text = records.join("
");
        let mut oracle = ReaderBuilder::new(schema).build(text.as_bytes()).unwrap();
        prop_assert_eq!(ours, oracle.next().unwrap().unwrap());
    }
}
