//! Rules and operation to decision, as data.

use std::time::Duration;

use policy::{
    Actor, Decision, Operation, Policy, RefusalKind, SearchPath, SessionContext, Source, Target,
};

use crate::support::{batch, known_targets, occasion, principal};

#[test]
fn operations_are_decided_as_the_table_says() {
    let mut wrong = Vec::new();
    let table = include_str!("../data/decisions.txt");
    for section in table.split("\n=== ").skip(1) {
        let (title, body) = section.split_once('\n').unwrap();
        let (rules, cases) = body.split_once("\n---\n").unwrap();
        let source = Source {
            file: title.to_owned(),
            text: rules.to_owned(),
        };
        let policy = match Policy::compile(&[source], &known_targets()) {
            Ok(compiled) => compiled.policy,
            Err(problems) => panic!("{title}: {problems:?}"),
        };
        for case in cases.lines() {
            if case.is_empty() || case.starts_with('#') {
                continue;
            }
            let (who, rest) = case
                .split_once(": ")
                .or_else(|| case.split_once(":"))
                .unwrap();
            let (text, expected) = rest.rsplit_once("=> ").unwrap();
            let got = decide(&policy, who, text);
            if got != expected {
                wrong.push(format!("{title}\n  {case}\n  decided: {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn decide(policy: &Policy, who: &str, text: &str) -> String {
    let (who, read_only) = match who.strip_suffix(" read-only") {
        Some(who) => (who, true),
        None => (who, false),
    };
    let (who, actor) = match who.split_once(" by ") {
        Some((who, actor)) => (who, Some(actor)),
        None => (who, None),
    };
    let (groups, path) = who.split_once(" @").unwrap_or((who, "public"));
    let groups: Vec<_> = groups.split(',').collect();
    let schemas: Vec<_> = path
        .split(',')
        .filter(|schema| !schema.is_empty())
        .map(str::to_owned)
        .collect();
    let search_path = if path == "?" {
        SearchPath::Unknown
    } else {
        SearchPath::Known(&schemas)
    };
    let mut principal = principal(&groups);
    principal.delegation.extend(actor.map(|actor| Actor {
        issuer: principal.issuer.clone(),
        subject: actor.to_owned(),
    }));
    let target = Target::named("orders");
    let batch = batch(text);
    let operation = Operation::Sql {
        statements: &batch.statements,
        session: SessionContext {
            search_path,
            read_only,
            catalogue: None,
            unsettled: false,
        },
    };
    let explained = policy.explain(&principal, &target, occasion(), &operation);
    let (decision, foreshadowed) = match policy.admit(&principal, &target, occasion()) {
        Ok(permit) => {
            let decision = policy.judge(&permit, &operation);
            let foreshadowed = policy.foreshadow(&permit, &operation, &decision);
            (decision, foreshadowed)
        }
        Err(refusal) => (Decision::Deny(refusal), None),
    };
    assert_eq!(explained.decision, decision, "{text}");
    assert_eq!(explained.foreshadowed, foreshadowed, "{text}");
    let mut words = in_words(decision);
    if let Some(decision) = foreshadowed {
        words.push_str(", would be ");
        words.push_str(&in_words(decision));
    }
    words
}

fn in_words(decision: Decision) -> String {
    let refusal = match decision {
        Decision::Allow => return "allow".to_owned(),
        Decision::Hold(held) => {
            let rules: Vec<&str> = held.rules.iter().map(|rule| rule.name.as_str()).collect();
            return format!("held by {}", rules.join(", "));
        }
        Decision::Deny(refusal) => refusal,
    };
    let rule = refusal.rule.unwrap_or_default();
    let class = refusal.class.map_or("", policy::class::Class::name);
    match refusal.kind {
        RefusalKind::NotAdmitted => "not admitted".to_owned(),
        RefusalKind::Denied => format!("denied by {rule}"),
        RefusalKind::NotAllowed => format!("not allowed {class}"),
        RefusalKind::Held => "refused as held".to_owned(),
        RefusalKind::Guard => format!("guard {rule}"),
        RefusalKind::OverBudget => "over budget".to_owned(),
        RefusalKind::Masked => format!("masked {rule}"),
        RefusalKind::Unclassified => "unclassified".to_owned(),
        RefusalKind::Unparsed => "unparsed".to_owned(),
    }
}

#[test]
fn a_hold_says_what_each_rule_holds_and_who_approves_and_expires_with_the_shortest() {
    let rules = r#"
[[rule]]
name = "writes"
groups = ["*"]
targets = ["*"]
hold = { statements = ["write"] }
approvers = ["oncall", "dba"]
message = "Writes are looked at."

[[rule]]
name = "people"
groups = ["*"]
targets = ["*"]
hold = { statements = ["select", "delete"], tables = ["people"] }
approvers = ["hr"]
approvals = 2
expires = "5m"
"#;
    let source = Source {
        file: "p.toml".to_owned(),
        text: rules.to_owned(),
    };
    let policy = Policy::compile(&[source], &known_targets()).unwrap().policy;
    let permit = policy
        .admit(&principal(&[]), &Target::named("orders"), occasion())
        .unwrap();
    let text = "INSERT INTO public.t VALUES (1); \
                DELETE FROM public.people WHERE id = 3 AND 1 = (SELECT boss FROM public.people LIMIT 1)";
    let batch = batch(text);
    let operation = Operation::Sql {
        statements: &batch.statements,
        session: SessionContext {
            search_path: SearchPath::Unknown,
            read_only: false,
            catalogue: None,
            unsettled: false,
        },
    };
    let decision = policy.judge(&permit, &operation);
    assert_eq!(decision.refusal(), None);
    let held = decision.held().unwrap();
    assert_eq!(held.expires(), Duration::from_secs(300));
    let [writes, people] = &*held.rules else {
        panic!("{held:?}");
    };
    assert_eq!(writes.approvers, ["oncall", "dba"]);
    assert_eq!(writes.approvals.get(), 1);
    assert_eq!(writes.message.as_deref(), Some("Writes are looked at."));
    assert_eq!(people.approvals.get(), 2);
    assert_eq!(people.expires, Duration::from_secs(300));
    let effects = |rule: &policy::HeldRule| {
        let effects = rule.effects.iter();
        let said = effects.map(|effect| {
            let (class, object) = (effect.class.name(), &effect.object);
            format!("{} {class} {object}", effect.statement)
        });
        said.collect::<Vec<_>>()
    };
    assert_eq!(
        effects(writes),
        ["0 insert public.t", "1 delete public.people"]
    );
    assert_eq!(
        effects(people),
        ["1 delete public.people", "1 select public.people"]
    );
    assert_eq!(
        decision.to_string(),
        "hold: writes needs 1 of oncall or dba; people needs 2 of hr"
    );
}
