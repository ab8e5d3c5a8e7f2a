//! The admin API: its paths, its messages, and the handlers behind them.
//!
//! Handlers ask the control plane's task and wait for its answer; they own no state.

use std::path::PathBuf;

use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::peer::Peer;
use crate::identity::{MintError, MintedToken, TokenRequest};

/// Where things are.
pub mod paths {
    pub const TOKENS: &str = "/v1/tokens";
    pub const RELOAD: &str = "/v1/reload";
    pub const STATUS: &str = "/v1/status";
    pub const SESSIONS: &str = "/v1/sessions";
}

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

type Asking = mpsc::Sender<Asked>;

pub(super) fn router(asking: Asking) -> Router {
    Router::new()
        .route(paths::TOKENS, post(make_token))
        .route(paths::RELOAD, post(reload))
        .route(paths::STATUS, get(status))
        .fallback(async || refused(StatusCode::NOT_FOUND, "no such path"))
        .method_not_allowed_fallback(async || {
            refused(StatusCode::METHOD_NOT_ALLOWED, "no such method here")
        })
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        // Outermost, so that nobody else learns even which paths there are.
        .layer(middleware::from_fn(operators_only))
        .with_state(asking)
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
    State(asking): State<Asking>,
    Extension(peer): Extension<Peer>,
    Json(wanted): Json<TokenWanted>,
) -> Response {
    let wanted = TokenRequest {
        agent: wanted.agent,
        groups: wanted.groups,
        lifetime: std::time::Duration::from_secs(wanted.ttl_seconds),
    };
    match ask(&asking, |reply| Asked::Token {
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
        Ok(Err(no_token)) => refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            &crate::telemetry::chain(&no_token),
        ),
        Err(gone) => gone,
    }
}

async fn reload(State(asking): State<Asking>) -> Response {
    match ask(&asking, |reply| Asked::Reload { reply }).await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(problems)) => {
            let error = "the configuration was not taken; the one before stays in force".to_owned();
            let body = Json(Refused { error, problems });
            (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
        }
        Err(gone) => gone,
    }
}

async fn status(State(asking): State<Asking>) -> Response {
    match ask(&asking, |reply| Asked::Status { reply }).await {
        Ok(status) => Json(status).into_response(),
        Err(gone) => gone,
    }
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
