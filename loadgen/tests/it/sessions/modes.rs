//! Each way to ask, against PostgreSQL.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use loadgen::protocols::{Canaries, Failed, Outcome, Phase, Request, Statement};

use super::{ask, on_a_shard, on_port, open, rows, soon, target};
use crate::servers::postgres::{Options, Server};

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); \
    INSERT INTO t SELECT i, 'note ' || i FROM generate_series(1, 1000) AS i";

fn server() -> Server {
    Server::start(Options {
        setup: SETUP.to_owned(),
        ..Options::default()
    })
}

#[test]
fn the_same_rows_have_the_same_checksum_however_they_are_asked_for() {
    let server = server();
    let port = server.port();
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        let statement =
            Statement::new(3, "SELECT * FROM t WHERE id <= $1::int ORDER BY id").unwrap();
        let requests = [
            Request::simple("SELECT * FROM t WHERE id <= 700 ORDER BY id").unwrap(),
            Request::extended("SELECT * FROM t WHERE id <= $1 ORDER BY id", &[Some("700")])
                .unwrap(),
            Request::prepared(&statement, &[Some("700")]).unwrap(),
            Request::prepared(&statement, &[Some("700")]).unwrap(),
        ];
        let mut checksums = Vec::new();
        for request in &requests {
            let answered = ask(&mut session, request).await;
            assert_eq!(rows(&answered), 700);
            assert!(answered.sent <= answered.first_byte);
            assert!(answered.first_byte <= answered.last_byte);
            checksums.push(answered.checksum);
        }
        assert_ne!(checksums[0], 0);
        assert_eq!(checksums, [checksums[0]; 4]);

        let backwards =
            Request::simple("SELECT * FROM t WHERE id <= 700 ORDER BY id DESC").unwrap();
        let answered = ask(&mut session, &backwards).await;
        assert_ne!(answered.checksum, checksums[0], "the order counts");
        session.close(soon()).await;
    });
    server.wait_for_log("disconnection");
    assert!(!server.log().contains("unexpected EOF"), "{}", server.log());
}

#[test]
fn a_statement_is_parsed_once_on_each_session() {
    let server = Server::start(Options {
        configuration: vec![("log_min_duration_statement", "0".to_owned())],
        ..Options::default()
    });
    let port = server.port();
    on_a_shard(move || async move {
        let target = on_port(port);
        let statement = Statement::new(0, "SELECT $1::text").unwrap();
        for _ in 0..2 {
            let mut session = open(&target).await;
            for value in ["a", "b", "c"] {
                let request = Request::prepared(&statement, &[Some(value)]).unwrap();
                assert_eq!(rows(&ask(&mut session, &request).await), 1);
            }
        }
    });
    server.wait_for_log("disconnection");
    server.wait_for_log("disconnection");
    let log = server.log();
    assert_eq!(log.matches("parse loadgen_0").count(), 2, "{log}");
    assert_eq!(log.matches("execute loadgen_0").count(), 6, "{log}");
}

#[test]
fn a_statement_that_failed_is_parsed_again() {
    let server = server();
    let port = server.port();
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        let statement = Statement::new(0, "SELECT * FROM made_later").unwrap();
        let request = Request::prepared(&statement, &[]).unwrap();
        let failed = ask(&mut session, &request).await;
        let Outcome::Error(sqlstate) = failed.outcome else {
            panic!("{:?}", failed.outcome)
        };
        assert_eq!(sqlstate.to_string(), "42P01");
        let make = Request::simple("CREATE TEMP TABLE made_later AS SELECT 1").unwrap();
        ask(&mut session, &make).await;
        assert_eq!(rows(&ask(&mut session, &request).await), 1);
        assert_eq!(rows(&ask(&mut session, &request).await), 1);
    });
}

#[test]
fn copy_goes_both_ways() {
    let server = server();
    let port = server.port();
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        let out = Request::copy_out("COPY t TO STDOUT").unwrap();
        let first = ask(&mut session, &out).await;
        assert_eq!(rows(&first), 1000);

        // Some 3 MB: more than is queued at once.
        let data: String = (0..100_000)
            .map(|i| format!("{i}\tsome longer note {i}\n"))
            .collect();
        let make = Request::simple("CREATE TABLE u (LIKE t)").unwrap();
        ask(&mut session, &make).await;
        let into = Request::copy_in("COPY u FROM STDIN", data.as_bytes()).unwrap();
        assert_eq!(rows(&ask(&mut session, &into).await), 100_000);

        let again = ask(&mut session, &out).await;
        assert_eq!(again.checksum, first.checksum);
        let other = Request::copy_out("COPY u TO STDOUT").unwrap();
        let other = ask(&mut session, &other).await;
        assert_eq!(rows(&other), 100_000);
        assert_ne!(other.checksum, first.checksum);
    });
}

#[test]
fn a_refused_copy_leaves_the_session_usable() {
    let server = server();
    let port = server.port();
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        // The first line is wrong, and megabytes follow it.
        let data = format!("no number\tx\n{}", "1\tx\n".repeat(1_000_000));
        let into = Request::copy_in("COPY t FROM STDIN", data.as_bytes()).unwrap();
        let answered = ask(&mut session, &into).await;
        assert!(
            matches!(answered.outcome, Outcome::Error(_)),
            "{answered:?}"
        );
        let next = Request::simple("SELECT 1").unwrap();
        assert_eq!(rows(&ask(&mut session, &next).await), 1);
    });
}

#[test]
fn a_pipeline_is_answered_whole() {
    let server = server();
    let port = server.port();
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        let statement = Statement::new(0, "SELECT * FROM t WHERE id <= $1::int").unwrap();
        let prepared = Request::prepared(&statement, &[Some("3")]).unwrap();
        let simple = Request::simple("SELECT 1").unwrap();
        let extended = Request::extended("SELECT 1", &[]).unwrap();
        for (request, each) in [(prepared, 3), (simple, 1), (extended, 1)] {
            let pipeline = request.pipeline(50).unwrap();
            assert_eq!(rows(&ask(&mut session, &pipeline).await), 50 * each);
            assert_eq!(rows(&ask(&mut session, &request).await), each);
        }
    });
}

#[test]
fn an_answer_is_read_as_slowly_as_asked() {
    let server = server();
    let port = server.port();
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        let request = Request::simple("SELECT repeat('x', 1000) FROM generate_series(1, 300)")
            .unwrap()
            .read_slowly(NonZeroU32::new(1_000_000).unwrap());
        let answered = ask(&mut session, &request).await;
        assert_eq!(rows(&answered), 300);
        // 300 KB at 1 MB/s; the last piece, of up to 16 KiB, comes at its begin.
        let took = answered.last_byte - answered.sent;
        assert!(took >= Duration::from_millis(270), "{took:?}");
    });
}

#[test]
fn refusals_errors_and_ends_are_told_apart() {
    let server = Server::start(Options {
        setup: format!("{SETUP}; CREATE ROLE nobody_special LOGIN"),
        ..Options::default()
    });
    let port = server.port();
    on_a_shard(move || async move {
        let agent = super::agent("nobody_special", "");
        let mut session = super::try_open(&on_port(port), &agent).await.unwrap();
        let forbidden = Request::simple("SELECT * FROM t").unwrap();
        assert_eq!(
            ask(&mut session, &forbidden).await.outcome,
            Outcome::Refused
        );
        let wrong = Request::simple("SELECT 1/0").unwrap();
        let Outcome::Error(sqlstate) = ask(&mut session, &wrong).await.outcome else {
            panic!("no error")
        };
        assert_eq!(sqlstate.to_string(), "22012");

        let mut other = open(&on_port(port)).await;
        let end = Request::simple(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE usename = 'nobody_special'",
        );
        ask(&mut other, &end.unwrap()).await;
        let failed = session.watch(soon()).await.unwrap();
        assert_eq!(failed.label(), "sqlstate 57P01");
        let next = session.exchange(&forbidden, soon()).await.unwrap_err();
        assert_eq!(next.label(), "closed", "{next}");
    });
}

#[test]
fn patience_ends_and_with_it_the_session() {
    let server = server();
    let port = server.port();
    on_a_shard(move || async move {
        let mut session = open(&on_port(port)).await;
        let request = Request::simple("SELECT pg_sleep(600)").unwrap();
        let deadline = runtime::now() + Duration::from_millis(200);
        let failed = session.exchange(&request, deadline).await.unwrap_err();
        let phase = Phase::Request;
        assert_eq!(failed, Failed::TimedOut { phase });
        assert!(!session.is_usable());
        let next = Request::simple("SELECT 1").unwrap();
        assert!(session.exchange(&next, soon()).await.is_err());
    });
}

#[test]
fn canaries_are_counted_in_rows_and_not_in_what_was_asked() {
    let server = server();
    let port = server.port();
    on_a_shard(move || async move {
        let mut target = on_port(port);
        target.canaries = Arc::new(Canaries::new(&["note 77", "note 1000"]).unwrap());
        let mut session = open(&target).await;
        let count = async |session: &mut _, sql: &str| {
            let request = Request::simple(sql).unwrap();
            ask(session, &request).await.canaries
        };
        // 77, 770 to 779, and 1000.
        assert_eq!(count(&mut session, "SELECT note FROM t").await, 12);
        assert_eq!(count(&mut session, "COPY t TO STDOUT").await, 12);
        assert_eq!(
            count(
                &mut session,
                "SELECT 'x' AS \"note 77\", 1 WHERE 'note 77' <> ''"
            )
            .await,
            0
        );
        // A row that is not held whole.
        let long = "SELECT repeat('x', 100000) || 'note 77' || repeat('y', 100000) || 'note 1000'";
        assert_eq!(count(&mut session, long).await, 2);
    });
}

#[test]
fn a_unix_socket_is_as_good() {
    let server = server();
    let path = server.socket_path().to_str().unwrap().to_owned();
    on_a_shard(move || {
        let target = target(&path);
        async move {
            let mut session = open(&target).await;
            let request = Request::simple("SELECT 1").unwrap();
            assert_eq!(rows(&ask(&mut session, &request).await), 1);
        }
    });
}
