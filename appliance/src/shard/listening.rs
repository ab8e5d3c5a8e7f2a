//! The listening sockets of all shards: opened, or taken over from the run before.
//!
//! It is done before the shards, by the thread that starts them. Who accepts what, and when that ends,
//! is theirs.
//!
//! A TCP address has a socket for each shard (`SO_REUSEPORT`), and the kernel spreads connections over
//! them. A socket that was passed is never closed while its address is configured, since that would
//! reset the connections in its queue: where there are more sockets than shards, a shard accepts from
//! several. Where there are fewer, new ones are opened; and where the kernel does not allow that, since
//! they are somebody else's (a socket unit's), shards accept from one together, as from a Unix socket.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::ListenAddress;

use crate::config::ListenerSettings;
use crate::service::{Notifier, PassedSocket, PassedSockets, SocketName};

/// How long an address may still be in use at the start.
///
/// The kernel takes the rings of a killed process apart after the process, and the sockets in them:
/// for some milliseconds its listeners still accept. A restart must not fail for that.
const PREDECESSOR_WITHIN: Duration = Duration::from_secs(1);
const PREDECESSOR_PAUSE: Duration = Duration::from_millis(20);

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    pub address: ListenAddress,
    pub source: io::Error,
}

/// The sockets of all shards.
pub(super) struct Listening {
    /// By shard.
    pub(super) sockets: Vec<Vec<(OwnedFd, ListenerSettings)>>,
    /// Where they are, in the order of the configuration, ports settled.
    pub(super) addresses: Vec<ListenAddress>,
    pub(super) files: SocketFiles,
}

/// The files of our Unix sockets, which go with it.
#[derive(Default)]
pub(super) struct SocketFiles(Vec<SocketFile>);

struct SocketFile {
    path: PathBuf,
    /// Device and inode: a successor may have put its own there.
    identity: (u64, u64),
}

/// A socket of one address.
struct Socket {
    descriptor: OwnedFd,
    /// What the next run finds it by; `None` for what a socket unit keeps.
    name: Option<SocketName>,
}

/// The sockets of one address, before they are dealt to the shards.
struct Address<'s> {
    settings: &'s ListenerSettings,
    bound: ListenAddress,
    sockets: Vec<Socket>,
    /// Its file is ours, to be removed.
    file: Option<SocketFile>,
}

/// Has a socket of each listener for each of `shards`, and has the service manager keep them.
///
/// # Errors
/// `BindError` for the first address that can not be had.
pub(super) fn open(
    shards: usize,
    listeners: &[ListenerSettings],
    mut passed: PassedSockets,
    notifier: &Notifier,
) -> Result<Listening, BindError> {
    let mut taken: Vec<Vec<PassedSocket>> = Vec::new();
    for listener in listeners {
        taken.push(take(&mut passed, &listener.address, notifier));
    }
    for label in passed.discard() {
        notifier.forget(&label);
    }
    for (listener, _) in listeners
        .iter()
        .zip(&taken)
        .filter(|(_, taken)| taken.is_empty())
    {
        expect_free(&listener.address).map_err(|source| BindError {
            address: listener.address.clone(),
            source,
        })?;
    }
    let mut listening = Listening {
        sockets: (0..shards).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        files: SocketFiles::default(),
    };
    for (settings, taken) in listeners.iter().zip(taken) {
        let opened = Address::open(settings, taken, shards);
        let dealt = opened.and_then(|mut address| {
            let file = address.file.take();
            for socket in &address.sockets {
                if let Some(name) = socket.name.as_ref().filter(|name| name.fits()) {
                    notifier.keep(name, socket.descriptor.as_fd());
                }
            }
            listening.addresses.push(address.bound.clone());
            // A manager that keeps the socket needs its file.
            listening
                .files
                .0
                .extend(file.filter(|_| !notifier.is_heard()));
            address.deal(&mut listening.sockets)
        });
        dealt.map_err(|source| BindError {
            address: settings.address.clone(),
            source,
        })?;
    }
    Ok(listening)
}

/// Takes what was passed for an address. A Unix socket whose file is gone, or another's, is of no use:
/// nobody can connect to it.
fn take(
    passed: &mut PassedSockets,
    address: &ListenAddress,
    notifier: &Notifier,
) -> Vec<PassedSocket> {
    let (useful, useless): (Vec<_>, Vec<_>) =
        passed
            .take(address)
            .into_iter()
            .partition(|socket| match (&socket.name, address) {
                (Some(name), ListenAddress::Unix(path)) => name.file == identity(path).ok(),
                (Some(_), ListenAddress::Tcp(_)) | (None, _) => true,
            });
    for socket in useless {
        notifier.forget(&socket.label);
    }
    useful
}

impl<'s> Address<'s> {
    fn open(
        settings: &'s ListenerSettings,
        taken: Vec<PassedSocket>,
        shards: usize,
    ) -> io::Result<Self> {
        let is_ours = taken.iter().all(|socket| socket.name.is_some());
        let is_new = taken.is_empty();
        let bound = taken.first().map(|socket| socket.listening.address.clone());
        let sockets = taken.into_iter().map(|socket| Socket {
            descriptor: socket.descriptor,
            name: socket.name,
        });
        let mut address = Self {
            settings,
            bound: bound.unwrap_or_else(|| settings.address.clone()),
            sockets: sockets.collect(),
            file: None,
        };
        match &settings.address {
            ListenAddress::Tcp(_) if is_ours => address.open_tcp(shards)?,
            ListenAddress::Unix(path) if is_ours => {
                if is_new {
                    let socket = runtime::listen_unix(path, settings.file)?;
                    let name = address.name(0, Some(identity(path)?));
                    address.sockets.push(Socket {
                        descriptor: socket,
                        name: Some(name),
                    });
                } else {
                    runtime::settle_socket_file(path, settings.file)?;
                }
                address.file = Some(SocketFile::at(path)?);
            }
            // A socket unit's: how many there are, and the file's permissions, it says.
            ListenAddress::Tcp(_) | ListenAddress::Unix(_) => {}
        }
        Ok(address)
    }

    /// Opens what is missing for as many sockets as there are shards.
    fn open_tcp(&mut self, shards: usize) -> io::Result<()> {
        while self.sockets.len() < shards {
            let socket = match runtime::listen_socket(&self.bound) {
                Ok(socket) => TcpListener::from(socket),
                // Those that were passed are another user's: shards will share them.
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && !self.sockets.is_empty() =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            // The kernel has chosen the port, if any may be taken.
            self.bound = ListenAddress::Tcp(socket.local_addr()?);
            let name = self.name(self.free_seat(), None);
            self.sockets.push(Socket {
                descriptor: socket.into(),
                name: Some(name),
            });
        }
        Ok(())
    }

    fn name(&self, seat: u16, file: Option<(u64, u64)>) -> SocketName {
        SocketName {
            seat,
            address: self.settings.address.clone(),
            file,
        }
    }

    /// The lowest seat that no socket has.
    fn free_seat(&self) -> u16 {
        let is_taken = |seat: &u16| {
            let names = self
                .sockets
                .iter()
                .filter_map(|socket| socket.name.as_ref());
            names.into_iter().any(|name| name.seat == *seat)
        };
        (0..u16::MAX)
            .find(|seat| !is_taken(seat))
            .unwrap_or(u16::MAX)
    }

    /// Gives each shard at least one, and each socket to at least one shard.
    fn deal(self, shards: &mut [Vec<(OwnedFd, ListenerSettings)>]) -> io::Result<()> {
        let sockets: Vec<OwnedFd> = self
            .sockets
            .into_iter()
            .map(|socket| socket.descriptor)
            .collect();
        // Those that have none of their own share one.
        for (number, shard) in shards.iter_mut().enumerate().skip(sockets.len()) {
            let shared = number.checked_rem(sockets.len()).unwrap_or(0);
            if let Some(socket) = sockets.get(shared) {
                shard.push((socket.try_clone()?, self.settings.clone()));
            }
        }
        let count = shards.len();
        for (number, socket) in sockets.into_iter().enumerate() {
            let shard = number.checked_rem(count).unwrap_or(0);
            if let Some(shard) = shards.get_mut(shard) {
                shard.push((socket, self.settings.clone()));
            }
        }
        Ok(())
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

/// Device and inode of the socket at a path.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.file_type().is_socket() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
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
