//! From what expressions give to what a Delta table holds.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use datafusion::{
    common::Column,
    logical_expr::{Cast, Expr},
};

use super::types::{quoted, timestamp, type_name};
use crate::error::{Code, Error, Result};

/// The schema of a Delta table that takes columns of this schema.
///
/// Texts become `Utf8`, lists get an element field named `element`, timestamps with a zone become microseconds UTC, unsigned integers the next
/// wider signed one. Every column may be null: NOT NULL is a table's own affair. A type that Delta lacks is an error that names the column.
pub fn table_schema(columns: &Schema) -> Result<Schema> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(columns.fields().len());
    for column in columns.fields() {
        let name = column.name();
        check_name(name)?;
        if let Some(twin) = fields.iter().find(|earlier| earlier.name().eq_ignore_ascii_case(name)) {
            return Err(Error::new(
                Code::InvalidSql,
                format!("two result columns are named `{}` and `{name}`", twin.name()),
            )
            .hint("give one of them another name with AS; case does not count"));
        }
        fields.push(Arc::new(Field::new(name, table_type(column.data_type(), name)?, true)));
    }
    if fields.is_empty() {
        return Err(Error::new(Code::InvalidSql, "there are no columns").hint("name at least one column"));
    }
    Ok(Schema::new(fields))
}

/// The projection that gives columns of `from` the types of `to`, by position; `to` comes from [`table_schema`].
pub fn cast_to(from: &Schema, to: &Schema) -> Vec<Expr> {
    from.fields()
        .iter()
        .zip(to.fields())
        .map(|(from, to)| {
            let column = Expr::Column(Column::new_unqualified(from.name()));
            if from.data_type() == to.data_type() && from.name() == to.name() {
                return column;
            }
            let cast = Expr::Cast(Cast::new(Box::new(column), to.data_type().clone()));
            cast.alias(to.name())
        })
        .collect()
}

/// Without column mapping, Delta refuses these characters, as Parquet did of old.
fn check_name(name: &str) -> Result<()> {
    let wrong = |c: &char| matches!(c, ' ' | ',' | ';' | '{' | '}' | '(' | ')' | '\n' | '\t' | '=');
    match name.chars().find(wrong) {
        None if name.is_empty() => {
            Err(Error::new(Code::InvalidSql, "a result column has no name").hint("add `AS name`"))
        }
        None => Ok(()),
        Some(c) => {
            Err(Error::new(Code::InvalidSql, format!("a table's column can't be named `{name}`: {c:?} is not allowed"))
                .hint("name it with AS, in letters, digits and `_`"))
        }
    }
}

fn table_type(data_type: &DataType, column: &str) -> Result<DataType> {
    let fail = |what: &str, hint: String| {
        Err(Error::new(Code::InvalidSql, format!("column `{column}` is {what}, which a table can't hold")).hint(hint))
    };
    Ok(match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..) => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Timestamp(_, Some(_)) => timestamp(),
        DataType::Timestamp(
            TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
            None,
        ) => {
            return fail(
                "a timestamp without time zone",
                format!(
                    "make it an instant with CAST({} AS timestamp): it is then read on the session's clock",
                    quoted(column)
                ),
            );
        }
        DataType::Duration(_) | DataType::Interval(_) => {
            let unit = if *data_type == DataType::Duration(TimeUnit::Second) { "days" } else { "seconds" };
            return fail(
                "an interval",
                format!("take its {unit} with CAST({} AS bigint), or AS double", quoted(column)),
            );
        }
        DataType::Null => {
            return fail("always null", "say what it would be, for example CAST(NULL AS string)".into());
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            return fail("a time of day", format!("take it as text with CAST({} AS string)", quoted(column)));
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            let element = table_type(item.data_type(), &format!("{column}.element"))?;
            DataType::List(Arc::new(Field::new("element", element, true)))
        }
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| {
                let path = format!("{column}.{}", field.name());
                check_name(field.name())?;
                Ok(Arc::new(Field::new(field.name(), table_type(field.data_type(), &path)?, true)))
            });
            let fields = fields.collect::<Result<Fields>>()?;
            if fields.is_empty() {
                return fail("a struct without fields", "leave it out".into());
            }
            DataType::Struct(fields)
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let part = |i: usize, name: &str| table_type(pair[i].data_type(), &format!("{column}.{name}"));
                let pair =
                    vec![Field::new("key", part(0, "key")?, false), Field::new("value", part(1, "value")?, true)];
                DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.into()), false)), false)
            }
            _ => return fail("a malformed map", "cast it".into()),
        },
        DataType::Dictionary(_, value) => table_type(value, column)?,
        DataType::RunEndEncoded(_, values) => table_type(values.data_type(), column)?,
        other => return fail(&format!("of type {}", type_name(other)), "CAST it to another type".into()),
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::IntervalUnit;

    use super::*;

    fn one(data_type: DataType) -> Result<DataType> {
        let schema = Schema::new(vec![Field::new("c", data_type, false)]);
        Ok(table_schema(&schema)?.field(0).data_type().clone())
    }

    #[test]
    fn types_become_what_delta_has() {
        let list = |name: &str, t| DataType::LargeList(Arc::new(Field::new(name, t, true)));
        for (from, to) in [
            (DataType::Utf8View, "string"),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8)), "string"),
            (DataType::UInt8, "smallint"),
            (DataType::UInt64, "bigint"),
            (DataType::Float16, "float"),
            (DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Paris".into())), "timestamp"),
            (list("item", DataType::Utf8View), "array<string>"),
            (DataType::Struct(vec![Field::new("a", DataType::LargeUtf8, false)].into()), "struct<a:string>"),
        ] {
            assert_eq!(type_name(&one(from).unwrap()), to);
        }
        let DataType::List(element) = one(list("item", DataType::Int32)).unwrap() else { panic!() };
        assert_eq!(element.name(), "element");
    }

    #[test]
    fn what_delta_lacks_is_explained() {
        for (data_type, message, hint) in [
            (DataType::Null, "always null", "CAST(NULL AS string)"),
            (DataType::Duration(TimeUnit::Microsecond), "an interval", "CAST(c AS bigint)"),
            (DataType::Interval(IntervalUnit::MonthDayNano), "an interval", "CAST(c AS bigint)"),
            (DataType::Time64(TimeUnit::Nanosecond), "time of day", "CAST(c AS string)"),
            (DataType::Timestamp(TimeUnit::Microsecond, None), "without time zone", "CAST(c AS timestamp)"),
            (DataType::Struct(Fields::empty()), "without fields", "leave it out"),
        ] {
            let error = one(data_type).unwrap_err();
            assert!(error.message.contains("column `c`") && error.message.contains(message), "{}", error.message);
            assert!(error.hint.contains(hint), "{}", error.hint);
        }
        let nested = DataType::Struct(vec![Field::new("a", DataType::Null, true)].into());
        assert!(one(nested).unwrap_err().message.contains("`c.a`"));
    }

    #[test]
    fn names_are_checked() {
        let schema = |names: &[&str]| {
            Schema::new(names.iter().map(|n| Field::new(*n, DataType::Int32, true)).collect::<Vec<_>>())
        };
        assert!(table_schema(&schema(&["sum(x)"])).unwrap_err().hint.contains("AS"));
        assert!(table_schema(&schema(&["a", "A"])).unwrap_err().message.contains("`a` and `A`"));
        assert!(table_schema(&schema(&[])).is_err());
        assert_eq!(table_schema(&schema(&["createdAt"])).unwrap().field(0).name(), "createdAt");
    }
}
