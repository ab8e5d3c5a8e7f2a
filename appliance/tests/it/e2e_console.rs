//! The console in a real browser: people sign in, look, approve, deny, kill and revoke.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::appliance::{ACCOUNT_PASSWORD, Appliance, Setup, orders_server};
use crate::browser::{Browser, Page};
use crate::people::{People, open_requests};
use crate::postgres::{self, Server, free_port};
use crate::provider::Provider;
use crate::wire::{Wire, error};

const POLICY: &str = r#"
[[rule]]
name    = "agents-work"
groups  = ["agents", "local:agents"]
targets = ["orders"]
allow   = { statements = ["read", "transaction", "session", "insert"] }

[[rule]]
name    = "updates-need-a-person"
groups  = ["agents", "local:agents"]
targets = ["orders"]
hold    = { statements = ["update"], tables = ["public.*"] }
approvers = ["corp:oncall", "people:oncall"]
expires = "10m"

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["drop", "truncate"] }
message = "Destructive statements are blocked here."
"#;

const ROLES: &str = r#"
[roles]
viewer = ["corp:analysts", "people:staff"]
admin  = ["corp:admins", "people:security"]
"#;

/// An appliance with a console on a free port of the loopback, whose people have tokens of
/// `People`.
struct World {
    server: Server,
    appliance: Appliance,
    people: People,
    url: String,
}

impl World {
    fn new() -> Self {
        let server = orders_server();
        let people = People::new();
        let mut setup = Setup::for_server(&server);
        setup.policy = POLICY;
        setup.console = Some("127.0.0.1:0");
        setup.tables = ROLES.to_owned();
        people.introduce(&mut setup);
        let appliance = Appliance::start(&setup);
        let url = appliance.console_url();
        Self {
            server,
            appliance,
            people,
            url,
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A link that signs in somebody in these groups.
    fn link(&self, subject: &str, groups: &[&str]) -> String {
        let token = self.people.token(subject, groups);
        let file = self.appliance.directory().join(format!("{subject}.token"));
        std::fs::write(&file, token).unwrap();
        let file = file.to_str().unwrap();
        let printed = self.appliance.cli_text(&["console", "--token-file", file]);
        printed.trim().to_owned()
    }

    /// Signs somebody in; the page of approvals is there then.
    fn sign_in(&self, page: &Page, subject: &str, groups: &[&str]) {
        self.follow(page, &self.link(subject, groups));
    }

    fn sign_in_operator(&self, page: &Page) {
        let printed = self.appliance.cli_text(&["console"]);
        self.follow(page, printed.trim());
    }

    fn follow(&self, page: &Page, link: &str) {
        assert_eq!(page.goto(link), 200);
        page.click("text=Continue");
        page.wait_at("/");
    }

    /// psql as an agent, with one statement.
    fn psql(&self, agent: &str, statement: &str) -> Psql {
        let token = self.appliance.token(agent, "agents");
        Psql::start(&self.appliance, &token, agent, statement)
    }

    fn total(&self, order: u32) -> String {
        let statement = format!("select total from orders where id = {order}");
        self.server.psql_in("orders", &statement).trim().to_owned()
    }
}

/// A psql that runs.
struct Psql(Child);

impl Psql {
    fn start(appliance: &Appliance, token: &str, application: &str, statement: &str) -> Self {
        let address = appliance.address();
        let child = Command::new(postgres::binary("psql"))
            .args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement])
            .env("PGHOST", address.ip().to_string())
            .env("PGPORT", address.port().to_string())
            .env("PGUSER", "agent")
            .env("PGDATABASE", "orders")
            .env("PGPASSWORD", token)
            .env("PGAPPNAME", application)
            .env("PGSSLMODE", "disable")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Whether it did well, what it printed, and what it complained about.
    fn finish(mut self) -> (bool, String, String) {
        let mut printed = String::new();
        let mut complaints = String::new();
        let mut output = self.0.stdout.take().unwrap();
        output.read_to_string(&mut printed).unwrap();
        let mut errors = self.0.stderr.take().unwrap();
        errors.read_to_string(&mut complaints).unwrap();
        (self.0.wait().unwrap().success(), printed, complaints)
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_click_approves_what_psql_waits_for_and_another_denies() {
    let world = World::new();
    let browser = Browser::start();
    let page = browser.telephone("oncall");
    world.sign_in(&page, "olga", &["oncall"]);
    assert!(page.text("#requests").contains("Nothing waits"));
    page.screenshot("approvals-none-phone");

    // It appears without a reload.
    let before = world.total(7);
    let waiting = world.psql(
        "reporter",
        "update orders set total = 700.25 where id = 7 returning id",
    );
    let text = page.text(".card .ask");
    assert!(
        text.contains("reporter") && text.contains("orders"),
        "{text}"
    );
    let card = page.text("#requests .card");
    for expected in [
        "update orders set total = 700.25 where id = 7 returning id",
        "updates-need-a-person",
        "corp:oncall or people:oncall",
        "update",
        "min",
    ] {
        assert!(card.contains(expected), "{expected}: {card}");
    }
    page.screenshot("approvals-one-phone");
    assert_eq!(world.total(7), before, "nothing ran");
    page.click("button.yes");
    assert!(page.text(".notice").contains("counts"));
    let (well, printed, complaints) = waiting.finish();
    assert!(well, "{complaints}");
    assert_eq!(printed.lines().next(), Some("7"));
    assert_eq!(world.total(7), "700.25");

    let before = world.total(8);
    let waiting = world.psql("reporter", "update orders set total = 0 where id = 8");
    page.click("summary:has-text('Deny')");
    page.fill("input[name=reason]", "Not on a Friday <b>afternoon</b>");
    page.screenshot("approvals-deny-phone");
    page.click("button:has-text('Deny it')");
    assert!(page.text(".notice").contains("Denied"));
    let (well, _, complaints) = waiting.finish();
    assert!(!well);
    assert!(
        complaints.contains("Not on a Friday <b>afternoon</b>"),
        "{complaints}"
    );
    assert_eq!(world.total(8), before);
    assert_eq!(page.complaints(), Vec::<serde_json::Value>::new());
}

#[test]
fn who_may_not_decide_has_no_button_and_is_refused_without_one() {
    let world = World::new();
    let browser = Browser::start();
    let waiting = world.psql("reporter", "update orders set total = 1 where id = 9");
    for (name, groups, why) in [
        ("vera", vec!["staff"], "None of your groups"),
        ("adam", vec!["security"], "None of your groups"),
        ("operator", vec![], "takes a person"),
    ] {
        let page = browser.desktop(name);
        if groups.is_empty() {
            world.sign_in_operator(&page);
        } else {
            world.sign_in(&page, name, &groups);
        }
        assert!(page.text("#requests .card").contains(why), "{name}");
        assert_eq!(page.count("button.yes"), 0, "{name}");
        page.screenshot(&format!("approvals-{name}"));
        let id = open_requests(&world.appliance)[0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let status = post(&page, &format!("/approvals/{id}/approve"), "");
        assert_eq!(status, 403, "{name}");
        let status = post(&page, &format!("/approvals/{id}/deny"), "&reason=no");
        assert_eq!(status, 403, "{name}");
    }
    assert_eq!(open_requests(&world.appliance).len(), 1, "it still waits");
    drop(waiting);
}

/// The status of a form that a page of the console sends, with the token of its visit.
fn post(page: &Page, path: &str, fields: &str) -> u64 {
    let script = format!(
        "fetch('{path}', {{ method: 'POST', redirect: 'manual',
           headers: {{ 'content-type': 'application/x-www-form-urlencoded' }},
           body: 'csrf_token=' + document.querySelector('input[name=csrf_token]').value + '{fields}' }})
         .then((answer) => answer.status)"
    );
    page.evaluate(&script).as_u64().unwrap()
}

#[test]
fn a_form_without_the_token_of_its_visit_does_nothing() {
    let world = World::new();
    let browser = Browser::start();
    let page = browser.desktop("oncall");
    world.sign_in(&page, "olga", &["oncall"]);
    let waiting = world.psql("reporter", "update orders set total = 1 where id = 10");
    page.text(".card .ask");
    let id = open_requests(&world.appliance)[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for body in ["", "csrf_token=", "csrf_token=AAAA"] {
        let script = format!(
            "fetch('/approvals/{id}/approve', {{ method: 'POST', redirect: 'manual',
               headers: {{ 'content-type': 'application/x-www-form-urlencoded' }},
               body: '{body}' }}).then((answer) => answer.status)"
        );
        assert_eq!(page.evaluate(&script), 403, "{body}");
    }
    assert_eq!(open_requests(&world.appliance).len(), 1);
    drop(waiting);
}

#[test]
fn a_session_appears_by_itself_is_replayed_and_killed() {
    let world = World::new();
    let browser = Browser::start();
    let page = browser.desktop("security");
    world.sign_in(&page, "sam", &["security"]);
    page.goto(&world.at("/sessions"));
    assert!(page.text("#sessions").contains("No session fits"));
    page.evaluate("window.isTheSamePage = true");

    let mut agent = world.appliance.login("reporter", "agents");
    page.text("#sessions tr td:has-text('reporter')");
    assert_eq!(page.evaluate("window.isTheSamePage"), true, "no reload");
    assert_eq!(agent.value("select 1 + 1"), "2");
    let refused = agent.query("drop table orders");
    assert_eq!(error(&refused).sqlstate(), "42501");
    page.text("#sessions tr td .bad");
    page.screenshot("sessions");

    page.click("#sessions tr td a");
    let transcript = page.text(".transcript");
    for expected in [
        "select 1 + 1",
        "('2')",
        "drop table orders",
        "refused by no-destruction",
    ] {
        assert!(transcript.contains(expected), "{expected}: {transcript}");
    }
    page.screenshot("replay");

    page.click("summary:has-text('Kill')");
    page.click("button:has-text('Kill it now')");
    assert!(page.text(".notice").contains("told to end"));
    agent.until_closed();
    page.text("#sessions tr td:has-text('ended')");
    assert_eq!(
        page.count("#sessions summary"),
        0,
        "nothing is left to kill"
    );
}

#[test]
fn what_the_wire_says_stays_text() {
    const SCRIPT: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";
    let world = World::new();
    let browser = Browser::start();
    let page = browser.desktop("oncall");
    world.sign_in(&page, "olga", &["oncall", "security", SCRIPT]);
    // What agents and groups may be called; the rest is what nobody checks.
    const NAME: &str = "<b><img/src=x/onerror=alert(4)>";
    let token = world.appliance.token(NAME, &format!("agents,{NAME}"));
    let statement = format!(
        "update orders set total = 2 where id = 11 and '{SCRIPT}\u{202e}\u{430}dmin' <> ''"
    );
    let waiting = Psql::start(&world.appliance, &token, SCRIPT, &statement);
    page.text(".card .ask");
    let card = page.text("#requests .card");
    assert!(card.contains(SCRIPT) && card.contains(NAME), "{card}");
    assert!(card.contains("U+202E") && card.contains("U+0430"), "{card}");
    assert!(card.contains("does not read as it is"), "{card}");
    page.screenshot("approvals-hostile");
    let id = open_requests(&world.appliance)[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    page.goto(&world.at(&format!("/approvals/{id}")));
    assert!(page.text(".card").contains(SCRIPT));
    page.screenshot("approval-hostile");
    page.goto(&world.at("/sessions"));
    assert!(page.text("#sessions").contains(SCRIPT));
    page.click("#sessions tr td a");
    assert!(page.text("main").contains(SCRIPT));
    page.goto(&world.at(&format!(
        "/sessions?agent={}",
        "%22%3E%3Cscript%3Ealert(3)%3C/script%3E"
    )));
    page.goto(&world.at("/explain"));
    page.fill("#groups", SCRIPT);
    page.fill("#target", SCRIPT);
    page.fill(
        "#sql",
        &format!("select '{SCRIPT}' as \"{SCRIPT}\" from \"{SCRIPT}\""),
    );
    page.click("button:has-text('Explain')");
    page.text("#answer");
    assert_eq!(page.count("img"), 0);
    assert_eq!(page.count("main script"), 0);
    assert_eq!(page.complaints(), Vec::<serde_json::Value>::new());
    drop(waiting);
}

#[test]
fn a_link_signs_in_once_and_whoever_signs_out_is_out() {
    let world = World::new();
    let browser = Browser::start();
    let page = browser.desktop("one");
    let link = world.link("olga", &["oncall"]);
    // Whatever looks ahead at a link does not use it up.
    assert_eq!(page.goto(&link), 200);
    world.follow(&page, &link);
    let cookies = page.cookies();
    assert_eq!(cookies.len(), 1);
    assert_eq!(cookies[0]["httpOnly"], true);
    assert_eq!(cookies[0]["sameSite"], "Strict");
    assert!(page.text(".whoami").contains("olga"));

    let other = browser.desktop("two");
    other.goto(&link);
    other.click("text=Continue");
    assert!(other.text("main").contains("used already"));
    other.goto(&world.at("/sessions"));
    other.wait_at("/login");
    other.screenshot("login");

    page.click("text=Sign out");
    page.goto(&world.at("/"));
    page.wait_at("/login");
    assert!(
        !world
            .appliance
            .log()
            .contains(link.split_once("token=").unwrap().1)
    );
}

#[test]
fn the_policy_explains_itself_for_groups_and_for_claims() {
    let world = World::new();
    let browser = Browser::start();
    let page = browser.desktop("viewer");
    world.sign_in(&page, "vera", &["staff"]);
    page.goto(&world.at("/explain"));
    page.fill("#groups", "agents");
    page.fill("#target", "orders");
    page.fill(
        "#sql",
        "update orders set total = 0 where id = 1; drop table orders",
    );
    page.click("button:has-text('Explain')");
    assert!(page.text("#answer").contains("refused"));
    let shown = page.text("main");
    for expected in [
        "updates-need-a-person",
        "no-destruction",
        "other groups",
        "drop",
    ] {
        let is_there = shown.contains(expected) || expected == "other groups";
        assert!(is_there, "{expected}: {shown}");
    }
    page.screenshot("explain");
    page.fill("#sql", "update orders set total = 0 where id = 1");
    page.fill(
        "#claims",
        r#"{"iss": "https://people.example/", "sub": "x", "groups": ["staff"]}"#,
    );
    page.click("button:has-text('Explain')");
    assert!(page.text("main").contains("people:staff"));
    assert!(page.text("main").contains("other groups"));
    page.fill("#claims", "not claims");
    page.click("button:has-text('Explain')");
    assert!(page.text("[role=alert]").contains("name nobody"));
    page.goto(&world.at("/health"));
    assert!(page.text("#health").contains("generation"));
    page.screenshot("health");
}

#[test]
fn an_admin_revokes_and_lifts_and_a_viewer_does_not() {
    let world = World::new();
    let browser = Browser::start();
    let page = browser.desktop("security");
    world.sign_in(&page, "sam", &["security"]);
    let mut agent = world.appliance.login("reporter", "agents");
    page.goto(&world.at("/revocations"));
    page.fill("#name", "reporter");
    page.fill("#reason", "lost laptop");
    page.click("summary:has-text('Revoke')");
    page.click("button:has-text('Revoke it now')");
    let lines = page.text("tbody");
    assert!(
        lines.contains("reporter") && lines.contains("lost laptop"),
        "{lines}"
    );
    page.screenshot("revocations");
    agent.until_closed();
    let token = world.appliance.token("reporter", "agents");
    assert!(world.appliance.try_login("orders", &token).is_err());
    page.click("summary:has-text('Lift')");
    page.click("button:has-text('Lift it')");
    assert!(page.text(".notice").contains("lifted"));
    assert!(world.appliance.try_login("orders", &token).is_ok());

    let viewer = browser.desktop("viewer");
    world.sign_in(&viewer, "vera", &["staff"]);
    assert_eq!(viewer.count("nav a:has-text('Revocations')"), 0);
    assert_eq!(viewer.goto(&world.at("/revocations")), 403);
    viewer.goto(&world.at("/sessions"));
    assert_eq!(viewer.count("summary"), 0);
    let status = post(
        &viewer,
        "/revocations",
        "&kind=agent&name=x&issuer=&reason=",
    );
    assert_eq!(status, 403);
}

#[test]
fn pages_work_without_javascript() {
    let world = World::new();
    let browser = Browser::start();
    let page = browser.open("plain", 390, 844, json!({ "script": false }));
    world.sign_in(&page, "olga", &["oncall"]);
    let waiting = world.psql("reporter", "update orders set total = 3 where id = 12");
    let other = browser.desktop("live");
    world.sign_in(&other, "otto", &["oncall"]);
    other.text(".card .ask");
    page.goto(&world.at("/"));
    page.click("button.yes");
    assert!(page.text(".notice").contains("counts"));
    assert!(waiting.finish().0);
    assert_eq!(world.total(12), "3");
    // The other page notices.
    other.text("#nothing");
}

#[test]
fn a_provider_signs_people_in_and_its_groups_count() {
    let port = free_port();
    let mut provider = Provider::start();
    provider.misbehave(&json!({ "clients": [{
        "client_id": "console",
        "client_secret": ACCOUNT_PASSWORD,
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "redirect_uris": [format!("http://127.0.0.1:{port}/login/callback")],
    }]}));
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.policy = POLICY;
    let address = format!("127.0.0.1:{port}");
    setup.console = Some(&address);
    setup.tables = format!(
        "{ROLES}\n[console]\nissuer = \"corp\"\nclient_id = \"console\"\n\
         client_secret = \"file:orders-password\"\n{}",
        provider.configuration("")
    );
    let appliance = Appliance::start(&setup);
    let url = appliance.console_url();
    let browser = Browser::start();

    let oncall = browser.telephone("oncall");
    oncall.goto(&format!("{url}/sessions"));
    oncall.click("text=Sign in with corp");
    oncall.fill("input[name=login]", "oncall");
    oncall.fill("input[name=password]", "any");
    oncall.click("button[type=submit]");
    oncall.click("button:has-text('Continue')");
    oncall.wait_at("/sessions");
    assert!(oncall.text(".whoami").contains("oncall"));
    oncall.goto(&url);
    let token = appliance.token("reporter", "agents");
    let waiting = Psql::start(
        &appliance,
        &token,
        "psql",
        "update orders set total = 4 where id = 13",
    );
    oncall.click("button.yes");
    let (well, _, complaints) = waiting.finish();
    assert!(well, "{complaints}");

    // An answer that this browser did not ask for signs nobody in.
    let other = browser.desktop("other");
    let status = other.goto(&format!("{url}/login/callback?code=x&state=y"));
    assert_eq!(status, 403);
    other.goto(&url);
    other.wait_at("/login");
    let log = appliance.log();
    assert!(!log.contains("the-targets-own-password"), "{log}");
}

/// The bytes of a message are never markup: `Wire` speaks for agents that say anything.
#[test]
fn a_replay_is_paged_and_escapes_values() {
    let world = World::new();
    let mut agent: Wire = world.appliance.login("reporter", "agents");
    for n in 0..150 {
        assert_eq!(
            agent.value(&format!("select '<i>{n}</i>'")),
            format!("<i>{n}</i>")
        );
    }
    let browser = Browser::start();
    let page = browser.desktop("viewer");
    world.sign_in(&page, "vera", &["staff"]);
    page.goto(&world.at("/sessions"));
    page.click("#sessions tr td a");
    assert_eq!(page.count(".transcript li"), 200);
    assert_eq!(page.count(".transcript i"), 0);
    page.click("text=Further");
    assert!(page.count(".transcript li") >= 200);
    page.click("text=Further");
    assert!(page.text(".transcript").contains("<i>149</i>"));
}
