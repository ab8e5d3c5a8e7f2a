//! What sockets go through in a bad hour: peers that are slow, that vanish, that all speak at once.

use std::collections::HashSet;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use runtime::{Listener, Stream, Timer, now, with_deadline};

use crate::{
    in_a_process_of_its_own, loopback, on_a_shard, recv_up_to, soon, tcp_address, tcp_pair,
};

const PIECE: usize = 64 * 1024;

/// What stands at a place of the streams here: its last eight bits.
fn byte_at(place: usize) -> u8 {
    place.to_le_bytes()[0]
}

/// More than the kernel's two socket buffers grow to here, and what a stream reads ahead.
const FAR_TOO_MUCH: usize = 64 * 1024 * 1024;

/// Queues and flushes pieces until the stream takes no more; returns how many bytes it took.
async fn fill(stream: &mut Stream) -> usize {
    let piece: Vec<u8> = (0..PIECE).map(byte_at).collect();
    let mut taken = 0;
    while taken < FAR_TOO_MUCH {
        stream.append(&piece);
        taken += piece.len();
        // Long enough for the peer to have received what it will.
        if stream
            .flush(now() + Duration::from_millis(200))
            .await
            .is_err()
        {
            break;
        }
    }
    taken
}

#[test]
fn a_reader_that_does_not_read_stops_the_sender_and_loses_nothing() {
    on_a_shard(|| async {
        let (mut sender, mut reader) = tcp_pair().await;
        // The first wait starts receiving; from then on bytes arrive by themselves.
        assert!(reader.recv(now()).await.is_err());
        let taken = fill(&mut sender).await;
        assert!(taken < FAR_TOO_MUCH, "nothing held the sender back");
        let (done, finished) = runtime::reply();
        runtime::spawn(async move {
            sender.close_send();
            sender.flush(soon()).await.unwrap();
            done.send(()).unwrap();
        });
        let mut place = 0;
        while let Some(chunk) = reader.recv(soon()).await.unwrap() {
            for byte in chunk.iter() {
                assert_eq!(*byte, byte_at(place), "at {place}");
                place = (place + 1) % PIECE;
            }
        }
        assert_eq!(place, 0);
        assert_eq!(finished.await, Some(()));
    });
}

#[test]
fn bytes_that_come_one_by_one_while_nobody_reads_arrive_in_order() {
    const COUNT: usize = 20_000;
    on_a_shard(|| async {
        let mut listener = Listener::bind(&loopback()).unwrap();
        let address = tcp_address(&listener);
        let peer = std::thread::spawn(move || {
            let mut peer = TcpStream::connect(address).unwrap();
            peer.set_nodelay(true).unwrap();
            for place in 0..COUNT {
                peer.write_all(&[byte_at(place)]).unwrap();
            }
        });
        let mut reader = listener.accept().await.unwrap();
        let mut received = 0;
        while received < COUNT {
            let chunk = reader.recv(soon()).await.unwrap().unwrap();
            for byte in chunk.iter() {
                assert_eq!(*byte, byte_at(received));
                received += 1;
            }
            // Lets more of them come than are taken.
            if received % 7 == 0 {
                crate::pause(1).await;
            }
        }
        assert!(reader.recv(soon()).await.unwrap().is_none());
        peer.join().unwrap();
    });
}

#[test]
fn a_peer_that_has_said_all_still_gets_the_whole_answer() {
    const ANSWER: usize = 4 * 1024 * 1024;
    on_a_shard(|| async {
        let (mut here, mut there) = tcp_pair().await;
        here.append(b"question");
        here.close_send();
        here.flush(soon()).await.unwrap();
        runtime::spawn(async move {
            assert_eq!(recv_up_to(&mut there, 8).await, b"question");
            assert!(there.recv(soon()).await.unwrap().is_none());
            there.append(&vec![7; ANSWER]);
            there.close_send();
            there.flush(soon()).await.unwrap();
        });
        assert_eq!(recv_up_to(&mut here, ANSWER + 1).await.len(), ANSWER);
    });
}

#[test]
fn a_reset_in_the_middle_of_a_send_fails_that_stream_alone() {
    on_a_shard(|| async {
        let (mut other, mut far) = tcp_pair().await;
        for _ in 0..20 {
            let (mut sender, mut reader) = tcp_pair().await;
            // More than the kernel's two buffers grow to.
            sender.append(&vec![1; FAR_TOO_MUCH / 2]);
            assert!(sender.flush(now()).await.is_err());
            assert!(reader.recv(soon()).await.unwrap().is_some());
            reader.abort();
            let error = sender.flush(soon()).await.unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{error}"
            );
            assert_eq!(sender.queued_bytes(), 0);
            let end = sender.recv(soon()).await;
            assert!(!matches!(end, Ok(Some(_))), "{end:?}");
        }
        other.append(b"alive");
        other.flush(soon()).await.unwrap();
        assert_eq!(recv_up_to(&mut far, 5).await, b"alive");
    });
}

/// More connections speak within one turn of the shard than it has receive buffers for.
#[test]
fn a_thousand_peers_that_speak_at_once_are_all_heard() {
    const PEERS: usize = 1000;
    on_a_shard(|| async {
        let mut listener = Listener::bind(&loopback()).unwrap();
        let address = tcp_address(&listener);
        let (speak, spoken) = (mpsc::channel::<()>(), mpsc::channel());
        let (told, tell) = (speak.0, speak.1);
        let peers = std::thread::spawn(move || {
            let mut peers: Vec<TcpStream> = (0..PEERS)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            for round in 0..3u8 {
                tell.recv().unwrap();
                for (number, peer) in peers.iter_mut().enumerate() {
                    let number = u32::try_from(number).unwrap();
                    peer.write_all(&number.to_be_bytes()).unwrap();
                    peer.write_all(&[round]).unwrap();
                }
                spoken.0.send(()).unwrap();
            }
            // Kept until the shard has read: it waits for the end of each.
            peers
        });
        let mut streams = Vec::new();
        for _ in 0..PEERS {
            let mut stream = listener.accept().await.unwrap();
            // From here on it receives.
            assert!(stream.recv(now()).await.is_err());
            streams.push(stream);
        }
        for round in 0..3 {
            told.send(()).unwrap();
            // The shard does nothing else until everybody has spoken.
            spoken.1.recv().unwrap();
            let mut heard = HashSet::new();
            for stream in &mut streams {
                let bytes = recv_up_to(stream, 5).await;
                assert_eq!(bytes[4], round);
                heard.insert(u32::from_be_bytes(bytes[..4].try_into().unwrap()));
            }
            assert_eq!(heard.len(), PEERS);
        }
        drop(peers.join().unwrap());
        for stream in &mut streams {
            assert!(stream.recv(soon()).await.unwrap().is_none());
        }
    });
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until as many descriptors are open as `before`: the last ones close with their events.
async fn descriptors_are_back_to(before: usize) {
    let deadline = soon();
    while open_descriptors() > before {
        assert!(now() < deadline, "{} are open", open_descriptors());
        crate::pause(1).await;
    }
}

#[test]
fn ten_thousand_connections_that_come_and_go_leave_nothing_behind() {
    in_a_process_of_its_own(
        "stress::ten_thousand_connections_that_come_and_go_leave_nothing_behind",
        || {
            on_a_shard(|| async {
                let mut listener = Listener::bind(&loopback()).unwrap();
                let address = tcp_address(&listener);
                let before = open_descriptors();
                for batch in 0..100u32 {
                    let (done, mut finished) = runtime::mailbox(200);
                    for number in 0..100u32 {
                        let done = done.clone();
                        runtime::spawn(async move {
                            let mut here = Stream::connect(&address, soon()).await.unwrap();
                            let said = (batch * 100 + number).to_be_bytes();
                            here.append(&said);
                            here.flush(soon()).await.unwrap();
                            assert_eq!(recv_up_to(&mut here, 4).await, said);
                            // Some leave in good order, some at once, some by a reset.
                            match number % 3 {
                                0 => here.close_send(),
                                1 => drop(here),
                                _ => here.abort(),
                            }
                            done.try_send(()).unwrap();
                        });
                    }
                    for _ in 0..100 {
                        let mut there = listener.accept().await.unwrap();
                        let done = done.clone();
                        runtime::spawn(async move {
                            let said = recv_up_to(&mut there, 4).await;
                            there.append(&said);
                            there.flush(soon()).await.unwrap();
                            let end = there.recv(soon()).await;
                            assert!(!matches!(end, Ok(Some(_))), "{end:?}");
                            done.try_send(()).unwrap();
                        });
                    }
                    drop(done);
                    let mut count = 0;
                    while finished.recv().await.is_some() {
                        count += 1;
                    }
                    assert_eq!(count, 200);
                }
                descriptors_are_back_to(before).await;
            });
        },
    );
}

#[test]
fn waits_that_are_abandoned_anywhere_leave_no_descriptor_and_no_stranger_s_bytes() {
    in_a_process_of_its_own(
        "stress::waits_that_are_abandoned_anywhere_leave_no_descriptor_and_no_stranger_s_bytes",
        || {
            on_a_shard(|| async {
                let mut listener = Listener::bind(&loopback()).unwrap();
                let address = tcp_address(&listener);
                let before = open_descriptors();
                for round in 0..2000u64 {
                    let soon_over = |micros: u64| now() + Duration::from_micros(micros % 97);
                    let connected = Stream::connect(&address, soon_over(round)).await;
                    let accepted = with_deadline(soon_over(round * 7), listener.accept()).await;
                    let (Ok(mut here), Ok(Ok(mut there))) = (connected, accepted) else {
                        continue;
                    };
                    if here.local_address() != peer_of(&there) {
                        // It is an earlier connection, whose end was abandoned.
                        continue;
                    }
                    let said = [round.to_be_bytes(), round.to_le_bytes()].concat();
                    here.append(&said);
                    // Abandoned or not, the bytes stay in order.
                    let _ = here.flush(soon_over(round * 3)).await;
                    if let Ok(Some(first)) = there.recv(soon_over(round * 5)).await {
                        assert!(said.starts_with(&first));
                    }
                    // Both ends go while their operations run.
                    drop(here);
                    drop(there);
                }
                // Connections whose opening was abandoned wait in the listener.
                while with_deadline(now() + Duration::from_millis(100), listener.accept())
                    .await
                    .is_ok()
                {}
                descriptors_are_back_to(before).await;
            });
        },
    );
}

fn peer_of(stream: &Stream) -> Option<std::net::SocketAddr> {
    match stream.peer_address() {
        runtime::PeerAddress::Tcp(address) => Some(address),
        runtime::PeerAddress::Unix => None,
    }
}

#[test]
fn no_wake_from_another_thread_is_lost() {
    const ROUNDS: u32 = 20_000;
    on_a_shard(|| async {
        let (ask, mut asked) = runtime::mailbox::<(u32, mpsc::SyncSender<u32>)>(16);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let ask = ask.clone();
                std::thread::spawn(move || {
                    let (answer, answered) = mpsc::sync_channel(1);
                    for round in 0..ROUNDS {
                        // Each waits for its answer, so the shard falls asleep in between.
                        ask.try_send((round, answer.clone())).unwrap();
                        let patience = Duration::from_secs(30);
                        assert_eq!(answered.recv_timeout(patience), Ok(round));
                    }
                })
            })
            .collect();
        drop(ask);
        while let Some((round, answer)) = asked.recv().await {
            answer.send(round).unwrap();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_shard_with_nothing_to_do_sleeps() {
    in_a_process_of_its_own("stress::a_shard_with_nothing_to_do_sleeps", || {
        let (started, ready) = mpsc::channel();
        let shards = runtime::start_shards(
            runtime::ShardsConfig {
                count: std::num::NonZeroUsize::new(1),
            },
            move |_| {
                let started = started.clone();
                async move {
                    let (mut here, mut there) = tcp_pair().await;
                    let mut far = Timer::at(now() + Duration::from_secs(3600));
                    started.send(rustix::thread::gettid()).unwrap();
                    // Sockets, a timer, a mailbox: all of them silent, until the process ends.
                    poll_fn(|cx| {
                        let _ = here.poll_recv(cx);
                        let _ = there.poll_recv(cx);
                        let _ = far.poll_expired(cx);
                        Poll::<()>::Pending
                    })
                    .await;
                }
            },
        )
        .unwrap();
        let shard = ready.recv().unwrap();
        let switches = || {
            let path = format!("/proc/self/task/{}/status", shard.as_raw_nonzero());
            let mut status = String::new();
            let mut file = std::fs::File::open(path).unwrap();
            file.read_to_string(&mut status).unwrap();
            let line = status.lines().find(|l| l.starts_with("voluntary"));
            line.unwrap().to_owned()
        };
        // It has gone to sleep once two looks find the same; from then on nothing wakes it.
        let (nobody, never) = mpsc::channel::<()>();
        let a_while = || {
            let passed = never.recv_timeout(Duration::from_millis(100));
            assert_eq!(passed, Err(mpsc::RecvTimeoutError::Timeout));
        };
        let deadline = now() + Duration::from_secs(30);
        let mut before = switches();
        loop {
            a_while();
            let after = switches();
            if after == before {
                break;
            }
            assert!(now() < deadline, "it never sleeps for 100 ms");
            before = after;
        }
        drop((nobody, shards));
    });
}
