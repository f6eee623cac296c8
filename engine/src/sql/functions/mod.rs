//! Spark's functions that no crate has, or that have another meaning there: each is a [`Kernel`](super::kernel::Kernel) under Spark's name.
mod args;
mod arrays;
mod bits;
mod csv;
mod dates;
mod hash;
mod json;
mod keys;
mod lambdas;
mod maps;
mod masks;
mod misc;
mod moments;
mod number_format;
mod numbers;
pub(super) mod planned;
pub(super) mod refused;
pub(super) mod regex;
pub(super) mod selects;
mod sequence;
mod sorting;
mod texts;
mod texts_binary;

use std::sync::Arc;

use datafusion::logical_expr::{HigherOrderUDF, ScalarUDF};

/// The scalar functions of this module.
pub(super) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = Vec::new();
    functions.extend(arrays::functions());
    functions.extend(bits::functions());
    functions.extend(csv::functions());
    functions.extend(dates::functions());
    functions.extend(hash::functions());
    functions.extend(json::functions());
    functions.extend(maps::functions());
    functions.extend(masks::functions());
    functions.extend(misc::functions());
    functions.extend(moments::functions());
    functions.extend(number_format::functions());
    functions.extend(numbers::functions());
    functions.extend(regex::functions());
    functions.extend(sequence::functions());
    functions.extend(texts::functions());
    functions.extend(texts_binary::functions());
    functions
}

/// The higher-order functions of this module.
pub(super) fn higher_order_functions() -> Vec<Arc<HigherOrderUDF>> {
    lambdas::functions()
}

/// Names of functions that exist although no registry has them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    planned::names().chain(["json_tuple", "monotonically_increasing_id", "timestampadd", "try_divide", "trim"])
}
