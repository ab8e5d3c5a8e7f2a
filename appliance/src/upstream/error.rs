//! Why there is no upstream connection, or no longer.
//!
//! Values are ours or standardised: a server's own texts never get here.

use std::io;

/// Cloned into every lease that fails for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No address of the host accepted a connection.
    #[error("cannot connect to the target: {kind}")]
    Unreachable { kind: io::ErrorKind },
    #[error("the target's host name cannot be resolved")]
    Unresolved,
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
    Reset,
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
}

/// Why there is no TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    #[error("the target does not offer TLS")]
    NotOffered,
    /// The stuffing attack of CVE-2021-23222.
    #[error("{count} bytes came before the handshake")]
    EarlyBytes { count: usize },
    #[error("the certificate is signed by nobody we trust")]
    UnknownIssuer,
    #[error("the certificate is for another host")]
    WrongHost,
    #[error("the certificate is not valid at this time")]
    OutsideValidity,
    #[error("the certificate cannot be used")]
    BadCertificate,
    #[error("the target ended the handshake with an alert")]
    Alert,
    #[error("the host name cannot be verified in a certificate")]
    HostNotVerifiable,
    #[error("the handshake is not acceptable")]
    Handshake,
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
