//! Ways in: IPv4 and IPv6, a Unix socket, TLS from the first byte, SASL OAUTHBEARER.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use rustix::process::{getgid, getuid};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::appliance::{Appliance, Setup, orders_server};
use crate::postgres::{binary, free_port};
use crate::wire::{Message, PATIENCE, PROTOCOL_3_0, Wire, startup_packet, terminated};

#[test]
fn one_dual_stack_listener_serves_ipv4_and_ipv6() {
    let server = orders_server();
    let port = free_port();
    let mut setup = Setup::for_server(&server);
    setup.listeners = vec![format!("\"[::]:{port}\"")];
    let appliance = Appliance::start(&setup);
    let token = appliance.token("claude", "analysts");
    for address in [
        SocketAddr::from(([127, 0, 0, 1], port)),
        SocketAddr::from(([0u16, 0, 0, 0, 0, 0, 0, 1], port)),
    ] {
        assert_eq!(
            Wire::login(address, "claude", "orders", &token).value("select 1"),
            "1"
        );
    }
}

#[test]
fn a_unix_socket_takes_a_token_without_tls() {
    let server = orders_server();
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::for_server(&server);
    setup.listeners = vec![format!(
        "\"unix:{}/.s.PGSQL.6432\"",
        folder.path().display()
    )];
    let appliance = Appliance::start(&setup);
    let output = Command::new(binary("psql"))
        .args(["-X", "-A", "-t", "-c", "select count(*) from orders"])
        .env("PGHOST", folder.path())
        .env("PGPORT", "6432")
        .env("PGUSER", "claude")
        .env("PGDATABASE", "orders")
        .env("PGPASSWORD", appliance.token("claude", "analysts"))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1000\n",
        "{output:?}"
    );
}

/// psql in the directory of a Unix socket, as another user if one is given.
fn psql_by_socket(appliance: &Appliance, folder: &Path, user: Option<u32>) -> Output {
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        let user = user.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    }
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(binary("psql"))
        .args(["-X", "-A", "-t", "-c", "select count(*) from orders"])
        .current_dir("/")
        .env("PGHOST", folder)
        .env("PGPORT", "6432")
        .env("PGUSER", "claude")
        .env("PGDATABASE", "orders")
        .env("PGPASSWORD", appliance.token("claude", "analysts"))
        .output()
        .unwrap()
}

const NOBODY: u32 = 65534;

#[test]
fn a_sockets_file_has_the_permissions_that_are_configured() {
    let server = orders_server();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let is_root = getuid().is_root();
    let own_group = getgid().as_raw();
    // A group by name takes root, who alone is in all of them.
    let (group, gid) = if is_root {
        ("nogroup".to_owned(), NOBODY)
    } else {
        (own_group.to_string(), own_group)
    };
    for (keys, mode, group_of_file, strangers_may) in [
        (String::new(), 0o777, own_group, true),
        (", mode = \"0700\"".into(), 0o700, own_group, false),
        (
            format!(", mode = \"0770\", group = \"{group}\""),
            0o770,
            gid,
            true,
        ),
    ] {
        let path = folder.path().join(".s.PGSQL.6432");
        let mut setup = Setup::for_server(&server);
        setup.listeners = vec![format!("{{ address = \"unix:{}\"{keys} }}", path.display())];
        let mut appliance = Appliance::start(&setup);
        let file = fs::metadata(&path).unwrap();
        assert_eq!(file.permissions().mode() & 0o7777, mode, "{keys}");
        assert_eq!(file.gid(), group_of_file, "{keys}");
        let output = psql_by_socket(&appliance, folder.path(), None);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "1000\n",
            "{output:?}"
        );
        if is_root {
            let output = psql_by_socket(&appliance, folder.path(), Some(NOBODY));
            assert_eq!(output.status.success(), strangers_may, "{keys}: {output:?}");
        }
        assert!(appliance.terminate().success());
        assert!(!path.exists(), "an orderly stop leaves no file");
    }
}

#[test]
fn a_socket_left_by_a_killed_appliance_is_replaced_and_one_of_another_stays() {
    let server = orders_server();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".s.PGSQL.6432");
    let mut setup = Setup::for_server(&server);
    setup.listeners = vec![format!("\"unix:{}\"", path.display())];
    let mut appliance = Appliance::start(&setup);
    appliance.kill();
    assert!(path.exists());
    appliance.resume();
    let output = psql_by_socket(&appliance, folder.path(), None);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1000\n",
        "{output:?}"
    );
    // Whoever puts its own there meanwhile keeps it.
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    assert!(appliance.terminate().success());
    assert!(UnixStream::connect(&path).is_ok());
    drop(other);
}

/// Starts a second appliance beside a running one; it must fail, and what it said.
fn fails_beside(appliance: &Appliance, address: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display();
    let configuration = folder.path().join("sallyport.toml");
    fs::write(
        &configuration,
        format!(
            "listen.postgres = [\"127.0.0.1:0\", \"{address}\"]
             runtime.shards = 2
             runtime.directory = \"{root}/run\"
             state.directory = \"{root}/state\"\n"
        ),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .arg("--config")
        .arg(&configuration)
        .arg("serve")
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(appliance.cli(&["status"]).status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_address_that_is_taken_is_named_even_where_the_kernel_would_share_it() {
    let server = orders_server();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agents.sock");
    let mut setup = Setup::for_server(&server);
    setup.listeners = vec![format!("\"unix:{}\"", path.display())];
    let appliance = Appliance::start(&setup);
    for address in [
        appliance.address().to_string(),
        format!("[::]:{}", appliance.address().port()),
    ] {
        let errors = fails_beside(&appliance, &address);
        let expected = format!("cannot listen on {address}: Address already in use");
        assert!(errors.contains(&expected), "{errors}");
    }
    let errors = fails_beside(&appliance, &format!("unix:{}", path.display()));
    let expected = format!(
        "cannot listen on {}: Address already in use",
        path.display()
    );
    assert!(errors.contains(&expected), "{errors}");
    // Not a socket: whatever it is, it is not ours to remove.
    let file = folder.path().join("file");
    fs::write(&file, "kept").unwrap();
    let errors = fails_beside(&appliance, &format!("unix:{}", file.display()));
    assert!(errors.contains("Address already in use"), "{errors}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    let errors = fails_beside(
        &appliance,
        &format!("unix:{}/no/such", folder.path().display()),
    );
    assert!(
        errors.contains("/no/such: No such file or directory"),
        "{errors}"
    );
    assert!(path.exists(), "the running appliance keeps its own");
}

#[test]
fn a_reload_that_changes_listeners_says_that_it_takes_a_restart() {
    let server = orders_server();
    let port = free_port();
    let mut appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    let configuration = appliance.configuration_path();
    let before = fs::read_to_string(&configuration).unwrap();
    let old = appliance.address();
    let new = SocketAddr::from(([127, 0, 0, 1], port));
    let added = before.replace(&format!("\"{old}\""), &format!("\"{old}\", \"{new}\""));
    assert_ne!(added, before);
    fs::write(&configuration, added).unwrap();
    let output = appliance.cli(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("`listen.postgres` has changed and needs a restart"),
        "{output:?}"
    );
    assert!(TcpStream::connect(new).is_err());
    assert_eq!(
        Wire::login(old, "a", "orders", &token).value("select 1"),
        "1"
    );
    assert!(appliance.terminate().success());
    appliance.resume();
    assert_eq!(
        Wire::login(new, "a", "orders", &token).value("select 1"),
        "1"
    );
    assert_eq!(
        Wire::login(old, "a", "orders", &token).value("select 1"),
        "1"
    );
}

#[test]
fn each_listener_asks_for_its_own_proof() {
    let (_server, appliance, by_bearer) = oauthbearer_world();
    let token = appliance.token("claude", "analysts");
    let by_password = appliance.address();
    for (address, kind) in [(by_password, 3), (by_bearer, 10)] {
        let mut wire = Wire::open(address);
        wire.send_startup(PROTOCOL_3_0, &[("user", "a"), ("database", "orders")]);
        let asked = wire.receive().unwrap();
        assert_eq!(asked.body[..4], i32::to_be_bytes(kind), "{address}");
    }
    // A password where SASL was asked for is no claim.
    let mut wire = Wire::open(by_bearer);
    wire.send_startup(PROTOCOL_3_0, &[("user", "a"), ("database", "orders")]);
    wire.receive().unwrap();
    wire.send('p', &terminated(&token));
    wire.send('p', b"\x01");
    let messages = wire.until_closed();
    assert!(!messages.iter().any(|m| m.tag == 'Z'), "{messages:?}");
}

/// Accepts exactly one certificate.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        assert_eq!(*end_entity, self.certificate);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A TLS connection from the first byte.
fn direct_tls(
    appliance: &Appliance,
    protocols: &[&[u8]],
) -> StreamOwned<ClientConnection, TcpStream> {
    let stream = TcpStream::connect(appliance.address()).unwrap();
    tls_over(stream, appliance, protocols)
}

/// A TLS connection over one that the appliance expects it on.
pub fn tls_over(
    stream: TcpStream,
    appliance: &Appliance,
    protocols: &[&[u8]],
) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(ring::default_provider());
    let certificate = CertificateDer::from_pem_file(appliance.certificate_path()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned {
            certificate,
            provider,
        }))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).unwrap(),
        stream,
    )
}

#[test]
fn tls_from_the_first_byte_needs_the_protocols_name() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let startup = startup_packet(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);

    let mut tls = direct_tls(&appliance, &[b"postgresql"]);
    tls.write_all(&startup).unwrap();
    let mut answer = [0; 9];
    tls.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"R\0\0\0\x08\0\0\0\x03", "asks for the token");
    assert_eq!(tls.conn.alpn_protocol(), Some(&b"postgresql"[..]));

    for protocols in [&[][..], &[&b"http/1.1"[..]], &[&b"h2"[..]]] {
        let mut tls = direct_tls(&appliance, protocols);
        let sent = tls.write_all(&startup);
        let mut rest = Vec::new();
        let read = tls.read_to_end(&mut rest);
        assert!(
            !rest.contains(&b'R'),
            "{protocols:?}: {sent:?} {read:?} {rest:?}"
        );
    }
}

#[test]
fn a_second_request_for_tls_inside_tls_is_refused() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut tls = direct_tls(&appliance, &[b"postgresql"]);
    tls.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut rest = Vec::new();
    // The end may come as a reset.
    let _ = tls.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"S"), "{rest:?}");
}

/// SASL messages of RFC 7628, by hand.
fn oauthbearer(wire: &mut Wire, initial: &str) -> Message {
    wire.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
    let offered = wire.receive().unwrap();
    assert_eq!(offered.tag, 'R');
    assert_eq!(offered.body[..4], 10i32.to_be_bytes());
    assert_eq!(&offered.body[4..], b"OAUTHBEARER\0\0", "one mechanism");
    let length = i32::try_from(initial.len()).unwrap().to_be_bytes();
    wire.send(
        'p',
        &[&terminated("OAUTHBEARER")[..], &length, initial.as_bytes()].concat(),
    );
    wire.receive().unwrap()
}

fn oauthbearer_world() -> (crate::postgres::Server, Appliance, SocketAddr) {
    let server = orders_server();
    let port = free_port();
    let mut setup = Setup::for_server(&server);
    setup.listeners = vec![format!(
        "{{ address = \"127.0.0.1:{port}\", proof = \"oauthbearer\" }}"
    )];
    let appliance = Appliance::start(&setup);
    (server, appliance, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[test]
fn oauthbearer_lets_a_token_in() {
    let (_server, appliance, address) = oauthbearer_world();
    let token = appliance.token("claude", "analysts");
    let mut wire = Wire::open(address);
    let answer = oauthbearer(&mut wire, &format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}"));
    assert_eq!((answer.tag, &answer.body[..]), ('R', &[0, 0, 0, 0][..]));
    wire.until_ready();
    assert!(wire.value("show sallyport.subject").contains("claude"));
}

#[test]
fn oauthbearer_refuses_in_the_words_of_its_rfc_and_then_with_28p01() {
    let (_server, appliance, address) = oauthbearer_world();
    let token = appliance.token("claude", "analysts");
    let wrong = [
        "n,,\u{1}auth=Bearer nonsense\u{1}\u{1}".to_owned(),
        format!("n,,\u{1}auth=Bearer {token}x\u{1}\u{1}"),
        // Discovery: an empty token asks where to get one.
        "n,,\u{1}auth=\u{1}\u{1}".to_owned(),
    ];
    for initial in wrong {
        let mut wire = Wire::open(address);
        let answer = oauthbearer(&mut wire, &initial);
        assert_eq!(
            answer.body[..4],
            11i32.to_be_bytes(),
            "{initial:?}: {answer:?}"
        );
        let failure: serde_json::Value = serde_json::from_slice(&answer.body[4..]).unwrap();
        assert_eq!(failure["status"], "invalid_token");
        wire.send('p', b"\x01");
        let messages = wire.until_closed();
        assert_eq!(
            crate::wire::error(&messages).sqlstate(),
            "28P01",
            "{initial:?}"
        );
    }
    for malformed in [
        "",
        "n,,",
        "y,,\u{1}auth=Bearer x\u{1}\u{1}",
        "p=tls-unique,,\u{1}auth=Bearer x\u{1}\u{1}",
        "n,,\u{1}auth=Bearer x\u{1}",
        "n,a=admin,\u{1}auth=Bearer x\u{1}\u{1}",
        "n,,\u{1}auth=Bearer x\u{1}auth=Bearer y\u{1}\u{1}",
    ] {
        let mut wire = Wire::open(address);
        wire.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
        wire.receive().unwrap();
        let length = i32::try_from(malformed.len()).unwrap().to_be_bytes();
        wire.send(
            'p',
            &[
                &terminated("OAUTHBEARER")[..],
                &length,
                malformed.as_bytes(),
            ]
            .concat(),
        );
        // Either the failure and its dummy, or an error at once; never in.
        if let Ok(first) = wire.receive() {
            assert!(first.body[..4] != [0; 4], "{malformed:?} was let in");
            wire.send('p', b"\x01");
            wire.until_closed();
        }
    }
}

#[test]
fn a_mechanism_that_was_not_offered_is_refused() {
    let (_server, _appliance, address) = oauthbearer_world();
    let mut wire = Wire::open(address);
    wire.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
    wire.receive().unwrap();
    let initial = b"n,,n=,r=abc";
    let length = i32::try_from(initial.len()).unwrap().to_be_bytes();
    wire.send(
        'p',
        &[&terminated("SCRAM-SHA-256")[..], &length, initial].concat(),
    );
    // The answer that RFC 7628 wants to a failure, if that is how we are refused.
    wire.send('p', b"\x01");
    let messages = wire.until_closed();
    assert!(["08P01", "28P01"].contains(&crate::wire::error(&messages).sqlstate().as_str()));
}
