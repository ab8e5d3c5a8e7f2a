//! Agents and strangers that break the protocol where `e2e_bad_input.rs` does not: inside the TLS
//! handshake, by floods that nobody reads the answers of, by closing anywhere.
//!
//! The shapes are numbered in `docs/protocols/postgres-hostile.md`.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::appliance::{Appliance, Setup, login_directly, orders_server, wait_until};
use crate::postgres::Server;
use crate::process::{open_sockets, resident_bytes};
use crate::wire::{
    CANCEL_REQUEST, GSSENC_REQUEST, PROTOCOL_3_0, SSL_REQUEST, Silence, Wire, error, message,
    startup_packet, tags, terminated, untyped,
};

/// Short deadlines, and nothing whose memory counts much in that of the process: a small ring, and
/// no sealing of what was recorded while it is measured.
const QUICK: &str = "[limits]\nlogin_deadline = \"1s\"\nwrite_deadline = \"1s\"\n\n[recording]\nring_bytes = \"1MiB\"\n\n[archive]\nhead_interval = \"1d\"\n";

const MIB: usize = 1 << 20;

fn quick(server: &Server) -> Appliance {
    let mut setup = Setup::for_server(server);
    setup.shards = 1;
    setup.tables = QUICK.into();
    Appliance::start(&setup)
}

/// The first flight of a TLS client that means well.
fn client_hello() -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// A TLS record of the handshake, whatever is in it.
fn record(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &length, body].concat()
}

#[test]
fn a_tls_handshake_that_goes_wrong_ends_within_the_deadline() {
    let server = orders_server();
    let appliance = quick(&server);
    let mut bystander = appliance.login("bystander", "analysts");
    let hello = client_hello();
    // The header of a handshake message of 16 MiB, and records that never complete it.
    let endless = [record(&[1, 255, 255, 255]), record(&[0; 16_000]).repeat(16)].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("A27: silence after the hello", hello.clone()),
        ("A28: half a record", hello[..hello.len() / 2].to_vec()),
        ("A29: half a record's header", hello[..3].to_vec()),
        ("A30: a record longer than any", vec![22, 3, 1, 255, 255, 1]),
        ("A31: an empty record", record(&[])),
        ("A32: a hello of 16 MiB", endless),
        (
            "A33: SSL 3.0",
            [&[22, 3, 0, 0, 4][..], &[1, 0, 0, 0]].concat(),
        ),
        ("A34: an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("A35: data before the handshake", vec![23, 3, 3, 0, 1, 0]),
        (
            "A36: a second request in clear",
            untyped(&SSL_REQUEST.to_be_bytes()),
        ),
    ];
    let mut wires = Vec::new();
    for (what, bytes) in cases {
        let mut wire = Wire::open(appliance.address());
        assert_eq!(wire.ask(SSL_REQUEST), b'S', "{what}");
        wire.send_raw(&bytes);
        wires.push((what, wire));
        // And the same from the first byte, where nothing is asked for.
        let mut wire = Wire::open(appliance.address());
        wire.send_raw(&bytes);
        wires.push((what, wire));
    }
    assert_eq!(bystander.value("select 1"), "1");
    for (what, mut wire) in wires {
        let bytes = wire.until_closed_raw();
        // ServerHello and alerts, but no message of PostgreSQL beyond a refusal of it.
        assert!(
            !bytes
                .windows(9)
                .any(|part| part == b"R\0\0\0\x08\0\0\0\x03"),
            "{what}: asks for a token"
        );
    }
    assert_eq!(bystander.value("select 1"), "1");
}

#[test]
fn a_handshake_of_one_byte_after_the_other_does_not_renew_the_deadline() {
    let server = orders_server();
    let appliance = quick(&server);
    let mut wire = Wire::open(appliance.address());
    assert_eq!(wire.ask(SSL_REQUEST), b'S');
    let hello = client_hello();
    let mut sent = 0;
    // More than the deadline in all, less between two bytes.
    while sent < hello.len() && wire.is_silent_for(Duration::from_millis(20)) {
        wire.send_raw(&hello[sent..=sent]);
        sent += 1;
    }
    assert!(
        sent < hello.len(),
        "the whole hello of {sent} bytes was waited for"
    );
    wire.until_closed_raw();
}

#[test]
fn requests_for_encryption_are_answered_once_each() {
    let server = orders_server();
    let appliance = quick(&server);
    for order in [
        &[GSSENC_REQUEST, GSSENC_REQUEST][..],
        &[GSSENC_REQUEST, SSL_REQUEST, SSL_REQUEST],
        &[GSSENC_REQUEST, SSL_REQUEST, GSSENC_REQUEST],
        &[SSL_REQUEST, SSL_REQUEST],
        &[SSL_REQUEST, GSSENC_REQUEST],
    ] {
        let mut wire = Wire::open(appliance.address());
        for request in &order[..order.len() - 1] {
            wire.ask(*request);
        }
        wire.send_raw(&untyped(&order[order.len() - 1].to_be_bytes()));
        let bytes = wire.until_closed_raw();
        assert!(
            !bytes.starts_with(b"S") && !bytes.starts_with(b"N"),
            "{order:?}: {bytes:?}"
        );
    }
}

#[test]
fn a_flood_of_passwords_is_one_attempt() {
    let server = orders_server();
    let appliance = quick(&server);
    let token = appliance.token("claude", "analysts");
    let guesses = message('p', b"guess\0").repeat(10_000);
    let mut wire = Wire::open(appliance.address());
    wire.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
    assert_eq!(wire.receive().unwrap().tag, 'R');
    wire.send_raw(&guesses);
    let answers = wire.until_closed();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(error(&answers).sqlstate(), "28P01");
    // The right one among wrong ones is not found, nor are wrong ones forgiven behind it.
    for (passwords, last) in [
        (["guess", token.as_str()], "28P01"),
        ([token.as_str(), "guess"], "08P01"),
    ] {
        let mut wire = Wire::open(appliance.address());
        wire.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
        assert_eq!(wire.receive().unwrap().tag, 'R');
        let both: Vec<u8> = passwords
            .iter()
            .flat_map(|password| message('p', &terminated(password)))
            .collect();
        wire.send_raw(&both);
        assert_eq!(error(&wire.until_closed()).sqlstate(), last);
    }
}

/// What a message and a Sync behind it are answered by: tags, and SQLSTATEs.
fn answer_to(wire: &mut Wire, bytes: &[u8]) -> (String, Vec<String>) {
    wire.send_raw(bytes);
    wire.sync();
    let mut codes = Vec::new();
    let mut seen = String::new();
    while !seen.ends_with('Z') {
        let Ok(answer) = wire.receive() else {
            seen.push_str(" and the end");
            break;
        };
        seen.push(answer.tag);
        if answer.tag == 'E' {
            codes.push(answer.sqlstate());
        }
    }
    (seen, codes)
}

fn bind_raw(statement: &str, formats: &[u16], values: &[&[u8]], result_formats: &[u16]) -> Vec<u8> {
    let shorts = |all: &[u16]| {
        let mut bytes = u16::try_from(all.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(all.iter().flat_map(|short| short.to_be_bytes()));
        bytes
    };
    let mut body = [b"\0".to_vec(), terminated(statement), shorts(formats)].concat();
    body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(*value);
    }
    body.extend(shorts(result_formats));
    message('B', &body)
}

/// What every statement of [`well_formed_nonsense_gets_the_servers_own_answer`] is bound to.
fn prepare(wire: &mut Wire) {
    wire.parse("two", "select $1::int + $2::int");
    wire.parse("plain", "select 1");
    wire.parse("texts", "select $1::text");
    wire.sync();
    assert_eq!(tags(&wire.until_ready()), "111Z");
}

#[test]
fn well_formed_nonsense_gets_the_servers_own_answer() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    let mut through = Wire::login(appliance.address(), "claude", "orders", &token);
    let mut direct = login_directly(&server);
    prepare(&mut through);
    prepare(&mut direct);
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "A37: one value too many",
            bind_raw("two", &[], &[b"1", b"2", b"3"], &[]),
        ),
        ("one value too few", bind_raw("two", &[], &[b"1"], &[])),
        ("no value", bind_raw("two", &[], &[], &[])),
        (
            "more formats than values",
            bind_raw("two", &[0, 0, 0], &[b"1", b"2"], &[]),
        ),
        (
            "more result formats than columns",
            bind_raw("two", &[], &[b"1", b"2"], &[0; 3]),
        ),
        (
            "a binary integer of three bytes",
            bind_raw("two", &[1], &[b"abc", b"abc"], &[]),
        ),
        (
            "a text that is no integer",
            bind_raw("two", &[], &[b"x", b"2"], &[]),
        ),
        (
            "a statement that is not there",
            bind_raw("none", &[], &[], &[]),
        ),
        (
            "values for a statement without",
            bind_raw("plain", &[], &[b"1"], &[]),
        ),
        (
            "bytes that are not UTF-8",
            bind_raw("texts", &[], &[b"\xff\xfe"], &[]),
        ),
        (
            "a zero byte in a text",
            bind_raw("texts", &[], &[b"a\0b"], &[]),
        ),
        ("describe of nothing", message('D', b"Snone\0")),
        ("describe of no portal", message('D', b"Pnone\0")),
        ("close of nothing", message('C', b"Snone\0")),
        ("an empty statement", message('P', b"\0\0\0\0")),
        (
            "two statements in one",
            message('P', b"\0select 1; select 2\0\0\0"),
        ),
        (
            "a type that is not there",
            message('P', b"\0select $1\0\0\x01\xff\xff\xff\xf0"),
        ),
        (
            "a parameter of a high number",
            message('P', b"\0select $65536\0\0\0"),
        ),
        (
            "a parameter of number zero",
            message('P', b"\0select $0\0\0\0"),
        ),
        (
            "no semicolon but a comment without end",
            message('P', b"\0select 1 /* \0\0\0"),
        ),
    ];
    for (what, rows) in [
        ("A38: all rows", 0),
        ("one row", 1),
        ("the highest row limit", i32::MAX),
        ("a negative row limit", -1),
    ] {
        let execute = message('E', &[&b"\0"[..], &rows.to_be_bytes()].concat());
        cases.push((what, [bind_raw("plain", &[], &[], &[]), execute].concat()));
    }
    let most = vec![&b"1"[..]; usize::from(u16::MAX)];
    cases.push(("A39: the most values", bind_raw("plain", &[], &most, &[])));
    let mut stricter = Vec::new();
    for (what, bytes) in &cases {
        let (ours, theirs) = (
            answer_to(&mut through, bytes),
            answer_to(&mut direct, bytes),
        );
        if ours == theirs {
            continue;
        }
        let refusal = ("E and the end".to_owned(), vec!["08P01".to_owned()]);
        assert_eq!(ours, refusal, "{what}: {theirs:?} without us");
        stricter.push(*what);
        through = Wire::login(appliance.address(), "claude", "orders", &token);
        prepare(&mut through);
    }
    assert_eq!(
        stricter,
        ["more formats than values", "a negative row limit"]
    );
}

#[test]
fn texts_of_unusual_size_and_depth_are_answered_and_stop_nobody() {
    let server = orders_server();
    let appliance = quick(&server);
    let mut bystander = appliance.login("bystander", "analysts");
    let mut wire = appliance.login("claude", "analysts");
    let many = |part: &str, count: usize| part.repeat(count);
    let cases = [
        (
            "A40: nested parentheses",
            format!("select {}1{}", many("(", 20_000), many(")", 20_000)),
            "EZ",
        ),
        (
            "nested subqueries",
            format!("{}select 1{}", many("select (", 5_000), many(")", 5_000)),
            "EZ",
        ),
        (
            "nested CASE",
            format!(
                "select {}1{}",
                many("case when true then ", 5_000),
                many(" end", 5_000)
            ),
            "EZ",
        ),
        (
            "many operators",
            format!("select 1{}", many(" + 1", 50_000)),
            "EZ",
        ),
        (
            "many NOTs",
            format!("select {}true", many("not ", 50_000)),
            "EZ",
        ),
        (
            "A41: statements without number",
            many("select 1;", 20_000),
            "EZ",
        ),
        ("semicolons", many(";", 100_000), "IZ"),
        (
            "comments inside each other",
            format!("{}{}", many("/*", 50_000), many("*/", 50_000)),
            "EZ",
        ),
        (
            "operators without number",
            format!("select 1 {}1", many("+-", 100_000)),
            "EZ",
        ),
        (
            "A42: a list of 100,000",
            format!("select 1 where 1 in (0{})", many(",1", 100_000)),
            "TDCZ",
        ),
        (
            "a literal of half a megabyte",
            format!("select length('{}')", many("x", MIB / 2)),
            "TDCZ",
        ),
        (
            "a text of more than a megabyte",
            format!("select length('{}')", many("x", MIB)),
            "EZ",
        ),
        (
            "a dollar quote that does not end",
            format!("select $a${}", many("x", MIB)),
            "EZ",
        ),
    ];
    for (what, text, expected) in cases {
        let answers = wire.query(&text);
        assert_eq!(tags(&answers), expected, "{what}: {:?}", &answers[..1]);
        assert_eq!(wire.value("select 1"), "1", "after {what}");
        assert_eq!(bystander.value("select 1"), "1", "after {what}");
    }
}

#[test]
fn floods_whose_answers_nobody_reads_do_not_fill_the_memory() {
    let server = orders_server();
    let extended = [
        message('P', b"\0select repeat('x', 1000)\0\0\0"),
        message('B', b"\0\0\0\0\0\0\0\0"),
        message('E', b"\0\0\0\0\0"),
        message('S', b""),
    ];
    let floods: Vec<(&str, Vec<u8>)> = vec![
        ("A43: Sync", message('S', b"")),
        ("A44: Flush", message('H', b"")),
        (
            "A45: Describe",
            [message('D', b"S\0"), message('S', b"")].concat(),
        ),
        ("A46: Close", message('C', b"Sx\0")),
        ("A47: extended queries", extended.concat()),
        (
            "A48: refused statements",
            message('Q', b"drop table orders\0"),
        ),
        ("A49: errors", message('Q', b"select 1/0\0")),
        ("A50: empty queries", message('Q', b"\0")),
        ("A51: FunctionCall", message('F', &[0; 10])),
        (
            "A52: CopyData outside of a COPY",
            message('d', &[b'x'; 1000]),
        ),
        ("A53: statements before a Sync", extended[..1].concat()),
    ];
    let live = "select count(*) from pg_stat_activity where application_name like '%deaf%'";
    for (what, bytes) in floods {
        // An appliance for each: what all of them record together wakes the archivist, whose own
        // memory (a pack) is not what is looked at here.
        let appliance = quick(&server);
        let mut bystander = appliance.login("bystander", "analysts");
        // The shard has read the catalogue before memory is measured.
        for _ in 0..16 {
            let mut wire = appliance.login("warm", "analysts");
            assert_eq!(wire.value("select count(*) from customers"), "100");
        }
        let token = appliance.token("deaf", "analysts");
        let mut deaf = Wire::login(appliance.address(), "deaf", "orders", &token);
        let before = resident_bytes(appliance.process_id());
        deaf.write_timeout(Duration::from_millis(300));
        let batch = bytes.repeat(MIB / 8 / bytes.len());
        // What is kept of a message counts as much as its bytes.
        let most = (12 * MIB).min(100_000 * bytes.len());
        let mut sent = 0;
        while sent < most && deaf.try_send_raw(&batch) {
            sent += batch.len();
        }
        assert_eq!(bystander.value("select 1"), "1", "{what}");
        let grown = resident_bytes(appliance.process_id()).saturating_sub(before);
        assert!(
            grown < 8 * MIB,
            "{what}: grew by {grown} bytes after {sent}"
        );
        deaf.reset();
        drop(deaf);
        wait_until("the session to end", || server.psql(live) == "0");
    }
}

#[test]
fn notifications_for_an_agent_that_does_not_read_do_not_fill_the_memory() {
    let server = orders_server();
    let appliance = quick(&server);
    let mut deaf = appliance.login("deaf", "analysts");
    deaf.query("listen news");
    let before = resident_bytes(appliance.process_id());
    // 78 MB in all.
    server.psql_in(
        "orders",
        "do $$ begin for n in 1..10000 loop
            perform pg_notify('news', n || repeat('x', 7800)); end loop; end $$",
    );
    let live = "select count(*) from pg_stat_activity where application_name like '%deaf%'";
    wait_until("the session to end", || {
        let grown = resident_bytes(appliance.process_id()).saturating_sub(before);
        assert!(grown < 32 * MIB, "grew by {grown} bytes");
        server.psql(live) == "0"
    });
    while !matches!(deaf.receive(), Err(Silence::Closed)) {}
}

#[test]
fn one_prepared_statement_more_than_a_session_may_hold_is_54000() {
    let server = orders_server();
    let appliance = quick(&server);
    let mut wire = appliance.login("claude", "analysts");
    const MOST: usize = 16 * 1024;
    for batch in 0..16 {
        for number in 0..MOST / 16 {
            wire.parse(&format!("s{batch}.{number}"), "select 1");
        }
        wire.sync();
        let answers = wire.until_ready();
        assert_eq!(tags(&answers).len(), MOST / 16 + 1, "{:?}", answers.last());
    }
    wire.parse("one more", "select 1");
    wire.sync();
    assert_eq!(error(&wire.until_ready()).sqlstate(), "54000");
    wire.send('C', b"Ss0.0\0");
    wire.sync();
    assert_eq!(tags(&wire.until_ready()), "3Z");
    wire.parse("one more", "select 1");
    wire.sync();
    assert_eq!(tags(&wire.until_ready()), "1Z");
}

#[test]
fn cancel_requests_of_any_length_cancel_nothing_but_their_own() {
    let server = orders_server();
    let appliance = quick(&server);
    let mut wire = appliance.login("claude", "analysts");
    wire.send('Q', b"select 'slept' from pg_sleep(2)\0");
    let running = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the statement to run", || server.psql(running) == "1");
    let (process, secret) = wire.key.clone().expect("a key");
    let code = CANCEL_REQUEST.to_be_bytes();
    let process = process.to_be_bytes();
    let short = &secret[..secret.len() - 1];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("A54: no process", untyped(&code)),
        (
            "half a process",
            untyped(&[&code[..], &process[..2]].concat()),
        ),
        ("no key", untyped(&[&code[..], &process].concat())),
        (
            "a key cut short",
            untyped(&[&code[..], &process, short].concat()),
        ),
        (
            "a key with a byte more",
            untyped(&[&code[..], &process, &secret, b"x"].concat()),
        ),
        (
            "a key of 256 bytes",
            untyped(&[&code[..], &process, &[7; 256]].concat()),
        ),
        (
            "a key of 10,000 bytes",
            untyped(&[&code[..], &process, &[7; 9_980]].concat()),
        ),
        (
            "half of the packet",
            untyped(&[&code[..], &process, &secret].concat())[..12].to_vec(),
        ),
    ];
    for (what, bytes) in &cases {
        let mut stranger = Wire::open(appliance.address());
        stranger.send_raw(bytes);
        stranger.shutdown_send();
        let answer = stranger.until_closed_raw();
        // A refusal of the packet at most: never whether the key was right.
        assert!(answer.is_empty() || answer[0] == b'E', "{what}: {answer:?}");
    }
    let answers = wire.until_ready();
    assert_eq!(answers[1].columns(), [Some("slept".to_owned())]);
}

/// Gets a peer to where it leaves; the text is a token.
type Arrive = fn(&Appliance, &str) -> Wire;

/// How far a peer gets before it leaves.
const PHASES: &[(&str, Arrive)] = &[
    ("accepted", |appliance, _| Wire::open(appliance.address())),
    ("half of a length", |appliance, _| {
        let mut wire = Wire::open(appliance.address());
        wire.send_raw(&[0, 0]);
        wire
    }),
    ("TLS asked for", |appliance, _| {
        let mut wire = Wire::open(appliance.address());
        wire.send_raw(&untyped(&SSL_REQUEST.to_be_bytes()));
        wire
    }),
    ("TLS answered", |appliance, _| {
        let mut wire = Wire::open(appliance.address());
        wire.ask(SSL_REQUEST);
        wire
    }),
    ("in the TLS handshake", |appliance, _| {
        let mut wire = Wire::open(appliance.address());
        wire.ask(SSL_REQUEST);
        wire.send_raw(&client_hello());
        wire
    }),
    ("start-up packet sent", |appliance, _| start_up(appliance)),
    ("asked for the token", |appliance, _| {
        let mut wire = start_up(appliance);
        wire.receive().unwrap();
        wire
    }),
    ("half of the token", |appliance, token| {
        let mut wire = start_up(appliance);
        wire.receive().unwrap();
        let whole = message('p', &terminated(token));
        wire.send_raw(&whole[..whole.len() / 2]);
        wire
    }),
    ("token sent", |appliance, token| {
        let mut wire = start_up(appliance);
        wire.receive().unwrap();
        wire.send('p', &terminated(token));
        wire
    }),
    ("token and a query sent at once", |appliance, token| {
        let mut wire = Wire::open(appliance.address());
        let startup = startup_packet(PROTOCOL_3_0, &[("user", "x"), ("database", "orders")]);
        let password = message('p', &terminated(token));
        wire.send_raw(&[startup, password, message('Q', b"select 1\0")].concat());
        wire
    }),
    ("logged in", |appliance, token| logged_in(appliance, token)),
    ("half of a query", |appliance, token| {
        let mut wire = logged_in(appliance, token);
        wire.send_raw(&message('Q', b"select 1\0")[..7]);
        wire
    }),
    ("query sent", |appliance, token| {
        let mut wire = logged_in(appliance, token);
        wire.send('Q', b"select pg_sleep(0.01)\0");
        wire
    }),
    ("refused query sent", |appliance, token| {
        let mut wire = logged_in(appliance, token);
        wire.send('Q', b"drop table orders\0");
        wire
    }),
    ("half of the answer read", |appliance, token| {
        let mut wire = logged_in(appliance, token);
        wire.send(
            'Q',
            b"select repeat('x', 1000) from generate_series(1, 100000)\0",
        );
        wire.receive().unwrap();
        wire
    }),
    ("parsed and not synced", |appliance, token| {
        let mut wire = logged_in(appliance, token);
        wire.parse("", "select 1");
        wire
    }),
    ("in a transaction", |appliance, token| {
        let mut wire = logged_in(appliance, token);
        wire.query("begin; lock table orders in row exclusive mode");
        wire
    }),
    ("in a COPY", |appliance, token| {
        let mut wire = logged_in(appliance, token);
        wire.send('Q', b"copy customers (id, name) from stdin\0");
        wire.receive().unwrap();
        wire
    }),
    ("goodbye said", |appliance, token| {
        let mut wire = logged_in(appliance, token);
        wire.send('X', b"");
        wire
    }),
];

fn start_up(appliance: &Appliance) -> Wire {
    let mut wire = Wire::open(appliance.address());
    wire.send_startup(PROTOCOL_3_0, &[("user", "x"), ("database", "orders")]);
    wire
}

fn logged_in(appliance: &Appliance, token: &str) -> Wire {
    Wire::login(appliance.address(), "claude", "orders", token)
}

/// A55, in each phase by end of stream, reset, and a half-close.
#[test]
fn peers_that_leave_in_any_phase_leave_nothing_open() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.tables = "[limits]\nlogin_deadline = \"1s\"\nwrite_deadline = \"1s\"\n".into();
    setup.target_keys = "pool = { connections = 4, warm = 1 }".into();
    let appliance = Appliance::start(&setup);
    let token = appliance.token("claude", "analysts");
    let mut bystander = appliance.login("bystander", "analysts");
    let before = open_sockets(appliance.process_id());
    type Leave = fn(&Wire);
    let ends: [(&str, Leave); 3] = [
        ("close", |_| {}),
        ("reset", Wire::reset),
        ("half-close", Wire::shutdown_send),
    ];
    for (phase, arrive) in PHASES {
        for (how, end) in ends {
            let wires: Vec<Wire> = (0..3).map(|_| arrive(&appliance, &token)).collect();
            for mut wire in wires {
                end(&wire);
                if how == "half-close" {
                    wire.until_closed_raw();
                }
            }
            assert_eq!(bystander.value("select 1"), "1", "{phase}, {how}");
        }
    }
    // The pool may keep the connections that it is allowed.
    wait_until("all sockets to be closed", || {
        open_sockets(appliance.process_id()) <= before + 3
    });
    let busy = "select count(*) from pg_stat_activity where usename = 'svc' and state <> 'idle'";
    wait_until("the target to be left alone", || server.psql(busy) == "0");
    assert_eq!(bystander.value("select count(*) from customers"), "100");
    assert!(!appliance.log().contains("panic"), "{}", appliance.log());
}

/// A56: every place for strangers is taken, again and again, in each phase before proof.
#[test]
fn a_flood_of_half_open_handshakes_slows_no_session() {
    const PLACES: usize = 256;
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.tables = format!(
        "[limits]\nlogin_deadline = \"5s\"\nunauthenticated = {PLACES}\nunauthenticated_per_address = 64\n"
    );
    let appliance = Appliance::start(&setup);
    let token = appliance.token("claude", "analysts");
    let mut session = Wire::login(appliance.address(), "claude", "orders", &token);
    let hello = client_hello();
    let startup = startup_packet(PROTOCOL_3_0, &[("user", "x"), ("database", "orders")]);
    for wave in 0..8 {
        let mut strangers = Vec::new();
        // From enough addresses to take all places, and as many again that find none.
        for number in 0..2 * PLACES {
            let from = [127, 0, 2, u8::try_from(number % 8 + 1).unwrap()];
            let mut stranger = Wire::open_from(from, appliance.address());
            match number % 4 {
                0 => {}
                1 => stranger.send_raw(&startup[..startup.len() / 2]),
                2 => stranger.send_raw(&startup),
                _ => stranger
                    .send_raw(&[untyped(&SSL_REQUEST.to_be_bytes()), hello.clone()].concat()),
            }
            strangers.push(stranger);
            assert_eq!(
                session.value("select 1"),
                "1",
                "wave {wave}, stranger {number}"
            );
        }
        let open = open_sockets(appliance.process_id());
        assert!(open < PLACES + 40, "{open} sockets are open");
        // Full: one more is closed without a word, from whichever address.
        let mut late = Wire::open_from([127, 0, 3, 1], appliance.address());
        late.send_raw(&startup);
        let full = late.until_closed_raw().is_empty();
        for _ in 0..200 {
            assert_eq!(session.value("select 1"), "1");
        }
        drop(strangers);
        assert!(full, "wave {wave}: there was a place left");
        wait_until("places again", || {
            open_sockets(appliance.process_id()) < PLACES / 2
        });
        let mut later = Wire::login(appliance.address(), "claude", "orders", &token);
        assert_eq!(later.value("select 1"), "1");
    }
}
