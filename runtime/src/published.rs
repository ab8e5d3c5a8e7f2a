//! Immutable snapshots that one thread publishes and every shard reads.
//!
//! A subscriber always finds the latest; the ones between may be missed. It does not queue: a wake
//! cannot be lost, since what it announces is a state and not a message.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;

/// The place where the latest snapshot is found. Clones are the same place.
#[derive(Debug)]
pub struct Published<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    latest: ArcSwap<T>,
    /// Grows by one with each publication, after `latest` is in place.
    version: AtomicU64,
    next_id: AtomicU64,
    /// Who waits for a change, by subscription: an entry while it lives, so subscriptions bound it.
    ///
    /// Locked when a subscription waits for the first time, when it ends and by `publish`; never
    /// where bytes are moved.
    waiting: Mutex<HashMap<u64, Waker>>,
}

/// One reader's view: the snapshot that it has seen, and a wake when there is a later one.
#[derive(Debug)]
pub struct Subscription<T> {
    published: Arc<Inner<T>>,
    seen: Arc<T>,
    version: u64,
    id: u64,
    /// The waker that stands in `Inner::waiting`.
    waits: Option<Waker>,
}

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Published<T> {
    #[must_use]
    pub fn new(first: Arc<T>) -> Self {
        Self(Arc::new(Inner {
            latest: ArcSwap::new(first),
            version: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            waiting: Mutex::new(HashMap::new()),
        }))
    }

    /// The latest snapshot.
    ///
    /// Counts a reference that all shards share; where it is read per operation, hold a
    /// [`Subscription`] instead.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.0.latest.load_full()
    }

    /// Replaces the snapshot and wakes every subscriber.
    pub fn publish(&self, snapshot: Arc<T>) {
        self.0.latest.store(snapshot);
        self.0.version.fetch_add(1, Ordering::SeqCst);
        // They stay: a subscriber waits again by the same waker.
        let waiting: Vec<Waker> = self.0.waiting().values().cloned().collect();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A view that starts with the latest snapshot.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<T> {
        let version = self.0.version.load(Ordering::SeqCst);
        Subscription {
            seen: self.0.latest.load_full(),
            published: Arc::clone(&self.0),
            version,
            id: self.0.next_id.fetch_add(1, Ordering::Relaxed),
            waits: None,
        }
    }
}

impl<T> Inner<T> {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waker>> {
        // An insert or a removal cannot leave the map torn.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Subscription<T> {
    /// The latest snapshot; costs one load of a counter when it is the one seen before.
    pub fn current(&mut self) -> &Arc<T> {
        let version = self.published.version.load(Ordering::SeqCst);
        if version != self.version {
            self.version = version;
            self.seen = self.published.latest.load_full();
        }
        &self.seen
    }

    /// The snapshot seen last, whether or not there is a later one.
    #[must_use]
    pub fn seen(&self) -> &Arc<T> {
        &self.seen
    }

    /// Ready when there is a later snapshot than the one seen, which it then is.
    ///
    /// A poll by the same task as the last one, with nothing new, loads a counter and no more.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Arc<T>> {
        if self.is_behind() {
            return Poll::Ready(Arc::clone(self.current()));
        }
        if self
            .waits
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            return Poll::Pending;
        }
        let waker = cx.waker().clone();
        self.published.waiting().insert(self.id, waker.clone());
        self.waits = Some(waker);
        // A publication before the insertion woke nobody.
        if self.is_behind() {
            return Poll::Ready(Arc::clone(self.current()));
        }
        Poll::Pending
    }

    /// As [`poll_changed`](Self::poll_changed).
    pub async fn changed(&mut self) -> Arc<T> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    fn is_behind(&self) -> bool {
        self.published.version.load(Ordering::SeqCst) != self.version
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        if self.waits.is_some() {
            // The waker is dropped outside the lock: its destructor is not ours.
            let waker = self.published.waiting().remove(&self.id);
            drop(waker);
        }
    }
}
