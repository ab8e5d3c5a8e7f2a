//! Servers that lie, stall or flood: each is refused for what it did, in bounded time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use appliance::upstream::{
    AuthenticationFailure, Outcome, Phase, PoolSettings, Roots, SqlState, TargetSettings, Tls,
    TlsFailure, TlsMode, UpstreamError, Violation,
};
use codecs::postgres::backend::{
    Report, Severity, TransactionStatus, encode_authentication_cleartext_password,
    encode_authentication_md5_password, encode_authentication_ok, encode_authentication_sasl,
    encode_authentication_sasl_continue, encode_authentication_sasl_final, encode_backend_key_data,
    encode_command_complete, encode_data_row, encode_parameter_status, encode_ready_for_query,
};
use codecs::postgres::{EncodeError, backend};
use runtime::transport::HandshakeError;

use super::{account, lease, loopback, named, pools, refusal, target, until};
use crate::certificates::Authority;
use crate::shard::on_shard;

const SERVER_PATIENCE: Duration = Duration::from_secs(20);

/// What a scripted server does on a connection.
struct Peer(TcpStream);

impl Peer {
    /// Reads an untyped packet: StartupMessage or SSLRequest.
    fn packet(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        self.body(length)
    }

    /// Reads a typed message; its body.
    fn message(&mut self, tag: u8) -> Vec<u8> {
        let mut header = [0; 5];
        self.0.read_exact(&mut header).unwrap();
        assert_eq!(header[0], tag);
        self.body([header[1], header[2], header[3], header[4]])
    }

    fn body(&mut self, length: [u8; 4]) -> Vec<u8> {
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
        self.0.read_exact(&mut body).unwrap();
        body
    }

    fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) {
        let mut bytes = Vec::new();
        encode(&mut bytes).unwrap();
        self.raw(&bytes);
    }

    /// Whoever we lie to may hang up before we are done.
    fn raw(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Keeps the connection until the other side ends it.
    fn wait_for_end(mut self) {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
    }

    fn log_in(&mut self) {
        self.packet();
        self.send(encode_authentication_ok);
    }

    fn settings(&mut self) {
        self.send(|out| encode_parameter_status(out, b"client_encoding", b"UTF8"));
        self.send(|out| encode_parameter_status(out, b"standard_conforming_strings", b"on"));
        self.send(|out| encode_backend_key_data(out, 1, b"1234"));
    }

    fn ready(&mut self) {
        self.send(|out| encode_ready_for_query(out, TransactionStatus::Idle));
    }

    /// The StartupMessage is answered by SCRAM; returns the client's nonce.
    fn scram(&mut self) -> String {
        self.packet();
        self.send(|out| encode_authentication_sasl(out, &["SCRAM-SHA-256"]));
        let initial = self.message(b'p');
        let initial = String::from_utf8_lossy(&initial).into_owned();
        initial.split("r=").nth(1).unwrap().to_owned()
    }

    fn challenge(&mut self, nonce: &str, iterations: &str) {
        let challenge = format!("r={nonce}server,s=c2FsdA==,i={iterations}");
        self.send(|out| encode_authentication_sasl_continue(out, challenge.as_bytes()));
    }
}

/// Serves connections one after another, by one script each; the port.
fn serve<const N: usize>(scripts: [Box<dyn FnOnce(Peer) + Send>; N]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for script in scripts {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(SERVER_PATIENCE)).unwrap();
            stream.set_write_timeout(Some(SERVER_PATIENCE)).unwrap();
            script(Peer(stream));
        }
    });
    port
}

fn plain(port: u16) -> TargetSettings {
    target(
        loopback(port),
        account("svc", Some("secret"), Tls::disabled()),
    )
}

fn encrypted(port: u16) -> TargetSettings {
    let roots = Roots::from_pem(Authority::new("test").certificate_pem.as_bytes()).unwrap();
    let tls = Tls::new(TlsMode::Require, &roots, None).unwrap();
    target(loopback(port), account("svc", Some("secret"), tls))
}

fn check(script: impl FnOnce(Peer) + Send + 'static, expected: UpstreamError) {
    check_target(plain, script, expected);
}

fn check_tls(script: impl FnOnce(Peer) + Send + 'static, expected: UpstreamError) {
    check_target(encrypted, script, expected);
}

fn check_target(
    target: fn(u16) -> TargetSettings,
    script: impl FnOnce(Peer) + Send + 'static,
    expected: UpstreamError,
) {
    let port = serve([Box::new(script)]);
    on_shard(async move || assert_eq!(refusal(target(port)).await, expected));
}

fn violation(phase: Phase, violation: Violation) -> UpstreamError {
    UpstreamError::Protocol { phase, violation }
}

fn failure(reason: AuthenticationFailure) -> UpstreamError {
    UpstreamError::AuthenticationFailed(reason)
}

fn lost(phase: Phase) -> UpstreamError {
    UpstreamError::Lost { phase }
}

#[test]
fn iteration_counts_out_of_bounds_are_not_computed() {
    for iterations in ["4294967295", "600001", "4095", "1", "-1", "x"] {
        check(
            move |mut peer| {
                let nonce = peer.scram();
                peer.challenge(&nonce, iterations);
                peer.wait_for_end();
            },
            failure(AuthenticationFailure::Scram),
        );
    }
}

#[test]
fn a_server_that_does_not_know_the_password_is_not_believed() {
    check(
        |mut peer| {
            let nonce = peer.scram();
            peer.challenge(&nonce, "4096");
            peer.message(b'p');
            let signature = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
            peer.send(|out| encode_authentication_sasl_final(out, signature));
            peer.send(encode_authentication_ok);
            peer.wait_for_end();
        },
        failure(AuthenticationFailure::ServerSignature),
    );
}

#[test]
fn scram_is_not_cut_short() {
    let out_of_sequence = violation(Phase::Authentication, Violation::OutOfSequence);
    check(
        |mut peer| {
            let nonce = peer.scram();
            peer.challenge(&nonce, "4096");
            peer.message(b'p');
            peer.send(encode_authentication_ok);
            peer.wait_for_end();
        },
        out_of_sequence.clone(),
    );
    check(
        |mut peer| {
            peer.scram();
            peer.send(encode_authentication_ok);
            peer.wait_for_end();
        },
        out_of_sequence.clone(),
    );
    check(
        |mut peer| {
            peer.scram();
            peer.send(encode_authentication_cleartext_password);
            peer.wait_for_end();
        },
        out_of_sequence,
    );
}

#[test]
fn a_second_request_for_a_password_is_not_answered() {
    check(
        |mut peer| {
            peer.packet();
            peer.send(|out| encode_authentication_md5_password(out, *b"salt"));
            peer.message(b'p');
            peer.send(|out| encode_authentication_md5_password(out, *b"tlas"));
            peer.wait_for_end();
        },
        violation(Phase::Authentication, Violation::OutOfSequence),
    );
}

#[test]
fn methods_that_we_do_not_speak_are_refused() {
    let unsupported = failure(AuthenticationFailure::UnsupportedMethod);
    for code in [2_u32, 7, 9] {
        check(
            move |mut peer| {
                peer.packet();
                peer.raw(&[b'R', 0, 0, 0, 8]);
                peer.raw(&code.to_be_bytes());
                peer.wait_for_end();
            },
            unsupported.clone(),
        );
    }
    check(
        |mut peer| {
            peer.packet();
            peer.send(|out| encode_authentication_sasl(out, &["OAUTHBEARER"]));
            peer.wait_for_end();
        },
        unsupported,
    );
}

#[test]
fn announced_lengths_are_not_waited_for() {
    for tag in [b'N', b'E', b'S', b'R', b'K', b'D'] {
        check(
            move |mut peer| {
                peer.packet();
                peer.raw(&[tag, 0x3f, 0xff, 0xff, 0xff]);
                peer.wait_for_end();
            },
            violation(Phase::Authentication, Violation::TooLong),
        );
    }
}

#[test]
fn floods_of_small_messages_end() {
    let report = Report::new(Severity::Notice, backend::SqlState::new(b"00000"), "x");
    check(
        move |mut peer| {
            peer.packet();
            for _ in 0..1001 {
                peer.send(|out| report.encode_notice(out));
            }
            peer.wait_for_end();
        },
        violation(Phase::Authentication, Violation::TooManyMessages),
    );
    check(
        |mut peer| {
            peer.log_in();
            for number in 0..65 {
                peer.send(|out| encode_parameter_status(out, format!("s{number}").as_bytes(), b""));
            }
            peer.wait_for_end();
        },
        violation(Phase::Startup, Violation::TooManyMessages),
    );
}

#[test]
fn a_silent_server_costs_the_connect_deadline() {
    let impatient = |target: TargetSettings| TargetSettings {
        pool: PoolSettings {
            connect_deadline: Duration::from_millis(500),
            ..target.pool
        },
        ..target
    };
    type Case = (fn(Peer), fn(u16) -> TargetSettings, Phase);
    let silent: [Case; 4] = [
        (Peer::wait_for_end, plain, Phase::Authentication),
        (Peer::wait_for_end, encrypted, Phase::Tls),
        (
            |mut peer| {
                peer.packet();
                peer.raw(b"S");
                peer.wait_for_end();
            },
            encrypted,
            Phase::Tls,
        ),
        (
            |mut peer| {
                peer.log_in();
                peer.raw(b"Z\0\0\0");
                peer.wait_for_end();
            },
            plain,
            Phase::Startup,
        ),
    ];
    for (script, target, phase) in silent {
        let port = serve([Box::new(script)]);
        on_shard(async move || {
            let error = refusal(impatient(target(port))).await;
            assert_eq!(error, UpstreamError::TimedOut { phase });
        });
    }
}

#[test]
fn a_server_that_hangs_up_is_lost_where_it_did() {
    check(|mut peer| drop(peer.packet()), lost(Phase::Authentication));
    check(|mut peer| drop(peer.scram()), lost(Phase::Authentication));
    check(|mut peer| peer.log_in(), lost(Phase::Startup));
    check_tls(|mut peer| drop(peer.packet()), lost(Phase::Tls));
    check(
        |mut peer| {
            peer.log_in();
            peer.settings();
            peer.ready();
            peer.message(b'Q');
        },
        lost(Phase::Attribution),
    );
}

#[test]
fn bytes_before_the_tls_handshake_are_not_read_after_it() {
    check_tls(
        |mut peer| {
            peer.packet();
            peer.raw(b"SR\0\0\0\x08\0\0\0\0");
            peer.wait_for_end();
        },
        UpstreamError::Tls(TlsFailure::Handshake(HandshakeError::EarlyBytes {
            count: 9,
        })),
    );
}

#[test]
fn what_is_not_tls_is_no_handshake() {
    check_tls(
        |mut peer| {
            peer.packet();
            peer.raw(b"S");
            let mut hello = [0; 64];
            peer.0.read_exact(&mut hello).unwrap();
            peer.raw(b"R\0\0\0\x08\0\0\0\0");
            peer.wait_for_end();
        },
        UpstreamError::Tls(TlsFailure::Handshake(HandshakeError::NotAcceptable)),
    );
}

#[test]
fn an_error_in_clear_is_not_the_servers_word() {
    let report = Report::fatal(backend::SqlState::new(b"28000"), "injected");
    check_tls(
        move |mut peer| {
            peer.packet();
            peer.send(|out| report.encode_error(out));
            peer.wait_for_end();
        },
        violation(Phase::Tls, Violation::OutOfSequence),
    );
    check_tls(
        |mut peer| {
            peer.packet();
            peer.raw(b"N");
            peer.wait_for_end();
        },
        UpstreamError::Tls(TlsFailure::NotOffered),
    );
}

#[test]
fn only_the_sqlstate_of_an_error_is_kept_and_only_if_it_is_one() {
    for (code, expected) in [
        (
            b"53300",
            UpstreamError::Refused {
                phase: Phase::Authentication,
                sqlstate: SqlState::from_wire(b"53300").unwrap(),
            },
        ),
        (
            b"x'; -",
            violation(Phase::Authentication, Violation::Malformed),
        ),
    ] {
        check(
            move |mut peer| {
                peer.packet();
                let report = Report::fatal(backend::SqlState::new(code), "planted-secret");
                peer.send(|out| report.encode_error(out));
                peer.wait_for_end();
            },
            expected,
        );
    }
}

#[test]
fn a_start_up_that_ends_wrongly_is_not_used() {
    let out_of_sequence = violation(Phase::Startup, Violation::OutOfSequence);
    check(
        |mut peer| {
            peer.log_in();
            peer.settings();
            peer.send(|out| encode_ready_for_query(out, TransactionStatus::InTransaction));
            peer.wait_for_end();
        },
        out_of_sequence.clone(),
    );
    check(
        |mut peer| {
            peer.log_in();
            peer.settings();
            peer.send(|out| encode_data_row(out, &[Some(b"1")]));
            peer.wait_for_end();
        },
        out_of_sequence.clone(),
    );
    check(
        |mut peer| {
            peer.log_in();
            peer.settings();
            peer.send(|out| encode_backend_key_data(out, 2, b"5678"));
            peer.wait_for_end();
        },
        out_of_sequence,
    );
    check(
        |mut peer| {
            peer.log_in();
            peer.settings();
            peer.send(|out| encode_parameter_status(out, b"client_encoding", b"LATIN1"));
            peer.ready();
            peer.wait_for_end();
        },
        violation(Phase::Startup, Violation::UnsafeSettings),
    );
}

#[test]
fn an_attribution_that_is_not_confirmed_is_no_lease() {
    check(
        |mut peer| {
            peer.log_in();
            peer.settings();
            peer.ready();
            peer.message(b'Q');
            peer.send(|out| encode_command_complete(out, b"SET"));
            peer.ready();
            peer.wait_for_end();
        },
        violation(Phase::Attribution, Violation::OutOfSequence),
    );
    let report = Report::error(backend::SqlState::new(b"22P05"), "untranslatable");
    check(
        move |mut peer| {
            peer.log_in();
            peer.settings();
            peer.ready();
            peer.message(b'Q');
            peer.send(|out| report.encode_error(out));
            peer.wait_for_end();
        },
        UpstreamError::Refused {
            phase: Phase::Attribution,
            sqlstate: SqlState::from_wire(b"22P05").unwrap(),
        },
    );
}

#[test]
fn a_connection_that_speaks_unasked_is_not_handed_out_again() {
    let honest = |peer: &mut Peer| {
        peer.log_in();
        peer.settings();
        peer.ready();
        peer.message(b'Q');
        peer.send(|out| encode_command_complete(out, b"SET"));
        peer.send(|out| encode_command_complete(out, b"SET"));
        peer.ready();
    };
    let port = serve([
        Box::new(move |mut peer| {
            honest(&mut peer);
            peer.message(b'Q');
            peer.send(|out| encode_command_complete(out, b"DISCARD ALL"));
            peer.ready();
            // The next session would take it for the answer to its own question.
            peer.send(|out| encode_data_row(out, &[Some(b"planted")]));
            peer.wait_for_end();
        }),
        Box::new(move |mut peer| {
            honest(&mut peer);
            peer.wait_for_end();
        }),
    ]);
    on_shard(async move || {
        let (pools, target) = (pools(), Arc::new(plain(port)));
        lease(&pools, &target).await.unwrap().finish(Outcome::Clean);
        until(|| pools.status().iter().all(|status| status.open == 0)).await;
        assert!(lease(&pools, &target).await.is_ok());
    });
}

#[test]
fn a_host_name_is_looked_up() {
    // Where `localhost` is ::1 as well, nobody listens there.
    let port = serve([Box::new(|mut peer| drop(peer.packet()))]);
    on_shard(async move || {
        let target = TargetSettings {
            addresses: vec![named("localhost", port)],
            ..plain(port)
        };
        assert_eq!(refusal(target).await, lost(Phase::Authentication));
        let target = TargetSettings {
            addresses: vec![named("nobody.invalid", port)],
            ..plain(port)
        };
        assert_eq!(refusal(target).await, UpstreamError::Unresolved);
    });
}
