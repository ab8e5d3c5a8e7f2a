//! What one statement does, as plain values.
//!
//! Depends on the text alone: names are as written, and are resolved where they are judged.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use super::postgres::split_identifiers;
use crate::class::{Class, ClassSet};

/// The statements of one text, in order.
///
/// Empty for a text of nothing but space and comments: such a text does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    pub statements: Vec<StatementProfile>,
    /// A text that differs from this one in the value of a literal may do something else.
    ///
    /// Where it is false, every text of the same [shape](super::postgres::write_shape) has the
    /// same profile but for its spans.
    pub literals_decide: bool,
}

impl Batch {
    /// The classes of all statements.
    #[must_use]
    pub fn classes(&self) -> ClassSet {
        self.statements
            .iter()
            .fold(ClassSet::EMPTY, |set, statement| {
                set.union(statement.classes())
            })
    }
}

/// What one statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementProfile {
    /// Bytes of the text: this statement, without its semicolon and what stands before it.
    pub span: Range<usize>,
    /// The name of its node in PostgreSQL's grammar (`SelectStmt`); empty when it was not parsed.
    pub kind: &'static str,
    /// Without repetition, in the order found; never empty.
    pub effects: Vec<Effect>,
    /// Settings that it changes, in order.
    pub settings: Vec<SettingChange>,
    pub names: NamedStatementEffect,
    /// Bytes of the text that hold passwords or connection strings, quotes included; to be cut
    /// from recordings.
    pub secrets: Vec<Range<usize>>,
    pub transaction: Option<TransactionControl>,
    /// The session's `search_path` may be another after it.
    pub changes_search_path: bool,
    pub copy: Option<CopyStream>,
    /// Runs code that nobody looked into (DO, CALL, a function that is not built in). Such code may
    /// have changed any setting, also for the session, and may leave what no reset clears.
    pub opaque: bool,
    /// Names without a schema that it takes for built-in ones.
    pub relies_on: RelyingOn,
    /// The columns that its effects of class `select`, `insert` and `update` are about, the ones
    /// of views and of what is beneath them; `None` where that is not known.
    pub columns: Option<Vec<ColumnUse>>,
    /// What the parser says of a text that it refuses. Quotes the text: for the client alone.
    pub parse_error: Option<String>,
}

impl StatementProfile {
    #[must_use]
    pub fn classes(&self) -> ClassSet {
        self.effects.iter().map(|effect| effect.class).collect()
    }

    /// The session's `search_path` after it, where [`Self::changes_search_path`] and the text says
    /// what it becomes. `"$user"` may be among the schemas.
    #[must_use]
    pub fn search_path_after(&self) -> Option<Vec<String>> {
        let [change] = self.settings.as_slice() else {
            return None;
        };
        let Change::Set(values) = &change.change else {
            return None;
        };
        let unknown = self.classes().contains(Class::Unknown);
        if !self.changes_search_path || change.name != "search_path" || self.opaque || unknown {
            return None;
        }
        match (change.by, values.as_slice()) {
            // SET quotes each of its values as a name; set_config takes the list as it is.
            (By::Statement, values) => Some(values.to_vec()),
            (By::Function, [list]) => split_identifiers(list, ','),
            (By::Function, _) => None,
        }
    }
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match &self.change {
            Change::Set(values) => format!("to {}", values.join(", ")),
            Change::Default => "to its default".to_owned(),
            Change::Reset => "back".to_owned(),
            Change::ResetAll | Change::DiscardAll => return f.write_str("sets all settings back"),
            Change::Opaque => "to what the text does not show".to_owned(),
        };
        let name = if self.name.is_empty() {
            "some setting"
        } else {
            &self.name
        };
        write!(f, "sets {name} {how}")
    }
}

impl fmt::Display for ColumnUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            class,
            schema,
            table,
            column,
        } = self;
        let column = column.as_deref().unwrap_or("*");
        write!(f, "{schema}.{table}.{column} ({class})")
    }
}

/// Names of which the database decides whether they are built in, where no schema is written.
///
/// The effects take them for built in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelyingOn {
    /// With the number of arguments, where the text shows it.
    pub functions: BTreeSet<(String, Option<usize>)>,
    pub operators: BTreeSet<String>,
    /// Types by name, those with a schema as well: one of a user may bring code along.
    pub types: BTreeSet<Name>,
    /// What stands behind a dot: a column, or a function of one argument that takes the row.
    pub fields: BTreeSet<String>,
}

impl RelyingOn {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
            && self.operators.is_empty()
            && self.types.is_empty()
            && self.fields.is_empty()
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.functions.extend(other.functions);
        self.operators.extend(other.operators);
        self.types.extend(other.types);
        self.fields.extend(other.fields);
    }
}

/// A column that an effect is about, as the catalogue names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ColumnUse {
    /// `select`, `insert` or `update`.
    pub class: Class,
    pub schema: String,
    pub table: String,
    /// `None`: every column of the table.
    pub column: Option<String>,
}

/// One thing that a statement does to one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Effect {
    pub class: Class,
    pub object: Object,
    /// The statement does not name the object: a definition that it sets off does.
    pub through: Option<Through>,
}

impl Effect {
    #[must_use]
    pub fn new(class: Class, object: Object) -> Self {
        Self {
            class,
            object,
            through: None,
        }
    }
}

/// What leads from a statement to an effect that its text does not show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Through {
    /// "the view public.v": what an operator has defined.
    pub what: String,
    /// To allow what the statement names is not to allow this.
    pub needs_own: bool,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        if self.object == Object::Nothing && self.through.is_none() {
            return Ok(());
        }
        write!(f, " on {}", self.object)?;
        match &self.through {
            Some(through) => write!(f, ", through {}", through.what),
            None => Ok(()),
        }
    }
}

/// What an effect acts on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    /// No object at all, as in `SELECT 1`.
    Nothing,
    /// A table, view, sequence, index, type or any other named thing in a schema but functions.
    /// `tables` lists speak about it.
    Table(Name),
    /// A function, procedure or aggregate. `functions` lists speak about it.
    Function(FunctionName),
    /// Something that no list can name: a setting, role, channel, cursor, database.
    Other { kind: &'static str, name: String },
    /// Why the class is `unknown`.
    Unread(Reason),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Table(name) => write!(f, "{name}"),
            Self::Function(function) => write!(f, "{}()", function.name),
            Self::Other { kind, name } if name.is_empty() => f.write_str(kind),
            Self::Other { kind, name } => write!(f, "{kind} {name}"),
            Self::Unread(reason) => write!(f, "({reason})"),
        }
    }
}

/// A name as the statement has it, folded as PostgreSQL folds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub schema: Schema,
    /// `None`: any name.
    pub name: Option<String>,
}

impl Name {
    #[must_use]
    pub fn any() -> Self {
        Self {
            schema: Schema::Any,
            name: None,
        }
    }
}

/// The schema part of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Schema {
    Named(String),
    /// Not written: the session's `search_path` decides.
    Path,
    /// Any schema: the statement does not say which.
    Any,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("*");
        match &self.schema {
            Schema::Named(schema) => write!(f, "{schema}.{name}"),
            Schema::Path => f.write_str(name),
            Schema::Any if self.name.is_none() => f.write_str("any table"),
            Schema::Any => write!(f, "*.{name}"),
        }
    }
}

/// A function and whether its code is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionName {
    pub name: Name,
    /// Not built in: it may do anything. Such an effect is of its class only where an allow rule
    /// lists the function by name; it is `unknown` otherwise.
    pub opaque: bool,
}

/// Why something could not be classified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    #[error("not valid in PostgreSQL's grammar")]
    NotParsed,
    #[error("longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("more than {limit} statements")]
    TooManyStatements { limit: usize },
    #[error("nested too deeply")]
    TooDeep,
    #[error("too many operator characters in a row")]
    OperatorRuns,
    #[error("touches more than {limit} objects")]
    TooManyEffects { limit: usize },
    #[error("a block of code")]
    Code,
    #[error("runs text that is not a literal")]
    RunsText,
    #[error("may run code of a type that is not a base type")]
    RunsCode,
    #[error("an operator that is not built in")]
    Operator,
    #[error("a syntax node `{0}` that is not judged")]
    Node(&'static str),
    #[error("takes the name of something built in")]
    Shadows,
    #[error("a function called by number")]
    FunctionByNumber,
    #[error("a part of the statement that is not judged")]
    Part,
    #[error("too large to be traced to columns")]
    TooMuchWork,
}

/// One setting that a statement changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// Lower case, as the server compares it; empty for `ResetAll` and `DiscardAll`, and for a
    /// `set_config` whose name is not a literal.
    pub name: String,
    pub change: Change,
    pub scope: Scope,
    pub by: By,
}

/// The new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The literal value; several (`SET search_path = a, b`) are kept apart.
    Set(Vec<String>),
    Default,
    Reset,
    ResetAll,
    DiscardAll,
    /// A value that the text does not show.
    Opaque,
}

/// How long a setting's change lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Session,
    /// `SET LOCAL`: until the transaction ends.
    Local,
    /// A characteristic of this transaction (`SET TRANSACTION`, `BEGIN READ WRITE`).
    Transaction,
    /// Kept beyond the session: `ALTER ROLE ... SET`, `ALTER DATABASE`, `ALTER SYSTEM`, a
    /// function's `SET` clause.
    Stored,
}

/// What changes a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The statement itself is the SET or RESET: it can be rewritten as a whole.
    Statement,
    /// A call of `set_config` inside it.
    Function,
}

/// What a statement does to the session's prepared statements.
///
/// SQL's PREPARE and the protocol's Parse share one set of names. The effects of PREPARE are those
/// of the statement it prepares and `prepare`; the caller keeps that profile under the name and
/// judges it again at each EXECUTE, with the session's state at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedStatementEffect {
    None,
    Prepares(String),
    /// Also from within EXPLAIN and CREATE TABLE AS. An unknown name must be refused.
    Executes(String),
    Deallocates(String),
    DeallocatesAll,
}

/// What a statement does to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionControl {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    Prepare,
    CommitPrepared,
    RollbackPrepared,
}

/// COPY between server and client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyStream {
    FromStdin,
    /// `None` where it is not known how the data is written.
    ToStdout(Option<CopyLayout>),
}

/// How the data of a COPY is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyLayout {
    Text {
        delimiter: u8,
        null: String,
        /// The first line has the names of the columns.
        header: bool,
    },
    Csv {
        delimiter: u8,
        quote: u8,
        escape: u8,
        null: String,
        header: bool,
    },
    Binary,
}
