//! `sftp://`: files over SSH. The server's key must be in the credentials' file of known hosts.

use std::{io::SeekFrom, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::BytesMut;
use chrono::{DateTime, SecondsFormat};
use futures::StreamExt;
use russh::{
    Preferred,
    client::{self, Handle, KeyboardInteractiveAuthResponse},
    keys::{
        Algorithm, Error as KeyError, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, check_known_hosts_path,
        decode_secret_key, known_hosts::known_host_keys_path,
    },
};
use russh_sftp::{
    client::{Config, SftpSession, error::Error as SftpError},
    protocol::{FileAttributes, StatusCode},
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{
    Ask, Failure, Incoming, Opened, Seen,
    listing::{Entry, Folders},
    origin::{Origin, port},
};
use crate::error::{Code, Error};

const READ_BYTES: usize = 256 * 1024;
/// Bytes that a server may send ahead.
const WINDOW: u32 = 8 * 1024 * 1024;
/// Rounds of questions that a server may ask before it lets somebody in.
const MOST_QUESTIONS: usize = 5;

pub(super) async fn open(origin: &Origin, ask: Ask<'_>) -> Result<Opened, Failure> {
    let path = remote(&origin.path()?).to_string();
    let connection = Connection::open(origin).await?;
    let broken = |error: SftpError| broken(origin, &error);
    let opened = connection.sftp.open(&path).await;
    let attributes = match &opened {
        Ok(file) => file.metadata().await,
        Err(_) => connection.sftp.metadata(&path).await,
    };
    if attributes.as_ref().is_ok_and(FileAttributes::is_dir) {
        return Err(Error::new(Code::DownloadFailed, format!("{} is a folder", origin.shown()))
            .hint("end its URL with `/` to read all files in it")
            .into());
    }
    let (mut file, attributes) = (opened.map_err(broken)?, attributes.map_err(broken)?);
    let last_modified = modified(&attributes);
    let validator = last_modified.as_ref().zip(attributes.size).map(|(time, size)| format!("{time} {size}"));
    let start = ask.start(validator.as_deref());
    let end = match ask {
        Ask::Rest { end, .. } if start > 0 || validator.is_some() => end,
        _ => None,
    };
    file.seek(SeekFrom::Start(start))
        .await
        .map_err(|error| Failure::transient(format!("{}: {error}", origin.shown())))?;
    let file = file.take(end.map_or(u64::MAX, |end| end.saturating_sub(start)));
    // The connection lives as long as the body.
    let body =
        futures::stream::try_unfold((file, connection, origin.clone()), |(mut file, connection, from)| async move {
            let mut chunk = BytesMut::with_capacity(READ_BYTES);
            let read = file.read_buf(&mut chunk).await;
            let read = read.map_err(|error| Failure::transient(format!("{}: {error}", from.shown())))?;
            Ok((read > 0).then(|| (chunk.freeze(), (file, connection, from))))
        });
    let seen = Seen { etag: None, last_modified, length: attributes.size, validator };
    Ok(Opened::Body(Incoming { seen, start, ranges: true, body: body.boxed() }))
}

/// An SFTP session and the SSH connection below it.
struct Connection {
    sftp: SftpSession,
    _ssh: Handle<HostKeys>,
}

impl Connection {
    async fn open(origin: &Origin) -> Result<Self, Failure> {
        let named = |failure: Failure| {
            let message = format!("{}: {}", origin.shown(), failure.error.message);
            Failure { error: Error { message, ..failure.error }, next: failure.next }
        };
        let ssh = |error: russh::Error| named(error.into());
        let (host, user) = origin.host_and_user()?;
        let port = port(&origin.url).unwrap_or(22);
        let Some(user) = user else {
            return Err(Error::new(Code::InvalidSpec, format!("{}: SFTP needs a user", origin.shown()))
                .hint("name credentials with `credentials:`, whose user and password or private key, and known hosts, the executors have")
                .into());
        };
        let keys = HostKeys { host: host.clone(), port, origin: origin.clone() };
        let config = client::Config {
            window_size: WINDOW,
            nodelay: true,
            keepalive_interval: Some(Duration::from_secs(15)),
            preferred: keys.preferred().map_err(named)?,
            ..client::Config::default()
        };
        let mut session = client::connect(Arc::new(config), (host.as_str(), port), keys).await.map_err(named)?;
        authenticate(&mut session, origin, &user).await.map_err(named)?;
        let channel = session.channel_open_session().await.map_err(ssh)?;
        channel.request_subsystem(true, "sftp").await.map_err(ssh)?;
        let config = Config { request_timeout_secs: origin.patience.as_secs().max(1), ..Config::default() };
        let sftp = SftpSession::new_with_config(channel.into_stream(), config).await;
        let sftp = sftp.map_err(|error| broken(origin, &error))?;
        Ok(Self { sftp, _ssh: session })
    }
}

/// Logs in with the private key, the password, or the password as the answer to questions, whatever there is and the server takes.
async fn authenticate(session: &mut Handle<HostKeys>, origin: &Origin, user: &str) -> Result<(), Failure> {
    let credentials = &origin.credentials;
    if let Some(text) = &credentials.private_key {
        let key = decode_secret_key(text, credentials.password.as_deref()).map_err(|error| {
            Error::new(
                Code::InvalidSpec,
                format!("the private key of credentials `{}` can't be used: {error}", credentials.name),
            )
            .hint("give it in OpenSSH's or PEM form; the password opens one that is encrypted")
        })?;
        let hash = session.best_supported_rsa_hash().await?.flatten();
        if session.authenticate_publickey(user, PrivateKeyWithHashAlg::new(Arc::new(key), hash)).await?.success() {
            return Ok(());
        }
    }
    if let Some(password) = &credentials.password {
        if session.authenticate_password(user, password).await?.success() {
            return Ok(());
        }
        let mut answer = session.authenticate_keyboard_interactive_start(user, None::<String>).await?;
        for _ in 0..MOST_QUESTIONS {
            let prompts = match answer {
                KeyboardInteractiveAuthResponse::Success => return Ok(()),
                KeyboardInteractiveAuthResponse::Failure { .. } => break,
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            let answers = vec![password.clone(); prompts.len()];
            answer = session.authenticate_keyboard_interactive_respond(answers).await?;
        }
    }
    if session.authenticate_none(user).await?.success() {
        return Ok(());
    }
    let hint = if credentials.name.is_empty() {
        "name credentials with `credentials:`, whose password or private key the executors have".to_string()
    } else {
        format!("check user, password and private key of the credentials `{}`", credentials.name)
    };
    Err(Error::new(Code::DownloadFailed, format!("the server does not let `{user}` in")).hint(hint).into())
}

/// Compares a server's key with the known ones.
struct HostKeys {
    host: String,
    port: u16,
    origin: Origin,
}

impl HostKeys {
    /// The algorithms to offer: first those of the keys that are known, so that the server shows one of them.
    fn preferred(&self) -> Result<Preferred, Failure> {
        let mut preferred = Preferred::default();
        let Some(path) = &self.origin.credentials.known_hosts else { return Ok(preferred) };
        let unreadable = |what: String| {
            Error::new(
                Code::InvalidSpec,
                format!("the known hosts {} of credentials `{}`: {what}", path.display(), self.origin.credentials.name),
            )
            .hint("mount a file of lines as `ssh-keyscan` writes them")
        };
        std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        let known = known_host_keys_path(&self.host, self.port, path).map_err(|error| unreadable(error.to_string()))?;
        let is_known = |algorithm: &Algorithm| {
            known.iter().any(|(_, key)| {
                key.algorithm() == *algorithm || (key.algorithm().is_rsa() && algorithm.clone().is_rsa())
            })
        };
        let mut algorithms = preferred.key.into_owned();
        algorithms.sort_by_key(|algorithm| !is_known(algorithm));
        preferred.key = algorithms.into();
        Ok(preferred)
    }
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Failure::transient(format!("SSH: {error}"))
    }
}

impl client::Handler for HostKeys {
    type Error = Failure;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let refused = |message: String, hint: String| Err(Error::new(Code::DownloadFailed, message).hint(hint).into());
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return refused("the server shows a certificate, and keys are compared only".into(), String::new());
        };
        let (name, port) = (&self.origin.credentials.name, self.port);
        let shown = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        let known = match &self.origin.credentials.known_hosts {
            Some(path) => check_known_hosts_path(&self.host, port, key, path),
            None => Ok(false),
        };
        match known {
            Ok(true) => Ok(true),
            Ok(false) => {
                let place = if name.is_empty() {
                    "the file `known-hosts` of credentials, and name these with `credentials:`".to_string()
                } else {
                    format!("the file `known-hosts` of credentials `{name}` (TRIREME_CREDENTIALS_…_KNOWN_HOSTS_FILE)")
                };
                refused(
                    format!("the server is not a known host; its key is {shown}"),
                    format!(
                        "compare the key with what the server's owner says, then put the line of `ssh-keyscan -p {port} {}` into {place}",
                        self.host
                    ),
                )
            }
            Err(KeyError::KeyChanged { line }) => refused(
                format!(
                    "the server's key is not the known one: it is {shown}, and line {line} of the known hosts has another"
                ),
                "somebody may be in between; ask the server's owner before the line is changed".into(),
            ),
            Err(error) => {
                refused(format!("the known hosts can't be used: {error}"), "write lines as `ssh-keyscan` does".into())
            }
        }
    }
}

/// `/~/x` starts where the login leads.
fn remote(path: &str) -> &str {
    match path.strip_prefix("/~") {
        Some("" | "/") => ".",
        Some(rest) if rest.starts_with('/') => &rest[1..],
        _ => path,
    }
}

fn modified(attributes: &FileAttributes) -> Option<String> {
    let time = DateTime::from_timestamp(i64::from(attributes.mtime?), 0)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, false))
}

fn broken(origin: &Origin, error: &SftpError) -> Failure {
    let what = match error {
        SftpError::Status(status) if status.status_code == StatusCode::NoSuchFile => "the server has no such file",
        SftpError::Status(status) if status.status_code == StatusCode::PermissionDenied => "this user may not read it",
        _ => return Failure::transient(format!("{}: {error}", origin.shown())),
    };
    Error::new(Code::DownloadFailed, format!("{}: {what}", origin.shown()))
        .hint("paths start at the server's root; `/~/` at their start is the user's own folder")
        .into()
}

/// The folders of a server, over one connection.
pub(super) struct SftpFolders {
    origin: Origin,
    connection: Connection,
}

impl SftpFolders {
    pub async fn connect(origin: &Origin) -> Result<Self, Failure> {
        Ok(Self { origin: origin.clone(), connection: Connection::open(origin).await? })
    }
}

#[async_trait]
impl Folders for SftpFolders {
    async fn entries(&mut self, folder: &str) -> Result<Option<Vec<Entry>>, Failure> {
        let found = match self.connection.sftp.read_dir(remote(folder)).await {
            Ok(found) => found,
            Err(SftpError::Status(status))
                if matches!(status.status_code, StatusCode::NoSuchFile | StatusCode::Failure) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(broken(&self.origin, &error)),
        };
        let mut entries = Vec::new();
        for entry in found {
            let path = format!("{}/{}", remote(folder).trim_end_matches('/'), entry.file_name());
            let mut attributes = entry.metadata();
            let link = attributes.is_symlink();
            if link {
                // A link to nowhere is no file.
                let Ok(target) = self.connection.sftp.metadata(path).await else { continue };
                attributes = target;
            }
            entries.push(Entry {
                name: entry.file_name(),
                folder: attributes.is_dir(),
                file: attributes.is_regular(),
                link,
                length: attributes.size,
                last_modified: modified(&attributes),
            });
        }
        Ok(Some(entries))
    }
}
