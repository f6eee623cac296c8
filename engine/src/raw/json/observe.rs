//! Looks at the records of a piece for their types, without keeping a value.

use arrow::{array::RecordBatch, datatypes::Schema};

use super::{
    lex::{INFERRED, Lex, Stop, fields, items, literal, number, skip_value, string, unescape, unexpected},
    walk::{Take, Walk},
};
use crate::raw::{
    infer::{Kind, Observed, Place},
    manifest::JsonLayout,
    piece::{Decode, Malformed},
    places::{Lines, Record},
};

/// What is noted of the values of one record.
struct Note {
    place: Place,
    /// 1, or -1 to take back what was noted before.
    step: u64,
    /// There was a kind that had not been seen before.
    fresh: bool,
}

impl Note {
    #[inline]
    fn count(&mut self, seen: &mut Observed, kind: Kind) {
        let seen = seen.kind_mut(kind);
        if seen.count == 0 {
            seen.first = self.place;
            self.fresh = true;
        }
        seen.count = seen.count.wrapping_add(self.step);
    }
}

/// Notes the value that starts at `at`; the offset after it.
///
/// Which way it goes depends on the text alone, so that the same text with the step -1 takes everything back, up to where the text is cut short.
fn observe(seen: &mut Observed, text: &[u8], at: usize, depth: u32, note: &mut Note) -> Lex<usize> {
    match text.get(at) {
        Some(b'{') => {
            note.count(seen, Kind::Struct);
            let known = &mut seen.fields;
            fields(text, at, depth, |key, (key_end, escaped), value| {
                let plain = std::str::from_utf8(&text[key..key_end]);
                if !escaped
                    && let Ok(name) = plain
                    && let Some(field) = known.get_mut(name)
                {
                    return observe(field, text, value, depth + 1, note);
                }
                let mut name = Vec::new();
                unescape(text, key, key_end, &mut name)?;
                let Ok(name) = String::from_utf8(name) else { return unexpected(text, key, "a field name in UTF-8") };
                observe(known.entry(name).or_default(), text, value, depth + 1, note)
            })
        }
        Some(b'[') => {
            note.count(seen, Kind::Array);
            let item = seen.item.get_or_insert_default();
            items(text, at, depth, |at| observe(item, text, at, depth + 1, note))
        }
        Some(b'"') => {
            let (end, _) = string(text, at + 1)?;
            note.count(seen, Kind::String);
            Ok(end + 1)
        }
        Some(b't' | b'f') => {
            let end = skip_value(text, at, depth)?;
            note.count(seen, Kind::Bool);
            Ok(end)
        }
        Some(b'-' | b'0'..=b'9') => {
            let (end, whole) = number(text, at)?;
            let digits = std::str::from_utf8(&text[at..end]).unwrap_or_default();
            // Digits that a type would lose are kept as text.
            let kind = if whole && digits.parse::<i64>().is_ok() {
                Kind::Long
            } else if !whole && digits.parse::<f64>().is_ok_and(f64::is_finite) {
                Kind::Double
            } else {
                Kind::String
            };
            note.count(seen, kind);
            Ok(end)
        }
        Some(_) => {
            let end = literal(text, at, b"null")?;
            note.count(seen, Kind::Null);
            Ok(end)
        }
        None => Err(Stop::Incomplete),
    }
}

/// Observer of one piece.
#[derive(Debug)]
pub(crate) struct Observer {
    walk: Walk,
    lines: Lines,
    found: Found,
}

#[derive(Debug)]
struct Found {
    part: u32,
    rows: usize,
    fresh: bool,
    seen: Observed,
}

impl Take for Found {
    fn rows(&self) -> usize {
        self.rows
    }

    fn take(&mut self, text: &[u8], at: usize, offset: u64) -> Lex<usize> {
        if text.get(at) != Some(&b'{') {
            return match skip_value(text, at, 0) {
                Err(Stop::Incomplete) => Err(Stop::Incomplete),
                _ => unexpected(text, at, "an object, for a record is an object"),
            };
        }
        let mut note = Note { place: Place { part: self.part, offset, line: 0 }, step: 1, fresh: false };
        let read = observe(&mut self.seen, text, at, INFERRED, &mut note);
        self.fresh |= note.fresh;
        if read.is_err() {
            note.step = u64::MAX;
            // Stops where it stopped before.
            let _ = observe(&mut self.seen, text, at, INFERRED, &mut note);
        }
        read
    }

    fn taken(&mut self, _: Record) {
        self.rows += 1;
    }

    fn bad(&mut self, _: Record, _: String) {}
}

impl Observer {
    /// An observer of a piece that begins with `lines`, in the part with this index. If `lenient`, bad records are passed over.
    pub fn new(layout: JsonLayout, first: bool, last: bool, part: u32, lines: Lines, lenient: bool) -> Self {
        let walk = Walk::new(layout, first, last);
        let walk = if lenient { walk.with_lines(lines, true) } else { walk };
        Self { walk, lines, found: Found { part, rows: 0, fresh: false, seen: Observed::default() } }
    }

    /// All records of the piece.
    pub fn into_seen(mut self) -> Observed {
        self.found.seen.prune();
        self.found.seen
    }
}

impl Decode for Observer {
    fn decode(&mut self, text: &[u8], base: u64, end: bool, rows: usize) -> Result<usize, Malformed> {
        let done = self.walk.run(&mut self.found, text, base, end, rows)?;
        // Lines are counted once for all records at hand.
        if std::mem::take(&mut self.found.fresh) {
            let lines = self.lines;
            self.found.seen.each_place(&mut |place| {
                if place.line == 0 {
                    place.line = lines.line_of(text, base, place.offset);
                }
            });
        }
        self.lines.advance(text, base, done);
        Ok(done)
    }

    fn rows(&self) -> usize {
        self.found.rows
    }

    fn finish(&mut self) -> Result<RecordBatch, Malformed> {
        self.found.rows = 0;
        Ok(RecordBatch::new_empty(std::sync::Arc::new(Schema::empty())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::raw::infer::JsonType;

    /// The type of a value by another way: whole, through serde's tree.
    fn oracle(value: &Value) -> JsonType {
        match value {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Bool,
            Value::Number(number) if number.is_i64() => JsonType::Long,
            Value::Number(number) if number.is_f64() => JsonType::Double,
            Value::Number(_) | Value::String(_) => JsonType::String,
            Value::Array(items) => {
                let mut item = JsonType::Null;
                items.iter().for_each(|value| item.merge(oracle(value)));
                JsonType::Array(Box::new(item))
            }
            Value::Object(fields) => {
                JsonType::Struct(fields.iter().map(|(name, value)| (name.clone(), oracle(value))).collect())
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            Just(Value::from(u64::MAX)),
            "[a\"\\\\é\n{]{0,3}".prop_map(Value::String)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::hash_map("[ab\n]", inner, 0..3).prop_map(|fields| fields.into_iter().collect())
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_observed_is_what_the_values_are(
            records in proptest::collection::vec(proptest::collection::hash_map("[abc]", values(), 0..4), 1..6),
            cut in 0.0..1.0f64,
        ) {
            let records: Vec<Value> = records.into_iter().map(|fields| fields.into_iter().collect()).collect();
            let mut expected = JsonType::Null;
            records.iter().for_each(|record| expected.merge(oracle(record)));
            let text: String = records.iter().map(|record| serde_json::to_string_pretty(record).unwrap() + "\n").collect();
            // In two pieces of text, cut anywhere.
            let cut = (text.len() as f64 * cut) as usize;
            let mut observer = Observer::new(JsonLayout::Lines, true, true, 7, Lines::new(0, 1, &[]), false);
            let done = observer.decode(&text.as_bytes()[..cut], 0, false, usize::MAX).unwrap();
            observer.decode(&text.as_bytes()[done..], done as u64, true, usize::MAX).unwrap();
            prop_assert_eq!(observer.rows(), records.len());
            let found = observer.into_seen();
            prop_assert_eq!(found.kind(Kind::Struct).count, records.len() as u64);
            prop_assert_eq!(found.json_type(), expected);
            prop_assert_eq!(found, count(&records, &text));
        }
    }

    /// What is to be seen, by another way: value by value, each with the line of its record.
    fn count(records: &[Value], text: &str) -> Observed {
        fn add(seen: &mut Observed, value: &Value, place: Place) {
            let kind = match value {
                Value::Null => Kind::Null,
                Value::Bool(_) => Kind::Bool,
                Value::Number(number) if number.is_i64() => Kind::Long,
                Value::Number(number) if number.is_f64() => Kind::Double,
                Value::Number(_) | Value::String(_) => Kind::String,
                Value::Array(_) => Kind::Array,
                Value::Object(_) => Kind::Struct,
            };
            let of_kind = seen.kind_mut(kind);
            of_kind.first = if of_kind.count == 0 { place } else { of_kind.first };
            of_kind.count += 1;
            for item in value.as_array().into_iter().flatten() {
                add(seen.item.get_or_insert_default(), item, place);
            }
            for (name, field) in value.as_object().into_iter().flatten() {
                add(seen.fields.entry(name.clone()).or_default(), field, place);
            }
        }
        let (mut seen, mut offset) = (Observed::default(), 0);
        for record in records {
            let line = text[..offset].matches('\n').count() as u64 + 1;
            add(&mut seen, record, Place { part: 7, offset: offset as u64, line });
            offset += serde_json::to_string_pretty(record).unwrap().len() + 1;
        }
        seen
    }
}
