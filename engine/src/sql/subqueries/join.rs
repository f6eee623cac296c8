//! Joins with subqueries in their condition, and LATERAL ones.

use std::sync::Arc;

use datafusion::{
    common::{Column, JoinType, Result},
    logical_expr::{
        Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder,
        utils::{conjunction, split_conjunction_owned},
    },
};

use super::{
    Flattener,
    domain::Domain,
    has_subquery,
    lookup::{plain_zero, same},
    outer_columns, restored,
};
use crate::sql::kernel::wrong_call;

impl Flattener<'_> {
    pub(super) fn join(&self, join: Join) -> Result<LogicalPlan> {
        if is_lateral(&join.right) {
            return self.lateral(join);
        }
        let has = join.filter.as_ref().is_some_and(has_subquery)
            || join.on.iter().any(|(left, right)| has_subquery(left) || has_subquery(right));
        if !has {
            return Ok(LogicalPlan::Join(join));
        }
        let mut conditions: Vec<Expr> = join.on.iter().map(|(left, right)| left.clone().eq(right.clone())).collect();
        conditions.extend(join.filter.clone().map(split_conjunction_owned).unwrap_or_default());
        let (with, without): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(has_subquery);
        if join.join_type == JoinType::Inner {
            let builder = LogicalPlanBuilder::from(join.left);
            let right = Arc::unwrap_or_clone(join.right);
            let joined = match conjunction(without) {
                None => builder.cross_join(right)?.build()?,
                Some(condition) => builder.join_on(right, JoinType::Inner, [condition])?.build()?,
            };
            let Some(predicate) = conjunction(with) else { return Ok(joined) };
            return self.filter(Filter::try_new(predicate, Arc::new(joined))?);
        }
        self.outer_join(join, with, without)
    }

    /// A condition with a subquery becomes a column of the side that it is about.
    fn outer_join(&self, join: Join, with: Vec<Expr>, without: Vec<Expr>) -> Result<LogicalPlan> {
        let schema = Arc::clone(&join.schema);
        let (mut left, mut right) = (Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right));
        let mut conditions = without;
        for condition in with {
            let columns = self.columns_of(&condition)?;
            let of_left = columns.iter().all(|column| left.schema().has_column(column));
            let of_right = columns.iter().all(|column| right.schema().has_column(column));
            let side = match (of_left, of_right) {
                (true, _) => &mut left,
                (_, true) => &mut right,
                _ => {
                    return Err(wrong_call(
                        "a subquery in the ON of an outer join can't be about columns of both sides",
                    ));
                }
            };
            let value = self.expr(condition, side, false)?;
            self.with_single_rows(side)?;
            let name = self.name();
            let mut columns: Vec<Expr> =
                side.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
            columns.push(value.alias(name.as_str()));
            *side = LogicalPlanBuilder::from(std::mem::take(side)).project(columns)?.build()?;
            conditions.push(Expr::Column(Column::new_unqualified(name)));
        }
        let plan = LogicalPlanBuilder::from(left).join_on(right, join.join_type, conditions)?.build()?;
        restored(plan, &schema)
    }

    /// The columns of the row that an expression with subqueries needs.
    fn columns_of(&self, expr: &Expr) -> Result<Vec<Column>> {
        use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
        let mut columns: Vec<Column> = expr.column_refs().into_iter().cloned().collect();
        expr.apply(|expr| {
            let subquery = match expr {
                Expr::ScalarSubquery(subquery) => subquery,
                Expr::Exists(exists) => &exists.subquery,
                Expr::InSubquery(membership) => &membership.subquery,
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            columns.extend(outer_columns(&subquery.subquery)?);
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(columns)
    }

    /// `left JOIN LATERAL (…)`.
    fn lateral(&self, join: Join) -> Result<LogicalPlan> {
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
            return Err(wrong_call(format!("LATERAL can't stand in a {} join", join.join_type)));
        }
        let (left, right) = (Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right));
        let outer = self.outer_of(&right, &left)?;
        let mut conditions: Vec<Expr> = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).collect();
        conditions.extend(join.filter.clone());
        let right = if outer.is_empty() {
            unwrapped(right)?
        } else {
            let domain = Domain::of(&left, outer, Vec::new())?;
            let (plan, keys) = self.within(&right, &domain)?;
            for (i, key) in domain.keys.iter().enumerate() {
                let key = plain_zero(key.clone(), left.schema())?;
                conditions.extend(same(key, Expr::Column(keys[i].clone()), &domain.types[i])?);
            }
            plan
        };
        let builder = LogicalPlanBuilder::from(left);
        let joined = match (join.join_type, conditions.is_empty()) {
            (JoinType::Inner, true) => builder.cross_join(right)?.build()?,
            (join_type, _) => builder.join_on(right, join_type, conditions)?.build()?,
        };
        // A condition may have subqueries of its own.
        let joined = match joined {
            LogicalPlan::Join(inner) => self.join(inner)?,
            other => other,
        };
        restored(joined, &join.schema)
    }
}

fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        LogicalPlan::Projection(node) => is_lateral(&node.input),
        _ => false,
    }
}

/// Without the mark of what is lateral.
fn unwrapped(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Subquery(node) => Arc::unwrap_or_clone(node.subquery),
        LogicalPlan::SubqueryAlias(node) => {
            LogicalPlanBuilder::from(unwrapped(Arc::unwrap_or_clone(node.input))?).alias(node.alias)?.build()?
        }
        LogicalPlan::Projection(node) => {
            LogicalPlanBuilder::from(unwrapped(Arc::unwrap_or_clone(node.input))?).project(node.expr)?.build()?
        }
        other => other,
    })
}
