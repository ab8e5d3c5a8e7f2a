//! Keeps a panic inside the task that raised it.
//!
//! The executor beneath would end the whole shard on a panic in any task. It does not decide what
//! follows from a contained panic: [`contain`] returns it as a value.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    /// How many [`contain`] polls are on this thread's stack.
    static CONTAINING: Cell<u32> = const { Cell::new(0) };
    static CONTAINED: Cell<u64> = const { Cell::new(0) };
    static LAST_LOCATION: Cell<Option<PanicLocation>> = const { Cell::new(None) };
}

/// Where a panic was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanicLocation {
    pub file: String,
    pub line: u32,
    pub column: u32,
}

impl std::fmt::Display for PanicLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A future panicked and was dropped.
///
/// Carries the place and never the message: a message may quote bytes of a peer. The place is
/// known only when [`install_panic_hook`] ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked at {}", .location.as_ref().map_or_else(|| "an unknown place".to_owned(), ToString::to_string))]
pub struct Panicked {
    pub location: Option<PanicLocation>,
}

/// Runs `future`; a panic in it, or in its destructor, becomes an error.
///
/// # Errors
/// [`Panicked`]. It is counted in [`panics_contained`] and not logged here: the caller knows which
/// connection it was.
pub fn contain<F: Future>(future: F) -> Contained<F> {
    // Not an `async fn`, whose own future would hold `future` a second time.
    Contained(Some(Box::pin(future)))
}

/// Panics contained on this shard since it started.
#[must_use]
pub fn panics_contained() -> u64 {
    CONTAINED.get()
}

/// Replaces the process's panic hook by one that reports the place and never the message.
///
/// Call once, first thing in `main`. A panic inside [`contain`] is not reported by the hook; its
/// place travels in [`Panicked`].
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(|location| PanicLocation {
            file: location.file().to_owned(),
            line: location.line(),
            column: location.column(),
        });
        if CONTAINING.get() > 0 {
            LAST_LOCATION.set(location);
            return;
        }
        let current = std::thread::current();
        let thread = current.name().unwrap_or("unnamed");
        let place = location.map_or_else(|| "an unknown place".to_owned(), |l| l.to_string());
        if tracing::dispatcher::has_been_set() {
            tracing::error!(thread, location = %place, "panic");
        } else {
            eprintln!("thread {thread} panicked at {place}");
        }
    }));
}

/// Counts a panic on this shard.
pub(crate) fn count() {
    CONTAINED.set(CONTAINED.get() + 1);
}

/// Runs `f` and turns a panic into a value, counting it.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panicked> {
    CONTAINING.set(CONTAINING.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    CONTAINING.set(CONTAINING.get() - 1);
    outcome.map_err(|payload| {
        count();
        let location = LAST_LOCATION.take();
        // A payload is any type, so dropping it runs foreign code that may panic again. The
        // payload of that second panic is forgotten: a leak is better than a loop.
        if let Err(second) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            std::mem::forget(second);
        }
        Panicked { location }
    })
}

/// Polls a future under `catch`, and drops it under `catch` too.
#[must_use = "a future does nothing until it is polled"]
pub struct Contained<F>(Option<Pin<Box<F>>>);

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.0.as_mut() else {
            return Poll::Pending;
        };
        let outcome = match catch(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panicked) => Err(panicked),
        };
        let future = self.0.take();
        Poll::Ready(match catch(move || drop(future)) {
            Ok(()) => outcome,
            Err(panicked) => outcome.and(Err(panicked)),
        })
    }
}

impl<F> Drop for Contained<F> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take()
            && let Err(panicked) = catch(move || drop(future))
        {
            tracing::error!(%panicked, "a cancelled task panicked while it was dropped");
        }
    }
}
