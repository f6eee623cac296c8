//! `PIVOT` and `UNPIVOT`.

use datafusion::{
    common::{
        Column, DFSchema, Result,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::{
        Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, binary_expr, cast, expr::AggregateFunction,
        lit, planner::RelationPlannerContext, simplify::SimplifyContext, utils::conjunction, when,
    },
    optimizer::simplify_expressions::ExprSimplifier,
    sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias, Ident, NullInclusion, PivotValueSource},
};

use super::planner::unnested;
use crate::sql::{calls::SparkPlanner, kernel::wrong_call, types::type_name};

/// A row for each group of the columns that are not named, with the aggregates of each value as columns.
pub(super) fn pivot(
    planner: &SparkPlanner,
    context: &mut dyn RelationPlannerContext,
    input: LogicalPlan,
    aggregates: Vec<ExprWithAlias>,
    columns: Vec<SqlExpr>,
    values: PivotValueSource,
) -> Result<LogicalPlan> {
    let PivotValueSource::List(values) = values else {
        return Err(wrong_call("PIVOT needs its values written out: IN ('a', 'b')"));
    };
    let schema = input.schema().as_ref().clone();
    let several = aggregates.len() > 1;
    let mut planned = Vec::new();
    for aggregate in aggregates {
        let name = aggregate.alias.map(|alias| context.normalize_ident(alias));
        let expr = context.sql_to_expr(aggregate.expr, &schema)?;
        planned.push((name, normal(expr, &input)?));
    }
    let keys = columns
        .into_iter()
        .map(|column| match normal(context.sql_to_expr(column, &schema)?, &input)? {
            key @ Expr::Column(_) => Ok(key),
            _ => Err(wrong_call("PIVOT … FOR takes columns")),
        })
        .collect::<Result<Vec<_>>>()?;
    let used: Vec<&Column> =
        planned.iter().map(|(_, expr)| expr).chain(&keys).flat_map(|expr| expr.column_refs()).collect();
    let groups: Vec<Expr> =
        schema.iter().map(Column::from).filter(|column| !used.contains(&column)).map(Expr::Column).collect();
    let (mut parts, mut shown) = (Vec::new(), groups.clone());
    for value in values {
        let (conditions, natural) = chosen(planner, context, value.expr, &keys, &schema)?;
        let label = value.alias.map(|alias| context.normalize_ident(alias)).unwrap_or_else(|| natural.clone());
        planner.answers.spell(&label);
        let Some(condition) = conjunction(conditions) else { return Err(wrong_call("PIVOT without columns")) };
        for (name, aggregate) in &planned {
            let label = match name {
                Some(name) if several => format!("{label}_{name}"),
                _ => label.clone(),
            };
            planner.answers.spell(&label);
            let value = of_value(planner, aggregate, &condition, &mut parts)?;
            shown.push(value.alias(label.to_ascii_lowercase()));
        }
    }
    LogicalPlanBuilder::from(input).aggregate(groups, parts)?.project(shown)?.build()
}

/// Columns with their relations.
fn normal(expr: Expr, input: &LogicalPlan) -> Result<Expr> {
    datafusion::logical_expr::expr_rewriter::normalize_col(expr, input)
}

/// When a row has a value, and what the value is called.
fn chosen(
    planner: &SparkPlanner,
    context: &mut dyn RelationPlannerContext,
    value: SqlExpr,
    keys: &[Expr],
    schema: &DFSchema,
) -> Result<(Vec<Expr>, String)> {
    let values = match value {
        SqlExpr::Tuple(values) => values,
        value => vec![value],
    };
    if values.len() != keys.len() {
        return Err(wrong_call(format!("PIVOT has {} columns and a value of {}", keys.len(), values.len())));
    }
    let (mut conditions, mut names) = (Vec::new(), Vec::new());
    let empty = DFSchema::empty();
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    for (value, key) in values.into_iter().zip(keys) {
        let value = context.sql_to_expr(value, &empty)?;
        let value = simplifier.simplify(simplifier.coerce(value, &empty)?)?;
        let Expr::Literal(literal, _) = &value else { return Err(wrong_call("PIVOT takes constants after IN")) };
        let text = literal.cast_to(&arrow::datatypes::DataType::Utf8)?;
        names.push(text.try_as_str().flatten().unwrap_or("null").to_string());
        let data_type = key.get_type(schema)?;
        let value =
            if literal.data_type() == data_type { value } else { crate::sql::cast::lenient_cast(value, &data_type)? };
        conditions.push(binary_expr(key.clone(), Operator::IsNotDistinctFrom, value));
    }
    let _ = planner;
    let name = match names.len() {
        1 => names.remove(0),
        _ => format!("{{{}}}", names.join(", ")),
    };
    Ok((conditions, name))
}

/// An aggregate over the rows of a value; NULL where there are none, also for counts, as Spark has it. The aggregates that it needs are added to `parts`.
fn of_value(planner: &SparkPlanner, aggregate: &Expr, condition: &Expr, parts: &mut Vec<Expr>) -> Result<Expr> {
    let mut null_of_nothing = true;
    let mut any = false;
    let mut add = |expr: Expr| {
        let name = format!("__pivot_{}", parts.len());
        parts.push(expr.alias(name.as_str()));
        Expr::Column(Column::new_unqualified(name))
    };
    let value = aggregate
        .clone()
        .transform_up(|expr| {
            let Expr::AggregateFunction(mut call) = expr else {
                null_of_nothing &= matches!(expr, Expr::Column(_) | Expr::Alias(_) | Expr::Cast(_));
                return Ok(Transformed::no(expr));
            };
            any = true;
            null_of_nothing &= matches!(call.func.name(), "sum" | "avg" | "min" | "max");
            call.params.filter = Some(Box::new(match call.params.filter.take() {
                Some(filter) => condition.clone().and(*filter),
                None => condition.clone(),
            }));
            Ok(Transformed::yes(add(Expr::AggregateFunction(call))))
        })?
        .data;
    if !any {
        return Err(wrong_call("PIVOT takes aggregates such as sum(x)"));
    }
    if null_of_nothing {
        return Ok(value);
    }
    let Some(count) = planner.count.clone() else { return Err(wrong_call("there is no function `count`")) };
    let rows =
        AggregateFunction::new_udf(count, vec![lit(1i64)], false, Some(Box::new(condition.clone())), vec![], None);
    let rows = add(Expr::AggregateFunction(rows));
    when(rows.gt(lit(0i64)), value).end()
}

/// A row for each of the columns that are named.
pub(super) fn unpivot(
    planner: &SparkPlanner,
    context: &mut dyn RelationPlannerContext,
    input: LogicalPlan,
    value: SqlExpr,
    name: Ident,
    columns: Vec<ExprWithAlias>,
    nulls: Option<NullInclusion>,
) -> Result<LogicalPlan> {
    let of_tuple = |expr: SqlExpr| match expr {
        SqlExpr::Tuple(values) => values,
        SqlExpr::Nested(inner) => vec![*inner],
        value => vec![value],
    };
    let names = of_tuple(value)
        .into_iter()
        .map(|name| match name {
            SqlExpr::Identifier(name) => Ok(context.normalize_ident(name)),
            _ => Err(wrong_call("UNPIVOT takes names before FOR")),
        })
        .collect::<Result<Vec<_>>>()?;
    let schema = input.schema().as_ref().clone();
    let mut sets: Vec<(String, Vec<Expr>)> = Vec::new();
    for set in columns {
        let values = of_tuple(set.expr)
            .into_iter()
            .map(|value| match normal(context.sql_to_expr(value, &schema)?, &input)? {
                column @ Expr::Column(_) => Ok(column),
                _ => Err(wrong_call("UNPIVOT takes columns after IN")),
            })
            .collect::<Result<Vec<_>>>()?;
        if values.len() != names.len() {
            return Err(wrong_call(format!("UNPIVOT has {} names and {} columns in a set", names.len(), values.len())));
        }
        let label = match set.alias {
            Some(alias) => context.normalize_ident(alias),
            None => {
                let names = values.iter().filter_map(|value| match value {
                    Expr::Column(column) => Some(planner.answers.spelling(&column.name)),
                    _ => None,
                });
                names.collect::<Vec<_>>().join("_")
            }
        };
        sets.push((label, values));
    }
    let used: Vec<&Column> = sets.iter().flat_map(|(_, values)| values).flat_map(|value| value.column_refs()).collect();
    let ids: Vec<Expr> =
        schema.iter().map(Column::from).filter(|column| !used.contains(&column)).map(Expr::Column).collect();
    let types = common_types(&sets, names.len(), &schema)?;
    let mut rows = Vec::new();
    for (label, values) in &sets {
        let mut fields = vec![lit("name"), lit(label.as_str())];
        for (i, value) in values.iter().enumerate() {
            let same = value.get_type(&schema)? == types[i];
            let value = if same { value.clone() } else { cast(value.clone(), types[i].clone()) };
            fields.extend([lit(format!("v{i}")), value]);
        }
        rows.push(planner.function("named_struct", fields)?);
    }
    let item = "__unpivot";
    let rows = planner.function("make_array", rows)?;
    let plan = unnested(input, rows, item, false)?;
    let field =
        |name: &str| planner.function("get_field", vec![Expr::Column(Column::new_unqualified(item)), lit(name)]);
    let plan = match nulls {
        Some(NullInclusion::IncludeNulls) => plan,
        _ => {
            let known =
                (0..names.len()).map(|i| Ok(field(&format!("v{i}"))?.is_not_null())).collect::<Result<Vec<_>>>()?;
            match known.into_iter().reduce(Expr::or) {
                Some(known) => LogicalPlanBuilder::from(plan).filter(known)?.build()?,
                None => plan,
            }
        }
    };
    let mut shown = ids;
    shown.push(field("name")?.alias(context.normalize_ident(name)));
    for (i, name) in names.into_iter().enumerate() {
        shown.push(field(&format!("v{i}"))?.alias(name));
    }
    LogicalPlanBuilder::from(plan).project(shown)?.build()
}

fn common_types(
    sets: &[(String, Vec<Expr>)],
    width: usize,
    schema: &DFSchema,
) -> Result<Vec<arrow::datatypes::DataType>> {
    let mut common = Vec::with_capacity(width);
    for i in 0..width {
        let types = sets.iter().filter_map(|(_, values)| values.get(i)).map(|value| value.get_type(schema));
        let types = types.collect::<Result<Vec<_>>>()?;
        let Some(first) = types.first() else { return Err(wrong_call("UNPIVOT without columns")) };
        let fits = types.iter().all(|other| other == first || (other.is_numeric() && first.is_numeric()));
        let union = datafusion::logical_expr::type_coercion::binary::type_union_resolution(&types);
        match union {
            Some(union) if fits => common.push(union),
            _ => {
                let names: Vec<String> = types.iter().map(type_name).collect();
                return Err(wrong_call(format!(
                    "UNPIVOT can't put {} into one column: CAST them",
                    names.join(" and ")
                )));
            }
        }
    }
    Ok(common)
}
