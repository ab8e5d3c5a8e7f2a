//! The header in which a load balancer names its client.

use codecs::Limits;
use codecs::proxy_protocol::decode_header;

/// What decodes lies within its limit, and no shorter input says anything else.
pub fn header(input: &[u8]) {
    let limits = Limits::default();
    let decoded = decode_header(input, &limits);
    if let Ok(Some(decoded)) = decoded {
        let length = decoded.wire.len();
        assert!(length <= limits.proxy_header_bytes as usize && length <= input.len());
        assert_eq!(decode_header(&input[..length], &limits), Ok(Some(decoded)));
        for shorter in 0..length {
            assert_eq!(decode_header(&input[..shorter], &limits), Ok(None));
        }
    }
}
