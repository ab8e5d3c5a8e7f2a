//! The side that called us.

pub mod certificate;
