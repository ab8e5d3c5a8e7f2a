//! Why a decision is what it is: every rule and every effect, for `sallyport explain`.
//!
//! Weighs each effect by the function that `decide` weighs it by.

use std::fmt;

use crate::Occasion;
use crate::budget::BudgetRule;
use crate::class::Class;
use crate::compile::{Action, Bits, Policy};
use crate::decide::{Path, Weighed};
use crate::decision::Decision;
use crate::guard::{self, Guard};
use crate::mask::MaskRule;
use crate::operation::Operation;
use crate::principal::Principal;
use crate::sql::{ColumnUse, Effect, SettingChange, StatementProfile};
use crate::target::Target;

impl Policy {
    /// Every rule and every effect, and why the decision is what it is.
    #[must_use]
    pub fn explain(
        &self,
        principal: &Principal,
        target: &Target,
        occasion: Occasion,
        operation: &Operation<'_>,
    ) -> Explanation {
        let rules = self.rules.iter().map(|rule| ConsideredRule {
            name: rule.name.clone(),
            action: rule.action.clone(),
            shadow: rule.shadow,
            applies: rule
                .scope
                .applies(principal, target, occasion, rule.action == Action::Allow),
        });
        let rules = rules.collect();
        let permit = match self.admit(principal, target, occasion) {
            Ok(permit) => permit,
            Err(refusal) => {
                return Explanation {
                    rules,
                    read_only: false,
                    masks: Vec::new(),
                    budgets: Vec::new(),
                    statements: Vec::new(),
                    decision: Decision::Deny(refusal),
                    foreshadowed: None,
                };
            }
        };
        let number_called;
        let (statements, session) = match operation {
            Operation::Sql {
                statements,
                session,
            } => (*statements, session),
            Operation::FunctionCall { oid, session } => {
                number_called = [crate::sql::postgres::function_call(*oid)];
                (number_called.as_slice(), session)
            }
        };
        let applicable = self.rules_of(&permit).and_not(&self.shadows);
        let mut path = Path::of(&session.search_path);
        let statements = statements
            .iter()
            .map(|statement| {
                let resolved = path
                    .look_up(statement, session)
                    .map(|(resolved, _)| resolved);
                let statement = resolved.as_ref().unwrap_or(statement);
                let explained = ExplainedStatement {
                    kind: statement.kind,
                    guard: guard::refuses(statement, session),
                    settings: statement.settings.clone(),
                    columns: statement.columns.clone(),
                    effects: statement
                        .effects
                        .iter()
                        .map(|effect| self.explain_effect(&applicable, statement, effect, &path))
                        .collect(),
                };
                path.follow(statement);
                explained
            })
            .collect();
        let decision = self.judge(&permit, operation);
        Explanation {
            rules,
            read_only: permit.read_only,
            masks: self.masks(&permit).map(ExplainedMask::of).collect(),
            budgets: self.budgets(&permit).cloned().collect(),
            statements,
            foreshadowed: self.foreshadow(&permit, operation, &decision),
            decision,
        }
    }

    fn explain_effect(
        &self,
        rules: &Bits,
        statement: &StatementProfile,
        effect: &Effect,
        path: &Path<'_>,
    ) -> ExplainedEffect {
        let Weighed {
            class,
            denied,
            held,
            granted,
            covered,
        } = self.weigh(rules, statement, effect, path);
        let names = |bits: &Bits| {
            bits.iter()
                .filter_map(|index| self.rules.get(index))
                .map(|rule| rule.name.clone())
                .collect()
        };
        ExplainedEffect {
            effect: effect.clone(),
            judged_as: class,
            denied_by: names(&denied),
            held_by: names(&held),
            allowed_by: names(&granted.and_not(&self.holds)),
            covered,
        }
    }
}

/// Why a decision is what it is, complete: for `sallyport explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Every rule of the policy, in order.
    pub rules: Vec<ConsideredRule>,
    /// The session would be read-only.
    pub read_only: bool,
    /// The masks that apply.
    pub masks: Vec<ExplainedMask>,
    /// The budgets that apply.
    pub budgets: Vec<BudgetRule>,
    /// Empty when the principal is not admitted.
    pub statements: Vec<ExplainedStatement>,
    pub decision: Decision,
    /// What it would be if the rules in shadow were in force, where that is something else.
    pub foreshadowed: Option<Decision>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsideredRule {
    pub name: String,
    pub action: Action,
    pub shadow: bool,
    pub applies: Applies,
}

/// Whether a rule is about the principal and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    Yes,
    NotTheseGroups,
    NotThisTarget,
    /// The client's network is another, or not known.
    NotThisNetwork,
    /// Its time window is closed.
    NotNow,
    /// Issuer, subject or delegation are others.
    NotThisPrincipal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStatement {
    pub kind: &'static str,
    pub guard: Option<Guard>,
    pub effects: Vec<ExplainedEffect>,
    /// Settings that it changes.
    pub settings: Vec<SettingChange>,
    /// The columns that it reads and writes, where they are known.
    pub columns: Option<Vec<ColumnUse>>,
}

/// What a mask hides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedMask {
    pub name: String,
    pub columns: Vec<String>,
    /// Detectors, patterns and words, as they are written.
    pub values: Vec<String>,
    pub with: String,
    pub deny_predicates: bool,
}

impl ExplainedMask {
    fn of(mask: &MaskRule) -> Self {
        let detect = &mask.detect;
        let values = detect.names.iter().chain(&detect.patterns);
        Self {
            name: mask.name.clone(),
            columns: mask.columns.iter().map(ToString::to_string).collect(),
            values: values.chain(&detect.words).cloned().collect(),
            with: mask.with.to_string(),
            deny_predicates: mask.deny_predicates,
        }
    }
}

impl fmt::Display for ExplainedMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden: Vec<&str> = self
            .columns
            .iter()
            .chain(&self.values)
            .map(String::as_str)
            .collect();
        write!(f, "{}: {} with {}", self.name, hidden.join(", "), self.with)?;
        if self.deny_predicates {
            f.write_str(", and its columns may not decide")?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedEffect {
    pub effect: Effect,
    /// Differs from the effect's own class for a function that no rule lists.
    pub judged_as: Class,
    pub denied_by: Vec<String>,
    pub held_by: Vec<String>,
    pub allowed_by: Vec<String>,
    /// Each object that the effect may be about is allowed, or held.
    pub covered: bool,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rules:")?;
        for rule in &self.rules {
            let word = rule.action.word();
            let shadow = if rule.shadow { " (in shadow)" } else { "" };
            let applies = match rule.applies {
                Applies::Yes => "applies",
                Applies::NotTheseGroups => "is not about the principal's groups",
                Applies::NotThisTarget => "is not about this target",
                Applies::NotThisNetwork => "is not about the client's network",
                Applies::NotNow => "is not about this time",
                Applies::NotThisPrincipal => "is not about this principal",
            };
            writeln!(f, "  {word:<5} {}{shadow} {applies}", rule.name)?;
        }
        for mask in &self.masks {
            writeln!(f, "mask {mask}")?;
        }
        for budget in &self.budgets {
            writeln!(f, "budget {budget}")?;
        }
        if self.read_only {
            writeln!(f, "the session is read-only")?;
        }
        for (index, statement) in self.statements.iter().enumerate() {
            let kind = if statement.kind.is_empty() {
                "not parsed"
            } else {
                statement.kind
            };
            writeln!(f, "statement {} ({kind}):", index + 1)?;
            if let Some(guard) = statement.guard {
                writeln!(f, "  refused by {}", guard.name())?;
            }
            for effect in &statement.effects {
                writeln!(f, "  {effect}")?;
            }
            for setting in &statement.settings {
                writeln!(f, "  {setting}")?;
            }
            for used in statement.columns.iter().flatten() {
                writeln!(f, "  column {used}")?;
            }
        }
        writeln!(f, "decision: {}", self.decision)?;
        match &self.foreshadowed {
            Some(decision) => writeln!(f, "with the rules in shadow: {decision}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ExplainedEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.effect)?;
        if self.judged_as != self.effect.class {
            write!(f, ", judged as {}", self.judged_as)?;
        }
        if !self.denied_by.is_empty() {
            write!(f, ": denied by {}", self.denied_by.join(", "))?;
        }
        if !self.held_by.is_empty() {
            write!(f, ": held by {}", self.held_by.join(", "))?;
        }
        if self.covered && self.allowed_by.is_empty() {
            Ok(())
        } else if self.covered {
            write!(f, ": allowed by {}", self.allowed_by.join(", "))
        } else if self.allowed_by.is_empty() {
            write!(f, ": allowed by no rule")
        } else {
            let some = self.allowed_by.join(", ");
            write!(
                f,
                ": allowed by {some} for some of the objects it may mean, not for all"
            )
        }
    }
}
