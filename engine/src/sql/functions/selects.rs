//! What a whole SELECT must be rewritten for: `json_tuple`, which gives several columns, and `GROUP BY window(…)`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::sql::syntax::{arguments_mut, binary, call, name_of, take};

/// Rewrites a SELECT before its expressions are.
pub(in crate::sql) fn rewrite(select: &mut Select) {
    json_tuples(select);
    windows(select);
}

/// `json_tuple(json, 'a', 'b') AS (x, y)` as one expression for each column.
fn json_tuples(select: &mut Select) {
    let mut items = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        let (expr, aliases): (&Expr, Vec<Ident>) = match &item {
            SelectItem::UnnamedExpr(expr) => (expr, vec![]),
            SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.clone()]),
            SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
            _ => {
                items.push(item);
                continue;
            }
        };
        let Expr::Function(function) = expr else {
            items.push(item);
            continue;
        };
        if name_of(function).as_deref() != Some("json_tuple") {
            items.push(item);
            continue;
        }
        let mut function = function.clone();
        let mut args = arguments_mut(&mut function).into_iter().map(take);
        let Some(json) = args.next() else {
            items.push(item);
            continue;
        };
        let fields: Vec<Expr> = args.collect();
        if fields.is_empty() || (!aliases.is_empty() && aliases.len() != fields.len()) {
            items.push(item);
            continue;
        }
        for (i, field) in fields.into_iter().enumerate() {
            let alias = aliases.get(i).cloned().unwrap_or_else(|| Ident::new(format!("c{i}")));
            let expr = call("json_tuple_field", vec![json.clone(), field]);
            items.push(SelectItem::ExprWithAlias { expr, alias });
        }
    }
    select.projection = items;
}

/// A call of `window` with its arguments.
fn window_of(expr: &Expr) -> Option<Vec<Expr>> {
    let Expr::Function(function) = expr else { return None };
    if name_of(function).as_deref() != Some("window") {
        return None;
    }
    let mut function = function.clone();
    let args: Vec<Expr> = arguments_mut(&mut function).into_iter().map(take).collect();
    (args.len() >= 2).then_some(args)
}

/// In `GROUP BY window(ts, …)`, `window` is what the call gives; rows without a time are in no window.
fn windows(select: &mut Select) {
    let GroupByExpr::Expressions(groups, _) = &mut select.group_by else { return };
    let Some((at, args)) = groups.iter().enumerate().find_map(|(i, expr)| Some((i, window_of(expr)?))) else { return };
    let overlap = args.len() > 2 && args[1] != args[2];
    if !overlap {
        let is_known = Expr::IsNotNull(Box::new(args[0].clone()));
        let window = groups[at].clone();
        select.selection = Some(match select.selection.take() {
            Some(condition) => binary(Expr::Nested(Box::new(condition)), BinaryOperator::And, is_known),
            None => is_known,
        });
        let mut names = WindowNames { window };
        for item in &mut select.projection {
            // It keeps its name.
            if let SelectItem::UnnamedExpr(expr) = item {
                let alias = match &*expr {
                    Expr::CompoundIdentifier(parts) if parts.len() == 2 && is_window(&parts[0]) => {
                        Some(parts[1].clone())
                    }
                    Expr::Identifier(name) if is_window(name) => Some(name.clone()),
                    call if *call == names.window => Some(Ident::new("window")),
                    _ => None,
                };
                if let Some(alias) = alias {
                    *item = SelectItem::ExprWithAlias { expr: take(expr), alias };
                }
            }
            let _ = item.visit(&mut names);
        }
        if let Some(having) = &mut select.having {
            let _ = having.visit(&mut names);
        }
        return;
    }
    let written = std::mem::replace(&mut groups[at], Expr::Identifier(Ident::new("window")));
    // Each row stands once for every window that it is in.
    let mut inner = select.clone();
    let rows = call("explode", vec![call("sliding_windows", args)]);
    inner.projection = vec![
        SelectItem::Wildcard(WildcardAdditionalOptions::default()),
        SelectItem::ExprWithAlias { expr: rows, alias: Ident::new("window") },
    ];
    inner.group_by = GroupByExpr::Expressions(vec![], vec![]);
    inner.having = None;
    inner.distinct = None;
    inner.sort_by = vec![];
    let alias = only_name(&select.from).map(|name| TableAlias { explicit: true, name, columns: vec![], at: None });
    let body = Box::new(SetExpr::Select(Box::new(inner)));
    let subquery = Query {
        with: None,
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    };
    let relation = TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias, sample: None };
    select.from = vec![TableWithJoins { relation, joins: vec![] }];
    select.selection = None;
    select.lateral_views = vec![];
    let mut calls = WindowCalls { written };
    for item in &mut select.projection {
        let _ = item.visit(&mut calls);
    }
}

/// The same in a query's ORDER BY.
pub(in crate::sql) fn rewrite_order(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let GroupByExpr::Expressions(groups, _) = &select.group_by else { return };
    let window = groups.iter().find(|group| window_of(group).is_some_and(|args| args.len() == 2 || args[1] == args[2]));
    let Some(window) = window.cloned() else { return };
    if let Some(order_by) = &mut query.order_by {
        let _ = order_by.visit(&mut WindowNames { window });
    }
}

/// The name of the only table.
fn only_name(from: &[TableWithJoins]) -> Option<Ident> {
    let [TableWithJoins { relation, joins }] = from else { return None };
    if !joins.is_empty() {
        return None;
    }
    match relation {
        TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => Some(alias.name.clone()),
            None => name.0.last()?.as_ident().cloned(),
        },
        TableFactor::Derived { alias, .. } => alias.as_ref().map(|alias| alias.name.clone()),
        _ => None,
    }
}

fn is_window(name: &Ident) -> bool {
    name.value.eq_ignore_ascii_case("window")
}

/// Puts the call where `window` stands.
struct WindowNames {
    window: Expr,
}

impl VisitorMut for WindowNames {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) if is_window(name) => *expr = self.window.clone(),
            Expr::CompoundIdentifier(parts) if parts.len() == 2 && is_window(&parts[0]) => {
                let field = AccessExpr::Dot(Expr::Identifier(parts[1].clone()));
                *expr = Expr::CompoundFieldAccess { root: Box::new(self.window.clone()), access_chain: vec![field] };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Puts `window` where the call stands.
struct WindowCalls {
    written: Expr,
}

impl VisitorMut for WindowCalls {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if *expr == self.written {
            *expr = Expr::Identifier(Ident::new("window"));
        }
        ControlFlow::Continue(())
    }
}
