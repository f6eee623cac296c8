//! What a statement reads, and that it only reads.

use std::{collections::BTreeSet, ops::ControlFlow};

use datafusion::sql::sqlparser::{
    ast::{Expr, ObjectName, PivotValueSource, Query, Select, SetExpr, Spanned, TableFactor, Visit, Visitor},
    tokenizer::Span,
};

use super::{
    relations::is_generator,
    statement::{Kind, Statement, place},
};
use crate::{
    error::{Code, Error, Result},
    names::TableName,
};

/// The table names in a query that are not those of its WITH clauses.
///
/// A name of one part, a path, or a name of three parts is an error.
pub fn tables_read(statement: &Statement) -> Result<BTreeSet<TableName>> {
    let query = match &statement.kind {
        Kind::Select(select) | Kind::Explain { query: select, .. } => &select.query,
        Kind::Describe(table) => return Ok(BTreeSet::from([table.clone()])),
    };
    let mut tables = Tables { file: &statement.file, ctes: cte_names(query), found: BTreeSet::new() };
    match query.visit(&mut tables) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(tables.found),
    }
}

fn cte_names(query: &Query) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
            self.0.extend(ctes.map(|cte| cte.alias.name.value.to_ascii_lowercase()));
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(BTreeSet::new());
    // Nothing breaks off.
    let _ = query.visit(&mut names);
    names.0
}

struct Tables<'a> {
    file: &'a str,
    ctes: BTreeSet<String>,
    found: BTreeSet<TableName>,
}

impl Visitor for Tables<'_> {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, args: None, .. } = factor else { return ControlFlow::Continue(()) };
        if let [part] = name.0.as_slice()
            && part.as_ident().is_some_and(|part| self.ctes.contains(&part.value.to_ascii_lowercase()))
        {
            return ControlFlow::Continue(());
        }
        match table_of(name, self.file) {
            Ok(table) => {
                self.found.insert(table);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// The catalog's table with a name as written.
pub(super) fn table_of(name: &ObjectName, file: &str) -> Result<TableName> {
    let parts: Option<Vec<&str>> =
        name.0.iter().map(|part| part.as_ident().map(|ident| ident.value.as_str())).collect();
    let table = match parts.as_deref() {
        Some([schema, table]) => format!("{schema}.{table}").to_ascii_lowercase().parse().ok(),
        _ => None,
    };
    table.ok_or_else(|| {
        Error::new(
            Code::InvalidSql,
            format!("{}`{}` is not a table", place(file, name.span()), name.to_string().trim_matches(['\'', '"', '`'])),
        )
        .hint("tables are named `schema.table`; files can't be read by their path, download them into a source first")
    })
}

/// Refuses what reads or writes anything but catalog tables, and what Spark does not have.
pub(super) fn check_query(query: &Query, file: &str) -> Result<()> {
    struct Check<'a>(&'a str);

    impl Check<'_> {
        fn refuse(&self, what: &str, span: Span) -> ControlFlow<Error> {
            ControlFlow::Break(Error::new(Code::InvalidSql, format!("{}{what} is not supported", place(self.0, span))))
        }
    }

    impl Visitor for Check<'_> {
        type Break = Error;

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
            if !query.locks.is_empty()
                || query.for_clause.is_some()
                || query.settings.is_some()
                || query.format_clause.is_some()
            {
                return self.refuse("a clause after the query", query.span());
            }
            if !query.pipe_operators.is_empty() {
                return self.refuse("a query with pipes", query.span());
            }
            if query.with.as_ref().is_some_and(|with| with.recursive) {
                return self.refuse("WITH RECURSIVE", query.span());
            }
            match query.body.as_ref() {
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) => {
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(
                    Error::new(Code::InvalidSql, format!("{}expected a SELECT", place(self.0, query.body.span())))
                        .hint("SQL only reads here; tables are written by load, merge and question"),
                ),
            }
        }

        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
            if let Some(into) = &select.into {
                return self.refuse("SELECT INTO", into.name.span());
            }
            if select.qualify.is_some() {
                return self.refuse("QUALIFY (filter in a query around this one)", select.span());
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
            match factor {
                TableFactor::Table { name, args: Some(_), .. } => {
                    let function = name.to_string().to_ascii_lowercase();
                    if matches!(function.as_str(), "range" | "generate_series") || is_generator(&function) {
                        return ControlFlow::Continue(());
                    }
                    self.refuse(&format!("the table function `{function}`"), name.span())
                }
                TableFactor::Table { version: Some(_), name, .. } => {
                    self.refuse("reading a table's former version", name.span())
                }
                TableFactor::Table { sample: Some(_), name, .. } => self.refuse("TABLESAMPLE", name.span()),
                TableFactor::Derived { sample: Some(_), .. } => self.refuse("TABLESAMPLE", factor.span()),
                TableFactor::Function { name, .. } => {
                    let function = name.to_string().to_ascii_lowercase();
                    match is_generator(&function) {
                        true => ControlFlow::Continue(()),
                        false => self.refuse(&format!("the table function `{function}`"), name.span()),
                    }
                }
                TableFactor::Pivot { default_on_null: Some(_), .. } => {
                    self.refuse("PIVOT with a default", factor.span())
                }
                TableFactor::Pivot { value_source: PivotValueSource::List(_), .. }
                | TableFactor::Unpivot { .. }
                | TableFactor::Table { .. }
                | TableFactor::Derived { .. }
                | TableFactor::NestedJoin { .. }
                | TableFactor::UNNEST { .. } => ControlFlow::Continue(()),
                other => self.refuse(&format!("`{other}` after FROM"), other.span()),
            }
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
            match expr {
                Expr::Dictionary(_) => self.refuse("`{…}`", expr.span()),
                Expr::AnyOp { .. } | Expr::AllOp { .. } => self
                    .refuse("a comparison with ANY or ALL (write IN, EXISTS, or compare with max or min)", expr.span()),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    match query.visit(&mut Check(file)) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}
