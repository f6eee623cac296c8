//! How deep types may be nested: one bound for what is inferred, declared, planned and written.
//!
//! A schema travels to the executors inside a plan, as messages in messages, and protobuf reads no more than a hundred of those in one another; each
//! level of a type is three. A Delta log's schema is JSON that its readers take up to a similar depth.

use arrow::datatypes::{DataType, Schema};

use crate::error::{Code, Error, Result};

/// Levels of objects and arrays, the record's own among them. A map counts for two.
pub const MOST_LEVELS: u32 = 32;

/// Levels of a type.
fn levels(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Struct(fields) => 1 + fields.iter().map(|field| levels(field.data_type())).max().unwrap_or(0),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => 1 + levels(item.data_type()),
        DataType::FixedSizeList(item, _) => 1 + levels(item.data_type()),
        // The entries are a struct.
        DataType::Map(entries, _) => 1 + levels(entries.data_type()),
        DataType::Dictionary(_, value) => levels(value),
        _ => 0,
    }
}

/// Fails when a column of a schema is nested too deep.
pub fn check_depth(whose: &str, schema: &Schema) -> Result<()> {
    let deepest = schema.fields().iter().map(|field| (1 + levels(field.data_type()), field.name()));
    match deepest.max_by_key(|(levels, _)| *levels) {
        Some((levels, name)) if levels > MOST_LEVELS => Err(Error::new(
            Code::InvalidSpec,
            format!("{whose}: column `{name}` makes records of {levels} levels, and {MOST_LEVELS} are the most"),
        )
        .hint("declare what is deeper as a STRING: it holds the JSON text")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_type;

    #[test]
    fn levels_are_counted() {
        for (name, expected) in [
            ("int", 0),
            ("array<int>", 1),
            ("struct<a:array<int>,b:int>", 2),
            ("map<string,array<int>>", 3),
            ("struct<a:map<string,struct<b:int>>>", 4),
        ] {
            assert_eq!(levels(&parse_type(name).unwrap()), expected, "{name}");
        }
        let nested = |levels: usize| {
            let name = format!("{}int{}", "struct<a:".repeat(levels), ">".repeat(levels));
            Schema::new(vec![arrow::datatypes::Field::new("top", parse_type(&name).unwrap(), true)])
        };
        check_depth("x", &nested(31)).unwrap();
        let error = check_depth("x", &nested(32)).unwrap_err();
        assert!(error.message.contains("column `top` makes records of 33 levels, and 32 are the most"), "{error}");
    }
}
