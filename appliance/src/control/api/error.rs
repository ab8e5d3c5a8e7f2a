//! Answers that are not a success.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::rates::TooMany;

/// Any answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// Why, for people.
    pub error: String,
    /// What is wrong, one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Refuses with one sentence.
pub(in crate::control) fn refused(status: StatusCode, error: &str) -> Response {
    refused_for(status, error, Vec::new())
}

/// Refuses for each of these reasons.
pub(in crate::control) fn refused_for(
    status: StatusCode,
    error: &str,
    problems: Vec<String>,
) -> Response {
    let body = Refused {
        error: error.to_owned(),
        problems,
    };
    (status, Json(body)).into_response()
}

/// 503: it may be different later.
pub(in crate::control) fn unavailable(error: &str) -> Response {
    refused(StatusCode::SERVICE_UNAVAILABLE, error)
}

/// 429: a bucket is empty.
pub(in crate::control) fn too_many(limit: TooMany) -> Response {
    let mut response = refused(StatusCode::TOO_MANY_REQUESTS, "too many requests");
    // Whole seconds, never too early.
    let seconds = limit.retry_after.as_millis().div_ceil(1000).max(1);
    let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

/// 401: nobody knows who asks.
pub(super) fn unproven(error: &str) -> Response {
    let mut response = refused(StatusCode::UNAUTHORIZED, error);
    let challenge = HeaderValue::from_static("Bearer realm=\"sallyport\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// 500: our fault. The log has the reason.
pub(super) fn broken(error: &tokio::task::JoinError) -> Response {
    tracing::error!(%error, "an answer of the admin API failed");
    refused(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the answer could not be made",
    )
}
