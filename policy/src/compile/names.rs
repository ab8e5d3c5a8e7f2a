//! From a name to the rules that list it.
//!
//! Which names a statement means is said in `decide`.

use std::collections::HashMap;

use aho_corasick::AhoCorasick;

use super::Bits;
use crate::pattern::{Candidate, ColumnPattern, Pattern};

/// Which reading of a name that may stand for several counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Some name that it may stand for is listed.
    May,
    /// Every name that it may stand for is listed.
    Must,
}

impl Reading {
    fn holds(self, pattern: &Pattern, candidate: Candidate<'_>) -> bool {
        match self {
            Self::May => pattern.may_match(candidate),
            Self::Must => pattern.must_match(candidate),
        }
    }
}

/// The patterns of one kind of list, of all rules: from a name to the rules that list it.
#[derive(Debug)]
pub(crate) struct NameTable {
    rules: usize,
    patterns: ByName<Pattern>,
}

/// The `columns` lists of all rules.
#[derive(Debug)]
pub(crate) struct ColumnTable {
    rules: usize,
    patterns: ByName<ColumnPattern>,
}

/// Patterns with the rule that each is of, so that a name is compared with few of them.
#[derive(Debug)]
struct ByName<P> {
    /// By the name that the name part stands for, where it has no wildcard.
    exact: HashMap<String, Vec<Listed<P>>>,
    /// Those of any name in one schema, by the schema.
    by_schema: HashMap<String, Vec<Listed<P>>>,
    /// Those whose name part has a wildcard and some text besides.
    wild: Vec<Listed<P>>,
    /// Finds in a name the longest text that each of `wild` wants there. `None`: compare all.
    automaton: Option<AhoCorasick>,
    /// The rest.
    loose: Vec<Listed<P>>,
}

/// A pattern and the rule that lists it.
#[derive(Debug, Clone)]
struct Listed<P> {
    pattern: P,
    rule: usize,
}

impl NameTable {
    pub(super) fn new<'p>(lists: impl Iterator<Item = Option<&'p [Pattern]>>) -> Self {
        let (patterns, rules) = ByName::new(lists, |pattern| pattern);
        Self { rules, patterns }
    }

    /// The rules that list the name.
    pub(crate) fn rules(&self, candidate: Candidate<'_>, reading: Reading) -> Bits {
        let mut bits = Bits::none(self.rules);
        self.patterns.each(candidate, |pattern, rule| {
            if reading.holds(pattern, candidate) {
                bits.insert(rule);
            }
        });
        bits
    }
}

impl ColumnTable {
    pub(super) fn new<'p>(lists: impl Iterator<Item = Option<&'p [ColumnPattern]>>) -> Self {
        let (patterns, rules) = ByName::new(lists, ColumnPattern::table);
        Self { rules, patterns }
    }

    /// The rules that list some column of the table.
    pub(crate) fn of_table(&self, candidate: Candidate<'_>, reading: Reading) -> Bits {
        self.rules(candidate, reading, |_| true)
    }

    /// The rules that list the column; `None` is any column, or all of them.
    pub(crate) fn of_column(
        &self,
        candidate: Candidate<'_>,
        column: Option<&str>,
        reading: Reading,
    ) -> Bits {
        self.rules(candidate, reading, |pattern| match (column, reading) {
            (Some(column), _) => pattern.has_column(column),
            (None, Reading::May) => true,
            (None, Reading::Must) => pattern.has_every_column(),
        })
    }

    fn rules(
        &self,
        candidate: Candidate<'_>,
        reading: Reading,
        lists: impl Fn(&ColumnPattern) -> bool,
    ) -> Bits {
        let mut bits = Bits::none(self.rules);
        self.patterns.each(candidate, |pattern, rule| {
            if reading.holds(pattern.table(), candidate) && lists(pattern) {
                bits.insert(rule);
            }
        });
        bits
    }
}

impl<P: Clone> ByName<P> {
    /// The patterns of the lists by their `named` part, and how many lists there are.
    fn new<'p>(
        lists: impl Iterator<Item = Option<&'p [P]>>,
        named: impl Fn(&P) -> &Pattern,
    ) -> (Self, usize)
    where
        P: 'p,
    {
        let mut patterns = Self {
            exact: HashMap::new(),
            by_schema: HashMap::new(),
            wild: Vec::new(),
            automaton: None,
            loose: Vec::new(),
        };
        let mut literals = Vec::new();
        let mut rules = 0;
        for (rule, list) in lists.enumerate() {
            rules = rule + 1;
            for pattern in list.unwrap_or_default() {
                let listed = Listed {
                    pattern: pattern.clone(),
                    rule,
                };
                let names = named(pattern);
                if let Some(name) = names.exact_name() {
                    let known = patterns.exact.entry(name.to_owned());
                    known.or_default().push(listed);
                } else if let Some(literal) = names.longest_literal() {
                    literals.push(literal.to_owned());
                    patterns.wild.push(listed);
                } else if let Some(schema) = names.exact_schema() {
                    let known = patterns.by_schema.entry(schema.to_owned());
                    known.or_default().push(listed);
                } else {
                    patterns.loose.push(listed);
                }
            }
        }
        // Its only failure is to be too large.
        patterns.automaton = AhoCorasick::new(literals).ok();
        (patterns, rules)
    }
}

impl<P> ByName<P> {
    /// Shows every pattern that may fit, some of them perhaps twice.
    fn each(&self, candidate: Candidate<'_>, mut show: impl FnMut(&P, usize)) {
        let mut all = |some: &[Listed<P>]| {
            for listed in some {
                show(&listed.pattern, listed.rule);
            }
        };
        all(&self.loose);
        match candidate.schema {
            Some(schema) => all(self.by_schema.get(schema).map_or(&[], Vec::as_slice)),
            None => self.by_schema.values().for_each(|some| all(some)),
        }
        match candidate.name {
            Some(name) => all(self.exact.get(name).map_or(&[], Vec::as_slice)),
            None => self.exact.values().for_each(|some| all(some)),
        }
        match (&self.automaton, candidate.name) {
            (Some(automaton), Some(name)) => {
                for found in automaton.find_overlapping_iter(name) {
                    all(self
                        .wild
                        .get(found.pattern().as_usize())
                        .map_or(&[], std::slice::from_ref));
                }
            }
            (None, _) | (_, None) => all(&self.wild),
        }
    }
}
