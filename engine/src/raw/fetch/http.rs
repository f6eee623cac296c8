//! `http://` and `https://`.

use futures::StreamExt;
use reqwest::{
    Certificate, Client, RequestBuilder, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap,
        HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
    },
    redirect::Policy,
};

use super::{Ask, Failure, Incoming, Opened, Seen, origin::Origin};
use crate::error::{Code, Error};

const MOST_REDIRECTS: usize = 10;

pub(super) async fn open(origin: &Origin, ask: Ask<'_>) -> Result<Opened, Failure> {
    let client = client(origin)?;
    let mut request = authorized(client.get(origin.url.clone()), origin)?.header(ACCEPT_ENCODING, "identity");
    match ask {
        Ask::Whole(Some(previous)) => {
            if let Some(etag) = &previous.etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(last_modified) = &previous.last_modified {
                request = request.header(IF_MODIFIED_SINCE, last_modified);
            }
        }
        Ask::Rest { start, end, of: Seen { validator: Some(validator), .. } } => {
            let end = end.map_or_else(String::new, |end| end.saturating_sub(1).to_string());
            request = request.header(RANGE, format!("bytes={start}-{end}")).header(IF_RANGE, validator);
        }
        Ask::Whole(None) | Ask::Rest { .. } => {}
    }
    let response = request.send().await.map_err(|error| broken(origin, error))?;
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED && matches!(ask, Ask::Whole(Some(_))) {
        return Ok(Opened::NotModified);
    }
    let asked = match ask {
        Ask::Rest { start, end, of } => Some((start, end, of)),
        Ask::Whole(_) => None,
    };
    let (start, length) = match (status, asked) {
        (StatusCode::OK, _) => {
            let length = header(response.headers(), &CONTENT_LENGTH).and_then(|length| length.parse().ok());
            (0, length)
        }
        (StatusCode::PARTIAL_CONTENT, Some((start, end, of))) => {
            (start, Some(continued(origin, &response, start, end, of)?))
        }
        (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED, _) => {
            return Err(Failure::no_rest(format!("{} answered {status}", origin.shown())));
        }
        _ => return Err(refused(origin, status)),
    };
    let headers = response.headers();
    identity(origin, headers)?;
    let seen = Seen {
        etag: header(headers, &ETAG),
        last_modified: header(headers, &LAST_MODIFIED),
        length,
        validator: match asked {
            Some((_, _, of)) if start > 0 => of.validator.clone(),
            _ => validator(headers),
        },
    };
    let ranges = header(headers, &ACCEPT_RANGES).is_some_and(|unit| unit.eq_ignore_ascii_case("bytes"));
    let from = origin.clone();
    let body = response.bytes_stream().map(move |chunk| chunk.map_err(|error| broken(&from, error)));
    Ok(Opened::Body(Incoming { seen, start, ranges, body: body.boxed() }))
}

fn authorized(request: RequestBuilder, origin: &Origin) -> Result<RequestBuilder, Error> {
    let credentials = &origin.credentials;
    match (&credentials.token, &credentials.user, &credentials.password) {
        (Some(token), ..) => Ok(request.bearer_auth(token)),
        (None, Some(user), password) => Ok(request.basic_auth(user, password.as_ref())),
        (None, None, Some(_)) => Err(Error::new(
            Code::InvalidSpec,
            format!("credentials `{}` have a password and no user", credentials.name),
        )
        .hint("give them a user, or a token")),
        (None, None, None) => Ok(request),
    }
}

fn refused(origin: &Origin, status: StatusCode) -> Failure {
    let message = format!("{} answered {status}", origin.shown());
    let busy = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    let hint = match status {
        _ if busy => return Failure::transient(message),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if origin.credentials.name.is_empty() => {
            "name credentials with `credentials:`, whose user and password, or token, the executors have".to_string()
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!("check the credentials `{}` of the executors", origin.credentials.name)
        }
        _ => "open the URL in a browser to see what it says".to_string(),
    };
    Error::new(Code::DownloadFailed, message).hint(hint).into()
}

/// Checks that an answer is the range that was asked for, of a file as long as it was; the file's length.
fn continued(origin: &Origin, response: &Response, start: u64, end: Option<u64>, of: &Seen) -> Result<u64, Failure> {
    let text = header(response.headers(), &CONTENT_RANGE).unwrap_or_default();
    let wrong = || {
        Failure::no_rest(format!(
            "{} sent the range `{text}` where bytes from {start} on were asked for",
            origin.shown()
        ))
    };
    let (first, last, length) = content_range(&text).ok_or_else(wrong)?;
    let wanted = end.unwrap_or(length).min(length);
    let is_right =
        first == start && last.checked_add(1) == Some(wanted) && of.length.is_none_or(|known| known == length);
    if is_right { Ok(length) } else { Err(wrong()) }
}

/// First and last byte and whole length of `bytes 1-2/3`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, length.trim().parse().ok()?))
}

/// A body that was encoded for the way is another file: its length, ETag and ranges are those of the encoded one.
fn identity(origin: &Origin, headers: &HeaderMap) -> Result<(), Error> {
    let Some(encoding) =
        header(headers, &CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))
    else {
        return Ok(());
    };
    // Servers call a file that is itself compressed so.
    let path = origin.url.path().to_ascii_lowercase();
    let of_the_file = match encoding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => [".gz", ".tgz"].iter().any(|end| path.ends_with(end)),
        "zstd" => path.ends_with(".zst"),
        "bzip2" | "x-bzip2" => path.ends_with(".bz2"),
        _ => false,
    };
    if of_the_file {
        return Ok(());
    }
    Err(Error::new(
        Code::DownloadFailed,
        format!("{} is sent encoded as `{encoding}`, though `identity` was asked for", origin.shown()),
    )
    .hint("ask its owner for the file as it is"))
}

/// What proves that a file is the same, byte for byte: a strong ETag, or a date of change that is surely older than the answer.
fn validator(headers: &HeaderMap) -> Option<String> {
    let strong = header(headers, &ETAG).filter(|etag| etag.starts_with('"'));
    let dated = || {
        let changed = header(headers, &LAST_MODIFIED)?;
        let parse = |text: &str| chrono::DateTime::parse_from_rfc2822(text).ok();
        let age = parse(&header(headers, &DATE)?)?.signed_duration_since(parse(&changed)?);
        (age.num_seconds() >= 1).then_some(changed)
    };
    strong.or_else(dated)
}

/// A client that follows redirects only to where downloads may read from. It keeps credentials from other hosts by itself.
fn client(origin: &Origin) -> Result<Client, Error> {
    let (allowed, has_secret) = (origin.allowed.clone(), !origin.credentials.name.is_empty());
    let policy = Policy::custom(move |attempt| {
        if attempt.previous().len() > MOST_REDIRECTS {
            return attempt.error("too many redirects");
        }
        let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if has_secret && was_secure && attempt.url().scheme() == "http" {
            return attempt.error("a redirect from https to http, which credentials don't follow");
        }
        match allowed.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    });
    let mut client = Client::builder()
        .redirect(policy)
        .connect_timeout(origin.patience)
        .user_agent(concat!("trireme/", env!("CARGO_PKG_VERSION")));
    if let Some(ca) = &origin.credentials.ca {
        let certificates = Certificate::from_pem_bundle(ca.as_bytes()).map_err(|error| {
            Error::new(
                Code::InvalidSpec,
                format!("credentials `{}`: `ca` holds no certificates: {error}", origin.credentials.name),
            )
            .hint("give certificates in PEM form")
        })?;
        client = client.tls_certs_merge(certificates);
    }
    client.build().map_err(|error| Error::new(Code::Internal, error.to_string()))
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_string)
}

/// What went wrong, in the words of the innermost cause, without the URL's query.
fn broken(origin: &Origin, error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    match Error::find_in(&text) {
        Some(refused) => refused.into(),
        None if error.is_redirect() || error.is_builder() => {
            Error::new(Code::DownloadFailed, format!("{}: {text}", origin.shown())).into()
        }
        None => Failure::transient(format!("{}: {text}", origin.shown())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strong_validators_prove_that_a_file_is_the_same() {
        let of = |pairs: &[(HeaderName, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
            validator(&pairs.collect::<HeaderMap>())
        };
        let (then, now) = ("Sun, 22 Nov 2026 20:00:00 GMT", "Sun, 22 Nov 2026 20:00:01 GMT");
        assert_eq!(of(&[(ETAG, "\"a\"")]).as_deref(), Some("\"a\""));
        assert_eq!(of(&[(ETAG, "W/\"a\"")]), None);
        assert_eq!(of(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, then), (DATE, now)]).as_deref(), Some(then));
        assert_eq!(of(&[(LAST_MODIFIED, then), (DATE, then)]), None);
        assert_eq!(of(&[(LAST_MODIFIED, then)]), None);
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, 10)));
        assert_eq!(content_range("bytes 5-9/*"), None);
    }
}
