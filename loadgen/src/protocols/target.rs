//! Where a target is, and how it is spoken to.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::canaries::Canaries;
use super::tls::Tls;

const PORT: u16 = 5432;

/// One target. Shared by the shards of a run.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: Address,
    pub tls: Tls,
    pub database: String,
    /// What is looked for in its answers.
    pub canaries: Arc<Canaries>,
}

/// A place to connect to. A name was resolved once, so that a run measures one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp {
        socket: SocketAddr,
        /// As it was written: what a certificate is checked for.
        host: String,
    },
    Unix(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("`{text}` is neither HOST:PORT nor the path of a Unix socket")]
    Malformed { text: String },
    #[error("`{host}` cannot be resolved")]
    Unknown {
        host: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{host}` has no address")]
    NoAddress { host: String },
}

impl Address {
    /// `HOST`, `HOST:PORT`, `[IPv6]:PORT`, the path of a Unix socket, or the path of the directory
    /// where PostgreSQL has one for port 5432.
    ///
    /// Blocking: resolves names. For the start of a run only.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn resolve(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('/') {
            let path = Path::new(text);
            let socket = match path.is_dir() {
                true => path.join(format!(".s.PGSQL.{PORT}")),
                false => path.to_owned(),
            };
            return Ok(Self::Unix(socket));
        }
        let malformed = || AddressError::Malformed {
            text: text.to_owned(),
        };
        let (host, port) = split(text).ok_or_else(malformed)?;
        let mut found = (host, port)
            .to_socket_addrs()
            .map_err(|source| AddressError::Unknown {
                host: host.to_owned(),
                source,
            })?;
        let socket = found.next().ok_or_else(|| AddressError::NoAddress {
            host: host.to_owned(),
        })?;
        Ok(Self::Tcp {
            socket,
            host: host.to_owned(),
        })
    }

    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            Self::Tcp { host, .. } => ServerName::try_from(host.clone()).ok(),
            Self::Unix(_) => ServerName::try_from("localhost").ok(),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { socket, host } if host.contains(':') => {
                write!(f, "[{host}]:{}", socket.port())
            }
            Self::Tcp { socket, host } => write!(f, "{host}:{}", socket.port()),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Host without brackets, and port.
fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (host, port)
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return None,
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
    (!host.is_empty() && port != 0).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_psql_users_write_them() {
        assert_eq!(split("db.example.org"), Some(("db.example.org", 5432)));
        assert_eq!(split("127.0.0.1:6433"), Some(("127.0.0.1", 6433)));
        assert_eq!(split("[::1]:6433"), Some(("::1", 6433)));
        assert_eq!(split("[::1]"), Some(("::1", 5432)));
        for wrong in [
            "",
            ":5432",
            "::1",
            "host:",
            "host:0",
            "host:65536",
            "[::1]5432",
        ] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_directory_stands_for_the_socket_inside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        assert_eq!(
            Address::resolve(path).unwrap(),
            Address::Unix(directory.path().join(".s.PGSQL.5432"))
        );
        assert_eq!(
            Address::resolve("/run/sallyport/pg.sock").unwrap(),
            Address::Unix("/run/sallyport/pg.sock".into())
        );
    }
}
