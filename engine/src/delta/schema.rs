//! Arrow schemas as Delta schemas, their comparison and evolution.

use std::{collections::HashSet, sync::Arc};

use arrow::datatypes::{DataType as ArrowType, FieldRef, Schema as ArrowSchema, SchemaRef};
use deltalake_core::kernel::{
    ArrayType, DataType, DecimalType, MapType, PrimitiveType, StructField, StructType,
    engine::arrow_conversion::TryIntoArrow,
};

use crate::{
    TableName,
    depth::check_depth,
    error::{Code, Error, Result},
    names::OURS,
};

/// How far a job may change the schema of a table that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchemaPolicy {
    /// The columns must be the table's.
    #[default]
    Same,
    /// Columns the table lacks are added to it, nullable, at the end.
    AddColumns,
    /// The result's columns replace the table's: a question's result is its table.
    Replace,
}

/// Characters that Spark and Delta refuse in the column names of a table without column mapping.
const BAD_IN_NAME: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// Beginnings of the metadata keys that [`to_arrow`] leaves out.
const LAYOUT_KEYS: &[&str] = &["delta.columnMapping.", "delta.typeChanges", "parquet.field.", "PARQUET:"];

/// The Delta schema of a plan's result, every column nullable.
///
/// Unsigned integers take the next wider signed type (`u64` a checked `bigint`), a timestamp with a zone becomes `timestamp`, one without
/// `timestamp_ntz` (both in microseconds), dictionaries and views their value type. Fails with [`Code::InvalidSql`] for a type or a name that a
/// table can't have.
pub fn to_delta(schema: &ArrowSchema) -> Result<StructType> {
    check_depth("the result", schema)?;
    let mut seen = HashSet::new();
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        if name.is_empty() || name.contains(BAD_IN_NAME) || name.starts_with(OURS) {
            return Err(Error::new(Code::InvalidSql, format!("`{name}` can't be the name of a table's column"))
                .hint("name the expression: `… AS some_name`, without spaces and `,;{}()=`"));
        }
        if !seen.insert(name.to_lowercase()) {
            return Err(Error::new(Code::InvalidSql, format!("two columns are named `{name}` (case is ignored)"))
                .hint("give each column its own name with AS"));
        }
        fields.push(StructField::nullable(name, delta_type(name, field.data_type())?));
    }
    StructType::try_new(fields).map_err(|error| Error::new(Code::InvalidSql, error.to_string()))
}

fn delta_type(column: &str, arrow: &ArrowType) -> Result<DataType> {
    let nested = |name: &str| format!("{column}.{name}");
    Ok(match arrow {
        ArrowType::Boolean => DataType::BOOLEAN,
        ArrowType::Int8 => DataType::BYTE,
        ArrowType::Int16 | ArrowType::UInt8 => DataType::SHORT,
        ArrowType::Int32 | ArrowType::UInt16 => DataType::INTEGER,
        ArrowType::Int64 | ArrowType::UInt32 | ArrowType::UInt64 => DataType::LONG,
        ArrowType::Float16 | ArrowType::Float32 => DataType::FLOAT,
        ArrowType::Float64 => DataType::DOUBLE,
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => DataType::STRING,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
            DataType::BINARY
        }
        ArrowType::Date32 | ArrowType::Date64 => DataType::DATE,
        ArrowType::Timestamp(_, Some(_)) => DataType::TIMESTAMP,
        ArrowType::Timestamp(_, None) => DataType::TIMESTAMP_NTZ,
        ArrowType::Decimal32(precision, scale)
        | ArrowType::Decimal64(precision, scale)
        | ArrowType::Decimal128(precision, scale)
        | ArrowType::Decimal256(precision, scale) => {
            let decimal = u8::try_from(*scale).ok().and_then(|scale| DecimalType::try_new(*precision, scale).ok());
            let decimal = decimal.ok_or_else(|| unsupported(column, arrow, "DECIMAL(38, s)"))?;
            DataType::Primitive(PrimitiveType::Decimal(decimal))
        }
        ArrowType::Dictionary(_, value) => delta_type(column, value)?,
        ArrowType::RunEndEncoded(_, value) => delta_type(column, value.data_type())?,
        ArrowType::List(item)
        | ArrowType::LargeList(item)
        | ArrowType::ListView(item)
        | ArrowType::LargeListView(item)
        | ArrowType::FixedSizeList(item, _) => {
            ArrayType::new(delta_type(&nested("element"), item.data_type())?, true).into()
        }
        ArrowType::Map(entries, _) => match entries.data_type() {
            ArrowType::Struct(fields) if fields.len() == 2 => MapType::new(
                delta_type(&nested("key"), fields[0].data_type())?,
                delta_type(&nested("value"), fields[1].data_type())?,
                true,
            )
            .into(),
            _ => return Err(unsupported(column, arrow, "a map of keys to values")),
        },
        ArrowType::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|field| {
                    Ok(StructField::nullable(field.name(), delta_type(&nested(field.name()), field.data_type())?))
                })
                .collect::<Result<Vec<_>>>()?;
            let inner = StructType::try_new(fields).map_err(|error| {
                Error::new(Code::InvalidSql, format!("column `{column}`: {error}"))
                    .hint("give each field of the struct its own name")
            })?;
            inner.into()
        }
        ArrowType::Null => return Err(unsupported(column, arrow, "a type, such as CAST(NULL AS string)")),
        _ => return Err(unsupported(column, arrow, "a string or a number")),
    })
}

fn unsupported(column: &str, arrow: &ArrowType, instead: &str) -> Error {
    Error::new(Code::InvalidSql, format!("column `{column}` is of type {arrow}, which a Delta table can't hold"))
        .hint(format!("CAST it to {instead}"))
}

/// The Arrow schema of a Delta schema: `string` as Utf8, `timestamp` as microseconds in UTC.
///
/// What the metadata of columns says of their place in files (column mapping) or of their past (type widening) is left out.
pub fn to_arrow(schema: &StructType) -> Result<SchemaRef> {
    let schema: ArrowSchema = schema.try_into_arrow()?;
    let fields: Vec<_> = schema.fields().iter().map(without_layout).collect();
    Ok(Arc::new(ArrowSchema::new_with_metadata(fields, schema.metadata)))
}

fn without_layout(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        ArrowType::Struct(fields) => ArrowType::Struct(fields.iter().map(without_layout).collect()),
        ArrowType::List(item) => ArrowType::List(without_layout(item)),
        ArrowType::Map(entries, sorted) => ArrowType::Map(without_layout(entries), *sorted),
        other => other.clone(),
    };
    let mut metadata = field.metadata().clone();
    metadata.retain(|key, _| !LAYOUT_KEYS.iter().any(|prefix| key.starts_with(prefix)));
    Arc::new(field.as_ref().clone().with_data_type(data_type).with_metadata(metadata))
}

/// A type as Spark SQL spells it: `bigint`, `array<struct<a:string>>`.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Primitive(primitive) => match primitive {
            PrimitiveType::Byte => "tinyint".to_string(),
            PrimitiveType::Short => "smallint".to_string(),
            PrimitiveType::Integer => "int".to_string(),
            PrimitiveType::Long => "bigint".to_string(),
            other => other.to_string(),
        },
        DataType::Array(array) => format!("array<{}>", type_name(&array.element_type)),
        DataType::Map(map) => format!("map<{},{}>", type_name(&map.key_type), type_name(&map.value_type)),
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.fields().map(|field| format!("{}:{}", field.name, type_name(&field.data_type))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Variant(_) => "variant".to_string(),
    }
}

/// The schema a table has after `incoming` is written to it: the table's own (columns are matched by name, in any order, nullability aside),
/// the table's with columns added, or `incoming` where `policy` allows it. Fails with [`Code::SchemaMismatch`], showing both.
pub fn reconcile(
    table: &TableName,
    existing: &StructType,
    incoming: &StructType,
    policy: SchemaPolicy,
) -> Result<StructType> {
    if policy == SchemaPolicy::Replace {
        if same(existing, incoming) {
            return Ok(existing.clone());
        }
        // A column of the same name and type stays what it is, NOT NULL included.
        let kept = |field: &StructField| {
            let old =
                existing.field(&field.name).filter(|old| type_name(&old.data_type) == type_name(&field.data_type));
            old.unwrap_or(field).clone()
        };
        return StructType::try_new(incoming.fields().map(kept))
            .map_err(|error| Error::new(Code::SchemaMismatch, format!("table {table}: {error}")));
    }
    let missing = existing.fields().any(|field| incoming.field(&field.name).is_none());
    let changed = incoming.fields().any(|field| {
        existing.field(&field.name).is_some_and(|old| type_name(&old.data_type) != type_name(&field.data_type))
    });
    let added: Vec<_> = incoming.fields().filter(|field| existing.field(&field.name).is_none()).cloned().collect();
    if missing || changed || (!added.is_empty() && policy == SchemaPolicy::Same) {
        return Err(mismatch(table, existing, incoming, policy, missing || changed));
    }
    if added.is_empty() {
        return Ok(existing.clone());
    }
    StructType::try_new(existing.fields().cloned().chain(added))
        .map_err(|error| Error::new(Code::SchemaMismatch, format!("table {table}: {error}")))
}

/// `incoming`, but `timestamp` where a column of the table has that type and it has `timestamp_ntz`, which is then taken as UTC.
pub fn with_zones_of(existing: &StructType, incoming: &StructType) -> Result<StructType> {
    fn of_type(existing: &DataType, incoming: &DataType) -> Result<DataType> {
        Ok(match (existing, incoming) {
            (&DataType::TIMESTAMP, &DataType::TIMESTAMP_NTZ) => DataType::TIMESTAMP,
            (DataType::Struct(existing), DataType::Struct(incoming)) => with_zones_of(existing, incoming)?.into(),
            (DataType::Array(existing), DataType::Array(incoming)) => {
                ArrayType::new(of_type(&existing.element_type, &incoming.element_type)?, incoming.contains_null).into()
            }
            (DataType::Map(existing), DataType::Map(incoming)) => MapType::new(
                of_type(&existing.key_type, &incoming.key_type)?,
                of_type(&existing.value_type, &incoming.value_type)?,
                incoming.value_contains_null,
            )
            .into(),
            _ => incoming.clone(),
        })
    }
    let fields = incoming.fields().map(|field| {
        let mut field = field.clone();
        if let Some(existing) = existing.field(&field.name) {
            field.data_type = of_type(&existing.data_type, &field.data_type)?;
        }
        Ok(field)
    });
    StructType::try_new(fields.collect::<Result<Vec<_>>>()?)
        .map_err(|error| Error::new(Code::SchemaMismatch, error.to_string()))
}

/// Whether a column of a schema is, or holds, a `timestamp_ntz`: a table must say so in its protocol.
pub fn has_ntz(schema: &StructType) -> bool {
    fn of_type(data_type: &DataType) -> bool {
        match data_type {
            DataType::Primitive(primitive) => *primitive == PrimitiveType::TimestampNtz,
            DataType::Struct(fields) => has_ntz(fields),
            DataType::Array(array) => of_type(&array.element_type),
            DataType::Map(map) => of_type(&map.key_type) || of_type(&map.value_type),
            DataType::Variant(_) => false,
        }
    }
    schema.fields().any(|field| of_type(&field.data_type))
}

fn same(a: &StructType, b: &StructType) -> bool {
    a.num_fields() == b.num_fields()
        && a.fields()
            .zip(b.fields())
            .all(|(a, b)| a.name == b.name && type_name(&a.data_type) == type_name(&b.data_type))
}

fn mismatch(
    table: &TableName,
    existing: &StructType,
    incoming: &StructType,
    policy: SchemaPolicy,
    hard: bool,
) -> Error {
    let of = |schema: &StructType, name: &str| schema.field(name).map_or("-".to_string(), |f| type_name(&f.data_type));
    let mut names: Vec<&str> = existing.fields().map(|field| field.name.as_str()).collect();
    names.extend(incoming.fields().map(|f| f.name.as_str()).filter(|name| existing.field(name).is_none()));
    let lines: Vec<String> = names
        .into_iter()
        .map(|name| {
            let (table, job) = (of(existing, name), of(incoming, name));
            let mark = if table == job { ' ' } else { '≠' };
            format!("  {mark} {name}: {table} | {job}")
        })
        .collect();
    let hint = match (hard, policy) {
        (false, _) => "say `schema_evolution: add_columns` to add the new columns to the table",
        (true, SchemaPolicy::AddColumns) => {
            "`schema_evolution: add_columns` adds columns only; give every column of the table, cast to its type"
        }
        (true, _) => {
            "give every column of the table, cast to its type; `schema_evolution: add_columns` allows new ones"
        }
    };
    let message = format!("the columns are not those of table {table} (column: table | job)\n{}", lines.join("\n"));
    Error::new(Code::SchemaMismatch, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> StructType {
        StructType::try_new(fields.iter().map(|(name, t)| StructField::nullable(*name, t.clone()))).unwrap()
    }

    #[test]
    fn arrow_types_find_their_delta_type_and_back() {
        let arrow = ArrowSchema::new(vec![
            Field::new("text", ArrowType::Utf8View, false),
            Field::new("n", ArrowType::UInt64, true),
            Field::new("at", ArrowType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), true),
            Field::new("local", ArrowType::Timestamp(TimeUnit::Nanosecond, None), true),
            Field::new("price", ArrowType::Decimal128(20, 4), true),
            Field::new(
                "books",
                ArrowType::List(Arc::new(Field::new(
                    "item",
                    ArrowType::Struct(vec![Field::new("title", ArrowType::LargeUtf8, true)].into()),
                    true,
                ))),
                true,
            ),
        ]);
        let delta = to_delta(&arrow).unwrap();
        let names: Vec<_> = delta.fields().map(|f| type_name(&f.data_type)).collect();
        assert_eq!(
            names,
            ["string", "bigint", "timestamp", "timestamp_ntz", "decimal(20,4)", "array<struct<title:string>>"]
        );
        let back = to_arrow(&delta).unwrap();
        assert_eq!(back.field(0).data_type(), &ArrowType::Utf8);
        assert_eq!(back.field(2).data_type(), &ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        assert_eq!(back.field(3).data_type(), &ArrowType::Timestamp(TimeUnit::Microsecond, None));
        assert!(back.fields().iter().all(|f| f.is_nullable()));
        assert!(has_ntz(&delta));
        let zoned = schema(&[("local", DataType::TIMESTAMP)]);
        assert_eq!(with_zones_of(&zoned, &delta).unwrap().field("local").unwrap().data_type, DataType::TIMESTAMP);
        assert!(!has_ntz(&with_zones_of(&zoned, &delta).unwrap()));
    }

    #[test]
    fn names_and_types_a_table_cannot_have_are_refused() {
        let one = |name: &str, t: ArrowType| to_delta(&ArrowSchema::new(vec![Field::new(name, t, true)])).unwrap_err();
        assert!(one("count(*)", ArrowType::Int64).hint.contains("AS some_name"));
        assert!(one("x", ArrowType::Null).hint.contains("CAST"));
        assert!(one("x", ArrowType::Decimal256(76, 2)).message.contains("`x`"));
        let twice =
            ArrowSchema::new(vec![Field::new("a", ArrowType::Int64, true), Field::new("A", ArrowType::Int64, true)]);
        assert_eq!(to_delta(&twice).unwrap_err().code, Code::InvalidSql);
    }

    #[test]
    fn a_schema_changes_only_as_far_as_allowed() {
        let table: TableName = "a.b".parse().unwrap();
        let old = schema(&[("k", DataType::LONG), ("v", DataType::STRING)]);
        let reordered = schema(&[("v", DataType::STRING), ("k", DataType::LONG)]);
        let wider = schema(&[("k", DataType::LONG), ("v", DataType::STRING), ("w", DataType::DATE)]);
        let other = schema(&[("k", DataType::LONG), ("v", DataType::DOUBLE)]);
        let fewer = schema(&[("k", DataType::LONG)]);
        assert_eq!(reconcile(&table, &old, &reordered, SchemaPolicy::Same).unwrap(), old);
        let error = reconcile(&table, &old, &wider, SchemaPolicy::Same).unwrap_err();
        assert_eq!(error.code, Code::SchemaMismatch);
        assert!(error.message.contains("≠ w: - | date") && error.hint.contains("add_columns"), "{error}");
        assert_eq!(reconcile(&table, &old, &wider, SchemaPolicy::AddColumns).unwrap(), wider);
        for hard in [&other, &fewer] {
            for policy in [SchemaPolicy::Same, SchemaPolicy::AddColumns] {
                assert_eq!(reconcile(&table, &old, hard, policy).unwrap_err().code, Code::SchemaMismatch);
            }
            assert_eq!(&reconcile(&table, &old, hard, SchemaPolicy::Replace).unwrap(), hard);
        }
    }
}
