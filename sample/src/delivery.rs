//! A day's delivery: six files in one folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::json::Layout;
use crate::output::{Output, Progress};
use crate::plan::Plan;
use crate::{reviews, streams, vendor};

/// Why a delivery could not be made.
#[derive(Debug)]
pub enum Error {
    /// What was asked for cannot be made.
    Plan(String),
    /// A file or folder could not be written.
    Disk(PathBuf, io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plan(reason) => f.write_str(reason),
            Self::Disk(path, error) => write!(f, "cannot write {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Bytes that `days` deliveries will take, within a few percent.
pub fn expected_bytes(plan: &Plan, days: u64) -> u64 {
    let review = match plan.layout {
        Layout::Array => 745,
        Layout::Ndjson => 349,
    };
    days.saturating_mul(plan.streams.saturating_mul(126) + plan.reviews.saturating_mul(review))
}

/// Writes the delivery of `day` (from 1) into `folder`, which is made if it is missing; files of the same names are
/// replaced.
///
/// # Errors
/// If the month has too few milliseconds for all keys up to this day, or the disk does not take the files.
pub fn write(plan: &Plan, day: u64, folder: &Path, progress: &mut Progress) -> Result<(), Error> {
    let stream_keys = streams::keys(plan, day).map_err(Error::Plan)?;
    let review_keys = reviews::keys(plan, day).map_err(Error::Plan)?;
    fs::create_dir_all(folder).map_err(|error| Error::Disk(folder.to_owned(), error))?;

    let mut file = |name: &str, rows: &dyn Fn(&mut Output) -> io::Result<()>| {
        let path = folder.join(name);
        Output::create(&path, progress)
            .and_then(|mut out| {
                rows(&mut out)?;
                out.finish()
            })
            .map_err(|error| Error::Disk(path.clone(), error))
    };
    file("authors.json", &|out| vendor::write_authors(plan, day, out))?;
    file("books.json", &|out| vendor::write_books(plan, day, out))?;
    file("reviews.json", &|out| reviews::write_reviews(plan, day, &review_keys, out))?;
    file("streams.csv", &|out| streams::write_streams(plan, day, &stream_keys, out))?;
    file("users.csv", &|out| streams::write_users(plan, day, out))?;
    file("movies.csv", &|out| streams::write_movies(plan, day, out))
}
