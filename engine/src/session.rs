//! The DataFusion session that the scheduler plans with and that executors take their functions from.

use std::{collections::HashSet, sync::Arc};

use ballista_core::{
    config::BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, extension::SessionConfigExt,
    optimizer::ballista_default_optimizer_rules, registry::BallistaFunctionRegistry,
};
use datafusion::{
    execution::{SessionState, SessionStateBuilder, runtime_env::RuntimeEnv},
    functions::all_default_functions,
    functions_aggregate::all_default_aggregate_functions,
    functions_nested::{all_default_higher_order_functions, all_default_nested_functions},
    functions_window::all_default_window_functions,
    logical_expr::{AggregateUDF, ScalarUDF, WindowUDF},
    prelude::SessionConfig,
};

use crate::{error::Result, plan::physical_optimizer_rules, sql};

/// The name of the catalog that plans read tables from; schemas and tables in it are those of the storage root.
pub const CATALOG: &str = "trireme";

/// Settings of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Time zone of timestamps that are written without one, `UTC`, `+01:00` or `Europe/Paris`.
    pub time_zone: String,
    /// Partitions that shuffles and aggregations are planned with.
    pub target_partitions: usize,
    /// Rows in a batch.
    pub batch_size: usize,
    /// Files of a table that are smaller than that, bytes of all together, are one partition.
    pub smallest_split: u64,
    /// A build side of a join that is at most so big goes to every executor whole instead of both sides being shuffled.
    pub broadcast_bytes: u64,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            time_zone: "UTC".into(),
            target_partitions: 16,
            batch_size: 8192,
            smallest_split: 10 << 20,
            broadcast_bytes: BROADCAST_BYTES,
        }
    }
}

/// What a join broadcasts at most, in bytes and rows.
const BROADCAST_BYTES: u64 = 64 << 20;
const BROADCAST_ROWS: u64 = 1_000_000;

/// The settings that scheduler and executors plan and run with.
pub fn session_config(options: &SessionOptions) -> SessionConfig {
    // Either bound is enough for DataFusion, so both grow and shrink together.
    let broadcast_rows = options.broadcast_bytes.saturating_mul(BROADCAST_ROWS) / BROADCAST_BYTES;
    SessionConfig::new_with_ballista()
        .with_target_partitions(options.target_partitions.max(1))
        .with_batch_size(options.batch_size.max(1))
        .with_default_catalog_and_schema(CATALOG, "default")
        .with_information_schema(false)
        // Losing an executor under the adaptive planner can hang a job (ballista #1986).
        .with_ballista_adaptive_query_planner(false)
        // Otherwise a whole stage goes to the executor with the most free slots.
        .set_usize(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, 1)
        .with_ballista_broadcast_join_threshold_bytes(options.broadcast_bytes as usize)
        .with_ballista_broadcast_join_threshold_rows(broadcast_rows as usize)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold", options.broadcast_bytes)
        .set_u64("datafusion.optimizer.hash_join_single_partition_threshold_rows", broadcast_rows)
        .set_u64("datafusion.optimizer.repartition_file_min_size", options.smallest_split)
        .set_bool("datafusion.optimizer.prefer_hash_join", true)
        // Ballista takes such a repartition away; one that is added when a stage is optimized again would mix the rows of a sorted partition.
        .set_bool("datafusion.optimizer.enable_round_robin_repartition", false)
        // An interleaving of branches needs all of them partitioned alike, which a branch is no more once it is cut (ballista 2047).
        .set_bool("datafusion.optimizer.prefer_existing_union", true)
        // The check refuses what is null only to the physical plan: `IS FALSE` becomes `NOT …` there.
        .set_bool("datafusion.execution.skip_physical_aggregate_schema_check", true)
        .set_str("datafusion.execution.time_zone", &options.time_zone)
        .set_str("datafusion.sql_parser.default_null_ordering", "nulls_min")
}

/// A session over a catalog that is still empty; it has Spark's functions and meanings (see [`crate::sql`]). A time zone that there is not is
/// an error.
pub fn session_state(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> Result<SessionState> {
    sql::check_time_zone(config.options())?;
    let mut higher_order = all_default_higher_order_functions();
    higher_order.extend(sql::higher_order_functions());
    let mut optimizer_rules = sql::with_checks(ballista_default_optimizer_rules());
    optimizer_rules.extend(sql::optimizer_rules());
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(optimizer_rules)
        .with_physical_optimizer_rules(physical_optimizer_rules())
        .with_scalar_functions(scalar_functions())
        .with_aggregate_functions(aggregate_functions())
        .with_window_functions(window_functions())
        .with_analyzer_rule(sql::lenient_casts())
        .with_analyzer_rule(sql::float_keys())
        .with_analyzer_rule(Arc::new(sql::Frames));
    *builder.higher_order_functions() = Some(higher_order);
    Ok(builder.build())
}

/// The functions that an executor needs to run what a session plans.
pub fn function_registry(state: &SessionState) -> Arc<BallistaFunctionRegistry> {
    Arc::new(BallistaFunctionRegistry::from(state))
}

/// DataFusion's, then Spark's, then ours: a later one replaces an earlier one whose name it has, as a name or as an alias, together with that
/// one's aliases. A plan travels by names, so every function that can be planned must be found again under its own name.
///
/// Spark's `date_part` and `date_trunc` only exist while planning: they become DataFusion's functions of the same names, and an executor
/// must find those.
fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = all_default_functions();
    functions.extend(all_default_nested_functions());
    let spark = datafusion_spark::all_default_scalar_functions().into_iter();
    functions.extend(spark.filter(|function| !matches!(function.name(), "date_part" | "date_trunc" | "spark_cast")));
    functions.extend(sql::scalar_functions());
    let mut taken = HashSet::new();
    let mut kept = Vec::with_capacity(functions.len());
    for function in functions.into_iter().rev() {
        if taken.contains(function.name()) {
            continue;
        }
        taken.insert(function.name().to_string());
        taken.extend(function.aliases().iter().cloned());
        kept.push(function);
    }
    kept.reverse();
    kept
}

/// DataFusion's, Spark's `collect_list` and `collect_set` (DataFusion's `avg` takes more types than Spark's), and ours.
fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let mut functions = all_default_aggregate_functions();
    let spark = datafusion_spark::all_default_aggregate_functions().into_iter();
    functions.extend(spark.filter(|function| function.name() != "avg"));
    functions.extend(sql::aggregate_functions());
    // The last of a name is the one that is found.
    let mut found = HashSet::new();
    let named: Vec<_> = functions.iter().rev().filter(|function| found.insert(function.name().to_string())).collect();
    let in_frames = sql::in_frames(named.into_iter());
    functions.extend(in_frames);
    functions
}

/// DataFusion's, and ours.
fn window_functions() -> Vec<Arc<WindowUDF>> {
    let mut functions = all_default_window_functions();
    functions.extend(sql::window_functions());
    functions
}

#[cfg(test)]
mod tests {
    use datafusion::execution::FunctionRegistry;

    use super::*;

    fn state(options: &SessionOptions) -> SessionState {
        session_state(session_config(options), Arc::new(RuntimeEnv::default())).unwrap()
    }

    #[test]
    fn an_executor_finds_what_is_planned() {
        let state = state(&SessionOptions::default());
        let registry = function_registry(&state);
        for (key, function) in state.scalar_functions() {
            assert!(*registry.udf(function.name()).unwrap() == **function, "{key} is found as another function");
        }
        for (key, function) in state.aggregate_functions() {
            assert!(*registry.udaf(function.name()).unwrap() == **function, "{key} is found as another function");
        }
        for (key, function) in state.window_functions() {
            assert!(*registry.udwf(function.name()).unwrap() == **function, "{key} is found as another function");
        }
        for (key, function) in state.higher_order_functions() {
            assert!(
                *registry.higher_order_function(function.name()).unwrap() == **function,
                "{key} is found as another function"
            );
        }
    }

    #[test]
    fn a_wrong_time_zone_is_an_error() {
        for zone in ["Mars/Olympus", "", "GMT+99"] {
            let options = SessionOptions { time_zone: zone.into(), ..SessionOptions::default() };
            let error = session_state(session_config(&options), Arc::new(RuntimeEnv::default())).unwrap_err();
            assert!(error.message.contains("there is no time zone"), "{error}");
        }
        for zone in ["UTC", "+01:00", "America/New_York"] {
            state(&SessionOptions { time_zone: zone.into(), ..SessionOptions::default() });
        }
    }

    #[test]
    fn settings_arrive() {
        let options = SessionOptions {
            time_zone: "Europe/Paris".into(),
            target_partitions: 3,
            batch_size: 100,
            ..SessionOptions::default()
        };
        let state = state(&options);
        let config = state.config();
        assert_eq!(config.target_partitions(), 3);
        assert_eq!(config.batch_size(), 100);
        assert_eq!(config.options().execution.time_zone.as_deref(), Some("Europe/Paris"));
        assert!(!config.ballista_adaptive_query_planner_enabled());
        assert_eq!(config.ballista_config().max_partitions_per_task(), 1);
        assert!(config.options().optimizer.prefer_hash_join);
        assert!(state.optimizers().iter().any(|rule| rule.name() == "not_in_subquery_rewrite"));
        assert_eq!(state.catalog_list().catalog_names(), [CATALOG]);
        let mut tables: Vec<_> = state.table_functions().keys().cloned().collect();
        tables.sort_unstable();
        assert_eq!(tables, ["generate_series", "range"], "nothing that reads files");
    }
}
