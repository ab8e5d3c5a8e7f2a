//! From rules as written to one immutable policy: every operator mistake is found here.
//!
//! Judges nothing; the compiled form is read in `decide`.

mod bits;
mod budget;
mod mask;
mod names;
mod rule;
mod scope;
mod warnings;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

pub(crate) use bits::Bits;
pub(crate) use budget::Budget;
pub(crate) use mask::Mask;
pub(crate) use names::{ColumnTable, NameTable, Reading};
pub(crate) use rule::Rule;
pub use rule::{Action, Hold};
pub(crate) use scope::Scopes;

use crate::class::{CLASSES, ClassEntry};
use crate::rule::{self as written, At, Problem, Reporter, Source, Table, Within};
use crate::target::KnownTarget;

/// Stands for every group, and for every target.
const EVERY: &str = "*";

/// Longest `name`, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// What of the configuration a policy may name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'k> {
    pub targets: &'k [KnownTarget<'k>],
    pub issuers: &'k [KnownIssuer<'k>],
}

/// A configured issuer.
#[derive(Debug, Clone, Copy)]
pub struct KnownIssuer<'k> {
    /// What the configuration calls it.
    pub name: &'k str,
    /// What principals have as [`crate::Principal::issuer`].
    pub issuer: &'k str,
    /// What stands before every group that it gives, but for those in `groups`. Empty: it may give
    /// any group.
    pub group_prefix: &'k str,
    /// Groups that it gives under other names than its own, without the prefix.
    pub groups: &'k [&'k str],
}

impl KnownIssuer<'_> {
    /// Whether some principal of it may be in the group.
    pub(crate) fn may_give(&self, group: &str) -> bool {
        group.starts_with(self.group_prefix) || self.groups.contains(&group)
    }
}

/// The rules in force for all principals and targets.
///
/// Scope: per process, immutable; published to the shards as a snapshot.
#[derive(Debug)]
pub struct Policy {
    pub(crate) version: Version,
    pub(crate) rules: Vec<Rule>,
    pub(crate) masks: Vec<Mask>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) rule_scopes: Scopes,
    pub(crate) mask_scopes: Scopes,
    pub(crate) budget_scopes: Scopes,
    /// By class: the rules that hold it.
    pub(crate) holding: Vec<Bits>,
    /// By class: the rules of which no list narrows it.
    pub(crate) open: Vec<Bits>,
    pub(crate) allows: Bits,
    pub(crate) denies: Bits,
    pub(crate) holds: Bits,
    pub(crate) shadows: Bits,
    pub(crate) tables: NameTable,
    pub(crate) columns: ColumnTable,
    pub(crate) functions: NameTable,
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

/// Something compiled, and where its name stands.
struct Located<T> {
    item: T,
    /// The index of its file.
    source: usize,
    span: Range<usize>,
}

/// All that the files hold.
#[derive(Default)]
struct Items {
    rules: Vec<Located<Rule>>,
    masks: Vec<Located<Mask>>,
    budgets: Vec<Located<Budget>>,
    names: HashSet<String>,
}

impl Items {
    fn add(
        &mut self,
        table: &Table,
        source: usize,
        known: &Known<'_>,
        reporter: &mut Reporter<'_>,
    ) {
        if let Some(name) = table.text("name") {
            self.check_name(name, table.within, reporter);
        }
        let span = table.text("name").map_or(0..0, |name| name.span.clone());
        match table.within {
            Within::Rule => keep(
                &mut self.rules,
                Rule::compile(table, known, reporter),
                source,
                span,
            ),
            Within::Mask => keep(
                &mut self.masks,
                Mask::compile(table, known, reporter),
                source,
                span,
            ),
            Within::Budget => keep(
                &mut self.budgets,
                Budget::compile(table, known, reporter),
                source,
                span,
            ),
            // They stand within the others.
            Within::File | Within::Match | Within::When => {}
        }
    }

    fn check_name(&mut self, name: &At<String>, within: Within, reporter: &mut Reporter<'_>) {
        let text = &name.value;
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !fits {
            let message = format!(
                "the name of {} is 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`",
                within.title()
            );
            reporter.report(&name.span, message);
        }
        if !self.names.insert(text.clone()) {
            let message = format!("another rule, mask or budget is called `{text}`");
            reporter.report(&name.span, message);
        }
    }
}

fn keep<T>(items: &mut Vec<Located<T>>, item: Option<T>, source: usize, span: Range<usize>) {
    items.extend(item.map(|item| Located { item, source, span }));
}

fn items<T>(located: Vec<Located<T>>) -> Vec<T> {
    located.into_iter().map(|located| located.item).collect()
}

impl Policy {
    /// Compiles the policy files.
    ///
    /// # Errors
    /// All problems of all files, in their order. There is no partial policy.
    pub fn compile(sources: &[Source], known: &Known<'_>) -> Result<Compiled, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut found = Items::default();
        for (index, source) in sources.iter().enumerate() {
            let mut reporter = Reporter::new(source);
            for table in written::read(source, &mut reporter) {
                found.add(&table, index, known, &mut reporter);
            }
            reporter.problems.sort();
            problems.append(&mut reporter.problems);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let warnings = warnings::warnings(sources, &found, known);
        let policy = Self::of(
            version(sources),
            items(found.rules),
            items(found.masks),
            items(found.budgets),
        );
        Ok(Compiled { policy, warnings })
    }

    /// The groups whose members may approve something, in the order of the rules; a group that
    /// several rules name comes as often. Of rules in shadow too: they show who would be asked.
    pub fn approver_groups(&self) -> impl Iterator<Item = &str> {
        self.rules
            .iter()
            .filter_map(|rule| match &rule.action {
                Action::Hold(hold) => Some(&hold.approvers),
                Action::Allow | Action::Deny => None,
            })
            .flatten()
            .map(String::as_str)
    }

    /// Names this policy; part of the key of any cache of its decisions.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    fn of(version: Version, rules: Vec<Rule>, masks: Vec<Mask>, budgets: Vec<Budget>) -> Self {
        let select =
            |test: &dyn Fn(&Rule) -> bool| Bits::select(rules.len(), rules.iter().map(test));
        let by_class = |test: fn(&Rule, &ClassEntry) -> bool| {
            let lines = CLASSES.iter();
            lines.map(|line| select(&|rule| test(rule, line))).collect()
        };
        Self {
            version,
            rule_scopes: Scopes::new(rules.iter().map(|rule| &rule.scope)),
            mask_scopes: Scopes::new(masks.iter().map(|mask| &mask.scope)),
            budget_scopes: Scopes::new(budgets.iter().map(|budget| &budget.scope)),
            holding: by_class(|rule, line| rule.classes.contains(line.class)),
            open: by_class(|rule, line| rule.leaves_open(line.class)),
            allows: select(&|rule| rule.action == Action::Allow),
            denies: select(&|rule| rule.action == Action::Deny),
            holds: select(&|rule| matches!(rule.action, Action::Hold(_))),
            shadows: select(&|rule| rule.shadow),
            tables: NameTable::new(rules.iter().map(|rule| rule.tables.as_deref())),
            columns: ColumnTable::new(rules.iter().map(|rule| rule.columns.as_deref())),
            functions: NameTable::new(rules.iter().map(|rule| rule.functions.as_deref())),
            rules,
            masks,
            budgets,
        }
    }
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
