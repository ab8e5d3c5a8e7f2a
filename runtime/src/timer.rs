//! Timers of a shard: many, often moved, rarely expiring.
//!
//! The shard's driver sleeps until the first of them. They are not for measuring time; `clock` is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::clock::now;

thread_local! {
    static TIMERS: Timers = const {
        Timers {
            queue: RefCell::new(BTreeMap::new()),
            next_id: Cell::new(0),
        }
    };
}

/// A moment to wait for, which may be moved at any time.
///
/// A timer that is moved to a later moment stays armed for the earlier one and is armed again when
/// that passes, so moving it with every message costs two stores. The first wait allocates.
///
/// Per shard: it belongs to the task that polls it, and must be polled after a `reset` like any
/// future.
#[derive(Debug)]
pub struct Timer {
    deadline: Instant,
    entry: Option<Rc<Entry>>,
}

/// The deadline passed before the future was ready; the future was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct DeadlinePassed;

impl From<DeadlinePassed> for std::io::Error {
    fn from(_: DeadlinePassed) -> Self {
        Self::from(std::io::ErrorKind::TimedOut)
    }
}

/// Waits for `future` until `deadline`, then drops it.
///
/// # Errors
/// [`DeadlinePassed`]. A future that is ready at the same poll wins.
pub async fn with_deadline<F: Future>(
    deadline: Instant,
    future: F,
) -> Result<F::Output, DeadlinePassed> {
    let mut future = pin!(future);
    let mut timer = Timer::at(deadline);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => timer.poll_expired(cx).map(|()| Err(DeadlinePassed)),
    })
    .await
}

impl Timer {
    #[must_use]
    pub fn at(deadline: Instant) -> Self {
        Self {
            deadline,
            entry: None,
        }
    }

    /// The moment it waits for.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the moment, earlier or later, also after it expired.
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if let Some(entry) = &self.entry {
            entry.deadline.set(deadline);
            entry.expired.set(false);
            if entry.armed_at.get().is_some_and(|at| deadline < at) {
                TIMERS.with(|timers| timers.arm(entry, deadline));
            }
        }
    }

    /// Ready once the deadline has passed, and again at each poll until it is reset.
    ///
    /// A poll that finds nothing new reads three cells: no clock, no system call, no arming.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let entry = self.entry.get_or_insert_with(|| {
            Rc::new(Entry {
                id: TIMERS.with(Timers::take_id),
                deadline: Cell::new(self.deadline),
                armed_at: Cell::new(None),
                expired: Cell::new(false),
                waker: RefCell::new(None),
            })
        });
        if entry.expired.get() {
            return Poll::Ready(());
        }
        if entry.armed_at.get().is_none() {
            if self.deadline <= now() {
                entry.expired.set(true);
                return Poll::Ready(());
            }
            TIMERS.with(|timers| timers.arm(entry, self.deadline));
        }
        keep_waker(&entry.waker, cx);
        Poll::Pending
    }

    /// Waits until the deadline has passed.
    pub async fn expired(&mut self) {
        poll_fn(|cx| self.poll_expired(cx)).await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            // Fails only while the thread ends, when the queue is gone as well.
            let _ = TIMERS.try_with(|timers| timers.disarm(&entry));
        }
    }
}

/// Remembers who to wake, without touching a waker that is the same.
pub(crate) fn keep_waker(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    match &*slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

#[derive(Debug)]
struct Entry {
    id: u64,
    deadline: Cell<Instant>,
    /// Its key in the queue. Invariant: at or before `deadline`, or `None`.
    armed_at: Cell<Option<Instant>>,
    expired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Per shard.
struct Timers {
    queue: RefCell<BTreeMap<(Instant, u64), Rc<Entry>>>,
    next_id: Cell<u64>,
}

impl Timers {
    fn take_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(1));
        id
    }

    fn arm(&self, entry: &Rc<Entry>, at: Instant) {
        self.disarm(entry);
        self.queue
            .borrow_mut()
            .insert((at, entry.id), Rc::clone(entry));
        entry.armed_at.set(Some(at));
    }

    fn disarm(&self, entry: &Entry) {
        if let Some(at) = entry.armed_at.take() {
            self.queue.borrow_mut().remove(&(at, entry.id));
        }
    }

    /// Expires what is due and arms again what was moved.
    fn expire(&self, now: Instant) -> Expired {
        let mut expired = false;
        loop {
            let entry = {
                let mut queue = self.queue.borrow_mut();
                let Some(first) = queue.first_entry() else {
                    return Expired {
                        expired,
                        next: None,
                    };
                };
                let (at, id) = *first.key();
                if at > now {
                    return Expired {
                        expired,
                        next: Some(at),
                    };
                }
                let entry = first.remove();
                let deadline = entry.deadline.get();
                if deadline > now {
                    entry.armed_at.set(Some(deadline));
                    queue.insert((deadline, id), entry);
                    continue;
                }
                entry
            };
            entry.armed_at.set(None);
            entry.expired.set(true);
            expired = true;
            if let Some(waker) = &*entry.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }
}

/// What a look at the timers came to.
pub(crate) struct Expired {
    /// Somebody was woken.
    pub(crate) expired: bool,
    /// When to look again.
    pub(crate) next: Option<Instant>,
}

/// Expires the timers of this shard that are due at `now`.
pub(crate) fn expire(now: Instant) -> Expired {
    TIMERS.with(|timers| timers.expire(now))
}
