//! Why there is no answer. Nothing of what a peer wrote is in it.

use std::io;

use codecs::postgres::DecodeError;
use codecs::postgres::auth::AuthError;
use runtime::transport::HandshakeError;

use super::answer::SqlState;

/// No answer, and the connection is of no use any more.
///
/// A refusal or an error by which the connection stays alive is an [`Outcome`](super::Outcome).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    #[error("connecting failed: {kind}")]
    Connect { kind: io::ErrorKind },
    #[error("no answer to the {phase} in time")]
    TimedOut { phase: Phase },
    #[error("the connection ended during the {phase}")]
    Closed { phase: Phase },
    #[error("the connection failed during the {phase}: {kind}")]
    Connection { phase: Phase, kind: io::ErrorKind },
    /// An ErrorResponse during the start, or one that ends the connection.
    #[error("the {phase} ended with SQLSTATE {sqlstate}")]
    Refused { phase: Phase, sqlstate: SqlState },
    #[error("the target does not offer TLS")]
    TlsNotOffered,
    #[error("TLS: {0}")]
    Tls(#[from] HandshakeError),
    #[error("the target's address has no name that a certificate could be for")]
    TlsName,
    #[error("the target asks for a password, and the agent has none")]
    NoPassword,
    #[error("the target asks for the password where others could read it")]
    PasswordInClear,
    #[error("the target asks for a way of authentication that is not spoken here")]
    UnsupportedAuthentication,
    #[error("authentication: {0}")]
    Authentication(#[from] AuthError),
    #[error("the target does not speak PostgreSQL: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the target sent what cannot come during the {phase}")]
    OutOfSequence { phase: Phase },
    #[error("more than {limit} messages before the first statement")]
    TooManyMessages { limit: usize },
    #[error("what the agent or the target is called does not fit a message")]
    NotEncodable,
    #[error("this machine has no randomness")]
    NoRandomness,
}

/// What was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connect,
    Tls,
    Authentication,
    Request,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Tls => "TLS handshake",
            Self::Authentication => "log-in",
            Self::Request => "request",
        })
    }
}

impl Failed {
    pub(super) fn from_io(phase: Phase, error: &io::Error) -> Self {
        let kind = error.kind();
        if kind == io::ErrorKind::TimedOut {
            Self::TimedOut { phase }
        } else if kind == io::ErrorKind::UnexpectedEof {
            Self::Closed { phase }
        } else if phase == Phase::Connect {
            Self::Connect { kind }
        } else {
            Self::Connection { phase, kind }
        }
    }

    /// How reports count it: a short word, or `sqlstate 57014`.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Connect { .. } => "connect".to_owned(),
            Self::TimedOut { .. } => "timeout".to_owned(),
            Self::Closed { .. } | Self::Connection { .. } => "closed".to_owned(),
            Self::Refused { sqlstate, .. } => format!("sqlstate {sqlstate}"),
            Self::TlsNotOffered | Self::Tls(_) | Self::TlsName => "tls".to_owned(),
            Self::NoPassword
            | Self::PasswordInClear
            | Self::UnsupportedAuthentication
            | Self::Authentication(_) => "authentication".to_owned(),
            Self::Malformed(_) | Self::OutOfSequence { .. } | Self::TooManyMessages { .. } => {
                "protocol".to_owned()
            }
            Self::NotEncodable | Self::NoRandomness => "generator".to_owned(),
        }
    }
}
