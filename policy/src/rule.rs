//! Rules as the operator wrote them, with source positions.
//!
//! Knows the shape of policy files; what their words mean is found out in `compile`.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// One policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As it is to be named in messages.
    pub file: String,
    pub text: String,
}

/// Something in a policy file that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    /// The closest valid word.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    /// `FILE:LINE:COLUMN: message (did you mean ...?)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            suggestion,
        } = self;
        write!(f, "{file}:{line}:{column}: {message}")?;
        match suggestion {
            Some(word) => write!(f, " (did you mean `{word}`?)"),
            None => Ok(()),
        }
    }
}

/// A key of policy files.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    /// The table that it stands in.
    pub within: Within,
    pub value: &'static str,
    pub required: bool,
    pub meaning: &'static str,
}

/// Tables of a policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    File,
    Rule,
    Match,
}

/// Every key, once: the parser and `docs/policy.md` come from it.
pub const KEYS: &[Key] = &[
    Key {
        name: "rule",
        within: Within::File,
        value: "array of tables",
        required: false,
        meaning: "one rule; the order of rules and files does not matter",
    },
    Key {
        name: "name",
        within: Within::Rule,
        value: "string",
        required: true,
        meaning: "unique over all files; letters, digits, `-`, `_` and `.`; shown to whom it refuses",
    },
    Key {
        name: "groups",
        within: Within::Rule,
        value: "list of strings",
        required: true,
        meaning: "whom it is about: a principal in any of these groups; `*` is everybody",
    },
    Key {
        name: "targets",
        within: Within::Rule,
        value: "list of strings",
        required: true,
        meaning: "where: names of targets in the configuration, or `TARGET/DATABASE` for one database of a \
                  target with `databases`; `*` is every target",
    },
    Key {
        name: "allow",
        within: Within::Rule,
        value: "match",
        required: false,
        meaning: "what is allowed; a rule has either `allow` or `deny`",
    },
    Key {
        name: "deny",
        within: Within::Rule,
        value: "match",
        required: false,
        meaning: "what is refused, whatever other rules allow",
    },
    Key {
        name: "message",
        within: Within::Rule,
        value: "string",
        required: false,
        meaning: "what a client reads when this rule refuses; only with `deny`; one line of at most 500 characters",
    },
    Key {
        name: "statements",
        within: Within::Match,
        value: "list of strings",
        required: true,
        meaning: "classes of statements or names of groups of them; `*` is every class but `unknown`",
    },
    Key {
        name: "tables",
        within: Within::Match,
        value: "list of patterns",
        required: false,
        meaning: "tables, views, sequences and everything else that is named within a schema, but functions",
    },
    Key {
        name: "functions",
        within: Within::Match,
        value: "list of patterns",
        required: false,
        meaning: "functions, procedures, aggregates and operators",
    },
];

/// Words of the language that this version does not have yet.
const RESERVED: &[(&str, Within)] = &[
    ("mask", Within::File),
    ("budget", Within::File),
    ("hold", Within::Rule),
    ("approvers", Within::Rule),
    ("expires", Within::Rule),
    ("shadow", Within::Rule),
    ("columns", Within::Match),
];

/// Longest `message`, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// Longest `name`, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// A rule whose words are not looked into yet. What is missing has been reported.
#[derive(Debug)]
pub(crate) struct WrittenRule {
    pub(crate) name: Option<At<String>>,
    pub(crate) groups: At<Vec<At<String>>>,
    pub(crate) targets: At<Vec<At<String>>>,
    pub(crate) deny: bool,
    pub(crate) matches: WrittenMatch,
    pub(crate) message: Option<String>,
}

#[derive(Debug)]
pub(crate) struct WrittenMatch {
    pub(crate) statements: At<Vec<At<String>>>,
    pub(crate) tables: Option<At<Vec<At<String>>>>,
    pub(crate) functions: Option<At<Vec<At<String>>>>,
}

/// Collects problems of one file.
pub(crate) struct Reporter<'a> {
    source: &'a Source,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self {
            source,
            problems: Vec::new(),
        }
    }

    pub(crate) fn report(&mut self, span: &Range<usize>, message: String) {
        self.report_with(span, message, None);
    }

    /// With the word of `valid` that is closest to `word`, if one is close.
    pub(crate) fn report_word<'w>(
        &mut self,
        span: &Range<usize>,
        message: String,
        word: &str,
        valid: impl IntoIterator<Item = &'w str>,
    ) {
        self.report_with(span, message, closest(word, valid));
    }

    fn report_with(&mut self, span: &Range<usize>, message: String, suggestion: Option<String>) {
        let problem = self.problem(span, message, suggestion);
        self.problems.push(problem);
    }

    pub(crate) fn problem(
        &self,
        span: &Range<usize>,
        message: String,
        suggestion: Option<String>,
    ) -> Problem {
        let (line, column) = position(&self.source.text, span.start);
        Problem {
            file: self.source.file.clone(),
            line,
            column,
            message,
            suggestion,
        }
    }
}

/// Reads one file; what is wrong with its shape is in `reporter` afterwards.
pub(crate) fn read(source: &Source, reporter: &mut Reporter<'_>) -> Vec<WrittenRule> {
    let (file, errors) = DeTable::parse_recoverable(&source.text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        reporter.report(&span, error.message().trim().replace('\n', "; "));
    }
    if !errors.is_empty() {
        return Vec::new();
    }
    let mut rules = Vec::new();
    for (key, value) in file.get_ref() {
        if !known(Within::File, key.get_ref(), key.span(), reporter) {
            continue;
        }
        let DeValue::Array(tables) = value.get_ref() else {
            reporter.report(&value.span(), "write `[[rule]]`".to_owned());
            continue;
        };
        for table in tables {
            if let DeValue::Table(rule) = table.get_ref() {
                rules.extend(read_rule(rule, table.span(), reporter));
            } else {
                reporter.report(&table.span(), "a rule is a table".to_owned());
            }
        }
    }
    rules
}

fn read_rule(
    table: &DeTable<'_>,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Option<WrittenRule> {
    let mut name = None;
    let mut groups = None;
    let mut targets = None;
    let mut allow = None;
    let mut deny = None;
    let mut message = None;
    for (key, value) in table {
        let span = value.span();
        match key.get_ref().as_ref() {
            "name" => name = read_name(value.get_ref(), span, reporter),
            "groups" => groups = read_list("groups", value.get_ref(), span, reporter),
            "targets" => targets = read_list("targets", value.get_ref(), span, reporter),
            "allow" => allow = Some((key.span(), read_match(value.get_ref(), span, reporter))),
            "deny" => deny = Some((key.span(), read_match(value.get_ref(), span, reporter))),
            "message" => {
                message = Some((span.clone(), read_message(value.get_ref(), span, reporter)))
            }
            other => {
                known(Within::Rule, other, key.span(), reporter);
            }
        }
    }
    require(Within::Rule, table, &span, reporter);
    if let (Some((at, _)), None) = (&message, &deny) {
        reporter.report(
            at,
            "`message` is shown by a deny; this rule has none".to_owned(),
        );
    }
    let (is_deny, matches) = match (allow, deny) {
        (Some((_, matches)), None) => (false, matches),
        (None, Some((_, matches))) => (true, matches),
        (Some(_), Some((at, _))) => {
            let message = "a rule has either `allow` or `deny`; write two rules";
            reporter.report(&at, message.to_owned());
            return None;
        }
        (None, None) => {
            reporter.report(&span, "the rule has neither `allow` nor `deny`".to_owned());
            return None;
        }
    };
    Some(WrittenRule {
        name,
        groups: groups.unwrap_or_else(|| every(&span)),
        targets: targets.unwrap_or_else(|| every(&span)),
        deny: is_deny,
        matches: matches?,
        message: message.and_then(|(_, message)| message),
    })
}

/// Stands in for a list whose absence is reported, so that the other words are looked at too.
fn every(span: &Range<usize>) -> At<Vec<At<String>>> {
    At {
        value: vec![At {
            value: "*".to_owned(),
            span: span.clone(),
        }],
        span: span.clone(),
    }
}

fn read_match(
    value: &DeValue<'_>,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Option<WrittenMatch> {
    let DeValue::Table(table) = value else {
        reporter.report(&span, "expected `{ statements = [...] }`".to_owned());
        return None;
    };
    let mut statements = None;
    let mut tables = None;
    let mut functions = None;
    for (key, value) in table {
        let span = value.span();
        match key.get_ref().as_ref() {
            "statements" => statements = read_list("statements", value.get_ref(), span, reporter),
            "tables" => tables = read_list("tables", value.get_ref(), span, reporter),
            "functions" => functions = read_list("functions", value.get_ref(), span, reporter),
            other => {
                known(Within::Match, other, key.span(), reporter);
            }
        }
    }
    require(Within::Match, table, &span, reporter);
    Some(WrittenMatch {
        statements: statements.unwrap_or_else(|| every(&span)),
        tables,
        functions,
    })
}

fn read_list(
    key: &str,
    value: &DeValue<'_>,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Option<At<Vec<At<String>>>> {
    let DeValue::Array(items) = value else {
        reporter.report(&span, format!("`{key}` is a list of strings"));
        return None;
    };
    let mut words = Vec::new();
    for item in items {
        if let DeValue::String(word) = item.get_ref() {
            words.push(At {
                value: word.to_string(),
                span: item.span(),
            });
        } else {
            reporter.report(&item.span(), format!("`{key}` is a list of strings"));
        }
    }
    Some(At { value: words, span })
}

fn read_name(
    value: &DeValue<'_>,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Option<At<String>> {
    let DeValue::String(name) = value else {
        reporter.report(&span, "`name` is a string".to_owned());
        return None;
    };
    let fits = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !fits {
        reporter.report(
            &span,
            format!("a rule's name is 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`"),
        );
        return None;
    }
    Some(At {
        value: name.to_string(),
        span,
    })
}

fn read_message(
    value: &DeValue<'_>,
    span: Range<usize>,
    reporter: &mut Reporter<'_>,
) -> Option<String> {
    let DeValue::String(message) = value else {
        reporter.report(&span, "`message` is a string".to_owned());
        return None;
    };
    if message.trim().is_empty()
        || message.chars().count() > MESSAGE_CHARS_MAX
        || message.chars().any(char::is_control)
    {
        reporter.report(
            &span,
            format!("`message` is one line of 1 to {MESSAGE_CHARS_MAX} characters"),
        );
        return None;
    }
    Some(message.to_string())
}

/// Whether the key exists in that table; reports it otherwise.
fn known(within: Within, word: &str, span: Range<usize>, reporter: &mut Reporter<'_>) -> bool {
    let mut keys = KEYS.iter().filter(|key| key.within == within);
    if keys.any(|key| key.name == word) {
        return true;
    }
    if RESERVED.contains(&(word, within)) {
        reporter.report(
            &span,
            format!(
                "`{word}` is a word of the policy language that this version does not have yet"
            ),
        );
        return false;
    }
    let valid = KEYS
        .iter()
        .filter(|key| key.within == within)
        .map(|key| key.name);
    reporter.report_word(&span, format!("unknown key `{word}`"), word, valid);
    false
}

fn require(within: Within, table: &DeTable<'_>, span: &Range<usize>, reporter: &mut Reporter<'_>) {
    let missing = KEYS
        .iter()
        .filter(|key| key.within == within && key.required)
        .filter(|key| !table.keys().any(|present| present.get_ref() == key.name));
    for key in missing {
        reporter.report(span, format!("the key `{}` is missing", key.name));
    }
}

/// The word of `valid` closest to `word`, if it is close enough to be meant.
fn closest<'w>(word: &str, valid: impl IntoIterator<Item = &'w str>) -> Option<String> {
    valid
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.chars().count().min(word.chars().count()) / 3
        })
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// Line and column of a byte of `text`, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = text.get(..byte).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}
