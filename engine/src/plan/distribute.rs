//! Makes a physical plan ready for Ballista: what holds in one process must hold when it is cut into stages and tasks.
//!
//! DataFusion's operators may count on being in one process. These of our plans do, and what is done about it:
//!
//! | operator | what goes wrong in tasks | here |
//! |---|---|---|
//! | sort of the whole result | taken away when a part is optimized again, because no node above asks for its order | [`KeepExec`] above it |
//! | join without an equality that gives rows of its left side (LEFT, FULL, semi, anti, mark) | each task gives the left side's rows that it found, or did not find, among its own rows of the right (upstream issues ballista 1055, datafusion 12454) | swapped where that is safe and small, else one task |
//! | join whose order is counted on | its sides are swapped when their sizes are known, after the sort above was left out | [`KeepExec`] on its right: without statistics it stays |
//! | cross join with a right side of several partitions, or below a union | its sides are swapped when their sizes are known, without collecting the new left side (ballista `JoinSelection`) | the same |
//! | union whose branches are sorted, by the order of the union | the sort is put back into a branch that was cut there, and every task runs that branch | [`UnionFences`]: no order goes through a union |
//! | sort above a hash join | it goes to a side of the join when a part is optimized again, and the sides are swapped after that | [`KeepExec`] below it hides the order of rows |
//! | window, aggregate or join over rows whose partitioning by its keys follows from columns that are equal | the rows are partitioned again within a task | [`KeepExec`] below it tells the keys |
//! | hash join that collects its left side, but may not broadcast it | Ballista makes it a partitioned one (`collect_left_broadcast_safe`), whose rows have other partitions, and no order | it is made a partitioned one here, and its rows are partitioned and sorted again as they were |
//! | partitioned hash join, sort-merge join, of any kind | nothing: all rows of a key are in one task | – |
//! | inner join without an equality | nothing: each pair is in the task of its right row | – |

use std::sync::Arc;

use ballista_core::config::BallistaConfig;
use datafusion::{
    common::{
        JoinType, Result,
        tree_node::{Transformed, TreeNode},
    },
    config::ConfigOptions,
    physical_expr::{
        Distribution, Partitioning, PhysicalExpr,
        expressions::{Column, UnKnownColumn},
        utils::collect_columns,
        window::WindowExpr,
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions, StatisticsArgs,
        coalesce_partitions::CoalescePartitionsExec,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode},
        projection::ProjectionExec,
        repartition::RepartitionExec,
        sorts::{sort::SortExec, sort_preserving_merge::SortPreservingMergeExec},
        statistics::StatisticsContext,
        union::UnionExec,
        windows::{BoundedWindowAggExec, WindowAggExec},
    },
};

use super::KeepExec;

/// Puts a node that hides the order of rows above every union, so that what needs an order sorts above it, and not within its branches.
#[derive(Debug)]
pub(super) struct UnionFences;

impl PhysicalOptimizerRule for UnionFences {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let fenced = plan.transform_up(|node| {
            Ok(match node.is::<UnionExec>() {
                true => Transformed::yes(fence(node)),
                false => Transformed::no(node),
            })
        });
        Ok(fenced?.data)
    }

    fn name(&self) -> &str {
        "union_fences"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Below every window that is not fed by a sort by all of its partition keys: a node that hides the order of rows, and so makes one.
///
/// DataFusion leaves keys out of a sort that are constant, equal to another one or in order for another reason, and forgets the reason where the plan
/// is cut or sent: the window then fails (`Expects PARTITION BY expression to be ordered`). Runs after the rule that makes the sorts, and has it run again.
#[derive(Debug)]
pub(super) struct WindowFences {
    pub(super) sorts: Arc<dyn PhysicalOptimizerRule + Send + Sync>,
}

impl PhysicalOptimizerRule for WindowFences {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let fenced = plan.transform_up(|node| match (node.children().as_slice(), window_keys(&node)) {
            ([input], Some(keys)) if !keys.is_empty() && !is_sorted_by(input, &keys) => {
                let input = fence((*input).clone());
                Ok(Transformed::yes(with_children(node, vec![input])?))
            }
            _ => Ok(Transformed::no(node)),
        })?;
        if fenced.transformed { self.sorts.optimize(fenced.data, config) } else { Ok(fenced.data) }
    }

    fn name(&self) -> &str {
        "window_fences"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn fence(node: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(KeepExec::without_order(node))
}

/// The keys by which a window's rows are partitioned.
fn window_keys(node: &Arc<dyn ExecutionPlan>) -> Option<Vec<Arc<dyn PhysicalExpr>>> {
    Some(windows_of(node)?.first()?.partition_by().to_vec())
}

fn windows_of(node: &Arc<dyn ExecutionPlan>) -> Option<&[Arc<dyn WindowExpr>]> {
    match node.downcast_ref::<WindowAggExec>() {
        Some(window) => Some(window.window_expr()),
        None => Some(node.downcast_ref::<BoundedWindowAggExec>()?.window_expr()),
    }
}

/// Whether a sort by all of these keys feeds a node, through nothing but what keeps rows and order.
fn is_sorted_by(plan: &Arc<dyn ExecutionPlan>, keys: &[Arc<dyn PhysicalExpr>]) -> bool {
    let sort = match plan.downcast_ref::<SortExec>() {
        Some(sort) => Some(sort.expr()),
        None => plan.downcast_ref::<SortPreservingMergeExec>().map(SortPreservingMergeExec::expr),
    };
    let children = plan.children();
    let [input] = children.as_slice() else { return false };
    if let Some(sort) = sort {
        // A key that is constant below is left out of the sort when the plan has been cut.
        let is_constant = |key| input.equivalence_properties().is_expr_constant(key).is_some();
        return keys.iter().all(|key| !is_constant(key) && sort.iter().any(|sorted| sorted.expr.eq(key)));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let below = keys.iter().map(|key| {
            let column = key.downcast_ref::<Column>()?;
            Some(projection.expr().get(column.index())?.expr.clone())
        });
        return below.collect::<Option<Vec<_>>>().is_some_and(|keys| is_sorted_by(input, &keys));
    }
    // Windows add their columns behind the others.
    let width = input.schema().fields().len();
    let are_of_input = keys.iter().all(|key| collect_columns(key).iter().all(|column| column.index() < width));
    windows_of(plan).is_some() && are_of_input && is_sorted_by(input, keys)
}

/// A side of a join that is at most so large, in bytes, may be held by every task.
const HELD_BYTES: usize = 64 << 20;

/// The same plan, safe to be cut into stages. See the module.
pub fn distributable(plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
    let joined = plan.transform_up(|node| {
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            return whole_sides(join, &node);
        }
        if let Some(join) = node.downcast_ref::<CrossJoinExec>() {
            // One partition may become the left side, and should where it is the smaller one.
            let many = join.right().output_partitioning().partition_count() > 1;
            return Ok(if many { Transformed::yes(fixed_sides(node)?) } else { Transformed::no(node) });
        }
        if node.is::<UnionExec>() {
            return node.transform_down(fixed_cross);
        }
        if node.is::<SortExec>() {
            return fenced_sort(node);
        }
        match node.downcast_ref::<HashJoinExec>() {
            Some(join) => hash_join(join, &node, config),
            None => Ok(Transformed::no(node)),
        }
    });
    tell_keys(keep_order(joined?.data)?)
}

/// Says by which keys rows are partitioned where no exchange is right below: that may be known only because columns are equal, which DataFusion
/// forgets at a stage's end. It would then partition them again within a task, which has only some of them.
fn tell_keys(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let told = plan.transform_up(|node| {
        let mut changed = false;
        let asked = node.input_distribution_requirements();
        let children = node.children().into_iter().zip(asked.per_child_distributions()).map(|(child, asked)| {
            let partitioning = child.output_partitioning();
            let (Distribution::KeyPartitioned(keys), Partitioning::Hash(known, _)) = (asked, partitioning) else {
                return child.clone();
            };
            if partitioning.partition_count() == 1 || (child.is::<RepartitionExec>() && known == keys) {
                return child.clone();
            }
            changed = true;
            Arc::new(KeepExec::partitioned(child.clone(), keys.clone())) as Arc<dyn ExecutionPlan>
        });
        let children: Vec<_> = children.collect();
        Ok(if changed { Transformed::yes(with_children(node, children)?) } else { Transformed::no(node) })
    });
    Ok(told?.data)
}

/// Puts a node that asks above what gives the whole result its order, wherever below projections and limits it is.
fn keep_order(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let sorts = plan.is::<SortExec>() || plan.is::<SortPreservingMergeExec>();
    match (plan.children().as_slice(), plan.maintains_input_order().first()) {
        ([child], Some(true)) if !sorts => {
            let child = keep_order((*child).clone())?;
            with_children(plan, vec![child])
        }
        _ if plan.output_ordering().is_some() => Ok(Arc::new(KeepExec::new(plan))),
        _ => Ok(plan),
    }
}

/// A hash join that gives what it was planned to give: rows partitioned as they were, in their order.
fn hash_join(
    join: &HashJoinExec,
    node: &Arc<dyn ExecutionPlan>,
    config: &ConfigOptions,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let is_collected = *join.partition_mode() == PartitionMode::CollectLeft && !join.null_aware;
    if is_collected && !is_broadcast(join, config) {
        return shuffled(join, node, config);
    }
    match node.output_ordering() {
        Some(_) => Ok(Transformed::yes(fixed_sides(node.clone())?)),
        None => Ok(Transformed::no(node.clone())),
    }
}

/// Whether Ballista sends a join's left side to every task, as it is planned (`maybe_promote_to_broadcast`).
fn is_broadcast(join: &HashJoinExec, config: &ConfigOptions) -> bool {
    let most = config.extensions.get::<BallistaConfig>().map_or(0, BallistaConfig::broadcast_join_threshold_bytes);
    let Ok(statistics) = StatisticsContext::new().compute(join.left().as_ref(), &StatisticsArgs::new()) else {
        return false;
    };
    // Ballista trusts no zero, and takes at most so many bytes for a value where only rows are known.
    const VALUE: usize = 32;
    let width = VALUE * join.left().schema().fields().len().max(1);
    let bytes = match statistics.total_byte_size.get_value() {
        Some(bytes) if *bytes > 0 => Some(*bytes),
        _ => statistics.num_rows.get_value().map(|rows| rows.saturating_mul(width)),
    };
    !gives_left_rows(*join.join_type()) && bytes.is_some_and(|bytes| bytes > 0 && bytes < most)
}

/// A join by partitions in the place of one that collects its left side: Ballista makes the same of it, but the rows are then partitioned by the
/// join's keys, and in no order, whatever is above counts on.
fn shuffled(
    join: &HashJoinExec,
    node: &Arc<dyn ExecutionPlan>,
    config: &ConfigOptions,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let left = match join.left().downcast_ref::<CoalescePartitionsExec>() {
        Some(collected) if collected.fetch().is_none() => collected.input(),
        _ => join.left(),
    };
    let is_one = |plan: &Arc<dyn ExecutionPlan>| plan.output_partitioning().partition_count() == 1;
    let (left_keys, right_keys): (Vec<_>, Vec<_>) = join.on().iter().cloned().unzip();
    // Sides of which nothing is known may be partitioned again when a part of the plan is optimized again: within its task.
    let sides = match [left, join.right()].into_iter().all(|side| is_one(side) && has_known_rows(side)) {
        true => vec![left.clone(), join.right().clone()],
        false => vec![exchanged(left, left_keys, config)?, exchanged(join.right(), right_keys, config)?],
    };
    let mut plan =
        join.builder().with_partition_mode(PartitionMode::Partitioned).with_new_children(sides)?.build_exec()?;

    match node.output_partitioning() {
        planned if planned.partition_count() == 1 => plan = single(plan),
        // Nothing counts on a key that the join's own projection has dropped.
        Partitioning::Hash(keys, _) if keys.iter().all(is_known) => plan = exchanged(&plan, keys.clone(), config)?,
        _ => {}
    }
    plan = match node.output_ordering() {
        Some(_) if plan.is::<HashJoinExec>() && plan.output_ordering().is_some() => fixed_sides(plan)?,
        Some(ordering) => {
            let is_whole = is_one(&plan);
            Arc::new(SortExec::new(ordering.clone(), plan).with_preserve_partitioning(!is_whole))
        }
        None => plan,
    };
    Ok(Transformed::yes(plan))
}

fn is_known(key: &Arc<dyn PhysicalExpr>) -> bool {
    !key.exists(|expr| Ok(expr.is::<UnKnownColumn>())).unwrap_or(true)
}

/// Rows partitioned by keys.
fn exchanged(
    plan: &Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    config: &ConfigOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let partitioning = Partitioning::Hash(keys, config.execution.target_partitions);
    Ok(Arc::new(RepartitionExec::try_new(plan.clone(), partitioning)?))
}

/// A sort that stays above the joins that it is above. When a part of a plan is optimized again a sort may go to a side of a join, whose sides are swapped
/// when their sizes are known: then nothing is in order.
fn fenced_sort(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let [input] = node.children()[..] else { return Ok(Transformed::no(node)) };
    if input.is::<KeepExec>() || !input.exists(|node| Ok(node.is::<HashJoinExec>()))? {
        return Ok(Transformed::no(node));
    }
    let input = fence(input.clone());
    Ok(Transformed::yes(with_children(node, vec![input])?))
}

/// A cross join that keeps its sides. Below a union, what can be left out of a task and what can't is decided before sides are swapped: the one that
/// a swap puts to the right might be no longer left out, and come once per branch.
fn fixed_cross(node: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    match node.downcast_ref::<CrossJoinExec>() {
        Some(join) if !join.right().is::<KeepExec>() => Ok(Transformed::yes(fixed_sides(node)?)),
        _ => Ok(Transformed::no(node)),
    }
}

/// A join without an equality, in a form in which no row comes once per task.
fn whole_sides(
    join: &NestedLoopJoinExec,
    node: &Arc<dyn ExecutionPlan>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let fixed = |join: Arc<dyn ExecutionPlan>| Ok(Transformed::yes(fixed_sides(join)?));
    if !gives_left_rows(*join.join_type()) {
        return fixed(node.clone());
    }
    let swapped = join.join_type().swap();
    if !gives_left_rows(swapped) && join.right().output_partitioning().partition_count() > 1 && is_small(join.right()) {
        let swapped = join.swap_inputs()?;
        return match swapped.downcast_ref::<ProjectionExec>() {
            Some(projection) => {
                let join = fixed_sides(collected_left(projection.input().clone())?)?;
                Ok(Transformed::yes(with_children(swapped.clone(), vec![join])?))
            }
            None => fixed(collected_left(swapped)?),
        };
    }
    fixed(with_children(node.clone(), vec![join.left().clone(), single(join.right().clone())])?)
}

/// Whether a join of this kind gives rows for its left side, which every task holds whole.
fn gives_left_rows(kind: JoinType) -> bool {
    match kind {
        JoinType::Left | JoinType::Full | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => true,
        JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => false,
    }
}

fn has_known_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new());
    // A stage without a row tells nothing of itself.
    statistics.is_ok_and(|statistics| statistics.num_rows.get_value().is_some_and(|rows| *rows > 0))
}

fn is_small(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let Ok(statistics) = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()) else { return false };
    statistics.total_byte_size.get_value().is_some_and(|bytes| *bytes > 0 && *bytes <= HELD_BYTES)
}

/// The join with its left side in one partition, as it asks for.
fn collected_left(join: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut children: Vec<_> = join.children().into_iter().cloned().collect();
    if let Some(left) = children.first_mut() {
        *left = single(left.clone());
    }
    with_children(join, children)
}

/// The join with a right side that stays one partition if it is one, and of which nothing is known, so that the sides are not swapped later.
fn fixed_sides(join: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let mut children: Vec<_> = join.children().into_iter().cloned().collect();
    if let Some(right) = children.last_mut() {
        *right = Arc::new(KeepExec::new(right.clone()));
    }
    with_children(join, children)
}

fn single(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    if plan.output_partitioning().partition_count() == 1 { plan } else { Arc::new(CoalescePartitionsExec::new(plan)) }
}

fn with_children(
    plan: Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}
