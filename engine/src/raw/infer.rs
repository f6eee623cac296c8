//! What columns JSON text has: for every field how many values of which kind all records have, merged over all splits, and the type that follows.
//!
//! Types merge as in Spark: whole and other numbers to double, objects field by field, arrays over their items, null with anything; what does not fit
//! together becomes a string. Merging is associative and commutative, so any split plan infers the same.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// Format version of a kept schema. Version 1 had types only, and is still read.
const FORMAT_VERSION: u32 = 2;

/// The type of a JSON value, or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonType {
    /// Nothing but nulls.
    #[default]
    Null,
    /// true and false.
    Bool,
    /// Whole numbers of 64 bits.
    Long,
    /// Numbers.
    Double,
    /// Strings, and whatever does not fit together.
    String,
    /// Arrays; the type of their items.
    Array(Box<JsonType>),
    /// Objects; the types of their fields, by name.
    Struct(BTreeMap<String, JsonType>),
}

impl JsonType {
    /// Makes this the type of both.
    pub fn merge(&mut self, other: JsonType) {
        match (&mut *self, other) {
            (_, Self::Null) => {}
            (Self::Null, other) => *self = other,
            (Self::Struct(fields), Self::Struct(others)) => {
                for (name, other) in others {
                    fields.entry(name).or_default().merge(other);
                }
            }
            (Self::Array(item), Self::Array(other)) => item.merge(*other),
            (Self::Long, Self::Double) => *self = Self::Double,
            (Self::Double, Self::Long) => {}
            (one, other) if *one == other => {}
            (one, _) => *one = Self::String,
        }
    }

    /// The Arrow type; what was never seen with a value is a string, and so is an object that never had a field.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Long => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Null | Self::String => DataType::Utf8,
            Self::Array(item) => DataType::List(Arc::new(Field::new("item", item.data_type(), true))),
            Self::Struct(fields) if fields.is_empty() => DataType::Utf8,
            Self::Struct(fields) => DataType::Struct(arrow_fields(fields)),
        }
    }
}

fn arrow_fields(fields: &BTreeMap<String, JsonType>) -> Fields {
    fields.iter().map(|(name, field)| Field::new(name, field.data_type(), true)).collect()
}

/// A place in a version's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Index of the part in the manifest.
    pub part: u32,
    /// Offset of the record in the part.
    pub offset: u64,
    /// Line that the record starts on, from 1.
    pub line: u64,
}

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// null
    Null,
    /// true or false
    Bool,
    /// A whole number of 64 bits.
    Long,
    /// Another number.
    Double,
    /// A string, or a number whose digits no type would keep.
    String,
    /// An array.
    Array,
    /// An object.
    Struct,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Self; 7] =
        [Self::Null, Self::Bool, Self::Long, Self::Double, Self::String, Self::Array, Self::Struct];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "boolean",
            Self::Long => "bigint",
            Self::Double => "double",
            Self::String => "string",
            Self::Array => "array",
            Self::Struct => "struct",
        }
    }
}

/// How many values of one kind there are, and the record of the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindSeen {
    /// Values.
    pub count: u64,
    /// The first, if there is any.
    pub first: Place,
}

/// All values of a field, or of an array's items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    #[serde(with = "kinds")]
    kinds: [KindSeen; 7],
    /// Items of the arrays among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Box<Observed>>,
    /// Fields of the objects among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Observed>,
}

/// Only the kinds that there are, by name.
mod kinds {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Kind, KindSeen};

    pub fn serialize<S: Serializer>(kinds: &[KindSeen; 7], serializer: S) -> Result<S::Ok, S::Error> {
        let some: BTreeMap<Kind, &KindSeen> =
            Kind::ALL.into_iter().zip(kinds).filter(|(_, seen)| seen.count > 0).collect();
        some.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[KindSeen; 7], D::Error> {
        let some = BTreeMap::<Kind, KindSeen>::deserialize(deserializer)?;
        Ok(Kind::ALL.map(|kind| some.get(&kind).copied().unwrap_or_default()))
    }
}

impl Observed {
    /// The kinds that there are.
    pub fn kinds(&self) -> impl Iterator<Item = (Kind, KindSeen)> + '_ {
        Kind::ALL.into_iter().zip(self.kinds).filter(|(_, seen)| seen.count > 0)
    }

    /// One kind.
    pub fn kind(&self, kind: Kind) -> KindSeen {
        self.kinds[kind as usize]
    }

    /// One kind, to be changed.
    #[inline]
    pub(crate) fn kind_mut(&mut self, kind: Kind) -> &mut KindSeen {
        &mut self.kinds[kind as usize]
    }

    /// Whether there is any value.
    pub fn is_empty(&self) -> bool {
        self.kinds.iter().all(|seen| seen.count == 0)
    }

    /// Whether its values are of kinds that only a string can hold all.
    pub fn conflicts(&self) -> bool {
        let kinds: Vec<Kind> = self.kinds().map(|(kind, _)| kind).filter(|kind| *kind != Kind::Null).collect();
        kinds.len() > 1 && kinds != [Kind::Long, Kind::Double]
    }

    /// Adds what was seen elsewhere.
    pub fn merge(&mut self, other: Self) {
        for (seen, other) in self.kinds.iter_mut().zip(other.kinds) {
            seen.first = match (seen.count, other.count) {
                (0, _) => other.first,
                (_, 0) => seen.first,
                _ => seen.first.min(other.first),
            };
            seen.count += other.count;
        }
        if let Some(other) = other.item {
            self.item.get_or_insert_default().merge(*other);
        }
        for (name, other) in other.fields {
            self.fields.entry(name).or_default().merge(other);
        }
    }

    /// Changes every place in it.
    pub(crate) fn each_place(&mut self, change: &mut impl FnMut(&mut Place)) {
        self.kinds.iter_mut().for_each(|seen| change(&mut seen.first));
        self.item.iter_mut().for_each(|item| item.each_place(change));
        self.fields.values_mut().for_each(|field| field.each_place(change));
    }

    /// Forgets fields and items of which nothing was seen.
    pub(crate) fn prune(&mut self) {
        self.kinds.iter_mut().filter(|seen| seen.count == 0).for_each(|seen| *seen = KindSeen::default());
        self.item = self.item.take().filter(|item| !item.is_empty());
        self.item.iter_mut().for_each(|item| item.prune());
        self.fields.retain(|_, field| !field.is_empty());
        self.fields.values_mut().for_each(Self::prune);
    }

    /// The type that holds all of it.
    pub fn json_type(&self) -> JsonType {
        let mut merged = JsonType::Null;
        for (kind, _) in self.kinds() {
            merged.merge(match kind {
                Kind::Null => JsonType::Null,
                Kind::Bool => JsonType::Bool,
                Kind::Long => JsonType::Long,
                Kind::Double => JsonType::Double,
                Kind::String => JsonType::String,
                Kind::Array => {
                    JsonType::Array(Box::new(self.item.as_ref().map_or(JsonType::Null, |item| item.json_type())))
                }
                Kind::Struct => {
                    let field = |(name, field): (&String, &Self)| (name.clone(), field.json_type());
                    JsonType::Struct(self.fields.iter().map(field).collect())
                }
            });
        }
        merged
    }
}

/// The type of a version's records, as it is kept with the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawSchema {
    /// Version of this form.
    pub format_version: u32,
    /// Type of a record.
    pub record: JsonType,
    /// What it follows from; none in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Observed>,
}

impl RawSchema {
    /// Of records of which this was seen.
    pub fn new(seen: Observed) -> Self {
        Self { format_version: FORMAT_VERSION, record: seen.json_type(), seen: Some(seen) }
    }

    /// Columns, in the order of their names; none when there was no record.
    pub fn arrow(&self) -> Option<SchemaRef> {
        match &self.record {
            JsonType::Struct(fields) if !fields.is_empty() => Some(Arc::new(Schema::new(arrow_fields(fields)))),
            _ => None,
        }
    }

    /// Reads its JSON form.
    pub fn from_json(text: &[u8], path: &str) -> Result<Self> {
        let schema: Self = serde_json::from_slice(text)
            .map_err(|error| Error::new(Code::Storage, format!("{path} is not a schema: {error}")))?;
        if !(1..=FORMAT_VERSION).contains(&schema.format_version) {
            let message = format!(
                "{path} has format version {}, and this build reads versions up to {FORMAT_VERSION}",
                schema.format_version
            );
            return Err(Error::new(Code::Storage, message).hint("delete it, and it is inferred again"));
        }
        Ok(schema)
    }

    /// Its JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|error| Error::new(Code::Internal, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn types() -> impl Strategy<Value = JsonType> {
        let leaf = prop_oneof![
            Just(JsonType::Null),
            Just(JsonType::Bool),
            Just(JsonType::Long),
            Just(JsonType::Double),
            Just(JsonType::String)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|item| JsonType::Array(Box::new(item))),
                proptest::collection::btree_map("[abc]", inner, 0..3).prop_map(JsonType::Struct)
            ]
        })
    }

    fn merged(mut one: JsonType, other: JsonType) -> JsonType {
        one.merge(other);
        one
    }

    proptest! {
        #[test]
        fn merging_is_associative_commutative_and_idempotent(a in types(), b in types(), c in types()) {
            prop_assert_eq!(merged(merged(a.clone(), b.clone()), c.clone()), merged(a.clone(), merged(b.clone(), c)));
            prop_assert_eq!(merged(a.clone(), b.clone()), merged(b, a.clone()));
            prop_assert_eq!(merged(a.clone(), a.clone()), a);
        }

        #[test]
        fn what_was_seen_merges_in_any_order_and_reads_back(a in seen(), b in seen(), c in seen()) {
            let both = |mut one: Observed, other: &Observed| {
                one.merge(other.clone());
                one
            };
            let all = both(both(a.clone(), &b), &c);
            prop_assert_eq!(&all, &both(c.clone(), &both(b.clone(), &a)));
            // Types merge as the values do.
            prop_assert_eq!(all.json_type(), merged(merged(a.json_type(), b.json_type()), c.json_type()));
            let schema = RawSchema::new(all);
            prop_assert_eq!(RawSchema::from_json(&schema.to_json().unwrap(), "s").unwrap(), schema);
        }
    }

    fn seen() -> impl Strategy<Value = Observed> {
        let some = || (0..2u64, 0..3u64);
        let kinds = (some(), some(), some(), some(), some());
        let leaf = kinds.prop_map(|(a, b, c, d, e)| {
            let mut seen = Observed::default();
            for (kind, (count, offset)) in
                Kind::ALL.into_iter().zip([a, b, c, d, e]).filter(|(_, (count, _))| *count > 0)
            {
                *seen.kind_mut(kind) = KindSeen { count, first: Place { part: 0, offset, line: offset + 1 } };
            }
            seen
        });
        leaf.prop_recursive(3, 8, 2, |inner| {
            let fields = proptest::collection::btree_map("[ab]", inner.clone(), 0..3);
            (inner, fields, any::<bool>()).prop_map(|(item, fields, array)| {
                let mut seen = Observed::default();
                let one = KindSeen { count: 1, first: Place { part: 1, offset: 5, line: 2 } };
                if array {
                    *seen.kind_mut(Kind::Array) = one;
                    seen.item = (!item.is_empty()).then(|| Box::new(item));
                } else {
                    *seen.kind_mut(Kind::Struct) = one;
                    seen.fields = fields;
                }
                seen
            })
        })
    }

    #[test]
    fn the_first_form_stays_readable() {
        let text = br#"{"format_version": 1, "record": {"struct": {"a": "long", "b": {"array": "string"}}}}"#;
        let schema = RawSchema::from_json(text, "s").unwrap();
        assert_eq!(schema.seen, None);
        assert_eq!(schema.arrow().unwrap().field(0).data_type(), &DataType::Int64);
        let later = String::from_utf8_lossy(text).replace('1', "3");
        assert!(
            RawSchema::from_json(later.as_bytes(), "raw/s").unwrap_err().message.contains("raw/s has format version 3")
        );
    }

    #[test]
    fn types_merge_as_in_spark() {
        use JsonType::{Array, Bool, Double, Long, Null, String, Struct};
        for (one, other, both) in [
            (Long, Double, Double),
            (Bool, Long, String),
            (Null, Array(Box::new(Null)), Array(Box::new(Null))),
            (Array(Box::new(Long)), Array(Box::new(Double)), Array(Box::new(Double))),
            (Struct(BTreeMap::new()), Long, String),
        ] {
            assert_eq!(merged(one, other), both);
        }
        assert_eq!(Struct(BTreeMap::new()).data_type(), DataType::Utf8);
        assert!(RawSchema::new(Observed::default()).arrow().is_none());
    }
}
