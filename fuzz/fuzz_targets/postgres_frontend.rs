//! See `fuzz::postgres::frontend`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::postgres::frontend(input));
