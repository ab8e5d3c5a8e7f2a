//! A server that means harm: wrong lengths, endless messages, silence.

use std::time::Duration;

use codecs::postgres::DecodeError;
use codecs::postgres::TransactionStatus;
use codecs::postgres::backend::{
    encode_authentication_ok, encode_authentication_sasl_continue, encode_command_complete,
    encode_ready_for_query,
};
use loadgen::protocols::{Failed, Phase, Request, Session};
use runtime::{ListenAddress, Listener, Stream};

use super::{agent, on_a_shard, soon, try_open};

/// Says one part of `script` to each message of whoever connects, and then what `then` has, again
/// and again, without reading.
fn scripted(script: Vec<Vec<u8>>, then: &'static [u8]) -> u16 {
    let loopback = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let mut listener = Listener::bind(&loopback).unwrap();
    let ListenAddress::Tcp(address) = listener.local_address().clone() else {
        panic!("a Unix listener")
    };
    runtime::spawn(async move {
        let mut stream = listener.accept().await.unwrap();
        for part in script {
            stream.recv(soon()).await.unwrap();
            stream.append(&part);
            stream.flush(soon()).await.unwrap();
        }
        say_again_and_again(&mut stream, then).await;
        // Silence, until the other side has had enough.
        while let Ok(Some(_)) = stream.recv(soon()).await {}
    });
    address.port()
}

async fn say_again_and_again(stream: &mut Stream, then: &[u8]) {
    let many = then.repeat(64 * 1024 / then.len().max(1));
    // Ends when the other side does.
    while stream.flush(soon()).await.is_ok() && !many.is_empty() {
        stream.append(&many);
    }
}

/// Up to the first ReadyForQuery.
fn welcome() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_authentication_ok(&mut bytes).unwrap();
    encode_ready_for_query(&mut bytes, TransactionStatus::Idle).unwrap();
    bytes
}

async fn login(script: Vec<u8>, then: &'static [u8]) -> Result<Session, Failed> {
    let port = scripted(vec![script], then);
    let target = std::sync::Arc::new(super::on_port(port));
    let dialer = loadgen::protocols::Dialer::new(target);
    let deadline = runtime::now() + Duration::from_millis(500);
    dialer.open(&agent("ada", "secret"), deadline).await
}

async fn answer(script: &[u8], then: &'static [u8]) -> Failed {
    let port = scripted(vec![welcome(), script.to_vec()], then);
    let target = super::on_port(port);
    let mut session = try_open(&target, &agent("ada", "")).await.unwrap();
    let request = Request::simple("SELECT 1").unwrap();
    let deadline = runtime::now() + Duration::from_millis(500);
    session.exchange(&request, deadline).await.unwrap_err()
}

#[test]
fn lengths_are_not_believed() {
    on_a_shard(|| async {
        for (message, expected) in [
            (&b"D\xff\xff\xff\xff"[..], "impossible"),
            (b"D\0\0\0\x03", "impossible"),
            (b"D\x7f\xff\xff\xff", "too long"),
            (b"T\x7f\xff\xff\xff", "too long"),
            (b"E\0\x20\0\0", "too long"),
            (b"?\0\0\0\x04", "unknown"),
        ] {
            let failed = answer(message, b"").await;
            let kind = match failed {
                Failed::Malformed(DecodeError::ImpossibleLength { .. }) => "impossible",
                Failed::Malformed(DecodeError::TooLong { .. }) => "too long",
                Failed::Malformed(DecodeError::UnknownTag { .. }) => "unknown",
                other => panic!("{other} for {message:?}"),
            };
            assert_eq!(kind, expected, "{message:?}");
        }
    });
}

#[test]
fn silence_ends_with_patience_in_every_phase() {
    on_a_shard(|| async {
        let phase = Phase::Authentication;
        assert_eq!(
            login(Vec::new(), b"").await.err(),
            Some(Failed::TimedOut { phase })
        );
        let half = b"R\0\0\0".to_vec();
        assert_eq!(
            login(half, b"").await.err(),
            Some(Failed::TimedOut { phase })
        );
        let phase = Phase::Request;
        assert_eq!(answer(b"", b"").await, Failed::TimedOut { phase });
        assert_eq!(
            answer(b"D\0\0\x01\0abc", b"").await,
            Failed::TimedOut { phase }
        );
    });
}

#[test]
fn endless_messages_end_with_patience_too() {
    on_a_shard(|| async {
        let phase = Phase::Request;
        // Rows, notices, and one row of a gigabyte.
        for endless in [&b"D\0\0\0\x06\0\0"[..], b"N\0\0\0\x05\0"] {
            assert_eq!(answer(b"", endless).await, Failed::TimedOut { phase });
        }
        assert_eq!(
            answer(b"D\x3f\xff\xff\xff\0\x01\x3f\xff\xff\xf5", b"x").await,
            Failed::TimedOut { phase }
        );
        let failed = login(Vec::new(), b"N\0\0\0\x05\0").await.err();
        assert_eq!(failed, Some(Failed::TooManyMessages { limit: 1000 }));
    });
}

#[test]
fn what_cannot_come_is_refused() {
    on_a_shard(|| async {
        let mut challenge = Vec::new();
        encode_authentication_sasl_continue(&mut challenge, b"r=x,s=AAAA,i=4096").unwrap();
        let phase = Phase::Authentication;
        let out_of_sequence = Some(Failed::OutOfSequence { phase });
        assert_eq!(login(challenge, b"").await.err(), out_of_sequence);
        let mut ready = Vec::new();
        encode_ready_for_query(&mut ready, TransactionStatus::Idle).unwrap();
        assert_eq!(login(ready, b"").await.err(), out_of_sequence);
        let row = b"D\0\0\0\x06\0\0".to_vec();
        assert_eq!(login(row, b"").await.err(), out_of_sequence);

        let phase = Phase::Request;
        let mut welcome_back = Vec::new();
        encode_authentication_ok(&mut welcome_back).unwrap();
        assert_eq!(
            answer(&welcome_back, b"").await,
            Failed::OutOfSequence { phase }
        );
        assert_eq!(
            answer(b"G\0\0\0\x07\0\0\0", b"").await,
            Failed::OutOfSequence { phase },
            "nobody asked for a COPY"
        );
    });
}

#[test]
fn what_comes_before_a_request_is_no_answer_to_it() {
    on_a_shard(|| async {
        let phase = Phase::Request;
        for early in [welcome(), b"D\0\0\0\x06\0\0".to_vec()] {
            let port = scripted(vec![[welcome(), early].concat(), welcome()], b"");
            let target = super::on_port(port);
            let mut session = try_open(&target, &agent("ada", "")).await.unwrap();
            let request = Request::simple("SELECT 1").unwrap();
            let failed = session.exchange(&request, soon()).await.err();
            assert_eq!(failed, Some(Failed::OutOfSequence { phase }));
        }
    });
}

#[test]
fn what_a_server_writes_is_in_no_error() {
    on_a_shard(|| async {
        let mut planted = b"SFATAL\0VFATAL\0Cplant\0Mplanted\0\0".to_vec();
        let length = u32::try_from(planted.len() + 4).unwrap();
        planted.splice(0..0, length.to_be_bytes());
        planted.insert(0, b'E');
        let failed = answer(&planted, b"").await;
        assert_eq!(failed.label(), "sqlstate XX000");
        assert!(
            !format!("{failed} {failed:?}").contains("plant"),
            "{failed:?}"
        );
    });
}

#[test]
fn a_server_that_hangs_up_is_told_from_one_that_answers() {
    on_a_shard(|| async {
        let loopback = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let mut listener = Listener::bind(&loopback).unwrap();
        let ListenAddress::Tcp(address) = listener.local_address().clone() else {
            panic!("a Unix listener")
        };
        runtime::spawn(async move {
            let mut stream = listener.accept().await.unwrap();
            // The start-up packet.
            stream.recv(soon()).await.unwrap();
            stream.append(&welcome());
            stream.flush(soon()).await.unwrap();
            // The query: half of an answer, and the end.
            stream.recv(soon()).await.unwrap();
            let mut half = Vec::new();
            encode_command_complete(&mut half, b"SELECT 1").unwrap();
            stream.append(&half);
            stream.close_send();
            stream.flush(soon()).await.unwrap();
            while let Ok(Some(_)) = stream.recv(soon()).await {}
        });
        let target = super::on_port(address.port());
        let mut session = try_open(&target, &agent("ada", "")).await.unwrap();
        let request = Request::simple("SELECT 1").unwrap();
        let failed = session.exchange(&request, soon()).await.unwrap_err();
        let phase = Phase::Request;
        assert_eq!(failed, Failed::Closed { phase });
    });
}
