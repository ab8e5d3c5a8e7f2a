//! A connection and what has arrived on it, with one timer for every wait.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use codecs::Limits;
use codecs::postgres::BackendDecoder;
use runtime::transport::Transport;
use runtime::{Chunk, Timer, now};

use crate::protocols::failed::{Failed, Phase};

/// The message Terminate: tag, and a length that counts only itself.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// One connection. Per shard.
pub(super) struct Line {
    pub(super) transport: Transport,
    pub(super) decoder: BackendDecoder,
    /// What arrived and was not decoded yet: less than a message between calls.
    pub(super) unread: Vec<u8>,
    /// Moved with every request, which costs two stores.
    patience: Timer,
    goodbye: Goodbye,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    Unsaid,
    Said,
}

impl Line {
    pub(super) fn new(transport: Transport, limits: Limits, deadline: Instant) -> Self {
        Self {
            transport,
            decoder: BackendDecoder::new(limits),
            unread: Vec::new(),
            patience: Timer::at(deadline),
            goodbye: Goodbye::Unsaid,
        }
    }

    /// What follows is waited for until then.
    pub(super) fn be_patient_until(&mut self, deadline: Instant) {
        self.patience.reset(deadline);
    }

    /// The next bytes; what is queued is sent meanwhile.
    pub(super) async fn arrival(&mut self, phase: Phase) -> Result<Chunk, Failed> {
        poll_fn(|cx| {
            // What fails here fails the reading too, behind what came before.
            let _ = self.transport.poll_flush(cx);
            self.poll_arrival(phase, cx)
        })
        .await
    }

    /// # Errors
    /// `TimedOut` also while bytes keep coming: an endless answer ends with the caller's patience.
    pub(super) fn poll_arrival(
        &mut self,
        phase: Phase,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Chunk, Failed>> {
        match self.transport.poll_recv(cx) {
            Poll::Ready(Ok(Some(_))) if self.patience.deadline() <= now() => {
                Poll::Ready(Err(Failed::TimedOut { phase }))
            }
            Poll::Ready(Ok(Some(chunk))) => Poll::Ready(Ok(chunk)),
            Poll::Ready(Ok(None)) => Poll::Ready(Err(Failed::Closed { phase })),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failed::from_io(phase, &error))),
            Poll::Pending => self.poll_patience(phase, cx).map(Err),
        }
    }

    pub(super) fn poll_patience(&mut self, phase: Phase, cx: &mut Context<'_>) -> Poll<Failed> {
        self.patience
            .poll_expired(cx)
            .map(|()| Failed::TimedOut { phase })
    }

    /// Ends the connection, and waits for the target to have ended it.
    pub(super) async fn close(mut self, deadline: Instant) {
        self.say_goodbye();
        if self.transport.flush(deadline).await.is_ok() {
            // Whatever else it has to say, nobody is left to hear it.
            while let Ok(Some(_)) = self.transport.recv(deadline).await {
                if deadline <= now() {
                    break;
                }
            }
        }
    }

    /// Closes at once, without a goodbye.
    pub(super) fn break_off(mut self) {
        self.goodbye = Goodbye::Said;
    }

    fn say_goodbye(&mut self) {
        if self.goodbye == Goodbye::Unsaid {
            self.goodbye = Goodbye::Said;
            self.transport.append(&TERMINATE);
            self.transport.close_send();
        }
    }
}

impl Drop for Line {
    /// Says goodbye if that needs no waiting.
    fn drop(&mut self) {
        if self.goodbye == Goodbye::Unsaid {
            self.say_goodbye();
            let mut cx = Context::from_waker(Waker::noop());
            // What cannot be sent now is not missed: the connection ends all the same.
            let _: Poll<io::Result<()>> = self.transport.poll_flush(&mut cx);
        }
    }
}
