//! Tests through the crate's door: rules and text in, decisions out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step of a test is a failed test"
)]

mod approvals;
mod bounds;
mod decisions;
mod detection;
mod documents;
mod effects;
mod lineage;
mod masks;
mod permits;
mod problems;
mod profiles;
mod reference;
mod resolve;
mod shapes;
mod support;
mod windows;
