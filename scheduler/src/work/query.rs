//! Read-only SQL over the catalog.

use async_trait::async_trait;
use datafusion::{arrow::datatypes::SchemaRef, logical_expr::LogicalPlan};
use futures::stream;
use tokio_util::sync::CancellationToken;
use trireme_engine::{Error, Result, sql};
use trireme_proto::v1::Stage;

use super::Worker;
use crate::{
    cluster::Progress,
    service::{Answer, SqlRunner},
};

/// Runs SELECTs, each over the tables as they are at its start.
#[derive(Clone)]
pub struct Queries {
    worker: Worker,
}

impl Queries {
    /// Queries on the worker's cluster and storage.
    pub fn new(worker: Worker) -> Self {
        Self { worker }
    }
}

/// Nobody watches a query.
struct Unwatched;

impl Progress for Unwatched {
    fn stages(&self, _: u32, _: Vec<Stage>) {}
    fn discarded(&self, _: u32, _: &Error) {}
}
