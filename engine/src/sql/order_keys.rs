//! `ORDER BY t.x` where the SELECT has an item `… AS x`: the two can't be told from each other once they stand beside each other, so what is ordered by
//! becomes a column with a name of its own, in a subquery.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
};

use datafusion::sql::sqlparser::ast::{
    ExceptSelectItem, Expr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor, Value, ValueWithSpan,
    Visit, Visitor, WildcardAdditionalOptions,
};

use super::syntax::select_all;

/// Spells such a query out.
pub(super) fn spell_out(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let Some(OrderByKind::Expressions(keys)) = query.order_by.as_ref().map(|order_by| &order_by.kind) else { return };
    let items = aliased(select);
    let meets = |expr: &Expr| expr.visit(&mut Meets { items: &items }).is_break();
    if select.distinct.is_some() || !keys.iter().any(|key| meets(&key.expr)) {
        return;
    }

    let aliases: HashSet<String> = items.into_keys().collect();
    let mut hidden = Vec::new();
    let mut inner = query.clone();
    (inner.with, inner.order_by, inner.limit_clause, inner.fetch) = (None, None, None, None);
    let (SetExpr::Select(items), Some(OrderByKind::Expressions(keys))) =
        (inner.body.as_mut(), query.order_by.as_mut().map(|order_by| &mut order_by.kind))
    else {
        return;
    };
    for key in keys {
        if is_of_result(&key.expr, &aliases) {
            continue;
        }
        let alias = Ident::new(format!("__trireme_order_{}", hidden.len()));
        let expr = std::mem::replace(&mut key.expr, Expr::Identifier(alias.clone()));
        items.projection.push(SelectItem::ExprWithAlias { expr, alias: alias.clone() });
        hidden.push(alias);
    }

    let mut outer = select_all();
    if let (SetExpr::Select(all), Some((first, others))) = (&mut outer, hidden.split_first()) {
        let options = WildcardAdditionalOptions {
            opt_except: Some(ExceptSelectItem { first_element: first.clone(), additional_elements: others.to_vec() }),
            ..WildcardAdditionalOptions::default()
        };
        all.projection = vec![SelectItem::Wildcard(options)];
        let subquery = Box::new(inner);
        let relation = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
        all.from = vec![datafusion::sql::sqlparser::ast::TableWithJoins { relation, joins: vec![] }];
    }
    *query.body = outer;
}

/// What aliases stand for.
fn aliased(select: &Select) -> HashMap<String, &Expr> {
    let items = select.projection.iter();
    let named = items.filter_map(|item| match item {
        SelectItem::ExprWithAlias { alias, expr } => Some((alias.value.to_ascii_lowercase(), expr)),
        _ => None,
    });
    named.collect()
}

/// Whether a key is a place in the result, or an alias there.
fn is_of_result(expr: &Expr, aliases: &HashSet<String>) -> bool {
    match expr {
        Expr::Identifier(name) => aliases.contains(&name.value.to_ascii_lowercase()),
        Expr::Value(ValueWithSpan { value: Value::Number(..), .. }) => true,
        _ => false,
    }
}

/// Finds a column that is named with its table, and whose name an alias has that stands for something else.
struct Meets<'a> {
    items: &'a HashMap<String, &'a Expr>,
}

impl Visitor for Meets<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => {
                match self.items.get(&parts[1].value.to_ascii_lowercase()) {
                    Some(item) if *item != expr => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
