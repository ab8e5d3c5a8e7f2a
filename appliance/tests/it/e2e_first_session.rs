//! From an installed package to the first session, by what a person types and is told.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::appliance::{ACCOUNT_PASSWORD, json_lines, orders_server_with, wait_until};
use crate::machine::Machine;
use crate::postgres::{Options, Server, binary};

const CONSOLE: &str = "http://127.0.0.1:7070";

/// The value of a row of `sallyport status`.
fn row<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.map(str::trim)
}

#[test]
fn a_start_without_configuration_serves_the_console_and_says_what_comes_next() {
    let mut machine = Machine::new();
    let said = machine.serve(&[]);
    assert!(said.contains("postgres on 127.0.0.1:6432;"), "{said}");
    assert!(said.contains(&format!("console on {CONSOLE}")), "{said}");
    let next = "no target is configured; next: sallyport targets add NAME --address HOST:PORT";
    assert!(said.contains(next), "{said}");
    wait_until("the log", || machine.log().contains(next));
    let status = machine.text(&["status"]);
    assert_eq!(row(&status, "console "), Some(CONSOLE));
    assert!(row(&status, "next ").unwrap().starts_with(next), "{status}");
    assert!(machine.text(&["console"]).starts_with(CONSOLE));
}

#[test]
fn the_shipped_file_changes_nothing_about_a_start_without_configuration() {
    let mut machine = Machine::new();
    let shipped = include_str!("../../../packaging/config/sallyport.toml");
    machine.write("/etc/sallyport/sallyport.toml", shipped);
    let said = machine.serve(&[]);
    assert!(said.contains(&format!("console on {CONSOLE}")), "{said}");
}

#[test]
fn a_console_that_nobody_asked_for_does_not_keep_it_from_starting() {
    let mut machine = Machine::new();
    let other = "[listen]\npostgres = [\"127.0.0.1:7070\"]\nconsole = \"off\"\n";
    machine.write("/etc/other.toml", other);
    let elsewhere = [
        "--state-directory",
        "/var/lib/other",
        "--runtime-directory",
        "/run/other",
    ];
    machine.serve(&[&["--config", "/etc/other.toml"][..], &elsewhere].concat());

    let said = machine.serve(&[]);
    assert!(!said.contains("console"), "{said}");
    let missed = "cannot listen on 127.0.0.1:7070 (listen.console)";
    wait_until("the log", || machine.log().contains(missed));
    assert!(machine.log().contains("there is no console"));
    assert_eq!(row(&machine.text(&["status"]), "console "), Some("none"));
    machine.stop();

    // One that was asked for is missed.
    machine.write(
        "/etc/sallyport/sallyport.toml",
        "[listen]\nconsole = \"127.0.0.1:7070\"\n",
    );
    let refused = machine.sallyport(&["serve"]);
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(errors.contains(missed), "{errors}");
}

/// A server whose accounts need their passwords, also at its socket: the machine has no other way.
fn server() -> Server {
    orders_server_with(Options {
        hba: vec!["local all svc scram-sha-256".into()],
        ..Options::default()
    })
}

fn socket(server: &Server) -> String {
    format!("unix:{}", server.socket_path().display())
}

/// `sallyport targets add orders`, with the password at its standard input.
fn add(machine: &Machine, server: &Server, more: &[&str], password: &str) -> (Option<i32>, String) {
    let address = socket(server);
    let arguments = [
        &[
            "targets",
            "add",
            "orders",
            "--address",
            &address,
            "--user",
            "svc",
        ][..],
        &["--password-stdin"],
        more,
    ];
    let output = machine.sallyport_fed(&arguments.concat(), &format!("{password}\n"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn from_nothing_to_the_first_session_by_what_is_printed() {
    let server = server();
    let mut machine = Machine::new();
    machine.serve(&[]);
    let (code, said) = add(
        &machine,
        &server,
        &["--allow-read", "analysts"],
        ACCOUNT_PASSWORD,
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("svc at the database orders: ok, without TLS: PostgreSQL 1"),
        "{said}"
    );
    assert!(!said.contains(ACCOUNT_PASSWORD));
    let status = machine.text(&["status"]);
    assert!(
        row(&status, "next ")
            .unwrap()
            .starts_with("nobody has connected yet"),
        "{status}"
    );

    // The line that it prints, as a person pastes it, but for where the programs are.
    let (_, pasted) = said.split_once("next, a first session:\n").unwrap();
    let pasted = pasted
        .replace(
            "sallyport token",
            &format!("{} token", crate::appliance::BINARY),
        )
        .replace("psql", binary("psql").to_str().unwrap());
    let query = |sql: &str| {
        let script = format!("{} -XAtc \"$1\"", pasted.trim_end());
        let output = machine
            .command("sh")
            .args(["-c", &script, "sh", sql])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(query("select count(*) from customers"), "100\n");
    let refused = query("delete from orders");
    assert!(refused.contains("ERROR:  "), "{refused}");
    assert_eq!(row(&machine.text(&["status"]), "next "), None);
    assert!(machine.text(&["sessions"]).contains("me"));
}

#[test]
fn what_is_added_is_there_for_the_service_and_nobody_else_and_goes_again() {
    let server = server();
    let mut machine = Machine::new();
    machine.serve(&[]);
    let (code, said) = add(
        &machine,
        &server,
        &["--allow-read", "a,b"],
        ACCOUNT_PASSWORD,
    );
    assert_eq!(code, Some(0), "{said}");
    let secret = "/etc/sallyport/secrets/orders-password";
    assert_eq!(machine.read(secret), ACCOUNT_PASSWORD);
    let mode = machine
        .path(secret)
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7, 0, "{mode:o}");
    let file = machine.read("/etc/sallyport/targets.d/orders.toml");
    assert!(
        file.contains(&format!("password = \"file:{secret}\"")),
        "{file}"
    );
    assert!(!file.contains(ACCOUNT_PASSWORD));
    assert!(machine.text(&["targets", "list"]).contains("in force"));
    let listed = json_lines(&machine.text(&["targets", "list", "--json"]));
    assert_eq!(listed[0]["name"], "orders");
    assert_eq!(listed[0]["file"], "/etc/sallyport/targets.d/orders.toml");

    // Not twice by mistake.
    let (code, said) = add(&machine, &server, &[], "another");
    assert_eq!(code, Some(1));
    assert!(said.contains("is there already; --replace"), "{said}");
    assert_eq!(machine.read(secret), ACCOUNT_PASSWORD);

    // One more group joins the rule that nobody has touched, and no other.
    machine.text(&["targets", "allow", "orders", "--read", "c"]);
    let rules = machine.read("/etc/sallyport/policy.d/orders.toml");
    assert!(rules.contains("groups  = [\"a\", \"b\", \"c\"]"), "{rules}");
    let again = machine.text(&["targets", "allow", "orders", "--read", "b"]);
    assert!(
        again.contains("the rule orders-read lets the group b in already"),
        "{again}"
    );
    machine.write(
        "/etc/sallyport/policy.d/orders.toml",
        &(rules.clone() + "# mine\n"),
    );
    let kept = machine.sallyport(&["targets", "allow", "orders", "--read", "d"]);
    let errors = String::from_utf8(kept.stderr).unwrap();
    assert!(
        errors.contains("holds rules that somebody wrote"),
        "{errors}"
    );
    machine.write("/etc/sallyport/policy.d/orders.toml", &rules);

    let removed = machine.text(&["targets", "remove", "orders"]);
    for path in [
        secret,
        "/etc/sallyport/targets.d/orders.toml",
        "/etc/sallyport/policy.d/orders.toml",
    ] {
        assert!(removed.contains(&format!("removed {path}")), "{removed}");
        assert!(!machine.path(path).exists());
    }
    assert_eq!(machine.text(&["targets", "list", "--json"]), "");
    assert!(
        row(&machine.text(&["status"]), "next ")
            .unwrap()
            .starts_with("no target")
    );
}

#[test]
fn what_is_wrong_is_not_left_behind() {
    let server = server();
    let mut machine = Machine::new();
    machine.serve(&[]);
    // Found here, as by `check`.
    let (code, said) = add(&machine, &server, &["--tls-roots", "/nowhere.pem"], "x");
    assert_eq!(code, Some(78), "{said}");
    let place = "/etc/sallyport/targets.d/orders.toml:8:";
    assert!(said.contains(place), "{said}");
    for path in ["secrets/orders-password", "targets.d/orders.toml"] {
        assert!(
            !machine.path(&format!("/etc/sallyport/{path}")).exists(),
            "{path}"
        );
    }
    // Found by the running appliance alone, which has its credentials and no such one.
    let address = socket(&server);
    let withheld = [
        "targets",
        "add",
        "orders",
        "--address",
        &address,
        "--password",
        "credential:x",
    ];
    let refused = machine.sallyport(&withheld);
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(errors.contains("LoadCredential="), "{errors}");
    assert!(
        !machine
            .path("/etc/sallyport/targets.d/orders.toml")
            .exists()
    );
    // A secret in the place of a reference is not repeated.
    let secret = [
        "targets",
        "add",
        "orders",
        "--address",
        &address,
        "--password",
        "hunter2",
    ];
    let refused = machine.sallyport(&secret);
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(errors.contains("never as its value"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
    // A target that stands in the main file is no file's to remove.
    machine.write(
        "/etc/sallyport/sallyport.toml",
        "[[target]]\nname = \"main\"\nprotocol = \"postgres\"\naddress = \"db\"\nuser = \"u\"\n\
         tls = \"disable\"\n",
    );
    let kept = machine.sallyport(&["targets", "remove", "main"]);
    let errors = String::from_utf8(kept.stderr).unwrap();
    assert!(
        errors.contains("stands in /etc/sallyport/sallyport.toml"),
        "{errors}"
    );
    let missing = machine.sallyport(&["targets", "remove", "other"]);
    let errors = String::from_utf8(missing.stderr).unwrap();
    assert!(errors.contains("no target is called other"), "{errors}");
}

#[test]
fn a_check_says_what_is_in_the_way_and_what_helps() {
    let server = server();
    let mut machine = Machine::new();
    // Nothing runs: this process looks itself.
    let (code, said) = add(
        &machine,
        &server,
        &["--readonly-user", "nobody_here"],
        "wrong",
    );
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no appliance runs"), "{said}");
    assert!(said.contains("refused with SQLSTATE 28P01"), "{said}");
    assert!(
        said.contains("the password is not that of the role svc"),
        "{said}"
    );
    // The other account is looked at as well.
    assert!(
        said.contains("nobody_here at the database orders: "),
        "{said}"
    );
    assert!(
        said.contains("has no role nobody_here that may log in"),
        "{said}"
    );
    // What was added stays: it is right as configuration.
    machine.serve(&[]);
    let check = |name: &str| {
        let output = machine.sallyport(&["targets", "check", name]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, running) = check("orders");
    assert_eq!(code, Some(1));
    assert!(
        running.contains("the password is not that of the role svc"),
        "{running}"
    );

    let cases = [
        (
            "missing",
            "unix:/nowhere/.s.PGSQL.1",
            "disable",
            "there is no socket /nowhere/.s.PGSQL.1",
        ),
        ("closed", "127.0.0.1:1", "disable", "nothing listens there"),
        (
            "plain",
            &socket(&server),
            "require",
            "`ssl = on` at the server",
        ),
        (
            "unknown",
            "no-such-host.invalid:5432",
            "disable",
            "`getent hosts no-such-host.invalid`",
        ),
    ];
    for (name, address, tls, advice) in cases {
        let arguments = [
            "targets",
            "add",
            name,
            "--address",
            address,
            "--tls",
            tls,
            "--no-check",
        ];
        machine.text(&arguments);
        let (code, said) = check(name);
        assert_eq!(code, Some(1));
        assert!(said.contains(advice), "{name}: {said}");
    }
    let all = machine.sallyport(&["targets", "check", "--all", "--json"]);
    assert_eq!(all.status.code(), Some(1));
    let all: Vec<Value> = json_lines(&String::from_utf8(all.stdout).unwrap());
    assert_eq!(all.len(), 5);
    assert!(
        all.iter()
            .all(|line| line["accounts"][0]["problem"].is_string())
    );
    let (code, said) = add(
        &machine,
        &server,
        &["--replace", "--database", "elsewhere"],
        ACCOUNT_PASSWORD,
    );
    assert_eq!(code, Some(1));
    assert!(
        said.contains("the server has no database elsewhere"),
        "{said}"
    );
    let (code, said) = add(&machine, &server, &["--replace"], ACCOUNT_PASSWORD);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        machine
            .text(&["targets", "check", "orders"])
            .contains("ok, without TLS")
    );
}
