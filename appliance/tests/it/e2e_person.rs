//! `sallyport login`, `env` and `connect`: a person or program with stock clients and a certified
//! provider.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::appliance::{Appliance, BINARY, POLICY, Setup, orders_server};
use crate::http::Request;
use crate::postgres::Server;
use crate::provider::Provider;

struct World {
    provider: Provider,
    _server: Server,
    appliance: Appliance,
    home: TempDir,
}

impl World {
    fn new() -> Self {
        let provider = Provider::start();
        let server = orders_server();
        let mut setup = Setup::for_server(&server);
        setup.tables = provider.configuration("");
        let policy = POLICY.replace("\"analysts\"]", "\"corp:analysts\"]");
        setup.policy = &policy;
        let appliance = Appliance::start(&setup);
        let home = tempfile::tempdir().unwrap();
        let world = Self {
            provider,
            _server: server,
            appliance,
            home,
        };
        world.configure("client_id = \"cli\"\nresource = \"urn:sallyport:test\"");
        world
    }

    fn configure(&self, issuer: &str) {
        let directory = self.home.path().join(".config/sallyport");
        fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "server = \"{}\"\nserver_ca = \"{}\"\n\n[[issuer]]\nname = \"corp\"\nissuer = \"{}\"\n\
             ca = \"{}\"\n{issuer}\n",
            self.appliance.address(),
            self.appliance.certificate_path().display(),
            self.provider.issuer(),
            self.provider.ca().display(),
        );
        fs::write(directory.join("client.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn tokens(&self) -> PathBuf {
        self.home.path().join(".cache/sallyport/tokens")
    }

    fn subject(&self) -> String {
        let ask = [
            "connect",
            "orders",
            "--",
            "psql",
            "-XAtc",
            "show sallyport.subject",
        ];
        self.text(&ask)
    }

    /// A login that has said where to go, and the address.
    fn begin(&self, arguments: &[&str], before: &str) -> (Child, String) {
        let mut login = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(login.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(url) = line.strip_prefix(before) {
                return (login, url.to_owned());
            }
            said.push(line);
        }
        let status = login.wait().unwrap();
        panic!("{status}: {said:?}");
    }

    fn log_in(&mut self) {
        let (login, url) = self.begin(&["login"], "or open ");
        let end = self.provider.browse(&url, "alice");
        assert_eq!(end["status"], 200, "{end}");
        let output = login.wait_with_output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("logged in at corp until "), "{said}");
    }
}

#[test]
fn a_person_logs_in_by_a_code_and_runs_any_client() {
    let mut world = World::new();
    let not_yet = world.refusal(&["env", "orders"]);
    assert!(
        not_yet.contains("sallyport login --issuer corp"),
        "{not_yet}"
    );
    world.log_in();
    assert_eq!(world.subject(), "corp/alice");

    let file = world.tokens().join("corp.json");
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&world.tokens())), (0o600, 0o700));

    // In a shell, and as JSON.
    let exports = world.text(&["env", "orders"]);
    let script = format!("{exports}\npsql -XAtc 'show sallyport.subject'");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "corp/alice\n");
    let variables: Value = serde_json::from_str(&world.text(&["env", "orders", "--json"])).unwrap();
    assert_eq!(variables["PGDATABASE"], "orders");
    assert_eq!(variables["PGSSLMODE"], "verify-full");
    let token = variables["PGPASSWORD"].as_str().unwrap();
    assert!(exports.contains(&format!("export PGPASSWORD='{token}'")));

    // Never in an argument; the status is the client's.
    let look = [
        "connect",
        "orders",
        "--",
        "sh",
        "-c",
        "tr '\\0' ' ' </proc/self/cmdline; exit 7",
    ];
    let output = world.run(&look);
    assert_eq!(output.status.code(), Some(7));
    assert!(!String::from_utf8_lossy(&output.stdout).contains(token));
    let missing = world.refusal(&["connect", "orders", "--", "no-such-client"]);
    assert!(missing.contains("cannot run no-such-client"), "{missing}");

    // Another server's certificate is not this one's.
    let other = crate::certificates::Authority::new("another").certificate_pem;
    fs::write(world.home.path().join("other.pem"), other).unwrap();
    let settings = world.home.path().join(".config/sallyport/client.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let ours = format!("{}", world.appliance.certificate_path().display());
    fs::write(&settings, text.replace(&ours, "../../other.pem")).unwrap();
    let ask = ["connect", "orders", "--", "psql", "-Xc", "select 1"];
    assert!(world.refusal(&ask).contains("certificate verify failed"));
    fs::write(&settings, text).unwrap();

    assert_eq!(world.text(&["logout"]), "logged out");
    assert!(!file.exists());
    assert!(world.refusal(&["env", "orders"]).contains("not logged in"));
}

#[test]
fn a_login_is_renewed_without_anybody_and_forgotten_when_the_issuer_is_done_with_it() {
    let mut world = World::new();
    world.provider.misbehave(&json!({"ttl": 30}));
    world.log_in();
    let kept = || fs::read_to_string(world.tokens().join("corp.json")).unwrap();
    let first = kept();
    let refreshed = world.subject();
    assert_eq!(refreshed, "corp/alice");
    assert_ne!(kept(), first, "it was to expire within the minute");
    // Two at once use the refresh token one after the other.
    std::thread::scope(|scope| {
        let connecting: Vec<_> = (0..3)
            .map(|_| {
                let mut command = world.command(&["env", "orders"]);
                scope.spawn(move || command.output().unwrap().status.success())
            })
            .collect();
        for connected in connecting {
            assert!(connected.join().unwrap());
        }
    });
    // A refresh token that was used before ends the login.
    fs::write(world.tokens().join("corp.json"), first).unwrap();
    assert!(world.refusal(&["env", "orders"]).contains("not logged in"));
    assert!(!world.tokens().join("corp.json").exists());
}

#[test]
fn a_browser_on_this_machine_comes_back_with_a_code_for_this_login_alone() {
    let mut world = World::new();
    let (login, url) = world.begin(&["login", "--browser"], "Open ");
    let end = world.provider.browse(&url, "alice");
    assert_eq!(end["page"], "You are logged in. Close this page.", "{end}");
    assert!(login.wait_with_output().unwrap().status.success());
    assert_eq!(world.subject(), "corp/alice");

    world.text(&["logout"]);
    let (login, url) = world.begin(&["login", "--browser"], "Open ");
    let redirect = url.split("redirect_uri=http%3A%2F%2F").nth(1).unwrap();
    let address = redirect.split("%2Fcallback").next().unwrap();
    let address = address.replace("%3A", ":").parse().unwrap();
    assert_eq!(Request::get("/favicon.ico").tcp(address).status, 404);
    let forged = Request::get("/callback?code=stolen&state=guessed").tcp(address);
    assert_eq!(forged.status, 400);
    assert!(!login.wait_with_output().unwrap().status.success());
    assert!(!world.tokens().join("corp.json").exists());
}

#[test]
fn a_program_logs_in_by_its_secret_whenever_it_needs_to() {
    let world = World::new();
    let secret = world.home.path().join("secret");
    fs::write(&secret, "agent-secret-for-tests\n").unwrap();
    world.configure(&format!(
        "client_id = \"agent\"\nclient_secret_file = \"{}\"",
        secret.display()
    ));
    assert_eq!(world.subject(), "corp/agent");
    let kept = fs::read_to_string(world.tokens().join("corp.json")).unwrap();
    assert!(!kept.contains("agent-secret-for-tests"));
    fs::write(&secret, "wrong").unwrap();
    // As long as it lasts.
    assert_eq!(world.subject(), "corp/agent");
    world.text(&["logout"]);
    let refused = world.refusal(&["env", "orders"]);
    assert!(
        refused.contains("gives no token: invalid_client"),
        "{refused}"
    );
}

#[test]
fn tokens_that_somebody_else_could_have_put_there_are_not_used() {
    let world = World::new();
    let secret = world.home.path().join("secret");
    fs::write(&secret, "agent-secret-for-tests").unwrap();
    let settings = format!(
        "client_id = \"agent\"\nclient_secret_file = \"{}\"",
        secret.display()
    );
    world.configure(&settings);
    world.text(&["env", "orders"]);
    let file = world.tokens().join("corp.json");
    let set = |path: &PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, mode, right) in [(&file, 0o644, 0o600), (&world.tokens(), 0o755, 0o700)] {
        set(path, mode);
        let refused = world.refusal(&["env", "orders"]);
        assert!(refused.contains("can be read by others"), "{refused}");
        set(path, right);
    }
    let elsewhere = world.home.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert!(world.refusal(&["env", "orders"]).contains("cannot read"));
    fs::remove_file(&file).unwrap();
    // Those of another client are nobody's.
    fs::rename(&elsewhere, &file).unwrap();
    world.configure("client_id = \"other\"");
    assert!(world.refusal(&["env", "orders"]).contains("not logged in"));
}
