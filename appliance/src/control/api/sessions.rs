//! Recorded sessions, and what happened in one.

use std::io::Write;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::body::BodyWriter;
use super::super::recordings::{
    self, RecordingsError, RefusedLoginLine, RefusedLoginsWanted, SessionLine, SessionsWanted,
    form_of, media_type,
};
use super::error::{broken, refused};
use super::{Shared, paths};
use crate::recorder::replay::ReplayError;
use crate::telemetry::chain;

/// Recorded sessions, the latest first
#[utoipa::path(
    get,
    path = paths::SESSIONS,
    operation_id = "list_sessions",
    params(SessionsWanted),
    responses(
        (status = 200, description = "Those that fit", body = [SessionLine]),
        (status = 400, description = "A condition that there is not", body = super::Refused),
        (status = 422, description = "A condition that means nothing", body = super::Refused),
    )
)]
pub(super) async fn list(
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

/// Refused logins, the latest first
#[utoipa::path(
    get,
    path = paths::REFUSED_LOGINS,
    operation_id = "list_refused_logins",
    params(RefusedLoginsWanted),
    responses(
        (status = 200, description = "Those that fit", body = [RefusedLoginLine]),
        (status = 400, description = "A condition that there is not", body = super::Refused),
        (status = 422, description = "A condition that means nothing", body = super::Refused),
    )
)]
pub(super) async fn refused_logins(
    State(shared): State<Shared>,
    Query(wanted): Query<RefusedLoginsWanted>,
) -> Response {
    let listing = move || {
        shared.flush();
        recordings::refused_logins(&shared.recording, &wanted)
    };
    match tokio::task::spawn_blocking(listing).await {
        Ok(Ok(refused)) => Json(refused).into_response(),
        Ok(Err(error)) => not_shown(&error),
        Err(panicked) => broken(&panicked),
    }
}

/// What happened in one session
///
/// Streamed: text when the caller accepts `text/plain`, statements and tables with
/// `application/sql`, events of OCSF with `application/x-ndjson;schema=ocsf`, else one JSON object a
/// line.
#[utoipa::path(
    get,
    path = paths::EVENTS,
    operation_id = "session_events",
    params(("id" = String, Path, description = "Its id, or the beginning of it")),
    responses(
        (status = 200, description = "Its events", content(
            (String = "application/x-ndjson"),
            (String = "text/plain"),
            (String = "application/sql"),
            (String = "application/x-ndjson;schema=ocsf"),
        )),
        (status = 404, description = "No session has this id", body = super::Refused),
        (status = 422, description = "Several sessions begin with it", body = super::Refused),
    )
)]
pub(super) async fn events(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let form = form_of(headers.get(header::ACCEPT).map(|it| it.as_bytes()));
    let kind = media_type(form);
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

pub(super) fn not_shown(error: &RecordingsError) -> Response {
    let status = match error {
        RecordingsError::NoSuchSession { .. }
        | RecordingsError::Replay(ReplayError::NoSuchSession { .. }) => StatusCode::NOT_FOUND,
        RecordingsError::Ambiguous { .. }
        | RecordingsError::NotAState
        | RecordingsError::NotATime
        | RecordingsError::NotAClass { .. }
        | RecordingsError::NotATable(_)
        | RecordingsError::NotAnEnd => StatusCode::UNPROCESSABLE_ENTITY,
        RecordingsError::Catalogue(_) | RecordingsError::Replay(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    refused(status, &chain(error))
}
