//! Attempts at what the rules forbid, each judged by what became of the database.
//!
//! `data/attacks` holds the database, the attempts and what is looked at. Each attempt is made as
//! the target's own account without the appliance first, and must succeed there; then through the
//! appliance, for principals of several rights, and must achieve nothing. No message is read.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::appliance::{Appliance, Setup, orders_server_with, wait_until};
use crate::postgres::{Options, SUPERUSER, Server};
use crate::wire::{Message, Silence, Wire, message, status, terminated};

/// Whoever may do much and whoever may do little: refused for want of an allow, or by a deny.
const RULES: &str = r#"
[[rule]]
name    = "readers-read"
groups  = ["readers"]
targets = ["orders"]
allow   = { statements = ["read", "session", "transaction"], tables = [
    "public.orders", "public.customers", "public.notes", "pg_catalog.*", "information_schema.*",
] }

[[rule]]
name    = "owners-do-anything"
groups  = ["owners"]
targets = ["orders"]
allow   = { statements = ["*"] }

[[rule]]
name    = "protected"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["*"], tables = [
    "public.vault", "public.vault_child", "public.vault_parted", "public.ledger", "public.ledger_entries",
    "pg_catalog.pg_largeobject",
] }

[[rule]]
name    = "no-destruction"
groups  = ["*"]
targets = ["*"]
deny    = { statements = [
    "truncate", "drop", "alter", "grant", "role", "file", "copy-program", "replication", "admin", "maintenance",
    "delete-without-where", "update-without-where",
] }

[[rule]]
name    = "no-traps"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["function"], functions = ["public.trap"] }

[[rule]]
name    = "no-locks"
groups  = ["*"]
targets = ["*"]
deny    = { statements = ["lock"] }

[[rule]]
name    = "nothing-new-beside-their-own"
groups  = ["owners"]
targets = ["*"]
deny    = { statements = ["create"], tables = ["public.*", "pg_catalog.*"], functions = ["public.*", "pg_catalog.*"] }
"#;

const GROUPS: [&str; 2] = ["readers", "owners"];

/// What every secret begins with; see [`is_told`].
const CANARY: &str = "ZqXcanary";

/// Begins the fingerprint of a database in which the tables cannot be looked at.
const HELD_UP: &str = "held up";

/// Kinds of things of which the database is made anew when one has changed; else the rows are put back.
const REBUILT_FOR: [&str; 5] = [
    "relations",
    "columns",
    "triggers and rules",
    "large objects",
    HELD_UP,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Told,
    Changed,
    /// Fails directly too.
    Unproven,
}

pub struct Attack {
    pub name: String,
    pub goal: Goal,
    /// What stands behind the goal, such as `shows TEXT`.
    pub remarks: Vec<String>,
    pub steps: Vec<String>,
}

impl Attack {
    /// What follows `word` in a remark.
    pub fn remark(&self, word: &str) -> Option<&str> {
        let mut remarks = self.remarks.iter();
        remarks.find_map(|remark| Some(remark.strip_prefix(word)?.trim_start()))
    }
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// As `data/attacks/README.md` describes.
pub fn attacks(file: &str) -> Vec<Attack> {
    let text = fs::read_to_string(data().join(file)).unwrap();
    let mut attacks: Vec<Attack> = Vec::new();
    for line in text.lines() {
        let is_title = line.starts_with("-- ") && line.ends_with(']');
        if line.is_empty() || line.starts_with("; ") {
            continue;
        }
        if !is_title {
            attacks.last_mut().unwrap().steps.push(line.to_owned());
            continue;
        }
        let (name, rest) = line[3..line.len() - 1].rsplit_once(" [").unwrap();
        let mut remarks = rest.split("; ").map(str::to_owned);
        let goal = remarks.next().unwrap();
        let goal = match goal.split(':').next().unwrap() {
            "told" => Goal::Told,
            "changed" => Goal::Changed,
            "unproven" => Goal::Unproven,
            other => panic!("{name}: {other}"),
        };
        let steps = Vec::new();
        let name = name.to_owned();
        attacks.push(Attack {
            name,
            goal,
            remarks: remarks.collect(),
            steps,
        });
    }
    attacks
}

/// The server with its two databases: `orders`, which the appliance guards, and `direct`.
pub struct World {
    pub server: Server,
    files: PathBuf,
    victim: Option<(Wire, String)>,
}

/// What an attempt brought.
pub struct Outcome {
    /// Everything that the client received.
    pub received: Vec<u8>,
    fingerprint: String,
}

impl World {
    /// With the database that `seed.sql` of the folder makes.
    pub fn new(folder: &str) -> Self {
        let server = orders_server_with(Options {
            hba: vec!["host all all 127.0.0.1/32 trust".into()],
            ..Options::default()
        });
        let files = server.directory().join("files");
        fs::create_dir(&files).unwrap();
        fs::set_permissions(&files, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(server.directory().join("secret"), CANARY).unwrap();
        fs::write(server.directory().join(CANARY), "").unwrap();
        server.psql("alter role svc superuser");
        server.psql("drop database orders");
        server.psql("create database pristine");
        let seed = fs::read_to_string(data().join(folder).join("seed.sql")).unwrap();
        server.psql_in(
            "pristine",
            &seed.replace("{files}", &files.display().to_string()),
        );
        for database in ["orders", "direct"] {
            server.psql(&format!(
                "create database {database} template pristine owner svc"
            ));
        }
        Self {
            server,
            files,
            victim: None,
        }
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.server.port()))
    }

    pub fn admin(&self, database: &str) -> Wire {
        let mut admin = Wire::login(self.address(), SUPERUSER, database, "");
        // An attempt that holds a table up has changed something.
        admin.query("set lock_timeout = '100ms'");
        admin
    }

    /// Another session, that an attempt may end.
    pub fn victim(&mut self, admin: &mut Wire) -> &str {
        let alive = "select count(*) from pg_stat_activity where application_name = 'victim'";
        if admin.value(alive) == "0" {
            let parameters = [
                ("user", "direct"),
                ("database", "postgres"),
                ("application_name", "victim"),
            ];
            let mut wire = Wire::try_login(self.address(), &parameters, "").unwrap();
            wire.query(&format!("select '{CANARY}'"));
            let id = wire.value("select pg_backend_pid()");
            wire.query(&format!("select '{CANARY}'"));
            self.victim = Some((wire, id));
        }
        &self.victim.as_ref().unwrap().1
    }

    /// Everything that no attempt may change, a line each.
    fn fingerprint(&self, admin: &mut Wire) -> String {
        let busy = "select count(*) from pg_stat_activity
            where usename = 'svc' and state = 'active' and backend_type = 'client backend'";
        wait_until("statements to end", || admin.value(busy) == "0");
        let query = fs::read_to_string(data().join("attacks/fingerprint.sql")).unwrap();
        let answer = admin.query(&query);
        let mut lines: Vec<String> = answer
            .iter()
            .filter_map(|message| match message.tag {
                'D' => Some(format!("{:?}", message.columns())),
                'E' => Some(format!("{HELD_UP}: {message:?}")),
                _ => None,
            })
            .collect();
        let mut files: Vec<_> = fs::read_dir(&self.files)
            .unwrap()
            .map(|entry| format!("file {:?}", entry.unwrap().file_name()))
            .collect();
        files.sort();
        lines.extend(files);
        lines.join("\n")
    }

    fn forget_files(&self) {
        for entry in fs::read_dir(&self.files).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    /// Makes one attempt in `database`; without a session where the login was refused.
    fn attempt(
        &mut self,
        attack: &Attack,
        database: &str,
        admin: &mut Wire,
        login: impl Fn(&[(&str, &str)]) -> Result<Wire, Message>,
    ) -> Outcome {
        let steps = self.steps(attack, database, admin);
        let (parameters, steps) = match steps.split_first() {
            Some((first, rest)) if first.starts_with("!startup ") => (first.as_str(), rest),
            _ => ("!startup ", steps.as_slice()),
        };
        let parameters: Vec<(String, String)> = parameters["!startup ".len()..]
            .split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| {
                let value = String::from_utf8(bytes_of(value)).unwrap();
                (name.to_owned(), value)
            })
            .collect();
        let parameters: Vec<(&str, &str)> = parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let received;
        let session = match login(&parameters) {
            Ok(wire) => {
                let mut session = Session::new(wire, Mode::Simple);
                for step in steps {
                    session.take(step, admin);
                }
                received = std::mem::take(&mut session.received);
                Some(session)
            }
            Err(refusal) => {
                received = refusal.body;
                None
            }
        };
        let fingerprint = self.fingerprint(admin);
        drop(session);
        Outcome {
            received,
            fingerprint,
        }
    }

    /// The steps with what only a running test knows.
    pub fn steps(&mut self, attack: &Attack, database: &str, admin: &mut Wire) -> Vec<String> {
        let victim = self.victim(admin).to_owned();
        let secret = self.server.directory().join("secret");
        let steps = attack.steps.iter().map(|step| {
            step.replace("{files}", &self.files.display().to_string())
                .replace("{secret}", &secret.display().to_string())
                .replace("{port}", &self.server.port().to_string())
                .replace("{victim}", &victim)
                .replace("{database}", database)
        });
        steps.collect()
    }
}

/// How the lines that are SQL are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Simple,
    /// By the extended protocol, with results as text or in binary.
    Extended {
        binary: bool,
    },
}

/// A connection that an attempt is made on.
pub struct Session {
    wire: Wire,
    mode: Mode,
    pub received: Vec<u8>,
    in_copy: bool,
    /// Nothing was sent since ReadyForQuery.
    at_rest: bool,
    open: bool,
}

impl Session {
    pub fn new(wire: Wire, mode: Mode) -> Self {
        Self {
            wire,
            mode,
            received: Vec::new(),
            in_copy: false,
            at_rest: true,
            open: true,
        }
    }

    pub fn take(&mut self, step: &str, admin: &mut Wire) {
        let Some(directive) = step.strip_prefix('!') else {
            match self.mode {
                Mode::Simple => self.queries(&[bytes_of(step)]),
                Mode::Extended { binary } => self.extended(step, binary),
            }
            return;
        };
        let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        let mut parts = rest.split('|');
        let mut part = || parts.next().unwrap_or_default();
        match word {
            "together" => {
                let texts: Vec<_> = rest.split(" ;; ").map(bytes_of).collect();
                self.queries(&texts);
            }
            "slow" => {
                for byte in message('Q', &terminated(rest)) {
                    self.wire.send_raw(&[byte]);
                }
                self.drain("Z");
            }
            "parse" => {
                let name = part();
                self.wire.parse(name, part());
            }
            "bind" => {
                let (portal, statement) = (part(), part());
                let values = part();
                let values: Vec<_> = match values {
                    "" => Vec::new(),
                    values => values.split(',').map(Some).collect(),
                };
                self.wire.bind(portal, statement, &values);
                self.at_rest = false;
            }
            "describeS" => self.wire.send('D', &[b"S", &terminated(rest)[..]].concat()),
            "describe" => self.wire.describe_portal(rest),
            "execute" => self.wire.execute(rest, 0),
            "close" => {
                let kind = part();
                let body = [kind.as_bytes(), &terminated(part())].concat();
                self.wire.send('C', &body);
            }
            "sync" => {
                self.wire.sync();
                self.drain("Z");
            }
            "copy" => {
                // In the extended protocol nothing was waited for yet, and nothing comes before Sync.
                let waits = self.in_copy;
                if !self.in_copy && !self.at_rest {
                    self.wire.send('H', &[]);
                    self.drain("GEZ");
                }
                if self.in_copy {
                    self.in_copy = false;
                    self.wire.send('d', &bytes_of(rest));
                    self.wire.send('c', &[]);
                    if waits {
                        self.drain("Z");
                    }
                }
            }
            "call" => {
                let function = part();
                let number = admin.value(&format!("select '{function}'::regprocedure::oid"));
                let number: u32 = number.parse().unwrap();
                let values = part();
                let values: Vec<_> = match values {
                    "" => Vec::new(),
                    values => values.split(',').collect(),
                };
                let mut body = [&number.to_be_bytes()[..], &[0, 0]].concat();
                body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
                for value in values {
                    body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend(value.as_bytes());
                }
                body.extend([0, 0]);
                self.wire.send('F', &body);
                self.drain("Z");
            }
            "raw" => {
                let tag = part().chars().next().unwrap();
                self.wire.send(tag, &bytes_of(part()));
                self.drain("Z");
            }
            other => panic!("{other}"),
        }
    }

    fn extended(&mut self, text: &str, binary: bool) {
        self.wire.parse("", text);
        let formats: &[u8] = if binary { &[0, 1, 0, 1] } else { &[0, 0] };
        let body = [&[0, 0, 0, 0, 0, 0], formats].concat();
        self.wire.send('B', &body);
        self.wire.describe_portal("");
        self.wire.execute("", 0);
        self.wire.sync();
        self.drain("Z");
    }

    fn queries(&mut self, texts: &[Vec<u8>]) {
        let messages: Vec<_> = texts
            .iter()
            .flat_map(|text| message('Q', &[text, &[0][..]].concat()))
            .collect();
        self.wire.send_raw(&messages);
        for _ in texts {
            self.drain("ZG");
        }
    }

    /// Receives up to a message of one of these tags, or the end of the connection.
    fn drain(&mut self, until: &str) {
        while self.open {
            match self.wire.receive() {
                Ok(message) => {
                    self.received.extend(&message.body);
                    self.received.push(b'\n');
                    self.in_copy = message.tag == 'G';
                    self.at_rest = message.tag == 'Z';
                    if until.contains(message.tag) {
                        return;
                    }
                }
                Err(Silence::Closed) => self.open = false,
                Err(Silence::TimedOut) => {
                    panic!("{}", String::from_utf8_lossy(&self.received))
                }
            }
        }
    }
}

/// The bytes of a text in which `‹95›` is the byte 0x95.
fn bytes_of(text: &str) -> Vec<u8> {
    let mut parts = text.split('‹');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_once('›').unwrap();
        bytes.push(u8::from_str_radix(byte, 16).unwrap());
        bytes.extend(rest.as_bytes());
    }
    bytes
}

/// Whether a secret is in what was received, as it is or as one of the attempts encodes it.
fn is_told(received: &[u8]) -> bool {
    let text = String::from_utf8_lossy(received).to_lowercase();
    let plain = CANARY.to_lowercase();
    let reversed: String = plain.chars().rev().collect();
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Of CANARY, whose length is a multiple of three; compared in lower case as the rest is.
    let base64 = "WnFYY2FuYXJ5".to_lowercase();
    let forms = [plain, reversed, hex, base64];
    forms.iter().any(|form| text.contains(form))
}

#[test]
fn each_attempt_succeeds_without_the_appliance() {
    let attacks = attacks("attacks/attacks.txt");
    let names: BTreeSet<_> = attacks.iter().map(|attack| &attack.name).collect();
    assert_eq!(names.len(), attacks.len(), "each has a name of its own");
    assert!(attacks.len() >= 150);
    let problems = prove_directly(&mut World::new("attacks"), &attacks);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_attempt_achieves_anything_through_the_appliance() {
    let problems = try_through(&mut World::new("attacks"), &attacks("attacks/attacks.txt"));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The attempts that do not succeed even where nothing guards.
fn prove_directly(world: &mut World, attacks: &[Attack]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut admin = world.admin("direct");
    world.victim(&mut admin);
    let mut before = world.fingerprint(&mut admin);
    assert!(!before.contains(HELD_UP), "{before}");
    let address = world.address();
    for attack in attacks {
        let outcome = world.attempt(attack, "direct", &mut admin, |parameters| {
            let who = [("user", "svc"), ("database", "direct")];
            Wire::try_login(address, &[&who, parameters].concat(), "")
        });
        let has_changed = outcome.fingerprint != before;
        let succeeds = match attack.goal {
            Goal::Told => is_told(&outcome.received),
            Goal::Changed => has_changed,
            Goal::Unproven => !has_changed && !is_told(&outcome.received),
        };
        if !succeeds {
            let received = String::from_utf8_lossy(&outcome.received);
            problems.push(format!(
                "{}: directly not {:?}: {received:?}",
                attack.name, attack.goal
            ));
        }
        if has_changed {
            world.forget_files();
            let rebuild = REBUILT_FOR.iter().any(|kind| {
                let of_kind = |text: &str| {
                    text.lines()
                        .find(|line| line.contains(kind))
                        .map(str::to_owned)
                };
                of_kind(&before) != of_kind(&outcome.fingerprint)
            });
            if rebuild {
                drop(admin);
                for command in [
                    "alter system reset all",
                    "drop database direct with (force)",
                    "create database direct template pristine owner svc",
                ] {
                    world.server.psql(command);
                }
                admin = world.admin("direct");
            } else {
                let restored = admin.query("select kept.restore()");
                assert_eq!(status(&restored), 'I');
                renew_own(&mut admin);
            }
            world.victim(&mut admin);
            before = world.fingerprint(&mut admin);
            assert!(!before.contains(HELD_UP), "{before}");
        } else {
            renew_own(&mut admin);
        }
    }
    problems
}

/// The attempts that achieve anything through the appliance.
fn try_through(world: &mut World, attacks: &[Attack]) -> Vec<String> {
    let mut setup = Setup::for_server(&world.server);
    setup.policy = RULES;
    let appliance = Appliance::start(&setup);
    let mut admin = world.admin("orders");
    world.victim(&mut admin);
    let mut before = world.fingerprint(&mut admin);
    assert!(!before.contains(HELD_UP), "{before}");
    let mut problems = Vec::new();
    for group in GROUPS {
        let token = appliance.token("claude", group);
        let login = |parameters: &[(&str, &str)]| {
            let who = [("user", "agent"), ("database", "orders")];
            Wire::try_login(appliance.address(), &[&who, parameters].concat(), &token)
        };
        let mut allowed = login(&[]).unwrap();
        assert_eq!(allowed.value("select count(*) from orders"), "40");
        for attack in attacks {
            let outcome = world.attempt(attack, "orders", &mut admin, login);
            let has_changed = outcome.fingerprint != before;
            if has_changed || is_told(&outcome.received) {
                let what = if has_changed {
                    changes(&before, &outcome.fingerprint)
                } else {
                    outcome
                        .received
                        .escape_ascii()
                        .take(300)
                        .map(char::from)
                        .collect()
                };
                problems.push(format!("{} by {group}: {what}", attack.name));
            }
            if has_changed {
                world.forget_files();
                admin.query("select kept.restore()");
                world.victim(&mut admin);
                before = world.fingerprint(&mut admin);
            }
            renew_own(&mut admin);
        }
        assert_eq!(allowed.value("select count(*) from orders"), "40");
    }
    problems
}

/// Takes away what an attempt made where it may make things.
fn renew_own(admin: &mut Wire) {
    let objects = admin.value(
        "select (select count(*) from pg_class where relnamespace = 'own'::regnamespace)
            + (select count(*) from pg_proc where pronamespace = 'own'::regnamespace)
            + (select count(*) from pg_operator where oprnamespace = 'own'::regnamespace)",
    );
    if objects != "0" {
        admin.query("drop schema own cascade; create schema own authorization svc");
    }
}

/// The lines that are in one of them alone.
fn changes(before: &str, after: &str) -> String {
    let gone = before.lines().filter(|line| !after.contains(line));
    let new = after.lines().filter(|line| !before.contains(line));
    gone.chain(new).collect::<Vec<_>>().join("\n    ")
}
