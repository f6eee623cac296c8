//! Rewrites Spark's syntax tree into one that DataFusion's planner takes.
//!
//! What needs types is only marked here (see [`super::calls`]); the rest is renamed or spelled out: `x.a.b` on a lambda's variable,
//! `exists`, `forall`, `max_by`, `rlike`, `struct(a, b)`, integer literals, which are `int` in Spark.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::{
    ast::{
        AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType as SqlType, DateTimeField, Expr,
        Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident,
        LambdaFunction, LimitClause, NullTreatment, OrderByExpr, OrderByKind, OrderByOptions, Query, Select,
        SelectItem, SetExpr, Spanned, TableFactor, TrimWhereField, UnaryOperator, Value, ValueWithSpan, VisitMut,
        VisitorMut, WindowFrameBound, WindowType, helpers::attached_token::AttachedToken,
    },
    tokenizer::Span,
};

use super::{
    aggregates::{AGGREGATE, is_changed},
    calls::{CAST, INT, NAMES, STRICT_CAST, TRY_CAST},
    functions, grouping,
    implicit::casts_arguments,
    known_values, likes, names, natural, order_keys, set_operations, suggest,
    syntax::{
        arguments_mut, binary, call, cast, field, int_of, is_distinct, marked, name_of, not, number, number_of,
        place_holder, rename, set_arguments, take, text, unmark,
    },
    typed, using,
};
use crate::error::{Code, Error, Result};

/// Rewrites a statement or an expression. `known` says which functions there are, `place` where in the source a span is.
pub(crate) fn rewrite<T: VisitMut>(tree: &mut T, known: &[String], place: &dyn Fn(Span) -> String) -> Result<()> {
    let mut relations = Relations::default();
    // Nothing breaks off.
    let _ = tree.visit(&mut relations);
    let mut rewriter = Rewriter { lambdas: Vec::new(), relations, known, place };
    match tree.visit(&mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// What a column may be qualified with: names and aliases of tables, and of their schemas.
#[derive(Default)]
struct Relations {
    tables: Vec<String>,
    schemas: Vec<String>,
}

impl VisitorMut for Relations {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let (name, alias) = match factor {
            TableFactor::Table { name, alias, .. } => (Some(name), alias),
            TableFactor::Derived { alias, .. } | TableFactor::UNNEST { alias, .. } => (None, alias),
            TableFactor::NestedJoin { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::Pivot { alias, .. }
            | TableFactor::Unpivot { alias, .. } => (None, alias),
            _ => return ControlFlow::Continue(()),
        };
        self.tables.extend(alias.iter().map(|alias| alias.name.value.to_ascii_lowercase()));
        let mut parts = name.iter().flat_map(|name| &name.0).filter_map(|part| part.as_ident()).rev();
        self.tables.extend(parts.next().map(|name| name.value.to_ascii_lowercase()));
        self.schemas.extend(parts.next().map(|name| name.value.to_ascii_lowercase()));
        ControlFlow::Continue(())
    }
}

impl Relations {
    /// Whether a compound name is a struct's field, not a table's column.
    fn is_field(&self, parts: &[Ident]) -> bool {
        let is_in = |names: &[String], i: usize| {
            parts.get(i).is_some_and(|part| names.iter().any(|name| name.eq_ignore_ascii_case(&part.value)))
        };
        let qualifiers = if is_in(&self.tables, 0) {
            1
        } else if is_in(&self.schemas, 0) && is_in(&self.tables, 1) {
            2
        } else {
            0
        };
        parts.len() > qualifiers + 1
    }
}

struct Rewriter<'a> {
    relations: Relations,
    /// Parameters of the lambdas around, in lower case.
    lambdas: Vec<Vec<String>>,
    known: &'a [String],
    place: &'a dyn Fn(Span) -> String,
}

impl VisitorMut for Rewriter<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Lambda(lambda) => {
                self.lambdas.push(lambda.params.iter().map(|p| p.name.value.to_ascii_lowercase()).collect())
            }
            // Before its arguments are marked: some of them must stay what they are.
            Expr::Function(function) => {
                if let Err(error) = self.check(function) {
                    return ControlFlow::Break(error);
                }
                functions::planned::spell_out(expr);
                spell_out(expr);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Lambda(_) => {
                self.lambdas.pop();
            }
            Expr::CompoundIdentifier(parts) if parts.first().is_some_and(|first| self.is_variable(first)) => {
                let mut parts = std::mem::take(parts).into_iter();
                if let Some(variable) = parts.next() {
                    let access_chain = parts.map(|part| field(&part)).collect();
                    *expr = Expr::CompoundFieldAccess { root: Box::new(Expr::Identifier(variable)), access_chain };
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                // The planner reads leading names as a column's; later ones must be subscripts.
                let mut names_column = matches!(root.as_ref(), Expr::Identifier(name) if !self.is_variable(name));
                for access in access_chain {
                    match access {
                        AccessExpr::Dot(Expr::Identifier(name)) if !names_column => *access = field(&name.clone()),
                        AccessExpr::Dot(_) => {}
                        AccessExpr::Subscript(_) => names_column = false,
                    }
                }
            }
            Expr::Function(function) => match finish(function) {
                Some(data_type) => *expr = marked(CAST, vec![take(expr), cast(place_holder(), data_type)]),
                None if is_aggregate(function) => *expr = marked(AGGREGATE, vec![place_holder(), take(expr)]),
                None => mark_call(expr),
            },
            Expr::Value(ValueWithSpan { value: Value::Number(digits, long), .. }) => {
                let digits = if *long { format!("{digits}L") } else { std::mem::take(digits) };
                *expr = marked_number(&digits);
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                if let Some(digits) = int_of(inner).or_else(|| number_of(inner)).filter(|d| !d.starts_with('-')) {
                    *expr = marked_number(&format!("-{digits}"));
                }
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                *expr = case(operand.take(), std::mem::take(conditions), else_result.take());
            }
            Expr::InList { expr: value, list, negated } if !has_tuples(value, list) => {
                let mut values = vec![place_holder(), take(value)];
                values.append(list);
                let found = marked(typed::IN, values);
                *expr = if *negated { not(found) } else { found };
            }
            Expr::IsNotDistinctFrom(left, right) => {
                *expr = Expr::Nested(Box::new(binary(take(left), BinaryOperator::Spaceship, take(right))));
            }
            Expr::IsDistinctFrom(left, right) => {
                *expr = not(binary(take(left), BinaryOperator::Spaceship, take(right)));
            }
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: inner } => {
                *expr = call("bitwise_not", vec![take(inner)])
            }
            Expr::UnaryOp { op, .. } if *op == UnaryOperator::BangNot => *op = UnaryOperator::Not,
            Expr::RLike { negated, expr: value, pattern, .. } => {
                let matches = marked("regexp_like", vec![place_holder(), take(value), take(pattern)]);
                *expr = if *negated { not(matches) } else { matches };
            }
            Expr::Like { expr: value, pattern, escape_char, .. }
            | Expr::ILike { expr: value, pattern, escape_char, .. } => {
                let place = (self.place)(pattern.span());
                if let Err(error) = likes::with_backslashes(pattern, escape_char, &place) {
                    return ControlFlow::Break(error);
                }
                **value = marked("string", vec![place_holder(), take(value)]);
            }
            Expr::Substring { expr: value, substring_from: Some(from), substring_for, .. } => {
                let mut args = vec![place_holder(), take(value), take(from)];
                args.extend(substring_for.as_mut().map(|length| take(length)));
                *expr = marked("substring", args);
            }
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                *expr = marked("concat", vec![place_holder(), take(left), take(right)]);
            }
            // Named as a struct of these columns is.
            Expr::Tuple(values) if !self.lambdas.is_empty() && values.len() > 1 => {
                *expr = named_struct(std::mem::take(values));
            }
            Expr::Position { expr: part, r#in: value } => {
                *expr = marked("locate", vec![place_holder(), take(part), take(value)]);
            }
            Expr::Overlay { expr: value, overlay_what, overlay_from, overlay_for } => {
                let mut args = vec![place_holder(), take(value), take(overlay_what), take(overlay_from)];
                args.extend(overlay_for.as_mut().map(|length| take(length)));
                *expr = marked("overlay", args);
            }
            Expr::Trim { expr: value, trim_where, trim_what, .. } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "trim_start",
                    Some(TrimWhereField::Trailing) => "trim_end",
                    _ => "btrim",
                };
                let mut args = vec![place_holder(), take(value)];
                args.extend(trim_what.as_mut().map(|what| take(what)));
                *expr = marked(name, args);
            }
            Expr::Between { expr: value, negated, low, high } => {
                let value = take(value);
                let from = binary(value.clone(), BinaryOperator::GtEq, take(low));
                let to = binary(value, BinaryOperator::LtEq, take(high));
                let between = Expr::Nested(Box::new(binary(from, BinaryOperator::And, to)));
                *expr = if *negated { not(between) } else { between };
            }
            Expr::Cast { expr: value, data_type, array: false, format: None, kind } => {
                let target = cast(place_holder(), data_type.clone());
                let marker = match kind {
                    CastKind::SafeCast => STRICT_CAST,
                    CastKind::TryCast => TRY_CAST,
                    _ => CAST,
                };
                *expr = marked(marker, vec![take(value), target]);
            }
            Expr::Struct { values, fields } if fields.is_empty() => *expr = named_struct(std::mem::take(values)),
            Expr::Extract { field, expr: value, .. } => {
                *expr = marked("date_part", vec![place_holder(), text(&field.to_string()), take(value)]);
            }
            Expr::Ceil { expr: value, field } => *expr = rounded("ceil", take(value), field),
            Expr::Floor { expr: value, field } => *expr = rounded("floor", take(value), field),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// A struct's field is a column of that name to whatever is around the SELECT.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        functions::selects::rewrite(select);
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(expr) = item else { continue };
            let name = match expr {
                Expr::CompoundIdentifier(parts) if self.relations.is_field(parts) => parts.last().cloned(),
                Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
                    Some(AccessExpr::Dot(Expr::Identifier(name))) => Some(name.clone()),
                    _ => None,
                },
                _ => None,
            };
            if let Some(alias) = name {
                *item = SelectItem::ExprWithAlias { expr: take(expr), alias };
            }
        }
        ControlFlow::Continue(())
    }

    /// `GROUP BY 1` and `ORDER BY 1` name columns, and limits are plain numbers.
    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
            exprs.iter_mut().for_each(unmark);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        set_operations::arms_as_queries(&mut query.body);
        functions::selects::rewrite_order(query);
        order_keys::spell_out(query);
        if let SetExpr::Select(select) = query.body.as_mut() {
            using::name_relations(select);
            natural::wrap(select);
        }
        match using::spell_out(query).and_then(|()| grouping::spell_out(query)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        set_operations::wrap(query);
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::Expressions(exprs) = &mut order_by.kind
        {
            exprs.iter_mut().for_each(|order| unmark(&mut order.expr));
        }
        match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit.iter_mut().for_each(unmark);
                offset.iter_mut().for_each(|offset| unmark(&mut offset.value));
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                unmark(offset);
                unmark(limit);
            }
            None => {}
        }
        if let Some(fetch) = &mut query.fetch {
            fetch.quantity.iter_mut().for_each(unmark);
        }
        ControlFlow::Continue(())
    }
}

impl Rewriter<'_> {
    fn is_variable(&self, name: &Ident) -> bool {
        self.lambdas.iter().flatten().any(|variable| variable.eq_ignore_ascii_case(&name.value))
    }

    /// An error if there is no such function.
    fn check(&self, function: &Function) -> Result<()> {
        let name = function.name.to_string().to_ascii_lowercase();
        let plain = name.trim_matches('`');
        let place = (self.place)(function.name.span());
        if let Some((why, instead)) = functions::refused::reason(plain) {
            return Err(
                Error::new(Code::InvalidSql, format!("{place}there is no function `{plain}`: {why}")).hint(instead)
            );
        }
        if is_distinct(function) && has_star(function) {
            return Err(Error::new(Code::InvalidSql, format!("{place}`{plain}(DISTINCT *)` is not supported"))
                .hint("name the columns: rows in which one of them is NULL do not count"));
        }
        if function.over.is_some() && (function.filter.is_some() || is_distinct(function)) {
            let what = if function.filter.is_some() { "FILTER" } else { "DISTINCT" };
            return Err(Error::new(Code::InvalidSql, format!("{place}`{plain}` can't have {what} over a window"))
                .hint("aggregate in a subquery, or write CASE in the argument"));
        }
        if self.known.iter().any(|known| known == plain) {
            return Ok(());
        }
        let error = Error::new(Code::InvalidSql, format!("{place}there is no function `{plain}`"));
        match suggest::nearest(plain, self.known.iter().map(String::as_str)) {
            Some(nearest) => Err(error.hint(format!("did you mean `{nearest}`?"))),
            None => Err(error.hint("functions are Spark SQL's; `trireme sql --functions` lists those that there are")),
        }
    }
}

/// Whether a `*` stands among a call's arguments.
fn has_star(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    list.args.iter().any(|arg| {
        matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Wildcard | FunctionArgExpr::QualifiedWildcard(_)))
    })
}

/// What must happen after the arguments were visited: literals that must be plain become so. Gives the type to cast to when DataFusion's
/// function gives another one than Spark's.
fn finish(function: &mut Function) -> Option<SqlType> {
    let name = name_of(function)?;
    if matches!(
        names::behind(&name),
        "ntile" | "lag" | "lead" | "nth_value" | "percentile_cont" | "approx_percentile_cont"
    ) {
        arguments_mut(function).into_iter().for_each(unmark);
    }
    if function.over.is_some()
        && let Some(known) = known_values::behind(&name).filter(|_| ignores_nulls(function))
    {
        rename(function, known);
        arguments_mut(function).into_iter().skip(1).for_each(unmark);
    }
    if let Some(WindowType::WindowSpec(window)) = &mut function.over
        && let Some(frame) = &mut window.window_frame
    {
        for bound in [Some(&mut frame.start_bound), frame.end_bound.as_mut()].into_iter().flatten() {
            if let WindowFrameBound::Preceding(Some(rows)) | WindowFrameBound::Following(Some(rows)) = bound {
                unmark(rows);
            }
        }
    }
    let parameters = arguments_mut(function).into_iter().find_map(|argument| match argument {
        Expr::Lambda(lambda) => Some(lambda.params.len()),
        _ => None,
    });
    // Spark takes arguments of them, and does nothing with these.
    if function.over.is_some()
        && matches!(name.as_str(), "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist")
    {
        set_arguments(function, vec![]);
    }
    match name.as_str() {
        "transform" if parameters == Some(2) => rename(function, "array_transform_indexed"),
        "filter" if parameters == Some(2) => rename(function, "array_filter_indexed"),
        "array_sort" if parameters == Some(2) => rename(function, "array_sort_by"),
        // The planner knows these two by their names only.
        "explode" | "explode_outer" => rename(function, names::behind(&name)),
        "approx_count_distinct" => {
            rename(function, "approx_distinct");
            // DataFusion's counts no floats.
            if let FunctionArguments::List(list) = &mut function.args
                && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = list.args.as_mut_slice()
            {
                *value = call("float_order", vec![take(value)]);
            }
            return Some(SqlType::BigInt(None));
        }
        // DataFusion's windows take no order within the call.
        "max_by" | "min_by" if function.over.is_some() => {
            if let FunctionArguments::List(list) = &mut function.args
                && let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(by))] = list.args.as_mut_slice()
            {
                *by = call("float_order", vec![take(by)]);
            }
            rename(function, if name == "max_by" { "max_by_order" } else { "min_by_order" });
        }
        "regr_count" => return Some(SqlType::BigInt(None)),
        "row_number" | "rank" | "dense_rank" | "ntile" if function.over.is_some() => return Some(SqlType::Int(None)),
        _ => {}
    }
    None
}

/// Spells out functions that are others in disguise. Runs before the arguments are visited, so these are still as written.
fn spell_out(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    let Some(name) = name_of(function) else { return };
    let mut args: Vec<Expr> = arguments_mut(function).into_iter().map(|argument| argument.clone()).collect();
    match (name.as_str(), args.len()) {
        // forall(xs, x -> p) is NOT exists(xs, x -> NOT p), in three-valued logic, too.
        ("forall", 2) => {
            if let Some(Expr::Lambda(LambdaFunction { body, .. })) = args.get_mut(1) {
                **body = not(take(body));
                set_arguments(function, args);
                rename(function, "exists");
                *expr = not(expr.clone());
            }
        }
        ("count_if", 1) => {
            let condition = CaseWhen { condition: args.remove(0), result: text("x") };
            let case = Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: vec![condition],
                else_result: None,
            };
            set_arguments(function, vec![case]);
            rename(function, "count");
        }
        ("count", 2..) if is_distinct(function) => {
            // Rows in which any of them is null do not count.
            let condition = args
                .iter()
                .cloned()
                .map(|arg| Expr::IsNotNull(Box::new(arg)))
                .reduce(|a, b| binary(a, BinaryOperator::And, b));
            let result = named_struct(args);
            let case = Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: condition.map(|condition| CaseWhen { condition, result }).into_iter().collect(),
                else_result: None,
            };
            set_arguments(function, vec![case]);
        }
        ("percentile_cont" | "percentile_disc", 1) if function.within_group.len() == 1 => {
            let order = function.within_group.remove(0);
            let percentage = args.remove(0);
            let percentage = match order.options.asc {
                Some(false) => binary(number("1D"), BinaryOperator::Minus, Expr::Nested(Box::new(percentage))),
                _ => percentage,
            };
            set_arguments(function, vec![order.expr, percentage]);
            if name == "percentile_cont" {
                rename(function, "percentile");
            }
        }
        ("first" | "last" | "any_value" | "first_value" | "last_value", 2) if function.null_treatment.is_none() => {
            if let Some(Expr::Value(ValueWithSpan { value: Value::Boolean(ignore), .. })) = args.get(1) {
                function.null_treatment = ignore.then_some(NullTreatment::IgnoreNulls);
                args.truncate(1);
                set_arguments(function, args);
            }
        }
        ("max_by" | "min_by", 2) if function.over.is_none() => {
            let by = args.remove(1);
            set_arguments(function, args);
            let known = Expr::IsNotNull(Box::new(by.clone()));
            function.filter = Some(Box::new(match function.filter.take() {
                Some(filter) => binary(Expr::Nested(filter), BinaryOperator::And, known),
                None => known,
            }));
            let options = OrderByOptions { asc: Some(name == "min_by"), nulls_first: Some(false) };
            let order = OrderByExpr { expr: by, options, with_fill: None };
            if let FunctionArguments::List(list) = &mut function.args {
                list.clauses.push(FunctionArgumentClause::OrderBy(vec![order]));
            }
            rename(function, "first_value");
        }
        ("approx_count_distinct", 2) => {
            args.truncate(1);
            set_arguments(function, args);
        }
        _ => {}
    }
}

/// `ceil` or `floor`; the parser has nodes of its own for them.
fn rounded(name: &str, value: Expr, field: &CeilFloorKind) -> Expr {
    let mut args = vec![place_holder(), value];
    match field {
        CeilFloorKind::Scale(scale) => args.push(Expr::Value(scale.clone())),
        CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => {}
        CeilFloorKind::DateTimeField(unit) => args.push(text(&unit.to_string())),
    }
    marked(name, args)
}

/// Marks a plain call of a function that is planned by types.
fn mark_call(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    let plain = function.over.is_none()
        && function.filter.is_none()
        && function.within_group.is_empty()
        && !is_distinct(function);
    let Some(name) = name_of(function).filter(|name| {
        plain
            && (NAMES.contains(&name.as_str())
                || casts_arguments(name)
                || typed::is_planned(name)
                || functions::planned::is_planned(name))
    }) else {
        return;
    };
    let mut values = vec![place_holder()];
    values.extend(arguments_mut(function).into_iter().map(take));
    *expr = marked(&name, values);
}

fn named_struct(values: Vec<Expr>) -> Expr {
    let mut args = Vec::with_capacity(values.len() * 2);
    for (i, value) in values.into_iter().enumerate() {
        let (name, value) = match value {
            Expr::Named { expr, name } => (name.value, *expr),
            Expr::Identifier(name) => (name.value.clone(), Expr::Identifier(name)),
            Expr::CompoundIdentifier(parts) => {
                (parts.last().map(|part| part.value.clone()).unwrap_or_default(), Expr::CompoundIdentifier(parts))
            }
            other => (format!("col{}", i + 1), other),
        };
        args.extend([text(&name), value]);
    }
    call("named_struct", args)
}

/// A number with the type that it has in Spark.
fn marked_number(digits: &str) -> Expr {
    match digits.parse::<i32>() {
        Ok(_) => marked(INT, vec![number(digits)]),
        Err(_) => marked(typed::NUMBER, vec![text(digits)]),
    }
}

/// A CASE whose branches get one type; `CASE x WHEN a` compares as `x = a` does.
fn case(operand: Option<Box<Expr>>, conditions: Vec<CaseWhen>, otherwise: Option<Box<Expr>>) -> Expr {
    let mut values = vec![place_holder()];
    for CaseWhen { condition, result } in conditions {
        values.push(match &operand {
            Some(operand) => binary(operand.as_ref().clone(), BinaryOperator::Eq, condition),
            None => condition,
        });
        values.push(result);
    }
    values.extend(otherwise.map(|value| *value));
    marked(typed::CASE, values)
}

fn has_tuples(value: &Expr, list: &[Expr]) -> bool {
    std::iter::once(value).chain(list).any(|expr| matches!(expr, Expr::Tuple(_)))
}

/// Whether an aggregate is changed where its argument's type is known.
fn is_aggregate(function: &Function) -> bool {
    name_of(function)
        .is_some_and(|name| is_changed(&name) && (!matches!(name.as_str(), "count") || is_distinct(function)))
}

/// Takes away a function's IGNORE NULLS, and says whether there was one.
fn ignores_nulls(function: &mut Function) -> bool {
    let mut treatment = function.null_treatment;
    if let FunctionArguments::List(list) = &mut function.args {
        list.clauses.retain(|clause| match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(of_arguments) => {
                treatment = Some(*of_arguments);
                false
            }
            _ => true,
        });
    }
    if treatment != Some(NullTreatment::IgnoreNulls) {
        return false;
    }
    function.null_treatment = None;
    true
}
