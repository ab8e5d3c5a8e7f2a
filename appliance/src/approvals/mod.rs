//! Asking a person whether a held command may run, and waiting for the answer.
//!
//! A shard has [`Approvals`]: it asks, and polls what it got. The control thread has the desk,
//! where requests are kept, voted on and ended. What a request means on a client's wire is not
//! known here, and neither is how people reach the desk.

mod request;
mod waiting;

mod broker;
mod desk;

pub use broker::{AnswerError, Broker, Unavailable};
pub use desk::{Answer, Desk, Panel, People};
pub use policy::approval::{Approver, Digest, Identity, NotCounted, Progress, TooMany, Withdrawal};
pub use request::{
    Estimate, HeldCommand, HeldText, HoldRequest, HoldingRule, Parameter, REQUEST_BYTES_MAX,
    RequestId,
};
pub use waiting::{Approvals, Approved, Event, Inbox, NotAsked, Outcome, Waiting, channel};
