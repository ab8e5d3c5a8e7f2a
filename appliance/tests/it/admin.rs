//! The admin socket and the commands that use it, with the shipped binary and no target that
//! answers.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_sallyport");

/// How long a test waits for the process before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `nobody` of Debian.
pub const NOBODY: u32 = 65534;

pub const MAIN: &str = "\
[listen]
postgres = [\"127.0.0.1:0\"]
console = \"off\"
[runtime]
shards = 1
directory = \"run\"
[state]
directory = \"state\"
[drain]
deadline = \"1s\"
[[target]]
name = \"orders\"
protocol = \"postgres\"
address = \"127.0.0.1:1\"
user = \"svc\"
tls = \"disable\"
pool = { warm = 0 }
";

const RULES: &str = "\
[[rule]]
name = \"analysts-read\"
groups = [\"analysts\"]
targets = [\"orders\"]
allow = { statements = [\"read\"] }
";

/// A directory with a configuration, and perhaps an appliance that runs there.
pub struct Place {
    directory: TempDir,
    running: Option<Child>,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sallyport-admin.")
            .tempdir()
            .unwrap();
        let place = Self {
            directory,
            running: None,
        };
        place.write("sallyport.toml", MAIN);
        place.write("policy.d/rules.toml", RULES);
        place
    }

    pub fn serving() -> (Self, String) {
        let mut place = Self::new();
        let ready = place.serve();
        (place, ready)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg("--config")
            .arg(self.path("sallyport.toml"))
            .args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Exit code, standard output and standard error, with the directory written as `DIR`.
    pub fn outcome(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.run(arguments);
        let directory = self.directory.path().display().to_string();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&directory, "DIR");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    pub fn text(&self, arguments: &[&str]) -> String {
        let (code, text, errors) = self.outcome(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        text
    }

    /// Starts the appliance and gives back its line of readiness.
    pub fn serve(&mut self) -> String {
        let mut child = self
            .command(&["serve"])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        self.running = Some(child);
        assert!(
            line.starts_with("sallyport: ready;"),
            "{line:?} {}",
            self.log()
        );
        line
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub fn wait_for_log(&self, text: &str) {
        wait_until(text, || self.log().contains(text));
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.running.as_ref().unwrap()), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.running.take().unwrap();
        wait_until("the process to end", || child.try_wait().unwrap().is_some());
        child.wait().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Looks again until it is so. For what announces nothing; the pause is a wait that times out.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    while !is_so() {
        assert!(
            std::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        never.recv_timeout(Duration::from_millis(10)).unwrap_err();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_first_start_makes_its_state_and_says_where_it_listens() {
    let (mut place, ready) = Place::serving();
    let (address, fingerprint) = ready
        .trim_end()
        .strip_prefix("sallyport: ready; postgres on ")
        .and_then(|rest| rest.split_once("; certificate SHA-256 "))
        .unwrap_or_else(|| panic!("{ready}"));
    let address: std::net::SocketAddr = address.parse().unwrap();
    assert_ne!(address.port(), 0);
    assert!(std::net::TcpStream::connect(address).is_ok());
    assert!(place.text(&["status"]).contains(fingerprint));
    for (name, expected) in [
        ("state", 0o700),
        ("state/issuer-key.pem", 0o600),
        ("state/instance-id", 0o600),
        ("state/tls-own.pem", 0o600),
        ("state/tls-certificate.pem", 0o644),
        ("run/admin.sock", 0o600),
    ] {
        assert_eq!(mode(&place.path(name)), expected, "{name}");
    }
    let certificate = fs::read(place.path("state/tls-certificate.pem")).unwrap();

    place.signal(Signal::TERM);
    assert!(place.wait().success());
    assert!(!place.path("run/admin.sock").exists());
    let again = place.serve();
    assert!(
        again.contains(fingerprint),
        "the same certificate after a restart"
    );
    assert_eq!(
        fs::read(place.path("state/tls-certificate.pem")).unwrap(),
        certificate
    );
}

#[test]
fn interrupt_stops_it_like_terminate() {
    let (mut place, _) = Place::serving();
    place.signal(Signal::INT);
    assert!(place.wait().success());
}

#[test]
fn a_second_appliance_in_the_same_place_does_not_start() {
    let (place, _) = Place::serving();
    let (code, _, errors) = place.outcome(&["serve"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("another appliance answers at DIR/run/admin.sock"),
        "{errors}"
    );
    place.text(&["status"]);
}

#[test]
fn a_socket_file_that_a_killed_appliance_left_is_no_obstacle() {
    let (mut place, _) = Place::serving();
    place.signal(Signal::KILL);
    place.wait();
    assert!(place.path("run/admin.sock").exists());
    let (code, _, errors) = place.outcome(&["status"]);
    let expected = "sallyport: no appliance answers at DIR/run/admin.sock; is it running?\n";
    assert_eq!((code, errors.as_str()), (Some(1), expected));
    place.serve();
    place.text(&["status"]);
}

#[test]
fn a_token_is_all_that_token_issue_prints_and_it_is_nowhere_else() {
    let (place, _) = Place::serving();
    let token = place.text(&[
        "token", "issue", "--agent", "claude", "--groups", "analysts", "--ttl", "5m",
    ]);
    let token = token.strip_suffix('\n').unwrap();
    assert_eq!(token.split('.').count(), 3, "{token}");
    assert!(
        token
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
        "{token}"
    );
    place.wait_for_log("a token was issued");
    let log = place.log();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!log.contains(signature), "{log}");

    let explained = place.text(&[
        "explain",
        "--principal",
        token,
        "--target",
        "orders",
        "select 1",
    ]);
    assert!(explained.starts_with("groups: analysts\n"), "{explained}");
    assert!(explained.ends_with("decision: allow\n"), "{explained}");
    place.write("agent.token", &format!("{token}\n"));
    let file = place.path("agent.token").display().to_string();
    let from_file = place.text(&[
        "explain",
        "--principal",
        &file,
        "--target",
        "orders",
        "select 1",
    ]);
    assert_eq!(from_file, explained);
}

#[test]
fn what_may_not_be_minted_is_refused_with_the_reason() {
    let (place, _) = Place::serving();
    for (arguments, expected) in [
        (
            ["--agent", "a b", "--groups", "x", "--ttl", "1h"],
            "sallyport: an agent or group name has 1 to 100 bytes, none of them a space, a comma, a star or a control character\n",
        ),
        (
            ["--agent", "a", "--groups", "*", "--ttl", "1h"],
            "sallyport: an agent or group name has 1 to 100 bytes, none of them a space, a comma, a star or a control character\n",
        ),
        (
            ["--agent", "a", "--groups", "x", "--ttl", "25h"],
            "sallyport: a token lives from one second up to builtin_issuer.token_lifetime_max (86400 s)\n",
        ),
        (
            ["--agent", "a", "--groups", "x", "--ttl", "0s"],
            "sallyport: a token lives from one second up to builtin_issuer.token_lifetime_max (86400 s)\n",
        ),
    ] {
        let arguments = [["token", "issue"].as_slice(), arguments.as_slice()].concat();
        assert_eq!(
            place.outcome(&arguments),
            (Some(1), String::new(), expected.to_owned())
        );
    }
    place.write(
        "sallyport.toml",
        &format!("{MAIN}\n[builtin_issuer]\nenabled = false\n"),
    );
    place.text(&["reload"]);
    let (code, _, errors) = place.outcome(&["token", "issue", "--agent", "a"]);
    let expected = "sallyport: the built-in issuer is switched off (builtin_issuer.enabled)\n";
    assert_eq!((code, errors.as_str()), (Some(1), expected));
}

#[test]
fn a_reload_takes_all_or_nothing() {
    let (place, _) = Place::serving();
    assert_eq!(place.text(&["reload"]), "configuration 2 is in force\n");

    place.write("policy.d/rules.toml", &format!("{RULES}colour = \"red\"\n"));
    place.write(
        "targets.d/more.toml",
        "[[target]]\nname = \"more\"\npasword = \"x\"\n",
    );
    let (code, out, errors) = place.outcome(&["reload"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        errors,
        "sallyport: the configuration was not taken; the one before stays in force\n\
         error: DIR/targets.d/more.toml:3:1: unknown key `pasword` (did you mean `password`?)\n\
         error: DIR/policy.d/rules.toml:6:1: unknown key `colour`\n"
    );
    assert!(place.text(&["status"]).contains("configuration  2\n"));

    fs::remove_file(place.path("targets.d/more.toml")).unwrap();
    place.write("policy.d/rules.toml", RULES);
    place.write("sallyport.toml", &MAIN.replace("shards = 1", "shards = 2"));
    let (code, out, warnings) = place.outcome(&["reload"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "configuration 3 is in force\n")
    );
    assert_eq!(
        warnings,
        "warning: DIR/sallyport.toml: `runtime.shards` has changed and needs a restart\n"
    );
    assert!(place.text(&["status"]).contains("shards         1\n"));
}

#[test]
fn a_hangup_reloads_and_a_failed_one_is_in_the_log() {
    let (place, _) = Place::serving();
    place.signal(Signal::HUP);
    place.wait_for_log("a new configuration is in force generation=2");
    place.write("sallyport.toml", "nonsense");
    place.signal(Signal::HUP);
    place.wait_for_log("the configuration was not taken");
}

/// One request by hand, as `uid`, and the whole answer.
pub fn request_as(uid: u32, socket: &Path, request: &str) -> String {
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(20)\n\
                  s.connect(sys.argv[1])\ns.sendall(sys.argv[2].encode())\n\
                  while True:\n b=s.recv(65536)\n if not b: break\n sys.stdout.buffer.write(b)\n";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(socket)
        .arg(request)
        .uid(uid)
        .gid(uid)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[test]
fn only_the_operator_is_answered_whatever_the_modes_of_the_files_say() {
    if !geteuid().is_root() {
        // Becoming somebody else takes root; the mode of the socket is checked above.
        return;
    }
    let (place, _) = Place::serving();
    let socket = place.path("run/admin.sock");
    for open in [place.directory.path(), &place.path("run"), &socket] {
        fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
    }
    let token = "POST /v1/tokens HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: 46\r\n\r\n\
                 {\"agent\":\"a\",\"groups\":[\"x\"],\"ttl_seconds\":3600}";
    for request in [
        get("/v1/status"),
        get("/v1/sessions"),
        get("/"),
        token.to_owned(),
    ] {
        let refused = request_as(NOBODY, &socket, &request);
        assert!(
            refused.starts_with("HTTP/1.1 403 Forbidden\r\n"),
            "{refused}"
        );
        assert!(!refused.contains("token\":"), "{refused}");
    }
    place.wait_for_log("refused at the admin socket uid=65534");
    let answered = request_as(0, &socket, &get("/v1/status"));
    assert!(answered.starts_with("HTTP/1.1 200 OK\r\n"), "{answered}");
}

/// A request as this user.
fn request(place: &Place, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(place.path("run/admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn malformed_requests_are_refused_and_others_are_served() {
    let (place, _) = Place::serving();
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let long = format!("{{\"agent\":\"{}\"}}", "a".repeat(64 * 1024));
    let cases = [
        (get("/"), "404"),
        (get("/v1/tokens"), "405"),
        (get("/v1/sessions?limit=x"), "400"),
        (get("/v1/sessions?colour=red"), "400"),
        (get("/v1/sessions?state=asleep"), "422"),
        (get("/v1/sessions/0000/events"), "404"),
        (get("/v1/sessions/%2e%2e%2f%2e%2e/events"), "404"),
        (post("/v1/tokens", "{"), "400"),
        (post("/v1/tokens", "{\"agent\":5}"), "422"),
        (
            post(
                "/v1/tokens",
                "{\"agent\":\"a\",\"groups\":[],\"ttl_seconds\":1,\"admin\":true}",
            ),
            "422",
        ),
        (post("/v1/tokens", &long), "413"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ];
    for (text, expected) in cases {
        let answer = request(&place, text.as_bytes());
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(
            status,
            expected,
            "{}: {answer}",
            text.lines().next().unwrap()
        );
    }
    // A peer that says nothing is let go, and keeps nobody waiting meanwhile.
    let mut silent = UnixStream::connect(place.path("run/admin.sock")).unwrap();
    place.text(&["status"]);
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    silent.write_all(b"GET /").unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
}

#[test]
fn commands_without_an_appliance_say_so_and_recordings_are_read_all_the_same() {
    let place = Place::new();
    let nobody = "sallyport: no appliance answers at DIR/run/admin.sock; is it running?\n";
    for arguments in [
        ["status"].as_slice(),
        &["reload"],
        &["token", "issue", "--agent", "a"],
    ] {
        assert_eq!(
            place.outcome(arguments),
            (Some(1), String::new(), nobody.to_owned())
        );
    }
    let (code, _, errors) = place.outcome(&["sessions"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("cannot open the catalogue DIR/state/recordings"),
        "{errors}"
    );

    let (mut place, _) = Place::serving();
    place.signal(Signal::TERM);
    place.wait();
    let header =
        "session  started  state  agent  target  commands  denied  held  rows  peer  ended\n";
    assert_eq!(place.text(&["sessions"]), header);
    let (code, _, errors) = place.outcome(&["replay", "0000"]);
    let expected = "sallyport: `0000` is not the id of a session, nor the beginning of one\n";
    assert_eq!((code, errors.as_str()), (Some(1), expected));
}

#[test]
fn check_says_whether_serve_would_start_and_writes_nothing() {
    let place = Place::new();
    assert_eq!(
        place.text(&["check"]),
        "DIR/sallyport.toml: no mistake found; targets: 1, issuers: 1, warnings: 0\n"
    );
    assert!(!place.path("state").exists() && !place.path("run").exists());
    place.write("other.toml", "listen.postgres = 5\n");
    let other = place.path("other.toml").display().to_string();
    let (code, out, errors) = place.outcome(&["check", &other]);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert_eq!(
        errors,
        "error: DIR/other.toml:1:19: invalid type: integer `5`, expected a sequence\n"
    );
    place.write("sallyport.toml", "[listen]\nadmin = 5\n");
    assert_eq!(place.outcome(&["serve"]).0, Some(78));
}

#[test]
fn check_by_a_person_finds_mistakes_also_where_only_the_unit_has_the_credentials() {
    let place = Place::new();
    let target = "[[target]]\nname = 'billing'\nprotocol = 'postgres'\naddress = 'db:5432'\n\
                  database = 'billing'\nuser = 'svc'\ntls = 'require'\n";
    let with = |more: &str| {
        let target = format!("{target}password = 'credential:billing'\n{more}");
        place.write("targets.d/billing.toml", &target);
        place.outcome(&["check"])
    };
    let (code, out, warnings) = with("");
    let expected = "DIR/sallyport.toml: no mistake found, but for credentials that only the unit is given: 1\n";
    assert_eq!((code, out.as_str()), (Some(0), expected));
    let expected = "warning: DIR/targets.d/billing.toml:8:12: credential billing is not available: \
                    systemd gave no credentials directory (LoadCredential= in the unit)\n";
    assert_eq!(warnings, expected);

    let (code, out, errors) = with("pool = 5\n");
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(errors.contains("targets.d/billing.toml:9:8: "), "{errors}");
    assert_eq!(place.outcome(&["serve"]).0, Some(78));
}

#[test]
fn explain_shows_each_rule_and_why() {
    let place = Place::new();
    let explain = |arguments: &[&str]| place.outcome(&[["explain"].as_slice(), arguments].concat());
    let (code, out, _) = explain(&[
        "--groups",
        "analysts,x",
        "--target",
        "orders",
        "delete from t",
    ]);
    assert_eq!(code, Some(0));
    let expected = "groups: analysts, x\n\
         rules:\n\
         \x20 allow analysts-read applies\n\
         the session is read-only\n\
         statement 1 (DeleteStmt):\n\
         \x20 delete on t: allowed by no rule\n\
         \x20 delete-without-where on t: allowed by no rule\n\
         decision: deny: no rule allows `delete` on t here";
    assert!(out.starts_with(expected), "{out}");
    let (code, out, warnings) =
        explain(&["--groups", "analysts", "--target", "ordres", "select 1"]);
    assert_eq!(code, Some(0));
    assert!(
        out.ends_with("decision: deny: access to this target is not allowed\n"),
        "{out}"
    );
    assert_eq!(
        warnings,
        "warning: no target is called ordres; nobody is let in there\n"
    );
    let (code, out, _) = explain(&[
        "--groups",
        "analysts",
        "--target",
        "orders",
        "--from",
        "192.0.2.1",
        "--json",
        "set work_mem = '1MB'; select 1",
    ]);
    assert_eq!(code, Some(0));
    let explained: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(explained["rules"][0]["name"], "analysts-read");
    assert_eq!(explained["rules"][0]["applies"], "yes");
    assert_eq!(
        explained["statements"][0]["settings"][0],
        "sets work_mem to 1MB"
    );
    assert_eq!(explained["statements"][1]["effects"][0]["class"], "select");
    assert_eq!(explained["decision"]["statement"], 0);
    let (code, _, errors) = explain(&["--principal", "a.b.c", "--target", "orders", "select 1"]);
    let expected = "sallyport: the token proves nobody: not a signed JWT in compact form\n";
    assert_eq!((code, errors.as_str()), (Some(1), expected));
    assert_eq!(
        explain(&["--target", "orders", "select 1"]).0,
        Some(2),
        "who?"
    );
}

#[test]
fn usage_mistakes_exit_with_2_and_help_with_0() {
    let place = Place::new();
    for arguments in [
        [].as_slice(),
        &["sevre"],
        &["token"],
        &["token", "issue"],
        &["status", "--yaml"],
    ] {
        assert_eq!(place.outcome(arguments).0, Some(2), "{arguments:?}");
    }
    let (code, help, _) = place.outcome(&["--help"]);
    assert_eq!(code, Some(0));
    for command in [
        "serve", "check", "explain", "token", "reload", "sessions", "replay", "status",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}: {help}"
        );
    }
}

#[test]
fn a_reader_that_stops_reading_is_no_failure() {
    let place = Place::new();
    let mut child = place
        .command(&["check"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
