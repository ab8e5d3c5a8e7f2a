//! The admin socket's file.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use runtime::{SocketFile, listen_unix};

/// A bound admin socket. Its file goes when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    listener: OwnedFd,
}

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub enum AdminSocketError {
    #[error("another appliance answers at {}", path.display())]
    Taken { path: PathBuf },
    #[error("the directory of {} cannot be made", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot listen at {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

impl AdminSocket {
    /// Listens at `path`, readable and writable by this user alone (mode 0600).
    ///
    /// A socket file that nobody answers at is replaced. One where somebody does is an error, so
    /// two appliances cannot share a runtime directory.
    ///
    /// # Errors
    /// As the variants say.
    pub fn bind(path: &Path) -> Result<Self, AdminSocketError> {
        let owned = || path.to_owned();
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|source| AdminSocketError::Directory {
                    path: owned(),
                    source,
                })?;
        }
        // Peer credentials decide who is answered; the mode only saves others the attempt.
        let file = SocketFile {
            mode: 0o600,
            group: None,
        };
        let listener = listen_unix(path, file).map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                AdminSocketError::Taken { path: owned() }
            } else {
                AdminSocketError::Listen {
                    path: owned(),
                    source,
                }
            }
        })?;
        Ok(Self {
            path: owned(),
            listener,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        Ok(UnixListener::from(self.listener.try_clone()?))
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the admin socket's file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_stale_file_is_replaced_and_a_living_socket_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/admin.sock");
        let first = AdminSocket::bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(
            AdminSocket::bind(&path),
            Err(AdminSocketError::Taken { .. })
        ));
        assert!(
            UnixStream::connect(&path).is_ok(),
            "the attempt did no harm"
        );
        drop(first);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left over");
        assert!(AdminSocket::bind(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        fs::write(&path, b"precious").unwrap();
        assert!(AdminSocket::bind(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
