//! Where requests are kept from asking to their end: the control thread's side.
//!
//! Synchronous, with time as an argument. One task owns it ([`super::broker`]), so that whatever
//! people and shards do at once happens one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policy::approval::{
    Admission, Approver, Identity, Limits, NotCounted, Progress, Question, Register, Request,
};
use policy::{Principal, Version};
use ring::rand::SystemRandom;

use super::request::{Estimate, HoldRequest, HoldingRule, RequestId};
use super::shown::{Audience, Shown};
use super::store::{Filter, Store, StoreError};
use super::waiting::{Chair, Outcome, Sitting};
use crate::archive::{Action, Actor, Trail, TrailError, Verb};
use crate::config::Snapshot;
use crate::identity::BuiltinIssuer;
use crate::telemetry::chain;

/// How often what is too old is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// What of the configuration in force counts here.
#[derive(Debug, Clone)]
pub struct Panel {
    pub limits: Limits,
    pub policy: Version,
    /// The issuers that have people.
    pub people: Vec<People>,
    /// The issuer of tokens that the operator makes, which stand for no person.
    pub builtin_issuer: Option<String>,
    /// Where the console is, for links.
    pub console: Option<String>,
    /// How long what is over is kept.
    pub kept: Duration,
}

/// What groups an issuer may give its subjects.
#[derive(Debug, Clone)]
pub struct People {
    /// Before every group but those in `groups`.
    pub group_prefix: String,
    pub groups: Vec<String>,
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Approve,
    Deny { reason: String },
}

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    NotCounted(#[from] NotCounted),
    #[error("the answer cannot be kept, so that it does not count")]
    NotKept(#[source] StoreError),
    #[error("the answer cannot be written to the trail, so that it does not count")]
    NotInTrail(#[source] TrailError),
    #[error("approvals are not available")]
    Unavailable,
}

/// Something that happened to a request, for everybody who follows.
#[derive(Debug, Clone)]
pub struct News {
    pub kind: NewsKind,
    /// As others than the approver see it.
    pub shown: Arc<Shown>,
    /// Where a person decides about it, in a browser.
    pub link: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewsKind {
    Asked,
    /// Somebody approved, the requester came back, or the planner has said what it expects.
    Changed,
    Over,
}

/// What is open. Per process.
pub struct Desk {
    register: Register<RequestId>,
    papers: BTreeMap<RequestId, Paper>,
    store: Box<dyn Store>,
    trail: Trail,
    /// How requests ended that the store did not take; no more than were open at once.
    unkept: Vec<Shown>,
    news: Vec<News>,
    panel: Panel,
    random: SystemRandom,
    forgotten: Duration,
}

/// What the desk has of an open request besides its place in the register.
struct Paper {
    held: HoldRequest,
    asked: Duration,
    /// Whoever waits for it; gone ones are noticed on looking.
    chair: Option<Chair>,
}

impl Panel {
    /// As the configuration says.
    ///
    /// `listening` is where the console is served, for a configuration that names no other place.
    pub(crate) fn of(
        snapshot: &Snapshot,
        builtin: Option<&BuiltinIssuer>,
        listening: Option<&str>,
    ) -> Self {
        let builtin_issuer = builtin.map(|issuer| issuer.name().to_owned());
        let issuers = snapshot.authenticators.issuers().iter();
        let people = issuers
            .filter(|issuer| builtin_issuer.as_ref() != Some(&issuer.issuer))
            .map(|issuer| People {
                group_prefix: issuer.mapping.group_prefix.clone(),
                groups: issuer.mapping.group_map.values().cloned().collect(),
            });
        Self {
            limits: snapshot.approvals.limits,
            policy: snapshot.policy.version(),
            people: people.collect(),
            builtin_issuer,
            console: match &snapshot.console_url {
                Some(url) => Some(url.origin()),
                None => listening.map(str::to_owned),
            },
            kept: snapshot.approvals.kept,
        }
    }
}

impl People {
    fn may_be_in(&self, group: &str) -> bool {
        let mapped = self.groups.iter().any(|mapped| mapped == group);
        mapped || group.starts_with(&self.group_prefix)
    }
}

impl NewsKind {
    /// The word in streams and webhooks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Changed => "changed",
            Self::Over => "over",
        }
    }
}

impl Desk {
    /// A desk over what an earlier process left: that is refused, since whoever asked is gone.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn open(
        panel: Panel,
        mut store: Box<dyn Store>,
        trail: Trail,
        now: Duration,
    ) -> Result<Self, StoreError> {
        let refused = store.restart(now)?;
        if refused > 0 {
            tracing::info!(refused, "requests for approval of the last run are refused");
        }
        Ok(Self {
            register: Register::new(panel.limits),
            papers: BTreeMap::new(),
            store,
            trail,
            unkept: Vec::new(),
            news: Vec::new(),
            panel,
            random: SystemRandom::new(),
            forgotten: Duration::ZERO,
        })
    }

    /// A shard asks.
    pub(super) fn ask(&mut self, held: HoldRequest, chair: Chair, now: Duration) {
        self.look(now);
        if held.policy != self.panel.policy {
            chair.end(Outcome::PolicyChanged);
            return;
        }
        if let Some(rule) = self.rule_without_people(&held) {
            chair.end(Outcome::NobodyMayApprove { rule });
            return;
        }
        let Ok(fresh) = RequestId::generate(&self.random, now) else {
            chair.end(Outcome::Unavailable);
            return;
        };
        let admission = match self.register.ask(fresh, question(&held, now), now) {
            Ok(admission) => admission,
            Err(too_many) => {
                chair.end(Outcome::TooMany(too_many));
                return;
            }
        };
        let (Admission::New(id) | Admission::Attached(id) | Admission::Granted(id)) = admission;
        let earlier = self.papers.remove(&id);
        let asked = earlier.as_ref().map_or(now, |paper| paper.asked);
        let paper = Paper {
            held,
            asked,
            chair: Some(chair),
        };
        self.papers.insert(id, paper);
        if let Err(error) = self.keep(id) {
            tracing::error!(request = %id, error = chain(&error), "a request is not kept");
            self.turn_away(id, earlier);
            return;
        }
        self.announce(id);
        if matches!(admission, Admission::Granted(_)) {
            self.deliver(id, now);
        }
        let kind = if matches!(admission, Admission::New(_)) {
            NewsKind::Asked
        } else {
            NewsKind::Changed
        };
        self.tell(kind, id);
    }

    /// The planner has said what it expects of each command.
    pub(super) fn estimated(&mut self, id: RequestId, estimates: &[Option<Estimate>]) {
        let Some(paper) = self.papers.get_mut(&id) else {
            return;
        };
        for (command, estimate) in paper.held.commands.iter_mut().zip(estimates) {
            command.estimate = *estimate;
        }
        if let Err(error) = self.keep(id) {
            tracing::warn!(request = %id, error = chain(&error), "an estimate is not kept");
        }
        self.tell(NewsKind::Changed, id);
    }

    /// A person answers.
    ///
    /// # Errors
    /// It does not count; nothing has changed.
    pub fn answer(
        &mut self,
        id: RequestId,
        voter: &Principal,
        answer: &Answer,
        now: Duration,
    ) -> Result<Progress, AnswerError> {
        self.look(now);
        if self.panel.builtin_issuer.as_ref() == Some(&voter.issuer) {
            return Err(NotCounted::Minted.into());
        }
        let progress = match answer {
            Answer::Approve => self.approve(id, voter, now)?,
            Answer::Deny { reason } => self.deny(id, voter, reason, now)?,
        };
        tracing::info!(
            request = %id,
            ?progress,
            by_issuer = voter.issuer,
            by_subject = voter.subject,
            "a request was answered"
        );
        Ok(progress)
    }

    fn approve(
        &mut self,
        id: RequestId,
        voter: &Principal,
        now: Duration,
    ) -> Result<Progress, AnswerError> {
        let before = self.register.clone();
        let progress = self.register.approve(id, voter, now)?;
        let action = Action::new(person(voter), Verb::RequestApproved, id.to_string());
        if let Err(error) = self.trail.record(&action) {
            self.register = before;
            return Err(AnswerError::NotInTrail(error));
        }
        // Nobody is told of an approval that a power failure could take back.
        if let Err(error) = self.keep(id) {
            tracing::error!(request = %id, error = chain(&error), "an approval is not kept");
            self.register = before;
            return Err(AnswerError::NotKept(error));
        }
        self.tell(NewsKind::Changed, id);
        if progress == Progress::Approved {
            self.deliver(id, now);
        }
        Ok(progress)
    }

    fn deny(
        &mut self,
        id: RequestId,
        voter: &Principal,
        reason: &str,
        now: Duration,
    ) -> Result<Progress, AnswerError> {
        let request = self.register.get(id).ok_or(NotCounted::NotOpen)?;
        request.may_decide(voter)?;
        let action = Action::new(person(voter), Verb::RequestDenied, id.to_string());
        // A refusal counts, also when the disk is full.
        if let Err(error) = self.trail.record(&action.with("reason", reason)) {
            tracing::error!(request = %id, error = chain(&error), "a denial is not in the trail");
        }
        let outcome = Outcome::Denied {
            by: Approver::of(voter),
            reason: reason.to_owned(),
        };
        let denied = self.end(id, outcome, now, |register| {
            register.deny(id, voter, reason, now).ok()
        });
        if denied {
            Ok(Progress::Denied)
        } else {
            Err(NotCounted::NotOpen.into())
        }
    }

    /// Finds out who has left, what has been used, and whose time is over.
    pub fn look(&mut self, now: Duration) {
        let open: Vec<RequestId> = self.papers.keys().copied().collect();
        for id in open {
            self.settle(id, now);
            let expires = self.register.get(id).map(|it| it.question().expires);
            if expires.is_some_and(|expires| expires <= now) {
                self.end(id, Outcome::Expired, now, |register| {
                    register.expire(id, now)
                });
            }
        }
        self.keep_again();
        if now.saturating_sub(self.forgotten) >= FORGET_EVERY {
            self.forgotten = now;
            if let Err(error) = self.store.forget(now.saturating_sub(self.panel.kept)) {
                tracing::warn!(error = chain(&error), "old requests stay");
            }
        }
    }

    /// Goes by another configuration. What another policy held is judged again by whoever waits.
    pub fn reconfigure(&mut self, panel: Panel, now: Duration) {
        self.look(now);
        self.register.set_limits(panel.limits);
        self.panel = panel;
        let open: Vec<RequestId> = self.papers.keys().copied().collect();
        for id in open {
            let policy = self.papers.get(&id).map(|paper| paper.held.policy);
            if policy.is_some_and(|policy| policy != self.panel.policy) {
                self.end(id, Outcome::PolicyChanged, now, |register| {
                    register.change_policy(id)
                });
            }
        }
    }

    /// How many requests are open.
    pub fn count(&self) -> usize {
        self.papers.len()
    }

    /// When something is due, unless something happens before.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let retry = (!self.unkept.is_empty()).then_some(Duration::ZERO);
        retry.or_else(|| self.register.next_expiry())
    }

    /// Requests, the latest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(
        &mut self,
        filter: &Filter,
        audience: Audience,
        now: Duration,
    ) -> Result<Vec<Shown>, StoreError> {
        self.look(now);
        let mut listed = self.store.list(filter)?;
        for shown in &mut listed {
            if let Some(open) = shown
                .id
                .parse()
                .ok()
                .and_then(|id| self.shown(id, audience))
            {
                *shown = open;
            }
        }
        Ok(listed)
    }

    /// The request of that id, or of that beginning of it if only one that is open has it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find(
        &mut self,
        name: &str,
        audience: Audience,
        now: Duration,
    ) -> Result<Option<Shown>, StoreError> {
        self.look(now);
        let name = name.to_ascii_uppercase();
        let mut open = self
            .papers
            .keys()
            .filter(|id| id.to_string().starts_with(&name));
        match (open.next(), open.next()) {
            (Some(id), None) if !name.is_empty() => Ok(self.shown(*id, audience)),
            _ => self.store.find(&name),
        }
    }

    /// What has happened since this was asked last.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// The first of its rules that nobody can be an approver of.
    fn rule_without_people(&self, held: &HoldRequest) -> Option<String> {
        let has_people = |group: &String| {
            let mut issuers = self.panel.people.iter();
            issuers.any(|people| people.may_be_in(group))
        };
        let mut rules = held.rules.iter();
        let without = rules.find(|rule| !rule.approvers.iter().any(has_people));
        without.map(|rule| rule.name.clone())
    }

    /// What was asked just now is not to be: as it was before.
    fn turn_away(&mut self, id: RequestId, earlier: Option<Paper>) {
        if let Some(paper) = self.papers.remove(&id)
            && let Some(chair) = paper.chair
        {
            chair.end(Outcome::Unavailable);
        }
        match earlier {
            Some(earlier) => {
                let chair = None;
                self.papers.insert(id, Paper { chair, ..earlier });
                // It may return, or it would not have been found.
                let _ = self.register.leave(id);
            }
            None => drop(self.register.change_policy(id)),
        }
    }

    fn announce(&self, id: RequestId) {
        let chair = self.papers.get(&id).and_then(|paper| paper.chair.as_ref());
        if let (Some(chair), Some(request)) = (chair, self.register.get(id)) {
            chair.asked(id, self.link(id), request.question().expires);
        }
    }

    fn link(&self, id: RequestId) -> Option<String> {
        let console = self.panel.console.as_deref()?;
        Some(format!("{console}/approvals/{id}"))
    }

    /// Tells whoever waits that it is approved.
    fn deliver(&mut self, id: RequestId, now: Duration) {
        let (Some(paper), Some(request)) = (self.papers.get(&id), self.register.get(id)) else {
            return;
        };
        let by = request.votes().iter().map(|vote| vote.by.clone()).collect();
        if let Some(chair) = &paper.chair
            && !chair.approve(id, by)
        {
            self.settle(id, now);
        }
    }

    /// Takes note of what whoever waited has done since.
    fn settle(&mut self, id: RequestId, now: Duration) {
        let Some(paper) = self.papers.get_mut(&id) else {
            return;
        };
        let Some(chair) = &paper.chair else {
            return;
        };
        let over = match chair.sitting() {
            Sitting::Waits | Sitting::Approved => return,
            Sitting::Taken => self.register.take(id),
            Sitting::Gone | Sitting::Over => {
                paper.chair = None;
                self.register.leave(id)
            }
            Sitting::Withdrawn(why) => self.register.withdraw(id, why),
        };
        match over {
            Some(request) => self.close(id, &request, now),
            None => self.tell(NewsKind::Changed, id),
        }
    }

    /// Ends a request and the wait for it; false when it is not open, or was used just before.
    fn end(
        &mut self,
        id: RequestId,
        outcome: Outcome,
        now: Duration,
        finish: impl FnOnce(&mut Register<RequestId>) -> Option<Request>,
    ) -> bool {
        let chair = self.papers.get(&id).and_then(|paper| paper.chair.as_ref());
        if chair.is_some_and(|chair| !chair.end(outcome)) {
            self.settle(id, now);
        }
        let over = finish(&mut self.register);
        if let Some(request) = &over {
            self.close(id, request, now);
        }
        over.is_some()
    }

    /// A request is over: whoever follows is told, and it is kept. That it cannot be kept makes it
    /// no less over; the store has it as open then, which a restart refuses.
    fn close(&mut self, id: RequestId, request: &Request, now: Duration) {
        let Some(paper) = self.papers.remove(&id) else {
            return;
        };
        let shown = paper.shown(id, request, Some(now), Audience::Others);
        self.news.push(News {
            kind: NewsKind::Over,
            shown: Arc::new(shown.clone()),
            link: self.link(id),
        });
        if let Err(error) = self.store.keep(&shown) {
            tracing::error!(request = %id, error = chain(&error), "how a request ended is not kept");
            self.unkept.push(shown);
        }
    }

    fn keep_again(&mut self) {
        let Self { store, unkept, .. } = self;
        unkept.retain(|shown| store.keep(shown).is_err());
    }

    fn keep(&mut self, id: RequestId) -> Result<(), StoreError> {
        match self.shown(id, Audience::Others) {
            Some(shown) => self.store.keep(&shown),
            None => Ok(()),
        }
    }

    fn tell(&mut self, kind: NewsKind, id: RequestId) {
        if let Some(shown) = self.shown(id, Audience::Others) {
            let (shown, link) = (Arc::new(shown), self.link(id));
            self.news.push(News { kind, shown, link });
        }
    }

    fn shown(&self, id: RequestId, audience: Audience) -> Option<Shown> {
        let (paper, request) = (self.papers.get(&id)?, self.register.get(id)?);
        Some(paper.shown(id, request, None, audience))
    }
}

impl Paper {
    fn shown(
        &self,
        id: RequestId,
        request: &Request,
        finished: Option<Duration>,
        audience: Audience,
    ) -> Shown {
        let is_awaited = finished.is_none() && self.chair.is_some();
        let asked = self.asked;
        Shown::of(
            id, &self.held, request, asked, finished, is_awaited, audience,
        )
    }
}

fn person(voter: &Principal) -> Actor {
    Actor::Person {
        issuer: voter.issuer.clone(),
        subject: voter.subject.clone(),
        name: voter.name.clone(),
    }
}

fn question(held: &HoldRequest, now: Duration) -> Question {
    Question {
        requester: Identity::of(&held.principal),
        chain: Identity::chain_of(&held.principal),
        digest: held.digest(),
        requirements: held.rules.iter().map(HoldingRule::requirement).collect(),
        expires: now.saturating_add(held.lasts),
        may_return: !held.in_transaction,
    }
}
