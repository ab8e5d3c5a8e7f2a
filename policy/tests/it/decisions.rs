//! Rules and operation to decision, as data.

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
    let Decision::Deny(refusal) = decision else {
        return "allow".to_owned();
    };
    let rule = refusal.rule.unwrap_or_default();
    let class = refusal.class.map_or("", policy::class::Class::name);
    match refusal.kind {
        RefusalKind::NotAdmitted => "not admitted".to_owned(),
        RefusalKind::Denied => format!("denied by {rule}"),
        RefusalKind::NotAllowed => format!("not allowed {class}"),
        RefusalKind::Held => format!("held by {rule}"),
        RefusalKind::Guard => format!("guard {rule}"),
        RefusalKind::OverBudget => "over budget".to_owned(),
        RefusalKind::Masked => format!("masked {rule}"),
        RefusalKind::Unclassified => "unclassified".to_owned(),
        RefusalKind::Unparsed => "unparsed".to_owned(),
    }
}
