//! What every fuzz target holds to be true of any bytes.
//!
//! A function here panics when its property is broken, and does nothing else. The binaries in
//! `fuzz_targets` hand them to libFuzzer; the test `seeds` of the appliance hands them what is in
//! `fuzz/seeds`, with the compiler that builds the program.

#![forbid(unsafe_code)]

pub mod configuration;
pub mod identity;
pub mod journal;
pub mod mask;
pub mod policy;
pub mod postgres;
pub mod proxy;
pub mod recording;
pub mod values;

/// A target: its name, which is that of its binary and of its folder of seeds, and its property.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[FuzzTarget] = &[
    ("postgres_startup", postgres::startup),
    ("postgres_frontend", postgres::frontend),
    ("postgres_backend", postgres::backend),
    ("postgres_sasl", postgres::sasl),
    ("postgres_pipeline", postgres::pipeline),
    ("postgres_values", values::value),
    ("postgres_copy", values::copy),
    ("proxy_protocol", proxy::header),
    ("journal_frames", journal::frames),
    ("journal_ring", journal::ring),
    ("recording_record", recording::record),
    ("recording_transcript", recording::transcript),
    ("policy_sql", policy::sql),
    ("policy_document", policy::document),
    ("policy_pattern", policy::pattern),
    ("mask_detect", mask::detect),
    ("configuration_file", configuration::file),
    ("identity_token", identity::token),
    ("identity_jwks", identity::jwks),
];
