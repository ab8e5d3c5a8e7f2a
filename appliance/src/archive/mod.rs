//! The archive: what was recorded, sealed so that a change of it shows.
//!
//! It does not record and does not decide what may be removed; it never touches a shard.

mod chained;
mod trail;

pub use chained::ChainedError;
pub use trail::{Action, Actor, Entry, Trail, TrailError, Verb, entries};
