//! Which nested fields of its input a projection uses, so that no other is materialised.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::{
    common::ScalarValue,
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{Column, Literal},
        projection::ProjectionExprs,
    },
};

/// What is used of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Use {
    All,
    Fields(BTreeMap<String, Use>),
}

impl Use {
    fn add(&mut self, path: &[String]) {
        match (&mut *self, path) {
            (Self::All, _) => {}
            (Self::Fields(_), []) => *self = Self::All,
            (Self::Fields(fields), [name, rest @ ..]) => {
                fields.entry(name.clone()).or_insert_with(|| Self::Fields(BTreeMap::new())).add(rest);
            }
        }
    }
}

/// The schema with each struct reduced to the fields that the projection reaches by `get_field`; columns and their order stay.
///
/// A column that is used whole, or inside a lambda, stays whole: lambda variables carry their type and would have to be rewritten.
pub(crate) fn prune(schema: &Schema, projection: &ProjectionExprs) -> Schema {
    let mut uses = HashMap::new();
    for projected in projection {
        collect(&projected.expr, &mut uses);
    }
    let fields: Fields = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| uses.get(&index).map_or_else(|| field.clone(), |used| reduce(field, used)))
        .collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

fn collect(expr: &std::sync::Arc<dyn PhysicalExpr>, uses: &mut HashMap<usize, Use>) {
    if let Some((column, path)) = field_path(expr) {
        uses.entry(column).or_insert_with(|| Use::Fields(BTreeMap::new())).add(&path);
        return;
    }
    for child in expr.children() {
        collect(child, uses);
    }
}

/// The column and the field names of `column.field.field`; a column alone is a path of no names.
fn field_path(expr: &std::sync::Arc<dyn PhysicalExpr>) -> Option<(usize, Vec<String>)> {
    if let Some(column) = expr.downcast_ref::<Column>() {
        return Some((column.index(), Vec::new()));
    }
    let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let (base, names) = match (function.fun().name(), function.args()) {
        ("get_field", [base, names @ ..]) => (base, names),
        _ => return None,
    };
    let (column, mut path) = field_path(base)?;
    for name in names {
        match name.downcast_ref::<Literal>()?.value() {
            ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)) | ScalarValue::LargeUtf8(Some(name)) => {
                path.push(name.clone());
            }
            _ => return None,
        }
    }
    Some((column, path))
}

fn reduce(field: &FieldRef, used: &Use) -> FieldRef {
    let (DataType::Struct(children), Use::Fields(names)) = (field.data_type(), used) else { return field.clone() };
    let kept: Fields =
        children.iter().filter_map(|child| names.get(child.name()).map(|used| reduce(child, used))).collect();
    // A name that is not there is the expression's error to report.
    if kept.len() < names.len() {
        return field.clone();
    }
    std::sync::Arc::new(Field::clone(field).with_data_type(DataType::Struct(kept)))
}
