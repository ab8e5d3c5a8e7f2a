//! See `fuzz::values::value`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::values::value(input));
