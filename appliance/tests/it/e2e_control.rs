//! Reload and drain: what changes for sessions that are there.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::appliance::{Appliance, POLICY, Setup, orders_server, wait_until};
use crate::wire::{Wire, error, tags};

const NO_ANALYSTS: &str = r#"
[[rule]]
name    = "readers-read"
groups  = ["readers"]
targets = ["orders"]
allow   = { statements = ["read", "transaction", "session"] }
"#;

#[test]
fn a_reloaded_rule_holds_for_the_next_statement_of_a_live_session() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(
        tags(&wire.query("update orders set total = 1 where id = 1")),
        "CZ"
    );
    let stricter = POLICY.replace(r#""truncate","#, r#""truncate", "update","#);
    assert_ne!(stricter, POLICY);
    appliance.write_policy(&stricter);
    appliance.cli_text(&["reload"]);
    wait_until("the new rule", || {
        tags(&wire.query("update orders set total = 1 where id = 1")) == "EZ"
    });
    assert_eq!(wire.value("select 1"), "1");
    appliance.write_policy(POLICY);
    appliance.send_signal(Signal::HUP);
    wait_until("the old rule", || {
        tags(&wire.query("update orders set total = 1 where id = 1")) == "CZ"
    });
}

#[test]
fn a_statement_prepared_before_a_reload_is_judged_by_the_rules_of_its_execution() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    wire.parse("early", "update orders set total = 2 where id = 2");
    wire.sync();
    assert_eq!(tags(&wire.until_ready()), "1Z");
    appliance.write_policy(&POLICY.replace(r#""truncate","#, r#""truncate", "update","#));
    appliance.cli_text(&["reload"]);
    wait_until("the new rule", || {
        wire.bind("", "early", &[]);
        wire.execute("", 0);
        wire.sync();
        tags(&wire.until_ready()).contains('E')
    });
    wire.query("select 1");
}

#[test]
fn a_session_that_is_no_longer_admitted_is_closed_and_others_stay() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut withdrawn = appliance.login("claude", "analysts");
    let mut still_admitted = appliance.login("rita", "readers");
    assert_eq!(withdrawn.value("select 1"), "1");
    appliance.write_policy(NO_ANALYSTS);
    appliance.cli_text(&["reload"]);
    assert_eq!(error(&withdrawn.until_closed()).sqlstate(), "57P01");
    assert_eq!(still_admitted.value("select 1"), "1");
    let token = appliance.token("claude", "analysts");
    let refusal = appliance
        .try_login("orders", &token)
        .err()
        .expect("a refusal");
    assert_eq!(refusal.sqlstate(), "28000");
}

#[test]
fn a_reload_that_fails_says_why_and_changes_nothing() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    for broken in [
        "[[rule]\nname = 'x'",
        "[[rule]]\nname = \"x\"\ngroups = [\"*\"]\ntargets = [\"orders\"]\nallow = { statements = [\"selekt\"] }\n",
        "[[rule]]\nname = \"x\"\ngroups = [\"*\"]\ntargets = [\"no-such-target\"]\nallow = { statements = [\"read\"] }\n",
    ] {
        appliance.write_policy(broken);
        let output = appliance.cli(&["reload"]);
        assert!(!output.status.success(), "{broken}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("rules.toml:"), "{errors}");
        assert_eq!(wire.value("select count(*) from orders"), "1000");
        assert_eq!(tags(&wire.query("drop table orders")), "EZ");
        appliance.login("claude", "analysts").value("select 1");
    }
    let configuration = appliance.directory().join("sallyport.toml");
    let good = fs::read_to_string(&configuration).unwrap();
    appliance.write_policy(POLICY);
    fs::write(&configuration, format!("{good}\n[nonsense]\nkey = 1\n")).unwrap();
    assert!(!appliance.cli(&["reload"]).status.success());
    assert_eq!(wire.value("select 1"), "1");
    fs::write(&configuration, good).unwrap();
    appliance.cli_text(&["reload"]);
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn a_target_that_is_taken_away_closes_its_sessions() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    let configuration = appliance.directory().join("sallyport.toml");
    let renamed = fs::read_to_string(&configuration)
        .unwrap()
        .replace("name = \"orders\"", "name = \"archive\"");
    fs::write(&configuration, renamed).unwrap();
    appliance.write_policy(&POLICY.replace("[\"orders\"]", "[\"archive\"]"));
    appliance.cli_text(&["reload"]);
    assert_eq!(error(&wire.until_closed()).sqlstate(), "57P01");
    let token = appliance.token("claude", "analysts");
    let mut wire = Wire::login(appliance.address(), "agent", "archive", &token);
    assert_eq!(wire.value("select count(*) from orders"), "1000");
}

#[test]
fn check_accepts_the_configuration_that_serve_runs_with_and_names_the_place_of_a_mistake() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    appliance.cli_text(&["check"]);
    appliance.write_policy("[[rule]]\nname = \"x\"\ngroups = [\"a\"]\ntargets = [\"orders\"]\nallow = { statements = [\"red\"] }\n");
    let output = appliance.cli(&["check"]);
    assert!(!output.status.success());
    let errors = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(errors.contains("rules.toml:5:"), "{errors}");
    assert!(errors.contains("read"), "a suggestion: {errors}");
}

#[test]
fn drain_lets_a_running_statement_finish_and_says_goodbye() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[drain]\ndeadline = \"20s\"\n".into();
    let mut appliance = Appliance::start(&setup);
    let mut busy = appliance.login("busy", "analysts");
    let mut idle = appliance.login("idle", "analysts");
    let token = appliance.token("late", "analysts");
    busy.send('Q', b"select 'finished' from pg_sleep(2)\0");
    let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the statement to run", || server.psql(sleeping) == "1");
    let started = Instant::now();
    appliance.send_signal(Signal::TERM);
    assert_eq!(error(&idle.until_closed()).sqlstate(), "57P01");
    assert!(
        started.elapsed() < Duration::from_millis(1500),
        "idle sessions do not wait"
    );
    let late = std::net::TcpStream::connect(appliance.address());
    assert!(
        late.is_err() || Wire::open(appliance.address()).until_closed_raw().len() < 256,
        "{token}"
    );
    let messages = busy.until_closed();
    assert!(tags(&messages).starts_with("TDCZ"), "{messages:?}");
    assert_eq!(
        messages.iter().find(|m| m.tag == 'D').unwrap().columns(),
        [Some("finished".to_owned())]
    );
    assert_eq!(error(&messages).sqlstate(), "57P01");
    assert!(appliance.wait().success());
}

#[test]
fn drain_ends_at_its_deadline() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[drain]\ndeadline = \"1s\"\n".into();
    let mut appliance = Appliance::start(&setup);
    let mut busy = appliance.login("busy", "analysts");
    busy.send('Q', b"select pg_sleep(60)\0");
    let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the statement to run", || server.psql(sleeping) == "1");
    let started = Instant::now();
    appliance.send_signal(Signal::TERM);
    let messages = busy.until_closed();
    assert_eq!(error(&messages).sqlstate(), "57P01");
    assert!(appliance.wait().success());
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    wait_until("the target to be rid of the statement", || {
        server.psql(sleeping) == "0"
    });
}

#[test]
fn a_session_that_drain_ended_is_recorded_to_its_end() {
    let server = orders_server();
    let mut appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    wire.query("select 'before the stop'");
    assert!(appliance.terminate().success());
    appliance.resume();
    assert!(appliance.everything_recorded().contains("before the stop"));
}
