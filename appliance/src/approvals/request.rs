//! What is asked: everything that the approver decides about, and the digest that binds it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use policy::approval::{Digest, Requirement};
use policy::class::Class;
use policy::{HeldRule, Principal, Target, Version};
use ring::digest::{Context, SHA256};
use ring::rand::SecureRandom;

use crate::recorder::{NoRandomness, NotASessionId, SessionId};

/// Longest request, in bytes of its texts and values.
///
/// 256 KiB: more is nothing that a person decides about, and what all open requests keep in memory
/// stays within some 64 MiB.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// The name of a request: sortable by time, printed like a session's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(SessionId);

/// A held command, or all that is executed up to one Sync, as a shard asks for it.
///
/// Texts and values are those that will run, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRequest {
    pub session: SessionId,
    pub principal: Principal,
    pub target: Target,
    /// The policy that holds it.
    pub policy: Version,
    /// Every rule that holds it; each of them needs its own approvals. Never empty.
    pub rules: Vec<HoldingRule>,
    /// From now until nothing comes of it any more.
    pub lasts: Duration,
    /// It would run inside a transaction that is open, or that it opens itself.
    pub in_transaction: bool,
    /// The role that the session has set, if it is another than its own.
    pub role: Option<String>,
    /// `None` where it is not known.
    pub search_path: Option<Vec<String>>,
    /// In the order of execution. Never empty.
    pub commands: Vec<HeldCommand>,
}

/// A rule that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldingRule {
    pub name: String,
    /// Groups whose members may approve.
    pub approvers: Vec<String>,
    /// How many people it takes.
    pub approvals: u32,
}

/// One command of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCommand {
    pub text: HeldText,
    /// Bound values, in order.
    pub parameters: Vec<Parameter>,
    /// What it does: a class, and the object as the statement names it (may be empty).
    pub effects: Vec<(Class, String)>,
    /// What the target's planner expects of it.
    pub estimate: Option<Estimate>,
}

/// A text or value, and which of its bytes are not for everybody.
#[derive(Clone, PartialEq, Eq)]
pub struct HeldText {
    pub bytes: Vec<u8>,
    /// Passwords and connection strings: nobody sees them.
    pub secrets: Vec<Range<usize>>,
    /// What value detection found. The approver sees it; it is neither stored nor sent out.
    pub detected: Vec<Range<usize>>,
}

/// A bound value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Object id of its type; 0 where the server infers it.
    pub type_oid: u32,
    /// It is in the type's binary format.
    pub is_binary: bool,
    /// `None` is NULL.
    pub value: Option<HeldText>,
}

/// What the planner expects of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    pub rows: u64,
}

impl RequestId {
    pub(crate) fn generate(
        random: &dyn SecureRandom,
        unix_time: Duration,
    ) -> Result<Self, NoRandomness> {
        SessionId::generate(random, unix_time).map(Self)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for RequestId {
    type Err = NotASessionId;

    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        text.parse().map(Self)
    }
}

impl fmt::Debug for HeldText {
    /// Its length alone: it is the agent's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl HeldText {
    /// With nothing in it to hide.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            secrets: Vec::new(),
            detected: Vec::new(),
        }
    }
}

impl From<&HeldRule> for HoldingRule {
    fn from(rule: &HeldRule) -> Self {
        Self {
            name: rule.name.clone(),
            approvers: rule.approvers.clone(),
            approvals: rule.approvals.get(),
        }
    }
}

impl HoldingRule {
    pub(super) fn requirement(&self) -> Requirement {
        Requirement {
            rule: self.name.clone(),
            approvers: self.approvers.clone(),
            approvals: self.approvals,
        }
    }
}

impl HoldRequest {
    /// Bytes of its texts and values, which [`REQUEST_BYTES_MAX`] bounds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let commands = self.commands.iter();
        commands.map(HeldCommand::bytes).sum()
    }

    /// What an approval of this request holds for.
    ///
    /// Two requests have the same digest only if they come from the same principal (whatever token
    /// proved it), acting for the same, and would do the same under the same policy and rules. How
    /// long it may wait, in which session, and what was estimated are not part of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let Self {
            session: _,
            principal,
            target,
            policy,
            rules,
            lasts: _,
            in_transaction,
            role,
            search_path,
            commands,
        } = self;
        let mut parts = Parts::new();
        parts.text("sallyport approval 1");
        parts.text(&principal.issuer);
        parts.text(&principal.subject);
        parts.list(&principal.delegation, |parts, actor| {
            parts.text(&actor.issuer);
            parts.text(&actor.subject);
        });
        parts.text(&target.name);
        parts.optional(target.database.as_deref().map(str::as_bytes));
        parts.text(&policy.to_string());
        parts.list(rules, |parts, rule| {
            parts.text(&rule.name);
            parts.list(&rule.approvers, |parts, group| parts.text(group));
            parts.number(rule.approvals.into());
        });
        parts.number(u64::from(*in_transaction));
        parts.optional(role.as_deref().map(str::as_bytes));
        parts.number(u64::from(search_path.is_some()));
        let schemas = search_path.as_deref().unwrap_or_default();
        parts.list(schemas, |parts, schema| parts.text(schema));
        parts.list(commands, |parts, command| {
            parts.bytes(&command.text.bytes);
            parts.list(&command.parameters, |parts, parameter| {
                parts.number(parameter.type_oid.into());
                parts.number(u64::from(parameter.is_binary));
                parts.optional(parameter.value.as_ref().map(|value| value.bytes.as_slice()));
            });
        });
        parts.finish()
    }
}

impl HeldCommand {
    /// Bytes of its text and values.
    pub(crate) fn bytes(&self) -> usize {
        let values = self.parameters.iter().filter_map(|it| it.value.as_ref());
        let values: usize = values.map(|value| value.bytes.len()).sum();
        self.text.bytes.len().saturating_add(values)
    }
}

/// The parts of a digest. Each is preceded by its length or count, so that no two lists of parts
/// are the same bytes.
struct Parts(Context);

impl Parts {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// None, and nothing, are two different parts.
    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.number(u64::from(bytes.is_some()));
        self.bytes(bytes.unwrap_or_default());
    }

    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            each(self, item);
        }
    }

    fn finish(self) -> Digest {
        let mut digest = [0; 32];
        for (byte, computed) in digest.iter_mut().zip(self.0.finish().as_ref()) {
            *byte = *computed;
        }
        Digest(digest)
    }
}
