//! What is right by the letter and probably not what its author meant.

use super::rule::{Action, Rule};
use super::scope::Scope;
use super::{Items, Known, Located};
use crate::class::{Class, ClassSet};
use crate::rule::{Problem, Reporter, Source};

/// Parts of names that promise a rule which changes nothing.
const PROMISES_OF_READING: [&str; 5] = ["read", "readonly", "select", "view", "ro"];

/// In the order of files and places.
pub(super) fn warnings(sources: &[Source], found: &Items, known: &Known<'_>) -> Vec<Problem> {
    let mut warnings = Warnings {
        sources,
        problems: Vec::new(),
    };
    let rules: Vec<&Rule> = found.rules.iter().map(|located| &located.item).collect();
    for located in &found.rules {
        for message in of_rule(&located.item, &rules) {
            warnings.warn(located, message);
        }
        let groups = located.item.scope.named_groups();
        warnings.warn_of_groups(located, groups, known);
        if let Action::Hold(hold) = &located.item.action {
            warnings.warn_of_groups(located, hold.approvers.iter(), known);
        }
    }
    for located in &found.masks {
        let scope = &located.item.scope;
        if !anybody_enters(scope, &rules) {
            let name = &located.item.rule.name;
            let message = format!("`{name}` hides nothing: no rule lets anybody into its targets");
            warnings.warn(located, message);
        }
        warnings.warn_of_groups(located, scope.named_groups(), known);
    }
    for located in &found.budgets {
        let scope = &located.item.scope;
        if !anybody_enters(scope, &rules) {
            let name = &located.item.rule.name;
            let message = format!("`{name}` limits nothing: no rule lets anybody into its targets");
            warnings.warn(located, message);
        }
        warnings.warn_of_groups(located, scope.named_groups(), known);
    }
    warnings.problems.sort();
    warnings.problems
}

struct Warnings<'s> {
    sources: &'s [Source],
    problems: Vec<Problem>,
}

impl Warnings<'_> {
    fn warn<T>(&mut self, located: &Located<T>, message: String) {
        if let Some(source) = self.sources.get(located.source) {
            let problem = Reporter::new(source).problem(&located.span, message, None);
            self.problems.push(problem);
        }
    }

    fn warn_of_groups<'g, T>(
        &mut self,
        located: &Located<T>,
        groups: impl Iterator<Item = &'g String>,
        known: &Known<'_>,
    ) {
        if known.issuers.is_empty() {
            return;
        }
        let mut unknown: Vec<&str> = groups
            .filter(|group| !known.issuers.iter().any(|issuer| issuer.may_give(group)))
            .map(String::as_str)
            .collect();
        unknown.sort_unstable();
        for group in unknown {
            let message = format!("no issuer gives anybody the group `{group}`");
            self.warn(located, message);
        }
    }
}

/// Whether some rule lets somebody into a target that the scope is about.
fn anybody_enters(scope: &Scope, rules: &[&Rule]) -> bool {
    rules
        .iter()
        .filter(|rule| rule.action != Action::Deny && !rule.shadow)
        .any(|rule| rule.scope.shares_target(scope))
}

fn of_rule(rule: &Rule, rules: &[&Rule]) -> Vec<String> {
    let mut messages = Vec::new();
    if rule.action == Action::Deny {
        return messages;
    }
    let name = &rule.name;
    let allows = rule.action == Action::Allow;
    let verb = if allows { "allows" } else { "holds" };
    let covering = |deny: bool| {
        let mut rules = rules.iter().filter(|other| !other.shadow);
        rules.find(|other| {
            let is_kind = match &other.action {
                Action::Deny => deny,
                Action::Hold(_) => !deny,
                Action::Allow => false,
            };
            is_kind && other.covers(rule)
        })
    };
    if let Some(deny) = covering(true) {
        let by = &deny.name;
        messages.push(format!(
            "`{name}` never {verb} anything: `{by}` denies all of it"
        ));
    } else if let Some(hold) = covering(false)
        && allows
    {
        let by = &hold.name;
        messages.push(format!(
            "`{name}` never allows anything: `{by}` holds all of it"
        ));
    }
    if !allows {
        return messages;
    }
    if rule.classes.contains(Class::Unknown) {
        messages.push(format!(
            "`{name}` allows `unknown`: whatever Sallyport cannot judge, on every object"
        ));
    }
    let writing: ClassSet = rule
        .classes
        .iter()
        .filter(|class| class.entry().writes && class.entry().derived_from.is_none())
        .collect();
    let is_everything = ClassSet::every().without(rule.classes).is_empty();
    if is_everything && rule.leaves_all_open() {
        messages.push(format!(
            "`{name}` allows everything but `unknown` on every object: changes of tables, roles and settings of the server among it"
        ));
    } else if !writing.is_empty() && promises_reading(name) {
        messages.push(format!(
            "`{name}` allows more than its name says: {writing}"
        ));
    }
    messages
}

fn promises_reading(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut parts = lower.split(['-', '_', '.']);
    let says_write = lower.contains("write");
    !says_write
        && parts.any(|part| {
            PROMISES_OF_READING.contains(&part)
                || part
                    .strip_suffix('s')
                    .is_some_and(|one| PROMISES_OF_READING.contains(&one))
        })
}
