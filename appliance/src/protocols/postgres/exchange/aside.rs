//! Long texts, read by a worker while the shard serves its other sessions.
//!
//! The message whose text it is stays where it is until the text is read, and so does everything
//! behind it: the order of a session's messages does not change.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use policy::sql::Batch;
use policy::sql::postgres::{ProfileLimits, profile};
use runtime::Panicked;

use crate::protocols::postgres::classify::{Classifier, Statement};

/// Longest text that is read on the shard.
///
/// Bytes. Reading takes about 100 ns a byte, so one of this length holds its shard up for less than
/// a millisecond; a worker and the way to it cost a tenth of that.
pub(super) const READ_ON_SHARD_MAX: usize = 8 * 1024;

/// Longest text that is read beside others.
///
/// Bytes. Reading takes up to 600 times the text in memory (benches/README.md), so of longer ones
/// a shard reads one at a time.
const READ_BESIDE_MAX: usize = 64 * 1024;

/// The text of one message, on its way to a worker or back. Per connection.
pub(super) enum Aside {
    Reading(Pin<Box<dyn Future<Output = Result<Read, Panicked>>>>),
    /// Until its message is taken, which may have to wait for something else.
    Read {
        text: Box<str>,
        statement: Rc<Statement>,
    },
}

/// What a worker brings back.
pub(super) struct Read {
    text: Box<str>,
    batch: Batch,
}

impl Aside {
    /// Hands `text` to a worker.
    pub(super) fn begin(text: &str) -> Self {
        let text: Box<str> = text.into();
        let is_long = text.len() > READ_BESIDE_MAX;
        let read = move || {
            let batch = profile(&text, &ProfileLimits::default());
            Read { text, batch }
        };
        Self::Reading(if is_long {
            Box::pin(runtime::run_blocking_alone(read))
        } else {
            Box::pin(runtime::run_blocking(read))
        })
    }

    /// What `text` does, if that is what was read.
    pub(super) fn statement(&self, text: &str) -> Option<&Rc<Statement>> {
        match self {
            Self::Read {
                text: read,
                statement,
            } if **read == *text => Some(statement),
            Self::Read { .. } | Self::Reading(_) => None,
        }
    }

    /// Ready when the worker is back.
    pub(super) fn poll_read(
        &mut self,
        classifier: &Classifier,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Panicked>> {
        if let Self::Reading(work) = self {
            let Read { text, batch } = ready!(work.as_mut().poll(context))?;
            let statement = classifier.learn(&text, batch);
            *self = Self::Read { text, statement };
        }
        Poll::Ready(Ok(()))
    }
}
