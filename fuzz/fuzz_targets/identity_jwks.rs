//! See `fuzz::identity::jwks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::identity::jwks(input));
