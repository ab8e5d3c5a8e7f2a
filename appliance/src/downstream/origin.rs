//! Where a connection comes from: its peer, or the client that a trusted load balancer names.
//!
//! It reads nothing behind the PROXY header, and lets nobody in.

use std::fmt;
use std::time::Instant;

use codecs::Limits;
use codecs::proxy_protocol::{Client, Header, HeaderError, decode_header};
use runtime::{PeerAddress, Stream};

use super::proxies::TrustedProxies;
use crate::relay::inbound::Inbound;

/// Who connected, and on whose behalf. Per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The other end of our socket.
    sender: PeerAddress,
    behind: Behind,
}

/// Who is behind the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// The sender itself.
    Nobody,
    Client(PeerAddress),
    /// A client that the sender does not name.
    Somebody,
}

/// Why a load balancer's connection is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    /// The sender is trusted, so it has to say for whom it connects.
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("the connection ended inside a PROXY header")]
    Left,
    #[error("the connection failed before its PROXY header: {0}")]
    Connection(std::io::ErrorKind),
}

impl Origin {
    /// A peer that speaks for itself.
    pub(crate) fn direct(sender: PeerAddress) -> Self {
        Self {
            sender,
            behind: Behind::Nobody,
        }
    }

    fn named(sender: PeerAddress, header: Header) -> Self {
        let behind = match header {
            Header::Local => Behind::Nobody,
            Header::Proxied(Client::Tcp(address)) => Behind::Client(PeerAddress::Tcp(address)),
            Header::Proxied(Client::Unix) => Behind::Client(PeerAddress::Unix),
            Header::Proxied(Client::Unspecified) => Behind::Somebody,
        };
        Self { sender, behind }
    }

    /// Whom the record names: the client as far as it is known, else the sender.
    pub(crate) fn client(&self) -> PeerAddress {
        match self.behind {
            Behind::Client(client) => client,
            Behind::Nobody | Behind::Somebody => self.sender,
        }
    }

    /// The client, where it is known.
    pub(crate) fn known_client(&self) -> Option<PeerAddress> {
        match self.behind {
            Behind::Client(client) => Some(client),
            Behind::Nobody => Some(self.sender),
            Behind::Somebody => None,
        }
    }

    /// Whether the bytes stay on this machine all the way from the client.
    ///
    /// Security: a header can take this away and never give it. Our own socket must be local, and
    /// so must the client's, since what comes through a local load balancer may have crossed a
    /// network in clear text before.
    pub(crate) fn is_local(&self) -> bool {
        self.sender.is_loopback_or_unix()
            && match self.behind {
                Behind::Nobody => true,
                Behind::Client(client) => client.is_loopback_or_unix(),
                Behind::Somebody => false,
            }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.behind {
            Behind::Nobody => write!(f, "{}", self.sender),
            Behind::Client(client) => write!(f, "{client} through {}", self.sender),
            Behind::Somebody => write!(f, "somebody through {}", self.sender),
        }
    }
}

/// Reads the header of a trusted sender; a peer that is none has nothing to say here.
///
/// What came behind the header is left in `inbound`. `None` when the peer closes without a byte,
/// as health checks do.
///
/// # Errors
/// As `OriginError` says. Nothing was answered, and nothing must be: the sender would pass it on.
pub(crate) async fn find(
    stream: &mut Stream,
    inbound: &mut Inbound,
    proxies: &TrustedProxies,
    limits: &Limits,
    deadline: Instant,
) -> Result<Option<Origin>, OriginError> {
    let sender = stream.peer_address();
    if !proxies.trust(sender) {
        return Ok(Some(Origin::direct(sender)));
    }
    loop {
        if let Some(decoded) = decode_header(inbound.unread(), limits)? {
            let (header, length) = (decoded.header, decoded.wire.len());
            inbound.advance(length);
            return Ok(Some(Origin::named(sender, header)));
        }
        inbound.settle();
        match stream.recv(deadline).await {
            Ok(Some(chunk)) => inbound.push(chunk),
            Ok(None) if inbound.unread().is_empty() => return Ok(None),
            Ok(None) => return Err(OriginError::Left),
            Err(error) => return Err(OriginError::Connection(error.kind())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> PeerAddress {
        PeerAddress::Tcp(address.parse().unwrap())
    }

    /// Senders and what they say, with whether clear text may carry a token, and whom the record
    /// names.
    #[test]
    fn a_header_takes_away_that_a_connection_is_local_and_never_gives_it() {
        let loopback = tcp("127.0.0.1:4000");
        let far = tcp("10.0.0.5:4000");
        let client = |address| Header::Proxied(Client::Tcp(address));
        let claims_loopback = client("127.0.0.1:51000".parse().unwrap());
        let claims_loopback_6 = client("[::1]:51000".parse().unwrap());
        let claims_far = client("203.0.113.9:51000".parse().unwrap());
        let claims_unix = Header::Proxied(Client::Unix);
        let claims_nothing = Header::Proxied(Client::Unspecified);
        let cases = [
            (far, claims_loopback, false, "127.0.0.1:51000"),
            (far, claims_loopback_6, false, "[::1]:51000"),
            (far, claims_unix, false, "unix"),
            (far, claims_far, false, "203.0.113.9:51000"),
            (far, claims_nothing, false, "10.0.0.5:4000"),
            (far, Header::Local, false, "10.0.0.5:4000"),
            (loopback, claims_far, false, "203.0.113.9:51000"),
            (loopback, claims_nothing, false, "127.0.0.1:4000"),
            (loopback, claims_loopback, true, "127.0.0.1:51000"),
            (loopback, claims_unix, true, "unix"),
            (loopback, Header::Local, true, "127.0.0.1:4000"),
            (PeerAddress::Unix, claims_far, false, "203.0.113.9:51000"),
            (PeerAddress::Unix, claims_nothing, false, "unix"),
            (PeerAddress::Unix, Header::Local, true, "unix"),
        ];
        for (sender, header, is_local, recorded) in cases {
            let origin = Origin::named(sender, header);
            assert_eq!(origin.is_local(), is_local, "{sender}: {header:?}");
            assert_eq!(
                origin.client().to_string(),
                recorded,
                "{sender}: {header:?}"
            );
        }
        assert!(Origin::direct(loopback).is_local());
        assert!(!Origin::direct(far).is_local());
    }
}
