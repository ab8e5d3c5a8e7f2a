//! The task that sleeps for its shard: sockets, timers and other threads' wakes are looked at here.
//!
//! It never lets the executor park, which would cancel and arm again timers on three rings of its
//! own. Instead it stays at the end of the executor's run queue: when it is polled and no other task
//! has run since the last time, none can run, and the thread sleeps in the shard's own ring.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::clock::now;
use crate::ring::{Event, Operation, Ring, Token};
use crate::seat::{self, Doorbell};
use crate::slab::Key;
use crate::sockets::{self, with_ring};
use crate::{timer, turn};

/// How long tasks may keep running before the kernel is asked for events in between.
///
/// A quarter of the time that one task may take, so that it adds little to what a socket waits.
const LOOK_AFTER: Duration = Duration::from_micros(250);

/// The ring watches the doorbell alone this way, so any key will do.
const DOORBELL: Token = Token {
    operation: Operation::WatchReadable,
    key: Key::from_raw(0),
};

/// Per shard.
pub(crate) struct Driver {
    doorbell: Arc<Doorbell>,
    events: Vec<Event>,
    looked: Instant,
    ends: Rc<Cell<bool>>,
}

impl Driver {
    /// Makes this thread's ring and doorbell. The driver ends when `ends` is set, or by an error.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn install(ends: Rc<Cell<bool>>) -> io::Result<Self> {
        let doorbell = Doorbell::install()?;
        sockets::install()?;
        let driver = Self {
            doorbell,
            events: Vec::new(),
            looked: now(),
            ends,
        };
        watch(&driver.doorbell);
        Ok(driver)
    }

    /// Runs until the shard's end.
    pub(crate) async fn run(mut self) -> Option<io::Error> {
        poll_fn(|cx| {
            if self.ends.get() {
                return Poll::Ready(None);
            }
            match self.turn() {
                Ok(()) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Some(error)),
            }
        })
        .await
    }

    /// Returns when a task may have something to do.
    fn turn(&mut self) -> io::Result<()> {
        loop {
            let has_run = seat::have_run();
            let time = now();
            let is_woken = self.doorbell.deliver();
            let timers = timer::expire(time);
            if has_run || is_woken || timers.expired {
                turn::begin(time);
                if time.saturating_duration_since(self.looked) >= LOOK_AFTER {
                    self.look(Ring::poll)?;
                }
                return Ok(());
            }
            if !self.doorbell.may_sleep() {
                continue;
            }
            let timeout = timers.next.map(|next| next.saturating_duration_since(time));
            let is_woken = self.look(|ring| ring.wait(timeout))?;
            self.doorbell.awake();
            if is_woken {
                turn::begin(self.looked);
                return Ok(());
            }
        }
    }

    /// Enters the kernel by `enter` and hands on the events; returns whether there were any.
    fn look(&mut self, enter: impl FnOnce(&mut Ring) -> io::Result<()>) -> io::Result<bool> {
        let events = &mut self.events;
        let entered = with_ring(|ring| {
            enter(ring)?;
            ring.take_events(events);
            Ok(())
        });
        entered.unwrap_or_else(|| Err(io::Error::other("the ring is gone")))?;
        self.looked = now();
        let are_any = !self.events.is_empty();
        for event in self.events.drain(..) {
            match event.token.operation {
                // What it announces is delivered at the next turn.
                Operation::WatchReadable => {
                    if !event.more {
                        watch(&self.doorbell);
                    }
                }
                Operation::Receive | Operation::Accept | Operation::AwaitWritable => {
                    sockets::handle(event);
                }
            }
        }
        Ok(are_any)
    }
}

fn watch(doorbell: &Doorbell) {
    with_ring(|ring| ring.start(doorbell.event(), DOORBELL));
}
