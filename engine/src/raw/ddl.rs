//! Declared schemas, in Spark's notation: `title STRING, pages INT, tags ARRAY<STRING>, author STRUCT<name: STRING>`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::{Code, Error, Result};

/// Reads a list of columns.
pub fn schema_of_ddl(ddl: &str) -> Result<SchemaRef> {
    let mut reader = Reader { ddl, rest: ddl };
    let fields = reader.fields()?;
    if !reader.rest.trim().is_empty() {
        return Err(reader.error("`,` or the end"));
    }
    for (index, field) in fields.iter().enumerate() {
        if fields[..index].iter().any(|other| other.name() == field.name()) {
            return Err(Error::new(Code::InvalidSpec, format!("schema `{ddl}` has `{}` twice", field.name())));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

struct Reader<'a> {
    ddl: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn error(&self, expected: &str) -> Error {
        let found = self.rest.split_whitespace().next().unwrap_or("the end");
        Error::new(Code::InvalidSpec, format!("schema `{}`: found `{found}`, expected {expected}", self.ddl)).hint(
            "write it as in Spark: `title STRING, pages INT, price DECIMAL(10,2), tags ARRAY<STRING>, author STRUCT<name: STRING>`",
        )
    }

    fn take(&mut self, symbol: &str) -> bool {
        match self.rest.trim_start().strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.error(&format!("`{symbol}`"))) }
    }

    fn word(&mut self, expected: &str) -> Result<&'a str> {
        self.rest = self.rest.trim_start();
        let (word, rest) = match self.rest.strip_prefix('`').and_then(|quoted| quoted.split_once('`')) {
            Some(quoted) => quoted,
            None => {
                let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
                self.rest.split_at(end)
            }
        };
        if word.is_empty() {
            return Err(self.error(expected));
        }
        self.rest = rest;
        Ok(word)
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        loop {
            let name = self.word("a column name")?;
            self.take(":");
            fields.push(Field::new(name, self.data_type()?, true));
            if !self.take(",") {
                return Ok(fields);
            }
        }
    }

    fn data_type(&mut self) -> Result<DataType> {
        let before = self.rest;
        let word = self.word("a type")?;
        Ok(match word.to_ascii_lowercase().as_str() {
            "string" => DataType::Utf8,
            "boolean" => DataType::Boolean,
            "tinyint" | "byte" => DataType::Int8,
            "smallint" | "short" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "bigint" | "long" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => DataType::Float64,
            "date" => DataType::Date32,
            "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "decimal" if !self.rest.trim_start().starts_with('(') => DataType::Decimal128(10, 0),
            "decimal" => {
                self.expect("(")?;
                let precision = self.number(1..=38)?;
                let scale = if self.take(",") { self.number(0..=precision)? } else { 0 };
                self.expect(")")?;
                DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(0))
            }
            "array" => {
                self.expect("<")?;
                let item = self.data_type()?;
                self.expect(">")?;
                DataType::List(Arc::new(Field::new("item", item, true)))
            }
            "struct" => {
                self.expect("<")?;
                let fields = self.fields()?;
                self.expect(">")?;
                DataType::Struct(fields.into())
            }
            _ => {
                self.rest = before;
                return Err(self.error("a type"));
            }
        })
    }

    fn number(&mut self, allowed: std::ops::RangeInclusive<u8>) -> Result<u8> {
        let before = self.rest;
        let expected = format!("a number from {} to {}", allowed.start(), allowed.end());
        match self.word(&expected)?.parse() {
            Ok(number) if allowed.contains(&number) => Ok(number),
            _ => {
                self.rest = before;
                Err(self.error(&expected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparks_notation_is_read() {
        let schema =
            schema_of_ddl("a STRING, `b c` decimal(10, 2), xs ARRAY<STRUCT<n: INT, s: STRING>>, t timestamp").unwrap();
        let types: Vec<_> =
            schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        assert_eq!(types[0], "a Utf8");
        assert_eq!(types[1], "b c Decimal128(10, 2)");
        assert!(types[2].starts_with("xs List(Struct("), "{}", types[2]);
        assert_eq!(schema.field(3).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    }

    #[test]
    fn what_is_no_schema_is_said() {
        for (ddl, found) in [
            ("", "found `the end`, expected a column name"),
            ("a", "found `the end`, expected a type"),
            ("a TEXTUAL", "found `TEXTUAL`, expected a type"),
            ("a INT b INT", "found `b`, expected `,` or the end"),
            ("a DECIMAL(99)", "expected a number from 1 to 38"),
            ("a ARRAY<INT", "expected `>`"),
            ("a INT, a INT", "has `a` twice"),
        ] {
            let error = schema_of_ddl(ddl).unwrap_err();
            assert!(error.message.contains(found), "{error}");
        }
    }
}
