//! What a subquery says of each outer row, as columns of that row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::{
    common::{
        Column, DFSchema, JoinType, Result, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        AggregateUDF, Expr, ExprSchemable, FetchType, LogicalPlan, LogicalPlanBuilder, Operator, SkipType, binary_expr,
        expr::AggregateFunction, lit, utils::conjunction, when,
    },
};

use super::{
    Flattener,
    domain::{Domain, relaxed},
    gives_one_row, outer_columns, trusted,
};
use crate::sql::{kernel::wrong_call, single};

impl Flattener<'_> {
    /// Whether the subquery has a row.
    pub(super) fn exists(&self, input: &mut LogicalPlan, plan: LogicalPlan) -> Result<Expr> {
        let plan = bare(plan)?;
        if gives_one_row(&plan) {
            return Ok(lit(true));
        }
        let outer = self.outer_of(&plan, input)?;
        if outer.is_empty() {
            let one = if outer_columns(&plan)?.is_empty() {
                LogicalPlanBuilder::from(plan).limit(0, Some(1))?.build()?
            } else {
                plan
            };
            let count = self.one_row(one, vec![self.count(lit(1i64))?])?.remove(0);
            return Ok(count.gt(lit(0i64)));
        }
        if let Some((plan, pairs)) = trusted::equalities(&plan, input.schema())? {
            return self.exists_by_key(input, plan, pairs);
        }
        let domain = Domain::of(input, outer, Vec::new())?;
        let (plan, keys) = self.within(&plan, &domain)?;
        let counts = self.by_key(input, &domain, plan, &keys, vec![self.count(lit(1i64))?])?;
        Ok(counts.into_iter().next().unwrap_or_else(|| lit(ScalarValue::Null)).is_not_null())
    }

    /// Whether there is a row with the same keys, of which each is an inner column and an outer one. It needs no domain.
    fn exists_by_key(&self, input: &mut LogicalPlan, plan: LogicalPlan, pairs: Vec<(Column, Column)>) -> Result<Expr> {
        let name = self.name();
        let (mut groups, mut known, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (inner, outer)) in pairs.into_iter().enumerate() {
            known.push(Expr::Column(inner.clone()).is_not_null());
            groups.push(plain_zero(Expr::Column(inner), plan.schema())?.alias(format!("k{i}")));
            let outer = plain_zero(Expr::Column(outer), input.schema())?;
            conditions.push(outer.eq(Expr::Column(Column::new(Some(name.as_str()), format!("k{i}")))));
        }
        let lookup = LogicalPlanBuilder::from(filtered(plan, known)?)
            .aggregate(groups, vec![self.count(lit(1i64))?.alias("n")])?
            .alias(name.as_str())?
            .build()?;
        let outer_rows = std::mem::take(input);
        *input = LogicalPlanBuilder::from(outer_rows).join_on(lookup, JoinType::Left, conditions)?.build()?;
        Ok(Expr::Column(Column::new(Some(name), "n")).is_not_null())
    }

    /// Whether a value, or a tuple of values, is among the subquery's rows: TRUE, FALSE or, where `three_valued`, NULL for what is not known.
    pub(super) fn membership(
        &self,
        input: &mut LogicalPlan,
        value: Expr,
        plan: LogicalPlan,
        three_valued: bool,
    ) -> Result<Expr> {
        // The value may have such a row's column.
        self.with_single_rows(input)?;

        let (values, plan) = members(value, plan)?;
        if values.iter().any(Expr::is_volatile) {
            return Err(wrong_call("IN a subquery takes no value that changes from call to call"));
        }
        let outer = self.outer_of(&plan, input)?;
        let found = self.is_member(input, &values, &plan, &outer)?;
        if !three_valued {
            return Ok(found);
        }
        let nullable = |expr: &Expr| expr.nullable(input.schema().as_ref()).unwrap_or(true);
        let never_unknown =
            !values.iter().any(nullable) && plan.schema().fields().iter().all(|field| !field.is_nullable());
        if never_unknown {
            return Ok(found);
        }
        let unknown = match values.as_slice() {
            [value] => {
                let column = Expr::Column(Column::from(plan.schema().qualified_field(0)));
                let counts = vec![self.count(lit(1i64))?, self.count(column)?];
                let counts = if outer.is_empty() {
                    self.one_row(plan, counts)?
                } else {
                    let domain = Domain::of(input, outer, Vec::new())?;
                    // The count of a column of the plan, which is the same column within the domain.
                    let (plan, keys) = self.within(&plan, &domain)?;
                    self.by_key(input, &domain, plan, &keys, counts)?
                };
                let [all, known] = counts.as_slice() else { return Err(wrong_call("two counts")) };
                value.clone().is_null().and(all.clone().gt(lit(0i64))).or(all.clone().gt(known.clone()))
            }
            _ => {
                let (domain, inner, keys, own) = self.beside_values(input, &plan, &outer, &values)?;
                let mut conditions = Vec::new();
                for (i, key) in own.into_iter().enumerate() {
                    let column = Expr::Column(Column::from(plan.schema().qualified_field(i)));
                    let (left, right) = self.equal(key.clone(), column.clone(), inner.schema())?;
                    conditions.push(left.eq(right).or(key.is_null()).or(column.is_null()));
                }
                let filtered = filtered(inner, conditions)?;
                let counts = self.by_key(input, &domain, filtered, &keys, vec![self.count(lit(1i64))?])?;
                counts.into_iter().next().unwrap_or_else(|| lit(ScalarValue::Null)).is_not_null()
            }
        };
        when(found, lit(true)).when(unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(false))
    }

    /// Whether a row equals the values.
    fn is_member(
        &self,
        input: &mut LogicalPlan,
        values: &[Expr],
        plan: &LogicalPlan,
        outer: &[Column],
    ) -> Result<Expr> {
        let columns: Vec<Expr> = plan.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
        if !outer.is_empty() {
            let (domain, inner, keys, own) = self.beside_values(input, plan, outer, values)?;
            let mut conditions = Vec::new();
            for (key, column) in own.into_iter().zip(columns) {
                let (left, right) = self.equal(key, column, inner.schema())?;
                conditions.push(left.eq(right));
            }
            let counts =
                self.by_key(input, &domain, filtered(inner, conditions)?, &keys, vec![self.count(lit(1i64))?])?;
            return Ok(counts.into_iter().next().unwrap_or_else(|| lit(ScalarValue::Null)).is_not_null());
        }
        // Each of the subquery's rows once, as what it is compared as.
        let (mut keys, mut lookup_keys) = (Vec::new(), Vec::new());
        for (value, column) in values.iter().zip(columns) {
            let (left, right) = self.pair(value, &column, input, plan)?;
            keys.push(left);
            lookup_keys.push(right);
        }
        let known: Vec<Expr> = lookup_keys.iter().cloned().map(Expr::is_not_null).collect();
        let name = self.name();
        let lookup = filtered(plan.clone(), known)?;
        let groups: Vec<Expr> = lookup_keys
            .into_iter()
            .enumerate()
            .map(|(i, key)| Ok(plain_zero(key, plan.schema())?.alias(format!("k{i}"))))
            .collect::<Result<_>>()?;
        let width = groups.len();
        let lookup = LogicalPlanBuilder::from(lookup)
            .aggregate(groups, vec![self.count(lit(1i64))?.alias("n")])?
            .alias(name.as_str())?
            .build()?;
        let mut conditions = Vec::with_capacity(width);
        for (i, key) in keys.into_iter().enumerate() {
            let key = plain_zero(key, input.schema())?;
            conditions.push(key.eq(Expr::Column(Column::new(Some(name.as_str()), format!("k{i}")))));
        }
        let outer_rows = std::mem::take(input);
        *input = LogicalPlanBuilder::from(outer_rows).join_on(lookup, JoinType::Left, conditions)?.build()?;
        Ok(Expr::Column(Column::new(Some(name), "n")).is_not_null())
    }

    /// The plan within the domain of its outer columns and of the values; with what each value is beside the plan's rows. A constant is itself: as a key
    /// DataFusion would lose it: of equalities of constants its rules make a plan without rows.
    fn beside_values(
        &self,
        input: &LogicalPlan,
        plan: &LogicalPlan,
        outer: &[Column],
        values: &[Expr],
    ) -> Result<(Domain, LogicalPlan, Vec<Column>, Vec<Expr>)> {
        let is_constant = |value: &&Expr| !outer.is_empty() && !value.any_column_refs() && !value.contains_outer();
        let varying: Vec<Expr> = values.iter().filter(|value| !is_constant(value)).cloned().collect();
        let domain = Domain::of(input, outer.to_vec(), varying)?;
        let (inner, keys) = self.within(plan, &domain)?;
        let mut own = keys[outer.len()..].iter().cloned().map(Expr::Column);
        let own = values
            .iter()
            .map(|value| if is_constant(&value) { Some(value.clone()) } else { own.next() })
            .collect::<Option<_>>()
            .ok_or_else(|| wrong_call("a key for every value"))?;
        Ok((domain, inner, keys, own))
    }

    /// The two sides of a comparison, each over its own input; both may have columns of the same name.
    fn pair(&self, value: &Expr, column: &Expr, input: &LogicalPlan, plan: &LogicalPlan) -> Result<(Expr, Expr)> {
        let typed = |name: &str, expr: &Expr, schema: &DFSchema| -> Result<Field> {
            Ok(Field::new(name, expr.get_type(schema)?, true))
        };
        let fields = vec![typed("__l", value, input.schema())?, typed("__r", column, plan.schema())?];
        let schema = DFSchema::try_from(Schema::new(fields))?;
        let stand_in = |name: &str| Expr::Column(Column::new_unqualified(name));
        // A literal stays one: some comparisons depend on it.
        let left = if matches!(value, Expr::Literal(..)) { value.clone() } else { stand_in("__l") };
        let (left, right) = self.equal(left, stand_in("__r"), &schema)?;
        Ok((replaced(left, "__l", value)?, replaced(right, "__r", column)?))
    }

    /// The subquery's one value; NULL where it has no row.
    pub(super) fn scalar(&self, input: &mut LogicalPlan, plan: LogicalPlan) -> Result<Expr> {
        let outer = self.outer_of(&plan, input)?;
        let one = gives_one_row(&plan);
        let value = Expr::Column(Column::from(plan.schema().qualified_field(0)));
        if outer.is_empty() {
            if one {
                let plan = LogicalPlanBuilder::from(plan).project(vec![value])?.build()?;
                return Ok(self.beside(plan)?.remove(0));
            }
            let mut found = self.one_row(plan, vec![self.count(lit(1i64))?, self.first(value)?])?;
            let (value, count) = (found.pop(), found.pop());
            return single_value(count, value);
        }
        let domain = Domain::of(input, outer, Vec::new())?;
        let (plan, keys) = self.within(&plan, &domain)?;
        if one {
            // One row for each key, so there is nothing to count.
            let name = self.name();
            let mut columns: Vec<Expr> =
                keys.iter().enumerate().map(|(i, key)| Expr::Column(key.clone()).alias(format!("k{i}"))).collect();
            columns.push(value.alias("v"));
            let lookup = LogicalPlanBuilder::from(plan).project(columns)?.alias(name.as_str())?.build()?;
            self.join_lookup(input, &domain, lookup, &name)?;
            return Ok(Expr::Column(Column::new(Some(name), "v")));
        }
        let mut found = self.by_key(input, &domain, plan, &keys, vec![self.count(lit(1i64))?, self.first(value)?])?;
        let (value, count) = (found.pop(), found.pop());
        single_value(count, value)
    }

    /// The outer columns of a subquery that are the input's; others are of a query further out.
    pub(super) fn outer_of(&self, plan: &LogicalPlan, input: &LogicalPlan) -> Result<Vec<Column>> {
        let columns = outer_columns(plan)?;
        Ok(columns.into_iter().filter(|column| input.schema().has_column(column)).collect())
    }

    /// Aggregates over all of a plan, as columns of every row of the input.
    fn one_row(&self, plan: LogicalPlan, aggregates: Vec<Expr>) -> Result<Vec<Expr>> {
        self.beside(LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), aggregates)?.build()?)
    }

    /// Aggregates over a plan within a domain, by its keys, as columns of the input; NULL for keys without rows.
    fn by_key(
        &self,
        input: &mut LogicalPlan,
        domain: &Domain,
        plan: LogicalPlan,
        keys: &[Column],
        aggregates: Vec<Expr>,
    ) -> Result<Vec<Expr>> {
        let name = self.name();
        let (aggregates, columns) = named(aggregates, &name);
        let groups: Vec<Expr> =
            keys.iter().enumerate().map(|(i, key)| Expr::Column(key.clone()).alias(format!("k{i}"))).collect();
        let lookup = LogicalPlanBuilder::from(plan).aggregate(groups, aggregates)?.alias(name.as_str())?.build()?;
        self.join_lookup(input, domain, lookup, &name)?;
        Ok(columns)
    }

    /// Joins a relation of one row a key, whose key columns are `k0`, `k1` …
    fn join_lookup(&self, input: &mut LogicalPlan, domain: &Domain, lookup: LogicalPlan, name: &str) -> Result<()> {
        let mut conditions = Vec::new();
        for (i, key) in domain.keys.iter().enumerate() {
            let found = Expr::Column(Column::new(Some(name), format!("k{i}")));
            let key = plain_zero(key.clone(), input.schema())?;
            conditions.extend(same(key, found, &domain.types[i])?);
        }
        let outer_rows = std::mem::take(input);
        *input = LogicalPlanBuilder::from(outer_rows).join_on(lookup, JoinType::Left, conditions)?.build()?;
        Ok(())
    }

    fn aggregate_function(&self, name: &str) -> Result<Arc<AggregateUDF>> {
        match self.state.aggregate_functions().get(name) {
            Some(function) => Ok(Arc::clone(function)),
            None => Err(wrong_call(format!("there is no function `{name}`"))),
        }
    }

    fn count(&self, of: Expr) -> Result<Expr> {
        self.aggregate("count", of)
    }

    fn first(&self, of: Expr) -> Result<Expr> {
        self.aggregate("first_value", of)
    }

    fn aggregate(&self, name: &str, of: Expr) -> Result<Expr> {
        let function = self.aggregate_function(name)?;
        Ok(Expr::AggregateFunction(AggregateFunction::new_udf(function, vec![of], false, None, vec![], None)))
    }
}

/// Aggregates with names, and the columns that they are of a relation.
fn named(aggregates: Vec<Expr>, relation: &str) -> (Vec<Expr>, Vec<Expr>) {
    let name = |i: usize| format!("v{i}");
    let columns = (0..aggregates.len()).map(|i| Expr::Column(Column::new(Some(relation), name(i)))).collect();
    (aggregates.into_iter().enumerate().map(|(i, aggregate)| aggregate.alias(name(i))).collect(), columns)
}

fn single_value(count: Option<Expr>, value: Option<Expr>) -> Result<Expr> {
    match (count, value) {
        (Some(count), Some(value)) => when(single::function().call(vec![count]), value).end(),
        _ => Err(wrong_call("a scalar subquery has a value")),
    }
}

fn filtered(plan: LogicalPlan, conditions: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(conditions) {
        Some(predicate) => LogicalPlanBuilder::from(plan).filter(predicate)?.build(),
        None => Ok(plan),
    }
}

fn replaced(expr: Expr, name: &str, with: &Expr) -> Result<Expr> {
    let done = expr.transform_up(|expr| {
        Ok(match &expr {
            Expr::Column(column) if column.relation.is_none() && column.name == name => Transformed::yes(with.clone()),
            _ => Transformed::no(expr),
        })
    });
    Ok(done?.data)
}

/// `-0.0` is `0.0`: keys that are equal must be the same key.
pub(super) fn plain_zero(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let zero = match expr.get_type(schema)? {
        DataType::Float64 => lit(0f64),
        DataType::Float32 => lit(0f32),
        _ => return Ok(expr),
    };
    Ok(binary_expr(expr, Operator::Plus, zero))
}

/// Conditions, each an equality of both sides, that together say that two values are the same or both NULL. Joins with `<=>` lose it in DataFusion when
/// other conditions join them (`ExtractEquijoinPredicate`, `EliminateCrossJoin`), so there is none.
pub(in crate::sql) fn same(left: Expr, right: Expr, data_type: &DataType) -> Result<Vec<Expr>> {
    if data_type.is_nested() || data_type.is_null() {
        return Ok(vec![binary_expr(left, Operator::IsNotDistinctFrom, right)]);
    }
    let default = ScalarValue::new_default(data_type)?;
    let known = |expr: Expr| when(expr.clone().is_null(), lit(default.clone())).otherwise(expr);
    Ok(vec![known(left.clone())?.eq(known(right.clone())?), left.is_null().eq(right.is_null())])
}

/// The values that IN compares, and a plan with a column for each. The tree's rewriting makes structs of tuples.
fn members(value: Expr, plan: LogicalPlan) -> Result<(Vec<Expr>, LogicalPlan)> {
    let Some(values) = tuple(&value) else { return Ok((vec![value], plan)) };
    let LogicalPlan::Projection(projection) = &plan else {
        return Err(wrong_call("a tuple can't be compared with this subquery"));
    };
    let columns = match projection.expr.as_slice() {
        [Expr::Alias(alias)] => tuple(&alias.expr),
        [expr] => tuple(expr),
        _ => None,
    };
    match columns {
        Some(columns) if columns.len() == values.len() => {
            let columns = columns.into_iter().enumerate().map(|(i, column)| column.alias(format!("c{i}")));
            let plan = LogicalPlanBuilder::from(Arc::clone(&projection.input))
                .project(columns.collect::<Vec<_>>())?
                .build()?;
            Ok((values, plan))
        }
        _ => Err(wrong_call("a tuple can't be compared with this subquery")),
    }
}

/// The values of a tuple that is compared with a subquery's rows, see [`crate::sql::relations::TUPLE`].
fn tuple(expr: &Expr) -> Option<Vec<Expr>> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let marked = match call.args.first() {
        Some(Expr::Literal(name, _)) => {
            name.try_as_str().flatten().is_some_and(|name| name.starts_with(crate::sql::relations::TUPLE))
        }
        _ => false,
    };
    (call.name() == "named_struct" && marked).then(|| call.args.iter().skip(1).step_by(2).cloned().collect())
}

/// Without what does not change whether there is a row.
fn bare(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Projection(node) => bare(Arc::unwrap_or_clone(node.input))?,
        LogicalPlan::Sort(node) if node.fetch.is_none() => bare(Arc::unwrap_or_clone(node.input))?,
        LogicalPlan::SubqueryAlias(node) => bare(Arc::unwrap_or_clone(node.input))?,
        LogicalPlan::Distinct(datafusion::logical_expr::Distinct::All(input)) => bare(Arc::unwrap_or_clone(input))?,
        LogicalPlan::Limit(node) => match (node.get_skip_type()?, node.get_fetch_type()?) {
            (SkipType::Literal(0), FetchType::Literal(fetch)) if fetch != Some(0) => {
                bare(Arc::unwrap_or_clone(node.input))?
            }
            _ => LogicalPlan::Limit(node),
        },
        other => other,
    })
}

impl Domain {
    /// The domain of outer columns, and of other values of the input's rows.
    pub(super) fn of(input: &LogicalPlan, outer: Vec<Column>, values: Vec<Expr>) -> Result<Self> {
        let keys: Vec<Expr> = outer.iter().cloned().map(Expr::Column).chain(values).collect();
        let types = keys.iter().map(|key| key.get_type(input.schema())).collect::<Result<Vec<_>>>()?;
        let columns = keys
            .iter()
            .enumerate()
            .map(|(i, key)| Ok(plain_zero(key.clone(), input.schema())?.alias(format!("d{i}"))))
            .collect::<Result<Vec<_>>>()?;
        let plan = LogicalPlanBuilder::from(relaxed(input, &keys)?).project(columns)?.distinct()?.build()?;
        Ok(Self { plan, outer, keys, types })
    }
}
