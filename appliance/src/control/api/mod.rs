//! The admin API: who may ask what, and what stands behind each question.
//!
//! `routes` has every path with what it takes to be answered; `caller` finds out who asks. Handlers
//! ask the control plane's task and wait for its answer; they own no state.

mod appliance;
pub(super) mod approvals;
mod archive;
mod caller;
mod clients;
mod error;
mod health;
mod live;
mod openapi;
mod policy;
pub(super) mod revocations;
mod routes;
mod sessions;
mod targets;
mod tokens;
mod whoami;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use runtime::Published;
use tokio::sync::{mpsc, oneshot};

pub use appliance::{IssuerStatus, ReloadReport, Status};
pub use approvals::{Answered, ApprovalsWanted, Denial};
pub use archive::{HoldWanted, SealedNow};
pub(super) use caller::{
    Caller, CookieSession, CookieSessions, Door, Operator, Person, SessionOf, cookie, is_safe,
};
pub use clients::{ClientLine, ClientMade, ClientWanted};
pub use error::Refused;
pub(super) use error::{refused, too_many};
pub use health::{Health, PoolHealth};
pub use openapi::document;
pub use revocations::{RevocationKind, RevocationLine, RevocationWanted, SessionEnded};
pub(super) use routes::Access;
pub use routes::paths;
pub use targets::TargetShown;
pub use tokens::{TokenMade, TokenWanted};
pub use whoami::Whoami;

use self::error::unavailable;
use super::clients::TokenClients;
use super::console::Console;
use super::guard;
use super::issuer::Card;
use super::observe::Observer;
use super::rates::Rates;
use super::revocations::Revocations;
use crate::approvals::Broker;
use crate::archive::{Actor, ArchivistHandle, Holds, Trail, TrailError};
use crate::config::Snapshot;
use crate::identity::{KeyRefresh, MintError, MintedToken, RemoteKeys, TokenRequest};
use crate::recorder::{JournalHandle, RecordingSettings};
use crate::shard::mailbox::Directory;

/// How long a question about recordings waits for what was recorded just before.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// What a handler asks of the control plane.
pub(super) enum Asked {
    Token {
        wanted: TokenRequest,
        by: TokenAsker,
        reply: oneshot::Sender<Result<MintedToken, NoToken>>,
    },
    /// Whether tokens with this agent and these groups are made at all.
    MayMint {
        agent: String,
        groups: Vec<String>,
        reply: oneshot::Sender<Result<(), NoToken>>,
    },
    /// What the built-in issuer says of itself; nothing when it is switched off.
    Issuer {
        reply: oneshot::Sender<Option<Card>>,
    },
    Reload {
        by: Actor,
        reply: oneshot::Sender<Result<ReloadReport, Vec<String>>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
}

/// On whose word a token is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenAsker {
    Operator {
        uid: u32,
    },
    /// A client of the built-in issuer, which has proven itself.
    Client {
        id: String,
    },
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoToken {
    #[error("the built-in issuer is switched off (builtin_issuer.enabled)")]
    SwitchedOff,
    #[error(
        "the group `{group}` has a role in the appliance ([roles], or `approvers` of a rule); no \
         minted token carries it"
    )]
    GroupWithRole { group: String },
    #[error(transparent)]
    Refused(#[from] MintError),
    #[error("it cannot be recorded")]
    NotRecorded(#[from] TrailError),
}

pub(super) type Asking = mpsc::Sender<Asked>;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) asking: Asking,
    pub(super) snapshot: Published<Snapshot>,
    /// Of remote issuers.
    pub(super) keys: Published<RemoteKeys>,
    pub(super) key_refresh: KeyRefresh,
    pub(super) approvals: Broker,
    pub(super) recorder: JournalHandle,
    /// Whatever a person or the operator changes is written here first.
    pub(super) trail: Trail,
    /// Of the built-in issuer.
    pub(super) clients: Arc<TokenClients>,
    pub(super) holds: Holds,
    pub(super) archivist: ArchivistHandle,
    pub(super) recording: Arc<RecordingSettings>,
    pub(super) observer: Observer,
    pub(super) revocations: Arc<Revocations>,
    /// How shards are reached.
    pub(super) directory: Directory,
    /// Who is logged in at the console.
    pub(super) cookies: Arc<dyn CookieSessions>,
    pub(super) console: Arc<Console>,
    pub(super) rates: Arc<Rates>,
}

/// Serves the routes of the table, those pages, what is `open` to anybody, and nothing else.
/// Whoever accepts a connection puts its `Door` on each request.
pub(super) fn router(pages: Router<Shared>, open: Router<Shared>, shared: Shared) -> Router {
    let served = routes::table()
        .into_iter()
        .fold(Router::new(), |router, route| {
            let handler =
                (route.handler)().route_layer(middleware::from_fn(move |caller, request, next| {
                    caller::allow(route.access, caller, request, next)
                }));
            router.route(route.path, handler)
        });
    served
        .merge(pages)
        .fallback(routes::no_such_path)
        .method_not_allowed_fallback(routes::no_such_method)
        // Before any route, so that nobody else learns even which paths there are.
        .layer(middleware::from_fn_with_state(
            shared.clone(),
            caller::identify,
        ))
        .merge(open)
        .layer(middleware::from_fn_with_state(shared.clone(), guard::look))
        .layer(middleware::from_fn(guard::head))
        .with_state(shared)
}

impl Shared {
    /// Asks the control plane. The mailbox is bounded; a full one makes the asker wait its turn.
    pub(super) async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Asked,
    ) -> Result<T, axum::response::Response> {
        let gone = || unavailable("the appliance is stopping");
        let (reply, answer) = oneshot::channel();
        let sent = self.asking.send(question(reply)).await;
        sent.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Brings what was recorded just now within reach. Without it the answer is a little older.
    pub(super) fn flush(&self) {
        if let Err(error) = self.recorder.flush(FLUSH_DEADLINE) {
            tracing::warn!(%error, "recordings are shown as of the last commit");
        }
    }
}
