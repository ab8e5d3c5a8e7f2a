//! TLS over a stream, driven by polls.
//!
//! The session is a rustls state machine without I/O: ciphertext that arrived is handed to it,
//! records that it made are queued on the stream. Plaintext to be sent waits in a buffer of its
//! own until the stream wants more, so that small messages share a record and a slow reader costs
//! plaintext once, not plaintext and ciphertext.
//!
//! Security: bytes that came before the handshake are never read after it. The session gets
//! everything that arrives after its start, and a start with bytes left over is refused
//! (CVE-2021-23214 of the server's side, CVE-2021-23222 of the client's).

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use crate::{CHUNK_BYTES, Chunk, ChunkWriter, Stream, with_deadline};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, ServerConfig,
    ServerConnection,
};

/// Most bytes that a peer may send before its handshake is complete.
///
/// 48 KiB: a chain of twenty large certificates. rustls itself would buffer 64 KiB for one message,
/// and bounds their number only by what is legal.
pub const HANDSHAKE_BYTES_MAX: usize = 48 * 1024;

/// Ciphertext on the stream above which no more plaintext is encrypted: a few full records.
const CIPHERTEXT_QUEUED_MAX: usize = 64 * 1024;

/// Plaintext of one record.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// How a handshake came to start, and what the peer had sent by then.
#[derive(Debug)]
pub enum Opening {
    /// The peer asked for it in another protocol and was told to go on; `unread` counts what it
    /// sent behind its question, which must be nothing.
    Requested { unread: usize },
    /// The connection began with these bytes of a handshake. The peer has to name a protocol that
    /// the configuration lists, as PostgreSQL 17 demands for direct TLS.
    Direct { preread: Chunk },
}

/// Why there is no TLS. Final for the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("{count} bytes came before the handshake")]
    EarlyBytes { count: usize },
    #[error("more than {limit} bytes without an end of the handshake")]
    TooLong { limit: usize },
    #[error("the handshake took too long")]
    TimedOut,
    #[error("the peer ended the connection during the handshake")]
    Ended,
    #[error("the connection failed during the handshake: {kind}")]
    Connection { kind: io::ErrorKind },
    #[error("the peer's certificate was refused: {0}")]
    Certificate(CertificateFault),
    /// The peer does not like what we showed or offered.
    #[error("the peer ended the handshake with the alert {alert:?}")]
    Alert { alert: AlertDescription },
    #[error("the peer does not name the protocol inside TLS")]
    NoProtocol,
    /// Bytes that are not TLS, or TLS that we do not speak.
    #[error("the peer's handshake is not acceptable")]
    NotAcceptable,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("signed by nobody we trust")]
    UnknownIssuer,
    #[error("for another host")]
    OtherHost,
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYetValid,
    #[error("revoked")]
    Revoked,
    #[error("not for this purpose")]
    Purpose,
    #[error("missing")]
    Missing,
    #[error("unusable")]
    Unusable,
}

/// An established TLS session and its stream.
pub struct TlsStream {
    stream: Stream,
    session: Connection,
    /// Ciphertext that the session has not taken yet.
    arrived: Option<Chunk>,
    receiving: Receiving,
    /// Plaintext to be sent; the first `encrypted` bytes of it have been.
    plaintext: Vec<u8>,
    encrypted: usize,
    closing: Closing,
}

#[derive(Clone, Copy)]
enum Receiving {
    Open,
    Ended,
    Failed(io::ErrorKind),
}

/// `No -> Asked -> Said`
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// The goodbye follows what is queued.
    Asked,
    Said,
}

impl TlsStream {
    pub(super) async fn accept<T>(
        stream: Stream,
        config: Arc<ServerConfig>,
        opening: Opening,
        deadline: Instant,
        turn: impl AsyncFn() -> T,
    ) -> Result<Self, HandshakeError> {
        let (preread, direct) = match opening {
            Opening::Requested { unread: 0 } => (None, false),
            Opening::Requested { unread: count } => {
                return Err(HandshakeError::EarlyBytes { count });
            }
            Opening::Direct { preread } => (Some(preread), true),
        };
        let session = ServerConnection::new(config).map_err(HandshakeError::from_session)?;
        let mut tls = Self::over(stream, session.into(), preread);
        tls.handshake(deadline, turn).await?;
        if direct && tls.alpn().is_none() {
            return Err(HandshakeError::NoProtocol);
        }
        Ok(tls)
    }

    pub(super) async fn connect(
        stream: Stream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        deadline: Instant,
    ) -> Result<Self, HandshakeError> {
        let session = ClientConnection::new(config, name).map_err(HandshakeError::from_session)?;
        let mut tls = Self::over(stream, session.into(), None);
        // What we call is ours: it costs what a session costs.
        tls.handshake(deadline, async || ()).await?;
        Ok(tls)
    }

    fn over(stream: Stream, session: Connection, arrived: Option<Chunk>) -> Self {
        Self {
            stream,
            session,
            arrived,
            receiving: Receiving::Open,
            plaintext: Vec::new(),
            encrypted: 0,
            closing: Closing::No,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    pub(super) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.session.peer_certificates().unwrap_or_default()
    }

    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.waiting().len() + self.stream.queued_bytes()
    }

    /// What comes after the goodbye is dropped: nobody would read it.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.closing != Closing::Said {
            self.plaintext.extend_from_slice(bytes);
        }
    }

    pub(super) fn close_send(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Asked;
        }
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        match self.receiving {
            Receiving::Open => {}
            Receiving::Ended => return Poll::Ready(Ok(None)),
            Receiving::Failed(kind) => return Poll::Ready(Err(kind.into())),
        }
        let received = ready!(self.poll_plaintext(cx));
        match &received {
            Ok(Some(_)) => {}
            Ok(None) => self.receiving = Receiving::Ended,
            Err(error) => self.receiving = Receiving::Failed(error.kind()),
        }
        Poll::Ready(received)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.encrypt()?;
            ready!(self.stream.poll_flush(cx))?;
            if self.waiting().is_empty() && self.closing != Closing::Asked {
                return Poll::Ready(Ok(()));
            }
        }
    }

    async fn handshake<T>(
        &mut self,
        deadline: Instant,
        turn: impl AsyncFn() -> T,
    ) -> Result<(), HandshakeError> {
        with_deadline(deadline, self.take_steps(turn))
            .await
            .unwrap_or(Err(HandshakeError::TimedOut))
    }

    async fn take_steps<T>(&mut self, turn: impl AsyncFn() -> T) -> Result<(), HandshakeError> {
        let mut taken = 0;
        while poll_fn(|cx| self.poll_step_due(cx)).await? {
            let turn = turn().await;
            let fed = self.feed();
            drop(turn);
            taken += match fed {
                Ok(count) => count,
                Err(error) => {
                    poll_fn(|cx| {
                        // The alert says to the peer what our error says here; nobody waits for it.
                        let _ = self.stream.poll_flush(cx);
                        Poll::Ready(())
                    })
                    .await;
                    return Err(HandshakeError::from_session(error));
                }
            };
            if taken > HANDSHAKE_BYTES_MAX {
                return Err(HandshakeError::TooLong {
                    limit: HANDSHAKE_BYTES_MAX,
                });
            }
        }
        Ok(())
    }

    /// Ready with `true` when there is something to feed, with `false` when the handshake is done and
    /// our part of it sent.
    fn poll_step_due(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, HandshakeError>> {
        self.queue_records();
        let flushed = self
            .stream
            .poll_flush(cx)
            .map_err(HandshakeError::from_io)?;
        if !self.session.is_handshaking() {
            return flushed.map(|()| Ok(false));
        }
        if self.arrived.is_none() {
            match ready!(self.stream.poll_recv(cx)).map_err(HandshakeError::from_io)? {
                Some(chunk) => self.arrived = Some(chunk),
                None => return Poll::Ready(Err(HandshakeError::Ended)),
            }
        }
        Poll::Ready(Ok(true))
    }

    fn poll_plaintext(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        let mut writer = ChunkWriter::new();
        loop {
            let ended = self.read_plaintext(&mut writer)?;
            if writer.len() == CHUNK_BYTES || (self.arrived.is_none() && !writer.is_empty()) {
                return Poll::Ready(Ok(Some(writer.freeze())));
            }
            if ended {
                let last = (!writer.is_empty()).then(|| writer.freeze());
                return Poll::Ready(Ok(last));
            }
            if self.arrived.is_none() {
                match ready!(self.stream.poll_recv(cx))? {
                    Some(chunk) => self.arrived = Some(chunk),
                    None => return Poll::Ready(self.truncated()),
                }
            }
            let fed = self.feed();
            // An answer to a key update, or the alert to an error.
            if self.stream.queued_bytes() > 0 {
                // What fails here fails the next flush as well.
                let _ = self.stream.poll_flush(cx);
            }
            fed.map_err(|_| io::ErrorKind::InvalidData)?;
        }
    }

    /// Moves what the session has decrypted; says whether the peer has said goodbye.
    fn read_plaintext(&mut self, writer: &mut ChunkWriter) -> io::Result<bool> {
        loop {
            let room = writer.spare();
            if room.is_empty() {
                return Ok(false);
            }
            match self.session.reader().read(room) {
                Ok(0) => return Ok(true),
                Ok(count) => writer.filled(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// The stream has ended inside the session.
    ///
    /// Many clients leave without a goodbye, and what they said before was whole messages; a
    /// server that we called does not, and an answer cut short must not pass for a whole one.
    fn truncated(&self) -> io::Result<Option<Chunk>> {
        match self.session {
            Connection::Server(_) => Ok(None),
            Connection::Client(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Gives the session a part of what arrived; returns how many bytes that was.
    fn feed(&mut self) -> Result<usize, rustls::Error> {
        let Some(chunk) = &mut self.arrived else {
            return Ok(0);
        };
        let mut unread: &[u8] = chunk;
        let count = self
            .session
            .read_tls(&mut unread)
            .map_err(|_| rustls::Error::PeerSentOversizedRecord)?;
        chunk.advance(count);
        // After its goodbye a peer has nothing to say, and the session takes nothing.
        if chunk.is_empty() || count == 0 {
            self.arrived = None;
        }
        let processed = self.session.process_new_packets();
        self.queue_records();
        processed.map(|_| count)
    }

    /// Encrypts as much as the stream should hold.
    fn encrypt(&mut self) -> io::Result<()> {
        while self.stream.queued_bytes() < CIPHERTEXT_QUEUED_MAX {
            let waiting = self.plaintext.get(self.encrypted..).unwrap_or_default();
            if waiting.is_empty() {
                break;
            }
            let record = waiting.get(..RECORD_BYTES_MAX).unwrap_or(waiting);
            let count = self.session.writer().write(record)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.encrypted += count;
            self.queue_records();
        }
        if self.waiting().is_empty() {
            self.encrypted = 0;
            self.plaintext.clear();
            // An idle connection keeps what its next small message needs.
            self.plaintext.shrink_to(RECORD_BYTES_MAX);
            if self.closing == Closing::Asked {
                self.session.send_close_notify();
                self.queue_records();
                self.stream.close_send();
                self.closing = Closing::Said;
            }
        }
        Ok(())
    }

    fn waiting(&self) -> &[u8] {
        self.plaintext.get(self.encrypted..).unwrap_or_default()
    }

    fn queue_records(&mut self) {
        while self.session.wants_write() {
            // Invariant: a queue takes everything.
            let _ = self.session.write_tls(&mut Records(&mut self.stream));
        }
    }
}

/// Queues what is written.
struct Records<'s>(&'s mut Stream);

impl Write for Records<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        for part in parts {
            self.0.append(part);
        }
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl HandshakeError {
    fn from_io(error: io::Error) -> Self {
        Self::Connection { kind: error.kind() }
    }

    fn from_session(error: rustls::Error) -> Self {
        use rustls::Error as E;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the enum is open, and whatever else it names is a handshake we refuse"
        )]
        match error {
            E::InvalidCertificate(error) => Self::Certificate(CertificateFault::from(&error)),
            E::NoCertificatesPresented => Self::Certificate(CertificateFault::Missing),
            E::AlertReceived(alert) => Self::Alert { alert },
            E::NoApplicationProtocol => Self::NoProtocol,
            _ => Self::NotAcceptable,
        }
    }
}

impl From<&CertificateError> for CertificateFault {
    fn from(error: &CertificateError) -> Self {
        use CertificateError as E;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the enum is open, and whatever else it names is a certificate we refuse"
        )]
        match error {
            E::UnknownIssuer => Self::UnknownIssuer,
            E::NotValidForName | E::NotValidForNameContext { .. } => Self::OtherHost,
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            E::Revoked => Self::Revoked,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::Purpose,
            _ => Self::Unusable,
        }
    }
}
