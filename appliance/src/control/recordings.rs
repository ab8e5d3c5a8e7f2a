//! What was recorded, as the admin API and the command line show it.
//!
//! Reads the catalogue and the journal files; nothing here needs the appliance to run.

use std::io::Write;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::recorder::replay::{Replay, ReplayError};
use crate::recorder::{
    Catalogue, CatalogueError, RecordingSettings, SessionEntry, SessionFilter, SessionId,
    SessionState,
};

pub use crate::recorder::replay::ReplayForm;

/// Which sessions to list. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsWanted {
    /// Subject or name of the agent.
    pub agent: Option<String>,
    pub target: Option<String>,
    /// `live`, `ended` or `interrupted`.
    pub state: Option<String>,
    /// Only sessions in which something was refused.
    pub denied: bool,
    /// Only sessions older than this one.
    pub before: Option<String>,
    pub limit: Option<u32>,
}

/// One recorded session.
///
/// *Units*: times in microseconds since 1970, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionLine {
    pub id: String,
    pub state: String,
    pub started: u64,
    pub ended: Option<u64>,
    pub end_reason: Option<String>,
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub name: Option<String>,
    pub groups: Vec<String>,
    pub target: Option<String>,
    pub protocol: Option<String>,
    pub user: Option<String>,
    pub application: Option<String>,
    pub peer: Option<String>,
    pub read_only: bool,
    pub commands: u64,
    pub denials: u64,
    pub rows: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

/// Why recordings cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum RecordingsError {
    #[error("`{name}` is not the id of a session, nor the beginning of one")]
    NoSuchSession { name: String },
    #[error("more than one session begins with `{name}`")]
    Ambiguous { name: String },
    #[error("a state is one of live, ended, interrupted")]
    NotAState,
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Lists sessions, the latest first.
///
/// # Errors
/// A filter that means nothing, or a catalogue that cannot be read.
pub fn sessions(
    settings: &RecordingSettings,
    wanted: &SessionsWanted,
) -> Result<Vec<SessionLine>, RecordingsError> {
    let state = wanted.state.as_deref().map(state_named).transpose()?;
    let before = wanted.before.as_deref().map(session_named).transpose()?;
    let filter = SessionFilter {
        agent: wanted.agent.clone(),
        target: wanted.target.clone(),
        state,
        denied: wanted.denied,
        before,
        limit: wanted.limit,
        ..SessionFilter::default()
    };
    let entries = Catalogue::open(&settings.catalogue)?.sessions(&filter)?;
    Ok(entries.into_iter().map(SessionLine::from).collect())
}

/// The replay of the session that `name` is the id of, or the beginning of it.
///
/// # Errors
/// No session or several fit, or the recording cannot be read.
pub fn replay(settings: &RecordingSettings, name: &str) -> Result<Replay, RecordingsError> {
    let catalogue = Catalogue::open(&settings.catalogue)?;
    let found = catalogue.sessions_named(name)?;
    let named = || name.chars().take(32).collect();
    match found.as_slice() {
        [] => Err(RecordingsError::NoSuchSession { name: named() }),
        [one] => Ok(Replay::open(
            &catalogue,
            &settings.journal_directory,
            one.session,
        )?),
        _ => Err(RecordingsError::Ambiguous { name: named() }),
    }
}

/// Writes a replay whole.
///
/// # Errors
/// The recording cannot be read on, or `out` takes no more.
pub fn write(
    replay: &mut Replay,
    form: ReplayForm,
    out: &mut dyn Write,
) -> Result<(), RecordingsError> {
    Ok(crate::recorder::replay::write(replay, form, out)?)
}

/// What a replay in that form is, as HTTP names it.
pub(super) fn media_type(form: ReplayForm) -> &'static str {
    match form {
        ReplayForm::Text => "text/plain",
        ReplayForm::Sql => "application/sql",
        ReplayForm::Json => "application/x-ndjson",
    }
}

/// The form that an `Accept` header asks for: exactly one of the types above, else JSON.
pub(super) fn form_of(accept: Option<&[u8]>) -> ReplayForm {
    [ReplayForm::Text, ReplayForm::Sql]
        .into_iter()
        .find(|form| accept.is_some_and(|accept| accept == media_type(*form).as_bytes()))
        .unwrap_or(ReplayForm::Json)
}

fn session_named(text: &str) -> Result<SessionId, RecordingsError> {
    text.parse().map_err(|_| RecordingsError::NoSuchSession {
        name: text.chars().take(32).collect(),
    })
}

fn state_named(word: &str) -> Result<SessionState, RecordingsError> {
    [
        SessionState::Live,
        SessionState::Ended,
        SessionState::Interrupted,
    ]
    .into_iter()
    .find(|state| state.name() == word)
    .ok_or(RecordingsError::NotAState)
}

impl From<SessionEntry> for SessionLine {
    fn from(entry: SessionEntry) -> Self {
        Self {
            id: entry.session.to_string(),
            state: entry.state.name().to_owned(),
            started: entry.started,
            ended: entry.ended,
            end_reason: entry.end_reason,
            issuer: entry.issuer,
            subject: entry.subject,
            name: entry.name,
            groups: entry.groups,
            target: entry.target,
            protocol: entry.protocol,
            user: entry.user,
            application: entry.application,
            peer: entry.peer,
            read_only: entry.read_only,
            commands: entry.counters.commands,
            denials: entry.counters.denials,
            rows: entry.counters.rows,
            bytes_received: entry.counters.bytes_received,
            bytes_sent: entry.counters.bytes_sent,
        }
    }
}
