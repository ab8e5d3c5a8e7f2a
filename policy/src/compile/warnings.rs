//! What is right by the letter and probably not what its author meant.

use super::Located;
use super::rule::{Action, Rule};
use crate::class::Class;
use crate::rule::{Problem, Reporter, Source};

pub(super) fn warnings(sources: &[Source], rules: &[Located<Rule>]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for located in rules {
        let Some(source) = sources.get(located.source) else {
            continue;
        };
        let reporter = Reporter::new(source);
        let mut warn = |message: String| {
            warnings.push(reporter.problem(&located.span, message, None));
        };
        let rule = &located.item;
        if rule.action == Action::Deny {
            continue;
        }
        let deny = rules
            .iter()
            .map(|other| &other.item)
            .find(|other| other.action == Action::Deny && !other.shadow && other.covers(rule));
        if let Some(deny) = deny {
            warn(format!(
                "`{}` never {} anything: `{}` denies all of it",
                rule.name,
                if rule.action == Action::Allow {
                    "allows"
                } else {
                    "holds"
                },
                deny.name
            ));
        }
        if rule.classes.contains(Class::Unknown) && rule.action == Action::Allow {
            warn(format!(
                "`{}` allows `unknown`: whatever Sallyport cannot judge, on every object",
                rule.name
            ));
        }
    }
    warnings
}
