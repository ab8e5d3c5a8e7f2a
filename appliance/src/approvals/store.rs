//! Where requests are kept, so that what people decided outlives the process.
//!
//! Behind a trait, for a store that several appliances share. What is kept has passed the same
//! concealment as recordings; what will run is in memory alone, since nothing runs after a restart.

use std::time::Duration;

use policy::approval::State;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::shown::Shown;
use crate::control::{Database, DatabaseError, Part};

/// Requests that one question is answered with when it sets no limit, and at most.
pub const LISTED_DEFAULT: u32 = 100;
pub const LISTED_MAX: u32 = 1000;

/// Times in seconds since 1970; `shown` is [`Shown`] as JSON, for others than the approver.
const PART: Part = Part {
    name: "approvals",
    version: 1,
    schema: "
CREATE TABLE approvals (
    id        TEXT PRIMARY KEY,
    state     TEXT NOT NULL,
    asked     INTEGER NOT NULL,
    finished  INTEGER,
    issuer    TEXT NOT NULL,
    subject   TEXT NOT NULL,
    name      TEXT NOT NULL,
    target    TEXT NOT NULL,
    shown     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX approvals_by_state ON approvals (state);
CREATE INDEX approvals_by_finished ON approvals (finished);
",
};

/// Why requests cannot be kept, or found again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {operation} requests for approval")]
    Database {
        operation: &'static str,
        source: rusqlite::Error,
    },
    #[error("a kept request cannot be read")]
    Row(#[source] serde_json::Error),
}

/// Which requests to list. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those that are open, or only those that are over.
    pub is_open: Option<bool>,
    pub state: Option<String>,
    /// Subject or name.
    pub requester: Option<String>,
    pub target: Option<String>,
    /// Only requests before this one in the list, for the next page.
    pub before: Option<String>,
    pub limit: Option<u32>,
}

/// Keeps requests.
pub trait Store: Send {
    /// Keeps a request in place of what is kept under its id. It is durable on return.
    ///
    /// # Errors
    /// It is as it was before.
    fn keep(&mut self, shown: &Shown) -> Result<(), StoreError>;

    /// Ends everything that is open: nobody waits any more for what was asked in another life.
    /// Returns how many there were.
    ///
    /// # Errors
    /// Nothing has changed.
    fn restart(&mut self, now: Duration) -> Result<usize, StoreError>;

    /// The request of that id.
    ///
    /// # Errors
    /// It cannot be read.
    fn find(&self, id: &str) -> Result<Option<Shown>, StoreError>;

    /// Requests, the latest first.
    ///
    /// # Errors
    /// They cannot be read.
    fn list(&self, filter: &Filter) -> Result<Vec<Shown>, StoreError>;

    /// Forgets what was over before `until`. Returns how many there were.
    ///
    /// # Errors
    /// Nothing is forgotten.
    fn forget(&mut self, until: Duration) -> Result<usize, StoreError>;
}

/// A table in the control plane's database.
pub struct SqliteStore {
    connection: Connection,
}

impl SqliteStore {
    /// The table of the control plane's database, which is made where there is none.
    ///
    /// # Errors
    /// The table cannot be made, or another version of this program made it.
    pub fn new(database: &Database) -> Result<Self, DatabaseError> {
        let connection = database.part(&PART)?;
        Ok(Self { connection })
    }
}

fn keep(connection: &Connection, shown: &Shown) -> Result<(), StoreError> {
    let json = serde_json::to_string(shown).map_err(StoreError::Row)?;
    let requester = &shown.requester;
    let kept = connection.prepare_cached(
        "INSERT OR REPLACE INTO approvals \
         (id, state, asked, finished, issuer, subject, name, target, shown) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    );
    let kept = kept.and_then(|mut statement| {
        statement.execute(params![
            shown.id,
            shown.state,
            signed(shown.asked),
            shown.finished.map(signed),
            requester.issuer,
            requester.subject,
            requester.name,
            shown.target,
            json,
        ])
    });
    kept.map(drop).map_err(|source| StoreError::Database {
        operation: "keep",
        source,
    })
}

impl Store for SqliteStore {
    fn keep(&mut self, shown: &Shown) -> Result<(), StoreError> {
        keep(&self.connection, shown)
    }

    fn restart(&mut self, now: Duration) -> Result<usize, StoreError> {
        let fail = |source| StoreError::Database {
            operation: "end",
            source,
        };
        let mut ended = 0;
        loop {
            let open = self.list(&Filter {
                is_open: Some(true),
                limit: Some(LISTED_MAX),
                ..Filter::default()
            })?;
            if open.is_empty() {
                return Ok(ended);
            }
            ended += open.len();
            let transaction = self.connection.transaction().map_err(fail)?;
            for mut shown in open {
                State::Restarted.name().clone_into(&mut shown.state);
                shown.finished = Some(now.as_secs());
                shown.is_awaited = false;
                keep(&transaction, &shown)?;
            }
            transaction.commit().map_err(fail)?;
        }
    }

    fn find(&self, id: &str) -> Result<Option<Shown>, StoreError> {
        let found = self
            .connection
            .query_row("SELECT shown FROM approvals WHERE id = ?1", [id], text)
            .optional()
            .map_err(|source| StoreError::Database {
                operation: "read",
                source,
            })?;
        found
            .map(|json| serde_json::from_str(&json).map_err(StoreError::Row))
            .transpose()
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Shown>, StoreError> {
        let mut conditions = vec!["1"];
        let mut values: Vec<&str> = Vec::new();
        match filter.is_open {
            Some(true) => conditions.push("state IN ('pending', 'approved')"),
            Some(false) => conditions.push("state NOT IN ('pending', 'approved')"),
            None => {}
        }
        for (condition, value) in [
            ("state = ?", &filter.state),
            ("target = ?", &filter.target),
            ("id < ?", &filter.before),
        ] {
            if let Some(value) = value {
                conditions.push(condition);
                values.push(value);
            }
        }
        if let Some(requester) = &filter.requester {
            conditions.push("(subject = ? OR name = ?)");
            values.extend([requester.as_str(), requester.as_str()]);
        }
        let limit = filter.limit.unwrap_or(LISTED_DEFAULT).min(LISTED_MAX);
        let query = format!(
            "SELECT shown FROM approvals WHERE {} ORDER BY id DESC LIMIT {limit}",
            conditions.join(" AND ")
        );
        let fail = |source| StoreError::Database {
            operation: "list",
            source,
        };
        let mut statement = self.connection.prepare_cached(&query).map_err(fail)?;
        let rows = statement
            .query_map(params_from_iter(values), text)
            .map_err(fail)?;
        rows.map(|row| {
            let json = row.map_err(fail)?;
            serde_json::from_str(&json).map_err(StoreError::Row)
        })
        .collect()
    }

    fn forget(&mut self, until: Duration) -> Result<usize, StoreError> {
        self.connection
            .execute(
                "DELETE FROM approvals WHERE finished < ?1",
                [signed(until.as_secs())],
            )
            .map_err(|source| StoreError::Database {
                operation: "forget",
                source,
            })
    }
}

fn text(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
