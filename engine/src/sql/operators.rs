//! Operators and field access with Spark's meaning.

use std::borrow::Cow;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::{
    common::{Column, DFSchema, Result, ScalarValue, TableReference},
    logical_expr::{
        Expr, GetFieldAccess, Operator, binary_expr, cast, lit,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawDictionaryExpr, RawFieldAccessExpr},
        when,
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{
    arrays::array_field,
    calls::{CAST, Call, INT, STRICT_CAST, SparkPlanner, TRY_CAST, is_text, plan_item, type_of},
    cast::{lenient_cast, strict_cast},
    comparisons::{Comparison, double},
    decimals,
    floats::normal,
    intervals,
    kernel::{Kernel, wrong_call},
    relations::{MARKS, plan_mark},
    suggest,
    typed::{self, NUMBER},
    types::{timestamp, type_name},
};
use crate::error::{Code, Error};

impl ExprPlanner for SparkPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let types = [type_of(&left, schema)?, type_of(&right, schema)?];
        Ok(match op {
            BinaryOperator::Divide
            | BinaryOperator::Modulo
            | BinaryOperator::MyIntegerDivide
            | BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply => {
                if let Some(planned) = intervals::plan(self, &op, &left, &right, [&types[0], &types[1]])? {
                    return Ok(PlannerResult::Planned(planned));
                }
                let (left, right) = operands(left, right, &types);
                let types = [type_of(&left, schema)?, type_of(&right, schema)?];
                if let Some(planned) = decimals::plan(&self.functions, &op, &left, &right, [&types[0], &types[1]])? {
                    return Ok(PlannerResult::Planned(planned));
                }
                if matches!(op, BinaryOperator::Divide | BinaryOperator::Modulo | BinaryOperator::MyIntegerDivide) {
                    return Ok(PlannerResult::Planned(self.divide(&op, left, right, types)?));
                }
                if let Some(shifted) = self.shift_date(&op, &left, &right, schema)? {
                    return Ok(PlannerResult::Planned(shifted));
                }
                PlannerResult::Original(RawBinaryExpr { op, left, right })
            }
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
            | BinaryOperator::Spaceship => match Comparison::of(&op) {
                Some(comparison) => PlannerResult::Planned(comparison.plan(left, right, &types)?),
                None => PlannerResult::Original(RawBinaryExpr { op, left, right }),
            },
            _ => PlannerResult::Original(RawBinaryExpr { op, left, right }),
        })
    }

    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = expr;
        Ok(PlannerResult::Planned(match field_access {
            GetFieldAccess::NamedStructField { name } => {
                let data_type = type_of(&expr, schema)?;
                match name.try_as_str().flatten() {
                    Some(name) => self.field(expr, &data_type, name)?.0,
                    None => return Err(wrong_call(format!("`{expr}[{name}]`: a field's name is a text"))),
                }
            }
            GetFieldAccess::ListIndex { key } => plan_item(self, &expr, &key, schema)?,
            GetFieldAccess::ListRange { .. } => {
                return Err(wrong_call("take a slice of an array with slice(array, start, length)"));
            }
        }))
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let mut data_type = field.data_type().clone();
        let mut expr = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        for name in nested_names {
            // The planner drops an error of this function, so a missing field becomes a call that has no type.
            match self.field(expr.clone(), &data_type, name) {
                Ok(found) => (expr, data_type) = found,
                Err(error) => return Ok(PlannerResult::Planned(missing(&Error::from(error)))),
            }
        }
        Ok(PlannerResult::Planned(expr))
    }

    fn plan_dictionary_literal(
        &self,
        expr: RawDictionaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawDictionaryExpr>> {
        let name = match expr.keys.first() {
            Some(Expr::Literal(name, _)) => name.try_as_str().flatten().map(str::to_string),
            _ => None,
        };
        let Some(name) = name else { return Ok(PlannerResult::Original(expr)) };
        let mut args = expr.values;
        if name == INT {
            return Ok(match args.pop() {
                Some(Expr::Literal(ScalarValue::Int64(Some(value)), _)) => {
                    PlannerResult::Planned(i32::try_from(value).map_or_else(|_| lit(value), lit))
                }
                _ => return Err(wrong_call("not an integer")),
            });
        }
        if name == CAST || name == STRICT_CAST || name == TRY_CAST {
            let cast = if name == STRICT_CAST { strict_cast } else { lenient_cast };
            return match <[Expr; 2]>::try_from(args) {
                Ok([value, target]) => {
                    let to = type_of(&target, schema)?;
                    if name == TRY_CAST && to.is_integer() {
                        let from = type_of(&value, schema)?;
                        return Ok(PlannerResult::Planned(self.try_integer(value, &from, &to)?));
                    }
                    Ok(PlannerResult::Planned(cast(value, &to)?))
                }
                Err(_) => Err(wrong_call("a cast has a value and a type")),
            };
        }
        if name == NUMBER {
            let digits = args.pop();
            let text = match &digits {
                Some(Expr::Literal(text, _)) => text.try_as_str().flatten().unwrap_or_default(),
                _ => "",
            };
            return match typed::number(text) {
                Some(number) => Ok(PlannerResult::Planned(number)),
                None => Err(wrong_call(format!(
                    "{text} is no number of its type; a decimal has at most 38 digits, and integers have their ranges"
                ))),
            };
        }
        if MARKS.contains(&name.as_str()) {
            return Ok(PlannerResult::Planned(plan_mark(self, &name, args, schema)?));
        }
        // The first value only holds the place of the name.
        args.remove(0);
        Ok(PlannerResult::Planned(self.plan_call(&name, args, schema)?))
    }
}

impl SparkPlanner {
    /// An integer of a text that is one, or of a number whose whole part fits; else NULL. A cast would cut off and wrap.
    fn try_integer(&self, value: Expr, from: &DataType, to: &DataType) -> Result<Expr> {
        let (low, high) = match to {
            DataType::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
            DataType::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
            DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        let integer = lenient_cast(value.clone(), to)?;
        let fits = match from {
            text if is_text(text) => {
                let Some(matches) = self.functions.get("regexp_like") else {
                    return Err(wrong_call("there is no function `regexp_like`"));
                };
                matches.call(vec![value, lit(r"^\s*[+-]?[0-9]+\s*$")])
            }
            float if float.is_floating() => {
                // What lies between the next whole numbers on both sides, which are exact doubles but for the one below the least long.
                let double = cast(value, DataType::Float64);
                let above = match to {
                    DataType::Int64 => double.clone().gt_eq(lit(low as f64)),
                    _ => double.clone().gt(lit(low as f64 - 1.0)),
                };
                above.and(double.lt(lit(high as f64 + 1.0)))
            }
            decimal if decimal.is_decimal() => {
                let wide = DataType::Decimal256(76, 37);
                let bound = |n: i128| cast(lit(ScalarValue::Decimal128(Some(n), 38, 0)), wide.clone());
                let number = cast(value, wide.clone());
                let above = number.clone().gt(bound(i128::from(low) - 1));
                above.and(number.lt(bound(i128::from(high) + 1)))
            }
            integer if integer.is_integer() => {
                let number = cast(value, DataType::Int64);
                number.clone().gt_eq(lit(low)).and(number.lt_eq(lit(high)))
            }
            _ => return Ok(integer),
        };
        when(fits, integer).end()
    }

    /// `/` gives a double of integers, `%` and `DIV` stay integers, and a zero divisor gives NULL.
    fn divide(&self, op: &BinaryOperator, left: Expr, right: Expr, types: [DataType; 2]) -> Result<Expr> {
        let (mut left, mut right) = (left, right);
        let fits = |t: &DataType| t.is_integer() || t.is_null() || is_text(t);
        let to = match op {
            BinaryOperator::MyIntegerDivide => Some(DataType::Int64),
            BinaryOperator::Divide if types.iter().all(fits) => Some(DataType::Float64),
            _ => None,
        };
        if let Some(to) = to {
            (left, right) = (cast(left, to.clone()), cast(right, to));
        }
        let nonzero = match &right {
            Expr::Literal(value, _) if !value.is_null() && !is_zero(value) => right,
            Expr::Cast(inner) if matches!(inner.expr.as_ref(), Expr::Literal(value, _) if !value.is_null() && !is_text(&value.data_type()) && !is_zero(value)) => {
                right
            }
            _ => match self.functions.get("nullif") {
                // A typed zero keeps the divisor's type. A zero with a sign, which only floats and texts have, is one too.
                Some(nullif) => {
                    let signed = types.get(1).is_some_and(|t| t.is_floating() || is_text(t));
                    nullif.call(vec![if signed { normal(right) } else { right }, lit(0i32)])
                }
                None => right,
            },
        };
        let op = if *op == BinaryOperator::Modulo { Operator::Modulo } else { Operator::Divide };
        Ok(binary_expr(left, op, nonzero))
    }

    /// `date + 1` and `date - 1`, which count days.
    fn shift_date(&self, op: &BinaryOperator, left: &Expr, right: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
        let name = match op {
            BinaryOperator::Plus => "date_add",
            BinaryOperator::Minus => "date_sub",
            _ => return Ok(None),
        };
        let (date, days) = match (type_of(left, schema)?, type_of(right, schema)?) {
            (DataType::Date32, days) if days.is_integer() => (left, right),
            (days, DataType::Date32) if days.is_integer() && name == "date_add" => (right, left),
            _ => return Ok(None),
        };
        let call = |function: &std::sync::Arc<datafusion::logical_expr::ScalarUDF>| {
            function.call(vec![date.clone(), cast(days.clone(), DataType::Int32)])
        };
        Ok(self.functions.get(name).map(call))
    }

    /// A field of a struct, of every struct in an array, or a map's value; names differ in more than case.
    fn field(&self, expr: Expr, data_type: &DataType, name: &str) -> Result<(Expr, DataType)> {
        let get = |expr: Expr, name: &str| match self.functions.get("get_field") {
            Some(get_field) => Ok(get_field.call(vec![expr, lit(name)])),
            None => Err(wrong_call("there is no function `get_field`")),
        };
        match data_type {
            DataType::Struct(fields) => {
                let field = find(fields, name, &expr)?;
                Ok((get(expr, field.name())?, field.data_type().clone()))
            }
            DataType::List(item) | DataType::LargeList(item) => match item.data_type() {
                DataType::Struct(fields) => {
                    let field = find(fields, name, &expr)?;
                    let list = super::types::list_of(field.data_type().clone(), true);
                    Ok((array_field().call(vec![expr, lit(field.name().as_str())]), list))
                }
                other => Err(no_field(name, &expr, &format!("an array of {}", type_name(other)))),
            },
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => Ok((get(expr, name)?, pair[1].data_type().clone())),
                other => Err(no_field(name, &expr, &type_name(other))),
            },
            other => Err(no_field(name, &expr, &type_name(other))),
        }
    }
}

fn no_field(name: &str, expr: &Expr, what: &str) -> datafusion::error::DataFusionError {
    wrong_call(format!("`{}` is {what}, so it has no field `{name}`", shown(expr)))
}

fn shown(expr: &Expr) -> Cow<'static, str> {
    match expr {
        Expr::Column(column) => column.name.clone().into(),
        Expr::LambdaVariable(variable) => variable.name.clone().into(),
        Expr::ScalarFunction(call) if matches!(call.name(), "get_field" | "array_field") => {
            match call.args.as_slice() {
                [inner, Expr::Literal(name, _)] => {
                    format!("{}.{}", shown(inner), name.try_as_str().flatten().unwrap_or_default()).into()
                }
                _ => "the expression".into(),
            }
        }
        _ => "the expression".into(),
    }
}

/// The field with a name, exactly or but for case.
fn find<'a>(fields: &'a Fields, name: &str, expr: &Expr) -> Result<&'a FieldRef> {
    let mut same = fields.iter().filter(|field| field.name().eq_ignore_ascii_case(name));
    match (same.next(), same.next()) {
        (Some(field), None) => Ok(field),
        (Some(first), Some(second)) => match fields.iter().find(|field| field.name() == name) {
            Some(exact) => Ok(exact),
            None => Err(wrong_call(format!(
                "`{}.{name}` may be `{}` or `{}`, which differ only in case",
                shown(expr),
                first.name(),
                second.name()
            ))),
        },
        _ => {
            let hint = suggest::hint(name, "its fields", fields.iter().map(|field| field.name().as_str()));
            Err(Error::new(Code::InvalidSql, format!("`{}` has no field `{name}`", shown(expr))).hint(hint).into())
        }
    }
}

/// A call whose type is an error.
fn missing(error: &Error) -> Expr {
    Kernel::function(
        "missing_field",
        |types| Ok(types.to_vec()),
        |_, literals| {
            let text = literals.first().copied().flatten().and_then(|text| text.try_as_str()).flatten();
            let error = text.and_then(Error::find_in);
            Err(error.unwrap_or_else(|| Error::new(Code::InvalidSql, "there is no such field")).into())
        },
        |_| Err(wrong_call("there is no such field")),
    )
    .call(vec![lit(error.to_string())])
}

fn is_zero(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float64(Some(v)) => *v == 0.0,
        ScalarValue::Float32(Some(v)) => *v == 0.0,
        other => ScalarValue::new_zero(&other.data_type()).is_ok_and(|zero| zero == *other),
    }
}

/// Operands of arithmetic: texts become doubles, or timestamps beside one; dates beside a timestamp become timestamps, timestamps get one type;
/// a decimal beside a float becomes a double.
fn operands(left: Expr, right: Expr, types: &[DataType; 2]) -> (Expr, Expr) {
    let [l, r] = types;
    (operand(left, l, r), operand(right, r, l))
}

fn operand(expr: Expr, own: &DataType, other: &DataType) -> Expr {
    match (own, other) {
        (own, DataType::Date32) if is_text(own) => cast(expr, DataType::Date32),
        (own, DataType::Timestamp(..) | DataType::Interval(_) | DataType::Duration(_)) if is_text(own) => {
            cast(expr, timestamp())
        }
        (own, _) if is_text(own) => cast(expr, DataType::Float64),
        (own, other) if own.is_decimal() && (other.is_floating() || is_text(other)) => double(expr),
        _ => moment(expr, own, other),
    }
}

impl Call<'_> {
    /// What an operator gives between two values.
    pub(super) fn operation(&self, op: BinaryOperator, own: Operator, left: Expr, right: Expr) -> Result<Expr> {
        Ok(match self.planner.plan_binary_op(RawBinaryExpr { op, left, right }, self.schema)? {
            PlannerResult::Planned(planned) => planned,
            PlannerResult::Original(RawBinaryExpr { left, right, .. }) => binary_expr(left, own, right),
        })
    }
}

/// A date or a timestamp beside another one, or beside a text.
pub(super) fn moment(expr: Expr, own: &DataType, other: &DataType) -> Expr {
    match (own, other) {
        (DataType::Timestamp(..), DataType::Timestamp(..)) if own != other => cast(expr, timestamp()),
        (DataType::Timestamp(..), other) if *own != timestamp() && (is_text(other) || *other == DataType::Date32) => {
            cast(expr, timestamp())
        }
        (DataType::Date32, DataType::Timestamp(..)) => cast(expr, timestamp()),
        _ => expr,
    }
}
