//! From an installed package to the first session, by what a person types and is told.

use crate::appliance::wait_until;
use crate::machine::Machine;

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
