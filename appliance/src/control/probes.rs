//! `listen.metrics`: for what scrapes metrics and for load balancers, without a login.

use std::fmt::Write;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::observe::{Observer, not_ready};
use crate::telemetry::metrics;

/// Three paths, and nothing that takes a body.
pub(super) fn router(observer: Observer) -> Router {
    Router::new()
        .route("/metrics", get(expose))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(observer)
}

async fn expose(State(observer): State<Observer>) -> Response {
    let text = metrics::expose(observer.observe().await);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// 503 with a line for each reason, where new sessions are not taken.
async fn ready(State(observer): State<Observer>) -> Response {
    let problems = not_ready(&observer.observe().await);
    if problems.is_empty() {
        return "ready\n".into_response();
    }
    let mut lines = String::new();
    for problem in problems {
        // Writing to a String does not fail.
        let _ = writeln!(lines, "{problem}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}
