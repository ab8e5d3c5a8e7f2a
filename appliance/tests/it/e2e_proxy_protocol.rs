//! Behind a load balancer: HAProxy in front with stock clients, and headers that are none.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use tempfile::TempDir;

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::postgres::{Server, binary, free_port};
use crate::wire::{PROTOCOL_3_0, SSL_REQUEST, Wire, error, startup_packet, terminated, untyped};

/// Where HAProxy calls from, and the only sender that the listener trusts.
const SENDER: [u8; 4] = [127, 0, 0, 77];

const STARTUP: [(&str, &str); 2] = [("user", "agent"), ("database", "orders")];

/// A header for a client of IPv4.
fn header(client: [u8; 4], port: u16) -> Vec<u8> {
    let mut addresses = [client, [192, 0, 2, 1]].concat();
    addresses.extend(port.to_be_bytes());
    addresses.extend(6432u16.to_be_bytes());
    raw_header(0x21, 0x11, &addresses)
}

fn raw_header(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([version_command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

/// An appliance with one more listener, which trusts [`SENDER`].
struct World {
    _server: Server,
    appliance: Appliance,
    address: SocketAddr,
}

impl World {
    fn new(tables: &str) -> Self {
        let server = orders_server();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut setup = Setup::for_server(&server);
        setup.tables = tables.into();
        setup.listeners = vec![format!(
            "{{ address = \"{address}\", proxy_protocol = [\"198.51.100.0/24\", \"127.0.0.77\"] }}"
        )];
        let appliance = Appliance::start(&setup);
        Self {
            _server: server,
            appliance,
            address,
        }
    }

    fn sender(&self) -> Wire {
        Wire::open_from(SENDER, self.address)
    }

    /// Peers of all sessions, oldest first.
    fn peers(&self) -> Vec<String> {
        let mut sessions = self.appliance.sessions();
        sessions.sort_by_key(|session| session["started"].to_string());
        let peer = |session: &Value| session["peer"].as_str().unwrap().to_owned();
        sessions.iter().map(peer).collect()
    }
}

/// A running HAProxy with one backend.
pub struct HaProxy {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl HaProxy {
    /// `server` is what follows `server one` in its configuration.
    pub fn start(defaults: &str, server: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sallyport-haproxy.")
            .tempdir()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let path = directory.path().join("haproxy.cfg");
        let configuration = format!(
            "global
    maxconn 200
    stats socket {}/stats mode 600 level operator
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {defaults}
listen sallyport
    bind {address}
    server one {server}
",
            directory.path().display()
        );
        fs::write(&path, configuration).unwrap();
        let child = spawn_guarded(&path);
        let proxy = Self {
            child,
            address,
            directory,
        };
        wait_until("HAProxy", || TcpStream::connect(address).is_ok());
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its health check of the backend came to last.
    fn check_status(&self) -> String {
        let mut stats = UnixStream::connect(self.directory.path().join("stats")).unwrap();
        stats.write_all(b"show stat\n").unwrap();
        let mut text = String::new();
        stats.read_to_string(&mut text).unwrap();
        let mut lines = text.lines();
        let names = lines.next().unwrap().trim_start_matches("# ").split(',');
        let column = names.into_iter().position(|name| name == "check_status");
        let server = lines.find(|line| line.starts_with("sallyport,one,"));
        let server = server.unwrap_or_else(|| panic!("{text}"));
        server.split(',').nth(column.unwrap()).unwrap().to_owned()
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Started on a thread that lives as long as it does: the kernel ends it with that thread.
fn spawn_guarded(configuration: &Path) -> Child {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "haproxy", "-db", "-f"])
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let (sender, child) = mpsc::channel();
    std::thread::spawn(move || {
        let mut child = command.spawn().expect("haproxy: run .ci/prepare test");
        let stderr = child.stderr.take().unwrap();
        sender.send(child).unwrap();
        BufReader::new(stderr).lines().map_while(Result::ok).last()
    });
    child.recv().unwrap()
}

fn behind_haproxy(world: &World) -> HaProxy {
    let server = format!("{} source 127.0.0.77 send-proxy-v2", world.address);
    HaProxy::start("", &server)
}

/// Runs `select count(*)` by psql at an address.
fn psql(appliance: &Appliance, address: SocketAddr, sslmode: &str) -> Output {
    Command::new(binary("psql"))
        .args(["-X", "-A", "-t", "-c", "select count(*) from orders"])
        .envs([("PGHOST", "localhost"), ("PGHOSTADDR", "127.0.0.1")])
        .envs([("PGUSER", "claude"), ("PGDATABASE", "orders")])
        .env("PGPORT", address.port().to_string())
        .env("PGPASSWORD", appliance.token("claude", "analysts"))
        .env("PGSSLMODE", sslmode)
        .env("PGSSLROOTCERT", appliance.certificate_path())
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn psql_behind_haproxy_is_recorded_with_its_own_address() {
    let world = World::new("");
    let haproxy = behind_haproxy(&world);
    for sslmode in ["verify-full", "disable"] {
        let output = psql(&world.appliance, haproxy.address, sslmode);
        assert_eq!(printed(&output), "1000\n", "{sslmode}");
    }
    let peers = world.peers();
    assert_eq!(peers.len(), 2, "{peers:?}");
    for peer in &peers {
        assert!(peer.starts_with("127.0.0.1:"), "not HAProxy's: {peers:?}");
    }
    let log = world.appliance.log();
    assert!(log.contains(" through 127.0.0.77:"), "{log}");
}

#[test]
fn haproxy_without_the_header_is_refused_and_so_is_its_text_form() {
    let world = World::new("");
    for kind in ["", "send-proxy"] {
        let server = format!("{} source 127.0.0.77 {kind}", world.address);
        let haproxy = HaProxy::start("", &server);
        let output = psql(&world.appliance, haproxy.address, "verify-full");
        assert!(!output.status.success(), "{kind:?}: {output:?}");
    }
    assert_eq!(world.peers(), Vec::<String>::new());
    let log = world.appliance.log();
    assert!(log.contains("no PROXY header of version 2"), "{log}");
}

#[test]
fn haproxys_own_health_checks_are_answered() {
    let world = World::new("");
    // Without a client to speak for it sends the command LOCAL, and then a start-up packet.
    // A check that a busy machine answers late (after `inter`) does not take the server out.
    let server = format!(
        "{} source 127.0.0.77 send-proxy-v2 check inter 100ms fall 1000",
        world.address
    );
    let haproxy = HaProxy::start("option pgsql-check user health", &server);
    wait_until("a check", || haproxy.check_status() == "L7OK");
    let output = psql(&world.appliance, haproxy.address, "verify-full");
    assert_eq!(printed(&output), "1000\n");
}

#[test]
fn a_header_from_anybody_else_is_refused_and_without_one_they_connect_as_ever() {
    let world = World::new("");
    let proxied = [
        header([127, 0, 0, 1], 51_000),
        startup_packet(PROTOCOL_3_0, &STARTUP),
    ]
    .concat();
    let plain = world.appliance.address();
    for (address, from) in [
        (world.address, [127, 0, 0, 1]),
        (world.address, [127, 0, 0, 78]),
        (plain, SENDER),
        (plain, [127, 0, 0, 1]),
    ] {
        let mut wire = Wire::open_from(from, address);
        wire.send_raw(&proxied);
        assert_eq!(wire.until_closed_raw(), b"", "{from:?} to {address}");
    }
    let token = world.appliance.token("claude", "analysts");
    let mut wire = Wire::login(world.address, "agent", "orders", &token);
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn what_is_no_header_ends_a_trusted_senders_connection_without_an_answer() {
    let world = World::new("[limits]\nlogin_deadline = \"1s\"\n");
    let startup = startup_packet(PROTOCOL_3_0, &STARTUP);
    let good = header([203, 0, 113, 9], 51_000);
    let wrong: [(&str, Vec<u8>); 10] = [
        ("silence", Vec::new()),
        ("a start-up packet", startup.clone()),
        ("a request for TLS", untyped(&SSL_REQUEST.to_be_bytes())),
        (
            "version 1",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 51000 6432\r\n".to_vec(),
        ),
        ("half a header", good[..20].to_vec()),
        (
            "a header in front of a header",
            raw_header(0x31, 0x11, &good[16..]),
        ),
        ("a datagram's", raw_header(0x21, 0x12, &good[16..])),
        (
            "too short for its family",
            raw_header(0x21, 0x21, &good[16..]),
        ),
        ("too long", raw_header(0x21, 0x11, &[0; 5000])),
        (
            "a TLV that does not end",
            raw_header(0x21, 0x11, &[&good[16..], &[4, 255, 255]].concat()),
        ),
    ];
    for (kind, bytes) in wrong {
        let mut wire = world.sender();
        wire.send_raw(&bytes);
        if kind == "half a header" || kind == "silence" {
            // Nothing more comes; the deadline of the login ends it.
            assert_eq!(wire.until_closed_raw(), b"", "{kind}");
            continue;
        }
        wire.send_raw(&startup);
        assert_eq!(wire.until_closed_raw(), b"", "{kind}");
    }
    // Twice: the second is not PostgreSQL.
    let mut wire = world.sender();
    wire.send_raw(&[&good[..], &good, &startup].concat());
    assert_eq!(wire.until_closed_raw(), b"");
    assert_eq!(world.peers(), Vec::<String>::new());
}

#[test]
fn a_header_is_read_however_it_is_cut() {
    let world = World::new("");
    let token = world.appliance.token("claude", "analysts");
    let bytes = [
        &header([127, 0, 0, 9], 51_000)[..],
        &startup_packet(PROTOCOL_3_0, &STARTUP),
    ]
    .concat();
    for cut in 1..bytes.len() {
        let mut wire = world.sender();
        wire.send_raw(&bytes[..cut]);
        wire.send_raw(&bytes[cut..]);
        assert_eq!(wire.receive().unwrap().tag, 'R', "cut at {cut}");
    }
    let mut wire = world.sender();
    for byte in &bytes {
        wire.send_raw(&[*byte]);
    }
    assert_eq!(wire.receive().unwrap().tag, 'R');
    wire.send('p', &terminated(&token));
    wire.until_ready();
    assert_eq!(world.peers(), ["127.0.0.9:51000"]);
}

#[test]
fn a_token_is_asked_for_in_clear_text_only_when_the_client_is_local_too() {
    let world = World::new("");
    let loopback_client = header([127, 0, 0, 1], 51_000);
    let far_client = header([203, 0, 113, 9], 51_000);
    let unknown_client = raw_header(0x21, 0x00, &[]);
    let local_check = raw_header(0x20, 0x00, &[]);
    for (header, asked) in [
        (&loopback_client, true),
        (&local_check, true),
        (&far_client, false),
        (&unknown_client, false),
    ] {
        let mut wire = world.sender();
        wire.send_raw(header);
        wire.send_startup(PROTOCOL_3_0, &STARTUP);
        if asked {
            assert_eq!(wire.receive().unwrap().tag, 'R', "{header:?}");
        } else {
            let messages = wire.until_closed();
            assert!(
                messages.iter().all(|m| m.tag != 'R'),
                "{header:?}: {messages:?}"
            );
            assert_eq!(error(&messages).sqlstate(), "28000", "{header:?}");
        }
    }
    // The same client by TLS is let in, and named in the record.
    let mut stream = socket_from_sender(world.address);
    stream.write_all(&far_client).unwrap();
    stream
        .write_all(&untyped(&SSL_REQUEST.to_be_bytes()))
        .unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    let mut tls = crate::e2e_listeners::tls_over(stream, &world.appliance, &[]);
    tls.write_all(&startup_packet(PROTOCOL_3_0, &STARTUP))
        .unwrap();
    let mut asked = [0; 9];
    tls.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"R\0\0\0\x08\0\0\0\x03");
    let token = world.appliance.token("claude", "analysts");
    tls.write_all(&crate::wire::message('p', &terminated(&token)))
        .unwrap();
    let mut admitted = [0; 9];
    tls.read_exact(&mut admitted).unwrap();
    assert_eq!(&admitted, b"R\0\0\0\x08\0\0\0\0");
    wait_until("the session", || world.peers() == ["203.0.113.9:51000"]);
}

fn socket_from_sender(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((SENDER, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

#[test]
fn tls_from_the_first_byte_follows_a_header() {
    let world = World::new("");
    let mut stream = socket_from_sender(world.address);
    stream.write_all(&header([203, 0, 113, 9], 51_000)).unwrap();
    let mut tls = crate::e2e_listeners::tls_over(stream, &world.appliance, &[b"postgresql"]);
    tls.write_all(&startup_packet(PROTOCOL_3_0, &STARTUP))
        .unwrap();
    let mut asked = [0; 9];
    tls.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"R\0\0\0\x08\0\0\0\x03");
}

#[test]
fn one_client_behind_a_load_balancer_can_not_take_the_places_of_the_others() {
    let world = World::new("[limits]\nunauthenticated_per_address = 2\n");
    let token = world.appliance.token("claude", "analysts");
    let greedy = header([127, 0, 0, 9], 51_000);
    // The shards count for themselves: of five by two shards, at least one is too many.
    let mut wires: Vec<Wire> = (0..5).map(|_| world.sender()).collect();
    for wire in &mut wires {
        wire.send_raw(&greedy);
        wire.send_startup(PROTOCOL_3_0, &STARTUP);
    }
    let answers = wires.iter_mut().map(|wire| wire.receive().is_ok());
    let answered = answers.filter(|answered| *answered).count();
    assert!((2..=4).contains(&answered), "{answered}");
    for last in 10..20 {
        let mut wire = world.sender();
        wire.send_raw(&header([127, 0, 0, last], 51_000));
        let mut wire = wire.authenticate(&STARTUP, &token).unwrap();
        assert_eq!(wire.value("select 1"), "1");
    }
    drop(wires);
}

#[test]
fn a_cancel_finds_its_session_through_haproxy() {
    let world = World::new("");
    let haproxy = behind_haproxy(&world);
    let token = world.appliance.token("claude", "analysts");
    let mut wire = Wire::login(haproxy.address, "agent", "orders", &token);
    wire.send('Q', b"select pg_sleep(600)\0");
    let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the statement to run", || {
        world._server.psql(sleeping) == "1"
    });
    Wire::open(haproxy.address).send_raw(&wire.cancel_packet());
    assert_eq!(error(&wire.until_ready()).sqlstate(), "57014");
}

#[test]
fn a_unix_socket_can_be_a_load_balancers() {
    let server = orders_server();
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("behind.sock");
    let mut setup = Setup::for_server(&server);
    setup.listeners = vec![format!(
        "{{ address = \"unix:{}\", proxy_protocol = [\"unix\"] }}",
        path.display()
    )];
    let appliance = Appliance::start(&setup);
    let haproxy = HaProxy::start("", &format!("unix@{} send-proxy-v2", path.display()));
    let output = psql(&appliance, haproxy.address, "verify-full");
    assert_eq!(printed(&output), "1000\n");
    let sessions = appliance.sessions();
    let peer = sessions[0]["peer"].as_str().unwrap();
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    let without = HaProxy::start("", &format!("unix@{}", path.display()));
    let output = psql(&appliance, without.address, "verify-full");
    assert!(!output.status.success(), "{output:?}");
}
