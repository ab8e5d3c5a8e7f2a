//! Recording: what an agent did and saw, kept so that it can be replayed and proven.
//!
//! ```text
//! shard                                journal thread                        readers
//! Recorder -> Journal -> mapped ring ==> journal files (group commit) ----> replay
//!   (a copy, no system call)         \=> catalogue (SQLite) --------------> sessions
//! ```
//!
//! A record is in the ring before its command is forwarded, so that the death of the process
//! takes nothing; the commit interval bounds what a power failure takes. Nothing here decides
//! what may run, masks values or speaks a protocol, but for `replay`, which reads the recorded
//! wire bytes with the codecs.

pub mod format;

mod fields;
mod session_id;
mod settings;
mod trouble;
mod writer;

mod drain;
mod file;
mod index;
mod recovery;
mod thread;

mod catalogue;
mod records;
pub mod replay;

pub(crate) use catalogue::is_indexed;
pub use catalogue::{
    Catalogue, ROWS_DEFAULT, ROWS_MAX, RefusedEntry, SessionEntry, SessionFilter, SessionState,
};
pub use drain::Recovered;
pub use fields::FieldError;
pub use file::JournalError;
pub(crate) use file::{FileHeader, Found, StoredFile, stored_files};
pub use format::{
    ActorNote, ApprovalNote, ApprovalStep, CommandKind, Counters, DeciderNote, DecisionNote,
    EffectNote, EndReason, ForeshadowNote, Note, PrincipalNote, RecordedDecision, RefusedLogin,
    SessionEnd, SessionStart, Verdict,
};
pub use index::CatalogueError;
pub use records::{RecordsError, SessionRecords};
pub use recovery::RecoveryError;
pub(crate) use replay::rfc3339_seconds;
pub use session_id::{NoRandomness, NotASessionId, SessionId};
pub use settings::{
    COMMIT_INTERVAL_DEFAULT, COMMIT_INTERVAL_MAX, Durability, NotADurability, RING_BYTES_DEFAULT,
    RING_BYTES_MAX, RING_BYTES_MIN, ROTATE_BYTES_DEFAULT, RecordingSettings,
};
pub use thread::{
    FlushError, JournalHandle, JournalStatus, JournalThread, OpenJournalError, StartError,
};
pub use trouble::JournalUnavailable;
pub use writer::{Journal, NoRoom, OpenError, Recorded, Recorder};

#[cfg(test)]
mod tests;
