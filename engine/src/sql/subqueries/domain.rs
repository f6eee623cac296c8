//! A subquery's plan for all values of its outer columns at once.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        Column, DFSchemaRef, DataFusionError, JoinType, Result,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{
        Aggregate, Distinct, Expr, FetchType, Join, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, SortExpr, Union,
        WindowFunctionDefinition,
        expr::{WindowFunction, WindowFunctionParams},
        lit,
        utils::conjunction,
    },
};

use super::{Flattener, lookup::same, outer_columns};
use crate::sql::kernel::wrong_call;

/// The values that a subquery's outer columns have, each once.
pub(super) struct Domain {
    /// Gives them as `d0`, `d1` …
    pub(super) plan: LogicalPlan,
    /// The outer columns that the first keys stand for.
    pub(super) outer: Vec<Column>,
    /// What the keys are in a row of the outer query.
    pub(super) keys: Vec<Expr>,
    pub(super) types: Vec<DataType>,
}

impl Flattener<'_> {
    /// The plan within a domain: for each of its values the rows that the plan has for it, with the values as further columns at the end.
    pub(super) fn within(&self, plan: &LogicalPlan, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let uses = outer_columns(plan)?.iter().any(|column| domain.outer.contains(column));
        if !uses {
            let (values, keys) = self.values_of(domain)?;
            return Ok((LogicalPlanBuilder::from(plan.clone()).cross_join(values)?.build()?, keys));
        }
        match plan {
            LogicalPlan::Projection(node) => {
                let (input, keys) = self.within(&node.input, domain)?;
                let mut exprs = resolve_all(&node.expr, domain, &keys)?;
                exprs.extend(keys.iter().cloned().map(Expr::Column));
                Ok((LogicalPlanBuilder::from(input).project(exprs)?.build()?, keys))
            }
            LogicalPlan::Filter(node) => {
                let (input, keys) = self.within(&node.input, domain)?;
                let predicate = resolve(node.predicate.clone(), domain, &keys)?;
                Ok((LogicalPlanBuilder::from(input).filter(predicate)?.build()?, keys))
            }
            LogicalPlan::SubqueryAlias(node) => {
                let (input, keys) = self.within(&node.input, domain)?;
                labelled(input, &node.schema, keys)
            }
            LogicalPlan::Subquery(node) => self.within(&node.subquery, domain),
            // An order without a limit is nobody's.
            LogicalPlan::Sort(node) if node.fetch.is_none() => self.within(&node.input, domain),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let (input, keys) = self.within(input, domain)?;
                Ok((LogicalPlanBuilder::from(input).distinct()?.build()?, keys))
            }
            LogicalPlan::Aggregate(node) => self.aggregate_within(node, domain),
            LogicalPlan::Window(node) => {
                let (input, keys) = self.within(&node.input, domain)?;
                let windows = resolve_all(&node.window_expr, domain, &keys)?;
                let windows =
                    windows.into_iter().map(|window| partitioned(window, &keys)).collect::<Result<Vec<_>>>()?;
                let plan = LogicalPlanBuilder::from(input).window(windows)?.build()?;
                labelled(plan, &node.schema, keys)
            }
            LogicalPlan::Limit(node) => self.limit_within(node, domain),
            LogicalPlan::Join(join) => self.join_within(join, domain),
            LogicalPlan::Union(union) => self.union_within(union, domain),
            LogicalPlan::Unnest(node) => {
                let (input, keys) = self.within(&node.input, domain)?;
                let plan = LogicalPlanBuilder::from(input)
                    .unnest_columns_with_options(node.exec_columns.clone(), node.options.clone())?
                    .build()?;
                Ok((plan, keys))
            }
            other => {
                let kind = other.display().to_string();
                let kind = kind.split([':', ' ', '(']).next().unwrap_or_default().to_string();
                Err(wrong_call(format!("a subquery can't refer to the outer query below its {kind}")))
            }
        }
    }

    /// The domain under a name of its own, and so its columns: what is above may look for them by their names only.
    fn values_of(&self, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let name = self.name();
        let key = |i: usize| format!("{name}_d{i}");
        let columns = domain.plan.schema().columns().into_iter().enumerate();
        let columns: Vec<Expr> = columns.map(|(i, column)| Expr::Column(column).alias(key(i))).collect();
        let values = LogicalPlanBuilder::from(domain.plan.clone()).project(columns)?.alias(name.as_str())?.build()?;
        let keys = (0..domain.keys.len()).map(|i| Column::new(Some(name.as_str()), key(i))).collect();
        Ok((values, keys))
    }

    fn aggregate_within(&self, node: &Aggregate, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let (input, keys) = self.within(&node.input, domain)?;
        let mut groups = resolve_all(&node.group_expr, domain, &keys)?;
        let aggregates = resolve_all(&node.aggr_expr, domain, &keys)?;
        if groups.iter().any(|group| matches!(group, Expr::GroupingSet(_))) {
            return Err(wrong_call("a subquery can't refer to the outer query below ROLLUP, CUBE or GROUPING SETS"));
        }
        if !groups.is_empty() {
            groups.extend(keys.iter().cloned().map(Expr::Column));
            let plan = LogicalPlanBuilder::from(input).aggregate(groups, aggregates)?.build()?;
            return labelled(plan, &node.schema, keys);
        }
        // Without groups there is a row for every value of the domain, also for one without rows, for which the aggregates are what they are of nothing.
        let (values, all) = self.values_of(domain)?;
        let mark = self.name();
        let mut columns: Vec<Expr> = input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
        columns.push(lit(true).alias(mark.as_str()));
        let rows = LogicalPlanBuilder::from(input).project(columns)?.build()?;
        let plan =
            LogicalPlanBuilder::from(values).join_on(rows, JoinType::Left, same_keys(&all, &keys, domain)?)?.build()?;
        let present = Expr::Column(Column::new_unqualified(mark)).is_not_null();
        let aggregates = aggregates.into_iter().map(|expr| only_where(expr, &present)).collect::<Result<Vec<_>>>()?;
        let groups: Vec<Expr> = all.iter().cloned().map(Expr::Column).collect();
        let plan = LogicalPlanBuilder::from(plan).aggregate(groups, aggregates)?.build()?;
        labelled(plan, &node.schema, all)
    }

    fn limit_within(&self, node: &Limit, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (node.get_skip_type()?, node.get_fetch_type()?)
        else {
            return Err(wrong_call("a correlated subquery's LIMIT must be a number"));
        };
        let (sort, below): (&[SortExpr], &LogicalPlan) = match node.input.as_ref() {
            LogicalPlan::Sort(sort) => (&sort.expr, &sort.input),
            // The projection comes after the limit as well as before it.
            LogicalPlan::Projection(projection) => {
                let limited =
                    Limit { skip: node.skip.clone(), fetch: node.fetch.clone(), input: Arc::clone(&projection.input) };
                let mut outer = projection.clone();
                outer.input = Arc::new(LogicalPlan::Limit(limited));
                return self.within(&LogicalPlan::Projection(outer), domain);
            }
            other => (&[], other),
        };
        let (input, keys) = self.within(below, domain)?;
        let sort = sort
            .iter()
            .map(|sort| Ok(sort.with_expr(resolve(sort.expr.clone(), domain, &keys)?)))
            .collect::<Result<Vec<_>>>()?;
        let Some(row_number) = self.state.window_functions().get("row_number") else {
            return Err(wrong_call("there is no function `row_number`"));
        };
        let mut window = WindowFunction::new(WindowFunctionDefinition::WindowUDF(Arc::clone(row_number)), vec![]);
        window.params = WindowFunctionParams {
            partition_by: keys.iter().cloned().map(Expr::Column).collect(),
            order_by: sort,
            ..window.params
        };
        let number = self.name();
        let numbered =
            LogicalPlanBuilder::from(input).window(vec![Expr::from(window).alias(number.as_str())])?.build()?;
        let number = Expr::Column(Column::new_unqualified(number));
        let limit = |rows: usize| lit(u64::try_from(rows).unwrap_or(u64::MAX));
        let mut conditions = vec![number.clone().gt(limit(skip))];
        conditions.extend(fetch.map(|fetch| number.lt_eq(limit(skip.saturating_add(fetch)))));
        let builder = LogicalPlanBuilder::from(numbered);
        let plan = match conjunction(conditions) {
            Some(predicate) => builder.filter(predicate)?.build()?,
            None => builder.build()?,
        };
        labelled(plan, node.input.schema(), keys)
    }

    fn join_within(&self, join: &Join, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let uses = |plan: &LogicalPlan| -> Result<bool> {
            Ok(outer_columns(plan)?.iter().any(|column| domain.outer.contains(column)))
        };
        let (in_left, in_right) = (uses(&join.left)?, uses(&join.right)?);
        let inner = join.join_type == JoinType::Inner;
        let keeps_left = matches!(join.join_type, JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti);
        let keeps_right = matches!(join.join_type, JoinType::Right | JoinType::RightSemi | JoinType::RightAnti);
        if !inner && !keeps_left && !keeps_right {
            return Err(wrong_call(format!(
                "a subquery can't refer to the outer query below a {} join",
                join.join_type
            )));
        }
        // The side whose rows are kept must have the keys; the other one where it refers to them.
        let left_has = in_left || keeps_left || (inner && !in_right);
        let right_has = in_right || keeps_right;
        let (left, left_keys) = match left_has {
            true => self.within(&join.left, domain)?,
            false => (join.left.as_ref().clone(), Vec::new()),
        };
        let (right, right_keys) = match right_has {
            true => self.within(&join.right, domain)?,
            false => (join.right.as_ref().clone(), Vec::new()),
        };
        let keys = if keeps_right || left_keys.is_empty() { right_keys.clone() } else { left_keys.clone() };
        let mut conditions = Vec::new();
        for (l, r) in &join.on {
            let null_equals = join.null_equality == datafusion::common::NullEquality::NullEqualsNull;
            let (l, r) = (resolve(l.clone(), domain, &keys)?, resolve(r.clone(), domain, &keys)?);
            if null_equals {
                let data_type = datafusion::logical_expr::ExprSchemable::get_type(&l, left.schema())?;
                conditions.extend(same(l, r, &data_type)?);
            } else {
                conditions.push(l.eq(r));
            }
        }
        if let Some(filter) = &join.filter {
            conditions.push(resolve(filter.clone(), domain, &keys)?);
        }
        if !left_keys.is_empty() && !right_keys.is_empty() {
            conditions.extend(same_keys(&left_keys, &right_keys, domain)?);
        }
        if conditions.is_empty() {
            conditions.push(lit(true));
        }
        let builder = LogicalPlanBuilder::from(left);
        let plan = if inner && conditions == [lit(true)] {
            builder.cross_join(right)?.build()?
        } else {
            builder.join_on(right, join.join_type, conditions)?.build()?
        };
        labelled(plan, &join.schema, keys)
    }

    fn union_within(&self, union: &Union, domain: &Domain) -> Result<(LogicalPlan, Vec<Column>)> {
        let name = self.name();
        let width = union.schema.fields().len();
        let mut all: Option<LogicalPlanBuilder> = None;
        for input in &union.inputs {
            let (input, keys) = self.within(input, domain)?;
            let mut columns = Vec::new();
            for (i, column) in input.schema().iter().take(width).enumerate() {
                columns.push(Expr::Column(Column::from(column)).alias(format!("{name}_c{i}")));
            }
            columns
                .extend(keys.into_iter().enumerate().map(|(i, key)| Expr::Column(key).alias(format!("{name}_d{i}"))));
            let part = LogicalPlanBuilder::from(input).project(columns)?.build()?;
            all = Some(match all {
                None => LogicalPlanBuilder::from(part),
                Some(builder) => builder.union(part)?,
            });
        }
        let Some(all) = all else { return Err(wrong_call("a union of nothing")) };
        let plan = all.build()?;
        let keys: Vec<Column> =
            (0..domain.keys.len()).map(|i| Column::new_unqualified(format!("{name}_d{i}"))).collect();
        labelled(plan, &union.schema, keys)
    }
}

/// A plan's first columns under the names of a schema, then the keys and nothing else.
fn labelled(plan: LogicalPlan, schema: &DFSchemaRef, keys: Vec<Column>) -> Result<(LogicalPlan, Vec<Column>)> {
    let own: Vec<Column> = plan.schema().iter().map(Column::from).filter(|column| !keys.contains(column)).collect();
    let columns = own.into_iter().zip(schema.iter()).map(|(column, (relation, field))| {
        let same = column.relation.as_ref() == relation && column.name == *field.name();
        let expr = Expr::Column(column);
        if same { expr } else { expr.alias_qualified(relation.cloned(), field.name()) }
    });
    let columns: Vec<Expr> = columns.chain(keys.iter().cloned().map(Expr::Column)).collect();
    Ok((LogicalPlanBuilder::from(plan).project(columns)?.build()?, keys))
}

fn same_keys(left: &[Column], right: &[Column], domain: &Domain) -> Result<Vec<Expr>> {
    let mut conditions = Vec::new();
    for ((left, right), data_type) in left.iter().zip(right).zip(&domain.types) {
        conditions.extend(same(Expr::Column(left.clone()), Expr::Column(right.clone()), data_type)?);
    }
    Ok(conditions)
}

/// The expression with the domain's columns for the outer ones.
fn resolve(expr: Expr, domain: &Domain, keys: &[Column]) -> Result<Expr> {
    let done = expr.transform_up(|expr| {
        let Expr::OuterReferenceColumn(_, column) = &expr else { return Ok(Transformed::no(expr)) };
        match domain.outer.iter().position(|outer| outer == column).and_then(|i| keys.get(i)) {
            Some(key) => Ok(Transformed::yes(Expr::Column(key.clone()))),
            None => Ok(Transformed::no(expr)),
        }
    });
    Ok(done?.data)
}

/// The same, with the names that the expressions had.
fn resolve_all(exprs: &[Expr], domain: &Domain, keys: &[Column]) -> Result<Vec<Expr>> {
    let names = datafusion::logical_expr::expr_rewriter::NamePreserver::new_for_projection();
    exprs
        .iter()
        .map(|expr| {
            if matches!(expr, Expr::GroupingSet(_)) {
                return Ok(expr.clone());
            }
            let name = names.save(expr);
            Ok(name.restore(resolve(expr.clone(), domain, keys)?))
        })
        .collect()
}

/// An aggregate over those rows for which a condition holds.
fn only_where(expr: Expr, condition: &Expr) -> Result<Expr> {
    let names = datafusion::logical_expr::expr_rewriter::NamePreserver::new_for_projection();
    let name = names.save(&expr);
    let done = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::AggregateFunction(mut call) => {
                call.params.filter = Some(Box::new(match call.params.filter.take() {
                    Some(filter) => condition.clone().and(*filter),
                    None => condition.clone(),
                }));
                Transformed::yes(Expr::AggregateFunction(call))
            }
            other => Transformed::no(other),
        })
    });
    Ok(name.restore(done?.data))
}

/// A window function within the keys.
fn partitioned(expr: Expr, keys: &[Column]) -> Result<Expr> {
    let names = datafusion::logical_expr::expr_rewriter::NamePreserver::new_for_projection();
    let name = names.save(&expr);
    let done = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::WindowFunction(mut call) => {
                call.params.partition_by.extend(keys.iter().cloned().map(Expr::Column));
                Transformed::yes(Expr::WindowFunction(call))
            }
            other => Transformed::no(other),
        })
    });
    Ok(name.restore(done?.data))
}

/// A plan with at least the rows of another, for a domain of `keys` over it: a LIMIT may choose other rows when it runs a second time, so it is left
/// out, and so are lookups, which add columns only. What would still not be the same a second time is an error.
pub(super) fn relaxed(plan: &LogicalPlan, keys: &[Expr]) -> Result<LogicalPlan> {
    let needs = |right: &LogicalPlan| {
        keys.iter().flat_map(|key| key.column_refs()).any(|column| right.schema().has_column(column))
    };
    let is_lookup = |plan: &LogicalPlan| matches!(plan, LogicalPlan::SubqueryAlias(alias) if alias.alias.table().starts_with("__trireme_lookup_"));
    match plan {
        LogicalPlan::Limit(node) => relaxed(&node.input, keys),
        LogicalPlan::Sort(node) => relaxed(&node.input, keys),
        LogicalPlan::Join(join)
            if join.join_type == JoinType::Left && is_lookup(&join.right) && !needs(&join.right) =>
        {
            relaxed(&join.left, keys)
        }
        LogicalPlan::Join(join)
            if join.join_type == JoinType::Inner
                && join.on.is_empty()
                && join.filter.is_none()
                && is_lookup(&join.left)
                && !needs(&join.left) =>
        {
            relaxed(&join.right, keys)
        }
        LogicalPlan::Filter(node) => {
            let input = relaxed(&node.input, keys)?;
            let keeps = input.schema() == node.input.schema() && !node.predicate.is_volatile();
            if keeps { LogicalPlanBuilder::from(input).filter(node.predicate.clone())?.build() } else { Ok(input) }
        }
        LogicalPlan::Projection(node) => {
            let input = relaxed(&node.input, &node.expr)?;
            check_constant(&LogicalPlan::Projection(node.clone()))?;
            LogicalPlanBuilder::from(input).project(node.expr.clone())?.build()
        }
        LogicalPlan::SubqueryAlias(node) => {
            let all: Vec<Expr> = node.input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
            LogicalPlanBuilder::from(relaxed(&node.input, &all)?).alias(node.alias.clone())?.build()
        }
        other => {
            check_repeatable(other)?;
            Ok(other.clone())
        }
    }
}

/// An error if a plan may give other rows when it runs a second time.
fn check_repeatable(plan: &LogicalPlan) -> Result<()> {
    if matches!(plan, LogicalPlan::Limit(_)) {
        return Err(unrepeatable("a LIMIT chose"));
    }
    check_constant(plan)?;
    let counts =
        matches!(plan, LogicalPlan::Aggregate(node) if node.group_expr.is_empty() && !reads_columns(&node.aggr_expr));
    for input in plan.inputs() {
        match input {
            // How many rows it chose is the same each time.
            LogicalPlan::Limit(limit) if counts => check_repeatable(&limit.input)?,
            other => check_repeatable(other)?,
        }
    }
    Ok(())
}

/// An error if a plan's own expressions change from call to call.
fn check_constant(plan: &LogicalPlan) -> Result<()> {
    let mut changes = false;
    plan.apply_expressions(|expr| {
        changes |= expr.is_volatile();
        Ok(TreeNodeRecursion::Continue)
    })?;
    if changes { Err(unrepeatable("change from call to call")) } else { Ok(()) }
}

fn reads_columns(exprs: &[Expr]) -> bool {
    exprs.iter().any(Expr::any_column_refs)
}

fn unrepeatable(why: &str) -> DataFusionError {
    wrong_call(format!("a correlated subquery can't depend on rows that {why}"))
}
