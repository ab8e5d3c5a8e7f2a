//! Messages between threads, in bounded number.
//!
//! Any thread to a shard, or a shard to the control thread. It does not decide what happens when a
//! mailbox is full: `try_send` gives the message back.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};

/// A mailbox that holds at most `bound` messages (at least one).
#[must_use]
pub fn mailbox<T: Send>(bound: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(bound.max(1));
    (Sender(sender), Receiver(receiver))
}

/// The sending end; any thread, any number of clones.
#[derive(Debug)]
pub struct Sender<T>(mpsc::Sender<T>);

/// The receiving end; one task.
#[derive(Debug)]
pub struct Receiver<T>(mpsc::Receiver<T>);

/// Why a message was not taken; it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    #[error("the mailbox is full")]
    Full(T),
    #[error("the mailbox is closed")]
    Closed(T),
}

/// The receiver is gone; the message comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox is closed")]
pub struct MailboxClosed<T>(pub T);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send> Sender<T> {
    /// # Errors
    /// The message, when the mailbox is full or its receiver is gone.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(message) => TrySendError::Full(message),
            mpsc::error::TrySendError::Closed(message) => TrySendError::Closed(message),
        })
    }

    /// Waits for room. For the control plane: a shard never waits for another thread this way.
    ///
    /// # Errors
    /// The message, when the receiver is gone.
    pub async fn send(&self, message: T) -> Result<(), MailboxClosed<T>> {
        self.0
            .send(message)
            .await
            .map_err(|error| MailboxClosed(error.0))
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` when every sender is gone and nothing is left.
    pub async fn recv(&mut self) -> Option<T> {
        self.0.recv().await
    }

    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }

    /// A message that is there already.
    pub fn try_recv(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }

    /// Refuses further messages; those inside can still be received.
    pub fn close(&mut self) {
        self.0.close();
    }
}

/// One answer to one message.
#[must_use]
pub fn reply<T: Send>() -> (ReplySender<T>, ReplyReceiver<T>) {
    let (sender, receiver) = oneshot::channel();
    (ReplySender(sender), ReplyReceiver(receiver))
}

/// Answers once, from any thread.
#[derive(Debug)]
pub struct ReplySender<T>(oneshot::Sender<T>);

/// A future: the answer, or `None` when the sender was dropped without one.
#[derive(Debug)]
pub struct ReplyReceiver<T>(oneshot::Receiver<T>);

impl<T: Send> ReplySender<T> {
    /// # Errors
    /// The answer, when nobody waits for it any more.
    pub fn send(self, answer: T) -> Result<(), T> {
        self.0.send(answer)
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Future for ReplyReceiver<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}
