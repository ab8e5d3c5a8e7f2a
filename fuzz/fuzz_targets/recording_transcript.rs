//! See `fuzz::recording::transcript`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::recording::transcript(input));
