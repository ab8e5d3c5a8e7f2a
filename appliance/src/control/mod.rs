//! The control plane: one thread for everything that is not per-byte work.
//!
//! It answers the admin socket, takes signals, reads the configuration again and publishes what the
//! shards go by. It never touches a socket of the data path, and no shard waits for it.

mod api;
mod body;
mod checked;
mod client;
mod clients;
mod console;
mod database;
pub mod explanation;
mod export;
mod guard;
mod issuer;
mod issuers;
mod listener;
mod next_step;
mod observe;
mod peer;
mod plane;
mod probes;
mod rates;
mod recordings;
mod revocations;
mod roles;
mod server;
mod site;
mod socket;
mod supervision;
mod trail;
mod webhooks;

pub use api::{Answered, ApprovalsWanted, Denial};
pub use api::{
    ClientLine, ClientMade, ClientWanted, Health, HoldWanted, IssuerStatus, PoolHealth, Refused,
    ReloadReport, RevocationKind, RevocationLine, RevocationWanted, SealedNow, SessionEnded,
    Status, TargetShown, TokenMade, TokenWanted, Whoami, document as openapi, paths,
};
pub use checked::AccountChecked;
pub(crate) use checked::checked;
pub use client::{AdminClient, AdminError};
pub use clients::{ClientsError, TokenClients};
pub use console::ConsoleLink;
pub use database::{DATABASE, Database, DatabaseError, Part};
pub use export::{
    ExportError, ExportForm, ExportSettings, ExportWanted, Exported, S3Keys, S3Settings,
    Target as ExportTarget, export,
};
pub(crate) use export::{ExportThread, NotATarget};
pub use issuers::{
    FetchError, IssuerLook, client as http_client, discover, kept as kept_keys,
    look as look_at_issuer,
};
pub use listener::{HttpListenError, HttpListener, Service};
pub use next_step::{NextStep, next_step};
pub(crate) use next_step::{lets_in, next_step_of};
pub use plane::{ControlThread, FromShards, Plane, start};
pub use recordings::{
    RecordingsError, RefusedLoginLine, RefusedLoginsWanted, ReplayForm, SessionLine,
    SessionsWanted, refused_logins, replay, sessions, write,
};
pub(crate) use recordings::{session_id as find_session, time_named};
pub use revocations::{Revocations, RevocationsWanted};
pub use roles::{Role, RoleSet, Roles};
pub use socket::{AdminSocket, AdminSocketError};
pub use supervision::Supervision;
pub use webhooks::{Heads, heads};
