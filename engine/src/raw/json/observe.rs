//! Looks at the records of a piece for their types, without keeping a value.

use std::collections::BTreeMap;

use arrow::{array::RecordBatch, datatypes::Schema};

use super::{
    lex::{Lex, Stop, fields, items, literal, number, skip_value, string, unescape, unexpected},
    records::{Next, Records},
};
use crate::raw::{
    infer::JsonType,
    manifest::JsonLayout,
    piece::{Decode, Malformed},
};

/// Widens `seen` by the value that starts at `at`; the offset after it.
///
/// A value that is cut short may have widened it in part, which does no harm: reading it again, whole, widens it the same way.
fn observe(seen: &mut JsonType, text: &[u8], at: usize, depth: u32) -> Lex<usize> {
    match text.get(at) {
        Some(b'{') => {
            if *seen == JsonType::Null {
                *seen = JsonType::Struct(BTreeMap::new());
            }
            let JsonType::Struct(known) = seen else {
                *seen = JsonType::String;
                return skip_value(text, at, depth);
            };
            fields(text, at, depth, |key, (key_end, escaped), value| {
                let plain = std::str::from_utf8(&text[key..key_end]);
                if !escaped
                    && let Ok(name) = plain
                    && let Some(field) = known.get_mut(name)
                {
                    return observe(field, text, value, depth + 1);
                }
                let mut name = Vec::new();
                unescape(text, key, key_end, &mut name)?;
                let Ok(name) = String::from_utf8(name) else { return unexpected(text, key, "a field name in UTF-8") };
                observe(known.entry(name).or_default(), text, value, depth + 1)
            })
        }
        Some(b'[') => {
            if *seen == JsonType::Null {
                *seen = JsonType::Array(Box::default());
            }
            let JsonType::Array(item) = seen else {
                *seen = JsonType::String;
                return skip_value(text, at, depth);
            };
            items(text, at, depth, |at| observe(item, text, at, depth + 1))
        }
        Some(b'"') => {
            let (end, _) = string(text, at + 1)?;
            seen.merge(JsonType::String);
            Ok(end + 1)
        }
        Some(b't' | b'f') => {
            let end = skip_value(text, at, depth)?;
            seen.merge(JsonType::Bool);
            Ok(end)
        }
        Some(b'-' | b'0'..=b'9') => {
            let (end, whole) = number(text, at)?;
            let digits = std::str::from_utf8(&text[at..end]).unwrap_or_default();
            // Digits that a type would lose are kept as text.
            seen.merge(if whole && digits.parse::<i64>().is_ok() {
                JsonType::Long
            } else if !whole && digits.parse::<f64>().is_ok_and(f64::is_finite) {
                JsonType::Double
            } else {
                JsonType::String
            });
            Ok(end)
        }
        Some(_) => literal(text, at, b"null"),
        None => Err(Stop::Incomplete),
    }
}

/// Observer of one piece.
#[derive(Debug)]
pub(crate) struct Observer {
    records: Records,
    rows: usize,
    /// Type of all records so far.
    pub seen: JsonType,
}

impl Observer {
    pub fn new(layout: JsonLayout, first: bool, last: bool) -> Self {
        Self { records: Records::new(layout, first, last), rows: 0, seen: JsonType::Null }
    }
}

impl Decode for Observer {
    fn decode(&mut self, text: &[u8], base: u64, end: bool, rows: usize) -> Result<usize, Malformed> {
        let mut at = 0;
        while self.rows < rows {
            let next = self.records.next(text, at, end).map_err(|stop| Malformed::cut_short(stop, text, base))?;
            let start = match next {
                Next::Record(start) => start,
                Next::More(at) => return Ok(at),
            };
            let read = match text.get(start) {
                Some(b'{') => observe(&mut self.seen, text, start, 0),
                _ => match skip_value(text, start, 0) {
                    Err(Stop::Incomplete) if !end => Err(Stop::Incomplete),
                    _ => unexpected(text, start, "an object, for a record is an object"),
                },
            };
            match read {
                Ok(after) => {
                    self.records.record_ends();
                    self.rows += 1;
                    at = after;
                }
                Err(Stop::Incomplete) if !end => return Ok(start),
                Err(stop) => return Err(Malformed::cut_short(stop, text, base)),
            }
        }
        Ok(at)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch, Malformed> {
        self.rows = 0;
        Ok(RecordBatch::new_empty(std::sync::Arc::new(Schema::empty())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

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
            let mut observer = Observer::new(JsonLayout::Lines, true, true);
            let done = observer.decode(&text.as_bytes()[..cut], 0, false, usize::MAX).unwrap();
            observer.decode(&text.as_bytes()[done..], done as u64, true, usize::MAX).unwrap();
            prop_assert_eq!(observer.rows, records.len());
            prop_assert_eq!(observer.seen, expected);
        }
    }
}
