//! CancelRequest: the right one stops its statement from any shard, a forged one does nothing.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::postgres::{Server, binary};
use crate::wire::{Wire, cancel_packet, error, status, tags};

const SLEEPING: &str =
    "select count(*) from pg_stat_activity where usename = 'svc' and wait_event = 'PgSleep'";

fn wait_until_sleeping(server: &Server, count: &str) {
    wait_until("the statement to run", || server.psql(SLEEPING) == count);
}

/// Sends a CancelRequest on a connection of its own; it is closed without an answer.
fn cancel(appliance: &Appliance, packet: &[u8]) {
    let mut wire = Wire::open(appliance.address());
    wire.send_raw(packet);
    assert_eq!(wire.until_closed_raw(), b"");
}

#[test]
fn a_statement_is_cancelled_whichever_shard_the_request_lands_on() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    // The kernel spreads connections over the listeners of both shards by their ports.
    for _ in 0..10 {
        let started = Instant::now();
        wire.send('Q', b"select pg_sleep(60)\0");
        wait_until_sleeping(&server, "1");
        cancel(&appliance, &wire.cancel_packet());
        let messages = wire.until_ready();
        assert_eq!(error(&messages).sqlstate(), "57014");
        assert_eq!(status(&messages), 'I');
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn a_forged_request_cancels_nothing() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    let other = appliance.login("mallory", "analysts");
    wire.send('Q', b"select 'slept' from pg_sleep(3)\0");
    wait_until_sleeping(&server, "1");
    let (process, secret) = wire.key.clone().expect("a key");
    let (other_process, other_secret) = other.key.clone().expect("a key");
    assert_ne!((process, &secret), (other_process, &other_secret));
    let mut flipped = secret.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for (pid, key) in [
        (process, &flipped[..]),
        (process, &[0; 4][..]),
        (process, &other_secret[..]),
        (other_process, &secret[..]),
        (other_process, &other_secret[..]),
        (0, &[0; 4][..]),
        (u32::MAX, &[255; 4][..]),
    ] {
        cancel(&appliance, &cancel_packet(pid, key));
    }
    let messages = wire.until_ready();
    assert_eq!(messages[1].columns(), [Some("slept".to_owned())]);
}

#[test]
fn a_request_that_comes_late_does_not_hit_the_next_session_of_the_connection() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = "pool = { connections = 1, warm = 1 }".into();
    let appliance = Appliance::start(&setup);
    let first = appliance.login("first", "analysts");
    let old = first.cancel_packet();
    drop(first);
    let mut second = appliance.login("second", "analysts");
    second.send('Q', b"select 'slept' from pg_sleep(2)\0");
    wait_until_sleeping(&server, "1");
    cancel(&appliance, &old);
    assert_eq!(
        second.until_ready()[1].columns(),
        [Some("slept".to_owned())]
    );
}

#[test]
fn an_idle_session_survives_its_own_cancel() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    for _ in 0..5 {
        cancel(&appliance, &wire.cancel_packet());
        assert_eq!(wire.value("select 1"), "1");
    }
}

#[test]
fn ctrl_c_in_psql_stops_the_statement() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    let mut psql = Command::new(binary("psql"))
        .args(["-X", "-c", "select pg_sleep(60)"])
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", appliance.address().port().to_string())
        .env("PGUSER", "agent")
        .env("PGDATABASE", "orders")
        .env("PGPASSWORD", token)
        .env("PGSSLMODE", "prefer")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_sleeping(&server, "1");
    kill_process(Pid::from_child(&psql), Signal::INT).unwrap();
    let mut errors = String::new();
    psql.stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    psql.wait().unwrap();
    assert!(
        errors.contains("canceling statement due to user request"),
        "{errors}"
    );
    wait_until("the statement to end", || server.psql(SLEEPING) == "0");
}

#[test]
fn many_requests_with_made_up_keys_are_bounded_and_harm_nobody() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    let connections_before = server.log().matches("connection received").count();
    for guess in 0..300u32 {
        if let Ok(mut stream) = TcpStream::connect(appliance.address()) {
            let _ =
                std::io::Write::write_all(&mut stream, &cancel_packet(guess, &guess.to_be_bytes()));
        }
    }
    assert_eq!(wire.value("select 1"), "1");
    // None of them reached the target.
    let dialled = server.log().matches("connection received").count() - connections_before;
    assert!(dialled < 50, "{dialled} connections to the target");
}

/// One session of an agent that cancels around the end of its own statement.
///
/// Returns its backend, and whether the cancel came in time.
fn run_and_cancel(address: SocketAddr, token: &str, number: u64) -> (String, bool) {
    let mut wire = Wire::login(address, "canceller", "orders", token);
    let backend = wire.value("select pg_backend_pid()");
    let milliseconds = number % 4;
    let cancels_late = number.is_multiple_of(3);
    // Of these the cancel comes in time on any machine.
    let sleeps_long = !cancels_late && number % 5 == 1;
    let seconds = if sleeps_long {
        "5".to_owned()
    } else {
        format!("0.00{milliseconds}")
    };
    wire.send('Q', format!("select pg_sleep({seconds})\0").as_bytes());
    if cancels_late {
        wire.until_ready();
    } else {
        // Up to where the statement ends, and sometimes past it.
        wire.is_silent_for(Duration::from_micros(
            100 + milliseconds * 1000 + number % 7 * 200,
        ));
    }
    for _ in 0..3 {
        Wire::open(address).send_raw(&wire.cancel_packet());
    }
    let was_cancelled = !cancels_late
        && wire
            .until_ready()
            .iter()
            .any(|message| message.tag == 'E' && message.sqlstate() == "57014");
    if number.is_multiple_of(2) {
        wire.send('X', b"");
    }
    // Still on its way when the session is gone.
    Wire::open(address).send_raw(&wire.cancel_packet());
    (backend, was_cancelled)
}

/// Counts down when its thread is done, also by a failed expectation.
struct Leaves<'g>(&'g AtomicU64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_cancel_never_hits_the_statement_of_another_agent() {
    const CANCELLERS: u64 = 3;
    const SESSIONS: u64 = 120;
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.target_keys = "pool = { connections = 2, warm = 1, queue_deadline = \"20s\" }".into();
    let appliance = Appliance::start(&setup);
    let (canceller, victim) = (
        appliance.token("canceller", "analysts"),
        appliance.token("victim", "analysts"),
    );
    let address = appliance.address();
    let going = AtomicU64::new(CANCELLERS);
    let (mut of_cancellers, mut hits) = (BTreeSet::new(), 0);
    let mut of_victims = BTreeSet::new();
    thread::scope(|scope| {
        let victims: Vec<_> = (0..3)
            .map(|_| {
                let (victim, going) = (&victim, &going);
                scope.spawn(move || {
                    let mut backends = BTreeSet::new();
                    while going.load(Ordering::Relaxed) > 0 {
                        let mut wire = Wire::login(address, "victim", "orders", victim);
                        backends.insert(wire.value("select pg_backend_pid()"));
                        for _ in 0..3 {
                            let answers = wire.query("select 'slept' from pg_sleep(0.002)");
                            assert_eq!(tags(&answers), "TDCZ", "{answers:?}");
                        }
                        wire.send('X', b"");
                    }
                    backends
                })
            })
            .collect();
        let cancellers: Vec<_> = (0..CANCELLERS)
            .map(|first| {
                let (canceller, going) = (&canceller, &going);
                scope.spawn(move || {
                    let _leaves = Leaves(going);
                    (0..SESSIONS)
                        .map(|number| run_and_cancel(address, canceller, first * 31 + number))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        for canceller in cancellers {
            for (backend, was_cancelled) in canceller.join().unwrap() {
                of_cancellers.insert(backend);
                hits += u64::from(was_cancelled);
            }
        }
        for victim in victims {
            of_victims.append(&mut victim.join().unwrap());
        }
    });
    assert!(hits > 0, "no cancel came in time");
    assert!(
        hits < CANCELLERS * SESSIONS * 2 / 3,
        "all came in time: {hits}"
    );
    let shared = of_cancellers.intersection(&of_victims).count();
    assert!(shared > 0, "no connection changed from one to the other");
}
