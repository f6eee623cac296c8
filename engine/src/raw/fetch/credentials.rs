//! Credentials by name: a spec says the name, and the executors have the rest, in their environment or as mounted files.
//!
//! `TRIREME_CREDENTIALS_<NAME>_USER` holds a value, `TRIREME_CREDENTIALS_<NAME>_USER_FILE` names a file that does, and so on for each item; else the file
//! `<name>/user` in the folder `TRIREME_CREDENTIALS_DIR` holds it.

use std::{fmt, io, path::PathBuf};

use crate::error::{Code, Error, Result};

const FOLDER: &str = "TRIREME_CREDENTIALS_DIR";

/// What an origin wants to know before it lets somebody read. Nothing of it is shown.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Name they were found by; empty when there are none.
    pub name: String,
    /// Who reads.
    pub user: Option<String>,
    /// Password; of the private key, where one is encrypted.
    pub password: Option<String>,
    /// SSH private key, PEM or OpenSSH.
    pub private_key: Option<String>,
    /// Bearer token for HTTP.
    pub token: Option<String>,
    /// Certificates, PEM, that are trusted for TLS beside the system's.
    pub ca: Option<String>,
    /// File of the hosts' SSH keys, in OpenSSH's form.
    pub known_hosts: Option<PathBuf>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.name)
    }
}

/// Checks a name of credentials: letters, digits, `-` and `_`.
///
/// # Errors
/// `InvalidSpec`.
pub fn check_name(name: &str) -> Result<()> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=64).contains(&name.len()) && name.bytes().all(is_fine) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidSpec, format!("`{name}` is not a name of credentials"))
        .hint("give the name only, of letters, digits, `-` and `_`; what it stands for is set for the executors"))
}

impl Credentials {
    /// The credentials of this process with that name; empty ones when none is given.
    ///
    /// # Errors
    /// `InvalidSpec` when there are none, or when a file of theirs can't be read.
    pub fn find(name: Option<&str>) -> Result<Self> {
        match name {
            None => Ok(Self::default()),
            Some(name) => Self::read(name, &|variable| std::env::var(variable).ok().filter(|value| !value.is_empty())),
        }
    }

    fn read(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        check_name(name)?;
        let prefix = format!("TRIREME_CREDENTIALS_{}", name.to_ascii_uppercase().replace('-', "_"));
        // The file of an item, if one is named or mounted.
        let file = |item: &str| -> Option<PathBuf> {
            let variable_name = format!("{prefix}_{}_FILE", item.to_ascii_uppercase().replace('-', "_"));
            let mounted = || variable(FOLDER).map(|folder| PathBuf::from(folder).join(name).join(item));
            variable(&variable_name).map(PathBuf::from).or_else(|| mounted().filter(|path| path.exists()))
        };
        let value = |item: &str| -> Result<Option<String>> {
            let direct = variable(&format!("{prefix}_{}", item.to_ascii_uppercase().replace('-', "_")));
            match (direct, file(item)) {
                (Some(value), _) => Ok(Some(value)),
                (None, None) => Ok(None),
                (None, Some(path)) => {
                    let unreadable = |error: io::Error| {
                        Error::new(
                            Code::InvalidSpec,
                            format!("credentials `{name}`: can't read {}: {error}", path.display()),
                        )
                        .hint("mount the file where the executors run, readable for them")
                    };
                    Ok(Some(std::fs::read_to_string(&path).map_err(unreadable)?))
                }
            }
        };
        let line =
            |item: &str| value(item).map(|value| value.map(|value| value.trim_end_matches(['\r', '\n']).to_string()));
        let found = Self {
            name: name.to_string(),
            user: line("user")?,
            password: line("password")?,
            private_key: value("private-key")?,
            token: line("token")?,
            ca: value("ca")?,
            known_hosts: file("known-hosts"),
        };
        let nothing = [&found.user, &found.password, &found.private_key, &found.token, &found.ca]
            .iter()
            .all(|item| item.is_none());
        if nothing && found.known_hosts.is_none() {
            return Err(Error::new(Code::InvalidSpec, format!("there are no credentials `{name}` where the download runs"))
                .hint(format!("set {prefix}_USER and {prefix}_PASSWORD (or …_PASSWORD_FILE) for the executors, or mount {FOLDER}/{name}/user and so on")));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn values_come_from_variables_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_string()
        };
        let hosts = file("the-vendor/known-hosts", "host ssh-ed25519 AAAA\n");
        file("the-vendor/user", "mounted\n");
        file("the-vendor/password", "also mounted\r\n");
        let variables = HashMap::from([
            (FOLDER.to_string(), folder.path().to_str().unwrap().to_string()),
            ("TRIREME_CREDENTIALS_THE_VENDOR_USER".to_string(), "named".to_string()),
            ("TRIREME_CREDENTIALS_THE_VENDOR_TOKEN_FILE".to_string(), file("elsewhere", "t0ken\n")),
            ("TRIREME_CREDENTIALS_LOST_USER_FILE".to_string(), "/none/none".to_string()),
        ]);
        let read = |name: &str| Credentials::read(name, &|variable| variables.get(variable).cloned());
        let found = read("the-vendor").unwrap();
        assert_eq!(found.user.as_deref(), Some("named"));
        assert_eq!(found.password.as_deref(), Some("also mounted"));
        assert_eq!(found.token.as_deref(), Some("t0ken"));
        assert_eq!(found.known_hosts.as_deref(), Some(std::path::Path::new(&hosts)));
        assert_eq!(found.private_key, None);
        assert_eq!(format!("{found:?}"), "Credentials(the-vendor)");

        let error = read("other").unwrap_err();
        assert!(error.hint.contains("TRIREME_CREDENTIALS_OTHER_PASSWORD"), "{error}");
        assert!(read("lost").unwrap_err().message.contains("/none/none"));
        for name in ["", "a/b", "..", "a b", &"x".repeat(65)] {
            assert_eq!(read(name).unwrap_err().code, Code::InvalidSpec, "{name}");
        }
    }
}
