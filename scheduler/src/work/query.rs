//! Read-only SQL over the catalog.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{arrow::datatypes::SchemaRef, logical_expr::LogicalPlan};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use trireme_engine::{Code, Error, Result, sql};
use trireme_proto::v1::Stage;

use super::Worker;
use crate::{
    cluster::Progress,
    service::{Rows, SqlRunner},
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

#[async_trait]
impl SqlRunner for Queries {
    async fn sql(&self, sql: &str) -> Result<Rows> {
        self.rows(sql).await.map_err(|error| match error.code {
            Code::InvalidSql if error.hint.is_empty() => {
                error.hint("one SELECT, or EXPLAIN of one, over the catalog's tables is run here; `trireme tables list` names them")
            }
            _ => error,
        })
    }
}

impl Queries {
    async fn rows(&self, sql: &str) -> Result<Rows> {
        let statement = sql::parse_select(sql, "")?;
        let (session, _) = self.worker.session_over(&sql::tables_read(&statement)?).await?;
        let plan = sql::plan_select(&session.state(), &statement).await?;
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        let local = matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::DescribeTable(_));
        let batches = if local {
            session.execute_logical_plan(plan).await?.collect().await?
        } else {
            let physical = session.state().create_physical_plan(&plan).await?;
            // Dropped with this future when the caller goes away.
            let cancel = CancellationToken::new();
            let _gone = cancel.clone().drop_guard();
            self.worker.cluster.run("sql", Arc::new(session), physical, &Unwatched, &cancel).await?.batches
        };
        let schema = batches.first().map_or(schema, |batch| batch.schema());
        Ok(Rows { schema, batches: stream::iter(batches.into_iter().map(Ok)).boxed() })
    }
}
