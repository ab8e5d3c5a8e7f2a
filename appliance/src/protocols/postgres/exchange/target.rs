//! The target's messages: pair each with its request, record it, and pass on what is the agent's.

use std::rc::Rc;

use codecs::postgres::backend::{BackendEvent, DataRow, ParameterStatus, encode_parameter_status};
use codecs::postgres::pipeline::Answer;
use codecs::postgres::{
    Backend, BackendPiece, BackendTag, Decoded, Origin, Reply, Request, TransactionStatus,
};

use super::agent::SCRATCH_KEPT;
use super::{Exchange, Fault, Note, NoteKind, Path, Pause, Recording, Reported, Sides, Taken};
use crate::protocols::postgres::names::Step;
use crate::protocols::postgres::refuse;
use crate::recorder::NoRoom;
use crate::relay::link::{Outbound, Upstream};

/// What is done with one message.
pub(super) enum Fate {
    /// The agent gets it as it is.
    Pass,
    /// It answers a request of ours.
    Swallow,
    /// The agent gets instead what was added to [`Exchange::scratch_for_agent`].
    Replace,
}

/// What was decoded and waits for the journal: it can not be decoded again.
#[derive(Default)]
pub(super) struct Held {
    /// Bytes at the front that pass.
    run: usize,
    /// Bytes behind the run that do not: [`Exchange::scratch_for_agent`] holds what is put in their
    /// place.
    dropped: usize,
}

/// Bytes of rewritten messages above which no more are collected before they are passed on.
///
/// Bytes; a read of the largest size.
const REWRITTEN_AT_ONCE: usize = 64 * 1024;

impl Exchange {
    /// Takes the messages in `bytes`, records what the agent will see of them, and passes that on.
    pub(crate) fn take_from_target(
        &mut self,
        bytes: &[u8],
        sides: &mut Sides<'_, impl Outbound, impl Upstream>,
    ) -> Result<Taken, Fault> {
        if self.recording == Recording::Agent {
            return Ok(Taken {
                bytes: 0,
                pause: Some(Pause::OtherSide),
            });
        }
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            let is_last = self.collect(rest, sides.target)?;
            let (released, recorded) = self.release(rest, sides);
            taken += released;
            if let Err(no_room) = recorded {
                self.recording = Recording::Target;
                return Ok(Taken {
                    bytes: taken,
                    pause: Some(Pause::Room(no_room.bytes)),
                });
            }
            self.recording = Recording::Neither;
            if is_last {
                if self.scratch_for_agent.capacity() > SCRATCH_KEPT && self.pipeline.is_at_rest() {
                    self.scratch_for_agent = Vec::new();
                }
                return Ok(Taken {
                    bytes: taken,
                    pause: None,
                });
            }
        }
    }

    /// Decodes messages that pass into one run, up to the first that does not.
    ///
    /// Returns whether everything that is whole was decoded.
    fn collect(&mut self, bytes: &[u8], target: &mut impl Upstream) -> Result<bool, Fault> {
        if self.held.run + self.held.dropped > 0 {
            return Ok(false);
        }
        loop {
            let collected = self.held.run + self.held.dropped;
            let rest = bytes.get(collected..).unwrap_or_default();
            let Some(piece) = self.backend.decode(rest).map_err(Fault::Target)? else {
                return Ok(true);
            };
            let length = piece.wire().len();
            let fate = self.target_piece(&piece, rest)?;
            if let Some(masking) = &mut self.masking {
                masking.taken(length);
            }
            if let BackendPiece::Message(Decoded {
                message: Backend::ParameterStatus(status),
                ..
            }) = &piece
            {
                target
                    .handle_parameter_status(status)
                    .map_err(Fault::TargetParameters)?;
            }
            self.agent_is_mid_message = match &piece {
                BackendPiece::Message(_) => false,
                BackendPiece::Fragment(fragment) => !fragment.last && !self.swallows_fragment,
            };
            match fate {
                Fate::Pass if self.held.dropped == 0 => {
                    self.held.run += length;
                    if matches!(piece.tag(), BackendTag::DataRow | BackendTag::CopyData) {
                        let rest = rest.get(length..).unwrap_or_default();
                        self.held.run += self.take_passing_rows(rest);
                    }
                    continue;
                }
                // Between messages that are rewritten.
                Fate::Pass => self.scratch_for_agent.extend_from_slice(piece.wire()),
                Fate::Swallow | Fate::Replace => {}
            }
            self.held.dropped += length;
            // Where rows are masked, most of them are.
            if self.masking.is_none() || self.scratch_for_agent.len() >= REWRITTEN_AT_ONCE {
                return Ok(false);
            }
        }
    }

    /// Takes the whole rows behind one that passed, where nothing in the session looks at one of them
    /// or counts its bytes; returns how many bytes they have.
    ///
    /// What becomes of each is what [`Self::target_piece`] would say of it.
    fn take_passing_rows(&mut self, bytes: &[u8]) -> usize {
        let is_looked_at = self.masking.is_some()
            || !self.budgets.is_empty()
            || self.cuts.is_silent
            || !self.notes.is_empty();
        if is_looked_at {
            return 0;
        }
        let Some((tag, request)) = self.pipeline.repeats() else {
            return 0;
        };
        if request.origin != Origin::Client {
            return 0;
        }
        let rows = self.backend.whole_rows(tag, bytes);
        if tag == BackendTag::DataRow {
            self.recorder.count_rows(rows.count);
        }
        if rows.count > 0 {
            self.agent_is_mid_message = false;
            self.swallows_fragment = false;
        }
        rows.bytes
    }

    /// Records what was collected and queues it for the agent; says how many bytes are done with.
    fn release<T>(
        &mut self,
        bytes: &[u8],
        sides: &mut Sides<'_, impl Outbound, T>,
    ) -> (usize, Result<(), NoRoom>) {
        let mut done = 0;
        if self.held.run > 0 {
            let run = bytes.get(..self.held.run).unwrap_or_default();
            if let Err(no_room) = self.recorder.response(self.last_request, run) {
                return (done, Err(no_room));
            }
            sides.agent.append(run);
            done += std::mem::take(&mut self.held.run);
        }
        if !self.scratch_for_agent.is_empty() {
            let words = &self.scratch_for_agent;
            if let Err(no_room) = self.recorder.response(self.last_request, words) {
                return (done, Err(no_room));
            }
            sides.agent.append(words);
            self.scratch_for_agent.clear();
        }
        done += std::mem::take(&mut self.held.dropped);
        (done, Ok(()))
    }
}

impl Exchange {
    fn target_piece(&mut self, piece: &BackendPiece<'_>, unread: &[u8]) -> Result<Fate, Fault> {
        let Some(event) = piece.event() else {
            // The rest of a message whose beginning decided.
            self.meter_rest(piece);
            if self.swallows_fragment {
                return Ok(Fate::Swallow);
            }
            return self.mask_rest(piece);
        };
        let reply = self
            .pipeline
            .handle_backend(event)
            .map_err(Fault::TargetSequence)?;
        if piece.tag() == BackendTag::DataRow {
            self.recorder.count_rows(1);
        }
        // Start-ups for replication are refused, so that no request has this answer.
        if piece.tag() == BackendTag::CopyBothResponse {
            return Err(Fault::TargetReplicates);
        }
        let rewritten = self.scratch_for_agent.len();
        let fate = match reply {
            Reply::Fatal(_) => {
                self.target_said_goodbye = true;
                self.mask_words(piece)?
            }
            // They come at any time, also while only requests of ours are pending.
            Reply::Asynchronous => self.asynchronous(piece)?,
            Reply::Answer(answer) => match answer.origin {
                Origin::Client => self.client_answered(piece, unread, &answer)?,
                Origin::Refused => self.probe_answered(piece, &answer)?,
                Origin::Hidden if self.asks_for_columns(&answer) => {
                    self.columns_answered(piece, unread, &answer)?
                }
                Origin::Hidden => self.hidden_answered(piece, &answer)?,
            },
        };
        let fate = match reply {
            Reply::Answer(answer) => self.meter(piece, &answer, fate, rewritten)?,
            Reply::Fatal(_) | Reply::Asynchronous => fate,
        };
        if self.pipeline.has_discarded() {
            self.dismiss_discarded();
        }
        if let BackendEvent::ReadyForQuery(status) = event {
            if let Some(masking) = &mut self.masking {
                masking.ready(status);
            }
            if matches!(fate, Fate::Pass) {
                self.at_ready(status);
            }
        }
        // What stands for the beginning of an answer that is cut off stands for all of it.
        self.swallows_fragment = matches!(fate, Fate::Swallow) || self.cuts.is_silent;
        Ok(fate)
    }

    /// What the server says unasked, in words that are true of the agent's session.
    fn asynchronous(&mut self, piece: &BackendPiece<'_>) -> Result<Fate, Fault> {
        if let BackendPiece::Message(decoded) = piece
            && let Backend::ParameterStatus(status) = &decoded.message
        {
            return self.setting_reported(status);
        }
        // A session that asks for notices of the lowest levels is told of each statement.
        let is_of_ours = piece.tag() == BackendTag::NoticeResponse
            && self
                .pipeline
                .oldest()
                .is_some_and(|oldest| oldest.origin == Origin::Hidden);
        if is_of_ours {
            return Ok(Fate::Swallow);
        }
        self.mask_words(piece)
    }

    /// A reset takes the attribution away and a request of ours brings it back: the agent is told
    /// once, of what stays, where a reset is reported.
    fn setting_reported(&mut self, status: &ParameterStatus<'_>) -> Result<Fate, Fault> {
        let Some(upheld) = self.attribution.upheld(status.name, status.value) else {
            return self.mask_setting(status);
        };
        let mut known = self.reported.iter_mut();
        match known.find(|setting| *setting.name == *status.name) {
            Some(setting) if *setting.value == *upheld => return Ok(Fate::Swallow),
            Some(setting) => setting.value = upheld.into(),
            None => self.reported.push(Reported::new(status.name, upheld)),
        }
        if upheld == status.value {
            return Ok(Fate::Pass);
        }
        encode_parameter_status(&mut self.scratch_for_agent, status.name, upheld)?;
        Ok(Fate::Replace)
    }

    /// An answer to the agent's own request: names settle by it, and spliced statements are ours.
    fn client_answered(
        &mut self,
        piece: &BackendPiece<'_>,
        unread: &[u8],
        answer: &Answer<u64>,
    ) -> Result<Fate, Fault> {
        let mut statement = answer.statement;
        if !self.notes.is_empty()
            && let Some(spliced) = self.spliced(answer.tag)
        {
            if spliced.contains(&answer.statement) && answer.request == Request::Query {
                if answer.fails {
                    return Err(Fault::Restore);
                }
                // ReadyForQuery comes behind the last statement and is the agent's.
                if piece.tag() != BackendTag::ReadyForQuery {
                    return Ok(Fate::Swallow);
                }
            }
            let ours_before = spliced
                .iter()
                .filter(|index| **index < answer.statement)
                .count();
            statement = statement.saturating_sub(u32::try_from(ours_before).unwrap_or(u32::MAX));
        }
        if answer.completes_request && !self.notes.is_empty() {
            self.forget_notes_through(answer.tag);
        }
        let step = Step {
            request: answer.tag,
            statement,
        };
        let fate = if self.masking.is_some() {
            self.mask_answer(piece, unread, answer, statement)?
        } else {
            Fate::Pass
        };
        if answer.fails {
            self.statements.dismiss(answer.tag);
            self.portals.dismiss(answer.tag);
        } else if answer.completes_statement {
            self.statements.confirm(step);
        } else if answer.completes_request {
            match answer.request {
                Request::Parse | Request::Close => {
                    self.statements.confirm(step);
                    self.portals.confirm(step);
                }
                Request::Bind => self.portals.confirm(step),
                Request::Query
                | Request::Describe(_)
                | Request::Execute
                | Request::Sync
                | Request::Flush
                | Request::FunctionCall
                | Request::CopyData
                | Request::CopyDone
                | Request::CopyFail
                | Request::Terminate => {}
            }
        }
        Ok(fate)
    }

    /// The pipeline has made sure that a probe was answered by an error; the agent gets our words.
    fn probe_answered(
        &mut self,
        piece: &BackendPiece<'_>,
        answer: &Answer<u64>,
    ) -> Result<Fate, Fault> {
        if !answer.fails {
            // ReadyForQuery behind the error.
            return Ok(Fate::Pass);
        }
        // Security: an error of another kind answers something else, so the pairing has slipped.
        if let BackendPiece::Message(decoded) = piece
            && let Backend::ErrorResponse(fields) = &decoded.message
            && !fields.sqlstate().is_some_and(refuse::answers_probe)
        {
            return Err(Fault::ProbeMisanswered);
        }
        Ok(match self.note_of(answer.tag) {
            Some(NoteKind::Refused(refused)) => {
                refused.encode(&mut self.scratch_for_agent)?;
                Fate::Replace
            }
            // Invariant: every probe has its note. Without one the server's own error serves.
            Some(NoteKind::Spliced(_) | NoteKind::ReadPath) | None => Fate::Pass,
        })
    }

    fn hidden_answered(
        &mut self,
        piece: &BackendPiece<'_>,
        answer: &Answer<u64>,
    ) -> Result<Fate, Fault> {
        let reads_path = matches!(
            self.notes.front(),
            Some(Note { request, kind: NoteKind::ReadPath }) if *request == answer.tag
        );
        if reads_path {
            if let BackendPiece::Message(Decoded {
                message: Backend::DataRow(row),
                ..
            }) = piece
            {
                self.set_path(read_path(row).map_or(Path::Unreadable, Path::Known));
                self.role = read_role(row);
            }
        } else if answer.fails && self.pipeline.transaction_status() != TransactionStatus::Failed {
            // The agent's reset ran and ours did not: what follows would not name the agent.
            return Err(Fault::Restore);
        }
        if answer.completes_request {
            self.forget_notes_through(answer.tag);
        }
        Ok(Fate::Swallow)
    }

    /// The agent's own request was answered to its end.
    fn at_ready(&mut self, status: TransactionStatus) {
        if status != TransactionStatus::Idle {
            return;
        }
        let at_rest = self.pipeline.is_at_rest();
        if at_rest {
            self.portals.forget_settled();
        }
        if self.catalogue.committed(at_rest) {
            self.resituate();
        }
        // A failed transaction may have been the reason.
        if matches!(self.path, Path::Unreadable) && self.notes.is_empty() {
            self.set_path(Path::Unknown);
        }
    }

    /// The statements of ours inside the query `request`, if there are any.
    fn spliced(&self, request: u64) -> Option<&[u32]> {
        self.notes
            .iter()
            .take_while(|note| note.request <= request)
            .find_map(|note| match &note.kind {
                NoteKind::Spliced(spliced) if note.request == request => Some(spliced.as_slice()),
                NoteKind::Spliced(_) | NoteKind::Refused(_) | NoteKind::ReadPath => None,
            })
    }

    fn note_of(&mut self, request: u64) -> Option<NoteKind> {
        while let Some(note) = self.notes.pop_front_if(|note| note.request <= request) {
            if note.request == request {
                return Some(note.kind);
            }
        }
        None
    }

    fn forget_notes_through(&mut self, request: u64) {
        while self
            .notes
            .pop_front_if(|note| note.request <= request)
            .is_some()
        {}
    }
}

/// The role in the one row that answers [`super::READ_PATH`].
fn read_role(row: &DataRow<'_>) -> Option<Rc<str>> {
    let role = row.values().ok()?.iter().nth(1)??;
    std::str::from_utf8(role).ok().map(Rc::from)
}

/// The schemas in the same row.
fn read_path(row: &DataRow<'_>) -> Option<Rc<[String]>> {
    let text = row.values().ok()?.iter().next()??;
    serde_json::from_slice::<Vec<String>>(text)
        .ok()
        .map(Rc::from)
}
