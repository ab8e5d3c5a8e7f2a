//! Which reply answers which request; errors, Sync, COPY.
//!
//! Imitates what `PostgresMain` does with the messages it reads, and nothing else: it neither holds
//! bytes nor decides anything. If it slipped by one, a refusal would land on the wrong command; so
//! a reply that no request explains ends the connection.

use std::collections::VecDeque;

use thiserror::Error;

use super::backend::{BackendEvent, BackendTag, TransactionStatus};
use super::frontend::Target;

/// A message from the client's side, as far as the pairing depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    Query,
    Parse,
    Bind,
    Describe(Target),
    Execute,
    Close,
    Sync,
    Flush,
    FunctionCall,
    CopyData,
    CopyDone,
    CopyFail,
    Terminate,
}

impl Request {
    /// Whether an error in it makes the server discard everything up to the next Sync.
    #[inline]
    const fn is_extended(self) -> bool {
        matches!(
            self,
            Self::Parse | Self::Bind | Self::Describe(_) | Self::Execute | Self::Close
        )
    }

    #[inline]
    const fn ends_copy(self) -> bool {
        matches!(self, Self::CopyDone | Self::CopyFail)
    }

    /// Kept in the queue for its place alone: it has no reply of its own.
    #[inline]
    const fn is_silent(self) -> bool {
        matches!(self, Self::CopyDone | Self::CopyFail | Self::Flush)
    }
}

/// What to do with a message that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Forward,
    /// The server would ignore it, so it is not sent. That is more than thrift: PostgreSQL raises
    /// an interrupt that was held while it read (`statement_timeout`) on whatever message comes
    /// next. On CopyData outside of a COPY it would answer ErrorResponse and ReadyForQuery that
    /// belong to no request, and everything behind would be paired with the wrong command.
    Drop,
}

/// On whose behalf a request goes to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client sent it; it sees the replies.
    Client,
    /// The proxy sent it for itself; the client sees none of the replies.
    Hidden,
    /// A probe in place of a command that was refused. The server must answer it with an
    /// ErrorResponse, and the client sees another one in that place.
    Refused,
}

/// A request that the server has not answered in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending<T> {
    pub request: Request,
    pub origin: Origin,
    pub tag: T,
}

/// What a message of the server is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<T> {
    /// Belongs to a request.
    Answer(Answer<T>),
    /// NoticeResponse, NotificationResponse or ParameterStatus, which come at any time.
    Asynchronous,
    /// ErrorResponse after which the server closes; with the request under way, if there is one.
    Fatal(Option<Pending<T>>),
}

/// A message that belongs to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<T> {
    pub tag: T,
    pub request: Request,
    pub origin: Origin,
    /// How many statements of this request were complete before this message. More than zero only
    /// for a Query of several statements.
    pub statement: u32,
    /// CommandComplete or EmptyQueryResponse: a statement ran to its end.
    pub completes_statement: bool,
    /// The last message for this request. For Query and FunctionCall, and for Sync, that is
    /// ReadyForQuery; after an error in an extended request it is the ErrorResponse.
    pub completes_request: bool,
    /// This message is an ErrorResponse. What the server discards because of it has been added to
    /// [`Pipeline::drain_discarded`].
    pub fails: bool,
}

/// A message at a moment when the protocol has no place for it. Final for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SequenceError {
    /// The server said something that answers nothing.
    #[error("{} answers no request (awaited: {awaited:?})", got.name())]
    Unexplained {
        got: BackendTag,
        awaited: Option<Request>,
    },
    /// The client sent what PostgreSQL would end the connection for.
    #[error("{got:?} cannot come in {state:?}")]
    OutOfSequence { got: Request, state: CopyState },
    /// The server accepted a probe that it had to refuse.
    #[error("a probe was answered with {}", got.name())]
    ProbeAccepted { got: BackendTag },
    /// Whether the server will discard this request cannot be known (see "Doubtful Syncs" and
    /// "Flush").
    #[error("the server may or may not answer {got:?}")]
    Ambiguous { got: Request },
    /// Nothing can follow Terminate or a fatal error.
    #[error("the session has ended")]
    Ended,
}

/// Where a message was out of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    CopyIn,
    CopyBoth,
    /// A command is unanswered that may be a COPY; its data must wait for CopyInResponse. Behind a
    /// Query the caller [holds it back](Pipeline::awaits_copy). Behind an Execute the server's
    /// answer could wait for a Sync that is behind the data, so there it is refused.
    Undecided,
}

/// How far the oldest request has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing of it has come.
    AwaitFirst,
    /// Describe of a statement: its parameters have come, its columns have not.
    AwaitColumns,
    /// Rows of a statement.
    Rows,
    /// Query: a statement is complete; another may follow. FunctionCall: its result has come, and
    /// its transaction can still fail to commit.
    BetweenStatements,
    /// The server reads CopyData.
    CopyIn,
    CopyOut,
    /// CopyDone has come, CommandComplete has not.
    CopyOutDone,
    CopyBoth,
    /// Only ReadyForQuery can come.
    AwaitReady,
}

/// What the server does with the next message it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Commands,
    /// An extended request failed: everything is discarded until Sync.
    UntilSync,
    /// The same, or a doubtful Sync has ended it already.
    PerhapsUntilSync,
    /// Terminate was sent: the client may say nothing more, the server may still answer.
    Terminated,
    /// A fatal error came.
    Ended,
}

/// What a message does to the oldest request.
enum Step {
    Continue(Progress),
    StatementComplete(Progress),
    /// Execute: the statement and with it the request.
    AllComplete,
    RequestComplete,
    Fail,
}

/// Pairs replies with requests, for one upstream connection after its first ReadyForQuery.
///
/// `T` is what the caller wants to know a request by. The caller tells the pipeline every message
/// that goes to the server, in order, before or when it is sent, and every message that comes back.
///
/// What the oldest request awaits (`E` ErrorResponse, `Z` ReadyForQuery; replies in PostgreSQL's
/// letters; NoticeResponse, NotificationResponse and ParameterStatus come anywhere):
///
/// ```text
/// Parse        ──1──▶ done          Bind  ──2──▶ done          Close ──3──▶ done
/// Describe(S)  ──t──▶ AwaitColumns ──T|n──▶ done
/// Describe(P)  ──T|n──▶ done
/// Execute      ──D──▶ Rows(D*) ──C|s──▶ done
///              ──C|I──▶ done
///              ──G──▶ CopyIn ──C──▶ done
///              ──H──▶ CopyOut(d*) ──c──▶ CopyOutDone ──C──▶ done
/// Sync         ──Z──▶ done          or ──E──▶ AwaitReady ──Z──▶ done
/// FunctionCall ──V──▶ BetweenStatements ──Z──▶ done
/// Query        ──I──▶ BetweenStatements ──Z──▶ done
///              ──C──▶ BetweenStatements (and from there again T, C, G, H, W)
///              ──T──▶ Rows(D*, T again for a rule's second query) ──C──▶ BetweenStatements
///              ──G──▶ CopyIn ──C──▶ BetweenStatements
///              ──H──▶ CopyOut(d*) ──c──▶ CopyOutDone ──C──▶ BetweenStatements
///              ──W──▶ CopyBoth(d*) ──c──▶ AwaitFirst
///
/// E in Query or FunctionCall   ──▶ AwaitReady ──Z──▶ done
/// E in an extended request     ──▶ done, and everything up to the next Sync is discarded
/// E of severity FATAL or PANIC ──▶ the end, at any time
/// ```
///
/// After an error in an extended request PostgreSQL discards Query and FunctionCall like anything
/// else (`ignore_till_sync`); only Sync ends that, and Terminate is obeyed.
///
/// # COPY IN
///
/// The data of a COPY is forwarded only when CopyInResponse has come. Clients that do not wait for
/// that (asyncpg) have to be held back while a Query may turn out to be one, see
/// [`awaits_copy`](Self::awaits_copy). Data outside of a COPY is [dropped](Fate::Drop): PostgreSQL
/// would ignore it, but see there. While the server reads
/// CopyData it ignores Flush and Sync. A Sync behind the command is therefore swallowed: it is given
/// back by [`drain_discarded`](Self::drain_discarded) when the COPY is complete. It is sent all the
/// same, also when CopyInResponse has come: the COPY may have failed since, and then the server waits
/// for it. Any command makes PostgreSQL end the connection then, so it is refused here.
///
/// # Doubtful Syncs
///
/// When a COPY fails that had Syncs sent behind it, nobody but the server knows whether it had read
/// them before it failed (then they are swallowed) or not (then each is answered). These Syncs stay
/// in the queue as doubtful. The first reply that is not ReadyForQuery settles it. Until then the only thing that is uncertain is how many ReadyForQuery come, so as
/// long as all of those belong to the client, nothing slips. What could slip is refused as
/// [`SequenceError::Ambiguous`]: a Hidden Sync behind a doubtful one, and an extended request that
/// would be discarded in the one case and executed in the other.
///
/// # Flush
///
/// Has no reply, but it can fail: an interrupt that was held is raised on it, and then everything
/// up to Sync is discarded. With an extended request or a Sync behind it that is the same as if
/// that one had failed. If it is a Query or FunctionCall (asyncpg prepares by Parse, Describe, Flush
/// and may send a Query next), an interrupt before it said anything is ambiguous: PostgreSQL discards
/// what follows in the one case and executes it in the other. A Flush that has nothing to flush is
/// dropped.
///
/// Scope: per upstream connection. The queue is bounded by the caller through [`len`](Self::len),
/// the list of the discarded by draining it.
///
/// Spec: PostgreSQL manual, "Message Flow"; `PostgresMain` in `tcop/postgres.c` and `CopyGetData` in
/// `commands/copyfromparse.c`.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Pipeline<T> {
    queue: VecDeque<Pending<T>>,
    progress: Progress,
    statements: u32,
    reading: Reading,
    /// Extended requests have been answered, and no ReadyForQuery since.
    in_sequence: bool,
    /// How many of the Syncs at the head of the queue (behind a failed Query, if that is the
    /// oldest) may have been swallowed.
    doubtful: usize,
    discarded: VecDeque<Pending<T>>,
    status: TransactionStatus,
}

impl<T: Copy> Pipeline<T> {
    /// A pipeline at rest; `status` is that of the ReadyForQuery before it.
    pub fn new(status: TransactionStatus) -> Self {
        Self {
            queue: VecDeque::new(),
            progress: Progress::AwaitFirst,
            statements: 0,
            reading: Reading::Commands,
            in_sequence: false,
            doubtful: 0,
            discarded: VecDeque::new(),
            status,
        }
    }

    /// How many requests are kept, Flush and the ends of COPY among them.
    #[inline]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is kept, which is not yet to say that the server is at rest.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether no answer is due: none will come unless something is sent. A doubtful Sync does not
    /// count, since waiting for it could be in vain.
    #[inline]
    pub fn is_quiescent(&self) -> bool {
        self.queue.is_empty() || self.pending().nth(self.doubtful).is_none()
    }

    /// Whether the server has said ReadyForQuery to everything: nothing is due or in doubt, no
    /// sequence of extended requests is open, nothing is being discarded.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.queue.is_empty() && !self.in_sequence && self.reading == Reading::Commands
    }

    /// Status in the last ReadyForQuery.
    #[inline]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    /// The request whose answer is due next.
    #[inline]
    pub fn oldest(&self) -> Option<Pending<T>> {
        self.pending().next()
    }

    /// All unanswered requests, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = Pending<T>> {
        self.queue
            .iter()
            .copied()
            .filter(|pending| !pending.request.is_silent())
    }

    /// Whether the server reads CopyData, and its end has not been sent.
    #[inline]
    pub fn in_copy_in(&self) -> bool {
        self.open_copy() == Some(CopyState::CopyIn)
    }

    /// Whether CopyData, CopyDone and CopyFail have to be held back, unnoted: an unanswered Query
    /// may still turn out to be a COPY FROM STDIN. Its answers decide, and they come by themselves.
    pub fn awaits_copy(&self) -> bool {
        self.open_copy().is_none() && self.may_begin_copy() == Some(Request::Query)
    }

    /// Whether the server discards what comes, until Sync.
    #[inline]
    pub fn is_discarding(&self) -> bool {
        matches!(self.reading, Reading::UntilSync | Reading::PerhapsUntilSync)
    }

    /// Whether a Sync may or may not be answered still.
    #[inline]
    pub fn is_doubtful(&self) -> bool {
        self.doubtful > 0
    }

    /// Whether [`drain_discarded`](Self::drain_discarded) has something to give.
    #[inline]
    pub fn has_discarded(&self) -> bool {
        !self.discarded.is_empty()
    }

    /// Requests that the server has discarded or will, and Syncs that a COPY swallowed, in the
    /// order in which that became known. No answer for them will come.
    pub fn drain_discarded(&mut self) -> impl Iterator<Item = Pending<T>> {
        self.discarded.drain(..)
    }

    /// Notes a message that is to go to the server.
    ///
    /// # Errors
    /// When PostgreSQL would end the connection for it, when its fate cannot be known, or after the
    /// end. The message must not be sent, and the connection is over.
    #[inline]
    pub fn handle_frontend(
        &mut self,
        request: Request,
        origin: Origin,
        tag: T,
    ) -> Result<Fate, SequenceError> {
        match self.reading {
            Reading::Terminated | Reading::Ended => return Err(SequenceError::Ended),
            Reading::Commands | Reading::UntilSync | Reading::PerhapsUntilSync => {}
        }
        let pending = Pending {
            request,
            origin,
            tag,
        };
        match (request, self.open_copy()) {
            (Request::Terminate, _) => {
                self.reading = Reading::Terminated;
                Ok(Fate::Forward)
            }
            (
                Request::CopyData | Request::CopyDone | Request::CopyFail,
                Some(state @ CopyState::CopyIn),
            ) if self.is_doomed() => Err(SequenceError::OutOfSequence {
                got: request,
                state,
            }),
            (Request::CopyData, Some(_))
            | (Request::CopyDone, Some(_))
            | (Request::CopyFail, Some(CopyState::CopyIn)) => {
                if request.ends_copy() {
                    self.queue.push_back(pending);
                }
                Ok(Fate::Forward)
            }
            // The COPY may have failed meanwhile, and the server waits for it.
            (Request::Sync, Some(CopyState::CopyIn)) => self.handle_sync(pending),
            (Request::Flush, Some(CopyState::CopyIn)) => Ok(Fate::Drop),
            (got, Some(state)) => Err(SequenceError::OutOfSequence { got, state }),
            (got @ (Request::CopyData | Request::CopyDone | Request::CopyFail), None) => {
                if self.may_begin_copy().is_some() {
                    let state = CopyState::Undecided;
                    return Err(SequenceError::OutOfSequence { got, state });
                }
                Ok(Fate::Drop)
            }
            (Request::Flush, None) => Ok(self.handle_flush(pending)),
            (Request::Sync, None) => self.handle_sync(pending),
            (
                Request::Query
                | Request::Parse
                | Request::Bind
                | Request::Describe(_)
                | Request::Execute
                | Request::Close
                | Request::FunctionCall,
                None,
            ) => self.handle_command(pending),
        }
    }

    fn handle_flush(&mut self, flush: Pending<T>) -> Fate {
        let executes_copy = self.queue.front().map(|front| front.request) == Some(Request::Execute);
        let useful = self.reading == Reading::Commands
            && self.queue.back().is_some_and(|last| {
                last.request.is_extended() || (last.request.ends_copy() && executes_copy)
            });
        if useful {
            self.queue.push_back(flush);
            Fate::Forward
        } else {
            Fate::Drop
        }
    }

    fn handle_sync(&mut self, sync: Pending<T>) -> Result<Fate, SequenceError> {
        if self.doubtful > 0 && sync.origin != Origin::Client {
            return Err(SequenceError::Ambiguous { got: Request::Sync });
        }
        self.reading = Reading::Commands;
        self.queue.push_back(sync);
        Ok(Fate::Forward)
    }

    fn handle_command(&mut self, pending: Pending<T>) -> Result<Fate, SequenceError> {
        let got = pending.request;
        match self.reading {
            Reading::UntilSync => {
                self.discarded.push_back(pending);
                return Ok(Fate::Drop);
            }
            Reading::PerhapsUntilSync => return Err(SequenceError::Ambiguous { got }),
            Reading::Commands | Reading::Terminated | Reading::Ended => {}
        }
        self.queue.push_back(pending);
        Ok(Fate::Forward)
    }

    /// The COPY whose data the server reads, unless its end has been sent.
    #[inline]
    fn open_copy(&self) -> Option<CopyState> {
        let state = match self.progress {
            Progress::CopyIn => CopyState::CopyIn,
            Progress::CopyBoth => CopyState::CopyBoth,
            Progress::AwaitFirst
            | Progress::AwaitColumns
            | Progress::Rows
            | Progress::BetweenStatements
            | Progress::CopyOut
            | Progress::CopyOutDone
            | Progress::AwaitReady => return None,
        };
        (!self.copy_end_is_sent()).then_some(state)
    }

    /// The kind of an unanswered request that may still turn out to be a COPY FROM STDIN: Execute
    /// if there is one of those, else Query.
    fn may_begin_copy(&self) -> Option<Request> {
        let mut pending = self.pending();
        let oldest = pending.next().filter(|oldest| match oldest.request {
            Request::Query => self.progress != Progress::AwaitReady,
            Request::Execute => self.progress == Progress::AwaitFirst,
            Request::Parse
            | Request::Bind
            | Request::Describe(_)
            | Request::Close
            | Request::Sync
            | Request::Flush
            | Request::FunctionCall
            | Request::CopyData
            | Request::CopyDone
            | Request::CopyFail
            | Request::Terminate => false,
        });
        let mut candidate = None;
        for request in oldest
            .into_iter()
            .chain(pending)
            .map(|pending| pending.request)
        {
            match request {
                Request::Execute => return Some(request),
                Request::Query => candidate = Some(request),
                Request::Parse
                | Request::Bind
                | Request::Describe(_)
                | Request::Close
                | Request::Sync
                | Request::Flush
                | Request::FunctionCall
                | Request::CopyData
                | Request::CopyDone
                | Request::CopyFail
                | Request::Terminate => {}
            }
        }
        candidate
    }

    /// Whether a command was sent behind the COPY: the server ends the connection when it reads
    /// that, or the COPY has failed already and its data would be stray (see [`Fate::Drop`]).
    fn is_doomed(&self) -> bool {
        self.pending()
            .skip(1)
            .any(|pending| pending.request != Request::Sync)
    }

    fn copy_end_is_sent(&self) -> bool {
        self.queue.iter().any(|pending| pending.request.ends_copy())
    }

    /// The name of a message that may come any number of times now without changing anything here,
    /// and the request that each of them answers: such a run need not be
    /// [handled](Self::handle_backend) one by one.
    #[inline]
    pub fn repeats(&self) -> Option<(BackendTag, Pending<T>)> {
        let front = *self.queue.front()?;
        let tag = match (front.request, self.progress) {
            (Request::Query | Request::Execute, Progress::Rows) => BackendTag::DataRow,
            (Request::Query | Request::Execute, Progress::CopyOut) => BackendTag::CopyData,
            _ => return None,
        };
        let changes_nothing = self.reading != Reading::Ended
            && self.doubtful == 0
            && front.origin != Origin::Refused
            && (self.in_sequence || !front.request.is_extended());
        changes_nothing.then_some((tag, front))
    }

    /// Says what a message of the server is about.
    ///
    /// # Errors
    /// When no request explains it. The message must not be passed on, and the connection is over.
    #[inline]
    pub fn handle_backend(&mut self, event: BackendEvent) -> Result<Reply<T>, SequenceError> {
        if self.reading == Reading::Ended {
            return Err(SequenceError::Ended);
        }
        let got = match event {
            BackendEvent::FatalErrorResponse => {
                self.reading = Reading::Ended;
                return Ok(Reply::Fatal(self.oldest()));
            }
            BackendEvent::Tagged(
                BackendTag::NoticeResponse
                | BackendTag::NotificationResponse
                | BackendTag::ParameterStatus,
            ) => return Ok(Reply::Asynchronous),
            BackendEvent::Tagged(tag) => tag,
            BackendEvent::InterruptErrorResponse => BackendTag::ErrorResponse,
            BackendEvent::ReadyForQuery(_) => BackendTag::ReadyForQuery,
        };
        if self.doubtful > 0 && got != BackendTag::ReadyForQuery {
            self.settle_doubt(event, got)?;
        }
        if let Some(flush) = self.take_flush(event)? {
            return Ok(Reply::Answer(flush));
        }
        let Some(front) = self.queue.front().copied() else {
            return Err(SequenceError::Unexplained { got, awaited: None });
        };
        let Some(step) = step(front.request, self.progress, got) else {
            return Err(SequenceError::Unexplained {
                got,
                awaited: Some(front.request),
            });
        };
        if front.origin == Origin::Refused
            && !matches!(got, BackendTag::ErrorResponse)
            && self.progress != Progress::AwaitReady
        {
            return Err(SequenceError::ProbeAccepted { got });
        }
        let mut answer = Answer {
            tag: front.tag,
            request: front.request,
            origin: front.origin,
            statement: self.statements,
            completes_statement: false,
            completes_request: false,
            fails: false,
        };
        match step {
            Step::Continue(progress) => self.progress = progress,
            Step::StatementComplete(progress) => {
                answer.completes_statement = true;
                self.end_copy_in(got)?;
                self.statements = self.statements.saturating_add(1);
                self.progress = progress;
            }
            Step::AllComplete => {
                answer.completes_statement = true;
                answer.completes_request = true;
                self.end_copy_in(got)?;
                self.pop();
            }
            Step::RequestComplete => {
                answer.completes_request = true;
                self.pop();
            }
            Step::Fail => {
                answer.fails = true;
                answer.completes_request = front.request.is_extended();
                self.fail(front.request)?;
            }
        }
        match event {
            BackendEvent::ReadyForQuery(status) => {
                self.status = status;
                self.in_sequence = false;
            }
            BackendEvent::Tagged(_)
            | BackendEvent::InterruptErrorResponse
            | BackendEvent::FatalErrorResponse => {
                self.in_sequence |= front.request.is_extended();
            }
        }
        Ok(Reply::Answer(answer))
    }

    /// A reply has come: a Flush at the head was passed, unless the reply is its own failure.
    #[inline]
    fn take_flush(&mut self, event: BackendEvent) -> Result<Option<Answer<T>>, SequenceError> {
        let Some(flush) = self.queue.front().copied() else {
            return Ok(None);
        };
        if flush.request != Request::Flush {
            return Ok(None);
        }
        self.queue.pop_front();
        let interrupted = event == BackendEvent::InterruptErrorResponse;
        match self.queue.front().map(|next| next.request) {
            Some(got @ (Request::Query | Request::FunctionCall)) if interrupted => {
                Err(SequenceError::Ambiguous { got })
            }
            None if interrupted => {
                self.stop_reading(Reading::UntilSync);
                Ok(Some(Answer {
                    tag: flush.tag,
                    request: flush.request,
                    origin: flush.origin,
                    statement: 0,
                    completes_statement: false,
                    completes_request: true,
                    fails: true,
                }))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Drops the oldest request, and the end of COPY behind it that ended none.
    #[inline]
    fn pop(&mut self) {
        let popped = self.queue.pop_front();
        if self.doubtful > 0 && popped.is_some_and(|popped| popped.request == Request::Sync) {
            self.doubtful = self.doubtful.min(self.leading_syncs());
            if self.reading == Reading::PerhapsUntilSync {
                self.reading = Reading::Commands;
            }
        }
        self.progress = Progress::AwaitFirst;
        self.statements = 0;
        // Behind a failed COPY a Flush cannot fail: the error took the interrupt with it.
        let in_doubt = self.doubtful > 0;
        while self.queue.front().is_some_and(|pending| {
            pending.request.ends_copy() || (in_doubt && pending.request == Request::Flush)
        }) {
            self.queue.pop_front();
        }
    }

    /// Syncs at the head of the queue; what is silent between them does not count.
    fn leading_syncs(&self) -> usize {
        self.queue
            .iter()
            .take_while(|pending| pending.request == Request::Sync || pending.request.is_silent())
            .filter(|pending| pending.request == Request::Sync)
            .count()
    }

    /// A reply other than ReadyForQuery has come: doubtful Syncs before its request were swallowed.
    ///
    /// An interrupt can be raised on a Sync too. Where nothing but Syncs waits it was, and of several
    /// the first stands for it, as for a ReadyForQuery; else nobody can know.
    fn settle_doubt(&mut self, event: BackendEvent, got: BackendTag) -> Result<(), SequenceError> {
        let Some(Request::Sync) = self.queue.front().map(|pending| pending.request) else {
            return Ok(());
        };
        if event == BackendEvent::InterruptErrorResponse {
            let mut waiting = self
                .queue
                .iter()
                .filter(|pending| !pending.request.is_silent());
            return match waiting.find(|pending| pending.request != Request::Sync) {
                None => Ok(()),
                Some(pending) => Err(SequenceError::Ambiguous {
                    got: pending.request,
                }),
            };
        }
        if self.leading_syncs() > self.doubtful {
            return Err(SequenceError::Unexplained {
                got,
                awaited: Some(Request::Sync),
            });
        }
        while let Some(front) = self.queue.front().copied() {
            match front.request {
                Request::Sync => self.discarded.push_back(front),
                Request::Flush | Request::CopyDone | Request::CopyFail => {}
                Request::Query
                | Request::Parse
                | Request::Bind
                | Request::Describe(_)
                | Request::Execute
                | Request::Close
                | Request::FunctionCall
                | Request::CopyData
                | Request::Terminate => break,
            }
            self.queue.pop_front();
        }
        self.doubtful = 0;
        Ok(())
    }

    /// If the statement that is complete was a COPY FROM STDIN: takes the CopyDone that ended it off
    /// the queue, with the Syncs that it swallowed.
    fn end_copy_in(&mut self, got: BackendTag) -> Result<(), SequenceError> {
        if self.progress != Progress::CopyIn {
            return Ok(());
        }
        let Some(front) = self.queue.pop_front() else {
            return Err(SequenceError::Unexplained { got, awaited: None });
        };
        loop {
            match self.queue.pop_front() {
                Some(end) if end.request == Request::CopyDone => break,
                Some(sync) if sync.request == Request::Sync => self.discarded.push_back(sync),
                Some(flush) if flush.request == Request::Flush => {}
                // The end was not sent, or was CopyFail, or a command came before it.
                Some(_) | None => {
                    let awaited = Some(front.request);
                    return Err(SequenceError::Unexplained { got, awaited });
                }
            }
        }
        self.queue.push_front(front);
        Ok(())
    }

    fn fail(&mut self, request: Request) -> Result<(), SequenceError> {
        if self.progress == Progress::CopyIn {
            self.doubtful = self.syncs_inside_copy();
            self.check_doubt()?;
        }
        if !request.is_extended() {
            self.progress = Progress::AwaitReady;
            return Ok(());
        }
        let doubtful = self.doubtful;
        self.pop();
        self.discard_until_sync(doubtful)
    }

    /// Syncs behind the COPY that failed, which it may have read: up to its end, or up to a command,
    /// which it cannot have read without ending the connection.
    fn syncs_inside_copy(&self) -> usize {
        self.queue
            .iter()
            .skip(1)
            .take_while(|pending| matches!(pending.request, Request::Sync | Request::Flush))
            .filter(|pending| pending.request == Request::Sync)
            .count()
    }

    /// While there is a doubt, every ReadyForQuery that may come must be the client's.
    fn check_doubt(&self) -> Result<(), SequenceError> {
        let foreign = self.doubtful > 0
            && self.queue.iter().skip(1).any(|pending| {
                pending.request == Request::Sync && pending.origin != Origin::Client
            });
        if foreign {
            Err(SequenceError::Ambiguous { got: Request::Sync })
        } else {
            Ok(())
        }
    }

    /// Discards what the server discards after an error in an extended request: all up to the
    /// first Sync that it reads. `doubtful` Syncs at the head may have been swallowed before.
    fn discard_until_sync(&mut self, doubtful: usize) -> Result<(), SequenceError> {
        if doubtful == 0 {
            while let Some(front) = self.queue.front().copied() {
                if front.request == Request::Sync {
                    return Ok(());
                }
                self.queue.pop_front();
                if !front.request.is_silent() {
                    self.discarded.push_back(front);
                }
            }
            self.stop_reading(Reading::UntilSync);
            return Ok(());
        }
        while self
            .queue
            .front()
            .is_some_and(|front| front.request.is_silent())
        {
            self.queue.pop_front();
        }
        let mut behind = self
            .queue
            .iter()
            .filter(|pending| !pending.request.is_silent())
            .skip(doubtful);
        match behind.next() {
            Some(pending) if pending.request == Request::Sync => {}
            Some(pending) => {
                return Err(SequenceError::Ambiguous {
                    got: pending.request,
                });
            }
            None => self.stop_reading(Reading::PerhapsUntilSync),
        }
        Ok(())
    }

    /// A Terminate that was sent outlasts everything.
    fn stop_reading(&mut self, reading: Reading) {
        if self.reading == Reading::Commands {
            self.reading = reading;
        }
    }
}

/// What `got` means for the oldest request; `None` if it cannot answer it.
#[inline]
fn step(request: Request, progress: Progress, got: BackendTag) -> Option<Step> {
    use BackendTag as B;
    use Progress as P;

    if got == B::ErrorResponse {
        return (progress != P::AwaitReady).then_some(Step::Fail);
    }
    match request {
        Request::Execute => Some(match (progress, got) {
            (P::AwaitFirst | P::Rows, B::DataRow) => Step::Continue(P::Rows),
            (P::AwaitFirst | P::Rows, B::CommandComplete) => Step::AllComplete,
            (P::AwaitFirst, B::EmptyQueryResponse) => Step::AllComplete,
            (P::Rows, B::PortalSuspended) => Step::RequestComplete,
            (P::AwaitFirst, B::CopyInResponse) => Step::Continue(P::CopyIn),
            (P::AwaitFirst, B::CopyOutResponse) => Step::Continue(P::CopyOut),
            (P::CopyOut, B::CopyData) => Step::Continue(P::CopyOut),
            (P::CopyOut, B::CopyDone) => Step::Continue(P::CopyOutDone),
            (P::CopyIn | P::CopyOutDone, B::CommandComplete) => Step::AllComplete,
            _ => return None,
        }),
        Request::Query => Some(match (progress, got) {
            (P::Rows, B::DataRow) => Step::Continue(P::Rows),
            (P::AwaitFirst | P::BetweenStatements | P::Rows, B::RowDescription) => {
                Step::Continue(P::Rows)
            }
            (
                P::AwaitFirst | P::BetweenStatements | P::Rows | P::CopyIn | P::CopyOutDone,
                B::CommandComplete,
            )
            | (P::AwaitFirst, B::EmptyQueryResponse) => {
                Step::StatementComplete(P::BetweenStatements)
            }
            (P::AwaitFirst | P::BetweenStatements, B::CopyInResponse) => Step::Continue(P::CopyIn),
            (P::AwaitFirst | P::BetweenStatements, B::CopyOutResponse) => {
                Step::Continue(P::CopyOut)
            }
            (P::AwaitFirst | P::BetweenStatements, B::CopyBothResponse) => {
                Step::Continue(P::CopyBoth)
            }
            (P::CopyOut, B::CopyData) => Step::Continue(P::CopyOut),
            (P::CopyOut, B::CopyDone) => Step::Continue(P::CopyOutDone),
            (P::CopyBoth, B::CopyData) => Step::Continue(P::CopyBoth),
            (P::CopyBoth, B::CopyDone) => Step::Continue(P::AwaitFirst),
            (P::BetweenStatements | P::AwaitReady, B::ReadyForQuery) => Step::RequestComplete,
            _ => return None,
        }),
        Request::Parse => (got == B::ParseComplete).then_some(Step::RequestComplete),
        Request::Bind => (got == B::BindComplete).then_some(Step::RequestComplete),
        Request::Close => (got == B::CloseComplete).then_some(Step::RequestComplete),
        Request::Describe(target) => match (target, progress, got) {
            (Target::Statement, P::AwaitFirst, B::ParameterDescription) => {
                Some(Step::Continue(P::AwaitColumns))
            }
            (Target::Statement, P::AwaitColumns, B::RowDescription | B::NoData)
            | (Target::Portal, P::AwaitFirst, B::RowDescription | B::NoData) => {
                Some(Step::RequestComplete)
            }
            _ => None,
        },
        Request::Sync => (got == B::ReadyForQuery).then_some(Step::RequestComplete),
        Request::FunctionCall => match (progress, got) {
            (P::AwaitFirst, B::FunctionCallResponse) => Some(Step::Continue(P::BetweenStatements)),
            (P::BetweenStatements | P::AwaitReady, B::ReadyForQuery) => Some(Step::RequestComplete),
            _ => None,
        },
        // Never the oldest: these are not kept, or dropped when they come to the head.
        Request::Flush
        | Request::CopyData
        | Request::CopyDone
        | Request::CopyFail
        | Request::Terminate => None,
    }
}

#[cfg(test)]
mod tests;
