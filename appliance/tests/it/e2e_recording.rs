//! The recording against PostgreSQL's own log: what ran is recorded, whatever happens to us.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::getuid;

use crate::appliance::{Appliance, Setup, orders_server, wait_until};
use crate::postgres::Server;
use crate::wire::{Message, Wire, error, tags};

/// Rounds of load and `kill -9`.
const ROUNDS: usize = 12;
const CLIENTS: usize = 6;

/// The markers `m-ROUND-CLIENT-NUMBER-end` in a text.
fn markers(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("m-").map(|(at, _)| &text[at..]);
    let ends = starts.filter_map(|rest| rest.find("-end").map(|end| &rest[..end]));
    let is_marker = |marker: &&str| {
        marker.len() < 40
            && marker
                .split('-')
                .skip(1)
                .all(|part| part.parse::<u64>().is_ok())
    };
    ends.filter(is_marker).map(str::to_owned).collect()
}

/// One client that sends marked statements of every kind until the connection breaks.
fn load(
    address: SocketAddr,
    token: &str,
    prefix: &str,
    entered: &AtomicUsize,
    answered: &AtomicUsize,
) {
    let mut wire = Wire::login(address, "loader", "orders", token);
    entered.fetch_add(1, Ordering::Relaxed);
    for number in 0.. {
        let marker = format!("{prefix}-{number}-end");
        match number % 4 {
            0 => wire.send('Q', format!("select '{marker}'\0").as_bytes()),
            1 => wire.send(
                'Q',
                format!("select 1; select '{marker}', repeat('x', 3000)\0").as_bytes(),
            ),
            2 => {
                wire.parse(
                    "",
                    &format!("select name, '{marker}' from customers where id = $1"),
                );
                wire.bind("", "", &[Some("3")]);
                wire.execute("", 0);
                wire.sync();
            }
            _ => {
                // The marker is a bound value; PostgreSQL logs it as a parameter.
                wire.parse("", "select $1::text");
                wire.bind("", "", &[Some(&marker)]);
                wire.execute("", 0);
                wire.sync();
            }
        }
        loop {
            match wire.receive() {
                Ok(message) if message.tag == 'Z' => break,
                Ok(_) => {}
                Err(_) => return,
            }
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn kill_9_under_load_loses_no_command_that_postgresql_has_seen() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    // Small, so that the rings wrap many times.
    setup.tables = "[recording]\nring_bytes = \"1MiB\"\n".into();
    let mut appliance = Appliance::start(&setup);
    let mut random = std::process::id();
    for round in 0..ROUNDS {
        let token = appliance.token("loader", "analysts");
        let (entered, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let stop_after = 40 + usize::try_from(random >> 16).unwrap() % 800;
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (token, entered, answered) = (&token, &entered, &answered);
                let prefix = format!("m-{round}-{client}");
                let address = appliance.address();
                scope.spawn(move || load(address, token, &prefix, entered, answered));
            }
            // A client that is cut off in its login would be a failed test.
            wait_until("load", || {
                let all_entered = entered.load(Ordering::Relaxed) == CLIENTS;
                all_entered && answered.load(Ordering::Relaxed) >= stop_after
            });
            appliance.kill();
        });
        appliance.resume();
    }
    // Backends that were cut off may still write their last lines.
    let live = "select count(*) from pg_stat_activity where usename = 'svc' and query like '%m-%'";
    wait_until("the last backends to end", || server.psql(live) == "0");
    let ran = markers(&server.log());
    let recorded = markers(&appliance.everything_recorded());
    assert!(ran.len() > ROUNDS * 40, "only {} statements ran", ran.len());
    let lost: Vec<_> = ran.difference(&recorded).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are not recorded: {lost:?}",
        lost.len(),
        ran.len()
    );
    // Sessions that ended that way are not listed as live.
    let sessions = appliance.sessions();
    assert!(sessions.len() >= ROUNDS * CLIENTS, "{}", sessions.len());
}

#[test]
fn a_second_appliance_does_not_recover_the_rings_of_a_living_one() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    let output = appliance.cli(&["serve"]);
    assert!(!output.status.success());
    assert_eq!(wire.value("select 1"), "1");
    wire.query("select 'after the intruder'");
    assert!(
        appliance
            .everything_recorded()
            .contains("after the intruder")
    );
}

#[test]
fn rows_bound_values_errors_and_refusals_are_replayed() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    wire.parse("", "select name from customers where id = $1");
    wire.bind("", "", &[Some("77")]);
    wire.execute("", 0);
    wire.sync();
    wire.until_ready();
    wire.query("select 1/0");
    wire.query("truncate orders");
    wire.query("create role eve password 'swordfish-in-ddl'");
    wire.send('Q', b"copy customers (id, name) from stdin\0");
    assert_eq!(wire.receive().unwrap().tag, 'G');
    wire.send('d', b"5001\tcopied in\n");
    wire.send('c', b"");
    wire.until_ready();
    wire.query("copy (select 'copied out') to stdout");
    wire.send('X', b"");
    drop(wire);
    let recorded = appliance.everything_recorded();
    for part in [
        "select name from customers where id = $1",
        "77",
        "customer 77",
        "22012",
        "truncate orders",
        "no-destruction",
        "copied in",
        "copied out",
        "create role eve",
    ] {
        assert!(recorded.contains(part), "{part:?} is not in {recorded}");
    }
    assert!(
        !recorded.contains("swordfish-in-ddl"),
        "a password in DDL is kept"
    );
}

#[test]
fn numbers_of_events_grow_and_each_command_has_its_verdict() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    for number in 0..50 {
        wire.query(&format!("select {number}"));
    }
    wire.query("drop table orders");
    drop(wire);
    let id = appliance.sessions()[0]["id"].as_str().unwrap().to_owned();
    let events = appliance.replay(&id);
    let commands: Vec<_> = events
        .iter()
        .filter(|event| event.to_string().contains("select "))
        .collect();
    assert!(commands.len() >= 50, "{}", commands.len());
    let text = appliance.cli_text(&["replay", &id]);
    let at = |statement: &str| {
        text.find(statement)
            .unwrap_or_else(|| panic!("{statement} is not in {text}"))
    };
    assert!(
        at("select 10") < at("select 11") && at("select 48") < at("drop table"),
        "{text}"
    );
}

/// Recordings on a file system of 8 MiB, seen only by the appliance.
fn small_disk(server: &Server) -> Appliance {
    let mut setup = Setup::for_server(server);
    setup.shards = 1;
    setup.tables = "[recording]\nring_bytes = \"1MiB\"\ndirectory = \"small\"\n".into();
    // A mount namespace of its own; the directory is beside the configuration file, argument 2.
    let script = r#"
        folder=$(dirname "$3")/small
        mkdir -p "$folder"
        mount -t tmpfs -o size=8m none "$folder"
        exec "$@"
    "#;
    let mut wrapper = vec!["unshare".to_owned(), "--mount".into()];
    if !getuid().is_root() {
        wrapper.extend(["--map-root-user".into(), "--user".into()]);
    }
    wrapper.extend(["sh".into(), "-ec".into(), script.into(), "sh".into()]);
    setup.wrapper = wrapper;
    Appliance::start(&setup)
}

#[test]
fn a_full_disk_refuses_new_work_and_keeps_what_is_recorded() {
    let server = orders_server();
    let appliance = small_disk(&server);
    let token = appliance.token("claude", "analysts");
    let mut wire = appliance.login("claude", "analysts");
    let filling = "x".repeat(100_000);
    let mut last = Vec::new();
    let mut ran = 0;
    while ran < 1000 {
        last = query_or_end(
            &mut wire,
            &format!("select 'kept-{ran}-end' /* {filling} */"),
        );
        if last.iter().any(|message| message.tag == 'E') || last.is_empty() {
            break;
        }
        ran += 1;
    }
    assert!(
        ran > 10 && ran < 1000,
        "{ran} statements of 100 kB on 8 MiB"
    );
    assert_eq!(error(&last).sqlstate(), "53100", "{last:?}");
    assert!(
        !server.log().contains(&format!("kept-{ran}-end")),
        "ran without a record"
    );
    let refusal = appliance
        .try_login("orders", &token)
        .err()
        .expect("a refused login");
    assert_eq!(refusal.sqlstate(), "53100");

    // Room again: the operator grows the file system. Nothing is restarted.
    grow(&appliance);
    wait_until("logins again", || {
        appliance.try_login("orders", &token).is_ok()
    });
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(tags(&wire.query("select 'after-the-flood'")), "TDCZ");
    let recorded = appliance.everything_recorded();
    for number in 0..ran {
        assert!(
            recorded.contains(&format!("kept-{number}-end")),
            "kept-{number} is lost"
        );
    }
    assert!(recorded.contains("after-the-flood"));
    let log = appliance.log();
    assert_eq!(log.matches("nothing can be recorded").count(), 1, "{log}");
    assert_eq!(log.matches("recording goes on").count(), 1, "{log}");
}

/// Everything up to ReadyForQuery or the end of the connection.
fn query_or_end(wire: &mut Wire, sql: &str) -> Vec<Message> {
    wire.send('Q', &crate::wire::terminated(sql));
    let mut messages = Vec::new();
    while let Ok(message) = wire.receive() {
        let ready = message.tag == 'Z';
        messages.push(message);
        if ready {
            break;
        }
    }
    messages
}

fn grow(appliance: &Appliance) {
    let mut command = Command::new("nsenter");
    if !getuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args([
        "--mount",
        "--target",
        &appliance.process_id().to_string(),
        "mount",
    ]);
    command
        .args(["-o", "remount,size=64m"])
        .arg(appliance.directory().join("small"));
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn journal_files_are_the_services_own() {
    use std::os::unix::fs::PermissionsExt;
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    appliance.login("claude", "analysts").query("select 1");
    let mut folders = vec![
        appliance.directory().join("state"),
        appliance.directory().join("run"),
    ];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                seen += 1;
                // The lock is empty; what matters is who holds it.
                let public = path.ends_with("tls-certificate.pem") || kind.len() == 0;
                let others = kind.permissions().mode() & 0o077;
                assert!(
                    public || others == 0,
                    "{} has mode {others:o}",
                    path.display()
                );
            }
        }
    }
    assert!(seen >= 4, "{seen} files");
}
