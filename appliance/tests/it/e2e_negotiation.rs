//! What newer clients negotiate: TLS from the first byte, protocol 3.2, keys of other lengths.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::e2e_listeners::tls_over;
use crate::e2e_proxy_protocol::HaProxy;
use crate::postgres::{Server, free_port};
use crate::wire::{CANCEL_REQUEST, PROTOCOL_3_0, Wire, error, startup_packet, terminated, untyped};

const PROTOCOL_3_2: i32 = 196_610;

/// psql of a version that Debian has not, from where `.ci/prepare test` put it.
fn psql(version: u32) -> PathBuf {
    let cache = match std::env::var_os("SALLYPORT_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => match std::env::var_os("XDG_CACHE_HOME") {
            Some(caches) => Path::new(&caches).join("sallyport"),
            None => Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/sallyport"),
        },
    };
    let psql = cache.join(format!("postgres/{version}/bin/psql"));
    assert!(psql.exists(), "{psql:?} is missing: run .ci/prepare test");
    psql
}

/// psql of `version`, verifying the appliance, through `address`.
fn command(version: u32, appliance: &Appliance, address: SocketAddr) -> Command {
    let mut command = Command::new(psql(version));
    command
        .args(["-X", "-A", "-t"])
        .env("PGHOST", "localhost")
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGPORT", address.port().to_string())
        .env("PGUSER", "claude")
        .env("PGDATABASE", "orders")
        .env("PGPASSWORD", appliance.token("claude", "analysts"))
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", appliance.certificate_path());
    command
}

fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn world() -> (Server, Appliance) {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    (server, appliance)
}

#[test]
fn psql_17_and_18_begin_with_tls() {
    let (_server, appliance) = world();
    for version in [17, 18] {
        for negotiation in ["direct", "postgres"] {
            let mut psql = command(version, &appliance, appliance.address());
            psql.args(["-c", "select count(*) from orders"]);
            psql.env("PGSSLNEGOTIATION", negotiation);
            assert_eq!(printed(psql), "1000\n", "psql {version}, {negotiation}");
        }
    }
}

#[test]
fn tls_from_the_first_byte_passes_haproxy() {
    let server = orders_server();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut setup = Setup::for_server(&server);
    setup.listeners = vec![format!(
        "{{ address = \"{address}\", proxy_protocol = [\"127.0.0.77\"] }}"
    )];
    let appliance = Appliance::start(&setup);
    let haproxy = HaProxy::start("", &format!("{address} source 127.0.0.77 send-proxy-v2"));
    let mut psql = command(18, &appliance, haproxy.address());
    psql.args(["-c", "select count(*) from orders"]);
    psql.env("PGSSLNEGOTIATION", "direct");
    assert_eq!(printed(psql), "1000\n");
    let peer = appliance.sessions()[0]["peer"].to_string();
    assert!(peer.starts_with("\"127.0.0.1:"), "{peer}");
}

#[test]
fn psql_18_speaks_the_version_that_it_asks_for() {
    let (_server, appliance) = world();
    for (least, most, spoken) in [
        ("3.0", "3.0", "3.0"),
        ("3.0", "3.2", "3.2"),
        ("3.2", "3.2", "3.2"),
        ("3.0", "latest", "3.2"),
        ("latest", "latest", "3.2"),
    ] {
        let mut psql = command(18, &appliance, appliance.address());
        psql.args(["-c", "\\conninfo", "-c", "select count(*) from orders"]);
        psql.env("PGMINPROTOCOLVERSION", least);
        psql.env("PGMAXPROTOCOLVERSION", most);
        let printed = printed(psql);
        let expected = format!("Protocol Version|{spoken}\n");
        assert!(printed.contains(&expected), "{least} to {most}: {printed}");
        assert!(printed.ends_with("\n1000\n"), "{printed}");
    }
}

#[test]
fn ctrl_c_in_psql_18_finds_its_session_by_a_key_of_either_length() {
    let (server, appliance) = world();
    for most in ["3.0", "3.2"] {
        let mut psql = command(18, &appliance, appliance.address())
            .args(["-v", "ON_ERROR_STOP=1", "-c", "select pg_sleep(600)"])
            .env("PGMAXPROTOCOLVERSION", most)
            .env("PGSSLNEGOTIATION", "direct")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
        wait_until("the statement to run", || server.psql(sleeping) == "1");
        kill_process(Pid::from_child(&psql), Signal::INT).unwrap();
        let errors = BufReader::new(psql.stderr.take().unwrap()).lines();
        let errors: Vec<String> = errors.map(Result::unwrap).collect();
        let expected = "canceling statement due to user request";
        assert!(
            errors.iter().any(|line| line.contains(expected)),
            "{most}: {errors:?}"
        );
        assert!(!psql.wait().unwrap().success());
    }
}

/// Logs in with `version` and leaves a statement running; its key.
fn running(appliance: &Appliance, version: i32) -> (Wire, u32, Vec<u8>) {
    let mut wire = Wire::open(appliance.address());
    wire.send_startup(version, &[("user", "agent"), ("database", "orders")]);
    assert_eq!(wire.receive().unwrap().tag, 'R');
    wire.send('p', &terminated(&appliance.token("claude", "analysts")));
    wire.until_ready();
    let (process, secret) = wire.key.clone().unwrap();
    wire.send('Q', b"select pg_sleep(600)\0");
    (wire, process, secret)
}

fn cancel_packet(process: u32, secret: &[u8]) -> Vec<u8> {
    let body = [
        &CANCEL_REQUEST.to_be_bytes()[..],
        &process.to_be_bytes(),
        secret,
    ]
    .concat();
    untyped(&body)
}

#[test]
fn a_key_is_as_long_as_the_version_has_room_for_and_compared_whole() {
    let (server, appliance) = world();
    for (version, length) in [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)] {
        let (mut wire, process, secret) = running(&appliance, version);
        assert_eq!(secret.len(), length);
        let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
        wait_until("the statement to run", || server.psql(sleeping) == "1");
        let mut longer = secret.clone();
        longer.push(0);
        for wrong in [
            &secret[..4.min(length - 1)],
            &secret[..length - 1],
            &longer,
            &[0; 256],
        ] {
            let mut cancel = Wire::open(appliance.address());
            cancel.send_raw(&cancel_packet(process, wrong));
            assert_eq!(cancel.until_closed_raw(), b"");
        }
        assert_eq!(server.psql(sleeping), "1");
        // Inside TLS, as libpq 17 sends it for a connection that has TLS.
        let stream = TcpStream::connect(appliance.address()).unwrap();
        let mut tls = tls_over(stream, &appliance, &[b"postgresql"]);
        tls.write_all(&cancel_packet(process, &secret)).unwrap();
        let mut rest = Vec::new();
        tls.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        assert_eq!(error(&wire.until_ready()).sqlstate(), "57014");
    }
}

#[test]
fn a_newer_minor_version_is_negotiated_down_to_3_2() {
    let (_server, appliance) = world();
    for (asked, spoken) in [(196_609, 196_608), (196_611, 196_610), (206_607, 196_610)] {
        let mut wire = Wire::open(appliance.address());
        let parameters = [
            ("user", "agent"),
            ("database", "orders"),
            ("_pq_.test", "x"),
        ];
        wire.send_raw(&startup_packet(asked, &parameters));
        let answer = wire.receive().unwrap();
        assert_eq!(answer.tag, 'v', "{answer:?}");
        let expected = [&i32::to_be_bytes(spoken)[..], &[0, 0, 0, 1], b"_pq_.test\0"].concat();
        assert_eq!(answer.body, expected, "{asked}");
        assert_eq!(wire.receive().unwrap().tag, 'R');
    }
}
