//! Where the bytes of a download go: stored as they are, and looked into on the way.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::{ObjectStore, ObjectStoreExt};

use crate::{
    error::Result,
    raw::{
        intake::{CopyPolicy, Intake},
        manifest::{Part, RawFormat},
        packed::TextPlan,
        upload::Upload,
        zone::RawZone,
    },
    storage::in_folder,
};

/// Takes the bytes of one delivered file.
pub(super) struct PartSink {
    store: Arc<dyn ObjectStore>,
    plan: TextPlan,
    intake: Intake,
    /// What came before the file's name was told.
    first: BytesMut,
    upload: Option<(String, Upload)>,
}

impl PartSink {
    /// Of a file that comes from `origin`, by this name.
    pub fn new(plan: TextPlan, origin: String, name: &str, policy: CopyPolicy) -> Self {
        // The copy of `part-00000.json.zst` needs another name.
        let stem = match name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()) {
            Some(extension) if extension.starts_with("zst") => format!("{}-seekable", plan.stem),
            _ => plan.stem.clone(),
        };
        let intake = Intake::new(TextPlan { stem, ..plan.clone() }, origin, name, policy);
        Self { store: plan.store.clone(), plan, intake, first: BytesMut::new(), upload: None }
    }

    /// Bytes taken.
    pub fn bytes(&self) -> u64 {
        self.intake.bytes()
    }

    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.intake.write(&chunk).await?;
        if let Some((_, upload)) = &mut self.upload {
            return upload.write(chunk).await;
        }
        self.first.extend_from_slice(&chunk);
        self.begin().await
    }

    /// Begins to store once the name is told.
    async fn begin(&mut self) -> Result<()> {
        let Some((format, compression)) = self.intake.told() else { return Ok(()) };
        let name = RawZone::part_name(&self.plan.stem, format, compression);
        let mut upload = Upload::new(self.store.clone(), in_folder(&self.plan.folder, &name));
        upload.write(self.first.split().freeze()).await?;
        self.upload = Some((name, upload));
        Ok(())
    }

    /// Stores the rest; what the manifest says of it. Nothing is left on an error.
    pub async fn finish(mut self) -> Result<(Vec<Part>, RawFormat)> {
        if let Err(error) = self.intake.end().await {
            self.abort().await;
            return Err(error);
        }
        if self.upload.is_none()
            && let Err(error) = self.begin().await
        {
            self.abort().await;
            return Err(error);
        }
        let Some((name, upload)) = self.upload.take() else {
            return Err(crate::Error::new(crate::Code::Internal, "a part without a name"));
        };
        if let Err(error) = upload.finish().await {
            self.intake.discard().await;
            return Err(error);
        }
        let parts = self.intake.parts(&name).await;
        if parts.is_err() {
            let _ = self.store.delete(&in_folder(&self.plan.folder, &name)).await;
        }
        parts
    }

    /// Leaves nothing behind.
    pub async fn abort(self) {
        if let Some((_, upload)) = self.upload {
            upload.abort().await;
        }
        self.intake.discard().await;
    }
}
