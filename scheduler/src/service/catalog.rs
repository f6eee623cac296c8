//! The `Catalog` service.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use trireme_proto::v1::{
    DescribeTableRequest, DescribeTableResponse, ListTablesRequest, ListTablesResponse, TableHistoryRequest,
    TableHistoryResponse, catalog_server::Catalog,
};

use super::{CatalogReader, status};

const DEFAULT_LIMIT: u32 = 50;

pub struct Service(pub Arc<dyn CatalogReader>);

#[async_trait]
impl Catalog for Service {
    async fn list_tables(&self, _: Request<ListTablesRequest>) -> Result<Response<ListTablesResponse>, Status> {
        let tables = self.0.list_tables().await.map_err(status)?;
        Ok(Response::new(ListTablesResponse { tables }))
    }

    async fn describe_table(
        &self,
        request: Request<DescribeTableRequest>,
    ) -> Result<Response<DescribeTableResponse>, Status> {
        let table = request.get_ref().name.parse().map_err(status)?;
        Ok(Response::new(self.0.describe_table(&table).await.map_err(status)?))
    }

    async fn table_history(
        &self,
        request: Request<TableHistoryRequest>,
    ) -> Result<Response<TableHistoryResponse>, Status> {
        let request = request.get_ref();
        let table = request.name.parse().map_err(status)?;
        let limit = if request.limit == 0 { DEFAULT_LIMIT } else { request.limit };
        let commits = self.0.table_history(&table, limit as usize).await.map_err(status)?;
        Ok(Response::new(TableHistoryResponse { commits }))
    }
}
