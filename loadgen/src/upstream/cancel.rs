//! CancelRequests: from whichever shard they reach to the session that they name.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use codecs::postgres::auth::same_secret;
use ring::rand::{SecureRandom, SystemRandom};
use runtime::{Receiver, Sender, ShardId, mailbox};

/// CancelRequests on their way to a shard. One that finds no room is lost, as PostgreSQL may lose
/// one.
const WAITING_MAX: usize = 1024;

const SECRET_BYTES: usize = 4;

/// A CancelRequest on its way.
struct Asked {
    process_id: u32,
    secret: [u8; SECRET_BYTES],
}

/// The mailboxes of all shards.
#[derive(Clone)]
pub(super) struct Shared {
    senders: Arc<[Sender<Asked>]>,
    /// Each is taken by its shard, once, when it starts.
    receivers: Arc<Mutex<Vec<Option<Receiver<Asked>>>>>,
}

/// The sessions of one shard, and the way to the others.
pub(super) struct Cancels {
    senders: Arc<[Sender<Asked>]>,
    receiver: RefCell<Option<Receiver<Asked>>>,
    shard: u32,
    made: Cell<u32>,
    sessions: RefCell<HashMap<u32, Rc<Flag>>>,
}

/// Whether what a session does is to be cancelled.
pub(super) struct Flag {
    secret: [u8; SECRET_BYTES],
    is_set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A session's entry; gone with it.
pub(super) struct Key {
    cancels: Rc<Cancels>,
    pub(super) process_id: u32,
    pub(super) flag: Rc<Flag>,
}

impl Shared {
    pub(super) fn new(shards: NonZeroUsize) -> Self {
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..shards.get() {
            let (sender, receiver) = mailbox(WAITING_MAX);
            senders.push(sender);
            receivers.push(Some(receiver));
        }
        Self {
            senders: senders.into(),
            receivers: Arc::new(Mutex::new(receivers)),
        }
    }
}

impl Cancels {
    pub(super) fn new(shared: &Shared, shard: ShardId) -> Rc<Self> {
        let mut receivers = shared
            .receivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let receiver = receivers
            .get_mut(usize::from(shard.0))
            .and_then(Option::take);
        Rc::new(Self {
            senders: Arc::clone(&shared.senders),
            receiver: RefCell::new(receiver),
            shard: u32::from(shard.0),
            made: Cell::new(0),
            sessions: RefCell::default(),
        })
    }

    /// Enters a new session. `None` when there is no randomness for its secret.
    pub(super) fn enter(self: &Rc<Self>) -> Option<Key> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).ok()?;
        let flag = Rc::new(Flag {
            secret,
            is_set: Cell::new(false),
            waker: RefCell::new(None),
        });
        let shards = u32::try_from(self.senders.len()).ok()?;
        // Never 0, which no process has; a number that is in use is passed over.
        let mut sessions = self.sessions.borrow_mut();
        let process_id = loop {
            let made = self.made.get().wrapping_add(1);
            self.made.set(made);
            let next = made.wrapping_mul(shards).wrapping_add(self.shard);
            if next != 0 && next % shards == self.shard && !sessions.contains_key(&next) {
                break next;
            }
        };
        sessions.insert(process_id, Rc::clone(&flag));
        Some(Key {
            cancels: Rc::clone(self),
            process_id,
            flag,
        })
    }

    /// Sends a CancelRequest to the shard of its session.
    pub(super) fn ask(&self, process_id: u32, secret: &[u8]) {
        let (Ok(secret), Ok(shards)) = (secret.try_into(), u32::try_from(self.senders.len()))
        else {
            return;
        };
        let shard = process_id
            .checked_rem(shards)
            .and_then(|shard| usize::try_from(shard).ok());
        if let Some(sender) = shard.and_then(|shard| self.senders.get(shard)) {
            // Lost where there is no room, as the bound says.
            drop(sender.try_send(Asked { process_id, secret }));
        }
    }

    /// Hands what is asked to the sessions of this shard, as long as it runs.
    pub(super) async fn deliver(self: Rc<Self>) {
        let receiver = self.receiver.borrow_mut().take();
        let Some(mut receiver) = receiver else { return };
        while let Some(asked) = receiver.recv().await {
            let flag = self.sessions.borrow().get(&asked.process_id).cloned();
            if let Some(flag) = flag.filter(|flag| same_secret(&flag.secret, &asked.secret)) {
                flag.set();
            }
        }
    }
}

impl Key {
    pub(super) fn secret(&self) -> &[u8] {
        &self.flag.secret
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.cancels.sessions.borrow_mut().remove(&self.process_id);
    }
}

impl Flag {
    fn set(&self) {
        self.is_set.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// A new statement begins: what was asked before was about another.
    pub(super) fn clear(&self) {
        self.is_set.set(false);
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set.get()
    }

    pub(super) fn poll_set(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_set.get() {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}
