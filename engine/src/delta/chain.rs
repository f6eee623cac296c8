//! Histories that get several rows of one key in one delivery: each that changes something becomes a row, valid until the next one begins.
//!
//! Of a key's rows, in the order of `valid_from` and then of the history's order, those count that are not older than the table's current row, that are
//! the last of their moment, and that differ from the one before them (the first: from the table's). They are chained: the first closes the table's row
//! or replaces it, the others are inserted, and only the last is current. Without a `valid_from` all are of the delivery's moment, so each begins a
//! microsecond after the one before it.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    functions_window::expr_fn::{lag, lead, row_number},
    logical_expr::{
        BinaryExpr, Cast, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, Operator, SortExpr, ident, lit, when,
    },
};

use super::{
    actions::{ACTION_COLUMN, Action, BEFORE},
    clauses::{ClauseMerge, IS_CURRENT, SOURCE, TARGET, VALID_FROM, VALID_TO, of},
};
use crate::{error::Result, names::our_column};

/// Names of the plan's own columns.
const RANK: &str = our_column!("rank");
const FROM: &str = our_column!("from");
const IS_NEW: &str = our_column!("is_new");
const ORDER: &str = our_column!("order");
const NEXT: &str = our_column!("next_");
const POSITION: &str = our_column!("position_");
/// What is true of a row that still counts.
const COUNTS: &str = our_column!("counts_");
/// A column of the source, of the row before it, by its index.
const VALUE: &str = our_column!("value_");
const PREVIOUS: &str = our_column!("previous_");

fn name(prefix: &str, index: usize) -> String {
    format!("{prefix}{index}")
}

fn differ(one: Expr, other: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(one), Operator::IsDistinctFrom, Box::new(other)))
}

impl ClauseMerge<'_> {
    /// Numbers the source's rows of each key, where they have no moments of their own.
    pub(super) fn ranked(&self, source: LogicalPlanBuilder, order: &str, greatest: bool) -> Result<LogicalPlanBuilder> {
        let keys = self.keys.iter().map(|key| of(SOURCE, key)).collect();
        let ties = self.ties().map(|index| of(SOURCE, self.incoming.field(index).name()).sort(true, true));
        let sort = [of(SOURCE, order).sort(greatest, true)].into_iter().chain(ties).collect::<Vec<SortExpr>>();
        let rank = row_number().partition_by(keys).order_by(sort).build()?;
        Ok(source.window(vec![rank.alias(RANK)])?)
    }

    /// The moment of a row that has none: the delivery's, and so many microseconds.
    pub(super) fn ranked_moment(at: i64) -> Expr {
        let rank = Expr::Cast(Cast::new(Box::new(ident(RANK)), DataType::Int64));
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Expr::Cast(Cast::new(Box::new(lit(at) + rank - lit(1_i64)), moment))
    }

    /// Columns that put rows in an order when nothing else does, so that it is the same each time.
    fn ties(&self) -> impl Iterator<Item = usize> {
        let fields = self.incoming.fields().iter().enumerate();
        fields
            .filter(|(_, field)| !field.data_type().is_nested())
            .map(|(index, _)| index)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The rows of source and table, joined, with what becomes of each.
    pub(super) fn chained(&self, joined: LogicalPlanBuilder, order: &str, greatest: bool) -> Result<LogicalPlan> {
        let values = self.incoming.fields();
        let before = self.columns.fields().iter().map(|field| format!("{BEFORE}{}", field.name())).collect::<Vec<_>>();
        let from = self.valid_from()?;
        let mut columns: Vec<Expr> =
            values.iter().enumerate().map(|(at, field)| of(SOURCE, field.name()).alias(name(VALUE, at))).collect();
        columns.extend(self.columns.fields().iter().zip(&before).map(|(field, to)| of(TARGET, field.name()).alias(to)));
        let is_new = !self.is_in(TARGET)?;
        let known = of(TARGET, VALID_FROM);
        let not_older = is_new.clone().or(known.clone().is_null()).or(from.clone().gt_eq(known));
        columns.push(from.alias(FROM));
        columns.push(is_new.alias(IS_NEW));
        columns.push(of(SOURCE, order).alias(ORDER));
        columns.push(not_older.is_true().alias(name(COUNTS, 0)));
        let mut plan = joined.project(columns)?;

        let keys = self.keys.iter().filter_map(|key| self.incoming.index_of(key).ok()).map(|at| ident(name(VALUE, at)));
        let keys: Vec<Expr> = keys.collect();
        let ties = self.ties().map(|at| ident(name(VALUE, at)).sort(true, true));
        let sort: Vec<SortExpr> =
            [ident(FROM).sort(true, true), ident(ORDER).sort(greatest, true)].into_iter().chain(ties).collect();
        // Over the rows of a key that count so far. Each step has names of its own: what has the same name in two of them is taken for the same.
        let over = |function: Expr, step: usize| {
            let groups = keys.iter().cloned().chain([ident(name(COUNTS, step))]).collect();
            function.partition_by(groups).order_by(sort.clone()).build()
        };
        // All columns that are there, and whether the row still counts.
        let narrowed = |plan: LogicalPlanBuilder, counts: Expr, step: usize| {
            let there = plan.schema().columns().into_iter().map(Expr::Column);
            let there: Vec<Expr> = there.chain([counts.alias(name(COUNTS, step))]).collect();
            plan.project(there)
        };

        // Of several rows of one moment the last.
        let next = over(lead(ident(FROM), Some(1), None), 0)?;
        plan = plan.window(vec![next.alias(name(NEXT, 0))])?;
        let is_last = differ(ident(name(NEXT, 0)), ident(FROM));
        plan = narrowed(plan, ident(name(COUNTS, 0)).and(is_last), 1)?;

        // Those that differ from the one before.
        let compared: Vec<usize> = (0..values.len()).filter(|at| !self.keys.contains(values[*at].name())).collect();
        let mut windows = vec![over(row_number(), 1)?.alias(name(POSITION, 1))];
        for at in &compared {
            windows.push(over(lag(ident(name(VALUE, *at)), Some(1), None), 1)?.alias(name(PREVIOUS, *at)));
        }
        plan = plan.window(windows)?;
        let any = |differing: Vec<Expr>| differing.into_iter().reduce(Expr::or).unwrap_or(lit(false));
        let of_table = compared.iter().map(|at| {
            let before = format!("{BEFORE}{}", values[*at].name());
            differ(ident(name(VALUE, *at)), ident(before))
        });
        let of_previous = compared.iter().map(|at| differ(ident(name(VALUE, *at)), ident(name(PREVIOUS, *at))));
        let is_first = ident(name(POSITION, 1)).eq(lit(1_u64));
        let changed =
            when(is_first, ident(IS_NEW).or(any(of_table.collect()))).otherwise(any(of_previous.collect()))?;
        plan = narrowed(plan, ident(name(COUNTS, 1)).and(changed.is_true()), 2)?;

        let next = over(lead(ident(FROM), Some(1), None), 2)?.alias(name(NEXT, 2));
        plan = plan.window(vec![next, over(row_number(), 2)?.alias(name(POSITION, 2))])?;
        let (counts, next, position) = (name(COUNTS, 2), name(NEXT, 2), name(POSITION, 2));
        let mut columns = Vec::new();
        for field in self.columns.fields() {
            let value = match (field.name().as_str(), self.incoming.index_of(field.name())) {
                (VALID_FROM, _) => ident(FROM),
                (VALID_TO, _) => ident(&next),
                (IS_CURRENT, _) => ident(&next).is_null(),
                (_, Ok(at)) => ident(name(VALUE, at)),
                (other, Err(_)) => ident(format!("{BEFORE}{other}")),
            };
            columns.push(value.alias(field.name()));
        }
        let code = |action: Action| lit(action as i8);
        let known = ident(format!("{BEFORE}{VALID_FROM}"));
        let action = when(!ident(counts), code(Action::Keep))
            .when(ident(position).gt(lit(1_u64)), code(Action::Insert))
            .when(ident(IS_NEW), code(Action::Insert))
            .when(ident(FROM).eq(known), code(Action::Update))
            .otherwise(code(Action::Close))?;
        columns.push(action.alias(ACTION_COLUMN));
        columns.extend(before.iter().map(ident));
        Ok(plan.project(columns)?.build()?)
    }
}
