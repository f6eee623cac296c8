//! One read-only statement: parsing, what it may be, which tables it reads.

use std::collections::HashSet;

use datafusion::sql::sqlparser::{
    ast::{
        DescribeAlias, Expr, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
        Statement as SqlStatement,
    },
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer},
};

use super::{
    cast::STRICT as STRICT_CAST,
    dialect::SparkDialect,
    names, quotes,
    reads::{check_query, table_of},
    relations::generator_of,
};
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
        SqlStatement::Explain {
            describe_alias: DescribeAlias::Explain,
            analyze: false,
            verbose,
            statement,
            format: None,
            options: None,
            ..
        } => match *statement {
            SqlStatement::Query(query) => Kind::Explain { query: select(sql, file, &query)?, verbose },
            other => return Err(not_a_select(&other, file)),
        },
        SqlStatement::ExplainTable {
            describe_alias: DescribeAlias::Describe | DescribeAlias::Desc,
            table_name,
            ..
        } => Kind::Describe(table_of(&table_name, file)?),
        other => return Err(not_a_select(&other, file)),
    };
    Ok(Statement { kind, file: file.to_string() })
}

fn select(sql: &str, file: &str, written: &Query) -> Result<ReadQuery> {
    check_query(written, file)?;
    // Spark's names do not depend on case, not even in backticks; DataFusion's do, there.
    let mut tokens = tokens(sql, file)?;
    let spellings = fold(&mut tokens);
    let mut query = match parse_one(&tokens, file)? {
        SqlStatement::Query(query) => query,
        SqlStatement::Explain { statement, .. } => match *statement {
            SqlStatement::Query(query) => query,
            other => return Err(not_a_select(&other, file)),
        },
        other => return Err(not_a_select(&other, file)),
    };
    tell_apart(&mut query.body);
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
    let quotes = quotes::read(sql);
    let mut tokens = Tokenizer::new(&SparkDialect, &quotes.sql)
        .tokenize_with_location()
        .map_err(|error| syntax_error(&ParserError::TokenizerError(error.to_string()), file, &[]))?;
    quotes.restore(&mut tokens);
    check_chains(&tokens, file)?;
    mark_strict_casts(&mut tokens);
    Ok(tokens)
}

/// `strict_cast(x AS type)` is read as another dialect's SAFE_CAST, which does not exist here and is taken for an unknown function.
fn mark_strict_casts(tokens: &mut [TokenWithSpan]) {
    let mut before_bracket = false;
    for token in tokens.iter_mut().rev() {
        match &mut token.token {
            Token::Whitespace(_) => continue,
            Token::LParen => {
                before_bracket = true;
                continue;
            }
            Token::Word(word) if word.quote_style.is_none() => {
                if before_bracket && word.value.eq_ignore_ascii_case(STRICT_CAST) {
                    word.keyword = Keyword::SAFE_CAST;
                } else if word.keyword == Keyword::SAFE_CAST {
                    word.keyword = Keyword::NoKeyword;
                }
            }
            _ => {}
        }
        before_bracket = false;
    }
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
                Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::ON
                | Keyword::WHEN
                | Keyword::THEN
                | Keyword::ELSE => chain = 0,
                _ => {}
            },
            // Comparisons do not follow each other, and what else is no operator.
            Token::Eq
            | Token::DoubleEq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Spaceship
            | Token::Arrow => {}
            Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Period => {}
            _ => chain += 1,
        }
        if chain > LONGEST {
            return Err(Error::new(
                Code::InvalidSql,
                format!("{}more than {LONGEST} operators in a row", place(file, token.span)),
            )
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
        return Err(Error::new(Code::InvalidSql, format!("{}there is no statement", place(file, Span::empty())))
            .hint("write one SELECT"));
    }
    let statement = parser.parse_statement().map_err(wrong)?;
    while parser.consume_token(&Token::SemiColon) {}
    let next = parser.peek_token_ref();
    if next.token != Token::EOF {
        let place = place(file, next.span);
        return Err(match &next.token {
            Token::Word(word) if starts_statement(&word.value) => {
                Error::new(Code::InvalidSql, format!("{place}a second statement begins with {}", word.value))
                    .hint("give one SELECT, not several statements")
            }
            other => Error::new(Code::InvalidSql, format!("{place}the statement should end before `{other}`")),
        });
    }
    Ok(statement)
}

fn starts_statement(word: &str) -> bool {
    [
        "select", "with", "insert", "update", "delete", "merge", "create", "drop", "alter", "set", "copy", "truncate",
        "use",
    ]
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
            return Error::new(
                Code::InvalidSql,
                format!("{}the SQL nests deeper than {DEEPEST} levels", place(file, Span::empty())),
            )
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

/// The SELECT that names a query's columns: in a UNION the first one.
fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

/// Two spellings of one expression are two columns: the later one gets a name that the planner can tell from the first.
fn tell_apart(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            let mut seen = HashSet::new();
            for (at, item) in select.projection.iter_mut().enumerate() {
                let SelectItem::UnnamedExpr(expr) = item else { continue };
                let is_new = seen.insert(expr.to_string());
                if natural_name(expr).is_none() && !is_json_tuple(expr) && !is_new {
                    let alias = Ident::with_quote('`', format!("__trireme_item_{at}"));
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        SetExpr::Query(query) => tell_apart(&mut query.body),
        SetExpr::SetOperation { left, .. } => tell_apart(left),
        _ => {}
    }
}

fn output_names(select: &Select) -> Vec<OutputName> {
    select.projection.iter().map(output_name).collect()
}

/// What a SELECT item's column is called.
pub(super) fn output_name(item: &SelectItem) -> OutputName {
    match item {
        item if generator_of(item).is_some() => OutputName::All,
        // One expression, several columns.
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } if is_json_tuple(expr) => {
            OutputName::All
        }
        SelectItem::UnnamedExpr(expr) => OutputName::Named(natural_name(expr).unwrap_or_else(|| expr.to_string())),
        SelectItem::ExprWithAlias { alias, .. } => OutputName::Named(alias.value.clone()),
        SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
            OutputName::All
        }
    }
}

fn is_json_tuple(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("json_tuple"))
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
        .filter(|name| !names::is_internal(name))
        .collect();
    known.sort_unstable();
    known.dedup();
    known
}

#[cfg(test)]
mod tests;
