//! The side that we call: connections to targets, made ahead of need and leased to sessions.
//!
//! No file outside this folder opens a connection to a target, and none outside sees the
//! credentials that are used there.

mod attribution;
mod cancel;
mod candidates;
mod catalogue;
mod check;
mod conversation;
mod credentials;
mod databases;
pub(crate) mod der;
mod dial;
mod endpoint;
mod error;
mod estimate;
mod login;
mod pool;
mod resolve;
mod role;
mod server;
mod session;
mod settings;
mod standing;
mod tls;
mod validity;

pub use attribution::{Attribution, AttributionError, AttributionStatements};
pub use cancel::{CancelHandle, cancel};
pub(crate) use catalogue::{Look, View, Watch};
pub use check::{AccountCheck, Reached, answers, check};
pub use conversation::Parameters;
pub use credentials::{Account, ChannelBinding};
pub use databases::Databases;
pub use error::{AuthenticationFailure, Phase, SqlState, TlsFailure, UpstreamError, Violation};
pub(crate) use estimate::{Plannable, Question};
pub use pool::{Lease, LeaseRequest, Outcome, Pools, TargetStatus};
pub use role::SessionAttrs;
pub use session::{SessionSettings, SettingsError};
pub use settings::{Address, Balance, Host, PoolSettings, ShardPart, TargetSettings};
pub use tls::{ALPN_POSTGRESQL, ClientCertificate, Roots, Tls, TlsMode, TlsSetupError};
pub(crate) use validity::{check_validity, validity};
