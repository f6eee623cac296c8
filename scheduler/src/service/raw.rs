//! The `Raw` service.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use trireme_proto::v1::{
    ListSourcesRequest, ListSourcesResponse, ListVersionsRequest, ListVersionsResponse, raw_server::Raw,
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
}
