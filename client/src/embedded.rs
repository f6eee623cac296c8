//! Embedded mode: a scheduler and executors as child processes on loopback, for one command.
//!
//! The children end with the command whatever happens: they are stopped in order (executors first) when it ends, fails or is interrupted,
//! and the kernel kills them when this process dies without a word. They are in process groups of their own, so that Ctrl-C in a terminal
//! reaches only this process. Nothing is lost either way: state is in the storage, and commits are atomic.

mod child;
mod scratch;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::{
    connection::Scheduler,
    error::{Error, Result},
    interrupt::Interrupt,
};

use child::{Child, Death};
use scratch::Scratch;

/// Debug builds on a busy machine need some seconds; a probe of far storage too.
const START_TIMEOUT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// A free port may be taken by somebody else before a child gets to it.
const TRIES: u32 = 3;
/// Health service name that serves once enough executors are registered.
const EXECUTORS: &str = "trireme.executors";

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How many executors.
    pub executors: u32,
    /// Tasks that one executor runs at a time.
    pub vcores: u32,
    /// Memory for one executor's operators, as its flag takes it: `1GB`.
    pub memory_pool_size: String,
    /// Storage root: a URL.
    pub storage: String,
    /// Folder of `trireme-scheduler` and `trireme-executor`.
    pub binaries: PathBuf,
}

/// Running children.
pub struct Embedded {
    scheduler: Child,
    executors: Vec<Child>,
    connection: Scheduler,
    /// Dropped last: the children write into it.
    _scratch: Scratch,
}

enum Failure {
    /// Another process took a port first.
    PortTaken(Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Embedded {
    /// Starts the children and waits until they are ready for jobs. Call it on the program's main thread: the children die with the thread
    /// that started them.
    ///
    /// # Errors
    /// `start-failed` with the tail of a child's log; `invalid-spec` when a child refused its settings.
    pub async fn start(settings: &Settings, token: Option<&str>) -> Result<Self> {
        let mut tries = 1;
        loop {
            match Self::try_start(settings, token).await {
                Ok(embedded) => return Ok(embedded),
                Err(Failure::PortTaken(_)) if tries < TRIES => tries += 1,
                Err(Failure::PortTaken(error) | Failure::Other(error)) => return Err(error),
            }
        }
    }

    async fn try_start(settings: &Settings, token: Option<&str>) -> Result<Self, Failure> {
        let scratch = Scratch::make()?;
        let mut ports = free_ports(2 + 2 * settings.executors as usize)?.into_iter();
        let mut port = || ports.next().unwrap_or_default().to_string();
        let (ballista_port, api_port) = (port(), port());
        let url = format!("http://127.0.0.1:{api_port}");

        let mut scheduler = Child::start(
            &settings.binaries.join("trireme-scheduler"),
            &[
                ("--bind-host", "127.0.0.1"),
                ("--external-host", "127.0.0.1"),
                ("--ballista-port", &ballista_port),
                ("--api-port", &api_port),
                ("--storage", &settings.storage),
                ("--min-executors", &settings.executors.to_string()),
                // The processes run as the user, for the user: what he may not read, they may not either.
                ("--allowed-origins", "*"),
            ],
            scratch.path().join("scheduler.log"),
        )?;
        let connection = ready(&url, token, "", std::slice::from_mut(&mut scheduler)).await?;

        let mut children = vec![scheduler];
        for number in 1..=settings.executors {
            children.push(Child::start(
                &settings.binaries.join("trireme-executor"),
                &[
                    ("--scheduler", &format!("127.0.0.1:{ballista_port}")),
                    ("--bind-host", "127.0.0.1"),
                    ("--external-host", "127.0.0.1"),
                    ("--port", &port()),
                    ("--grpc-port", &port()),
                    ("--vcores", &settings.vcores.to_string()),
                    ("--memory-pool-size", &settings.memory_pool_size),
                    ("--work-dir", &scratch.folder(&format!("executor-{number}"))?),
                    ("--storage", &settings.storage),
                ],
                scratch.path().join(format!("executor-{number}.log")),
            )?);
        }
        ready(&url, token, EXECUTORS, &mut children).await?;
        let executors = children.split_off(1);
        let scheduler = children.pop().ok_or_else(|| Error::new("internal", "no scheduler was started"))?;
        Ok(Self { scheduler, executors, connection, _scratch: scratch })
    }

    /// The connection to the scheduler.
    pub fn scheduler(&self) -> Scheduler {
        self.connection.clone()
    }

    /// Waits for the scheduler's end, which nobody asked for; returns what it said.
    pub async fn scheduler_ended(&mut self) -> Error {
        self.scheduler.ended().await.error
    }

    /// Stops all children: asks first, then insists. A second Ctrl-C insists at once.
    pub async fn stop(mut self, interrupt: &Interrupt) {
        tokio::select! {
            () = async {
                Child::stop_all(&mut self.executors, GRACE).await;
                Child::stop_all(std::slice::from_mut(&mut self.scheduler), GRACE).await;
            } => {}
            () = interrupt.again() => {}
        }
        for child in self.executors.iter_mut().chain([&mut self.scheduler]) {
            child.kill().await;
        }
    }
}

/// Waits until the health service says that `service` is served, or a child has died.
async fn ready(url: &str, token: Option<&str>, service: &str, children: &mut [Child]) -> Result<Scheduler, Failure> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut connection = None;
    loop {
        for child in children.iter_mut() {
            if let Some(Death { error, port_taken }) = child.death() {
                return Err(if port_taken { Failure::PortTaken(error) } else { Failure::Other(error) });
            }
        }
        if connection.is_none() {
            connection = Scheduler::connect(url, token).await.ok();
        }
        if let Some(scheduler) = &connection
            && serves(scheduler, service).await
        {
            return Ok(scheduler.clone());
        }
        if Instant::now() >= deadline {
            let logs: Vec<_> = children.iter().map(Child::describe_log).collect();
            let seconds = START_TIMEOUT.as_secs();
            return Err(
                Error::new("start-failed", format!("not ready after {seconds} seconds\n{}", logs.join("\n"))).into()
            );
        }
        sleep(POLL).await;
    }
}

async fn serves(scheduler: &Scheduler, service: &str) -> bool {
    let mut health = scheduler.health();
    let check = health.check(HealthCheckRequest { service: service.to_string() });
    match tokio::time::timeout(Duration::from_secs(5), check).await {
        Ok(Ok(response)) => response.into_inner().status() == ServingStatus::Serving,
        _ => false,
    }
}

/// Ports that are free now. All are held until all are known, so that none is given twice.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let port = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|held| Ok((held.local_addr()?.port(), held)));
    let held: Vec<_> = (0..count)
        .map(port)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::new("start-failed", format!("found no free port on 127.0.0.1: {error}")))?;
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_different() {
        let mut ports = free_ports(40).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 40);
    }
}
