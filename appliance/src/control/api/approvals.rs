//! Requests for approval: what is open and what was, and a person's answer.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio_stream::wrappers::BroadcastStream;
use utoipa::ToSchema;

use super::super::roles::Role;
use super::caller::{Caller, Person};
use super::error::{refused, unavailable};
use super::{Shared, paths};
use crate::approvals::{
    Answer, AnswerError, Audience, Filter, LookError, News, NotCounted, Progress, RequestId, Shown,
};
use crate::telemetry::chain;

/// Longest reason, in characters: it is one line at an agent's client.
const REASON_CHARS_MAX: usize = 500;

/// Between two signs of life in a stream.
const STREAM_ALIVE: Duration = Duration::from_secs(5);

/// Which requests to list. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ApprovalsWanted {
    /// Only those that are open (`true`), or only those that are over (`false`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// A state, as in an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Subject or name of whoever asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Only requests older than this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// 100 when it is not given, and at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Why a request is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// One line for whoever asked, up to 500 characters.
    pub reason: String,
}

/// What an answer came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Answered {
    pub id: String,
    /// `pending` while approvals are missing, `approved` or `denied`.
    pub state: String,
    /// How many more people it takes, if nobody counts for two rules.
    pub missing: u32,
}

/// List requests for approval
///
/// The latest first. Whoever has the role approver sees texts and values as they will run, but for
/// passwords; everybody else sees them without what value detection found.
#[utoipa::path(
    get,
    path = paths::APPROVALS,
    operation_id = "list_approvals",
    params(ApprovalsWanted),
    responses((status = 200, description = "The requests", body = Vec<Shown>))
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Query(wanted): Query<ApprovalsWanted>,
) -> Response {
    let filter = Filter {
        is_open: wanted.open,
        state: wanted.state,
        requester: wanted.requester,
        target: wanted.target,
        before: wanted.before,
        limit: wanted.limit,
    };
    match shared.approvals.list(filter, audience(&caller)).await {
        Ok(listed) => Json(listed).into_response(),
        Err(error) => not_looked(&error),
    }
}

/// Show a request for approval
#[utoipa::path(
    get,
    path = paths::APPROVAL,
    operation_id = "show_approval",
    params(("id" = String, Path, description = "Its id, or the beginning of it while it is open")),
    responses(
        (status = 200, description = "The request", body = Shown),
        (status = 404, description = "There is none", body = super::Refused),
    )
)]
pub(super) async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Response {
    match shared.approvals.find(&id, audience(&caller)).await {
        Ok(Some(shown)) => Json(shown).into_response(),
        Ok(None) => no_such_request(),
        Err(error) => not_looked(&error),
    }
}

/// Approve a request
///
/// Takes a person in a group that a rule names, who is neither the requester nor in its delegation
/// chain. What waits runs as soon as every rule has the approvals that it takes.
#[utoipa::path(
    post,
    path = paths::APPROVE,
    operation_id = "approve",
    params(("id" = String, Path, description = "Its whole id")),
    responses(
        (status = 200, description = "The approval counts", body = Answered),
        (status = 404, description = "There is no such id", body = super::Refused),
        (status = 409, description = "It is over, or has this approval already", body = super::Refused),
    )
)]
pub(in crate::control) async fn approve(
    State(shared): State<Shared>,
    person: Person,
    Path(id): Path<String>,
) -> Response {
    answer(&shared, &person, &id, Answer::Approve).await
}

/// Deny a request
///
/// Takes the same people as approving it. One denial ends it, whoever has approved.
#[utoipa::path(
    post,
    path = paths::DENY,
    operation_id = "deny",
    params(("id" = String, Path, description = "Its whole id")),
    request_body = Denial,
    responses(
        (status = 200, description = "It is over", body = Answered),
        (status = 404, description = "There is no such id", body = super::Refused),
        (status = 409, description = "It is over already", body = super::Refused),
        (status = 422, description = "Not a reason", body = super::Refused),
    )
)]
pub(in crate::control) async fn deny(
    State(shared): State<Shared>,
    person: Person,
    Path(id): Path<String>,
    Json(denial): Json<Denial>,
) -> Response {
    let reason = denial.reason.trim().to_owned();
    let is_line = !reason.is_empty() && !reason.chars().any(char::is_control);
    if !is_line || reason.chars().count() > REASON_CHARS_MAX {
        let error = "a reason is one line of up to 500 characters";
        return refused(StatusCode::UNPROCESSABLE_ENTITY, error);
    }
    answer(&shared, &person, &id, Answer::Deny { reason }).await
}

/// Follow requests for approval
///
/// Server-sent events: `asked`, `changed` and `over`, each with the request as others than the
/// approver see it; `missed` with a number when the reader was too slow for so many.
#[utoipa::path(
    get,
    path = paths::APPROVAL_EVENTS,
    operation_id = "follow_approvals",
    responses((status = 200, description = "Events, as they happen", content_type = "text/event-stream"))
)]
pub(super) async fn follow(State(shared): State<Shared>) -> Response {
    let keep_alive = KeepAlive::new().interval(STREAM_ALIVE);
    Sse::new(events(shared.approvals.follow()))
        .keep_alive(keep_alive)
        .into_response()
}

fn events(
    news: tokio::sync::broadcast::Receiver<News>,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    BroadcastStream::new(news).map(|news| {
        let event = sse::Event::default();
        Ok(match news {
            Ok(News { kind, shown, .. }) => {
                let named = sse::Event::default().event(kind.name());
                // Nothing in it has no form in JSON.
                named.json_data(&*shown).unwrap_or(event)
            }
            Err(tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged(count)) => {
                event.event("missed").data(count.to_string())
            }
        })
    })
}

async fn answer(shared: &Shared, person: &Person, id: &str, answer: Answer) -> Response {
    let Ok(id) = id.parse::<RequestId>() else {
        return no_such_request();
    };
    let voter = person.principal().clone();
    match shared.approvals.answer(id, voter, answer).await {
        Ok(progress) => Json(Answered::of(id, progress)).into_response(),
        Err(AnswerError::NotCounted(NotCounted::NotOpen)) => not_open(shared, id).await,
        Err(error) => refused(status(&error), &chain(&error)),
    }
}

/// Says whether it is over, or never was.
async fn not_open(shared: &Shared, id: RequestId) -> Response {
    let name = id.to_string();
    match shared.approvals.find(&name, Audience::Others).await {
        Ok(Some(shown)) => {
            let error = format!("the request is over: {}", shown.state);
            refused(StatusCode::CONFLICT, &error)
        }
        Ok(None) => no_such_request(),
        Err(error) => not_looked(&error),
    }
}

fn status(error: &AnswerError) -> StatusCode {
    match error {
        AnswerError::NotCounted(not_counted) => match not_counted {
            NotCounted::NotOpen | NotCounted::Repeated | NotCounted::Approved => {
                StatusCode::CONFLICT
            }
            NotCounted::OwnRequest
            | NotCounted::Minted
            | NotCounted::Delegated
            | NotCounted::NotAnApprover { .. } => StatusCode::FORBIDDEN,
        },
        AnswerError::NotKept(_) | AnswerError::NotInTrail(_) | AnswerError::Unavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

impl Answered {
    fn of(id: RequestId, progress: Progress) -> Self {
        let (state, missing) = match progress {
            Progress::Missing(missing) => ("pending", missing),
            Progress::Approved => ("approved", 0),
            Progress::Denied => ("denied", 0),
        };
        Self {
            id: id.to_string(),
            state: state.to_owned(),
            missing,
        }
    }
}

fn audience(caller: &Caller) -> Audience {
    let person = caller.person();
    if person.is_some_and(|person| person.roles().holds(Role::Approver)) {
        Audience::Approver
    } else {
        Audience::Others
    }
}

fn no_such_request() -> Response {
    refused(StatusCode::NOT_FOUND, "there is no such request")
}

fn not_looked(error: &LookError) -> Response {
    match error {
        LookError::Unavailable => unavailable("approvals are not available"),
        LookError::Store(error) => {
            tracing::error!(error = chain(error), "requests cannot be read");
            refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "requests cannot be read; the log says why",
            )
        }
    }
}
