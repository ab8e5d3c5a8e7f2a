//! A connection as the protocols see it: plain, or inside TLS.
//!
//! Knows no protocol beyond TLS, and verifies no certificate: the TLS configurations say what is
//! trusted.

mod tls;

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::{Chunk, Keepalive, PeerAddress, Stream, with_deadline};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};

use tls::TlsStream;
pub use tls::{CertificateFault, HANDSHAKE_BYTES_MAX, HandshakeError, Opening};

/// Bytes both ways. Per shard, per connection.
///
/// The rules are those of [`Stream`]: everything is driven by polls, nothing is sent before a
/// flush, the queue is bounded by the caller through [`queued_bytes`](Self::queued_bytes), and
/// dropping a future loses no byte.
pub enum Transport {
    Plain(Stream),
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Answers a TLS handshake. Each step that takes the CPU waits for `turn`, and what that gives is
    /// held during the step.
    ///
    /// # Errors
    /// As [`HandshakeError`] says; the connection is of no use afterwards.
    pub async fn accept_tls<T>(
        stream: Stream,
        config: Arc<ServerConfig>,
        opening: Opening,
        deadline: Instant,
        turn: impl AsyncFn() -> T,
    ) -> Result<Self, HandshakeError> {
        let tls = TlsStream::accept(stream, config, opening, deadline, turn).await?;
        Ok(Self::Tls(Box::new(tls)))
    }

    /// Starts a TLS handshake; nothing of what the peer sent before may be unread.
    ///
    /// # Errors
    /// As [`HandshakeError`] says; the connection is of no use afterwards.
    pub async fn connect_tls(
        stream: Stream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        deadline: Instant,
    ) -> Result<Self, HandshakeError> {
        let tls = TlsStream::connect(stream, config, name, deadline).await?;
        Ok(Self::Tls(Box::new(tls)))
    }

    /// The next bytes; `None` at the end of the stream, and from then on.
    ///
    /// # Errors
    /// What the kernel says; `InvalidData` for what is not TLS; `UnexpectedEof` when a server that
    /// we called ends the stream without saying so inside TLS, since somebody else may have.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        match self {
            Self::Plain(stream) => stream.poll_recv(cx),
            Self::Tls(tls) => tls.poll_recv(cx),
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
    pub fn append(&mut self, bytes: &[u8]) {
        match self {
            Self::Plain(stream) => stream.append(bytes),
            Self::Tls(tls) => tls.append(bytes),
        }
    }

    /// Queues `range` of `chunk`, without copying where nothing encrypts it.
    pub fn append_chunk(&mut self, chunk: &Chunk, range: Range<usize>) {
        match self {
            Self::Plain(stream) => stream.append_chunk(chunk, range),
            Self::Tls(tls) => tls.append(&chunk.slice(range)),
        }
    }

    /// Bytes that the kernel has not taken yet, encrypted or not.
    pub fn queued_bytes(&self) -> usize {
        match self {
            Self::Plain(stream) => stream.queued_bytes(),
            Self::Tls(tls) => tls.queued_bytes(),
        }
    }

    /// Sends what is queued; ready when the kernel has taken all of it.
    ///
    /// # Errors
    /// What the kernel says, from then on.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_flush(cx),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Sends what is queued, waiting until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`, or as [`poll_flush`](Self::poll_flush). After a time-out the rest stays queued.
    pub async fn flush(&mut self, deadline: Instant) -> io::Result<()> {
        with_deadline(deadline, poll_fn(|cx| self.poll_flush(cx))).await?
    }

    /// Ends the sending side after what is queued, in TLS with its own goodbye; the next flush
    /// carries it out.
    pub fn close_send(&mut self) {
        match self {
            Self::Plain(stream) => stream.close_send(),
            Self::Tls(tls) => tls.close_send(),
        }
    }

    /// Closes at once, so that the peer gets a reset and nothing is kept for it.
    pub fn abort(self) {
        match self {
            Self::Plain(stream) => stream.abort(),
            Self::Tls(tls) => tls.into_stream().abort(),
        }
    }

    pub fn peer_address(&self) -> PeerAddress {
        self.stream().peer_address()
    }

    /// Whether the bytes of this connection stay on this machine.
    pub fn is_loopback_or_unix(&self) -> bool {
        self.stream().is_loopback_or_unix()
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// # Errors
    /// What the kernel says; nothing happens on a Unix socket.
    pub fn set_keepalive(&self, keepalive: &Keepalive) -> io::Result<()> {
        self.stream().set_keepalive(keepalive)
    }

    /// The certificates that the peer showed, its own first; none without TLS, or when it was not
    /// asked.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Plain(_) => &[],
            Self::Tls(tls) => tls.peer_certificates(),
        }
    }

    /// The protocol that both sides named inside TLS.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.alpn(),
        }
    }

    fn stream(&self) -> &Stream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.stream(),
        }
    }
}
