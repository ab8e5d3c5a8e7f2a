//! See `fuzz::configuration::file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::configuration::file(input));
