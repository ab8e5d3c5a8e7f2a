//! Legal holds: what retention may not remove.
//!
//! Few, set by people, and looked at before anything is removed. Who set and lifted them is in the
//! trail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::index::Kept;
use super::pack::Subject;
use super::trail::Actor;
use crate::recorder::SessionId;

/// Name of the file in the archive.
const FILE: &str = "holds.json";

/// Most holds at a time. Each is looked at for each session that is due.
const HOLDS_MAX: usize = 10_000;

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// One session, by its whole id.
    Session(String),
    /// All sessions of an agent, by subject or name, those to come too.
    Agent(String),
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session:{id}"),
            Self::Agent(name) => write!(f, "agent:{name}"),
        }
    }
}

/// A hold that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub held: Held,
    pub reason: String,
    pub by: Actor,
    /// Microseconds since 1970.
    pub at: u64,
}

fn may_place(holds: &[Hold], held: &Held) -> Result<(), HoldError> {
    if let Held::Session(id) = held
        && id.parse::<SessionId>().is_err()
    {
        return Err(HoldError::NotASession);
    }
    if holds.iter().any(|hold| hold.held == *held) {
        return Err(HoldError::HeldAlready { held: held.clone() });
    }
    if holds.len() >= HOLDS_MAX {
        return Err(HoldError::TooMany);
    }
    Ok(())
}

/// Why a hold was not changed.
#[derive(Debug, Error)]
pub enum HoldError {
    #[error("a session is held by its whole id, of 26 characters")]
    NotASession,
    #[error("{held} is held already")]
    HeldAlready { held: Held },
    #[error("{held} is not held")]
    NotHeld { held: Held },
    #[error("there are {HOLDS_MAX} holds already")]
    TooMany,
    #[error("the holds in {} cannot be read or written", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The holds of this process. Any thread but a shard.
#[derive(Clone)]
pub struct Holds {
    path: PathBuf,
    held: Arc<Mutex<Vec<Hold>>>,
}

impl Holds {
    /// Reads the holds of an archive. There need not be any.
    ///
    /// # Errors
    /// When they cannot be read: nothing may be removed then.
    pub fn open(archive_directory: &Path) -> Result<Self, HoldError> {
        let path = archive_directory.join(FILE);
        let failed = |source| HoldError::File {
            path: path.clone(),
            source,
        };
        let held = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(io::Error::from)
                .map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self {
            path,
            held: Arc::new(Mutex::new(held)),
        })
    }

    /// What is held now.
    #[must_use]
    pub fn list(&self) -> Vec<Hold> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Holds something from now on. Durable when this returns.
    ///
    /// # Errors
    /// What is held already, is no session, or cannot be written down.
    pub fn place(&self, hold: Hold) -> Result<(), HoldError> {
        self.change(|holds| {
            may_place(holds, &hold.held)?;
            holds.push(hold);
            Ok(())
        })
    }

    /// Whether something can be held: asked before the trail says that it is.
    ///
    /// # Errors
    /// Those of [`Self::place`] that are not the disk's.
    pub fn may_place(&self, held: &Held) -> Result<(), HoldError> {
        may_place(&self.list(), held)
    }

    /// Whether something can be released.
    ///
    /// # Errors
    /// When it is not held.
    pub fn may_release(&self, held: &Held) -> Result<(), HoldError> {
        if self.list().iter().any(|hold| hold.held == *held) {
            Ok(())
        } else {
            Err(HoldError::NotHeld { held: held.clone() })
        }
    }

    /// Lets go of something. Durable when this returns.
    ///
    /// # Errors
    /// What is not held, or cannot be written down.
    pub fn release(&self, held: &Held) -> Result<(), HoldError> {
        self.change(|holds| {
            let count = holds.len();
            holds.retain(|hold| hold.held != *held);
            if holds.len() == count {
                return Err(HoldError::NotHeld { held: held.clone() });
            }
            Ok(())
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Vec<Hold>) -> Result<(), HoldError>,
    ) -> Result<(), HoldError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = held.clone();
        change(&mut changed)?;
        self.write(&changed).map_err(|source| HoldError::File {
            path: self.path.clone(),
            source,
        })?;
        *held = changed;
        Ok(())
    }

    fn write(&self, holds: &[Hold]) -> io::Result<()> {
        let unfinished = self.path.with_extension("unfinished");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&serde_json::to_vec_pretty(holds)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, &self.path)?;
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Whether retention has to leave something alone.
    pub(super) fn cover(&self, kept: &Kept) -> bool {
        let holds = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Subject::Session(session) = kept.subject else {
            return false;
        };
        holds.iter().any(|hold| match &hold.held {
            Held::Session(id) => id.parse() == Ok(session),
            Held::Agent(name) => [&kept.agent.subject, &kept.agent.name].contains(&name),
        })
    }
}
