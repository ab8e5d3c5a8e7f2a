//! Tests of the appliance against real servers and scripted peers, in one binary.

#![allow(unreachable_pub, reason = "modules of a test binary have no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed expectation ends the test"
)]
#![allow(
    dead_code,
    reason = "the harness offers what the next test module needs"
)]

mod admin;
mod certificates;
mod postgres;
mod shard;
mod transport;
mod upstream;
