//! Why there is no upstream connection, or no longer.
//!
//! Values are ours or standardised: a server's own texts never get here.

use std::io;

use codecs::postgres::DecodeError;
use codecs::postgres::backend::ErrorFields;

use runtime::transport::HandshakeError;

/// Cloned into every lease that fails for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No address of the host accepted a connection.
    #[error("cannot connect to the target: {kind}")]
    Unreachable { kind: io::ErrorKind },
    #[error("the target's host name cannot be resolved")]
    Unresolved,
    /// Servers answered, but none with the role that `target_session_attrs` asks for.
    #[error("no server of the target has the role that its sessions need")]
    WrongRole,
    #[error("the target was too slow in {phase:?}")]
    TimedOut { phase: Phase },
    /// The server answered with an ErrorResponse, in whichever phase.
    #[error("the target refused with SQLSTATE {sqlstate} in {phase:?}")]
    Refused { phase: Phase, sqlstate: SqlState },
    #[error("authentication at the target failed: {0}")]
    AuthenticationFailed(AuthenticationFailure),
    #[error("TLS with the target failed: {0}")]
    Tls(TlsFailure),
    /// The connection ended under us.
    #[error("the target closed the connection in {phase:?}")]
    Lost { phase: Phase },
    /// Bytes that PostgreSQL does not send here.
    #[error("the target broke the protocol in {phase:?}: {violation:?}")]
    Protocol { phase: Phase, violation: Violation },
    /// All connections stayed taken for as long as a lease may wait.
    #[error("no connection to the target became free in time")]
    QueueTimedOut,
    /// As many leases as may wait are waiting.
    #[error("too many sessions wait for a connection to the target")]
    QueueFull,
    /// The shard is stopping.
    #[error("the appliance is stopping")]
    Draining,
}

/// What the connection was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Resolve,
    Connect,
    Tls,
    Authentication,
    Startup,
    Attribution,
    /// While a session had the connection.
    Session,
    Reset,
    /// While the catalogue of a database was read.
    Catalogue,
    /// While the planner was asked what it expects.
    Estimate,
    Cancel,
}

/// Five characters of an ErrorResponse's field `C`, checked to be digits and capitals.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

/// Why an account could not log in although the server was willing to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationFailure {
    #[error("the target asks for a password and the account has none")]
    NoPassword,
    #[error("the target asks for the password in clear without TLS")]
    CleartextWithoutTls,
    #[error("the target offers no authentication method that the appliance speaks")]
    UnsupportedMethod,
    #[error("the account requires channel binding and the target does not offer it")]
    ChannelBindingNotOffered,
    #[error("the target's certificate has no hash for channel binding")]
    ChannelBindingUnavailable,
    #[error("the target's SCRAM messages are not acceptable")]
    Scram,
    #[error("the target could not prove that it knows the password")]
    ServerSignature,
    #[error("no key could be derived from the password")]
    KeyDerivation,
}

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    #[error("the target does not offer TLS")]
    NotOffered,
    #[error("the target's host is not a name that a certificate can be checked for")]
    HostNotVerifiable,
    #[error("{0}")]
    Handshake(HandshakeError),
}

/// What a hostile or broken server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    Malformed,
    TooLong,
    TooManyMessages,
    OutOfSequence,
    /// `client_encoding` or `standard_conforming_strings` is not what was asked for.
    UnsafeSettings,
}

impl SqlState {
    /// `None` unless `code` has the form of an SQLSTATE.
    pub fn from_wire(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
            .then_some(Self(code))
    }

    pub fn as_str(&self) -> &str {
        // Invariant: only ASCII passes `from_wire`.
        str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// Whether the code begins with `class`, such as "57" for operator intervention.
    pub fn is_class(&self, class: &str) -> bool {
        self.as_str().starts_with(class)
    }
}

impl std::fmt::Display for SqlState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::fmt::Debug for SqlState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl UpstreamError {
    pub(super) fn protocol(phase: Phase, violation: Violation) -> Self {
        Self::Protocol { phase, violation }
    }

    /// A connection that failed after it was made.
    pub(super) fn from_io(phase: Phase, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            return Self::TimedOut { phase };
        }
        Self::Lost { phase }
    }

    pub(super) fn from_decode(phase: Phase, error: &DecodeError) -> Self {
        let violation = if error.is_limit() {
            Violation::TooLong
        } else {
            Violation::Malformed
        };
        Self::Protocol { phase, violation }
    }

    /// What an ErrorResponse means in `phase`. Its texts are not looked at.
    pub(super) fn from_response(phase: Phase, fields: &ErrorFields<'_>) -> Self {
        match fields.sqlstate().and_then(SqlState::from_wire) {
            Some(sqlstate) => Self::Refused { phase, sqlstate },
            None => Self::protocol(phase, Violation::Malformed),
        }
    }

    pub(super) fn from_handshake(error: HandshakeError) -> Self {
        match error {
            HandshakeError::TimedOut => Self::TimedOut { phase: Phase::Tls },
            HandshakeError::Ended | HandshakeError::Connection { .. } => {
                Self::Lost { phase: Phase::Tls }
            }
            HandshakeError::EarlyBytes { .. }
            | HandshakeError::TooLong { .. }
            | HandshakeError::Certificate(_)
            | HandshakeError::Alert { .. }
            | HandshakeError::NoProtocol
            | HandshakeError::NotAcceptable => Self::Tls(TlsFailure::Handshake(error)),
        }
    }

    /// Whether the target itself is away or turns everybody down, so that the next attempt should
    /// wait: not so when the fault lies with one account or one session's settings.
    pub(super) fn concerns_target(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unresolved
            | Self::WrongRole
            | Self::TimedOut { .. }
            | Self::Lost { .. }
            | Self::Tls(_)
            | Self::Protocol { .. } => true,
            // Insufficient resources (too many connections), not in the required state, operator
            // intervention (shutting down, starting up), system and internal errors.
            Self::Refused { .. } => self.is_refusal_of(&["53", "55", "57", "58", "XX"]),
            Self::AuthenticationFailed(_)
            | Self::QueueTimedOut
            | Self::QueueFull
            | Self::Draining => false,
        }
    }

    /// Whether logging in with the same account again can only fail again, until an operator
    /// changes something: wrong password, no such database.
    pub(super) fn concerns_account(&self) -> bool {
        matches!(self, Self::AuthenticationFailed(_)) || self.is_refusal_of(&["28", "3D"])
    }

    /// Whether the server has no database of that name.
    pub fn is_missing_database(&self) -> bool {
        self.is_refusal_of(&["3D"])
    }

    /// Whether the connection had gone, was taken from us or serves no longer, rather than the
    /// exchange failed.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::Lost { .. } | Self::TimedOut { .. } | Self::WrongRole
        ) || self.is_refusal_of(&["57"])
    }

    fn is_refusal_of(&self, classes: &[&str]) -> bool {
        matches!(self, Self::Refused { sqlstate, .. }
            if classes.iter().any(|class| sqlstate.is_class(class)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlstate_is_five_digits_or_capitals() {
        assert_eq!(SqlState::from_wire(b"57P01").unwrap().as_str(), "57P01");
        for code in [
            &b"57P0"[..],
            b"57P011",
            b"57p01",
            b"57P0\n",
            b"",
            b"28\xc3\xa90",
        ] {
            assert_eq!(SqlState::from_wire(code), None);
        }
    }
}
