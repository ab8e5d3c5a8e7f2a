//! `sallyport doctor` on machines where all is well, and where something is in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::appliance::json_lines;
use crate::certificates::Authority;
use crate::machine::Machine;

/// Exit status, what is said to people, and the findings.
fn doctor(machine: &Machine) -> (Option<i32>, String, Vec<Value>) {
    let said = machine.sallyport(&["doctor"]);
    let json = machine.sallyport(&["doctor", "--json"]);
    assert_eq!(said.status.code(), json.status.code());
    let text = [said.stdout, said.stderr].concat();
    let findings = json_lines(&String::from_utf8(json.stdout).unwrap());
    (
        said.status.code(),
        String::from_utf8(text).unwrap(),
        findings,
    )
}

fn in_the_way(findings: &[Value]) -> Vec<&Value> {
    let problems = findings
        .iter()
        .filter(|finding| finding["state"] == "problem");
    problems.collect()
}

/// The findings of one kind that say a text.
fn found<'f>(findings: &'f [Value], check: &str, text: &str) -> Option<&'f Value> {
    findings.iter().find(|finding| {
        finding["check"] == check && finding["said"].as_str().unwrap().contains(text)
    })
}

#[test]
fn nothing_is_in_the_way_before_the_first_start_and_while_it_runs() {
    let mut machine = Machine::new();
    let (code, said, findings) = doctor(&machine);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(in_the_way(&findings), [] as [&Value; 0]);
    assert!(
        found(&findings, "appliance", "not running").is_some(),
        "{said}"
    );
    assert!(
        found(
            &findings,
            "port",
            "127.0.0.1:6432 (listen.postgres) is free"
        )
        .is_some()
    );
    assert!(found(&findings, "rings", "").is_some());
    assert!(
        !machine.path("/var/lib/sallyport").exists(),
        "it changes nothing"
    );

    machine.serve(&[]);
    let (code, said, findings) = doctor(&machine);
    assert_eq!(code, Some(0), "{said}");
    let runs = concat!(env!("CARGO_PKG_VERSION"), " runs as process ");
    assert!(found(&findings, "appliance", runs).is_some(), "{said}");
    assert!(
        found(&findings, "next", "no target is configured").is_some(),
        "{said}"
    );
    assert!(
        found(
            &findings,
            "certificate",
            "tls-certificate.pem is valid until"
        )
        .is_some()
    );
    assert!(
        found(
            &findings,
            "runtime directory",
            "/run/sallyport is in memory"
        )
        .is_some()
    );
    assert!(
        said.contains("ok       port: 127.0.0.1:6432 (listen.postgres)"),
        "{said}"
    );
}

#[test]
fn a_taken_port_and_a_target_that_is_away_are_named() {
    let mut machine = Machine::new();
    let other = "[listen]\npostgres = [\"127.0.0.1:6432\"]\nconsole = \"off\"\n";
    machine.write("/etc/other.toml", other);
    let elsewhere = [
        "--state-directory",
        "/var/lib/other",
        "--runtime-directory",
        "/run/other",
    ];
    machine.serve(&[&["--config", "/etc/other.toml"][..], &elsewhere].concat());
    machine.text(&[
        "targets",
        "add",
        "orders",
        "--address",
        "127.0.0.1:1",
        "--tls",
        "disable",
        "--no-check",
    ]);
    let (code, said, findings) = doctor(&machine);
    assert_eq!(code, Some(1), "{said}");
    let taken = "127.0.0.1:6432 (listen.postgres) is taken by";
    assert!(found(&findings, "port", taken).is_some(), "{said}");
    let away = found(&findings, "target", "orders: 127.0.0.1:1: ").expect("a finding");
    assert_eq!(away["fix"], "sallyport targets check orders");
    assert_eq!(in_the_way(&findings).len(), 2, "{said}");
    assert!(said.contains("PROBLEM  port: "), "{said}");
    assert!(said.contains("2 in the way; what helps is above"), "{said}");
}

#[test]
fn a_secret_of_root_is_out_of_reach_of_the_service() {
    let machine = Machine::new();
    let users = machine.read("/etc/passwd");
    let service = "sallyport:x:990:990::/:/usr/sbin/nologin\n";
    machine.write("/etc/passwd", &(users + service));
    machine.write("/etc/secret", "x");
    let secret = machine.path("/etc/secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    machine.text(&[
        "targets",
        "add",
        "orders",
        "--address",
        "unix:/nowhere",
        "--no-check",
        "--password",
        "file:/etc/secret",
    ]);
    let (code, said, findings) = doctor(&machine);
    assert_eq!(code, Some(1), "{said}");
    let barred = found(
        &findings,
        "credentials",
        "sallyport may not read /etc/secret",
    );
    let barred = barred.unwrap_or_else(|| panic!("{said}"));
    assert_eq!(barred["state"], "problem");
    assert_eq!(
        barred["fix"],
        "chgrp sallyport /etc/secret; chmod 0640 /etc/secret"
    );
    // A directory that cannot be made is named as well.
    assert!(
        found(&findings, "state directory", "cannot be made").is_some(),
        "{said}"
    );
}

#[test]
fn an_expired_certificate_and_a_broken_rule_are_named_with_their_places() {
    let machine = Machine::new();
    let expired = Authority::new("test").expired_server(&["localhost"]);
    machine.write("/etc/tls.pem", &expired.chain_pem);
    machine.write("/etc/tls.key", &expired.key_pem);
    let key = machine.path("/etc/tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    machine.write(
        "/etc/sallyport/sallyport.toml",
        "[tls]\ncertificate = \"/etc/tls.pem\"\nkey = \"file:/etc/tls.key\"\n",
    );
    let (code, said, findings) = doctor(&machine);
    assert_eq!(code, Some(1), "{said}");
    let ended = "/etc/tls.pem has expired on 2021-01-01T00:00:00Z";
    let finding = found(&findings, "certificate", ended).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(
        finding["fix"],
        "put a new one in /etc/tls.pem, then `sallyport reload`"
    );

    machine.write(
        "/etc/sallyport/policy.d/rules.toml",
        "[[rule]]\nname = \"r\"\ngroups = [\"g\"]\ntargets = [\"orders\"]\nallow = {}\n",
    );
    let (code, said, findings) = doctor(&machine);
    assert_eq!(code, Some(1), "{said}");
    let place = "/etc/sallyport/policy.d/rules.toml:";
    let finding = found(&findings, "configuration", place).unwrap_or_else(|| panic!("{said}"));
    assert!(
        finding["fix"]
            .as_str()
            .unwrap()
            .ends_with("; sallyport check"),
        "{finding}"
    );
}
