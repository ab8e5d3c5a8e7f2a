//! What came of checking a target, in an operator's words and with what helps.
//!
//! The words are ours: of what a server says only its version and its SQLSTATE get here.

use std::io;

use runtime::transport::{CertificateFault, HandshakeError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::telemetry::chain;
use crate::upstream::{
    AccountCheck, Address, AuthenticationFailure, Host, Phase, TargetSettings, TlsFailure,
    UpstreamError,
};

/// What came of one account of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountChecked {
    pub user: String,
    pub database: String,
    /// What the server says of itself. Absent: the account could not log in.
    pub version: Option<String>,
    pub tls: bool,
    /// Why it could not log in.
    pub problem: Option<String>,
    /// What helps, mostly a command.
    pub advice: Option<String>,
}

/// The checks of one target, for people and programs.
pub(crate) fn checked(target: &TargetSettings, checks: Vec<AccountCheck>) -> Vec<AccountChecked> {
    let checks = checks.into_iter().map(|check| match check.outcome {
        Ok(reached) => AccountChecked {
            user: check.user,
            database: check.database,
            version: Some(reached.version),
            tls: reached.tls,
            problem: None,
            advice: None,
        },
        Err(error) => AccountChecked {
            advice: Some(advice(target, &check.user, &check.database, &error)),
            user: check.user,
            database: check.database,
            version: None,
            tls: false,
            problem: Some(chain(&error)),
        },
    });
    checks.collect()
}

fn advice(target: &TargetSettings, user: &str, database: &str, error: &UpstreamError) -> String {
    let name = &target.name;
    match error {
        UpstreamError::Unresolved => {
            let names = target.addresses.iter().filter_map(|address| match address {
                Address::Tcp {
                    host: Host::Name(name),
                    ..
                } => Some(name.as_str()),
                Address::Tcp { .. } | Address::Unix(_) => None,
            });
            let names: Vec<&str> = names.collect();
            format!(
                "`getent hosts {}` must print an address on this machine",
                names.join(" ")
            )
        }
        UpstreamError::Unreachable { kind } => unreachable(target, *kind),
        UpstreamError::WrongRole => "`target_session_attrs` asks for a role that no server at \
             `address` has: `select pg_is_in_recovery()` says of a server which one it has"
            .to_owned(),
        UpstreamError::TimedOut { phase } => match phase {
            Phase::Connect => {
                "no answer: a firewall may drop it, or the address is wrong".to_owned()
            }
            Phase::Resolve => "the name server does not answer; `resolvectl status` or \
                 /etc/resolv.conf say which one is asked"
                .to_owned(),
            Phase::Tls
            | Phase::Authentication
            | Phase::Startup
            | Phase::Attribution
            | Phase::Session
            | Phase::Reset
            | Phase::Catalogue
            | Phase::Estimate
            | Phase::Cancel => "the server accepts connections and is slow to answer; \
                 `pool.connect_deadline` gives it longer"
                .to_owned(),
        },
        UpstreamError::Refused { sqlstate, .. } => refused(name, user, database, sqlstate.as_str()),
        UpstreamError::AuthenticationFailed(failure) => authentication(name, user, *failure),
        UpstreamError::Tls(failure) => tls(target, failure),
        UpstreamError::Lost { .. } => "the log of the server says why it closed the connection; \
             something else than PostgreSQL may listen there"
            .to_owned(),
        UpstreamError::Protocol { .. } => {
            "what listens there does not speak PostgreSQL as servers do; is the port right?"
                .to_owned()
        }
        UpstreamError::QueueTimedOut | UpstreamError::QueueFull => {
            "all connections are taken; `pool.connections` allows more".to_owned()
        }
        UpstreamError::Draining => "the appliance is stopping; try again".to_owned(),
    }
}

fn unreachable(target: &TargetSettings, kind: io::ErrorKind) -> String {
    let socket = target.addresses.iter().find_map(|address| match address {
        Address::Unix(path) => Some(path.display()),
        Address::Tcp { .. } => None,
    });
    match (kind, socket) {
        (io::ErrorKind::NotFound, Some(path)) => format!(
            "there is no socket {path}: is PostgreSQL running, and is that below its \
             `unix_socket_directories`?"
        ),
        (io::ErrorKind::PermissionDenied, Some(path)) => format!(
            "the user of the appliance may not use {path}: `unix_socket_permissions` of the server, \
             or the modes of the directories above (`namei -l {path}`)"
        ),
        (io::ErrorKind::ConnectionRefused, _) => "nothing listens there: is PostgreSQL running, \
             and does its `listen_addresses` name the address? `ss -ltn` on the server shows it"
            .to_owned(),
        (_, _) => "this machine has no way there: `ip route get ADDRESS` says which it would take"
            .to_owned(),
    }
}

fn refused(target: &str, user: &str, database: &str, sqlstate: &str) -> String {
    match sqlstate {
        "28P01" => format!(
            "the password is not that of the role {user}: correct it where `password` of the target \
             {target} points, or at the server `ALTER ROLE \"{user}\" PASSWORD ...`; then \
             `sallyport reload`"
        ),
        "28000" => format!(
            "the server has no role {user} that may log in, or pg_hba.conf has no line for it: \
             `host {database} {user} ADDRESS/32 scram-sha-256` with the address of this machine, \
             then `select pg_reload_conf()`"
        ),
        "3D000" => format!(
            "the server has no database {database}: `database` of the target {target} names \
             another, or `CREATE DATABASE`"
        ),
        "42501" => {
            format!("at the server `GRANT CONNECT ON DATABASE \"{database}\" TO \"{user}\"`")
        }
        "53300" => {
            "the server has no connection left: `max_connections` there, `pool.connections` \
             and `pool.warm` here"
                .to_owned()
        }
        "57P03" => "the server is starting or stopping; try again".to_owned(),
        _ => "the log of the server says why".to_owned(),
    }
}

fn authentication(target: &str, user: &str, failure: AuthenticationFailure) -> String {
    match failure {
        AuthenticationFailure::NoPassword => format!(
            "the target {target} needs a `password`: `credential:NAME`, `file:PATH`, or `sallyport \
             targets add {target} ... --password-stdin --replace`"
        ),
        AuthenticationFailure::CleartextWithoutTls => "the server asks for the password in clear: \
             `scram-sha-256` in its pg_hba.conf, or TLS (`tls` of the target)"
            .to_owned(),
        AuthenticationFailure::UnsupportedMethod => format!(
            "pg_hba.conf of the server has another method for {user} than scram-sha-256, md5, \
             password, cert or trust"
        ),
        AuthenticationFailure::ChannelBindingNotOffered
        | AuthenticationFailure::ChannelBindingUnavailable => {
            "`channel_binding = \"prefer\"`, or TLS and a certificate at the server that SCRAM can be \
             bound to"
                .to_owned()
        }
        AuthenticationFailure::Scram | AuthenticationFailure::KeyDerivation => {
            "something else than PostgreSQL may answer there".to_owned()
        }
        AuthenticationFailure::ServerSignature => format!(
            "whoever answers there does not know the password of {user}: it may not be the server \
             that you mean"
        ),
    }
}

fn tls(target: &TargetSettings, failure: &TlsFailure) -> String {
    let place = target.addresses.iter().find_map(|address| match address {
        Address::Tcp {
            host: Host::Name(name),
            port,
        } => Some(format!("{name}:{port}")),
        Address::Tcp {
            host: Host::Ip(ip),
            port,
        } => Some(format!("{ip}:{port}")),
        Address::Unix(_) => None,
    });
    let place = place.unwrap_or_default();
    let look = format!(
        "`openssl s_client -starttls postgres -connect {place} </dev/null | openssl x509 -noout -text` \
         shows its certificate"
    );
    match failure {
        TlsFailure::NotOffered => "`ssl = on` at the server; or `tls = \"disable\"` of the target \
             where nobody can listen on the way"
            .to_owned(),
        TlsFailure::HostNotVerifiable => {
            "`address` has to be the name or the address in the server's certificate".to_owned()
        }
        TlsFailure::Handshake(HandshakeError::Certificate(fault)) => match fault {
            CertificateFault::UnknownIssuer => format!(
                "`tls_roots` of the target names the certificate of the authority that signed the \
                 server's; {look}"
            ),
            CertificateFault::OtherHost => {
                format!("`address` has to be a name in the server's certificate; {look}")
            }
            CertificateFault::Expired | CertificateFault::NotYetValid => format!(
                "the server needs another certificate, or this machine's clock is wrong \
                 (`timedatectl`); {look}"
            ),
            CertificateFault::Revoked
            | CertificateFault::Purpose
            | CertificateFault::Missing
            | CertificateFault::Unusable => format!("the server needs another certificate; {look}"),
        },
        TlsFailure::Handshake(HandshakeError::Alert { .. }) => {
            "the server did not take what it was \
             shown: it may want a `client_certificate`"
                .to_owned()
        }
        TlsFailure::Handshake(
            HandshakeError::EarlyBytes { .. }
            | HandshakeError::TooLong { .. }
            | HandshakeError::TimedOut
            | HandshakeError::Ended
            | HandshakeError::Connection { .. }
            | HandshakeError::NoProtocol
            | HandshakeError::NotAcceptable,
        ) => format!("TLS 1.2 or newer is needed; {look}"),
    }
}
