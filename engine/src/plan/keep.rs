//! A node that keeps what is below it as it was planned: one partition, and an order, or none.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{Statistics, internal_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, OrderingRequirements, Partitioning, PhysicalExpr},
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        ReplaceChildrenOptions,
        statistics::{ChildStats, StatisticsArgs},
    },
};

use super::Asked;

/// Passes rows on, and asks its input for the one partition and the order that it had when it was planned.
///
/// Ballista optimizes the parts of a plan again after it has cut them apart, and swaps the sides of joins when it knows how large they have
/// become. Without a node that asks, a sort below a projection, or the collecting of a join's side, is taken away then. It tells no statistics, so that
/// a join whose right side it is stays as it was planned.
#[derive(Debug)]
pub struct KeepExec {
    input: Arc<dyn ExecutionPlan>,
    /// None: nothing is asked for, and the order of rows is not told.
    asked: Option<Asked>,
    /// By which keys the rows are partitioned, where the input can't tell.
    keys: Option<Vec<Arc<dyn PhysicalExpr>>>,
    properties: Arc<PlanProperties>,
}

impl KeepExec {
    /// Keeps what this input gives now.
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let asked = Asked::of(&input);
        Self::asking(input, Some(asked), None)
    }

    /// Keeps what this input gives now, and says that its rows are partitioned by these keys.
    pub fn partitioned(input: Arc<dyn ExecutionPlan>, keys: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        let asked = Asked::of(&input);
        Self::asking(input, Some(asked), Some(keys))
    }

    /// Passes rows on, asks for nothing, and tells nothing of their order.
    pub fn without_order(input: Arc<dyn ExecutionPlan>) -> Self {
        Self::asking(input, None, None)
    }

    fn asking(input: Arc<dyn ExecutionPlan>, asked: Option<Asked>, keys: Option<Vec<Arc<dyn PhysicalExpr>>>) -> Self {
        let count = input.output_partitioning().partition_count();
        let properties = match (&asked, &keys) {
            (_, Some(keys)) => {
                let properties = PlanProperties::clone(input.properties());
                Arc::new(properties.with_partitioning(Partitioning::Hash(keys.clone(), count)))
            }
            (Some(_), None) => input.properties().clone(),
            (None, None) => Arc::new(PlanProperties::new(
                EquivalenceProperties::new(input.schema()),
                input.output_partitioning().clone(),
                input.pipeline_behavior(),
                input.boundedness(),
            )),
        };
        Self { input, asked, keys, properties }
    }

    fn hides_statistics(&self) -> bool {
        self.asked.is_some() && self.keys.is_none()
    }
}

impl DisplayAs for KeepExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keys {
            Some(keys) => {
                write!(f, "KeepExec: keys=[{}]", keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            None => f.write_str(if self.asked.is_some() { "KeepExec" } else { "KeepExec: without order" }),
        }
    }
}

impl ExecutionPlan for KeepExec {
    fn name(&self) -> &str {
        "KeepExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![self.asked.is_some()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.asked.as_ref().map_or(vec![Distribution::UnspecifiedDistribution], Asked::distribution)
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        self.asked.as_ref().map_or(vec![None], Asked::ordering)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::asking(input, self.asked.clone(), self.keys.clone()))),
            _ => internal_err!("KeepExec has one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![if self.hides_statistics() { ChildStats::Skip } else { ChildStats::At(partition) }]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(match inputs {
            [input] if !self.hides_statistics() => input.clone(),
            _ => Arc::new(Statistics::new_unknown(&self.schema())),
        })
    }
}
