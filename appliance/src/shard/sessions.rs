//! The sessions alive on one shard, and how to reach one from outside its task.
//!
//! A session is found by its slot, which is the low part of the process id that
//! the client got in `BackendKeyData`; the high part names the shard.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use codecs::postgres::auth::same_secret;
use runtime::{DeadlinePassed, ShardId};

use crate::recorder::SessionId;
use crate::upstream::CancelHandle;

/// Bits of a process id that hold the slot; the rest, short of the sign, hold the shard.
const SLOT_BITS: u32 = 20;

/// Most sessions on one shard: as many as the slot has room for.
const SLOTS_MAX: usize = 1 << SLOT_BITS;

/// Per shard.
#[derive(Default)]
pub(crate) struct Sessions {
    slots: RefCell<Vec<Option<Rc<Session>>>>,
    free: RefCell<Vec<usize>>,
    alive: Cell<usize>,
    /// Woken when the last session leaves.
    emptied: RefCell<Option<Waker>>,
}

/// One live session as others see it.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    secret: Vec<u8>,
    /// `None`: the target knows no cancel.
    cancel: Option<CancelHandle>,
    signal: Cell<Option<Signal>>,
    waker: RefCell<Option<Waker>>,
    /// Set while a statement is running upstream; a cancel outside of it does nothing.
    running: Cell<bool>,
    /// Set once a cancel went upstream: the connection may be hit late, so no pool takes it back.
    cancelled: Cell<bool>,
}

/// What somebody outside asks of a session; a later, stronger one replaces an earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// End at the next moment without a running statement or open transaction.
    Drain,
    /// End now.
    Cut,
}

/// The registration of a session; leaving happens on drop.
#[must_use]
pub(crate) struct Registration {
    sessions: Rc<Sessions>,
    slot: usize,
    pub(crate) process_id: u32,
    pub(crate) session: Rc<Session>,
}

impl Sessions {
    /// Registers a session; `None` when every slot is taken.
    pub(crate) fn register(
        self: &Rc<Self>,
        shard: ShardId,
        id: SessionId,
        secret: Vec<u8>,
        cancel: Option<CancelHandle>,
    ) -> Option<Registration> {
        let session = Rc::new(Session {
            id,
            secret,
            cancel,
            signal: Cell::new(None),
            waker: RefCell::new(None),
            running: Cell::new(false),
            cancelled: Cell::new(false),
        });
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or(slots.len());
        if slot >= SLOTS_MAX {
            return None;
        }
        if slot == slots.len() {
            slots.push(None);
        }
        *slots.get_mut(slot)? = Some(Rc::clone(&session));
        self.alive.set(self.alive.get() + 1);
        let process_id = (u32::from(shard.0) << SLOT_BITS) | u32::try_from(slot).ok()?;
        Some(Registration {
            sessions: Rc::clone(self),
            slot,
            process_id,
            session,
        })
    }

    /// The session that a `CancelRequest` names, if the secret is right.
    pub(crate) fn cancellable(&self, process_id: u32, secret: &[u8]) -> Option<Rc<Session>> {
        let slot = usize::try_from(process_id).ok()? & (SLOTS_MAX - 1);
        let slots = self.slots.borrow();
        let session = slots.get(slot)?.as_ref()?;
        let same = same_secret(&session.secret, secret);
        same.then(|| Rc::clone(session))
    }

    /// Signals every session.
    pub(crate) fn signal_all(&self, signal: Signal) {
        // Copied out: a woken session may end and leave while we go through them.
        let sessions: Vec<Rc<Session>> = self.slots.borrow().iter().flatten().cloned().collect();
        for session in sessions {
            session.signal(signal);
        }
    }

    /// Waits until no session is alive.
    ///
    /// # Errors
    /// `DeadlinePassed` while some are.
    pub(crate) async fn emptied(&self, deadline: Instant) -> Result<(), DeadlinePassed> {
        let empty = poll_fn(|context| {
            if self.alive.get() == 0 {
                return Poll::Ready(());
            }
            *self.emptied.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        });
        runtime::with_deadline(deadline, empty).await
    }

    /// How many sessions are alive.
    pub(crate) fn alive(&self) -> usize {
        self.alive.get()
    }
}

/// The shard that handed out `process_id`.
pub(crate) fn shard_of(process_id: u32) -> Option<ShardId> {
    u16::try_from(process_id >> SLOT_BITS).ok().map(ShardId)
}

impl Session {
    /// Raises `signal` and wakes the session's task.
    pub(crate) fn signal(&self, signal: Signal) {
        self.signal.set(self.signal.get().max(Some(signal)));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The strongest signal raised so far; registers the task to be woken by the next.
    pub(crate) fn poll_signal(&self, context: &mut Context<'_>) -> Poll<Signal> {
        // Also with a signal at hand: a stronger one may follow it.
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        self.signal.get().map_or(Poll::Pending, Poll::Ready)
    }

    /// Where a cancel for the running statement goes; `None` when nothing runs.
    pub(crate) fn begin_cancel(&self) -> Option<&CancelHandle> {
        if !self.running.get() {
            return None;
        }
        self.cancelled.set(true);
        self.cancel.as_ref()
    }

    /// Where cancels for this session go.
    pub(crate) fn cancel_handle(&self) -> Option<&CancelHandle> {
        self.cancel.as_ref()
    }

    pub(crate) fn set_running(&self, running: bool) {
        self.running.set(running);
    }

    /// Whether a cancel was ever sent for this session's upstream.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.cancelled.get()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(slot) = self.sessions.slots.borrow_mut().get_mut(self.slot) {
            *slot = None;
        }
        self.sessions.free.borrow_mut().push(self.slot);
        let alive = self.sessions.alive.get() - 1;
        self.sessions.alive.set(alive);
        if alive == 0
            && let Some(waker) = self.sessions.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
