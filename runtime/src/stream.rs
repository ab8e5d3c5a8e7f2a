//! One connection: bytes in both directions, at the pace of its reader.
//!
//! It does not know TLS or any protocol, and it does not bound its send queue: the caller stops
//! reading the other side while `queued_bytes` is high.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::chunk::Chunk;
use crate::clock::now;
use crate::ring::Operation;
use crate::send_queue::{SLICES_MAX, SendQueue};
use crate::sockets::{Arrived, End, Socket as RingSocket};
use crate::timer::{Timer, with_deadline};

/// How long to wait before asking again a Unix listener whose queue is full.
///
/// The kernel gives no event for it: such a connect fails at once.
const UNIX_CONNECT_RETRY: Duration = Duration::from_millis(5);

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// An IPv4 peer of an IPv6 listener appears as IPv4.
    Tcp(SocketAddr),
    Unix,
}

/// When a silent TCP peer is probed, and given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    pub idle: Duration,
    pub interval: Duration,
    pub probes: u32,
}

/// A TCP or Unix stream connection.
///
/// Everything is driven by `poll_*` calls, so that one task can serve two streams, a timer and a
/// mailbox. A poll that finds nothing new makes no system call and allocates nothing. The buffers
/// belong to the stream and not to a future: dropping a future that waits here loses no byte.
///
/// Dropping the stream closes it at once; what is queued is lost. For an orderly end:
/// [`close_send`](Self::close_send), flush, then read to the end.
///
/// Per shard, per connection. `TCP_NODELAY` is set.
#[derive(Debug)]
pub struct Stream {
    socket: RingSocket,
    peer: PeerAddress,
    sending: Sending,
    queue: SendQueue,
}

/// `Open -> Closing -> Closed`, and from each of them `-> Failed`.
#[derive(Debug, Clone, Copy)]
enum Sending {
    Open,
    /// The end of the stream follows what is queued.
    Closing,
    Closed,
    Failed(Errno),
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl PeerAddress {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Whether the bytes of this connection stay on this machine.
    #[must_use]
    pub fn is_loopback_or_unix(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

impl Stream {
    /// Connects to `address`.
    ///
    /// # Errors
    /// `TimedOut` when `deadline` passes; otherwise what the kernel says.
    pub async fn connect(address: &SocketAddr, deadline: Instant) -> io::Result<Self> {
        let domain = Domain::for_address(*address);
        let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
        match socket.connect(&SockAddr::from(*address)) {
            Ok(()) => {}
            Err(error) if is(&error, Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let socket = RingSocket::new(socket.into(), Operation::Receive)?;
        with_deadline(deadline, socket.writable()).await?;
        if let Some(error) = SockRef::from(&socket).take_error()? {
            return Err(error);
        }
        Self::new(socket, PeerAddress::tcp(*address))
    }

    /// Connects to the Unix socket at `path`.
    ///
    /// # Errors
    /// `TimedOut` when `deadline` passes while the listener's queue is full; otherwise what the
    /// kernel says.
    pub async fn connect_unix(path: &Path, deadline: Instant) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        loop {
            match socket.connect(&address) {
                Ok(()) => break,
                Err(error) if is(&error, Errno::AGAIN) => {
                    if deadline <= now() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    Timer::at(deadline.min(now() + UNIX_CONNECT_RETRY))
                        .expired()
                        .await;
                }
                Err(error) => return Err(error),
            }
        }
        let socket = RingSocket::new(socket.into(), Operation::Receive)?;
        Self::new(socket, PeerAddress::Unix)
    }

    /// Takes over a connected socket.
    pub(crate) fn from_accepted(fd: OwnedFd, peer: PeerAddress) -> io::Result<Self> {
        Self::new(RingSocket::new(fd, Operation::Receive)?, peer)
    }

    fn new(socket: RingSocket, peer: PeerAddress) -> io::Result<Self> {
        // The ring waits where a non-blocking socket would be reported as not ready; what must not
        // wait, a send, says so itself.
        SockRef::from(&socket).set_nonblocking(false)?;
        if matches!(peer, PeerAddress::Tcp(_)) {
            SockRef::from(&socket).set_tcp_nodelay(true)?;
        }
        Ok(Self {
            socket,
            peer,
            sending: Sending::Open,
            queue: SendQueue::default(),
        })
    }

    #[must_use]
    pub fn peer_address(&self) -> PeerAddress {
        self.peer
    }

    /// Where this end is bound; `None` for Unix.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        SockRef::from(&self.socket).local_addr().ok()?.as_socket()
    }

    #[must_use]
    pub fn is_loopback_or_unix(&self) -> bool {
        self.peer.is_loopback_or_unix()
    }

    /// # Errors
    /// What the kernel says; nothing happens on a Unix socket.
    pub fn set_keepalive(&self, keepalive: &Keepalive) -> io::Result<()> {
        if self.peer == PeerAddress::Unix {
            return Ok(());
        }
        SockRef::from(&self.socket).set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.probes),
        )
    }

    /// The next bytes; `None` at the end of the stream, and from then on.
    ///
    /// # Errors
    /// What the kernel says, from then on. Sending may still work.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        match ready!(self.socket.poll_arrived(cx)) {
            Ok(Arrived::Bytes(chunk)) => Poll::Ready(Ok(Some(chunk))),
            // Invariant: a receiving socket gets no connections.
            Ok(Arrived::Connection(_)) | Err(End::Closed) => Poll::Ready(Ok(None)),
            Err(End::Failed(errno)) => Poll::Ready(Err(errno.into())),
        }
    }

    /// The next bytes, waiting until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`, or as [`poll_recv`](Self::poll_recv). Nothing is lost by a time-out.
    pub async fn recv(&mut self, deadline: Instant) -> io::Result<Option<Chunk>> {
        with_deadline(deadline, poll_fn(|cx| self.poll_recv(cx))).await?
    }

    /// Queues a copy of `bytes`. Nothing is sent before a flush.
    ///
    /// After [`close_send`](Self::close_send) the stream's sending side fails with `BrokenPipe`.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.may_append() {
            self.queue.append(bytes);
        }
    }

    /// Queues `range` of `chunk`: a short one is copied, a long one shares the chunk's buffer.
    pub fn append_chunk(&mut self, chunk: &Chunk, range: Range<usize>) {
        if self.may_append() {
            self.queue.append_chunk(chunk.slice(range));
        }
    }

    /// Bytes that the kernel has not taken yet. Zero once sending has failed.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Sends what is queued; ready when the kernel has taken all of it, and the end of the stream
    /// if [`close_send`](Self::close_send) asked for it.
    ///
    /// # Errors
    /// What the kernel says, from then on; what was queued is dropped. Bytes that arrived before
    /// can still be read.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.sending {
                Sending::Failed(errno) => return Poll::Ready(Err(errno.into())),
                Sending::Closed => return Poll::Ready(Ok(())),
                Sending::Open if self.queue.bytes() == 0 => return Poll::Ready(Ok(())),
                Sending::Closing if self.queue.bytes() == 0 => {
                    self.shut_down_send();
                    continue;
                }
                Sending::Open | Sending::Closing => {}
            }
            if self.socket.awaits_writable() {
                self.socket.await_writable(cx);
                return Poll::Pending;
            }
            match self.send_once() {
                Ok(count) => self.queue.advance(count),
                Err(Errno::AGAIN) => self.socket.await_writable(cx),
                Err(Errno::INTR) => {}
                Err(errno) => self.fail_send(errno),
            }
        }
    }

    /// Sends what is queued, waiting until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`, or as [`poll_flush`](Self::poll_flush). After a time-out the rest stays queued.
    pub async fn flush(&mut self, deadline: Instant) -> io::Result<()> {
        with_deadline(deadline, poll_fn(|cx| self.poll_flush(cx))).await?
    }

    /// Ends the sending side after what is queued; the next flush carries it out.
    pub fn close_send(&mut self) {
        if let Sending::Open = self.sending {
            self.sending = Sending::Closing;
            if self.queue.bytes() == 0 {
                self.shut_down_send();
            }
        }
    }

    /// Closes at once, so that the peer gets a reset and nothing is kept for it.
    pub fn abort(self) {
        // Without it the close is an ordinary one, which also ends the connection.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    fn may_append(&mut self) -> bool {
        match self.sending {
            Sending::Open => true,
            Sending::Closing | Sending::Closed => {
                self.fail_send(Errno::PIPE);
                false
            }
            Sending::Failed(_) => false,
        }
    }

    fn send_once(&self) -> Result<usize, Errno> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.queue.slices(&mut slices);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match slices.get(..count).unwrap_or_default() {
            [one] => rustix::net::send(&self.socket, one, flags),
            many => rustix::net::sendmsg(
                &self.socket,
                many,
                &mut SendAncillaryBuffer::default(),
                flags,
            ),
        }
    }

    fn shut_down_send(&mut self) {
        self.sending = match rustix::net::shutdown(self.socket.as_fd(), Shutdown::Write) {
            // Not connected: the peer has reset the connection, there is nobody left to tell.
            Ok(()) | Err(Errno::NOTCONN) => Sending::Closed,
            Err(errno) => Sending::Failed(errno),
        };
    }

    fn fail_send(&mut self, errno: Errno) {
        self.sending = Sending::Failed(errno);
        self.queue.clear();
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
