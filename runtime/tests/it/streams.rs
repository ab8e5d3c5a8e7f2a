//! Streams and listeners, between two ends of this process.

use std::io::ErrorKind;
use std::time::Duration;

use runtime::{ListenAddress, Listener, PeerAddress, Stream};

use crate::{on_a_shard, recv_up_to, soon, tcp_address, tcp_pair};

async fn echo(mut stream: Stream) {
    while let Some(chunk) = stream.recv(soon()).await.unwrap() {
        let all = 0..chunk.len();
        stream.append_chunk(&chunk, all);
        stream.flush(soon()).await.unwrap();
    }
    stream.close_send();
}

async fn check_echo(mut listener: Listener, mut client: Stream) {
    let server = listener.accept().await.unwrap();
    runtime::spawn(echo(server));
    client.append(b"hello ");
    client.append(b"there");
    assert_eq!(client.queued_bytes(), 11);
    client.flush(soon()).await.unwrap();
    assert_eq!(client.queued_bytes(), 0);
    assert_eq!(recv_up_to(&mut client, 11).await, b"hello there");
    client.close_send();
    assert!(client.recv(soon()).await.unwrap().is_none());
    assert!(client.recv(soon()).await.unwrap().is_none());
}

fn check_tcp_echo(listen: &'static str, connect: &'static str) {
    on_a_shard(move || async move {
        let listener = Listener::bind(&ListenAddress::Tcp(listen.parse().unwrap())).unwrap();
        let mut address = tcp_address(&listener);
        address.set_ip(connect.parse().unwrap());
        let client = Stream::connect(&address, soon()).await.unwrap();
        assert_eq!(client.peer_address(), PeerAddress::Tcp(address));
        assert!(client.is_loopback_or_unix());
        check_echo(listener, client).await;
    });
}

#[test]
fn bytes_come_back_over_ipv4() {
    check_tcp_echo("127.0.0.1:0", "127.0.0.1");
}

#[test]
fn bytes_come_back_over_ipv6() {
    check_tcp_echo("[::1]:0", "::1");
}

#[test]
fn an_unspecified_ipv6_listener_accepts_ipv4() {
    check_tcp_echo("[::]:0", "127.0.0.1");
}

#[test]
fn an_ipv4_peer_of_an_ipv6_listener_is_loopback() {
    on_a_shard(|| async {
        let mut listener = Listener::bind(&ListenAddress::Tcp("[::]:0".parse().unwrap())).unwrap();
        let mut address = tcp_address(&listener);
        address.set_ip("127.0.0.1".parse().unwrap());
        let client = Stream::connect(&address, soon()).await.unwrap();
        let server = listener.accept().await.unwrap();
        let local = client.local_address().unwrap();
        assert_eq!(server.peer_address(), PeerAddress::Tcp(local));
        assert!(server.is_loopback_or_unix());
    });
}

#[test]
fn bytes_come_back_over_a_unix_socket() {
    on_a_shard(|| async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let address = ListenAddress::Unix(path.clone());
        let listener = Listener::bind(&address).unwrap();
        assert_eq!(listener.local_address(), &address);
        let client = Stream::connect_unix(&path, soon()).await.unwrap();
        assert_eq!(client.peer_address(), PeerAddress::Unix);
        assert!(client.is_loopback_or_unix());
        check_echo(listener, client).await;
    });
}

#[test]
fn connecting_where_nobody_listens_is_refused() {
    on_a_shard(|| async {
        let address = {
            let listener = Listener::bind(&crate::loopback()).unwrap();
            tcp_address(&listener)
        };
        let error = Stream::connect(&address, soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn after_half_close_the_other_direction_still_works() {
    on_a_shard(|| async {
        let (mut here, mut there) = tcp_pair().await;
        here.append(b"last words");
        here.close_send();
        here.flush(soon()).await.unwrap();
        assert_eq!(recv_up_to(&mut there, usize::MAX).await, b"last words");
        there.append(b"answer");
        there.close_send();
        there.flush(soon()).await.unwrap();
        assert_eq!(recv_up_to(&mut here, usize::MAX).await, b"answer");
    });
}

#[test]
fn a_reader_that_waits_holds_the_sender_back() {
    on_a_shard(|| async {
        let (mut here, mut there) = tcp_pair().await;
        let bytes = vec![7; 64 * 1024];
        let mut sent = 0;
        loop {
            here.append(&bytes);
            sent += bytes.len();
            let soon = runtime::now() + Duration::from_millis(50);
            if here.flush(soon).await.is_err() {
                break;
            }
            assert!(sent < 100 * 1024 * 1024, "the kernel takes everything");
        }
        let waiting = here.queued_bytes();
        assert!(waiting > 0 && waiting <= bytes.len());
        runtime::spawn(async move {
            here.close_send();
            here.flush(soon()).await.unwrap();
            assert_eq!(here.queued_bytes(), 0);
        });
        assert_eq!(recv_up_to(&mut there, usize::MAX).await.len(), sent);
    });
}

#[test]
fn a_reset_in_mid_send_ends_both_directions_and_frees_the_queue() {
    on_a_shard(|| async {
        let (mut here, mut there) = tcp_pair().await;
        here.append(&vec![7; 32 * 1024 * 1024]);
        assert_eq!(
            here.flush(runtime::now() + Duration::from_millis(20))
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::TimedOut
        );
        assert!(there.recv(soon()).await.unwrap().is_some());
        there.abort();
        for _ in 0..2 {
            let error = here.flush(soon()).await.unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{error:?}"
            );
            assert_eq!(here.queued_bytes(), 0);
        }
        here.append(b"more");
        assert_eq!(here.queued_bytes(), 0);
    });
}

#[test]
fn an_aborted_stream_resets_its_peer() {
    on_a_shard(|| async {
        let (here, mut there) = tcp_pair().await;
        here.abort();
        let error = there.recv(soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn bytes_appended_after_the_end_are_an_error() {
    on_a_shard(|| async {
        let (mut here, mut there) = tcp_pair().await;
        here.append(b"first");
        here.close_send();
        here.flush(soon()).await.unwrap();
        here.flush(soon()).await.unwrap();
        here.append(b"second");
        assert_eq!(
            here.flush(soon()).await.unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        assert_eq!(recv_up_to(&mut there, usize::MAX).await, b"first");
    });
}

#[test]
fn an_unanswered_connect_ends_at_its_deadline() {
    on_a_shard(|| async {
        // A listener with a full queue ignores the handshake: 0 means one connection.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut held = Vec::new();
        let error = loop {
            let deadline = runtime::now() + Duration::from_millis(50);
            match Stream::connect(&address, deadline).await {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 10);
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn keepalive_is_set_on_tcp_and_harmless_on_unix() {
    on_a_shard(|| async {
        let keepalive = runtime::Keepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            probes: 3,
        };
        let (here, _there) = tcp_pair().await;
        here.set_keepalive(&keepalive).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = Listener::bind(&ListenAddress::Unix(path.clone())).unwrap();
        let unix = Stream::connect_unix(&path, soon()).await.unwrap();
        unix.set_keepalive(&keepalive).unwrap();
    });
}

#[test]
fn a_stream_that_is_dropped_while_a_task_waits_for_it_wakes_nobody_wrongly() {
    on_a_shard(|| async {
        for _ in 0..200 {
            let (mut here, mut there) = tcp_pair().await;
            here.recv(runtime::now()).await.unwrap_err();
            there.append(b"late");
            there.flush(soon()).await.unwrap();
            drop(here);
            let (mut next, mut peer) = tcp_pair().await;
            peer.append(b"mine");
            peer.flush(soon()).await.unwrap();
            assert_eq!(recv_up_to(&mut next, 4).await, b"mine");
        }
    });
}
