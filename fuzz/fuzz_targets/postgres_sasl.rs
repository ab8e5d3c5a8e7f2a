//! See `fuzz::postgres::sasl`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::postgres::sasl(input));
