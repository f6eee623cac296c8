//! Checksums that an origin publishes, or the spec gives.

use std::{collections::BTreeSet, fmt, str::FromStr};

use futures::StreamExt;
use serde::{Deserialize, Serialize, de};

use super::{Ask, Failure, Next, Opened, Seen, origin::Origin};
use crate::error::{Code, Error, Result};

/// Longest file of checksums that is read.
const MOST: usize = 1024 * 1024;

/// What a file's checksum is compared with. Its text form is `none`, `auto`, `sha256:HEX` or `md5:HEX`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing: its length is checked only.
    #[default]
    None,
    /// What the origin publishes: `URL.sha256`, `URL.md5`, or an MD5 as the ETag of an object.
    Auto,
    /// SHA-256, lower-case hexadecimal.
    Sha256(String),
    /// MD5, lower-case hexadecimal.
    Md5(String),
}

impl Checksum {
    /// Whether an MD5 has to be computed.
    pub(super) fn wants_md5(&self) -> bool {
        matches!(self, Self::Auto | Self::Md5(_))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Auto => f.write_str("auto"),
            Self::Sha256(hex) => write!(f, "sha256:{hex}"),
            Self::Md5(hex) => write!(f, "md5:{hex}"),
        }
    }
}

impl FromStr for Checksum {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Code::InvalidSpec, format!("`{text}` is not a checksum"))
                .hint("`checksum` is `none`, `auto` (what the origin publishes), `sha256:` with 64 or `md5:` with 32 hexadecimal digits")
        };
        match text.split_once(':') {
            None if text.is_empty() || text == "none" => Ok(Self::None),
            None if text == "auto" => Ok(Self::Auto),
            Some(("sha256", hex)) => as_hex(hex, 64).map(Self::Sha256).ok_or_else(wrong),
            Some(("md5", hex)) => as_hex(hex, 32).map(Self::Md5).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Checksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|error: Error| de::Error::custom(error.message))
    }
}

fn as_hex(text: &str, digits: usize) -> Option<String> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_lowercase())
}

/// Bytes as lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares the checksums of a file that came with what they should be. With `auto`, a file for which nothing is published is taken as it is.
pub(super) async fn compare(
    origin: &Origin,
    checksum: &Checksum,
    seen: &Seen,
    sha256: &str,
    md5: &str,
) -> Result<(), Failure> {
    let differs = |kind: &str, found: &str, wanted: &str, by: &str| -> Failure {
        Error::new(Code::DownloadFailed, format!("{} has the {kind} {found}, and {by} says {wanted}", origin.shown()))
            .hint("nothing was stored; the file or its published checksum is damaged or older: ask its owner, or leave `checksum` out")
            .into()
    };
    match checksum {
        Checksum::None => Ok(()),
        Checksum::Sha256(wanted) if wanted == sha256 => Ok(()),
        Checksum::Sha256(wanted) => Err(differs("SHA-256", sha256, wanted, "the spec")),
        Checksum::Md5(wanted) if wanted == md5 => Ok(()),
        Checksum::Md5(wanted) => Err(differs("MD5", md5, wanted, "the spec")),
        Checksum::Auto => {
            for (kind, suffix, found) in [("SHA-256", "sha256", sha256), ("MD5", "md5", md5)] {
                let mut url = origin.url.clone();
                url.set_path(&format!("{}.{suffix}", url.path()));
                if origin.allowed.check(&url).is_err() {
                    continue;
                }
                let Some(text) = read(&origin.beside(url.clone())).await? else { continue };
                let name = url.path_segments().and_then(|mut names| names.next_back()).unwrap_or_default();
                let name = name.strip_suffix(&format!(".{suffix}")).unwrap_or(name);
                match published(&text, name, found.len()) {
                    Some(wanted) if wanted == found => return Ok(()),
                    Some(wanted) => return Err(differs(kind, found, &wanted, &super::shown(&url))),
                    None => tracing::warn!(url = super::shown(&url), "no checksum of the file is in it"),
                }
            }
            let etag = seen.etag.as_deref().filter(|_| matches!(origin.url.scheme(), "s3" | "gs"));
            match etag.and_then(|etag| as_hex(etag.trim_matches('"'), 32)) {
                Some(wanted) if wanted != md5 => Err(differs(
                    "MD5",
                    md5,
                    &wanted,
                    "its ETag (which is no MD5 where the store encrypts with keys of its own)",
                )),
                _ => Ok(()),
            }
        }
    }
}

/// A small file as text; none when there is none that can be read.
async fn read(origin: &Origin) -> Result<Option<String>, Failure> {
    let mut incoming = match origin.open(Ask::Whole(None)).await {
        Ok(Opened::Body(incoming)) => incoming,
        Ok(Opened::NotModified) => return Ok(None),
        Err(failure) if failure.next == Next::Nothing && failure.error.code == Code::DownloadFailed => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let mut text = Vec::new();
    let silent = || Failure::transient(format!("{} sent nothing for {:?}", origin.shown(), origin.patience));
    while let Some(chunk) = tokio::time::timeout(origin.patience, incoming.body.next()).await.map_err(|_| silent())? {
        text.extend_from_slice(&chunk?);
        if text.len() > MOST {
            return Ok(None);
        }
    }
    Ok(String::from_utf8(text).ok())
}

/// The checksum of `name` in a text as `sha256sum` or BSD's `sha256` writes it, or one that stands alone.
fn published(text: &str, name: &str, digits: usize) -> Option<String> {
    let sum = |line: &str| line.split_whitespace().find_map(|word| as_hex(word.trim_start_matches('\\'), digits));
    let sums: Vec<(&str, String)> = text.lines().filter_map(|line| Some((line, sum(line)?))).collect();
    let names = |line: &str| line.split([' ', '\t', '*', '(', ')', '/']).any(|word| word == name);
    match sums.iter().find(|(line, _)| names(line)) {
        Some((_, sum)) => Some(sum.clone()),
        None if sums.len() == 1 => sums.into_iter().next().map(|(_, sum)| sum),
        None => None,
    }
}

/// Whether a file holds the checksum of another one of the same listing.
pub(super) fn is_of_another(url: &str, all: &BTreeSet<String>) -> bool {
    [".sha256", ".md5"].iter().filter_map(|suffix| url.strip_suffix(suffix)).any(|stem| all.contains(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sums_are_found() {
        let sum = "0123456789abcdef0123456789ABCDEF";
        let wanted = Some(sum.to_ascii_lowercase());
        for text in [
            sum.to_string(),
            format!("{sum}\n"),
            format!("{sum}  x.json\n"),
            format!("{sum} *any/where/x.json\r\n"),
            format!("MD5 (x.json) = {sum}\n"),
            format!("{}  y.json\n{sum}  x.json\n", "0".repeat(32)),
        ] {
            assert_eq!(published(&text, "x.json", 32), wanted, "{text}");
        }
        for text in ["", "<html>404</html>", "abc", &format!("{0}  y\n{0}  z\n", "0".repeat(32)), &"0".repeat(64)] {
            assert_eq!(published(text, "x.json", 32), None, "{text}");
        }
    }

    #[test]
    fn the_text_form_is_read_back() {
        for text in ["none", "auto", &format!("sha256:{}", "a".repeat(64)), &format!("md5:{}", "0".repeat(32))] {
            let checksum: Checksum = text.parse().unwrap();
            assert_eq!(checksum.to_string(), text);
            assert_eq!(serde_json::from_str::<Checksum>(&serde_json::to_string(&checksum).unwrap()).unwrap(), checksum);
        }
        assert_eq!("".parse::<Checksum>().unwrap(), Checksum::None);
        for text in ["yes", "sha256:", "sha256:abc", &format!("md5:{}", "g".repeat(32)), "sha1:00"] {
            assert_eq!(text.parse::<Checksum>().unwrap_err().code, Code::InvalidSpec, "{text}");
        }
    }
}
