//! The whole path: token, policy, the target's own account, attribution, recording.

use std::process::Command;

use crate::appliance::{ACCOUNT_PASSWORD, Appliance, Setup, orders_server};
use crate::postgres::binary;
use crate::wire::{error, first_column, status, tags};

/// Stock psql, as the demo and the documentation call it.
fn psql(appliance: &Appliance, token: &str, arguments: &[&str]) -> std::process::Output {
    Command::new(binary("psql"))
        .args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose"])
        .args(arguments)
        .env("PGHOST", "localhost")
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGPORT", appliance.address().port().to_string())
        .env("PGUSER", "agent")
        .env("PGDATABASE", "orders")
        .env("PGPASSWORD", token)
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", appliance.certificate_path())
        .output()
        .unwrap()
}

#[test]
fn stock_psql_reads_a_table_and_is_refused_a_drop_on_the_same_connection() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    let output = psql(
        &appliance,
        &token,
        &[
            "-c",
            "select count(*) from orders",
            "-c",
            "drop table orders",
            "-c",
            "select max(id) from orders",
        ],
    );
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1000\n1000\n");
    assert!(errors.contains("42501"), "{errors}");
    assert!(errors.contains("no-destruction"), "{errors}");
    assert!(errors.contains("HINT:"), "{errors}");
    assert!(
        !server.log().contains("drop table"),
        "the target has seen it"
    );
}

#[test]
fn the_target_names_the_agent_although_the_account_is_ours() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(wire.value("select current_user"), "svc");
    assert!(wire.value("show application_name").contains("claude"));
    assert!(wire.value("show sallyport.subject").contains("claude"));
    let shown = server.psql(
        "select count(*) from pg_stat_activity
         where usename = 'svc' and application_name like '%claude%'",
    );
    assert_eq!(shown, "1");
    wire.query("select 'seen by the target'");
    server.wait_for_log("seen by the target");
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains("seen by the target"))
        .expect("logged");
    assert!(line.contains("claude"), "{line}");
}

#[test]
fn a_session_is_listed_and_replayed_with_commands_and_answers() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    wire.query("select name from customers where id = 7");
    wire.query("drop table orders");
    let live = appliance.sessions();
    assert_eq!(live.len(), 1, "{live:?}");
    let id = live[0]["id"].as_str().expect("an id").to_owned();
    assert!(live[0].to_string().contains("claude"), "{live:?}");
    drop(wire);

    let replayed = appliance.cli_text(&["replay", &id]);
    for part in [
        "select name from customers where id = 7",
        "customer 7",
        "drop table orders",
        "no-destruction",
        "42501",
    ] {
        assert!(replayed.contains(part), "{part:?} is not in: {replayed}");
    }
    let events = appliance.replay(&id);
    assert!(events.len() >= 4, "{events:?}");
}

#[test]
fn the_next_session_gets_a_connection_with_nothing_left_of_the_last() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = "pool = { connections = 1, warm = 1 }".into();
    let appliance = Appliance::start(&setup);

    let mut first = appliance.login("first", "analysts");
    let backend = first.value("select pg_backend_pid()");
    for statement in [
        "set search_path = pg_catalog",
        "set statement_timeout = 12345",
        "create temp table leftover (a int)",
        "prepare leftover as select 1",
        "declare leftover cursor with hold for select 1",
        "listen leftover",
        "select 1 / 0",
    ] {
        first.query(statement);
    }
    first.send('X', &[]);
    drop(first);

    let mut second = appliance.login("second", "analysts");
    assert_eq!(
        second.value("select pg_backend_pid()"),
        backend,
        "the pool made another"
    );
    assert!(second.value("show application_name").contains("second"));
    assert!(second.value("show sallyport.subject").contains("second"));
    assert_ne!(second.value("show search_path"), "pg_catalog");
    assert_eq!(second.value("show statement_timeout"), "0");
    let left = "select count(*) from pg_prepared_statements";
    assert_eq!(second.value(left), "0");
    assert_eq!(second.value("select count(*) from pg_cursors"), "0");
    assert_eq!(
        second.value("select count(*) from pg_listening_channels()"),
        "0"
    );
    assert_eq!(
        error(&second.query("select * from leftover")).sqlstate(),
        "42P01"
    );
}

#[test]
fn a_session_that_ends_inside_a_transaction_leaves_no_lock() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut first = appliance.login("first", "analysts");
    assert_eq!(
        status(&first.query("begin; lock table orders in access exclusive mode")),
        'T'
    );
    drop(first);
    let mut second = appliance.login("second", "analysts");
    second.query("set lock_timeout = '15s'");
    assert_eq!(second.value("select count(*) from orders"), "1000");
}

#[test]
fn what_the_client_is_told_about_the_server_is_the_servers_own() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    let version = server.psql("show server_version");
    assert_eq!(wire.parameter("server_version"), Some(version.as_str()));
    assert_eq!(wire.parameter("client_encoding"), Some("UTF8"));
    assert_eq!(wire.parameter("standard_conforming_strings"), Some("on"));
    // Drivers compare it with the process of a notification, and look it up in pg_stat_activity.
    let (process, _) = wire.key.clone().expect("BackendKeyData");
    assert_eq!(wire.value("select pg_backend_pid()"), process.to_string());
}

#[test]
fn settings_of_the_start_up_packet_reach_the_target() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    let parameters = [
        ("user", "whoever"),
        ("database", "orders"),
        ("application_name", "nightly-report"),
        ("DateStyle", "German"),
        ("options", "-c statement_timeout=54321"),
        ("client_encoding", "UTF8"),
    ];
    let mut wire = crate::wire::Wire::try_login(appliance.address(), &parameters, &token).unwrap();
    assert_eq!(wire.value("select date '2026-11-22'"), "22.11.2026");
    assert_eq!(wire.value("show statement_timeout"), "54321ms");
    let name = wire.value("show application_name");
    assert!(
        name.contains("claude") && name.contains("nightly-report"),
        "{name}"
    );
    // RESET goes back to what the client asked for at start-up, as without us.
    wire.query("set statement_timeout = 1000; reset statement_timeout");
    assert_eq!(wire.value("show statement_timeout"), "54321ms");
}

#[test]
fn simple_and_extended_queries_return_rows_errors_and_notices() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(
        tags(&wire.query("select 1; select 2; select 3")),
        "TDCTDCTDCZ"
    );
    assert_eq!(tags(&wire.query("")), "IZ");
    assert_eq!(error(&wire.query("select 1/0")).sqlstate(), "22012");
    assert_eq!(error(&wire.query("selekt")).sqlstate(), "42601");

    wire.parse("by-id", "select name from customers where id = $1");
    wire.bind("", "by-id", &[Some("42")]);
    wire.describe_portal("");
    wire.execute("", 0);
    wire.sync();
    let messages = wire.until_ready();
    assert_eq!(tags(&messages), "12TDCZ");
    assert_eq!(first_column(&messages), [Some("customer 42".to_owned())]);
    // The statement stays; several uses in one go.
    for id in ["1", "2", "3"] {
        wire.bind("", "by-id", &[Some(id)]);
        wire.execute("", 0);
    }
    wire.sync();
    let messages = wire.until_ready();
    assert_eq!(tags(&messages), "2DC2DC2DCZ");
    assert_eq!(first_column(&messages).len(), 3);
}

#[test]
fn the_targets_password_is_never_shown_to_the_agent() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    let shown = format!("{:?}", wire.query("select rolpassword from pg_authid"));
    assert!(!shown.contains(ACCOUNT_PASSWORD), "{shown}");
}

#[test]
fn large_results_arrive_whole_whatever_the_size_of_a_row() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    for (bytes, rows) in [
        (10, 200_000),
        (1_000, 50_000),
        (100_000, 1_000),
        (30_000_000, 5),
    ] {
        let sql = format!("select repeat('x', {bytes}) from generate_series(1, {rows})");
        wire.send('Q', &crate::wire::terminated(&sql));
        let mut arrived = 0;
        loop {
            let message = wire.receive().unwrap_or_else(|silence| {
                panic!("{silence:?} after {arrived} rows of {bytes} bytes")
            });
            match message.tag {
                'D' => {
                    arrived += 1;
                    assert_eq!(message.body.len(), bytes + 6);
                }
                'Z' => break,
                _ => {}
            }
        }
        assert_eq!(arrived, rows);
    }
}
