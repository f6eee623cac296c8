//! `trireme-executor`: runs the tasks of a Trireme cluster.

use std::{
    net::{IpAddr, TcpListener},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    time::Duration,
};

use trireme_engine::{
    Error, Result, Storage,
    settings::{self, ExecutorSettings, refuse},
};
use trireme_executor::{End, Executor};

/// How long an executor tries to reach its scheduler before it gives up and leaves the restart to its supervisor.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// Exit code when the scheduler can't be reached or the process fails (`EX_UNAVAILABLE` of sysexits.h).
const EXIT_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let settings: ExecutorSettings = settings::load();
    settings.log.start();
    // Two rustls providers are linked in, so there is no default one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    // The scratch folder lives as long as the process: dropped here, it takes shuffled and spilled rows with it.
    let (executor, scratch) = match prepare(settings) {
        Ok(prepared) => prepared,
        Err(error) => refuse(&error),
    };
    match runtime.block_on(executor.run()) {
        Ok(End::Signal) => ExitCode::SUCCESS,
        Ok(End::GivenUp) => {
            tracing::warn!("the scheduler had given this executor up; starting again under a new id");
            // Not waiting for what still runs on its threads: they end with this image of the process.
            runtime.shutdown_background();
            drop(scratch);
            fail(&start_again().to_string())
        }
        Err(error) => fail(&error.message),
    }
}

/// Replaces the process by itself: same process id, arguments and parent, all state of Ballista's (some of it is global) new.
fn start_again() -> std::io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "trireme-executor".into());
    match std::env::current_exe() {
        Ok(program) => Command::new(program).arg0(name).args(arguments).exec(),
        Err(error) => error,
    }
}

fn fail(message: &str) -> ExitCode {
    tracing::error!("{message}");
    ExitCode::from(EXIT_UNAVAILABLE)
}

fn prepare(settings: ExecutorSettings) -> Result<(Executor, Option<tempfile::TempDir>)> {
    let bind_host = host_address(&settings.bind_host)?;
    let port = free_port("port", bind_host, settings.port)?;
    let grpc_port = free_port("grpc_port", bind_host, settings.grpc_port)?;
    let storage = Storage::open(&settings.storage).map_err(|error| wrong("storage", error.message).hint(error.hint))?;
    let (work_dir, scratch) = match settings.work_dir {
        Some(folder) => {
            std::fs::create_dir_all(&folder).map_err(|error| wrong("work_dir", error))?;
            (folder, None)
        }
        None => {
            let scratch = tempfile::Builder::new().prefix("trireme-executor-").tempdir();
            let scratch = scratch.map_err(|error| wrong("work_dir", error))?;
            (scratch.path().to_path_buf(), Some(scratch))
        }
    };
    let vcores = match settings.vcores {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        vcores => vcores,
    };
    let executor = Executor {
        scheduler_host: settings.scheduler.host,
        scheduler_port: settings.scheduler.port,
        bind_host: bind_host.to_string(),
        external_host: settings.external_host,
        port,
        grpc_port,
        vcores,
        memory_pool_size: settings.memory_pool_size,
        work_dir: work_dir.display().to_string(),
        storage,
        heartbeat: settings.heartbeat,
        connect_timeout: CONNECT_TIMEOUT,
    };
    Ok((executor, scratch))
}

fn wrong(key: &str, problem: impl std::fmt::Display) -> Error {
    settings::invalid(key, problem)
}

fn host_address(host: &str) -> Result<IpAddr> {
    host.parse().map_err(|_| wrong("bind_host", format!("`{host}` is not an IP address")))
}

/// The port itself when it is free, any free one for 0. Another process may still take it before it is used.
fn free_port(key: &str, host: IpAddr, port: u16) -> Result<u16> {
    let listener = TcpListener::bind((host, port)).map_err(|error| {
        wrong(key, format!("can't listen on {host}:{port}: {error}")).hint("choose another port, or 0 for any free one")
    })?;
    Ok(listener.local_addr().map_err(|error| wrong(key, error))?.port())
}
