//! The side that called us.

pub(crate) mod origin;
pub(crate) mod proxies;

pub mod certificate;
