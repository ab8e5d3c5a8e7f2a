//! The shipped binary in a directory of its own, between a test and its PostgreSQL.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::postgres::{self, Server, free_port};
use crate::wire::{Message, PATIENCE, Wire};

pub const BINARY: &str = env!("CARGO_BIN_EXE_sallyport");

/// Part of the line that `serve` logs once its listeners accept.
const READY: &str = "ready";

/// The password of the target's account. A test searches every output for it.
pub const ACCOUNT_PASSWORD: &str = "the-targets-own-password-7f3a";

/// Rules that most tests want: analysts may do anything but what the deny rule names, readers
/// may read, everybody else may nothing.
pub const POLICY: &str = r#"
[[rule]]
name    = "analysts-work"
groups  = ["analysts"]
targets = ["orders"]
allow   = { statements = ["*"] }

[[rule]]
name    = "readers-read"
groups  = ["readers"]
targets = ["orders"]
allow   = { statements = ["read", "transaction", "session", "cursor", "prepare"] }

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["drop", "truncate", "copy-program"] }
message = "Destructive statements are blocked here. Ask #data-platform for a migration."
"#;

/// How an appliance differs from one with the target `orders`, [`POLICY`] and two shards.
pub struct Setup<'a> {
    /// Where the target `orders` is; a list as TOML.
    pub target: String,
    /// Keys of the target `orders`, as TOML lines.
    pub target_keys: String,
    /// How the target is reached: `disable`, `verify-full` and so on.
    pub target_tls: &'a str,
    /// Tables put after those of the harness, as TOML.
    pub tables: String,
    /// Files beside the configuration, by name.
    pub files: Vec<(&'a str, String)>,
    pub policy: &'a str,
    pub shards: u32,
    /// Listeners besides the one at [`Appliance::address`], as TOML values.
    pub listeners: Vec<String>,
    /// `listen.console`, if there is one.
    pub console: Option<&'a str>,
    /// `listen.metrics`, if there is one.
    pub metrics: Option<&'a str>,
    /// Holds the rings instead of a folder beside the configuration.
    pub runtime_directory: Option<PathBuf>,
    /// Run instead of the binary, with the binary and its arguments as arguments.
    pub wrapper: Vec<String>,
}

impl Setup<'_> {
    pub fn for_server(server: &Server) -> Self {
        Self {
            target: format!("127.0.0.1:{}", server.port()),
            target_keys: String::new(),
            target_tls: "disable",
            tables: String::new(),
            files: Vec::new(),
            policy: POLICY,
            shards: 2,
            listeners: Vec::new(),
            console: None,
            metrics: None,
            runtime_directory: None,
            wrapper: Vec::new(),
        }
    }
}

pub struct Appliance {
    directory: TempDir,
    address: SocketAddr,
    wrapper: Vec<String>,
    process: Option<Process>,
}

struct Process {
    child: Child,
    log_lines: Receiver<String>,
}

impl Appliance {
    pub fn start(setup: &Setup<'_>) -> Self {
        let mut appliance = Self::laid_out(setup);
        appliance.resume();
        appliance
    }

    /// Ready to be started, by [`resume`](Self::resume) or [`resume_as`](Self::resume_as).
    pub fn laid_out(setup: &Setup<'_>) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("sallyport-it.")
            .tempdir()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let appliance = Self {
            directory,
            address,
            wrapper: setup.wrapper.clone(),
            process: None,
        };
        appliance.lay_out(setup);
        appliance
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The certificate that the appliance made for itself.
    pub fn certificate_path(&self) -> PathBuf {
        self.directory().join("state/tls-certificate.pem")
    }

    pub fn recordings_path(&self) -> PathBuf {
        self.directory().join("state/recordings")
    }

    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").child.id()
    }

    /// Everything it has logged, over all restarts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory().join("log")).unwrap()
    }

    /// Waits for a log line with `text`, looking only at lines that no earlier call has seen.
    pub fn wait_for_log(&self, text: &str) {
        self.process.as_ref().expect("it runs").wait_for_log(text);
    }

    /// Runs a subcommand of the binary against this appliance.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command
            .arg("--config")
            .arg(self.configuration_path())
            .args(arguments);
        command.output().unwrap()
    }

    /// The same, and it must succeed: what it printed.
    pub fn cli_text(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "sallyport {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Where `listen.console` is, as a URL.
    pub fn console_url(&self) -> String {
        let status: Value = serde_json::from_str(&self.cli_text(&["status", "--json"])).unwrap();
        status["status"]["console"]
            .as_str()
            .expect("a console")
            .to_owned()
    }

    /// Where `listen.metrics` is.
    pub fn metrics_address(&self) -> SocketAddr {
        let status: Value = serde_json::from_str(&self.cli_text(&["status", "--json"])).unwrap();
        let url = status["status"]["metrics"].as_str().expect("metrics");
        url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub fn token(&self, agent: &str, groups: &str) -> String {
        let arguments = [
            "token", "issue", "--agent", agent, "--groups", groups, "--ttl", "1h",
        ];
        self.cli_text(&arguments).trim().to_owned()
    }

    /// A connection to the target `orders` as `agent`.
    pub fn login(&self, agent: &str, groups: &str) -> Wire {
        Wire::login(self.address, agent, "orders", &self.token(agent, groups))
    }

    pub fn try_login(&self, database: &str, password: &str) -> Result<Wire, Message> {
        Wire::try_login(
            self.address,
            &[("user", "agent"), ("database", database)],
            password,
        )
    }

    /// Every session that the catalogue knows, ended ones included.
    pub fn sessions(&self) -> Vec<Value> {
        json_lines(&self.cli_text(&["sessions", "--json"]))
    }

    /// The events of one session.
    pub fn replay(&self, session: &str) -> Vec<Value> {
        json_lines(&self.cli_text(&["replay", session, "--json"]))
    }

    /// All events of all sessions, as text: for searching.
    pub fn everything_recorded(&self) -> String {
        let sessions = self.sessions();
        let ids = sessions
            .iter()
            .map(|session| session["id"].as_str().expect("an id"));
        ids.map(|id| self.cli_text(&["replay", id, "--json"]))
            .collect()
    }

    pub fn write_policy(&self, policy: &str) {
        fs::write(self.directory().join("policy.d/rules.toml"), policy).unwrap();
    }

    /// As `kill -9` from outside.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// As `systemctl stop`.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM).expect("it ran")
    }

    pub fn send_signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(&process.child), signal).unwrap();
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.take().expect("it ran").child.wait().unwrap()
    }

    /// Starts it again in the same directory, on the same port.
    pub fn resume(&mut self) {
        self.resume_as(|_| {});
    }

    /// The same, with an environment or descriptors of its own.
    pub fn resume_as(&mut self, prepare: impl FnOnce(&mut Command)) {
        assert!(self.process.is_none());
        // The kernel ends it with the thread that starts it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .args(&self.wrapper)
            .arg(BINARY)
            .arg("--config")
            .arg(self.configuration_path())
            .arg("serve");
        prepare(&mut command);
        let process = Process::spawn(command, &self.directory().join("log"));
        process.wait_for_log(READY);
        self.process = Some(process);
    }

    fn signal(&mut self, signal: Signal) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        kill_process(Pid::from_child(&process.child), signal).unwrap();
        Some(process.child.wait().unwrap())
    }

    pub fn configuration_path(&self) -> PathBuf {
        self.directory().join("sallyport.toml")
    }

    fn lay_out(&self, setup: &Setup<'_>) {
        let root = self.directory();
        for folder in ["state", "policy.d"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        match &setup.runtime_directory {
            Some(elsewhere) => symlink(elsewhere, root.join("run")).unwrap(),
            None => fs::create_dir(root.join("run")).unwrap(),
        }
        let password = root.join("orders-password");
        fs::write(&password, ACCOUNT_PASSWORD).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        self.write_policy(setup.policy);
        for (name, text) in &setup.files {
            fs::write(root.join(name), text).unwrap();
        }
        let root = root.display();
        let mut listeners = vec![format!("\"{}\"", self.address)];
        listeners.extend(setup.listeners.iter().cloned());
        let listeners = listeners.join(", ");
        let configuration = format!(
            r#"
[listen]
postgres = [{listeners}]
admin = "{root}/run/admin.sock"
console = "{console}"
{metrics}

[runtime]
shards = {shards}
directory = "{root}/run"

[state]
directory = "{root}/state"

[[target]]
name = "orders"
protocol = "postgres"
address = {target}
database = "orders"
user = "svc"
password = "file:{root}/orders-password"
tls = "{target_tls}"
{target_keys}

{tables}
"#,
            console = setup.console.unwrap_or("off"),
            metrics = setup
                .metrics
                .map_or(String::new(), |address| format!("metrics = \"{address}\"")),
            shards = setup.shards,
            target = if setup.target.starts_with('[') {
                setup.target.clone()
            } else {
                format!("\"{}\"", setup.target)
            },
            target_tls = setup.target_tls,
            target_keys = setup.target_keys,
            tables = setup.tables,
        );
        fs::write(self.configuration_path(), configuration).unwrap();
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(30);
            eprintln!("-- the appliance's log --\n{}", lines[last..].join("\n"));
        }
    }
}

impl Process {
    /// Started on the thread that follows its log: the kernel ends it when that thread ends, so
    /// that a killed test leaves nothing behind.
    fn spawn(mut command: Command, log: &Path) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let (child_sender, child) = mpsc::channel();
        let (line_sender, log_lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut child = command.spawn().unwrap();
            // With the descriptors that it passed on.
            drop(command);
            let stderr = child.stderr.take().unwrap();
            child_sender.send(child).unwrap();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writeln!(log, "{line}").unwrap();
                // A test that has ended no longer follows the log.
                let _ = line_sender.send(line);
            }
        });
        Self {
            child: child.recv().unwrap(),
            log_lines,
        }
    }

    fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self
                .log_lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(text) => return,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("no log line has {text:?}: {seen:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended: {seen:#?}"),
            }
        }
    }
}

/// A PostgreSQL with the database `orders`, the account `svc` that needs its password, the
/// account `direct` that needs none, and one line in its log for each statement.
pub fn orders_server() -> Server {
    orders_server_with(postgres::Options::default())
}

pub fn orders_server_with(mut options: postgres::Options) -> Server {
    if options.hba.is_empty() {
        options.hba = vec![
            "host all svc 127.0.0.1/32 scram-sha-256".into(),
            "host all direct 127.0.0.1/32 trust".into(),
        ];
    }
    options.configuration.extend([
        ("log_statement", "all".to_owned()),
        ("max_connections", "200".to_owned()),
    ]);
    let server = Server::start(options);
    server.psql(&format!(
        "create role svc login password '{ACCOUNT_PASSWORD}'"
    ));
    server.psql("create role direct login in role svc");
    server.psql("create database orders owner svc");
    server.psql_in(
        "orders",
        "create table customers (id int primary key, name text not null, card_number text);
         create table orders (id int primary key, customer int references customers, total numeric);
         insert into customers
             select n, 'customer ' || n, '4000-0000-0000-' || lpad(n::text, 4, '0')
             from generate_series(1, 100) n;
         insert into orders select n, 1 + n % 100, n * 1.5 from generate_series(1, 1000) n;
         alter table customers owner to svc;
         alter table orders owner to svc;",
    );
    server
}

/// Without the appliance, with the rights of its account: what it is compared with.
pub fn login_directly(server: &Server) -> Wire {
    Wire::login(
        SocketAddr::from(([127, 0, 0, 1], server.port())),
        "direct",
        "orders",
        "",
    )
}

/// Polls until `done`, for [`PATIENCE`] at most. For states of the outside world that announce
/// nothing; where there is an event, wait for it instead.
pub fn wait_until(what: &str, done: impl FnMut() -> bool) {
    assert!(comes_about(done), "waited in vain for {what}");
}

/// Whether it is `done` within [`PATIENCE`]: for tests that must end something before they fail.
pub fn comes_about(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let (_sender, never) = mpsc::channel::<()>();
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        // Times out: the pause between two looks.
        let _ = never.recv_timeout(Duration::from_millis(10));
    }
    true
}

pub fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}
