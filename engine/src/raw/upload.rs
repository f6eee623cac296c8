//! An object under construction, with memory bounded whatever its size.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart, path::Path};

use crate::error::{Code, Error, Result};

/// Size of an upload's parts; so many of them may be under way.
const UPLOAD_PART: usize = 8 * 1024 * 1024;
const UPLOADS: usize = 2;

/// Takes an object's bytes; it exists once [`Upload::finish`] says so.
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
    /// What came before a multipart upload was worth beginning.
    first: BytesMut,
    parts: Option<WriteMultipart>,
}

impl Upload {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { store, path, bytes: 0, first: BytesMut::new(), parts: None }
    }

    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.bytes += chunk.len() as u64;
        if let Some(parts) = &mut self.parts {
            parts.wait_for_capacity(UPLOADS).await?;
            parts.put(chunk);
            return Ok(());
        }
        self.first.extend_from_slice(&chunk);
        if self.first.len() >= UPLOAD_PART {
            let parts = self.store.put_multipart(&self.path).await?;
            let mut parts = WriteMultipart::new_with_chunk_size(parts, UPLOAD_PART);
            parts.put(self.first.split().freeze());
            self.parts = Some(parts);
        }
        Ok(())
    }

    /// Stores the rest, and looks whether all of it is there; the length.
    pub async fn finish(mut self) -> Result<u64> {
        match self.parts.take() {
            // On an error it aborts by itself.
            Some(parts) => parts.finish().await.map(drop)?,
            None => {
                let first = self.first.split().freeze();
                self.store.put(&self.path, PutPayload::from_bytes(first)).await.map(drop)?;
            }
        }
        let stored = self.store.head(&self.path).await?.size;
        if stored != self.bytes {
            let _ = self.store.delete(&self.path).await;
            let message = format!("{} was stored with {stored} of {} bytes", self.path, self.bytes);
            return Err(Error::new(Code::Storage, message));
        }
        Ok(stored)
    }

    /// Leaves nothing behind.
    pub async fn abort(self) {
        if let Some(parts) = self.parts
            && let Err(error) = parts.abort().await
        {
            tracing::warn!(%error, "an upload could not be aborted; it holds space in the store, but nothing refers to it");
        }
    }
}
