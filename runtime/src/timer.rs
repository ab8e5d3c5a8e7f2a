//! Timers of a shard: many, often moved, rarely expiring.
//!
//! All timers of a shard stand on one timer of the executor, whose own wheel looks at every entry
//! each time it parks. They are not for measuring time; `clock` is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::clock::now;
use crate::turn;

thread_local! {
    static TIMERS: Timers = const {
        Timers {
            queue: RefCell::new(BTreeMap::new()),
            next_id: Cell::new(0),
            driver: RefCell::new(None),
            driver_armed_at: Cell::new(None),
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
    driver: RefCell<Option<Waker>>,
    /// What the executor's timer is set to.
    driver_armed_at: Cell<Option<Instant>>,
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
        if self.driver_armed_at.get().is_none_or(|armed| at < armed)
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }

    fn disarm(&self, entry: &Entry) {
        if let Some(at) = entry.armed_at.take() {
            self.queue.borrow_mut().remove(&(at, entry.id));
        }
    }

    /// Expires what is due and arms again what was moved; returns the next moment to look.
    fn expire(&self, now: Instant, due: &mut Vec<Rc<Entry>>) -> Option<Instant> {
        let next = {
            let mut queue = self.queue.borrow_mut();
            loop {
                let Some(first) = queue.first_entry() else {
                    break None;
                };
                let (at, id) = *first.key();
                if at > now {
                    break Some(at);
                }
                let entry = first.remove();
                let deadline = entry.deadline.get();
                if deadline <= now {
                    entry.armed_at.set(None);
                    entry.expired.set(true);
                    due.push(entry);
                } else {
                    entry.armed_at.set(Some(deadline));
                    queue.insert((deadline, id), entry);
                }
            }
        };
        for entry in due.drain(..) {
            if let Some(waker) = &*entry.waker.borrow() {
                waker.wake_by_ref();
            }
        }
        next
    }
}

/// Serves the timers of this shard. Runs as a task of its own, once per shard, for ever.
pub(crate) async fn drive() {
    let mut due = Vec::new();
    let mut alarm = None;
    poll_fn(|cx| {
        TIMERS.with(|timers| {
            turn::begin();
            keep_waker(&timers.driver, cx);
            loop {
                let now = now();
                let next = timers.expire(now, &mut due);
                timers.driver_armed_at.set(next);
                let Some(next) = next else {
                    alarm = None;
                    return Poll::Pending;
                };
                // A new alarm each time this task runs, even for the same moment: the executor's
                // timer may fire early by its granularity, and registers itself again at each poll.
                let alarm = alarm.insert(glommio::timer::Timer::new(
                    next.saturating_duration_since(now),
                ));
                if Pin::new(alarm).poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
    })
    .await
}
