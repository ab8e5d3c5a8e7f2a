//! One rule: from words to classes, patterns and whom it is about.

use std::num::NonZeroU32;
use std::time::Duration;

use super::scope::{Scope, words};
use super::{EVERY, Known};
use crate::class::{ByColumn, CLASSES, Class, ClassSet, EVERY_CLASS, GROUPS};
use crate::pattern::{ColumnPattern, Pattern, PatternError};
use crate::quantity;
use crate::rule::{Reporter, Table, Words};
use crate::sql::Object;

/// Classes whose effects may have no object at all, so that an empty list still leaves something.
const OBJECTLESS: [Class; 3] = [Class::Select, Class::Explain, Class::CopyTo];

/// Longest `message`, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// How long a request for approval stays open without `expires`: an on-call person is at a screen
/// by then, and an agent that waits longer has usually been given up.
const EXPIRES_DEFAULT: Duration = Duration::from_secs(10 * 60);

/// The longest `expires`: an answer of yesterday is not about what is asked today.
const EXPIRES_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The most `approvals`: more people than this are never at hand within a day, so a larger number is
/// a slip of the pen.
const APPROVALS_MAX: u64 = 10;

/// One rule as it is judged.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) message: Option<String>,
    /// It is judged and decides nothing.
    pub(crate) shadow: bool,
    pub(crate) classes: ClassSet,
    pub(crate) tables: Option<Vec<Pattern>>,
    pub(crate) columns: Option<Vec<ColumnPattern>>,
    pub(crate) functions: Option<Vec<Pattern>>,
    pub(crate) scope: Scope,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    Hold(Hold),
}

/// Who may approve what a rule holds, and how long a request stays open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Groups, in the order of the file.
    pub approvers: Vec<String>,
    /// How many of them have to.
    pub approvals: NonZeroU32,
    pub expires: Duration,
}

impl Action {
    /// The key of it in a policy file.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold(_) => "hold",
        }
    }
}

/// The lists of a match, as they narrow its classes.
struct Lists {
    tables: Option<Vec<Pattern>>,
    columns: Option<Vec<ColumnPattern>>,
    functions: Option<Vec<Pattern>>,
}

impl Rule {
    pub(super) fn compile(
        table: &Table,
        known: &Known<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Option<Self> {
        let before = reporter.problems.len();
        let scope = Scope::compile(table, known, reporter);
        let action = action(table, reporter);
        let message = message(table, action.as_ref(), reporter);
        let matches = action
            .as_ref()
            .and_then(|action| table.table(action.word()));
        let (Some(action), Some(matches)) = (action, matches) else {
            return None;
        };
        let lists = lists(matches, reporter);
        let classes = classes(matches, &action, &lists, reporter);
        if reporter.problems.len() == before {
            check_lists(matches, &action, classes, reporter);
        }
        if reporter.problems.len() > before {
            return None;
        }
        Some(Self {
            name: table.text("name")?.value.clone(),
            action,
            message,
            shadow: table.flag("shadow"),
            classes,
            tables: lists.tables,
            columns: lists.columns,
            functions: lists.functions,
            scope: scope?,
        })
    }

    /// No list of this rule speaks about the class.
    pub(crate) fn leaves_open(&self, class: Class) -> bool {
        let line = class.entry();
        let narrowed = (self.tables.is_some() && line.tables)
            || (self.columns.is_some() && line.columns != ByColumn::Never)
            || (self.functions.is_some() && line.functions);
        !narrowed
    }

    /// None of its lists narrows anything.
    pub(super) fn leaves_all_open(&self) -> bool {
        self.tables.is_none() && self.columns.is_none() && self.functions.is_none()
    }

    /// What its lists say about such objects, for hints.
    pub(crate) fn patterns_for(&self, object: &Object) -> Vec<String> {
        if let Object::Function(_) = object {
            return shown(self.functions.as_deref());
        }
        let mut patterns = shown(self.tables.as_deref());
        patterns.append(&mut shown(self.columns.as_deref()));
        patterns
    }

    /// Every effect that `other` matches is one that this rule matches.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.scope.covers(&other.scope)
            && other
                .classes
                .iter()
                .all(|class| self.classes.contains(class) && self.leaves_open(class))
    }
}

fn shown<P: ToString>(patterns: Option<&[P]>) -> Vec<String> {
    patterns
        .unwrap_or_default()
        .iter()
        .map(P::to_string)
        .collect()
}

fn action(table: &Table, reporter: &mut Reporter<'_>) -> Option<Action> {
    let given: Vec<_> = ["allow", "deny", "hold"]
        .into_iter()
        .filter_map(|word| Some((word, table.key_span(word)?)))
        .collect();
    let word = match given.as_slice() {
        [(word, _)] => *word,
        [] => {
            let message = "the rule has none of `allow`, `deny` and `hold`";
            reporter.report(&table.span, message.to_owned());
            return None;
        }
        [.., (_, span)] => {
            let message = "a rule has one of `allow`, `deny` and `hold`; write two rules";
            reporter.report(span, message.to_owned());
            return None;
        }
    };
    if word != "hold" {
        for key in ["approvers", "approvals", "expires"] {
            if let Some(span) = table.key_span(key) {
                let message = format!("`{key}` belongs to a hold; this rule has none");
                reporter.report(&span, message);
            }
        }
    }
    match word {
        "allow" => Some(Action::Allow),
        "deny" => Some(Action::Deny),
        _ => hold(table, reporter).map(Action::Hold),
    }
}

fn hold(table: &Table, reporter: &mut Reporter<'_>) -> Option<Hold> {
    let before = reporter.problems.len();
    let mut approvers = Vec::new();
    match table.words("approvers") {
        Some(list) => {
            let every = words("approvers", list, reporter, |_, _| {}).is_none();
            if every && !list.value.is_empty() {
                let message = format!("`{EVERY}` in `approvers`: name the groups that may approve");
                reporter.report(&list.span, message);
            }
            approvers.extend(list.value.iter().map(|word| word.value.clone()));
        }
        None if table.key_span("approvers").is_none() => {
            let message = "a hold needs `approvers`: groups whose members may approve";
            reporter.report(&table.span, message.to_owned());
        }
        None => {}
    }
    let mut approvals = NonZeroU32::MIN;
    if let Some(number) = table.number("approvals") {
        let given = u32::try_from(number.value).ok().and_then(NonZeroU32::new);
        match given {
            Some(given) if number.value <= APPROVALS_MAX => approvals = given,
            Some(_) | None => reporter.report(
                &number.span,
                format!("`approvals` is a number of people from 1 to {APPROVALS_MAX}"),
            ),
        }
    }
    let mut expires = EXPIRES_DEFAULT;
    if let Some(text) = table.text("expires") {
        match quantity::duration(&text.value) {
            Some(given) if !given.is_zero() && given <= EXPIRES_MAX => expires = given,
            Some(_) | None => reporter.report(
                &text.span,
                "`expires` is a duration up to a day, such as \"10m\"".to_owned(),
            ),
        }
    }
    (reporter.problems.len() == before).then_some(Hold {
        approvers,
        approvals,
        expires,
    })
}

fn message(table: &Table, action: Option<&Action>, reporter: &mut Reporter<'_>) -> Option<String> {
    let message = table.text("message")?;
    if action == Some(&Action::Allow) {
        reporter.report(
            &message.span,
            "`message` is shown by a deny or hold; this rule has none".to_owned(),
        );
    }
    let text = &message.value;
    if text.trim().is_empty()
        || text.chars().count() > MESSAGE_CHARS_MAX
        || text.chars().any(char::is_control)
    {
        reporter.report(
            &message.span,
            format!("`message` is one line of 1 to {MESSAGE_CHARS_MAX} characters"),
        );
    }
    Some(text.clone())
}

fn lists(matches: &Table, reporter: &mut Reporter<'_>) -> Lists {
    if let (Some(_), Some(span)) = (matches.key_span("tables"), matches.key_span("columns")) {
        let message = "`columns` stands in place of `tables`; write two rules";
        reporter.report(&span, message.to_owned());
    }
    Lists {
        tables: patterns(matches.words("tables"), reporter, Pattern::parse),
        columns: patterns(matches.words("columns"), reporter, ColumnPattern::parse),
        functions: patterns(matches.words("functions"), reporter, Pattern::parse),
    }
}

pub(super) fn patterns<P>(
    list: Option<&Words>,
    reporter: &mut Reporter<'_>,
    parse: impl Fn(&str) -> Result<P, PatternError>,
) -> Option<Vec<P>> {
    let list = list?;
    let mut patterns = Vec::new();
    for word in &list.value {
        match parse(&word.value) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                reporter.report(&word.span, format!("`{}`: {error}", word.value));
            }
        }
    }
    Some(patterns)
}

fn classes(
    matches: &Table,
    action: &Action,
    lists: &Lists,
    reporter: &mut Reporter<'_>,
) -> ClassSet {
    let grants = *action == Action::Allow;
    let mut classes = ClassSet::EMPTY;
    let Some(statements) = matches.words("statements") else {
        return classes;
    };
    for word in &statements.value {
        let Some(mut named) = ClassSet::named(&word.value) else {
            let valid = CLASSES
                .iter()
                .map(|line| line.name)
                .chain(GROUPS.iter().map(|(name, _)| *name));
            reporter.report_word(
                &word.span,
                format!("unknown class of statements `{}`", word.value),
                &word.value,
                valid,
            );
            continue;
        };
        let is_group = Class::named(&word.value).is_none();
        if lists.columns.is_some() {
            let beyond = |class: &Class| {
                let line = class.entry();
                line.tables && line.columns == ByColumn::Never
            };
            if !is_group && named.iter().any(|class| beyond(&class)) {
                let message = format!("`{}` is not done to columns: give `tables`", word.value);
                reporter.report(&word.span, message);
            }
            named = named.iter().filter(|class| !beyond(class)).collect();
        }
        // Else a deny of everything on one table would also refuse BEGIN and SET.
        if word.value == EVERY_CLASS && !grants && lists.any() {
            named = named
                .iter()
                .filter(|class| lists.speak_about(*class))
                .collect();
        }
        if grants && lists.functions.is_none() && matches!(word.value.as_str(), "function" | "call")
        {
            reporter.report(
                &word.span,
                format!(
                    "`{}` is allowed by name only: give `functions` too, or nothing matches",
                    word.value
                ),
            );
        }
        classes = classes.union(named);
    }
    if statements.value.is_empty() {
        reporter.report(
            &statements.span,
            "`statements` is empty: the rule matches nothing".to_owned(),
        );
    }
    // What is derived always comes with its base: to cover the one is to cover the other.
    if *action == Action::Deny {
        classes
    } else {
        classes.with_derived()
    }
}

impl Lists {
    fn any(&self) -> bool {
        self.tables.is_some() || self.columns.is_some() || self.functions.is_some()
    }

    fn speak_about(&self, class: Class) -> bool {
        let line = class.entry();
        (self.tables.is_some() && line.tables)
            || (self.columns.is_some() && line.columns != ByColumn::Never)
            || (self.functions.is_some() && line.functions)
    }
}

/// A list that no class of the rule has use for, and a rule whose empty lists leave nothing.
fn check_lists(matches: &Table, action: &Action, classes: ClassSet, reporter: &mut Reporter<'_>) {
    for key in ["tables", "columns", "functions"] {
        let uses = |class: Class| match key {
            "tables" => class.entry().tables,
            "columns" => class.entry().columns == ByColumn::Each,
            _ => class.entry().functions,
        };
        let Some(list) = matches.words(key) else {
            continue;
        };
        if !classes.iter().any(uses) {
            reporter.report(
                &list.span,
                format!("`{key}` has no effect: nothing of class {classes} is done to {key}"),
            );
        }
    }
    let closes = |key: &str, speaks: bool| {
        // Whether the list leaves objects of such a kind out, and whether it names any.
        let list = matches.words(key);
        let narrows = speaks && list.is_some();
        let names_nothing = list.is_none_or(|list| list.value.is_empty());
        (narrows, !speaks || names_nothing)
    };
    let closed = |class: Class| {
        let line = class.entry();
        let tables = closes("tables", line.tables && matches.words("columns").is_none());
        let columns = closes("columns", line.columns != ByColumn::Never);
        let functions = closes("functions", line.functions);
        let all = [tables, columns, functions];
        all.iter().any(|(narrows, _)| *narrows)
            && all.iter().all(|(_, names_nothing)| *names_nothing)
            && (*action != Action::Allow || !OBJECTLESS.contains(&class))
    };
    let some_list = ["tables", "columns", "functions"]
        .iter()
        .any(|key| matches.words(key).is_some());
    if some_list
        && classes.iter().all(closed)
        && let Some(statements) = matches.words("statements")
    {
        reporter.report(
            &statements.span,
            "the empty lists leave nothing that the rule could match".to_owned(),
        );
    }
}
