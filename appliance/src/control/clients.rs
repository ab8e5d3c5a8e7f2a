//! Programs that fetch tokens from the built-in issuer by themselves: who they are, and what for.
//!
//! A client has an id and a secret, of which a digest is kept, and gets tokens for one agent with
//! its groups or fewer. Making the tokens is the issuer's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codecs::postgres::auth::same_secret;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, OptionalExtension, params};

use super::database::{Database, DatabaseError, Part};
use crate::config::Secret;

/// Most clients that are kept. One stands for one program; more are made by a loop.
const CLIENTS_MAX: i64 = 10_000;

/// Random bytes of an id and of a secret. A secret is as hard to guess as a key, so that a plain
/// digest of it gives nothing away.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

const PART: Part = Part {
    name: "token clients",
    version: 1,
    schema: "
CREATE TABLE token_clients (
    id      TEXT PRIMARY KEY,
    secret  BLOB NOT NULL,     -- SHA-256
    agent   TEXT NOT NULL,
    groups  TEXT NOT NULL,     -- separated by commas, which no group has
    by_uid  INTEGER NOT NULL,
    at      INTEGER NOT NULL   -- seconds since 1970
) STRICT;
",
};

/// All clients of the process.
#[derive(Debug)]
pub struct TokenClients {
    connection: Mutex<Connection>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClient {
    pub id: String,
    pub agent: String,
    pub groups: Vec<String>,
    /// Who added it.
    pub by_uid: u32,
    /// Seconds since 1970.
    pub at: u64,
}

/// Why clients could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot {operation} the clients of the built-in issuer")]
    Sqlite {
        operation: &'static str,
        source: rusqlite::Error,
    },
    #[error("there are {CLIENTS_MAX} clients, which is the limit; remove some")]
    TooMany,
    #[error("the system gave no random numbers")]
    Random,
}

impl TokenClients {
    /// # Errors
    /// When the database cannot be used.
    pub fn open(database: &Database) -> Result<Self, ClientsError> {
        let connection = Mutex::new(database.part(&PART)?);
        Ok(Self { connection })
    }

    /// Adds a client. Its secret is given back here and nowhere else. Blocking, as all of these.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn add(
        &self,
        agent: &str,
        groups: &[String],
        by_uid: u32,
        at: u64,
    ) -> Result<(TokenClient, Secret), ClientsError> {
        let fail = |source| failed("write", source);
        let id = format!("sc-{}", random(ID_BYTES)?);
        let secret = random(SECRET_BYTES)?;
        let connection = self.connection();
        let count: i64 = connection
            .query_row("SELECT count(*) FROM token_clients", [], |row| row.get(0))
            .map_err(fail)?;
        if count >= CLIENTS_MAX {
            return Err(ClientsError::TooMany);
        }
        connection
            .execute(
                "INSERT INTO token_clients (id, secret, agent, groups, by_uid, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    id,
                    digest(&SHA256, secret.as_bytes()).as_ref(),
                    agent,
                    groups.join(","),
                    by_uid,
                    i64::try_from(at).unwrap_or(i64::MAX),
                ],
            )
            .map_err(fail)?;
        let client = TokenClient {
            id,
            agent: agent.to_owned(),
            groups: groups.to_vec(),
            by_uid,
            at,
        };
        Ok((client, Secret::new(secret.into_bytes())))
    }

    /// All of them, the oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn all(&self) -> Result<Vec<TokenClient>, ClientsError> {
        let fail = |source| failed("read", source);
        let connection = self.connection();
        let mut statement = connection
            .prepare("SELECT id, agent, groups, by_uid, at FROM token_clients ORDER BY at, id")
            .map_err(fail)?;
        let rows = statement.query_map([], client).map_err(fail)?;
        rows.collect::<Result<_, _>>().map_err(fail)
    }

    /// Removes one; whether there was one. Its tokens live on until they expire or are revoked.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn remove(&self, id: &str) -> Result<bool, ClientsError> {
        let removed = self
            .connection()
            .execute("DELETE FROM token_clients WHERE id = ?1", [id])
            .map_err(|source| failed("write", source))?;
        Ok(removed > 0)
    }

    /// The client of that id, if this is its secret.
    ///
    /// # Errors
    /// When it cannot be looked up.
    pub fn prove(&self, id: &str, secret: &[u8]) -> Result<Option<TokenClient>, ClientsError> {
        let found = self
            .connection()
            .query_row(
                "SELECT id, agent, groups, by_uid, at, secret FROM token_clients WHERE id = ?1",
                [id],
                |row| Ok((client(row)?, row.get::<_, Vec<u8>>(5)?)),
            )
            .optional()
            .map_err(|source| failed("read", source))?;
        let given = digest(&SHA256, secret);
        Ok(found
            .filter(|(_, kept)| same_secret(given.as_ref(), kept))
            .map(|(client, _)| client))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // Each change is one statement, which leaves nothing half done.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(row: &rusqlite::Row<'_>) -> rusqlite::Result<TokenClient> {
    let groups: String = row.get(2)?;
    let named = groups.split(',').filter(|group| !group.is_empty());
    Ok(TokenClient {
        id: row.get(0)?,
        agent: row.get(1)?,
        groups: named.map(str::to_owned).collect(),
        by_uid: row.get(3)?,
        at: u64::try_from(row.get::<_, i64>(4)?).unwrap_or_default(),
    })
}

fn random(bytes: usize) -> Result<String, ClientsError> {
    let mut random = vec![0; bytes];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| ClientsError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

fn failed(operation: &'static str, source: rusqlite::Error) -> ClientsError {
    ClientsError::Sqlite { operation, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_proven_by_its_secret_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sqlite");
        let open = || TokenClients::open(&Database::open(path.clone()).unwrap()).unwrap();
        let clients = open();
        let groups = ["analysts".to_owned(), "eu".to_owned()];
        let (made, secret) = clients.add("reporter", &groups, 7, 1000).unwrap();
        let (other, others) = clients.add("other", &[], 7, 1001).unwrap();
        assert_eq!(clients.all().unwrap(), [made.clone(), other.clone()]);

        let clients = open();
        let prove = |id: &str, secret: &[u8]| clients.prove(id, secret).unwrap();
        assert_eq!(prove(&made.id, secret.expose()), Some(made.clone()));
        assert_eq!(prove(&other.id, others.expose()), Some(other.clone()));
        assert_eq!(prove(&made.id, others.expose()), None);
        assert_eq!(prove(&made.id, b""), None);
        assert_eq!(prove("sc-", secret.expose()), None);
        // Nothing on the disk is the secret.
        let kept: Vec<u8> = std::fs::read_dir(directory.path())
            .unwrap()
            .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect();
        let text = secret.expose();
        assert!(!kept.windows(text.len()).any(|window| window == text));

        assert!(clients.remove(&made.id).unwrap());
        assert!(!clients.remove(&made.id).unwrap());
        assert_eq!(prove(&made.id, secret.expose()), None);
        assert_eq!(clients.all().unwrap(), [other]);
    }
}
