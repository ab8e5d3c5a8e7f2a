//! What reaches a shard from outside: seats are made before the shards, so everybody has an address.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runtime::{ListenAddress, Receiver, ReplyReceiver, ReplySender, Sender, ShardId, TrySendError};

use crate::config::ListenerSettings;
use crate::recorder::SessionId;
use crate::shard::LiveSession;
use crate::telemetry::metrics::ShardObservation;
use crate::upstream::{AccountCheck, TargetSettings};

/// Messages that may wait for one shard.
///
/// Count. They are rare (cancels, a drain); a shard that is this far behind is stuck, and whoever
/// sends is told so: a cancel is lost as a lost packet would be, a drain is sent again.
const MAILBOX_BOUND: usize = 1024;

/// How long an address may still be in use at the start.
///
/// The kernel takes the rings of a killed process apart after the process, and the sockets in them:
/// for some milliseconds its listeners still accept. A restart must not fail for that.
const PREDECESSOR_WITHIN: Duration = Duration::from_secs(1);
const PREDECESSOR_PAUSE: Duration = Duration::from_millis(20);

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

/// The files of our Unix sockets, which go with it.
#[derive(Default)]
struct SocketFiles(Vec<SocketFile>);

struct SocketFile {
    path: PathBuf,
    /// Device and inode: a successor may have put its own there.
    identity: (u64, u64),
}

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    pub address: ListenAddress,
    pub source: io::Error,
}

/// A shard is gone, or too far behind to be told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shard does not take messages; the session may be on it")]
pub struct ShardNotTold;

impl Seats {
    /// Binds every listener once per shard, and makes the mailboxes.
    ///
    /// # Errors
    /// `BindError` for the first address that can not be had.
    pub fn prepare(
        count: usize,
        listeners: &[ListenerSettings],
    ) -> Result<(Self, Directory), BindError> {
        for listener in listeners {
            expect_free(&listener.address).map_err(|source| BindError {
                address: listener.address.clone(),
                source,
            })?;
        }
        let mut files = SocketFiles::default();
        let mut addresses = Vec::new();
        let mut sockets: Vec<Vec<(OwnedFd, ListenerSettings)>> =
            (0..count).map(|_| Vec::new()).collect();
        for listener in listeners {
            let fail = |source| BindError {
                address: listener.address.clone(),
                source,
            };
            let (bound, first) = bind(listener).map_err(fail)?;
            if let ListenAddress::Unix(path) = &bound {
                files.0.push(SocketFile::at(path).map_err(fail)?);
            }
            let Some((first_shard, other_shards)) = sockets.split_first_mut() else {
                break;
            };
            for shard in other_shards {
                let socket = match &bound {
                    // The kernel spreads connections over sockets of one port ...
                    ListenAddress::Tcp(_) => runtime::listen_socket(&bound),
                    // ... and a Unix socket is one, which all of them accept from.
                    ListenAddress::Unix(_) => first.try_clone(),
                };
                shard.push((socket.map_err(fail)?, listener.clone()));
            }
            first_shard.push((first, listener.clone()));
            addresses.push(bound);
        }
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| runtime::mailbox(MAILBOX_BOUND)).unzip();
        let seats = sockets
            .into_iter()
            .zip(receivers)
            .map(|(listeners, mailbox)| Some(Seat { listeners, mailbox }))
            .collect();
        Ok((
            Self {
                seats: Mutex::new(seats),
                addresses,
                _files: files,
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

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for file in &self.0 {
            let is_ours = identity(&file.path).is_ok_and(|found| found == file.identity);
            if is_ours && let Err(error) = fs::remove_file(&file.path) {
                tracing::warn!(path = %file.path.display(), %error, "a socket's file stays");
            }
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Finds a port taken that the kernel would let us share: `SO_REUSEPORT` is for our shards, and
/// another process of the same user that set it too would get a part of our connections.
///
/// Before anything of ours is bound, so that what is found is somebody else's.
fn expect_free(address: &ListenAddress) -> io::Result<()> {
    let ListenAddress::Tcp(address) = address else {
        return Ok(());
    };
    let deadline = runtime::now() + PREDECESSOR_WITHIN;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && runtime::now() < deadline => {
                std::thread::park_timeout(PREDECESSOR_PAUSE);
            }
            bound => return bound.map(drop),
        }
    }
}

/// A listening socket, and where it listens once the kernel has chosen a port.
fn bind(listener: &ListenerSettings) -> io::Result<(ListenAddress, OwnedFd)> {
    let address = &listener.address;
    match address {
        ListenAddress::Unix(path) => {
            let socket = runtime::listen_unix(path, listener.file)?;
            Ok((address.clone(), socket))
        }
        ListenAddress::Tcp(_) => {
            let socket = TcpListener::from(runtime::listen_socket(address)?);
            Ok((ListenAddress::Tcp(socket.local_addr()?), socket.into()))
        }
    }
}
