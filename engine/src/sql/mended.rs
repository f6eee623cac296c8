//! Plans that DataFusion's optimizer would change in meaning, in a form that it keeps.

use std::sync::Arc;

use datafusion::{
    common::{
        DFSchema, Result,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{
        BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator,
        utils::{conjunction, split_conjunction_owned},
    },
};

use super::subqueries::same;

/// The plan with the same meaning after the optimizer's work.
pub(super) fn mended(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = kept_aggregates(plan, false)?;
    let has_join = plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(_))))?;
    if has_join { keys_with_nulls(plan) } else { Ok(plan) }
}

/// `PushDownFilter` puts a condition that is, or becomes, constant (`SELECT * FROM (SELECT 1 AS c, max(x) FROM t) WHERE c = 2`, `LEFT ANTI JOIN (SELECT
/// max(x) FROM t) ON FALSE`) below an aggregate without groups, which then gives its row all the same. It does not go below a limit, and one row is all
/// that there is.
fn kept_aggregates(plan: LogicalPlan, filtered: bool) -> Result<LogicalPlan> {
    let filtered = filtered || matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
    let plan = plan.map_children(|child| kept_aggregates(child, filtered).map(Transformed::yes))?.data;
    match &plan {
        LogicalPlan::Aggregate(aggregate) if filtered && aggregate.group_expr.is_empty() => {
            LogicalPlanBuilder::from(plan).limit(0, Some(1))?.build()
        }
        _ => Ok(plan),
    }
}

/// A join by `<=>` becomes one by `=` where `ExtractEquijoinPredicate` or `EliminateCrossJoin` puts it together with others, and `=` becomes `<=>`. So it is
/// written as two equalities.
fn keys_with_nulls(plan: LogicalPlan) -> Result<LogicalPlan> {
    let done = plan.transform_up(|node| match node {
        LogicalPlan::Filter(mut filter) if has_null_key(&filter.predicate) => {
            let schema = Arc::clone(filter.input.schema());
            filter.predicate = spelled_out(filter.predicate, &schema)?;
            Ok(Transformed::yes(LogicalPlan::Filter(filter)))
        }
        LogicalPlan::Join(mut join) if join.filter.as_ref().is_some_and(has_null_key) => {
            let schema = join.left.schema().join(join.right.schema())?;
            join.filter = join.filter.take().map(|filter| spelled_out(filter, &schema)).transpose()?;
            Ok(Transformed::yes(LogicalPlan::Join(join)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(done?.data)
}

fn is_null_key(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsNotDistinctFrom, right }) => {
            !left.column_refs().is_empty() && !right.column_refs().is_empty()
        }
        _ => false,
    }
}

fn has_null_key(expr: &Expr) -> bool {
    let mut found = false;
    // Nothing fails.
    let _ = expr.apply(|expr| {
        found |= is_null_key(expr);
        let goes_on = matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }));
        Ok(if goes_on { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Jump })
    });
    found
}

fn spelled_out(predicate: Expr, schema: &DFSchema) -> Result<Expr> {
    let mut conjuncts = Vec::new();
    for conjunct in split_conjunction_owned(predicate) {
        match conjunct {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsNotDistinctFrom, right })
                if !left.column_refs().is_empty() && !right.column_refs().is_empty() =>
            {
                let (l, r) = (left.get_type(schema)?, right.get_type(schema)?);
                if l == r {
                    conjuncts.extend(same(*left, *right, &l)?);
                } else {
                    conjuncts.push(Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsNotDistinctFrom, right }));
                }
            }
            other => conjuncts.push(other),
        }
    }
    Ok(conjunction(conjuncts).unwrap_or(datafusion::logical_expr::lit(true)))
}
