//! Spark's type names: DDL strings to Arrow types and back.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};

use crate::{
    depth::check_depth,
    error::{Code, Error, Result},
};

/// Spark's `timestamp`: an instant, microseconds since 1970 in UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A list as Spark and Delta have it: the element field is named `element`.
pub fn list_of(element: DataType, nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, nullable)))
}

/// A map as Spark and Delta have it.
pub(crate) fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = vec![Field::new("key", key, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries.into()), false)), false)
}

/// The schema that a Spark DDL string describes: `a INT, b STRUCT<c: STRING, d: ARRAY<BIGINT>> NOT NULL, t TIMESTAMP`.
///
/// Column names keep their letters' case and may stand in backticks; `COMMENT '…'` is read over.
pub fn parse_schema(ddl: &str) -> Result<SchemaRef> {
    let mut reader = Reader { text: ddl, at: 0 };
    let fields = reader.fields(None)?;
    for (i, field) in fields.iter().enumerate() {
        if fields[..i].iter().any(|earlier| earlier.name().eq_ignore_ascii_case(field.name())) {
            return Err(reader.error(format!("column `{}` is there twice", field.name())));
        }
    }
    let schema = Schema::new(fields);
    check_depth("the declared schema", &schema)?;
    Ok(Arc::new(schema))
}

/// The type with this Spark name, such as `array<decimal(10,2)>`.
pub fn parse_type(name: &str) -> Result<DataType> {
    let mut reader = Reader { text: name, at: 0 };
    let data_type = reader.data_type(0)?;
    reader.expect_end()?;
    Ok(data_type)
}

/// Spark's name of a type, in lower case: `struct<a:int,b:array<string>>`. A type that Spark does not have gets Arrow's name.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp".into(),
        DataType::Timestamp(_, None) => "timestamp_ntz".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::Null => "void".into(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
            format!("decimal({p},{s})")
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => {
            format!("array<{}>", type_name(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|f| format!("{}:{}", quoted(f.name()), type_name(f.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("map<{},{}>", type_name(pair[0].data_type()), type_name(pair[1].data_type()))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

/// A name in backticks unless it is a plain word.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.to_string() } else { format!("`{}`", name.replace('`', "``")) }
}

/// Nested types deeper than this are refused: reading them recurses.
const DEEPEST: usize = 64;

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: impl Into<String>) -> Error {
        let column = self.text.get(..self.at).unwrap_or(self.text).chars().count() + 1;
        Error::new(Code::InvalidSpec, format!("schema `{}`, column {column}: {}", self.text.trim(), what.into()))
            .hint("write it as Spark does: `a INT, b STRUCT<c: STRING, d: ARRAY<BIGINT>>, t TIMESTAMP`")
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn accept(&mut self, c: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.accept(c) { Ok(()) } else { Err(self.found(&format!("`{c}`"))) }
    }

    fn found(&self, expected: &str) -> Error {
        match self.rest().chars().next() {
            Some(c) => self.error(format!("expected {expected}, found `{c}`")),
            None => self.error(format!("expected {expected}, found the end")),
        }
    }

    fn expect_end(&mut self) -> Result<()> {
        self.skip_space();
        if self.rest().is_empty() { Ok(()) } else { Err(self.found("the end")) }
    }

    fn word(&mut self) -> Option<&str> {
        self.skip_space();
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let start = self.at;
        self.at += length;
        self.text.get(start..self.at).filter(|word| !word.is_empty())
    }

    fn accept_word(&mut self, expected: &str) -> bool {
        let start = self.at;
        let found = self.word().is_some_and(|word| word.eq_ignore_ascii_case(expected));
        if !found {
            self.at = start;
        }
        found
    }

    fn name(&mut self) -> Result<String> {
        if !self.accept('`') {
            return match self.word() {
                Some(word) => Ok(word.to_string()),
                None => Err(self.found("a column name")),
            };
        }
        let mut name = String::new();
        let mut chars = self.rest().char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            match (c, chars.peek()) {
                ('`', Some((_, '`'))) => {
                    chars.next();
                    name.push('`');
                }
                ('`', _) => {
                    self.at += i + 1;
                    return if name.is_empty() { Err(self.error("a column name is empty")) } else { Ok(name) };
                }
                _ => name.push(c),
            }
        }
        Err(self.error("a backtick is not closed"))
    }

    /// `name type [NOT NULL] [COMMENT '…'], …`, up to the end, or inside `struct<…>` of a depth up to `>`.
    fn fields(&mut self, depth: Option<usize>) -> Result<Vec<FieldRef>> {
        let mut fields = Vec::new();
        loop {
            let name = self.name()?;
            let colon = self.accept(':');
            if colon && depth.is_none() {
                return Err(self.error("a column's name and type stand side by side, without `:`"));
            }
            let data_type = self.data_type(depth.map_or(0, |depth| depth + 1))?;
            let required = self.accept_word("NOT");
            if required && !self.accept_word("NULL") {
                return Err(self.found("NULL after NOT"));
            }
            if self.accept_word("COMMENT") {
                self.comment()?;
            }
            fields.push(Arc::new(Field::new(name, data_type, !required)));
            if !self.accept(',') {
                break;
            }
        }
        match depth {
            Some(_) => self.expect('>')?,
            None => self.expect_end()?,
        }
        Ok(fields)
    }

    fn comment(&mut self) -> Result<()> {
        self.skip_space();
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Err(self.found("a comment in quotes"));
        };
        match self.rest().get(1..).and_then(|rest| rest.find(quote)) {
            Some(end) => self.at += end + 2,
            None => return Err(self.error("a comment's quote is not closed")),
        }
        Ok(())
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType> {
        if depth > DEEPEST {
            return Err(self.error("types are nested too deep"));
        }
        let start = self.at;
        let Some(word) = self.word().map(str::to_ascii_lowercase) else { return Err(self.found("a type")) };
        Ok(match word.as_str() {
            "boolean" | "bool" => DataType::Boolean,
            "tinyint" | "byte" => DataType::Int8,
            "smallint" | "short" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "bigint" | "long" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => DataType::Float64,
            "string" | "text" => DataType::Utf8,
            "varchar" | "char" | "character" => {
                self.numbers()?;
                DataType::Utf8
            }
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" | "timestamp_ltz" => timestamp(),
            "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "interval" => DataType::Interval(IntervalUnit::MonthDayNano),
            "void" | "null" => DataType::Null,
            "decimal" | "dec" | "numeric" => {
                let (precision, scale) = match self.numbers()?.as_slice() {
                    [] => (10, 0),
                    [precision] => (*precision, 0),
                    [precision, scale] => (*precision, *scale),
                    _ => return Err(self.error("decimal takes a precision and a scale")),
                };
                decimal(precision, scale).ok_or_else(|| {
                    self.error(format!(
                        "decimal({precision},{scale}) does not fit: at most decimal(38,38), scale ≤ precision"
                    ))
                })?
            }
            "array" => {
                self.expect('<')?;
                let element = self.data_type(depth + 1)?;
                self.expect('>')?;
                list_of(element, true)
            }
            "map" => {
                self.expect('<')?;
                let key = self.data_type(depth + 1)?;
                self.expect(',')?;
                let value = self.data_type(depth + 1)?;
                self.expect('>')?;
                map_of(key, value)
            }
            "struct" => {
                self.expect('<')?;
                if self.accept('>') {
                    DataType::Struct(Fields::empty())
                } else {
                    DataType::Struct(self.fields(Some(depth))?.into())
                }
            }
            other => {
                self.at = start;
                self.skip_space();
                return Err(self.error(format!("there is no type `{other}`")));
            }
        })
    }

    /// `(1, 2)`, or nothing.
    fn numbers(&mut self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        if !self.accept('(') {
            return Ok(numbers);
        }
        loop {
            match self.word().and_then(|word| word.parse().ok()) {
                Some(number) => numbers.push(number),
                None => return Err(self.found("a number")),
            }
            if !self.accept(',') {
                break;
            }
        }
        self.expect(')')?;
        Ok(numbers)
    }
}

/// A decimal of a valid precision (1 to 38) and scale (0 to precision).
pub(crate) fn decimal(precision: u64, scale: u64) -> Option<DataType> {
    let precision = u8::try_from(precision).ok().filter(|p| (1..=38).contains(p))?;
    let scale = i8::try_from(scale).ok().filter(|s| i64::from(*s) <= i64::from(precision))?;
    Some(DataType::Decimal128(precision, scale))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_spark_schema_is_read() {
        let schema = parse_schema(
            "a INT, `b c` STRUCT<d: STRING COMMENT 'x', e: ARRAY<BIGINT>> NOT NULL, createdAt TIMESTAMP COMMENT \"when\",\n m map<string, decimal(10, 2)>",
        )
        .unwrap();
        assert_eq!(schema.field(0).data_type(), &DataType::Int32);
        assert!(!schema.field(1).is_nullable());
        assert_eq!(type_name(schema.field(1).data_type()), "struct<d:string,e:array<bigint>>");
        assert_eq!(schema.field(2).name(), "createdAt");
        assert_eq!(schema.field(2).data_type(), &timestamp());
        assert_eq!(type_name(schema.field(3).data_type()), "map<string,decimal(10,2)>");
        assert_eq!(parse_type("struct<>").unwrap(), DataType::Struct(Fields::empty()));
        assert_eq!(parse_type("DECIMAL").unwrap(), DataType::Decimal128(10, 0));
    }

    #[test]
    fn a_wrong_schema_is_explained() {
        for (ddl, expected) in [
            ("", "expected a column name, found the end"),
            ("a", "expected a type, found the end"),
            ("a INT b INT", "expected the end, found `b`"),
            ("a INT, b LONGISH", "column 10: there is no type `longish`"),
            ("a INT, A STRING", "column `A` is there twice"),
            ("a: INT", "without `:`"),
            ("a DECIMAL(39, 1)", "does not fit"),
            ("a DECIMAL(3, 4)", "does not fit"),
            ("a ARRAY<INT", "expected `>`, found the end"),
            ("a STRUCT<b INT", "expected `>`"),
            ("`a INT", "not closed"),
            ("a INT COMMENT 'x", "not closed"),
            ("a INT NOT", "expected NULL"),
            ("ä INT", "expected a column name"),
        ] {
            let error = parse_schema(ddl).unwrap_err();
            assert_eq!(error.code, Code::InvalidSpec);
            assert!(error.message.contains(expected), "{ddl}: {}", error.message);
        }
        let deep = format!("a {}int{}", "array<".repeat(5000), ">".repeat(5000));
        assert!(parse_schema(&deep).unwrap_err().message.contains("too deep"));
    }

    fn any_type() -> impl Strategy<Value = DataType> {
        let leaf = prop_oneof![
            Just(DataType::Boolean),
            Just(DataType::Int8),
            Just(DataType::Int16),
            Just(DataType::Int32),
            Just(DataType::Int64),
            Just(DataType::Float32),
            Just(DataType::Float64),
            Just(DataType::Utf8),
            Just(DataType::Binary),
            Just(DataType::Date32),
            Just(timestamp()),
            Just(DataType::Timestamp(TimeUnit::Microsecond, None)),
            (1u64..=38).prop_flat_map(|p| (Just(p), 0..=p)).prop_map(|(p, s)| decimal(p, s).unwrap()),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|element| list_of(element, true)),
                (inner.clone(), inner.clone()).prop_map(|(key, value)| map_of(key, value)),
                prop::collection::vec(("[a-zA-Z_][a-z0-9_]{0,6}|[ -~äöü]{1,6}", inner), 0..4).prop_map(|fields| {
                    DataType::Struct(fields.into_iter().map(|(name, t)| Field::new(name, t, true)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_type_survives_its_name(data_type in any_type()) {
            prop_assert_eq!(parse_type(&type_name(&data_type)).unwrap(), data_type);
        }

        #[test]
        fn nothing_panics(text in ".{0,60}") {
            let _ = parse_schema(&text);
            let _ = parse_type(&text);
        }
    }
}
