//! Tests through the crate's door: rules and text in, decisions out.

mod bounds;
mod decisions;
mod documents;
mod effects;
mod problems;
mod profiles;
mod shapes;
mod support;
