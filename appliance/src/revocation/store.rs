//! Where revocations are kept: rows of the control plane's database, on the disk before anybody is
//! told of them.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::{Revocation, Revoked};
use crate::control::{Database, DatabaseError, Part};

const PART: Part = Part {
    name: "revocations",
    version: 1,
    // AUTOINCREMENT: the number of one that was lifted is not given to another.
    schema: "
CREATE TABLE revocations (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind    TEXT NOT NULL,        -- token, subject, agent, session, target
    issuer  TEXT,                 -- of a token, subject or agent
    name    TEXT NOT NULL,
    reason  TEXT,
    message TEXT,
    by      TEXT NOT NULL,
    at      INTEGER NOT NULL,     -- seconds since 1970, as `until`
    until   INTEGER
) STRICT;
",
};

/// Why revocations could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot {operation} the revocations")]
    Sqlite {
        operation: &'static str,
        source: rusqlite::Error,
    },
    #[error("revocation {id} is not understood")]
    Row { id: i64 },
}

/// The revocations on the disk. Blocking.
#[derive(Debug)]
pub struct RevocationStore {
    connection: Connection,
}

impl RevocationStore {
    /// # Errors
    /// When the database cannot be used.
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self {
            connection: database.part(&PART)?,
        })
    }

    /// All of them, in the order in which they were made.
    ///
    /// # Errors
    /// When they cannot be read, or one of them says nothing that this program understands: to
    /// leave it out would let in whom it keeps out.
    pub fn all(&self) -> Result<Vec<Arc<Revocation>>, StoreError> {
        let fail = |source| failed("read", source);
        let mut statement = self
            .connection
            .prepare(
                "SELECT id, kind, issuer, name, reason, message, by, at, until
                 FROM revocations ORDER BY id",
            )
            .map_err(fail)?;
        let rows = statement.query_map([], |row| Ok(revocation(row)));
        let mut all = Vec::new();
        for row in rows.map_err(fail)? {
            all.push(Arc::new(row.map_err(fail)??));
        }
        Ok(all)
    }

    /// Keeps a revocation under a number of its own. It is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written; then it is not kept.
    pub fn insert(&mut self, mut revocation: Revocation) -> Result<Arc<Revocation>, StoreError> {
        let revoked = &revocation.revoked;
        self.connection
            .execute(
                "INSERT INTO revocations (kind, issuer, name, reason, message, by, at, until)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    revoked.kind(),
                    revoked.issuer(),
                    revoked.name(),
                    revocation.reason,
                    revocation.message,
                    revocation.by,
                    signed(revocation.at),
                    revocation.until.map(signed),
                ],
            )
            .map_err(|source| failed("write", source))?;
        revocation.id = self.connection.last_insert_rowid();
        Ok(Arc::new(revocation))
    }

    /// Forgets those of these numbers.
    ///
    /// # Errors
    /// When that cannot be written; then all of them stay.
    pub fn remove(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        let mut removing = || {
            let transaction = self.connection.transaction()?;
            {
                let mut statement = transaction.prepare("DELETE FROM revocations WHERE id = ?1")?;
                for id in ids {
                    statement.execute([id])?;
                }
            }
            transaction.commit()
        };
        removing().map_err(|source| failed("remove", source))
    }

    /// Where it is kept, as far as that is a file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.connection.path().map(Path::new)
    }
}

fn revocation(row: &Row<'_>) -> Result<Revocation, StoreError> {
    let id: i64 = row.get("id").map_err(|source| failed("read", source))?;
    let read = || -> rusqlite::Result<Option<Revocation>> {
        let kind: String = row.get("kind")?;
        let Some(revoked) = Revoked::from_parts(&kind, row.get("issuer")?, row.get("name")?) else {
            return Ok(None);
        };
        Ok(Some(Revocation {
            id,
            revoked,
            reason: row.get("reason")?,
            message: row.get("message")?,
            by: row.get("by")?,
            at: unsigned(row.get("at")?),
            until: row.get::<_, Option<i64>>("until")?.map(unsigned),
        }))
    };
    match read() {
        Ok(Some(revocation)) => Ok(revocation),
        Ok(None) | Err(_) => Err(StoreError::Row { id }),
    }
}

fn failed(operation: &'static str, source: rusqlite::Error) -> StoreError {
    StoreError::Sqlite { operation, source }
}

/// SQLite knows no unsigned numbers; times stay far below.
fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn unsigned(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::DATABASE;

    fn wanted(revoked: Revoked, until: Option<u64>) -> Revocation {
        Revocation {
            id: 0,
            revoked,
            reason: Some("leaked".into()),
            message: None,
            by: "uid 0".into(),
            at: 5,
            until,
        }
    }

    fn target(name: &str) -> Revoked {
        Revoked::Target { name: name.into() }
    }

    #[test]
    fn every_kind_comes_back_as_it_was_kept_and_no_number_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE);
        let all = [
            Revoked::Token {
                issuer: "https://idp".into(),
                id: "jti".into(),
            },
            Revoked::Subject {
                issuer: "https://idp".into(),
                subject: "a'b\u{202e}".into(),
            },
            Revoked::Agent {
                issuer: "https://idp".into(),
                subject: "agent".into(),
            },
            Revoked::Session {
                id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            },
            target("orders"),
        ];
        let database = Database::open(path.clone()).unwrap();
        let mut store = RevocationStore::open(&database).unwrap();
        let kept: Vec<_> = all
            .iter()
            .map(|revoked| store.insert(wanted(revoked.clone(), Some(9))).unwrap())
            .collect();
        drop(store);
        let mut store = RevocationStore::open(&Database::open(path).unwrap()).unwrap();
        assert_eq!(store.all().unwrap(), kept);
        let last = kept.last().unwrap().id;
        store.remove(&[last]).unwrap();
        let next = store.insert(wanted(target("stock"), None)).unwrap();
        assert!(next.id > last);
        assert_eq!(store.all().unwrap().len(), all.len());
    }

    #[test]
    fn a_row_that_is_not_understood_is_an_error_and_not_left_out() {
        for row in [
            "('frobnicate', NULL, 'x', 'uid 0', 1)",
            "('token', NULL, 'x', 'uid 0', 1)",
            "('target', 'https://idp', 'x', 'uid 0', 1)",
            "('session', NULL, 'not an id', 'uid 0', 1)",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let database = Database::open(directory.path().join(DATABASE)).unwrap();
            let store = RevocationStore::open(&database).unwrap();
            let insert =
                format!("INSERT INTO revocations (kind, issuer, name, by, at) VALUES {row}");
            store.connection.execute(&insert, []).unwrap();
            assert!(matches!(store.all(), Err(StoreError::Row { id: 1 })));
        }
    }
}
