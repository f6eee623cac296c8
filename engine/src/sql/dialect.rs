//! Spark's SQL grammar, as a dialect of `sqlparser`.
//!
//! `sqlparser`'s own Spark dialect leaves out backslash escapes, intervals of several units, `exists(xs, x -> …)` and the
//! precedence of `DIV`; this one starts from it and adds them.

use std::any::TypeId;

use datafusion::sql::sqlparser::{
    ast::{BinaryOperator, Expr, Interval, TrimWhereField, UnaryOperator, Value, ValueWithSpan},
    dialect::{DatabricksDialect, Dialect, Precedence},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

/// Words that never begin an expression.
const NO_COLUMNS: [Keyword; 14] = [
    Keyword::AND,
    Keyword::OR,
    Keyword::FROM,
    Keyword::WHERE,
    Keyword::GROUP,
    Keyword::HAVING,
    Keyword::ORDER,
    Keyword::UNION,
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
    Keyword::ON,
    Keyword::AS,
    Keyword::SELECT,
];

/// Spark 3.5's grammar.
#[derive(Debug)]
pub(crate) struct SparkDialect;

impl Dialect for SparkDialect {
    /// The parser asks for Databricks in the few places where it special-cases Spark: `exists(…)`, `array(…)`.
    fn dialect(&self) -> TypeId {
        TypeId::of::<DatabricksDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_ascii_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_ascii_alphanumeric() || ch == '_'
    }

    /// `'\\d'` is `\d`, as with `spark.sql.parser.escapedStringLiterals=false`, Spark's default.
    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    /// `\%` and `\_` stay as they are: they are `LIKE`'s escapes.
    fn ignores_wildcard_escapes(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_long_type_as_bigint(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_bang_not_operator(&self) -> bool {
        true
    }

    fn supports_cte_without_as(&self) -> bool {
        true
    }

    fn supports_string_literal_concatenation(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    /// Despite its name: whether `DESCRIBE TABLE t` may be written for `DESCRIBE t`.
    fn describe_requires_table_keyword(&self) -> bool {
        true
    }

    /// `interval` and `struct` may be columns.
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        keyword == Keyword::EXISTS || keyword == Keyword::TRIM
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let [first, second] = parser.peek_tokens();
        // sqlparser would take these for columns, and then miss what they stand for.
        if let Token::Word(word) = &first
            && NO_COLUMNS.contains(&word.keyword)
        {
            return Some(parser.expected_ref("an expression", parser.peek_token_ref()));
        }
        if let Some(trim) = parse_trim(parser) {
            return Some(trim);
        }
        if is_not_exists_call(parser) {
            parser.next_token();
            let called = parser.parse_subexpr(self.prec_value(Precedence::UnaryNot));
            return Some(called.map(|expr| Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) }));
        }
        let is_interval = matches!(&first, Token::Word(word) if word.keyword == Keyword::INTERVAL);
        let has_value = matches!(second, Token::Number(..) | Token::SingleQuotedString(_) | Token::Minus | Token::Plus);
        (is_interval && has_value).then(|| parse_interval(parser))
    }

    /// `explode(m) AS (k, v)`.
    fn supports_select_item_multi_column_alias(&self) -> bool {
        true
    }

    /// `FROM t SELECT x`.
    fn supports_from_first_select(&self) -> bool {
        true
    }

    fn supports_order_by_all(&self) -> bool {
        true
    }

    /// `||` binds as `+` does.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::StringConcat => Some(Ok(self.prec_value(Precedence::PlusMinus))),
            _ => None,
        }
    }

    /// `a DIV b`, which binds as `*` does, and predicates.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        if let Some(predicate) = parse_predicate(parser, expr) {
            return Some(predicate);
        }
        if !parser.parse_keyword(Keyword::DIV) {
            return None;
        }
        Some(parser.parse_subexpr(precedence).map(|right| Expr::BinaryOp {
            left: Box::new(expr.clone()),
            op: BinaryOperator::MyIntegerDivide,
            right: Box::new(right),
        }))
    }
}

/// `a IS [NOT] DISTINCT FROM b`, where sqlparser would take all that follows as `b`, AND and OR included; and `a [NOT] LIKE ANY (b, …)`.
fn parse_predicate(parser: &mut Parser, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    let word = |token: &Token| match token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let [first, second, third, fourth] = parser.peek_tokens();
    let next = [word(&first), word(&second), word(&third), word(&fourth)];
    let skip = |parser: &mut Parser, tokens: usize| (0..tokens).for_each(|_| parser.advance_token());
    match next {
        [Keyword::IS, Keyword::DISTINCT, Keyword::FROM, _]
        | [Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM] => {
            let negated = next[1] == Keyword::NOT;
            skip(parser, if negated { 4 } else { 3 });
            Some(parser.parse_subexpr(SparkDialect.prec_value(Precedence::Is)).map(|right| {
                let sides = (Box::new(expr.clone()), Box::new(right));
                match negated {
                    true => Expr::IsNotDistinctFrom(sides.0, sides.1),
                    false => Expr::IsDistinctFrom(sides.0, sides.1),
                }
            }))
        }
        [Keyword::LIKE | Keyword::ILIKE, Keyword::ANY | Keyword::SOME | Keyword::ALL, ..]
        | [Keyword::NOT, Keyword::LIKE | Keyword::ILIKE, Keyword::ANY | Keyword::SOME | Keyword::ALL, _] => {
            let negated = next[0] == Keyword::NOT;
            let own = &next[usize::from(negated)..];
            skip(parser, if negated { 3 } else { 2 });
            Some(parse_likes(parser, expr, negated, own[0] == Keyword::ILIKE, own[1] == Keyword::ALL))
        }
        _ => None,
    }
}

/// Whether `NOT exists(xs, x -> …)` follows: sqlparser takes every `NOT EXISTS` for that of a subquery.
fn is_not_exists_call(parser: &Parser) -> bool {
    let is = |token: &Token, keyword: Keyword| matches!(token, Token::Word(word) if word.keyword == keyword);
    let [not, exists, bracket, next] = parser.peek_tokens();
    let is_query = [Keyword::SELECT, Keyword::WITH, Keyword::FROM, Keyword::VALUES].iter().any(|word| is(&next, *word));
    is(&not, Keyword::NOT)
        && is(&exists, Keyword::EXISTS)
        && bracket == Token::LParen
        && next != Token::LParen
        && !is_query
}

/// The patterns after `LIKE ANY`, each as a LIKE of its own.
fn parse_likes(
    parser: &mut Parser,
    expr: &Expr,
    negated: bool,
    ignores_case: bool,
    all: bool,
) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let patterns = parser.parse_comma_separated(Parser::parse_expr)?;
    parser.expect_token(&Token::RParen)?;
    let like = |pattern: Expr| {
        let (expr, pattern) = (Box::new(expr.clone()), Box::new(pattern));
        match ignores_case {
            true => Expr::ILike { negated, any: false, expr, pattern, escape_char: None },
            false => Expr::Like { negated, any: false, expr, pattern, escape_char: None },
        }
    };
    let op = if all { BinaryOperator::And } else { BinaryOperator::Or };
    let likes = patterns.into_iter().map(like).reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    });
    match likes {
        Some(likes) => Ok(Expr::Nested(Box::new(likes))),
        None => parser.expected_ref("a pattern", parser.peek_token_ref()),
    }
}

/// `TRIM(BOTH FROM x)`; sqlparser wants to know what to trim there.
fn parse_trim(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let [trim, bracket, side, from] = parser.peek_tokens();
    let is = |token: &Token, keyword: Keyword| matches!(token, Token::Word(word) if word.keyword == keyword);
    if !is(&trim, Keyword::TRIM) || bracket != Token::LParen || !is(&from, Keyword::FROM) {
        return None;
    }
    let trim_where = match &side {
        Token::Word(word) if word.keyword == Keyword::BOTH => TrimWhereField::Both,
        Token::Word(word) if word.keyword == Keyword::LEADING => TrimWhereField::Leading,
        Token::Word(word) if word.keyword == Keyword::TRAILING => TrimWhereField::Trailing,
        _ => return None,
    };
    for _ in 0..4 {
        parser.advance_token();
    }
    let value = parser.parse_expr().and_then(|value| parser.expect_token(&Token::RParen).map(|_| value));
    Some(value.map(|value| Expr::Trim {
        trim_where: Some(trim_where),
        trim_what: None,
        expr: Box::new(value),
        trim_characters: None,
    }))
}

/// `INTERVAL 7 days`, `INTERVAL 1 day -2 hours`, `INTERVAL '7' DAY`, `INTERVAL '7 days'`, `INTERVAL '1 02:03:04' DAY TO SECOND`.
/// The result has one text value that Arrow's interval parser reads, such as `7 days`.
fn parse_interval(parser: &mut Parser) -> Result<Expr, ParserError> {
    let start = parser.peek_token_ref().span;
    parser.expect_keyword(Keyword::INTERVAL)?;
    let mut parts: Vec<String> = Vec::new();
    loop {
        let negative = parser.consume_token(&Token::Minus);
        let positive = !negative && parser.consume_token(&Token::Plus);
        let sign = if negative { "-" } else { "" };
        let (value, quoted) = match parser.peek_token_ref().token.clone() {
            Token::Number(number, _) => (number, false),
            Token::SingleQuotedString(text) => (text, true),
            _ if parts.is_empty() || negative || positive => {
                return parser.expected_ref("a value after INTERVAL", parser.peek_token_ref());
            }
            _ => break,
        };
        parser.advance_token();
        let Some(unit) = unit(parser) else {
            if quoted && parts.is_empty() {
                parts.push(if negative { negate(&value) } else { value });
                break;
            }
            return parser.expected_ref("a unit such as DAYS", parser.peek_token_ref());
        };
        if quoted && parser.parse_keyword(Keyword::TO) {
            let Some(last) = self::unit(parser) else {
                return parser.expected_ref("a unit after TO", parser.peek_token_ref());
            };
            let Some(text) = fields(value.trim(), unit, last, negative) else {
                return Err(ParserError::ParserError(format!(
                    "'{value}' is not an interval {} TO {}{}",
                    unit.to_uppercase(),
                    last.to_uppercase(),
                    start.start
                )));
            };
            parts.push(text);
            break;
        }
        parts.push(format!("{sign}{} {unit}", value.trim()));
        // Another value goes on with this interval; a minus could also be a subtraction, which needs a unit to be an interval.
        let goes_on = match parser.peek_tokens() {
            [Token::Number(..) | Token::SingleQuotedString(_), _, _] => true,
            [Token::Minus | Token::Plus, Token::Number(..), Token::Word(word)] => unit_of(&word.value).is_some(),
            _ => false,
        };
        if !goes_on {
            break;
        }
    }
    let value = Value::SingleQuotedString(parts.join(" "));
    Ok(Expr::Interval(Interval {
        value: Box::new(Expr::Value(ValueWithSpan { value, span: start })),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }))
}

fn unit(parser: &mut Parser) -> Option<&'static str> {
    let unit = match &parser.peek_token_ref().token {
        Token::Word(word) => unit_of(&word.value),
        _ => None,
    };
    if unit.is_some() {
        parser.advance_token();
    }
    unit
}

fn unit_of(word: &str) -> Option<&'static str> {
    const UNITS: [&str; 9] = ["year", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond"];
    let word = word.to_ascii_lowercase();
    let singular = word.strip_suffix('s').unwrap_or(&word);
    UNITS.into_iter().find(|unit| *unit == singular)
}

fn negate(text: &str) -> String {
    text.split_whitespace()
        .map(|word| match word.chars().next() {
            Some('-') => word[1..].to_string(),
            Some(first) if first.is_ascii_digit() => format!("-{word}"),
            _ => word.to_string(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// The text of `INTERVAL 'text' FIRST TO LAST` with its units written out; `None` when it has other fields than that.
fn fields(text: &str, first: &str, last: &str, negative: bool) -> Option<String> {
    const ORDER: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    let (text, minus) = match text.strip_prefix('-') {
        Some(rest) => (rest, !negative),
        None => (text, negative),
    };
    let from = ORDER.iter().position(|unit| *unit == first)?;
    let to = ORDER.iter().position(|unit| *unit == last)?;
    let units = ORDER.get(from..=to)?;
    let values: Vec<&str> = text.split([' ', ':', '-']).collect();
    let numeric = values.iter().all(|value| value.parse::<f64>().is_ok());
    if values.len() != units.len() || !numeric {
        return None;
    }
    let sign = if minus { "-" } else { "" };
    Some(values.iter().zip(units).map(|(value, unit)| format!("{sign}{value} {unit}")).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        let mut parser = Parser::new(&SparkDialect).try_with_sql(text).unwrap();
        let expr = parser.parse_expr().unwrap();
        assert_eq!(parser.peek_token().token, Token::EOF, "{text} was not read whole");
        expr.to_string()
    }

    #[test]
    fn intervals_have_units_written_out() {
        assert_eq!(parse("INTERVAL 7 days"), "INTERVAL '7 day'");
        assert_eq!(parse("INTERVAL 1 day -2 hours 30 minutes"), "INTERVAL '1 day -2 hour 30 minute'");
        assert_eq!(parse("INTERVAL '7' DAY"), "INTERVAL '7 day'");
        assert_eq!(parse("INTERVAL '7 days'"), "INTERVAL '7 days'");
        assert_eq!(parse("INTERVAL -'7 days 2 hours'"), "INTERVAL '-7 days -2 hours'");
        assert_eq!(parse("INTERVAL '1 02:03:04.5' DAY TO SECOND"), "INTERVAL '1 day 02 hour 03 minute 04.5 second'");
        assert_eq!(parse("INTERVAL '-2-3' YEAR TO MONTH"), "INTERVAL '-2 year -3 month'");
        assert_eq!(parse("interval"), "interval", "it may still be a column");
        assert_eq!(parse("a + INTERVAL 1 day - INTERVAL 2 hours"), "a + INTERVAL '1 day' - INTERVAL '2 hour'");
        assert_eq!(parse("a + INTERVAL 1 day - 2"), "a + INTERVAL '1 day' - 2");
    }

    #[test]
    fn distinct_from_ends_before_and() {
        let mut parser = Parser::new(&SparkDialect).try_with_sql("a IS DISTINCT FROM b + 1 AND c").unwrap();
        let Expr::BinaryOp { left, op, .. } = parser.parse_expr().unwrap() else { panic!() };
        assert_eq!((left.to_string().as_str(), op), ("a IS DISTINCT FROM b + 1", BinaryOperator::And));
        let mut parser = Parser::new(&SparkDialect).try_with_sql("a IS NOT DISTINCT FROM b OR c").unwrap();
        assert!(matches!(parser.parse_expr().unwrap(), Expr::BinaryOp { op: BinaryOperator::Or, .. }));
    }

    #[test]
    fn wrong_intervals_are_refused() {
        for text in ["INTERVAL 7", "INTERVAL 7 lightyears", "INTERVAL '1:2' DAY TO SECOND"] {
            let mut parser = Parser::new(&SparkDialect).try_with_sql(text).unwrap();
            let result = parser.parse_expr();
            assert!(result.is_err() || parser.peek_token().token != Token::EOF, "{text}");
        }
    }

    #[test]
    fn div_binds_as_multiplication_does() {
        assert_eq!(parse("10 DIV 3 + 1"), "10 DIV 3 + 1");
        let mut parser = Parser::new(&SparkDialect).try_with_sql("10 DIV 3 + 1").unwrap();
        let Expr::BinaryOp { op, .. } = parser.parse_expr().unwrap() else { panic!() };
        assert_eq!(op, BinaryOperator::Plus);
    }

    #[test]
    fn predicates_end_where_sparks_do() {
        assert_eq!(parse("(a IS DISTINCT FROM b AND c)"), "(a IS DISTINCT FROM b AND c)");
        for (text, op) in [
            ("a IS DISTINCT FROM b AND c", BinaryOperator::And),
            ("a IS NOT DISTINCT FROM b + 1 OR c", BinaryOperator::Or),
            ("a LIKE ANY ('x', 'y') AND c", BinaryOperator::And),
            ("a NOT LIKE ALL ('x') OR c", BinaryOperator::Or),
            ("a || b + c", BinaryOperator::Plus),
        ] {
            let mut parser = Parser::new(&SparkDialect).try_with_sql(text).unwrap();
            let Expr::BinaryOp { op: found, .. } = parser.parse_expr().unwrap() else { panic!("{text}") };
            assert_eq!(found, op, "{text}");
            assert_eq!(parser.peek_token().token, Token::EOF, "{text}");
        }
        assert_eq!(parse("a LIKE ANY ('x', 'y')"), "(a LIKE 'x' OR a LIKE 'y')");
        assert_eq!(parse("a NOT ILIKE ALL ('x', 'y')"), "(a NOT ILIKE 'x' AND a NOT ILIKE 'y')");
    }

    #[test]
    fn strings_have_backslash_escapes_and_both_quotes() {
        let mut parser = Parser::new(&SparkDialect).try_with_sql(r#"["\\d+", 'a\nb', '\'']"#).unwrap();
        let Expr::Array(array) = parser.parse_expr().unwrap() else { panic!() };
        let texts: Vec<_> = array
            .elem
            .into_iter()
            .map(|e| match e {
                Expr::Value(value) => value.value.into_string().unwrap(),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(texts, [r"\d+", "a\nb", "'"]);
    }
}
