//! Where due requests meet free connections, on one worker.
//!
//! It knows due times and seats, one for each connection; what a connection does is not its
//! business.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::iter::Peekable;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use runtime::{Timer, now};

use crate::scenario::Part;
use crate::schedule::Due;

/// How long the dispatcher sleeps at most, so that it sees an interruption.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One request that is to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) due: Due,
    pub(super) part: Part,
}

/// Per worker, per run.
pub(super) struct Desk {
    start: Instant,
    schedule: RefCell<Schedule>,
    /// Seats without work, the one that has been free for longest first, so that every connection
    /// and agent has its turn.
    free: RefCell<VecDeque<usize>>,
    seats: Vec<Seat>,
    /// Seats that are taken and have not been left.
    occupied: Cell<usize>,
    /// When the dispatcher looks again by itself.
    sleeps_until: Cell<Instant>,
    dispatcher: RefCell<Option<Waker>>,
    is_nudged: Cell<bool>,
    /// Nothing is waited for any more.
    is_over: Cell<bool>,
}

/// What is left of the worker's part of the schedule.
struct Schedule {
    due: Peekable<Box<dyn Iterator<Item = Due>>>,
    part: Box<dyn Fn(u64) -> Part>,
    /// Requests after it are no part of the run any more.
    cut: Duration,
    /// Requests from here on count.
    counts_from: Duration,
    taken: u64,
}

struct Seat {
    work: Cell<Option<Work>>,
    free_since: Cell<Instant>,
    waker: RefCell<Option<Waker>>,
}

/// A request with the moment from which it could have been sent: it was due, and a connection was
/// free.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) job: Job,
    pub(super) could: Instant,
}

impl Schedule {
    fn next_offset(&mut self) -> Option<Duration> {
        let offset = self.due.peek()?.offset;
        (offset <= self.cut).then_some(offset)
    }

    /// The oldest request, if it is due at `elapsed`.
    fn take(&mut self, elapsed: Duration) -> Option<Job> {
        if self.next_offset()? > elapsed {
            return None;
        }
        let due = self.due.next()?;
        if due.offset >= self.counts_from {
            self.taken += 1;
        }
        let part = (self.part)(due.number);
        Some(Job { due, part })
    }
}

impl Desk {
    /// `seats` connections take from `due`; requests before `counts_from` are the warm-up's.
    pub(super) fn new(
        start: Instant,
        seats: usize,
        due: impl Iterator<Item = Due> + 'static,
        part: impl Fn(u64) -> Part + 'static,
        counts_from: Duration,
    ) -> Self {
        let seat = || Seat {
            work: Cell::new(None),
            free_since: Cell::new(start),
            waker: RefCell::new(None),
        };
        let due: Box<dyn Iterator<Item = Due>> = Box::new(due);
        Self {
            start,
            schedule: RefCell::new(Schedule {
                due: due.peekable(),
                part: Box::new(part),
                cut: Duration::MAX,
                counts_from,
                taken: 0,
            }),
            free: RefCell::new(VecDeque::with_capacity(seats)),
            seats: (0..seats).map(|_| seat()).collect(),
            occupied: Cell::new(seats),
            sleeps_until: Cell::new(start),
            dispatcher: RefCell::new(None),
            is_nudged: Cell::new(false),
            is_over: Cell::new(false),
        }
    }

    /// Work for a connection that is free since `freed`; `None` when there will be none any more.
    pub(super) async fn next(&self, seat: usize, freed: Instant) -> Option<Work> {
        let own = self.seats.get(seat)?;
        if let Some(work) = self.take_overdue(freed) {
            return Some(work);
        }
        if self.is_finished() {
            return None;
        }
        own.free_since.set(freed);
        self.free.borrow_mut().push_back(seat);
        let next = self.schedule.borrow_mut().next_offset();
        if next.is_some_and(|offset| self.start + offset < self.sleeps_until.get()) {
            self.nudge();
        }
        poll_fn(|cx| {
            if let Some(work) = own.work.take() {
                return Poll::Ready(Some(work));
            }
            if self.is_finished() {
                return Poll::Ready(None);
            }
            self.keep_waker(seat, cx);
            Poll::Pending
        })
        .await
    }

    /// The connection of one seat takes no more work.
    pub(super) fn leave(&self) {
        self.occupied.set(self.occupied.get().saturating_sub(1));
        self.nudge();
    }

    /// Whether nothing is waited for any more; otherwise the task is woken when it comes to that.
    pub(super) fn poll_over(&self, seat: usize, cx: &Context<'_>) -> Poll<()> {
        if self.is_over.get() {
            return Poll::Ready(());
        }
        self.keep_waker(seat, cx);
        Poll::Pending
    }

    /// Gives requests that are due to connections that are free.
    pub(super) fn hand_out(&self, time: Instant) {
        let mut schedule = self.schedule.borrow_mut();
        let mut free = self.free.borrow_mut();
        let elapsed = time.saturating_duration_since(self.start);
        while let Some(index) = free.front().copied() {
            let Some(job) = schedule.take(elapsed) else {
                break;
            };
            free.pop_front();
            if let Some(seat) = self.seats.get(index) {
                let could = seat.free_since.get().max(self.start + job.due.offset);
                seat.work.set(Some(Work { job, could }));
                seat.wake();
            }
        }
    }

    /// Sleeps until a request is due that a connection is free for, or something else has changed.
    pub(super) async fn sleep(&self, timer: &mut Timer, until: Instant) {
        let time = now();
        let next = self.schedule.borrow_mut().next_offset();
        // What is due already waits for a connection, and that does not wait for the dispatcher.
        let next = next.map(|offset| self.start + offset);
        let next = next.filter(|due| *due > time || !self.free.borrow().is_empty());
        let until = next.unwrap_or(until).min(until).min(time + LOOK_EVERY);
        self.sleeps_until.set(until);
        timer.reset(until);
        poll_fn(|cx| {
            if self.is_nudged.replace(false) {
                return Poll::Ready(());
            }
            keep(&self.dispatcher, cx);
            timer.poll_expired(cx)
        })
        .await;
    }

    /// Requests that are not due yet at `time` are no part of the run.
    pub(super) fn cut(&self, time: Instant) -> Duration {
        let elapsed = time.saturating_duration_since(self.start);
        self.schedule.borrow_mut().cut = elapsed;
        self.wake_all();
        elapsed
    }

    /// Whether every request has been taken and every seat left.
    pub(super) fn is_left(&self) -> bool {
        self.occupied.get() == 0 && self.schedule.borrow_mut().next_offset().is_none()
    }

    /// Wakes those that wait for work that will not come.
    pub(super) fn dismiss(&self) {
        if self.is_finished() {
            self.wake_all();
        }
    }

    /// Ends every wait, and returns the next of the requests that were never sent.
    pub(super) fn give_up(&self) -> Option<Job> {
        if !self.is_over.replace(true) {
            self.wake_all();
        }
        self.schedule.borrow_mut().take(Duration::MAX)
    }

    /// Requests that were taken and count.
    pub(super) fn taken(&self) -> u64 {
        self.schedule.borrow().taken
    }

    /// The oldest request that is due, for a connection that is free since `freed`.
    fn take_overdue(&self, freed: Instant) -> Option<Work> {
        if self.is_over.get() {
            return None;
        }
        let elapsed = now().saturating_duration_since(self.start);
        let job = self.schedule.borrow_mut().take(elapsed)?;
        // Another connection may have been free before, and the dispatcher late.
        let first = self.free.borrow().front().copied();
        let first = first.and_then(|index| self.seats.get(index));
        let free_since = first.map_or(freed, |seat| seat.free_since.get().min(freed));
        let could = free_since.max(self.start + job.due.offset);
        Some(Work { job, could })
    }

    /// Whether no connection gets work any more.
    fn is_finished(&self) -> bool {
        self.is_over.get() || self.schedule.borrow_mut().next_offset().is_none()
    }

    fn nudge(&self) {
        if !self.is_nudged.replace(true)
            && let Some(waker) = &*self.dispatcher.borrow()
        {
            waker.wake_by_ref();
        }
    }

    fn keep_waker(&self, seat: usize, cx: &Context<'_>) {
        if let Some(seat) = self.seats.get(seat) {
            keep(&seat.waker, cx);
        }
    }

    fn wake_all(&self) {
        self.seats.iter().for_each(Seat::wake);
    }
}

impl Seat {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Remembers who to wake, without touching a waker that is the same.
fn keep(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    if !slot
        .as_ref()
        .is_some_and(|waker| waker.will_wake(cx.waker()))
    {
        *slot = Some(cx.waker().clone());
    }
}
