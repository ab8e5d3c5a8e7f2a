//! See `fuzz::journal::ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::journal::ring(input));
