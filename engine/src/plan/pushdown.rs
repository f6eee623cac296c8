//! DataFusion's pushing down of filters, kept from plans in which it takes one column for another.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    common::{
        Result,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    physical_expr::expressions::LambdaExpr,
    physical_optimizer::{
        PhysicalOptimizerRule, ensure_requirements::EnsureRequirements, filter_pushdown::FilterPushdown,
        optimizer::PhysicalOptimizer, projection_pushdown::ProjectionPushdown,
    },
    physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions},
};

use super::distribute::{UnionFences, WindowFences};

/// DataFusion's physical optimizer, with what plans need that are cut into stages later.
pub fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = Vec::new();
    for rule in PhysicalOptimizer::new().rules {
        let (pushes, ensures) =
            (rule.name() == FilterPushdown::new().name(), rule.name() == EnsureRequirements::new().name());
        if ensures {
            rules.extend([Arc::new(UnionFences), rule.clone(), Arc::new(WindowFences { sorts: rule })]
                as [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 3]);
            continue;
        }
        rules.push(match rule.name() {
            _ if pushes => Arc::new(NamedPushdown { inner: rule }),
            name if name == ProjectionPushdown::new().name() => Arc::new(LambdaPushdown { inner: rule }),
            _ => rule,
        });
    }
    rules
}

/// Pushes projections down, but for plans with lambdas.
///
/// DataFusion 55 moves expressions to where there are other columns (parts of a join's condition below the join, a projection into the one below it),
/// and leaves a lambda's variable the number that it had: it is then read from a column (`Field of physical LambdaVariable … doesn't match`).
#[derive(Debug)]
struct LambdaPushdown {
    inner: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
}

impl PhysicalOptimizerRule for LambdaPushdown {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let has_lambda = |node: &Arc<dyn ExecutionPlan>| {
            let mut found = false;
            node.apply_expressions(&mut |expr| {
                found |= expr.exists(|expr| Ok(expr.is::<LambdaExpr>()))?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(found)
        };
        if plan.exists(has_lambda)? { Ok(plan) } else { self.inner.optimize(plan, config) }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_check(&self) -> bool {
        self.inner.schema_check()
    }
}

/// Pushes filters down within the parts of a plan in which no two columns of a node have one name.
///
/// DataFusion 55 finds the column of a filter in a node's input by its name (`FilterRemapper`), so above a join of two tables with a column `id` a
/// filter of the one may become a filter of the other. The logical optimizer, which knows columns by their tables, has pushed down before what
/// matters.
#[derive(Debug)]
struct NamedPushdown {
    inner: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
}

impl NamedPushdown {
    fn push(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !has_twins(&plan) {
            return self.inner.optimize(plan, config);
        }
        let children = plan.children().into_iter().map(|child| self.push(child.clone(), config));
        let children = children.collect::<Result<Vec<_>>>()?;
        plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
}

impl PhysicalOptimizerRule for NamedPushdown {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        self.push(plan, config)
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_check(&self) -> bool {
        self.inner.schema_check()
    }
}

/// Whether two columns of this node, or of one below it, have the same name.
fn has_twins(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let schema = plan.schema();
    let mut names = HashSet::new();
    !schema.fields().iter().all(|field| names.insert(field.name())) || plan.children().into_iter().any(has_twins)
}
