//! What all pools of a shard stand on.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use runtime::Timer;

use crate::upstream::dial::Dialer;
use crate::upstream::settings::ShardPart;

/// Per shard.
pub(super) struct Ground {
    pub(super) dialer: Rc<Dialer>,
    pub(super) part: ShardPart,
    /// Wakes the upkeep.
    watcher: RefCell<Waker>,
}

impl Ground {
    pub(super) fn new(part: ShardPart) -> Self {
        Self {
            dialer: Rc::default(),
            part,
            watcher: RefCell::new(Waker::noop().clone()),
        }
    }

    /// The waker that an idle connection is to be looked at with, so that its end is noticed when
    /// it happens.
    pub(super) fn watcher(&self) -> Waker {
        self.watcher.borrow().clone()
    }

    /// Waits for something to happen on an idle connection, until `end` at most.
    pub(super) async fn watch(&self, end: Instant) {
        let mut timer = Timer::at(end);
        let mut begun = false;
        poll_fn(|cx: &mut Context<'_>| {
            if !std::mem::replace(&mut begun, true) {
                self.watcher.replace(cx.waker().clone());
                return timer.poll_expired(cx);
            }
            // Nothing but the timer and idle connections have the waker.
            Poll::Ready(())
        })
        .await;
    }
}
