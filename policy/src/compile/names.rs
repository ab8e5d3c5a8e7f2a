//! From a name to the rules that list it.
//!
//! Which names a statement means is said in `decide`.

use std::collections::HashMap;

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

/// Patterns with the rule that each is of, by the name that its name part stands for.
#[derive(Debug)]
struct ByName<P> {
    exact: HashMap<String, Vec<(P, usize)>>,
    /// Those whose name part has a wildcard.
    wild: Vec<(P, usize)>,
}

impl NameTable {
    pub(super) fn new<'p>(lists: impl Iterator<Item = Option<&'p [Pattern]>>) -> Self {
        let (patterns, rules) = ByName::new(lists, Pattern::exact_name);
        Self { rules, patterns }
    }

    /// The rules that list the name.
    pub(crate) fn rules(&self, candidate: Candidate<'_>, reading: Reading) -> Bits {
        let mut bits = Bits::none(self.rules);
        self.patterns.each(candidate.name, |pattern, rule| {
            if reading.holds(pattern, candidate) {
                bits.insert(rule);
            }
        });
        bits
    }
}

impl ColumnTable {
    pub(super) fn new<'p>(lists: impl Iterator<Item = Option<&'p [ColumnPattern]>>) -> Self {
        let (patterns, rules) = ByName::new(lists, |pattern| pattern.table().exact_name());
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
        self.patterns.each(candidate.name, |pattern, rule| {
            if reading.holds(pattern.table(), candidate) && lists(pattern) {
                bits.insert(rule);
            }
        });
        bits
    }
}

impl<P: Clone> ByName<P> {
    /// The patterns of the lists, and how many lists there are.
    fn new<'p>(
        lists: impl Iterator<Item = Option<&'p [P]>>,
        exact_name: impl Fn(&P) -> Option<&str>,
    ) -> (Self, usize)
    where
        P: 'p,
    {
        let mut patterns = Self {
            exact: HashMap::new(),
            wild: Vec::new(),
        };
        let mut rules = 0;
        for (rule, list) in lists.enumerate() {
            rules = rule + 1;
            for pattern in list.unwrap_or_default() {
                let entry = (pattern.clone(), rule);
                match exact_name(pattern) {
                    Some(name) => patterns
                        .exact
                        .entry(name.to_owned())
                        .or_default()
                        .push(entry),
                    None => patterns.wild.push(entry),
                }
            }
        }
        (patterns, rules)
    }
}

impl<P> ByName<P> {
    /// Shows every pattern whose name part may fit.
    fn each(&self, name: Option<&str>, mut show: impl FnMut(&P, usize)) {
        let mut all = |entries: &[(P, usize)]| {
            for (pattern, rule) in entries {
                show(pattern, *rule);
            }
        };
        match name {
            Some(name) => self
                .exact
                .get(name)
                .into_iter()
                .for_each(|entries| all(entries)),
            None => self.exact.values().for_each(|entries| all(entries)),
        }
        all(&self.wild);
    }
}
