//! What of a session waits for people, and what may run since they approved it.
//!
//! ```text
//!            look ahead            relay              people            judged again
//! Nothing ───────────────▶ Asking ───────▶ Waiting ───────▶ Approved ──────────────▶ Granted
//!   │  ▲                     │                │                │                        │
//!   │  │                     └───────────┬────┴────────────────┘                        │
//!   │  │                                 ▼                                              │
//!   │  ├────────── Sync ───────────── Refused                                           │
//!   │  └────────── the last byte of the unit is taken ──────────────────────────────────┤
//!   └── nothing in it is run ──▶ Passing ───────────────────────────────────────────────┘
//! ```
//!
//! What is asked about is a *unit*: a simple query, a function call, or all messages up to the next
//! Sync or Flush ([`super::unit`]). Its bytes stay where they came in until they may run, so what
//! runs is what was digested. Asking, keeping time and watching the agent are the relay's.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use codecs::postgres::TransactionStatus;
use codecs::postgres::backend::{Report, Severity, SqlState};
use policy::{Held, HeldRule, Refusal, Version};

use super::unit::{Look, Unit};
use super::{Exchange, Fault, Path, Pause, Recording};
use crate::approvals::{
    Digest, HoldRequest, HoldingRule, NotAsked, Outcome, RequestId, Withdrawal,
};
use crate::protocols::postgres::classify::Judged;
use crate::protocols::postgres::refuse::HeldRefusal;
use crate::recorder::{ApprovalNote, ApprovalStep, DeciderNote, NoRoom, rfc3339_seconds};
use crate::relay::link::Outbound;
use crate::upstream::{Question, Watch};

/// Where the session stands. Per connection.
pub(super) enum Holding {
    Nothing,
    /// So many bytes of messages prepare or bind what is held, and run none of it.
    Passing {
        bytes: usize,
    },
    /// For the relay to ask.
    Asking(Box<HoldRequest>, Box<Asked>),
    Waiting(Box<Asked>),
    Approved(Box<Asked>),
    /// So many bytes are what was approved.
    Granted {
        bytes: usize,
        asked: Box<Asked>,
    },
    /// Up to the next Sync.
    Refused(Box<HeldRefusal>),
}

/// A unit that people are asked about.
pub(super) struct Asked {
    digest: Digest,
    policy: Version,
    rules: Vec<HeldRule>,
    in_transaction: bool,
    /// Known once people can decide about it.
    id: Option<RequestId>,
    /// Seconds since the Unix epoch.
    expires: u64,
    is_recorded: bool,
    /// For the target's planner, until it is asked.
    planning: Option<Question>,
}

/// For what a statement is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be kept for later.
    Prepare,
    Run,
    /// To go on with a portal whose first Execute was approved under this policy.
    Resume(Version),
}

/// What becomes of a held message.
pub(super) enum Clearance {
    Runs,
    Refused(HeldRefusal),
    /// First it has to be known what else is in its unit; or people have to be asked.
    Ask,
}

/// What a held message waits for.
pub(super) enum Next {
    /// It is known now: show it again.
    Again,
    /// The rest of its unit.
    MoreBytes,
    Wait(Pause),
    NoRoom(NoRoom),
}

/// How the wait for people ended.
#[derive(Debug)]
pub(crate) enum Ending<'o> {
    Outcome(&'o Outcome),
    NotAsked(NotAsked),
    /// The agent cancelled it.
    Cancelled,
}

impl Asked {
    fn rule_names(&self) -> Vec<String> {
        self.rules.iter().map(|rule| rule.name.clone()).collect()
    }

    fn note(&self, step: ApprovalStep) -> ApprovalNote {
        ApprovalNote {
            step,
            request: self.id.map(|id| id.to_string()),
            digest: Some(self.digest.to_string()),
            rules: self.rule_names(),
            by: Vec::new(),
            reason: None,
            expires: self.expires,
        }
    }

    /// Whether these rules asked for no more than what was approved.
    fn covers(&self, rules: &[HeldRule], policy: Version) -> bool {
        let is_known = |rule: &HeldRule| self.rules.iter().any(|asked| asked.name == rule.name);
        policy == self.policy && rules.iter().all(is_known)
    }
}

impl Exchange {
    /// Whether people are asked at this moment.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.holding, Holding::Asking(..) | Holding::Waiting(_))
    }

    /// Between two notices that it still waits.
    pub(crate) fn notice_interval(&self) -> Duration {
        self.snapshot.approvals.notice_interval
    }

    /// Whether a transaction is open behind what is held, which ends with the session.
    pub(crate) fn is_held_in_transaction(&self) -> bool {
        match &self.holding {
            Holding::Asking(_, asked) | Holding::Waiting(asked) => asked.in_transaction,
            Holding::Nothing
            | Holding::Passing { .. }
            | Holding::Approved(_)
            | Holding::Granted { .. }
            | Holding::Refused(_) => false,
        }
    }

    /// What people are to be asked; once.
    pub(crate) fn takes_request(&mut self) -> Option<Box<HoldRequest>> {
        if !matches!(self.holding, Holding::Asking(..)) {
            return None;
        }
        let asking = std::mem::replace(&mut self.holding, Holding::Nothing);
        let Holding::Asking(request, asked) = asking else {
            return None;
        };
        self.holding = Holding::Waiting(asked);
        Some(request)
    }

    /// What the target's planner is to be asked, and where; once.
    pub(crate) fn takes_planning(&mut self) -> Option<(&Watch, Question)> {
        let Holding::Waiting(asked) = &mut self.holding else {
            return None;
        };
        let question = asked.planning.take()?;
        let is_worth_it = question.statements.iter().any(Option::is_some);
        let watch = self.catalogue.watch().filter(|_| is_worth_it)?;
        Some((watch, question))
    }

    /// People can be asked from now on: recorded, and the agent is told.
    pub(crate) fn poll_asked(
        &mut self,
        (id, link, expires): (RequestId, Option<&str>, u64),
        agent: &mut impl Outbound,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let Holding::Waiting(asked) = &mut self.holding else {
            return Poll::Ready(Ok(()));
        };
        asked.id = Some(id);
        asked.expires = expires;
        if !asked.is_recorded {
            let note = asked.note(ApprovalStep::Asked);
            ready!(self.poll_step(&note, context))?;
        }
        let Holding::Waiting(asked) = &mut self.holding else {
            return Poll::Ready(Ok(()));
        };
        asked.is_recorded = true;
        let message = format!("the command waits for approval (request {id})");
        let needed = Held {
            rules: asked.rules.as_slice().into(),
        };
        let mut detail = String::new();
        for words in asked.rules.iter().filter_map(|rule| rule.message.as_ref()) {
            detail.push_str(words);
            detail.push(' ');
        }
        let until = rfc3339_seconds(expires);
        detail.push_str(&format!(
            "Held by Sallyport: {needed}. It runs when it is approved, and is refused if it is not by {until}."
        ));
        let hint = match link {
            Some(link) => format!("It is decided at {link}"),
            None => format!("It is decided with: sallyport approvals show {id}"),
        };
        let notice = Report::new(Severity::Notice, SqlState::new(b"01000"), &message);
        let notice = notice.detail(&detail).hint(&hint);
        self.poll_notice(&notice, agent, context)
    }

    /// Tells the agent that it still waits, unless there is no room for that now.
    pub(crate) fn remind(
        &mut self,
        now: u64,
        agent: &mut impl Outbound,
        context: &mut Context<'_>,
    ) -> Result<(), Fault> {
        let Holding::Waiting(asked) = &self.holding else {
            return Ok(());
        };
        let Some(id) = asked.id else { return Ok(()) };
        let left = Duration::from_secs(asked.expires.saturating_sub(now));
        let left = policy::quantity::show_duration(left);
        let message =
            format!("the command still waits for approval (request {id}), for {left} at most");
        let notice = Report::new(Severity::Notice, SqlState::new(b"01000"), &message);
        match self.poll_notice(&notice, agent, context) {
            Poll::Ready(said) => said,
            // The next one may have room.
            Poll::Pending => Ok(()),
        }
    }

    /// The wait for people is over: recorded, and the command goes on or is refused.
    pub(crate) fn poll_over(
        &mut self,
        ending: &Ending<'_>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let (Holding::Waiting(asked) | Holding::Asking(_, asked)) = &self.holding else {
            return Poll::Ready(Ok(()));
        };
        let note = over_note(asked, ending);
        ready!(self.poll_step(&note, context))?;
        let (Holding::Waiting(asked) | Holding::Asking(_, asked)) =
            std::mem::replace(&mut self.holding, Holding::Nothing)
        else {
            return Poll::Ready(Ok(()));
        };
        self.holding = match ending {
            Ending::Outcome(Outcome::Approved(_)) => Holding::Approved(asked),
            // To be judged by the policy in force, and asked anew if that holds it too.
            Ending::Outcome(Outcome::PolicyChanged) => Holding::Nothing,
            Ending::Outcome(_) | Ending::NotAsked(_) | Ending::Cancelled => {
                Holding::Refused(Box::new(refused(&asked, ending)))
            }
        };
        Poll::Ready(Ok(()))
    }

    /// The session ends while people are asked; `why`, where that withdraws the request.
    pub(crate) fn record_left(&mut self, why: Option<Withdrawal>) {
        let (Holding::Waiting(asked) | Holding::Asking(_, asked)) = &self.holding else {
            return;
        };
        let note = match why {
            Some(why) => ApprovalNote {
                reason: Some(withdrawn_words(why).to_owned()),
                ..asked.note(ApprovalStep::Withdrawn)
            },
            None => asked.note(ApprovalStep::Left),
        };
        self.holding = Holding::Nothing;
        // If it does not fit the journal, the end record with its reason still does.
        let _ = self.recorder.approval(self.last_request + 1, &note);
    }

    fn poll_step(
        &mut self,
        note: &ApprovalNote,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        // The other record in the making is finished first; whoever makes it is woken.
        if self.recording != Recording::Neither {
            return Poll::Pending;
        }
        match self.recorder.approval(self.last_request + 1, note) {
            Ok(position) => {
                self.last_recorded = Some(position);
                Poll::Ready(Ok(()))
            }
            Err(no_room) => self.poll_room(no_room, context),
        }
    }

    fn poll_notice(
        &mut self,
        notice: &Report<'_>,
        agent: &mut impl Outbound,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        if self.recording != Recording::Neither || self.agent_is_mid_message {
            return Poll::Pending;
        }
        self.scratch.clear();
        notice.encode_notice(&mut self.scratch)?;
        match self.recorder.response(self.last_request + 1, &self.scratch) {
            Ok(()) => {
                agent.append(&self.scratch);
                Poll::Ready(Ok(()))
            }
            Err(no_room) => self.poll_room(no_room, context),
        }
    }

    /// Pending: to be tried again when the journal has room.
    fn poll_room(&self, no_room: NoRoom, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let journal = self.recorder.journal();
        match journal.poll_room(context, no_room.bytes) {
            Poll::Ready(Err(unavailable)) => return Poll::Ready(Err(Fault::Journal(unavailable))),
            Poll::Ready(Ok(())) => context.waker().wake_by_ref(),
            Poll::Pending => journal.health().map_err(Fault::Journal)?,
        }
        Poll::Pending
    }
}

impl Exchange {
    /// Whether a message that policy holds may go on.
    pub(super) fn clearance(&self, rules: &[HeldRule], purpose: Purpose) -> Clearance {
        let policy = self.snapshot.policy.version();
        match &self.holding {
            _ if purpose == Purpose::Resume(policy) => Clearance::Runs,
            Holding::Refused(refusal) => Clearance::Refused((**refusal).clone()),
            Holding::Passing { .. } if purpose == Purpose::Prepare => Clearance::Runs,
            Holding::Granted { asked, .. } if asked.covers(rules, policy) => Clearance::Runs,
            Holding::Granted { asked, .. } => Clearance::Refused(outdated(asked)),
            Holding::Nothing
            | Holding::Passing { .. }
            | Holding::Asking(..)
            | Holding::Waiting(_)
            | Holding::Approved(_) => Clearance::Ask,
        }
    }

    /// Finds out what is to be done about the held message at the front of `bytes`.
    pub(super) fn hold(&mut self, bytes: &[u8], target: &mut impl Outbound) -> Result<Next, Fault> {
        if self.is_held() {
            return Ok(Next::Wait(Pause::Approval));
        }
        // Transaction, path and role are known when everything before it is answered. In an open
        // sequence no answer may come before its Sync.
        if self.at_boundary {
            if matches!(self.path, Path::Unknown) || self.awaits_close {
                self.read_path(target)?;
            }
            if !self.is_quiescent() {
                return Ok(Next::Wait(Pause::Quiescence));
            }
        }
        if !self.arrival.is_complete(bytes) {
            return Ok(Next::MoreBytes);
        }
        let unit = match self.look_ahead(bytes) {
            Look::MoreBytes => return Ok(Next::MoreBytes),
            Look::Wait(pause) => return Ok(Next::Wait(pause)),
            Look::Refused(refusal) => {
                return Ok(match self.record_outdated(&refusal) {
                    Ok(()) => {
                        self.holding = Holding::Refused(Box::new(refusal));
                        Next::Again
                    }
                    Err(no_room) => Next::NoRoom(no_room),
                });
            }
            Look::Unit(unit) => unit,
        };
        if matches!(self.holding, Holding::Approved(_)) {
            return Ok(self.use_approval(unit));
        }
        if unit.rules.is_empty() {
            self.holding = Holding::Passing { bytes: unit.bytes };
            return Ok(Next::Again);
        }
        let policy = self.snapshot.policy.version();
        let in_transaction = self.is_in_transaction();
        let request = self.request(&unit, in_transaction);
        let asked = Asked {
            digest: request.digest(),
            policy,
            rules: unit.rules.clone(),
            in_transaction,
            id: None,
            expires: 0,
            is_recorded: false,
            planning: Some(Question {
                search_path: request.search_path.clone(),
                statements: unit.plannable(),
            }),
        };
        self.holding = Holding::Asking(Box::new(request), Box::new(asked));
        Ok(Next::Wait(Pause::Approval))
    }

    /// What was approved runs if it is what was digested, in every part.
    fn use_approval(&mut self, unit: Unit) -> Next {
        let request = self.request(&unit, self.is_in_transaction());
        let Holding::Approved(asked) = &self.holding else {
            return Next::Again;
        };
        if request.digest() != asked.digest {
            let refusal = outdated(asked);
            return match self.record_outdated(&refusal) {
                Ok(()) => {
                    self.holding = Holding::Refused(Box::new(refusal));
                    Next::Again
                }
                Err(no_room) => Next::NoRoom(no_room),
            };
        }
        if let Holding::Approved(asked) = std::mem::replace(&mut self.holding, Holding::Nothing) {
            let bytes = unit.bytes;
            self.holding = Holding::Granted { bytes, asked };
        }
        Next::Again
    }

    /// An approval that was given does not serve any more: that is recorded.
    fn record_outdated(&mut self, refusal: &HeldRefusal) -> Result<(), NoRoom> {
        let Holding::Approved(asked) = &self.holding else {
            return Ok(());
        };
        let note = ApprovalNote {
            reason: Some(refusal.message.clone()),
            ..asked.note(ApprovalStep::Outdated)
        };
        let position = self.recorder.approval(self.last_request + 1, &note)?;
        self.last_recorded = Some(position);
        Ok(())
    }

    fn is_in_transaction(&self) -> bool {
        !self.at_boundary || self.pipeline.transaction_status() != TransactionStatus::Idle
    }

    /// What people are asked about a unit.
    fn request(&self, unit: &Unit, in_transaction: bool) -> HoldRequest {
        let rules = unit.rules.iter();
        let expires = rules.clone().map(|rule| rule.expires).min();
        let mut lasts = expires.unwrap_or_default();
        if in_transaction {
            lasts = lasts.min(self.snapshot.approvals.in_transaction);
        }
        HoldRequest {
            session: self.recorder.session(),
            principal: self.proven.principal().clone(),
            target: self.sought.clone(),
            policy: self.snapshot.policy.version(),
            rules: rules
                .map(|rule| HoldingRule {
                    name: rule.name.clone(),
                    approvers: rule.approvers.clone(),
                    approvals: rule.approvals.get(),
                })
                .collect(),
            lasts,
            in_transaction,
            role: self.role.as_deref().map(str::to_owned),
            search_path: match &self.path {
                Path::Known(schemas) => Some(schemas.to_vec()),
                Path::Unknown | Path::Unreadable => None,
            },
            commands: unit.commands.clone(),
        }
    }

    /// Whether what is taken now was approved.
    pub(super) fn is_granted(&self) -> bool {
        matches!(self.holding, Holding::Granted { .. })
    }

    /// Bytes of the agent's were taken: a unit may be at its end.
    pub(super) fn unit_taken(&mut self, taken: usize) {
        if let Holding::Passing { bytes } | Holding::Granted { bytes, .. } = &mut self.holding {
            *bytes = bytes.saturating_sub(taken);
            if *bytes == 0 {
                self.holding = Holding::Nothing;
            }
        }
    }

    /// What is refused is refused up to here.
    pub(super) fn refused_unit_ends(&mut self) {
        if matches!(self.holding, Holding::Refused(_)) {
            self.holding = Holding::Nothing;
        }
    }
}

/// What refuses a statement that is held, with the statement's own effects in the record.
pub(super) fn judged_refused(
    refusal: &HeldRefusal,
    rules: &[HeldRule],
    judge: impl FnOnce(&Refusal) -> Judged,
) -> Judged {
    let held = Held {
        rules: rules.into(),
    };
    judge(&held.refused(refusal.message.clone(), String::new()))
}

fn over_note(asked: &Asked, ending: &Ending<'_>) -> ApprovalNote {
    let step = |step| asked.note(step);
    let because = |step, reason: String| ApprovalNote {
        reason: Some(reason),
        ..asked.note(step)
    };
    match ending {
        Ending::Cancelled => because(
            ApprovalStep::Withdrawn,
            withdrawn_words(Withdrawal::Cancelled).to_owned(),
        ),
        Ending::NotAsked(error) => because(ApprovalStep::NotAsked, error.to_string()),
        Ending::Outcome(outcome) => match outcome {
            Outcome::Approved(approved) => ApprovalNote {
                by: approved.by().iter().map(decider).collect(),
                ..step(ApprovalStep::Approved)
            },
            Outcome::Denied { by, reason } => ApprovalNote {
                by: vec![decider(by)],
                reason: Some(reason.clone()).filter(|reason| !reason.is_empty()),
                ..step(ApprovalStep::Denied)
            },
            Outcome::Expired => step(ApprovalStep::Expired),
            Outcome::NobodyMayApprove { rule } => because(
                ApprovalStep::NobodyMayApprove,
                format!("by the rule {rule}"),
            ),
            Outcome::Withdrawn { why } => {
                because(ApprovalStep::Withdrawn, withdrawn_words(*why).to_owned())
            }
            Outcome::PolicyChanged => step(ApprovalStep::PolicyChanged),
            Outcome::TooMany(too_many) => because(ApprovalStep::NotAsked, too_many.to_string()),
            Outcome::Unavailable => {
                because(ApprovalStep::NotAsked, NotAsked::Unavailable.to_string())
            }
        },
    }
}

fn decider(by: &crate::approvals::Approver) -> DeciderNote {
    DeciderNote {
        issuer: by.identity.issuer.clone(),
        subject: by.identity.subject.clone(),
        name: by.name.clone(),
    }
}

/// What the agent reads when it does not run.
fn refused(asked: &Asked, ending: &Ending<'_>) -> HeldRefusal {
    let detail = asked.detail();
    let plain = |message: String, hint: &str| HeldRefusal {
        sqlstate: b"42501",
        message,
        detail: detail.clone(),
        hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
    };
    match ending {
        Ending::Cancelled => HeldRefusal {
            sqlstate: b"57014",
            ..plain("canceling statement due to user request".to_owned(), "")
        },
        Ending::NotAsked(error) => plain(format!("approval required, and {error}"), ""),
        Ending::Outcome(outcome) => match outcome {
            Outcome::Denied { by, reason } => {
                let colon = if reason.is_empty() { "" } else { ": " };
                let mut refusal = plain(format!("approval denied{colon}{reason}"), "");
                refusal.detail = format!("Denied by {}. {detail}", by.name);
                refusal
            }
            Outcome::Expired => plain("nobody approved it in time".to_owned(), "Ask again."),
            Outcome::NobodyMayApprove { rule } => plain(
                format!("approval required by the rule {rule}, and nobody may give it"),
                "No issuer has people in the groups that the rule names as its approvers.",
            ),
            Outcome::TooMany(too_many) => plain(
                format!("approval required, and {too_many}"),
                "Wait for the others to be decided.",
            ),
            Outcome::Withdrawn { why } => plain(withdrawn_words(*why).to_owned(), ""),
            // Neither ends in a refusal: the one runs, the other is judged again.
            Outcome::Approved(_) | Outcome::PolicyChanged | Outcome::Unavailable => plain(
                format!("approval required, and {}", NotAsked::Unavailable),
                "Ask again.",
            ),
        },
    }
}

fn outdated(asked: &Asked) -> HeldRefusal {
    HeldRefusal {
        sqlstate: b"42501",
        message: "what was approved is not what would run now".to_owned(),
        detail: asked.detail(),
        hint: Some(
            "Policy, role, search path or objects have changed meanwhile. Ask again.".to_owned(),
        ),
    }
}

impl Asked {
    fn detail(&self) -> String {
        let rules = self.rule_names().join("\", \"");
        match self.id {
            Some(id) => format!("Held by Sallyport, rule \"{rules}\", request {id}."),
            None => format!("Held by Sallyport, rule \"{rules}\"."),
        }
    }
}

fn withdrawn_words(why: Withdrawal) -> &'static str {
    match why {
        Withdrawal::Cancelled => "the agent cancelled it",
        Withdrawal::Disconnected => "the agent left inside a transaction",
        Withdrawal::Revoked => "the session was revoked",
        Withdrawal::SessionEnded => "the session was ended",
    }
}
