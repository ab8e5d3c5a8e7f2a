//! Sessions that say nothing: idle ones, ones that wait for notifications, and peers that are gone.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use crate::appliance::{Appliance, Setup, orders_server};
use crate::wire::{error, tags};

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
