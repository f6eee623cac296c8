//! Keys of joins, sorts and windows with which DataFusion's planner would fail: they become columns with names of their own.

use std::sync::Arc;

use datafusion::{
    common::{
        Column, Result,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        Expr, Join, LogicalPlan, LogicalPlanBuilder, Sort, Window, build_join_schema, expr_rewriter::NamePreserver,
    },
    optimizer::{OptimizerConfig, OptimizerRule, optimizer::ApplyOrder},
};

/// Keys of joins that are expressions.
///
/// DataFusion 55 puts a projection with them below the join when it plans operators. Where the sides have columns of one name it gives each side one
/// name, and fails if a side is a join itself (`Schema contains duplicate qualified field name left.id`); and it looks for a key by the name that it
/// had before its columns got their tables' names (`No field named "… __datafusion_extracted_1 …"`).
#[derive(Debug)]
pub(crate) struct JoinKeys;

impl OptimizerRule for JoinKeys {
    fn name(&self) -> &str {
        "join_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
        let is_plain = |(left, right): &(Expr, Expr)| left.try_as_col().is_some() && right.try_as_col().is_some();
        if join.on.iter().all(is_plain) || !may_meet(&join) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }

        let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
        let (left_keys, right_keys): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
        let (left, left_keys) = with_keys(&join.left, left_keys, config)?;
        let (right, right_keys) = with_keys(&join.right, right_keys, config)?;
        let schema = build_join_schema(left.schema(), right.schema(), &join.join_type)?;
        let on = left_keys.into_iter().zip(right_keys).collect();
        let keyed = Join { left: Arc::new(left), right: Arc::new(right), on, schema: Arc::new(schema), ..join };
        Ok(Transformed::yes(LogicalPlanBuilder::from(LogicalPlan::Join(keyed)).project(columns)?.build()?))
    }
}

/// Whether a column of one side, or a key there, may be taken for one of the other, or is not found by the name that the key has for it.
fn may_meet(join: &Join) -> bool {
    let (left, right) = (join.left.schema().columns(), join.right.schema().columns());
    let meet = |l: &Column, r: &Column| {
        l.name == r.name && (l.relation == r.relation || l.relation.is_none() || r.relation.is_none())
    };
    let is_known =
        |key: &Expr, columns: &[Column]| key.column_refs().into_iter().all(|column| columns.contains(column));
    let are_known = join.on.iter().all(|(l, r)| is_known(l, &left) && is_known(r, &right));
    let names = |(l, r): &(Expr, Expr)| (l.schema_name().to_string(), r.schema_name().to_string());
    let (left_names, right_names): (Vec<_>, Vec<_>) = join.on.iter().map(names).unzip();
    let has_twins = |names: &[String]| names.iter().enumerate().any(|(at, name)| names[..at].contains(name));
    let twins = has_twins(&left_names) || has_twins(&right_names);
    twins
        || !are_known
        || left_names.iter().any(|l| right_names.contains(l))
        || left.iter().any(|l| right.iter().any(|r| meet(l, r)))
}

/// Keys of sorts and windows with a lambda in them.
///
/// DataFusion 55 does not find again that rows are sorted by them, where several partitions are merged or a window reads them (`SanityCheckPlan`).
#[derive(Debug)]
pub(crate) struct LambdaKeys;

impl OptimizerRule for LambdaKeys {
    fn name(&self) -> &str {
        "lambda_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let keyed = match &plan {
            LogicalPlan::Sort(sort) if sort.expr.iter().any(|key| has_lambda(&key.expr)) => {
                let keys = sort.expr.iter().map(|key| key.expr.clone()).collect();
                let (input, keys) = with_keys(&sort.input, keys, config)?;
                let expr = sort.expr.iter().zip(keys).map(|(sort, key)| sort.with_expr(key)).collect();
                LogicalPlan::Sort(Sort { expr, input: Arc::new(input), fetch: sort.fetch })
            }
            LogicalPlan::Window(window) => {
                let keys: Vec<Expr> = window.window_expr.iter().flat_map(keys_of).filter(has_lambda).collect();
                if keys.is_empty() {
                    return Ok(Transformed::no(plan));
                }
                let (input, columns) = with_keys(&window.input, keys.clone(), config)?;
                let names = NamePreserver::new_for_projection();
                let exprs = window.window_expr.iter().map(|expr| {
                    let name = names.save(expr);
                    let replaced = expr.clone().transform_down(|expr| {
                        Ok(match keys.iter().position(|key| *key == expr).and_then(|at| columns.get(at)) {
                            Some(column) => Transformed::yes(column.clone()),
                            None => Transformed::no(expr),
                        })
                    });
                    Ok(name.restore(replaced?.data))
                });
                LogicalPlan::Window(Window::try_new(exprs.collect::<Result<_>>()?, Arc::new(input))?)
            }
            _ => return Ok(Transformed::no(plan)),
        };
        Ok(Transformed::yes(LogicalPlanBuilder::from(keyed).project(columns)?.build()?))
    }
}

/// The keys by which a window partitions and orders rows.
fn keys_of(window: &Expr) -> Vec<Expr> {
    match window {
        Expr::WindowFunction(call) => {
            let order = call.params.order_by.iter().map(|sort| sort.expr.clone());
            call.params.partition_by.iter().cloned().chain(order).collect()
        }
        Expr::Alias(alias) => keys_of(&alias.expr),
        _ => Vec::new(),
    }
}

fn has_lambda(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::Lambda(_)))).unwrap_or(false)
}

/// An input with keys as further columns, and those columns.
fn with_keys(input: &LogicalPlan, keys: Vec<Expr>, config: &dyn OptimizerConfig) -> Result<(LogicalPlan, Vec<Expr>)> {
    let mut columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let keys = keys.into_iter().map(|key| {
        if key.try_as_col().is_some() {
            return key;
        }
        let name = config.alias_generator().next("__trireme_key");
        columns.push(key.alias(name.as_str()));
        Expr::Column(Column::new_unqualified(name))
    });
    let keys = keys.collect();
    Ok((LogicalPlanBuilder::from(input.clone()).project(columns)?.build()?, keys))
}
