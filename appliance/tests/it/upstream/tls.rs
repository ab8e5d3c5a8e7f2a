//! What each TLS mode demands of a server's certificate.

use std::sync::Arc;

use appliance::config::Secret;
use appliance::upstream::{
    Address, ClientCertificate, Roots, Tls, TlsFailure, TlsMode, TlsSetupError, UpstreamError,
};
use runtime::transport::{CertificateFault, HandshakeError};

use super::{account, lease, loopback, named, pools, query, refusal, target};
use crate::certificates::{Authority, Certified};
use crate::postgres::{Options, SUPERUSER, Server, ServerTls};
use crate::shard::on_shard;

/// Checks one server certificate in each mode, called by a name and by its address.
struct Case {
    certified: Certified,
    roots: String,
    by_name: [Outcome; 3],
    by_address: [Outcome; 3],
}

type Outcome = Result<(), CertificateFault>;

const MODES: [TlsMode; 3] = [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull];

fn check(case: Case) {
    let server = Server::start(Options {
        tls: Some(ServerTls {
            chain_pem: case.certified.chain_pem,
            key_pem: case.certified.key_pem,
            client_roots_pem: None,
        }),
        ..Options::default()
    });
    let roots = Roots::from_pem(case.roots.as_bytes()).unwrap();
    on_shard(async move || {
        for (address, outcomes) in [
            (named("localhost", server.port()), case.by_name),
            (loopback(server.port()), case.by_address),
        ] {
            for (mode, outcome) in MODES.into_iter().zip(outcomes) {
                let tls = Tls::new(mode, &roots, None).unwrap();
                check_one(address.clone(), tls, outcome).await;
            }
        }
    });
}

async fn check_one(address: Address, tls: Tls, outcome: Outcome) {
    let (mode, host) = (tls.mode(), format!("{address:?}"));
    let target = target(address, account(SUPERUSER, None, tls));
    match outcome {
        Ok(()) => {
            let leased = lease(&pools(), &Arc::new(target)).await;
            let mut leased = leased.unwrap_or_else(|error| panic!("{mode:?} {host}: {error}"));
            let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            assert_eq!(
                query(&mut leased, sql).await.unwrap(),
                "t",
                "{mode:?} {host}"
            );
        }
        Err(fault) => {
            let failure = TlsFailure::Handshake(HandshakeError::Certificate(fault));
            assert_eq!(
                refusal(target).await,
                UpstreamError::Tls(failure),
                "{mode:?} {host}"
            );
        }
    }
}

const ANY: Outcome = Ok(());
const OTHER_HOST: Outcome = Err(CertificateFault::OtherHost);
const UNKNOWN: Outcome = Err(CertificateFault::UnknownIssuer);

#[test]
fn a_certificate_for_the_name_is_not_for_the_address() {
    let authority = Authority::new("test");
    check(Case {
        certified: authority.server(&["localhost"]),
        roots: authority.certificate_pem,
        by_name: [ANY, ANY, ANY],
        by_address: [ANY, ANY, OTHER_HOST],
    });
}

#[test]
fn a_certificate_for_the_address_is_not_for_the_name() {
    let authority = Authority::new("test");
    check(Case {
        certified: authority.server(&["127.0.0.1"]),
        roots: authority.certificate_pem,
        by_name: [ANY, ANY, OTHER_HOST],
        by_address: [ANY, ANY, ANY],
    });
}

#[test]
fn a_common_name_is_no_subject_alternative_name() {
    let authority = Authority::new("test");
    check(Case {
        certified: authority.server_with_common_name("localhost"),
        roots: authority.certificate_pem,
        by_name: [ANY, ANY, OTHER_HOST],
        by_address: [ANY, ANY, OTHER_HOST],
    });
}

#[test]
fn an_address_written_as_a_dns_name_is_not_that_address() {
    let authority = Authority::new("test");
    check(Case {
        certified: authority.server_with_dns_names(&["127.0.0.1"]),
        roots: authority.certificate_pem,
        by_name: [ANY, ANY, OTHER_HOST],
        by_address: [ANY, ANY, OTHER_HOST],
    });
}

#[test]
fn another_authoritys_certificate_passes_only_where_nothing_is_verified() {
    check(Case {
        certified: Authority::new("other").server(&["localhost", "127.0.0.1"]),
        roots: Authority::new("test").certificate_pem,
        by_name: [ANY, UNKNOWN, UNKNOWN],
        by_address: [ANY, UNKNOWN, UNKNOWN],
    });
}

#[test]
fn an_expired_certificate_passes_only_where_nothing_is_verified() {
    let authority = Authority::new("test");
    let expired = Err(CertificateFault::Expired);
    check(Case {
        certified: authority.expired_server(&["localhost", "127.0.0.1"]),
        roots: authority.certificate_pem,
        by_name: [ANY, expired, expired],
        by_address: [ANY, expired, expired],
    });
}

#[test]
fn a_client_certificate_does_not_speak_for_a_server() {
    let authority = Authority::new("test");
    let purpose = Err(CertificateFault::Purpose);
    check(Case {
        certified: authority.client("localhost"),
        roots: authority.certificate_pem,
        by_name: [ANY, purpose, purpose],
        by_address: [ANY, purpose, purpose],
    });
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_listed_itself() {
    let own = Authority::self_signed_server(&["localhost"], false);
    check(Case {
        roots: own.chain_pem.clone(),
        certified: own,
        by_name: [ANY, ANY, ANY],
        by_address: [ANY, ANY, OTHER_HOST],
    });
    // Nobody is an authority for being listed under the same name with another key.
    check(Case {
        roots: Authority::self_signed_server(&["localhost"], false).chain_pem,
        certified: Authority::self_signed_server(&["localhost"], false),
        by_name: [
            ANY,
            Err(CertificateFault::Unusable),
            Err(CertificateFault::Unusable),
        ],
        by_address: [
            ANY,
            Err(CertificateFault::Unusable),
            Err(CertificateFault::Unusable),
        ],
    });
    let own = Authority::self_signed_server(&["localhost"], true);
    let expired = Err(CertificateFault::Expired);
    check(Case {
        roots: own.chain_pem.clone(),
        certified: own,
        by_name: [ANY, expired, expired],
        by_address: [ANY, expired, expired],
    });
}

#[test]
fn a_server_without_tls_is_not_spoken_to_in_clear() {
    let server = Server::start(Options::default());
    let roots = Roots::from_pem(Authority::new("test").certificate_pem.as_bytes()).unwrap();
    on_shard(async move || {
        for mode in MODES {
            let tls = Tls::new(mode, &roots, None).unwrap();
            let target = target(loopback(server.port()), account(SUPERUSER, None, tls));
            assert_eq!(
                refusal(target).await,
                UpstreamError::Tls(TlsFailure::NotOffered)
            );
        }
    });
}

#[test]
fn certificates_that_cannot_work_are_refused_when_configured() {
    let authority = Authority::new("test");
    let roots = Roots::from_pem(authority.certificate_pem.as_bytes()).unwrap();
    let one = authority.client("one");
    let other = authority.client("other");
    let key = |pem: &str| Secret::new(pem.into());

    let certificate = ClientCertificate::from_pem(one.chain_pem.as_bytes(), &key(&one.key_pem));
    let certificate = certificate.unwrap();
    assert!(Tls::new(TlsMode::Require, &roots, Some(&certificate)).is_ok());
    let error = Tls::new(TlsMode::Disable, &roots, Some(&certificate)).err();
    assert_eq!(error, Some(TlsSetupError::CertificateWithoutTls));

    let mismatched = ClientCertificate::from_pem(one.chain_pem.as_bytes(), &key(&other.key_pem));
    let error = Tls::new(TlsMode::Require, &roots, Some(&mismatched.unwrap())).err();
    assert_eq!(error, Some(TlsSetupError::UnusableKey));

    let keyless = ClientCertificate::from_pem(one.chain_pem.as_bytes(), &key(&one.chain_pem));
    assert_eq!(keyless.err(), Some(TlsSetupError::NoPrivateKey));
    assert_eq!(
        Roots::from_pem(b"").err(),
        Some(TlsSetupError::NoCertificate)
    );
    assert_eq!(
        Roots::from_pem(one.key_pem.as_bytes()).err(),
        Some(TlsSetupError::NoCertificate)
    );
}
