//! What there is to export: sessions that have ended, and hours that are over.

use std::time::Duration;

use serde_json::json;

use super::{Cursor, ExportError, ExportForm, ExportWanted, SETTLED_AFTER, trail_directory};
use crate::archive::{Entry, entries};
use crate::recorder::replay::{
    Rendering, Replay, admin_action_ocsf, refused_login_json, refused_login_ocsf,
};
use crate::recorder::{
    Catalogue, ROWS_MAX, RecordingSettings, RefusedEntry, SessionFilter, SessionId, SessionState,
};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MICROS: u64 = 3_600_000_000;

/// Something that is exported whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Session {
        id: SessionId,
        /// Microseconds since 1970.
        started: u64,
    },
    /// Refused logins of an hour, counted from 1970.
    RefusedLogins(u64),
    /// What people and the operator did in an hour.
    Actions(u64),
}

/// What a run has to do.
pub(super) struct Units {
    pub(super) found: Vec<Unit>,
    /// Sessions that have not ended.
    pub(super) live: u64,
    /// Every session up to this one is among those found, or was before.
    settled: Option<SessionId>,
    /// The same for hours before this one.
    hour: u64,
}

impl Units {
    /// Looks for what is wanted and not before the cursor.
    pub(super) fn find(
        recording: &RecordingSettings,
        wanted: &ExportWanted,
        cursor: &Cursor,
        now: Duration,
    ) -> Result<Self, ExportError> {
        let catalogue = Catalogue::open(&recording.catalogue)?;
        let settled_at = now.saturating_sub(SETTLED_AFTER);
        let mut units = Self {
            found: Vec::new(),
            live: 0,
            settled: None,
            hour: hours(wanted.until.map_or(settled_at, |until| {
                settled_at.min(Duration::from_micros(until))
            })),
        };
        units.find_sessions(&catalogue, wanted, cursor, settled_at)?;
        if wanted.session.is_none() {
            let first = wanted
                .since
                .map_or(cursor.hour, |since| hours(Duration::from_micros(since)));
            units.find_hours(&catalogue, recording, first)?;
        }
        Ok(units)
    }

    fn find_sessions(
        &mut self,
        catalogue: &Catalogue,
        wanted: &ExportWanted,
        cursor: &Cursor,
        settled_at: Duration,
    ) -> Result<(), ExportError> {
        let mut sessions = match wanted.session {
            Some(session) => catalogue.session(session)?.into_iter().collect(),
            None => all_sessions(catalogue, wanted, cursor)?,
        };
        // The oldest first, so that the cursor follows.
        sessions.reverse();
        let mut is_settled = true;
        for entry in sessions {
            let is_over = entry.state != SessionState::Live;
            if is_over {
                self.found.push(Unit::Session {
                    id: entry.session,
                    started: entry.started,
                });
            } else {
                self.live += 1;
            }
            is_settled &= is_over && Duration::from_micros(entry.started) < settled_at;
            if is_settled {
                self.settled = Some(entry.session);
            }
        }
        Ok(())
    }

    fn find_hours(
        &mut self,
        catalogue: &Catalogue,
        recording: &RecordingSettings,
        first: u64,
    ) -> Result<(), ExportError> {
        let since = first.saturating_mul(HOUR_MICROS);
        let until = self.hour.saturating_mul(HOUR_MICROS);
        let refused = catalogue.refused_login_hours(since, until)?;
        self.found
            .extend(refused.into_iter().map(Unit::RefusedLogins));
        let mut acted: Vec<u64> = entries(trail_directory(recording), since)?
            .iter()
            .filter(|entry| entry.at < until)
            .map(|entry| entry.at / HOUR_MICROS)
            .collect();
        acted.dedup();
        self.found.extend(acted.into_iter().map(Unit::Actions));
        Ok(())
    }

    /// Moves the cursor behind what is done. Whether it moved.
    pub(super) fn advance(&self, cursor: &mut Cursor) -> bool {
        let before = cursor.clone();
        if let Some(settled) = self.settled {
            cursor.session = Some(settled.to_string());
        }
        cursor.hour = cursor.hour.max(self.hour);
        *cursor != before
    }
}

/// Sessions that are wanted and behind the cursor, the newest first.
fn all_sessions(
    catalogue: &Catalogue,
    wanted: &ExportWanted,
    cursor: &Cursor,
) -> Result<Vec<crate::recorder::SessionEntry>, ExportError> {
    let mut sessions = Vec::new();
    let mut before = None;
    loop {
        let page = catalogue.sessions(&SessionFilter {
            since: wanted.since,
            until: wanted.until,
            after: cursor.session.as_ref().and_then(|id| id.parse().ok()),
            before,
            limit: Some(ROWS_MAX),
            ..SessionFilter::default()
        })?;
        let Some(last) = page.last() else {
            return Ok(sessions);
        };
        before = Some(last.session);
        sessions.extend(page);
    }
}

fn hours(unix_time: Duration) -> u64 {
    unix_time.as_secs() / HOUR.as_secs()
}

impl Unit {
    /// Where its objects are.
    pub(super) fn folder(&self) -> String {
        match self {
            Self::Session { id, started } => {
                format!("sessions/{}/{id}", day(started / HOUR_MICROS))
            }
            Self::RefusedLogins(hour) => {
                format!("refused-logins/{}/{:02}", day(*hour), hour % 24)
            }
            Self::Actions(hour) => format!("actions/{}/{:02}", day(*hour), hour % 24),
        }
    }

    pub(super) fn lines(
        &self,
        recording: &RecordingSettings,
        form: ExportForm,
    ) -> Result<UnitLines, ExportError> {
        match self {
            Self::Session { id, .. } => {
                let catalogue = Catalogue::open(&recording.catalogue)?;
                let replay = Replay::open(&catalogue, recording, *id)?;
                let rendering = Rendering::new(replay, form.replay_form());
                Ok(UnitLines::Session(Box::new(rendering)))
            }
            Self::RefusedLogins(hour) => Ok(UnitLines::RefusedLogins {
                catalogue: Catalogue::open(&recording.catalogue)?,
                form,
                since: hour.saturating_mul(HOUR_MICROS),
                until: hour.saturating_add(1).saturating_mul(HOUR_MICROS),
                after: None,
            }),
            Self::Actions(hour) => {
                let since = hour.saturating_mul(HOUR_MICROS);
                let until = since.saturating_add(HOUR_MICROS);
                let mut found = entries(trail_directory(recording), since)?;
                found.retain(|entry| entry.at < until);
                Ok(UnitLines::Actions {
                    entries: found.into_iter(),
                    form,
                })
            }
        }
    }
}

/// The day of an hour, as a path: 2026/11/26.
fn day(hour: u64) -> String {
    let time = Duration::from_secs(hour.saturating_mul(HOUR.as_secs()));
    let last = Duration::from_secs(253_402_300_799);
    let time = std::time::UNIX_EPOCH
        .checked_add(time.min(last))
        .unwrap_or(std::time::UNIX_EPOCH);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.get(..10).unwrap_or_default().replace('-', "/")
}

/// The lines of a unit, some at a time.
pub(super) enum UnitLines {
    Session(Box<Rendering<Replay>>),
    RefusedLogins {
        catalogue: Catalogue,
        form: ExportForm,
        since: u64,
        until: u64,
        after: Option<SessionId>,
    },
    Actions {
        entries: std::vec::IntoIter<Entry>,
        form: ExportForm,
    },
}

impl UnitLines {
    /// Whole lines; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<String>, ExportError> {
        match self {
            Self::Session(rendering) => Ok(rendering.next().transpose()?.map(|shown| shown.text)),
            Self::RefusedLogins {
                catalogue,
                form,
                since,
                until,
                after,
            } => {
                let page = catalogue.refused_logins_between(*since, *until, *after)?;
                let Some(last) = page.last() else {
                    return Ok(None);
                };
                *after = Some(last.id);
                let line = |entry: &RefusedEntry| match form {
                    ExportForm::Ocsf => refused_login_ocsf(entry),
                    ExportForm::Jsonl => refused_login_json(entry),
                };
                Ok(Some(page.iter().map(line).collect()))
            }
            Self::Actions { entries, form } => Ok(entries.next().map(|entry| match form {
                ExportForm::Ocsf => admin_action_ocsf(&entry),
                ExportForm::Jsonl => {
                    let line = json!({ "event": "action", "action": entry });
                    format!("{line}\n")
                }
            })),
        }
    }
}
