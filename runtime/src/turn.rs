//! How long one task may hold the shard before sockets, timers and mailboxes are looked at.
//!
//! glommio has a timer for this, and it must not be used: when it fires between two instructions of
//! the executor's loop (the thread need only lose its CPU there), the executor goes to sleep on
//! runnable tasks, until something else wakes it. With a timer of 1 ms on a busy machine that took
//! seconds to happen. So the timer is set beyond any run, and a task that has had its time waits
//! here for the executor's next look at its rings.

use std::cell::{Cell, OnceCell};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::io::PollableFd;
use rustix::event::{EventfdFlags, eventfd};

use crate::clock::now;

/// How long a task may run while sockets wait.
///
/// 1 ms: with 100 ms, glommio's default, an echo behind a busy task took 400 ms, with 1 ms it took
/// 4 ms.
const TURN: Duration = Duration::from_millis(1);

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static ALWAYS_READY: OnceCell<Rc<PollableFd<AlwaysReady>>> = const { OnceCell::new() };
}

/// Lets sockets, timers and other tasks have their turn if this task had its share of time, 1 ms.
///
/// Otherwise it costs a look at the clock: call it per chunk, never per byte.
pub async fn yield_if_needed() {
    let now = now();
    if BEGAN
        .get()
        .is_some_and(|began| now.saturating_duration_since(began) < TURN)
    {
        return;
    }
    let Some(ready) = ALWAYS_READY.with(|ready| ready.get().map(Rc::clone)) else {
        return;
    };
    // A failure to wait for it ends the turn as well: the task was polled again.
    let _ = ready.readable().await;
    begin();
}

/// The executor has just looked at its rings.
pub(crate) fn begin() {
    BEGAN.set(Some(now()));
}

/// Makes what `yield_if_needed` waits for, once per shard.
pub(crate) fn start() -> io::Result<()> {
    let fd = eventfd(1, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let ready = PollableFd::new(AlwaysReady(fd))?;
    ALWAYS_READY
        .with(|slot| slot.set(Rc::new(ready)))
        .map_err(|_| io::Error::from(io::ErrorKind::AlreadyExists))
}

/// An event counter above zero that nobody reads: waiting for it takes exactly one look of the
/// executor at its rings.
#[derive(Debug)]
struct AlwaysReady(OwnedFd);

impl AsRawFd for AlwaysReady {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
