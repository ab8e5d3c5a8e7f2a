//! The one table of statement classes: name, meaning, groups, what a class can act on.
//!
//! `docs/policy-classes.md` is generated from it. What a statement's classes are is said in `sql`.

use std::fmt;

/// What one effect of a statement is.
///
/// The variants are the vocabulary of `statements = [...]` in policy files; it is frozen, so a
/// later version may add a class and never renames one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    Truncate,
    Create,
    Alter,
    Drop,
    Grant,
    Role,
    CopyFrom,
    CopyTo,
    CopyProgram,
    File,
    Call,
    Do,
    Explain,
    Show,
    Set,
    Transaction,
    Cursor,
    Prepare,
    Listen,
    Notify,
    Lock,
    Maintenance,
    Admin,
    Replication,
    Function,
    DeleteWithoutWhere,
    UpdateWithoutWhere,
    SelectInto,
    Unknown,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct ClassEntry {
    pub class: Class,
    /// As written in policy files.
    pub name: &'static str,
    pub meaning: &'static str,
    /// Names of groups that stand for this class among others.
    pub groups: &'static [&'static str],
    /// A `tables` list speaks about this class.
    pub tables: bool,
    /// How a `columns` list speaks about this class.
    pub columns: ByColumn,
    /// A `functions` list speaks about this class.
    pub functions: bool,
    /// An allow of this other class covers it: it exists so that a deny can single it out.
    pub derived_from: Option<Class>,
    /// A principal who is allowed it needs more than a read-only session.
    pub writes: bool,
}

/// How a list of columns speaks about a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByColumn {
    Never,
    /// What is done to a table is done to columns of it, each of which counts.
    Each,
    /// By the table alone: what it does to columns counts under another class besides.
    Table,
}

const fn entry(
    class: Class,
    name: &'static str,
    groups: &'static [&'static str],
    meaning: &'static str,
) -> ClassEntry {
    ClassEntry {
        class,
        name,
        meaning,
        groups,
        tables: false,
        columns: ByColumn::Never,
        functions: false,
        derived_from: None,
        writes: false,
    }
}

impl ClassEntry {
    const fn tables(mut self) -> Self {
        self.tables = true;
        self
    }

    const fn columns(mut self) -> Self {
        self.columns = ByColumn::Each;
        self
    }

    const fn columns_by_table(mut self) -> Self {
        self.columns = ByColumn::Table;
        self
    }

    const fn functions(mut self) -> Self {
        self.functions = true;
        self
    }

    const fn writes(mut self) -> Self {
        self.writes = true;
        self
    }

    const fn derived_from(mut self, base: Class) -> Self {
        self.derived_from = Some(base);
        self
    }
}

/// Names that stand for several classes, with their meaning. `*` is not among them.
pub const GROUPS: &[(&str, &str)] = &[
    ("read", "looks at data and changes nothing"),
    ("write", "changes rows"),
    ("ddl", "changes what exists in the database"),
    (
        "session",
        "changes the session's own state: what drivers and poolers send beside the work",
    ),
];

/// Stands for every class but `unknown`.
pub const EVERY_CLASS: &str = "*";

/// Every class once, in the order of the enum.
pub const CLASSES: &[ClassEntry] = &[
    entry(
        Class::Select,
        "select",
        &["read"],
        "reads rows of a table, view, sequence or foreign table; a SELECT of nothing but values has no object",
    )
    .tables()
    .columns(),
    entry(
        Class::Insert,
        "insert",
        &["write"],
        "adds rows: INSERT, MERGE with an INSERT action, COPY FROM",
    )
    .tables()
    .columns()
    .writes(),
    entry(
        Class::Update,
        "update",
        &["write"],
        "changes rows: UPDATE, INSERT ... ON CONFLICT DO UPDATE, MERGE with an UPDATE action, nextval and setval of a sequence, writing large objects (object pg_catalog.pg_largeobject)",
    )
    .tables()
    .columns()
    .writes(),
    entry(
        Class::Delete,
        "delete",
        &["write"],
        "removes rows: DELETE, MERGE with a DELETE action",
    )
    .tables()
    .writes(),
    entry(
        Class::Merge,
        "merge",
        &["write"],
        "MERGE; its actions count as insert, update and delete besides",
    )
    .tables()
    .writes(),
    entry(
        Class::Truncate,
        "truncate",
        &["ddl"],
        "empties a table: TRUNCATE; with CASCADE the object is any table",
    )
    .tables()
    .writes(),
    entry(
        Class::Create,
        "create",
        &["ddl"],
        "makes an object; what it is defined over counts as select besides",
    )
    .tables()
    .functions()
    .writes(),
    entry(
        Class::Alter,
        "alter",
        &["ddl"],
        "changes an object's definition: ALTER, COMMENT, renaming, changing owner or schema",
    )
    .tables()
    .functions()
    .writes(),
    entry(
        Class::Drop,
        "drop",
        &["ddl"],
        "removes an object; with CASCADE the object is any table besides",
    )
    .tables()
    .functions()
    .writes(),
    entry(
        Class::Grant,
        "grant",
        &[],
        "changes who may do what: GRANT, REVOKE, default privileges, row-level policies, ownership, security labels",
    )
    .tables()
    .functions()
    .writes(),
    entry(
        Class::Role,
        "role",
        &[],
        "makes, changes or takes on a role: CREATE, ALTER and DROP ROLE, role membership, SET ROLE, SET SESSION AUTHORIZATION",
    )
    .writes(),
    entry(
        Class::CopyFrom,
        "copy-from",
        &["write"],
        "COPY into a table; counts as insert besides",
    )
    .tables()
    .columns_by_table()
    .writes(),
    entry(
        Class::CopyTo,
        "copy-to",
        &["read"],
        "COPY out of a table or query; what it reads counts as select besides",
    )
    .tables()
    .columns_by_table(),
    entry(
        Class::CopyProgram,
        "copy-program",
        &[],
        "COPY to or from a program that the server runs",
    )
    .writes(),
    entry(
        Class::File,
        "file",
        &[],
        "reads or writes files of the server: COPY with a file name, pg_read_file, pg_ls_dir, lo_import, LOAD",
    )
    .functions()
    .writes(),
    entry(
        Class::Call,
        "call",
        &[],
        "CALL of a procedure; one that a rule does not list by name in `functions` is `unknown`",
    )
    .functions()
    .writes(),
    entry(
        Class::Do,
        "do",
        &[],
        "DO: a block of code; it is `unknown` besides, since code can do more than it shows; what it shows counts as well",
    )
    .writes(),
    entry(
        Class::Explain,
        "explain",
        &["read"],
        "EXPLAIN; with ANALYZE the statement counts as executed",
    )
    .tables()
    .columns_by_table(),
    entry(
        Class::Show,
        "show",
        &["read", "session"],
        "SHOW of a setting",
    ),
    entry(
        Class::Set,
        "set",
        &["session"],
        "SET, RESET, set_config, DISCARD; protected settings are refused whatever the rules say",
    ),
    entry(
        Class::Transaction,
        "transaction",
        &[],
        "BEGIN, COMMIT, ROLLBACK, SAVEPOINT, SET TRANSACTION, SET CONSTRAINTS",
    ),
    entry(
        Class::Cursor,
        "cursor",
        &["session"],
        "DECLARE, FETCH, MOVE, CLOSE; the cursor's query counts where it is declared",
    ),
    entry(
        Class::Prepare,
        "prepare",
        &["session"],
        "PREPARE, EXECUTE, DEALLOCATE; the prepared statement counts at both",
    ),
    entry(
        Class::Listen,
        "listen",
        &["session"],
        "LISTEN and UNLISTEN",
    ),
    entry(
        Class::Notify,
        "notify",
        &[],
        "NOTIFY and pg_notify: reaches other sessions",
    ),
    entry(
        Class::Lock,
        "lock",
        &[],
        "holds others up: LOCK, SELECT ... FOR UPDATE or SHARE, advisory locks",
    )
    .tables()
    .functions()
    .writes(),
    entry(
        Class::Maintenance,
        "maintenance",
        &[],
        "VACUUM, ANALYZE, CLUSTER, REINDEX, REFRESH MATERIALIZED VIEW",
    )
    .tables()
    .functions()
    .writes(),
    entry(
        Class::Admin,
        "admin",
        &[],
        "reaches beyond the session and its data: other sessions (pg_terminate_backend, pg_stat_activity), the server's configuration and secrets (ALTER SYSTEM, pg_authid), extensions, languages, foreign servers, databases",
    )
    .tables()
    .functions()
    .writes(),
    entry(
        Class::Replication,
        "replication",
        &[],
        "replication slots, publications, subscriptions, logical decoding",
    )
    .functions()
    .writes(),
    entry(
        Class::Function,
        "function",
        &[],
        "a call of a function that is not built in; only for functions that a rule lists by name in `functions`, any other is `unknown`",
    )
    .functions()
    .writes(),
    entry(
        Class::DeleteWithoutWhere,
        "delete-without-where",
        &[],
        "a DELETE that no condition on its rows limits",
    )
    .tables()
    .writes()
    .derived_from(Class::Delete),
    entry(
        Class::UpdateWithoutWhere,
        "update-without-where",
        &[],
        "an UPDATE that no condition on its rows limits",
    )
    .tables()
    .columns_by_table()
    .writes()
    .derived_from(Class::Update),
    entry(
        Class::SelectInto,
        "select-into",
        &["ddl"],
        "SELECT INTO and CREATE TABLE AS: stores what it reads in a new table",
    )
    .tables()
    .writes()
    .derived_from(Class::Create),
    entry(
        Class::Unknown,
        "unknown",
        &[],
        "what Sallyport cannot judge; refused unless a rule allows `unknown` by this name, and `*` does not",
    )
    .writes(),
];

impl Class {
    /// The class's line in [`CLASSES`].
    #[must_use]
    pub fn entry(self) -> &'static ClassEntry {
        // Invariant: a test holds that the table has one line per variant in the enum's order;
        // the fallback is the line that is refused by default.
        CLASSES
            .get(usize::from(self as u8))
            .or(CLASSES.last())
            .unwrap_or(&UNKNOWN)
    }

    /// As written in policy files, recordings and refusals.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The class with this name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CLASSES
            .iter()
            .find(|line| line.name == name)
            .map(|line| line.class)
    }
}

static UNKNOWN: ClassEntry = entry(Class::Unknown, "unknown", &[], "");

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of classes, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ClassSet(u64);

impl ClassSet {
    pub const EMPTY: Self = Self(0);

    /// Every class but `unknown`: what `*` means.
    #[must_use]
    pub fn every() -> Self {
        CLASSES
            .iter()
            .filter(|line| line.class != Class::Unknown)
            .map(|line| line.class)
            .collect()
    }

    /// The classes of a group, or the one class of that name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        if word == EVERY_CLASS {
            return Some(Self::every());
        }
        if GROUPS.iter().any(|(name, _)| *name == word) {
            return Some(
                CLASSES
                    .iter()
                    .filter(|line| line.groups.contains(&word))
                    .map(|line| line.class)
                    .collect(),
            );
        }
        Class::named(word).map(|class| std::iter::once(class).collect())
    }

    #[must_use]
    pub fn contains(self, class: Class) -> bool {
        self.0 & Self::bit(class) != 0
    }

    pub fn insert(&mut self, class: Class) {
        self.0 |= Self::bit(class);
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with every class that one of its members covers by derivation.
    #[must_use]
    pub fn with_derived(self) -> Self {
        CLASSES
            .iter()
            .filter(|line| line.derived_from.is_some_and(|base| self.contains(base)))
            .map(|line| line.class)
            .fold(self, |mut set, class| {
                set.insert(class);
                set
            })
    }

    /// In the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        CLASSES
            .iter()
            .map(|line| line.class)
            .filter(move |class| self.contains(*class))
    }

    const fn bit(class: Class) -> u64 {
        1 << class as u8
    }
}

impl FromIterator<Class> for ClassSet {
    fn from_iter<I: IntoIterator<Item = Class>>(classes: I) -> Self {
        classes.into_iter().fold(Self::EMPTY, |mut set, class| {
            set.insert(class);
            set
        })
    }
}

impl fmt::Display for ClassSet {
    /// Comma-separated names; nothing for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, class) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(class.name())?;
        }
        Ok(())
    }
}

/// The text of `docs/policy-classes.md`.
#[must_use]
pub fn documentation() -> String {
    let mut text = String::from(
        "# Statement classes\n\n\
         Generated from `policy/src/class.rs`; `UPDATE_DOCS=1 cargo test -p policy` writes it.\n\
         `docs/policy.md` says how rules use these words.\n\n\
         | class | groups | lists that narrow it | meaning |\n|---|---|---|---|\n",
    );
    for line in CLASSES {
        let groups = line
            .groups
            .iter()
            .map(|group| format!("`{group}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let lists = [
            (line.tables, "`tables`"),
            (line.columns == ByColumn::Each, "`columns`"),
            (
                line.columns == ByColumn::Table,
                "`columns` (by their table)",
            ),
            (line.functions, "`functions`"),
        ];
        let lists: Vec<&str> = lists
            .iter()
            .filter(|(speaks, _)| *speaks)
            .map(|(_, list)| *list)
            .collect();
        let lists = lists.join(", ");
        let derived = line.derived_from.map_or_else(String::new, |base| {
            format!(". Derived: an allow of `{base}` covers it")
        });
        text.push_str(&format!(
            "| `{}` | {groups} | {lists} | {}{derived} |\n",
            line.name, line.meaning
        ));
    }
    text.push_str(
        "\n## Groups of classes\n\n| group | meaning | classes |\n|---|---|---|\n\
         | `*` | every class but `unknown` | |\n",
    );
    for (name, meaning) in GROUPS {
        let classes = ClassSet::named(name).unwrap_or_default();
        text.push_str(&format!("| `{name}` | {meaning} | {classes} |\n"));
    }
    let read_only: ClassSet = CLASSES
        .iter()
        .filter(|line| !line.writes)
        .map(|line| line.class)
        .collect();
    text.push_str(&format!(
        "\n## The second lock\n\nA principal whose allow rules on a target hold no other classes than these gets a read-only session: {read_only}.\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_line_per_class_in_the_order_of_the_enum() {
        for (index, line) in CLASSES.iter().enumerate() {
            assert_eq!(usize::from(line.class as u8), index, "{}", line.name);
            assert_eq!(Class::named(line.name), Some(line.class));
            assert_eq!(line.class.entry().name, line.name);
        }
        assert_eq!(CLASSES.len(), usize::from(Class::Unknown as u8) + 1);
    }

    #[test]
    fn every_group_of_a_class_is_a_known_group_and_none_is_empty() {
        for line in CLASSES {
            for group in line.groups {
                assert!(GROUPS.iter().any(|(name, _)| name == group), "{group}");
            }
        }
        for (name, _) in GROUPS {
            assert!(!ClassSet::named(name).unwrap().is_empty(), "{name}");
            assert_eq!(Class::named(name), None, "{name} is also a class");
        }
    }

    #[test]
    fn the_star_leaves_out_unknown_and_nothing_else() {
        let star = ClassSet::named("*").unwrap();
        assert!(!star.contains(Class::Unknown));
        assert_eq!(star.iter().count(), CLASSES.len() - 1);
    }

    #[test]
    fn an_allow_of_delete_reaches_the_class_derived_from_it_and_not_the_other_way() {
        let delete = ClassSet::named("delete").unwrap().with_derived();
        assert!(delete.contains(Class::DeleteWithoutWhere));
        let derived = ClassSet::named("delete-without-where")
            .unwrap()
            .with_derived();
        assert!(!derived.contains(Class::Delete));
    }

    #[test]
    fn read_holds_nothing_that_writes() {
        for class in ClassSet::named("read").unwrap().iter() {
            assert!(!class.entry().writes, "{class}");
        }
    }
}
