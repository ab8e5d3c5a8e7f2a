//! Where the values come from that a statement shows, decides by and stores: plain values.
//!
//! How it is found out is in `postgres::lineage`; what follows from it is in `mask`.

use std::collections::BTreeSet;

/// A column of a relation of the catalogue at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnId {
    /// `pg_class.oid`.
    pub relation: u32,
    /// `attnum`. 0 stands for the whole row: every column.
    pub number: i16,
}

/// What one statement does with columns. Never says less than the statement does.
///
/// Views are looked through: a column of a view counts, and so does every column beneath it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineage {
    /// The columns of the rows that it answers with, in order; `None` if it answers with none.
    pub outputs: Option<Vec<Output>>,
    /// Columns whose values decide what is answered, though they need not be shown, and how.
    pub deciding: BTreeSet<(ColumnId, Decides)>,
    /// Columns whose values leave in another way than by the answer: stored in a table, sent to
    /// other sessions, given to code that nobody looked into.
    pub escaping: BTreeSet<(ColumnId, Escapes)>,
    /// Columns that it gives new values.
    pub written: BTreeSet<ColumnId>,
    /// Every column that it mentions in any way, those above included.
    pub referenced: BTreeSet<ColumnId>,
    /// Every relation that it reads or writes in any way: an error may quote their rows.
    pub relations: BTreeSet<u32>,
    /// Relations whose definition it changes (ALTER, RENAME, a trigger, rule, policy or index on
    /// it), or that a new definition builds upon (a view, a child, a copy).
    pub redefined: BTreeSet<u32>,
    /// Why the above may say too little, where it may.
    pub lost: Vec<Lost>,
}

/// One column of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    pub name: String,
    /// Empty for what derives from no column.
    pub sources: BTreeSet<ColumnId>,
    /// It is nothing but the one column of `sources`, whatever it was renamed to on the way.
    pub untouched: bool,
}

/// How a column decides without being shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Decides {
    Where,
    Join,
    GroupBy,
    OrderBy,
    Having,
    Distinct,
    Window,
    Condition,
    Limit,
    SetOperation,
    /// A constraint would tell whether the value is there.
    Constraint,
}

/// How a value leaves other than by the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Escapes {
    /// Into a table, or a view's or function's definition.
    Stored,
    /// To other sessions, a setting, a file or program of the server.
    Sent,
    /// Into a function that is not built in.
    Code,
}

/// Why lineage could not be established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What the message to the client says: names of the statement and of the catalogue.
    pub reason: String,
    /// The relations that may be behind it; `None` for any.
    pub relations: Option<BTreeSet<u32>>,
}
