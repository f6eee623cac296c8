//! What columns JSON text has: a type for every field of every record, merged over all splits.
//!
//! Types merge as in Spark: whole and other numbers to double, objects field by field, arrays over their items, null with anything; what does not fit
//! together becomes a string. Merging is associative and commutative, so any split plan infers the same.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// Format version of a kept schema.
const FORMAT_VERSION: u32 = 1;

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

/// The type of a version's records, as it is kept with the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawSchema {
    /// Version of this form.
    pub format_version: u32,
    /// Type of a record.
    pub record: JsonType,
}

impl RawSchema {
    /// Of records of this type.
    pub fn new(record: JsonType) -> Self {
        Self { format_version: FORMAT_VERSION, record }
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
        if schema.format_version != FORMAT_VERSION {
            let message = format!(
                "{path} has format version {}, and this build reads version {FORMAT_VERSION}",
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
        fn a_kept_schema_reads_back(record in types()) {
            let schema = RawSchema::new(record);
            prop_assert_eq!(RawSchema::from_json(&schema.to_json().unwrap(), "s").unwrap(), schema);
        }
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
        assert!(RawSchema::new(Null).arrow().is_none());
    }
}
