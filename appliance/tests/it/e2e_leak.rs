//! Ways to see what is masked: nothing of it reaches the client, a recording, a log or a metric.
//!
//! `data/leaks` holds the database and the ways. Each shows a canary when it is run directly, and none
//! through the appliance, by the simple protocol and by the extended one, as text and in binary.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use crate::appliance::{Appliance, Setup};
use crate::clients::{libraries, programs, python};
use crate::e2e_attack::{Attack, Goal, Mode, Session, World, attacks};
use crate::postgres::binary;
use crate::wire::Wire;

/// Everything is allowed that can be judged, so that the masks alone are what hides.
const RULES: &str = r#"
[[rule]]
name    = "analysts-work"
groups  = ["analysts"]
targets = ["orders"]
allow   = { statements = ["*"] }

[[mask]]
name    = "people"
targets = ["orders"]
columns = [
    "people.card", "people.pin", "people.small", "people.big", "people.salary", "people.ratio", "people.rough",
    "people.born", "people.seen", "people.at", "people.key", "people.blob", "people.doc", "people.profile",
    "people.home", "people.phones", "people.pins", "people.host", "people.code", "people.fixed", "people.typed",
]
with    = "redact"
deny_predicates = true

[[mask]]
name    = "pii-anywhere"
targets = ["*"]
detect  = ["payment-card", "us-ssn", "email", "iban"]
with    = "redact"
"#;

const MODES: [Mode; 3] = [
    Mode::Simple,
    Mode::Extended { binary: false },
    Mode::Extended { binary: true },
];

/// What gives a secret away.
struct Canaries {
    /// In lower case.
    texts: Vec<String>,
    bytes: Vec<Vec<u8>>,
}

impl Canaries {
    /// `admin` computes what takes computing.
    fn new(admin: &mut Wire) -> Self {
        let mut texts: Vec<String> = [
            // As it is, reversed, in hex, base64 and with a character escaped as JSON allows.
            "zqxcanary",
            "yranacxqz",
            "5a715863616e617279",
            "wnfyy2fuyxj5",
            "\\u005aqxcanary",
            "731946285",
            "73.1946",
            "1887-06-05",
            "feedface",
            "203.0.113.77",
            "{18765}",
            // What only the right guess is answered with.
            "told",
            // What detectors look for.
            "4012-8888-8888-1881",
            "4012888888881881",
            "zqx.leak@example.com",
            "536-90-4399",
            "de89 3704 0044 0532 0130 00",
            "de89370400440532013000",
        ]
        .map(str::to_owned)
        .to_vec();
        for n in 1..=3 {
            let value = format!("'ZqX' || 'canary{n}'");
            texts.push(admin.value(&format!("select md5({value})")));
            texts.push(admin.value(&format!("select encode(sha256(({value})::bytea), 'hex')")));
        }
        let days: i32 = admin
            .value("select date '1887-06-05' - date '2000-01-01'")
            .parse()
            .unwrap();
        let microseconds =
            i64::from(days) * 86_400_000_000 + (11 * 3600 + 22 * 60 + 33) * 1_000_000;
        let bytes = vec![
            731_946_285_i32.to_be_bytes().to_vec(),
            7_319_462_857_319_462_857_i64.to_be_bytes().to_vec(),
            73.194_628_573_1_f64.to_be_bytes().to_vec(),
            73.19463_f32.to_be_bytes().to_vec(),
            days.to_be_bytes().to_vec(),
            microseconds.to_be_bytes().to_vec(),
            vec![0xfe, 0xed, 0xfa, 0xce],
            vec![203, 0, 113, 77],
            // The groups of four digits of 7319462850.
            vec![0, 73, 0x07, 0x9a, 0x0b, 0x22],
        ];
        Self { texts, bytes }
    }

    /// The first that is in what was received, be it split over rows.
    fn found_in(&self, received: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(received).to_lowercase();
        let squeezed: String = text.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let mut texts = self.texts.iter();
        if let Some(canary) = self
            .found_in_text(&text)
            .or_else(|| texts.find(|canary| squeezed.contains(*canary)))
        {
            return Some(canary.clone());
        }
        let mut bytes = self.bytes.iter();
        let canary =
            bytes.find(|canary| received.windows(canary.len()).any(|part| part == **canary))?;
        Some(format!("{canary:x?}"))
    }

    /// The first that is in a lower-case text as it is.
    fn found_in_text(&self, text: &str) -> Option<&String> {
        self.texts.iter().find(|canary| text.contains(*canary))
    }
}

fn shapes() -> Vec<Attack> {
    let shapes = attacks("leaks/shapes.txt");
    let names: BTreeSet<_> = shapes.iter().map(|shape| &shape.name).collect();
    assert_eq!(names.len(), shapes.len(), "each has a name of its own");
    assert!(shapes.len() >= 150);
    shapes
}

/// What a client receives of a shape.
fn received(
    world: &mut World,
    shape: &Attack,
    database: &str,
    admin: &mut Wire,
    wire: Wire,
    mode: Mode,
) -> Vec<u8> {
    let steps = world.steps(shape, database, admin);
    let mut session = Session::new(wire, mode);
    for step in &steps {
        session.take(step, admin);
    }
    session.received
}

#[test]
fn each_shape_shows_a_secret_without_the_appliance() {
    let mut world = World::new("leaks");
    let mut admin = world.admin("direct");
    let canaries = Canaries::new(&mut admin);
    let mut problems = Vec::new();
    for shape in shapes() {
        let wire = Wire::login(world.address(), "svc", "direct", "");
        let received = received(&mut world, &shape, "direct", &mut admin, wire, Mode::Simple);
        if canaries.found_in(&received).is_some() != (shape.goal == Goal::Told) {
            let received = String::from_utf8_lossy(&received);
            problems.push(format!(
                "{}: not {:?}: {received:?}",
                shape.name, shape.goal
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn nothing_that_is_masked_reaches_anybody() {
    let mut world = World::new("leaks");
    let mut setup = Setup::for_server(&world.server);
    setup.policy = RULES;
    let appliance = Appliance::start(&setup);
    let mut admin = world.admin("orders");
    let canaries = Canaries::new(&mut admin);
    let token = appliance.token("claude", "analysts");
    let mut problems = Vec::new();
    for mode in MODES {
        for shape in shapes() {
            let wire = Wire::login(appliance.address(), "agent", "orders", &token);
            let received = received(&mut world, &shape, "orders", &mut admin, wire, mode);
            let mut problem = |what: String| {
                let shown: String = received.escape_ascii().take(300).map(char::from).collect();
                problems.push(format!("{} ({mode:?}) {what}: {shown}", shape.name));
            };
            if let Some(canary) = canaries.found_in(&received) {
                problem(format!("tells {canary}"));
            }
            let text = String::from_utf8_lossy(&received);
            if let Some(shown) = shape.remark("shows")
                && !text.contains(shown)
            {
                problem(format!("does not show {shown}"));
            }
            if shape.remark("refused").is_some() && !text.contains("42501") {
                problem("is not refused".to_owned());
            }
        }
    }
    // What the shapes themselves put together from halves is no secret.
    for (place, text) in [
        ("the log", appliance.log()),
        ("a recording", appliance.everything_recorded()),
    ] {
        if let Some(canary) = canaries.found_in_text(&text.to_lowercase()) {
            problems.push(format!("{place} tells {canary}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A client as a program that runs the lines of a file and prints what comes back.
type Program = fn(statements: &str) -> Command;

const PROGRAMS: [(&str, Program); 5] = [
    ("psql", |statements| {
        let mut command = Command::new(binary("psql"));
        command.args(["-X", "-f", statements]);
        command
    }),
    ("psycopg", |_| {
        let mut command = python("python", "leaks.py");
        command.arg("psycopg");
        command
    }),
    ("asyncpg", |_| {
        let mut command = python("python", "leaks.py");
        command.arg("asyncpg");
        command
    }),
    ("node-postgres", |_| {
        let mut command = Command::new("node");
        command.arg(programs().join("node/leaks.js"));
        command.env(
            "SALLYPORT_NODE_MODULES",
            libraries().join("node/node_modules"),
        );
        command
    }),
    ("pgjdbc", |_| {
        let mut command = Command::new("java");
        command.args([
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
            "/usr/share/java/postgresql.jar",
        ]);
        command.arg(programs().join("java/Leaks.java"));
        command
    }),
];

/// Everything that a program printed.
fn printed(
    mut command: Command,
    file: &str,
    port: u16,
    user: &str,
    database: &str,
    password: &str,
) -> String {
    for name in ["PGOPTIONS", "PGAPPNAME", "PGSERVICE", "PGPASSFILE"] {
        command.env_remove(name);
    }
    command.envs([
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", &port.to_string()),
        ("PGUSER", user),
        ("PGDATABASE", database),
        ("PGPASSWORD", password),
        ("PGSSLMODE", "disable"),
        ("SALLYPORT_STATEMENTS", file),
        ("NODE_NO_WARNINGS", "1"),
    ]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let texts =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?} {texts:?}");
    texts.concat()
}

#[test]
fn no_driver_decodes_what_is_masked() {
    let mut world = World::new("leaks");
    let mut setup = Setup::for_server(&world.server);
    setup.policy = RULES;
    let appliance = Appliance::start(&setup);
    let mut admin = world.admin("orders");
    world.victim(&mut admin);
    let canaries = Canaries::new(&mut admin);
    let token = appliance.token("claude", "analysts");
    // What takes several steps is for the other tests.
    let one_step = shapes().into_iter().filter(|shape| shape.steps.len() == 1);
    let lines: Vec<String> = one_step
        .map(|shape| shape.steps[0].clone())
        .filter(|step| !step.contains('{') || step.contains("('{"))
        .collect();
    assert!(lines.len() >= 100);
    let direct_port = world.server.port();
    let mut problems = Vec::new();
    for (name, program) in PROGRAMS {
        // psql needs its semicolons.
        let end = if name == "psql" { ";\n" } else { "\n" };
        let path = appliance.directory().join("statements");
        fs::write(&path, lines.join(end) + end).unwrap();
        let file = path.to_str().unwrap();
        let direct = printed(program(file), file, direct_port, "svc", "direct", "");
        let told = lines_that_tell(&canaries, &direct);
        assert!(told.len() >= 50, "{name}: {direct}");
        let port = appliance.address().port();
        let through = printed(program(file), file, port, "agent", "orders", &token);
        let told = lines_that_tell(&canaries, &through);
        problems.extend(told.iter().map(|line| format!("{name} tells {line}")));
        // Some types no driver knows, whatever their values are.
        let undecoded = |line: &&str| line.contains("UNDECODED") && !direct.contains(*line);
        let undecoded = through.lines().filter(undecoded);
        problems.extend(undecoded.map(|line| format!("{name}: {line}")));
        if !through.contains("visible-2") {
            problems.push(format!("{name} shows nothing: {through}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn lines_that_tell<'t>(canaries: &Canaries, text: &'t str) -> Vec<&'t str> {
    text.lines()
        .filter(|line| canaries.found_in_text(&line.to_lowercase()).is_some())
        .collect()
}
