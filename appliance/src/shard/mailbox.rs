//! What reaches a shard from outside: seats are made before the shards, so everybody has an address.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use runtime::{ListenAddress, Receiver, ReplyReceiver, ReplySender, Sender, ShardId, TrySendError};

use super::listening::{self, BindError, SocketFiles};
use crate::config::ListenerSettings;
use crate::recorder::SessionId;
use crate::service::{Notifier, PassedSockets};
use crate::shard::LiveSession;
use crate::telemetry::metrics::ShardObservation;
use crate::upstream::{AccountCheck, TargetSettings};

/// Messages that may wait for one shard.
///
/// Count. They are rare (cancels, a drain); a shard that is this far behind is stuck, and whoever
/// sends is told so: a cancel is lost as a lost packet would be, a drain is sent again.
const MAILBOX_BOUND: usize = 1024;

/// A message to one shard.
pub enum ToShard {
    /// A `CancelRequest` that arrived on another shard. Answered when the target has been told,
    /// or when there is nothing to tell.
    Cancel {
        process_id: u32,
        secret: Vec<u8>,
        done: ReplySender<()>,
    },
    /// Say how it is.
    Observe {
        reply: ReplySender<ShardObservation>,
    },
    /// Say which sessions there are.
    List {
        reply: ReplySender<Vec<LiveSession>>,
    },
    /// Log in to a target with each of its accounts, and say what came of it.
    Check {
        target: Arc<TargetSettings>,
        reply: ReplySender<Vec<AccountCheck>>,
    },
    /// End this session now. Answered with whether it was there.
    Kill {
        session: SessionId,
        done: ReplySender<bool>,
    },
    /// Stop accepting, let sessions come to rest, end what is left at `deadline`.
    Drain { deadline: Instant },
}

/// How every shard is reached. Per process, cloned into each thread.
#[derive(Clone)]
pub struct Directory {
    shards: Vec<Sender<ToShard>>,
    draining: Arc<AtomicBool>,
}

/// What one shard starts with.
pub(crate) struct Seat {
    pub(crate) listeners: Vec<(OwnedFd, ListenerSettings)>,
    pub(crate) mailbox: Receiver<ToShard>,
}

/// The seats of all shards, each taken once.
pub struct Seats {
    // Taken once per shard at start; never on the data path.
    seats: Mutex<Vec<Option<Seat>>>,
    addresses: Vec<ListenAddress>,
    _files: SocketFiles,
}

/// A shard is gone, or too far behind to be told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shard does not take messages; the session may be on it")]
pub struct ShardNotTold;

impl Seats {
    /// Has every listener for every shard, and makes the mailboxes.
    ///
    /// # Errors
    /// `BindError` for the first address that can not be had.
    pub fn prepare(
        count: usize,
        listeners: &[ListenerSettings],
        passed: PassedSockets,
        notifier: &Notifier,
    ) -> Result<(Self, Directory), BindError> {
        let listening = listening::open(count, listeners, passed, notifier)?;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| runtime::mailbox(MAILBOX_BOUND)).unzip();
        let seats = listening
            .sockets
            .into_iter()
            .zip(receivers)
            .map(|(listeners, mailbox)| Some(Seat { listeners, mailbox }))
            .collect();
        Ok((
            Self {
                seats: Mutex::new(seats),
                addresses: listening.addresses,
                _files: listening.files,
            },
            Directory {
                shards: senders,
                draining: Arc::default(),
            },
        ))
    }

    /// Where the listeners are, in the order of the configuration, ports settled.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The seat of `shard`; `None` if it was taken.
    pub(crate) fn take(&self, shard: ShardId) -> Option<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.get_mut(usize::from(shard.0)).and_then(Option::take)
    }
}

impl Directory {
    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Sends to one shard.
    ///
    /// # Errors
    /// The message comes back when the shard is gone or its mailbox is full.
    pub fn send(&self, shard: ShardId, message: ToShard) -> Result<(), TrySendError<ToShard>> {
        match self.shards.get(usize::from(shard.0)) {
            Some(mailbox) => mailbox.try_send(message),
            None => Err(TrySendError::Closed(message)),
        }
    }

    /// Asks every shard to end a session; the one that has it answers `true`.
    ///
    /// # Errors
    /// `ShardNotTold` when one of them is gone or too far behind to be asked.
    pub fn kill(&self, session: SessionId) -> Result<Vec<ReplyReceiver<bool>>, ShardNotTold> {
        let ask = |mailbox: &Sender<ToShard>| {
            let (done, answered) = runtime::reply();
            let told = mailbox.try_send(ToShard::Kill { session, done });
            told.map(|()| answered).map_err(|_| ShardNotTold)
        };
        self.shards.iter().map(ask).collect()
    }

    /// Whether the shards were asked to drain.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Asks every shard to drain until `deadline`. Returns how many could not be told.
    pub fn drain(&self, deadline: Instant) -> usize {
        self.draining.store(true, Ordering::Relaxed);
        let told =
            |mailbox: &Sender<ToShard>| mailbox.try_send(ToShard::Drain { deadline }).is_ok();
        self.shards.iter().filter(|mailbox| !told(mailbox)).count()
    }
}
