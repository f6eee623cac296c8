//! How the text of a part is stored, and reading ranges of it.

use std::{collections::BTreeMap, io, io::Read, ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::{common::runtime::SpawnedTask, error::DataFusionError, physical_plan::metrics::Count};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    charset::Charset,
    manifest::{Encoding, Frame, Manifest, Part},
    packed::{Arriving, CHUNK, arriving, decoder, fill},
    piece::storage_error,
};
use crate::{
    error::{Code, Error},
    storage::{in_folder, parse_path},
};

/// Bytes asked of the store at once. One such read is under way while the one before is decoded.
pub(crate) const READ_BYTES: u64 = 4 * 1024 * 1024;

/// Chunks of text, and of what is decoded to them, that wait at one time.
const WAITING: usize = 2;

/// How the text of a part is stored. Ranges are those of the text, whatever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// The file is the text.
    #[default]
    Plain,
    /// The file is zstd frames, each of which can be decoded by itself.
    Frames {
        /// Where each starts, in order.
        frames: Vec<Frame>,
        /// Where the last one ends in the file.
        end: u64,
    },
    /// It can only be decoded from its start.
    Whole {
        /// Whole path, in the store, of the file that it is in.
        file: String,
        /// How it is encoded.
        encoding: Encoding,
        /// Its first byte in the file.
        start: u64,
        /// The byte after its last one.
        end: u64,
        /// How its letters are encoded, if not as UTF-8.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charset: Option<Charset>,
    },
}

impl Stored {
    /// How a part of the version in this folder is stored.
    pub fn of(part: &Part, folder: &Path) -> Self {
        let file = || in_folder(folder, &part.path).to_string();
        let charset = part.charset;
        // What is compressed by nothing may be text that is to be decoded.
        let plain = charset.map(|_| Encoding::Plain);
        match (&part.copy, &part.member, part.compression.and_then(|compression| compression.encoding()).or(plain)) {
            (Some(copy), _, _) => Self::Frames { frames: copy.frames.clone(), end: copy.frames_end },
            (None, Some(member), _) => Self::Whole {
                file: file(),
                encoding: member.encoding,
                start: member.offset,
                end: member.offset + member.bytes,
                charset,
            },
            (None, None, Some(encoding)) => Self::Whole { file: file(), encoding, start: 0, end: part.bytes, charset },
            (None, None, None) => Self::Plain,
        }
    }

    /// Of all parts that are not plain, by whole path of their text.
    pub fn of_parts(manifest: &Manifest, folder: &Path) -> BTreeMap<String, Self> {
        let stored = manifest.parts.iter().map(|part| (text_path(part, folder).to_string(), Self::of(part, folder)));
        stored.filter(|(_, stored)| *stored != Self::Plain).collect()
    }

    /// The same, with no more frames than a range needs.
    pub fn within(&self, range: &Range<u64>) -> Self {
        match self {
            Self::Frames { frames, end } => {
                let needed = frames_of(frames, range);
                let end = frames.get(needed.end).map_or(*end, |next| next.offset);
                Self::Frames { frames: frames.get(needed).unwrap_or_default().to_vec(), end }
            }
            other => other.clone(),
        }
    }
}

/// Whole path of a part's text: a name for it, and the file itself unless it is a member of an archive.
pub(crate) fn text_path(part: &Part, folder: &Path) -> Path {
    in_folder(folder, &part.text_name())
}

/// The frames that hold a range of the text.
fn frames_of(frames: &[Frame], range: &Range<u64>) -> Range<usize> {
    let first = frames.partition_point(|frame| frame.text <= range.start).saturating_sub(1);
    let last = frames.partition_point(|frame| frame.text < range.end);
    first..last.max(first)
}

/// A text in a store.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    pub store: Arc<dyn ObjectStore>,
    /// See [`text_path`].
    pub path: Path,
    pub stored: Arc<Stored>,
}

impl TextFile {
    /// A range of the text, chunk by chunk; `bytes_read` counts what is read from the store for it.
    pub fn chunks(&self, range: Range<u64>, bytes_read: Count) -> TextChunks {
        let (store, path) = (self.store.clone(), self.path.clone());
        let from = match self.stored.as_ref() {
            Stored::Plain => From::File { ahead: None },
            Stored::Frames { frames, end } => {
                let needed = frames_of(frames, &range);
                let first = frames.get(needed.start).copied().unwrap_or(Frame { text: range.start, offset: *end });
                let next = frames.get(needed.end);
                // Frames that do not reach back so far are a defect, and a text that ends too early.
                let first = if first.text > range.start { Frame { text: range.start, offset: *end } } else { first };
                let packed = Packed {
                    encoding: Encoding::Zstd,
                    charset: None,
                    bytes: first.offset..next.map_or(*end, |next| next.offset),
                    skip: range.start.saturating_sub(first.text),
                    length: range.end - range.start,
                    to_end: next.is_some_and(|next| next.text == range.end),
                };
                From::Decoder(packed.start(store, path, bytes_read.clone()))
            }
            Stored::Whole { file, encoding, start, end, charset } => {
                let packed = Packed {
                    encoding: *encoding,
                    charset: *charset,
                    bytes: *start..*end,
                    skip: range.start,
                    length: range.end - range.start,
                    to_end: false,
                };
                match parse_path(file) {
                    Ok(path) => From::Decoder(packed.start(store, path, bytes_read.clone())),
                    Err(error) => From::Nothing(Some(error)),
                }
            }
        };
        TextChunks { file: self.clone(), at: range.start, end: range.end, bytes_read, from }
    }

    /// A short range of the text.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, DataFusionError> {
        let mut chunks = self.chunks(range, Count::new());
        let mut text = Vec::new();
        while let Some(chunk) = chunks.next().await? {
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    }
}

/// A range of a text on its way.
pub(crate) struct TextChunks {
    file: TextFile,
    /// Offset in the text of the next chunk.
    at: u64,
    end: u64,
    bytes_read: Count,
    from: From,
}

enum From {
    File {
        ahead: Option<SpawnedTask<object_store::Result<Bytes>>>,
    },
    Decoder(Decoding),
    /// It can't be read, and why.
    Nothing(Option<Error>),
}

/// A decoder on a thread of its own, and what feeds it; both end with this value.
struct Decoding {
    texts: mpsc::Receiver<Result<Bytes, DataFusionError>>,
    _feeding: SpawnedTask<()>,
}

impl TextChunks {
    /// The next chunk; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DataFusionError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let bytes = match &mut self.from {
            From::File { ahead } => {
                let ahead = match ahead.take() {
                    Some(ahead) => ahead,
                    None => read_ahead(&self.file, self.at, self.end),
                };
                let bytes = ahead.await.map_err(|error| DataFusionError::External(Box::new(error)))?;
                let bytes = bytes.map_err(storage_error)?;
                self.bytes_read.add(bytes.len());
                bytes
            }
            From::Nothing(error) => {
                let ended = || Error::new(Code::Internal, format!("{} was not read", self.file.path));
                return Err(error.take().unwrap_or_else(ended).into());
            }
            From::Decoder(decoding) => match decoding.texts.recv().await {
                Some(bytes) => bytes?,
                None => {
                    let message = format!("the decoder of {} ended before its text", self.file.path);
                    return Err(Error::new(Code::Internal, message).into());
                }
            },
        };
        self.at += bytes.len() as u64;
        if let (From::File { ahead }, true) = (&mut self.from, self.at < self.end) {
            *ahead = Some(read_ahead(&self.file, self.at, self.end));
        }
        Ok(Some(bytes))
    }
}

fn read_ahead(file: &TextFile, from: u64, end: u64) -> SpawnedTask<object_store::Result<Bytes>> {
    let (store, path) = (file.store.clone(), file.path.clone());
    SpawnedTask::spawn(async move { exactly(store.as_ref(), &path, from..end.min(from + READ_BYTES)).await })
}

/// All bytes of a range of a file.
pub(crate) async fn exactly(store: &dyn ObjectStore, path: &Path, range: Range<u64>) -> object_store::Result<Bytes> {
    let bytes = store.get_range(path, range.clone()).await?;
    if bytes.len() as u64 != range.end - range.start {
        let source = format!("{} bytes where {} were asked for", bytes.len(), range.end - range.start).into();
        return Err(object_store::Error::Generic { store: "raw", source });
    }
    Ok(bytes)
}

/// Brings a range of a file to a thread that reads it.
pub(crate) fn feed(
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: Range<u64>,
    bytes_read: Count,
) -> (SpawnedTask<()>, Arriving) {
    let (sender, arriving) = arriving(WAITING, bytes.start);
    let feeding = SpawnedTask::spawn(async move {
        let mut at = bytes.start;
        while at < bytes.end {
            let read = exactly(store.as_ref(), &path, at..bytes.end.min(at + READ_BYTES)).await;
            if let Ok(read) = &read {
                bytes_read.add(read.len());
                at += read.len() as u64;
            }
            let failed = read.is_err();
            if sender.send(read.map_err(io::Error::other)).await.is_err() || failed {
                return;
            }
        }
        let _ = sender.send(Ok(Bytes::new())).await;
    });
    (feeding, arriving)
}

/// Encoded bytes of a file that hold a range of a text.
struct Packed {
    encoding: Encoding,
    /// Of the letters, if not UTF-8.
    charset: Option<Charset>,
    bytes: Range<u64>,
    /// Text before the range.
    skip: u64,
    length: u64,
    /// The range ends where the encoded bytes do.
    to_end: bool,
}

impl Packed {
    fn start(self, store: Arc<dyn ObjectStore>, path: Path, bytes_read: Count) -> Decoding {
        let (feeding, arriving) = feed(store, path.clone(), self.bytes.clone(), bytes_read);
        let (sender, texts) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            let place = arriving.place();
            if let Err(error) = self.decode(arriving, &sender) {
                let error = match error.downcast::<object_store::Error>() {
                    Ok(error) => storage_error(error),
                    Err(error) => {
                        let (kind, at) = (self.encoding.as_str(), place.get());
                        let message = format!("{path}: the {kind} data is damaged at byte {at}: {error}");
                        let hint =
                            "the stored bytes are no longer those that were delivered; download the version again";
                        Error::new(Code::Storage, message).hint(hint).into()
                    }
                };
                let _ = sender.blocking_send(Err(error));
            }
        });
        Decoding { texts, _feeding: feeding }
    }

    fn decode(&self, arriving: Arriving, texts: &mpsc::Sender<Result<Bytes, DataFusionError>>) -> io::Result<()> {
        let mut text = decoder(self.encoding, arriving)?;
        if let Some(charset) = self.charset {
            text = charset.decode(text)?;
        }
        if io::copy(&mut text.by_ref().take(self.skip), &mut io::sink())? < self.skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut left = self.length;
        while left > 0 {
            let chunk = fill(&mut text, CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)))?;
            if chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= chunk.len() as u64;
            // Past its last byte a decoder compares checksums, so that comes before the last chunk is let go.
            if left == 0 && self.to_end && text.read(&mut [0])? > 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more text than the manifest says"));
            }
            if texts.blocking_send(Ok(chunk)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}
