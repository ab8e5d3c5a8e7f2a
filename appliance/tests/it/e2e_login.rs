//! The first door: which tokens and which names are let in, and how little a stranger learns.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::appliance::{Appliance, Setup, json_lines, orders_server, wait_until};
use crate::postgres::Server;
use crate::wire::{Message, Wire, tags};

/// An identity provider in a few lines: one Ed25519 key.
pub struct Provider {
    key: Ed25519KeyPair,
}

pub const ISSUER: &str = "https://login.example.com/";

impl Provider {
    pub fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            key: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap(),
        }
    }

    pub fn jwks(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "k1", "x": x}]})
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"}), claims)
    }

    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let signed = signing_input(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Claims of a token that is accepted.
pub fn good_claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "agent-7", "aud": "sallyport", "exp": now() + 600, "iat": now(),
        "realm_access": {"roles": ["analysts"]},
    })
}

pub fn with(name: &str, value: Value) -> Value {
    let mut claims = good_claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = good_claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

pub fn world(provider: &Provider) -> (Server, Appliance) {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.files = vec![("corp.jwks", provider.jwks().to_string())];
    setup.tables = format!(
        r#"
[builtin_issuer]
group_prefix = "local:"

[[issuer]]
name = "corp"
issuer = "{ISSUER}"
audience = ["sallyport"]
jwks = "file:corp.jwks"
groups = "realm_access.roles"
group_prefix = "corp:"
"#
    );
    let policy = crate::appliance::POLICY.replace("\"analysts\"]", "\"corp:analysts\"]");
    setup.policy = &policy;
    let appliance = Appliance::start(&setup);
    (server, appliance)
}

fn refusal(result: Result<Wire, Message>) -> Message {
    match result {
        Ok(_) => panic!("was let in"),
        Err(refusal) => refusal,
    }
}

#[test]
fn a_token_of_a_configured_issuer_is_accepted() {
    let provider = Provider::new();
    let (_server, appliance) = world(&provider);
    for claims in [
        good_claims(),
        with("aud", json!(["other", "sallyport"])),
        with("nbf", json!(now() - 5)),
    ] {
        let mut wire = appliance
            .try_login("orders", &provider.sign(&claims))
            .unwrap();
        assert!(
            wire.value("show sallyport.subject").contains("agent-7"),
            "{claims}"
        );
    }
}

#[test]
fn who_acts_for_whom_is_known_to_the_target_and_to_the_recording() {
    let provider = Provider::new();
    let (_server, appliance) = world(&provider);
    let claims = with(
        "act",
        json!({"sub": "o'tool", "act": {"sub": "agent", "iss": "https://partner.example"}}),
    );
    let chain = r#"["corp/o'tool","https://partner.example/agent"]"#;
    let mut wire = appliance
        .try_login("orders", &provider.sign(&claims))
        .unwrap();
    let actors = "select current_setting('sallyport.actors', true)::jsonb ->> 1";
    assert_eq!(wire.value("show sallyport.actors"), chain);
    assert_eq!(wire.value(actors), "https://partner.example/agent");
    for attempt in [
        "set sallyport.actors = '[]'",
        "select set_config('sallyport.actors', '[]', false)",
        "reset sallyport.actors",
    ] {
        let answer = wire.query(attempt);
        let refusal = answer.iter().find(|message| message.tag == 'E');
        assert_eq!(refusal.expect(attempt).sqlstate(), "42501", "{attempt}");
    }
    wire.query("reset all");
    assert_eq!(wire.value("show sallyport.actors"), chain);
    wire.query("discard all");
    assert_eq!(wire.value("show sallyport.actors"), chain);
    wire.send('X', b"");
    wait_until("the end of the session", || {
        appliance.sessions()[0]["state"] == "ended"
    });
    let recorded = appliance.everything_recorded();
    assert!(recorded.contains("https://partner.example"), "{recorded}");
    // The next session of the same connection is nobody's deputy.
    let mut wire = appliance
        .try_login("orders", &provider.sign(&good_claims()))
        .unwrap();
    let none = "select coalesce(current_setting('sallyport.actors', true), '')";
    assert_eq!(wire.value(none), "");
}

#[test]
fn refused_logins_are_listed_while_it_runs_and_afterwards() {
    let provider = Provider::new();
    let (_server, mut appliance) = world(&provider);
    let expired = provider.sign(&with("exp", json!(now() - 600)));
    let stranger = provider.sign(&with("realm_access", json!({"roles": ["nobody"]})));
    refusal(appliance.try_login("orders", &expired));
    refusal(appliance.try_login("orders", &stranger));
    assert_eq!(appliance.sessions(), [] as [Value; 0]);
    let list = ["sessions", "--refused-logins", "--json"];
    let listed = json_lines(&appliance.cli_text(&list));
    // The latest first; who it was is known where a token proved it.
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["subject"], "agent-7");
    assert_eq!(listed[0]["target"], "orders");
    assert_eq!(listed[1]["subject"], Value::Null);
    assert_eq!(listed[1]["user"], "agent");
    assert_ne!(listed[0]["reason"], listed[1]["reason"]);
    let one = appliance.cli_text(&["sessions", "--refused-logins", "--limit", "1"]);
    let lines: Vec<&str> = one.lines().collect();
    assert_eq!(lines.len(), 2, "{one}");
    assert!(
        lines[1].contains(listed[0]["reason"].as_str().unwrap()),
        "{one}"
    );
    let none = appliance.cli_text(&["sessions", "--refused-logins", "--since", "2999-01-01"]);
    assert_eq!(none.lines().count(), 1, "{none}");
    appliance.terminate();
    assert_eq!(json_lines(&appliance.cli_text(&list)), listed);
}

#[test]
fn every_kind_of_wrong_token_gets_the_same_28p01() {
    let provider = Provider::new();
    let (_server, appliance) = world(&provider);
    let good = provider.sign(&good_claims());
    let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"});
    let mut flipped = good.clone().into_bytes();
    let last = flipped.len() - 10;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let none = format!(
        "{}.",
        signing_input(&json!({"alg": "none", "typ": "JWT"}), &good_claims())
    );
    let hmac = {
        let input = signing_input(
            &json!({"alg": "HS256", "typ": "JWT", "kid": "k1"}),
            &good_claims(),
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, provider.key.public_key().as_ref());
        format!(
            "{input}.{}",
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, input.as_bytes()))
        )
    };
    let swapped = {
        let claims = URL_SAFE_NO_PAD.encode(with("sub", json!("root")).to_string());
        let parts: Vec<&str> = good.split('.').collect();
        format!("{}.{claims}.{}", parts[0], parts[2])
    };
    let tokens = [
        ("empty", String::new()),
        ("not a token", "hunter2".into()),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("four parts", format!("{good}.x")),
        ("signature changed", String::from_utf8(flipped).unwrap()),
        ("claims changed", swapped),
        (
            "another key of the same name",
            Provider::new().sign(&good_claims()),
        ),
        (
            "unknown kid",
            provider.sign_with(&json!({"alg": "EdDSA", "kid": "k2"}), &good_claims()),
        ),
        ("alg none", none),
        ("hmac with the public key", hmac),
        (
            "alg that the key is not for",
            provider.sign_with(&json!({"alg": "ES256", "kid": "k1"}), &good_claims()),
        ),
        (
            "crit header",
            provider.sign_with(
                &json!({"alg": "EdDSA", "kid": "k1", "crit": ["x"], "x": 1}),
                &good_claims(),
            ),
        ),
        ("expired", provider.sign(&with("exp", json!(now() - 31)))),
        ("no exp", provider.sign(&without("exp"))),
        ("exp as text", provider.sign(&with("exp", json!("never")))),
        (
            "not yet valid",
            provider.sign(&with("nbf", json!(now() + 120))),
        ),
        (
            "another audience",
            provider.sign(&with("aud", json!("grafana"))),
        ),
        ("no audience", provider.sign(&without("aud"))),
        (
            "another issuer",
            provider.sign(&with("iss", json!("https://evil.example.com/"))),
        ),
        (
            "issuer without its slash",
            provider.sign(&with("iss", json!("https://login.example.com"))),
        ),
        ("no issuer", provider.sign(&without("iss"))),
        ("no subject", provider.sign(&without("sub"))),
        ("empty subject", provider.sign(&with("sub", json!("")))),
        ("trailing text", format!("{good} ")),
        (
            "claims are a list",
            format!("{}.{}", signing_input(&header, &json!([1])), "AAAA"),
        ),
    ];
    let model = refusal(appliance.try_login("orders", "hunter2"));
    assert_eq!(model.sqlstate(), "28P01");
    for (kind, token) in &tokens {
        let refusal = refusal(appliance.try_login("orders", token));
        assert_eq!(refusal, model, "{kind}");
    }
    let log = appliance.log();
    for (kind, token) in tokens.iter().filter(|(_, token)| token.len() > 16) {
        assert!(!log.contains(token), "{kind}: the token is in the log");
        let signature = token.rsplit('.').next().unwrap_or_default();
        assert!(
            signature.len() < 16 || !log.contains(signature),
            "{kind}: its signature is"
        );
    }
    // The reason is for the operator.
    assert!(log.contains("expired"), "{log}");
    assert!(appliance.try_login("orders", &good).is_ok());
}

#[test]
fn clock_skew_is_thirty_seconds_and_no_more() {
    let provider = Provider::new();
    let (_server, appliance) = world(&provider);
    assert!(
        appliance
            .try_login("orders", &provider.sign(&with("exp", json!(now() - 20))))
            .is_ok()
    );
    assert!(
        appliance
            .try_login("orders", &provider.sign(&with("nbf", json!(now() + 20))))
            .is_ok()
    );
    let late = provider.sign(&with("exp", json!(now() - 31)));
    assert_eq!(
        refusal(appliance.try_login("orders", &late)).sqlstate(),
        "28P01"
    );
}

#[test]
fn a_group_of_one_issuer_is_not_a_group_of_another() {
    let provider = Provider::new();
    let (_server, appliance) = world(&provider);
    // The built-in issuer's groups carry `local:` here; the rules name the other's, `corp:`.
    let builtin = appliance.token("mallory", "analysts,corp:analysts");
    assert_eq!(
        refusal(appliance.try_login("orders", &builtin)).sqlstate(),
        "28000"
    );
}

#[test]
fn an_unknown_target_and_one_that_is_not_admitted_get_the_same_answer() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let stranger = appliance.token("stranger", "nobodies");
    let not_admitted = refusal(appliance.try_login("orders", &stranger));
    assert_eq!(not_admitted.sqlstate(), "28000");
    for database in [
        "no-such-target",
        "ORDERS",
        "orders ",
        "",
        "postgres",
        "a'b",
        &"x".repeat(200),
    ] {
        let unknown = refusal(appliance.try_login(database, &stranger));
        assert_eq!(unknown, not_admitted, "{database:?}");
    }
    // Who may enter one learns no more about the others.
    let analyst = appliance.token("claude", "analysts");
    assert_eq!(
        refusal(appliance.try_login("no-such-target", &analyst)),
        not_admitted
    );
    let catalogued = appliance.log();
    assert!(
        catalogued.contains("stranger"),
        "the operator sees who was refused: {catalogued}"
    );
}

#[test]
fn a_refused_login_is_recorded() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let stranger = appliance.token("stranger", "nobodies");
    let _refusal = refusal(appliance.try_login("orders", &stranger));
    let folder = appliance.recordings_path();
    wait_until("the record", || holds_text(&folder, b"stranger"));
}

/// Whether some file below `folder` holds `text`.
fn holds_text(folder: &Path, text: &[u8]) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return holds_text(&path, text);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text)
    })
}

#[test]
fn the_start_up_user_is_a_label_and_opens_nothing() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "readers");
    for user in ["postgres", "svc", "root", "analysts", "\u{fc}ber"] {
        let parameters = [("user", user), ("database", "orders")];
        let mut wire = Wire::try_login(appliance.address(), &parameters, &token).unwrap();
        assert_eq!(wire.value("select current_user"), "svc", "{user}");
        assert!(
            wire.value("show sallyport.subject").contains("claude"),
            "{user}"
        );
        assert_eq!(tags(&wire.query("delete from orders")), "EZ", "{user}");
    }
}

#[test]
fn a_session_is_over_when_its_lifetime_is() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[session]\nlifetime = \"2s\"\n".into();
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    assert_eq!(wire.value("select 1"), "1");
    let messages = wire.until_closed();
    assert_eq!(crate::wire::error(&messages).sqlstate(), "57P01");
}

#[test]
fn an_idle_session_is_ended_where_that_is_configured() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[session]\nidle = \"1s\"\n".into();
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    let started = std::time::Instant::now();
    // A running statement is not idleness.
    assert_eq!(wire.value("select 1 from pg_sleep(2)"), "1");
    assert!(started.elapsed().as_secs() >= 2);
    let messages = wire.until_closed();
    assert_eq!(crate::wire::error(&messages).sqlstate(), "57P05");
}

#[test]
fn a_token_that_is_longer_than_any_is_not_read() {
    let server = orders_server();
    let appliance = Appliance::start(&Setup::for_server(&server));
    for bytes in [60_000, 65_536, 1_000_000] {
        let mut wire = Wire::open(appliance.address());
        wire.send_startup(
            crate::wire::PROTOCOL_3_0,
            &[("user", "a"), ("database", "orders")],
        );
        assert_eq!(wire.receive().unwrap().tag, 'R');
        wire.send('p', &crate::wire::terminated(&"x".repeat(bytes)));
        // Said so, or just closed: but not let in.
        for message in wire.until_closed() {
            let code = message.sqlstate();
            assert!(
                ["28P01", "08P01", "54000"].contains(&code.as_str()),
                "{message:?}"
            );
        }
    }
}
