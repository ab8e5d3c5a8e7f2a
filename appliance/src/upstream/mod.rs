//! The side that we call: connections to targets, made ahead of need and leased to sessions.
//!
//! No file outside this folder opens a connection to a target, and none outside sees the
//! credentials that are used there.

mod credentials;
mod error;
mod settings;
mod tls;

pub use credentials::{Account, ChannelBinding};
pub use error::{AuthenticationFailure, Phase, SqlState, TlsFailure, UpstreamError, Violation};
pub use settings::{Address, Host, PoolSettings, TargetSettings};
pub use tls::{ALPN_POSTGRESQL, ClientCertificate, Roots, Tls, TlsMode, TlsSetupError};
