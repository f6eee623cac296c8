//! NOT NULL: of columns, fields of structs, elements of arrays and values of maps.
//!
//! Source: the Delta protocol, "Column Invariants": `nullable: false` is to be kept by every writer; Parquet files that break it can't be read.

use std::collections::BTreeSet;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::{filter, is_not_null},
    datatypes::{DataType as ArrowType, Field},
};
use deltalake_core::kernel::{DataType, StructType};

use crate::error::Result;

/// What of a table must have a value: `a`, `a.b`, `xs.element`, `m.value`.
pub fn required(schema: &StructType) -> BTreeSet<String> {
    fn of_type(data_type: &DataType, path: &str, found: &mut BTreeSet<String>) {
        match data_type {
            DataType::Struct(fields) => of_fields(fields, &format!("{path}."), found),
            DataType::Array(array) => {
                let path = format!("{path}.element");
                of_type(&array.element_type, &path, found);
                found.extend((!array.contains_null).then_some(path));
            }
            DataType::Map(map) => {
                let path = format!("{path}.value");
                of_type(&map.value_type, &path, found);
                found.extend((!map.value_contains_null).then_some(path));
            }
            DataType::Primitive(_) | DataType::Variant(_) => {}
        }
    }
    fn of_fields(fields: &StructType, prefix: &str, found: &mut BTreeSet<String>) {
        for field in fields.fields() {
            let path = format!("{prefix}{}", field.name);
            of_type(&field.data_type, &path, found);
            found.extend((!field.nullable).then_some(path));
        }
    }
    let mut found = BTreeSet::new();
    of_fields(schema, "", &mut found);
    found
}

/// Where a column lacks a value that its field asks for: the path, and the row where it is the column's own.
pub(super) fn missing(field: &Field, column: &ArrayRef) -> Result<Option<(String, Option<usize>)>> {
    if !asks(field) {
        return Ok(None);
    }
    if !field.is_nullable()
        && let Some(nulls) = column.logical_nulls().filter(|nulls| nulls.null_count() > 0)
    {
        let row = (0..column.len()).find(|row| nulls.is_null(*row));
        return Ok(Some((field.name().clone(), row)));
    }
    Ok(inside(field, column, field.name())?.map(|path| (path, None)))
}

fn asks(field: &Field) -> bool {
    !field.is_nullable() || inner(field).into_iter().any(|(inner, _)| asks(inner))
}

/// The fields within a field, with their names in a path.
fn inner(field: &Field) -> Vec<(&Field, &str)> {
    match field.data_type() {
        ArrowType::Struct(fields) => fields.iter().map(|field| (field.as_ref(), field.name().as_str())).collect(),
        ArrowType::List(item) => vec![(item.as_ref(), "element")],
        ArrowType::Map(entries, _) => match entries.data_type() {
            // Keys are never null.
            ArrowType::Struct(pair) => pair.get(1).map(|value| (value.as_ref(), "value")).into_iter().collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn inside(field: &Field, column: &ArrayRef, path: &str) -> Result<Option<String>> {
    if !inner(field).into_iter().any(|(inner, _)| asks(inner)) {
        return Ok(None);
    }
    // What is below a null is nothing.
    let column = if column.null_count() > 0 { filter(column, &is_not_null(column)?)? } else { column.clone() };
    for (at, (inner, name)) in inner(field).into_iter().enumerate() {
        let values = match column.data_type() {
            ArrowType::Struct(_) => column.as_struct().columns().get(at).cloned(),
            ArrowType::List(_) => column.as_list_opt::<i32>().map(|list| used(list.values(), list.value_offsets())),
            ArrowType::Map(..) => column.as_map_opt().map(|map| used(map.values(), map.value_offsets())),
            _ => None,
        };
        let Some(values) = values.filter(|_| asks(inner)) else { continue };
        let path = format!("{path}.{name}");
        if !inner.is_nullable() && values.logical_null_count() > 0 {
            return Ok(Some(path));
        }
        if let Some(found) = inside(inner, &values, &path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn used(values: &ArrayRef, offsets: &[i32]) -> ArrayRef {
    let at = |offset: Option<&i32>| offset.and_then(|offset| usize::try_from(*offset).ok()).unwrap_or(0);
    let (start, end) = (at(offsets.first()), at(offsets.last()));
    values.slice(start, end.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, ListArray, StructArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use deltalake_core::kernel::{ArrayType, StructField};

    use super::*;

    #[test]
    fn a_missing_value_is_found_at_any_depth_but_not_below_a_null() {
        let number = |nullable| Field::new("n", ArrowType::Int64, nullable);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        assert_eq!(missing(&number(true), &numbers).unwrap(), None);
        assert_eq!(missing(&number(false), &numbers).unwrap(), Some(("n".into(), Some(1))));

        let of = |nulls: Option<Vec<bool>>| -> (Field, ArrayRef) {
            let loose = vec![Arc::new(number(true))].into();
            let array = StructArray::new(loose, vec![numbers.clone()], nulls.map(NullBuffer::from));
            let field = Field::new("s", ArrowType::Struct(vec![number(false)].into()), true);
            (field, Arc::new(array))
        };
        let (field, array) = of(None);
        assert_eq!(missing(&field, &array).unwrap(), Some(("s.n".into(), None)));
        let (field, array) = of(Some(vec![true, false, true]));
        assert_eq!(missing(&field, &array).unwrap(), None);

        let item = Arc::new(Field::new("element", ArrowType::Int64, true));
        let list = |lengths: [usize; 3], nulls: Option<Vec<bool>>| -> ArrayRef {
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(ListArray::new(item.clone(), offsets, numbers.clone(), nulls.map(NullBuffer::from)))
        };
        let strict = Field::new("xs", ArrowType::List(Arc::new(Field::new("element", ArrowType::Int64, false))), true);
        assert_eq!(missing(&strict, &list([1, 1, 1], None)).unwrap(), Some(("xs.element".into(), None)));
        assert_eq!(missing(&strict, &list([1, 1, 1], Some(vec![true, false, true]))).unwrap(), None);
        assert_eq!(missing(&strict, &list([1, 1, 1], None).slice(2, 1)).unwrap(), None);
    }

    #[test]
    fn what_a_table_requires_is_named_by_its_path() {
        let inner = StructType::try_new([StructField::not_null("b", DataType::LONG)]).unwrap();
        let schema = StructType::try_new([
            StructField::not_null("k", DataType::LONG),
            StructField::nullable("v", DataType::LONG),
            StructField::nullable("a", inner),
            StructField::nullable("xs", ArrayType::new(DataType::LONG, false)),
        ])
        .unwrap();
        assert_eq!(required(&schema).into_iter().collect::<Vec<_>>(), ["a.b", "k", "xs.element"]);
    }
}
