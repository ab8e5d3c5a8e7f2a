//! An explanation as JSON.

use policy::{
    Action, Applies, BudgetRule, ConsideredRule, Decision, ExplainedEffect, ExplainedMask,
    ExplainedStatement, Explanation, Held, Per, Principal, Refusal,
};
use serde_json::{Value, json};

pub fn explanation(principal: &Principal, explanation: &Explanation) -> Value {
    json!({
        "principal": {
            "issuer": principal.issuer,
            "subject": principal.subject,
            "groups": principal.groups,
        },
        "rules": explanation.rules.iter().map(rule).collect::<Vec<_>>(),
        "read_only": explanation.read_only,
        "masks": explanation.masks.iter().map(mask).collect::<Vec<_>>(),
        "budgets": explanation.budgets.iter().map(budget).collect::<Vec<_>>(),
        "statements": explanation.statements.iter().map(statement).collect::<Vec<_>>(),
        "decision": decision(&explanation.decision),
        "foreshadowed": explanation.foreshadowed.as_ref().map(decision),
    })
}

pub fn decision(decision: &Decision) -> Value {
    match decision {
        Decision::Allow => json!({ "verdict": "allow" }),
        Decision::Hold(held) => self::held(held),
        Decision::Deny(refusal) => self::refusal(refusal),
    }
}

fn held(held: &Held) -> Value {
    let rules = held.rules.iter().map(|rule| {
        json!({
            "rule": rule.name,
            "message": rule.message,
            "approvers": rule.approvers,
            "approvals": rule.approvals,
            "expires_seconds": rule.expires.as_secs(),
            "effects": rule.effects.iter().map(|effect| json!({
                "statement": effect.statement,
                "class": effect.class.name(),
                "object": effect.object,
            })).collect::<Vec<_>>(),
        })
    });
    json!({
        "verdict": "hold",
        "expires_seconds": held.expires().as_secs(),
        "rules": rules.collect::<Vec<_>>(),
    })
}

fn refusal(refusal: &Refusal) -> Value {
    json!({
        "verdict": "deny",
        "kind": refusal.kind.name(),
        "rule": refusal.rule,
        "message": refusal.message,
        "hint": refusal.hint,
        "class": refusal.class.map(policy::class::Class::name),
        "object": refusal.object,
        "statement": refusal.statement,
    })
}

fn rule(rule: &ConsideredRule) -> Value {
    let hold = match &rule.action {
        Action::Hold(hold) => Some(json!({
            "approvers": hold.approvers,
            "approvals": hold.approvals,
            "expires_seconds": hold.expires.as_secs(),
        })),
        Action::Allow | Action::Deny => None,
    };
    json!({
        "name": rule.name,
        "action": rule.action.word(),
        "hold": hold,
        "shadow": rule.shadow,
        "applies": match rule.applies {
            Applies::Yes => "yes",
            Applies::NotTheseGroups => "not-these-groups",
            Applies::NotThisTarget => "not-this-target",
            Applies::NotThisNetwork => "not-this-network",
            Applies::NotNow => "not-now",
            Applies::NotThisPrincipal => "not-this-principal",
        },
    })
}

fn mask(mask: &ExplainedMask) -> Value {
    json!({
        "name": mask.name,
        "columns": mask.columns,
        "values": mask.values,
        "with": mask.with,
        "deny_predicates": mask.deny_predicates,
    })
}

fn budget(budget: &BudgetRule) -> Value {
    json!({
        "name": budget.name,
        "per": match budget.per {
            Per::Principal => "principal",
            Per::Session => "session",
        },
        "rows": budget.rows,
        "bytes": budget.bytes,
        "statements_per_minute": budget.statements_per_minute,
        "statement_time_seconds": budget.statement_time.map(|time| time.as_secs_f64()),
        "sessions": budget.sessions,
    })
}

fn statement(statement: &ExplainedStatement) -> Value {
    json!({
        "kind": statement.kind,
        "guard": statement.guard.map(policy::Guard::name),
        "effects": statement.effects.iter().map(effect).collect::<Vec<_>>(),
        "settings": statement.settings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "columns": statement.columns.as_ref().map(|columns| {
            columns
                .iter()
                .map(|used| json!({
                    "class": used.class.name(),
                    "schema": used.schema,
                    "table": used.table,
                    "column": used.column,
                }))
                .collect::<Vec<_>>()
        }),
    })
}

fn effect(explained: &ExplainedEffect) -> Value {
    json!({
        "class": explained.effect.class.name(),
        "object": explained.effect.object.to_string(),
        "judged_as": explained.judged_as.name(),
        "denied_by": explained.denied_by,
        "held_by": explained.held_by,
        "allowed_by": explained.allowed_by,
        "covered": explained.covered,
    })
}
