//! Where a download comes from: a path, which becomes a `file://` URL, or a URL as it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use url::Url;

use crate::error::{Error, Result};

/// An origin with an absolute URL.
#[derive(Debug)]
pub struct Origin {
    /// What the scheduler gets.
    pub url: Url,
    /// The file it names, when it is one of this machine or of the executors'.
    file: Option<PathBuf>,
    /// Written as a relative path: then it can only mean a file of this machine.
    relative: bool,
}

impl Origin {
    /// Reads a path (a relative one starts at `folder`) or a URL. Which kinds of URL can be read is the scheduler's to say.
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        if text.trim().is_empty() {
            return Err(wrong("the origin is empty"));
        }
        if text.contains("://") {
            let url = Url::parse(text).map_err(|error| wrong(format!("`{text}` is not a URL: {error}")))?;
            let file = match url.scheme() {
                "file" => Some(url.to_file_path().map_err(|()| wrong(format!("`{text}` names no local file")))?),
                _ => None,
            };
            return Ok(Self { url, file, relative: false });
        }
        let relative = Path::new(text).is_relative();
        let file = std::path::absolute(folder.join(text)).map_err(|error| wrong(format!("`{text}`: {error}")))?;
        let path = resolve(&file);
        let url = if text.ends_with('/') { Url::from_directory_path(&path) } else { Url::from_file_path(&path) };
        let mut url = url.map_err(|()| wrong(format!("`{text}` is not a path")))?;
        if file.exists() {
            // It is there by this name, so nothing in it is a wildcard.
            url.set_path(&url.path().replace('*', "%2A").replace('[', "%5B"));
        }
        Ok(Self { url, file: Some(file), relative })
    }

    /// Whether it means many files: a pattern, or a folder.
    fn is_many(&self) -> bool {
        self.url.path().contains(['*', '[']) || self.url.path().ends_with('/')
    }

    /// Checks that a file is there, if it has to be on this machine.
    pub fn check(&self, files_are_ours: bool) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.relative || files_are_ours) else { return Ok(()) };
        let problem = match fs::metadata(file) {
            Ok(metadata) if metadata.is_dir() && !self.is_many() => {
                "is a folder; end it with `/` for all files in it".to_string()
            }
            Ok(_) => return Ok(()),
            // What a pattern finds, those who read it will tell.
            Err(_) if self.url.path().contains(['*', '[']) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is not there".to_string(),
            Err(error) => format!("can't be read: {error}"),
        };
        Err(wrong(format!("the file {} {problem}", file.display())))
    }
}

/// A path without `..`. A URL would drop it together with the folder before it, which is wrong where that folder is a link.
fn resolve(file: &Path) -> PathBuf {
    match (file.parent().map(Path::canonicalize), file.file_name()) {
        (Some(Ok(folder)), Some(name)) if file.components().any(|part| part == std::path::Component::ParentDir) => {
            folder.join(name)
        }
        _ => file.to_path_buf(),
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::invalid(message).hint(
        "an origin is a path (in a pipeline file relative to that file), or a URL: \
         file:///path, https://host/path, sftp://host/path, ftp://host/path, s3://bucket/path; \
         `*` and a `/` at the end mean many files",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_urls() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        fs::create_dir(folder.join("sub")).unwrap();
        fs::write(folder.join("a b.json"), "[]").unwrap();

        for text in ["a b.json", "sub/../a b.json"] {
            let origin = Origin::parse(text, &folder).unwrap();
            assert_eq!(origin.url.as_str(), format!("file://{}/a%20b.json", folder.display()));
            origin.check(false).unwrap();
        }
        for (text, url) in [("sub/", "sub/"), ("*.json", "*.json"), ("day=*/x", "day=*/x")] {
            let origin = Origin::parse(text, &folder).unwrap();
            assert_eq!(origin.url.as_str(), format!("file://{}/{url}", folder.display()));
        }
        fs::write(folder.join("x[1]*.json"), "[]").unwrap();
        let origin = Origin::parse("x[1]*.json", &folder).unwrap();
        assert_eq!(origin.url.as_str(), format!("file://{}/x%5B1]%2A.json", folder.display()));
        for text in ["s3://bucket/x.csv", "https://host/x?y=1", "ftp://user@host/x"] {
            assert_eq!(Origin::parse(text, &folder).unwrap().url.as_str(), text);
        }
        for text in ["", " ", "http://", "://x"] {
            assert!(Origin::parse(text, &folder).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_missing_file_is_found_out_where_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str, ours: bool| Origin::parse(text, folder.path()).unwrap().check(ours).is_ok();
        assert!(!check("none.csv", false), "a relative path is ours in any case");
        assert!(!check(".", false), "a folder is no file");
        assert!(check("./", true) && !check("none/", true), "many files of a folder");
        assert!(check("*.json", true) && check("day=*/x[0-9].csv", true), "what is found is told later");
        // On another machine it may be there.
        assert!(check("/none/none.csv", false) && check("file:///none/none.csv", false));
        assert!(!check("/none/none.csv", true) && !check("file:///none/none.csv", true));
        assert!(check("https://host/none.csv", true));
    }
}
