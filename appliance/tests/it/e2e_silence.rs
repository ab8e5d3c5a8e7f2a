//! Sessions that say nothing: idle ones, ones that wait for notifications, and peers that are gone.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::wire::{error, status, tags};

#[test]
fn a_session_that_listens_outlives_the_idle_limit_and_hears_what_comes() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[session]\nidle = \"1s\"\n".into();
    let appliance = Appliance::start(&setup);
    let mut listening = appliance.login("listener", "analysts");
    assert_eq!(tags(&listening.query("listen orders_changed")), "CZ");
    let mut prepared = appliance.login("preparer", "analysts");
    prepared.parse("", "listen orders_changed");
    prepared.bind("", "", &[]);
    prepared.execute("", 0);
    prepared.sync();
    assert_eq!(tags(&prepared.until_ready()), "12CZ");
    for _ in 0..2 {
        // Its end says that the limit has passed, for the others as well.
        let mut idle = appliance.login("idler", "analysts");
        assert_eq!(error(&idle.until_closed()).sqlstate(), "57P05");
    }
    server.psql_in("orders", "notify orders_changed, 'order 7'");
    for wire in [&mut listening, &mut prepared] {
        let heard = wire.receive().unwrap();
        assert_eq!(heard.tag, 'A', "{heard:?}");
        assert_eq!(heard.body[4..], *b"orders_changed\0order 7\0");
        assert_eq!(wire.value("select 1"), "1");
    }
}

#[test]
fn a_session_that_listens_has_an_idle_limit_of_its_own() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[session]\nidle_listening = \"1s\"\n".into();
    let appliance = Appliance::start(&setup);
    let mut idle = appliance.login("idler", "analysts");
    let mut listening = appliance.login("listener", "analysts");
    listening.query("listen orders_changed");
    assert_eq!(error(&listening.until_closed()).sqlstate(), "57P05");
    assert_eq!(idle.value("select 1"), "1");
}

#[test]
fn a_session_that_is_silent_in_a_transaction_is_ended_and_rolled_back() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[session]\nidle_in_transaction = \"1s\"\n".into();
    let appliance = Appliance::start(&setup);
    let mut idle = appliance.login("idler", "analysts");
    assert_eq!(idle.value("select 1"), "1");
    for failed in [false, true] {
        let mut wire = appliance.login("holder", "analysts");
        wire.query("begin; insert into orders values (6001, 1, 1)");
        if failed {
            wire.query("select 1/0");
        }
        let messages = wire.until_closed();
        assert_eq!(error(&messages).sqlstate(), "25P03", "{messages:?}");
    }
    wait_until("the locks to be gone", || {
        server.psql_in("orders", "select count(*) from orders where id = 6001") == "0"
            && server.psql("select count(*) from pg_stat_activity where xact_start is not null and usename = 'svc'") == "0"
    });
    // Outside of a transaction nothing is too long.
    assert_eq!(idle.value("select 1"), "1");
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[session]\nstatement_timeout = \"1s\"\n".into();
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    for _ in 0..2 {
        let messages = wire.query("select pg_sleep(60)");
        let said = error(&messages);
        assert_eq!(said.sqlstate(), "57014");
        let message = said.field('M').unwrap();
        assert_eq!(
            message,
            "the statement ran longer than 1s, which is the limit"
        );
        let detail = said.field('D').unwrap();
        assert_eq!(detail, "Cancelled by Sallyport, session.statement_timeout.");
        assert_eq!(status(&messages), 'I');
        assert_eq!(wire.value("select 1"), "1");
    }
    // Inside a transaction as any error; and what is pipelined behind it has a time of its own.
    wire.query("begin");
    let messages = wire.query("select pg_sleep(60)");
    assert_eq!(error(&messages).sqlstate(), "57014");
    assert_eq!(status(&messages), 'E');
    wire.query("rollback");
    for sql in [
        "select pg_sleep(60)",
        "select pg_sleep(60)",
        "select 'last'",
    ] {
        wire.parse("", sql);
        wire.bind("", "", &[]);
        wire.execute("", 0);
        wire.sync();
    }
    assert_eq!(error(&wire.until_ready()).sqlstate(), "57014");
    assert_eq!(error(&wire.until_ready()).sqlstate(), "57014");
    assert_eq!(tags(&wire.until_ready()), "12DCZ");
}

/// The appliance's end of its connection to `peer`.
fn socket_to(appliance: &Appliance, peer: SocketAddr) -> OwnedFd {
    let process = appliance.process_id();
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let numbers = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    numbers
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(|number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok())
        .find(|fd| {
            let found = SockRef::from(fd).peer_addr();
            found.is_ok_and(|address| address.as_socket() == Some(peer))
        })
        .unwrap_or_else(|| panic!("no connection to {peer}"))
}

#[test]
fn peers_that_are_gone_are_probed_for_on_both_sides() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[limits]\nkeepalive_idle = \"7s\"\nkeepalive_interval = \"3s\"\n\
                    keepalive_probes = 2\n"
        .into();
    let appliance = Appliance::start(&setup);
    let wire = appliance.login("claude", "analysts");
    let agent = socket_to(&appliance, wire.local_address());
    let agent = SockRef::from(&agent);
    assert!(agent.keepalive().unwrap());
    assert_eq!(agent.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
    assert_eq!(
        agent.tcp_keepalive_interval().unwrap(),
        Duration::from_secs(3)
    );
    assert_eq!(agent.tcp_keepalive_retries().unwrap(), 2);
    let target = socket_to(
        &appliance,
        SocketAddr::from(([127, 0, 0, 1], server.port())),
    );
    let target = SockRef::from(&target);
    assert!(target.keepalive().unwrap());
    assert!(target.tcp_keepalive_time().unwrap() <= Duration::from_secs(60));
}
