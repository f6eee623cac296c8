//! A Ballista executor that knows the engine's nodes.

mod scope;
mod watch;

use std::{sync::Arc, time::Duration};

use ballista_core::{ConfigProducer, RuntimeProducer, config::TaskSchedulingPolicy};
use ballista_executor::{
    execution_engine::DefaultExecutionEngine,
    executor_process::{ExecutorProcessConfig, start_executor_process},
};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use trireme_engine::{
    Code, Error, Result, Storage,
    plan::TriremeCodec,
    session::{SessionOptions, function_registry, session_config, session_state},
};

pub use scope::ScopedEngine;

/// Largest gRPC message, bytes; the scheduler has the same.
const MAX_MESSAGE_SIZE: u32 = 256 * 1024 * 1024;

/// Why an executor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM or SIGINT.
    Signal,
    /// The scheduler took its silence (a suspended machine, a long stall) for death and stopped it when it spoke again. Its tasks were
    /// given to others; as a new process with a new id it is welcome.
    GivenUp,
}

/// What an executor needs to know.
pub struct Executor {
    /// Host of the scheduler's Ballista listener.
    pub scheduler_host: String,
    /// Port of the scheduler's Ballista listener.
    pub scheduler_port: u16,
    /// IP address to listen on.
    pub bind_host: String,
    /// Name under which scheduler and other executors reach this one.
    pub external_host: String,
    /// Port of the Arrow Flight service, from which others fetch shuffled rows.
    pub port: u16,
    /// Port on which the scheduler launches tasks.
    pub grpc_port: u16,
    /// Tasks that run side by side.
    pub vcores: usize,
    /// Bytes that operators may hold, all tasks together; `None`: 70 % of the machine's or container's memory.
    pub memory_pool_size: Option<u64>,
    /// Scratch folder for shuffled and spilled rows.
    pub work_dir: String,
    /// Storage root.
    pub storage: Storage,
    /// How often it tells the scheduler that it is alive.
    pub heartbeat: Duration,
    /// How long it tries to reach the scheduler at start.
    pub connect_timeout: Duration,
}

impl Executor {
    /// Registers, runs tasks until it is told to end, then drains.
    pub async fn run(self) -> Result<End> {
        let listen = |kind| signal(kind).map_err(|error| Error::new(Code::Internal, error.to_string()));
        let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let message_size = MAX_MESSAGE_SIZE;
        let config_producer: ConfigProducer = Arc::new(|| session_config(&SessionOptions::default()));
        let (store_url, store, work_dir) =
            (self.storage.object_store_url()?, self.storage.store(), self.work_dir.clone());
        let planning = session_state(session_config(&SessionOptions::default()), Arc::default())?;
        let functions = function_registry(&planning);
        // One store client for the whole process: Ballista's own registry makes a new one for every file.
        let runtime_producer: RuntimeProducer = Arc::new(move |_| {
            let runtime = RuntimeEnvBuilder::new().with_temp_file_path(&work_dir).build_arc()?;
            runtime.register_object_store(store_url.as_ref(), store.clone());
            Ok(runtime)
        });
        let workers = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.vcores.max(1))
            .thread_name("task")
            .enable_all()
            .build()
            .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let engine = ScopedEngine::new(Arc::new(DefaultExecutionEngine::new()), workers.handle().clone());
        let config = ExecutorProcessConfig {
            bind_host: self.bind_host,
            external_host: Some(self.external_host),
            port: self.port,
            grpc_port: self.grpc_port,
            scheduler_host: self.scheduler_host,
            scheduler_port: self.scheduler_port,
            scheduler_connect_timeout_seconds: self.connect_timeout.as_secs().clamp(1, u64::from(u16::MAX)) as u16,
            vcores: self.vcores,
            task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
            work_dir: Some(self.work_dir),
            job_data_ttl_seconds: 24 * 3600,
            job_data_clean_up_interval_seconds: 600,
            grpc_max_decoding_message_size: message_size,
            grpc_max_encoding_message_size: message_size,
            executor_heartbeat_interval_seconds: self.heartbeat.as_secs().max(1),
            memory_pool_size: self.memory_pool_size,
            override_execution_engine: Some(Arc::new(engine)),
            override_function_registry: Some(functions),
            override_runtime_producer: Some(runtime_producer),
            override_config_producer: Some(config_producer),
            override_physical_codec: Some(Arc::new(TriremeCodec::default())),
            ..ExecutorProcessConfig::default()
        };
        let ended = start_executor_process(Arc::new(config)).await;
        // What still runs belongs to nobody any more. A runtime may not be dropped where others wait.
        workers.shutdown_background();
        ended.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let signalled = terminate.recv().now_or_never().is_some() || interrupt.recv().now_or_never().is_some();
        Ok(if signalled { End::Signal } else { End::GivenUp })
    }
}
