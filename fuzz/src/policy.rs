//! Policy: what a text does, what a rule says, which names a pattern stands for.

use std::sync::LazyLock;

use policy::class::Class;
use policy::pattern::{Candidate, NAME_BYTES, Pattern};
use policy::sql::postgres::{ProfileLimits, profile};
use policy::{
    Decision, Known, KnownTarget, Occasion, Operation, Permit, Policy, Principal, Proof,
    SearchPath, SessionContext, Source, Target,
};

/// Admits everybody to everything but what nobody can classify.
static ALLOW_ALL: LazyLock<Policy> = LazyLock::new(|| {
    let source = Source {
        file: "allow.toml".to_owned(),
        text: "[[rule]]\nname = \"all\"\ngroups = [\"*\"]\ntargets = [\"*\"]\nallow = { statements = [\"*\"] }\n"
            .to_owned(),
    };
    Policy::compile(
        &[source],
        &Known {
            targets: &known(&["orders"]),
            issuers: &[],
        },
    )
    .expect("a good policy")
    .policy
});

fn known<'n>(names: &[&'n str]) -> Vec<KnownTarget<'n>> {
    let known = |name: &&'n str| KnownTarget {
        name,
        databases: &[],
    };
    names.iter().map(known).collect()
}

fn permit(policy: &Policy) -> Option<Permit> {
    let principal = Principal {
        issuer: "https://issuer.example".to_owned(),
        subject: "agent-7".to_owned(),
        name: "agent 7".to_owned(),
        groups: vec!["a".to_owned()],
        delegation: Vec::new(),
        token_id: None,
        expires: 0,
        proof: Proof::Password,
    };
    let target = Target {
        name: "orders".to_owned(),
        database: None,
    };
    policy.admit(&principal, &target, Occasion::default()).ok()
}

fn judge(policy: &Policy, permit: &Permit, text: &str) -> bool {
    let batch = profile(text, &ProfileLimits::default());
    let operation = Operation::Sql {
        statements: &batch.statements,
        session: SessionContext {
            search_path: SearchPath::Unknown,
            read_only: permit.read_only(),
            catalogue: None,
            unsettled: false,
        },
    };
    matches!(policy.judge(permit, &operation), Decision::Allow)
}

/// A text: what is found in it lies in it, each statement does something, and what cannot be read
/// is not let through by a rule that allows everything.
pub fn sql(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if text.contains('\0') {
        return;
    }
    let batch = profile(text, &ProfileLimits::default());
    for statement in &batch.statements {
        assert!(!statement.effects.is_empty());
        assert!(
            text.get(statement.span.clone()).is_some(),
            "{:?}",
            statement.span
        );
        for secret in &statement.secrets {
            assert!(text.get(secret.clone()).is_some(), "{secret:?}");
        }
    }
    if batch.classes().contains(Class::Unknown) {
        let permit = permit(&ALLOW_ALL).expect("everybody is admitted");
        assert!(!judge(&ALLOW_ALL, &permit, text));
    }
}

/// A policy file: problems point into it, and what compiles can judge.
pub fn document(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let source = Source {
        file: "fuzz.toml".to_owned(),
        text: text.to_owned(),
    };
    let lines = text.split('\n').count();
    let targets = known(&["orders", "people"]);
    let known = Known {
        targets: &targets,
        issuers: &[],
    };
    match Policy::compile(&[source], &known) {
        Ok(compiled) => {
            for warning in &compiled.warnings {
                assert!(warning.line >= 1 && warning.line <= lines);
            }
            if let Some(permit) = permit(&compiled.policy) {
                judge(&compiled.policy, &permit, "SELECT a FROM public.orders");
                judge(&compiled.policy, &permit, "DELETE FROM x; DROP TABLE y");
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(problem.line >= 1 && problem.line <= lines, "{problem:?}");
                assert!(problem.column >= 1);
            }
        }
    }
}

/// A pattern and a name, each on a line: what must match may match, and a quoted name stands for
/// itself.
pub fn pattern(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut lines = text.splitn(3, '\n');
    let (Some(pattern), Some(schema), Some(name)) = (lines.next(), lines.next(), lines.next())
    else {
        return;
    };
    if let Ok(pattern) = Pattern::parse(pattern) {
        for schema in [None, Some(schema)] {
            for name in [None, Some(name)] {
                let candidate = Candidate { schema, name };
                let may = pattern.may_match(candidate);
                assert!(may || !pattern.must_match(candidate));
                if schema.is_some() && name.is_some() {
                    assert_eq!(may, pattern.must_match(candidate));
                }
            }
        }
    }
    if !name.is_empty() && name.len() <= NAME_BYTES {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let exact = Pattern::parse(&quoted).expect("a quoted name is a pattern");
        let candidate = |name| Candidate {
            schema: Some(schema),
            name: Some(name),
        };
        assert!(exact.must_match(candidate(name)));
        assert!(!exact.may_match(candidate(&format!("{name}x"))));
    }
}
