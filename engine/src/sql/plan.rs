//! Plans statements and column expressions.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Schema};
use datafusion::{
    catalog::default_table_source::provider_as_source,
    common::{
        Column, DFSchema, DataFusionError, ScalarValue, SchemaError, TableReference,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::SessionState,
    logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, TableSource},
    sql::{
        planner::{ParserOptions, PlannerContext, SqlToRel},
        sqlparser::{
            ast::{Expr as SqlExpr, SelectItem, Statement as SqlStatement},
            parser::{Parser, ParserError},
            tokenizer::{Location, Span, Token, TokenWithSpan},
        },
    },
};

use super::{
    cast::take_strict_casts,
    context::{Context, folded, folded_schema},
    mended::mended,
    reads::tables_read,
    relations::{Answers, shape},
    rewrite::rewrite,
    statement::{
        Kind, OutputName, ReadQuery, Statement, fold, known_functions, parser, place, syntax_error, tokens, wildcard_of,
    },
    subqueries::flatten,
    suggest,
};
use crate::{
    error::{Code, Error, Result},
    names::TableName,
};

/// Plans a SELECT or an EXPLAIN over the session's catalog. Nothing is read but the tables' schemas.
///
/// The result's columns have the names that the statement gives them, as written.
pub async fn plan_select(state: &SessionState, statement: &Statement) -> Result<LogicalPlan> {
    let (query, explain) = match &statement.kind {
        Kind::Select(query) => (query, None),
        Kind::Explain { query, verbose } => (query, Some(*verbose)),
        Kind::Describe(table) => {
            return Err(Error::new(Code::InvalidSql, format!("DESCRIBE {table} is not a query")).hint("write SELECT"));
        }
    };
    let mut tables = HashMap::new();
    // A table's own spelling of a column goes before that of a use.
    let mut spellings = Vec::new();
    for table in tables_read(statement)? {
        let source = table_source(state, &table).await?;
        spellings.extend(source.schema().fields().iter().map(|field| field.name().clone()));
        tables.insert(table.clone(), folded(&table, source).map_err(Error::from)?);
    }
    spellings.extend(query.spellings.iter().cloned());
    let answers = Answers::default();
    answers.spell_all(&spellings);
    let known = known_functions(state);
    let context = Context::with_answers(state, tables, answers.clone());
    let plan = loop {
        let (asked, mut tree) = (answers.count(), SqlStatement::Query(query.query.clone()));
        shape(&mut tree, &answers, &|span| statement.place(span))?;
        rewrite(&mut tree, &known, &|span| statement.place(span))?;
        let planner = SqlToRel::new_with_options(&context, options(state));
        match planner.sql_statement_to_plan(tree).and_then(|plan| flatten(state, plan)).and_then(mended) {
            Ok(plan) => break plan,
            // It ended because something was found out, which the next round needs.
            Err(_) if answers.count() > asked => {}
            Err(error) => return Err(planning_error(error, &spellings, &|span| statement.place(span))),
        }
    };
    spellings.extend(answers.spellings());
    let plan = named(plan, query, &spellings)?;
    match explain {
        Some(verbose) => Ok(LogicalPlanBuilder::from(plan).explain(verbose, false)?.build()?),
        None => Ok(plan),
    }
}

/// The columns that a plan gives. Its own schema is that from before branches and arguments of different types became one:
/// `CASE WHEN a THEN 1 ELSE 2.5 END` is an integer there.
pub fn result_schema(state: &SessionState, plan: &LogicalPlan) -> Result<Schema> {
    let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    Ok(analyzed.schema().as_arrow().clone())
}

fn options(state: &SessionState) -> ParserOptions {
    ParserOptions::from(&state.config_options().sql_parser).with_collect_spans(true)
}

async fn table_source(state: &SessionState, table: &TableName) -> Result<Arc<dyn TableSource>> {
    let reference = TableReference::partial(table.schema.as_str(), table.name.as_str());
    let found = match state.schema_for_ref(reference) {
        Ok(schema) => schema.table(&table.name).await?,
        Err(_) => None,
    };
    match found {
        Some(provider) => Ok(provider_as_source(provider)),
        None => {
            let names = table_names(state);
            let hint = suggest::hint(&table.to_string(), "tables", names.iter().map(String::as_str));
            Err(Error::new(Code::TableNotFound, format!("there is no table `{table}`")).hint(hint))
        }
    }
}

fn table_names(state: &SessionState) -> Vec<String> {
    let catalog = state.config_options().catalog.default_catalog.clone();
    let Some(catalog) = state.catalog_list().catalog(&catalog) else { return Vec::new() };
    let mut names = Vec::new();
    for schema in catalog.schema_names() {
        let tables = catalog.schema(&schema).map(|tables| tables.table_names()).unwrap_or_default();
        names.extend(tables.into_iter().map(|table| format!("{schema}.{table}")));
    }
    names.sort_unstable();
    names
}

/// Gives a plan's columns the names that the statement has for them.
fn named(plan: LogicalPlan, query: &ReadQuery, spellings: &[String]) -> Result<LogicalPlan> {
    let schema = plan.schema().clone();
    let count = schema.fields().len();
    // Items up to the first `*` count from the front, those after the last one from the back.
    let front = query.names.iter().take_while(|name| **name != OutputName::All).count();
    let back = query.names.iter().rev().take_while(|name| **name != OutputName::All).count();
    let spelling = |name: &str| spellings.iter().find(|spelling| spelling.eq_ignore_ascii_case(name)).cloned();
    let mut names: Vec<String> = Vec::with_capacity(count);
    for (i, field) in schema.fields().iter().enumerate() {
        let item = if i < front {
            query.names.get(i)
        } else if count - i <= back {
            query.names.len().checked_sub(count - i).and_then(|i| query.names.get(i))
        } else {
            None
        };
        let name = match item {
            Some(OutputName::Named(name)) => name.clone(),
            _ => spelling(field.name()).unwrap_or_else(|| field.name().clone()),
        };
        if let Some(twin) = names.iter().find(|earlier| earlier.eq_ignore_ascii_case(&name)) {
            return Err(Error::new(Code::InvalidSql, format!("two result columns are named `{twin}` and `{name}`"))
                .hint("give one of them another name with AS; case does not count"));
        }
        names.push(name);
    }
    if schema.iter().zip(&names).all(|((qualifier, field), name)| qualifier.is_none() && field.name() == name) {
        return Ok(plan);
    }
    let columns: Vec<Expr> =
        schema.iter().zip(names).map(|(column, name)| Expr::Column(Column::from(column)).alias(name)).collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// Plans expressions over the rows of one input, such as a raw version: each is `EXPR AS name`, `EXPR` with a natural name, `*` or `struct.*`;
/// none at all means every column as it is. Gives aliased expressions, and the filter.
///
/// They refer to the input's columns by their own names, unqualified. Casts get Spark's meaning when the plan is optimized by the session.
pub fn plan_columns(
    state: &SessionState,
    input: &Schema,
    columns: &[String],
    filter: Option<&str>,
) -> Result<(Vec<Expr>, Option<Expr>)> {
    let planner = Columns::over(state, DFSchema::try_from(input.clone())?, DFSchema::try_from(folded_schema(input))?);
    let mut planned: Vec<(String, Expr)> = Vec::new();
    for text in columns {
        planned.extend(planner.column(text)?);
    }
    if columns.is_empty() {
        planned = planner.every();
    }
    for (i, (name, _)) in planned.iter().enumerate() {
        if let Some((twin, _)) = planned[..i].iter().find(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
            return Err(Error::new(Code::InvalidSql, format!("two columns are named `{twin}` and `{name}`"))
                .hint("give one of them another name with AS; case does not count"));
        }
    }
    let filter = filter.map(|text| planner.filter(text)).transpose()?;
    let aliased = planned.into_iter().map(|(name, expr)| match &expr {
        Expr::Column(column) if column.name == name => expr,
        _ => expr.alias(name),
    });
    Ok((aliased.collect(), filter))
}

/// Plans a condition over rows of several relations, each with its name and columns: `source.x` is the column `x` of the relation `source`, and one
/// that no other relation has needs no relation before it.
pub fn plan_predicate(state: &SessionState, relations: &[(&str, &Schema)], text: &str) -> Result<Expr> {
    let (mut input, mut schema) = (DFSchema::empty(), DFSchema::empty());
    for (relation, columns) in relations {
        input = input.join(&DFSchema::try_from_qualified_schema(*relation, columns)?)?;
        schema = schema.join(&DFSchema::try_from_qualified_schema(*relation, &folded_schema(columns))?)?;
    }
    let predicate = Columns::over(state, input, schema).filter(text).map_err(|error| {
        let error = Error { message: error.message.replace("the filter is", "the condition is"), ..error };
        if !error.message.contains("is a column of several tables") {
            return error;
        }
        let names: Vec<String> = relations.iter().map(|(relation, _)| format!("`{relation}.`")).collect();
        error.hint(format!("write {} before it", names.join(" or ")))
    })?;
    let (mut plain, casts) = take_strict_casts(vec![predicate])?;
    match (plain.pop(), casts.is_empty()) {
        (Some(predicate), true) => Ok(predicate),
        _ => Err(Error::new(Code::InvalidSql, format!("in `{text}`: a strict_cast can't stand in a condition"))
            .hint("cast in the table's columns")),
    }
}

struct Columns<'a> {
    state: &'a SessionState,
    input: DFSchema,
    /// The input with names in lower case.
    schema: DFSchema,
    known: Vec<String>,
}

impl<'a> Columns<'a> {
    fn over(state: &'a SessionState, input: DFSchema, schema: DFSchema) -> Self {
        Self { state, input, schema, known: known_functions(state) }
    }

    fn every(&self) -> Vec<(String, Expr)> {
        let columns = self.input.fields().iter();
        columns.map(|field| (field.name().clone(), Expr::Column(Column::new_unqualified(field.name())))).collect()
    }

    fn column(&self, text: &str) -> Result<Vec<(String, Expr)>> {
        let place = |span: Span| within(text, span);
        let (item, written) = self.parse(text, |parser| parser.parse_select_item())?;
        let (sql, alias) = match item {
            // A column is called as it is written here, as in Spark, however the input spells it.
            SelectItem::UnnamedExpr(expr) => match written {
                SelectItem::UnnamedExpr(written) => (expr, super::statement::natural_name(&written)),
                _ => (expr, None),
            },
            SelectItem::ExprWithAlias { expr, alias } => {
                let written = match written {
                    SelectItem::ExprWithAlias { alias, .. } => alias.value,
                    _ => alias.value,
                };
                (expr, Some(written))
            }
            SelectItem::Wildcard(_) => return Ok(self.every()),
            ref item @ SelectItem::QualifiedWildcard(..) => return self.fields(text, item),
            SelectItem::ExprWithAliases { .. } => {
                return Err(Error::new(
                    Code::InvalidSql,
                    format!("{}one expression with several aliases", place(Span::empty())),
                ));
            }
        };
        let expr = self.plan(text, sql)?;
        let Some(name) = alias.or_else(|| natural_name(&expr)) else {
            return Err(Error::new(
                Code::InvalidSql,
                format!("{}the expression has no name of its own", place(Span::empty())),
            )
            .hint("add `AS name`"));
        };
        Ok(vec![(name, expr)])
    }

    /// `struct.*`: every field as a column.
    fn fields(&self, text: &str, item: &SelectItem) -> Result<Vec<(String, Expr)>> {
        let parts =
            wildcard_of(item).map(|name| name.0.iter().filter_map(|part| part.as_ident().cloned()).collect::<Vec<_>>());
        let mut parts = parts.unwrap_or_default();
        let sql = match parts.len() {
            0 => {
                return Err(Error::new(
                    Code::InvalidSql,
                    format!("{}`.*` needs a struct", within(text, Span::empty())),
                ));
            }
            1 => SqlExpr::Identifier(parts.remove(0)),
            _ => SqlExpr::CompoundIdentifier(parts),
        };
        let expr = self.plan(text, sql)?;
        let (data_type, functions) = (expr.get_type(&self.input)?, self.state.scalar_functions());
        match (data_type, functions.get("get_field")) {
            (DataType::Struct(fields), Some(get_field)) => Ok(fields
                .iter()
                .map(|field| {
                    let name = Expr::Literal(ScalarValue::from(field.name().as_str()), None);
                    (field.name().clone(), get_field.call(vec![expr.clone(), name]))
                })
                .collect()),
            (other, _) => Err(Error::new(
                Code::InvalidSql,
                format!("{}`.*` needs a struct, not {}", within(text, Span::empty()), super::types::type_name(&other)),
            )),
        }
    }

    fn filter(&self, text: &str) -> Result<Expr> {
        let (sql, _) = self.parse(text, |parser| parser.parse_expr())?;
        let expr = self.plan(text, sql)?;
        match expr.get_type(&self.input)? {
            DataType::Boolean | DataType::Null => Ok(expr),
            other => Err(Error::new(
                Code::InvalidSql,
                format!(
                    "{}the filter is {}, not boolean",
                    within(text, Span::empty()),
                    super::types::type_name(&other)
                ),
            )
            .hint("write a condition, such as `name IS NOT NULL`")),
        }
    }

    /// Reads a text twice: with what is in backticks in lower case, and as written.
    fn parse<T>(&self, text: &str, read: fn(&mut Parser<'static>) -> Result<T, ParserError>) -> Result<(T, T)> {
        let in_text = |error: Error| Error { message: format!("in `{text}`, {}", error.message), ..error };
        let written = tokens(text, "").map_err(in_text)?;
        let mut folded = written.clone();
        fold(&mut folded);
        let parse = |tokens: &[TokenWithSpan]| {
            let mut parser = parser(tokens);
            let tree = read(&mut parser).map_err(|error| in_text(syntax_error(&error, "", tokens)))?;
            let next = parser.peek_token_ref();
            if next.token == Token::EOF {
                return Ok(tree);
            }
            let place = within(text, next.span);
            Err(Error::new(Code::InvalidSql, format!("{place}the expression should end before `{}`", next.token)))
        };
        Ok((parse(&folded)?, parse(&written)?))
    }

    fn plan(&self, text: &str, mut sql: SqlExpr) -> Result<Expr> {
        let place = |span: Span| within(text, span);
        rewrite(&mut sql, &self.known, &place)?;
        let context = Context::new(self.state, HashMap::new());
        let planner = SqlToRel::new_with_options(&context, options(self.state));
        let spellings: Vec<String> = self.input.fields().iter().map(|field| field.name().clone()).collect();
        let wrong = |error: DataFusionError| planning_error(error, &spellings, &place);
        let expr = planner.sql_to_expr(sql, &self.schema, &mut PlannerContext::new()).map_err(wrong)?;
        self.check_rowwise(text, &expr)?;
        expr.get_type(&self.schema).map_err(wrong)?;
        let unfolded = expr.transform_up(|expr| match expr {
            Expr::Column(column) => {
                let mut all = self.input.iter();
                let found = all.find(|(relation, field)| {
                    *relation == column.relation.as_ref() && field.name().eq_ignore_ascii_case(&column.name)
                });
                Ok(Transformed::yes(Expr::Column(found.map_or(column, Column::from))))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(unfolded?.data)
    }

    /// Expressions over single rows only.
    fn check_rowwise(&self, text: &str, expr: &Expr) -> Result<()> {
        let mut found = None;
        expr.apply(|expr| {
            found = match expr {
                Expr::AggregateFunction(call) => Some(format!("`{}` is an aggregate", call.func.name())),
                Expr::WindowFunction(_) => Some("this is a window function".into()),
                Expr::Unnest(_) => Some("explode makes several rows of one".into()),
                Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
                    Some("this is a subquery".into())
                }
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            Ok(TreeNodeRecursion::Stop)
        })?;
        match found {
            Some(what) => Err(Error::new(Code::InvalidSql, format!("{}{what}", within(text, Span::empty())))
                .hint("a table's columns are made row by row; use a question for this")),
            None => Ok(()),
        }
    }
}

/// `in `lower(nme)`, column 7: `.
fn within(text: &str, span: Span) -> String {
    match span.start.line {
        0 => format!("in `{text}`: "),
        _ => format!("in `{text}`, {}", place("", span).replace("line 1, ", "")),
    }
}

/// The name of a column or a field.
fn natural_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) => Some(column.name.clone()),
        Expr::ScalarFunction(call) if matches!(call.name(), "get_field" | "array_field") => match call.args.last() {
            Some(Expr::Literal(name, _)) => name.try_as_str().flatten().map(str::to_string),
            _ => None,
        },
        _ => None,
    }
}

/// A planner's error with its place and what was meant.
fn planning_error(error: DataFusionError, spellings: &[String], place: &dyn Fn(Span) -> String) -> Error {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let at = |l: datafusion::common::Location| Location { line: l.line, column: l.column };
    let place = place(span.map_or_else(Span::empty, |span| Span { start: at(span.start), end: at(span.end) }));
    let spelled = |name: &str| {
        spellings.iter().find(|s| s.eq_ignore_ascii_case(name)).cloned().unwrap_or_else(|| name.to_string())
    };
    if let DataFusionError::SchemaError(inner, _) = error.find_root() {
        match inner.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let twins: Vec<_> = spellings.iter().filter(|s| s.eq_ignore_ascii_case(&field.name)).collect();
                if let [first, second, ..] = twins.as_slice()
                    && first != second
                {
                    return Error::new(
                        Code::InvalidSql,
                        format!("{place}`{}` may be `{first}` or `{second}`", field.name),
                    )
                    .hint("the input has columns that differ only in case; declare a schema that names one of them");
                }
                let name = match &field.relation {
                    Some(relation) => format!("{relation}.{}", field.name),
                    None => field.name.clone(),
                };
                let of_it = |column: &&Column| field.relation.is_none() || column.relation == field.relation;
                let mut names: Vec<String> =
                    valid_fields.iter().filter(of_it).map(|column| spelled(&column.name)).collect();
                names.dedup();
                let hint = suggest::hint(&field.name, "columns", names.iter().map(String::as_str));
                return Error::new(Code::InvalidSql, format!("{place}there is no column `{name}`")).hint(hint);
            }
            SchemaError::AmbiguousReference { field } => {
                return Error::new(Code::InvalidSql, format!("{place}`{}` is a column of several tables", field.name))
                    .hint(format!("write which one: `table.{}`", field.name));
            }
            _ => {}
        }
    }
    let mut ours = Error::from(error);
    if ours.code == Code::Internal {
        ours = Error::new(Code::InvalidSql, format!("this can't be planned: {}", ours.message))
            .hint("write it another way, for example in two steps with WITH");
    }
    let no_match = ours.message.split_once("No function matches the given name and argument types '");
    if let Some((call, _)) = no_match.and_then(|(_, rest)| rest.split_once('\'')) {
        return Error::new(Code::InvalidSql, format!("{place}no function takes these types: `{}`", spark_types(call)))
            .hint("CAST the arguments to what the function takes");
    }
    let message = ours
        .message
        .trim_start_matches("Error during planning: ")
        .trim_start_matches("This feature is not implemented: ");
    if message.starts_with(&place) || place.is_empty() {
        return Error { message: message.to_string(), ..ours };
    }
    Error { message: format!("{place}{message}"), ..ours }
}

/// A call's signature with Spark's names of Arrow's plain types.
fn spark_types(call: &str) -> String {
    const NAMES: [(&str, &str); 11] = [
        ("LargeUtf8", "string"),
        ("Utf8View", "string"),
        ("Utf8", "string"),
        ("Float64", "double"),
        ("Float32", "float"),
        ("Int64", "bigint"),
        ("Int32", "int"),
        ("Int16", "smallint"),
        ("Int8", "tinyint"),
        ("Boolean", "boolean"),
        ("Date32", "date"),
    ];
    NAMES.iter().fold(call.to_string(), |text, (arrow, spark)| text.replace(arrow, spark))
}

#[cfg(test)]
mod tests;
