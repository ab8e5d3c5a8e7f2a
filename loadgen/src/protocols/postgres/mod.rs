//! PostgreSQL, protocol 3.0, from the client's side.
//!
//! A [`Dialer`] opens [`Session`]s; a session sends [`Request`]s that were encoded ahead, and counts
//! and checks what comes back without keeping it.

mod line;
mod login;
mod reading;
mod request;
mod session;

pub use login::Dialer;
pub use request::{Request, RequestError, Statement};
pub use session::Session;
