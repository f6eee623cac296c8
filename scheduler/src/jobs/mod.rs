//! Jobs: their states, their queues, their journal, and the trait behind which the work itself is done.

mod handle;
mod id;
mod journal;
mod queue;
mod record;
mod recovery;
mod registry;
mod run;
mod subject;

use std::collections::BTreeSet;

use async_trait::async_trait;
use trireme_engine::{Result, SourceName, TableName};
use trireme_proto::v1::{Job, JobSpec, Question};

pub use handle::JobHandle;
pub use id::JobId;
pub use registry::{JobOptions, JobRegistry, JobStream};
pub use subject::{Subject, Target, label, located, location, place};

/// Does what jobs ask for: downloads, loads, merges and questions. Pipelines are taken apart before.
#[async_trait]
pub trait Work: Send + Sync + 'static {
    /// Does a job, whole. It may have been done in part or in full before, by a scheduler that died: landing exactly once is the
    /// work's to see to. It ends soon after [`JobHandle::cancelled`]; it is aborted when it does not.
    async fn run(&self, spec: &JobSpec, job: &JobHandle) -> Result<()>;

    /// Whether a job can be done at all: URLs are allowed, SQL parses, sources, versions and tables are there or promised.
    async fn check(&self, spec: &JobSpec, promised: &Promised) -> Result<()>;

    /// The catalog's tables that a question reads.
    async fn reads(&self, question: &Question) -> Result<BTreeSet<TableName>>;

    /// What is to be done by itself after a job that succeeded. Asked when the job has ended, so nobody waits for the answer.
    async fn follow_up(&self, _spec: &JobSpec, _job: &Job) -> Option<JobSpec> {
        None
    }
}

/// What the other parts of a pipeline make before a part runs, though it may not exist when the pipeline is submitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promised {
    /// Sources that are downloaded.
    pub sources: BTreeSet<SourceName>,
    /// Tables that are loaded, merged or made by questions.
    pub tables: BTreeSet<TableName>,
}
