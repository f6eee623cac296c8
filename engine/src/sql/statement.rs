//! One read-only statement: parsing, what it may be, which tables it reads.

use std::{collections::BTreeSet, ops::ControlFlow};

use datafusion::sql::sqlparser::{
    ast::{
        DescribeAlias, Expr, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Spanned,
        Statement as SqlStatement, TableFactor, Visit, Visitor,
    },
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer},
};

use super::{dialect::SparkDialect, names};
use crate::{
    error::{Code, Error, Result},
    names::TableName,
};

/// How deep expressions and queries may nest; the parser and the planner recurse.
const DEEPEST: usize = 64;

/// How many operators may follow each other: their tree is as deep as the chain is long, and not all that walks it does so without recursion.
const LONGEST: usize = 200;

/// A statement that only reads.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(super) kind: Kind,
    /// The file that errors name; empty for SQL that came from elsewhere.
    pub(super) file: String,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Select(ReadQuery),
    Explain { query: ReadQuery, verbose: bool },
    Describe(TableName),
}

/// A query with the names that its columns get.
#[derive(Debug, Clone)]
pub(super) struct ReadQuery {
    /// All identifiers in backticks are in lower case; the planner does the others.
    pub(super) query: Box<Query>,
    /// What the first SELECT's columns are called, as written.
    pub(super) names: Vec<OutputName>,
    /// Every alias and identifier as written; a name that only differs in case is shown so.
    pub(super) spellings: Vec<String>,
}

/// The name of one item after SELECT.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum OutputName {
    Named(String),
    /// `*` or `t.*`: as many columns as there are.
    All,
}

impl Statement {
    /// The table of a `DESCRIBE TABLE` statement; `None` for SELECT and EXPLAIN.
    pub fn described_table(&self) -> Option<&TableName> {
        match &self.kind {
            Kind::Describe(table) => Some(table),
            _ => None,
        }
    }

    /// Whether this is a plain SELECT, not EXPLAIN or DESCRIBE.
    pub fn is_select(&self) -> bool {
        matches!(self.kind, Kind::Select(_))
    }

    pub(super) fn place(&self, span: Span) -> String {
        place(&self.file, span)
    }
}

/// `file:line:column: `, or as much of it as is known.
pub(super) fn place(file: &str, span: Span) -> String {
    let at = if span.start.line == 0 { String::new() } else { format!("{}:{}", span.start.line, span.start.column) };
    match (file.is_empty(), at.is_empty()) {
        (true, true) => String::new(),
        (true, false) => format!("line {}, column {}: ", span.start.line, span.start.column),
        (false, true) => format!("{file}: "),
        (false, false) => format!("{file}:{at}: "),
    }
}

/// Reads exactly one SELECT (with WITH, UNION, …), `EXPLAIN SELECT` or `DESCRIBE TABLE`. Comments and a `;` at the end are fine. `file` is
/// what errors call the source; lines and columns count from 1.
pub fn parse_select(sql: &str, file: &str) -> Result<Statement> {
    let written = parse_one(&tokens(sql, file)?, file)?;
    let kind = match written {
        SqlStatement::Query(query) => Kind::Select(select(sql, file, &query)?),
        SqlStatement::Explain { describe_alias: DescribeAlias::Explain, analyze: false, verbose, statement, format: None, options: None, .. } => {
            match *statement {
                SqlStatement::Query(query) => Kind::Explain { query: select(sql, file, &query)?, verbose },
                other => return Err(not_a_select(&other, file)),
            }
        }
        SqlStatement::ExplainTable { describe_alias: DescribeAlias::Describe | DescribeAlias::Desc, table_name, .. } => {
            Kind::Describe(table_of(&table_name, file)?)
        }
        other => return Err(not_a_select(&other, file)),
    };
    Ok(Statement { kind, file: file.to_string() })
}

fn select(sql: &str, file: &str, written: &Query) -> Result<ReadQuery> {
    check_query(written, file)?;
    // Spark's names do not depend on case, not even in backticks; DataFusion's do, there.
    let mut tokens = tokens(sql, file)?;
    let spellings = fold(&mut tokens);
    let query = match parse_one(&tokens, file)? {
        SqlStatement::Query(query) => query,
        SqlStatement::Explain { statement, .. } => match *statement {
            SqlStatement::Query(query) => query,
            other => return Err(not_a_select(&other, file)),
        },
        other => return Err(not_a_select(&other, file)),
    };
    let names = first_select(&written.body).map(output_names).unwrap_or_default();
    Ok(ReadQuery { query, names, spellings })
}

/// Puts identifiers in backticks into lower case, and gives all identifiers as they were.
pub(super) fn fold(tokens: &mut [TokenWithSpan]) -> Vec<String> {
    let mut spellings = Vec::new();
    for token in tokens {
        if let Token::Word(word) = &mut token.token {
            spellings.push(word.value.clone());
            if word.quote_style.is_some() {
                word.value = word.value.to_ascii_lowercase();
            }
        }
    }
    spellings
}

/// The words and signs of a text.
pub(super) fn tokens(sql: &str, file: &str) -> Result<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(&SparkDialect, sql)
        .tokenize_with_location()
        .map_err(|error| syntax_error(&ParserError::TokenizerError(error.to_string()), file, &[]))?;
    check_chains(&tokens, file)?;
    Ok(tokens)
}

fn check_chains(tokens: &[TokenWithSpan], file: &str) -> Result<()> {
    let (mut around, mut chain) = (Vec::new(), 0usize);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => around.push(std::mem::take(&mut chain)),
            Token::RParen | Token::RBracket => chain = around.pop().unwrap_or(0),
            Token::Comma | Token::SemiColon => chain = 0,
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::DIV => chain += 1,
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::ON | Keyword::WHEN | Keyword::THEN | Keyword::ELSE => chain = 0,
                _ => {}
            },
            // Comparisons do not follow each other, and what else is no operator.
            Token::Eq | Token::DoubleEq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq | Token::Spaceship | Token::Arrow => {}
            Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::Period => {}
            _ => chain += 1,
        }
        if chain > LONGEST {
            return Err(Error::new(Code::InvalidSql, format!("{}more than {LONGEST} operators in a row", place(file, token.span)))
                .hint("write IN (…), or split the expression in subqueries"));
        }
    }
    Ok(())
}

/// A parser of Spark's grammar.
pub(super) fn parser(tokens: &[TokenWithSpan]) -> Parser<'static> {
    Parser::new(&SparkDialect).with_recursion_limit(DEEPEST).with_tokens_with_locations(tokens.to_vec())
}

fn parse_one(tokens: &[TokenWithSpan], file: &str) -> Result<SqlStatement> {
    let mut parser = parser(tokens);
    let wrong = |error: ParserError| syntax_error(&error, file, tokens);
    if parser.peek_token_ref().token == Token::EOF {
        return Err(Error::new(Code::InvalidSql, format!("{}there is no statement", place(file, Span::empty()))).hint("write one SELECT"));
    }
    let statement = parser.parse_statement().map_err(wrong)?;
    while parser.consume_token(&Token::SemiColon) {}
    let next = parser.peek_token_ref();
    if next.token != Token::EOF {
        let place = place(file, next.span);
        return Err(match &next.token {
            Token::Word(word) if starts_statement(&word.value) => {
                Error::new(Code::InvalidSql, format!("{place}a second statement begins with {}", word.value)).hint("give one SELECT, not several statements")
            }
            other => Error::new(Code::InvalidSql, format!("{place}the statement should end before `{other}`")),
        });
    }
    Ok(statement)
}

fn starts_statement(word: &str) -> bool {
    ["select", "with", "insert", "update", "delete", "merge", "create", "drop", "alter", "set", "copy", "truncate", "use"]
        .iter()
        .any(|keyword| word.eq_ignore_ascii_case(keyword))
}

fn not_a_select(statement: &SqlStatement, file: &str) -> Error {
    let text = statement.to_string();
    let found: Vec<_> = text.split_whitespace().take(2).collect();
    Error::new(Code::InvalidSql, format!("{}expected a SELECT, found {}", place(file, Span::empty()), found.join(" ")))
        .hint("SQL only reads here; tables are written by load, merge and question")
}

/// sqlparser puts the place at the end of its message (` at Line: 1, Column: 8`), but for the end of the text.
pub(super) fn syntax_error(error: &ParserError, file: &str, tokens: &[TokenWithSpan]) -> Error {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            return Error::new(Code::InvalidSql, format!("{}the SQL nests deeper than {DEEPEST} levels", place(file, Span::empty())))
                .hint("split it with WITH");
        }
    };
    let (message, span) = match text.rsplit_once(" at Line: ") {
        Some((message, at)) => {
            let mut numbers = at.split(", Column: ").map(|number| number.trim().parse().unwrap_or(0));
            let (line, column) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            let start = Location { line, column };
            (message, Span { start, end: start })
        }
        None => {
            let end = tokens.last().map_or(Location::empty(), |token| token.span.end);
            (text, Span { start: end, end })
        }
    };
    let mut message = message.to_string();
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    Error::new(Code::InvalidSql, format!("{}{message}", place(file, span))).hint("the SQL is Spark's")
}

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
fn table_of(name: &ObjectName, file: &str) -> Result<TableName> {
    let parts: Option<Vec<&str>> = name.0.iter().map(|part| part.as_ident().map(|ident| ident.value.as_str())).collect();
    let table = match parts.as_deref() {
        Some([schema, table]) => format!("{schema}.{table}").to_ascii_lowercase().parse().ok(),
        _ => None,
    };
    table.ok_or_else(|| {
        Error::new(Code::InvalidSql, format!("{}`{}` is not a table", place(file, name.span()), name.to_string().trim_matches(['\'', '"', '`'])))
            .hint("tables are named `schema.table`; files can't be read by their path, download them into a source first")
    })
}

/// Refuses what reads or writes anything but catalog tables, and what Spark does not have.
fn check_query(query: &Query, file: &str) -> Result<()> {
    struct Check<'a>(&'a str);

    impl Check<'_> {
        fn refuse(&self, what: &str, span: Span) -> ControlFlow<Error> {
            ControlFlow::Break(Error::new(Code::InvalidSql, format!("{}{what} is not supported", place(self.0, span))))
        }
    }

    impl Visitor for Check<'_> {
        type Break = Error;

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
            if !query.locks.is_empty() || query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
                return self.refuse("a clause after the query", query.span());
            }
            if !query.pipe_operators.is_empty() {
                return self.refuse("a query with pipes", query.span());
            }
            if query.with.as_ref().is_some_and(|with| with.recursive) {
                return self.refuse("WITH RECURSIVE", query.span());
            }
            match query.body.as_ref() {
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) => ControlFlow::Continue(()),
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
            if let Some(view) = select.lateral_views.first() {
                return self.refuse("LATERAL VIEW (write SELECT explode(xs) AS x in a subquery)", view.lateral_view.span());
            }
            if !select.cluster_by.is_empty() || !select.distribute_by.is_empty() || !select.sort_by.is_empty() {
                return self.refuse("CLUSTER BY, DISTRIBUTE BY or SORT BY (write ORDER BY)", select.span());
            }
            let many = |item: &&SelectItem| matches!(item, SelectItem::ExprWithAliases { .. });
            if let Some(item) = select.projection.iter().find(many) {
                return self.refuse("one expression with several aliases", item.span());
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
            match factor {
                TableFactor::Table { name, args: Some(_), .. } => {
                    let function = name.to_string().to_ascii_lowercase();
                    if matches!(function.as_str(), "range" | "generate_series") {
                        return ControlFlow::Continue(());
                    }
                    self.refuse(&format!("the table function `{function}`"), name.span())
                }
                TableFactor::Table { version: Some(_), name, .. } => self.refuse("reading a table's former version", name.span()),
                TableFactor::Table { sample: Some(_), name, .. } => self.refuse("TABLESAMPLE", name.span()),
                TableFactor::Table { .. } | TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } | TableFactor::UNNEST { .. } => {
                    ControlFlow::Continue(())
                }
                other => self.refuse(&format!("`{other}` after FROM"), other.span()),
            }
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
            match expr {
                Expr::Dictionary(_) => self.refuse("`{…}`", expr.span()),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    match query.visit(&mut Check(file)) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The SELECT that names a query's columns: in a UNION the first one.
fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn output_names(select: &Select) -> Vec<OutputName> {
    select.projection.iter().map(output_name).collect()
}

/// What a SELECT item's column is called.
pub(super) fn output_name(item: &SelectItem) -> OutputName {
    match item {
        SelectItem::UnnamedExpr(expr) => OutputName::Named(natural_name(expr).unwrap_or_else(|| expr.to_string())),
        SelectItem::ExprWithAlias { alias, .. } => OutputName::Named(alias.value.clone()),
        SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => OutputName::All,
    }
}

/// The name of a column or a field; other expressions have none of their own.
pub(super) fn natural_name(expr: &Expr) -> Option<String> {
    use datafusion::sql::sqlparser::ast::AccessExpr;
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(name))) => Some(name.value.clone()),
            _ => None,
        },
        Expr::Nested(inner) => natural_name(inner),
        _ => None,
    }
}

/// The name in `name.*`, if it is of that form.
pub(super) fn wildcard_of(item: &SelectItem) -> Option<&ObjectName> {
    match item {
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => Some(name),
        _ => None,
    }
}

/// All function names that a session knows.
pub(super) fn known_functions(state: &datafusion::execution::SessionState) -> Vec<String> {
    let mut known: Vec<String> = state
        .scalar_functions()
        .keys()
        .chain(state.higher_order_functions().keys())
        .chain(state.aggregate_functions().keys())
        .chain(state.window_functions().keys())
        .cloned()
        .chain(names::extra().map(str::to_string))
        .collect();
    known.sort_unstable();
    known.dedup();
    known
}

#[cfg(test)]
mod tests;
