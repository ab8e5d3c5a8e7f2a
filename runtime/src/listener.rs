//! The place where a shard accepts connections.
//!
//! It does not decide how many connections are too many, and never waits for a handshake.

use std::fs::Permissions;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::clock::now;
use crate::ring::Operation;
use crate::sockets::{Arrived, End, Socket as RingSocket};
use crate::stream::{PeerAddress, Stream};
use crate::timer::Timer;

/// Connections that the kernel completes before they are accepted; it caps this at
/// `net.core.somaxconn`, 4096 by default.
const BACKLOG: i32 = 4096;

/// Pause of a listener that cannot accept because descriptors or memory ran out.
///
/// The connection stays in the kernel's queue and the event is not reported again, so without a
/// pause it would be a loop, and without a timer the end. 100 ms keeps the cost unmeasurable and
/// the recovery unnoticed.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Where to accept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// `[::]` accepts IPv4 too.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Who may connect to a Unix socket, as far as its file decides that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketFile {
    /// Permission bits; connecting takes the right to write.
    pub mode: u32,
    /// Group of the file; `None`: whatever the directory or the process gives it.
    pub group: Option<u32>,
}

/// What a listening socket says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    pub address: ListenAddress,
    /// Others may listen at the same address (`SO_REUSEPORT`).
    pub is_shared: bool,
}

/// A listening socket of one shard.
///
/// Every shard binds the same TCP address (`SO_REUSEPORT`) and the kernel spreads connections over
/// them. A Unix path can be bound once: make it by [`listen_socket`] and give each shard a
/// duplicate through [`from_fd`](Self::from_fd).
#[derive(Debug)]
pub struct Listener {
    socket: RingSocket,
    address: ListenAddress,
    /// Set while descriptors or memory are exhausted.
    pause: Option<Timer>,
}

impl Listener {
    /// Binds and listens.
    ///
    /// # Errors
    /// What the kernel says. With `SO_REUSEPORT` another process of the same user on the same port
    /// is not an error.
    pub fn bind(address: &ListenAddress) -> io::Result<Self> {
        Self::from_fd(listen_socket(address)?)
    }

    /// Takes over a listening socket, such as one that systemd passed.
    ///
    /// # Errors
    /// When it is not a TCP or Unix socket, and what the kernel says.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = SockRef::from(&fd);
        // The ring waits where a non-blocking listener would be reported as not ready.
        socket.set_nonblocking(false)?;
        let local = socket.local_addr()?;
        let address = match local.as_socket() {
            Some(address) => ListenAddress::Tcp(address),
            None if local.is_unix() => {
                ListenAddress::Unix(local.as_pathname().map(Path::to_owned).unwrap_or_default())
            }
            None => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = RingSocket::new(fd, Operation::Accept)?;
        Ok(Self {
            socket,
            address,
            pause: None,
        })
    }

    /// Where it listens, with the port that the kernel chose.
    #[must_use]
    pub fn local_address(&self) -> &ListenAddress {
        &self.address
    }

    /// The next connection.
    ///
    /// Connections that died in the queue are skipped. When descriptors or memory run out
    /// (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) it pauses for 100 ms and tries again, with one
    /// line in the log for each such time.
    ///
    /// # Errors
    /// Only when the listener itself is unusable.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Takes no more connections from the kernel's queue.
    ///
    /// Those that were taken by then are accepted as before; after the last of them accepting fails
    /// with `NotConnected`. The others stay in the queue, for whoever else has the socket.
    pub fn stop(&mut self) {
        self.pause = None;
        self.socket.stop();
    }

    /// As [`accept`](Self::accept).
    ///
    /// # Errors
    /// As there.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.poll_expired(cx));
                self.pause = None;
            }
            let errno = match ready!(self.socket.poll_arrived(cx)) {
                Ok(Arrived::Connection(fd)) => match accepted(fd) {
                    Ok(stream) => return Poll::Ready(Ok(stream)),
                    Err(errno) => errno,
                },
                // Invariant: a listener receives no bytes.
                Ok(Arrived::Bytes(_)) => continue,
                Err(End::Closed) => return Poll::Ready(Err(Errno::NOTCONN.into())),
                Err(End::Failed(errno)) => errno,
            };
            match Failure::of(errno) {
                Failure::Connection => {}
                Failure::Exhausted => {
                    tracing::warn!(
                        listener = %self.address,
                        %errno,
                        "accepting pauses: descriptors or memory ran out"
                    );
                    self.pause = Some(Timer::at(now() + EXHAUSTED_PAUSE));
                }
                Failure::Listener => return Poll::Ready(Err(errno.into())),
            }
            self.socket.forget_end();
        }
    }
}

fn accepted(fd: OwnedFd) -> Result<Stream, Errno> {
    let peer = match rustix::net::getpeername(&fd)?.map(SocketAddr::try_from) {
        Some(Ok(address)) => PeerAddress::tcp(address),
        Some(Err(_)) | None => PeerAddress::Unix,
    };
    Stream::from_accepted(fd, peer)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))
}

/// A listening socket that any thread may make, for [`Listener::from_fd`].
///
/// A file at a Unix path is removed if it is a socket that nobody answers at.
///
/// # Errors
/// What the kernel says; `AddrInUse` when somebody answers at a Unix path.
pub fn listen_socket(address: &ListenAddress) -> io::Result<OwnedFd> {
    let (domain, name) = match address {
        ListenAddress::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        ListenAddress::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
    match address {
        ListenAddress::Tcp(_) => {
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            if domain == Domain::IPV6 {
                socket.set_only_v6(false)?;
            }
        }
        ListenAddress::Unix(path) => remove_stale(path, &name)?,
    }
    socket.bind(&name)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// As [`listen_socket`] for a Unix path, with the file's permissions settled before anybody can
/// connect.
///
/// # Errors
/// As there; `PermissionDenied` for a group that this process is not in.
pub fn listen_unix(path: &Path, file: SocketFile) -> io::Result<OwnedFd> {
    let name = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    remove_stale(path, &name)?;
    socket.bind(&name)?;
    // A socket that does not listen yet refuses everybody.
    settle_socket_file(path, file)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Gives the file of a Unix socket its group and permissions.
///
/// # Errors
/// What the kernel says; `PermissionDenied` for a group that this process is not in.
pub fn settle_socket_file(path: &Path, file: SocketFile) -> io::Result<()> {
    if file.group.is_some() {
        std::os::unix::fs::lchown(path, None, file.group)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(file.mode))
}

/// Where a stream socket listens, of a descriptor that came from elsewhere.
///
/// # Errors
/// `InvalidInput` when it is none, when it does not listen, or when its address is no
/// [`ListenAddress`]; and what the kernel says.
pub fn listening(fd: BorrowedFd<'_>) -> io::Result<Listening> {
    let socket = SockRef::from(&fd);
    if socket.r#type()? != Type::STREAM || !rustix::net::sockopt::socket_acceptconn(fd)? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let local = socket.local_addr()?;
    if let Some(address) = local.as_socket() {
        return Ok(Listening {
            address: ListenAddress::Tcp(address),
            is_shared: socket.reuse_port()?,
        });
    }
    let path = local.as_pathname().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Listening {
        address: ListenAddress::Unix(path.to_owned()),
        is_shared: false,
    })
}

fn remove_stale(path: &Path, name: &SockAddr) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?.connect(name) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        // Somebody answers, or it cannot be known: bind will say that the address is in use.
        _ => Ok(()),
    }
}

/// Whom a failed accept concerns.
enum Failure {
    Connection,
    Exhausted,
    Listener,
}

impl Failure {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC => {
                Self::Exhausted
            }
            Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT => {
                Self::Listener
            }
            // accept(2): "already-pending network errors on the new socket" arrive here.
            _ => Self::Connection,
        }
    }
}
