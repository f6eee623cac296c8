//! `UNION`, `INTERSECT`, `EXCEPT` and `VALUES` with Spark's types: DataFusion gives what stands around them the first branch's, and takes `ALL` of
//! the latter two for joins without counts.
//!
//! [`super::rewrite`] makes a relation of each: `SELECT * FROM (a UNION b)`. So each gets here while the statement is planned.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, Result},
    logical_expr::{
        Expr, ExprFunctionExt, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast, lit,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
    },
    sql::sqlparser::ast::{
        Expr as SqlExpr, Ident, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier, TableFactor, Values,
    },
};

use super::{
    coercion::{common, wider},
    floats::normal,
    kernel::wrong_call,
    types::type_name,
};

/// Plans set operations and VALUES.
#[derive(Debug)]
pub(super) struct SetOperations;

impl RelationPlanner for SetOperations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Derived { lateral: false, subquery, alias, sample } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plain = subquery.with.is_none() && subquery.order_by.is_none() && subquery.limit_clause.is_none();
        let plan = match subquery.body.as_ref() {
            SetExpr::SetOperation { set_quantifier, .. }
                if plain
                    && matches!(set_quantifier, SetQuantifier::None | SetQuantifier::All | SetQuantifier::Distinct) =>
            {
                plan(*subquery.body, context)?
            }
            SetExpr::Values(_) if plain => plan(*subquery.body, context)?,
            _ => {
                let relation = TableFactor::Derived { lateral: false, subquery, alias, sample };
                return Ok(RelationPlanning::Original(Box::new(relation)));
            }
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn plan(body: SetExpr, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let (op, all, left, right) = match body {
        SetExpr::SetOperation { op, set_quantifier, left, right } => {
            (op, set_quantifier == SetQuantifier::All, *left, *right)
        }
        SetExpr::Values(values) => return plan_values(values, context),
        SetExpr::Query(query) => return context.plan(relation(*query)),
        other => return context.plan(relation(query_of(other))),
    };
    let (left, right) = (plan(left, context)?, plan(right, context)?);
    let (left, right) = unified(&op, left, right)?;
    match (op, all) {
        (SetOperator::Union, true) => LogicalPlanBuilder::from(left).union(right)?.build(),
        (SetOperator::Union, false) => LogicalPlanBuilder::from(left).union_distinct(right)?.build(),
        (op, false) => combined(&op, left, right, false),
        (op, true) => {
            // The n-th of equal rows on one side meets the n-th on the other.
            let width = left.schema().fields().len();
            let plan = combined(&op, numbered(left)?, numbered(right)?, true)?;
            let kept: Vec<Expr> = plan.schema().columns().into_iter().take(width).map(Expr::Column).collect();
            LogicalPlanBuilder::from(plan).project(kept)?.build()
        }
    }
}

/// Makes a query of each SELECT between set operators: what is spelled out of a query then is of those, too.
pub(super) fn arms_as_queries(body: &mut SetExpr) {
    let SetExpr::SetOperation { left, right, .. } = body else { return };
    for arm in [left, right] {
        match arm.as_mut() {
            SetExpr::Select(_) => {
                let select = std::mem::replace(arm.as_mut(), SetExpr::Values(no_values()));
                **arm = SetExpr::Query(Box::new(query_of(select)));
            }
            operation => arms_as_queries(operation),
        }
    }
}

fn no_values() -> Values {
    Values { explicit_row: false, value_keyword: false, rows: vec![] }
}

fn combined(op: &SetOperator, left: LogicalPlan, right: LogicalPlan, all: bool) -> Result<LogicalPlan> {
    match op {
        SetOperator::Intersect => LogicalPlanBuilder::intersect(left, right, all),
        _ => LogicalPlanBuilder::except(left, right, all),
    }
}

/// Both with the types that they have in common, and the left one's names.
fn unified(op: &SetOperator, left: LogicalPlan, right: LogicalPlan) -> Result<(LogicalPlan, LogicalPlan)> {
    let (l, r) = (Arc::clone(left.schema()), Arc::clone(right.schema()));
    if l.fields().len() != r.fields().len() {
        return Err(wrong_call(format!(
            "{op} of {} and {} columns: both sides need as many",
            l.fields().len(),
            r.fields().len()
        )));
    }
    let mut types = Vec::with_capacity(l.fields().len());
    for (i, (a, b)) in l.fields().iter().zip(r.fields()).enumerate() {
        match wider(a.data_type(), b.data_type()) {
            Some(to) => types.push(to),
            None => {
                return Err(wrong_call(format!(
                    "column {} of {op} is {} on one side and {} on the other; CAST one of them",
                    i + 1,
                    type_name(a.data_type()),
                    type_name(b.data_type())
                )));
            }
        }
    }
    let keys = *op != SetOperator::Union;
    Ok((typed(left, &types, &l, keys)?, typed(right, &types, &l, keys)?))
}

/// The columns as types, with the names of a schema.
fn typed(plan: LogicalPlan, types: &[DataType], names: &DFSchema, keys: bool) -> Result<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    let mut changed = false;
    let mut columns = Vec::with_capacity(types.len());
    for ((column, to), name) in schema.columns().into_iter().zip(types).zip(names.fields()) {
        let same_name = column.name == *name.name();
        let mut expr = Expr::Column(column);
        let own = expr.get_type(schema.as_ref())?;
        let same_type = own == *to;
        if !same_type {
            expr = cast(expr, to.clone());
        }
        let is_float = keys && to.is_floating();
        if is_float {
            expr = normal(expr);
        }
        if !same_type || !same_name || is_float {
            changed = true;
            expr = expr.alias(name.name());
        }
        columns.push(expr);
    }
    if changed { LogicalPlanBuilder::from(plan).project(columns)?.build() } else { Ok(plan) }
}

/// The rows with a last column that counts equal ones.
fn numbered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let mut name = "row number".to_string();
    while columns.iter().any(|column| column.name == name) {
        name.push('_');
    }
    let partition = columns.iter().cloned().map(Expr::Column).collect();
    let number = datafusion::functions_window::expr_fn::row_number().partition_by(partition).build()?;
    let shown = number.schema_name().to_string();
    let plan = LogicalPlanBuilder::from(plan).window([number])?;
    let mut all: Vec<Expr> = columns.into_iter().map(Expr::Column).collect();
    all.push(Expr::Column(datafusion::common::Column::new_unqualified(shown)).alias(name));
    plan.project(all)?.build()
}

fn plan_values(values: Values, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let empty = DFSchema::empty();
    let mut rows: Vec<Vec<Expr>> = Vec::with_capacity(values.rows.len());
    for row in values.rows {
        let row = row.content.into_iter().map(|value| context.sql_to_expr(value, &empty));
        rows.push(row.collect::<Result<_>>()?);
    }
    let width = rows.first().map_or(0, Vec::len);
    if let Some((i, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != width) {
        return Err(wrong_call(format!("row {} of VALUES has {} values, the first one has {width}", i + 1, row.len())));
    }
    for column in 0..width {
        let types = rows.iter().map(|row| row[column].get_type(&empty)).collect::<Result<Vec<_>>>()?;
        if types.windows(2).all(|pair| pair[0] == pair[1]) {
            continue;
        }
        let Some(to) = common(&types) else {
            let names: Vec<_> = types.iter().map(type_name).collect();
            return Err(wrong_call(format!(
                "column {} of VALUES has {}, which have no type in common; CAST them to one",
                column + 1,
                names.join(", ")
            )));
        };
        for (row, own) in rows.iter_mut().zip(types) {
            if own != to {
                let value = std::mem::replace(&mut row[column], lit(0i32));
                row[column] = cast(value, to.clone());
            }
        }
    }
    let plan = LogicalPlanBuilder::values(rows)?.build()?;
    let columns = plan.schema().columns().into_iter().enumerate();
    let columns: Vec<Expr> = columns.map(|(i, column)| Expr::Column(column).alias(format!("col{}", i + 1))).collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

fn query_of(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}

fn relation(query: Query) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: None, sample: None }
}

/// Makes a relation of a query's set operation or VALUES.
pub(super) fn wrap(query: &mut Query) {
    match query.body.as_mut() {
        SetExpr::SetOperation { left, right, .. } => {
            name_columns(left, true);
            name_columns(right, false);
        }
        SetExpr::Values(_) => {}
        _ => return,
    }
    let all = super::syntax::select_all();
    let body = std::mem::replace(query.body.as_mut(), all);
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        from.relation = relation(query_of(body));
    }
}

/// What has no name gets one in branches behind the first: the same expression may stand there twice.
fn name_columns(body: &mut SetExpr, first: bool) {
    match body {
        SetExpr::Select(select) if !first => alias_items(select),
        SetExpr::Query(query) if query.order_by.is_none() => name_columns(&mut query.body, first),
        SetExpr::SetOperation { left, right, .. } => {
            name_columns(left, first);
            name_columns(right, false);
        }
        _ => {}
    }
}

fn alias_items(select: &mut Select) {
    for (i, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && !matches!(expr, SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_))
        {
            let expr = super::syntax::take(expr);
            *item = SelectItem::ExprWithAlias { expr, alias: Ident::new(format!("col {}", i + 1)) };
        }
    }
}
