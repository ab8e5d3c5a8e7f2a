//! Tells open pages that something has changed; they ask again for what they show.
//!
//! An event says which list is stale, never what is in it: who sees what is decided where pages
//! are made.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::frame::version;
use super::looker::Looker;
use crate::control::api::Shared;
use crate::control::recordings::{self, SessionsWanted};

/// Pages that are kept fresh at once; one more shows what it was sent. A stream takes a connection
/// and some 2 KiB.
const STREAMS_MAX: usize = 256;

/// How often the lists are looked at while a page shows them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a stream asks whether its browser is still signed in, and says that it lives.
const STILL_THERE: Duration = Duration::from_secs(5);

/// Sessions among which a change is noticed: those on the first page.
const SESSIONS_WATCHED: u32 = 50;

/// A list that pages show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Approvals,
    Sessions,
    Health,
}

impl Topic {
    fn named(name: &str) -> Option<Self> {
        match name {
            "approvals" => Some(Self::Approvals),
            "sessions" => Some(Self::Sessions),
            "health" => Some(Self::Health),
            _ => None,
        }
    }
}

/// What differs whenever a list has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Beat {
    approvals: u64,
    sessions: u64,
    health: u64,
}

impl Beat {
    fn of(self, topic: Topic) -> u64 {
        match topic {
            Topic::Approvals => self.approvals,
            Topic::Sessions => self.sessions,
            Topic::Health => self.health,
        }
    }
}

/// Where streams hear of changes. Per process.
pub(super) struct Pulse {
    beat: watch::Sender<Beat>,
    places: Arc<Semaphore>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self {
            beat: watch::Sender::new(Beat::default()),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

/// Looks after the lists, as long as anybody watches. Runs until the runtime ends.
pub(in crate::control) async fn attend(shared: Shared) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let pulse = &shared.console.pulse;
        if pulse.beat.receiver_count() == 0 {
            continue;
        }
        let beat = Beat {
            approvals: super::pages::pulse(&shared).await,
            sessions: sessions_version(&shared).await,
            health: pulse.beat.borrow().health.wrapping_add(1),
        };
        pulse.beat.send_replace(beat);
    }
}

async fn sessions_version(shared: &Shared) -> u64 {
    let recording = shared.recording.clone();
    let wanted = SessionsWanted {
        limit: Some(SESSIONS_WATCHED),
        ..SessionsWanted::default()
    };
    let listing = tokio::task::spawn_blocking(move || recordings::sessions(&recording, &wanted));
    match listing.await {
        Ok(Ok(lines)) => version(
            lines
                .iter()
                .map(|line| {
                    (
                        &line.id,
                        &line.state,
                        line.commands,
                        line.denials,
                        line.rows,
                    )
                })
                .collect::<Vec<_>>(),
        ),
        // The page says what is wrong.
        Ok(Err(_)) | Err(_) => 0,
    }
}

/// Which lists a page shows.
#[derive(Debug, Deserialize)]
pub(super) struct Topics {
    topics: String,
}

/// `GET /events`.
pub(super) async fn events(
    State(shared): State<Shared>,
    looker: Looker,
    Query(Topics { topics }): Query<Topics>,
) -> Response {
    let topics: BTreeSet<Topic> = topics.split(',').filter_map(Topic::named).collect();
    let pulse = &shared.console.pulse;
    let Ok(place) = Arc::clone(&pulse.places).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let watched = Watched {
        beats: pulse.beat.subscribe(),
        seen: *pulse.beat.borrow(),
        topics,
        looker,
        shared: shared.clone(),
        is_over: false,
        _place: place,
    };
    let events = stream::unfold(watched, |watched| watched.next());
    let alive = KeepAlive::new().interval(STILL_THERE);
    Sse::new(events).keep_alive(alive).into_response()
}

/// One stream.
struct Watched {
    beats: watch::Receiver<Beat>,
    seen: Beat,
    topics: BTreeSet<Topic>,
    looker: Looker,
    shared: Shared,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Watched {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while !self.is_over {
            let changed = tokio::time::timeout(STILL_THERE, self.beats.changed()).await;
            if !self.looker.is_still_there(&self.shared) || matches!(changed, Ok(Err(_))) {
                self.is_over = true;
                return Some((Ok(Event::default().event("over").data("now")), self));
            }
            let beat = *self.beats.borrow_and_update();
            let is_stale = |topic: &Topic| beat.of(*topic) != self.seen.of(*topic);
            let stale = self.topics.iter().any(is_stale);
            self.seen = beat;
            if stale {
                return Some((Ok(Event::default().event("changed").data("now")), self));
            }
        }
        None
    }
}
