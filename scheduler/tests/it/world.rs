//! A scheduler with a scripted fake for the work, and the specs that tests submit.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use arrow::array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport::Channel};
use trireme_engine::{Code, Error, Result, SourceName, Storage, TableName};
use trireme_proto::v1::{self, job_spec::Spec, jobs_client::JobsClient};
use trireme_scheduler::{
    CatalogReader, Parts, RawReader, Rows, SqlRunner,
    auth::ApiToken,
    jobs::{JobHandle, JobOptions, JobRegistry, Promised, Subject, Work},
    serve,
};

/// What the fake does for a job.
#[derive(Clone)]
pub enum Act {
    /// Reports metrics, rows and an answer.
    Report,
    /// Tries to change what is not its own.
    Meddle,
    Fail(Error),
    Panic,
    /// Goes on when a permit is there; gives up when it is cancelled.
    Gate(Arc<Semaphore>),
    /// Never ends and does not listen.
    Deaf,
}

pub fn gate() -> (Arc<Semaphore>, Act) {
    let gate = Arc::new(Semaphore::new(0));
    (gate.clone(), Act::Gate(gate))
}

/// Work by script: jobs are named by their label (`merge of a.b`), and without a script they succeed.
pub struct Fake {
    script: Mutex<HashMap<String, Act>>,
    log: watch::Sender<Vec<String>>,
}

impl Fake {
    pub fn new(script: impl IntoIterator<Item = (&'static str, Act)>) -> Arc<Self> {
        let script = script.into_iter().map(|(label, act)| (label.to_string(), act)).collect();
        Arc::new(Self { script: Mutex::new(script), log: watch::Sender::new(Vec::new()) })
    }

    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Waits until the log has a line.
    pub async fn saw(&self, line: &str) {
        let mut log = self.log.subscribe();
        let seen = log.wait_for(|log| log.iter().any(|seen| seen == line));
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await.map(|_| ());
        seen.unwrap_or_else(|_| panic!("`{line}` is not in {:?}", self.log()));
    }
}

#[async_trait]
impl Work for Fake {
    async fn run(&self, spec: &v1::JobSpec, job: &JobHandle) -> Result<()> {
        let label = Subject::of(spec)?.to_string();
        self.log.send_modify(|log| log.push(format!("start {label}")));
        let act = self.script.lock().get(&label).cloned();
        match act {
            None => {}
            Some(Act::Report) => job.update(|job| {
                job.metrics = Some(v1::JobMetrics { rows_in: 7, ..Default::default() });
                job.set_outcome(v1::Outcome::Applied);
                job.answer = vec![1, 2, 3];
                job.answer_rows = 2;
                job.delta_version = 4;
            }),
            Some(Act::Meddle) => job.update(|job| {
                *job = v1::Job { id: "x".into(), phase: "meddles".into(), ..Default::default() };
                job.set_state(v1::JobState::Succeeded);
            }),
            Some(Act::Fail(error)) => return Err(error),
            Some(Act::Panic) => panic!("a tile fell off the roof"),
            Some(Act::Gate(gate)) => tokio::select! {
                permit = gate.acquire() => permit.unwrap().forget(),
                () = job.cancelled().cancelled() => return Err(Error::new(Code::Cancelled, "gave up")),
            },
            Some(Act::Deaf) => std::future::pending().await,
        }
        self.log.send_modify(|log| log.push(format!("end {label}")));
        Ok(())
    }

    async fn check(&self, spec: &v1::JobSpec, promised: &Promised) -> Result<()> {
        let source = match &spec.spec {
            Some(Spec::Load(load)) => load.spec.as_ref().unwrap().source.as_ref().unwrap(),
            Some(Spec::Merge(merge)) => merge.spec.as_ref().unwrap().source.as_ref().unwrap(),
            _ => return Ok(()),
        };
        let name: SourceName = source.source.parse()?;
        match promised.sources.contains(&name) || name.group == "known" {
            true => Ok(()),
            false => Err(Error::new(Code::SourceNotFound, format!("no source `{name}`"))),
        }
    }

    async fn reads(&self, question: &v1::Question) -> Result<BTreeSet<TableName>> {
        Ok(question.sql.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    }
}

#[async_trait]
impl CatalogReader for Fake {
    async fn list_tables(&self) -> Result<Vec<v1::Table>> {
        Ok(vec![v1::Table { name: "a.b".into(), ..Default::default() }])
    }

    async fn describe_table(&self, table: &TableName) -> Result<v1::DescribeTableResponse> {
        Err(Error::new(Code::TableNotFound, format!("no table `{table}`")).hint("x".repeat(100)))
    }

    async fn table_history(&self, _: &TableName, limit: usize) -> Result<Vec<v1::TableCommit>> {
        Ok(vec![v1::TableCommit::default(); limit])
    }
}

#[async_trait]
impl RawReader for Fake {
    async fn list_sources(&self) -> Result<Vec<v1::Source>> {
        Ok(vec![v1::Source { name: "a.b".into(), ..Default::default() }])
    }

    async fn list_versions(&self, source: &SourceName) -> Result<Vec<v1::RawVersion>> {
        Err(Error::new(Code::SourceNotFound, format!("no source `{source}`: {}", "é".repeat(20_000))))
    }

    async fn describe_version(
        &self,
        source: &SourceName,
        _: Option<&trireme_engine::RawVersion>,
    ) -> Result<v1::SchemaReport> {
        Ok(v1::SchemaReport { source: source.to_string(), ..Default::default() })
    }

    async fn mark_version(&self, request: &v1::MarkVersionRequest) -> Result<v1::VersionMark> {
        Ok(v1::VersionMark { reason: request.reason.clone(), ..Default::default() })
    }
}

/// Rows of the fake's answers in one batch, so that a batch is larger than a message.
pub const BATCH: usize = 300_000;

#[async_trait]
impl SqlRunner for Fake {
    /// `N batches` gives so many, `N rows` so many of one row; with ` then break` an error after them, with ` then hang` nothing more.
    async fn sql(&self, sql: &str) -> Result<Rows> {
        let count: usize = match sql.split_whitespace().next().and_then(|count| count.parse().ok()) {
            Some(count) => count,
            None => return Err(Error::new(Code::InvalidSql, format!("`{sql}` is not SQL"))),
        };
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let of_batch = schema.clone();
        let rows = if sql.contains("rows") { 1 } else { BATCH };
        let batches = stream::iter(0..count).map(move |at| {
            let first = i64::try_from(at * rows).unwrap();
            let numbers = Int64Array::from_iter_values(first..first + i64::try_from(rows).unwrap());
            Ok(RecordBatch::try_new(of_batch.clone(), vec![Arc::new(numbers)])?)
        });
        let batches = match sql.split_once(" then ") {
            Some((_, "break")) => {
                let broken = Error::new(Code::BadValue, "row 9 is bad");
                batches.chain(stream::iter([Err(broken)])).boxed()
            }
            Some((_, "hang")) => batches.chain(stream::pending()).boxed(),
            _ => batches.boxed(),
        };
        Ok(Rows { schema, batches })
    }
}

/// A scheduler that serves on a port of its own.
pub struct World {
    pub fake: Arc<Fake>,
    pub channel: Channel,
    pub executors: watch::Sender<usize>,
    shutdown: CancellationToken,
    served: JoinHandle<Result<()>>,
}

pub fn options() -> JobOptions {
    JobOptions { cancel_grace: Duration::from_millis(200), ..JobOptions::default() }
}

impl World {
    pub async fn start(folder: &Path, fake: Arc<Fake>) -> Self {
        Self::start_with(folder, fake, options(), None).await
    }

    pub async fn start_with(folder: &Path, fake: Arc<Fake>, options: JobOptions, token: Option<ApiToken>) -> Self {
        let storage = Storage::open(folder.to_str().unwrap()).unwrap();
        let executors = watch::Sender::new(1);
        let jobs = JobRegistry::open(storage, fake.clone(), executors.subscribe(), options).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let parts = Parts {
            jobs,
            catalog: fake.clone(),
            raw: fake.clone(),
            sql: fake.clone(),
            executors: executors.subscribe(),
            min_executors: 2,
            token,
        };
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, parts, shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { fake, channel, executors, shutdown, served }
    }

    /// Stops the scheduler as SIGTERM does.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
    }

    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    pub fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone())
    }

    pub async fn submit(&self, spec: Spec) -> Result<v1::Job, Status> {
        let request = v1::SubmitRequest { spec: Some(v1::JobSpec { spec: Some(spec) }) };
        Ok(self.jobs().submit(request).await?.into_inner().job.unwrap())
    }

    /// Submits what is known to be accepted; returns its id.
    pub async fn accepted(&self, spec: Spec) -> String {
        self.submit(spec).await.unwrap().id
    }

    /// Submits what is known to be refused; returns the error.
    pub async fn refused(&self, spec: Spec) -> Error {
        let status = self.submit(spec).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
        Error::find_in(status.message()).unwrap()
    }

    pub async fn get(&self, id: &str) -> v1::Job {
        self.jobs().get(v1::GetJobRequest { id: id.into() }).await.unwrap().into_inner()
    }

    pub async fn list(&self, limit: u32, include_parts: bool) -> Vec<v1::Job> {
        let request = v1::ListJobsRequest { limit, include_parts };
        self.jobs().list(request).await.unwrap().into_inner().jobs
    }

    pub async fn cancel(&self, id: &str) -> v1::Job {
        self.jobs().cancel(v1::CancelJobRequest { id: id.into() }).await.unwrap().into_inner()
    }

    pub async fn watch(&self, id: &str) -> stream::BoxStream<'static, Result<v1::Job, Status>> {
        let request = Request::new(v1::WatchJobRequest { id: id.into() });
        let stream = self.jobs().watch(request).await.unwrap().into_inner();
        stream.map(|message| message.map(|message| message.job.unwrap())).boxed()
    }

    /// All that a watcher sees, to the end.
    pub async fn watched(&self, id: &str) -> Vec<v1::Job> {
        let seen = self.watch(id).await.collect::<Vec<_>>();
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await.expect("the job does not end");
        seen.into_iter().map(Result::unwrap).collect()
    }

    /// The job when it has ended.
    pub async fn ended(&self, id: &str) -> v1::Job {
        self.watched(id).await.pop().unwrap()
    }

    /// Waits until the job's phase begins with a text.
    pub async fn in_phase(&self, id: &str, phase: &str) {
        let mut seen = self.watch(id).await;
        let wait = async { while !seen.next().await.unwrap().unwrap().phase.starts_with(phase) {} };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("not in phase {phase}"));
    }
}

pub fn download(source: &str) -> Spec {
    Spec::Download(download_at(source, 0))
}

pub fn download_at(source: &str, line: u32) -> v1::Download {
    v1::Download { source: source.into(), from: "ftp://x/y.json".into(), location: at(line), ..Default::default() }
}

pub fn merge(table: &str, source: &str) -> Spec {
    Spec::Merge(merge_at(table, source, 0))
}

pub fn merge_at(table: &str, source: &str, line: u32) -> v1::Merge {
    let source = v1::SourceRef { source: source.into(), ..Default::default() };
    let spec = v1::TableSpec { table: table.into(), source: Some(source), location: at(line), ..Default::default() };
    v1::Merge { spec: Some(spec) }
}

pub fn question(table: &str, sql: &str) -> Spec {
    Spec::Question(question_at(table, sql, 0))
}

pub fn question_at(table: &str, sql: &str, line: u32) -> v1::Question {
    v1::Question { table: table.into(), sql: sql.into(), location: at(line), ..Default::default() }
}

fn at(line: u32) -> Option<v1::Location> {
    (line > 0).then(|| v1::Location { file: "p.yaml".into(), line, column: 3 })
}
