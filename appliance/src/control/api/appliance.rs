//! The appliance itself: what it is doing, and how it takes a new configuration.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::next_step::next_step_of;
use super::super::trail;
use super::caller::Caller;
use super::error::{broken, refused_for};
use super::{Asked, Shared, paths};

/// A configuration that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReloadReport {
    /// Of the configuration that is in force now.
    pub generation: u64,
    /// Mistakes that did not keep it from being taken.
    pub warnings: Vec<String>,
}

/// What the appliance is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// Seconds since 1970.
    pub started: u64,
    /// Of the configuration in force; grows with each reload.
    pub generation: u64,
    pub shards: usize,
    /// Where agents connect.
    pub listeners: Vec<String>,
    /// Where `listen.console` is, as a URL.
    pub console: Option<String>,
    /// Where `listen.metrics` is, as a URL.
    pub metrics: Option<String>,
    #[schema(value_type = String)]
    pub state_directory: PathBuf,
    /// SHA-256 of the certificate that clients see.
    pub certificate_fingerprint: String,
    /// Told to stop, and waiting for connections to end.
    pub draining: bool,
    /// Those whose keys are fetched.
    pub issuers: Vec<IssuerStatus>,
    /// What is left to do until agents can work, in words.
    pub next_step: Option<String>,
}

/// How an issuer does whose keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuerStatus {
    pub name: String,
    /// Whether its tokens are accepted: its keys are there and not too old.
    pub accepted: bool,
    /// Since the keys were fetched.
    pub keys_age_seconds: Option<u64>,
    /// Why they could not be fetched last time.
    pub trouble: Option<String>,
}

/// What the appliance is doing
#[utoipa::path(
    get,
    path = paths::STATUS,
    operation_id = "status",
    responses((status = 200, description = "Its state", body = Status))
)]
pub(super) async fn status(State(shared): State<Shared>) -> Response {
    let mut status = match shared.ask(|reply| Asked::Status { reply }).await {
        Ok(status) => status,
        Err(gone) => return gone,
    };
    let (snapshot, recording) = (shared.snapshot.load(), Arc::clone(&shared.recording));
    let step = tokio::task::spawn_blocking(move || next_step_of(&snapshot, &recording)).await;
    match step {
        Ok(step) => status.next_step = step.map(|step| step.to_string()),
        Err(panicked) => return broken(&panicked),
    }
    Json(status).into_response()
}

/// Read the configuration again
///
/// All files are read and compiled. With any mistake in them the configuration before stays in
/// force. No connection is dropped that the new one still admits.
#[utoipa::path(
    post,
    path = paths::RELOAD,
    operation_id = "reload",
    responses(
        (status = 200, description = "It is in force", body = ReloadReport),
        (status = 422, description = "It was not taken, for these problems", body = super::Refused),
    )
)]
pub(super) async fn reload(State(shared): State<Shared>, caller: Caller) -> Response {
    let by = trail::actor(&caller);
    match shared.ask(|reply| Asked::Reload { by, reply }).await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(problems)) => refused_for(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the configuration was not taken; the one before stays in force",
            problems,
        ),
        Err(gone) => gone,
    }
}
