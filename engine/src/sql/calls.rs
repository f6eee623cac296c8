//! Calls that are planned by the types of their arguments: Spark casts where DataFusion refuses, and one Spark name may be several functions.
//!
//! The syntax tree reaches the planner's typed hook only in a few shapes. One of them, the dictionary literal `{key: value}`, does not exist
//! in Spark's grammar: [`super::rewrite`] writes the calls named here as such literals, and [`SparkPlanner`] reads them.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, DataFusionError, Diagnostic, Result, ScalarValue, SchemaError},
    execution::SessionState,
    logical_expr::{AggregateUDF, Expr, ExprSchemable, ScalarUDF, lit, when},
};

use super::{
    cast::lenient_cast,
    kernel::wrong_call,
    relations::Answers,
    types::{parse_type, type_name},
};

/// The marker of an integer literal that Spark takes as `int`.
pub(crate) const INT: &str = " int";

/// The marker of a cast; its second value is a NULL of the type.
pub(crate) const CAST: &str = " cast";

/// The marker of a strict cast; its second value is a NULL of the type.
pub(crate) const STRICT_CAST: &str = " strict cast";

/// `TRY_CAST`, which gives NULL where Spark's ANSI cast would fail.
pub(crate) const TRY_CAST: &str = " try cast";

/// The functions that are planned here, or in `calls_time`.
pub(crate) const NAMES: &[&str] = &[
    "add_months",
    "array_join",
    "array_size",
    "bigint",
    "binary",
    "boolean",
    "curdate",
    "current_date",
    "current_timestamp",
    "current_timezone",
    "date",
    "date_add",
    "date_diff",
    "date_part",
    "date_sub",
    "date_trunc",
    "dateadd",
    "datediff",
    "datepart",
    "day",
    "dayofmonth",
    "dayofweek",
    "dayofyear",
    "decimal",
    "double",
    "e",
    "float",
    "from_unixtime",
    "get",
    "hour",
    "int",
    "isnotnull",
    "isnull",
    "last_day",
    "ln",
    "log",
    "log10",
    "log2",
    "md5",
    "minute",
    "month",
    "next_day",
    "now",
    "quarter",
    "replace",
    "second",
    "smallint",
    "string",
    "timestamp",
    "timestamp_micros",
    "timestamp_millis",
    "timestamp_seconds",
    "tinyint",
    "to_date",
    "to_timestamp",
    "to_unix_timestamp",
    "trunc",
    "try_to_timestamp",
    "unix_micros",
    "unix_millis",
    "unix_seconds",
    "unix_timestamp",
    "week",
    "weekday",
    "weekofyear",
    "year",
    "unix_date",
];

/// Plans what Spark means; the functions it uses are those of the session, which executors know by the same names.
#[derive(Debug, Clone)]
pub(crate) struct SparkPlanner {
    pub(super) functions: HashMap<String, Arc<ScalarUDF>>,
    /// The session's time zone.
    pub(super) zone: String,
    /// What `now()` is in the statement, microseconds since 1970 UTC.
    pub(super) now: i64,
    pub(super) count: Option<Arc<AggregateUDF>>,
    /// What was found out about items that stand for several columns.
    pub(super) answers: Answers,
}

impl SparkPlanner {
    pub(super) fn new(state: &SessionState, answers: Answers) -> Self {
        Self {
            functions: state.scalar_functions().clone(),
            zone: state.config_options().execution.time_zone.clone().unwrap_or_else(|| "UTC".into()),
            now: chrono::Utc::now().timestamp_micros(),
            count: state.aggregate_functions().get("count").cloned(),
            answers,
        }
    }

    /// Plans a call of one of [`NAMES`].
    pub(super) fn plan_call(&self, name: &str, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
        let call = Call { planner: self, name, schema };
        if let Some(planned) = call.typed(&args)? {
            return Ok(planned);
        }
        if let Some(planned) = call.spark(&args)? {
            return Ok(planned);
        }
        if let Some(planned) = call.implicit(&args)? {
            return Ok(planned);
        }
        if let Some(planned) = call.time(&args)? {
            return Ok(planned);
        }
        call.other(args)
    }
}

/// A call that is being planned.
pub(super) struct Call<'a> {
    pub(super) planner: &'a SparkPlanner,
    pub(super) name: &'a str,
    pub(super) schema: &'a DFSchema,
}

impl Call<'_> {
    /// Calls a function of the session.
    pub(super) fn function(&self, name: &str, args: Vec<Expr>) -> Result<Expr> {
        match self.planner.functions.get(name) {
            Some(function) => Ok(function.call(args)),
            None => Err(wrong_call(format!("there is no function `{name}`"))),
        }
    }

    pub(super) fn type_of(&self, expr: &Expr) -> Result<DataType> {
        type_of(expr, self.schema)
    }

    /// The expression as a type.
    pub(super) fn cast(&self, expr: &Expr, to: &DataType) -> Result<Expr> {
        if self.type_of(expr)? == *to { Ok(expr.clone()) } else { lenient_cast(expr.clone(), to) }
    }

    fn text(&self, expr: &Expr) -> Result<Expr> {
        if is_text(&self.type_of(expr)?) || matches!(self.type_of(expr)?, DataType::Binary) {
            Ok(expr.clone())
        } else {
            self.cast(expr, &DataType::Utf8)
        }
    }

    /// The error of a call with a wrong number of arguments.
    pub(super) fn wrong_count<T>(&self, args: &[Expr]) -> Result<T> {
        let count = match args.len() {
            0 => "no arguments".to_string(),
            1 => "1 argument".to_string(),
            n => format!("{n} arguments"),
        };
        Err(wrong_call(format!("`{}` can't be called with {count}", self.name)))
    }

    fn other(&self, args: Vec<Expr>) -> Result<Expr> {
        match (self.name, args.as_slice()) {
            (
                "bigint" | "binary" | "boolean" | "decimal" | "double" | "float" | "int" | "smallint" | "string"
                | "tinyint",
                [value],
            ) => self.cast(value, &parse_type(self.name)?),
            ("isnull", [value]) => Ok(value.clone().is_null()),
            ("isnotnull", [value]) => Ok(value.clone().is_not_null()),
            ("e", []) => Ok(lit(std::f64::consts::E)),
            ("log", [base, value]) => {
                let [base, value] = [self.cast(base, &DataType::Float64)?, self.cast(value, &DataType::Float64)?];
                let log = self.function("log", vec![base.clone(), value.clone()])?;
                when(base.gt(lit(0.0)).and(value.gt(lit(0.0))), log).end()
            }
            ("log" | "ln" | "log10" | "log2", [value]) => {
                let value = self.cast(value, &DataType::Float64)?;
                let log = self.function(if self.name == "log" { "ln" } else { self.name }, vec![value.clone()])?;
                when(value.gt(lit(0.0)), log).end()
            }
            ("md5", [value]) => self.cast(&self.function("md5", vec![self.text(value)?])?, &DataType::Utf8),
            ("replace", [value, search]) => {
                self.function("replace", vec![self.text(value)?, self.text(search)?, lit("")])
            }
            ("replace", [value, search, with]) => {
                self.function("replace", vec![self.text(value)?, self.text(search)?, self.text(with)?])
            }
            ("array_join", [array, rest @ ..]) if matches!(rest.len(), 1 | 2) => {
                let array = self.cast(array, &super::types::list_of(DataType::Utf8, true))?;
                self.function("array_to_string", [std::slice::from_ref(&array), rest].concat())
            }
            ("array_size", [array]) => {
                // DataFusion has no length for an empty array.
                let size = self.function("size", vec![array.clone()])?;
                when(array.clone().is_not_null(), size).end()
            }
            ("get", [array, index]) => self.item(array, index),
            (_, args) => self.wrong_count(args),
        }
    }

    /// `array[index]`: from 0; null where there is no such element.
    pub(super) fn item(&self, array: &Expr, index: &Expr) -> Result<Expr> {
        let from_one = |index: i64| self.function("array_element", vec![array.clone(), lit(index.saturating_add(1))]);
        match index {
            Expr::Literal(ScalarValue::Int32(Some(index)), _) if *index >= 0 => from_one(i64::from(*index)),
            Expr::Literal(ScalarValue::Int64(Some(index)), _) if *index >= 0 => from_one(*index),
            _ => {
                let index = self.cast(index, &DataType::Int64)?;
                let item = self.function("array_element", vec![array.clone(), index.clone() + lit(1i64)])?;
                when(index.gt_eq(lit(0i64)), item).end()
            }
        }
    }
}

/// Plans `array[index]` outside of a named call.
pub(super) fn plan_item(planner: &SparkPlanner, array: &Expr, index: &Expr, schema: &DFSchema) -> Result<Expr> {
    let call = Call { planner, name: "[]", schema };
    let data_type = call.type_of(array)?;
    match &data_type {
        DataType::Map(entries, _) => match (entries.data_type(), call.type_of(index)?) {
            (DataType::Struct(pair), key) if pair.first().is_some_and(|own| *own.data_type() == key) => {
                call.function("get_field", vec![array.clone(), index.clone()])
            }
            _ => call.function("map_value", vec![array.clone(), index.clone()]),
        },
        list if is_list(list) => call.item(array, index),
        other => Err(wrong_call(format!("`[{index}]` needs an array or a map, not {}", type_name(other)))),
    }
}

/// An expression's type; the error of a column that there is not says where in the source it stands.
pub(super) fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    expr.get_type(schema).map_err(|error| {
        let DataFusionError::SchemaError(inner, _) = error.find_root() else { return error };
        let SchemaError::FieldNotFound { field, .. } = inner.as_ref() else { return error };
        let span =
            expr.column_refs().into_iter().find(|column| column.name == field.name).and_then(|c| c.spans().first());
        match span {
            Some(span) => error.with_diagnostic(Diagnostic::new_error("there is no such column", Some(span))),
            None => error,
        }
    })
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}
