//! Every way in which a session ends: what its client is told, what its recording says, and what the
//! catalogue says.

use rustix::process::Signal;
use serde_json::Value;

use crate::appliance::{Appliance, POLICY, Setup, orders_server, wait_until};
use crate::postgres::Server;
use crate::wire::Wire;

/// What ends a session, given its id, and what there must be of it then.
struct End {
    reason: &'static str,
    /// SQLSTATE and message of the last words; nothing where nobody is left to hear them.
    said: Option<(&'static str, &'static str)>,
    bring_about: fn(&mut World, &mut Wire, &str),
}

struct World {
    server: Server,
    appliance: Appliance,
}

impl World {
    fn new(session: &str) -> Self {
        let server = orders_server();
        let mut setup = Setup::for_server(&server);
        setup.tables = format!("[drain]\ndeadline = \"1s\"\n[session]\n{session}\n");
        let appliance = Appliance::start(&setup);
        Self { server, appliance }
    }
}

const ENDS: [(&str, &[End]); 4] = [
    (
        "",
        &[
            End {
                reason: "finished",
                said: None,
                bring_about: |_, wire, _| wire.send('X', b""),
            },
            End {
                reason: "downstream-lost",
                said: None,
                bring_about: |_, wire, _| {
                    wire.send('Q', b"select pg_sleep(600)\0");
                    wire.reset();
                    *wire = Wire::open(wire.peer_address());
                },
            },
            End {
                reason: "downstream-protocol",
                said: Some(("08P01", "a message is malformed")),
                bring_about: |_, wire, _| wire.send_raw(b"\x01\0\0\0\x04"),
            },
            End {
                reason: "upstream-ended",
                said: Some((
                    "57P01",
                    "terminating connection due to administrator command",
                )),
                bring_about: |world, wire, _| {
                    let process = wire.value("select pg_backend_pid()");
                    world
                        .server
                        .psql(&format!("select pg_terminate_backend({process})"));
                },
            },
            End {
                reason: "revoked",
                said: Some(("57P01", "access is revoked")),
                bring_about: |world, _, session| {
                    world.appliance.cli_text(&["revoke", "session", session]);
                },
            },
            End {
                reason: "policy-withdrawn",
                said: Some(("57P01", "you may no longer enter this target")),
                bring_about: |world, _, _| {
                    let policy = POLICY.replace("\"analysts\"]", "\"others\"]");
                    world.appliance.write_policy(&policy);
                    world.appliance.cli_text(&["reload"]);
                    world.appliance.write_policy(POLICY);
                    world.appliance.cli_text(&["reload"]);
                },
            },
            End {
                reason: "drained",
                said: Some(("57P01", "the appliance is stopping")),
                bring_about: |world, _, _| {
                    world.appliance.terminate();
                    world.appliance.resume();
                },
            },
            End {
                reason: "cut-at-drain",
                said: Some((
                    "57P01",
                    "the appliance is stopping and does not wait any longer",
                )),
                bring_about: |world, wire, _| {
                    wire.send('Q', b"begin; select 1; select pg_sleep(600)\0");
                    wait_until("the statement", || {
                        world.server.psql(
                            "select count(*) from pg_stat_activity where wait_event = 'PgSleep'",
                        ) == "1"
                    });
                    world.appliance.send_signal(Signal::TERM);
                    world.appliance.wait();
                    world.appliance.resume();
                },
            },
            End {
                reason: "upstream-lost",
                said: Some(("08006", "the target closed the connection")),
                bring_about: |_, wire, _| {
                    let process = wire.value("select pg_backend_pid()");
                    let process = rustix::process::Pid::from_raw(process.parse().unwrap());
                    rustix::process::kill_process(process.unwrap(), Signal::KILL).unwrap();
                },
            },
        ],
    ),
    (
        "lifetime = \"2s\"",
        &[End {
            reason: "lifetime-reached",
            said: Some(("57P01", "the session reached its lifetime")),
            bring_about: |_, wire, _| wire.send('Q', b"select pg_sleep(600)\0"),
        }],
    ),
    (
        "idle = \"1s\"",
        &[End {
            reason: "idle-too-long",
            said: Some(("57P05", "the session was idle for too long")),
            bring_about: |_, _, _| {},
        }],
    ),
    (
        "idle_in_transaction = \"1s\"",
        &[End {
            reason: "idle-in-transaction",
            said: Some((
                "25P03",
                "the session was idle for too long in an open transaction",
            )),
            bring_about: |_, wire, _| wire.send('Q', b"begin\0"),
        }],
    ),
];

#[test]
fn each_end_is_told_recorded_and_catalogued() {
    for (session, ends) in ENDS {
        let mut world = World::new(session);
        let token = world.appliance.token("claude", "analysts");
        for end in ends {
            eprintln!("-- {}", end.reason);
            let mut wire = None;
            // A server whose backend was killed starts again.
            wait_until("a session", || {
                wire = world.appliance.try_login("orders", &token).ok();
                wire.is_some()
            });
            let mut wire = wire.unwrap();
            let live = |session: &Value| session["state"] == "live";
            let mut id = String::new();
            wait_until("its record", || {
                let sessions = world.appliance.sessions();
                let found = sessions.iter().find(|session| live(session));
                id = found.map_or_else(String::new, |session| {
                    session["id"].as_str().unwrap().into()
                });
                !id.is_empty()
            });
            (end.bring_about)(&mut world, &mut wire, &id);
            if let Some((sqlstate, message)) = end.said {
                let messages = wire.until_closed();
                let said = messages.last().expect("last words");
                assert_eq!(said.tag, 'E', "{messages:?}");
                assert_eq!(said.field('S').unwrap(), "FATAL");
                assert_eq!(said.sqlstate(), sqlstate);
                assert_eq!(said.field('M').unwrap(), message);
            }
            let catalogued = || {
                let sessions = world.appliance.sessions();
                let session = sessions.into_iter().find(|session| session["id"] == id);
                session.unwrap()["end_reason"].clone()
            };
            wait_until("the end to be catalogued", || !catalogued().is_null());
            assert_eq!(catalogued(), end.reason);
            let events = world.appliance.replay(&id);
            let last = events.last().expect("events").to_string();
            assert!(last.contains(end.reason), "{last}");
            if let Some((_, message)) = end.said {
                let told = events
                    .iter()
                    .any(|event| event.to_string().contains(message));
                assert!(told, "{message}: {events:?}");
            }
        }
    }
}

#[test]
fn a_login_whose_target_is_down_is_recorded_with_its_end() {
    let mut world = World::new("");
    world.server.stop();
    let token = world.appliance.token("claude", "analysts");
    let refusal = world.appliance.try_login("orders", &token).err().unwrap();
    // A server that is still on its way down says so itself.
    assert!(["08001", "57P03"].contains(&refusal.sqlstate().as_str()));
    wait_until("the end to be catalogued", || {
        world.appliance.sessions()[0]["end_reason"] == "upstream-unavailable"
    });
}
