//! Aliases that stand for what was selected before, as in `SELECT a + 1 AS b, b * 2 AS c`.

use std::{collections::HashMap, ops::ControlFlow, sync::LazyLock};

use datafusion::{
    common::{DFSchema, Result},
    logical_expr::Expr as Planned,
    sql::sqlparser::ast::{AccessExpr, Expr, GroupByExpr, Query, Select, SelectItem, VisitMut, VisitorMut},
};

use super::{ALIAS, GENERATE, generator_of};
use crate::{
    error::{Code, Error},
    sql::{
        kernel::wrong_call,
        syntax::{marked, name_of, number, place_holder, take, text},
    },
};

/// An expression grows with every alias that stands in it; this many nodes are enough.
const LARGEST: usize = 5_000;

/// Marks names that may be aliases of earlier items.
pub(super) fn mark(select: &mut Select) -> Result<(), Error> {
    let mut aliases: HashMap<String, Expr> = HashMap::new();
    for item in &mut select.projection {
        let expr = match item {
            SelectItem::UnnamedExpr(expr)
            | SelectItem::ExprWithAlias { expr, .. }
            | SelectItem::ExprWithAliases { expr, .. } => expr,
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => continue,
        };
        if !aliases.is_empty() {
            let mut marker = Marker { aliases: &aliases, ..Marker::default() };
            if expr.visit(&mut marker).is_break() {
                return Err(Error::new(
                    Code::InvalidSql,
                    "aliases of this SELECT that refer to each other grow too large",
                )
                .hint("select them in a subquery"));
            }
        }
        note(item, &mut aliases);
    }
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(exprs, _) => exprs.as_slice(),
        GroupByExpr::All(_) => &[],
    };
    let is_grouped = |name: &String| {
        grouped.iter().any(|expr| matches!(expr, Expr::Identifier(group) if group.value.eq_ignore_ascii_case(name)))
    };
    aliases.retain(|name, _| !is_grouped(name));
    // After HAVING a column that is no group is an alias.
    if let Some(having) = &mut select.having {
        let _ = having.visit(&mut Marker { aliases: &aliases, having: true, ..Marker::default() });
    }
    Ok(())
}

/// Keeps what an item's alias means.
fn note(item: &SelectItem, aliases: &mut HashMap<String, Expr>) {
    if let Some((name, args, columns, _)) = generator_of(item) {
        for (i, column) in columns.into_iter().enumerate() {
            let mut values = vec![place_holder(), text(&name), number(&i.to_string())];
            values.extend(args.iter().cloned());
            aliases.insert(column.value.to_ascii_lowercase(), marked(GENERATE, values));
        }
    } else if let SelectItem::ExprWithAlias { expr, alias } = item {
        aliases.insert(alias.value.to_ascii_lowercase(), expr.clone());
    }
}

static NONE: LazyLock<HashMap<String, Expr>> = LazyLock::new(HashMap::new);

impl Default for Marker<'_> {
    fn default() -> Self {
        Self {
            aliases: &NONE,
            lambdas: Vec::new(),
            chains: Vec::new(),
            queries: 0,
            size: 0,
            having: false,
            aggregates: 0,
        }
    }
}

struct Marker<'a> {
    aliases: &'a HashMap<String, Expr>,
    lambdas: Vec<Vec<String>>,
    /// What is accessed in the values that the visit is in, as it was written.
    chains: Vec<Vec<AccessExpr>>,
    /// How deep in subqueries the visit is; they know no aliases.
    queries: usize,
    size: usize,
    /// An alias means what it stands for, whatever columns there are.
    having: bool,
    /// How deep in aggregates the visit is: there a name after HAVING is a column's.
    aggregates: usize,
}

/// The usual aggregates; an alias in another one is an aggregate of an aggregate, which is refused.
const AGGREGATES: [&str; 36] = [
    "any",
    "any_value",
    "approx_count_distinct",
    "approx_percentile",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "collect_list",
    "collect_set",
    "corr",
    "count",
    "count_if",
    "every",
    "first",
    "first_value",
    "grouping",
    "last",
    "last_value",
    "max",
    "max_by",
    "mean",
    "median",
    "min",
    "min_by",
    "mode",
    "percentile",
    "percentile_approx",
    "some",
    "std",
    "stddev",
    "sum",
    "variance",
];

fn is_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => name_of(function).is_some_and(|name| AGGREGATES.contains(&name.as_str())),
        _ => false,
    }
}

impl VisitorMut for Marker<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.aggregates += usize::from(is_aggregate(expr));
        if let Expr::CompoundFieldAccess { access_chain, .. } = expr {
            self.chains.push(access_chain.clone());
        }
        if let Expr::Lambda(lambda) = expr {
            self.lambdas.push(lambda.params.iter().map(|p| p.name.value.to_ascii_lowercase()).collect());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.aggregates -= usize::from(is_aggregate(expr));
        match expr {
            // The names behind dots are fields and columns, never aliases.
            Expr::CompoundFieldAccess { access_chain, .. } => {
                let written = self.chains.pop().unwrap_or_default();
                for (access, written) in access_chain.iter_mut().zip(written) {
                    if let AccessExpr::Dot(_) = access {
                        *access = written;
                    }
                }
            }
            Expr::Lambda(_) => {
                self.lambdas.pop();
            }
            Expr::Identifier(name) if self.queries == 0 => {
                let name = name.value.to_ascii_lowercase();
                if self.lambdas.iter().flatten().any(|variable| *variable == name) {
                    return ControlFlow::Continue(());
                }
                if let Some(meant) = self.aliases.get(&name) {
                    self.size += size(meant);
                    if self.size > LARGEST {
                        return ControlFlow::Break(());
                    }
                    if self.having && self.aggregates > 0 {
                        return ControlFlow::Continue(());
                    }
                    if self.having {
                        *expr = Expr::Nested(Box::new(meant.clone()));
                        return ControlFlow::Continue(());
                    }
                    *expr = marked(ALIAS, vec![place_holder(), take(expr), Expr::Nested(Box::new(meant.clone()))]);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn size(expr: &Expr) -> usize {
    struct Count(usize);
    impl datafusion::sql::sqlparser::ast::Visitor for Count {
        type Break = ();
        fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
    }
    let mut count = Count(0);
    let _ = datafusion::sql::sqlparser::ast::Visit::visit(expr, &mut count);
    count.0
}

/// A column goes before an alias.
pub(super) fn choose(args: Vec<Planned>, schema: &DFSchema) -> Result<Planned> {
    let Ok([_, column, meant]) = <[Planned; 3]>::try_from(args) else {
        return Err(wrong_call("a name and what it means"));
    };
    let name = match &column {
        Planned::Column(column) => column.name.clone(),
        Planned::OuterReferenceColumn(_, column) => column.name.clone(),
        _ => return Ok(column),
    };
    if !schema.fields_with_unqualified_name(&name).is_empty() {
        return Ok(column);
    }
    if meant.is_volatile() {
        return Err(wrong_call(format!(
            "`{name}` changes from call to call, so it can't be used again in the same SELECT: select it in a subquery"
        )));
    }
    Ok(meant)
}
