//! A place in the queue for connections.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use runtime::with_deadline;

use super::lease::Connection;
use super::target::{PoolKey, Slot};
use crate::upstream::error::UpstreamError;

/// What whoever waited gets.
pub(super) enum Granted {
    /// A connection for the same key, as good as new.
    Used(Box<Connection>),
    /// The right to make one.
    Room(Slot),
    /// Waiting is of no use any more.
    Refused(UpstreamError),
}

/// One lease that waits. The queue holds the other reference.
pub(super) struct Ticket {
    pub(super) key: Rc<PoolKey>,
    state: RefCell<State>,
}

/// `Waiting -> Granted -> Done`, or `Waiting -> Done` when the wait was given up.
enum State {
    Waiting(Option<Waker>),
    Granted(Granted),
    Done,
}

impl Ticket {
    pub(super) fn new(key: Rc<PoolKey>) -> Rc<Self> {
        Rc::new(Self {
            key,
            state: RefCell::new(State::Waiting(None)),
        })
    }

    /// Only such a ticket may be granted anything: another would lose it.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.state.borrow(), State::Waiting(_))
    }

    pub(super) fn grant(&self, granted: Granted) {
        let earlier = self.state.replace(State::Granted(granted));
        if let State::Waiting(Some(waker)) = earlier {
            waker.wake();
        }
    }

    /// `None` when the deadline passed. A grant that comes too late, or to a future that is
    /// dropped, is dropped with it, and so free for the next.
    pub(super) async fn wait(self: Rc<Self>, deadline: Instant) -> Option<Granted> {
        let waiting = Waiting(self);
        let granted = poll_fn(|cx| match waiting.0.state.replace(State::Done) {
            State::Granted(granted) => Poll::Ready(granted),
            State::Waiting(_) | State::Done => {
                waiting
                    .0
                    .state
                    .replace(State::Waiting(Some(cx.waker().clone())));
                Poll::Pending
            }
        });
        with_deadline(deadline, granted).await.ok()
    }
}

struct Waiting(Rc<Ticket>);

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.state.replace(State::Done));
    }
}
