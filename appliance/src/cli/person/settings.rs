//! `client.toml`: which issuers somebody logs in at, and where the appliance is.
//!
//! Shape: `$XDG_CONFIG_HOME/sallyport/client.toml`, or the same below `~/.config`. Relative paths in
//! it start at its directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::PersonError;
use crate::cli::ProcessEnvironment;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is asked for without `scope`: who it is, and to stay logged in.
const SCOPE: &str = "openid offline_access";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    /// `HOST:PORT` of a PostgreSQL listener, or `unix:DIRECTORY:PORT`.
    pub(super) server: Option<String>,
    /// Certificates in PEM that the server's must chain to.
    pub(super) server_ca: Option<PathBuf>,
    /// The label that is sent as user.
    pub(super) user: Option<String>,
    pub(super) issuer: Vec<IssuerSettings>,
    #[serde(skip)]
    pub(super) file: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerSettings {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) client_id: String,
    /// Of a program that logs in by itself: a file that holds its secret.
    pub(super) client_secret_file: Option<PathBuf>,
    #[serde(default = "scope")]
    pub(super) scope: String,
    /// The service that the token is for, where the issuer wants to be told (RFC 8707).
    pub(super) resource: Option<String>,
    /// The same, as Auth0 and others want it.
    pub(super) audience: Option<String>,
    /// Certificates in PEM that the issuer's may chain to, besides the system's.
    pub(super) ca: Option<PathBuf>,
}

pub(super) fn scope() -> String {
    SCOPE.to_owned()
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("neither $XDG_{kind}_HOME nor $HOME says where {what} is")]
    NoHome {
        kind: &'static str,
        what: &'static str,
    },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}", path.display())]
    Form {
        path: PathBuf,
        source: toml::de::Error,
    },
    #[error("{} has no [[issuer]]: nothing says where to log in", path.display())]
    NoIssuer { path: PathBuf },
    #[error("{} has no issuer named `{name}`", path.display())]
    NoSuchIssuer { path: PathBuf, name: String },
    #[error("{}: the name of an issuer is made of letters, digits, `-` and `_`", path.display())]
    IssuerName { path: PathBuf },
}

impl Settings {
    /// Reads the file; one that is not there says nothing.
    pub(super) fn read(process: &ProcessEnvironment) -> Result<Self, SettingsError> {
        let directory = directory(process, "CONFIG", ".config", "client.toml")?;
        let file = directory.join("client.toml");
        let text = match read_text(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(SettingsError::Read { path: file, source }),
        };
        let mut settings: Self = toml::from_str(&text).map_err(|source| SettingsError::Form {
            path: file.clone(),
            source,
        })?;
        let base = |path: &mut Option<PathBuf>| {
            if let Some(path) = path {
                *path = directory.join(&*path);
            }
        };
        base(&mut settings.server_ca);
        for issuer in &mut settings.issuer {
            base(&mut issuer.ca);
            base(&mut issuer.client_secret_file);
            // It names a file in the cache.
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if issuer.name.is_empty() || !issuer.name.chars().all(plain) {
                return Err(SettingsError::IssuerName { path: file });
            }
        }
        settings.file = file;
        Ok(settings)
    }

    /// The issuer of that name; without a name the first.
    pub(super) fn issuer(&self, name: Option<&str>) -> Result<&IssuerSettings, SettingsError> {
        let path = || self.file.clone();
        match name {
            None => self
                .issuer
                .first()
                .ok_or_else(|| SettingsError::NoIssuer { path: path() }),
            Some(name) => {
                let mut named = self.issuer.iter().filter(|issuer| issuer.name == name);
                named.next().ok_or_else(|| SettingsError::NoSuchIssuer {
                    path: path(),
                    name: name.to_owned(),
                })
            }
        }
    }
}

/// Our directory below `$XDG_KIND_HOME` or, in the home directory, below `fallback`.
pub(super) fn directory(
    process: &ProcessEnvironment,
    kind: &'static str,
    fallback: &str,
    what: &'static str,
) -> Result<PathBuf, SettingsError> {
    let named = |name: &str| {
        let value = (process.variable)(name).map(PathBuf::from);
        // Spec: XDG Base Directory: a relative path is invalid and to be ignored.
        value.filter(|path| path.is_absolute())
    };
    let base = named(&format!("XDG_{kind}_HOME"))
        .or_else(|| named("HOME").map(|home| home.join(fallback)))
        .ok_or(SettingsError::NoHome { kind, what })?;
    Ok(base.join("sallyport"))
}

/// A file of text, of a bounded size.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    io::Read::read_to_string(&mut io::Read::take(file, FILE_BYTES_MAX), &mut text)?;
    Ok(text)
}

impl From<SettingsError> for crate::cli::Failure {
    fn from(error: SettingsError) -> Self {
        Self::Person(PersonError::Settings(error))
    }
}
