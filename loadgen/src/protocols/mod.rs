//! What the generator says to a target, and what it looks at in the answers.
//!
//! It does not decide when something is said, and draws no conclusions: that is for the engine and
//! the reports.

pub mod postgres;

mod agent;
mod answer;
mod canaries;
mod failed;
mod target;
mod tls;

pub use agent::{Agent, Password};
pub use answer::{Answered, Outcome, Reference, SqlState, Verdict};
pub use canaries::{Canaries, CanaryError};
pub use failed::{Failed, Phase};
pub use postgres::{Dialer, Request, Session, Statement};
pub use target::{Address, AddressError, Target};
pub use tls::{Tls, TlsMode, TlsSetupError};
