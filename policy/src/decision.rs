//! The answers of policy: a permit to enter, an allowance, a hold, a refusal.
//!
//! Values only; how they come about is in `decide`.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::class::{Class, ClassSet};

/// That a principal may enter a target, and which rules are about it there.
///
/// Scope: per session, for the policy that gave it. Only [`crate::Policy::admit`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    pub(crate) policy: crate::Version,
    pub(crate) rules: RulesKey,
    pub(crate) budgets: Arc<[u64]>,
    pub(crate) read_only: bool,
    pub(crate) allowed: ClassSet,
}

impl Permit {
    /// The rules and masks that apply: together with the policy's version it says what this permit can
    /// change about a decision.
    #[must_use]
    pub fn rules_key(&self) -> &RulesKey {
        &self.rules
    }

    /// The policy that admitted; another one judges nothing under this permit.
    #[must_use]
    pub fn policy_version(&self) -> crate::Version {
        self.policy
    }

    /// The rules allow nothing that needs more than a read-only session: the second lock.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// The classes that some allow rule holds, on some object.
    #[must_use]
    pub fn allowed_classes(&self) -> ClassSet {
        self.allowed
    }
}

/// Which rules and masks of a policy apply, one bit each. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RulesKey(pub(crate) Arc<[u64]>);

/// The answer to an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    Allow,
    /// It may happen once people have approved it: no rule denies it, and every effect is allowed
    /// or held.
    Hold(Held),
    Deny(Refusal),
}

impl Decision {
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Allow | Self::Hold(_) => None,
            Self::Deny(refusal) => Some(refusal),
        }
    }

    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Hold(held) => Some(held),
            Self::Allow | Self::Deny(_) => None,
        }
    }
}

/// What has to be approved, and by whom: each of the rules by itself.
///
/// Equal for equal rules and effects: what is held again after a change of policy is the same hold
/// only if this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Every hold rule that matched, in the order of the files; at least one.
    pub rules: Arc<[HeldRule]>,
}

/// One rule that holds an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRule {
    pub name: String,
    /// What its author wants a client to read.
    pub message: Option<String>,
    /// Groups whose members may approve, in the order of the file.
    pub approvers: Vec<String>,
    /// How many people have to.
    pub approvals: NonZeroU32,
    /// How long a request stays open by this rule.
    pub expires: Duration,
    /// What of the operation it holds: at least one, each once.
    pub effects: Vec<HeldEffect>,
}

/// An effect that a rule holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldEffect {
    /// Index of the statement within the operation.
    pub statement: usize,
    pub class: Class,
    /// As the statement names it. May be empty.
    pub object: String,
}

impl Held {
    /// How long a request stays open: the shortest that a rule says.
    #[must_use]
    pub fn expires(&self) -> Duration {
        let rules = self.rules.iter().map(|rule| rule.expires);
        rules.min().unwrap_or_default()
    }

    /// The refusal where nobody can be asked, for a reason that is said in one sentence.
    #[must_use]
    pub fn refused(&self, message: String, hint: String) -> Refusal {
        let first = self.rules.first();
        let effect = first.and_then(|rule| rule.effects.first());
        Refusal {
            kind: RefusalKind::Held,
            rule: first.map(|rule| rule.name.clone()),
            message,
            hint,
            class: effect.map(|effect| effect.class),
            object: effect.map_or_else(String::new, |effect| effect.object.clone()),
            statement: effect.map_or(0, |effect| effect.statement),
        }
    }
}

impl fmt::Display for Held {
    /// `RULE needs N of GROUP or GROUP; ...`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.rules.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            let HeldRule {
                name, approvals, ..
            } = rule;
            let approvers = rule.approvers.join(" or ");
            write!(f, "{between}{name} needs {approvals} of {approvers}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Hold(held) => write!(f, "hold: {held}"),
            Self::Deny(refusal) => write!(f, "deny: {refusal}"),
        }
    }
}

/// Why not, in words for whom it is refused.
///
/// `message` and `hint` may hold names from the principal's own statement: they go to that client
/// and to its recording, and into no log, metric or error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// The rule that refused: the name of one in the files, or of a guard (`sallyport:...`).
    pub rule: Option<String>,
    /// One sentence.
    pub message: String,
    /// What would be allowed, or what to write instead. May be empty.
    pub hint: String,
    /// The class that matched, or that no rule allows.
    pub class: Option<Class>,
    /// The object of that class, as the statement names it. May be empty.
    pub object: String,
    /// Index of the statement within the operation.
    pub statement: usize,
}

/// Kinds of refusal, for the protocol's own error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// No allow or hold rule is about this principal and target, or the permit is of another policy.
    NotAdmitted,
    /// A deny rule matched.
    Denied,
    /// Some effect is covered by no allow or hold rule.
    NotAllowed,
    /// A hold rule matched, and nobody approved. Policy asks nobody: the appliance says so.
    Held,
    /// A budget is used up. Policy counts nothing: the appliance says so.
    OverBudget,
    /// Refused whatever the rules say.
    Guard,
    /// It would show, store, send or decide by what is masked.
    Masked,
    /// It could not be classified, and no rule allows `unknown`.
    Unclassified,
    /// Not valid in the grammar of PostgreSQL: a syntax error to the client. No rule allows
    /// `unknown`.
    Unparsed,
}

impl RefusalKind {
    /// A stable word for recordings and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAdmitted => "not-admitted",
            Self::Denied => "denied",
            Self::NotAllowed => "not-allowed",
            Self::Held => "held",
            Self::OverBudget => "over-budget",
            Self::Guard => "guard",
            Self::Masked => "masked",
            Self::Unclassified => "unclassified",
            Self::Unparsed => "unparsed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(rule) = &self.rule {
            write!(f, " [{rule}]")?;
        }
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}
