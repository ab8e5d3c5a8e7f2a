//! Damaged streams: whatever changes, decoding ends in an error or goes on, within its bounds.

use codecs::Limits;
use codecs::postgres::startup::decode_startup;
use codecs::postgres::{Backend, BackendDecoder, BackendPiece, FrontendDecoder};
use proptest::prelude::*;

use crate::streams;

/// One change of a stream. Places wrap around.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(place, byte)| Change::Set(place, byte)),
        (any::<usize>(), any::<u8>()).prop_map(|(place, byte)| Change::Insert(place, byte)),
        any::<usize>().prop_map(Change::Remove),
        any::<usize>().prop_map(Change::Cut),
    ]
}

fn damage(bytes: &mut Vec<u8>, changes: &[Change]) {
    for change in changes {
        let length = bytes.len().max(1);
        match *change {
            Change::Set(place, byte) => {
                if let Some(target) = bytes.get_mut(place % length) {
                    *target = byte;
                }
            }
            Change::Insert(place, byte) => bytes.insert((place % length).min(bytes.len()), byte),
            Change::Remove(place) if !bytes.is_empty() => {
                bytes.remove(place % length);
            }
            Change::Remove(_) => {}
            Change::Cut(place) => bytes.truncate(place % length),
        }
    }
}

fn check_client(bytes: &[u8]) {
    let mut decoder = FrontendDecoder::new(Limits::default());
    decoder.authenticated();
    let mut rest = bytes;
    while let Ok(Some(piece)) = decoder.decode(rest) {
        let taken = piece.wire().len();
        assert!(taken > 0 && taken <= rest.len());
        rest = &rest[taken..];
    }
}

/// Fields are read on demand; asking must be as safe as not asking.
fn check_fields(message: &Backend<'_>, bytes: usize) {
    if let Backend::DataRow(row) = message
        && let Ok(values) = row.values()
    {
        assert_eq!(values.iter().count(), values.len());
    }
    if let Backend::RowDescription(row) = message {
        assert_eq!(row.iter().count(), row.len());
    }
    if let Backend::ErrorResponse(fields) | Backend::NoticeResponse(fields) = message {
        assert!(fields.iter().count() <= bytes);
    }
}

fn check_server(bytes: &[u8]) {
    let mut decoder = BackendDecoder::new(Limits::default());
    let mut rest = bytes;
    while let Ok(Some(piece)) = decoder.decode(rest) {
        if let BackendPiece::Message(decoded) = &piece {
            check_fields(&decoded.message, rest.len());
        }
        let taken = piece.wire().len();
        assert!(taken > 0 && taken <= rest.len());
        rest = &rest[taken..];
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damaged_transcripts_are_read_within_bounds(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..8),
    ) {
        let streams = cached();
        let stream = which.get(streams);
        let mut client = stream.client.clone();
        damage(&mut client, &changes);
        check_client(&client);
        let mut server = stream.server.clone();
        damage(&mut server, &changes);
        check_server(&server);
    }

    #[test]
    fn any_bytes_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_client(&bytes);
        check_server(&bytes);
        if let Ok(Some(decoded)) = decode_startup(&bytes, &Limits::default()) {
            prop_assert!(decoded.wire.len() <= bytes.len());
        }
    }
}

fn cached() -> &'static [streams::Streams] {
    static STREAMS: std::sync::LazyLock<Vec<streams::Streams>> =
        std::sync::LazyLock::new(streams::all);
    &STREAMS
}
