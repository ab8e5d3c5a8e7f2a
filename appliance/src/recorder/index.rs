//! The catalogue's writing side: what was committed to the journal, found again by session.
//!
//! It holds nothing that the journal files do not: a catalogue that is lost or damaged is made
//! again from them. Only the journal thread writes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use thiserror::Error;

use super::file::{FILE_HEADER_BYTES, FileHeader, JournalError, StoredFile, stored_files, widen};
use super::format::{
    ApprovalStep, CommandRecord, Counters, PrincipalNote, Record, RecordError, RecordHeader,
    RefusedLogin, SessionEnd, SessionStart, Verdict,
};
use super::session_id::SessionId;
use crate::archive::{SealedError, all_records};

/// Version of the tables. Another one is set aside and the catalogue made again.
///
/// 2 brought what sessions did and to what, and whether something was held.
pub(super) const SCHEMA_VERSION: i64 = 2;

/// Objects of one session that can be found by their name. A session with more is shown whatever
/// name is asked for, so that none is missed.
const OBJECTS_MAX: usize = 1000;

/// Classes of one session that can be found: more than policy has.
const CLASSES_MAX: usize = 64;

/// Sessions and refused logins that may wait to be written while the catalogue fails.
///
/// 65,536 of them take some 50 MB; beyond, the journal stops draining, so that nothing is
/// committed that cannot be found.
const WAITING_MAX: usize = 65_536;

/// SQLite's `application_id` of a catalogue that accounts for what was sealed before it was made.
const ACCOUNTS_FOR_ARCHIVE: i64 = 1;

/// Removes everything.
const CLEAR: &str = "
BEGIN;
DELETE FROM extents;
DELETE FROM files;
DELETE FROM session_classes;
DELETE FROM session_objects;
DELETE FROM objects;
DELETE FROM sessions;
DELETE FROM refused_logins;
COMMIT;
";

/// Sessions that are noted at once when the catalogue is made from the archive.
const SEALED_AT_ONCE: usize = 4096;

const SCHEMA: &str = "
CREATE TABLE files (
    id             INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,
    identity       BLOB NOT NULL,
    shard          INTEGER NOT NULL,
    sequence       INTEGER NOT NULL,
    begun          INTEGER NOT NULL,          -- microseconds since 1970, as all times here
    first_position INTEGER NOT NULL,
    end_position   INTEGER NOT NULL,          -- in the ring, behind the last record
    indexed        INTEGER NOT NULL           -- bytes of the file that the sessions account for
);
CREATE TABLE sessions (
    id             TEXT PRIMARY KEY,
    started        INTEGER NOT NULL,
    last_seen      INTEGER NOT NULL,
    ended          INTEGER,
    state          TEXT NOT NULL,             -- live, ended, interrupted
    end_reason     TEXT,
    issuer         TEXT, subject TEXT, name TEXT,
    groups         TEXT NOT NULL DEFAULT '[]',
    actors         TEXT NOT NULL DEFAULT '[]',
    token_id       TEXT,
    target         TEXT, protocol TEXT, user TEXT, application TEXT, peer TEXT,
    shard          INTEGER NOT NULL,
    read_only      INTEGER NOT NULL DEFAULT 0,
    policy         INTEGER NOT NULL DEFAULT 0,
    commands       INTEGER NOT NULL DEFAULT 0,
    denials        INTEGER NOT NULL DEFAULT 0,
    holds          INTEGER NOT NULL DEFAULT 0,
    objects_left_out INTEGER NOT NULL DEFAULT 0, -- more objects than are kept below
    rows           INTEGER NOT NULL DEFAULT 0,
    bytes_received INTEGER NOT NULL DEFAULT 0,
    bytes_sent     INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
-- Each index has the id behind its columns: what it finds is in the order of time.
CREATE INDEX sessions_by_subject ON sessions (subject);
CREATE INDEX sessions_by_name ON sessions (name);
CREATE INDEX sessions_by_target ON sessions (target);
CREATE INDEX sessions_by_state ON sessions (state);
CREATE INDEX sessions_by_end ON sessions (end_reason);
CREATE INDEX sessions_denied ON sessions (id) WHERE denials > 0;
CREATE INDEX sessions_held ON sessions (id) WHERE holds > 0;
CREATE INDEX sessions_left_out ON sessions (id) WHERE objects_left_out > 0;
-- What sessions did, and to what.
CREATE TABLE session_classes (
    session        TEXT NOT NULL,
    class          TEXT NOT NULL,
    PRIMARY KEY (session, class)
) WITHOUT ROWID;
CREATE INDEX session_classes_by_class ON session_classes (class);
CREATE TABLE objects (
    id             INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE       -- as recorded: public.orders, lower(), ...
);
CREATE TABLE session_objects (
    session        TEXT NOT NULL,
    object         INTEGER NOT NULL REFERENCES objects (id),
    PRIMARY KEY (session, object)
) WITHOUT ROWID;
CREATE INDEX session_objects_by_object ON session_objects (object);
-- Where the records of a session are: from its first to its last in each file.
CREATE TABLE extents (
    session        TEXT NOT NULL,
    file           INTEGER NOT NULL REFERENCES files (id),
    first          INTEGER NOT NULL,
    last           INTEGER NOT NULL,
    PRIMARY KEY (session, file)
) WITHOUT ROWID;
CREATE INDEX extents_by_file ON extents (file);
CREATE TABLE refused_logins (
    id             TEXT PRIMARY KEY,
    at             INTEGER NOT NULL,
    reason         TEXT NOT NULL,
    peer           TEXT NOT NULL,
    protocol       TEXT NOT NULL,
    target         TEXT, user TEXT, application TEXT,
    issuer         TEXT, subject TEXT, name TEXT
) WITHOUT ROWID;
";

/// Why the catalogue could not be written or read.
#[derive(Debug, Error)]
pub enum CatalogueError {
    #[error("cannot {operation} the catalogue {}", path.display())]
    Database {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("cannot set the damaged catalogue {} aside", path.display())]
    SetAside {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the catalogue is of version {found}, not {SCHEMA_VERSION}: `sallyport serve` makes it again"
    )]
    Version { found: i64 },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Sealed(#[from] Box<SealedError>),
    #[error("a row of the catalogue has a value that is not known")]
    Row,
}

/// Which file a batch is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePlace {
    pub(super) name: String,
    pub(super) header: FileHeader,
}

/// What a run of records in one file means for the catalogue.
#[derive(Debug)]
pub(super) struct Batch {
    place: FilePlace,
    /// Bytes of records in the batch.
    pub(super) bytes: u64,
    /// Bytes of the file once the batch is in it.
    pub(super) file_length: u64,
    pub(super) end_position: u64,
    /// No more batches of this file will come.
    pub(super) closes_file: bool,
    sessions: HashMap<SessionId, SessionChange>,
    refused: Vec<(SessionId, u64, RefusedLogin)>,
    unreadable: u64,
}

/// What is new about a session since its row was written.
#[derive(Clone, Debug, Default)]
struct SessionChange {
    started: Option<(u64, SessionStart)>,
    ended: Option<(u64, SessionEnd)>,
    counters: Counters,
    /// Commands that people were asked about.
    holds: u64,
    deeds: Deeds,
    first_seen: u64,
    last_seen: u64,
    shard: u16,
    extents: Vec<(String, Extent)>,
}

/// What a session did, and to what.
#[derive(Clone, Debug, Default)]
struct Deeds {
    classes: BTreeSet<String>,
    objects: BTreeSet<String>,
    /// There were more objects than are kept, here or in a record.
    left_out: bool,
    /// Digests of notes that were taken apart already: most commands of a session are alike.
    known: HashSet<u64>,
}

impl Deeds {
    fn note(&mut self, command: &CommandRecord<'_>) {
        if !self.known.insert(command.note_digest()) {
            return;
        }
        // What cannot be read here cannot be read in the replay either, and is shown there.
        let Ok(decision) = command.decision() else {
            return;
        };
        self.left_out |= decision.effects_left_out > 0;
        for effect in decision.effects {
            if self.classes.len() < CLASSES_MAX {
                self.classes.insert(effect.class);
            }
            if let Some(object) = effect.object {
                self.keep_object(object);
            }
        }
    }

    fn keep_object(&mut self, object: String) {
        if self.objects.len() < OBJECTS_MAX || self.objects.contains(&object) {
            self.objects.insert(object);
        } else {
            self.left_out = true;
        }
    }

    fn merge(&mut self, later: Self) {
        self.classes.extend(later.classes);
        self.left_out |= later.left_out;
        for object in later.objects {
            self.keep_object(object);
        }
        // A session that is not written for long has other notes all the time.
        if self.known.len() < OBJECTS_MAX {
            self.known.extend(later.known);
        }
    }
}

/// Offsets of the first and last record of a session in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    first: u64,
    last: u64,
}

impl Batch {
    /// What is sealed and in no journal file any more.
    fn sealed(identity: [u8; 16], shard: u16) -> Self {
        let header = FileHeader {
            identity,
            first_position: 0,
            unix_micros: 0,
            sequence: 0,
            shard,
        };
        Self::new(FilePlace {
            name: String::new(),
            header,
        })
    }

    pub(super) fn new(place: FilePlace) -> Self {
        let end_position = place.header.first_position;
        Self {
            place,
            bytes: 0,
            file_length: widen(FILE_HEADER_BYTES),
            end_position,
            closes_file: false,
            sessions: HashMap::new(),
            refused: Vec::new(),
            unreadable: 0,
        }
    }

    /// Where it is.
    pub(super) fn place(&self) -> &FilePlace {
        &self.place
    }

    /// Takes note of the record `body`, which is at `offset` of the file.
    pub(super) fn note(&mut self, body: &[u8], offset: u64) {
        if self.try_note(body, offset).is_err() {
            self.unreadable = self.unreadable.saturating_add(1);
        }
    }

    fn try_note(&mut self, body: &[u8], offset: u64) -> Result<(), RecordError> {
        let (header, fields) = RecordHeader::decode(body)?;
        let record = Record::decode(&header, fields)?;
        if let Record::RefusedLogin(refused) = record {
            self.refused
                .push((header.session, header.unix_micros, refused));
            return Ok(());
        }
        let change = self
            .sessions
            .entry(header.session)
            .or_insert_with(|| SessionChange {
                first_seen: header.unix_micros,
                shard: self.place.header.shard,
                extents: vec![(
                    self.place.name.clone(),
                    Extent {
                        first: offset,
                        last: offset,
                    },
                )],
                ..SessionChange::default()
            });
        change.last_seen = change.last_seen.max(header.unix_micros);
        if let Some((_, extent)) = change.extents.first_mut() {
            extent.last = offset;
        }
        change.count(&header, record);
        Ok(())
    }
}

impl SessionChange {
    fn count(&mut self, header: &RecordHeader, record: Record<'_>) {
        let counters = &mut self.counters;
        match record {
            Record::SessionStart(start) => self.started = Some((header.unix_micros, start)),
            Record::SessionEnd(end) => self.ended = Some((header.unix_micros, end)),
            Record::Command(command) => {
                counters.commands += u64::from(command.kind.runs());
                counters.denials += u64::from(command.verdict == Verdict::Refused);
                counters.bytes_received += widen(command.wire.len());
                self.deeds.note(&command);
            }
            Record::CommandRest { wire } => counters.bytes_received += widen(wire.len()),
            Record::Response { rows, wire } => {
                counters.rows = counters.rows.saturating_add(rows);
                counters.bytes_sent += widen(wire.len());
            }
            Record::Approval(note) => {
                let is_new = matches!(note.step, ApprovalStep::Asked | ApprovalStep::NotAsked);
                self.holds += u64::from(is_new);
            }
            Record::RefusedLogin(_) | Record::Unknown { .. } => {}
        }
    }

    /// Adds what came later.
    fn merge(&mut self, later: Self) {
        let Self {
            started,
            ended,
            counters,
            holds,
            deeds,
            last_seen,
            extents,
            ..
        } = later;
        self.holds += holds;
        self.deeds.merge(deeds);
        self.started = self.started.take().or(started);
        self.ended = ended.or_else(|| self.ended.take());
        self.last_seen = self.last_seen.max(last_seen);
        let sums = &mut self.counters;
        sums.commands += counters.commands;
        sums.denials += counters.denials;
        sums.rows = sums.rows.saturating_add(counters.rows);
        sums.bytes_received += counters.bytes_received;
        sums.bytes_sent += counters.bytes_sent;
        for (file, extent) in extents {
            match self.extents.iter_mut().find(|(known, _)| *known == file) {
                Some((_, known)) => known.last = extent.last,
                None => self.extents.push((file, extent)),
            }
        }
    }

    /// Whether somebody may be waiting to see this.
    fn is_news(&self) -> bool {
        self.started.is_some() || self.ended.is_some()
    }
}

/// The catalogue, writing side. On the journal thread.
///
/// Changes gather in memory. Starts and ends are written with every commit, counters of running
/// sessions now and then. How far a session's row reaches is known by its extents, so that a
/// crash in between counts nothing twice.
pub(super) struct Index {
    connection: Connection,
    path: PathBuf,
    changes: HashMap<SessionId, SessionChange>,
    files: HashMap<String, FileProgress>,
    refused: Vec<(SessionId, u64, RefusedLogin)>,
}

/// How far a file was taken note of, in memory.
#[derive(Clone, Debug)]
struct FileProgress {
    header: FileHeader,
    length: u64,
    end_position: u64,
    is_closed: bool,
}

impl Index {
    /// Opens the catalogue, or makes it. One that cannot be read is set aside first.
    pub(super) fn open(path: &Path) -> Result<Self, CatalogueError> {
        let connection = match open_database(path) {
            Ok(connection) => connection,
            Err(CatalogueError::Version { found }) => {
                let aside = set_aside(path)?;
                tracing::info!(
                    catalogue = %path.display(), aside = %aside.display(), found,
                    needed = SCHEMA_VERSION,
                    "the catalogue is of another version; it is made again from the recordings"
                );
                open_database(path)?
            }
            Err(CatalogueError::Database { source, .. }) if is_damage(&source) => {
                let aside = set_aside(path)?;
                tracing::error!(
                    catalogue = %path.display(), aside = %aside.display(), error = %source,
                    "the catalogue cannot be read; it is made again from the journal"
                );
                open_database(path)?
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            connection,
            path: path.to_owned(),
            changes: HashMap::new(),
            files: HashMap::new(),
            refused: Vec::new(),
        })
    }

    /// Takes note of what was committed; nothing is written yet.
    pub(super) fn apply(&mut self, batch: Batch) {
        if batch.unreadable > 0 {
            tracing::error!(
                file = batch.place.name,
                records = batch.unreadable,
                "records were journalled that the catalogue cannot read"
            );
        }
        let progress = FileProgress {
            header: batch.place.header,
            length: batch.file_length,
            end_position: batch.end_position,
            is_closed: batch.closes_file,
        };
        self.files.insert(batch.place.name, progress);
        for (session, change) in batch.sessions {
            match self.changes.entry(session) {
                std::collections::hash_map::Entry::Occupied(known) => {
                    known.into_mut().merge(change);
                }
                std::collections::hash_map::Entry::Vacant(new) => {
                    new.insert(change);
                }
            }
        }
        self.refused.extend(batch.refused);
    }

    /// Whether something waits that a reader would miss.
    pub(super) fn has_news(&self) -> bool {
        !self.refused.is_empty() || self.changes.values().any(SessionChange::is_news)
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty() || !self.refused.is_empty()
    }

    /// Whether so much waits that nothing more may be committed.
    pub(super) fn is_overfull(&self) -> bool {
        self.changes.len().saturating_add(self.refused.len()) > WAITING_MAX
    }

    /// Writes sessions that started or ended, and refused logins.
    pub(super) fn write_news(&mut self) -> Result<(), CatalogueError> {
        self.write(false)
    }

    /// Writes everything, and how far the files were taken note of.
    pub(super) fn write_all(&mut self) -> Result<(), CatalogueError> {
        self.write(true)
    }

    fn write(&mut self, everything: bool) -> Result<(), CatalogueError> {
        let error = |source| CatalogueError::Database {
            operation: "write to",
            path: self.path.clone(),
            source,
        };
        let transaction = self.connection.transaction().map_err(error)?;
        let written = write_changes(
            &transaction,
            &self.files,
            self.changes
                .iter()
                .filter(|(_, change)| everything || change.is_news()),
            &self.refused,
            everything,
        );
        written.and_then(|()| transaction.commit()).map_err(error)?;
        self.refused.clear();
        if everything {
            self.changes.clear();
            self.files.retain(|_, progress| !progress.is_closed);
        } else {
            self.changes.retain(|_, change| !change.is_news());
        }
        Ok(())
    }

    /// No more of a file will come.
    pub(super) fn close_file(&mut self, name: &str) {
        if let Some(progress) = self.files.get_mut(name) {
            progress.is_closed = true;
        }
    }

    /// Takes note that journal files are gone: their records are in the archive.
    pub(super) fn forget_files(&mut self, names: &[String]) -> Result<(), CatalogueError> {
        let error = self.error("write to");
        let transaction = self.connection.transaction().map_err(error)?;
        let forget = || {
            for name in names {
                transaction
                    .prepare_cached(
                        "DELETE FROM extents WHERE file = (SELECT id FROM files WHERE name = ?1)",
                    )?
                    .execute([name])?;
                transaction
                    .prepare_cached("DELETE FROM files WHERE name = ?1")?
                    .execute([name])?;
            }
            Ok(())
        };
        let forgotten = forget().and_then(|()| transaction.commit());
        forgotten.map_err(self.error("write to"))?;
        for name in names {
            self.files.remove(name);
        }
        Ok(())
    }

    /// Takes note that sessions are gone for good.
    pub(super) fn forget_sessions(&mut self, sessions: &[SessionId]) -> Result<(), CatalogueError> {
        let error = self.error("write to");
        let transaction = self.connection.transaction().map_err(error)?;
        let forget = || {
            for session in sessions {
                for query in [
                    "DELETE FROM extents WHERE session = ?1",
                    "DELETE FROM session_classes WHERE session = ?1",
                    "DELETE FROM session_objects WHERE session = ?1",
                    "DELETE FROM sessions WHERE id = ?1",
                ] {
                    transaction
                        .prepare_cached(query)?
                        .execute([session.to_string()])?;
                }
            }
            Ok(())
        };
        let forgotten = forget().and_then(|()| transaction.commit());
        forgotten.map_err(self.error("write to"))
    }

    fn error(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(rusqlite::Error) -> CatalogueError + use<> {
        let path = self.path.clone();
        move |source| CatalogueError::Database {
            operation,
            path,
            source,
        }
    }

    fn accounts_for_archive(&self) -> Result<bool, CatalogueError> {
        self.connection
            .pragma_query_value(None, "application_id", |row| row.get(0))
            .map(|id: i64| id == ACCOUNTS_FOR_ARCHIVE)
            .map_err(self.error("read"))
    }

    /// Makes a new catalogue from what is sealed. Returns how far each ring is, so that what the
    /// journal has still is not counted twice.
    fn catch_up_with_archive(
        &mut self,
        archive_directory: &Path,
    ) -> Result<HashMap<[u8; 16], u64>, CatalogueError> {
        let mut batches: HashMap<[u8; 16], Batch> = HashMap::new();
        let mut failed = None;
        let sealed = all_records(archive_directory, &mut |ring, shard, body| {
            let batch = batches
                .entry(ring)
                .or_insert_with(|| Batch::sealed(ring, shard));
            batch.note(body, 0);
            if batch.sessions.len().saturating_add(batch.refused.len()) < SEALED_AT_ONCE {
                return;
            }
            if let Some(full) = batches.remove(&ring)
                && let Err(error) = self.apply_sealed(full)
            {
                failed = Some(error);
            }
        })
        .map_err(Box::new)?;
        match failed {
            Some(error) => return Err(error),
            None => batches
                .into_values()
                .try_for_each(|batch| self.apply_sealed(batch))?,
        }
        Ok(sealed)
    }

    fn apply_sealed(&mut self, batch: Batch) -> Result<(), CatalogueError> {
        let name = batch.place.name.clone();
        self.apply(batch);
        // There is no such journal file.
        self.files.remove(&name);
        self.write_all()
    }

    /// Takes note of all that archive and journal files hold beyond what the catalogue accounts for,
    /// then marks sessions without an end as interrupted: their process is gone.
    ///
    /// Only at start, before anything is recorded.
    pub(super) fn catch_up(
        &mut self,
        journal_directory: &Path,
        archive_directory: &Path,
    ) -> Result<(), CatalogueError> {
        // A journal file goes when the catalogue accounts for it: only a new one lacks what is
        // sealed. One that a crash left half made is made again.
        let is_whole = self.accounts_for_archive()?;
        let sealed = if is_whole {
            HashMap::new()
        } else {
            self.connection
                .execute_batch(CLEAR)
                .map_err(self.error("write to"))?;
            self.catch_up_with_archive(archive_directory)?
        };
        let mut files = stored_files(journal_directory)?;
        self.forget_missing(&files)?;
        // A ring's files in their order, whatever the clock did meanwhile.
        files.sort_by_key(|file| (file.header.identity, file.header.sequence));
        let mut last: Option<([u8; 16], u64)> = None;
        for file in files {
            let identity = file.header.identity;
            let known_position = last
                .filter(|(known, _)| *known == identity)
                .map_or(0, |(_, position)| position)
                .max(sealed.get(&identity).copied().unwrap_or(0));
            let end_position = self.catch_up_with(&file, known_position)?;
            last = Some((identity, end_position.max(known_position)));
        }
        if !is_whole {
            self.connection
                .pragma_update(None, "application_id", ACCOUNTS_FOR_ARCHIVE)
                .map_err(self.error("write to"))?;
        }
        self.mark_interrupted()
    }

    /// Forgets files that were removed when nobody heard it.
    fn forget_missing(&mut self, files: &[StoredFile]) -> Result<(), CatalogueError> {
        let known: Vec<String> = self
            .connection
            .prepare("SELECT name FROM files")
            .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
            .map_err(self.error("read"))?;
        let is_missing = |name: &String| files.iter().all(|file| file.name != *name);
        let missing: Vec<String> = known.into_iter().filter(is_missing).collect();
        self.forget_files(&missing)
    }

    fn catch_up_with(
        &mut self,
        file: &StoredFile,
        known_position: u64,
    ) -> Result<u64, CatalogueError> {
        let database = |source| CatalogueError::Database {
            operation: "read",
            path: self.path.clone(),
            source,
        };
        let progress = file_progress(&self.connection, &file.name).map_err(database)?;
        let (indexed, indexed_position) = progress.unwrap_or_default();
        if indexed >= file.file_bytes && progress.is_some() {
            return Ok(indexed_position);
        }
        let known = known_extents(&self.connection, &file.name).map_err(database)?;
        let run = file.read(indexed, u64::MAX)?;
        let place = FilePlace {
            name: file.name.clone(),
            header: file.header,
        };
        let mut batch = Batch::new(place);
        batch.file_length = file.file_bytes;
        batch.closes_file = true;
        batch.end_position = indexed_position.max(file.header.first_position);
        let mut frames = run.frames();
        loop {
            let offset = run.offset().saturating_add(widen(frames.offset()));
            let frame = match frames.next() {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(damage)) => {
                    tracing::warn!(
                        file = file.name,
                        offset = run.offset() + widen(damage.offset),
                        bytes = damage.skipped_bytes,
                        "journal file has bytes that are no record: a write that was cut short, or damage"
                    );
                    continue;
                }
            };
            batch.end_position = frame.end();
            let body = frame.body.unwrap_or_default();
            let is_known = RecordHeader::decode(body).is_ok_and(|(header, _)| {
                known
                    .get(&header.session.to_string())
                    .is_some_and(|last| offset <= *last)
            });
            if !is_known && frame.position >= known_position {
                batch.note(body, offset);
            }
        }
        let end_position = batch.end_position;
        self.apply(batch);
        self.write_all()?;
        Ok(end_position)
    }

    fn mark_interrupted(&self) -> Result<(), CatalogueError> {
        self.connection
            .execute(
                "UPDATE sessions SET state = 'interrupted', ended = last_seen WHERE state = 'live'",
                [],
            )
            .map(|_| ())
            .map_err(|source| CatalogueError::Database {
                operation: "write to",
                path: self.path.clone(),
                source,
            })
    }
}

fn open_database(path: &Path) -> Result<Connection, CatalogueError> {
    let error = |operation| {
        move |source| CatalogueError::Database {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    let connection = Connection::open(path).map_err(error("open"))?;
    // Before SQLite makes its side files, which take their mode from this one.
    restrict(path).map_err(|source| JournalError::at("restrict", path)(source))?;
    let prepare = || {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // What a power failure takes from the catalogue, the journal gives back.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == 0 {
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))?;
            return Ok(SCHEMA_VERSION);
        }
        Ok(version)
    };
    match prepare().map_err(error("prepare"))? {
        SCHEMA_VERSION => Ok(connection),
        found => Err(CatalogueError::Version { found }),
    }
}

/// What the catalogue tells about agents is for its owner only.
fn restrict(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let damaged = [
        Some(ErrorCode::DatabaseCorrupt),
        Some(ErrorCode::NotADatabase),
    ];
    damaged.contains(&error.sqlite_error_code())
}

/// Renames the catalogue and its side files; returns the new name.
fn set_aside(path: &Path) -> Result<PathBuf, CatalogueError> {
    let stamp = runtime::unix_time().as_micros();
    let mut aside = PathBuf::new();
    for suffix in ["-wal", "-shm", ""] {
        let mut from = path.as_os_str().to_owned();
        from.push(suffix);
        let mut to = path.as_os_str().to_owned();
        to.push(format!(".old-{stamp}{suffix}"));
        aside = PathBuf::from(to);
        match fs::rename(&from, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CatalogueError::SetAside {
                    path: path.to_owned(),
                    source: error,
                });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(aside)
}

fn file_progress(connection: &Connection, name: &str) -> rusqlite::Result<Option<(u64, u64)>> {
    connection
        .query_row(
            "SELECT indexed, end_position FROM files WHERE name = ?1",
            [name],
            |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))),
        )
        .optional()
}

/// The last record of each session in a file that is accounted for already.
fn known_extents(connection: &Connection, name: &str) -> rusqlite::Result<HashMap<String, u64>> {
    let mut statement = connection.prepare(
        "SELECT session, last FROM extents JOIN files ON files.id = extents.file WHERE name = ?1",
    )?;
    let rows = statement.query_map([name], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
    rows.collect()
}

fn write_changes<'c>(
    transaction: &Transaction<'_>,
    files: &HashMap<String, FileProgress>,
    changes: impl Iterator<Item = (&'c SessionId, &'c SessionChange)>,
    refused: &[(SessionId, u64, RefusedLogin)],
    everything: bool,
) -> rusqlite::Result<()> {
    let mut file_ids = HashMap::new();
    for (name, progress) in files {
        file_ids.insert(
            name.as_str(),
            write_file(transaction, name, progress, everything)?,
        );
    }
    for (session, change) in changes {
        write_session(transaction, *session, change)?;
        for (name, extent) in &change.extents {
            if let Some(file) = file_ids.get(name.as_str()) {
                write_extent(transaction, *session, *file, *extent)?;
            }
        }
    }
    refused
        .iter()
        .try_for_each(|(id, at, refused)| write_refused(transaction, *id, *at, refused))
}

fn write_file(
    transaction: &Transaction<'_>,
    name: &str,
    progress: &FileProgress,
    is_indexed: bool,
) -> rusqlite::Result<i64> {
    let FileProgress {
        header,
        length,
        end_position,
        ..
    } = progress;
    let (indexed, end_position) = if is_indexed {
        (*length, *end_position)
    } else {
        (0, header.first_position)
    };
    transaction
        .prepare_cached(
            "INSERT INTO files (name, identity, shard, sequence, begun, first_position, end_position, indexed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (name) DO UPDATE SET indexed = max(indexed, excluded.indexed),
                                              end_position = max(end_position, excluded.end_position)
             RETURNING id",
        )?
        .query_row(
            params![
                name, header.identity, header.shard, header.sequence, signed(header.unix_micros),
                signed(header.first_position), signed(end_position), signed(indexed)
            ],
            |row| row.get(0),
        )
}

fn write_session(
    transaction: &Transaction<'_>,
    session: SessionId,
    change: &SessionChange,
) -> rusqlite::Result<()> {
    let id = session.to_string();
    transaction
        .prepare_cached(
            "INSERT INTO sessions (id, started, last_seen, state, shard) VALUES (?1, ?2, ?2, 'live', ?3)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![id, signed(change.first_seen), change.shard])?;
    if let Some((at, start)) = &change.started {
        write_start(transaction, &id, *at, start)?;
    }
    let counters = change.counters;
    transaction
        .prepare_cached(
            "UPDATE sessions SET last_seen = max(last_seen, ?2), commands = commands + ?3,
                denials = denials + ?4, rows = rows + ?5, bytes_received = bytes_received + ?6,
                bytes_sent = bytes_sent + ?7, holds = holds + ?8 WHERE id = ?1",
        )?
        .execute(params![
            id,
            signed(change.last_seen),
            signed(counters.commands),
            signed(counters.denials),
            signed(counters.rows),
            signed(counters.bytes_received),
            signed(counters.bytes_sent),
            signed(change.holds)
        ])?;
    write_deeds(transaction, &id, &change.deeds)?;
    if let Some((at, end)) = &change.ended {
        transaction
            .prepare_cached(
                "UPDATE sessions SET state = 'ended', ended = ?2, end_reason = ?3, rows = max(rows, ?4)
                 WHERE id = ?1",
            )?
            .execute(params![id, signed(*at), end.reason.name(), signed(end.counters.rows)])?;
    }
    Ok(())
}

/// Each of them once, however often they are written.
fn write_deeds(transaction: &Transaction<'_>, id: &str, deeds: &Deeds) -> rusqlite::Result<()> {
    let mut keep_class = transaction
        .prepare_cached("INSERT OR IGNORE INTO session_classes (session, class) VALUES (?1, ?2)")?;
    for class in &deeds.classes {
        keep_class.execute(params![id, class])?;
    }
    if deeds.objects.is_empty() && !deeds.left_out {
        return Ok(());
    }
    let kept: i64 = transaction
        .prepare_cached("SELECT count(*) FROM session_objects WHERE session = ?1")?
        .query_row([id], |row| row.get(0))?;
    let mut room = OBJECTS_MAX.saturating_sub(usize::try_from(kept).unwrap_or(OBJECTS_MAX));
    let mut left_out = deeds.left_out;
    let mut make_object = transaction.prepare_cached(
        "INSERT INTO objects (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name
         RETURNING id",
    )?;
    let mut keep_object = transaction.prepare_cached(
        "INSERT OR IGNORE INTO session_objects (session, object) VALUES (?1, ?2)",
    )?;
    for object in &deeds.objects {
        if room == 0 {
            left_out = true;
            break;
        }
        let object: i64 = make_object.query_row([object], |row| row.get(0))?;
        room = room.saturating_sub(keep_object.execute(params![id, object])?);
    }
    if left_out {
        transaction
            .prepare_cached("UPDATE sessions SET objects_left_out = 1 WHERE id = ?1")?
            .execute([id])?;
    }
    Ok(())
}

fn write_start(
    transaction: &Transaction<'_>,
    id: &str,
    at: u64,
    start: &SessionStart,
) -> rusqlite::Result<()> {
    let PrincipalNote {
        issuer,
        subject,
        name,
        token_id,
        ..
    } = &start.principal;
    transaction
        .prepare_cached(
            "UPDATE sessions SET started = ?2, issuer = ?3, subject = ?4, name = ?5, groups = ?6,
                actors = ?7, token_id = ?8, target = ?9, protocol = ?10, user = ?11,
                application = ?12, peer = ?13, shard = ?14, read_only = ?15, policy = ?16
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            signed(at),
            issuer,
            subject,
            name,
            groups_json(&start.principal),
            actors_json(&start.principal),
            token_id,
            start.target,
            start.protocol,
            start.user,
            start.application,
            start.peer,
            start.shard,
            start.read_only,
            signed(start.policy)
        ])
        .map(|_| ())
}

fn groups_json(principal: &PrincipalNote) -> String {
    serde_json::Value::from(principal.groups.clone()).to_string()
}

fn actors_json(principal: &PrincipalNote) -> String {
    let actors = principal
        .actors
        .iter()
        .map(|actor| serde_json::json!({ "issuer": actor.issuer, "subject": actor.subject }));
    serde_json::Value::Array(actors.collect()).to_string()
}

fn write_extent(
    transaction: &Transaction<'_>,
    session: SessionId,
    file: i64,
    extent: Extent,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO extents (session, file, first, last) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (session, file) DO UPDATE SET last = max(last, excluded.last)",
        )?
        .execute(params![
            session.to_string(),
            file,
            signed(extent.first),
            signed(extent.last)
        ])
        .map(|_| ())
}

fn write_refused(
    transaction: &Transaction<'_>,
    id: SessionId,
    at: u64,
    refused: &RefusedLogin,
) -> rusqlite::Result<()> {
    let principal = refused.principal.as_ref();
    transaction
        .prepare_cached(
            "INSERT INTO refused_logins (id, at, reason, peer, protocol, target, user, application,
                issuer, subject, name)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            id.to_string(),
            signed(at),
            refused.reason,
            refused.peer,
            refused.protocol,
            refused.target,
            refused.user,
            refused.application,
            principal.map(|principal| &principal.issuer),
            principal.map(|principal| &principal.subject),
            principal.map(|principal| &principal.name)
        ])
        .map(|_| ())
}

/// SQLite's integers are signed; what does not fit stands at the edge.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
