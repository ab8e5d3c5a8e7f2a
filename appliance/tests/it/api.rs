//! The admin API at both its doors: who is answered, and what is turned away before.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::admin::{MAIN, PATIENCE, Place};
use crate::e2e_login::{ISSUER, Provider, now};
use crate::http::{Answer, Request};

const ROLES: &str = "\
[[issuer]]
name = \"corp\"
issuer = \"https://login.example.com/\"
audience = [\"sallyport\"]
jwks = \"file:corp.jwks\"
group_prefix = \"corp:\"
[roles]
viewer = [\"corp:staff\"]
admin = [\"corp:security\"]
[builtin_issuer]
group_prefix = \"local:\"
";

const HOLD: &str = "
[[rule]]
name = \"writes-wait\"
groups = [\"analysts\"]
targets = [\"orders\"]
hold = { statements = [\"insert\"] }
approvers = [\"corp:oncall\"]
";

/// An appliance with `listen.console`, and an identity provider for people.
struct World {
    place: Place,
    provider: Provider,
    console: SocketAddr,
}

impl World {
    fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Self {
        let mut place = Place::new();
        let provider = Provider::new();
        let listen = format!("[listen]\nconsole = \"{address}\"\n");
        let main = MAIN.replace("[listen]\n", &listen);
        place.write("sallyport.toml", &(main + ROLES));
        place.write("corp.jwks", &provider.jwks().to_string());
        place.write("policy.d/hold.toml", HOLD);
        place.serve();
        let status: Value = serde_json::from_str(&place.text(&["status", "--json"])).unwrap();
        let url = status["status"]["console"].as_str().unwrap();
        let (_, console) = url.split_once("://").unwrap();
        let console = console.parse().unwrap();
        Self {
            place,
            provider,
            console,
        }
    }

    fn claims(&self, groups: &[&str]) -> Value {
        json!({
            "iss": ISSUER, "sub": "alice", "aud": "sallyport", "exp": now() + 600,
            "groups": groups,
        })
    }

    fn token(&self, groups: &[&str]) -> String {
        self.provider.sign(&self.claims(groups))
    }

    fn status(&self, request: &Request) -> u16 {
        request.tcp(self.console).status
    }
}

#[test]
fn roles_come_from_groups_and_whoami_shows_them() {
    let world = World::new();
    let roles = |groups: &[&str]| {
        let answer = Request::get("/v1/whoami").bearer(&world.token(groups));
        answer.tcp(world.console).json()["person"]["roles"].clone()
    };
    assert_eq!(roles(&["staff"]), json!(["viewer"]));
    assert_eq!(roles(&["oncall"]), json!(["viewer", "approver"]));
    assert_eq!(roles(&["security"]), json!(["viewer", "admin"]));
    assert_eq!(roles(&["corp:oncall", "analysts"]), json!([]));

    // The socket's operator and a person's token at once are both.
    let both = Request::get("/v1/whoami").bearer(&world.token(&["oncall"]));
    let both = both.unix(&world.place.path("run/admin.sock")).json();
    assert!(both["operator_uid"].is_u64(), "{both}");
    assert_eq!(both["person"]["subject"], "alice");
    // A wrong token is not overlooked because the socket would do.
    let wrong = Request::get("/v1/whoami").bearer("x.y.z");
    assert_eq!(wrong.unix(&world.place.path("run/admin.sock")).status, 401);
}

#[test]
fn no_token_is_minted_with_a_group_that_has_a_role() {
    let place = Place::new();
    let written = MAIN.to_owned() + "[roles]\nviewer = [\"staff\"]\nadmin = [\"security\"]\n";
    place.write("sallyport.toml", &written);
    place.write("policy.d/hold.toml", HOLD);
    let mut place = place;
    place.serve();
    for group in ["staff", "security", "corp:oncall"] {
        let arguments = ["token", "issue", "--agent", "a", "--groups", group];
        let (code, out, errors) = place.outcome(&arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{group}");
        let expected = format!("sallyport: the group `{group}` has a role in the appliance");
        assert!(errors.starts_with(&expected), "{errors}");
    }
    place.text(&["token", "issue", "--agent", "a", "--groups", "analysts"]);
}

#[test]
fn a_reload_changes_what_a_token_may_do() {
    let world = World::new();
    let ask = || world.status(&Request::get("/v1/status").bearer(&world.token(&["staff"])));
    assert_eq!(ask(), 200);
    let written = std::fs::read_to_string(world.place.path("sallyport.toml")).unwrap();
    let fewer = written.replace("viewer = [\"corp:staff\"]\n", "");
    world.place.write("sallyport.toml", &fewer);
    world.place.text(&["reload"]);
    assert_eq!(ask(), 403);
}

#[test]
fn browsers_are_told_what_they_must_not_do() {
    let world = World::new();
    for request in [
        Request::get("/v1/status").bearer(&world.token(&["staff"])),
        Request::get("/v1/status"),
        Request::get("/nowhere").header("host", "evil.example"),
    ] {
        let answer = request.tcp(world.console);
        for (name, part) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self';",
            ),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            let found = answer.header(name).unwrap_or_default();
            assert!(found.contains(part), "{name}: {answer:?}");
        }
        let policy = answer.header("content-security-policy").unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("strict-transport-security"), None);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn other_hosts_and_other_sites_pages_are_refused_at_the_console_alone() {
    let world = World::new();
    let admin = world.token(&["security"]);
    let reload = || Request::post("/v1/reload", "{}").bearer(&admin);
    let rebound = reload().header("host", "evil.example");
    assert_eq!(world.status(&rebound), 421);
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        assert_eq!(world.status(&reload().header(name, value)), 403, "{value}");
    }
    let generation = |place: &Place| {
        let status: Value = serde_json::from_str(&place.text(&["status", "--json"])).unwrap();
        status["status"]["generation"].clone()
    };
    assert_eq!(generation(&world.place), 1);
    let own = format!("http://localhost:{}", world.console.port());
    let host = format!("localhost:{}", world.console.port());
    let same = reload().header("origin", &own).header("host", &host);
    assert_eq!(world.status(&same), 200);
    assert_eq!(generation(&world.place), 2);
    // No browser is at the socket.
    let socket = world.place.path("run/admin.sock");
    assert_eq!(rebound.unix(&socket).status, 200);
}

#[test]
fn wrong_tokens_are_counted_against_their_address() {
    let world = World::new();
    let wrong = Request::get("/v1/status").bearer("x.y.z");
    let refused: Vec<Answer> = (0..200)
        .map(|_| wrong.tcp(world.console))
        .skip_while(|answer| answer.status == 401)
        .take(1)
        .collect();
    assert_eq!(refused[0].status, 429);
    let after = refused[0].header("retry-after").unwrap();
    assert!(after.parse::<u64>().unwrap() >= 1);
    // Not even a right token is looked at then; what needs none is answered.
    let right = Request::get("/v1/status").bearer(&world.token(&["staff"]));
    let statuses: Vec<u16> = (0..3).map(|_| world.status(&right)).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(world.status(&Request::get("/v1/status")), 401);
    let socket = world.place.path("run/admin.sock");
    assert_eq!(right.unix(&socket).status, 200, "the socket has no address");
}

/// A TLS connection that trusts the appliance's own certificate.
fn encrypted(world: &World) -> StreamOwned<ClientConnection, TcpStream> {
    let pem = world.place.path("state/tls-certificate.pem");
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pem).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let port = world.console.port();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(connection, stream)
}

#[test]
fn an_address_that_others_reach_takes_tls_and_nothing_else() {
    let world = World::at("0.0.0.0:0");
    let request = Request::get("/v1/status").bearer(&world.token(&["staff"]));
    let answer = request.over(encrypted(&world));
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("strict-transport-security")
            .unwrap()
            .contains("max-age=31536000")
    );
    let plain = TcpStream::connect(("127.0.0.1", world.console.port())).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    let bytes = {
        use std::io::{Read, Write};
        let mut plain = plain;
        plain.write_all(request.text().as_bytes()).unwrap();
        let mut bytes = Vec::new();
        // A reset is an answer too.
        let _ = plain.read_to_end(&mut bytes);
        bytes
    };
    assert!(!bytes.starts_with(b"HTTP/"), "{bytes:?}");
}

#[test]
fn bodies_that_are_too_long_never_reach_a_handler() {
    let world = World::new();
    let admin = world.token(&["security"]);
    let long = "x".repeat(64 * 1024 + 1);
    assert_eq!(
        world.status(&Request::post("/v1/reload", &long).bearer(&admin)),
        413
    );
    let most = "x".repeat(64 * 1024);
    assert_eq!(
        world.status(&Request::post("/v1/reload", &most).bearer(&admin)),
        200
    );
    // Without a length, in chunks.
    let chunked = format!(
        "POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Bearer {admin}\r\ntransfer-encoding: chunked\r\n\r\n10001\r\n{long}\r\n0\r\n\r\n"
    );
    let answer = {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(world.console).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(chunked.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::read(&String::from_utf8_lossy(&bytes))
    };
    assert_eq!(answer.status, 413);
}
