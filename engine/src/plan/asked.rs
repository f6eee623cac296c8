//! What a node asks of its input, settled when it is planned.

use std::sync::Arc;

use datafusion::{
    physical_expr::{Distribution, LexOrdering, OrderingRequirements},
    physical_plan::{ExecutionPlan, ExecutionPlanProperties},
};

/// That one partition stays one, and that its rows stay in their order.
///
/// Ballista optimizes the parts of a plan once more after it has cut them apart. DataFusion's rule then takes a merge of sorted partitions, and a
/// sort, away from below a node that does not ask for them, and looks at what the node asks for when they are gone: so what a node asks for must not
/// be told from its input as it is at that moment.
#[derive(Debug, Clone)]
pub struct Asked {
    single: bool,
    ordering: Option<LexOrdering>,
}

impl Asked {
    /// For what this input gives now. The order within each of several partitions is not asked for: to give it, a sort may be put below a union,
    /// where Ballista can't cut any more.
    pub fn of(input: &Arc<dyn ExecutionPlan>) -> Self {
        let asked = Self::in_order(input);
        Self { ordering: asked.ordering.filter(|_| asked.single), ..asked }
    }

    /// For what this input gives now, the order within each of several partitions, too.
    pub fn in_order(input: &Arc<dyn ExecutionPlan>) -> Self {
        Self { single: input.output_partitioning().partition_count() == 1, ordering: input.output_ordering().cloned() }
    }

    /// For `required_input_distribution` of a node with one input.
    pub fn distribution(&self) -> Vec<Distribution> {
        vec![if self.single { Distribution::SinglePartition } else { Distribution::UnspecifiedDistribution }]
    }

    /// For `required_input_ordering` of a node with one input.
    pub fn ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.ordering.clone().map(OrderingRequirements::from)]
    }
}
