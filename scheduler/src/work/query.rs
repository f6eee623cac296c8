//! Read-only SQL over the catalog.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    logical_expr::LogicalPlan,
};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use trireme_engine::{Code, Error, Result, TableName, delta::catalog, sql};
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
    fn waits(&self, _: bool) {}
    fn discarded(&self, _: u32, _: &Error) {}
}

#[async_trait]
impl SqlRunner for Queries {
    async fn sql(&self, sql: &str) -> Result<Rows> {
        self.rows(sql).await.map_err(|error| match error.code {
            Code::InvalidSql if error.hint.is_empty() => error.hint(
                "one SELECT, EXPLAIN of one, or DESCRIBE of a table is run here; `trireme tables list` names them",
            ),
            _ => error,
        })
    }
}

impl Queries {
    async fn rows(&self, sql: &str) -> Result<Rows> {
        let statement = sql::parse_select(sql, "")?;
        if let Some(table) = statement.described_table() {
            return self.describe(table).await;
        }
        let (session, _) = self.worker.session_over(&sql::tables_read(&statement)?).await?;
        let plan = sql::plan_select(&session.state(), &statement).await?;
        let schema: SchemaRef = Arc::new(sql::result_schema(&session.state(), &plan)?);
        let local = matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::DescribeTable(_));
        let batches = if local {
            session.execute_logical_plan(plan).await?.collect().await?
        } else {
            // Dropped with this future when the caller goes away.
            let cancel = CancellationToken::new();
            let _gone = cancel.clone().drop_guard();
            let shared = Arc::new(session.clone());
            let run = async |plan| {
                Ok(self.worker.cluster.run("sql", shared.clone(), plan, &Unwatched, &cancel).await?.batches)
            };
            let plan = self.worker.with_medians(plan, &session, run).await?;
            run(sql::physical_plan(&session.state(), &plan).await?).await?
        };
        let schema = batches.first().map_or(schema, |batch| batch.schema());
        Ok(Rows { schema, batches: stream::iter(batches.into_iter().map(Ok)).boxed() })
    }

    /// A table's columns as Spark's DESCRIBE gives them.
    async fn describe(&self, name: &TableName) -> Result<Rows> {
        let described = catalog::describe(&catalog::open(&self.worker.storage, name).await?)?;
        let line = |column: &catalog::ColumnDescription| {
            [column.name.clone(), column.type_name.clone(), column.comment.clone().unwrap_or_default()]
        };
        let mut lines: Vec<[String; 3]> = described.columns.iter().map(line).collect();
        let head = |texts: [&str; 3]| texts.map(str::to_string);
        if !described.partition_columns.is_empty() {
            lines.push(head(["# Partition Information", "", ""]));
            lines.push(head(["# col_name", "data_type", "comment"]));
            let is_one = |column: &&catalog::ColumnDescription| described.partition_columns.contains(&column.name);
            lines.extend(described.columns.iter().filter(is_one).map(line));
        }
        let names = ["col_name", "data_type", "comment"];
        let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let column = |at: usize| -> ArrayRef {
            // Without a comment there is none.
            let text = |line: &[String; 3]| Some(line[at].clone()).filter(|text| at < 2 || !text.is_empty());
            Arc::new(lines.iter().map(text).collect::<StringArray>())
        };
        let batch = RecordBatch::try_new(schema.clone(), (0..names.len()).map(column).collect())?;
        Ok(Rows { schema, batches: stream::iter([Ok(batch)]).boxed() })
    }
}
