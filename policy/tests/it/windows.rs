//! Rules that are about some hours: permits change when these begin and end.

use policy::{Decision, Occasion, Operation, Policy, SearchPath, SessionContext, Source, Target};

use crate::support::{batch, known_targets, occasion, principal};

/// 2026-11-26T08:00:00Z, a Thursday.
const EIGHT: u64 = 1_795_680_000;

fn policy(text: &str) -> Policy {
    let source = Source {
        file: "p.toml".to_owned(),
        text: text.to_owned(),
    };
    Policy::compile(&[source], &known_targets()).unwrap().policy
}

fn at(unix_time: u64) -> Occasion {
    Occasion {
        unix_time,
        ..occasion()
    }
}

#[test]
fn a_rule_counts_within_its_window_and_the_key_of_verdicts_says_so() {
    let policy = policy(
        "[[rule]]\nname = \"read\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nallow = { statements = [\"read\"] }\n\
         [[rule]]\nname = \"freeze\"\ngroups = [\"*\"]\ntargets = [\"*\"]\ndeny = { statements = [\"select\"] }\n\
         when = { days = [\"thu\"], hours = \"08:00-09:00\" }\n",
    );
    let batch = batch("SELECT 1");
    let allows = |unix_time| {
        let permit = policy
            .admit(&principal(&["a"]), &Target::named("orders"), at(unix_time))
            .unwrap();
        let operation = Operation::Sql {
            statements: &batch.statements,
            session: SessionContext {
                search_path: SearchPath::Unknown,
                read_only: permit.read_only(),
                catalogue: None,
                unsettled: false,
            },
        };
        let allows = policy.judge(&permit, &operation) == Decision::Allow;
        (allows, permit.rules_key().clone())
    };
    let (before, inside, after) = (allows(EIGHT - 1), allows(EIGHT), allows(EIGHT + 3600));
    assert!(before.0 && !inside.0 && after.0);
    assert_ne!(before.1, inside.1);
    assert_eq!(before.1, after.1);
    assert_eq!(policy.next_change(EIGHT - 10), Some(EIGHT));
    assert_eq!(policy.next_change(EIGHT), Some(EIGHT + 3600));
    assert_eq!(
        policy.next_change(EIGHT + 3600),
        Some(EIGHT + 7 * 24 * 3600)
    );
}

#[test]
fn outside_of_every_window_that_allows_nobody_is_admitted() {
    let policy = policy(
        "[[rule]]\nname = \"read\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nallow = { statements = [\"read\"] }\n\
         when = { hours = \"08:00-18:00\" }\n",
    );
    let admits = |unix_time| {
        policy
            .admit(&principal(&["a"]), &Target::named("orders"), at(unix_time))
            .is_ok()
    };
    assert!(admits(EIGHT) && !admits(EIGHT - 1) && !admits(EIGHT + 10 * 3600));
}

#[test]
fn a_policy_without_windows_never_changes() {
    let policy = policy(
        "[[rule]]\nname = \"read\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nallow = { statements = [\"read\"] }\n",
    );
    assert_eq!(policy.next_change(EIGHT), None);
}
