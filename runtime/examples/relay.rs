//! A bare relay over the runtime's streams: what a shard costs before anything is looked at.
//!
//!     relay LISTEN UPSTREAM [SHARDS]        # addresses; one shard unless said otherwise
//!
//! `benches/` measures it beside PgBouncer and HAProxy. It has no deadlines and no limits: it is
//! not for use.

#![expect(clippy::print_stdout, reason = "it says when it is ready")]

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use runtime::{ListenAddress, Listener, ShardsConfig, Stream};

/// Bytes queued towards one side at which the other is no longer read.
const CONGESTED: usize = 256 * 1024;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// One direction; ready once the end of the stream has been passed on.
fn poll_one_way(
    from: &mut Stream,
    to: &mut Stream,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        if to.queued_bytes() >= CONGESTED && to.poll_flush(context)?.is_pending() {
            return Poll::Pending;
        }
        match from.poll_recv(context)? {
            Poll::Ready(Some(chunk)) => to.append_chunk(&chunk, 0..chunk.len()),
            Poll::Ready(None) => {
                to.close_send();
                return to.poll_flush(context);
            }
            Poll::Pending => {
                // What is ready has been gathered: one write for all of it.
                let _ = to.poll_flush(context)?;
                return Poll::Pending;
            }
        }
    }
}

async fn relay(mut downstream: Stream, upstream: SocketAddr) -> io::Result<()> {
    let mut upstream = Stream::connect(&upstream, runtime::now() + CONNECT_WITHIN).await?;
    poll_fn(|context| {
        let up = poll_one_way(&mut downstream, &mut upstream, context)?;
        let down = poll_one_way(&mut upstream, &mut downstream, context)?;
        if up.is_ready() && down.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let mut listener = Listener::bind(&ListenAddress::Tcp(listen))?;
    loop {
        let downstream = listener.accept().await?;
        runtime::spawn(async move {
            // The peers see the end of their connections; nobody else needs the reason.
            let _ = relay(downstream, upstream).await;
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments
        .next()
        .ok_or("the address to listen on")?
        .parse()?;
    let upstream = arguments
        .next()
        .ok_or("the address of the upstream")?
        .parse()?;
    let count = arguments
        .next()
        .map_or(Ok(NonZeroUsize::MIN), |n| n.parse())?;
    let shards = runtime::start_shards(ShardsConfig { count: Some(count) }, move |_| async move {
        if let Err(error) = serve(listen, upstream).await {
            println!("{error}");
        }
    })?;
    println!("ready");
    shards.join()?;
    Ok(())
}
