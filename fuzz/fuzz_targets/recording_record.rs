//! See `fuzz::recording::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::recording::record(input));
