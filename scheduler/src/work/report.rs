//! Progress of distributed work, told to its job.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::{logical_expr::LogicalPlan, physical_plan::ExecutionPlan, prelude::SessionContext};
use parking_lot::Mutex;
use trireme_engine::{Error, Result, sql};
use trireme_proto::v1::{JobMetrics, Stage};

use super::Worker;
use crate::{cluster::Progress, jobs::JobHandle};

/// Rows of a table from which on its median is found in passes; up to there one task takes all values.
const MEDIANS_IN_PASSES: u64 = 1_000_000;

/// Tells a job of the stages of one plan, behind those of the plans before it.
struct StagesOf<'a> {
    job: &'a JobHandle,
    name: &'a str,
    /// Stages that are final: of earlier plans, and of discarded attempts.
    before: Mutex<Vec<Stage>>,
}

impl Progress for StagesOf<'_> {
    fn stages(&self, _: u32, stages: Vec<Stage>) {
        let mut all = self.before.lock().clone();
        all.extend(stages);
        if self.job.snapshot().stages != all {
            self.job.update(|job| job.stages = all);
        }
    }

    fn waits(&self, for_slot: bool) {
        let waiting = format!("{}: waits for a slot", self.name);
        match (for_slot, self.job.snapshot().phase == waiting) {
            (true, false) => self.job.phase(waiting),
            (false, true) => self.job.phase(self.name),
            _ => {}
        }
    }

    fn discarded(&self, attempt: u32, why: &Error) {
        let mut stages = self.job.snapshot().stages.clone();
        for stage in stages.iter_mut().filter(|stage| stage.attempt == attempt) {
            stage.discarded |= stage.tasks_done < stage.tasks_total || attempt > 0;
        }
        let before = self.before.lock().len();
        for stage in stages.iter_mut().skip(before) {
            stage.discarded = true;
        }
        *self.before.lock() = stages.clone();
        self.job.update(|job| {
            job.stages = stages;
            job.phase = format!("runs again: {}", why.message);
            metrics(job, |metrics| metrics.retries += 1);
        });
    }
}

/// Changes a job's metrics.
pub fn metrics(job: &mut trireme_proto::v1::Job, change: impl FnOnce(&mut JobMetrics)) {
    change(job.metrics.get_or_insert_default());
}

/// The counts of two pieces of work.
pub fn sum(one: Option<JobMetrics>, other: Option<JobMetrics>) -> Option<JobMetrics> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    Some(JobMetrics {
        rows_in: one.rows_in + other.rows_in,
        rows_dropped: one.rows_dropped + other.rows_dropped,
        rows_inserted: one.rows_inserted + other.rows_inserted,
        rows_updated: one.rows_updated + other.rows_updated,
        rows_copied: one.rows_copied + other.rows_copied,
        bytes_in: one.bytes_in + other.bytes_in,
        bytes_out: one.bytes_out + other.bytes_out,
        files_added: one.files_added + other.files_added,
        files_removed: one.files_removed + other.files_removed,
        retries: one.retries + other.retries,
        rows_superseded: one.rows_superseded + other.rows_superseded,
        rows_quarantined: one.rows_quarantined + other.rows_quarantined,
        rows_deleted: one.rows_deleted + other.rows_deleted,
        rows_ignored: one.rows_ignored + other.rows_ignored,
    })
}

impl Worker {
    /// Runs a physical plan for a job, as its phase `name`.
    pub(super) async fn run_plan(
        &self,
        name: &str,
        session: &SessionContext,
        plan: Arc<dyn ExecutionPlan>,
        job: &JobHandle,
    ) -> Result<Vec<RecordBatch>> {
        job.phase(name);
        let progress = StagesOf { job, name, before: Mutex::new(job.snapshot().stages.clone()) };
        let session = Arc::new(session.clone());
        let ran = self.cluster.run(name, session, plan, &progress, job.cancelled()).await?;
        Ok(ran.batches)
    }

    /// A plan whose medians over large tables are known: they are found by queries of their own, each of which `run` runs.
    pub(super) async fn with_medians<F>(
        &self,
        mut plan: LogicalPlan,
        session: &SessionContext,
        run: impl Fn(Arc<dyn ExecutionPlan>) -> F,
    ) -> Result<LogicalPlan>
    where
        F: Future<Output = Result<Vec<RecordBatch>>>,
    {
        while let Some(mut medians) = sql::Medians::of(&plan, MEDIANS_IN_PASSES)? {
            while let Some(pass) = medians.pass()? {
                medians.take(&run(sql::physical_plan(&session.state(), &pass).await?).await?)?;
            }
            plan = medians.into_plan()?;
        }
        Ok(plan)
    }

    /// Plans and runs a query for a job.
    pub(super) async fn run_query(
        &self,
        name: &str,
        session: &SessionContext,
        plan: &LogicalPlan,
        job: &JobHandle,
    ) -> Result<Vec<RecordBatch>> {
        let plan = session.state().create_physical_plan(plan).await?;
        self.run_plan(name, session, plan, job).await
    }
}
