//! The shard's side of recording: what is recorded is in the ring before anything else happens.
//!
//! Nothing here waits, allocates per record (but for cutting a secret out) or makes a system call
//! per record; moving records to disk is the journal thread's.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll};

use ring::rand::SystemRandom;
use runtime::ShardId;
use runtime::mapped::{AppendError, Position, RingWriter};
use thiserror::Error;

use super::format::{
    ApprovalNote, CommandKind, Counters, EndReason, NOTE_BYTES_MAX, Note, OVERHEAD_BYTES_MAX,
    Prefix, RecordHeader, RecordKind, RefusedLogin, SESSION_END_FRAME_BYTES, SessionEnd,
    SessionStart, Verdict, unix_micros,
};
use super::session_id::{NoRandomness, SessionId};
use super::settings::Durability;
use super::thread::{JournalHandle, OpenJournalError};
use super::trouble::JournalUnavailable;

/// Longest run of wire bytes in one record.
///
/// Longer messages become several records, so that a reader's memory stays bounded and a record
/// fits any ring. 256 KiB is four of the largest reads.
pub(super) const PIECE_BYTES_MAX: usize = 256 * 1024;

/// Longest frame that a recorder writes.
pub(super) const RECORD_FRAME_BYTES_MAX: usize =
    runtime::mapped::frame_bytes(PIECE_BYTES_MAX + NOTE_BYTES_MAX + 2 * OVERHEAD_BYTES_MAX);

/// What stands in a recording where a secret stood.
const CUT_MARK: &[u8] = b"***";

/// The part of a ring that session ends may reserve, as a divisor of its capacity.
const RESERVED_SHARE: usize = 4;

/// The record does not fit the ring at this moment.
///
/// Wait with [`Journal::poll_room`] for `bytes`, then make the same call with the same arguments:
/// what was recorded of a long message already is not recorded twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no room for {bytes} bytes in the journal")]
pub struct NoRoom {
    pub bytes: usize,
}

/// Why a session cannot be recorded, so that it must not start.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Unavailable(#[from] JournalUnavailable),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The ring cannot hold the ends of more sessions.
    #[error("the journal of this shard is made for {limit} sessions")]
    TooManySessions { limit: usize },
    /// The principal's attributes do not fit a record.
    #[error("session start of {bytes} bytes is longer than a record")]
    StartTooLong { bytes: usize },
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Evidence that a command is in the journal. Forwarding takes it.
///
/// It says nothing about being allowed: look at [`Self::verdict`].
#[must_use = "what was recorded is to be forwarded or refused"]
#[derive(Debug, PartialEq, Eq)]
pub struct Recorded {
    number: u64,
    verdict: Verdict,
    position: Position,
}

impl Recorded {
    /// The number that the command was recorded under.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The verdict that was recorded with it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Hand this to [`Journal::poll_committed`] before forwarding.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }
}

/// A shard's end of its journal ring.
///
/// Per shard, shared by its sessions. Each open session keeps room for its last record reserved,
/// so that ending one always can be recorded.
pub struct Journal {
    ring: RefCell<RingWriter>,
    shard: ShardId,
    durability: Durability,
    open_sessions: Cell<usize>,
    random: SystemRandom,
}

impl Journal {
    /// Makes the ring of `shard` and hands its other half to the journal thread.
    ///
    /// Call it once, on the shard: its memory is touched here.
    ///
    /// # Errors
    /// When the ring cannot be made (no space, no memory) or the thread is gone.
    pub fn open(handle: &JournalHandle, shard: ShardId) -> Result<Rc<Self>, OpenJournalError> {
        let ring = handle.make_ring(shard)?;
        Ok(Self::over(ring, shard, handle.durability()))
    }

    /// The same for a ring that somebody else drains.
    pub(crate) fn over(ring: RingWriter, shard: ShardId, durability: Durability) -> Rc<Self> {
        Rc::new(Self {
            ring: RefCell::new(ring),
            shard,
            durability,
            open_sessions: Cell::new(0),
            random: SystemRandom::new(),
        })
    }

    /// Whether new work may start: `Err` while records cannot reach the disk.
    ///
    /// Sessions that run may go on until the ring is full.
    ///
    /// # Errors
    /// Says what keeps the journal from draining.
    pub fn health(&self) -> Result<(), JournalUnavailable> {
        let ring = self.ring.borrow();
        if ring.is_reader_gone() {
            return Err(JournalUnavailable::ThreadGone);
        }
        JournalUnavailable::from_code(ring.health()).map_or(Ok(()), Err)
    }

    /// Bytes of the ring that are not on disk yet, and how many it holds.
    pub(crate) fn fill(&self) -> (u64, u64) {
        let ring = self.ring.borrow();
        (ring.used_bytes(), widen(ring.capacity()))
    }

    /// Ready when a record with `bytes` of wire bytes has room.
    ///
    /// Pending while the ring is full, also when that is since the disk is: traffic is held, not
    /// dropped. The task is woken when something was drained.
    ///
    /// # Errors
    /// When the journal thread is gone, so that there never will be room.
    pub fn poll_room(
        &self,
        cx: &mut Context<'_>,
        bytes: usize,
    ) -> Poll<Result<(), JournalUnavailable>> {
        let mut ring = self.ring.borrow_mut();
        let bytes = bytes.min(piece_bytes_max(&ring).saturating_add(NOTE_BYTES_MAX));
        let body_bytes = bytes.saturating_add(OVERHEAD_BYTES_MAX);
        ring.poll_room(cx, body_bytes, self.reserved_bytes())
            .map_err(|_| JournalUnavailable::ThreadGone)
    }

    /// Ready when everything up to `position` is as durable as the setting demands: at once,
    /// unless it is `strict`.
    ///
    /// # Errors
    /// When the journal thread is gone. Whether the record is on disk is then not known.
    pub fn poll_committed(
        &self,
        cx: &mut Context<'_>,
        position: Position,
    ) -> Poll<Result<(), JournalUnavailable>> {
        match self.durability {
            Durability::Process | Durability::Bounded(_) => Poll::Ready(Ok(())),
            Durability::Strict => self
                .ring
                .borrow_mut()
                .poll_committed(cx, position)
                .map_err(|_| JournalUnavailable::ThreadGone),
        }
    }

    /// Records a login that came to nothing, and returns the id it is found under.
    ///
    /// # Errors
    /// As for [`Recorder::open`].
    pub fn refused_login(&self, refused: &RefusedLogin) -> Result<SessionId, OpenError> {
        let refused = RefusedLogin {
            shard: self.shard.0,
            ..refused.clone()
        };
        let session = SessionId::generate(&self.random, runtime::unix_time())?;
        self.append_first(RecordKind::RefusedLogin, session, &refused.encode())?;
        Ok(session)
    }

    fn append_first(
        &self,
        kind: RecordKind,
        session: SessionId,
        fields: &[u8],
    ) -> Result<(), OpenError> {
        let limit = piece_bytes_max(&self.ring.borrow());
        if fields.len() > limit {
            return Err(OpenError::StartTooLong {
                bytes: fields.len(),
            });
        }
        let header = RecordHeader {
            kind: kind.code(),
            session,
            sequence: 0,
            number: 0,
            unix_micros: unix_micros(runtime::unix_time()),
        };
        self.append(&[&header.encode(), fields], self.reserved_bytes())
            .map_err(|_| NoRoom {
                bytes: fields.len(),
            })?;
        Ok(())
    }

    fn append(&self, parts: &[&[u8]], keep_free: usize) -> Result<Position, AppendError> {
        self.ring.borrow_mut().append(parts, keep_free)
    }

    /// Ring bytes that belong to the ends of open sessions. One more than there are, since a
    /// filler before the end of the ring may take as much as a record.
    fn reserved_bytes(&self) -> usize {
        self.open_sessions
            .get()
            .saturating_add(1)
            .saturating_mul(SESSION_END_FRAME_BYTES)
    }

    fn sessions_max(&self) -> usize {
        let reservable = self.ring.borrow().capacity() / RESERVED_SHARE;
        (reservable / SESSION_END_FRAME_BYTES).saturating_sub(1)
    }
}

/// Wire bytes that one record may hold: with note, overhead and filler it fits beside the
/// reserve.
fn piece_bytes_max(ring: &RingWriter) -> usize {
    let quarter = ring.capacity() / 4;
    PIECE_BYTES_MAX.min(quarter.saturating_sub(NOTE_BYTES_MAX + 2 * OVERHEAD_BYTES_MAX))
}

/// Records one session. Per connection.
///
/// Dropping it records the end too, as `aborted`.
pub struct Recorder {
    journal: Rc<Journal>,
    session: SessionId,
    sequence: u64,
    counters: Counters,
    /// Rows that were counted and not yet recorded with a response.
    rows_unrecorded: u64,
    unfinished: Option<Unfinished>,
    has_ended: bool,
}

/// A message of which some pieces are in the ring.
#[derive(Clone, Copy)]
struct Unfinished {
    kind: RecordKind,
    number: u64,
    total_bytes: usize,
    done_bytes: usize,
}

/// A message as it is to be recorded, whole.
struct Message<'a> {
    kind: RecordKind,
    number: u64,
    wire: &'a [u8],
}

impl Recorder {
    /// Records the start of a session, and gives it its id.
    ///
    /// # Errors
    /// The session must not start then. `Unavailable` is refused at once while the journal cannot
    /// drain, even if the ring has room.
    pub fn open(journal: &Rc<Journal>, start: &SessionStart) -> Result<Self, OpenError> {
        journal.health()?;
        let limit = journal.sessions_max();
        let open_sessions = journal.open_sessions.get();
        if open_sessions >= limit {
            return Err(OpenError::TooManySessions { limit });
        }
        let session = SessionId::generate(&journal.random, runtime::unix_time())?;
        let start = SessionStart {
            shard: journal.shard.0,
            ..start.clone()
        };
        journal.open_sessions.set(open_sessions.saturating_add(1));
        if let Err(refused) =
            journal.append_first(RecordKind::SessionStart, session, &start.encode())
        {
            journal.open_sessions.set(open_sessions);
            return Err(refused);
        }
        Ok(Self {
            journal: Rc::clone(journal),
            session,
            sequence: 1,
            counters: Counters::default(),
            rows_unrecorded: 0,
            unfinished: None,
            has_ended: false,
        })
    }

    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    #[must_use]
    pub fn journal(&self) -> &Rc<Journal> {
        &self.journal
    }

    /// What was recorded so far, summed.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Records one message of the agent, before it is forwarded or refused.
    ///
    /// `wire` is exactly one message, tag and length included. `cuts` are the byte ranges of
    /// `wire` that hold secrets: in texts each becomes `***` (replay repairs the length field), in
    /// other messages as many `*`. They never reach the ring.
    ///
    /// # Errors
    /// [`NoRoom`]: wait, and call again with the same arguments.
    pub fn command(
        &mut self,
        number: u64,
        kind: CommandKind,
        wire: &[u8],
        cuts: &[Range<usize>],
        note: &Note,
    ) -> Result<Recorded, NoRoom> {
        let wire = cut(wire, cuts, kind.holds_text());
        let message = Message {
            kind: RecordKind::Command,
            number,
            wire: &wire,
        };
        let before_note = Prefix::before_note(kind, note.encoded().len());
        let position = self.append_pieces(&message, note.encoded().len(), |piece, is_first| {
            if is_first {
                let total_bytes = wire.len();
                let before_wire = Prefix::before_command_wire(total_bytes, cuts.len(), piece.len());
                (
                    RecordKind::Command,
                    before_note.as_bytes(),
                    note.encoded(),
                    before_wire,
                )
            } else {
                (
                    RecordKind::CommandRest,
                    &[],
                    &[],
                    Prefix::before_wire(0, piece.len()),
                )
            }
        })?;
        let runs = u64::from(kind.runs());
        self.counters.commands = self.counters.commands.saturating_add(runs);
        let is_denial = u64::from(note.verdict() == Verdict::Refused);
        self.counters.denials = self.counters.denials.saturating_add(is_denial);
        let is_foreshadowed = u64::from(note.is_foreshadowed());
        self.counters.foreshadowed = self.counters.foreshadowed.saturating_add(is_foreshadowed);
        self.counters.bytes_received = self
            .counters
            .bytes_received
            .saturating_add(widen(wire.len()));
        Ok(Recorded {
            number,
            verdict: note.verdict(),
            position,
        })
    }

    /// Records that a message of `wire_bytes` begins which is not held; its bytes follow by
    /// [`rest_of_command`](Self::rest_of_command). A recording that ends before says how many are
    /// missing.
    ///
    /// # Errors
    /// [`NoRoom`]: wait, and call again with the same arguments.
    pub fn announced_command(
        &mut self,
        number: u64,
        kind: CommandKind,
        wire_bytes: usize,
        note: &Note,
    ) -> Result<Recorded, NoRoom> {
        let message = Message {
            kind: RecordKind::Command,
            number,
            wire: &[],
        };
        let note_bytes = note.encoded().len();
        let before_note = Prefix::before_note(kind, note_bytes);
        let position = self.append_pieces(&message, note_bytes, |piece, _| {
            (
                RecordKind::Command,
                before_note.as_bytes(),
                note.encoded(),
                Prefix::before_command_wire(wire_bytes, 0, piece.len()),
            )
        })?;
        let runs = u64::from(kind.runs());
        self.counters.commands = self.counters.commands.saturating_add(runs);
        let is_denial = u64::from(note.verdict() == Verdict::Refused);
        self.counters.denials = self.counters.denials.saturating_add(is_denial);
        let is_foreshadowed = u64::from(note.is_foreshadowed());
        self.counters.foreshadowed = self.counters.foreshadowed.saturating_add(is_foreshadowed);
        Ok(Recorded {
            number,
            verdict: note.verdict(),
            position,
        })
    }

    /// Records the next bytes of a message that was announced.
    ///
    /// # Errors
    /// [`NoRoom`]: wait, and call again with the same arguments.
    pub fn rest_of_command(&mut self, number: u64, wire: &[u8]) -> Result<Position, NoRoom> {
        let message = Message {
            kind: RecordKind::CommandRest,
            number,
            wire,
        };
        let position = self.append_pieces(&message, 0, |piece, _| {
            (
                RecordKind::CommandRest,
                &[],
                &[],
                Prefix::before_wire(0, piece.len()),
            )
        })?;
        let received = widen(wire.len());
        self.counters.bytes_received = self.counters.bytes_received.saturating_add(received);
        Ok(position)
    }

    /// Records a step of the request for approval that the command `number` waits for.
    ///
    /// # Errors
    /// [`NoRoom`]: wait, and call again with the same arguments.
    pub fn approval(&mut self, number: u64, note: &ApprovalNote) -> Result<Position, NoRoom> {
        let message = Message {
            kind: RecordKind::Approval,
            number,
            wire: &[],
        };
        let encoded = note.encode();
        self.append_pieces(&message, encoded.len(), |_, _| {
            (RecordKind::Approval, &[], &encoded, Prefix::new())
        })
    }

    /// Records bytes as the agent is about to receive them, cut anywhere; `number` is the command
    /// that they answer.
    ///
    /// # Errors
    /// [`NoRoom`]: wait, and call again with the same arguments.
    pub fn response(&mut self, number: u64, wire: &[u8]) -> Result<(), NoRoom> {
        let message = Message {
            kind: RecordKind::Response,
            number,
            wire,
        };
        let rows = self.rows_unrecorded;
        self.append_pieces(&message, 0, |piece, is_first| {
            let rows = if is_first { rows } else { 0 };
            (
                RecordKind::Response,
                &[],
                &[],
                Prefix::before_wire(rows, piece.len()),
            )
        })?;
        self.rows_unrecorded = 0;
        self.counters.bytes_sent = self.counters.bytes_sent.saturating_add(widen(wire.len()));
        Ok(())
    }

    /// Counts rows; they are recorded with the next response. Call it before the response that
    /// holds them, once for each row whatever its chunks.
    pub fn count_rows(&mut self, rows: u64) {
        self.counters.rows = self.counters.rows.saturating_add(rows);
        self.rows_unrecorded = self.rows_unrecorded.saturating_add(rows);
    }

    /// Records the end. There is always room for it.
    pub fn end(mut self, reason: EndReason) {
        self.record_end(reason);
    }

    /// Appends what is missing of a message, in pieces; `fields` encodes what stands before each
    /// piece's wire bytes.
    fn append_pieces<'f>(
        &mut self,
        message: &Message<'_>,
        note_bytes: usize,
        fields: impl Fn(&[u8], bool) -> (RecordKind, &'f [u8], &'f [u8], Prefix),
    ) -> Result<Position, NoRoom> {
        let piece_bytes_max = piece_bytes_max(&self.journal.ring.borrow());
        let mut done_bytes = self.resume(message);
        loop {
            let rest = message.wire.get(done_bytes..).unwrap_or_default();
            let piece = rest
                .get(..rest.len().min(piece_bytes_max))
                .unwrap_or_default();
            let is_first = done_bytes == 0;
            let (kind, before, note, prefix) = fields(piece, is_first);
            let header = self.header(kind, message.number).encode();
            let parts = [&header, before, note, prefix.as_bytes(), piece];
            let keep_free = self.journal.reserved_bytes();
            let Ok(position) = self.journal.append(&parts, keep_free) else {
                self.unfinished = Some(Unfinished {
                    kind: message.kind,
                    number: message.number,
                    total_bytes: message.wire.len(),
                    done_bytes,
                });
                let note_bytes = if is_first { note_bytes } else { 0 };
                return Err(NoRoom {
                    bytes: piece.len().saturating_add(note_bytes),
                });
            };
            self.sequence = self.sequence.saturating_add(1);
            done_bytes = done_bytes.saturating_add(piece.len());
            if done_bytes >= message.wire.len() {
                return Ok(position);
            }
        }
    }

    /// How much of `message` was recorded before the ring was full.
    ///
    /// A caller that comes back with another message leaves the first incomplete in the
    /// recording, which says so; that is the truth, since it was not forwarded.
    fn resume(&mut self, message: &Message<'_>) -> usize {
        self.unfinished
            .take()
            .filter(|unfinished| {
                unfinished.kind == message.kind
                    && unfinished.number == message.number
                    && unfinished.total_bytes == message.wire.len()
            })
            .map_or(0, |unfinished| unfinished.done_bytes)
    }

    fn header(&self, kind: RecordKind, number: u64) -> RecordHeader {
        RecordHeader {
            kind: kind.code(),
            session: self.session,
            sequence: self.sequence,
            number,
            unix_micros: unix_micros(runtime::unix_time()),
        }
    }

    fn record_end(&mut self, reason: EndReason) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let sessions_left = self.journal.open_sessions.get().saturating_sub(1);
        self.journal.open_sessions.set(sessions_left);
        let end = SessionEnd {
            reason,
            counters: self.counters,
        }
        .encode();
        let header = self.header(RecordKind::SessionEnd, 0).encode();
        let keep_free = self
            .journal
            .reserved_bytes()
            .saturating_sub(SESSION_END_FRAME_BYTES);
        if let Err(error) = self.journal.append(&[&header, end.as_bytes()], keep_free) {
            // The reserve makes this impossible; a session without an end shows as interrupted.
            tracing::error!(session = %self.session, %error, "session end was not recorded");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.record_end(EndReason::Aborted);
    }
}

/// `wire` without the secrets in `cuts`. Ranges may overlap, be out of order or reach too far.
fn cut<'w>(wire: &'w [u8], cuts: &[Range<usize>], shortens: bool) -> Cow<'w, [u8]> {
    if cuts.is_empty() {
        return Cow::Borrowed(wire);
    }
    let mut cuts = cuts.to_vec();
    cuts.sort_by_key(|cut| cut.start);
    let mut out = Vec::with_capacity(wire.len());
    let mut kept_until = 0;
    for cut in cuts {
        let start = cut.start.clamp(kept_until, wire.len());
        let end = cut.end.clamp(start, wire.len());
        out.extend_from_slice(wire.get(kept_until..start).unwrap_or_default());
        if shortens {
            out.extend_from_slice(CUT_MARK);
        } else {
            out.resize(out.len().saturating_add(end.saturating_sub(start)), b'*');
        }
        kept_until = end;
    }
    out.extend_from_slice(wire.get(kept_until..).unwrap_or_default());
    Cow::Owned(out)
}

fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
