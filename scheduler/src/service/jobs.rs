//! The `Jobs` service.

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code as GrpcCode, Request, Response, Status, async_trait};
use trireme_engine::Error;
use trireme_proto::v1::{
    CancelJobRequest, GetJobRequest, Job, ListJobsRequest, ListJobsResponse, SubmitRequest, SubmitResponse,
    WatchJobRequest, WatchJobResponse, jobs_server::Jobs,
};

use super::{status, stopping};
use crate::jobs::JobRegistry;

const DEFAULT_LIMIT: usize = 50;

pub struct Service {
    jobs: JobRegistry,
    shutdown: CancellationToken,
}

impl Service {
    pub fn new(jobs: JobRegistry, shutdown: CancellationToken) -> Self {
        Self { jobs, shutdown }
    }
}

/// What names no source, table or version is an error of the spec, not of a look-up.
fn refused(error: Error) -> Status {
    let not_found = error.code.grpc() == GrpcCode::NotFound;
    let status = status(error);
    if not_found { Status::invalid_argument(status.message()) } else { status }
}

#[async_trait]
impl Jobs for Service {
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let spec = request.into_inner().spec.unwrap_or_default();
        let job = self.jobs.submit(spec).await.map_err(refused)?;
        Ok(Response::new(SubmitResponse { job: Some(job.as_ref().clone()) }))
    }

    async fn get(&self, request: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        let id = request.get_ref().id.parse().map_err(status)?;
        let job = self.jobs.get(&id).await.map_err(status)?;
        Ok(Response::new(job.as_ref().clone()))
    }

    async fn list(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let request = request.get_ref();
        let limit = match usize::try_from(request.limit) {
            Ok(0) => DEFAULT_LIMIT,
            Ok(limit) => limit,
            Err(_) => usize::MAX,
        };
        Ok(Response::new(ListJobsResponse { jobs: self.jobs.list(limit, request.include_parts) }))
    }

    type WatchStream = BoxStream<'static, Result<WatchJobResponse, Status>>;

    async fn watch(&self, request: Request<WatchJobRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let id = request.get_ref().id.parse().map_err(status)?;
        let jobs = self.jobs.watch(&id).await.map_err(status)?;
        let seen = jobs.map(|job| Ok(WatchJobResponse { job: Some(job.as_ref().clone()) }));
        Ok(Response::new(until(seen.boxed(), self.shutdown.clone())))
    }

    async fn cancel(&self, request: Request<CancelJobRequest>) -> Result<Response<Job>, Status> {
        let id = request.get_ref().id.parse().map_err(status)?;
        let job = self.jobs.cancel(&id).await.map_err(status)?;
        Ok(Response::new(job.as_ref().clone()))
    }
}

/// A stream that ends with UNAVAILABLE when the scheduler stops before it has ended.
pub(super) fn until<T: Send + 'static>(
    items: BoxStream<'static, Result<T, Status>>,
    shutdown: CancellationToken,
) -> BoxStream<'static, Result<T, Status>> {
    stream::unfold(Some((items, shutdown)), |state| async move {
        let (mut items, shutdown) = state?;
        let next = tokio::select! {
            biased;
            next = items.next() => next,
            () = shutdown.cancelled() => return Some((Err(stopping()), None)),
        };
        Some((next?, Some((items, shutdown))))
    })
    .boxed()
}
