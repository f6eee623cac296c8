//! PARTITION BY without columns that tell nothing apart: those that a condition below binds to a constant, and those that are there twice.
//!
//! DataFusion knows such columns as constants where it plans and forgets them where the plan runs: it then misses them in the order that the window
//! wants (TPC-DS 47 and 57).

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    common::{Column, JoinType, Result, tree_node::Transformed},
    logical_expr::{
        BinaryExpr, Expr, LogicalPlan, Operator, Window, expr_rewriter::NamePreserver, utils::split_conjunction,
    },
    optimizer::{OptimizerConfig, OptimizerRule, optimizer::ApplyOrder},
};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct WindowKeys;

impl OptimizerRule for WindowKeys {
    fn name(&self) -> &str {
        "window_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Window(window) = plan else { return Ok(Transformed::no(plan)) };
        let constants = constants(&window.input);
        let needless = |keys: &[Expr]| {
            keys.iter().enumerate().any(|(i, key)| is_constant(key, &constants) || keys[..i].contains(key))
        };
        if !window.window_expr.iter().any(|expr| partition_of(expr).is_some_and(needless)) {
            return Ok(Transformed::no(LogicalPlan::Window(window)));
        }
        let names = NamePreserver::new_for_projection();
        let exprs = window.window_expr.iter().map(|expr| {
            let name = names.save(expr);
            name.restore(with_keys(expr.clone(), &constants))
        });
        let plan = Window::try_new(exprs.collect(), Arc::clone(&window.input))?;
        Ok(Transformed::yes(LogicalPlan::Window(plan)))
    }
}

fn is_constant(key: &Expr, constants: &HashSet<Column>) -> bool {
    match key {
        Expr::Column(column) => constants.contains(column),
        Expr::Literal(..) => true,
        _ => false,
    }
}

fn partition_of(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::WindowFunction(call) => Some(&call.params.partition_by),
        Expr::Alias(alias) => partition_of(&alias.expr),
        _ => None,
    }
}

fn with_keys(expr: Expr, constants: &HashSet<Column>) -> Expr {
    match expr {
        Expr::WindowFunction(mut call) => {
            let mut kept: Vec<Expr> = Vec::new();
            for key in std::mem::take(&mut call.params.partition_by) {
                if !is_constant(&key, constants) && !kept.contains(&key) {
                    kept.push(key);
                }
            }
            call.params.partition_by = kept;
            Expr::WindowFunction(call)
        }
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(with_keys(*alias.expr, constants));
            Expr::Alias(alias)
        }
        other => other,
    }
}

/// The columns of a plan that have the same value in all rows.
fn constants(plan: &LogicalPlan) -> HashSet<Column> {
    match plan {
        LogicalPlan::Filter(node) => {
            let mut found = constants(&node.input);
            found.extend(split_conjunction(&node.predicate).into_iter().filter_map(bound));
            found
        }
        LogicalPlan::TableScan(scan) => scan.filters.iter().flat_map(split_conjunction).filter_map(bound).collect(),
        LogicalPlan::Projection(node) => {
            let below = constants(&node.input);
            let same = |expr: &Expr| match expr {
                Expr::Alias(alias) => is_constant(&alias.expr, &below),
                other => is_constant(other, &below),
            };
            let columns = node.expr.iter().zip(node.schema.iter());
            columns.filter(|(expr, _)| same(expr)).map(|(_, column)| Column::from(column)).collect()
        }
        LogicalPlan::SubqueryAlias(node) => {
            let below = constants(&node.input);
            let columns = node.input.schema().iter().zip(node.schema.iter());
            columns
                .filter(|(column, _)| below.contains(&Column::from(*column)))
                .map(|(_, column)| Column::from(column))
                .collect()
        }
        LogicalPlan::Aggregate(node) => {
            let below = constants(&node.input);
            let columns = node.group_expr.iter().zip(node.schema.iter());
            columns.filter(|(key, _)| is_constant(key, &below)).map(|(_, column)| Column::from(column)).collect()
        }
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::Inner => constants(&join.left).into_iter().chain(constants(&join.right)).collect(),
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => constants(&join.left),
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => constants(&join.right),
            _ => HashSet::new(),
        },
        LogicalPlan::Window(node) => constants(&node.input),
        LogicalPlan::Sort(node) => constants(&node.input),
        LogicalPlan::Limit(node) => constants(&node.input),
        LogicalPlan::Repartition(node) => constants(&node.input),
        _ => HashSet::new(),
    }
}

/// The column of `column = constant`.
fn bound(expr: &Expr) -> Option<Column> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return None };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(..)) | (Expr::Literal(..), Expr::Column(column)) => Some(column.clone()),
        _ => None,
    }
}
