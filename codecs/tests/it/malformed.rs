//! Lengths and shapes that no peer of good will sends, one by one.

use codecs::Limits;
use codecs::postgres::{
    Announced, BackendDecoder, DecodeError, FrontendDecoder, FrontendPiece, Head,
};

fn limits() -> Limits {
    Limits {
        frontend_message_bytes: 64,
        backend_message_bytes: 64,
        ..Limits::default()
    }
}

fn from_client(bytes: &[u8]) -> Result<bool, DecodeError> {
    let mut decoder = FrontendDecoder::new(limits());
    decoder.authenticated();
    decoder.decode(bytes).map(|piece| piece.is_some())
}

fn from_server(bytes: &[u8]) -> Result<bool, DecodeError> {
    BackendDecoder::new(limits())
        .decode(bytes)
        .map(|piece| piece.is_some())
}

fn query(length: u32, text: &[u8]) -> Vec<u8> {
    let mut wire = vec![b'Q'];
    wire.extend(length.to_be_bytes());
    wire.extend(text);
    wire
}

#[test]
fn a_query_of_the_longest_length_is_read_and_one_more_is_refused_by_its_header() {
    let mut text = vec![b'x'; 59];
    text.push(0);
    assert_eq!(from_client(&query(64, &text)), Ok(true));
    assert_eq!(
        from_client(&query(65, b"")),
        Err(DecodeError::TooLong {
            message: "Query",
            announced: 65,
            limit: 64
        })
    );
}

#[test]
fn a_length_that_is_negative_or_shorter_than_itself_is_refused() {
    for (length, announced) in [(0, 0), (3, 3), (u32::MAX, -1), (0x8000_0000, i32::MIN)] {
        assert_eq!(
            from_client(&query(length, b"")),
            Err(DecodeError::ImpossibleLength {
                message: "Query",
                announced
            })
        );
    }
}

#[test]
fn a_text_without_its_end_or_with_more_behind_it_is_malformed() {
    for wire in [query(7, b"abc"), query(9, b"abc\0x"), query(4, b"")] {
        let error = from_client(&wire).unwrap_err();
        assert!(
            matches!(
                error,
                DecodeError::Malformed {
                    message: "Query",
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn counts_are_checked_against_the_bytes_that_follow() {
    // Bind: no names, no formats, 65,535 values announced and none sent.
    let bind = [b"B\0\0\0\x0a".as_slice(), b"\0\0\0\0\xff\xff"].concat();
    let error = from_client(&bind).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::Malformed {
                message: "Bind",
                ..
            }
        ),
        "{error:?}"
    );
    // RowDescription with one column too many.
    let error = from_server(b"T\0\0\0\x06\0\x01").unwrap_err();
    assert!(matches!(error, DecodeError::Malformed { .. }), "{error:?}");
}

#[test]
fn tags_of_the_other_side_or_of_nobody_are_unknown() {
    for tag in [b'R', b'Z', b'Y', b'v', 0, 0xff] {
        assert_eq!(from_client(&[tag]), Err(DecodeError::UnknownTag { tag }));
    }
    for tag in [b'Q', b'P', b'B', b'F', b'X', 0, 0xff] {
        assert_eq!(from_server(&[tag]), Err(DecodeError::UnknownTag { tag }));
    }
}

#[test]
fn a_password_has_no_place_in_a_session_nor_a_query_before_it() {
    let error = from_client(b"p\0\0\0\x05\0").unwrap_err();
    assert!(matches!(error, DecodeError::OutOfPhase { .. }), "{error:?}");
    let error = FrontendDecoder::new(limits())
        .decode(b"Q\0\0\0\x05\0")
        .unwrap_err();
    assert!(
        matches!(error, DecodeError::OutOfPhase { message: "Query" }),
        "{error:?}"
    );
}

#[test]
fn half_a_message_is_not_an_error() {
    for wire in [&b"Q"[..], b"Q\0\0\0", b"Q\0\0\0\x09abc"] {
        assert_eq!(from_client(wire), Ok(false));
    }
}

/// A message over the limit, of which the head is shown, and its bytes.
fn long_bind(names: &[u8], values: usize) -> Vec<u8> {
    let body = [names, &vec![7; values]].concat();
    let length = u32::try_from(body.len() + 4).unwrap();
    [&b"B"[..], &length.to_be_bytes(), &body].concat()
}

#[test]
fn a_long_message_is_announced_by_its_names_and_comes_in_fragments_when_it_is_taken() {
    let limits = Limits {
        frontend_message_bytes: 100,
        bind_bytes: 300,
        ..Limits::default()
    };
    let wire = long_bind(b"portal\0statement\0", 250);
    let next = b"S\0\0\0\x04";
    let input = [&wire[..], next].concat();
    let head_bytes = 5 + b"portal\0statement\0".len();
    for split in 1..input.len() {
        let mut decoder = FrontendDecoder::new(limits);
        decoder.authenticated();
        decoder.announce_long();
        let (first, _) = input.split_at(split);
        let piece = decoder.decode(first).unwrap();
        if split < head_bytes {
            assert_eq!(piece, None, "{split}");
        }
        let announced = FrontendPiece::Announced(Announced {
            head: Head::Bind {
                portal: b"portal",
                statement: b"statement",
            },
            wire_bytes: wire.len(),
            exceeds: None,
        });
        // Again and again, until somebody takes it.
        for _ in 0..2 {
            assert_eq!(decoder.decode(&input).unwrap(), Some(announced));
        }
        decoder.take_announced();
        let (mut taken, mut end) = (0, split);
        let mut is_last = false;
        while !is_last {
            let Some(FrontendPiece::Fragment(fragment)) =
                decoder.decode(&input[taken..end]).unwrap()
            else {
                end = input.len();
                continue;
            };
            assert_eq!(fragment.wire, &input[taken..taken + fragment.wire.len()]);
            taken += fragment.wire.len();
            is_last = fragment.last;
        }
        assert_eq!(taken, wire.len());
        let sync = decoder.decode(&input[taken..]).unwrap().unwrap();
        assert!(matches!(sync, FrontendPiece::Message(_)), "{sync:?}");
    }
}

#[test]
fn long_messages_say_which_limit_they_exceed() {
    let limits = Limits {
        frontend_message_bytes: 100,
        bind_bytes: 300,
        ..Limits::default()
    };
    let exceeds = |wire: &[u8]| {
        let mut decoder = FrontendDecoder::new(limits);
        decoder.authenticated();
        decoder.announce_long();
        match decoder.decode(wire) {
            Ok(Some(FrontendPiece::Announced(announced))) => announced.exceeds,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(exceeds(&long_bind(b"\0\0", 294)), None);
    assert_eq!(exceeds(&long_bind(b"\0\0", 295)), Some(300));
    assert_eq!(exceeds(b"Q\0\0\0\x65"), Some(100));
    assert_eq!(exceeds(b"F\0\0\0\x65"), Some(100));
    assert_eq!(exceeds(b"P\0\0\0\x65\0"), Some(100));

    let mut decoder = FrontendDecoder::new(limits);
    decoder.authenticated();
    decoder.announce_long();
    assert_eq!(
        decoder.decode(b"P\0\0\0\x65").unwrap(),
        None,
        "the name is to come"
    );
    let endless = [&b"P\0\x01\0\0"[..], &[b'n'; 5000]].concat();
    assert!(decoder.decode(&endless).is_err());
    // Longer than any message of PostgreSQL.
    assert!(decoder.decode(b"B\x40\0\0\x01").is_err());
    // A message of another kind is never announced.
    assert!(decoder.decode(b"E\0\0\x40\0").is_err());
}
