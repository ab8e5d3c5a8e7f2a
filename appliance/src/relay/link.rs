//! What the data path needs of a connection, and nothing of what it is made of.
//!
//! The conversation is carried out against these, so that it has neither socket nor clock: the
//! product hands it its transports, the simulation links of its own that split, delay and break.

use std::io;
use std::task::{Context, Poll};

use codecs::postgres::backend::ParameterStatus;
use runtime::Chunk;

use crate::upstream::{Lease, UpstreamError};
use runtime::transport::Transport;

/// Where bytes are queued for a peer. Nothing is sent before a flush.
pub(crate) trait Outbound {
    /// Queues a copy of `bytes`.
    fn append(&mut self, bytes: &[u8]);
}

/// Bytes both ways.
pub(crate) trait Link: Outbound {
    /// The next bytes; `None` at the end of the stream, and from then on.
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>>;

    /// Bytes that have not left yet.
    fn queued_bytes(&self) -> usize;

    /// Sends what is queued; ready when all of it has left.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The side that answers: also keeps what the server reports of itself.
pub(crate) trait Upstream: Link {
    /// # Errors
    /// When the server reports more settings than any PostgreSQL has, or that it reads statements
    /// otherwise than they are judged.
    fn handle_parameter_status(
        &mut self,
        status: &ParameterStatus<'_>,
    ) -> Result<(), UpstreamError>;
}

impl Outbound for Transport {
    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        Self::append(self, bytes);
    }
}

impl Link for Transport {
    #[inline]
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        Self::poll_recv(self, context)
    }

    #[inline]
    fn queued_bytes(&self) -> usize {
        Self::queued_bytes(self)
    }

    #[inline]
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self, context)
    }
}

impl Outbound for Lease {
    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        self.transport().append(bytes);
    }
}

impl Link for Lease {
    #[inline]
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Chunk>>> {
        self.transport().poll_recv(context)
    }

    #[inline]
    fn queued_bytes(&self) -> usize {
        Self::queued_bytes(self)
    }

    #[inline]
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_flush(context)
    }
}

impl Upstream for Lease {
    fn handle_parameter_status(
        &mut self,
        status: &ParameterStatus<'_>,
    ) -> Result<(), UpstreamError> {
        Self::handle_parameter_status(self, status)
    }
}
