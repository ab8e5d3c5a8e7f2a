//! Where the values come from that a statement shows, decides by and stores: plain values.
//!
//! How it is found out is in `postgres::lineage`; what follows from it is in `mask`.

use std::collections::BTreeSet;

/// A column of a relation of the catalogue at hand.
///
/// Relation 0 is none: its columns stand for values of unknown origin, see [`Self::ANY`] and
/// [`Self::call`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnId {
    /// `pg_class.oid`.
    pub relation: u32,
    /// `attnum`. 0 stands for the whole row: every column. Negative for system columns.
    pub number: i16,
}

impl ColumnId {
    /// May be a value of any column of any table: sampled values of statistics, texts of other
    /// sessions, files of the server.
    pub const ANY: Self = Self {
        relation: 0,
        number: 0,
    };

    /// Which of [`Lineage::calls`] the value comes from, if it is from one of them.
    #[must_use]
    pub fn call(self) -> Option<usize> {
        let index = usize::try_from(self.number).ok()?.checked_sub(1)?;
        (self.relation == 0).then_some(index)
    }
}

/// What one statement does with columns. Never says less than the statement does.
///
/// Views are looked through: a column of a view counts, and so does every column beneath it. What
/// a view decides by (its WHERE, its joins) does not count: that was chosen by who made the view,
/// not by who asks. The same holds for rules, triggers, defaults and row-level policies.
///
/// Tables are read with their descendants. A column of a parent counts with those of its
/// descendants, as long as these are few; masks are the same for all of them anyway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineage {
    /// The columns of the rows that it answers with, in order; `None` if it answers with none.
    ///
    /// For PREPARE and DECLARE, of the rows that EXECUTE and FETCH will answer with.
    pub outputs: Option<Vec<Output>>,
    /// What the rows come from, where the statement itself does not say.
    pub held: Option<Held>,
    /// Columns whose values decide what is answered, though they need not be shown, and how.
    pub deciding: BTreeSet<(ColumnId, Decides)>,
    /// Columns whose values leave in another way than by the answer.
    pub escaping: BTreeSet<(ColumnId, Escapes)>,
    /// Columns that it gives new values. Number 0 where it makes or removes whole rows.
    pub written: BTreeSet<ColumnId>,
    /// Every column that it mentions in any way, those above included.
    pub referenced: BTreeSet<ColumnId>,
    /// Every relation that it reads or writes in any way: an error may quote their rows.
    pub relations: BTreeSet<u32>,
    /// Relations whose definition it changes (ALTER, RENAME, a trigger, rule, policy or index on
    /// it), or that a new definition builds upon (a view, a child, a copy).
    pub redefined: BTreeSet<u32>,
    /// Calls of functions that nobody looked into.
    pub calls: Vec<Called>,
    /// Code that an operator attached to a table runs besides (a trigger, a rule): it is trusted
    /// with what it does, but what it says may quote any row.
    pub runs_attached_code: bool,
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

/// A statement under a name, whose lineage the caller keeps and uses in the place of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// PREPARE: this lineage is to be kept under the name.
    Prepares(String),
    /// EXECUTE: answers as the statement under the name does.
    Executes(String),
    /// DECLARE: this lineage is to be kept under the name.
    Declares(String),
    /// FETCH: answers as the cursor of the name does.
    Fetches(String),
}

/// A function that is not built in and not known to depend on its arguments alone.
///
/// A value of it has [`ColumnId::call`] among its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// `None` where the catalogue does not have the function: the schema is then not known.
    pub schema: Option<Box<str>>,
    pub name: Box<str>,
    /// Columns whose values it is given.
    pub given: BTreeSet<ColumnId>,
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
    /// How many rows there are: LIMIT, OFFSET, a function that returns a set.
    Limit,
    SetOperation,
    /// A constraint would tell whether the value is there.
    Constraint,
    /// A computation that can fail would tell by an error.
    Failure,
}

/// How a value leaves other than by the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Escapes {
    /// Into a table, or a view's or function's definition.
    Stored,
    /// To other sessions, a setting, a file or program of the server.
    Sent,
}

/// Why lineage could not be established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What the message to the client says: names of the statement and of the catalogue.
    pub reason: String,
    /// The relations that may be behind it; `None` for any.
    pub relations: Option<BTreeSet<u32>>,
}

impl Lineage {
    /// Of a statement that may do anything.
    #[must_use]
    pub fn unknown(reason: String) -> Self {
        let any = || std::iter::once(ColumnId::ANY);
        Self {
            deciding: any().map(|id| (id, Decides::Condition)).collect(),
            escaping: any().map(|id| (id, Escapes::Sent)).collect(),
            written: any().collect(),
            referenced: any().collect(),
            runs_attached_code: true,
            lost: vec![Lost {
                reason,
                relations: None,
            }],
            ..Self::default()
        }
    }
}
