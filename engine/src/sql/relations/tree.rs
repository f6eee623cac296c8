//! The syntax tree's part: what needs no types, and questions about what does.

use std::{collections::HashSet, ops::ControlFlow};

use datafusion::sql::sqlparser::{
    ast::{
        BinaryOperator, Expr, ExprWithAlias, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join,
        JoinConstraint, JoinOperator, ObjectName, OrderByExpr, OrderByKind, OrderByOptions, PivotValueSource, Query,
        Select, SelectFlavor, SelectItem, SetExpr, SetOperator, Spanned, TableAlias, TableAliasColumnDef, TableFactor,
        TableWithJoins, Value, ValueWithSpan, Values, VisitMut, VisitorMut, WildcardAdditionalOptions,
    },
    tokenizer::Span,
};

use super::{ASK, Answers, GENERATE, TUPLE, aliases, generators::is_generator, planner::Mark};
use crate::{
    error::{Code, Error, Result},
    sql::{
        statement::wildcard_of,
        syntax::{binary, call, marked, name_of, not, number, place_holder, text},
    },
};

pub(super) fn shape<T: VisitMut>(tree: &mut T, answers: &Answers, place: &dyn Fn(Span) -> String) -> Result<()> {
    let mut names = Names::default();
    // Nothing breaks off.
    let _ = tree.visit(&mut names);
    match tree.visit(&mut Shaper { answers, place, relations: names.0, in_values: false }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Names of relations, wherever they stand.
#[derive(Default)]
struct Names(HashSet<String>);

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let (name, alias) = match factor {
            TableFactor::Table { name, alias, .. } => (Some(name), alias),
            TableFactor::Derived { alias, .. }
            | TableFactor::NestedJoin { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::Pivot { alias, .. }
            | TableFactor::Unpivot { alias, .. } => (None, alias),
            _ => return ControlFlow::Continue(()),
        };
        self.0.extend(alias.iter().map(|alias| alias.name.value.to_ascii_lowercase()));
        let last = name.and_then(|name| name.0.last().and_then(|part| part.as_ident().cloned()));
        self.0.extend(last.map(|name| name.value.to_ascii_lowercase()));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let views = select.lateral_views.iter().filter_map(|view| view.lateral_view_name.0.last());
        self.0.extend(views.filter_map(|part| part.as_ident()).map(|name| name.value.to_ascii_lowercase()));
        ControlFlow::Continue(())
    }
}

struct Shaper<'a> {
    answers: &'a Answers,
    place: &'a dyn Fn(Span) -> String,
    relations: HashSet<String>,
    /// The query that comes next is `(VALUES …)` after FROM.
    in_values: bool,
}

impl VisitorMut for Shaper<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if !std::mem::take(&mut self.in_values) {
            name_values(&mut query.body);
        }
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        // Rows are distributed anyway; a whole order is an order within partitions, too.
        select.distribute_by.clear();
        let mut order = std::mem::take(&mut select.sort_by);
        let plain = OrderByOptions { asc: None, nulls_first: None };
        let clusters = std::mem::take(&mut select.cluster_by).into_iter();
        order.extend(clusters.map(|expr| OrderByExpr { expr, options: plain, with_fill: None }));
        if !order.is_empty() && query.order_by.is_none() {
            query.order_by = Some(datafusion::sql::sqlparser::ast::OrderBy {
                kind: OrderByKind::Expressions(order),
                interpolate: None,
            });
        }
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::All(options) = &order_by.kind
        {
            let options = *options;
            let counted = !select.projection.iter().any(|item| {
                !matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
                    || generator_of(item).is_some()
            });
            if counted {
                let positions = 1..=select.projection.len();
                order_by.kind = OrderByKind::Expressions(
                    positions.map(|i| OrderByExpr { expr: number(&i.to_string()), options, with_fill: None }).collect(),
                );
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for join in select.from.iter_mut().flat_map(|item| &mut item.joins) {
            name_sides(join);
        }
        match self.select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::Derived { subquery, alias, .. } => {
                let SetExpr::Values(values) = subquery.body.as_ref() else { return ControlFlow::Continue(()) };
                let width = values.rows.first().map_or(0, |row| row.content.len());
                let plain = subquery.order_by.is_none() && subquery.limit_clause.is_none() && subquery.with.is_none();
                let columns = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
                self.in_values = plain;
                if plain && !columns {
                    let name = alias.take().map_or_else(|| Ident::new("__values"), |alias| alias.name);
                    *alias = Some(numbered(name, width));
                }
            }
            // With several aggregates a column is called after its value and its aggregate.
            TableFactor::Pivot { aggregate_functions, default_on_null: None, .. } if aggregate_functions.len() > 1 => {
                for aggregate in aggregate_functions.iter_mut().filter(|aggregate| aggregate.alias.is_none()) {
                    let name = aggregate.expr.to_string().replace("(*)", "(1)");
                    aggregate.alias = Some(quoted(&name));
                }
            }
            TableFactor::NestedJoin { table_with_joins, .. } => table_with_joins.joins.iter_mut().for_each(name_sides),
            TableFactor::Table { name, args: Some(args), alias, .. }
                if name.to_string().eq_ignore_ascii_case("range") =>
            {
                // The fourth is a number of partitions.
                args.args.truncate(3);
                let named = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
                if !named {
                    let name = alias.take().map_or_else(|| Ident::new("range"), |alias| alias.name);
                    *alias = Some(table_alias(name, vec![Ident::new("id")]));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::InSubquery { expr: value, subquery, .. } => compare_tuple(value, subquery),
            Expr::InList { expr: value, list, negated } => {
                if let Some(found) = compare_tuples(value, list) {
                    *expr = if *negated { not(found) } else { nested(found) };
                }
            }
            Expr::Function(function) => {
                let name = name_of(function).unwrap_or_default();
                if is_generator(&name) {
                    let place = (self.place)(function.name.span());
                    return ControlFlow::Break(
                        Error::new(Code::InvalidSql, format!("{place}`{name}` can't stand within an expression"))
                            .hint("it makes rows: use it by itself after SELECT or in a LATERAL VIEW"),
                    );
                }
                if name != "count"
                    && let Some(asked) = self.spread(function, &name)
                {
                    *expr = asked;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Shaper<'_> {
    fn select(&self, select: &mut Select) -> Result<()> {
        if select.flavor == SelectFlavor::FromFirstNoSelect {
            return Err(Error::new(Code::InvalidSql, format!("{}FROM without SELECT", (self.place)(select.span())))
                .hint("write SELECT * FROM …"));
        }
        select.flavor = SelectFlavor::Standard;
        self.lateral(select)?;
        aliases::mark(select)?;
        let mut generators = 0;
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            if let Some((name, args, aliases, span)) = generator_of(&item) {
                generators += 1;
                if generators > 1 {
                    return Err(Error::new(
                        Code::InvalidSql,
                        format!("{}a SELECT can have one generator, and `{name}` is the second", (self.place)(span)),
                    )
                    .hint("use LATERAL VIEW, once for each"));
                }
                items.extend(self.generated(&name, args, aliases, span)?);
            } else {
                match self.fields(&item) {
                    Some(fields) => items.extend(fields),
                    None => items.push(item),
                }
            }
        }
        if let Some(SelectItem::ExprWithAliases { expr, .. }) =
            items.iter().find(|item| matches!(item, SelectItem::ExprWithAliases { .. }))
        {
            return Err(Error::new(
                Code::InvalidSql,
                format!("{}several aliases, but `{expr}` is one column", (self.place)(expr.span())),
            )
            .hint("give it one alias"));
        }
        select.projection = items;
        Ok(())
    }

    /// `LATERAL VIEW`, and generators after FROM.
    fn lateral(&self, select: &mut Select) -> Result<()> {
        let generates = |factor: &TableFactor| from_generator(factor).is_some();
        let any = select
            .from
            .iter()
            .any(|item| generates(&item.relation) || item.joins.iter().any(|join| generates(&join.relation)));
        if !any && select.lateral_views.is_empty() {
            return Ok(());
        }
        let mut so_far: Option<TableFactor> = None;
        for item in std::mem::take(&mut select.from) {
            let mut before = so_far.take();
            let mut current = match from_generator(&item.relation) {
                Some(mut mark) => {
                    mark.alone = before.is_none();
                    carrier(before.take(), mark)
                }
                None => item.relation,
            };
            let mut joins: Vec<Join> = Vec::new();
            for join in item.joins {
                let Some(mut mark) = from_generator(&join.relation) else {
                    joins.push(join);
                    continue;
                };
                if let Some(condition) = self.join_generator(join, &mut mark)? {
                    select.selection = Some(match select.selection.take() {
                        Some(selection) => binary(nested(selection), BinaryOperator::And, nested(condition)),
                        None => condition,
                    });
                }
                let all = joined(before.take(), current, std::mem::take(&mut joins));
                current = carrier(Some(all), mark);
            }
            so_far = Some(joined(before, current, joins));
        }
        for view in std::mem::take(&mut select.lateral_views) {
            let Expr::Function(function) = &view.lateral_view else {
                return Err(self.no_generator(&view.lateral_view));
            };
            let name = name_of(function).unwrap_or_default();
            if !is_generator(&name) {
                return Err(self.no_generator(&view.lateral_view));
            }
            let mut columns = view.lateral_col_alias;
            let alias = view.lateral_view_name.0.first().and_then(|part| part.as_ident().cloned());
            // `LATERAL VIEW explode(xs) AS x` has no name before AS.
            let alias = match alias {
                Some(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("as") => {
                    Ident::new("__view")
                }
                Some(name) => name,
                None => Ident::new("__view"),
            };
            let alias = table_alias(alias, std::mem::take(&mut columns));
            let mark = Mark {
                name,
                args: plain_args(function),
                outer: view.outer,
                alone: so_far.is_none(),
                alias: Some(alias),
            };
            so_far = Some(carrier(so_far.take(), mark));
        }
        select.from = so_far.into_iter().map(|relation| TableWithJoins { relation, joins: Vec::new() }).collect();
        Ok(())
    }

    /// How a generator is joined, and the condition that then filters its rows.
    fn join_generator(&self, join: Join, mark: &mut Mark) -> Result<Option<Expr>> {
        let refuse = |what: &str| {
            let place = (self.place)(join.relation.span());
            Err(Error::new(Code::InvalidSql, format!("{place}a generator {what}"))
                .hint("write JOIN … ON true, or LATERAL VIEW"))
        };
        let constraint = match join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) | JoinOperator::CrossJoin(constraint) => {
                constraint
            }
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                mark.outer = true;
                constraint
            }
            _ => return refuse("can be joined by JOIN and LEFT JOIN only"),
        };
        match constraint {
            JoinConstraint::None => Ok(None),
            JoinConstraint::On(Expr::Value(ValueWithSpan { value: Value::Boolean(true), .. })) => Ok(None),
            JoinConstraint::On(condition) if !mark.outer => Ok(Some(condition)),
            _ => refuse("can't be joined by this condition"),
        }
    }

    fn no_generator(&self, expr: &Expr) -> Error {
        Error::new(Code::InvalidSql, format!("{}`{expr}` makes no rows", (self.place)(expr.span())))
            .hint("a LATERAL VIEW takes explode, posexplode, inline, stack, json_tuple and their _outer forms")
    }

    /// The columns that a generator after SELECT makes.
    fn generated(&self, name: &str, args: Vec<Expr>, aliases: Vec<Ident>, span: Span) -> Result<Vec<SelectItem>> {
        let item = item_place(span);
        let Some(columns) = self.answers.get(&item) else { return Ok(vec![asked(&item, name, args)]) };
        if !aliases.is_empty() && aliases.len() != columns.len() {
            return Err(Error::new(
                Code::InvalidSql,
                format!("{}`{name}` gives {} columns here, not {}", (self.place)(span), columns.len(), aliases.len()),
            )
            .hint("give each one an alias: AS (a, b)"));
        }
        let items = columns.iter().enumerate().map(|(i, column)| {
            let mut values = vec![place_holder(), text(name), number(&i.to_string())];
            values.extend(args.iter().cloned());
            let alias = aliases.get(i).cloned().unwrap_or_else(|| quoted(&column.to_ascii_lowercase()));
            SelectItem::ExprWithAlias { expr: marked(GENERATE, values), alias }
        });
        Ok(items.collect())
    }

    /// The fields that `struct.*` stands for; none if the item is something else.
    fn fields(&self, item: &SelectItem) -> Option<Vec<SelectItem>> {
        let SelectItem::QualifiedWildcard(_, options) = item else { return None };
        let parts = self.struct_of(wildcard_of(item)?)?;
        let place = item_place(parts.first()?.span);
        let Some(columns) = self.answers.get(&place) else {
            return Some(vec![asked(&place, ".*", vec![name_expr(parts)])]);
        };
        let left_out = except(options);
        let columns = columns.into_iter().filter(|column| !left_out.contains(&column.to_ascii_lowercase()));
        Some(
            columns
                .map(|column| {
                    let mut parts = parts.clone();
                    parts.push(quoted(&column));
                    let alias = quoted(&column.to_ascii_lowercase());
                    SelectItem::ExprWithAlias { expr: Expr::CompoundIdentifier(parts), alias }
                })
                .collect(),
        )
    }

    /// The name before `.*` unless it is a relation's.
    fn struct_of(&self, name: &ObjectName) -> Option<Vec<Ident>> {
        let parts: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
        let known =
            |i: usize| parts.get(i).is_some_and(|part| self.relations.contains(&part.value.to_ascii_lowercase()));
        let is_relation = match parts.len() {
            1 => known(0),
            // `schema.table.*`, not `table.struct.*`.
            2 => known(1) && !known(0),
            _ => false,
        };
        (!is_relation && !parts.is_empty()).then_some(parts)
    }

    /// `struct(s.*)` and `struct(*)` with the columns written out, or the question what they are.
    fn spread(&self, function: &mut Function, name: &str) -> Option<Expr> {
        let span = function.name.span();
        let FunctionArguments::List(list) = &mut function.args else { return None };
        let mut args = Vec::with_capacity(list.args.len());
        let mut spread = false;
        for (i, arg) in list.args.iter().enumerate() {
            let (place, about, relation) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => (format!("{}#{i}", item_place(span)), None, None),
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
                    let place = format!("{}#{i}", item_place(span));
                    match self.struct_of(name) {
                        Some(parts) => (place, Some(parts), None),
                        None => (place, None, name.0.last().and_then(|part| part.as_ident().cloned())),
                    }
                }
                other => {
                    args.push(other.clone());
                    continue;
                }
            };
            spread = true;
            let Some(columns) = self.answers.get(&place) else {
                let (kind, about) = match about {
                    Some(parts) => (".*", vec![name_expr(parts)]),
                    None => ("*", Vec::new()),
                };
                let mut values = vec![text(&place), text(kind)];
                values.extend(about);
                return Some(marked(ASK, values));
            };
            for column in columns {
                let mut parts: Vec<Ident> = match &about {
                    Some(parts) => parts.clone(),
                    None => Vec::new(),
                };
                match (column.split_once('\u{0}'), &relation) {
                    (Some((of, _)), Some(relation)) if !of.eq_ignore_ascii_case(&relation.value) => continue,
                    (Some((of, column)), _) => parts.extend([quoted(of), quoted(column)]),
                    (None, _) => parts.push(quoted(&column)),
                }
                args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(name_expr(parts))));
            }
        }
        if spread {
            list.args = args;
            if name == "struct" {
                let plain = std::mem::take(&mut list.args).into_iter().filter_map(|arg| match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                    _ => None,
                });
                return Some(Expr::Struct { values: plain.collect(), fields: Vec::new() });
            }
        }
        None
    }
}

/// The place of an item in the source, by which answers are found again.
fn item_place(span: Span) -> String {
    format!("{}:{}", span.start.line, span.start.column)
}

fn asked(item: &str, kind: &str, about: Vec<Expr>) -> SelectItem {
    let mut values = vec![text(item), text(kind)];
    values.extend(about);
    SelectItem::UnnamedExpr(marked(ASK, values))
}

/// A generator that is a whole item, with its arguments and aliases.
pub(in crate::sql) fn generator_of(item: &SelectItem) -> Option<(String, Vec<Expr>, Vec<Ident>, Span)> {
    let (expr, aliases) = match item {
        SelectItem::UnnamedExpr(expr) => (expr, Vec::new()),
        SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.clone()]),
        SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
        _ => return None,
    };
    let Expr::Function(function) = expr else { return None };
    let name = name_of(function).filter(|name| is_generator(name))?;
    Some((name, plain_args(function), aliases, function.name.span()))
}

/// The arguments of a call, also named ones, in their order.
fn plain_args(function: &Function) -> Vec<Expr> {
    match &function.args {
        FunctionArguments::List(list) => exprs_of(&list.args),
        _ => Vec::new(),
    }
}

fn exprs_of(args: &[FunctionArg]) -> Vec<Expr> {
    let args = args.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => Some(expr.clone()),
        _ => None,
    });
    args.collect()
}

/// A generator after FROM.
fn from_generator(factor: &TableFactor) -> Option<Mark> {
    let (name, args, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, &args.args, alias),
        TableFactor::Function { name, args, alias, .. } => (name, args, alias),
        _ => return None,
    };
    let [part] = name.0.as_slice() else { return None };
    let name = part.as_ident()?.value.to_ascii_lowercase();
    is_generator(&name).then(|| Mark { name, args: exprs_of(args), outer: false, alone: false, alias: alias.clone() })
}

/// The relation that a generator and what stands before it make; planned by types later, see [`super::planner`].
fn carrier(before: Option<TableFactor>, mark: Mark) -> TableFactor {
    let nothing = TableFactor::TableFunction { expr: place_holder(), alias: None };
    TableFactor::Pivot {
        table: Box::new(before.unwrap_or(nothing)),
        default_on_null: Some(text(&mark.text())),
        aggregate_functions: mark.args.into_iter().map(|expr| ExprWithAlias { expr, alias: None }).collect(),
        value_column: Vec::new(),
        value_source: PivotValueSource::List(Vec::new()),
        alias: mark.alias,
    }
}

/// Relations that are joined, the first two without a condition.
fn joined(before: Option<TableFactor>, relation: TableFactor, joins: Vec<Join>) -> TableFactor {
    let whole = |table: TableWithJoins| TableFactor::NestedJoin { table_with_joins: Box::new(table), alias: None };
    let own = if joins.is_empty() { relation } else { whole(TableWithJoins { relation, joins }) };
    let Some(before) = before else { return own };
    let cross = Join { relation: own, global: false, join_operator: JoinOperator::CrossJoin(JoinConstraint::None) };
    whole(TableWithJoins { relation: before, joins: vec![cross] })
}

/// `SEMI JOIN` and `ANTI JOIN` keep rows of the left side.
fn name_sides(join: &mut Join) {
    let operator = std::mem::replace(&mut join.join_operator, JoinOperator::CrossApply);
    join.join_operator = match operator {
        JoinOperator::Semi(constraint) => JoinOperator::LeftSemi(constraint),
        JoinOperator::Anti(constraint) => JoinOperator::LeftAnti(constraint),
        other => other,
    };
}

fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

/// `VALUES …` as a query of its own: a SELECT from them, which names the columns.
fn name_values(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, op, .. } => {
            if *op == SetOperator::Minus {
                *op = SetOperator::Except;
            }
            name_values(left);
            name_values(right);
        }
        SetExpr::Values(values) => {
            let width = values.rows.first().map_or(0, |row| row.content.len());
            let mut inner = query_of(Vec::new(), Vec::new());
            *inner.body = SetExpr::Values(std::mem::replace(
                values,
                Values { explicit_row: false, value_keyword: false, rows: Vec::new() },
            ));
            let alias = Some(numbered(Ident::new("__values"), width));
            let relation = TableFactor::Derived { lateral: false, subquery: Box::new(inner), alias, sample: None };
            let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
            let from = vec![TableWithJoins { relation, joins: Vec::new() }];
            *body = *query_of(vec![all], from).body;
        }
        _ => {}
    }
}

/// A name with columns `col1`, `col2` …
fn numbered(name: Ident, width: usize) -> TableAlias {
    table_alias(name, (1..=width).map(|i| Ident::new(format!("col{i}"))).collect())
}

fn table_alias(name: Ident, columns: Vec<Ident>) -> TableAlias {
    let columns = columns.into_iter().map(|name| TableAliasColumnDef { name, data_type: None }).collect();
    TableAlias { explicit: true, name, columns, at: None }
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('`', name)
}

fn name_expr(mut parts: Vec<Ident>) -> Expr {
    match parts.len() {
        1 => Expr::Identifier(parts.remove(0)),
        _ => Expr::CompoundIdentifier(parts),
    }
}

fn except(options: &WildcardAdditionalOptions) -> Vec<String> {
    let Some(except) = &options.opt_except else { return Vec::new() };
    let names = std::iter::once(&except.first_element).chain(&except.additional_elements);
    names.map(|name| name.value.to_ascii_lowercase()).collect()
}

/// `(a, b) IN ((1, 2), (3, 4))`: structs are the same where their fields are, NULLs included.
fn compare_tuples(value: &Expr, list: &[Expr]) -> Option<Expr> {
    let Expr::Tuple(values) = value else { return None };
    let mut any: Option<Expr> = None;
    for item in list {
        let Expr::Tuple(items) = item else { return None };
        if items.len() != values.len() {
            return None;
        }
        let same = values.iter().zip(items).map(|(value, item)| {
            let sides = (nested(value.clone()), nested(item.clone()));
            nested(binary(sides.0, BinaryOperator::Spaceship, sides.1))
        });
        let all = nested(same.reduce(|left, right| binary(left, BinaryOperator::And, right))?);
        any = Some(match any {
            Some(any) => binary(any, BinaryOperator::Or, all),
            None => all,
        });
    }
    any
}

/// `(a, b) IN (SELECT x, y …)`: structs on both sides, which the planner takes for one value; see [`TUPLE`].
fn compare_tuple(value: &mut Expr, subquery: &mut Box<Query>) {
    let Expr::Tuple(values) = value else { return };
    let names: Vec<Ident> = (1..=values.len()).map(|i| Ident::new(format!("{TUPLE}{i}"))).collect();
    let structs = |values: Vec<Expr>| {
        let named = names.iter().zip(values).flat_map(|(name, value)| [text(&name.value), value]);
        call("named_struct", named.collect())
    };
    let columns = names.iter().cloned().map(Expr::Identifier).collect();
    let item = SelectItem::ExprWithAlias { expr: structs(columns), alias: Ident::new(format!("{TUPLE}row")) };
    let inner = std::mem::replace(subquery, Box::new(empty_query()));
    let relation = TableFactor::Derived {
        lateral: false,
        subquery: inner,
        alias: Some(table_alias(Ident::new(format!("{TUPLE}rows")), names.clone())),
        sample: None,
    };
    let from = vec![TableWithJoins { relation, joins: Vec::new() }];
    **subquery = query_of(vec![item], from);
    let values = std::mem::take(values);
    *value = structs(values);
}

fn empty_query() -> Query {
    query_of(Vec::new(), Vec::new())
}

fn query_of(projection: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Query {
    use datafusion::sql::sqlparser::ast::{GroupByExpr, helpers::attached_token::AttachedToken};
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        window_before_qualify: false,
        qualify: None,
        value_table_mode: None,
        connect_by: vec![],
        flavor: SelectFlavor::Standard,
    };
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}
