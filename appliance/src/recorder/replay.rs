//! Reads a recorded session back: its events, in order, as they were recorded.
//!
//! It holds one window of one file in memory at a time, however long the session. It does
//! not read wire bytes; `transcript` makes them readable, and `rendering` writes them down.

mod approval;
mod escape;
mod json;
mod ocsf;
mod pace;
mod prepared;
mod rendering;
mod sql;
mod text;
mod transcript;
mod values;

use std::collections::VecDeque;

use thiserror::Error;

use super::catalogue::{Catalogue, SessionEntry, SessionState};
use super::file::widen;
use super::format::{
    ApprovalNote, CommandKind, Record, RecordError, RecordHeader, RecordedDecision, SessionEnd,
    SessionStart,
};
use super::index::CatalogueError;
use super::records::{RecordsError, SessionRecords};
use super::session_id::SessionId;
use super::settings::RecordingSettings;

pub(crate) use json::refused_login as refused_login_json;
pub(crate) use json::rfc3339_seconds;
pub(crate) use ocsf::{admin_action as admin_action_ocsf, refused_login as refused_login_ocsf};
pub use pace::{NotASpeed, Pace, Speed};
pub use rendering::{Rendering, ReplayForm, Shown, write};
pub use transcript::{Fact, Reply, Said, ShownColumn, ShownValue, Told, Transcript};

/// Longest command that is put together from its pieces. The longest message that is accepted is
/// far below; a longer one in a recording is damage.
const COMMAND_BYTES_MAX: u64 = 1 << 30;

/// Why a session cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    #[error("the catalogue knows no session {session}")]
    NoSuchSession { session: SessionId },
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Records(#[from] Box<RecordsError>),
    #[error("cannot write the replay")]
    Output(#[source] std::io::Error),
}

/// One event of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since 1970.
    pub at: u64,
    /// The session's own count of its records, from 0.
    pub sequence: u64,
    /// The command that this is or belongs to; 0 for none.
    pub number: u64,
    pub what: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    Started(SessionStart),
    Command(RecordedCommand),
    Response {
        rows: u64,
        wire: Vec<u8>,
    },
    Ended(SessionEnd),
    Approval(ApprovalNote),
    /// The records end here without an end: the process died. Never for a session that lives.
    Interrupted,
    /// Records that should be here are not.
    Missing {
        records: u64,
    },
    /// A record that cannot be read, or that a later version of this program wrote.
    Unreadable {
        kind: u8,
        reason: Option<RecordError>,
    },
}

/// A message of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCommand {
    pub kind: CommandKind,
    pub decision: RecordedDecision,
    /// Secrets that were cut out.
    pub cuts: u64,
    /// Bytes of the whole message; more than `wire` has when its end was never recorded. It was
    /// not forwarded then.
    pub total_bytes: u64,
    pub wire: Vec<u8>,
}

impl RecordedCommand {
    #[must_use]
    pub fn is_whole(&self) -> bool {
        widen(self.wire.len()) == self.total_bytes
    }
}

/// Iterates over the events of one session.
pub struct Replay {
    entry: SessionEntry,
    records: SessionRecords,
    /// The record that is being taken apart.
    body: Vec<u8>,
    ready: VecDeque<Event>,
    /// A command whose further pieces have not been seen.
    unfinished: Option<Event>,
    next_sequence: u64,
    is_over: bool,
}

impl Replay {
    /// Looks the session up. What was recorded after the last flush is not seen.
    ///
    /// # Errors
    /// `NoSuchSession`, or when what was recorded cannot be read.
    pub fn open(
        catalogue: &Catalogue,
        settings: &RecordingSettings,
        session: SessionId,
    ) -> Result<Self, ReplayError> {
        let entry = catalogue
            .session(session)?
            .ok_or(ReplayError::NoSuchSession { session })?;
        Ok(Self {
            entry,
            records: SessionRecords::open(catalogue, settings, session).map_err(Box::new)?,
            body: Vec::new(),
            ready: VecDeque::new(),
            unfinished: None,
            next_sequence: 0,
            is_over: false,
        })
    }

    /// The session's entry in the catalogue.
    #[must_use]
    pub fn entry(&self) -> &SessionEntry {
        &self.entry
    }

    /// Reads on until something is ready. `false` at the end.
    fn advance(&mut self) -> Result<bool, ReplayError> {
        let mut body = std::mem::take(&mut self.body);
        while self.ready.is_empty() {
            if !self.records.next(&mut body).map_err(Box::new)? {
                return Ok(self.finish());
            }
            // Only what has a header of this session is handed out.
            if let Ok((header, fields)) = RecordHeader::decode(&body) {
                self.take(&header, Record::decode(&header, fields));
            }
        }
        self.body = body;
        Ok(true)
    }

    /// Turns a record into events, after what is missing before it.
    fn take(&mut self, header: &RecordHeader, record: Result<Record<'_>, RecordError>) {
        // A record that a crash left in two files is the same record.
        if header.sequence < self.next_sequence {
            return;
        }
        let missing = header.sequence.saturating_sub(self.next_sequence);
        if missing > 0 {
            self.flush_unfinished();
            self.ready.push_back(Event {
                at: header.unix_micros,
                sequence: self.next_sequence,
                number: 0,
                what: EventKind::Missing { records: missing },
            });
        }
        self.next_sequence = header.sequence.saturating_add(1);
        if let Ok(Record::CommandRest { wire }) = record {
            self.take_rest(header, wire);
            return;
        }
        let what = EventKind::new(header.kind, record);
        // A long message arrives while earlier ones are answered.
        if !matches!(what, EventKind::Response { .. } | EventKind::Approval(_)) {
            self.flush_unfinished();
        }
        let is_unfinished = matches!(&what, EventKind::Command(command) if !command.is_whole());
        let event = Event {
            at: header.unix_micros,
            sequence: header.sequence,
            number: header.number,
            what,
        };
        if is_unfinished {
            self.unfinished = Some(event);
        } else {
            self.ready.push_back(event);
        }
    }

    fn take_rest(&mut self, header: &RecordHeader, wire: &[u8]) {
        let Some(mut event) = self
            .unfinished
            .take_if(|event| event.number == header.number)
        else {
            self.ready.push_back(Event {
                at: header.unix_micros,
                sequence: header.sequence,
                number: header.number,
                what: EventKind::Unreadable {
                    kind: header.kind,
                    reason: None,
                },
            });
            return;
        };
        if let EventKind::Command(command) = &mut event.what {
            // What is shown of a message that is too long to be shown is its beginning.
            let most = command.total_bytes.min(COMMAND_BYTES_MAX);
            let room = most.saturating_sub(widen(command.wire.len()));
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let shown = wire.get(..wire.len().min(room)).unwrap_or_default();
            command.wire.extend_from_slice(shown);
            if command.is_whole() {
                self.ready.push_back(event);
            } else {
                self.unfinished = Some(event);
            }
        }
    }

    fn flush_unfinished(&mut self) {
        self.ready.extend(self.unfinished.take());
    }

    /// What stands behind the last record. `false` when nothing does.
    fn finish(&mut self) -> bool {
        self.flush_unfinished();
        let was_over = std::mem::replace(&mut self.is_over, true);
        if !was_over && self.entry.state == SessionState::Interrupted {
            self.ready.push_back(Event {
                at: self.entry.last_seen,
                sequence: self.next_sequence,
                number: 0,
                what: EventKind::Interrupted,
            });
        }
        !self.ready.is_empty()
    }
}

impl Iterator for Replay {
    type Item = Result<Event, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(true) => self.ready.pop_front().map(Ok),
            Ok(false) => None,
            Err(error) => {
                self.records.end();
                self.is_over = true;
                Some(Err(error))
            }
        }
    }
}

impl EventKind {
    /// What a record of the kind with this code tells, without borrowing the file.
    fn new(kind: u8, record: Result<Record<'_>, RecordError>) -> Self {
        match record {
            Ok(Record::SessionStart(start)) => Self::Started(start),
            Ok(Record::SessionEnd(end)) => Self::Ended(end),
            Ok(Record::Approval(note)) => Self::Approval(note),
            Ok(Record::Response { rows, wire }) => Self::Response {
                rows,
                wire: wire.to_vec(),
            },
            Ok(Record::Command(command)) => match command.decision() {
                Ok(decision) => Self::Command(RecordedCommand {
                    kind: command.kind,
                    decision,
                    cuts: command.cuts,
                    total_bytes: command.total_bytes,
                    wire: command.wire.to_vec(),
                }),
                Err(error) => Self::Unreadable {
                    kind,
                    reason: Some(error.into()),
                },
            },
            Ok(Record::RefusedLogin(_) | Record::CommandRest { .. } | Record::Unknown { .. }) => {
                Self::Unreadable { kind, reason: None }
            }
            Err(reason) => Self::Unreadable {
                kind,
                reason: Some(reason),
            },
        }
    }
}
