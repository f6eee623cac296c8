//! `trireme-scheduler`: settings → log → storage → cluster → jobs → API → until told to stop → drain.

use std::{process::ExitCode, sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trireme_engine::{
    Code, Error, Result, Storage,
    raw::AllowedOrigins,
    settings::{self, refuse},
};
use trireme_scheduler::{
    Parts, Settings,
    auth::ApiToken,
    cluster::{Cluster, ClusterSettings},
    jobs::JobRegistry,
    serve,
    settings::bind,
    work::{Listing, Planning, Queries, Sessions, WorkSettings, Worker},
};

/// How long distributed work waits for a first executor before its job fails.
const EXECUTOR_WAIT: Duration = Duration::from_secs(60);

/// Ballista plans and serialises plans by recursion; upstream's scheduler runs with the same.
const THREAD_STACK: usize = 32 << 20;

/// Exit codes of sysexits.h: `EX_SOFTWARE`, `EX_IOERR`.
const EXIT_FAILED: u8 = 70;
const EXIT_STORAGE: u8 = 74;

fn main() -> ExitCode {
    let settings: Settings = settings::load();
    let token = settings.token().unwrap_or_else(|error| refuse(&error));
    settings.log.start();
    // Two providers are in the dependency graph, so one has to be chosen; Err means that one was already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(THREAD_STACK).build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async { tokio::spawn(run(settings, token)).await }),
        Err(error) => return exit(&Error::new(Code::Internal, format!("can't start threads: {error}"))),
    };
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => exit(&error),
        Err(error) => exit(&Error::new(Code::Internal, format!("the scheduler panicked: {error}"))),
    }
}

async fn run(settings: Settings, token: Option<ApiToken>) -> Result<()> {
    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));

    let listener = settings.bind_api().await?;
    let storage = Storage::open(&settings.storage).map_err(|error| of_setting("storage", error))?;
    storage.probe().await?;
    let cluster = start_cluster(&settings, shutdown.clone()).await?;
    let planning = Planning {
        time_zone: settings.time_zone.clone(),
        target_partitions: settings.target_partitions,
        task_bytes: settings.task_bytes,
        broadcast_bytes: settings.broadcast_bytes,
    };
    let sessions = Sessions::new(cluster.clone(), &storage, planning)?;
    let work = WorkSettings {
        split_size: settings.split_size,
        copy: settings.raw_seekable_copy,
        target_file_size: settings.target_file_size,
        key_bloom_fpp: settings.key_bloom_fpp,
        merge_keys_memory: settings.merge_keys_memory,
        auto_optimize_small_files: settings.auto_optimize_small_files,
        auto_optimize_retired_percent: settings.auto_optimize_retired_percent,
        range_size: settings.range_size,
        origin_timeout: settings.origin_timeout,
        allowed_origins: AllowedOrigins::new(settings.allowed_origins.clone())
            .map_err(|error| of_setting("allowed_origins", error))?,
    };
    let worker = Worker::new(cluster.clone(), storage.clone(), sessions, work);
    let listing = Arc::new(Listing::new(storage.clone()));
    let jobs = JobRegistry::open(storage, Arc::new(worker.clone()), cluster.executors(), settings.jobs()).await?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(address, storage = settings.storage, "the API is ready");
    let parts = Parts {
        jobs,
        catalog: listing.clone(),
        raw: listing,
        sql: Arc::new(Queries::new(worker)),
        executors: cluster.executors(),
        min_executors: settings.min_executors,
        token,
    };
    serve(listener, parts, shutdown).await
}

/// An error about a setting's form names its key.
fn of_setting(key: &str, error: Error) -> Error {
    match error.code {
        Code::InvalidSpec => settings::invalid(key, error.message).hint(error.hint),
        _ => error,
    }
}

/// Starts Ballista's scheduler on `ballista_port`.
async fn start_cluster(settings: &Settings, shutdown: CancellationToken) -> Result<Cluster> {
    let listener = bind("ballista_port", &settings.bind_host, settings.ballista_port).await?;
    let cluster_settings = ClusterSettings {
        external_host: settings.external_host.clone(),
        executor_timeout: settings.executor_timeout,
        retries: settings.work_retries,
        executor_wait: EXECUTOR_WAIT,
    };
    Cluster::start(listener, cluster_settings, shutdown).await
}

/// Cancels `shutdown` at SIGTERM or SIGINT.
async fn cancel_on_signal(shutdown: CancellationToken) {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            shutdown.cancel();
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "can't listen for signals"),
    }
}

/// Says what went wrong; wrong settings, such as a storage URL or a port that is taken, exit with 64.
fn exit(error: &Error) -> ExitCode {
    match error.code {
        Code::InvalidSpec => refuse(error),
        Code::Storage => {
            settings::explain(error);
            ExitCode::from(EXIT_STORAGE)
        }
        _ => {
            settings::explain(error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}
