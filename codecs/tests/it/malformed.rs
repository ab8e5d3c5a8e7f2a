//! Lengths and shapes that no peer of good will sends, one by one.

use codecs::Limits;
use codecs::postgres::{BackendDecoder, DecodeError, FrontendDecoder};

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
