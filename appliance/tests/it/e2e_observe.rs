//! What the appliance says of itself: metrics, health, `status` and `top`.

use rustix::process::Signal;
use serde_json::Value;

use crate::appliance::{Appliance, POLICY, Setup, orders_server, wait_until};
use crate::http::Request;
use crate::wire::tags;

const MASK: &str = r#"
[[mask]]
name    = "mail"
targets = ["orders"]
detect  = ["email"]
with    = "redact"
"#;

/// The body that the admin socket answers with.
fn get(appliance: &Appliance, path: &str) -> String {
    let answer = Request::get(path).unix(&appliance.directory().join("run/admin.sock"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// The sum of the lines of one metric whose labels hold all of `labels`.
fn metric(appliance: &Appliance, name: &str, labels: &[&str]) -> f64 {
    let text = get(appliance, "/v1/metrics");
    let lines = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.sum()
}

#[test]
fn what_agents_do_is_counted() {
    let server = orders_server();
    let policy = format!("{POLICY}{MASK}");
    let appliance = Appliance::start(&Setup {
        policy: &policy,
        ..Setup::for_server(&server)
    });
    let mut wire = appliance.login("claude", "analysts");
    let run = |verdict: &str| {
        metric(
            &appliance,
            "sallyport_commands_total",
            &["kind=\"query\"", &format!("verdict=\"{verdict}\"")],
        )
    };
    let (permitted, refused) = (run("permitted"), run("refused"));
    assert_eq!(tags(&wire.query("select 1")), "TDCZ");
    assert_eq!(
        tags(&wire.query("select 'a.person@example.com', 'nothing'")),
        "TDCZ"
    );
    assert_eq!(tags(&wire.query("drop table orders")), "EZ");
    assert_eq!(run("permitted") - permitted, 2.0);
    assert_eq!(run("refused") - refused, 1.0);
    assert_eq!(
        metric(
            &appliance,
            "sallyport_refusals_total",
            &["reason=\"denied\"", "rule=\"no-destruction\""],
        ),
        1.0
    );
    assert_eq!(
        metric(
            &appliance,
            "sallyport_masked_values_total",
            &["by=\"form\""]
        ),
        1.0
    );
    assert_eq!(metric(&appliance, "sallyport_sessions", &[]), 1.0);
    let answers = ["phase=\"answer\""];
    assert!(metric(&appliance, "sallyport_phase_seconds_count", &answers) >= 3.0);
    let logins = ["phase=\"login\""];
    assert_eq!(
        metric(&appliance, "sallyport_phase_seconds_count", &logins),
        1.0
    );
    let pool = ["target=\"orders\""];
    assert!(metric(&appliance, "sallyport_pool_connections", &pool) >= 1.0);

    drop(wire);
    let ended = ["reason=\"finished\""];
    wait_until("the session has ended", || {
        metric(&appliance, "sallyport_sessions_ended_total", &ended) == 1.0
    });
    assert_eq!(metric(&appliance, "sallyport_sessions", &[]), 0.0);

    assert!(appliance.try_login("orders", "no token").is_err());
    let unproven = ["reason=\"not-proven\""];
    assert_eq!(
        metric(&appliance, "sallyport_logins_refused_total", &unproven),
        1.0
    );
}

#[test]
fn health_status_and_top_show_the_same() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let mut wire = appliance.login("claude", "analysts");
    wire.query("drop table orders");
    let health: Value = serde_json::from_str(&get(&appliance, "/v1/health")).unwrap();
    assert_eq!(health["ready"], true);
    assert_eq!(health["problems"], serde_json::json!([]));
    assert_eq!(health["shards"].as_array().unwrap().len(), 2);
    let sessions = health["shards"].as_array().unwrap().iter();
    let sessions: u64 = sessions
        .map(|shard| shard["sessions"].as_u64().unwrap())
        .sum();
    assert_eq!(sessions, 1);
    assert_eq!(health["refusals"][0]["rule"], "no-destruction");
    assert_eq!(health["pools"][0]["target"], "orders");

    let status = appliance.cli_text(&["status"]);
    for line in [
        "ready          yes",
        "sessions       1",
        "failing        none",
    ] {
        assert!(
            status.lines().any(|found| found == line),
            "{line}\n{status}"
        );
    }
    let top = appliance.cli_text(&["top", "--count", "2", "--interval", "1"]);
    assert_eq!(top.matches("ready; up").count(), 2, "{top}");
    assert!(top.contains("no-destruction"), "{top}");
    assert!(!top.contains('\u{1b}'), "a pipe is no terminal");
}

#[test]
fn whoever_scrapes_needs_no_login_and_a_load_balancer_learns_of_a_stop() {
    let server = orders_server();
    let mut appliance = Appliance::start(&Setup {
        metrics: Some("127.0.0.1:0"),
        tables: "[drain]\ndeadline = \"20s\"\n".to_owned(),
        ..Setup::for_server(&server)
    });
    let address = appliance.metrics_address();
    let ask = |path: &str| Request::get(path).tcp(address);
    let metrics = ask("/metrics");
    assert_eq!(metrics.status, 200);
    let kind = metrics.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    assert!(metrics.body.contains("sallyport_shard_up{shard=\"1\"} 1.0"));
    assert_eq!(ask("/healthz").status, 200);
    assert_eq!(ask("/readyz").status, 200);
    for path in ["/", "/v1/status", "/v1/metrics", "/metrics/"] {
        assert_eq!(ask(path).status, 404, "{path}");
    }
    assert_eq!(Request::post("/metrics", "").tcp(address).status, 405);

    let mut wire = appliance.login("claude", "analysts");
    wire.query("begin");
    appliance.send_signal(Signal::TERM);
    wait_until("it is not ready", || ask("/readyz").status == 503);
    assert_eq!(ask("/readyz").body, "it was told to stop\n");
    assert_eq!(ask("/healthz").status, 200, "it is well");
    wire.query("rollback");
    assert!(appliance.wait().success());
}
