//! Functions that make several rows of one: `explode`, `posexplode`, `inline`, `stack`; and `json_tuple`, which makes several columns.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray},
    datatypes::{DataType, Field, Fields},
};
use datafusion::{
    common::{DFSchema, Result, ScalarValue},
    logical_expr::{Expr, ExprSchemable, ScalarUDF, cast, expr::Unnest, lit},
};

use crate::sql::{
    calls::{SparkPlanner, is_list, is_text, type_of},
    kernel::{Kernel, wrong_call},
    types::{list_of, type_name},
};

/// The names of the generators; each has an `_outer` twin where that makes sense.
pub(in crate::sql) fn is_generator(name: &str) -> bool {
    matches!(
        name,
        "explode"
            | "explode_outer"
            | "posexplode"
            | "posexplode_outer"
            | "inline"
            | "inline_outer"
            | "stack"
            | "json_tuple"
    )
}

/// What a call makes.
pub(super) struct Generated {
    /// The rows, an array; `None` for one row.
    pub(super) rows: Option<Expr>,
    /// Names, and the way to each column within an item of the rows, or the column itself.
    pub(super) columns: Vec<(String, Column)>,
    pub(super) outer: bool,
}

pub(super) enum Column {
    Path(Vec<String>),
    Expr(Expr),
}

impl Generated {
    /// A column, given an item of the rows.
    pub(super) fn column(&self, planner: &SparkPlanner, i: usize, item: &Expr) -> Result<Expr> {
        match &self.columns.get(i).ok_or_else(|| wrong_call("there is no such column"))?.1 {
            Column::Expr(expr) => Ok(expr.clone()),
            Column::Path(path) => {
                let mut expr = item.clone();
                for name in path {
                    expr = planner.function("get_field", vec![expr, lit(name.as_str())])?;
                }
                Ok(expr)
            }
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// Plans a call of a generator by the types of its arguments.
pub(super) fn generate(planner: &SparkPlanner, name: &str, args: &[Expr], schema: &DFSchema) -> Result<Generated> {
    let outer = name.ends_with("_outer");
    let plain = name.trim_end_matches("_outer");
    let path = |names: &[&str]| Column::Path(names.iter().map(|name| name.to_string()).collect());
    let column = |name: &str, within: &[&str]| (name.to_string(), path(within));
    match (plain, args) {
        ("explode" | "posexplode", [of]) => {
            let data_type = type_of(of, schema)?;
            let is_map = matches!(data_type, DataType::Map(..));
            let list = match &data_type {
                DataType::Map(..) => planner.function("map_entries", vec![of.clone()])?,
                list if is_list(list) => of.clone(),
                other => {
                    return Err(wrong_call(format!("`{name}` needs an array or a map, not {}", type_name(other))));
                }
            };
            let (rows, columns) = match (plain, is_map) {
                ("explode", false) => (list, vec![column("col", &[])]),
                ("explode", true) => (list, vec![column("key", &["key"]), column("value", &["value"])]),
                (_, false) => {
                    (planner.function(POSITIONS, vec![list])?, vec![column("pos", &["pos"]), column("col", &["col"])])
                }
                (_, true) => (
                    planner.function(POSITIONS, vec![list])?,
                    vec![column("pos", &["pos"]), column("key", &["col", "key"]), column("value", &["col", "value"])],
                ),
            };
            Ok(Generated { rows: Some(rows), columns, outer })
        }
        ("inline", [of]) => match type_of(of, schema)? {
            DataType::List(item) | DataType::LargeList(item) if matches!(item.data_type(), DataType::Struct(_)) => {
                let DataType::Struct(fields) = item.data_type() else { return Err(wrong_call("not a struct")) };
                let columns = fields.iter().map(|field| column(field.name(), &[field.name()])).collect();
                Ok(Generated { rows: Some(of.clone()), columns, outer })
            }
            other => Err(wrong_call(format!("`{name}` needs an array of structs, not {}", type_name(&other)))),
        },
        ("stack", [rows, values @ ..]) if !values.is_empty() => {
            let rows = match rows {
                Expr::Literal(value, _) => value.cast_to(&DataType::Int64).ok(),
                _ => None,
            };
            let rows = match rows {
                Some(ScalarValue::Int64(Some(rows))) if rows > 0 => usize::try_from(rows).unwrap_or(usize::MAX),
                _ => return Err(wrong_call("`stack` needs a number of rows that is positive and written out")),
            };
            stack(planner, rows, values, schema)
        }
        ("json_tuple", [json, fields @ ..]) if !fields.is_empty() => {
            let mut columns = Vec::new();
            for (i, field) in fields.iter().enumerate() {
                if !is_text(&type_of(field, schema)?) {
                    return Err(wrong_call("`json_tuple` takes names of fields"));
                }
                let value = planner.json_field(json.clone(), field.clone(), schema)?;
                columns.push((format!("c{i}"), Column::Expr(value)));
            }
            Ok(Generated { rows: None, columns, outer })
        }
        _ => Err(wrong_call(format!("`{name}` can't be called with {} arguments", args.len()))),
    }
}

fn stack(planner: &SparkPlanner, rows: usize, values: &[Expr], schema: &DFSchema) -> Result<Generated> {
    if rows > 10_000 {
        return Err(wrong_call("`stack` makes at most 10000 rows"));
    }
    let width = values.len().div_ceil(rows);
    let mut types = vec![DataType::Null; width];
    for (i, value) in values.iter().enumerate() {
        let (data_type, of_column) = (type_of(value, schema)?, &mut types[i % width]);
        if of_column.is_null() {
            *of_column = data_type;
        } else if !data_type.is_null() && data_type != *of_column {
            return Err(wrong_call(format!(
                "`stack`: column {} is {} in one row and {} in another",
                i % width + 1,
                type_name(of_column),
                type_name(&data_type)
            )));
        }
    }
    let mut items = Vec::new();
    for row in 0..rows {
        let mut fields = Vec::new();
        for (i, data_type) in types.iter().enumerate() {
            let value = match values.get(row * width + i) {
                Some(value) if type_of(value, schema)? == *data_type => value.clone(),
                Some(value) => cast(value.clone(), data_type.clone()),
                None => lit(ScalarValue::try_from(data_type)?),
            };
            fields.extend([lit(format!("col{i}")), value]);
        }
        items.push(planner.function("named_struct", fields)?);
    }
    let columns = (0..width).map(|i| (format!("col{i}"), Column::Path(vec![format!("col{i}")]))).collect();
    Ok(Generated { rows: Some(planner.function("make_array", items)?), columns, outer: false })
}

/// Answers what columns an item stands for, and ends the planning. The arguments: the item's place, its kind, and what it is about.
pub(super) fn answer(planner: &SparkPlanner, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
    let text = |expr: Option<&Expr>| match expr {
        Some(Expr::Literal(value, _)) => value.try_as_str().flatten().map(str::to_string),
        _ => None,
    };
    let (Some(item), Some(kind)) = (text(args.first()), text(args.get(1))) else {
        return Err(wrong_call("a question without a place"));
    };
    let about = args.get(2..).unwrap_or_default();
    let columns = match kind.as_str() {
        "*" => schema
            .iter()
            .map(|(relation, field)| match relation {
                Some(relation) => format!("{}\u{0}{}", relation.table(), field.name()),
                None => field.name().clone(),
            })
            .collect(),
        ".*" => match about.first() {
            Some(of) => match type_of(of, schema)? {
                DataType::Struct(fields) => fields.iter().map(|field| field.name().clone()).collect(),
                other => return Err(wrong_call(format!("`.*` needs a table or a struct, not {}", type_name(&other)))),
            },
            None => return Err(wrong_call("`.*` needs a struct")),
        },
        generator => generate(planner, generator, about, schema)?.names(),
    };
    planner.answers.set(&item, columns);
    Err(wrong_call("the columns were asked for"))
}

/// One column of a generator among SELECT's items. The arguments: a place holder, the generator's name, the column's number, the generator's own.
pub(super) fn item(planner: &SparkPlanner, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
    let (name, number) = match args.get(1..3) {
        Some([Expr::Literal(name, _), Expr::Literal(number, _)]) => {
            (name.try_as_str().flatten().map(str::to_string), number.cast_to(&DataType::UInt64).ok())
        }
        _ => (None, None),
    };
    let (Some(name), Some(ScalarValue::UInt64(Some(number)))) = (name, number) else {
        return Err(wrong_call("a generator has a name"));
    };
    let generated = generate(planner, &name, args.get(3..).unwrap_or_default(), schema)?;
    let item = match &generated.rows {
        Some(rows) => Expr::Unnest(Unnest { expr: Box::new(rows.clone()), outer: generated.outer }),
        None => lit(ScalarValue::Null),
    };
    generated.column(planner, usize::try_from(number).unwrap_or(usize::MAX), &item)
}

const POSITIONS: &str = "array_with_positions";

/// `array_with_positions(xs)`: an array of `struct<pos:int,col:…>`, positions from 0.
pub(in crate::sql) fn with_positions() -> Arc<ScalarUDF> {
    Kernel::function(
        POSITIONS,
        |types| match types {
            [DataType::List(item)] => Ok(vec![DataType::List(Arc::clone(item))]),
            [DataType::LargeList(item) | DataType::FixedSizeList(item, _)] => {
                Ok(vec![list_of(item.data_type().clone(), true)])
            }
            [DataType::Null] => Ok(vec![list_of(DataType::Null, true)]),
            _ => Err(wrong_call("`posexplode` needs an array or a map")),
        },
        |fields, _| match fields.first().map(|field| field.data_type()) {
            Some(DataType::List(item)) => Ok(positions_type(item.data_type())),
            _ => Err(wrong_call("`posexplode` needs an array or a map")),
        },
        |arguments| {
            let Some(list) = arguments.arrays.first().and_then(|array| array.as_list_opt::<i32>()) else {
                return Err(wrong_call("`posexplode` needs an array or a map"));
            };
            let DataType::List(item) = &arguments.result else { return Err(wrong_call("not an array")) };
            let DataType::Struct(fields) = item.data_type() else { return Err(wrong_call("not a struct")) };
            let mut positions = vec![0i32; list.values().len()];
            for ends in list.value_offsets().windows(2) {
                let (start, end) = (ends[0].max(0) as usize, ends[1].max(0) as usize);
                for (position, place) in positions.get_mut(start..end).unwrap_or_default().iter_mut().enumerate() {
                    *place = i32::try_from(position).unwrap_or(i32::MAX);
                }
            }
            let items = StructArray::try_new(
                fields.clone(),
                vec![Arc::new(Int32Array::from(positions)) as ArrayRef, Arc::clone(list.values())],
                None,
            )?;
            let list =
                ListArray::try_new(Arc::clone(item), list.offsets().clone(), Arc::new(items), list.nulls().cloned())?;
            Ok(Arc::new(list) as ArrayRef)
        },
    )
}

fn positions_type(item: &DataType) -> DataType {
    let fields = vec![Field::new("pos", DataType::Int32, true), Field::new("col", item.clone(), true)];
    list_of(DataType::Struct(Fields::from(fields)), true)
}

impl SparkPlanner {
    /// Calls a function of the session.
    pub(super) fn function(&self, name: &str, args: Vec<Expr>) -> Result<Expr> {
        match self.functions.get(name) {
            Some(function) => Ok(function.call(args)),
            None => Err(wrong_call(format!("there is no function `{name}`"))),
        }
    }

    /// The text of an object's field.
    fn json_field(&self, json: Expr, field: Expr, schema: &DFSchema) -> Result<Expr> {
        let json = if is_text(&json.get_type(schema)?) { json } else { cast(json, DataType::Utf8) };
        let Some(function) = self.functions.get("json_tuple_field") else {
            return Err(wrong_call("there is no function `json_tuple`"));
        };
        Ok(function.call(vec![json, field]))
    }
}
