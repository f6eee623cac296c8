//! `ftp://` and `ftps://`, passive and binary. TLS is explicit, and implicit on port 990.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::BytesMut;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::StreamExt;
use rustls::{
    ClientConfig,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use suppaftp::{
    FtpError, Mode, Status,
    list::ListParser,
    tokio::{AsyncRustlsConnector, AsyncRustlsFtpStream},
    tokio_rustls::TlsConnector,
    types::FileType,
};
use tokio::io::AsyncReadExt;

use super::{
    Ask, Failure, Incoming, Opened, Seen,
    listing::{Entry, Folders},
    origin::{Origin, port},
};
use crate::error::{Code, Error};

const READ_BYTES: usize = 256 * 1024;
const IMPLICIT: u16 = 990;

pub(super) async fn open(origin: &Origin, ask: Ask<'_>) -> Result<Opened, Failure> {
    let path = relative(&origin.path()?).to_string();
    let broken = |error: FtpError| broken(origin, &error);
    let mut ftp = connect(origin).await?;
    // Not every server knows these two.
    let length = optional(ftp.size(&path).await).map_err(broken)?.and_then(|length| u64::try_from(length).ok());
    let last_modified = optional(ftp.mdtm(&path).await).map_err(broken)?.map(|time| written(time.and_utc()));
    let validator = last_modified.as_ref().zip(length).map(|(time, length)| format!("{time} {length}"));
    let start = ask.start(validator.as_deref());
    let transfer = if start > 0 {
        let unable = || Failure::no_rest(format!("{}: the server does not go on at {start}", origin.shown()));
        ftp.resume_transfer(usize::try_from(start).map_err(|_| unable())?).await.map_err(broken)?;
        match ftp.retr_as_stream(&path).await {
            Err(FtpError::UnexpectedResponse(response)) if matches!(response.status.code(), 500..=504 | 551 | 554) => {
                return Err(unable());
            }
            transfer => transfer.map_err(broken)?,
        }
    } else {
        ftp.retr_as_stream(&path).await.map_err(broken)?
    };

    let body = futures::stream::try_unfold((ftp, Some(transfer), origin.clone()), |(ftp, transfer, from)| async move {
        let Some(mut transfer) = transfer else { return Ok(None) };
        let mut chunk = BytesMut::with_capacity(READ_BYTES);
        let read = transfer.read_buf(&mut chunk).await;
        let read = read.map_err(|error| Failure::transient(format!("{}: {error}", from.shown())))?;
        if read > 0 {
            return Ok(Some((chunk.freeze(), (ftp, Some(transfer), from))));
        }
        // The end of the data is no proof that it is whole; the server's last word is.
        transfer
            .finish()
            .await
            .map_err(|error| Failure::transient(format!("{}: the transfer did not end well: {error}", from.shown())))?;
        Ok(Some((chunk.freeze(), (ftp, None, from))))
    });
    let seen = Seen { etag: None, last_modified, length, validator };
    Ok(Opened::Body(Incoming { seen, start, ranges: false, body: body.boxed() }))
}

/// Connects and logs in.
async fn connect(origin: &Origin) -> Result<AsyncRustlsFtpStream, Failure> {
    let (host, user) = origin.host_and_user()?;
    let (user, password) = match user {
        Some(user) => (user, origin.credentials.password.clone().unwrap_or_default()),
        None => ("anonymous".to_string(), "anonymous@".to_string()),
    };
    let broken = |error: FtpError| broken(origin, &error);
    let port = port(&origin.url).unwrap_or(21);
    let address = (host.as_str(), port);
    let mut ftp = match origin.url.scheme() {
        "ftps" if port == IMPLICIT => {
            let connecting = AsyncRustlsFtpStream::connect_secure_implicit(address, connector(origin)?, &host);
            let mut ftp = connecting.await.map_err(broken)?;
            for command in ["PBSZ 0", "PROT P"] {
                ftp.custom_command(command, &[Status::CommandOk]).await.map_err(broken)?;
            }
            ftp
        }
        "ftps" => {
            let ftp = AsyncRustlsFtpStream::connect(address).await.map_err(broken)?;
            ftp.into_secure(connector(origin)?, &host).await.map_err(broken)?
        }
        _ => AsyncRustlsFtpStream::connect(address).await.map_err(broken)?,
    };
    ftp.login(user, password).await.map_err(broken)?;
    ftp.transfer_type(FileType::Binary).await.map_err(broken)?;
    // Data connections go to the host that was allowed, whatever address the server names.
    ftp.set_passive_nat_workaround(true);
    ftp.set_mode(if host.contains(':') { Mode::ExtendedPassive } else { Mode::Passive });
    Ok(ftp)
}

/// TLS that trusts what the system trusts, and the credentials' own certificates.
fn connector(origin: &Origin) -> Result<AsyncRustlsConnector, Error> {
    let name = &origin.credentials.name;
    let unusable = |error: rustls::Error| Error::new(Code::DownloadFailed, format!("{}: TLS: {error}", origin.shown()));
    let ca = origin.credentials.ca.as_deref().unwrap_or_default();
    let ca = CertificateDer::pem_slice_iter(ca.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(|error| {
        Error::new(Code::InvalidSpec, format!("credentials `{name}`: `ca` holds no certificates: {error:?}"))
            .hint("give certificates in PEM form")
    })?;
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(ca, provider.clone()).map_err(unusable)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)).into())
}

/// Paths of FTP URLs start where the login leads.
fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, false)
}

/// Takes a refusal to tell for no answer.
fn optional<T>(answer: Result<T, FtpError>) -> Result<Option<T>, FtpError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(FtpError::UnexpectedResponse(_) | FtpError::BadResponse) => Ok(None),
        Err(error) => Err(error),
    }
}

fn broken(origin: &Origin, error: &FtpError) -> Failure {
    let message = format!("{}: {error}", origin.shown());
    let refused = |hint: &str| Failure::from(Error::new(Code::DownloadFailed, message.clone()).hint(hint));
    match error {
        FtpError::UnexpectedResponse(response) if response.status == Status::NotLoggedIn => {
            refused("name credentials with `credentials:`, whose user and password the executors have")
        }
        FtpError::UnexpectedResponse(response) if response.status == Status::FileUnavailable => {
            refused("the server has no such file, or does not let this user read it")
        }
        FtpError::SecureError(text) if text.contains("certificate") => {
            refused("a certificate that the system does not trust can be given as `ca` of the credentials")
        }
        _ => Failure::transient(message),
    }
}

/// The folders of a server, over one connection.
pub(super) struct FtpFolders {
    origin: Origin,
    ftp: AsyncRustlsFtpStream,
    /// The server does not know MLSD.
    old: bool,
}

impl FtpFolders {
    pub async fn connect(origin: &Origin) -> Result<Self, Failure> {
        Ok(Self { origin: origin.clone(), ftp: connect(origin).await?, old: false })
    }
}

#[async_trait]
impl Folders for FtpFolders {
    async fn entries(&mut self, folder: &str) -> Result<Option<Vec<Entry>>, Failure> {
        let path = Some(relative(folder)).filter(|path| !path.is_empty());
        let mut lines = None;
        if !self.old {
            match self.ftp.mlsd(path).await {
                Ok(found) => lines = Some(found),
                Err(FtpError::UnexpectedResponse(response)) if matches!(response.status.code(), 500 | 502) => {
                    self.old = true
                }
                Err(FtpError::UnexpectedResponse(response)) if matches!(response.status.code(), 501 | 550) => {
                    return Ok(None);
                }
                Err(error) => return Err(broken(&self.origin, &error)),
            }
        }
        let lines = match lines {
            Some(lines) => lines,
            None => match self.ftp.list(path).await {
                Ok(lines) => lines,
                Err(FtpError::UnexpectedResponse(response)) if matches!(response.status.code(), 450 | 550) => {
                    return Ok(None);
                }
                Err(error) => return Err(broken(&self.origin, &error)),
            },
        };
        let mut entries = Vec::with_capacity(lines.len());
        for line in &lines {
            let parsed = if self.old {
                ListParser::parse_posix(line).or_else(|_| ListParser::parse_dos(line))
            } else {
                ListParser::parse_mlsd(line)
            };
            // Such as the line `total 12`.
            let Ok(found) = parsed else { continue };
            if matches!(found.name(), "." | "..") || found.name().contains('/') {
                continue;
            }
            // A LIST says the time in the server's zone, without seconds.
            let dated = !self.old && found.modified() != SystemTime::UNIX_EPOCH;
            entries.push(Entry {
                name: found.name().to_string(),
                folder: found.is_directory(),
                file: found.is_file() || found.is_symlink(),
                link: found.is_symlink(),
                length: u64::try_from(found.size()).ok().filter(|_| found.is_file()),
                last_modified: dated.then(|| written(found.modified().into())),
            });
        }
        Ok(Some(entries))
    }
}
