//! How a table's columns lie in its Parquet files: under which names, and in which types.
//!
//! Source: the Delta protocol, "Column Mapping" and "Type Widening". A file's schema is renamed to the table's names before anything else
//! looks at it, nested fields too: projection, filters, statistics and page pruning then work as on any table.

use std::sync::Arc;

use deltalake_core::kernel::{DataType, MetadataValue, PrimitiveType, StructField, StructType};
use parquet::{
    basic::{ConvertedType, LogicalType, Type as Physical},
    file::metadata::{FileMetaData, ParquetMetaData, RowGroupMetaData},
    schema::types::{SchemaDescriptor, Type, TypePtr},
};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

const ID: &str = "delta.columnMapping.id";
const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";

/// How fields of a file are told (`delta.columnMapping.mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mapping {
    /// By the column's name.
    None,
    /// By the physical name in the column's metadata.
    Name,
    /// By the Parquet field id in the column's metadata.
    Id,
}

/// What a reader must know of a table to find its columns in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// Name of the table, for messages.
    pub table: String,
    /// Its columns.
    pub schema: StructType,
    /// How they are found.
    pub mapping: Mapping,
    /// Whether files may hold a narrower type than the column's (table feature `typeWidening`).
    pub widening: bool,
}

/// The name a column has in files' statistics and partition values.
pub(crate) fn physical_name(field: &StructField, mapping: Mapping) -> &str {
    match (mapping, field.metadata.get(PHYSICAL_NAME)) {
        (Mapping::Name | Mapping::Id, Some(MetadataValue::String(name))) => name,
        _ => &field.name,
    }
}

/// The first column, nested ones included, that lacks what its mapping needs.
pub(crate) fn unmapped(schema: &StructType, mapping: Mapping) -> Option<String> {
    fn inner(data_type: &DataType, mapping: Mapping) -> Option<String> {
        match data_type {
            DataType::Struct(fields) => unmapped(fields, mapping),
            DataType::Array(array) => inner(&array.element_type, mapping),
            DataType::Map(map) => inner(&map.key_type, mapping).or_else(|| inner(&map.value_type, mapping)),
            DataType::Primitive(_) | DataType::Variant(_) => None,
        }
    }
    if mapping == Mapping::None {
        return None;
    }
    schema.fields().find_map(|field| {
        let named = matches!(field.metadata.get(PHYSICAL_NAME), Some(MetadataValue::String(_)));
        if !named || (mapping == Mapping::Id && field_id(field).is_none()) {
            return Some(field.name.clone());
        }
        inner(&field.data_type, mapping).map(|name| format!("{}.{name}", field.name))
    })
}

fn field_id(field: &StructField) -> Option<i64> {
    match field.metadata.get(ID) {
        Some(MetadataValue::Number(id)) => Some(*id),
        _ => None,
    }
}

fn parquet_id(field: &Type) -> Option<i64> {
    let info = field.get_basic_info();
    info.has_id().then(|| info.id().into())
}

impl Layout {
    /// The footer of a file with the table's names, once its types are found to be those of the columns.
    ///
    /// Fields that the table does not have, or no longer, keep their place under names that no column can have. Fails with
    /// [`Code::UnsupportedTable`], naming file and column, when a column is stored in a type that the table does not allow.
    pub fn apply(&self, path: &str, footer: Arc<ParquetMetaData>) -> Result<Arc<ParquetMetaData>> {
        let file = footer.file_metadata();
        let root = file.schema_descr().root_schema();
        let in_file = InFile { layout: self, path, in_map: false };
        if self.mapping == Mapping::Id && !root.get_fields().is_empty() && !any_id(root) {
            return Err(in_file
                .refuse("has no Parquet field ids, by which this table's columns are found")
                .hint("rewrite the table with the engine that made it (column mapping mode `id`)"));
        }
        let fields = in_file.fields(&self.schema, root.get_fields(), "")?;
        if self.mapping == Mapping::None {
            return Ok(footer);
        }
        let broken = |error: parquet::errors::ParquetError| in_file.refuse(&format!("has a bad schema: {error}"));
        let root = Type::group_type_builder(root.name()).with_fields(fields).build().map_err(broken)?;
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
        // The Arrow schema among the key-value pairs has the old names.
        let renamed = FileMetaData::new(
            file.version(),
            file.num_rows(),
            file.created_by().map(str::to_string),
            None,
            schema.clone(),
            file.column_orders().cloned(),
        );
        let groups = footer
            .row_groups()
            .iter()
            .map(|group| {
                let mut renamed = RowGroupMetaData::builder(schema.clone())
                    .set_num_rows(group.num_rows())
                    .set_sorting_columns(group.sorting_columns().cloned())
                    .set_total_byte_size(group.total_byte_size())
                    .set_column_metadata(group.columns().to_vec());
                if let Some(ordinal) = group.ordinal() {
                    renamed = renamed.set_ordinal(ordinal);
                }
                if let Some(offset) = group.file_offset() {
                    renamed = renamed.set_file_offset(offset);
                }
                renamed.build().map_err(broken)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(
            ParquetMetaData::new(renamed, groups)
                .into_builder()
                .set_column_index(footer.column_index().cloned())
                .set_offset_index(footer.offset_index().cloned())
                .build(),
        ))
    }
}

fn any_id(group: &Type) -> bool {
    group.get_fields().iter().any(|field| parquet_id(field).is_some() || (field.is_group() && any_id(field)))
}

/// A file under way through its table's layout.
struct InFile<'a> {
    layout: &'a Layout,
    path: &'a str,
    /// Within keys or values of a map: casts there go by position where names differ, so they must not.
    in_map: bool,
}

impl InFile<'_> {
    fn refuse(&self, what: &str) -> Error {
        Error::new(Code::UnsupportedTable, format!("file {} of table {} {what}", self.path, self.layout.table))
    }

    /// Fields of a group under the names of a struct's, in the file's order.
    fn fields(&self, columns: &StructType, stored: &[TypePtr], parent: &str) -> Result<Vec<TypePtr>> {
        let mapping = self.layout.mapping;
        let is = |column: &StructField, field: &Type| match mapping {
            Mapping::None | Mapping::Name => physical_name(column, mapping) == field.name(),
            Mapping::Id => field_id(column).is_some() && field_id(column) == parquet_id(field),
        };
        if self.in_map {
            let missing = columns.fields().find(|column| !stored.iter().any(|field| is(column, field)));
            if let Some(column) = missing {
                let what = format!("lacks `{parent}{}`, a field within a map that was added later", column.name);
                return Err(self.refuse(&what).hint("rewrite the table with the engine that made it"));
            }
        }
        stored
            .iter()
            .enumerate()
            .map(|(position, field)| {
                let column = columns.fields().find(|column| is(column, field));
                match column {
                    Some(column) => {
                        let name = format!("{parent}{}", column.name);
                        self.field(&column.data_type, field, &column.name, &name)
                    }
                    None if mapping == Mapping::None => Ok(field.clone()),
                    None => self.rebuild(field, &format!("\u{0}{position}"), None),
                }
            })
            .collect()
    }

    /// A stored field under another name; `name` is its full one, for messages.
    fn field(&self, column: &DataType, stored: &TypePtr, new_name: &str, name: &str) -> Result<TypePtr> {
        let bad = || self.refuse(&format!("holds column `{name}` as {}, not {column}", describe(stored)));
        let nested = |fields: Vec<TypePtr>| self.rebuild(stored, new_name, Some(fields));
        match column {
            DataType::Primitive(column) => {
                if !stored.is_primitive() || !self.fits(column, stored) {
                    return Err(bad().hint(
                        "the table's columns and its files disagree; write the files again, or turn on the table feature \
                         `typeWidening` where the column was widened",
                    ));
                }
                self.rebuild(stored, new_name, None)
            }
            DataType::Struct(columns) => {
                if !stored.is_group() {
                    return Err(bad());
                }
                nested(self.fields(columns, stored.get_fields(), &format!("{name}."))?)
            }
            DataType::Array(array) => {
                let element = format!("{name}.element");
                let [repeated] = (if stored.is_group() { stored.get_fields() } else { &[] }) else {
                    return Err(bad());
                };
                if element_is_repeated(stored, repeated) {
                    return nested(vec![self.field(&array.element_type, repeated, repeated.name(), &element)?]);
                }
                let item = repeated.get_fields().first().ok_or_else(bad)?;
                let item = self.field(&array.element_type, item, item.name(), &element)?;
                nested(vec![self.rebuild(repeated, repeated.name(), Some(vec![item]))?])
            }
            DataType::Map(map) => {
                let [entries] = (if stored.is_group() { stored.get_fields() } else { &[] }) else {
                    return Err(bad());
                };
                let [key, value] = (if entries.is_group() { entries.get_fields() } else { &[] }) else {
                    return Err(bad());
                };
                let within = Self { in_map: true, ..*self };
                let fields = vec![
                    within.field(&map.key_type, key, key.name(), &format!("{name}.key"))?,
                    within.field(&map.value_type, value, value.name(), &format!("{name}.value"))?,
                ];
                nested(vec![self.rebuild(entries, entries.name(), Some(fields))?])
            }
            DataType::Variant(_) => Err(bad().hint("variant columns can't be read")),
        }
    }

    /// The field under a new name; a group with new fields, where some are given.
    fn rebuild(&self, stored: &TypePtr, name: &str, fields: Option<Vec<TypePtr>>) -> Result<TypePtr> {
        if stored.name() == name && fields.as_ref().is_none_or(|fields| fields == stored.get_fields()) {
            return Ok(stored.clone());
        }
        let info = stored.get_basic_info();
        let id = info.has_id().then(|| info.id());
        let renamed = match stored.as_ref() {
            Type::PrimitiveType { physical_type, type_length, scale, precision, .. } => {
                Type::primitive_type_builder(name, *physical_type)
                    .with_repetition(info.repetition())
                    .with_converted_type(info.converted_type())
                    .with_logical_type(info.logical_type_ref().cloned())
                    .with_length(*type_length)
                    .with_scale(*scale)
                    .with_precision(*precision)
                    .with_id(id)
                    .build()
            }
            Type::GroupType { fields: old, .. } => Type::group_type_builder(name)
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_fields(fields.unwrap_or_else(|| old.clone()))
                .with_id(id)
                .build(),
        };
        renamed.map(Arc::new).map_err(|error| self.refuse(&format!("has a bad field `{}`: {error}", stored.name())))
    }

    /// Whether values stored like this can be of the column's type: as they are, or widened where the table allows it.
    fn fits(&self, column: &PrimitiveType, stored: &Type) -> bool {
        let Some(kind) = Stored::of(stored) else { return false };
        let wide = self.layout.widening;
        match (column, kind) {
            (PrimitiveType::Boolean, Stored::Boolean)
            | (PrimitiveType::Byte | PrimitiveType::Short | PrimitiveType::Integer, Stored::Int32)
            | (PrimitiveType::Long, Stored::Int64)
            | (PrimitiveType::Float, Stored::Float)
            | (PrimitiveType::Double, Stored::Double)
            | (PrimitiveType::Date, Stored::Date)
            | (PrimitiveType::String | PrimitiveType::Binary, Stored::Bytes)
            | (PrimitiveType::Timestamp | PrimitiveType::TimestampNtz, Stored::Timestamp) => true,
            (PrimitiveType::Long, Stored::Int32)
            | (PrimitiveType::Double, Stored::Float | Stored::Int32)
            | (PrimitiveType::TimestampNtz, Stored::Date) => wide,
            (PrimitiveType::Decimal(decimal), Stored::Decimal { precision, scale }) => {
                let (to_precision, to_scale) = (i32::from(decimal.precision()), i32::from(decimal.scale()));
                let lossless = to_scale >= scale && to_precision - to_scale >= precision - scale;
                lossless && (wide || to_scale == scale)
            }
            (PrimitiveType::Decimal(decimal), Stored::Int32) => wide && decimal.precision() - decimal.scale() >= 10,
            (PrimitiveType::Decimal(decimal), Stored::Int64) => wide && decimal.precision() - decimal.scale() >= 19,
            _ => false,
        }
    }
}

/// What a Parquet field holds, as far as a column's type depends on it.
enum Stored {
    Boolean,
    Int32,
    Int64,
    Float,
    Double,
    Date,
    Timestamp,
    Decimal { precision: i32, scale: i32 },
    Bytes,
}

impl Stored {
    fn of(stored: &Type) -> Option<Self> {
        let Type::PrimitiveType { physical_type, precision, scale, .. } = stored else { return None };
        let info = stored.get_basic_info();
        let decimal = matches!(info.logical_type_ref(), Some(LogicalType::Decimal(_)))
            || info.converted_type() == ConvertedType::DECIMAL;
        if decimal {
            return Some(Self::Decimal { precision: *precision, scale: *scale });
        }
        let date =
            matches!(info.logical_type_ref(), Some(LogicalType::Date)) || info.converted_type() == ConvertedType::DATE;
        let timestamp = matches!(info.logical_type_ref(), Some(LogicalType::Timestamp(_)))
            || matches!(info.converted_type(), ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS);
        Some(match physical_type {
            Physical::BOOLEAN => Self::Boolean,
            Physical::INT32 if date => Self::Date,
            Physical::INT32 => Self::Int32,
            Physical::INT64 if timestamp => Self::Timestamp,
            Physical::INT64 => Self::Int64,
            Physical::INT96 => Self::Timestamp,
            Physical::FLOAT => Self::Float,
            Physical::DOUBLE => Self::Double,
            Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY => Self::Bytes,
        })
    }
}

fn describe(stored: &Type) -> String {
    match stored {
        Type::PrimitiveType { physical_type, precision, scale, .. } => {
            let info = stored.get_basic_info();
            match info.converted_type() {
                ConvertedType::NONE => physical_type.to_string(),
                ConvertedType::DECIMAL => format!("{physical_type} DECIMAL({precision}, {scale})"),
                converted => format!("{physical_type} {converted}"),
            }
        }
        Type::GroupType { .. } => "a group".to_string(),
    }
}

/// Whether a list's repeated field is the element itself (two levels, as older writers made lists) and not a wrapper around it.
///
/// Source: the Parquet format, "Lists: backward-compatibility rules".
fn element_is_repeated(list: &Type, repeated: &Type) -> bool {
    !repeated.is_group()
        || repeated.get_fields().len() != 1
        || repeated.name() == "array"
        || repeated.name() == format!("{}_tuple", list.name())
}
