//! Peers that are malformed, huge, slow, silent or many: each is bounded, and others go on.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::process::{open_sockets, resident_bytes};
use crate::wire::{
    GSSENC_REQUEST, Message, PATIENCE, PROTOCOL_3_0, SSL_REQUEST, Silence, Wire, error, message,
    startup_packet, tags, untyped,
};

/// Short deadlines, so that a test that waits for one is quick.
const QUICK: &str =
    "[limits]\nlogin_deadline = \"1s\"\nwrite_deadline = \"1s\"\nmessage_bytes = \"64KiB\"\n";

const MESSAGE_BYTES: usize = 64 * 1024;

fn length_and(length: i32, rest: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], rest].concat()
}

/// The connection must end, and a FATAL before it must be one of a few.
fn check_ended(what: &str, messages: &[Message]) {
    for message in messages.iter().filter(|message| message.tag == 'E') {
        let code = message.sqlstate();
        let known = [
            "08P01", "54000", "0A000", "28P01", "28000", "08000", "57014",
        ];
        assert!(known.contains(&code.as_str()), "{what}: {message:?}");
    }
    let answered = messages.iter().any(|message| "TDC".contains(message.tag));
    assert!(!answered, "{what}: {messages:?}");
}

#[test]
fn malformed_first_packets_end_their_connection_and_no_other() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let mut bystander = appliance.login("bystander", "analysts");
    let version = PROTOCOL_3_0.to_be_bytes();
    let mut no_terminator = version.to_vec();
    no_terminator.extend(b"user\0agent\0");
    let mut text_after_end = version.to_vec();
    text_after_end.extend(b"user\0agent\0\0trailing\0");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("length zero", length_and(0, &version)),
        ("length three", length_and(3, &[])),
        ("length seven", length_and(7, &[0, 0, 0])),
        ("negative length", length_and(-1, &version)),
        ("lowest length", length_and(i32::MIN, &version)),
        ("highest length", length_and(i32::MAX, &version)),
        ("length of 10001", length_and(10_001, &version)),
        ("protocol 2", startup_packet(2 << 16, &[("user", "agent")])),
        ("protocol 4", startup_packet(4 << 16, &[("user", "agent")])),
        ("protocol 0", startup_packet(0, &[])),
        ("no terminator", untyped(&no_terminator)),
        ("text after the terminator", untyped(&text_after_end)),
        (
            "no user",
            startup_packet(PROTOCOL_3_0, &[("database", "orders")]),
        ),
        (
            "two users",
            startup_packet(PROTOCOL_3_0, &[("user", "a"), ("user", "b")]),
        ),
        (
            "replication",
            startup_packet(PROTOCOL_3_0, &[("user", "a"), ("replication", "true")]),
        ),
        (
            "logical replication",
            startup_packet(
                PROTOCOL_3_0,
                &[
                    ("user", "a"),
                    ("replication", "database"),
                    ("database", "orders"),
                ],
            ),
        ),
        (
            "not UTF-8",
            untyped(&[&version[..], b"user\0\xff\xfe\0\0"].concat()),
        ),
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("zeros", vec![0; 4096]),
        (
            "cancel with a short key",
            untyped(&[&80_877_102i32.to_be_bytes()[..], &[0, 0, 0, 1]].concat()),
        ),
        (
            "TLS request with a body",
            untyped(&[&SSL_REQUEST.to_be_bytes()[..], &[0; 4]].concat()),
        ),
        ("password before start-up", message('p', b"x\0")),
        ("query before start-up", message('Q', b"select 1\0")),
    ];
    for (what, bytes) in cases {
        let mut wire = Wire::open(appliance.address());
        wire.send_raw(&bytes);
        check_ended(what, &wire.until_closed());
        assert_eq!(bystander.value("select 1"), "1", "after {what}");
    }
}

#[test]
fn a_first_packet_of_any_cut_waits_and_then_ends_at_the_deadline() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let packet = startup_packet(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
    let started = Instant::now();
    let mut wires: Vec<Wire> = (0..packet.len())
        .map(|cut| {
            let mut wire = Wire::open(appliance.address());
            wire.send_raw(&packet[..cut]);
            wire
        })
        .collect();
    for wire in &mut wires {
        check_ended("cut", &wire.until_closed());
    }
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
    // Closed by the client instead: nothing to answer.
    for cut in 0..packet.len() {
        let mut wire = Wire::open(appliance.address());
        wire.send_raw(&packet[..cut]);
        wire.shutdown_send();
        check_ended("half closed", &wire.until_closed());
    }
}

#[test]
fn a_token_is_asked_for_only_after_the_request_for_tls_was_answered() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = Wire::open(appliance.address());
    assert_eq!(wire.ask(GSSENC_REQUEST), b'N');
    assert_eq!(wire.ask(SSL_REQUEST), b'S');
    // The start-up packet in clear text, where the handshake is expected: what was sent before
    // the handshake is never read after it (CVE-2021-23214).
    wire.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
    let bytes = wire.until_closed_raw();
    assert!(
        !bytes.contains(&b'R'),
        "asked for the token in clear text: {bytes:?}"
    );
}

#[test]
fn bytes_sent_together_with_the_request_for_tls_are_refused() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = Wire::open(appliance.address());
    let request = untyped(&SSL_REQUEST.to_be_bytes());
    let startup = startup_packet(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
    wire.send_raw(&[request, startup].concat());
    let bytes = wire.until_closed_raw();
    assert!(bytes.len() < 256, "{bytes:?}");
}

#[test]
fn malformed_messages_where_the_token_is_expected_end_the_connection() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let mut bystander = appliance.login("bystander", "analysts");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("query", message('Q', b"select 1\0")),
        ("sync", message('S', b"")),
        ("unknown tag", message('~', b"x")),
        ("no terminator", message('p', b"token")),
        ("text after the terminator", message('p', b"token\0more\0")),
        ("empty", message('p', b"")),
        ("length three", [&b"p"[..], &3i32.to_be_bytes()].concat()),
        (
            "negative length",
            [&b"p"[..], &(-5i32).to_be_bytes()].concat(),
        ),
        (
            "a gigabyte",
            [&b"p"[..], &(1i32 << 30).to_be_bytes()].concat(),
        ),
        ("terminate", message('X', b"")),
    ];
    for (what, bytes) in cases {
        let mut wire = Wire::open(appliance.address());
        wire.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
        assert_eq!(wire.receive().unwrap().tag, 'R', "{what}");
        wire.send_raw(&bytes);
        check_ended(what, &wire.until_closed());
        assert_eq!(bystander.value("select 1"), "1", "after {what}");
    }
}

#[test]
fn malformed_messages_of_a_session_end_it_and_no_other() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let mut bystander = appliance.login("bystander", "analysts");
    let token = appliance.token("mallory", "analysts");
    let head = |tag: u8, length: i32| [&[tag][..], &length.to_be_bytes()].concat();
    let count_but_no_values = [&b"\0\0\0\0"[..], &7u16.to_be_bytes()].concat();
    let value_longer_than_message = [
        &b"\0\0\0\0"[..],
        &1u16.to_be_bytes(),
        &100i32.to_be_bytes(),
        b"abc",
        &[0, 0],
    ]
    .concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("unknown tag", message('~', b"x")),
        ("tag zero", vec![0, 0, 0, 0, 4]),
        ("a backend's tag", message('Z', b"I")),
        ("length three", head(b'Q', 3)),
        ("negative length", head(b'Q', -1)),
        ("lowest length", head(b'Q', i32::MIN)),
        ("highest length", head(b'Q', i32::MAX)),
        ("longer than any message", head(b'B', (1 << 30) + 1)),
        ("query without terminator", message('Q', b"select 1")),
        (
            "query with a zero inside",
            message('Q', b"select 1\0; drop table orders\0"),
        ),
        ("query with bytes behind", message('Q', b"select 1\0x")),
        ("parse cut short", message('P', b"\0select 1\0\0")),
        (
            "parse with bytes behind",
            message('P', b"\0select 1\0\0\0x"),
        ),
        ("bind without values", message('B', &count_but_no_values)),
        (
            "bind with a long value",
            message('B', &value_longer_than_message),
        ),
        (
            "bind with a negative value",
            message(
                'B',
                &[
                    &b"\0\0\0\0"[..],
                    &1u16.to_be_bytes(),
                    &(-2i32).to_be_bytes(),
                    &[0, 0],
                ]
                .concat(),
            ),
        ),
        (
            "bind with an unknown format",
            message(
                'B',
                &[
                    &b"\0\0"[..],
                    &1u16.to_be_bytes(),
                    &2u16.to_be_bytes(),
                    &[0, 0, 0, 0],
                ]
                .concat(),
            ),
        ),
        ("describe of nothing", message('D', b"X\0")),
        ("execute cut short", message('E', b"\0\0")),
        ("close of nothing", message('C', b"Q\0")),
        ("sync with a body", message('S', b"x")),
        ("flush with a body", message('H', b"x")),
        ("terminate with a body", message('X', b"x")),
        ("password in a session", message('p', b"again\0")),
        (
            "start-up in a session",
            startup_packet(PROTOCOL_3_0, &[("user", "agent")]),
        ),
        ("function call cut short", message('F', &[0, 0, 0, 1, 0])),
    ];
    for (what, bytes) in cases {
        let mut wire = Wire::login(appliance.address(), "mallory", "orders", &token);
        wire.send_raw(&bytes);
        let messages = wire.until_closed();
        check_ended(what, &messages);
        let fatal = error(&messages);
        assert!(
            ["08P01", "54000"].contains(&fatal.sqlstate().as_str()),
            "{what}: {fatal:?}"
        );
        assert_eq!(bystander.value("select 1"), "1", "after {what}");
    }
    assert!(
        !server.log().contains("drop table"),
        "a hidden second statement went through"
    );
}

#[test]
fn the_longest_message_passes_and_one_byte_more_is_54000() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let token = appliance.token("claude", "analysts");
    // The limit counts the length field and the body, as PostgreSQL counts.
    let longest = MESSAGE_BYTES - 4 - 1;
    let statement = |bytes: usize| format!("select 1 /*{}*/", "x".repeat(bytes - 13));
    assert_eq!(statement(longest).len(), longest);
    let mut wire = Wire::login(appliance.address(), "claude", "orders", &token);
    assert_eq!(tags(&wire.query(&statement(longest))), "TDCZ");
    // The connection survives it, in a transaction as an error would leave it.
    wire.query("begin");
    let refused = wire.query(&statement(longest + 1));
    assert_eq!(tags(&refused), "EZ");
    assert_eq!(error(&refused).sqlstate(), "54000");
    assert_eq!(refused.last().unwrap().status(), 'E');
    wire.query("rollback");

    wire.parse("", "select 1");
    wire.parse("", &statement(longest + 1));
    wire.sync();
    let refused = wire.until_ready();
    assert_eq!(tags(&refused), "1EZ");
    assert_eq!(error(&refused).sqlstate(), "54000");
    // As after any Parse that fails, the unnamed statement is gone.
    wire.bind("", "", &[]);
    wire.sync();
    assert_eq!(error(&wire.until_ready()).sqlstate(), "26000");
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn bound_values_over_the_limit_of_texts_pass_and_have_one_of_their_own() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.replace("message_bytes", "bind_bytes = \"200KiB\"\nmessage_bytes");
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    let limit = 200 * 1024;
    // Portal, statement, no formats, one value with its length, no result formats.
    let around = 4 + 1 + 1 + 2 + 2 + 4 + 2;
    for (bytes, expected) in [
        (MESSAGE_BYTES - around, "12DCZ"),
        (MESSAGE_BYTES - around + 1, "12DCZ"),
        (limit - around, "12DCZ"),
        (limit - around + 1, "1EZ"),
        (3 * limit, "1EZ"),
    ] {
        wire.parse("", "select length($1::text), md5($1)");
        let value = "v".repeat(bytes);
        wire.bind("", "", &[Some(&value)]);
        wire.execute("", 0);
        wire.sync();
        let answer = wire.until_ready();
        assert_eq!(tags(&answer), expected, "{bytes}");
        match answer.iter().find(|m| m.tag == 'D') {
            Some(row) => assert_eq!(row.columns()[0], Some(bytes.to_string())),
            None => assert_eq!(error(&answer).sqlstate(), "54000"),
        }
    }
    // What the server skips after an error is skipped whole.
    wire.parse("", "select nonsense from nowhere");
    wire.bind("", "", &[Some(&"v".repeat(limit / 2))]);
    wire.sync();
    assert_eq!(tags(&wire.until_ready()), "EZ");
    // Names are looked at as those of a short one.
    wire.bind("", &"n".repeat(64), &[Some(&"v".repeat(limit / 2))]);
    wire.sync();
    assert_eq!(error(&wire.until_ready()).sqlstate(), "42622");
    assert_eq!(wire.value("select 1"), "1");

    // A session that ends inside of one leaves no half of it to the next.
    let body = [
        &b"\0\0\0\0\0\x01"[..],
        &100_000i32.to_be_bytes(),
        &[b'v'; 50_000],
    ]
    .concat();
    let mut head = vec![b'B'];
    head.extend(100_016i32.to_be_bytes());
    wire.send_raw(&[head, body].concat());
    wire.shutdown_send();
    wire.until_closed_raw();
    assert_eq!(appliance.login("claude", "analysts").value("select 1"), "1");

    // Each is in the recording as one message, however many stretches it came in.
    let said: Vec<String> = appliance
        .sessions()
        .iter()
        .flat_map(|session| appliance.replay(session["id"].as_str().unwrap()))
        .filter(|event| event["kind"] == "bind")
        .map(|event| format!("{} {}", event["message"], event["verdict"]))
        .collect();
    let whole = said
        .iter()
        .filter(|said| said.starts_with("\"Bind\""))
        .count();
    assert_eq!((whole, said.len()), (7, 8), "{said:?}");
}

#[test]
fn copy_data_outside_of_a_copy_is_ignored_as_postgresql_does() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut through = appliance.login("claude", "analysts");
    let mut direct = crate::appliance::login_directly(&server);
    let talk = |wire: &mut Wire| {
        wire.send('d', b"stray");
        wire.send('c', b"");
        wire.send('f', b"stray\0");
        tags(&wire.query("select 1"))
    };
    assert_eq!(talk(&mut through), talk(&mut direct));
}

#[test]
fn a_silent_peer_is_closed_at_the_login_deadline_in_every_phase() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let mut silent = Wire::open(appliance.address());
    let mut in_handshake = Wire::open(appliance.address());
    assert_eq!(in_handshake.ask(SSL_REQUEST), b'S');
    let mut before_token = Wire::open(appliance.address());
    before_token.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
    let mut dripping = Wire::open(appliance.address());
    let started = Instant::now();
    // One byte at a time does not renew the deadline.
    let packet = startup_packet(
        PROTOCOL_3_0,
        &[("user", &"x".repeat(2000)), ("database", "orders")],
    );
    let mut sent = 0;
    while started.elapsed() < Duration::from_millis(1500) && sent < packet.len() {
        dripping.send_raw(&packet[sent..=sent]);
        sent += 1;
        dripping.is_silent_for(Duration::from_millis(5));
    }
    for (phase, wire) in [
        ("silent", &mut silent),
        ("handshake", &mut in_handshake),
        ("token", &mut before_token),
        ("dripping", &mut dripping),
    ] {
        wire.until_closed_raw();
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{phase}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn a_session_that_never_reads_is_ended_and_takes_no_memory_with_it() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    setup.shards = 1;
    let appliance = Appliance::start(&setup);
    let mut bystander = appliance.login("bystander", "analysts");
    let mut deaf = appliance.login("deaf", "analysts");
    let before = resident_bytes(appliance.process_id());
    // 400 MB, of which the client reads nothing.
    deaf.send(
        'Q',
        b"select repeat('x', 1000000) from generate_series(1, 400)\0",
    );
    let running = "select count(*) from pg_stat_activity where query like '%400)%' and pid <> pg_backend_pid()";
    wait_until("the target to be rid of the query", || {
        assert_eq!(bystander.value("select 1"), "1", "others wait");
        server.psql(&format!("{running} and state = 'active'")) == "0"
    });
    let grown = resident_bytes(appliance.process_id()).saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes");
    // Whatever was in flight, then the end.
    let mut taken = 0;
    loop {
        match deaf.receive() {
            Ok(message) => taken += message.body.len(),
            Err(Silence::Closed) => break,
            Err(Silence::TimedOut) => panic!("still open after {taken} bytes"),
        }
    }
    assert!(taken < 300 << 20, "{taken} bytes were kept for it");
}

#[test]
fn a_session_that_sends_and_never_reads_does_not_fill_the_memory() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let mut deaf = appliance.login("deaf", "analysts");
    let before = resident_bytes(appliance.process_id());
    deaf.write_timeout(Duration::from_millis(500));
    let batch: Vec<u8> = (0..100)
        .flat_map(|_| message('Q', b"select repeat('y', 2000)\0"))
        .collect();
    let started = Instant::now();
    let mut sent = 0;
    while started.elapsed() < PATIENCE && deaf.try_send_raw(&batch) {
        sent += batch.len();
    }
    let grown = resident_bytes(appliance.process_id()).saturating_sub(before);
    assert!(grown < 48 << 20, "grew by {grown} bytes after {sent}");
    let mut bystander = appliance.login("bystander", "analysts");
    assert_eq!(bystander.value("select 1"), "1");
}

#[test]
fn half_open_connections_are_let_go() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let wires: Vec<Wire> = (0..8)
        .map(|_| appliance.login("claude", "analysts"))
        .collect();
    for wire in &wires {
        wire.shutdown_send();
    }
    let live = "select count(*) from pg_stat_activity where usename = 'svc' and application_name like '%claude%'";
    wait_until("the sessions to end", || server.psql(live) == "0");
}

/// One file descriptor here and one there for each: as many as the limit of this process allows,
/// 10,000 at most.
fn strangers_wanted() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("a limit");
    let soft: usize = line
        .split_whitespace()
        .nth(3)
        .expect("a number")
        .parse()
        .unwrap();
    (soft.saturating_sub(500)).min(10_000)
}

#[test]
fn ten_thousand_strangers_are_capped_logged_once_and_keep_nobody_out() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[limits]\nlogin_deadline = \"5s\"\nunauthenticated = 512\nunauthenticated_per_address = 64\n".into();
    let appliance = Appliance::start(&setup);
    let token = appliance.token("claude", "analysts");
    let mut bystander = Wire::login(appliance.address(), "claude", "orders", &token);
    let lines_before = appliance.log().lines().count();

    let wanted = strangers_wanted();
    let mut strangers = Vec::with_capacity(wanted);
    for count in 0..wanted {
        strangers.push(Wire::open_from([127, 0, 0, 2], appliance.address()));
        if count % 1000 == 0 {
            assert_eq!(bystander.value("select 1"), "1", "with {count} strangers");
        }
    }
    let open = open_sockets(appliance.process_id());
    assert!(
        open < 1200,
        "{open} sockets are open for {wanted} strangers"
    );
    // Another address still gets in while the first has all its places taken.
    let wire = Wire::open_from([127, 0, 0, 3], appliance.address());
    let login = wire.authenticate(&[("user", "a"), ("database", "orders")], &token);
    assert_eq!(login.unwrap().value("select 1"), "1");
    assert_eq!(bystander.value("select 1"), "1");
    let lines = appliance.log().lines().count() - lines_before;
    assert!(lines < 50, "{lines} log lines");
    drop(strangers);
    let mut later = Wire::login(appliance.address(), "claude", "orders", &token);
    assert_eq!(later.value("select 1"), "1");
}

#[test]
fn garbage_from_many_connections_at_once_stops_nobody() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = QUICK.into();
    let appliance = Appliance::start(&setup);
    let mut bystander = appliance.login("bystander", "analysts");
    let address = appliance.address();
    std::thread::scope(|scope| {
        for seed in 0..4u64 {
            scope.spawn(move || flood(address, seed));
        }
        for _ in 0..50 {
            assert_eq!(bystander.value("select 1"), "1");
        }
    });
    assert_eq!(bystander.value("select 1"), "1");
    assert!(!appliance.log().contains("panic"), "{}", appliance.log());
}

/// 200 connections with bytes of a small generator, some behind a good first packet.
fn flood(address: SocketAddr, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..200 {
        let mut wire = Wire::open_from([127, 0, 1, u8::try_from(seed + 1).unwrap()], address);
        if round % 2 == 0 {
            wire.send_startup(PROTOCOL_3_0, &[("user", "agent"), ("database", "orders")]);
        }
        let bytes: Vec<u8> = (0..next() % 300).map(|_| next().to_le_bytes()[0]).collect();
        wire.send_raw(&bytes);
    }
}
