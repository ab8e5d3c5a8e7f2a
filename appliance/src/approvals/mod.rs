//! Asking a person whether a held command may run, and waiting for the answer.
//!
//! A shard has [`Approvals`]: it asks, and polls what it got. The control thread has the desk,
//! where requests are kept, voted on and ended. What a request means on a client's wire is not
//! known here, and neither is how people reach the desk.

mod request;
mod waiting;

mod broker;
mod desk;

mod shown;
mod store;
mod value;

#[cfg(test)]
mod tests;

pub use broker::{Broker, LookError};
pub use desk::{Answer, AnswerError, Desk, News, NewsKind, Panel, People};
pub use policy::approval::{
    Approver, Digest, Identity, Limits, NotCounted, Progress, TooMany, Withdrawal,
};
pub use request::{
    Estimate, HeldCommand, HeldText, HoldRequest, HoldingRule, Parameter, REQUEST_BYTES_MAX,
    RequestId,
};
pub use shown::{
    Audience, Shown, ShownCommand, ShownEffect, ShownIdentity, ShownParameter, ShownPerson,
    ShownPrincipal, ShownRule, ShownText, ShownVote, marked,
};
pub use store::{Filter, LISTED_DEFAULT, LISTED_MAX, SqliteStore, Store, StoreError};
pub use waiting::{Approvals, Approved, Event, Inbox, NotAsked, Outcome, Waiting, channel};
