//! What was recorded, as the admin API and the command line show it.
//!
//! Reads the catalogue and the journal files; nothing here needs the appliance to run.

use std::io::Write;
use std::time::UNIX_EPOCH;

use policy::class::ClassSet;
use policy::pattern::{Pattern, PatternError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::recorder::format::unix_micros;
use crate::recorder::replay::{Replay, ReplayError};
use crate::recorder::{
    Catalogue, CatalogueError, EndReason, ROWS_DEFAULT, RecordingSettings, RefusedEntry,
    SessionEntry, SessionFilter, SessionId, SessionState,
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
    /// Started at this time or later: RFC 3339, only the day, or how long ago (`24h`).
    pub since: Option<String>,
    /// Started before this time.
    pub until: Option<String>,
    /// Did something of one of these classes of statements, or tried to: names of classes or of
    /// their groups, with commas between them.
    pub class: Option<String>,
    /// Did something to such a table, or tried to: a pattern as in policy.
    pub table: Option<String>,
    /// Only sessions in which something was refused.
    pub denied: bool,
    /// Only sessions in which a person was asked.
    pub held: bool,
    /// Only sessions that ended for this reason, such as `revoked`.
    pub ended: Option<String>,
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
    /// Commands that people were asked about.
    pub holds: u64,
    pub rows: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

/// Which refused logins to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct RefusedLoginsWanted {
    /// At this time or later: RFC 3339, only the day, or how long ago (`24h`).
    pub since: Option<String>,
    pub limit: Option<u32>,
}

/// A login that was refused, as far as it was known who it was.
///
/// *Units*: times in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedLoginLine {
    pub id: String,
    pub at: u64,
    /// A word of ours.
    pub reason: String,
    pub peer: String,
    pub protocol: String,
    pub target: Option<String>,
    pub user: Option<String>,
    pub application: Option<String>,
    /// Absent, as the two below, where nothing was proven.
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub name: Option<String>,
}

impl From<RefusedEntry> for RefusedLoginLine {
    fn from(entry: RefusedEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            at: entry.at,
            reason: entry.reason,
            peer: entry.peer,
            protocol: entry.protocol,
            target: entry.target,
            user: entry.user,
            application: entry.application,
            issuer: entry.issuer,
            subject: entry.subject,
            name: entry.name,
        }
    }
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
    #[error("a time is written 2026-11-26T13:00:00Z, 2026-11-26, or 24h for so long ago")]
    NotATime,
    #[error("policy has no class of statements `{name}`")]
    NotAClass { name: String },
    #[error("the table is not a pattern: NAME or SCHEMA.NAME, as in policy")]
    NotATable(#[source] PatternError),
    #[error("an end is one of {}", end_reasons())]
    NotAnEnd,
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
    let filter = filter(wanted)?;
    let entries = Catalogue::open(&settings.catalogue)?.sessions(&filter)?;
    Ok(entries.into_iter().map(SessionLine::from).collect())
}

/// Lists refused logins, the latest first.
///
/// # Errors
/// A time that is none, or a catalogue that cannot be read.
pub fn refused_logins(
    settings: &RecordingSettings,
    wanted: &RefusedLoginsWanted,
) -> Result<Vec<RefusedLoginLine>, RecordingsError> {
    let since = wanted.since.as_deref().map(time_named).transpose()?;
    let limit = wanted.limit.unwrap_or(ROWS_DEFAULT);
    let catalogue = Catalogue::open(&settings.catalogue)?;
    let entries = catalogue.refused_logins(since.unwrap_or(0), limit)?;
    Ok(entries.into_iter().map(RefusedLoginLine::from).collect())
}

fn filter(wanted: &SessionsWanted) -> Result<SessionFilter, RecordingsError> {
    let time = |text: &Option<String>| text.as_deref().map(time_named).transpose();
    let table = wanted.table.as_deref().map(Pattern::parse).transpose();
    let ended = wanted
        .ended
        .as_deref()
        .map(|word| EndReason::from_name(word).ok_or(RecordingsError::NotAnEnd));
    Ok(SessionFilter {
        agent: wanted.agent.clone(),
        target: wanted.target.clone(),
        state: wanted.state.as_deref().map(state_named).transpose()?,
        since: time(&wanted.since)?,
        until: time(&wanted.until)?,
        classes: wanted
            .class
            .as_deref()
            .map_or_else(|| Ok(Vec::new()), classes_named)?,
        table: table.map_err(RecordingsError::NotATable)?,
        denied: wanted.denied,
        held: wanted.held,
        ended: ended.transpose()?,
        after: None,
        before: wanted.before.as_deref().map(session_named).transpose()?,
        limit: wanted.limit,
    })
}

/// Microseconds since 1970.
pub(crate) fn time_named(text: &str) -> Result<u64, RecordingsError> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(unix_micros(runtime::unix_time().saturating_sub(ago)));
    }
    let day = format!("{text}T00:00:00Z");
    [text, &day]
        .into_iter()
        .find_map(|text| humantime::parse_rfc3339_weak(text).ok())
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map(unix_micros)
        .ok_or(RecordingsError::NotATime)
}

/// Names of the classes that the words stand for.
fn classes_named(words: &str) -> Result<Vec<String>, RecordingsError> {
    let mut classes = Vec::new();
    for word in words.split(',').map(str::trim) {
        let set = ClassSet::named(word).ok_or_else(|| RecordingsError::NotAClass {
            name: word.chars().take(32).collect(),
        })?;
        classes.extend(set.iter().map(|class| class.name().to_owned()));
    }
    Ok(classes)
}

fn end_reasons() -> String {
    let names: Vec<&str> = EndReason::ALL.iter().map(|reason| reason.name()).collect();
    names.join(", ")
}

/// The id of the session that `name` is the beginning of.
///
/// # Errors
/// No session or several fit, or the catalogue cannot be read.
pub(crate) fn session_id(
    settings: &RecordingSettings,
    name: &str,
) -> Result<SessionId, RecordingsError> {
    session_in(&Catalogue::open(&settings.catalogue)?, name)
}

fn session_in(catalogue: &Catalogue, name: &str) -> Result<SessionId, RecordingsError> {
    let found = catalogue.sessions_named(name)?;
    let named = || name.chars().take(32).collect();
    match found.as_slice() {
        [] => Err(RecordingsError::NoSuchSession { name: named() }),
        [one] => Ok(one.session),
        [_, _, ..] => Err(RecordingsError::Ambiguous { name: named() }),
    }
}

/// The replay of the session that `name` is the id of, or the beginning of it.
///
/// # Errors
/// No session or several fit, or the recording cannot be read.
pub fn replay(settings: &RecordingSettings, name: &str) -> Result<Replay, RecordingsError> {
    let catalogue = Catalogue::open(&settings.catalogue)?;
    let session = session_in(&catalogue, name)?;
    let replay = Replay::open(&catalogue, settings, session)?;
    Ok(replay)
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
        ReplayForm::Ocsf => "application/x-ndjson;schema=ocsf",
    }
}

/// The form that an `Accept` header asks for: exactly one of the types above, else JSON.
pub(super) fn form_of(accept: Option<&[u8]>) -> ReplayForm {
    [ReplayForm::Text, ReplayForm::Sql, ReplayForm::Ocsf]
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
            holds: entry.holds,
            rows: entry.counters.rows,
            bytes_received: entry.counters.bytes_received,
            bytes_sent: entry.counters.bytes_sent,
        }
    }
}
