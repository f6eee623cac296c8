//! DataFusion's moving of field reads towards the scans, taken back where the plan does not hold after it.

use std::sync::Arc;

use datafusion::{
    common::{Result, tree_node::Transformed},
    logical_expr::LogicalPlan,
    optimizer::{
        OptimizerConfig, OptimizerRule, extract_leaf_expressions::ExtractLeafExpressions,
        extract_leaf_expressions::PushDownLeafProjections, optimize_projections::OptimizeProjections,
    },
};

/// Runs the two rules as one, and keeps what they give if the next rule can work on it.
///
/// DataFusion 55 may name a column in one node otherwise than in the one above (`No field named … __datafusion_extracted_1 …`).
#[derive(Debug)]
struct LeafPushdown;

impl OptimizerRule for LeafPushdown {
    fn name(&self) -> &str {
        "leaf_pushdown"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let Ok(pushed) = pushed(plan.clone(), config) else { return Ok(Transformed::no(plan)) };
        if !pushed.transformed {
            return Ok(Transformed::no(plan));
        }
        let holds = OptimizeProjections::new().rewrite(pushed.data.clone(), config).is_ok();
        Ok(if holds { pushed } else { Transformed::no(plan) })
    }
}

fn pushed(plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let extracted = ExtractLeafExpressions::new().rewrite(plan, config)?;
    let pushdown = PushDownLeafProjections::new();
    extracted.transform_data(|plan| plan.transform_down_with_subqueries(|node| pushdown.rewrite(node, config)))
}

/// The optimizer's rules with this one in the place of the two.
pub(crate) fn with_leaf_pushdown(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let (extract, push) = (ExtractLeafExpressions::new(), PushDownLeafProjections::new());
    let rules = rules.into_iter().filter(|rule| rule.name() != extract.name());
    let replaced = rules.map(|rule| match rule.name() {
        name if name == push.name() => Arc::new(LeafPushdown) as Arc<dyn OptimizerRule + Send + Sync>,
        _ => rule,
    });
    replaced.collect()
}
