//! The certificate that agents see, and how it is exchanged while they work.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::appliance::{Appliance, Setup, orders_server};
use crate::certificates::{Authority, Certified};
use crate::postgres::{Server, binary};
use crate::wire::{PATIENCE, PROTOCOL_3_0, startup_packet};

/// An appliance with the operator's certificate.
struct World {
    _server: Server,
    appliance: Appliance,
    files: TempDir,
}

impl World {
    fn new(certified: &Certified) -> Self {
        let server = orders_server();
        let files = tempfile::tempdir().unwrap();
        let root = files.path().display();
        let mut setup = Setup::for_server(&server);
        setup.tables =
            format!("[tls]\ncertificate = \"{root}/chain.pem\"\nkey = \"file:{root}/key.pem\"\n");
        write_key(&files, &certified.key_pem);
        fs::write(files.path().join("chain.pem"), &certified.chain_pem).unwrap();
        Self {
            appliance: Appliance::start(&setup),
            _server: server,
            files,
        }
    }

    fn write_chain(&self, pem: &str) {
        fs::write(self.files.path().join("chain.pem"), pem).unwrap();
    }

    fn reload(&self) -> Output {
        self.appliance.cli(&["reload"])
    }

    fn roots(&self, name: &str, authority: &Authority) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, &authority.certificate_pem).unwrap();
        path
    }

    fn psql(&self, roots: &PathBuf) -> Output {
        self.client(roots)
            .args(["-c", "select count(*) from orders"])
            .output()
            .unwrap()
    }

    /// psql that logs in where the certificate verifies against `roots`.
    fn client(&self, roots: &PathBuf) -> Command {
        let mut psql = Command::new(binary("psql"));
        psql.args(["-X", "-A", "-t"])
            .env("PGHOST", "localhost")
            .env("PGHOSTADDR", "127.0.0.1")
            .env("PGPORT", self.appliance.address().port().to_string())
            .env("PGUSER", "claude")
            .env("PGDATABASE", "orders")
            .env("PGPASSWORD", self.appliance.token("claude", "analysts"))
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", roots);
        psql
    }

    fn check_psql(&self, trusted: &PathBuf, distrusted: &PathBuf) {
        let output = self.psql(trusted);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "1000\n",
            "{output:?}"
        );
        let output = self.psql(distrusted);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("certificate verify failed"), "{output:?}");
    }
}

fn write_key(files: &TempDir, pem: &str) {
    let path = files.path().join("key.pem");
    fs::write(&path, pem).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_reload_gives_new_connections_the_new_certificate_and_leaves_sessions_alone() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let world = World::new(&old.server(&["localhost"]));
    let old_roots = world.roots("old.pem", &old);
    let new_roots = world.roots("new.pem", &new);
    world.check_psql(&old_roots, &new_roots);
    let mut psql = world
        .client(&old_roots)
        .args(["-f", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut statements = psql.stdin.take().unwrap();
    let mut answers = psql.stdout.take().unwrap();
    let mut ask = |statement: &[u8], expected: &[u8]| {
        statements.write_all(statement).unwrap();
        let mut answer = vec![0; expected.len()];
        answers.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected);
    };
    ask(b"select 'before';\n", b"before\n");

    let certified = new.server(&["localhost"]);
    world.write_chain(&certified.chain_pem);
    write_key(&world.files, &certified.key_pem);
    assert!(world.reload().status.success());
    world.check_psql(&new_roots, &old_roots);
    ask(b"select 'after';\n", b"after\n");
    drop(statements);
    assert!(psql.wait().unwrap().success());
}

#[test]
fn a_certificate_that_cannot_be_served_leaves_the_old_one_in_force() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let world = World::new(&old.server(&["localhost"]));
    let old_roots = world.roots("old.pem", &old);
    let new_roots = world.roots("new.pem", &new);
    let certified = new.server(&["localhost"]);
    let half = &certified.chain_pem[..certified.chain_pem.len() / 2];
    for (chain, expected) in [
        (
            certified.chain_pem.as_str(),
            "the key does not belong to the certificate",
        ),
        (half, "no certificate in PEM"),
        ("", "no certificate in PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "the key does not belong to the certificate",
        ),
    ] {
        world.write_chain(chain);
        let output = world.reload();
        assert!(!output.status.success(), "{expected}: {output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(expected), "{errors}");
        world.check_psql(&old_roots, &new_roots);
    }
    fs::remove_file(world.files.path().join("chain.pem")).unwrap();
    let output = world.reload();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("chain.pem: No such file"), "{errors}");
    world.check_psql(&old_roots, &new_roots);
    assert!(
        world
            .appliance
            .log()
            .contains("the configuration was not taken"),
        "{}",
        world.appliance.log()
    );
}

#[test]
fn a_certificate_that_has_expired_is_served_with_a_warning() {
    let authority = Authority::new("old");
    let world = World::new(&authority.server(&["localhost"]));
    let expired = authority.expired_server(&["localhost"]);
    world.write_chain(&expired.chain_pem);
    write_key(&world.files, &expired.key_pem);
    for command in ["check", "reload"] {
        let output = world.appliance.cli(&[command]);
        assert!(output.status.success(), "{output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            errors.contains("warning: ") && errors.contains("the certificate has expired"),
            "{command}: {output:?}"
        );
    }
}

/// Connects with sessions kept from earlier connections; how the handshake went.
fn handshake(appliance: &Appliance, config: &Arc<ClientConfig>) -> HandshakeKind {
    let stream = TcpStream::connect(appliance.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut tls = StreamOwned::new(connection, stream);
    let startup = startup_packet(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
    tls.write_all(&startup).unwrap();
    // Tickets come in front of the first answer.
    let mut answer = [0; 9];
    tls.read_exact(&mut answer).unwrap();
    tls.conn.handshake_kind().unwrap()
}

#[test]
fn a_session_of_the_old_certificate_is_not_resumed_under_the_new_one() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let world = World::new(&old.server(&["localhost"]));
    let mut roots = RootCertStore::empty();
    for authority in [&old, &new] {
        let pem = authority.certificate_pem.as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(pem).unwrap())
            .unwrap();
    }
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        config.resumption = Resumption::in_memory_sessions(8);
        let config = Arc::new(config);
        assert_eq!(handshake(&world.appliance, &config), HandshakeKind::Full);
        assert_eq!(handshake(&world.appliance, &config), HandshakeKind::Resumed);
        let certified = new.server(&["localhost"]);
        world.write_chain(&certified.chain_pem);
        write_key(&world.files, &certified.key_pem);
        assert!(world.reload().status.success());
        assert_eq!(handshake(&world.appliance, &config), HandshakeKind::Full);
        assert_eq!(handshake(&world.appliance, &config), HandshakeKind::Resumed);
    }
}
