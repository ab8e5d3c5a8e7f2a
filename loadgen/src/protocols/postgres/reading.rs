//! An answer as it goes by: counted, summed up and searched in place.

use codecs::postgres::backend::BackendTag;
use codecs::postgres::{Backend, BackendDecoder, BackendPiece};
use crc32fast::Hasher;

use crate::protocols::answer::{Outcome, SqlState};
use crate::protocols::canaries::{Canaries, Search};
use crate::protocols::failed::{Failed, Phase};

/// What is known of one answer so far.
pub(super) struct Reading {
    /// ReadyForQuery messages that are to come.
    ready: u32,
    rows: u64,
    /// As the completed commands say: for those that return none.
    changed: u64,
    checksum: Hasher,
    search: Search,
    error: Option<SqlState>,
    parsed: bool,
    copy: Copy,
}

/// `None` for a request without data of its own, then `Unasked -> Asked`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copy {
    None,
    Unasked,
    Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    /// The target waits for the data of a COPY.
    AsksForData,
    Complete,
}

impl Reading {
    pub(super) fn new(ready: u32, has_copy: bool) -> Self {
        Self {
            ready,
            rows: 0,
            changed: 0,
            checksum: Hasher::new(),
            search: Search::default(),
            error: None,
            parsed: false,
            copy: match has_copy {
                true => Copy::Unasked,
                false => Copy::None,
            },
        }
    }

    /// Takes whole messages and pieces of long ones off `input`; returns how many bytes that were.
    pub(super) fn take(
        &mut self,
        decoder: &mut BackendDecoder,
        input: &[u8],
        canaries: &Canaries,
    ) -> Result<(usize, Progress), Failed> {
        let (mut at, mut rows_from) = (0, 0);
        let mut progress = Progress::More;
        while progress != Progress::Complete {
            let rest = input.get(at..).unwrap_or_default();
            let Some(piece) = decoder.decode(rest)? else {
                break;
            };
            let end = at.saturating_add(piece.wire().len());
            match piece {
                BackendPiece::Message(decoded) => {
                    if let Backend::DataRow(_) = decoded.message {
                        // Rows are looked at together, once they end.
                        self.rows += 1;
                        at = end;
                        continue;
                    }
                    self.whole_rows(input.get(rows_from..at), canaries);
                    let changed = self.message(&decoded.message, canaries)?;
                    if changed != Progress::More {
                        progress = changed;
                    }
                }
                BackendPiece::Fragment(fragment) => {
                    self.whole_rows(input.get(rows_from..at), canaries);
                    if fragment.tag == BackendTag::DataRow {
                        self.checksum.update(fragment.wire);
                        self.search.piece(canaries, fragment.payload);
                        if fragment.last {
                            self.rows += 1;
                            self.search.end_of_row();
                        }
                    } else {
                        self.stream(fragment.payload, canaries);
                    }
                }
            }
            (at, rows_from) = (end, end);
        }
        self.whole_rows(input.get(rows_from..at), canaries);
        Ok((at, progress))
    }

    fn whole_rows(&mut self, rows: Option<&[u8]>, canaries: &Canaries) {
        if let Some(rows) = rows.filter(|rows| !rows.is_empty()) {
            self.checksum.update(rows);
            self.search.rows(canaries, rows);
        }
    }

    /// Bytes of a COPY: where one message ends may differ from one path to the other.
    fn stream(&mut self, bytes: &[u8], canaries: &Canaries) {
        self.checksum.update(bytes);
        self.search.piece(canaries, bytes);
    }

    fn message(&mut self, message: &Backend<'_>, canaries: &Canaries) -> Result<Progress, Failed> {
        let phase = Phase::Request;
        match message {
            Backend::ReadyForQuery(_) => {
                self.ready = self.ready.saturating_sub(1);
                if self.ready == 0 {
                    return Ok(Progress::Complete);
                }
            }
            Backend::CommandComplete(complete) => {
                self.changed += complete.rows().unwrap_or(0);
            }
            Backend::CopyData(bytes) => self.stream(bytes, canaries),
            Backend::ErrorResponse(fields) => {
                let sqlstate = fields.sqlstate().and_then(SqlState::from_wire);
                let sqlstate = sqlstate.unwrap_or(SqlState::UNKNOWN);
                if fields.is_fatal() {
                    return Err(Failed::Refused { phase, sqlstate });
                }
                self.error = self.error.or(Some(sqlstate));
            }
            Backend::ParseComplete => self.parsed = true,
            Backend::CopyInResponse(_) if self.copy == Copy::Unasked => {
                self.copy = Copy::Asked;
                return Ok(Progress::AsksForData);
            }
            Backend::BindComplete
            | Backend::CloseComplete
            | Backend::CopyDone
            | Backend::CopyOutResponse(_)
            | Backend::DataRow(_)
            | Backend::EmptyQueryResponse
            | Backend::NoData
            | Backend::NoticeResponse(_)
            | Backend::NotificationResponse(_)
            | Backend::ParameterDescription(_)
            | Backend::ParameterStatus(_)
            | Backend::PortalSuspended
            | Backend::RowDescription(_) => {}
            Backend::Authentication(_)
            | Backend::BackendKeyData(_)
            | Backend::CopyBothResponse(_)
            | Backend::CopyInResponse(_)
            | Backend::FunctionCallResponse(_)
            | Backend::NegotiateProtocolVersion(_) => {
                return Err(Failed::OutOfSequence { phase });
            }
        }
        Ok(Progress::More)
    }

    /// Whether the target has parsed a statement.
    pub(super) fn has_parsed(&self) -> bool {
        self.parsed
    }

    /// Whether the target has refused something, and so waits for no more data.
    pub(super) fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// Whether there is any part of an answer.
    pub(super) fn has_answer(&self) -> bool {
        self.error.is_some() || self.rows > 0 || self.changed > 0 || self.parsed
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self.error {
            None if self.rows > 0 => Outcome::Rows(self.rows),
            None => Outcome::Rows(self.changed),
            Some(SqlState::INSUFFICIENT_PRIVILEGE) => Outcome::Refused,
            Some(sqlstate) => Outcome::Error(sqlstate),
        }
    }

    /// Canaries in its rows, and the checksum over them.
    pub(super) fn findings(self) -> (u64, u32) {
        (self.search.found(), self.checksum.finalize())
    }
}
