//! SQL as Spark 3.5 speaks it (non-ANSI, its default), for what pipelines use.
//!
//! | Subject | What means the same as in Spark | Where it comes from |
//! |---|---|---|
//! | Names | case does not count, for columns, fields, tables, aliases and functions, in backticks too; results are named as written | `statement`, `context`, `operators` |
//! | Literals | both quotes, Spark's escapes, raw `r'…'`, `X'1F'`, `int` integers, `1.0` a decimal, `1D 1F 1L 1S 1Y 1BD`, `INTERVAL 1 day 2 hours`, `DATE '…'`, `TIMESTAMP '…'` | `quotes`, `typed`, `dialect` |
//! | Types | `string int long bigint double decimal(p,s) timestamp date array<…> struct<…> map<…>` …; `timestamp` is microseconds UTC | `types`, `context` |
//! | Casts | explicit and implicit: bad texts are NULL, integers wrap, floats saturate, times count seconds | `cast` |
//! | Operators | `/` gives a double, `%` and `DIV` by zero give NULL, `<=>`, `==`, `!`, `RLIKE`, `xs[0]` from 0, date ± days, comparisons of texts with numbers and times | `operators`, `comparisons`, `rewrite` |
//! | Types in common | of branches, lists, arrays, maps, `IN`, set operations, VALUES | `coercion`, `typed`, `set_operations` |
//! | Decimals | precision and scale of results, half up, NULL for what does not fit, also in sums and averages | `decimals`, `aggregates` |
//! | Floats | NaN equals NaN and is above all else, -0.0 is 0.0: in comparisons, keys, extremes, statistics | `floats`, `comparisons`, `nans` |
//! | Intervals | differences of dates and times, parts, order, arithmetic | `intervals` |
//! | Groups | `WITH ROLLUP`, `WITH CUBE`, `GROUPING SETS`, `grouping_id()` | `grouping` |
//! | Joins | keys of outer `USING`, `<=>` | `using`, `comparisons` |
//! | Fields | `a.b.c`, on lambda variables, on items (`xs[0].a`), on arrays of structs (`books.title` is an array), on maps | `operators`, `arrays`, `rewrite` |
//! | Functions | Spark 3.5's; `trireme sql --functions` (`proto/src/functions.tsv`) lists them with an example of each and what differs | `functions`, `text`, `time`, `numbers`, `arrays`; `calls`, `calls_time`; DataFusion, datafusion-spark |
//! | Conditions | `IF CASE coalesce nvl nvl2 ifnull nullif isnull isnotnull` | datafusion-spark, DataFusion |
//! | Aggregates | `count` (distinct, of several, too) `sum avg min max median percentile stddev variance corr collect_list collect_set max_by min_by first last any_value count_if bool_and bool_or approx_count_distinct percentile_approx mode skewness kurtosis` | DataFusion, datafusion-spark; `aggregates`, `percentiles`, `statistics` |
//! | Windows | as DataFusion; ranks are `int`; nulls first ascending, last descending; `IGNORE NULLS` | DataFusion; `known_values`, `rewrite` |
//!
//! Beyond Spark: `strict_cast(x AS type)`, a cast whose failure makes a record bad (`cast::strict`).
//!
//! Known differences: `percentile_approx` is exact for up to a million values, and closer than Spark's beyond; regular expressions are those of the regex crate,
//! without look-around and back-references; intervals of days are 24 hours also where clocks are switched; `date ± interval` of a column is a
//! date, whatever the interval; FILTER and DISTINCT over a window are refused;
//! `TABLESAMPLE`, and the functions in `functions::refused`, are refused.
//!
//! How it works: a statement is parsed with Spark's grammar and checked to read only (`statement`), its tree is rewritten (`rewrite`), planned by
//! DataFusion with our hooks (`context`, `operators`, `calls`), and casts get Spark's meaning when the session analyzes the plan
//! (`cast::rule`). Functions travel to executors by name, so all of them come from one registry (see [`crate::session`]).
mod aggregates;
mod arrays;
mod calls;
mod calls_time;
pub(crate) mod cast;
mod checked_rules;
mod coercion;
mod comparisons;
mod context;
mod decimals;
mod dialect;
mod extremes;
mod floats;
mod frames;
mod functions;
mod grouping;
mod histograms;
mod implicit;
mod intervals;
pub(crate) mod kernel;
mod keys;
mod known_values;
mod likes;
mod median;
mod mended;
mod names;
mod nans;
mod natural;
mod numbers;
mod operators;
mod order_keys;
mod output;
mod percentiles;
mod plan;
mod quotes;
mod reads;
mod relations;
mod rewrite;
mod set_operations;
mod single;
mod statement;
mod statistics;
mod subqueries;
mod suggest;
mod syntax;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod typed;
mod types;
mod using;
mod views;
mod window_keys;

use std::sync::Arc;

use datafusion::{
    config::ConfigOptions,
    logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF},
    optimizer::{AnalyzerRule, OptimizerRule},
};

use crate::error::Result;

pub use cast::{StrictCast, take_strict_casts};
pub(crate) use checked_rules::with_checks;
pub(crate) use frames::{Frames, in_frames};
pub use median::Medians;
pub(crate) use nans::with_nans;
pub use output::{cast_to, table_schema};
pub use plan::{plan_columns, plan_predicate, plan_select, result_schema};
pub use reads::tables_read;
pub use statement::{Statement, parse_select};
pub use types::{list_of, parse_schema, parse_type, timestamp, type_name};
pub use views::physical_plan;

/// Trireme's own scalar functions; they replace others of the same name.
pub(crate) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = vec![cast::function(), cast::strict_function(), arrays::array_field()];
    functions.extend(arrays::contains());
    functions.extend(numbers::functions());
    functions.extend(decimals::functions());
    functions.extend(floats::functions());
    functions.extend(intervals::functions());
    functions.extend([single::function(), relations::with_positions()]);
    functions.extend(text::functions());
    functions.extend(time::functions::functions());
    functions.extend(functions::scalar_functions());
    functions
}

/// Trireme's own aggregate functions.
pub(crate) fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let mut functions = vec![median::function(), histograms::function()];
    functions.extend(extremes::functions());
    functions.extend(percentiles::functions());
    functions.extend(statistics::functions());
    functions
}

/// Trireme's own window functions.
pub(crate) fn window_functions() -> Vec<Arc<WindowUDF>> {
    known_values::functions()
}

/// Trireme's own higher-order functions.
pub(crate) fn higher_order_functions() -> Vec<Arc<HigherOrderUDF>> {
    let mut functions = arrays::higher_order_functions();
    functions.extend(functions::higher_order_functions());
    functions
}

/// An error if the session's time zone is none.
pub(crate) fn check_time_zone(config: &ConfigOptions) -> Result<()> {
    time::zone::Zone::of_session(config).map(|_| ())
}

/// Gives floats that are keys Spark's meaning.
pub(crate) fn float_keys() -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(floats::FloatKeys)
}

/// Optimizer rules that come after DataFusion's.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![Arc::new(window_keys::WindowKeys), Arc::new(keys::JoinKeys), Arc::new(keys::LambdaKeys)]
}

/// Gives casts Spark's meaning.
pub(crate) fn lenient_casts() -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(cast::rule::LenientCasts)
}
