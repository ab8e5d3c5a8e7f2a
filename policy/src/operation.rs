//! One request in protocol-neutral terms.
//!
//! Wire messages become operations in the appliance; nothing here knows their bytes.

use crate::catalogue::Catalogue;
use crate::network::Client;
use crate::sql::StatementProfile;

/// From where and when a principal asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occasion {
    /// `None` where it is not known: then a rule that allows from some networks allows nothing, and
    /// one that refuses or hides applies.
    pub client: Option<Client>,
    /// Seconds since the Unix epoch.
    pub unix_time: u64,
}

/// What a principal wants done now.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// SQL text, as profiled. All statements of one simple Query together; one of Parse, Execute.
    Sql {
        statements: &'a [StatementProfile],
        session: SessionContext<'a>,
    },
    /// PostgreSQL's fast-path call of a function by its number.
    FunctionCall {
        oid: u32,
        session: SessionContext<'a>,
    },
}

/// What of a session's state changes the meaning or the judgement of a statement.
///
/// All of it belongs into the key of a cache of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionContext<'a> {
    pub search_path: SearchPath<'a>,
    /// The session is held read-only by the second lock.
    pub read_only: bool,
    /// What the database holds. Without it names are judged as they are written.
    pub catalogue: Option<&'a Catalogue>,
    /// The session itself has changed what the database holds, and [`Self::catalogue`] does not
    /// say how: a transaction is open, or an answer is awaited.
    pub unsettled: bool,
}

/// Where the server looks for names without a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SearchPath<'a> {
    /// The schemas in order, as `search_path` lists them. `"$user"` must be replaced by the name
    /// of the current role, or left out when no such schema exists; left in, it stands for any
    /// schema. `pg_catalog` and `pg_temp` are implied as PostgreSQL implies them.
    Known(&'a [String]),
    /// Not known: a name without a schema may be in any.
    Unknown,
}
