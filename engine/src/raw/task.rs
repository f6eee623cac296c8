//! The work of raw plans: downloads, listings and inference, each a [`Task`] of a [`crate::plan::TaskExec`].

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::{
    common::DataFusionError,
    physical_plan::{ExecutionPlan, metrics::Count},
};
use serde::{Deserialize, Serialize};

use super::{
    fetch::{
        FetchOutcome, FetchRequest,
        listing::{ListRequest, Listed},
    },
    infer::{Observed, RawSchema},
    json::observe::Observer,
    manifest::{JsonLayout, Manifest},
    piece::{INDENT_BEFORE, Piece, PieceReader, text_before},
    places::Lines,
    scanner::DEFAULT_SPLIT_SIZE,
    stored::{Stored, TextFile, text_path},
    zone::RawZone,
};
use crate::{
    error::Result,
    plan::{Task, task_outcomes, task_plan},
    storage::{Storage, parse_path},
};

/// A range of a JSON part whose types are to be inferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferPiece {
    /// Storage root.
    pub storage: String,
    /// Whole path of the part's text in its store.
    pub path: String,
    /// How the part is stored.
    #[serde(default)]
    pub stored: Stored,
    /// Length of the part's text.
    pub bytes: u64,
    /// First byte.
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
    /// How records follow one another.
    pub layout: JsonLayout,
    /// Index of the part.
    #[serde(default)]
    pub part: u32,
    /// Line that the first byte is on, from 1.
    #[serde(default)]
    pub line: u64,
    /// Bad records are passed over, not refused.
    #[serde(default)]
    pub lenient: bool,
}

/// What the values of a piece are.
pub(crate) async fn infer_piece(
    piece: InferPiece,
    bytes_read: Count,
    rows: usize,
) -> Result<Observed, DataFusionError> {
    let store = Storage::shared(&piece.storage)?.store();
    let path = parse_path(&piece.path)?;
    let (first, last) = (piece.start == 0, piece.end >= piece.bytes);
    let file = TextFile { store, path, stored: Arc::new(piece.stored) };
    let before = if piece.lenient { text_before(&file, piece.start).await? } else { Vec::new() };
    let lines = Lines::new(piece.start, piece.line, &before);
    let observer = Observer::new(piece.layout, first, last, piece.part, lines, piece.lenient);
    let reader = PieceReader::new(Piece { file, range: piece.start..piece.end, bytes_read }, observer);
    Ok(reader.drain(rows.max(1)).await?.into_seen())
}

/// A plan that carries out downloads, each unit one after the other in a partition of its own; its rows are read by [`download_outcomes`].
pub fn download_plan(units: &[Vec<FetchRequest>]) -> Result<Arc<dyn ExecutionPlan>> {
    task_plan(Task::Download, units)
}

/// What a download plan's rows say, each with its part's number, in the parts' order.
pub fn download_outcomes(batches: &[RecordBatch]) -> Result<Vec<(u32, FetchOutcome)>> {
    let mut all: Vec<(u32, FetchOutcome)> = task_outcomes(batches)?;
    all.sort_by_key(|(part, _)| *part);
    Ok(all)
}

/// A plan that finds the files of a pattern; its row is read by [`listed_files`].
pub fn list_plan(request: ListRequest) -> Result<Arc<dyn ExecutionPlan>> {
    task_plan(Task::List, &[vec![request]])
}

/// What a listing plan's row says.
pub fn listed_files(batches: &[RecordBatch]) -> Result<Vec<Listed>> {
    Ok(task_outcomes::<Vec<Listed>>(batches)?.into_iter().flatten().collect())
}

/// A plan that infers the types of a JSON version from all its splits in about `partitions` partitions; its rows are merged by [`inferred_schema`].
/// If `lenient`, bad records are passed over; else they are an error.
pub fn infer_plan(
    zone: &RawZone,
    manifest: &Manifest,
    partitions: usize,
    lenient: bool,
) -> Result<Arc<dyn ExecutionPlan>> {
    let folder = zone.folder(&manifest.source, &manifest.version);
    let storage = zone.storage().root().to_string();
    let mut pieces: Vec<InferPiece> = Vec::new();
    for (index, part) in manifest.parts.iter().enumerate() {
        let (path, stored) = (text_path(part, &folder), Stored::of(part, &folder));
        pieces.extend(part.ranges(DEFAULT_SPLIT_SIZE).into_iter().map(|range| InferPiece {
            storage: storage.clone(),
            path: path.to_string(),
            stored: stored.within(&(range.start.saturating_sub(INDENT_BEFORE)..range.end)),
            bytes: part.text_bytes(),
            line: part.line_of(range.start),
            start: range.start,
            end: range.end,
            layout: part.layout.unwrap_or(JsonLayout::Lines),
            part: u32::try_from(index).unwrap_or(u32::MAX),
            lenient,
        }));
    }
    let size = pieces.len().div_ceil(partitions.max(1)).max(1);
    task_plan(Task::Infer, &pieces.chunks(size).map(<[_]>::to_vec).collect::<Vec<_>>())
}

/// The schema that an inference plan's rows say.
pub fn inferred_schema(batches: &[RecordBatch]) -> Result<RawSchema> {
    let mut merged = Observed::default();
    task_outcomes::<Observed>(batches)?.into_iter().for_each(|seen| merged.merge(seen));
    Ok(RawSchema::new(merged))
}
