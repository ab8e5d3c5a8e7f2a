//! See `fuzz::postgres::pipeline`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::postgres::pipeline(input));
