//! The gate of a shard's listeners: open until the drain begins, and who is still on the way in then.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use runtime::{DeadlinePassed, Listener, Stream};

/// Per shard. One task for each listener waits here, so there are as many wakers.
#[derive(Default)]
pub(crate) struct Gate {
    closed: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    /// The next connection; `None` once the gate is closed and nobody is left behind it.
    ///
    /// Whoever the kernel has handed over when it closes is inside: closing that connection would
    /// reset it, while those in the kernel's queue wait there for the next process.
    pub(crate) async fn accept(&self, listener: &mut Listener) -> Option<io::Result<Stream>> {
        poll_fn(|context| {
            if self.closed.get() {
                listener.stop();
                // What fails then is the listener, since it has ended.
                return listener
                    .poll_accept(context)
                    .map(|accepted| Some(Ok(accepted.ok()?)));
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            drop(waiting);
            listener.poll_accept(context).map(Some)
        })
        .await
    }

    /// Lets nobody in from here on.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }
}

/// How many connections of a shard are between accept and the beginning of their session. Per shard.
#[derive(Default)]
pub(crate) struct Arrivals {
    count: Cell<usize>,
    /// Woken when the last has arrived.
    settled: RefCell<Option<Waker>>,
}

/// One of them; it has arrived, or has left, on drop.
#[must_use]
pub(crate) struct Arriving(Rc<Arrivals>);

impl Arrivals {
    pub(crate) fn begin(self: &Rc<Self>) -> Arriving {
        self.count.set(self.count.get() + 1);
        Arriving(Rc::clone(self))
    }

    /// Waits until none is on its way.
    ///
    /// # Errors
    /// `DeadlinePassed` while some are.
    pub(crate) async fn settled(&self, deadline: Instant) -> Result<(), DeadlinePassed> {
        let settled = poll_fn(|context| {
            if self.count.get() == 0 {
                return Poll::Ready(());
            }
            *self.settled.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        });
        runtime::with_deadline(deadline, settled).await
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0
            && let Some(waker) = self.0.settled.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
