//! Tests through the crate's door: rules and text in, decisions out.

mod effects;
mod support;
