//! The built-in issuer as other software meets it: discovery, keys, client credentials.

use std::fs;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::appliance::{Appliance, POLICY, Setup, orders_server, wait_until};
use crate::http::{Answer, Request};
use crate::postgres::{Server, free_port};

struct World {
    server: Server,
    appliance: Appliance,
    console: SocketAddr,
}

impl World {
    /// With `console.url`, so that tokens have that as their issuer.
    fn new() -> Self {
        Self::with(true)
    }

    fn with(url: bool) -> Self {
        let server = orders_server();
        let console = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let address = console.to_string();
        let mut setup = Setup::for_server(&server);
        setup.console = Some(&address);
        if url {
            setup.tables = format!("[console]\nurl = \"http://{console}\"\n");
        }
        let appliance = Appliance::start(&setup);
        Self {
            server,
            appliance,
            console,
        }
    }

    fn add_client(&self, agent: &str, groups: &str) -> Client {
        let arguments = [
            "token", "client", "add", "--agent", agent, "--groups", groups,
        ];
        let made = self
            .appliance
            .cli_text(&[&arguments[..], &["--json"]].concat());
        let made: Value = serde_json::from_str(&made).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Client {
            id: text("client_id"),
            secret: text("client_secret"),
        }
    }

    fn ask(&self, form: &str, authorization: Option<&str>) -> Answer {
        let mut request = Request::form("/issuer/token", form);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        request.tcp(self.console)
    }

    fn token(&self, client: &Client) -> String {
        let answer = self.ask(GRANT, Some(&client.basic()));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn reconfigure(&self, change: impl Fn(&str) -> String) {
        let path = self.appliance.configuration_path();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(&text)).unwrap();
        self.appliance.cli_text(&["reload"]);
    }
}

struct Client {
    id: String,
    secret: String,
}

impl Client {
    fn basic(&self) -> String {
        let encoded = STANDARD.encode(format!("{}:{}", self.id, self.secret));
        format!("Basic {encoded}")
    }
}

const GRANT: &str = "grant_type=client_credentials";

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn error(answer: &Answer) -> (u16, String) {
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    (answer.status, error)
}

#[test]
fn a_client_gets_tokens_that_let_its_agent_in() {
    let world = World::new();
    let client = world.add_client("reporter", "analysts,eu");
    let answer = world.ask(GRANT, Some(&client.basic()));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let granted = answer.json();
    assert_eq!(granted["token_type"], "Bearer");
    assert_eq!(granted["expires_in"], 3600);
    assert_eq!(granted["scope"], "analysts eu");
    let token = granted["access_token"].as_str().unwrap();
    let mut wire = world.appliance.try_login("orders", token).unwrap();
    assert_eq!(wire.value("show sallyport.subject"), "builtin/reporter");

    // In the body, and for fewer groups.
    let form = format!(
        "{GRANT}&client_id={}&client_secret={}&scope=eu",
        client.id, client.secret
    );
    let granted = world.ask(&form, None).json();
    let token = granted["access_token"].as_str().unwrap();
    assert_eq!(claims(token)["groups"], json!(["eu"]));
    assert!(world.appliance.try_login("orders", token).is_err());

    let listed = world.appliance.cli_text(&["token", "client", "list"]);
    assert!(listed.contains(&client.id) && listed.contains("analysts,eu"));
    assert!(!listed.contains(&client.secret));
    world
        .appliance
        .cli_text(&["token", "client", "remove", &client.id]);
    let answer = world.ask(GRANT, Some(&client.basic()));
    assert_eq!(error(&answer), (401, "invalid_client".to_owned()));
    let log = world.appliance.log();
    assert!(log.contains("a token was issued") && log.contains(&client.id));
    assert!(!log.contains(&client.secret));
}

#[test]
fn another_appliance_finds_it_by_discovery_and_takes_its_tokens() {
    let world = World::new();
    let document = Request::get("/.well-known/openid-configuration").tcp(world.console);
    let document = document.json();
    let url = format!("http://{}", world.console);
    assert_eq!(document["issuer"], json!(url));
    assert_eq!(
        document["jwks_uri"],
        json!(format!("{url}/issuer/jwks.json"))
    );
    let jwks = Request::get("/issuer/jwks.json").tcp(world.console);
    assert_eq!(jwks.header("cache-control"), Some("public, max-age=300"));
    assert!(
        jwks.json()["keys"][0].get("d").is_none(),
        "the public half alone"
    );

    let mut setup = Setup::for_server(&world.server);
    setup.tables = format!(
        "[builtin_issuer]\nenabled = false\n[[issuer]]\nname = \"first\"\nissuer = \"{url}\"\n\
         audience = [\"sallyport\"]\n"
    );
    let other = Appliance::start(&setup);
    let client = world.add_client("reporter", "analysts");
    let mut wire = other.try_login("orders", &world.token(&client)).unwrap();
    assert_eq!(wire.value("show sallyport.subject"), "first/reporter");
}

#[test]
fn an_address_changes_the_issuer_of_tokens_and_nobodys_identity() {
    let world = World::with(false);
    let discovered = || {
        let document = Request::get("/.well-known/openid-configuration").tcp(world.console);
        document.json()["issuer"].as_str().unwrap().to_owned()
    };
    let before = world.appliance.token("claude", "analysts");
    let name = claims(&before)["iss"].as_str().unwrap().to_owned();
    assert!(name.starts_with("sallyport:"), "{name}");
    assert_eq!(discovered(), name);

    let url = format!("http://{}", world.console);
    world.reconfigure(|text| format!("console.url = \"{url}\"\n{text}"));
    assert_eq!(discovered(), url);
    let after = world.appliance.token("claude", "analysts");
    assert_eq!(claims(&after)["iss"], json!(url));
    for token in [&before, &after] {
        let mut wire = world.appliance.try_login("orders", token).unwrap();
        assert_eq!(wire.value("show sallyport.subject"), "builtin/claude");
    }
    let issuers = || -> Vec<Value> {
        let sessions = world.appliance.sessions().into_iter();
        sessions.map(|session| session["issuer"].clone()).collect()
    };
    wait_until("both sessions in the catalogue", || issuers().len() == 2);
    assert_eq!(issuers(), [json!(name), json!(name)]);

    world.reconfigure(|text| text.replace(&format!("console.url = \"{url}\"\n"), ""));
    assert!(world.appliance.try_login("orders", &before).is_ok());
    assert!(world.appliance.try_login("orders", &after).is_err());
}

#[test]
fn what_a_client_may_not_ask_gets_the_words_of_the_rfc() {
    let world = World::new();
    let client = world.add_client("reporter", "analysts");
    let basic = client.basic();
    let wrong = Client {
        id: client.id.clone(),
        secret: format!("x{}", client.secret),
    };
    let cases = [
        (GRANT, Some(wrong.basic()), 401, "invalid_client"),
        (GRANT, None, 401, "invalid_client"),
        (GRANT, Some("Bearer x".to_owned()), 401, "invalid_client"),
        (
            "scope=analysts",
            Some(basic.clone()),
            400,
            "invalid_request",
        ),
        ("a=b&a=%", Some(basic.clone()), 400, "invalid_request"),
        (
            "grant_type=password",
            Some(basic.clone()),
            400,
            "unsupported_grant_type",
        ),
        (
            "grant_type=client_credentials&grant_type=client_credentials",
            Some(basic.clone()),
            400,
            "invalid_request",
        ),
        (
            "grant_type=client_credentials&scope=oncall",
            Some(basic.clone()),
            400,
            "invalid_scope",
        ),
    ];
    for (form, authorization, status, expected) in cases {
        let answer = world.ask(form, authorization.as_deref());
        assert_eq!(error(&answer), (status, expected.to_owned()), "{form}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge.is_some(), status == 401, "{form}");
    }
    let answer = Request::get("/issuer/token").tcp(world.console);
    assert_eq!(answer.status, 405);
    // Whoever guesses is stopped; the guesses say nothing of others.
    let mut guesses = 0;
    wait_until("the end of guessing", || {
        guesses += 1;
        world.ask(GRANT, Some(&wrong.basic())).status == 429
    });
    assert!(guesses <= 40, "{guesses}");

    world.reconfigure(|text| format!("builtin_issuer.enabled = false\n{text}"));
    for path in ["/.well-known/openid-configuration", "/issuer/jwks.json"] {
        assert_eq!(Request::get(path).tcp(world.console).status, 404, "{path}");
    }
    let add = ["token", "client", "add", "--agent", "a", "--groups", "b"];
    assert!(!world.appliance.cli(&add).status.success());
    // The admin socket has none of it.
    let socket = world.appliance.directory().join("run/admin.sock");
    assert_eq!(Request::get("/issuer/jwks.json").unix(&socket).status, 404);
}

#[test]
fn no_client_comes_by_a_group_that_approves_or_has_a_role() {
    let world = World::new();
    // From before anybody knew that it would approve.
    let client = world.add_client("mallory", "oncall,analysts");
    let old = world.token(&client);
    let policy = format!(
        "{POLICY}\n[[rule]]\nname = \"wait\"\ngroups = [\"analysts\"]\ntargets = [\"orders\"]\n\
         hold = {{ statements = [\"delete\"] }}\napprovers = [\"oncall\"]\n"
    );
    world.appliance.write_policy(&policy);
    world.reconfigure(|text| format!("roles.admin = [\"security\"]\n{text}"));

    let answer = world.ask(GRANT, Some(&client.basic()));
    assert_eq!(error(&answer), (400, "unauthorized_client".to_owned()));
    let scoped = world.ask(&format!("{GRANT}&scope=analysts"), Some(&client.basic()));
    assert_eq!(scoped.status, 200);
    for groups in ["oncall", "analysts,security"] {
        for command in [&["token", "client", "add"][..], &["token", "issue"]] {
            let arguments = [command, &["--agent", "mallory", "--groups", groups]].concat();
            let output = world.appliance.cli(&arguments);
            assert!(!output.status.success(), "{arguments:?}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("has a role in the appliance"), "{said}");
        }
    }
    // The old token is good for what it is for, and for nothing more.
    let whoami = Request::get("/v1/whoami").bearer(&old).tcp(world.console);
    assert_eq!(whoami.json()["person"]["roles"], json!([]));
    assert_eq!(
        Request::get("/v1/sessions")
            .bearer(&old)
            .tcp(world.console)
            .status,
        403
    );
    assert!(world.appliance.try_login("orders", &old).is_ok());
}

#[test]
fn a_prefix_hides_no_group_that_has_a_role() {
    let world = World::new();
    world.reconfigure(|text| {
        format!(
            "builtin_issuer.group_prefix = \"local:\"\nroles.viewer = [\"local:staff\"]\n\
             roles.admin = [\"security\"]\n{text}"
        )
    });
    for groups in ["staff", "security", "local:staff"] {
        let add = ["token", "client", "add", "--agent", "a", "--groups", groups];
        assert!(!world.appliance.cli(&add).status.success(), "{groups}");
    }
    world.add_client("a", "other");
}
