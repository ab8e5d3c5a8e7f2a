//! Pools: what a session leaves behind, caps and queues, servers that go and come back.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use appliance::upstream::{
    Attribution, Lease, LeaseRequest, Outcome, PoolSettings, Pools, Roots, SessionSettings,
    ShardPart, TargetSettings, TargetStatus, Tls, TlsMode, UpstreamError, cancel,
};

use super::{
    PATIENCE, account, lease, lease_with, loopback, own_database, parameter, pools, query,
    settings, soon, target, until,
};
use crate::certificates::Authority;
use crate::postgres::{Options, SUPERUSER, Server, ServerTls};
use crate::shard::on_shard;

fn server() -> Server {
    Server::start(Options::default())
}

fn trusted(server: &Server, pool: PoolSettings) -> TargetSettings {
    let account = account(SUPERUSER, None, Tls::disabled());
    TargetSettings {
        pool,
        ..target(loopback(server.port()), account)
    }
}

fn cold() -> PoolSettings {
    PoolSettings {
        warm: 0,
        ..PoolSettings::default()
    }
}

fn capped(connections_max: usize) -> PoolSettings {
    PoolSettings {
        connections_max,
        ..cold()
    }
}

fn status(pools: &Pools) -> TargetStatus {
    pools.status().into_iter().next().expect("one target")
}

/// Gives the lease back and waits until its connection is idle.
async fn give_back(pools: &Pools, lease: Lease) {
    let idle = status(pools).idle;
    lease.finish(Outcome::Clean);
    until(|| status(pools).idle == idle + 1).await;
}

#[test]
fn nothing_of_a_session_is_left_after_it() {
    let server = server();
    on_shard(async move || {
        let (pools, target) = (pools(), Arc::new(trusted(&server, cold())));
        let mut first = lease(&pools, &target).await.unwrap();
        for sql in [
            "create temp table leftover as select 1 as a",
            "prepare leftover as select 1",
            "declare leftover cursor with hold for select 1",
            "set work_mem = '7MB'",
            "set datestyle = 'German'",
            "set role pg_read_all_data",
            "set myapp.who = 'somebody'",
            "select pg_advisory_lock(7)",
            "listen leftover",
            "create temp sequence s; select nextval('s')",
        ] {
            query(&mut first, sql).await.unwrap();
        }
        let process = first.process_id();
        give_back(&pools, first).await;

        let mut second = lease(&pools, &target).await.unwrap();
        assert_eq!(
            second.process_id(),
            process,
            "the connection was used again"
        );
        for (sql, expected) in [
            ("select to_regclass('leftover')", ""),
            ("select count(*) from pg_prepared_statements", "0"),
            ("select count(*) from pg_cursors", "0"),
            ("show work_mem", "4MB"),
            ("select current_user", SUPERUSER),
            ("select current_setting('myapp.who', true)", ""),
            (
                "select count(*) from pg_locks where locktype = 'advisory'",
                "0",
            ),
            ("select count(*) from pg_listening_channels()", "0"),
        ] {
            assert_eq!(query(&mut second, sql).await.unwrap(), expected, "{sql}");
        }
        assert_eq!(parameter(second.parameters(), "DateStyle"), "ISO, MDY");
        assert_eq!(
            query(&mut second, "select lastval()").await,
            Err("55000".into())
        );
    });
}

#[test]
fn sessions_left_in_a_transaction_or_tainted_or_dropped_end() {
    let server = server();
    on_shard(async move || {
        let (pools, target) = (pools(), Arc::new(trusted(&server, cold())));
        let mut open = lease(&pools, &target).await.unwrap();
        query(&mut open, "begin").await.unwrap();
        open.finish(Outcome::Clean);
        lease(&pools, &target)
            .await
            .unwrap()
            .finish(Outcome::Tainted);
        drop(lease(&pools, &target).await.unwrap());
        until(|| status(&pools).open == 0).await;

        let mut last = lease(&pools, &target).await.unwrap();
        let others = "select count(*) from pg_stat_activity
                      where backend_type = 'client backend' and pid <> pg_backend_pid()";
        until_query(&mut last, others, "0").await;
        assert!(
            !server.log().contains("unexpected EOF"),
            "each was told goodbye"
        );
    });
}

async fn until_query(lease: &mut Lease, sql: &str, expected: &str) {
    let deadline = soon();
    while query(lease, sql).await.unwrap() != expected {
        assert!(runtime::now() < deadline, "{sql}: not {expected}");
    }
}

#[test]
fn the_targets_log_and_row_level_security_see_the_agent() {
    let server = server();
    on_shard(async move || {
        let (pools, target) = (pools(), Arc::new(trusted(&server, cold())));
        let attribution = Attribution::new("corp", "o'brien \\ é", Some("psql"), true).unwrap();
        let request = LeaseRequest {
            target: &target,
            account: &target.account,
            database: own_database(&target),
            settings: &SessionSettings::default(),
            attribution: &attribution,
            deadline: soon(),
        };
        let mut agent = pools.lease(&request).await.unwrap();
        let show = |name: &str| format!("select current_setting('{name}')");
        for (sql, expected) in [
            (show("application_name"), "corp/o?brien ? ? psql"),
            (show("sallyport.subject"), "corp/o'brien \\ é"),
            (show("default_transaction_read_only"), "on"),
        ] {
            assert_eq!(query(&mut agent, &sql).await.unwrap(), expected);
        }
        assert_eq!(
            parameter(agent.parameters(), "application_name"),
            "corp/o?brien ? ? psql"
        );
        assert_eq!(
            query(&mut agent, "create table t ()").await,
            Err("25006".into())
        );
        query(&mut agent, "select 1/0").await.unwrap_err();
        server.wait_for_log("corp/o?brien ? ? psql ERROR:  division by zero");
        give_back(&pools, agent).await;

        let idle = "select application_name from pg_stat_activity
                    where backend_type = 'client backend' and application_name <> 'psql'";
        assert_eq!(server.psql(idle), "sallyport");
        let mut other = lease(&pools, &target).await.unwrap();
        assert_eq!(
            query(&mut other, &show("sallyport.subject")).await.unwrap(),
            "corp/reporter"
        );
        assert_eq!(
            query(&mut other, "create table t ()").await,
            Ok(String::new())
        );
    });
}

#[test]
fn a_full_pool_lets_wait_and_says_so_at_the_deadline() {
    let server = server();
    on_shard(async move || {
        let pool = PoolSettings {
            queue_max: 1,
            queue_deadline: Duration::from_millis(100),
            ..capped(2)
        };
        let (pools, target) = (pools(), Arc::new(trusted(&server, pool)));
        let one = lease(&pools, &target).await.unwrap();
        let two = lease(&pools, &target).await.unwrap();
        let mut late = Box::pin(lease(&pools, &target));
        poll_fn(|cx| {
            assert!(late.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(status(&pools).waiting, 1);
        let one_too_many = lease(&pools, &target).await.err();
        assert_eq!(one_too_many, Some(UpstreamError::QueueFull));
        assert_eq!(late.await.err(), Some(UpstreamError::QueueTimedOut));
        assert_eq!(status(&pools).waiting, 0);
        assert_eq!(status(&pools).open, 2);
        drop((one, two));
        assert!(lease(&pools, &target).await.is_ok());
    });
}

#[test]
fn those_who_wait_are_served_in_the_order_of_their_coming() {
    let server = server();
    on_shard(async move || {
        let (pools, target) = (Rc::new(pools()), Arc::new(trusted(&server, capped(1))));
        let order = Rc::new(RefCell::new(Vec::new()));
        let first = lease(&pools, &target).await.unwrap();
        for number in 0..3 {
            let (waiting, target, order) = (pools.clone(), target.clone(), order.clone());
            runtime::spawn(async move {
                // The second asks for another kind of connection, and is not overtaken for it.
                let wanted = settings(if number == 1 {
                    &[("timezone", "UTC")]
                } else {
                    &[]
                });
                let lease = lease_with(&waiting, &target, &wanted, soon())
                    .await
                    .unwrap();
                order.borrow_mut().push(number);
                lease.finish(Outcome::Clean);
            });
            until(|| status(&pools).waiting == number + 1).await;
        }
        first.finish(Outcome::Clean);
        until(|| order.borrow().len() == 3).await;
        assert_eq!(*order.borrow(), [0, 1, 2]);
        until(|| status(&pools).idle == 1).await;
        assert_eq!(status(&pools).open, 1);
    });
}

#[test]
fn an_idle_connection_for_other_settings_makes_room() {
    let server = server();
    on_shard(async move || {
        let (pools, target) = (pools(), Arc::new(trusted(&server, capped(1))));
        let plain = lease(&pools, &target).await.unwrap();
        give_back(&pools, plain).await;
        let wanted = settings(&[("timezone", "UTC")]);
        let mut utc = lease_with(&pools, &target, &wanted, soon()).await.unwrap();
        assert_eq!(query(&mut utc, "show timezone").await.unwrap(), "UTC");
        assert_eq!(status(&pools).open, 1);
    });
}

#[test]
fn distinct_settings_are_remembered_up_to_a_bound() {
    let server = Server::start(Options {
        configuration: vec![("max_connections", "100".into())],
        ..Options::default()
    });
    on_shard(async move || {
        let (pools, target) = (pools(), Arc::new(trusted(&server, capped(90))));
        for number in 0..66 {
            let wanted = settings(&[("statement_timeout", &format!("{}", 1000 + number))]);
            lease_with(&pools, &target, &wanted, soon())
                .await
                .unwrap()
                .finish(Outcome::Clean);
            until(|| status(&pools).idle == (number + 1).min(64)).await;
        }
        until(|| status(&pools).open == 64).await;
    });
}

#[test]
fn a_connection_that_died_while_idle_is_not_handed_out() {
    let server = server();
    on_shard(async move || {
        let (pools, target) = (pools(), Arc::new(trusted(&server, cold())));
        let (one, two) = (lease(&pools, &target).await, lease(&pools, &target).await);
        give_back(&pools, one.unwrap()).await;
        give_back(&pools, two.unwrap()).await;
        let ended = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
                     where application_name = 'sallyport'";
        assert_eq!(server.psql(ended), "2");
        let mut alive = lease(&pools, &target).await.unwrap();
        assert_eq!(query(&mut alive, "select 1").await.unwrap(), "1");
        until(|| status(&pools).open == 1).await;
    });
}

#[test]
fn a_restart_of_the_server_is_told_at_once_and_over_when_it_is() {
    let mut server = server();
    on_shard(async move || {
        let (pools, target) = (Rc::new(pools()), Arc::new(trusted(&server, capped(2))));
        let leased = lease(&pools, &target).await.unwrap();
        let idle = lease(&pools, &target).await.unwrap();
        let waited = Rc::new(RefCell::new(None));
        {
            let (pools, target, waited) = (pools.clone(), target.clone(), waited.clone());
            runtime::spawn(async move {
                *waited.borrow_mut() = Some(lease(&pools, &target).await.err());
            });
        }
        until(|| status(&pools).waiting == 1).await;
        server.stop_fast();
        // Given back, they turn out to be dead, and who waited learns why it waits in vain.
        idle.finish(Outcome::Clean);
        drop(leased);
        until(|| waited.borrow().is_some()).await;
        let refused = UpstreamError::Unreachable {
            kind: ErrorKind::ConnectionRefused,
        };
        assert_eq!(waited.take().flatten(), Some(refused.clone()));
        let asked = runtime::now();
        for _ in 0..1000 {
            assert_eq!(lease(&pools, &target).await.err(), Some(refused.clone()));
        }
        assert!(
            runtime::now() < asked + PATIENCE,
            "nobody waits for the deadline"
        );
        assert_eq!(status(&pools).setback, Some(refused));

        server.resume();
        let deadline = soon();
        let mut back = loop {
            match lease(&pools, &target).await {
                Ok(lease) => break lease,
                Err(error) => assert!(runtime::now() < deadline, "{error}"),
            }
            runtime::yield_if_needed().await;
        };
        assert_eq!(query(&mut back, "select 1").await.unwrap(), "1");
        assert_eq!(status(&pools).setback, None);
    });
}

#[test]
fn connections_are_made_ahead_of_need_and_made_again() {
    let server = server();
    on_shard(async move || {
        let pool = PoolSettings {
            warm: 2,
            connections_max: 3,
            ..cold()
        };
        let (pools, target) = (pools(), Arc::new(trusted(&server, pool)));
        pools.retarget([&target]);
        until(|| status(&pools).idle == 2).await;
        let one = lease(&pools, &target).await.unwrap();
        until(|| status(&pools).idle == 2).await;
        assert_eq!(status(&pools).open, 3);
        let two = lease(&pools, &target).await.unwrap();
        assert_eq!(
            (status(&pools).idle, status(&pools).open),
            (1, 3),
            "the cap holds"
        );
        drop((one, two));
        until(|| status(&pools).idle == 2).await;
    });
}

#[test]
fn warm_connections_come_back_with_their_server() {
    let mut server = server();
    on_shard(async move || {
        let pool = PoolSettings { warm: 2, ..cold() };
        let (pools, target) = (pools(), Arc::new(trusted(&server, pool)));
        pools.retarget([&target]);
        until(|| status(&pools).idle == 2).await;
        server.stop();
        until(|| status(&pools).open == 0 && status(&pools).setback.is_some()).await;
        server.resume();
        until(|| status(&pools).idle == 2).await;
    });
}

#[test]
fn a_changed_target_gets_new_connections() {
    let server = server();
    server.psql("create role other login");
    on_shard(async move || {
        let (pools, old) = (pools(), Arc::new(trusted(&server, cold())));
        pools.retarget([&old]);
        let (idle, leased) = (lease(&pools, &old).await, lease(&pools, &old).await);
        give_back(&pools, idle.unwrap()).await;

        let larger = Arc::new(trusted(&server, capped(20)));
        pools.retarget([&larger]);
        assert_eq!(status(&pools).idle, 1, "sizes do not make a target another");

        let other = account("other", None, Tls::disabled());
        let new = Arc::new(TargetSettings {
            account: Arc::new(other),
            ..trusted(&server, cold())
        });
        pools.retarget([&new]);
        assert_eq!(status(&pools).idle, 0);
        leased.unwrap().finish(Outcome::Clean);
        until(|| status(&pools).open == 0).await;
        let mut fresh = lease(&pools, &new).await.unwrap();
        assert_eq!(
            query(&mut fresh, "select current_user").await.unwrap(),
            "other"
        );

        pools.retarget([]);
        fresh.finish(Outcome::Clean);
        until(|| pools.status().is_empty()).await;
    });
}

#[test]
fn connections_end_by_age_and_by_idleness() {
    let server = server();
    on_shard(async move || {
        let aged = PoolSettings {
            lifetime: Duration::ZERO,
            ..cold()
        };
        let (pools, target) = (pools(), Arc::new(trusted(&server, aged)));
        lease(&pools, &target).await.unwrap().finish(Outcome::Clean);
        until(|| status(&pools).open == 0).await;

        let idle = PoolSettings {
            idle: Duration::ZERO,
            warm: 1,
            ..cold()
        };
        let (pools, target) = (Pools::new(ShardPart::ALL), Arc::new(trusted(&server, idle)));
        let (one, two) = (lease(&pools, &target).await, lease(&pools, &target).await);
        one.unwrap().finish(Outcome::Clean);
        two.unwrap().finish(Outcome::Clean);
        // What is to be kept warm stays.
        until(|| status(&pools).open == 1 && status(&pools).idle == 1).await;
    });
}

#[test]
fn a_drain_ends_what_is_idle_and_sends_away_who_waits() {
    let server = server();
    on_shard(async move || {
        let (pools, target) = (Rc::new(pools()), Arc::new(trusted(&server, capped(2))));
        let (idle, leased) = (lease(&pools, &target).await, lease(&pools, &target).await);
        let waited = Rc::new(RefCell::new(None));
        {
            let (pools, target, waited) = (pools.clone(), target.clone(), waited.clone());
            runtime::spawn(async move {
                *waited.borrow_mut() = Some(lease(&pools, &target).await.err());
            });
        }
        until(|| status(&pools).waiting == 1).await;
        pools.drain();
        until(|| waited.borrow().is_some()).await;
        assert_eq!(waited.take().flatten(), Some(UpstreamError::Draining));
        assert_eq!(
            lease(&pools, &target).await.err(),
            Some(UpstreamError::Draining)
        );
        idle.unwrap().finish(Outcome::Clean);
        let mut leased = leased.unwrap();
        assert_eq!(query(&mut leased, "select 1").await.unwrap(), "1");
        leased.finish(Outcome::Clean);
        until(|| status(&pools).open == 0).await;
    });
}

#[test]
fn a_wait_that_is_given_up_passes_its_grant_on() {
    let server = server();
    on_shard(async move || {
        let (pools, target) = (pools(), Arc::new(trusted(&server, capped(1))));
        let first = lease(&pools, &target).await.unwrap();
        let mut given_up = Box::pin(lease(&pools, &target));
        poll_fn(|cx| {
            assert!(given_up.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        // The slot is granted to the one that waits, which never looks.
        drop(first);
        assert_eq!((status(&pools).open, status(&pools).waiting), (1, 0));
        drop(given_up);
        assert_eq!(status(&pools).open, 0);
        assert!(lease(&pools, &target).await.is_ok());
    });
}

#[test]
fn a_cancel_ends_the_statement_of_its_own_session() {
    let authority = Authority::new("test");
    let certified = authority.server(&["127.0.0.1"]);
    let server = Server::start(Options {
        tls: Some(ServerTls {
            chain_pem: certified.chain_pem,
            key_pem: certified.key_pem,
            client_roots_pem: None,
        }),
        ..Options::default()
    });
    let roots = Roots::from_pem(authority.certificate_pem.as_bytes()).unwrap();
    on_shard(async move || {
        for tls in [
            Tls::disabled(),
            Tls::new(TlsMode::VerifyFull, &roots, None).unwrap(),
        ] {
            let account = account(SUPERUSER, None, tls);
            let target = Arc::new(target(loopback(server.port()), account));
            let pools = pools();
            let mut bystander = lease(&pools, &target).await.unwrap();
            let mut sleeper = lease(&pools, &target).await.unwrap();
            let handle = sleeper.cancel_handle().unwrap();
            let cancelled = Rc::new(Cell::new(false));
            let done = cancelled.clone();
            runtime::spawn(async move {
                let asleep = "select count(*) from pg_stat_activity
                              where wait_event = 'PgSleep'";
                until_query(&mut bystander, asleep, "1").await;
                cancel(&handle, soon()).await.unwrap();
                done.set(true);
            });
            let result = query(&mut sleeper, "select pg_sleep(600)").await;
            assert_eq!(result, Err("57014".into()));
            until(|| cancelled.get()).await;
        }
    });
}
