//! What a person sees of a request: the same for the command line, the API, webhooks and the
//! console.
//!
//! Texts and values are the agent's: what a reader would not see or would take for something else
//! is marked. Nothing here decides; nothing here knows HTML, terminals or any chat.

use std::ops::Range;
use std::time::Duration;

use policy::approval::{Approver, Identity, Request, State, Vote};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::request::{HeldCommand, HeldText, HoldRequest, Parameter, RequestId};
use super::value;
use crate::marking::{self, Piece};

/// What stands where something was cut out.
const CUT: &str = "[hidden]";

/// Whom it is shown to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever decides: all that will run, but for passwords.
    Approver,
    /// Everybody else, and what is kept or sent out: nothing that value detection found.
    Others,
}

/// A request as it is shown.
///
/// *Units*: times in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    pub id: String,
    /// `pending`, `approved` (and not used yet), `used`, `denied`, `expired`, `withdrawn`,
    /// `policy-changed` or `restarted`.
    pub state: String,
    pub asked: u64,
    /// From then on nothing comes of it.
    pub expires: u64,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<u64>,
    /// The session that asked last.
    pub session: String,
    pub requester: ShownPrincipal,
    pub target: String,
    pub in_transaction: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Not there where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_path: Option<Vec<String>>,
    /// What holds it; each needs its own approvals.
    pub rules: Vec<ShownRule>,
    /// In the order in which they run.
    pub commands: Vec<ShownCommand>,
    pub approvals: Vec<ShownVote>,
    /// Who denied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied_by: Option<ShownPerson>,
    /// Why it was denied or withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Somebody waits for it at this moment.
    pub is_awaited: bool,
    /// Of the policy that holds it.
    pub policy: String,
    /// SHA-256 of all that an approval holds for.
    pub digest: String,
}

/// Who asks, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownPrincipal {
    pub name: String,
    pub issuer: String,
    pub subject: String,
    pub groups: Vec<String>,
    /// Through whom it acts, outermost first.
    pub chain: Vec<ShownIdentity>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownIdentity {
    pub issuer: String,
    pub subject: String,
}

/// A person who answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownPerson {
    pub name: String,
    pub issuer: String,
    pub subject: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownVote {
    pub by: ShownPerson,
    pub at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownRule {
    pub name: String,
    /// Groups whose members may approve.
    pub approvers: Vec<String>,
    /// How many people it takes.
    pub needed: u32,
    /// How many have approved.
    pub given: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownCommand {
    pub text: ShownText,
    pub parameters: Vec<ShownParameter>,
    pub effects: Vec<ShownEffect>,
    /// Rows that the planner expects; not there where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_rows: Option<u64>,
}

/// What a command does to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownEffect {
    pub class: String,
    pub object: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownParameter {
    /// The name of a built-in type, else its object id.
    #[serde(rename = "type")]
    pub kind: String,
    /// Not there for NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<ShownText>,
}

/// A text of the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownText {
    /// As it is; bytes that are no UTF-8 are written `\xNN`.
    pub text: String,
    /// The same with characters written out that a reader would not see or would take for others;
    /// not there where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked: Option<String>,
}

impl ShownText {
    fn new(text: String) -> Self {
        let marked = marked(&text);
        let marked = (marked != text).then_some(marked);
        Self { text, marked }
    }

    /// What to print.
    #[must_use]
    pub fn readable(&self) -> &str {
        self.marked.as_deref().unwrap_or(&self.text)
    }

    /// It holds something that does not read as it is.
    #[must_use]
    pub fn is_deceptive(&self) -> bool {
        self.marked.is_some()
    }
}

/// `text` with every character written out that a reader would not see, or would take for another:
/// `{U+202E}`, `{U+0430, not a}`. Line feeds and tabs stay.
#[must_use]
pub fn marked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in marking::pieces(text) {
        match piece {
            Piece::Plain(plain) => out.push_str(plain),
            Piece::Unseen(character) => {
                out.push_str(&format!("{{U+{:04X}}}", u32::from(character)));
            }
            Piece::LooksLike(character, look) => {
                out.push_str(&format!("{{U+{:04X}, not {look}}}", u32::from(character)));
            }
        }
    }
    out
}

impl Shown {
    /// `request` under its `id`, for `audience`. `finished` is when it was over, if it is.
    pub(super) fn of(
        id: RequestId,
        held: &HoldRequest,
        request: &Request,
        asked: Duration,
        finished: Option<Duration>,
        is_awaited: bool,
        audience: Audience,
    ) -> Self {
        let question = request.question();
        let (denied_by, reason) = match request.state() {
            State::Denied { by, reason } => (Some(by.into()), Some(reason.clone())),
            State::Withdrawn(why) => (None, Some(why.name().to_owned())),
            State::Pending
            | State::Approved
            | State::Used
            | State::Expired
            | State::PolicyChanged
            | State::Restarted => (None, None),
        };
        let requirements = question.requirements.iter();
        let rules = requirements.map(|requirement| ShownRule {
            name: requirement.rule.clone(),
            approvers: requirement.approvers.clone(),
            needed: requirement.approvals,
            given: request.votes_for(requirement),
        });
        let commands = held.commands.iter();
        Self {
            id: id.to_string(),
            state: request.state().name().to_owned(),
            asked: asked.as_secs(),
            expires: question.expires.as_secs(),
            finished: finished.map(|finished| finished.as_secs()),
            session: held.session.to_string(),
            requester: ShownPrincipal {
                name: held.principal.name.clone(),
                issuer: held.principal.issuer.clone(),
                subject: held.principal.subject.clone(),
                groups: held.principal.groups.clone(),
                chain: question.chain.iter().map(ShownIdentity::from).collect(),
            },
            target: held.target.to_string(),
            in_transaction: held.in_transaction,
            role: held.role.clone(),
            search_path: held.search_path.clone(),
            rules: rules.collect(),
            commands: commands
                .map(|command| ShownCommand::of(command, audience))
                .collect(),
            approvals: request.votes().iter().map(ShownVote::from).collect(),
            denied_by,
            reason,
            is_awaited,
            policy: held.policy.to_string(),
            digest: question.digest.to_string(),
        }
    }

    /// How long it stays open from `now` (seconds since 1970).
    #[must_use]
    pub fn remaining(&self, now: u64) -> Duration {
        Duration::from_secs(self.expires.saturating_sub(now))
    }

    /// Something in it does not read as it is.
    #[must_use]
    pub fn is_deceptive(&self) -> bool {
        let deceives = |command: &ShownCommand| {
            let values = command.parameters.iter().filter_map(|it| it.value.as_ref());
            command.text.is_deceptive() || values.into_iter().any(ShownText::is_deceptive)
        };
        self.commands.iter().any(deceives)
    }
}

impl ShownCommand {
    fn of(command: &HeldCommand, audience: Audience) -> Self {
        let effects = command.effects.iter().map(|(class, object)| ShownEffect {
            class: class.name().to_owned(),
            object: object.clone(),
        });
        let parameters = command.parameters.iter();
        Self {
            text: ShownText::new(readable(&cut(&command.text, audience))),
            parameters: parameters
                .map(|parameter| ShownParameter::of(parameter, audience))
                .collect(),
            effects: effects.collect(),
            estimated_rows: command.estimate.map(|estimate| estimate.rows),
        }
    }
}

impl ShownParameter {
    fn of(parameter: &Parameter, audience: Audience) -> Self {
        let value = parameter.value.as_ref().map(|value| {
            let text = if !parameter.is_binary {
                readable(&cut(value, audience))
            } else if hides(value, audience) {
                // What is cut has no binary form any more.
                CUT.to_owned()
            } else {
                value::text_of(parameter.type_oid, &value.bytes)
                    .unwrap_or_else(|| value::hex(&value.bytes))
            };
            ShownText::new(text)
        });
        Self {
            kind: value::type_name(parameter.type_oid),
            value,
        }
    }
}

fn hides(text: &HeldText, audience: Audience) -> bool {
    !text.secrets.is_empty() || (audience == Audience::Others && !text.detected.is_empty())
}

/// The bytes without what the audience does not see. Ranges may overlap, be out of order or reach
/// too far.
fn cut(text: &HeldText, audience: Audience) -> Vec<u8> {
    let HeldText {
        bytes,
        secrets,
        detected,
    } = text;
    let mut cuts: Vec<&Range<usize>> = secrets.iter().collect();
    if audience == Audience::Others {
        cuts.extend(detected);
    }
    cuts.sort_by_key(|cut| cut.start);
    let mut out = Vec::with_capacity(bytes.len());
    let mut kept_until = 0;
    for cut in cuts {
        let start = cut.start.clamp(kept_until, bytes.len());
        let end = cut.end.clamp(start, bytes.len());
        if end > start {
            out.extend_from_slice(bytes.get(kept_until..start).unwrap_or_default());
            out.extend_from_slice(CUT.as_bytes());
            kept_until = end;
        }
    }
    out.extend_from_slice(bytes.get(kept_until..).unwrap_or_default());
    out
}

/// UTF-8 as it is, and each other byte as `\xNN`.
fn readable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

impl From<&Identity> for ShownIdentity {
    fn from(identity: &Identity) -> Self {
        Self {
            issuer: identity.issuer.clone(),
            subject: identity.subject.clone(),
        }
    }
}

impl From<&Approver> for ShownPerson {
    fn from(person: &Approver) -> Self {
        Self {
            name: person.name.clone(),
            issuer: person.identity.issuer.clone(),
            subject: person.identity.subject.clone(),
        }
    }
}

impl From<&Vote> for ShownVote {
    fn from(vote: &Vote) -> Self {
        Self {
            by: (&vote.by).into(),
            at: vote.at.as_secs(),
        }
    }
}
