//! Where downloads may read from.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::Url;

use super::origin::{port, shown};
use crate::error::{Code, Error, Result};

/// URL prefixes that downloads may read from; `*` is all.
///
/// A URL is under a prefix when scheme, host and port are the same and the prefix's path segments are the first of the URL's, both percent-decoded
/// and without dots: `https://host/data` allows `https://host/data/x.json` and not `https://host/database`. Local files are compared after symbolic links
/// are resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowedOrigins(Vec<String>);

impl AllowedOrigins {
    /// Checks and keeps a list of prefixes.
    pub fn new(prefixes: Vec<String>) -> Result<Self> {
        for prefix in prefixes.iter().filter(|prefix| *prefix != "*") {
            let segments = Url::parse(prefix).ok().and_then(|url| segments(&url));
            if segments.is_none() {
                return Err(Error::new(Code::InvalidSpec, format!("allowed origin `{prefix}` is not a URL"))
                    .hint("give URL prefixes such as https://host/data/ or file:///srv/deliveries/, or `*` for all"));
            }
        }
        Ok(Self(prefixes))
    }

    /// All origins.
    pub fn all() -> Self {
        Self(vec!["*".to_string()])
    }

    /// Checks a URL.
    ///
    /// # Errors
    /// `OriginRefused`.
    pub fn check(&self, url: &Url) -> Result<()> {
        let allowed =
            self.0.iter().any(|prefix| prefix == "*" || Url::parse(prefix).is_ok_and(|prefix| is_under(url, &prefix)));
        if allowed {
            return Ok(());
        }
        let list = if self.0.is_empty() { "nothing".to_string() } else { self.0.join(", ") };
        Err(Error::new(Code::OriginRefused, format!("downloads may not read from {}", shown(url)))
            .hint(format!("the scheduler's --allowed-origins allows {list}")))
    }
}

/// Decoded path segments; none when one of them could mean another path than it seems to.
fn segments(url: &Url) -> Option<Vec<Vec<u8>>> {
    let path = url.path();
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let decoded: Vec<u8> = percent_decode_str(segment).collect();
        if decoded == b"." || decoded == b".." || decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0..=31)) {
            return None;
        }
        segments.push(decoded);
    }
    Some(segments)
}

fn is_under(url: &Url, prefix: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(str::to_ascii_lowercase);
    let same_place = url.scheme() == prefix.scheme() && host(url) == host(prefix) && port(url) == port(prefix);
    let (Some(path), Some(start)) = (segments(url), segments(prefix)) else { return false };
    if !same_place {
        return false;
    }
    if url.scheme() != "file" {
        return path.starts_with(&start);
    }
    let real = |url: &Url| url.to_file_path().ok().and_then(|path| std::fs::canonicalize(path).ok());
    match (real(url), real(prefix)) {
        (Some(file), Some(folder)) => file.starts_with(folder),
        // What is not there can't be read; that is said when it is tried.
        (None, _) => path.starts_with(&start),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(prefixes: &[&str], url: &str) -> bool {
        let allowed = AllowedOrigins::new(prefixes.iter().map(ToString::to_string).collect()).unwrap();
        allowed.check(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn prefixes_end_at_segments() {
        let prefixes = ["https://host/data", "ftp://h:2121/", "s3://bucket/raw/", "sftp://h/in/", "ftps://h:21/"];
        for url in [
            "https://host/data",
            "https://HOST:443/data/x.json?q=1",
            "https://host/%64ata/x.json",
            "https://host/other/../data/x",
            "ftp://h:2121/any/where",
            "ftp://someone@h:2121/x",
            "s3://bucket/raw/x",
            "s3://bucket/raw/day=*/x",
            "sftp://someone@H:22/in/x",
            "ftps://h/x",
        ] {
            assert!(allows(&prefixes, url), "{url}");
        }
        for url in [
            "https://host/database",
            "https://host/data/../secret",
            "https://host/data/%2e%2e/secret",
            "https://host/data/..%2fsecret",
            "https://host/data/x%5c..%5cy",
            "http://host/data",
            "https://host:8443/data",
            "https://host.evil/data",
            "https://host@evil/data",
            "https://evil/https://host/data",
            "ftp://h/x",
            "s3://bucket2/raw/x",
            "s3://bucket/rawest",
            "s3://bucket/*/x",
            "sftp://h:2222/in/x",
            "sftp://h/~/in/x",
            "ftps://h:990/x",
            "file:///data",
        ] {
            assert!(!allows(&prefixes, url), "{url}");
        }
        assert!(allows(&["*"], "https://any/where") && !allows(&[], "https://any/where"));
        assert!(AllowedOrigins::new(vec!["host/data".into()]).is_err());
    }

    #[test]
    fn links_out_of_a_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(&outside, "x").unwrap();
        std::fs::write(inside.join("plain"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        let url = |path: &std::path::Path| Url::from_file_path(path).unwrap().to_string();
        assert!(allows(&[&url(&inside)], &url(&inside.join("plain"))));
        assert!(!allows(&[&url(&inside)], &url(&inside.join("link"))));
        assert!(!allows(&[&url(&inside)], &url(&outside)));
        assert!(allows(&[&url(&inside)], &url(&inside.join("missing"))));
    }

    #[test]
    fn a_refusal_names_the_setting_and_no_secret() {
        let allowed = AllowedOrigins::new(vec!["https://host/".into()]).unwrap();
        let error = allowed.check(&Url::parse("https://evil/x?token=secret").unwrap()).unwrap_err();
        assert_eq!(error.code, Code::OriginRefused);
        assert!(error.hint.contains("--allowed-origins") && !error.to_string().contains("secret"), "{error}");
    }
}
