//! `http://` and `https://`.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED},
    redirect::Policy,
};
use url::Url;

use super::{AllowedOrigins, Failure, Incoming, Opened, Previous, shown};
use crate::error::{Code, Error};

const MOST_REDIRECTS: usize = 10;

pub(super) async fn open(from: &Url, allowed: &AllowedOrigins, previous: Option<&Previous>) -> Result<Opened, Failure> {
    let client = client(allowed.clone()).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let mut request = client.get(from.clone());
    if let Some(previous) = previous {
        if let Some(etag) = &previous.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(last_modified) = &previous.last_modified {
            request = request.header(IF_MODIFIED_SINCE, last_modified);
        }
    }
    let response = request.send().await.map_err(|error| broken(from, error))?;
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED && previous.is_some() {
        return Ok(Opened::NotModified);
    }
    if status != StatusCode::OK {
        let message = format!("{} answered {status}", shown(from));
        let busy = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
        return Err(if busy {
            Failure::transient(message)
        } else {
            Error::new(Code::DownloadFailed, message).hint("open the URL in a browser to see what it says").into()
        });
    }
    let headers = response.headers();
    let length = header(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let (etag, last_modified) = (header(headers, &ETAG), header(headers, &LAST_MODIFIED));
    let from = from.clone();
    let body = response.bytes_stream().map(move |chunk| chunk.map_err(|error| broken(&from, error)));
    Ok(Opened::Body(Incoming { etag, last_modified, length, body: body.boxed() }))
}

/// A client that follows redirects only to where downloads may read from.
fn client(allowed: AllowedOrigins) -> reqwest::Result<Client> {
    let policy = Policy::custom(move |attempt| {
        if attempt.previous().len() > MOST_REDIRECTS {
            return attempt.error("too many redirects");
        }
        match allowed.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    });
    Client::builder()
        .redirect(policy)
        .connect_timeout(Duration::from_secs(20))
        .user_agent(concat!("trireme/", env!("CARGO_PKG_VERSION")))
        .build()
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_string)
}

/// What went wrong, in the words of the innermost cause, without the URL's query.
fn broken(from: &Url, error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    match Error::find_in(&text) {
        Some(refused) => refused.into(),
        None if error.is_redirect() || error.is_builder() => {
            Error::new(Code::DownloadFailed, format!("{}: {text}", shown(from))).into()
        }
        None => Failure::transient(format!("{}: {text}", shown(from))),
    }
}
