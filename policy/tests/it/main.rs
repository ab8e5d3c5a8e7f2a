//! Tests through the crate's door: rules and text in, decisions out.

mod decisions;
mod effects;
mod problems;
mod support;
