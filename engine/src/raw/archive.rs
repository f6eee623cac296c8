//! The directory of a zip archive.
//!
//! `zip` finds it, checks it and opens it, but of several members of one name it keeps the last. Each is delivered, so its entries are read again here.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use object_store::{ObjectStore, path::Path};
use tokio::runtime::Handle;

use super::{
    manifest::{Encoding, Member},
    packed::{CHUNK, damaged},
    stored::exactly,
};
use crate::error::{Code, Error, Result};

/// Lengths and magic numbers of a member's headers: in the directory, and before its data.
const ENTRY: usize = 46;
const ENTRY_MAGIC: &[u8] = b"PK\x01\x02";
const LOCAL: usize = 30;
const LOCAL_MAGIC: &[u8] = b"PK\x03\x04";

/// An object as a file, for code that seeks and waits.
struct StoreFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
    at: u64,
    /// What was read last, and where it starts.
    block: (u64, Bytes),
}

impl Read for StoreFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.bytes {
            return Ok(0);
        }
        let cached = self.block.0..self.block.0 + self.block.1.len() as u64;
        if !cached.contains(&self.at) {
            let range: Range<u64> = self.at..self.bytes.min(self.at + CHUNK as u64);
            let read = Handle::current().block_on(exactly(self.store.as_ref(), &self.path, range));
            self.block = (self.at, read.map_err(io::Error::other)?);
        }
        let from = usize::try_from(self.at - self.block.0).unwrap_or(usize::MAX);
        let read = self.block.1.get(from..).unwrap_or_default().read(into)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for StoreFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// An entry of the directory.
struct Entry {
    name: String,
    encrypted: bool,
    method: u16,
    crc32: u32,
    /// Lengths in the archive and of the text.
    bytes: u64,
    text: u64,
    /// Of its local header, from the archive's first byte.
    header: u64,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    if let Some(found) = bytes.get(at..at + N) {
        number[..N].copy_from_slice(found);
    }
    u64::from_le_bytes(number)
}

fn length(bytes: &[u8], at: usize) -> usize {
    usize::try_from(number::<2>(bytes, at)).unwrap_or_default()
}

impl Entry {
    /// The entry that begins here; none where the directory ends.
    fn read(file: &mut impl Read) -> io::Result<Option<Self>> {
        let mut fixed = [0; ENTRY];
        file.read_exact(&mut fixed[..4])?;
        if &fixed[..4] != ENTRY_MAGIC {
            return Ok(None);
        }
        file.read_exact(&mut fixed[4..])?;
        let (name, extra, comment) = (length(&fixed, 28), length(&fixed, 30), length(&fixed, 32));
        let mut rest = vec![0; name + extra + comment];
        file.read_exact(&mut rest)?;
        let (name, rest) = rest.split_at(name);
        // Lengths that need more than 32 bits are in an extra field, in this order.
        let mut long = long_lengths(rest.get(..extra).unwrap_or_default());
        let mut wide = |at: usize| match number::<4>(&fixed, at) {
            0xffff_ffff => long.next().unwrap_or(0xffff_ffff),
            short => short,
        };
        let (text, bytes, header) = (wide(24), wide(20), wide(42));
        Ok(Some(Self {
            name: name_of(name),
            encrypted: number::<2>(&fixed, 8) & 1 == 1,
            method: u16::try_from(number::<2>(&fixed, 10)).unwrap_or(u16::MAX),
            crc32: u32::try_from(number::<4>(&fixed, 16)).unwrap_or_default(),
            bytes,
            text,
            header,
        }))
    }
}

/// The numbers of the extra field of zip64.
fn long_lengths(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut found: &[u8] = &[];
    while extra.len() >= 4 {
        let (kind, size) = (number::<2>(extra, 0), length(extra, 2));
        let field = extra.get(4..4 + size).unwrap_or_default();
        if kind == 1 {
            found = field;
        }
        extra = extra.get(4 + size..).unwrap_or_default();
    }
    found.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

/// A name as it is shown. One that is not UTF-8 is of some old code page; only its ASCII letters say anything about it here.
fn name_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The members of a stored archive that are files, as its directory has them, with the lengths of their texts. Several may have one name.
pub(crate) fn members(store: Arc<dyn ObjectStore>, path: Path, bytes: u64, origin: &str) -> Result<Vec<(Member, u64)>> {
    let unreadable = |what: String| {
        damaged(origin, &format!("the directory of the zip archive of {bytes} bytes can't be read: {what}"))
    };
    let broken = |error: io::Error| match error.downcast::<object_store::Error>() {
        Ok(error) => Error::from(error),
        Err(error) => unreadable(error.to_string()),
    };
    let refused = |name: &str, what: &str| {
        Error::new(Code::DownloadFailed, format!("{origin}, member {name}: {what}"))
            .hint("members may be stored, deflated, or compressed with zstd or bzip2, without a password")
    };
    let file = StoreFile { store, path, bytes, at: 0, block: (0, Bytes::new()) };
    let archive = zip::ZipArchive::new(file).map_err(|error| match error {
        zip::result::ZipError::Io(error) => broken(error),
        error => unreadable(error.to_string()),
    })?;
    let (directory, offset, known) = (archive.central_directory_start(), archive.offset(), archive.len());
    let mut file = archive.into_inner();
    file.seek(SeekFrom::Start(directory)).map_err(broken)?;
    let mut entries = Vec::with_capacity(known);
    while let Some(entry) = Entry::read(&mut file).map_err(broken)? {
        entries.push(entry);
    }
    if entries.len() < known {
        return Err(unreadable(format!("it has {} entries where {known} were counted", entries.len())));
    }
    let mut members = Vec::new();
    for (index, entry) in (0..).zip(entries) {
        let Entry { name, encrypted, method, crc32, bytes, text, header } = entry;
        // What macOS adds to archives is about files, and none of them.
        if name.ends_with(['/', '\\']) || name.starts_with("__MACOSX/") {
            continue;
        }
        if encrypted {
            return Err(refused(&name, "it is encrypted"));
        }
        let encoding = match method {
            0 => Encoding::Plain,
            8 => Encoding::Deflate,
            12 => Encoding::Bzip2,
            93 => Encoding::Zstd,
            other => return Err(refused(&name, &format!("it is compressed by method {other}, which is not read"))),
        };
        let start = header.saturating_add(offset);
        let mut local = [0; LOCAL];
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut local)).map_err(broken)?;
        if &local[..4] != LOCAL_MAGIC {
            return Err(damaged(origin, &format!("member {name} is not at byte {start}, where the directory has it")));
        }
        let before = (LOCAL + length(&local, 26) + length(&local, 28)) as u64;
        members.push((Member { name, index, encoding, offset: start + before, bytes, crc32 }, text));
    }
    if members.is_empty() {
        return Err(damaged(origin, "the zip archive holds no file"));
    }
    Ok(members)
}
