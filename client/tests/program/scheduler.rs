//! A scheduler that says what a test tells it to.

use std::{
    collections::{HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
};

use prost_types::Timestamp;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};
use trireme_proto::v1::{
    self, Job, JobState, Outcome,
    catalog_server::{Catalog, CatalogServer},
    jobs_server::{Jobs, JobsServer},
    query_server::{Query, QueryServer},
    raw_server::{Raw, RawServer},
};

/// What one watching sees: these jobs, then this end.
#[derive(Clone)]
pub struct Watching {
    pub jobs: Vec<Job>,
    pub end: End,
}

/// How a stream ends.
#[derive(Clone)]
pub enum End {
    /// As it should.
    Close,
    /// Not at all.
    Hang,
    /// With an error.
    Fail(Status),
}

/// What the scheduler says, and what it was told.
pub struct Script {
    /// Whether there are executors.
    pub executors: Mutex<bool>,
    /// Answer to Submit.
    pub submit: Mutex<Option<Result<Job, Status>>>,
    /// Answers to Watch, one after the other.
    pub watchings: Mutex<VecDeque<Watching>>,
    /// Answers to Get, List and Cancel.
    pub jobs: Mutex<HashMap<String, Job>>,
    /// Messages that answer Sql, and the status that ends them.
    pub sql: Mutex<(Vec<Vec<u8>>, Option<Status>)>,
    /// Token that every call must bring.
    pub token: Mutex<Option<String>>,
    /// Specs that were submitted.
    pub submitted: Mutex<Vec<v1::JobSpec>>,
    /// Jobs that were cancelled.
    pub cancelled: Mutex<Vec<String>>,
    /// Jobs that were watched.
    pub watched: Mutex<Vec<String>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            executors: Mutex::new(true),
            submit: Mutex::default(),
            watchings: Mutex::default(),
            jobs: Mutex::default(),
            sql: Mutex::default(),
            token: Mutex::default(),
            submitted: Mutex::default(),
            cancelled: Mutex::default(),
            watched: Mutex::default(),
        }
    }
}

/// A running scheduler; dropped, it is gone with all its connections.
pub struct Scheduler {
    pub script: Arc<Script>,
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Scheduler {
    pub fn start(script: Script) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    pub fn start_at(address: SocketAddr, script: Script) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let script = Arc::new(script);
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let (health, health_service) = tonic_health::server::health_reporter();
        if *script.executors.lock().unwrap() {
            runtime.block_on(health.set_service_status("trireme.executors", tonic_health::ServingStatus::Serving));
        }
        let known = script.clone();
        #[allow(clippy::result_large_err)]
        let check = move |request: Request<()>| match known.token.lock().unwrap().as_ref() {
            Some(token)
                if request.metadata().get("authorization").map(|value| value.as_bytes()) != Some(token.as_bytes()) =>
            {
                Err(Status::unauthenticated(
                    "⟦unauthenticated the token is missing or wrong¦hint: set TRIREME_API_TOKEN⟧",
                ))
            }
            _ => Ok(request),
        };
        let service = Service(script.clone());
        let server = Server::builder()
            .add_service(health_service)
            .add_service(JobsServer::with_interceptor(service.clone(), check.clone()))
            .add_service(CatalogServer::with_interceptor(service.clone(), check.clone()))
            .add_service(RawServer::with_interceptor(service.clone(), check.clone()))
            .add_service(QueryServer::with_interceptor(service, check))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(async move { server.await.unwrap() });
        Self { script, address, runtime: Some(runtime) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}

/// A script in which a submitted job goes through these states, and the stream ends as it should.
pub fn job_that(states: Vec<Job>) -> Script {
    let script = Script::default();
    *script.submit.lock().unwrap() = Some(Ok(job("job-1", "merge", "a.t", JobState::Queued)));
    script.watchings.lock().unwrap().push_back(Watching { jobs: states, end: End::Close });
    script
}

pub fn job(id: &str, kind: &str, name: &str, state: JobState) -> Job {
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let mut job = Job {
        id: id.into(),
        kind: kind.into(),
        name: name.into(),
        delta_version: -1,
        submitted_at: at(1_700_000_000),
        ..Default::default()
    };
    job.set_state(state);
    if !matches!(state, JobState::Queued | JobState::Skipped) {
        job.started_at = at(1_700_000_001);
    }
    if !matches!(state, JobState::Queued | JobState::Running) {
        job.ended_at = at(1_700_000_004);
    }
    if state == JobState::Succeeded {
        job.set_outcome(Outcome::Applied);
    }
    job
}

pub fn failed(id: &str, kind: &str, name: &str, code: &str, message: &str, hint: &str) -> Job {
    let error = v1::JobError { code: code.into(), message: message.into(), hint: hint.into() };
    Job { error: Some(error), ..job(id, kind, name, JobState::Failed) }
}

#[derive(Clone)]
struct Service(Arc<Script>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    #[allow(clippy::result_large_err)]
    fn job(&self, id: &str) -> Result<Response<Job>, Status> {
        let jobs = self.0.jobs.lock().unwrap();
        let job = jobs.get(id).cloned();
        job.map(Response::new).ok_or_else(|| {
            Status::not_found(format!(
                "⟦job-not-found there is no job `{id}`¦hint: `trireme jobs list` lists the jobs⟧"
            ))
        })
    }
}

#[tonic::async_trait]
impl Jobs for Service {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        self.0.submitted.lock().unwrap().extend(request.into_inner().spec);
        match self.0.submit.lock().unwrap().clone() {
            Some(answer) => Ok(Response::new(v1::SubmitResponse { job: Some(answer?) })),
            None => Err(Status::unimplemented("no submit in this test")),
        }
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<Job>, Status> {
        self.job(&request.get_ref().id)
    }

    async fn list(&self, _: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let mut jobs: Vec<_> = self.0.jobs.lock().unwrap().values().cloned().collect();
        jobs.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(Response::new(v1::ListJobsResponse { jobs }))
    }

    type WatchStream = Answers<v1::WatchJobResponse>;

    async fn watch(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let id = request.into_inner().id;
        self.0.watched.lock().unwrap().push(id.clone());
        let next = self.0.watchings.lock().unwrap().pop_front();
        let Some(watching) = next else {
            return Err(Status::not_found(format!("⟦job-not-found there is no job `{id}`⟧")));
        };
        let jobs = tokio_stream::iter(watching.jobs).map(|job| Ok(v1::WatchJobResponse { job: Some(job) }));
        Ok(Response::new(match watching.end {
            End::Close => Box::pin(jobs),
            End::Hang => Box::pin(jobs.chain(tokio_stream::pending())),
            End::Fail(status) => Box::pin(jobs.chain(tokio_stream::once(Err(status)))),
        }))
    }

    async fn cancel(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<Job>, Status> {
        let id = request.into_inner().id;
        self.0.cancelled.lock().unwrap().push(id.clone());
        self.job(&id).or_else(|_| Ok(Response::new(job(&id, "merge", "a.t", JobState::Cancelled))))
    }
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 500_000_000 })
}

#[tonic::async_trait]
impl Catalog for Service {
    async fn list_tables(&self, _: Request<v1::ListTablesRequest>) -> Result<Response<v1::ListTablesResponse>, Status> {
        let table = |name: &str, rows| v1::Table {
            name: name.into(),
            version: 3,
            rows,
            files: 2,
            bytes: 1_234_567,
            modified_at: at(1_700_000_000),
        };
        Ok(Response::new(v1::ListTablesResponse { tables: vec![table("a.known", 9652), table("a.unknown", -1)] }))
    }

    async fn describe_table(
        &self,
        request: Request<v1::DescribeTableRequest>,
    ) -> Result<Response<v1::DescribeTableResponse>, Status> {
        let name = request.into_inner().name;
        if name != "a.known" {
            return Err(Status::not_found(format!(
                "⟦table-not-found there is no table `{name}`¦hint: see `trireme tables list`⟧"
            )));
        }
        Ok(Response::new(v1::DescribeTableResponse {
            table: Some(v1::Table {
                name,
                version: 3,
                rows: 9652,
                files: 2,
                bytes: 1_234_567,
                modified_at: at(1_700_000_000),
            }),
            location: "s3://lake/tables/a/known".into(),
            columns: vec![
                v1::Column { name: "id".into(), r#type: "bigint".into(), nullable: false },
                v1::Column { name: "tags".into(), r#type: "array<string>".into(), nullable: true },
            ],
            properties: HashMap::from([("delta.appendOnly".to_string(), "false".to_string())]),
            min_reader_version: 3,
            min_writer_version: 7,
            ..Default::default()
        }))
    }

    async fn table_history(
        &self,
        request: Request<v1::TableHistoryRequest>,
    ) -> Result<Response<v1::TableHistoryResponse>, Status> {
        let commit = |version| v1::TableCommit {
            version,
            timestamp: at(1_700_000_000 + version),
            operation: "MERGE".into(),
            metrics: HashMap::from([("rows".to_string(), "7".to_string())]),
            engine: "trireme".into(),
            job: "job-1".into(),
            ..Default::default()
        };
        let limit = request.get_ref().limit as usize;
        Ok(Response::new(v1::TableHistoryResponse { commits: [2, 1, 0].into_iter().take(limit).map(commit).collect() }))
    }
}

#[tonic::async_trait]
impl Raw for Service {
    async fn list_sources(
        &self,
        _: Request<v1::ListSourcesRequest>,
    ) -> Result<Response<v1::ListSourcesResponse>, Status> {
        let source = v1::Source {
            name: "a.s".into(),
            current: "20261122T201533123Z".into(),
            versions: 2,
            bytes: 2_000,
            text_bytes: 20_000,
            copy_bytes: 1_000,
            skipped: 1,
        };
        Ok(Response::new(v1::ListSourcesResponse { sources: vec![source] }))
    }

    async fn list_versions(
        &self,
        _: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let version = v1::RawVersion {
            version: "20261122T201533123Z".into(),
            origin: "https://host/a\u{1b}[2Jb.csv".into(),
            format: v1::RawFormat::Csv.into(),
            bytes: 1_000,
            text_bytes: 10_000,
            copy_bytes: 500,
            compression: "gzip".into(),
            sha256: "0123456789abcdef".into(),
            splits: 1,
            current: true,
            downloaded_at: at(1_700_000_000),
            ..Default::default()
        };
        Ok(Response::new(v1::ListVersionsResponse { versions: vec![version] }))
    }

    async fn describe_version(
        &self,
        request: Request<v1::DescribeVersionRequest>,
    ) -> Result<Response<v1::SchemaReport>, Status> {
        let asked = request.into_inner();
        assert_eq!((asked.source.as_str(), asked.version.as_str()), ("a.s", ""));
        Ok(Response::new(schema_report()))
    }

    async fn mark_version(
        &self,
        request: Request<v1::MarkVersionRequest>,
    ) -> Result<Response<v1::MarkVersionResponse>, Status> {
        let told = format!("skipped: {}", request.into_inner().reason);
        Ok(Response::new(v1::MarkVersionResponse { mark: Some(v1::VersionMark { told, ..Default::default() }) }))
    }
}

/// What a version's columns are said to be.
fn schema_report() -> v1::SchemaReport {
    let kind = |kind: &str, values, line| v1::KindCount {
        kind: kind.into(),
        values,
        part: "part-00000.json".into(),
        offset: 10 * line,
        line,
    };
    let field = |path: &str, r#type: &str, kinds, conflict| v1::SchemaField {
        path: path.into(),
        r#type: r#type.into(),
        kinds,
        conflict,
    };
    v1::SchemaReport {
        source: "a.s".into(),
        version: "20261122T201533123Z".into(),
        fields: vec![
            field("id", "bigint", vec![kind("bigint", 2_000, 1)], false),
            field("o.size", "string", vec![kind("null", 1, 4), kind("bigint", 1_997, 1), kind("string", 2, 7)], true),
        ],
        previous: "20261121T201533123Z".into(),
        new_fields: vec!["o".into()],
        vanished_fields: vec!["size".into(), "x\u{1b}[2J".into()],
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Query for Service {
    type SqlStream = Answers<v1::SqlResponse>;

    async fn sql(&self, _: Request<v1::SqlRequest>) -> Result<Response<Self::SqlStream>, Status> {
        let (messages, end) = self.0.sql.lock().unwrap().clone();
        let messages = tokio_stream::iter(messages).map(|ipc| Ok(v1::SqlResponse { ipc }));
        Ok(Response::new(Box::pin(messages.chain(tokio_stream::iter(end.map(Err))))))
    }
}
