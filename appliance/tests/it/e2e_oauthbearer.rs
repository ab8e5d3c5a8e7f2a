//! OAUTHBEARER with libpq 18: the appliance says where tokens come from, and a person confirms there.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::appliance::{Appliance, POLICY, Setup, orders_server};
use crate::postgres::{Server, cache, free_port};
use crate::provider::Provider;

struct World {
    provider: Provider,
    _server: Server,
    appliance: Appliance,
    port: u16,
}

impl World {
    fn new() -> Self {
        let provider = Provider::start();
        let server = orders_server();
        let port = free_port();
        let mut setup = Setup::for_server(&server);
        setup.tables = provider.configuration("");
        setup.listeners = vec![format!(
            "{{ address = \"127.0.0.1:{port}\", proof = \"oauthbearer\" }}"
        )];
        let policy = POLICY.replace("\"analysts\"]", "\"corp:analysts\"]");
        setup.policy = &policy;
        let appliance = Appliance::start(&setup);
        Self {
            provider,
            _server: server,
            appliance,
            port,
        }
    }

    /// With the issuer that the client expects.
    fn conninfo(&self, issuer: &str) -> String {
        format!(
            "host=127.0.0.1 port={} dbname=orders user=agent sslmode=verify-full sslrootcert={} \
             oauth_issuer={issuer} oauth_client_id=cli",
            self.port,
            self.appliance.certificate_path().display()
        )
    }
}

fn programs() -> PathBuf {
    cache().join("postgres/18")
}

fn libpq_18(world: &World, issuer: &str) -> Command {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/libpq_oauth.py");
    let mut command = Command::new(cache().join("clients/python/bin/python"));
    command
        .arg(program)
        .arg(programs().join("lib/libpq.so.5"))
        .arg(world.conninfo(issuer))
        .arg(world.provider.ca());
    command
}

#[test]
fn libpq_18_finds_the_issuer_by_the_appliance_and_a_person_confirms_the_device() {
    let mut world = World::new();
    let issuer = world.provider.issuer();
    let mut client = libpq_18(&world, &issuer)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut next = |word: &str| {
        let line = lines.next().expect(word).unwrap();
        let rest = line.strip_prefix(word).unwrap_or_else(|| panic!("{line}"));
        rest.trim().to_owned()
    };
    let discovery = format!("{issuer}/.well-known/openid-configuration");
    assert_eq!(next("discovery"), discovery);
    let url = next("open");
    let end = world.provider.browse(&url, "alice");
    assert_eq!(end["status"], 200, "{end}");
    assert_eq!(next("subject"), "corp/alice");
    assert!(client.wait().unwrap().success());
}

#[test]
fn libpq_18_gives_no_token_to_an_appliance_that_names_another_issuer() {
    let world = World::new();
    let output = libpq_18(&world, "https://other.example").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("incompatible with oauth_issuer"), "{said}");
}

/// The one that the tests install is built without libpq-oauth. It gets as far as that: it has the
/// appliance's word for where tokens come from, and asks for the package.
#[test]
fn psql_18_of_the_tests_has_no_flow_of_its_own() {
    let world = World::new();
    let output = Command::new(programs().join("bin/psql"))
        .env("LD_LIBRARY_PATH", programs().join("lib"))
        .args(["-X", "-c", "select 1"])
        .arg(world.conninfo(&world.provider.issuer()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no OAuth flows are available"), "{said}");
}
