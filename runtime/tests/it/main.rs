//! The crate's promises, tested on real shards with real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy exempts functions marked as tests, not what they call"
)]

mod mailbox;
mod panics;
mod published;
mod streams;
mod timers;

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use runtime::{ListenAddress, Listener, ShardsConfig, Stream};

/// Runs `test` on a shard of its own; a panic in it fails the test.
pub(crate) fn on_a_shard<F, Fut>(test: F)
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let config = ShardsConfig {
        count: NonZeroUsize::new(1),
    };
    runtime::start_shards(config, move |_| test())
        .unwrap()
        .join()
        .unwrap();
}

/// Long enough for any machine; a test that reaches it has failed.
pub(crate) fn soon() -> Instant {
    runtime::now() + Duration::from_secs(30)
}

pub(crate) fn loopback() -> ListenAddress {
    ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())
}

pub(crate) fn tcp_address(listener: &Listener) -> SocketAddr {
    match listener.local_address() {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(_) => panic!("a Unix listener"),
    }
}

/// Both ends of a TCP connection over loopback.
pub(crate) async fn tcp_pair() -> (Stream, Stream) {
    let mut listener = Listener::bind(&loopback()).unwrap();
    let here = Stream::connect(&tcp_address(&listener), soon())
        .await
        .unwrap();
    (here, listener.accept().await.unwrap())
}

/// Reads until `count` bytes are there or the stream ends.
pub(crate) async fn recv_up_to(stream: &mut Stream, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        match stream.recv(soon()).await.unwrap() {
            Some(chunk) => all.extend_from_slice(&chunk),
            None => break,
        }
    }
    all
}
