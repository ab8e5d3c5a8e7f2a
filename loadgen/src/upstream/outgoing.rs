//! What is on its way to a client, and waits that a cancel ends.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use codecs::wire::EncodeError;
use runtime::transport::Transport;
use runtime::{Chunk, Timer, now, yield_if_needed};

use super::cancel::Flag;

/// Bytes that are gathered before they are handed on.
const PIECE_BYTES: usize = 32 * 1024;

/// Bytes that wait for a client that does not read; a large result is not made ahead of it.
const QUEUED_MAX: usize = 256 * 1024;

/// How long a client may read nothing of what it asked for. Slow readers are what is measured.
const UNREAD_MAX: Duration = Duration::from_secs(3600);

/// The connection is over. Nobody needs to know more: the client sees it.
#[derive(Debug)]
pub(super) struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl From<EncodeError> for Gone {
    fn from(_: EncodeError) -> Self {
        Self
    }
}

/// What became of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Over,
    Cancelled,
}

/// Per connection.
pub(super) struct Outgoing {
    transport: Transport,
    /// Messages that are not handed on yet.
    pub(super) bytes: Vec<u8>,
    /// For what is awaited of the client.
    patience: Timer,
}

impl Outgoing {
    pub(super) fn new(transport: Transport, deadline: Instant) -> Self {
        Self {
            transport,
            bytes: Vec::new(),
            patience: Timer::at(deadline),
        }
    }

    /// The next bytes of the client, or `None` at the end of them.
    pub(super) async fn recv(&mut self, deadline: Instant) -> Result<Option<Chunk>, Gone> {
        self.patience.reset(deadline);
        poll_fn(|cx| {
            if let Poll::Ready(received) = self.transport.poll_recv(cx) {
                return Poll::Ready(received.map_err(Gone::from));
            }
            self.patience.poll_expired(cx).map(|()| Err(Gone))
        })
        .await
    }

    /// Sends what has been gathered.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.bytes.is_empty() && self.transport.queued_bytes() == 0 {
            return Ok(());
        }
        self.hand_on();
        self.patience.reset(now() + UNREAD_MAX);
        poll_fn(|cx| {
            if let Poll::Ready(flushed) = self.transport.poll_flush(cx) {
                return Poll::Ready(flushed.map_err(Gone::from));
            }
            self.patience.poll_expired(cx).map(|()| Err(Gone))
        })
        .await
    }

    /// Hands on what has been gathered if that is much, and waits for the client to read.
    pub(super) async fn relieve(&mut self, flag: &Flag) -> Result<Waited, Gone> {
        if self.bytes.len() < PIECE_BYTES {
            return Ok(Waited::Over);
        }
        self.hand_on();
        self.patience.reset(now() + UNREAD_MAX);
        let waited = poll_fn(|cx| {
            if let Poll::Ready(Err(_)) = self.transport.poll_flush(cx) {
                return Poll::Ready(Err(Gone));
            }
            if self.transport.queued_bytes() < QUEUED_MAX {
                return Poll::Ready(Ok(Waited::Over));
            }
            if flag.poll_set(cx).is_ready() {
                return Poll::Ready(Ok(Waited::Cancelled));
            }
            self.patience.poll_expired(cx).map(|()| Err(Gone))
        })
        .await;
        yield_if_needed().await;
        match flag.is_set() {
            true => waited.map(|_| Waited::Cancelled),
            false => waited,
        }
    }

    /// Does nothing for a while, as a server does that works.
    pub(super) async fn pause(&mut self, time: Duration, flag: &Flag) -> Waited {
        let mut timer = Timer::at(now() + time);
        poll_fn(|cx| {
            if flag.poll_set(cx).is_ready() {
                return Poll::Ready(Waited::Cancelled);
            }
            timer.poll_expired(cx).map(|()| Waited::Over)
        })
        .await
    }

    /// Ends the sending side after what was gathered, and drops what the client still says.
    pub(super) async fn close(mut self, deadline: Instant) {
        self.hand_on();
        self.transport.close_send();
        if self.transport.flush(deadline).await.is_ok() {
            while now() < deadline && matches!(self.transport.recv(deadline).await, Ok(Some(_))) {
                yield_if_needed().await;
            }
        }
    }

    fn hand_on(&mut self) {
        self.transport.append(&self.bytes);
        self.bytes.clear();
        // An idle connection keeps what its next small answer needs.
        self.bytes.shrink_to(512);
    }
}
