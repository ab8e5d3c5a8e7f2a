//! A task's place on its shard: counts when it runs, and lets any thread wake it.
//!
//! The executor's own wakers reach a sleeping shard through the executor's rings, where this shard
//! does not sleep. So a task sees a waker of ours: from the shard itself it goes straight to the
//! executor's run queue, from another thread through [`Doorbell`].

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};

use crate::slab::{Key, Slab};

thread_local! {
    static DOORBELL: RefCell<Option<Arc<Doorbell>>> = const { RefCell::new(None) };
    static SEATS: RefCell<Slab<Occupied>> = const { RefCell::new(Slab::new()) };
    /// Tasks run since the driver last looked.
    static RUN: Cell<u32> = const { Cell::new(0) };
}

/// How other threads reach a shard that may be asleep. Per shard, shared with its wakers.
#[derive(Debug)]
pub(crate) struct Doorbell {
    /// Readable once it was rung; the shard's ring watches it.
    event: OwnedFd,
    /// The shard is about to sleep or sleeps: whoever adds a task rings.
    sleeps: AtomicBool,
    /// Something is in `woken`.
    has_woken: AtomicBool,
    /// Tasks woken from other threads; each is in it once at most, so tasks bound it.
    ///
    /// Locked by other threads' wakes, and by the shard when there was one: never where bytes are
    /// moved.
    woken: Mutex<Vec<Key>>,
}

/// What a seat needs at a wake.
struct Occupied {
    executor: Option<Waker>,
    bell: Arc<TaskBell>,
}

/// The waker that a task sees.
struct TaskBell {
    doorbell: Arc<Doorbell>,
    key: OnceLock<Key>,
    /// It is in `Doorbell::woken`.
    is_queued: AtomicBool,
}

/// A future on its shard.
pub(crate) struct Seat<F> {
    future: F,
    key: Key,
    waker: Waker,
}

impl Doorbell {
    /// Makes this thread's doorbell.
    pub(crate) fn install() -> std::io::Result<Arc<Self>> {
        let doorbell = Arc::new(Self {
            event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            sleeps: AtomicBool::new(false),
            has_woken: AtomicBool::new(false),
            woken: Mutex::new(Vec::new()),
        });
        DOORBELL.with(|slot| *slot.borrow_mut() = Some(Arc::clone(&doorbell)));
        Ok(doorbell)
    }

    /// This thread's doorbell is no more; tasks that were woken late are gone.
    pub(crate) fn remove() {
        DOORBELL.with(|slot| *slot.borrow_mut() = None);
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Wakes what other threads have woken; returns whether there was something.
    pub(crate) fn deliver(&self) -> bool {
        if !self.has_woken.load(Ordering::SeqCst) {
            return false;
        }
        // Unset before the queue is emptied: a wake that comes in between sets it again.
        self.has_woken.store(false, Ordering::SeqCst);
        let woken = std::mem::take(&mut *self.woken());
        for key in &woken {
            let seat = SEATS.with(|seats| {
                let seats = seats.borrow();
                let seat = seats.get(*key)?;
                // Before the wake, so that one that comes after it is not lost.
                seat.bell.is_queued.store(false, Ordering::SeqCst);
                seat.executor.clone()
            });
            if let Some(waker) = seat {
                waker.wake();
            }
        }
        !woken.is_empty()
    }

    /// Says that the shard is going to sleep; false when something came just now.
    pub(crate) fn may_sleep(&self) -> bool {
        self.sleeps.store(true, Ordering::SeqCst);
        if self.has_woken.load(Ordering::SeqCst) {
            self.awake();
            return false;
        }
        true
    }

    pub(crate) fn awake(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
    }

    fn add(&self, key: Key) {
        self.woken().push(key);
        self.has_woken.store(true, Ordering::SeqCst);
        if self.sleeps.swap(false, Ordering::SeqCst) {
            // It fails only when the counter is at its top, and then it is readable as well.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    fn woken(&self) -> std::sync::MutexGuard<'_, Vec<Key>> {
        // A push or a take cannot leave the list torn.
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_here(&self) -> bool {
        DOORBELL
            .try_with(|slot| {
                let slot = slot.borrow();
                slot.as_deref().is_some_and(|here| std::ptr::eq(here, self))
            })
            .unwrap_or(false)
    }
}

impl Wake for TaskBell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Some(key) = self.key.get() else { return };
        if self.doorbell.is_here() {
            wake_here(*key);
        } else if !self.is_queued.swap(true, Ordering::SeqCst) {
            self.doorbell.add(*key);
        }
    }
}

fn wake_here(key: Key) {
    SEATS.with(|seats| {
        if let Some(seat) = seats.borrow().get(key)
            && let Some(waker) = &seat.executor
        {
            waker.wake_by_ref();
        }
    });
}

impl<F: Future + Unpin> Seat<F> {
    /// `None` outside a shard.
    pub(crate) fn take(future: F) -> Option<Self> {
        let doorbell = DOORBELL.with(|slot| slot.borrow().clone())?;
        let bell = Arc::new(TaskBell {
            doorbell,
            key: OnceLock::new(),
            is_queued: AtomicBool::new(false),
        });
        let key = SEATS.with(|seats| {
            seats.borrow_mut().insert(Occupied {
                executor: None,
                bell: Arc::clone(&bell),
            })
        })?;
        // It was made empty above.
        let _ = bell.key.set(key);
        Some(Self {
            future,
            key,
            waker: Waker::from(bell),
        })
    }
}

impl<F: Future + Unpin> Future for Seat<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        RUN.set(RUN.get().saturating_add(1));
        let Self { future, key, waker } = &mut *self;
        SEATS.with(|seats| {
            if let Some(seat) = seats.borrow_mut().get_mut(*key) {
                match &seat.executor {
                    Some(known) if known.will_wake(cx.waker()) => {}
                    _ => seat.executor = Some(cx.waker().clone()),
                }
            }
        });
        Pin::new(future).poll(&mut Context::from_waker(waker))
    }
}

impl<F> Drop for Seat<F> {
    fn drop(&mut self) {
        // Fails only while the thread ends.
        let seat = SEATS.try_with(|seats| seats.borrow_mut().remove(self.key));
        // Outside the borrow: a waker's destructor is the executor's code.
        drop(seat);
    }
}

/// Whether tasks have run since the last call.
pub(crate) fn have_run() -> bool {
    RUN.replace(0) > 0
}
