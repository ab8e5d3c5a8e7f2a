//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2, seen from both sides.
//!
//! Supported: the start-up packets, every message of both directions, cleartext, MD5, SCRAM-SHA-256
//! (and -PLUS) and OAUTHBEARER authentication, and the [pipeline](pipeline) that says which reply
//! answers which request. Not here: GSSAPI, SSPI, Kerberos and certificates (none of them is a
//! message body of its own), and protocol 2.
//!
//! Where PostgreSQL is lenient we are not; `docs/protocols/postgres.md` lists each strict reading.
//!
//! Spec: PostgreSQL manual, "Frontend/Backend Protocol".

pub mod auth;
pub mod backend;
pub mod copy;
pub mod edit;
pub mod error;
pub mod framing;
pub mod frontend;
pub mod pipeline;
pub mod startup;
pub mod value;

pub use backend::{Backend, BackendDecoder, BackendPiece, BackendTag, TransactionStatus};
pub use error::DecodeError;
pub use framing::{Decoded, Fragment};
pub use frontend::{Announced, Frontend, FrontendDecoder, FrontendPiece, Head};
pub use pipeline::{Origin, Pipeline, Reply, Request, SequenceError};
pub use startup::{ProtocolVersion, StartupPacket};

pub use crate::wire::EncodeError;
