//! Where the bytes of a download go: hashed, scanned and uploaded in parts.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart, path::Path};
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    raw::{
        manifest::{Part, RawFormat},
        scanner::Scanner,
        zone::RawZone,
    },
};

/// Size of an upload's parts; so many of them may be under way.
const UPLOAD_PART: usize = 8 * 1024 * 1024;
const UPLOADS: usize = 2;

/// Bytes after which a format is told.
const ENOUGH_TO_TELL: usize = 4096;

/// Takes the bytes of one part.
pub(super) struct PartSink {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    part: u32,
    format: Option<RawFormat>,
    split_size: u64,
    scanner: Option<Scanner>,
    hash: Sha256,
    bytes: u64,
    /// What came before an upload was worth beginning.
    first: BytesMut,
    upload: Option<WriteMultipart>,
}

impl PartSink {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        folder: Path,
        part: u32,
        format: Option<RawFormat>,
        split_size: u64,
    ) -> Self {
        Self {
            store,
            folder,
            part,
            format,
            split_size,
            scanner: None,
            hash: Sha256::new(),
            bytes: 0,
            first: BytesMut::new(),
            upload: None,
        }
    }

    /// Bytes taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.hash.update(&chunk);
        self.bytes += chunk.len() as u64;
        if let Some(scanner) = &mut self.scanner {
            scanner.feed(&chunk);
        }
        if let Some(upload) = &mut self.upload {
            upload.wait_for_capacity(UPLOADS).await?;
            upload.put(chunk);
            return Ok(());
        }
        self.first.extend_from_slice(&chunk);
        if self.scanner.is_none() && self.first.len() >= ENOUGH_TO_TELL {
            self.begin_scan();
        }
        if self.first.len() >= UPLOAD_PART {
            let upload = self.store.put_multipart(&self.path()).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, UPLOAD_PART);
            upload.put(self.first.split().freeze());
            self.upload = Some(upload);
        }
        Ok(())
    }

    /// Stores the rest; what the manifest says of the part.
    pub async fn finish(mut self) -> Result<(Part, RawFormat)> {
        let format = self.begin_scan();
        let path = self.path();
        match self.upload.take() {
            // On an error it aborts by itself.
            Some(upload) => upload.finish().await.map(drop)?,
            None => {
                let first = self.first.split().freeze();
                self.store.put(&path, PutPayload::from_bytes(first)).await.map(drop)?;
            }
        }
        let stored = self.store.head(&path).await?.size;
        if stored != self.bytes {
            let _ = self.store.delete(&path).await;
            let message = format!("{path} was stored with {stored} of {} bytes", self.bytes);
            return Err(Error::new(crate::Code::Storage, message));
        }
        let scan = self.scanner.map(Scanner::finish);
        let (layout, splits, records) =
            scan.map_or((None, Vec::new(), None), |scan| (scan.layout, scan.splits, scan.records));
        let sha256 = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let path = RawZone::part_name(self.part, format);
        let part = Part { path, bytes: self.bytes, sha256, layout, splits, records, delivered: None };
        Ok((part, format))
    }

    /// Leaves nothing behind.
    pub async fn abort(mut self) {
        if let Some(upload) = self.upload.take()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%error, "an upload could not be aborted; it holds space in the store, but nothing refers to it");
        }
    }

    /// Settles the format and scans what came so far.
    fn begin_scan(&mut self) -> RawFormat {
        let format = *self.format.get_or_insert_with(|| RawFormat::of_first_bytes(&self.first));
        if self.scanner.is_none() {
            let mut scanner = Scanner::new(format, self.split_size);
            scanner.feed(&self.first);
            self.scanner = Some(scanner);
        }
        format
    }

    fn path(&self) -> Path {
        let format = self.format.unwrap_or(RawFormat::Csv);
        self.folder.clone().join(RawZone::part_name(self.part, format))
    }
}
