//! Small pieces of syntax tree, and the marked calls that the planner's typed hook reads (see [`super::calls`]).

use datafusion::sql::sqlparser::{
    ast::{
        AccessExpr, BinaryOperator, CastKind, DataType as SqlType, DictionaryField, DuplicateTreatment, Expr, Function,
        FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName, Select,
        SelectFlavor, SelectItem, SetExpr, Spanned, Subscript, TableFactor, TableWithJoins, UnaryOperator, Value,
        ValueWithSpan, WildcardAdditionalOptions, helpers::attached_token::AttachedToken,
    },
    tokenizer::Span,
};

use super::{calls::INT, names, typed::NUMBER};

/// The value before a call's arguments: a call may have none, and the name must stand somewhere.
pub(super) fn place_holder() -> Expr {
    Expr::Value(ValueWithSpan { value: Value::Null, span: Span::empty() })
}

pub(super) fn marked(name: &str, values: Vec<Expr>) -> Expr {
    Expr::Dictionary(
        values.into_iter().map(|value| DictionaryField { key: Ident::new(name), value: Box::new(value) }).collect(),
    )
}

/// The digits of a marked integer.
pub(super) fn int_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Dictionary(fields) => match fields.as_slice() {
            [DictionaryField { key, value }] if key.value == INT => match value.as_ref() {
                Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => Some(digits),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// The digits of a marked number that is no integer, with its suffix.
pub(super) fn number_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Dictionary(fields) => match fields.as_slice() {
            [DictionaryField { key, value }] if key.value == NUMBER => match value.as_ref() {
                Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(digits), .. }) => Some(digits),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// Makes a marked number a plain one again.
pub(super) fn unmark(expr: &mut Expr) {
    if let Some(digits) = int_of(expr) {
        *expr = number(digits);
    } else if let Some(digits) = number_of(expr) {
        *expr = number(digits.trim_end_matches(|c: char| c.is_ascii_alphabetic()));
    }
}

pub(super) fn name_of(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [part] => part.as_ident().map(|name| name.value.to_ascii_lowercase()),
        _ => None,
    }
}

pub(super) fn rename(function: &mut Function, name: &str) {
    let span = function.name.span();
    function.name = ObjectName::from(vec![Ident::with_span(span, name)]);
}

pub(super) fn is_distinct(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

/// The plain arguments of a call.
pub(super) fn arguments_mut(function: &mut Function) -> Vec<&mut Expr> {
    let FunctionArguments::List(list) = &mut function.args else { return Vec::new() };
    list.args
        .iter_mut()
        .filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect()
}

pub(super) fn set_arguments(function: &mut Function, args: Vec<Expr>) {
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    }
}

pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(names::behind(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, place_holder())
}

pub(super) fn field(name: &Ident) -> AccessExpr {
    AccessExpr::Subscript(Subscript::Index { index: text(&name.value) })
}

pub(super) fn text(value: &str) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(value.to_string()), span: Span::empty() })
}

pub(super) fn number(digits: &str) -> Expr {
    Expr::Value(ValueWithSpan { value: Value::Number(digits.to_string(), false), span: Span::empty() })
}

pub(super) fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) }
}

pub(super) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

pub(super) fn cast(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// `SELECT * FROM ?`; the relation is to be put in.
pub(super) fn select_all() -> SetExpr {
    let nothing = TableFactor::Table {
        name: ObjectName::from(vec![Ident::new("")]),
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    };
    SetExpr::Select(Box::new(Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())],
        exclude: None,
        into: None,
        from: vec![TableWithJoins { relation: nothing, joins: vec![] }],
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }))
}
