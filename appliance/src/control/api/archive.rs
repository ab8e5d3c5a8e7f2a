//! The archive: sealing on demand, legal holds, and the trail.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::trail;
use super::caller::Caller;
use super::error::{broken, refused, unavailable};
use super::{Shared, paths};
use crate::archive::{Action, Head, Held, Hold, HoldError, Verb, newest_head};
use crate::telemetry::chain;

/// How long sealing may take before the asker is told to ask again.
const SEAL_DEADLINE: Duration = Duration::from_secs(30);

/// What shall be held, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldWanted {
    /// `{"session": ID}` or `{"agent": SUBJECT_OR_NAME}`.
    #[schema(value_type = Object)]
    pub held: Held,
    /// For whoever looks later.
    pub reason: String,
}

/// The archive is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealedNow {
    /// The newest head; nothing was ever recorded where there is none.
    #[schema(value_type = Option<Object>)]
    pub head: Option<Head>,
}

/// Seal what was recorded until now
///
/// Waits until all of it is in the archive, and answers with the head that says so.
#[utoipa::path(
    post,
    path = paths::ARCHIVE_SEAL,
    operation_id = "seal_archive",
    responses(
        (status = 200, description = "It is sealed", body = SealedNow),
        (status = 503, description = "It cannot be, or not in time", body = super::Refused),
    )
)]
pub(super) async fn seal(State(shared): State<Shared>) -> Response {
    let sealing = move || {
        shared.flush();
        if !shared.archivist.seal(SEAL_DEADLINE) {
            return Err("the archive cannot be sealed now; the log says why");
        }
        newest_head(&shared.recording.archive_directory)
            .map_err(|_| "the archive's heads cannot be read")
    };
    match tokio::task::spawn_blocking(sealing).await {
        Ok(Ok(head)) => Json(SealedNow { head }).into_response(),
        Ok(Err(why)) => unavailable(why),
        Err(panicked) => broken(&panicked),
    }
}

/// What is held from retention
#[utoipa::path(
    get,
    path = paths::ARCHIVE_HOLDS,
    operation_id = "list_holds",
    responses((status = 200, description = "The holds in force", body = Vec<Object>))
)]
pub(super) async fn holds(State(shared): State<Shared>) -> Response {
    Json(shared.holds.list()).into_response()
}

/// Hold a session, or all of an agent
///
/// Retention leaves it alone until it is released.
#[utoipa::path(
    post,
    path = paths::ARCHIVE_HOLDS,
    operation_id = "hold",
    request_body = HoldWanted,
    responses(
        (status = 200, description = "The holds in force", body = Vec<Object>),
        (status = 422, description = "Not something that can be held", body = super::Refused),
    )
)]
pub(super) async fn hold(
    State(shared): State<Shared>,
    caller: Caller,
    Json(wanted): Json<HoldWanted>,
) -> Response {
    if let Err(error) = shared.holds.may_place(&wanted.held) {
        return refused(StatusCode::UNPROCESSABLE_ENTITY, &chain(&error));
    }
    let by = trail::actor(&caller);
    let action = Action::new(by.clone(), Verb::HoldPlaced, wanted.held.to_string())
        .with("reason", &wanted.reason);
    let hold = Hold {
        held: wanted.held,
        reason: wanted.reason.chars().take(REASON_CHARS_MAX).collect(),
        by,
        at: crate::recorder::format::unix_micros(runtime::unix_time()),
    };
    change(shared, action, move |shared| shared.holds.place(hold)).await
}

/// Longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 1024;

/// Release what was held
#[utoipa::path(
    post,
    path = paths::ARCHIVE_RELEASE,
    operation_id = "release",
    request_body(description = "What is held, as it was given", content = Object),
    responses(
        (status = 200, description = "The holds in force", body = Vec<Object>),
        (status = 422, description = "It is not held", body = super::Refused),
    )
)]
pub(super) async fn release(
    State(shared): State<Shared>,
    caller: Caller,
    Json(held): Json<Held>,
) -> Response {
    if let Err(error) = shared.holds.may_release(&held) {
        return refused(StatusCode::UNPROCESSABLE_ENTITY, &chain(&error));
    }
    let action = Action::new(trail::actor(&caller), Verb::HoldReleased, held.to_string());
    change(shared, action, move |shared| shared.holds.release(&held)).await
}

/// Writes the trail, then changes the holds.
async fn change(
    shared: Shared,
    action: Action,
    change: impl FnOnce(&Shared) -> Result<(), HoldError> + Send + 'static,
) -> Response {
    if let Err(error) = trail::record(&shared.trail, action).await {
        return unavailable(&chain(&error));
    }
    let changing = move || {
        change(&shared)?;
        Ok::<_, HoldError>(shared.holds.list())
    };
    match tokio::task::spawn_blocking(changing).await {
        Ok(Ok(holds)) => Json(holds).into_response(),
        Ok(Err(error @ HoldError::File { .. })) => unavailable(&chain(&error)),
        Ok(Err(error)) => refused(StatusCode::UNPROCESSABLE_ENTITY, &chain(&error)),
        Err(panicked) => broken(&panicked),
    }
}
