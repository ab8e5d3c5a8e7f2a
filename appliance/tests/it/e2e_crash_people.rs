//! The appliance killed with held commands pending and revocations in flight: nothing pending runs,
//! nothing revoked lives.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::appliance::wait_until;
use crate::e2e_hold::World;
use crate::people::open_requests;
use crate::wire::{Wire, terminated};

/// Kills of `make test`. `SALLYPORT_KILLS` says another number: `make test-crash` 100.
const KILLS: u32 = 10;

const HOLDERS: u32 = 3;
const VICTIMS: u32 = 3;

fn kills() -> u32 {
    std::env::var("SALLYPORT_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"))
}

/// The row that a holder wants to insert.
fn row(round: u32, holder: u32) -> u32 {
    100_000 + round * HOLDERS + holder
}

fn insert(row: u32) -> String {
    format!("insert into orders values ({row}, 1, 1)")
}

#[test]
fn nothing_pending_runs_and_nothing_revoked_lives_after_kill_9() {
    let mut world = World::new();
    let address = world.appliance.address();
    let mut random = std::process::id();
    let (mut acknowledged, mut approved, mut ran) = (0, 0, 0);
    for round in 0..kills() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let holders: Vec<String> = (0..HOLDERS)
            .map(|holder| {
                world
                    .appliance
                    .token(&format!("holder-{round}-{holder}"), "agents")
            })
            .collect();
        let pending: Vec<Wire> = holders
            .iter()
            .zip(0..)
            .map(|(token, holder)| {
                let mut wire = Wire::login(address, "agent", "orders", token);
                wire.send('Q', &terminated(&insert(row(round, holder))));
                wire
            })
            .collect();
        let mut requests = Vec::new();
        wait_until("requests", || {
            requests = open_requests(&world.appliance);
            requests.len() == holders.len()
        });
        let victims: Vec<(String, String)> = (0..VICTIMS)
            .map(|victim| format!("victim-{round}-{victim}"))
            .map(|name| (world.appliance.token(&name, "agents"), name))
            .map(|(token, name)| (name, token))
            .collect();
        let mut alive: Vec<Wire> = victims
            .iter()
            .map(|(_, token)| Wire::login(address, "agent", "orders", token))
            .collect();
        for wire in &mut alive {
            wire.send('Q', b"select pg_sleep(600)\0");
        }

        // One of them is approved, while victims are revoked, while the appliance is killed.
        let chosen = requests[0]["id"].as_str().unwrap().to_owned();
        let shown = world.people.shown(&world.appliance, &chosen).to_string();
        let chosen_row = (0..HOLDERS)
            .map(|holder| row(round, holder))
            .find(|row| shown.contains(&row.to_string()))
            .expect("the request shows its statement");
        let approve = world.people.approval(&world.appliance, &chosen);
        let enough = usize::try_from(random >> 16).unwrap() % (victims.len() + 1);
        let pause = Duration::from_micros(u64::from(random >> 8) % 30_000);
        let done = AtomicUsize::new(0);
        let (revoked, is_approved) = thread::scope(|scope| {
            let configuration = world.appliance.configuration_path();
            let (victims, done) = (&victims, &done);
            let revoking = scope.spawn(move || {
                let cut_off = |(name, _): &&(String, String)| {
                    let output = Command::new(env!("CARGO_BIN_EXE_sallyport"))
                        .arg("--config")
                        .arg(&configuration)
                        .args(["revoke", "agent", name])
                        .output()
                        .unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                    output.status.success()
                };
                victims.iter().filter(cut_off).collect::<Vec<_>>()
            });
            // Breaks off when it is killed before it answers.
            let approving = scope.spawn(move || {
                wait_until("enough revocations", || {
                    done.load(Ordering::SeqCst) >= enough
                });
                approve()
            });
            wait_until("enough revocations", || {
                done.load(Ordering::SeqCst) >= enough
            });
            // Any instant will do.
            let (_sender, never) = mpsc::channel::<()>();
            let _ = never.recv_timeout(pause);
            world.appliance.send_signal(rustix::process::Signal::KILL);
            (
                revoking.join().unwrap(),
                approving.join().is_ok_and(|status| status == 200),
            )
        });
        world.appliance.wait();
        drop((pending, alive));
        world.appliance.resume();

        acknowledged += revoked.len();
        approved += usize::from(is_approved);
        for (name, token) in revoked {
            let refusal = world.appliance.try_login("orders", token).err();
            let refusal = refusal.unwrap_or_else(|| panic!("{name} was let in"));
            assert_eq!(refusal.sqlstate(), "28000");
        }
        // What was sealed before and after the kill still holds together.
        world.appliance.cli_text(&["audit", "head", "--seal"]);
        world.appliance.cli_text(&["audit", "verify"]);
        assert_eq!(open_requests(&world.appliance).len(), 0);
        for request in &requests {
            let (status, answer) = world
                .people
                .approve(&world.appliance, request["id"].as_str().unwrap());
            assert_ne!(status, 200, "{answer}");
        }
        // Whoever comes back with the same is asked about anew, and does not run by what was.
        let token = holders.last().unwrap();
        let retried = row(round, HOLDERS - 1);
        if retried != chosen_row {
            let mut wire = Wire::login(address, "agent", "orders", token);
            wire.send('Q', &terminated(&insert(retried)));
            wait_until("a new request", || {
                open_requests(&world.appliance).len() == 1
            });
            let asked = open_requests(&world.appliance);
            assert!(
                requests
                    .iter()
                    .all(|request| request["id"] != asked[0]["id"])
            );
            let id = asked[0]["id"].as_str().unwrap();
            assert_eq!(world.people.deny(&world.appliance, id, "no").0, 200);
            wire.until_ready();
        }
        // What the killed one had running ends when its backend finds out.
        wait_until("the last backends to end", || {
            world.server.psql(
                "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'",
            );
            let busy =
                "select count(*) from pg_stat_activity where usename = 'svc' and state <> 'idle'";
            world.server.psql(busy) == "0"
        });
        let first = row(round, 0);
        let rows = world.server.psql_in(
            "orders",
            &format!("select id from orders where id between {first} and {first} + {HOLDERS} - 1"),
        );
        for found in rows.lines() {
            assert_eq!(found, chosen_row.to_string(), "it ran without an approval");
            ran += 1;
        }
    }
    eprintln!(
        "{} kills, {acknowledged} revocations acknowledged, {approved} approvals acknowledged, \
         {ran} approved commands ran",
        kills()
    );
}
