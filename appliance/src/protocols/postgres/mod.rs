//! PostgreSQL: from a start-up packet to a relayed, judged and recorded conversation.

pub(crate) mod classify;
pub(crate) mod exchange;
pub(crate) mod greet;
pub(crate) mod masking;
pub(crate) mod names;
pub(crate) mod refuse;
pub(crate) mod rewrite;
pub(crate) mod settings;
