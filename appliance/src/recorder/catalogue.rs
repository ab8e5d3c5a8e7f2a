//! The catalogue's reading side: sessions and refused logins, found by whom, where and when.
//!
//! It never writes; what it shows is as fresh as the last [`super::JournalHandle::flush`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::pattern::{Candidate, Pattern};
use rusqlite::types::{ToSql, Value};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use serde::Serialize;

use super::format::{Counters, EndReason};
use super::index::{CatalogueError, SCHEMA_VERSION, signed, unsigned};
use super::session_id::{SESSION_ID_CHARS, SessionId};

/// Rows that one question is answered with when it sets no limit.
pub const ROWS_DEFAULT: u32 = 100;

/// Rows that one question may ask for.
pub const ROWS_MAX: u32 = 10_000;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    Live,
    Ended,
    /// The process died, or the power failed: there is no end record.
    Interrupted,
}

impl SessionState {
    const ALL: [Self; 3] = [Self::Live, Self::Ended, Self::Interrupted];

    /// The word in the catalogue and in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ended => "ended",
            Self::Interrupted => "interrupted",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A session as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    pub session: SessionId,
    /// Microseconds since 1970, as the other times.
    pub started: u64,
    pub last_seen: u64,
    /// For an interrupted session, when it was last seen.
    pub ended: Option<u64>,
    pub state: SessionState,
    /// The name of an [`super::EndReason`].
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
    pub shard: u16,
    pub read_only: bool,
    pub counters: Counters,
    /// Commands that people were asked about.
    pub holds: u64,
}

/// A refused login as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEntry {
    pub id: SessionId,
    pub at: u64,
    pub reason: String,
    pub peer: String,
    pub protocol: String,
    pub target: Option<String>,
    pub user: Option<String>,
    pub application: Option<String>,
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub name: Option<String>,
}

/// Which sessions to list; everything that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Subject or name of the agent.
    pub agent: Option<String>,
    pub target: Option<String>,
    pub state: Option<SessionState>,
    /// Started at this time or later, in microseconds since 1970.
    pub since: Option<u64>,
    /// Started before this time.
    pub until: Option<u64>,
    /// Did something of one of these classes, or tried to; none means anything.
    pub classes: Vec<String>,
    /// Did something to a table that fits, or tried to. A session with more tables than are kept
    /// fits too.
    pub table: Option<Pattern>,
    /// Only sessions in which something was refused.
    pub denied: bool,
    /// Only sessions in which a person was asked.
    pub held: bool,
    /// Only sessions that ended for this reason.
    pub ended: Option<EndReason>,
    /// Only sessions that started after this one.
    pub after: Option<SessionId>,
    /// Only sessions before this one in the list, for the next page.
    pub before: Option<SessionId>,
    /// At most this many; [`ROWS_DEFAULT`] when not set, never more than [`ROWS_MAX`].
    pub limit: Option<u32>,
}

/// A part of a journal file that holds records of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtentEntry {
    pub(super) file: String,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// A read-only connection to the catalogue. Not for shards: questions go to the disk.
pub struct Catalogue {
    connection: Connection,
    path: PathBuf,
}

const SESSION_COLUMNS: &str = "id, started, last_seen, ended, state, end_reason, issuer, subject, \
     name, groups, target, protocol, user, application, peer, shard, read_only, commands, denials, \
     holds, rows, bytes_received, bytes_sent";

/// Between the time in a session's id and that of its first record lies less than this, and a step
/// of the clock. Ids narrow a search by time; the times decide.
const ID_TIME_SLACK: Duration = Duration::from_secs(600);

/// How an object is recorded that may be any table.
const ANY_TABLE: &str = "any table";

impl Catalogue {
    /// Opens the catalogue that a [`super::JournalThread`] keeps at `path`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, CatalogueError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let catalogue = Connection::open_with_flags(path, flags)
            .and_then(|connection| {
                connection.busy_timeout(Duration::from_secs(5))?;
                Ok(connection)
            })
            .map_err(|source| CatalogueError::Database {
                operation: "open",
                path: path.to_owned(),
                source,
            })?;
        let catalogue = Self {
            connection: catalogue,
            path: path.to_owned(),
        };
        let version = catalogue
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0));
        match version.map_err(|source| catalogue.error(source))? {
            SCHEMA_VERSION => Ok(catalogue),
            found => Err(CatalogueError::Version { found }),
        }
    }

    fn error(&self, source: rusqlite::Error) -> CatalogueError {
        CatalogueError::Database {
            operation: "read",
            path: self.path.clone(),
            source,
        }
    }

    /// Sessions that pass `filter`, the latest first.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionEntry>, CatalogueError> {
        let (query, values) = self.search(filter)?;
        let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        self.rows(&query, &values, session_entry)
    }

    /// The question that finds the sessions of `filter`, with its values. Every condition has an
    /// index.
    pub(super) fn search(
        &self,
        filter: &SessionFilter,
    ) -> Result<(String, Vec<Value>), CatalogueError> {
        let mut conditions = vec!["true".to_owned()];
        let mut values: Vec<Value> = Vec::new();
        let mut must = |condition: &str, of: &[Value]| {
            conditions.push(condition.to_owned());
            values.extend_from_slice(of);
        };
        if let Some(agent) = &filter.agent {
            let agent = Value::from(agent.clone());
            must("(subject = ? OR name = ?)", &[agent.clone(), agent]);
        }
        if let Some(target) = &filter.target {
            must("target = ?", &[target.clone().into()]);
        }
        if let Some(state) = filter.state {
            must("state = ?", &[state.name().to_owned().into()]);
        }
        if let Some(since) = filter.since {
            let (first, _) = id_range(since, since);
            must(
                "(id >= ? AND started >= ?)",
                &[first.into(), signed(since).into()],
            );
        }
        if let Some(until) = filter.until {
            let (_, end) = id_range(until, until);
            must(
                "(id < ? AND started < ?)",
                &[end.into(), signed(until).into()],
            );
        }
        if !filter.classes.is_empty() {
            let classes = serde_json::Value::from(filter.classes.clone()).to_string();
            must(
                "id IN (SELECT session FROM session_classes
                        WHERE class IN (SELECT value FROM json_each(?)))",
                &[classes.into()],
            );
        }
        if let Some(pattern) = &filter.table {
            let objects = serde_json::Value::from(self.objects(pattern)?).to_string();
            must(
                "id IN (SELECT session FROM session_objects
                        WHERE object IN (SELECT value FROM json_each(?))
                        UNION ALL SELECT id FROM sessions WHERE objects_left_out > 0)",
                &[objects.into()],
            );
        }
        if filter.denied {
            must("denials > 0", &[]);
        }
        if filter.held {
            must("holds > 0", &[]);
        }
        if let Some(ended) = filter.ended {
            must("end_reason = ?", &[ended.name().to_owned().into()]);
        }
        if let Some(after) = filter.after {
            must("id > ?", &[after.to_string().into()]);
        }
        if let Some(before) = filter.before {
            must("id < ?", &[before.to_string().into()]);
        }
        let limit = i64::from(filter.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX));
        values.push(limit.into());
        let conditions = conditions.join(" AND ");
        let query = format!(
            "SELECT {SESSION_COLUMNS} FROM sessions WHERE {conditions} ORDER BY id DESC LIMIT ?"
        );
        Ok((query, values))
    }

    /// Numbers of the recorded objects that are, or may be, tables of `pattern`.
    fn objects(&self, pattern: &Pattern) -> Result<Vec<i64>, CatalogueError> {
        let objects = self.rows("SELECT id, name FROM objects", &[], |row| {
            let entry = || Ok((row.get(0)?, row.get::<_, String>(1)?));
            entry().map_err(|_: rusqlite::Error| CatalogueError::Row)
        })?;
        let fitting = objects
            .into_iter()
            .filter(|(_, name)| may_be(name, pattern));
        Ok(fitting.map(|(id, _)| id).collect())
    }

    /// One session; `None` when the catalogue does not know it.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn session(&self, session: SessionId) -> Result<Option<SessionEntry>, CatalogueError> {
        let query = format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ?1");
        self.connection
            .query_row(&query, [session.to_string()], |row| Ok(session_entry(row)))
            .optional()
            .map_err(|source| self.error(source))?
            .transpose()
    }

    /// Sessions whose id starts with `prefix`, at most two: enough to say that it is not enough.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn sessions_named(&self, prefix: &str) -> Result<Vec<SessionEntry>, CatalogueError> {
        let prefix = prefix.to_ascii_uppercase();
        let is_sound = (1..=SESSION_ID_CHARS).contains(&prefix.len())
            && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_sound {
            return Ok(Vec::new());
        }
        // No character of an id sorts behind `Z`, so this ends the range of the prefix.
        let end = format!("{prefix}[");
        let query = format!(
            "SELECT {SESSION_COLUMNS} FROM sessions WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 2"
        );
        self.rows(&query, &[&prefix as &dyn ToSql, &end], session_entry)
    }

    /// Refused logins since a time in microseconds since 1970, the latest first.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn refused_logins(
        &self,
        since: u64,
        limit: u32,
    ) -> Result<Vec<RefusedEntry>, CatalogueError> {
        self.rows(
            "SELECT id, at, reason, peer, protocol, target, user, application, issuer, subject, name
             FROM refused_logins WHERE at >= ?1 ORDER BY id DESC LIMIT ?2",
            &[&signed(since) as &dyn ToSql, &limit.min(ROWS_MAX)],
            refused_entry,
        )
    }

    /// Hours from `since` to `until` with refused logins in them, counted from 1970. The times are in
    /// microseconds.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub(crate) fn refused_login_hours(
        &self,
        since: u64,
        until: u64,
    ) -> Result<Vec<u64>, CatalogueError> {
        let (first, end) = id_range(since, until);
        self.rows(
            "SELECT DISTINCT at / 3600000000 FROM refused_logins
             WHERE id >= ?1 AND id < ?2 AND at >= ?3 AND at < ?4 ORDER BY 1",
            &[&first as &dyn ToSql, &end, &signed(since), &signed(until)],
            |row| row.get(0).map(unsigned).map_err(|_| CatalogueError::Row),
        )
    }

    /// A page of the refused logins from `since` to `until`, the earliest first.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub(crate) fn refused_logins_between(
        &self,
        since: u64,
        until: u64,
        after: Option<SessionId>,
    ) -> Result<Vec<RefusedEntry>, CatalogueError> {
        let (first, end) = id_range(since, until);
        let after = after.map(|id| id.to_string());
        self.rows(
            "SELECT id, at, reason, peer, protocol, target, user, application, issuer, subject, name
             FROM refused_logins
             WHERE id >= ?1 AND id < ?2 AND at >= ?3 AND at < ?4 AND (?5 IS NULL OR id > ?5)
             ORDER BY id LIMIT ?6",
            &[
                &first as &dyn ToSql,
                &end,
                &signed(since),
                &signed(until),
                &after,
                &ROWS_DEFAULT,
            ],
            refused_entry,
        )
    }

    /// Where the records of a session are, in their order.
    pub(super) fn extents(&self, session: SessionId) -> Result<Vec<ExtentEntry>, CatalogueError> {
        self.rows(
            "SELECT files.name, first, last FROM extents JOIN files ON files.id = extents.file
             WHERE session = ?1 ORDER BY files.sequence",
            &[&session.to_string() as &dyn ToSql],
            |row| {
                let entry = || {
                    Ok(ExtentEntry {
                        file: row.get(0)?,
                        first: unsigned(row.get(1)?),
                        last: unsigned(row.get(2)?),
                    })
                };
                entry().map_err(|_: rusqlite::Error| CatalogueError::Row)
            },
        )
    }

    fn rows<T>(
        &self,
        query: &str,
        values: &[&dyn ToSql],
        entry: impl Fn(&Row<'_>) -> Result<T, CatalogueError>,
    ) -> Result<Vec<T>, CatalogueError> {
        let mut statement = self
            .connection
            .prepare_cached(query)
            .map_err(|source| self.error(source))?;
        let rows = statement
            .query_map(values, |row| Ok(entry(row)))
            .map_err(|source| self.error(source))?;
        rows.map(|row| row.map_err(|source| self.error(source))?)
            .collect()
    }
}

/// Ids that were given from `since` to `until`, in microseconds since 1970, or about then.
fn id_range(since: u64, until: u64) -> (String, String) {
    let earliest = Duration::from_micros(since).saturating_sub(ID_TIME_SLACK);
    let latest = Duration::from_micros(until).saturating_add(ID_TIME_SLACK);
    (
        SessionId::first_at(earliest).to_string(),
        SessionId::first_at(latest).to_string(),
    )
}

/// Whether an object, as it is recorded, may be a table of `pattern`. A schema that the statement
/// did not tell may be any.
fn may_be(object: &str, pattern: &Pattern) -> bool {
    let fits = |schema, name| {
        pattern.may_match(Candidate {
            schema,
            name: Some(name),
        })
    };
    if object == ANY_TABLE {
        return true;
    }
    if !object.contains('.') {
        return !object.ends_with("()") && fits(None, object);
    }
    // Names are recorded without quotes: where there are several points, each may divide.
    let divided = object.match_indices('.').any(|(at, _)| {
        let (schema, name) = (object.get(..at), object.get(at + 1..).unwrap_or_default());
        fits(schema.filter(|schema| *schema != "*"), name)
    });
    divided && !object.ends_with("()")
}

/// Whether the catalogue at `path` accounts for the first `bytes` of a journal file, so that it can
/// go. Not when it cannot be asked.
pub(crate) fn is_indexed(path: &Path, file: &str, bytes: u64) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let indexed = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection
            .query_row("SELECT indexed FROM files WHERE name = ?1", [file], |row| {
                row.get(0).map(unsigned)
            })
            .optional()
    });
    matches!(indexed, Ok(Some(indexed)) if indexed >= bytes)
}

fn session_entry(row: &Row<'_>) -> Result<SessionEntry, CatalogueError> {
    let id: String = field(row, "id")?;
    let state: String = field(row, "state")?;
    let groups: String = field(row, "groups")?;
    let number = |name| field::<i64>(row, name).map(unsigned);
    Ok(SessionEntry {
        session: id.parse().map_err(|_| CatalogueError::Row)?,
        started: number("started")?,
        last_seen: number("last_seen")?,
        ended: field::<Option<i64>>(row, "ended")?.map(unsigned),
        state: SessionState::from_name(&state).ok_or(CatalogueError::Row)?,
        end_reason: field(row, "end_reason")?,
        issuer: field(row, "issuer")?,
        subject: field(row, "subject")?,
        name: field(row, "name")?,
        groups: serde_json::from_str(&groups).map_err(|_| CatalogueError::Row)?,
        target: field(row, "target")?,
        protocol: field(row, "protocol")?,
        user: field(row, "user")?,
        application: field(row, "application")?,
        peer: field(row, "peer")?,
        shard: field(row, "shard")?,
        read_only: field(row, "read_only")?,
        counters: Counters {
            commands: number("commands")?,
            denials: number("denials")?,
            // Kept in the recording alone.
            foreshadowed: 0,
            rows: number("rows")?,
            bytes_received: number("bytes_received")?,
            bytes_sent: number("bytes_sent")?,
        },
        holds: number("holds")?,
    })
}

fn refused_entry(row: &Row<'_>) -> Result<RefusedEntry, CatalogueError> {
    let id: String = field(row, "id")?;
    Ok(RefusedEntry {
        id: id.parse().map_err(|_| CatalogueError::Row)?,
        at: unsigned(field(row, "at")?),
        reason: field(row, "reason")?,
        peer: field(row, "peer")?,
        protocol: field(row, "protocol")?,
        target: field(row, "target")?,
        user: field(row, "user")?,
        application: field(row, "application")?,
        issuer: field(row, "issuer")?,
        subject: field(row, "subject")?,
        name: field(row, "name")?,
    })
}

fn field<T: rusqlite::types::FromSql>(row: &Row<'_>, name: &str) -> Result<T, CatalogueError> {
    row.get(name).map_err(|_| CatalogueError::Row)
}
