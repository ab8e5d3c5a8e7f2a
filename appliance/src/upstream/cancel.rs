//! Cancels what a server session is doing, by a connection of its own.

use std::sync::Arc;
use std::time::Instant;

use codecs::postgres::startup::encode_cancel_request;
use zeroize::Zeroizing;

use super::credentials::Account;
use super::dial::{BackendKey, secure};
use super::error::{Phase, UpstreamError, Violation};
use super::server::Server;

/// What it takes to cancel a lease's statement, on whichever shard. Wiped on drop.
#[derive(Clone)]
pub struct CancelHandle {
    pub(super) account: Arc<Account>,
    /// The address of the session itself: a host name may stand for several servers.
    pub(super) server: Server,
    pub(super) key: BackendKey,
}

/// Asks the server to cancel, and waits until it has passed the request on.
///
/// That a statement ends by it is not certain: it may have ended before, and then whatever the
/// session does next is in danger, so the connection must not go back to the pool clean.
///
/// # Errors
/// As [`UpstreamError`] says.
pub async fn cancel(handle: &CancelHandle, deadline: Instant) -> Result<(), UpstreamError> {
    let stream = handle.server.connect(deadline).await?;
    let mut transport = secure(stream, &handle.account, &handle.server.address, deadline).await?;
    let mut message = Zeroizing::new(Vec::new());
    encode_cancel_request(&mut message, handle.key.process_id, &handle.key.secret)
        .map_err(|_| UpstreamError::protocol(Phase::Cancel, Violation::Malformed))?;
    transport.append(&message);
    transport
        .flush(deadline)
        .await
        .map_err(|error| UpstreamError::from_io(Phase::Cancel, &error))?;
    // The server answers by closing, once the signal is sent; however it closes is an answer.
    match transport.recv(deadline).await {
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Err(UpstreamError::TimedOut {
                phase: Phase::Cancel,
            })
        }
        Ok(Some(_)) => Err(UpstreamError::protocol(
            Phase::Cancel,
            Violation::OutOfSequence,
        )),
        Ok(None) | Err(_) => Ok(()),
    }
}
