//! See `fuzz::policy::sql`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::policy::sql(input));
