//! Tokens of a certified provider, whose keys the appliance finds, fetches and lets go of.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::appliance::{Appliance, POLICY, Setup, orders_server, wait_until};
use crate::postgres::Server;
use crate::provider::Provider;
use crate::wire::Wire;

/// An appliance that knows the provider as `corp`, with more keys of that as TOML lines.
fn world(provider: &Provider, keys: &str) -> (Server, Appliance) {
    world_with(&provider.configuration(keys))
}

fn world_with(tables: &str) -> (Server, Appliance) {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = tables.to_owned();
    let policy = POLICY.replace("\"analysts\"]", "\"corp:analysts\", \"local:analysts\"]");
    setup.policy = &policy;
    let appliance = Appliance::start(&setup);
    (server, appliance)
}

fn is_let_in(appliance: &Appliance, token: &str) -> bool {
    is_let_in_at(appliance.address(), token)
}

fn is_let_in_at(address: SocketAddr, token: &str) -> bool {
    let parameters = [("user", "agent"), ("database", "orders")];
    match Wire::try_login(address, &parameters, token) {
        Ok(mut wire) => {
            assert_eq!(wire.value("show sallyport.subject"), "corp/agent");
            true
        }
        Err(refusal) => {
            assert_eq!(refusal.sqlstate(), "28P01");
            false
        }
    }
}

/// A token of the provider, but for its signature and the name of its key.
fn forged(provider: &mut Provider, key: &str) -> String {
    let token = provider.token();
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "kid": key}).to_string());
    let (_, rest) = token.split_once('.').unwrap();
    format!("{header}.{rest}")
}

/// Until an appliance with `refresh_min = "1s"` may ask again, if it asked before.
fn wait_for_refresh_min() {
    let begun = Instant::now();
    wait_until("the end of refresh_min", || {
        begun.elapsed() > Duration::from_millis(1100)
    });
}

fn fetches(provider: &mut Provider) -> usize {
    let requests = provider.requests();
    let fetches = requests.iter().filter(|request| *request == "GET /jwks");
    fetches.count()
}

#[test]
fn a_discovered_issuer_vouches_in_every_algorithm() {
    let mut provider = Provider::start();
    let (_server, appliance) = world(&provider, "");
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        provider.ask(&json!({"command": "sign", "with": algorithm}));
        let token = provider.token();
        assert!(is_let_in(&appliance, &token), "{algorithm}");
    }
    // The same keys from their own address.
    let jwks = format!("jwks = \"{}/jwks\"", provider.issuer());
    let (_server, appliance) = world(&provider, &jwks);
    assert!(is_let_in(&appliance, &provider.token()));
}

#[test]
fn new_keys_are_fetched_once_for_all_who_need_them_and_old_ones_are_worthless() {
    let mut provider = Provider::start();
    let (_server, appliance) = world(&provider, "refresh_min = \"1s\"");
    let old = provider.token();
    assert!(is_let_in(&appliance, &old));
    provider.ask(&json!({"command": "rotate", "keep": false}));
    let new = provider.token();
    wait_for_refresh_min();
    provider.requests();
    let address = appliance.address();
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| is_let_in_at(address, &new)))
            .collect();
        for login in logins {
            assert!(login.join().unwrap());
        }
    });
    assert_eq!(fetches(&mut provider), 1);
    assert!(!is_let_in(&appliance, &old), "its key was taken back");
    assert!(is_let_in(&appliance, &new));
}

#[test]
fn a_flood_of_unknown_keys_does_not_reach_the_issuer() {
    let mut provider = Provider::start();
    let (_server, appliance) = world(&provider, "");
    assert!(is_let_in(&appliance, &provider.token()));
    provider.requests();
    for attempt in 0..20 {
        let token = forged(&mut provider, &format!("unknown-{attempt}"));
        assert!(!is_let_in(&appliance, &token));
    }
    assert_eq!(fetches(&mut provider), 0);
    assert!(is_let_in(&appliance, &provider.token()));
}

#[test]
fn keys_are_fetched_again_ahead_of_their_expiry() {
    let mut provider = Provider::start();
    provider.misbehave(&json!({"cache": "public, max-age=1"}));
    let keys = "refresh_min = \"1s\"\nrefresh_max = \"1h\"";
    let (_server, appliance) = world(&provider, keys);
    assert!(is_let_in(&appliance, &provider.token()));
    provider.requests();
    let mut seen = 0;
    wait_until("two more fetches, of nobody's login", || {
        seen += fetches(&mut provider);
        seen >= 2
    });
}

#[test]
fn while_the_issuer_is_down_its_keys_serve_even_over_a_restart() {
    let mut provider = Provider::start();
    let keys = "refresh_min = \"1s\"\nrefresh_max = \"1s\"";
    let (_server, mut appliance) = world(&provider, keys);
    let (first, second) = (provider.token(), provider.token());
    assert!(is_let_in(&appliance, &first));
    provider.down();
    appliance.wait_for_log("an issuer's keys could not be fetched");
    assert!(is_let_in(&appliance, &second));
    appliance.terminate();
    appliance.resume();
    assert!(is_let_in(&appliance, &first));
    provider.up();
    appliance.wait_for_log("an issuer's keys could be fetched again");

    // What is kept on disk counts for this configuration alone.
    appliance.terminate();
    provider.down();
    let file = appliance.configuration_path();
    let text = std::fs::read_to_string(&file).unwrap();
    let other = text.replace(
        "refresh_min",
        &format!("jwks = \"{}/keys\"\nrefresh_min", provider.issuer()),
    );
    std::fs::write(&file, other).unwrap();
    appliance.resume();
    assert!(!is_let_in(&appliance, &first));
}

#[test]
fn keys_that_are_too_old_serve_no_more_until_the_issuer_is_back() {
    let mut provider = Provider::start();
    let keys = "refresh_min = \"1s\"\nrefresh_max = \"1s\"\nstale_max = \"3s\"";
    let (_server, appliance) = world(&provider, keys);
    let token = provider.token();
    assert!(is_let_in(&appliance, &token));
    provider.down();
    let refused = "could not be reached for longer than stale_max";
    appliance.wait_for_log(refused);
    assert!(
        !is_let_in(&appliance, &token),
        "though it was verified before"
    );
    assert_eq!(appliance.log().matches(refused).count(), 1);
    provider.up();
    wait_until("the issuer's keys", || is_let_in(&appliance, &token));
}

#[test]
fn an_issuer_that_is_down_at_the_start_costs_its_own_tokens_alone() {
    let mut provider = Provider::start();
    let token = provider.token();
    provider.down();
    let (_server, appliance) = world(&provider, "");
    assert!(!is_let_in(&appliance, &token));
    appliance.login("claude", "analysts");
    appliance.cli_text(&["check"]);
    let status = appliance.cli_text(&["status"]);
    assert!(
        status.contains("corp: its tokens are refused; it cannot be reached"),
        "{status}"
    );
    let explain = [
        "explain",
        "--principal",
        &token,
        "--target",
        "orders",
        "select 1",
    ];
    assert!(!appliance.cli(&explain).status.success());
    provider.up();
    wait_until("the issuer's keys", || is_let_in(&appliance, &token));
    let status = appliance.cli_text(&["status"]);
    assert!(status.contains("corp: accepted; keys fetched "), "{status}");
    // By the keys that the running appliance keeps.
    wait_until("the keys on disk", || {
        appliance.cli(&explain).status.success()
    });
    assert!(
        appliance
            .cli_text(&explain)
            .contains("groups: corp:analysts")
    );
}

#[test]
fn what_an_issuer_may_not_answer_leaves_the_keys_as_they_were() {
    let mut provider = Provider::start();
    let (_server, appliance) = world(&provider, "refresh_min = \"1s\"");
    let mut known = provider.token();
    assert!(is_let_in(&appliance, &known));
    let elsewhere = format!("{}/elsewhere", provider.issuer());
    for (mode, reason) in [
        (json!({"mismatch": true}), "of another issuer"),
        (json!({"redirect": elsewhere}), "redirects are not followed"),
        (json!({"oversized": true}), "is longer than 1048576 bytes"),
        (json!({"status": 500}), "status 500"),
    ] {
        provider.ask(&json!({"command": "rotate", "keep": false}));
        let new = provider.token();
        provider.misbehave(&mode);
        wait_until(reason, || {
            assert!(!is_let_in(&appliance, &new), "{reason}");
            appliance.log().contains(reason)
        });
        assert!(is_let_in(&appliance, &known), "{reason}");
        provider.misbehave(&json!({}));
        wait_until("the new keys", || is_let_in(&appliance, &new));
        known = new;
    }
    let asked = provider.requests();
    assert!(!asked.iter().any(|request| request.contains("elsewhere")));
}

#[test]
fn a_certificate_of_strangers_is_no_issuer() {
    let mut provider = Provider::start();
    let configuration = provider.configuration("");
    let ca = configuration.lines().find(|line| line.starts_with("ca ="));
    let (_server, appliance) = world_with(&configuration.replace(ca.unwrap(), ""));
    assert!(!is_let_in(&appliance, &provider.token()));
    assert!(appliance.log().contains("invalid peer certificate"));
    assert_eq!(provider.requests(), ["POST /token"]);
}

#[test]
fn a_login_that_waits_for_keys_holds_up_nobody_and_is_answered_in_time() {
    let mut provider = Provider::start();
    let keys = "refresh_min = \"1s\"\n\n[limits]\nlogin_deadline = \"10s\"";
    let (_server, appliance) = world(&provider, keys);
    let known = provider.token();
    assert!(is_let_in(&appliance, &known));
    provider.ask(&json!({"command": "rotate", "keep": false}));
    let new = provider.token();
    provider.misbehave(&json!({"silent": true}));
    provider.requests();
    wait_for_refresh_min();
    let address = appliance.address();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| is_let_in_at(address, &new));
        let mut asked = Vec::new();
        wait_until("the question for new keys", || {
            asked.extend(provider.requests());
            !asked.is_empty()
        });
        assert!(is_let_in(&appliance, &known));
        appliance.login("claude", "analysts");
        assert!(!waiting.is_finished());
        assert!(!waiting.join().unwrap());
    });
}
