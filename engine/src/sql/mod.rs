//! SQL as Spark speaks it, for what pipelines use.
//!
//! TABLE
mod arrays;
mod calls;
mod calls_time;
pub(crate) mod cast;
mod context;
mod dialect;
pub(crate) mod kernel;
mod names;
mod numbers;
mod operators;
mod output;
mod plan;
mod rewrite;
mod statement;
mod suggest;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod types;

use std::sync::Arc;

use datafusion::{
    logical_expr::{HigherOrderUDF, ScalarUDF},
    optimizer::AnalyzerRule,
};

pub use output::{cast_to, table_schema};
pub use plan::{plan_columns, plan_select};
pub use statement::{Statement, parse_select, tables_read};
pub use types::{list_of, parse_schema, parse_type, timestamp, type_name};

/// Trireme's own scalar functions; they replace others of the same name.
pub(crate) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = vec![cast::function(), arrays::array_field(), numbers::round()];
    functions.extend(text::functions());
    functions.extend(time::functions::functions());
    functions
}

/// Trireme's own higher-order functions.
pub(crate) fn higher_order_functions() -> Vec<Arc<HigherOrderUDF>> {
    arrays::higher_order_functions()
}

/// Gives casts Spark's meaning.
pub(crate) fn lenient_casts() -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(cast::rule::LenientCasts)
}
