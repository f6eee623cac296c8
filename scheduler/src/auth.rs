//! Who may use the API: whoever has the token.

use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};
use trireme_engine::{Code, Error};

/// The API's token. Only its SHA-256 is kept, so it can't be printed, and comparing tells nothing about it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken([u8; 32]);

impl ApiToken {
    fn digest(token: &[u8]) -> [u8; 32] {
        Sha256::digest(token).into()
    }

    fn is(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::digest(token.as_bytes())).into()
    }
}

impl FromStr for ApiToken {
    type Err = String;

    fn from_str(token: &str) -> Result<Self, Self::Err> {
        match token {
            "" => Err("is empty".to_string()),
            // It travels in a header.
            token if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("has characters other than visible ASCII".to_string())
            }
            token => Ok(Self(Self::digest(token.as_bytes()))),
        }
    }
}

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiToken(…)")
    }
}

/// Lets requests through that bear the token; all of them when there is none.
#[derive(Debug, Clone)]
pub struct Guard {
    token: Option<ApiToken>,
}

impl Guard {
    /// A guard that asks for `token`.
    pub fn new(token: Option<ApiToken>) -> Self {
        Self { token }
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(wanted) = &self.token else { return Ok(request) };
        match bearer(request.metadata()) {
            Some(token) if wanted.is(token) => Ok(request),
            Some(_) => Err(refused("the API token is wrong")),
            None => Err(refused("this API wants a token")),
        }
    }
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let (scheme, token) = metadata.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

fn refused(problem: &str) -> Status {
    let hint = "give the scheduler's token as TRIREME_API_TOKEN or with --token-file";
    Error::new(Code::Unauthenticated, problem).hint(hint).into()
}
