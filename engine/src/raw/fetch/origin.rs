//! Origins: their URLs, and what opens and lists them.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{AllowedOrigins, Ask, Credentials, Failure, Opened, file, ftp, http, object, sftp};
use crate::error::{Code, Error, Result};

const SCHEMES: [&str; 9] = ["file", "http", "https", "ftp", "ftps", "sftp", "s3", "az", "gs"];

/// A place to read from, and what is needed to read from it.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub url: Url,
    pub allowed: AllowedOrigins,
    pub credentials: Credentials,
    /// An origin that says nothing for so long is taken for broken.
    pub patience: Duration,
}

impl Origin {
    /// As it may be kept and shown.
    pub fn shown(&self) -> String {
        shown(&self.url)
    }

    /// Another file of the same place.
    pub fn beside(&self, url: Url) -> Self {
        Self { url, ..self.clone() }
    }

    /// Begins to read.
    pub async fn open(&self, ask: Ask<'_>) -> Result<Opened, Failure> {
        let opening = async {
            match self.url.scheme() {
                "file" => file::open(self, ask).await,
                "http" | "https" => http::open(self, ask).await,
                "ftp" | "ftps" => ftp::open(self, ask).await,
                "sftp" => sftp::open(self, ask).await,
                _ => object::open(self, ask).await,
            }
        };
        let opened = tokio::time::timeout(self.patience, opening).await;
        opened.map_err(|_| Failure::transient(format!("{} did not answer for {:?}", self.shown(), self.patience)))?
    }

    /// Host and user of the URL, for protocols that log in: the user, from the URL or the credentials, decoded.
    pub fn host_and_user(&self) -> Result<(String, Option<String>)> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_string();
        if host.is_empty() {
            return Err(Error::new(Code::InvalidSpec, format!("{}: no host", self.shown())));
        }
        let user = match self.url.username() {
            "" => self.credentials.user.clone(),
            user => Some(self.decoded(user)?),
        };
        Ok((host, user))
    }

    /// The URL's path, decoded, from the root.
    pub fn path(&self) -> Result<String> {
        self.decoded(self.url.path())
    }

    fn decoded(&self, text: &str) -> Result<String> {
        let invalid = |what: &str| Error::new(Code::InvalidSpec, format!("{}: {what}", self.shown()));
        let text = percent_decode_str(text).decode_utf8().map_err(|_| invalid("not UTF-8"))?;
        // A line break would be a command of its own.
        if text.chars().any(char::is_control) {
            return Err(invalid("control characters in the URL"));
        }
        Ok(text.into_owned())
    }
}

/// Parses where a download is to read from.
///
/// # Errors
/// `InvalidSpec` for what is no URL, a scheme that is not read, or credentials in the URL.
pub fn origin_url(from: &str) -> Result<Url> {
    let hint = "give file:///path, http(s)://, ftp(s)://, sftp://, s3://, az:// or gs://";
    // What can't be parsed is not repeated: a password may be in it.
    let url = Url::parse(from)
        .map_err(|error| Error::new(Code::InvalidSpec, format!("download origin is not a URL: {error}")).hint(hint))?;
    if !SCHEMES.contains(&url.scheme()) {
        return Err(Error::new(Code::InvalidSpec, format!("downloads can't read `{}://`", url.scheme())).hint(hint));
    }
    let user_is_fine = matches!(url.scheme(), "ftp" | "ftps" | "sftp") || url.username().is_empty();
    if url.password().is_some() || !user_is_fine {
        return Err(Error::new(Code::InvalidSpec, format!("the URL of {} holds credentials", shown(&url)))
            .hint("specs are kept and shown; name them with `credentials:`, and give them to the executors"));
    }
    if !matches!(url.scheme(), "http" | "https") && url.query().is_some() {
        return Err(Error::new(
            Code::InvalidSpec,
            format!("{} has a query, and only http(s):// knows queries", shown(&url)),
        )
        .hint("write a `?` in a file's name as %3F; in a pattern, `*` stands for any part of a name"));
    }
    Ok(url)
}

/// Whether a URL means the files of a folder (it ends in `/`) or those that match a pattern (its path has `*` or `[…]`). HTTP knows neither.
pub fn is_pattern(url: &Url) -> bool {
    !matches!(url.scheme(), "http" | "https") && (url.path().contains(['*', '[']) || url.path().ends_with('/'))
}

/// A URL as it may be kept and shown: without user, password, query (which may hold a signature) and fragment.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs that can have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// The port of a URL, given or its scheme's.
pub(super) fn port(url: &Url) -> Option<u16> {
    url.port_or_known_default().or(match url.scheme() {
        "sftp" => Some(22),
        "ftps" => Some(21),
        _ => None,
    })
}
