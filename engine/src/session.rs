//! TEMPORARY
use std::sync::Arc;
use ballista_core::{extension::SessionConfigExt, registry::BallistaFunctionRegistry};
use datafusion::{execution::{SessionStateBuilder, context::SessionState, runtime_env::RuntimeEnv}, prelude::SessionConfig};
use crate::error::Result;
#[allow(missing_docs)]
pub struct SessionOptions { pub time_zone: String, pub target_partitions: usize }
#[allow(missing_docs)]
pub fn session_config(o: &SessionOptions) -> SessionConfig {
    SessionConfig::new_with_ballista().with_target_partitions(o.target_partitions)
        .set_str("datafusion.sql_parser.dialect", "Databricks")
        .set_str("ballista.scheduler.max_partitions_per_task", "1")
}
#[allow(missing_docs)]
pub fn session_state(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> Result<SessionState> {
    let mut s = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features().build();
    datafusion_spark::register_all(&mut s)?;
    Ok(s)
}
#[allow(missing_docs)]
pub fn function_registry() -> Result<Arc<BallistaFunctionRegistry>> { Ok(Arc::new(BallistaFunctionRegistry::default())) }
