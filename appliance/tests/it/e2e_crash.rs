//! The appliance killed again and again under writers: what is in the database is in the record,
//! under the name of who wrote it, and the next start needs no help.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::statfs;
use serde_json::Value;

use crate::appliance::{Appliance, Setup, comes_about, orders_server, wait_until};
use crate::postgres::{Server, binary};
use crate::wire::{Silence, Wire, terminated};

/// Kills of `make test`. `SALLYPORT_KILLS` says another number: `make test-crash` 100.
const KILLS: usize = 10;

const WRITERS: usize = 6;

/// Of `statfs`, for tmpfs.
const TMPFS_MAGIC: i64 = 0x0102_1994;

fn kills() -> usize {
    std::env::var("SALLYPORT_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"))
}

/// How far the writers of a round are, all together.
#[derive(Debug, Default)]
struct Progress {
    logged_in: AtomicUsize,
    answered: AtomicUsize,
}

/// What one writer was told is done.
type Told = BTreeSet<String>;

/// Inserts numbered rows in every way that a driver has, until the connection breaks.
fn write(address: SocketAddr, agent: &str, token: &str, prefix: &str, progress: &Progress) -> Told {
    let mut told = Told::new();
    let mut wire = Wire::login(address, agent, "orders", token);
    progress.logged_in.fetch_add(1, Ordering::Relaxed);
    for number in 0.. {
        let row = |part: &str| format!("w-{prefix}-{number}{part}-end");
        let markers = match number % 4 {
            0 => {
                let marker = row("");
                let sql = format!("insert into written (marker) values ('{marker}')");
                wire.send('Q', &terminated(&sql));
                vec![marker]
            }
            1 => {
                let markers = vec![row("a"), row("b")];
                let sql = format!(
                    "begin; insert into written (marker) values ('{}');
                     insert into written (marker) values ('{}'); commit",
                    markers[0], markers[1]
                );
                wire.send('Q', &terminated(&sql));
                markers
            }
            2 => {
                let markers: Vec<String> = ["a", "b", "c"].map(row).to_vec();
                wire.parse("", "insert into written (marker) values ($1)");
                for marker in &markers {
                    wire.bind("", "", &[Some(marker)]);
                    wire.execute("", 0);
                }
                wire.sync();
                markers
            }
            _ => {
                let markers: Vec<String> = ["a", "b", "c"].map(row).to_vec();
                wire.send('Q', b"copy written (marker) from stdin\0");
                for marker in &markers {
                    wire.send('d', format!("{marker}\n").as_bytes());
                }
                wire.send('c', b"");
                markers
            }
        };
        loop {
            match wire.receive() {
                Ok(message) if message.tag == 'Z' => break,
                Ok(message) => assert_ne!(message.tag, 'E', "{message:?}"),
                // Between two messages or in the middle of one, never with half a message as whole.
                Err(Silence::Closed) => return told,
                Err(Silence::TimedOut) => panic!("no answer and no end"),
            }
        }
        told.extend(markers);
        progress.answered.fetch_add(1, Ordering::Relaxed);
    }
    told
}

/// What stock psql says when the appliance dies under its statement.
fn psql_until_killed(address: SocketAddr, token: &str, statement: &str) -> String {
    let output = Command::new(binary("psql"))
        .args(["-X", "-c", statement])
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", address.port().to_string())
        .env("PGUSER", "agent")
        .env("PGDATABASE", "orders")
        .env("PGPASSWORD", token)
        .env("PGSSLMODE", "disable")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The markers in a text.
fn markers(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("w-").filter_map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find("-end")? + "-end".len();
        let marker = &rest[..end];
        let is_marker = marker
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_alphanumeric());
        is_marker.then_some(marker)
    })
}

/// What the recordings hold, by agent.
fn recorded(appliance: &Appliance) -> BTreeMap<String, BTreeSet<String>> {
    let sessions = appliance.cli_text(&["sessions", "--json", "--limit", "10000"]);
    let mut recorded = BTreeMap::<_, BTreeSet<String>>::new();
    for line in sessions.lines() {
        let session: Value = serde_json::from_str(line).unwrap();
        assert_ne!(session["state"], "live", "{session}");
        let subject = session["subject"].as_str().unwrap().to_owned();
        let events = appliance.cli_text(&["replay", session["id"].as_str().unwrap(), "--json"]);
        let found = markers(&events).map(str::to_owned);
        recorded.entry(subject).or_default().extend(found);
    }
    recorded
}

fn world() -> (Server, tempfile::TempDir, Appliance) {
    let server = orders_server();
    server.psql_in(
        "orders",
        "create table written (
             marker text primary key,
             agent text not null default split_part(current_setting('sallyport.subject'), '/', 2));
         alter table written owner to svc",
    );
    let rings = tempfile::Builder::new()
        .prefix("sallyport-rings.")
        .tempdir_in("/dev/shm")
        .unwrap();
    assert_eq!(statfs(rings.path()).unwrap().f_type, TMPFS_MAGIC);
    let mut setup = Setup::for_server(&server);
    // Small, so that the rings wrap many times.
    setup.tables = "[recording]\nring_bytes = \"1MiB\"\n".into();
    setup.runtime_directory = Some(rings.path().to_owned());
    let appliance = Appliance::start(&setup);
    (server, rings, appliance)
}

#[test]
fn every_row_that_was_written_under_kill_9_is_in_the_record_of_its_agent() {
    let (server, _rings, mut appliance) = world();
    let address = appliance.address();
    // Tokens of before a kill are good after it.
    let agents: &[(String, String)] = &(0..WRITERS)
        .map(|number| format!("writer-{number}"))
        .map(|agent| (appliance.token(&agent, "analysts"), agent))
        .map(|(token, agent)| (agent, token))
        .collect::<Vec<_>>();
    let mut told = Told::new();
    let mut random = std::process::id();
    for round in 0..kills() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let kill_after = 10 + usize::try_from(random >> 16).unwrap() % 300;
        let progress = Progress::default();
        thread::scope(|scope| {
            let writers: Vec<_> = agents
                .iter()
                .map(|(agent, token)| {
                    let (progress, prefix) = (&progress, format!("{round}-{agent}"));
                    scope.spawn(move || write(address, agent, token, &prefix, progress))
                })
                .collect();
            let statement = format!("select 'round {round}' from pg_sleep(600)");
            let running = format!(
                "select count(*) from pg_stat_activity
                 where usename = 'svc' and wait_event = 'PgSleep' and query like '%round {round}''%'"
            );
            let psql = scope.spawn(move || psql_until_killed(address, &agents[0].1, &statement));
            let is_loaded = comes_about(|| {
                progress.logged_in.load(Ordering::Relaxed) == WRITERS
                    && progress.answered.load(Ordering::Relaxed) >= kill_after
                    && server.psql(&running) == "1"
            });
            // In any case: writers end by it.
            appliance.kill();
            assert!(is_loaded, "round {round}: {progress:?}");
            for writer in writers {
                told.extend(writer.join().unwrap());
            }
            let said = psql.join().unwrap();
            assert!(
                said.contains("server closed the connection unexpectedly")
                    || said.contains("Connection reset by peer"),
                "{said}"
            );
        });
        let refused = TcpStream::connect(address).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
        appliance.resume();
    }
    let busy = "select count(*) from pg_stat_activity where usename = 'svc' and state <> 'idle'";
    wait_until("the last backends to end", || {
        // psql's statement goes on until its backend looks at its socket.
        server.psql(
            "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'",
        );
        server.psql(busy) == "0"
    });

    let rows = server.psql_in("orders", "select agent, marker from written");
    let recorded = recorded(&appliance);
    let mut written = BTreeSet::new();
    for row in rows.lines() {
        let (agent, marker) = row.split_once('|').unwrap();
        let of_agent = recorded.get(agent);
        let is_recorded = of_agent.is_some_and(|markers| markers.contains(marker));
        assert!(is_recorded, "{marker} of {agent} ran without a record");
        written.insert(marker.to_owned());
    }
    assert!(written.len() >= kills() * 10, "{} rows", written.len());
    let lost: Vec<_> = told.difference(&written).collect();
    assert!(lost.is_empty(), "was told of, and is not there: {lost:?}");
    eprintln!(
        "{} kills, {} rows written, {} of them acknowledged, all recorded",
        kills(),
        written.len(),
        told.len()
    );
}
