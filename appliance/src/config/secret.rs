//! Secrets as the configuration names them: by reference, never by value.
//!
//! It reads them at load and at reload; it does not watch them, and it never prints one.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

/// Longest secret that is read.
///
/// Bytes. 64 KiB holds any private key with its chain; a larger file is a mistake in the path.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Opening a FIFO that nobody writes would wait for ever without it.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// A secret in memory.
///
/// Overwritten when dropped. It has no `Debug`, `Display` or `Serialize`, so it cannot reach a log
/// or an error by accident. Scope: owned by a snapshot; shards see it behind `Arc`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the caller keeps no copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret itself, for the one place that sends or parses it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether both hold the same bytes, in time that depends on their lengths only.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(other.0.iter())
                .fold(0u8, |acc, (a, b)| acc | (a ^ b))
                == 0
    }
}

/// Where a secret stands, as written in the configuration.
///
/// Shape: `credential:NAME`, `file:PATH` or `env:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretReference {
    /// A file of that name in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file; a relative path starts at the directory of the configuration file.
    File(PathBuf),
    /// An environment variable of the daemon.
    Environment(String),
}

/// Where references lead in this process. Filled by `main`, which alone reads the environment.
#[derive(Clone, Debug)]
pub struct SecretSources {
    /// `$CREDENTIALS_DIRECTORY`, when systemd set it.
    pub credentials_directory: Option<PathBuf>,
    /// Where relative `file:` paths start.
    pub base_directory: PathBuf,
    /// Looks up an environment variable.
    pub environment: fn(&str) -> Option<OsString>,
}

/// Why a text is not a secret reference. Never holds the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretReferenceError {
    #[error("a secret is given as credential:NAME, file:PATH or env:NAME, never as its value")]
    NotAReference,
    #[error("the reference names nothing after its colon")]
    NamesNothing,
    #[error("a credential's name may hold no '/' and not be '.' or '..'")]
    CredentialName,
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "credential {name} is not available: systemd gave no credentials directory \
         (LoadCredential= in the unit)"
    )]
    NoCredentials { name: String },
    #[error("environment variable {name} is not set")]
    NotInEnvironment { name: String },
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} can be read or written by every user (mode {mode:04o}); use chmod o= on it",
        path.display())]
    OpenToAll { path: PathBuf, mode: u32 },
    #[error("{place} holds more than {SECRET_BYTES_MAX} bytes")]
    TooLong { place: String },
    #[error("{place} is empty")]
    Empty { place: String },
}

impl SecretReference {
    /// Reads a reference as written.
    ///
    /// # Errors
    /// Anything without one of the three prefixes: it is probably the secret itself.
    pub fn parse(text: &str) -> Result<Self, SecretReferenceError> {
        let Some((kind, name)) = text.split_once(':') else {
            return Err(SecretReferenceError::NotAReference);
        };
        let reference = match kind {
            "credential" => Self::Credential(name.to_owned()),
            "file" => Self::File(PathBuf::from(name)),
            "env" => Self::Environment(name.to_owned()),
            _ => return Err(SecretReferenceError::NotAReference),
        };
        if name.is_empty() {
            return Err(SecretReferenceError::NamesNothing);
        }
        if kind == "credential" && (name.contains('/') || name == "." || name == "..") {
            return Err(SecretReferenceError::CredentialName);
        }
        Ok(reference)
    }

    /// Fetches the secret. One trailing newline (LF or CRLF) of a file is not part of it.
    ///
    /// # Errors
    /// Missing, unreadable, empty, over 64 KiB, not a regular file, or open to every user.
    pub fn read(&self, sources: &SecretSources) -> Result<Secret, SecretError> {
        match self {
            Self::Credential(name) => match &sources.credentials_directory {
                Some(directory) => read_file(&directory.join(name)),
                None => Err(SecretError::NoCredentials { name: name.clone() }),
            },
            Self::File(path) => read_file(&sources.base_directory.join(path)),
            Self::Environment(name) => {
                let value = (sources.environment)(name)
                    .ok_or_else(|| SecretError::NotInEnvironment { name: name.clone() })?;
                let place = || format!("environment variable {name}");
                checked(value.into_encoded_bytes(), place)
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o006 != 0 {
        return Err(SecretError::OpenToAll {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    let read = (&mut file)
        .take(SECRET_BYTES_MAX + 2)
        .read_to_end(&mut bytes);
    if let Err(source) = read {
        bytes.zeroize();
        return Err(unreadable(source));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    checked(bytes, || path.display().to_string())
}

fn checked(mut bytes: Vec<u8>, place: impl Fn() -> String) -> Result<Secret, SecretError> {
    if bytes.is_empty() {
        return Err(SecretError::Empty { place: place() });
    }
    if u64::try_from(bytes.len()).map_or(true, |length| length > SECRET_BYTES_MAX) {
        bytes.zeroize();
        return Err(SecretError::TooLong { place: place() });
    }
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sources(directory: &Path) -> SecretSources {
        SecretSources {
            credentials_directory: Some(directory.join("credentials")),
            base_directory: directory.to_owned(),
            environment: |name| (name == "PGSECRET").then(|| OsString::from("from-env\n")),
        }
    }

    fn write(path: &Path, bytes: &[u8], mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn references_are_read_as_written() {
        let cases = [
            (
                "credential:orders",
                Ok(SecretReference::Credential("orders".into())),
            ),
            ("file:/a/b:c", Ok(SecretReference::File("/a/b:c".into()))),
            (
                "file:secrets/x",
                Ok(SecretReference::File("secrets/x".into())),
            ),
            (
                "env:PGSECRET",
                Ok(SecretReference::Environment("PGSECRET".into())),
            ),
            ("hunter2", Err(SecretReferenceError::NotAReference)),
            ("pass:word", Err(SecretReferenceError::NotAReference)),
            ("File:/a", Err(SecretReferenceError::NotAReference)),
            ("env:", Err(SecretReferenceError::NamesNothing)),
            (
                "credential:../shadow",
                Err(SecretReferenceError::CredentialName),
            ),
            ("credential:..", Err(SecretReferenceError::CredentialName)),
        ];
        for (text, expected) in cases {
            assert_eq!(SecretReference::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn one_trailing_newline_of_a_file_is_not_part_of_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let cases: [(&[u8], &[u8]); 4] = [
            (b"a b", b"a b"),
            (b"a\n", b"a"),
            (b"a\r\n", b"a"),
            (b"a\n\n", b"a\n"),
        ];
        for (written, expected) in cases {
            write(&directory.path().join("s"), written, 0o600);
            let secret = SecretReference::File("s".into()).read(&sources(directory.path()));
            assert_eq!(secret.unwrap_or_else(|e| panic!("{e}")).expose(), expected);
        }
    }

    #[test]
    fn each_source_is_read_from_its_place() {
        let directory = tempfile::tempdir().unwrap();
        write(
            &directory.path().join("credentials/orders"),
            b"from-systemd",
            0o400,
        );
        let sources = sources(directory.path());
        let read = |text: &str| SecretReference::parse(text).unwrap().read(&sources);
        assert_eq!(
            read("credential:orders").ok().unwrap().expose(),
            b"from-systemd"
        );
        assert_eq!(read("env:PGSECRET").ok().unwrap().expose(), b"from-env\n");
        assert!(matches!(
            read("env:OTHER").err(),
            Some(SecretError::NotInEnvironment { .. })
        ));
        assert!(matches!(
            read("credential:none").err(),
            Some(SecretError::Unreadable { .. })
        ));
        let without = SecretSources {
            credentials_directory: None,
            ..sources.clone()
        };
        let missing = SecretReference::Credential("orders".into()).read(&without);
        assert!(matches!(
            missing.err(),
            Some(SecretError::NoCredentials { .. })
        ));
    }

    #[test]
    fn files_that_every_user_may_read_or_write_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        for (mode, refused) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            write(&path, b"x", mode);
            let result = SecretReference::File("s".into()).read(&sources(directory.path()));
            assert_eq!(
                matches!(result.err(), Some(SecretError::OpenToAll { .. })),
                refused,
                "{mode:o}"
            );
        }
    }

    #[test]
    fn a_secret_at_the_limit_is_read_and_one_byte_more_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let read = || SecretReference::File("s".into()).read(&sources(directory.path()));
        let mut bytes = vec![b'x'; 64 * 1024];
        bytes.push(b'\n');
        write(&path, &bytes, 0o600);
        assert_eq!(read().ok().unwrap().expose().len(), 64 * 1024);
        bytes.insert(0, b'x');
        write(&path, &bytes, 0o600);
        assert!(matches!(read().err(), Some(SecretError::TooLong { .. })));
        write(&path, b"\n", 0o600);
        assert!(matches!(read().err(), Some(SecretError::Empty { .. })));
        let directory_itself = SecretReference::File(".".into()).read(&sources(directory.path()));
        assert!(matches!(
            directory_itself.err(),
            Some(SecretError::NotAFile { .. })
        ));
    }
}
