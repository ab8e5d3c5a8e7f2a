//! What is asked, encoded before it is due.

use std::num::NonZeroU32;
use std::sync::Arc;

use codecs::postgres::frontend;
use codecs::wire::EncodeError;

/// Bytes of one CopyData, as psql and libpq's users send them.
const COPY_PIECE_BYTES: usize = 8192;

/// A CopyData with its header: all of a request but the last have this length.
pub(super) const COPY_MESSAGE_BYTES: usize =
    codecs::postgres::framing::HEADER_BYTES + COPY_PIECE_BYTES;

/// Most prepared statements of one session: each session remembers which it has parsed.
pub(super) const STATEMENTS_MAX: u16 = 1024;

/// One request. Immutable; may be sent any number of times, on any session.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) wire: Vec<u8>,
    /// ReadyForQuery messages that the answer has: the last one ends it.
    pub(super) ready: u32,
    /// What the session must have parsed before.
    pub(super) statement: Option<Arc<Statement>>,
    /// CopyData messages, in whole; sent when the target asks for them, CopyDone behind them.
    pub(super) copy: Option<Vec<u8>>,
    pub(super) bytes_per_second: Option<NonZeroU32>,
}

/// A prepared statement, parsed once on each session that uses it. Shared by its requests.
#[derive(Debug)]
pub struct Statement {
    pub(super) number: u16,
    name: String,
    /// Parse, without Sync.
    pub(super) parse: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the request cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    #[error("more than {STATEMENTS_MAX} prepared statements")]
    TooManyStatements,
    #[error("a pipeline has no request, or one that cannot be part of it")]
    Pipeline,
}

impl Statement {
    /// Number `number` of a run's statements, counted from 0; types of parameters are left to the
    /// target.
    ///
    /// # Errors
    /// For a number or a text that cannot be.
    pub fn new(number: u16, sql: &str) -> Result<Arc<Self>, RequestError> {
        if number >= STATEMENTS_MAX {
            return Err(RequestError::TooManyStatements);
        }
        let name = format!("loadgen_{number}");
        let mut parse = Vec::new();
        frontend::encode_parse(&mut parse, name.as_bytes(), sql.as_bytes(), &[])?;
        Ok(Arc::new(Self {
            number,
            name,
            parse,
        }))
    }
}

impl Request {
    /// A simple query.
    ///
    /// # Errors
    /// For a text that cannot be sent, as in all that follow.
    pub fn simple(sql: &str) -> Result<Self, RequestError> {
        let mut wire = Vec::new();
        frontend::encode_query(&mut wire, sql.as_bytes())?;
        Ok(Self::new(wire))
    }

    /// Parse, Bind, Execute, Sync, with the unnamed statement; `None` is NULL.
    ///
    /// # Errors
    /// As [`simple`](Self::simple).
    pub fn extended(sql: &str, parameters: &[Option<&str>]) -> Result<Self, RequestError> {
        let mut wire = Vec::new();
        frontend::encode_parse(&mut wire, b"", sql.as_bytes(), &[])?;
        bind_and_execute(&mut wire, b"", parameters)?;
        frontend::encode_sync(&mut wire)?;
        Ok(Self::new(wire))
    }

    /// Bind, Execute, Sync; a session that has not parsed the statement sends its Parse before.
    ///
    /// # Errors
    /// As [`simple`](Self::simple).
    pub fn prepared(
        statement: &Arc<Statement>,
        parameters: &[Option<&str>],
    ) -> Result<Self, RequestError> {
        let mut wire = Vec::new();
        bind_and_execute(&mut wire, statement.name.as_bytes(), parameters)?;
        frontend::encode_sync(&mut wire)?;
        Ok(Self {
            statement: Some(Arc::clone(statement)),
            ..Self::new(wire)
        })
    }

    /// `COPY ... TO STDOUT`, as a simple query.
    ///
    /// # Errors
    /// As [`simple`](Self::simple).
    pub fn copy_out(sql: &str) -> Result<Self, RequestError> {
        Self::simple(sql)
    }

    /// `COPY ... FROM STDIN`, as a simple query, with all of its data.
    ///
    /// # Errors
    /// As [`simple`](Self::simple).
    pub fn copy_in(sql: &str, data: &[u8]) -> Result<Self, RequestError> {
        let mut copy = Vec::new();
        for piece in data.chunks(COPY_PIECE_BYTES) {
            frontend::encode_copy_data(&mut copy, piece)?;
        }
        Ok(Self {
            copy: Some(copy),
            ..Self::simple(sql)?
        })
    }

    /// `count` times this request, sent at once: one Sync behind extended or prepared ones, as
    /// drivers do with batches; simple ones have no Sync.
    ///
    /// # Errors
    /// [`RequestError::Pipeline`] for a count of 0, and for a COPY, whose data waits for the target.
    pub fn pipeline(&self, count: u32) -> Result<Self, RequestError> {
        if count == 0 || self.copy.is_some() {
            return Err(RequestError::Pipeline);
        }
        let mut sync = Vec::new();
        frontend::encode_sync(&mut sync)?;
        let (each, ready) = match self.wire.strip_suffix(&*sync) {
            Some(each) => (each, 1),
            None => {
                sync.clear();
                (&*self.wire, count)
            }
        };
        let mut wire = Vec::with_capacity(each.len().saturating_mul(2));
        for _ in 0..count {
            wire.extend_from_slice(each);
        }
        wire.extend_from_slice(&sync);
        Ok(Self {
            wire,
            ready,
            statement: self.statement.clone(),
            copy: None,
            bytes_per_second: self.bytes_per_second,
        })
    }

    /// Its answer is read at this pace, at the socket.
    #[must_use]
    pub fn read_slowly(self, bytes_per_second: NonZeroU32) -> Self {
        Self {
            bytes_per_second: Some(bytes_per_second),
            ..self
        }
    }

    fn new(wire: Vec<u8>) -> Self {
        Self {
            wire,
            ready: 1,
            statement: None,
            copy: None,
            bytes_per_second: None,
        }
    }
}

fn bind_and_execute(
    wire: &mut Vec<u8>,
    statement: &[u8],
    parameters: &[Option<&str>],
) -> Result<(), RequestError> {
    let values: Vec<_> = parameters
        .iter()
        .map(|value| value.map(str::as_bytes))
        .collect();
    frontend::encode_bind(wire, b"", statement, &[], &values, &[])?;
    frontend::encode_execute(wire, b"", 0)?;
    Ok(())
}
