//! Planted secrets: the token and the target's password appear in no output, log or file.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::appliance::{ACCOUNT_PASSWORD, Appliance, Setup, orders_server, orders_server_with};
use crate::certificates::Authority;
use crate::postgres::{Options, Server, ServerTls};
use crate::wire::Wire;

/// Every file below `folder`, rings and databases included, with what it holds.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            found.extend(contents(&path));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Fails when one of `secrets` stands in a file of the appliance, except where the operator put it.
fn check_files(appliance: &Appliance, secrets: &[&str]) {
    for (path, bytes) in contents(appliance.directory()) {
        if path.ends_with("orders-password") {
            continue;
        }
        for secret in secrets {
            let encoded = STANDARD.encode(secret);
            for form in [secret.as_bytes(), encoded.trim_end_matches('=').as_bytes()] {
                assert!(!holds(&bytes, form), "a secret is in {}", path.display());
            }
        }
    }
}

/// The target's log without the lines of the superuser, who set the account's password.
fn log_of_sessions(server: &Server) -> String {
    let log = server.log();
    let lines = log.lines().filter(|line| !line.contains(" postgres psql "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn secrets_appear_nowhere() {
    let server = orders_server();
    let mut setup = Setup::for_server(&server);
    setup.tables = "[log]\nlevel = \"trace\"\n".into();
    let mut appliance = Appliance::start(&setup);
    let token = appliance.token("claude", "analysts");
    let expired_looking = format!("{token}x");
    let signature = token.rsplit('.').next().expect("a signature");

    let mut wire = Wire::login(appliance.address(), "claude", "orders", &token);
    for sql in [
        "select 1",
        "select 1/0",
        "drop table orders",
        "selekt",
        "select * from customers",
        "show all",
        "select current_setting('sallyport.subject')",
    ] {
        let answer = format!("{:?}", wire.query(sql));
        assert!(
            !answer.contains(signature) && !answer.contains(ACCOUNT_PASSWORD),
            "{sql}"
        );
    }
    let _refused = appliance
        .try_login("orders", &expired_looking)
        .err()
        .expect("a refusal");
    let _refused = appliance
        .try_login("no-such-target", &token)
        .err()
        .expect("a refusal");
    // A token where it does not belong: as user or database.
    let misplaced = [
        ("user", token.as_str()),
        ("database", &expired_looking),
        ("application_name", &format!("psql {token}")),
    ];
    let _refused = Wire::try_login(appliance.address(), &misplaced, "x")
        .err()
        .expect("a refusal");
    wire.send('~', token.as_bytes());
    wire.until_closed();

    let shown = [
        appliance.cli_text(&["sessions"]),
        appliance.cli_text(&["sessions", "--json"]),
        appliance.everything_recorded(),
        appliance.cli_text(&["status"]),
        appliance.log(),
        log_of_sessions(&server),
    ];
    for text in shown {
        assert!(!text.contains(signature), "the token: {text}");
        assert!(!text.contains(ACCOUNT_PASSWORD), "the password");
    }
    check_files(&appliance, &[signature, ACCOUNT_PASSWORD]);
    appliance.kill();
    check_files(&appliance, &[signature, ACCOUNT_PASSWORD]);
}

#[test]
fn a_target_that_asks_for_the_password_in_clear_text_without_tls_does_not_get_it() {
    let server = orders_server_with(Options {
        hba: vec!["host all svc 127.0.0.1/32 password".into()],
        ..Options::default()
    });
    let appliance = Appliance::start(&Setup::for_server(&server));
    let token = appliance.token("claude", "analysts");
    let refusal = appliance
        .try_login("orders", &token)
        .err()
        .expect("a refusal");
    assert!(
        ["08001", "08004"].contains(&refusal.sqlstate().as_str()),
        "{refusal:?}"
    );
    assert!(!format!("{refusal:?}").contains(ACCOUNT_PASSWORD));
}

#[test]
fn a_target_whose_certificate_does_not_verify_does_not_get_the_password() {
    let trusted = Authority::new("trusted");
    let impostor = Authority::new("impostor").server(&["127.0.0.1"]);
    let server = orders_server_with(Options {
        tls: Some(ServerTls {
            chain_pem: impostor.chain_pem,
            key_pem: impostor.key_pem,
            client_roots_pem: None,
        }),
        ..Options::default()
    });
    for mode in ["verify-full", "verify-ca"] {
        let mut setup = Setup::for_server(&server);
        setup.target_tls = mode;
        setup.files = vec![("roots.pem", trusted.certificate_pem.clone())];
        setup.target_keys = "tls_roots = \"roots.pem\"".into();
        let appliance = Appliance::start(&setup);
        let token = appliance.token("claude", "analysts");
        let refusal = appliance
            .try_login("orders", &token)
            .err()
            .expect("a refusal");
        assert!(
            ["08001", "08006"].contains(&refusal.sqlstate().as_str()),
            "{mode}: {refusal:?}"
        );
    }
    assert!(!server.log().contains("user=svc"), "{}", server.log());
}

#[test]
fn a_target_is_reached_over_verified_tls() {
    let authority = Authority::new("trusted");
    let certified = authority.server(&["127.0.0.1"]);
    let server = orders_server_with(Options {
        hba: vec!["hostssl all svc 127.0.0.1/32 scram-sha-256".into()],
        tls: Some(ServerTls {
            chain_pem: certified.chain_pem,
            key_pem: certified.key_pem,
            client_roots_pem: None,
        }),
        ..Options::default()
    });
    let mut setup = Setup::for_server(&server);
    setup.target_tls = "verify-full";
    setup.files = vec![("roots.pem", authority.certificate_pem.clone())];
    setup.target_keys = "tls_roots = \"roots.pem\"\nchannel_binding = \"require\"".into();
    let appliance = Appliance::start(&setup);
    let mut wire = appliance.login("claude", "analysts");
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(wire.value(encrypted), "t");
}
