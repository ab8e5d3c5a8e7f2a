//! How long one task may hold the shard before sockets, timers and mailboxes are looked at.
//!
//! The executor has a timer for this, and it must not be used: when it fires between two
//! instructions of the executor's loop (the thread need only lose its CPU there), the executor goes
//! to sleep on runnable tasks. So that timer is set beyond any run, and a task that has had its time
//! goes to the end of the run queue, behind the driver.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::clock::now;

/// How long a task may run while sockets wait.
///
/// 1 ms: with 100 ms, glommio's default, an echo behind a busy task took 400 ms, with 1 ms it took
/// 4 ms.
const TURN: Duration = Duration::from_millis(1);

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
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
    next_turn().await;
}

/// Lets sockets, timers and all other tasks have their turn.
pub async fn next_turn() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The driver has had its turn: what runs from here on has its share of time.
pub(crate) fn begin(now: Instant) {
    BEGAN.set(Some(now));
}
