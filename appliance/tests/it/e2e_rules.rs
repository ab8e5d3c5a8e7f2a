//! Rules beyond allow and deny on a running appliance: holds, shadows, hours, networks, budgets.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::appliance::{Appliance, Setup, json_lines, login_directly, orders_server, wait_until};
use crate::postgres::Server;
use crate::wire::{Message, error, status, tags};

const ALLOW: &str = "[[rule]]\nname = \"all\"\ngroups = [\"agents\"]\ntargets = [\"orders\"]\nallow = { statements = [\"*\"] }\n";

fn start(server: &Server, policy: &str) -> Appliance {
    let policy = format!("{ALLOW}{policy}");
    Appliance::start(&Setup {
        policy: &policy,
        ..Setup::for_server(server)
    })
}

fn rows(messages: &[Message]) -> usize {
    messages
        .iter()
        .filter(|message| matches!(message.tag, 'D' | 'd'))
        .count()
}

#[test]
fn what_a_rule_holds_is_refused_where_nobody_may_approve() {
    let server = orders_server();
    let appliance = start(
        &server,
        "[[rule]]\nname = \"writes-need-a-person\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
         hold = { statements = [\"delete\"], tables = [\"public.*\"] }\napprovers = [\"oncall\"]\n",
    );
    let mut wire = appliance.login("claude", "agents");
    let messages = wire.query("delete from orders where id = 1");
    assert_eq!(tags(&messages), "EZ");
    let refusal = error(&messages);
    assert_eq!(refusal.sqlstate(), "42501");
    let message = refusal.field('M').unwrap();
    assert!(message.starts_with("approval required"), "{message}");
    assert!(refusal.field('D').unwrap().contains("writes-need-a-person"));
    assert!(refusal.field('H').unwrap().contains("approvers"));
    assert_eq!(wire.value("select count(*) from orders"), "1000");
}

#[test]
fn what_a_rule_in_shadow_would_refuse_runs_and_the_recording_says_so() {
    let server = orders_server();
    let appliance = start(
        &server,
        "[[rule]]\nname = \"soon\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
         deny = { statements = [\"select\"], tables = [\"customers\"] }\nshadow = true\n",
    );
    let mut wire = appliance.login("claude", "agents");
    wire.value("select count(*) from customers");
    wire.value("select count(*) from orders");
    drop(wire);
    let mut events = Vec::new();
    wait_until("the session is recorded to its end", || {
        let sessions = appliance.sessions();
        events = appliance.replay(sessions[0]["id"].as_str().unwrap());
        events.iter().any(|event| event["event"] == "session-end")
    });
    let foreshadowed: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "command")
        .map(|event| {
            (
                event["verdict"].as_str(),
                event["foreshadowed"]["rule"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        foreshadowed,
        [(Some("permitted"), Some("soon")), (Some("permitted"), None)]
    );
    let end = events.last().unwrap();
    assert_eq!(end["foreshadowed"], 1, "{end}");
}

#[test]
fn a_rule_counts_within_its_hours_and_from_its_networks() {
    let server = orders_server();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let hours = |from: u64, to: u64| {
        let clock = |hour: u64| format!("{:02}:00", (now / 3600 + hour) % 24);
        format!("when = {{ hours = \"{}-{}\" }}", clock(from), clock(to))
    };
    for (condition, admits) in [
        // An hour may begin while this runs; none of these hours is near.
        (hours(23, 3), true),
        (hours(3, 6), false),
        ("networks = [\"127.0.0.0/8\"]".to_owned(), true),
        ("networks = [\"10.0.0.0/8\", \"unix\"]".to_owned(), false),
        ("issuers = [\"builtin\"]".to_owned(), true),
        ("delegated = \"required\"".to_owned(), false),
    ] {
        let policy = format!("{}{condition}\n", ALLOW);
        let appliance = Appliance::start(&Setup {
            policy: &policy,
            ..Setup::for_server(&server)
        });
        let token = appliance.token("claude", "agents");
        let admitted = appliance.try_login("orders", &token);
        assert_eq!(admitted.is_ok(), admits, "{condition}");
        if let Err(refusal) = admitted {
            assert_eq!(refusal.sqlstate(), "28000", "{condition}");
        }
    }
}

#[test]
fn rows_run_out_amid_an_answer_and_for_all_sessions_of_the_principal() {
    let server = orders_server();
    let appliance = start(
        &server,
        "[[budget]]\nname = \"few-rows\"\ntargets = [\"*\"]\nrows = 1500\n",
    );
    let mut wire = appliance.login("claude", "agents");
    let mut second = appliance.login("claude", "agents");
    assert_eq!(rows(&wire.query("select * from orders")), 1000);
    assert_eq!(tags(&second.query("begin")), "CZ");

    let cut = second.query("select * from orders");
    assert_eq!(rows(&cut), 500);
    let refusal = error(&cut);
    assert_eq!(refusal.sqlstate(), "53400");
    let message = refusal.field('M').unwrap();
    assert!(
        message.contains("\"few-rows\"") && message.contains("1500 rows"),
        "{message}"
    );
    assert!(refusal.field('H').unwrap().starts_with("It refills in"));
    let end: String = tags(&cut).chars().rev().take(2).collect();
    assert_eq!(
        end, "ZE",
        "nothing comes between the error and ReadyForQuery"
    );

    for session in [&mut wire, &mut second] {
        let refused = session.query("select 1");
        assert_eq!(tags(&refused), "EZ");
        assert_eq!(error(&refused).sqlstate(), "53400");
    }
    // What was begun can be given up.
    let ended = second.query("rollback");
    assert_eq!((tags(&ended).as_str(), status(&ended)), ("CZ", 'I'));
    assert_eq!(appliance.login("gemini", "agents").value("select 1"), "1");
}

#[test]
fn a_result_that_would_not_end_is_cancelled_at_the_target() {
    let server = orders_server();
    let appliance = start(
        &server,
        "[[budget]]\nname = \"few-bytes\"\ntargets = [\"*\"]\nbytes = \"64KiB\"\n",
    );
    let mut wire = appliance.login("claude", "agents");
    wire.parse("", "select generate_series(1, 2000000000) as endless");
    wire.bind("", "", &[]);
    wire.execute("", 0);
    wire.sync();
    let cut = wire.until_ready();
    assert_eq!(error(&cut).sqlstate(), "53400");
    assert!(rows(&cut) < 64 * 1024);
    let mut copied = appliance.login("gemini", "agents");
    let cut = copied.query("copy (select generate_series(1, 2000000000)) to stdout");
    assert_eq!(error(&cut).sqlstate(), "53400");
    let mut direct = login_directly(&server);
    wait_until("the target works on nothing of it", || {
        direct.value(
            "select count(*) from pg_stat_activity where state = 'active' and query like '%generate_series(1, 2000000000)%' and pid <> pg_backend_pid()",
        ) == "0"
    });
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    let server = orders_server();
    let appliance = start(
        &server,
        "[[budget]]\nname = \"quick\"\ntargets = [\"*\"]\nstatement_time = \"200ms\"\n",
    );
    let mut wire = appliance.login("claude", "agents");
    let cut = wire.query("select pg_sleep(600)");
    let refusal = error(&cut);
    assert_eq!(refusal.sqlstate(), "57014");
    assert_eq!(
        refusal.field('M').unwrap(),
        "the statement ran longer than 200ms, which is the limit"
    );
    assert!(refusal.field('D').unwrap().contains("\"quick\""));
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn statements_of_a_minute_and_sessions_at_once_are_counted() {
    let server = orders_server();
    let appliance = start(
        &server,
        "[[budget]]\nname = \"slow-down\"\ntargets = [\"*\"]\nstatements_per_minute = 3\nsessions = 1\n",
    );
    let mut wire = appliance.login("claude", "agents");
    // One minute may end meanwhile, two do not.
    let refused = (0..8)
        .map(|_| wire.query("select 1"))
        .find(|messages| tags(messages) == "EZ")
        .expect("a refusal");
    assert_eq!(error(&refused).sqlstate(), "53400");
    assert!(
        error(&refused)
            .field('M')
            .unwrap()
            .contains("3 statements in a minute")
    );

    let token = appliance.token("claude", "agents");
    let second = appliance.try_login("orders", &token);
    assert_eq!(
        second.err().map(|refusal| refusal.sqlstate()),
        Some("53300".to_owned())
    );
    drop(wire);
    wait_until("the place of the first session is free", || {
        appliance.try_login("orders", &token).is_ok()
    });
}

#[test]
fn a_candidate_policy_is_tried_on_what_was_recorded() {
    let server = orders_server();
    let appliance = start(&server, "");
    let mut wire = appliance.login("claude", "agents");
    wire.query("select * from customers where id = 1");
    wire.query("select * from customers where id = 2");
    wire.query("insert into customers values (9100, 'x')");
    wire.value("select count(*) from orders");
    wire.parse("p", "select name from customers where id = $1");
    wire.bind("", "p", &[Some("1")]);
    wire.execute("", 0);
    wire.sync();
    wire.until_ready();
    wire.query("do $$ begin end $$");
    drop(wire);
    let candidate = appliance.directory().join("candidate");
    std::fs::create_dir(&candidate).unwrap();
    std::fs::write(
        candidate.join("rules.toml"),
        format!(
            "{ALLOW}[[rule]]\nname = \"no-customers\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
             deny = {{ statements = [\"select\"], tables = [\"customers\"] }}\n\
             [[rule]]\nname = \"ask\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n\
             hold = {{ statements = [\"insert\"] }}\napprovers = [\"oncall\"]\n\
             [[rule]]\nname = \"code\"\ngroups = [\"agents\"]\ntargets = [\"*\"]\n\
             allow = {{ statements = [\"unknown\", \"do\"] }}\n"
        ),
    )
    .unwrap();
    let replay = |more: &[&str]| {
        let candidate = candidate.to_str().unwrap();
        let arguments = ["policy", "replay", "--since", "1h", "--policy", candidate];
        appliance.cli_text(&[&arguments[..], more].concat())
    };
    let mut lines = Vec::new();
    wait_until("all of it is on disk", || {
        lines = json_lines(&replay(&["--json"]));
        lines[0]["judged"] == 7
    });
    let changes: Vec<_> = lines[1..]
        .iter()
        .map(|line| {
            (
                line["was"].as_str().unwrap(),
                line["would_be"].as_str().unwrap(),
                line["rule"].as_str().unwrap(),
                line["commands"].as_u64().unwrap(),
                line["statement"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        changes,
        [
            (
                "permitted",
                "refused",
                "no-customers",
                2,
                "select * from customers where id = 1"
            ),
            (
                "permitted",
                "refused",
                "no-customers",
                2,
                "select name from customers where id = $1"
            ),
            ("refused", "permitted", "", 1, "do $$ begin end $$"),
            (
                "permitted",
                "held",
                "ask",
                1,
                "insert into customers values (9100, 'x')"
            ),
        ]
    );
    assert_eq!(lines[1]["examples"].as_array().unwrap().len(), 2);
    let text = replay(&[]);
    assert!(
        text.starts_with(
            "7 commands of 1 sessions were judged, 0 could not be; 6 would be decided otherwise\n"
        ),
        "{text}"
    );
    assert!(text.contains("no-customers"), "{text}");
    assert_eq!(replay(&["--agent", "nobody"]).lines().count(), 1);
}
