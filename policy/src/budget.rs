//! How much a principal may use: limits as compiled.
//!
//! Counts nothing; the appliance does.

use std::fmt;
use std::time::Duration;

use crate::quantity::{show_bytes, show_duration};

/// One `[[budget]]` of the policy files, as it applies. At least one limit is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRule {
    pub name: String,
    /// What `rows`, `bytes` and `statements_per_minute` are counted over.
    pub per: Per,
    /// Of answers, in a day (UTC).
    pub rows: Option<u64>,
    /// Of rows and COPY data in answers, in a day (UTC).
    pub bytes: Option<u64>,
    pub statements_per_minute: Option<u64>,
    /// The longest that one statement may run.
    pub statement_time: Option<Duration>,
    /// Of one principal at once.
    pub sessions: Option<u64>,
}

/// What a budget is counted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    /// All sessions of a principal together, whatever shard they are on.
    Principal,
    Session,
}

impl fmt::Display for BudgetRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [
            self.rows.map(|rows| format!("{rows} rows a day")),
            self.bytes
                .map(|bytes| format!("{} a day", show_bytes(bytes))),
            self.statements_per_minute
                .map(|count| format!("{count} statements a minute")),
            self.statement_time
                .map(|time| format!("{} a statement", show_duration(time))),
            self.sessions
                .map(|count| format!("{count} sessions at once")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        let over = match self.per {
            Per::Principal => "all sessions of a principal",
            Per::Session => "each session",
        };
        write!(f, "{}: {}; over {over}", self.name, limits.join(", "))
    }
}
