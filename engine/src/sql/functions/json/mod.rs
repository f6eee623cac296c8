//! Functions of JSON texts.
mod from_json;
pub(super) mod options;
mod path;
mod schema;
pub(super) mod to_json;
pub(super) mod value;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, ListBuilder, StringBuilder},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::ScalarUDF,
};

use super::args::{Kind, accept_one, gives_int, gives_text, kernel, literal_text};
use crate::sql::{
    kernel::{Arguments, Kernel, wrong_call},
    types::{list_of, parse_schema, parse_type},
};
pub(super) use from_json::{Reading, half_up};
use options::options_type;
use path::Path;
use value::{Json, Leniency, read};

/// The functions of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        kernel!("get_json_object", [Text, Text], [], gives_text, get_json_object),
        kernel!("json_array_length", [Text], [], gives_int, json_array_length),
        kernel!("json_object_keys", [Text], [], |_, _| Ok(list_of(DataType::Utf8, true)), json_object_keys),
        // One field of `json_tuple`, which the rewriting of statements writes as several of these.
        kernel!("json_tuple_field", [Text, Text], [], gives_text, json_tuple_field),
        Kernel::function(
            "from_json",
            |types| with_options("from_json", types, 2),
            type_of_schema,
            from_json::from_json,
        ),
        Kernel::function(
            "to_json",
            |types| match types {
                [value @ (DataType::Struct(_) | DataType::List(_) | DataType::Map(..) | DataType::Null)] => {
                    Ok(vec![value.clone()])
                }
                [value @ (DataType::Struct(_) | DataType::List(_) | DataType::Map(..)), _] => {
                    Ok(vec![value.clone(), options_type()])
                }
                _ => Err(wrong_call("to_json takes a struct, an array or a map, and options")),
            },
            gives_text,
            to_json::to_json,
        ),
        Kernel::function(
            "schema_of_json",
            |types| with_options("schema_of_json", types, 1),
            gives_text,
            schema::schema_of_json,
        ),
    ]
}

/// The types of so many texts and, maybe, options.
pub(super) fn with_options(name: &str, types: &[DataType], texts: usize) -> Result<Vec<DataType>> {
    if types.len() < texts || types.len() > texts + 1 {
        return Err(wrong_call(format!("`{name}` takes {texts} arguments and, if needed, a map of options")));
    }
    let mut accepted =
        types.iter().take(texts).map(|found| accept_one(name, found, Kind::Text)).collect::<Result<Vec<_>>>()?;
    if types.len() > texts {
        accepted.push(options_type());
    }
    Ok(accepted)
}

/// The type that the second argument, a literal, is the DDL of.
fn type_of_schema(_: &[FieldRef], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let Some(ddl) = literal_text(literals, 1) else {
        return Err(wrong_call("from_json needs its schema as a literal, such as 'a INT, b ARRAY<STRING>'"));
    };
    let data_type = nullable(&schema_type(ddl)?);
    match data_type {
        DataType::Struct(_) | DataType::List(_) | DataType::Map(..) => {
            from_json::check_type(&data_type)?;
            Ok(data_type)
        }
        _ => Err(wrong_call("from_json reads structs, arrays and maps")),
    }
}

/// A type, or the struct of the columns, that DDL describes.
pub(super) fn schema_type(ddl: &str) -> Result<DataType> {
    if let Ok(data_type) = parse_type(ddl) {
        return Ok(data_type);
    }
    Ok(DataType::Struct(parse_schema(ddl)?.fields().clone()))
}

/// The type with everything in it nullable.
pub(super) fn nullable(data_type: &DataType) -> DataType {
    let field =
        |field: &FieldRef| -> FieldRef { Arc::new(Field::new(field.name(), nullable(field.data_type()), true)) };
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::List(item) => list_of(nullable(item.data_type()), true),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair = vec![Arc::clone(&pair[0]), field(&pair[1])];
                let entries = entries.as_ref().clone().with_data_type(DataType::Struct(pair.into()));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

/// Jackson as these functions have it: JSON alone, but for single quotes.
fn strict() -> Leniency {
    Leniency { not_numbers: false, ..Leniency::default() }
}

fn get_json_object(arguments: &Arguments) -> Result<ArrayRef> {
    let mut last: Option<(String, Option<Path>)> = None;
    arguments.try_texts(|row| {
        let (Some(text), Some(path)) = (arguments.text(0, row), arguments.text(1, row)) else { return Ok(None) };
        if last.as_ref().is_none_or(|(text, _)| text != path) {
            last = Some((path.to_string(), Path::read(path)));
        }
        let Some((_, Some(path))) = &last else { return Ok(None) };
        Ok(read(text, strict()).and_then(|json| path.find(&json)))
    })
}

fn json_array_length(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.values::<arrow::datatypes::Int32Type>(|row| match read(arguments.text(0, row)?, strict())? {
        Json::Array(items) => i32::try_from(items.len()).ok(),
        _ => None,
    })
}

fn json_object_keys(arguments: &Arguments) -> Result<ArrayRef> {
    let mut keys = ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
    for row in 0..arguments.rows() {
        match arguments.text(0, row).and_then(|text| read(text, strict())) {
            Some(Json::Object(fields)) => {
                fields.iter().for_each(|(name, _)| keys.values().append_value(name));
                keys.append(true);
            }
            _ => keys.append_null(),
        }
    }
    Ok(Arc::new(keys.finish()))
}

fn json_tuple_field(arguments: &Arguments) -> Result<ArrayRef> {
    arguments.texts(|row| {
        let (text, name) = (arguments.text(0, row)?, arguments.text(1, row)?);
        let Json::Object(fields) = read(text, strict())? else { return None };
        let found = fields.iter().rev().find(|(field, value)| field == name && *value != Json::Null);
        found.map(|(_, value)| value.plain())
    })
}
