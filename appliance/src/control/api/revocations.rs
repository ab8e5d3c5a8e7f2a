//! Revocations: made, listed, lifted; and sessions that are ended without one.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::recordings::{self, RecordingsError};
use super::super::revocations::{NotLifted, NotRevoked, RevocationsWanted};
use super::super::trail;
use super::caller::Caller;
use super::error::{broken, refused, unavailable};
use super::sessions::not_shown;
use super::{Shared, paths};
use crate::archive::{Action, Verb};
use crate::config::Snapshot;
use crate::identity::BUILTIN_ISSUER;
use crate::revocation::{Revocation, Revoked, TEXT_BYTES_MAX};
use crate::telemetry::chain;

/// How long the revocation of a session is kept, in seconds. It has done its work once it is
/// published, since no session is opened under an old id; a day later it need not be listed.
const SESSION_KEPT: u64 = 24 * 3600;

/// Revocations in one answer, unless fewer are asked for. Each is some 500 bytes long at most.
const LINES_MAX: usize = 1000;

/// What kind of thing a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationKind {
    /// One token, by its `jti`.
    Token,
    /// Whoever tokens name as their subject.
    Subject,
    /// The same, and wherever it stands in a delegation chain.
    Agent,
    /// One session.
    Session,
    /// A target with all its databases.
    Target,
}

/// What is to be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevocationWanted {
    pub kind: RevocationKind,
    /// Of a token, subject or agent: the operator's name for the issuer, or its `iss`. The
    /// built-in issuer, unless it is given.
    pub issuer: Option<String>,
    /// The token's `jti`, the subject, the session's id or its beginning, the target's name.
    pub name: String,
    /// For operators.
    pub reason: Option<String>,
    /// For whoever is cut off: the hint of the error that they get.
    pub message: Option<String>,
    /// Seconds since 1970 from which on it no longer holds. Until it is lifted, unless it is given.
    pub until: Option<u64>,
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevocationLine {
    pub id: i64,
    pub kind: RevocationKind,
    /// The `iss`, of a token, subject or agent.
    pub issuer: Option<String>,
    pub name: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    /// Who made it.
    pub by: String,
    /// Seconds since 1970.
    pub at: u64,
    /// Seconds since 1970; nothing: until it is lifted.
    pub until: Option<u64>,
    /// What may not be as it was meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A session that was told to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionEnded {
    pub id: String,
}

/// Why a wish cannot be met, in words for whoever has it.
#[derive(Debug, thiserror::Error)]
enum NotMeant {
    #[error("a {what} has 1 to {TEXT_BYTES_MAX} bytes, none of them a control character")]
    Text { what: &'static str },
    #[error("a {kind} takes an issuer, since the built-in one is switched off")]
    NoIssuer { kind: &'static str },
    #[error(
        "no issuer has the name {name:?}; give one of the configuration ({known}), or an `iss`, \
         which has a colon"
    )]
    UnknownIssuer { name: String, known: String },
    #[error("a {kind} has no issuer")]
    Issuer { kind: &'static str },
    #[error("no target has the name {name:?}")]
    UnknownTarget { name: String },
    #[error("the end lies in the past")]
    Past,
    #[error("the revocation of a session has no end")]
    SessionEnd,
}

/// Revocations in force, the latest first
#[utoipa::path(
    get,
    path = paths::REVOCATIONS,
    operation_id = "list_revocations",
    params(RevocationsWanted),
    responses(
        (status = 200, description = "Those that fit", body = [RevocationLine]),
        (status = 400, description = "A condition that there is not", body = super::Refused),
    )
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    Query(wanted): Query<RevocationsWanted>,
) -> Response {
    let set = shared.revocations.published().load();
    let now = runtime::unix_time().as_secs();
    let limit = wanted.limit.unwrap_or(LINES_MAX).min(LINES_MAX);
    let lines: Vec<RevocationLine> = set
        .iter()
        .rev()
        .filter(|revocation| wanted.before.is_none_or(|before| revocation.id < before))
        .filter(|revocation| revocation.holds(now))
        .take(limit)
        .map(|revocation| line(revocation))
        .collect();
    Json(lines).into_response()
}

/// Revoke a token, a subject, an agent, a session or a target
///
/// It is on the disk when this is answered, and live sessions that it is about have been told to
/// end.
#[utoipa::path(
    post,
    path = paths::REVOCATIONS,
    operation_id = "revoke",
    request_body = RevocationWanted,
    responses(
        (status = 200, description = "It holds", body = RevocationLine),
        (status = 404, description = "No session has this id", body = super::Refused),
        (status = 409, description = "Too many are in force", body = super::Refused),
        (status = 422, description = "It names nothing that can be revoked", body = super::Refused),
        (status = 503, description = "It could not be written to the disk, and does not hold",
            body = super::Refused),
    )
)]
pub(in crate::control) async fn revoke(
    State(shared): State<Shared>,
    caller: Caller,
    Json(wanted): Json<RevocationWanted>,
) -> Response {
    let (by, actor) = (caller.named(), trail::actor(&caller));
    let revoking = move || {
        let wanted = match wanted.kind {
            RevocationKind::Session => match shared.session_named(&wanted.name) {
                Ok(id) => RevocationWanted { name: id, ..wanted },
                Err(error) => return not_shown(&error),
            },
            RevocationKind::Token
            | RevocationKind::Subject
            | RevocationKind::Agent
            | RevocationKind::Target => wanted,
        };
        let now = runtime::unix_time().as_secs();
        let (revocation, warnings) = match meant(wanted, by, now, &shared.snapshot.load()) {
            Ok(meant) => meant,
            Err(error) => return refused(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        };
        let mut action = Action::new(actor, Verb::Revoked, object(&revocation.revoked));
        if let Some(issuer) = revocation.revoked.issuer() {
            action = action.with("issuer", issuer);
        }
        if let Some(reason) = &revocation.reason {
            action = action.with("reason", reason);
        }
        if let Err(refusal) = write_down(&shared, &action) {
            return *refusal;
        }
        match shared.revocations.revoke(revocation) {
            Ok(revocation) => {
                tracing::warn!(
                    revocation = revocation.id,
                    kind = revocation.revoked.kind(),
                    issuer = revocation.revoked.issuer(),
                    name = revocation.revoked.name(),
                    reason = revocation.reason,
                    until = revocation.until,
                    by = revocation.by,
                    "revoked"
                );
                let line = RevocationLine {
                    warnings,
                    ..line(&revocation)
                };
                Json(line).into_response()
            }
            Err(error @ NotRevoked::TooMany) => refused(StatusCode::CONFLICT, &error.to_string()),
            Err(NotRevoked::Store(error)) => {
                let error = chain(&error);
                tracing::error!(error, "a revocation could not be kept, and does not hold");
                unavailable("it could not be written to the disk, and does not hold")
            }
        }
    };
    match tokio::task::spawn_blocking(revoking).await {
        Ok(response) => response,
        Err(panicked) => broken(&panicked),
    }
}

/// Lift a revocation
#[utoipa::path(
    delete,
    path = paths::REVOCATION,
    operation_id = "lift_revocation",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "What no longer holds", body = RevocationLine),
        (status = 404, description = "No revocation has this number", body = super::Refused),
        (status = 409, description = "It is that of a session", body = super::Refused),
        (status = 503, description = "That could not be written to the disk: it still holds",
            body = super::Refused),
    )
)]
pub(in crate::control) async fn lift(
    State(shared): State<Shared>,
    caller: Caller,
    Path(id): Path<i64>,
) -> Response {
    let (by, actor) = (caller.named(), trail::actor(&caller));
    let lifting = move || {
        let known = shared.revocations.published().load();
        let Some(revocation) = known.get(id) else {
            return refused(StatusCode::NOT_FOUND, &NotLifted::NoSuch { id }.to_string());
        };
        let action = Action::new(actor, Verb::RevocationLifted, object(&revocation.revoked))
            .with("revocation", id.to_string());
        if let Err(refusal) = write_down(&shared, &action) {
            return *refusal;
        }
        lift_now(&shared, id, &by)
    };
    match tokio::task::spawn_blocking(lifting).await {
        Ok(response) => response,
        Err(panicked) => broken(&panicked),
    }
}

fn lift_now(shared: &Shared, id: i64, by: &str) -> Response {
    match shared.revocations.lift(id) {
        Ok(revocation) => {
            tracing::warn!(
                revocation = revocation.id,
                kind = revocation.revoked.kind(),
                issuer = revocation.revoked.issuer(),
                name = revocation.revoked.name(),
                by,
                "a revocation was lifted"
            );
            Json(line(&revocation)).into_response()
        }
        Err(error @ NotLifted::NoSuch { .. }) => refused(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error @ NotLifted::OfSession) => refused(StatusCode::CONFLICT, &error.to_string()),
        Err(NotLifted::Store(error)) => {
            let error = chain(&error);
            tracing::error!(error, "a revocation could not be lifted, and still holds");
            unavailable("it could not be written to the disk; the revocation still holds")
        }
    }
}

/// End a live session
///
/// Without revoking anything: its agent may log in again.
#[utoipa::path(
    delete,
    path = paths::SESSION,
    operation_id = "end_session",
    params(("id" = String, Path, description = "Its id, or the beginning of it")),
    responses(
        (status = 200, description = "It was told to end", body = SessionEnded),
        (status = 404, description = "No live session has this id", body = super::Refused),
        (status = 422, description = "Several sessions begin with it", body = super::Refused),
        (status = 503, description = "A shard could not be told", body = super::Refused),
    )
)]
pub(in crate::control) async fn end_session(
    State(shared): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Response {
    let finding = {
        let shared = shared.clone();
        move || shared.session_named(&id)
    };
    let id = match tokio::task::spawn_blocking(finding).await {
        Ok(Ok(id)) => id,
        Ok(Err(error)) => return not_shown(&error),
        Err(panicked) => return broken(&panicked),
    };
    let no_such = || refused(StatusCode::NOT_FOUND, "no live session has this id");
    let Ok(session) = id.parse() else {
        return no_such();
    };
    let action = Action::new(trail::actor(&caller), Verb::SessionKilled, id.clone());
    if let Err(error) = trail::record(&shared.trail, action).await {
        return not_written(&chain(&error));
    }
    let answers = match shared.directory.kill(session) {
        Ok(answers) => answers,
        Err(error) => return unavailable(&error.to_string()),
    };
    for answer in answers {
        if answer.await == Some(true) {
            tracing::warn!(session = id, by = caller.named(), "a session was ended");
            return Json(SessionEnded { id }).into_response();
        }
    }
    no_such()
}

impl Shared {
    /// The whole id of the session that `name` is the id of, or the beginning of it. Blocking.
    fn session_named(&self, name: &str) -> Result<String, RecordingsError> {
        if let Ok(id) = name.parse::<crate::recorder::SessionId>() {
            return Ok(id.to_string());
        }
        self.flush();
        recordings::session_id(&self.recording, name).map(|id| id.to_string())
    }
}

/// What was revoked, as the trail names it.
fn object(revoked: &Revoked) -> String {
    format!("{}:{}", revoked.kind(), revoked.name())
}

/// Writes an action to the trail before it takes effect. Blocking.
fn write_down(shared: &Shared, action: &Action) -> Result<(), Box<Response>> {
    let written = shared.trail.record(action);
    written.map_err(|error| Box::new(not_written(&chain(&error))))
}

fn not_written(error: &str) -> Response {
    tracing::error!(error, "the trail takes nothing; nothing was done");
    unavailable("it could not be written to the trail, and was not done")
}

/// The revocation that was meant, and what to warn of.
fn meant(
    wanted: RevocationWanted,
    by: String,
    now: u64,
    snapshot: &Snapshot,
) -> Result<(Revocation, Vec<String>), NotMeant> {
    let mut warnings = Vec::new();
    let name = sound("name", wanted.name)?;
    let issuer = wanted.issuer;
    let mut issuer_of = |kind| issuer_named(kind, issuer.clone(), snapshot, &mut warnings);
    let revoked = match wanted.kind {
        RevocationKind::Token => Revoked::Token {
            issuer: issuer_of("token")?,
            id: name,
        },
        RevocationKind::Subject => Revoked::Subject {
            issuer: issuer_of("subject")?,
            subject: name,
        },
        RevocationKind::Agent => Revoked::Agent {
            issuer: issuer_of("agent")?,
            subject: name,
        },
        RevocationKind::Session => Revoked::Session { id: name },
        RevocationKind::Target => {
            if !snapshot.targets.iter().any(|target| target.name == name) {
                return Err(NotMeant::UnknownTarget { name });
            }
            Revoked::Target { name }
        }
    };
    if revoked.issuer().is_none() && issuer.is_some() {
        let kind = revoked.kind();
        return Err(NotMeant::Issuer { kind });
    }
    let until = match (&revoked, wanted.until) {
        (Revoked::Session { .. }, Some(_)) => return Err(NotMeant::SessionEnd),
        (Revoked::Session { .. }, None) => Some(now.saturating_add(SESSION_KEPT)),
        (_, Some(until)) if until <= now => return Err(NotMeant::Past),
        (_, until) => until,
    };
    let revocation = Revocation {
        id: 0,
        revoked,
        reason: wanted
            .reason
            .map(|text| sound("reason", text))
            .transpose()?,
        message: wanted
            .message
            .map(|text| sound("message", text))
            .transpose()?,
        by,
        at: now,
        until,
    };
    Ok((revocation, warnings))
}

/// The `iss` of the issuer that is meant.
fn issuer_named(
    kind: &'static str,
    named: Option<String>,
    snapshot: &Snapshot,
    warnings: &mut Vec<String>,
) -> Result<String, NotMeant> {
    let issuers = snapshot.authenticators.issuers();
    let Some(named) = named else {
        let builtin = issuers.iter().find(|issuer| issuer.name == BUILTIN_ISSUER);
        return builtin
            .map(|issuer| issuer.issuer.clone())
            .ok_or(NotMeant::NoIssuer { kind });
    };
    let named = sound("issuer", named)?;
    let known = issuers
        .iter()
        .find(|issuer| issuer.name == named || issuer.issuer == named);
    if let Some(known) = known {
        return Ok(known.issuer.clone());
    }
    // Actors of a chain may come from issuers that nobody configured. Each `iss` is a URI; what is
    // none is a slip, and would revoke nothing.
    if !named.contains(':') {
        let known: Vec<&str> = issuers.iter().map(|issuer| issuer.name.as_str()).collect();
        return Err(NotMeant::UnknownIssuer {
            name: named,
            known: known.join(", "),
        });
    }
    warnings.push(format!("no issuer of the configuration is {named:?}"));
    Ok(named)
}

fn sound(what: &'static str, text: String) -> Result<String, NotMeant> {
    let is_sound = (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    if is_sound {
        Ok(text)
    } else {
        Err(NotMeant::Text { what })
    }
}

fn line(revocation: &Revocation) -> RevocationLine {
    RevocationLine {
        id: revocation.id,
        kind: match &revocation.revoked {
            Revoked::Token { .. } => RevocationKind::Token,
            Revoked::Subject { .. } => RevocationKind::Subject,
            Revoked::Agent { .. } => RevocationKind::Agent,
            Revoked::Session { .. } => RevocationKind::Session,
            Revoked::Target { .. } => RevocationKind::Target,
        },
        issuer: revocation.revoked.issuer().map(str::to_owned),
        name: revocation.revoked.name().to_owned(),
        reason: revocation.reason.clone(),
        message: revocation.message.clone(),
        by: revocation.by.clone(),
        at: revocation.at,
        until: revocation.until,
        warnings: Vec::new(),
    }
}
