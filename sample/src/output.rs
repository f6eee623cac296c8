//! A file that is written through one reusable buffer, and word of its progress.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that are gathered before they go to disk.
const BUFFER: usize = 1 << 20;
/// Time between two words of progress, and before the first.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says on standard error how far a run is, once it takes longer than two seconds.
#[derive(Debug)]
pub struct Progress {
    spoke: Instant,
    written: u64,
    expected: u64,
}

impl Progress {
    /// Starts the clock of a run that will write about `expected` bytes.
    pub fn new(expected: u64) -> Self {
        Self { spoke: Instant::now(), written: 0, expected }
    }

    /// Bytes written so far, over all files.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn add(&mut self, bytes: u64, path: &Path) {
        self.written += bytes;
        if self.spoke.elapsed() >= PATIENCE {
            self.spoke = Instant::now();
            eprintln!("{} of about {} MB, in {}", self.written / 1_000_000, self.expected / 1_000_000, path.display());
        }
    }
}

/// A file being written; what is in `buffer` follows what is already on disk.
#[derive(Debug)]
pub struct Output<'a> {
    /// Where the next bytes go.
    pub buffer: Vec<u8>,
    file: File,
    path: &'a Path,
    progress: &'a mut Progress,
}

impl<'a> Output<'a> {
    /// Creates the file at `path`, or empties it.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &'a Path, progress: &'a mut Progress) -> io::Result<Self> {
        Ok(Self { buffer: Vec::with_capacity(BUFFER + (BUFFER >> 4)), file: File::create(path)?, path, progress })
    }

    /// Sends the buffer to disk if it is full: to be called after each row.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn row_done(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER {
            return Ok(());
        }
        self.flush()
    }

    /// Sends the rest to disk and closes the file.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.progress.add(self.buffer.len() as u64, self.path);
        self.buffer.clear();
        Ok(())
    }
}
