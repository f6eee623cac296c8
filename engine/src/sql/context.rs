//! What DataFusion's planner asks for: tables, functions, types.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef, TimeUnit};
use datafusion::{
    catalog::{TableFunctionArgs, default_table_source::provider_as_source},
    common::{Column, DFSchema, Result, ScalarValue, TableReference, plan_err},
    config::ConfigOptions,
    execution::SessionState,
    logical_expr::{
        AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, TableType,
        WindowUDF,
        planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner},
        simplify::SimplifyContext,
    },
    optimizer::simplify_expressions::ExprSimplifier,
    sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, TimezoneInfo},
};

use super::{
    calls::SparkPlanner,
    kernel::wrong_call,
    names::behind,
    natural::NaturalJoins,
    relations::{Answers, planner::SparkRelations},
    set_operations::SetOperations,
    types::{decimal, list_of, parse_type, timestamp},
};
use crate::names::TableName;

/// A session's functions and a query's tables.
pub(super) struct Context<'a> {
    state: &'a SessionState,
    planners: Vec<Arc<dyn ExprPlanner>>,
    relations: Vec<Arc<dyn RelationPlanner>>,
    tables: HashMap<TableName, Arc<dyn TableSource>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(state: &'a SessionState, tables: HashMap<TableName, Arc<dyn TableSource>>) -> Self {
        Self::with_answers(state, tables, Answers::default())
    }

    /// A context in which items that stand for several columns have answers, or get them.
    pub(super) fn with_answers(
        state: &'a SessionState,
        tables: HashMap<TableName, Arc<dyn TableSource>>,
        answers: Answers,
    ) -> Self {
        let spark = SparkPlanner::new(state, answers);
        let relations: Vec<Arc<dyn RelationPlanner>> =
            vec![Arc::new(SetOperations), Arc::new(NaturalJoins), Arc::new(SparkRelations::new(spark.clone()))];
        let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(spark)];
        planners.extend(state.expr_planners().iter().cloned());
        Self { state, planners, relations, tables }
    }
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let table = format!("{}.{}", name.schema().unwrap_or_default(), name.table()).parse().ok();
        match table.and_then(|table: TableName| self.tables.get(&table)) {
            Some(table) => Ok(Arc::clone(table)),
            None => plan_err!("there is no table `{name}`"),
        }
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let function = match self.state.table_functions().get(name) {
            Some(function) if matches!(name, "range" | "generate_series") => function,
            _ => return plan_err!("there is no table function `{name}`"),
        };
        let context = SimplifyContext::builder().with_config_options(Arc::clone(self.state.config_options())).build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let args = args.into_iter().map(|arg| {
            Ok(match simplifier.simplify(simplifier.coerce(arg, &schema)?)? {
                Expr::Literal(ScalarValue::Int32(Some(value)), _) => {
                    Expr::Literal(ScalarValue::Int64(Some(value.into())), None)
                }
                other => other,
            })
        });
        let args = args.collect::<Result<Vec<_>>>()?;
        let table = function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.state))?;
        Ok(provider_as_source(table))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relations
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(SparkTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(behind(name)).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(behind(name)).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(behind(name)).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(behind(name)).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// A table whose columns are shown to the planner in lower case, as it writes all names.
struct FoldedTable {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for FoldedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// The table with its columns' names in lower case.
pub(super) fn folded(table: &TableName, source: Arc<dyn TableSource>) -> Result<Arc<dyn TableSource>> {
    let schema = source.schema();
    if schema.fields().iter().all(|field| !field.name().contains(|c: char| c.is_ascii_uppercase())) {
        return Ok(source);
    }
    let folded = folded_schema(&schema);
    if folded.fields().len() < schema.fields().len() {
        return Err(wrong_call(format!("table `{table}` has columns whose names differ only in case")));
    }
    let reference = TableReference::partial(table.schema.as_str(), table.name.as_str());
    let columns: Vec<Expr> = schema
        .fields()
        .iter()
        .map(|field| {
            let column = Expr::Column(Column::new(Some(reference.clone()), field.name()));
            let name = field.name().to_ascii_lowercase();
            // An alias that is no other name makes the optimizer see the name twice.
            if name == *field.name() { column } else { column.alias(name) }
        })
        .collect();
    let plan = LogicalPlanBuilder::scan(reference, source, None)?.project(columns)?.build()?;
    Ok(Arc::new(FoldedTable { schema: Arc::new(folded), plan }))
}

/// The columns with their names in lower case; those that differ only in case are left out.
pub(super) fn folded_schema(schema: &Schema) -> Schema {
    let same = |name: &str| schema.fields().iter().filter(|field| field.name().eq_ignore_ascii_case(name)).count();
    let fields = schema.fields().iter().filter(|field| same(field.name()) == 1);
    let fields = fields.map(|field| field.as_ref().clone().with_name(field.name().to_ascii_lowercase()));
    Schema::new(fields.collect::<Vec<Field>>())
}

/// SQL's types, as Spark means them.
#[derive(Debug)]
struct SparkTypes;

impl TypePlanner for SparkTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        Ok(Some(Arc::new(Field::new("", arrow_type(sql_type)?, true))))
    }
}

fn arrow_type(sql_type: &SqlType) -> Result<DataType> {
    Ok(match sql_type {
        SqlType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => timestamp(),
        SqlType::Timestamp(_, TimezoneInfo::WithoutTimeZone) | SqlType::TimestampNtz(_) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        SqlType::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        SqlType::Decimal(info) | SqlType::Dec(info) | SqlType::Numeric(info) => {
            let (precision, scale) = match info {
                ExactNumberInfo::None => (10, 0),
                ExactNumberInfo::Precision(precision) => (*precision, 0),
                ExactNumberInfo::PrecisionAndScale(precision, scale) => {
                    (*precision, u64::try_from(*scale).unwrap_or(u64::MAX))
                }
            };
            match decimal(precision, scale) {
                Some(decimal) => decimal,
                None => {
                    return Err(wrong_call(format!("there is no type {sql_type}: a decimal has at most 38 digits")));
                }
            }
        }
        SqlType::Double(_) | SqlType::DoublePrecision => DataType::Float64,
        SqlType::Array(ArrayElemTypeDef::AngleBracket(element)) => list_of(arrow_type(element)?, true),
        SqlType::Map(key, value) => {
            let entries =
                vec![Field::new("key", arrow_type(key)?, false), Field::new("value", arrow_type(value)?, true)];
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries.into()), false)), false)
        }
        SqlType::Struct(fields, _) => {
            let fields = fields.iter().enumerate().map(|(i, field)| {
                let name = field.field_name.as_ref().map_or_else(|| format!("col{}", i + 1), |name| name.value.clone());
                Ok(Field::new(name, arrow_type(&field.field_type)?, true))
            });
            DataType::Struct(fields.collect::<Result<Vec<_>>>()?.into())
        }
        simple => parse_type(&simple.to_string()).map_err(|_| wrong_call(format!("there is no type `{simple}`")))?,
    })
}
