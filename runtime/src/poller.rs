//! Which sockets of a shard are ready: one epoll instance, watched by the executor.
//!
//! Edge-triggered, so that a socket is registered once in its life and asking again costs nothing.
//! It does not read or write sockets.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::io::PollableFd;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use crate::slab::{Key, Slab};
use crate::timer::keep_waker;
use crate::turn;

/// Events taken from the kernel at once.
const EVENTS_PER_WAIT: usize = 256;

thread_local! {
    static POLLER: Poller = const {
        Poller { epoll: OnceCell::new(), sockets: RefCell::new(Slab::new()) }
    };
}

/// Per shard.
struct Poller {
    epoll: OnceCell<Rc<OwnedFd>>,
    sockets: RefCell<Slab<Rc<Readiness>>>,
}

/// What is known of a socket's readiness, and who waits for more.
#[derive(Debug, Default)]
struct Readiness {
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// The peer closed its side, or the socket failed. Never unset.
    hung_up: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

/// A non-blocking socket that is registered with the shard's epoll instance.
///
/// It owns the descriptor, so the registration ends with it: no event of a closed socket can reach
/// the next one with the same number.
#[derive(Debug)]
pub(crate) struct PolledSocket {
    fd: OwnedFd,
    key: Key,
    readiness: Rc<Readiness>,
}

impl PolledSocket {
    /// Registers `fd`, which must be non-blocking.
    ///
    /// # Errors
    /// Outside a shard, and what the kernel says when its limit of watches is reached.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        POLLER.with(|poller| {
            let epoll = poller
                .epoll
                .get()
                .ok_or_else(|| io::Error::other("not on a shard"))?;
            let readiness = Rc::new(Readiness::default());
            let key = poller
                .sockets
                .borrow_mut()
                .insert(Rc::clone(&readiness))
                .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
            // From here on `Drop` takes the key back.
            let socket = Self { fd, key, readiness };
            epoll::add(
                &**epoll,
                &socket.fd,
                EventData::new_u64(key.raw()),
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            )?;
            Ok(socket)
        })
    }

    pub(crate) fn assume_ready(&self) {
        self.readiness.readable.set(true);
        self.readiness.writable.set(true);
    }

    /// Ready when a read may succeed. The waker is kept either way.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.readiness.readable.get() {
            return Poll::Ready(());
        }
        keep_waker(&self.readiness.reader, cx);
        Poll::Pending
    }

    /// Ready when a write may succeed.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.readiness.writable.get() {
            return Poll::Ready(());
        }
        keep_waker(&self.readiness.writer, cx);
        Poll::Pending
    }

    /// A read found nothing.
    pub(crate) fn drained(&self) {
        self.readiness.readable.set(false);
    }

    /// A read took less than it asked for: nothing is left, but perhaps the end of the stream,
    /// which an event that came before this read may have announced for the only time.
    pub(crate) fn drained_by_short_read(&self) {
        self.readiness.readable.set(self.readiness.hung_up.get());
    }

    /// A write found no room.
    pub(crate) fn filled(&self) {
        self.readiness.writable.set(false);
    }
}

impl AsFd for PolledSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for PolledSocket {
    fn drop(&mut self) {
        // Fails only while the thread ends.
        let _ = POLLER.try_with(|poller| poller.sockets.borrow_mut().remove(self.key));
    }
}

/// Makes this thread's epoll instance and returns its driver, which ends only when it fails.
pub(crate) fn start() -> io::Result<impl Future<Output = io::Error> + 'static> {
    let epoll = Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
    let watched = PollableFd::new(Watched(Rc::clone(&epoll))).map_err(io::Error::from)?;
    POLLER
        .with(|poller| poller.epoll.set(epoll))
        .map_err(|_| io::Error::from(io::ErrorKind::AlreadyExists))?;
    Ok(async move {
        let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
        loop {
            if let Err(error) = watched.readable().await {
                return error.into();
            }
            turn::begin();
            loop {
                match epoll::wait(
                    &watched.get_ref().0,
                    spare_capacity(&mut events),
                    Some(&NOW),
                ) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return errno.into(),
                }
                let full = events.len() == EVENTS_PER_WAIT;
                POLLER.with(|poller| poller.dispatch(&mut events));
                if !full {
                    break;
                }
            }
        }
    })
}

const NOW: rustix::event::Timespec = rustix::event::Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

impl Poller {
    fn dispatch(&self, events: &mut Vec<Event>) {
        let sockets = self.sockets.borrow();
        for event in events.drain(..) {
            let Some(socket) = sockets.get(Key::from_raw(event.data.u64())) else {
                continue;
            };
            let flags = event.flags;
            let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            if hung_up {
                socket.hung_up.set(true);
            }
            if hung_up || flags.contains(EventFlags::IN) {
                socket.readable.set(true);
                wake(&socket.reader);
            }
            if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
                socket.writable.set(true);
                wake(&socket.writer);
            }
        }
    }
}

/// The waker stays: the same task will wait again, and a wake too many costs it one cheap poll.
fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = &*waker.borrow() {
        waker.wake_by_ref();
    }
}

/// The epoll descriptor as the executor wants it.
#[derive(Debug)]
struct Watched(Rc<OwnedFd>);

impl std::os::fd::AsRawFd for Watched {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&*self.0)
    }
}
