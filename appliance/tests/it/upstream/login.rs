//! Every way to log in, and what is refused although the server would have it.

use std::sync::Arc;

use appliance::config::Secret;
use appliance::upstream::{
    Account, AuthenticationFailure, ChannelBinding, ClientCertificate, Roots, TargetSettings, Tls,
    TlsMode, UpstreamError,
};
use rcgen::KeyPair;

use super::{
    account, lease, lease_with, loopback, parameter, pools, query, refusal, settings, soon, target,
    unix,
};
use crate::certificates::Authority;
use crate::postgres::{Options, Server, ServerTls};
use crate::shard::on_shard;

const HBA: [&str; 6] = [
    "host all trusted 127.0.0.1/32 trust",
    "host all md5 127.0.0.1/32 md5",
    "host all scram 127.0.0.1/32 scram-sha-256",
    "host all clear 127.0.0.1/32 password",
    "local all clear password",
    "hostssl all certified 127.0.0.1/32 cert map=agents",
];

const SETUP: &str = "
    create role trusted login;
    set password_encryption = 'md5';
    create role md5 login password 'pw-md5';
    set password_encryption = 'scram-sha-256';
    create role scram login password 'pw-scram ä';
    create role clear login password 'pw-clear';
    create role certified login;
";

struct Setting {
    server: Server,
    authority: Authority,
}

impl Setting {
    fn new() -> Self {
        Self::with_authority(Authority::new("test"))
    }

    fn with_authority(authority: Authority) -> Self {
        let certified = authority.server(&["127.0.0.1"]);
        let server = Server::start(Options {
            hba: HBA.map(String::from).into(),
            ident: vec!["agents sallyport.example certified".into()],
            tls: Some(ServerTls {
                chain_pem: certified.chain_pem,
                key_pem: certified.key_pem,
                client_roots_pem: Some(authority.certificate_pem.clone()),
            }),
            setup: SETUP.into(),
            ..Options::default()
        });
        Self { server, authority }
    }

    fn tls(&self, mode: TlsMode) -> Tls {
        let roots = Roots::from_pem(self.authority.certificate_pem.as_bytes()).unwrap();
        Tls::new(mode, &roots, None).unwrap()
    }

    fn target(&self, user: &str, password: Option<&str>, tls: Tls) -> TargetSettings {
        target(loopback(self.server.port()), account(user, password, tls))
    }

    fn target_that_requires_binding(&self, user: &str, password: &str) -> TargetSettings {
        let password = Some(Secret::new(password.into()));
        let tls = self.tls(TlsMode::VerifyFull);
        let account = Account::new(user.into(), password, ChannelBinding::Require, tls);
        target(loopback(self.server.port()), account)
    }
}

async fn check_user(target: TargetSettings, expected: &str) {
    let mut lease = lease(&pools(), &Arc::new(target)).await.unwrap();
    assert_eq!(
        query(&mut lease, "select session_user").await.unwrap(),
        expected
    );
}

fn failure(reason: AuthenticationFailure) -> UpstreamError {
    UpstreamError::AuthenticationFailed(reason)
}

fn sqlstate(error: &UpstreamError) -> &str {
    match error {
        UpstreamError::Refused { sqlstate, .. } => sqlstate.as_str(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_method_logs_in_with_and_without_tls() {
    let setting = Setting::new();
    on_shard(async move || {
        for tls in [Tls::disabled(), setting.tls(TlsMode::VerifyFull)] {
            let tls = || tls.clone();
            check_user(setting.target("trusted", None, tls()), "trusted").await;
            check_user(setting.target("md5", Some("pw-md5"), tls()), "md5").await;
            check_user(setting.target("scram", Some("pw-scram ä"), tls()), "scram").await;
        }
        let tls = setting.tls(TlsMode::VerifyFull);
        check_user(setting.target("clear", Some("pw-clear"), tls), "clear").await;
    });
}

#[test]
fn a_password_in_clear_needs_tls_or_a_unix_socket() {
    let setting = Setting::new();
    on_shard(async move || {
        let over_tcp = setting.target("clear", Some("pw-clear"), Tls::disabled());
        assert_eq!(
            refusal(over_tcp).await,
            failure(AuthenticationFailure::CleartextWithoutTls)
        );
        let clear = account("clear", Some("pw-clear"), Tls::disabled());
        check_user(target(unix(setting.server.socket_path()), clear), "clear").await;
    });
}

#[test]
fn a_client_certificate_logs_in_without_a_password() {
    let setting = Setting::new();
    let certified = setting.authority.client("sallyport.example");
    let key = Secret::new(certified.key_pem.into_bytes());
    let certificate = ClientCertificate::from_pem(certified.chain_pem.as_bytes(), &key).unwrap();
    let roots = Roots::from_pem(setting.authority.certificate_pem.as_bytes()).unwrap();
    let tls = Tls::new(TlsMode::VerifyFull, &roots, Some(&certificate)).unwrap();
    on_shard(async move || {
        check_user(setting.target("certified", None, tls), "certified").await;
        let without = setting.target("certified", None, setting.tls(TlsMode::VerifyFull));
        assert_eq!(sqlstate(&refusal(without).await), "28000");
    });
}

#[test]
fn a_wrong_password_is_the_servers_28p01_and_a_missing_one_is_ours() {
    let setting = Setting::new();
    on_shard(async move || {
        for user in ["md5", "scram"] {
            let wrong = setting.target(user, Some("wrong"), Tls::disabled());
            assert_eq!(sqlstate(&refusal(wrong).await), "28P01");
            let missing = setting.target(user, None, Tls::disabled());
            assert_eq!(
                refusal(missing).await,
                failure(AuthenticationFailure::NoPassword)
            );
        }
    });
}

#[test]
fn required_channel_binding_is_had_from_scram_over_tls_only() {
    let setting = Setting::new();
    on_shard(async move || {
        let scram = setting.target_that_requires_binding("scram", "pw-scram ä");
        check_user(scram, "scram").await;
        for (user, password) in [("md5", "pw-md5"), ("clear", "pw-clear"), ("trusted", "")] {
            let target = setting.target_that_requires_binding(user, password);
            let error = refusal(target).await;
            assert_eq!(
                error,
                failure(AuthenticationFailure::ChannelBindingNotOffered),
                "{user}"
            );
        }
    });
}

#[test]
fn channel_binding_hashes_by_the_certificates_own_algorithm() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let setting = Setting::with_authority(Authority::with_key("test", key));
    on_shard(async move || {
        let scram = setting.target_that_requires_binding("scram", "pw-scram ä");
        check_user(scram, "scram").await;
    });
}

#[test]
fn a_certificate_without_a_hash_does_without_binding_only_when_verified() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let setting = Setting::with_authority(Authority::with_key("test", key));
    on_shard(async move || {
        let scram = |tls| setting.target("scram", Some("pw-scram ä"), tls);
        check_user(scram(setting.tls(TlsMode::VerifyFull)), "scram").await;
        check_user(scram(setting.tls(TlsMode::VerifyCa)), "scram").await;
        assert_eq!(
            refusal(scram(setting.tls(TlsMode::Require))).await,
            failure(AuthenticationFailure::ChannelBindingUnavailable)
        );
        let required = setting.target_that_requires_binding("scram", "pw-scram ä");
        assert_eq!(
            refusal(required).await,
            failure(AuthenticationFailure::ChannelBindingNotOffered)
        );
    });
}

#[test]
fn settings_that_give_texts_another_meaning_are_overridden() {
    let setting = Setting::new();
    setting.server.psql(
        "alter role trusted set client_encoding = 'LATIN1';
         alter role trusted set standard_conforming_strings = off",
    );
    on_shard(async move || {
        let target = Arc::new(setting.target("trusted", None, Tls::disabled()));
        let pools = pools();
        let mut lease = lease(&pools, &target).await.unwrap();
        assert_eq!(parameter(lease.parameters(), "client_encoding"), "UTF8");
        assert_eq!(
            parameter(lease.parameters(), "standard_conforming_strings"),
            "on"
        );
        query(&mut lease, "reset all").await.unwrap();
        assert_eq!(
            query(&mut lease, "show client_encoding").await.unwrap(),
            "UTF8"
        );
        assert_eq!(
            query(&mut lease, "show standard_conforming_strings")
                .await
                .unwrap(),
            "on"
        );
    });
}

#[test]
fn a_sessions_settings_are_what_reset_returns_to() {
    let setting = Setting::new();
    on_shard(async move || {
        let target = Arc::new(setting.target("trusted", None, Tls::disabled()));
        let pools = pools();
        let wanted = settings(&[("DateStyle", "German"), ("statement_timeout", "12345")]);
        let mut lease = lease_with(&pools, &target, &wanted, soon()).await.unwrap();
        assert_eq!(parameter(lease.parameters(), "DateStyle"), "German, DMY");
        query(&mut lease, "set statement_timeout = 1000")
            .await
            .unwrap();
        query(&mut lease, "reset all").await.unwrap();
        assert_eq!(
            query(&mut lease, "show statement_timeout").await.unwrap(),
            "12345ms"
        );
        drop(lease);

        let unknown = settings(&[("no_such_setting", "1")]);
        let Err(error) = lease_with(&pools, &target, &unknown, soon()).await else {
            panic!("the lease was given");
        };
        assert_eq!(sqlstate(&error), "42704");
        assert!(
            super::lease(&pools, &target).await.is_ok(),
            "others are not affected"
        );
    });
}
