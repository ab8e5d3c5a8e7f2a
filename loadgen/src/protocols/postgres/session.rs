//! One session: a request out, its answer in, and when that was.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use codecs::postgres::frontend::encode_copy_done;
use runtime::{Chunk, Timer, now, yield_if_needed};

use super::line::Line;
use super::reading::{Progress, Reading};
use super::request::{COPY_MESSAGE_BYTES, Request};
use crate::protocols::answer::Answered;
use crate::protocols::canaries::Canaries;
use crate::protocols::failed::{Failed, Phase};

/// Bytes of a COPY that are queued at a time: enough to keep the kernel's buffer full.
const QUEUED_MAX: usize = 128 * 1024;

/// A session that has logged in. One request at a time. Per shard.
///
/// After an error, or when the future of a request was dropped, what the target would say next
/// belongs to nobody: such a session fails every further request.
pub struct Session {
    line: Line,
    canaries: Arc<Canaries>,
    /// By number of statement: whether this session has parsed it.
    parsed: Vec<bool>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// A request is under way, or was given up, or the session has ended.
    Busy,
}

/// The data of a COPY, on its way.
struct Data<'r> {
    /// Whole CopyData messages.
    rest: std::slice::Chunks<'r, u8>,
    state: DataState,
}

/// `Held -> Flowing -> Ended`
#[derive(Clone, Copy, PartialEq, Eq)]
enum DataState {
    /// The target has not asked for it.
    Held,
    Flowing,
    Ended,
}

/// When the next bytes may be read.
struct Pace {
    bytes_per_second: NonZeroU32,
    began: Instant,
    bytes: u64,
    timer: Timer,
}

impl Session {
    pub(super) fn over(line: Line, canaries: Arc<Canaries>) -> Self {
        Self {
            line,
            canaries,
            parsed: Vec::new(),
            state: State::Ready,
        }
    }

    /// Whether another request makes sense on this session.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.state == State::Ready
    }

    /// Sends `request` and reads its answer to the end.
    ///
    /// A prepared statement that this session has not parsed is parsed with it.
    ///
    /// # Errors
    /// [`Failed`] when there is no whole answer; the session is of no use then.
    pub async fn exchange(
        &mut self,
        request: &Request,
        deadline: Instant,
    ) -> Result<Answered, Failed> {
        let phase = Phase::Request;
        if self.state == State::Busy {
            return Err(Failed::Closed { phase });
        }
        self.state = State::Busy;
        self.settle()?;
        self.line.be_patient_until(deadline);
        let unparsed = request
            .statement
            .as_ref()
            .filter(|statement| !self.has_parsed(statement.number));
        if let Some(statement) = unparsed {
            self.line.transport.append(&statement.parse);
        }
        self.line.transport.append(&request.wire);

        let mut reading = Reading::new(request.ready, request.copy.is_some());
        let mut data = Data::of(request);
        let sent = now();
        let mut pace = request.bytes_per_second.map(|pace| Pace::new(pace, sent));
        let mut first_byte = None;
        let last_byte = loop {
            let chunk =
                poll_fn(|cx| poll_exchange(&mut self.line, &mut data, pace.as_mut(), cx)).await?;
            let arrived = now();
            first_byte = first_byte.or(Some(arrived));
            match self.take(&chunk, &mut reading)? {
                Progress::Complete => break arrived,
                Progress::AsksForData => data.begin(),
                Progress::More => {}
            }
            if reading.has_error() {
                data.give_up();
            }
            yield_if_needed().await;
        };
        if let Some(statement) = unparsed
            && reading.has_parsed()
        {
            self.note_parsed(statement.number);
        }
        self.state = State::Ready;
        let outcome = reading.outcome();
        let (canaries, checksum) = reading.findings();
        Ok(Answered {
            sent,
            first_byte: first_byte.unwrap_or(last_byte),
            last_byte,
            outcome,
            checksum,
            canaries,
        })
    }

    /// Waits until the target says something or ends the session: for a session that nobody uses.
    ///
    /// Ready with `None` at `deadline`, while everything is well.
    pub async fn watch(&mut self, deadline: Instant) -> Option<Failed> {
        let failed = self.idle(deadline).await;
        if failed.is_some() {
            self.state = State::Busy;
        }
        failed
    }

    async fn idle(&mut self, deadline: Instant) -> Option<Failed> {
        self.line.be_patient_until(deadline);
        loop {
            if let Err(failed) = self.settle() {
                return Some(failed);
            }
            match self.line.arrival(Phase::Request).await {
                Ok(chunk) => self.line.unread.extend_from_slice(&chunk),
                Err(Failed::TimedOut { .. }) => return None,
                Err(failed) => return Some(failed),
            }
            yield_if_needed().await;
        }
    }

    /// Takes what came while nobody had asked: notices and changed settings, and no answer.
    fn settle(&mut self) -> Result<(), Failed> {
        let Line {
            decoder, unread, ..
        } = &mut self.line;
        if unread.is_empty() {
            return Ok(());
        }
        let mut reading = Reading::new(1, false);
        let (taken, progress) = reading.take(decoder, unread, &self.canaries)?;
        unread.drain(..taken);
        if progress != Progress::More || reading.has_answer() {
            return Err(Failed::OutOfSequence {
                phase: Phase::Request,
            });
        }
        Ok(())
    }

    /// Says goodbye, and waits for the target to have ended the session.
    pub async fn close(self, deadline: Instant) {
        self.line.close(deadline).await;
    }

    /// Ends the connection at once, as a client that dies does.
    pub fn break_off(self) {
        self.line.break_off();
    }

    fn take(&mut self, chunk: &Chunk, reading: &mut Reading) -> Result<Progress, Failed> {
        let Line {
            decoder, unread, ..
        } = &mut self.line;
        if unread.is_empty() {
            let (taken, progress) = reading.take(decoder, chunk, &self.canaries)?;
            unread.extend_from_slice(chunk.get(taken..).unwrap_or_default());
            return Ok(progress);
        }
        unread.extend_from_slice(chunk);
        let (taken, progress) = reading.take(decoder, unread, &self.canaries)?;
        unread.drain(..taken);
        if unread.is_empty() {
            // An idle session holds no buffer.
            *unread = Vec::new();
        }
        Ok(progress)
    }

    fn has_parsed(&self, number: u16) -> bool {
        self.parsed.get(usize::from(number)) == Some(&true)
    }

    fn note_parsed(&mut self, number: u16) {
        let index = usize::from(number);
        if self.parsed.len() <= index {
            self.parsed.resize(index + 1, false);
        }
        if let Some(parsed) = self.parsed.get_mut(index) {
            *parsed = true;
        }
    }
}

/// The next bytes of the answer, at their pace; what is queued is sent meanwhile.
fn poll_exchange(
    line: &mut Line,
    data: &mut Data<'_>,
    pace: Option<&mut Pace>,
    cx: &mut Context<'_>,
) -> Poll<Result<Chunk, Failed>> {
    loop {
        data.queue(line)?;
        // What fails here fails the reading too, behind what came before.
        let flushed = line.transport.poll_flush(cx);
        if !(data.state == DataState::Flowing && matches!(flushed, Poll::Ready(Ok(())))) {
            break;
        }
    }
    let Some(pace) = pace else {
        return line.poll_arrival(Phase::Request, cx);
    };
    if pace.timer.poll_expired(cx).is_pending() {
        return line.poll_patience(Phase::Request, cx).map(Err);
    }
    let chunk = ready!(line.poll_arrival(Phase::Request, cx))?;
    pace.handle(chunk.len());
    Poll::Ready(Ok(chunk))
}

impl<'r> Data<'r> {
    fn of(request: &'r Request) -> Self {
        Self {
            rest: request
                .copy
                .as_deref()
                .unwrap_or_default()
                .chunks(COPY_MESSAGE_BYTES),
            state: DataState::Held,
        }
    }

    fn begin(&mut self) {
        self.state = DataState::Flowing;
    }

    /// The target has ended the COPY, and reads what is on its way as nothing. What is queued is
    /// whole messages.
    fn give_up(&mut self) {
        self.state = DataState::Ended;
    }

    fn queue(&mut self, line: &mut Line) -> Result<(), Failed> {
        while self.state == DataState::Flowing && line.transport.queued_bytes() < QUEUED_MAX {
            match self.rest.next() {
                Some(message) => line.transport.append(message),
                None => {
                    let mut done = Vec::new();
                    encode_copy_done(&mut done).map_err(|_| Failed::NotEncodable)?;
                    line.transport.append(&done);
                    self.state = DataState::Ended;
                }
            }
        }
        Ok(())
    }
}

impl Pace {
    fn new(bytes_per_second: NonZeroU32, began: Instant) -> Self {
        Self {
            bytes_per_second,
            began,
            bytes: 0,
            timer: Timer::at(began),
        }
    }

    fn handle(&mut self, bytes: usize) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let millis = self.bytes.saturating_mul(1000) / u64::from(self.bytes_per_second.get());
        if let Some(next) = self.began.checked_add(Duration::from_millis(millis)) {
            self.timer.reset(next);
        }
    }
}
