//! Subqueries become plain joins and aggregates before the optimizer sees them.
//!
//! DataFusion's own decorrelation gives wrong rows for several kinds (upstream 8241, 10583, 24960): NOT IN beside an OR, whose mark join knows no
//! NULL; NOT IN and EXISTS that are correlated and aggregate; keys that are compared after a cast. Others it refuses: correlation by inequality, in a
//! JOIN's condition, in a projection. So only the few shapes that it does right are left to it ([`trusted`]), for they are the quick ones. All others are
//! computed by a *lookup*: the values of the outer columns that a subquery needs, each once (its *domain*), are joined into the subquery
//! ([`domain`]), which then gives its answer for each of them, and the answers are joined to the outer rows again. That takes joins by equality and
//! aggregates only, which are the same on one task and on many.
//!
//! What is true of no rows is kept: an aggregate without groups has a row for every value of the domain, a scalar subquery of no row is NULL and of
//! several is an error, `x IN (…)` is unknown where `x` is NULL and there are rows, or where there is a NULL and no match.
mod domain;
mod join;
mod lookup;
mod trusted;

pub(super) use lookup::same;

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        Column, DFSchema, DFSchemaRef, Result,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::SessionState,
    logical_expr::{
        BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, cast,
        expr::{Exists, InSubquery},
        expr_rewriter::NamePreserver,
        planner::{ExprPlanner, PlannerResult, RawBinaryExpr},
        type_coercion::binary::comparison_coercion,
        utils::{conjunction, split_conjunction_owned},
    },
    sql::sqlparser::ast::BinaryOperator,
};

use super::{calls::SparkPlanner, kernel::wrong_call, relations::Answers};

/// The plan without those subqueries that DataFusion would get wrong.
pub(super) fn flatten(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_subqueries(&plan)? {
        return Ok(plan);
    }
    let planner = SparkPlanner::new(state, Answers::default());
    Flattener { state, planner, names: Cell::new(0), single_rows: RefCell::default() }.plan(plan)
}

struct Flattener<'a> {
    state: &'a SessionState,
    /// What compares values as Spark does.
    planner: SparkPlanner,
    /// How many relations got a name.
    names: Cell<usize>,
    /// Relations of one row each that the node at hand needs beside its input.
    single_rows: RefCell<SingleRows>,
}

/// Relations that become one of this name.
#[derive(Default)]
struct SingleRows {
    name: Option<String>,
    plans: Vec<LogicalPlan>,
}

impl Flattener<'_> {
    /// A name for a relation that no other has.
    fn name(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("__trireme_lookup_{}", self.names.get())
    }

    fn plan(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        // Those of a node around wait until that one is done.
        let of_others = self.single_rows.take();
        let flat = self.node_and_below(plan);
        self.single_rows.replace(of_others);
        flat
    }

    /// The columns of a plan of one row, for every row of the node at hand.
    fn beside(&self, plan: LogicalPlan) -> Result<Vec<Expr>> {
        let own = self.name();
        let together = self.single_rows.borrow_mut().name.get_or_insert_with(|| self.name()).clone();
        let (mut named, mut columns) = (Vec::new(), Vec::new());
        for (i, column) in plan.schema().iter().enumerate() {
            let name = format!("{own}_{i}");
            named.push(Expr::Column(Column::from(column)).alias(name.as_str()));
            columns.push(Expr::Column(Column::new(Some(together.as_str()), name)));
        }
        let plan = LogicalPlanBuilder::from(plan).project(named)?.alias(own)?.build()?;
        self.single_rows.borrow_mut().plans.push(plan);
        Ok(columns)
    }

    /// The input with the relations of one row. They are joined to each other first, in pairs: in a chain, a dozen of them would nest too deeply to be
    /// sent. The names keep the optimizer from making a chain of them again.
    fn with_single_rows(&self, input: &mut LogicalPlan) -> Result<()> {
        let SingleRows { name: Some(name), plans: mut rows } = self.single_rows.take() else { return Ok(()) };
        while rows.len() > 1 {
            let mut pairs = Vec::with_capacity(rows.len().div_ceil(2));
            let mut left = rows.into_iter();
            while let Some(row) = left.next() {
                pairs.push(match left.next() {
                    Some(other) => LogicalPlanBuilder::from(row).cross_join(other)?.alias(self.name())?.build()?,
                    None => row,
                });
            }
            rows = pairs;
        }
        if let Some(row) = rows.pop() {
            // The one row comes first: it is the side that a join holds.
            let row = LogicalPlanBuilder::from(row).alias(name)?;
            *input = row.cross_join(std::mem::take(input))?.build()?;
        }
        Ok(())
    }

    fn node_and_below(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = plan.map_children(|child| self.plan(child).map(Transformed::yes))?.data;
        match plan {
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Filter(filter) if has_subquery(&filter.predicate) => self.filter(filter),
            other => {
                let mut found = false;
                other.apply_expressions(|expr| {
                    found |= has_subquery(expr);
                    Ok(TreeNodeRecursion::Continue)
                })?;
                if found { self.node(other) } else { Ok(other) }
            }
        }
    }

    fn filter(&self, filter: Filter) -> Result<LogicalPlan> {
        let schema = Arc::clone(filter.input.schema());
        let mut input = Arc::unwrap_or_clone(filter.input);
        // Subqueries are asked for rows that pass the other conditions only: comma joins would be whole products. What is drawn at random
        // would be drawn twice.
        let (first, conjuncts): (Vec<_>, Vec<_>) = split_conjunction_owned(filter.predicate)
            .into_iter()
            .partition(|conjunct| !has_subquery(conjunct) && !conjunct.is_volatile());
        if let Some(first) = conjunction(first) {
            input = LogicalPlan::Filter(Filter::try_new(first, Arc::new(input))?);
        }

        let conjuncts =
            conjuncts.into_iter().map(|conjunct| self.conjunct(conjunct, &mut input)).collect::<Result<Vec<_>>>()?;
        self.with_single_rows(&mut input)?;
        let Some(predicate) = conjunction(conjuncts) else { return Ok(input) };
        let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?);
        restored(plan, &schema)
    }

    /// A condition of which only TRUE counts.
    fn conjunct(&self, expr: Expr, input: &mut LogicalPlan) -> Result<Expr> {
        let expr = match expr {
            Expr::Not(inner) => match *inner {
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    Expr::InSubquery(InSubquery { expr, subquery, negated: !negated })
                }
                Expr::Exists(Exists { subquery, negated }) => Expr::Exists(Exists { subquery, negated: !negated }),
                other => Expr::Not(Box::new(other)),
            },
            other => other,
        };
        match expr {
            Expr::Exists(Exists { subquery, negated }) => {
                let plan = self.plan(Arc::unwrap_or_clone(subquery.subquery))?;
                if trusted::exists(&plan, input.schema())? {
                    return Ok(Expr::Exists(Exists { subquery: subquery_of(plan), negated }));
                }
                let found = self.exists(input, plan)?;
                Ok(if negated { Expr::Not(Box::new(found)) } else { found })
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) if !has_subquery(&expr) => {
                let plan = self.plan(Arc::unwrap_or_clone(subquery.subquery))?;
                if self.is_trusted_membership(&expr, &plan, negated, input.schema())? {
                    return Ok(Expr::InSubquery(InSubquery { expr, subquery: subquery_of(plan), negated }));
                }
                if negated {
                    Ok(Expr::Not(Box::new(self.membership(input, *expr, plan, true)?)))
                } else {
                    self.membership(input, *expr, plan, false)
                }
            }
            other => self.expr(other, input, true),
        }
    }

    /// Any node over one input whose expressions have subqueries.
    fn node(&self, node: LogicalPlan) -> Result<LogicalPlan> {
        let mut inputs: Vec<LogicalPlan> = node.inputs().into_iter().cloned().collect();
        let (Some(mut input), true) = (inputs.pop(), inputs.is_empty()) else {
            return Err(wrong_call("a subquery can't stand here"));
        };
        // DataFusion's own rule knows filters and projections only.
        let scalars = matches!(node, LogicalPlan::Projection(_));
        let names = NamePreserver::new(&node);
        let schema = Arc::clone(node.schema());
        let mut exprs = Vec::new();
        for expr in node.expressions() {
            let name = names.save(&expr);
            exprs.push(name.restore(self.expr(expr, &mut input, scalars)?));
        }
        self.with_single_rows(&mut input)?;
        let shows_input = !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_));
        let plan = node.with_new_exprs(exprs, vec![input])?;
        if shows_input { restored(plan, &schema) } else { Ok(plan) }
    }

    /// An expression whose subqueries are columns of the input, which gets them.
    fn expr(&self, expr: Expr, input: &mut LogicalPlan, scalars: bool) -> Result<Expr> {
        let done = expr.transform_down(|expr| {
            let done = match expr {
                Expr::ScalarSubquery(subquery) => {
                    let plan = self.plan(Arc::unwrap_or_clone(subquery.subquery))?;
                    if scalars && trusted::scalar(&plan, input.schema())? {
                        Expr::ScalarSubquery(subquery_of(plan))
                    } else {
                        self.scalar(input, plan)?
                    }
                }
                Expr::Exists(Exists { subquery, negated }) => {
                    let plan = self.plan(Arc::unwrap_or_clone(subquery.subquery))?;
                    let found = self.exists(input, plan)?;
                    if negated { Expr::Not(Box::new(found)) } else { found }
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    let value = self.expr(*expr, input, false)?;
                    let plan = self.plan(Arc::unwrap_or_clone(subquery.subquery))?;
                    let found = self.membership(input, value, plan, true)?;
                    if negated { Expr::Not(Box::new(found)) } else { found }
                }
                other => return Ok(Transformed::no(other)),
            };
            Ok(Transformed::new(done, true, TreeNodeRecursion::Jump))
        });
        Ok(done?.data)
    }

    /// `left = right` as Spark compares them, both sides of one type.
    fn equal(&self, left: Expr, right: Expr, schema: &DFSchema) -> Result<(Expr, Expr)> {
        let raw = RawBinaryExpr { op: BinaryOperator::Eq, left, right };
        let (left, right) = match self.planner.plan_binary_op(raw, schema)? {
            PlannerResult::Original(raw) => (raw.left, raw.right),
            PlannerResult::Planned(Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right })) => (*left, *right),
            PlannerResult::Planned(_) => return Err(wrong_call("IN can't compare these types")),
        };
        let (l, r) = (left.get_type(schema)?, right.get_type(schema)?);
        if l == r {
            return Ok((left, right));
        }
        match comparison_coercion(&l, &r) {
            Some(common) => {
                let to = |expr: Expr, from: DataType| if from == common { expr } else { cast(expr, common.clone()) };
                Ok((to(left, l), to(right, r)))
            }
            None => Err(wrong_call(format!(
                "IN can't compare {} with {}",
                super::types::type_name(&l),
                super::types::type_name(&r)
            ))),
        }
    }
}

fn subquery_of(plan: LogicalPlan) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Default::default() }
}

/// The columns of a schema, and no others.
fn restored(plan: LogicalPlan, schema: &DFSchemaRef) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == schema.fields().len() {
        return Ok(plan);
    }
    let columns: Vec<Expr> = schema.iter().map(|column| Expr::Column(Column::from(column))).collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))))
        .unwrap_or(true)
}

fn has_subqueries(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= matches!(node, LogicalPlan::Subquery(_));
        node.apply_expressions(|expr| {
            found |= has_subquery(expr);
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The outer columns that a plan's own expressions refer to; those of subqueries in it refer to the plan.
fn outer_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut found: Vec<Column> = Vec::new();
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::OuterReferenceColumn(_, column) = expr
                    && !found.contains(column)
                {
                    found.push(column.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// Whether a plan gives exactly one row, whatever it reads.
fn gives_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        LogicalPlan::Values(values) => values.values.len() == 1,
        LogicalPlan::Projection(node) => gives_one_row(&node.input),
        LogicalPlan::SubqueryAlias(node) => gives_one_row(&node.input),
        LogicalPlan::Sort(node) => gives_one_row(&node.input),
        LogicalPlan::Window(node) => gives_one_row(&node.input),
        LogicalPlan::Subquery(node) => gives_one_row(&node.subquery),
        LogicalPlan::Join(join) => {
            join.on.is_empty()
                && join.filter.is_none()
                && join.join_type == datafusion::common::JoinType::Inner
                && gives_one_row(&join.left)
                && gives_one_row(&join.right)
        }
        _ => false,
    }
}
