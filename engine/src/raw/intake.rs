//! What is learned of a file while its bytes stream by, compressed or not: checksum, splits, and a seekable copy.

use std::io::{self, Cursor, Read};

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    charset::Charset,
    manifest::{Compression, Encoding, Part, RawFormat, SeekableCopy},
    packed::{Taken, TextPlan, Untaken, arriving, damaged, decoder, discard, not_taken, take_members, take_text},
    scanner::Scanner,
};
use crate::{
    error::{Code, Error, Result},
    storage::in_folder,
};

/// Bytes after which format and compression are told.
const ENOUGH_TO_TELL: usize = 4096;

/// Chunks that wait to be decoded.
const WAITING: usize = 16;

/// Which texts get a seekable copy, from which they are read in parallel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum CopyPolicy {
    /// None: a compressed file is read by one task
    Off,
    /// Those of compressed files, and of text that is not UTF-8
    #[default]
    Compressed,
    /// All, so that less is read from storage
    All,
}

/// A file that streams by.
pub(crate) struct Intake {
    plan: TextPlan,
    /// Where it comes from, for messages.
    origin: String,
    /// By its name.
    named: Option<Compression>,
    policy: CopyPolicy,
    /// As it was asked for; a name only suggests one.
    given: Option<RawFormat>,
    compression: Option<Compression>,
    hash: Sha256,
    bytes: u64,
    /// What came before format and compression were told.
    first: BytesMut,
    how: How,
}

enum How {
    Untold,
    Scan {
        scanner: Box<Scanner>,
        format: RawFormat,
    },
    Thread {
        bytes: mpsc::Sender<io::Result<Bytes>>,
        taking: JoinHandle<Result<Taken>>,
    },
    Taken(Box<Taken>),
    /// Read when it is stored: its directory is at its end.
    Archive,
}

impl Intake {
    /// Of a file with this name; the plan's `stem` is that of its copies, and whether there is one is left to `policy`.
    pub fn new(plan: TextPlan, origin: String, name: &str, policy: CopyPolicy) -> Self {
        let given = plan.format;
        let format = given.or_else(|| RawFormat::of_name(name));
        Self {
            plan: TextPlan { format, ..plan },
            origin,
            named: Compression::of_name(name),
            policy,
            given,
            compression: None,
            hash: Sha256::new(),
            bytes: 0,
            first: BytesMut::new(),
            how: How::Untold,
        }
    }

    /// Bytes taken.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Format, as far as it is known, and compression, once they are told.
    pub fn told(&self) -> Option<(Option<RawFormat>, Option<Compression>)> {
        match &self.how {
            How::Untold => None,
            How::Scan { format, .. } => Some((Some(*format), None)),
            _ => Some((self.plan.format, self.compression)),
        }
    }

    pub async fn write(&mut self, chunk: &Bytes) -> Result<()> {
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        if !matches!(self.how, How::Untold) {
            return self.pass(chunk.clone()).await;
        }
        self.first.extend_from_slice(chunk);
        if self.first.len() >= ENOUGH_TO_TELL { self.tell().await } else { Ok(()) }
    }

    /// Settles compression and format, and begins with what came so far.
    async fn tell(&mut self) -> Result<()> {
        self.compression = Compression::of_first_bytes(&self.first);
        if let (Some(named), None) = (self.named, self.compression) {
            return Err(damaged(&self.origin, &format!("the file is named as {named}, and its first bytes are not")));
        }
        let plain = self.compression.is_none();
        // A compressed one's letters are looked at when they are decompressed.
        let charset = Charset::told(self.plan.options.encoding, &self.first).filter(|_| plain);
        let copied = match self.policy {
            CopyPolicy::Off => false,
            CopyPolicy::Compressed => !plain || charset.is_some(),
            CopyPolicy::All => true,
        };
        self.plan.copy = copied;
        self.how = match self.compression {
            Some(Compression::Zip) => How::Archive,
            Some(compression) => match compression.encoding() {
                Some(encoding) => self.thread(encoding),
                None => return Err(Error::new(Code::Internal, format!("{compression} has no decoder"))),
            },
            None => {
                if charset.is_some() && self.plan.format.is_none() {
                    // Its format is told from its first letters, and its name from its format.
                    self.plan.format = Some(first_letters(charset, &self.first));
                }
                let format = *self.plan.format.get_or_insert_with(|| RawFormat::of_first_bytes(&self.first));
                if (copied || charset.is_some()) && format != RawFormat::Parquet {
                    self.thread(Encoding::Plain)
                } else {
                    let scanner = Scanner::of(format, self.plan.options.csv.dialect, self.plan.split_size);
                    How::Scan { scanner: Box::new(scanner), format }
                }
            }
        };
        let first = self.first.split().freeze();
        self.pass(first).await
    }

    fn thread(&self, encoding: Encoding) -> How {
        let (bytes, arriving) = arriving(WAITING, 0);
        let (plan, origin) = (self.plan.clone(), self.origin.clone());
        let taking = tokio::task::spawn_blocking(move || {
            let place = arriving.place();
            decoder(encoding, arriving)
                .map_err(Untaken::Text)
                .and_then(|text| take_text(text, &plan))
                .map_err(|untaken| not_taken(untaken, &origin, encoding, &place))
        });
        How::Thread { bytes, taking }
    }

    async fn pass(&mut self, chunk: Bytes) -> Result<()> {
        match &mut self.how {
            How::Scan { scanner, .. } => scanner.feed(&chunk),
            // An empty chunk would be the end.
            How::Thread { bytes, taking } if !chunk.is_empty() => {
                let sent = bytes.send(Ok(chunk)).await;
                if sent.is_err() {
                    // It ended before the file did.
                    joined(taking.await)?;
                    return Err(damaged(&self.origin, "bytes follow the end of the compressed data"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The file is whole: waits until its text is too.
    pub async fn end(&mut self) -> Result<()> {
        if matches!(self.how, How::Untold) {
            self.tell().await?;
        }
        if let How::Thread { bytes, taking } = &mut self.how {
            // If it has ended already, it says why.
            let _ = bytes.send(Ok(Bytes::new())).await;
            let taken = joined(taking.await)?;
            self.how = How::Taken(Box::new(taken));
        }
        Ok(())
    }

    /// What a manifest says of the file, which is stored at `path` in the version's folder now: a part, or one for each member.
    pub async fn parts(self, path: &str) -> Result<(Vec<Part>, RawFormat)> {
        let sha256 = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let part = Part { path: path.to_string(), bytes: self.bytes, sha256, ..Part::default() };
        let of_text = |taken: Taken| Part {
            compression: self.compression,
            layout: taken.scan.layout,
            splits: taken.scan.splits,
            records: taken.scan.records,
            charset: taken.charset,
            text_bytes: (self.compression.is_some() || taken.charset.is_some()).then_some(taken.text_bytes),
            copy: taken.copy,
            ..part.clone()
        };
        match self.how {
            How::Scan { scanner, format } => {
                let scan = scanner.finish();
                let part = Part { layout: scan.layout, splits: scan.splits, records: scan.records, ..part };
                Ok((vec![part], format))
            }
            How::Taken(taken) => {
                let format = taken.format;
                Ok((vec![of_text(*taken)], format))
            }
            How::Archive => {
                let (plan, origin, bytes, given) = (self.plan, self.origin, self.bytes, self.given);
                let file = in_folder(&plan.folder, path);
                let taking = tokio::task::spawn_blocking(move || {
                    let told = |name: &str| given.or_else(|| RawFormat::of_name(name)).or(plan.format);
                    take_members(&plan, &file, bytes, &origin, told)
                });
                let taken = joined(taking.await)?;
                let format = taken.first().map_or(RawFormat::Csv, |(_, taken)| taken.format);
                let members = taken.into_iter().map(|(member, taken)| Part { member: Some(member), ..of_text(taken) });
                Ok((members.collect(), format))
            }
            How::Untold | How::Thread { .. } => Err(Error::new(Code::Internal, "a file that did not end")),
        }
    }

    /// Removes what was written of it. A copy that is not whole is given up with this value.
    pub async fn discard(self) {
        if let How::Taken(taken) = &self.how {
            discard(&self.plan.store, &self.plan.folder, &taken.copy).await;
        }
    }
}

/// The format that text of another encoding tells by its first letters.
fn first_letters(charset: Option<Charset>, first: &[u8]) -> RawFormat {
    let mut letters = Vec::new();
    if let Some(Ok(mut text)) = charset.map(|charset| charset.decode(Cursor::new(first.to_vec()))) {
        // Where they end in the middle of a letter they have told it before.
        let _ = text.read_to_end(&mut letters);
    }
    RawFormat::of_first_bytes(&letters)
}

fn joined<T>(ended: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    ended.map_err(|error| Error::new(Code::Internal, format!("a decoder did not end well: {error}")))?
}

/// Removes the files of a version that does not come to be.
pub(crate) async fn discard_parts(
    plan_store: &std::sync::Arc<dyn object_store::ObjectStore>,
    folder: &Path,
    parts: &[Part],
) {
    use object_store::ObjectStoreExt;
    let copies: Vec<&SeekableCopy> = parts.iter().filter_map(|part| part.copy.as_ref()).collect();
    discard(plan_store, folder, copies).await;
    let mut files: Vec<&str> = parts.iter().map(|part| part.path.as_str()).collect();
    files.dedup();
    for file in files {
        if let Err(error) = plan_store.delete(&in_folder(folder, file)).await {
            tracing::warn!(%error, file, "a file could not be removed; nothing refers to it");
        }
    }
}
