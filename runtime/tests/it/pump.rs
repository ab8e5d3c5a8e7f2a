//! Bytes through a relay made of two streams, the way the appliance uses them: one task, both
//! directions, a bound on what waits.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use runtime::{Listener, Stream, now, with_deadline};

use crate::{loopback, on_a_shard, soon, tcp_address, tcp_pair};

const WAITING_BYTES_MAX: usize = 256 * 1024;
const BULK_BYTES: u64 = 24 * 1024 * 1024;

/// A byte that depends on its place, so that any loss, repetition or exchange is seen.
fn byte_at(place: u64, seed: u64) -> u8 {
    (place.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Sends bytes up to `total` and checks those that arrive, in one task.
struct End {
    stream: Stream,
    total: u64,
    sent: u64,
    received: u64,
    send_seed: u64,
    receive_seed: u64,
    ended: bool,
}

impl End {
    fn new(stream: Stream, total: u64, send_seed: u64, receive_seed: u64) -> Self {
        Self {
            stream,
            total,
            sent: 0,
            received: 0,
            send_seed,
            receive_seed,
            ended: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.total && self.stream.queued_bytes() < WAITING_BYTES_MAX {
            let count = (self.total - self.sent).min(1 + self.sent % 40_000);
            let bytes: Vec<u8> = (0..count)
                .map(|place| byte_at(self.sent + place, self.send_seed))
                .collect();
            self.stream.append(&bytes);
            self.sent += count;
            if self.sent == self.total {
                self.stream.close_send();
            }
            if self.stream.poll_flush(cx)?.is_pending() {
                break;
            }
        }
        let flushed = self.stream.poll_flush(cx)?;
        while !self.ended {
            let Poll::Ready(chunk) = self.stream.poll_recv(cx)? else {
                return Poll::Pending;
            };
            let Some(chunk) = chunk else {
                self.ended = true;
                break;
            };
            for byte in chunk.iter() {
                assert_eq!(*byte, byte_at(self.received, self.receive_seed));
                self.received += 1;
            }
        }
        if self.sent < self.total {
            // More to say, and room since the last flush only if that flush is ready.
            if flushed.is_ready() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        flushed.map(Ok)
    }

    async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await.unwrap();
        assert_eq!((self.sent, self.received), (self.total, self.total));
    }
}

/// One direction of a relay; true once the end has been passed on.
fn poll_one_way(from: &mut Stream, to: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        if to.queued_bytes() >= WAITING_BYTES_MAX && to.poll_flush(cx)?.is_pending() {
            return Poll::Pending;
        }
        match from.poll_recv(cx)? {
            Poll::Ready(Some(chunk)) => to.append_chunk(&chunk, 0..chunk.len()),
            Poll::Ready(None) => {
                to.close_send();
                return to.poll_flush(cx);
            }
            Poll::Pending => {
                // What is ready has been gathered: one write for all of it.
                let _ = to.poll_flush(cx)?;
                return Poll::Pending;
            }
        }
    }
}

async fn relay(mut downstream: Stream, mut upstream: Stream) -> io::Result<()> {
    poll_fn(|cx| {
        let up = poll_one_way(&mut downstream, &mut upstream, cx)?;
        let down = poll_one_way(&mut upstream, &mut downstream, cx)?;
        if up.is_ready() && down.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

async fn through_a_relay() -> (Stream, Stream) {
    let mut front = Listener::bind(&loopback()).unwrap();
    let mut back = Listener::bind(&loopback()).unwrap();
    let client = Stream::connect(&tcp_address(&front), soon()).await.unwrap();
    let downstream = front.accept().await.unwrap();
    let upstream = Stream::connect(&tcp_address(&back), soon()).await.unwrap();
    let server = back.accept().await.unwrap();
    runtime::spawn(async move { relay(downstream, upstream).await.unwrap() });
    (client, server)
}

#[test]
fn bulk_passes_both_ways_at_once_unharmed() {
    on_a_shard(|| async {
        let (client, server) = through_a_relay().await;
        let (done, finished) = runtime::reply();
        runtime::spawn(async move {
            End::new(server, BULK_BYTES, 2, 1).run().await;
            done.send(()).unwrap();
        });
        End::new(client, BULK_BYTES, 1, 2).run().await;
        assert_eq!(finished.await, Some(()));
    });
}

#[test]
fn many_relayed_connections_do_not_mix() {
    on_a_shard(|| async {
        let (finished, mut results) = runtime::mailbox(1000);
        for connection in 0..100 {
            let (client, server) = through_a_relay().await;
            let seeds = (2 * connection, 2 * connection + 1);
            for end in [
                End::new(client, 50_000 + connection, seeds.0, seeds.1),
                End::new(server, 50_000 + connection, seeds.1, seeds.0),
            ] {
                let finished = finished.clone();
                runtime::spawn(async move {
                    end.run().await;
                    finished.try_send(()).unwrap();
                });
            }
        }
        drop(finished);
        let mut count = 0;
        while results.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 200);
    });
}

#[test]
fn waits_that_are_abandoned_lose_no_byte() {
    on_a_shard(|| async {
        let (mut here, there) = tcp_pair().await;
        let total = 2 * 1024 * 1024;
        let (done, finished) = runtime::reply();
        runtime::spawn(async move {
            let mut there = there;
            let mut sent = 0;
            while sent < total {
                let count = (total - sent).min(1 + sent % 70_000);
                let bytes: Vec<u8> = (0..count).map(|place| byte_at(sent + place, 0)).collect();
                there.append(&bytes);
                sent += count;
                while there.flush(now()).await.is_err() {
                    crate::pause(1).await;
                }
            }
            done.send(()).unwrap();
        });
        let mut received = 0;
        while received < total {
            // Most of these end by the deadline, at a different point of the transfer each time.
            let deadline = now() + std::time::Duration::from_micros(1 + received % 300);
            let Ok(chunk) = with_deadline(deadline, poll_fn(|cx| here.poll_recv(cx))).await else {
                continue;
            };
            for byte in chunk.unwrap().unwrap().iter() {
                assert_eq!(*byte, byte_at(received, 0));
                received += 1;
            }
        }
        assert_eq!(finished.await, Some(()));
    });
}
