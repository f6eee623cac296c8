//! A real S3 server: SeaweedFS, started by `rigs/seaweedfs.sh`, with the bucket `lake`.

use std::path::Path;

use tempfile::TempDir;

use crate::process::command;
use crate::{repository, skip};

/// A running server; it ends with the value.
#[derive(Debug)]
pub struct Seaweed {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Seaweed {
    /// Starts a server on a free port; none, with a printed reason, where it can't be had.
    pub fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let output = command(rig()).arg("start").arg(folder.path()).arg("0").output().unwrap();
        if !output.status.success() {
            skip(&format!("no SeaweedFS: {}", String::from_utf8_lossy(&output.stderr)));
            return None;
        }
        let text = String::from_utf8(output.stdout).unwrap();
        let pairs = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let environment = pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Some(Self { folder, environment })
    }

    /// What a process needs to reach it: `AWS_*`.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.environment.clone()
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        let _ = command(rig()).arg("stop").arg(self.folder.path()).status();
    }
}

fn rig() -> impl AsRef<std::ffi::OsStr> {
    let path = repository().join("tests/rigs/seaweedfs.sh");
    assert!(Path::new(&path).is_file(), "{} is not there", path.display());
    path
}
