//! TEMPORARY
#![allow(missing_docs)]
use std::collections::BTreeSet;
use arrow::datatypes::SchemaRef;
use datafusion::{execution::context::SessionState, logical_expr::{Expr, LogicalPlan}, sql::parser::{DFParser, Statement}};
use crate::{Code, Error, Result, TableName};
pub fn parse_schema(_: &str) -> Result<SchemaRef> { Err(Error::new(Code::Internal, "temporary")) }
pub fn parse_select(sql: &str, _: &str) -> Result<Statement> {
    DFParser::parse_sql_with_dialect(sql, &datafusion::sql::sqlparser::dialect::DatabricksDialect{})?.pop_front().ok_or_else(|| Error::new(Code::InvalidSql, "none"))
}
pub fn tables_read(s: &Statement) -> Result<BTreeSet<TableName>> {
    let (r, _) = datafusion::sql::resolve::resolve_table_references(s, true)?;
    Ok(r.iter().filter_map(|t| t.to_string().parse().ok()).collect())
}
pub async fn plan_select(state: &SessionState, s: Statement) -> Result<LogicalPlan> { Ok(state.statement_to_plan(s).await?) }
pub fn plan_columns(state: &SessionState, input: &LogicalPlan, columns: &[String], filter: Option<&str>) -> Result<(Vec<Expr>, Option<Expr>)> {
    let schema = input.schema();
    let mut out = vec![];
    for c in columns {
        let (e, n) = c.rsplit_once(" AS ").unwrap_or((c, c));
        out.push(state.create_logical_expr(e, schema)?.alias(n));
    }
    let f = filter.map(|f| state.create_logical_expr(f, schema)).transpose()?;
    Ok((out, f))
}
