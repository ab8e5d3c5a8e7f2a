//! The archive's own index: which segments a session has, and how far each ring is sealed.
//!
//! It proves nothing and holds nothing that packs and heads do not: one that is lost or behind is
//! made again from them. Only the archivist writes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};
use thiserror::Error;

use super::chained::Hash;
use super::pack::{Subject, Table};
use crate::recorder::SessionId;

/// Name of the file in the archive.
pub(super) const FILE: &str = "index.sqlite";

/// Version of the tables. Another one is removed and the index made again.
const SCHEMA_VERSION: i64 = 1;

/// How long a reader waits for the writer, and the other way round.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
CREATE TABLE packs (
    number         INTEGER PRIMARY KEY,
    segments       INTEGER NOT NULL,
    removed        INTEGER NOT NULL DEFAULT 0   -- segments whose bodies are gone
);
CREATE TABLE segments (
    kind           INTEGER NOT NULL,
    id             BLOB NOT NULL,
    pack           INTEGER NOT NULL,
    place          INTEGER NOT NULL,            -- in the pack's table, from 0
    first_sequence INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    last_at        INTEGER NOT NULL,
    offset         INTEGER NOT NULL,
    stored_bytes   INTEGER NOT NULL,
    plain_bytes    INTEGER NOT NULL,
    chain_after    BLOB NOT NULL,
    removed        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, id, pack, place)
) WITHOUT ROWID;
CREATE INDEX segments_by_pack ON segments (pack, place);
-- What retention goes by: one row for each session, and for the refused logins of each ring.
CREATE TABLE subjects (
    kind           INTEGER NOT NULL,
    id             BLOB NOT NULL,
    ring           BLOB NOT NULL,
    last_at        INTEGER NOT NULL,
    stored_bytes   INTEGER NOT NULL,
    is_ended       INTEGER NOT NULL,
    subject        TEXT, name TEXT,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX subjects_by_age ON subjects (last_at);
CREATE TABLE rings (
    identity       BLOB PRIMARY KEY,
    position       INTEGER NOT NULL             -- everything before is sealed
) WITHOUT ROWID;
";

/// What the index failed at.
#[derive(Debug, Error)]
#[error("cannot {operation} the archive's index {}", path.display())]
pub struct IndexError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: rusqlite::Error,
}

/// Where a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pack: u64,
    pub(super) place: u64,
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    pub(super) offset: u64,
    pub(super) stored_bytes: u64,
    pub(super) plain_bytes: u64,
    pub(super) removed: bool,
}

/// Who a session belongs to, as its start says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) subject: String,
    pub(super) name: String,
}

/// A session, or the refused logins of a ring, as retention sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) subject: Subject,
    pub(super) ring: [u8; 16],
    pub(super) last_at: u64,
    pub(super) stored_bytes: u64,
    pub(super) is_ended: bool,
    pub(super) agent: Agent,
}

pub(super) struct Index {
    connection: Connection,
    path: PathBuf,
}

impl Index {
    /// Opens the index for writing, or makes it.
    pub(super) fn open(archive_directory: &Path) -> Result<Self, IndexError> {
        let path = archive_directory.join(FILE);
        match Self::prepare(&path) {
            Ok(connection) => Ok(Self { connection, path }),
            Err(error) => {
                // It is made again from the packs.
                tracing::warn!(%error, index = %path.display(), "the archive's index is made again");
                for suffix in ["", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    // What is not there need not go; what cannot go fails again below.
                    let _ = std::fs::remove_file(name);
                }
                let connection = Self::prepare(&path).map_err(|source| IndexError {
                    operation: "make",
                    path: path.clone(),
                    source,
                })?;
                Ok(Self { connection, path })
            }
        }
    }

    fn prepare(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        restrict(path);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            SCHEMA_VERSION => {}
            0 => connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))?,
            _ => return Err(rusqlite::Error::InvalidQuery),
        }
        Ok(connection)
    }

    /// Opens the index to read; `None` when there is none.
    pub(super) fn read(archive_directory: &Path) -> Result<Option<Self>, IndexError> {
        let path = archive_directory.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&path, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            let version: i64 =
                connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((connection, version))
        });
        match opened {
            Ok((connection, SCHEMA_VERSION)) => Ok(Some(Self { connection, path })),
            // It is being made, or another version of the program will make it again.
            Ok(_) => Ok(None),
            Err(source) => Err(IndexError {
                operation: "open",
                path,
                source,
            }),
        }
    }

    fn failed(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(rusqlite::Error) -> IndexError + use<> {
        let path = self.path.clone();
        move |source| IndexError {
            operation,
            path,
            source,
        }
    }

    /// The newest pack that is accounted for; 0 when there is none.
    pub(super) fn last_pack(&self) -> Result<u64, IndexError> {
        self.connection
            .query_row("SELECT coalesce(max(number), 0) FROM packs", [], |row| {
                row.get(0).map(unsigned)
            })
            .map_err(self.failed("read"))
    }

    /// Everything before this position of a ring is sealed.
    pub(super) fn sealed_position(&self, ring: [u8; 16]) -> Result<Option<u64>, IndexError> {
        self.connection
            .prepare_cached("SELECT position FROM rings WHERE identity = ?1")
            .and_then(|mut query| {
                query
                    .query_row([ring.as_slice()], |row| row.get(0).map(unsigned))
                    .optional()
            })
            .map_err(self.failed("read"))
    }

    /// Where the chain of a subject is, and the sequence that comes next.
    pub(super) fn chain(&self, subject: Subject) -> Result<Option<(Hash, u64)>, IndexError> {
        self.connection
            .prepare_cached(
                "SELECT chain_after, last_sequence FROM segments WHERE kind = ?1 AND id = ?2
                 ORDER BY pack DESC, place DESC LIMIT 1",
            )
            .and_then(|mut query| {
                query
                    .query_row(params![subject.kind(), subject.id()], |row| {
                        let last: i64 = row.get(1)?;
                        Ok((Hash(row.get(0)?), unsigned(last).saturating_add(1)))
                    })
                    .optional()
            })
            .map_err(self.failed("read"))
    }

    /// The segments of a subject that hold records from `sequence` on, in order.
    pub(super) fn segments(
        &self,
        subject: Subject,
        sequence: u64,
    ) -> Result<Vec<Place>, IndexError> {
        self.places(
            "WHERE kind = ?1 AND id = ?2 AND last_sequence >= ?3 ORDER BY first_sequence",
            params![subject.kind(), subject.id(), signed(sequence)],
        )
    }

    /// Subjects of the segments of a pack, as an index that proves nothing remembers them.
    pub(super) fn subjects_in(&self, pack: u64) -> Result<Vec<(Subject, Place)>, IndexError> {
        let query =
            format!("SELECT {COLUMNS}, kind, id FROM segments WHERE pack = ?1 ORDER BY place");
        let mut statement = self
            .connection
            .prepare_cached(&query)
            .map_err(self.failed("read"))?;
        let rows = statement
            .query_map([signed(pack)], |row| {
                Ok((Subject::of(row.get(8)?, row.get(9)?), place(row)?))
            })
            .map_err(self.failed("read"))?;
        rows.filter_map(|row| match row {
            Ok((subject, place)) => subject.map(|subject| Ok((subject, place))),
            Err(error) => Some(Err(self.failed("read")(error))),
        })
        .collect()
    }

    fn places(
        &self,
        condition: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Place>, IndexError> {
        let query = format!("SELECT {COLUMNS} FROM segments {condition}");
        self.connection
            .prepare_cached(&query)
            .and_then(|mut statement| statement.query_map(values, place)?.collect())
            .map_err(self.failed("read"))
    }

    /// Takes note of a pack that a head names.
    pub(super) fn add(
        &mut self,
        table: &Table,
        agent_of: &dyn Fn(SessionId) -> Option<Agent>,
    ) -> Result<(), IndexError> {
        let failed = self.failed("write to");
        let add = |transaction: &Transaction<'_>| {
            let number = signed(table.header.number);
            transaction.execute(
                "INSERT OR REPLACE INTO packs (number, segments) VALUES (?1, ?2)",
                params![number, table.header.segments],
            )?;
            for source in &table.sources {
                transaction
                    .prepare_cached(
                        "INSERT INTO rings (identity, position) VALUES (?1, ?2)
                         ON CONFLICT (identity) DO UPDATE
                         SET position = max(position, excluded.position)",
                    )?
                    .execute(params![source.ring, signed(source.to)])?;
            }
            for (place, segment) in table.segments.iter().enumerate() {
                let place = i64::try_from(place).unwrap_or(i64::MAX);
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO segments (kind, id, pack, place, first_sequence,
                            last_sequence, last_at, offset, stored_bytes, plain_bytes, chain_after)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                    )?
                    .execute(params![
                        segment.subject.kind(),
                        segment.subject.id(),
                        number,
                        place,
                        signed(segment.first_sequence),
                        signed(segment.last_sequence),
                        signed(segment.last_at),
                        signed(segment.offset),
                        signed(segment.stored_bytes),
                        signed(segment.plain_bytes),
                        segment.chain_after.0,
                    ])?;
                let agent = match segment.subject {
                    Subject::Session(session) => agent_of(session),
                    Subject::Refused(_) => None,
                };
                transaction
                    .prepare_cached(
                        "INSERT INTO subjects (kind, id, ring, last_at, stored_bytes, is_ended,
                            subject, name)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                         ON CONFLICT (kind, id) DO UPDATE
                         SET last_at = max(last_at, excluded.last_at),
                             stored_bytes = stored_bytes + excluded.stored_bytes,
                             is_ended = max(is_ended, excluded.is_ended),
                             subject = coalesce(subject, excluded.subject),
                             name = coalesce(name, excluded.name)",
                    )?
                    .execute(params![
                        segment.subject.kind(),
                        segment.subject.id(),
                        segment.ring,
                        signed(segment.last_at),
                        signed(segment.stored_bytes),
                        segment.is_end,
                        agent.as_ref().map(|agent| &agent.subject),
                        agent.as_ref().map(|agent| &agent.name),
                    ])?;
            }
            Ok::<_, rusqlite::Error>(())
        };
        self.connection
            .transaction()
            .and_then(|transaction| {
                add(&transaction)?;
                transaction.commit()
            })
            .map_err(failed)
    }

    /// What is kept, the oldest first, beginning behind `after`.
    pub(super) fn kept(&self, limit: u32, skip: u32) -> Result<Vec<Kept>, IndexError> {
        self.connection
            .prepare_cached(
                "SELECT kind, id, ring, last_at, stored_bytes, is_ended, subject, name
                 FROM subjects ORDER BY last_at, id LIMIT ?1 OFFSET ?2",
            )
            .and_then(|mut statement| {
                let rows = statement.query_map(params![limit, skip], kept)?;
                rows.filter_map(Result::transpose).collect()
            })
            .map_err(self.failed("read"))
    }

    /// Bytes of all bodies that are kept.
    pub(super) fn kept_bytes(&self) -> Result<u64, IndexError> {
        self.connection
            .query_row(
                "SELECT coalesce(sum(stored_bytes), 0) FROM subjects",
                [],
                |row| row.get(0).map(unsigned),
            )
            .map_err(self.failed("read"))
    }

    /// Takes note that the bodies of a subject are gone. Returns the packs that hold nothing more.
    pub(super) fn remove(
        &mut self,
        subject: Subject,
        places: &[(u64, u64)],
    ) -> Result<Vec<u64>, IndexError> {
        let failed = self.failed("write to");
        let mut packs: Vec<u64> = places.iter().map(|(pack, _)| *pack).collect();
        packs.sort_unstable();
        packs.dedup();
        let remove = |transaction: &Transaction<'_>| {
            for (pack, place) in places {
                let changed = transaction
                    .prepare_cached(
                        "UPDATE segments SET removed = 1
                         WHERE kind = ?1 AND id = ?2 AND pack = ?3 AND place = ?4 AND removed = 0",
                    )?
                    .execute(params![
                        subject.kind(),
                        subject.id(),
                        signed(*pack),
                        signed(*place)
                    ])?;
                transaction
                    .prepare_cached("UPDATE packs SET removed = removed + ?2 WHERE number = ?1")?
                    .execute(params![signed(*pack), i64::try_from(changed).unwrap_or(0)])?;
            }
            transaction.execute(
                "DELETE FROM subjects WHERE kind = ?1 AND id = ?2",
                params![subject.kind(), subject.id()],
            )?;
            let mut empty = Vec::new();
            for pack in &packs {
                let is_empty = transaction
                    .prepare_cached("SELECT removed >= segments FROM packs WHERE number = ?1")?
                    .query_row([signed(*pack)], |row| row.get(0))
                    .optional()?;
                if is_empty.unwrap_or(false) {
                    empty.push(*pack);
                }
            }
            Ok::<_, rusqlite::Error>(empty)
        };
        self.connection
            .transaction()
            .and_then(|transaction| {
                let empty = remove(&transaction)?;
                transaction.commit()?;
                Ok(empty)
            })
            .map_err(failed)
    }
}

const COLUMNS: &str = "pack, place, first_sequence, last_sequence, offset, stored_bytes, \
     plain_bytes, removed";

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    let number = |column| row.get(column).map(unsigned);
    Ok(Place {
        pack: number(0)?,
        place: number(1)?,
        first_sequence: number(2)?,
        last_sequence: number(3)?,
        offset: number(4)?,
        stored_bytes: number(5)?,
        plain_bytes: number(6)?,
        removed: row.get(7)?,
    })
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Option<Kept>> {
    let Some(subject) = Subject::of(row.get(0)?, row.get(1)?) else {
        return Ok(None);
    };
    Ok(Some(Kept {
        subject,
        ring: row.get(2)?,
        last_at: unsigned(row.get(3)?),
        stored_bytes: unsigned(row.get(4)?),
        is_ended: row.get(5)?,
        agent: Agent {
            subject: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
            name: row.get::<_, Option<String>>(7)?.unwrap_or_default(),
        },
    }))
}

/// What the index tells about agents is for its owner only.
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)) {
        tracing::warn!(%error, path = %path.display(), "cannot restrict the archive's index");
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
