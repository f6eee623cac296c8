//! `trireme-scheduler`: settings → log → storage → cluster → jobs → API → until told to stop → drain.

use std::{process::ExitCode, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use trireme_engine::{
    Code, Error, Result, Storage,
    settings::{self, refuse},
};
use trireme_scheduler::{
    CatalogReader, Parts, RawReader, Settings, SqlRunner,
    auth::ApiToken,
    jobs::{JobRegistry, Work},
    serve,
};

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
    let storage = Storage::open(&settings.storage).map_err(of_storage)?;
    storage.probe().await?;
    let cluster = start_cluster(&settings, storage.clone()).await?;
    let jobs = JobRegistry::open(storage, cluster.work, cluster.executors.clone(), settings.jobs()).await?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(address, storage = settings.storage, "the API is ready");
    let parts = Parts {
        jobs,
        catalog: cluster.catalog,
        raw: cluster.raw,
        sql: cluster.sql,
        executors: cluster.executors,
        min_executors: settings.min_executors,
        token,
    };
    serve(listener, parts, shutdown).await
}

/// A storage root that is not well formed is a wrong setting; one that fails is not.
fn of_storage(error: Error) -> Error {
    match error.code {
        Code::InvalidSpec => settings::invalid("storage", error.message).hint(error.hint),
        _ => error,
    }
}

/// What the API needs of the cluster.
struct Cluster {
    work: Arc<dyn Work>,
    catalog: Arc<dyn CatalogReader>,
    raw: Arc<dyn RawReader>,
    sql: Arc<dyn SqlRunner>,
    executors: watch::Receiver<usize>,
}

/// Starts Ballista's scheduler on `ballista_port`.
async fn start_cluster(_settings: &Settings, _storage: Storage) -> Result<Cluster> {
    // CALL SITE for the lead: `cluster::Cluster::start` and what `work` makes of it.
    Err(Error::new(Code::Internal, "this build has no cluster"))
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
