//! The one table of keys of policy files: name, table, kind of value, meaning.
//!
//! The parser, the tables of `docs/policy.md` and `docs/schema/policy.json` come from it.

use std::fmt;

/// A key of policy files.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    /// The table that it stands in.
    pub within: Within,
    pub value: Value,
    pub required: bool,
    pub meaning: &'static str,
}

/// Tables of a policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    File,
    Rule,
    Match,
    When,
    Mask,
    Budget,
}

/// Every table, in the order of the documentation.
pub const TABLES: &[Within] = &[
    Within::File,
    Within::Rule,
    Within::Match,
    Within::When,
    Within::Mask,
    Within::Budget,
];

impl Within {
    /// What stands in such a table, for messages and the documentation.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::File => "a policy file",
            Self::Rule => "a rule",
            Self::Match => "a match",
            Self::When => "a time window",
            Self::Mask => "a mask",
            Self::Budget => "a budget",
        }
    }
}

/// What can be the value of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// `[[KEY]]`
    Tables(Within),
    Table(Within),
    Text,
    Flag,
    Number,
    /// `90s`, `10m`, `8h`
    Duration,
    /// `64KiB`, `16MiB`
    Size,
    OneOf(&'static [&'static str]),
    Texts,
    /// Patterns of names of tables or functions.
    Patterns,
    ColumnPatterns,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables(_) => f.write_str("array of tables"),
            Self::Table(Within::Match) => f.write_str("match"),
            Self::Table(within) => f.write_str(within.title()),
            Self::Text => f.write_str("string"),
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Number => f.write_str("number"),
            Self::Duration => f.write_str("duration"),
            Self::Size => f.write_str("size"),
            Self::OneOf(words) => {
                for (index, word) in words.iter().enumerate() {
                    let between = if index == 0 { "" } else { " or " };
                    write!(f, "{between}`{word}`")?;
                }
                Ok(())
            }
            Self::Texts => f.write_str("list of strings"),
            Self::Patterns => f.write_str("list of patterns"),
            Self::ColumnPatterns => f.write_str("list of column patterns"),
        }
    }
}

const fn key(within: Within, name: &'static str, value: Value, meaning: &'static str) -> Key {
    Key {
        name,
        within,
        value,
        required: false,
        meaning,
    }
}

impl Key {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// Words of `delegated`.
pub(crate) const NEVER: &str = "never";
pub(crate) const REQUIRED: &str = "required";
/// Words of `on_lost`.
pub(crate) const DENY: &str = "deny";
pub(crate) const REDACT: &str = "redact";
/// Words of `per`.
pub(crate) const PRINCIPAL: &str = "principal";
pub(crate) const SESSION: &str = "session";

const GROUPS: &str = "whom it is about: a principal in any of these groups; `*` is everybody";
const TARGETS: &str = "where: names of targets in the configuration, or `TARGET/DATABASE` for one \
                       database of a target with `databases`; `*` is every target";
const EXCEPT: &str =
    "whom it is not about, whatever `groups` says: a principal in any of these groups";

/// Every key, once: the parser and `docs/policy.md` come from it.
pub const KEYS: &[Key] = &[
    key(
        Within::File,
        "rule",
        Value::Tables(Within::Rule),
        "one rule; the order of rules and files does not matter",
    ),
    key(
        Within::File,
        "mask",
        Value::Tables(Within::Mask),
        "what is hidden from whom",
    ),
    key(
        Within::File,
        "budget",
        Value::Tables(Within::Budget),
        "how much is given to whom",
    ),
    key(
        Within::Rule,
        "name",
        Value::Text,
        "unique over all rules, masks and budgets of all files; letters, digits, `-`, `_` and `.`; shown to whom it refuses",
    )
    .required(),
    key(Within::Rule, "groups", Value::Texts, GROUPS).required(),
    key(Within::Rule, "targets", Value::Texts, TARGETS).required(),
    key(
        Within::Rule,
        "allow",
        Value::Table(Within::Match),
        "what is allowed; a rule has one of `allow`, `deny` and `hold`",
    ),
    key(
        Within::Rule,
        "deny",
        Value::Table(Within::Match),
        "what is refused, whatever other rules allow",
    ),
    key(
        Within::Rule,
        "hold",
        Value::Table(Within::Match),
        "what a person has to approve, whatever other rules allow; it needs no allow rule besides",
    ),
    key(
        Within::Rule,
        "approvers",
        Value::Texts,
        "groups whose members may approve; required with `hold`, and only there",
    ),
    key(
        Within::Rule,
        "approvals",
        Value::Number,
        "how many of them have to approve, each for himself; `1` if not given, at most 10; only with `hold`",
    ),
    key(
        Within::Rule,
        "expires",
        Value::Duration,
        "how long a request for approval stays open, `10m` if not given; only with `hold`; at most a day",
    ),
    key(
        Within::Rule,
        "message",
        Value::Text,
        "what a client reads when this rule refuses or holds; only with `deny` and `hold`; one line of at most 500 characters",
    ),
    key(
        Within::Rule,
        "shadow",
        Value::Flag,
        "the rule is judged and what it would have done is recorded and counted, but it decides nothing",
    ),
    key(
        Within::Rule,
        "networks",
        Value::Texts,
        "from where: networks (`10.0.0.0/8`, `2001:db8::/32`) and addresses of clients; `unix` is a Unix socket",
    ),
    key(
        Within::Rule,
        "when",
        Value::Table(Within::When),
        "the days and hours that it is about; outside of them it is as if it were not there",
    ),
    key(
        Within::Rule,
        "issuers",
        Value::Texts,
        "who vouches: names of issuers in the configuration",
    ),
    key(
        Within::Rule,
        "subjects",
        Value::Texts,
        "the subject that the token names; `*` stands for any run of characters",
    ),
    key(
        Within::Rule,
        "delegated",
        Value::OneOf(&[NEVER, REQUIRED]),
        "whether the principal must act on behalf of another (`act` in its token), or must not",
    ),
    key(
        Within::Rule,
        "actors",
        Value::Texts,
        "who acts: the subject of the outermost `act` of the token; `*` stands for any run of characters; nobody acts where nothing was delegated",
    ),
    key(
        Within::Match,
        "statements",
        Value::Texts,
        "classes of statements or names of groups of them; `*` is every class but `unknown`",
    )
    .required(),
    key(
        Within::Match,
        "tables",
        Value::Patterns,
        "tables, views, sequences and everything else that is named within a schema, but functions",
    ),
    key(
        Within::Match,
        "columns",
        Value::ColumnPatterns,
        "columns that are read or written; in place of `tables`, with `select`, `insert` and `update`",
    ),
    key(
        Within::Match,
        "functions",
        Value::Patterns,
        "functions, procedures, aggregates and operators",
    ),
    key(
        Within::When,
        "days",
        Value::Texts,
        "`mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`; every day if not given",
    ),
    key(
        Within::When,
        "hours",
        Value::Text,
        "`08:00-18:00`: from one minute up to another; over midnight it belongs to the day that it begins on; the whole day if not given",
    ),
    key(
        Within::When,
        "zone",
        Value::Text,
        "whose clocks count: a name of the time zone database, `UTC` if not given",
    ),
    key(
        Within::Mask,
        "name",
        Value::Text,
        "as of a rule",
    )
    .required(),
    key(Within::Mask, "targets", Value::Texts, TARGETS).required(),
    key(
        Within::Mask,
        "groups",
        Value::Texts,
        "from whom it hides: a principal in any of these groups; everybody if not given",
    ),
    key(Within::Mask, "except_groups", Value::Texts, EXCEPT),
    key(
        Within::Mask,
        "columns",
        Value::ColumnPatterns,
        "columns whose values are hidden, wherever they show",
    ),
    key(
        Within::Mask,
        "detect",
        Value::Texts,
        "names of detectors: values that look so are hidden in any column",
    ),
    key(
        Within::Mask,
        "patterns",
        Value::Texts,
        "regular expressions of your own: what matches is hidden in any column",
    ),
    key(
        Within::Mask,
        "words",
        Value::Texts,
        "words of your own that are hidden in any column",
    ),
    key(
        Within::Mask,
        "with",
        Value::Text,
        "what is shown instead: `redact`, `null`, `fixed:TEXT`, `last4` and others; of two masks on one column the stricter counts",
    )
    .required(),
    key(
        Within::Mask,
        "deny_predicates",
        Value::Flag,
        "the columns may not decide what is answered either: in WHERE, JOIN, GROUP BY, ORDER BY and the like they are refused; with `columns`",
    ),
    key(
        Within::Mask,
        "clear_functions",
        Value::Patterns,
        "functions that are not built in and are known not to read what is hidden; with `columns`",
    ),
    key(
        Within::Mask,
        "on_lost",
        Value::OneOf(&[DENY, REDACT]),
        "what becomes of a statement that cannot be traced to columns: it is refused (`deny`, if not given), or all that it answers is hidden; with `columns`",
    ),
    key(
        Within::Budget,
        "name",
        Value::Text,
        "as of a rule; shown to whom it refuses",
    )
    .required(),
    key(Within::Budget, "targets", Value::Texts, TARGETS).required(),
    key(
        Within::Budget,
        "groups",
        Value::Texts,
        "whom it limits: a principal in any of these groups; everybody if not given",
    ),
    key(Within::Budget, "except_groups", Value::Texts, EXCEPT),
    key(
        Within::Budget,
        "per",
        Value::OneOf(&[PRINCIPAL, SESSION]),
        "whether `rows`, `bytes` and `statements_per_minute` count over all sessions of a principal (if not given), or for each session by itself",
    ),
    key(
        Within::Budget,
        "rows",
        Value::Number,
        "rows that may be answered; each day (UTC) begins anew",
    ),
    key(
        Within::Budget,
        "bytes",
        Value::Size,
        "bytes of rows and COPY data that may be answered; each day (UTC) begins anew",
    ),
    key(
        Within::Budget,
        "statements_per_minute",
        Value::Number,
        "statements that may be run; each minute begins anew",
    ),
    key(
        Within::Budget,
        "statement_time",
        Value::Duration,
        "how long a statement may run before it is cancelled",
    ),
    key(
        Within::Budget,
        "sessions",
        Value::Number,
        "sessions that a principal may have at once",
    ),
];

/// The keys of one table.
pub(crate) fn keys_of(within: Within) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.within == within)
}

/// The tables of keys of `docs/policy.md`.
#[must_use]
pub fn documentation() -> String {
    let mut text = String::new();
    for table in TABLES {
        text.push_str(&format!(
            "### Keys of {}\n\n| key | value | meaning |\n|---|---|---|\n",
            table.title()
        ));
        for key in keys_of(*table) {
            let required = if key.required { ", required" } else { "" };
            text.push_str(&format!(
                "| `{}` | {}{required} | {} |\n",
                key.name, key.value, key.meaning
            ));
        }
        text.push('\n');
    }
    text
}
