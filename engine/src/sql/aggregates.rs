//! Aggregates as Spark computes them: sums and averages of decimals, smallest and largest of floats and structs.
//!
//! [`super::rewrite`] marks the calls, and what is planned of them is changed here, where types are known.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result, ScalarValue},
    functions_aggregate::{average::avg_udaf, count::count_udaf, sum::sum_udaf},
    logical_expr::{AggregateUDF, Expr, WindowFunctionDefinition, cast, lit, when},
};

use super::{
    calls::{Call, is_text},
    coercion::DIGITS,
    extremes,
    floats::normal,
    intervals::is_interval,
};

/// The marker of an aggregate.
pub(super) const AGGREGATE: &str = " aggregate";

/// Functions that are changed here. Those of the second kind take doubles.
const CHANGED: [&str; 11] = [
    "approx_percentile",
    "avg",
    "collect_set",
    "count",
    "max",
    "mean",
    "min",
    "percentile_approx",
    "sum",
    "try_avg",
    "try_sum",
];
const OF_DOUBLES: [&str; 24] = [
    "corr",
    "covar_pop",
    "covar_samp",
    "kurtosis",
    "median",
    "percentile",
    "percentile_disc",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "skewness",
    "std",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var_pop",
    "var_samp",
    "variance",
];

/// Whether a call is to be marked.
pub(super) fn is_changed(name: &str) -> bool {
    CHANGED.contains(&name) || OF_DOUBLES.contains(&name)
}

/// The function and the arguments of an aggregate, also over a window.
fn parts(expr: &mut Expr) -> Option<(&mut Arc<AggregateUDF>, &mut Vec<Expr>, bool)> {
    match expr {
        Expr::AggregateFunction(call) => Some((&mut call.func, &mut call.params.args, call.params.distinct)),
        Expr::WindowFunction(call) => match &mut call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => {
                Some((function, &mut call.params.args, call.params.distinct))
            }
            WindowFunctionDefinition::WindowUDF(_) => None,
        },
        _ => None,
    }
}

/// The same call of another function with another argument.
fn with(expr: &Expr, function: Arc<AggregateUDF>, argument: Expr) -> Expr {
    let mut expr = expr.clone();
    if let Some((called, args, _)) = parts(&mut expr) {
        *called = function;
        *args = vec![argument];
    }
    expr
}

fn null_of(data_type: &DataType) -> Result<Expr> {
    Ok(lit(ScalarValue::try_from(data_type)?))
}

impl Call<'_> {
    pub(super) fn aggregate(&self, planned: &Expr) -> Result<Expr> {
        // What is called by another of its names has that one as an alias.
        if let Expr::Alias(alias) = planned {
            return Ok(self.aggregate(&alias.expr)?.alias(alias.name.clone()));
        }
        let mut expr = planned.clone();
        let Some((function, args, distinct)) = parts(&mut expr) else { return Ok(expr) };
        let name = function.name().to_string();
        if let Some(first) = args.first().cloned()
            && is_interval(&self.type_of(&first)?)
            && matches!(
                name.as_str(),
                "sum"
                    | "try_sum"
                    | "avg"
                    | "try_avg"
                    | "median"
                    | "percentile"
                    | "percentile_disc"
                    | "percentile_approx"
            )
        {
            return self.of_intervals(&expr, &first, &name);
        }
        if OF_DOUBLES.contains(&name.as_str()) {
            for arg in args {
                let data_type = self.type_of(arg)?;
                let becomes_double = is_text(&data_type) || data_type.is_decimal() || data_type.is_null();
                if becomes_double || (name == "median" && data_type != DataType::Float64) {
                    *arg = self.cast(arg, &DataType::Float64)?;
                }
            }
            return Ok(expr);
        }
        let argument = match args.as_slice() {
            [argument] => argument.clone(),
            _ => return Ok(expr),
        };
        let data_type = self.type_of(&argument)?;
        match name.as_str() {
            "min" | "max" if data_type.is_floating() => {
                let ordered = self.function("float_order", vec![argument])?;
                *args = vec![ordered];
                let found = expr;
                self.function("float_of_order", vec![found])
            }
            "min" | "max" if matches!(data_type, DataType::Struct(_) | DataType::List(_)) => {
                Ok(with(&expr, extremes::function(name == "max"), argument))
            }
            "sum" | "try_sum" => self.sum(&expr, argument, &data_type, name == "try_sum"),
            "avg" | "try_avg" => self.average(&expr, argument, &data_type),
            "count" if data_type.is_floating() && distinct => {
                *args = vec![normal(argument)];
                Ok(expr)
            }
            // In order: a set's own order would be another one on other tasks.
            "collect_set" => {
                if data_type.is_floating() {
                    *args = vec![normal(argument)];
                }
                if data_type.is_nested() { Ok(expr) } else { self.function("sort_array", vec![expr]) }
            }
            _ => Ok(expr),
        }
    }

    /// Spark's intervals have months or microseconds: what is asked of them is asked of both.
    fn of_intervals(&self, call: &Expr, argument: &Expr, name: &str) -> Result<Expr> {
        let asked = |part: &str| -> Result<Expr> {
            let part = self.function(part, vec![argument.clone()])?;
            let mut call = call.clone();
            if let Some((function, args, _)) = parts(&mut call) {
                match name {
                    "try_sum" => *function = sum_udaf(),
                    "try_avg" => *function = avg_udaf(),
                    _ => {}
                }
                let is_double = !matches!(name, "sum" | "try_sum" | "percentile_approx");
                args[0] = if is_double { self.cast(&part, &DataType::Float64)? } else { part };
            }
            Ok(call)
        };
        // An average is rounded half up, a percentile is cut off. Where the sum does not fit, Spark's average is NULL or an error.
        let rounded = |part: &str| -> Result<Expr> {
            let value = asked(part)?;
            if !matches!(name, "avg" | "try_avg") {
                return Ok(value);
            }
            let most = if part == "interval_months" { f64::from(i32::MAX) } else { i64::MAX as f64 };
            let each = self.cast(&self.function(part, vec![argument.clone()])?, &DataType::Float64)?;
            let sum = self.function("abs", vec![with(call, sum_udaf(), each)])?;
            when(sum.lt_eq(lit(most)), self.function("round", vec![value])?).end()
        };
        self.function("interval_of", vec![rounded("interval_months")?, rounded("interval_micros")?])
    }

    /// A sum that does not fit its type is NULL; Arrow's would wrap.
    fn sum(&self, call: &Expr, argument: Expr, data_type: &DataType, checked: bool) -> Result<Expr> {
        match data_type {
            DataType::Decimal128(precision, scale) => {
                let to = DataType::Decimal128((precision + 10).min(DIGITS), *scale);
                if precision + 10 <= DIGITS {
                    return Ok(with(call, sum_udaf(), argument));
                }
                let wide = cast(argument, DataType::Decimal256(DIGITS, *scale));
                self.function("fit_decimal", vec![with(call, sum_udaf(), wide), null_of(&to)?])
            }
            integer if integer.is_integer() && checked => {
                let wide = self.cast(&argument, &DataType::Decimal128(20, 0))?;
                self.function("fit_decimal", vec![with(call, sum_udaf(), wide), null_of(&DataType::Int64)?])
            }
            other if is_text(other) || other.is_null() => {
                Ok(with(call, sum_udaf(), self.cast(&argument, &DataType::Float64)?))
            }
            _ => Ok(with(call, sum_udaf(), argument)),
        }
    }

    /// The average of decimals has four digits more, and is rounded half up; Arrow's is cut off.
    fn average(&self, call: &Expr, argument: Expr, data_type: &DataType) -> Result<Expr> {
        if !matches!(data_type, DataType::Decimal128(..)) {
            return Ok(with(call, avg_udaf(), self.cast(&argument, &DataType::Float64)?));
        }
        let count = with(call, count_udaf(), argument.clone());
        let sum = self.sum(call, argument, data_type, false)?;
        self.function("decimal_average", vec![sum, count, null_of(data_type)?])
    }
}
