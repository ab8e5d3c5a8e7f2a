//! The trail: what people and the operator did to the appliance itself.
//!
//! One line for each action, durable before the action takes effect, chained, and sealed into the
//! same heads as the recordings. Whoever changes something writes here first; an action that cannot
//! be written does not happen.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::bell::Bell;
use super::chained::{ChainedError, ChainedFile, Lines, Tip};

/// Name of the file in the archive.
pub(super) const FILE: &str = "trail.ndjson";

/// Longest text of an action, in characters. A reason that somebody typed is cut here.
const TEXT_CHARS_MAX: usize = 1024;

/// Most details of an action: what the longest list of callers needs, and room.
const DETAILS_MAX: usize = 32;

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Actor {
    /// Somebody at the admin socket, by user id.
    Operator { uid: u32 },
    /// A person who proved who they are.
    Person {
        issuer: String,
        subject: String,
        name: String,
    },
    /// The appliance by itself: retention, an expiry, a signal.
    Appliance,
    /// Somebody who proved nothing.
    Nobody,
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)+) => {
        /// What was done. The words are part of the format and do not change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Verb { $($(#[$doc])* #[serde(rename = $text)] $variant,)+ }

        impl Verb {
            /// Every verb, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in the trail.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

verbs! {
    /// The object is the token's id.
    TokenIssued = "token-issued";
    /// A client of the built-in issuer. The object is its id.
    TokenClientAdded = "token-client-added";
    TokenClientRemoved = "token-client-removed";
    /// The object is the generation that is in force now.
    Reloaded = "configuration-reloaded";
    /// The object is the id of the request, as in the three below.
    RequestApproved = "request-approved";
    RequestDenied = "request-denied";
    RequestWithdrawn = "request-withdrawn";
    /// The object is what was revoked, such as `token:ID`.
    Revoked = "revoked";
    RevocationLifted = "revocation-lifted";
    /// The object is the session's id.
    SessionKilled = "session-killed";
    /// The object is empty: the person is who acted.
    ConsoleLogin = "console-login";
    ConsoleLogout = "console-logout";
    /// A one-time link to the console was made.
    ConsoleLink = "console-link";
    /// The object is `session:ID` or `agent:SUBJECT`.
    HoldPlaced = "hold-placed";
    HoldReleased = "hold-released";
    /// Recordings left the appliance. The object says where to.
    Exported = "exported";
    /// A recording was shown. The object is the session's id.
    Replayed = "replayed";
    /// The object is the id of the new key.
    KeyRotated = "key-rotated";
    /// The appliance began to serve.
    Started = "started";
    /// It ended in order.
    Stopped = "stopped";
}

/// One action, about to take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub by: Actor,
    pub verb: Verb,
    /// What it was done to; empty when the verb says it all.
    pub object: String,
    /// Further facts in a few words. Never a credential, never what came over a target's wire.
    pub details: Vec<(&'static str, String)>,
}

impl Action {
    /// An action without details.
    #[must_use]
    pub fn new(by: Actor, verb: Verb, object: impl Into<String>) -> Self {
        Self {
            by,
            verb,
            object: object.into(),
            details: Vec::new(),
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }
}

/// A line of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 1.
    pub number: u64,
    /// Microseconds since 1970.
    pub at: u64,
    pub by: Actor,
    pub action: Verb,
    pub object: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// Hash of the line before, in hexadecimal.
    pub previous: String,
}

/// Why an action is not in the trail, so that it must not take effect.
#[derive(Debug, Error)]
pub enum TrailError {
    #[error(transparent)]
    File(#[from] ChainedError),
    #[error("line {number} of {} is no entry of the trail", path.display())]
    NotAnEntry { path: PathBuf, number: u64 },
    #[error("whoever writes the trail panicked")]
    Panicked,
}

/// The trail of this process. Any thread but a shard: writing goes to the disk.
#[derive(Clone)]
pub struct Trail {
    file: Arc<Mutex<ChainedFile>>,
    bell: Bell,
}

impl Trail {
    /// Opens the trail of an archive, or begins it.
    ///
    /// # Errors
    /// When the file cannot be made or read.
    pub fn open(archive_directory: &Path) -> Result<Self, ChainedError> {
        Self::open_with(archive_directory, Bell::new())
    }

    /// The same, with an archivist that hears of each action by `bell`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(archive_directory: &Path, bell: Bell) -> Result<Self, ChainedError> {
        let file = ChainedFile::open(&archive_directory.join(FILE))?;
        Ok(Self {
            file: Arc::new(Mutex::new(file)),
            bell,
        })
    }

    /// Writes an action down; it is durable when this returns. Blocks for a write to the disk.
    ///
    /// # Errors
    /// When it is not durable. The action must not happen then.
    pub fn record(&self, action: &Action) -> Result<(), TrailError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Tip { count, hash } = file.tip();
        let details = action.details.iter().take(DETAILS_MAX);
        let entry = Entry {
            number: count.saturating_add(1),
            at: crate::recorder::format::unix_micros(runtime::unix_time()),
            by: action.by.cut(),
            action: action.verb,
            object: cut(&action.object),
            details: details
                .map(|(name, value)| ((*name).to_owned(), Value::from(cut(value))))
                .collect(),
            previous: hash.to_hex(),
        };
        // Texts and numbers: nothing in it can fail to become JSON.
        let line = serde_json::to_string(&entry).unwrap_or_default();
        file.append(&line)?;
        drop(file);
        self.bell.ring();
        Ok(())
    }

    /// How far the trail reaches.
    pub(super) fn tip(&self) -> Tip {
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tip()
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operator { uid } => write!(f, "uid {uid}"),
            Self::Person { subject, name, .. } if name.is_empty() => f.write_str(subject),
            Self::Person { name, .. } => f.write_str(name),
            Self::Appliance => f.write_str("the appliance"),
            Self::Nobody => f.write_str("nobody"),
        }
    }
}

impl Actor {
    fn cut(&self) -> Self {
        match self {
            Self::Person {
                issuer,
                subject,
                name,
            } => Self::Person {
                issuer: cut(issuer),
                subject: cut(subject),
                name: cut(name),
            },
            Self::Operator { uid } => Self::Operator { uid: *uid },
            Self::Appliance => Self::Appliance,
            Self::Nobody => Self::Nobody,
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// The entries of an archive's trail since a time in microseconds since 1970, oldest first.
///
/// # Errors
/// When the file cannot be read, or holds something else. There need not be one.
pub fn entries(archive_directory: &Path, since: u64) -> Result<Vec<Entry>, TrailError> {
    let path = archive_directory.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut lines = Lines::open(&path)?;
    let mut found = Vec::new();
    let mut number = 0;
    while let Some(line) = lines.next_line()? {
        number += 1;
        let entry: Entry = serde_json::from_slice(line).map_err(|_| TrailError::NotAnEntry {
            path: path.clone(),
            number,
        })?;
        if entry.at >= since {
            found.push(entry);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::chained::Hash;
    use super::*;

    #[test]
    fn actions_are_durable_numbered_and_chained_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let trail = Trail::open(directory.path()).unwrap();
        let issued = Action::new(Actor::Operator { uid: 0 }, Verb::TokenIssued, "token-1")
            .with("agent", "ada");
        trail.record(&issued).unwrap();
        let trail = Trail::open(directory.path()).unwrap();
        let person = Actor::Person {
            issuer: "https://issuer.test".to_owned(),
            subject: "sub-1".to_owned(),
            name: "Grace\n".to_owned(),
        };
        trail
            .record(&Action::new(person.clone(), Verb::RequestApproved, "r-1"))
            .unwrap();
        let found = entries(directory.path(), 0).unwrap();
        let [first, second] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(
            (first.number, first.action, first.object.as_str()),
            (1, Verb::TokenIssued, "token-1")
        );
        assert_eq!(first.details.get("agent"), Some(&Value::from("ada")));
        assert_eq!((second.number, &second.by), (2, &person));
        let text = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
        let line = text.lines().next().unwrap();
        assert_eq!(second.previous, Hash::of(&[line.as_bytes()]).to_hex());
        assert_eq!(trail.tip().count, 2);
        assert_eq!(entries(directory.path(), second.at + 1).unwrap(), []);
    }

    #[test]
    fn an_action_that_cannot_be_written_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("archive");
        let trail = Trail::open(&archive).unwrap();
        std::fs::rename(&archive, directory.path().join("aside")).unwrap();
        let action = Action::new(Actor::Appliance, Verb::Started, "");
        assert!(trail.record(&action).is_err());
        std::fs::rename(directory.path().join("aside"), &archive).unwrap();
        trail.record(&action).unwrap();
        assert_eq!(entries(&archive, 0).unwrap().len(), 1);
    }

    #[test]
    fn no_two_verbs_are_one_word() {
        let words: std::collections::BTreeSet<&str> =
            Verb::ALL.iter().map(|verb| verb.name()).collect();
        assert_eq!(words.len(), Verb::ALL.len());
    }
}
