//! `LATERAL VIEW`, and generators after FROM, as relations.

use datafusion::sql::sqlparser::{
    ast::{
        BinaryOperator, Expr, ExprWithAlias, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join,
        JoinConstraint, JoinOperator, PivotValueSource, Select, SelectItem, Spanned, TableAlias, TableAliasColumnDef,
        TableFactor, TableWithJoins, Value, ValueWithSpan,
    },
    tokenizer::Span,
};

use super::{generators::is_generator, planner::Mark, tree::Shaper};
use crate::{
    error::{Code, Error, Result},
    sql::syntax::{binary, name_of, place_holder, text},
};

impl Shaper<'_> {
    /// `LATERAL VIEW`, and generators after FROM.
    pub(super) fn lateral(&self, select: &mut Select) -> Result<()> {
        let generates = |factor: &TableFactor| from_generator(factor).is_some();
        let any = select
            .from
            .iter()
            .any(|item| generates(&item.relation) || item.joins.iter().any(|join| generates(&join.relation)));
        if !any && select.lateral_views.is_empty() {
            return Ok(());
        }
        let mut so_far: Option<TableFactor> = None;
        for item in std::mem::take(&mut select.from) {
            let mut before = so_far.take();
            let mut current = match from_generator(&item.relation) {
                Some(mut mark) => {
                    mark.alone = before.is_none();
                    carrier(before.take(), mark)
                }
                None => item.relation,
            };
            let mut joins: Vec<Join> = Vec::new();
            for join in item.joins {
                let Some(mut mark) = from_generator(&join.relation) else {
                    joins.push(join);
                    continue;
                };
                if let Some(condition) = self.join_generator(join, &mut mark)? {
                    select.selection = Some(match select.selection.take() {
                        Some(selection) => binary(nested(selection), BinaryOperator::And, nested(condition)),
                        None => condition,
                    });
                }
                let all = joined(before.take(), current, std::mem::take(&mut joins));
                current = carrier(Some(all), mark);
            }
            so_far = Some(joined(before, current, joins));
        }
        for view in std::mem::take(&mut select.lateral_views) {
            let Expr::Function(function) = &view.lateral_view else {
                return Err(self.no_generator(&view.lateral_view));
            };
            let name = name_of(function).unwrap_or_default();
            if !is_generator(&name) {
                return Err(self.no_generator(&view.lateral_view));
            }
            let mut columns = view.lateral_col_alias;
            let alias = view.lateral_view_name.0.first().and_then(|part| part.as_ident().cloned());
            // `LATERAL VIEW explode(xs) AS x` has no name before AS.
            let alias = match alias {
                Some(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("as") => {
                    Ident::new("__view")
                }
                Some(name) => name,
                None => Ident::new("__view"),
            };
            let alias = table_alias(alias, std::mem::take(&mut columns));
            let mark = Mark {
                name,
                args: plain_args(function),
                outer: view.outer,
                alone: so_far.is_none(),
                alias: Some(alias),
            };
            so_far = Some(carrier(so_far.take(), mark));
        }
        select.from = so_far.into_iter().map(|relation| TableWithJoins { relation, joins: Vec::new() }).collect();
        Ok(())
    }

    /// How a generator is joined, and the condition that then filters its rows.
    fn join_generator(&self, join: Join, mark: &mut Mark) -> Result<Option<Expr>> {
        let refuse = |what: &str| {
            let place = (self.place)(join.relation.span());
            Err(Error::new(Code::InvalidSql, format!("{place}a generator {what}"))
                .hint("write JOIN … ON true, or LATERAL VIEW"))
        };
        let constraint = match join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) | JoinOperator::CrossJoin(constraint) => {
                constraint
            }
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                mark.outer = true;
                constraint
            }
            _ => return refuse("can be joined by JOIN and LEFT JOIN only"),
        };
        match constraint {
            JoinConstraint::None => Ok(None),
            JoinConstraint::On(Expr::Value(ValueWithSpan { value: Value::Boolean(true), .. })) => Ok(None),
            JoinConstraint::On(condition) if !mark.outer => Ok(Some(condition)),
            _ => refuse("can't be joined by this condition"),
        }
    }

    fn no_generator(&self, expr: &Expr) -> Error {
        Error::new(Code::InvalidSql, format!("{}`{expr}` makes no rows", (self.place)(expr.span())))
            .hint("a LATERAL VIEW takes explode, posexplode, inline, stack, json_tuple and their _outer forms")
    }
}

/// A generator that is a whole item, with its arguments and aliases.
pub(in crate::sql) fn generator_of(item: &SelectItem) -> Option<(String, Vec<Expr>, Vec<Ident>, Span)> {
    let (expr, aliases) = match item {
        SelectItem::UnnamedExpr(expr) => (expr, Vec::new()),
        SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.clone()]),
        SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
        _ => return None,
    };
    let Expr::Function(function) = expr else { return None };
    let name = name_of(function).filter(|name| is_generator(name))?;
    Some((name, plain_args(function), aliases, function.name.span()))
}

/// The arguments of a call, also named ones, in their order.
fn plain_args(function: &Function) -> Vec<Expr> {
    match &function.args {
        FunctionArguments::List(list) => exprs_of(&list.args),
        _ => Vec::new(),
    }
}

fn exprs_of(args: &[FunctionArg]) -> Vec<Expr> {
    let args = args.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => Some(expr.clone()),
        _ => None,
    });
    args.collect()
}

/// A generator after FROM.
fn from_generator(factor: &TableFactor) -> Option<Mark> {
    let (name, args, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, &args.args, alias),
        TableFactor::Function { name, args, alias, .. } => (name, args, alias),
        _ => return None,
    };
    let [part] = name.0.as_slice() else { return None };
    let name = part.as_ident()?.value.to_ascii_lowercase();
    is_generator(&name).then(|| Mark { name, args: exprs_of(args), outer: false, alone: false, alias: alias.clone() })
}

/// The relation that a generator and what stands before it make; planned by types later, see [`super::planner`].
fn carrier(before: Option<TableFactor>, mark: Mark) -> TableFactor {
    let nothing = TableFactor::TableFunction { expr: place_holder(), alias: None };
    TableFactor::Pivot {
        table: Box::new(before.unwrap_or(nothing)),
        default_on_null: Some(text(&mark.text())),
        aggregate_functions: mark.args.into_iter().map(|expr| ExprWithAlias { expr, alias: None }).collect(),
        value_column: Vec::new(),
        value_source: PivotValueSource::List(Vec::new()),
        alias: mark.alias,
    }
}

/// Relations that are joined, the first two without a condition.
fn joined(before: Option<TableFactor>, relation: TableFactor, joins: Vec<Join>) -> TableFactor {
    let whole = |table: TableWithJoins| TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None };
    let own = if joins.is_empty() { relation } else { whole(TableWithJoins { relation, joins }) };
    let Some(before) = before else { return own };
    let cross = Join { relation: own, global: false, join_operator: JoinOperator::CrossJoin(JoinConstraint::None) };
    whole(TableWithJoins { relation: before, joins: vec![cross] })
}

/// A name with columns `col1`, `col2` …
pub(super) fn numbered(name: Ident, width: usize) -> TableAlias {
    table_alias(name, (1..=width).map(|i| Ident::new(format!("col{i}"))).collect())
}

pub(super) fn table_alias(name: Ident, columns: Vec<Ident>) -> TableAlias {
    let columns = columns.into_iter().map(|name| TableAliasColumnDef { name, data_type: None }).collect();
    TableAlias { explicit: true, name, columns, at: None }
}

pub(super) fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}
