//! Serves HTTP/1.1 on one connection, and accepts those of the admin socket.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep};

use super::api::Door;
use super::peer::Peer;

/// Connections of the admin socket served at once; one more waits in the kernel's queue. Only
/// operators use them.
const CONNECTIONS_MAX: usize = 64;

/// How long a request's head may take to arrive, counted from the answer before: it is the limit on
/// idle connections too.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Longest head of a request, in bytes. A token of 16 KiB and a session's cookies fit.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a peer may leave an answer unread.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Pause after a failed accept (no descriptors left), so that it is no loop.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Says when connections are to end after the answer that they are at.
#[derive(Clone)]
pub(super) struct Closing(watch::Receiver<bool>);

impl Closing {
    /// What says so, and what hears it.
    pub(super) fn new() -> (watch::Sender<bool>, Self) {
        let (say, hear) = watch::channel(false);
        (say, Self(hear))
    }

    /// Returns when it is time.
    pub(super) async fn told(&mut self) {
        // Whoever could say so is gone: that is the end too.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// Serves the admin socket until it is told to close.
pub(super) async fn serve(
    listener: StdListener,
    router: Router,
    mut closing: Closing,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            // Nobody closes the semaphore.
            return Ok(());
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.told() => return Ok(()),
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, closing) = (router.clone(), closing.clone());
                tokio::spawn(async move {
                    operator_connection(stream, router, closing).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting at the admin socket failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn operator_connection(stream: UnixStream, router: Router, closing: Closing) {
    match Peer::of(&stream) {
        Ok(peer) => connection(stream, Door::Socket(peer), router, closing).await,
        Err(error) => tracing::warn!(%error, "a peer at the admin socket has no credentials"),
    }
}

/// Serves one connection that came in by `door`.
pub(super) async fn connection<S>(stream: S, door: Door, router: Router, mut closing: Closing)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(door)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Unstalled::new(stream)), service);
    let mut serving = pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = closing.told() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, ?door, "a connection of the admin API broke");
    }
}

/// A stream that fails when its peer takes nothing for `WRITE_DEADLINE`. hyper has no such limit.
struct Unstalled<S> {
    stream: S,
    /// Runs while something waits to be taken.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            waiting: None,
        }
    }

    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep(WRITE_DEADLINE)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.in_time(cx, shut)
    }
}
