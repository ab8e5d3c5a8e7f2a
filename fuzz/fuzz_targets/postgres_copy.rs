//! See `fuzz::values::copy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::values::copy(input));
