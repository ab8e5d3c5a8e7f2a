//! Every way to prove who asks, against PostgreSQL and PgBouncer.

use loadgen::protocols::{Failed, Phase, Request};

use super::{agent, ask, on_a_shard, on_port, rows, try_open};
use crate::servers::PgBouncer;
use crate::servers::postgres::{Options, Server};

fn server(method: &str, encryption: &str) -> Server {
    Server::start(Options {
        hba: vec![format!("host all all 127.0.0.1/32 {method}")],
        setup: format!(
            "SET password_encryption = '{encryption}'; CREATE ROLE ada LOGIN PASSWORD 'secret'"
        ),
        ..Options::default()
    })
}

/// The right password logs in, a wrong one gets the server's own refusal, and without one nothing
/// is sent.
fn check(port: u16, wrong: &'static [&'static str]) {
    on_a_shard(move || async move {
        let target = on_port(port);
        for _ in 0..2 {
            let mut session = try_open(&target, &agent("ada", "secret")).await.unwrap();
            let request = Request::simple("SELECT 1").unwrap();
            assert_eq!(rows(&ask(&mut session, &request).await), 1);
        }
        let failed = try_open(&target, &agent("ada", "guessed")).await.err();
        let failed = failed.expect("a refusal");
        let Failed::Refused {
            phase: Phase::Authentication,
            sqlstate,
        } = &failed
        else {
            panic!("{failed}")
        };
        assert!(wrong.contains(&&*sqlstate.to_string()), "{sqlstate}");
        let failed = try_open(&target, &agent("ada", "")).await.err();
        assert_eq!(failed, Some(Failed::NoPassword));
    });
}

#[test]
fn postgresql_asks_for_each_kind_of_password() {
    for (method, encryption) in [
        ("password", "scram-sha-256"),
        ("md5", "md5"),
        ("scram-sha-256", "scram-sha-256"),
    ] {
        check(server(method, encryption).port(), &["28P01"]);
    }
}

#[test]
fn pgbouncer_asks_for_each_kind_of_password() {
    let server = server("trust", "scram-sha-256");
    for auth in ["plain", "md5", "scram-sha-256"] {
        let pgbouncer = PgBouncer::before(server.port(), auth, "\"ada\" \"secret\"\n");
        check(pgbouncer.port, &["08P01", "28P01"]);
    }
}

#[test]
fn a_database_that_is_not_there_is_a_refusal() {
    let server = Server::start(Options::default());
    let port = server.port();
    on_a_shard(move || async move {
        let mut target = on_port(port);
        target.database = "nowhere".to_owned();
        let failed = try_open(&target, &agent("postgres", "")).await.err();
        assert_eq!(failed.expect("a refusal").label(), "sqlstate 3D000");
    });
}

#[test]
fn nobody_there_is_no_connection() {
    let port = crate::servers::postgres::free_port();
    on_a_shard(move || async move {
        let failed = try_open(&on_port(port), &agent("postgres", "")).await.err();
        let kind = std::io::ErrorKind::ConnectionRefused;
        assert_eq!(failed, Some(Failed::Connect { kind }));
    });
}
