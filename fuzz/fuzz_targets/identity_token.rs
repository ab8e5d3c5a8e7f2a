//! See `fuzz::identity::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::identity::token(input));
