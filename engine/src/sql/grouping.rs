//! `GROUP BY` in Spark's spellings: `WITH ROLLUP`, `WITH CUBE`, `a, b GROUPING SETS (…)`, `grouping_id()`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType as SqlType, Expr, Function, FunctionArguments, GroupByExpr, GroupByWithModifier,
    OrderByKind, Query, Select, SelectItem, SetExpr, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::syntax::{arguments_mut, binary, call, name_of, number, take};
use crate::error::{Code, Error, Result};

/// Spells out a query's groups as DataFusion reads them.
pub(super) fn spell_out(query: &mut Query) -> Result<()> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    modifiers(select)?;
    let grouped = grouped(select);
    if grouped.is_empty() {
        return Ok(());
    }
    // Spark has no total of no rows; DataFusion gives one for the empty set.
    let has_rows = binary(call("count", vec![number("1")]), BinaryOperator::Gt, number("0"));
    select.having = Some(match select.having.take() {
        Some(having) => binary(Expr::Nested(Box::new(having)), BinaryOperator::And, has_rows),
        None => has_rows,
    });

    let mut ids = Ids { grouped, depth: 0 };
    // Nothing breaks off.
    let _ = select.projection.visit(&mut ids);
    let _ = select.having.visit(&mut ids);
    if let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(exprs) = &mut order_by.kind
    {
        let _ = exprs.visit(&mut ids);
    }
    Ok(())
}

fn modifiers(select: &mut Select) -> Result<()> {
    let (exprs, modifiers) = match &mut select.group_by {
        GroupByExpr::All(modifiers) if modifiers.is_empty() => return Ok(()),
        GroupByExpr::All(_) => {
            return Err(Error::new(Code::InvalidSql, "GROUP BY ALL can't have modifiers").hint("name the columns"));
        }
        GroupByExpr::Expressions(exprs, modifiers) => (exprs, modifiers),
    };
    match std::mem::take(modifiers).as_slice() {
        [] => {}
        [GroupByWithModifier::Rollup] => *exprs = vec![Expr::Rollup(single(exprs))],
        [GroupByWithModifier::Cube] => *exprs = vec![Expr::Cube(single(exprs))],
        [GroupByWithModifier::GroupingSets(sets)] => *exprs = vec![sets.clone()],
        _ => {
            return Err(Error::new(Code::InvalidSql, "GROUP BY takes one of WITH ROLLUP, WITH CUBE and GROUPING SETS")
                .hint("write GROUP BY GROUPING SETS ((a, b), (a), ())"));
        }
    }
    // Inside of sets, numbers name columns as they do outside.
    for expr in exprs {
        let (Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets)) = expr else { continue };
        for expr in sets.iter_mut().flatten() {
            if let Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) = expr {
                let item = digits.parse::<usize>().ok().and_then(|n| select.projection.get(n.checked_sub(1)?));
                match item {
                    Some(SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }) => {
                        *expr = item.clone();
                    }
                    _ => {
                        return Err(Error::new(
                            Code::InvalidSql,
                            format!("GROUP BY {digits} is no column of the SELECT"),
                        )
                        .hint("write the column's name"));
                    }
                }
            }
        }
    }
    Ok(())
}

fn single(exprs: &mut Vec<Expr>) -> Vec<Vec<Expr>> {
    std::mem::take(exprs).into_iter().map(|expr| vec![expr]).collect()
}

/// The columns of all grouping sets, in order.
fn grouped(select: &Select) -> Vec<Expr> {
    let GroupByExpr::Expressions(exprs, _) = &select.group_by else { return Vec::new() };
    let mut columns: Vec<Expr> = Vec::new();
    let mut has_sets = false;
    for expr in exprs {
        match expr {
            Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => {
                has_sets = true;
                for column in sets.iter().flatten() {
                    if !columns.contains(column) {
                        columns.push(column.clone());
                    }
                }
            }
            other if !columns.contains(other) => columns.push(other.clone()),
            _ => {}
        }
    }
    if has_sets { columns } else { Vec::new() }
}

/// Gives `grouping_id()` its columns, and both functions Spark's types.
struct Ids {
    grouped: Vec<Expr>,
    depth: usize,
}

impl VisitorMut for Ids {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let Some(name) = name_of(function).filter(|_| self.depth == 0) else { return ControlFlow::Continue(()) };
        let to = match name.as_str() {
            "grouping_id" => {
                let mut args: Vec<Expr> = arguments_mut(function).into_iter().map(|arg| arg.clone()).collect();
                if args.is_empty() {
                    args = self.grouped.clone();
                }
                *expr = call("grouping", args);
                SqlType::BigInt(None)
            }
            "grouping" if is_plain(function) => SqlType::TinyInt(None),
            _ => return ControlFlow::Continue(()),
        };
        *expr = super::syntax::cast(take(expr), to);
        ControlFlow::Continue(())
    }
}

fn is_plain(function: &Function) -> bool {
    matches!(function.args, FunctionArguments::List(_)) && function.over.is_none()
}
