//! The job journal: `jobs/<id>.json` below the storage root, so that a scheduler can die and the next one goes on.

use futures::{Stream, StreamExt, TryStreamExt, stream};
use object_store::{ObjectStoreExt, path::Path};
use trireme_engine::{Error, Result, Storage};

use super::{
    id::{JobId, unknown},
    record::Record,
};

/// Objects read, written or removed at one time.
const SIDE_BY_SIDE: usize = 32;

/// Reads and writes the journal. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    storage: Storage,
}

impl Journal {
    pub fn new(storage: Storage) -> Self {
        Self { storage }
    }

    fn path(&self, id: &JobId) -> Path {
        self.storage.path(&format!("jobs/{id}.json"))
    }

    /// Writes a job's record over its last one.
    pub async fn write(&self, id: &JobId, record: &Record) -> Result<()> {
        self.storage.store().put(&self.path(id), record.write()?.into()).await?;
        Ok(())
    }

    /// Writes records side by side.
    pub async fn write_all<'a>(&self, records: impl IntoIterator<Item = (&'a JobId, &'a Record)>) -> Result<()> {
        let writes = records.into_iter().map(|(id, record)| self.write(id, record)).collect::<Vec<_>>();
        stream::iter(writes).buffer_unordered(SIDE_BY_SIDE).try_collect().await
    }

    /// A job's record. Errors: `JobNotFound`, `Internal` for an object that is no record, `Storage` when it can't be told.
    pub async fn read(&self, id: &JobId) -> Result<Record> {
        let path = self.path(id);
        let bytes = match self.storage.store().get(&path).await {
            Ok(object) => object.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Err(unknown(id.as_str())),
            Err(error) => return Err(error.into()),
        };
        Record::read(&bytes).map_err(|error| Error { message: format!("{path}: {}", error.message), ..error })
    }

    /// Ids of all jobs, oldest first.
    pub async fn ids(&self) -> Result<Vec<JobId>> {
        let folder = self.storage.path("jobs");
        let objects: Vec<_> = self.storage.store().list(Some(&folder)).try_collect().await?;
        let name = |path: &Path| path.filename()?.strip_suffix(".json")?.parse().ok();
        let mut ids: Vec<JobId> = objects.iter().filter_map(|object| name(&object.location)).collect();
        ids.sort();
        Ok(ids)
    }

    /// The records of some jobs, in any order.
    pub fn records(&self, ids: Vec<JobId>) -> impl Stream<Item = (JobId, Result<Record>)> {
        let journal = self.clone();
        stream::iter(ids)
            .map(move |id| {
                let journal = journal.clone();
                async move {
                    let record = journal.read(&id).await;
                    (id, record)
                }
            })
            .buffer_unordered(SIDE_BY_SIDE)
    }

    /// Forgets jobs. What can't be removed is left for the next time.
    pub async fn remove(&self, ids: &[JobId]) {
        let removals = ids.iter().map(|id| self.remove_one(id)).collect::<Vec<_>>();
        stream::iter(removals).buffer_unordered(SIDE_BY_SIDE).collect::<()>().await;
    }

    async fn remove_one(&self, id: &JobId) {
        if let Err(error) = self.storage.store().delete(&self.path(id)).await {
            tracing::warn!(job = %id, %error, "can't remove a job from the journal");
        }
    }
}
