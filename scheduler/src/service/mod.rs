//! The public API: `trireme.v1`'s services, gRPC health and reflection on one listener.

mod catalog;
mod health;
mod jobs;
mod query;
mod raw;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use datafusion::arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::stream::BoxStream;
use tokio::{net::TcpListener, sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    service::interceptor::InterceptedService,
    transport::{Server, server::TcpIncoming},
};
use trireme_engine::{Code, Error, Result, SourceName, TableName};
use trireme_proto::v1::{
    DescribeTableResponse, MarkVersionRequest, RawVersion, SchemaReport, Source, Table, TableCommit, VersionMark,
    catalog_server::CatalogServer, jobs_server::JobsServer, query_server::QueryServer, raw_server::RawServer,
};

use crate::{
    auth::{ApiToken, Guard},
    jobs::JobRegistry,
};

/// Largest message taken and given, in bytes.
const LARGEST_MESSAGE: usize = 64 << 20;
/// Requests of one connection that are answered at one time, and streams that it may have open.
const REQUESTS_PER_CONNECTION: usize = 64;
const STREAMS_PER_CONNECTION: u32 = 256;
/// A connection whose peer does not answer a ping within the timeout is closed.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Time that requests under way have when the scheduler stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Longest error message in a status, in bytes: it travels in a header, percent-encoded, and peers limit headers to 16 KiB.
const LONGEST_MESSAGE: usize = 3000;

/// The tables under the storage root.
#[async_trait]
pub trait CatalogReader: Send + Sync + 'static {
    /// All tables, by name.
    async fn list_tables(&self) -> Result<Vec<Table>>;
    /// One table. Errors: `TableNotFound`.
    async fn describe_table(&self, table: &TableName) -> Result<DescribeTableResponse>;
    /// A table's last commits, newest first. Errors: `TableNotFound`.
    async fn table_history(&self, table: &TableName, limit: usize) -> Result<Vec<TableCommit>>;
}

/// The raw zone.
#[async_trait]
pub trait RawReader: Send + Sync + 'static {
    /// All sources, by name.
    async fn list_sources(&self) -> Result<Vec<Source>>;
    /// A source's versions, newest first. Errors: `SourceNotFound`.
    async fn list_versions(&self, source: &SourceName) -> Result<Vec<RawVersion>>;
    /// The columns of a version, the current one by default. Errors: `SourceNotFound`, `VersionNotFound`.
    async fn describe_version(
        &self,
        source: &SourceName,
        version: Option<&trireme_engine::RawVersion>,
    ) -> Result<SchemaReport>;
    /// Says what is to become of a version. Errors: `SourceNotFound`, `VersionNotFound`, `InvalidSpec` where it can't be said.
    async fn mark_version(&self, request: &MarkVersionRequest) -> Result<VersionMark>;
}

/// Read-only SQL.
#[async_trait]
pub trait SqlRunner: Send + Sync + 'static {
    /// Runs one SELECT, or an EXPLAIN of one. The work stops when the rows are dropped. Errors: `InvalidSql`.
    async fn sql(&self, sql: &str) -> Result<Rows>;
}

/// An answer that comes batch by batch.
pub struct Rows {
    /// Of all batches; known even when there are none.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

/// What the API is served from.
pub struct Parts {
    /// The jobs, read from the journal.
    pub jobs: JobRegistry,
    /// The catalog.
    pub catalog: Arc<dyn CatalogReader>,
    /// The raw zone.
    pub raw: Arc<dyn RawReader>,
    /// SQL.
    pub sql: Arc<dyn SqlRunner>,
    /// Number of executors that live.
    pub executors: watch::Receiver<usize>,
    /// Number of them from which on `trireme.executors` is healthy.
    pub min_executors: usize,
    /// Asked of all callers but those of the health service, if there is one.
    pub token: Option<ApiToken>,
}

/// Serves the API until `shutdown`; then ends streams with UNAVAILABLE, gives requests under way some time, and stops the jobs, which
/// the next scheduler goes on with.
pub async fn serve(listener: TcpListener, parts: Parts, shutdown: CancellationToken) -> Result<()> {
    let jobs = parts.jobs.clone();
    let api = async {
        let served = serve_api(listener, parts, &shutdown).await;
        shutdown.cancel();
        served
    };
    let work = async {
        shutdown.cancelled().await;
        jobs.stop().await;
    };
    tokio::join!(api, work).0
}

async fn serve_api(listener: TcpListener, parts: Parts, shutdown: &CancellationToken) -> Result<()> {
    let guard = Guard::new(parts.token);
    macro_rules! service {
        ($server:ident, $service:expr) => {
            InterceptedService::new(
                $server::new($service)
                    .max_decoding_message_size(LARGEST_MESSAGE)
                    .max_encoding_message_size(LARGEST_MESSAGE),
                guard.clone(),
            )
        };
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(trireme_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let router = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(health::service(parts.executors, parts.min_executors, shutdown.clone()).await)
        .add_service(InterceptedService::new(reflection, guard.clone()))
        .add_service(service!(JobsServer, jobs::Service::new(parts.jobs, shutdown.clone())))
        .add_service(service!(CatalogServer, catalog::Service(parts.catalog)))
        .add_service(service!(RawServer, raw::Service(parts.raw)))
        .add_service(service!(QueryServer, query::Service::new(parts.sql, shutdown.clone())));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(PING_EVERY));
    let too_long = async {
        shutdown.cancelled().await;
        sleep(DRAIN).await;
    };
    tokio::select! {
        served = router.serve_with_incoming_shutdown(incoming, shutdown.cancelled()) => {
            served.map_err(|error| Error::new(Code::Internal, format!("the API's listener failed: {error}")))
        }
        () = too_long => {
            tracing::warn!("requests were still under way when the scheduler stopped");
            Ok(())
        }
    }
}

/// An error as a status whose message fits into a header.
fn status(mut error: Error) -> Status {
    if error.message.len() > LONGEST_MESSAGE {
        let end = (0..=LONGEST_MESSAGE).rev().find(|at| error.message.is_char_boundary(*at)).unwrap_or(0);
        error.message.truncate(end);
        error.message.push('…');
    }
    error.into()
}

/// The end of a stream that a stopping scheduler breaks off.
fn stopping() -> Status {
    Error::new(Code::WorkLost, "the scheduler is stopping").hint("connect again when it is back").into()
}
