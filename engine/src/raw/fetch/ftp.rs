//! `ftp://`, passive and binary.

use bytes::BytesMut;
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use suppaftp::{FtpError, Mode, Status, tokio::AsyncFtpStream, types::FileType};
use tokio::io::AsyncReadExt;
use url::Url;

use super::{Failure, Incoming, Opened, shown};
use crate::error::{Code, Error};

const READ_BYTES: usize = 256 * 1024;

pub(super) async fn open(from: &Url) -> Result<Opened, Failure> {
    let invalid = |what: &str| Error::new(Code::InvalidSpec, format!("{}: {what}", shown(from)));
    let host = from.host_str().ok_or_else(|| invalid("no host"))?.trim_matches(['[', ']']).to_string();
    let decode = |text: &str| -> Result<String, Error> {
        let text = percent_decode_str(text).decode_utf8().map_err(|_| invalid("not UTF-8"))?;
        // A line break would be a command of its own.
        if text.chars().any(char::is_control) {
            Err(invalid("control characters in the URL"))
        } else {
            Ok(text.into_owned())
        }
    };
    let path = decode(from.path().trim_start_matches('/'))?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = match from.username() {
        "" => variable("TRIREME_FTP_USER"),
        user => Some(decode(user)?),
    };
    let password = variable("TRIREME_FTP_PASSWORD");
    let (user, password) = match user {
        Some(user) => (user, password.unwrap_or_default()),
        None => ("anonymous".to_string(), "anonymous@".to_string()),
    };

    let broken = |error: FtpError| broken(from, &error);
    let mut ftp = AsyncFtpStream::connect((host.as_str(), from.port().unwrap_or(21))).await.map_err(broken)?;
    ftp.login(user, password).await.map_err(broken)?;
    ftp.transfer_type(FileType::Binary).await.map_err(broken)?;
    // Data connections go to the host that was allowed, whatever address the server names.
    ftp.set_passive_nat_workaround(true);
    ftp.set_mode(if host.contains(':') { Mode::ExtendedPassive } else { Mode::Passive });
    // Not every server knows these two.
    let length = optional(ftp.size(&path).await).map_err(broken)?;
    let modified = optional(ftp.mdtm(&path).await).map_err(broken)?;
    let transfer = ftp.retr_as_stream(&path).await.map_err(broken)?;

    let body = futures::stream::try_unfold((ftp, Some(transfer), from.clone()), |(ftp, transfer, from)| async move {
        let Some(mut transfer) = transfer else { return Ok(None) };
        let mut chunk = BytesMut::with_capacity(READ_BYTES);
        let read = transfer.read_buf(&mut chunk).await;
        let read = read.map_err(|error| Failure::transient(format!("{}: {error}", shown(&from))))?;
        if read > 0 {
            return Ok(Some((chunk.freeze(), (ftp, Some(transfer), from))));
        }
        // The end of the data is no proof that it is whole; the server's last word is.
        transfer.finish().await.map_err(|error| broken_transfer(&from, &error))?;
        Ok(Some((chunk.freeze(), (ftp, None, from))))
    });
    Ok(Opened::Body(Incoming {
        etag: None,
        last_modified: modified.map(|time| time.and_utc().to_rfc3339()),
        length: length.and_then(|length| u64::try_from(length).ok()),
        body: body.boxed(),
    }))
}

/// Takes a refusal to tell for no answer.
fn optional<T>(answer: Result<T, FtpError>) -> Result<Option<T>, FtpError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(FtpError::UnexpectedResponse(_) | FtpError::BadResponse) => Ok(None),
        Err(error) => Err(error),
    }
}

fn broken(from: &Url, error: &FtpError) -> Failure {
    let message = format!("{}: {error}", shown(from));
    let refused = |hint: &str| Failure::from(Error::new(Code::DownloadFailed, message.clone()).hint(hint));
    match error {
        FtpError::UnexpectedResponse(response) if response.status == Status::NotLoggedIn => {
            refused("set TRIREME_FTP_USER and TRIREME_FTP_PASSWORD for the executors")
        }
        FtpError::UnexpectedResponse(response) if response.status == Status::FileUnavailable => {
            refused("the server has no such file, or does not let this user read it")
        }
        _ => Failure::transient(message),
    }
}

fn broken_transfer(from: &Url, error: &FtpError) -> Failure {
    Failure::transient(format!("{}: the transfer did not end well: {error}", shown(from)))
}
