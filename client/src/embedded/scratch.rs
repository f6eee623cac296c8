//! The folder for children's logs and work, gone when the command is.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

const PREFIX: &str = "trireme-embedded-";
const LOCK: &str = "lock";

/// A folder below the system's temporary one (`TMPDIR`), for this user only.
pub(super) struct Scratch {
    path: PathBuf,
    /// Held for as long as this process lives; the kernel lets go of it even after SIGKILL.
    _lock: File,
}

impl Scratch {
    /// Makes a new folder, and removes those of processes that were killed.
    pub fn make() -> Result<Self> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let path = parent.join(format!("{PREFIX}{}", uuid::Uuid::new_v4()));
        let lock = DirBuilder::new().mode(0o700).create(&path).and_then(|()| {
            // It gets its name when it is locked, so that nobody finds it free.
            let unnamed = path.join("unlocked");
            let lock = File::create(&unnamed)?;
            lock.lock()?;
            fs::rename(&unnamed, path.join(LOCK))?;
            Ok(lock)
        });
        match lock {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(error) => Err(Error::new("start-failed", format!("can't make the folder {}: {error}", path.display()))
                .hint("name a writable folder with TMPDIR")),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it.
    pub fn folder(&self, name: &str) -> Result<String> {
        let path = self.path.join(name);
        fs::create_dir(&path).map_err(|error| {
            Error::new("start-failed", format!("can't make the folder {}: {error}", path.display()))
        })?;
        Ok(path.display().to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Best effort: what can't be removed stays for the next time.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()).unwrap_or(false) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn is_abandoned(folder: &Path) -> io::Result<bool> {
    // A folder without its lock file is being made right now; opening fails.
    Ok(File::options().write(true).open(folder.join(LOCK))?.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_abandoned_folders_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let [held, abandoned, new, other] =
            [format!("{PREFIX}1"), format!("{PREFIX}2"), format!("{PREFIX}3"), "else".to_string()]
                .map(|n| parent.path().join(n));
        for folder in [&held, &abandoned, &new, &other] {
            fs::create_dir(folder).unwrap();
        }
        for folder in [&held, &abandoned, &other] {
            fs::write(folder.join(LOCK), "").unwrap();
        }
        let lock = File::open(held.join(LOCK)).unwrap();
        lock.lock().unwrap();
        remove_abandoned(parent.path());
        assert!(held.exists() && new.exists() && other.exists());
        assert!(!abandoned.exists());
    }
}
