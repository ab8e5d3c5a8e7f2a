//! A bare TCP relay on this runtime, to measure what moving bytes costs.
//!
//! `relay LISTEN TARGET [SHARDS]`, for example `relay 127.0.0.1:6000 127.0.0.1:5432 1`. It looks at
//! no byte and trusts everybody.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::Duration;

use runtime::{ListenAddress, Listener, ShardsConfig, Stream};

/// What waits for a slow reader before the other side is no longer read.
const WAITING_BYTES_MAX: usize = 256 * 1024;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let addresses: Option<(SocketAddr, SocketAddr)> = (|| {
        let listen = arguments.next()?.parse().ok()?;
        let target = arguments.next()?.parse().ok()?;
        Some((listen, target))
    })();
    let Some((listen, target)) = addresses else {
        eprintln!("usage: relay LISTEN TARGET [SHARDS]");
        return ExitCode::FAILURE;
    };
    let count = arguments.next().and_then(|count| count.parse().ok());
    let config = ShardsConfig {
        count: count.or(NonZeroUsize::new(1)),
    };
    let shards = runtime::start_shards(config, move |_| async move {
        if let Err(error) = serve(listen, target).await {
            eprintln!("relay: {error}");
        }
    });
    match shards.map(runtime::RunningShards::join) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(died)) => {
            eprintln!("relay: {died}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let mut listener = Listener::bind(&ListenAddress::Tcp(listen))?;
    loop {
        let downstream = listener.accept().await?;
        runtime::spawn(async move {
            // A connection that fails ends; there is nobody to tell.
            let _ = relay(downstream, target).await;
        });
    }
}

async fn relay(mut downstream: Stream, target: SocketAddr) -> io::Result<()> {
    let mut upstream = Stream::connect(&target, runtime::now() + CONNECT_WITHIN).await?;
    loop {
        let ended = poll_fn(|cx| poll_both(&mut downstream, &mut upstream, cx)).await?;
        if ended {
            return Ok(());
        }
        runtime::yield_if_needed().await;
    }
}

/// Ready with true at the end of both directions, with false when it is time to yield.
fn poll_both(
    downstream: &mut Stream,
    upstream: &mut Stream,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    let up = poll_one_way(downstream, upstream, cx)?;
    let down = poll_one_way(upstream, downstream, cx)?;
    match (up, down) {
        (Way::Ended, Way::Ended) => Poll::Ready(Ok(true)),
        (Way::Moving, _) | (_, Way::Moving) => Poll::Ready(Ok(false)),
        (Way::Waiting | Way::Ended, Way::Waiting | Way::Ended) => Poll::Pending,
    }
}

/// Chunks moved in one direction before the other and other tasks are looked at.
const CHUNKS_PER_TURN: usize = 8;

enum Way {
    Moving,
    Waiting,
    Ended,
}

fn poll_one_way(from: &mut Stream, to: &mut Stream, cx: &mut Context<'_>) -> io::Result<Way> {
    for _ in 0..CHUNKS_PER_TURN {
        if to.queued_bytes() >= WAITING_BYTES_MAX && flush(to, cx)?.is_pending() {
            return Ok(Way::Waiting);
        }
        match from.poll_recv(cx) {
            Poll::Ready(chunk) => match chunk? {
                Some(chunk) => to.append_chunk(&chunk, 0..chunk.len()),
                None => {
                    to.close_send();
                    return Ok(match flush(to, cx)? {
                        Poll::Ready(()) => Way::Ended,
                        Poll::Pending => Way::Waiting,
                    });
                }
            },
            Poll::Pending => {
                // What is ready has been gathered: one write for all of it. While it is pending,
                // its end wakes this task.
                let _ = flush(to, cx)?;
                return Ok(Way::Waiting);
            }
        }
    }
    // As above.
    let _ = flush(to, cx)?;
    Ok(Way::Moving)
}

fn flush(stream: &mut Stream, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
    match stream.poll_flush(cx) {
        Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Pending => Ok(Poll::Pending),
    }
}
