//! Stock clients as programs that print what they see; a program's two transcripts, direct and through the appliance, are compared.
//!
//! A client is one program under `tests/clients`. It reads where to connect from libpq's environment
//! variables, holds a fixed dialogue and prints one line for each thing that came back. Nothing here
//! knows what the dialogue is. What may differ is in [`normalised`], and nowhere else.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::appliance::{ACCOUNT_PASSWORD, Appliance, POLICY, Setup, orders_server_with};
use crate::postgres::{self, Server, Version};

/// Everything that the programs do, `drop` and blocks of code included: they are not about
/// refusals.
const PERMISSIVE: &str = r#"
[[rule]]
name    = "clients-do-anything"
groups  = ["analysts"]
targets = ["*"]
allow   = { statements = ["*", "unknown"] }
"#;

/// A second, empty database, for what is restored.
const SPARE_TARGET: &str = r#"
[[target]]
name = "spare"
protocol = "postgres"
address = "{address}"
database = "spare"
user = "svc"
password = "file:{password}"
tls = "disable"
"#;

/// Lines of a report on transcripts that differ.
const REPORT_LINES_MAX: usize = 60;

/// A program, and the version of PostgreSQL's own programs where it is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Every message, field by field.
    Wire,
    Psql(Version),
    Pgbench(Version),
    /// With pg_restore and the rest of the family.
    PgDump(Version),
    Psycopg,
    Asyncpg,
    SqlAlchemy,
    Django,
    NodePostgres,
    Pgjdbc,
    TokioPostgres,
    Sqlx,
}

/// Both transcripts of one client with one server.
pub struct Transcripts {
    /// What the program calls itself: a line of its transcript that begins with `#`.
    pub version: String,
    pub direct: String,
    pub through: String,
}

impl Client {
    /// As in the names of files and in the table of outcomes.
    pub fn name(self) -> String {
        match self {
            Self::Wire => "wire".into(),
            Self::Psql(version) => format!("psql-{version}"),
            Self::Pgbench(version) => format!("pgbench-{version}"),
            Self::PgDump(version) => format!("pg_dump-{version}"),
            Self::Psycopg => "psycopg".into(),
            Self::Asyncpg => "asyncpg".into(),
            Self::SqlAlchemy => "sqlalchemy".into(),
            Self::Django => "django".into(),
            Self::NodePostgres => "node-postgres".into(),
            Self::Pgjdbc => "pgjdbc".into(),
            Self::TokioPostgres => "tokio-postgres".into(),
            Self::Sqlx => "sqlx".into(),
        }
    }

    fn command(self) -> Command {
        match self {
            Self::Wire => python("python", "wire_client.py"),
            Self::Psycopg => python("python", "psycopg_client.py"),
            Self::Asyncpg => python("python", "asyncpg_client.py"),
            Self::SqlAlchemy => python("python-matrix", "sqlalchemy_client.py"),
            Self::Django => python("python-matrix", "django_client.py"),
            Self::Pgbench(version) => script(version, "pgbench.sh"),
            Self::PgDump(version) => script(version, "dump.sh"),
            Self::TokioPostgres => rust("tokio-postgres"),
            Self::Sqlx => rust("sqlx"),
            Self::Psql(version) => {
                let mut command = Command::new(postgres::binary_of(version, "psql"));
                command.args(["-X", "-a", "-f", "script.sql"]);
                command.current_dir(programs().join("psql"));
                command
            }
            Self::NodePostgres => {
                let mut command = Command::new("node");
                command.arg(programs().join("node/client.js"));
                command.env("NODE_NO_WARNINGS", "1");
                command.env(
                    "SALLYPORT_NODE_MODULES",
                    libraries().join("node/node_modules"),
                );
                command
            }
            Self::Pgjdbc => {
                let driver = "/usr/share/java/postgresql.jar";
                assert!(
                    fs::exists(driver).unwrap(),
                    "{driver} is missing: run .ci/prepare test"
                );
                let mut command = Command::new("java");
                // Its start is most of its time.
                command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", driver]);
                command.arg(programs().join("java/Client.java"));
                command
            }
        }
    }
}

/// Runs the client against two equal servers, the second time through the appliance.
pub fn transcripts(client: Client, version: Version) -> Transcripts {
    let server = server(version);
    let direct = transcript(client, &directly(&server));
    drop(server);

    let server = self::server(version);
    let appliance = appliance(&server);
    let through = transcript(client, &through(&appliance));
    assert!(!appliance.sessions().is_empty());

    let (banner, direct) = split_banner(&direct);
    let (_, through) = split_banner(&through);
    let transcripts = Transcripts {
        version: banner,
        direct: normalised(&direct),
        through: normalised(&through),
    };
    assert!(
        transcripts.direct.matches("==").count() >= 3,
        "the program did little: {direct}"
    );
    transcripts.keep(client, version);
    transcripts
}

impl Transcripts {
    pub fn lines(&self) -> usize {
        self.direct.lines().count()
    }

    /// What differs, as `diff` says it; `None` if nothing does.
    pub fn difference(&self) -> Option<String> {
        if self.direct == self.through {
            return None;
        }
        let mut report = String::from("directly (-) and through the appliance (+):\n");
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("direct", &self.direct), ("through", &self.through)] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut diff = Command::new("diff");
        diff.args(["-U", "3", "direct", "through"]);
        let lines = diff.current_dir(folder.path()).output().unwrap().stdout;
        let lines = String::from_utf8_lossy(&lines);
        for line in lines.lines().skip(2).take(REPORT_LINES_MAX) {
            // Writing to a String does not fail.
            writeln!(report, "{line}").unwrap();
        }
        Some(report)
    }

    /// For a person to look at: the last run's stay among the build products.
    fn keep(&self, client: Client, version: Version) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("transcripts");
        fs::create_dir_all(&folder).unwrap();
        let name = format!("{}-{version}", client.name());
        for (side, text) in [("direct", &self.direct), ("through", &self.through)] {
            let path = folder.join(format!("{name}.{side}"));
            fs::File::create(path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        }
    }
}

/// What may differ between two runs, each with its reason. A line that is not here is compared as
/// it is.
fn normalised(transcript: &str) -> String {
    let mut lines = Vec::new();
    let mut in_our_words = false;
    for line in transcript.lines() {
        // Behind an error that the appliance speaks in the server's place, since only it knows what
        // the session may run: it stands in no line of the server's source, and one has a hint of
        // ours (docs/protocols/postgres.md, "Different on purpose").
        if in_our_words && line.starts_with("LOCATION:") {
            continue;
        }
        in_our_words = OUR_WORDS.iter().any(|words| line.contains(words));
        let mut line = line.to_owned();
        if in_our_words {
            line = cut(&line, " hint='A cursor made by DECLARE", "'");
            line = cut(&line, " file='", "routine='FetchPreparedStatement'");
            line = cut(&line, " file='", "routine='exec_execute_message'");
        }
        // The target has to name the agent, so what it calls the application begins with that
        // (the same section).
        line = line
            .replace("builtin/claude ", "")
            .replace("builtin/claude", "");
        // Which process serves a session, and so which temporary schema it has, is the server's
        // business in every run. Django names cursors after its thread.
        for before in [
            "server process with PID ",
            "pg_temp_",
            "pg_toast_temp_",
            "_django_curs_",
        ] {
            line = without_number(&line, before);
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Errors that [`normalised`] knows as the appliance's: of a statement that nobody prepared, run by
/// SQL's EXECUTE, and of a portal that nobody bound.
const OUR_WORDS: &[&str] = &[
    "code='26000' message='prepared statement",
    "ERROR:  26000: prepared statement",
    "code='34000' message='portal",
];

/// Without what stands from `begin` up to and including the first `end` behind it.
fn cut(line: &str, begin: &str, end: &str) -> String {
    let Some((before, rest)) = line.split_once(begin) else {
        return line.to_owned();
    };
    let Some((_, after)) = rest.split_once(end) else {
        return line.to_owned();
    };
    format!("{before}{after}")
}

/// With `N` for the number behind each `before`.
fn without_number(line: &str, before: &str) -> String {
    let mut parts = line.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = if rest.len() < part.len() { "N" } else { "" };
        out.push_str(&format!("{before}{number}{rest}"));
    }
    out
}

pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Where `.ci/prepare` put the clients' libraries.
pub fn libraries() -> PathBuf {
    let clients = postgres::cache().join("clients");
    assert!(
        clients.exists(),
        "{} is missing: run .ci/prepare test",
        clients.display()
    );
    clients
}

pub fn python(environment: &str, program: &str) -> Command {
    let mut command = Command::new(libraries().join(environment).join("bin/python"));
    command
        .arg("-B")
        .arg(programs().join("python").join(program));
    command
}

/// A script around PostgreSQL's own programs.
fn script(version: Version, program: &str) -> Command {
    let psql = postgres::binary_of(version, "psql");
    let mut command = Command::new("bash");
    command.arg(programs().join("programs").join(program));
    command.env("PGBIN", psql.parent().expect("a folder"));
    command
}

fn rust(driver: &str) -> Command {
    let mut command = Command::new(libraries().join("rust/sallyport-test-clients"));
    command.arg(driver);
    command
}

fn server(version: Version) -> Server {
    let server = orders_server_with(postgres::Options {
        // The program that speaks the protocol by itself knows no SCRAM.
        hba: vec!["host all svc 127.0.0.1/32 trust".into()],
        version: Some(version),
        configuration: vec![("max_prepared_transactions", "4".to_owned())],
        ..postgres::Options::default()
    });
    server.psql("create database spare owner svc");
    server
}

fn appliance(server: &Server) -> Appliance {
    assert_ne!(PERMISSIVE, POLICY);
    let mut setup = Setup::for_server(server);
    setup.policy = PERMISSIVE;
    let password = tempfile::NamedTempFile::new().unwrap();
    fs::write(password.path(), ACCOUNT_PASSWORD).unwrap();
    setup.tables = SPARE_TARGET
        .replace("{address}", &setup.target)
        .replace("{password}", &password.path().display().to_string());
    Appliance::start(&setup)
}

fn directly(server: &Server) -> Vec<(&'static str, String)> {
    vec![
        ("PGHOST", "127.0.0.1".into()),
        ("PGPORT", server.port().to_string()),
        ("PGUSER", "svc".into()),
        ("PGDATABASE", "orders".into()),
        ("PGPASSWORD", ACCOUNT_PASSWORD.into()),
        ("PGSSLMODE", "disable".into()),
    ]
}

pub fn through(appliance: &Appliance) -> Vec<(&'static str, String)> {
    vec![
        ("PGHOST", "localhost".into()),
        ("PGPORT", appliance.address().port().to_string()),
        // A label to the appliance, but some clients print it.
        ("PGUSER", "svc".into()),
        ("PGDATABASE", "orders".into()),
        ("PGPASSWORD", appliance.token("claude", "analysts")),
        ("PGSSLMODE", "verify-full".into()),
        (
            "PGSSLROOTCERT",
            appliance.certificate_path().display().to_string(),
        ),
    ]
}

/// What a program printed.
fn transcript(client: Client, connection: &[(&str, String)]) -> String {
    let mut command = client.command();
    for name in ["PGOPTIONS", "PGAPPNAME", "PGSERVICE", "PGPASSFILE"] {
        command.env_remove(name);
    }
    command.envs(connection.iter().cloned());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{printed}\n{errors}");
    format!("{printed}\n-- stderr --\n{errors}")
}

/// The line in which a program says what it is, and the rest.
fn split_banner(transcript: &str) -> (String, String) {
    let banner = transcript.lines().find_map(|line| line.strip_prefix("# "));
    let rest = transcript.lines().filter(|line| !line.starts_with("# "));
    (
        banner.unwrap_or_default().to_owned(),
        rest.collect::<Vec<_>>().join("\n"),
    )
}
