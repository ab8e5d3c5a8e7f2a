//! What is known of each socket of a shard: what arrived and was not read yet, who waits.
//!
//! It decides when operations start and end. It does not send, and knows no task but by its waker.
//!
//! ```text
//!            first wait                  event without `more`
//!   Resting ────────────▶ Running ───────────────────────────────▶ Resting
//!                            │ too much unread                        ▲
//!                            └────────────────▶ Ending ───────────────┘
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;

use crate::chunk::Chunk;
use crate::ring::{Event, Operation, Outcome, Ring, Token};
use crate::slab::{Key, Slab};
use crate::timer::keep_waker;

/// Bytes that may wait for a socket's reader before the kernel is told to stop receiving.
///
/// 64 KiB: four full buffers, enough to keep a reader busy for a turn; the rest stays in the
/// socket's own buffer, where it slows the sender down.
const UNREAD_BYTES_MAX: usize = 64 * 1024;

/// The same for the number of pieces: a peer that sends byte by byte costs an entry for each.
const UNREAD_PIECES_MAX: usize = 64;

/// Connections of a listener that may wait to be taken. The others wait in the kernel's queue.
const ACCEPTED_MAX: usize = 64;

/// Up to here, bytes that must wait for their reader are moved out of their buffer of
/// [`CHUNK_BYTES`](crate::CHUNK_BYTES), which then serves others.
const MOVED_UP_TO: usize = 4 * 1024;

thread_local! {
    static SOCKETS: Sockets = const {
        Sockets { ring: RefCell::new(None), known: RefCell::new(Slab::new()) }
    };
}

/// Per shard.
struct Sockets {
    ring: RefCell<Option<Ring>>,
    known: RefCell<Slab<Rc<State>>>,
}

/// A socket whose bytes, or connections, arrive through the shard's ring.
///
/// Its descriptor stays open until the kernel has ended every operation on it, also when the socket
/// itself is dropped before.
#[derive(Debug)]
pub(crate) struct Socket {
    key: Key,
    state: Rc<State>,
}

/// Per socket.
#[derive(Debug)]
struct State {
    fd: OwnedFd,
    /// By which things arrive: receiving, or accepting.
    source: Operation,
    arrival: Cell<Progress>,
    arrived: RefCell<VecDeque<Arrived>>,
    unread_bytes: Cell<usize>,
    end: Cell<Option<End>>,
    reader: RefCell<Option<Waker>>,
    /// Waiting for room to send.
    room: Cell<Progress>,
    writer: RefCell<Option<Waker>>,
    /// Nothing more is to arrive than has arrived.
    is_stopped: Cell<bool>,
    /// Nobody will read any more: what arrives is dropped.
    is_dropped: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Resting,
    Running,
    /// Cancelled; its last event has not come.
    Ending,
}

/// What a multishot operation delivers.
#[derive(Debug)]
pub(crate) enum Arrived {
    Bytes(Chunk),
    Connection(OwnedFd),
}

/// What follows after all that has arrived, and for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The peer will send no more.
    Closed,
    Failed(Errno),
}

impl Socket {
    /// Takes over `fd`, from which things arrive by the multishot operation `source`.
    ///
    /// `fd` must be in blocking mode: the kernel would report "try again" instead of waiting
    /// otherwise.
    ///
    /// # Errors
    /// Outside a shard.
    pub(crate) fn new(fd: OwnedFd, source: Operation) -> io::Result<Self> {
        SOCKETS.with(|sockets| {
            if sockets.ring.borrow().is_none() {
                return Err(io::Error::other("not on a shard"));
            }
            let state = Rc::new(State {
                fd,
                source,
                arrival: Cell::new(Progress::Resting),
                arrived: RefCell::new(VecDeque::new()),
                unread_bytes: Cell::new(0),
                end: Cell::new(None),
                reader: RefCell::new(None),
                room: Cell::new(Progress::Resting),
                writer: RefCell::new(None),
                is_stopped: Cell::new(false),
                is_dropped: Cell::new(false),
            });
            let key = sockets.known.borrow_mut().insert(Rc::clone(&state));
            let key = key.ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Self { key, state })
        })
    }

    /// What arrived first and was not taken yet.
    ///
    /// A poll that finds nothing makes no system call: the operation that it may have to start goes
    /// to the kernel with the shard's next look at its ring.
    ///
    /// `Ready(Err(end))` at the end, and from then on.
    pub(crate) fn poll_arrived(&self, cx: &Context<'_>) -> Poll<Result<Arrived, End>> {
        let state = &*self.state;
        if let Some(arrived) = state.arrived.borrow_mut().pop_front() {
            if let Arrived::Bytes(chunk) = &arrived {
                let left = state.unread_bytes.get().saturating_sub(chunk.len());
                state.unread_bytes.set(left);
            }
            return Poll::Ready(Ok(arrived));
        }
        if let Some(end) = state.end.get() {
            return Poll::Ready(Err(end));
        }
        if state.arrival.get() == Progress::Resting {
            if state.is_stopped.get() {
                return Poll::Ready(Err(End::Closed));
            }
            self.start(state.source);
            state.arrival.set(Progress::Running);
        }
        keep_waker(&state.reader, cx);
        Poll::Pending
    }

    /// Lets nothing more arrive. What the kernel has handed over by then is still there to be taken,
    /// and the end comes after it.
    pub(crate) fn stop(&self) {
        self.state.is_stopped.set(true);
        if self.state.arrival.get() == Progress::Running {
            self.state.arrival.set(Progress::Ending);
            let token = Token {
                operation: self.state.source,
                key: self.key,
            };
            with_ring(|ring| ring.cancel(token));
        }
    }

    /// Begins to wait for room to send, unless that has begun; the waker is called once there may
    /// be some.
    pub(crate) fn await_writable(&self, cx: &Context<'_>) {
        if self.state.room.get() == Progress::Resting {
            self.start(Operation::AwaitWritable);
            self.state.room.set(Progress::Running);
        }
        keep_waker(&self.state.writer, cx);
    }

    /// Whether room to send is being waited for.
    pub(crate) fn awaits_writable(&self) -> bool {
        self.state.room.get() != Progress::Resting
    }

    /// Waits until a send may succeed, or a connection that was begun has come about or failed.
    pub(crate) async fn writable(&self) {
        let mut is_asked = false;
        poll_fn(|cx| {
            if is_asked && !self.awaits_writable() {
                return Poll::Ready(());
            }
            is_asked = true;
            self.await_writable(cx);
            Poll::Pending
        })
        .await;
    }

    /// Lets a listener go on after a failure that passes.
    pub(crate) fn forget_end(&self) {
        self.state.end.set(None);
    }

    fn start(&self, operation: Operation) {
        let token = Token {
            operation,
            key: self.key,
        };
        with_ring(|ring| ring.start(self.state.fd.as_fd(), token));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.fd.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let state = &*self.state;
        state.is_dropped.set(true);
        state.arrived.take();
        state.reader.take();
        state.writer.take();
        for (progress, operation) in [
            (&state.arrival, state.source),
            (&state.room, Operation::AwaitWritable),
        ] {
            if progress.get() == Progress::Running {
                progress.set(Progress::Ending);
                let key = self.key;
                with_ring(|ring| ring.cancel(Token { operation, key }));
            }
        }
        if state.is_at_rest() {
            forget(self.key);
        }
        // A listener that is gone must take no connection from those that share its queue.
        if let Operation::Accept = state.source
            && let Some(Err(error)) = with_ring(Ring::poll)
        {
            tracing::error!(%error, "a listener could not be closed at once");
        }
    }
}

impl State {
    fn is_at_rest(&self) -> bool {
        self.arrival.get() == Progress::Resting && self.room.get() == Progress::Resting
    }

    /// Takes an event of this socket; returns the operation that is to be cancelled or started.
    fn handle(&self, operation: Operation, outcome: Outcome, more: bool) -> Option<Next> {
        if let Operation::AwaitWritable = operation {
            self.room.set(Progress::Resting);
            wake(&self.writer);
            return None;
        }
        if !more {
            self.arrival.set(Progress::Resting);
        }
        if self.is_dropped.get() {
            return None;
        }
        match outcome {
            Outcome::Received(chunk) => self.queue_bytes(chunk),
            Outcome::Accepted(fd) => {
                self.arrived.borrow_mut().push_back(Arrived::Connection(fd));
            }
            Outcome::Ended | Outcome::Ready => self.end.set(Some(End::Closed)),
            // The reader may be waiting for just this.
            Outcome::Failed(Errno::CANCELED) if self.is_stopped.get() => {}
            // Neither says anything of the connection. A reader that waits is still waiting.
            Outcome::Failed(Errno::CANCELED) => return self.starts_again(),
            Outcome::Failed(Errno::NOBUFS) if matches!(operation, Operation::Receive) => {
                return self.starts_again();
            }
            Outcome::Failed(errno) => self.end.set(Some(End::Failed(errno))),
        }
        wake(&self.reader);
        if self.arrival.get() == Progress::Running && self.has_enough() {
            self.arrival.set(Progress::Ending);
            return Some(Next::Cancel);
        }
        None
    }

    fn queue_bytes(&self, chunk: Chunk) {
        self.unread_bytes.set(self.unread_bytes.get() + chunk.len());
        let mut arrived = self.arrived.borrow_mut();
        let chunk = if !arrived.is_empty() && chunk.len() <= MOVED_UP_TO {
            Chunk::compact(&chunk)
        } else {
            chunk
        };
        arrived.push_back(Arrived::Bytes(chunk));
    }

    fn has_enough(&self) -> bool {
        let pieces = self.arrived.borrow();
        let pieces_max = match pieces.front() {
            Some(Arrived::Connection(_)) => ACCEPTED_MAX,
            Some(Arrived::Bytes(_)) | None => UNREAD_PIECES_MAX,
        };
        pieces.len() >= pieces_max || self.unread_bytes.get() >= UNREAD_BYTES_MAX
    }

    /// With something unread the reader starts it, when it has come so far.
    fn starts_again(&self) -> Option<Next> {
        if self.arrived.borrow().is_empty() && self.arrival.get() == Progress::Resting {
            self.arrival.set(Progress::Running);
            return Some(Next::Start);
        }
        None
    }
}

enum Next {
    Start,
    Cancel,
}

/// Makes this thread's ring.
///
/// # Errors
/// What the kernel says.
pub(crate) fn install() -> io::Result<()> {
    let ring = Ring::new()?;
    SOCKETS.with(|sockets| *sockets.ring.borrow_mut() = Some(ring));
    Ok(())
}

/// Ends this thread's ring, and with it what is left of its sockets.
pub(crate) fn remove() {
    let ring = SOCKETS.with(|sockets| sockets.ring.borrow_mut().take());
    drop(ring);
    let left = SOCKETS.with(|sockets| sockets.known.replace(Slab::new()));
    drop(left);
}

/// Runs `f` with the shard's ring; `None` when it has none, as at the end of the thread.
pub(crate) fn with_ring<T>(f: impl FnOnce(&mut Ring) -> T) -> Option<T> {
    SOCKETS
        .try_with(|sockets| sockets.ring.borrow_mut().as_mut().map(f))
        .ok()
        .flatten()
}

/// Hands an event to its socket.
pub(crate) fn handle(event: Event) {
    let Event {
        token,
        outcome,
        more,
    } = event;
    let state = SOCKETS.with(|sockets| sockets.known.borrow().get(token.key).map(Rc::clone));
    let Some(state) = state else { return };
    match state.handle(token.operation, outcome, more) {
        None => {}
        Some(Next::Start) => {
            with_ring(|ring| ring.start(state.fd.as_fd(), token));
        }
        Some(Next::Cancel) => {
            with_ring(|ring| ring.cancel(token));
        }
    }
    if state.is_dropped.get() && state.is_at_rest() {
        forget(token.key);
    }
}

fn forget(key: Key) {
    // Fails only while the thread ends. The descriptor is closed outside the borrow.
    drop(SOCKETS.try_with(|sockets| sockets.known.borrow_mut().remove(key)));
}

/// The waker stays: the same task will wait again, and a wake too many costs it one cheap poll.
fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = &*waker.borrow() {
        waker.wake_by_ref();
    }
}
