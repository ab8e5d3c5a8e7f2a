//! A client's stream: the same pieces whether it comes at once or cut in two.
#![no_main]

use codecs::Limits;
use codecs::postgres::FrontendDecoder;

fn tags(input: &[u8], first: usize) -> Vec<(u8, usize)> {
    // Nothing is streamed, so that pieces do not depend on the cut.
    let limits = Limits { stream_above_bytes: u32::MAX, ..Limits::default() };
    let mut decoder = FrontendDecoder::new(limits);
    decoder.authenticated();
    let mut seen = Vec::new();
    let mut taken = 0;
    for end in [first, input.len()] {
        while let Ok(Some(piece)) = decoder.decode(&input[taken..end]) {
            let length = piece.wire().len();
            assert!(length > 0);
            seen.push((input[taken], length));
            taken += length;
        }
    }
    seen
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let whole = tags(input, input.len());
    assert_eq!(whole, tags(input, input.len() / 2));
});
