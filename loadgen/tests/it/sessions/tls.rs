//! What a certificate has to prove, against PostgreSQL.

use loadgen::protocols::{Failed, Request, Target, Tls, TlsMode, TlsSetupError};
use runtime::transport::{CertificateFault, HandshakeError};

use super::{agent, ask, on_a_shard, rows, target, try_open};
use crate::servers::certificates::{Authority, Certified};
use crate::servers::postgres::{Options, Server, ServerTls};

fn server(certified: Certified) -> Server {
    Server::start(Options {
        hba: vec!["hostssl all all 127.0.0.1/32 trust".to_owned()],
        tls: Some(ServerTls {
            chain_pem: certified.chain_pem,
            key_pem: certified.key_pem,
            client_roots_pem: None,
        }),
        ..Options::default()
    })
}

fn over_tls(host: &str, server: &Server, mode: TlsMode, roots: Option<&str>) -> Target {
    Target {
        tls: Tls::new(mode, roots.map(str::as_bytes)).unwrap(),
        ..target(&format!("{host}:{}", server.port()))
    }
}

fn check(target: Target, expected: Option<Failed>) {
    on_a_shard(move || {
        let (target, expected) = (target.clone(), expected.clone());
        async move {
            match (try_open(&target, &agent("postgres", "")).await, expected) {
                (Ok(mut session), None) => {
                    let request = Request::simple(
                        "SELECT ssl::int FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl",
                    );
                    assert_eq!(rows(&ask(&mut session, &request.unwrap()).await), 1);
                    // Records of several kinds of sizes, both ways.
                    let long = format!("SELECT '{}', repeat('x', 500000)", "y".repeat(300_000));
                    let request = Request::simple(&long).unwrap();
                    assert_eq!(rows(&ask(&mut session, &request).await), 1);
                }
                (Ok(_), Some(expected)) => panic!("{expected} did not come"),
                (Err(failed), expected) => assert_eq!(Some(failed), expected),
            }
        }
    });
}

fn fault(fault: CertificateFault) -> Option<Failed> {
    Some(Failed::Tls(HandshakeError::Certificate(fault)))
}

#[test]
fn verify_full_accepts_the_host_that_the_root_vouches_for_and_no_other() {
    let authority = Authority::new("ours");
    let stranger = Authority::new("a stranger");
    let server = server(authority.server(&["localhost"]));
    let full = |host, roots: &Authority| {
        over_tls(
            host,
            &server,
            TlsMode::VerifyFull,
            Some(&roots.certificate_pem),
        )
    };
    check(full("localhost", &authority), None);
    check(
        full("127.0.0.1", &authority),
        fault(CertificateFault::OtherHost),
    );
    check(
        full("localhost", &stranger),
        fault(CertificateFault::UnknownIssuer),
    );
}

#[test]
fn verify_full_refuses_what_has_expired_and_require_does_not() {
    let authority = Authority::new("ours");
    let server = server(authority.expired_server(&["localhost"]));
    let roots = Some(&*authority.certificate_pem);
    check(
        over_tls("localhost", &server, TlsMode::VerifyFull, roots),
        fault(CertificateFault::Expired),
    );
    check(over_tls("127.0.0.1", &server, TlsMode::Require, None), None);
}

#[test]
fn there_is_no_falling_back_to_clear_text() {
    let server = Server::start(Options::default());
    check(
        over_tls("127.0.0.1", &server, TlsMode::Require, None),
        Some(Failed::TlsNotOffered),
    );
}

#[test]
fn roots_that_are_none_are_refused() {
    let setup = |roots: &str| Tls::new(TlsMode::VerifyFull, Some(roots.as_bytes())).err();
    assert_eq!(setup(""), Some(TlsSetupError::NoCertificate));
    assert_eq!(
        setup("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n"),
        Some(TlsSetupError::MalformedPem)
    );
    assert_eq!(
        setup("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Some(TlsSetupError::UnusableRoot { number: 1 })
    );
}
