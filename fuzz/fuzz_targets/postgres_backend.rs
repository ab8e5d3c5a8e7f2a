//! A server's stream: decoding stays within the input, and fields that are asked for do too.
#![no_main]

use codecs::Limits;
use codecs::postgres::{Backend, BackendDecoder, BackendPiece};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut decoder = BackendDecoder::new(Limits::default());
    let mut rest = input;
    while let Ok(Some(piece)) = decoder.decode(rest) {
        if let BackendPiece::Message(decoded) = &piece {
            match &decoded.message {
                Backend::DataRow(row) => {
                    if let Ok(values) = row.values() {
                        assert_eq!(values.iter().count(), values.len());
                    }
                }
                Backend::RowDescription(row) => assert_eq!(row.iter().count(), row.len()),
                _ => {}
            }
        }
        let length = piece.wire().len();
        assert!(length > 0 && length <= rest.len());
        rest = &rest[length..];
    }
});
