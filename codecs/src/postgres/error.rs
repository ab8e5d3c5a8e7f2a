//! Why bytes were not accepted as PostgreSQL.
//!
//! Nothing here holds what a peer wrote: only lengths, tags and names of messages.

use thiserror::Error;

use crate::wire::Malformed;

/// Bytes that are not a message we accept. Final for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes contradict the format of the message.
    #[error("{message} {what}")]
    Malformed {
        message: &'static str,
        what: Malformed,
    },

    /// The length field is smaller than itself, or than the message can be.
    #[error("{message} announces an impossible length of {announced} bytes")]
    ImpossibleLength {
        message: &'static str,
        announced: i32,
    },

    /// A legal message that is longer than we carry.
    #[error("{message} announces {announced} bytes, more than {limit}")]
    TooLong {
        message: &'static str,
        announced: u32,
        limit: u32,
    },

    /// A tag that the protocol does not have, or that its version does not have.
    #[error("unknown message tag 0x{tag:02x}")]
    UnknownTag { tag: u8 },

    /// A message of the protocol at a moment when it cannot occur.
    #[error("{message} cannot come at this point")]
    OutOfPhase { message: &'static str },

    /// A version of the protocol that we do not speak.
    #[error("protocol version {major}.{minor} is not supported")]
    UnsupportedVersion { major: u16, minor: u16 },
}

impl DecodeError {
    /// Whether a bound of ours was hit, rather than the format broken.
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::TooLong { .. }
                | Self::Malformed {
                    what: Malformed::TooMany { .. },
                    ..
                }
        )
    }
}

/// Names the message in which a field was malformed.
pub(super) trait InMessage<T> {
    fn in_message(self, message: &'static str) -> Result<T, DecodeError>;
}

impl<T> InMessage<T> for Result<T, Malformed> {
    #[inline]
    fn in_message(self, message: &'static str) -> Result<T, DecodeError> {
        self.map_err(|what| DecodeError::Malformed { message, what })
    }
}
