//! What runs now, over all shards.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Shared, paths};
use crate::shard::LiveSession;

/// The sessions that are alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct LiveSessions {
    /// The latest first.
    pub sessions: Vec<LiveSessionShown>,
    /// Shards that did not answer in time: their sessions are missing.
    pub silent_shards: Vec<usize>,
}

/// One live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct LiveSessionShown {
    pub id: String,
    pub issuer: String,
    pub subject: String,
    pub name: String,
    pub groups: Vec<String>,
    /// Who acts for whom, the outermost first: subjects.
    pub delegation: Vec<String>,
    pub target: String,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// `idle`, `running` or `held`.
    pub state: String,
    /// Commands that it has sent so far.
    pub statements: u64,
    pub shard: usize,
}

/// What runs now
///
/// Asks every shard. The answer takes as long as the slowest, and two seconds at most.
#[utoipa::path(
    get,
    path = paths::LIVE,
    operation_id = "live_sessions",
    responses((status = 200, description = "The sessions that are alive", body = LiveSessions))
)]
pub(super) async fn live(State(shared): State<Shared>) -> Json<LiveSessions> {
    let mut live = LiveSessions {
        sessions: Vec::new(),
        silent_shards: Vec::new(),
    };
    for (shard, answer) in shared.observer.sessions().await.into_iter().enumerate() {
        match answer {
            Some(sessions) => {
                let shown = sessions.into_iter();
                live.sessions
                    .extend(shown.map(|session| LiveSessionShown::of(session, shard)));
            }
            None => live.silent_shards.push(shard),
        }
    }
    live.sessions
        .sort_by(|one, other| (other.since, &other.id).cmp(&(one.since, &one.id)));
    Json(live)
}

impl LiveSessionShown {
    fn of(session: LiveSession, shard: usize) -> Self {
        let principal = &session.principal;
        let actors = principal.delegation.iter();
        Self {
            id: session.id.to_string(),
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            name: principal.name.clone(),
            groups: principal.groups.clone(),
            delegation: actors.map(|actor| actor.subject.clone()).collect(),
            target: session.target.to_string(),
            since: session.since,
            state: session.state.name().to_owned(),
            statements: session.commands,
            shard,
        }
    }
}
