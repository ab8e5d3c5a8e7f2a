//! From rules as written to one immutable policy: every operator mistake is found here.
//!
//! Judges nothing; the compiled form is read in `decide`.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::class::{CLASSES, Class, ClassSet, EVERY_CLASS, GROUPS};
use crate::pattern::{Candidate, Pattern};
use crate::rule::{self, At, Problem, Reporter, Source, WrittenRule};
use crate::target::{DATABASE_SEPARATOR, KnownTarget, Target};

/// Stands for every group, and for every target.
const EVERY: &str = "*";

/// Classes whose effects may have no object at all, so that an empty list still leaves something.
const OBJECTLESS: [Class; 3] = [Class::Select, Class::Explain, Class::CopyTo];

/// The rules in force for all principals and targets.
///
/// Scope: per process, immutable; published to the shards as a snapshot.
#[derive(Debug)]
pub struct Policy {
    pub(crate) version: Version,
    pub(crate) rules: Vec<Rule>,
    pub(crate) by_group: HashMap<String, Bits>,
    pub(crate) for_everybody: Bits,
    pub(crate) by_target: HashMap<String, Bits>,
    pub(crate) for_every_target: Bits,
    /// By class: the rules that hold it.
    pub(crate) holding: Vec<Bits>,
    /// By class: the rules of which no list narrows it.
    pub(crate) open: Vec<Bits>,
    pub(crate) denies: Bits,
    pub(crate) tables: NameTable,
    pub(crate) functions: NameTable,
}

/// One rule as it is judged.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) deny: bool,
    pub(crate) message: Option<String>,
    pub(crate) classes: ClassSet,
    pub(crate) tables: Option<Vec<Pattern>>,
    pub(crate) functions: Option<Vec<Pattern>>,
    groups: Option<HashSet<String>>,
    targets: Option<HashSet<String>>,
}

/// What the files' rules became.
#[derive(Debug)]
pub struct Compiled {
    pub policy: Policy,
    /// Nothing that stops the policy, but that its author should see.
    pub warnings: Vec<Problem>,
}

/// Names one policy: equal for equal sources under the same version of this crate.
///
/// 128-bit FNV-1a; not a defence against an operator who looks for collisions in their own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(u128);

impl Version {
    /// Its first 64 bits, for recordings: enough to tell the policies of one site apart.
    #[must_use]
    pub fn number(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Policy {
    /// Compiles the policy files.
    ///
    /// `known_targets` are the configured targets.
    ///
    /// # Errors
    /// All problems of all files, in their order. There is no partial policy.
    pub fn compile(
        sources: &[Source],
        known_targets: &[KnownTarget<'_>],
    ) -> Result<Compiled, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut rules: Vec<(Rule, usize, std::ops::Range<usize>)> = Vec::new();
        let mut names: HashSet<String> = HashSet::new();
        for (index, source) in sources.iter().enumerate() {
            let mut reporter = Reporter::new(source);
            for written in rule::read(source, &mut reporter) {
                if let Some(name) = &written.name
                    && !names.insert(name.value.clone())
                {
                    let message = format!("a second rule is called `{}`", name.value);
                    reporter.report(&name.span, message);
                }
                let span = written.name.as_ref().map_or(0..0, |name| name.span.clone());
                if let Some(rule) = Rule::compile(written, known_targets, &mut reporter) {
                    rules.push((rule, index, span));
                }
            }
            reporter.problems.sort();
            problems.append(&mut reporter.problems);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let warnings = warnings(sources, &rules);
        let rules = rules.into_iter().map(|(rule, ..)| rule).collect();
        Ok(Compiled {
            policy: Self::of_rules(rules, version(sources)),
            warnings,
        })
    }

    /// Names this policy; part of the key of any cache of its decisions.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    fn of_rules(rules: Vec<Rule>, version: Version) -> Self {
        let select = |test: &dyn Fn(&Rule) -> bool| -> Bits {
            let mut bits = Bits::none(rules.len());
            for (index, rule) in rules.iter().enumerate() {
                if test(rule) {
                    bits.insert(index);
                }
            }
            bits
        };
        let by_word = |words: &dyn Fn(&Rule) -> &Option<HashSet<String>>| {
            let mut map: HashMap<String, Bits> = HashMap::new();
            for (index, rule) in rules.iter().enumerate() {
                for word in words(rule).iter().flatten() {
                    map.entry(word.clone())
                        .or_insert_with(|| Bits::none(rules.len()))
                        .insert(index);
                }
            }
            map
        };
        Self {
            version,
            by_group: by_word(&|rule| &rule.groups),
            for_everybody: select(&|rule| rule.groups.is_none()),
            by_target: by_word(&|rule| &rule.targets),
            for_every_target: select(&|rule| rule.targets.is_none()),
            holding: CLASSES
                .iter()
                .map(|line| select(&|rule| rule.classes.contains(line.class)))
                .collect(),
            open: CLASSES
                .iter()
                .map(|line| select(&|rule| rule.leaves_open(line.class)))
                .collect(),
            denies: select(&|rule| rule.deny),
            tables: NameTable::new(rules.iter().map(|rule| rule.tables.as_deref())),
            functions: NameTable::new(rules.iter().map(|rule| rule.functions.as_deref())),
            rules,
        }
    }
}

impl Rule {
    fn compile(
        written: WrittenRule,
        known_targets: &[KnownTarget<'_>],
        reporter: &mut Reporter<'_>,
    ) -> Option<Self> {
        let before = reporter.problems.len();
        let groups = words("groups", &written.groups, reporter, |_, _| {});
        let targets = words("targets", &written.targets, reporter, |target, reporter| {
            check_target(target, known_targets, reporter);
        });
        let lists = [&written.matches.tables, &written.matches.functions];
        let has_list = lists.iter().any(|list| list.is_some());
        let tables = patterns(written.matches.tables.as_ref(), reporter);
        let functions = patterns(written.matches.functions.as_ref(), reporter);
        let mut classes = ClassSet::EMPTY;
        for word in &written.matches.statements.value {
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
            // Else a deny of everything on one table would also refuse BEGIN and SET.
            if word.value == EVERY_CLASS && written.deny && has_list {
                named = named
                    .iter()
                    .filter(|class| {
                        let line = class.entry();
                        (tables.is_some() && line.tables) || (functions.is_some() && line.functions)
                    })
                    .collect();
            }
            let needs_names = !written.deny
                && functions.is_none()
                && word.value != EVERY_CLASS
                && matches!(word.value.as_str(), "function" | "call");
            if needs_names {
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
        if written.matches.statements.value.is_empty() {
            reporter.report(
                &written.matches.statements.span,
                "`statements` is empty: the rule matches nothing".to_owned(),
            );
        }
        if !written.deny {
            classes = classes.with_derived();
        }
        if reporter.problems.len() == before {
            check_lists(&written, classes, reporter);
        }
        if reporter.problems.len() > before {
            return None;
        }
        Some(Self {
            name: written.name?.value,
            deny: written.deny,
            message: written.message,
            classes,
            tables,
            functions,
            groups: groups?,
            targets: targets?,
        })
    }

    /// No list of this rule speaks about the class.
    pub(crate) fn leaves_open(&self, class: Class) -> bool {
        let line = class.entry();
        let narrowed =
            (self.tables.is_some() && line.tables) || (self.functions.is_some() && line.functions);
        !narrowed
    }

    pub(crate) fn is_about_some_of(&self, groups: &[String]) -> bool {
        self.groups
            .as_ref()
            .is_none_or(|own| groups.iter().any(|group| own.contains(group)))
    }

    pub(crate) fn is_about_target(&self, target: &Target) -> bool {
        let Some(targets) = &self.targets else {
            return true;
        };
        let with_database = target.with_database();
        targets.contains(&target.name) || with_database.is_some_and(|word| targets.contains(&word))
    }

    /// Every effect that `other` allows is one that this rule denies.
    fn overrules(&self, other: &Self) -> bool {
        let covers =
            |wide: &Option<HashSet<String>>, narrow: &Option<HashSet<String>>| match (wide, narrow)
            {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wide), Some(narrow)) => narrow.is_subset(wide),
            };
        self.deny
            && !other.deny
            && covers(&self.groups, &other.groups)
            && match (&self.targets, &other.targets) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wide), Some(narrow)) => narrow.iter().all(|word| {
                    let whole = word.split_once(DATABASE_SEPARATOR);
                    wide.contains(word) || whole.is_some_and(|(target, _)| wide.contains(target))
                }),
            }
            && other
                .classes
                .iter()
                .all(|class| self.classes.contains(class) && self.leaves_open(class))
    }
}

/// The words of a list, or `None` for "every"; problems are reported.
fn words(
    key: &str,
    list: &At<Vec<At<String>>>,
    reporter: &mut Reporter<'_>,
    check: impl Fn(&At<String>, &mut Reporter<'_>),
) -> Option<Option<HashSet<String>>> {
    if list.value.is_empty() {
        reporter.report(
            &list.span,
            format!("`{key}` is empty: the rule matches nothing"),
        );
        return None;
    }
    let mut set = HashSet::new();
    let mut every = false;
    for word in &list.value {
        if word.value == EVERY {
            every = true;
        } else if word.value.is_empty() {
            reporter.report(&word.span, format!("an empty name in `{key}`"));
        } else {
            check(word, reporter);
            set.insert(word.value.clone());
        }
    }
    if every && !set.is_empty() {
        reporter.report(
            &list.span,
            format!("`{EVERY}` in `{key}` stands for all: leave the other names out"),
        );
    }
    Some(if every { None } else { Some(set) })
}

fn patterns(
    list: Option<&At<Vec<At<String>>>>,
    reporter: &mut Reporter<'_>,
) -> Option<Vec<Pattern>> {
    let list = list?;
    let mut patterns = Vec::new();
    for word in &list.value {
        match Pattern::parse(&word.value) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                reporter.report(&word.span, format!("`{}`: {error}", word.value));
            }
        }
    }
    Some(patterns)
}

/// The name of a configured target, or one of its databases where it has many.
fn check_target(word: &At<String>, known: &[KnownTarget<'_>], reporter: &mut Reporter<'_>) {
    let find = |name: &str| known.iter().find(|target| target.name == name);
    if find(&word.value).is_some() {
        return;
    }
    let in_target = word.value.split_once(DATABASE_SEPARATOR);
    let in_target = in_target.and_then(|(name, database)| Some((find(name)?, database)));
    let Some((target, database)) = in_target else {
        reporter.report_word(
            &word.span,
            format!("no target is called `{}`", word.value),
            &word.value,
            known.iter().map(|target| target.name),
        );
        return;
    };
    let mut patterns = target.databases.iter();
    if !patterns.any(|pattern| pattern.matches(database)) {
        let message = format!("the target `{}` has no such database", target.name);
        reporter.report(&word.span, message);
    }
}

/// A list that no class of the rule has use for, and a rule whose empty lists leave nothing.
fn check_lists(written: &WrittenRule, classes: ClassSet, reporter: &mut Reporter<'_>) {
    let lists = [
        ("tables", &written.matches.tables, true),
        ("functions", &written.matches.functions, false),
    ];
    for (key, list, of_tables) in lists {
        let Some(list) = list else { continue };
        let used = classes.iter().any(|class| {
            let line = class.entry();
            if of_tables {
                line.tables
            } else {
                line.functions
            }
        });
        if !used {
            reporter.report(
                &list.span,
                format!("`{key}` has no effect: nothing of class {classes} is done to {key}"),
            );
        }
    }
    let names_nothing =
        |list: &Option<At<Vec<At<String>>>>| list.as_ref().is_none_or(|list| list.value.is_empty());
    let some_list = written.matches.tables.is_some() || written.matches.functions.is_some();
    let closed = |class: Class| {
        let line = class.entry();
        let narrowed = (line.tables && written.matches.tables.is_some())
            || (line.functions && written.matches.functions.is_some());
        narrowed
            && (!line.tables || names_nothing(&written.matches.tables))
            && (!line.functions || names_nothing(&written.matches.functions))
            && (written.deny || !OBJECTLESS.contains(&class))
    };
    if some_list && classes.iter().all(closed) {
        reporter.report(
            &written.matches.statements.span,
            "the empty lists leave nothing that the rule could match".to_owned(),
        );
    }
}

fn warnings(sources: &[Source], rules: &[(Rule, usize, std::ops::Range<usize>)]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (rule, source, span) in rules {
        let Some(source) = sources.get(*source) else {
            continue;
        };
        let reporter = Reporter::new(source);
        if rule.deny {
            continue;
        }
        if let Some((deny, ..)) = rules.iter().find(|(deny, ..)| deny.overrules(rule)) {
            warnings.push(reporter.problem(
                span,
                format!(
                    "`{}` never allows anything: `{}` denies all of it",
                    rule.name, deny.name
                ),
                None,
            ));
        }
        if rule.classes.contains(Class::Unknown) {
            warnings.push(reporter.problem(
                span,
                format!(
                    "`{}` allows `unknown`: whatever Sallyport cannot judge, on every object",
                    rule.name
                ),
                None,
            ));
        }
    }
    warnings
}

/// FNV-1a over everything that the policy is made from.
fn version(sources: &[Source]) -> Version {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash = OFFSET;
    let mut feed = |bytes: &[u8]| {
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in length.iter().chain(bytes) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    };
    feed(env!("CARGO_PKG_VERSION").as_bytes());
    for source in sources {
        feed(source.file.as_bytes());
        feed(source.text.as_bytes());
    }
    Version(hash)
}

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn none(rules: usize) -> Self {
        Self(vec![0; rules.div_ceil(64)])
    }

    pub(crate) fn from_words(words: &[u64]) -> Self {
        Self(words.to_vec())
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    pub(crate) fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
        self
    }

    pub(crate) fn and_not(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
        self
    }

    pub(crate) fn or(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
        self
    }

    /// In the order of the rules.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| index * 64 + bit)
        })
    }
}

/// The patterns of one kind of list, of all rules: from a name to the rules that list it.
#[derive(Debug)]
pub(crate) struct NameTable {
    rules: usize,
    /// Patterns whose name part has no wildcard, by that name.
    exact: HashMap<String, Vec<(Pattern, usize)>>,
    wild: Vec<(Pattern, usize)>,
}

/// Which reading of a name that may stand for several counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Some name that it may stand for is listed.
    May,
    /// Every name that it may stand for is listed.
    Must,
}

impl NameTable {
    fn new<'p>(lists: impl Iterator<Item = Option<&'p [Pattern]>>) -> Self {
        let mut table = Self {
            rules: 0,
            exact: HashMap::new(),
            wild: Vec::new(),
        };
        for (rule, list) in lists.enumerate() {
            table.rules = rule + 1;
            for pattern in list.unwrap_or_default() {
                let entry = (pattern.clone(), rule);
                match pattern.exact_name() {
                    Some(name) => table.exact.entry(name.to_owned()).or_default().push(entry),
                    None => table.wild.push(entry),
                }
            }
        }
        table
    }

    /// The rules that list the name.
    pub(crate) fn rules(&self, candidate: Candidate<'_>, reading: Reading) -> Bits {
        let mut bits = Bits::none(self.rules);
        let matches = |pattern: &Pattern| match reading {
            Reading::May => pattern.may_match(candidate),
            Reading::Must => pattern.must_match(candidate),
        };
        match candidate.name {
            Some(name) => {
                for (pattern, rule) in self.exact.get(name).into_iter().flatten() {
                    if matches(pattern) {
                        bits.insert(*rule);
                    }
                }
            }
            None => {
                for (pattern, rule) in self.exact.values().flatten() {
                    if matches(pattern) {
                        bits.insert(*rule);
                    }
                }
            }
        }
        for (pattern, rule) in &self.wild {
            if matches(pattern) {
                bits.insert(*rule);
            }
        }
        bits
    }
}
