//! `JOIN … USING (k)`: the column `k` is the left side's, of a `RIGHT` join the right side's, and of a `FULL` one whichever side has a value.
//! DataFusion takes the left side's, and does not know it within an expression.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExceptSelectItem, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, OrderByKind, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins, VisitMut,
    VisitorMut, WildcardAdditionalOptions,
};

use super::syntax::{binary, call};
use crate::error::{Code, Error, Result};

/// A relation of the FROM, and the keys that it is joined by.
struct Side {
    name: ObjectName,
    keys: Vec<Ident>,
}

/// A key, and what it is after all joins.
struct Key {
    name: Ident,
    value: Expr,
}

/// Spells out the keys of a query's joins.
pub(super) fn spell_out(query: &mut Query) -> Result<()> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    let mut operators = select.from.iter().flat_map(|from| &from.joins).map(|join| &join.join_operator);
    if !operators.clone().any(uses) {
        return Ok(());
    }
    if !operators.clone().any(keeps_right) && (!operators.all(is_plain) || !can_be_named(&select.from)) {
        return keys_first(select);
    }
    let (mut sides, mut keys) = (Vec::new(), Vec::new());
    for from in &mut select.from {
        joined(from, &mut sides, &mut keys)?;
    }
    let mut outputs = Vec::new();
    for item in std::mem::take(&mut select.projection) {
        match item {
            SelectItem::Wildcard(options) if options == WildcardAdditionalOptions::default() => {
                outputs.extend(keys.iter().map(|key: &Key| key.name.value.clone()));
                expand(select, &sides, &keys);
            }
            SelectItem::UnnamedExpr(Expr::Identifier(name)) if find(&keys, &name).is_some() => {
                outputs.push(name.value.clone());
                let expr = Expr::Identifier(name.clone());
                select.projection.push(SelectItem::ExprWithAlias { expr, alias: name });
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                outputs.push(alias.value.clone());
                select.projection.push(SelectItem::ExprWithAlias { expr, alias });
            }
            other => select.projection.push(other),
        }
    }
    let mut replace = Replace { keys: &keys, depth: 0 };
    // Nothing breaks off.
    let _ = select.projection.visit(&mut replace);
    let _ = select.selection.visit(&mut replace);
    let _ = select.group_by.visit(&mut replace);
    let _ = select.having.visit(&mut replace);
    let _ = select.named_window.visit(&mut replace);
    if let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(exprs) = &mut order_by.kind
    {
        for order in exprs {
            let is_output = matches!(&order.expr, Expr::Identifier(name) if outputs.iter().any(|o| o.eq_ignore_ascii_case(&name.value)));
            if !is_output {
                let _ = order.expr.visit(&mut replace);
            }
        }
    }
    Ok(())
}

/// Subqueries without a name that are joined get one each, or their columns could not be told from each other.
pub(super) fn name_relations(select: &mut Select) {
    let is_join = select.from.len() > 1 || select.from.iter().any(|from| !from.joins.is_empty());
    let relations = select.from.iter_mut().flat_map(|from| {
        std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation))
    });
    for (at, relation) in relations.enumerate().filter(|_| is_join) {
        if let TableFactor::Derived { alias: alias @ None, .. } = relation {
            let name = Ident::new(format!("__trireme_relation_{at}"));
            *alias = Some(TableAlias { explicit: true, name, columns: vec![], at: None });
        }
    }
}

/// Whether a join of this kind has USING.
fn uses(operator: &JoinOperator) -> bool {
    constraint_of(&mut operator.clone()).is_some_and(|constraint| matches!(constraint, JoinConstraint::Using(_)))
}

fn can_be_named(from: &[TableWithJoins]) -> bool {
    let (mut sides, mut keys) = (Vec::new(), Vec::new());
    from.iter().all(|from| joined(&mut from.clone(), &mut sides, &mut keys).is_ok())
}

fn keeps_right(operator: &JoinOperator) -> bool {
    matches!(
        operator,
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) | JoinOperator::FullOuter(c)
            if matches!(c, JoinConstraint::Using(_))
    )
}

fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c) => Some(c),
        _ => None,
    }
}

fn joined(from: &mut TableWithJoins, sides: &mut Vec<Side>, keys: &mut Vec<Key>) -> Result<()> {
    let first = sides.len();
    sides.push(Side { name: name_of(&from.relation)?, keys: vec![] });
    for join in &mut from.joins {
        let right = name_of(&join.relation)?;
        let (is_right, is_full) = match &join.join_operator {
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => (true, false),
            JoinOperator::FullOuter(_) => (false, true),
            _ => (false, false),
        };
        let mut side = Side { name: right, keys: vec![] };
        if let Some(constraint) = constraint_of(&mut join.join_operator)
            && let JoinConstraint::Using(names) = constraint
        {
            let mut on: Option<Expr> = None;
            for name in std::mem::take(names) {
                let Some(name) = name.0.first().and_then(|part| part.as_ident()).cloned() else { continue };
                let right = column(&side.name, &name);
                let left = match find(keys, &name) {
                    Some(key) => key.value.clone(),
                    None if sides.len() - first == 1 => {
                        sides[first].keys.push(name.clone());
                        column(&sides[first].name, &name)
                    }
                    None => {
                        let what = format!("`{}` in USING after several tables", name.value);
                        return Err(refused(&what, "write ON with the table of each column"));
                    }
                };
                let equal = binary(left.clone(), BinaryOperator::Eq, right.clone());
                on = Some(match on {
                    Some(others) => binary(others, BinaryOperator::And, equal),
                    None => equal,
                });
                let value = if is_right {
                    right
                } else if is_full {
                    call("coalesce", vec![left, right])
                } else {
                    left
                };
                side.keys.push(name.clone());
                keys.retain(|key| !key.name.value.eq_ignore_ascii_case(&name.value));
                keys.push(Key { name, value });
            }
            if let Some(on) = on {
                *constraint = JoinConstraint::On(on);
            }
        }
        sides.push(side);
    }
    Ok(())
}

/// `*` over joins that keep the left side's keys: these come first.
fn keys_first(select: &mut Select) -> Result<()> {
    let has_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(options) if *options == WildcardAdditionalOptions::default());
    let joins = || select.from.iter().flat_map(|from| &from.joins);
    if !select.projection.iter().any(has_star)
        || !joins().any(|join| uses(&join.join_operator))
        || !joins().all(|join| is_plain(&join.join_operator))
    {
        return Ok(());
    }
    // Only keys and sides are asked for: the joins stay as they are.
    let (mut sides, mut keys) = (Vec::new(), Vec::new());
    for from in &select.from {
        let mut copy = from.clone();
        if joined(&mut copy, &mut sides, &mut keys).is_err() {
            return Ok(());
        }
    }
    for key in &mut keys {
        key.value = Expr::Identifier(key.name.clone());
    }
    for item in std::mem::take(&mut select.projection) {
        if has_star(&item) { expand(select, &sides, &keys) } else { select.projection.push(item) }
    }
    Ok(())
}

/// Joins whose columns are those of both sides.
fn is_plain(operator: &JoinOperator) -> bool {
    matches!(
        operator,
        JoinOperator::Join(_)
            | JoinOperator::Inner(_)
            | JoinOperator::Left(_)
            | JoinOperator::LeftOuter(_)
            | JoinOperator::CrossJoin(_)
    )
}

fn refused(what: &str, hint: &str) -> Error {
    Error::new(Code::InvalidSql, format!("{what}, beside an outer join that keeps the right side, is not supported"))
        .hint(hint)
}

fn name_of(relation: &TableFactor) -> Result<ObjectName> {
    let name = match relation {
        TableFactor::Table { name, alias, .. } => {
            alias.as_ref().map(|alias| ObjectName::from(vec![alias.name.clone()])).or_else(|| Some(name.clone()))
        }
        TableFactor::Derived { alias, .. } => alias.as_ref().map(|alias| ObjectName::from(vec![alias.name.clone()])),
        _ => None,
    };
    name.ok_or_else(|| refused("a relation without a name", "give it an alias with AS"))
}

fn column(table: &ObjectName, name: &Ident) -> Expr {
    let mut parts: Vec<Ident> = table.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    parts.push(name.clone());
    Expr::CompoundIdentifier(parts)
}

fn find<'a>(keys: &'a [Key], name: &Ident) -> Option<&'a Key> {
    keys.iter().find(|key| key.name.value.eq_ignore_ascii_case(&name.value))
}

/// `*`: keys first, then what else each relation has.
fn expand(select: &mut Select, sides: &[Side], keys: &[Key]) {
    for key in keys {
        let alias = key.name.clone();
        select.projection.push(SelectItem::ExprWithAlias { expr: key.value.clone(), alias });
    }
    for side in sides {
        let mut options = WildcardAdditionalOptions::default();
        if let Some((first, others)) = side.keys.split_first() {
            options.opt_except =
                Some(ExceptSelectItem { first_element: first.clone(), additional_elements: others.to_vec() });
        }
        let kind = SelectItemQualifiedWildcardKind::ObjectName(side.name.clone());
        select.projection.push(SelectItem::QualifiedWildcard(kind, options));
    }
}

/// Puts in a key's value where it stands without a table before it, but not in subqueries.
struct Replace<'a> {
    keys: &'a [Key],
    depth: usize,
}

impl VisitorMut for Replace<'_> {
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
        if let Expr::Identifier(name) = expr
            && self.depth == 0
            && let Some(key) = find(self.keys, name)
        {
            *expr = key.value.clone();
        }
        ControlFlow::Continue(())
    }
}
