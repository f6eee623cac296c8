//! A cluster of real processes on loopback: one scheduler, some executors, their logs, and clients.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Endpoint;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::cli::{Client, Output};
use crate::process::{Process, binary, command, free_port};
use crate::{repository, wait_for};

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Executors, each with one vcore, so that the number of executors is the number of tasks that run at a time.
    pub executors: usize,
    /// Storage root, a folder or URL; none: a folder of the cluster's own.
    pub storage: Option<String>,
    /// More environment for scheduler and executors, such as S3's keys.
    pub environment: Vec<(String, String)>,
    /// More flags of the scheduler.
    pub scheduler: Vec<String>,
    /// What the operators of an executor may hold.
    pub memory_pool: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        // Files of a few MB are cut into several tasks, as gigabytes would be.
        let scheduler = ["--split-size", "1MiB", "--target-file-size", "4MiB"].map(String::from).to_vec();
        // Tests count commits; those of optimizations are another test's matter, whose flags say so.
        let environment = vec![("TRIREME_AUTO_OPTIMIZE_RETIRED_PERCENT".to_string(), "0".to_string())];
        Self { executors: 2, storage: None, environment, scheduler, memory_pool: "1GB" }
    }
}

/// A running cluster. It ends with the value; if the test fails, its logs are shown.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    api_port: u16,
    ballista_port: u16,
    scheduler: Process,
    executors: Vec<Process>,
    started: usize,
    folder: TempDir,
}

impl Cluster {
    /// Starts a scheduler and executors, and waits until all are ready.
    pub fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (api_port, ballista_port) = (free_port(), free_port());
        let options =
            Options { storage: Some(options.storage.unwrap_or_else(|| text(&folder.path().join("lake")))), ..options };
        let scheduler = start_scheduler(&options, api_port, ballista_port, folder.path());
        let mut cluster =
            Self { options, api_port, ballista_port, scheduler, executors: Vec::new(), started: 0, folder };
        cluster.wait_until_ready("");
        for _ in 0..cluster.options.executors {
            cluster.add_executor();
        }
        cluster.wait_until_ready("trireme.executors");
        cluster
    }

    /// The scheduler's API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }

    /// The port of the API.
    pub fn api_port(&self) -> u16 {
        self.api_port
    }

    /// The storage root, as it was given.
    pub fn storage(&self) -> &str {
        self.options.storage.as_deref().unwrap()
    }

    /// The storage root as a folder.
    pub fn lake(&self) -> PathBuf {
        PathBuf::from(self.storage())
    }

    /// A folder for a test's own files, gone with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client's command line with `--scheduler` and what follows.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = command(binary("trireme"));
        command.args(arguments).arg("--scheduler").arg(self.url());
        command
    }

    /// Runs a client to its end.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.begin(arguments).finish()
    }

    /// Runs a client to its end, its output being JSON.
    pub fn json(&self, arguments: &[&str]) -> Output {
        self.cli(&[arguments, &["--output", "json"]].concat())
    }

    /// Starts a client.
    pub fn begin(&self, arguments: &[&str]) -> Client {
        Client::start(self.command(arguments))
    }

    /// The rows of a SELECT.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> Vec<Value> {
        self.json(&["sql", sql]).done().json_lines()
    }

    /// The number that a SELECT gives.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.sql(sql);
        let values = rows.first().and_then(Value::as_object).map(|row| row.values().collect::<Vec<_>>());
        values.and_then(|values| values.first()?.as_i64()).unwrap_or_else(|| panic!("{sql} gives no number: {rows:?}"))
    }

    /// Writes a file and downloads it as the next version of a source.
    #[track_caller]
    pub fn deliver(&self, source: &str, file: &str, content: impl AsRef<[u8]>) -> Value {
        let path = self.folder.path().join(file);
        std::fs::write(&path, content).unwrap();
        self.json(&["download", "--from", &text(&path), "--to", source]).done().json()
    }

    /// All that a failure must leave as it was: tables with version and rows, sources with versions.
    pub fn state(&self) -> Vec<String> {
        let tables = self.json(&["tables", "list"]).done().json_lines();
        let sources = self.json(&["raw", "list"]).done().json_lines();
        let rows = tables.iter().flat_map(|table| {
            let mut rows = self.sql(&format!("SELECT * FROM {}", table["name"].as_str().unwrap()));
            rows.sort_by_cached_key(Value::to_string);
            rows
        });
        tables.iter().chain(&sources).cloned().chain(rows).map(|value| value.to_string()).collect()
    }

    /// A job, as `jobs show` has it.
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.json(&["jobs", "show", id]).done().json()
    }

    /// The newest jobs of this kind and name, parts of pipelines too, newest first.
    #[track_caller]
    pub fn jobs(&self, kind: &str, name: &str) -> Vec<Value> {
        let jobs = self.json(&["jobs", "list", "--parts", "--limit", "1000"]).done().json_lines();
        jobs.into_iter().filter(|job| job["kind"] == kind && job["name"] == name).collect()
    }

    /// Waits until a job has ended, and returns it.
    #[track_caller]
    pub fn ended(&self, id: &str) -> Value {
        wait_for(&format!("the end of job {id}"), || Some(self.job(id)).filter(has_ended))
    }

    /// Executors that were started and not killed, by their place.
    pub fn executors(&self) -> usize {
        self.executors.len()
    }

    /// One of the executors.
    pub fn executor(&mut self, place: usize) -> &mut Process {
        &mut self.executors[place]
    }

    /// The scheduler.
    pub fn scheduler(&mut self) -> &mut Process {
        &mut self.scheduler
    }

    /// SIGKILL to an executor.
    pub fn kill_executor(&mut self, place: usize) {
        self.executors.remove(place).kill();
    }

    /// One executor more.
    pub fn add_executor(&mut self) {
        self.started += 1;
        let name = format!("executor-{}", self.started);
        let mut command = command(binary("trireme-executor"));
        command
            .args(["--scheduler", &format!("127.0.0.1:{}", self.ballista_port)])
            .args(["--port", "0", "--grpc-port", "0", "--vcores", "1"])
            .args(["--memory-pool-size", self.options.memory_pool])
            .args(["--heartbeat", "500ms", "--storage", self.storage()])
            .arg("--work-dir")
            .arg(self.folder.path().join(&name))
            .envs(self.options.environment.iter().cloned());
        std::fs::create_dir_all(self.folder.path().join(&name)).unwrap();
        let log = self.folder.path().join(format!("{name}.log"));
        self.executors.push(Process::start(&name, command, &log));
    }

    /// SIGKILL to the scheduler.
    pub fn kill_scheduler(&mut self) {
        self.scheduler.kill();
    }

    /// The scheduler again, on the same ports and storage, after its end.
    pub fn restart_scheduler(&mut self) {
        self.scheduler = start_scheduler(&self.options, self.api_port, self.ballista_port, self.folder.path());
        self.wait_until_ready("");
    }

    /// Waits until the health service says that this is served: `""` is the API, `trireme.executors` that enough have joined.
    pub fn wait_until_ready(&mut self, service: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = self.url();
        wait_for(&format!("health of `{service}`"), || {
            for process in self.executors.iter_mut().chain([&mut self.scheduler]) {
                if process.ended().is_some() {
                    process.tell();
                    panic!("a process of the cluster ended at its start");
                }
            }
            runtime.block_on(serves(&url, service)).then_some(())
        });
    }
}

async fn serves(url: &str, service: &str) -> bool {
    let check = async {
        let channel = Endpoint::from_shared(url.to_string()).ok()?.connect().await.ok()?;
        let request = HealthCheckRequest { service: service.to_string() };
        HealthClient::new(channel).check(request).await.ok()
    };
    match tokio::time::timeout(Duration::from_secs(5), check).await {
        Ok(Some(response)) => response.get_ref().status() == ServingStatus::Serving,
        _ => false,
    }
}

fn start_scheduler(options: &Options, api_port: u16, ballista_port: u16, folder: &Path) -> Process {
    let mut command = command(binary("trireme-scheduler"));
    command
        .args(["--api-port", &api_port.to_string(), "--ballista-port", &ballista_port.to_string()])
        .args(["--storage", options.storage.as_deref().unwrap(), "--allowed-origins", "*"])
        .args(["--min-executors", &options.executors.to_string(), "--executor-timeout", "3s"])
        .args(&options.scheduler)
        .envs(options.environment.iter().cloned());
    Process::start("scheduler", command, &folder.join("scheduler.log"))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.scheduler.tell();
            self.executors.iter_mut().for_each(Process::tell);
        }
    }
}

/// Whether a job's state is its last.
pub fn has_ended(job: &Value) -> bool {
    !matches!(job["state"].as_str(), Some("queued" | "running") | None)
}

/// A client that brings its own cluster, over `storage`.
pub fn embedded(storage: &Path, executors: usize, arguments: &[&str]) -> Command {
    let mut command = command(binary("trireme"));
    command.args(arguments).args(["--embedded", "--executors", &executors.to_string()]).arg("--storage").arg(storage);
    command
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

/// The pipeline file of the example, as the README names it.
pub fn example() -> PathBuf {
    repository().join("examples/books-and-movies/pipeline.yaml")
}
