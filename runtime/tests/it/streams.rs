//! Streams and listeners, between two ends of this process.

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
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
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
