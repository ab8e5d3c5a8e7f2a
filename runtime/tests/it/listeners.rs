//! Accepting: many connections, several shards, descriptors that run out.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runtime::{ListenAddress, Listener, ShardsConfig, Stream, listen_socket, now, with_deadline};
use rustix::process::{Resource, Rlimit};

use crate::{in_a_process_of_its_own, loopback, on_a_shard, soon, tcp_address};

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn two_thousand_connections_open_and_close_without_a_trace() {
    in_a_process_of_its_own(
        "listeners::two_thousand_connections_open_and_close_without_a_trace",
        || {
            on_a_shard(|| async {
                let mut listener = Listener::bind(&loopback()).unwrap();
                let address = tcp_address(&listener);
                let before = open_descriptors();
                for _ in 0..2 {
                    let (closed, mut closings) = runtime::mailbox(2000);
                    for number in 0..2000_u32 {
                        let closed = closed.clone();
                        runtime::spawn(async move {
                            let mut stream = Stream::connect(&address, soon()).await.unwrap();
                            stream.append(&number.to_be_bytes());
                            stream.flush(soon()).await.unwrap();
                            assert!(stream.recv(soon()).await.unwrap().is_none());
                            drop(stream);
                            closed.try_send(()).unwrap();
                        });
                    }
                    let mut accepted = Vec::new();
                    for _ in 0..2000 {
                        let mut stream = listener.accept().await.unwrap();
                        let number = crate::recv_up_to(&mut stream, 4).await;
                        accepted.push((u32::from_be_bytes(number.try_into().unwrap()), stream));
                    }
                    accepted.sort_by_key(|(number, _)| *number);
                    assert!(accepted.iter().map(|(n, _)| *n).eq(0..2000));
                    drop(accepted);
                    for _ in 0..2000 {
                        closings.recv().await.unwrap();
                    }
                    assert_eq!(open_descriptors(), before);
                }
            });
        },
    );
}

#[test]
fn accepting_goes_on_after_descriptors_ran_out() {
    in_a_process_of_its_own(
        "listeners::accepting_goes_on_after_descriptors_ran_out",
        || {
            on_a_shard(|| async {
                let mut listener = Listener::bind(&loopback()).unwrap();
                let clients: Vec<_> = (0..10)
                    .map(|_| TcpStream::connect(tcp_address(&listener)).unwrap())
                    .collect();
                let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
                let limit = rustix::process::getrlimit(Resource::Nofile);
                let set = |current: u64| {
                    rustix::process::setrlimit(
                        Resource::Nofile,
                        Rlimit {
                            current: Some(current),
                            ..limit
                        },
                    )
                    .unwrap();
                };
                set(u64::try_from(next).unwrap() + 3);
                let mut accepted = Vec::new();
                for _ in 0..3 {
                    accepted.push(listener.accept().await.unwrap());
                }
                let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                with_deadline(now() + Duration::from_millis(300), listener.accept())
                    .await
                    .unwrap_err();
                let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime) - cpu;
                assert!(spent.tv_sec == 0 && spent.tv_nsec < 200_000_000, "it spins");

                accepted.pop();
                accepted.push(listener.accept().await.unwrap());
                set(limit.current.unwrap());
                while accepted.len() < clients.len() - 1 {
                    accepted.push(listener.accept().await.unwrap());
                }
            });
        },
    );
}

#[test]
fn shards_share_a_port() {
    let address = {
        // Held until every shard is bound, so that nobody else takes the port.
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        first.local_addr().unwrap()
    };
    let (accepted, mut counts) = runtime::mailbox(1000);
    let (ready, mut bound) = runtime::mailbox(2);
    let shards = runtime::start_shards(
        ShardsConfig {
            count: NonZeroUsize::new(2),
        },
        move |shard| {
            let (accepted, ready) = (accepted.clone(), ready.clone());
            async move {
                let mut listener = Listener::bind(&ListenAddress::Tcp(address)).unwrap();
                ready.try_send(()).unwrap();
                while let Ok(stream) = with_deadline(soon(), listener.accept()).await {
                    let mut stream = stream.unwrap();
                    let Some(byte) = stream.recv(soon()).await.unwrap() else {
                        break;
                    };
                    accepted.try_send(shard.0).unwrap();
                    stream.append(&byte);
                    stream.flush(soon()).await.unwrap();
                }
            }
        },
    )
    .unwrap();
    for _ in 0..2 {
        crate::mailbox::block_on(bound.recv()).unwrap();
    }
    let connect = || TcpStream::connect(address).unwrap();
    for _ in 0..200 {
        let mut client = connect();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let mut per_shard = [0, 0];
    while let Some(shard) = counts.try_recv() {
        per_shard[usize::from(shard)] += 1;
    }
    assert_eq!(per_shard[0] + per_shard[1], 200);
    assert!(per_shard[0] > 20 && per_shard[1] > 20, "{per_shard:?}");
    // An empty connection ends the shard that gets it; when one listener is gone the kernel gives
    // every connection to the other.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_ok() {
        assert!(std::time::Instant::now() < deadline);
    }
    shards.join().unwrap();
}

#[test]
fn shards_share_a_unix_socket_by_duplicates() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = Arc::new(listen_socket(&ListenAddress::Unix(path.clone())).unwrap());
    let shards = runtime::start_shards(
        ShardsConfig {
            count: NonZeroUsize::new(2),
        },
        move |_| {
            let socket = socket.try_clone().unwrap();
            async move {
                let mut listener = Listener::from_fd(socket).unwrap();
                let mut stream = listener.accept().await.unwrap();
                drop(listener);
                stream.append(b"served");
                stream.flush(soon()).await.unwrap();
            }
        },
    )
    .unwrap();
    // One connection for each shard: the first shard to serve ends.
    for _ in 0..2 {
        let mut text = String::new();
        UnixStream::connect(&path)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "served");
    }
    shards.join().unwrap();
}

/// As at a restart: what was taken from the queue is served, and what comes later stays in it.
#[test]
fn a_stopped_listener_gives_what_it_has_taken_and_takes_no_more() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let for_shard = Arc::new(socket.try_clone().unwrap());
    let (stopped, mut said) = runtime::mailbox(1);
    let (go_on, gone_on) = runtime::mailbox::<()>(1);
    let gone_on = Arc::new(Mutex::new(Some(gone_on)));
    let before: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let shards = runtime::start_shards(
        ShardsConfig {
            count: NonZeroUsize::new(1),
        },
        move |_| {
            let socket = for_shard.try_clone().unwrap().into();
            let stopped = stopped.clone();
            let mut gone_on = gone_on.lock().unwrap().take().unwrap();
            async move {
                let mut listener = Listener::from_fd(socket).unwrap();
                // By the time that the first is accepted the kernel has handed over all of them.
                let mut accepted = vec![listener.accept().await.unwrap()];
                listener.stop();
                stopped.try_send(()).unwrap();
                gone_on.recv().await.unwrap();
                while let Ok(stream) = listener.accept().await {
                    accepted.push(stream);
                }
                drop(listener);
                for stream in &mut accepted {
                    stream.append(b"served");
                    stream.flush(soon()).await.unwrap();
                }
            }
        },
    )
    .unwrap();
    crate::mailbox::block_on(said.recv()).unwrap();
    let _late = TcpStream::connect(address).unwrap();
    go_on.try_send(()).unwrap();
    shards.join().unwrap();
    for mut stream in before {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "served");
    }
    // Nobody has taken it: it is the first in the queue of who else has the socket.
    socket.set_nonblocking(true).unwrap();
    socket.accept().unwrap();
}

#[test]
fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = ListenAddress::Unix(path.clone());
    drop(UnixListener::bind(&path).unwrap());
    let live = listen_socket(&address).unwrap();
    let error = listen_socket(&address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(live);
    listen_socket(&address).unwrap();
}

#[test]
fn a_file_in_the_place_of_a_unix_socket_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    let error = listen_socket(&ListenAddress::Unix(path.clone())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn connecting_to_a_full_unix_listener_ends_at_the_deadline() {
    on_a_shard(|| async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket
            .bind(&socket2::SockAddr::unix(&path).unwrap())
            .unwrap();
        socket.listen(0).unwrap();
        let _first = Stream::connect_unix(&path, soon()).await.unwrap();
        let deadline = now() + Duration::from_millis(30);
        let error = Stream::connect_unix(&path, deadline).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(now() >= deadline);
    });
}
