//! Revocation: what is cut off, by whom, until when.
//!
//! The control plane keeps it durably and publishes it as an immutable [`RevocationSet`]; shards
//! look it up at each login and, whenever it changes, for each session that is alive.

mod set;
mod store;

use serde::{Deserialize, Serialize};

pub use set::{Revocable, RevocationSet};
pub use store::{RevocationStore, StoreError};

use crate::recorder::SessionId;

/// Longest text of a name, reason or message, in bytes: that of the names in a token.
pub const TEXT_BYTES_MAX: usize = 512;

/// Most revocations in force at once.
///
/// Count. They take some 500 bytes each, and a change copies the table of all of them: at 65,536
/// that stays below the 10 ms in which a revocation is to reach every shard.
pub const REVOCATIONS_MAX: usize = 65_536;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Revoked {
    /// One token, by its `jti`.
    Token { issuer: String, id: String },
    /// Whoever a token says that its bearer is (`sub`).
    Subject { issuer: String, subject: String },
    /// The same, and wherever it stands in a delegation chain.
    Agent { issuer: String, subject: String },
    /// One session, for good.
    Session { id: String },
    /// A target of the configuration with all its databases.
    Target { name: String },
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Never used again.
    pub id: i64,
    pub revoked: Revoked,
    /// For operators.
    pub reason: Option<String>,
    /// For whoever is cut off by it.
    pub message: Option<String>,
    pub by: String,
    /// Seconds since 1970.
    pub at: u64,
    /// Seconds since 1970 from which on it no longer holds; `None`: until it is lifted.
    pub until: Option<u64>,
}

impl Revoked {
    /// The word for what it names.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Subject { .. } => "subject",
            Self::Agent { .. } => "agent",
            Self::Session { .. } => "session",
            Self::Target { .. } => "target",
        }
    }

    /// Within what the name is to be understood, if it is not the appliance itself.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        match self {
            Self::Token { issuer, .. }
            | Self::Subject { issuer, .. }
            | Self::Agent { issuer, .. } => Some(issuer),
            Self::Session { .. } | Self::Target { .. } => None,
        }
    }

    /// The name itself.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Token { id, .. } | Self::Session { id } => id,
            Self::Subject { subject, .. } | Self::Agent { subject, .. } => subject,
            Self::Target { name } => name,
        }
    }

    /// From its three parts; `None` when they do not make one.
    fn from_parts(kind: &str, issuer: Option<String>, name: String) -> Option<Self> {
        Some(match (kind, issuer) {
            ("token", Some(issuer)) => Self::Token { issuer, id: name },
            ("subject", Some(issuer)) => Self::Subject {
                issuer,
                subject: name,
            },
            ("agent", Some(issuer)) => Self::Agent {
                issuer,
                subject: name,
            },
            ("session", None) => Self::Session {
                id: name.parse::<SessionId>().ok()?.to_string(),
            },
            ("target", None) => Self::Target { name },
            _ => return None,
        })
    }
}

impl Revocation {
    /// Whether it holds at that time, in seconds since 1970.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it outlasts `other`.
    fn outlasts(&self, other: &Self) -> bool {
        match (self.until, other.until) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => mine >= theirs,
        }
    }
}
