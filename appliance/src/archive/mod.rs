//! The archive: what was recorded, sealed so that a change of it shows.
//!
//! ```text
//! journal thread --bell--> archivist --> packs, heads.ndjson --> verify (offline)
//!                             ^    \---> log, web hooks
//!            trail, holds ----/
//! ```
//!
//! It does not record and does not decide what may run; it never touches a shard, and nobody waits
//! for it. docs/decisions/0006 says what it proves, docs/recording.md how the files are made.

mod bell;
mod chained;
mod head;
mod holds;
mod index;
mod key;
mod pack;
mod reading;
mod seal;
mod store;
mod thread;
mod tombstone;
mod trail;
mod verify;

pub use bell::Bell;
pub use chained::ChainedError;
pub use head::Head;
pub use holds::{Held, Hold, HoldError, Holds};
pub use index::IndexError;
pub use key::{ArchiveKeys, KeyError, KeyLine};
pub use pack::{Malformed, PackError};
pub use reading::SealedError;
pub(crate) use reading::{SealedRecords, all_records};
pub use thread::{
    Announce, Archive, ArchiveSettings, ArchiveStatus, Archivist, ArchivistHandle, newest_head,
};
pub use trail::{Action, Actor, Entry, Trail, TrailError, Verb, entries};
pub use verify::{
    ANCHOR_BYTES_MAX, Check, Finding, Kind, Report, VerifyError, anchored, public_keys, verify,
};
