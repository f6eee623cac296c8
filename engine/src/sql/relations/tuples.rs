//! Tuples that are compared with a list or with a subquery's rows.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Ident, Query, Select, SelectFlavor, SelectItem, SetExpr, TableFactor,
    TableWithJoins, helpers::attached_token::AttachedToken,
};

use super::{
    TUPLE,
    from::{nested, table_alias},
};
use crate::sql::syntax::{binary, call, text};

/// `(a, b) IN ((1, 2), (3, 4))`: structs are the same where their fields are, NULLs included.
pub(super) fn compare_tuples(value: &Expr, list: &[Expr]) -> Option<Expr> {
    let Expr::Tuple(values) = value else { return None };
    let mut any: Option<Expr> = None;
    for item in list {
        let Expr::Tuple(items) = item else { return None };
        if items.len() != values.len() {
            return None;
        }
        let same = values.iter().zip(items).map(|(value, item)| {
            let sides = (nested(value.clone()), nested(item.clone()));
            nested(binary(sides.0, BinaryOperator::Spaceship, sides.1))
        });
        let all = nested(same.reduce(|left, right| binary(left, BinaryOperator::And, right))?);
        any = Some(match any {
            Some(any) => binary(any, BinaryOperator::Or, all),
            None => all,
        });
    }
    any
}

/// `(a, b) IN (SELECT x, y …)`: structs on both sides, which the planner takes for one value; see [`TUPLE`].
pub(super) fn compare_tuple(value: &mut Expr, subquery: &mut Box<Query>) {
    let Expr::Tuple(values) = value else { return };
    let names: Vec<Ident> = (1..=values.len()).map(|i| Ident::new(format!("{TUPLE}{i}"))).collect();
    let structs = |values: Vec<Expr>| {
        let named = names.iter().zip(values).flat_map(|(name, value)| [text(&name.value), value]);
        call("named_struct", named.collect())
    };
    let columns = names.iter().cloned().map(Expr::Identifier).collect();
    let item = SelectItem::ExprWithAlias { expr: structs(columns), alias: Ident::new(format!("{TUPLE}row")) };
    let inner = std::mem::replace(subquery, Box::new(empty_query()));
    let relation = TableFactor::Derived {
        lateral: false,
        subquery: inner,
        alias: Some(table_alias(Ident::new(format!("{TUPLE}rows")), names.clone())),
        sample: None,
    };
    let from = vec![TableWithJoins { relation, joins: Vec::new() }];
    **subquery = query_of(vec![item], from);
    let values = std::mem::take(values);
    *value = structs(values);
}

fn empty_query() -> Query {
    query_of(Vec::new(), Vec::new())
}

pub(super) fn query_of(projection: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Query {
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        window_before_qualify: false,
        qualify: None,
        value_table_mode: None,
        connect_by: vec![],
        flavor: SelectFlavor::Standard,
    };
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}
