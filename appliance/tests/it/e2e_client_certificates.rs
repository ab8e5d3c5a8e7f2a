//! Client certificates as proof: who gets in by one, and who does not.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rcgen::SanType;

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::certificates::{Authority, Certified};
use crate::postgres::{Server, binary, free_port};
use crate::wire::Wire;

struct World {
    server: Server,
    appliance: Appliance,
    /// Where certificates are asked for.
    address: SocketAddr,
    authority: Authority,
}

const SPIFFE: &str = r#"
trust_domain = "example.org"
groups = { "spiffe://example.org/agents/*" = "analysts", "spiffe://example.org/readers/one" = "readers" }
"#;

impl World {
    fn new(clients: &str, revoked: Option<u64>, session: &str) -> Self {
        let authority = Authority::new("agents");
        let server = orders_server();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut setup = Setup::for_server(&server);
        setup.listeners = vec![format!(
            "{{ address = \"{address}\", proof = \"certificate\" }}"
        )];
        setup.files = vec![("clients.pem", authority.certificate_pem.clone())];
        let mut crl = "";
        if let Some(serial) = revoked {
            setup
                .files
                .push(("crl.pem", authority.revocation_list(serial)));
            crl = "client_crl = \"crl.pem\"";
        }
        setup.tables = format!(
            "[tls]\nclient_roots = \"clients.pem\"\n{crl}\n[client_certificates]\n{clients}\n\
             [session]\n{session}\n"
        );
        let appliance = Appliance::start(&setup);
        Self {
            server,
            appliance,
            address,
            authority,
        }
    }

    /// psql as the holder of a certificate.
    fn psql(&self, certified: Option<&Certified>, sql: &str) -> Output {
        self.command(certified, sql).output().unwrap()
    }

    fn command(&self, certified: Option<&Certified>, sql: &str) -> Command {
        let mut command = Command::new(binary("psql"));
        command
            .args(["-X", "-A", "-t", "-c", sql])
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.address.port().to_string())
            .env("PGUSER", "agent")
            .env("PGDATABASE", "orders")
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.appliance.certificate_path())
            .env("PGSSLCERT", "/nonexistent")
            .env("PGCONNECT_TIMEOUT", "20")
            .stdin(Stdio::null());
        if let Some(certified) = certified {
            let path = |name: &str| -> PathBuf { self.appliance.directory().join(name) };
            fs::write(path("client.pem"), &certified.chain_pem).unwrap();
            fs::write(path("client.key"), &certified.key_pem).unwrap();
            fs::set_permissions(path("client.key"), fs::Permissions::from_mode(0o600)).unwrap();
            command
                .env("PGSSLCERT", path("client.pem"))
                .env("PGSSLKEY", path("client.key"));
        }
        command
    }

    fn says(&self, certified: &Certified, sql: &str) -> String {
        let output = self.psql(Some(certified), sql);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn refusal(&self, certified: Option<&Certified>) -> String {
        let output = self.psql(certified, "select 'in'");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }
}

fn uri(text: &str) -> Vec<SanType> {
    vec![SanType::URI(text.try_into().unwrap())]
}

const AGENT: &str = "spiffe://example.org/agents/one";

#[test]
fn psql_with_a_spiffe_certificate_is_the_agent_that_it_names() {
    let world = World::new(SPIFFE, None, "");
    let agent = world.authority.client_named("x", uri(AGENT));
    let subject = world.says(&agent, "show sallyport.subject");
    assert_eq!(subject, format!("certificate/{AGENT}"));
    assert_eq!(world.says(&agent, "select count(*) from orders"), "1000");
    // Its groups come from the table.
    let reader = world
        .authority
        .client_named("x", uri("spiffe://example.org/readers/one"));
    assert_eq!(world.says(&reader, "select count(*) from orders"), "1000");
    let output = world.psql(Some(&reader), "delete from orders");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let nobody = world
        .authority
        .client_named("x", uri("spiffe://example.org/nobody"));
    assert!(
        world
            .refusal(Some(&nobody))
            .contains("the target does not exist or you may not enter it")
    );
    let sessions = world.appliance.sessions();
    let of_agent = |session: &&serde_json::Value| session["subject"] == AGENT;
    let session = sessions.iter().find(of_agent).expect("recorded");
    assert_eq!(session["issuer"], "spiffe://example.org");
    // The other listener still takes tokens, and asks for no certificate.
    assert_eq!(
        world
            .appliance
            .login("claude", "analysts")
            .value("select 1"),
        "1"
    );
}

#[test]
fn whoever_shows_no_certificate_or_another_is_not_let_in() {
    let world = World::new(SPIFFE, Some(7), "");
    let stranger = Authority::new("agents");
    let authority = &world.authority;
    let two = [uri(AGENT), uri("spiffe://example.org/agents/two")].concat();
    let handshake = "alert";
    let certificate = "the certificate is not accepted";
    let cases: [(&str, Option<Certified>, &str); 9] = [
        ("none", None, "a client certificate is needed"),
        (
            "wrong authority",
            Some(stranger.client_named("x", uri(AGENT))),
            handshake,
        ),
        (
            "expired",
            Some(authority.expired_client(uri(AGENT))),
            handshake,
        ),
        (
            "revoked by its authority",
            Some(authority.client_with_serial(uri(AGENT), 7)),
            handshake,
        ),
        (
            "for servers",
            Some(authority.server(&["agents.example.org"])),
            handshake,
        ),
        (
            "another trust domain",
            Some(authority.client_named("x", uri("spiffe://example.com/agents/one"))),
            certificate,
        ),
        (
            "two URIs",
            Some(authority.client_named("x", two)),
            certificate,
        ),
        ("no URI", Some(authority.client(AGENT)), certificate),
        (
            "NUL",
            Some(authority.client_named("x", uri("spiffe://example.org/agents/one\0"))),
            certificate,
        ),
    ];
    for (name, certified, expected) in cases {
        let said = world.refusal(certified.as_ref());
        assert!(said.contains(expected), "{name}: {said}");
    }
    let good = authority.client_with_serial(uri(AGENT), 8);
    assert_eq!(world.says(&good, "select 1"), "1");
    // Without TLS nothing is asked for, and a token is no substitute.
    let token = world.appliance.token("claude", "analysts");
    let parameters = [("user", "agent"), ("database", "orders")];
    let refusal = Wire::try_login(world.address, &parameters, &token).err();
    assert_eq!(refusal.unwrap().sqlstate(), "28000");
}

#[test]
fn common_and_dns_names_serve_where_they_are_configured() {
    let by_name = r#"
subject = "common-name"
issuer = "agents-ca"
groups = { "agent-7" = "analysts,readers" }
"#;
    let world = World::new(by_name, None, "");
    let agent = world.authority.client("agent-7");
    let subject = world.says(&agent, "show sallyport.subject");
    assert_eq!(subject, "certificate/agent-7");
    let said = world.refusal(Some(&world.authority.client("agent-8")));
    assert!(said.contains("you may not enter it"), "{said}");
    drop(world);
    let by_dns = r#"
subject = "dns"
issuer = "agents-ca"
groups = { "agent-7.example.org" = "analysts" }
"#;
    let world = World::new(by_dns, None, "");
    let dns = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let agent = world
        .authority
        .client_named("other", dns("agent-7.example.org"));
    let subject = world.says(&agent, "show sallyport.subject");
    assert_eq!(subject, "certificate/agent-7.example.org");
    let wild = world.authority.client_named("other", dns("*.example.org"));
    let said = world.refusal(Some(&wild));
    assert!(said.contains("the certificate is not accepted"), "{said}");
}

#[test]
fn an_agent_with_a_certificate_is_revoked_as_others_are() {
    let world = World::new(SPIFFE, None, "");
    let agent = world.authority.client_named("x", uri(AGENT));
    let running = world
        .command(Some(&agent), "select 'midst' from pg_sleep(600)")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the statement", || world.server.psql(sleeping) == "1");
    let revoking = ["revoke", "agent", AGENT, "--issuer", "spiffe://example.org"];
    world.appliance.cli_text(&revoking);
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("access is revoked"), "{said}");
    assert!(world.refusal(Some(&agent)).contains("access is revoked"));
    let other = world
        .authority
        .client_named("x", uri("spiffe://example.org/agents/two"));
    assert_eq!(world.says(&other, "select 1"), "1");
}

#[test]
fn a_session_ends_with_its_certificate_where_it_would_with_its_token() {
    let world = World::new(SPIFFE, None, "lifetime = \"0s\"");
    let agent = world.authority.short_lived_client(uri(AGENT), 5);
    let output = world.psql(Some(&agent), "select pg_sleep(600)");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the session reached its lifetime"), "{said}");
    wait_until("the handshake to refuse it", || {
        let output = world.psql(Some(&agent), "select 1");
        String::from_utf8(output.stderr).unwrap().contains("alert")
    });
}
