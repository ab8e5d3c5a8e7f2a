//! The admin API: its paths, its messages, and the handlers behind them.
//!
//! Handlers ask the control plane's task and wait for its answer; they own no state.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::body::BodyWriter;
use super::peer::Peer;
use super::recordings::{self, RecordingsError, ReplayForm, SessionsWanted};
use crate::identity::{MintError, MintedToken, TokenRequest};
use crate::recorder::replay::ReplayError;
use crate::recorder::{JournalHandle, RecordingSettings};
use crate::telemetry::chain;

/// Where things are.
pub mod paths {
    pub const TOKENS: &str = "/v1/tokens";
    pub const RELOAD: &str = "/v1/reload";
    pub const STATUS: &str = "/v1/status";
    pub const SESSIONS: &str = "/v1/sessions";
    /// Events of one session; `{id}` is its id or the beginning of it.
    pub const EVENTS: &str = "/v1/sessions/{id}/events";
}

/// Media types of a replay.
pub(super) const TEXT: &str = "text/plain";
pub(super) const NDJSON: &str = "application/x-ndjson";

/// How long a question about recordings waits for what was recorded just before.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// Largest request body, in bytes. A token request with all its groups stays below 8 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenWanted {
    pub agent: String,
    pub groups: Vec<String>,
    pub ttl_seconds: u64,
}

/// Its answer. No `Debug`: it holds a credential.
#[derive(Serialize, Deserialize)]
pub struct TokenMade {
    pub token: String,
    pub id: String,
    /// Seconds since 1970.
    pub expires: u64,
}

/// Answer of `POST /v1/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Of the configuration that is in force now.
    pub generation: u64,
    pub warnings: Vec<String>,
}

/// Answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// Seconds since 1970.
    pub started: u64,
    pub generation: u64,
    pub shards: usize,
    pub listeners: Vec<String>,
    pub state_directory: PathBuf,
    pub certificate_fingerprint: String,
    /// Told to stop, and waiting for connections to end.
    pub draining: bool,
}

/// Any answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub error: String,
    /// What is wrong, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// What a handler asks of the control plane.
pub(super) enum Asked {
    Token {
        wanted: TokenRequest,
        uid: u32,
        reply: oneshot::Sender<Result<MintedToken, NoToken>>,
    },
    Reload {
        reply: oneshot::Sender<Result<ReloadReport, Vec<String>>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoToken {
    #[error("the built-in issuer is switched off (builtin_issuer.enabled)")]
    SwitchedOff,
    #[error(transparent)]
    Refused(#[from] MintError),
}

pub(super) type Asking = mpsc::Sender<Asked>;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) asking: Asking,
    pub(super) recorder: JournalHandle,
    pub(super) recording: Arc<RecordingSettings>,
}

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route(paths::TOKENS, post(make_token))
        .route(paths::RELOAD, post(reload))
        .route(paths::STATUS, get(status))
        .route(paths::SESSIONS, get(list_sessions))
        .route(paths::EVENTS, get(session_events))
        .fallback(async || refused(StatusCode::NOT_FOUND, "no such path"))
        .method_not_allowed_fallback(async || {
            refused(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        // Outermost, so that nobody else learns even which paths there are.
        .layer(middleware::from_fn(operators_only))
        .with_state(shared)
}

async fn operators_only(
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if peer.is_operator() {
        return next.run(request).await;
    }
    tracing::warn!(
        uid = peer.uid(),
        "a user who is not the operator was refused at the admin socket"
    );
    refused(
        StatusCode::FORBIDDEN,
        "only root and the user that runs the appliance are answered",
    )
}

async fn make_token(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Json(wanted): Json<TokenWanted>,
) -> Response {
    let wanted = TokenRequest {
        agent: wanted.agent,
        groups: wanted.groups,
        lifetime: Duration::from_secs(wanted.ttl_seconds),
    };
    match ask(&shared.asking, |reply| Asked::Token {
        wanted,
        uid: peer.uid(),
        reply,
    })
    .await
    {
        Ok(Ok(made)) => {
            // A compact JWT is ASCII.
            let token = String::from_utf8_lossy(made.text.expose()).into_owned();
            Json(TokenMade {
                token,
                id: made.id,
                expires: made.expires,
            })
            .into_response()
        }
        Ok(Err(no_token)) => refused(StatusCode::UNPROCESSABLE_ENTITY, &chain(&no_token)),
        Err(gone) => gone,
    }
}

async fn reload(State(shared): State<Shared>) -> Response {
    match ask(&shared.asking, |reply| Asked::Reload { reply }).await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(problems)) => {
            let error = "the configuration was not taken; the one before stays in force".to_owned();
            let body = Json(Refused { error, problems });
            (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
        }
        Err(gone) => gone,
    }
}

async fn status(State(shared): State<Shared>) -> Response {
    match ask(&shared.asking, |reply| Asked::Status { reply }).await {
        Ok(status) => Json(status).into_response(),
        Err(gone) => gone,
    }
}

async fn list_sessions(
    State(shared): State<Shared>,
    Query(wanted): Query<SessionsWanted>,
) -> Response {
    let listing = move || {
        shared.flush();
        recordings::sessions(&shared.recording, &wanted)
    };
    match tokio::task::spawn_blocking(listing).await {
        Ok(Ok(sessions)) => Json(sessions).into_response(),
        Ok(Err(error)) => not_shown(&error),
        Err(panicked) => broken(&panicked),
    }
}

/// Streams a replay: text when the asker accepts `text/plain`, else one JSON object a line.
async fn session_events(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let text = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept == TEXT);
    let (form, kind) = if text {
        (ReplayForm::Text, TEXT)
    } else {
        (ReplayForm::Json, NDJSON)
    };
    let opening = move || {
        shared.flush();
        recordings::replay(&shared.recording, &id)
    };
    let mut replay = match tokio::task::spawn_blocking(opening).await {
        Ok(Ok(replay)) => replay,
        Ok(Err(error)) => return not_shown(&error),
        Err(panicked) => return broken(&panicked),
    };
    let (mut out, body) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let written = recordings::write(&mut replay, form, &mut out).and_then(|()| {
            out.flush()
                .map_err(|error| RecordingsError::Replay(ReplayError::Output(error)))
        });
        if let Err(error) = written {
            out.break_off(&error);
        }
    });
    ([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response()
}

impl Shared {
    /// Brings what was recorded just now within reach. Without it the answer is a little older.
    fn flush(&self) {
        if let Err(error) = self.recorder.flush(FLUSH_DEADLINE) {
            tracing::warn!(%error, "recordings are shown as of the last commit");
        }
    }
}

fn not_shown(error: &RecordingsError) -> Response {
    let status = match error {
        RecordingsError::NoSuchSession { .. }
        | RecordingsError::Replay(ReplayError::NoSuchSession { .. }) => StatusCode::NOT_FOUND,
        RecordingsError::Ambiguous { .. } | RecordingsError::NotAState => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        RecordingsError::Catalogue(_) | RecordingsError::Replay(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    refused(status, &chain(error))
}

fn broken(error: &tokio::task::JoinError) -> Response {
    tracing::error!(%error, "answering at the admin socket failed");
    refused(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the answer could not be made",
    )
}

/// Asks the control plane. The mailbox is bounded; a full one makes the asker wait its turn.
async fn ask<T>(
    asking: &Asking,
    question: impl FnOnce(oneshot::Sender<T>) -> Asked,
) -> Result<T, Response> {
    let gone = || refused(StatusCode::SERVICE_UNAVAILABLE, "the appliance is stopping");
    let (reply, answer) = oneshot::channel();
    asking.send(question(reply)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

fn refused(status: StatusCode, error: &str) -> Response {
    let body = Json(Refused {
        error: error.to_owned(),
        problems: Vec::new(),
    });
    (status, body).into_response()
}
