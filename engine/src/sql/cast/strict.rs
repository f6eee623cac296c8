//! `strict_cast(value AS type)`: a value that is not null and can't be cast is no null, as with `CAST`, but wrong.
//!
//! As a function it fails with the value. A table's columns are planned otherwise: [`take_strict_casts`] makes it a plain cast and a condition of its
//! own, so that a job can say which records are wrong, all of them, and where.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::DataType,
};
use datafusion::{
    common::{
        Result, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{Expr, Operator, ScalarUDF, binary_expr, lit, when},
};

use super::{cast, lenient_cast};
use crate::{
    error::{Code, Error},
    sql::{
        kernel::{Arguments, Kernel, wrong_call},
        time::zone::Zone,
        types::type_name,
    },
};

/// The function's name.
pub(crate) const STRICT: &str = "strict_cast";

/// `strict_cast(value, NULL::type)`.
pub(crate) fn strict_function() -> Arc<ScalarUDF> {
    Kernel::function(
        STRICT,
        |types| {
            if types.len() == 2 { Ok(types.to_vec()) } else { Err(wrong_call("strict_cast takes a value and a type")) }
        },
        |fields, _| match fields {
            [_, target] if target.data_type().is_nested() => {
                Err(wrong_call(format!("strict_cast gives no {}: cast its items", type_name(target.data_type()))))
            }
            [_, target] => Ok(target.data_type().clone()),
            _ => Err(wrong_call("strict_cast takes a value and a type")),
        },
        compute,
    )
}

fn compute(arguments: &Arguments) -> Result<ArrayRef> {
    let (value, zone) = (&arguments.arrays[0], Zone::of_session(&arguments.config)?);
    let result = cast(value, &arguments.result, zone)?;
    if result.logical_null_count() == value.logical_null_count() {
        return Ok(result);
    }
    let (before, after) = (value.logical_nulls(), result.logical_nulls());
    let null = |nulls: &Option<arrow::buffer::NullBuffer>, row| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    let Some(row) = (0..value.len()).find(|row| null(&after, *row) && !null(&before, *row)) else { return Ok(result) };
    let text = cast(&value.slice(row, 1), &DataType::Utf8, zone)?;
    let text = text.as_string_opt::<i32>().map_or("", |text| text.value(0));
    let what = format!("`{}` can't be cast to {}", shortened(text), type_name(&arguments.result));
    Err(Error::new(Code::BadValue, what).hint("CAST gives NULL where strict_cast fails").into())
}

/// The beginning of a long text.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    if text.chars().count() > LONGEST { text.chars().take(LONGEST).chain(['…']).collect() } else { text.to_string() }
}

/// A call of `strict_cast`.
pub(crate) fn strict_cast(value: Expr, to: &DataType) -> Result<Expr> {
    Ok(strict_function().call(vec![value, Expr::Literal(ScalarValue::try_from(to)?, None)]))
}

/// What a strict cast demands of a row.
#[derive(Debug, Clone)]
pub struct StrictCast {
    /// The call as SQL.
    pub label: String,
    /// A text: null where the cast holds, else the label and the value.
    pub failure: Expr,
}

/// Makes plain casts of the strict ones in expressions over rows, and gives what each demands. A cast is strict wherever it stands, in a branch
/// that is not taken, too.
///
/// # Errors
/// `InvalidSql` for a strict cast in a lambda, which does not work on rows.
pub fn take_strict_casts(exprs: Vec<Expr>) -> crate::error::Result<(Vec<Expr>, Vec<StrictCast>)> {
    let mut casts: Vec<StrictCast> = Vec::new();
    let mut taken = Vec::with_capacity(exprs.len());
    for expr in exprs {
        check_lambdas(&expr)?;
        let name = expr.schema_name().to_string();
        let plain = expr.transform_up(|expr| {
            let Some((value, to)) = parts(&expr) else { return Ok(Transformed::no(expr)) };
            let cast = lenient_cast(value.clone(), &to)?;
            let label = expr.schema_name().to_string();
            if !casts.iter().any(|known| known.label == label) {
                let text = lenient_cast(value.clone(), &DataType::Utf8)?;
                let message = [lit(format!("{label}: `")), text, lit("` can't be cast")];
                let message = message.into_iter().reduce(|a, b| binary_expr(a, Operator::StringConcat, b));
                let wrong = value.is_not_null().and(cast.clone().is_null());
                casts.push(StrictCast { label, failure: when(wrong, message.unwrap_or_else(|| lit(""))).end()? });
            }
            Ok(Transformed::yes(cast))
        })?;
        // The column keeps its name.
        taken.push(match plain.transformed && plain.data.schema_name().to_string() != name {
            true => plain.data.alias(name),
            false => plain.data,
        });
    }
    Ok((taken, casts))
}

/// Value and type of a strict cast.
fn parts(expr: &Expr) -> Option<(Expr, DataType)> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == STRICT => match call.args.as_slice() {
            [value, Expr::Literal(target, _)] => Some((value.clone(), target.data_type())),
            _ => None,
        },
        _ => None,
    }
}

fn check_lambdas(expr: &Expr) -> crate::error::Result<()> {
    let mut found = None;
    expr.apply(|expr| {
        if let Expr::Lambda(lambda) = expr {
            lambda.body.apply(|inner| {
                found = found.take().or_else(|| parts(inner).map(|_| inner.schema_name().to_string()));
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match found {
        Some(label) => Err(Error::new(Code::InvalidSql, format!("`{label}` stands in a lambda"))
            .hint("strict_cast works on whole records; use CAST here, and an expectation over its result")),
        None => Ok(()),
    }
}
