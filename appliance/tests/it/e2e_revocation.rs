//! Revocation: whoever is cut off is out at once, whatever runs, and stays out over a crash.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use appliance::control::{AdminClient, AdminError, SessionEnded};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::appliance::{Appliance, Setup, json_lines, orders_server, wait_until};
use crate::e2e_login::{self, Provider, with};
use crate::postgres::{Server, binary};
use crate::wire::{Message, Silence, Wire, error, terminated};

/// Logins against revocations, in `make test`.
const RACES: usize = 12;

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn expect_cut_off(wire: &mut Wire) -> Message {
    let messages = wire.until_closed();
    let said = messages.last().expect("last words").clone();
    assert_eq!(said.tag, 'E', "{messages:?}");
    assert_eq!(said.field('V').unwrap(), "FATAL");
    assert_eq!(said.sqlstate(), "57P01");
    assert_eq!(said.field('M').unwrap(), "access is revoked");
    said
}

fn expect_refused(result: Result<Wire, Message>) -> Message {
    let refusal = result.err().expect("refused");
    assert_eq!(refusal.field('V').unwrap(), "FATAL");
    assert_eq!(refusal.sqlstate(), "28000");
    refusal
}

/// Revokes, and gives back the number.
fn revoke(appliance: &Appliance, arguments: &[&str]) -> i64 {
    let said = appliance.cli_text(&[&["revoke"], arguments].concat());
    let number = said.strip_prefix("revocation ").expect("a number");
    let (number, _) = number.split_once(' ').unwrap();
    number.parse().unwrap()
}

fn lift(appliance: &Appliance, id: i64) {
    appliance.cli_text(&["revoke", "lift", &id.to_string()]);
}

/// The id of the live session of an agent.
fn session_of(appliance: &Appliance, subject: &str) -> String {
    let sessions = appliance.sessions();
    let is_it = |session: &&Value| session["subject"] == subject && session["state"] == "live";
    let session = sessions.iter().find(is_it).expect("a live session");
    session["id"].as_str().unwrap().to_owned()
}

fn end_reason(appliance: &Appliance, session: &str) -> String {
    let sessions = appliance.sessions();
    let found = sessions.iter().find(|found| found["id"] == session);
    let session = found.expect("the session");
    session["end_reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn running(server: &Server, text: &str) -> usize {
    let query = format!(
        "select count(*) from pg_stat_activity
         where usename = 'svc' and state <> 'idle' and query like '%{text}%'"
    );
    server.psql(&query).parse().unwrap()
}

#[test]
fn each_kind_ends_the_sessions_that_it_names_and_no_others() {
    let provider = Provider::new();
    let (_server, appliance) = e2e_login::world(&provider);
    // `agent-7` itself, somebody else, and somebody for whom `agent-7` acts.
    let mut token = with("jti", json!("the-token"));
    token["name"] = json!("Seven");
    let own = provider.sign(&token);
    let other = provider.sign(&with("sub", json!("agent-8")));
    let mut on_behalf = with("sub", json!("alice"));
    on_behalf["act"] = json!({"sub": "tool", "act": {"sub": "agent-7"}});
    let on_behalf = provider.sign(&on_behalf);
    let tokens = [&own, &other, &on_behalf];
    let corp = ["--issuer", "corp"];
    // With whom it cuts off: own, other, on behalf.
    let cases: [(&str, &str, [bool; 3]); 5] = [
        ("token", "the-token", [true, false, false]),
        ("subject", "agent-7", [true, false, false]),
        ("subject", "alice", [false, false, true]),
        ("agent", "agent-7", [true, false, true]),
        ("target", "orders", [true, true, true]),
    ];
    for (kind, name, cut_off) in cases {
        let login = |token: &String| appliance.try_login("orders", token);
        let mut wires: Vec<Wire> = tokens.iter().map(|token| login(token).unwrap()).collect();
        let mut arguments = vec![kind, name, "--message", "Ask #security."];
        if kind != "target" {
            arguments.extend(corp);
        }
        let id = revoke(&appliance, &arguments);
        for ((wire, token), is_cut_off) in wires.iter_mut().zip(tokens).zip(cut_off) {
            if is_cut_off {
                let said = expect_cut_off(wire);
                assert_eq!(said.field('H').unwrap(), "Ask #security.");
                let refusal = expect_refused(login(token));
                assert_eq!(refusal.field('M').unwrap(), "access is revoked");
                assert_eq!(refusal.field('H').unwrap(), "Ask #security.");
            } else {
                assert_eq!(wire.value("select 1"), "1", "{kind} {name}");
                login(token).unwrap();
            }
        }
        lift(&appliance, id);
        for token in tokens {
            assert_eq!(login(token).unwrap().value("select 2"), "2");
        }
    }
    // Of another issuer it is another agent.
    let mut wire = appliance.try_login("orders", &own).unwrap();
    revoke(&appliance, &["agent", "agent-7"]);
    revoke(
        &appliance,
        &["agent", "agent-7", "--issuer", "https://other.example/"],
    );
    assert_eq!(wire.value("select 3"), "3");
    // A session is ended for good, and only it.
    drop(wire);
    wait_until("sessions to end", || {
        appliance.sessions().iter().all(|s| s["state"] != "live")
    });
    let mut wire = appliance.try_login("orders", &own).unwrap();
    let mut bystander = appliance.try_login("orders", &other).unwrap();
    let session = session_of(&appliance, "agent-7");
    let id = revoke(&appliance, &["session", &session[..20]]);
    expect_cut_off(&mut wire);
    wait_until("the session's end to be recorded", || {
        end_reason(&appliance, &session) == "revoked"
    });
    assert_eq!(bystander.value("select 4"), "4");
    appliance.try_login("orders", &own).unwrap();
    let lifting = appliance.cli(&["revoke", "lift", &id.to_string()]);
    assert_eq!(lifting.status.code(), Some(1));
}

/// What an agent is in the middle of.
struct Midst {
    name: &'static str,
    begin: fn(&Server, &mut Wire),
    /// Its words can still be told from the rest of an answer.
    hears: bool,
}

const MIDSTS: [Midst; 7] = [
    Midst {
        name: "idle",
        begin: |_, wire| assert_eq!(wire.value("select 1"), "1"),
        hears: true,
    },
    Midst {
        name: "statement",
        begin: |server, wire| {
            wire.send('Q', b"select 'midst' from pg_sleep(600)\0");
            wait_until("the statement", || running(server, "midst") == 1);
        },
        hears: true,
    },
    Midst {
        name: "transaction",
        begin: |_, wire| {
            wire.query("begin; insert into orders values (5001, 1, 1)");
        },
        hears: true,
    },
    Midst {
        name: "statement in a transaction",
        begin: |server, wire| {
            wire.query("begin; insert into orders values (5001, 1, 1)");
            wire.send('Q', b"select 'midst' from pg_sleep(600)\0");
            wait_until("the statement", || running(server, "midst") == 1);
        },
        hears: true,
    },
    Midst {
        name: "copy in",
        begin: |_, wire| {
            wire.send('Q', b"copy orders from stdin\0");
            assert_eq!(wire.receive().unwrap().tag, 'G');
            wire.send('d', b"5001\t1\t1\n");
        },
        hears: true,
    },
    Midst {
        name: "pipeline",
        begin: |server, wire| {
            wire.parse("", "select 'midst' from pg_sleep(600)");
            wire.bind("", "", &[]);
            wire.execute("", 0);
            wire.sync();
            wire.send('Q', b"select 'second midst' from pg_sleep(600)\0");
            wait_until("the statement", || running(server, "midst") == 1);
        },
        hears: true,
    },
    Midst {
        name: "large result",
        begin: |server, wire| {
            let sql = "select 'midst', repeat('x', 1000) from orders a, orders b, orders c";
            wire.send('Q', &terminated(sql));
            assert_eq!(wire.receive().unwrap().tag, 'T');
            assert_eq!(running(server, "midst"), 1);
        },
        hears: false,
    },
];

#[test]
fn whatever_an_agent_is_in_the_midst_of_it_ends_here_and_at_the_target() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut bystander = appliance.login("bystander", "analysts");
    bystander.send('Q', b"select 'undisturbed' from pg_sleep(1)\0");
    bystander.until_ready();
    let token = appliance.token("claude", "analysts");
    for midst in &MIDSTS {
        eprintln!("-- {}", midst.name);
        let mut wire = Wire::login(appliance.address(), "claude", "orders", &token);
        (midst.begin)(&server, &mut wire);
        let session = session_of(&appliance, "claude");
        let id = revoke(&appliance, &["agent", "claude"]);
        if midst.hears {
            expect_cut_off(&mut wire);
        } else {
            // It reads on: its end comes, within what was on its way.
            while wire.receive().is_ok() {}
            assert_eq!(wire.receive().err(), Some(Silence::Closed));
        }
        wait_until("nothing to run at the target", || {
            running(&server, "midst") == 0
                && server.psql(
                    "select count(*) from pg_stat_activity
                     where usename = 'svc' and xact_start is not null",
                ) == "0"
        });
        let inserted = server.psql_in("orders", "select count(*) from orders where id = 5001");
        assert_eq!(inserted, "0", "{}", midst.name);
        wait_until("the end to be recorded", || {
            end_reason(&appliance, &session) == "revoked"
        });
        expect_refused(appliance.try_login("orders", &token));
        assert_eq!(bystander.value("select 1"), "1");
        lift(&appliance, id);
        // Whatever connection of the pool it gets.
        let mut again = Wire::login(appliance.address(), "claude", "orders", &token);
        assert_eq!(again.value("select count(*) from orders"), "1000");
    }
}

#[test]
fn an_agent_that_does_not_read_is_cut_off_all_the_same() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    let sql = "select 'midst', repeat('x', 1000) from orders a, orders b, orders c";
    wire.send('Q', &terminated(sql));
    wait_until("the target to wait for us", || {
        server.psql(
            "select count(*) from pg_stat_activity
             where usename = 'svc' and wait_event = 'ClientWrite'",
        ) == "1"
    });
    let session = session_of(&appliance, "claude");
    revoke(&appliance, &["agent", "claude"]);
    wait_until("the statement to end", || running(&server, "midst") == 0);
    wait_until("the end to be recorded", || {
        end_reason(&appliance, &session) == "revoked"
    });
    while wire.receive().is_ok() {}
}

#[test]
fn psql_is_told() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    let psql = || {
        let mut command = Command::new(binary("psql"));
        command
            .args(["-X", "-c", "select 'midst' from pg_sleep(600)"])
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", appliance.address().port().to_string())
            .env("PGUSER", "agent")
            .env("PGDATABASE", "orders")
            .env("PGPASSWORD", &token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let running_psql = psql();
    wait_until("the statement", || running(&server, "midst") == 1);
    revoke(
        &appliance,
        &["subject", "claude", "--reason", "the laptop is gone"],
    );
    let output = running_psql.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("FATAL:  access is revoked"), "{said}");
    assert!(
        !said.contains("laptop"),
        "the reason is the operators': {said}"
    );
    let output = psql().wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("FATAL:  access is revoked"), "{said}");
    assert_eq!(running(&server, "midst"), 0);
}

#[test]
fn a_pool_of_one_connection_serves_the_next_agent_after_each_revocation() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.shards = 1;
    setup.target_keys = "pool = { connections = 1, warm = 1 }".into();
    let appliance = Appliance::start(&setup);
    // Idle: nothing of it is left, and the connection serves on.
    let mut first = appliance.login("first", "analysts");
    first.query("set work_mem = '1MB'; create temp table mine (n int)");
    let process = first.value("select pg_backend_pid()");
    revoke(&appliance, &["subject", "first"]);
    expect_cut_off(&mut first);
    let mut second = appliance.login("second", "analysts");
    assert_eq!(second.value("select pg_backend_pid()"), process);
    assert_ne!(second.value("show work_mem"), "1MB");
    assert_eq!(
        second.value("select coalesce(to_regclass('mine')::text, 'gone')"),
        "gone"
    );
    // In the midst of a statement: a cancel is on its way, so that nobody gets this one again.
    second.send('Q', b"select 'midst' from pg_sleep(600)\0");
    wait_until("the statement", || running(&server, "midst") == 1);
    revoke(&appliance, &["subject", "second"]);
    expect_cut_off(&mut second);
    let mut third = appliance.login("third", "analysts");
    assert_ne!(third.value("select pg_backend_pid()"), process);
    for _ in 0..20 {
        assert_eq!(third.value("select 1 from pg_sleep(0.01)"), "1");
    }
}

#[test]
fn what_was_acknowledged_holds_after_kill_9() {
    let server = orders_server();
    let mut appliance = Appliance::start(&Setup::for_server(&server));
    for round in 0..5 {
        let agent = format!("agent-{round}");
        let token = appliance.token(&agent, "analysts");
        let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
        revoke(&appliance, &["token", &jti, "--reason", "leaked"]);
        appliance.kill();
        appliance.resume();
        expect_refused(appliance.try_login("orders", &token));
        // The same agent with another token.
        assert_eq!(appliance.login(&agent, "analysts").value("select 1"), "1");
        let listed = json_lines(&appliance.cli_text(&["revoke", "list", "--json"]));
        assert_eq!(listed.len(), round + 1);
        assert_eq!(listed[0]["name"], jti);
        assert_eq!(listed[0]["reason"], "leaked");
        assert_eq!(listed[0]["by"], "uid 0");
    }
    let lifted = json_lines(&appliance.cli_text(&["revoke", "list", "--json"]))[0]["id"].clone();
    lift(&appliance, lifted.as_i64().unwrap());
    appliance.kill();
    appliance.resume();
    let listed = json_lines(&appliance.cli_text(&["revoke", "list", "--json"]));
    assert_eq!(listed.len(), 4);
}

#[test]
fn a_login_that_races_with_a_revocation_is_out_whichever_comes_first() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    let address = appliance.address();
    for _ in 0..RACES {
        let is_revoked = AtomicBool::new(false);
        let id = thread::scope(|scope| {
            let racers: Vec<_> = (0..4)
                .map(|_| {
                    let (token, is_revoked) = (&token, &is_revoked);
                    scope.spawn(move || {
                        let mut wires = Vec::new();
                        loop {
                            let was_revoked = is_revoked.load(Ordering::SeqCst);
                            let parameters = [("user", "agent"), ("database", "orders")];
                            match Wire::try_login(address, &parameters, token) {
                                Ok(_) if was_revoked => panic!("let in after the answer"),
                                Ok(wire) => wires.push(wire),
                                Err(refusal) => {
                                    assert_eq!(refusal.sqlstate(), "28000");
                                    return wires;
                                }
                            }
                            // What is not cut off would keep the pool's connections.
                            if wires.len() > 8 {
                                wires.remove(0);
                            }
                        }
                    })
                })
                .collect();
            let id = revoke(&appliance, &["agent", "claude"]);
            is_revoked.store(true, Ordering::SeqCst);
            for racer in racers {
                for mut wire in racer.join().unwrap() {
                    expect_cut_off(&mut wire);
                }
            }
            id
        });
        lift(&appliance, id);
    }
}

#[test]
fn a_revocation_with_an_end_ends() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    revoke(&appliance, &["subject", "claude", "--until", "3s"]);
    expect_refused(appliance.try_login("orders", &token));
    wait_until("the end", || appliance.try_login("orders", &token).is_ok());
    assert_eq!(appliance.cli_text(&["revoke", "list", "--json"]), "");
}

#[test]
fn what_names_nothing_is_refused() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let session = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let cases: [(&[&str], &str); 8] = [
        (
            &["subject", "x", "--issuer", "crop"],
            "no issuer has the name \"crop\"",
        ),
        (&["target", "odrers"], "no target has the name \"odrers\""),
        (
            &["token", "x", "--until", "2020-01-01T00:00:00Z"],
            "the end lies in the past",
        ),
        (&["agent", ""], "a name has 1 to 512 bytes"),
        (
            &["agent", "x", "--message", "a\nb"],
            "a message has 1 to 512 bytes",
        ),
        (&["session", "x!"], "is not the id of a session"),
        (&["session", &session[..5]], "is not the id of a session"),
        (&["lift", "77"], "there is no revocation 77"),
    ];
    for (arguments, expected) in cases {
        let output = appliance.cli(&[&["revoke"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert_eq!(appliance.cli_text(&["revoke", "list", "--json"]), "");
    let warned = appliance.cli(&["revoke", "agent", "x", "--issuer", "https://nobody.example"]);
    assert!(warned.status.success());
    let said = String::from_utf8(warned.stderr).unwrap();
    assert!(
        said.contains("warning: no issuer of the configuration"),
        "{said}"
    );
}

#[test]
fn an_operator_ends_a_session_on_whichever_shard_without_revoking_anything() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let client = AdminClient::new(&appliance.directory().join("run/admin.sock")).unwrap();
    let end = |id: &str| client.delete::<SessionEnded>(&format!("/v1/sessions/{id}"));
    let token = appliance.token("claude", "analysts");
    // The kernel spreads connections over the shards.
    for _ in 0..8 {
        let mut wire = Wire::login(appliance.address(), "claude", "orders", &token);
        wire.send('Q', b"select 'midst' from pg_sleep(600)\0");
        wait_until("the statement", || running(&server, "midst") == 1);
        let session = session_of(&appliance, "claude");
        assert_eq!(end(&session[..24]).unwrap().id, session);
        let messages = wire.until_closed();
        assert_eq!(error(&messages).sqlstate(), "57P01");
        let said = error(&messages).field('M').unwrap();
        assert_eq!(said, "the session was ended by an operator");
        wait_until("the statement to end", || running(&server, "midst") == 0);
        wait_until("the end to be recorded", || {
            end_reason(&appliance, &session) == "killed"
        });
        // It is gone.
        let gone = end(&session);
        assert!(
            matches!(&gone, Err(AdminError::Refused { status, .. }) if status.as_u16() == 404),
            "{gone:?}"
        );
    }
}

#[test]
fn without_its_revocations_an_appliance_does_not_start() {
    let server = orders_server();
    let mut appliance = Appliance::start(&Setup::for_server(&server));
    revoke(&appliance, &["agent", "claude"]);
    appliance.terminate();
    let database: PathBuf = appliance.directory().join("state/control.sqlite");
    let sound = fs::read(&database).unwrap();
    let mut torn = sound.clone();
    torn[4096..].fill(0x5a);
    let truncated = &sound[..sound.len() / 2];
    for damaged in [&torn[..], truncated, b""] {
        fs::write(&database, damaged).unwrap();
        let output = appliance.cli(&["serve"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("control.sqlite"), "{said}");
    }
    fs::write(&database, &sound).unwrap();
    appliance.resume();
    assert_eq!(
        appliance
            .cli_text(&["revoke", "list", "--json"])
            .lines()
            .count(),
        1
    );
}
