//! Immutable snapshots that one thread publishes and every shard reads.
//!
//! A subscriber always finds the latest; the ones between may be missed. It does not queue: a wake
//! cannot be lost, since what it announces is a state and not a message.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

/// Subscribers that may be gone before the list is swept, beside as many as live.
const SWEEP_FROM: usize = 64;

/// The place where the latest snapshot is found. Clones are the same place.
#[derive(Debug)]
pub struct Published<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    latest: ArcSwap<T>,
    /// Grows by one with each publication, after `latest` is in place.
    version: AtomicU64,
    /// Locked by `publish` and `subscribe` only, never where bytes are moved.
    subscribers: Mutex<Subscribers>,
}

#[derive(Debug)]
struct Subscribers {
    wakes: Vec<mpsc::Sender<()>>,
    sweep_at: usize,
}

/// One reader's view: the snapshot that it has seen, and a wake when there is a later one.
#[derive(Debug)]
pub struct Subscription<T> {
    published: Arc<Inner<T>>,
    seen: Arc<T>,
    version: u64,
    wakes: mpsc::Receiver<()>,
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
            subscribers: Mutex::new(Subscribers {
                wakes: Vec::new(),
                sweep_at: SWEEP_FROM,
            }),
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
        self.0.version.fetch_add(1, Ordering::Release);
        let mut subscribers = self.0.subscribers();
        // A subscriber whose slot is full has a wake waiting already.
        subscribers.wakes.retain(|wake| {
            !matches!(
                wake.try_send(()),
                Err(mpsc::error::TrySendError::Closed(()))
            )
        });
    }

    /// A view that starts with the latest snapshot.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<T> {
        let (wake, wakes) = mpsc::channel(1);
        self.0.subscribers().add(wake);
        let version = self.0.version.load(Ordering::Acquire);
        Subscription {
            seen: self.0.latest.load_full(),
            published: Arc::clone(&self.0),
            version,
            wakes,
        }
    }
}

impl<T> Inner<T> {
    fn subscribers(&self) -> std::sync::MutexGuard<'_, Subscribers> {
        // A panic under this lock can leave at most a subscriber without its wake for one change.
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscribers {
    fn add(&mut self, wake: mpsc::Sender<()>) {
        if self.wakes.len() >= self.sweep_at {
            self.wakes.retain(|wake| !wake.is_closed());
            self.sweep_at = SWEEP_FROM + 2 * self.wakes.len();
        }
        self.wakes.push(wake);
    }
}

impl<T> Subscription<T> {
    /// The latest snapshot; costs one load of a counter when it is the one seen before.
    pub fn current(&mut self) -> &Arc<T> {
        let version = self.published.version.load(Ordering::Acquire);
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
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Arc<T>> {
        loop {
            if self.published.version.load(Ordering::Acquire) != self.version {
                return Poll::Ready(Arc::clone(self.current()));
            }
            match self.wakes.poll_recv(cx) {
                Poll::Ready(Some(())) => {}
                // The senders live as long as `published`, which this holds.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// As [`poll_changed`](Self::poll_changed).
    pub async fn changed(&mut self) -> Arc<T> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }
}
