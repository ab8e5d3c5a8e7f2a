//! What is cut off: seen, made and lifted.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Form, Json};
use serde::Deserialize;

use super::date;
use crate::control::api::revocations::{self as cuts, RevocationKind, RevocationWanted};
use crate::control::api::{Caller, Shared};
use crate::control::console::frame::{Frame, Section, page};
use crate::control::console::looker::{Done, Looker, outcome};
use crate::control::console::marked::Marked;
use crate::revocation::Revocation;

/// Revocations on the page, the latest first. The command line lists all.
const LINES_MAX: usize = 500;

/// As a form says it, and as people do.
const KINDS: [(&str, &str); 5] = [
    ("agent", "Agent (also for others)"),
    ("subject", "Subject"),
    ("token", "Token (jti)"),
    ("session", "Session"),
    ("target", "Target"),
];

#[derive(Template)]
#[template(path = "console/revocations.html")]
struct RevocationsPage {
    frame: Frame,
    lines: Vec<Line>,
}

struct Line {
    id: i64,
    since: String,
    kind: &'static str,
    what: Marked,
    reason: Marked,
    by: Marked,
    /// The revocation of a session stays.
    may_lift: bool,
}

impl Line {
    fn of(revocation: &Revocation) -> Self {
        let revoked = &revocation.revoked;
        let what = match revoked.issuer() {
            Some(issuer) => format!("{} of {issuer}", revoked.name()),
            None => revoked.name().to_owned(),
        };
        Self {
            id: revocation.id,
            since: date(revocation.at.saturating_mul(1_000_000)),
            kind: revoked.kind(),
            what: Marked::of(&what),
            reason: Marked::of(revocation.reason.as_deref().unwrap_or_default()),
            by: Marked::of(&revocation.by),
            may_lift: revoked.kind() != "session",
        }
    }
}

/// `GET /revocations`.
pub(in crate::control::console) async fn revocations(
    State(shared): State<Shared>,
    looker: Looker,
) -> Response {
    let now = runtime::unix_time().as_secs();
    let set = shared.revocations.published().load();
    let latest = set.iter().rev().filter(|revocation| revocation.holds(now));
    let revocations = RevocationsPage {
        lines: latest.take(LINES_MAX).map(|it| Line::of(it)).collect(),
        frame: looker.frame(&shared, Section::Revocations).await,
    };
    page(StatusCode::OK, &revocations)
}

/// The form of a revocation.
#[derive(Deserialize)]
pub(in crate::control::console) struct Wanted {
    kind: RevocationKind,
    name: String,
    issuer: String,
    reason: String,
}

/// `POST /revocations`.
pub(in crate::control::console) async fn revoke(
    State(shared): State<Shared>,
    looker: Looker,
    caller: Caller,
    Form(wanted): Form<Wanted>,
) -> Response {
    let given = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let wanted = RevocationWanted {
        kind: wanted.kind,
        issuer: given(wanted.issuer),
        name: wanted.name.trim().to_owned(),
        reason: given(wanted.reason),
        message: None,
        until: None,
    };
    let answer = cuts::revoke(State(shared), caller, Json(wanted)).await;
    outcome(&looker, answer, "/revocations", Done::Revoked).await
}

/// `POST /revocations/{id}/lift`.
pub(in crate::control::console) async fn lift(
    State(shared): State<Shared>,
    looker: Looker,
    caller: Caller,
    Path(id): Path<i64>,
) -> Response {
    let answer = cuts::lift(State(shared), caller, Path(id)).await;
    outcome(&looker, answer, "/revocations", Done::Lifted).await
}

/// `POST /sessions/{id}/kill`.
pub(in crate::control::console) async fn kill(
    State(shared): State<Shared>,
    looker: Looker,
    caller: Caller,
    Path(id): Path<String>,
) -> Response {
    let answer = cuts::end_session(State(shared), caller, Path(id)).await;
    outcome(&looker, answer, "/sessions", Done::Killed).await
}
