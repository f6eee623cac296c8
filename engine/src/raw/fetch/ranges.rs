//! Large files in ranges: each is stored as an object beside the part, and one task then reads them in order as if they were the origin.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, buffered::BufWriter, path::Path};
use tokio::io::AsyncWriteExt;

use super::{Failure, FetchRequest, Incoming, Seen, Slice};
use crate::error::{Code, Error, Result};

/// Bytes that wait for an upload to be worth beginning.
const BUFFER: usize = 8 * 1024 * 1024;

impl FetchRequest {
    /// The requests that together fetch a file which was reported as large, in ranges of `range_size` bytes, and the one that joins them.
    pub fn in_ranges(&self, of: &Seen, range_size: u64) -> (Vec<Self>, Self) {
        let (length, size) = (of.length.unwrap_or(0), range_size.max(1));
        let slice = |(number, start): (u32, u64)| Slice::Range {
            number,
            start,
            end: length.min(start.saturating_add(size)),
            of: of.clone(),
        };
        let starts = (0..length).step_by(usize::try_from(size).unwrap_or(usize::MAX));
        let ranges: Vec<Self> = (0..).zip(starts).map(slice).map(|slice| Self { slice, ..self.clone() }).collect();
        let joined = Slice::Joined { ranges: u32::try_from(ranges.len()).unwrap_or(u32::MAX), of: of.clone() };
        (ranges, Self { slice: joined, ..self.clone() })
    }

    /// Removes the object that this range was stored in, once it is joined.
    pub async fn remove_range(&self, store: &dyn ObjectStore, folder: &Path) {
        let Slice::Range { number, .. } = &self.slice else { return };
        if let Err(error) = store.delete(&path(folder, self.part, *number)).await {
            tracing::warn!(%error, "a range of a download stays in storage; nothing refers to it");
        }
    }
}

/// Where a range is kept until it is joined.
pub(super) fn path(folder: &Path, part: u32, number: u32) -> Path {
    folder.clone().join(format!("part-{part:05}.range-{number:05}"))
}

/// Takes the bytes of one range.
pub(super) struct RangeSink {
    writer: BufWriter,
    bytes: u64,
}

impl RangeSink {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        let writer = BufWriter::with_capacity(store, path, BUFFER).with_max_concurrency(2);
        Self { writer, bytes: 0 }
    }

    /// Bytes taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.bytes += chunk.len() as u64;
        Ok(self.writer.put(chunk).await?)
    }

    pub async fn finish(mut self) -> Result<()> {
        self.writer.shutdown().await.map_err(|error| Error::new(Code::Storage, error.to_string()))
    }

    /// Leaves nothing behind.
    pub async fn abort(mut self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(%error, "an upload could not be aborted; it holds space in the store, but nothing refers to it");
        }
    }
}

/// The ranges of a part, one after the other.
pub(super) fn open(store: &Arc<dyn ObjectStore>, folder: &Path, part: u32, ranges: u32, of: &Seen) -> Incoming {
    let paths: Vec<Path> = (0..ranges).map(|number| path(folder, part, number)).collect();
    let store = store.clone();
    let failed = |error: object_store::Error| Failure::no_rest(format!("a stored range can't be read: {error}"));
    let body = futures::stream::iter(paths)
        .then(move |path| {
            let store = store.clone();
            async move { Ok::<_, Failure>(store.get(&path).await.map_err(failed)?.into_stream().map_err(failed)) }
        })
        .try_flatten();
    Incoming { seen: of.clone(), start: 0, ranges: false, body: body.boxed() }
}
