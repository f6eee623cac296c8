//! The connection to a scheduler.

use std::{future::Future, time::Duration};

use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::health_client::HealthClient;
use trireme_proto::v1::{
    catalog_client::CatalogClient, jobs_client::JobsClient, query_client::QueryClient, raw_client::RawClient,
};
use url::Url;

use crate::error::{Error, Result};

/// Where a scheduler is looked for when nothing is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:50051";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that is no stream is given up after this.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// A scheduler that vanishes without a word (a cut network) is noticed after the sum of these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A job carries its answer, up to 1,000 rows of any width.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// A channel whose calls carry the API token.
pub type AuthorizedChannel = InterceptedService<Channel, Authorize>;

/// Adds `authorization: Bearer …` to every call.
#[derive(Clone)]
pub struct Authorize(Option<MetadataValue<Ascii>>);

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A scheduler's public API. The channel behind it connects anew by itself.
#[derive(Clone)]
pub struct Scheduler {
    url: String,
    channel: AuthorizedChannel,
}

impl Scheduler {
    /// Connects to `url` (`http://host:port`); `token` is the API token, when the scheduler wants one.
    ///
    /// # Errors
    /// `invalid-spec` for a URL or token that can't be one, `unreachable` when nobody answers.
    pub async fn connect(url: &str, token: Option<&str>) -> Result<Self> {
        let endpoint = endpoint(url)?;
        let authorize = Authorize(token.map(bearer).transpose()?);
        let channel =
            endpoint.connect().await.map_err(|error| Error::from_status(&Status::from_error(Box::new(error)), url))?;
        Ok(Self { url: url.to_string(), channel: InterceptedService::new(channel, authorize) })
    }

    /// URL it was connected with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Client of the `Jobs` service.
    pub fn jobs(&self) -> JobsClient<AuthorizedChannel> {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Client of the `Catalog` service.
    pub fn catalog(&self) -> CatalogClient<AuthorizedChannel> {
        CatalogClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Client of the `Raw` service.
    pub fn raw(&self) -> RawClient<AuthorizedChannel> {
        RawClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Client of the `Query` service.
    pub fn query(&self) -> QueryClient<AuthorizedChannel> {
        QueryClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Client of gRPC's standard health service.
    pub fn health(&self) -> HealthClient<AuthorizedChannel> {
        HealthClient::new(self.channel.clone())
    }

    /// Waits for the answer of a call that is no stream.
    pub async fn answer<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.error(&status)),
            Err(_) => Err(Error::unreachable(format!(
                "the scheduler at {} gave no answer in {} seconds",
                self.url,
                CALL_TIMEOUT.as_secs()
            ))
            .hint("look at its log, and try again")),
        }
    }

    /// What a status means.
    pub fn error(&self, status: &Status) -> Error {
        Error::from_status(status, &self.url)
    }
}

fn endpoint(url: &str) -> Result<Endpoint> {
    let wrong = |why: String| {
        Error::invalid(format!("the scheduler's URL `{url}` {why}"))
            .hint(format!("it looks like {DEFAULT_URL}; see --scheduler and TRIREME_URL"))
    };
    let parsed = Url::parse(url).map_err(|error| wrong(format!("is none: {error}")))?;
    match parsed.scheme() {
        "http" if parsed.has_host() => {}
        "https" => return Err(wrong("is encrypted, which this client can't do yet".to_string())),
        scheme => return Err(wrong(format!("starts with `{scheme}:`"))),
    }
    let endpoint = Endpoint::from_shared(url.to_string()).map_err(|error| wrong(format!("is none: {error}")))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT))
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| {
        Error::invalid("the API token has characters that no token has")
            .hint("look at TRIREME_API_TOKEN, or the file that TRIREME_API_TOKEN_FILE names")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The API token from `TRIREME_API_TOKEN`, else from the file that `TRIREME_API_TOKEN_FILE` names; none when neither is set.
///
/// # Errors
/// `invalid-spec` when the file can't be read.
pub fn token_from_environment() -> Result<Option<String>> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(token) = set("TRIREME_API_TOKEN") {
        return Ok(Some(token));
    }
    let Some(path) = set("TRIREME_API_TOKEN_FILE") else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(Some(token.trim().to_string())),
        Err(error) => Err(Error::invalid(format!("can't read the API token from {path}: {error}"))
            .hint("TRIREME_API_TOKEN_FILE names a file that holds the token and nothing else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_url_is_wrong_usage() {
        for url in ["", "localhost:50051", "ftp://host", "https://host:1", "http://"] {
            let error = Scheduler::connect(url, None).await.err().unwrap();
            assert_eq!(error.code, "invalid-spec", "{url}");
        }
        let error = Scheduler::connect(DEFAULT_URL, Some("a\nb")).await.err().unwrap();
        assert_eq!(error.code, "invalid-spec");
        assert!(!error.message.contains("a\nb"), "a token is a secret");
    }
}
