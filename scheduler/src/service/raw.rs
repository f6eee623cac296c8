//! The `Raw` service.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use trireme_proto::v1::{
    DescribeVersionRequest, ListSourcesRequest, ListSourcesResponse, ListVersionsRequest, ListVersionsResponse,
    MarkVersionRequest, MarkVersionResponse, SchemaReport, raw_server::Raw,
};

use super::{RawReader, status};

pub struct Service(pub Arc<dyn RawReader>);

#[async_trait]
impl Raw for Service {
    async fn list_sources(&self, _: Request<ListSourcesRequest>) -> Result<Response<ListSourcesResponse>, Status> {
        let sources = self.0.list_sources().await.map_err(status)?;
        Ok(Response::new(ListSourcesResponse { sources }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let source = request.get_ref().source.parse().map_err(status)?;
        let versions = self.0.list_versions(&source).await.map_err(status)?;
        Ok(Response::new(ListVersionsResponse { versions }))
    }

    async fn describe_version(
        &self,
        request: Request<DescribeVersionRequest>,
    ) -> Result<Response<SchemaReport>, Status> {
        let DescribeVersionRequest { source, version } = request.get_ref();
        let source = source.parse().map_err(status)?;
        let version = (!version.is_empty()).then(|| version.parse()).transpose().map_err(status)?;
        let report = self.0.describe_version(&source, version.as_ref()).await.map_err(status)?;
        Ok(Response::new(report))
    }

    async fn mark_version(
        &self,
        request: Request<MarkVersionRequest>,
    ) -> Result<Response<MarkVersionResponse>, Status> {
        let mark = self.0.mark_version(request.get_ref()).await.map_err(status)?;
        Ok(Response::new(MarkVersionResponse { mark: Some(mark) }))
    }
}
