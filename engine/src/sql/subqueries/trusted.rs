//! The subqueries that DataFusion's own rules do right: those that become one semi, anti or left join by equality.

use datafusion::{
    common::{Column, DFSchema, Result},
    logical_expr::{
        BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator,
        utils::{conjunction, split_conjunction},
    },
};

use super::{Flattener, has_subquery, outer_columns};

/// `[NOT] EXISTS (SELECT … FROM … WHERE inner.x = outer.y AND …)`.
pub(super) fn exists(plan: &LogicalPlan, input: &DFSchema) -> Result<bool> {
    let outer = outer_columns(plan)?;
    Ok(!outer.is_empty()
        && outer.iter().all(|column| input.has_column(column))
        && Correlation::of(plan)?.is_simple(true))
}

/// `(SELECT sum(…) FROM … WHERE inner.x = outer.y AND …)`, where no row means NULL.
pub(super) fn scalar(plan: &LogicalPlan, input: &DFSchema) -> Result<bool> {
    let outer = outer_columns(plan)?;
    if outer.is_empty() || !outer.iter().all(|column| input.has_column(column)) {
        return Ok(false);
    }
    let LogicalPlan::Projection(projection) = plan else { return Ok(false) };
    let LogicalPlan::Aggregate(aggregate) = projection.input.as_ref() else { return Ok(false) };
    let null_of_nothing = |expr: &Expr| match expr {
        Expr::AggregateFunction(call) => matches!(call.func.name(), "sum" | "avg" | "min" | "max"),
        _ => false,
    };
    // A count of nothing is 0; that of an average does not tell.
    let counts = |expr: &Expr| matches!(expr, Expr::AggregateFunction(call) if call.func.name() == "count");
    let counted: Vec<String> =
        aggregate.aggr_expr.iter().filter(|expr| counts(expr)).map(|expr| expr.schema_name().to_string()).collect();
    let [expr] = projection.expr.as_slice() else { return Ok(false) };
    // The keys of the join stand beside the result: `(SELECT max(x) AS k FROM t WHERE t.k = outer.k)`.
    let name = projection.schema.field(0).name();
    if aggregate.input.schema().fields().iter().any(|field| field.name() == name) {
        return Ok(false);
    }
    let plain = aggregate.group_expr.is_empty()
        && aggregate.aggr_expr.iter().all(|expr| null_of_nothing(expr) || counts(expr))
        && !has_outer(expr)
        && !aggregate.aggr_expr.iter().any(has_outer)
        && is_null_of_null(expr, &counted);
    Ok(plain && Correlation::of(&aggregate.input)?.is_simple(false))
}

impl Flattener<'_> {
    /// `x IN (SELECT y …)` and, if nothing is correlated, `x NOT IN (SELECT y …)`, of values that need no cast.
    pub(super) fn is_trusted_membership(
        &self,
        value: &Expr,
        plan: &LogicalPlan,
        negated: bool,
        input: &DFSchema,
    ) -> Result<bool> {
        let outer = outer_columns(plan)?;
        let correlated = !outer.is_empty();
        if plan.schema().fields().len() != 1 || value.is_volatile() || has_subquery(value) {
            return Ok(false);
        }
        let (of_value, of_plan) = (value.get_type(input)?, plan.schema().field(0).data_type().clone());
        if of_value != of_plan && !(of_value.is_integer() && of_plan.is_integer()) || of_value.is_nested() {
            return Ok(false);
        }
        if !correlated {
            // A constant makes a join without a key.
            return Ok(!value.column_refs().is_empty());
        }
        let all = outer.iter().all(|column| input.has_column(column));
        Ok(all && !negated && !value.column_refs().is_empty() && Correlation::of(plan)?.is_simple(true))
    }
}

/// A plan, and the columns of its own and of the outer query that must be equal.
pub(super) type Equated = (LogicalPlan, Vec<(Column, Column)>);

/// A plan that refers to the outer query by `inner = outer` in one filter only, without these conditions, and the columns that must be equal.
pub(super) fn equalities(plan: &LogicalPlan, input: &DFSchema) -> Result<Option<Equated>> {
    let LogicalPlan::Filter(filter) = plan else { return Ok(None) };
    if !outer_columns(&filter.input)?.is_empty() {
        return Ok(None);
    }
    let (mut pairs, mut rest) = (Vec::new(), Vec::new());
    for conjunct in split_conjunction(&filter.predicate) {
        if !has_outer(conjunct) {
            rest.push(conjunct.clone());
            continue;
        }
        let Expr::BinaryExpr(BinaryExpr { left, right, .. }) = conjunct else { return Ok(None) };
        match (left.as_ref(), right.as_ref()) {
            (Expr::Column(inner), Expr::OuterReferenceColumn(_, outer))
            | (Expr::OuterReferenceColumn(_, outer), Expr::Column(inner))
                if input.has_column(outer) && is_equality(conjunct, filter.input.schema())? =>
            {
                pairs.push((inner.clone(), outer.clone()));
            }
            _ => return Ok(None),
        }
    }
    if rest.iter().any(|conjunct| has_subquery(conjunct) || conjunct.is_volatile()) {
        return Ok(None);
    }
    let builder = LogicalPlanBuilder::from(filter.input.as_ref().clone());
    let plan = match conjunction(rest) {
        Some(predicate) => builder.filter(predicate)?.build()?,
        None => builder.build()?,
    };
    Ok(Some((plan, pairs)))
}

/// How a plan refers to the outer query.
#[derive(Default)]
struct Correlation {
    /// There is an `inner = outer` of columns of one type.
    by_equality: bool,
    /// All is so.
    only_equality: bool,
    /// There is something else than filters under projections.
    other: bool,
    /// Inner columns that join conditions are made of.
    inner: Vec<Column>,
    /// Names that projections give to something else than a column of that name.
    made: Vec<String>,
}

impl Correlation {
    fn of(plan: &LogicalPlan) -> Result<Self> {
        let mut found = Self { only_equality: true, ..Self::default() };
        found.read(plan)?;
        // DataFusion keeps only the names of columns when it pulls conditions up, so two of one name would become one.
        let inner = &found.inner;
        let twins = inner.iter().any(|a| inner.iter().any(|b| a != b && a.name == b.name));
        found.other |= twins || inner.iter().any(|column| found.made.contains(&column.name));
        Ok(found)
    }

    fn is_simple(&self, conditions: bool) -> bool {
        !self.other && self.by_equality && (conditions || self.only_equality)
    }

    fn read(&mut self, plan: &LogicalPlan) -> Result<()> {
        if outer_columns(plan)?.is_empty() {
            // DataFusion goes through what is not correlated, too.
            return Ok(());
        }
        match plan {
            LogicalPlan::Projection(node) => {
                self.other |= node.expr.iter().any(|expr| has_outer(expr) || has_subquery(expr) || expr.is_volatile());
                for expr in &node.expr {
                    match expr {
                        Expr::Column(column) => self.inner.push(column.clone()),
                        other => self.made.push(other.schema_name().to_string()),
                    }
                }
                self.read(&node.input)
            }
            LogicalPlan::SubqueryAlias(node) => self.read(&node.input),
            LogicalPlan::Filter(node) => {
                for conjunct in split_conjunction(&node.predicate) {
                    self.other |= has_subquery(conjunct) || conjunct.is_volatile();
                    if has_outer(conjunct) {
                        self.inner.extend(conjunct.column_refs().into_iter().cloned());
                        match is_equality(conjunct, node.input.schema())? {
                            true => self.by_equality = true,
                            false => self.only_equality = false,
                        }
                    }
                }
                // The filters below must be of the same kind; one that is not correlated ends the search.
                self.read(&node.input)
            }
            _ => {
                self.other = true;
                Ok(())
            }
        }
    }
}

fn is_equality(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return Ok(false) };
    let (inner, outer) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(inner), Expr::OuterReferenceColumn(field, _))
        | (Expr::OuterReferenceColumn(field, _), Expr::Column(inner)) => (inner, field),
        _ => return Ok(false),
    };
    let inner: &Column = inner;
    Ok(Expr::Column(inner.clone()).get_type(schema)? == *outer.data_type())
}

fn has_outer(expr: &Expr) -> bool {
    expr.contains_outer()
}

/// Columns but for those that count, arithmetic and casts of them: NULL where the columns are.
fn is_null_of_null(expr: &Expr, counted: &[String]) -> bool {
    let constant = |expr: &Expr| matches!(expr, Expr::Literal(..));
    let each = |operands: &[&Expr]| {
        operands.iter().all(|expr| constant(expr) || is_null_of_null(expr, counted))
            && !operands.iter().all(|expr| constant(expr))
    };
    match expr {
        Expr::Column(column) => !counted.contains(&column.name),
        Expr::Alias(alias) => is_null_of_null(&alias.expr, counted),
        Expr::Cast(cast) => is_null_of_null(&cast.expr, counted),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let arithmetic = matches!(
                op,
                Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
            );
            arithmetic && each(&[left, right])
        }
        Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
            ("decimal_average", [sum, ..]) => is_null_of_null(sum, counted),
            ("decimal_add" | "decimal_subtract" | "decimal_multiply" | "decimal_divide", [left, right]) => {
                each(&[left, right])
            }
            _ => false,
        },
        _ => false,
    }
}
