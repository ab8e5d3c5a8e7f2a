//! Whom and where a rule, mask or budget is about: principal, target, and from where.

use std::collections::{HashMap, HashSet};

use super::{Bits, EVERY, Known};
use crate::explain::Applies;
use crate::network::Network;
use crate::outline::About;
use crate::pattern::Wild;
use crate::principal::Principal;
use crate::rule::{At, NEVER, REQUIRED, Reporter, Table, Words};
use crate::target::{DATABASE_SEPARATOR, Target};
use crate::window::{self, DAYS, Window};
use crate::{KnownTarget, Occasion};

/// Whom and where one rule, mask or budget is about. `None` is everybody, and everywhere.
#[derive(Debug)]
pub(crate) struct Scope {
    groups: Option<HashSet<String>>,
    except_groups: HashSet<String>,
    targets: Option<HashSet<String>>,
    /// All must hold.
    conditions: Vec<Condition>,
}

/// What must hold of the principal or the occasion besides.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Networks(Vec<Network>),
    When(Window),
    /// As principals have them, not by the names of the configuration.
    Issuers(Vec<String>),
    Subjects(Vec<Wild>),
    Delegated(bool),
    Actors(Vec<Wild>),
}

/// Whether a condition holds, as far as that can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    /// What it asks for is not known.
    Unknown,
}

impl Scope {
    /// The same as names, in their order.
    pub(crate) fn about(&self) -> About {
        let sorted = |names: &HashSet<String>| {
            let mut names: Vec<String> = names.iter().cloned().collect();
            names.sort();
            names
        };
        About {
            groups: self.groups.as_ref().map(sorted),
            except_groups: sorted(&self.except_groups),
            targets: self.targets.as_ref().map(sorted),
            is_conditional: !self.conditions.is_empty(),
        }
    }

    /// Reads the keys that say whom and where; problems are reported.
    pub(super) fn compile(
        table: &Table,
        known: &Known<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Option<Self> {
        let before = reporter.problems.len();
        let named = |key: &str, reporter: &mut Reporter<'_>| match table.words(key) {
            Some(list) => words(key, list, reporter, |_, _| {}),
            None => None,
        };
        let groups = named("groups", reporter);
        let except_groups = named("except_groups", reporter);
        if except_groups.is_none()
            && let Some(list) = table.words("except_groups")
            && !list.value.is_empty()
        {
            let message = "`*` in `except_groups` leaves nobody";
            reporter.report(&list.span, message.to_owned());
        }
        let targets = table.words("targets").and_then(|list| {
            words("targets", list, reporter, |target, reporter| {
                check_target(target, known.targets, reporter);
            })
        });
        let conditions = conditions(table, known, reporter);
        (reporter.problems.len() == before).then_some(Self {
            groups,
            except_groups: except_groups.unwrap_or_default(),
            targets,
            conditions,
        })
    }

    /// Why it is not about this principal, target and occasion; [`Applies::Yes`] if it is.
    ///
    /// `grants`: it gives something, so that what is not known does not count for it.
    pub(crate) fn applies(
        &self,
        principal: &Principal,
        target: &Target,
        occasion: Occasion,
        grants: bool,
    ) -> Applies {
        let named =
            |groups: &HashSet<String>| principal.groups.iter().any(|group| groups.contains(group));
        if !self.is_about_target(target) {
            return Applies::NotThisTarget;
        }
        if !self.groups.as_ref().is_none_or(named) || named(&self.except_groups) {
            return Applies::NotTheseGroups;
        }
        let failing =
            self.conditions
                .iter()
                .find(|condition| match condition.holds(principal, occasion) {
                    Holds::Yes => false,
                    Holds::No => true,
                    Holds::Unknown => grants,
                });
        failing.map_or(Applies::Yes, Condition::failing)
    }

    fn is_about_target(&self, target: &Target) -> bool {
        let Some(targets) = &self.targets else {
            return true;
        };
        let with_database = target.with_database();
        targets.contains(&target.name) || with_database.is_some_and(|word| targets.contains(&word))
    }

    /// The groups that it names, in `groups` or `except_groups`.
    pub(super) fn named_groups(&self) -> impl Iterator<Item = &String> {
        self.groups.iter().flatten().chain(&self.except_groups)
    }

    /// Whether some target is one of both.
    pub(super) fn shares_target(&self, other: &Self) -> bool {
        let (Some(own), Some(others)) = (&self.targets, &other.targets) else {
            return true;
        };
        let is_within = |narrow: &str, wide: &str| {
            let whole = narrow
                .split_once(DATABASE_SEPARATOR)
                .map(|(target, _)| target);
            narrow == wide || whole == Some(wide)
        };
        own.iter().any(|own| {
            others
                .iter()
                .any(|other| is_within(own, other) || is_within(other, own))
        })
    }

    /// Whoever `other` is about, this is about too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let groups = match (&self.groups, &other.groups) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => narrow.is_subset(wide),
        };
        let targets = match (&self.targets, &other.targets) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => narrow.iter().all(|word| {
                let whole = word.split_once(DATABASE_SEPARATOR);
                wide.contains(word) || whole.is_some_and(|(target, _)| wide.contains(target))
            }),
        };
        let mut conditions = self.conditions.iter();
        groups
            && targets
            && self.except_groups.is_subset(&other.except_groups)
            && conditions.all(|own| other.conditions.contains(own))
    }
}

impl Condition {
    fn holds(&self, principal: &Principal, occasion: Occasion) -> Holds {
        let holds = match self {
            Self::Networks(networks) => {
                let Some(client) = occasion.client else {
                    return Holds::Unknown;
                };
                networks.iter().any(|network| network.contains(client))
            }
            Self::When(window) => window.contains(occasion.unix_time),
            Self::Issuers(issuers) => issuers.contains(&principal.issuer),
            Self::Subjects(patterns) => patterns
                .iter()
                .any(|pattern| pattern.matches(&principal.subject)),
            Self::Delegated(required) => principal.delegation.is_empty() != *required,
            // RFC 8693, "act": prior actors are not to be considered in access control.
            Self::Actors(patterns) => principal.delegation.first().is_some_and(|actor| {
                patterns
                    .iter()
                    .any(|pattern| pattern.matches(&actor.subject))
            }),
        };
        if holds { Holds::Yes } else { Holds::No }
    }

    fn failing(&self) -> Applies {
        match self {
            Self::Networks(_) => Applies::NotThisNetwork,
            Self::When(_) => Applies::NotNow,
            Self::Issuers(_) | Self::Subjects(_) | Self::Delegated(_) | Self::Actors(_) => {
                Applies::NotThisPrincipal
            }
        }
    }
}

/// The scopes of all rules, or all masks, or all budgets, from the sides that they are asked by.
#[derive(Debug)]
pub(crate) struct Scopes {
    scopes: usize,
    by_group: HashMap<String, Bits>,
    for_everybody: Bits,
    except_group: HashMap<String, Bits>,
    by_target: HashMap<String, Bits>,
    for_every_target: Bits,
    /// Each condition once, with the scopes that have it.
    conditions: Vec<(Condition, Bits)>,
}

/// Which scopes are about a principal, target and occasion.
pub(crate) struct Applicable {
    /// As far as everything that they ask for is known.
    pub(crate) certainly: Bits,
    /// Those besides that may be.
    pub(crate) possibly: Bits,
}

impl Scopes {
    pub(super) fn new<'s>(scopes: impl Iterator<Item = &'s Scope> + Clone) -> Self {
        let count = scopes.clone().count();
        let by_word = |words: fn(&Scope) -> Option<&HashSet<String>>| {
            let mut map: HashMap<String, Bits> = HashMap::new();
            for (index, scope) in scopes.clone().enumerate() {
                for word in words(scope).into_iter().flatten() {
                    map.entry(word.clone())
                        .or_insert_with(|| Bits::none(count))
                        .insert(index);
                }
            }
            map
        };
        let select = |test: fn(&Scope) -> bool| Bits::select(count, scopes.clone().map(test));
        let mut conditions: Vec<(Condition, Bits)> = Vec::new();
        for (index, scope) in scopes.clone().enumerate() {
            for condition in &scope.conditions {
                let known = conditions.iter_mut().find(|(other, _)| other == condition);
                if let Some((_, bits)) = known {
                    bits.insert(index);
                } else {
                    let mut bits = Bits::none(count);
                    bits.insert(index);
                    conditions.push((condition.clone(), bits));
                }
            }
        }
        Self {
            scopes: count,
            by_group: by_word(|scope| scope.groups.as_ref()),
            for_everybody: select(|scope| scope.groups.is_none()),
            except_group: by_word(|scope| Some(&scope.except_groups)),
            by_target: by_word(|scope| scope.targets.as_ref()),
            for_every_target: select(|scope| scope.targets.is_none()),
            conditions,
        }
    }

    /// When some condition next holds that did not, or the other way round.
    pub(crate) fn next_change(&self, unix_time: u64) -> Option<u64> {
        let conditions = self.conditions.iter();
        let changes = conditions.filter_map(|(condition, _)| match condition {
            Condition::When(window) => window.next_change(unix_time),
            Condition::Networks(_)
            | Condition::Issuers(_)
            | Condition::Subjects(_)
            | Condition::Delegated(_)
            | Condition::Actors(_) => None,
        });
        changes.min()
    }

    pub(crate) fn applicable(
        &self,
        principal: &Principal,
        target: &Target,
        occasion: Occasion,
    ) -> Applicable {
        let of_groups = |map: &HashMap<String, Bits>, first: Bits| {
            let listed = principal.groups.iter().filter_map(|group| map.get(group));
            listed.fold(first, Bits::or)
        };
        let with_database = target.with_database();
        let by_target = [Some(&target.name), with_database.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|word| self.by_target.get(word))
            .fold(self.for_every_target.clone(), Bits::or);
        let none = Bits::none(self.scopes);
        let mut certainly = of_groups(&self.by_group, self.for_everybody.clone())
            .and(&by_target)
            .and_not(&of_groups(&self.except_group, none.clone()));
        let mut unknown = none;
        for (condition, scopes) in &self.conditions {
            match condition.holds(principal, occasion) {
                Holds::Yes => {}
                Holds::No => certainly = certainly.and_not(scopes),
                Holds::Unknown => unknown = unknown.or(scopes),
            }
        }
        Applicable {
            possibly: unknown.clone().and(&certainly),
            certainly: certainly.and_not(&unknown),
        }
    }
}

fn conditions(table: &Table, known: &Known<'_>, reporter: &mut Reporter<'_>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    if let Some(list) = table.words("networks") {
        let networks = each("networks", list, reporter, |word| {
            word.parse::<Network>().map_err(|error| error.to_string())
        });
        conditions.push(Condition::Networks(networks));
    }
    if let Some(when) = table.table("when") {
        conditions.extend(window(when, reporter).map(Condition::When));
    }
    if let Some(list) = table.words("issuers") {
        check_some("issuers", list, reporter);
        let mut issuers = Vec::new();
        for word in &list.value {
            let issuer = known
                .issuers
                .iter()
                .find(|issuer| issuer.name == word.value);
            match issuer {
                Some(issuer) => issuers.push(issuer.issuer.to_owned()),
                None => reporter.report_word(
                    &word.span,
                    format!("no issuer is called `{}`", word.value),
                    &word.value,
                    known.issuers.iter().map(|issuer| issuer.name),
                ),
            }
        }
        conditions.push(Condition::Issuers(issuers));
    }
    for (key, condition) in [
        (
            "subjects",
            Condition::Subjects as fn(Vec<Wild>) -> Condition,
        ),
        ("actors", Condition::Actors),
    ] {
        if let Some(list) = table.words(key) {
            let patterns = each(key, list, reporter, |word| {
                if word.is_empty() {
                    return Err("an empty name".to_owned());
                }
                Ok(Wild::new(word))
            });
            conditions.push(condition(patterns));
        }
    }
    if let Some(word) = table.text("delegated") {
        let required = word.value == REQUIRED;
        if word.value == NEVER && table.words("actors").is_some() {
            reporter.report(
                &word.span,
                "nobody acts where nothing is delegated: the rule matches nothing".to_owned(),
            );
        }
        conditions.push(Condition::Delegated(required));
    }
    conditions
}

fn window(table: &Table, reporter: &mut Reporter<'_>) -> Option<Window> {
    let days = match table.words("days") {
        None => [true; 7],
        Some(list) => {
            check_some("days", list, reporter);
            for word in &list.value {
                if !DAYS.contains(&word.value.as_str()) {
                    let message = format!("`{}` is no day of the week", word.value);
                    reporter.report_word(&word.span, message, &word.value, DAYS);
                }
            }
            DAYS.map(|day| list.value.iter().any(|word| word.value == day))
        }
    };
    let hours = match table.text("hours") {
        None => Window::whole_day(),
        Some(text) => match window::hours(&text.value) {
            Ok(hours) => hours,
            Err(problem) => {
                reporter.report(&text.span, format!("`{}`: {problem}", text.value));
                return None;
            }
        },
    };
    let name = table.text("zone");
    let zone = window::zone(name.map_or("UTC", |name| name.value.as_str()));
    if let (None, Some(name)) = (&zone, name) {
        let zones = window::zones();
        reporter.report_word(
            &name.span,
            format!("no time zone is called `{}`", name.value),
            &name.value,
            zones.iter().map(String::as_str),
        );
    }
    if table.key_span("days").is_none() && table.key_span("hours").is_none() {
        let message = "the window is always open: give `days` or `hours`";
        reporter.report(&table.span, message.to_owned());
    }
    Some(Window::new(days, hours, zone?))
}

/// The words of a list that is not empty, each read.
fn each<T>(
    key: &str,
    list: &Words,
    reporter: &mut Reporter<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    check_some(key, list, reporter);
    let mut values = Vec::new();
    for word in &list.value {
        match read(&word.value) {
            Ok(value) => values.push(value),
            Err(problem) => reporter.report(&word.span, format!("`{}`: {problem}", word.value)),
        }
    }
    values
}

fn check_some(key: &str, list: &Words, reporter: &mut Reporter<'_>) {
    if list.value.is_empty() {
        let message = format!("`{key}` is empty: it matches nothing");
        reporter.report(&list.span, message);
    }
}

/// The words of a list, or `None` for "every"; problems are reported.
pub(super) fn words(
    key: &str,
    list: &Words,
    reporter: &mut Reporter<'_>,
    check: impl Fn(&At<String>, &mut Reporter<'_>),
) -> Option<HashSet<String>> {
    check_some(key, list, reporter);
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
    (!every).then_some(set)
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
