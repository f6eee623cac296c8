//! Function names: Spark's, and what stands behind them.

/// Spark's name to DataFusion's, where only the name differs.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("aggregate", "array_fold"),
    ("any", "bool_or"),
    ("any_value", "first_value"),
    ("approx_percentile", "percentile_approx"),
    ("array_agg", "collect_list"),
    ("array_size", "array_length"),
    ("cardinality", "size"),
    ("ceiling", "ceil"),
    ("char_length", "length"),
    ("character_length", "length"),
    ("chr", "char"),
    ("endswith", "ends_with"),
    ("every", "bool_and"),
    ("exists", "array_any_match"),
    ("explode", "unnest"),
    ("explode_outer", "unnest_outer"),
    ("filter", "array_filter"),
    ("first", "first_value"),
    ("forall", "array_any_match"),
    ("ifnull", "coalesce"),
    ("last", "last_value"),
    ("lcase", "lower"),
    ("len", "length"),
    ("max_by", "first_value"),
    ("mean", "avg"),
    ("min_by", "first_value"),
    ("nvl", "coalesce"),
    ("power", "pow"),
    ("printf", "format_string"),
    ("reduce", "array_fold"),
    ("regexp", "regexp_like"),
    ("rlike", "regexp_like"),
    ("sha", "sha1"),
    ("sign", "signum"),
    ("some", "bool_or"),
    ("startswith", "starts_with"),
    ("std", "stddev"),
    ("transform", "array_transform"),
    ("try_avg", "avg"),
    ("ucase", "upper"),
    ("variance", "var_samp"),
];

/// Names that the rewriting of the syntax tree takes care of, see [`super::rewrite`].
const REWRITTEN: [&str; 6] = ["approx_count_distinct", "count_if", "forall", "max_by", "min_by", "struct"];

/// The name under which DataFusion knows a function.
pub(crate) fn behind(name: &str) -> &str {
    OTHER_NAMES.iter().find(|(spark, _)| *spark == name).map_or(name, |(_, behind)| behind)
}

/// Functions that stand behind operators and others; no statement calls them by their names.
const INTERNAL: [&str; 28] = [
    "ceil_digits",
    "date_difference",
    "decimal_add",
    "decimal_average",
    "decimal_divide",
    "decimal_multiply",
    "decimal_pmod",
    "decimal_quotient",
    "decimal_remainder",
    "decimal_subtract",
    "first_known_value",
    "fit_decimal",
    "float_of_order",
    "float_order",
    "floor_digits",
    "interval_divide",
    "interval_multiply",
    "interval_of",
    "interval_quotient",
    "lag_known_value",
    "last_known_value",
    "lead_known_value",
    "max_by_order",
    "max_nested",
    "min_by_order",
    "min_nested",
    "normal_float",
    "nth_known_value",
];

/// Whether a function can't be called by its name.
pub(crate) fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
        || name.starts_with(super::frames::PREFIX)
        || matches!(
            name,
            "interval_months" | "interval_micros" | "interval_order" | "interval_part" | "second_fraction"
        )
}

/// Names of functions that exist although no registry has them.
pub(crate) fn extra() -> impl Iterator<Item = &'static str> {
    let unnest = ["unnest", "unnest_outer", "make_map"];
    OTHER_NAMES
        .iter()
        .map(|(name, _)| *name)
        .chain(REWRITTEN)
        .chain(unnest)
        .chain(super::calls::NAMES.iter().copied())
        .chain(super::functions::names())
        .chain(super::typed::NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_unique() {
        assert!(OTHER_NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(behind("transform"), "array_transform");
        assert_eq!(behind("lower"), "lower");
    }
}
