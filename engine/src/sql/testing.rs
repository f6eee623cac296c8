//! Runs SQL in tests as a cluster would: every plan goes through Ballista's codec and is decoded with an executor's function registry.

use std::sync::Arc;

use super::{parse_select, plan_select};
use crate::{
    error::Result,
    plan::{executor_context, over_the_wire},
    session::{CATALOG, SessionOptions, session_config, session_state},
};
use arrow::{
    array::{RecordBatch, new_null_array},
    compute::concat,
    datatypes::{Schema, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    catalog::{MemorySchemaProvider, SchemaProvider},
    datasource::MemTable,
    execution::{SessionState, runtime_env::RuntimeEnv},
    logical_expr::LogicalPlan,
    physical_plan::collect,
};

/// A session with one or more tables in the schema `t`.
pub(crate) fn session(zone: &str, tables: Vec<(&str, RecordBatch)>) -> SessionState {
    let options = SessionOptions { time_zone: zone.into(), target_partitions: 2, ..SessionOptions::default() };
    let state = session_state(session_config(&options), Arc::new(RuntimeEnv::default())).unwrap();
    let schema = Arc::new(MemorySchemaProvider::new());
    for (name, batch) in tables {
        // Two partitions, so that aggregates have two stages.
        let half = batch.num_rows() / 2;
        let parts = vec![vec![batch.slice(0, half)], vec![batch.slice(half, batch.num_rows() - half)]];
        schema.register_table(name.to_string(), Arc::new(MemTable::try_new(batch.schema(), parts).unwrap())).unwrap();
    }
    state.catalog_list().catalog(CATALOG).unwrap().register_schema("t", schema).unwrap();
    state
}

/// A table of one row, for expressions without columns.
pub(crate) fn plain(zone: &str) -> SessionState {
    session(zone, vec![])
}

/// Plans and runs a statement over the wire; the rows as they come.
pub(crate) async fn run(state: &SessionState, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let plan = plan_select(state, &parse_select(sql, "q.sql")?).await?;
    run_plan(state, &plan).await
}

/// Runs a logical plan over the wire.
pub(crate) async fn run_plan(state: &SessionState, plan: &LogicalPlan) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let physical = state.create_physical_plan(plan).await?;
    let decoded = over_the_wire(state, &physical)?;
    assert_eq!(physical.schema(), decoded.schema(), "the schema changed on the wire");
    let schema = decoded.schema();
    Ok((schema, collect(decoded, executor_context(state)).await?))
}

/// Every row as text, `null` for nulls, columns joined by ` | `.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        for i in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join(" | "));
        }
    }
    rows
}

/// The rows of a statement, as text.
pub(crate) async fn query(state: &SessionState, sql: &str) -> Vec<String> {
    match run(state, sql).await {
        Ok((_, batches)) => rows(&batches),
        Err(error) => panic!("{sql}\n{error}"),
    }
}

/// The one value and its type's name of a statement with one column.
async fn value(state: &SessionState, sql: &str) -> String {
    match run(state, sql).await {
        Ok((schema, batches)) => {
            let name = super::type_name(schema.field(0).data_type());
            match rows(&batches).first() {
                Some(value) => format!("{value} {name}"),
                None => "no row".into(),
            }
        }
        Err(error) => format!("{} {}", error.message, error.hint),
    }
}

/// Checks `(expression, value and type)` examples, each twice: folded to a constant while planning, and computed from columns. For the
/// second, every literal in `«…»` becomes a column; for the first the quotes just go.
pub(crate) async fn check(zone: &str, examples: &[(&str, &str)]) {
    let state = plain(zone);
    let mut wrong = Vec::new();
    for (expression, expected) in examples {
        let constant = expression.replace(['«', '»'], "");
        let found = value(&state, &format!("SELECT {constant} AS v")).await;
        if found != *expected {
            wrong.push(format!("{constant}\n  expected {expected}\n  found    {found}"));
        }
        if !expression.contains('«') {
            continue;
        }
        let (mut with_columns, mut literals) = (String::new(), Vec::new());
        for (i, part) in expression.split('«').enumerate() {
            match part.split_once('»') {
                Some((literal, rest)) if i > 0 => {
                    with_columns += &format!("c{}{rest}", literals.len());
                    literals.push(literal);
                }
                _ => with_columns += part,
            }
        }
        // A second row is all nulls.
        let first: Vec<_> = literals.iter().enumerate().map(|(i, literal)| format!("{literal} AS c{i}")).collect();
        let (_, batches) = match run(&state, &format!("SELECT {}", first.join(", "))).await {
            Ok(done) => done,
            Err(error) => panic!("{literals:?}: {error}"),
        };
        let schema = Arc::new(Schema::new(
            batches[0].schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
        ));
        let columns = batches[0]
            .columns()
            .iter()
            .map(|column| concat(&[column.as_ref(), new_null_array(column.data_type(), 1).as_ref()]).unwrap());
        let table = RecordBatch::try_new(schema, columns.collect()).unwrap();
        let state = session(zone, vec![("x", table)]);
        let found = value(&state, &format!("SELECT {with_columns} AS v FROM t.x")).await;
        if found != *expected {
            wrong.push(format!("{with_columns} with columns\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The error of a statement.
pub(crate) async fn failure(state: &SessionState, sql: &str) -> crate::error::Error {
    match run(state, sql).await {
        Ok((_, batches)) => panic!("{sql} gave {:?}", rows(&batches)),
        Err(error) => error,
    }
}

/// The types of a schema, as Spark's DDL.
pub(crate) fn ddl(schema: &SchemaRef) -> String {
    let fields = schema.fields().iter();
    fields.map(|f| format!("{} {}", f.name(), super::type_name(f.data_type()))).collect::<Vec<_>>().join(", ")
}

/// A batch from columns by name.
pub(crate) fn batch(columns: Vec<(&str, arrow::array::ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}
