//! See `fuzz::postgres::startup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::postgres::startup(input));
