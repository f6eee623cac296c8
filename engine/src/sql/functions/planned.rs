//! Calls that are planned by the types, or the names, of their arguments; and calls that are written otherwise before they are planned.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    common::{DFSchema, Result},
    logical_expr::{Expr, lit, simplify::SimplifyContext, when},
    optimizer::simplify_expressions::ExprSimplifier,
    sql::sqlparser::ast::{
        BinaryOperator, DataType as SqlType, Expr as SqlExpr, Value, ValueWithSpan, WindowFrame, WindowFrameBound,
        WindowFrameUnits, WindowSpec, WindowType,
    },
};

use super::arrays::BETWEEN_NAMES;
use crate::sql::{
    calls::Call,
    kernel::wrong_call,
    syntax::{binary, call, cast, name_of, number, text},
    types::type_name,
};

/// The functions that are planned here.
const NAMES: &[&str] = &[
    "arrays_zip",
    "concat",
    "convert_timezone",
    "current_catalog",
    "current_database",
    "current_schema",
    "current_user",
    "decode",
    "element_at",
    "equal_null",
    "format_string",
    "from_csv",
    "from_json",
    "localtimestamp",
    "negative",
    "nullifzero",
    "pi",
    "position",
    "positive",
    "printf",
    "rand",
    "randn",
    "random",
    "reverse",
    "to_timestamp_ltz",
    "to_timestamp_ntz",
    "try_add",
    "try_element_at",
    "try_multiply",
    "try_subtract",
    "user",
    "version",
    "zeroifnull",
];

/// Whether a function is planned here.
pub(in crate::sql) fn is_planned(name: &str) -> bool {
    NAMES.contains(&name)
}

/// All names that are planned here.
pub(in crate::sql) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied()
}

impl Call<'_> {
    /// Plans the call if it is one of this module's.
    pub(in crate::sql) fn spark(&self, args: &[Expr]) -> Result<Option<Expr>> {
        let planned = match (self.name, args) {
            ("version", []) => Ok(lit("3.5.0")),
            ("current_catalog", []) => Ok(lit("spark_catalog")),
            ("current_database" | "current_schema", []) => Ok(lit("default")),
            ("current_user" | "user", []) => Ok(lit(user())),
            ("pi", []) => Ok(lit(std::f64::consts::PI)),
            ("positive", [value]) => self.number(value),
            ("negative", [value]) => Ok(Expr::Negative(Box::new(self.number(value)?))),
            ("zeroifnull", [value]) => self.function("coalesce", vec![value.clone(), lit(0i32)]),
            ("nullifzero", [value]) => when(value.clone().not_eq(lit(0i32)), value.clone()).end(),
            ("rand" | "random", []) => self.function("random", vec![]),
            ("rand" | "random" | "randn", [_]) => Err(wrong_call(format!(
                "`{}` with a seed would give other numbers on other tasks; call it without one, or take pmod(hash(…), n)",
                self.name
            ))),
            // Box and Muller's.
            ("randn", []) => {
                let [a, b] = [self.function("random", vec![])?, self.function("random", vec![])?];
                let length = self.function("sqrt", vec![lit(-2.0) * self.function("ln", vec![lit(1.0) - a])?])?;
                Ok(length * self.function("cos", vec![lit(std::f64::consts::TAU) * b])?)
            }
            ("position", [_, _] | [_, _, _]) => self.function("locate", args.to_vec()),
            ("try_add" | "try_subtract" | "try_multiply", [a, b, plain]) => {
                let both_integers = self.type_of(a)?.is_integer() && self.type_of(b)?.is_integer();
                if both_integers { self.function(self.name, vec![a.clone(), b.clone()]) } else { Ok(plain.clone()) }
            }
            // Written by the rewriting of statements.
            ("btrim" | "locate" | "overlay" | "trim_end" | "trim_start", _) => self.function(self.name, args.to_vec()),
            ("format_string" | "printf", [format, values @ ..]) => self.formatted(format, values),
            ("equal_null", [a, b]) => {
                let to = super::args::common("equal_null", &[self.type_of(a)?, self.type_of(b)?])?;
                Ok(Expr::BinaryExpr(datafusion::logical_expr::BinaryExpr::new(
                    Box::new(self.cast(a, &to)?),
                    datafusion::logical_expr::Operator::IsNotDistinctFrom,
                    Box::new(self.cast(b, &to)?),
                )))
            }
            ("localtimestamp", []) => self.clock(&self.now()),
            ("to_timestamp_ltz", [_] | [_, _]) => {
                let instant = match args {
                    [value, pattern] => self.timestamp_of(value, pattern)?,
                    _ => args[0].clone(),
                };
                self.cast(&instant, &crate::sql::types::timestamp())
            }
            ("to_timestamp_ntz", [value]) => self.clock(value),
            ("to_timestamp_ntz", [value, pattern]) => self.clock(&self.timestamp_of(value, pattern)?),
            ("convert_timezone", [to, value]) => {
                self.function("convert_timezone", vec![lit(self.planner.zone.as_str()), to.clone(), value.clone()])
            }
            ("convert_timezone", [_, _, _]) => self.function("convert_timezone", args.to_vec()),
            ("decode", [_, _]) => self.function("decode", args.to_vec()),
            ("decode", [value, branches @ ..]) if branches.len() > 1 => self.decode(value, branches),
            ("element_at" | "try_element_at", [of, key]) => match self.type_of(of)? {
                DataType::Map(..) => self.function("map_value", vec![of.clone(), key.clone()]),
                _ => self.function("element_at", args.to_vec()),
            },
            ("arrays_zip", arrays) => {
                let name = |(i, array): (usize, &Expr)| match array {
                    Expr::Column(column) => column.name.clone(),
                    Expr::Alias(alias) => alias.name.clone(),
                    Expr::ScalarFunction(function) if function.func.name() == "get_field" => match function.args.last()
                    {
                        Some(Expr::Literal(name, _)) => name.try_as_str().flatten().unwrap_or_default().to_string(),
                        _ => i.to_string(),
                    },
                    _ => i.to_string(),
                };
                let names: Vec<String> = arrays.iter().enumerate().map(name).collect();
                let mut all = vec![lit(names.join(&BETWEEN_NAMES.to_string()))];
                all.extend(arrays.iter().cloned());
                self.function("arrays_zip", all)
            }
            ("from_json" | "from_csv", [value, schema, options @ ..]) if options.len() < 2 => {
                let mut all = vec![value.clone(), self.constant(schema)?];
                all.extend(options.iter().cloned());
                self.function(self.name, all)
            }
            ("concat", parts) => self.concat(parts),
            ("reverse", [value]) => match self.type_of(value)? {
                DataType::List(_) | DataType::LargeList(_) => self.function("array_reverse", args.to_vec()),
                DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                    Err(wrong_call("`reverse` takes a text or an array, not bytes; decode() them first"))
                }
                _ => self.function("reverse", vec![self.cast(value, &DataType::Utf8)?]),
            },
            _ => return Ok(None),
        };
        planned.map(Some)
    }

    /// `format_string`, whose `%s` shows a fraction as a cast does.
    fn formatted(&self, format: &Expr, values: &[Expr]) -> Result<Expr> {
        let literal = match format {
            Expr::Literal(format, _) => format.try_as_str().flatten().unwrap_or_default(),
            _ => "",
        };
        let mut args = vec![format.clone()];
        for (i, value) in values.iter().enumerate() {
            let data_type = self.type_of(value)?;
            if data_type.is_nested() {
                return Err(wrong_call(format!(
                    "`{}` takes no {}; make it a text with to_json or array_join",
                    self.name,
                    type_name(&data_type)
                )));
            }
            let as_text =
                data_type.is_floating() && conversions(literal).get(i).is_some_and(|c| matches!(c, 's' | 'S'));
            args.push(if as_text { self.cast(value, &DataType::Utf8)? } else { value.clone() });
        }
        self.function("format_string", args)
    }

    /// A number; a text is read as one.
    fn number(&self, value: &Expr) -> Result<Expr> {
        match self.type_of(value)? {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => self.cast(value, &DataType::Float64),
            _ => Ok(value.clone()),
        }
    }

    /// The session's clock at a moment, without a zone.
    fn clock(&self, value: &Expr) -> Result<Expr> {
        self.cast(value, &DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    /// `decode(value, search, result, …[, otherwise])`; NULL is equal to NULL here.
    fn decode(&self, value: &Expr, branches: &[Expr]) -> Result<Expr> {
        let mut results: Vec<DataType> = Vec::new();
        let (pairs, otherwise) = branches.as_chunks::<2>();
        for [_, result] in pairs {
            results.push(self.type_of(result)?);
        }
        for last in otherwise {
            results.push(self.type_of(last)?);
        }
        let to = super::args::common("decode", &results)?;
        let mut cases = Vec::new();
        for [search, result] in pairs {
            let same = Expr::BinaryExpr(datafusion::logical_expr::BinaryExpr::new(
                Box::new(value.clone()),
                datafusion::logical_expr::Operator::IsNotDistinctFrom,
                Box::new(search.clone()),
            ));
            cases.push((Box::new(same), Box::new(self.cast(result, &to)?)));
        }
        let otherwise = match otherwise {
            [last] => Some(Box::new(self.cast(last, &to)?)),
            _ => None,
        };
        Ok(Expr::Case(datafusion::logical_expr::Case::new(None, cases, otherwise)))
    }

    /// An expression without columns as the literal that it is.
    fn constant(&self, expr: &Expr) -> Result<Expr> {
        if matches!(expr, Expr::Literal(..)) || !expr.column_refs().is_empty() {
            return Ok(expr.clone());
        }
        let simplifier = ExprSimplifier::new(SimplifyContext::builder().build());
        simplifier.simplify(simplifier.coerce(expr.clone(), &DFSchema::empty())?)
    }

    /// `concat` of arrays, of bytes, or of anything as text; null if one part is.
    fn concat(&self, parts: &[Expr]) -> Result<Expr> {
        let types = parts.iter().map(|part| self.type_of(part)).collect::<Result<Vec<_>>>()?;
        let arrays = types.iter().filter(|t| matches!(t, DataType::List(_) | DataType::LargeList(_))).count();
        if arrays > 0 {
            let others = types.iter().any(|t| !t.is_nested() && *t != DataType::Null);
            if others {
                return Err(wrong_call("concat takes arrays or texts, not both"));
            }
            return self.function("array_concat", parts.to_vec());
        }
        if !types.is_empty()
            && types.iter().all(|t| matches!(t, DataType::Binary | DataType::LargeBinary | DataType::BinaryView))
        {
            return self.function("concat_bytes", parts.to_vec());
        }
        let parts = parts.iter().map(|part| self.cast(part, &DataType::Utf8)).collect::<Result<Vec<_>>>()?;
        self.function("concat", parts)
    }
}

/// What a format's arguments are converted by, one after the other.
fn conversions(format: &str) -> Vec<char> {
    let mut found = Vec::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c == '%'
            && let Some(conversion) = chars.by_ref().find(|c| c.is_ascii_alphabetic() || *c == '%')
            && !matches!(conversion, '%' | 'n')
        {
            found.push(conversion);
        }
    }
    found
}

/// Who runs this process.
fn user() -> String {
    let names = ["SPARK_USER", "USER", "LOGNAME"];
    names.into_iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| "root".into())
}

/// Writes calls that are others in disguise as what they are. Runs before arguments are visited, so these are still as written.
pub(in crate::sql) fn spell_out(expr: &mut SqlExpr) {
    let SqlExpr::Function(function) = expr else { return };
    let Some(name) = name_of(function) else { return };
    let mut args: Vec<SqlExpr> =
        crate::sql::syntax::arguments_mut(function).into_iter().map(|argument| argument.clone()).collect();
    match (name.as_str(), args.len()) {
        // A unit stands there like a column.
        ("dateadd" | "date_add" | "timestampadd", 3) => {
            args[0] = unit(&args[0]);
            *expr = call("timestampadd", args);
        }
        ("datediff" | "date_diff" | "timestampdiff", 3) => {
            args[0] = unit(&args[0]);
            *expr = call("timestampdiff", args);
        }
        ("try_divide", 2) => *expr = operation(args, BinaryOperator::Divide),
        ("try_add", 2) => with_plain(expr, "try_add", args, BinaryOperator::Plus),
        ("try_subtract", 2) => with_plain(expr, "try_subtract", args, BinaryOperator::Minus),
        ("try_multiply", 2) => with_plain(expr, "try_multiply", args, BinaryOperator::Multiply),
        // What to trim comes first, but the functions take it last.
        ("ltrim" | "rtrim", 2) => {
            args.swap(0, 1);
            *expr = call(if name == "ltrim" { "trim_start" } else { "trim_end" }, args);
        }
        ("trim", 1) => *expr = call("btrim", args),
        ("monotonically_increasing_id", 0) => *expr = row_numbers(),
        _ => {}
    }
}

fn nested(expr: SqlExpr) -> SqlExpr {
    SqlExpr::Nested(Box::new(expr))
}

fn operation(args: Vec<SqlExpr>, op: BinaryOperator) -> SqlExpr {
    let mut args = args.into_iter().map(nested);
    match (args.next(), args.next()) {
        (Some(left), Some(right)) => nested(binary(left, op, right)),
        _ => SqlExpr::Value(ValueWithSpan {
            value: Value::Null,
            span: datafusion::sql::sqlparser::tokenizer::Span::empty(),
        }),
    }
}

fn with_plain(expr: &mut SqlExpr, name: &str, mut args: Vec<SqlExpr>, op: BinaryOperator) {
    let plain = operation(args.clone(), op);
    args.push(plain);
    *expr = call(name, args);
}

fn unit(written: &SqlExpr) -> SqlExpr {
    match written {
        SqlExpr::Identifier(name) => text(&name.value),
        other => other.clone(),
    }
}

/// `count(1) OVER (ROWS UNBOUNDED PRECEDING) - 1`: numbers that no two rows share, and that rise.
fn row_numbers() -> SqlExpr {
    let SqlExpr::Function(mut count) = call("count", vec![number("1")]) else { return number("0") };
    count.over = Some(WindowType::WindowSpec(WindowSpec {
        window_name: None,
        partition_by: vec![],
        order_by: vec![],
        window_frame: Some(WindowFrame {
            units: WindowFrameUnits::Rows,
            start_bound: WindowFrameBound::Preceding(None),
            end_bound: Some(WindowFrameBound::CurrentRow),
        }),
    }));
    let count = binary(SqlExpr::Function(count), BinaryOperator::Minus, number("1"));
    nested(cast(nested(count), SqlType::BigInt(None)))
}
