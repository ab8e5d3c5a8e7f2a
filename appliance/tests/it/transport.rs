//! TLS over real sockets, both ends ours: handshakes, back-pressure, ends.

use std::cell::RefCell;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use appliance::upstream::{Roots, Tls, TlsMode};
use runtime::transport::{HANDSHAKE_BYTES_MAX, HandshakeError, Opening, Transport};
use runtime::{ListenAddress, Listener, Stream, Timer};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, ServerConfig};

use crate::certificates::Authority;
use crate::shard::on_shard;

const PATIENCE: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    runtime::now() + PATIENCE
}

struct Ends {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Ends {
    fn new() -> Self {
        let authority = Authority::new("test");
        let certified = authority.server(&["localhost"]);
        let chain = CertificateDer::pem_slice_iter(certified.chain_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(certified.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
            .unwrap();
        server.alpn_protocols = vec![b"postgresql".to_vec()];
        let roots = Roots::from_pem(authority.certificate_pem.as_bytes()).unwrap();
        let tls = Tls::new(TlsMode::VerifyFull, &roots, None).unwrap();
        Self {
            server: Arc::new(server),
            client: tls.client().unwrap().clone(),
        }
    }

    /// A client that offers these protocols.
    fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut client = ClientConfig::clone(&self.client);
        client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(client)
    }
}

async fn streams() -> (Stream, Stream) {
    let address = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let mut listener = Listener::bind(&address).unwrap();
    let ListenAddress::Tcp(address) = listener.local_address().clone() else {
        panic!()
    };
    let client = Stream::connect(&address, soon()).await.unwrap();
    (listener.accept().await.unwrap(), client)
}

/// Runs the two at once.
async fn both<A: 'static, B>(
    one: impl Future<Output = A> + 'static,
    other: impl Future<Output = B>,
) -> (A, B) {
    let result = Rc::new(RefCell::new(None));
    let place = result.clone();
    runtime::spawn(async move {
        let value = one.await;
        *place.borrow_mut() = Some(value);
    });
    let other = other.await;
    let deadline = soon();
    while result.borrow().is_none() {
        assert!(runtime::now() < deadline);
        Timer::at(runtime::now() + Duration::from_millis(1))
            .expired()
            .await;
    }
    let one = result.take().unwrap();
    (one, other)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

const REQUESTED: Opening = Opening::Requested { unread: 0 };

async fn established(ends: &Ends) -> (Transport, Transport) {
    let (server, client) = streams().await;
    let (server, client) = both(
        Transport::accept_tls(server, ends.server.clone(), REQUESTED, soon(), async || ()),
        Transport::connect_tls(client, ends.client.clone(), name(), soon()),
    )
    .await;
    (server.unwrap(), client.unwrap())
}

async fn read_all(transport: &mut Transport) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    loop {
        match transport.recv(soon()).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, None),
            Err(error) => return (bytes, Some(error.kind())),
        }
    }
}

#[test]
fn megabytes_cross_in_both_directions_and_the_queue_is_counted() {
    let ends = Ends::new();
    on_shard(async move || {
        let (mut server, mut client) = established(&ends).await;
        assert_eq!(client.alpn(), Some(&b"postgresql"[..]));
        assert_eq!(client.peer_certificates().len(), 1);
        let sent: Vec<u8> = (0..5_000_000_u32)
            .map(|number| number.to_le_bytes()[1])
            .collect();
        for part in sent.chunks(70_001) {
            client.append(part);
            server.append(part);
        }
        assert_eq!(client.queued_bytes(), sent.len());
        let finish = |mut transport: Transport| async move {
            transport.close_send();
            // Reading and sending at once, as the relay does: neither end waits for the other.
            let mut received = Vec::new();
            loop {
                let step = std::future::poll_fn(|cx| {
                    let flushed = transport.poll_flush(cx);
                    assert!(!matches!(flushed, std::task::Poll::Ready(Err(_))));
                    transport.poll_recv(cx)
                });
                match step.await.unwrap() {
                    Some(chunk) => received.extend_from_slice(&chunk),
                    None => break,
                }
            }
            transport.flush(soon()).await.unwrap();
            assert_eq!(transport.queued_bytes(), 0);
            received
        };
        let (at_server, at_client) = both(finish(server), finish(client)).await;
        assert!(at_server == sent && at_client == sent);
    });
}

#[test]
fn a_slow_reader_costs_ciphertext_of_a_few_records() {
    let ends = Ends::new();
    on_shard(async move || {
        let (server, mut client) = established(&ends).await;
        let sent = vec![7; 32 << 20];
        client.append(&sent);
        let blocked = client
            .flush(runtime::now() + Duration::from_millis(200))
            .await;
        assert_eq!(blocked.unwrap_err().kind(), ErrorKind::TimedOut);
        let queued = client.queued_bytes();
        assert!(
            queued > 16 << 20,
            "the kernel took {} bytes",
            sent.len() - queued
        );
        drop(server);
    });
}

#[test]
fn small_messages_share_a_record() {
    let ends = Ends::new();
    on_shard(async move || {
        let (mut server, mut client) = established(&ends).await;
        for _ in 0..1000 {
            client.append(b"0123456789");
        }
        client.flush(soon()).await.unwrap();
        let chunk = server.recv(soon()).await.unwrap().unwrap();
        assert_eq!(chunk.len(), 10_000);
    });
}

#[test]
fn an_end_without_a_goodbye_is_an_error_from_servers_only() {
    let ends = Ends::new();
    on_shard(async move || {
        let (mut server, mut client) = established(&ends).await;
        // An end with something unread would be a reset.
        server.append(b"an answer");
        server.flush(soon()).await.unwrap();
        assert_eq!(&*client.recv(soon()).await.unwrap().unwrap(), b"an answer");
        drop(client);
        assert_eq!(read_all(&mut server).await, (vec![], None));

        let (mut server, mut client) = established(&ends).await;
        server.append(b"half of an ans");
        server.flush(soon()).await.unwrap();
        drop(server);
        let expected = (b"half of an ans".to_vec(), Some(ErrorKind::UnexpectedEof));
        assert_eq!(read_all(&mut client).await, expected);
        assert_eq!(
            client.recv(soon()).await.unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );

        let (mut server, mut client) = established(&ends).await;
        server.append(b"an answer");
        server.close_send();
        server.flush(soon()).await.unwrap();
        assert_eq!(read_all(&mut client).await, (b"an answer".to_vec(), None));
        assert!(client.recv(soon()).await.unwrap().is_none());
    });
}

#[test]
fn bytes_that_came_with_the_request_are_refused() {
    let ends = Ends::new();
    on_shard(async move || {
        let (server, _client) = streams().await;
        let opening = Opening::Requested { unread: 1 };
        let refused =
            Transport::accept_tls(server, ends.server.clone(), opening, soon(), async || ()).await;
        assert_eq!(refused.err(), Some(HandshakeError::EarlyBytes { count: 1 }));
    });
}

#[test]
fn direct_tls_has_to_name_its_protocol() {
    let ends = Ends::new();
    type Failure = Option<HandshakeError>;
    let cases: [(&[&[u8]], Failure, Failure); 3] = [
        (&[b"postgresql"], None, None),
        (&[], Some(HandshakeError::NoProtocol), None),
        (
            &[b"http/1.1"],
            Some(HandshakeError::NoProtocol),
            Some(HandshakeError::Alert {
                alert: AlertDescription::NoApplicationProtocol,
            }),
        ),
    ];
    on_shard(async move || {
        for (protocols, at_server, at_client) in cases {
            let (mut server, client) = streams().await;
            let config = ends.server.clone();
            let accept = async move {
                let preread = server.recv(soon()).await.unwrap().unwrap();
                let opening = Opening::Direct { preread };
                Transport::accept_tls(server, config, opening, soon(), async || ()).await
            };
            let connect = Transport::connect_tls(client, ends.client(protocols), name(), soon());
            let (server, client) = both(accept, connect).await;
            assert_eq!(server.err(), at_server, "{protocols:?}");
            assert_eq!(client.err(), at_client, "{protocols:?}");
        }
    });
}

#[test]
fn requested_tls_need_not_name_a_protocol() {
    let ends = Ends::new();
    on_shard(async move || {
        let (server, client) = streams().await;
        let (server, client) = both(
            Transport::accept_tls(server, ends.server.clone(), REQUESTED, soon(), async || ()),
            Transport::connect_tls(client, ends.client(&[]), name(), soon()),
        )
        .await;
        assert!(server.is_ok() && client.is_ok());
    });
}

#[test]
fn silent_and_speechless_clients_get_no_session() {
    let ends = Ends::new();
    on_shard(async move || {
        let (server, _silent) = streams().await;
        let deadline = runtime::now() + Duration::from_millis(50);
        let refused = Transport::accept_tls(
            server,
            ends.server.clone(),
            REQUESTED,
            deadline,
            async || (),
        )
        .await;
        assert_eq!(refused.err(), Some(HandshakeError::TimedOut));

        let (server, client) = streams().await;
        drop(client);
        let refused =
            Transport::accept_tls(server, ends.server.clone(), REQUESTED, soon(), async || ())
                .await;
        assert_eq!(refused.err(), Some(HandshakeError::Ended));

        let (server, mut client) = streams().await;
        client.append(b"\0\0\0\x08\x04\xd2\x16\x2f");
        client.flush(soon()).await.unwrap();
        let refused =
            Transport::accept_tls(server, ends.server.clone(), REQUESTED, soon(), async || ())
                .await;
        assert_eq!(refused.err(), Some(HandshakeError::NotAcceptable));
    });
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let ends = Ends::new();
    on_shard(async move || {
        let (server, mut client) = streams().await;
        // A ClientHello of 65,535 bytes, one byte a record: each record is legal.
        let record = |byte: u8| [0x16, 3, 1, 0, 1, byte];
        let hello = [1, 0, 0xff, 0xff]
            .into_iter()
            .chain(std::iter::repeat_n(0, 10_000));
        let sent: Vec<u8> = hello.flat_map(record).collect();
        assert!(sent.len() > HANDSHAKE_BYTES_MAX);
        client.append(&sent);
        let accept =
            Transport::accept_tls(server, ends.server.clone(), REQUESTED, soon(), async || ());
        let (_, refused) = both(async move { drop(client.flush(soon()).await) }, accept).await;
        let limit = HANDSHAKE_BYTES_MAX;
        assert_eq!(refused.err(), Some(HandshakeError::TooLong { limit }));
    });
}

#[test]
fn what_is_not_tls_after_the_handshake_is_an_error() {
    let ends = Ends::new();
    on_shard(async move || {
        let address = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let mut listener = Listener::bind(&address).unwrap();
        let ListenAddress::Tcp(address) = listener.local_address().clone() else {
            panic!()
        };
        let config = ends.client.clone();
        std::thread::spawn(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            let mut session = ClientConnection::new(config, name()).unwrap();
            while session.is_handshaking() {
                session.complete_io(&mut socket).unwrap();
            }
            socket.write_all(b"Q\0\0\0\x0dselect 1\0").unwrap();
            // The answer is an alert and the end.
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let server = listener.accept().await.unwrap();
        let accepted =
            Transport::accept_tls(server, ends.server.clone(), REQUESTED, soon(), async || ())
                .await;
        let read = read_all(&mut accepted.unwrap()).await;
        assert_eq!(read, (vec![], Some(ErrorKind::InvalidData)));
    });
}
