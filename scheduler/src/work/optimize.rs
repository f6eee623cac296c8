//! Optimizing a table: its small files, and those with many retired rows, are written again, while others go on writing to it.
//!
//! The job is in no queue of its table. What it has rewritten is committed after whatever came between; a part whose files another job changed is
//! thrown away, and planned again.

use std::{sync::Arc, time::Instant};

use arrow::compute::concat_batches;
use trireme_engine::{
    Code, Error, Result, TableName,
    delta::{
        CommitLabel, DataFiles, DeltaWriteExec, Table, WriteOutcome, WriteSpec, catalog, commit,
        commit::OptimizeCommit,
        feature,
        optimize::{self, Limits, Plan, RETIRED_PERCENT, Rewritten},
        write::sort_partitions,
        z_order::ZOrder,
    },
};
use trireme_proto::v1::{Job, JobSpec, Optimize, Outcome, job_spec::Spec};

use super::{Worker, report::metrics};
use crate::jobs::JobHandle;

/// Times that a job plans what others changed under its hands.
const ROUNDS: u32 = 4;
/// Times that a commit is tried again because another writer changed some of the files.
const ATTEMPTS: u32 = 8;

impl Worker {
    pub(super) async fn optimize(&self, spec: &Optimize, job: &JobHandle) -> Result<()> {
        let started = Instant::now();
        let name: TableName = spec.table.parse()?;
        let limits = self.limits(spec)?;
        let mut outcome = Outcome::AlreadyCurrent;
        for _ in 0..ROUNDS {
            job.phase("plan");
            let table = Table::require(&self.storage, &name).await?;
            feature::check_writable(&table, false)?;
            if commit::is_optimized(&table, &spec.z_order, limits).await? {
                break;
            }
            let files = table.files()?;
            let plan = match spec.z_order.is_empty() {
                true => Plan::new(&files, limits),
                false => Plan::everything(&files),
            };
            if plan.is_empty() {
                break;
            }
            let parts = self.rewrite_parts(&table, &files, &plan, spec, limits, job).await?;
            let label =
                CommitLabel { job_id: job.id().to_string(), execution: started.elapsed(), ..CommitLabel::default() };
            job.phase("commit");
            let (version, changed) = self.land_optimized(table, spec, limits, parts, &label, job).await?;
            if let Some(version) = version {
                outcome = Outcome::Applied;
                job.update(|job| job.delta_version = version as i64);
                commit::checkpoint_when_due(&self.storage, &name, version).await;
            }
            if !changed {
                break;
            }
            job.update(|job| metrics(job, |metrics| metrics.retries += 1));
        }
        job.update(|job| job.set_outcome(outcome));
        Ok(())
    }

    fn limits(&self, spec: &Optimize) -> Result<Limits> {
        if spec.retired_percent > 100 {
            return Err(Error::new(Code::InvalidSpec, format!("{} is no percentage of rows", spec.retired_percent))
                .hint("give a number from 1 to 100"));
        }
        Ok(Limits {
            target_bytes: if spec.target_size == 0 { self.settings.target_file_size } else { spec.target_size },
            retired_percent: if spec.retired_percent == 0 { RETIRED_PERCENT } else { spec.retired_percent },
        })
    }

    pub(super) async fn check_optimize(&self, spec: &Optimize) -> Result<()> {
        self.limits(spec)?;
        let table = catalog::open(&self.storage, &spec.table.parse()?).await?;
        feature::check_writable(&table, false)?;
        let schema = table.arrow_schema()?;
        ZOrder::check(&schema, &spec.z_order)
    }

    /// Writes the plan's files again, uncommitted.
    async fn rewrite_parts(
        &self,
        table: &Table,
        files: &DataFiles,
        plan: &Plan,
        spec: &Optimize,
        limits: Limits,
        job: &JobHandle,
    ) -> Result<Vec<Rewritten>> {
        let mut write = WriteSpec::new(&self.storage, table.name(), &table.schema(), &[]);
        // Columns that have bounds keep them.
        write.keys = files.bounded_columns(write.settings.statistics_columns);
        if self.settings.key_bloom_fpp > 0.0 {
            write.settings.bloom_columns = Some(optimize::bloom_columns(table, files, plan).await?);
            write.settings.key_bloom_fpp = self.settings.key_bloom_fpp;
        }
        // A group is one file, even if its rows take a little more room together.
        write.settings.target_file_bytes = limits.target_bytes.saturating_add(limits.target_bytes / 4);
        let (session, rows) = match spec.z_order.is_empty() {
            true => {
                let session = self.sessions.with_partitions(plan.groups.len())?;
                let scan = plan.scan(table, files, &session.state()).await?;
                (session, sort_partitions(scan, &feature::sort_by(table))?)
            }
            false => {
                let session = self.sessions.open(files.bytes())?;
                let sample = optimize::sample_plan(table, files, &spec.z_order)?;
                let sample = self.run_query("sample", &session, &sample, job).await?;
                let schema = sample.first().map_or_else(|| files.schema().clone(), |batch| batch.schema());
                let sample = concat_batches(&schema, &sample)?;
                let order = ZOrder::of_sample(&sample, &spec.z_order, optimize::files_needed(files, limits))?;
                let rows = optimize::scan_along(table, files, &session.state(), order).await?;
                (session, rows)
            }
        };
        let physical = Arc::new(DeltaWriteExec::try_new(rows, Arc::new(write))?);
        let written = WriteOutcome::collect(&self.run_plan("optimize", &session, physical, job).await?)?;
        let rewritten = optimize::rewritten(files, plan, &written);
        if rewritten.is_err() {
            self.discard_files(table.name(), &written.files).await;
        }
        let bytes_in: u64 = plan.groups.iter().flatten().filter_map(|file| files.adds().get(*file)).map(bytes).sum();
        job.update(|job| {
            metrics(job, |metrics| {
                metrics.rows_in += written.summary.rows_in;
                metrics.bytes_in += bytes_in;
                metrics.bytes_out += written.bytes();
            });
        });
        rewritten
    }

    /// Commits the parts whose files are still the table's: the version, if there was any such part, and whether there were others.
    async fn land_optimized(
        &self,
        mut table: Table,
        spec: &Optimize,
        limits: Limits,
        mut parts: Vec<Rewritten>,
        label: &CommitLabel,
        job: &JobHandle,
    ) -> Result<(Option<u64>, bool)> {
        let name = table.name().clone();
        let mut changed = false;
        let mut attempt = 1;
        while !parts.is_empty() {
            let commit = OptimizeCommit {
                removed: parts.iter().flat_map(|part| part.removed.clone()).collect(),
                added: parts.iter().flat_map(|part| part.added.clone()).collect(),
                z_order: &spec.z_order,
                limits,
                automatic: spec.automatic,
            };
            let (added, removed) = (commit.added.len() as u64, commit.removed.len() as u64);
            match commit::optimize(&table, commit, label).await {
                Ok(committed) => {
                    job.update(|job| {
                        metrics(job, |metrics| {
                            metrics.files_added += added;
                            metrics.files_removed += removed;
                            metrics.rows_copied += parts.iter().map(|part| part.rows).sum::<u64>();
                        });
                    });
                    return Ok((Some(committed.version), changed));
                }
                Err(error) if error.code == Code::Conflict && attempt < ATTEMPTS => {
                    attempt += 1;
                    changed = true;
                    let newer = table.reload().await?;
                    // Under another schema the files might have to look otherwise.
                    let same =
                        newer.schema() == table.schema() && newer.snapshot().protocol() == table.snapshot().protocol();
                    let (there, gone) = match same {
                        true => optimize::still_there(parts, &newer.files()?),
                        false => (Vec::new(), parts),
                    };
                    tracing::info!(table = %name, kept = there.len(), dropped = gone.len(), "files changed while they were optimized");
                    self.discard_parts(&name, &gone).await;
                    (parts, table) = (there, newer);
                }
                Err(error) => {
                    // An undecided commit may have landed: its files must stay. Vacuum removes them otherwise.
                    if error.code != Code::Storage {
                        self.discard_parts(&name, &parts).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok((None, changed))
    }

    async fn discard_parts(&self, name: &TableName, parts: &[Rewritten]) {
        for part in parts {
            self.discard_files(name, &part.added).await;
        }
    }

    /// The optimization that a table is due for after a merge, by the settings.
    pub(super) async fn optimize_when_due(&self, spec: &JobSpec, job: &Job) -> Result<Option<JobSpec>> {
        let (small, percent) = (self.settings.auto_optimize_small_files, self.settings.auto_optimize_retired_percent);
        let Some(Spec::Merge(merge)) = &spec.spec else { return Ok(None) };
        let Some(table) = merge.spec.as_ref().map(|spec| spec.table.clone()) else { return Ok(None) };
        if job.outcome() != Outcome::Applied || (small == 0 && percent == 0) {
            return Ok(None);
        }
        let automatic =
            Optimize { table: table.clone(), retired_percent: percent, automatic: true, ..Optimize::default() };
        let table = Table::require(&self.storage, &table.parse()?).await?;
        feature::check_writable(&table, false)?;
        let files = table.files()?;
        let plan = Plan::new(&files, self.limits(&automatic)?);
        let is_scattered = small > 0 && plan.small >= small;
        let is_hollow = percent > 0 && optimize::retired_percent(&files) >= u64::from(percent);
        let is_due = !plan.is_empty() && (is_scattered || is_hollow);
        Ok(is_due.then_some(JobSpec { spec: Some(Spec::Optimize(automatic)) }))
    }
}

fn bytes(add: &deltalake_core::kernel::Add) -> u64 {
    u64::try_from(add.size).unwrap_or(0)
}
