//! Wire formats and protocol state, as functions from bytes to values and back.
//!
//! No sockets, clocks, threads, logging or randomness: time, nonces and keys are arguments.
//! What a message means, and whether it may pass, is decided elsewhere.
//!
//! Every codec here keeps one contract:
//!
//! - Incomplete input is `Ok(None)`, never an error.
//! - An announced length is checked against [`Limits`] before its body is awaited, and nothing is
//!   reserved on the word of a peer.
//! - A body is consumed exactly; bytes left over are an error that names the message.
//! - [`Decoded::wire`](postgres::Decoded::wire) keeps the original bytes, so an unchanged message is
//!   forwarded verbatim.
//! - Errors carry lengths, tags and names of messages, never what a peer wrote.
#![forbid(unsafe_code)]

pub mod limits;
pub mod postgres;
pub mod proxy_protocol;
pub mod wire;

pub use limits::Limits;
