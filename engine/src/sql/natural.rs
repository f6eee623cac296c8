//! `NATURAL JOIN`: the columns that both sides have are keys. They come first, once, and of a RIGHT or FULL join they are whichever side's has a value.

use std::sync::Arc;

use datafusion::{
    common::{Column, JoinType, Result},
    functions::core::coalesce,
    logical_expr::{
        Expr, LogicalPlan, LogicalPlanBuilder,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
    },
    sql::sqlparser::ast::{JoinConstraint, JoinOperator, Select, TableFactor, TableWithJoins},
};

use super::kernel::wrong_call;

/// Plans natural joins.
#[derive(Debug)]
pub(super) struct NaturalJoins;

/// Makes a relation of each natural join, with what stands before it.
pub(super) fn wrap(select: &mut Select) {
    for from in &mut select.from {
        if !from.joins.iter().any(|join| type_of(&join.join_operator).is_some()) {
            continue;
        }
        let mut wrapped = TableWithJoins { relation: from.relation.clone(), joins: vec![] };
        for join in std::mem::take(&mut from.joins) {
            let is_natural = type_of(&join.join_operator).is_some();
            if is_natural && !wrapped.joins.is_empty() {
                wrapped = TableWithJoins { relation: nested(wrapped), joins: vec![] };
            }
            wrapped.joins.push(join);
            if is_natural {
                wrapped = TableWithJoins { relation: nested(wrapped), joins: vec![] };
            }
        }
        *from = wrapped;
    }
}

fn nested(of: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin { table_with_joins: Box::new(of), alias: None }
}

fn type_of(operator: &JoinOperator) -> Option<JoinType> {
    let (constraint, join_type) = match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) => (c, JoinType::Inner),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (c, JoinType::Left),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (c, JoinType::Right),
        JoinOperator::FullOuter(c) => (c, JoinType::Full),
        _ => return None,
    };
    matches!(constraint, JoinConstraint::Natural).then_some(join_type)
}

impl RelationPlanner for NaturalJoins {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::NestedJoin { table_with_joins, alias } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let join_type = match table_with_joins.joins.as_slice() {
            [join] => type_of(&join.join_operator),
            _ => None,
        };
        let (Some(join_type), TableWithJoins { relation, mut joins }) = (join_type, table_with_joins.as_ref().clone())
        else {
            return Ok(RelationPlanning::Original(Box::new(TableFactor::NestedJoin { table_with_joins, alias })));
        };
        let left = context.plan(relation)?;
        let Some(join) = joins.pop() else { return Err(wrong_call("a join needs two relations")) };
        let right = context.plan(join.relation)?;
        let plan = joined(left, right, join_type)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn joined(left: LogicalPlan, right: LogicalPlan, join_type: JoinType) -> Result<LogicalPlan> {
    let (l, r) = (Arc::clone(left.schema()), Arc::clone(right.schema()));
    let (mut pairs, mut keys) = (Vec::new(), Vec::new());
    for column in l.columns() {
        let twins: Vec<Column> = r.columns().into_iter().filter(|other| other.name == column.name).collect();
        match twins.as_slice() {
            [] => continue,
            [twin] if l.columns().iter().filter(|other| other.name == column.name).count() == 1 => {
                keys.push(match join_type {
                    JoinType::Right => Expr::Column(twin.clone()),
                    JoinType::Full => {
                        let either = [&column, twin].map(|column| Expr::Column(column.clone()));
                        coalesce().call(either.to_vec()).alias(&column.name)
                    }
                    _ => Expr::Column(column.clone()),
                });
                pairs.push((column, twin.clone()));
            }
            _ => {
                return Err(wrong_call(format!(
                    "NATURAL JOIN: a side has several columns `{}`; write USING",
                    column.name
                )));
            }
        }
    }
    let others = l.columns().into_iter().chain(r.columns());
    let others = others.filter(|column| !pairs.iter().any(|(l, r)| column == l || column == r));
    let columns: Vec<Expr> = keys.into_iter().chain(others.map(Expr::Column)).collect();
    let (on_left, on_right): (Vec<Column>, Vec<Column>) = pairs.into_iter().unzip();
    let left = LogicalPlanBuilder::from(left);
    let joined = match on_left.is_empty() {
        true => left.cross_join(right)?,
        false => left.join(right, join_type, (on_left, on_right), None)?,
    };
    joined.project(columns)?.build()
}
