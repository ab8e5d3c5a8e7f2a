//! What a permit says besides the rules: masks and budgets, and for whom they are.

use policy::{Occasion, Permit, Policy, Source, Target};

use crate::support::{known_targets, occasion, principal};

const TEXT: &str = r#"
[[rule]]
name = "all"
groups = ["*"]
targets = ["*"]
allow = { statements = ["read"] }

[[mask]]
name = "cards"
targets = ["orders"]
except_groups = ["fraud"]
columns = ["customers.card"]
with = "last4"

[[mask]]
name = "mail"
targets = ["*"]
groups = ["interns"]
detect = ["email"]
with = "redact"

[[budget]]
name = "few"
targets = ["orders"]
groups = ["interns"]
rows = 10

[[budget]]
name = "many"
targets = ["*"]
except_groups = ["interns"]
rows = 1000
"#;

fn policy() -> Policy {
    let source = Source {
        file: "p.toml".to_owned(),
        text: TEXT.to_owned(),
    };
    Policy::compile(&[source], &known_targets()).unwrap().policy
}

fn permit(policy: &Policy, groups: &[&str], target: &str) -> Permit {
    policy
        .admit(&principal(groups), &Target::named(target), occasion())
        .unwrap()
}

#[test]
fn masks_and_budgets_apply_by_group_and_target() {
    let policy = policy();
    for (groups, target, masks, budgets) in [
        (&["a"][..], "orders", &["cards"][..], &["many"][..]),
        (&["fraud"], "orders", &[], &["many"]),
        (&["interns"], "orders", &["cards", "mail"], &["few"]),
        (&["interns", "fraud"], "orders", &["mail"], &["few"]),
        (&["interns"], "billing", &["mail"], &[]),
        (&["a"], "billing", &[], &["many"]),
    ] {
        let permit = permit(&policy, groups, target);
        let names = |some: Vec<&String>| some.into_iter().cloned().collect::<Vec<_>>();
        let found = names(policy.masks(&permit).map(|mask| &mask.name).collect());
        assert_eq!(found, masks, "{groups:?} {target}");
        let found = names(policy.budgets(&permit).map(|budget| &budget.name).collect());
        assert_eq!(found, budgets, "{groups:?} {target}");
    }
}

#[test]
fn principals_with_other_masks_never_share_a_verdict() {
    let policy = policy();
    let key = |groups: &[&str]| permit(&policy, groups, "orders").rules_key().clone();
    assert_eq!(key(&["a"]), key(&["b"]));
    assert_ne!(key(&["a"]), key(&["fraud"]));
    assert_ne!(key(&["a"]), key(&["interns"]));
    assert_ne!(key(&["interns"]), key(&["interns", "fraud"]));
}

#[test]
fn under_a_permit_of_another_policy_every_mask_and_budget_applies() {
    let policy = policy();
    let source = Source {
        file: "other.toml".to_owned(),
        text: TEXT.to_owned(),
    };
    let other = Policy::compile(&[source], &known_targets()).unwrap().policy;
    let permit = permit(&other, &["fraud"], "billing");
    assert_eq!(policy.masks(&permit).count(), 2);
    assert_eq!(policy.budgets(&permit).count(), 2);
}

#[test]
fn what_asks_for_a_network_that_is_not_known_gives_nothing_and_keeps_its_refusals() {
    let source = |action: &str| Source {
        file: "p.toml".to_owned(),
        text: format!(
            "[[rule]]\nname = \"all\"\ngroups = [\"*\"]\ntargets = [\"billing\"]\nallow = {{ statements = [\"read\"] }}\n\
             [[rule]]\nname = \"office\"\ngroups = [\"*\"]\ntargets = [\"*\"]\n{action} = {{ statements = [\"read\"] }}\n\
             networks = [\"192.0.2.0/24\"]\n"
        ),
    };
    let unknown = Occasion {
        client: None,
        ..occasion()
    };
    let compiled = |action: &str| {
        let compiled = Policy::compile(&[source(action)], &known_targets());
        compiled.unwrap().policy
    };
    let allowing = compiled("allow");
    let orders = Target::named("orders");
    assert!(allowing.admit(&principal(&[]), &orders, occasion()).is_ok());
    assert!(allowing.admit(&principal(&[]), &orders, unknown).is_err());
    let denying = compiled("deny");
    let key = |policy: &Policy, occasion| {
        let permit = policy.admit(&principal(&[]), &Target::named("billing"), occasion);
        permit.unwrap().rules_key().clone()
    };
    assert_eq!(key(&denying, unknown), key(&denying, occasion()));
}
