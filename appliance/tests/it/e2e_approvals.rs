//! What waits for a person, at the command line, over a restart, and told to a webhook.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::appliance::{Appliance, Setup, json_lines, orders_server, wait_until};
use crate::e2e_hold::{World, notice};
use crate::people::People;
use crate::wire::{Wire, error, terminated};

const BINARY: &str = env!("CARGO_BIN_EXE_sallyport");

/// Changes of orders take one on call, changes of customers two.
const POLICY: &str = r#"
[[rule]]
name    = "agents-work"
groups  = ["*"]
targets = ["*"]
allow   = { statements = ["*"] }

[[rule]]
name      = "changes"
groups    = ["*"]
targets   = ["*"]
hold      = { statements = ["insert", "update", "delete"], tables = ["public.orders"] }
approvers = ["people:oncall"]

[[rule]]
name      = "customers"
groups    = ["*"]
targets   = ["*"]
hold      = { statements = ["update"], tables = ["public.customers"] }
approvers = ["people:oncall", "people:board"]
approvals = 2

[[rule]]
name      = "ghosts"
groups    = ["*"]
targets   = ["*"]
hold      = { statements = ["truncate"] }
approvers = ["ghosts"]
"#;

/// A process that does not outlive its test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl World {
    /// `sallyport approvals ...` as somebody in these groups, whose token is in the environment.
    fn answer(&self, subject: &str, groups: &[&str], arguments: &[&str]) -> Output {
        Command::new(BINARY)
            .arg("--config")
            .arg(self.appliance.configuration_path())
            .arg("approvals")
            .args(arguments)
            .env("SALLYPORT_TOKEN", self.people.token(subject, groups))
            .output()
            .unwrap()
    }

    fn answer_as_oncall(&self, arguments: &[&str]) -> String {
        let output = self.answer("olga", &["oncall"], arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn hold(&self, text: &str) -> (String, Wire) {
        let mut wire = self.login();
        wire.send('Q', &terminated(text));
        let (id, _) = notice(&mut wire);
        (id, wire)
    }
}

#[track_caller]
fn check_refused(output: &Output, expected: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains(expected),
        "{errors}"
    );
}

#[test]
fn a_person_sees_and_approves_at_the_command_line() {
    let world = World::with(POLICY, "");
    let (id, mut wire) = world.hold("delete from orders where id = 7 -- \u{202e}harmless");

    let listed = world.appliance.cli_text(&["approvals", "list"]);
    assert!(
        listed.contains(&id) && listed.contains("claude"),
        "{listed}"
    );
    let shown = world.answer_as_oncall(&["show", &id]);
    for expected in [
        "pending",
        "claude",
        "orders",
        "changes: 0 of 1 by people:oncall",
        "command 1: delete orders",
        "  | delete from orders where id = 7 -- {U+202E}harmless",
        "careful",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    // Access to the socket stands for no person, and a person of another group has no say.
    let operator = world.appliance.cli(&["approvals", "approve", &id]);
    check_refused(&operator, "a person's own token");
    let outsider = world.answer("bob", &["dev"], &["approve", &id]);
    check_refused(&outsider, "role approver");

    let unique = &id[..20];
    let said = world.answer_as_oncall(&["approve", unique]);
    assert_eq!(said, format!("{id}: approved\n"));
    assert_eq!(error_or_complete(&mut wire), "DELETE 1");
    let again = world.answer("olga", &["oncall"], &["approve", &id]);
    check_refused(&again, "the request is over: used");
    let listed = world.appliance.cli_text(&["approvals", "list"]);
    assert!(!listed.contains(&id), "{listed}");
    let all = world
        .appliance
        .cli_text(&["approvals", "list", "--all", "--json"]);
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all[0]["id"], *id);
    assert_eq!(all[0]["approvals"][0]["by"]["subject"], "olga");
}

/// The command tag, or the message of the error.
fn error_or_complete(wire: &mut Wire) -> String {
    let messages = wire.until_ready();
    let complete = messages.iter().find(|message| message.tag == 'C');
    match complete {
        Some(complete) => complete.texts()[0].clone(),
        None => error(&messages).field('M').unwrap(),
    }
}

#[test]
fn a_person_denies_with_a_token_from_a_file() {
    let world = World::with(POLICY, "");
    let (id, mut wire) = world.hold("delete from orders");
    let file = world.appliance.directory().join("olga.token");
    fs::write(&file, world.people.token("olga", &["oncall"]) + "\n").unwrap();
    let file = file.to_str().unwrap();
    let deny = ["approvals", "deny", &id, "--token-file", file, "--reason"];
    let lines = world.appliance.cli(&[&deny[..], &["two\nlines"]].concat());
    check_refused(&lines, "a reason is one line");
    let said = world
        .appliance
        .cli_text(&[&deny[..], &["ask the team first"]].concat());
    assert_eq!(said, format!("{id}: denied\n"));
    assert!(error_or_complete(&mut wire).contains("ask the team first"));
    assert_eq!(
        world
            .server
            .psql_in("orders", "select count(*) from orders"),
        "1000"
    );
}

/// With a console, where the API is asked from elsewhere.
fn world_with_console(listen: &str) -> World {
    let server = orders_server();
    let people = People::new();
    let mut setup = Setup::for_server(&server);
    setup.policy = POLICY;
    setup.console = Some(listen);
    people.introduce(&mut setup);
    let appliance = Appliance::start(&setup);
    World {
        server,
        appliance,
        people,
    }
}

#[test]
fn a_person_answers_from_elsewhere_with_a_token_and_never_in_the_clear() {
    let world = world_with_console("127.0.0.1:0");
    let (id, mut wire) = world.hold("delete from orders where id = 7");
    let here = world.appliance.console_url();
    let nobody = world
        .appliance
        .cli(&["approvals", "list", "--server", &here]);
    check_refused(&nobody, "this takes a token");
    let clear = ["list", "--server", "http://192.0.2.1:7070"];
    let clear = world.answer("olga", &["oncall"], &clear);
    check_refused(&clear, "https://");
    let said = world.answer_as_oncall(&["approve", &id, "--server", &here]);
    assert_eq!(said, format!("{id}: approved\n"));
    assert_eq!(error_or_complete(&mut wire), "DELETE 1");
}

#[test]
fn a_person_who_has_logged_in_answers_without_handling_the_token() {
    let world = world_with_console("127.0.0.1:0");
    let (id, mut wire) = world.hold("delete from orders where id = 7");
    let here = world.appliance.console_url();
    let home = world.appliance.directory().join("olga");
    let answer = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command
            .arg("--config")
            .arg(world.appliance.configuration_path())
            .arg("approvals")
            .args(arguments)
            .env("HOME", &home)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("SALLYPORT_TOKEN");
        command.output().unwrap()
    };
    let write = |name: &str, text: &str, mode: u32| {
        let path = home.join(name);
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // Without an issuer of theirs they are nobody but the operator, who decides about nothing.
    check_refused(&answer(&["approve", &id]), "person");
    write(
        ".config/sallyport/client.toml",
        "[[issuer]]\nname = \"people\"\nissuer = \"https://people.example/\"\nclient_id = \"cli\"\n",
        0o600,
    );
    check_refused(&answer(&["approve", &id]), "not logged in at people");
    // As `login` leaves it.
    let kept = serde_json::json!({
        "issuer": "https://people.example/",
        "client_id": "cli",
        "access_token": world.people.token("olga", &["oncall"]),
        "refresh_token": null,
        "expires": 4_000_000_000_u64,
    });
    let cache = ".cache/sallyport/tokens/people.json";
    write(cache, &kept.to_string(), 0o600);
    let listed = answer(&["list", "--server", &here]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(&id), "{listed}");
    let other = answer(&["approve", &id, "--issuer", "elsewhere"]);
    check_refused(&other, "has no issuer named `elsewhere`");
    let approved = answer(&["approve", &id]);
    let said = String::from_utf8(approved.stdout).unwrap();
    assert_eq!(said, format!("{id}: approved\n"));
    assert_eq!(error_or_complete(&mut wire), "DELETE 1");
}

#[test]
fn a_person_answers_over_tls_where_the_certificate_is_known() {
    let world = world_with_console("0.0.0.0:0");
    let (id, mut wire) = world.hold("delete from orders where id = 7");
    let everywhere = world.appliance.console_url();
    let port = everywhere.rsplit(':').next().unwrap();
    let server = format!("https://localhost:{port}");
    let stranger = world.answer("olga", &["oncall"], &["list", "--server", &server]);
    check_refused(&stranger, "cannot ask the appliance");
    let certificate = world.appliance.certificate_path();
    let known = ["--server-ca", certificate.to_str().unwrap()];
    let approve = ["approve", &id, "--server", &server];
    let said = world.answer_as_oncall(&[&approve[..], &known].concat());
    assert_eq!(said, format!("{id}: approved\n"));
    assert_eq!(error_or_complete(&mut wire), "DELETE 1");
}

#[test]
fn nobody_approves_what_they_ask_for_themselves() {
    let world = World::with(POLICY, "");
    let token = world.people.token("olga", &["oncall", "admin"]);
    let mut wire = world.appliance.try_login("orders", &token).ok().unwrap();
    wire.send('Q', &terminated("delete from orders where id = 7"));
    let (id, _) = notice(&mut wire);
    let own = world.answer("olga", &["oncall", "admin"], &["approve", &id]);
    check_refused(&own, "nobody decides about a request of their own");
    let denied = world.answer("olga", &["oncall"], &["deny", &id, "--reason", "no"]);
    check_refused(&denied, "nobody decides about a request of their own");
    let other = world.answer("pia", &["oncall"], &["approve", &id]);
    assert!(other.status.success());
    assert_eq!(error_or_complete(&mut wire), "DELETE 1");
}

#[test]
fn two_people_approve_where_the_rule_takes_two() {
    let world = World::with(POLICY, "");
    let (id, mut wire) = world.hold("update customers set name = 'x' where id = 1");
    let first = world.answer_as_oncall(&["approve", &id]);
    assert_eq!(first, format!("{id}: counted; one more person is needed\n"));
    let same = world.answer("olga", &["board"], &["approve", &id]);
    check_refused(&same, "you have approved it already");
    let shown = world.answer_as_oncall(&["show", &id]);
    assert!(shown.contains("customers: 1 of 2"), "{shown}");
    let second = world.answer("bea", &["board"], &["approve", &id]);
    assert!(second.status.success());
    assert_eq!(error_or_complete(&mut wire), "UPDATE 1");
}

#[test]
fn what_nobody_may_approve_is_refused_at_once() {
    let world = World::with(POLICY, "");
    let mut wire = world.login();
    wire.send('Q', &terminated("truncate orders"));
    let refused = error_or_complete(&mut wire);
    assert!(refused.contains("nobody may give it"), "{refused}");
    let all = world
        .appliance
        .cli_text(&["approvals", "list", "--all", "--json"]);
    assert_eq!(all, "[]\n");
}

#[test]
fn a_kill_refuses_what_was_open_and_runs_none_of_it() {
    let mut world = World::with(POLICY, "");
    let (pending, waiting) = world.hold("delete from orders where id = 7");
    let (approved, left) = world.hold("delete from orders where id = 8");
    drop(left);
    wait_until("the agent's departure is seen", || {
        let shown = world.people.shown(&world.appliance, &approved);
        shown["is_awaited"] == false
    });
    world.approve(&approved);
    world.appliance.kill();
    drop(waiting);
    world.appliance.resume();
    for id in [&pending, &approved] {
        let shown = world.answer_as_oncall(&["show", id, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["state"], "restarted");
        let late = world.answer("olga", &["oncall"], &["approve", id]);
        check_refused(&late, "the request is over: restarted");
    }
    // The same again asks again.
    let (again, mut wire) = world.hold("delete from orders where id = 8");
    assert_ne!(again, approved);
    assert_eq!(
        world
            .server
            .psql_in("orders", "select count(*) from orders"),
        "1000"
    );
    world.approve(&again);
    assert_eq!(error_or_complete(&mut wire), "DELETE 1");
}

#[test]
fn whoever_watches_reads_of_each_step() {
    let world = World::with(POLICY, "");
    let mut watching = Guarded(
        Command::new(BINARY)
            .arg("--config")
            .arg(world.appliance.configuration_path())
            .args(["approvals", "watch", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let mut told = None;
    let (heard, first) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more after the first.
                drop(heard.send(line));
            }
        });
        // It follows from the moment that it is heard; until then requests are made and denied.
        wait_until("the watcher hears of something", || {
            let (id, mut wire) = world.hold("delete from orders where id = 7");
            world.deny(&id, "no");
            error_or_complete(&mut wire);
            told = first.try_recv().ok();
            told.is_some()
        });
        watching.0.kill().unwrap();
    });
    let told: Value = serde_json::from_str(&told.unwrap()).unwrap();
    assert!(
        ["asked", "over"].contains(&told["event"].as_str().unwrap()),
        "{told}"
    );
    assert_eq!(told["request"]["target"], "orders");
}

/// A server that keeps what it is sent of requests, answers 503 to the first, and verifies signatures by
/// Python's own HMAC.
struct Receiver {
    _process: Guarded,
    address: String,
    log: PathBuf,
}

const RECEIVER: &str = r#"
import hashlib, hmac, http.server, json, sys

log, secret = open(sys.argv[1], "a", buffering=1), sys.argv[2].encode()
count = 0

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global count
        body = self.rfile.read(int(self.headers["content-length"]))
        stamp = self.headers["x-sallyport-timestamp"]
        expected = hmac.new(secret, b"v1:" + stamp.encode() + b":" + body, hashlib.sha256)
        given = self.headers["x-sallyport-signature"]
        status, event = 200, json.loads(body)
        # Heads of the archive come to the same address.
        if event["event"] != "archive.head":
            count += 1
            status = 503 if count == 1 else 200
            log.write(json.dumps({
                "status": status,
                "signed": hmac.compare_digest("v1=" + expected.hexdigest(), given),
                "delivery": self.headers["x-sallyport-delivery"],
                "body": event,
            }) + "\n")
        answer = b'{"approved": true}'
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

impl Receiver {
    fn start(directory: &Path, secret: &str) -> Self {
        let log = directory.join("webhook.jsonl");
        let mut process = Guarded(
            Command::new("python3")
                .args(["-c", RECEIVER])
                .arg(&log)
                .arg(secret)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut port = String::new();
        let stdout = process.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut port).unwrap();
        Self {
            _process: process,
            address: format!("http://127.0.0.1:{}/hook", port.trim()),
            log,
        }
    }

    fn received(&self) -> Vec<Value> {
        json_lines(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

#[test]
fn a_webhook_is_told_signed_and_again_and_grants_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(directory.path(), "shared with the receiver");
    let secret = directory.path().join("webhook.secret");
    fs::write(&secret, "shared with the receiver\n").unwrap();
    restrict(&secret);
    let table = format!(
        "[console]\nurl = \"https://console.example\"\n[[webhook]]\nurl = \"{}\"\n\
         secret = \"file:{}\"\nform = \"json\"\n",
        receiver.address,
        secret.display()
    );
    let world = World::with(POLICY, &table);
    let (id, mut wire) =
        world.hold("delete from orders where note = '<!here> 4111 1111 1111 1111'");
    wait_until("the webhook is told, and told again", || {
        receiver.received().len() >= 2
    });
    let received = receiver.received();
    assert_eq!(received[0]["status"], 503);
    assert_eq!(received[1]["status"], 200);
    for message in &received {
        assert_eq!(message["signed"], true, "{message}");
        assert_eq!(message["delivery"], format!("{id}-asked"));
        let body = &message["body"];
        assert_eq!(body["event"], "asked");
        assert_eq!(
            body["link"],
            format!("https://console.example/approvals/{id}")
        );
        assert_eq!(body["request"]["id"], *id);
        let text = body["text"].as_str().unwrap();
        assert!(text.contains("&lt;!here&gt;"), "{text}");
    }
    // Whatever it answers: the request waits for a person.
    let shown = world.people.shown(&world.appliance, &id);
    assert_eq!(shown["state"], "pending");
    world.deny(&id, "no");
    assert!(error_or_complete(&mut wire).contains("no"));
    wait_until("the webhook is told of the end", || {
        receiver.received().len() >= 3
    });
    let over = &receiver.received()[2];
    assert_eq!(over["signed"], true);
    assert_eq!(over["body"]["event"], "over");
    assert_eq!(over["body"]["request"]["state"], "denied");
    let log = world.appliance.log();
    assert!(
        !log.contains("/hook") && !log.contains("shared with"),
        "{log}"
    );
}

fn restrict(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
