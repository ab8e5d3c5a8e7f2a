//! Tokens between two commands: files that this user alone can read and has written.
//!
//! Shape: `$XDG_CACHE_HOME/sallyport/tokens/NAME.json`, or the same below `~/.cache`; the
//! directories have mode 0700, the files 0600.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::PersonError;
use super::settings::{IssuerSettings, directory};
use crate::cli::ProcessEnvironment;

/// Largest file that is read, in bytes: three tokens of 16 KiB and some.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What an issuer gave. No `Debug`: it holds credentials.
pub(super) struct Tokens {
    /// Whose they are: settings that name another issuer or client find nothing here.
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) access_token: Zeroizing<String>,
    pub(super) refresh_token: Option<Zeroizing<String>>,
    /// Seconds since 1970.
    pub(super) expires: u64,
}

/// The same, as a file holds it. Its texts are taken over, not copied.
#[derive(Deserialize)]
struct Written {
    issuer: String,
    client_id: String,
    access_token: String,
    refresh_token: Option<String>,
    expires: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensError {
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} belongs to another user or can be read by others, and is not used", path.display())]
    NotOurs { path: PathBuf },
    #[error("{} is not what `sallyport login` writes; remove it", path.display())]
    Form { path: PathBuf },
}

/// The tokens of one issuer, while nobody else changes them.
pub(super) struct Kept {
    path: PathBuf,
    _lock: File,
}

impl Kept {
    /// Waits for other commands that change the tokens of this issuer: a refresh token is used once.
    pub(super) fn open(
        process: &ProcessEnvironment,
        issuer: &IssuerSettings,
    ) -> Result<Self, PersonError> {
        let directory = directory(process, "CACHE", ".cache", "the cache of tokens")?;
        let directory = directory.join("tokens");
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| TokensError::File {
                operation,
                path,
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed("make", &directory))?;
        let found = fs::symlink_metadata(&directory).map_err(failed("look at", &directory))?;
        if !found.is_dir() || !is_ours(&found) {
            return Err(TokensError::NotOurs { path: directory }.into());
        }
        let lock_path = directory.join(format!("{}.lock", issuer.name));
        let lock = open(&lock_path, OpenOptions::new().write(true).create(true))
            .map_err(failed("open", &lock_path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(io::Error::from)
            .map_err(failed("lock", &lock_path))?;
        Ok(Self {
            path: directory.join(format!("{}.json", issuer.name)),
            _lock: lock,
        })
    }

    /// What is there for this issuer and client.
    pub(super) fn read(&self, issuer: &IssuerSettings) -> Result<Option<Tokens>, TokensError> {
        let failed = |source| TokensError::File {
            operation: "read",
            path: self.path.clone(),
            source,
        };
        let file = match open(&self.path, OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || !is_ours(&metadata) {
            return Err(TokensError::NotOurs {
                path: self.path.clone(),
            });
        }
        let mut text = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(failed)?;
        let written: Written = serde_json::from_slice(&text).map_err(|_| TokensError::Form {
            path: self.path.clone(),
        })?;
        let tokens = Tokens {
            issuer: written.issuer,
            client_id: written.client_id,
            access_token: Zeroizing::new(written.access_token),
            refresh_token: written.refresh_token.map(Zeroizing::new),
            expires: written.expires,
        };
        let same = tokens.issuer == issuer.issuer && tokens.client_id == issuer.client_id;
        Ok(same.then_some(tokens))
    }

    /// Puts them in place of what was there.
    pub(super) fn write(&self, tokens: &Tokens) -> Result<(), TokensError> {
        let failed = |source| TokensError::File {
            operation: "write",
            path: self.path.clone(),
            source,
        };
        let written = serde_json::json!({
            "issuer": tokens.issuer,
            "client_id": tokens.client_id,
            "access_token": tokens.access_token.as_str(),
            "refresh_token": tokens.refresh_token.as_ref().map(|token| token.as_str()),
            "expires": tokens.expires,
        });
        let text = Zeroizing::new(written.to_string().into_bytes());
        let unfinished = self.path.with_extension("new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            open(&unfinished, OpenOptions::new().write(true).create_new(true)).map_err(failed)?;
        file.write_all(&text)
            .and_then(|()| fs::rename(&unfinished, &self.path))
            .map_err(failed)
    }

    /// Removes them; whether there were any.
    pub(super) fn remove(&self) -> Result<bool, TokensError> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(TokensError::File {
                operation: "remove",
                path: self.path.clone(),
                source,
            }),
        }
    }
}

/// Never through a link, which somebody else may have put there.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    // The flags that exist are all positive.
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    options.mode(0o600).custom_flags(flags).open(path)
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
}
