//! What is left to do until agents can work: one sentence for whoever has just installed it.
//!
//! It goes by what is in force, not by files, and says nothing once somebody can be let in.

use std::fmt;

use policy::Action;

use super::recordings::{SessionsWanted, sessions};
use crate::config::Snapshot;
use crate::recorder::RecordingSettings;

/// What comes next. `Display` is a sentence without a full stop, with the command to type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing is behind the appliance.
    AddTarget,
    /// No rule lets anybody to any target; one of them.
    LetSomebodyIn { target: String },
    /// Everything is there, and nobody has ever connected.
    IssueToken { target: String },
}

/// What is left to do under this configuration; nothing once a rule lets somebody to a target.
#[must_use]
pub fn next_step(snapshot: &Snapshot) -> Option<NextStep> {
    let Some(first) = snapshot.targets.iter().next() else {
        return Some(NextStep::AddTarget);
    };
    reachable(snapshot)
        .is_none()
        .then(|| NextStep::LetSomebodyIn {
            target: first.name.clone(),
        })
}

/// The same, and a word about tokens while no session has been recorded. Blocking.
pub(crate) fn next_step_of(snapshot: &Snapshot, recording: &RecordingSettings) -> Option<NextStep> {
    next_step(snapshot).or_else(|| {
        let target = reachable(snapshot)?;
        let any = SessionsWanted {
            limit: Some(1),
            ..SessionsWanted::default()
        };
        // A catalogue that cannot be read is reported by whoever needs it.
        let is_unused = sessions(recording, &any).is_ok_and(|found| found.is_empty());
        is_unused.then_some(NextStep::IssueToken { target })
    })
}

/// A target that a rule lets somebody to.
fn reachable(snapshot: &Snapshot) -> Option<String> {
    let rules = snapshot.policy.outline().rules;
    let mut targets = snapshot.targets.iter().map(|target| &target.name);
    let found = targets.find(|target| rules.iter().any(|rule| lets_in(rule, target)));
    found.cloned()
}

/// Whether the rule lets anybody to the target, or to a database of it.
pub(crate) fn lets_in(rule: &policy::OutlinedRule, target: &str) -> bool {
    let grants = match rule.action {
        Action::Allow | Action::Hold(_) => !rule.shadow,
        Action::Deny => false,
    };
    let is_about = |named: &String| {
        let database = named.strip_prefix(target);
        database.is_some_and(|rest| rest.is_empty() || rest.starts_with(policy::DATABASE_SEPARATOR))
    };
    let targets = rule.about.targets.as_ref();
    grants && targets.is_none_or(|targets| targets.iter().any(is_about))
}

impl fmt::Display for NextStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTarget => formatter.write_str(
                "no target is configured; next: sallyport targets add NAME --address HOST:PORT \
                 --allow-read GROUP",
            ),
            Self::LetSomebodyIn { target } => write!(
                formatter,
                "no rule lets anybody to a target; next: sallyport targets allow {target} --read \
                 GROUP, or rules of your own in policy.d"
            ),
            Self::IssueToken { target } => write!(
                formatter,
                "nobody has connected yet; next: sallyport token issue --agent NAME --groups \
                 GROUP, which is the password of psql's connection to the database {target}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Environment, Writing, load};

    /// What comes next with that target and these rules.
    fn check(target: &str, rules: &str, expected: Option<NextStep>) {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("sallyport.toml");
        fs::write(&file, target).unwrap();
        fs::create_dir(place.path().join("policy.d")).unwrap();
        fs::write(place.path().join("policy.d/rules.toml"), rules).unwrap();
        let environment = Environment {
            file,
            file_named: true,
            state_directory: place.path().join("state"),
            runtime_directory: place.path().join("run"),
            credentials_directory: None,
            policy_directory: None,
            drafts: Vec::new(),
            variable: |_| None,
        };
        let loaded = load(&environment, Writing::Never, 1);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(next_step(&loaded.snapshot), expected, "{rules}");
    }

    const TARGET: &str = r#"
        [[target]]
        name = "orders"
        protocol = "postgres"
        address = "unix:/run/postgresql/.s.PGSQL.5432"
        user = "svc"
        database = "orders"
        databases = ["app_*"]
    "#;

    fn rule(about: &str) -> String {
        format!("[[rule]]\nname = \"r\"\ngroups = [\"g\"]\n{about}\n")
    }

    #[test]
    fn a_target_comes_first() {
        let everywhere = rule("targets = [\"*\"]\nallow = { statements = [\"read\"] }");
        check("", &everywhere, Some(NextStep::AddTarget));
    }

    #[test]
    fn then_a_rule_that_lets_somebody_in() {
        let missing = Some(NextStep::LetSomebodyIn {
            target: "orders".to_owned(),
        });
        check(TARGET, "", missing.clone());
        let denied = rule("targets = [\"*\"]\ndeny = { statements = [\"drop\"] }");
        check(TARGET, &denied, missing.clone());
        let shadow = "targets = [\"*\"]\nallow = { statements = [\"read\"] }\nshadow = true";
        check(TARGET, &rule(shadow), missing);
    }

    #[test]
    fn nothing_is_left_once_a_rule_does() {
        for targets in ["*", "orders", "orders/app_1"] {
            let rule = rule(&format!(
                "targets = [\"{targets}\"]\nallow = {{ statements = [\"read\"] }}"
            ));
            check(TARGET, &rule, None);
        }
    }
}
