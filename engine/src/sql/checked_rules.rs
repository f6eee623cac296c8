//! Rules of DataFusion's optimizer whose work is taken back where the plan does not hold after it.

use std::sync::Arc;

use datafusion::{
    common::{
        DFSchema, Result,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::LogicalPlan,
    optimizer::{
        OptimizerConfig, OptimizerRule,
        extract_leaf_expressions::{ExtractLeafExpressions, PushDownLeafProjections},
        optimize_projections::OptimizeProjections,
        optimizer::ApplyOrder,
        single_distinct_to_groupby::SingleDistinctToGroupBy,
    },
};

/// Moves field reads towards the scans: the two rules for it as one, whose plan is kept if every column is found in it.
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
        let tidied = OptimizeProjections::new().rewrite(pushed.data.clone(), config);
        let is_kept = holds(&pushed.data) && tidied.is_ok_and(|tidied| holds(&tidied.data));
        Ok(if is_kept { pushed } else { Transformed::no(plan) })
    }
}

fn pushed(plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let extracted = ExtractLeafExpressions::new().rewrite(plan, config)?;
    let pushdown = PushDownLeafProjections::new();
    extracted.transform_data(|plan| plan.transform_down_with_subqueries(|node| pushdown.rewrite(node, config)))
}

/// Whether each node finds its columns in what is below, and gives the columns that it says.
fn holds(plan: &LogicalPlan) -> bool {
    let mut found = true;
    let visited = plan.apply(|node| {
        let inputs = node.inputs();
        node.apply_expressions(|expr| {
            found &= inputs.is_empty()
                || expr
                    .column_refs()
                    .into_iter()
                    .all(|column| inputs.iter().any(|input| input.schema().has_column(column)));
            Ok(TreeNodeRecursion::Continue)
        })?;
        let names = |schema: &DFSchema| schema.columns();
        found &= names(node.clone().recompute_schema()?.schema()) == names(node.schema());
        Ok(if found { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    found && visited.is_ok()
}

/// Makes two aggregations of one with a DISTINCT, where that gives the same types.
///
/// DataFusion 55 sums sums then, and a sum of decimals gets ten digits more each time: its type is another one than what is above was planned with.
#[derive(Debug)]
struct SingleDistinct {
    inner: Arc<dyn OptimizerRule + Send + Sync>,
}

impl OptimizerRule for SingleDistinct {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.inner.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let done = self.inner.rewrite(plan.clone(), config)?;
        let types = |plan: &LogicalPlan| -> Vec<_> {
            plan.schema().fields().iter().map(|field| field.data_type().clone()).collect()
        };
        Ok(if done.transformed && types(&done.data) != types(&plan) { Transformed::no(plan) } else { done })
    }
}

/// The optimizer's rules with those of this module in the places of what they check.
pub(crate) fn with_checks(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let (extract, push) = (ExtractLeafExpressions::new(), PushDownLeafProjections::new());
    let distinct = SingleDistinctToGroupBy::new();
    let rules = rules.into_iter().filter(|rule| rule.name() != extract.name());
    let checked = rules.map(|rule| match rule.name() {
        name if name == push.name() => Arc::new(LeafPushdown) as Arc<dyn OptimizerRule + Send + Sync>,
        name if name == distinct.name() => Arc::new(SingleDistinct { inner: rule }),
        _ => rule,
    });
    checked.collect()
}
