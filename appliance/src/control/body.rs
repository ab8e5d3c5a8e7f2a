//! An answer's body, written by a thread that may block.

use std::io::{self, Write};

use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use tokio::runtime::Handle;

use crate::telemetry::chain;

/// Pieces on their way to the peer; the writer waits for a slow one.
const PIECES_MAX: usize = 4;

/// Size from which a piece is sent, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// The writing end. For threads of `spawn_blocking`.
pub(super) struct BodyWriter {
    sender: Option<Sender<Bytes, io::Error>>,
    piece: Vec<u8>,
    runtime: Handle,
}

impl BodyWriter {
    /// A writer and the body that it fills. To be made inside the runtime.
    pub(super) fn new() -> (Self, Channel<Bytes, io::Error>) {
        let (sender, body) = Channel::new(PIECES_MAX);
        let runtime = Handle::current();
        (
            Self {
                sender: Some(sender),
                piece: Vec::new(),
                runtime,
            },
            body,
        )
    }

    /// Ends the body so that its reader sees that something is missing.
    pub(super) fn break_off(&mut self, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(
            error = chain(error),
            "an answer at the admin socket broke off"
        );
        if let Some(sender) = self.sender.take() {
            sender.abort(io::ErrorKind::Other.into());
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let sender = self.sender.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let sent = self.runtime.block_on(sender.send_data(piece));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            Ok(())
        } else {
            self.send()
        }
    }
}
