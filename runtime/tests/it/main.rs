//! The crate's promises, tested on real shards with real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy exempts functions marked as tests, not what they call"
)]

mod limits;
mod listeners;
mod mailbox;
mod panics;
mod published;
mod pump;
mod streams;
mod stress;
mod timers;

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use runtime::{ListenAddress, Listener, ShardsConfig, Stream, Timer};

/// Runs `test` on a shard of its own; a panic in it, or in a task that it spawned and that has run,
/// fails the test.
pub(crate) fn on_a_shard<F, Fut>(test: F)
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    on_a_shard_with_panics(0, test);
}

/// As [`on_a_shard`], where so many panics are meant to be contained.
pub(crate) fn on_a_shard_with_panics<F, Fut>(panics: u64, test: F)
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let config = ShardsConfig {
        count: NonZeroUsize::new(1),
    };
    let shards = runtime::start_shards(config, move |_| {
        let test = test.clone();
        async move {
            test().await;
            assert_eq!(runtime::panics_contained(), panics);
        }
    });
    shards.unwrap().join().unwrap();
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

/// Runs `test` in a process of its own, since what it changes or counts belongs to the process.
/// `name` is the path of the calling test.
pub(crate) fn in_a_process_of_its_own(name: &str, test: impl FnOnce()) {
    const MARK: &str = "RUNTIME_TEST_CHILD";
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test is called {name}");
}

/// Lets the shard's other tasks and its sockets run.
pub(crate) async fn pause(millis: u64) {
    Timer::at(runtime::now() + Duration::from_millis(millis))
        .expired()
        .await;
}
