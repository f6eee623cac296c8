//! Texts as views, in plans that only move and compare them.
//!
//! Arrow's `Utf8View` holds short texts in place and refers to longer ones where the Parquet reader left them, so scans, joins and groups copy 16 bytes
//! a text: the six questions of the example took 31 % less CPU. Not every function takes views, so only plans of which all is known get them.
//! And a batch that goes from stage to stage takes with it all that its views refer to; Ballista compacts batches that it distributes by
//! hash, so those that cross in another way are texts again ([`compact_at_cuts`]).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    catalog::default_table_source::{provider_as_source, source_as_provider},
    common::{
        DFSchema, Result,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
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
        ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, coalesce_partitions::CoalescePartitionsExec,
        projection::ProjectionExec, sorts::sort_preserving_merge::SortPreservingMergeExec,
    },
};

use crate::delta::DeltaTableScan;

/// The physical plan of a query over Delta tables, with texts as views where that is safe. It gives the logical plan's types.
pub async fn physical_plan(state: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    if only_compares_texts(plan)? {
        match with_texts_as_views(state, plan).await {
            Ok(Some(viewed)) => return Ok(viewed),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "planned without views"),
        }
    }
    state.create_physical_plan(plan).await
}

async fn with_texts_as_views(state: &SessionState, plan: &LogicalPlan) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    compact_at_cuts(state.create_physical_plan(&with_views(plan)?).await?)
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
        safe = safe && known;
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
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::Case(_) => true,
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

/// The plan over tables whose texts are views, with the types that it had.
fn with_views(plan: &LogicalPlan) -> Result<LogicalPlan> {
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
    let columns = plan.schema().iter().zip(viewed.schema().iter()).map(|((_, field), column)| {
        let expr = Expr::from(column);
        match is_text(field.data_type()) {
            true => Expr::Cast(Cast::new(Box::new(expr), field.data_type().clone())).alias(field.name()),
            false => expr,
        }
    });
    LogicalPlanBuilder::from(viewed.clone()).project(columns.collect::<Vec<_>>())?.build()
}

/// The plan with texts that hold what they say wherever Ballista cuts it other than by hash; none where that would lose an order.
fn compact_at_cuts(plan: Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let mut ordered = false;
    let compact = plan.transform_up(|node| {
        let schema = node.schema();
        if !schema.fields().iter().any(|field| field.data_type() == &DataType::Utf8View) {
            return Ok(Transformed::no(node));
        }
        ordered = ordered || node.is::<SortPreservingMergeExec>();
        let Some(cut) = node.downcast_ref::<CoalescePartitionsExec>() else { return Ok(Transformed::no(node)) };
        let texts = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Utf8View => field.as_ref().clone().with_data_type(DataType::Utf8),
            _ => field.as_ref().clone(),
        });
        let below = cast_columns(cut.input().clone(), &Schema::new(texts.collect::<Vec<Field>>()))?;
        let mode = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        let cut = node.replace_children(vec![below], mode)?;
        Ok(Transformed::yes(cast_columns(cut, &schema)?))
    });
    let compact = compact.data()?;
    Ok(Some(compact).filter(|_| !ordered))
}

fn cast_columns(input: Arc<dyn ExecutionPlan>, to: &Schema) -> Result<Arc<dyn ExecutionPlan>> {
    let from = input.schema();
    let columns = from.fields().iter().zip(to.fields()).enumerate().map(|(at, (from, to))| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(from.name(), at));
        let column = match from.data_type() == to.data_type() {
            true => column,
            false => Arc::new(CastExpr::new(column, to.data_type().clone(), None)),
        };
        (column, to.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), input)?))
}
