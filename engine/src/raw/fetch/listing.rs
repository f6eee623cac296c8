//! Many files: what a folder's URL or a pattern finds, and whether a version has it already.
//!
//! A pattern is a URL whose path has `*` (any part of one name), `[a-z]` (one character) or `**` (any folders). A URL that ends in `/` means all files
//! below that folder whose names, and whose folders' names, don't begin with `.` or `_`.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use glob::MatchOptions;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    AllowedOrigins, Credentials, Failure, Next, checksum, file, ftp, object,
    origin::{Origin, origin_url, shown},
    sftp,
    transfer::delays,
};
use crate::{
    error::{Code, Error, Result},
    raw::manifest::{Manifest, Part},
};

/// Files of one version, at most.
pub(super) const MOST_FILES: usize = 10_000;

/// Folders that are looked into, at most; links may lead round in circles.
const MOST_FOLDERS: usize = 100_000;

const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What is to be listed. It travels to an executor as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListRequest {
    /// URL of a folder, or with a pattern.
    pub from: String,
    /// Where downloads may read from.
    pub allowed: AllowedOrigins,
    /// Name of the credentials.
    pub credentials: Option<String>,
    /// An origin that says nothing for so long is taken for broken.
    pub patience: Duration,
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its URL.
    pub url: String,
    /// As the origin said it.
    pub etag: Option<String>,
    /// As the origin said it.
    pub last_modified: Option<String>,
    /// Length in bytes.
    pub length: Option<u64>,
}

impl Listed {
    /// Its URL as a manifest keeps it.
    pub fn origin(&self) -> String {
        Url::parse(&self.url).map_or_else(|_| self.url.clone(), |url| shown(&url))
    }

    /// Whether a part is this file, as it still is; false when the listing does not say enough.
    fn is(&self, part: &Part, manifest: &Manifest) -> bool {
        let Some(delivered) = manifest.delivered(part) else { return false };
        let same = match (&self.etag, &delivered.etag) {
            (Some(now), Some(then)) => now == then,
            _ => {
                self.last_modified.is_some()
                    && self.last_modified == delivered.last_modified
                    && self.length == Some(part.bytes)
            }
        };
        same && self.origin() == delivered.origin
    }
}

/// Whether a version has exactly these files, by what the listing says of them.
pub fn is_current(files: &[Listed], manifest: &Manifest) -> bool {
    // Members of an archive are parts of one file.
    let mut stored: Vec<&Part> = manifest.parts.iter().collect();
    stored.dedup_by_key(|part| &part.path);
    files.len() == stored.len() && files.iter().zip(stored).all(|(file, part)| file.is(part, manifest))
}

/// Whether parts hold what those of a version do, from origins of the same names.
pub fn is_same(parts: &[Part], manifest: &Manifest) -> bool {
    let same = |new: &Part, old: &Part| {
        let names = |part: &Part| manifest.delivered(part).map(|delivered| delivered.origin);
        (new.bytes, &new.sha256) == (old.bytes, &old.sha256) && names(new) == names(old)
    };
    parts.len() == manifest.parts.len() && parts.iter().zip(&manifest.parts).all(|(new, old)| same(new, old))
}

/// Finds the files of a folder or a pattern, sorted by path.
///
/// # Errors
/// `InvalidSpec` for a pattern that can't be one, `OriginRefused` for a file that may not be read, `DownloadFailed` when nothing is found or the origin
/// can't be listed, `Cancelled`.
pub async fn list(request: &ListRequest, cancel: &CancellationToken) -> Result<Vec<Listed>> {
    list_as(request, Credentials::find(request.credentials.as_deref())?, cancel).await
}

pub(super) async fn list_as(
    request: &ListRequest,
    credentials: Credentials,
    cancel: &CancellationToken,
) -> Result<Vec<Listed>> {
    let url = origin_url(&request.from)?;
    request.allowed.check(&url)?;
    let pattern = Pattern::parse(&url)?;
    let origin = Origin { url, allowed: request.allowed.clone(), credentials, patience: request.patience };
    let cancelled = || Error::new(Code::Cancelled, format!("the listing of {} was cancelled", origin.shown()));
    let mut delays = delays();
    loop {
        let found = tokio::select! {
            found = try_list(&origin, &pattern) => found,
            () = cancel.cancelled() => return Err(cancelled()),
        };
        let failure = match found {
            Ok(files) => return Ok(files),
            Err(failure) => failure,
        };
        let Some(delay) = delays.next().filter(|_| failure.next != Next::Nothing) else { return Err(failure.error) };
        tracing::warn!(origin = origin.shown(), error = %failure.error.message, ?delay, "listing is tried again");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = cancel.cancelled() => return Err(cancelled()),
        }
    }
}

async fn try_list(origin: &Origin, pattern: &Pattern) -> Result<Vec<Listed>, Failure> {
    let mut files = match origin.url.scheme() {
        "file" => walk(origin, pattern, &mut file::LocalFolders).await?,
        "ftp" | "ftps" => walk(origin, pattern, &mut ftp::FtpFolders::connect(origin).await?).await?,
        "sftp" => walk(origin, pattern, &mut sftp::SftpFolders::connect(origin).await?).await?,
        "s3" | "az" | "gs" => object::list(origin, pattern).await?,
        scheme => {
            return Err(Error::new(Code::InvalidSpec, format!("`{scheme}://` has no listing"))
                .hint("name the files one by one, each as a source")
                .into());
        }
    };
    let urls: BTreeSet<String> = files.iter().map(|file| file.url.clone()).collect();
    files.retain(|file| !checksum::is_of_another(&file.url, &urls));
    files.sort_by(|a, b| a.url.cmp(&b.url));
    files.dedup_by(|a, b| a.url == b.url);
    if files.is_empty() {
        return Err(Error::new(Code::DownloadFailed, format!("no file is at {}", origin.shown()))
            .hint("`*` stands for any part of one name, `**` for any folders, and a `/` at the end for all files below a folder but those named .… or _…")
            .into());
    }
    for listed in &files {
        let url = Url::parse(&listed.url).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        origin.allowed.check(&url)?;
        if url.scheme() == "file" {
            file::check(listed, origin).await?;
        }
    }
    Ok(files)
}

pub(super) fn too_many(name: &str) -> Error {
    Error::new(Code::DownloadFailed, format!("{name} has more than {MOST_FILES} files"))
        .hint("a version has one part for each; narrow the pattern, or pack small files together")
}

/// What is in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub folder: bool,
    pub file: bool,
    /// A symbolic link to what the others say.
    pub link: bool,
    pub length: Option<u64>,
    pub last_modified: Option<String>,
}

/// A tree of folders.
#[async_trait]
pub(super) trait Folders: Send {
    /// What is in the folder with this decoded path, from the root and without a slash at its end; none when there is no such folder.
    async fn entries(&mut self, folder: &str) -> Result<Option<Vec<Entry>>, Failure>;
}

/// One name of a pattern's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Wild(glob::Pattern),
    /// Any folders, or none.
    Folders,
}

/// Which files are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
    /// A folder was named: what begins with `.` or `_` below it is left out.
    hides: bool,
}

impl Pattern {
    pub fn parse(url: &Url) -> Result<Self> {
        let wrong = |what: String| Error::new(Code::InvalidSpec, format!("{}: {what}", shown(url)));
        let mut segments = Vec::new();
        for raw in url.path().split('/').filter(|raw| !raw.is_empty()) {
            if raw == "**" {
                if segments.last() != Some(&Segment::Folders) {
                    segments.push(Segment::Folders);
                }
            } else if raw.contains(['*', '[']) {
                let text = glob_of(raw).ok_or_else(|| wrong(format!("`{raw}` is not UTF-8")))?;
                let pattern = glob::Pattern::new(&text).map_err(|error| {
                    wrong(format!("`{raw}`: {}", error.msg)).hint("`*` is any part of a name, `[a-z]` one character, `**` alone any folders; write %2A and %5B for the characters themselves")
                })?;
                segments.push(Segment::Wild(pattern));
            } else {
                let name = percent_decode_str(raw).decode_utf8().map_err(|_| wrong(format!("`{raw}` is not UTF-8")))?;
                if name.contains(['/', '\\']) || name.chars().any(char::is_control) {
                    return Err(wrong(format!("`{raw}` is not a name")));
                }
                segments.push(Segment::Literal(name.into_owned()));
            }
        }
        let hides = url.path().ends_with('/');
        if hides && segments.last() != Some(&Segment::Folders) {
            segments.push(Segment::Folders);
        }
        if segments.last() == Some(&Segment::Folders) {
            let any = glob::Pattern::new("*").map_err(|error| wrong(error.to_string()))?;
            segments.push(Segment::Wild(any));
        }
        Ok(Self { segments, hides })
    }

    /// The folders before the first wildcard.
    pub fn literal_start(&self) -> Vec<String> {
        let literal = |segment: &Segment| match segment {
            Segment::Literal(name) => Some(name.clone()),
            Segment::Wild(_) | Segment::Folders => None,
        };
        self.segments.iter().map_while(literal).collect()
    }

    /// Whether a file's path is meant.
    pub fn matches(&self, names: &[&str]) -> bool {
        // Which segments may come next, after each name.
        let mut next: BTreeSet<usize> = self.after_folders([0].into());
        for name in names {
            let mut then = BTreeSet::new();
            for at in next {
                match self.segments.get(at) {
                    Some(Segment::Folders) if self.shows(name) => {
                        then.insert(at);
                    }
                    Some(segment) if self.fits(segment, name) => {
                        then.insert(at + 1);
                    }
                    _ => {}
                }
            }
            next = self.after_folders(then);
        }
        next.contains(&self.segments.len())
    }

    /// These places in the pattern, and those behind a `**` that stands for nothing.
    fn after_folders(&self, mut at: BTreeSet<usize>) -> BTreeSet<usize> {
        let skipped: Vec<usize> =
            at.iter().filter(|at| self.segments.get(**at) == Some(&Segment::Folders)).map(|at| at + 1).collect();
        at.extend(skipped);
        at
    }

    fn fits(&self, segment: &Segment, name: &str) -> bool {
        match segment {
            Segment::Literal(wanted) => wanted == name,
            Segment::Wild(pattern) => self.shows(name) && pattern.matches_with(name, MATCHING),
            Segment::Folders => false,
        }
    }

    /// Whether a name that no literal names is looked at.
    fn shows(&self, name: &str) -> bool {
        !(name.starts_with('.') || self.hides && name.starts_with('_'))
    }

    /// The URL of a file with these names in its path.
    pub fn url(&self, base: &Url, names: &[impl AsRef<str>]) -> Result<Url> {
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::new(Code::InvalidSpec, format!("{} has no path", shown(base))))?
            .clear()
            .extend(names.iter().map(AsRef::as_ref));
        Ok(url)
    }
}

/// A raw segment of a URL's path as a glob: what is percent-encoded means itself.
fn glob_of(raw: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        text.push_str(&plain(&rest[..at]));
        let encoded =
            rest.as_bytes()[at..].chunks(3).take_while(|triple| triple.len() == 3 && triple[0] == b'%').count() * 3;
        let encoded = &rest[at..at + encoded.max(1)];
        text.push_str(&glob::Pattern::escape(&percent_decode_str(encoded).decode_utf8().ok()?));
        rest = &rest[at + encoded.len()..];
    }
    text.push_str(&plain(rest));
    Some(text)
}

/// A `?` can't be in a path; it is kept from meaning anything all the same.
fn plain(text: &str) -> String {
    text.replace('?', "[?]")
}

/// The files of a tree that are meant.
async fn walk(origin: &Origin, pattern: &Pattern, folders: &mut dyn Folders) -> Result<Vec<Listed>, Failure> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    // Names so far, and the segment that the next name has to fit.
    let mut open: Vec<(Vec<String>, usize)> = vec![(Vec::new(), 0)];
    while let Some((names, at)) = open.pop() {
        let Some(segment) = pattern.segments.get(at) else { continue };
        let last = at + 1 == pattern.segments.len();
        if let (Segment::Literal(name), false) = (segment, last) {
            open.push(([names.as_slice(), std::slice::from_ref(name)].concat(), at + 1));
            continue;
        }
        if !seen.insert((names.clone(), at)) {
            continue;
        }
        if seen.len() > MOST_FOLDERS {
            let message = format!("{} has more than {MOST_FOLDERS} folders", origin.shown());
            return Err(Error::new(Code::DownloadFailed, message).hint("narrow the pattern").into());
        }
        if *segment == Segment::Folders {
            open.push((names.clone(), at + 1));
        }
        let listed = tokio::time::timeout(origin.patience, folders.entries(&format!("/{}", names.join("/")))).await;
        let listed = listed.map_err(|_| {
            Failure::transient(format!("{} did not answer for {:?}", origin.shown(), origin.patience))
        })??;
        for entry in listed.unwrap_or_default() {
            let path = || [names.as_slice(), std::slice::from_ref(&entry.name)].concat();
            match segment {
                // Links are not followed here: they may lead back.
                Segment::Folders if entry.folder && !entry.link && pattern.shows(&entry.name) => {
                    open.push((path(), at))
                }
                Segment::Folders => {}
                segment if !pattern.fits(segment, &entry.name) => {}
                _ if last && entry.file => {
                    files.push(Listed {
                        url: pattern.url(&origin.url, &path())?.to_string(),
                        etag: None,
                        last_modified: entry.last_modified.clone(),
                        length: entry.length,
                    });
                    if files.len() > MOST_FILES {
                        return Err(too_many(&origin.shown()).into());
                    }
                }
                _ if !last && entry.folder => open.push((path(), at + 1)),
                _ => {}
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(path: &str) -> Pattern {
        Pattern::parse(&Url::parse(&format!("s3://b/{path}")).unwrap()).unwrap()
    }

    fn matches(path: &str, name: &str) -> bool {
        pattern(path).matches(&name.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn patterns_match_whole_paths() {
        for (path, name) in [
            ("in/*.csv", "in/a.csv"),
            ("in/day=*/x-*.json", "in/day=2026-11-22/x-1.json"),
            ("in/**/x.json", "in/x.json"),
            ("in/**/x.json", "in/a/b/x.json"),
            ("in/**", "in/a/b"),
            ("in/", "in/a/b/c"),
            ("in/x[0-3].json", "in/x2.json"),
            ("in/%5Bx%5D-*.json", "in/[x]-1.json"),
            ("in/%2A*.json", "in/*a.json"),
            ("in/a%20b/*", "in/a b/c"),
            ("_in/*", "_in/_x"),
        ] {
            assert!(matches(path, name), "{path} {name}");
        }
        for (path, name) in [
            ("in/*.csv", "in/a/b.csv"),
            ("in/*.csv", "other/a.csv"),
            ("in/*.csv", "in/.hidden.csv"),
            ("in/", "in/_SUCCESS"),
            ("in/", "in/_temporary/x"),
            ("in/", "in/.x/y"),
            ("in/%2A*.json", "in/a.json"),
            ("in/x[0-3].json", "in/x4.json"),
            ("in/**/x.json", "in/x.json/y"),
        ] {
            assert!(!matches(path, name), "{path} {name}");
        }
        assert_eq!(pattern("a/b/*/c").literal_start(), ["a", "b"]);
        let error = Pattern::parse(&Url::parse("s3://b/x[").unwrap()).unwrap_err();
        assert!(error.code == Code::InvalidSpec && error.hint.contains("%5B"), "{error}");
    }

    /// A tree in memory: paths of files.
    struct Tree(Vec<String>);

    #[async_trait]
    impl Folders for Tree {
        async fn entries(&mut self, folder: &str) -> Result<Option<Vec<Entry>>, Failure> {
            let prefix = if folder == "/" { "/".to_string() } else { format!("{folder}/") };
            let mut names: Vec<(String, bool)> = Vec::new();
            for path in &self.0 {
                let Some(rest) = path.strip_prefix(&prefix) else { continue };
                let entry = match rest.split_once('/') {
                    Some((name, _)) => (name.to_string(), true),
                    None => (rest.to_string(), false),
                };
                if !names.contains(&entry) {
                    names.push(entry);
                }
            }
            let entry = |(name, folder): (String, bool)| Entry {
                name,
                folder,
                file: !folder,
                link: false,
                length: None,
                last_modified: None,
            };
            Ok(Some(names.into_iter().map(entry).collect()))
        }
    }

    proptest! {
        /// Walking a tree finds what matching each path finds.
        #[test]
        fn walking_finds_what_matches(
            paths in prop::collection::btree_set("(/[ab_.]{1,2}){1,4}", 0..12),
            wanted in "(([ab_]|\\*|\\*\\*|a\\*|[ab]b)/){0,3}([ab]|\\*|\\*b|\\*\\*)?",
        ) {
            // No path is a folder of another one, and none is `.` or `..`.
            let is_file = |path: &&String| !paths.iter().any(|other| other.starts_with(&format!("{path}/")));
            let plain = |path: &&String| !path.split('/').any(|name| name == "." || name == "..");
            let files: Vec<String> = paths.iter().filter(is_file).filter(plain).cloned().collect();
            let url = Url::parse(&format!("sftp://h/{wanted}")).unwrap();
            let pattern = Pattern::parse(&url).unwrap();
            let origin = Origin { url, allowed: AllowedOrigins::all(), credentials: Credentials::default(), patience: Duration::from_secs(9) };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let mut found: Vec<String> = runtime
                .block_on(walk(&origin, &pattern, &mut Tree(files.clone())))
                .unwrap()
                .into_iter()
                .map(|listed| Url::parse(&listed.url).unwrap().path().to_string())
                .collect();
            found.sort();
            found.dedup();
            let matching = |path: &&String| pattern.matches(&path.split('/').skip(1).collect::<Vec<_>>());
            let expected: Vec<String> = files.iter().filter(matching).cloned().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
