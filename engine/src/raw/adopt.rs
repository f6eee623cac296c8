//! Versions of files that others put there: their splits and checksums, found by tasks side by side.
//!
//! A file of plain text is cut into ranges of the split size, see [`crate::raw::scanner::Composition`]; any other file is a task. A checksum goes
//! from a file's first byte to its last, so it is a task too.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::{
    common::DataFusionError,
    physical_plan::{ExecutionPlan, metrics::Count},
};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    charset::Charset,
    dialect::{Dialect, TextOptions},
    intake::{CopyPolicy, Intake},
    manifest::{Compression, Part, RawFormat},
    packed::TextPlan,
    scanner::{Composition, RangeScan, Scanner, Standing, Summary, Summing, ranges},
    stored::{Stored, TextFile, exactly},
    zone::RawZone,
};
use crate::{
    error::{Code, Error, Result},
    names::{RawVersion, SourceName},
    plan::{Task, task_outcomes, task_plan},
    storage::{Storage, in_folder, parse_path},
};

/// Bytes that tell a file's format.
const ENOUGH_TO_TELL: u64 = 4096;
/// Splits that one task looks for.
const CELLS: u64 = 4;

/// A piece of an adoption. It travels to an executor as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptTask {
    /// Storage root.
    storage: String,
    /// Whole path of the version's folder in its store.
    folder: String,
    /// The file's number, name and length.
    file: usize,
    name: String,
    bytes: u64,
    what: Todo,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Todo {
    /// Sum up a range.
    Sum { range: usize, start: u64, end: u64, format: RawFormat, dialect: Dialect },
    /// Scan a range from where its scanner stands.
    Scan { range: usize, start: u64, end: u64, split_size: u64, standing: Standing, dialect: Dialect },
    /// The checksum.
    Hash,
    /// All that there is to find, from the first byte to the last.
    Take { format: Option<RawFormat>, options: TextOptions, split_size: u64, copy: CopyPolicy, shown: String },
}

/// What came of an [`AdoptTask`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdoptDone {
    file: usize,
    found: Found,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Sum { range: usize, summary: Summary },
    Scan { range: usize, scan: RangeScan },
    Hash { sha256: String },
    Take { parts: Vec<Part>, format: RawFormat },
}

/// A version that is being adopted.
pub struct Adoption {
    storage: String,
    folder: Path,
    source: SourceName,
    version: RawVersion,
    options: TextOptions,
    split_size: u64,
    copy: CopyPolicy,
    files: Vec<File>,
}

/// One of its files.
struct File {
    name: String,
    bytes: u64,
    /// Of the text, as far as it is known before it is read.
    format: Option<RawFormat>,
    compression: Option<Compression>,
    state: State,
}

enum State {
    /// A task of its own finds its parts.
    Whole {
        parts: Option<Vec<Part>>,
    },
    /// Its ranges are summed up.
    Sums(Vec<Option<Summary>>),
    Scans {
        composition: Composition,
        sha256: Option<String>,
    },
}

impl Adoption {
    /// Looks at a version's files.
    ///
    /// # Errors
    /// `VersionNotFound` when it has none; `SchemaMismatch` when their formats differ.
    pub async fn begin(
        zone: &RawZone,
        source: &SourceName,
        version: &RawVersion,
        format: Option<RawFormat>,
        options: TextOptions,
        split_size: u64,
        copy: CopyPolicy,
    ) -> Result<Self> {
        let folder = zone.folder(source, version);
        let mut files = Vec::new();
        for object in zone.files(source, version).await? {
            let name = object.location.filename().unwrap_or_default().to_string();
            let to = object.size.min(ENOUGH_TO_TELL);
            let store = zone.storage().store();
            let first =
                if to == 0 { Default::default() } else { exactly(store.as_ref(), &object.location, 0..to).await? };
            let compression = Compression::of_first_bytes(&first).or(Compression::of_name(&name));
            let format = format.or_else(|| RawFormat::of_name(&name));
            let charset = Charset::told(options.encoding, &first);
            let tells = compression.is_none() && charset.is_none() && !first.is_empty();
            let format = format.or_else(|| tells.then(|| RawFormat::of_first_bytes(&first)));
            // A copy is written from the first byte to the last.
            let plain = compression.is_none() && charset.is_none() && copy != CopyPolicy::All;
            let ranges = ranges(object.size, split_size, CELLS);
            let cut = plain && ranges.len() > 1 && matches!(format, Some(RawFormat::Json | RawFormat::Csv));
            let state = match format {
                Some(format) if cut => {
                    let mut sums: Vec<Option<Summary>> = vec![None; ranges.len()];
                    // Nothing depends on what the last one does.
                    if let (Some(last), Some(range)) = (sums.last_mut(), ranges.last()) {
                        *last = Some(Summing::new(format, options.csv.dialect, range.start).finish());
                    }
                    State::Sums(sums)
                }
                _ => State::Whole { parts: None },
            };
            files.push(File { name, bytes: object.size, format, compression, state });
        }
        if files.is_empty() {
            return Err(Error::new(Code::VersionNotFound, format!("{source}@{version} has no files"))
                .hint(format!("put them into {folder}, and no name of them may start with `_` or `.`")));
        }
        let storage = zone.storage().root().to_string();
        let (source, version) = (source.clone(), version.clone());
        let adoption = Self { storage, folder, source, version, options, split_size, copy, files };
        adoption.format()?;
        Ok(adoption)
    }

    /// Length of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The tasks that can be done now; none when all is known.
    pub fn due(&mut self) -> Vec<AdoptTask> {
        let mut due = Vec::new();
        let dialect = self.options.csv.dialect;
        let summing = self.files.iter().any(|file| matches!(&file.state, State::Sums(sums) if sums.contains(&None)));
        for (index, file) in self.files.iter_mut().enumerate() {
            let task = |what| AdoptTask {
                storage: self.storage.clone(),
                folder: self.folder.to_string(),
                file: index,
                name: file.name.clone(),
                bytes: file.bytes,
                what,
            };
            let ranges = ranges(file.bytes, self.split_size, CELLS);
            let format = file.format.unwrap_or(RawFormat::Csv);
            if let (State::Sums(sums), false) = (&mut file.state, summing) {
                let sums = std::mem::take(sums).into_iter().flatten().collect();
                file.state = State::Scans { composition: Composition::new(format, dialect, sums), sha256: None };
            }
            match &mut file.state {
                State::Sums(sums) => {
                    let left = sums.iter().zip(&ranges).enumerate().filter(|(_, (sum, _))| sum.is_none());
                    due.extend(left.map(|(range, (_, at))| {
                        task(Todo::Sum { range, start: at.start, end: at.end, format, dialect })
                    }));
                }
                // These begin with the scans, all in one plan.
                _ if summing => {}
                State::Scans { composition, sha256 } => {
                    let scans = composition.due().into_iter().filter_map(|(range, standing)| {
                        let at = ranges.get(range)?;
                        let split_size = self.split_size;
                        Some(task(Todo::Scan { range, start: at.start, end: at.end, split_size, standing, dialect }))
                    });
                    due.extend(sha256.is_none().then(|| task(Todo::Hash)).into_iter().chain(scans));
                }
                State::Whole { parts: None } => {
                    let shown = format!("{}@{}, {}", self.source, self.version, file.name);
                    let (options, split_size, copy) = (self.options.clone(), self.split_size, self.copy);
                    due.push(task(Todo::Take { format: file.format, options, split_size, copy, shown }));
                }
                State::Whole { parts: Some(_) } => {}
            }
        }
        due
    }

    /// Takes what came of tasks.
    pub fn done(&mut self, outcomes: Vec<AdoptDone>) -> Result<()> {
        for AdoptDone { file, found } in outcomes {
            let Some(file) = self.files.get_mut(file) else { continue };
            match (found, &mut file.state) {
                (Found::Sum { range, summary }, State::Sums(sums)) => {
                    if let Some(sum) = sums.get_mut(range) {
                        *sum = Some(summary);
                    }
                }
                (Found::Scan { range, scan }, State::Scans { composition, .. }) => composition.scanned(range, scan),
                (Found::Hash { sha256: found }, State::Scans { sha256, .. }) => *sha256 = Some(found),
                (Found::Take { parts: found, format }, State::Whole { parts }) => {
                    // What has no text tells no format, unless its name does.
                    let told = file.format.is_some() || found.iter().any(|part| part.text_bytes() > 0);
                    file.format = told.then_some(format);
                    *parts = Some(found);
                }
                _ => return Err(Error::new(Code::WorkLost, format!("{} was given another task's result", file.name))),
            }
        }
        Ok(())
    }

    /// The one format of all files, as far as it is known.
    fn format(&self) -> Result<Option<RawFormat>> {
        let mut known = self.files.iter().filter_map(|file| Some((file, file.format?)));
        let Some((first, format)) = known.next() else { return Ok(None) };
        match known.find(|(_, other)| *other != format) {
            Some((file, other)) => {
                let (source, version) = (&self.source, &self.version);
                let message = format!("{source}@{version}: {} is {format}, {} is {other}", first.name, file.name);
                Err(Error::new(Code::SchemaMismatch, message).hint("the files of one version have one format"))
            }
            None => Ok(Some(format)),
        }
    }

    /// The parts and their format, when nothing is due.
    pub fn finish(self) -> Result<(Vec<Part>, RawFormat)> {
        let format = self.format()?.unwrap_or(RawFormat::Csv);
        let mut parts = Vec::new();
        for file in self.files {
            match file.state {
                State::Whole { parts: Some(found) } => parts.extend(found),
                State::Scans { composition, sha256: Some(sha256) } => {
                    let scan = composition.finish();
                    parts.push(Part {
                        path: file.name,
                        bytes: file.bytes,
                        sha256,
                        compression: file.compression,
                        layout: scan.layout,
                        splits: scan.splits,
                        records: scan.records,
                        ..Part::default()
                    });
                }
                _ => return Err(Error::new(Code::WorkLost, format!("{} was not looked at", file.name))),
            }
        }
        Ok((parts, format))
    }
}

/// A plan of adoption tasks, each a partition; its rows are read by [`adopt_outcomes`].
pub fn adopt_plan(tasks: &[AdoptTask]) -> Result<Arc<dyn ExecutionPlan>> {
    task_plan(Task::Adopt, &tasks.iter().map(|task| vec![task]).collect::<Vec<_>>())
}

/// What an adoption plan's rows say.
pub fn adopt_outcomes(batches: &[RecordBatch]) -> Result<Vec<AdoptDone>> {
    task_outcomes(batches)
}

/// Does a task.
pub(crate) async fn run(
    task: AdoptTask,
    bytes_read: Count,
    cancel: &CancellationToken,
) -> Result<AdoptDone, DataFusionError> {
    let storage = Storage::shared(&task.storage)?;
    let folder = parse_path(&task.folder)?;
    let path = in_folder(&folder, &task.name);
    let text = TextFile { store: storage.store(), path, stored: Arc::new(Stored::Plain) };
    let chunks = |start: u64, end: u64| text.chunks(start..end, bytes_read.clone());
    let found = match task.what {
        Todo::Sum { range, start, end, format, dialect } => {
            let mut summing = Summing::new(format, dialect, start);
            let mut chunks = chunks(start, end);
            while let Some(chunk) = chunks.next().await? {
                summing.feed(&chunk);
            }
            Found::Sum { range, summary: summing.finish() }
        }
        Todo::Scan { range, start, end, split_size, standing, dialect } => {
            let mut scanner = Scanner::resume(standing, dialect, split_size, start);
            let mut chunks = chunks(start, end);
            while let Some(chunk) = chunks.next().await? {
                scanner.feed(&chunk);
            }
            Found::Scan { range, scan: scanner.pause() }
        }
        Todo::Hash => {
            let mut hash = Sha256::new();
            let mut chunks = chunks(0, task.bytes);
            while let Some(chunk) = chunks.next().await? {
                hash.update(&chunk);
            }
            Found::Hash { sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect() }
        }
        Todo::Take { format, options, split_size, copy, shown } => {
            let plan = TextPlan {
                store: storage.store(),
                folder,
                // The files are others', and the names of theirs do not begin like this.
                stem: format!("_copy-{:05}", task.file),
                format,
                options,
                split_size,
                copy: false,
                cancel: cancel.clone(),
            };
            let mut intake = Intake::new(plan, shown, &task.name, copy);
            let mut chunks = chunks(0, task.bytes);
            let taken: Result<(), DataFusionError> = async {
                while let Some(chunk) = chunks.next().await? {
                    intake.write(&chunk).await?;
                }
                Ok(intake.end().await?)
            }
            .await;
            if let Err(error) = taken {
                intake.discard().await;
                return Err(error);
            }
            let (parts, format) = intake.parts(&task.name).await?;
            Found::Take { parts, format }
        }
    };
    Ok(AdoptDone { file: task.file, found })
}
