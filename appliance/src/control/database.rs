//! The control plane's database: what people decided, which outlives the process.
//!
//! It opens the file and gives out connections; what the tables mean is known to their owners.
//! Nothing in it can be made again from other files, so a damaged one is never set aside: the
//! appliance does not start with it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

/// Its name in the state directory.
pub const DATABASE: &str = "control.sqlite";

/// How long a connection waits for the transaction of another one. Each is a few rows long.
const BUSY_WITHIN: Duration = Duration::from_secs(5);

/// Which part of it belongs to whom, and in which form.
const PARTS: &str =
    "CREATE TABLE IF NOT EXISTS parts (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT";

/// The database, opened and found sound. Per process.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
}

/// The tables of one owner.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub name: &'static str,
    /// Of `schema`. Tables of another version are not touched: the appliance does not start.
    pub version: i64,
    /// Statements that make the tables.
    pub schema: &'static str,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("cannot make {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot {operation} {}", path.display())]
    Sqlite {
        operation: &'static str,
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{}: the tables of {part} have version {found}, this program knows {known}",
        path.display())]
    Version {
        path: PathBuf,
        part: &'static str,
        found: i64,
        known: i64,
    },
}

impl Database {
    /// Opens the database at `path`, or makes an empty one.
    ///
    /// # Errors
    /// When the file is there and is not a sound database, an empty file included: to go on
    /// without what people decided would let in whom they kept out.
    pub fn open(path: PathBuf) -> Result<Self, DatabaseError> {
        if !path.try_exists().unwrap_or(true) {
            create(&path).map_err(|source| DatabaseError::Create {
                path: path.clone(),
                source,
            })?;
        }
        let database = Self { path };
        let is_empty = fs::metadata(&database.path).is_ok_and(|file| file.len() == 0);
        if is_empty {
            return Err(database.damaged("it is empty"));
        }
        let connection = database.connect()?;
        let fail = |source| database.error("read", source);
        let verdict: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(fail)?;
        if verdict != "ok" {
            return Err(database.damaged(&verdict));
        }
        Ok(database)
    }

    /// A connection for the owner of `part`, whose tables are there.
    ///
    /// # Errors
    /// When they cannot be made, or are of another version.
    pub fn part(&self, part: &Part) -> Result<Connection, DatabaseError> {
        let mut connection = self.connect()?;
        let fail = |source| self.error("write", source);
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(fail)?;
        let found: Option<i64> = transaction
            .query_row(
                "SELECT version FROM parts WHERE name = ?1",
                [part.name],
                |row| row.get(0),
            )
            .optional()
            .map_err(fail)?;
        match found {
            Some(version) if version == part.version => {}
            Some(found) => {
                return Err(DatabaseError::Version {
                    path: self.path.clone(),
                    part: part.name,
                    found,
                    known: part.version,
                });
            }
            None => {
                transaction.execute_batch(part.schema).map_err(fail)?;
                transaction
                    .execute(
                        "INSERT INTO parts (name, version) VALUES (?1, ?2)",
                        (part.name, part.version),
                    )
                    .map_err(fail)?;
            }
        }
        transaction.commit().map_err(fail)?;
        Ok(connection)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn connect(&self) -> Result<Connection, DatabaseError> {
        connect(&self.path).map_err(|source| self.error("open", source))
    }

    fn error(&self, operation: &'static str, source: rusqlite::Error) -> DatabaseError {
        DatabaseError::Sqlite {
            operation,
            path: self.path.clone(),
            source,
        }
    }

    fn damaged(&self, what: &str) -> DatabaseError {
        DatabaseError::Damaged {
            path: self.path.clone(),
            what: what.to_owned(),
        }
    }
}

/// Makes an empty database that appears whole or not at all, so that an empty file is never ours.
fn create(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory)?;
    let unfinished = path.with_extension(format!("new.{}", std::process::id()));
    // Left over by a process of the same id that died in between.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    let made = Connection::open(&unfinished).and_then(|connection| {
        connection.execute_batch(PARTS)?;
        connection.close().map_err(|(_, error)| error)
    });
    made.map_err(io::Error::other)?;
    File::open(&unfinished)?.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Not CREATE: a file that went away meanwhile is not replaced by an empty one.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WITHIN)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Each commit is on the disk before it is acknowledged to anybody.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NUMBERS: Part = Part {
        name: "numbers",
        version: 1,
        schema: "CREATE TABLE numbers (n INTEGER NOT NULL) STRICT",
    };

    fn sum(connection: &Connection) -> i64 {
        let query = "SELECT coalesce(sum(n), 0) FROM numbers";
        connection.query_row(query, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_is_written_is_there_when_it_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE);
        let database = Database::open(path.clone()).unwrap();
        let connection = database.part(&NUMBERS).unwrap();
        connection
            .execute("INSERT INTO numbers VALUES (7)", [])
            .unwrap();
        // A second owner and a second connection of the first.
        assert_eq!(sum(&database.part(&NUMBERS).unwrap()), 7);
        drop(connection);
        let again = Database::open(path.clone()).unwrap();
        assert_eq!(sum(&again.part(&NUMBERS).unwrap()), 7);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_or_empty_file_is_refused_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE);
        let database = Database::open(path.clone()).unwrap();
        drop(database.part(&NUMBERS).unwrap());
        let sound = fs::read(&path).unwrap();
        let mut torn = sound.clone();
        let second_page = 4096;
        torn[second_page..second_page + 512].fill(0xa5);
        for damaged in [&b""[..], b"not a database, but long enough", &torn] {
            fs::write(&path, damaged).unwrap();
            let opened = Database::open(path.clone());
            assert!(
                matches!(
                    opened,
                    Err(DatabaseError::Damaged { .. } | DatabaseError::Sqlite { .. })
                ),
                "{opened:?}"
            );
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn tables_of_another_version_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path().join(DATABASE)).unwrap();
        drop(database.part(&NUMBERS).unwrap());
        let later = Part {
            version: 2,
            ..NUMBERS
        };
        assert!(matches!(
            database.part(&later),
            Err(DatabaseError::Version {
                found: 1,
                known: 2,
                ..
            })
        ));
    }
}
