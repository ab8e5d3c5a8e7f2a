//! See `fuzz::policy::document`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::policy::document(input));
