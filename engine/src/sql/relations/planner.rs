//! Plans relations by the types of what stands before them.

use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::{
    common::{Column, NullHandling, Result, UnnestOptions},
    logical_expr::{
        Expr, LogicalPlan, LogicalPlanBuilder,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
    },
    sql::sqlparser::ast::{Expr as SqlExpr, TableAlias, TableFactor, Value, ValueWithSpan},
};

use super::{generators::generate, pivot};
use crate::sql::{calls::SparkPlanner, kernel::wrong_call};

/// A generator among relations. It travels through the tree as a PIVOT with a text where another dialect's default would be.
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) args: Vec<SqlExpr>,
    /// A row without any gives one of nulls.
    pub(super) outer: bool,
    /// There is no relation before it.
    pub(super) alone: bool,
    pub(super) alias: Option<TableAlias>,
}

impl Mark {
    pub(super) fn text(&self) -> String {
        format!("generate {} {} {}", self.name, self.outer, self.alone)
    }

    /// The name, whether it is outer, and whether it stands alone.
    fn read(text: &str) -> Option<(&str, bool, bool)> {
        let mut words = text.strip_prefix("generate ")?.split(' ');
        Some((words.next()?, words.next()? == "true", words.next()? == "true"))
    }
}

/// Plans LATERAL VIEW, generators after FROM, PIVOT and UNPIVOT.
#[derive(Debug)]
pub(in crate::sql) struct SparkRelations {
    planner: SparkPlanner,
    /// For names that no other column has.
    next: AtomicUsize,
}

impl SparkRelations {
    pub(in crate::sql) fn new(planner: SparkPlanner) -> Self {
        Self { planner, next: AtomicUsize::new(0) }
    }
}

impl RelationPlanner for SparkRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let planned = match relation {
            TableFactor::Pivot {
                table,
                aggregate_functions,
                default_on_null: Some(SqlExpr::Value(ValueWithSpan { value: Value::SingleQuotedString(mark), .. })),
                alias,
                ..
            } => {
                let Some((name, outer, alone)) = Mark::read(&mark) else { return Err(wrong_call("not a generator")) };
                let input = match alone {
                    true => LogicalPlanBuilder::empty(true).build()?,
                    false => context.plan(*table)?,
                };
                let args = aggregate_functions.into_iter().map(|arg| context.sql_to_expr(arg.expr, input.schema()));
                let args = args.collect::<Result<Vec<_>>>()?;
                let alias = alias.map(|alias| {
                    let columns: Vec<String> =
                        alias.columns.into_iter().map(|column| context.normalize_ident(column.name)).collect();
                    (context.normalize_ident(alias.name), columns)
                });
                let plan = self.generated(input, name, args, outer, alias)?;
                PlannedRelation::new(plan, None)
            }
            TableFactor::Pivot {
                table,
                aggregate_functions,
                value_column,
                value_source,
                default_on_null: None,
                alias,
            } => {
                let input = context.plan(*table)?;
                let plan =
                    pivot::pivot(&self.planner, context, input, aggregate_functions, value_column, value_source)?;
                PlannedRelation::new(plan, alias)
            }
            TableFactor::Unpivot { table, value, name, columns, null_inclusion, alias } => {
                let input = context.plan(*table)?;
                let plan = pivot::unpivot(&self.planner, context, input, value, name, columns, null_inclusion)?;
                PlannedRelation::new(plan, alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        Ok(RelationPlanning::Planned(Box::new(planned)))
    }
}

impl SparkRelations {
    /// The input's columns, then the generator's.
    fn generated(
        &self,
        input: LogicalPlan,
        name: &str,
        args: Vec<Expr>,
        outer: bool,
        alias: Option<(String, Vec<String>)>,
    ) -> Result<LogicalPlan> {
        let generated = generate(&self.planner, name, &args, input.schema())?;
        let (relation, names) = match alias {
            Some((relation, names)) => (Some(relation), names),
            None => (None, Vec::new()),
        };
        if !names.is_empty() && names.len() != generated.columns.len() {
            return Err(wrong_call(format!(
                "`{name}` gives {} columns here, not {}",
                generated.columns.len(),
                names.len()
            )));
        }
        let own: Vec<Expr> = input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
        let items = format!("__rows_{}", self.next.fetch_add(1, Ordering::Relaxed));
        let rows = match &generated.rows {
            None => input,
            Some(rows) => unnested(input, rows.clone(), &items, outer || generated.outer)?,
        };
        let item = Expr::Column(Column::new_unqualified(items));
        let mut columns = own;
        for (i, (default, _)) in generated.columns.iter().enumerate() {
            let column = generated.column(&self.planner, i, &item)?;
            let name = names.get(i).cloned().unwrap_or_else(|| default.to_ascii_lowercase());
            columns.push(match &relation {
                Some(relation) => column.alias_qualified(Some(relation.as_str()), name),
                None => column.alias(name),
            });
        }
        LogicalPlanBuilder::from(rows).project(columns)?.build()
    }
}

/// A row for each item of an array, which becomes a column.
pub(super) fn unnested(input: LogicalPlan, rows: Expr, name: &str, outer: bool) -> Result<LogicalPlan> {
    let mut columns: Vec<Expr> = input.schema().iter().map(|column| Expr::Column(Column::from(column))).collect();
    columns.push(rows.alias(name));
    let nulls = if outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
    LogicalPlanBuilder::from(input)
        .project(columns)?
        .unnest_columns_with_options(
            vec![Column::new_unqualified(name)],
            UnnestOptions::new().with_null_handling(nulls),
        )?
        .build()
}
