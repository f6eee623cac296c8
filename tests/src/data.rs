//! Raw deliveries: the example's sample, the shared real data, generated days.

use std::fs;
use std::path::{Path, PathBuf};

use trireme_sample::output::{Output, Progress};
use trireme_sample::plan::Plan;
use trireme_sample::{delivery, streams};

pub use trireme_sample::json::Layout;

use crate::{repository, skip};

/// The six files of a delivery.
pub const FILES: [&str; 6] = ["authors.json", "books.json", "reviews.json", "streams.csv", "users.csv", "movies.csv"];

/// The sample that is kept with the example.
pub fn sample() -> PathBuf {
    repository().join("examples/books-and-movies/data")
}

/// The shared real data; none, with a printed reason, where it isn't.
pub fn real() -> Option<PathBuf> {
    let folder = match std::env::var_os("TRIREME_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => repository().parent()?.join("shared"),
    }
    .join("data/books-and-movies");
    if !folder.join(FILES[0]).is_file() {
        skip(&format!("the shared real data is not at {}; TRIREME_SHARED=DIR says where it is", folder.display()));
        return None;
    }
    Some(folder)
}

/// Writes `days` generated deliveries of `size` bytes each to `day-1`, `day-2` … in a folder, and returns theirs.
pub fn generate(folder: &Path, size: u64, days: u64, layout: Layout) -> Vec<PathBuf> {
    let plan = Plan::of_size(size, 7, layout).unwrap();
    (1..=days)
        .map(|day| {
            let folder = folder.join(format!("day-{day}"));
            delivery::write(&plan, day, &folder, &mut Progress::new(0)).unwrap();
            folder
        })
        .collect()
}

/// Writes the application's files (streams, users, movies) of one generated day to `day-N` in a folder, and returns that.
pub fn generate_streams(folder: &Path, size: u64, day: u64) -> PathBuf {
    let plan = Plan::of_size(size, 7, Layout::Ndjson).unwrap();
    let folder = folder.join(format!("day-{day}"));
    fs::create_dir_all(&folder).unwrap();
    let keys = streams::keys(&plan, day).unwrap();
    write(&folder.join("streams.csv"), |out| streams::write_streams(&plan, day, &keys, out));
    write(&folder.join("users.csv"), |out| streams::write_users(&plan, day, out));
    write(&folder.join("movies.csv"), |out| streams::write_movies(&plan, day, out));
    folder
}

fn write(path: &Path, rows: impl FnOnce(&mut Output) -> std::io::Result<()>) {
    let mut progress = Progress::new(0);
    let mut out = Output::create(path, &mut progress).unwrap();
    rows(&mut out).unwrap();
    out.finish().unwrap();
}

/// The size of a generated day, bytes: `TRIREME_TEST_SIZE`, or this.
pub fn size(default: u64) -> u64 {
    match std::env::var("TRIREME_TEST_SIZE") {
        Ok(text) => trireme_sample::bytes::parse(&text).unwrap(),
        Err(_) => default,
    }
}

/// A copy of the example whose data can be replaced.
#[derive(Debug)]
pub struct Project {
    folder: PathBuf,
}

impl Project {
    /// Copies pipeline file and questions into a new folder, with one delivery's files.
    pub fn new(folder: &Path, delivery: &Path) -> Self {
        let example = repository().join("examples/books-and-movies");
        for sub in ["questions", "data"] {
            fs::create_dir_all(folder.join(sub)).unwrap();
        }
        fs::copy(example.join("pipeline.yaml"), folder.join("pipeline.yaml")).unwrap();
        for entry in fs::read_dir(example.join("questions")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join("questions").join(path.file_name().unwrap())).unwrap();
        }
        let project = Self { folder: folder.to_path_buf() };
        project.deliver(delivery);
        project
    }

    /// Replaces the data by another delivery's.
    pub fn deliver(&self, delivery: &Path) {
        for file in FILES {
            // Shared files are read-only: a copy of their mode could not be replaced.
            fs::write(self.data().join(file), fs::read(delivery.join(file)).unwrap()).unwrap();
        }
    }

    /// The pipeline file.
    pub fn pipeline(&self) -> String {
        self.folder.join("pipeline.yaml").to_str().unwrap().to_string()
    }

    /// The folder of the delivery.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}
