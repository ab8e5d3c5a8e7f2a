//! Targets with several servers, moving names, many databases and several accounts.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Signal, getuid};

use crate::appliance::{
    ACCOUNT_PASSWORD, Appliance, POLICY, Setup, orders_server, orders_server_with, wait_until,
};
use crate::postgres::{Options, Server, free_port};
use crate::wire::{Message, Wire, error};

/// Who is a standby, of the server behind a connection.
const IS_STANDBY: &str = "select pg_is_in_recovery()";

const COLD: &str = "pool = { warm = 0, connect_deadline = \"4s\", queue_deadline = \"2s\" }";

fn hba() -> Vec<String> {
    vec!["host all svc 127.0.0.0/8 scram-sha-256".into()]
}

fn standby_of(primary: &Server) -> Server {
    let options = Options {
        hba: hba(),
        configuration: vec![("max_connections", "200".into())],
        ..Options::default()
    };
    Server::standby_of(primary, &options)
}

/// An appliance whose target `orders` has these servers, in this order.
fn appliance_for(ports: &[u16], keys: &str) -> Appliance {
    let addresses: Vec<String> = ports.iter().map(|p| format!("\"127.0.0.1:{p}\"")).collect();
    Appliance::start(&Setup {
        target: format!("[{}]", addresses.join(", ")),
        target_keys: format!("{keys}\n{COLD}"),
        target_tls: "disable",
        tables: String::new(),
        files: Vec::new(),
        policy: POLICY,
        shards: 1,
        listeners: Vec::new(),
        console: None,
        metrics: None,
        runtime_directory: None,
        wrapper: Vec::new(),
    })
}

fn login(appliance: &Appliance) -> Result<Wire, Message> {
    appliance.try_login("orders", &appliance.token("claude", "analysts"))
}

fn refusal(appliance: &Appliance) -> Message {
    match login(appliance) {
        Ok(_) => panic!("was let in"),
        Err(refusal) => refusal,
    }
}

/// Ends the session and waits until its connection is idle at `server`.
fn give_back(mut wire: Wire, server: &Server) {
    wire.send('X', &[]);
    drop(wire);
    let idle = "select count(*) from pg_stat_activity where application_name = 'sallyport'";
    wait_until("the connection to be idle", || server.psql(idle) != "0");
}

#[test]
fn sessions_that_write_follow_the_primary_through_a_failover() {
    let mut primary = orders_server();
    let standby = standby_of(&primary);
    let ports = [standby.port(), primary.port()];
    let appliance = appliance_for(&ports, "target_session_attrs = \"read-write\"");
    let mut wire = login(&appliance).unwrap();
    assert_eq!(wire.value(IS_STANDBY), "f");
    wire.query("insert into customers values (1000, 'before')");
    give_back(wire, &primary);
    let lsn = primary.psql("select pg_current_wal_lsn()");
    wait_until("the standby to have it all", || {
        standby.psql(&format!("select pg_last_wal_replay_lsn() >= '{lsn}'")) == "t"
    });

    primary.stop();
    let refused = refusal(&appliance);
    assert_eq!(
        refused.sqlstate(),
        "08001",
        "a standby does not do: {refused:?}"
    );
    standby.promote();
    wait_until("a login after the failover", || login(&appliance).is_ok());
    let mut wire = login(&appliance).unwrap();
    assert_eq!(wire.value(IS_STANDBY), "f");
    let written = wire.query("insert into customers values (1001, 'after')");
    assert!(written.iter().all(|m| m.tag != 'E'), "{written:?}");
    assert_eq!(
        wire.value("select count(*) from customers where id >= 1000"),
        "2"
    );
}

#[test]
fn an_idle_connection_to_a_standby_that_was_promoted_is_not_handed_out() {
    let primary = orders_server();
    let standby = standby_of(&primary);
    let ports = [primary.port(), standby.port()];
    let appliance = appliance_for(&ports, "target_session_attrs = \"standby\"");
    let mut wire = login(&appliance).unwrap();
    assert_eq!(wire.value(IS_STANDBY), "t");
    let backend = wire.value("select pg_backend_pid()");
    give_back(wire, &standby);
    let mut again = login(&appliance).unwrap();
    assert_eq!(
        again.value("select pg_backend_pid()"),
        backend,
        "it is pooled"
    );
    give_back(again, &standby);

    standby.promote();
    let refused = refusal(&appliance);
    assert_eq!(refused.sqlstate(), "08001");
    assert!(refused.field('M').unwrap().contains("role"), "{refused:?}");
    let pooled = "select count(*) from pg_stat_activity where usename = 'svc'";
    wait_until("the pool to let go of it", || standby.psql(pooled) == "0");
}

#[test]
fn sessions_that_prefer_a_standby_do_with_the_primary() {
    let primary = orders_server();
    let mut standby = standby_of(&primary);
    let ports = [primary.port(), standby.port()];
    let appliance = appliance_for(&ports, "target_session_attrs = \"prefer-standby\"");
    let mut wire = login(&appliance).unwrap();
    assert_eq!(wire.value(IS_STANDBY), "t");
    standby.stop();
    wait_until("a session on the primary", || {
        login(&appliance).is_ok_and(|mut wire| wire.value(IS_STANDBY) == "f")
    });
}

#[test]
fn a_primary_that_became_read_only_gets_no_session_that_writes() {
    let server = orders_server();
    let appliance = appliance_for(&[server.port()], "target_session_attrs = \"read-write\"");
    give_back(login(&appliance).unwrap(), &server);
    // A principal that may only read has the same default by our own doing.
    let readers = appliance.token("reader", "readers");
    assert!(appliance.try_login("orders", &readers).is_ok());

    server.psql("alter system set default_transaction_read_only = on");
    server.psql("select pg_reload_conf()");
    assert_eq!(refusal(&appliance).sqlstate(), "08001");
    server.psql("alter system reset all");
    server.psql("select pg_reload_conf()");
    wait_until("a login again", || login(&appliance).is_ok());
}

/// Accepts, never answers, and counts.
fn silent_server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    (port, accepted)
}

#[test]
fn a_silent_server_leaves_time_for_the_next_and_is_not_tried_first_again() {
    let server = orders_server();
    let (silent, accepted) = silent_server();
    let appliance = appliance_for(&[silent, server.port()], "");
    let mut first = login(&appliance).unwrap();
    assert_eq!(first.value("select 1"), "1");
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    // While the first session has its connection, the second needs another.
    let mut second = login(&appliance).unwrap();
    assert_eq!(second.value("select 1"), "1");
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[test]
fn a_frozen_server_is_given_up_for_one_that_answers() {
    let frozen = orders_server();
    let alive = standby_of(&frozen);
    let appliance = appliance_for(&[frozen.port(), alive.port()], "");
    let wire = login(&appliance).unwrap();
    give_back(wire, &frozen);
    frozen.freeze();
    // The idle connection does not answer, and a new one to the same server would not either.
    let mut wire = login(&appliance).unwrap();
    assert_eq!(wire.value(IS_STANDBY), "t");
    frozen.thaw();
}

#[test]
fn a_frozen_server_without_another_is_08001_and_serves_when_it_goes_on() {
    let server = orders_server();
    let appliance = appliance_for(&[server.port()], "");
    give_back(login(&appliance).unwrap(), &server);
    server.freeze();
    assert_eq!(refusal(&appliance).sqlstate(), "08001");
    server.thaw();
    wait_until("a login again", || login(&appliance).is_ok());
}

/// A private `/etc/hosts` for one process: what `getaddrinfo` goes by.
struct Hosts {
    file: tempfile::NamedTempFile,
}

impl Hosts {
    fn new(line: &str) -> Self {
        let hosts = Self {
            file: tempfile::NamedTempFile::new().unwrap(),
        };
        hosts.set(line);
        hosts
    }

    /// In place, since the mount is of the file and not of its name, and in one write, since a
    /// name that is missing for a moment is asked for elsewhere. Lines of one length only.
    fn set(&self, line: &str) {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(self.file.path())
            .unwrap();
        let text = format!("127.0.0.1 localhost\n{line}\n");
        file.write_all_at(text.as_bytes(), 0).unwrap();
    }

    fn wrapper(&self) -> Vec<String> {
        let namespaces = if getuid().is_root() { "-m" } else { "-rm" };
        let mount = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let path = self.file.path().display().to_string();
        ["unshare", namespaces, "sh", "-c", mount, &path]
            .map(str::to_owned)
            .into()
    }
}

/// A server with the database `orders`, on an address and port of one's choice.
fn server_at(address: &str, port: u16) -> Server {
    let server = Server::start(Options {
        hba: hba(),
        configuration: vec![("listen_addresses", address.to_owned())],
        port: Some(port),
        ..Options::default()
    });
    server.psql(&format!(
        "create role svc login password '{ACCOUNT_PASSWORD}'"
    ));
    server.psql("create database orders owner svc");
    server
}

#[test]
fn connections_follow_a_host_name_that_moves() {
    let port = free_port();
    let (old, mut new) = (server_at("127.0.0.2", port), server_at("127.0.0.3", port));
    let hosts = Hosts::new("127.0.0.2 db.test");
    let mut setup = Setup::for_server(&old);
    setup.target = format!("db.test:{port}");
    setup.target_keys = format!("dns_max_age = \"1s\"\n{COLD}");
    setup.shards = 1;
    setup.wrapper = hosts.wrapper();
    let appliance = Appliance::start(&setup);
    assert!(
        "db.test:1".to_socket_addrs().is_err(),
        "only the appliance knows it"
    );
    let there = "select host(inet_server_addr())";

    let mut staying = login(&appliance).unwrap();
    assert_eq!(staying.value(there), "127.0.0.2");
    give_back(login(&appliance).unwrap(), &old);
    hosts.set("127.0.0.3 db.test");
    let idle = "select count(*) from pg_stat_activity where application_name = 'sallyport'";
    wait_until("the idle connection to be closed", || old.psql(idle) == "0");
    let mut moved = login(&appliance).unwrap();
    assert_eq!(moved.value(there), "127.0.0.3");
    assert_eq!(staying.value("select 1"), "1", "an open session stays");
    // When it ends, its connection is not kept.
    staying.send('X', &[]);
    let open = "select count(*) from pg_stat_activity where usename = 'svc'";
    wait_until("the last connection to be closed", || old.psql(open) == "0");

    // Gone without notice: asked for again at once, and not only when the answer is too old.
    new.stop();
    hosts.set("127.0.0.2 db.test");
    wait_until("a login at the old address", || {
        login(&appliance).is_ok_and(|mut wire| wire.value(there) == "127.0.0.2")
    });
}

#[test]
fn every_address_of_a_name_is_tried() {
    let port = free_port();
    let server = server_at("127.0.0.3", port);
    let hosts = Hosts::new("127.0.0.2 db.test\n127.0.0.3 db.test");
    let mut setup = Setup::for_server(&server);
    setup.target = format!("db.test:{port}");
    setup.target_keys = COLD.into();
    setup.wrapper = hosts.wrapper();
    let appliance = Appliance::start(&setup);
    assert_eq!(login(&appliance).unwrap().value("select 1"), "1");
}

const APPS_POLICY: &str = r#"
[[rule]]
name    = "ops-everywhere"
groups  = ["ops"]
targets = ["apps"]
allow   = { statements = ["*"] }

[[rule]]
name    = "eu-only"
groups  = ["eu"]
targets = ["apps/app_eu"]
allow   = { statements = ["read"] }
"#;

/// A server with many databases, and a target for those that begin with `app_`.
fn apps(keys: &str) -> (Server, Appliance) {
    let server = orders_server();
    for name in ["app_eu", "app_us", "app_we\"\"ird = 'x' \\", "secret"] {
        server.psql(&format!("create database \"{name}\" owner svc"));
    }
    let mut setup = Setup::for_server(&server);
    setup.policy = APPS_POLICY;
    setup.shards = 1;
    setup.tables = format!(
        "[[target]]\nname = \"apps\"\nprotocol = \"postgres\"\naddress = \"127.0.0.1:{}\"\n\
         databases = [\"app_*\"]\nuser = \"svc\"\npassword = \"file:orders-password\"\n\
         tls = \"disable\"\n{keys}\n",
        server.port()
    );
    let appliance = Appliance::start(&setup);
    (server, appliance)
}

#[test]
fn a_target_serves_the_databases_that_its_pattern_matches_and_no_other() {
    let (server, appliance) = apps("");
    let ops = appliance.token("op", "ops");
    for database in ["app_eu", "app_us", "app_we\"ird = 'x' \\"] {
        let mut wire = appliance.try_login(database, &ops).unwrap();
        assert_eq!(wire.value("select current_database()"), database);
    }
    let stranger = appliance.try_login("orders", &ops).err().unwrap();
    let hostile = [
        "secret".to_owned(),
        "apps".to_owned(),
        "APP_EU".to_owned(),
        "app".to_owned(),
        "app_*\n".to_owned(),
        "xapp_eu".to_owned(),
        "dbname=secret".to_owned(),
        "app_eu dbname=secret\u{7f}".to_owned(),
        // The server would cut it to 63 bytes.
        format!("app_{}", "x".repeat(60)),
        "x".repeat(5000),
    ];
    for database in hostile {
        let refused = appliance.try_login(&database, &ops).err().unwrap();
        assert_eq!(refused, stranger, "{database:?}");
    }
    // Matched, but not there: the same words again.
    let missing = appliance.try_login("app_missing", &ops).err().unwrap();
    assert_eq!(missing, stranger);
    assert_eq!(stranger.sqlstate(), "28000");
    // It holds back nobody else, and the server was asked for nothing that does not match.
    let mut wire = appliance.try_login("app_eu", &ops).unwrap();
    wire.query("select 'the last'");
    server.wait_for_log("the last");
    let log = server.log();
    assert!(log.contains("database \"app_missing\" does not exist"));
    for database in ["secret", "APP_EU", "xapp", "dbname", "app_xxx"] {
        assert!(!log.contains(&format!("database={database}")), "{database}");
    }
}

#[test]
fn rules_and_recordings_name_one_database_of_many() {
    let (_server, appliance) = apps("");
    let eu = appliance.token("agent-eu", "eu");
    let mut wire = appliance.try_login("app_eu", &eu).unwrap();
    assert_eq!(wire.value("select 1"), "1");
    let denied = wire.query("create table t ()");
    assert!(["42501", "25006"].contains(&error(&denied).sqlstate().as_str()));
    assert_eq!(
        appliance.try_login("app_us", &eu).err().unwrap().sqlstate(),
        "28000"
    );
    let listed = appliance.sessions();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["target"], "apps/app_eu");

    // A policy that no longer lets it in ends the session.
    appliance.write_policy(&APPS_POLICY.replace("apps/app_eu", "apps/app_us"));
    appliance.cli_text(&["reload"]);
    assert_eq!(error(&wire.until_closed()).sqlstate(), "57P01");
}

#[test]
fn databases_of_one_target_have_its_connections_together() {
    let keys = "pool = { connections = 2, warm = 0, queue_deadline = \"300ms\" }";
    let (server, appliance) = apps(keys);
    let ops = appliance.token("op", "ops");
    let mut eu = appliance.try_login("app_eu", &ops).unwrap();
    let us = appliance.try_login("app_us", &ops).unwrap();
    let refused = appliance.try_login("app_eu", &ops).err().unwrap();
    assert_eq!(refused.sqlstate(), "53300");
    give_back(us, &server);
    // The idle connection to another database makes room.
    let mut second = appliance.try_login("app_eu", &ops).unwrap();
    for wire in [&mut eu, &mut second] {
        assert_eq!(wire.value("select current_database()"), "app_eu");
    }
}

/// The accounts of `groups_get_accounts_of_their_own`, at the server.
fn accounts(server: &Server) {
    for role in ["svc_ro", "svc_dba", "svc_dev"] {
        server.psql(&format!(
            "create role {role} login in role svc password '{ACCOUNT_PASSWORD}'"
        ));
    }
}

#[test]
fn groups_get_accounts_of_their_own_and_a_reload_withdraws_them() {
    let server = orders_server_with(Options {
        hba: vec!["host all all 127.0.0.1/32 scram-sha-256".into()],
        ..Options::default()
    });
    accounts(&server);
    let password = "password = \"file:orders-password\"";
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = format!(
        "readonly_user = \"svc_ro\"\nreadonly_{password}\n\
         groups = {{ dev = {{ user = \"svc_dev\", {password} }}, \
         dba = {{ user = \"svc_dba\", {password} }} }}\n{COLD}"
    );
    let appliance = Appliance::start(&setup);
    let user = |groups: &str| {
        let mut wire = appliance.login("claude", groups);
        let user = wire.value("select current_user");
        wire.send('X', &[]);
        user
    };
    assert_eq!(user("analysts"), "svc");
    assert_eq!(user("analysts,dba"), "svc_dba");
    assert_eq!(
        user("dba,dev,analysts"),
        "svc_dev",
        "the first that is written"
    );
    assert_eq!(
        user("readers,dba"),
        "svc_ro",
        "who may only read goes before"
    );

    let mut staying = appliance.login("dba", "analysts,dba");
    let changed = fs::read_to_string(appliance.configuration_path()).unwrap();
    let changed = changed.replace("user = \"svc_dba\"", "user = \"svc_dev\"");
    fs::write(appliance.configuration_path(), changed).unwrap();
    appliance.cli_text(&["reload"]);
    let idle = "select count(*) from pg_stat_activity
                where usename = 'svc_dba' and application_name = 'sallyport'";
    wait_until("the withdrawn account's idle connections to end", || {
        server.psql(idle) == "0"
    });
    assert_eq!(user("analysts,dba"), "svc_dev");
    assert_eq!(
        staying.value("select current_user"),
        "svc_dba",
        "a session stays"
    );
    staying.send('X', &[]);
    let all = "select count(*) from pg_stat_activity where usename = 'svc_dba'";
    wait_until("its connection to end with it", || server.psql(all) == "0");
}

#[test]
fn all_shards_together_keep_to_the_total() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 3;
    setup.target_keys = "pool = { connections = 10, connections_total = 4, warm = 3, \
                         queue_deadline = \"200ms\" }"
        .into();
    let appliance = Appliance::start(&setup);
    let token = appliance.token("claude", "analysts");
    let mut open = Vec::new();
    let mut refused = 0;
    while refused < 20 {
        match appliance.try_login("orders", &token) {
            Ok(wire) => open.push(wire),
            Err(refusal) => {
                assert_eq!(refusal.sqlstate(), "53300");
                refused += 1;
            }
        }
        let at_server = server.psql(
            "select count(*) from pg_stat_activity
             where usename = 'svc' and application_name <> 'sallyport catalogue'",
        );
        assert!(at_server.parse::<usize>().unwrap() <= 4, "{at_server}");
    }
    assert!((1..=4).contains(&open.len()), "{}", open.len());
}

#[test]
fn a_server_without_free_connections_is_asked_less_often_than_agents_ask() {
    let server = Server::start(Options {
        hba: hba(),
        configuration: vec![
            ("max_connections", "8".into()),
            ("max_wal_senders", "0".into()),
        ],
        ..Options::default()
    });
    server.psql(&format!(
        "create role svc login password '{ACCOUNT_PASSWORD}'"
    ));
    server.psql("create database orders owner svc");
    let appliance = appliance_for(&[server.port()], "");
    let token = appliance.token("claude", "analysts");
    let mut open = Vec::new();
    let refused = loop {
        match appliance.try_login("orders", &token) {
            Ok(wire) => open.push(wire),
            Err(refused) => break refused,
        }
    };
    // 8 less 3 for superusers; the connection that reads the catalogue may have been faster.
    assert!((4..=5).contains(&open.len()), "{}", open.len());
    assert_eq!(refused.sqlstate(), "53300");
    assert_eq!(
        refused.field('M').unwrap(),
        "the target has no free connections"
    );
    for _ in 0..100 {
        let refused = appliance.try_login("orders", &token).err().unwrap();
        assert_eq!(refused.sqlstate(), "53300");
    }
    let asked = server
        .log()
        .matches("remaining connection slots are reserved")
        .count();
    assert!(
        asked < 50,
        "the server was asked {asked} times for 100 logins"
    );
    drop(open.pop());
    wait_until("a login once one has left", || {
        appliance.try_login("orders", &token).is_ok()
    });
}

#[test]
fn a_restart_of_the_server_empties_the_pool_without_a_login() {
    let mut server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = "pool = { connections = 4, warm = 2 }".into();
    let appliance = Appliance::start(&setup);
    let pids = "select string_agg(pid::text, ',' order by pid) from pg_stat_activity
                where application_name = 'sallyport'";
    let warm = "select count(*) from pg_stat_activity where application_name = 'sallyport'";
    wait_until("the pool to be warm", || server.psql(warm) == "2");
    let before = server.psql(pids);
    server.stop_fast();
    server.resume();
    wait_until("the pool to be warm again", || server.psql(warm) == "2");
    assert_ne!(server.psql(pids), before);
    appliance.send_signal(Signal::HUP);
    assert_eq!(login(&appliance).unwrap().value("select 1"), "1");
}
