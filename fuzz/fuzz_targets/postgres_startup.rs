//! Start-up packets: what decodes lies within the input, and its parameters can be walked.
#![no_main]

use codecs::Limits;
use codecs::postgres::startup::{StartupPacket, decode_startup};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let limits = Limits::default();
    if let Ok(Some(decoded)) = decode_startup(input, &limits) {
        assert!(decoded.wire.len() <= input.len());
        if let StartupPacket::Startup(startup) = decoded.message {
            assert!(startup.parameters().count() <= limits.startup_parameters);
        }
    }
});
