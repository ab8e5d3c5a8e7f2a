//! The gate of a shard's listeners: open until the drain begins.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Poll, Waker};

use runtime::{Listener, Stream};

/// Per shard. One task for each listener waits here, so there are as many wakers.
#[derive(Default)]
pub(crate) struct Gate {
    closed: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    /// The next connection; `None` once the gate is closed.
    pub(crate) async fn accept(&self, listener: &mut Listener) -> Option<io::Result<Stream>> {
        poll_fn(|context| {
            if self.closed.get() {
                return Poll::Ready(None);
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
