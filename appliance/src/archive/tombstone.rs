//! Tombstones: what retention removed, so that it is not taken for lost.
//!
//! A chained file like the trail; heads sign how far it reaches before anything is removed.

use serde::{Deserialize, Serialize};

use super::chained::{Tip, hex};
use super::pack::Subject;

/// Name of the file in the archive.
pub(super) const FILE: &str = "tombstones.ndjson";

/// Most segments that one line names: it stays far below the longest line.
pub(super) const PLACES_MAX: usize = 4096;

/// Why something was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Why {
    /// It is older than `archive.keep`.
    Age,
    /// The archive was longer than `archive.keep_bytes`.
    Size,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tombstone {
    /// Counts from 1.
    pub(super) number: u64,
    /// Microseconds since 1970.
    pub(super) at: u64,
    /// The session, or `ring:` and the identity of the ring whose refused logins it was.
    pub(super) of: String,
    pub(super) why: Why,
    /// Pack and place in its table of each segment whose body is removed.
    pub(super) segments: Vec<(u64, u64)>,
    /// Hash of the line before, in hexadecimal.
    pub(super) previous: String,
}

impl Tombstone {
    pub(super) fn of(subject: Subject, why: Why, places: &[(u64, u64)], at: u64, tip: Tip) -> Self {
        Self {
            number: tip.count.saturating_add(1),
            at,
            of: match subject {
                Subject::Session(session) => session.to_string(),
                Subject::Refused(ring) => format!("ring:{}", hex(&ring)),
            },
            why,
            segments: places.to_vec(),
            previous: tip.hash.to_hex(),
        }
    }

    pub(super) fn to_line(&self) -> String {
        // Texts and numbers: nothing in it can fail to become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}
