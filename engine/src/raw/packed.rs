//! Decompression as a stream: text out of compressed bytes, a seekable copy of text, and the members of an archive.
//!
//! All of this blocks, so it runs on threads for that; channels with few places bring the bytes, so memory is bounded whatever they expand to.

use std::{
    io::{self, BufRead, Cursor, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf, Bytes};
use datafusion::physical_plan::metrics::Count;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    archive::members,
    charset::Charset,
    dialect::TextOptions,
    manifest::{Encoding, Frame, Member, RawFormat, SeekableCopy},
    scanner::{Scan, Scanner},
    stored::feed,
    upload::Upload,
};
use crate::{
    error::{Code, Error, Result},
    storage::in_folder,
};

/// Bytes of text that are handled at a time.
pub(crate) const CHUNK: usize = 1024 * 1024;

/// Chunks of text that wait to be compressed.
const WAITING: usize = 8;

/// Of copies. Level 3 makes them a tenth smaller and takes up to twice the time, which then bounds downloads; measured in the README.
const LEVEL: i32 = 1;

/// Longest frame of the seekable format, by its reference implementation; only a text without record starts has one.
const MAX_FRAME: u64 = 1 << 30;

/// Magic numbers of the seekable format: <https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md>
const SKIPPABLE: u32 = 0x184D_2A5E;
const SEEKABLE: u32 = 0x8F92_EAB1;

/// How far into its file a reader is.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<AtomicU64>);

impl Place {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes that come through a channel, for code that waits for them. An empty chunk is the end; a channel that closes without one was given up.
#[derive(Debug)]
pub(crate) struct Arriving {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    ended: bool,
    place: Place,
}

/// A channel with so many places, of bytes that begin at this offset of their file.
pub(crate) fn arriving(places: usize, from: u64) -> (mpsc::Sender<io::Result<Bytes>>, Arriving) {
    let (sender, receiver) = mpsc::channel(places);
    let place = Place(Arc::new(AtomicU64::new(from)));
    (sender, Arriving { receiver, chunk: Bytes::new(), ended: false, place })
}

impl Arriving {
    pub fn place(&self) -> Place {
        self.place.clone()
    }
}

impl BufRead for Arriving {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() && !self.ended {
            let given_up = || Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the transfer was given up"));
            self.chunk = self.receiver.blocking_recv().unwrap_or_else(given_up)?;
            self.ended = self.chunk.is_empty();
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, bytes: usize) {
        self.chunk.advance(bytes);
        self.place.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// Text out of encoded bytes. The decoders compare checksums where there are any, and a zstd window of more than 128 MiB is refused.
pub(crate) fn decoder(encoding: Encoding, input: impl BufRead + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    Ok(match encoding {
        Encoding::Plain => Box::new(input),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Encoding::Deflate => Box::new(flate2::bufread::DeflateDecoder::new(input)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Encoding::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
    })
}

/// The next bytes, so many unless the text ends before.
pub(crate) fn fill(text: &mut (impl Read + ?Sized), bytes: usize) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(bytes);
    text.take(bytes as u64).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}

/// What is to be made of a text that streams by.
#[derive(Debug, Clone)]
pub(crate) struct TextPlan {
    pub store: Arc<dyn ObjectStore>,
    /// The version's.
    pub folder: Path,
    /// Name of the copy, without extensions.
    pub stem: String,
    /// Told from the text if it is not given.
    pub format: Option<RawFormat>,
    /// How it is read.
    pub options: TextOptions,
    pub split_size: u64,
    /// Whether a seekable copy is written.
    pub copy: bool,
    pub cancel: CancellationToken,
}

/// What came of a text.
#[derive(Debug)]
pub(crate) struct Taken {
    pub format: RawFormat,
    pub scan: Scan,
    /// Bytes, and of the text in UTF-8.
    pub bytes: u64,
    pub text_bytes: u64,
    pub crc32: u32,
    /// How its letters were encoded, if not as UTF-8.
    pub charset: Option<Charset>,
    pub copy: Option<SeekableCopy>,
}

/// Why a text was not taken.
#[derive(Debug)]
pub(crate) enum Untaken {
    /// It could not be read.
    Text(io::Error),
    Other(Error),
}

impl From<io::Error> for Untaken {
    fn from(error: io::Error) -> Self {
        Self::Text(error)
    }
}

impl From<Error> for Untaken {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Bytes that go by, their number and checksum.
struct Checked<R> {
    input: R,
    seen: Arc<Mutex<(u64, flate2::Crc)>>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        let mut seen = self.seen.lock();
        seen.0 += read as u64;
        seen.1.update(&into[..read]);
        Ok(read)
    }
}

/// Takes a text to its end: decodes its letters, scans it, and writes a copy if there is to be one. On a thread that may block.
pub(crate) fn take_text(mut input: Box<dyn Read + Send>, plan: &TextPlan) -> Result<Taken, Untaken> {
    // An archive's directory tells of the bytes before letters are decoded.
    let first = fill(input.as_mut(), CHUNK)?;
    let charset = Charset::told(plan.options.encoding, &first);
    let input = Read::chain(Cursor::new(first), input);
    let Some(charset) = charset else { return take_utf8(&mut { input }, plan) };
    let seen = Arc::new(Mutex::new((0, flate2::Crc::new())));
    let mut text = charset.decode(Checked { input, seen: seen.clone() })?;
    let taken = take_utf8(text.as_mut(), plan)?;
    let seen = seen.lock();
    let (text_bytes, bytes, crc32) = (taken.text_bytes, seen.0, seen.1.sum());
    Ok(Taken { charset: Some(charset), text_bytes, bytes, crc32, ..taken })
}

fn take_utf8(text: &mut dyn Read, plan: &TextPlan) -> Result<Taken, Untaken> {
    let mut chunk = fill(text, CHUNK)?;
    let format = plan.format.unwrap_or_else(|| RawFormat::of_first_bytes(&chunk));
    if format == RawFormat::Parquet {
        return Err(Error::new(Code::DownloadFailed, format!("{} is Parquet inside another compression", plan.stem))
            .hint("Parquet is compressed by itself and read at random; deliver it as it is")
            .into());
    }
    let mut scanner = Scanner::of(format, plan.options.csv.dialect, plan.split_size);
    let mut copy = plan.copy.then(|| CopyWriter::start(plan, format));
    let mut crc = flate2::Crc::new();
    // The first split is where the first record may start, which is no place to cut.
    let (mut bytes, mut seen) = (0, 1);
    while !chunk.is_empty() {
        if plan.cancel.is_cancelled() {
            return Err(Error::new(Code::Cancelled, "cancelled").into());
        }
        scanner.feed(&chunk);
        crc.update(&chunk);
        if let Some(copy) = &mut copy {
            let (mut rest, mut at) = (chunk.clone(), bytes);
            for split in scanner.splits().get(seen..).unwrap_or_default() {
                let length = usize::try_from(split.offset - at).unwrap_or(usize::MAX).min(rest.len());
                copy.step(Step::Text(rest.split_to(length)))?;
                copy.step(Step::EndFrame)?;
                at = split.offset;
            }
            copy.step(Step::Text(rest))?;
        }
        seen = seen.max(scanner.splits().len());
        bytes += chunk.len() as u64;
        chunk = fill(text, CHUNK)?;
    }
    let copy = copy.map(CopyWriter::finish).transpose()?;
    Ok(Taken { format, scan: scanner.finish(), bytes, text_bytes: bytes, crc32: crc.sum(), charset: None, copy })
}

enum Step {
    Text(Bytes),
    EndFrame,
    Finish,
}

/// A seekable copy that another thread writes; given up unless it is finished.
struct CopyWriter {
    steps: mpsc::Sender<Step>,
    writing: JoinHandle<Result<SeekableCopy>>,
}

impl CopyWriter {
    fn start(plan: &TextPlan, format: RawFormat) -> Self {
        let name = format!("{}.{format}.zst", plan.stem);
        let upload = Upload::new(plan.store.clone(), in_folder(&plan.folder, &name));
        let (steps, receiver) = mpsc::channel(WAITING);
        let writing = tokio::task::spawn_blocking(move || write_copy(name, receiver, upload));
        Self { steps, writing }
    }

    fn step(&mut self, step: Step) -> Result<()> {
        if self.steps.blocking_send(step).is_ok() {
            return Ok(());
        }
        // It ended before it was told to.
        match Handle::current().block_on(&mut self.writing) {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => Err(Error::new(Code::Internal, "a copy ended before its text")),
            Err(error) => Err(Error::new(Code::Internal, format!("a copy was not written: {error}"))),
        }
    }

    fn finish(mut self) -> Result<SeekableCopy> {
        self.step(Step::Finish)?;
        let written = Handle::current().block_on(self.writing);
        written.map_err(|error| Error::new(Code::Internal, format!("a copy was not written: {error}")))?
    }
}

fn write_copy(name: String, mut steps: mpsc::Receiver<Step>, upload: Upload) -> Result<SeekableCopy> {
    let mut frames = FrameWriter { upload, frames: Vec::new(), text: 0, offset: 0, frame: None };
    let handle = Handle::current();
    let mut each = || -> Result<bool> {
        loop {
            match steps.blocking_recv() {
                Some(Step::Text(text)) => frames.write(&handle, &text)?,
                Some(Step::EndFrame) => frames.end_frame(&handle)?,
                Some(Step::Finish) => {
                    frames.end_frame(&handle)?;
                    return Ok(true);
                }
                None => return Ok(false),
            }
        }
    };
    match each() {
        Ok(true) => frames.finish(&handle, name),
        Ok(false) => {
            handle.block_on(frames.upload.abort());
            Err(Error::new(Code::Cancelled, format!("{name} was given up")))
        }
        Err(error) => {
            handle.block_on(frames.upload.abort());
            Err(error)
        }
    }
}

/// Writes text as zstd frames.
struct FrameWriter {
    upload: Upload,
    frames: Vec<Frame>,
    /// Length of the text so far, and of the frames that ended.
    text: u64,
    offset: u64,
    frame: Option<OpenFrame>,
}

struct OpenFrame {
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    text: u64,
    bytes: u64,
}

fn not_compressed(error: io::Error) -> Error {
    Error::new(Code::Internal, format!("a copy could not be compressed: {error}"))
}

impl FrameWriter {
    fn write(&mut self, handle: &Handle, text: &[u8]) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let frame = match &mut self.frame {
            Some(frame) => frame,
            none => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).map_err(not_compressed)?;
                encoder.include_checksum(true).map_err(not_compressed)?;
                self.frames.push(Frame { text: self.text, offset: self.offset });
                none.insert(OpenFrame { encoder, text: 0, bytes: 0 })
            }
        };
        frame.encoder.write_all(text).map_err(not_compressed)?;
        frame.text += text.len() as u64;
        self.text += text.len() as u64;
        let full = frame.text >= MAX_FRAME;
        if frame.encoder.get_ref().len() >= CHUNK {
            let bytes = std::mem::take(frame.encoder.get_mut());
            frame.bytes += bytes.len() as u64;
            handle.block_on(self.upload.write(bytes.into()))?;
        }
        if full { self.end_frame(handle) } else { Ok(()) }
    }

    fn end_frame(&mut self, handle: &Handle) -> Result<()> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        let bytes = frame.encoder.finish().map_err(not_compressed)?;
        self.offset += frame.bytes + bytes.len() as u64;
        handle.block_on(self.upload.write(bytes.into()))
    }

    fn finish(mut self, handle: &Handle, path: String) -> Result<SeekableCopy> {
        let table = seek_table(&self.frames, self.text, self.offset);
        handle.block_on(self.upload.write(table.into()))?;
        let bytes = handle.block_on(self.upload.finish())?;
        Ok(SeekableCopy { path, bytes, frames: self.frames, frames_end: self.offset })
    }
}

/// The skippable frame that tells other tools where the frames are.
fn seek_table(frames: &[Frame], text: u64, offset: u64) -> Vec<u8> {
    let word = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let ends = frames.iter().skip(1).copied().chain([Frame { text, offset }]);
    let mut table = Vec::with_capacity(17 + 8 * frames.len());
    table.extend_from_slice(&SKIPPABLE.to_le_bytes());
    table.extend_from_slice(&word(9 + 8 * frames.len() as u64));
    for (frame, end) in frames.iter().zip(ends) {
        table.extend_from_slice(&word(end.offset - frame.offset));
        table.extend_from_slice(&word(end.text - frame.text));
    }
    table.extend_from_slice(&word(frames.len() as u64));
    // No checksums in the table: the frames have their own.
    table.push(0);
    table.extend_from_slice(&SEEKABLE.to_le_bytes());
    table
}

/// Takes the members of a stored archive, one after the other; on an error nothing of them is left.
pub(crate) fn take_members(
    plan: &TextPlan,
    path: &Path,
    bytes: u64,
    origin: &str,
    told: impl Fn(&str) -> Option<RawFormat>,
) -> Result<Vec<(Member, Taken)>> {
    let mut done: Vec<(Member, Taken)> = Vec::new();
    let mut each = || -> Result<()> {
        let mut members = members(plan.store.clone(), path.clone(), bytes, origin)?;
        // One without text tells no format: it has that of the others.
        members.sort_by_key(|(member, text)| (*text == 0, member.index));
        for (member, text) in members {
            let like_others = done.first().map(|(_, taken)| taken.format).filter(|_| text == 0);
            let plan = TextPlan {
                stem: format!("{}-{:05}", plan.stem, member.index),
                format: told(&member.name).or(like_others),
                ..plan.clone()
            };
            let taken = take_member(&plan, path, &member, text, origin)?;
            if let Some((first, other)) = done.first()
                && other.format != taken.format
            {
                let message = format!(
                    "{origin}: member {} is {}, member {} is {}",
                    first.name, other.format, member.name, taken.format
                );
                // What was copied of it goes with the others.
                done.push((member, taken));
                return Err(Error::new(Code::DownloadFailed, message)
                    .hint("the files of one delivery have one format; download them as several sources"));
            }
            done.push((member, taken));
        }
        Ok(())
    };
    if let Err(error) = each() {
        let copies = done.iter().filter_map(|(_, taken)| taken.copy.as_ref());
        Handle::current().block_on(discard(&plan.store, &plan.folder, copies));
        return Err(error);
    }
    done.sort_by_key(|(member, _)| member.index);
    Ok(done)
}

fn take_member(plan: &TextPlan, path: &Path, member: &Member, text: u64, origin: &str) -> Result<Taken> {
    let range = member.offset..member.offset + member.bytes;
    let (_feeding, arriving) = feed(plan.store.clone(), path.clone(), range, Count::new());
    let place = arriving.place();
    let named = format!("{origin}, member {}", member.name);
    let taken = decoder(member.encoding, arriving)
        .map_err(Untaken::Text)
        .and_then(|text| take_text(text, plan))
        .map_err(|untaken| not_taken(untaken, &named, member.encoding, &place))?;
    if (taken.bytes, taken.crc32) != (text, member.crc32) {
        Handle::current().block_on(discard(&plan.store, &plan.folder, &taken.copy));
        let what = if taken.bytes == text {
            format!("the text's checksum is not the directory's; it ends at byte {}", place.get())
        } else {
            format!("{} of {text} bytes of text, up to byte {}", taken.bytes, place.get())
        };
        return Err(damaged(&named, &what));
    }
    Ok(taken)
}

/// Removes copies of a version that does not come to be.
pub(crate) async fn discard(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    copies: impl IntoIterator<Item = &SeekableCopy>,
) {
    for copy in copies {
        if let Err(error) = store.delete(&in_folder(folder, &copy.path)).await {
            tracing::warn!(%error, path = copy.path, "a copy could not be removed; nothing refers to it");
        }
    }
}

/// What is wrong with compressed data, and where.
pub(crate) fn not_taken(untaken: Untaken, origin: &str, encoding: Encoding, place: &Place) -> Error {
    let error = match untaken {
        Untaken::Other(error) => return error,
        Untaken::Text(error) => error,
    };
    match error.downcast::<object_store::Error>() {
        Ok(error) => error.into(),
        Err(error) => {
            let what = if error.kind() == io::ErrorKind::UnexpectedEof {
                "it ends too early".into()
            } else {
                error.to_string()
            };
            damaged(origin, &format!("the {} data is broken at byte {}: {what}", encoding.as_str(), place.get()))
        }
    }
}

pub(crate) fn damaged(origin: &str, what: &str) -> Error {
    Error::new(Code::DownloadFailed, format!("{origin}: {what}"))
        .hint("no version was made of it; ask for a whole delivery")
}
