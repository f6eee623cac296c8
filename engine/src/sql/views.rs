//! Texts as views, in plans that only move and compare them.
//!
//! Arrow's `Utf8View` holds short texts in place and refers to longer ones where the Parquet reader left them, so scans, joins and groups copy 16 bytes
//! a text: the six questions of the example took 31 % less CPU. Not every function takes views, so only plans of which all is known get them.
//! And a batch that goes from stage to stage takes with it all that its views refer to; Ballista compacts batches that it distributes by
//! hash, so those that cross in another way are texts again ([`compact_at_cuts`]).

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::{
    catalog::default_table_source::{provider_as_source, source_as_provider},
    common::{
        DFSchema, Result,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    datasource::source::DataSourceExec,
    execution::SessionState,
    logical_expr::{
        Cast, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, TableScanBuilder, Union,
        utils::merge_schema,
    },
    physical_expr::{
        PhysicalExpr,
        expressions::{CastExpr, Column},
    },
    physical_plan::{
        ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions,
        coalesce_partitions::CoalescePartitionsExec,
        joins::{HashJoinExec, PartitionMode},
        projection::ProjectionExec,
        repartition::RepartitionExec,
        sorts::sort_preserving_merge::SortPreservingMergeExec,
        union::UnionExec,
    },
};

use crate::delta::DeltaTableScan;

/// The physical plan of a query over Delta tables, with texts as views where that is safe.
pub async fn physical_plan(state: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let plain = match state.create_physical_plan(plan).await {
        // DataFusion's moving of field reads towards the scans may lose a column (see `checked_rules`).
        Err(error) if error.to_string().contains("__datafusion_extracted") => {
            let mut state = state.clone();
            state.config_mut().options_mut().optimizer.enable_leaf_expression_pushdown = false;
            return state.create_physical_plan(plan).await;
        }
        planned => planned?,
    };
    if !only_compares_texts(plan)? {
        return Ok(plain);
    }
    match with_texts_as_views(state, plan, &plain.schema()).await {
        Ok(Some(viewed)) if types(&viewed).eq(types(&plain)) => Ok(viewed),
        Ok(_) => Ok(plain),
        Err(error) => {
            tracing::debug!(%error, "planned without views");
            Ok(plain)
        }
    }
}

fn types(plan: &Arc<dyn ExecutionPlan>) -> impl Iterator<Item = (String, DataType)> {
    let schema = plan.schema();
    (0..schema.fields().len()).map(move |at| (schema.field(at).name().clone(), schema.field(at).data_type().clone()))
}

async fn with_texts_as_views(
    state: &SessionState,
    plan: &LogicalPlan,
    result: &Schema,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    compact_at_cuts(state.create_physical_plan(&with_views(plan, result)?).await?)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether a plan moves and compares rows, and every expression of it is known to mean the same for views.
fn only_compares_texts(plan: &LogicalPlan) -> Result<bool> {
    let (mut safe, mut worth) = (true, false);
    plan.apply_with_subqueries(|node| {
        let known = matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Aggregate(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Join(_)
                | LogicalPlan::Union(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Subquery(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::Values(_)
                | LogicalPlan::Distinct(_)
        );
        let schema = merge_schema(&node.inputs());
        // A union of a text and something else has a type that only the analyzer knows.
        let mixed = |union: &Union| {
            let texts = |input: &LogicalPlan| {
                input.schema().fields().iter().map(|f| is_text(f.data_type())).collect::<Vec<_>>()
            };
            union.inputs.windows(2).any(|pair| texts(&pair[0]) != texts(&pair[1]))
        };
        safe = safe && known && !matches!(node, LogicalPlan::Union(union) if mixed(union));
        worth |= matches!(
            node,
            LogicalPlan::Filter(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Join(_) | LogicalPlan::Distinct(_)
        );
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                safe = safe && is_safe(expr, &schema);
                Ok(if safe { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })?;
        Ok(if safe { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(safe && worth)
}

/// Whether an expression, leaving those in it aside, means the same for views.
fn is_safe(expr: &Expr, schema: &DFSchema) -> bool {
    // What has no type here is no concern of ours, and counts as a text.
    let text = |expr: &Expr| expr.get_type(schema).as_ref().map_or(true, is_text);
    let taken = |expr: &Expr| !matches!(expr, Expr::Literal(..)) && text(expr);
    match expr {
        Expr::Alias(_) | Expr::Column(_) | Expr::Literal(..) | Expr::Not(_) | Expr::IsNull(_) | Expr::IsNotNull(_) => {
            true
        }
        Expr::IsTrue(_) | Expr::IsFalse(_) | Expr::IsNotTrue(_) | Expr::IsNotFalse(_) => true,
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) => true,
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
            let mut typed = branches.filter(|then| !matches!(then.get_type(schema), Ok(DataType::Null)));
            let first = typed.next().is_some_and(|then| text(then));
            typed.all(|then| text(then) == first)
        }
        Expr::Like(like) => text(&like.expr) && text(&like.pattern),
        Expr::InList(list) => list.list.iter().all(|one| text(one) == text(&list.expr)),
        Expr::Between(between) => {
            text(&between.low) == text(&between.expr) && text(&between.high) == text(&between.expr)
        }
        Expr::BinaryExpr(binary) => match (text(&binary.left), text(&binary.right)) {
            (false, false) => true,
            (true, true) => matches!(
                binary.op,
                Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
            ),
            _ => false,
        },
        Expr::Cast(cast) => !text(&cast.expr) || is_text(cast.field.data_type()),
        Expr::ScalarFunction(function) => !function.args.iter().any(taken),
        Expr::AggregateFunction(aggregate) => {
            matches!(aggregate.func.name(), "count" | "min" | "max") || !aggregate.params.args.iter().any(taken)
        }
        Expr::OuterReferenceColumn(field, _) => !is_text(field.data_type()),
        _ => false,
    }
}

/// The plan over tables whose texts are views, with a result whose texts are none.
fn with_views(plan: &LogicalPlan, result: &Schema) -> Result<LogicalPlan> {
    let viewed = plan.clone().transform_up_with_subqueries(|node| {
        Ok(Transformed::yes(match node {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                match provider.downcast_ref::<DeltaTableScan>() {
                    Some(table) => {
                        let source = provider_as_source(Arc::new(table.clone().with_text_views()));
                        let scan = TableScanBuilder::new(scan.table_name, source)
                            .with_projection(scan.projection)
                            .with_filters(scan.filters)
                            .with_fetch(scan.fetch);
                        LogicalPlan::TableScan(scan.build()?)
                    }
                    None => LogicalPlan::TableScan(scan),
                }
            }
            LogicalPlan::Union(union) => LogicalPlan::Union(Union::try_new_with_loose_types(union.inputs)?),
            node => node.recompute_schema()?,
        }))
    });
    let viewed = viewed.data()?;
    let columns = result.fields().iter().zip(viewed.schema().iter()).map(|(field, column)| {
        let expr = Expr::from(column);
        match is_text(field.data_type()) {
            true => Expr::Cast(Cast::new(Box::new(expr), field.data_type().clone())).alias(field.name()),
            false => expr,
        }
    });
    LogicalPlanBuilder::from(viewed.clone()).project(columns.collect::<Vec<_>>())?.build()
}

/// The plan with texts that refer to nothing but themselves wherever Ballista cuts it other than by hash: below what collects partitions, and where a
/// join's build side goes to every task. None where that would lose an order, or nothing would be gained.
fn compact_at_cuts(plan: Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut unfit = false;
    let compact = plan.transform_up(|node| {
        unfit = unfit || is_unfit(&node);
        let collects = node.is::<CoalescePartitionsExec>() || broadcasts(&node);
        let mut children: Vec<Arc<dyn ExecutionPlan>> = node.children().into_iter().cloned().collect();
        match children.first_mut() {
            Some(first) if collects && has_views(first) && !first.is::<CoalescePartitionsExec>() => {
                *first = compacted(first.clone())?;
            }
            _ => return Ok(Transformed::no(node)),
        }
        let mode = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Ok(Transformed::yes(node.replace_children(children, mode)?))
    });
    let compact = compact.data()?;
    Ok(Some(compact).filter(|_| !unfit))
}

fn has_views(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.schema().fields().iter().any(|field| field.data_type() == &DataType::Utf8View)
}

/// Whether a node is a join whose first input goes to every task.
fn broadcasts(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<HashJoinExec>().is_some_and(|join| *join.partition_mode() == PartitionMode::CollectLeft)
}

/// Whether a node crosses stages, or shuffles rows, so that views are a loss.
fn is_unfit(node: &Arc<dyn ExecutionPlan>) -> bool {
    fn is_scan(node: &Arc<dyn ExecutionPlan>) -> bool {
        match node.downcast_ref::<ProjectionExec>() {
            Some(projection) => is_scan(projection.input()),
            None => node.is::<DataSourceExec>(),
        }
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        // Ballista collects the right side of such a join later.
        return join.null_aware && has_views(join.right());
    }
    if !has_views(node) {
        return false;
    }
    let children = node.children();
    // A merge of sorted partitions needs their order; a branch that holds a broadcast is a stage of its own; a shuffle takes each batch of a bare scan
    // for as large as the pages that its views refer to, and spills.
    node.is::<SortPreservingMergeExec>()
        || node.is::<UnionExec>() && node.exists(|below| Ok(broadcasts(below))).unwrap_or(true)
        || node.is::<RepartitionExec>() && children.into_iter().any(is_scan)
}

/// The rows of a plan with views of texts of their own.
fn compacted(input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        let cast = |from, to| Arc::new(CastExpr::new(from, to, None));
        let column = match field.data_type() {
            DataType::Utf8View => cast(cast(column, DataType::Utf8), DataType::Utf8View),
            _ => column,
        };
        (column, field.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), input)?))
}
