//! Sessions: those that are live, those that fit a search, and what happened in one.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::date;
use super::moments::{Moment, What};
use crate::control::api::Shared;
use crate::control::console::back::encoded;
use crate::control::console::frame::{Frame, Section, page, version};
use crate::control::console::marked::Marked;
use crate::control::console::{Looker, trouble};
use crate::control::recordings::{self, RecordingsError, SessionLine, SessionsWanted};
use crate::recorder::replay::{Replay, Transcript};
use crate::telemetry::chain;

/// Sessions on one page.
const LINES_MAX: u32 = 50;

/// Messages on one page of a replay: what a telephone scrolls through.
const MOMENTS_MAX: usize = 200;

const STATES: [&str; 3] = ["live", "ended", "interrupted"];

/// What is searched for, as the form says it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::control::console) struct Search {
    agent: String,
    target: String,
    since: String,
    class: String,
    table: String,
    state: String,
    denied: bool,
    held: bool,
    before: Option<String>,
}

impl Search {
    fn wanted(&self) -> SessionsWanted {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        SessionsWanted {
            agent: given(&self.agent),
            target: given(&self.target),
            state: given(&self.state),
            since: given(&self.since),
            class: given(&self.class),
            table: given(&self.table),
            denied: self.denied,
            before: self.before.clone(),
            limit: Some(LINES_MAX),
            ..SessionsWanted::default()
        }
    }

    /// The page behind this one.
    fn older(&self, last: &str) -> String {
        let mut fields = vec![];
        for (name, value) in [
            ("agent", &self.agent),
            ("target", &self.target),
            ("since", &self.since),
            ("class", &self.class),
            ("table", &self.table),
            ("state", &self.state),
        ] {
            if !value.is_empty() {
                fields.push(format!("{name}={}", encoded(value)));
            }
        }
        if self.denied {
            fields.push("denied=true".to_owned());
        }
        if self.held {
            fields.push("held=true".to_owned());
        }
        fields.push(format!("before={last}"));
        format!("/sessions?{}", fields.join("&"))
    }
}

#[derive(Template)]
#[template(path = "console/sessions.html")]
struct SessionsPage {
    frame: Frame,
    search: Search,
    lines: Vec<Line>,
    older: Option<String>,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "console/session.html")]
struct SessionPage {
    frame: Frame,
    line: Line,
    from: usize,
    moments: Vec<Moment>,
    next: Option<usize>,
    problem: Option<String>,
}

/// A session in a list.
#[derive(Hash)]
struct Line {
    version: u64,
    id: String,
    started: String,
    ended: Option<String>,
    end_reason: Option<String>,
    state: String,
    is_live: bool,
    who: Marked,
    issuer: Marked,
    subject: Marked,
    groups: Vec<Marked>,
    target: Marked,
    application: Option<Marked>,
    peer: Marked,
    commands: u64,
    denials: u64,
    rows: u64,
}

impl Line {
    fn of(line: SessionLine) -> Self {
        let marked = |text: &Option<String>| Marked::of(text.as_deref().unwrap_or("unknown"));
        let mut line = Self {
            version: 0,
            started: date(line.started),
            ended: line.ended.map(date),
            is_live: line.state == "live",
            who: marked(&line.name),
            issuer: marked(&line.issuer),
            subject: marked(&line.subject),
            groups: line.groups.iter().map(|group| Marked::of(group)).collect(),
            target: marked(&line.target),
            application: line.application.as_deref().map(Marked::of),
            peer: marked(&line.peer),
            id: line.id,
            end_reason: line.end_reason,
            state: line.state,
            commands: line.commands,
            denials: line.denials,
            rows: line.rows,
        };
        line.version = version(&line);
        line
    }
}

/// `GET /sessions`.
pub(in crate::control::console) async fn sessions(
    State(shared): State<Shared>,
    looker: Looker,
    Query(search): Query<Search>,
) -> Response {
    let wanted = search.wanted();
    let recording = shared.recording.clone();
    let journal = shared.clone();
    let listing = tokio::task::spawn_blocking(move || {
        journal.flush();
        recordings::sessions(&recording, &wanted)
    });
    let (found, problem) = match listing.await {
        Ok(Ok(found)) => (found, None),
        Ok(Err(error)) => (Vec::new(), Some(chain(&error))),
        Err(_) => return trouble(&looker, "The sessions could not be read."),
    };
    let is_full = found.len() >= usize::try_from(LINES_MAX).unwrap_or(usize::MAX);
    let last = found.last().filter(|_| is_full);
    let older = last.map(|last| search.older(&last.id));
    let sessions = SessionsPage {
        frame: looker.frame(&shared, Section::Sessions).await,
        search,
        lines: found.into_iter().map(Line::of).collect(),
        older,
        problem,
    };
    page(StatusCode::OK, &sessions)
}

/// Where in a session to begin.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::control::console) struct From {
    /// Messages before it.
    from: usize,
}

/// `GET /sessions/{id}`.
pub(in crate::control::console) async fn session(
    State(shared): State<Shared>,
    looker: Looker,
    Path(id): Path<String>,
    Query(From { from }): Query<From>,
) -> Response {
    let recording = shared.recording.clone();
    let journal = shared.clone();
    let reading = tokio::task::spawn_blocking(move || {
        journal.flush();
        let replay = recordings::replay(&recording, &id)?;
        let entry = replay.entry().clone();
        Ok::<_, RecordingsError>((entry, stretch(replay, from)))
    });
    let (entry, stretch) = match reading.await {
        Ok(Ok(read)) => read,
        Ok(Err(RecordingsError::NoSuchSession { .. } | RecordingsError::Ambiguous { .. })) => {
            return looker.refusal(StatusCode::NOT_FOUND, "There is no such session.");
        }
        Ok(Err(_)) | Err(_) => return trouble(&looker, "The session cannot be read."),
    };
    let session = SessionPage {
        frame: looker.frame(&shared, Section::Sessions).await,
        line: Line::of(SessionLine::from(entry)),
        from,
        moments: stretch.moments,
        next: stretch.next,
        problem: stretch.problem,
    };
    page(StatusCode::OK, &session)
}

/// One page of a replay.
struct Stretch {
    moments: Vec<Moment>,
    next: Option<usize>,
    problem: Option<String>,
}

/// The messages behind the first `from`. Reads from the beginning: only there the protocol's state
/// is known.
fn stretch(replay: Replay, from: usize) -> Stretch {
    let mut transcript = Transcript::new();
    let mut found = Stretch {
        moments: Vec::new(),
        next: None,
        problem: None,
    };
    let mut passed = 0;
    for event in replay {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                found.problem = Some(chain(&error));
                return found;
            }
        };
        for told in transcript.tell(event) {
            let Some(moment) = Moment::of(&told) else {
                continue;
            };
            if passed < from {
                passed += 1;
                continue;
            }
            if found.moments.len() == MOMENTS_MAX {
                found.next = Some(from + MOMENTS_MAX);
                return found;
            }
            found.moments.push(moment);
        }
    }
    found
}
