//! The `Query` service: SQL in, an Arrow IPC stream out.

use std::{collections::VecDeque, sync::Arc};

use arrow::{error::ArrowError, ipc::writer::StreamEncoder};
use datafusion::arrow::buffer::Buffer;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};
use trireme_engine::{Code, Error};
use trireme_proto::v1::{SqlRequest, SqlResponse, query_server::Query};

use super::{Rows, SqlRunner, jobs::until, status};

/// Bytes of an IPC stream in one message.
const CHUNK: usize = 1 << 20;
/// Queries that run at one time.
const MOST_QUERIES: usize = 32;

pub struct Service {
    sql: Arc<dyn SqlRunner>,
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Service {
    pub fn new(sql: Arc<dyn SqlRunner>, shutdown: CancellationToken) -> Self {
        Self { sql, slots: Arc::new(Semaphore::new(MOST_QUERIES)), shutdown }
    }
}

#[async_trait]
impl Query for Service {
    type SqlStream = BoxStream<'static, Result<SqlResponse, Status>>;

    async fn sql(&self, request: Request<SqlRequest>) -> Result<Response<Self::SqlStream>, Status> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| {
            let error = Error::new(Code::ResourcesExhausted, format!("{MOST_QUERIES} queries run already"));
            status(error.hint("try again when one has ended"))
        })?;
        let rows = self.sql.sql(&request.get_ref().sql).await.map_err(|error| {
            log(&error);
            status(error)
        })?;
        let answer = Answer::new(rows, slot).map_err(|error| status(error.into()))?;
        let messages = stream::try_unfold(answer, |mut answer| async move {
            let next = answer.next().await?;
            Ok(next.map(|ipc| (SqlResponse { ipc }, answer)))
        });
        Ok(Response::new(until(messages.boxed(), self.shutdown.clone())))
    }
}

/// What is the scheduler's failure is an error in its log; what is wrong with the SQL is its caller's business.
fn log(error: &Error) {
    let (code, message) = (error.code.as_str(), error.message.as_str());
    match error.code {
        Code::InvalidSql | Code::InvalidSpec | Code::TableNotFound => {
            tracing::info!(code, message, "a query is refused")
        }
        _ => tracing::error!(code, message, "a query failed"),
    }
}

/// An answer on its way, encoded as far as it was asked for.
struct Answer {
    rows: Rows,
    /// None when all is encoded.
    encoder: Option<StreamEncoder>,
    /// Encoded, not sent.
    encoded: VecDeque<Buffer>,
    _slot: OwnedSemaphorePermit,
}

impl Answer {
    fn new(rows: Rows, slot: OwnedSemaphorePermit) -> Result<Self, ArrowError> {
        let encoder = Some(StreamEncoder::try_new(&rows.schema)?);
        Ok(Self { rows, encoder, encoded: VecDeque::new(), _slot: slot })
    }

    /// The next bytes, at most [`CHUNK`]. What one batch gave is not held back for the next.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        while self.encoded.is_empty() {
            let Some(encoder) = &mut self.encoder else { return Ok(None) };
            let buffers = match self.rows.batches.next().await {
                Some(batch) => encoder.encode(&batch.map_err(status)?),
                None => self.encoder.take().map_or(Ok(Vec::new()), StreamEncoder::finish),
            };
            self.encoded = buffers.map_err(|error| status(error.into()))?.into();
        }
        let mut chunk = Vec::new();
        while let Some(buffer) = self.encoded.front_mut() {
            let take = buffer.len().min(CHUNK - chunk.len());
            chunk.extend_from_slice(&buffer[..take]);
            buffer.advance(take);
            if !buffer.is_empty() {
                break;
            }
            self.encoded.pop_front();
        }
        Ok(Some(chunk))
    }
}
