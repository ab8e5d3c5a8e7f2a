//! One server of a target: where it is, and a bare connection to it.
//!
//! Does not know which of a target's servers to take; `candidates` does.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use runtime::{Keepalive, Stream};

use super::error::{Phase, UpstreamError};
use super::settings::Address;

/// Finds a server that is gone without a word after a minute and a half, also under an idle
/// connection, whose loss the next lease would otherwise pay for.
const KEEPALIVE: Keepalive = Keepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    probes: 3,
};

/// One server that a connection can be made to; a host name may stand for several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Server {
    /// As configured: what its certificate is checked for.
    pub(super) address: Address,
    pub(super) endpoint: Endpoint,
}

/// What a socket connects to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Server {
    /// # Errors
    /// `TimedOut` or `Unreachable`.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Stream, UpstreamError> {
        let connected = match &self.endpoint {
            Endpoint::Tcp(address) => Stream::connect(address, deadline).await,
            Endpoint::Unix(path) => Stream::connect_unix(path, deadline).await,
        };
        connected
            .and_then(|stream| stream.set_keepalive(&KEEPALIVE).map(|()| stream))
            .map_err(|error| {
                if error.kind() == io::ErrorKind::TimedOut {
                    return UpstreamError::TimedOut {
                        phase: Phase::Connect,
                    };
                }
                UpstreamError::Unreachable { kind: error.kind() }
            })
    }
}
