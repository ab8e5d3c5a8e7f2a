//! Configuration: what the operator wrote, and the values the program uses.

mod secret;

pub use secret::{Secret, SecretError, SecretReference, SecretReferenceError, SecretSources};
