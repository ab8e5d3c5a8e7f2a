//! PROXY headers: what decodes lies within its limit, and no shorter input says anything else.
#![no_main]

use codecs::Limits;
use codecs::proxy_protocol::decode_header;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let limits = Limits::default();
    if let Ok(Some(decoded)) = decode_header(input, &limits) {
        assert!(decoded.wire.len() <= limits.proxy_header_bytes as usize);
        assert!(input.starts_with(decoded.wire));
        assert_eq!(decode_header(decoded.wire, &limits), Ok(Some(decoded)));
        for cut in 0..decoded.wire.len() {
            assert_eq!(decode_header(&input[..cut], &limits), Ok(None));
        }
    }
});
