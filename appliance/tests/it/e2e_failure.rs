//! Targets that are killed, stopped, restarted or full under running sessions: who is there gets a
//! clean error, and the appliance needs no help to come back.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::postgres::Server;
use crate::wire::{Message, Wire, error, tags};

const POOL: &str =
    "pool = { connections = 8, warm = 1, connect_deadline = \"1s\", queue_deadline = \"1s\" }";

fn appliance_for(server: &Server) -> Appliance {
    let mut setup = Setup::for_server(server);
    setup.shards = 1;
    setup.target_keys = POOL.into();
    Appliance::start(&setup)
}

fn signal(process: &str, signal: Signal) {
    let process = Pid::from_raw(process.parse().unwrap()).unwrap();
    kill_process(process, signal).unwrap();
}

fn check_end(what: &str, messages: &[Message], sqlstates: &[&str]) {
    let last = messages.last().unwrap_or_else(|| panic!("{what}: no word"));
    assert_eq!(last.tag, 'E', "{what}: {messages:?}");
    assert_eq!(last.field('S').as_deref(), Some("FATAL"), "{what}");
    assert!(
        sqlstates.contains(&last.sqlstate().as_str()),
        "{what}: {last:?}"
    );
}

/// Logins work again without anybody's doing.
fn check_recovers(appliance: &Appliance) {
    let token = appliance.token("claude", "analysts");
    wait_until("logins again", || {
        appliance.try_login("orders", &token).is_ok()
    });
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(wire.value("select count(*) from orders"), "1000");
}

/// Sessions in each state that the end of a server can find them in.
fn sessions(appliance: &Appliance, server: &Server) -> Vec<(&'static str, Wire)> {
    let token = appliance.token("claude", "analysts");
    let login = || Wire::login(appliance.address(), "claude", "orders", &token);
    let idle = login();
    let mut transaction = login();
    transaction.query("begin; update orders set total = 0 where id = 1");
    let mut running = login();
    running.send('Q', b"select pg_sleep(600)\0");
    let mut copying = login();
    copying.send('Q', b"copy customers (id, name) from stdin\0");
    assert_eq!(copying.receive().unwrap().tag, 'G');
    copying.send('d', b"9001\thalf\n90");
    let mut pipelining = login();
    pipelining.parse("", "select $1::int");
    for _ in 0..3 {
        pipelining.bind("", "", &[Some("1")]);
        pipelining.execute("", 0);
    }
    pipelining.send('H', b"");
    assert_eq!(pipelining.receive().unwrap().tag, '1');
    let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the statement to run", || server.psql(sleeping) == "1");
    vec![
        ("idle", idle),
        ("in a transaction", transaction),
        ("running", running),
        ("in a COPY", copying),
        ("in a pipeline", pipelining),
    ]
}

#[test]
fn a_killed_backend_takes_all_sessions_along_and_the_next_ones_work() {
    let server = orders_server();
    let appliance = appliance_for(&server);
    let mut sessions = sessions(&appliance, &server);
    let backend = server.psql("select pid from pg_stat_activity where wait_event = 'PgSleep'");
    // The server ends all of its backends when one of them dies: they share memory.
    signal(&backend, Signal::KILL);
    for (what, wire) in &mut sessions {
        let messages = wire.until_closed();
        check_end(what, &messages, &["57P02", "08006"]);
    }
    check_recovers(&appliance);
}

#[test]
fn a_killed_server_ends_all_sessions_and_comes_back_by_itself() {
    let mut server = orders_server();
    let appliance = appliance_for(&server);
    for _ in 0..2 {
        let mut sessions = sessions(&appliance, &server);
        server.kill();
        for (what, wire) in &mut sessions {
            // Backends see that their server is gone when they wait the next time.
            check_end(what, &wire.until_closed(), &["08006", "57P01", "57P02"]);
        }
        let token = appliance.token("claude", "analysts");
        let refusal = appliance
            .try_login("orders", &token)
            .err()
            .expect("refused");
        assert!(
            ["08001", "08006"].contains(&refusal.sqlstate().as_str()),
            "{refusal:?}"
        );
        server.resume();
        check_recovers(&appliance);
    }
}

#[test]
fn a_restarted_server_ends_its_sessions_with_its_own_words() {
    let mut server = orders_server();
    let appliance = appliance_for(&server);
    for _ in 0..3 {
        let mut sessions = sessions(&appliance, &server);
        server.stop_fast();
        server.resume();
        for (what, wire) in &mut sessions {
            check_end(what, &wire.until_closed(), &["57P01"]);
        }
        check_recovers(&appliance);
    }
}

#[test]
fn a_stopped_server_refuses_logins_at_the_deadline_and_goes_on_where_it_was() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = POOL.replace("warm = 1", "warm = 0");
    let appliance = Appliance::start(&setup);
    let mut open = appliance.login("open", "analysts");
    let token = appliance.token("claude", "analysts");
    signal(&server.process_id().to_string(), Signal::STOP);
    // Its backends run on; a new one needs the postmaster.
    assert_eq!(open.value("select 1"), "1");
    let refusal = appliance
        .try_login("orders", &token)
        .err()
        .expect("refused");
    assert_eq!(refusal.sqlstate(), "08001");
    assert_eq!(open.value("select 1"), "1");
    signal(&server.process_id().to_string(), Signal::CONT);
    check_recovers(&appliance);
}

#[test]
fn a_stopped_backend_holds_its_own_session_and_no_other() {
    let server = orders_server();
    let appliance = appliance_for(&server);
    let mut held = appliance.login("held", "analysts");
    let mut other = appliance.login("other", "analysts");
    let backend = held.value("select pg_backend_pid()");
    signal(&backend, Signal::STOP);
    held.send('Q', b"select 'late'\0");
    assert_eq!(other.value("select 1"), "1");
    assert!(held.is_silent_for(Duration::from_millis(200)));
    signal(&backend, Signal::CONT);
    assert_eq!(tags(&held.until_ready()), "TDCZ");
    // Stopped again under a statement whose agent leaves: the connection is not used again.
    signal(&backend, Signal::STOP);
    held.send('Q', b"select 'never read'\0");
    drop(held);
    for _ in 0..8 {
        let mut next = appliance.login("next", "analysts");
        assert_ne!(next.value("select pg_backend_pid()"), backend);
    }
    signal(&backend, Signal::CONT);
    let gone = format!("select count(*) from pg_stat_activity where pid = {backend}");
    wait_until("the backend to end", || server.psql(&gone) == "0");
}

#[test]
fn a_backend_that_is_stopped_while_it_is_reset_is_not_handed_out() {
    let server = orders_server();
    let appliance = appliance_for(&server);
    let mut first = appliance.login("first", "analysts");
    let backend = first.value("select pg_backend_pid()");
    signal(&backend, Signal::STOP);
    first.send('X', b"");
    drop(first);
    for _ in 0..4 {
        let mut next = appliance.login("next", "analysts");
        assert_ne!(next.value("select pg_backend_pid()"), backend);
    }
    signal(&backend, Signal::CONT);
    check_recovers(&appliance);
}

#[test]
fn a_server_without_a_free_connection_is_53300_until_it_has_one() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = POOL.replace("warm = 1", "warm = 0");
    let appliance = Appliance::start(&setup);
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let parameters = [("user", "direct"), ("database", "orders")];
    let mut others = Vec::new();
    while let Ok(wire) = Wire::try_login(address, &parameters, "") {
        others.push(wire);
    }
    let token = appliance.token("claude", "analysts");
    for _ in 0..3 {
        let refusal = appliance
            .try_login("orders", &token)
            .err()
            .expect("refused");
        assert_eq!(refusal.sqlstate(), "53300", "{refusal:?}");
    }
    drop(others);
    check_recovers(&appliance);
}

#[test]
fn a_server_that_refuses_by_its_rules_does_so_until_they_change() {
    let server = orders_server();
    let appliance = appliance_for(&server);
    let mut open = appliance.login("open", "analysts");
    server.psql("alter role svc nologin");
    let token = appliance.token("claude", "analysts");
    // What is pooled still serves; then the server's refusal shows, and says nothing of the account.
    let mut held = Vec::new();
    let refusal = loop {
        match appliance.try_login("orders", &token) {
            Ok(wire) => held.push(wire),
            Err(refusal) => break refusal,
        }
        assert!(held.len() < 8, "the server lets them in");
    };
    assert_eq!(refusal.sqlstate(), "08004");
    assert!(!format!("{refusal:?}").contains("svc"), "{refusal:?}");
    assert_eq!(open.value("select 1"), "1");
    server.psql("alter role svc login");
    check_recovers(&appliance);
}

#[test]
fn a_server_in_recovery_is_waited_for() {
    let mut server = orders_server();
    let appliance = appliance_for(&server);
    let mut wire = appliance.login("claude", "analysts");
    wire.query("create table filled as select generate_series(1, 200000) as n");
    server.stop();
    let messages = wire.until_closed();
    assert!(["08006", "57P01", "57P02"].contains(&error(&messages).sqlstate().as_str()));
    server.resume();
    check_recovers(&appliance);
}
