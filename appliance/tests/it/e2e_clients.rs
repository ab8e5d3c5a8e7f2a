//! Stock clients run the same script directly and through the appliance: the output is equal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::appliance::{ACCOUNT_PASSWORD, Appliance, POLICY, Setup, orders_server};
use crate::postgres::{Server, binary};

/// Everything that the scripts do, `drop` and blocks of code included: they are not about
/// refusals.
const PERMISSIVE: &str = r#"
[[rule]]
name    = "clients-do-anything"
groups  = ["analysts"]
targets = ["orders"]
allow   = { statements = ["*", "unknown"] }
"#;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Where `.ci/prepare test` put the clients' libraries.
fn libraries() -> PathBuf {
    let cache = std::env::var_os("SALLYPORT_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = std::env::var_os("HOME").expect("HOME is set");
            std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| Path::new(&home).join(".cache"), PathBuf::from)
                .join("sallyport")
        });
    let clients = cache.join("clients");
    assert!(
        clients.exists(),
        "{} is missing: run .ci/prepare test",
        clients.display()
    );
    clients
}

/// A server of its own for each run, so that both start from the same state.
fn output(mut command: Command, connection: &[(&str, String)]) -> String {
    for name in ["PGOPTIONS", "PGAPPNAME", "PGSERVICE", "PGPASSFILE"] {
        command.env_remove(name);
    }
    let output = command.envs(connection.iter().cloned()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{printed}\n{errors}");
    // A line of the server's source, which an error of ours does not have.
    let errors = errors.lines().filter(|line| !line.starts_with("LOCATION:"));
    let errors = errors.collect::<Vec<_>>().join("\n");
    format!("{printed}\n-- stderr --\n{errors}")
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

fn through(appliance: &Appliance) -> Vec<(&'static str, String)> {
    vec![
        ("PGHOST", "localhost".into()),
        ("PGPORT", appliance.address().port().to_string()),
        ("PGUSER", "agent".into()),
        ("PGDATABASE", "orders".into()),
        ("PGPASSWORD", appliance.token("claude", "analysts")),
        ("PGSSLMODE", "verify-full".into()),
        (
            "PGSSLROOTCERT",
            appliance.certificate_path().display().to_string(),
        ),
    ]
}

fn check_same(client: impl Fn() -> Command) {
    let server = orders_server();
    let expected = output(client(), &directly(&server));
    drop(server);
    assert!(
        expected.matches("==").count() >= 3,
        "the script did little: {expected}"
    );

    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    assert_ne!(PERMISSIVE, POLICY);
    setup.policy = PERMISSIVE;
    let appliance = Appliance::start(&setup);
    let seen = output(client(), &through(&appliance));
    if seen != expected {
        panic!("{}", difference(&expected, &seen));
    }
    assert!(!appliance.sessions().is_empty());
}

fn difference(expected: &str, seen: &str) -> String {
    let mut report = String::from("directly (-) and through the appliance (+):\n");
    let (mut left, mut right) = (expected.lines().peekable(), seen.lines().peekable());
    let mut differing = 0;
    while left.peek().is_some() || right.peek().is_some() {
        let (a, b) = (
            left.next().unwrap_or_default(),
            right.next().unwrap_or_default(),
        );
        if a != b {
            differing += 1;
            report.push_str(&format!("- {a}\n+ {b}\n"));
        } else if differing < 20 {
            report.push_str(&format!("  {a}\n"));
        }
        if differing > 20 {
            break;
        }
    }
    report
}

#[test]
fn psql_sees_the_same() {
    check_same(|| {
        let mut command = Command::new(binary("psql"));
        command.args(["-X", "-a", "-f"]).arg("script.sql");
        command.current_dir(scripts().join("psql"));
        command
    });
}

#[test]
fn psycopg_sees_the_same() {
    check_same(|| {
        let mut command = Command::new(libraries().join("python/bin/python"));
        command
            .arg("-B")
            .arg(scripts().join("python/psycopg_client.py"));
        command
    });
}

#[test]
fn asyncpg_sees_the_same() {
    check_same(|| {
        let mut command = Command::new(libraries().join("python/bin/python"));
        command
            .arg("-B")
            .arg(scripts().join("python/asyncpg_client.py"));
        command
    });
}

#[test]
fn node_postgres_sees_the_same() {
    check_same(|| {
        let mut command = Command::new("node");
        command.arg(scripts().join("node/client.js"));
        command.env("NODE_NO_WARNINGS", "1");
        command.env(
            "SALLYPORT_NODE_MODULES",
            libraries().join("node/node_modules"),
        );
        command
    });
}

#[test]
fn pgjdbc_sees_the_same() {
    let driver = "/usr/share/java/postgresql.jar";
    assert!(
        fs::exists(driver).unwrap(),
        "{driver} is missing: run .ci/prepare test"
    );
    check_same(|| {
        let mut command = Command::new("java");
        command
            .args(["-cp", driver])
            .arg(scripts().join("java/Client.java"));
        command
    });
}
