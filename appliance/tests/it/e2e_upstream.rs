//! Targets that are down, slow, refusing, hostile or dying: a clear SQLSTATE, and nothing hangs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::appliance::{ACCOUNT_PASSWORD, Appliance, Setup, orders_server, wait_until};
use crate::postgres::free_port;
use crate::wire::{Message, error, message};

const POOL: &str = "pool = { warm = 0, connect_deadline = \"1s\", queue_deadline = \"1s\" }";

fn appliance_for(target: &str) -> Appliance {
    Appliance::start(&Setup {
        target: target.to_owned(),
        target_keys: POOL.into(),
        target_tls: "disable",
        tables: String::new(),
        files: Vec::new(),
        policy: crate::appliance::POLICY,
        shards: 1,
        listeners: Vec::new(),
        console: None,
        metrics: None,
        runtime_directory: None,
        wrapper: Vec::new(),
    })
}

/// A login must be refused with `codes` within `limit`, saying nothing of the account.
fn check_refused(appliance: &Appliance, codes: &[&str], limit: Duration) -> Message {
    let token = appliance.token("claude", "analysts");
    let started = Instant::now();
    let Err(refusal) = appliance.try_login("orders", &token) else {
        panic!("was let in");
    };
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
    assert!(codes.contains(&refusal.sqlstate().as_str()), "{refusal:?}");
    let said = format!("{refusal:?}");
    assert!(
        !said.contains("svc") && !said.contains(ACCOUNT_PASSWORD),
        "{said}"
    );
    refusal
}

/// The target is back: logins succeed again, after the pause that follows a failure.
fn check_recovers(appliance: &Appliance) {
    let token = appliance.token("claude", "analysts");
    wait_until("logins again", || {
        appliance.try_login("orders", &token).is_ok()
    });
    assert_eq!(appliance.login("claude", "analysts").value("select 1"), "1");
}

/// A target that answers each connection by `serve`, on a thread that ends with the test.
fn scripted(serve: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

#[test]
fn a_target_that_is_down_is_08001_at_once() {
    let appliance = appliance_for(&format!("127.0.0.1:{}", free_port()));
    check_refused(&appliance, &["08001"], Duration::from_secs(3));
}

#[test]
fn a_target_whose_name_does_not_resolve_is_08001() {
    let appliance = appliance_for("no-such-host.invalid:5432");
    check_refused(&appliance, &["08001"], Duration::from_secs(10));
}

#[test]
fn a_target_that_never_answers_is_given_up_at_the_deadline() {
    let target = scripted(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let appliance = appliance_for(&target);
    check_refused(&appliance, &["08001"], Duration::from_secs(5));
}

#[test]
fn a_target_that_answers_one_byte_a_second_is_given_up_at_the_deadline() {
    let target = scripted(|mut stream| {
        let answer = message('R', &[0; 60]);
        for byte in answer {
            let mut wait = [0; 64];
            stream
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let _ = stream.read(&mut wait);
            if stream.write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    let appliance = appliance_for(&target);
    check_refused(&appliance, &["08001"], Duration::from_secs(5));
}

#[test]
fn a_target_that_closes_during_login_is_08001() {
    let appliance = appliance_for(&scripted(drop));
    check_refused(
        &appliance,
        &["08001", "08004", "08006"],
        Duration::from_secs(3),
    );
}

#[test]
fn a_target_that_speaks_another_protocol_is_a_protocol_violation_upstream() {
    let target = scripted(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 64]);
    });
    let appliance = appliance_for(&target);
    check_refused(
        &appliance,
        &["08001", "08004", "08006", "08P01"],
        Duration::from_secs(3),
    );
}

#[test]
fn a_target_that_announces_a_gigabyte_is_not_believed() {
    let target = scripted(|mut stream| {
        let _ = stream.write_all(&[&b"R"[..], &(1i32 << 30).to_be_bytes()].concat());
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let appliance = appliance_for(&target);
    check_refused(
        &appliance,
        &["08001", "08004", "08006", "08P01"],
        Duration::from_secs(3),
    );
}

#[test]
fn a_target_that_refuses_our_account_is_told_apart_from_a_refused_agent() {
    let server = orders_server();
    let appliance = appliance_for(&format!("127.0.0.1:{}", server.port()));
    server.psql("alter role svc password 'changed'");
    let refusal = check_refused(&appliance, &["08004"], Duration::from_secs(5));
    assert!(
        !format!("{refusal:?}").contains("28P01"),
        "the agent's token is not at fault"
    );
    server.psql(&format!("alter role svc password '{ACCOUNT_PASSWORD}'"));
    check_recovers(&appliance);
}

#[test]
fn a_target_with_no_place_left_is_53300() {
    let server = orders_server();
    server.psql("alter role svc connection limit 1");
    let appliance = appliance_for(&format!("127.0.0.1:{}", server.port()));
    let mut first = appliance.login("claude", "analysts");
    check_refused(&appliance, &["53300", "08004"], Duration::from_secs(5));
    assert_eq!(first.value("select 1"), "1");
}

#[test]
fn a_login_that_waits_too_long_for_a_connection_is_53300() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = "pool = { connections = 1, warm = 0, queue_deadline = \"500ms\" }".into();
    let appliance = Appliance::start(&setup);
    let mut first = appliance.login("claude", "analysts");
    check_refused(&appliance, &["53300"], Duration::from_secs(5));
    // Given back in time, the connection goes to who waits.
    assert_eq!(first.value("select 1"), "1");
    first.send('X', &[]);
    drop(first);
    let mut second = appliance.login("claude", "analysts");
    assert_eq!(second.value("select 1"), "1");
}

#[test]
fn a_target_that_dies_between_rows_ends_the_session_with_a_connection_failure() {
    let mut server = orders_server();
    let appliance = appliance_for(&format!("127.0.0.1:{}", server.port()));
    let mut wire = appliance.login("claude", "analysts");
    wire.send(
        'Q',
        b"select repeat('x', 1000) from generate_series(1, 10000000)\0",
    );
    while wire.receive().expect("rows").tag != 'D' {}
    server.stop();
    let messages = wire.until_closed();
    let last = error(&messages).sqlstate();
    assert!(
        ["08006", "57P01", "57P02"].contains(&last.as_str()),
        "{last}"
    );

    server.resume();
    check_recovers(&appliance);
}

/// A row that is longer than we hold is passed on as it comes. Cut short, nothing can be said
/// inside it; it is not completed by ours, and the connection ends at once.
#[test]
fn a_target_that_dies_inside_a_long_row_ends_the_session_without_inventing_the_rest() {
    let mut server = orders_server();
    let appliance = appliance_for(&format!("127.0.0.1:{}", server.port()));
    let mut wire = appliance.login("claude", "analysts");
    wire.send(
        'Q',
        b"select repeat('x', 30000000) from generate_series(1, 1000)\0",
    );
    while wire.receive().expect("rows").tag != 'D' {}
    let started = Instant::now();
    server.stop();
    let messages = wire.until_closed();
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    for row in messages.iter().filter(|message| message.tag == 'D') {
        assert_eq!(row.columns()[0].as_deref().map(str::len), Some(30_000_000));
    }
}

#[test]
fn a_target_that_shuts_down_says_so_to_idle_sessions() {
    let mut server = orders_server();
    let appliance = appliance_for(&format!("127.0.0.1:{}", server.port()));
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(wire.value("select 1"), "1");
    server.stop_fast();
    let messages = wire.until_closed();
    assert_eq!(error(&messages).sqlstate(), "57P01");
    check_refused(&appliance, &["08001"], Duration::from_secs(3));
    server.resume();
    check_recovers(&appliance);
}

#[test]
fn a_backend_that_is_terminated_ends_its_session_only() {
    let server = orders_server();
    let appliance = appliance_for(&format!("127.0.0.1:{}", server.port()));
    let mut victim = appliance.login("victim", "analysts");
    let mut bystander = appliance.login("bystander", "analysts");
    let backend = victim.value("select pg_backend_pid()");
    victim.send('Q', b"select pg_sleep(60)\0");
    let active = format!(
        "select count(*) from pg_stat_activity where pid = {backend} and wait_event = 'PgSleep'"
    );
    wait_until("the statement to run", || server.psql(&active) == "1");
    server.psql(&format!("select pg_terminate_backend({backend})"));
    assert_eq!(error(&victim.until_closed()).sqlstate(), "57P01");
    assert_eq!(bystander.value("select 1"), "1");
}

#[test]
fn connections_that_died_in_the_pool_are_not_handed_out() {
    let mut server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = "pool = { connections = 4, warm = 4 }".into();
    let appliance = Appliance::start(&setup);
    appliance.login("claude", "analysts").value("select 1");
    let pooled = "select count(*) from pg_stat_activity
                  where usename = 'svc' and application_name <> 'sallyport catalogue'";
    wait_until("the pool to be warm", || {
        server.psql(pooled).parse::<u32>().unwrap() >= 4
    });
    server.stop();
    server.resume();
    for _ in 0..4 {
        assert_eq!(appliance.login("claude", "analysts").value("select 1"), "1");
    }
}

#[test]
fn notices_and_notifications_arrive_at_any_time() {
    let server = orders_server();
    let appliance = appliance_for(&format!("127.0.0.1:{}", server.port()));
    let mut wire = appliance.login("claude", "analysts");
    wire.query("listen news");
    server.psql_in("orders", "notify news, 'hello'");
    let notification = wire.receive().unwrap();
    assert_eq!(notification.tag, 'A');
    assert!(
        notification
            .texts()
            .iter()
            .any(|text| text.contains("hello")),
        "{notification:?}"
    );
    let notice = wire.query("create table if not exists orders (id int)");
    let said = notice
        .iter()
        .find(|m| m.tag == 'N')
        .and_then(|m| m.field('C'));
    assert_eq!(said.as_deref(), Some("42P07"), "{notice:?}");
}

/// A PgBouncer of before 1.25.2 died of it (CVE-2026-6666).
#[test]
fn a_target_whose_error_has_no_sqlstate_ends_one_login_only() {
    let target = scripted(|mut stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(&message('E', b"SERROR\0Mnothing else\0\0"));
    });
    let appliance = appliance_for(&target);
    for _ in 0..3 {
        check_refused(
            &appliance,
            &["08001", "08004", "08006", "08P01"],
            Duration::from_secs(3),
        );
    }
    assert!(!appliance.log().contains("panic"), "{}", appliance.log());
}

/// The SCRAM iteration count of a server is work for us: pgjdbc took any (CVE-2026-42198).
#[test]
fn a_target_that_asks_for_a_billion_scram_iterations_costs_nothing() {
    let target = scripted(|mut stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(&message(
            'R',
            &[&10i32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat(),
        ));
        let mut initial = [0; 512];
        let Ok(length) = stream.read(&mut initial) else {
            return;
        };
        let text = String::from_utf8_lossy(&initial[..length]).into_owned();
        let nonce = text.rsplit("r=").next().unwrap_or_default().to_owned();
        let first = format!("r={nonce}3rfcNHYJY1ZVvWVs7j,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1000000000");
        let _ = stream.write_all(&message(
            'R',
            &[&11i32.to_be_bytes()[..], first.as_bytes()].concat(),
        ));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let appliance = appliance_for(&target);
    check_refused(
        &appliance,
        &["08001", "08004", "08006", "08P01"],
        Duration::from_secs(3),
    );
}
